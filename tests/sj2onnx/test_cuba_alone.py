"""A CubaLIFNode that is a network by itself, fed with real numbers: its file gives SpikingJelly's spikes, all of them."""

import subprocess
from collections import OrderedDict
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from spikingjelly.activation_based import lava_exchange
from torch import nn

import custom_ops
import onnx2lava
import sj2onnx
from onnx2lava.errors import ConversionError
from sj2onnx.neurons import classes

SHAPE = (15, 2, 40)
RUN_ONNX = Path(__file__).parents[1] / "peers" / "run_onnx.py"


@cache
def exported(stateful: bool) -> onnx.ModelProto:
    return sj2onnx.export(sj2onnx.CubaLIFNode(1.0, 0.0, step_mode="m"), torch.zeros(SHAPE), stateful=stateful)


def model(node: nn.Module, stateful: bool) -> onnx.ModelProto:
    """What export makes of ``node``: it differs from any other neuron's file in nothing but the attributes."""
    copied = onnx.ModelProto()
    copied.CopyFrom(exported(stateful))
    (found,) = copied.graph.node
    attributes = classes()[type(node)][1].attributes(node)
    assert {attribute.name for attribute in found.attribute} == attributes.keys()
    for attribute in found.attribute:
        attribute.i = int(attributes[attribute.name])
    return copied


@settings(max_examples=200, deadline=None)
@given(
    published=st.booleans(),
    bits=st.integers(0, 14),
    i_decay=st.integers(1, 4096),
    v_decay=st.integers(0, 4096),
    threshold=st.floats(0.01, 8.0),
    span=st.sampled_from([0.5, 2.0, 1e3, 1e5]),
    seed=st.integers(0, 2**32 - 1),
)
# States beyond 24 bits: ours wrap and clip as the chip's do, SpikingJelly's go on, rounded as float32 is.
@example(published=False, bits=6, i_decay=40, v_decay=0, threshold=1.0, span=1e5, seed=0)
@example(published=True, bits=14, i_decay=3, v_decay=3, threshold=7.3, span=1e5, seed=1)
# A threshold whose epsilon float32 loses.
@example(published=True, bits=14, i_decay=4096, v_decay=0, threshold=1.5, span=0.5, seed=0)
def test_the_file_spikes_as_spikingjelly(
    published: bool, bits: int, i_decay: int, v_decay: int, threshold: float, span: float, seed: int
) -> None:
    kind = lava_exchange.CubaLIFNode if published else sj2onnx.CubaLIFNode
    node = kind(i_decay / 4096, v_decay / 4096, threshold, scale=2**bits, step_mode="m")
    x = (np.random.default_rng(seed).standard_normal(SHAPE) * threshold * span).astype(np.float32)
    x[0, 0, :3] = threshold + np.array([-1, 0, 1]) / node.s_scale  # at and beside the threshold, from rest
    expected = node(torch.from_numpy(x)).numpy()
    (found,) = custom_ops.session(model(node, stateful=False)).run(None, {"input": x})
    assert (found == expected).all()
    stream = custom_ops.Stream(model(node, stateful=True))
    assert (np.concatenate([stream(x[:4]), stream(x[4:])]) == expected).all()


def test_potentials_beyond_24_bits_are_rounded_as_in_spikingjelly() -> None:
    """A potential of 2**25 + 3 state units is 2**25 + 4 in float32, which fires."""
    scale = 2**14
    node = lava_exchange.CubaLIFNode(1.0, 0.0, (2**25 + 4) / (64 * scale), scale=scale, step_mode="m")
    x = np.zeros((3, 1, SHAPE[2]), np.float32)
    x[:, 0, 0] = np.array([2**24 - 2, 2**24, 5]) / (64 * scale)
    assert node(torch.from_numpy(x))[:, 0, 0].tolist() == [0, 0, 1]
    (found,) = custom_ops.session(model(node, stateful=False)).run(None, {"input": x})
    assert found[:, 0, 0].tolist() == [0, 0, 1]


@pytest.mark.parametrize(
    ("node", "reason"),
    [
        (lava_exchange.CubaLIFNode(0.5, 0.5, scale=100), "not a power of two"),
        (lava_exchange.CubaLIFNode(0.5, 0.5, scale=64.5), "not a power of two"),
        (lava_exchange.CubaLIFNode(float("nan"), 0.5), "not finite"),
        (lava_exchange.CubaLIFNode(0.5, 0.5, float("inf")), "not finite"),
        (lava_exchange.CubaLIFNode(0.5, 0.5, norm=lava_exchange.BatchNorm2d(3)), "BlockContainer"),
        (sj2onnx.CubaLIFNode(0.0, 0.5), "never decays"),
    ],
)
def test_what_cannot_be_said_exactly_is_refused(node: nn.Module, reason: str) -> None:
    node.step_mode = "m"
    with pytest.raises(sj2onnx.ExportError, match=rf"^The module 'neuron' \(CubaLIFNode\).*{reason}.*\.$"):
        sj2onnx.export(nn.Sequential(OrderedDict(neuron=node)), torch.zeros(4, 2, 3, 5, 5))


def test_it_is_no_layer_for_loihi() -> None:
    net = nn.Sequential(nn.Linear(3, 2, bias=False), sj2onnx.CubaLIFNode(0.5, 0.5, step_mode="m"))
    with pytest.raises(ConversionError, match=r"'1/CubaLIFNode'.*BlockContainer\.$"):
        onnx2lava.load(sj2onnx.export(net, torch.zeros(4, 2, 3)))


@pytest.mark.parametrize("runtime", ["oldest", "newest"])
def test_runs_on_a_bare_onnxruntime(runtime: str, bare_onnxruntime: Callable[[str], Path], tmp_path: Path) -> None:
    node = lava_exchange.CubaLIFNode(0.3, 0.1, 0.8, step_mode="m")
    x = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0))
    onnx.save(model(node, stateful=False), tmp_path / "net.onnx")
    np.save(tmp_path / "input.npy", x.numpy())
    command = [bare_onnxruntime(runtime), "-I", RUN_ONNX, tmp_path / "net.onnx", tmp_path / "input.npy", tmp_path / "output.npz"]
    subprocess.run(command, check=True, cwd=tmp_path)
    with np.load(tmp_path / "output.npz") as found:
        assert (found["output"] == node(x).numpy()).all()
