"""Trained networks of plain layers as BlockContainers: the same spikes on the grid, and a conversion that is exact."""

import copy

import numpy as np
import pytest
import torch
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from torch import nn

import custom_ops
import onnx2lava
import sj2onnx
from sj2onnx import BlockContainer, BlockError, SumPool2d, to_blocks
from sj2onnx.record import record


def on_grid(net: nn.Module, seed: int = 0) -> nn.Module:
    """Weights, biases and statistics that are whole numbers divided by powers of two."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                module.weight.copy_(torch.randint(-24, 33, module.weight.shape, generator=generator) / 64)
                if module.bias is not None:
                    module.bias.copy_(torch.randint(-8, 9, module.bias.shape, generator=generator) / 32)
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.copy_(torch.randint(-8, 9, module.running_mean.shape, generator=generator) / 32)
                module.running_var.fill_(4.0)
                module.eps = 0.0
                module.weight.copy_(torch.randint(1, 3, module.weight.shape, generator=generator))
                module.bias.copy_(torch.randint(-4, 9, module.bias.shape, generator=generator) / 32)
    functional.set_step_mode(net, "m")
    return net.eval()


def conv(inputs: int, outputs: int, **options: object) -> nn.Module:
    return layer.Conv2d(inputs, outputs, 3, padding=1, **options)


def if_node(**options: object) -> nn.Module:
    return neuron.IFNode(surrogate_function=surrogate.ATan(), detach_reset=True, **options)


def plif(**options: object) -> nn.Module:
    made = neuron.ParametricLIFNode(init_tau=2.0, **options)  # a decay of one half
    made.w.data.fill_(0.0)
    return made


# What it is called, the network, and how many of its modules become blocks.
NETWORKS = {
    "convolution": (lambda: nn.Sequential(conv(2, 3, bias=False), if_node()), 1),
    "bias": (lambda: nn.Sequential(conv(2, 3), if_node(), layer.Flatten(), layer.Linear(192, 5), if_node()), 2),
    "batch normalisation": (lambda: nn.Sequential(conv(2, 3), layer.BatchNorm2d(3), if_node()), 1),
    "another reset": (lambda: nn.Sequential(conv(2, 3), if_node(v_threshold=1.5, v_reset=0.5)), 1),
    "leaks": (
        lambda: nn.Sequential(
            conv(2, 3),
            neuron.LIFNode(tau=2.0, decay_input=False),
            conv(3, 3),
            plif(decay_input=True, v_threshold=0.25),
        ),
        2,
    ),
    "average pooling before": (lambda: nn.Sequential(conv(2, 3), if_node(), layer.AvgPool2d(2), conv(3, 4), if_node()), 2),
    "average pooling before a row": (
        lambda: nn.Sequential(conv(2, 3), if_node(), layer.AvgPool2d(4), layer.Flatten(), layer.Linear(12, 5), if_node()),
        2,
    ),
    "average pooling behind": (lambda: nn.Sequential(conv(2, 3), layer.BatchNorm2d(3), layer.AvgPool2d(2), if_node()), 1),
    "average pooling alone": (lambda: nn.Sequential(layer.AvgPool2d(2), if_node(v_threshold=0.5)), 1),
    "maximum pooling": (lambda: nn.Sequential(conv(2, 3), if_node(), layer.MaxPool2d(2), conv(3, 4), if_node()), 3),
    "dropout": (
        lambda: nn.Sequential(conv(2, 3), if_node(), layer.Flatten(), layer.Dropout(0.5), layer.Linear(192, 5), if_node()),
        2,
    ),
}


@pytest.mark.parametrize("calibrated", [True, False])
@pytest.mark.parametrize("case", NETWORKS)
def test_on_the_grid_no_spike_changes(case: str, calibrated: bool) -> None:
    make, count = NETWORKS[case]
    net = on_grid(make())
    x = (torch.rand(12, 3, 2, 8, 8, generator=torch.Generator().manual_seed(1)) < 0.4).float()
    before = copy.deepcopy(net.state_dict())
    with torch.no_grad():
        expected = net(x)
    functional.reset_net(net)
    assert 0.02 < expected.mean() < 0.98
    if case.startswith("average pooling before") and not calibrated:
        with pytest.raises(BlockError, match="give calibration input"):
            to_blocks(net)
        return
    blocks = to_blocks(net, x if calibrated else None)
    assert sum(isinstance(each, BlockContainer) for each in blocks.modules()) == count
    assert not any(isinstance(each, nn.BatchNorm2d | neuron.IFNode) for each in blocks.modules())
    with torch.no_grad():
        found = blocks(x)
    functional.reset_net(blocks)
    # Folded weights may need more bits than eight; those that do not are the same.
    differ = float((found != expected).float().mean())
    assert (
        differ == 0 if case in ("convolution", "bias", "average pooling alone", "maximum pooling", "dropout") else differ < 0.03
    )
    assert all(torch.equal(value, net.state_dict()[name]) for name, value in before.items()), "the network itself is left alone"


@pytest.mark.parametrize("case", ["bias", "batch normalisation", "leaks", "average pooling before", "maximum pooling"])
def test_it_trains_on_and_converts_without_loss(case: str) -> None:
    """After a step of training every spike is that of the integers, on onnxruntime with the library and without."""
    make, _ = NETWORKS[case]
    x = (torch.rand(10, 3, 2, 8, 8, generator=torch.Generator().manual_seed(1)) < 0.4).float()
    blocks = to_blocks(on_grid(make()), x).train()
    parameters = list(blocks.parameters())
    if parameters:
        optimizer = torch.optim.SGD(parameters, lr=0.05)
        before = [each.detach().clone() for each in parameters]
        (blocks(x).mean() - 0.7).square().backward()
        assert all(each.grad is not None and each.grad.isfinite().all() for each in parameters)
        optimizer.step()
        assert any(not torch.equal(one, other) for one, other in zip(before, parameters, strict=True))
    functional.reset_net(blocks)
    blocks.eval()
    trace = record(blocks, x)
    model = sj2onnx.export(blocks, x)
    last = list(trace.spikes.values())[-1]
    for native in (False, "auto"):
        (spikes,) = custom_ops.session(model, native=native).run(None, {"input": x.numpy()})
        np.testing.assert_array_equal(spikes, last)
    network = onnx2lava.quantize(onnx2lava.load(model))
    (spikes,) = custom_ops.session(onnx2lava.to_onnx(network)).run(None, {"input": x.numpy()})
    np.testing.assert_array_equal(spikes, last)


def test_each_layer_gets_a_scale_of_its_own() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(layer.Flatten(), layer.Linear(128, 40), if_node(), layer.Linear(40, 5), if_node())
    with torch.no_grad():
        net[1].weight *= 8
        net[3].weight /= 8
    functional.set_step_mode(net, "m")
    blocks = to_blocks(net, (torch.rand(8, 4, 2, 8, 8) < 0.4).float())
    scales = [each.neuron.scale for each in blocks if isinstance(each, BlockContainer)]
    assert scales[1] > 16 * scales[0]
    for each in blocks:
        if isinstance(each, BlockContainer):
            assert each.integer_weight().abs().max() > 120


class Normalised(nn.Sequential):
    """Reads something that no module made of its input."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward((x - 0.5) / 0.5)


