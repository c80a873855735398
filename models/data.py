"""The images that the reference network learns, and the spikes that code them. Needs numpy; the digits need scikit-learn too."""

import gzip
import math
import os
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from custom_ops.errors import BridgeError, RuntimeUnavailableError

__all__ = ["DataError", "Dataset", "digits", "mnist", "moving_edges", "poisson_spikes"]

_LARGEST_FILE = 2**30  # bytes of pixels; MNIST has 47 million
_MNIST_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


class DataError(BridgeError):
    """A data set is missing, broken, or not what it should be."""


@dataclass(frozen=True)
class Dataset:
    """Images with their classes, split once and for all.

    Attributes:
        name: for messages and file names.
        train_images: ``[N, C, H, W]``, float32 in 0 … 1, or films ``[N, T, C, H, W]``.
        train_labels: ``[N]``, int64 in 0 … 9.
        test_images: likewise, none of them in training.
        test_labels: likewise.
    """

    name: str
    train_images: npt.NDArray[np.float32]
    train_labels: npt.NDArray[np.int64]
    test_images: npt.NDArray[np.float32]
    test_labels: npt.NDArray[np.int64]


def digits() -> Dataset:
    """The 1,797 digits of 8 × 8 pixels that come with scikit-learn; a fifth of each class is held out, always the same.

    Raises:
        RuntimeUnavailableError: scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise RuntimeUnavailableError(
            "The bundled digits come with scikit-learn, which is not installed: install sj2lava[test], or name MNIST's folder."
        ) from error
    bundle = load_digits()
    images = (bundle.images / 16).astype(np.float32)[:, np.newaxis]  # 17 grey levels
    labels = bundle.target.astype(np.int64)
    held_out = np.zeros(len(labels), bool)
    for label in range(10):
        members = np.flatnonzero(labels == label)
        held_out[np.random.default_rng(label).permutation(members)[: len(members) // 5]] = True
    return Dataset("digits", images[~held_out], labels[~held_out], images[held_out], labels[held_out])


def mnist(folder: str | os.PathLike[str]) -> Dataset:
    """MNIST, or a data set in its form, from its four IDX files, plain or ``.gz``.

    Args:
        folder: where the files are: directly, or in ``MNIST/raw`` below, where torchvision puts them.

    Raises:
        DataError: a file is missing, broken, or does not fit the others.
    """
    paths = [_find(Path(folder), name) for name in _MNIST_FILES]
    train_images, train_labels, test_images, test_labels = (
        _read_idx(path, axes) for path, axes in zip(paths, (3, 1, 3, 1), strict=True)
    )
    for path, images, labels in ((paths[1], train_images, train_labels), (paths[3], test_images, test_labels)):
        if len(images) != len(labels) or not len(labels):
            raise DataError(f"{path} has {len(labels)} labels for {len(images)} images: both files must be of one data set.")
        if labels.max() > 9:
            raise DataError(f"{path} has the label {labels.max()}, but there are ten classes, 0 to 9: check the file.")
    if train_images.shape[1:] != test_images.shape[1:]:
        raise DataError(f"The images in {paths[0]} and {paths[2]} differ in size: both files must be of one data set.")
    return Dataset(
        "MNIST", _scaled(train_images), train_labels.astype(np.int64), _scaled(test_images), test_labels.astype(np.int64)
    )


def poisson_spikes(images: npt.NDArray[np.float32], T: int, seed: int) -> npt.NDArray[np.uint8]:
    """Code each image as ``T`` steps of random spikes, a pixel's value being its probability to fire.

    Args:
        images: ``[N, C, H, W]`` in 0 … 1, or films of ``T`` steps, ``[N, T, C, H, W]``.
        T: number of time steps.
        seed: the same seed gives the same spikes, so that all runtimes can be fed alike.

    Returns:
        Spikes ``[T, N, C, H, W]``, 0 or 1.
    """
    generator = np.random.default_rng(seed)
    steps = np.broadcast_to(images, (T, *images.shape)) if images.ndim == 4 else np.moveaxis(images, 1, 0)
    spikes = np.empty(steps.shape, np.uint8)
    for step, intensity in zip(spikes, steps, strict=True):
        step[:] = generator.random(intensity.shape, np.float32) < intensity
    return spikes


def moving_edges(T: int = 12, size: int = 12, samples: int = 2000, held_out: int = 4000, seed: int = 0) -> Dataset:
    """A disc that moves in one of eight directions, as a camera for events sees it: made up, the same on every machine.

    Where it gets brighter, before the disc, there are events in the first channel, and where it gets darker, behind it, in the
    second; anywhere there is noise. A pixel's value is the probability of an event in its step. Radius, speed and place differ,
    so that neither channel alone tells much.

    Args:
        T: time steps of a film.
        size: height and width.
        samples: films to train on.
        held_out: films to test on.
        seed: of everything random.

    Returns:
        Films ``[N, T, 2, size, size]`` of eight classes.
    """
    generator = np.random.default_rng(seed)
    count = samples + held_out
    labels = generator.integers(0, 8, count)
    angle = labels * (np.pi / 4) + generator.uniform(-0.15, 0.15, count)
    radius, speed = generator.uniform(1.5, 3.0, count), generator.uniform(0.2, 0.5, count)
    middle = (size - 1) / 2 + generator.uniform(-1.5, 1.5, (2, count))
    axis = np.arange(size)
    brightness = np.empty((count, T + 1, size, size), np.float32)
    for t in range(T + 1):
        way = speed * (t - T / 2)
        y, x = middle[0] + way * np.sin(angle), middle[1] + way * np.cos(angle)
        distance = np.hypot(axis[:, np.newaxis] - y[:, np.newaxis, np.newaxis], axis - x[:, np.newaxis, np.newaxis])
        brightness[:, t] = 1 / (1 + np.exp(3 * (distance - radius[:, np.newaxis, np.newaxis])))
    change = np.diff(brightness, axis=1)
    films = np.clip(2 * np.stack([change, -change], axis=2), 0, 0.9) + np.float32(0.03)
    return Dataset("moving edges", films[:samples], labels[:samples], films[samples:], labels[samples:])


def _find(folder: Path, name: str) -> Path:
    for place in (folder, folder / "MNIST" / "raw"):
        for candidate in (place / name, place / f"{name}.gz"):
            if candidate.is_file():
                return candidate
    raise DataError(f"There is no {name} or {name}.gz in {folder}: put MNIST's four IDX files there, or leave -data-dir out.")


def _read_idx(path: Path, axes: int) -> npt.NDArray[np.uint8]:
    """An IDX file of bytes with ``axes`` axes: magic number, sizes (big-endian), then the values."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            header = stream.read(4 * (1 + axes))
            if len(header) < 4 * (1 + axes) or header[:4] != bytes((0, 0, 8, axes)):
                raise DataError(f"{path} is not an IDX file of bytes with {axes} axes: download it again.")
            shape = tuple(np.frombuffer(header, ">u4", offset=4).tolist())
            size = math.prod(shape)
            if size > _LARGEST_FILE:
                raise DataError(f"{path} claims the shape {list(shape)}, more than a gigabyte: download it again.")
            values = stream.read(size + 1)
    except (OSError, EOFError, zlib.error) as error:  # gzip raises all three for a broken file
        raise DataError(f"Cannot read {path} ({error}): check the file, or download it again.") from error
    if len(values) != size:
        have = "more" if len(values) > size else "less"
        raise DataError(f"{path} holds {have} than its header says ({size} values): download it again.")
    return np.frombuffer(values, np.uint8).reshape(shape)


def _scaled(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    return (images[:, np.newaxis] / np.float32(255)).astype(np.float32)
