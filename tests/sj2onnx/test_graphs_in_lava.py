"""Networks that are graphs, exported, converted, and run by Lava as a process graph: every spike of every layer is the same."""

import json
import subprocess
from pathlib import Path

import numpy as np

import sj2onnx

from ..conftest import ROOT
from .residual import NETWORKS, example

AGAINST = ["ort", "ort-native", "numpy", "lava"]


def test_onnxruntime_numpy_and_lava_agree_in_every_spike(lava_python: Path, tmp_path: Path) -> None:
    cases = []
    for index, name in enumerate(NETWORKS):
        net, x = example(name)
        files = {"model": str(tmp_path / f"{index}.onnx"), "input": str(tmp_path / f"{index}.npy")}
        sj2onnx.export(net, x[:, :1], files["model"])
        np.save(files["input"], x.numpy())
        cases.append({**files, "kind": "spikes", "against": AGAINST})
    (tmp_path / "cases.json").write_text(json.dumps(cases))
    peer = ROOT / "tests" / "peers" / "verify_in_lava.py"
    subprocess.run([lava_python, peer, tmp_path / "cases.json", tmp_path / "found.json"], check=True)
    for name, found in zip(NETWORKS, json.loads((tmp_path / "found.json").read_text()), strict=True):
        assert found["mismatches"] == 0, name
        assert found["left_out"] == {}, name
        assert len(found["layers"]) >= 7, name
        for layer in found["layers"]:
            assert 0 < layer["rate"] < 1, f"{name}, {layer['name']}: silent or saturated, so that it would prove nothing"
            assert {*layer["mismatches"], layer["reference"]} >= set(AGAINST), f"{name}, {layer['name']}"
            assert not any(layer["mismatches"].values()), f"{name}, {layer['name']}"
