"""``quantize`` as everyone calls it: calibration runs on onnxruntime, and what comes out fits Loihi."""

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import numpy as np

import custom_ops
from custom_ops.loihi import THRESHOLD_MAX

from .network import Array, CubaNeuron, FloatNeuron, Network, Neuron
from .quantization import quantizing
from .targets.base import Finding, require
from .targets.limits import loihi
from .targets.numpy import simulate
from .targets.onnx import ORT, to_onnx

__all__ = ["quantize"]


def quantize(
    network: Network[Neuron],
    *,
    scale: Literal["auto"] | float = "auto",
    calibration: Array | Mapping[str, Array] | None = None,
) -> Network[CubaNeuron]:
    """The network in Loihi's integers.

    Populations that trained quantised are made of integers already and stay as they are, whatever the scale. The others are
    scaled and rounded by :func:`~onnx2lava.quantization.integers.integer_population`. What that costs,
    :func:`quantization_report` says.

    Args:
        network: what ``load`` gave.
        scale: one number above 0 for all populations (Lava-DL's convention is 64), or ``"auto"``: for each the one with the
            smallest expected error, see :func:`~onnx2lava.quantization.scale.candidates`.
        calibration: input ``[T, N, *]``, or one by the name of each input, like that which the network will see; images where
            it has an encoder. Of the scales that ``"auto"`` takes into account, each population gets the one whose spikes
            differ least from the float network's, beyond chance.

    Returns:
        The network; its metadata carry the scales (and what calibration measured), so that files carry them too.

    Raises:
        ConversionError: the scale or a threshold is not above 0, or the calibration input does not fit.
        LimitError: integers do not fit Loihi's ranges.
    """
    quantised = quantizing.quantize(network, scale=scale, calibration=calibration, run=_run)
    require([*loihi(quantised), *_silenced(network, quantised)])
    return quantised


def _silenced(network: Network[Neuron], quantised: Network[CubaNeuron]) -> Iterator[Finding]:
    """Populations of real numbers whose thresholds became larger than the chip's: those of integers may be readouts."""
    for before, after in zip(network.populations, quantised.populations, strict=True):
        if isinstance(before.neuron, FloatNeuron) and (largest := int(np.max(after.neuron.v_threshold))) > THRESHOLD_MAX:
            message = f"has a threshold mantissa of {largest}, outside 0 ... {THRESHOLD_MAX}: choose a smaller scale"
            yield Finding(after.name, "loihi", message)


def _run(network: Network[Any], x: Mapping[str, Array]) -> dict[str, Array]:
    """On onnxruntime, of real numbers or of integers; on NumPy where ONNX has no file for its loops."""
    if ORT.check(network):
        return simulate(network, x)
    session = custom_ops.session(to_onnx(network, outputs="all"))
    names = [output.name for output in session.get_outputs()]
    found = dict(zip(names, session.run(names, dict(x)), strict=True))
    return {each.name: np.asarray(found[each.name]) for each in network.populations}
