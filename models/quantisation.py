"""What quantisation costs, and how to train so that it costs nothing: ``python -m models.quantisation -h``."""

import argparse
import statistics
import sys
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
import torch
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from torch import nn

import custom_ops
import onnx2lava
import sj2onnx
from custom_ops.errors import BridgeError

from .data import Dataset, digits, moving_edges, poisson_spikes
from .mnist_csnn import FloatMNISTNet, MNISTNet
from .train import evaluate, train

__all__ = ["main"]

_DRAWS = 4
"""Times that the Poisson coder draws the test set: it is small, and one image more or less would decide."""
_CALIBRATION_IMAGES = 64
_LAVA_DL_SCALE = 64
_BATCH, _LEARNING_RATE = 64, 0.1
_FINE = 0.1  # of learning rate
_CPU = torch.device("cpu")

Array = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class _Task:
    """What is learnt.

    Args:
        data: images or films.
        T: time steps.
        epochs: passes over the training data; a quarter as many more for fine-tuning.
        inputs: channels.
        norm: whether the float network has batch normalisation.
    """

    data: Dataset
    T: int
    epochs: int
    inputs: int
    norm: bool


def main() -> int:
    """The command line; exit code 0, or 2 where something is missing."""
    parser = argparse.ArgumentParser(
        prog="python -m models.quantisation",
        description="Train the reference network on the digits, and on made-up events of a moving disc with batch normalisation: "
        "without quantisation, in blocks from the start, and in blocks that sj2onnx.to_blocks made of the trained network. "
        "Convert each to Loihi's integers and count right classes, all on the same recorded spikes.",
        allow_abbrev=False,
    )
    parser.add_argument("-seeds", type=int, default=3, metavar="N", help="trainings of each kind (3)")
    parser.add_argument("-T", type=int, metavar="N", help="time steps (16 for the digits, 12 for the events)")
    parser.add_argument(
        "-epochs", type=int, metavar="N", help="passes over the training data (40 and 20); a quarter more to fine-tune"
    )
    parser.add_argument("-data", choices=("digits", "events"), help="one of the two data sets (both)")
    options = parser.parse_args()
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=130)
    torch.set_num_threads(1)  # layers this small gain nothing from more, and the result does not depend on the number of cores
    try:
        for name in ("digits", "events") if options.data is None else (options.data,):
            console.print(_table(_task(name, options.T, options.epochs), range(options.seeds), console))
    except BridgeError as error:
        Console(stderr=True).print(f"Error: {error}", markup=False, highlight=False, soft_wrap=True)
        return 2
    return 0


def _task(name: str, T: int | None, epochs: int | None) -> _Task:
    if name == "digits":
        return _Task(digits(), T or 16, epochs or 40, inputs=1, norm=False)
    return _Task(moving_edges(T or 12), T or 12, epochs or 20, inputs=2, norm=True)


def _table(task: _Task, seeds: range, console: Console) -> Table:
    """A way to train and convert a row: accuracy for each seed, and what is lost against the float network of that seed."""
    found = [_accuracies(task, seed, console) for seed in seeds]
    count = len(task.data.test_labels)
    table = Table(title=f"{task.data.name}: {count} test samples, each drawn {_DRAWS} times, {task.T} time steps", box=SIMPLE)
    for column in ("network", *(f"seed {seed}" for seed in seeds), "mean", "points"):
        table.add_column(column, justify="left" if column == "network" else "right")
    names = list(found[0])
    plain = statistics.mean(each[names[0]] for each in found)
    for name in names:
        values = [each[name] for each in found]
        mean = statistics.mean(values)
        points = "" if name == names[0] else f"{100 * (mean - plain):+.2f}"
        table.add_row(name, *(f"{value:.2%}" for value in values), f"{mean:.2%}", points)
    return table