@pytest.mark.parametrize("kind", [nn.Sequential, Normalised])
def test_images_stay_with_the_host(kind: type[nn.Sequential]) -> None:
    net = on_grid(kind(conv(2, 3), layer.MaxPool2d(2), if_node(), layer.MaxPool2d(2), conv(3, 3), if_node()))
    x = torch.rand(6, 2, 2, 8, 8)
    blocks = to_blocks(net, x)
    assert [type(each) for each in blocks[:3]] == [type(each) for each in net[:3]]
    assert isinstance(blocks[3], BlockContainer)
    assert isinstance(blocks[4], BlockContainer)
    assert torch.equal(blocks(x), net(x))


def test_what_surrounds_the_blocks_is_kept() -> None:
    net = on_grid(nn.Sequential(conv(2, 3), if_node(), layer.Flatten(), layer.Linear(192, 10), if_node(), layer.VotingLayer(5)))
    blocks = to_blocks(net.train(), (torch.rand(6, 2, 2, 8, 8) < 0.4).float())
    assert blocks.training
    assert isinstance(blocks[5], layer.VotingLayer)
    assert blocks[0].neuron.surrogate_function.alpha == 2.0
    assert blocks[0].neuron.detach_reset


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.node = conv(2, 3), conv(2, 3), if_node()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.node(self.one(x) + self.two(x))


class ByFunction(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.node, self.two, self.other = conv(2, 3), if_node(), conv(3, 3), if_node()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.other(self.two(self.node(self.one(x)) / 2))


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.node, self.other = conv(2, 2), if_node(), if_node()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.other(self.conv(self.node(self.conv(x))))


MISUSE = {
    "soft reset": (lambda: nn.Sequential(conv(2, 3), if_node(v_reset=None)), "v_reset=0.0"),
    "another neuron": (lambda: nn.Sequential(conv(2, 3), neuron.QIFNode()), "ParametricLIFNode have a counterpart"),
    "a sum of two": (Residual, "'node' .IFNode. reads what is not the sums of one synapse"),
    "a function between layers": (ByFunction, "'two' .Conv2d. reads what is neither spikes"),
    "one layer twice": (Twice, "more than once"),
    "largest of sums": (lambda: nn.Sequential(conv(2, 3), layer.MaxPool2d(2), if_node()), "behind the neurons"),
    "pools that overlap": (lambda: nn.Sequential(layer.AvgPool2d(3, 2), conv(2, 3), if_node()), "make them equal"),
    "padded pool": (
        lambda: nn.Sequential(layer.AvgPool2d(2, padding=1), conv(2, 3), if_node()),
        "a kernel size and a stride alone",
    ),
    "threshold below the reset": (lambda: nn.Sequential(conv(2, 3), if_node(v_threshold=0.5, v_reset=1.0)), "use a higher one"),
    "step by step": (lambda: nn.Sequential(nn.Conv2d(2, 3, 1), neuron.IFNode(step_mode="s")), "set_step_mode"),
}


@pytest.mark.parametrize("case", MISUSE)
def test_misuse_gets_one_clear_sentence(case: str) -> None:
    make, hint = MISUSE[case]
    net = make()
    if case != "step by step":
        functional.set_step_mode(net, "m")
    with pytest.raises(BlockError, match=hint) as raised:
        to_blocks(net, (torch.rand(4, 2, 2, 8, 8) < 0.4).float())
    assert str(raised.value).endswith(".")


def test_a_pool_with_neurons_is_a_sum() -> None:
    blocks = to_blocks(on_grid(NETWORKS["average pooling alone"][0]()))
    assert isinstance(blocks[0].synapse, SumPool2d)
    assert blocks[0].neuron.v_threshold * blocks[0].neuron.scale == blocks[0].neuron.threshold_mantissa
