"""Run one network in every runtime at hand and compare every spike of every layer.

Encoder and readout run on onnxruntime: the encoder's spikes go into every runtime, and the readout says what comes out of each.
"""

import json
import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from math import prod
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import onnx

import custom_ops
from custom_ops.atomic_write import replacing
from custom_ops.errors import ModelFileError, RuntimeUnavailableError
from custom_ops.model_file import read_model
from custom_ops.operators import DOMAIN
from custom_ops.trace import Trace

from .errors import ConversionError
from .host import check_input, classes, decode, encode
from .lava_machine import require_netx, require_slayer
from .limits import findings, is_integer
from .load import InputKind, load
from .network import Array, Network
from .quantize import quantize
from .run import run_netx_layers
from .simulate import simulate
from .write.netx import save_netx
from .write.onnx import to_onnx
from .write.slayer import to_slayer

__all__ = ["FLOAT", "RUNTIMES", "LayerCheck", "Verification", "verify", "write_json"]

FLOAT = "float"
"""How the file is called among the runtimes if it is made of float neurons: what it loses by quantisation is no mismatch."""

Spikes: TypeAlias = Mapping[str, Array]
Progress: TypeAlias = Callable[[int, int], None]

_NUMPY_LIMIT = 2e9  # synaptic operations beyond which the NumPy reference runs only when it is asked for: about a minute


@dataclass(frozen=True)
class LayerCheck:
    """One layer in all runtimes.

    Args:
        name: the block's name.
        reference: the runtime that the others were compared with: the first that shows this layer.
        spikes: how many spikes it gave.
        rate: the same per neuron, step and sample.
        counts: the spikes of each runtime that shows the layer.
        mismatches: by runtime, in how many neurons, steps and samples it differs; without those that do not show the layer.
        float_rate: the rate before quantisation; None where there was none, or the file does not show the layer.
        agreement: share of neurons, steps and samples in which the layer before quantisation equals the reference, likewise.
    """

    name: str
    reference: str
    spikes: int
    rate: float
    counts: Mapping[str, int]
    mismatches: Mapping[str, int]
    float_rate: float | None = None
    agreement: float | None = None


@dataclass(frozen=True)
class Verification:
    """What :func:`verify` found.

    Args:
        layers: one entry per block.
        seconds: how long each runtime took, in the order in which they ran; None for a trace.
        left_out: runtimes that did not run, and why.
        accuracy: share of right classes by runtime, where labels were given.
        same_class: share of the samples that get the class that the file as it was read gives them, before quantisation and
            with its own encoder and readout; by runtime, and empty where the file's output votes for no classes.
        encoder_mismatches: of the encoder's spikes, how many differ from those of the same layer in the file; None without one.
        given: the network as it was read.
        network: its integers, which ran.
        spikes: by runtime, the spikes ``[T, N, *]`` of each block that it shows.
    """

    layers: tuple[LayerCheck, ...]
    seconds: Mapping[str, float | None]
    left_out: Mapping[str, str]
    accuracy: Mapping[str, float]
    same_class: Mapping[str, float]
    encoder_mismatches: int | None
    given: Network = field(repr=False)
    network: Network = field(repr=False)
    spikes: Mapping[str, Spikes] = field(repr=False)

    @property
    def mismatches(self) -> int:
        """Spikes that differ between integer runtimes, over all layers."""
        return sum(count for layer in self.layers for count in layer.mismatches.values())


