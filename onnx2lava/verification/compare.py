"""Run one network in every runtime at hand and compare every spike of every population.

Encoder and readout run on onnxruntime: the encoder's spikes go into every runtime, and the readout says what comes out of each.
The samples go through all runtimes a few at a time; what is counted of them adds up (``result.py``), wherever it was counted.
"""

import hashlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import lru_cache
from math import prod
from typing import Any, Literal, TypeAlias

import numpy as np
import onnx
import onnxruntime

import custom_ops
from custom_ops.errors import RuntimeUnavailableError
from custom_ops.model_file import read_model
from custom_ops.trace import Trace

from ..conversion import quantize
from ..errors import ConversionError, LimitError
from ..host import classes, decode, encode
from ..network import Array, CubaNeuron, Network, Neuron, is_loihi
from ..quantization import quantization_notes, quantization_report
from ..quantization.quantizing import require_scale
from ..read.onnx_file import InputKind, load
from ..targets import TARGETS, Target
from ..targets.limits import chip
from ..targets.onnx import to_onnx
from .counts import FLOAT, FLOAT_NATIVE, LayerCheck, compared
from .parallel import in_order
from .result import Note, Verification, Votes, merged
from .source import Chunk, Given, Source, opened

__all__ = ["verify"]

Progress: TypeAlias = Callable[[str, int, int | None], None]
"""Called with the name of a runtime, the number of samples that it has done, and how many there are, if that is known."""

_TITLES = {
    "trace": "recorded trace",
    "file": "onnxruntime, the file as it is",
    FLOAT: "float network, the file as it is",
    FLOAT_NATIVE: "float network, native operators",
}
_NUMPY_LIMIT = 2e9  # synaptic operations beyond which the NumPy reference runs only when it is asked for: about a minute
_CHUNK_BYTES = 2**26
"""What the spikes and sums of the samples that run together may take."""
_WINDOW_BYTES = 2**23
"""What the spikes that are kept for the page may take in each runtime."""
_LARGEST_WINDOW = 16


