"""Our blocks against Lava-DL's own, under the Python that it needs: the same weights, the same spikes."""

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import torch
from spikingjelly.activation_based import lava_exchange, layer, neuron
from torch import nn

from sj2onnx import BlockContainer, CubaLIFNode, SumPool2d

PEER = Path(__file__).parents[1] / "peers" / "slayer_blocks.py"

# Lava-DL compares in float32 and loses its threshold's epsilon from a mantissa of 4096 on: thresholds stay below that here.
Layer = tuple[nn.Module, nn.Module | None]


def if_node(threshold: float = 1.0, scale: int = 64) -> nn.Module:
    node = neuron.IFNode(v_threshold=threshold)
    node.lava_s_cale = scale
    return node


def lif_node(tau: float, threshold: float = 1.0, scale: int = 64) -> nn.Module:
    node = neuron.LIFNode(tau=tau, decay_input=False, v_threshold=threshold)
    node.lava_s_cale = scale
    return node


def cuba(i_decay: float, v_decay: float, threshold: float = 1.0, scale: int = 64) -> CubaLIFNode:
    return CubaLIFNode(i_decay, v_decay, threshold, scale=scale)


def normed(v_decay: float, threshold: float, exponent: int) -> nn.Module:
    """SpikingJelly's neuron with a trained norm of three channels that divides by ``2 ** exponent``."""
    norm = lava_exchange.BatchNorm2d(3)
    norm.running_mean, norm.running_var = torch.tensor([-0.51, -0.26, 0.13]), torch.tensor([0.9 * 4.0**exponent])
    return lava_exchange.CubaLIFNode(1.0, v_decay, threshold, norm=norm)


def conv(*args: Any, spread: float = 0.5, **kwargs: Any) -> nn.Module:
    return spread_out(nn.Conv2d(*args, bias=False, **kwargs), spread)


def linear(features: int, out: int, spread: float = 0.5) -> nn.Module:
    return spread_out(nn.Linear(features, out, bias=False), spread)


def spread_out(synapse: nn.Module, spread: float) -> nn.Module:
    nn.init.normal_(synapse.weight, spread / 8, spread)
    return synapse


def cases() -> dict[str, tuple[tuple[int, ...], list[Layer]]]:
    """Name → input shape ``[T, N, *]`` and layers."""
    image, row = (24, 2, 3, 10, 9), (40, 3, 30)
    made: dict[str, tuple[tuple[int, ...], list[Layer]]] = {
        "conv plain": (image, [(conv(3, 5, 3), if_node())]),
        "conv stride and padding": (image, [(conv(3, 4, 3, stride=2, padding=1), if_node(0.71))]),
        "conv asymmetric": (image, [(conv(3, 4, (2, 3), stride=(1, 2), padding=(0, 2)), lif_node(3.0))]),
        "conv dilated": (image, [(conv(3, 4, 3, dilation=(2, 1)), cuba(0.3, 0.05, 1.37))]),
        "conv grouped": (image, [(conv(3, 6, 3, groups=3), cuba(1.0, 0.2))]),
        "conv padding same": (image, [(conv(3, 4, 3, padding="same"), if_node())]),
        "SpikingJelly layers": (
            image,
            [
                (spread_out(layer.Conv2d(3, 2, 3, bias=False), 0.5), if_node()),
                (layer.Flatten(), None),
                (spread_out(layer.Linear(112, 6, bias=False), 0.3), if_node()),
            ],
        ),
        "conv clamped": (image, [(conv(3, 4, 3, spread=6.0), if_node(20.5))]),
        "linear clamped": (row, [(linear(30, 8, spread=12.0), cuba(0.6, 0.1, 33.3))]),
        "sum pooling": ((24, 2, 3, 8, 12), [(SumPool2d(2), if_node(2.99))]),
        "sum pooling, clamped weight": ((24, 2, 2, 8, 8), [(SumPool2d((2, 4)), if_node(2.5, scale=256))]),
        "stack": (
            (32, 2, 2, 8, 8),
            [
                (conv(2, 4, 3, padding=1), if_node(0.9)),
                (SumPool2d(2), lif_node(5.0, 1.2)),
                (conv(4, 6, 3, padding=1, spread=0.8), cuba(0.5, 0.1, 1.1)),
                (nn.Flatten(), None),
                (linear(96, 20), if_node(2.01)),
                (linear(20, 5), cuba(0.9, 0.0, 0.77)),
            ],
        ),
        "published CubaLIFNode": (row, [(linear(30, 8), lava_exchange.CubaLIFNode(0.25, 0.125, 1.1))]),
        "norm without a leak": (image, [(conv(3, 3, 3), normed(0.0, 0.75, 2))]),
        "norm without a leak, multiplying": (image, [(conv(3, 3, 3), normed(0.0, 2.5, -1))]),
        "norm with a leak": (image, [(conv(3, 3, 3, spread=0.2), normed(0.1, 1.25, -1))]),
        "norm behind sum pooling": ((24, 2, 3, 8, 12), [(SumPool2d(2), normed(0.2, 0.5, 0))]),
        "neuron fed with real values": ((40, 2, 7), [(nn.Identity(), cuba(0.37, 0.11, 0.9))]),
        "neuron fed with real values, scale 128": ((40, 2, 7), [(nn.Identity(), cuba(0.9, 0.0, 0.503, scale=128))]),
    }
    for scale in (16, 32, 64, 128):
        for i_decay, v_decay in ((1.0, 0.0), (1.0, 1.0), (0.01, 0.9), (0.123, 0.0321)):
            neuron_ = cuba(i_decay, v_decay, 1.03 if i_decay == 1 else 2.02, scale)
            made[f"scale {scale} decays {i_decay} {v_decay}"] = (row, [(linear(30, 12), neuron_)])
    return made


