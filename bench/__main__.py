"""Speed, side by side in one run: ``python -m bench``, usually by `make bench`. Writes a table and a picture to docs/."""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from rich.console import Console

from custom_ops.files.atomic_write import replacing

from . import conversion, here, training
from .page import Results, markdown, picture
from .timing import THREADS
from .workloads import NETWORK, NEURON, network_input, neuron_input

_DOCS = Path(__file__).parents[1] / "docs"
_SIZES = {
    "T": [(steps, 1, 65_536) for steps in (16, 32, 64, 128, 256)],
    "N": [(64, samples, 16_384) for samples in (1, 2, 4, 8, 16)],
    "neurons": [(64, 1, neurons) for neurons in (16_384, 32_768, 65_536, 131_072, 262_144)],
}


def main() -> int:
    """The command line; exit code 1 where spikes differ."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("-lava", type=Path, metavar="PYTHON", help="a Python 3.10 with Lava-DL, to measure it as well")
    options = parser.parse_args()
    console = Console(highlight=False, soft_wrap=True)
    results = _measured(console, options.lava)
    text = markdown(results)
    _DOCS.mkdir(exist_ok=True)
    with replacing(_DOCS / "benchmark.md") as path:
        path.write_text(text, encoding="utf-8")
    for theme in ("light", "dark"):
        with replacing(_DOCS / "pictures" / f"benchmark_{theme}.png") as path:
            path.write_bytes(picture(results, theme))
    console.print(text, markup=False)
    return int(any(results.differ.values()))


def _measured(console: Console, lava: Path | None) -> Results:
    others_load = os.getloadavg()[0]
    console.print("reference network: onnxruntime and SpikingJelly ...")
    net, model = here.reference_network()
    x = network_input(NETWORK["samples"])
    output = here.run_network(model, x, native=True)
    network = {
        "ours, native": here.session_seconds(model, x, True, 101),
        "ours, function bodies": here.session_seconds(model, x, False, 9),
    }
    differ = {"ours, function bodies": int((here.run_network(model, x, native=False) != output).sum())}
    network["SpikingJelly, IFNode (torch backend)"], _ = here.neuron_seconds(here.spikingjelly_network(net, cuba=False), x, 5)
    cuba = here.spikingjelly_network(net, cuba=True)
    network["SpikingJelly, CubaLIFNode"], spikes = here.neuron_seconds(cuba, x, 5)
    differ["SpikingJelly, CubaLIFNode"] = int((spikes != output).sum())

    console.print("one layer of neurons ...")
    sums = neuron_input(NEURON.steps, 1, NEURON.neurons)
    neuron_model = here.cuba_model()
    expected = here.run_network(neuron_model, sums, native=True)
    neurons = {
        "copy of the same bytes": here.copy_seconds(sums, 41),
        "ours, native CubaLIF": here.session_seconds(neuron_model, sums, True, 41),
        "ours, native IF": here.session_seconds(here.cuba_model("IF"), sums, True, 41),
        "ours, native LIF": here.session_seconds(here.cuba_model("LIF"), sums, True, 41),
        "ours, function body of CubaLIF": here.session_seconds(neuron_model, sums, False, 9),
    }
    neurons["SpikingJelly, CubaLIFNode"], spikes = here.neuron_seconds(here.spikingjelly_neuron(), sums / 64, 5)
    differ["SpikingJelly, CubaLIFNode alone"] = int((spikes != expected).sum())

    console.print("training ...")
    training_network, training_neurons = training.network_steps(), training.neuron_steps()

    if lava is not None:
        console.print("slayer and Lava's simulation ...")
        found = _lava_peers(lava, model, {"input": x, "output": output, "sums": sums, "spikes": expected})
        network["Lava-DL slayer"] = found["slayer network"]
        network["NetX on Lava's simulation"] = found["lava step and sample"] * NETWORK["steps"] * NETWORK["samples"]
        neurons["Lava-DL slayer"] = found["slayer neuron"]
        training_network["Lava-DL slayer"] = found["slayer training"]
        differ |= {
            "Lava-DL slayer": int(found["slayer network differs"]),
            "Lava-DL slayer's neuron": int(found["slayer neuron differs"]),
            "NetX on Lava's simulation": int(found["lava network differs"]),
        }
    console.print("growth, memory, export, conversion ...")
    return Results(
        processor=here.processor(),
        threads=THREADS,
        others_load=others_load,
        network=network,
        neurons=neurons,
        training_network=training_network,
        training_neurons=training_neurons,
        growth={axis: list(zip(sizes, here.growth(sizes, 21), strict=True)) for axis, sizes in _SIZES.items()},
        bytes_per_neuron_step=here.peak_bytes_per_neuron_step(),
        export_seconds=here.export_seconds(20),
        conversion_seconds=conversion.stages()["all"],
        residual=conversion.residual_network(),
        differ=differ,
    )


def _lava_peers(python: Path, model: onnx.ModelProto, arrays: dict[str, Any]) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        onnx.save(model, folder / "net.onnx")
        np.savez(folder / "arrays.npz", **arrays)
        command = [python, "-m", "bench.lava_peers", folder / "net.onnx", folder / "arrays.npz", folder / "found.json"]
        subprocess.run(list(map(str, command)), check=True, stdout=subprocess.DEVNULL)
        found: dict[str, float] = json.loads((folder / "found.json").read_text(encoding="utf-8"))
        return found


if __name__ == "__main__":
    sys.exit(main())
