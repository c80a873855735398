"""Encoder, Loihi and readout as one network; counts as graded spikes."""

import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

import custom_ops
from custom_ops.files.trace import Trace
from custom_ops.operators import OPERATORS
from onnx2lava import estimate, load, load_netx, quantize, save_netx, to_onnx, verify
from onnx2lava.errors import ConversionError, LimitError
from onnx2lava.host import classes, decode, encode, fitting, time_and_batch
from onnx2lava.network import INPUT, Dense, Edge, Input, Network, Population
from onnx2lava.network.neurons import CubaNeuron
from onnx2lava.targets import require
from onnx2lava.targets.limits import loihi
from onnx2lava.targets.numpy import simulate
from tests.onnx2lava.commands import run
from tests.onnx2lava.host_graphs import READOUTS, images, network
from tests.onnx2lava.networks import chains


def convert(folder, model, *options):
    onnx.save(model, folder / "in.onnx")
    command = [sys.executable, "-m", "onnx2lava", "convert", "in.onnx", "-o", "out.net", "--loihi-onnx", "loihi.onnx", *options]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)


def inspect(folder, file, *options):
    command = [sys.executable, "-m", "onnx2lava", "inspect", file, *options]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize(
    ("dims", "noted", "still", "found"),
    [
        (["T", "N", 3], None, False, (0, 1)),
        (["N", 2, "T"], None, False, (2, 0)),
        (["N", 5, 6], 1, False, (1, 0)),
        (["N", 5, 6], 1, True, (1, 0)),  # a fixed number of images, one for each time step
        (["N", 2, 4, 4], None, True, (None, 0)),  # one image
        ([5, "N", 6], 0, False, (0, 1)),
        ([4, 3, 6], None, False, (0, 1)),
    ],
)
def test_which_axes_are_time_and_samples(dims, noted, still, found):
    assert time_and_batch(dims, noted, still=still) == found


@pytest.mark.parametrize(
    ("features", "given", "found"),
    [
        ((3, 4, 4), (2, 3, 4, 4), (5, 2, 3, 4, 4)),
        ((3, 4, 4), (5, 2, 3, 4, 4), (5, 2, 3, 4, 4)),
        ((1, 4, 4), (2, 1, 4, 4), (5, 2, 1, 4, 4)),
        ((1, 4, 4), (5, 1, 1, 4, 4), (5, 1, 1, 4, 4)),
        ((2, 1, 6), (3, 2, 6), (5, 3, 2, 6)),
        ((1, 1, 6), (3, 1, 6), (5, 3, 1, 6)),
        ((2, 1, 6), (5, 3, 2, 6), (5, 3, 2, 6)),
        ((2, 1, 6), (5, 1, 2, 6), (5, 1, 2, 6)),
        ((7,), (3, 7), (5, 3, 7)),
        ((7,), (5, 1, 7), (5, 1, 7)),
    ],
)
def test_one_array_for_each_sample_is_repeated_where_the_network_did_that(features, given, found):
    edge = Edge("input", Dense(np.full((1, int(np.prod(features))), 2)))
    network = Network(
        "n", {"input": Input(features, repeats=5)}, (Population("fc", (1,), CubaNeuron(4096, 0, 9), (edge,)),), ("fc",)
    )
    assert fitting(network, np.ones(given))["input"].shape == found


def stock(path, x):
    """On onnxruntime as it comes: no library of ours is registered."""
    (output,) = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"input": x})
    return output


