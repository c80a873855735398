"""What the command line shows: tables of networks and of verifications, and sentences below them."""

from typing import Any

import numpy as np
import onnx

from custom_ops.loihi import CORES_PER_CHIP, NEURONS_PER_CORE, SYNAPTIC_MEMORY

from ..network import CubaNeuron, Dense, Edge, FloatNeuron, Network, Population
from ..quantization import QuantizationReport, layer_scales
from ..quantization.integers import weight_bits
from ..read.netx import NOTES
from ..targets import TARGETS
from ..targets.lava import Relay, plan
from ..targets.limits import chip, loihi
from .chip import CoreEstimate, estimate, estimate_all
from .counts import FLOAT, FLOAT_NATIVE
from .result import Verification
from .sheet import Sheet

__all__ = [
    "depths",
    "network_notes",
    "network_table",
    "quantization_table",
    "relay_table",
    "verdicts",
    "verification_notes",
    "verification_table",
]


def network_table(network: Network[Any], title: str | None = None) -> Sheet:
    """A row per edge, with what concerns the whole population in the first; a star marks what takes more than one neuro-core.

    Args:
        network: real or quantised.
        title: what to call it; by default its name.
    """
    columns = (
        *("layer", "reads", "type", "shape", "kernel", "weights", "range", "bits", "scale", "bias", "threshold", "decays u, v"),
        *("neurons", "synapses", "fan-in", "delay", "cores"),
    )
    scales = layer_scales(network)
    late = depths(network)
    chain = _is_chain(network)
    rows = []
    blank = [""] * len(columns)
    for name, given in network.inputs.items():
        if network.encoder is not None:
            rows.append(["encoder", "", "on the host", _shape(given.shape), *blank[4:]])
        elif not chain and len(network.inputs) > 1:
            rows.append([name, "", "input", _shape(given.shape), *blank[4:]])
    for each in network.populations:
        cores = estimate(network, each)
        own = _population_cells(each, cores, scales.get(each.name), network.connections(each), late[each.name])
        for index, edge in enumerate(each.edges):
            shared = any(edge.map is other.map for other in each.edges[:index])
            cells = _edge_cells(network, each, edge, cores, shared=shared)
            if chain and edge.source != each.name:
                cells[0] = ""
            first = [each.name, *cells[:2], _shape(each.shape), *cells[2:], *own] if index == 0 else None
            rows.append(first or ["", *cells[:2], "", *cells[2:], *blank[8:]])
    if network.readout is not None:
        outputs = ", ".join(_features(value) for value in network.readout.graph.output)
        rows.append(["readout", "", "on the host", outputs, *blank[4:]])
    neurons = sum(each.neurons for each in network.populations)
    synapses = sum(map(network.connections, network.populations))
    totals = [["all", *blank[1:12], f"{neurons:,}", f"{synapses:,}", "", "", _range(*estimate_all(network))]]
    left = ("reads", "type", "shape", "kernel")
    return Sheet(f"{network.name if title is None else title}: input {_input(network)}", columns, rows, totals, left)


def network_notes(network: Network[Any]) -> list[str]:
    """What Loihi, a target or the chip would object to, and what the estimate of cores counts."""
    found = [*loihi(network), *chip(network)]
    for name, target in TARGETS.items():
        found += [finding for finding in target.check(network) if finding.target == name]
    notes = [f"{finding.target}: {finding}" for finding in found]
    notes += [f"netx: {note}" for note in network.metadata.get(NOTES, "").splitlines() if note.isprintable()]
    each = [estimate(network, population) for population in network.populations]
    if any(cores.neurons_exceed or cores.weights_exceed for cores in each):
        notes.append(f"* more than one neuro-core of Loihi 2: {NEURONS_PER_CORE:,} neurons, {SYNAPTIC_MEMORY:,} weights.")
    notes.append("delay: time steps after which a layer's spikes come in Lava, + those by which it reads others late.")
    fewest, most = estimate_all(network)
    spread = "" if fewest == most else ": with kernels stored once … with each connection stored for itself"
    notes.append(f"cores: an estimate from neurons and weights alone{spread}.")
    if fewest > CORES_PER_CHIP:
        notes.append(f"chip: The network takes at least {fewest} neuro-cores, more than the {CORES_PER_CHIP} of one chip.")
    return notes


