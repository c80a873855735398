"""Some thousands of damaged files (`make fuzz` takes more), and those that must be refused for what they are."""

import io
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import h5py
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import custom_ops
from custom_ops.errors import BridgeError, ModelFileError
from custom_ops.files.model_file import read_model
from custom_ops.graphs.all_nodes import all_nodes
from onnx2lava import load, load_netx, to_onnx
from tests.onnx2lava.networks import assert_same_numbers, examples

from .corpus import netx_files, onnx_files
from .damage import BESIDE, write_surroundings

ROOT = Path(__file__).parents[2]
NETWORK = examples()["one convolution"]


def test_thousands_of_damaged_files() -> None:
    arguments = ["-m", "tests.fuzz", "--cases", "2000", "--seed", "7", "--processes", "2"]
    ran = subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "2,000 cases" in ran.stdout
    assert "crashes: 0, hangs: 0, tracebacks and other bugs: 0" in ran.stdout


def test_attributes_of_other_types() -> None:
    """Of each operator in each place, one attribute after the other says something of another type."""
    graph = helper.make_graph([], "empty", [], [])
    tensor = helper.make_tensor("x", TensorProto.FLOAT, [1], [1.0])
    others = [helper.make_attribute("", value) for value in ("no", 3, [0.5], tensor, graph, [graph])]
    kinds = onnx.AttributeProto.AttributeType.values()
    others += [onnx.AttributeProto(type=kind, ref_attr_name="of the caller") for kind in kinds]
    seen, ends = set(), Counter()
    for data in onnx_files().values():
        model = onnx.load_from_string(data)
        for node in all_nodes([*model.graph.node, *(node for function in model.functions for node in function.node)]):
            for attribute in node.attribute:
                place = (node.domain, node.op_type, attribute.name, bool(model.functions))
                if place in seen:
                    continue
                seen.add(place)
                right = onnx.AttributeProto()
                right.CopyFrom(attribute)
                for wrong in others:
                    if wrong.type == right.type and not wrong.ref_attr_name:
                        continue
                    # A further attribute matters where it is a graph, into which all that walks over nodes goes.
                    graphs = wrong.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS)
                    node.attribute.add()
                    for changed, name in ((attribute, attribute.name), (node.attribute[-1], "further"))[: 1 + graphs]:
                        before = changed.SerializeToString()
                        changed.CopyFrom(wrong)
                        changed.name = name
                        kind = ("spikes", "images")[sum(ends.values()) % 2]
                        try:
                            load(model, input=kind)
                            ends["read"] += 1
                        except BridgeError:
                            ends["refused"] += 1
                        except Exception as error:
                            raise AssertionError(f"{place} as {wrong} of {kind}") from error
                        changed.ParseFromString(before)
                    del node.attribute[-1]
    assert ends["refused"] > 100, ends


def test_operators_under_the_sanitizers() -> None:
    """Some hundred nodes (`make fuzz-operators` takes more); that all kinds of ends are reached shows that it tests something."""
    arguments = ["-m", "tests.fuzz.operators", "--cases", "300", "--seed", "7", "--processes", "1"]
    ran = subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=900, check=False)
    if ran.returncode == 2 and not os.environ.get("CI"):
        pytest.skip(ran.stderr.strip())
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "crashes and sanitizers' errors: 0, hangs: 0, other bugs: 0" in ran.stdout
    ends = dict(
        re.findall(r"(refused when made|refused when run|ran, equal to the reference|ran) (\d+)(?:,|$)", ran.stdout, re.M)
    )
    assert len(ends) == 4
    assert all(int(count) >= 10 for count in ends.values()), ends


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_surroundings(tmp_path)


def _external(tensor: TensorProto, location: str, offset: int = 0, length: int | None = None) -> TensorProto:
    size = len(tensor.raw_data) if length is None else length
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, "offset": offset, "length": size}.items():
        tensor.external_data.add(key=key, value=str(value))
    return tensor


def _weight(model: onnx.ModelProto) -> TensorProto:
    return next(tensor for tensor in model.graph.initializer if tensor.raw_data and len(tensor.raw_data) > 4)


def test_external_data_in_the_folder_are_read(folder: Path) -> None:
    model = to_onnx(NETWORK)
    content = b"".join(tensor.raw_data for tensor in model.graph.initializer)
    (folder / BESIDE).write_bytes(content)
    offset = 0
    for tensor in model.graph.initializer:
        size = len(tensor.raw_data)
        _external(tensor, BESIDE, offset)
        offset += size
    (folder / "net.onnx").write_bytes(model.SerializeToString())
    assert_same_numbers(load(folder / "net.onnx"), NETWORK)


