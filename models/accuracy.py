"""Which class a network answers with, and how sure the difference between two networks' accuracies is."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
import torch
from spikingjelly.activation_based import functional
from torch import nn

import custom_ops

__all__ = ["Difference", "answers", "difference", "trained_answers"]

_BATCH = 500

Spikes = npt.NDArray[np.uint8]
Classes = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Difference:
    """How much more often one network is right than another on the same recorded spikes.

    Attributes:
        points: the difference of their accuracies, in percent.
        error: its standard error, likewise.
    """

    points: float
    error: float

    def __str__(self) -> str:
        return f"{self.points:+.2f} ± {self.error:.2f}"


def answers(model: onnx.ModelProto | str, x: Spikes) -> Classes:
    """The classes ``[N]`` that an ONNX file, or its path, gives for spikes ``[T, N, *]``: the one that fires most, the first of
    equals."""
    session = custom_ops.session(model)
    parts = (x[:, start : start + _BATCH].astype(np.float32) for start in range(0, x.shape[1], _BATCH))
    return np.concatenate([session.run(None, {"input": part})[0].sum(0).argmax(1) for part in parts])


@torch.no_grad()
def trained_answers(net: nn.Module, x: Spikes) -> Classes:
    """Likewise for a network of SpikingJelly, which is set to evaluate."""
    net.eval()
    found = []
    for start in range(0, x.shape[1], _BATCH):
        functional.reset_net(net)
        found.append(net(torch.from_numpy(x[:, start : start + _BATCH]).float()).sum(0).argmax(1).numpy())
    functional.reset_net(net)
    return np.concatenate(found)


def difference(one: npt.NDArray[np.bool_], other: npt.NDArray[np.bool_]) -> Difference:
    """Of the shares of right answers of two networks to the same inputs.

    Only inputs that one answers rightly and the other wrongly count, which are few: the standard error is far below that of
    either accuracy. Several recordings of one image are no independent trials, and count as one: the mean of its differences.

    Args:
        one: which answers are right, ``[M]``, or ``[R, M]`` for R recordings of M images.
        other: what to compare with, likewise.
    """
    each = (one.astype(np.float64) - other).reshape(-1, one.shape[-1]).mean(0)
    return Difference(100 * float(each.mean()), 100 * float(each.std(ddof=1) / np.sqrt(each.size)))
