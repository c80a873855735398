"""The process graph of a network: Lava's own neurons and synapses, put together. Needs Lava; imported only where it is used.

This module is alone in its folder, because Lava looks for models of a process by executing every module beside it.
"""

from collections.abc import Mapping
from functools import cached_property
from math import prod
from typing import Any

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.sub.model import AbstractSubProcessModel
from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol
from lava.proc.conv.process import Conv as LavaConv
from lava.proc.dense.process import DelayDense
from lava.proc.dense.process import Dense as LavaDense
from lava.proc.graded.process import GradedVec
from lava.proc.lif.process import LIF, LIFReset
from lava.proc.sparse.process import DelaySparse, Sparse
from lava.utils.weightutils import SignMode
from scipy.sparse import csr_matrix, identity  # type: ignore[import-untyped]

from ....lava_runtime.forgetting import FORGETFUL, forget
from ....network import Array, Conv, CubaNeuron, Dense, Map, Network, Shape
from ..forms import Form, form
from ..schedule import Schedule, Stage, Synapse

__all__ = ["Layer", "ProcessGraph"]

_BIAS_EXPONENT = 6


class ProcessGraph(AbstractProcess):  # type: ignore[misc]
    """A network as one Lava process, as ``lava.lib.dl.netx.hdf5.Network`` is one.

    Images have the order of Lava, ``(W, H, C)``. What goes in at the step t comes out of a layer at the step t + its ``depth``.

    Args:
        network: Loihi's integers.
        schedule: of ``network``.
        reset_interval: steps of a sample, after which everything is reset; None for never.
        reset_offset: as NetX counts it: 1 where the first sample begins in Lava's first step.

    Attributes:
        layers: one for each population, in the network's order.
        relays: what brings spikes in time from layer to layer.
        inputs: in-ports by the name of the network's input.
        outputs: out-ports by the name of the population.
        inp, out: the first of each.
    """

    def __init__(
        self, network: Network[CubaNeuron], schedule: Schedule, reset_interval: int | None = None, reset_offset: int = 0
    ) -> None:
        super().__init__(name=network.name)
        stages = {stage.name: stage for stage in schedule.stages}
        resets = None if reset_interval is None else (reset_interval, reset_offset)
        layers = {name: Layer(stage, network, stages, resets) for name, stage in stages.items()}
        self.layers = [layers[each.name] for each in network.populations]
        self.relays = [layer for name, layer in layers.items() if stages[name].population is None]
        self.inputs = {name: InPort(shape=_lava(given.shape)) for name, given in network.inputs.items()}
        self.outputs = {name: OutPort(shape=layers[name].out.shape) for name in network.outputs}
        sources = self.inputs | {name: layer.out for name, layer in layers.items()}
        for layer in layers.values():
            for source, port in layer.sources:
                sources[source].connect(port)
        for name, port in self.outputs.items():
            layers[name].out.connect(port)
        # Lava finds ports that are attributes, and no others.
        for kind, ports in (("inp", self.inputs), ("out", self.outputs)):
            for index, port in enumerate(ports.values()):
                setattr(self, f"{kind}{index or ''}", port)

    def __len__(self) -> int:
        """Number of layers."""
        return len(self.layers)


class Layer(AbstractProcess):  # type: ignore[misc]
    """A population or a relay: synapses whose sums one process of neurons adds up.

    Attributes:
        depth: steps after which it sees what goes into the network.
        shape: in the order of Lava.
        neuron, synapses: Lava's processes.
        sources: the name of the source for each in-port; ``inp``, ``inp1`` ... are the in-ports.
        out: its spikes.
    """

    def __init__(
        self, stage: Stage, network: Network[CubaNeuron], stages: Mapping[str, Stage], resets: tuple[int, int] | None
    ) -> None:
        super().__init__(name=stage.name)
        self.depth = stage.depth
        self.shape = _lava(stage.shape)
        self.neuron = _neurons(stage, resets)
        self.out = OutPort(shape=self.shape)
        self.neuron.s_out.connect(self.out)
        self.synapses: list[Any] = []
        self.sources: list[tuple[str, InPort]] = []
        for synapse in stage.synapses:
            process = _Weights(synapse).process(stage.depth, resets)
            for source in synapse.sources:
                own = stages[source].shape if source in stages else network.inputs[source].shape
                port = InPort(shape=_lava(own))
                _arranged(port, own, synapse.reads, flat=len(process.s_in.shape) == 1).connect(process.s_in)
                setattr(self, f"inp{len(self.sources) or ''}", port)
                self.sources.append((source, port))
            _arranged(process.a_out, process.a_out.shape[::-1], stage.shape, flat=False).connect(self.neuron.a_in)
            setattr(self, f"synapse{len(self.synapses) or ''}", process)
            self.synapses.append(process)


@requires(CPU)
@tag("fixed_pt")
class _Whole(AbstractSubProcessModel):  # type: ignore[misc]
    """Made of the processes that its process holds."""

    def __init__(self, _: AbstractProcess) -> None:
        pass


@implements(proc=ProcessGraph, protocol=LoihiProtocol)
class _GraphModel(_Whole):
    pass


