"""Random networks of SpikingJelly's layers: equal to SpikingJelly as they are read, and equal to each other wherever they run.

`make graphs CASES=3000 SEED=1` tries many others, `make graphs-lava CASES=100` in Lava as well.
"""

import json
import os
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from spikingjelly.activation_based import layer, neuron
from torch import nn

import onnx2lava
import sj2onnx
from onnx2lava.errors import ConversionError
from onnx2lava.host import decode
from onnx2lava.network import Network, Neuron
from onnx2lava.read import compose, sparse
from onnx2lava.targets import TARGETS
from onnx2lava.targets.numpy import simulate

from ..conftest import ROOT
from ..onnx2lava.networks import assert_same_numbers
from . import random_graphs
from .exact import OTHER, SAME, exact
from .random_graphs import FIRING, JOINS, KINDS, LOOPS, Bundle, Function, Graph, Join, Scaled, pairs

torch.set_num_threads(1)

CASES, LAVA_CASES, SEED = (
    int(os.environ.get(name, default)) for name, default in (("CASES", "300"), ("LAVA_CASES", "6"), ("SEED", "0"))
)
REFUSED = {
    "the largest of several sums is no sum": "MaxPool of sums",
    "it delays sums that a bias is in already": "a bias, then a Delay",
}
"""What no neuron computes, however it is written."""
_BUNDLE = 10
"""Graphs in one export."""
VECTORS = {"BatchNorm1d"}
MAPS = {kind for kind in KINDS if kind.endswith("2d") or kind == "Upsample"} | {"Flatten"}


def converted(model: onnx.ModelProto, output: str | None = None) -> Network[Neuron] | str:
    """What is read of it, or why nothing is."""
    try:
        return onnx2lava.load(model, output=output)
    except ConversionError as error:
        said = str(error)
    (reason,) = (why for words, why in REFUSED.items() if words in said)
    return reason


def assert_as_in_spikingjelly(graph: Graph, network: Network[Neuron], path: str = "") -> None:
    """Every spike of every layer that is in the network, the last one among them.

    Where SpikingJelly's own spikes are a matter of rounding, they are those that fractions give.
    """
    found, expected = simulate(network, {"input": graph.example.numpy()}), graph.expected(path)
    assert list(expected)[-1] in found, graph
    read = {name: found[name].reshape(expected[name].shape) for name in found.keys() & expected.keys()}
    if all((spikes == expected[name].numpy()).all() for name, spikes in read.items()):
        return
    values = exact(graph)
    for name, at in graph.spiking(path).items():
        differ = expected[name].numpy() != values[at].values
        assert (values[at].floats[differ] == OTHER).all(), f"SpikingJelly's {name} of {graph}"
        assert (read.get(name, values[at].values) == values[at].values).all(), f"{name} of {graph}"


def assert_readout_fits(graph: Graph, network: Network[Neuron]) -> None:
    """What the host makes of the spikes is what SpikingJelly gives, and fits a ``.net`` file where there is one."""
    networks = [network]
    integers = onnx2lava.quantize(network)
    if not TARGETS["netx"].check(integers):
        networks.append(TARGETS["netx"].legalise(integers))
    spikes = {name: values.numpy() for name, values in graph.expected().items()}
    for each in networks:
        shapes = each.shapes
        given = {name: spikes[name].reshape(*spikes[name].shape[:2], *shapes[name]) for name in each.outputs}
        found, expected = decode(each, given), graph.values[-1].x.float().numpy()
        if not np.array_equal(found, expected):  # but for what is rounded
            assert (exact(graph)[-1].floats[found != expected] != SAME).all(), graph
            np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6, err_msg=str(graph))


def test_layers_in_any_order() -> None:
    """And each kind behind each other one, but where one reads maps and the other gives vectors."""
    seen, reached, refused = Counter[tuple[str, str]](), Counter[tuple[str, str]](), Counter[str]()
    lively = readouts = 0
    for graph in random_graphs.chains(CASES, SEED):
        seen.update(pairs(graph))
        network = converted(graph.model())
        if isinstance(network, str):
            refused[network] += 1
            continue
        reached.update(pairs(graph))
        assert_as_in_spikingjelly(graph, network)
        if network.readout is not None:
            readouts += 1
            assert_readout_fits(graph, network)
        lively += all(0 < spikes.mean() < 1 for spikes in graph.expected().values())
    possible = {
        (first, second)
        for first in KINDS
        for second in KINDS
        if not (first in VECTORS | {"Flatten"} and second in MAPS) and not (first in MAPS - {"Flatten"} and second in VECTORS)
    }
    assert possible <= set(seen), sorted(possible - set(seen))
    assert len(possible & set(reached)) > 0.9 * len(possible), sorted(possible - set(reached))
    assert refused.total() < CASES / 4, refused
    assert lively > CASES / 2
    assert readouts > CASES / 12


