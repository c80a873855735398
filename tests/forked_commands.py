"""Commands in processes of their own that need not import everything again: each is forked from one that has.

Starting Python and importing what a command needs takes longer than most commands do; forked, they are tried by the hundred.
What depends on how a process starts (its environment, its terminal, signals, worker processes) starts it in earnest instead.
"""

import atexit
import importlib
import json
import os
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import IO

# None of these starts a thread, which a forked process would wait for: onnxruntime does.
_IMPORTED = {
    "onnx2lava": ("onnx2lava.cli", "onnx2lava.outputs", "onnx2lava.quantization", "onnx2lava.targets"),
    "sj2onnx": ("sj2onnx.cli", "sj2onnx.torch_export", "torch._dynamo", "torch.onnx._internal.exporter._core"),
}


def forked(command: str, *arguments: object, folder: Path) -> "subprocess.CompletedProcess[str]":
    """What ``command`` (``onnx2lava`` or ``sj2onnx``) does in ``folder``: exit code, standard output, standard error."""
    server = _server(command)
    assert server.stdin
    assert server.stdout
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        streams = [f"/proc/{os.getpid()}/fd/{stream.fileno()}" for stream in (out, err)]
        print(json.dumps([str(folder), streams, list(map(str, arguments))]), file=server.stdin, flush=True)
        code = int(server.stdout.readline())
        return subprocess.CompletedProcess([command, *arguments], code, _text(out), _text(err))


@cache
def _server(command: str) -> "subprocess.Popen[str]":
    server = subprocess.Popen(
        [sys.executable, "-m", __name__, command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[1],
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
    )
    atexit.register(server.kill)
    return server


def _text(stream: IO[bytes]) -> str:
    stream.seek(0)
    return stream.read().decode(errors="replace")


def _serve(command: str) -> None:
    """Returns in each child, with everything set up as for ``command`` itself; in the parent when nobody asks any more."""
    for module in _IMPORTED[command]:
        importlib.import_module(module)
    for line in sys.stdin:
        folder, streams, arguments = json.loads(line)
        assert len([*Path("/proc/self/task").iterdir()]) == 1
        child = os.fork()
        if not child:
            os.chdir(folder)
            for stream, number in ((os.devnull, 0), *zip(streams, (1, 2), strict=True)):
                os.dup2(os.open(stream, os.O_RDWR), number)
            sys.argv = [command, *arguments]
            return
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
    sys.exit()


if __name__ == "__main__":
    name = sys.argv[1]
    _serve(name)
    importlib.import_module(f"{name}.cli").main()
