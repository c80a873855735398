"""`reference.recurrent_cuba_lif` against NetX's recurrent block on Lava's simulation, spike by spike."""

from typing import Any

import numpy as np
import pytest
from lava.lib.dl.netx.blocks.models import AbstractPyBlockModel
from lava.lib.dl.netx.blocks.process import RecurrentDense
from lava.magma.core.decorator import implements
from lava.magma.core.run_conditions import RunSteps
from lava.magma.core.run_configs import Loihi2SimCfg
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol
from lava.proc.io.sink import RingBuffer as Sink
from lava.proc.io.source import RingBuffer as Source
from lava.proc.lif.process import LIF

from custom_ops import reference


class Block(RecurrentDense):  # type: ignore[misc]
    """NetX's block; Lava looks for what runs it in the module of its class."""


@implements(proc=Block, protocol=LoihiProtocol)
class BlockModel(AbstractPyBlockModel):  # type: ignore[misc]
    """lava-dl 0.6.0 has a model like this one for each of its blocks but the recurrent one."""


def lavas_spikes(inputs: np.ndarray, weight: np.ndarray, back: np.ndarray, bias: np.ndarray, attributes: dict[str, int]) -> Any:
    """What the block makes of the spikes ``[T, inputs]``; its synapse holds them back for one step."""
    steps, (outputs, _) = len(inputs), weight.shape
    neuron = {
        "neuron_proc": LIF,
        "bias_key": "bias_mant",
        "bias_exp": 6,
        "du": attributes["i_decay"] - 1,  # as NetX passes it: Lava adds it again
        "dv": attributes["v_decay"],
        "vth": attributes["v_threshold"],
    }
    block = Block(shape=(outputs,), neuron_params=neuron, weight=weight, weight_rec=back, bias=bias)
    source = Source(data=inputs.T)
    sink = Sink(shape=(outputs,), buffer=steps + 1)
    source.s_out.connect(block.inp)
    block.out.connect(sink.a_in)
    block.run(condition=RunSteps(num_steps=steps + 1), run_cfg=Loihi2SimCfg(select_tag="fixed_pt"))
    try:
        return sink.data.get().T
    finally:
        block.stop()


@pytest.mark.filterwarnings("ignore:Cannot import module")  # Lava looks through the other files here, too
@pytest.mark.parametrize("i_decay", [4096, 1000])
def test_every_spike_equals_lavas(i_decay: int) -> None:
    rng = np.random.default_rng(1)
    attributes = {"i_decay": i_decay, "v_decay": 200, "v_threshold": 400}
    inputs = (rng.random((60, 20)) < 0.3).astype(np.int32)
    weight, back = 2 * rng.integers(-60, 90, (30, 20)), 2 * rng.integers(-90, 70, (30, 30))  # to and from, as NetX has them
    bias = rng.integers(-40, 40, 30).astype(np.int32)
    found = lavas_spikes(inputs, weight, back, bias, attributes)
    # Before its input arrives, the block runs one step on its bias alone.
    sums = np.concatenate([np.zeros((1, 30), np.int64), inputs @ weight.T])[:, np.newaxis].astype(np.int32)
    ours = reference.recurrent_cuba_lif(sums, back.T, **attributes, bias=bias)
    assert 0.1 < ours.s.mean() < 0.9
    np.testing.assert_array_equal(found, ours.s[:, 0])
    unheard = reference.recurrent_cuba_lif(sums, 0 * back.T, **attributes, bias=bias)
    assert (unheard.s != ours.s).any()
