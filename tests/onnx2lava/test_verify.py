"""Every spike is compared, nothing is left out in silence, and parts add up to the whole, number by number."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import h5py
import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from custom_ops.errors import ModelFileError, RuntimeUnavailableError
from custom_ops.files.trace import Trace
from custom_ops.operators import OPERATORS
from onnx2lava import CubaNeuron, quantize, to_onnx, verify
from onnx2lava.errors import ConversionError, LavaRunError, LimitError
from onnx2lava.network import INPUT
from onnx2lava.targets import TARGETS
from onnx2lava.targets.numpy import simulate
from onnx2lava.verification import Disagreement, compare, merged, read_json, write_json
from onnx2lava.verification.counts import FLOAT, FLOAT_NATIVE, compared
from onnx2lava.verification.parallel import Processes
from onnx2lava.verification.tables import verdicts
from tests.onnx2lava.networks import chains, examples, graphs, like_trained, loops, networks, spikes

NETWORK = chains()["strided, dilated, grouped, odd, biased"]
ROOT = Path(__file__).parents[2]


def recorded(network, x):
    return Trace(x[INPUT], {name: values.astype(np.uint8) for name, values in simulate(network, x).items()})


def numbers(result, folder):
    """The JSON, without how long it took."""
    write_json(result, folder / "result.json", spikes=True)
    found = json.loads((folder / "result.json").read_text())
    found["seconds"] = list(found["seconds"])
    return found


@pytest.mark.parametrize("name", examples())
def test_every_population_is_compared_in_every_runtime(name):
    network = examples()[name]
    result = verify(network, spikes(network, 6, 3), against=["ort", "ort-native", "numpy"])
    assert result.mismatches == 0
    assert [layer.name for layer in result.layers] == [each.name for each in network.populations]
    for layer in result.layers:
        assert layer.reference == "file"
        assert set(layer.mismatches) == {"ort", "ort-native", "numpy"}
        assert layer.size == 6 * 3 * network[layer.name].neurons


def test_one_wrong_spike_is_found_and_counted_once():
    x = spikes(NETWORK, 6, 3)
    trace = recorded(NETWORK, x)
    trace.spikes["conv_fc.1"][2, 1, 0, 0, 0] ^= 1
    trace.spikes["conv_fc.2"][4, 2, 3] ^= 1
    result = verify(NETWORK, x, against=["ort", "numpy"], trace=trace, batch=2)
    layer, first = result.first
    assert result.mismatches == 2
    assert (layer.name, layer.mismatches) == ("conv_fc.1", {"file": 1, "ort": 1, "numpy": 1})
    assert first == Disagreement(2, 1, 0, "file")
    assert result.layers[2].first == Disagreement(4, 2, 3, "file")
    assert (result.evidence["conv_fc.1"]["trace"] != result.evidence["conv_fc.1"]["ort"]).sum() == 1
    (said,) = verdicts(result)
    assert said.startswith("2 spikes differ: first in 'conv_fc.1' at time step 2, sample 1, neuron 0")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, None),
        ({"b": (5, 0, 1)}, Disagreement(5, 0, 1, "b")),
        ({"b": (5, 0, 1), "c": (3, 1, 2)}, Disagreement(3, 1, 2, "c")),
        ({"b": (3, 1, 0), "c": (3, 0, 0)}, Disagreement(3, 0, 0, "c")),
    ],
)
def test_the_first_disagreement_is_the_earliest_in_time(change, expected):
    runs = {name: np.zeros((8, 2, 3)) for name in "abc"}
    for name, place in change.items():
        runs[name][place] = 1
    assert compared("layer", runs).first == expected


# What was not compared is said.


def test_silent_populations_are_named_and_not_called_the_same():
    deaf = replace(NETWORK.populations[1], neuron=CubaNeuron(4096, 0, 131071))
    network = replace(NETWORK, populations=(NETWORK.populations[0], deaf, NETWORK.populations[2]))
    result = verify(network, spikes(network, 4, 2), against=["ort", "numpy"])
    assert result.silent[0] == "conv_fc.1"
    assert {note.subject for note in result.notes if note.kind == "silent"} == set(result.silent)
    (said,) = verdicts(result)
    assert "Every spike is the same" not in said
    assert "'conv_fc.1'" in said


def test_one_runtime_alone_compares_nothing():
    network = like_trained()
    result = verify(network, spikes(network, 4, 2), against=["ort"])
    assert set(result.uncompared) == {each.name for each in network.populations}
    assert [note.kind for note in result.notes if note.weakens] == ["not compared"]
    assert verdicts(result)[0] == "Nothing was compared: only one runtime ran."


def test_a_runtime_that_cannot_hold_the_network_is_left_out_with_its_finding():
    network = chains()["delayed"]
    loop = loops()["a loop through two"]
    result = verify(loop, spikes(loop, 4, 2))
    assert "hears itself through 'second'" in result.left_out["ort"]
    assert set(", ".join(note.subject for note in result.notes if note.kind == "left out").split(", ")) == set(result.left_out)
    assert set(result.seconds) | set(result.left_out) == set(TARGETS)
    with pytest.raises(LimitError, match="hears itself"):
        verify(loop, spikes(loop, 4, 2), against=["ort"])
    assert verify(network, spikes(network, 4, 2)).mismatches == 0


def test_runtimes_that_are_not_here_are_left_out_with_the_reason(monkeypatch):
    monkeypatch.setattr(type(TARGETS["lava"]), "available", lambda self: "Lava is on strike.")
    x = spikes(NETWORK, 2, 1)
    assert verify(NETWORK, x).left_out["lava"] == "Lava is on strike."
    with pytest.raises(RuntimeUnavailableError, match="on strike"):
        verify(NETWORK, x, against=["ort", "lava"])


def test_large_networks_leave_numpy_out_unless_it_is_asked_for(monkeypatch):
    monkeypatch.setattr(compare, "_NUMPY_LIMIT", 1)
    x = spikes(NETWORK, 2, 1)
    assert "synaptic operations" in verify(NETWORK, x).left_out["numpy"]
    assert "numpy" in verify(NETWORK, x, against=["ort", "numpy"]).seconds


def test_options_that_have_nothing_to_apply_to_are_said():
    x = spikes(NETWORK, 2, 1)
    result = verify(NETWORK, x, against=["ort", "numpy"], scale=64, labels=np.array([99]))
    assert {note.subject for note in result.notes if note.kind == "option"} == {"scale", "labels"}
    assert "0 to 4" in next(note.message for note in result.notes if note.subject == "labels")


def test_float_networks_run_with_their_bodies_and_with_the_native_operators():
    network = like_trained(3)
    x = spikes(network, 16, 10)
    labels = simulate(network, x)["layer3"].sum(axis=0).argmax(axis=1)
    result = verify(network, x, against=["ort", "numpy"], labels=labels)
    assert result.mismatches == 0
    assert list(result.seconds) == [FLOAT, FLOAT_NATIVE, "ort", "numpy"]
    before, after = simulate(network, x), simulate(quantize(network), x)
    for layer in result.layers:
        real, whole = before[layer.name], after[layer.name]
        assert layer.agreement == np.mean(real == whole)
        assert layer.float_rate == np.mean(real != 0)
        assert layer.mismatches == {FLOAT_NATIVE: 0, "numpy": 0}
    assert result.accuracy[FLOAT] == 1
    assert result.accuracy["ort"] == result.accuracy["numpy"] == result.same_class["ort"] <= 1
    assert FLOAT not in result.same_class
    assert "Against the network before quantisation" in verdicts(result)[1]


def test_weights_that_vanish_are_noted():
    network = like_trained()
    result = verify(network, spikes(network, 4, 2), against=["ort", "numpy"], scale=1e-3)
    notes = [note.message for note in result.notes]
    assert any("lost all its weights" in note for note in notes)
    assert any("never fired, though it did before quantisation" in note for note in notes)


# In pieces.


@settings(max_examples=30, deadline=None)
@given(networks(), st.integers(1, 7), st.integers(1, 6), st.booleans())
def test_pieces_add_up_to_the_whole(network, samples, cut, with_labels):
    cut = min(cut, samples - 1)
    x = spikes(network, 5, samples)
    options = {"against": ["ort", "numpy"], "labels": np.zeros(samples, int) if with_labels else None, "batch": 2}
    whole = verify(network, x, **options)
    parts = [whole]
    if cut:
        parts = [verify(network, x, samples=(a, b), **options) for a, b in ((cut, None), (0, cut))]
    both = merged(parts)
    for name in ("model", "steps", "samples", "layers", "encoder", "votes", "left_out", "remarks", "notes", "mismatches"):
        assert getattr(both, name) == getattr(whole, name), name
    assert both.count == samples


def test_disagreements_of_parts_are_those_of_the_whole(tmp_path):
    x = spikes(NETWORK, 6, 8)
    trace = recorded(NETWORK, x)
    for place in ((5, 1, 0), (3, 6, 2), (3, 7, 1)):
        trace.spikes["conv_fc.2"][place] ^= 1
    options = {"against": ["ort", "numpy"], "trace": trace, "batch": 2}
    whole = verify(NETWORK, x, **options)
    parts = [verify(NETWORK, x, samples=each, **options) for each in ((0, 4), (4, 6), (6, 8))]
    for index, part in enumerate(parts):
        write_json(part, tmp_path / f"{index}.json", spikes=True)
    read = merged([read_json(tmp_path / f"{index}.json") for index in (2, 0, 1)])
    assert numbers(read, tmp_path) == numbers(whole, tmp_path)
    assert whole.layers[2].first == Disagreement(3, 6, 2, "file")


def test_parts_that_do_not_belong_together_are_refused(tmp_path):
    x = spikes(NETWORK, 4, 4)
    parts = [verify(NETWORK, x, against=["ort"], samples=each) for each in ((0, 2), (2, 4), (1, 3))]
    with pytest.raises(ConversionError, match="samples 1 … 1 stand in two parts"):
        merged([parts[0], parts[2]])
    other = replace(NETWORK, name="other")
    with pytest.raises(ConversionError, match="differ in their model"):
        merged([parts[0], verify(other, x, against=["ort"], samples=(2, 4))])
    with pytest.raises(ConversionError, match="differ in their runtimes"):
        merged([parts[0], verify(NETWORK, x, against=["numpy"], samples=(2, 4))])
    with pytest.raises(ConversionError, match="no parts"):
        merged([])
    for text in (" ", "[]", '{"schema": 1}', '{"schema": 3}', "[" * 100_000):
        (tmp_path / "part.json").write_text(text)
        with pytest.raises(ModelFileError, match="not a result"):
            read_json(tmp_path / "part.json")


def test_memory_does_not_grow_with_the_number_of_samples(tmp_path):
    """Of 100 and of 10,000 samples; the input of the latter alone is 41 MB."""
    code = """
