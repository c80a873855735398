"""One damaged file, and what each entrance of the project makes of it."""

import contextlib
import io
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
import onnxruntime

import custom_ops
from custom_ops.errors import BridgeError
from onnx2lava import cli, load, load_netx

from .damage import damaged_netx, damaged_onnx, flipped

__all__ = ["Case", "attempt", "build"]

_MOST_ELEMENTS = 10_000  # of an input that a session is run with


@dataclass(frozen=True)
class Case:
    """A damaged file and where it goes."""

    entrance: str
    suffix: str
    data: bytes


def build(seed: int, number: int, onnx_files: Mapping[str, bytes], netx_files: Mapping[str, bytes]) -> Case:
    """Case ``number`` of the run ``seed``: the same file and entrance whenever it is asked for."""
    rng = Random(f"{seed}/{number}")
    entrance = rng.choice(_MIX)
    netx = entrance in _NETX or (entrance in ("inspect", "convert") and rng.random() < 0.3)
    files = list((netx_files if netx else onnx_files).values())
    small = [data for data in files if len(data) < 20_000]
    # The two large ones seldom: a case takes as long as its file is large.
    data = rng.choice(small if rng.random() < 0.95 else files)
    other = rng.choice([*onnx_files.values(), *netx_files.values()])
    if rng.random() < 0.4:
        return Case(entrance, ".net" if netx else ".onnx", flipped(rng, data, other))
    return (
        Case(entrance, ".net", damaged_netx(rng, data, other))
        if netx
        else Case(entrance, ".onnx", damaged_onnx(rng, data, other))
    )


def attempt(case: Case, folder: Path, show: bool = False) -> str:
    """What came of it, in a word or two; what begins with ``BUG`` must not come of any file. ``show``: print its traceback."""
    path = folder / f"case{case.suffix}"
    path.write_bytes(case.data)
    try:
        return _ENTRANCES[case.entrance](path)
    except BridgeError as error:
        return _judged(str(error)) or type(error).__name__
    except BaseException as error:
        if show:
            traceback.print_exc()
        return f"BUG: {type(error).__name__} from {case.entrance}"


def _judged(message: str) -> str | None:
    """What is wrong with an error message."""
    one_line = "\n" not in message and message.isprintable()
    if one_line and message.endswith(".") and len(message) < 1500:
        return None
    return f"BUG: not one printable sentence of less than 1,500 characters: {message[:200]!r}"


def _load(path: Path) -> str:
    load(path, input=("spikes", "images", "counts")[path.stat().st_size % 3])
    return "accepted"


def _load_netx(path: Path) -> str:
    load_netx(path)
    return "accepted"


def _command(*arguments: str) -> str:
    """The command line, in this process."""
    out, err = io.StringIO(), io.StringIO()
    sys.argv = ["onnx2lava", *arguments]
    code: object = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            cli.main()
        except SystemExit as end:
            code = end.code
    if code in (0, None):
        return "accepted"
    said = err.getvalue()
    if code != 2 or "fault of sj2lava" in said or not said.startswith("Error: ") or not said.endswith("\n"):
        return f"BUG: exit code {code} and {said[:200]!r}"
    return _judged(said[:-1]) or "exit code 2"


def _inspect(path: Path) -> str:
    return _command("inspect", str(path))


def _convert(path: Path) -> str:
    output, model = path.with_name("out.net"), path.with_name("out.onnx")
    for old in (output, model):
        old.unlink(missing_ok=True)
    came = _command("convert", str(path), "-o", str(output), "--loihi-onnx", str(model))
    left = {each.name for each in path.parent.iterdir() if each.name.startswith(".")}
    if left:
        return f"BUG: left {left} behind"
    if came == "accepted":
        load_netx(output)
        load(model)
    return came


def _session(native: bool) -> Callable[[Path], str]:
    def run(path: Path) -> str:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 4
        session = custom_ops.session(path, native=native, sess_options=options)
        feed = {}
        for value in session.get_inputs():
            dims = [dim if isinstance(dim, int) else 2 for dim in value.shape or []]
            if (
                value.type not in _TYPES
                or min(dims, default=1) < 0
                or np.prod([max(dim, 1) for dim in dims], dtype=float) > _MOST_ELEMENTS
            ):
                return "accepted"
            feed[value.name] = np.ones(dims, _TYPES[value.type])
        try:
            session.run(None, feed)
        except Exception:  # onnxruntime's own refusals have no common class; that it did not crash is what counts
            return "refused by onnxruntime while it ran"
        return "accepted"

    return run


_TYPES = {"tensor(float)": np.float32, "tensor(int32)": np.int32, "tensor(int64)": np.int64}

_ENTRANCES: Mapping[str, Callable[[Path], str]] = {
    "load": _load,
    "load_netx": _load_netx,
    "inspect": _inspect,
    "convert": _convert,
    "session": _session(False),
    "session, native": _session(True),
}
_NETX = ("load_netx",)
_MIX = ["load"] * 7 + ["load_netx"] * 3 + ["inspect"] * 3 + ["convert"] * 4 + ["session"] * 1 + ["session, native"] * 2
