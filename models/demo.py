"""The whole chain on the reference network: train, export, convert, and compare every spike. ``python -m models.demo -h``."""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

import onnx2lava
import sj2onnx
from custom_ops.errors import BridgeError
from custom_ops.files.model_file import write_model
from custom_ops.files.trace import Trace, read_trace, write_trace
from onnx2lava.targets import TARGETS
from onnx2lava.verification import verify, write_json
from onnx2lava.verification.sheet import Sheet

from . import train
from .mnist_csnn import MNISTNet

__all__ = ["main"]

_TRACE = "SpikingJelly"


def main() -> int:
    """The command line; exit code 0, 1 where spikes differ, 2 where something is missing."""
    options = _parser().parse_args()
    try:
        return _run(Path(options.out_dir), options.lava)
    except BridgeError as error:
        Console(stderr=True).print(f"Error: {error}", markup=False, highlight=False, soft_wrap=True)
        return 2


def _run(out: Path, lava: Path | None) -> int:
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=120)  # a log file has room for the whole table
    console.rule("1. Train in SpikingJelly")
    if code := train.main(["-out-dir", str(out)]):
        return code

    console.rule("2. Export, record, convert")
    seconds: dict[str, float] = {}
    x = torch.from_numpy(np.load(out / "test_spikes.npy")).float()
    labels = np.load(out / "test_labels.npy")
    net = MNISTNet(channels=16, image_size=x.shape[-1])
    net.load_state_dict(torch.load(out / "net.pt", weights_only=True))
    _timed(seconds, "export to ONNX", lambda: sj2onnx.export(net, x[:, :1], out / "net.onnx"))
    trace = _timed(seconds, _TRACE, lambda: sj2onnx.record(net, x, labels=labels))
    write_trace(trace, out / "trace.npz")
    _timed(seconds, "convert to NetX", lambda: _convert(out))
    for name, what in _FILES.items():
        console.print(f"{out / name}  {(out / name).stat().st_size:,} bytes  {what}", soft_wrap=True)
    console.print(", ".join(f"{name} {value:.2f} s" for name, value in seconds.items() if name != _TRACE))

    console.rule("3. Compare every spike")
    results = [_verify_here(out)]
    if lava is not None:
        results.append(_verify_in_lava(out, lava))
    console.print(_table(trace, seconds[_TRACE], results))
    mismatches = sum(result["mismatches"] for result in results)
    if mismatches:
        console.print(f"[red]{mismatches:,} spikes differ.[/red]")
        return 1
    console.print("Every spike of every layer is the same in every runtime.")
    if lava is None:
        console.print("Lava-DL and Lava did not take part: `make demo LAVA=1` includes them (needs Python 3.10).")
    return 0


_FILES = {
    "net.pt": "weights as trained",
    "net.onnx": "exported network",
    "loihi.onnx": "converted network, for onnxruntime",
    "net.net": "converted network, for NetX",
    "trace.npz": "recorded test set: input and spikes of every layer in SpikingJelly",
}


def _convert(out: Path) -> None:
    network = onnx2lava.quantize(onnx2lava.load(out / "net.onnx"))
    onnx2lava.save_netx(network, out / "net.net")
    write_model(onnx2lava.to_onnx(network), out / "loihi.onnx")


def _verify_here(out: Path) -> dict[str, Any]:
    trace = read_trace(out / "trace.npz")
    here = [name for name in ("ort", "ort-native", "numpy") if TARGETS[name].available() is None]
    result = verify(out / "net.onnx", trace.input, trace=trace, labels=trace.labels, against=here)
    write_json(result, out / "verify.json")
    return _read(out / "verify.json")


def _verify_in_lava(out: Path, python: Path) -> dict[str, Any]:
    """The same comparison under the Python that Lava needs, which has nothing but the files."""
    command: list[str | Path] = [python, "-m", "onnx2lava", "verify", out / "net.onnx", "--trace", out / "trace.npz"]
    command += ["--against", "slayer,netx,lava", "--json", out / "verify_lava.json"]
    (out / "verify_lava.json").unlink(missing_ok=True)
    finished = subprocess.run(command, stdout=subprocess.DEVNULL)
    if finished.returncode not in (0, 1):
        raise BridgeError(f"The comparison with Lava under {python} failed; its message is above.")
    return _read(out / "verify_lava.json")


def _read(path: Path) -> dict[str, Any]:
    result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return result


def _table(trace: Trace, trace_seconds: float, results: list[dict[str, Any]]) -> Sheet:
    """A runtime a row: accuracy, spikes of each layer, spikes that differ from SpikingJelly's, time."""
    steps, samples = trace.input.shape[:2]
    layers = list(trace.spikes)
    rows: dict[str, list[str]] = {}
    for result in results:
        for name, accuracy in result["accuracy"].items():
            counts = {layer["name"]: layer["counts"].get(name) for layer in result["layers"]}
            differ = "" if name == "trace" else str(sum(layer["mismatches"].get(name, 0) for layer in result["layers"]))
            spikes = ["" if counts[layer] is None else f"{counts[layer]:,}" for layer in layers]
            title = _TRACE if name == "trace" else result["titles"][name]
            rows[name] = [title, f"{accuracy:.2%}", *spikes, differ, f"{result['seconds'][name] or trace_seconds:.2f}"]
    columns = ["runtime", "accuracy", *layers, "differ", "seconds"]
    return Sheet(f"{samples} test images, {steps} time steps: accuracy, spikes of each layer", columns, list(rows.values()))


def _timed(seconds: dict[str, float], name: str, action: Callable[[], Any]) -> Any:
    start = time.perf_counter()
    result = action()
    seconds[name] = time.perf_counter() - start
    return result


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m models.demo", description=__doc__, allow_abbrev=False)
    parser.add_argument("-out-dir", default="out", metavar="DIR", help="folder to write to (out)")
    parser.add_argument("-lava", type=Path, metavar="PYTHON", help="a Python 3.10 with Lava-DL, to compare with it as well")
    return parser


if __name__ == "__main__":
    sys.exit(main())
