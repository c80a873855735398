"""What holds for the package as a whole."""

import subprocess
import sys
import time

import numpy as np

from onnx2lava import Dense, load, quantize, save_netx, to_onnx
from tests.onnx2lava.networks import IF, build, weights


def test_importing_and_converting_need_neither_torch_nor_lava(tmp_path):
    code = """
import sys
import onnx2lava, onnx2lava.cli
from tests.onnx2lava.networks import chains
for name, network in chains().items():
    onnx2lava.save_netx(onnx2lava.quantize(onnx2lava.load(onnx2lava.to_onnx(network))), sys.argv[1] + "/a.net")
heavy = {"torch", "lava", "spikingjelly", "sj2onnx"} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)


def test_a_million_weights_convert_in_a_second(tmp_path):
    rng = np.random.default_rng(0)
    model = to_onnx(build((1000,), [(Dense(weights(rng, 1000, 1000)), IF, True)])).SerializeToString()
    best = min(_seconds_to_convert(model, tmp_path / "a.net") for _ in range(3))
    assert best < 1


def _seconds_to_convert(model, path):
    start = time.perf_counter()
    save_netx(quantize(load(model)), path)
    return time.perf_counter() - start
