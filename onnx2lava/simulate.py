"""The network in NumPy: slow, plain, in 64-bit integers or floats, sharing no line with any runtime it checks."""

import numpy as np
import numpy.typing as npt

from custom_ops.reference import cuba_lif

from .network import INPUT, Array, Block, Conv, FloatNeuron, Network

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
        incoming = sum(spikes[source].astype(np.int64) for source in block.sources)
        spikes[block.name] = _spikes(block, np.asarray(incoming))
    del spikes[INPUT]
    return spikes


def _spikes(block: Block, x: Array) -> npt.NDArray[np.float32]:
    bias = None if block.bias is None else block.bias.reshape(-1, *[1] * (len(block.shape) - 1))
    if isinstance(block.neuron, FloatNeuron):
        return _float_neuron(_sums(block, x.astype(np.float64)), block.neuron, 0 if bias is None else bias)
    neuron = block.cuba
    return cuba_lif(_sums(block, x).astype(np.int32), neuron.i_decay, neuron.v_decay, neuron.v_threshold, bias=bias).s


def _float_neuron(sums: Array, neuron: FloatNeuron, bias: Array | int) -> npt.NDArray[np.float32]:
    spikes = np.empty(sums.shape, np.float32)
    v = np.zeros(sums.shape[1:])
    for t, a in enumerate(sums):
        v = v * (1 - neuron.v_decay) + a + bias
        spikes[t] = v >= neuron.v_threshold
        v[spikes[t] == 1] = 0
    return spikes


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
