"""From real numbers to Loihi's integers."""

import json
from dataclasses import replace
from math import inf
from typing import Literal

from .calibrate import Calibration
from .errors import ConversionError
from .integers import integer_block
from .limits import require_integers
from .network import Array, Block, FloatNeuron, Network
from .scale import candidates

__all__ = ["CALIBRATION_KEY", "SCALES_KEY", "quantize"]

SCALES_KEY = "sj2lava.scales"
"""Metadata of a quantised network: the scale of each layer, JSON, by block name."""
CALIBRATION_KEY = "sj2lava.calibration"
"""Metadata of a calibrated network, JSON: ``samples`` used and ``given``, and ``mismatches`` by block name as [count, of]."""


def quantize(network: Network, *, scale: Literal["auto"] | float = "auto", calibration: Array | None = None) -> Network:
    """The network in Loihi's integers.

    Blocks that trained quantised are made of integers already and stay as they are, whatever the scale. The others are scaled
    and rounded by :func:`~onnx2lava.integers.integer_block`. What that costs, :func:`quantization_report` says.

    Args:
        network: what ``load`` gave.
        scale: one number above 0 for all layers (Lava-DL's convention is 64), or ``"auto"``: layer by layer the one with the
            smallest expected error, see :func:`~onnx2lava.scale.candidates`.
        calibration: input ``[T, N, *]`` like that which the network will see; images where it has an encoder. Of the scales
            that ``"auto"`` takes into account, each layer gets the one whose spikes differ least from the float network's,
            beyond chance.

    Returns:
        The network; its metadata carry the scales (and what calibration measured), so that files carry them too.

    Raises:
        ConversionError: the scale or a threshold is not above 0, or the calibration input does not fit.
        LimitError: integers do not fit Loihi's ranges.
    """
    if scale != "auto" and not 0 < scale < inf:
        raise ConversionError(f"The scale is {scale}, but must be a number above 0, or auto.")
    if calibration is not None and scale != "auto":
        raise ConversionError(f"The scale is given as {scale:g}, so calibration has nothing to choose: use scale auto.")
    if not any(isinstance(block.neuron, FloatNeuron) for block in network.blocks):
        require_integers(network)
        return network
    for block in network.blocks:
        if not 0 < block.neuron.v_threshold < inf and isinstance(block.neuron, FloatNeuron):
            raise ConversionError(
                f"The block {block.name!r} has the threshold {block.neuron.v_threshold:g}, but only one above 0 can be scaled."
            )
    measured = None if calibration is None else Calibration(network, calibration)
    scales: dict[str, float] = {}
    blocks: list[Block] = []
    for block in network.blocks:
        choices = [block]
        if isinstance(block.neuron, FloatNeuron):
            found = [scale] if scale != "auto" else candidates(block)
            choices = [integer_block(block, each) for each in (found if measured is not None else found[:1])]
        chosen = 0 if measured is None else measured.choose(block, choices)
        if isinstance(block.neuron, FloatNeuron):
            scales[block.name] = found[chosen]
        blocks.append(choices[chosen])
    metadata = {**network.metadata, SCALES_KEY: json.dumps(scales)}
    if measured is not None:
        metadata[CALIBRATION_KEY] = json.dumps(measured.summary())
    quantised = replace(network, blocks=tuple(blocks), metadata=metadata)
    require_integers(quantised)
    return quantised
