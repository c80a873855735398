"""What Loihi cannot hold and what NetX runs wrongly is found before anything is written."""

import numpy as np
import pytest

from custom_ops.errors import ModelFileError
from onnx2lava import Block, Conv, CubaNeuron, Dense, Network, load_netx, quantize, save_netx, to_onnx
from onnx2lava.errors import ConversionError, LimitError, NetworkError
from onnx2lava.limits import findings
from tests.onnx2lava.networks import IF, assert_same_numbers, build, examples

GOOD = np.array([[2, -4, 6]], np.int32)
WIDE = np.full((1, 70_000), 254, np.int32)


def dense(weight=GOOD, neuron=IF, bias=None):
    return Network("n", (weight.shape[1],), (Block("fc", Dense(weight), neuron, (weight.shape[1],), bias),))


def recurrent(inputs, outputs, **options):
    synapse = Dense(np.full((outputs, inputs), 254), np.full((outputs, outputs), 254))
    return Network("n", (inputs,), (Block("fc", synapse, IF, (inputs,)),), **options)


def conv(synapse, channels=1):
    size = (channels, 150, 150)
    return Network("n", size, (Block("conv", synapse, IF, size),))


FINDINGS = {
    "nothing": (dense(), None, ""),
    "the extremes": (dense(np.array([[-256, 254]]), CubaNeuron(1, 4095, 131071), np.array([-4096])), None, ""),
    "an odd weight": (dense(np.array([[2, 3]])), "loihi", "even numbers"),
    "a weight too large": (dense(np.array([[-2, 256]])), "loihi", "even numbers"),
    "a weight too small": (dense(np.array([[2, -258]])), "loihi", "even numbers"),
    "a fraction": (dense(np.array([[2.5, -4]])), "loihi", "even numbers"),
    "a bias too large": (dense(bias=np.array([4096])), "loihi", "biases"),
    "a bias too small": (dense(bias=np.array([-4097])), "loihi", "biases"),
    "a threshold too large": (dense(neuron=CubaNeuron(4096, 0, 131072)), "loihi", "threshold mantissa of 131072"),
    "a negative decay": (dense(neuron=CubaNeuron(-1, 0, 1)), "loihi", "current decay of -1"),
    "sums beyond float32": (dense(WIDE), "loihi", "2\\*\\*24"),
    "counts beside feedback, of spikes": (recurrent(2, 300, message_bits=8), None, ""),
    "counts into many": (recurrent(300, 2, message_bits=8), "loihi", "2\\*\\*24"),
    "no current decay": (dense(neuron=CubaNeuron(0, 0, 1)), "netx", "current decay of 0"),
    "dense weights of zero": (dense(np.zeros((2, 3), np.int32)), "netx", "all its weights are zero"),
    "a negated power of two": (dense(np.array([[-64, -2, 0]])), "netx", "negated power of two"),
    "another negative": (dense(np.array([[-62, -2, 0]])), None, ""),
    "a convolution of zeros": (conv(Conv(np.zeros((1, 1, 2, 2), np.int32))), None, ""),
    "a kernel beyond int8": (conv(Conv(np.full((1, 1, 1, 128), 2))), "netx", "int8"),
    "a stride beyond int8": (conv(Conv(np.full((1, 1, 1, 1), 2), stride=(128, 1))), "netx", "int8"),
    "a voltage gone after one step": (dense(neuron=CubaNeuron(4096, 4096, 1)), "chip", "12-bit register"),
}


@pytest.mark.parametrize("case", FINDINGS)
def test_findings(case, tmp_path):
    network, target, message = FINDINGS[case]
    assert [finding.target for finding in findings(network)] == ([target] if target else [])
    path = tmp_path / "out.net"
    if target in ("loihi", "netx"):
        with pytest.raises(LimitError, match=message):
            save_netx(network, path)
        assert list(tmp_path.iterdir()) == []
    else:
        save_netx(network, path)
        assert_same_numbers(load_netx(path), network)
    if target == "loihi" and case != "a fraction":
        with pytest.raises(LimitError, match=message):
            to_onnx(network)
        with pytest.raises(LimitError, match=message):
            quantize(network)


def test_quantising_integers_changes_nothing():
    network = examples()["dense"]
    assert quantize(network) is quantize(network, scale=16) is network


def test_real_weights_before_an_integer_neuron_are_refused():
    with pytest.raises(LimitError, match="even numbers"):
        quantize(dense(np.array([[0.5, 2]])))


def test_many_groups_are_merged_without_changing_the_synapse(tmp_path):
    """Lava keeps the number of groups in an int8."""
    rng = np.random.default_rng(0)
    weight = 2 * rng.integers(-128, 128, (260, 2, 3, 1), dtype=np.int32)
    save_netx(conv(Conv(weight, groups=130), channels=260), tmp_path / "a.net")
    synapse = load_netx(tmp_path / "a.net").blocks[0].synapse
    assert synapse.groups == 65
    for output in range(260):
        seen = np.zeros((260, 3, 1))
        seen[output // 4 * 4 : output // 4 * 4 + 4] = synapse.weight[output]
        wanted = np.zeros((260, 3, 1))
        wanted[output // 2 * 2 : output // 2 * 2 + 2] = weight[output]
        assert (seen == wanted).all()


def test_an_old_file_stays_whole_when_writing_fails(tmp_path, monkeypatch):
    path = tmp_path / "a.net"
    save_netx(examples()["dense"], path)
    before = path.read_bytes()

    def full(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(ModelFileError, match="No space left"):
        save_netx(examples()["conv, pool, dense"], path)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.net"]


INCONSISTENT = {
    "no block": ([], "no spiking layer"),
    "a missing source": ([Block("a", Dense(GOOD), IF, (3,), None, ("b",))], "not all layers before it"),
    "two of a name": ([Block("a", Dense(GOOD), IF, (3,)), Block("a", Dense(GOOD), IF, (3,))], "taken"),
    "another input shape": ([Block("a", Dense(GOOD), IF, (1, 1, 3))], "expects spikes of the shape"),
    "a matrix that does not fit": ([Block("a", Dense(GOOD[:, :2]), IF, (3,))], "cannot read"),
    "a convolution of a vector": ([Block("a", Conv(np.full((1, 1, 1, 1), 2)), IF, (3,))], "cannot read"),
    "a weight that is not a number": ([Block("a", Dense(np.array([[np.nan, 1, 2]])), IF, (3,))], "not finite"),
    "a bias for another layer": ([Block("a", Dense(GOOD), IF, (3,), np.array([1, 2]))], "bias has the shape"),
}


@pytest.mark.parametrize("case", INCONSISTENT)
def test_a_network_that_contradicts_itself(case):
    blocks, message = INCONSISTENT[case]
    with pytest.raises(NetworkError, match=message):
        Network("n", (3,), tuple(blocks))


def test_a_branching_network_is_no_chain(tmp_path):
    first = build((3,), [(Dense(GOOD), IF, False)]).blocks[0]
    second = Block("b", Dense(GOOD), IF, (3,), None, ("input",))
    network = Network("n", (3,), (first, second))
    for write in (lambda: save_netx(network, tmp_path / "a.net"), lambda: to_onnx(network)):
        with pytest.raises(ConversionError, match="skip connections"):
            write()


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "not a NetX file"), (b"\x89HDF\r\n\x1a\n" + bytes(100), "not a NetX file"), (None, "Cannot read")],
)
def test_broken_net_files(tmp_path, content, message):
    path = tmp_path / "a.net"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelFileError, match=message):
        load_netx(path)