@pytest.mark.parametrize("scaled", [False, True])
def test_the_largest_of_several_sums_of_spikes(scaled: bool) -> None:
    """A MaxPool behind blocks that add spikes, as in SEW-ResNets for event cameras."""
    torch.manual_seed(0)
    graph = Graph((torch.rand(6, 2, 2, 6, 6) < 0.5).double())
    last = 0
    for block in range(3):
        graph.add("Conv2d", layer.Conv2d(3 if block else 2, 3, 3, padding=1), (last,), spikes=False)
        graph.add("Neuron", neuron.IFNode(), (len(graph.steps),), spikes=True)
        if block:
            graph.add("add", Join(JOINS["add"]), (last, len(graph.steps)), spikes=False)
        last = len(graph.steps)
    assert graph.values[-1].x.max() == 3
    if scaled:
        graph.add("Scaled", Scaled(), (last,), spikes=False)
    graph.add("MaxPool2d", layer.MaxPool2d(3, 2, 1), (len(graph.steps),), spikes=False)
    graph.add("Conv2d", layer.Conv2d(3, 2, 1), (len(graph.steps),), spikes=False)
    graph.add("Neuron", neuron.IFNode(), (len(graph.steps),), spikes=True)
    assert_as_in_spikingjelly(graph, onnx2lava.load(graph.model()))
    result = onnx2lava.verify(graph.model(), graph.example.numpy(), against=["ort", "ort-native", "numpy"])
    assert (result.mismatches, result.left_out) == (0, {})
    assert all(0 < each.rate < 1 for each in result.layers)


@pytest.mark.parametrize(
    "pool", [layer.AvgPool2d(3, 1), layer.AvgPool2d(3, 1, 1, count_include_pad=False)], ids=["even", "uneven"]
)
def test_ties_of_ninths_fire(pool: nn.Module) -> None:
    """SpikingJelly's own spikes depend on rounding there, and fractions say which ones do."""
    torch.manual_seed(0)
    graph = Graph((torch.rand(12, 8, 2, 5, 5) < 0.5).double())
    graph.add("AvgPool2d", pool, (0,), spikes=False)
    graph.add("Neuron", neuron.IFNode(), (1,), spikes=True)
    found = simulate(onnx2lava.load(graph.model()), {"input": graph.example.numpy()})["steps.1"]
    wanted, theirs = exact(graph)[-1], graph.values[-1].x.numpy()
    assert (found == wanted.values).all()
    assert (theirs != wanted.values).any()
    assert (wanted.floats[theirs != wanted.values] == OTHER).all()


