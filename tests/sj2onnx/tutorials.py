"""SpikingJelly's own tutorials and examples: every network that they define, written out anew and made small."""

from collections.abc import Callable
from typing import Any

import torch
from spikingjelly.activation_based import encoding, functional, layer, neuron, rnn, surrogate
from torch import nn
from torch.distributions import Categorical, Normal
from torch.nn import functional as F

import sj2onnx

from .people import Entry, multi_step

__all__ = ["TUTORIALS"]


class CSNN(nn.Module):
    """conv_fashion_mnist: images, expanded over time, with a spiking encoder in front."""

    def __init__(self, steps: int = 4, channels: int = 4) -> None:
        super().__init__()
        self.T = steps
        parts: list[nn.Module] = []
        for inputs in (1, channels):
            parts += [
                layer.Conv2d(inputs, channels, kernel_size=3, padding=1, bias=False),
                layer.BatchNorm2d(channels),
                neuron.IFNode(surrogate_function=surrogate.ATan()),
                layer.MaxPool2d(2, 2),
            ]
        parts += [layer.Flatten(), layer.Linear(channels * 4, 16, bias=False), neuron.IFNode(surrogate_function=surrogate.ATan())]
        parts += [layer.Linear(16, 10, bias=False), neuron.IFNode(surrogate_function=surrogate.ATan())]
        self.conv_fc = multi_step(nn.Sequential(*parts))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv_fc(x.unsqueeze(0).expand(self.T, -1, -1, -1, -1)).mean(0)


