"""Lava's synapses, but that they forget, at the end of each sample, the spikes that are on their way. Needs Lava.

Lava's resets are those of neurons alone. What a synapse keeps (feedback, spikes that are late by themselves) would reach the next
sample. This module is alone in its folder, because Lava looks for models of a process by executing every module beside it.
"""

from collections.abc import Mapping
from typing import Any

from lava.proc.conv.models import PyConvModelFixed
from lava.proc.conv.process import Conv
from lava.proc.dense.models import PyDelayDenseModelBitAcc, PyDenseModelBitAcc
from lava.proc.dense.process import DelayDense, Dense
from lava.proc.sparse.models import PyDelaySparseModelBitAcc, PySparseModelBitAcc
from lava.proc.sparse.process import DelaySparse, Sparse

__all__ = [
    "FORGETFUL",
    "ForgetfulConv",
    "ForgetfulDelayDense",
    "ForgetfulDelaySparse",
    "ForgetfulDense",
    "ForgetfulSparse",
    "forget",
    "forgetful_model",
]


def forget(process: Any, interval: int, source: int, target: int) -> None:
    """Say when a synapse shall forget.

    Args:
        process: one of those of this module, or one of Lava's that runs with :func:`forgetful_model`.
        interval: steps of a sample.
        source: the step, counted from 1, in which the neurons before the synapse see the first step of the first sample.
        target: that of the neurons behind it.
    """
    process.proc_params["forgets"] = (interval, source, target)


class _Forgetful:
    """What a model of a synapse does in addition."""

    time_step: int
    proc_params: Any

    def run_spk(self) -> None:
        """Before the step, which sends the first column of the buffer: the column j is due in j steps.

        For the source, the sample n begins in the step ``n * interval + source``. What it has sent by then and is due when the
        target sees the sample n is lost; where the target sees that sample before the source, from then on.
        """
        interval, source, target = self.proc_params["forgets"]
        first = min(source, target)
        phase = (self.time_step - first) % interval
        if phase <= source - first:
            buffer = self.a_buf if hasattr(self, "a_buf") else self.a_buff  # type: ignore[attr-defined]
            due = max(target - first - phase, 0)
            if buffer.ndim == 2 and not hasattr(self, "a_buf"):
                buffer[:, due:] = 0
            elif due == 0:
                buffer[...] = 0
        super().run_spk()  # type: ignore[misc]


class ForgetfulConv(Conv):  # type: ignore[misc]
    """Lava's Conv that forgets."""


class ForgetfulDense(Dense):  # type: ignore[misc]
    """Lava's Dense that forgets."""


class ForgetfulDelayDense(DelayDense):  # type: ignore[misc]
    """Lava's DelayDense that forgets."""


class ForgetfulSparse(Sparse):  # type: ignore[misc]
    """Lava's Sparse that forgets."""


class ForgetfulDelaySparse(DelaySparse):  # type: ignore[misc]
    """Lava's DelaySparse that forgets."""


class _ConvModel(_Forgetful, PyConvModelFixed):  # type: ignore[misc]
    implements_process = ForgetfulConv


class _DenseModel(_Forgetful, PyDenseModelBitAcc):  # type: ignore[misc]
    implements_process = ForgetfulDense


class _DelayDenseModel(_Forgetful, PyDelayDenseModelBitAcc):  # type: ignore[misc]
    implements_process = ForgetfulDelayDense


class _SparseModel(_Forgetful, PySparseModelBitAcc):  # type: ignore[misc]
    implements_process = ForgetfulSparse


class _DelaySparseModel(_Forgetful, PyDelaySparseModelBitAcc):  # type: ignore[misc]
    implements_process = ForgetfulDelaySparse


FORGETFUL: Mapping[type, type] = {
    Conv: ForgetfulConv,
    Dense: ForgetfulDense,
    DelayDense: ForgetfulDelayDense,
    Sparse: ForgetfulSparse,
    DelaySparse: ForgetfulDelaySparse,
}
"""The forgetful process of each of Lava's."""

_MODELS = {
    Conv: _ConvModel,
    Dense: _DenseModel,
    DelayDense: _DelayDenseModel,
    Sparse: _SparseModel,
    DelaySparse: _DelaySparseModel,
}


def forgetful_model(process: Any) -> type:
    """With which Lava's own synapse ``process``, made by somebody else, forgets."""
    return _MODELS[type(process)]
