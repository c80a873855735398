"""Walk through a NIR graph and find its populations."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np
import onnx_ir as ir

from ...errors import ConversionError, NetworkError
from ...network import INPUT, OUTPUT, Array, CubaNeuron, Input, Network, Neuron, Population, Shape
from ..axes import SAMPLES, STEPS
from ..budget import Budget, BudgetError
from ..call import Call
from ..form import Form, FormError, added, arranged, lead_axes, natural, scaled, source, unwound
from ..populations import Populations
from .content import Content, Node, content_of
from .maps import MAPS, array
from .neurons import dynamics_of, is_neuron
from .order import ranks
from .producers import DT, producer

__all__ = ["read_nir"]

_LEAD = lead_axes(STEPS, SAMPLES)


def read_nir(model: Any, *, dt: float | None = None, producer: str = "spikingjelly") -> Network[Neuron]:
    """The network in a NIR graph, in real numbers.

    Args:
        model: the path of a ``.nir`` file, or a ``nir.NIRGraph``.
        dt: seconds of a time step; 1e-4 by default, as NIR's own importers have it.
        producer: whose steps the numbers mean, one of :data:`PRODUCERS`.

    Raises:
        ModelFileError: the file is missing or broken.
        ConversionError: a node has no counterpart on Loihi; the message names it.
        NetworkError: the nodes contradict each other.
    """
    content = content_of(model)
    return _Reader(content, _noted_dt(content) if dt is None else dt, producer).network()


def _noted_dt(content: Content) -> float:
    """The time step that ``to_nir`` noted, or the usual one."""
    noted = content.metadata.get("dt")
    found = np.asarray(noted).reshape(-1) if content.metadata.get("producer") == "sj2lava" else np.zeros(0)
    return float(found[0]) if found.size == 1 and found.dtype.kind == "f" else DT


class _Reader:
    def __init__(self, content: Content, dt: float, by: str) -> None:
        if not 0 < dt < np.inf:
            raise ConversionError(f"The time step dt is {dt:g} s, but must be above 0: NIR's importers use 1e-4.")
        self._content, self._dt, self._how = content, dt, producer(by)
        self._budget = Budget(content.size)
        self._maker = Populations(self._budget)
        self._inputs = [name for name, node in content.nodes.items() if node.type == "Input" and "." not in name]
        if not self._inputs:
            raise ConversionError(f"The NIR graph {content.name!r} has no Input node: write it again with one.")
        self._ranks = ranks(content.nodes, content.edges, self._inputs)
        self._read: dict[str, list[str]] = {name: [] for name in content.nodes}
        for origin, target in content.edges:
            self._read[target].append(origin)
        self._forms: dict[tuple[str, bool], Form] = {}
        self._open: set[tuple[str, bool]] = set()

    def network(self) -> Network[Neuron]:
        nodes = self._content.nodes
        inputs = {self._name(name): Input(natural(self._given(nodes[name])), self._bits(name)) for name in self._inputs}
        populations: list[Population[Neuron]] = []
        reached = self._reached()
        for name in sorted(reached, key=self._ranks.__getitem__):
            if is_neuron(nodes[name].type):
                populations += self._populations(nodes[name])
        if not populations:
            raise ConversionError(f"The NIR graph {self._content.name!r} has no spiking neurons before its output.")
        outputs = tuple(dict.fromkeys(self._fired(name) for name in reached if nodes[name].type == "Output" and "." not in name))
        return Network(self._content.name, inputs, tuple(populations), outputs)

    def _reached(self) -> list[str]:
        """The nodes that an output is made of, and the outputs."""
        outputs = [name for name, node in self._content.nodes.items() if node.type == "Output" and "." not in name]
        if not outputs:
            raise ConversionError(f"The NIR graph {self._content.name!r} has no Output node: write it again with one.")
        found, waiting = dict.fromkeys(outputs), list(outputs)
        while waiting:
            for each in self._read[waiting.pop()]:
                if each not in found:
                    found[each] = None
                    waiting.append(each)
        return list(found)

    def _name(self, name: str) -> str:
        """Of an input or a population: what a graph calls its node, but where that is the name of our input or output."""
        kept = self._noted(name)
        if isinstance(kept.get("name"), str):
            return str(kept["name"])
        if name in self._inputs:
            return INPUT if len(self._inputs) == 1 else name
        return f"{name}/{self._content.nodes[name].type}" if name in (INPUT, OUTPUT) else name

    def _noted(self, name: str) -> Mapping[str, Any]:
        """What the graph notes of a node beside its numbers."""
        found = self._content.nodes[name].fields.get("metadata")
        return found if isinstance(found, dict) else {}

    def _bits(self, name: str) -> int:
        """Of the counts that come in, which only ``to_nir`` notes."""
        found = np.asarray(self._noted(name).get("bits", 0)).reshape(-1)
        return int(found[0]) if found.size == 1 and found.dtype.kind in "iu" and 0 <= found[0] <= 24 else 0

    def _given(self, node: Node) -> Shape:
        """The features of an Input node."""
        fields = node.fields
        shape = fields.get("shape", fields.get("input_type"))
        values = array(self._call(node), replace(node, fields={"shape": shape}), "shape").reshape(-1)
        if values.size > 3 or (values < 1).any() or (values >= 2**31).any():
            self._call(node).refuse(f"its shape is {values.tolist()}", "give it one to three axes, without time and batch")
        return tuple(int(value) for value in values)

    def _call(self, node: Node) -> Call:
        """What refuses in the name of a node."""
        shown = ir.Node("nir", node.type, [], outputs=[ir.Value(name=node.name)], name=node.name)
        return Call(shown, [], self._budget)

    def _fired(self, output: str) -> str:
        """The population whose spikes an Output node gives."""
        name = output
        while self._content.nodes[name].type in ("Output", "Flatten", "Input") and len(self._read[name]) == 1:
            (name,) = self._read[name]
        if not is_neuron(self._content.nodes[name].type):
            self._call(self._content.nodes[output]).refuse(
                f"what it gives is not the spikes of one layer, but comes from {name!r} ({self._content.nodes[name].type})",
                "end the graph with spiking neurons, and compute what follows on the host",
            )
        return self._name(name)

    # Forms.

    def _form(self, name: str, whole: bool = True) -> Form:
        """What a node gives; without what closes loops if not ``whole``, which is enough to know its shape."""
        key = (name, whole)
        if key not in self._forms:
            node = self._content.nodes[name]
            if key in self._open:
                self._call(node).refuse("it is in a loop without neurons", "let the loop go through a spiking layer")
            self._open.add(key)
            call = self._call(node)
            try:
                self._forms[key] = self._computed(call, node, whole)
            except FormError as error:
                call.refuse(str(error), error.remedy)
            except BudgetError as error:
                call.refuse(str(error), "choose smaller layers")
            except NetworkError as error:
                call.refuse(str(error), "use layers that fit")
            except RecursionError:
                call.refuse("it stands behind too many layers without neurons", "use fewer of them")
            except (ValueError, TypeError, IndexError, ArithmeticError, MemoryError) as error:
                call.refuse(f"its numbers make no sense ({' '.join(str(error).split())})", "repair the file")
            self._open.discard(key)
        return self._forms[key]

    def _computed(self, call: Call, node: Node, whole: bool) -> Form:
        if node.name in self._inputs:
            given = self._given(node)
            return source(self._name(node.name), _LEAD, natural(given), self._budget, given)
        if is_neuron(node.type):
            return self._spikes(call, node)
        form = self._sums(call, node, whole)
        if node.type in ("Input", "Output"):
            return form
        if node.type not in MAPS:
            call.refuse("it has no counterpart on Loihi", "remove it, or put it outside of the network")
        mapped: Form = MAPS[node.type](call, node, form, self._dt)
        return mapped

    def _sums(self, call: Call, node: Node, whole: bool) -> Form:
        """The sum of all that comes in; through an edge that closes a loop come the spikes of the step before."""
        total: Form | None = None
        for name in self._read[node.name]:
            late = self._ranks[name] >= self._ranks[node.name]
            if late and not whole:
                continue
            form = self._form(name, whole)
            if late:
                # A constant in the loop is there from the first step on.
                form = replace(form, terms=tuple(replace(term, delay=term.delay + 1) for term in form.terms))
            total = form if total is None else added(total, form)
        if total is None:
            call.refuse("nothing leads to it", "connect it, or take it out of the graph")
        return total

    def _spikes(self, call: Call, node: Node) -> Form:
        given = self._parameters(node)
        if prod(given) == 1:  # one number for a layer of any size
            given = self._sums(call, node, whole=False).dims[len(_LEAD) :]
        return source(self._name(node.name), _LEAD, natural(given), self._budget, given)

    def _parameters(self, node: Node) -> Shape:
        """The shape of a layer's numbers."""
        sizes = [np.shape(value) for value in node.fields.values() if isinstance(value, np.ndarray)]
        return max(sizes, key=prod, default=())

    # Populations.

    def _populations(self, node: Node) -> Sequence[Population[Neuron]]:
        call = self._call(node)
        spikes = self._form(node.name)
        try:
            form = self._sums(call, node, whole=True)
            dims = spikes.dims[len(_LEAD) :]
            if form.dims != spikes.dims and prod(form.dims) == prod(spikes.dims):
                form = arranged(form, spikes.dims)
            dynamics = dynamics_of(call, node, self._how, self._dt)
            form = scaled(form, _for_each(dynamics.gain))
            features = natural(dims)
            form = unwound(form, len(dims), features)
            bias = np.broadcast_to(_for_each(dynamics.bias), dims).reshape(features)
            if isinstance(dynamics.neuron, CubaNeuron):
                return (self._maker.whole(call, self._name(node.name), dynamics.neuron, form, bias),)
            return self._maker.real(call, self._name(node.name), dynamics.neuron, form, bias)
        except FormError as error:
            call.refuse(str(error), error.remedy)
        except BudgetError as error:
            call.refuse(str(error), "choose smaller layers")
        except NetworkError as error:
            call.refuse(str(error), "use layers that fit")
        except (ValueError, TypeError, IndexError, ArithmeticError, MemoryError) as error:
            call.refuse(f"its numbers make no sense ({' '.join(str(error).split())})", "repair the file")


def _for_each(values: Array) -> Array:
    return values.reshape(-1)[:1] if (values == values.flat[0]).all() else values