class Inference(nn.Module):
    """lynxi_fmnist_inference: time and samples are one axis between the neurons."""

    def __init__(self, steps: int = 4) -> None:
        super().__init__()
        self.T = steps
        self.conv, self.norm, self.pool = nn.Conv2d(1, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.MaxPool2d(2, 2)
        self.first, self.second = neuron.IFNode(step_mode="m"), neuron.IFNode(step_mode="m")
        self.fc = nn.Linear(64, 10)

    def spiking(self, node: nn.Module, x: torch.Tensor) -> torch.Tensor:
        return node(x.reshape(self.T, x.shape[0] // self.T, *x.shape[1:])).flatten(0, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.unsqueeze(0).expand(self.T, -1, -1, -1, -1).flatten(0, 1)
        x = self.pool(self.spiking(self.first, self.norm(self.conv(x))))
        x = self.spiking(self.second, self.fc(x.flatten(1)))
        return x.reshape(self.T, x.shape[0] // self.T, -1).mean(0)


def lava_mnist(channels: int = 4) -> nn.Module:
    def block(synapse: nn.Module) -> nn.Module:
        return sj2onnx.BlockContainer(synapse, neuron.IFNode(surrogate_function=surrogate.ATan(), detach_reset=True))

    return nn.Sequential(
        block(nn.Conv2d(1, channels, 3, 1, 1, bias=False)),
        block(nn.Conv2d(channels, channels, 2, 2, bias=False)),
        block(nn.Conv2d(channels, channels, 3, 1, 1, bias=False)),
        block(nn.Conv2d(channels, channels, 2, 2, bias=False)),
        sj2onnx.BlockContainer(nn.Flatten(), None),
        block(nn.Linear(channels * 4, 16, bias=False)),
        block(nn.Linear(16, 10, bias=False)),
    )


class Sequential(nn.Module):
    """rsnn_sequential_fmnist: the rows of an image are its steps."""

    def __init__(self, *between: nn.Module) -> None:
        super().__init__()
        node = neuron.IFNode(surrogate_function=surrogate.ATan())
        self.fc = multi_step(nn.Sequential(layer.Linear(8, 16), *between, layer.Linear(16, 10), node))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(x).mean(0)


def feedback() -> nn.Module:
    node = neuron.IFNode(surrogate_function=surrogate.ATan(), detach_reset=True)
    return layer.LinearRecurrentContainer(node, in_features=16, out_features=16, bias=True)


class Last(nn.Module):
    """spiking_lstm_sequential_mnist and spiking_lstm_text."""

    def __init__(self, softmax: bool) -> None:
        super().__init__()
        self.lstm, self.fc, self.softmax = rnn.SpikingLSTM(8, 12, 1), nn.Linear(12, 5), softmax

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.fc(self.lstm(x)[0][-1])
        return F.softmax(y, dim=1) if self.softmax else y


class Integrator(neuron.SimpleLIFNode):  # type: ignore[misc]
    """spiking_dqn_state, spiking_a2c and spiking_ppo: it gives its potential."""

    def single_step_forward(self, x: torch.Tensor) -> torch.Tensor:
        self.neuronal_charge(x)
        return self.v


def integrating(inputs: int, outputs: int) -> nn.Sequential:
    node = Integrator(tau=2.0, decay_input=True)
    return nn.Sequential(layer.Linear(inputs, 12), neuron.IFNode(), layer.Linear(12, outputs), node)


class DQSN(nn.Module):
    def __init__(self, steps: int = 6) -> None:
        super().__init__()
        self.fc, self.T = integrating(4, 2), steps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for _ in range(self.T):
            self.fc(x)
        return self.fc[-1].v


class ActorCritic(nn.Module):
    """Gives a distribution, beside a value."""

    def __init__(self, normal: bool, steps: int = 6) -> None:
        super().__init__()
        self.critic, self.actor = integrating(4, 1), integrating(4, 3)
        self.log_std = nn.Parameter(torch.full((1, 3), -0.5))
        self.normal, self.T = normal, steps

    def forward(self, x: torch.Tensor) -> Any:
        for _ in range(self.T):
            self.critic(x)
            self.actor(x)
        value, mu = self.critic[-1].v, self.actor[-1].v
        if self.normal:
            return Normal(mu, self.log_std.exp().expand_as(mu)), value
        return Categorical(F.softmax(mu, dim=1)), value


class DeepSpikingQ(nn.Module):
    """dsqn: read out by the largest potential, or by rates."""

    def __init__(self, decode: str, steps: int = 4) -> None:
        super().__init__()

        def node() -> nn.Module:
            return neuron.LIFNode(v_threshold=0.4, surrogate_function=surrogate.ATan(), detach_reset=True)

        self.decode, self.T = decode, steps
        parts = [layer.Conv2d(2, 4, 4, 2), node(), layer.Conv2d(4, 4, 3, 1), node(), layer.Flatten(), layer.Linear(4, 12), node()]
        if "mem" in decode:
            parts += [layer.Linear(12, 3), neuron.NonSpikingLIFNode(decode=decode)]
        self.network = multi_step(nn.Sequential(*parts))
        self.decoder = nn.Linear(12, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.network(x.unsqueeze(0).expand(self.T, -1, -1, -1, -1))
        return y if "mem" in self.decode else self.decoder(y.mean(0))


class PopulationActor(nn.Module):
    """ilc_san and noisy_san: populations of encoding neurons, connections within a layer, a decoder for each action."""

    def __init__(self, encoder: Callable[..., nn.Module], noisy: bool, decode: str = "max-mem", steps: int = 5) -> None:
        super().__init__()
        self.T = steps
        self.encoder = encoder(3, 4, steps, (-2, 2), 0.5)
        if noisy:
            options = {"T": steps, "sigma_init": 0.5, "beta": 0.0}
            hidden = neuron.NoisyCUBALIFNode(10, **options)
            last: nn.Module = neuron.NoisyILCCUBALIFNode(2, 3, **options)
            end: nn.Module = neuron.NoisyNonSpikingIFNode(2, decode=decode, **options)
        else:
            hidden = neuron.CUBALIFNode(surrogate_function=surrogate.Rect())
            last = neuron.ILCCUBALIFNode(2, 3, surrogate_function=surrogate.Rect())
            end = neuron.NonSpikingIFNode(decode=decode)
        self.snn = multi_step(nn.Sequential(layer.Linear(12, 10), hidden, layer.Linear(10, 6), last))
        self.group_fc = multi_step(layer.Conv1d(2, 2, 3, groups=2))
        self.end, self.noisy = multi_step(end), noisy
        for module in self.modules():
            if hasattr(module, "is_training"):
                module.is_training = False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.group_fc(self.snn(self.encoder(x)).view(self.T, -1, 2, 3))
        y = self.end(y.view(self.T, -1, 2)) if self.noisy else self.end(y).view(-1, 2)
        return 2.0 * torch.tanh(y)


class DVSVGG(nn.Module):
    """memopt: events [N, T, C, H, W], reset in forward."""

    def __init__(self) -> None:
        super().__init__()

        def block(inputs: int, outputs: int, pool: bool) -> nn.Module:
            parts = [layer.AvgPool2d(2)] if pool else []
            parts += [layer.Conv2d(inputs, outputs, 3, 1, 1), layer.BatchNorm2d(outputs)]
            node = neuron.LIFNode(tau=1.333, decay_input=False, detach_reset=True, surrogate_function=surrogate.ATan())
            return nn.Sequential(nn.Sequential(*parts), node)

        self.features = multi_step(nn.Sequential(block(2, 4, False), block(4, 6, True), layer.AvgPool2d(2)))
        self.classifier = nn.Sequential(nn.Dropout(0.25), nn.Linear(24, 10))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        functional.reset_net(self)
        x = self.features(x.transpose(0, 1).contiguous())
        return self.classifier(torch.flatten(x, 2))


class Speech(nn.Module):
    """speech_commands: [N, C, T, mel], convolved over time; neurons see the channels where others see samples."""

    class Wrapped(nn.Module):
        def __init__(self, flatten: bool = False) -> None:
            super().__init__()
            self.module = neuron.LIFNode(tau=10.0 / 7, surrogate_function=surrogate.Sigmoid(10.0), step_mode="m")
            self.flatten = flatten

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.module(x.transpose(0, 2))
            if self.flatten:
                y = y.permute(2, 0, 1, 3)
                return y.reshape((*y.shape[:2], -1))
            return y.transpose(0, 2)

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(1, 4, (4, 3), 1, (1, 1), (1, 1), bias=False),
            nn.BatchNorm2d(4),
            self.Wrapped(),
            nn.Conv2d(4, 4, (4, 3), 1, (2, 3), (1, 3), bias=False),
            nn.BatchNorm2d(4),
            self.Wrapped(flatten=True),
        )
        self.fc = nn.Linear(4 * 8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.conv(x)).mean(dim=1)


class Fires(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x)
        return (x > 0).float()

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        return grad * (ctx.saved_tensors[0] > 0)


class OwnNode(nn.Module):
    """cifar10_r11: a neuron of its own, whose potential is an attribute."""

    def __init__(self, threshold: float, tau: float = 0.0) -> None:
        super().__init__()
        self.threshold, self.tau = threshold, tau
        self.reset()

    def reset(self) -> None:
        self.v: Any = 0.0
        self.accumulated: Any = 0.0

    def forward(self, dv: torch.Tensor) -> torch.Tensor:
        self.v = self.v + dv
        spike = self.v - self.threshold
        self.v.masked_fill_(spike > 0, 0.0)
        spike = Fires.apply(spike)
        if self.tau:
            self.accumulated += spike
            self.v = self.v - (self.v / self.tau).detach()
        return spike


class ResNet11(nn.Module):
    """Its training loop, as a network."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.lif = nn.Conv2d(1, 4, 3, padding=1, bias=False), nn.Sequential(OwnNode(1.0, 100.0), layer.Dropout(0.25))
        self.pool, self.node = nn.AvgPool2d(2), OwnNode(0.75)
        self.left = nn.Sequential(nn.Conv2d(4, 6, 3, padding=1, bias=False), OwnNode(1.0, 100.0))
        self.right, self.both = nn.Conv2d(4, 6, 1, bias=False), OwnNode(1.0, 100.0)
        self.fc = nn.Linear(6 * 16, 10, bias=False)

    def step(self, x: torch.Tensor) -> torch.Tensor:
        x = self.node(self.pool(self.lif(self.conv(x))))
        return self.fc(self.both(self.left(x) + self.right(x)).flatten(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        functional.reset_net(self)
        total = self.step(x[0])
        for x_t in x[1:]:
            total = total + self.step(x_t)
        return total / len(x)


IMAGES = (3, 1, 8, 8)
STATES = (3, 4)

TUTORIALS: dict[str, Entry] = {
    "conv_fashion_mnist": Entry(CSNN, IMAGES, "N...", "images"),
    "lif_fc_mnist": Entry(
        lambda: multi_step(nn.Sequential(layer.Flatten(), layer.Linear(64, 10, bias=False), neuron.LIFNode(tau=2.0))),
        (6, *IMAGES),
        "TN...",
    ),
    "lava_mnist": Entry(lava_mnist, (8, *IMAGES), "TN..."),
    "lynxi_fmnist_inference": Entry(Inference, IMAGES, "N...", "images"),
    "rsnn_sequential_fmnist, plain": Entry(lambda: Sequential(neuron.IFNode()), (8, 3, 8), kind="images"),
    "rsnn_sequential_fmnist, stateful synapse": Entry(
        lambda: Sequential(neuron.IFNode(), layer.SynapseFilter(tau=2.0, learnable=True)), (8, 3, 8), kind="images"
    ),
    "rsnn_sequential_fmnist, feedback": Entry(lambda: Sequential(feedback()), (8, 3, 8), kind="images"),
    "spiking_lstm_sequential_mnist": Entry(lambda: Last(False), (6, 3, 8), ".N.", "images"),
    "spiking_lstm_text": Entry(lambda: Last(True), (6, 3, 8), ".N.", "images"),
    "spiking_dqn_state": Entry(DQSN, STATES, "N.", "images"),
    "spiking_a2c": Entry(lambda: ActorCritic(False), STATES, "N.", "images", ("probs", "output")),
    "spiking_ppo": Entry(lambda: ActorCritic(True), STATES, "N.", "images", ("loc", "scale", "output")),
    "dsqn, potentials": Entry(lambda: DeepSpikingQ("max-mem"), (3, 2, 8, 8), "N...", "images"),
    "dsqn, rates": Entry(lambda: DeepSpikingQ("fr-mlp"), (3, 2, 8, 8), "N...", "images"),
    "ilc_san": Entry(lambda: PopulationActor(encoding.PopSpikeEncoderDeterministic, False), (3, 3), "N.", "images"),
    "ilc_san, raw": Entry(lambda: PopulationActor(encoding.PopEncoder, False, "mean-mem"), (3, 3), "N.", "images"),
    "noisy_san": Entry(lambda: PopulationActor(encoding.PopSpikeEncoderDeterministic, True), (3, 3), "N.", "images"),
    "memopt, CIFAR10DVS": Entry(DVSVGG, (3, 5, 2, 8, 8), "NT..."),
    "speech_commands": Entry(Speech, (3, 1, 12, 8), "N...", "images"),
    "cifar10_r11": Entry(ResNet11, (5, 3, 1, 8, 8), ".N...", "images"),
    "dqn_state": Entry(lambda: nn.Sequential(nn.Linear(4, 12), nn.ReLU(), nn.Linear(12, 2)), STATES, "N.", "images"),
}
"""By the name of the example."""
