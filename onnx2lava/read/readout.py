"""Which spikes are the output of a network, or are read by what stays on the host."""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from ..errors import ConversionError
from .axes import Axes
from .call import Value
from .evaluate import STANDARD_DOMAINS
from .form import Form

__all__ = ["Readout", "find_readout"]


@dataclass(frozen=True)
class Readout:
    """What is behind the last spikes.

    Args:
        populations: those whose spikes it reads, and the values of the graph that hold them.
        dims: how those are arranged, as a Reshape of ``[T, N, *]`` says it.
        output: the name of the graph's output.
    """

    populations: Mapping[str, ir.Value]
    dims: Mapping[str, Sequence[int]]
    output: str


def find_readout(
    output: ir.Value, spikes: Mapping[ir.Value, str], values: Mapping[ir.Value, Value], populations: Sequence[str], lead: Axes
) -> tuple[tuple[str, ...], Readout | None]:
    """The populations that a network gives, and what reads them; None where their spikes are the output themselves.

    Args:
        output: of the graph.
        spikes: values that hold a population's spikes, and its name.
        values: what is known of the graph's values.
        populations: names of all, in their order.
        lead: the axes of time and samples.

    Raises:
        ConversionError: the output is not made of spikes.
    """
    value = output
    while value not in spikes:
        node = value.producer()
        if node is None or node.op_type != "Identity" or node.domain not in STANDARD_DOMAINS or node.inputs[0] is None:
            break
        value = node.inputs[0]
    if value in spikes and not _is_folded(values[value], lead):
        return (spikes[value],), None
    read: dict[str, ir.Value] = {}
    waiting, seen = deque([output]), set()
    while waiting:
        value = waiting.popleft()
        if value in seen:
            continue
        seen.add(value)
        if value in spikes:
            read[spikes[value]] = value
            continue
        node = value.producer()
        if node is not None:
            waiting.extend(each for each in node.inputs if each is not None)
    names = tuple(name for name in populations if name in read)
    if not names:
        raise ConversionError(
            f"The model's output {output.name!r} is not made of the spikes of a spiking layer: export the network up to there."
        )
    dims = {name: _arrangement(values[read[name]], lead) for name in names}
    return names, Readout({name: read[name] for name in names}, dims, str(output.name))


def _arrangement(value: Value, lead: Axes) -> Sequence[int]:
    assert isinstance(value, Form)
    return (-1, *value.dims[1:]) if _is_folded(value, lead) else (0, 0, *value.dims[2:])


def _is_folded(value: Value, lead: Axes) -> bool:
    """Whether time is folded into the batch, as it is behind a MaxPool."""
    assert isinstance(value, Form)
    return value.axes[:2] != lead