import resource, sys, numpy as np
from onnx2lava import verify
from tests.onnx2lava.networks import like_trained
result = verify(like_trained(), sys.argv[1], against=["ort", "ort-native"])
assert result.mismatches == 0
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""
    peaks = []
    rng = np.random.default_rng(0)
    for samples in (100, 10_000):
        path = tmp_path / f"{samples}.npy"
        x = np.lib.format.open_memmap(path, "w+", np.float32, (8, samples, 2, 8, 8))
        for step in x:
            step[:] = rng.random(step.shape) < 0.4
        del x
        ran = subprocess.run([sys.executable, "-c", code, path], cwd=ROOT, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stderr
        peaks.append(int(ran.stdout))
    assert peaks[1] < peaks[0] + 100, peaks


def test_input_comes_from_anywhere(tmp_path):
    x = spikes(NETWORK, 5, 6)[INPUT]
    expected = verify(NETWORK, x, against=["ort", "numpy"], labels=np.arange(6) % 5)
    np.save(tmp_path / "x.npy", x.astype(np.uint8))
    np.savez_compressed(tmp_path / "x.npz", input=x.astype(np.uint8))
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["frames"] = x.astype(np.uint8)
    batches = [(x[:, :1], np.array([0])), (x[:, 1:5], np.array([1, 2, 3, 4])), (x[:, 5:], np.array([0]))]
    for given_x in (tmp_path / "x.npy", str(tmp_path / "x.npz"), tmp_path / "x.h5", {INPUT: tmp_path / "x.npy"}):
        result = verify(NETWORK, given_x, against=["ort", "numpy"], labels=np.arange(6) % 5)
        assert (result.layers, result.votes) == (expected.layers, expected.votes)
    result = verify(NETWORK, iter(batches), against=["ort", "numpy"])
    assert (result.layers, result.votes, result.samples) == (expected.layers, expected.votes, ((0, 6),))
    assert verify(NETWORK, (each for each, _ in batches), against=["ort", "numpy"]).layers == expected.layers


def test_several_inputs_come_by_name(tmp_path):
    network = graphs()["two inputs and two outputs"]
    x = spikes(network, 5, 3)
    expected = verify(network, x, against=["ort", "numpy"])
    np.savez(tmp_path / "x.npz", **x)
    assert verify(network, tmp_path / "x.npz", against=["ort", "numpy"]).layers == expected.layers
    with pytest.raises(ConversionError, match="inputs eyes, ears"):
        verify(network, x["eyes"])
    with pytest.raises(ConversionError, match="'eyes', but the network reads 'eyes', 'ears'"):
        verify(network, {"eyes": x["eyes"]})
    with pytest.raises(ConversionError, match=r"'ears' has \[5, 2\]"):
        verify(network, {"eyes": x["eyes"], "ears": x["ears"][:, :2]})


# In parallel.


def test_any_executor_gives_the_same_numbers(tmp_path):
    x = spikes(NETWORK, 5, 7)
    options = {"against": ["ort", "numpy"], "batch": 2, "labels": np.arange(7) % 5}
    expected = numbers(verify(NETWORK, x, **options), tmp_path)
    seen = []
    with ThreadPoolExecutor(3) as pool:
        result = verify(NETWORK, x, executor=pool, progress=lambda *done: seen.append(done), **options)
    assert numbers(result, tmp_path) == expected
    assert seen[-1] == ("samples", 7, 7)
    with Processes(2) as processes:
        assert numbers(verify(NETWORK, x, executor=processes, **options), tmp_path) == expected


def test_a_dask_cluster_gives_the_same_numbers_though_a_worker_is_killed(tmp_path, cluster_python):
    x = spikes(NETWORK, 5, 24)[INPUT]
    np.save(tmp_path / "x.npy", x)
    onnx.save(to_onnx(NETWORK), tmp_path / "in.onnx")
    command = [cluster_python, ROOT / "tests" / "peers" / "dask_cluster.py", tmp_path / "in.onnx", tmp_path / "x.npy"]
    ran = subprocess.run(
        [*command, tmp_path / "found.json"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    found = json.loads((tmp_path / "found.json").read_text())
    write_json(verify(tmp_path / "in.onnx", x, against=["ort", "numpy"]), tmp_path / "here.json")
    here = json.loads((tmp_path / "here.json").read_text())
    for each in (found, here):
        del each["seconds"], each["versions"]  # the cluster's Python is another
    assert found == here


def _dies_once(work, chunk, mark):
    """The worker that gets the third sample first is killed in the middle."""
    if chunk.start == 2 and not Path(mark).exists():
        Path(mark).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return compare._check(work, chunk)


class _Dying(Processes):
    """Sends :func:`_dies_once` instead of the check."""

    mark = ""

    def submit(self, fn, /, *args, **kwargs):
        return super().submit(_dies_once, *args, self.mark)


def test_a_worker_that_dies_is_replaced_and_its_samples_are_counted_once(tmp_path):
    x = spikes(NETWORK, 5, 7)
    options = {"against": ["ort", "numpy"], "batch": 1}
    expected = numbers(verify(NETWORK, x, **options), tmp_path)
    with _Dying(2) as pool:
        pool.mark = str(tmp_path / "killed")
        assert numbers(verify(NETWORK, x, executor=pool, **options), tmp_path) == expected
    assert (tmp_path / "killed").exists()


def _dies(*_):
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_pool_that_stays_broken_is_a_sentence(monkeypatch):
    monkeypatch.setattr(compare, "_check", _dies)
    with (
        ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool,
        pytest.raises(LavaRunError, match="worker process ended"),
    ):
        verify(NETWORK, spikes(NETWORK, 3, 2), against=["ort"], executor=pool)
    with Processes(1) as processes, pytest.raises(LavaRunError, match="worker process ended"):
        verify(NETWORK, spikes(NETWORK, 3, 2), against=["ort"], executor=processes)


# Refusals.


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"against": "ort"}, "given as the text 'ort'"),
        ({"against": ["ort", "brian"]}, "no runtime brian"),
        ({"against": []}, "no runtime given"),
        ({"scale": "64"}, "scale is '64'"),
        ({"batch": 0}, "batch is 0"),
        ({"samples": (2, 9)}, "samples 2:9 are not there: there are 3"),
        ({"samples": (3, None)}, "samples 3: are not there"),
        ({"samples": (2, 2)}, "samples 2:2 are not there"),
        ({"labels": np.zeros(2, int)}, "need one for each of 3"),
        ({"labels": np.zeros(3)}, "of the type float64"),
        ({"x": np.zeros((0, 1, 3, 9, 7))}, "0 time steps"),
        ({"x": np.zeros((1, 0, 3, 9, 7))}, "0 samples"),
        ({"x": np.zeros((1, 1, 3, 9, 8))}, "the network reads"),
        ({"x": np.full((1, 1, 3, 9, 7), 0.5)}, "other than 0 and 1"),
        ({"x": iter([np.zeros((2, 1, 3, 9, 7)), np.zeros((3, 1, 3, 9, 7))])}, "3 time steps, but those before it have 2"),
        ({"x": iter(["text"])}, "Cannot read text"),
        ({"x": iter([5])}, "batch is a int"),
        ({"x": iter([])}, "no parts"),
    ],
)
def test_bad_arguments(options, message):
    options = {"x": spikes(NETWORK, 4, 3), **options}
    with pytest.raises((ConversionError, ModelFileError), match=message):
        verify(NETWORK, options.pop("x"), **options)


