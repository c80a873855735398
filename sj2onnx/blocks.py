"""Trainable blocks of one synapse and one neuron layer in Loihi's whole numbers, without Lava."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from spikingjelly.activation_based import base, lava_exchange, neuron
from torch import nn
from torch.nn.modules.utils import _pair

from .cuba_memory import UNITY
from .cuba_neuron import CubaLIFNode
from .errors import BlockError
from .quantised_norm import folded_weight

__all__ = ["BlockContainer", "SumPool2d", "numeric_padding", "synaptic_sum"]


class SumPool2d(nn.Module):
    """Sum pooling: average pooling without the division, ``[*, C, H, W]`` → ``[*, C, H', W']``.

    The input has a batch axis, ``[N, C, H, W]``, or time and batch, ``[T, N, C, H, W]``, as SpikingJelly's layers in step mode
    ``"m"`` take it.

    Args:
        kernel_size: height and width of the window, or one number for both.
        stride: distance between windows; the kernel size by default.
        padding: zeros around the input.
        dilation: distance between the elements of a window.
    """

    def __init__(
        self,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] | None = None,
        padding: int | tuple[int, int] = 0,
        dilation: int | tuple[int, int] = 1,
    ) -> None:
        super().__init__()
        self.kernel_size: tuple[int, int] = _pair(kernel_size)
        self.stride: tuple[int, int] = self.kernel_size if stride is None else _pair(stride)
        self.padding: tuple[int, int] = _pair(padding)
        self.dilation: tuple[int, int] = _pair(dilation)
        # A buffer, so that it moves with the module; constant, so that it stays out of the state dict.
        self.register_buffer("weight", torch.ones(1, 1, *self.kernel_size), persistent=False)
        self.weight: torch.Tensor

    def extra_repr(self) -> str:
        """What ``print`` shows."""
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}, dilation={self.dilation}"

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``x`` ``[N, C, H, W]`` or ``[T, N, C, H, W]`` → the sum over each window, with the same leading axes.

        Raises:
            BlockError: ``x`` has another number of axes.
        """
        if x.dim() not in (4, 5):
            raise BlockError(
                f"SumPool2d takes [N, C, H, W] or [T, N, C, H, W], but got the shape {list(x.shape)}: add the missing axes."
            )
        sums = synaptic_sum(self, x.flatten(0, -4), self.weight)
        return sums.reshape(*x.shape[:-3], *sums.shape[1:])


@dataclass(frozen=True, eq=False)
class BlockIntegers:
    """A block with neurons as Loihi runs it.

    Args:
        weight: even numbers in -256 … 254, int16, laid out as :meth:`BlockContainer.integer_weight` says.
        bias: bias mantissa in -4096 … 4095, float32 ``[C, 1, 1]``, where a norm of one channel stands for all, or, for Linear,
            ``[F]``; None for none.
        neuron: ``i_decay``, ``v_decay`` and ``v_threshold``, attributes of ``snn.CubaLIF``.
    """

    weight: torch.Tensor
    bias: torch.Tensor | None
    neuron: dict[str, int]


