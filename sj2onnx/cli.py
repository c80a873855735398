"""The command ``sj2onnx``."""

import importlib
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.table import Table

from custom_ops.terminal import application, command, ended_well, printed, say_json

from .errors import ExportError, UnequalError, one_line

# What takes long to import, the commands import themselves: help answers at once, also where there is no torch.
if TYPE_CHECKING:
    from collections.abc import Iterable

    import onnx
    import torch
    from torch import nn

    from .check import LayerCheck

__all__ = ["main"]

_CHECK_STEPS = 8
"""Time steps of the comparison where the network was exported as one step."""

app = application("sj2onnx", "Export networks trained in SpikingJelly to ONNX.")


def main() -> None:
    """Run the command line.

    Exit code 0; 1 where file and network differ; 2 where something is wrong; 130 and 143 when interrupted or terminated.
    """
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
    inline: Annotated[
        bool,
        typer.Option("--inline", help="No functions in the file, for runtimes that know none, such as OpenVINO."),
    ] = False,
    check_file: Annotated[
        bool | None,
        typer.Option(
            "--check/--no-check",
            help="Compare the file with SpikingJelly before it is written, which is done by default; --check shows every layer.",
            show_default=False,
        ),
    ] = None,
    json_file: Annotated[
        Path | None,
        typer.Option(
            "--json", metavar="FILE", help="Also write what was exported and checked as JSON; - for standard output, alone."
        ),
    ] = None,
) -> None:
    """Export a network as one ONNX file that any onnxruntime runs."""
    from spikingjelly.activation_based import functional

    from custom_ops import inlined
    from custom_ops.files.model_file import write_model
    from custom_ops.operators import OPSET

    from .export import export
    from .preparing import unwrapped

    _require_names(output, json_file, weights)
    opset = OPSET if opset is None else opset
    net = unwrapped(_network(factory))
    if weights is not None:
        _load_weights(net, weights)
    functional.set_step_mode(net, step_mode)
    example = _example(_sizes(shape))
    try:
        with Console(stderr=True).status("starting") as status:
            model = export(
                net,
                example,
                None if inline else output,
                outputs=outputs,
                stateful=stateful or step_mode == "s",
                check=check_file is not False,
                opset=opset,
                progress=status.update,
            )
        if inline:
            write_model(inlined(model), output)
        aside = sys.stderr if json_file is not None and str(json_file) == "-" else None
        printed([f"wrote {output} ({output.stat().st_size:,} bytes, {_spiking_layers(model)} spiking layers)"], stream=aside)
        found = None
        if check_file:
            with Console(stderr=True).status("comparing with SpikingJelly"):
                found = _checked(net, model, example, step_mode, stateful, opset)
            printed([_table(found)], stream=aside)
        if json_file is not None:
            say_json(_numbers(model, found), json_file, output)
        if any(layer.wrong for layer in found or []):
            raise UnequalError(f"The network does not give over time what {output} gives: see the rows that differ.")
    except UnequalError as error:
        Console(stderr=True, highlight=False).print(f"Error: {error}", markup=False, soft_wrap=True)
        raise typer.Exit(1) from error


def _require_names(output: Path, json_file: Path | None, weights: Path | None) -> None:
    """Refuse names by which one file would replace another, before anything is exported."""
    if output.suffix != ".onnx":
        raise ExportError(f"The output {str(output)[:200]!r} does not end with .onnx, which it will be: name it so.")
    if json_file is None or str(json_file) == "-":
        return
    for what, path in (("the network's", output), ("that of the weights", weights)):
        if path is not None and path.resolve() == json_file.resolve():
            raise ExportError(f"The file {json_file} of --json is {what} as well: give it another name.")


def _example(sizes: list[int]) -> "torch.Tensor":
    """Random spikes of that shape."""
    import torch

    try:
        return (torch.rand(sizes, generator=torch.Generator().manual_seed(0)) < 0.5).float()
    except (RuntimeError, ValueError, OverflowError, MemoryError) as error:
        raise ExportError(
            f"An input of the shape {','.join(map(str, sizes))[:60]} does not fit into memory: give a smaller one, since T and N "
            "stay free in the file."
        ) from error


def _checked(
    net: "nn.Module", model: "onnx.ModelProto", example: "torch.Tensor", step_mode: str, stateful: bool, opset: int
) -> "list[LayerCheck]":
    """Every layer on random spikes, over time and from reset states, whichever way the file was written."""
    from spikingjelly.activation_based import functional

    from .check import check
    from .export import export

    if step_mode == "m" and not stateful:
        return check(net, model, example)
    functional.set_step_mode(net, "m")
    steps = example if step_mode == "m" else _example([_CHECK_STEPS, *example.shape])
    return check(net, export(net, steps, opset=opset, check=False), steps)