def test_sizes_that_a_file_has_fixed_are_said():
    model = to_onnx(examples()["dense"])
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 6
    assert verify(model, np.zeros((6, 2, 5)), against=["ort"]).mismatches == 0
    with pytest.raises(ConversionError, match=r"reads 'input' as \[6, 'N', 5\], but this input makes it \[4, 2, 5\].*time first"):
        verify(model, np.zeros((4, 2, 5)), against=["ort"])


def test_traces_of_other_inputs_or_layers_are_refused():
    x = spikes(NETWORK, 4, 3)
    trace = recorded(NETWORK, x)
    for wrong, message in (
        (Trace(1 - trace.input, trace.spikes), "another input"),
        (Trace(trace.input[:, :2], trace.spikes), "another input"),
        (Trace(trace.input, {"foo": trace.input[:, :, 0, 0, 0]}), "layer 'foo' with the shape"),
        (Trace(trace.input, {"conv_fc.2": trace.spikes["conv_fc.1"]}), "layer 'conv_fc.2' with the shape"),
    ):
        with pytest.raises(ConversionError, match=message):
            verify(NETWORK, x, against=["ort"], trace=wrong)


def test_results_are_numbers_that_json_keeps(tmp_path):
    x = spikes(NETWORK, 6, 3)
    result = verify(NETWORK, x, against=["ort", "numpy"])
    write_json(result, tmp_path / "a.json")
    found = json.loads((tmp_path / "a.json").read_text())
    assert found["schema"] == 3
    assert found["versions"]["sj2lava"]
    assert found["model"]["sha256"]
    assert found["layers"][0]["spikes"] == result.layers[0].spikes == np.count_nonzero(simulate(NETWORK, x)["conv_fc.0"])
    assert "window" not in found
    back = read_json(tmp_path / "a.json")
    for field in dataclasses.fields(back):
        if field.name not in ("given", "network", "spikes", "evidence", "causes", "inputs", "scores", "labels"):
            assert getattr(back, field.name) == getattr(result, field.name), field.name


