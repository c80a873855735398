"""Random NIR graphs in Loihi's integers: one set of spikes in onnxruntime, slayer and NetX.

NIR is read where its package is, and Lava-DL runs in a Python of its own: one process there takes all graphs. ``NIR_CASES`` says
how many; ``make nir`` takes a hundred.
"""

import json
import os
import subprocess
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
from hypothesis import HealthCheck, given, seed, settings

import onnx2lava
from onnx2lava.targets import TARGETS

from ..conftest import ROOT
from .graphs import Graph, graphs

CASES = int(os.environ.get("NIR_CASES", "6"))
REASONS = ("a NetX file is a list of layers", "NetX would delay its feedback as well")
"""Why NetX cannot hold a graph, in words of its findings; Lava runs it all the same. Slayer holds every one."""


def some_graphs() -> list[Graph]:
    """The same ones each time, none of them twice."""
    found: dict[str, Graph] = {}

    @seed(5)
    @settings(max_examples=2 * CASES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(graphs())
    def collect(graph: Graph) -> None:
        found.setdefault(repr(graph), graph)

    collect()
    assert len(found) >= CASES
    return list(found.values())[:CASES]


def test_integers_are_one_set_of_spikes(tmp_path: Path, lava_python: Path) -> None:
    cases, left_out = [], Counter[str]()
    for index, graph in enumerate(some_graphs()):
        network = onnx2lava.quantize(onnx2lava.load(graph.nir()))
        assert TARGETS["slayer"].check(network) == []
        findings = TARGETS["netx"].check(network)
        for finding in findings:
            (reason,) = (reason for reason in REASONS if reason in finding.message)
            left_out[reason] += 1
        against = ["ort", "ort-native", "numpy", "slayer", "lava" if findings else "netx"]
        files = {"model": str(tmp_path / f"{index}.onnx"), "input": str(tmp_path / f"{index}.npy")}
        onnx.save(onnx2lava.to_onnx(network), files["model"])
        np.save(files["input"], (np.random.default_rng(3).random((7, 2, *graph.input_shape)) < 0.5).astype(np.float32))
        cases.append({**files, "kind": "spikes", "against": against})
    (tmp_path / "cases.json").write_text(json.dumps(cases))
    peer = ROOT / "tests" / "peers" / "verify_in_lava.py"
    subprocess.run([lava_python, peer, tmp_path / "cases.json", tmp_path / "found.json"], check=True)
    results = json.loads((tmp_path / "found.json").read_text())
    ran = Counter(name for case in cases for name in case["against"])
    rates = [layer["rate"] for result in results for layer in result["layers"]]
    print(f"\n{dict(ran)}; not in NetX: {dict(left_out)}; {len(rates)} layers fire at rates of {np.quantile(rates, [0, 0.5, 1])}")
    for case, result in zip(cases, results, strict=True):
        assert result["mismatches"] == 0, case
        assert result["left_out"] == {}, case
    assert ran["netx"] >= CASES / 2
    assert np.mean([0 < rate < 1 for rate in rates]) > 0.6
