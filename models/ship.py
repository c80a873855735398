"""Renew the trained network that comes with the project, from what ``python -m models.demo`` left: ``python -m models.ship``."""

import argparse
import sys
from pathlib import Path

from rich.console import Console

from custom_ops.errors import BridgeError
from custom_ops.files.model_file import read_model, write_model
from custom_ops.files.trace import Trace, read_trace, write_trace

__all__ = ["main"]

_SAMPLES = 32
_HERE = Path(__file__).parent


def main() -> int:
    """The command line; exit code 0, or 2 where the demo has not run."""
    parser = argparse.ArgumentParser(prog="python -m models.ship", description=__doc__)
    parser.add_argument("-out-dir", default="out", type=Path, metavar="DIR", help="where the demo wrote to (out)")
    out: Path = parser.parse_args().out_dir
    try:
        write_model(read_model(out / "net.onnx"), _HERE / "digits_csnn.onnx")
        trace = read_trace(out / "trace.npz")
        labels = None if trace.labels is None else trace.labels[:_SAMPLES]
        spikes = {name: layer[:, :_SAMPLES] for name, layer in trace.spikes.items()}
        write_trace(Trace(trace.input[:, :_SAMPLES], spikes, labels), _HERE / "digits_csnn.npz")
    except BridgeError as error:
        Console(stderr=True).print(f"Error: {error}", markup=False, highlight=False, soft_wrap=True)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