def test_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sums, differences, concatenations and products; the integers, too, in onnxruntime with and without the native library.

    Matrices are small here, and plain; in every other graph, those with few synapses are sparse as large ones are.
    """
    reached, refused, maps = Counter[tuple[str, str]](), Counter[str](), Counter[str]()
    for index, graph in enumerate(random_graphs.graphs(CASES // 4, SEED)):
        for module in (sparse, compose):
            monkeypatch.setattr(module, "SMALL", 0 if index % 2 else 2**20)
        network = converted(graph.model())
        if isinstance(network, str):
            refused[network] += 1
            continue
        reached.update(pairs(graph))
        maps.update(edge.map.kind for each in network.populations for edge in each.edges)
        assert_as_in_spikingjelly(graph, network)
        result = onnx2lava.verify(onnx2lava.quantize(network), graph.example.numpy(), against=["ort", "ort-native", "numpy"])
        assert (result.mismatches, result.left_out) == (0, {}), graph
    joins = {join for _, join in reached if join in JOINS}
    assert joins == set(JOINS)
    assert min(maps["sparse"], maps["dense"]) > CASES / 30, maps
    assert refused.total() < CASES / 16, refused


def _folded(function: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[torch.Tensor], torch.Tensor]:
    """``function`` of images, with time folded into the batch."""
    return lambda x: function(x.flatten(0, 1)).unflatten(0, x.shape[:2])


def _assigned(part: Callable[[torch.Tensor], torch.Tensor], value: Any) -> Callable[[torch.Tensor], torch.Tensor]:
    """``value``, or what it makes of the spikes, in the place of a part of them."""

    def function(x: torch.Tensor) -> torch.Tensor:
        y = x.clone()
        part(y).copy_(value(x) if callable(value) else torch.as_tensor(value).to(y))
        return y

    return function


def _put(where: Callable[[torch.Tensor], Any], number: float) -> Callable[[torch.Tensor], torch.Tensor]:
    """A number in the place of some spikes."""

    def function(x: torch.Tensor) -> torch.Tensor:
        y = x.clone()
        y[where(x)] = number
        return y

    return function


ARRANGED: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "channels by repeat": lambda x: x.repeat(1, 1, 2, 1, 1),
    "rows and columns by repeat": lambda x: x.repeat(1, 1, 1, 3, 2),
    "channels by repeat_interleave": lambda x: x.repeat_interleave(3, dim=2),
    "columns by repeat_interleave": lambda x: x.repeat_interleave(2, dim=-1),
    "one channel by expand": lambda x: x[:, :, :1].expand(-1, -1, 4, -1, -1),
    "one row by expand_as": lambda x: x[..., :1, :].expand_as(x),
    "a mask of channels": lambda x: x * x[..., :1, :1],
    "a mask of places, as a complement": lambda x: x * (1 - x[:, :, :1]),
    "a sum of a row and a column": lambda x: x[..., :1, :] + x[..., :1],
    "means that are taken away": lambda x: x - x.mean((-1, -2), keepdim=True),
    "means of rows": lambda x: x * x.mean(-1, keepdim=True),
    "sums over channels": lambda x: x.sum(2, keepdim=True),
    "whether any channel fires": lambda x: x.amax(2, keepdim=True),
    "channels by a list": lambda x: x[:, :, [1, 0, 1]],
    "places by lists": lambda x: x[..., [[0], [2]], [1, 3, 0]],
    "rolled": lambda x: x.roll((1, -1), (-1, -2)),
    "mirrored": lambda x: x.flip(-1),
    "every other row": lambda x: x[..., ::2, 1:],
    "reflected": _folded(lambda x: nn.functional.pad(x, (1, 2, 0, 1), mode="reflect")),
    "wrapped around": _folded(lambda x: nn.functional.pad(x, (1, 1, 1, 1), mode="circular")),
    "continued": _folded(lambda x: nn.functional.pad(x, (0, 1, 1, 0), mode="replicate")),
    "pixels as channels": _folded(lambda x: nn.functional.pixel_unshuffle(x, 2)),
    "channels as pixels": _folded(lambda x: nn.functional.pixel_shuffle(x.repeat(1, 2, 1, 1), 2)),
    "of another size": _folded(lambda x: nn.functional.interpolate(x, size=(7, 3))),
    "between its neighbours": _folded(lambda x: nn.functional.interpolate(x, scale_factor=2, mode="bilinear")),
    "from corner to corner": _folded(lambda x: nn.functional.interpolate(x, size=(5, 3), mode="bilinear", align_corners=True)),
    "pooled to another size": _folded(nn.AdaptiveAvgPool2d(3)),
    "windows side by side": _folded(lambda x: nn.functional.unfold(x, 2).unflatten(-1, (3, 3))),
    "a matrix by einsum": lambda x: torch.einsum("tnchw,dc->tndhw", x, torch.tensor([[1.0, 0.5], [-1, 2], [0, 1]]).to(x)),
    "a matrix from the left": lambda x: torch.tensor([[1.0, 0.5, 0, -1], [0, 0, 2, 1]]).to(x) @ x,
    "several on top of each other": lambda x: torch.stack([x, x.flip(-1)]).sum(0),
    "pooled plane by plane": lambda x: nn.functional.max_pool3d(x, (1, 2, 3), 1, (0, 1, 1)),
    "means plane by plane": lambda x: nn.functional.avg_pool3d(x, (1, 2, 2)),
    "ones around": _folded(lambda x: nn.functional.pad(x, (1, 0, 2, 1), value=1.0)),
    "ones beside": lambda x: torch.cat([torch.ones_like(x[:, :, :1]), x, x.new_zeros(*x.shape[:2], 1, 4, 4)], 2),
    "rolled by nothing": lambda x: torch.cat([x[:, :, :1].roll(0, -1), x[:, :, 1:].roll(1, -1)], 2),
    "a border that is set": _assigned(lambda y: y[..., :1, :], torch.tensor([0.5, 1.0]).view(2, 1, 1)),
    "a channel that is set": _assigned(lambda y: y[:, :, 1], 0.5),
    "a part that is moved": _assigned(lambda y: y[..., 1:3, :2], lambda y: y[..., :2, 2:].clone()),
    "every other row that is set": _assigned(lambda y: y[..., ::2, :], lambda y: 1 - y[..., 1::2, :]),
    "a channel in all": _assigned(lambda y: y[:, :, :, 2:], lambda y: y[:, :, :1, 2:].clone()),
    "of another type that is set": _assigned(lambda y: y[..., :1], lambda x: x[..., 1:2] > 0.5),
    "rows of a list that are set": _put(lambda x: (..., [0, 2], slice(None)), 0.5),
    "numbers where spikes are": _put(lambda x: x > 0.5, 2.0),
    "features first": lambda x: x.permute(2, 0, 1, 3, 4)[[1, 0]].permute(1, 2, 0, 3, 4),
}
"""What people do to spikes in `forward` that moves, repeats or adds up some of them."""

DECIDED: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "maximum": torch.maximum,
    "minimum": torch.minimum,
    "clamp": lambda x, y: (x + y).clamp(0, 1),
    "more than none": lambda x, y: ((x + y) > 0).to(x),
    "both": lambda x, y: ((x + y) >= 2).to(x),
    "logical or": lambda x, y: torch.logical_or(x, y).to(x),
    "bitwise and": lambda x, y: (x.bool() & y.bool()).to(x),
    "exclusive or": lambda x, y: (x - y).abs(),
    "unequal": lambda x, y: (x != y).to(x),
    "where the other is silent": lambda x, y: x * (y == 0),
    "unless the other fires": lambda x, y: x * torch.logical_not(y),
    "a choice": lambda x, y: torch.where(y > 0, x, torch.zeros_like(x)),
    "a choice of two": lambda x, y: torch.where(y.bool(), x, 1 - x),
    "a masked fill": lambda x, y: x.masked_fill(y.bool(), 0.0),
    "what is more": lambda x, y: torch.relu(x - y),
    "the sign of a sum": lambda x, y: torch.sign(x + y),
    "a product with a sum": lambda x, y: x * (x + y),
    "in halves": lambda x, y: (0.5 * x + y).clamp(max=1),
    "a square": lambda x, y: (2 * x - y) ** 2,
    "a sigmoid": lambda x, y: torch.sigmoid(2 * x - y),
    "of other axes": lambda x, y: (x.transpose(-1, -2) * y.transpose(-1, -2)).transpose(-1, -2),
    "samples first": lambda x, y: torch.maximum(x.transpose(0, 1), y.transpose(0, 1)).transpose(0, 1),
    "time in samples, samples first": lambda x, y: torch.maximum(x.transpose(0, 1).flatten(0, 1), y.transpose(0, 1).flatten(0, 1))
    .unflatten(0, (2, 6))
    .transpose(0, 1),
    "pooled with samples first": lambda x, y: nn.functional.max_pool2d((x + y).transpose(0, 1).flatten(0, 1), 2, 2)
    .unflatten(0, (2, 6))
    .transpose(0, 1),
    "pooled with rows as columns": lambda x, y: nn.functional.max_pool2d(
        (x + y).transpose(-1, -2).flatten(0, 1), (1, 2), 1
    ).unflatten(0, (6, 2)),
    "attention": lambda x, y: x @ y.transpose(-1, -2) @ y * 0.125,
    "attention, keys first": lambda x, y: x @ (y.transpose(-1, -2) @ x) * 0.25,
    "attention by einsum": lambda x, y: torch.einsum("tnchw,tncvw->tnchv", x, y),
    "a sum of a layer, masked": lambda x, y: (x @ torch.tensor([[1.0, -0.5, 0, 1]] * 4).to(x)) * (y + y.flip(-1)),
    "three": lambda x, y: torch.maximum(torch.maximum(x, y), x.flip(2)),
    "by channels": lambda x, y: torch.maximum(x * torch.tensor([0.5, 1.0]).view(2, 1, 1).to(x), y),
}
"""What people let two spikes decide."""


def test_what_people_do_to_spikes() -> None:
    torch.manual_seed(0)
    example, graphs = (torch.rand(6, 2, 2, 4, 4) < 0.5).double(), []
    for name in (*ARRANGED, *DECIDED):
        graph = Graph(example)
        graph.add("Neuron", neuron.IFNode(), (0,), spikes=True)
        if name in ARRANGED:
            graph.add(name, Function(ARRANGED[name]), (1,), spikes=False)
        else:
            graph.add("Conv2d", layer.Conv2d(2, 2, 3, padding=1), (0,), spikes=False)
            graph.add("Neuron", neuron.IFNode(), (2,), spikes=True)
            graph.add(name, Join(DECIDED[name]), (1, 3), spikes=False)
        at = len(graph.steps)
        graph.add("Conv2d", layer.Conv2d(graph.values[at].shape[0], 3, 2), (at,), spikes=False)
        graph.add("Neuron", neuron.IFNode(), (at + 1,), spikes=True)
        graphs.append(graph)
    for start in range(0, len(graphs), _BUNDLE):
        bundle = Bundle(graphs[start : start + _BUNDLE])
        model = sj2onnx.export(bundle, example.float())
        for at, (graph, output) in enumerate(zip(graphs[start : start + _BUNDLE], bundle.outputs(), strict=True)):
            network = onnx2lava.load(model, output=output)
            assert_as_in_spikingjelly(graph, network, f"networks.{at}.")
            result = onnx2lava.verify(onnx2lava.quantize(network), example.numpy(), against=["ort", "ort-native", "numpy"])
            assert (result.mismatches, result.left_out) == (0, {}), graph
            assert 0 < result.layers[-1].rate < 1, graph


@pytest.fixture(scope="module")
def exported() -> list[tuple[Graph, Network[Neuron], str]]:
    """Graphs by the real exporter, with loops in a third of them, and what is read of each that is read."""
    chosen: list[Graph] = []
    random = random_graphs.graphs(20 * LAVA_CASES, SEED + 1, loops=True)
    several = (graph for graph in random if sum(value.kind in FIRING for value in graph.values) > 1)
    wanted = Counter({True: LAVA_CASES // 3, False: LAVA_CASES - LAVA_CASES // 3})
    while wanted.total():
        graph = next(several)
        loops = any(value.kind in LOOPS for value in graph.values)
        if wanted[loops]:
            wanted[loops] -= 1
            chosen.append(graph)
    found: list[tuple[Graph, Network[Neuron], str]] = []
    for start in range(0, len(chosen), _BUNDLE):
        bundle = Bundle(chosen[start : start + _BUNDLE])
        model = sj2onnx.export(bundle, chosen[0].example.float())
        for at, (graph, output) in enumerate(zip(chosen[start : start + _BUNDLE], bundle.outputs(), strict=True)):
            network = converted(model, output)
            if not isinstance(network, str):
                found.append((graph, network, f"networks.{at}."))
    assert len(found) > 0.6 * LAVA_CASES
    return found


def test_what_is_exported_is_what_is_written_here(exported: list[tuple[Graph, Network[Neuron], str]]) -> None:
    """Or the tests above would be of other files than people have."""
    for graph, network, path in exported:
        assert_as_in_spikingjelly(graph, network, path)
        if not any(value.kind in LOOPS for value in graph.values):
            assert_same_numbers(network, onnx2lava.load(graph.model()))


def test_slayer_and_lava_give_the_same_spikes(
    exported: list[tuple[Graph, Network[Neuron], str]], lava_python: Path, tmp_path: Path
) -> None:
    against = ["ort", "ort-native", "numpy", "slayer", "lava"]
    cases = []
    for index, (graph, network, _) in enumerate(exported):
        files = {"model": str(tmp_path / f"{index}.onnx"), "input": str(tmp_path / f"{index}.npy")}
        onnx.save(onnx2lava.to_onnx(onnx2lava.quantize(network)), files["model"])
        np.save(files["input"], graph.example.numpy())
        cases.append({**files, "kind": "spikes", "against": against})
    (tmp_path / "cases.json").write_text(json.dumps(cases))
    peer = ROOT / "tests" / "peers" / "verify_in_lava.py"
    subprocess.run([lava_python, peer, tmp_path / "cases.json", tmp_path / "found.json"], check=True)
    compared = Counter[str]()
    for (graph, *_), found in zip(exported, json.loads((tmp_path / "found.json").read_text()), strict=True):
        assert found["mismatches"] == 0, graph
        compared.update(set(against) - set(found["left_out"]))
    assert compared == Counter(against * len(exported))
