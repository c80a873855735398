"""The reference network: a convolutional spiking network for small grey images.

Trained quantised, with every synapse in a BlockContainer, or not, as one of SpikingJelly's usual layers and neurons.
"""

import torch
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from torch import nn

from sj2onnx import BlockContainer

__all__ = ["FloatMNISTNet", "MNISTNet", "digits", "mnist"]


class MNISTNet(nn.Module):
    """Four convolutions, of which every second halves the image, and two linear layers; IF neurons, no biases.

    Its images lie in memory with their channels last, which is faster to train: the same spikes, and gradients summed in
    another order.

    Args:
        channels: channels of every convolution.
        image_size: height and width of the image, a multiple of 4.
        inputs: channels of the image.
    """

    def __init__(self, channels: int = 16, image_size: int = 28, inputs: int = 1) -> None:
        super().__init__()
        self.conv_fc = nn.Sequential(
            _block(nn.Conv2d(inputs, channels, kernel_size=3, padding=1, bias=False)),
            _block(nn.Conv2d(channels, channels, kernel_size=2, stride=2, bias=False)),
            _block(nn.Conv2d(channels, channels, kernel_size=3, padding=1, bias=False)),
            _block(nn.Conv2d(channels, channels, kernel_size=2, stride=2, bias=False)),
            BlockContainer(nn.Flatten(), None),
            _block(nn.Linear(channels * (image_size // 4) ** 2, 128, bias=False)),
            _block(nn.Linear(128, 10, bias=False)),
        )
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Spikes ``[T, N, inputs, H, W]`` → spikes of the ten classes ``[T, N, 10]``."""
        spikes: torch.Tensor = self.conv_fc(x)
        return spikes


class FloatMNISTNet(nn.Module):
    """The same network without quantisation: SpikingJelly's own layers and neurons.

    Args:
        channels: as above.
        image_size: as above.
        inputs: as above.
        norm: whether batch normalisation follows each convolution.
        tau: time constant of LIF neurons, in steps; None makes IF neurons.
    """

    def __init__(
        self, channels: int = 16, image_size: int = 28, inputs: int = 1, norm: bool = False, tau: float | None = None
    ) -> None:
        super().__init__()
        self.conv_fc = nn.Sequential(
            *_float_block(layer.Conv2d(inputs, channels, kernel_size=3, padding=1, bias=False), norm, tau),
            *_float_block(layer.Conv2d(channels, channels, kernel_size=2, stride=2, bias=False), norm, tau),
            *_float_block(layer.Conv2d(channels, channels, kernel_size=3, padding=1, bias=False), norm, tau),
            *_float_block(layer.Conv2d(channels, channels, kernel_size=2, stride=2, bias=False), norm, tau),
            layer.Flatten(),
            *_float_block(layer.Linear(channels * (image_size // 4) ** 2, 128, bias=False), tau=tau),
            *_float_block(layer.Linear(128, 10, bias=False), tau=tau),
        )
        functional.set_step_mode(self, "m")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Spikes ``[T, N, inputs, H, W]`` → spikes of the ten classes ``[T, N, 10]``."""
        spikes: torch.Tensor = self.conv_fc(x)
        return spikes


def _block(synapse: nn.Conv2d | nn.Linear) -> BlockContainer:
    quantised, node = _float_block(synapse)
    return BlockContainer(quantised, node)


def _float_block(synapse: nn.Conv2d | nn.Linear, norm: bool = False, tau: float | None = None) -> tuple[nn.Module, ...]:
    # With torch's own initial weights fewer neurons reach their threshold from layer to layer, and none at the end; three times
    # that keeps the rates up.
    with torch.no_grad():
        synapse.weight *= 3
    usual = {"surrogate_function": surrogate.ATan(), "detach_reset": True}
    node = neuron.IFNode(**usual) if tau is None else neuron.LIFNode(tau=tau, decay_input=False, **usual)
    return (synapse, layer.BatchNorm2d(synapse.out_channels), node) if norm else (synapse, node)


def mnist() -> MNISTNet:
    """The network for MNIST: 28 × 28 pixels, 16 channels."""
    return MNISTNet(channels=16, image_size=28)


def digits() -> MNISTNet:
    """The network for scikit-learn's bundled digits: 8 × 8 pixels, 16 channels."""
    return MNISTNet(channels=16, image_size=8)
