"""The kernels under AddressSanitizer and UndefinedBehaviorSanitizer, against an oracle in C++."""

import subprocess

from .emulated import build


def test_kernels_under_the_sanitizers() -> None:
    ran = subprocess.run([build("check", sanitized=True) / "check", "6"], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ran.stdout.endswith(": no difference\n")
    assert int(ran.stdout.split()[0]) > 100
