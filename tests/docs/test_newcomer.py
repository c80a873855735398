"""The newcomer's path of the README, from the wheel to a verified ``.net`` file, in five commands and two new environments.

The environments see the packages of `make env` and `make env-lava`, so that pip finds there what the wheel asks for, or fails:
nothing is fetched.
"""

import importlib.metadata
import os
import shlex
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.custom_ops.wheel import usual_wheel
from tests.docs.pages import ROOT, blocks, run_blocks

CACHED = "_cached_packages.pth"


def five_commands() -> tuple[list[tuple[str, str]], list[tuple[str, str, str]]]:
    """Where each of the commands runs, ``""`` or ``"lava"``, and the command; and the README's blocks behind them."""
    found = blocks(ROOT / "README.md")
    last = next(index for index, (_, _, text) in enumerate(found) if "onnx2lava verify" in text)
    lines = [(where, line) for kind, where, text in found[: last + 1] if kind == "bash" for line in text.splitlines()]
    return [(where, line.partition("  #")[0].strip()) for where, line in lines], found[last + 1 :]


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


def test_the_readme_leads_from_the_wheel_to_a_verified_file_in_five_commands_and_goes_on(
    lava_python: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> None:
    wheel, _ = usual_wheel(tmp_path_factory)
    like = {"": Path(sys.executable), "lava": lava_python}
    environments = {where: new_environment(tmp_path / f"env{where}", python) for where, python in like.items()}
    work = tmp_path / "empty"
    work.mkdir()
    (mynet,) = (text for _, where, text in blocks(ROOT / "README.md") if where == "mynet.py")
    (work / "mynet.py").write_text(mynet, encoding="utf-8")

    more = argparse_again(lava_python, tmp_path / "more")
    commands, behind = five_commands()
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
            env={**os.environ, "PATH": path, "PYTHONPATH": "", "OMP_NUM_THREADS": "1"},
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
    # What the page says next needs nothing new: it runs where the other pages do.
    shutil.copytree(ROOT / "models", work / "models", ignore=shutil.ignore_patterns("__pycache__"))
    run_blocks(behind, work, request)
