"""Faults planted in the GPU's kernels do not get past the cases of ``test_emulated.py``."""

import re
import subprocess
import sys

from .emulated import ROOT, build
from .mutants import MUTANTS


def test_every_planted_fault_is_noticed() -> None:
    build("snn_ops_emulated_host")  # skips, or fails in CI, without a compiler
    ran = subprocess.run([sys.executable, "-m", "tests.custom_ops.mutants"], cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ran.stdout == f"{len(MUTANTS)} of {len(MUTANTS)} faults noticed\n"


def test_the_faults_are_of_every_kind() -> None:
    assert len({(mutant.file, mutant.right, mutant.wrong) for mutant in MUTANTS}) == len(MUTANTS) >= 20
    kinds = " ".join(mutant.kind for mutant in MUTANTS)
    for kind in ("index", "tail", "rounding", "wrap", "number", "alignment", "soft reset"):
        assert re.search(rf"\b{kind}\b", kinds)
