"""Networks of BlockContainers, exported: the same spikes as in SpikingJelly, in a file that says what it means."""

import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from spikingjelly.activation_based import functional, layer, neuron
from torch import nn

import custom_ops
import sj2onnx
from sj2onnx import BlockContainer, ExportError, SumPool2d

RUN_ONNX = Path(__file__).parents[1] / "peers" / "run_onnx.py"


def lif(tau: float, threshold: float = 1.0) -> neuron.LIFNode:
    return neuron.LIFNode(tau=tau, decay_input=False, v_threshold=threshold)


def conv_net() -> nn.Sequential:
    return nn.Sequential(
        BlockContainer(nn.Conv2d(2, 6, 3, padding=1, bias=False), neuron.IFNode()),
        BlockContainer(SumPool2d(2, 2), neuron.IFNode(v_threshold=1.5)),
        BlockContainer(nn.Conv2d(6, 4, (1, 3), stride=(1, 2), dilation=(1, 2), groups=2, bias=False), lif(3.0)),
        BlockContainer(nn.Flatten(), None),
        BlockContainer(nn.Linear(4 * 4 * 1, 12, bias=False), lif(2.0, 0.7)),
        BlockContainer(layer.Linear(12, 5, bias=False), neuron.IFNode()),
    )


def dense_net() -> nn.Sequential:
    return nn.Sequential(
        BlockContainer(nn.Linear(9, 20, bias=False), sj2onnx.CubaLIFNode(0.3, 0.1, v_threshold=0.9, scale=32)),
        BlockContainer(nn.Linear(20, 4, bias=False), neuron.IFNode()),
    )