class BlockContainer(nn.Module, base.StepModule):  # type: ignore[misc]
    """A synapse and a neuron layer that train quantised and spike exactly as they will on Loihi.

    The forward pass uses weights of 8 bits (even whole numbers in -256 … 254 in units of ``1 / scale``) and the neuron's
    whole-number dynamics; gradients pass straight through. The spikes are those of the block of
    ``lava.lib.dl.slayer.block.cuba`` with the same weights, without its delay.

    It is the ``BlockContainer`` of SpikingJelly's ``lava_exchange`` as its tutorial shows it, and unlike that one keeps the
    surrogate function and ``detach_reset`` of an IFNode or LIFNode when it converts it, and quantises sum pooling as Lava-DL
    does.

    Args:
        synapse: ``nn.Conv2d``, ``nn.Linear`` (or SpikingJelly's ``layer.Conv2d``, ``layer.Linear``), :class:`SumPool2d`, or
            ``nn.Flatten`` without a neuron. String padding is replaced by its numbers. A bias is rounded to whole weight units in
            -4096 … 4095 and added to the voltage at every step; the neuron's current decays at once then (IF, LIF or
            ``current_decay=1.0``), and has no norm.
        neu: IFNode, or LIFNode or ParametricLIFNode with ``decay_input=False``, all with ``v_reset=0`` and the attribute
            ``lava_s_cale`` as scale (64 unless it is changed); CubaLIFNode, behind Conv2d and SumPool2d also with SpikingJelly's
            quantised BatchNorm2d as its ``norm``; None for Flatten. What is not yet a :class:`sj2onnx.CubaLIFNode` becomes one.
        step_mode: ``"m"`` for inputs ``[T, N, *]``, ``"s"`` for one step ``[N, *]`` with states kept from call to call
            (``functional.reset_net`` resets them).

    Attributes:
        synapse: the synapse, with its real-valued weights.
        neuron: the :class:`sj2onnx.CubaLIFNode`, or None for Flatten.

    Raises:
        BlockError: the synapse or the neuron is something that Loihi's blocks cannot express.
    """

    def __init__(self, synapse: nn.Module, neu: nn.Module | None, step_mode: str = "m") -> None:
        super().__init__()
        _check_synapse(synapse)
        self.synapse = synapse
        self.neuron: CubaLIFNode | None = None
        if isinstance(synapse, nn.Flatten):
            if neu is not None:
                raise BlockError(f"Flatten has no weights to feed a {type(neu).__name__} with: give None as its neuron.")
        else:
            self.neuron = _as_cuba(neu)
            self.neuron.device_params  # noqa: B018  (refuses parameters that the chip has no number for)
            _check_norm(synapse, self.neuron)
            _check_bias(synapse, self.neuron)
        self.step_mode = step_mode

    @property
    def step_mode(self) -> str:
        """``"s"`` or ``"m"``."""
        return self._step_mode

    @step_mode.setter
    def step_mode(self, value: str) -> None:
        if value not in ("s", "m"):
            raise BlockError(f"step_mode is {value!r}, but a block works in single steps or in many: use 's' or 'm'.")
        self._step_mode = value
        for part in (self.synapse, self.neuron):
            if isinstance(part, base.StepModule):
                part.step_mode = value

    @property
    def _weight(self) -> torch.Tensor:
        weight = self.synapse.weight
        assert isinstance(weight, torch.Tensor)
        return weight

    def integer_weight(self) -> torch.Tensor:
        """The synapse's weight in weight units, int16: even numbers in -256 … 254, laid out as torch does; without a norm.

        ``[out, in / groups, h, w]`` for Conv2d, ``[out, in]`` for Linear, ``[1, 1, h, w]`` for SumPool2d (all channels).

        Raises:
            BlockError: a weight is NaN or infinite, or the block is a Flatten, which has none.
        """
        if self.neuron is None:
            raise BlockError("A Flatten block has no weight.")
        weight = self._weight.detach()
        if not weight.isfinite().all():
            raise BlockError(f"The weight of {self.synapse} holds NaN or infinity: train again with a smaller learning rate.")
        return self.neuron.whole_weight(weight).to(torch.int16)

    def integers(self) -> BlockIntegers:
        """The block in Loihi's whole numbers, a norm folded in by its running statistics.

        Raises:
            BlockError: Loihi has no numbers for it, or the block is a Flatten; see also :meth:`integer_weight`.
        """
        weight = self.integer_weight()
        assert self.neuron is not None
        params = self.neuron.device_params
        folded = self.neuron.folded_norm
        bias = getattr(self.synapse, "bias", None)
        if bias is not None:
            _check_bias(self.synapse, self.neuron)  # a learned decay may have changed
            if not bias.isfinite().all():
                raise BlockError(f"The bias of {self.synapse} holds NaN or infinity: train again with a smaller learning rate.")
            whole = self.neuron.whole_bias(bias.detach())
            return BlockIntegers(weight, whole if weight.dim() == 2 else whole.view(-1, 1, 1), params)
        if folded is None:
            return BlockIntegers(weight, None, params)
        self.neuron.require_one_meaning(folded)
        weight = folded_weight(weight, folded)
        bias = folded.bias.to(torch.float32).view(-1, 1, 1)
        return BlockIntegers(weight, bias if bias.any() else None, params | {"v_threshold": folded.v_threshold})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Spikes, float32.

        Args:
            x: spikes or counts, ``[T, N, C, H, W]`` for Conv2d and SumPool2d, ``[T, N, F]`` for Linear, ``[T, N, *]`` for
                Flatten; without T in step mode ``"s"``. Real values work too: synaptic sums are rounded to whole weight units.

        Raises:
            BlockError: ``x`` has another number of axes.
        """
        time_axes = int(self.step_mode == "m")
        if self.neuron is None:
            return x.flatten(1 + time_axes)
        axes = time_axes + (2 if isinstance(self.synapse, nn.Linear) else 4)
        if x.dim() != axes:
            raise BlockError(
                f"{type(self.synapse).__name__} in step mode {self.step_mode!r} takes an input of {axes} axes, but got "
                f"the shape {list(x.shape)}: check the step mode, or put a Flatten block in between."
            )
        # Whole numbers up to 2**24 need float32; half precision would round the sums.
        with torch.autocast(x.device.type, enabled=False):
            weight = self.neuron.whole_weight(self._weight)
            bias = getattr(self.synapse, "bias", None)
            bias = None if bias is None else self.neuron.whole_bias(bias)
            sums = synaptic_sum(self.synapse, x.to(torch.float32).flatten(0, time_axes), weight, bias)
            sums = sums.view(*x.shape[: 1 + time_axes], *sums.shape[1:])
            # Of the sums themselves nothing needs to be kept.
            spikes: torch.Tensor = self.neuron(sums, weight_units=True, disposable=True, bias=bias)
        return spikes


def synaptic_sum(synapse: nn.Module, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """What arrives at the neurons for ``x`` ``[N, *]`` if ``synapse`` had these weights.

    Args:
        synapse: Conv2d, Linear or SumPool2d.
        x: spikes, ``[N, C, H, W]`` or, for Linear, ``[*, F]``.
        weight: laid out as :meth:`BlockContainer.integer_weight` says.
        bias: one for each channel, for Conv2d and Linear.
    """
    if isinstance(synapse, nn.Linear):
        return F.linear(x, weight, bias)
    if isinstance(synapse, SumPool2d):
        channels = x.shape[1]
        weight = weight.expand(channels, -1, -1, -1)
        return F.conv2d(x, weight, None, synapse.stride, synapse.padding, synapse.dilation, channels)
    assert isinstance(synapse, nn.Conv2d)
    return F.conv2d(x, weight, bias, synapse.stride, synapse.padding, synapse.dilation, synapse.groups)


def _check_synapse(synapse: nn.Module) -> None:
    name = type(synapse).__name__
    if isinstance(synapse, nn.Flatten):
        if synapse.start_dim != 1 or synapse.end_dim != -1:
            raise BlockError(
                f"Flatten from axis {synapse.start_dim} to {synapse.end_dim} cannot be expressed, since Lava flattens all "
                "axes of a sample: use start_dim=1 and end_dim=-1."
            )
        return
    if isinstance(synapse, nn.AvgPool2d):
        raise BlockError("AvgPool2d divides, which no synapse of Loihi does: use sj2onnx.SumPool2d and a higher threshold.")
    if not isinstance(synapse, (nn.Conv2d, nn.Linear, SumPool2d)):
        raise BlockError(f"{name} is not a synapse that a block can hold: use Conv2d, Linear, SumPool2d or Flatten.")
    if isinstance(synapse, nn.Conv2d):
        synapse.padding = numeric_padding(synapse)


def _check_bias(synapse: nn.Module, node: CubaLIFNode) -> None:
    if getattr(synapse, "bias", None) is None:
        return
    name = type(synapse).__name__
    if node.norm is not None:
        raise BlockError(f"The {name} has a bias, and its neuron a norm, which takes it away again: make it with bias=False.")
    i_decay = node.device_params["i_decay"]
    if i_decay != UNITY:
        raise BlockError(
            f"The {name} has a bias, which Loihi adds to the voltage, and the current decays by {i_decay} / {UNITY}, so that "
            "SpikingJelly would add it up: use current_decay=1.0, or bias=False."
        )


def _check_norm(synapse: nn.Module, node: CubaLIFNode) -> None:
    if node.norm is None:
        return
    if isinstance(synapse, nn.Linear):
        raise BlockError("The CubaLIFNode behind a Linear has a norm, which normalises images: use norm=None.")
    channels = node.norm.running_mean.numel()
    if isinstance(synapse, nn.Conv2d) and channels not in (1, synapse.out_channels):
        raise BlockError(
            f"The norm has {channels} channels, but the Conv2d {synapse.out_channels}: use BatchNorm2d({synapse.out_channels})."
        )


def numeric_padding(conv: nn.Conv2d) -> tuple[int, int]:
    """Zeros around the input, above and left.

    Raises:
        BlockError: it pads with something else, or with one zero more on one side.
    """
    if conv.padding_mode != "zeros":
        raise BlockError(f"The Conv2d pads with padding_mode={conv.padding_mode!r}, but only silence can be padded: use 'zeros'.")
    if not isinstance(conv.padding, str):
        height, width = conv.padding
        return height, width
    if conv.padding == "valid":
        return 0, 0
    height, width = (d * (k - 1) for d, k in zip(conv.dilation, conv.kernel_size, strict=True))
    if height % 2 or width % 2:
        raise BlockError(
            f"padding='same' for the kernel size {conv.kernel_size} and dilation {conv.dilation} needs one more zero on one side "
            "than on the other, which NetX cannot say: use numbers, or a kernel of odd size."
        )
    return height // 2, width // 2


def _as_cuba(neu: nn.Module | None) -> CubaLIFNode:
    """``neu`` as a :class:`CubaLIFNode` with the same dynamics, surrogate function and options."""
    if isinstance(neu, CubaLIFNode):
        return neu
    # By exact type: a subclass has dynamics of its own.
    convert = _CONVERSIONS.get(type(neu))
    if neu is None or convert is None:
        known = ", ".join(kind.__name__ for kind in _CONVERSIONS)
        raise BlockError(f"{type(neu).__name__} has no counterpart on Loihi: use one of {known} as the neuron.")
    if neu.v_reset != 0.0:
        reset = "resets by subtraction" if neu.v_reset is None else f"resets to {neu.v_reset}"
        raise BlockError(f"The {type(neu).__name__} {reset}, but Loihi resets to 0: use v_reset=0.0.")
    return convert(neu)


def _from_if(neu: neuron.IFNode) -> CubaLIFNode:
    return _converted(neu, 1.0, 0.0, neu.lava_s_cale)


def _from_lif(neu: neuron.LIFNode) -> CubaLIFNode:
    if neu.decay_input:
        raise BlockError("The LIFNode decays its input, which Loihi's neuron does not: use decay_input=False.")
    return _converted(neu, 1.0, 1.0 / neu.tau, neu.lava_s_cale)


def _from_parametric_lif(neu: neuron.ParametricLIFNode) -> CubaLIFNode:
    """Its decay stays learned; the current is kept for no step, as in the neuron itself."""
    if neu.decay_input:
        raise BlockError("The ParametricLIFNode decays its input, which Loihi's neuron does not: use decay_input=False.")
    node = _converted(neu, 1.0, float(neu.w.detach().sigmoid()), neu.lava_s_cale, requires_grad=True)
    node.current_decay.requires_grad_(False)
    return node


def _from_published_cuba(neu: lava_exchange.CubaLIFNode) -> CubaLIFNode:
    node = _converted(neu, 1.0, 0.0, neu.scale, neu.norm)
    # The very tensors, learned or loaded since, which an optimiser may hold already.
    node.requires_grad = neu.requires_grad
    for name in ("current_decay", "voltage_decay"):
        delattr(node, name)
        setattr(node, name, getattr(neu, name)) if neu.requires_grad else node.register_buffer(name, getattr(neu, name))
    node.store_i_seq = neu.store_i_seq
    return node


def _converted(
    neu: neuron.BaseNode,
    current_decay: float,
    voltage_decay: float,
    scale: int,
    norm: lava_exchange.BatchNorm2d | None = None,
    requires_grad: bool = False,
) -> CubaLIFNode:
    return CubaLIFNode(
        current_decay,
        voltage_decay,
        neu.v_threshold,
        scale=scale,
        requires_grad=requires_grad,
        surrogate_function=neu.surrogate_function,
        norm=norm,
        detach_reset=neu.detach_reset,
        store_v_seq=neu.store_v_seq,
    )


_CONVERSIONS: dict[type, Callable[..., CubaLIFNode]] = {
    neuron.IFNode: _from_if,
    neuron.LIFNode: _from_lif,
    neuron.ParametricLIFNode: _from_parametric_lif,
    lava_exchange.CubaLIFNode: _from_published_cuba,
}
