"""From a verification to the files of its report."""

import base64
import os
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.resources import files
from pathlib import Path

import numpy as np

from custom_ops.atomic_write import replacing
from custom_ops.errors import ModelFileError

from ...network import Array, FloatNeuron
from ...quantization import layer_scales, quantization_report
from ..counts import FLOAT, FLOAT_NATIVE, LayerCheck
from ..result import Verification
from ..tables import verdicts
from .pictures import THEMES, Theme, raster, rates_over_time, require_page, weight_histogram
from .window import Window, choose_window

__all__ = ["prepare_folder", "write_report"]


@dataclass(frozen=True)
class _Picture:
    """One picture on the page: its caption, a description for those who cannot see it, and a PNG a theme as a data address."""

    caption: str
    description: str
    sources: Mapping[str, str]


@dataclass(frozen=True)
class _Layer:
    """What the page says about one layer."""

    check: LayerCheck
    anchor: str
    shape: str
    window: Window | None
    pictures: Sequence[_Picture]


def write_report(result: Verification, directory: str | os.PathLike[str], *, title: str) -> Path:
    """Write ``index.html``, which holds all it shows, and every picture beside it as PNG, in a light and a dark variant.

    The page has the table of the verification and, layer by layer, the spikes of the float network, of Loihi's integers and of
    Lava side by side, their rates, the weights with the grid that they were rounded to, and where the first disagreement starts.

    Args:
        result: what ``verify`` found.
        directory: where to write; it is made if it is missing. Files of the same names are replaced, each as a whole, the
            page last.
        title: heading of the page, such as the model's file name.

    Returns:
        The path of the page.

    Raises:
        ConversionError: matplotlib or jinja2 is not installed.
        ModelFileError: the folder cannot be written to.
    """
    folder = prepare_folder(directory)
    import jinja2

    template = files(__package__).joinpath("page.html.jinja").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined)
    try:
        layers = [_layer(result, check, index, folder) for index, check in enumerate(result.layers)]
        text = environment.from_string(template).render(
            title=title,
            result=result,
            layers=layers,
            verdicts=verdicts(result),
            quantization=_quantization(result),
            FLOAT=FLOAT,
        )
        page = folder / "index.html"
        with replacing(page) as temporary:
            temporary.write_text(text, encoding="utf-8")
    except OSError as error:
        raise _cannot_write(folder, error) from error
    return page


def prepare_folder(directory: str | os.PathLike[str]) -> Path:
    """Make the folder of a report, before anything runs that takes long.

    Raises:
        ConversionError: matplotlib or jinja2 is not installed.
        ModelFileError: the folder cannot be made or written to.
    """
    require_page()
    folder = Path(directory)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise _cannot_write(folder, error) from error
    return folder


def _cannot_write(folder: Path, error: OSError) -> ModelFileError:
    return ModelFileError(f"Cannot write to {folder}: {error.strerror or error}; check the folder and the space on it.")


def _layer(result: Verification, check: LayerCheck, index: int, folder: Path) -> _Layer:
    """Pictures of the sample with the first disagreement, else of the first sample."""
    sample = check.first.sample if check.first else result.samples[0][0]
    shown = result.evidence.get(check.name) or {
        runtime: spikes[check.name][:, 0] for runtime, spikes in result.spikes.items() if check.name in spikes
    }
    stem = f"{index:02d}_{re.sub(r'[^A-Za-z0-9_.-]', '_', check.name)[:60]}"
    pictures: list[_Picture] = []
    window = None
    if check.reference in shown:
        expected = shown[check.reference]
        window = choose_window(expected, sample, check.first)
        for name in _side_by_side(check, shown):
            reference = None if name == check.reference else window.cut(expected)
            title = result.titles[name]
            description = f"Spikes of {check.name} in {title}, sample {sample}."
            draw = partial(raster, window.cut(shown[name]), reference, window)
            pictures.append(_picture(folder / f"{stem}.{name}", title, description, draw))
    per_neuron = check.size / max(1, result.steps)
    rates = {result.titles[name]: np.array(counts) / per_neuron for name, counts in check.per_step.items()}
    description = f"Mean rate of {check.name} at each time step."
    pictures.append(_picture(folder / f"{stem}.rates", "rate over time", description, partial(rates_over_time, rates)))
    shape = f"{check.size // max(1, result.steps * result.count):,}"
    if result.network is not None:
        population = result.network[check.name]
        shape = " × ".join(map(str, population.shape))
        scaled = _scaled_weights(result, check.name)
        caption = "weights on the grid of even numbers" + ("" if scaled is None else ", and before rounding")
        draw = partial(weight_histogram, population.weights(), scaled)
        pictures.append(_picture(folder / f"{stem}.weights", caption, f"Histogram of the weights of {check.name}.", draw))
    return _Layer(check, f"layer-{index}", shape, window, pictures)


def _side_by_side(check: LayerCheck, shown: Mapping[str, Array]) -> list[str]:
    """The float network, the reference and what Lava's software says; and whatever differs from the reference."""
    always = (FLOAT, check.reference, "slayer", "netx", "lava")
    return [name for name in shown if name in always or (check.mismatches.get(name) and name != FLOAT_NATIVE)]


def _picture(path: Path, caption: str, description: str, draw: Callable[[Theme], bytes]) -> _Picture:
    sources = {}
    for theme in THEMES:
        png = draw(theme)
        with replacing(path.with_name(f"{path.name}.{theme.name}.png")) as temporary:
            temporary.write_bytes(png)
        sources[theme.name] = "data:image/png;base64," + base64.b64encode(png).decode("ascii")
    return _Picture(caption, description, sources)


def _scaled_weights(result: Verification, name: str) -> Array | None:
    assert result.network is not None
    scale = layer_scales(result.network).get(name)
    if scale is None or result.given is None or not isinstance(result.given[name].neuron, FloatNeuron):
        return None
    return result.given[name].weights() * np.float32(scale)


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
