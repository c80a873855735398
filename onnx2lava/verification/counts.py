"""What is counted of one population in all runtimes; counts of different samples add up."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from ..errors import ConversionError
from ..network import Array

__all__ = ["FLOAT", "FLOAT_NATIVE", "Disagreement", "LayerCheck", "added", "compared"]

FLOAT = "float"
"""How the file is called among the runtimes if it is made of float neurons: what it loses by quantisation is no mismatch."""
FLOAT_NATIVE = "float-native"
"""The same file with the native operators in the place of its own function bodies, with which it must agree."""


@dataclass(frozen=True, order=True)
class Disagreement:
    """Where two runtimes part for the first time: the earliest time step, of several the first sample, then neuron.

    Args:
        step: time step.
        sample: sample.
        neuron: index in the flattened population.
        runtime: which runtime differs from its reference.
    """

    step: int
    sample: int
    neuron: int
    runtime: str


@dataclass(frozen=True)
class LayerCheck:
    """One population in all runtimes.

    Args:
        name: of the population.
        reference: the runtime that the others were compared with: the first that shows it. :data:`FLOAT_NATIVE` was compared
            with :data:`FLOAT`.
        size: neurons times time steps times samples, in each of which runtimes agree or not.
        counts: the spikes of each runtime that shows it.
        mismatches: by runtime, in how many neurons, steps and samples it differs; without those that do not show it.
        different: neurons, steps and samples in which any runtime differs, each counted once.
        first: where the first of them is; None where there is none.
        agreeing: neurons, steps and samples in which the float network equals the reference; None where there was none, or its
            file does not show the population.
        per_step: spikes at each time step, of the float network and of the reference.
    """

    name: str
    reference: str
    size: int
    counts: Mapping[str, int]
    mismatches: Mapping[str, int]
    different: int
    first: Disagreement | None
    agreeing: int | None
    per_step: Mapping[str, tuple[int, ...]] = field(repr=False)

    @property
    def spikes(self) -> int:
        """Those of the reference."""
        return self.counts[self.reference]

    @property
    def rate(self) -> float:
        """Spikes of the reference per neuron, time step and sample."""
        return self.spikes / self.size

    @property
    def float_rate(self) -> float | None:
        """The rate before quantisation; None as ``agreeing``."""
        return None if self.agreeing is None else self.counts[FLOAT] / self.size

    @property
    def agreement(self) -> float | None:
        """Share of neurons, time steps and samples in which the float network equals the reference; None as ``agreeing``."""
        return None if self.agreeing is None else self.agreeing / self.size


def compared(name: str, spikes: Mapping[str, Array], first_sample: int = 0) -> LayerCheck:
    """Compare one population in all runtimes that show it, at least one beside the float network.

    Args:
        name: of the population.
        spikes: by runtime, ``[T, N, *shape]``.
        first_sample: the number of the first of the N samples.
    """
    before = {runtime: values for runtime, values in spikes.items() if runtime in (FLOAT, FLOAT_NATIVE)}
    after = {runtime: values for runtime, values in spikes.items() if runtime not in before}
    mismatches: dict[str, int] = {}
    differs = np.zeros(1, np.bool_)
    found: list[Disagreement] = []
    for group in (before, after):
        if not group:
            continue
        reference, *others = group
        for runtime in others:
            different = group[runtime] != group[reference]
            mismatches[runtime] = int(np.count_nonzero(different))
            if mismatches[runtime]:
                differs = differs | different
                found.append(_first(different, runtime, first_sample))
    reference = next(iter(after))
    shown = {runtime: spikes[runtime] for runtime in (FLOAT, reference) if runtime in spikes}
    return LayerCheck(
        name=name,
        reference=reference,
        size=int(after[reference].size),
        counts={runtime: int(np.count_nonzero(values)) for runtime, values in spikes.items()},
        mismatches=mismatches,
        different=int(np.count_nonzero(differs)),
        first=min(found, default=None),
        agreeing=int(np.count_nonzero(before[FLOAT] == after[reference])) if FLOAT in before else None,
        per_step={
            runtime: tuple(int(np.count_nonzero(values[step])) for step in range(len(values)))
            for runtime, values in shown.items()
        },
    )


def added(one: LayerCheck, other: LayerCheck) -> LayerCheck:
    """What both have counted, of different samples.

    Raises:
        ConversionError: they counted other things: another population, other runtimes, other time steps.
    """
    alike = (one.name, one.reference, set(one.counts), set(one.mismatches), one.agreeing is None)
    steps = {len(values) for each in (one, other) for values in each.per_step.values()}
    if alike != (other.name, other.reference, set(other.counts), set(other.mismatches), other.agreeing is None) or len(steps) > 1:
        raise ConversionError(
            f"The parts have counted different things in {one.name!r} and {other.name!r}: verify them with the same network, "
            "runtimes and time steps."
        )
    return LayerCheck(
        name=one.name,
        reference=one.reference,
        size=one.size + other.size,
        counts={runtime: count + other.counts[runtime] for runtime, count in one.counts.items()},
        mismatches={runtime: count + other.mismatches[runtime] for runtime, count in one.mismatches.items()},
        different=one.different + other.different,
        first=min((each.first for each in (one, other) if each.first is not None), default=None),
        agreeing=None if one.agreeing is None or other.agreeing is None else one.agreeing + other.agreeing,
        per_step={
            runtime: tuple(a + b for a, b in zip(values, other.per_step[runtime], strict=True))
            for runtime, values in one.per_step.items()
        },
    )


def _first(different: Array, runtime: str, first_sample: int) -> Disagreement:
    flat = different.reshape(*different.shape[:2], -1)
    step = int(flat.any(axis=(1, 2)).argmax())
    sample, neuron = (int(index) for index in np.argwhere(flat[step])[0])
    return Disagreement(step, first_sample + sample, neuron, runtime)
