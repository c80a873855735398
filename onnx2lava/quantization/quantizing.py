"""From real numbers to Loihi's integers."""

import json
from collections.abc import Mapping
from dataclasses import replace
from math import inf
from numbers import Real
from typing import Literal, TypeGuard

from ..errors import ConversionError
from ..network import Array, CubaNeuron, FloatNeuron, Network, Neuron, Population
from .calibration import Calibration, Run
from .integers import integer_population
from .scale import candidates

__all__ = ["CALIBRATION_KEY", "SCALES_KEY", "quantize", "require_scale"]

SCALES_KEY = "sj2lava.scales"
"""Metadata of a quantised network: the scale of each population, JSON, by name."""
CALIBRATION_KEY = "sj2lava.calibration"
"""Metadata of a calibrated network, JSON: ``samples`` used and ``given``, and ``mismatches`` by population as [count, of]."""


def quantize(
    network: Network[Neuron],
    *,
    scale: Literal["auto"] | float = "auto",
    calibration: Array | Mapping[str, Array] | None = None,
    run: Run | None = None,
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
        run: what runs networks in calibration; ``onnx2lava.quantize`` gives onnxruntime, and checks Loihi's ranges.

    Returns:
        The network; its metadata carry the scales (and what calibration measured), so that files carry them too.

    Raises:
        ConversionError: the scale or a threshold is not above 0, or the calibration input does not fit.
    """
    scale = require_scale(scale)
    if calibration is not None and scale != "auto":
        raise ConversionError(f"The scale is given as {scale:g}, so calibration has nothing to choose: use scale auto.")
    for each in network.populations:
        if isinstance(each.neuron, FloatNeuron) and not 0 < each.neuron.v_threshold < inf:
            raise ConversionError(
                f"The population {each.name!r} has the threshold {each.neuron.v_threshold:g}, but only one above 0 can be scaled."
            )
    measured = None
    if calibration is not None and any(map(_is_float, network.populations)):
        if run is None:
            raise ConversionError("Calibration has nothing to run networks with: call onnx2lava.quantize, which has.")
        measured = Calibration(network, calibration, run)
    scales: dict[str, float] = {}
    populations: list[Population[CubaNeuron]] = []
    for each in network.populations:
        found: list[float] = []
        choices: list[Population[CubaNeuron]]
        if _is_float(each):
            found = [scale] if scale != "auto" else candidates(each)
            choices = [integer_population(each, one) for one in (found if measured is not None else found[:1])]
        else:
            choices = [each]  # type: ignore[list-item]  # what is not real is whole
        chosen = 0 if measured is None else measured.choose(each, choices)
        populations.append(choices[chosen])
        if found:
            scales[each.name] = found[chosen]
    metadata = dict(network.metadata)
    if scales:
        metadata[SCALES_KEY] = json.dumps(scales)
    if measured is not None:
        metadata[CALIBRATION_KEY] = json.dumps(measured.summary())
    return replace(network, populations=tuple(populations), metadata=metadata)  # type: ignore[arg-type,return-value]


def require_scale(scale: object) -> Literal["auto"] | float:
    """``scale``, if it is one.

    Raises:
        ConversionError: it is neither ``"auto"`` nor a finite number above 0.
    """
    if scale == "auto":
        return "auto"
    if isinstance(scale, Real) and not isinstance(scale, bool):
        try:
            if 0 < float(scale) < inf:
                return float(scale)
        except OverflowError:  # a whole number of hundreds of digits
            pass
    raise ConversionError(f"The scale is {scale!r}, but must be a number above 0, such as 64, or 'auto'.")


def _is_float(population: Population[Neuron]) -> TypeGuard[Population[FloatNeuron]]:
    return isinstance(population.neuron, FloatNeuron)
