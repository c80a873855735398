"""Run one network in every runtime at hand and compare every spike of every population.

Encoder and readout run on onnxruntime: the encoder's spikes go into every runtime, and the readout says what comes out of each.
The samples go through all runtimes a few at a time; what is counted of them adds up (``result.py``), wherever it was counted.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from math import ceil, prod
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

import custom_ops
from custom_ops.errors import RuntimeUnavailableError
from custom_ops.files.trace import Trace

from ..conversion import quantize
from ..errors import ConversionError, LimitError
from ..host import decode, encode, votes
from ..lava_runtime import RunConfig
from ..network import Array, CubaNeuron, Network, Neuron, is_loihi
from ..quantization import quantization_notes, quantization_report
from ..quantization.quantizing import require_scale
from ..targets import TARGETS, Target
from ..targets.limits import chip
from .counts import FLOAT, FLOAT_NATIVE, LayerCheck, compared
from .model import File, Model, Subject, arranged, opened, run_file
from .parallel import in_order
from .result import Note, Verification, Votes, merged
from .source import Chunk, Given, Source, source

if TYPE_CHECKING:
    from ..read.onnx_file import InputKind

__all__ = ["verify"]

Progress: TypeAlias = Callable[[str, int, int | None], None]
"""Called with the name of a runtime, the number of samples that it has done, and how many there are, if that is known."""

_FILE = "file"
_TITLES = {
    "trace": "recorded trace",
    _FILE: "onnxruntime, the file as it is",
    FLOAT: "float network, the file as it is",
    FLOAT_NATIVE: "float network, native operators",
}
_NUMPY_LIMIT = 2e9  # synaptic operations beyond which the NumPy reference runs only when it is asked for: about a minute
_CHUNK_BYTES = 2**25
"""What the spikes and sums of the samples that run together may take."""
_WINDOW_BYTES = 2**23
"""What the spikes that are kept for the page may take in each runtime."""
_LARGEST_WINDOW = 16
_MOST_CLASSES = 32
"""In a matrix of confusions."""


def verify(
    model: Subject,
    x: Given,
    *,
    against: Sequence[str] | None = None,
    scale: Literal["auto"] | float = "auto",
    calibration: Array | Mapping[str, Array] | None = None,
    trace: Trace | None = None,
    labels: Array | None = None,
    input: "InputKind | None" = None,
    output: str | None = None,
    samples: tuple[int, int | None] = (0, None),
    batch: int | None = None,
    executor: Executor | None = None,
    progress: Progress | None = None,
    run_config: RunConfig | None = None,
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
        input: what a file is fed with, see ``load``; by default what the exporter saw, else spikes.
        output: which of a file's outputs is the network's; by default the first.
        samples: the first sample to run, and one past the last; None for all that follow. The others are left to other calls,
            whose results :func:`~onnx2lava.verification.merged` adds up.
        batch: how many samples run together; by default as many as 32 MiB of spikes allow.
        executor: where to run them; its workers need this package. By default here, one after the other.
        progress: called as runtimes go on.
        run_config: a function that gives a run configuration of Lava's, new with each call, for ``"lava"`` and ``"netx"`` in the
            place of ``Loihi2SimCfg(select_tag="fixed_pt")``, such as one for a chip. With an executor it has to be importable.

    Raises:
        RuntimeUnavailableError: a runtime in ``against`` cannot run here.
        LimitError: a runtime in ``against`` cannot hold the network.
        ConversionError: input, trace or labels do not fit the network; or anything that ``load`` and ``quantize`` raise.
    """
    scale = require_scale(scale)
    chosen = _chosen(against)
    if batch is not None and batch < 1:
        raise ConversionError(f"The batch is {batch}, but at least one sample has to run at once.")
    subject = opened(model, input, output)
    given = subject.network
    network = quantize(given, scale=scale, calibration=calibration)
    found = source(given, x, trace, labels)
    first, last = _range(samples, found)
    if trace is not None:
        _check_trace(trace, network, subject.file)
    ignored = {"scale": scale != "auto", "calibration": calibration is not None}
    remarks = [*_remarks(subject, network, ignored), *_about_labels(network, labels)]
    left_out = _left_out(chosen, network, found, by_name=against is not None)
    targets = tuple(name for name in chosen if name not in left_out)
    if run_config is not None and not {"lava", "netx"} & set(targets):
        remarks.append(Note("option", "run_config", "The run configuration was not used: neither lava nor netx ran."))
    work = _Work(subject, network, targets, left_out, tuple(remarks), run_config)
    fixed = None if subject.file is None else subject.file.samples
    total = None if found.samples is None else min(found.samples, last or found.samples) - first
    chunks = found.chunks(fixed or batch or _alike(_affordable(given, found), total, executor), first, last)
    result = merged(in_order(_check, work, chunks, executor, progress, total))
    return replace(result, given=given, network=network)


