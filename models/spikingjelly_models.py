"""SpikingJelly's own model files, exported and compared with SpikingJelly layer by layer.

``make models`` runs ``python -m models.spikingjelly_models`` and writes the table. Weights are random, chosen so that no layer is
silent or saturated; BatchNorm has statistics of its own.
"""

import argparse
import contextlib
import gc
import importlib
import sys
import time
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from rich.console import Console
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

import sj2onnx
from custom_ops.files.atomic_write import replacing
from sj2onnx.check import LayerCheck, check

__all__ = ["MODELS", "Entry", "lively", "random_spikes"]

_IF: dict[str, Any] = {"spiking_neuron": neuron.IFNode, "surrogate_function": surrogate.ATan(), "detach_reset": True}
_PLIF: dict[str, Any] = {"surrogate_function": surrogate.ATan(), "detach_reset": True, "channels": 16}


@dataclass(frozen=True)
class Entry:
    """A network of SpikingJelly's.

    Args:
        module: its file in ``spikingjelly.activation_based.model``.
        factory: makes the network, of that module.
        shape: of one sample at one time step.
        quick: whether ``make test`` runs it too.
    """

    module: str
    factory: Callable[[Any], nn.Module]
    shape: tuple[int, ...]
    quick: bool = False

    def make(self) -> nn.Module:
        """The network in step mode ``m``, with random weights."""
        with _without_torchvision():
            module = importlib.import_module(f"spikingjelly.activation_based.model.{self.module}")
        torch.manual_seed(0)
        net = self.factory(module)
        functional.set_step_mode(net, "m")
        return net


def _parametric(name: str, **options: Any) -> Callable[[Any], nn.Module]:
    return lambda module: getattr(module, name)(**{"spiking_neuron": neuron.ParametricLIFNode, **_PLIF, **options})


def _factory(name: str, **options: Any) -> Callable[[Any], nn.Module]:
    return lambda module: getattr(module, name)(num_classes=10, **{**_IF, **options})


def _narrow_vgg(module: Any) -> nn.Module:
    """A VGG of few channels: nearly all weights of the usual one are in its first linear layer."""
    net: Any = module.SpikingVGG(cfg=[8, "M", 16, 16, "M", 24, "M", 512, "M"], batch_norm=True, num_classes=10, **_IF)
    net.classifier[0] = layer.Linear(512 * 7 * 7, 64)
    net.classifier[3] = layer.Linear(64, 64)
    net.classifier[6] = layer.Linear(64, 10)
    return cast(nn.Module, net)


_VGGS = [f"spiking_vgg{depth}{suffix}" for depth in (11, 13, 16, 19) for suffix in ("", "_bn")]
_RESNETS = [f"spiking_resnet{depth}" for depth in (18, 34, 50, 101, 152)]
_WIDE = ["spiking_resnext50_32x4d", "spiking_resnext101_32x8d", "spiking_wide_resnet50_2", "spiking_wide_resnet101_2"]

MODELS: dict[str, Entry] = {
    "MNISTNet": Entry("parametric_lif_net", _parametric("MNISTNet", init_tau=2.0), (1, 28, 28), True),
    "FashionMNISTNet": Entry(
        "parametric_lif_net", _parametric("FashionMNISTNet", spiking_neuron=neuron.IFNode, v_reset=None), (1, 28, 28), True
    ),
    "NMNISTNet": Entry(
        "parametric_lif_net",
        _parametric("NMNISTNet", spiking_neuron=neuron.LIFNode, tau=1.5, v_reset=-0.1),
        (2, 34, 34),
        True,
    ),
    "CIFAR10Net": Entry("parametric_lif_net", _parametric("CIFAR10Net", decay_input=False, v_reset=None), (3, 32, 32), True),
    "CIFAR10DVSNet": Entry("parametric_lif_net", _parametric("CIFAR10DVSNet", init_tau=3.0), (2, 128, 128), True),
    "DVSGestureNet": Entry("parametric_lif_net", _parametric("DVSGestureNet", decay_input=False), (2, 128, 128), True),
    "SpikingVGG, narrow": Entry("spiking_vgg", _narrow_vgg, (3, 32, 32), True),
    **{name: Entry("spiking_vgg", _factory(name), (3, 32, 32)) for name in _VGGS},
    **{name: Entry("spiking_resnet", _factory(name), (3, 32, 32), name == "spiking_resnet18") for name in _RESNETS + _WIDE},
    "sew_resnet18, ADD": Entry("sew_resnet", _factory("sew_resnet18", cnf="ADD"), (3, 32, 32), True),
    "sew_resnet18, AND": Entry("sew_resnet", _factory("sew_resnet18", cnf="AND"), (3, 32, 32)),
    "sew_resnet18, IAND": Entry("sew_resnet", _factory("sew_resnet18", cnf="IAND"), (3, 32, 32)),
    "sew_resnet34, ADD": Entry("sew_resnet", _factory("sew_resnet34", cnf="ADD"), (3, 224, 224)),
    "spikformer, small": Entry(
        "spikformer",
        lambda module: module.Spikformer(
            img_size_h=32, img_size_w=32, patch_size=4, num_classes=10, embed_dims=64, num_heads=4, depths=2
        ),
        (3, 32, 32),
        True,
    ),
    "spikformer_ti": Entry("spikformer", lambda module: module.spikformer_ti(), (3, 224, 224)),
    "spike_driven_transformer, small": Entry(
        "spike_driven_transformer",
        lambda module: module.SpikeDrivenTransformer(embed_dims=64, num_heads=4, depths=2, num_classes=10),
        (3, 32, 32),
        True,
    ),
    "sdt_8_384": Entry("spike_driven_transformer", lambda module: module.sdt_8_384(), (3, 224, 224)),
}
"""Every network by its name."""


