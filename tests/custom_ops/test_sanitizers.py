"""The kernels under AddressSanitizer and UndefinedBehaviorSanitizer, against an oracle in C++."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_kernels_under_the_sanitizers(tmp_path: Path) -> None:
    if shutil.which(os.environ.get("CXX", "c++")) is None:
        if os.environ.get("CI"):
            pytest.fail("no C++ compiler")
        pytest.skip("no C++ compiler: install g++ to check the kernels under the sanitizers")
    cmake = [sys.executable, "-m", "cmake"]
    for command in (
        [*cmake, "-S", ROOT, "-B", tmp_path, "-DSNN_SANITIZE=ON"],
        [*cmake, "--build", tmp_path, "--parallel", "2"],
        [tmp_path / "check", "6"],
    ):
        ran = subprocess.run(list(map(str, command)), capture_output=True, text=True)
        assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ran.stdout.endswith(": no difference\n")
    assert int(ran.stdout.split()[0]) > 100
