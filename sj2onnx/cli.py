"""The command ``sj2onnx``."""

import importlib
import json
import pickle
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table

from custom_ops.terminal import application, command, ended_well, printed

from .errors import ExportError

# What takes long to import, the commands import themselves: help answers at once, also where there is no torch.
if TYPE_CHECKING:
    import onnx
    from torch import nn

    from .check import LayerCheck

__all__ = ["main"]

_CHECK_STEPS = 8
"""Time steps of the comparison where the network was exported as one step."""

app = application("sj2onnx", "Export networks trained in SpikingJelly to ONNX.")


def main() -> None:
    """Run the command line: exit code 0; 2 where something is wrong; 130 and 143 when interrupted or terminated."""
    with ended_well():
        app()


@command(app, "export")
def export_command(
    factory: Annotated[
        str, typer.Argument(metavar="MODULE:FACTORY", help="A function without arguments that gives the network.")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="OUT.onnx", help="The file to write.")],
    shape: Annotated[str, typer.Option(metavar="T,N,C,H,W", help="Shape of an input, time first; T and N stay free.")],
    weights: Annotated[Path | None, typer.Option(metavar="FILE", help="A state dict to load, without unpickling code.")] = None,
    outputs: Annotated[Literal["last", "all"], typer.Option(help="all: one more output per spiking layer.")] = "last",
    step_mode: Annotated[
        Literal["m", "s"], typer.Option(help="m: all time steps at once; s: one step, shape N,C,H,W, states in and out.")
    ] = "m",
    stateful: Annotated[
        bool,
        typer.Option("--stateful", help="States as inputs and outputs, for recordings in chunks; always so with --step-mode s."),
    ] = False,
    opset: Annotated[
        int | None, typer.Option(help="Version of the standard operators; by default the one that every supported runtime has.")
    ] = None,
    check_layers: Annotated[
        bool, typer.Option("--check", help="Compare every layer with SpikingJelly on random spikes.")
    ] = False,
) -> None:
    """Export a network as one ONNX file that any onnxruntime runs."""
    import torch
    from spikingjelly.activation_based import functional

    from custom_ops.operators import OPSET

    from .export import export

    opset = OPSET if opset is None else opset
    net = _network(factory)
    if weights is not None:
        _load_weights(net, weights)
    functional.set_step_mode(net, step_mode)
    sizes = _sizes(shape)
    with Console(stderr=True).status("starting") as status:
        model = export(
            net,
            torch.zeros(sizes),
            output,
            outputs=outputs,
            stateful=stateful or step_mode == "s",
            opset=opset,
            progress=status.update,
        )
    printed([f"wrote {output} ({output.stat().st_size:,} bytes, {_spiking_layers(model)} spiking layers)"])
    if check_layers:
        with Console(stderr=True).status("comparing with SpikingJelly"):
            found = _checked(net, sizes if step_mode == "m" else [_CHECK_STEPS, *sizes], opset)
        printed([_table(found)])


def _checked(net: "nn.Module", sizes: list[int], opset: int) -> "list[LayerCheck]":
    """Every layer on random spikes, over time and from reset states, whichever way the file was written."""
    import torch
    from spikingjelly.activation_based import functional

    from .check import check
    from .export import export

    functional.set_step_mode(net, "m")
    every = export(net, torch.zeros(sizes), outputs="all", opset=opset)
    return check(net, every, (torch.rand(sizes, generator=torch.Generator().manual_seed(0)) < 0.5).float())


def _network(spec: str) -> "nn.Module":
    """The network that ``MODULE:FACTORY`` names; modules are looked for in the current folder too."""
    from torch import nn

    module_name, _, name = spec.partition(":")
    if not module_name or not name:
        raise ExportError(f"{spec!r} names no network: write MODULE:FACTORY, such as my_net:make.")
    sys.path.insert(0, str(Path.cwd()))
    try:
        found = getattr(importlib.import_module(module_name), name)
        net = found if isinstance(found, nn.Module) else found()
    except Exception as error:  # whatever the user's module raises
        raise ExportError(
            f"{spec} gives no network ({type(error).__name__}: {_one_line(error)}): check its name and code."
        ) from error
    finally:
        sys.path.pop(0)
    if not isinstance(net, nn.Module):
        raise ExportError(
            f"{spec} gives a {type(net).__name__}, not a torch.nn.Module: name a function that returns the network."
        )
    return net


def _load_weights(net: "nn.Module", path: Path) -> None:
    import torch

    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise ExportError(f"Cannot read {path}: {error.strerror}; check the path.") from error
    except (pickle.UnpicklingError, RuntimeError, ValueError, EOFError) as error:
        raise ExportError(
            f"{path} is not a file of weights that can be loaded safely ({_one_line(error)[:200]}): save net.state_dict() alone."
        ) from error
    for key in ("state_dict", "model", "net"):  # training scripts often wrap it
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict):
        raise ExportError(f"{path} holds a {type(state).__name__}, not a state dict: save net.state_dict().")
    try:
        net.load_state_dict(state)
    except (RuntimeError, TypeError) as error:
        raise ExportError(f"The weights in {path} do not fit {type(net).__name__}: {_one_line(error)}") from error


def _sizes(text: str) -> list[int]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() and int(part) > 0 for part in parts):
        raise ExportError(f"The shape {text!r} is not a list of positive whole numbers: write it like 4,1,3,32,32.")
    return [int(part) for part in parts]


def _spiking_layers(model: "onnx.ModelProto") -> int:
    return len(json.loads({entry.key: entry.value for entry in model.metadata_props}["sj2lava.layers"]))


def _table(layers: "list[LayerCheck]") -> Table:
    table = Table("layer", title="SpikingJelly and onnxruntime, each layer fed the same input", title_justify="left")
    for column in ("values", "differ", "mismatch rate", "mean"):
        table.add_column(column, justify="right")
    for layer in layers:
        rate = layer.mismatches / max(layer.values, 1)
        table.add_row(
            layer.name, f"{layer.values:,}", f"{layer.mismatches:,}", f"{rate:.2e}" if rate else "0", f"{layer.rate:.3f}"
        )
    return table


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
