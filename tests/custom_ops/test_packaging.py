"""What `pip install .` makes: a wheel for the platform with the library in it; without a compiler, one that says it has none."""

import zipfile
from pathlib import Path

import pytest

from tests.custom_ops.wheel import build_wheel, copy_sources, usual_wheel


def contents(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_the_wheel_has_the_library_and_serves_every_python(tmp_path_factory: pytest.TempPathFactory) -> None:
    wheel, output = usual_wheel(tmp_path_factory)
    name, _, python, abi, platform = wheel.stem.split("-")
    assert (name, python, abi) == ("sj2lava", "py3", "none")
    assert platform != "any"
    assert "custom_ops/libsnn_ops.so" in contents(wheel)
    assert not [file for file in contents(wheel) if file.startswith("custom_ops/native/")]
    assert "installed with its native operator library" in output


def test_without_a_compiler_the_install_succeeds_and_says_so(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    source = copy_sources(tmp_path_factory.mktemp("source"))
    wheel, output = build_wheel(source, tmp_path, CXX="/nonexistent/c++", CUDACXX="/nonexistent/nvcc")
    assert wheel.name.endswith("-py3-none-any.whl")
    assert "custom_ops/sessions/runtime.py" in contents(wheel)
    assert not [file for file in contents(wheel) if file.endswith(".so")]
    assert "no C++17 compiler was found" in output
    assert "install a compiler" in output
