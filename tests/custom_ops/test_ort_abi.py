"""Our declaration of onnxruntime's C interface against the official header, where that is installed."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEADER = "onnxruntime_c_api.h"
INCLUDE_DIRECTORIES = ("/usr/include/onnxruntime", "/usr/local/include/onnxruntime", "/usr/include", "/usr/local/include")


def test_our_declaration_agrees_with_the_official_header() -> None:
    """Debian has it in libonnxruntime-dev; SJ2LAVA_ORT_INCLUDE names any other folder that holds it."""
    named = os.environ.get("SJ2LAVA_ORT_INCLUDE")
    folders = [folder for folder in ([named] if named else INCLUDE_DIRECTORIES) if (Path(folder) / HEADER).exists()]
    if not folders:
        pytest.skip(f"no {HEADER} here: install libonnxruntime-dev, or name its folder with SJ2LAVA_ORT_INCLUDE")
    compiler = shutil.which(os.environ.get("CXX", "c++"))
    if compiler is None:
        pytest.skip("no C++ compiler")
    source = ROOT / "custom_ops" / "native" / "check" / "ort_abi_check.cpp"
    command = [compiler, "-std=c++17", "-w", "-fsyntax-only", f"-I{folders[0]}", source]
    ran = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
