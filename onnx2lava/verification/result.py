"""What a verification found, as a sum over samples: parts of it, made anywhere, add up to the whole."""

import base64
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import reduce
from typing import Any

import numpy as np

from custom_ops.errors import ModelFileError
from custom_ops.files.atomic_write import replacing
from custom_ops.files.model_file import require_file
from custom_ops.terminal import versions

from ..errors import ConversionError
from ..network import Array, Network
from .counts import FLOAT, FLOAT_NATIVE, Disagreement, LayerCheck, added

__all__ = ["SCHEMA", "Note", "Verification", "Votes", "json_text", "merged", "read_json", "write_json"]

SCHEMA = 3
"""Version of the JSON that :func:`write_json` writes."""

_LARGEST_JSON = 2**30


@dataclass(frozen=True)
class Note:
    """Something that a reader of the result has to know.

    Args:
        kind: ``"left out"`` (a runtime did not run), ``"silent"`` (a population never fired), ``"not compared"`` (nothing was
            there to compare with), ``"finding"`` (what a target or the chip objects to), ``"quantisation"``, ``"option"`` (one
            that had nothing to apply to), ``"host"`` (encoder and readout).
        subject: the runtime, population or option.
        message: a sentence.
    """

    kind: str
    subject: str
    message: str

    @property
    def weakens(self) -> bool:
        """Whether less was compared than one might think."""
        return self.kind in ("left out", "silent", "not compared")


@dataclass(frozen=True)
class Votes:
    """How the classes that a runtime votes for compare, of how many samples.

    Args:
        samples: how many.
        right: those that have the class of their label; None without labels.
        same: those that have the class that the file as it was read gives them; None where it votes for no classes.
        confusion: samples by the class of their label (outer) and the one voted for; None without labels, or where there are
            very many classes.
    """

    samples: int
    right: int | None
    same: int | None
    confusion: tuple[tuple[int, ...], ...] | None = None


