"""Walk through a graph, once and in order, and find its populations.

Node names are never asked for a meaning, only for the populations' names.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from math import prod

import numpy as np
import onnx_ir as ir

from custom_ops.files.model_file import numbers
from custom_ops.operators import DOMAIN, HETEROGENEOUS_CUBA_LIF, SpikingNeuron

from ..errors import ConversionError, NetworkError
from ..host import is_still, noted_time
from ..network import INPUT, CubaNeuron, Dense, Input, Neuron, Population, Shape
from .axes import joined, listed, reshaped
from .budget import Budget
from .call import Call, Filled, HostValue, Value, described, refusal
from .evaluate import evaluated, is_neuron
from .form import Form, FormError, Term, aligned, lead_axes, natural, source, unwound
from .gates import Gates
from .graph_input import graph_input
from .joined_steps import join_steps
from .loop import is_loop, read_loop
from .names import Names
from .neurons import neuron_of, part_of
from .populations import Populations, arranged, float_neuron
from .potentials import is_read_by_potential
from .readout import Readout, find_readout
from .unrolled import Unrolled

__all__ = ["Reader"]

_IMAGES = "images"
_RECURRENT = "Recurrent"
_MIXED = (
    "it puts images and spikes together, of which only spikes reach Loihi",
    "let a spiking layer turn images into spikes before they meet others, or let the network read pixels 0 to 255 and scale them "
    "in forward (x / 255), which go to Loihi as they are (input='counts', --input-kind counts)",
)
"""Why a node is refused, and what to do."""
_ARRANGING = ("Concat", "Identity", "Reshape", "Split", "Squeeze", "Transpose", "Unsqueeze")
"""Operators that leave all numbers as they are."""


class Reader:
    """One walk through a graph.

    Args:
        model: with the functions that its graph calls.
        size: of its file in bytes.
        images: whether what comes in has yet to be turned into spikes, by the first spiking layers.
        bits: of what comes in; 0 for spikes.
        numbers: whether any numbers come in.
        output: the name of the graph's output that is read; None for the first.
    """

    def __init__(
        self,
        model: ir.Model,
        size: int,
        *,
        images: bool = False,
        bits: int = 0,
        numbers: bool = False,
        output: str | None = None,
    ) -> None:
        self.graph = model.graph
        self._noted_time, self._still = noted_time(model.metadata_props), images or is_still(model.metadata_props)
        self.budget = Budget(size)
        self.inputs: dict[str, Input] = {}
        self.encoded: dict[str, ir.Value] = {}
        self.populations: list[Population[Neuron]] = []
        self._names = Names(self.graph, self.inputs)
        self._functions = {(function.domain, function.name): function for function in model.functions.values()}
        self._maker = Populations(self.budget)
        self._gates = Gates(self)
        self._values: dict[ir.Value, Value] = {}
        self._spikes: dict[ir.Value, str] = {}  # values that hold a population's spikes, and its name
        self._images = images
        self._bits = bits
        self._numbers = numbers
        self.outputs: tuple[str, ...] = ()
        self.output = self._output(output)
        self.given = self._read_inputs()
        self._unrolled = Unrolled(*self.steps_and_samples)

    # What a whole graph is.

    def read(self) -> Readout | None:
        """Find all populations; what is behind the last spikes, or None if they are the output themselves.

        Raises:
            ConversionError: a node has no counterpart on Loihi; the message names it.
        """
        needed = _ancestors([self.output])
        self._require_read(needed)
        neurons = [node for node in needed if is_neuron(node)]
        before = _ancestors(value for node in neurons for value in node.inputs if value is not None)
        last = [node for node in neurons if node not in before]
        on_host = {node for node in last if is_read_by_potential(node, needed, self.output, self._functions)}
        on_host |= _same_neurons(on_host)
        neurons = [node for node in neurons if node not in on_host]
        before = _ancestors(value for node in neurons for value in node.inputs if value is not None)
        for node in self.graph:
            if node in needed and (node in before or (is_neuron(node) and node not in on_host)):
                self.read_node(node)
        self._join_steps([node for node in needed if node not in before and (node in on_host or not is_neuron(node))])
        if not self.populations:
            raise self._nothing_for_loihi(on_host)
        if self._images and len(self.encoded) == 1:
            self._name_the_only_input()
        names = [each.name for each in self.populations]
        self.outputs, found = find_readout(self.output, self._spikes, self._values, names, lead_axes(*self.steps_and_samples))
        return found

    def _join_steps(self, behind: Iterable[ir.Node]) -> None:
        """Of neurons that the file runs step by step, the values that hold all of their spikes, for ``behind`` on the host."""
        every = self.steps_and_samples[0]
        found = {
            name: (spikes, steps)
            for name, spikes, steps in self._unrolled.finished()
            if self._spikes.pop(steps[0], None) == name  # not a gate, which the file has as something else
        }
        whole = join_steps(self.graph, self._values, found, every, behind)
        self._spikes.update({value: name for name, value in whole.items()})
        if whole:
            origins = {
                name: tuple(str(value.name) for value in steps) if len(steps) == every else None
                for name, (_, steps) in found.items()
            }
            self.populations = [replace(each, origin=origins.get(each.name, each.origin)) for each in self.populations]
            self._find_sequences()

    def _find_sequences(self) -> None:
        """Values that are all time steps of a population's spikes, put together again: as outputs they need no readout."""
        for node in self.graph:
            known = all(value is None or value in self._values or value.const_value is not None for value in node.inputs)
            if not known or not node.outputs or node.outputs[0] in self._values or node.op_type not in _ARRANGING:
                continue
            try:
                self.read_node(node)
            except ConversionError:
                continue
            form = self._values.get(node.outputs[0])
            if not isinstance(form, Form) or form.at is not None or len(form.terms) != 1 or form.has_constant:
                continue
            (term,) = form.terms
            plain = source(term.source, lead_axes(*self.steps_and_samples), term.shape, self.budget)
            alone = (term.delay, term.steps, term.divisor) == (0, (), 1) and term.source in self._names
            if alone and reshaped(plain.axes, form.dims) == form.axes:
                self._spikes[node.outputs[0]] = term.source

    def _nothing_for_loihi(self, on_host: Iterable[ir.Node]) -> ConversionError:
        more = " behind the one that turns images into spikes" if self.encoded else ""
        potentials = ", ".join(sorted(described(node) for node in on_host))
        if potentials:
            return ConversionError(
                f"The model {self.graph.name!r} has no {DOMAIN} neuron for Loihi{more}: of {potentials} the potential is read, "
                "so that it stays on the host; put a spiking layer before it, or take another output."
            )
        return ConversionError(
            f"The model {self.graph.name!r} has no {DOMAIN} neuron{more}: export a network with two spiking layers or more."
            if more
            else f"The model {self.graph.name!r} has no {DOMAIN} neuron: use SpikingJelly's neurons, or let each of your own "
            "be a module that loops over time, and export the network by sj2onnx with an example of three time steps or more."
        )

    def add(self, call: Call, sums: Form, neuron: CubaNeuron, *, shown: bool) -> Form:
        """A population that the file has as another operator, such as a MaxPool; gives its spikes, arranged as ``sums``.

        Args:
            call: of that operator.
            sums: what the population reads.
            neuron: of the population.
            shown: whether its spikes are what the operator gives, so that they can be compared.
        """
        if sums.at is not None:
            finish = partial(self._gate, neuron)
            return self._unrolled.gate(call, sums, neuron, partial(self._names.reserved, call.node), finish)
        return self._gate(neuron, self._names.made(call.node), call, sums, shown=shown)

    def _gate(self, neuron: CubaNeuron, name: str, call: Call, sums: Form, *, shown: bool = False) -> Form:
        made = self._maker.whole(call, name, neuron, sums)
        spikes = source(made.name, lead_axes(*self.steps_and_samples), made.shape, self.budget)
        axes = tuple(map(joined, sums.axes))
        if shown and reshaped(spikes.axes, sums.dims) == axes:
            self._spikes[call.node.outputs[0]] = made.name
        else:
            made = replace(made, origin=None)
        self._keep([made])
        return replace(spikes, axes=axes)

    def is_image(self, form: Form) -> bool:
        """Whether images are in it, which are no spikes."""
        return _is_image(form)

    # Inputs and outputs.

    def _output(self, name: str | None) -> ir.Value:
        outputs = list(self.graph.outputs)
        if not outputs:
            raise ConversionError(f"The model {self.graph.name!r} has no output: export it again.")
        if name is None:
            return outputs[0]
        found = next((value for value in outputs if value.name == name), None)
        if found is None:
            names = ", ".join(str(value.name) for value in outputs)
            raise ConversionError(f"The model has no output {name!r}: choose one of {names}.")
        return found

    def _read_inputs(self) -> list[ir.Value]:
        given = [value for value in self.graph.inputs if value.name not in self.graph.initializers]
        if not given:
            raise ConversionError("The model has no input: export a network that reads spikes.")
        if self._images and len(given) > 1:
            names = ", ".join(repr(value.name) for value in given)
            raise ConversionError(f"The model has {len(given)} inputs ({names}), but images are one: join them before it.")
        leads = {self._read_input(value, len(given)) for value in given}
        if len(leads) > 1:
            raise ConversionError("The model's inputs have different numbers of time steps or samples: give them the same ones.")
        (self.steps_and_samples,) = leads
        return given

    def _require_read(self, needed: set[ir.Node]) -> None:
        for value in self.given:
            if len(self.given) > 1 and not any(use.node in needed for use in value.uses()):
                names = ", ".join(repr(each.name) for each in self.given)
                raise ConversionError(
                    f"The model has {len(self.given)} inputs ({names}), of which {value.name!r} reaches no spiking layer: export "
                    "it without states, or without that input."
                )

    def _read_input(self, value: ir.Value, count: int) -> tuple[int, int]:
        name = _IMAGES if self._images else INPUT if count == 1 else str(value.name)
        found = graph_input(self.graph, value, name, self.budget, noted_time=self._noted_time, still=self._still, count=count)
        self._values[value] = found.form
        if not self._images:
            self.inputs[name] = Input(found.features, self._bits, numbers=self._numbers, repeats=found.repeats)
        return found.steps_and_samples

    def _name_the_only_input(self) -> None:
        """An encoder with one output feeds the network's only input, which has one name."""
        (name,) = self.encoded
        self.encoded = {INPUT: self.encoded[name]}
        self.inputs = {INPUT: self.inputs[name]}
        self.populations = [
            replace(each, edges=tuple(replace(edge, source=INPUT) if edge.source == name else edge for edge in each.edges))
            for each in self.populations
        ]

    # One node.

    def read_node(self, node: ir.Node) -> None:
        inputs = [None if value is None else self.value(value) for value in node.inputs]
        first = inputs[0] if inputs else None
        if is_neuron(node) and isinstance(first, Form | HostValue):
            self._values[node.outputs[0]] = self._spiking(Call(node, inputs, self.budget, self._gates))
            results: tuple[Value, ...] = ()
        elif any(map(_is_image, inputs)) and any(_sources(value) - {_IMAGES} for value in inputs):
            raise refusal(node, *_MIXED)
        elif any(isinstance(value, HostValue) for value in inputs):
            results = self._on_host(node)
        else:
            try:
                results = evaluated(node, inputs, self.budget, self._gates)
            except ConversionError:
                if not any(isinstance(value, Form) for value in inputs) or not all(
                    _sources(value) <= {_IMAGES} for value in inputs if isinstance(value, Form)
                ):
                    raise
                results = self._on_host(node)
        for output, result in zip(node.outputs, results, strict=False):
            self._values[output] = result
        for output in node.outputs[max(len(results), 1) :]:
            self._values[output] = f"it is a further output of {described(node)}"

    def _on_host(self, node: ir.Node) -> tuple[Value, ...]:
        return tuple(HostValue(self._declared(output)) for output in node.outputs)

    def _declared(self, value: ir.Value) -> Shape | None:
        """The dimensions that the file declares, with the stand-ins for T and N."""
        dims = list(value.shape or ())
        if len(dims) < 3 or any(not isinstance(dim, int) for dim in dims[2:]):
            return None
        return (*self.steps_and_samples, *(int(dim) for dim in dims[2:] if isinstance(dim, int)))

    def value(self, value: ir.Value) -> Value:
        if value not in self._values:
            # onnx-ir keeps an initializer's numbers with its value.
            tensor = value.const_value
            try:
                self._values[value] = "it has no origin in the graph" if tensor is None else numbers(tensor)
            except (ValueError, MemoryError) as error:
                self._values[value] = f"the numbers of {value.name!r} are broken ({' '.join(str(error).split())})"
        return self._values[value]

    def keep(self, value: ir.Value, found: Value) -> None:
        """What ``value`` is."""
        self._values[value] = found

    # Neurons.

    def _spiking(self, call: Call) -> Value:
        node = call.node
        first = call.inputs[0]
        try:
            if isinstance(first, HostValue) or _sources(first) & {_IMAGES}:
                if any(is_neuron(use.node) and use.idx for value in node.outputs[1:] for use in value.uses()):
                    call.refuse(
                        "it turns images into spikes step by step, in a loop that feeds spikes back",
                        "let the first spiking layer run over all time steps before the loop, in step mode 'm' on "
                        "x.unsqueeze(0).repeat(T, ...)",
                    )
                return self._encode(call, first)
            form = self._sums(call)
            read = neuron_of(node.op_type.removeprefix(_RECURRENT)) if node.domain == DOMAIN else None
            if read is not None and self._unrolled.is_step(form):
                return self._unrolled.step(call, form, partial(self._names.reserved, node), partial(self._operator, read(call)))
            if read is not None:
                return self._operator(read(call), self._names.made(node), call, form)
            function = self._functions.get((node.domain, node.op_type))
            if function is not None and is_loop(function):
                return self._loop(call, function, form)
        except FormError as error:
            call.refuse(str(error), error.remedy)
        except NetworkError as error:
            call.refuse(str(error), "use layers that fit")
        except ConversionError:
            raise
        except (ValueError, TypeError, IndexError, ArithmeticError, KeyError, AttributeError, MemoryError) as error:
            call.refuse(f"its numbers make no sense ({' '.join(str(error).split()) or type(error).__name__})", "repair the file")
        if node.domain == DOMAIN and part_of(node.op_type):
            call.refuse("it reads real numbers, not the whole sums of a synapse", "train both in one sj2onnx.BlockContainer")
        call.refuse("it has no counterpart on Loihi", "remove it, or put it outside of the exported network")

    def _sums(self, call: Call) -> Form:
        """The input of a neuron: time first, then samples, then their features."""
        form = call.form()
        rank = len(form.axes) - 2
        expected = lead_axes(*self.steps_and_samples)
        if rank < 1 or (form.axes[:2] != expected and not self._unrolled.is_step(form)):
            call.refuse(
                f"its input is [{listed(form.dims)}], not [T, N, {listed(form.features)}]", "put time first, and unfold it"
            )
        order = joined([atom for axis in form.axes[2:] for atom in axis])
        if len(order) > 1 or len(form.features) not in (1, 3):
            return unwound(form, rank)
        return form

    def _operator(self, neuron: CubaNeuron | SpikingNeuron, name: str, call: Call, form: Form) -> Form:
        recurrent = call.node.op_type.startswith(_RECURRENT)
        kind = call.node.op_type.removeprefix(_RECURRENT)
        rest = list(call.inputs[1:])
        if recurrent:
            weight = call.constant(1)
            features = form.features
            if weight.shape != (prod(features),) * 2:
                call.refuse(
                    f"its feedback has the shape {weight.shape} for {listed(features)} neurons",
                    "give one weight to each from each",
                )
            feedback = Term(name, features, 1, (Dense(np.ascontiguousarray(weight.T)),))
            rest = rest[1:]
        bias = None
        if isinstance(neuron, CubaNeuron) and rest:
            if rest[0] is not None:
                bias = aligned(form, call.constant(1 + recurrent))
            rest = rest[1:]
        if kind == HETEROGENEOUS_CUBA_LIF.name and isinstance(neuron, CubaNeuron):
            values = (arranged(aligned(form, np.asarray(each)), form.features) for _, each in neuron.parameters())
            neuron = CubaNeuron(*(each.astype(np.int32) for each in values))
            rest = rest[3:]
        resting = getattr(neuron, "v_reset", 0.0) or 0.0
        if any(value is not None and not _are_all(value, resting) for value in rest):
            call.refuse(
                "it starts from given states, but Loihi's neurons start from the reset potential",
                "export the network without states, without values set to a neuron's v, and with each neuron used once",
            )
        if isinstance(neuron, SpikingNeuron):
            real, form = float_neuron(call, neuron, form)
            if recurrent and neuron.decay_input:
                feedback = replace(feedback, steps=(Dense(feedback.steps[0].weight * neuron.decay),))  # type: ignore[union-attr]
            form = replace(form, terms=(*form.terms, feedback)) if recurrent else form
            return self._added(call, self._maker.real(call, name, real, form), call.form().dims)
        form = replace(form, terms=(*form.terms, feedback)) if recurrent else form
        return self._added(call, [self._maker.whole(call, name, neuron, form, bias)], call.form().dims)

    def _loop(self, call: Call, function: ir.Function, form: Form) -> Form:
        found = read_loop(call, function, form)
        name = self._names.made(call.node)
        feedback = tuple(replace(term, source=name, delay=1) for term in found.feedback)
        sums = replace(found.sums, terms=(*found.sums.terms, *feedback))
        populations = self._maker.real(call, name, found.neuron, sums, found.bias)
        return self._added(call, populations, (*form.dims[:2], *found.dims))

    def _added(self, call: Call, populations: Sequence[Population[Neuron]], dims: Shape) -> Form:
        """The spikes of the last of some new populations, which has the dimensions ``dims`` in the graph."""
        self._keep(populations)
        population = populations[-1]
        self._spikes[call.node.outputs[0]] = population.name
        spikes = source(population.name, lead_axes(*self.steps_and_samples), population.shape, self.budget)
        axes = reshaped(spikes.axes, dims)
        assert axes is not None
        return replace(spikes, axes=axes)

    def _keep(self, populations: Sequence[Population[Neuron]]) -> None:
        self.populations += populations
        for each in populations:
            self._names.of_population(each.name)

    def _encode(self, call: Call, first: Value | None) -> Value:
        """The first spiking layers make spikes of images, on the host."""
        if isinstance(first, Form) and _sources(first) != {_IMAGES}:
            call.refuse(*_MIXED)
        declared = self._declared(call.node.outputs[0])
        if isinstance(first, Form):
            declared = first.dims if first.axes[:2] == lead_axes(*self.steps_and_samples) else declared
        elif isinstance(first, HostValue) and declared is None:
            declared = first.dims
        if declared is None:
            dims = [dim if isinstance(dim, int) else str(dim) for dim in call.node.outputs[0].shape or ()]
            if len(dims) > 2:
                call.refuse(
                    f"its spikes are [{', '.join(map(str, dims))}], not [T, N, *]: samples stand where features do",
                    "let each neuron get time first and samples second, and export again",
                )
            call.refuse(
                "it turns images into spikes of a shape that the file does not say",
                "run onnx.shape_inference on the file, or export it with sj2onnx",
            )
        name = self._names.made(call.node)
        shape = natural(declared[2:])
        self.inputs[name] = Input(shape, origin=call.node.outputs[0].name)
        self.encoded[name] = call.node.outputs[0]
        return source(name, lead_axes(*self.steps_and_samples), shape, self.budget, declared[2:])


def _same_neurons(nodes: Iterable[ir.Node]) -> set[ir.Node]:
    """The nodes of earlier time steps of the same neurons, which hold on to each other by their states."""
    found: set[ir.Node] = set()
    waiting = list(nodes)
    while waiting:
        node = waiting.pop()
        before = [None if value is None else value.producer() for value in node.inputs[1:]]
        more = [each for each in before if each is not None and is_neuron(each) and each not in found]
        found.update(more)
        waiting += more
    return found


def _are_all(value: Value, number: float) -> bool:
    if isinstance(value, Filled):
        return value.value == number
    return isinstance(value, np.ndarray) and bool((value == number).all())


def _is_image(value: Value | None) -> bool:
    return isinstance(value, HostValue) or _IMAGES in _sources(value)


def _sources(value: Value | None) -> set[str]:
    return {term.source for term in value.terms} if isinstance(value, Form) else set()


def _ancestors(values: Iterable[ir.Value]) -> set[ir.Node]:
    """All nodes that ``values`` are made of."""
    found: set[ir.Node] = set()
    waiting = list(values)
    while waiting:
        node = waiting.pop().producer()
        if node is not None and node not in found:
            found.add(node)
            waiting += [each for each in node.inputs if each is not None]
    return found
