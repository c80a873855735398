"""Recurrent containers and delays of SpikingJelly: as layers for Loihi, and in the real Lava-DL and Lava."""

import json
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from spikingjelly.activation_based import functional, layer, neuron
from torch import nn

import custom_ops
import onnx2lava
import sj2onnx
from onnx2lava.errors import ConversionError
from onnx2lava.targets.numpy import simulate

ROOT = Path(__file__).parents[2]
STEPS, SAMPLES = 10, 3
IF, LIF = neuron.IFNode, neuron.LIFNode


def chain(*modules: nn.Module) -> nn.Sequential:
    """In step mode m, but what containers run step by step."""
    net = nn.Sequential(*modules)
    for module in net.children():
        functional.set_step_mode(module, "m")
        if isinstance(module, layer.LinearRecurrentContainer | layer.ElementWiseRecurrentContainer):
            functional.set_step_mode(module.sub_module, "s")
    return net


def fed_back(module: nn.Module, inputs: int, outputs: int, bias: bool = True) -> nn.Module:
    return layer.LinearRecurrentContainer(module, inputs, outputs, bias)


def added(module: nn.Module, function: Callable[..., torch.Tensor] = lambda y, x: x + y) -> nn.Module:
    return layer.ElementWiseRecurrentContainer(module, function)


def on_grid(net: nn.Module, seed: int = 0) -> nn.Module:
    """``net`` for evaluation, with parameters that are multiples of 1/16: then float32 rounds nothing."""
    generator = torch.Generator().manual_seed(seed)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.running_mean = torch.randint(-8, 9, module.running_mean.shape, generator=generator) / 16
            module.running_var = torch.full_like(module.running_var, 4.0)
            module.eps = 0.0
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if not name.endswith(".w"):  # of a ParametricLIFNode
                parameter.copy_(torch.randint(-12, 17, parameter.shape, generator=generator) / 16)
    return net.eval()


def block(inputs: int, outputs: int, threshold: float = 0.5) -> nn.Module:
    return sj2onnx.BlockContainer(nn.Linear(inputs, outputs, bias=False), IF(threshold), step_mode="s")


def with_decays(node: neuron.ParametricLIFNode, w: torch.Tensor) -> nn.Module:
    node.w = nn.Parameter(w)
    return node


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "linear feedback": (lambda: chain(layer.Linear(9, 8), IF(), fed_back(chain(layer.Linear(8, 7), LIF(2.0)), 8, 7)), (9,)),
    "without biases": (
        lambda: chain(fed_back(chain(layer.Linear(9, 7, bias=False), LIF(4.0, decay_input=False)), 9, 7, bias=False)),
        (9,),
    ),
    "a learned decay": (lambda: chain(layer.Linear(9, 8), fed_back(neuron.ParametricLIFNode(2.0, v_threshold=0.5), 8, 8)), (9,)),
    "a reset above zero": (
        lambda: chain(fed_back(chain(layer.Linear(9, 7), LIF(2.0, v_threshold=1.5, v_reset=0.5)), 9, 7)),
        (9,),
    ),
    "a reset below zero": (
        lambda: chain(fed_back(chain(layer.Linear(9, 7), LIF(2.0, decay_input=False, v_reset=-0.25)), 9, 7)),
        (9,),
    ),
    "batch norm inside": (lambda: chain(fed_back(chain(layer.Linear(9, 7), layer.BatchNorm1d(7), IF()), 9, 7)), (9,)),
    "inhibition of oneself": (lambda: chain(layer.Linear(9, 8), added(IF(), lambda y, x: x - 0.5 * y)), (9,)),
    "one weight for both": (lambda: chain(layer.Linear(9, 8), IF(), added(chain(layer.Linear(8, 8), LIF(2.0)))), (9,)),
    "two in a row": (lambda: chain(fed_back(chain(layer.Linear(9, 7), IF()), 9, 7), fed_back(IF(v_threshold=2.0), 7, 7)), (9,)),
    "behind a convolution, before a pool": (
        lambda: chain(
            layer.Conv2d(2, 3, 3, padding=1),
            added(IF(), lambda y, x: 0.25 * y + x),
            layer.MaxPool2d(2),
            layer.Flatten(),
            layer.Linear(12, 5),
            IF(),
        ),
        (2, 4, 4),
    ),
    "delays": (
        lambda: chain(
            layer.Linear(9, 8), IF(), layer.Delay(2), layer.Linear(8, 7), IF(), layer.Delay(1), layer.Linear(7, 5), IF()
        ),
        (9,),
    ),
    "a delayed input": (lambda: chain(layer.Delay(3), layer.Flatten(), layer.Linear(8, 6), LIF(2.0)), (2, 2, 2)),
    "sums that are delayed": (
        lambda: chain(layer.Linear(9, 8), IF(), layer.Linear(8, 7, bias=False), layer.Delay(2), IF(v_threshold=0.5)),
        (9,),
    ),
    "trained quantised": (lambda: chain(block(9, 8), added(block(8, 8)), block(8, 5)), (9,)),
}


