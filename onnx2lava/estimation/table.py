"""An estimate as a table, sentences below it, and numbers for programs."""

from dataclasses import asdict
from typing import Any

from ..verification.sheet import Sheet
from .cost import Estimate

__all__ = ["estimate_notes", "estimate_numbers", "estimate_table"]


def estimate_table(found: Estimate, title: str) -> Sheet:
    """A row per population, all for one sample."""
    columns = ("layer", "neurons", "spikes", "rate", "synaptic operations", "neuron updates", "axons", "cores", "energy nJ")
    rows = [
        [
            each.name,
            f"{each.neurons:,}",
            _count(each.spikes),
            f"{each.rate:.4f}",
            _count(each.synaptic_events),
            f"{each.updates:,}",
            _range(*each.axons),
            _range(*each.cores),
            _energy(each.joules),
        ]
        for each in found.layers
    ]
    neurons, updates = sum(each.neurons for each in found.layers), sum(each.updates for each in found.layers)
    axons = [sum(each.axons[end] for each in found.layers) for end in range(2)]
    total = [
        *("all", f"{neurons:,}", _count(found.spikes), f"{found.spikes / updates:.4f}", _count(found.synaptic_events)),
        *(f"{updates:,}", _range(*axons), _range(*found.cores), _energy(found.joules)),
    ]
    return Sheet(f"{title}: a sample of {found.steps} time steps, the mean of {found.samples:,}", columns, rows, [total])


def estimate_notes(found: Estimate) -> list[str]:
    """What came in, how long it takes, and where the energy comes from."""
    given = " and ".join(f"{_count(spikes)} spikes of {name!r}" for name, spikes in found.inputs.items())
    figures = found.figures
    return [
        f"A sample brings {given}, and takes {found.steps} time steps; its last output comes after {found.latency}.",
        f"Spikes and synaptic operations were counted in {found.runtime}: they are exact for this input. A synaptic operation is "
        "a synapse, of a weight that is not 0, that a spike passed.",
        "axons, cores: an estimate; the larger number where a layer is spread over cores, each connection stored for itself.",
        f"energy: {figures.synaptic * 1e12:g} pJ a synaptic operation, {figures.idle * 1e12:g} … {figures.active * 1e12:g} pJ a "
        f"neuron update, {figures.spike * 1e12:g} pJ a spike and core ({figures.source}). {figures.limits}",
    ]


def estimate_numbers(found: Estimate) -> dict[str, Any]:
    """Everything, and the sums over all layers."""
    return {
        **asdict(found),
        "total": {
            "spikes": found.spikes,
            "synaptic_events": found.synaptic_events,
            "cores": list(found.cores),
            "joules": list(found.joules),
        },
        "notes": estimate_notes(found),
    }


def _count(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 or value == int(value) else f"{value:,.1f}"


def _range(low: int, high: int) -> str:
    return f"{low:,}" if low == high else f"{low:,} … {high:,}"


def _energy(joules: tuple[float, float]) -> str:
    return " … ".join(f"{each * 1e9:,.3g}" if each < 1e-6 else f"{each * 1e9:,.0f}" for each in joules)
