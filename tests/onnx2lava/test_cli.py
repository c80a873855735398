"""The command line: exit codes, messages without traceback, and files that are whole or not there."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

import onnx2lava
from custom_ops.trace import Trace, read_trace, write_trace
from onnx2lava import load, load_netx, to_onnx
from onnx2lava.simulate import simulate
from tests.onnx2lava.networks import assert_same, assert_same_numbers, examples, spikes

NETWORK = examples()["strided, dilated, grouped, odd, biased"]


def run(*arguments, code):
    result = subprocess.run([sys.executable, "-m", "onnx2lava", *map(str, arguments)], capture_output=True, text=True)
    assert result.returncode == code, result.stderr + result.stdout
    assert "Traceback" not in result.stderr
    if code == 2:
        assert len(result.stderr.strip().splitlines()) == 1, result.stderr
        assert result.stderr.startswith("Error: ")
    return result.stderr if code == 2 else result.stdout


@pytest.fixture
def folder(tmp_path):
    onnx.save(to_onnx(NETWORK), tmp_path / "in.onnx")
    x = spikes(NETWORK, 6, 3)
    np.save(tmp_path / "x.npy", x)
    write_trace(Trace(x, {name: s.astype(np.uint8) for name, s in simulate(NETWORK, x).items()}), tmp_path / "trace.npz")
    return tmp_path


def test_convert_writes_both_files_and_inspect_shows_them(folder):
    run("convert", folder / "in.onnx", "-o", folder / "out.net", "--loihi-onnx", folder / "out.onnx", code=0)
    assert_same_numbers(load_netx(folder / "out.net"), NETWORK)
    assert_same(load(folder / "out.onnx"), NETWORK)
    for name in ("in.onnx", "out.net"):
        shown = run("inspect", folder / name, code=0)
        assert "threshold" in shown
        assert "groups 3" in shown


def test_verify_agrees_with_a_trace_and_finds_one_wrong_spike(folder):
    verify = ("verify", folder / "in.onnx", "--against", "ort,numpy", "--trace")
    assert "Every spike is the same" in run(*verify, folder / "trace.npz", code=0)
    trace = read_trace(folder / "trace.npz")
    trace.spikes["conv_fc.1"][2, 1, 0, 0, 0] ^= 1
    write_trace(trace, folder / "wrong.npz")
    shown = run(*verify, folder / "wrong.npz", code=1)
    assert "3 spikes differ" in shown  # one in each of the two runtimes and in the file itself


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["inspect", "missing.onnx"], "Cannot read missing.onnx"),
        (["inspect", "x.npy"], "not an ONNX file"),
        (["convert", "in.onnx", "-o", "nowhere/out.net"], "Cannot write nowhere/out.net"),
        (["convert", "in.onnx", "-o", "out.net", "--scale", "many"], "neither auto nor"),
        (["convert", "in.onnx", "-o", "out.net", "--calibration", "in.onnx"], "not an .npy file"),
        (["verify", "in.onnx"], "no input"),
        (["verify", "in.onnx", "--input", "x.npy", "--against", "ort,brian"], "no runtime brian"),
        (["verify", "in.onnx", "--input", "x.npy", "--trace", "other.npz"], "another input"),
        (["verify", "in.onnx", "--input", "x.npy", "--trace", "strange.npz"], "'strange' with the shape"),
        (["verify", "in.onnx", "--input", "x.npy", "--labels", "x.npy"], "labels have the shape"),
        (["verify", "in.onnx", "--trace", "x.npy"], "not a trace"),
        (["verify", "in.onnx", "--input", "small.npy"], "the network reads"),
        (["verify", "in.onnx", "--input", "objects.npy"], "not an .npy file"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(folder, monkeypatch, arguments, message):
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PYTHONPATH", str(Path(onnx2lava.__file__).parents[1]))
    np.save("small.npy", np.zeros((3, 1, 2, 2, 2), np.float32))
    np.save("objects.npy", np.array([{}], dtype=object))
    (folder / "lava").mkdir()
    (folder / "lava" / "__init__.py").write_text("raise ImportError('not on this machine')")
    trace = read_trace("trace.npz")
    write_trace(Trace(1 - trace.input, trace.spikes), "other.npz")
    write_trace(Trace(trace.input, {"strange": trace.input}), "strange.npz")
    before = {path.name for path in folder.iterdir()}
    assert message in run(*arguments, code=2)
    assert {path.name for path in folder.iterdir()} == before
