"""The command line: exit codes, messages without traceback, files that are whole or not there, and tables that can be read."""

import hashlib
import io
import json
import os
import pty
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import onnx
import pytest
from rich.console import Console

from custom_ops import __version__
from custom_ops.files.trace import Trace, read_trace, write_trace
from custom_ops.terminal import WIDE
from onnx2lava import CubaNeuron, load, load_netx, quantize, to_onnx, verify
from onnx2lava.network import INPUT
from onnx2lava.outputs import SOURCE
from onnx2lava.quantization import quantization_report
from onnx2lava.targets.numpy import simulate
from onnx2lava.verification import read_json
from onnx2lava.verification.sheet import Sheet
from onnx2lava.verification.tables import network_table, quantization_table, verification_table
from tests.onnx2lava.commands import ROOT, run, start
from tests.onnx2lava.networks import assert_same, assert_same_numbers, chains, graphs, like_trained, spikes

NETWORK = chains()["strided, dilated, grouped, odd, biased"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A model with its input and trace; tests must leave them as they are."""
    folder = tmp_path_factory.mktemp("made")
    onnx.save(to_onnx(NETWORK), folder / "in.onnx")
    x = spikes(NETWORK, 6, 3)
    np.save(folder / "x.npy", x[INPUT])
    write_trace(Trace(x[INPUT], {name: s.astype(np.uint8) for name, s in simulate(NETWORK, x).items()}), folder / "trace.npz")
    return folder


@pytest.fixture
def folder(made, tmp_path):
    for path in made.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


@pytest.mark.parametrize(
    "command",
    [
        ("inspect", "in.onnx"),
        ("convert", "in.onnx", "-o", "out.net"),
        ("convert", "float.onnx", "-o", "out.net", "--scale", "64"),
        ("verify", "in.onnx", "--input", "x.npy", "--against", "ort,numpy"),
    ],
    ids=" ".join,
)
def test_json_on_standard_output_stands_alone_and_says_of_what_it_is(folder, command):
    onnx.save(to_onnx(like_trained()), folder / "float.onnx")
    found = json.loads(run(*command, "--json", "-", folder=folder, code=0))
    assert found["schema"] >= 1
    assert found["versions"]["sj2lava"] == __version__
    assert found["model"] == {"name": command[1], "sha256": hashlib.sha256((folder / command[1]).read_bytes()).hexdigest()}
    network = load(folder / command[1])
    assert [layer["name"] for layer in found["layers"]] == [each.name for each in network.populations]
    if command[0] == "inspect":
        assert [layer["neurons"] for layer in found["layers"]] == [each.neurons for each in network.populations]
        run(*command, "--json", "found.json", folder=folder, code=0)
        assert json.loads((folder / "found.json").read_text()) == found
    if command[0] == "convert":
        assert len(found["quantization"]) == (len(network.populations) if "float" in command[1] else 0)
        assert (folder / "out.net").exists()
    if command[0] != "verify":
        assert "is also an input" in run(*command, "--json", command[1], folder=folder, code=2)


def test_a_wide_table_has_all_rows():
    rows = [[str(index), "x"] for index in range(1000)]
    sheet = Sheet("many", ("layer", "what"), rows)
    for width, last in ((80, "299"), (WIDE, "999")):
        console = Console(width=width, record=True, file=io.StringIO())
        console.print(sheet)
        shown = console.export_text().splitlines()
        assert any(line.split()[:1] == [last] for line in shown)
        assert any("700 more rows" in line for line in shown) == (width == 80)


def test_convert_writes_both_files_and_inspect_shows_them(folder):
    run("convert", "in.onnx", "-o", "out.net", "--loihi-onnx", "out.onnx", folder=folder, code=0)
    assert_same_numbers(load_netx(folder / "out.net"), NETWORK)
    written = load(folder / "out.onnx")
    assert written.metadata[SOURCE] == hashlib.sha256((folder / "in.onnx").read_bytes()).hexdigest()
    assert_same(replace(written, metadata=NETWORK.metadata), NETWORK)
    for name in ("in.onnx", "out.net"):
        shown = run("inspect", name, folder=folder, code=0)
        assert "threshold" in shown
        assert "groups 3" in shown
    run("convert", "out.net", "-o", "back.onnx", folder=folder, code=0)
    assert_same_numbers(load(folder / "back.onnx"), NETWORK)


def test_verify_agrees_with_a_trace_and_finds_one_wrong_spike(folder):
    command = ("verify", "in.onnx", "--against", "ort,numpy", "--trace")
    assert "Every spike is the same in trace, file, ort, numpy." in run(*command, "trace.npz", folder=folder, code=0)
    trace = read_trace(folder / "trace.npz")
    wrong = {name: np.array(values) for name, values in trace.spikes.items()}
    wrong["conv_fc.1"][2, 1, 0, 0, 0] ^= 1
    write_trace(Trace(trace.input, wrong), folder / "wrong.npz")
    shown = run(*command, "wrong.npz", folder=folder, code=1)
    assert "1 spike differs: first in 'conv_fc.1' at time step 2, sample 1, neuron 0, where file is not as trace." in shown


def test_parts_in_several_processes_are_the_whole(folder):
    command = ("verify", "in.onnx", "--trace", "trace.npz", "--against", "ort,numpy", "--json")
    run(*command, "all.json", "--jobs", "2", "--batch", "1", folder=folder, code=0)
    run(*command, "a.json", "--samples", "0:2", folder=folder, code=0)
    run(*command, "b.json", "--samples", "2:", "--batch", "1", folder=folder, code=0)
    shown = run("merge", "b.json", "a.json", "-o", "ab.json", folder=folder, code=0)
    assert "Every spike is the same" in shown
    whole, both = (json.loads((folder / name).read_text()) for name in ("all.json", "ab.json"))
    for each in (whole, both):
        del each["seconds"]
    assert {name: both[name] for name in whole} == whole
    assert "stand in two parts" in run("merge", "a.json", "a.json", folder=folder, code=2)


def test_strict_makes_notes_an_error(folder):
    command = ("verify", "in.onnx", "--input", "x.npy", "--against", "ort,numpy")
    run(*command, "--strict", folder=folder, code=0)
    np.save(folder / "silence.npy", np.zeros((2, 1, 3, 9, 7), np.uint8))
    deaf = replace(NETWORK, populations=tuple(replace(each, bias=None) for each in NETWORK.populations))
    onnx.save(to_onnx(deaf), folder / "deaf.onnx")
    command = ("verify", "deaf.onnx", "--input", "silence.npy", "--against", "ort,numpy")
    assert "Every spike is the same" not in run(*command, folder=folder, code=0)
    process = start(*command, "--strict", folder=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    _, err = process.communicate()
    assert process.returncode == 2
    assert err.startswith("Error: With --strict, 3 of the notes above are errors")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["inspect", "missing.onnx"], "Cannot read missing.onnx: No such file or directory"),
        (["inspect", "x.npy"], "but numbers that numpy.save wrote"),
        (["inspect", "trace.npz"], "but an archive, such as a trace"),
        (["inspect", "pipe"], "Cannot read pipe: it is not a file"),
        (["inspect", "/proc/kmsg"], "Cannot read /proc/kmsg: it is empty"),
        (["inspect", "empty.net"], "Cannot read empty.net: it is empty"),
        (["convert", "in.onnx", "-o", "nowhere/out.net"], "Cannot write nowhere/out.net"),
        (["convert", "in.onnx", "-o", "in.onnx"], "in.onnx is also an input"),
        (["convert", "in.onnx", "-o", "./in.onnx"], "in.onnx is also an input"),
        (["convert", "in.onnx", "-o", "o.net", "--loihi-onnx", "in.onnx"], "in.onnx is also an input"),
        (["convert", "in.onnx", "-o", "o.net", "--loihi-onnx", "o.net"], "o.net is given twice"),
        (["convert", "in.onnx", "-o", "o.txt"], "ends with neither .net"),
        (["convert", "in.onnx", "-o", "o.net", "--loihi-onnx", "p.net"], "does not end with .onnx"),
        (["convert", "in.onnx", "-o", ""], "Cannot write"),
        (["convert", "in.onnx", "-o", "."], "it is a folder"),
        (["convert", "in.onnx", "-o", "pipe"], "it is a device or a pipe"),
        (["convert", "in.onnx", "-o", "/dev/null"], "it is a device or a pipe"),
        (["convert", "in.onnx", "-o", "out.net", "--scale", "many"], "neither auto nor"),
        (["convert", "in.onnx", "-o", "out.net", "--scale", "9" * 5000], "neither auto nor"),
        (["convert", "in.onnx", "-o", "out.net", "--calibration", "in.onnx"], "not an .npy file"),
        (["convert", "in.onnx", "-o", "out.net", "--calibration", "pipe"], "Cannot read pipe: it is not a file"),
        (["verify", "in.onnx"], "no input"),
        (["verify", "in.onnx", "--input", "x.npy", "--against", "ort,brian"], "no runtime brian"),
        (["verify", "in.onnx", "--input", "x.npy", "--trace", "other.npz"], "another input"),
        (["verify", "in.onnx", "--input", "x.npy", "--trace", "strange.npz"], "'strange' with the shape"),
        (["verify", "in.onnx", "--input", "x.npy", "--labels", "x.npy"], "labels have the shape"),
        (["verify", "in.onnx", "--input", "missing.npy"], "Cannot read missing.npy: No such file or directory"),
        (["verify", "in.onnx", "--input", "pipe"], "Cannot read pipe: it is not a file"),
        (["verify", "in.onnx", "--input", "in.onnx"], "in.onnx is not an .npy file of numbers, but something else"),
        (["verify", "in.onnx", "--trace", "x.npy"], "x.npy is not a trace, which is an .npz file, but an .npy file"),
        (["verify", "in.onnx", "--labels", "trace.npz", "--input", "x.npy"], "give it as --trace"),
        (["verify", "in.onnx", "--input", "small.npy"], "the network reads"),
        (["verify", "in.onnx", "--input", "objects.npy"], "it holds objects, not numbers"),
        (["verify", "in.onnx", "--input", "damaged.npy"], "not an .npy file of numbers"),
        (["verify", "in.onnx", "--input", "x.npy", "--json", "nowhere/a.json"], "Cannot write nowhere/a.json"),
        (["verify", "in.onnx", "--input", "x.npy", "--json", "x.npy"], "x.npy is also an input"),
        (["verify", "in.onnx", "--input", "x.npy", "--samples", "5"], "'5' are no range"),
        (["verify", "in.onnx", "--input", "x.npy", "--samples", "5:9"], "there are 3"),
        (["verify", "in.onnx", "--input", "x.npy", "--jobs", "0"], "at least 1"),
        (["merge", "x.npy"], "not a result"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(folder, arguments, message):
    np.save(folder / "small.npy", np.zeros((3, 1, 2, 2, 2), np.float32))
    np.save(folder / "objects.npy", np.array([{}], dtype=object))
    header = (folder / "x.npy").read_bytes()
    (folder / "damaged.npy").write_bytes(header.replace(b"(6, 3, 3", b"(6,(3, 3"))
    os.mkfifo(folder / "pipe")
    (folder / "empty.net").touch()
    trace = read_trace(folder / "trace.npz")
    write_trace(Trace(1 - trace.input, trace.spikes), folder / "other.npz")
    write_trace(Trace(trace.input, {"strange": trace.input}), folder / "strange.npz")
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    assert message in run(*arguments, folder=folder, code=2)
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before


def test_lava_that_is_broken_is_not_called_missing(folder):
    (folder / "lava").mkdir()
    (folder / "lava" / "__init__.py").write_text("raise ImportError('not on this machine')")
    environment = {"PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"}
    said = run("verify", "in.onnx", "--input", "x.npy", "--against", "lava", folder=folder, code=2, environment=environment)
    assert "is installed, but" in said
    assert "ImportError: not on this machine" in said


# Exit code 1 means that spikes differ, and nothing else does.


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "gbk", "utf-8"])
def test_any_encoding_of_the_terminal(folder, encoding):
    shown = run("inspect", "in.onnx", folder=folder, code=0, environment={"PYTHONIOENCODING": encoding})
    assert "conv_fc.0" in shown


def test_a_reader_that_goes_away_and_a_full_disk(folder):
    command = ("verify", "in.onnx", "--input", "x.npy", "--against", "ort,numpy")
    for trace, code in ((False, 0), (True, 1)):
        extra = ()
        if trace:
            recorded = read_trace(folder / "trace.npz")
            wrong = {"conv_fc.1": 1 - np.array(recorded.spikes["conv_fc.1"])}
            write_trace(Trace(recorded.input, wrong), folder / "wrong.npz")
            extra = ("--trace", "wrong.npz")
        reading, writing = os.pipe()
        os.close(reading)
        process = start(*command, *extra, folder=folder, stdout=writing, stderr=subprocess.PIPE)
        os.close(writing)
        _, err = process.communicate()
        assert (process.returncode, err) == (code, "")
    with Path("/dev/full").open("w") as full:
        process = start("inspect", "in.onnx", folder=folder, stdout=full, stderr=subprocess.PIPE)
        _, err = process.communicate()
        assert (process.returncode, err.count("\n")) == (2, 1)
        assert "No space left" in err


def test_a_fault_of_the_program_is_a_sentence(folder):
    code = "import sys, onnx2lava.verification.tables as t; t.network_table = 5; sys.argv[1:] = ['inspect', 'in.onnx']\n"
    ran = subprocess.run(
        [sys.executable, "-c", code + "from onnx2lava.cli import main; main()"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 2
    assert ran.stderr.startswith("Error: This is a fault of sj2lava itself (TypeError: 'int' object is not callable, in cli.py:")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_in_the_middle_leaves_nothing(folder, number, code):
    """The executor's processes and temporary files are gone as well."""
    x = np.broadcast_to(np.load(folder / "x.npy")[:, :1], (6, 200_000, 3, 9, 7))
    np.save(folder / "long.npy", x)
    temporary = folder / "temporary"
    temporary.mkdir()
    process = start(
        *("verify", "in.onnx", "--input", "long.npy", "--against", "ort,numpy", "--jobs", "2", "--json", "a.json"),
        folder=folder,
        environment={"TMPDIR": str(temporary)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # which shells ignore in the background
    )
    deadline = time.monotonic() + 60
    while len(_group(process.pid)) < 3 and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(2)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert "Traceback" not in err
    deadline = time.monotonic() + 30
    while _group(process.pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _group(process.pid)
    assert not [path for path in temporary.iterdir() if path.name != ".ses"]  # which onnxruntime leaves
    assert not (folder / "a.json").exists()


def _group(leader):
    """The processes of a session, but those that have ended and were not asked for yet."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, group = stat.read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue
        if int(group) == leader and state != "Z":
            found.append(int(stat.parent.name))
    return found


# Tables.


@pytest.mark.parametrize("width", [60, 80, 120])
def test_tables_fit_and_cut_no_number(width):
    trained = like_trained(bias=0.1, decay=0.3)
    quantised = quantize(trained)
    network = graphs()["sums of synapses and concatenation"]
    x = spikes(trained, 6, 2)
    result = verify(trained, x, against=["ort", "ort-native", "numpy"], labels=np.zeros(2, int))
    tables = [
        network_table(quantised),
        network_table(network),
        quantization_table(quantization_report(trained, quantised)),
        verification_table(result),
    ]
    for table in tables:
        console = Console(width=width, record=True, file=open(os.devnull, "w"))  # noqa: SIM115, PTH123
        console.print(table)
        text = console.export_text()
        assert max(map(len, text.splitlines())) <= width
        assert "…" not in text.replace(" … ", "")
        words = set(text.replace(", ", " ").split())
        for row in [*table.rows, *table.totals]:
            for cell in row:
                assert set(cell.replace(", ", " ").split()) <= words, cell


@pytest.mark.parametrize("width", [40, 60, 80])
def test_what_is_the_same_in_every_row_stands_with_its_name(width):
    names = [f"conv_fc.{index}" for index in range(8)]
    numbers = [f"{7 * 10**index:,}" for index in range(8)]
    rows = [[f"runtime {index}", *numbers, str(index)] for index in range(3)]
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(Sheet("alike", ("runtime", *names, "seconds"), rows))
    lines = console.export_text().splitlines()
    assert max(map(len, lines)) <= width
    for name, number in zip(names, numbers, strict=True):
        assert any(f"{name} {number}" in line for line in lines)


def test_tables_in_a_terminal_of_80_columns_and_wide_ones(folder):
    def shown(*arguments):
        leader, follower = pty.openpty()
        process = start(*arguments, folder=folder, stdout=follower, stderr=subprocess.PIPE, environment={"COLUMNS": "80"})
        os.close(follower)
        text = b""
        while True:
            try:
                more = os.read(leader, 65536)
            except OSError:
                break
            if not more:
                break
            text += more
        os.close(leader)
        process.communicate()
        assert process.returncode == 0
        return text.decode()

    narrow = shown("inspect", "in.onnx").splitlines()
    assert sum("conv_fc.0" in line for line in narrow) > 1
    wide = [line for line in shown("inspect", "in.onnx", "--wide").splitlines() if "conv_fc.0" in line]
    assert len(wide) == 1


def test_silent_layers_are_not_called_the_same(folder):
    deaf = replace(NETWORK.populations[2], neuron=CubaNeuron(4096, 0, 131071))
    network = replace(NETWORK, populations=(*NETWORK.populations[:2], deaf))
    onnx.save(to_onnx(network), folder / "deaf.onnx")
    shown = run("verify", "deaf.onnx", "--input", "x.npy", "--against", "ort,numpy", folder=folder, code=0)
    assert "Every spike is the same" not in shown
    assert "'conv_fc.2' never fired" in shown


def test_input_from_hdf5_and_a_netx_file_as_the_network(folder):
    run("convert", "in.onnx", "-o", "net.net", folder=folder, code=0)
    with h5py.File(folder / "x.h5", "w") as file:
        file["input"] = np.load(folder / "x.npy").astype(np.uint8)
    command = ("verify", "net.net", "--input", "x.h5", "--against", "ort,numpy", "--json", "a.json")
    assert "Every spike is the same" in run(*command, folder=folder, code=0)
    assert read_json(folder / "a.json").model["name"] == "net.net"


def test_version_and_short_help(folder):
    assert run("--version", folder=folder, code=0).startswith("onnx2lava ")
    assert "verify" in run("-h", folder=folder, code=0)
