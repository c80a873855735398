"""What Loihi cannot hold and what NetX runs wrongly is found before anything is written."""

from dataclasses import replace

import numpy as np
import onnx
import onnx.parser
import pytest
from hypothesis import given, settings

import custom_ops
from custom_ops.errors import ModelFileError
from onnx2lava import (
    Conv,
    ConvTranspose,
    CubaNeuron,
    Dense,
    Edge,
    Input,
    Network,
    Population,
    load,
    load_netx,
    save_netx,
    to_onnx,
)
from onnx2lava.errors import ConversionError, LimitError, NetworkError
from onnx2lava.network import INPUT
from onnx2lava.targets import TARGETS, findings
from onnx2lava.targets.numpy import simulate
from tests.onnx2lava.networks import (
    IF,
    LEAKY,
    assert_same_numbers,
    build,
    chains,
    graphs,
    loops,
    random_chains,
    spikes,
    unusual_chains,
    weights,
)

GOOD = np.array([[2, -4, 6]], np.int32)
WIDE = np.full((1, 70_000), 254, np.int32)


def one(map_, shape, neuron=IF, bias=None, bits=0, recurrent=None):
    edges = [Edge(INPUT, map_)] + ([] if recurrent is None else [Edge("fc", Dense(recurrent), 1)])
    population = Population("fc", map_.output_shape(shape), neuron, tuple(edges), bias)
    return Network("n", {INPUT: Input(shape, bits)}, (population,), ("fc",))


def dense(weight=GOOD, neuron=IF, bias=None):
    return one(Dense(weight), (weight.shape[1],), neuron, bias)


def recurrent(inputs, outputs, bits):
    return one(Dense(np.full((outputs, inputs), 254)), (inputs,), recurrent=np.full((outputs, outputs), 254), bits=bits)


def conv(map_, channels=1):
    return one(map_, (channels, 150, 150))


FINDINGS = {
    "nothing": (dense(), [], ""),
    "the extremes": (dense(np.array([[-256, 254]]), CubaNeuron(1, 4095, 131071), np.array([-4096])), [], ""),
    "an odd weight": (dense(np.array([[2, 3, -128]])), [], ""),
    "odd weights beyond eight bits": (dense(np.array([[201, 3, -2]])), ["chip"], "eight bits do not hold"),
    "a weight too large": (dense(np.array([[-2, 256]])), ["loihi"], "not all in -256"),
    "a weight too small": (dense(np.array([[2, -258]])), ["loihi"], "not all in -256"),
    "a bias too large": (dense(bias=np.array([4096])), ["loihi"], "biases"),
    "a bias too small": (dense(bias=np.array([-4097])), ["loihi"], "biases"),
    "a threshold too large": (dense(neuron=CubaNeuron(4096, 0, 131072)), ["chip"], "17-bit register"),
    "a negative decay": (dense(neuron=CubaNeuron(-1, 0, 1)), ["loihi"], "current decay of -1"),
    "sums beyond float32": (dense(WIDE), ["loihi"], "2\\*\\*24"),
    "counts beside feedback, of spikes": (recurrent(2, 300, 8), [], ""),
    "counts that only feedback makes too large": (recurrent(259, 8, 8), ["loihi"], "2\\*\\*24"),
    "counts into many": (recurrent(300, 2, 8), ["loihi"], "2\\*\\*24"),
    "no current decay": (dense(neuron=CubaNeuron(0, 0, 1)), ["chip"], "current decay of 0"),
    "dense weights of zero": (dense(np.zeros((2, 3), np.int32)), ["netx"], "all its weights are zero"),
    "a negated power of two": (dense(np.array([[-64, -2, 0]])), ["netx"], "negated power of two"),
    "another negative": (dense(np.array([[-62, -2, 0]])), [], ""),
    "a convolution of zeros": (conv(Conv(np.zeros((1, 1, 2, 2), np.int32))), [], ""),
    "a kernel beyond int8": (conv(Conv(np.full((1, 1, 1, 128), 2))), ["netx"], "nothing that a convolution of NetX can say"),
    "a transposed convolution too large": (
        conv(ConvTranspose(np.full((1, 1, 2, 2), 2), (2, 2))),
        ["netx"],
        "nothing that a convolution of NetX can say",
    ),
    "a voltage gone after one step": (dense(neuron=CubaNeuron(4096, 4096, 1)), ["chip"], "12-bit register"),
}


