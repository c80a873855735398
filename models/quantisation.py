"""What quantisation costs a network that trained without it: ``python -m models.quantisation -h``."""

import argparse
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime
import torch
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

import custom_ops
import onnx2lava
import sj2onnx
from custom_ops.errors import BridgeError
from onnx2lava import CubaNeuron, FloatNeuron, Network
from onnx2lava.host import classes
from onnx2lava.network import Neuron

from . import train
from .data import digits, poisson_spikes
from .mnist_csnn import FloatMNISTNet

__all__ = ["main"]

_DRAWS = 4
"""Times that the Poisson coder draws the test set: it is small, and one image more or less would decide."""
_CALIBRATION_IMAGES = 64
_LAVA_DL_SCALE = 64


def main() -> int:
    """The command line; exit code 0, or 2 where something is missing."""
    parser = argparse.ArgumentParser(
        prog="python -m models.quantisation",
        description="Train the reference network on the digits without quantisation, convert it to Loihi's integers with "
        "different scales, and count right classes, all on the same recorded spikes.",
        allow_abbrev=False,
    )
    parser.add_argument("-out-dir", default="out/float", metavar="DIR", help="folder to write to (out/float)")
    parser.add_argument("-T", metavar="N", help="time steps (as models.train)")
    parser.add_argument("-epochs", metavar="N", help="passes over the training images (as models.train)")
    options = parser.parse_args()
    given = [word for name in ("T", "epochs") if (value := getattr(options, name)) for word in (f"-{name}", value)]
    if code := train.main(["-float", "-out-dir", options.out_dir, *given]):
        return code
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=120)
    try:
        console.print(_table(Path(options.out_dir)))
    except BridgeError as error:
        Console(stderr=True).print(f"Error: {error}", markup=False, highlight=False, soft_wrap=True)
        return 2
    return 0


def _table(out: Path) -> Table:
    """A conversion a row: accuracy, and how much of the float network's output is left."""
    T = len(np.load(out / "test_spikes.npy", mmap_mode="r"))
    data = digits()
    x = np.concatenate([poisson_spikes(data.test_images, T, seed) for seed in range(_DRAWS)], axis=1)
    labels = np.tile(data.test_labels, _DRAWS)
    net = FloatMNISTNet(channels=16, image_size=x.shape[-1])
    net.load_state_dict(torch.load(out / "net.pt", weights_only=True))
    _, accuracy = train.evaluate(net, x, labels, torch.device("cpu"))
    sj2onnx.export(net, torch.from_numpy(x[:, :1]).float(), out / "net.onnx")
    expected = _run(custom_ops.session(out / "net.onnx"), x)

    table = Table(title=f"{len(data.test_labels)} test images, each drawn {_DRAWS} times, {T} time steps", box=SIMPLE)
    for column in ("network", "accuracy", "points", "same class", "same output"):
        table.add_column(column, justify="left" if column == "network" else "right")
    table.add_row("float, in SpikingJelly", f"{accuracy:.2%}", "", "", "")
    calibration = poisson_spikes(data.train_images[:_CALIBRATION_IMAGES], T, _DRAWS)
    for name, network in [("float, in onnxruntime", None), *_converted(onnx2lava.load(out / "net.onnx"), calibration)]:
        spikes = expected if network is None else _run(custom_ops.session(onnx2lava.to_onnx(network)), x)
        said, before = classes(spikes, len(labels)), classes(expected, len(labels))
        right = float(np.mean(said == labels))
        points, same_class, same_output = 100 * (right - accuracy), np.mean(said == before), np.mean(spikes == expected)
        table.add_row(name, f"{right:.2%}", f"{points:+.2f}", f"{same_class:.2%}", f"{same_output:.2%}")
    return table


def _run(session: onnxruntime.InferenceSession, x: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    (spikes,) = session.run(None, {"input": x.astype(np.float32)})
    return np.asarray(spikes)


def _converted(network: Network[Neuron], calibration: npt.NDArray[np.uint8]) -> Iterator[tuple[str, Network[CubaNeuron]]]:
    """The network in Loihi's integers, in several ways."""
    yield "scale auto, calibrated", onnx2lava.quantize(network, calibration=calibration)
    yield "scale auto", onnx2lava.quantize(network)
    yield f"scale {_LAVA_DL_SCALE}", onnx2lava.quantize(network, scale=_LAVA_DL_SCALE)
    yield f"scale {_LAVA_DL_SCALE}, threshold of Lava-DL", _as_published(network)


def _as_published(network: Network[Neuron]) -> Network[CubaNeuron]:
    """As the published path converts: the threshold's mantissa is the scaled threshold itself, which Loihi has to exceed."""
    quantised = onnx2lava.quantize(network, scale=_LAVA_DL_SCALE)
    populations = []
    for before, after in zip(network.populations, quantised.populations, strict=True):
        assert isinstance(before.neuron, FloatNeuron)
        neuron = replace(after.neuron, v_threshold=int(_LAVA_DL_SCALE * before.neuron.v_threshold))
        populations.append(replace(after, neuron=neuron))
    return replace(quantised, populations=tuple(populations))


if __name__ == "__main__":
    sys.exit(main())
