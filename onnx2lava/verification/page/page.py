"""From a verification to its report: one file that holds all it shows."""

import base64
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from custom_ops.errors import ModelFileError
from custom_ops.files.atomic_write import replacing
from custom_ops.loihi import WEIGHT_RANGE
from custom_ops.terminal import versions

from ...errors import ConversionError
from ...network import Array, FloatNeuron, is_loihi
from ...quantization import layer_scales, quantization_report
from ..counts import FLOAT, FLOAT_NATIVE, LayerCheck
from ..result import Verification
from ..tables import verdicts
from .membrane import potentials, thresholds
from .window import Window, choose_window

__all__ = ["prepare_folder", "write_report"]

_BYTES = 1_000_000
"""What the potentials may take in the page; they are most of it."""
_BARS = 64
"""Of a histogram."""


@dataclass(frozen=True, eq=False)
class _Layer:
    """What the page says about one layer in words."""

    check: LayerCheck
    anchor: str
    shape: str


def write_report(result: Verification, directory: str | os.PathLike[str], *, title: str) -> Path:
    """Write ``index.html``: one file that needs nothing else, neither beside it nor from the network.

    The page has the table of the verification, and for the sample that its reader picks: what went in, the votes for classes,
    and layer by layer the spikes of the float network, of Loihi's integers and of Lava side by side, with the membrane
    potential of any neuron shown. Beside them the rates over time and the weights before and after rounding; with labels, who is
    confused with whom. Links lead from the table to where a layer first differs.

    Args:
        result: what ``verify`` found.
        directory: where to write; it is made if it is missing. An older page there is replaced as a whole.
        title: heading of the page, such as the model's file name.

    Returns:
        The path of the page.

    Raises:
        ConversionError: jinja2 is not installed.
        ModelFileError: the folder cannot be written to.
    """
    folder = prepare_folder(directory)
    import jinja2

    template = files(__package__).joinpath("page.html.jinja").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined)
    text = environment.from_string(template).render(
        title=title,
        result=result,
        layers=[_Layer(check, f"layer-{index}", _shape(result, check)) for index, check in enumerate(result.layers)],
        verdicts=verdicts(result),
        confusions=_confusions(result),
        quantization=_quantization(result),
        versions=versions(),
        data=json.dumps(_data(result), separators=(",", ":")).replace("<", "\\u003c"),
        program=files(__package__).joinpath("page.js").read_text(encoding="utf-8"),
        FLOAT=FLOAT,
    )
    page = folder / "index.html"
    try:
        with replacing(page) as temporary:
            temporary.write_text(text, encoding="utf-8")
    except OSError as error:
        raise _cannot_write(folder, error) from error
    return page


def prepare_folder(directory: str | os.PathLike[str]) -> Path:
    """Make the folder of a report, before anything runs that takes long.

    Raises:
        ConversionError: jinja2 is not installed.
        ModelFileError: the folder cannot be made or written to.
    """
    if not _installed("jinja2"):
        raise ConversionError('A report needs jinja2: install "sj2lava[report]".')
    folder = Path(directory)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise _cannot_write(folder, error) from error
    return folder


