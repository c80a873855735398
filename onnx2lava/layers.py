"""Layers as a file has them, before lowering: whatever is applied to spikes, in order, and the neuron that reads the result.

Lowering turns them, pass by pass, into the blocks of :mod:`onnx2lava.network`: one synapse and one neuron each.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from .errors import ConversionError, NetworkError
from .network import Array, CubaNeuron, FloatNeuron, Shape

__all__ = [
    "Affine",
    "AveragePool",
    "Convolution",
    "Layer",
    "Linear",
    "MaxPool",
    "Pads",
    "RealCubaNeuron",
    "SpikingNeuron",
    "Step",
    "column",
    "windows",
]

Pads: TypeAlias = tuple[int, int, int, int]
"""Zeros added at the top, left, bottom and right, as ONNX orders them. Negative ones take away."""


@dataclass(frozen=True, eq=False)
class Convolution:
    """A two-dimensional convolution; its two sides may be padded differently.

    Args:
        weight: ``[O, I / groups, kh, kw]``.
        stride: along height and width.
        pads: zeros around the input.
        dilation: along height and width.
        groups: blocks of channels that do not see each other.
        bias: one number per channel, ``[O]``.
    """

    weight: Array
    stride: tuple[int, int] = (1, 1)
    pads: Pads = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    bias: Array | None = None

    def output_shape(self, shape: Shape) -> Shape:
        """``(O, H, W)`` of what comes out for an input ``(C, H, W)``."""
        if self.weight.ndim != 4 or self.weight.size == 0:
            raise NetworkError(f"a convolution's weight has the shape {self.weight.shape}, but needs [O, I/groups, kh, kw]")
        outputs, per_group, *kernel = self.weight.shape
        if self.groups < 1 or len(shape) != 3 or shape[0] != per_group * self.groups or outputs % self.groups:
            raise NetworkError(
                f"a convolution with the weight {self.weight.shape} in {self.groups} groups cannot read spikes of the shape "
                f"{shape}"
            )
        return (outputs, *windows(shape[1:], kernel, self.stride, self.pads, self.dilation))


@dataclass(frozen=True, eq=False)
class Linear:
    """A fully connected map. It reads ``(C, H, W)`` flattened in that order.

    Args:
        weight: ``[O, I]``.
        bias: ``[O]``.
    """

    weight: Array
    bias: Array | None = None

    def output_shape(self, shape: Shape) -> Shape:
        """``(O,)``."""
        return (self.weight.shape[0],)


@dataclass(frozen=True, eq=False)
class Affine:
    """``x * factor + shift``: batch normalisation in evaluation, or a bias that stands alone.

    Args:
        factor: broadcast to the shape of ``x``, with as many axes: ``[C, 1, 1]``, ``[1, H, W]``, ``[F]``.
        shift: likewise.
    """

    factor: Array
    shift: Array

    def output_shape(self, shape: Shape) -> Shape:
        """The shape that came in."""
        return shape


@dataclass(frozen=True)
class AveragePool:
    """The mean over each window.

    Args:
        kernel: height and width of the window.
        stride: distance between windows.
        pads: zeros around the input.
        ceil: whether a window may begin inside the padded input and end outside.
        counts_padding: whether padded zeros count as elements of the window; what lies beyond the padding never does.
    """

    kernel: tuple[int, int]
    stride: tuple[int, int]
    pads: Pads = (0, 0, 0, 0)
    ceil: bool = False
    counts_padding: bool = True

    def output_shape(self, shape: Shape) -> Shape:
        """``(C, H, W)``."""
        return (shape[0], *windows(shape[1:], self.kernel, self.stride, self.pads, (1, 1), self.ceil))


@dataclass(frozen=True)
class MaxPool:
    """The largest element of each window.

    Args:
        kernel: height and width of the window.
        stride: distance between windows.
        pads: places around the input that never win.
        dilation: distance between the elements of a window.
        ceil: whether a window may begin inside the padded input and end outside.
    """

    kernel: tuple[int, int]
    stride: tuple[int, int]
    pads: Pads = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)
    ceil: bool = False

    def output_shape(self, shape: Shape) -> Shape:
        """``(C, H, W)``."""
        return (shape[0], *windows(shape[1:], self.kernel, self.stride, self.pads, self.dilation, self.ceil))


Step: TypeAlias = Convolution | Linear | Affine | AveragePool | MaxPool


@dataclass(frozen=True)
class SpikingNeuron:
    """SpikingJelly's integrate-and-fire neurons, with leak or without; equations in ``custom_ops/operators/lif.py``.

    Args:
        v_threshold: the membrane potential from which on the neuron fires.
        v_reset: the potential after a spike, and that to which it leaks; None for a soft reset, which subtracts the threshold.
        decay: 1 / tau, the share that leaks in a time step; 0 for IF.
        decay_input: whether the input leaks as well.
    """

    v_threshold: float
    v_reset: float | None
    decay: float = 0.0
    decay_input: bool = False


@dataclass(frozen=True)
class RealCubaNeuron:
    """A CUBA neuron that reads real numbers; equations in ``custom_ops/operators/cuba_lif_node.py``.

    Args:
        i_decay: decay of the current, 0 ... 4096, in units of 1/4096 per time step.
        v_decay: decay of the voltage, likewise.
        scale: weight units in 1.0; a state unit is 1/64 of one.
        lowest: the lowest voltage that fires, in state units.
    """

    i_decay: int
    v_decay: int
    scale: int
    lowest: int


@dataclass(frozen=True, eq=False)
class Layer:
    """What happens to spikes until there are new spikes.

    Args:
        name: module path in the network it was trained as.
        node: the node that gives the new spikes, as messages name it.
        source: name of the layer whose spikes come in, or the network's input.
        input_shape: their shape, ``(C, H, W)`` or ``(F,)``.
        steps: what is applied to them, in order.
        neuron: what turns the result into spikes; None where the last step, a MaxPool of spikes, gives spikes itself.
        bias: of an integer neuron, added to its voltage at every step, one whole number per channel.
        recurrent: ``[F, F]``, through which the new spikes of the step before are added to the result; None without feedback.
        late: time steps that the spikes need to come in.
    """

    name: str
    node: str
    source: str
    input_shape: Shape
    steps: tuple[Step, ...]
    neuron: SpikingNeuron | FloatNeuron | CubaNeuron | None
    bias: Array | None = None
    recurrent: Array | None = None
    late: int = 0

    @property
    def shape(self) -> Shape:
        """The shape of the new spikes."""
        shape = self.input_shape
        for step in self.steps:
            shape = step.output_shape(shape)
        return shape

    def refusal(self, reason: str, remedy: str) -> ConversionError:
        """The error that says why this layer cannot be converted."""
        return ConversionError(f"Cannot convert {self.node}: {reason}; {remedy}.")


def windows(
    size: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    pads: Sequence[int],
    dilation: Sequence[int],
    ceil: bool = False,
) -> tuple[int, int]:
    """How many windows fit along height and width.

    Raises:
        NetworkError: none fits, or a number among them makes no sense.
    """
    if min(*stride, *dilation, *kernel) < 1:
        raise NetworkError("a kernel, stride or dilation is below 1")
    counts = []
    for axis in range(2):
        padded = size[axis] + pads[axis] + pads[axis + 2]
        room = padded - dilation[axis] * (kernel[axis] - 1) - 1
        count = room // stride[axis] + 1
        # torch and onnxruntime drop a window that would begin beyond the input and its first padding.
        if ceil and room % stride[axis] and count * stride[axis] < size[axis] + pads[axis]:
            count += 1
        if room < 0 or count < 1:
            raise NetworkError(f"a kernel of {list(kernel)} is larger than its padded input of {list(size)}")
        counts.append(count)
    return counts[0], counts[1]


def column(values: Array, axes: int) -> Array:
    """One number per channel, to be broadcast to a shape of so many axes."""
    return np.asarray(values).reshape(-1, *[1] * (axes - 1))
