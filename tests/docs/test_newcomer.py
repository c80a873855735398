"""The newcomer's path of the README, from the wheel to a verified ``.net`` file, in five commands and two new environments.

The environments see the packages of `make env` and `make env-lava`, so that pip finds there what the wheel asks for, or fails:
nothing is fetched.
"""

import importlib.metadata
import os
import shlex
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.custom_ops.test_packaging import build_wheel, copy_sources
from tests.docs.test_pages import BLOCK, ROOT, blocks

CACHED = "_cached_packages.pth"


def five_commands() -> list[tuple[str, str]]:
    """Where each of the commands runs, ``""`` or ``"lava"``, and the command."""
    page = (ROOT / "README.md").read_text(encoding="utf-8").partition("## Your own network")[2].partition("Two more commands")[0]
    found = [(where.strip(), text) for kind, where, text in BLOCK.findall(page) if kind == "bash"]
    return [(where, line.partition("  #")[0].strip()) for where, text in found for line in text.splitlines()]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    sources = copy_sources(tmp_path_factory.mktemp("sources"))
    return build_wheel(sources, tmp_path_factory.mktemp("wheel"), CMAKE_ARGS="-DSNN_CUDA=OFF")[0]


def new_environment(folder: Path, like: Path) -> Path:
    """A new environment that sees the packages of another one, but not the project that is installed there."""
    (cached,) = like.parent.parent.glob(f"lib/python*/site-packages/{CACHED}")
    subprocess.run([like, "-m", "venv", "--without-pip", folder], check=True)
    (site,) = folder.glob("lib/python*/site-packages")
    (site / CACHED).write_text(cached.read_text())
    return folder / "bin"


def argparse_again(lava_python: Path, folder: Path) -> Path:
    """A folder with the wheel of ``argparse``, which Lava-DL needs by way of ``unittest2``.

    pip looks away from the one that is installed, for it takes it for a part of Python
    (``pip._internal.utils.compat.stdlib_pkgs``).
    """
    (cached,) = lava_python.parent.parent.glob(f"lib/python*/site-packages/{CACHED}")
    (found,) = importlib.metadata.distributions(name="argparse", path=[cached.read_text().strip()])
    folder.mkdir()
    with zipfile.ZipFile(folder / f"argparse-{found.version}-py2.py3-none-any.whl", "w") as wheel:
        for file in found.files or []:
            if "__pycache__" not in file.parts:
                wheel.write(found.locate_file(file), str(file))
    return folder


def test_five_commands_lead_from_the_wheel_to_a_verified_file(wheel: Path, lava_python: Path, tmp_path: Path) -> None:
    like = {"": Path(sys.executable), "lava": lava_python}
    environments = {where: new_environment(tmp_path / f"env{where}", python) for where, python in like.items()}
    work = tmp_path / "empty"
    work.mkdir()
    (mynet,) = (text for _, where, text in blocks(ROOT / "README.md") if where == "mynet.py")
    (work / "mynet.py").write_text(mynet, encoding="utf-8")

    more = argparse_again(lava_python, tmp_path / "more")
    commands = five_commands()
    assert [shlex.split(command)[0] for _, command in commands] == ["pip", "python", "pip", "onnx2lava", "onnx2lava"]
    for where, command in commands:
        bin_folder = environments[where]
        words = shlex.split(command)
        if words[0] == "pip":
            wanted = [word.replace("sj2lava", str(wheel)) if word.startswith("sj2lava") else word for word in words[2:]]
            words = ["python", "-m", "pip", "install", "--quiet", "--no-index", "--find-links", str(more), *wanted]
        path = os.pathsep.join([str(bin_folder), "/usr/bin", "/bin"])
        ran = subprocess.run(
            [bin_folder / words[0], *words[1:]],
            cwd=work,
            env={**os.environ, "PATH": path, "PYTHONPATH": ""},
            capture_output=True,
            text=True,
            check=False,
        )
        assert ran.returncode == 0, f"{command}\n{ran.stdout}\n{ran.stderr}"
    assert (work / "net.net").exists()
    installed = subprocess.run(
        [environments[""] / "python", "-c", "import sj2onnx; print(sj2onnx.__file__)"], cwd=work, capture_output=True, text=True
    )
    assert installed.stdout.startswith(str(environments[""].parent))
