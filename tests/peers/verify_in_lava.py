"""Verify converted networks where Lava is: ``python verify_in_lava.py CASES.json FOUND.json``.

CASES is a list of ``{"model", "input", "kind", "against"}``: an ONNX file, an ``.npy`` file, what ``load`` calls its input,
and the names of targets (without them, all that can run it).
FOUND is a list of what ``write_json`` writes.
"""

import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

from onnx2lava import verify
from onnx2lava.verification import write_json


def main(cases: str, found: str) -> None:
    results = []
    for case in json.loads(Path(cases).read_text()):
        result = verify(case["model"], np.load(case["input"]), input=case["kind"], against=case.get("against"))
        with tempfile.TemporaryDirectory() as folder:
            write_json(result, Path(folder) / "result.json")
            results.append(json.loads((Path(folder) / "result.json").read_text()))
    Path(found).write_text(json.dumps(results))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(*sys.argv[1:])
