"""Build a network from Lava-DL's own blocks. Needs lava-dl (Python 3.10)."""

from typing import TYPE_CHECKING, Any

from ..lava_machine import require_slayer
from ..limits import require_integers
from ..network import Block, Conv, Network

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

    Raises:
        ConversionError: the network is not a chain.
        LimitError: its integers do not fit Loihi's ranges.
        RuntimeUnavailableError: lava-dl is not installed.
    """
    require_integers(network)
    slayer = require_slayer()
    import torch

    modules: list[torch.nn.Module] = []
    for block in network.chain():
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
    else:
        module = slayer.block.cuba.Dense(parameters, synapse.weight.shape[1], synapse.weight.shape[0], delay_shift=False)
    weight = torch.from_numpy(synapse.weight).to(torch.float32) / SCALE
    with torch.no_grad():
        module.synapse.weight.copy_(weight.reshape(module.synapse.weight.shape))
    if block.bias is not None:
        # slayer's bias is the negative mean of a batch norm, which would be rounded to even 8-bit numbers like a weight.
        module.neuron.norm.running_mean = -torch.from_numpy(block.bias).to(torch.float32) / SCALE
        module.neuron.norm.num_features = len(block.bias)
        module.neuron.norm.pre_hook_fx = _unrounded
    # Half a unit of the state. slayer's own 0.01 units vanish in float32 at thresholds above about 40.
    module.neuron.threshold_eps = 0.5 / module.neuron.s_scale
    # The shapes are known; slayer itself finds them in a first forward pass, which `export_hdf5` would need otherwise.
    module.neuron.shape = torch.Size(block.shape)
    return module


def _unrounded(mean: "torch.Tensor", descale: bool = False) -> "torch.Tensor":
    return mean * SCALE if descale else mean
