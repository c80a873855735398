"""A chain in what NetX's layers can say: convolutions where they stay ones, matrices for all other maps."""

from collections.abc import Iterator
from dataclasses import replace
from math import inf, log2

import numpy as np
import onnx
import onnx_ir as ir

from custom_ops.loihi import CONV_SUM_MAX, INT8_MAX, MAX_DELAY

from ...errors import NetworkError
from ...network import Array, Conv, ConvTranspose, CubaNeuron, Dense, Edge, Map, Network, Neuron, Population, Shape
from ...network.network import N_co
from ...network.unrolling import unrolled
from ..base import Finding
from ..convolutions import convolution_of_transpose, even_padding, few_groups
from ..limits import largest_sums
from ..order import branches, forward, in_order

__all__ = ["legalised", "synapses"]

_INSTEAD = "run it with to_lava, from the network or from its Loihi-integer .onnx"


def legalised(network: Network[N_co]) -> tuple[Network[N_co], list[Finding]]:
    """The same spikes in layers of NetX, and where there are none.

    A convolution that reads and gives ``(C, H, W)`` stays one. All other maps become matrices, and their populations flat: those
    with a stride between the kernels, with delays or feedback, with sums that Lava's convolution wraps around, or behind flat
    populations. A readout gets a Reshape in front where the last population became flat.
    """
    no_chain = [
        Finding(name, "netx", f"{reason}, but a NetX file is a list of layers: {_INSTEAD}")
        for name, reason in branches(network, late=True)
    ]
    if no_chain:
        return network, no_chain
    (given,) = network.inputs.values()
    came = given.shape
    populations: list[Population[N_co]] = []
    findings: list[Finding] = []
    for each in in_order(network):
        layer = each
        try:
            layer = _layer(network, each, came)
            messages = list(_misread_input(layer) if given.numbers and not populations else _misread(layer))
        except NetworkError as error:
            messages = [f"is nothing that a convolution of NetX can say, and {error}: use fewer neurons, or {_INSTEAD}"]
        findings += [Finding(each.name, "netx", message) for message in messages]
        populations.append(layer)
        came = layer.shape
    if findings:
        return network, findings
    readout = network.readout
    if readout is not None and came != network[populations[-1].name].shape:
        readout = _reading_flat(readout, network[populations[-1].name].shape)
    return replace(network, populations=tuple(populations), readout=readout), []


def _layer(network: Network[Neuron], population: Population[N_co], came: Shape) -> Population[N_co]:
    """Args: ``came``: the shape that the spikes have that come in.

    Raises:
        NetworkError: a matrix would be too large.
    """
    edge, *others = forward(population)
    if edge.source in network.inputs and network.inputs[edge.source].numbers:
        return population
    if others:  # synapses that take different numbers of steps
        edges = [replace(each, reads=None) for each in population.edges]
        return replace(
            population, shape=(population.neurons,), edges=tuple(edges), bias=population.flat_bias(), neuron=_flat(population)
        )
    small = isinstance(edge.map, Dense) or largest_sums(network, edge).max() <= CONV_SUM_MAX
    if small and not population.feedback and not edge.delay and network.reads(edge) == came:
        conv = _convolution(edge)
        if conv is not None and conv.output_shape(came) == population.shape:
            return replace(population, edges=(Edge(edge.source, conv),))
    if (
        isinstance(edge.map, Dense)
        and len(population.shape) == 1
        and all(isinstance(each.map, Dense) for each in population.edges)
    ):
        return replace(population, edges=tuple(replace(each, reads=None) for each in population.edges))
    edges = [
        Edge(each.source, Dense(unrolled(each.map, network.reads(each))), each.delay) for each in (edge, *population.feedback)
    ]
    return replace(
        population, shape=(population.neurons,), edges=tuple(edges), bias=population.flat_bias(), neuron=_flat(population)
    )


def _flat(population: Population[N_co]) -> N_co:
    """Its neurons, where they become one axis."""
    neuron = population.neuron
    if not isinstance(neuron, CubaNeuron) or neuron.alike:
        return neuron
    each = (np.broadcast_to(population.parameter(name), population.shape).reshape(-1) for name, _ in neuron.parameters())
    return CubaNeuron(*each)  # type: ignore[return-value]


