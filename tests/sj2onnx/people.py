"""Networks as people write them: each class or function is one way that is found in repositories, tutorials and questions.

Every entry of :data:`NETWORKS` is made small, with weights that keep its neurons busy, and exports equal to SpikingJelly.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import onnx
import torch
import torch.nn.functional as F
from spikingjelly.activation_based import base, functional, layer, neuron, rnn, surrogate
from torch import nn

import sj2onnx
from sj2onnx.outputs import flattened

__all__ = ["NETWORKS", "Entry", "sizes"]


@dataclass(frozen=True)
class Entry:
    """One network.

    Args:
        make: makes it.
        shape: of the example.
        free: which of its axes are free in the file, by name: ``"T"`` and ``"N"`` at their places.
        kind: of the example's values: ``"spikes"``, ``"images"`` (0 to 1) or ``"tokens"``.
        outputs: names of the outputs.
    """

    make: Callable[[], nn.Module]
    shape: tuple[int, ...] = (6, 3, 20)
    free: str = "TN"
    kind: str = "spikes"
    outputs: tuple[str, ...] = ("output",)

    def network(self) -> nn.Module:
        """The network in evaluation mode, its weights large enough that what it gives differs from place to place."""
        return next((net for net in map(self._scaled, (3, 6, 12, 24)) if self._is_lively(net)), self._scaled(3))

    def _is_lively(self, net: nn.Module) -> bool:
        for shape in (self.shape, tuple(size + 1 if at == self.free.index("N") else size for at, size in enumerate(self.shape))):
            with torch.no_grad():
                given = flattened(net(self.example(shape, seed=len(shape) + shape[0])))
            functional.reset_net(net)
            if any(value.float().std() == 0 for value in given.values()):
                return False
        return True

    def _scaled(self, factor: float) -> nn.Module:
        torch.manual_seed(0)
        net = self.make().eval()
        with torch.no_grad():
            for module in net.modules():
                if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d):
                    module.weight *= factor
                if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                    module.running_mean.uniform_(-0.2, 0.2)
                    module.running_var.uniform_(0.5, 1.5)
                    module.bias.uniform_(0.0, 0.5)
        return net

    def example(self, shape: tuple[int, ...] | None = None, seed: int = 0) -> torch.Tensor:
        """An input, by default of the example's shape."""
        x = torch.rand(shape or self.shape, generator=torch.Generator().manual_seed(seed))
        if self.kind == "tokens":
            return (x * 50).long()
        return x if self.kind == "images" else (x < 0.5).float()


def sizes(model: onnx.ModelProto) -> list[int | str]:
    """The axes of a file's input, by name where they are free."""
    return [d.dim_param or d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]


def multi_step(net: nn.Module) -> nn.Module:
    functional.set_step_mode(net, "m")
    return net


class Dense(nn.Module):
    """What most of the networks below vary: Linear, neuron, in step mode m."""

    steps = 6

    def __init__(self, node: nn.Module | None = None, outputs: int = 10, mode: str = "m") -> None:
        super().__init__()
        self.fc = layer.Linear(20, outputs)
        self.lif = neuron.LIFNode() if node is None else node
        functional.set_step_mode(self, mode)

    def forward(self, x: torch.Tensor) -> Any:
        return self.lif(self.fc(x))


class Deep(Dense):
    """With one more spiking layer in front."""

    def __init__(self, node: nn.Module | None = None) -> None:
        super().__init__(node)
        self.first = multi_step(nn.Sequential(layer.Linear(20, 20), neuron.IFNode(0.5)))

    def forward(self, x: torch.Tensor) -> Any:
        return self.lif(self.fc(self.first(x)))


# Static images, repeated over time inside.