@dataclass(frozen=True, eq=False)
class _Work:
    """What every worker needs, whatever the samples."""

    model: Model
    network: Network[CubaNeuron]
    targets: tuple[str, ...]
    left_out: Mapping[str, str]
    remarks: tuple[Note, ...]
    run_config: RunConfig | None

    def target(self, name: str) -> Target:
        """A runtime, with the user's run configuration."""
        return TARGETS[name] if self.run_config is None else TARGETS[name].configured(self.run_config)


@dataclass(frozen=True, eq=False)
class _Runs:
    """What the runtimes gave for some samples.

    Args:
        spikes: by runtime and population, ``[T, N, *shape]``.
        seconds: how long each took.
        said: by runtime, the network's output, behind the readout.
        encoded: by input of the network, what the file gives in the place of the encoder.
    """

    spikes: dict[str, Mapping[str, Array]]
    seconds: dict[str, float | None]
    said: dict[str, Array]
    encoded: dict[str, Array]


def _check(work: _Work, chunk: Chunk, progress: Callable[[str, int], None] | None = None) -> Verification:
    """All runtimes on some samples."""
    network = work.network
    x = encode(network, chunk.x)
    steps = next(iter(x.values())).shape[0]
    runs = _run(work, chunk, x, steps, progress)
    layers = tuple(
        compared(
            each.name, {runtime: spikes[each.name] for runtime, spikes in runs.spikes.items() if each.name in spikes}, chunk.start
        )
        for each in network.populations
    )
    evidence, causes = {}, {}
    references = {layer.name: runs.spikes[layer.reference] for layer in layers}
    for layer in layers:
        if layer.first is not None:
            sample = layer.first.sample - chunk.start
            shown = {runtime: spikes for runtime, spikes in runs.spikes.items() if layer.name in spikes}
            evidence[layer.name] = {runtime: spikes[layer.name][:, sample].copy() for runtime, spikes in shown.items()}
            sources = {edge.source for edge in network[layer.name].edges}
            came = {name: x[name] if name in x else references[name][name] for name in sources}
            causes[layer.name] = {name: values[:, sample].copy() for name, values in came.items()}
    voted = {name: votes(said, chunk.samples) for name, said in runs.said.items() if name in runs.spikes}
    scores = {name: each for name, each in voted.items() if each is not None}
    kept = _kept(steps, network)
    return Verification(
        model=work.model.identity,
        steps=steps,
        samples=((chunk.start, chunk.start + chunk.samples),),
        layers=tuple(layers),
        encoder=tuple(_encoder(work, chunk, name, x[name], values) for name, values in runs.encoded.items()),
        titles={name: _TITLES[name] if name in _TITLES else TARGETS[name].title for name in (*runs.seconds, *work.left_out)},
        seconds=runs.seconds,
        left_out=work.left_out,
        votes=_votes(scores, chunk),
        remarks=work.remarks,
        spikes=_window(runs.spikes, kept, network),
        evidence=evidence,
        causes=causes,
        inputs={name: np.ascontiguousarray(values[:, :kept]) for name, values in x.items()},
        scores={name: np.asarray(each[:kept], np.float64) for name, each in scores.items()},
        labels=None if chunk.labels is None else np.asarray(chunk.labels[:kept]),
    )


def _run(work: _Work, chunk: Chunk, x: Mapping[str, Array], steps: int, progress: Callable[[str, int], None] | None) -> _Runs:
    runs = _Runs({}, {}, {}, {})
    network = work.network
    if chunk.trace is not None:
        runs.spikes["trace"], runs.seconds["trace"] = _bits(chunk.trace), None
    if work.model.file is not None:
        for name, native in _ways(work.model).items():
            _run_file(work.model, chunk, x, steps, runs, name, native=native)
    for name in work.targets:
        advance = None if progress is None else _of(progress, name)
        start = time.perf_counter()
        runs.spikes[name] = _bits(work.target(name).run(network, x, advance))
        runs.seconds[name] = time.perf_counter() - start
        if progress is not None:
            progress(name, chunk.samples)
    for name, spikes in runs.spikes.items():
        if name not in runs.said and all(each in spikes for each in network.outputs):
            runs.said[name] = decode(network, spikes)
    return runs


