"""Cases that each reach one corner of the operators' arithmetic which random ones reach seldom, or never."""

import numpy as np
import onnx

from .one_node import Case, block_model

IS_IF = {"i_decay": 4096, "v_decay": 0}
"""The decays of an integer neuron without leak: its current is gone after its step, its potential stays."""


def corners() -> dict[str, Case]:
    """A call of a neuron's operator for each corner, by name."""
    rng = np.random.default_rng(0)
    keeps = {"i_decay": 0, "v_decay": 0}
    ties = np.float32([0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 0.49999997, 8388607.5, 8388609, -8388607.5, 16777215, 1])
    beyond = np.float32([3e9, -3e9, 2147483648, -2147483648, 2147483520, np.inf, -np.inf, np.nan])
    fractions = np.float32([0.75, -0.75, 1.5, -1.5, 2.5, -2.5, 0.9999, -0.9999, 3e9, np.nan, np.inf])
    # Behind a current of 2**23 - 64 come sums that lead to the upper edge, over it, and back; and the same below zero.
    edge = np.int32([2**17 - 1, 1, 1, -1, -1, -(2**17), -(2**17), -1, 1, 2**17, 2**17])
    quarters = np.float32(rng.integers(-3, 6, (16, 2, 150)) / 4)
    special = np.float32([np.nan, np.inf, -np.inf, 1e-42, 3e38, -3e38, 1])
    real = rng.normal(size=(7, 1, 40)).astype(np.float32)
    integers = rng.integers(-60, 90, (6, 2, 3, 40), np.int32)
    states = {name: rng.integers(-(2**23) + 1, 2**23, (2, 3, 40), np.int32) for name in ("initial_u", "initial_v")}
    found = {
        "ties of the input": Case("CubaLIF", {**IS_IF, "v_threshold": 0}, {"x": np.stack([ties, -ties])[:, None]}),
        "inputs beyond 32 bits": Case("CubaLIF", {**keeps, "v_threshold": 0}, {"x": np.stack([beyond, beyond])[:, None]}),
        "a bias that is not whole": Case(
            "CubaLIF", {**IS_IF, "v_threshold": 1}, {"x": np.zeros((3, 1, len(fractions)), np.float32), "bias": fractions}
        ),
        "currents at the edge of 24 bits": Case(
            "CubaLIF", {"i_decay": 0, "v_decay": 4096, "v_threshold": 131071}, {"x": edge.reshape(-1, 1, 1).repeat(5, 2)}
        ),
        "potentials below 24 bits": Case(
            "CubaLIF", {**IS_IF, "v_threshold": 0}, {"x": np.int32([-(2**17) + 1, -9, 0, 2**17 - 1, 1, 9]).reshape(-1, 1, 1)}
        ),
        "states of each neuron": Case("CubaLIF", {"i_decay": 7, "v_decay": 4095, "v_threshold": 3}, {"x": integers, **states}),
        "all decays keep": Case("CubaLIF", {**keeps, "v_threshold": 131071}, {"x": integers, **states}),
        "on the threshold, hard reset": Case("IF", {"v_threshold": 1.0, "v_reset": 0.25}, {"x": quarters}),
        "on the threshold, soft reset": Case("IF", {"v_threshold": 1.0}, {"x": quarters}),
        "no numbers": Case("IF", {"v_threshold": 1.0}, {"x": np.tile(special, (3, 1, 1))}),
        "no numbers, leaking": Case(
            "LIF", {"tau": 3.0, "decay_input": 1, "v_threshold": 1.0, "v_reset": 0.0}, {"x": special[None, None]}
        ),
        "a division that is not exact": Case(
            "LIF", {"tau": 1.7, "decay_input": 0, "v_threshold": 0.5, "v_reset": -0.3}, {"x": real}
        ),
    }
    for axes in ((3, 1), (40,), (1, 3, 40), (2, 1, 40), (2, 1, 1), (2, 3, 1)):
        bias = {"bias": rng.integers(-60, 60, axes, np.int32)}
        found[f"a bias of {axes}"] = Case(
            "CubaLIF", {"i_decay": 1000, "v_decay": 100, "v_threshold": 50}, {"x": integers, **bias}
        )
    return found


def block_corners() -> dict[str, tuple[onnx.ModelProto, dict[str, np.ndarray]]]:
    """A ``CubaBlock`` and its input for each corner, by name: one weight each, so that nothing hides what one input does."""
    inputs = {
        "an input below the bytes": ([-200, 3], -100),
        "an input below zero": ([-1, 3], -100),
        "an input above the bytes": ([128, 3], 100),
        "an input between": ([0.5, 3], 3),
        "sums that are ties": ([0.75, 0.25, 1.25, -0.75, -0.25], 1),
        "no number": ([np.nan, 1], 1),
    }
    attributes = {
        **IS_IF,
        "v_threshold": 1,
        **{
            f"{name}_{side}": int(name not in ("padding",))
            for name in ("kernel", "stride", "padding", "dilation")
            for side in ("height", "width")
        },
        "dense": 1,
        "small_sums": 0,
        "channels": 1,
        "outputs": 1,
    }
    found = {}
    for name, (values, weight) in inputs.items():
        weights = np.zeros((1, 1, 16, 4), np.int8)
        weights[0, 0, 0, 0] = weight
        given = {"x": np.float32(values).reshape(-1, 1, 1), "w": weights}
        found[name] = block_model(given, attributes), given
    return found
