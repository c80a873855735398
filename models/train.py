"""Train the reference network: ``python -m models.train -h``."""

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from spikingjelly.activation_based import functional
from torch import nn

from custom_ops.errors import BridgeError, RuntimeUnavailableError
from custom_ops.files.atomic_write import replacing

from .data import DataError, Dataset, digits, mnist, poisson_spikes
from .mnist_csnn import FloatMNISTNet, MNISTNet

__all__ = ["evaluate", "main", "train"]

# The tutorial's settings for MNIST. The digits are few and small: half the time steps and batch, and more epochs, do.
_DEFAULTS = {"MNIST": {"T": 32, "b": 128, "epochs": 16}, "digits": {"T": 16, "b": 64, "epochs": 40}}
_SEED = 0
_TEST_BATCH = 500
_LARGEST_GRADIENT = 1.0


def train(
    net: nn.Module,
    data: Dataset,
    test_spikes: npt.NDArray[np.uint8],
    *,
    b: int,
    epochs: int,
    lr: float,
    device: torch.device,
    console: Console,
    seed: int = _SEED,
) -> float:
    """Train ``net`` on Poisson-coded images or films, by the cross-entropy of its mean firing rates, and report every epoch.

    Args:
        net: network from spikes ``[T, N, 1, H, W]`` to spikes ``[T, N, 10]``, in step mode ``m``.
        data: what to learn.
        test_spikes: the test images as spikes, ``[T, N, 1, H, W]``.
        b: batch size.
        epochs: passes over the training images.
        lr: learning rate of SGD at the start; it falls to 0 along a cosine.
        device: where to train.
        console: where progress and results go.
        seed: of the order of the images, and of their spikes.

    Returns:
        The accuracy on the test spikes after the last epoch.
    """
    net.to(device)
    T = len(test_spikes)
    images, labels = torch.from_numpy(data.train_images), torch.from_numpy(data.train_labels)
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.SGD(net.parameters(), lr=lr, momentum=0.9)
    steps = epochs * -(-len(images) // b)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, steps))
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("training", total=steps)
        for epoch in range(epochs):
            net.train()
            total_loss = hits = 0.0
            for batch in torch.split(torch.randperm(len(images), generator=generator), b):  # type: ignore[no-untyped-call]
                intensity = images[batch].movedim(1, 0) if images.dim() == 5 else images[batch].expand(T, *images[batch].shape)
                spikes = torch.rand(intensity.shape, generator=generator) < intensity
                target = labels[batch].to(device)
                functional.reset_net(net)
                rates = net(spikes.to(device, torch.float32)).mean(0)
                loss = F.cross_entropy(rates, target)
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                # One step along a steep surrogate gradient can silence a layer for good.
                nn.utils.clip_grad_norm_(net.parameters(), _LARGEST_GRADIENT)
                optimizer.step()
                schedule.step()
                total_loss += loss.item() * len(batch)
                hits += (rates.argmax(1) == target).sum().item()
                progress.advance(task)
            test_loss, accuracy = evaluate(net, test_spikes, data.test_labels, device)
            console.print(
                f"epoch = {epoch}, train_loss = {total_loss / len(images):.4f}, train_acc = {hits / len(images):.4f}, "
                f"test_loss = {test_loss:.4f}, test_acc = {accuracy:.4f}",
                highlight=False,
                soft_wrap=True,
            )
    return accuracy


@torch.no_grad()
def evaluate(
    net: nn.Module, spikes: npt.NDArray[np.uint8], labels: npt.NDArray[np.int64], device: torch.device
) -> tuple[float, float]:
    """Loss and accuracy on recorded spikes ``[T, N, *]``; the class that fires most wins, the first of equals."""
    net.eval()
    loss = hits = 0.0
    for start in range(0, len(labels), _TEST_BATCH):
        part = slice(start, start + _TEST_BATCH)
        target = torch.from_numpy(labels[part]).to(device)
        functional.reset_net(net)
        rates = net(torch.from_numpy(spikes[:, part]).to(device, torch.float32)).mean(0)
        loss += F.cross_entropy(rates, target, reduction="sum").item()
        hits += (rates.argmax(1) == target).sum().item()
    functional.reset_net(net)
    return loss / len(labels), hits / len(labels)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code: 0, or 2 where something is wrong with what was asked for."""
    options = _parser().parse_args(arguments)
    console = Console()
    try:
        _run(options, console)
    except BridgeError as error:
        Console(stderr=True).print(f"Error: {error}", markup=False, highlight=False, soft_wrap=True)
        return 2
    return 0


def _run(options: argparse.Namespace, console: Console) -> None:
    data = digits() if options.data_dir is None else mnist(options.data_dir)
    defaults = _DEFAULTS[data.name]
    T, b, epochs = (defaults[name] if getattr(options, name) is None else getattr(options, name) for name in ("T", "b", "epochs"))
    device = _device(options.device)
    image_size = data.train_images.shape[-1]
    if data.train_images.shape[-2] != image_size or image_size % 4:
        raise DataError(f"The images have {data.train_images.shape[-2]} x {image_size} pixels: the network takes squares of 4 n.")
    if data.name == "digits":
        # Layers this small gain nothing from more threads, and with one the result does not depend on the number of cores.
        torch.set_num_threads(1)
    torch.manual_seed(_SEED)
    net = (FloatMNISTNet if options.float else MNISTNet)(options.channels, image_size)
    console.print(
        f"{data.name}: {len(data.train_labels)} images to train on, {len(data.test_labels)} to test on; T = {T}, b = {b}, "
        f"epochs = {epochs}, lr = {options.lr:g}, channels = {options.channels}, device = {device}"
        + (", without quantisation" if options.float else ""),
        highlight=False,
        soft_wrap=True,
    )
    out = Path(options.out_dir)
    test_spikes = poisson_spikes(data.test_images, T, _SEED)
    try:
        out.mkdir(parents=True, exist_ok=True)
        accuracy = train(net, data, test_spikes, b=b, epochs=epochs, lr=options.lr, device=device, console=console)
        with replacing(out / "net.pt") as path:
            torch.save(net.cpu().state_dict(), path)
        for name, values in (("test_spikes.npy", test_spikes), ("test_labels.npy", data.test_labels)):
            with replacing(out / name) as path, path.open("wb") as stream:
                np.save(stream, values)
    except OSError as error:
        raise RuntimeUnavailableError(f"Cannot write to {out} ({error.strerror}): name another folder with -out-dir.") from error
    console.print(
        f"test accuracy {accuracy:.4f}; wrote net.pt, test_spikes.npy and test_labels.npy to {out}",
        highlight=False,
        soft_wrap=True,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m models.train",
        description="Train the reference network on scikit-learn's digits, or on MNIST where -data-dir names its files. Writes "
        "the weights (net.pt, a state dict) and the recorded test set (test_spikes.npy [T, N, 1, H, W] and test_labels.npy).",
        allow_abbrev=False,
    )
    for flag, kind, text in (
        ("T", _whole_number, "time steps"),
        ("b", _whole_number, "batch size"),
        ("epochs", _whole_number, "passes over the training images"),
    ):
        usual = ", ".join(f"{values[flag]} for {name}" for name, values in _DEFAULTS.items())
        parser.add_argument(f"-{flag}", type=kind, metavar="N", help=f"{text} ({usual})")
    parser.add_argument("-channels", type=_whole_number, default=16, metavar="N", help="channels of each convolution (16)")
    parser.add_argument("-lr", type=_learning_rate, default=0.1, metavar="X", help="learning rate of SGD at the start (0.1)")
    parser.add_argument("-float", action="store_true", help="train without quantisation")
    parser.add_argument("-device", help="cpu, cuda:0, ... (cuda:0 where there is one, else cpu)")
    parser.add_argument("-data-dir", metavar="DIR", help="folder of MNIST's four IDX files, plain or .gz (the bundled digits)")
    parser.add_argument("-out-dir", default="out", metavar="DIR", help="folder to write to (out)")
    return parser


def _whole_number(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not a positive number")
    return value


def _learning_rate(text: str) -> float:
    value = float(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{value} is not a positive number")
    return value


def _device(name: str | None) -> torch.device:
    if name is None:
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # torch without CUDA asserts
        raise RuntimeUnavailableError(f"There is no device {name!r} for torch on this machine: use -device cpu.") from error
    return device


if __name__ == "__main__":
    sys.exit(main())