def relay_table(network: Network[Any]) -> Sheet | None:
    """What stands between populations on Lava so that spikes of paths of different length meet, and what it costs; None if
    nothing has to.

    Args:
        network: real or quantised.
    """
    planned = plan(network)
    if planned is None or not planned.relays:
        return None
    rows = [[each.name, _carried(each), "sums" if each.graded else "spikes", f"{each.neurons:,}"] for each in planned.relays]
    total = ["all", "", "", f"{sum(each.neurons for each in planned.relays):,}"]
    return Sheet("relays on Lava", ("relay", "carries", "as", "neurons"), rows, [total], ("carries", "as"))


def _carried(relay: Relay) -> str:
    return ", ".join(f"{source} {steps} step{'s' * (steps > 1)} later" for source, steps in relay.sources.items())


def quantization_table(report: QuantizationReport) -> Sheet:
    """A row per quantised population: what rounding and clamping cost."""
    columns = [
        *("layer", "scale", "bits", "saturated", "lost", "weight error", "threshold", "bias", "bias saturated", "decay error"),
        "mismatches",
    ]
    rows = [
        [
            layer.name,
            f"{layer.scale:.5g}",
            str(layer.weight_bits),
            f"{layer.weights_saturated:.2%}",
            f"{layer.weights_lost:.2%}",
            f"{layer.weight_error:.2%}",
            f"{layer.threshold:,}",
            "" if layer.bias_range is None else _range(*layer.bias_range),
            "" if layer.bias_range is None else f"{layer.biases_saturated:.2%}",
            f"{layer.decay_error:+.1e}" if layer.decay_error else "0",
            f"{layer.mismatches / layer.compared:.3%}" if layer.mismatches is not None and layer.compared else "",
        ]
        for layer in report.layers
    ]
    return Sheet("quantisation", columns, rows)


def verification_table(result: Verification) -> Sheet:
    """A row per population, a column per runtime: mismatches, or "ref" where it is what the others were compared with.

    The column of the float network shows the share of neurons and time steps that quantisation left alike.
    """
    columns = ["layer", "spikes", "rate", *result.seconds]
    if FLOAT in result.seconds:
        columns.insert(3, "float rate")
    rows = []
    for layer in (*result.encoder, *result.layers):
        cells = {layer.reference: "ref", **{name: f"{count:,}" for name, count in layer.mismatches.items()}}
        if layer.agreement is not None:
            cells[FLOAT] = f"{layer.agreement:.2%}"
        if layer in result.encoder and FLOAT in result.seconds:
            cells[FLOAT] = cells.pop("file", "")
        cells |= {"spikes": f"{layer.spikes:,}", "rate": f"{layer.rate:.4f}"}
        cells["float rate"] = "" if layer.float_rate is None else f"{layer.float_rate:.4f}"
        name = f"encoder {layer.name}" if layer in result.encoder else layer.name
        rows.append([name, *(cells.get(column, "") for column in columns[1:])])
    totals = []
    for name, shares in (("accuracy", result.accuracy), ("same class", result.same_class)):
        if shares and (name == "accuracy" or FLOAT in result.seconds):
            totals.append([name, *(f"{shares[column]:.2%}" if column in shares else "" for column in columns[1:])])
    taken = {name: "" if value is None else f"{value:.2f}" for name, value in result.seconds.items()}
    totals.append(["seconds", *(taken.get(column, "") for column in columns[1:])])
    which = "" if result.samples == ((0, result.count),) else " (" + ", ".join(f"{a}:{b}" for a, b in result.samples) + ")"
    title = f"spikes that differ, by runtime: {result.count:,} samples{which}, {result.steps:,} time steps"
    return Sheet(title, columns, rows, totals)


def verification_notes(result: Verification) -> list[str]:
    """What the runtimes are called, and everything that a reader has to know, beside the numbers."""
    names = ", ".join(f"{name} = {title}" for name, title in result.titles.items() if name in result.seconds and name != title)
    return [*([f"{names}."] if names else []), *(note.message for note in result.notes)]


def verdicts(result: Verification) -> list[str]:
    """One sentence on the runtimes that must agree, and one on the network that was trained, where it is another."""
    runtimes = [name for name in result.seconds if name not in (FLOAT, FLOAT_NATIVE)]
    found = []
    if result.first is not None:
        layer, first = result.first
        reference = FLOAT if first.runtime.startswith(FLOAT) else layer.reference
        found.append(
            f"{result.mismatches:,} {'spike differs' if result.mismatches == 1 else 'spikes differ'}: first in {layer.name!r} at "
            f"time step {first.step}, sample {first.sample}, neuron {first.neuron}, where {first.runtime} is not as {reference}."
        )
    elif len(result.uncompared) == len(result.layers):
        found.append("Nothing was compared: only one runtime ran.")
    elif result.silent or result.uncompared:
        silent = ", ".join(map(repr, result.silent)) or "no layer"
        alone = "" if not result.uncompared else f", and nothing was compared with {', '.join(map(repr, result.uncompared))}"
        found.append(f"No spike differs between {', '.join(runtimes)}, but {silent} never fired{alone}.")
    else:
        found.append(f"Every spike is the same in {', '.join(runtimes)}.")
    agreements = [(layer.agreement, layer.name) for layer in result.layers if layer.agreement is not None]
    if agreements:
        share, name = min(agreements)
        found.append(
            f"Against the network before quantisation, {name!r} is the least alike: {share:.2%} of its neurons and steps are "
            "the same."
        )
    return found