class Nested(nn.Module):
    """Blocks below other modules, under names that an author would give them."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(BlockContainer(nn.Conv2d(1, 3, 5, bias=False), neuron.IFNode()))
        self.classifier = nn.ModuleDict({"out": BlockContainer(nn.Linear(3 * 4 * 4, 6, bias=False), neuron.IFNode())})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier["out"](self.features(x).flatten(2))


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "conv": (conv_net, (2, 8, 12)),
    "dense": (dense_net, (9,)),
    "nested": (Nested, (1, 8, 8)),
}


@pytest.fixture(params=NETWORKS)
def network(request: pytest.FixtureRequest) -> tuple[nn.Module, tuple[int, ...]]:
    factory, shape = NETWORKS[request.param]
    torch.manual_seed(0)
    net = factory()
    for block in net.modules():
        if isinstance(block, BlockContainer) and isinstance(block.synapse, nn.Conv2d | nn.Linear):
            # About half the inputs fire, so a gain of 4 / sqrt(fan-in) keeps every layer busy.
            nn.init.normal_(block.synapse.weight, 0.1, 4 / block.synapse.weight[0].numel() ** 0.5)
    return net, shape


def spikes(shape: tuple[int, ...], seed: int = 0) -> torch.Tensor:
    return (torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < 0.5).float()


def layers_of(net: nn.Module, x: torch.Tensor) -> dict[str, np.ndarray]:
    """What SpikingJelly gives: the spikes of every spiking block by its module path, and the output."""
    seen: dict[str, np.ndarray] = {}
    hooks = [
        block.register_forward_hook(lambda _, __, y, name=name: seen.update({name: y.numpy()}))
        for name, block in net.named_modules()
        if isinstance(block, BlockContainer) and block.neuron is not None
    ]
    functional.reset_net(net)
    with torch.no_grad():
        seen["output"] = net.eval()(x).numpy()
    for hook in hooks:
        hook.remove()
    return seen


def test_every_layer_spikes_as_in_spikingjelly(network: tuple[nn.Module, tuple[int, ...]]) -> None:
    net, shape = network
    model = sj2onnx.export(net, torch.zeros(1, 1, *shape), outputs="all")
    session = custom_ops.session(model, native=False)
    names = [output.name for output in session.get_outputs()]
    for steps, batch in [(1, 1), (7, 3), (20, 2)]:
        x = spikes((steps, batch, *shape))
        expected = layers_of(net, x)
        actual = dict(zip(names, session.run(None, {"input": x.numpy()}), strict=True))
        assert actual.keys() == expected.keys()
        for name, value in expected.items():
            assert np.array_equal(actual[name], value), name
            assert steps < 7 or 0 < value.mean() < 1, f"{name} is silent or saturated: the comparison would prove nothing"


@pytest.mark.parametrize("runtime", ["oldest", "newest"])
def test_runs_on_a_bare_onnxruntime(
    runtime: str, network: tuple[nn.Module, tuple[int, ...]], bare_onnxruntime: Callable[[str], Path], tmp_path: Path
) -> None:
    net, shape = network
    sj2onnx.export(net, torch.zeros(4, 2, *shape), tmp_path / "net.onnx", outputs="all")
    x = spikes((9, 2, *shape))
    np.save(tmp_path / "input.npy", x.numpy())
    command = [bare_onnxruntime(runtime), "-I", RUN_ONNX, tmp_path / "net.onnx", tmp_path / "input.npy", tmp_path / "output.npz"]
    subprocess.run(command, check=True, cwd=tmp_path)
    with np.load(tmp_path / "output.npz") as actual:
        for name, value in layers_of(net, x).items():
            assert np.array_equal(actual[name], value), name


def test_the_graph_says_what_the_network_is() -> None:
    torch.manual_seed(0)
    model = sj2onnx.export(conv_net(), torch.zeros(4, 2, 2, 8, 12))
    onnx.checker.check_model(model, full_check=True)
    assert model.ir_version == 10
    assert {(entry.domain, entry.version) for entry in model.opset_import} == {("", 21), (custom_ops.DOMAIN, 1)}
    # Three convolutions fold time into the batch and out again, Flatten is one Reshape, linear layers need none; the shape of
    # time and batch is taken once.
    assert Counter(node.op_type for node in model.graph.node) == {
        "Shape": 1,
        "Concat": 3,
        "Reshape": 7,
        "Cast": 5,
        "Mul": 5,
        "Conv": 3,
        "MatMul": 2,
        "CubaLIF": 5,
    }
    assert [(d.dim_param or d.dim_value) for d in model.graph.input[0].type.tensor_type.shape.dim] == ["T", "N", 2, 8, 12]
    assert [(d.dim_param or d.dim_value) for d in model.graph.output[0].type.tensor_type.shape.dim] == ["T", "N", 5]
    weights = {
        tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer if tensor.name.endswith("weight")
    }
    assert list(weights) == ["0.weight", "1.weight", "2.weight", "4.weight", "5.weight"]
    assert all(weight.dtype == np.int8 for weight in weights.values())
    assert {node.name.rpartition("/")[0] for node in model.graph.node if node.op_type == "CubaLIF"} == {"0", "1", "2", "4", "5"}
    # Nothing of the machine that exported it: no paths, no stack traces.
    assert b".py" not in model.SerializeToString()


def test_the_file_is_little_more_than_its_weights(tmp_path: Path) -> None:
    net = nn.Sequential(BlockContainer(nn.Linear(1000, 1000, bias=False), neuron.IFNode()))
    sj2onnx.export(net, torch.zeros(2, 1, 1000), tmp_path / "net.onnx")
    assert (tmp_path / "net.onnx").stat().st_size < 1.02 * 1_000_000


def test_the_network_is_left_as_it_was(network: tuple[nn.Module, tuple[int, ...]]) -> None:
    net, shape = network
    net.train()
    x = spikes((5, 2, *shape))
    first = net(x)
    functional.reset_net(net)
    net(x[:3])
    sj2onnx.export(net, x)
    assert net.training
    assert torch.equal(net(x[3:]), first[3:]), "exporting disturbed the network's weights or its states"


def test_an_old_file_survives_a_failed_export(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_text("old")
    with pytest.raises(ExportError):
        sj2onnx.export(
            nn.Sequential(BlockContainer(nn.Linear(3, 2, bias=False), neuron.IFNode(), step_mode="s")), torch.zeros(2, 1, 3), path
        )
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: sj2onnx.export(dense_net(), torch.zeros(2, 1, 9), opset=22), "Opset 22"),
        (lambda: sj2onnx.export(dense_net(), torch.zeros(2, 1, 9), outputs="some"), "outputs='some'"),
        (lambda: sj2onnx.export(dense_net(), torch.zeros(9)), r"\[T, N, \*\]"),
        (lambda: sj2onnx.export(dense_net(), torch.zeros(2, 1, 8)), "does not run in SpikingJelly"),
    ],
)
def test_what_cannot_be_exported_says_why(call: Callable[[], object], said: str) -> None:
    with pytest.raises(ExportError, match=said):
        call()
