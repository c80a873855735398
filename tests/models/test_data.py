"""The data sets of the reference network."""

import gzip
import struct

import numpy as np
import pytest

from models.data import DataError, digits, mnist, poisson_spikes

NAMES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def idx(values: np.ndarray) -> bytes:
    return bytes((0, 0, 8, values.ndim)) + struct.pack(f">{values.ndim}I", *values.shape) + values.tobytes()


@pytest.fixture
def arrays() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    shapes = ((7, 12, 12), (7,), (3, 12, 12), (3,))
    return {n: rng.integers(0, 256 if len(s) == 3 else 10, s).astype(np.uint8) for n, s in zip(NAMES, shapes, strict=True)}


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("place", ["", "MNIST/raw"])
def test_idx_files_are_read_plain_or_packed(tmp_path, arrays, suffix, place):
    folder = tmp_path / place
    folder.mkdir(parents=True, exist_ok=True)
    for name, values in arrays.items():
        (folder / f"{name}{suffix}").write_bytes(gzip.compress(idx(values)) if suffix else idx(values))
    data = mnist(tmp_path)
    for images, name in ((data.train_images, NAMES[0]), (data.test_images, NAMES[2])):
        assert images.dtype == np.float32
        np.testing.assert_array_equal(np.rint(images[:, 0] * 255), arrays[name])
    np.testing.assert_array_equal(data.train_labels, arrays[NAMES[1]])
    np.testing.assert_array_equal(data.test_labels, arrays[NAMES[3]])


IMAGES, LABELS = np.zeros((7, 12, 12), np.uint8), np.zeros(7, np.uint8)
BROKEN = {
    "missing": (NAMES[3], None, "There is no"),
    "empty": (NAMES[0], b"", "not an IDX file"),
    "not IDX": (NAMES[0], b"<html>404</html>" * 9, "not an IDX file"),
    "labels for images": (NAMES[0], idx(LABELS), "3 axes"),
    "cut off": (NAMES[2], idx(IMAGES)[:-1], "less than its header"),
    "too long": (NAMES[1], idx(LABELS) + b"0", "more than its header"),
    "gigantic": (NAMES[0], bytes((0, 0, 8, 3)) + b"\xff" * 12, "gigabyte"),
    "label 10": (NAMES[1], idx(LABELS + 10), "label 10"),
    "labels of another set": (NAMES[1], idx(LABELS[:4]), "4 labels for 7 images"),
    "images of another set": (NAMES[2], idx(IMAGES[:3, :8]), "differ in size"),
    "broken gzip": (f"{NAMES[0]}.gz", gzip.compress(idx(IMAGES))[:-30], "Cannot read"),
    "not gzip": (f"{NAMES[0]}.gz", idx(IMAGES), "Cannot read"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_files_are_refused_by_name(tmp_path, arrays, case):
    broken, content, reason = BROKEN[case]
    for name, values in arrays.items():
        if name != broken.removesuffix(".gz"):
            (tmp_path / name).write_bytes(idx(values))
    if content is not None:
        (tmp_path / broken).write_bytes(content)
    with pytest.raises(DataError, match=reason) as raised:
        mnist(tmp_path)
    assert broken.removesuffix(".gz") in str(raised.value)


def test_the_digits_are_split_once_and_evenly():
    data, again = digits(), digits()
    assert len(data.train_labels) + len(data.test_labels) == 1797
    for name in ("train_images", "train_labels", "test_images", "test_labels"):
        np.testing.assert_array_equal(getattr(data, name), getattr(again, name))
    held_out = np.bincount(data.test_labels) / (np.bincount(data.test_labels) + np.bincount(data.train_labels))
    assert ((held_out > 0.19) & (held_out <= 0.2)).all()
    train, test = ({image.tobytes() for image in images} for images in (data.train_images, data.test_images))
    assert not train & test
    assert data.train_images.shape[1:] == (1, 8, 8)
    assert (data.train_images.min(), data.train_images.max()) == (0, 1)


def test_spikes_are_as_frequent_as_pixels_are_bright_and_the_same_for_a_seed():
    images = digits().test_images[:20]
    spikes = poisson_spikes(images, 4000, seed=1)
    assert spikes.shape == (4000, *images.shape)
    np.testing.assert_allclose(spikes.mean(0), images, atol=0.05)
    np.testing.assert_array_equal(spikes.mean(0)[(images == 0) | (images == 1)], images[(images == 0) | (images == 1)])
    np.testing.assert_array_equal(poisson_spikes(images, 5, seed=1), spikes[:5])
    assert (poisson_spikes(images, 5, seed=2) != spikes[:5]).any()