def verify(
    model: str | os.PathLike[str] | bytes | onnx.ModelProto | Network[Any],
    x: Given,
    *,
    against: Sequence[str] | None = None,
    scale: Literal["auto"] | float = "auto",
    calibration: Array | Mapping[str, Array] | None = None,
    trace: Trace | None = None,
    labels: Array | None = None,
    input: InputKind = "spikes",
    samples: tuple[int, int | None] = (0, None),
    batch: int | None = None,
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> Verification:
    """Run the file ``model`` and its conversion on ``x`` in several runtimes, and compare their spikes population by population.

    Samples run a few at a time, and only counts are kept of them, so that memory does not grow with their number.

    Args:
        model: what ``load`` reads, or a network, which stands for its file.
        x: input ``[T, N, *]``, spikes or what ``input`` says: an array; the path of an ``.npy``, ``.npz`` or HDF5 file; one of
            these by the name of each input; or batches of them (such as a torch DataLoader that gives them time first), each
            alone or as a pair with its labels.
        against: names from :data:`~onnx2lava.targets.TARGETS`; by default all that can run here and hold the network.
        scale: for ``quantize``.
        calibration: for ``quantize``.
        trace: a run recorded elsewhere on the same input; then it is what all others are compared with.
        labels: the class of each sample, ``[N]``. The readout's output votes for classes, summed over time where it has time;
            without a readout, the neurons of the first output by their spike counts.
        input: what a file is fed with, see ``load``.
        samples: the first sample to run, and one past the last; None for all that follow. The others are left to other calls,
            whose results :func:`~onnx2lava.verification.merged` adds up.
        batch: how many samples run together; by default as many as 64 MiB of spikes allow.
        executor: where to run them; its workers need this package. By default here, one after the other.
        progress: called as runtimes go on.

    Raises:
        RuntimeUnavailableError: a runtime in ``against`` cannot run here.
        LimitError: a runtime in ``against`` cannot hold the network.
        ConversionError: input, trace or labels do not fit the network; or anything that ``load`` and ``quantize`` raise.
    """
    scale = require_scale(scale)
    chosen = _chosen(against)
    if batch is not None and batch < 1:
        raise ConversionError(f"The batch is {batch}, but at least one sample has to run at once.")
    identity, proto, given = _file_and_network(model, input)
    network = quantize(given, scale=scale, calibration=calibration)
    source = opened(given, x, trace, labels)
    first, last = _range(samples, source)
    file = _shown(proto, network, is_network=isinstance(model, Network))
    if trace is not None:
        _check_trace(trace, network, file)
    remarks = _remarks(given, network, scale, calibration, labels, chosen)
    left_out = _left_out(chosen, network, source, by_name=against is not None)
    work = _Work(
        file,
        given,
        network,
        tuple(name for name in chosen if name not in left_out),
        left_out,
        identity,
        tuple(remarks),
    )
    size = _fixed_samples(proto) or batch or _affordable(given, source)
    chunks = source.chunks(size, first, last)
    total = None if source.samples is None else min(source.samples, last or source.samples) - first
    result = merged(in_order(_check, work, chunks, executor, progress, total))
    return replace(result, given=given, network=network)


@dataclass(frozen=True, eq=False)
class _File:
    """The file itself, as it runs.

    Args:
        model: with all values that are to be compared among its outputs.
        layers: by population, the output that holds its spikes.
        encoder: by input of the network, the output that holds what the encoder gives for it.
        encoder_layers: likewise, the module path of the layer that gives it.
        output: its first output as the author wrote it.
        is_network: whether it was made from a network, and reads what goes to Loihi.
    """

    model: bytes
    layers: Mapping[str, str]
    encoder: Mapping[str, str]
    encoder_layers: Mapping[str, str]
    output: str
    is_network: bool


@dataclass(frozen=True, eq=False)
class _Work:
    """What every worker needs, whatever the samples."""

    file: _File
    given: Network[Neuron]
    network: Network[CubaNeuron]
    targets: tuple[str, ...]
    left_out: Mapping[str, str]
    identity: Mapping[str, str]
    remarks: tuple[Note, ...]


def _check(work: _Work, chunk: Chunk, progress: Callable[[str, int], None] | None = None) -> Verification:
    """All runtimes on some samples."""
    network = work.network
    spikes = encode(network, chunk.x)
    runs: dict[str, Mapping[str, Array]] = {}
    seconds: dict[str, float | None] = {}
    if chunk.trace is not None:
        runs["trace"], seconds["trace"] = _bits(chunk.trace), None
    fed = spikes if work.file.is_network else {name: np.asarray(each, np.float32) for name, each in chunk.x.items()}
    outputs: dict[str, Array] = {}
    natives = {"file": False} if is_loihi(work.given) else {FLOAT: False, FLOAT_NATIVE: True}
    for name, native in natives.items():
        if native and not _has_library():
            continue
        start = time.perf_counter()
        results = _run_file(work.file.model, fed, native)
        seconds[name] = time.perf_counter() - start
        runs[name] = _layers(work, results, chunk)
        outputs[name] = results[work.file.output]
        if name in ("file", FLOAT):
            encoded = {name: results[value] for name, value in work.file.encoder.items()}
    for name in work.targets:
        advance = None if progress is None else lambda done, total, name=name: progress(name, done)
        start = time.perf_counter()
        runs[name] = _bits(TARGETS[name].run(network, spikes, advance))
        seconds[name] = time.perf_counter() - start
        if progress is not None:
            progress(name, chunk.samples)
    steps = next(iter(spikes.values())).shape[0]
    layers = tuple(_compared(each.name, runs, chunk.start) for each in network.populations)
    return Verification(
        model=work.identity,
        steps=steps,
        samples=((chunk.start, chunk.start + chunk.samples),),
        layers=layers,
        encoder=tuple(_encoder_check(work, chunk, name, spikes[name], encoded[name]) for name in encoded),
        titles={name: _TITLES[name] if name in _TITLES else TARGETS[name].title for name in (*seconds, *work.left_out)},
        seconds=seconds,
        left_out=work.left_out,
        votes=_votes(work, runs, outputs, chunk),
        remarks=work.remarks,
        spikes=_window(runs, steps, network),
        evidence={layer.name: _evidence(layer, runs, chunk.start) for layer in layers if layer.first is not None},
    )


# What runs, and what does not.


def _chosen(against: Sequence[str] | None) -> dict[str, Target]:
    if against is None:
        return dict(TARGETS)
    if isinstance(against, str):
        raise ConversionError(f"The runtimes are given as the text {against!r}: give a list, such as ['ort', 'numpy'].")
    unknown = [str(name) for name in against if name not in TARGETS]
    if unknown or not against:
        raise ConversionError(f"There is no runtime {', '.join(unknown) or 'given'}: choose from {', '.join(TARGETS)}.")
    return {name: TARGETS[name] for name in against}


def _left_out(chosen: Mapping[str, Target], network: Network[CubaNeuron], source: Source, *, by_name: bool) -> dict[str, str]:
    """Runtimes that do not run, and why; those that were asked for by name raise instead."""
    left_out = {}
    for name, target in chosen.items():
        reason = target.available()
        if reason is not None and by_name:
            raise RuntimeUnavailableError(reason)
        unfit = next((str(finding) for finding in target.check(network) if finding.target in (name, "loihi")), None)
        if unfit is not None and by_name:
            raise LimitError(unfit)
        if reason is None and unfit is None and name == "numpy" and not by_name:
            reason = _too_slow(network, source)
        if reason is not None or unfit is not None:
            left_out[name] = reason or unfit or ""
    return left_out


def _too_slow(network: Network[CubaNeuron], source: Source) -> str | None:
    operations = sum(map(network.connections, network.populations)) * (source.steps or 1) * (source.samples or 1)
    if operations <= _NUMPY_LIMIT:
        return None
    return f"Its {operations:.1e} synaptic operations would take minutes: ask for it by name."


def _remarks(
    given: Network[Neuron],
    network: Network[CubaNeuron],
    scale: Literal["auto"] | float,
    calibration: Any,
    labels: Array | None,
    chosen: Mapping[str, Target],
) -> list[Note]:
    """Notes that do not depend on the samples."""
    remarks = []
    if is_loihi(given):
        for option, value in (("scale", scale if scale != "auto" else None), ("calibration", calibration)):
            if value is not None:
                message = f"The {option} was not used: the network is made of Loihi's integers already."
                remarks.append(Note("option", option, message))
    else:
        report = quantization_report(given, network)
        remarks += [Note("quantisation", network.name, message) for message in quantization_notes(report)]
        if not _has_library():
            message = "The native library is not built, so the operators in the file were compared with nothing else."
            remarks.append(Note("not compared", FLOAT_NATIVE, message))
    if labels is not None and network.readout is None and len(network.outputs) == 1:
        largest = prod(network.shapes[network.outputs[0]])
        if labels.size and (labels.min() < 0 or labels.max() >= largest):
            message = f"Labels from {labels.min()} to {labels.max()} are given, but the output votes for 0 to {largest - 1}."
            remarks.append(Note("option", "labels", message))
    remarks += [Note("finding", finding.population, str(finding)) for finding in chip(network)]
    return remarks


def _range(samples: tuple[int, int | None], source: Source) -> tuple[int, int | None]:
    first, last = samples
    known = source.samples
    if first < 0 or (last is not None and last <= first) or (known is not None and (first >= known or (last or 0) > known)):
        have = "" if known is None else f": there are {known}"
        raise ConversionError(f"The samples {first}:{'' if last is None else last} are not there{have}.")
    return first, last


def _affordable(network: Network[Neuron], source: Source) -> int:
    """How many samples run together: each takes its sums and spikes in float32, and its spikes once more for every runtime."""
    neurons = sum(each.neurons for each in network.populations) + sum(prod(each.shape) for each in network.inputs.values())
    return max(1, _CHUNK_BYTES // (neurons * (source.steps or 32) * 16))


# The file itself.


def _file_and_network(
    model: str | os.PathLike[str] | bytes | onnx.ModelProto | Network[Any], input: InputKind
) -> tuple[dict[str, str], onnx.ModelProto, Network[Neuron]]:
    if isinstance(model, Network):
        proto, network, name = to_onnx(model, outputs="all"), model, model.name
    else:
        proto = read_model(model)
        network = load(proto, input=input)
        name = os.path.basename(os.fspath(model)) if isinstance(model, str | os.PathLike) else network.name  # noqa: PTH119
    digest = hashlib.sha256(proto.SerializeToString(deterministic=True)).hexdigest()
    return {"name": name, "sha256": digest}, proto, network


def _shown(proto: onnx.ModelProto, network: Network[Neuron], *, is_network: bool) -> _File:
    """The file with the spikes of every population among its outputs."""
    model = onnx.ModelProto()
    model.CopyFrom(proto)
    made = {value for node in model.graph.node for value in node.output}
    outputs = {output.name for output in model.graph.output}
    if is_network:
        layers = {each.name: each.name for each in network.populations if each.name in outputs}
        # A network with one population calls its spikes as the only output is called.
        layers |= {name: proto.graph.output[0].name for name in network.outputs if name not in layers and len(outputs) == 1}
        encoder, encoder_layers = {}, {}
    else:
        layers = {each.name: each.origin for each in network.populations if each.origin is not None and each.origin in made}
        origins = {name: given.origin for name, given in network.inputs.items() if network.encoder is not None}
        encoder = {name: origin for name, origin in origins.items() if origin is not None and origin in made}
        # Traces call layers by their module paths, which are how nodes are named.
        paths = {value: node.name.rpartition("/")[0] for node in model.graph.node for value in node.output}
        encoder_layers = {name: paths[origin] or name for name, origin in encoder.items()}
    wanted = [value for value in dict.fromkeys((*layers.values(), *encoder.values())) if value not in outputs]
    model.graph.output.extend(onnx.ValueInfoProto(name=value) for value in wanted)
    return _File(model.SerializeToString(), layers, encoder, encoder_layers, proto.graph.output[0].name, is_network)


@lru_cache(maxsize=2)
def _session(model: bytes, native: bool) -> onnxruntime.InferenceSession:
    return custom_ops.session(model, native=native)


def _run_file(model: bytes, x: Mapping[str, Array], native: bool) -> dict[str, Array]:
    session = _session(model, native)
    inputs = [value.name for value in session.get_inputs()]
    names = [output.name for output in session.get_outputs()]
    given = dict(zip(inputs, x.values(), strict=True)) if len(inputs) == len(x) == 1 else {name: x[name] for name in inputs}
    try:
        return dict(zip(names, session.run(names, given), strict=True))
    except Exception as error:  # onnxruntime raises a dozen unrelated classes
        shape = list(next(iter(x.values())).shape)
        reason = " ".join(str(error).split())
        raise ConversionError(f"The file does not run on input of the shape {shape} ({reason}): export it again.") from error


def _has_library() -> bool:
    try:
        custom_ops.get_library_path()
    except RuntimeUnavailableError:
        return False
    return True


def _fixed_samples(proto: onnx.ModelProto) -> int | None:
    """The number of samples that a file insists on."""
    dims = proto.graph.input[0].type.tensor_type.shape.dim
    return dims[1].dim_value or None if len(dims) > 1 else None


# Comparing.


def _bits(spikes: Mapping[str, Array]) -> dict[str, Array]:
    """Of 0 and 1, in a quarter of the memory; any other value stays what it is, and differs."""
    return {name: values.astype(np.uint8) if ((values == 0) | (values == 1)).all() else values for name, values in spikes.items()}


def _layers(work: _Work, results: Mapping[str, Array], chunk: Chunk) -> dict[str, Array]:
    """The populations that the file shows; pools fold time into the batch, and some give their spikes flat."""
    steps = next(iter(chunk.x.values())).shape[0]
    found = {}
    for name, value in work.file.layers.items():
        shape = (steps, chunk.samples, *work.network.shapes[name])
        if results[value].size == prod(shape):
            found[name] = results[value].reshape(shape)
    return _bits(found)


def _compared(name: str, runs: Mapping[str, Mapping[str, Array]], start: int) -> LayerCheck:
    return compared(name, {runtime: spikes[name] for runtime, spikes in runs.items() if name in spikes}, start)


def _encoder_check(work: _Work, chunk: Chunk, name: str, spikes: Array, in_file: Array) -> LayerCheck:
    """One output of the encoder, in the file and in the trace."""
    layer = work.file.encoder_layers[name]
    recorded = {} if chunk.trace is None or layer not in chunk.trace else {"trace": chunk.trace[layer]}
    return compared(layer, {"encoder": spikes, "file": in_file.reshape(spikes.shape), **recorded}, chunk.start)


def _votes(work: _Work, runs: Mapping[str, Mapping[str, Array]], outputs: Mapping[str, Array], chunk: Chunk) -> dict[str, Votes]:
    """Of each runtime whose output votes for classes."""
    network = work.network
    said = {
        name: decode(network, spikes)
        for name, spikes in runs.items()
        if name not in (FLOAT, FLOAT_NATIVE, "file") and all(each in spikes for each in network.outputs)
    }
    for name, output in outputs.items():
        # A network that stands for its file has been cut already: its file gives the spikes that the readout reads.
        said[name] = decode(network, runs[name]) if work.file.is_network and network.readout is not None else output
    voted = {name: classes(output, chunk.samples) for name, output in said.items()}
    expected = voted.get("file" if "file" in outputs else FLOAT)
    return {
        name: Votes(
            chunk.samples,
            None if chunk.labels is None else int(np.count_nonzero(vote == chunk.labels)),
            None if expected is None else int(np.count_nonzero(vote == expected)),
        )
        for name in runs
        if (vote := voted.get(name)) is not None
    }


def _window(runs: Mapping[str, Mapping[str, Array]], steps: int, network: Network[Any]) -> dict[str, dict[str, Array]]:
    """The first samples, for the page."""
    each = steps * sum(population.neurons for population in network.populations)
    count = min(_LARGEST_WINDOW, max(1, _WINDOW_BYTES // each))
    return {
        runtime: {name: np.ascontiguousarray(values[:, :count]) for name, values in spikes.items() if name in network.shapes}
        for runtime, spikes in runs.items()
    }


def _evidence(layer: LayerCheck, runs: Mapping[str, Mapping[str, Array]], start: int) -> dict[str, Array]:
    """The sample in which a population differs first, in every runtime."""
    assert layer.first is not None
    sample = layer.first.sample - start
    return {runtime: spikes[layer.name][:, sample].copy() for runtime, spikes in runs.items() if layer.name in spikes}


def _check_trace(trace: Trace, network: Network[CubaNeuron], file: _File) -> None:
    steps, samples = trace.input.shape[:2]
    shapes = {each.name: each.shape for each in network.populations}
    shapes |= {layer: network.inputs[name].shape for name, layer in file.encoder_layers.items()}
    for name, spikes in trace.spikes.items():
        if name not in shapes or spikes.shape != (steps, samples, *shapes[name]):
            raise ConversionError(
                f"The trace's layer {name!r} with the shape {list(spikes.shape)} is not one of this network, which has "
                f"{', '.join(map(repr, shapes))}."
            )
