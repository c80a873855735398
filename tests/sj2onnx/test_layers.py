"""Every layer of ``spikingjelly.activation_based.layer`` that makes sense in inference: the same numbers as in torch."""

from collections.abc import Callable

import numpy as np
import onnx
import pytest
import torch
from spikingjelly.activation_based import functional, layer, neuron
from torch import nn

import custom_ops
import sj2onnx
from models.spikingjelly_models import random_spikes

STEPS = 6
Factory = Callable[[], nn.Module]


class TimeLast(nn.Module):
    """A network that keeps time last inside."""

    def __init__(self, *parts: nn.Module) -> None:
        super().__init__()
        self.inside = layer.TLastMultiStepContainer(*parts)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inside(x.movedim(0, -1)).movedim(-1, 0)


LAYERS: dict[str, tuple[Factory, tuple[int, ...]]] = {
    "Conv1d": (lambda: layer.Conv1d(3, 4, 3, padding=1), (3, 8)),
    "Conv2d": (lambda: layer.Conv2d(3, 4, 3, padding=1), (3, 8, 8)),
    "Conv3d": (lambda: layer.Conv3d(3, 4, 3, padding=1), (3, 4, 6, 6)),
    "ConvTranspose1d": (lambda: layer.ConvTranspose1d(3, 4, 3, stride=2), (3, 8)),
    "ConvTranspose2d": (lambda: layer.ConvTranspose2d(3, 4, 3, stride=2, output_padding=1), (3, 6, 6)),
    "ConvTranspose3d": (lambda: layer.ConvTranspose3d(3, 2, 2, stride=2), (3, 3, 4, 4)),
    "Linear": (lambda: layer.Linear(5, 4), (5,)),
    "BatchNorm1d": (lambda: layer.BatchNorm1d(5), (5, 7)),
    "BatchNorm2d": (lambda: layer.BatchNorm2d(3), (3, 5, 5)),
    "BatchNorm3d": (lambda: layer.BatchNorm3d(3), (3, 4, 5, 5)),
    "GroupNorm": (lambda: layer.GroupNorm(2, 4), (4, 5, 5)),
    "ThresholdDependentBatchNorm1d": (lambda: layer.ThresholdDependentBatchNorm1d(1.0, 1.0, 5), (5,)),
    "ThresholdDependentBatchNorm2d": (lambda: layer.ThresholdDependentBatchNorm2d(1.0, 1.0, 3), (3, 5, 5)),
    "ThresholdDependentBatchNorm3d": (lambda: layer.ThresholdDependentBatchNorm3d(1.0, 1.0, 3), (3, 4, 5, 5)),
    "TemporalEffectiveBatchNorm1d": (lambda: layer.TemporalEffectiveBatchNorm1d(STEPS, 5), (5,)),
    "TemporalEffectiveBatchNorm2d": (lambda: layer.TemporalEffectiveBatchNorm2d(STEPS, 3), (3, 5, 5)),
    "TemporalEffectiveBatchNorm3d": (lambda: layer.TemporalEffectiveBatchNorm3d(STEPS, 3), (3, 2, 5, 5)),
    "BatchNormThroughTime1d": (lambda: layer.BatchNormThroughTime1d(STEPS, 5), (5,)),
    "BatchNormThroughTime2d": (lambda: layer.BatchNormThroughTime2d(STEPS, 3), (3, 5, 5)),
    "BatchNormThroughTime3d": (lambda: layer.BatchNormThroughTime3d(STEPS, 3), (3, 2, 5, 5)),
    "MaxPool1d": (lambda: layer.MaxPool1d(2), (3, 8)),
    "MaxPool2d": (lambda: layer.MaxPool2d(3, 2, 1), (3, 8, 8)),
    "MaxPool1d that drops a window": (lambda: layer.MaxPool1d(2, 2, 1, ceil_mode=True), (3, 3)),
    "MaxPool2d that drops a window": (lambda: layer.MaxPool2d((2, 3), 2, 1, ceil_mode=True), (3, 5, 4)),
    "AvgPool2d that drops a window": (lambda: layer.AvgPool2d(2, 2, 1, ceil_mode=True), (3, 3, 4)),
    "MaxPool3d": (lambda: layer.MaxPool3d(2), (3, 4, 6, 6)),
    "AvgPool1d": (lambda: layer.AvgPool1d(2), (3, 8)),
    "AvgPool2d": (lambda: layer.AvgPool2d(3, 2, 1), (3, 8, 8)),
    "AvgPool3d": (lambda: layer.AvgPool3d(2), (3, 4, 6, 6)),
    "AdaptiveAvgPool1d": (lambda: layer.AdaptiveAvgPool1d(4), (3, 8)),
    "AdaptiveAvgPool2d": (lambda: layer.AdaptiveAvgPool2d(3), (3, 8, 8)),
    "AdaptiveAvgPool3d": (lambda: layer.AdaptiveAvgPool3d(1), (3, 4, 6, 6)),
    "Upsample, nearest": (lambda: layer.Upsample(scale_factor=2), (3, 5, 5)),
    "Upsample, bilinear": (lambda: layer.Upsample(scale_factor=2, mode="bilinear"), (3, 5, 5)),
    "Upsample, to a size": (lambda: layer.Upsample(size=(7, 9)), (3, 5, 5)),
    "Dropout": (lambda: layer.Dropout(0.5), (5,)),
    "Dropout2d": (lambda: layer.Dropout2d(0.5), (3, 5, 5)),
    "Flatten": (lambda: layer.Flatten(), (3, 4, 4)),
    "VotingLayer": (lambda: layer.VotingLayer(5), (20,)),
    "WSConv2d": (lambda: layer.WSConv2d(3, 4, 3), (3, 6, 6)),
    "WSLinear": (lambda: layer.WSLinear(6, 4), (6,)),
    "Delay": (lambda: layer.Delay(2), (5,)),
    "SeqToANNContainer": (lambda: layer.SeqToANNContainer(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.MaxPool2d(2)), (3, 8, 8)),
    "MultiStepContainer": (
        lambda: layer.MultiStepContainer(
            nn.Sequential(nn.Linear(5, 9), neuron.IFNode()), nn.Flatten(), layer.Linear(9, 3), neuron.LIFNode(v_threshold=0.1)
        ),
        (5,),
    ),
    "StepModeContainer, stateful": (lambda: layer.StepModeContainer(True, "s", nn.Linear(5, 4), neuron.IFNode()), (5,)),
    "StepModeContainer, stateless": (lambda: layer.StepModeContainer(False, "s", nn.Linear(5, 4), nn.ReLU()), (5,)),
    "TLastMultiStepContainer": (lambda: TimeLast(nn.Linear(5, 4), neuron.IFNode()), (5,)),
    "TemporalWiseAttention": (lambda: layer.TemporalWiseAttention(STEPS, 2), (3, 5, 5)),
    "MultiDimensionalAttention": (
        lambda: layer.MultiDimensionalAttention(STEPS, 4, reduction_t=2, reduction_c=2, kernel_size=3),
        (4, 5, 5),
    ),
    "SpikingSelfAttention": (lambda: layer.SpikingSelfAttention(8, 2), (8, 9)),
    "TokenQKAttention": (lambda: layer.TokenQKAttention(8, 2), (8, 9)),
    "ChannelQKAttention": (lambda: layer.ChannelQKAttention(8, 2), (8, 9)),
    "SpikeDrivenSelfAttention": (lambda: layer.SpikeDrivenSelfAttention(8, 2), (8, 3, 3)),
    "SpikeCountToBinary": (lambda: layer.SpikeCountToBinary(3), (5,)),
    "TemporalBinSum": (lambda: layer.TemporalBinSum(4), (5,)),
}