@pytest.mark.parametrize("case", FINDINGS)
def test_findings(case, tmp_path):
    network, targets, message = FINDINGS[case]
    found = [finding for finding in findings(network) if finding.target != "lava"]
    assert [finding.target for finding in found] == targets
    path = tmp_path / "out.net"
    if targets in (["loihi"], ["netx"]):
        with pytest.raises(LimitError, match=message):
            save_netx(network, path)
        assert list(tmp_path.iterdir()) == []
    else:
        save_netx(network, path)
        assert_same_numbers(load_netx(path), network)
    if targets == ["loihi"]:
        for target in ("ort", "numpy"):
            with pytest.raises(LimitError, match=message):
                TARGETS[target].run(network, spikes(network, 2, 1))
        with pytest.raises(LimitError, match=message):
            to_onnx(network)


def test_a_sum_counts_all_edges_and_all_of_a_kernel():
    """Of many sources, each below the limit, together they reach it; a transposed kernel sums over its inputs."""
    half = np.full((1, 33_100), 254, np.int32)
    network = dense(half)
    (first,) = network.populations
    more = tuple(Edge(INPUT, Dense(half), delay) for delay in (1, 2))
    both = replace(network, populations=(replace(first, edges=first.edges + more),))
    assert not [finding for finding in findings(network) if finding.target == "loihi"]
    assert [finding.target for finding in findings(both) if finding.target == "loihi"] == ["loihi"]
    wide = one(ConvTranspose(np.full((33_100, 1, 1, 2), 254, np.int32)), (33_100, 1, 1))
    assert [finding.target for finding in findings(wide) if finding.target == "loihi"] == ["loihi"]


@pytest.mark.parametrize("name", [*graphs(), *loops()])
def test_what_is_no_chain_is_refused_by_netx_alone_and_says_what_to_do(name, tmp_path):
    network = (graphs() | loops())[name]
    chain = name == "feedback through a convolution"
    found = [finding for finding in findings(network) if finding.target == "netx"]
    assert bool(found) != chain
    if not chain:
        with pytest.raises(LimitError, match=r"run it with to_lava|one edge with a delay of 1"):
            save_netx(network, tmp_path / "a.net")
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", [*chains(), *unusual_chains()])
def test_the_file_is_the_legalised_network_and_that_spikes_alike(name, tmp_path):
    assert_legal((chains() | unusual_chains())[name], tmp_path / "a.net")


@settings(max_examples=80, deadline=None)
@given(random_chains(unusual=True))
def test_random_chains_are_legalised(network):
    assert_legal(network)


def assert_legal(network, path=None):
    if TARGETS["netx"].check(network):
        return  # of weights; see above
    legal = TARGETS["netx"].legalise(network)
    assert_same_numbers(TARGETS["netx"].legalise(legal), legal)
    if path:
        save_netx(network, path)
        assert_same_numbers(load_netx(path), legal)
    x = spikes(network, 6, 2)
    found = simulate(legal, x)
    for name, values in simulate(network, x).items():
        assert (found[name].reshape(values.shape) == values).all(), name
    for each in legal.populations:
        for edge in each.edges:
            assert isinstance(edge.map, Conv | Dense)
            if isinstance(edge.map, Conv):
                assert edge.map.pads[:2] == edge.map.pads[2:]
                assert edge.delay == 0
                assert edge.map.groups <= 127


def test_many_groups_are_merged_without_changing_the_convolution(tmp_path):
    """Lava keeps the number of groups in an int8."""
    rng = np.random.default_rng(0)
    network = conv(Conv(weights(rng, 260, 2, 3, 1), groups=130), channels=260)
    network = one(network.populations[0].edges[0].map, (260, 5, 4))
    assert_legal(network, tmp_path / "a.net")
    assert load_netx(tmp_path / "a.net").populations[0].edges[0].map.groups == 65


