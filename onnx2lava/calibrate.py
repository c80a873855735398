"""Compare the spikes of quantised layers with those of the float network, on input like that which it will see."""

from collections.abc import Sequence
from dataclasses import replace
from math import sqrt
from typing import Any

import numpy as np

import custom_ops

from .host import check_input, encode
from .network import INPUT, Array, Block, Network
from .write.onnx import to_onnx

__all__ = ["Calibration"]

_OPERATIONS = 2e10
"""Synaptic operations that calibration may take, a minute or so: it uses as many samples as that allows, at least one."""
_CHOICES = 14


class Calibration:
    """A walk through a float network that keeps both its own spikes and those of its quantised twin, layer by layer.

    Each quantised layer is fed with the spikes of the quantised layers before it: what is measured is then what the layer will
    do. (Feeding it with the float network's spikes chose scales as good, within the noise, on networks trained on the digits.)

    Args:
        network: with float neurons.
        x: input ``[T, N, *]``, as the network reads it.

    Raises:
        ConversionError: ``x`` does not fit the network.
    """

    def __init__(self, network: Network, x: Array) -> None:
        steps, given = check_input(network, x)
        cost = sum(block.synapses for block in network.blocks) * steps * _CHOICES
        self._given, self._samples = given, min(given, max(1, int(_OPERATIONS / max(cost, 1))))
        spikes = encode(network, x[:, : self._samples])
        self._float: dict[str, Array] = {INPUT: spikes}
        self._quantised: dict[str, Array] = {INPUT: spikes}
        self._mismatches: dict[str, tuple[int, int]] = {}

    def choose(self, block: Block, choices: Sequence[Block]) -> int:
        """Which of ``choices`` gives the spikes nearest to those of ``block``; call it block by block.

        Counts of mismatches that lie within the counting noise of the smallest, its square root, are alike: the first wins.
        """
        expected = _run(block, _incoming(block, self._float))
        incoming = _incoming(block, self._quantised)
        results = [_run(choice, incoming) for choice in choices]
        mismatches = [int(np.count_nonzero(result != expected)) for result in results]
        fewest = min(mismatches)
        best = next(i for i, count in enumerate(mismatches) if count <= fewest + sqrt(fewest))
        self._float[block.name], self._quantised[block.name] = expected, results[best]
        self._mismatches[block.name] = (mismatches[best], expected.size)
        return best

    def summary(self) -> dict[str, Any]:
        """What was measured, for the metadata."""
        return {"samples": self._samples, "given": self._given, "mismatches": self._mismatches}


def _incoming(block: Block, spikes: dict[str, Array]) -> Array:
    first, *others = [spikes[source] for source in block.sources]
    return sum(others, start=first)


def _run(block: Block, x: Array) -> Array:
    alone = Network(block.name, block.input_shape, (replace(block, sources=(INPUT,)),))
    (spikes,) = custom_ops.session(to_onnx(alone)).run(None, {INPUT: x})
    return np.asarray(spikes)