def _accuracies(task: _Task, seed: int, console: Console) -> dict[str, float]:
    """The accuracy of every way for one seed."""
    data = task.data
    x = np.concatenate([poisson_spikes(data.test_images, task.T, draw) for draw in range(_DRAWS)], axis=1)
    labels = np.tile(data.test_labels, _DRAWS)
    calibration = poisson_spikes(data.train_images[:_CALIBRATION_IMAGES], task.T, _DRAWS)
    size = x.shape[-1]

    def trained(net: nn.Module, epochs: int, rate: float) -> nn.Module:
        test = poisson_spikes(data.test_images, task.T, 0)
        quiet = Console(quiet=True)
        train(net, data, test, b=_BATCH, epochs=epochs, lr=rate, device=_CPU, console=quiet, seed=seed)
        console.print(f"{data.name}, seed {seed}: {type(net).__name__} trained for {epochs} epochs", soft_wrap=True)
        return net

    torch.manual_seed(seed)
    plain = trained(FloatMNISTNet(16, size, task.inputs, task.norm), task.epochs, _LEARNING_RATE)
    found = {"float, in SpikingJelly": evaluate(plain, x, labels, _CPU)[1]}
    for name, model in _rounded(_exported(plain, x), calibration).items():
        found[f"float, rounded: {name}"] = _right(model, x, labels)
    tuned = sj2onnx.to_blocks(plain, torch.from_numpy(calibration).float())
    found["blocks of the float network"] = _right_as_blocks(tuned, x, labels)
    trained(tuned, max(1, task.epochs // 4), _FINE * _LEARNING_RATE)
    found["blocks of the float network, fine-tuned"] = _right_as_blocks(tuned, x, labels)
    torch.manual_seed(seed)
    fresh = trained(MNISTNet(16, size, task.inputs), task.epochs, _LEARNING_RATE)
    found[f"blocks from scratch, scale {_LAVA_DL_SCALE}"] = _right_as_blocks(fresh, x, labels)
    return found


def _exported(net: nn.Module, x: Array) -> bytes:
    model: bytes = sj2onnx.export(net.eval(), torch.from_numpy(x[:, :1]).float()).SerializeToString()
    return model


def _right(model: onnx.ModelProto, x: Array, labels: npt.NDArray[np.int64]) -> float:
    """The share of samples whose class fires most, the first of equals, in the integer network."""
    session = custom_ops.session(model)
    counts = [session.run(None, {"input": part.astype(np.float32)})[0].sum(0) for part in np.array_split(x, _DRAWS, axis=1)]
    return float(np.mean(np.concatenate(counts).argmax(1) == labels))


def _right_as_blocks(net: nn.Module, x: Array, labels: npt.NDArray[np.int64]) -> float:
    """Likewise for a network of blocks, converted.

    Raises:
        BridgeError: the conversion changed a class, which it never does.
    """
    _, accuracy = evaluate(net, x, labels, _CPU)
    converted = _right(onnx2lava.to_onnx(onnx2lava.quantize(onnx2lava.load(_exported(net, x)))), x, labels)
    if abs(converted - accuracy) > 1e-9:
        raise BridgeError(
            f"The blocks are right in {accuracy:.4%}, and their conversion in {converted:.4%}: report this as a bug."
        )
    return accuracy


def _rounded(model: bytes, calibration: Array) -> dict[str, onnx.ModelProto]:
    """The float network in Loihi's integers, in several ways."""
    network = onnx2lava.load(model)
    usual = onnx2lava.to_onnx(onnx2lava.quantize(network, scale=_LAVA_DL_SCALE))
    return {
        "scale auto, calibrated": onnx2lava.to_onnx(onnx2lava.quantize(network, calibration=calibration)),
        f"scale {_LAVA_DL_SCALE}": usual,
        f"scale {_LAVA_DL_SCALE}, threshold of Lava-DL": _as_published(usual),
    }


def _as_published(model: onnx.ModelProto) -> onnx.ModelProto:
    """As the published path converts: the threshold's mantissa is the scaled threshold itself, which Loihi has to exceed."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    for node in changed.graph.node:
        for attribute in node.attribute:
            if attribute.name == "v_threshold":
                attribute.i += 1
    return changed


if __name__ == "__main__":
    sys.exit(main())
