"""Build a network from Lava-DL's own modules. Needs lava-dl (Python 3.10)."""

from typing import TYPE_CHECKING

from ...lava_machine import require_slayer
from ...network import CubaNeuron, Network, Neuron, require_loihi
from ..base import require
from ..limits import loihi
from .legalising import checked, legalised

if TYPE_CHECKING:
    import torch

__all__ = ["to_slayer"]


def to_slayer(network: Network[Neuron]) -> "torch.nn.Module":
    """The network as slayer's modules, whose spikes are the network's, bit by bit.

    They take and give spikes as slayer does, ``[N, *shape, T]``, without slayer's delay of one step per layer, and equal the
    network while no state leaves 24 bits: slayer has no such bound, where Loihi wraps and clips.

    Args:
        network: Loihi's integers.

    Returns:
        Of a chain, a ``torch.nn.Sequential`` of slayer's CUBA blocks that ``export_hdf5`` can write (but for spikes that come
        late through a ``slayer.axon.Delay``, of which it knows nothing, and a convolution's bias for each neuron, which it writes
        as NetX does not read it: use ``save_netx``); of any other network, a module that takes its inputs and gives its outputs,
        one tensor each, in the network's order.

    Raises:
        ConversionError: a population has neurons of real numbers.
        LimitError: its integers do not fit Loihi's ranges, or slayer would run it wrongly.
        RuntimeUnavailableError: lava-dl is not installed.
    """
    require([*loihi(network), *checked(network)])
    legal: Network[CubaNeuron] = legalised(require_loihi(network))
    require_slayer()
    from .modules import Graph, sequence

    return sequence(legal) or Graph(legal).eval()
