"""Files without functions are read back as the networks that they are, and only as those."""

import base64
import zlib
from collections.abc import Callable

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from onnx import helper, numpy_helper

import custom_ops
from custom_ops.graphs.inlining import INLINED
from onnx2lava import BridgeError, ModelFileError, load, to_onnx

from .networks import assert_same, chains, examples, float_networks, networks, on_grid, random_chains, spikes

WHOLE = examples() | {f"{name}, in real numbers": on_grid(each) for name, each in chains().items()}


@pytest.mark.parametrize("name", WHOLE)
def test_an_inlined_file_is_the_network_that_it_was_made_of(name):
    model = to_onnx(WHOLE[name], outputs="all")
    without = custom_ops.inlined(model)
    assert not without.functions
    assert_same(load(without.SerializeToString()), load(model))
    assert INLINED not in load(without).metadata


@settings(max_examples=50, deadline=None)
@given(networks() | random_chains(unusual=True) | float_networks(networks()))
def test_so_is_any_network(network):
    model = to_onnx(network)
    assert_same(load(custom_ops.inlined(model)), load(model))


def inlined_chain() -> onnx.ModelProto:
    return custom_ops.inlined(to_onnx(next(iter(chains().values()))))


def scan_body(model: onnx.ModelProto) -> onnx.GraphProto:
    scan = next(node for node in model.graph.node if node.op_type == "Scan")
    return next(attribute.g for attribute in scan.attribute if attribute.name == "body")


def fires(body: onnx.GraphProto) -> onnx.NodeProto:
    """The node that compares with the threshold: what it gives is turned around for the reset."""
    (quiet,) = (node for node in body.node if node.op_type == "Not")
    (found,) = (node for node in body.node if quiet.input[0] in node.output)
    return found


def another_threshold(model: onnx.ModelProto) -> None:
    """In the loop alone: what the file says of its past knows nothing of it."""
    body = scan_body(model)
    (constant,) = (node for node in body.node if fires(body).input[1] in node.output)
    value = numpy_helper.to_array(constant.attribute[0].t)
    constant.attribute[0].t.CopyFrom(numpy_helper.from_array((value + 64).astype(value.dtype)))


def another_comparison(model: onnx.ModelProto) -> None:
    fires(scan_body(model)).op_type = "GreaterOrEqual"


def spikes_turned_around(model: onnx.ModelProto) -> None:
    scan = next(node for node in model.graph.node if node.op_type == "Scan")
    scan.output[-1], scan.output[-2] = scan.output[-2], scan.output[-1]


def one_node_more(model: onnx.ModelProto) -> None:
    last = model.graph.node[-1]
    name = last.output[0]
    last.output[0] = "quiet"
    model.graph.node.append(helper.make_node("Neg", ["quiet"], [name]))


