"""From a trained network of plain layers to one of BlockContainers, on grids that fit it, ready for fine-tuning."""

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from spikingjelly.activation_based import base, functional, neuron, surrogate
from torch import nn

from .blocks import BlockContainer, SumPool2d
from .cuba_neuron import CubaLIFNode
from .errors import BlockError
from .fold_layers import Synapse, fold_norm, fold_pool_before, fold_pool_behind, pool_window

__all__ = ["to_blocks"]

_HIGHEST_WEIGHT, _HIGHEST_BIAS, _HIGHEST_MANTISSA, _HIGHEST_SCALE = 254, 4095, 131071, 2**18
_CANDIDATES = [2 ** (quarter / 4) for quarter in range(-4, 6)]  # of the scale at which the largest weight just fits
_TRIED = 4  # candidates that are compared by their spikes

_Norm = nn.modules.batchnorm._BatchNorm
_Plain = (nn.Conv2d, nn.Linear, _Norm, nn.AvgPool2d, nn.MaxPool2d, nn.Flatten, nn.Dropout, nn.Dropout2d, nn.Identity)
_Passing = (nn.Dropout, nn.Dropout2d, nn.Identity)


@dataclass(eq=False)
class _Stage:
    """A module in the order of the data.

    Args:
        path: of the module in the network.
        module: itself.
        source: what it reads, None for the network's input or anything that no module made.
        x: what it read from there, where that was looked at.
        y: what it made of it.
        codes: whether it reads images, or what was made of them before there were any spikes: the host runs it.
    """

    path: str
    module: nn.Module
    source: "_Stage | None" = None
    x: torch.Tensor | None = None
    y: torch.Tensor | None = None
    codes: bool = False

    @property
    def name(self) -> str:
        """For messages."""
        return f"The module {self.path!r} ({type(self.module).__name__})"


def to_blocks(net: nn.Module, calibration: torch.Tensor | None = None) -> nn.Module:
    """A copy of ``net`` in which every synapse with its neurons is a :class:`BlockContainer`: the recommended way to Loihi.

    Train a network of SpikingJelly's usual layers first, turn it into blocks, train these for a few more epochs at a tenth of the
    learning rate, and export. Each block gets a scale of its own, at which its weights use their 8 bits.

    What becomes a block is a convolution or a fully connected layer, with bias or without, batch normalisation and average
    pooling beside it, which are folded into its weights, and IF, LIF or ParametricLIF neurons with hard reset: ``v_reset`` other
    than 0 becomes part of the threshold, ``decay_input`` part of the weights, a learned time constant a fixed decay. Max pooling
    of spikes becomes a block that fires where any of its inputs did, average pooling with neurons of its own one of
    :class:`SumPool2d`. The surrogate functions stay. The spikes are those of ``net`` but for the rounding of weights.

    What else there is stays as it is: Flatten, Dropout, what comes behind the last neurons, and, if ``calibration`` is not made
    of whole numbers, the layer that turns it into spikes, which Loihi leaves to its host.

    Args:
        net: a trained network in step mode ``"m"``; it is not changed.
        calibration: input as the network will see it, ``[T, N, *]``, some samples. Without it modules are taken to run in the
            order in which they were made, and scales are chosen by the weights alone; with it by the spikes that they change.

    Returns:
        The network of blocks, in training mode where ``net`` is.

    Raises:
        BlockError: something has no counterpart on Loihi; names the module.
    """
    training = net.training
    made = copy.deepcopy(net)
    functional.reset_net(made)
    for path, module in made.named_modules():
        if isinstance(module, base.StepModule) and not isinstance(module, BlockContainer) and module.step_mode != "m":
            raise BlockError(
                f"The module {path!r} ({type(module).__name__}) works step by step, and blocks are made of layers that see all "
                "time steps: call functional.set_step_mode(net, 'm') first."
            )
    stages = _listed(made) if calibration is None else _traced(made, calibration)
    for stage in stages:
        if isinstance(stage.module, neuron.BaseNode):
            _convert_neurons(made, stage, calibrated=calibration is not None)
        elif isinstance(stage.module, nn.MaxPool2d):
            _convert_max_pool(made, stage)
    functional.reset_net(made)
    return made.train(training)


