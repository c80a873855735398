"""Networks as people write them, converted and run by Lava."""

import json
import subprocess
from pathlib import Path

import numpy as np
import onnx

import onnx2lava
from onnx2lava.targets.netx import NETX

from ..conftest import ROOT
from .test_people import ALL, STAYS, converted, exported

SAME_NETWORK = {"DataParallel", "torch.compile", "loop, appended", "loop, last step", "the same tensor twice", "weight norm"}
"""On Lava these are what others are: left out there, and compared on onnxruntime and NumPy alone."""


def test_what_is_converted_runs_on_lava(lava_python: Path, tmp_path: Path) -> None:
    names = [name for name in ALL if name not in STAYS and name not in SAME_NETWORK]
    cases = []
    for index, name in enumerate(names):
        kind, x = converted(name)
        _, model = exported(name)
        files = {"model": str(tmp_path / f"{index}.onnx"), "input": str(tmp_path / f"{index}.npy")}
        onnx.save(model, files["model"])
        np.save(files["input"], x[:, :1] if kind == "spikes" or "N" not in ALL[name].free[:1] else x[:1])
        on_netx = not NETX.check(onnx2lava.quantize(onnx2lava.load(model, input=kind)))
        cases.append({**files, "kind": kind, "against": ["ort", "netx" if on_netx else "lava"]})
    (tmp_path / "cases.json").write_text(json.dumps(cases))
    peer = ROOT / "tests" / "peers" / "verify_in_lava.py"
    subprocess.run([lava_python, peer, tmp_path / "cases.json", tmp_path / "found.json"], check=True)
    for name, case, found in zip(names, cases, json.loads((tmp_path / "found.json").read_text()), strict=True):
        assert found["mismatches"] == 0, name
        assert found["left_out"] == {}, name
        assert found["layers"], name
        for each in found["layers"]:
            assert set(case["against"]) <= {*each["mismatches"], each["reference"]}, f"{name}, {each['name']}"