def test_what_gates_say_is_compared_where_the_file_says_it_too():
    """A Max of three and a Where are made of several neurons, of which at most the last gives what the node gives."""
    neurons = "<i_decay = 4096, v_decay = 0, v_threshold = 50>"
    model = onnx.parser.parse_model(f"""<ir_version: 10, opset_import: ["" : 21, "snn" : 1]>
        g (float[T, N, 4] input) => (float[T, N, 2] output) {{
            x = MatMul (input, wa)  a = snn.CubaLIF {neurons} (x)
            y = MatMul (input, wb)  b = snn.CubaLIF {neurons} (y)
            z = MatMul (input, wc)  c = snn.CubaLIF {neurons} (z)
            largest = Max (a, b, c)  more = Greater (a, b)  truth = Cast <to = 9> (c)
            chosen = Where (truth, a, b)  both = Mul (b, c)  as_number = Cast <to = 1> (more)
            one = Add (largest, chosen)  two = Add (both, as_number)  all = Add (one, two)
            sums = MatMul (all, wd)  output = snn.CubaLIF {neurons} (sums)
        }}""")
    rng = np.random.default_rng(0)
    for name, shape in (("wa", (4, 3)), ("wb", (4, 3)), ("wc", (4, 3)), ("wd", (3, 2))):
        weight = 2 * rng.integers(-5, 40, shape)
        model.graph.initializer.append(onnx.numpy_helper.from_array(weight.astype(np.float32), name))
    model.functions.append(OPERATORS["CubaLIF"].function())
    x = (rng.random((30, 4, 4)) < 0.5).astype(np.float32)
    result = verify(model, x, against=["ort", "numpy"])
    assert (result.mismatches, result.left_out) == (0, {})
    by_file = [each.reference == "file" for each in result.layers]
    assert by_file.count(True) == 6, result.layers  # the neurons, the product and the last of the Max
    assert all(0 < each.rate < 1 for each in result.layers)