def random_spikes(*shape: int, rate: float = 0.5, seed: int = 0) -> torch.Tensor:
    """Random spikes of that shape."""
    return (torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < rate).float()


def lively(net: nn.Module, x: torch.Tensor) -> nn.Module:
    """Give ``net`` weights with which it is neither silent nor saturated on ``x``, and BatchNorm statistics of its own."""
    generator = torch.Generator().manual_seed(1)
    for module in net.modules():
        if isinstance(module, _BatchNorm):
            module.momentum = None  # the running statistics are the mean of all that was seen
            if module.weight is not None:
                nn.init.uniform_(module.weight, 1.0, 2.0, generator=generator)
            if module.bias is not None:
                nn.init.uniform_(module.bias, 0.0, 1.0, generator=generator)
        elif isinstance(module, nn.Linear | _ConvNd):
            nn.init.normal_(module.weight, 0.05 / module.weight[0].numel() ** 0.5, 3 / module.weight[0].numel() ** 0.5, generator)
    net.train()
    functional.reset_net(net)
    with torch.no_grad():
        net(x)
    functional.reset_net(net)
    return net.eval()


@contextlib.contextmanager
def _without_torchvision() -> Iterator[None]:
    """Stand in for torchvision, which some model files import for its download helper alone."""
    names = ["torchvision", "torchvision.models", "torchvision.models.utils"]
    before = {name: sys.modules.get(name) for name in names}
    sys.modules.update({name: types.ModuleType(name) for name in names})
    sys.modules[names[-1]].load_state_dict_from_url = None  # type: ignore[attr-defined]
    try:
        yield
    finally:
        for name, module in before.items():
            del sys.modules[name]
            if module is not None:
                sys.modules[name] = module


_HEAD = """\
# SpikingJelly's own networks, exported

Printed by `make models`: random weights, 4 time steps of random spikes, each layer fed the same input in SpikingJelly and in
onnxruntime. Where they differ at all, a float convolution was added up in another order, and a sum fell on the other side of
the threshold. A file is its weights and a graph of some tens of kilobytes, which shows where a network was made narrow.

| network | spiking layers | million weights | export, s | file beyond its weights | spikes | differ | worst layer |
| --- | --: | --: | --: | --: | --: | --: | --: |"""


def _row(name: str, entry: Entry) -> str:
    """One network, exported and compared."""
    net = entry.make()
    shape = entry.shape
    lively(net, random_spikes(2, 2, *shape))
    start = time.perf_counter()
    model = sj2onnx.export(net, torch.zeros(2, 1, *shape), outputs="all")
    seconds = time.perf_counter() - start
    weights = sum(value.numel() * value.element_size() for value in net.state_dict().values())
    layers: list[LayerCheck] = check(net, model, random_spikes(4, 1, *shape, seed=1))
    spiking = [found for found in layers if found.name != "output"]
    worst = max(found.mismatches / found.values for found in spiking)
    if layers[-1].mismatches:
        raise SystemExit(f"{name}: the outputs differ")
    values, differ = sum(found.values for found in spiking), sum(found.mismatches for found in spiking)
    cells = (
        name,
        f"{len(spiking)}",
        f"{weights / 4e6:,.1f}",
        f"{seconds:.1f}",
        f"{model.ByteSize() / weights - 1:+.2%}",
        f"{values:,}",
        f"{differ:,}",
        f"{worst:.1e}",
    )
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Print the table, and write it where ``-o`` says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path, help="also write the page there")
    parser.add_argument("names", nargs="*", default=list(MODELS), help="by default all")
    given = parser.parse_args()
    torch.set_num_threads(2)
    lines = _HEAD.splitlines()
    for name in given.names:
        lines.append(_row(name, MODELS[name]))
        Console(highlight=False).print(lines[-1], markup=False, soft_wrap=True)
        gc.collect()
    if given.output is not None:
        with replacing(given.output) as temporary:
            temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
