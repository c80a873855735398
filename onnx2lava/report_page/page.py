"""From a verification to the files of its report."""

import base64
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.resources import files
from pathlib import Path

import numpy as np

from custom_ops.atomic_write import replacing
from custom_ops.errors import ModelFileError

from ..network import Array, FloatNeuron
from ..quantization_report import layer_scales, quantization_report
from ..verify import FLOAT, LayerCheck, Verification
from .pictures import THEMES, Theme, raster, rates_over_time, require_matplotlib, weight_histogram
from .window import Disagreement, Window, choose_window, first_disagreement

__all__ = ["write_report"]

_NAMES = {
    "float": "float network",
    "trace": "recorded trace",
    "file": "onnxruntime, the file as it is",
    "ort": "onnxruntime",
    "ort-native": "onnxruntime, native kernels",
    "numpy": "NumPy reference",
    "slayer": "Lava-DL slayer",
    "netx": "NetX on Lava",
}


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
    window: Window
    disagreement: Disagreement | None
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
    require_matplotlib()
    import jinja2

    folder = Path(directory)
    template = files(__package__).joinpath("page.html.jinja").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        layers = [_layer(result, check, folder) for check in result.layers]
        text = environment.from_string(template).render(
            title=title,
            result=result,
            layers=layers,
            names=_NAMES,
            steps_and_samples=_steps_and_samples(result),
            quantization=_quantization(result),
            FLOAT=FLOAT,
        )
        page = folder / "index.html"
        with replacing(page) as temporary:
            temporary.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ModelFileError(
            f"Cannot write to {folder}: {error.strerror or error}; check the folder and the space on it."
        ) from error
    return page


def _layer(result: Verification, check: LayerCheck, folder: Path) -> _Layer:
    block = next(block for block in result.network.blocks if block.name == check.name)
    shown = {name: spikes[check.name] for name, spikes in result.spikes.items() if check.name in spikes}
    integers = {name: spikes for name, spikes in shown.items() if name != FLOAT}
    expected = integers[check.reference]
    disagreement = first_disagreement(integers, check.reference)
    window = choose_window(expected, disagreement)
    stem = re.sub(r"[^\w.-]", "_", check.name)
    pictures: list[_Picture] = []
    for name in _side_by_side(check, shown):
        reference = None if name == check.reference else window.cut(expected)
        description = f"Spikes of {check.name} in {_NAMES[name]}, sample {window.sample}."
        draw = partial(raster, window.cut(shown[name]), reference, window)
        pictures.append(_picture(folder / f"{stem}.{name}", _NAMES[name], description, draw))
    profiles = {_NAMES[name]: _rate_over_time(shown[name]) for name in (FLOAT, check.reference) if name in shown}
    description = f"Mean rate of {check.name} at each time step."
    pictures.append(_picture(folder / f"{stem}.rates", "rate over time", description, partial(rates_over_time, profiles)))
    scaled = _scaled_weights(result, check.name)
    caption = "weights on the grid of even numbers" + ("" if scaled is None else ", and before rounding")
    draw = partial(weight_histogram, block.synapse.weights, scaled)
    pictures.append(_picture(folder / f"{stem}.weights", caption, f"Histogram of the weights of {check.name}.", draw))
    return _Layer(check, f"layer-{stem}", " × ".join(map(str, block.shape)), window, disagreement, pictures)


def _side_by_side(check: LayerCheck, shown: Mapping[str, Array]) -> list[str]:
    """The float network, the reference and Lava; and whatever differs from the reference."""
    return [name for name in shown if name in (FLOAT, check.reference, "slayer", "netx") or check.mismatches.get(name)]


def _picture(path: Path, caption: str, description: str, draw: Callable[[Theme], bytes]) -> _Picture:
    sources = {}
    for theme in THEMES:
        png = draw(theme)
        with replacing(path.with_name(f"{path.name}.{theme.name}.png")) as temporary:
            temporary.write_bytes(png)
        sources[theme.name] = "data:image/png;base64," + base64.b64encode(png).decode("ascii")
    return _Picture(caption, description, sources)


def _rate_over_time(spikes: Array) -> Array:
    return np.asarray((spikes != 0).reshape(len(spikes), -1).mean(axis=1))


def _scaled_weights(result: Verification, name: str) -> Array | None:
    scale = layer_scales(result.network).get(name)
    block = next((block for block in result.given.blocks if block.name == name), None)
    if scale is None or block is None or not isinstance(block.neuron, FloatNeuron):
        return None
    return block.synapse.weights * np.float32(scale)


def _steps_and_samples(result: Verification) -> tuple[int, int]:
    some = next(iter(next(iter(result.spikes.values())).values()))
    return some.shape[0], some.shape[1]


def _quantization(result: Verification) -> Mapping[str, str]:
    """By layer: what rounding cost, in words."""
    report = quantization_report(result.given, result.network)
    return {
        layer.name: f"scale {layer.scale:.5g}, {layer.weight_bits} bits, weight error {layer.weight_error:.2%}, "
        f"{layer.weights_saturated:.2%} of the weights clamped"
        for layer in report.layers
    }
