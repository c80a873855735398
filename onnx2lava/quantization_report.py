"""What quantisation did to a network, layer by layer."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .errors import ConversionError
from .integers import weight_bits
from .limits import BIAS_RANGE, UNITY_DECAY, WEIGHT_RANGE
from .network import Array, Block, FloatNeuron, Network
from .quantize import CALIBRATION_KEY, SCALES_KEY

__all__ = ["LayerQuantization", "QuantizationReport", "layer_scales", "quantization_report"]


@dataclass(frozen=True)
class LayerQuantization:
    """What quantisation did to one layer.

    Args:
        name: the block's name.
        scale: what everything was multiplied by.
        weight_bits: bits that the weights use, of 8.
        weights_saturated: share of the weights that were clamped to -256 or 254.
        weights_lost: share of the weights that became 0 and were not.
        weight_error: root mean square error of the weights, relative to their own root mean square.
        threshold: mantissa.
        bias_range: smallest and largest bias mantissa; None without bias.
        biases_saturated: share of the biases that were clamped.
        decay_error: decay as it is minus decay as it was.
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
        layers: those that were quantised, in the order of the network.
        samples: how many samples calibration used; None without calibration.
        given: how many it was given.
    """

    layers: tuple[LayerQuantization, ...]
    samples: int | None = None
    given: int | None = None


def quantization_report(network: Network, quantised: Network) -> QuantizationReport:
    """Compare a network of float neurons with what :func:`quantize` made of it.

    Args:
        network: before.
        quantised: after, with its metadata.

    Raises:
        ConversionError: the one was not made from the other.
    """
    scales = layer_scales(quantised)
    floats = [block for block in network.blocks if isinstance(block.neuron, FloatNeuron)]
    after = {block.name: block for block in quantised.blocks}
    if any(block.name not in scales or block.name not in after for block in floats):
        raise ConversionError(f"The network {quantised.name!r} is not what quantize made of {network.name!r}: give both of them.")
    calibration = json.loads(quantised.metadata.get(CALIBRATION_KEY, '{"mismatches": {}}'))
    return QuantizationReport(
        tuple(
            _layer(block, after[block.name], scales[block.name], calibration["mismatches"].get(block.name)) for block in floats
        ),
        calibration.get("samples"),
        calibration.get("given"),
    )


def layer_scales(network: Network) -> Mapping[str, float]:
    """The scales that a quantised network was made with, by block name, as far as its metadata say so."""
    try:
        scales: Any = json.loads(network.metadata.get(SCALES_KEY, "{}"))
        return {str(name): float(scale) for name, scale in scales.items()}
    except (ValueError, TypeError, AttributeError):  # metadata of a file may say anything
        return {}


@np.errstate(over="ignore", invalid="ignore")  # numbers that no float holds once they are scaled are out of range as well
def _layer(before: Block, after: Block, scale: float, measured: tuple[int, int] | None) -> LayerQuantization:
    assert isinstance(before.neuron, FloatNeuron)
    weight, integers = before.synapse.weights, after.synapse.weights
    mismatches, compared = measured or (None, 0)
    error = integers / np.float32(scale) - weight
    return LayerQuantization(
        name=before.name,
        scale=scale,
        weight_bits=weight_bits(integers),
        weights_saturated=_share_outside(np.rint(weight * np.float32(scale / 2)) * 2, WEIGHT_RANGE),
        weights_lost=float(np.mean((integers == 0) & (weight != 0))),
        weight_error=_norm(error) / (_norm(weight) or 1),
        threshold=after.cuba.v_threshold,
        bias_range=None if after.bias is None else (int(after.bias.min()), int(after.bias.max())),
        biases_saturated=0.0 if before.bias is None else _share_outside(np.rint(before.bias * scale), BIAS_RANGE),
        decay_error=after.cuba.v_decay / UNITY_DECAY - before.neuron.v_decay,
        mismatches=mismatches,
        compared=compared,
    )


def _share_outside(values: Array, limits: tuple[int, int]) -> float:
    return float(np.mean((values < limits[0]) | (values > limits[1])))


def _norm(values: Array) -> float:
    return float(np.sqrt(np.square(values).sum(dtype=np.float64)))
