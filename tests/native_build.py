"""What tests need of the native sources beside the library itself, built by CMake once for all tests of a clone."""

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


class NoCompilerError(Exception):
    """There is no C++ compiler that could build it."""


def native_build(target: str, *, sanitized: bool = False) -> Path:
    """The folder in which CMake has built ``target``; with ``sanitized``, under AddressSanitizer and UndefinedBehaviorSanitizer.

    Tests run side by side: the first builds, the others wait for it.

    Raises:
        NoCompilerError: there is no C++ compiler.
        RuntimeError: the sources do not compile; the message is the compiler's.
    """
    compiler = os.environ.get("CXX", "c++")
    if shutil.which(compiler) is None:
        raise NoCompilerError(f"no C++ compiler ({compiler}): install g++, or name one with CXX=...")
    folder = ROOT / "build" / "sanitized" if sanitized else ROOT / "build"
    folder.mkdir(parents=True, exist_ok=True)
    cmake = [sys.executable, "-m", "cmake"]
    with (folder / "tests.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for command in (
            [*cmake, "-S", ROOT, "-B", folder, *(["-DSNN_SANITIZE=ON"] if sanitized else [])],
            [*cmake, "--build", folder, "--parallel", "2", "--target", target],
        ):
            ran = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
            if ran.returncode:
                raise RuntimeError(ran.stdout[-4000:] + ran.stderr[-4000:])
    return folder
