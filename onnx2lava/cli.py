"""The command ``onnx2lava``."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TextIO

import typer

from custom_ops.terminal import application, command, ended_well, printed, progress_bar, say_json

from .errors import ConversionError

if TYPE_CHECKING:
    from .network import Network
    from .verification import Verification

__all__ = ["main"]

app = application("onnx2lava", "Convert spiking networks from ONNX to Loihi and check every spike.")

_Kind = Literal["spikes", "images", "counts"]
_Model = Annotated[
    Path, typer.Argument(metavar="IN", help="An .onnx file, such as sj2onnx exports, a .net file of Lava-DL, or a .nir file.")
]
_Scale = Annotated[str, typer.Option(metavar="auto|64", help="Weight scale for float networks: auto, or one for all layers.")]
_Calibration = Annotated[Path | None, typer.Option(metavar="X.npy", help="Input [T, N, *] that --scale auto may use.")]
_InputKind = Annotated[
    _Kind | None,
    typer.Option(
        "--input-kind",
        help="What the network is fed with; by default what the exporter saw. spikes: 0 and 1. images: any numbers; the first "
        "spiking layer, which turns them into spikes, then stays on the host as an encoder. counts: whole numbers 0 to 255, such "
        "as frames of several events a pixel; they go to Loihi as graded spikes of 8 bits, so that no layer is left on the host "
        "(load the file in NetX with input_message_bits=8).",
    ),
]
_OutputName = Annotated[str | None, typer.Option(metavar="NAME", help="Which output of the file to take; by default the first.")]
_InputShape = Annotated[
    str | None,
    typer.Option(metavar="W,H,C", help="Of a .net file without an input layer: the shape of what comes in, in NetX's order."),
]
_NumLayers = Annotated[int | None, typer.Option(metavar="N", help="Of a .net file: read its first N layers, as NetX does.")]
_SkipLayers = Annotated[int | None, typer.Option(metavar="N", help="Of a .net file: leave out the first N layers, likewise.")]
_Dt = Annotated[float | None, typer.Option("--dt", metavar="SECONDS", help="Of NIR: a time step; by default 1e-4.")]
_Producer = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Of NIR: whose time steps are meant: spikingjelly (default), snntorch, norse, sinabs."),
]
_Wide = Annotated[bool, typer.Option("--wide", help="Print tables in one piece, however wide they are, with all rows.")]
_Json = Annotated[
    Path | None,
    typer.Option("--json", metavar="FILE", help="Also write everything that was found as JSON; - for standard output, alone."),
]
_Report = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Also write a page with rasters, votes and membrane potentials: DIR/index.html."),
]
_Strict = Annotated[
    bool,
    typer.Option(
        "--strict", help="Exit code 2 if a runtime was left out, a layer never fired, or one was compared with nothing."
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
    output: Annotated[
        Path,
        typer.Option(
            "-o", "--output", metavar="OUT", help="The file to write: OUT.net for NetX, OUT.onnx for onnxruntime, OUT.nir."
        ),
    ],
    loihi_onnx: Annotated[
        Path | None, typer.Option(metavar="OUT.onnx", help="Also write what runs on Loihi as an ONNX file.")
    ] = None,
    inline: Annotated[
        bool, typer.Option("--inline", help="ONNX files without functions, for runtimes that know none, such as OpenVINO.")
    ] = False,
    calibration: _Calibration = None,
    scale: _Scale = "auto",
    input_kind: _InputKind = None,
    output_name: _OutputName = None,
    input_shape: _InputShape = None,
    num_layers: _NumLayers = None,
    skip_layers: _SkipLayers = None,
    dt: _Dt = None,
    producer: _Producer = None,
    json_file: _Json = None,
    wide: _Wide = False,
) -> None:
    """Convert a network for NetX or onnxruntime.

    What stays on the host is written beside it, for any onnxruntime: NAME.encoder.onnx, which turns images into spikes, and
    NAME.readout.onnx, which turns the last spikes into the network's output (a vote, a mean over time, a linear layer).
    """
    from custom_ops.files.trace import read_array

    from .conversion import quantize
    from .network import is_loihi
    from .outputs import of_source, require_apart, written

    require_apart([model, calibration], [output, loihi_onnx, _file(json_file)])
    loaded = _loaded(model, _options(input_kind, output_name, input_shape, num_layers, skip_layers, dt, producer))
    found = None if calibration is None else read_array(calibration)
    network = of_source(quantize(loaded, scale=_scale(scale), calibration=found), model)
    for path, size in written(network, output, loihi_onnx, inputs=[model, calibration], inline=inline).items():
        said = f"wrote {path} ({size:,} bytes)" if size is not None else f"removed {path}, which was of an older conversion"
        printed([said], stream=_beside(json_file))
    _show(network, output.name, wide, json_file)
    _show_quantization(loaded, network, wide, json_file)
    if json_file is not None:
        say_json(_converted(loaded, network), json_file, model)
    if is_loihi(loaded):
        for option, value in (("scale", scale if scale != "auto" else None), ("calibration", calibration)):
            if value is not None:
                message = f"The {option} was not used: the network is made of Loihi's integers already."
                printed([message], stream=_beside(json_file))


@command(app, "inspect")
def inspect(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="An .onnx, .net or .nir file.")],
    input_kind: _InputKind = None,
    output_name: _OutputName = None,
    input_shape: _InputShape = None,
    num_layers: _NumLayers = None,
    skip_layers: _SkipLayers = None,
    dt: _Dt = None,
    producer: _Producer = None,
    json_file: _Json = None,
    wide: _Wide = False,
) -> None:
    """Show a network layer by layer, and what Loihi would object to."""
    from .outputs import require_apart
    from .verification.numbers import network_numbers

    require_apart([file], [_file(json_file)])
    network = _loaded(file, _options(input_kind, output_name, input_shape, num_layers, skip_layers, dt, producer))
    _show(network, file.name, wide, json_file)
    if json_file is not None:
        say_json(network_numbers(network), json_file, file)


@command(app, "estimate")
def estimate_command(
    model: _Model,
    input: Annotated[
        Path, typer.Option(metavar="X.npy", help="Typical input [T, N, *], also .npz or HDF5: a few hundred samples are enough.")
    ],
    calibration: _Calibration = None,
    scale: _Scale = "auto",
    input_kind: _InputKind = None,
    output_name: _OutputName = None,
    input_shape: _InputShape = None,
    num_layers: _NumLayers = None,
    skip_layers: _SkipLayers = None,
    dt: _Dt = None,
    producer: _Producer = None,
    json_file: _Json = None,
    wide: _Wide = False,
) -> None:
    """Say what a sample costs on Loihi: synaptic operations at the rates of some input, spikes, axons, cores, steps, energy."""
    from custom_ops.files.trace import read_array

    from .estimation import estimate
    from .estimation.table import estimate_notes, estimate_numbers, estimate_table
    from .outputs import require_apart

    require_apart([model, input, calibration], [_file(json_file)])
    options = _completed(model, _options(input_kind, output_name, input_shape, num_layers, skip_layers, dt, producer))
    subject, options = (model, options) if "input" in options else (_loaded(model, options), {})
    with progress_bar() as advance:
        found = estimate(
            subject,
            input,
            scale=_scale(scale),
            calibration=None if calibration is None else read_array(calibration),
            **options,
            progress=advance,
        )
    printed([estimate_table(found, model.name), *estimate_notes(found)], wide=wide, stream=_beside(json_file))
    if json_file is not None:
        say_json(estimate_numbers(found), json_file, model)


@command(app, "verify")
def verify_command(
    model: _Model,
    input: Annotated[
        Path | None, typer.Option(metavar="X.npy", help="Input [T, N, *], also .npz or HDF5; by default the trace's.")
    ] = None,
    against: Annotated[
        str | None, typer.Option(metavar="ort,slayer,netx", help="Some of the runtimes; by default all that can run it here.")
    ] = None,
    trace: Annotated[Path | None, typer.Option(metavar="TRACE.npz", help="A run recorded elsewhere.")] = None,
    labels: Annotated[Path | None, typer.Option(metavar="Y.npy", help="Classes [N], for the accuracy.")] = None,
    calibration: _Calibration = None,
    scale: _Scale = "auto",
    input_kind: _InputKind = None,
    output_name: _OutputName = None,
    input_shape: _InputShape = None,
    num_layers: _NumLayers = None,
    skip_layers: _SkipLayers = None,
    dt: _Dt = None,
    producer: _Producer = None,
    samples: Annotated[
        str | None, typer.Option(metavar="A:B", help="Run the samples A to B - 1 alone; `onnx2lava merge` adds up such parts.")
    ] = None,
    batch: Annotated[
        int | None, typer.Option(metavar="N", help="Samples that run together; by default what 32 MiB hold.")
    ] = None,
    jobs: Annotated[int, typer.Option(metavar="N", help="Processes that share the samples.")] = 1,
    dask: Annotated[str | None, typer.Option(metavar="ADDRESS", help="A Dask cluster that shares them instead.")] = None,
    run_config: Annotated[
        str | None,
        typer.Option(
            metavar="MODULE:FUNCTION",
            help="For lava and netx: a function that gives Lava's run configuration, such as one for a chip.",
        ),
    ] = None,
    json_file: _Json = None,
    report: _Report = None,
    strict: _Strict = False,
    wide: _Wide = False,
) -> None:
    """Run a network in several runtimes and compare every spike of every layer; exit code 1 if any differs.

    Encoder and readout take part: images go in, and the accuracy with labels is that of the readout's output, before
    quantisation and after it.
    """
    from custom_ops.files.trace import read_array, read_trace

    from .lava_runtime import NamedRunConfig
    from .outputs import require_apart
    from .targets import TARGETS
    from .verification import verify
    from .verification.parallel import workers

    recorded = None if trace is None else read_trace(trace)
    x = input if input is not None or recorded is None else recorded.input
    if x is None:
        raise ConversionError("There is no input to run: give --input X.npy or --trace TRACE.npz.")
    require_apart([model, input, trace, labels, calibration], [_file(json_file)])
    _prepare(report)
    options = _options(input_kind, output_name, input_shape, num_layers, skip_layers, dt, producer)
    options = _completed(model, options)
    # Of an ONNX file, verify runs the file itself too.
    subject, options = (model, options) if "input" in options else (_loaded(model, options), {})
    names = None if against is None else [name.strip() for name in against.split(",")]
    with workers(jobs, dask, TARGETS if names is None else names) as executor, progress_bar() as advance:
        result = verify(
            subject,
            x,
            against=names,
            scale=_scale(scale),
            calibration=None if calibration is None else read_array(calibration),
            trace=recorded,
            labels=read_array(labels) if labels is not None else None if recorded is None else recorded.labels,
            **options,
            samples=_samples(samples),
            batch=batch,
            executor=executor,
            progress=advance,
            run_config=None if run_config is None else NamedRunConfig.here(run_config),
        )
    _conclude(result, json_file, report, model.name, strict=strict, wide=wide, part=samples is not None)


@command(app, "merge")
def merge(
    parts: Annotated[list[Path], typer.Argument(metavar="PART.json…", help="What verify --samples A:B --json PART.json wrote.")],
    json_file: Annotated[
        Path | None, typer.Option("-o", "--output", "--json", metavar="ALL.json", help="Write the sum as JSON.")
    ] = None,
    report: _Report = None,
    strict: _Strict = False,
    wide: _Wide = False,
) -> None:
    """Add up verifications of different samples of one network; exit code 1 if any spike differs."""
    from .outputs import require_apart
    from .verification import merged, read_json

    require_apart(parts, [_file(json_file)])
    _prepare(report)
    result = merged([read_json(part) for part in parts])
    _conclude(result, json_file, report, result.model.get("name", "merged"), strict=strict, wide=wide, part=True)


def _conclude(
    result: "Verification", json_file: Path | None, report: Path | None, title: str, *, strict: bool, wide: bool, part: bool
) -> None:
    """Print first: what took long must not be lost because a file cannot be written."""
    from .verification import json_text, write_json
    from .verification.page import write_report
    from .verification.tables import verdicts, verification_notes, verification_table

    aside = _beside(json_file)
    printed([verification_table(result), *verification_notes(result), *verdicts(result)], wide=wide, stream=aside)
    if aside is not None:
        sys.stdout.write(json_text(result, spikes=part))
    elif json_file is not None:
        write_json(result, json_file, spikes=part)
    if report is not None:
        printed([f"wrote {write_report(result, report, title=title)}"], stream=aside)
    if result.mismatches:
        raise typer.Exit(1)
    weak = [note.message for note in result.notes if note.weakens]
    if strict and weak:
        raise ConversionError(f"With --strict, {len(weak)} of the notes above are errors; the first: {weak[0]}")


def _file(json_file: Path | None) -> Path | None:
    """Where the JSON is to be written, if it is a file."""
    return None if json_file is None or str(json_file) == "-" else json_file


def _beside(json_file: Path | None) -> TextIO | None:
    """Where tables go while JSON has standard output for itself; None for the usual place."""
    return None if json_file is None or str(json_file) != "-" else sys.stderr


def _converted(loaded: "Network[Any]", network: "Network[Any]") -> dict[str, Any]:
    """The network that was made, and what that cost."""
    from dataclasses import asdict

    from .quantization import quantization_report
    from .verification.numbers import network_numbers

    return {**network_numbers(network), "quantization": [asdict(each) for each in quantization_report(loaded, network).layers]}


def _prepare(report: Path | None) -> None:
    """Find out before a long run whether there can be a report after it."""
    if report is not None:
        from .verification.page import prepare_folder

        prepare_folder(report)


def _options(
    kind: _Kind | None,
    output: str | None,
    input_shape: str | None,
    num_layers: int | None,
    skip_layers: int | None,
    dt: float | None,
    producer: str | None,
) -> dict[str, Any]:
    """The arguments for ``load`` that were given."""
    shape = None if input_shape is None else _shape(input_shape)
    options = {
        "input": kind,
        "output": output,
        "input_shape": shape,
        "num_layers": num_layers,
        "skip_layers": skip_layers,
        "dt": dt,
        "producer": producer,
    }
    return {name: value for name, value in options.items() if value is not None}


def _loaded(path: Path, options: dict[str, Any]) -> "Network[Any]":
    from .read.formats import load

    return load(path, **_completed(path, options))


def _completed(path: Path, options: dict[str, Any]) -> dict[str, Any]:
    """With what the exporter saw, where a file could be fed with several kinds of input and nobody said with which."""
    from .read.formats import format_of, require_options

    found = format_of(path)
    require_options(found, options)
    return {**options, "input": _kind(path, options.get("input"))} if "input" in found.options else options


def _kind(path: Path, given: _Kind | None) -> _Kind:
    """What the file is fed with: what was asked for, else what the exporter saw, else spikes."""
    from custom_ops.files.model_file import read_model

    if given is not None:
        return given
    noted = {entry.key: entry.value for entry in read_model(path).metadata_props}.get("sj2lava.input_kind", "spikes")
    if noted == "images":
        printed(["The exporter saw images: as with --input-kind images."], stream=sys.stderr)
        return "images"
    return "counts" if noted == "counts" else "spikes"


def _scale(text: str) -> Literal["auto"] | int:
    if text == "auto":
        return "auto"
    if text.isascii() and text.isdigit() and len(text) < 20 and int(text) > 0:
        return int(text)
    shown = text if len(text) < 40 else f"{text[:40]}…"
    raise ConversionError(f"The scale {shown!r} is neither auto nor a positive whole number of a usual size: try 64.")


def _shape(text: str) -> tuple[int, ...]:
    parts = text.split(",")
    if len(parts) <= 3 and all(each.strip().isascii() and each.strip().isdigit() and len(each) < 16 for each in parts):
        return tuple(int(each) for each in parts)
    raise ConversionError(f"The input shape {text[:40]!r} is not W,H,C or one number of neurons: try 28,28,1.")


def _samples(text: str | None) -> tuple[int, int | None]:
    if text is None:
        return 0, None
    first, colon, last = text.partition(":")
    if colon and all(each == "" or (each.isascii() and each.isdigit() and len(each) < 16) for each in (first, last)):
        return int(first or 0), int(last) if last else None
    raise ConversionError(f"The samples {text!r} are no range: give the first and one past the last, such as 0:1000.")


def _show(network: "Network[Any]", title: str, wide: bool, json_file: Path | None) -> None:
    from .verification.tables import network_notes, network_table, relay_table

    relays = relay_table(network)
    tables = [network_table(network, title), *([] if relays is None else [relays])]
    printed([*tables, *network_notes(network)], wide=wide, stream=_beside(json_file))


def _show_quantization(loaded: "Network[Any]", network: "Network[Any]", wide: bool, json_file: Path | None) -> None:
    from .quantization import quantization_notes, quantization_report
    from .verification.tables import quantization_table

    report = quantization_report(loaded, network)
    if report.layers:
        printed([quantization_table(report), *quantization_notes(report)], wide=wide, stream=_beside(json_file))