def given_spikes(features: tuple[int, ...]) -> torch.Tensor:
    return (torch.rand(STEPS, SAMPLES, *features, generator=torch.Generator().manual_seed(1)) < 0.5).float()


def spikes_of(net: nn.Module, x: torch.Tensor) -> np.ndarray:
    functional.reset_net(net)
    with torch.no_grad():
        return net(x).numpy()


@cache
def exported(name: str) -> tuple[nn.Module, torch.Tensor, onnx.ModelProto]:
    make, features = NETWORKS[name]
    net, x = on_grid(make()), given_spikes(features)
    return net, x, sj2onnx.export(net, x)


def as_input(x: torch.Tensor) -> dict[str, np.ndarray]:
    return {"input": x.numpy()}


@pytest.mark.parametrize("name", NETWORKS)
def test_the_layers_give_the_spikes_of_spikingjelly(name: str) -> None:
    net, x, model = exported(name)
    expected = spikes_of(net, x)
    network = onnx2lava.load(model)
    found = simulate(network, as_input(x))
    for spikes in found.values():
        assert 0 < spikes.mean() < 1
    assert (found[network.populations[-1].name] == expected).all()
    late = sum(edge.delay for each in network.populations for edge in each.edges if edge not in each.feedback)
    back = sum(bool(each.feedback) for each in network.populations)
    assert late + back == sum(
        module.delay_steps
        if isinstance(module, layer.Delay)
        else isinstance(module, layer.LinearRecurrentContainer | layer.ElementWiseRecurrentContainer)
        for module in net.modules()
    )
    # Written and read again, in real numbers: the same.
    again = onnx2lava.load(onnx2lava.to_onnx(network))
    assert (list(simulate(again, as_input(x)).values())[-1] == expected).all()
    (run,) = custom_ops.session(onnx2lava.to_onnx(network)).run(None, {"input": x.numpy()})
    assert (run == expected).all()


@settings(max_examples=12, deadline=None)
@given(
    st.integers(0, 2**31),
    st.sampled_from(
        [
            lambda: IF(v_threshold=0.75),
            lambda: IF(v_threshold=0.75, v_reset=0.25),
            lambda: LIF(2.0, v_threshold=0.5),
            lambda: LIF(2.0, decay_input=False, v_threshold=1.0, v_reset=-0.5),
        ]
    ),
    st.booleans(),
    st.booleans(),
    st.tuples(st.sampled_from([-1.0, 0.5, 2.0]), st.sampled_from([-0.5, 0.0, 1.0])),
)
def test_random_recurrent_layers(
    seed: int, make: Callable[[], nn.Module], linear: bool, bias: bool, factors: tuple[float, float]
) -> None:
    inside = chain(layer.Linear(6, 6, bias=bias), make())
    container = fed_back(inside, 6, 6, bias) if linear else added(inside, lambda y, x: factors[0] * x + y * factors[1])
    net, x = on_grid(chain(container), seed), given_spikes((6,))
    (found,) = simulate(onnx2lava.load(sj2onnx.export(net, x)), as_input(x)).values()
    assert (found == spikes_of(net, x)).all()


