"""``python -m tests.fuzz.guided``: files that reach new lines of the readers, found by libFuzzer through atheris.

Half of the changes are libFuzzer's own, to bytes; the other half are those of :mod:`tests.fuzz.damage`, to nodes and groups.
A file that makes a reader do anything but accept it or raise a ``BridgeError`` ends the run and is kept beside the corpus.
"""

import argparse
import logging
import os
import sys
import tempfile
import warnings
from pathlib import Path
from random import Random

import atheris

with atheris.instrument_imports(include=["custom_ops", "onnx2lava"]):
    from tests.fuzz.attempt import Case, attempt

from tests.fuzz.corpus import netx_files, onnx_files
from tests.fuzz.damage import damaged_netx, damaged_onnx, write_surroundings

_LONGEST = 20_000  # bytes of a file: the readers are as slow as files are large
_READERS = {".onnx": ("load", "inspect"), ".net": ("load_netx", "inspect")}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.guided", description=__doc__)
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--kind", choices=[".onnx", ".net"], default=".onnx")
    parser.add_argument(
        "--corpus", type=Path, required=True, help="folder of the files that reached something new; kept for the next run"
    )
    arguments = parser.parse_args()
    kind = arguments.kind
    with tempfile.TemporaryDirectory() as folder:
        files = list((onnx_files() if kind == ".onnx" else netx_files(Path(folder))).values())
        inner = write_surroundings(Path(folder))
        corpus = arguments.corpus / kind[1:]
        corpus.mkdir(parents=True, exist_ok=True)
        for index, data in enumerate(files):
            if len(data) <= _LONGEST:
                (corpus / f"whole{index}").write_bytes(data)
        logging.disable()
        warnings.simplefilter("error", RuntimeWarning)

        def read(data: bytes) -> None:
            entrance = _READERS[kind][len(data) % 5 == 0]
            came = attempt(Case(entrance, kind, data), inner)
            if came.startswith("BUG"):
                raise AssertionError(came)

        def change(data: bytes, longest: int, seed: int) -> bytes:
            rng = Random(seed)
            if rng.random() < 0.5:
                return bytes(atheris.Mutate(data, longest))
            damaged = damaged_onnx if kind == ".onnx" else damaged_netx
            try:
                changed = damaged(rng, data, rng.choice(files))
            except Exception:  # those changes want a file that is still one
                return bytes(atheris.Mutate(data, longest))
            return changed if len(changed) <= longest else data

        limits = [f"-max_total_time={arguments.seconds}", f"-max_len={_LONGEST}", "-timeout=30", "-rss_limit_mb=2048"]
        quiet = ["-print_final_stats=1", "-verbosity=1", f"-artifact_prefix={arguments.corpus}/"]
        atheris.Setup([sys.argv[0], *limits, *quiet, str(corpus)], read, custom_mutator=change)
        try:
            atheris.Fuzz()
        finally:
            os.chdir("/")


if __name__ == "__main__":
    main()
