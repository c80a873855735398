"""NIR in and out, against the tools that write it."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import nir
import norse.torch as norse
import numpy as np
import pytest
import sinabs.activation
import sinabs.layers
import snntorch
import snntorch.utils
import torch
from hypothesis import Phase, given, settings
from norse.torch.utils.export_nir import to_nir as norse_to_nir
from sinabs.nir import to_nir as sinabs_to_nir
from snntorch.export_nir import export_to_nir as snntorch_to_nir
from spikingjelly.activation_based import functional, layer, neuron, nir_exchange
from torch import nn

import custom_ops
import onnx2lava
import sj2onnx
from onnx2lava.targets.nir import save_nir
from onnx2lava.targets.numpy import simulate
from sj2onnx import ExportError

from ..conftest import ROOT
from ..onnx2lava.networks import float_networks, networks, spikes
from .graphs import Graph, graphs


def _random(graph: Graph) -> np.ndarray:
    return (np.random.default_rng(3).random((7, 2, *graph.input_shape)) < 0.5).astype(np.float32)


# What a graph means.


@settings(max_examples=100, deadline=None)
@given(graphs())
def test_graphs_mean_what_their_equations_say(graph: Graph) -> None:
    x = _random(graph)
    network = onnx2lava.load(graph.nir(), producer="snntorch" if graph.strict else "spikingjelly")
    found = simulate(network, {"input": x})
    for name, expected in graph.run(x).items():
        assert (found[name].reshape(expected.shape) == expected).all(), name
    result = onnx2lava.verify(network, x, against=["ort", "ort-native", "numpy"])
    assert result.mismatches == 0


@settings(max_examples=100, deadline=None)
@given(graphs(everything=False))
def test_graphs_mean_what_spikingjelly_imports(graph: Graph) -> None:
    x = _random(graph)
    net = nir_exchange.import_from_nir(graph.nir(), step_mode="s")
    state, steps = None, []
    with torch.no_grad():
        for step in torch.from_numpy(x):
            y, state = net(step, state)
            steps.append(y.numpy())
    network = onnx2lava.load(graph.nir())
    (last,) = network.outputs
    found = simulate(network, {"input": x})[last]
    assert (found.reshape(np.stack(steps).shape) == np.stack(steps)).all()


@settings(max_examples=8, deadline=None, phases=[Phase.explicit, Phase.generate])
@given(graphs(everything=False))
def test_what_spikingjelly_imports_is_exported(graph: Graph) -> None:
    x = torch.from_numpy(_random(graph))
    try:
        net = nir_exchange.import_from_nir(graph.nir(), step_mode="m")
    except NotImplementedError:  # feedback, which it runs step by step
        net = nir_exchange.import_from_nir(graph.nir(), step_mode="s")
        with pytest.raises(ExportError, match="feeds spikes back"):
            sj2onnx.export(net, x[0], stateful=True)
        return
    with torch.no_grad():
        expected, _ = net(x, None)
    model = sj2onnx.export(net, x)
    (found,) = custom_ops.session(model).run(None, {model.graph.input[0].name: x.numpy()})
    assert (found == expected.numpy()).all()


# Producers.


def _linear(inputs: int, outputs: int) -> nn.Linear:
    linear = nn.Linear(inputs, outputs, bias=False)
    linear.weight.data *= 3
    return linear


def _steps(net: nn.Sequential, x: torch.Tensor) -> np.ndarray:
    """Of modules that keep their states."""
    with torch.no_grad():
        return torch.stack([net(step) for step in x]).numpy()


def _snntorch(neurons: nn.Module) -> tuple[Any, Callable[[torch.Tensor], np.ndarray]]:
    net = nn.Sequential(_linear(12, 20), neurons)
    graph = snntorch_to_nir(net, torch.zeros(12))
    snntorch.utils.reset(net)
    return graph, lambda x: _steps(net, x)


def _norse(cell: nn.Module) -> tuple[Any, Callable[[torch.Tensor], np.ndarray]]:
    net = norse.SequentialState(_linear(12, 20), cell)

    def run(x: torch.Tensor) -> np.ndarray:
        state, out = None, []
        with torch.no_grad():
            for step in x:
                y, state = net(step, state)
                out.append(y.numpy())
        return np.stack(out)

    return norse_to_nir(net, torch.zeros(12)), run


def _sinabs(neurons: nn.Module) -> tuple[Any, Callable[[torch.Tensor], np.ndarray]]:
    net = nn.Sequential(_linear(12, 20), neurons)

    def run(x: torch.Tensor) -> np.ndarray:
        steps, samples = x.shape[:2]
        with torch.no_grad():
            flat = net(x.transpose(0, 1).reshape(samples * steps, -1))
        return flat.reshape(samples, steps, -1).transpose(0, 1).numpy()

    net(torch.zeros(3, 12))
    graph = sinabs_to_nir(net, torch.zeros(3, 12))
    net[1].reset_states()
    return graph, run


_ZERO = {"reset_mechanism": "zero", "reset_delay": False, "init_hidden": True}
_SINGLE = {"batch_size": 3, "spike_fn": sinabs.activation.SingleSpike, "reset_fn": sinabs.activation.MembraneReset()}
PRODUCERS: dict[str, tuple[str, float | None, Callable[[], tuple[Any, Callable[[torch.Tensor], np.ndarray]]]]] = {
    "snnTorch's Leaky": (
        "snntorch",
        None,
        lambda: _snntorch(snntorch.Leaky(torch.full((20,), 0.8), threshold=torch.full((20,), 0.5), **_ZERO)),
    ),
    "snnTorch's Synaptic": (
        "snntorch",
        None,
        lambda: _snntorch(
            snntorch.Synaptic(torch.full((20,), 0.5), torch.full((20,), 0.8), threshold=torch.full((20,), 0.5), **_ZERO)
        ),
    ),
    "snnTorch's RLeaky": ("snntorch", None, lambda: _snntorch(snntorch.RLeaky(0.8, linear_features=20, threshold=0.5, **_ZERO))),
    "Norse's LIFBoxCell": (
        "norse",
        1e-3,
        lambda: _norse(norse.LIFBoxCell(norse.LIFBoxParameters(tau_mem_inv=torch.tensor(300.0), v_th=torch.tensor(0.5)))),
    ),
    "Norse's LIFCell": ("norse", 1e-3, lambda: _norse(norse.LIFCell(norse.LIFParameters(v_th=torch.tensor(0.3))))),
    "Norse's IAFCell": ("norse", 1e-3, lambda: _norse(norse.IAFCell())),
    "Sinabs's IAF": ("sinabs", None, lambda: _sinabs(sinabs.layers.IAFSqueeze(spike_threshold=0.5, **_SINGLE))),
    "Sinabs's LIF": ("sinabs", None, lambda: _sinabs(sinabs.layers.LIFSqueeze(tau_mem=5.0, spike_threshold=0.3, **_SINGLE))),
}


@pytest.mark.parametrize("name", PRODUCERS)
def test_files_of_producers_mean_what_they_run(name: str, tmp_path: Path) -> None:
    producer, dt, make = PRODUCERS[name]
    torch.manual_seed(1)
    graph, run = make()
    x = (torch.rand(16, 3, 12) < 0.5).float()
    expected = run(x)
    assert 0.02 < expected.mean() < 0.9
    nir.write(tmp_path / "graph.nir", graph, compression=None)  # hdf5 cannot compress single numbers
    network = onnx2lava.load(tmp_path / "graph.nir", producer=producer, dt=dt)
    (last,) = network.outputs
    assert (simulate(network, {"input": x.numpy()})[last] == expected).all()


SPIKINGJELLY: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "dense": (
        lambda: nn.Sequential(
            *(layer.Linear(12, 20), neuron.LIFNode(v_threshold=0.25)),
            *(layer.Linear(20, 8), neuron.LIFNode(3.0, decay_input=False, v_threshold=0.5)),
        ),
        (12,),
    ),
    "images": (
        lambda: nn.Sequential(
            *(layer.Conv2d(2, 4, 3, padding=1), neuron.IFNode(v_threshold=0.25), layer.AvgPool2d(2), layer.Flatten()),
            *(layer.Linear(16, 8), neuron.ParametricLIFNode(v_threshold=0.125)),
        ),
        (2, 4, 4),
    ),
    "currents": (
        lambda: nn.Sequential(
            layer.Linear(12, 20), neuron.CUBALIFNode(), layer.Linear(20, 8, bias=False), neuron.CUBALIFNode(0.25, v_reset=-0.5)
        ),
        (12,),
    ),
}


@pytest.mark.parametrize("name", SPIKINGJELLY)
def test_spikingjelly_through_nir_is_spikingjelly_through_onnx(name: str, tmp_path: Path) -> None:
    make, shape = SPIKINGJELLY[name]
    torch.manual_seed(2)
    net = make().eval()
    functional.set_step_mode(net, "m")
    x = (torch.rand(12, 3, *shape) < 0.5).float()
    with torch.no_grad():
        expected = net(x).numpy()
    assert 0.01 < expected.mean() < 0.9
    functional.reset_net(net)
    nir_exchange.export_to_nir(net, x, tmp_path / "net.nir")
    functional.reset_net(net)
    through_onnx, through_nir = onnx2lava.load(sj2onnx.export(net, x)), onnx2lava.load(tmp_path / "net.nir")
    (last,) = through_nir.outputs
    assert (simulate(through_nir, {"input": x.numpy()})[last] == expected).all()
    for one, other in zip(through_onnx.populations, through_nir.populations, strict=True):
        assert one.shape == other.shape
        assert np.float32(one.neuron.v_threshold) == np.float32(other.neuron.v_threshold)
        assert (one.neuron.v_decay, one.neuron.i_decay) == pytest.approx((other.neuron.v_decay, other.neuron.i_decay), abs=1e-7)
        assert (one.bias is None) == (other.bias is None)
        for a, b in zip(one.edges, other.edges, strict=True):
            assert (a.map.weight == b.map.weight).all()
    for one, other in zip(onnx2lava.quantize(through_onnx).populations, onnx2lava.quantize(through_nir).populations, strict=True):
        assert one.neuron == other.neuron


# Out, and back.


@settings(max_examples=60, deadline=None)
@given(network=networks() | float_networks(networks()))
def test_a_round_trip_loses_nothing(tmp_path_factory: pytest.TempPathFactory, network: Any) -> None:
    path = tmp_path_factory.mktemp("nir") / "network.nir"
    save_nir(network, path)
    x = spikes(network, 5, 2)
    expected = simulate(network, x)
    for again in (onnx2lava.load(onnx2lava.to_nir(network)), onnx2lava.load(path), onnx2lava.load(nir.read(path))):
        found = simulate(again, x)
        for each in network.populations:
            assert again[each.name].neuron == each.neuron
            assert (found[each.name].reshape(expected[each.name].shape) == expected[each.name]).all()
        assert {name: (one.shape, one.bits) for name, one in again.inputs.items()} == {
            name: (one.shape, one.bits) for name, one in network.inputs.items()
        }
        assert set(again.outputs) == set(network.outputs)


def test_spikingjelly_runs_what_we_write() -> None:
    torch.manual_seed(2)
    net = SPIKINGJELLY["dense"][0]().eval()
    functional.set_step_mode(net, "m")
    x = (torch.rand(12, 3, 12) < 0.5).float()
    with torch.no_grad():
        expected = net(x).numpy()
    functional.reset_net(net)
    graph = onnx2lava.to_nir(onnx2lava.load(sj2onnx.export(net, x)))
    again, state, steps = nir_exchange.import_from_nir(graph), None, []
    with torch.no_grad():
        for step in x:
            y, state = again(step, state)
            steps.append(y.numpy())
    assert (np.stack(steps) == expected).all()


# Files of strangers.


def _graph(*nodes: Any, **more: Any) -> Any:
    graph = nir.NIRGraph.from_list(*nodes, type_check=False)
    graph.nodes.update(more)
    return graph


_IF = nir.IF(np.full(3, 1e4), np.ones(3), np.zeros(3))
_FC = nir.Linear(np.ones((3, 4), np.float32))


def _lif(**changed: Any) -> Any:
    numbers = {"tau": 2e-4, "r": 1.0, "v_leak": 0.0, "v_threshold": 1.0, "v_reset": 0.0} | changed
    return nir.LIF(**{name: np.broadcast_to(np.asarray(value), (3,)).copy() for name, value in numbers.items()})


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "an unknown node": (lambda: _graph(_FC, nir.I(np.ones(3)), _IF), r"'i' \(nir.I\): it has no counterpart on Loihi"),
    "a readout": (lambda: _graph(_FC, _IF, nir.Linear(np.ones((2, 3)))), "not the spikes of one layer"),
    "no neurons": (lambda: _graph(_FC), "no spiking neurons before its output"),
    "time constants that differ": (lambda: _graph(_FC, _lif(tau=[1e-4, 2e-4, 3e-4])), "tau differs from neuron to neuron"),
    "a time constant below a step": (lambda: _graph(_FC, _lif(tau=1e-5)), "give the dt of the simulation"),
    "a threshold below the reset": (lambda: _graph(_FC, _lif(v_reset=2.0)), "not above its reset"),
    "not a number": (lambda: _graph(_FC, _lif(r=np.nan)), "r is missing, or not all of it is finite"),
    "a matrix that does not fit": (lambda: _graph(nir.Input({"input": np.array([5])}), _FC, _IF), "reads one axis"),
    "an edge to nowhere": (
        lambda: nir.NIRGraph({"input": nir.Input([3]), "n": _IF}, [("input", "n"), ("n", "gone")], type_check=False),
        "does not exist: write the graph again, with edges between its nodes input, n.",
    ),
    "half a step": (lambda: _graph(nir.Delay(np.full(4, 1.5e-4)), _FC, _IF), "whole numbers of steps"),
    "a loop without neurons": (
        lambda: nir.NIRGraph(
            {"input": nir.Input([3]), "a": nir.Linear(np.eye(3)), "n": _IF, "output": nir.Output([3])},
            [("input", "a"), ("a", "a"), ("a", "n"), ("n", "output")],
            type_check=False,
        ),
        "loop without neurons",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_nothing_for_loihi_is_refused_in_a_sentence(name: str) -> None:
    make, message = REFUSED[name]
    with pytest.raises(onnx2lava.BridgeError, match=message) as refused:
        onnx2lava.load(make())
    assert str(refused.value).endswith(".")
    assert "\n" not in str(refused.value)


def test_bad_arguments_are_refused() -> None:
    graph = _graph(_FC, _IF)
    for options, message in (
        ({"producer": "brian"}, "There is no producer 'brian' of NIR: choose from spikingjelly, snntorch, norse, sinabs."),
        ({"dt": 0.0}, "The time step dt is 0 s"),
        ({"input_shape": (3,)}, "The argument input_shape is for a .net file of NetX, but this is a NIR graph"),
    ):
        with pytest.raises(onnx2lava.ConversionError, match=message):
            onnx2lava.load(graph, **options)


def test_hostile_files_stay_within_their_budget(tmp_path: Path) -> None:
    nir.write(tmp_path / "good.nir", _graph(_FC, _IF))
    content = (tmp_path / "good.nir").read_bytes()

    def huge(file: Any) -> None:
        del file["node/nodes/linear/weight"]
        file["node/nodes/linear"].create_dataset("weight", (2**20, 2**20), "f4", chunks=(1024, 1024), compression="gzip")

    def linked(file: Any) -> None:
        del file["node/nodes/linear/weight"]
        file["node/nodes/linear/weight"] = h5py.ExternalLink("/etc/passwd", "/weight")

    def round_and_round(file: Any) -> None:
        file["node/nodes/self"] = file["node"]

    def pooled(file: Any) -> None:
        del file["node/nodes/input/shape"]
        file["node/nodes/input/shape"] = np.array([2**30, 2**20, 2**20])

    for damage in (huge, linked, round_and_round, pooled):
        path = tmp_path / f"{damage.__name__}.nir"
        path.write_bytes(content)
        with h5py.File(path, "r+") as file:
            damage(file)
        with pytest.raises(onnx2lava.BridgeError):
            onnx2lava.load(path)


# The command line.


def test_every_command_takes_nir_and_convert_writes_it(tmp_path: Path) -> None:
    nir.write(tmp_path / "in.nir", _graph(_FC, _IF))
    np.save(tmp_path / "x.npy", (np.random.default_rng(0).random((8, 2, 4)) < 0.4).astype(np.float32))

    def run(*arguments: str, code: int = 0) -> str:
        done = subprocess.run(
            [str(ROOT / ".venv/bin/python"), "-m", "onnx2lava", *arguments], cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode == code, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout + done.stderr

    assert "dense" in run("inspect", "in.nir", "--dt", "1e-4", "--producer", "spikingjelly", "--wide")
    run("convert", "in.nir", "-o", "out.nir", "--loihi-onnx", "out.onnx")
    run("convert", "out.onnx", "-o", "again.nir")
    for name in ("in.nir", "out.nir", "again.nir"):
        assert "Every spike is the same" in run("verify", name, "--input", "x.npy", "--against", "ort,numpy")
    assert "There is no producer" in run("inspect", "in.nir", "--producer", "nobody", code=2)
    assert "for a NIR graph" in run("inspect", "out.onnx", "--dt", "0.1", code=2)
    assert (
        onnx2lava.load(tmp_path / "out.nir").populations[0].neuron == onnx2lava.load(tmp_path / "again.nir").populations[0].neuron
    )