@implements(proc=Layer, protocol=LoihiProtocol)
class _LayerModel(_Whole):
    pass


def _neurons(stage: Stage, resets: tuple[int, int] | None) -> Any:
    """The neurons of a stage; those of relays come back to rest in every step and need no reset."""
    shape = _lava(stage.shape)
    if stage.population is None:
        return GradedVec(shape=shape, vth=0) if stage.graded else LIF(shape=shape, du=4095, dv=0, vth=0)
    neuron = stage.population.neuron
    assert isinstance(neuron, CubaNeuron)
    population = stage.population

    def each(values: Array) -> Array:  # (C, H, W) to (W, H, C)
        return np.ascontiguousarray(np.broadcast_to(values, stage.shape).transpose(), np.int32)

    i_decay, v_decay, threshold = (
        values if isinstance(values, int) else each(population.parameter(name)) for name, values in neuron.parameters()
    )
    numbers = {
        "du": i_decay - 1,  # Lava adds 1 (PyLifModelBitAcc, ds_offset)
        "dv": v_decay,
        "vth": threshold,
        "bias_mant": each(population.bias_column()),
        "bias_exp": _BIAS_EXPONENT,
    }
    if resets is None:
        return LIF(shape=shape, **numbers)
    interval, offset = resets
    return LIFReset(shape=shape, **numbers, reset_interval=interval, reset_offset=(offset + stage.depth) % interval)


class _Weights:
    """A synapse's weights in the form that its Lava process takes.

    Lava scales weights by exponents and truncates them to their bits; with eight bits and mixed signs, all even numbers from -256
    to 254 stay as they are (``lava.utils.weightutils``). One to one is the weight 1, which excitatory weights may be.
    """

    def __init__(self, synapse: Synapse) -> None:
        self._synapse = synapse

    def process(self, depth: int, resets: tuple[int, int] | None) -> Any:
        """Lava's synapse; one that forgets where spikes of the network's own delay would reach the next sample."""
        synapse = self._synapse
        cls, arguments = self._arguments
        forgets = synapse.delay > 0 and resets is not None
        process = (FORGETFUL[cls] if forgets else cls)(num_message_bits=synapse.bits, **arguments)
        if forgets:
            assert resets is not None
            interval, offset = resets
            forget(process, interval, source=offset + synapse.depth, target=offset + depth)
        return process

    @cached_property
    def _arguments(self) -> tuple[type, dict[str, Any]]:
        synapse = self._synapse
        map_, waits = synapse.map, synapse.waits
        kind = form(map_, synapse.reads, delayed=waits > 0)
        if kind is Form.CONV:
            assert isinstance(map_, Conv)
            return LavaConv, _convolution(map_, synapse.reads)
        weights: Any = map_.weight if isinstance(map_, Dense) else _sparse(map_, synapse.reads)
        arguments = {
            "weights": weights,
            "num_weight_bits": 8,
            "weight_exp": 0,
            "sign_mode": SignMode.EXCITATORY if map_ is None else SignMode.MIXED,
        }
        if not waits:
            return (LavaDense if kind is Form.DENSE else Sparse), arguments
        if kind is Form.DENSE:
            return DelayDense, arguments | {"delays": np.full(weights.shape, waits)}
        delays = csr_matrix((np.full(weights.nnz, waits), weights.indices, weights.indptr), weights.shape)
        return DelaySparse, arguments | {"delays": delays}


def _convolution(conv: Conv, reads: Shape) -> dict[str, Any]:
    """Lava's Conv turns its kernel around, as convolutions do and networks do not, and has width before height."""
    return {
        "weight": np.ascontiguousarray(conv.weight[:, :, ::-1, ::-1].transpose(0, 3, 2, 1)),
        "input_shape": _lava(reads),
        "stride": conv.stride[::-1],
        "padding": (conv.pads[1], conv.pads[0]),
        "dilation": conv.dilation[::-1],
        "groups": conv.groups,
    }


def _sparse(map_: Map | None, reads: Shape) -> Any:
    """The matrix of a map, or one to one, in the order of the network: (C, H, W)."""
    inputs = prod(reads)
    if map_ is None:
        return identity(inputs, np.int32, "csr")
    rows, columns, weights = map_.entries(reads)
    return csr_matrix((weights.astype(np.int32), (rows, columns)), (prod(map_.output_shape(reads)), inputs))


def _lava(shape: Shape) -> Shape:
    """``(C, H, W)`` as ``(W, H, C)``."""
    return tuple(reversed(shape))


def _arranged(port: Any, own: Shape, read: Shape, flat: bool) -> Any:
    """What comes out of ``port``, ``own`` in the order of the network, for a port that takes ``read``.

    Args:
        flat: whether it takes it flat, in the order of the network; else images have that of Lava.
    """
    if own == read and not (flat and len(own) == 3):
        return port
    if len(own) == 3:
        port = port.transpose([2, 1, 0])
    port = port.reshape((prod(read),) if flat else read)
    return port if flat or len(read) == 1 else port.transpose([2, 1, 0])
