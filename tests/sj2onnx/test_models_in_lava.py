"""SpikingJelly's own networks, with few channels and whole images, exported, converted and run by Lava-DL and Lava."""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from spikingjelly.activation_based import functional, neuron, surrogate
from spikingjelly.activation_based.model import parametric_lif_net

import sj2onnx
from models.spikingjelly_models import lively, random_spikes

ROOT = Path(__file__).parents[2]
STEPS, SAMPLES = 4, 2


@dataclass(frozen=True)
class Case:
    """A network, what it is fed with, and how many spiking layers and pools Lava runs of it."""

    shape: tuple[int, ...]
    kind: str
    layers: int
    options: dict[str, Any]


CASES = {
    "MNISTNet": Case((1, 28, 28), "images", 5, {"init_tau": 2.0}),
    "CIFAR10Net": Case((3, 32, 32), "images", 9, {"init_tau": 2.0, "decay_input": False}),
    "CIFAR10DVSNet": Case((2, 128, 128), "counts", 10, {"init_tau": 3.0}),
    "DVSGestureNet": Case((2, 128, 128), "spikes", 12, {"init_tau": 2.0, "decay_input": False}),
}


def given(case: Case) -> torch.Tensor:
    shape = (STEPS, SAMPLES, *case.shape)
    generator = torch.Generator().manual_seed(0)
    if case.kind == "images":
        return torch.rand(shape[1:], generator=generator).expand(shape).contiguous()
    if case.kind == "counts":
        return torch.poisson(torch.full(shape, 0.6), generator=generator)
    return random_spikes(*shape)


def test_onnxruntime_slayer_and_lava_agree_in_every_spike(lava_python: Path, tmp_path: Path) -> None:
    cases = []
    for name, case in CASES.items():
        torch.manual_seed(0)
        net = getattr(parametric_lif_net, name)(
            channels=4,
            spiking_neuron=neuron.ParametricLIFNode,
            surrogate_function=surrogate.ATan(),
            detach_reset=True,
            **case.options,
        )
        functional.set_step_mode(net, "m")
        x = given(case)
        sj2onnx.export(lively(net, x), x[:, :1], tmp_path / f"{name}.onnx")
        np.save(tmp_path / f"{name}.npy", x.numpy())
        files = {"model": str(tmp_path / f"{name}.onnx"), "input": str(tmp_path / f"{name}.npy")}
        cases.append({**files, "kind": case.kind, "against": ["ort", "slayer", "netx"]})
    (tmp_path / "cases.json").write_text(json.dumps(cases))
    peer = ROOT / "tests" / "peers" / "verify_in_lava.py"
    subprocess.run([lava_python, peer, tmp_path / "cases.json", tmp_path / "found.json"], check=True)
    for (name, case), found in zip(CASES.items(), json.loads((tmp_path / "found.json").read_text()), strict=True):
        assert found["mismatches"] == 0, name
        assert len(found["layers"]) == case.layers, name
        for layer in found["layers"]:
            assert 0 < layer["rate"] < 1, f"{name}, {layer['name']}: silent or saturated, so that it would prove nothing"
            assert set(layer["mismatches"]) == {"slayer", "netx", "float-native"}, name
        assert found["encoder_mismatches"] == (0 if case.kind == "images" else None), name
        assert len(set(found["same_class"].values())) == 1, name
