"""The command ``onnx2lava``."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console

from custom_ops.terminal import application, command, ended_well, printed

from .errors import ConversionError

# What takes long to import, the commands import themselves: help answers at once.
if TYPE_CHECKING:
    from .network import Network

__all__ = ["main"]

app = application("onnx2lava", "Convert spiking networks from ONNX to Loihi and check every spike.")

_Model = Annotated[Path, typer.Argument(metavar="IN.onnx", help="A network exported by sj2onnx.")]
_Scale = Annotated[str, typer.Option(metavar="auto|64", help="Weight scale for float networks: auto, or one for all layers.")]
_Calibration = Annotated[Path | None, typer.Option(metavar="X.npy", help="Input [T, N, *] that --scale auto may use.")]
_InputKind = Annotated[
    Literal["spikes", "images", "counts"],
    typer.Option(
        "--input-kind",
        help="What the network is fed with. spikes: 0 and 1. images: any numbers; the first spiking layer, which turns them into "
        "spikes, then stays on the host as an encoder. counts: whole numbers 0 to 255, such as frames of several events a "
        "pixel; they go to Loihi as graded spikes of 8 bits, so that no layer is left on the host (load the file in NetX with "
        "input_message_bits=8).",
    ),
]


def main() -> None:
    """Run the command line: exit code 0; 1 where spikes differ; 2 where something else is wrong; 130 and 143 when interrupted or
    terminated."""
    with ended_well():
        app()


@command(app, "convert")
def convert(
    model: _Model,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="OUT.net", help="The NetX file to write.")],
    loihi_onnx: Annotated[
        Path | None, typer.Option(metavar="OUT.onnx", help="Also write what runs on Loihi as an ONNX file.")
    ] = None,
    calibration: _Calibration = None,
    scale: _Scale = "auto",
    input_kind: _InputKind = "spikes",
) -> None:
    """Convert a network to NetX's hdf5 format.

    What stays on the host is written beside it, for any onnxruntime: NAME.encoder.onnx, which turns images into spikes, and
    NAME.readout.onnx, which turns the last spikes into the network's output (a vote, a mean over time, a linear layer).
    """
    from custom_ops.model_file import write_model
    from custom_ops.trace import read_array

    from .host import save_host_parts
    from .load import load
    from .quantize import quantize
    from .write.netx import save_netx
    from .write.onnx import to_onnx

    loaded = load(model, input=input_kind)
    network = quantize(loaded, scale=_scale(scale), calibration=None if calibration is None else read_array(calibration))
    save_netx(network, output)
    written = [output, *save_host_parts(network, output)]
    if loihi_onnx is not None:
        write_model(to_onnx(network), loihi_onnx)
        written.append(loihi_onnx)
    _show(network)
    _show_quantization(loaded, network)
    printed([f"wrote {path} ({path.stat().st_size:,} bytes)" for path in written])


@command(app, "inspect")
def inspect(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="An .onnx or .net file.")], input_kind: _InputKind = "spikes"
) -> None:
    """Show a network layer by layer, and what Loihi would object to."""
    from .load import load
    from .read_netx import is_netx, load_netx

    _show(load_netx(file) if is_netx(file) else load(file, input=input_kind))


@command(app, "verify")
def verify_command(
    model: _Model,
    input: Annotated[Path | None, typer.Option(metavar="X.npy", help="Input [T, N, *]; by default the trace's.")] = None,
    against: Annotated[
        str | None, typer.Option(metavar="ort,slayer,netx", help="Some of the runtimes; by default all that are here.")
    ] = None,
    trace: Annotated[Path | None, typer.Option(metavar="TRACE.npz", help="A run recorded elsewhere.")] = None,
    labels: Annotated[Path | None, typer.Option(metavar="Y.npy", help="Classes [N], for the accuracy.")] = None,
    calibration: _Calibration = None,
    scale: _Scale = "auto",
    input_kind: _InputKind = "spikes",
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Also write everything that was found as JSON.")
    ] = None,
    report: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Also write a page with spike rasters and histograms: DIR/index.html.")
    ] = None,
) -> None:
    """Run a network in several runtimes and compare every spike of every layer; exit code 1 if any differs.

    Encoder and readout take part: images go in, and the accuracy with labels is that of the readout's output, before
    quantisation and after it.
    """
    from custom_ops.trace import read_array, read_trace

    from .report import verification_notes, verification_table
    from .report_page import write_report
    from .verify import verify, write_json

    recorded = None if trace is None else read_trace(trace)
    if input is None and recorded is None:
        raise ConversionError("There is no input to run: give --input X.npy or --trace TRACE.npz.")
    x = read_array(input) if input is not None else recorded.input if recorded is not None else None
    assert x is not None
    with _progress() as advance:
        result = verify(
            model,
            x,
            against=None if against is None else [name.strip() for name in against.split(",")],
            scale=_scale(scale),
            calibration=None if calibration is None else read_array(calibration),
            trace=recorded,
            labels=read_array(labels) if labels is not None else None if recorded is None else recorded.labels,
            input=input_kind,
            progress=advance,
        )
    if json_file is not None:
        write_json(result, json_file)
    page = None if report is None else write_report(result, report, title=model.name)
    printed([verification_table(result), *verification_notes(result)])
    if page is not None:
        printed([f"wrote {page}"])
    if result.mismatches:
        printed([f"{result.mismatches:,} spikes differ."])
        raise typer.Exit(1)
    printed(["Every spike is the same."])


def _scale(text: str) -> Literal["auto"] | int:
    if text == "auto":
        return "auto"
    if text.isascii() and text.isdigit() and int(text) > 0:
        return int(text)
    raise ConversionError(f"The scale {text!r} is neither auto nor a positive whole number: try 64.")


def _show(network: "Network") -> None:
    from .report import network_notes, network_table

    printed([network_table(network), *network_notes(network)])


def _show_quantization(loaded: "Network", network: "Network") -> None:
    from .quantization_report import quantization_report
    from .report import quantization_notes, quantization_table

    report = quantization_report(loaded, network)
    if report.layers:
        printed([quantization_table(report), *quantization_notes(report)])


@contextlib.contextmanager
def _progress() -> Iterator[Callable[[int, int], None]]:
    """A bar that appears with the first sample that Lava has done."""
    from rich.progress import Progress

    bar = Progress(console=Console(stderr=True), transient=True)

    def advance(done: int, total: int) -> None:
        if not bar.tasks:
            bar.add_task("Lava", total=total)
            bar.start()
        bar.update(bar.tasks[0].id, completed=done)

    try:
        yield advance
    finally:
        if bar.tasks:
            bar.stop()
