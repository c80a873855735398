"""The network in NumPy: slow, plain, in 64-bit integers or floats, sharing no line with any runtime it checks."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from custom_ops.reference import cuba_lif

from .network import INPUT, Array, Block, Conv, CubaNeuron, Dense, FloatNeuron, Network

__all__ = ["simulate"]


def simulate(network: Network, x: Array) -> dict[str, npt.NDArray[np.float32]]:
    """The spikes of every block for the input ``x``.

    Args:
        network: Loihi integers, real numbers (computed in float64), or both.
        x: input spikes (or counts) ``[T, N, *]``, whole numbers.

    Returns:
        Spikes ``[T, N, *]`` as 0 and 1, by block name, in the order of the blocks.
    """
    spikes: dict[str, npt.NDArray[np.float32]] = {INPUT: np.asarray(x, np.float32)}
    for block in network.blocks:
        incoming = np.asarray(sum(spikes[source].astype(np.int64) for source in block.sources))
        if block.delay:
            incoming = np.concatenate((np.zeros_like(incoming[: block.delay]), incoming[: -block.delay]))
        spikes[block.name] = _spikes(block, incoming)
    del spikes[INPUT]
    return spikes


def _spikes(block: Block, x: Array) -> npt.NDArray[np.float32]:
    bias = np.zeros(1, np.int32) if block.bias is None else block.bias.reshape(-1, *[1] * (len(block.shape) - 1))
    sums = _sums(block, x.astype(np.float64) if isinstance(block.neuron, FloatNeuron) else x)
    recurrent = block.synapse.recurrent if isinstance(block.synapse, Dense) else None
    fires = _float_neuron(block.neuron, bias) if isinstance(block.neuron, FloatNeuron) else _integer_neuron(block.cuba, bias)
    spikes = np.empty(sums.shape, np.float32)
    for t, a in enumerate(sums):
        if recurrent is not None and t:
            a = a + spikes[t - 1].astype(sums.dtype) @ recurrent.astype(sums.dtype).T
        spikes[t] = fires(a)
    return spikes


def _integer_neuron(neuron: CubaNeuron, bias: Array) -> Callable[[Array], Array]:
    """Takes the sums of one step after the other, and gives the spikes."""
    u = v = None

    def fires(a: Array) -> Array:
        nonlocal u, v
        s, u, v, *_ = cuba_lif(a[None].astype(np.int32), neuron.i_decay, neuron.v_decay, neuron.v_threshold, bias, u, v)
        spikes: Array = s[0]
        return spikes

    return fires


def _float_neuron(neuron: FloatNeuron, bias: Array) -> Callable[[Array], Array]:
    v: Array | float = 0.0

    def fires(a: Array) -> Array:
        nonlocal v
        v = v * (1 - neuron.v_decay) + a + bias
        s: Array = v >= neuron.v_threshold
        v = np.where(s, 0.0, v)
        return s

    return fires


def _sums(block: Block, x: Array) -> Array:
    """In the type of ``x``, which is int64 or float64."""
    steps, samples = x.shape[:2]
    if isinstance(block.synapse, Conv):
        folded = _convolve(block.synapse, x.reshape(steps * samples, *block.input_shape))
    else:
        folded = x.reshape(steps * samples, -1) @ block.synapse.weight.astype(x.dtype).T
    return folded.reshape(steps, samples, *block.shape)


def _convolve(synapse: Conv, x: Array) -> Array:
    """One strided slice of the padded input per place in the kernel."""
    weight = synapse.weight.astype(x.dtype)
    outputs, per_group, kh, kw = weight.shape
    batch = x.shape[0]
    _, height, width = synapse.output_shape(x.shape[1:])
    (ph, pw), (sh, sw), (dh, dw) = synapse.padding, synapse.stride, synapse.dilation
    padded = np.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)))
    grouped = padded.reshape(batch, synapse.groups, per_group, *padded.shape[2:])
    kernels = weight.reshape(synapse.groups, outputs // synapse.groups, per_group, kh, kw)
    sums = np.zeros((batch, synapse.groups, outputs // synapse.groups, height, width), x.dtype)
    for i in range(kh):
        for j in range(kw):
            rows = slice(i * dh, i * dh + (height - 1) * sh + 1, sh)
            columns = slice(j * dw, j * dw + (width - 1) * sw + 1, sw)
            sums += np.einsum("goi,ngihw->ngohw", kernels[..., i, j], grouped[..., rows, columns])
    return sums.reshape(batch, outputs, height, width)
