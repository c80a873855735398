"""Build a network from Lava-DL's own blocks. Needs lava-dl (Python 3.10)."""

from typing import TYPE_CHECKING, Any

from ..lava_machine import require_slayer
from ..limits import require_slayer_exact
from ..network import Array, Block, Conv, Network

if TYPE_CHECKING:
    import torch

__all__ = ["SCALE", "to_slayer"]

SCALE = 64
"""Lava-DL's weight scale. Whatever scale a network was trained with: only its integers count, and 1/64 of each is exact."""


def to_slayer(network: Network) -> "torch.nn.Sequential":
    """The network as slayer CUBA blocks that give its spikes, bit by bit, and that ``export_hdf5`` can write.

    The module takes and gives spikes as slayer does, ``[N, *, T]``, without slayer's delay of one step per layer. It equals
    the network while no state leaves 24 bits: slayer has no such bound, where Loihi wraps and clips.

    Args:
        network: Loihi integers, a chain of blocks.

    Spikes that come in late pass a ``slayer.axon.Delay`` before the block, of which ``export_hdf5`` knows nothing.

    Raises:
        ConversionError: the network is not a chain.
        LimitError: its integers do not fit Loihi's ranges, or slayer would run it wrongly.
        RuntimeUnavailableError: lava-dl is not installed.
    """
    require_slayer_exact(network)
    slayer = require_slayer()
    import torch

    modules: list[torch.nn.Module] = []
    for block in network.chain():
        if block.delay:
            modules.append(_delay(slayer, block))
        if block.flattens:
            modules.append(slayer.block.cuba.Flatten())
        modules.append(_block(slayer, block))
    return torch.nn.Sequential(*modules).eval()


def _block(slayer: Any, block: Block) -> Any:
    import torch

    neuron = block.cuba
    parameters = {
        "threshold": neuron.v_threshold / SCALE,
        "current_decay": neuron.i_decay / 4096,
        "voltage_decay": neuron.v_decay / 4096,
        "scale": SCALE,
    }
    if block.bias is not None:
        parameters["norm"] = slayer.neuron.norm.MeanOnlyBatchNorm
    synapse = block.synapse
    if isinstance(synapse, Conv):
        outputs, per_group, *kernel = synapse.weight.shape
        module = slayer.block.cuba.Conv(
            parameters,
            per_group * synapse.groups,
            outputs,
            tuple(kernel),
            stride=synapse.stride,
            padding=synapse.padding,
            dilation=synapse.dilation,
            groups=synapse.groups,
            delay_shift=False,
        )
        _fill(module.synapse, synapse.weight)
    elif synapse.recurrent is None:
        module = slayer.block.cuba.Dense(parameters, synapse.weight.shape[1], synapse.weight.shape[0], delay_shift=False)
        _fill(module.synapse, synapse.weight)
    else:
        module = slayer.block.cuba.Recurrent(parameters, synapse.weight.shape[1], synapse.weight.shape[0], delay_shift=False)
        _fill(module.input_synapse, synapse.weight)
        _fill(module.recurrent_synapse, synapse.recurrent)
        module.register_forward_pre_hook(_from_rest)
    if block.bias is not None:
        # slayer's bias is the negative mean of a batch norm, which would be rounded to even 8-bit numbers like a weight.
        module.neuron.norm.running_mean = -torch.from_numpy(block.bias).to(torch.float32) / SCALE
        module.neuron.norm.num_features = len(block.bias)
        module.neuron.norm.pre_hook_fx = _unrounded
    # Loihi fires above the threshold, slayer from it on: one unit of the state more. Whole, since slayer's kernel for GPUs cuts
    # the threshold to whole units; slayer's own 0.01 units vanish there, and on the CPU in float32 at thresholds above about 40.
    module.neuron.threshold_eps = 1 / module.neuron.s_scale
    # The shapes are known; slayer itself finds them in a first forward pass, which `export_hdf5` would need otherwise.
    module.neuron.shape = torch.Size(block.shape)
    return module


def _fill(synapse: Any, weight: Array) -> None:
    import torch

    with torch.no_grad():
        synapse.weight.copy_(torch.from_numpy(weight).to(torch.float32).reshape(synapse.weight.shape) / SCALE)


def _delay(slayer: Any, block: Block) -> Any:
    import torch

    module = slayer.axon.Delay()
    module.delay = torch.nn.Parameter(torch.full(block.input_shape[:1], float(block.delay)), requires_grad=False)
    module.init = True  # or the first forward pass draws delays at random
    return module


def _from_rest(module: "torch.nn.Module", inputs: Any) -> None:
    """slayer's recurrent blocks go on from the states of the last sequence, unlike all other blocks."""
    neuron: Any = module.neuron
    neuron.current_state = neuron.current_state.new_zeros(1)
    neuron.voltage_state = neuron.voltage_state.new_zeros(1)


def _unrounded(mean: "torch.Tensor", descale: bool = False) -> "torch.Tensor":
    return mean * SCALE if descale else mean