def another_input(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[-1].dim_value += 1


def _past(model: onnx.ModelProto) -> onnx.ModelProto:
    (entry,) = (entry for entry in model.metadata_props if entry.key == INLINED)
    return onnx.ModelProto.FromString(zlib.decompress(base64.b64decode(entry.value)))


def _with_past(model: onnx.ModelProto, past: bytes) -> None:
    (entry,) = (entry for entry in model.metadata_props if entry.key == INLINED)
    entry.value = base64.b64encode(zlib.compress(past)).decode()


def another_attribute_in_its_past(model: onnx.ModelProto) -> None:
    past = _past(model)
    node = next(node for node in past.graph.node if node.op_type == "CubaLIF")
    next(each for each in node.attribute if each.name == "v_threshold").i += 1
    _with_past(model, past.SerializeToString())


def another_function_in_its_past(model: onnx.ModelProto) -> None:
    past = _past(model)
    del past.functions[0].node[3:]
    _with_past(model, past.SerializeToString())


def another_network_in_its_past(model: onnx.ModelProto) -> None:
    _with_past(model, to_onnx(list(chains().values())[1]).SerializeToString())


def functions_that_call_each_other(model: onnx.ModelProto) -> None:
    past = _past(model)
    function = past.functions[0]
    function.node.append(helper.make_node(function.name, list(function.input), list(function.output), domain=function.domain))
    _with_past(model, past.SerializeToString())


def a_past_that_explodes(model: onnx.ModelProto) -> None:
    past = _past(model)
    for level in range(20):
        function = past.functions.add(domain="x", name=f"f{level}", input=["a"], output=["b"])
        function.opset_import.add(domain="x", version=1)
        called = [helper.make_node(f"f{level - 1}", ["a"], [f"c{i}"], domain="x") for i in range(8)] if level else []
        function.node.extend([*called, helper.make_node("Neg", ["a"], ["b"])])
    past.opset_import.add(domain="x", version=1)
    past.graph.node.append(helper.make_node("f19", ["input"], ["boom"], domain="x"))
    _with_past(model, past.SerializeToString())


def zeros_without_end(model: onnx.ModelProto) -> None:
    _with_past(model, bytes(2**27))


def no_past(model: onnx.ModelProto) -> None:
    next(entry for entry in model.metadata_props if entry.key == INLINED).value = "1"


TAMPERED: dict[Callable[[onnx.ModelProto], None], str] = {
    another_threshold: r"the nodes of '.*' \(snn.CubaLIF\) are not what that says",
    another_comparison: r"the nodes of '.*' \(snn.CubaLIF\) are not what that says",
    spikes_turned_around: r"the nodes of '.*' \(snn.CubaLIF\) are not what that says",
    one_node_more: "its output 'output' is not made of|are not what that says",
    another_input: "its inputs or outputs are no longer",
    another_attribute_in_its_past: r"the nodes of '.*' \(snn.CubaLIF\) are not what that says",
    another_function_in_its_past: "are not what that says|cannot be put into their places",
    another_network_in_its_past: "no longer those|are not what that says",
    functions_that_call_each_other: "calls itself",
    a_past_that_explodes: "becomes much larger than itself",
    zeros_without_end: "much larger than itself",
    no_past: "is broken",
}


@pytest.mark.parametrize("tamper", TAMPERED, ids=lambda each: each.__name__)
def test_what_its_functions_do_not_say_is_refused_in_a_sentence(tamper):
    model = inlined_chain()
    tamper(model)
    with pytest.raises(ModelFileError, match=TAMPERED[tamper]) as refused:
        load(model.SerializeToString())
    assert str(refused.value).endswith("convert the file as it was written, or the one with functions.")
    assert "\n" not in str(refused.value)


def test_weights_are_those_of_the_file():
    """They are no part of what is kept twice."""
    network = next(iter(chains().values()))
    model = inlined_chain()
    weight = next(tensor for tensor in model.graph.initializer if tensor.name.endswith(".weight"))
    halves = numpy_helper.to_array(weight)
    weight.CopyFrom(numpy_helper.from_array(np.zeros_like(halves), weight.name))
    found = load(model)
    first = found.populations[0].edges[0].map.weight
    assert not first.any()
    assert first.shape == network.populations[0].edges[0].map.weight.shape


def test_what_runs_is_what_loads():
    for name, network in chains().items():
        without = custom_ops.inlined(to_onnx(network))
        x = spikes(network, 6, 2)
        (found,) = custom_ops.session(without, native=False).run(None, x)
        (expected,) = custom_ops.session(to_onnx(load(without)), native=False).run(None, x)
        assert (found == expected).all(), name


def test_inlining_twice_changes_nothing():
    once = inlined_chain()
    assert custom_ops.inlined(once) == once


def test_random_damage_is_refused_or_harmless():
    """Bytes of the past changed: never a traceback, never another network."""
    model = inlined_chain()
    expected = load(model)
    past = _past(model).SerializeToString()
    rng = np.random.default_rng(0)
    for _ in range(60):
        damaged = bytearray(past)
        for place in rng.integers(0, len(past), 2):
            damaged[place] = rng.integers(0, 256)
        _with_past(model, bytes(damaged))
        try:
            found = load(model)
        except BridgeError:
            continue
        assert_same(found, expected)