def _in_attribute(model: onnx.ModelProto, tensor: TensorProto) -> None:
    model.graph.node.append(helper.make_node("Constant", [], ["w"], value=tensor))


def _in_subgraph(model: onnx.ModelProto, tensor: TensorProto) -> None:
    model.graph.node.append(helper.make_node("If", ["c"], ["y"], then_branch=helper.make_graph([], "g", [], [], [tensor])))


def _in_function(model: onnx.ModelProto, tensor: TensorProto) -> None:
    model.functions[0].node.append(helper.make_node("Constant", [], ["w"], value=tensor))


def _sparse(model: onnx.ModelProto, tensor: TensorProto) -> None:
    model.graph.sparse_initializer.add().values.CopyFrom(tensor)


@pytest.mark.parametrize("location", ["../secret", "link", "/etc/passwd", "missing", "", "."])
@pytest.mark.parametrize("put", [_in_attribute, _in_subgraph, _in_function, _sparse])
def test_external_data_elsewhere_are_refused_wherever_they_are(folder: Path, put, location: str) -> None:
    model = to_onnx(NETWORK)
    put(model, _external(TensorProto(name="w", data_type=1, dims=[16], raw_data=bytes(64)), location))
    path = folder / "net.onnx"
    path.write_bytes(model.SerializeToString())
    for read in (read_model, load, custom_ops.session):
        with pytest.raises(ModelFileError, match="external data"):
            read(path)
    with pytest.raises(ModelFileError, match="external data"):
        custom_ops.session(model)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.graph.initializer.add(name="w", data_type=1, dims=[2**40]), "has the shape"),
        (lambda m: m.graph.initializer.add(name="w", data_type=1, dims=[2**62] * 100_000), "has the shape"),
        (lambda m: m.graph.sparse_initializer.add(dims=[2**40]), "has the shape"),
        (lambda m: _external(_weight(m), BESIDE, 0, 2**40), "are asked for"),
        (lambda m: _external(_weight(m), BESIDE, 2**62, 0), "are asked for"),
        (lambda m: [_external(m.graph.initializer.add(name=f"w{i}"), BESIDE, 0, 64) for i in range(9)], "overlap"),
    ],
)
def test_a_model_that_asks_for_more_than_it_has(folder: Path, change, message: str) -> None:
    model = to_onnx(NETWORK)
    change(model)
    path = folder / "net.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelFileError, match=message):
        load(path)


def test_devices_and_pipes_are_no_models() -> None:
    for path in ("/dev/zero", "/dev"):
        with pytest.raises(ModelFileError, match="not a file"):
            read_model(path)


@pytest.mark.parametrize(
    ("place", "make", "message"),
    [
        ("layer/1/weight", lambda f, p: f.create_dataset(p, (2**20, 2**20), "f4", chunks=True), "larger than the file"),
        ("layer/1/weight", lambda f, p: f.create_dataset(p, (16,), "f4", external=[("../secret", 0, 64)]), "outside"),
        ("layer/1/weight", lambda f, p: f.__setitem__(p, h5py.ExternalLink("../secret", "/x")), "only a link"),
        ("layer/1/neuron", lambda f, p: f.__setitem__(p, h5py.SoftLink("/layer/1")), "only a link"),
        ("layer/1/bias", lambda f, p: f.__setitem__(p, h5py.ExternalLink("../secret", "/x")), "only a link"),
        ("layer", lambda f, p: f.__setitem__(p, f), "missing"),
        ("layer/1/neuron/iDecay", lambda f, p: f.__setitem__(p, np.nan), "32 bits"),
        ("layer/1/stride", lambda f, p: f.__setitem__(p, np.ones(7)), "7 numbers"),
    ],
)
def test_netx_files_that_point_elsewhere_or_ask_for_more(folder: Path, place, make, message) -> None:
    buffer = io.BytesIO(netx_files(folder)["one convolution"])
    with h5py.File(buffer, "r+") as file:
        if place in file:
            del file[place]
        make(file, place)
    path = folder / "net.net"
    path.write_bytes(buffer.getvalue())
    with pytest.raises(ModelFileError, match=message):
        load_netx(path)


def test_messages_are_one_printable_line_of_bounded_length() -> None:
    message = str(BridgeError("a\nb\x1b[31m" + "c" * 10_000 + "end."))
    assert message.isprintable()
    assert message.startswith("a\\nb\\x1b[31m")
    assert message.endswith("end.")
    assert len(message) < 1500
