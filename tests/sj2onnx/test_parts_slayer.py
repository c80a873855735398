"""One neuron or one synapse of SpikingJelly, exported, converted and run by the real Lava-DL: the same output."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from spikingjelly.activation_based import functional, lava_exchange, layer, neuron
from torch import nn

import custom_ops
import sj2onnx
from onnx2lava import to_slayer_neuron, to_slayer_synapse
from onnx2lava.errors import ConversionError, LimitError

PEER = Path(__file__).parents[1] / "peers" / "slayer_parts.py"

# Name: the neuron, slayer's scale, and the grid of the inputs. On these grids neither side rounds: a leak with tau = 2 needs one
# more binary digit a step, so its inputs are multiples of 2**-10 at 12 steps and 2**22 state units.
NEURONS = {
    "neuron IF": (neuron.IFNode(v_threshold=1.0, v_reset=0.0), 64, 4096),
    "neuron IF, threshold between state units": (neuron.IFNode(v_threshold=0.7), 64, 4096),
    "neuron IF, reset": (neuron.IFNode(v_threshold=1.5, v_reset=-0.25), 64, 4096),
    "neuron IF, scale": (neuron.IFNode(v_threshold=1.0), 1024, 65536),
    "neuron LIF": (neuron.LIFNode(tau=2.0, decay_input=False), 2**14, 2**8),
    "neuron LIF, decaying input": (neuron.LIFNode(tau=2.0, v_threshold=0.75), 2**13, 2**7),
    "neuron LIF, reset": (neuron.LIFNode(tau=2.0, decay_input=False, v_threshold=0.75, v_reset=0.25), 2**14, 2**8),
    "neuron ParametricLIF": (neuron.ParametricLIFNode(init_tau=2.0, decay_input=False), 2**14, 2**8),
}

# These round every number to state units themselves, so that the inputs may be on any grid and the leaks be any.
ANY = 999_983
NEURONS |= {
    "neuron CubaLIF": (sj2onnx.CubaLIFNode(0.5, 0.25, 0.8), None, ANY),
    "neuron CubaLIF, threshold between weight units": (sj2onnx.CubaLIFNode(0.37, 0.11, 0.901, scale=64), None, ANY),
    "neuron CubaLIF, scale": (sj2onnx.CubaLIFNode(1.0, 0.013, 0.77, scale=100), None, ANY),
    "neuron CubaLIF, no threshold": (sj2onnx.CubaLIFNode(0.9, 0.3, 0.0), None, ANY),
    "neuron published CubaLIF": (lava_exchange.CubaLIFNode(0.5, 0.25, 0.8), None, ANY),
    "neuron published CubaLIF, threshold between state units": (lava_exchange.CubaLIFNode(0.2, 0.1, 0.90123), None, ANY),
    "neuron published CubaLIF, coarse": (lava_exchange.CubaLIFNode(0.123, 0.0321, 1.9, scale=1), None, ANY),
    # From a threshold of 4096 weight units on float32 loses the epsilon, and SpikingJelly fires at the threshold.
    "neuron published CubaLIF, fine": (lava_exchange.CubaLIFNode(0.9, 0.02, 1.5, scale=2**14), None, ANY),
    "neuron published CubaLIF, current kept": (lava_exchange.CubaLIFNode(0.0, 1.0, 2.0), None, ANY),
    "neuron published CubaLIF, learned": (lava_exchange.CubaLIFNode(0.3, 0.7, 0.6, requires_grad=True), None, ANY),
}

# Name: the synapse, the class it becomes, and the features of its input.
SYNAPSES = {
    "conv": (layer.Conv2d(3, 4, 3, bias=False), "Conv", (3, 7, 6)),
    "conv, all arguments": (
        layer.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(1, 2), dilation=(1, 2), groups=2, bias=False),
        "Conv",
        (4, 9, 8),
    ),
    "linear": (layer.Linear(5, 3, bias=False), "Dense", (5,)),
    "pool": (layer.AvgPool2d(2, 2), "Pool", (3, 6, 8)),
    "pool, asymmetric": (layer.AvgPool2d((2, 4)), "Pool", (3, 6, 8)),
    "pool with a rest": (layer.AvgPool2d(2), "Conv", (3, 5, 7)),
    "pool, padded": (layer.AvgPool2d(4, 2, padding=1), "Conv", (2, 6, 6)),
    "sum pool": (sj2onnx.SumPool2d(3), "Pool", (4, 6, 9)),
    "sum pool, asymmetric": (sj2onnx.SumPool2d((2, 3)), "Pool", (3, 6, 9)),
    "sum pool of one channel": (sj2onnx.SumPool2d(2), "Pool", (1, 6, 8)),
    "sum pool, overlapping": (sj2onnx.SumPool2d(3, 1), "Conv", (3, 6, 6)),
    "sum pool, apart": (sj2onnx.SumPool2d(2, 4), "Conv", (3, 8, 8)),
    "sum pool with a rest": (sj2onnx.SumPool2d(3), "Conv", (3, 7, 8)),
    "sum pool, padded and dilated": (sj2onnx.SumPool2d((2, 3), (1, 2), (1, 2), (3, 1)), "Conv", (2, 8, 7)),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, lava_python: Path) -> tuple[Path, dict[str, torch.Tensor], dict[str, str]]:
    """The converted files, SpikingJelly's outputs, and the classes that Lava-DL's side built."""
    folder = tmp_path_factory.mktemp("parts")
    generator = torch.Generator().manual_seed(7)
    cases = {name: (node, (15,), grid) for name, (node, _, grid) in NEURONS.items()}
    for name, (synapse, _, features) in SYNAPSES.items():
        for parameter in synapse.parameters():
            parameter.data = torch.randint(-128, 128, parameter.shape, generator=generator) / 64
        cases[name] = (synapse, features, 16)
    expected = {}
    for name, (module, features, grid) in cases.items():
        module.step_mode = "m"
        module.eval()
        x = torch.randint(-grid // 4, grid, (12, 4, *features), generator=generator) / grid
        sj2onnx.export(module, x, folder / f"{name}.onnx")
        np.save(folder / f"{name}.in.npy", x.numpy())
        with torch.no_grad():
            expected[name] = module(x)
        if name in NEURONS:
            module.reset()
            (folder / f"{name}.scale").write_text(str(NEURONS[name][1] or 64))
    finished = subprocess.run([lava_python, PEER, folder], capture_output=True, text=True, check=False, timeout=300)
    assert finished.returncode == 0, finished.stderr
    return folder, expected, dict(line.rsplit(" ", 1) for line in finished.stdout.splitlines())


@pytest.mark.parametrize("name", [*NEURONS, *SYNAPSES])
def test_output_is_equal(name: str, folder: tuple[Path, dict[str, torch.Tensor], dict[str, str]]) -> None:
    path, expected, built = folder
    output = np.load(path / f"{name}.out.npy")
    assert output.shape == tuple(expected[name].shape)
    assert (output == expected[name].numpy()).all()
    assert len(np.unique(output)) > 1
    assert built[name] == (SYNAPSES[name][1] if name in SYNAPSES else "Neuron")


@pytest.mark.parametrize("native", [False, "auto"])
@pytest.mark.parametrize("name", [*NEURONS, *SYNAPSES])
def test_the_file_gives_it_too(name: str, native: bool, folder: tuple[Path, dict[str, torch.Tensor], dict[str, str]]) -> None:
    path, expected, _ = folder
    (output,) = custom_ops.session(path / f"{name}.onnx", native=native).run(None, {"input": np.load(path / f"{name}.in.npy")})
    assert (output == expected[name].numpy()).all()


@pytest.mark.parametrize(
    ("convert", "module", "features", "message"),
    [
        (to_slayer_neuron, neuron.IFNode(v_reset=None), (3,), "resets by subtraction"),
        (to_slayer_neuron, neuron.IFNode(v_threshold=1e6), (3,), "choose another scale"),
        (to_slayer_neuron, layer.Linear(3, 2, bias=False), (3,), "is a synapse"),
        (to_slayer_neuron, nn.Sequential(layer.Linear(3, 2, bias=False), neuron.IFNode()), (3,), "more than one neuron"),
        (to_slayer_neuron, nn.Sequential(neuron.IFNode(), neuron.IFNode()), (3,), "more than one neuron"),
        (to_slayer_synapse, neuron.IFNode(), (3,), "is a neuron"),
        (to_slayer_synapse, nn.Sequential(neuron.IFNode(), layer.Linear(3, 2, bias=False)), (3,), "more than one neuron"),
        (to_slayer_synapse, layer.Linear(3, 2), (3,), "has a bias"),
        (to_slayer_synapse, layer.MaxPool2d(2), (2, 4, 4), "neither one synapse"),
        (to_slayer_synapse, layer.AvgPool2d(2, ceil_mode=True), (2, 5, 5), "ceil_mode=False"),
    ],
)
def test_what_is_no_part_is_refused(
    convert: Callable[[onnx.ModelProto], object], module: nn.Module, features: tuple[int, ...], message: str
) -> None:
    functional.set_step_mode(module, "m")
    model = sj2onnx.export(module, torch.zeros(4, 2, *features))
    with pytest.raises((ConversionError, LimitError), match=message):
        convert(model)


@pytest.mark.parametrize("scale", [0, -64, 1.5, True, float("nan"), float("inf")])
def test_scales_that_are_no_whole_number_from_1_on_are_refused(scale: float) -> None:
    with pytest.raises(ConversionError, match="a whole number from 1 on"):
        to_slayer_neuron(onnx.ModelProto(), scale=scale)  # type: ignore[arg-type]
