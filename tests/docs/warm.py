"""Python that has already imported what takes seconds to import, and forks for each thing that it is asked to run.

A page runs a dozen scripts, and torch, SpikingJelly and Lava-DL take up to ten seconds of processor time to import. Each script
still gets a process of its own, with nothing in it but those imports: ``Warm.run`` is ``subprocess.run`` of an interpreter.
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

IMPORTS = (
    "torch._dynamo", "torch.export", "torch.onnx", "sklearn.datasets", "onnx", "onnxscript", "networkx", "h5py",
    "jinja2", "matplotlib.pyplot", "spikingjelly.activation_based.neuron", "lava.lib.dl.slayer", "lava.lib.dl.netx.hdf5",
)  # fmt: skip
"""What is slow to import; each environment has some of it. Nothing that starts threads, as onnxruntime does: no fork has them."""


class Warm:
    """A server in one environment. It ends with the one who asked."""

    def __init__(self, python: Path) -> None:
        self.bin_folder = python.parent
        path = os.pathsep.join([str(python.parent), os.environ["PATH"]])
        # Several tests run side by side.
        environment = {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1", "MPLBACKEND": "agg"}
        self._server = subprocess.Popen(
            [python, __file__], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def run(self, arguments: Sequence[str], folder: Path) -> None:
        """``python ARGUMENTS`` in a folder: ``-c CODE``, ``-m MODULE ...`` or ``SCRIPT ...``.

        Raises:
            AssertionError: it ended with another exit code than 0; what it printed is in the message.
        """
        assert self._server.stdin
        assert self._server.stdout
        self._server.stdin.write(json.dumps([list(arguments), str(folder)]) + "\n")
        self._server.stdin.flush()
        answer = self._server.stdout.readline()
        assert answer, f"{self.bin_folder}: Python ended"
        code, output = json.loads(answer)
        assert code == 0, f"python {' '.join(arguments)}\n{output}"

    def close(self) -> None:
        """End the server."""
        assert self._server.stdin
        self._server.stdin.close()
        self._server.wait()


def serve() -> None:
    """Answer each line of standard input, ``[arguments, folder]``, with a line ``[exit code, output]``."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # for imports that print
    for name in IMPORTS:
        with suppress(ImportError):
            import_module(name)
    gc.freeze()  # what is here already is shared with all children, and none of them looks through it
    for line in sys.stdin:
        arguments, folder = json.loads(line)
        with tempfile.TemporaryFile() as output:
            child = os.fork()
            if child == 0:
                become(arguments, folder, output.fileno())
                return
            _, status = os.waitpid(child, 0)
            output.seek(0)
            answer = [os.waitstatus_to_exitcode(status), output.read().decode(errors="replace")]
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def become(arguments: list[str], folder: str, output: int) -> None:
    """Be ``python ARGUMENTS``; what ends it goes through, so that the interpreter ends as usual."""
    os.chdir(folder)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for number, file in enumerate((nothing, output, output)):
        os.dup2(file, number)
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
    serve()
