"""What quantisation did to a network, population by population."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from custom_ops.loihi import BIAS_RANGE, DECAY_UNIT, WEIGHT_RANGE

from ..errors import ConversionError
from ..network import Array, CubaNeuron, FloatNeuron, Network, Neuron, Population
from .integers import weight_bits
from .quantizing import CALIBRATION_KEY, SCALES_KEY

__all__ = ["LayerQuantization", "QuantizationReport", "layer_scales", "quantization_notes", "quantization_report"]

_MANY_LOST = 0.5
"""Share of weights that rounding may turn to zero before it is said."""


@dataclass(frozen=True)
class LayerQuantization:
    """What quantisation did to one population.

    Args:
        name: of the population.
        scale: what everything was multiplied by.
        weight_bits: bits that the weights use, of 8.
        weights_saturated: share of the weights that were clamped to -256 or 254.
        weights_lost: share of the weights that became 0 and were not.
        weight_error: root mean square error of the weights, relative to their own root mean square.
        threshold: mantissa.
        bias_range: smallest and largest bias mantissa; None without bias.
        biases_saturated: share of the biases that were clamped.
        decay_error: of the voltage's decay and the current's, as they are minus as they were, the larger.
        mismatches: in calibration, spikes that differ from the float network's; None without calibration.
        compared: how many were compared.
    """

    name: str
    scale: float
    weight_bits: int
    weights_saturated: float
    weights_lost: float
    weight_error: float
    threshold: int
    bias_range: tuple[int, int] | None
    biases_saturated: float
    decay_error: float
    mismatches: int | None
    compared: int


@dataclass(frozen=True)
class QuantizationReport:
    """What :func:`quantization_report` found.

    Args:
        layers: populations that were quantised, in the order of the network.
        samples: how many samples calibration used; None without calibration.
        given: how many it was given.
    """

    layers: tuple[LayerQuantization, ...]
    samples: int | None = None
    given: int | None = None


def quantization_report(network: Network[Neuron], quantised: Network[CubaNeuron]) -> QuantizationReport:
    """Compare a network of float neurons with what :func:`quantize` made of it.

    Args:
        network: before.
        quantised: after, with its metadata.

    Raises:
        ConversionError: the one was not made from the other.
    """
    scales = layer_scales(quantised)
    floats = [each for each in network.populations if isinstance(each.neuron, FloatNeuron)]
    after = {each.name: each for each in quantised.populations}
    if any(each.name not in scales or each.name not in after for each in floats):
        raise ConversionError(f"The network {quantised.name!r} is not what quantize made of {network.name!r}: give both of them.")
    if not floats:
        return QuantizationReport(())
    samples, given, mismatches = _calibrated(quantised)
    layers = [_layer(each, after[each.name], scales[each.name], mismatches.get(each.name)) for each in floats]
    return QuantizationReport(tuple(layers), samples, given)


def quantization_notes(report: QuantizationReport) -> list[str]:
    """What was clamped or lost, in words, and how far calibration went."""
    notes = []
    for layer in report.layers:
        if layer.weight_bits == 1 and layer.weights_lost:
            notes.append(f"The population {layer.name!r} lost all its weights to rounding: choose a larger scale, or auto.")
        elif layer.weights_lost > _MANY_LOST:
            notes.append(
                f"The population {layer.name!r} lost {layer.weights_lost:.2%} of its weights to rounding, because others are "
                "very much larger: train with a bound on weights, or choose a larger scale, which clamps the large ones."
            )
        if layer.weights_saturated or layer.biases_saturated:
            notes.append(
                f"The population {layer.name!r} has {layer.weights_saturated:.2%} of its weights and "
                f"{layer.biases_saturated:.2%} of its biases clamped to Loihi's range."
            )
    if report.samples is not None and report.given is not None and report.samples < report.given:
        notes.append(f"Calibration used {report.samples} of {report.given} samples, to end within a minute or so.")
    return notes


def layer_scales(network: Network[Any]) -> Mapping[str, float]:
    """The scales that a quantised network was made with, by population, as far as its metadata say so."""
    scales = _metadata(network, SCALES_KEY)
    return {name: float(scale) for name, scale in scales.items() if isinstance(scale, int | float) and scale > 0}


def _calibrated(network: Network[Any]) -> tuple[int | None, int | None, dict[str, tuple[int, int]]]:
    """Samples used, samples given, and mismatches of each population as (count, of), as far as the metadata say so."""
    found = _metadata(network, CALIBRATION_KEY)
    samples, given, mismatches = found.get("samples"), found.get("given"), found.get("mismatches")
    if not isinstance(samples, int) or not isinstance(given, int) or not isinstance(mismatches, dict):
        return None, None, {}
    pairs = {name: pair for name, pair in mismatches.items() if isinstance(pair, list) and len(pair) == 2}
    whole = {name: (pair[0], pair[1]) for name, pair in pairs.items() if all(isinstance(each, int) for each in pair)}
    return samples, given, whole


def _metadata(network: Network[Any], key: str) -> dict[str, Any]:
    """An object of JSON; empty where the metadata, which may come from strangers, are none."""
    try:
        found = json.loads(network.metadata.get(key, "{}"))
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


@np.errstate(over="ignore", invalid="ignore")  # numbers that no float holds once they are scaled are out of range as well
def _layer(
    before: Population[Neuron], after: Population[CubaNeuron], scale: float, measured: tuple[int, int] | None
) -> LayerQuantization:
    assert isinstance(before.neuron, FloatNeuron)
    weight, integers = before.weights(), after.weights()
    mismatches, compared = measured or (None, 0)
    error = integers / np.float32(scale) - weight
    return LayerQuantization(
        name=before.name,
        scale=scale,
        weight_bits=weight_bits(integers),
        weights_saturated=_share_outside(np.rint(weight * np.float32(scale / 2)) * 2, WEIGHT_RANGE),
        weights_lost=float(np.mean((integers == 0) & (weight != 0))),
        weight_error=_norm(error) / (_norm(weight) or 1),
        threshold=int(np.max(after.neuron.v_threshold)),
        bias_range=None if after.bias is None else (int(after.bias.min()), int(after.bias.max())),
        biases_saturated=0.0 if before.bias is None else _share_outside(np.rint(before.bias * scale), BIAS_RANGE),
        decay_error=max(
            int(np.max(after.neuron.v_decay)) / DECAY_UNIT - before.neuron.v_decay,
            int(np.max(after.neuron.i_decay)) / DECAY_UNIT - before.neuron.i_decay,
            key=abs,
        ),
        mismatches=mismatches,
        compared=compared,
    )


def _share_outside(values: Array, limits: tuple[int, int]) -> float:
    return float(np.mean((values < limits[0]) | (values > limits[1])))


def _norm(values: Array) -> float:
    return float(np.sqrt(np.square(values).sum(dtype=np.float64)))
