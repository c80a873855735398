"""The trainer through its command line, and the reference network it trains."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
import torch
from spikingjelly.activation_based import functional

from models import data as model_data
from models import mnist_csnn, train


def few_digits() -> model_data.Dataset:
    whole = model_data.digits()
    return dataclasses.replace(
        whole,
        train_images=whole.train_images[:60],
        train_labels=whole.train_labels[:60],
        test_images=whole.test_images[:30],
        test_labels=whole.test_labels[:30],
    )


def test_one_epoch_writes_weights_and_the_test_set_that_was_measured(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(train, "digits", few_digits)
    out = tmp_path / "a" / "b"
    flags = ["-T", "6", "-b", "16", "-epochs", "1", "-channels", "3", "-lr", "0.05", "-device", "cpu"]
    assert train.main([*flags, "-out-dir", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "epoch = 0, train_loss = " in printed

    net = mnist_csnn.MNISTNet(channels=3, image_size=8)
    before = net.state_dict()["conv_fc.0.synapse.weight"].clone()
    net.load_state_dict(torch.load(out / "net.pt", weights_only=True))
    assert not torch.equal(before, net.conv_fc[0].synapse.weight)
    spikes, labels = np.load(out / "test_spikes.npy"), np.load(out / "test_labels.npy")
    assert spikes.shape == (6, 30, 1, 8, 8)
    _, accuracy = train.evaluate(net, spikes, labels, torch.device("cpu"))
    assert f"test_acc = {accuracy:.4f}" in printed

    assert train.main([*flags, "-out-dir", str(out)]) == 0
    again = torch.load(out / "net.pt", weights_only=True)
    assert all(torch.equal(value, again[name]) for name, value in net.state_dict().items())


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["-data-dir", "nowhere"], "There is no train-images-idx3-ubyte"),
        (["-device", "abacus"], "There is no device 'abacus'"),
        (["-out-dir", "/dev/null/x"], "Cannot write to /dev/null/x"),
    ],
)
def test_misuse_ends_with_one_sentence_and_exit_code_2(flags, message, capsys):
    assert train.main(flags) == 2
    assert capsys.readouterr().err.startswith(f"Error: {message}")


def test_bad_numbers_are_refused_by_the_parser():
    for flags in (["-T", "0"], ["-b", "x"], ["-lr", "nan"], ["-lr", "-1"], ["-epochs", "-3"]):
        with pytest.raises(SystemExit, match="2"):
            train.main(flags)


def test_it_runs_as_a_module():
    shown = subprocess.run([sys.executable, "-m", "models.train", "-h"], capture_output=True, text=True, check=True).stdout
    for flag in ("-T", "-b", "-device", "-data-dir", "-channels", "-epochs", "-lr", "-out-dir"):
        assert f"\n  {flag} " in shown


@pytest.mark.parametrize(("factory", "size"), [(mnist_csnn.mnist, 28), (mnist_csnn.digits, 8)])
def test_the_factories_give_networks_in_which_spikes_reach_the_end(factory, size):
    torch.manual_seed(0)
    net = factory()
    x = (torch.rand(16, 4, 1, size, size) < 0.5).float()
    rates = []
    for block in net.conv_fc:
        x = block(x)
        rates.append(x.mean().item())
    assert x.shape == (16, 4, 10)
    assert min(rates) > 0.005, rates
    functional.reset_net(net)
