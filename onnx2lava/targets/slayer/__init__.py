"""Lava-DL's slayer: blocks to go on training with, or to run; also single neurons and synapses."""

from .building import to_slayer
from .parts import to_slayer_neuron, to_slayer_synapse
from .target import SLAYER

__all__ = ["SLAYER", "to_slayer", "to_slayer_neuron", "to_slayer_synapse"]