def _ways(model: Model) -> dict[str, bool]:
    """How the file itself runs, by the name of the runtime: with its own function bodies, and real numbers natively as well, so
    that somebody compares the two."""
    if is_loihi(model.network):
        return {_FILE: False}
    return {FLOAT: False, FLOAT_NATIVE: True} if _has_library() else {FLOAT: False}


def _run_file(model: Model, chunk: Chunk, x: Mapping[str, Array], steps: int, runs: _Runs, name: str, *, native: bool) -> None:
    file = model.file
    assert file is not None
    fed = file.fed(chunk.x, x)
    start = time.perf_counter()
    results = run_file(file, fed, native=native)
    runs.seconds[name] = time.perf_counter() - start
    shapes = model.network.shapes
    found = {each: arranged(results[value], steps, chunk.samples, shapes[each]) for each, value in file.layers.items()}
    runs.spikes[name] = _bits({each: spikes for each, spikes in found.items() if spikes is not None})
    if file.inputs is not None:
        runs.said[name] = results[file.output]
    if not native:
        runs.encoded.update({each: results[value].reshape(x[each].shape) for each, value in file.encoder.items()})


def _encoder(work: _Work, chunk: Chunk, name: str, spikes: Array, in_file: Array) -> LayerCheck:
    """One output of the encoder against the same layer in the file and in the trace."""
    assert work.model.file is not None
    layer = work.model.file.encoder_layers[name]
    recorded = {} if chunk.trace is None or layer not in chunk.trace else {"trace": chunk.trace[layer]}
    return compared(layer, {"encoder": spikes, _FILE: in_file, **recorded}, chunk.start)


def _votes(scores: Mapping[str, Array], chunk: Chunk) -> dict[str, Votes]:
    """Of each runtime whose output votes for classes."""
    voted = {name: each.argmax(axis=1) for name, each in scores.items()}
    expected = next((voted[name] for name in (_FILE, FLOAT) if name in voted), None)
    return {
        name: Votes(
            chunk.samples,
            None if chunk.labels is None else int(np.count_nonzero(vote == chunk.labels)),
            None if expected is None else int(np.count_nonzero(vote == expected)),
            None if chunk.labels is None else _confusion(np.asarray(chunk.labels), vote, scores[name].shape[1]),
        )
        for name, vote in voted.items()
    }


def _confusion(labels: Array, vote: Array, count: int) -> tuple[tuple[int, ...], ...] | None:
    """Samples by class and vote; those whose label is no class of the network stand nowhere."""
    if count > _MOST_CLASSES:
        return None
    found = np.zeros((count, count), np.int64)
    within = (labels >= 0) & (labels < count)
    np.add.at(found, (labels[within], vote[within]), 1)
    return tuple(map(tuple, found.tolist()))