FIXED = ("TemporalEffective", "ThroughTime", "TemporalWise", "MultiDimensional", "TemporalBinSum")
"""Layers that take one number of time steps only, in torch as well."""


def network(factory: Factory, shape: tuple[int, ...]) -> nn.Module:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Identity(), factory())
    functional.set_step_mode(net, "m")
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.running_mean.uniform_(-0.3, 0.3)
                module.running_var.uniform_(0.5, 1.5)
            if isinstance(module, layer.bn._TemporalEffectiveBatchNormBase):
                module.scale.uniform_(0.5, 1.5)
    return net.eval()


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_gives_what_it_gives_in_torch(name: str) -> None:
    factory, shape = LAYERS[name]
    net = network(factory, shape)
    model = sj2onnx.export(net, random_spikes(STEPS, 2, *shape))
    session = custom_ops.session(model, native=False)
    fixed = any(part in name for part in FIXED)
    for steps, batch in [(STEPS, 3), (STEPS, 1)] if fixed else [(STEPS, 3), (1, 1), (9, 2)]:
        x = 1.5 * random_spikes(steps, batch, *shape, seed=steps)
        functional.reset_net(net)
        with torch.no_grad():
            expected = net(x).numpy()
        (actual,) = session.run(None, {"input": x.numpy()})
        assert actual.shape == expected.shape
        # Sums may be added up in another order; spikes must be equal.
        exact = bool(np.isin(expected, (0, 1)).all())
        assert np.array_equal(actual, expected) if exact else np.allclose(actual, expected, rtol=0, atol=3e-6)
    dims = model.graph.input[0].type.tensor_type.shape.dim
    assert [dims[0].dim_param or dims[0].dim_value, dims[1].dim_param] == [STEPS if fixed else "T", "N"]
    assert not {"CastLike"} & {node.op_type for node in model.graph.node}
    onnx.checker.check_model(model, full_check=True)


@pytest.mark.parametrize(
    ("factory", "options", "said"),
    [
        (lambda: layer.DropConnectLinear(5, 4), {}, "'1' \\(DropConnectLinear\\) draws random numbers"),
        (lambda: layer.TemporalEffectiveBatchNorm1d(7, 5), {}, "made for 7 time steps, but the example has 6"),
        (lambda: layer.BatchNormThroughTime1d(STEPS, 5), {"stateful": True}, "export without stateful"),
    ],
)
def test_what_cannot_be_exported_says_why(factory: Factory, options: dict[str, bool], said: str) -> None:
    with pytest.raises(sj2onnx.ExportError, match=said):
        sj2onnx.export(network(factory, (5,)), torch.zeros(STEPS, 2, 5), **options)
