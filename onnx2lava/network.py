"""A network for Loihi as a typed graph: blocks of one synapse and one neuron, and who listens to whom."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx

from .errors import ConversionError, NetworkError

__all__ = [
    "INPUT",
    "OUTPUT",
    "Array",
    "Block",
    "Conv",
    "CubaNeuron",
    "Dense",
    "FloatNeuron",
    "Network",
    "Neuron",
    "Shape",
    "Synapse",
]

Array: TypeAlias = npt.NDArray[Any]
Shape: TypeAlias = tuple[int, ...]

INPUT = "input"
"""The name under which blocks refer to the input of the network; also the input of its ONNX graph."""
OUTPUT = "output"
"""The output of its ONNX graph."""


@dataclass(frozen=True, eq=False)
class Conv:
    """A two-dimensional convolution without bias; sum pooling is one with as many groups as channels.

    Args:
        weight: ``[O, I / groups, kh, kw]``.
        stride: along height and width, at least 1.
        padding: zeros added on both sides along height and width.
        dilation: along height and width, at least 1.
        groups: blocks of channels that do not see each other.
    """

    weight: Array
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1

    @property
    def weights(self) -> Array:
        """All of them, as they are."""
        return self.weight

    def output_shape(self, input_shape: Shape) -> Shape:
        """``(C, H, W)`` of the sums for an input of the shape ``input_shape``."""
        if self.weight.ndim != 4 or self.weight.size == 0:
            raise NetworkError(f"a convolution's weight has the shape {self.weight.shape}, but needs [O, I/groups, kh, kw]")
        if min(*self.stride, *self.dilation, self.groups) < 1 or min(self.padding) < 0:
            raise NetworkError("a convolution has a stride, dilation or groups below 1, or a negative padding")
        outputs, per_group, *kernel = self.weight.shape
        if len(input_shape) != 3 or input_shape[0] != per_group * self.groups or outputs % self.groups:
            raise NetworkError(
                f"a convolution with the weight {self.weight.shape} in {self.groups} groups cannot read spikes of the shape "
                f"{input_shape}"
            )
        size = tuple(
            (length + 2 * pad - dilate * (k - 1) - 1) // step + 1
            for length, k, step, pad, dilate in zip(
                input_shape[1:], kernel, self.stride, self.padding, self.dilation, strict=True
            )
        )
        if min(size) < 1:
            raise NetworkError(f"a kernel of {kernel} is larger than its padded input of the shape {input_shape}")
        return (outputs, *size)


@dataclass(frozen=True, eq=False)
class Dense:
    """A fully connected synapse without bias. It reads spikes ``(C, H, W)`` flattened in that order.

    Args:
        weight: ``[O, I]``.
        recurrent: ``[O, O]``, through which the layer's own spikes of the time step before are added to the sums, to the first
            index from the second; None in a layer without feedback.
    """

    weight: Array
    recurrent: Array | None = None

    @property
    def weights(self) -> Array:
        """All of them, ``[O, I]`` or, with feedback, ``[O, I + O]``."""
        return self.weight if self.recurrent is None else np.hstack((self.weight, self.recurrent))

    def output_shape(self, input_shape: Shape) -> Shape:
        """``(F,)`` of the sums for an input of the shape ``input_shape``."""
        if self.weight.ndim != 2 or self.weight.size == 0:
            raise NetworkError(f"a dense weight has the shape {self.weight.shape}, but needs [O, I]")
        if self.weight.shape[1] != prod(input_shape):
            raise NetworkError(f"a dense weight of the shape {self.weight.shape} cannot read spikes of the shape {input_shape}")
        if self.recurrent is not None and self.recurrent.shape != (self.weight.shape[0],) * 2:
            raise NetworkError(
                f"a recurrent weight has the shape {self.recurrent.shape}, but {self.weight.shape[0]} neurons need one from each "
                "to each"
            )
        return (self.weight.shape[0],)


@dataclass(frozen=True)
class CubaNeuron:
    """Loihi's current-based leaky integrate-and-fire neuron; its arithmetic is ``custom_ops.reference.cuba_lif``.

    Args:
        i_decay: decay of the current, 0 ... 4096, in units of 1/4096 per time step.
        v_decay: decay of the voltage, likewise.
        v_threshold: threshold mantissa, 0 ... 131071.
    """

    i_decay: int
    v_decay: int
    v_threshold: int


@dataclass(frozen=True)
class FloatNeuron:
    """A leaky integrate-and-fire neuron in real numbers, in the one form that lowering leaves::

        v[t] = v[t-1] * (1 - v_decay) + a[t] + bias
        s[t] = v[t] >= v_threshold;    v[t] = 0 where s[t]

    starting from v = 0. SpikingJelly's IF and LIF neurons with hard reset all come down to it.

    Args:
        v_decay: the share of the membrane potential that a time step loses, 0 ... 1.
        v_threshold: threshold, above 0.
    """

    v_decay: float
    v_threshold: float


Synapse: TypeAlias = Conv | Dense
Neuron: TypeAlias = CubaNeuron | FloatNeuron


@dataclass(frozen=True, eq=False)
class Block:
    """A layer: the neurons, the synapse that feeds them, and the layers whose spikes the synapse reads.

    Args:
        name: module path in the network it was trained as.
        synapse: what turns incoming spikes into sums.
        neuron: what turns sums into spikes; all neurons of a layer are alike.
        input_shape: ``(C, H, W)`` or ``(F,)`` of the spikes that come in.
        bias: added to the voltage at every step, ``[C]`` (one per channel) or ``[F]``; for Loihi a mantissa with exponent 6.
        sources: names of earlier blocks, or :data:`INPUT`; with several, their spikes are added before the synapse.
        delay: time steps that the spikes take to the synapse; those that are on their way when the input ends are lost.
    """

    name: str
    synapse: Synapse
    neuron: Neuron
    input_shape: Shape
    bias: Array | None = None
    sources: tuple[str, ...] = (INPUT,)
    delay: int = 0

    @cached_property
    def shape(self) -> Shape:
        """``(C, H, W)`` or ``(F,)`` of the spikes that go out."""
        return self.synapse.output_shape(self.input_shape)

    @property
    def cuba(self) -> CubaNeuron:
        """The neuron, if it is Loihi's.

        Raises:
            ConversionError: it is made of real numbers.
        """
        if not isinstance(self.neuron, CubaNeuron):
            raise ConversionError(f"The block {self.name!r} has a neuron of real numbers: quantise the network first.")
        return self.neuron

    @property
    def synapses(self) -> int:
        """Connections between neurons, those to zeros around the input included: synaptic operations per time step at most."""
        places = prod(self.shape[1:]) if isinstance(self.synapse, Conv) else 1
        return places * int(self.synapse.weights.size)

    @property
    def flattens(self) -> bool:
        """Whether the spikes that come in have to be flattened before the synapse."""
        return isinstance(self.synapse, Dense) and len(self.input_shape) > 1


@dataclass(frozen=True, eq=False)
class Network:
    """Blocks in the order in which spikes pass them, each after its sources. The last one is the output.

    Args:
        name: for the reader.
        input_shape: ``(C, H, W)`` or ``(F,)`` of the spikes that go in.
        blocks: at least one.
        metadata: what the producer says about itself (ONNX metadata).
        encoder: what stays on the host and makes spikes of images; from ``input`` ``[T, N, *]`` to ``output``, the spikes
            ``[T, N, *input_shape]`` that go in. None where spikes go in as they are.
        readout: what stays on the host behind the last spikes, from ``input``, those spikes, to ``output``; None if nothing.
        message_bits: 0 where the input is spikes; else it is counts of events below ``2 ** message_bits`` (graded spikes).

    Raises:
        NetworkError: the blocks do not fit together; the message names the block.
    """

    name: str
    input_shape: Shape
    blocks: tuple[Block, ...]
    metadata: Mapping[str, str] = field(default_factory=dict)
    encoder: onnx.ModelProto | None = None
    readout: onnx.ModelProto | None = None
    message_bits: int = 0

    def __post_init__(self) -> None:
        _validate(self)

    @property
    def output_shape(self) -> Shape:
        """Shape of the spikes of the last block."""
        return self.blocks[-1].shape

    def chain(self) -> tuple[Block, ...]:
        """The blocks, if each of them reads the one before it and nothing else.

        Raises:
            ConversionError: the network branches or merges, which a list of layers cannot say.
        """
        before = INPUT
        for block in self.blocks:
            if block.sources != (before,):
                raise ConversionError(
                    f"The block {block.name!r} reads {', '.join(block.sources)} where a chain of layers has only {before}: NetX "
                    "and slayer's Sequential cannot branch or merge; convert a network without skip connections."
                )
            before = block.name
        return self.blocks


def _validate(network: Network) -> None:
    """The one place where a network is checked: names, sources, shapes and numbers."""
    if not network.blocks:
        raise NetworkError(f"The network {network.name!r} has no spiking layer: there is nothing to convert.")
    if not network.name.isprintable():
        raise NetworkError(f"The network's name {network.name!r} has characters that cannot be shown: rename it.")
    _check_shape(network.input_shape, f"the input of the network {network.name!r}")
    shapes = {INPUT: network.input_shape}
    for block in network.blocks:
        where = f"the block {block.name!r}"
        # The output of the ONNX graph is the last block's, which may therefore have its name.
        if not block.name.isprintable():
            raise NetworkError(f"The name {block.name!r} has characters that cannot be shown: rename the layer.")
        if not block.name or block.name in shapes or (block.name == OUTPUT and block is not network.blocks[-1]):
            raise NetworkError(f"The name {block.name!r} is empty, taken or reserved: give every layer a name of its own.")
        if not block.sources or any(source not in shapes for source in block.sources):
            raise NetworkError(f"In {where}: it reads {block.sources}, which are not all layers before it.")
        for source in block.sources:
            if shapes[source] != block.input_shape:
                raise NetworkError(
                    f"In {where}: it expects spikes of the shape {block.input_shape}, but {source!r} gives {shapes[source]}."
                )
        try:
            shape = block.shape
        except NetworkError as error:
            raise NetworkError(f"In {where}: {error}.") from error
        _check_shape(shape, where)
        _check_numbers(block.synapse.weights, f"the weight of {where}")
        if block.delay < 0:
            raise NetworkError(f"In {where}: its spikes are {block.delay} steps late, which is below 0.")
        if block.bias is not None:
            if block.bias.shape != shape[:1]:
                raise NetworkError(f"In {where}: the bias has the shape {block.bias.shape}, but needs {shape[:1]}.")
            _check_numbers(block.bias, f"the bias of {where}")
        shapes[block.name] = shape


def _check_shape(shape: Shape, where: str) -> None:
    if len(shape) not in (1, 3) or min(shape) < 1 or prod(shape) >= 2**31:
        raise NetworkError(f"The shape of {where} is {shape}, but spikes come as (C, H, W) or (F,), 1 to 2**31 of them.")


def _check_numbers(values: Array, where: str) -> None:
    if values.dtype.kind not in "iuf":
        raise NetworkError(f"In {where} there are values of the type {values.dtype}, not numbers.")
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise NetworkError(f"In {where} there is a value that is not finite: train again or repair the file.")
