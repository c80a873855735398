"""Python that has already imported what takes seconds to import, and forks for each thing that it is asked to run.

A page of the documentation runs a dozen scripts, and the tests of the command lines a hundred commands; torch, SpikingJelly and
Lava-DL take up to ten seconds of processor time to import. Each still gets a process of its own, with nothing in it but those
imports: :meth:`Warm.run` is ``subprocess.run`` of an interpreter. What depends on how a process starts (its environment, its
terminal, signals, worker processes) has to be started in earnest instead.
"""

import gc
import json
import os
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from types import ModuleType


class Warm:
    """A server in one environment. It ends with the one who asked.

    Args:
        python: the environment's interpreter.
        imports: modules; those that it does not have are left out. None may start a thread, as onnxruntime does:
            no fork has it.
    """

    def __init__(self, python: Path, imports: Sequence[str]) -> None:
        self.bin_folder = python.parent
        # Several tests run side by side.
        one_thread = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        path = os.pathsep.join([str(python.parent), os.environ["PATH"]])
        environment = {**os.environ, **one_thread, "PATH": path, "MPLBACKEND": "agg"}
        self._server = subprocess.Popen(
            [python, __file__, *imports], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def run(self, arguments: Sequence[str], folder: Path) -> "subprocess.CompletedProcess[str]":
        """``python ARGUMENTS`` in a folder: ``-c CODE``, ``-m MODULE ...`` or ``SCRIPT ...``."""
        assert self._server.stdin
        assert self._server.stdout
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            streams = [f"/proc/{os.getpid()}/fd/{stream.fileno()}" for stream in (out, err)]
            self._server.stdin.write(json.dumps([list(arguments), str(folder), streams]) + "\n")
            self._server.stdin.flush()
            answer = self._server.stdout.readline()
            assert answer, f"{self.bin_folder}: Python ended"
            texts = []
            for stream in (out, err):
                stream.seek(0)
                texts.append(stream.read().decode(errors="replace"))
        return subprocess.CompletedProcess(arguments, int(answer), *texts)

    def close(self) -> None:
        """End the server."""
        assert self._server.stdin
        self._server.stdin.close()
        self._server.wait()


def serve(imports: Sequence[str]) -> None:
    """Answer each line of standard input, ``[arguments, folder, [output, errors]]``, with a line: the exit code."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # for imports that print
    sys.path[0] = str(Path.cwd())  # and not this folder, where lava is a folder of tests
    for name in imports:
        with suppress(ImportError):
            import_module(name)
    gc.freeze()  # what is here already is shared with all children, and none of them looks through it
    threads = [each.name for each in Path("/proc/self/task").iterdir()]
    assert len(threads) == 1, "one of the imports starts threads, for which a fork would wait for ever"
    for line in sys.stdin:
        arguments, folder, streams = json.loads(line)
        child = os.fork()
        if child == 0:
            become(arguments, folder, streams)
            return
        answers.write(f"{os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}\n")
        answers.flush()


def become(arguments: list[str], folder: str, streams: list[str]) -> None:
    """Be ``python ARGUMENTS``; what ends it goes through, so that the interpreter ends as usual."""
    os.chdir(folder)
    for number, file in enumerate((os.devnull, *streams)):
        os.dup2(os.open(file, os.O_RDWR), number)
    sys.path[0] = folder
    how, *rest = arguments
    if how == "-c":
        sys.argv = ["-c", *rest[1:]]
        main = sys.modules["__main__"] = ModuleType("__main__")
        exec(compile(rest[0], "<string>", "exec"), main.__dict__)
    elif how == "-m":
        sys.argv = rest
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    else:
        sys.argv = arguments
        runpy.run_path(how, run_name="__main__")


if __name__ == "__main__":
    serve(sys.argv[1:])
