"""Run an ONNX file with numpy and onnxruntime alone: python -I run_onnx.py MODEL INPUT.npy OUTPUT.npz"""

import importlib.util
import sys

import numpy as np
import onnxruntime

model, source, target = sys.argv[1:]
for package in ("custom_ops", "sj2onnx", "onnx2lava", "torch", "onnx"):
    assert importlib.util.find_spec(package) is None, f"{package} must not be installed where a bare onnxruntime is tested"
session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
names = [output.name for output in session.get_outputs()]
np.savez(target, **dict(zip(names, session.run(None, {"input": np.load(source)}), strict=True)))
print(onnxruntime.__version__)
