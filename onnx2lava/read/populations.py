"""A form and a neuron are a population: each term becomes an edge, the constant its bias."""

from collections.abc import Sequence
from dataclasses import replace
from math import prod

import numpy as np

from custom_ops.loihi import DECAY_UNIT
from custom_ops.operators import SpikingNeuron

from ..network import Array, CubaNeuron, Dense, Edge, FloatNeuron, Map, Population, Shape
from .budget import Budget, BudgetError
from .call import Call
from .compose import added, composed
from .form import Form, Term, common_divisor, scaled
from .steps import Step

__all__ = ["Populations", "arranged", "float_neuron"]


class Populations:
    """Makes populations, and keeps the maps that it made: the same steps are the same map.

    Args:
        budget: of the file.
    """

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._maps: dict[object, tuple[Map, Shape, Sequence[Step]]] = {}

    def real(
        self, call: Call, name: str, neuron: FloatNeuron, form: Form, bias: Array | None = None
    ) -> tuple[Population[FloatNeuron], ...]:
        """A population of real numbers, whose sums are ``form``, behind one that never rests where its current integrates a
        constant; ``bias`` goes to its voltage.

        Sums are counted in units that keep what pools divide by out of the weights, see :class:`~.form.Term`.
        """
        unit = common_divisor(form)
        edges = self._edges(call, name, form, unit, whole=False)
        neuron = replace(neuron, v_threshold=neuron.v_threshold * unit)
        total, before = np.zeros(1) if bias is None else bias * unit, []
        constant = form.numerator * (unit / form.divisor)
        if neuron.i_decay == 1:
            total = total + constant
        elif form.has_constant:
            before = [_always(f"{name}/always", next((term for term in form.terms if term.source != name), form.terms[0]))]
            edges = (*edges, _steady(before[0].name, constant, form.features))
        own = Population(name, form.features, neuron, edges, _bias(total, form.features), _origin(call))
        return *before, own

    def whole(self, call: Call, name: str, neuron: CubaNeuron, form: Form, bias: Array | None = None) -> Population[CubaNeuron]:
        """A population of Loihi's integers, whose sums are ``form``; ``bias`` goes to its voltage.

        A synapse's bias enters the current u, not the voltage v. Where u keeps nothing from step to step, that is the same.
        """
        if form.has_constant and np.any(np.asarray(neuron.i_decay) != DECAY_UNIT):
            call.refuse("its synapse has a bias, which its current would integrate", "give the bias to the neuron instead")
        total = form.constant if bias is None else form.constant + bias
        edges = self._edges(call, name, form, 1, whole=True)
        own = _bias(_integers(call, "bias", total), form.features)
        return Population(name, form.features, neuron, edges, own, _origin(call))

    def _edges(self, call: Call, name: str, form: Form, unit: int, whole: bool) -> tuple[Edge, ...]:
        edges: list[Edge] = []
        for term in form.terms:
            self._budget.work(0, len(edges))
            one, reads = self._map(call, term, unit, whole)
            shape = term.shape
            for i, edge in enumerate(edges):
                if (edge.source, edge.delay, edge.reads) == (term.source, term.delay, _if_other(reads, shape)):
                    both = added(edge.map, one)
                    if both is not None:
                        edges[i] = Edge(edge.source, _as_whole(call, both) if whole else both, edge.delay, edge.reads)
                        break
            else:
                edges.append(Edge(term.source, one, term.delay, _if_other(reads, shape)))
        with_weight = [edge for edge in edges if edge.map.weight.any()]
        if not edges:
            call.refuse("it reads no spikes, only a constant", "remove the layer, whose spikes do not depend on the input")
        return tuple(with_weight or edges[:1])

    def _map(self, call: Call, term: Term, unit: int, whole: bool) -> tuple[Map, Shape]:
        factor = unit / term.divisor
        key = (tuple(id(step) for step in term.steps), term.shape, factor, whole)
        if key not in self._maps:
            try:
                one, reads = composed(term.steps, term.shape, self._budget)
                if factor != 1:
                    self._budget.take(one.weight.size)
                    one = _with_weight(one, one.weight.astype(np.float64) * factor)
            except BudgetError as error:
                call.refuse(
                    f"what stands before it is no single convolution, and {error}",
                    "choose sizes that pooling divides evenly, or put a neuron between",
                )
            if whole:
                one = _as_whole(call, one)
            self._maps[key] = (one, reads, term.steps)  # the steps stay alive, and so do their identities
        one, reads, _ = self._maps[key]
        return one, reads


