"""What every command and package does at once, whatever is installed: help, versions, one sentence where a part is missing."""

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import custom_ops
import onnx2lava
import sj2onnx
from custom_ops.errors import BridgeError
from custom_ops.version import __version__

PACKAGES = (custom_ops, onnx2lava, sj2onnx)
COMMANDS = ("sj2onnx", "onnx2lava")
HELP_SECONDS = 0.4
"""Of the processor; the fastest of three, as other work on the machine adds to each of them."""


def run(command: str, *arguments: str, without: tuple[str, ...] = (), extra: str = "") -> subprocess.CompletedProcess[str]:
    """Run a command in a process of its own in which the packages ``without`` are not installed."""
    script = f"""
import sys, time
for name in {without!r}:
    sys.modules[name] = None
sys.argv = [{command!r}, *{arguments!r}]
from {command}.cli import main
try:
    main()
finally:
    {extra or "pass"}
"""
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=120)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help_needs_nothing_that_is_not_installed_everywhere(command: str, option: str) -> None:
    ran = run(command, option, without=("torch", "spikingjelly", "onnxscript", "lava", "matplotlib", "jinja2"))
    assert ran.returncode == 0, ran.stderr
    assert "Usage" in ran.stdout
    assert ran.stderr == ""


@pytest.mark.parametrize("command", COMMANDS)
def test_help_comes_at_once(command: str) -> None:
    seconds = [float(run(command, "--help", extra="sys.stderr.write(str(time.process_time()))").stderr) for _ in range(3)]
    assert min(seconds) < HELP_SECONDS


@pytest.mark.parametrize("command", COMMANDS)
def test_the_version_is_that_of_the_packages(command: str) -> None:
    ran = run(command, "--version")
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith(f"{command} {__version__}")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("onnx2lava verfy", "No such command 'verfy'. Did you mean 'verify'? `onnx2lava -h` shows"),
        ("onnx2lava inspect", "Missing argument 'FILE': `onnx2lava inspect -h` shows"),
        ("onnx2lava inspect a.onnx b.onnx", "unexpected extra argument(s) (b.onnx): `onnx2lava inspect -h` shows"),
        ("onnx2lava inspect a.onnx --fast", "No such option"),
        ("onnx2lava convert a.onnx", "Missing option '"),
        ("onnx2lava convert a.onnx -o", "requires an argument"),
        ("onnx2lava verify a.onnx --input-kind movies", "'movies' is not one of 'spikes', 'images', 'counts'"),
        ("onnx2lava verify a.onnx --num-layers many", "valid integer"),
        ("sj2onnx exprt", "Did you mean 'export'? `sj2onnx -h` shows"),
        ("sj2onnx --fast", "No such option"),
        ("sj2onnx export net:make -o a.onnx --shape 1 --outputs All", "'All' is not one of 'last', 'all'"),
        ("sj2onnx export net:make -o a.onnx --shape 1 --check true", "unexpected extra argument(s) (true)"),
    ],
)
def test_a_wrong_call_is_one_line(arguments: str, sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    command, *rest = arguments.split()
    app = importlib.import_module(f"{command}.cli").app
    with pytest.raises(SystemExit) as ended:
        app(rest, prog_name=command)
    assert ended.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    assert line.startswith("Error: ")
    assert sentence in line


def test_a_module_runs_as_its_command() -> None:
    for command in COMMANDS:
        ran = subprocess.run([sys.executable, "-m", command, "--version"], capture_output=True, text=True, check=True)
        assert __version__ in ran.stdout


def test_all_packages_are_of_one_version() -> None:
    assert {package.__version__ for package in PACKAGES} == {__version__}
    changes = (Path(__file__).parents[1] / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.findall(r"^## (\d[\w.]*)", changes, re.MULTILINE)[0] == __version__


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.__name__)
def test_a_package_offers_what_it_names(package: object) -> None:
    names = package.__all__  # type: ignore[attr-defined]
    assert all(getattr(package, name) is not None for name in names)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        package.nothing  # type: ignore[attr-defined]  # noqa: B018


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.__name__)
def test_errors_come_from_the_package_that_raises_them(package: object) -> None:
    name = package.__name__  # type: ignore[attr-defined]
    own = vars(importlib.import_module(f"{name}.errors"))
    for error in (each for each in own.values() if isinstance(each, type) and issubclass(each, BridgeError)):
        if error.__module__ == f"{name}.errors":
            assert getattr(package, error.__name__) is error


def test_a_function_is_not_hidden_by_its_module() -> None:
    import sj2onnx.export
    import sj2onnx.record

    assert callable(sj2onnx.export)
    assert callable(sj2onnx.record)


def test_export_without_torch_is_one_sentence() -> None:
    ran = run("sj2onnx", "export", "a:b", "-o", "o.onnx", "--shape", "1,1,1", without=("torch",))
    assert ran.returncode == 2
    assert ran.stderr == (
        'Error: This command needs torch, which is not installed here: install "sj2lava[train]" (Python 3.11 or newer).\n'
    )


@pytest.mark.parametrize("missing", ["torch", "spikingjelly"])
def test_a_package_without_its_peer_says_what_to_install(missing: str) -> None:
    script = f"""
import sys
sys.modules[{missing!r}] = None
import sj2onnx
try:
    sj2onnx.export
except ImportError as error:
    assert isinstance(error, sj2onnx.MissingPackageError) and error.name == {missing!r}
    print(error)
"""
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout.startswith(f"sj2onnx.export needs {missing}, which is not installed here: install")


def test_quiet_is_quiet_and_its_errors_are_not(tmp_path: Path) -> None:
    (tmp_path / "quiet_net.py").write_text("from spikingjelly.activation_based import neuron\nnet = neuron.IFNode()\n")
    command = [sys.executable, "-m", "sj2onnx", "export", "quiet_net:net", "-o", "net.onnx", "--shape", "4,1,3", "-q"]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")
    assert (tmp_path / "net.onnx").stat().st_size > 0
    wrong = subprocess.run([*command, "--weights", "none.pt"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert wrong.returncode == 2
    assert wrong.stderr.startswith("Error: ")
    assert wrong.stderr.count("\n") == 1