def _is_chain(network: Network[Any]) -> bool:
    """Whether each population reads the one before it, and itself at most."""
    before = next(iter(network.inputs))
    for each in network.populations:
        if [edge.source for edge in each.edges if edge.source != each.name] != [before]:
            return False
        before = each.name
    return len(network.inputs) == 1


def depths(network: Network[Any]) -> dict[str, int]:
    """By input and population, after how many time steps its spikes come: in NetX those of a chain, in a process graph those of a
    graph."""
    planned = None if _is_chain(network) else plan(network)
    if planned is not None:
        return dict(planned.depths)
    found = dict.fromkeys(network.inputs, 0)
    for each in network.populations:
        found[each.name] = 1 + max(found.get(edge.source, 0) for edge in each.edges)
    return found


def _edge_cells(
    network: Network[Any], population: Population[Any], edge: Edge, cores: CoreEstimate, *, shared: bool
) -> list[str]:
    """Source, type, kernel, weights, range, bits."""
    kind = "feedback" if edge.source == population.name else _type(network, edge)
    if shared:  # its source's spikes are added to those of the edge that has the map
        return [edge.source, "+", "", "", "", ""]
    weight = edge.map.weight
    bits = str(weight_bits(weight)) if isinstance(population.neuron, CubaNeuron) else "float"
    size = f"{weight.size:,}{'*' if cores.weights_exceed else ''}"
    late = f", {edge.delay} steps late" if edge.delay and not (kind == "feedback" and edge.delay == 1) else ""
    return [f"{edge.source}{late}", kind, ", ".join(edge.map.window), size, _range(weight.min(), weight.max()), bits]


def _population_cells(
    population: Population[Any], cores: CoreEstimate, scale: float | None, synapses: int, depth: int
) -> list[str]:
    """From the scale on."""
    bias, neuron = population.bias, population.neuron
    late = max((edge.delay for edge in population.edges if edge.source != population.name), default=0)
    return [
        "" if scale is None else f"{scale:.5g}",
        "" if bias is None else _range(bias.min(), bias.max()),
        f"{neuron.v_threshold:g}" if isinstance(neuron, FloatNeuron) else _spread(neuron.v_threshold),
        _real_decays(neuron) if isinstance(neuron, FloatNeuron) else f"{_spread(neuron.i_decay)}, {_spread(neuron.v_decay)}",
        f"{population.neurons:,}{'*' if cores.neurons_exceed else ''}",
        f"{synapses:,}",
        f"{population.fan_in:,}",
        f"{depth} + {late}" if late else str(depth),
        _range(cores.fewest, cores.most),
    ]


def _spread(values: Any) -> str:
    return _range(np.min(values), np.max(values))


def _real_decays(neuron: FloatNeuron) -> str:
    return f"{'–' if neuron.i_decay == 1 else f'{neuron.i_decay:.4g}'}, {neuron.v_decay:.4g}"


def _type(network: Network[Any], edge: Edge) -> str:
    flattens = isinstance(edge.map, Dense) and len(network.shapes[edge.source]) > 1
    return f"flatten, {edge.map.kind}" if flattens else edge.map.kind


def _input(network: Network[Any]) -> str:
    if network.encoder is not None:
        return ", ".join(_features(value) for value in network.encoder.graph.input) + ", images"
    described = [
        _shape(given.shape) + (f", graded spikes of {given.bits} bits" if given.bits else "") for given in network.inputs.values()
    ]
    return " and ".join(described)


def _features(value: onnx.ValueInfoProto) -> str:
    """As the model says it: behind a readout there may be no time, and T and N have names."""
    dims = value.type.tensor_type.shape.dim
    return "x".join(str(dim.dim_value) for dim in dims if dim.HasField("dim_value")) or "scalar"


def _range(low: float, high: float) -> str:
    return f"{low:.4g}" if low == high else f"{low:.4g} … {high:.4g}"


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