def _parts(net: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    inside = "\0"
    for path, module in net.named_modules():
        if path.startswith(inside):
            continue
        if isinstance(module, neuron.BaseNode | BlockContainer):
            inside = f"{path}."
        if isinstance(module, (*_Plain, neuron.BaseNode)):
            yield path, module


def _listed(net: nn.Module) -> list[_Stage]:
    stages: list[_Stage] = []
    for path, module in _parts(net):
        stages.append(_Stage(path, module, stages[-1] if stages else None))
    return stages


@torch.no_grad()
def _traced(net: nn.Module, calibration: torch.Tensor) -> list[_Stage]:
    """Modules as the data pass them, and what passes."""
    stages: list[_Stage] = []
    made_by: dict[int, _Stage] = {}
    hooks = []
    images = bool((calibration % 1).any())

    def keep(path: str, module: nn.Module) -> object:
        def hook(module: nn.Module, args: tuple[torch.Tensor, ...], y: torch.Tensor) -> None:
            if any(stage.module is module for stage in stages):
                raise BlockError(
                    f"The module {path!r} ({type(module).__name__}) is called more than once, but a block has its own weights: "
                    "use a copy of it in each place."
                )
            source = made_by.get(id(args[0]))
            first = not any(isinstance(each.module, neuron.BaseNode | BlockContainer) for each in stages)
            codes = source.codes and not isinstance(source.module, neuron.BaseNode) if source else images and first
            stage = _Stage(path, module, source, args[0], y, codes)
            stages.append(stage)
            made_by[id(y)] = stage

        return hook

    for path, module in _parts(net):
        hooks.append(module.register_forward_hook(keep(path, module)))  # type: ignore[arg-type]
    try:
        net.eval()
        net(calibration)
    finally:
        for each in hooks:
            each.remove()
        functional.reset_net(net)
    return stages


def _convert_neurons(net: nn.Module, stage: _Stage, calibrated: bool) -> None:
    if stage.codes:
        return
    chain = _chain(stage)
    synapses = [part for part in chain if isinstance(part.module, nn.Conv2d | nn.Linear)]
    if not chain or len(synapses) > 1 or (not synapses and not isinstance(chain[0].module, nn.AvgPool2d)):
        raise BlockError(
            f"{stage.name} reads what is not the sums of one synapse alone, which no block does: put one Conv2d or Linear before "
            "it, and leave residual sums to onnx2lava.quantize."
        )
    first = chain[0]
    if first.x is not None and bool((first.x % 1).any()):
        raise BlockError(
            f"{first.name} reads what is neither spikes nor whole numbers of them: let modules do what lies before it, such as "
            "layer.AvgPool2d, or put factors into its weights."
        )
    try:
        node, factor, threshold = _dynamics(stage.module)
        if not synapses:
            block = _pool_block(chain, stage.module, node, threshold / factor)
            place = first
        else:
            block = _fitted(_folded(chain).times(factor), stage, first, node, threshold, calibrated)
            place = synapses[0]
    except BlockError as error:
        raise BlockError(f"{stage.name} does not become part of a block: {error}") from error
    for part in (*chain, stage):
        _replace(net, part.path, nn.Identity())
    # A flattened pool moves behind the flattening, and the block with it.
    _replace(net, place.path, block)


def _chain(stage: _Stage) -> list[_Stage]:
    """The modules between the last spikes and these neurons, in the order of the data."""
    chain: list[_Stage] = []
    seen = False
    part = stage.source
    while part is not None and not isinstance(part.module, neuron.BaseNode | nn.MaxPool2d):
        module = part.module
        if isinstance(module, nn.Conv2d | nn.Linear):
            seen = True
        if isinstance(module, nn.Conv2d) and not isinstance(module, base.StepModule):
            raise BlockError(f"{part.name} does not see time steps, which a block does: use layer.{type(module).__name__}.")
        if isinstance(module, _Passing) and not isinstance(module, nn.Identity) and not seen:
            raise BlockError(f"{part.name} lies between a synapse and its neurons: put it behind the neurons.")
        if not isinstance(module, (*_Passing, nn.Flatten)):
            chain.insert(0, part)
        part = part.source
    while chain and isinstance(chain[0].module, _Norm):
        raise BlockError(f"{chain[0].name} stands before a synapse, where its shift is no spike: put it behind one.")
    return chain


def _spiking(stage: _Stage) -> _Stage | None:
    """Where the spikes come from that this stage reads; None for the network's input."""
    part = stage.source
    while part is not None and not isinstance(part.module, neuron.BaseNode | nn.MaxPool2d):
        part = part.source
    return part


def _folded(chain: list[_Stage]) -> Synapse:
    """One synapse for all of a chain."""
    position = next(i for i, part in enumerate(chain) if isinstance(part.module, nn.Conv2d | nn.Linear))
    synapse = Synapse.of(chain[position].module)  # type: ignore[arg-type]
    for part in chain[position + 1 :]:
        if isinstance(part.module, _Norm):
            synapse = fold_norm(synapse, part.module)
        else:
            assert isinstance(part.module, nn.AvgPool2d)
            synapse = fold_pool_behind(synapse, part.module)
    for part in reversed(chain[:position]):
        if not isinstance(part.module, nn.AvgPool2d):
            raise BlockError(f"{part.name} stands before a synapse, and only average pooling can be folded there.")
        if part.x is None:
            raise BlockError(f"{part.name} stands before a synapse, and sizes are not known: give calibration input.")
        synapse = fold_pool_before(synapse, part.module, tuple(part.x.shape[2:]))
    return synapse


def _dynamics(module: nn.Module) -> tuple[tuple[float, nn.Module, bool], float, float]:
    """Voltage decay, surrogate and detach_reset; the factor of what arrives; the threshold, counted from the reset.

    Raises:
        BlockError: the neuron has no counterpart on Loihi.
    """
    kinds: dict[type, float] = {neuron.IFNode: 0.0}
    if type(module) is neuron.LIFNode:
        kinds[neuron.LIFNode] = 1 / float(module.tau)  # type: ignore[arg-type]
    elif type(module) is neuron.ParametricLIFNode:
        kinds[neuron.ParametricLIFNode] = float(torch.sigmoid(module.w.detach()))  # type: ignore[arg-type, operator]
    if type(module) not in kinds:
        raise BlockError("of the neurons of plain layers, IFNode, LIFNode and ParametricLIFNode have a counterpart on Loihi.")
    assert isinstance(module, neuron.BaseNode)
    if module.v_reset is None:
        raise BlockError("it resets by subtraction, but Loihi resets to a fixed potential: use v_reset=0.0 and train again.")
    decay = kinds[type(module)]
    factor = decay if getattr(module, "decay_input", False) else 1.0
    return (decay, module.surrogate_function, module.detach_reset), factor, module.v_threshold - module.v_reset


def _neurons(node: tuple[float, nn.Module, bool], threshold: float, scale: int) -> CubaLIFNode:
    """Loihi fires above its threshold, SpikingJelly at it: the largest whole number below."""
    mantissa = max(0, math.ceil(round(threshold * scale, 9)) - 1)
    exact = mantissa / scale
    decay, surrogate_function, detach_reset = node
    return CubaLIFNode(
        1.0,
        decay,
        exact if int(exact * scale) == mantissa else (mantissa + 0.5) / scale,
        scale=scale,
        surrogate_function=surrogate_function,
        detach_reset=detach_reset,
        step_mode="m",
    )


def _fitted(
    synapse: Synapse, stage: _Stage, first: _Stage, node: tuple[float, nn.Module, bool], threshold: float, calibrated: bool
) -> BlockContainer:
    """The synapse and its neurons on the grid that changes fewest spikes, of a few that change the weights least."""
    if threshold <= 0:
        raise BlockError(f"its threshold lies {threshold:g} above its reset, and Loihi's is never negative: use a higher one.")
    if not synapse.weight.isfinite().all() or not synapse.bias.isfinite().all():
        raise BlockError("its weights are not finite: train again with a smaller learning rate.")
    # Of equals the largest, at which a threshold between whole numbers is missed by least, and training finds the most weights.
    candidates = sorted(_scales(synapse, threshold), key=lambda scale: (_error(synapse, threshold, scale), -scale))
    if not calibrated:
        candidates = candidates[:1]
    found: list[tuple[float, BlockContainer]] = []
    for scale in candidates[:_TRIED]:
        block = BlockContainer(synapse.module(), _neurons(node, threshold, scale))
        differ = 0.0
        if calibrated:
            assert first.x is not None
            assert stage.y is not None
            with torch.no_grad():
                x = first.x.flatten(2) if synapse.weight.dim() == 2 else first.x
                differ = float((block(x) != stage.y).sum())
            functional.reset_net(block)
        found.append((differ, block))
    return min(found, key=lambda each: each[0])[1]


def _scales(synapse: Synapse, threshold: float) -> set[int]:
    """Whole scales at which threshold and biases fit into their registers, and nearly all weights do.

    Powers of two are among them: what was trained on such a grid, or was made of it, stays as it is.
    """
    largest = float(synapse.weight.abs().max())
    bound = min(_HIGHEST_SCALE, _HIGHEST_MANTISSA / threshold)
    if synapse.bias.any():
        bound = min(bound, _HIGHEST_BIAS / float(synapse.bias.abs().max()))
    if bound < 1:
        raise BlockError(
            "its threshold or a bias is so much larger than 1 that no scale fits it: divide its weights and threshold."
        )
    fits = _HIGHEST_WEIGHT / largest if largest else bound
    fitting = {max(1, min(int(bound), round(fits * factor))) for factor in _CANDIDATES}
    return fitting | {2**exponent for exponent in range(19) if fits / 16 <= 2**exponent <= min(bound, 2 * fits)}


def _error(synapse: Synapse, threshold: float, scale: int) -> float:
    """How far weights, biases and threshold are from their grid, relative to them."""
    whole = (synapse.weight * (scale / 2)).round().clamp(-128, 127) * 2 / scale
    bias = (synapse.bias * scale).round() / scale
    size = float(synapse.weight.norm()) or 1.0
    weights = float((whole - synapse.weight).norm()) / size
    return weights + (float((bias - synapse.bias).abs().max()) + math.ceil(threshold * scale) / scale - threshold) / threshold


def _pool_block(chain: list[_Stage], module: nn.Module, node: tuple[float, nn.Module, bool], threshold: float) -> BlockContainer:
    """Average pooling with neurons: the sum reaches so many times the threshold."""
    if len(chain) != 1:
        raise BlockError("it has more than one pool and no synapse before it: give each pool neurons of its own.")
    kernel, stride = pool_window(chain[0].module)  # type: ignore[arg-type]
    scale = 2
    while scale < _HIGHEST_WEIGHT // 2 and (threshold * kernel[0] * kernel[1] * scale) % 1:
        scale *= 2
    return BlockContainer(SumPool2d(kernel, stride), _neurons(node, threshold * kernel[0] * kernel[1], scale))


def _convert_max_pool(net: nn.Module, stage: _Stage) -> None:
    if stage.codes:
        return
    source = _spiking(stage)
    if stage.source is not source and any(not isinstance(part.module, _Passing) for part in _chain(stage)):
        raise BlockError(
            f"{stage.name} takes the largest of sums, which no synapse of Loihi does: put it behind the neurons, or use "
            "AvgPool2d."
        )
    kernel, stride = pool_window(stage.module)  # type: ignore[arg-type]
    surrogate_function = getattr(source.module, "surrogate_function", None) if source else None
    # It forgets everything from step to step, and fires above 0.
    fires = CubaLIFNode(
        1.0,
        1.0,
        0.0,
        scale=2,
        surrogate_function=surrogate.ATan() if surrogate_function is None else surrogate_function,
        detach_reset=True,
        step_mode="m",
    )
    _replace(net, stage.path, BlockContainer(SumPool2d(kernel, stride), fires))


def _replace(net: nn.Module, path: str, module: nn.Module) -> None:
    parent, _, name = path.rpartition(".")
    if not path:
        raise BlockError("The network is a single layer: put it into an nn.Sequential.")
    setattr(net.get_submodule(parent), name, module)
