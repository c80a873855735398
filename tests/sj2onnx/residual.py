"""Networks that are graphs, narrow, with random weights: residual blocks, a dense block, a U-Net."""

from collections.abc import Callable

import torch
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from torch import nn

from models.spikingjelly_models import MODELS, lively, random_spikes

__all__ = ["NETWORKS", "DenseBlock", "UNet", "narrow"]

STEPS, SAMPLES = 4, 2


def narrow(net: nn.Module, by: int = 16, classes: int = 10) -> nn.Module:
    """The same network with a fraction of the channels behind its first layer."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            outputs, inputs, *kernel = module.weight.shape
            module.out_channels, module.in_channels = outputs // by, inputs if inputs == 3 else inputs // by
            module.weight = nn.Parameter(torch.empty(module.out_channels, module.in_channels, *kernel))
        elif isinstance(module, nn.BatchNorm2d):
            nn.BatchNorm2d.__init__(module, module.num_features // by)
        elif isinstance(module, nn.Linear):
            module.in_features, module.out_features = module.in_features // by, classes
            module.weight = nn.Parameter(torch.empty(classes, module.in_features))
            module.bias = nn.Parameter(torch.zeros(classes))
    return net


def _spiking(inputs: int, outputs: int, kernel: int = 3, tau: float | None = None) -> nn.Sequential:
    """Convolution, norm and neurons."""
    fires = (
        neuron.IFNode(surrogate_function=surrogate.ATan())
        if tau is None
        else neuron.LIFNode(tau, decay_input=False, surrogate_function=surrogate.ATan())
    )
    return nn.Sequential(
        layer.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False), layer.BatchNorm2d(outputs), fires
    )


class DenseBlock(nn.Module):
    """Each layer reads the spikes of all before it, side by side (DenseNet)."""

    def __init__(self, growth: int = 4, layers: int = 4) -> None:
        super().__init__()
        self.stem = _spiking(3, growth)
        self.layers = nn.ModuleList(_spiking(growth * (index + 1), growth, tau=2.0) for index in range(layers))
        self.transition = nn.Sequential(_spiking(growth * (layers + 1), 6, kernel=1), layer.AvgPool2d(2))
        self.head = nn.Sequential(layer.Flatten(), layer.Linear(6 * 4 * 4, 10, bias=False), neuron.IFNode())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features = [self.stem(x)]
        for each in self.layers:
            features.append(each(torch.cat(features, dim=2)))
        spikes: torch.Tensor = self.head(self.transition(torch.cat(features, dim=2)))
        return spikes


class UNet(nn.Module):
    """Down by pooling, up by a transposed convolution and by nearest neighbours, with skips from side to side."""

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.down1, self.down2 = _spiking(3, width), _spiking(width, 2 * width, tau=2.0)
        self.bottom = _spiking(2 * width, 2 * width)
        self.pool = layer.MaxPool2d(2)
        self.up2 = layer.ConvTranspose2d(2 * width, width, 2, stride=2, bias=False)
        self.up2_neuron = neuron.IFNode()
        self.left2 = _spiking(3 * width, width)
        self.up1 = layer.SeqToANNContainer(nn.Upsample(scale_factor=2, mode="nearest"))
        self.left1 = _spiking(2 * width, width, tau=2.0)
        self.last = nn.Sequential(layer.Conv2d(width, 2, 1, bias=False), neuron.IFNode())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first = self.down1(x)
        second = self.down2(self.pool(first))
        bottom = self.bottom(self.pool(second))
        up = self.left2(torch.cat([self.up2_neuron(self.up2(bottom)), second], dim=2))
        spikes: torch.Tensor = self.last(self.left1(torch.cat([self.up1(up), first], dim=2)))
        return spikes


def _of_spikingjelly(name: str) -> Callable[[], nn.Module]:
    return lambda: narrow(MODELS[name].make())


NETWORKS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "SEW-ResNet-18, ADD": (_of_spikingjelly("sew_resnet18, ADD"), 32),
    "SEW-ResNet-18, AND": (_of_spikingjelly("sew_resnet18, AND"), 32),
    "SEW-ResNet-18, IAND": (_of_spikingjelly("sew_resnet18, IAND"), 32),
    "spiking ResNet-18": (_of_spikingjelly("spiking_resnet18"), 32),
    "dense block": (DenseBlock, 8),
    "U-Net": (UNet, 8),
}
"""What makes each network, and the height and width of the images of three channels that it reads."""


def example(name: str) -> tuple[nn.Module, torch.Tensor]:
    """A network in step mode ``m`` with weights with which it is neither silent nor saturated, and spikes ``[T, N, *]``."""
    make, size = NETWORKS[name]
    torch.manual_seed(0)
    net = make()
    functional.set_step_mode(net, "m")
    x = random_spikes(STEPS, SAMPLES, 3, size, size)
    return lively(net, x), x
