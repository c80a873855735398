"""Random networks whose every layer spikes, so that a comparison of spikes proves something."""

import torch
from spikingjelly.activation_based import functional
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

__all__ = ["lively", "spikes"]


def spikes(*shape: int, rate: float = 0.5, seed: int = 0) -> torch.Tensor:
    """Random spikes of that shape."""
    return (torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < rate).float()


def lively(net: nn.Module, x: torch.Tensor) -> nn.Module:
    """Give ``net`` weights with which it is neither silent nor saturated on ``x``, and BatchNorm statistics of its own."""
    generator = torch.Generator().manual_seed(1)
    for module in net.modules():
        if isinstance(module, _BatchNorm):
            module.momentum = None  # the running statistics are the mean of all that was seen
            if module.weight is not None:
                nn.init.uniform_(module.weight, 1.0, 2.0, generator=generator)
            if module.bias is not None:
                nn.init.uniform_(module.bias, 0.0, 1.0, generator=generator)
        elif isinstance(module, nn.Linear | nn.modules.conv._ConvNd):
            nn.init.normal_(module.weight, 0.05 / module.weight[0].numel() ** 0.5, 3 / module.weight[0].numel() ** 0.5, generator)
    net.train()
    functional.reset_net(net)
    with torch.no_grad():
        net(x)
    functional.reset_net(net)
    return net.eval()
