"""What Loihi can hold and what NetX can run, checked before anything is written."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import inf, log2, prod

import numpy as np

from .errors import LimitError
from .network import INPUT, Array, Block, Conv, CubaNeuron, Dense, FloatNeuron, Network

__all__ = [
    "BIAS_RANGE",
    "INT8_MAX",
    "MAX_DELAY",
    "THRESHOLD_MAX",
    "UNITY_DECAY",
    "WEIGHT_RANGE",
    "Finding",
    "findings",
    "is_integer",
    "require_integers",
    "require_netx",
    "require_slayer_exact",
]

WEIGHT_RANGE = (-256, 254)
"""Synapse weights are 8 bits: even numbers in this range (lava-dl 0.6, ``Neuron.quantize_8bit``)."""
BIAS_RANGE = (-4096, 4095)
"""Bias mantissas are 13 bits with sign (lava-nc 0.10, ``PyLifModelBitAcc``)."""
THRESHOLD_MAX = 131071
"""Threshold mantissas are 17 bits (likewise)."""
UNITY_DECAY = 4096
"""Decays are fractions of 2**12 (likewise)."""
INT8_MAX = 127
"""Lava keeps a convolution's kernel size, stride, padding, dilation and groups in int8 (lava-nc 0.10, ``PyConvModelFixed``)."""
MAX_DELAY = 62
"""Time steps that NetX can delay spikes by (lava-dl 0.6, ``Network.create_dense``, clips longer ones)."""
_SUM_LIMIT = 2**24  # float32 holds every whole number up to here, and so does a sum of them on any order of summation.


@dataclass(frozen=True)
class Finding:
    """Something about a block that its user should know.

    Args:
        block: the block's name.
        target: ``"loihi"``: no Loihi runtime can hold it; ``"netx"``: NetX of lava-dl 0.6 refuses it or runs it wrongly;
            ``"slayer"``: its slayer does; ``"chip"``: Lava's simulation runs it, the chip's registers do not hold it.
        message: what, why and what to do, as the rest of a sentence that begins with the block.
    """

    block: str
    target: str
    message: str

    def __str__(self) -> str:
        return f"The block {self.block!r} {self.message}."


def is_integer(network: Network) -> bool:
    """Whether the network is made of Loihi's neurons and whole numbers (in range or not)."""
    return all(
        isinstance(block.neuron, CubaNeuron) and _whole(block.synapse.weights) and (block.bias is None or _whole(block.bias))
        for block in network.blocks
    )


def findings(network: Network) -> list[Finding]:
    """Everything that is remarkable about ``network``, block by block; of float blocks, what quantisation will not change."""
    largest = 2**network.message_bits - 1 if network.message_bits else 1
    return [finding for block in network.blocks for finding in _of_block(block, largest if INPUT in block.sources else 1)]


def require_integers(network: Network, *, floats: bool = False) -> None:
    """Refuse a network that is not made of numbers that Loihi can hold.

    Args:
        network: to be checked.
        floats: whether blocks of float neurons may stand among the others.

    Raises:
        ConversionError: a block has float neurons, and may not.
        LimitError: the first reason.
    """
    _require(network, {"loihi"}, floats)


def require_netx(network: Network) -> None:
    """Refuse a network that NetX would refuse or run wrongly.

    Raises:
        ConversionError: a block has float neurons.
        LimitError: the first reason.
    """
    _require(network, {"loihi", "netx"}, False)


def require_slayer_exact(network: Network) -> None:
    """Refuse a network that slayer would run wrongly.

    Raises:
        ConversionError: a block has float neurons.
        LimitError: the first reason.
    """
    _require(network, {"loihi", "slayer"}, False)


def _require(network: Network, targets: set[str], floats: bool) -> None:
    if not floats:
        _ = [block.cuba for block in network.blocks]  # raises at the first float neuron
    for finding in findings(network):
        if finding.target in targets:
            raise LimitError(str(finding))


def _of_block(block: Block, largest: int) -> Iterator[Finding]:
    of_targets = {"loihi": _loihi(block, largest), "netx": _netx(block), "slayer": _slayer(block), "chip": _chip(block)}
    for target, messages in of_targets.items():
        yield from (Finding(block.name, target, message) for message in messages)