def synapses(population: Population[Neuron]) -> tuple[Map, int | Array]:
    """What it reads the population before it through, and how many steps late: all of it, or ``[O, I]`` each synapse."""
    edge, *others = edges = forward(population)
    if not others:
        return edge.map, edge.delay
    weight, delays = np.zeros_like(edge.map.weight), np.zeros(edge.map.weight.shape, np.int64)
    for each in edges:
        weight = weight + each.map.weight
        delays[each.map.weight != 0] = each.delay
    return Dense(weight), delays


def _convolution(edge: Edge) -> Conv | None:
    """The edge's map as a convolution that Lava can hold."""
    map_ = edge.map
    if isinstance(map_, ConvTranspose):
        map_ = convolution_of_transpose(map_) or map_
    if not isinstance(map_, Conv):
        return None
    try:
        conv = even_padding(map_)
    except NetworkError:
        return None
    fits = max(*conv.weight.shape[2:], *conv.stride, *conv.pads, *conv.dilation) <= INT8_MAX
    return few_groups(conv) if fits else None


def _misread(population: Population[Neuron]) -> Iterator[str]:
    """What NetX runs wrongly in a layer, or refuses."""
    map_, delays = synapses(population)
    feedback = population.feedback
    if (latest := int(np.max(delays))) > MAX_DELAY:
        yield f"has spikes that are {latest} steps late, above NetX's {MAX_DELAY}: use a shorter delay"
    if len(feedback) > 1 or any(each.delay != 1 for each in feedback):
        steps = ", ".join(str(each.delay) for each in feedback)
        yield f"hears itself {steps} steps late, but NetX's feedback takes one step: use one edge with a delay of 1"
    elif latest and feedback:
        # netx/blocks/process.py, RecurrentDense, gives the feedback the delay of the input, and forgets the weights' exponent
        yield "is recurrent and reads delayed spikes, where NetX would delay its feedback as well: move the delay"
    if isinstance(population.neuron, CubaNeuron) and isinstance(map_, Dense):
        yield from _misread_weights(map_.weight, feedback[0].map.weight if feedback else None)


def _misread_input(population: Population[Neuron]) -> Iterator[str]:
    """What an ``input`` layer of NetX, which has one weight and one bias, cannot say."""
    (edge,) = population.edges
    for what, values in (("weights", edge.map.weight), ("biases", population.bias_column())):
        if (values != values.flat[0]).any():
            yield f"reads any numbers and has {what} that differ, where an input layer of NetX has one: train it with one"


def _misread_weights(weight: Array, recurrent: Array | None) -> Iterator[str]:
    # netx/utils.py, optimize_weight_bits, and lava/utils/weightutils.py, clip_weights
    parts = [weight] if recurrent is None else [weight, recurrent]
    if not any(part.any() for part in parts):
        yield (
            "is dense and all its weights are zero, which NetX cannot load (it divides by the largest weight): "
            "prune the layer, or give it a weight"
        )
        return
    # NetX shifts all weights as far to the left as they fit, those of the feedback with the others.
    high, low = max(0, *(int(part.max()) for part in parts)), min(0, *(int(part.min()) for part in parts))
    shift = max(0, int(log2(min(256 / -low if low else inf, 254 / high if high else inf))))
    for part, where in zip(parts, ("", " in its feedback"), strict=False):
        if part.max() <= 0 and int(part.min()) << shift == -256:
            yield (
                f"is dense, has no positive weight{where}, and its smallest one ({int(part.min())}) is a negated power of two: "
                "Lava clips that to -255/256 of itself and truncates the rest; change that weight by 2"
            )


def _reading_flat(readout: onnx.ModelProto, shape: Shape) -> onnx.ModelProto:
    """``readout`` with a Reshape in front, so that it reads ``[T, N, F]`` as well as ``[T, N, *shape]``."""
    model = ir.from_proto(readout)
    (image,) = model.graph.inputs
    target = ir.tensor(np.array([0, 0, *shape], np.int64), name=f"{image.name}/image_shape")
    constant = ir.Value(name=target.name, shape=ir.Shape([len(shape) + 2]), type=ir.TensorType(target.dtype), const_value=target)
    flat = ir.Value(name=image.name, type=image.type)  # of any shape
    image.name = f"{image.name}/image"
    reshape = ir.node("Reshape", [flat, constant], name=f"{flat.name}/Reshape")
    reshape.outputs[0].name = image.name
    ir.convenience.replace_all_uses_with(image, reshape.outputs[0])
    model.graph.register_initializer(constant)
    model.graph.inputs[0] = flat
    model.graph.insert_before(model.graph[0], reshape)
    return ir.to_proto(model)