def test_onnxruntime_slayer_and_lava_agree_in_every_spike(lava_python: Path, tmp_path: Path) -> None:
    cases = []
    for index, name in enumerate(NETWORKS):
        _, x, model = exported(name)
        onnx.save(model, tmp_path / f"{index}.onnx")
        np.save(tmp_path / f"{index}.npy", x.numpy())
        cases.append({"model": str(tmp_path / f"{index}.onnx"), "input": str(tmp_path / f"{index}.npy"), "kind": "spikes"})
    (tmp_path / "cases.json").write_text(json.dumps(cases))
    peer = ROOT / "tests" / "peers" / "verify_in_lava.py"
    subprocess.run([lava_python, peer, tmp_path / "cases.json", tmp_path / "found.json"], check=True)
    for name, found in zip(NETWORKS, json.loads((tmp_path / "found.json").read_text()), strict=True):
        assert found["mismatches"] == 0, name
        for each in found["layers"]:
            assert 0 < each["rate"] < 1, f"{name}, {each['name']}: silent or saturated, so that it would prove nothing"
            assert {"slayer", "netx"} <= set(each["mismatches"]), name


REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "a soft reset": (lambda: chain(fed_back(chain(layer.Linear(9, 7), IF(v_reset=None)), 9, 7)), "its reset is soft"),
    "a product with spikes": (
        lambda: chain(layer.Linear(9, 9), IF(), added(IF(), lambda y, x: x * y)),
        r"\(Mul\): it multiplies what its neurons give",
    ),
    "another neuron": (
        lambda: chain(fed_back(chain(layer.Linear(9, 7), neuron.QIFNode()), 9, 7)),
        r"\(Mul\): it multiplies what its neurons give",
    ),
    "two neurons": (
        lambda: chain(fed_back(chain(layer.Linear(9, 7), IF(), layer.Linear(7, 7), IF()), 9, 7)),
        r"\(Gemm\): it stands behind spikes in a loop",
    ),
    "no neuron": (lambda: chain(fed_back(layer.Linear(9, 7), 9, 7), layer.Linear(7, 7), IF()), "what it gives are not spikes"),
    "decays of their own": (
        lambda: chain(fed_back(chain(layer.Linear(9, 7), with_decays(neuron.ParametricLIFNode(), torch.arange(7.0))), 9, 7)),
        "its membrane potential does not decay by one share of itself",
    ),
    "a delay behind a bias": (
        lambda: chain(layer.Linear(9, 7), layer.Delay(1), IF()),
        "it delays sums that a bias is in already",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_loihi_cannot_say_is_refused_with_one_sentence(name: str) -> None:
    make, message = REFUSED[name]
    x = given_spikes((9,))
    with pytest.raises(ConversionError, match=message) as caught:
        onnx2lava.load(sj2onnx.export(on_grid(make()), x))
    assert str(caught.value).count("\n") == 0
    assert str(caught.value).startswith("Cannot convert the node '")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: chain(fed_back(block(9, 9), 9, 9)), "sums that are not whole"),
        (lambda: chain(added(block(9, 9), lambda y, x: x - y)), "must add its spikes"),
    ],
)
def test_quantised_blocks_in_other_containers_are_refused(make: Callable[[], nn.Module], message: str) -> None:
    with pytest.raises(sj2onnx.errors.ExportError, match=message):
        sj2onnx.export(make(), given_spikes((9,)))


def test_a_quantised_recurrent_block_runs_in_chunks() -> None:
    net, x = on_grid(chain(block(9, 8), added(block(8, 8)))), given_spikes((9,))
    stream = custom_ops.Stream(sj2onnx.export(net, x, stateful=True))
    chunks = [stream(x[start : start + 3].numpy()) for start in range(0, STEPS, 3)]
    assert (np.concatenate(chunks) == spikes_of(net, x)).all()
