"""Neurons of which a file has one node for each time step, as Python's loops over time leave them.

The nodes of one neuron hold on to each other by their states. What each of them reads is a value of its time step and of earlier
ones: spikes that come back, inputs that come late. Where all of them read the same, counted from their own step, they are one
population, with edges that are so many steps late.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import onnx_ir as ir

from ..network import CubaNeuron
from .axes import joined
from .call import Call
from .form import Form, Term, at_step, ending_at, lead_axes, with_constant
from .one_step import same_at_its_step

__all__ = ["Unrolled"]


@dataclass(eq=False)
class _Neuron:
    """One neuron.

    Args:
        name: of its population.
        finish: makes that, from its name, a call with the input of all time steps, and that input.
        calls: of its nodes, one for each time step so far.
        sums: what those read.
        spikes: of all time steps, behind the last of them.
    """

    name: str
    finish: Callable[[str, Call, Form], Form]
    calls: list[Call] = field(default_factory=list)
    sums: list[Form] = field(default_factory=list)
    spikes: Form | None = None


class Unrolled:
    """All such neurons of a graph.

    Args:
        steps: how many time steps the graph's input has.
        samples: how many samples, or the stand-in for them.
    """

    def __init__(self, steps: int, samples: int) -> None:
        self._steps, self._lead = steps, lead_axes(steps, samples)
        self._neurons: list[_Neuron] = []
        self._gates: dict[tuple[str, CubaNeuron], list[_Neuron]] = {}
        self._of: dict[ir.Value, _Neuron] = {}  # states behind a step, and the neuron that they belong to

    def is_step(self, form: Form) -> bool:
        """Whether a neuron that reads ``form`` is run for one time step of several."""
        return (form.at is not None or not form.terms) and self._steps > 1 and form.axes[:2] == ((), self._lead[1])

    def step(self, call: Call, form: Form, name: Callable[[], str], finish: Callable[[str, Call, Form], Form]) -> Form:
        """The spikes of one time step of a neuron.

        Args:
            call: of its node, in whose inputs states come last.
            form: its input at that time step.
            name: makes up the name of its population.
            finish: see :class:`_Neuron`; called behind the last time step.
        """
        neuron = next((self._of[value] for value in call.node.inputs if value in self._of), None)
        if neuron is None:
            neuron = self._begun(name(), finish)
        self._of.update(dict.fromkeys(call.node.outputs[1:], neuron))
        return self._next(neuron, call, form)

    def gate(
        self, call: Call, form: Form, kind: CubaNeuron, name: Callable[[], str], finish: Callable[[str, Call, Form], Form]
    ) -> Form:
        """Likewise for a neuron that the file has as another operator, without states: known by what it is and reads."""
        key = (call.node.op_type, kind)
        form = replace(form, axes=((), *form.axes))
        neuron = next((each for each in self._gates.get(key, ()) if _goes_on(each, form)), None)
        if neuron is None:
            neuron = self._begun(name(), finish)
            self._gates.setdefault(key, []).append(neuron)
        spikes = self._next(neuron, call, form)
        return replace(spikes, axes=spikes.axes[1:])

    def finished(self) -> Iterator[tuple[str, Form, list[ir.Value]]]:
        """The populations, each with its spikes and the values of the graph that hold those of one time step each.

        These may be fewer than there are time steps, where nothing reads the last spikes.

        Raises:
            ConversionError: a neuron does something else in one time step than in another.
        """
        for each in self._neurons:
            yield each.name, self._whole(each), [call.node.outputs[0] for call in each.calls]

    def _begun(self, name: str, finish: Callable[[str, Call, Form], Form]) -> _Neuron:
        self._neurons.append(_Neuron(name, finish))
        return self._neurons[-1]

    def _next(self, neuron: _Neuron, call: Call, form: Form) -> Form:
        step = len(neuron.calls)
        if (form.at or 0) > step or step == self._steps:
            call.refuse("it is not run once for each time step, from the first one on", "run each neuron once in each time step")
        sums = at_step(form, step)
        neuron.calls.append(call)
        neuron.sums.append(sums)
        if step + 1 == self._steps:
            self._whole(neuron)
        spikes = replace(sums, axes=tuple(map(joined, sums.axes)), terms=(Term(neuron.name, sums.features),))
        return with_constant(spikes, np.zeros((1,) * len(sums.features)))

    def _whole(self, neuron: _Neuron) -> Form:
        """The spikes of all time steps, of the population that is made where it is not yet."""
        if neuron.spikes is None:
            first, last = neuron.calls[0], neuron.sums[-1]
            for step, sums in enumerate(neuron.sums):
                if not same_at_its_step(last, sums):
                    neuron.calls[step].refuse(
                        f"it reads something else in time step {step} than in the last one",
                        "let each time step do the same, from a state of zeros on (h = torch.zeros(...))",
                    )
            whole = ending_at(replace(last, at=None), self._steps)
            neuron.spikes = neuron.finish(
                neuron.name, Call(first.node, [whole, *first.inputs[1:]], first.budget, first.gates), whole
            )
        return neuron.spikes


def _goes_on(neuron: _Neuron, form: Form) -> bool:
    """Whether this is what the next step of a neuron would read."""
    return len(neuron.calls) == form.at and same_at_its_step(form, neuron.sums[-1])
