"""Files that come from strangers or go where something is already: traces, arrays, states, external data, outputs."""

import io
import json
import os
import stat
import subprocess
import sys
import textwrap
import threading
import zipfile
from collections.abc import Callable
from itertools import product
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import custom_ops
from custom_ops.errors import BridgeError, ModelFileError, StreamError
from custom_ops.files.atomic_write import replacing
from custom_ops.files.model_file import read_model
from custom_ops.files.trace import Trace, read_array, read_trace, write_trace
from custom_ops.graphs.bodies import AS_WRITTEN, as_written, foreign_functions
from custom_ops.operators import OLDEST_OPSET, OPERATORS, OPSET, Form
from custom_ops.sessions.stream import state_infos

from .one_node import Case

ROOT = Path(__file__).parents[2]
NEURON = Case("IF", {"v_threshold": 1.0}, {"x": np.ones((3, 2, 4), np.float32)}, ("s",))


@pytest.mark.parametrize("read", [read_array, read_trace])
def test_thousands_of_damaged_headers_are_one_sentence_each(tmp_path: Path, read: Callable[[Path], Any]) -> None:
    """One to three bytes of NumPy's header, which is Python source to it."""
    buffer, path = io.BytesIO(), tmp_path / "x"
    np.save(buffer, np.ones((4, 3, 1, 8, 8), np.uint8))
    whole = buffer.getvalue()
    rng = Random(1)
    accepted, messages = 0, list[str]()
    for _ in range(2000):
        changed = bytearray(whole)
        for _ in range(rng.choice((1, 1, 2, 3))):
            changed[rng.randrange(128)] = rng.choice((rng.randrange(256), ord(rng.choice("()[]{},:'<>|-0123456789TFe "))))
        if read is read_array:
            path.write_bytes(changed)
        else:
            with zipfile.ZipFile(path, "w") as archive:
                archive.writestr("input.npy", bytes(changed))
                archive.writestr("spikes/a.npy", whole)
        try:
            read(path)
            accepted += 1
        except BridgeError as error:
            messages.append(str(error))
    assert accepted + len(messages) == 2000
    assert accepted > 10
    assert all(message.endswith(".") and str(path) in message for message in messages)


HEADERS = [
    "{'descr': '|u1', 'fortran_order': False, 'shape': (4,(3, 1, 8, 8), }",
    f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({2**70},), }}",
    "{'descr': '|u1', 'fortran_order': False, 'shape': (True,), }",
    "{'descr': '|u1', 'fortran_order': False, 'shape': (-5,), }",
    "{'descr': '|O', 'fortran_order': False, 'shape': (1,), }",
    "{'descr': [('a', 'f4')], 'fortran_order': False, 'shape': (1,), }",
    "(" * 9000,
]


@pytest.mark.parametrize("header", HEADERS)
def test_hostile_headers(tmp_path: Path, header: str) -> None:
    text = header.encode() + b"\n"
    path = tmp_path / "x.npy"
    path.write_bytes(b"\x93NUMPY\x02\x00" + len(text).to_bytes(4, "little") + text + bytes(64))
    with pytest.raises(ModelFileError, match=r"x\.npy is not an \.npy file of numbers") as caught:
        read_array(path)
    assert "unsafely" not in str(caught.value)


def test_a_trace_reads_what_is_part_of_a_trace_and_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "bomb.npz"
    zeros = np.zeros(1 << 28, np.uint8)
    np.savez_compressed(
        path, **{"input": np.ones((2, 1)), "spikes/a": np.ones((2, 1)), "junk": zeros, "more": zeros, "third": zeros}
    )
    script = textwrap.dedent(f"""
        import resource
        from custom_ops.files.trace import read_trace
        own = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (own + (64 << 20),) * 2)
        print(sorted(read_trace({str(path)!r}).spikes))
    """)
    ran = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stdout == "['a']\n"
    np.savez_compressed(path, **{"input": np.ones((2, 1)), "spikes/a": zeros, "spikes/b": zeros})
    with pytest.raises(ModelFileError, match="more than 536,870,912: record fewer samples"):
        read_trace(path)


@pytest.mark.parametrize("values", [np.array(["a"]), np.zeros(2, [("a", "f4")]), np.zeros(2, "V4"), np.ones(2, complex)])
@pytest.mark.parametrize("entry", ["input", "labels", "spikes/a"])
def test_traces_hold_numbers(tmp_path: Path, values: Any, entry: str) -> None:
    np.savez(tmp_path / "x.npz", **{"input": np.ones((2, 1)), "spikes/a": np.ones((2, 1)), entry: values})
    with pytest.raises(ModelFileError, match=f"'{entry}' holds .*, not numbers"):
        read_trace(tmp_path / "x.npz")


