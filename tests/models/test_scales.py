"""Scale auto against fixed scales, on a network that trained for a few epochs."""

import sys

import numpy as np
import pytest

from models import scales
from models.accuracy import difference


def test_auto_is_as_accurate_as_the_best_fixed_scale(monkeypatch, capsys, tmp_path):
    """The promise of ``make scales``, and that its table says what was counted."""
    monkeypatch.setattr(scales._Task, "draws", 16)
    arguments = ["scales", "-out-dir", str(tmp_path), "-epochs", "4", "-networks", "digits IF BN"]
    monkeypatch.setattr(sys, "argv", arguments)
    found = {}
    table = scales._table

    def kept(right):
        found.update(right)
        return table(right)

    monkeypatch.setattr(scales, "_table", kept)
    assert scales.main() == 0
    shown = capsys.readouterr().out
    assert "is not less accurate than the best fixed scale" in shown
    (right,) = found.values()
    assert right["float"].shape == (16, 355)
    assert right["float"].mean() > 0.7  # far above chance, so that there is something to lose
    for way in right:
        assert f"{right[way].mean():.2%}" in shown
    # Otherwise this network could not tell a bad scale from a good one.
    coarse = difference(right["scale 4"], right["float"])
    assert coarse.points < -2 * coarse.error
    assert scales._verdict({"made worse": {**right, scales._BEST: right["scale 4"]}})[0] is False


def test_the_best_fixed_scale_is_chosen_on_other_samples():
    right = {f"scale {scale}": np.zeros((1, 8), bool) for scale in scales._FIXED}
    right["scale 64"][:, ::2] = True  # the best where the first, third, ... sample is looked at
    right["scale 16"][:, 1::2] = True
    assert not scales._best_fixed(right).any()
    right["scale 32"][:] = True
    right["scale 32"][:, 0] = False
    right["scale 64"][:] = False
    right["scale 16"][:] = False
    assert (scales._best_fixed(right) == right["scale 32"]).all()


def test_the_error_of_a_difference_counts_images_and_not_their_recordings():
    rng = np.random.default_rng(0)
    one, other = rng.random((2, 400)) < 0.9
    single = difference(one, other)
    assert single.points == pytest.approx(100 * (one.mean() - other.mean()))
    apart = np.count_nonzero(one != other)
    assert single.error == pytest.approx(100 * np.sqrt(apart) / 400, rel=0.02)  # McNemar's, for a small difference
    again = difference(np.tile(one, (5, 1)), np.tile(other, (5, 1)))
    assert (again.points, again.error) == pytest.approx((single.points, single.error))
