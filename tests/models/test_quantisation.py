"""The table of what quantisation costs, on a network that trained for a few epochs."""

import re
import sys

from models import quantisation


def test_the_table_compares_every_conversion_with_the_float_network(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(quantisation, "_DRAWS", 1)
    monkeypatch.setattr(quantisation, "_CALIBRATION_IMAGES", 8)
    monkeypatch.setattr(sys, "argv", ["quantisation", "-T", "6", "-epochs", "4", "-out-dir", str(tmp_path)])
    assert quantisation.main() == 0
    lines = [re.split(r"\s{2,}", line.strip()) for line in capsys.readouterr().out.splitlines()]
    rows = {
        name: [float(cell.rstrip("%")) for cell in cells] for name, *cells in lines if len(cells) in (1, 4) and "%" in cells[0]
    }
    (accuracy,) = rows["float, in SpikingJelly"]
    assert accuracy > 30  # far above chance: the network has learnt something that quantisation could spoil
    assert rows["float, in onnxruntime"] == [accuracy, 0, 100, 100]
    names = ["scale auto, calibrated", "scale auto", "scale 64", "scale 64, threshold of Lava-DL"]
    for name in names:
        right, points, same_class, same_output = rows[name]
        assert abs(right - accuracy - points) < 0.02
        assert abs(points) <= 100 - same_class + 0.01
        assert 80 < same_class <= 100
        assert 80 < same_output < 100
    assert len({tuple(rows[name]) for name in names[1:]}) == 3  # three different conversions


def test_misuse_ends_with_exit_code_2(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["quantisation", "-out-dir", "/dev/null/x"])
    assert quantisation.main() == 2
    assert capsys.readouterr().err.startswith("Error: Cannot write to /dev/null/x")
