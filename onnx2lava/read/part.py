"""Read a graph that is less than a layer: one synapse or one neuron, as ``sj2onnx.export`` writes a single layer."""

from dataclasses import dataclass, replace

from custom_ops.operators import DOMAIN, SpikingNeuron

from ..errors import ConversionError
from ..network import CubaNeuron, Map, Shape
from .axes import listed
from .budget import BudgetError
from .call import Call
from .compose import composed
from .form import Form, FormError, lead_axes
from .graph import Reader
from .neurons import RealCubaNeuron, part_of
from .onnx_file import Source, opened

__all__ = ["Part", "load_part"]


@dataclass(frozen=True, eq=False)
class Part:
    """One synapse or one neuron.

    Args:
        input_shape: features of what comes in.
        map: the synapse, in real numbers; None where the graph is a neuron.
        has_constant: whether the synapse adds something that does not depend on its input.
        neuron: None where the graph has none.
    """

    input_shape: Shape
    map: Map | None
    has_constant: bool
    neuron: CubaNeuron | SpikingNeuron | RealCubaNeuron | None


def load_part(model: Source) -> Part:
    """Read one synapse or one neuron. What its numbers mean is up to whoever feeds it: real values, not only spikes.

    Args:
        model: a path, the serialised bytes, or the model itself.

    Raises:
        ModelFileError: the file is missing or broken.
        ConversionError: it is more than one synapse or neuron, or none; the message names the node.
    """
    proto, graph_model = opened(model)
    reader = Reader(graph_model, proto.ByteSize())
    neuron = None
    for node in reader.graph:
        read = part_of(node.op_type) if node.domain == DOMAIN else None
        if read is None:
            reader.read_node(node)
            continue
        call = Call(node, [None if value is None else reader.value(value) for value in node.inputs], reader.budget)
        if neuron is not None or any(term.steps for term in call.form().terms):
            call.refuse("the graph is more than one neuron", "convert a whole network with to_slayer")
        if any(value is not None for value in call.inputs[1:]):
            call.refuse("it has a bias or starts from given states", "export the neuron alone")
        neuron = read(call)
        reader.keep(node.outputs[0], call.form())
    result = reader.value(reader.output)
    name = reader.graph.name
    if not isinstance(result, Form) or reader.populations or len(result.terms) != 1:
        raise ConversionError(
            f"The model {name!r} is neither one synapse nor one neuron: convert a whole network with to_slayer."
        )
    (term,) = result.terms
    if neuron is not None and term.steps:
        raise ConversionError(f"The model {name!r} is more than one neuron: convert a whole network with to_slayer.")
    if result.axes[:2] != lead_axes(*reader.steps_and_samples):
        raise ConversionError(f"The model's output is [{listed(result.dims)}], not [T, N, *]: export it time first.")
    if neuron is not None:
        return Part(term.shape, None, False, neuron)
    try:
        synapse, _ = composed(term.steps, term.shape, reader.budget)
    except (BudgetError, FormError) as error:
        raise ConversionError(f"The model {name!r} cannot be one synapse ({error}): export one layer.") from error
    if term.divisor != 1:
        synapse = replace(synapse, weight=synapse.weight / term.divisor)
    return Part(term.shape, synapse, result.has_constant, None)
