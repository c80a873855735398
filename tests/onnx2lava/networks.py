"""Random integer networks to test with, and how to compare two."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
from hypothesis import strategies as st

from onnx2lava import Block, Conv, CubaNeuron, Dense, FloatNeuron, Network
from onnx2lava.network import Array, Shape, Synapse

IF = CubaNeuron(4096, 0, 300)
"""Current gone after one step, voltage kept: what SpikingJelly's IFNode becomes."""
LEAKY = CubaNeuron(1024, 256, 500)


def weights(rng: np.random.Generator, *shape: int) -> Array:
    return 2 * rng.integers(-128, 128, shape, dtype=np.int32)


def build(
    input_shape: Shape, layers: Sequence[tuple[Synapse, CubaNeuron, bool]], seed: int = 0, delays: Sequence[int] = ()
) -> Network:
    """A chain of layers; the third entry of each says whether it has a bias. ``delays`` are those of the first layers."""
    rng = np.random.default_rng(seed)
    blocks: list[Block] = []
    shape, source = input_shape, "input"
    for index, (synapse, neuron, biased) in enumerate(layers):
        outputs = synapse.weight.shape[0]
        bias = rng.integers(1, 60, outputs, dtype=np.int32) * rng.choice([-1, 1], outputs).astype(np.int32) if biased else None
        delay = delays[index] if index < len(delays) else 0
        blocks.append(Block(f"conv_fc.{index}", synapse, neuron, shape, bias, (source,), delay))
        shape, source = blocks[-1].shape, blocks[-1].name
    return Network("test", input_shape, tuple(blocks), {"sj2lava.step_mode": "m"})


def examples() -> dict[str, Network]:
    """One network for each form that layers take together."""
    rng = np.random.default_rng(7)
    pool = Conv(np.full((4, 1, 2, 2), 64, np.int32), (2, 2), groups=4)
    return {
        "conv, pool, dense": build(
            (2, 6, 6),
            [
                (Conv(weights(rng, 4, 2, 3, 3), padding=(1, 1)), IF, False),
                (pool, IF, False),
                (Dense(weights(rng, 8, 36)), LEAKY, False),
                (Dense(weights(rng, 3, 8)), IF, False),
            ],
        ),
        "dense": build((5,), [(Dense(weights(rng, 7, 5)), IF, False), (Dense(weights(rng, 4, 7)), LEAKY, True)]),
        "strided, dilated, grouped, odd, biased": build(
            (3, 9, 7),
            [
                (Conv(weights(rng, 6, 1, 3, 2), (2, 1), (1, 0), (1, 2), 3), LEAKY, True),
                (Conv(weights(rng, 4, 3, 2, 3), (1, 2), (0, 1), (2, 1), 2), IF, True),
                (Dense(weights(rng, 5, 36)), LEAKY, True),
            ],
        ),
        "dense on images": build((2, 3, 4), [(Dense(weights(rng, 6, 24)), IF, True)]),
        "one convolution": build((1, 4, 5), [(Conv(weights(rng, 2, 1, 2, 2)), LEAKY, False)]),
        "recurrent": build(
            (1, 4, 5),
            [
                (Conv(weights(rng, 2, 1, 2, 2)), IF, True),
                (Dense(weights(rng, 9, 24), weights(rng, 9, 9)), IF, True),
                (Dense(weights(rng, 6, 9), weights(rng, 6, 6)), LEAKY, False),
            ],
        ),
        "delayed": build((6,), [(Dense(weights(rng, 9, 6)), IF, True), (Dense(weights(rng, 7, 9)), LEAKY, True)], delays=(1, 2)),
    }


