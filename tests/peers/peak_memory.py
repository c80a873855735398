"""Print the peak memory in bytes of one run of the model on stdin: python peak_memory.py LIBRARY STEPS (20,000 neurons)."""

import re
import sys
from pathlib import Path

import numpy as np
import onnxruntime

library, steps = sys.argv[1:]
options = onnxruntime.SessionOptions()
options.register_custom_ops_library(library)
options.enable_cpu_mem_arena = False  # the arena rounds up to powers of two
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(sys.stdin.buffer.read(), options, providers=["CPUExecutionProvider"])
x = np.ones((int(steps), 1, 20_000), np.float32)
session.run(None, {"x": x})
# Not ru_maxrss, which begins with what the parent had in memory.
print(int(re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text()).group(1)) * 1024)
