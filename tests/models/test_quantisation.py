"""The table of what quantisation costs, on networks that trained for a few epochs."""

import re
import sys

import numpy as np
import torch
from rich.console import Console
from torch import nn

from models import quantisation
from models.data import Dataset, moving_edges, poisson_spikes
from models.train import train

ROWS = [
    "float, in SpikingJelly",
    "float, rounded: scale auto",
    "float, rounded: scale auto, calibrated",
    "float, rounded: scale 64",
    "float, rounded: scale 64, threshold of Lava-DL",
    "blocks of the float network",
    "blocks of the float network, fine-tuned",
    "blocks from scratch, scale 64",
]


def test_the_table_compares_every_way_with_the_float_network(monkeypatch, capsys):
    monkeypatch.setitem(quantisation._DRAWS, "digits", 1)
    monkeypatch.setattr(quantisation, "_CALIBRATION_IMAGES", 8)
    monkeypatch.setattr(sys, "argv", ["quantisation", "-data", "digits", "-T", "6", "-epochs", "3", "-seeds", "1"])
    assert quantisation.main() == 0
    lines = [re.split(r"\s{2,}", line.strip()) for line in capsys.readouterr().out.splitlines()]
    rows = {
        name: [float(cell.partition(" ±")[0].rstrip("%")) for cell in cells]
        for name, *cells in lines
        if cells and "%" in cells[0]
    }
    assert list(rows) == ROWS
    accuracy = rows[ROWS[0]][0]
    assert accuracy > 30  # far above chance: the network has learnt something that quantisation could spoil
    for name in ROWS[1:]:
        value, mean, points = rows[name]
        assert value == mean
        assert abs(value - accuracy - points) < 0.02


class Recording(nn.Module):
    """A classifier that remembers what it saw in training."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.seen = nn.Linear(2 * 4 * 4, 10), []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.seen.append(x)
        return self.linear(x.flatten(2))


def test_films_train_step_by_step():
    films = np.random.default_rng(0).integers(0, 2, (3, 5, 2, 4, 4)).astype(np.float32)  # each pixel surely fires, or never
    data = Dataset("films", films, np.arange(3), films, np.arange(3))
    spikes = poisson_spikes(films, 5, 0)
    assert np.array_equal(spikes, films.swapaxes(0, 1))
    net = Recording()
    train(net, data, spikes, b=3, epochs=1, lr=0.1, device=torch.device("cpu"), console=Console(quiet=True))
    (seen,) = net.seen
    assert seen.shape == (5, 3, 2, 4, 4)
    assert sorted(seen[:, n].numpy().tobytes() for n in range(3)) == sorted(film.tobytes() for film in films)


def test_films_show_discs_that_move_and_never_the_same():
    data = moving_edges(T=8, samples=40, held_out=20)
    films = np.concatenate([data.train_images, data.test_images])
    labels = np.concatenate([data.train_labels, data.test_labels])
    assert films.shape == (60, 8, 2, 12, 12)
    assert set(labels) == set(range(8))
    assert films.min() > 0
    assert films.max() < 1
    # Events of light come before those of dark, along the way.
    axis = np.arange(12)
    middles = [(films[:, :, c].sum((1, 2)) @ axis / films[:, :, c].sum((1, 2, 3))) for c in (0, 1)]
    ahead = middles[0] - middles[1]
    assert ahead[labels == 0].min() > 0 > ahead[labels == 4].max()
    assert np.array_equal(films, np.concatenate([moving_edges(8, samples=40, held_out=20).train_images, data.test_images]))
    spikes = poisson_spikes(films, 8, 0)
    assert spikes.shape == (8, 60, 2, 12, 12)
    assert abs(spikes.mean() - films.mean()) < 0.01


def test_misuse_ends_with_exit_code_2(monkeypatch, capsys):
    def missing():
        raise quantisation.BridgeError("scikit-learn is not installed.")

    monkeypatch.setattr(quantisation, "digits", missing)
    monkeypatch.setattr(sys, "argv", ["quantisation", "-data", "digits", "-jobs", "1"])
    assert quantisation.main() == 2
    assert capsys.readouterr().err.startswith("Error: scikit-learn is not installed.")
