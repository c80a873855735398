"""Pooling without a neuron of its own, and whatever else is linear, becomes one synapse with its neighbours."""

from collections.abc import Sequence
from dataclasses import replace

from ..layers import Affine, Convolution, Layer, Linear
from ..network import Shape
from .compose import Map, TooLargeError, composed, flattened, from_affine, unrolled

__all__ = ["merging"]


def merging(layers: Sequence[Layer]) -> list[Layer]:
    """Between the spikes that come in and the neuron, one synapse is left.

    * convolution behind pooling: one convolution with the product of the strides;
    * linear layer behind pooling or convolution: each weight is spread over the pixels that its input was made of;
    * where no convolution can say it (an odd last row that pooling drops and padding then replaces, a bias or shift before
      padding, a division that differs at the edge): a matrix, which says every linear map.
    """
    return [_of_layer(layer) for layer in layers]


def _of_layer(layer: Layer) -> Layer:
    maps = [step for step in layer.steps if isinstance(step, Map)]
    if (len(maps) == 1 and not isinstance(maps[0], Affine)) or not maps:
        return layer
    try:
        step = _merged(maps, layer.input_shape)
    except TooLargeError as error:
        raise layer.refusal(
            f"what stands before it is no single convolution, and as a matrix {error}",
            "choose sizes that pooling divides evenly, or put a neuron between",
        ) from error
    return replace(layer, steps=(step,))


def _merged(maps: Sequence[Map], shape: Shape) -> Map:
    """One convolution or matrix."""
    shapes = [shape]
    for step in maps:
        shapes.append(step.output_shape(shapes[-1]))
    last_linear = max((i for i, step in enumerate(maps) if isinstance(step, Linear)), default=-1)
    if last_linear >= 0:
        # From the back: a matrix takes up everything before it and never grows beyond its rows times the inputs.
        result: Map = maps[last_linear]
        for i in reversed(range(last_linear)):
            result = _pair(maps[i], result, shapes[i])
        rest = last_linear + 1
    else:
        result, rest = maps[0], 1
    for i in range(rest, len(maps)):
        result = _pair(result, maps[i], shape, shapes[i])
    if isinstance(result, Affine):
        alone = from_affine(result, shape)
        assert alone is not None  # a factor for each place comes behind a pool only
        return alone
    return result


def _pair(first: Map, second: Map, shape: Shape, between: Shape | None = None) -> Map:
    """Both as one map, as a matrix if need be; ``between`` is the shape that ``second`` was written for."""
    if isinstance(first, Linear) and between is not None and len(between) > 1:
        second = _for_flat(second, between)
    whole = composed(first, second, shape)
    if whole is None:
        between = between or first.output_shape(shape)
        whole = composed(_for_flat(first, shape), _for_flat(second, between), (0,))
    assert whole is not None
    return whole


def _for_flat(step: Map, shape: Shape) -> Map:
    if isinstance(step, Convolution):
        return unrolled(step, shape)
    return flattened(step, shape) if isinstance(step, Affine) else step