@dataclass(frozen=True)
class Verification:
    """What :func:`verify` found.

    Args:
        model: what was verified: ``"name"``, and ``"sha256"`` of the file.
        steps: time steps of each sample.
        samples: which samples, as ranges (first, one past the last), ascending.
        layers: one entry per population.
        encoder: one entry per output of the encoder: its spikes against those of the same layers in the file; these are no
            mismatches, since they stand before everything that was converted.
        titles: how tables and pages call each runtime, in the order in which they ran.
        seconds: how long each runtime took; None for a trace.
        left_out: runtimes that did not run, and why.
        votes: by runtime, where the output votes for classes.
        remarks: notes that do not depend on the samples.
        given: the network as it was read; None where the result was read from a file.
        network: its integers, which ran; likewise.
        spikes: by runtime and population, the spikes ``[T, n, *shape]`` of the first samples, uint8.
        evidence: by population that has a :class:`Disagreement`, the spikes ``[T, *shape]`` of its sample in each runtime.
        causes: likewise, by input or population that it reads, what came in.
        inputs: by input of the network, what went in, ``[T, n, *shape]``, in the first samples.
        scores: by runtime, what its output said for each class, ``[n, K]``, in the first samples.
        labels: the classes of these, ``[n]``.
    """

    model: Mapping[str, str]
    steps: int
    samples: tuple[tuple[int, int], ...]
    layers: tuple[LayerCheck, ...]
    encoder: tuple[LayerCheck, ...]
    titles: Mapping[str, str]
    seconds: Mapping[str, float | None]
    left_out: Mapping[str, str]
    votes: Mapping[str, Votes]
    remarks: tuple[Note, ...] = ()
    given: Network[Any] | None = field(default=None, repr=False)
    network: Network[Any] | None = field(default=None, repr=False)
    spikes: Mapping[str, Mapping[str, Array]] = field(default_factory=dict, repr=False)
    evidence: Mapping[str, Mapping[str, Array]] = field(default_factory=dict, repr=False)
    causes: Mapping[str, Mapping[str, Array]] = field(default_factory=dict, repr=False)
    inputs: Mapping[str, Array] = field(default_factory=dict, repr=False)
    scores: Mapping[str, Array] = field(default_factory=dict, repr=False)
    labels: Array | None = field(default=None, repr=False)

    @property
    def count(self) -> int:
        """How many samples."""
        return sum(stop - start for start, stop in self.samples)

    @property
    def mismatches(self) -> int:
        """Spikes that differ between runtimes that must agree, over all populations, each counted once."""
        return sum(layer.different for layer in self.layers)

    @property
    def accuracy(self) -> dict[str, float]:
        """Share of right classes by runtime, where labels were given."""
        return {name: each.right / each.samples for name, each in self.votes.items() if each.right is not None}

    @property
    def same_class(self) -> dict[str, float]:
        """Share of the samples that get the class that the file as it was read gives them, by runtime; without the file."""
        runtimes = {name: each for name, each in self.votes.items() if name not in (FLOAT, FLOAT_NATIVE, "file")}
        return {name: each.same / each.samples for name, each in runtimes.items() if each.same is not None}

    @property
    def encoder_mismatches(self) -> int | None:
        """Of the encoder's spikes, how many differ from those of the same layers in the file; None without one."""
        return sum(layer.different for layer in self.encoder) if self.encoder else None

    @property
    def first(self) -> tuple[LayerCheck, Disagreement] | None:
        """The first population in the order of the network that differs, where the cause is, and its first disagreement."""
        return next(((layer, layer.first) for layer in self.layers if layer.first is not None), None)

    @property
    def silent(self) -> tuple[str, ...]:
        """Populations that fired in no integer runtime."""
        return tuple(layer.name for layer in self.layers if not layer.spikes and not layer.different)

    @property
    def uncompared(self) -> tuple[str, ...]:
        """Populations that only one integer runtime shows."""
        return tuple(layer.name for layer in self.layers if len(_integer(layer)) < 2)

    @property
    def notes(self) -> tuple[Note, ...]:
        """Everything that a reader has to know, beside the numbers."""
        notes = []
        for reason in dict.fromkeys(self.left_out.values()):
            names = ", ".join(name for name, own in self.left_out.items() if own == reason)
            notes.append(Note("left out", names, f"{names} did not run: {reason}"))
        uncompared = set(self.uncompared)
        if len(uncompared) == len(self.layers):
            ran = next(iter(_integer(self.layers[0])), "no runtime")
            notes.append(Note("not compared", ran, f"Only {ran} ran the integers: nothing was compared with anything."))
        else:
            notes += [
                Note(
                    "not compared",
                    layer.name,
                    f"{layer.name!r} is shown by {layer.reference} alone: it was compared with nothing.",
                )
                for layer in self.layers
                if layer.name in uncompared
            ]
        for layer in self.layers:
            if layer.name in self.silent:
                before = ", though it did before quantisation" if layer.float_rate else ""
                notes.append(Note("silent", layer.name, f"{layer.name!r} never fired{before}: nothing was compared there."))
        return (*notes, *self.remarks, *_host_notes(self))


def merged(parts: Iterable[Verification]) -> Verification:
    """The sum of results on different samples of one network.

    Raises:
        ConversionError: there is none, they are of different networks or runtimes, or a sample stands in two of them.
    """
    parts = sorted(parts, key=lambda part: part.samples)
    if not parts:
        raise ConversionError("There are no parts to merge.")
    return reduce(_sum, parts)


