"""What the command line shows: tables of networks and of verifications."""

from math import prod

import onnx
from rich import box
from rich.table import Table

from .chip import CORES_PER_CHIP, NEURONS_PER_CORE, SYNAPTIC_MEMORY, estimate, estimate_all
from .integers import weight_bits
from .limits import findings
from .network import Block, Conv, CubaNeuron, FloatNeuron, Network
from .quantization_report import QuantizationReport, layer_scales
from .verify import FLOAT, Verification

__all__ = [
    "network_notes",
    "network_table",
    "quantization_notes",
    "quantization_table",
    "verification_notes",
    "verification_table",
]


def network_table(network: Network) -> Table:
    """A row per layer; a star marks what takes more than one neuro-core."""
    table = Table(title=f"{network.name}: input {_input(network)}", box=box.SIMPLE_HEAD)
    for column in (
        "layer",
        "type",
        "shape",
        "kernel",
        "weights",
        "range",
        "bits",
        "scale",
        "bias",
        "threshold",
        "decays u, v",
        "neurons",
        "synapses",
        "fan-in",
        "delay",
        "cores",
    ):
        table.add_column(column)
    scales = layer_scales(network)
    delays: dict[str, int] = {}
    if network.encoder is not None:
        table.add_row("encoder", "on the host", _shape(network.input_shape))
    for block in network.blocks:
        delays[block.name] = 1 + max(delays.get(source, 0) for source in block.sources)
        table.add_row(*_row(block, scales.get(block.name), delays[block.name]))
    if network.readout is not None:
        table.add_row("readout", "on the host", _features(network.readout.graph.output[0]))
    neurons = sum(prod(block.shape) for block in network.blocks)
    synapses = sum(block.synapses for block in network.blocks)
    table.add_section()
    table.add_row("all", *[""] * 10, f"{neurons:,}", f"{synapses:,}", "", "", _range(*estimate_all(network)))
    return table


def network_notes(network: Network) -> list[str]:
    """What Loihi, NetX or the chip would object to, and what the estimate of cores counts."""
    notes = [f"{finding.target}: {finding}" for finding in findings(network)]
    if any(estimate(block).neurons_exceed or estimate(block).weights_exceed for block in network.blocks):
        notes.append(f"* more than one neuro-core of Loihi 2: {NEURONS_PER_CORE:,} neurons, {SYNAPTIC_MEMORY:,} weights.")
    notes.append(
        "delay: time steps after which a layer's spikes come in Lava, + those that it is late by itself. cores: an estimate from "
        "neurons and weights alone, with kernels stored once … with each connection stored for itself."
    )
    fewest, _ = estimate_all(network)
    if fewest > CORES_PER_CHIP:
        notes.append(f"chip: The network takes at least {fewest} neuro-cores, more than the {CORES_PER_CHIP} of one chip.")
    return notes


def quantization_table(report: QuantizationReport) -> Table:
    """A row per quantised layer: what rounding and clamping cost."""
    table = Table(title="quantisation", box=box.SIMPLE_HEAD)
    calibrated = report.samples is not None
    columns = ["layer", "scale", "bits", "saturated", "lost", "weight error", "threshold", "bias", "saturated", "decay error"]
    for column in columns + (["mismatches"] if calibrated else []):
        table.add_column(column, justify="left" if column == "layer" else "right")
    for layer in report.layers:
        row = [
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
        ]
        if layer.mismatches is not None:
            row.append(f"{layer.mismatches / layer.compared:.3%}" if layer.compared else "–")
        table.add_row(*row)
    return table


def quantization_notes(report: QuantizationReport) -> list[str]:
    """What was clamped or lost, in words, and how far calibration went."""
    notes = []
    for layer in report.layers:
        if layer.weight_bits == 1 and layer.weights_lost:
            notes.append(f"The block {layer.name!r} lost all its weights to rounding: choose a larger scale, or auto.")
        elif layer.weights_saturated or layer.biases_saturated:
            notes.append(
                f"The block {layer.name!r} has {layer.weights_saturated:.2%} of its weights and {layer.biases_saturated:.2%} of "
                "its biases clamped to Loihi's range."
            )
    if report.samples is not None and report.given is not None and report.samples < report.given:
        notes.append(f"Calibration used {report.samples} of {report.given} samples, to end within a minute or so.")
    return notes