def described(synapse: nn.Module, node: nn.Module | None) -> dict[str, Any]:
    """A layer as the peer's script reads it; the neuron's parameters as real values, for Lava-DL to quantise."""
    if node is None:
        return {"kind": "flatten"}
    if isinstance(node, neuron.IFNode):
        values = (node.v_threshold, 1.0, 0.0, node.lava_s_cale)
    elif isinstance(node, neuron.LIFNode):
        values = (node.v_threshold, 1.0, 1 / node.tau, node.lava_s_cale)
    else:
        given = node.lava_cuba_neuron_params
        values = tuple(given[key] for key in ("threshold", "current_decay", "voltage_decay", "scale"))
    parameters = dict(zip(("threshold", "current_decay", "voltage_decay", "scale"), values, strict=True))
    norm = getattr(node, "norm", None)
    if norm is not None:
        parameters["norm"] = {"mean": norm.running_mean.tolist(), "var": norm.running_var.tolist()}
    if isinstance(synapse, nn.Identity):
        return {"kind": "neuron", "neuron": parameters}
    if isinstance(synapse, nn.Linear):
        arguments = {"in_neurons": synapse.in_features, "out_neurons": synapse.out_features}
        return {"kind": "dense", "neuron": parameters, "arguments": arguments}
    geometry = {name: getattr(synapse, name) for name in ("kernel_size", "stride", "padding", "dilation")}
    if isinstance(synapse, SumPool2d):
        return {"kind": "pool", "neuron": parameters, "arguments": geometry}
    channels = {"in_features": synapse.in_channels, "out_features": synapse.out_channels, "groups": synapse.groups}
    return {"kind": "conv", "neuron": parameters, "arguments": geometry | channels}


def test_spikes_weights_and_parameters_equal_those_of_lava_dl(lava_python: Path, tmp_path: Path) -> None:
    torch.manual_seed(1)
    table = cases()
    given: dict[str, Any] = {}
    descriptions, blocks = [], []
    for i, (shape, layers) in enumerate(table.values()):
        x = torch.randn(shape) if isinstance(layers[0][0], nn.Identity) else (torch.rand(shape) < 0.3).float()
        given[f"{i}/x"] = x.numpy()
        stack = []
        descriptions.append([])
        for j, (synapse, node) in enumerate(layers):
            if isinstance(synapse, nn.Identity):
                node.step_mode = "m"
                stack.append(node)
            else:
                stack.append(BlockContainer(synapse, node))
            descriptions[-1].append(described(synapse, node))
            if isinstance(synapse, (nn.Conv2d, nn.Linear)):
                given[f"{i}/{j}/weight"] = synapse.weight.detach().numpy()
        blocks.append(nn.Sequential(*stack).eval())
    np.savez(tmp_path / "in.npz", cases=json.dumps(descriptions), **given)
    subprocess.run([lava_python, PEER, tmp_path / "in.npz", tmp_path / "out.npz"], check=True)
    theirs = np.load(tmp_path / "out.npz")

    for i, (name, net) in enumerate(zip(table, blocks, strict=True)):
        with torch.no_grad():
            ours = net(torch.from_numpy(given[f"{i}/x"]))
        assert 0.02 < ours.mean() < 0.98, f"{name}: too few or too many spikes to show anything"
        np.testing.assert_array_equal(ours.numpy(), theirs[f"{i}/spikes"], err_msg=name)
        for j, block in enumerate(net):
            if f"{i}/{j}/weight" in theirs:
                weight = block.integer_weight().numpy()
                np.testing.assert_array_equal(weight, theirs[f"{i}/{j}/weight"].reshape(weight.shape), err_msg=name)
                assert list(block.neuron.device_params.values()) == list(theirs[f"{i}/{j}/neuron"]), name
    clamped = blocks[list(table).index("conv clamped")][0].integer_weight()
    assert (clamped.min(), clamped.max()) == (-256, 254)