def verify(
    model: str | os.PathLike[str] | bytes | onnx.ModelProto | Network,
    x: Array,
    *,
    against: Sequence[str] | None = None,
    scale: Literal["auto"] | int = "auto",
    calibration: Array | None = None,
    trace: Trace | None = None,
    labels: Array | None = None,
    input: InputKind = "spikes",
    progress: Progress | None = None,
) -> Verification:
    """Run the file ``model`` and its conversion on ``x`` in several runtimes, and compare their spikes layer by layer.

    Args:
        model: what ``load`` reads, or a network, which stands for its file.
        x: input ``[T, N, *]``: spikes, or what ``input`` says.
        against: names from :data:`RUNTIMES`; by default all that are installed here.
        scale: for ``quantize``.
        calibration: for ``quantize``.
        trace: a run recorded elsewhere on the same input; then it is what all others are compared with.
        labels: the class of each sample, ``[N]``. The readout's output votes for classes, summed over time where it has time;
            without a readout, the neurons of the last block by their spike counts.
        input: what a file is fed with, see ``load``.
        progress: called with the number of samples done and in all while Lava runs.

    Raises:
        RuntimeUnavailableError: a runtime in ``against`` is not installed here.
        ConversionError: input, trace or labels do not fit the network; or anything that ``load`` and ``quantize`` raise.
    """
    proto, given = _file_and_network(model, input)
    network = quantize(given, scale=scale, calibration=calibration)
    x = np.asarray(x, np.float32)
    steps, samples = check_input(network, x)
    if steps == 0 or samples == 0:
        raise ConversionError("The input has no time steps or no samples: there is nothing to compare.")
    _check_labels(labels, samples)
    chosen = _chosen(against)
    spikes = encode(network, x)
    results: dict[str, Spikes] = {}
    seconds: dict[str, float | None] = {}
    left_out: dict[str, str] = {}
    if trace is not None:
        _check_trace(trace, network, x)
        results["trace"], seconds["trace"] = trace.spikes, None
    start = time.perf_counter()
    integer = is_integer(given)
    file = _run_file(proto, network, spikes if isinstance(model, Network) else x, native=False if integer else "auto")
    seconds["file" if integer else FLOAT] = time.perf_counter() - start
    if integer:
        results["file"] = file.layers
    before: Spikes = {} if integer else file.layers
    operations = steps * samples * sum(block.synapses for block in network.blocks)
    for name, run in chosen.items():
        if against is None and name == "numpy" and operations > _NUMPY_LIMIT:
            left_out[name] = f"its {operations:.1e} synaptic operations would take minutes; ask for it by name"
            continue
        unfit = [str(finding) for finding in findings(network) if finding.target == name == "slayer"]
        if against is None and unfit:
            left_out[name] = unfit[0]
            continue
        start = time.perf_counter()
        try:
            results[name] = run(network, spikes, progress)
        except RuntimeUnavailableError as error:
            if against is not None:
                raise
            left_out[name] = str(error)
            continue
        seconds[name] = time.perf_counter() - start
    # A network that stands for its file has been cut already: its file gives the spikes that the readout reads.
    whole = decode(network, file.output) if isinstance(model, Network) else file.output
    expected = classes(whole, samples)
    votes = {} if expected is None else _votes(network, results, samples)
    if before and expected is not None:
        votes[FLOAT] = expected
    return Verification(
        tuple(_compared(block.name, results, before.get(block.name)) for block in network.blocks),
        seconds,
        left_out,
        {} if labels is None else {name: float(np.mean(vote == labels)) for name, vote in votes.items()},
        {name: float(np.mean(vote == expected)) for name, vote in votes.items() if name not in (FLOAT, "file")},
        None if file.encoder is None else int(np.count_nonzero(file.encoder != spikes)),
        given,
        network,
        {**({FLOAT: before} if before else {}), **results},
    )


def write_json(result: Verification, path: str | os.PathLike[str]) -> None:
    """Write the numbers in ``result``, field by field, and the mismatches in all; an old file stays whole if anything goes wrong.

    Raises:
        ModelFileError: the file cannot be written.
    """
    numbers = {
        "mismatches": result.mismatches,
        "layers": [asdict(layer) for layer in result.layers],
        "seconds": result.seconds,
        "left_out": result.left_out,
        "accuracy": result.accuracy,
        "same_class": result.same_class,
        "encoder_mismatches": result.encoder_mismatches,
    }
    text = json.dumps(numbers, indent=2)
    try:
        with replacing(path) as temporary:
            temporary.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise ModelFileError(f"Cannot write {path}: {error.strerror or error}; check the folder and the space on it.") from error


def _file_and_network(
    model: str | os.PathLike[str] | bytes | onnx.ModelProto | Network, input: InputKind
) -> tuple[onnx.ModelProto, Network]:
    if isinstance(model, Network):
        return to_onnx(model, outputs="all"), model
    proto = read_model(model)
    return proto, load(proto, input=input)


def _chosen(against: Sequence[str] | None) -> "Mapping[str, _Runtime]":
    if against is None:
        return RUNTIMES
    unknown = [name for name in against if name not in RUNTIMES]
    if unknown or not against:
        raise ConversionError(f"There is no runtime {', '.join(unknown) or 'given'}: choose from {', '.join(RUNTIMES)}.")
    return {name: RUNTIMES[name] for name in against}


def _check_labels(labels: Array | None, samples: int) -> None:
    if labels is not None and (labels.shape != (samples,) or labels.dtype.kind not in "iu"):
        raise ConversionError(f"The labels have the shape {list(labels.shape)}, but need one whole number for each of {samples}.")


def _check_trace(trace: Trace, network: Network, x: Array) -> None:
    if not np.array_equal(trace.input, x):
        raise ConversionError("The trace was recorded with another input: give the input that it holds.")
    shapes = {block.name: block.shape for block in network.blocks}
    if network.encoder is not None:
        shapes[_encoder_layer(network.encoder)] = network.input_shape
    for name, spikes in trace.spikes.items():
        if spikes.shape != (*x.shape[:2], *shapes.get(name, ())):
            raise ConversionError(f"The trace's layer {name!r} with the shape {list(spikes.shape)} is not one of this network.")


