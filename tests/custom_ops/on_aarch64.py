"""Run by an AArch64 Python: ``on_aarch64.py LIBRARY FOLDER`` compares each model's outputs with those that this machine gave.

Prints a line for each instruction set: its name, how many models ran, and how many of their outputs differ.
"""

import ctypes
import sys
from pathlib import Path

import numpy as np
import onnxruntime


def main(library: str, folder: Path) -> None:
    """Each case is ``NUMBER.onnx`` and ``NUMBER.npz`` with its inputs (``in/NAME``) and outputs (``out/0``, ``out/1``, …)."""
    functions = ctypes.CDLL(library)
    functions.snn_ops_isa.restype = ctypes.c_char_p
    isas = [isa for isa in map(functions.snn_ops_isa, range(8)) if isa]
    differing = dict.fromkeys(isas, 0)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.register_custom_ops_library(library)
    models = sorted(folder.glob("*.onnx"))
    for model in models:
        session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        tensors = np.load(model.with_suffix(".npz"))
        inputs = {name.removeprefix("in/"): tensors[name] for name in tensors.files if name.startswith("in/")}
        for isa in isas:
            assert functions.snn_ops_use_isa(isa)
            for index, value in enumerate(session.run(None, inputs)):
                expected = tensors[f"out/{index}"]
                same = value.dtype == expected.dtype and np.array_equal(value, expected, equal_nan=value.dtype == np.float32)
                differing[isa] += not same
    for isa in isas:
        print(isa.decode(), len(models), differing[isa])


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