class CSNN(nn.Module):
    """SpikingJelly's tutorial on Fashion-MNIST, in its multi-step form."""

    def __init__(self, steps: int = 4, channels: int = 4) -> None:
        super().__init__()
        self.T = steps
        self.conv_fc = nn.Sequential(
            layer.Conv2d(1, channels, 3, padding=1, bias=False),
            layer.BatchNorm2d(channels),
            neuron.IFNode(surrogate_function=surrogate.ATan()),
            layer.MaxPool2d(2, 2),
            layer.Conv2d(channels, channels, 3, padding=1, bias=False),
            layer.BatchNorm2d(channels),
            neuron.IFNode(surrogate_function=surrogate.ATan()),
            layer.MaxPool2d(2, 2),
            layer.Flatten(),
            layer.Linear(channels * 4, 20, bias=False),
            neuron.IFNode(surrogate_function=surrogate.ATan()),
            layer.Linear(20, 10, bias=False),
            neuron.IFNode(surrogate_function=surrogate.ATan()),
        )
        functional.set_step_mode(self, "m")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv_fc(x.unsqueeze(0).repeat(self.T, 1, 1, 1, 1)).mean(0)


class StaticConvFirst(nn.Module):
    """The same tutorial's older form: the first convolution sees the image once, and a loop runs the rest."""

    def __init__(self) -> None:
        super().__init__()
        self.static_conv = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4))
        self.conv = nn.Sequential(neuron.IFNode(), nn.MaxPool2d(2, 2))
        self.fc = nn.Sequential(nn.Flatten(), nn.Linear(64, 10, bias=False), neuron.IFNode())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.static_conv(x)
        out = self.fc(self.conv(x))
        for _ in range(1, 4):
            out = out + self.fc(self.conv(x))
        return out / 4