def _kept(steps: int, network: Network[Any]) -> int:
    """How many samples the page shows."""
    each = steps * sum(population.neurons for population in network.populations)
    return min(_LARGEST_WINDOW, max(1, _WINDOW_BYTES // each))


def _window(runs: Mapping[str, Mapping[str, Array]], count: int, network: Network[Any]) -> dict[str, dict[str, Array]]:
    """The first samples, for the page."""
    shown = {population.name for population in network.populations}
    return {
        runtime: {name: np.ascontiguousarray(values[:, :count]) for name, values in spikes.items() if name in shown}
        for runtime, spikes in runs.items()
    }


def _bits(spikes: Mapping[str, Array]) -> dict[str, Array]:
    """Of 0 and 1, in a quarter of the memory; any other value stays what it is, and differs."""
    return {
        name: values.astype(np.uint8, copy=False) if ((values == 0) | (values == 1)).all() else values
        for name, values in spikes.items()
    }


def _of(progress: Callable[[str, int], None], name: str) -> Callable[[int, int], None]:
    return lambda done, total: progress(name, done)


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


def _left_out(chosen: Mapping[str, Target], network: Network[CubaNeuron], found: Source, *, by_name: bool) -> dict[str, str]:
    """Runtimes that do not run, and why; those that were asked for by name raise instead."""
    left_out = {}
    for name, target in chosen.items():
        absent = target.available()
        if absent is not None and by_name:
            raise RuntimeUnavailableError(absent)
        unfit = next((str(finding) for finding in target.check(network) if finding.target in (name, "loihi")), None)
        if unfit is not None and by_name:
            raise LimitError(unfit)
        slow = _too_slow(network, found) if name == "numpy" and not by_name else None
        reason = absent or unfit or slow
        if reason is not None:
            left_out[name] = reason
    return left_out


def _too_slow(network: Network[CubaNeuron], found: Source) -> str | None:
    operations = sum(map(network.connections, network.populations)) * (found.steps or 1) * (found.samples or 1)
    if operations <= _NUMPY_LIMIT:
        return None
    return f"Its {operations:.1e} synaptic operations would take minutes: ask for it by name."


def _remarks(model: Model, network: Network[CubaNeuron], ignored: Mapping[str, bool]) -> list[Note]:
    """Notes that do not depend on the samples.

    Args:
        model: as it was read.
        network: its integers.
        ignored: options that only real numbers need, and whether they were given.
    """
    remarks = [Note("finding", finding.population, str(finding)) for finding in chip(network)]
    if model.file is None:
        message = "ONNX has no file for this network, because of its loops: what it votes for was compared with nothing."
        remarks.append(Note("not compared", _FILE, message))
    if is_loihi(model.network):
        given = [option for option, is_given in ignored.items() if is_given]
        return remarks + [
            Note("option", option, f"The {option} was not used: the network is made of Loihi's integers already.")
            for option in given
        ]
    report = quantization_report(model.network, network)
    remarks += [Note("quantisation", network.name, message) for message in quantization_notes(report)]
    if not _has_library():
        message = "The native library is not built, so the operators' bodies in the file were compared with nothing."
        remarks.append(Note("not compared", FLOAT_NATIVE, message))
    return remarks


def _about_labels(network: Network[CubaNeuron], labels: Array | None) -> list[Note]:
    if labels is None or not labels.size or network.readout is not None or len(network.outputs) > 1:
        return []
    classes = prod(network.shapes[network.outputs[0]])
    if labels.min() >= 0 and labels.max() < classes:
        return []
    message = f"Labels from {labels.min()} to {labels.max()} are given, but the output votes for the classes 0 to {classes - 1}."
    return [Note("option", "labels", message)]


def _has_library() -> bool:
    try:
        custom_ops.get_library_path()
    except RuntimeUnavailableError:
        return False
    return True


def _range(samples: tuple[int, int | None], found: Source) -> tuple[int, int | None]:
    first, last = samples
    known = found.samples
    if first < 0 or (last is not None and last <= first) or (known is not None and (first >= known or (last or 0) > known)):
        have = "" if known is None else f": there are {known}"
        raise ConversionError(f"The samples {first}:{'' if last is None else last} are not there{have}.")
    return first, last


def _affordable(network: Network[Neuron], found: Source) -> int:
    """How many samples run together: each takes its sums and spikes in float32, and its spikes once more for every runtime."""
    neurons = sum(each.neurons for each in network.populations) + sum(prod(each.shape) for each in network.inputs.values())
    return max(1, _CHUNK_BYTES // (neurons * (found.steps or 32) * 16))


def _alike(most: int, total: int | None, executor: Executor | None) -> int:
    """How many samples run together so that all workers have as much to do as the others: at most ``most``."""
    shared = getattr(executor, "_max_workers", 1)
    if total is None or shared == 1:
        return most
    rounds = ceil(total / (most * shared))
    return ceil(total / (rounds * shared))


def _check_trace(trace: Trace, network: Network[CubaNeuron], file: File | None) -> None:
    steps, samples = trace.input.shape[:2]
    shapes = {each.name: each.shape for each in network.populations}
    if file is not None:
        shapes |= {layer: network.inputs[name].shape for name, layer in file.encoder_layers.items()}
    for name, spikes in trace.spikes.items():
        if name not in shapes or spikes.shape != (steps, samples, *shapes[name]):
            raise ConversionError(
                f"The trace's layer {name!r} with the shape {list(spikes.shape)} is not one of this network, which has "
                f"{', '.join(map(repr, shapes))}."
            )