def test_pipes_are_refused_by_every_reader_and_writer(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for read in (read_array, read_trace, read_model, custom_ops.session):
        with pytest.raises(ModelFileError, match="not a file"):
            read(pipe)
    with pytest.raises(OSError, match="a device or a pipe"), replacing(pipe):
        pass
    with pytest.raises(ModelFileError, match=r"Cannot write .*pipe"):
        write_trace(Trace(np.ones((2, 1)), {"a": np.ones((2, 1))}), pipe)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert list(tmp_path.iterdir()) == [pipe]


@pytest.mark.parametrize("path", ["/dev/null", "/dev/full", ".", "", "/"])
def test_devices_and_folders_are_no_outputs(path: str) -> None:
    before = Path(path).stat().st_mode
    with pytest.raises(OSError, match=r"folder|device"), replacing(path):
        pass
    assert Path(path).stat().st_mode == before


def test_a_link_stays_one_and_the_file_behind_it_is_written(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    target, link, loop = tmp_path / "there" / "file", tmp_path / "link", tmp_path / "loop"
    link.symlink_to(target)
    loop.symlink_to(loop)
    for content in (b"first", b"second"):
        with replacing(link) as temporary:
            temporary.write_bytes(content)
        assert link.is_symlink()
        assert target.read_bytes() == content
    with pytest.raises(OSError, match="symbolic links"), replacing(loop):
        pass
    target.chmod(0o444)
    with pytest.raises(PermissionError, match="read-only"), replacing(target):
        pass
    assert target.read_bytes() == b"second"
    assert list(target.parent.iterdir()) == [target]


def test_many_writers_at_once_never_lose_a_write(tmp_path: Path) -> None:
    """Also where none of them can see that the others live, as from another container."""
    target = tmp_path / "out"
    failures: list[BaseException] = []

    def write(number: int) -> None:
        try:
            for _ in range(50):
                with replacing(target) as temporary:
                    temporary.write_bytes(bytes([number]) * 1000)
        except OSError as error:
            failures.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert list(tmp_path.iterdir()) == [target]
    assert len(set(target.read_bytes())) == 1


def stateful(entry: dict[str, Any]) -> onnx.ModelProto:
    case = Case("IF", {"v_threshold": 1.0}, {"x": np.ones((3, 2, 4), np.float32), "initial_v": np.zeros((2, 4), np.float32)})
    model = case.model()
    entry = {"input": "initial_v", "output": "final_v", "shape": [4], "type": "float32", "initial": 0.0} | entry
    helper.set_model_props(model, {"sj2lava.states": json.dumps([entry]), "sj2lava.time_axis": "0"})
    return model


def test_a_stream_runs_and_refuses_what_no_state_recovers_from() -> None:
    stream = custom_ops.Stream(stateful({}))
    x = np.full((3, 2, 4), 0.4, np.float32)
    first = stream(x)
    for bad in (np.nan, np.inf, -np.inf):
        broken = x.copy()
        broken[1, 0, 2] = bad
        with pytest.raises(StreamError, match=r"at \[1, 0, 2\].*finite"):
            stream(broken)
    np.testing.assert_array_equal(np.concatenate([first, stream(x)]), custom_ops.reference.if_(np.concatenate([x, x]), 1.0).s)
    with pytest.raises(StreamError, match="not finite"):
        stream.states = {"initial_v": np.full((2, 4), np.nan)}
    with pytest.raises(StreamError, match="no numbers"):
        stream.states = {"initial_v": [["a"]]}


@pytest.mark.parametrize(
    "entry",
    [
        {"shape": [10**12]},
        {"shape": [10**9]},
        {"shape": [-1]},
        {"shape": [1] * 100},
        {"type": "f4,f4"},
        {"type": "object"},
        *({"initial": float("nan")}, {"shape": "text"}, {"shape": [1e400]}, {"input": 5}, {"output": "nothing"}),
    ],
)
def test_metadata_of_states_that_cannot_be(entry: dict[str, Any]) -> None:
    with pytest.raises(ModelFileError, match=r"sj2lava\.states"):
        custom_ops.Stream(stateful(entry))


@pytest.mark.parametrize("text", ["[" * 100_000, "5", "{}x", '{"a": 1}', "[[]]", "null"])
def test_metadata_that_are_no_list_of_states(text: str) -> None:
    model = stateful({})
    helper.set_model_props(model, {"sj2lava.states": text})
    with pytest.raises(ModelFileError, match=r"sj2lava\.states"):
        state_infos(model)


def test_external_data_are_as_many_bytes_as_the_shape_needs(tmp_path: Path) -> None:
    """A file of gigabytes beside the model, of which a tensor names the beginning: no more than that is read."""
    with (tmp_path / "data").open("wb") as file:
        file.write(np.arange(12, dtype=np.float32).tobytes())
        file.truncate(20 << 30)
    (tmp_path / "loop").symlink_to("loop")
    model = NEURON.model()
    tensor = TensorProto(name="w", data_type=1, dims=[4, 3], data_location=TensorProto.EXTERNAL)
    location = tensor.external_data.add(key="location", value="data")
    model.graph.initializer.append(tensor)
    onnx.save(model, tmp_path / "net.onnx")
    read = read_model(tmp_path / "net.onnx")
    assert onnx.numpy_helper.to_array(read.graph.initializer[0]).tolist() == np.arange(12).reshape(4, 3).tolist()
    (stored,) = model.graph.initializer
    stored.external_data.add(key="length", value=str(20 << 30))
    onnx.save(model, tmp_path / "net.onnx")
    with pytest.raises(ModelFileError, match="needs 48 bytes, not 21474836480"):
        read_model(tmp_path / "net.onnx")
    del stored.external_data[:]
    location.value = "loop"
    stored.external_data.append(location)
    onnx.save(model, tmp_path / "net.onnx")
    with pytest.raises(ModelFileError, match="cannot be used"):
        read_model(tmp_path / "net.onnx")


def other_body() -> onnx.ModelProto:
    """``snn.IF``, silenced."""
    model = NEURON.model()
    (function,) = model.functions
    (last,) = (node for node in function.node if "s" in node.output)
    last.output[0] = "spikes"
    function.node.append(helper.make_node("Sub", ["spikes", "spikes"], ["s"]))
    return model


@pytest.mark.parametrize("native", [False, True])
def test_a_body_that_says_something_else_runs_as_it_is_written(native: bool) -> None:
    model = other_body()
    before = model.SerializeToString()
    assert [function.name for function in foreign_functions(model)] == ["IF"]
    (s,) = custom_ops.session(model, native=native).run(None, NEURON.inputs)
    assert not s.any()
    assert model.SerializeToString() == before
    assert custom_ops.session(NEURON.model(), native=native).run(None, NEURON.inputs)[0].any()


@pytest.mark.parametrize("op_type", OPERATORS)
def test_bodies_are_known_by_what_they_compute(op_type: str) -> None:
    """Under other names, in another order; and not with another number in them, or another default."""
    for form, opset in product((Form(),) if "Heterogeneous" in op_type else (Form(), Form(states=True)), (OLDEST_OPSET, OPSET)):
        function = OPERATORS[op_type].function(form)
        function.opset_import[0].version = opset
        model = onnx.ModelProto(functions=[function])
        renamed = model.functions[0]
        for node in renamed.node:
            node.name = f"node of {node.output[0]}"
            for values in (node.input, node.output):
                for index, name in enumerate(values):
                    values[index] = f"_{name}" if name and name not in (*renamed.input, *renamed.output) else name
            for attribute in node.attribute:
                for inner in attribute.g.node:
                    for index, name in enumerate(inner.input):
                        made_outside = any(name == f"{each[1:]}" for outer in renamed.node for each in outer.output)
                        made_inside = any(name in each.output for each in attribute.g.node)
                        if made_outside and not made_inside and name not in {value.name for value in attribute.g.input}:
                            inner.input[index] = f"_{name}"
        assert as_written(model) is model
        for node in renamed.node:
            if node.op_type == "Constant" and node.attribute[0].type == onnx.AttributeProto.TENSOR:
                changed = onnx.numpy_helper.to_array(node.attribute[0].t) + 1
                node.attribute[0].t.CopyFrom(onnx.numpy_helper.from_array(changed.astype(changed.dtype)))
                break
        (function,) = as_written(model).functions
        assert function.domain == AS_WRITTEN


def test_the_shipped_network_has_the_operators_own_bodies() -> None:
    assert foreign_functions(onnx.load(ROOT / "models" / "digits_csnn.onnx")) == []
