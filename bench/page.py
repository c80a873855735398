"""The benchmark's table and picture."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .conversion import Cost
from .workloads import NETWORK, NEURON, TRAINING

__all__ = ["Results", "markdown", "picture"]

_OURS_NETWORK, _OURS_NEURON = "ours, native", "ours, native CubaLIF"


@dataclass(frozen=True)
class Results:
    """Everything that one run measured; times in seconds.

    Args:
        processor: its name.
        threads: threads that everything ran on.
        others_load: the machine's load average before.
        network: reference network, by who ran it.
        neurons: one layer of neurons, likewise.
        training_network: a training step of the reference network, forward and backward, likewise.
        training_neurons: the same of one layer of neurons.
        growth: by axis, ``(steps, samples, neurons)``, and the times of native ``CubaLIF`` and of a copy of the same bytes.
        bytes_per_neuron_step: growth of peak memory, of which input and output are 8.
        export_seconds: export of 20 blocks.
        conversion_seconds: ``.onnx`` to ``.net`` for a million weights.
        residual: ``onnx2lava convert`` of SEW-ResNet-34.
        differ: spikes that differ from ours, by peer.
    """

    processor: str
    threads: int
    others_load: float
    network: Mapping[str, float]
    neurons: Mapping[str, float]
    training_network: Mapping[str, float]
    training_neurons: Mapping[str, float]
    growth: Mapping[str, Sequence[tuple[tuple[int, int, int], tuple[float, float]]]]
    bytes_per_neuron_step: float
    export_seconds: float
    conversion_seconds: float
    residual: Cost
    differ: Mapping[str, int]


def markdown(results: Results) -> str:
    """The page docs/benchmark.md."""
    steps, samples = NETWORK["steps"], NETWORK["samples"]
    lines = [
        "# Benchmark",
        "",
        f"Printed by `make bench`: one run, side by side, medians; {results.processor}, {results.threads} threads. "
        f"Load average of the machine before: {results.others_load:.1f}.",
        *_warning(results),
        "",
        f"## Reference network, {NETWORK['channels']} channels, T = {steps}, N = {samples}",
        "",
        *_table(results.network, _OURS_NETWORK),
        "",
        "Lava's time is what eight samples take longer than two, so without its start, brought to all "
        f"{samples} samples: {_lava_step(results, steps * samples)}.",
        "",
        f"## One layer: {NEURON.steps} time steps of {NEURON.neurons:,} neurons",
        "",
        *_table(results.neurons, _OURS_NEURON),
        "",
        f"## Training step: {TRAINING['channels']} channels, T = {TRAINING['steps']}, N = {TRAINING['samples']}",
        "",
        "Forward and backward, without the optimiser; in this environment by turns. Half as long is 0.50.",
        "",
        *_ratios(results.training_network),
        "",
        f"One layer of {TRAINING['channels'] * TRAINING['image_size'] ** 2:,} neurons, likewise:",
        "",
        *_ratios(results.training_neurons),
        "",
        "## Growth of native CubaLIF",
        "",
        "Time per neuron-step grows where input and output outgrow the caches, and that of a plain copy with it.",
        "",
        "| along | T | N | neurons | ms | ns per neuron-step | times a copy |",
        "| --- | --: | --: | --: | --: | --: | --: |",
    ]
    for axis, rows in results.growth.items():
        for (t, n, count), (taken, copied) in rows:
            each = 1e9 * taken / (t * n * count)
            lines.append(f"| {axis} | {t} | {n} | {count:,} | {1e3 * taken:.2f} | {each:.3f} | {taken / copied:.1f} |")
    lines += [
        "",
        "## And besides",
        "",
        "| what | measured |",
        "| --- | --: |",
        f"| peak memory for each further neuron-step, with its input and output | {results.bytes_per_neuron_step:.2f} bytes |",
        f"| export of a network of 20 blocks | {results.export_seconds:.2f} s |",
        f"| conversion of one million weights, `.onnx` to `.net` | {1e3 * results.conversion_seconds:.0f} ms |",
        f"| `onnx2lava convert` of SEW-ResNet-34, 21.8 million weights | {results.residual.seconds:.1f} s, "
        f"{results.residual.peak_bytes / 1e9:.2f} GB |",
        *(f"| spikes that differ: {name} | {count} |" for name, count in results.differ.items()),
        "",
    ]
    return "\n".join(lines)


def picture(results: Results, theme: str) -> bytes:
    """Times of the reference network and of one layer as bars, on a logarithmic axis, as PNG for a light or a dark page."""
    from matplotlib.figure import Figure

    ink, ours, others = {"light": ("#24292f", "#1f5fbf", "#8c959f"), "dark": ("#d6dde4", "#7fb2ff", "#6e7681")}[theme]
    figure = Figure(figsize=(9, 4.2), dpi=144, layout="constrained")
    titles = ("reference network", f"{NEURON.steps} steps of {NEURON.neurons:,} neurons")
    for axes, title, times in zip(figure.subplots(1, 2), titles, (results.network, results.neurons), strict=True):
        order = sorted(times, key=lambda name: -times[name])
        values = [1e3 * times[name] for name in order]
        bars = axes.barh(order, values, color=[ours if name.startswith("ours, native") else others for name in order])
        axes.bar_label(bars, [f"{value:,.1f} ms" for value in values], padding=3, color=ink, fontsize=8)
        axes.set_xscale("log")
        axes.set_xlim(right=max(values) * 12)
        axes.set_title(title, color=ink, fontsize=10)
        axes.tick_params(colors=ink, labelsize=8)
        for side, spine in axes.spines.items():
            spine.set_visible(side in ("left", "bottom"))
            spine.set_color(ink)
        axes.patch.set_alpha(0)
    stream = io.BytesIO()
    figure.savefig(stream, format="png", transparent=True)
    return stream.getvalue()


def _warning(results: Results) -> list[str]:
    if results.others_load < 1:
        return []
    return ["", "**The machine was busy with other work: these times and ratios are distorted, for us and for the others.**"]


def _table(times: Mapping[str, float], ours: str) -> list[str]:
    rows = ["| | ms | times ours |", "| --- | --: | --: |"]
    return rows + [f"| {name} | {1e3 * taken:,.2f} | {taken / times[ours]:,.1f} |" for name, taken in times.items()]


def _ratios(times: Mapping[str, float]) -> list[str]:
    """Times in training, beside those of SpikingJelly's plain neurons."""
    plain = times["SpikingJelly, IFNode"]
    rows = ["| | ms | times SpikingJelly's IFNode |", "| --- | --: | --: |"]
    return rows + [f"| {name} | {1e3 * taken:,.1f} | {taken / plain:.2f} |" for name, taken in times.items()]


def _lava_step(results: Results, steps: int) -> str:
    taken = results.network.get("NetX on Lava's simulation")
    return "not measured" if taken is None else f"{1e3 * taken / steps:.1f} ms a step and a sample"