def test_a_readout_reads_what_the_file_gives():
    """Where NetX's last layer is flat, the readout gets a Reshape in front; it still reads the images of the ONNX file."""
    readout = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 21]> vote (float[T, N, 2, 3, 4] input) => (float[N, 2] output)'
        "{ axes = Constant <value = int64[3] {0, 3, 4}> () output = ReduceSum <keepdims = 0> (input, axes) }"
    )
    network = build((6,), [(Dense(weights(np.random.default_rng(1), 24, 6)), LEAKY, True)])
    (last,) = network.populations
    network = replace(network, populations=(replace(last, shape=(2, 3, 4), bias=None),), readout=readout)
    legal = TARGETS["netx"].legalise(network)
    assert legal.populations[0].shape == (24,)
    assert TARGETS["netx"].legalise(legal).readout is legal.readout
    images = np.random.default_rng(2).random((5, 3, 2, 3, 4)).astype(np.float32)
    (expected,) = custom_ops.session(readout).run(None, {"input": images})
    for given_ in (images, images.reshape(5, 3, 24)):
        (found,) = custom_ops.session(legal.readout).run(None, {"input": given_})
        np.testing.assert_array_equal(found, expected)


def test_an_old_file_stays_whole_when_writing_fails(tmp_path, monkeypatch):
    path = tmp_path / "a.net"
    save_netx(chains()["dense"], path)
    before = path.read_bytes()

    def full(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(ModelFileError, match="No space left"):
        save_netx(chains()["conv, pool, dense"], path)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.net"]


def _population(name="a", weight=GOOD, source=INPUT, shape=(1,), **options):
    return Population(name, shape, IF, (Edge(source, Dense(weight), **options),))


INCONSISTENT = {
    "no population": ([], "no spiking layer"),
    "no edge": ([Population("a", (1,), IF, ())], "no edge leads to it"),
    "a missing source": ([_population(source="b")], "neither an input nor a population before it"),
    "a source behind without delay": ([_population(source="b"), _population("b")], "neither an input nor a population before it"),
    "two of a name": ([_population(), _population()], "taken"),
    "a matrix that does not fit": ([_population(weight=GOOD[:, :2])], "cannot read"),
    "another shape than its sums": ([_population(shape=(2,))], "gives it sums of the shape"),
    "another shape than the source": ([_population(reads=(1, 1, 4))], "reads 'input' as"),
    "a convolution of a vector": ([Population("a", (1,), IF, (Edge(INPUT, Conv(np.full((1, 1, 1, 1), 2))),))], "cannot read"),
    "a weight that is not whole": ([_population(weight=np.array([[0.5, 1, 2]]))], "whole numbers"),
    "a bias for another layer": ([replace(_population(), bias=np.array([1, 2]))], "bias has the shape"),
}


@pytest.mark.parametrize("case", INCONSISTENT)
def test_a_network_that_contradicts_itself(case):
    populations, message = INCONSISTENT[case]
    with pytest.raises(NetworkError, match=message):
        Network("n", {INPUT: Input((3,))}, tuple(populations), tuple(each.name for each in populations[-1:]))


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "it is empty"), (b"\x89HDF\r\n\x1a\n" + bytes(100), "not a NetX file"), (None, "Cannot read")],
)
def test_broken_net_files(tmp_path, content, message):
    path = tmp_path / "a.net"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelFileError, match=message):
        load_netx(path)


def test_a_file_is_what_it_holds_whatever_its_name(tmp_path):
    network = chains()["conv, pool, dense"]
    legal = TARGETS["netx"].legalise(network)
    save_netx(network, tmp_path / "a.onnx")
    (tmp_path / "b.net").write_bytes(to_onnx(network).SerializeToString())
    assert_same_numbers(load(tmp_path / "a.onnx"), legal)
    assert_same_numbers(load(tmp_path / "b.net"), network)
    for path, option in (("a.onnx", {"input": "images"}), ("b.net", {"num_layers": 1})):
        with pytest.raises(ConversionError, match=f"The argument {next(iter(option))} is for"):
            load(tmp_path / path, **option)