def _installed(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ValueError:  # what was taken away on purpose
        return False


def _cannot_write(folder: Path, error: OSError) -> ModelFileError:
    return ModelFileError(f"Cannot write to {folder}: {error.strerror or error}; check the folder and the space on it.")


# What the page's program reads. Spikes are bits, row by row, each row a neuron; "" is what equals the reference.


def _data(result: Verification) -> dict[str, Any]:
    windows = {check.name: _window(result, check) for check in result.layers}
    samples = _samples(result, windows)
    inputs = []
    for name, values in result.inputs.items():
        parts = [values[:, index] for index in range(min(len(samples), values.shape[1]))]
        window = choose_window(parts, None)
        runs = {str(samples[index]): _bits(window.cut(part)) for index, part in enumerate(parts)}
        inputs.append({"name": name, **_frame(window, values.shape[2:]), "samples": runs})
    return {
        "samples": samples,
        "titles": dict(result.titles),
        "labels": [] if result.labels is None else result.labels[: len(samples)].tolist(),
        "scores": {name: np.round(values[: len(samples)], 4).tolist() for name, values in result.scores.items()},
        "inputs": inputs,
        "layers": [_layer(result, check, windows[check.name], samples) for check in result.layers],
    }


def _window(result: Verification, check: LayerCheck) -> Window | None:
    kept = result.spikes.get(check.reference, {}).get(check.name)
    parts = [] if kept is None else [kept[:, index] for index in range(kept.shape[1])]
    seen = result.evidence.get(check.name, {}).get(check.reference)
    parts += [] if seen is None else [seen]
    return choose_window(parts, check.first) if parts else None


def _samples(result: Verification, windows: Mapping[str, Window | None]) -> list[int]:
    """The numbers of the samples that all layers show: as many as have room."""
    kept = max((values.shape[1] for each in result.spikes.values() for values in each.values()), default=0)
    one = sum(2 * len(window.neurons) * (window.stop - window.start) for window in windows.values() if window is not None)
    first = result.samples[0][0]
    return list(range(first, first + min(kept, max(1, _BYTES // max(one, 1)))))


def _frame(window: Window, shape: Sequence[int]) -> dict[str, Any]:
    return {"shape": list(shape), "neurons": window.neurons.tolist(), "start": window.start, "stop": window.stop}


def _layer(result: Verification, check: LayerCheck, window: Window | None, samples: Sequence[int]) -> dict[str, Any]:
    per_neuron = check.size / max(1, result.steps)
    data: dict[str, Any] = {
        "name": check.name,
        "reference": check.reference,
        "rates": {name: [round(count / per_neuron, 6) for count in counts] for name, counts in check.per_step.items()},
    }
    population = None if result.network is None else result.network[check.name]
    if population is not None:
        data["weights"] = _histogram(population.weights(), _scaled_weights(result, check.name))
    if window is None:
        return data
    shape = (check.size // max(1, result.steps * result.count),) if population is None else population.shape
    data |= _frame(window, shape)
    if check.first is not None:
        first = check.first
        data["first"] = {"sample": first.sample, "step": first.step, "neuron": first.neuron, "runtime": first.runtime}
    names = _side_by_side(result, check)
    data["runs"] = {name: {} for name in names}
    data["potentials"] = {}
    if population is not None:
        data["thresholds"] = thresholds(result.network, check.name, window.neurons).tolist()  # type: ignore[arg-type]
    for index, sample in enumerate(samples):
        spikes = {name: result.spikes[name][check.name][:, index] for name in names if check.name in result.spikes.get(name, {})}
        _add_sample(data, result, check, window, sample, spikes, _sources(result, check, index))
    if check.first is not None and check.first.sample not in samples:
        seen = {name: values for name, values in result.evidence.get(check.name, {}).items() if name in names}
        _add_sample(data, result, check, window, check.first.sample, seen, result.causes.get(check.name))
    return data


def _add_sample(
    data: dict[str, Any],
    result: Verification,
    check: LayerCheck,
    window: Window,
    sample: int,
    spikes: Mapping[str, Array],
    sources: Mapping[str, Array] | None,
) -> None:
    if check.reference not in spikes:
        return
    expected = window.cut(spikes[check.reference])
    for name, values in spikes.items():
        cut = window.cut(values)
        same = name != check.reference and bool((cut == expected).all())
        data["runs"][name][str(sample)] = "" if same else _bits(cut)
    if result.network is not None and sources and is_loihi(result.network):
        v = potentials(result.network, check.name, window.neurons, sources)[window.start : window.stop].T
        small = bool((np.abs(v) < 2**15).all())
        data["potentials"][str(sample)] = [16 if small else 32, _text(v.astype("<i2" if small else "<i4"))]


def _sources(result: Verification, check: LayerCheck, index: int) -> dict[str, Array] | None:
    """What a layer reads in one of the first samples; None where it is not all there."""
    if result.network is None:
        return None
    references = {each.name: each.reference for each in result.layers}
    found = {}
    for edge in result.network[check.name].edges:
        inside = result.spikes.get(references.get(edge.source, ""), {}).get(edge.source)
        values = result.inputs.get(edge.source) if edge.source in result.network.inputs else inside
        if values is None:
            return None
        found[edge.source] = values[:, index]
    return found


def _bits(spikes: Array) -> str:
    return _text(np.packbits(spikes != 0))


def _text(values: Array) -> str:
    return base64.b64encode(np.ascontiguousarray(values).tobytes()).decode("ascii")


def _side_by_side(result: Verification, check: LayerCheck) -> list[str]:
    """The float network, the reference and what Lava's software says; and whatever differs from the reference."""
    always = (FLOAT, check.reference, "slayer", "netx", "lava")
    shown = [name for name in check.counts if name in always or (check.mismatches.get(name) and name != FLOAT_NATIVE)]
    return sorted(shown, key=lambda name: (name != FLOAT, name != check.reference))


def _histogram(integers: Array, scaled: Array | None) -> dict[str, Any]:
    """How often each weight of the grid is used, and, among weights that were rounded, how many lay beyond its ends."""
    low, high = int(integers.min()), int(integers.max())
    step = 2 * max(1, -(-(high - low + 2) // (2 * _BARS)))
    edges = np.arange(low - 1, high + 1 + step, step)
    counts, _ = np.histogram(integers, edges)
    found: dict[str, Any] = {"low": low, "step": step, "counts": counts.tolist()}
    if scaled is not None:
        found["before"] = np.histogram(np.clip(scaled, edges[0], edges[-1]), edges)[0].tolist()
        found["clamped"] = int(np.count_nonzero((scaled < WEIGHT_RANGE[0] - 1) | (scaled > WEIGHT_RANGE[1] + 1)))
    return found


def _scaled_weights(result: Verification, name: str) -> Array | None:
    assert result.network is not None
    scale = layer_scales(result.network).get(name)
    if scale is None or result.given is None or not isinstance(result.given[name].neuron, FloatNeuron):
        return None
    return result.given[name].weights() * np.float32(scale)


# What stands in the page as it is.


def _shape(result: Verification, check: LayerCheck) -> str:
    if result.network is None:
        return f"{check.size // max(1, result.steps * result.count):,}"
    population = result.network[check.name]
    kinds = " + ".join(dict.fromkeys(type(edge.map).__name__ for edge in population.edges))
    return f"{kinds}, {' × '.join(map(str, population.shape))}"


def _confusions(result: Verification) -> list[tuple[str, tuple[tuple[int, ...], ...]]]:
    """Each matrix once, and who votes so."""
    found: dict[tuple[tuple[int, ...], ...], list[str]] = {}
    for name, each in result.votes.items():
        if each.confusion is not None and name != FLOAT_NATIVE:
            found.setdefault(each.confusion, []).append(result.titles[name])
    return [(", ".join(names), matrix) for matrix, names in found.items()]


def _quantization(result: Verification) -> Mapping[str, str]:
    """By layer: what rounding cost, in words."""
    if result.given is None or result.network is None:
        return {}
    report = quantization_report(result.given, result.network)
    return {
        layer.name: f"scale {layer.scale:.5g}, {layer.weight_bits} bits, weight error {layer.weight_error:.2%}, "
        f"{layer.weights_saturated:.2%} of the weights clamped"
        for layer in report.layers
    }