class ExpandedFeatures(nn.Module):
    """[N, F], expanded over time; rates as the result."""

    def __init__(self) -> None:
        super().__init__()
        self.net = multi_step(nn.Sequential(layer.Linear(20, 12), neuron.LIFNode(), layer.Linear(12, 5), neuron.LIFNode()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x.expand(5, *x.shape)).sum(0) / 5


class StackedImages(nn.Module):
    """A list of the same image, stacked."""

    def __init__(self) -> None:
        super().__init__()
        self.net = multi_step(nn.Sequential(layer.Flatten(), layer.Linear(64, 10), neuron.ParametricLIFNode()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(torch.stack([x] * 4))


class SplitFirstLayer(nn.Module):
    """A convolution without time, then time behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4))
        self.body = multi_step(nn.Sequential(neuron.IFNode(), layer.Flatten(), layer.Linear(4 * 36, 8), neuron.IFNode()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(self.stem(x)[None].expand(4, -1, -1, -1, -1))


class LoopOverImage(nn.Module):
    """One image, shown again and again to neurons in step mode s."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Sequential(layer.Flatten(), layer.Linear(64, 10, bias=False), neuron.LIFNode(tau=2.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        counter = 0.0
        for _ in range(8):
            counter += self.layer(x)
        return counter / 8


# Loops over time in Python, neurons in step mode s.


class Loop(Dense):
    def __init__(self) -> None:
        super().__init__(mode="s")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.stack([self.lif(self.fc(x[t])) for t in range(x.shape[0])])


class LoopAppending(Loop):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = []
        for x_t in x:
            out.append(self.lif(self.fc(x_t)).unsqueeze(0))
        return torch.cat(out)


class LoopCounting(Loop):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        counter = torch.zeros(x.shape[1], 10)
        for t in range(self.steps):
            counter += self.lif(self.fc(x[t]))
        return counter / self.steps


class LoopFilling(Loop):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = torch.zeros(x.shape[0], x.shape[1], 10)
        for t in range(x.shape[0]):
            out[t] = self.lif(self.fc(x[t]))
        return out.mean(0)


class LoopLast(Loop):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for t in range(x.shape[0]):
            spikes = self.lif(self.fc(x[t]))
        return spikes


class LoopTwoLayers(nn.Module):
    """Convolutions in a loop, time behind the samples: [N, T, C, H, W]."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(2, 4, 3, padding=1),
            nn.BatchNorm2d(4),
            neuron.IFNode(),
            nn.MaxPool2d(2),
            nn.Conv2d(4, 4, 3),
            neuron.LIFNode(),
        )
        self.head = nn.Linear(16, 5)
        self.out = neuron.IFNode()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rate = 0
        for t in range(x.size(1)):
            y = self.features(x[:, t])
            rate = rate + self.out(self.head(y.flatten(1)))
        return rate / x.size(1)


class MultiStepForward(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Sequential(nn.Linear(20, 12), neuron.LIFNode())
        self.b = nn.Linear(12, 6)
        self.c = neuron.LIFNode()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = functional.multi_step_forward(x, self.a)
        return functional.multi_step_forward(y, (self.b, self.c))


class SeqToAnn(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4))
        self.lif = neuron.LIFNode(step_mode="m")
        self.fc = nn.Linear(4 * 64, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.lif(functional.seq_to_ann_forward(x, self.conv))
        return functional.seq_to_ann_forward(y.flatten(2), self.fc).mean(0)


class Feedback(nn.Module):
    """Recurrent by hand: the spikes of the step before come back."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.back = nn.Linear(20, 8), nn.Linear(8, 8)
        self.lif = neuron.LIFNode()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = torch.zeros(x.shape[1], 8)
        out = []
        for x_t in x:
            h = self.lif(self.fc(x_t) + self.back(h))
            out.append(h)
        return torch.stack(out)


class Cell(base.MemoryModule):  # type: ignore[misc]
    """A recurrent layer of one's own, which keeps its spikes and goes through the sequence itself."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.back, self.lif = nn.Linear(20, 8), nn.Linear(8, 8), neuron.LIFNode()
        self.register_memory("y", None)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = []
        for x_t in x:
            self.y = torch.zeros(x.shape[1], 8) if self.y is None else self.y
            self.y = self.lif(self.fc(x_t) + self.back(self.y))
            out.append(self.y)
        return torch.stack(out)


class RecurrentConvolution(nn.Module):
    """The spikes of the step before come back through a convolution, those of all steps go on through a pool; time second."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.back = nn.Conv2d(2, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1, bias=False)
        self.bn, self.lif, self.pool = nn.BatchNorm2d(3), neuron.LIFNode(), nn.MaxPool2d(2)
        self.fc = nn.Linear(12, 5)
        self.out = neuron.IFNode()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = torch.zeros(x.shape[0], 3, 4, 4)
        rate = 0
        for t in range(x.shape[1]):
            h = self.lif(self.bn(self.conv(x[:, t])) + self.back(h))
            rate = rate + self.out(self.fc(self.pool(h).flatten(1)))
        return rate / x.shape[1]


# Membrane potentials.


class RateAndPotential(Deep):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x).mean(0) + self.lif.v


class LastPotential(Deep):
    """A neuron that never fires, read out by its potential."""

    def __init__(self) -> None:
        super().__init__(neuron.LIFNode(v_threshold=float("inf")))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        super().forward(x)
        return self.lif.v


class PotentialSequence(Deep):
    def __init__(self) -> None:
        super().__init__(neuron.LIFNode(v_threshold=float("inf"), store_v_seq=True))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        super().forward(x)
        return self.lif.v_seq.mean(0)


class SpikesAndPotentials(Deep):
    def __init__(self) -> None:
        super().__init__(neuron.ParametricLIFNode(store_v_seq=True))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x).mean(0) + self.lif.v_seq.amax(0)


class PotentialThroughLayer(Deep):
    def __init__(self) -> None:
        super().__init__()
        self.readout = nn.Linear(10, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        super().forward(x)
        return self.readout(self.lif.v)


class QNetwork(nn.Module):
    """SpikingJelly's deep Q network: a state, shown for T steps, and the potential of neurons that do not fire."""

    class Potential(neuron.LIFNode):  # type: ignore[misc]
        def single_step_forward(self, x: torch.Tensor) -> torch.Tensor:
            if self.v_reset is None:
                self.v = self.v + (x - self.v) / self.tau
            else:
                self.v = self.v + (x - (self.v - self.v_reset)) / self.tau
            return self.v

    def __init__(self, steps: int = 5) -> None:
        super().__init__()
        self.fc = nn.Sequential(nn.Linear(20, 16), neuron.IFNode(), nn.Linear(16, 2), self.Potential(tau=2.0))
        self.T = steps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for _ in range(self.T):
            self.fc(x)
        return self.fc[-1].v


class Started(Dense):
    """Neurons that start charged, set in forward."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        current = self.fc(x)
        self.lif.v = torch.full_like(current[0], 0.5)
        return self.lif(current)


def charged(node: nn.Module) -> nn.Module:
    node.set_reset_value("v", 0.5)
    return Dense(node)


class Twice(Dense):
    """One neuron used twice: its potential goes on from the first sequence to the second."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.fc(x)
        return torch.cat([self.lif(y), self.lif(0.5 * y)])


class Rested(Dense):
    """One neuron used twice, reset in between."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        functional.reset_net(self)
        y = self.fc(x)
        first = self.lif(y).mean(0)
        functional.reset_net(self)
        return first - self.lif(2 * y).mean(0)


# Several outputs.


class Heads(Dense):
    def __init__(self, give: Callable[[torch.Tensor, torch.Tensor], Any]) -> None:
        super().__init__()
        self.give = give
        self.other = layer.Linear(10, 3, step_mode="m")

    def forward(self, x: torch.Tensor) -> Any:
        y = self.lif(self.fc(x))
        return self.give(y, self.other(y).mean(0))


# Other orders of axes.


class TimeSecond(Dense):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.lif(self.fc(x.permute(1, 0, 2))).mean(0)


class TimeLast(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = multi_step(nn.Sequential(layer.Conv2d(2, 3, 3), neuron.LIFNode(), layer.Flatten(), layer.Linear(108, 5)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x.permute(4, 0, 1, 2, 3)).permute(1, 2, 0)


class EitherOrder(Dense):
    """A branch on the number of time steps."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.shape[0] != self.steps:
            x = x.transpose(0, 1)
        return self.lif(self.fc(x))


# What fixes T.


class View(Dense):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.lif(self.fc(x.view(self.steps, -1, 20)))


class Asserted(Dense):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert x.shape[0] == self.steps
        return self.lif(self.fc(x))


class Weighted(Dense):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (self.lif(self.fc(x)) * torch.linspace(0, 1, self.steps).view(-1, 1, 1)).sum(0)


class Sliced(Dense):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.lif(self.fc(x[:4]))
        return y[3] + y[:2].mean(0)


class OwnSpike(nn.Module):
    """A neuron of one's own, with a loop over time: TET, tdBN and their kin."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        v, out = 0.0, []
        for t in range(x.shape[0]):
            v = v * 0.5 + x[t]
            spike = (v > 1).float()
            v = v * (1 - spike)
            out.append(spike)
        return torch.stack(out)


class OwnSamplesFirst(nn.Module):
    """Time behind the samples, in containers, with a threshold that has to be crossed."""

    class Spike(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            v, out = torch.zeros_like(x[:, 0]), []
            for t in range(x.shape[1]):
                v = 0.5 * v + x[:, t]
                out.append((v - 1.0 > 0).float())
                v = v * (1 - out[-1])
            return torch.stack(out, dim=1)

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv, self.fire, self.head = nn.Conv2d(inputs, outputs, 3), self.Spike(), nn.Linear(outputs * 36, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x.flatten(0, 1))
        y = self.fire(y.view(x.shape[0], x.shape[1], *y.shape[1:]))
        return self.head(y.flatten(0, 1).flatten(1)).view(x.shape[0], x.shape[1], -1)


class OwnCurrent(nn.Module):
    """A current, a voltage that is reset when the next step begins, and time last: how actors for Loihi are written."""

    class Spike(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            current, voltage, spike = (torch.zeros_like(x[:, :, 0]) for _ in range(3))
            out = []
            for t in range(x.shape[2]):
                current = current * 0.5 + x[:, :, t]
                voltage = voltage * 0.75 * (1.0 - spike) + current
                spike = voltage.gt(0.5).float()
                out.append(spike)
            return torch.stack(out, dim=2)

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.fire, self.last = nn.Linear(20, 16), nn.Linear(16, 4), self.Spike(), self.Spike()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.fire(self.first(x.transpose(1, 2)).transpose(1, 2))
        return self.last(self.second(y.transpose(1, 2)).transpose(1, 2)).mean(2)


class OwnLayers(nn.Module):
    """Layers inside of the loop, feedback, a spike with a gradient of its own; a state that begins as None, or is set to rest."""

    class Step(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
            ctx.save_for_backward(x)
            return (x >= 0).float()

        @staticmethod
        def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
            return gradient * (ctx.saved_tensors[0].abs() < 0.5).float()

    class Convolution(nn.Module):
        def __init__(self, inputs: int, outputs: int) -> None:
            super().__init__()
            self.conv, self.bn = nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            v, out = None, []
            for x_t in x:
                h = self.bn(self.conv(x_t))
                v = h if v is None else v * 0.5 + h
                out.append((v >= 1.0).float())
                v[out[-1].bool()] = 0.0
            return torch.stack(out)

    class Recurrent(nn.Module):
        def __init__(self, inputs: int, outputs: int) -> None:
            super().__init__()
            self.given, self.back = nn.Linear(inputs, outputs), nn.Linear(outputs, outputs, bias=False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            v, out = torch.zeros(x.shape[1], self.given.out_features), []
            spike = torch.zeros_like(v)
            for t in range(x.shape[0]):
                v = v * 0.75 * (1 - spike) + self.given(x[t]) + self.back(spike)
                spike = OwnLayers.Step.apply(v - 1.0)
                out.append(spike)
            return torch.stack(out)

    class Rest(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.decay = nn.Parameter(torch.tensor(0.3))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            v, out = torch.zeros_like(x[0]), []
            for t in range(x.size(0)):
                v = v * torch.sigmoid(self.decay) + x[t]
                out.append(OwnLayers.Step.apply(v - 1.0))
                v = torch.where(out[-1].bool(), torch.zeros_like(v), v)
            return torch.stack(out)

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.recurrent = self.Convolution(2, 3), self.Recurrent(48, 8)
        self.last, self.fire = nn.Linear(8, 5), self.Rest()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fire(self.last(self.recurrent(self.conv(x).flatten(2)))).mean(0)


class OwnFilled(nn.Module):
    """Results that each step fills in; neurons that are reset when the next step begins."""

    steps = 4

    class Steps(nn.Module):
        def __init__(self, inside: nn.Module) -> None:
            super().__init__()
            self.inside = inside

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out = torch.zeros(OwnFilled.steps, *self.inside(x[0]).shape)
            for t in range(OwnFilled.steps):
                out[t] = self.inside(x[t])
            return out

    class Spike(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            v, spike, out = torch.zeros_like(x[0]), torch.zeros_like(x[0]), torch.zeros_like(x)
            for t in range(OwnFilled.steps):
                v = v * 0.25 * (1 - spike) + x[t] if t else x[t]
                spike = v.gt(0.5).float()
                out[t] = spike
            return out

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv, self.pool = self.Steps(nn.Conv2d(inputs, outputs, 3)), self.Steps(nn.AvgPool2d(2))
        self.fire, self.last = self.Spike(), self.Spike()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.pool(self.fire(self.conv(x))))


class Recurrent(nn.Module):
    def __init__(self, kind: type[nn.Module]) -> None:
        super().__init__()
        self.rnn = kind(20, 8, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.rnn(x)[0][-1]


# Weights that are computed in forward.


class QuantisedLinear(layer.Linear):  # type: ignore[misc]
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        step = self.weight.abs().max() / 127
        return F.linear(x, torch.clamp(torch.round(self.weight / step), -127, 127) * step, self.bias)


class StandardisedConv(layer.Conv2d):  # type: ignore[misc]
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean = self.weight.mean((1, 2, 3), keepdim=True)
        weight = (self.weight - mean) / (self.weight.var((1, 2, 3), keepdim=True) + 1e-5).sqrt()
        return functional.seq_to_ann_forward(x, lambda y: F.conv2d(y, weight, self.bias, self.stride, self.padding))


class LearnedDelays(nn.Module):
    """A delay for each synapse, trained as a place in a kernel over time that is built in forward."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs))
        self.place = nn.Parameter((4 * torch.rand(outputs, inputs)).round())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hat = (1 - (torch.arange(5.0).view(-1, 1, 1) - self.place).abs()).relu()
        kernel = (hat * self.weight).permute(1, 2, 0)
        return F.conv1d(F.pad(x.permute(1, 2, 0), (4, 0)), kernel).permute(2, 0, 1)


# Neurons of people's own.


class Renamed(neuron.LIFNode):  # type: ignore[misc]
    """Only made differently."""

    def __init__(self, **options: Any) -> None:
        super().__init__(tau=1.5, v_threshold=0.8, surrogate_function=surrogate.ATan(), **options)


class Learned(neuron.LIFNode):  # type: ignore[misc]
    """Time constant and threshold that are trained."""

    def __init__(self) -> None:
        super().__init__()
        self.tau = nn.Parameter(torch.tensor(2.5))
        self.v_threshold = nn.Parameter(torch.tensor(0.7))


class Scaled(neuron.LIFNode):  # type: ignore[misc]
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x * 2.0)


class Counting(Dense):
    """Counts its spikes in a buffer and in an attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("spikes", torch.zeros(()))
        self.calls = torch.zeros(1)
        self.rates: list[torch.Tensor] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.lif(self.fc(x))
        self.spikes += y.sum()
        self.calls += 1
        self.rates.append(y.mean())
        return y


class TextNet(nn.Module):
    """Words in, an embedding, a loop over the words."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(50, 20)
        self.net = multi_step(nn.Sequential(layer.Linear(20, 12), neuron.LIFNode(), layer.Linear(12, 2)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(self.embedding(x)).mean(0)


class Residual(nn.Module):
    """Spikes added to spikes, as in SEW ResNets."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = layer.Conv2d(2, 4, 3, padding=1), layer.Conv2d(4, 4, 3, padding=1)
        self.sn1, self.sn2 = neuron.IFNode(), neuron.IFNode()
        functional.set_step_mode(self, "m")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first = self.sn1(self.conv1(x))
        return first + self.sn2(self.conv2(first))


def loop_with(node: nn.Module) -> nn.Module:
    net = Loop()
    net.lif = node
    return net


def wrapped(wrap: Callable[[nn.Module], nn.Module]) -> nn.Module:
    return wrap(Dense())


def weight_norm() -> nn.Module:
    net = Dense()
    nn.utils.parametrizations.weight_norm(net.fc)
    return net


IMAGES = (3, 1, 8, 8)

NETWORKS: dict[str, Entry] = {
    "tutorial: CSNN repeats images": Entry(CSNN, IMAGES, "N...", "images"),
    "tutorial: CSNN, a loop behind the first convolution": Entry(StaticConvFirst, IMAGES, "N...", "images"),
    "features expanded over time": Entry(ExpandedFeatures, (3, 20), "N.", "images"),
    "images stacked": Entry(StackedImages, IMAGES, "N...", "images"),
    "time begins behind the stem": Entry(SplitFirstLayer, (3, 2, 8, 8), "N...", "images"),
    "tutorial: LIF on MNIST, a loop over one image": Entry(LoopOverImage, IMAGES, "N...", "images"),
    "loop, stacked": Entry(Loop),
    "loop, appended": Entry(LoopAppending),
    "loop, counted in place": Entry(LoopCounting, free=".N."),
    "loop, filled in": Entry(LoopFilling),
    "loop, last step": Entry(LoopLast),
    "loop, convolutions, time second": Entry(LoopTwoLayers, (3, 5, 2, 8, 8), "NT...", "spikes"),
    "multi_step_forward": Entry(MultiStepForward),
    "seq_to_ann_forward": Entry(SeqToAnn, (4, 3, 2, 8, 8), "TN..."),
    "loop with feedback": Entry(Feedback, free=".N."),
    "recurrent cell of one's own": Entry(Cell, free=".N."),
    "loop with a recurrent convolution, time second": Entry(RecurrentConvolution, (3, 5, 2, 4, 4), "N....", "spikes"),
    "rate and potential": Entry(RateAndPotential),
    "last potential, infinite threshold": Entry(LastPotential),
    "v_seq, infinite threshold": Entry(PotentialSequence),
    "spikes and v_seq": Entry(SpikesAndPotentials),
    "potential through a layer": Entry(PotentialThroughLayer),
    "tutorial: DQN, potential of a subclass": Entry(QNetwork, (3, 20), "N.", "images"),
    "NonSpikingLIFNode, last": Entry(lambda: Deep(neuron.NonSpikingLIFNode(2.0, "last_mem"))),
    "NonSpikingIFNode, mean": Entry(lambda: Deep(neuron.NonSpikingIFNode("mean-mem"))),
    "NonSpikingLIFNode, largest": Entry(lambda: Deep(neuron.NonSpikingLIFNode(3.0, "max-abs-mem"))),
    "NonSpikingIFNode, every step": Entry(
        lambda: Deep(neuron.NonSpikingIFNode()), free=".N.", outputs=("output", *(f"output.{t}" for t in range(1, 6)))
    ),
    "started charged": Entry(Started),
    **{
        f"reset value, {node.__name__}": Entry(lambda node=node: charged(node()))
        for node in (neuron.IFNode, neuron.LIFNode, neuron.ParametricLIFNode, neuron.KLIFNode)
    },
    "used twice": Entry(Twice),
    "used twice, reset between": Entry(Rested),
    "tuple": Entry(lambda: Heads(lambda y, z: (z, y)), outputs=("output", "output.1")),
    "list in a tuple, and None": Entry(
        lambda: Heads(lambda y, z: (z, [y, y.mean(0)], None)), outputs=("output", "output.1", "output.2")
    ),
    "dictionary": Entry(lambda: Heads(lambda y, z: {"rate": y.mean(0), "logits": z}), outputs=("rate", "logits")),
    "the same tensor twice": Entry(lambda: Heads(lambda y, z: (y, y, z)), outputs=("output", "output.1", "output.2")),
    "[N, T, F]": Entry(TimeSecond, (3, 6, 20), "NT."),
    "[N, C, H, W, T]": Entry(TimeLast, (3, 2, 8, 8, 6), "N...T"),
    "either order": Entry(EitherOrder, free=".N."),
    "view to T": Entry(View, free=".N."),
    "assert on T": Entry(Asserted, free=".N."),
    "a weight for each step": Entry(Weighted, free=".N."),
    "steps picked": Entry(Sliced, free=".N."),
    "own neuron with a loop": Entry(lambda: Dense(OwnSpike())),
    "own neuron, samples first": Entry(lambda: OwnSamplesFirst(2, 3), (3, 6, 2, 8, 8), "NT..."),
    "own neuron with a current, time last": Entry(OwnCurrent, (3, 20, 5), "N.T"),
    "own layers with neurons and feedback": Entry(OwnLayers, (5, 3, 2, 4, 4), "TN..."),
    "own neuron and layers, filled in": Entry(lambda: OwnFilled(2, 3), (4, 3, 2, 8, 8), ".N..."),
    "SpikingLSTM": Entry(lambda: Recurrent(rnn.SpikingLSTM), free=".N."),
    "SpikingGRU": Entry(lambda: Recurrent(rnn.SpikingGRU), free=".N."),
    "quantisation-aware": Entry(
        lambda: multi_step(nn.Sequential(QuantisedLinear(20, 12), neuron.LIFNode(), QuantisedLinear(12, 4), neuron.LIFNode()))
    ),
    "weight norm": Entry(weight_norm),
    "standardised weights": Entry(
        lambda: multi_step(nn.Sequential(StandardisedConv(2, 4, 3), neuron.IFNode())), (4, 3, 2, 8, 8), "TN..."
    ),
    "learned delays": Entry(
        lambda: multi_step(nn.Sequential(LearnedDelays(20, 10), neuron.LIFNode(), LearnedDelays(10, 4), neuron.IFNode())),
        (9, 3, 20),
    ),
    "DataParallel": Entry(lambda: wrapped(nn.DataParallel)),
    "torch.compile": Entry(lambda: wrapped(torch.compile)),
    "trivial subclass": Entry(lambda: Dense(Renamed())),
    "learned tau and threshold": Entry(lambda: loop_with(Learned())),
    "subclass that scales its input": Entry(lambda: Dense(Scaled())),
    "counters": Entry(Counting),
    "words": Entry(TextNet, (6, 3), "TN", "tokens"),
    "spikes added": Entry(Residual, (4, 3, 2, 8, 8), "TN..."),
    "blocks": Entry(
        lambda: nn.Sequential(
            sj2onnx.BlockContainer(nn.Linear(20, 12, bias=False), neuron.ParametricLIFNode(decay_input=False)),
            sj2onnx.BlockContainer(nn.Linear(12, 4, bias=False), neuron.IFNode()),
        )
    ),
    "dropout and votes": Entry(
        lambda: multi_step(nn.Sequential(layer.Linear(20, 10), layer.Dropout(0.3), neuron.LIFNode(), layer.VotingLayer(5)))
    ),
}
