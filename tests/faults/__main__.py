"""``python -m tests.faults``: kill ``onnx2lava convert`` at random moments, and look at what is left.

Each conversion runs in a forked process that has everything imported, as one ran before the fork, and ends by SIGKILL after a
random part of the time that one takes: half of them anywhere, half of them around the moment at which the first file is
written. Both files that it writes replace older ones, and must then hold either the old content or the new one, byte for byte.
Temporary files of killed processes may be left over; a last conversion must remove them all.
"""

import argparse
import contextlib
import io
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

from onnx2lava import cli

MODEL = Path(__file__).parents[2] / "models" / "digits_csnn.onnx"
OUTPUTS = ("out.net", "out.onnx")


def command(folder: Path) -> int:
    """The command line, in this process; gives its exit code."""
    arguments = ["convert", str(MODEL), "-o", str(folder / OUTPUTS[0]), "--loihi-onnx", str(folder / OUTPUTS[1])]
    sys.argv = ["onnx2lava", *arguments]
    try:
        cli.main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0
    return 0


def convert(folder: Path) -> int:
    """The command line in a forked process without output; gives the process."""
    process = os.fork()
    if process:
        return process
    code = 70
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        code = command(folder)
    finally:
        os._exit(code)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with contextlib.redirect_stdout(io.StringIO()):
            command(folder)
        duration, write = _moments(folder)
        new = {output: (folder / output).read_bytes() for output in OUTPUTS}
        old = {output: b"old " + content for output, content in new.items()}
        kills = broken = writing = replaced = ended = 0
        leftovers: set[str] = set()
        while kills < arguments.kills:
            for output, content in old.items():
                (folder / output).write_bytes(content)
            process = convert(folder)
            delay = rng.uniform(0, duration) if rng.random() < 0.5 else rng.gauss(write, duration / 10)
            time.sleep(max(delay, 0))
            os.kill(process, signal.SIGKILL)
            _, status = os.waitpid(process, 0)
            if not os.WIFSIGNALED(status):
                ended += 1
                continue
            kills += 1
            found = {output: (folder / output).read_bytes() for output in OUTPUTS}
            broken += sum(content not in (old[output], new[output]) for output, content in found.items())
            replaced += found[OUTPUTS[0]] == new[OUTPUTS[0]]
            found_here = {path.name for path in folder.glob(".*")}
            writing += not found_here <= leftovers
            leftovers |= found_here
        _, status = os.waitpid(convert(folder), 0)
        remaining = len(list(folder.glob(".*")))
    print(f"{kills:,} kills of a conversion that takes {duration * 1000:.0f} ms, in {time.perf_counter() - start:.0f} s")
    print(f"{writing:,} in the middle of a write, {replaced:,} after the first file was there; {ended:,} more came too late")
    print(f"broken outputs: {broken}")
    print(f"temporary files left after one more conversion: {remaining}")
    return 1 if broken or remaining or status else 0


def _moments(folder: Path) -> tuple[float, float]:
    """How long a conversion takes, and when it writes its first file: medians of five, in seconds."""
    ends, writes = [], []
    for _ in range(5):
        (folder / OUTPUTS[0]).unlink(missing_ok=True)
        start, wall = time.perf_counter(), time.time()
        _, status = os.waitpid(convert(folder), 0)
        if status:
            raise SystemExit(f"the conversion itself fails with the status {status}")
        ends.append(time.perf_counter() - start)
        writes.append((folder / OUTPUTS[0]).stat().st_mtime - wall)
    return sorted(ends)[2], sorted(writes)[2]


if __name__ == "__main__":
    sys.exit(main())
