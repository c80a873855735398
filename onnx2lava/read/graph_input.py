"""An input of a graph: which of its axes are time, samples and features."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import onnx_ir as ir

from ..errors import ConversionError
from ..host import time_and_batch
from ..network import Shape
from .axes import SAMPLES, STEPS, Axes
from .budget import Budget
from .evaluate import is_neuron
from .form import Form, lead_axes, natural, source

__all__ = ["GraphInput", "graph_input"]


@dataclass(frozen=True)
class GraphInput:
    """What comes in.

    Args:
        form: its value in the graph.
        features: of each sample at each time step.
        steps_and_samples: their numbers, or the stand-ins for them where the file leaves them open.
        repeats: the number of time steps if the network repeats what it is given; else 0.
    """

    form: Form
    features: Shape
    steps_and_samples: tuple[int, int]
    repeats: int


def graph_input(
    graph: ir.Graph, value: ir.Value, name: str, budget: Budget, *, noted_time: int | None, still: bool, count: int
) -> GraphInput:
    """What ``value``, an input of ``graph``, holds.

    Args:
        graph: the graph.
        value: its input.
        name: of the network's input.
        budget: of the file.
        noted_time: the axis of time as the exporter noted it.
        still: whether it may have no axis of time, because the network repeats what it is given over time.
        count: how many inputs the graph has.

    Raises:
        ConversionError: its features are not fixed, or it is no array of time steps, samples and one to three axes of features.
    """
    shape = list(value.shape or ())
    names = [dim if isinstance(dim, int) else dim.value for dim in shape]
    time, batch = time_and_batch(names, noted_time, still=still)
    rest = [dim for axis, dim in enumerate(shape) if axis not in (time, batch)]
    known = [dim for dim in rest if isinstance(dim, int) and dim > 0]
    if len(shape) < 2 + (time is not None) or len(known) != len(rest) or not 1 <= len(rest) <= 3:
        raise _refused(value, shape, count)
    steps, samples = (
        shape[axis] if axis is not None and isinstance(shape[axis], int) and shape[axis] else open_
        for axis, open_ in ((time, _times_shown(graph) if time is None else STEPS), (batch, SAMPLES))
    )
    assert isinstance(steps, int)
    assert isinstance(samples, int)
    lead = lead_axes(steps, samples)
    sizes = [int(dim) for dim in known]
    tail = source(name, (), natural(sizes), budget, sizes)
    rest_axes = iter(tail.axes)
    axes: Axes = tuple(lead[0] if axis == time else lead[1] if axis == batch else next(rest_axes) for axis in range(len(shape)))
    return GraphInput(replace(tail, axes=axes), natural(sizes), (steps, samples), steps if time is None and steps != STEPS else 0)


def _refused(value: ir.Value, shape: Sequence[object], count: int) -> ConversionError:
    if value.dtype in (ir.DataType.INT32, ir.DataType.INT64) and len(shape) < 3:
        return ConversionError(
            f"The input {value.name!r} takes whole numbers [{', '.join(map(str, shape))}], such as words, of which a "
            "layer on the host makes vectors (nn.Embedding): export the part of the network behind that layer, with an "
            "example [T, N, F], and give Loihi what the layer gives."
        )
    one_of = f"The model has {count} inputs, of which" if count > 1 else "The input"
    return ConversionError(
        f"{one_of} {value.name!r} has the shape {value.shape}, but must be [T, N, C, H, W], [T, N, C, L] or [T, N, F] "
        "with fixed features: export it with an example of such a shape, and without states."
    )


def _times_shown(graph: ir.Graph) -> int:
    """How often an image is shown, as the first neuron sees it; left open where the file does not say it."""
    first = next((node for node in graph if is_neuron(node)), None)
    dims = [] if first is None else [list(value.shape or ()) for value in (*first.inputs[:1], *first.outputs[:1]) if value]
    return next((each[0] for each in dims if len(each) > 2 and isinstance(each[0], int) and each[0] > 0), STEPS)
