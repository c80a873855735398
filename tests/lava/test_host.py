"""Images and counts in Lava-DL and Lava: what the encoder gives, and graded spikes."""

import numpy as np
import pytest
import torch

from onnx2lava import CubaNeuron, Dense, load, quantize, run_netx, save_netx, verify
from onnx2lava.host import encode
from onnx2lava.targets import TARGETS
from tests.onnx2lava.host_graphs import images, network
from tests.onnx2lava.networks import LEAKY, build, weights

PEERS = ["ort", "numpy", "slayer", "netx"]


@pytest.mark.parametrize("kind", ["images", "counts"])
def test_every_spike_is_the_same(kind, tmp_path):
    torch.set_num_threads(1)
    x = images(9, 3, counts=kind == "counts")
    model = network("a vote at each step")
    result = verify(model, x, against=PEERS, input=kind, labels=np.arange(3))
    assert result.mismatches == 0
    assert all(0 < layer.rate < 1 and set(PEERS) <= {*layer.mismatches, layer.reference} for layer in result.layers)
    assert len({result.accuracy[name] for name in PEERS}) == 1

    converted = quantize(load(model, input=kind))
    save_netx(converted, tmp_path / "a.net")
    (last,) = converted.outputs
    (given,) = encode(converted, x).values()
    assert (run_netx(tmp_path / "a.net", given) == TARGETS["ort"].run(converted, encode(converted, x))[last]).all()


def test_the_files_load_in_netx_as_they_are(tmp_path):
    from lava.lib.dl.netx import hdf5

    for kind in ("images", "counts"):
        save_netx(quantize(load(network(), input=kind)), tmp_path / f"{kind}.net")
        net = hdf5.Network(net_config=str(tmp_path / f"{kind}.net"))
        assert [type(layer).__name__ for layer in net.layers] == ["Conv"] * (1 if kind == "images" else 2) + ["Dense"]


def test_counts_that_overflow_24_bits_wrap_in_onnxruntime_as_in_lava():
    """Slayer has no such bound. Sums of 2**17 and more wrap, and twice as large ones stay outside, since Loihi wraps once."""
    rng = np.random.default_rng(0)
    layers = [(Dense(weights(rng, 8, 30)), CubaNeuron(1024, 512, 9000), True), (Dense(weights(rng, 5, 8)), LEAKY, False)]
    network = build((30,), layers, bits=8)
    x = rng.integers(0, 256, (8, 3, 30)).astype(np.float32)
    assert (np.abs(x @ network.populations[0].edges[0].map.weight.T) >= 2**18).any()
    result = verify(network, x, against=["ort", "numpy", "netx"])
    assert result.mismatches == 0
    assert all(0 < layer.rate < 1 for layer in result.layers)