def float_neuron(call: Call, neuron: SpikingNeuron, form: Form) -> tuple[FloatNeuron, Form]:
    """The neuron counted from its reset, and the sums that it then reads.

    SpikingJelly's neurons start from ``v_reset``, return to it after a spike and leak towards it: counted from there, the
    threshold is ``v_threshold - v_reset``. A leak that takes a share of the input as well, ``v + (x - (v - v_reset)) / tau``, is
    one with sums that are ``1 / tau`` of what they were.

    Raises:
        ConversionError: its reset is soft, or it fires without input.
    """
    if neuron.v_reset is None:
        call.refuse("it resets by subtraction (v_reset=None), but neurons of Loihi reset to one value", "train with v_reset=0.0")
    threshold = neuron.v_threshold - neuron.v_reset
    if not threshold > 0:
        call.refuse(
            f"its threshold {neuron.v_threshold:g} is not above its reset {neuron.v_reset:g}, so that it fires without input",
            "train with a threshold above the reset",
        )
    if neuron.decay_input:
        form = scaled(form, np.full(1, neuron.decay))
    return FloatNeuron(neuron.decay, threshold), form


def _always(name: str, term: Term) -> Population[FloatNeuron]:
    """One neuron that fires at every step, whatever it hears: what a current integrates at every step comes as its spikes."""
    silent = Edge(term.source, Dense(np.zeros((1, prod(term.shape)))), term.delay)
    return Population(name, (1,), FloatNeuron(0.0, 1.0), (silent,), np.ones(1))


def _steady(source: str, constant: Array, features: Shape) -> Edge:
    return Edge(source, Dense(np.array(np.broadcast_to(constant, features)).reshape(-1, 1)))


def _origin(call: Call) -> str | None:
    return call.node.outputs[0].name


def _if_other(reads: Shape, shape: Shape) -> Shape | None:
    return None if reads == shape or (len(reads) == 1 and reads == (prod(shape),)) else reads


def _bias(constant: Array, features: Shape) -> Array | None:
    """As :func:`arranged`; None where it is zero."""
    return arranged(constant, features) if constant.any() else None


def arranged(constant: Array, features: Shape) -> Array:
    """Numbers of neurons, ``[C]`` where it is one number per channel, else of the shape ``features``."""
    if constant.ndim == len(features) and all(size == 1 for size in constant.shape[1:]):
        return np.broadcast_to(constant.reshape(-1), features[:1])
    whole = np.broadcast_to(constant, features)
    if (whole == whole.reshape(features[0], -1)[:, :1].reshape(-1, *[1] * (len(features) - 1))).all():
        return np.ascontiguousarray(whole.reshape(features[0], -1)[:, 0])
    return whole


def _as_whole(call: Call, one: Map) -> Map:
    return _with_weight(one, _integers(call, "weights", one.weight))


def _with_weight(one: Map, weight: Array) -> Map:
    return replace(one, weight=weight)


def _integers(call: Call, what: str, values: Array) -> Array:
    """``values`` as int32.

    Raises:
        ConversionError: they are not whole numbers.
    """
    whole = np.rint(values)
    if not (whole == values).all() or not float(np.abs(whole).max(initial=0)) < 2**31:
        call.refuse(f"its {what} are not whole numbers", "train it with sj2onnx.BlockContainer, which quantises")
    return whole.astype(np.int32)
