"""Run models with the native library, numpy and onnxruntime alone: python -I run_native.py LIBRARY FOLDER NAME...

For each NAME, FOLDER holds NAME.onnx, NAME.in.npz and NAME.out.npz, the inputs and the outputs that must come out.
"""

import sys
from pathlib import Path

import numpy as np
import onnxruntime

library, folder, *names = sys.argv[1:]
done = [onnxruntime.__version__]
for name in names:
    paths = [str(Path(folder) / f"{name}.{end}") for end in ("onnx", "in.npz", "out.npz")]
    inputs, expected = (dict(np.load(path)) for path in paths[1:])
    for native in (True, False):
        options = onnxruntime.SessionOptions()
        if native:
            options.register_custom_ops_library(library)
            options.register_custom_ops_library(library)
        session = onnxruntime.InferenceSession(paths[0], options, providers=["CPUExecutionProvider"])
        outputs = session.run(list(expected), inputs)
        for key, value in zip(expected, outputs, strict=True):
            np.testing.assert_array_equal(value, expected[key], err_msg=f"{name}.{key}, native={native}")
    done.append(name)
print(*done)