def _loihi(block: Block, largest_input: int) -> Iterator[str]:
    if isinstance(block.neuron, FloatNeuron):
        return
    weight, bias, neuron = block.synapse.weights, block.bias, block.cuba
    low, high = WEIGHT_RANGE
    if not _whole(weight) or (weight % 2).any() or weight.min() < low or weight.max() > high:
        yield f"has weights that are not all even numbers in {low} ... {high}: quantise the network first"
    if bias is not None and (not _whole(bias) or bias.min() < BIAS_RANGE[0] or bias.max() > BIAS_RANGE[1]):
        yield f"has biases that are not all whole numbers in {BIAS_RANGE[0]} ... {BIAS_RANGE[1]}: choose a smaller scale"
    for name, value, largest in (
        ("current decay", neuron.i_decay, UNITY_DECAY),
        ("voltage decay", neuron.v_decay, UNITY_DECAY),
        ("threshold mantissa", neuron.v_threshold, THRESHOLD_MAX),
    ):
        if not 0 <= value <= largest:
            yield f"has a {name} of {value}, outside 0 ... {largest}: choose a smaller scale or other neurons"
    if _largest_sum(block, largest_input) >= _SUM_LIMIT:
        yield "can sum to 2**24 or more, where float32 is no longer exact: make its fan-in or its weights smaller"


def _netx(block: Block) -> Iterator[str]:
    if isinstance(block.neuron, CubaNeuron) and block.neuron.i_decay == 0:
        # netx/hdf5.py, get_neuron_params: 'du': neuron_config['iDecay'] - 1, an unsigned register
        yield "has a current decay of 0, which NetX turns into garbage (it passes iDecay - 1, unsigned): use at least 1"
    if isinstance(block.synapse, Conv):
        synapse = block.synapse
        if max(*synapse.weight.shape[2:], *synapse.stride, *synapse.padding, *synapse.dilation) > INT8_MAX:
            yield f"has a kernel, stride, padding or dilation above {INT8_MAX}, where Lava's int8 overflows: use a smaller one"
        if block.delay:
            # netx/hdf5.py, create_conv, does not read the delay
            yield "is a convolution of delayed spikes, but NetX delays those of dense layers only: move the delay"
        return
    if block.delay > MAX_DELAY:
        yield f"has spikes that are {block.delay} steps late, above NetX's {MAX_DELAY}: use a shorter delay"
    if block.delay and block.synapse.recurrent is not None:
        # netx/blocks/process.py, RecurrentDense, gives the feedback the delay of the input, and forgets the weights' exponent
        yield "is recurrent and reads delayed spikes, where NetX would delay its feedback as well: move the delay"
    if isinstance(block.neuron, CubaNeuron):
        yield from _netx_dense(block.synapse)


def _netx_dense(synapse: Dense) -> Iterator[str]:
    # netx/utils.py, optimize_weight_bits, and lava/utils/weightutils.py, clip_weights
    if not synapse.weights.any():
        yield (
            "is dense and all its weights are zero, which NetX cannot load (it divides by the largest weight): "
            "prune the layer, or give it a weight"
        )
        return
    # NetX shifts all weights as far to the left as they fit, those of the feedback with the others.
    high, low = max(int(synapse.weights.max()), 0), min(int(synapse.weights.min()), 0)
    shift = max(0, int(log2(min(256 / -low if low else inf, 254 / high if high else inf))))
    for part, where in ((synapse.weight, ""), (synapse.recurrent, " in its feedback")):
        if part is not None and part.max() <= 0 and int(part.min()) << shift == -256:
            yield (
                f"is dense, has no positive weight{where}, and its smallest one ({int(part.min())}) is a negated power of two: "
                "Lava clips that to -255/256 of itself and truncates the rest; change that weight by 2"
            )


def _slayer(block: Block) -> Iterator[str]:
    feedback = isinstance(block.synapse, Dense) and block.synapse.recurrent is not None
    if feedback and block.bias is not None and isinstance(block.neuron, CubaNeuron) and block.neuron.i_decay != UNITY_DECAY:
        # slayer/neuron/cuba.py, Neuron.dynamics, keeps the current behind the norm, which adds the bias, from step to step
        yield (
            "is recurrent and has a bias, which slayer adds to the current again at every step: leave slayer out, or let the "
            "current decay at once (iDecay = 4096)"
        )


def _chip(block: Block) -> Iterator[str]:
    if block.neuron.v_decay == (UNITY_DECAY if isinstance(block.neuron, CubaNeuron) else 1):
        yield "has a voltage decay of 4096, which Lava's simulation runs but the chip's 12-bit register does not hold: use 4095"


def _whole(values: Array) -> bool:
    return values.dtype.kind in "iu" or bool((values == np.rint(values)).all())


def _largest_sum(block: Block, largest_input: int) -> int:
    """The largest absolute sum that inputs up to ``largest_input``, and the block's own spikes, can make."""
    weight = block.synapse.weight
    sums = np.abs(weight.reshape(weight.shape[0], prod(weight.shape[1:]))).sum(axis=1, dtype=np.int64) * largest_input
    if isinstance(block.synapse, Dense) and block.synapse.recurrent is not None:
        sums = sums + np.abs(block.synapse.recurrent).sum(axis=1, dtype=np.int64)
    return int(sums.max())
