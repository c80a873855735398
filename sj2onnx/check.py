"""Compare an exported network with SpikingJelly, layer by layer."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from spikingjelly.activation_based import functional
from torch import nn

import custom_ops

__all__ = ["LayerCheck", "check"]


@dataclass(frozen=True)
class LayerCheck:
    """What :func:`check` found in one layer.

    Args:
        name: the layer's module path, or ``output``.
        values: how many spikes or silences were compared.
        mismatches: how many of them differ.
        rate: the mean of the layer's output in SpikingJelly.
    """

    name: str
    values: int
    mismatches: int
    rate: float


def check(net: nn.Module, model: onnx.ModelProto, x: torch.Tensor) -> list[LayerCheck]:
    """Run ``net`` and its export on ``x`` and compare every layer, each fed the same input in both.

    One spike that differs changes everything behind it. To judge each layer for itself, SpikingJelly's layers are fed the
    spikes that onnxruntime found in the layers before them. Both start from reset states; ``net`` is reset afterwards.

    Args:
        net: the network as it was exported.
        model: what :func:`sj2onnx.export` made of it with ``outputs="all"``.
        x: input, as the network takes it.

    Returns:
        One entry per spiking layer, in the order in which they run, and one for ``output``, where values within 1e-4 of each
        other relative to the largest count as equal, since they are sums as well.
    """
    found = _run(model, x)
    modules = dict(net.named_modules())
    layers: list[LayerCheck] = []

    def compare(name: str) -> Any:
        def hook(module: nn.Module, args: object, spikes: torch.Tensor) -> torch.Tensor:
            theirs = torch.from_numpy(found[name]).to(spikes)
            differing = int((theirs != spikes).sum())
            layers.append(LayerCheck(name, spikes.numel(), differing, float(spikes.float().mean())))
            return theirs

        return hook

    names = [name for name in found if name != "output" and name in modules]
    hooks = [modules[name].register_forward_hook(compare(name)) for name in names]
    training = net.training
    try:
        net.eval()
        functional.reset_net(net)
        with torch.no_grad():
            y = net(x).cpu().numpy()
    finally:
        for hook in hooks:
            hook.remove()
        functional.reset_net(net)
        net.train(training)
    far = ~np.isclose(found["output"], y, rtol=0, atol=1e-4 * max(float(np.abs(y).max()), 1.0))
    return [*layers, LayerCheck("output", y.size, int(far.sum()), float(y.mean()))]


def _run(model: onnx.ModelProto, x: torch.Tensor) -> Mapping[str, npt.NDArray[Any]]:
    session = custom_ops.session(model)
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, {"input": x.cpu().numpy()}), strict=True))