def _sum(one: Verification, other: Verification) -> Verification:
    if one.samples[-1][1] > other.samples[0][0]:
        raise ConversionError(
            f"The samples {other.samples[0][0]} … {one.samples[-1][1] - 1} stand in two parts: each sample must be counted once."
        )
    first, second = _identity(one), _identity(other)
    if first != second:
        what = next(name for name in first if first[name] != second[name])
        raise ConversionError(f"The parts differ in their {what}: verify them with the same network, runtimes and options.")
    layers = tuple(added(a, b) for a, b in zip(one.layers, other.layers, strict=True))
    seen_by = {
        layer.name: one if layer.first == before.first else other
        for layer, before in zip(layers, one.layers, strict=True)
        if layer.first is not None
    }
    return replace(
        one,
        samples=_joined(one.samples, other.samples),
        layers=layers,
        encoder=tuple(added(a, b) for a, b in zip(one.encoder, other.encoder, strict=True)),
        seconds={name: _plus(taken, other.seconds[name]) for name, taken in one.seconds.items()},
        votes={name: _voted(each, other.votes[name]) for name, each in one.votes.items()},
        evidence={name: part.evidence.get(name, {}) for name, part in seen_by.items()},
        causes={name: part.causes.get(name, {}) for name, part in seen_by.items()},
    )


def _identity(part: Verification) -> dict[str, Any]:
    """What parts must have in common."""
    return {
        "model": dict(part.model),
        "time steps": part.steps,
        "populations": [layer.name for layer in (*part.layers, *part.encoder)],
        "runtimes": [list(part.seconds), sorted(part.left_out)],
        "votes": {name: (each.right is None, each.same is None) for name, each in part.votes.items()},
        "notes": part.remarks,
    }


def _joined(one: tuple[tuple[int, int], ...], other: tuple[tuple[int, int], ...]) -> tuple[tuple[int, int], ...]:
    if one[-1][1] == other[0][0]:
        return (*one[:-1], (one[-1][0], other[0][1]), *other[1:])
    return (*one, *other)


def _plus(one: Any, other: Any) -> Any:
    return None if one is None or other is None else one + other


def _voted(one: Votes, other: Votes) -> Votes:
    confusion = None
    if one.confusion is not None and other.confusion is not None:
        confusion = tuple(tuple(map(sum, zip(*rows, strict=True))) for rows in zip(one.confusion, other.confusion, strict=True))
    return Votes(one.samples + other.samples, _plus(one.right, other.right), _plus(one.same, other.same), confusion)


def _integer(layer: LayerCheck) -> list[str]:
    return [name for name in layer.counts if name not in (FLOAT, FLOAT_NATIVE)]


def _host_notes(result: Verification) -> list[Note]:
    notes = []
    if result.encoder_mismatches is not None:
        message = f"encoder: {result.encoder_mismatches:,} of its spikes differ from those of the same layer in the file."
        notes.append(Note("host", "encoder", message))
    shares = set(result.same_class.values())
    if shares and FLOAT in result.seconds:
        listed = " … ".join(f"{share:.2%}" for share in sorted({min(shares), max(shares)}))
        notes.append(Note("host", "output", f"output: the same class as before quantisation for {listed} of the samples."))
    return notes


def write_json(result: Verification, path: str | os.PathLike[str], *, spikes: bool = False) -> None:
    """Write the numbers in ``result``, and what is derived from them; an old file stays whole if anything goes wrong.

    Args:
        result: to be written.
        path: of the file.
        spikes: whether the spikes for the report page go in as well, so that merged parts can have one.

    Raises:
        ModelFileError: the file cannot be written.
    """
    try:
        with replacing(path) as temporary:
            temporary.write_text(json_text(result, spikes=spikes), encoding="utf-8")
    except OSError as error:
        raise ModelFileError(f"Cannot write {path}: {error.strerror or error}; check the folder and the space on it.") from error


def json_text(result: Verification, *, spikes: bool = False) -> str:
    """What :func:`write_json` writes."""
    return json.dumps(_as_json(result, spikes), indent=2) + "\n"


def read_json(path: str | os.PathLike[str]) -> Verification:
    """Read what :func:`write_json` wrote.

    Raises:
        ModelFileError: the file is missing, broken or something else.
    """
    if require_file(path) > _LARGEST_JSON:
        raise ModelFileError(f"{path} is larger than any result of verify: it is something else.")
    try:
        with open(path, encoding="utf-8") as file:  # noqa: PTH123 (a path of any kind)
            found = json.load(file)
        if found["schema"] != SCHEMA:
            raise ValueError(f"its schema is {found['schema']}, not {SCHEMA}")
        return _from_json(found)
    except Exception as error:  # whatever a file that says anything leads to
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ModelFileError(f"{path} is not a result that verify --json wrote here ({reason}): verify again.") from error