@pytest.mark.parametrize("readout", READOUTS)
def test_three_files_are_the_network(readout, tmp_path):
    model = network(readout)
    convert(tmp_path, model, "--input-kind", "images")
    with_readout = readout != "none"
    written = {path.name for path in tmp_path.iterdir()} - {"in.onnx", "out.net", "loihi.onnx"}
    assert written == {"out.encoder.onnx", *(["out.readout.onnx"] if with_readout else [])}
    x = images(9, 6)

    # The parts of the float network, as they were cut, are the float network.
    whole = onnx.ModelProto()
    whole.CopyFrom(model)
    neurons = {node.name: node.output[0] for node in model.graph.node if node.domain == "snn"}
    shown = [neurons["neuron.0/LIF"], neurons["neuron.2/IF"]]
    whole.graph.output.extend(onnx.ValueInfoProto(name=name) for name in shown)
    output, first, last = onnxruntime.InferenceSession(whole.SerializeToString()).run(None, {"input": x})
    spikes = stock(tmp_path / "out.encoder.onnx", x)
    assert 0.1 < first.mean() < 0.9
    assert (spikes == first).all()
    if with_readout:
        np.testing.assert_allclose(stock(tmp_path / "out.readout.onnx", last), output, rtol=1e-6)

    # And with Loihi's integers between them they are what verify ran.
    result = verify(model, x, against=["ort", "numpy"], input="images", labels=classes(output, 6))
    assert result.mismatches == result.encoder_mismatches == 0
    assert [layer.name for layer in result.layers] == ["neuron.1", "neuron.2"]
    assert all(0 < layer.rate < 1 and layer.agreement > 0.9 for layer in result.layers)
    loihi = stock(tmp_path / "loihi.onnx", spikes)
    assert (loihi == result.spikes["ort"]["neuron.2"]).all()
    said = stock(tmp_path / "out.readout.onnx", loihi) if with_readout else loihi
    assert result.accuracy["float"] == 1
    assert result.accuracy["ort"] == result.same_class["ort"] == np.mean(classes(said, 6) == classes(output, 6))
    assert len(load_netx(tmp_path / "out.net").populations) == 2


def test_inspect_shows_what_stays_on_the_host(tmp_path):
    onnx.save(network("a vote at each step"), tmp_path / "in.onnx")
    rows = [line.split()[:5] for line in inspect(tmp_path, "in.onnx", "--input-kind", "images").splitlines()]
    assert ["encoder", "on", "the", "host", "5x5x5"] in rows
    assert ["readout", "on", "the", "host", "4"] in rows
    assert [row[0] for row in rows if row and row[0].startswith("neuron")] == ["neuron.1", "neuron.2"]


def test_a_loihi_network_with_a_readout_is_compared_with_its_own_spikes():
    """The file's output is the readout's; its spikes are found by the layers' names."""
    float_network = quantize(load(network("a vote at each step"), input="images"))
    spikes = encode(float_network, images(9, 3))[INPUT]
    result = verify(float_network, images(9, 3), against=["ort", "numpy"])
    assert result.mismatches == 0
    assert {"file", "ort", "numpy"} == {*result.layers[-1].mismatches, result.layers[-1].reference}
    model = to_onnx(float_network)
    (last,) = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"input": spikes})
    assert (decode(float_network, last).shape) == (9, 3, 4)


def test_calibration_takes_images():
    loaded = load(network(), input="images")
    assert "sj2lava.calibration" in quantize(loaded, calibration=images(9, 6)).metadata


def test_a_trace_may_show_the_encoders_layer():
    x = images(9, 3)
    quantised = quantize(load(network(), input="images"))
    recorded = verify(network(), x, against=["ort"], input="images").spikes["ort"]
    trace = Trace(x, {"neuron.0": encode(quantised, x)[INPUT], **recorded})
    result = verify(network(), x, against=["ort"], input="images", trace=trace)
    assert result.mismatches == result.encoder_mismatches == 0
    assert result.encoder[0].name == "neuron.0"
    assert set(result.encoder[0].mismatches) == {"file", "trace"}
    trace.spikes["neuron.0"][1, 2, 0, 0, 0] = 1 - trace.spikes["neuron.0"][1, 2, 0, 0, 0]
    result = verify(network(), x, against=["ort"], input="images", trace=trace)
    assert (result.mismatches, result.encoder_mismatches) == (0, 1)


@pytest.mark.parametrize("readout", READOUTS)
def test_counts_go_to_loihi_as_they_are(readout, tmp_path):
    convert(tmp_path, network(readout), "--input-kind", "counts")
    assert not (tmp_path / "out.encoder.onnx").exists()
    assert load_netx(tmp_path / "out.net").inputs[INPUT].bits == 8
    assert "graded spikes of 8 bits" in inspect(tmp_path, "out.net")
    x = images(9, 6, counts=True)
    result = verify(network(readout), x, against=["ort", "numpy"], input="counts")
    assert result.mismatches == 0
    assert result.encoder_mismatches is None
    assert [layer.name for layer in result.layers] == ["neuron.0", "neuron.1", "neuron.2"]
    assert all(0 < layer.rate < 1 for layer in result.layers)