def _network(spec: str) -> "nn.Module":
    """The network that ``MODULE:FACTORY`` names; modules are looked for in the current folder too."""
    from torch import nn

    module_name, _, name = spec.partition(":")
    if module_name.endswith(".py") or "/" in module_name:
        plain = module_name.removesuffix(".py").strip("./").replace("/", ".")
        raise ExportError(f"{spec!r} names a file, not a module: write {plain}:{name or 'make'}.")
    if not module_name or not name:
        raise ExportError(f"{spec!r} names no network: write MODULE:FACTORY, such as my_net:make.")
    sys.path.insert(0, str(Path.cwd()))
    try:
        found = getattr(importlib.import_module(module_name), name)
        net = found if isinstance(found, nn.Module) else found()
    except Exception as error:  # whatever the user's module raises
        raise ExportError(
            f"{spec} gives no network ({type(error).__name__}: {one_line(error)}): check its name and code."
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

    from .torch_export import quiet

    try:
        if not path.is_file() or not path.stat().st_size:
            exists = "empty" if path.is_file() else "no regular file"
            kind = "a folder" if path.is_dir() else exists if path.exists() else "missing"
            raise ExportError(f"Cannot read {path}, which is {kind}: give a file that torch.save wrote.")
        with quiet():
            state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise ExportError(f"Cannot read {path}: {error.strerror}; check the path.") from error
    except ExportError:
        raise
    except Exception as error:  # torch's reader raises whatever a broken or foreign file makes of its instructions
        raise ExportError(
            f"{path} is not a file of weights that can be loaded without running code from it: write it with "
            "torch.save(net.state_dict(), path)."
        ) from error
    found = _state_dict(state)
    if found is None:
        raise ExportError(f"{path} holds a {type(state).__name__}, not a state dict: save net.state_dict().")
    try:
        net.load_state_dict(_without_prefixes(found, net))
    except Exception as error:  # torch raises several kinds
        missing = sorted(set(net.state_dict()) - set(found))
        unknown = sorted(set(found) - set(net.state_dict()))
        reason = next(
            (f"{what} {names[0]!r}" + (f" and {len(names) - 1} more" if len(names) > 1 else ""))
            for what, names in (("they lack", missing), ("the network has no", unknown), ("", [one_line(error)[-150:]]))
            if names
        )
        raise ExportError(
            f"The weights in {path} do not fit {type(net).__name__}: {reason}; save the state dict of this network, made with "
            "the same arguments."
        ) from error


_WRAPPED_IN = ("state_dict", "model_state_dict", "model", "net", "network", "module")
"""Keys under which training scripts keep the state dict, beside the optimiser's and the epoch."""


def _state_dict(state: Any) -> "dict[str, torch.Tensor] | None":
    import torch

    while isinstance(state, dict):
        inner = next((state[key] for key in _WRAPPED_IN if isinstance(state.get(key), dict)), None)
        if inner is None:
            good = all(isinstance(key, str) for key in state) and any(isinstance(value, torch.Tensor) for value in state.values())
            return state if good else None
        state = inner
    return None


def _without_prefixes(state: "dict[str, torch.Tensor]", net: "nn.Module") -> "dict[str, torch.Tensor]":
    """The entries under the names that ``net`` has for them, without what DataParallel and torch.compile put in front."""
    wanted = net.state_dict().keys()
    for prefix in ("module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "model.", "net."):
        if all(key.startswith(prefix) for key in state) and {key.removeprefix(prefix) for key in state} & wanted:
            return {key.removeprefix(prefix): value for key, value in state.items()}
    return state


def _sizes(text: str) -> list[int]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() and len(part) < 19 and int(part) > 0 for part in parts):
        raise ExportError(f"The shape {text[:60]!r} is not a list of positive whole numbers: write it like 4,1,3,32,32.")
    return [int(part) for part in parts]


def _numbers(model: "onnx.ModelProto", found: "list[LayerCheck] | None") -> dict[str, Any]:
    """What is in the file, and how near its layers come to the network's, where that was asked for."""

    def shapes(values: "Iterable[onnx.ValueInfoProto]") -> dict[str, list[str | int]]:
        return {each.name: [dim.dim_param or dim.dim_value for dim in each.type.tensor_type.shape.dim] for each in values}

    return {
        "inputs": shapes(model.graph.input),
        "outputs": shapes(model.graph.output),
        "metadata": {entry.key: entry.value for entry in model.metadata_props},
        "layers": None if found is None else [asdict(each) for each in found],
    }


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
