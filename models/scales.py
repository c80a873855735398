"""Whether ``scale="auto"`` is as good as the best of fixed scales, on trained networks: ``python -m models.scales -h``."""

import argparse
import os
import sys
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console

import onnx2lava
import sj2onnx
from custom_ops.errors import BridgeError, RuntimeUnavailableError
from onnx2lava.verification.sheet import Sheet

from .accuracy import answers, difference
from .data import Dataset, digits, moving_edges, poisson_spikes
from .mnist_csnn import FloatMNISTNet
from .side_by_side import side_by_side
from .train import train

__all__ = ["main"]

_FIXED = (4, 16, 32, 64, 96, 128, 192, 255)
_CALIBRATION = 64
"""Training samples that calibration sees."""
_WATCHED = 200
"""Test samples that training looks at after every epoch."""
_BATCH, _LEARNING_RATE = 64, 0.1
_SEED = 0
_BEST = "auto, calibrated"
_FLOAT_POINTS = 0.3
_SURE = 2.6
"""Standard errors that make a difference one: the worst of ten that are looked at is as large by chance once in twenty runs."""

Right = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class _Task:
    """A network, and what it learns.

    Args:
        events: whether it learns films of events, or the digits.
        norm: whether batch normalisation follows its convolutions.
        tau: time constant of its neurons, in steps; None where they do not leak.
        epochs: passes over the training data.
    """

    events: bool
    norm: bool
    tau: float | None
    epochs: int

    @property
    def T(self) -> int:
        """Time steps."""
        return 12 if self.events else 16

    @property
    def draws(self) -> int:
        """Times that the Poisson coder draws the test set: there are 10,000 films of events, and few digits."""
        return 2 if self.events else 64


_TASKS = {
    "digits IF": _Task(False, False, None, 40),
    "digits IF BN": _Task(False, True, None, 30),
    "digits LIF BN": _Task(False, True, 2.0, 30),
    "events IF BN": _Task(True, True, None, 12),
    "events LIF BN": _Task(True, True, 2.0, 12),
}


def main() -> int:
    """The command line; exit code 0; 1 where scale auto falls short; 2 where something is missing."""
    parser = argparse.ArgumentParser(
        prog="python -m models.scales",
        description="Train five small networks in float, round each with fixed scales and with scale auto, without and with "
        "calibration on training samples, and count right answers on recorded spikes that none of them has seen.",
        allow_abbrev=False,
    )
    parser.add_argument("-out-dir", type=Path, default=Path("out/scales"), metavar="DIR", help="trained networks (out/scales)")
    parser.add_argument("-epochs", type=int, metavar="N", help="passes over the training data, instead of 12 to 40")
    parser.add_argument("-jobs", type=int, default=os.cpu_count() or 1, metavar="N", help="networks side by side (one a core)")
    parser.add_argument("-networks", nargs="+", choices=_TASKS, default=list(_TASKS), metavar="NAME", help="some of them (all)")
    options = parser.parse_args()
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=130)
    try:
        run = partial(_right_answers, out=options.out_dir, epochs=options.epochs)
        found = dict(zip(options.networks, side_by_side(run, options.networks, options.jobs), strict=True))
        console.print(_table(found))
        well, sentence = _verdict(found)
        console.print(sentence, soft_wrap=True)
    except BridgeError as error:
        Console(stderr=True).print(f"Error: {error}", markup=False, highlight=False, soft_wrap=True)
        return 2
    return 0 if well else 1


