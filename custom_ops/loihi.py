"""The numbers of the chip, once: ranges of mantissas and registers, as lava-nc 0.10 and lava-dl 0.6 simulate them."""

__all__ = [
    "BIAS_RANGE",
    "CONV_SUM_MAX",
    "CORES_PER_CHIP",
    "DECAY_UNIT",
    "INT8_MAX",
    "MAX_DELAY",
    "NEURONS_PER_CORE",
    "STATE_MAX",
    "STATE_UNIT",
    "SYNAPTIC_MEMORY",
    "THRESHOLD_MAX",
    "WEIGHT_RANGE",
]

WEIGHT_RANGE = (-256, 254)
"""Synapse weights are 8 bits: even numbers in this range (lava-dl 0.6, ``Neuron.quantize_8bit``)."""
BIAS_RANGE = (-4096, 4095)
"""Bias mantissas are 13 bits with sign (lava-nc 0.10, ``PyLifModelBitAcc``)."""
THRESHOLD_MAX = 131071
"""Threshold mantissas are 17 bits (likewise)."""
DECAY_UNIT = 4096
"""Decays are fractions of 2**12 (likewise)."""
STATE_UNIT = 64
"""States count in 1/64 of a weight: sums, biases and thresholds are shifted by six bits (likewise)."""
STATE_MAX = 2**23 - 1
"""Currents and voltages are 24 bits with sign (likewise)."""
CONV_SUM_MAX = 2**23 - 1
"""Beyond it, Lava's convolution wraps sums around (lava-nc 0.10, ``PyConvModelFixed.clamp_precision``); its matrices do not."""
INT8_MAX = 127
"""Lava keeps a convolution's kernel size, stride, padding, dilation and groups in int8 (lava-nc 0.10, ``PyConvModelFixed``)."""
MAX_DELAY = 62
"""Time steps that NetX can delay spikes by (lava-dl 0.6, ``Network.create_dense``, clips longer ones)."""
NEURONS_PER_CORE = 8192
"""At most (Intel Labs, "Taking Neuromorphic Computing to the Next Level with Loihi 2", technology brief, 2021)."""
CORES_PER_CHIP = 128
"""Neuro-cores (likewise)."""
SYNAPTIC_MEMORY = 128 * 1024
"""Bytes a core for weights, one byte each: those of the first Loihi, 16 MB on 128 cores (Davies et al., IEEE Micro 38(1), 2018).
Loihi 2 divides a core's memory as the network needs it."""
