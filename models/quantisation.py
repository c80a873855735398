"""What quantisation costs, and how to train so that it costs nothing: ``python -m models.quantisation -h``."""

import argparse
import os
import sys
from dataclasses import dataclass, replace
from functools import partial
from itertools import product

import numpy as np
import numpy.typing as npt
import onnx
import torch
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from torch import nn

import onnx2lava
import sj2onnx
from custom_ops.errors import BridgeError

from .accuracy import Classes, Spikes, answers, difference, trained_answers
from .data import Dataset, digits, moving_edges, poisson_spikes
from .mnist_csnn import FloatMNISTNet, MNISTNet
from .side_by_side import side_by_side
from .train import train

__all__ = ["main"]

_DRAWS = {"digits": 8, "events": 1}
"""Times that the Poisson coder draws the test set: the digits are few, and one image more or less would decide."""
_CALIBRATION_IMAGES = 64
_LAVA_DL_SCALE = 64
_BATCH, _LEARNING_RATE = 64, 0.1
_FINE = 0.1  # of learning rate
_WATCHED = 200
"""Test samples that training looks at after every epoch."""
_CPU = torch.device("cpu")

Right = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class _Task:
    """What is learnt.

    Args:
        name: ``digits`` or ``events``.
        data: images or films.
        T: time steps.
        epochs: passes over the training data; a quarter as many more for fine-tuning.
        inputs: channels.
        norm: whether the float network has batch normalisation.
    """

    name: str
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
        "-epochs", type=int, metavar="N", help="passes over the training data (25 and 8); a quarter more to fine-tune"
    )
    parser.add_argument("-data", choices=("digits", "events"), help="one of the two data sets (both)")
    parser.add_argument("-jobs", type=int, default=os.cpu_count() or 1, metavar="N", help="trainings side by side (one a core)")
    options = parser.parse_args()
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=130)
    names = ("digits", "events") if options.data is None else (options.data,)
    try:
        cases = list(product(names, range(options.seeds)))
        run = partial(_one_of, T=options.T, epochs=options.epochs)
        found = dict(zip(cases, side_by_side(run, cases, options.jobs), strict=True))
        for name in names:
            console.print(_table(_task(name, options.T, options.epochs), [found[name, seed] for seed in range(options.seeds)]))
    except BridgeError as error:
        Console(stderr=True).print(f"Error: {error}", markup=False, highlight=False, soft_wrap=True)
        return 2
    return 0


def _task(name: str, T: int | None, epochs: int | None) -> _Task:
    if name == "digits":
        return _Task(name, digits(), T or 16, epochs or 25, inputs=1, norm=False)
    return _Task(name, moving_edges(T or 12), T or 12, epochs or 8, inputs=2, norm=True)


def _one_of(case: tuple[str, int], T: int | None, epochs: int | None) -> dict[str, Right]:
    """What every network is right about, for one data set and seed."""
    # Layers this small gain nothing from more threads, and with one the result does not depend on the number of cores.
    torch.set_num_threads(1)
    name, seed = case
    return _right_answers(_task(name, T, epochs), seed)


def _table(task: _Task, found: list[dict[str, Right]]) -> Table:
    """A way to train and convert a row: accuracy for each seed, and what is lost against the float networks of these seeds."""
    draws, count = next(iter(found[0].values())).shape
    drawn = "" if draws == 1 else f", each drawn {draws} times"
    table = Table(title=f"{task.data.name}: {count} test samples{drawn}, {task.T} time steps", box=SIMPLE)
    for column in ("network", *(f"seed {seed}" for seed in range(len(found))), "mean", "points ± error"):
        table.add_column(column, justify="left" if column == "network" else "right")
    names = list(found[0])
    plain = np.concatenate([each[names[0]] for each in found])
    for name in names:
        right = np.concatenate([each[name] for each in found])
        points = "" if name == names[0] else str(difference(right, plain))
        table.add_row(name, *(f"{each[name].mean():.2%}" for each in found), f"{right.mean():.2%}", points)
    return table


def _right_answers(task: _Task, seed: int) -> dict[str, Right]:
    """Which test samples every way is right about, ``[draws, samples]``, for one seed."""
    data = task.data
    draws = _DRAWS[task.name]
    x = np.concatenate([poisson_spikes(data.test_images, task.T, draw) for draw in range(draws)], axis=1)
    calibration = poisson_spikes(data.train_images[:_CALIBRATION_IMAGES], task.T, draws)
    watched = replace(data, test_images=data.test_images[:_WATCHED], test_labels=data.test_labels[:_WATCHED])
    size = x.shape[-1]

    def trained(net: nn.Module, epochs: int, rate: float) -> nn.Module:
        test = poisson_spikes(watched.test_images, task.T, 0)
        quiet = Console(quiet=True)
        train(net, watched, test, b=_BATCH, epochs=epochs, lr=rate, device=_CPU, console=quiet, seed=seed)
        said = f"{data.name}, seed {seed}: {type(net).__name__} trained for {epochs} epochs"
        Console(highlight=False).print(said, soft_wrap=True)
        return net

    def right(classes: Classes) -> Right:
        found: Right = classes.reshape(draws, -1) == data.test_labels
        return found

    torch.manual_seed(seed)
    plain = trained(FloatMNISTNet(16, size, task.inputs, task.norm), task.epochs, _LEARNING_RATE)
    found = {"float, in SpikingJelly": right(trained_answers(plain, x))}
    for name, model in _rounded(_exported(plain, x), calibration).items():
        found[f"float, rounded: {name}"] = right(answers(model, x))
    tuned = sj2onnx.to_blocks(plain, torch.from_numpy(calibration).float())
    found["blocks of the float network"] = right(_answers_as_blocks(tuned, x))
    trained(tuned, max(1, task.epochs // 4), _FINE * _LEARNING_RATE)
    found["blocks of the float network, fine-tuned"] = right(_answers_as_blocks(tuned, x))
    torch.manual_seed(seed)
    fresh = trained(MNISTNet(16, size, task.inputs), task.epochs, _LEARNING_RATE)
    found[f"blocks from scratch, scale {_LAVA_DL_SCALE}"] = right(_answers_as_blocks(fresh, x))
    return found


def _exported(net: nn.Module, x: Spikes) -> bytes:
    model: bytes = sj2onnx.export(net.eval(), torch.from_numpy(x[:, :1]).float()).SerializeToString()
    return model


def _answers_as_blocks(net: nn.Module, x: Spikes) -> Classes:
    """The answers of a network of blocks, which are those of the converted network.

    Raises:
        BridgeError: the conversion changed a class, which it never does.
    """
    trained = trained_answers(net, x)
    converted = answers(onnx2lava.to_onnx(onnx2lava.quantize(onnx2lava.load(_exported(net, x)))), x)
    if differ := np.count_nonzero(trained != converted):
        raise BridgeError(
            f"The conversion of the blocks answers {differ} of {len(trained)} samples differently: report this as a bug."
        )
    return trained


def _rounded(model: bytes, calibration: Spikes) -> dict[str, onnx.ModelProto]:
    """The float network in Loihi's integers, in several ways."""
    network = onnx2lava.load(model)
    usual = onnx2lava.to_onnx(onnx2lava.quantize(network, scale=_LAVA_DL_SCALE))
    return {
        "scale auto": onnx2lava.to_onnx(onnx2lava.quantize(network)),
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