OF_COUNTS = {
    "any event": "b = Greater (input, half)  y = Cast <to = 1> (b)",
    "at most three": "y = Clip (input, , three)",
    "the sign, and more than 200": "s = Sign (input)  b = GreaterOrEqual (input, large)  f = Cast <to = 1> (b)  y = Add (s, f)",
    "all of 255 there are": "b = Equal (input, most)  y = Cast <to = 1> (b)",
}


@pytest.mark.parametrize("name", OF_COUNTS)
def test_functions_of_counts_are_neurons(name):
    """Whatever comes after whatever: what a neuron keeps of 255 events decides about no later step."""
    model = onnx.parser.parse_model(f"""<ir_version: 10, opset_import: ["" : 21, "snn" : 1]>
        g (float[T, N, 6] input) => (float[T, N, 6] output) {{
            {OF_COUNTS[name]}
            output = snn.IF <v_threshold = 1.0, v_reset = 0.0> (y)
        }}""")
    constants = {"half": 0.5, "three": 3.0, "large": 200.0, "most": 255.0}
    model.graph.initializer.extend(numpy_helper.from_array(np.float32(value), key) for key, value in constants.items())
    model.functions.append(OPERATORS["IF"].function())
    rng = np.random.default_rng(4)
    x = rng.choice([0, 0, 1, 2, 3, 4, 199, 200, 254, 255, 255], (200, 2, 6)).astype(np.float32)
    (expected,) = custom_ops.session(model, native=False).run(None, {"input": x})
    network = load(model, input="counts")
    assert (simulate(network, {"input": x})[network.outputs[0]] == expected).all()
    assert verify(model, x, against=["ort", "numpy"], input="counts").mismatches == 0
    assert 0 < expected.mean() < 1


def test_functions_of_counts_with_many_steps_are_refused():
    model = onnx.parser.parse_model("""<ir_version: 10, opset_import: ["" : 21, "snn" : 1]>
        g (float[T, N, 6] input) => (float[T, N, 6] output) {
            y = Mul (input, input)
            output = snn.IF <v_threshold = 1.0, v_reset = 0.0> (y)
        }""")
    model.functions.append(OPERATORS["IF"].function())
    with pytest.raises(ConversionError, match=r"\(Mul\): it multiplies numbers that are no spikes"):
        load(model, input="counts")


@pytest.mark.parametrize(
    ("kind", "x", "message"),
    [
        ("spikes", images(2, 1), "other than 0 and 1.*--input-kind images"),
        ("images", np.full((2, 1, 2, 7, 7), np.nan), "not finite"),
        ("images", np.zeros((2, 1, 5, 5, 5)), "reads \\[T, N, 2, 7, 7\\]"),
        ("counts", images(2, 1), "whole numbers 0 ... 255"),
        ("counts", np.full((2, 1, 2, 7, 7), 256), "whole numbers 0 ... 255"),
    ],
)
def test_input_of_another_kind_is_refused(kind, x, message):
    with pytest.raises(ConversionError, match=message):
        verify(network(), x, input=kind, against=["ort"])


def test_counts_can_sum_up_to_more_than_float32_holds():
    edges = (Edge(INPUT, Dense(np.full((1, 300), 254, np.int32))),)
    population = Population("fc", (1,), CubaNeuron(4096, 0, 1), edges)
    require(loihi(Network("spikes", {INPUT: Input((300,))}, (population,), ("fc",))))
    with pytest.raises(LimitError, match="2\\*\\*24"):
        require(loihi(Network("counts", {INPUT: Input((300,), 8)}, (population,), ("fc",))))


def test_message_bits_of_a_file_are_checked(tmp_path):
    import h5py

    from custom_ops.errors import ModelFileError

    save_netx(quantize(load(network(), input="counts")), tmp_path / "a.net")
    with h5py.File(tmp_path / "a.net", "r+") as file:
        file.attrs["input_message_bits"] = 2**20
    with pytest.raises(ModelFileError, match="input_message_bits are 1048576"):
        load_netx(tmp_path / "a.net")


@pytest.fixture
def folder(tmp_path):
    """A network with parts for the host, and one without."""
    onnx.save(network("a vote at each step"), tmp_path / "images.onnx")
    onnx.save(to_onnx(chains()["dense"]), tmp_path / "in.onnx")
    return tmp_path


