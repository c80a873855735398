"""The pictures of a report, each in a light and a dark variant.

A picture is a PNG with a transparent background, so that only its ink has to fit the page's theme.
"""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np

from custom_ops.loihi import WEIGHT_RANGE

from ...errors import ConversionError
from ...network import Array
from .window import Window

__all__ = ["DARK", "LIGHT", "THEMES", "Theme", "raster", "rates_over_time", "require_page", "weight_histogram"]


@dataclass(frozen=True)
class Theme:
    """Colours of a picture: text and axes, grid lines, spikes, spikes too many, spikes missing, and a second series."""

    name: str
    ink: str
    grid: str
    spike: str
    extra: str
    missing: str
    second: str


LIGHT = Theme("light", "#24292f", "#d8dee4", "#1f5fbf", "#c2410c", "#a21caf", "#c2410c")
DARK = Theme("dark", "#d6dde4", "#3a424c", "#7fb2ff", "#ff9e64", "#f0abfc", "#ff9e64")
THEMES = (LIGHT, DARK)

_DPI = 144
_POINTS_PER_INCH = 72
_INCH_PER_STEP, _INCH_PER_NEURON = 0.05, 0.07


def require_page() -> None:
    """Raise a typed error where matplotlib, which draws the pictures, or jinja2, which writes the page, is not installed."""
    missing = [name for name in ("matplotlib", "jinja2") if not _importable(name)]
    if missing:
        raise ConversionError(f'A report needs {" and ".join(missing)}: install "sj2lava[report]".')


def _importable(name: str) -> bool:
    try:
        import_module(name)
    except ImportError:
        return False
    return True


def raster(spikes: Array, reference: Array | None, window: Window, theme: Theme) -> bytes:
    """Spikes as marks, a neuron a row, a time step a column.

    Args:
        spikes: ``[neurons, steps]``, bool.
        reference: likewise; where the two differ, the mark has another colour. None leaves that out.
        window: where the spikes were cut out.
        theme: the colours.
    """
    other = spikes if reference is None else reference
    rows, columns = spikes.shape
    figure, axes = _figure(theme, 1.0 + max(2.6, columns * _INCH_PER_STEP), 0.6 + max(1.0, rows * _INCH_PER_NEURON))
    axes.set_xlim(window.start - 0.5, window.stop - 0.5)
    axes.set_ylim(rows - 0.5, -0.5)
    height, width = (_POINTS_PER_INCH * length for length in (_INCH_PER_NEURON, max(_INCH_PER_STEP, 2.6 / columns)))
    for marked, colour in (
        (spikes & other, theme.spike),
        (spikes & ~other, theme.extra),
        (~spikes & other, theme.missing),
    ):
        row, column = np.nonzero(marked)
        axes.scatter(column + window.start, row, marker="|", color=colour, s=(0.8 * height) ** 2, linewidth=min(3.0, 0.5 * width))
    shown = np.linspace(0, rows - 1, min(rows, 6)).round().astype(int)
    axes.set_yticks(shown, [str(window.neurons[row]) for row in shown])
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_xlabel("time step")
    axes.set_ylabel("neuron")
    return _png(figure)


def rates_over_time(rates: Mapping[str, Array], theme: Theme) -> bytes:
    """Mean rate of a layer at each time step.

    Args:
        rates: ``[T]`` by the name of the runtime, at most two.
        theme: the colours.
    """
    figure, axes = _figure(theme, 3.8, 1.9)
    styles = ((theme.second, 3.0), (theme.spike, 1.2))[-len(rates) :]  # the float network below, wider
    for (name, values), (colour, width) in zip(rates.items(), styles, strict=True):
        axes.plot(values, color=colour, linewidth=width, label=name)
    axes.set_ylim(0, 1.1 * max(1e-3, *(float(values.max()) for values in rates.values())))
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_xlabel("time step")
    axes.set_ylabel("spikes per neuron")
    if len(rates) > 1:
        axes.legend(frameon=False, fontsize=7, labelcolor=theme.ink)
    return _png(figure)


def weight_histogram(integers: Array, scaled: Array | None, theme: Theme) -> bytes:
    """How often each weight of the quantisation grid is used, and where the weights lay before rounding.

    Args:
        integers: weights in weight units, even whole numbers in -256 … 254.
        scaled: the real weights times the layer's scale; None where the network trained quantised.
        theme: the colours.
    """
    figure, axes = _figure(theme, 3.8, 1.9)
    low, high = WEIGHT_RANGE
    step = 2 * max(1, round(float(integers.max() - integers.min()) / 2 / 96))  # a bar per grid point while there are few
    edges = np.arange(integers.min() - 1, integers.max() + 1 + step, step)
    axes.hist(integers.reshape(-1), bins=edges, color=theme.spike)
    if scaled is not None:
        axes.hist(scaled.reshape(-1), bins=4 * len(edges), histtype="step", color=theme.second, weights=np.full(scaled.size, 4.0))
    for limit in (low, high):
        axes.axvline(limit, color=theme.missing, linewidth=0.8, linestyle=":")
    if integers.max() - integers.min() <= 64:  # otherwise the grid would be a grey area
        axes.set_xticks(np.arange(integers.min(), integers.max() + 1, 2), minor=True)
        axes.grid(axis="x", which="minor", color=theme.grid, linewidth=0.5)
    spread = max(8.0, float(integers.max() - integers.min()) * 0.08)
    axes.set_xlim(float(integers.min()) - spread, float(integers.max()) + spread)
    axes.set_xlabel("weight in weight units (even numbers)")
    axes.set_ylabel("weights")
    return _png(figure)


def _figure(theme: Theme, width: float, height: float) -> tuple[Any, Any]:
    from matplotlib.figure import Figure  # without pyplot, which would look for a screen

    figure = Figure(figsize=(width, height), dpi=_DPI, layout="constrained")
    axes = figure.subplots()
    axes.patch.set_alpha(0)
    for spine in axes.spines.values():
        spine.set_color(theme.grid)
    axes.tick_params(which="both", colors=theme.ink, labelsize=7, length=2)
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set_color(theme.ink)
        label.set_fontsize(8)
    return figure, axes


def _png(figure: Any) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format="png", transparent=True)
    return stream.getvalue()