def verification_table(result: Verification) -> Table:
    """A row per layer, a column per runtime: mismatches, or "ref" where it is what the others were compared with.

    The column of the float network shows the share of spikes that survived quantisation, and the rate before it.
    """
    table = Table(title="mismatches by runtime", box=box.SIMPLE_HEAD)
    table.add_column("layer")
    for column in ("spikes", "rate", *result.seconds):
        table.add_column(column, justify="right")
    for layer in result.layers:
        cells = {layer.reference: "ref", **{name: f"{count:,}" for name, count in layer.mismatches.items()}}
        if layer.agreement is not None:
            cells[FLOAT] = f"{layer.agreement:.2%} equal, rate {layer.float_rate:.4f}"
        table.add_row(layer.name, f"{layer.spikes:,}", f"{layer.rate:.4f}", *(cells.get(name, "") for name in result.seconds))
    table.add_section()
    if result.accuracy:
        shares = (result.accuracy.get(name) for name in result.seconds)
        table.add_row("accuracy", "", "", *("" if share is None else f"{share:.2%}" for share in shares))
    table.add_row("seconds", "", "", *("" if taken is None else f"{taken:.2f}" for taken in result.seconds.values()))
    return table


def verification_notes(result: Verification) -> list[str]:
    """Which runtimes did not run, and why; what the encoder and the readout gave."""
    notes = [f"{name} did not run: {reason}" for name, reason in result.left_out.items()]
    if result.encoder_mismatches is not None:
        notes.append(f"encoder: {result.encoder_mismatches:,} of its spikes differ from those of the same layer in the file.")
    shares = set(result.same_class.values())
    if result.same_class and FLOAT in result.seconds:
        listed = " … ".join(f"{share:.2%}" for share in sorted({min(shares), max(shares)}))
        notes.append(f"output: the same class as before quantisation for {listed} of the samples.")
    return notes


def _input(network: Network) -> str:
    if network.encoder is not None:
        return f"{_features(network.encoder.graph.input[0])}, images"
    return _shape(network.input_shape) + (f", graded spikes of {network.message_bits} bits" if network.message_bits else "")


def _features(value: onnx.ValueInfoProto) -> str:
    """As the model says it: behind a readout there may be no time, and T and N have names."""
    dims = value.type.tensor_type.shape.dim
    return "x".join(str(dim.dim_value) for dim in dims if dim.HasField("dim_value")) or "scalar"


def _row(block: Block, scale: float | None, delay: int) -> list[str]:
    weight, bias, neuron = block.synapse.weights, block.bias, block.neuron
    cores = estimate(block)
    quantised = isinstance(neuron, CubaNeuron)
    return [
        block.name,
        _type(block),
        _shape(block.shape),
        _kernel(block),
        f"{weight.size:,}{'*' if cores.weights_exceed else ''}",
        _range(weight.min(), weight.max()),
        str(weight_bits(weight)) if quantised else "float",
        "" if scale is None else f"{scale:.5g}",
        "" if bias is None else _range(bias.min(), bias.max()),
        f"{neuron.v_threshold:g}" if isinstance(neuron, FloatNeuron) else str(neuron.v_threshold),
        f"–, {neuron.v_decay:.4g}" if isinstance(neuron, FloatNeuron) else f"{neuron.i_decay}, {neuron.v_decay}",
        f"{prod(block.shape):,}{'*' if cores.neurons_exceed else ''}",
        f"{block.synapses:,}",
        f"{weight.size // weight.shape[0]:,}",
        f"{delay} + {block.delay}" if block.delay else str(delay),
        _range(cores.fewest, cores.most),
    ]


def _range(low: float, high: float) -> str:
    return f"{low:.4g}" if low == high else f"{low:.4g} … {high:.4g}"


def _type(block: Block) -> str:
    if isinstance(block.synapse, Conv):
        return "conv"
    kind = "dense" if block.synapse.recurrent is None else "recurrent"
    return f"flatten, {kind}" if block.flattens else kind


def _kernel(block: Block) -> str:
    synapse = block.synapse
    if not isinstance(synapse, Conv):
        return ""
    parts = ["x".join(map(str, synapse.weight.shape[2:]))]
    for name, value, usual in (
        ("stride", synapse.stride, (1, 1)),
        ("pad", synapse.padding, (0, 0)),
        ("dilation", synapse.dilation, (1, 1)),
    ):
        if value != usual:
            parts.append(f"{name} {value[0] if value[0] == value[1] else value}")
    if synapse.groups > 1:
        parts.append(f"groups {synapse.groups}")
    return ", ".join(parts)


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