def _compared(layer: str, results: Mapping[str, Spikes], before: Array | None) -> LayerCheck:
    shown = {name: spikes[layer] for name, spikes in results.items() if layer in spikes}
    reference, *others = shown
    expected = shown[reference]
    counts = {name: int(np.count_nonzero(spikes)) for name, spikes in shown.items()}
    mismatches = {name: int(np.count_nonzero(shown[name] != expected)) for name in others}
    check = LayerCheck(layer, reference, counts[reference], counts[reference] / expected.size, counts, mismatches)
    if before is None:
        return check
    return replace(check, float_rate=float(np.mean(before != 0)), agreement=float(np.mean(before == expected)))


def _votes(network: Network, results: Mapping[str, Spikes], samples: int) -> dict[str, Array]:
    """The class ``[N]`` of each sample by runtime, where the output votes for classes."""
    last = network.blocks[-1].name
    outputs = {name: decode(network, spikes[last]) for name, spikes in results.items() if last in spikes}
    votes = {name: classes(output, samples) for name, output in outputs.items()}
    return {name: vote for name, vote in votes.items() if vote is not None}


@dataclass(frozen=True)
class _File:
    """What the file itself gives.

    Args:
        layers: the spikes of those blocks that it shows.
        encoder: the spikes of the layer that became the encoder; None where there is none.
        output: its first output, which is the readout's.
    """

    layers: Spikes
    encoder: Array | None
    output: Array


def _run_file(proto: onnx.ModelProto, network: Network, x: Array, native: Literal["auto"] | bool) -> _File:
    """The file itself, with the spikes of every node that a block is named after shown as outputs."""
    neurons = {
        node.name.rpartition("/")[0]: node.output[0]
        for node in proto.graph.node
        if node.domain == DOMAIN or node.op_type in ("MaxPool", "GlobalMaxPool")
    }
    model = onnx.ModelProto()
    model.CopyFrom(proto)
    shown = {output.name for output in model.graph.output}
    model.graph.output.extend(onnx.ValueInfoProto(name=value) for value in neurons.values() if value not in shown)
    results = _run_session(model, x, native)
    output = results[proto.graph.output[0].name]
    spikes = {block.name: results[neurons[block.name]] for block in network.blocks if block.name in neurons}
    if network.readout is None:
        spikes.setdefault(network.blocks[-1].name, output)
    # Pools fold time into the batch, and what lowering made a matrix gives its spikes flat.
    shapes = {block.name: (*x.shape[:2], *block.shape) for block in network.blocks}
    layers = {name: values.reshape(shapes[name]) for name, values in spikes.items() if values.size == prod(shapes[name])}
    encoder = None if network.encoder is None else results.get(neurons.get(_encoder_layer(network.encoder), ""))
    return _File(layers, encoder, output)


def _encoder_layer(encoder: onnx.ModelProto) -> str:
    """The name of the layer that turns images into spikes."""
    name = next(node.name for node in encoder.graph.node if encoder.graph.output[0].name in node.output)
    return str(name).rpartition("/")[0]


# The runtimes. Each gives the spikes of those layers that it shows.


def _stock(network: Network, x: Array, progress: Progress | None) -> Spikes:
    return _run_session(to_onnx(network, outputs="all"), x, native=False)


def _native(network: Network, x: Array, progress: Progress | None) -> Spikes:
    return _run_session(to_onnx(network, outputs="all"), x, native=True)


def _run_session(model: onnx.ModelProto, x: Array, native: Literal["auto"] | bool) -> dict[str, Array]:
    session = custom_ops.session(model, native=native)
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {session.get_inputs()[0].name: x}), strict=True))


def _numpy(network: Network, x: Array, progress: Progress | None) -> Spikes:
    return simulate(network, x)


def _slayer(network: Network, x: Array, progress: Progress | None) -> Spikes:
    require_slayer()
    import torch

    spikes = torch.from_numpy(np.moveaxis(x, 0, -1).copy())
    outputs = []
    with torch.no_grad():
        for module in to_slayer(network):
            spikes = module(spikes)
            if hasattr(module, "neuron"):
                outputs.append(np.moveaxis(spikes.numpy(), -1, 0))
    return {block.name: output for block, output in zip(network.blocks, outputs, strict=True)}


def _netx(network: Network, x: Array, progress: Progress | None) -> Spikes:
    require_netx()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.net"
        save_netx(network, path)
        outputs = run_netx_layers(path, x, progress=progress)
    return {block.name: output for block, output in zip(network.blocks, outputs, strict=True)}


_Runtime: TypeAlias = Callable[[Network, Array, Progress | None], Spikes]

RUNTIMES: Mapping[str, _Runtime] = {
    "ort": _stock,
    "ort-native": _native,
    "numpy": _numpy,
    "slayer": _slayer,
    "netx": _netx,
}
"""Where a converted network can run: onnxruntime, with the function bodies and with the native library; NumPy; slayer; NetX on
Lava's simulation. The given file itself always runs first, as ``"file"`` or :data:`FLOAT`."""
