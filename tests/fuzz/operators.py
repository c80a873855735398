"""``python -m tests.fuzz.operators``: nodes of the domain ``snn``, valid and nearly so, through onnxruntime under the sanitizers.

The native library is built with AddressSanitizer and UndefinedBehaviorSanitizer, and run by a Python into which their runtime is
preloaded, in processes whose death is seen. What a session gives for a node is compared with the NumPy reference. Case K of
seed S is always the same; ``--only K`` runs it alone and shows what the sanitizer has to say.
"""

import argparse
import ctypes
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from tests.native_build import NoCompilerError, native_build

from .nodes import NATIVE, NodeCase, build

ROOT = Path(__file__).parents[2]
_SECONDS = 60  # for one case; an honest one takes some milliseconds, on a busy machine more
_PER_PROCESS = 500
_SANITIZERS = {
    "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1:max_allocation_size_mb=256:handle_abort=1",
    "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1",
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.operators", description=__doc__)
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--only", type=int, help="run this one case")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        library, first, last = arguments.child
        _child(Path(library), arguments.seed, range(int(first), int(last)))
        return 0
    try:
        library, environment = sanitized()
    except NoCompilerError as error:
        print(error, file=sys.stderr)
        return 2
    if arguments.only is not None:
        print(build(arguments.seed, arguments.only))
        return _command(library, arguments.seed, range(arguments.only, arguments.only + 1), environment, None).wait()
    return _Run(arguments, library, environment).run()


def sanitized() -> tuple[Path, dict[str, str]]:
    """The library with the sanitizers, and the environment of a process that can load it.

    Raises:
        NoCompilerError: there is no compiler, or it has no sanitizers of GCC's kind.
    """
    folder = native_build("snn_ops_sanitized", sanitized=True)
    compiler = os.environ.get("CXX", "c++")
    preload = []
    for name in ("libasan.so", "libubsan.so", "libstdc++.so"):
        found = subprocess.run([compiler, f"-print-file-name={name}"], capture_output=True, text=True, check=True).stdout.strip()
        if not Path(found).is_absolute():
            raise NoCompilerError(f"{compiler} has no {name}: install GCC's sanitizers, or name g++ with CXX=g++")
        preload.append(str(Path(found).resolve()))
    return folder / "libsnn_ops_sanitized.so", {
        **os.environ,
        **_SANITIZERS,
        "LD_PRELOAD": ":".join(preload),
        "PYTHONMALLOC": "malloc",
    }


def _command(library: Path, seed: int, numbers: range, environment: dict[str, str], log: Any) -> "subprocess.Popen[bytes]":
    arguments = ["--seed", str(seed), "--child", str(library), str(numbers.start), str(numbers.stop)]
    return subprocess.Popen(
        [sys.executable, "-m", "tests.fuzz.operators", *arguments], cwd=ROOT, env=environment, stdout=log, stderr=log
    )


class _Run:
    """Processes side by side, each with some cases; where one dies, another goes on behind the case that killed it."""

    def __init__(self, arguments: argparse.Namespace, library: Path, environment: dict[str, str]) -> None:
        self._seed, self._cases, self._processes = arguments.seed, arguments.cases, arguments.processes
        self._library, self._environment = library, environment
        self._came: Counter[str] = Counter()
        self._operators: Counter[str] = Counter()
        self._bugs: list[str] = []
        self._peak = 0

    def run(self) -> int:
        start = time.perf_counter()
        waiting = [range(first, min(first + _PER_PROCESS, self._cases)) for first in range(0, self._cases, _PER_PROCESS)]
        running: dict[int, tuple[range, Path, Any]] = {}
        with tempfile.TemporaryDirectory() as folder:
            while waiting or running:
                while waiting and len(running) < self._processes:
                    numbers = waiting.pop(0)
                    log = Path(folder) / str(numbers.start)
                    with log.open("wb") as file:
                        child = _command(self._library, self._seed, numbers, self._environment, file)
                    running[child.pid] = numbers, log, child
                pid, status, usage = os.wait4(-1, 0)
                numbers, log, child = running.pop(pid)
                child.returncode = os.waitstatus_to_exitcode(status)
                self._peak = max(self._peak, usage.ru_maxrss)
                last = self._read(log.read_text(errors="replace"), numbers)
                if child.returncode:
                    self._died(last, child.returncode, log.read_text(errors="replace"))
                    if last + 1 < numbers.stop:
                        waiting.insert(0, range(last + 1, numbers.stop))
        return self._print(time.perf_counter() - start)

    def _read(self, text: str, numbers: range) -> int:
        """Count what came of the cases; the number of the one that was running at the end."""
        running = numbers.start
        for line in text.splitlines():
            parts = line.split("\t")
            if parts[0] == "begins":
                running = int(parts[1])
            elif parts[0] == "came":
                self._note(int(parts[1]), parts[2], parts[3])
        return running

    def _died(self, number: int, code: int, text: str) -> None:
        killed = -code == signal.SIGALRM
        number_of_frames = 2  # operator new itself, and who called it
        out = text.partition("allocator is out of memory")[2].splitlines()[1 : 1 + number_of_frames]
        if out and "libsnn_ops" not in "".join(out):
            # Under the sanitizer a failed `new` of onnxruntime's, for an output, ends the process; else there is an exception.
            self._note(number, build(self._seed, number).op_type, "more memory than onnxruntime may have")
            return
        said = [line for line in text.splitlines() if "ERROR: AddressSanitizer" in line or "runtime error:" in line]
        came = "BUG: hang" if killed else f"BUG: crash ({said[-1].strip() if said else f'exit code {code}'})"
        self._note(number, build(self._seed, number).op_type, came)

    def _note(self, number: int, op_type: str, came: str) -> None:
        self._operators[op_type] += 1
        self._came[came.split(" (")[0]] += 1
        if came.startswith("BUG"):
            self._bugs.append(came)
            print(f"case {number}: {came}", flush=True)

    def _print(self, seconds: float) -> int:
        crashes, hangs = (sum(word in bug for bug in self._bugs) for word in ("BUG: crash", "BUG: hang"))
        print(f"{sum(self._operators.values()):,} cases (seed {self._seed}) in {seconds:,.0f} s on {self._processes} processes")
        for title, counts in (("by operator", self._operators), ("by what came of them", self._came)):
            print(f"{title}: " + ", ".join(f"{name} {count:,}" for name, count in counts.most_common()))
        print(f"crashes and sanitizers' errors: {crashes}, hangs: {hangs}, other bugs: {len(self._bugs) - crashes - hangs}")
        print(f"peak memory of a process: {self._peak // 1024:,} MiB, the sanitizer's own included")
        return 1 if self._bugs else 0


def _child(path: Path, seed: int, numbers: range) -> None:
    """Run the cases, here; say before each which it is, and behind it what came of it."""
    from custom_ops.sessions import runtime

    runtime._LIBRARIES["cpu"] = path
    library = ctypes.CDLL(str(path))
    library.snn_ops_isa.restype = ctypes.c_char_p
    library.snn_ops_use_isa.argtypes = [ctypes.c_char_p]
    isas = [name for name in map(library.snn_ops_isa, range(8)) if name]
    for number in numbers:
        case = build(seed, number)
        print(f"begins\t{number}", flush=True)
        assert library.snn_ops_use_isa(isas[case.isa % len(isas)])
        signal.setitimer(signal.ITIMER_REAL, _SECONDS)
        came = _attempt(case, path)
        signal.setitimer(signal.ITIMER_REAL, 0)
        print(f"came\t{number}\t{case.op_type}\t{came}", flush=True)


def _attempt(case: NodeCase, library: Path) -> str:
    """What came of it; what begins with ``BUG`` must not come of any node."""
    import onnxruntime

    import custom_ops
    from custom_ops.errors import ModelFileError

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = case.threads, 4
    model = case.model()
    try:
        if case.raw:
            options.register_custom_ops_library(str(library))
            session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        else:
            session = custom_ops.session(model, native=True, sess_options=options)
            if case.op_type == "CubaBlock":
                return "BUG: a private operator was taken from a file"
    except ModelFileError as error:
        return _said(str(error)) or "refused when made"
    except Exception as error:
        return _said(str(error)) or (
            "refused when made" if case.raw else f"BUG: {type(error).__name__} instead of ModelFileError"
        )
    came = "ran"
    for run in case.runs:
        try:
            values = session.run(None, {name: run[name] for name in case.fed if name in run})
        except Exception as error:
            came = "refused when run"
            if said := _said(str(error)):
                return said
            continue
        if case.empty is None:
            came = _judged(case, run, dict(zip([output.name for output in session.get_outputs()], values, strict=True))) or came
            if came.startswith("BUG"):
                return came
    return came


def _said(message: str) -> str | None:
    """What is wrong with an error message of ours, in onnxruntime's frame."""
    line = message.partition("snn.")[2]
    if "std::" in line or "not enough memory even" in message:
        return f"BUG: an unhelpful message ({' '.join(message.split())[:200]})"
    return None


def _judged(case: NodeCase, run: dict[str, Any], values: dict[str, Any]) -> str | None:
    """Compare the outputs of a node that is whole with the reference."""
    from custom_ops import OPERATORS

    if case.op_type not in NATIVE or len(set(case.names)) < len(case.names):
        return None
    operator = OPERATORS[case.op_type]
    positions = dict(zip([value.name for value in operator.inputs], case.names, strict=False))
    there = {**run, **{name: case.runs[0][name] for name in case.constant if name in case.runs[0]}}
    given = {name: there[place] for name, place in positions.items() if place in there}
    known = {attribute.name for attribute in operator.attributes}
    attributes = {name: value for name, value in case.attributes.items() if name in known}
    with np.errstate(all="ignore"):
        try:
            expected = operator.computed(**given, **attributes)
        except (ValueError, TypeError) as error:
            return f"BUG: it ran, but the reference refuses it ({error})"
    for value, name in zip(operator.outputs, [*case.outputs, *[""] * len(operator.outputs)], strict=False):
        wanted = expected[value.name]
        got = values.get(name, values.get(f"{name}_out"))
        if name and got is not None and not np.array_equal(got, wanted, equal_nan=wanted.dtype.kind == "f"):
            return f"BUG: {value.name} differs from the reference"
    return "ran, equal to the reference"


if __name__ == "__main__":
    sys.exit(main())
