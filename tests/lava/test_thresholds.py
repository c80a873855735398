"""Lava-DL's kernel for GPUs cuts thresholds to whole numbers; those of the blocks and neurons given to it are whole before."""

import numpy as np
import pytest

import onnx2lava
from onnx2lava import CubaNeuron, Dense, Edge, Input, Network, Population
from onnx2lava.targets.slayer import parts

MANTISSAS = [0, 1, 40, 41, 640, 4095, 4096, 65_535, 131_071]


def on_a_gpu(neuron: object) -> int:
    """The lowest state that fires, as ``leaky_integrator.cu`` of lava-dl 0.6.0 finds it: a float times a float, cut to an int."""
    threshold = np.float32(neuron.threshold + neuron.threshold_eps)  # type: ignore[attr-defined]
    return int(threshold * np.float32(neuron.s_scale))  # type: ignore[attr-defined]


@pytest.mark.parametrize("mantissa", MANTISSAS)
def test_blocks_fire_one_unit_above_loihis_threshold(mantissa: int) -> None:
    edge = Edge("input", Dense(np.array([[2, -4]])))
    population = Population("fc", (1,), CubaNeuron(i_decay=4096, v_decay=128, v_threshold=mantissa), (edge,))
    network = Network("n", {"input": Input((2,))}, (population,), outputs=("fc",))
    (neuron,) = [module for module in onnx2lava.to_slayer(network).modules() if hasattr(module, "threshold_eps")]
    assert on_a_gpu(neuron) == 64 * mantissa + 1


@pytest.mark.parametrize("lowest", [1, 2, 63, 64, 65, 2561, 8_388_545])
def test_neurons_fire_from_their_lowest_state_on(lowest: int) -> None:
    assert on_a_gpu(parts._neuron((lowest - 1) // 64, 4096, 128, lowest, 64)) == lowest