@st.composite
def networks(draw: st.DrawFn) -> Network:
    """Chains of one to six layers with any kernel, stride, padding, dilation, groups, neuron, bias, feedback and delay."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    convolutions = draw(st.integers(0, 3))
    channels = draw(st.integers(1, 4))
    input_shape = (channels, draw(st.integers(1, 9)), draw(st.integers(1, 9))) if convolutions else (channels,)
    shape, layers = input_shape, []
    for _ in range(convolutions):
        synapse = draw(_convolutions(rng, shape))
        layers.append((synapse, draw(_neurons), draw(st.booleans())))
        shape = synapse.output_shape(shape)
    for _ in range(draw(st.integers(0 if layers else 1, 3))):
        outputs = draw(st.integers(1, 5))
        feedback = weights(rng, outputs, outputs) if draw(st.booleans()) else None
        synapse = Dense(weights(rng, outputs, int(np.prod(shape))), feedback)
        layers.append((synapse, draw(_neurons), draw(st.booleans())))
        shape = synapse.output_shape(shape)
    delays = [draw(st.sampled_from([0, 0, 0, 1, 3])) for _ in layers]
    return build(input_shape, layers, draw(st.integers(0, 99)), delays)


def scaled(synapse: Synapse, change: Callable[[Array], Array]) -> Synapse:
    """``synapse`` with all its weights changed."""
    synapse = replace(synapse, weight=change(synapse.weight))
    if isinstance(synapse, Dense) and synapse.recurrent is not None:
        synapse = replace(synapse, recurrent=change(synapse.recurrent))
    return synapse


def on_grid(network: Network, scale: float = 64) -> Network:
    """The float network that ``quantize`` with this scale turns into ``network``, but that its current decays at once."""

    def block(each: Block) -> Block:
        neuron = FloatNeuron(each.cuba.v_decay / 4096, (each.cuba.v_threshold + 1) / scale)
        synapse = scaled(each.synapse, lambda weight: (weight / scale).astype(np.float32))
        bias = None if each.bias is None else (each.bias / scale).astype(np.float32)
        return replace(each, synapse=synapse, neuron=neuron, bias=bias)

    return replace(network, blocks=tuple(map(block, network.blocks)))


@st.composite
def float_networks(draw: st.DrawFn) -> Network:
    """Chains like those of :func:`networks` in real numbers of all sizes, beside blocks that are integers already."""
    network = draw(networks())
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    blocks = []
    for block in network.blocks:
        if draw(st.integers(0, 3)):
            size = draw(st.sampled_from([1e-3, 0.1, 1, 30]))
            neuron = FloatNeuron(draw(st.sampled_from([0.0, 0.5, 1 / 3, 1.0])), size * draw(st.sampled_from([0.3, 1.0, 7.0])))
            bias = None if block.bias is None else (size * 0.1 * rng.normal(size=block.shape[0])).astype(np.float32)
            block = replace(block, synapse=scaled(block.synapse, partial(_heavy_tailed, rng, size)), neuron=neuron, bias=bias)
        blocks.append(block)
    return replace(network, blocks=tuple(blocks))


def _heavy_tailed(rng: np.random.Generator, size: float, weight: Array) -> Array:
    values: Array = (size * rng.standard_t(3, weight.shape)).astype(np.float32)
    values.flat[0] = size  # NetX refuses dense weights without a positive one among them that are like no trained ones
    return values


def like_trained(seed: int = 0, decay: float = 0.0, bias: float = 0.0) -> Network:
    """A float network with weights as training leaves them: normal, smaller where there are more of them."""
    rng = np.random.default_rng(seed)
    blocks: list[Block] = []
    shape, source = (2, 8, 8), "input"
    for index, size in enumerate([(8, 2, 3, 3), (8, 8, 2, 2), (32, 128), (10, 32)]):
        # Whole multiples of 2**-12: all sums are exact in float32 and float64 alike.
        weight = (np.rint(rng.normal(0.2, 1.2, size) / np.sqrt(np.prod(size[1:])) * 4096) / 4096).astype(np.float32)
        synapse = Dense(weight) if len(size) == 2 else Conv(weight, (2, 2) if index == 1 else (1, 1), (1 - index, 1 - index))
        biases = (np.rint(bias * rng.normal(size=size[0]) * 4096) / 4096).astype(np.float32) if bias else None
        blocks.append(Block(f"layer{index}", synapse, FloatNeuron(decay, 1.0), shape, biases, (source,)))
        shape, source = blocks[-1].shape, blocks[-1].name
    return Network("trained", (2, 8, 8), tuple(blocks))


_neurons = st.builds(
    CubaNeuron,
    st.one_of(st.sampled_from([1, 4095, 4096]), st.integers(1, 4096)),
    st.one_of(st.sampled_from([0, 4096]), st.integers(0, 4096)),
    st.integers(0, 600),
)


@st.composite
def _convolutions(draw: st.DrawFn, rng: np.random.Generator, shape: Shape) -> Conv:
    groups = draw(st.sampled_from([d for d in range(1, shape[0] + 1) if shape[0] % d == 0]))
    kernel, padding, dilation = [], [], []
    for size in shape[1:]:
        pad = draw(st.integers(0, 2))
        kernel.append(draw(st.integers(1, min(5, size + 2 * pad))))
        padding.append(pad)
        dilation.append(draw(st.integers(1, max(1, (size + 2 * pad - 1) // (kernel[-1] - 1)))) if kernel[-1] > 1 else 1)
    stride = (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    weight = weights(rng, groups * draw(st.integers(1, 3)), shape[0] // groups, *kernel)
    return Conv(weight, stride, (padding[0], padding[1]), (min(dilation[0], 3), min(dilation[1], 3)), groups)


def spikes(network: Network, steps: int, samples: int, seed: int = 1) -> Array:
    rng = np.random.default_rng(seed)
    return (rng.random((steps, samples, *network.input_shape)) < 0.4).astype(np.float32)


def assert_same(a: Network, b: Network) -> None:
    assert dict(a.metadata) == dict(b.metadata)
    assert [(block.name, block.sources) for block in a.blocks] == [(block.name, block.sources) for block in b.blocks]
    assert_same_numbers(a, b)


def assert_same_numbers(a: Network, b: Network) -> None:
    """The same but for names and metadata."""
    assert a.input_shape == b.input_shape
    assert len(a.blocks) == len(b.blocks)
    for one, other in zip(a.blocks, b.blocks, strict=True):
        assert (one.neuron, one.input_shape, one.shape, one.delay) == (other.neuron, other.input_shape, other.shape, other.delay)
        assert type(one.synapse) is type(other.synapse)
        assert one.synapse.weights.shape == other.synapse.weights.shape
        assert (one.synapse.weights == other.synapse.weights).all()
        assert (one.bias is None) == (other.bias is None)
        assert one.bias is None or (one.bias == other.bias).all()
        if isinstance(one.synapse, Conv) and isinstance(other.synapse, Conv):
            for field in ("stride", "padding", "dilation", "groups"):
                assert getattr(one.synapse, field) == getattr(other.synapse, field)