# Several files are one.


def test_parts_for_the_host_appear_with_the_network_and_go_with_it(folder):
    convert = ("convert", "images.onnx", "-o", "out.net", "--input-kind", "images")
    run(*convert, folder=folder, code=0)
    assert (folder / "out.encoder.onnx").exists()
    assert (folder / "out.readout.onnx").exists()
    shown = run("convert", "in.onnx", "-o", "out.net", folder=folder, code=0)
    assert "removed out.encoder.onnx" in shown
    assert not (folder / "out.encoder.onnx").exists()
    assert not (folder / "out.readout.onnx").exists()
    # A part of another network beside a new one stays.
    (folder / "new.readout.onnx").write_bytes(b"mine")
    run("convert", "in.onnx", "-o", "new.net", folder=folder, code=0)
    assert (folder / "new.readout.onnx").read_bytes() == b"mine"


def test_if_one_file_cannot_be_written_all_stay_as_they_were(folder):
    for name in ("out.net", "out.encoder.onnx"):
        (folder / name).write_bytes(b"old")
    (folder / "out.readout.onnx").mkdir()
    said = run("convert", "images.onnx", "-o", "out.net", "--input-kind", "images", folder=folder, code=2)
    assert "out.readout.onnx" in said
    assert (folder / "out.net").read_bytes() == (folder / "out.encoder.onnx").read_bytes() == b"old"


def test_a_readout_does_not_eat_the_input(folder):
    (folder / "net.readout.onnx").write_bytes((folder / "images.onnx").read_bytes())
    said = run("convert", "net.readout.onnx", "-o", "net.net", "--input-kind", "images", folder=folder, code=2)
    assert "net.readout.onnx is also an input" in said
    assert (folder / "net.readout.onnx").read_bytes() == (folder / "images.onnx").read_bytes()


def test_one_of_several_outputs_is_chosen(folder):
    model = network("a vote at each step")
    model.graph.output.append(onnx.helper.make_empty_tensor_value_info("spikes"))
    onnx.save(model, folder / "two.onnx")
    assert load(folder / "two.onnx", input="images").readout is not None
    assert load(folder / "two.onnx", input="images", output="spikes").readout is None
    convert = ("convert", "two.onnx", "-o", "two.net", "--input-kind", "images", "--output-name")
    run(*convert, "spikes", folder=folder, code=0)
    assert not (folder / "two.readout.onnx").exists()
    said = run(*convert, "rates", folder=folder, code=2)
    assert "The model has no output 'rates': choose one of output, spikes." in said


def test_the_kind_of_input_is_what_the_exporter_saw(folder):
    model = network("a vote at each step")
    model.metadata_props.append(onnx.StringStringEntryProto(key="sj2lava.input_kind", value="images"))
    onnx.save(model, folder / "noted.onnx")
    assert load(folder / "noted.onnx").encoder is not None
    assert load(folder / "noted.onnx", input="counts").encoder is None
    assert "images" in run("inspect", "noted.onnx", folder=folder, code=0)
    assert verify(model, images(5, 2), against=["ort", "numpy"]).mismatches == 0
    assert estimate(model, images(5, 2)).samples == 2
    with pytest.raises(ConversionError, match="--input-kind images"):
        verify(model, images(5, 2), input="spikes")
    np.save(folder / "images.npy", images(5, 2))
    run("verify", "noted.onnx", "--input", "images.npy", "--against", "ort,numpy", folder=folder, code=0)
    said = run("verify", "noted.onnx", "--input", "images.npy", "--input-kind", "spikes", folder=folder, code=2)
    assert "--input-kind images" in said


def test_an_encoder_of_more_than_three_dimensions_is_refused():
    model = onnx.parser.parse_model("""<ir_version: 10, opset_import: ["" : 21, "snn" : 1]>
        encoder (float[N, 4] input) => (float[T, N, 1, 2, 3, 4] output) {
            output = snn.IF <v_threshold = 1.0, v_reset = 0.0> (input)
        }""")
    model.functions.append(OPERATORS["IF"].function(None))
    with pytest.raises(ConversionError, match=r"its features are \[1, 2, 3, 4\]"):
        load(model, input="images")
