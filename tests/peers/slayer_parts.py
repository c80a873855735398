"""Convert single neurons and synapses and run them in Lava-DL: ``python slayer_parts.py FOLDER``.

For each NAME.onnx in FOLDER, NAME.in.npy holds the input ``[T, N, *]``; NAME.out.npy becomes the output ``[T, N, *]``. A line
``NAME CLASS`` of what was built is printed for each. A name that begins with ``neuron`` is a neuron, NAME.scale its scale.
"""

import sys
from pathlib import Path

import numpy as np
import torch

from onnx2lava import to_slayer_neuron, to_slayer_synapse

torch.set_num_threads(1)
for path in sorted(Path(sys.argv[1]).glob("*.onnx")):
    name = path.stem
    if name.startswith("neuron"):
        module = to_slayer_neuron(path, scale=int(path.with_suffix(".scale").read_text()))
    else:
        module = to_slayer_synapse(path)
    x = torch.from_numpy(np.load(path.with_suffix(".in.npy"))).movedim(0, -1)
    with torch.no_grad():
        np.save(path.with_suffix(".out.npy"), module(x).movedim(-1, 0).numpy())
    print(name, type(module).__name__)