def _as_json(result: Verification, spikes: bool) -> dict[str, Any]:
    def layer(each: LayerCheck) -> dict[str, Any]:
        derived = {"spikes": each.spikes, "rate": each.rate, "float_rate": each.float_rate, "agreement": each.agreement}
        return {**asdict(each), **derived}

    numbers: dict[str, Any] = {
        "schema": SCHEMA,
        "versions": versions(),
        "model": dict(result.model),
        "steps": result.steps,
        "samples": [list(each) for each in result.samples],
        "mismatches": result.mismatches,
        "layers": [layer(each) for each in result.layers],
        "encoder": [layer(each) for each in result.encoder],
        "titles": dict(result.titles),
        "seconds": dict(result.seconds),
        "left_out": dict(result.left_out),
        "votes": {name: asdict(each) for name, each in result.votes.items()},
        "accuracy": result.accuracy,
        "same_class": result.same_class,
        "encoder_mismatches": result.encoder_mismatches,
        "remarks": [asdict(each) for each in result.remarks],
        "notes": [{**asdict(each), "weakens": each.weakens} for each in result.notes],
    }
    if spikes:
        numbers["window"] = {name: _packed(each) for name, each in result.spikes.items()}
        numbers["evidence"] = {name: _packed(each) for name, each in result.evidence.items()}
        numbers["inputs"] = _packed(result.inputs)
        numbers["scores"] = {name: values.tolist() for name, values in result.scores.items()}
        numbers["labels"] = None if result.labels is None else result.labels.tolist()
    return numbers


def _from_json(found: dict[str, Any]) -> Verification:
    def layer(each: dict[str, Any]) -> LayerCheck:
        first = None if each["first"] is None else Disagreement(**each["first"])
        per_step = {name: tuple(map(int, values)) for name, values in each["per_step"].items()}
        kept = {name: each[name] for name in ("name", "reference", "size", "counts", "mismatches", "different", "agreeing")}
        return LayerCheck(**kept, first=first, per_step=per_step)

    def votes(*, confusion: list[list[int]] | None, **counts: Any) -> Votes:
        return Votes(**counts, confusion=None if confusion is None else tuple(tuple(map(int, row)) for row in confusion))

    return Verification(
        model=dict(found["model"]),
        steps=int(found["steps"]),
        samples=tuple((int(start), int(stop)) for start, stop in found["samples"]),
        layers=tuple(map(layer, found["layers"])),
        encoder=tuple(map(layer, found["encoder"])),
        titles=dict(found["titles"]),
        seconds=dict(found["seconds"]),
        left_out=dict(found["left_out"]),
        votes={name: votes(**each) for name, each in found["votes"].items()},
        remarks=tuple(Note(**each) for each in found["remarks"]),
        spikes={name: _unpacked(each) for name, each in found.get("window", {}).items()},
        evidence={name: _unpacked(each) for name, each in found.get("evidence", {}).items()},
        inputs=_unpacked(found.get("inputs", {})),
        scores={name: np.array(values, np.float64) for name, values in found.get("scores", {}).items()},
        labels=None if found.get("labels") is None else np.array(found["labels"], np.int64),
    )


def _packed(arrays: Mapping[str, Array]) -> dict[str, Any]:
    """Spikes as bits, in text."""
    return {
        name: {"shape": list(values.shape), "bits": base64.b64encode(np.packbits(values != 0).tobytes()).decode("ascii")}
        for name, values in arrays.items()
    }


def _unpacked(packed: Mapping[str, Any]) -> dict[str, Array]:
    arrays = {}
    for name, each in packed.items():
        bits = np.unpackbits(np.frombuffer(base64.b64decode(each["bits"], validate=True), np.uint8))
        shape = tuple(map(int, each["shape"]))
        arrays[name] = bits[: int(np.prod(shape))].reshape(shape)
    return arrays