def _right_answers(name: str, out: Path, epochs: int | None) -> dict[str, Right]:
    """Which test samples a network is right about, ``[draws, samples]``: as it is, and rounded in every way."""
    torch.set_num_threads(1)  # enough for layers this small, and the result does not depend on the number of cores
    task = _TASKS[name]
    data = moving_edges(task.T, held_out=10_000) if task.events else digits()
    path = out / f"{name.replace(' ', '_')}.onnx"
    if not path.exists():
        _train(task, data, path, task.epochs if epochs is None else epochs)
    # Other draws than those on which training was watched.
    x = np.concatenate([poisson_spikes(data.test_images, task.T, 1 + draw) for draw in range(task.draws)], axis=1)
    calibration = poisson_spikes(data.train_images[:_CALIBRATION], task.T, 0)
    network = onnx2lava.load(path)
    ways = {f"scale {scale}": onnx2lava.quantize(network, scale=scale) for scale in _FIXED}
    ways["auto"] = onnx2lava.quantize(network)
    ways[_BEST] = onnx2lava.quantize(network, calibration=calibration)
    classes = {"float": answers(str(path), x)} | {way: answers(onnx2lava.to_onnx(each), x) for way, each in ways.items()}
    return {way: each.reshape(task.draws, -1) == data.test_labels for way, each in classes.items()}


def _train(task: _Task, data: Dataset, path: Path, epochs: int) -> None:
    watched = replace(data, test_images=data.test_images[:_WATCHED], test_labels=data.test_labels[:_WATCHED])
    test = poisson_spikes(watched.test_images, task.T, 0)
    torch.manual_seed(_SEED)
    net = FloatMNISTNet(16, test.shape[-1], test.shape[2], task.norm, task.tau)
    quiet = Console(quiet=True)
    train(net, watched, test, b=_BATCH, epochs=epochs, lr=_LEARNING_RATE, device=torch.device("cpu"), console=quiet, seed=_SEED)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RuntimeUnavailableError(f"Cannot write to {path.parent} ({error.strerror}): name another with -out-dir.") from error
    sj2onnx.export(net.eval(), torch.from_numpy(test[:, :1]).float(), path)
    Console(highlight=False).print(f"{path.stem} trained for {epochs} epochs", soft_wrap=True)


def _best_fixed(right: dict[str, Right]) -> Right:
    """What the best of the fixed scales is right about.

    The best of several on the samples that it is judged by would look better than it is. So it is chosen on every other sample,
    for the samples in between, and the other way round.
    """
    fixed = np.stack([right[f"scale {scale}"] for scale in _FIXED])
    best: Right = np.empty_like(fixed[0])
    for half in (0, 1):
        chosen = int(fixed[:, :, 1 - half :: 2].mean((1, 2)).argmax())
        best[:, half::2] = fixed[chosen, :, half::2]
    return best


def _table(found: dict[str, dict[str, Right]]) -> Sheet:
    """A way to round a row, a network a column."""
    ways = next(iter(found.values()))
    rows = [["test samples", *(f"{' × '.join(f'{n:,}' for n in r['float'].shape[::-1] if n > 1)}" for r in found.values())]]
    rows += [[way, *(f"{right[way].mean():.2%}" for right in found.values())] for way in ways]
    errors = [difference(right["float"], np.zeros_like(right["float"])).error for right in found.values()]
    totals = [
        ["± each, standard error", *(f"{error:.2f}" for error in errors)],
        ["calibrated − float", *(str(difference(right[_BEST], right["float"])) for right in found.values())],
        ["calibrated − best fixed", *(str(difference(right[_BEST], _best_fixed(right))) for right in found.values())],
    ]
    return Sheet("right answers, %: float networks rounded with fixed scales and with scale auto", ["", *found], rows, totals)


def _verdict(found: dict[str, dict[str, Right]]) -> tuple[bool, str]:
    """Whether what is promised holds, beyond chance, and the sentence that says so."""
    worse = []
    for name, right in found.items():
        best, plain = difference(right[_BEST], _best_fixed(right)), difference(right[_BEST], right["float"])
        if best.points < -_SURE * best.error:
            worse.append(f"{name} is worse than with the best fixed scale")
        if plain.points < -_FLOAT_POINTS - _SURE * plain.error:
            worse.append(f"{name} is more than {_FLOAT_POINTS} points below float")
    if worse:
        return False, f"Scale auto with calibration falls short, by more than {_SURE:g} standard errors: {'; '.join(worse)}."
    return True, (
        f"Scale auto with calibration is not less accurate than the best fixed scale, nor {_FLOAT_POINTS} points below float, "
        f"by more than {_SURE:g} standard errors."
    )


if __name__ == "__main__":
    sys.exit(main())
