"""Training's kernels for GPUs, run on the CPU by the emulation of tests/custom_ops/emulated.py: what no GPU is needed to see.

What this cannot show: how fast anything is, and torch's streams.
"""

import ctypes
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, example, given, settings

from sj2onnx import native_training as native
from tests.custom_ops.emulated import emulated_library, launches

from .test_cuba_steps import BACKWARD_WRONG, CASES, IF, WRONG, node_of, require_equal, results, sound


@pytest.fixture(scope="module")
def library() -> Path:
    return emulated_library()


@pytest.fixture
def gpu(library: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A CPU's tensors are taken for those of a GPU, whose memory is the CPU's."""
    for name in [name for name in os.environ if name.startswith("EMULATED_")]:
        monkeypatch.delenv(name)
    emulated = native._Library(ctypes.CDLL(str(library)), torch.device("cpu"))
    monkeypatch.setattr(native, "_library", lambda device: emulated)
    return library


# The fixture holds for all examples.
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(CASES)
@example(IF)
@example(IF | {"normed": True, "i_decay": 4096, "learned": False})
@example(IF | {"i_decay": 1000, "v_decay": 100, "spread": 3e5, "scale": 1})
@example(IF | {"shape": (11, 2, 2, 33, 32), "v_decay": 1, "last": False})
def test_the_gpu_does_what_torch_does(gpu: Path, case: dict[str, Any]) -> None:
    case = sound(case)
    before = launches(gpu)
    found = results(case)
    neurons = torch.Size(case["shape"][1:]).numel()
    assert launches(gpu) - before == (4 if neurons else 0)  # two chunks, forward and backward
    with native.switched_off():
        expected = results(case)
    require_equal(found, expected, "GPU and torch")


def test_what_is_not_a_number_stays_so(gpu: Path) -> None:
    case = IF | {"learned": False, "stored": False}
    for changes in ({}, {"i_decay": 1000, "v_decay": 100}):
        found = {}
        for where in ("gpu", "torch"):
            generator = torch.Generator().manual_seed(0)
            x = 60 * torch.randn(case["shape"], generator=generator)
            x[2, 0, 0] = float("nan")
            x[3, 1, 0] = float("inf")
            node = node_of(case | changes)
            if where == "gpu":
                spikes = node(x, weight_units=True)
            else:
                with native.switched_off():
                    spikes = node(x, weight_units=True)
            found[where] = spikes, node.voltage_state
        for one, other in zip(found["gpu"], found["torch"], strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)


def call_of(structure: type[ctypes.Structure], names: tuple[str, ...], **fields: object) -> tuple[Any, list[torch.Tensor]]:
    memory = [torch.zeros(2, 4) for _ in names]
    pointers = {name: each.data_ptr() for name, each in zip(names, memory, strict=True)}
    return structure(
        **({"bytes": ctypes.sizeof(structure), "steps": 2, "neurons": 4, "s_scale": 64.0} | pointers | fields)
    ), memory


@pytest.mark.parametrize("case", [*WRONG, "potentials"])
def test_the_gpus_library_checks_what_it_is_given(library: Path, case: str) -> None:
    changes, reason = WRONG.get(case, ({"potentials": 1}, "potentials"))
    forward = ctypes.CDLL(str(library)).snn_cuda_training_forward
    forward.restype = ctypes.c_char_p
    names = ("x", "spikes", "current", "voltage", "last_current", "last_voltage")
    for each, right in ((changes, False), ({}, True)):
        call, memory = call_of(native.Forward, names, v_keep=4096, **each)
        said = forward(ctypes.byref(call), 0, None)
        assert said is None if right else reason in said.decode(), memory
    assert b"missing" in forward(None, 0, None)


@pytest.mark.parametrize("case", [*BACKWARD_WRONG, "a table"])
def test_the_gpus_library_checks_its_way_back_too(library: Path, case: str) -> None:
    one_by_one = {"slopes": None, "table": 1, "table_size": 1, "table_step": 1.0}, "one by one"
    changes, reason = BACKWARD_WRONG.get(case, one_by_one)
    backward = ctypes.CDLL(str(library)).snn_cuda_training_backward
    backward.restype = ctypes.c_char_p
    names = ("slopes", "grad_spikes", "charged", "grad_x", "grad_current", "grad_voltage")
    for each, right in ((changes, False), ({}, True)):
        call, memory = call_of(native.Backward, names, **({"grad_spikes_stride": 4, "gain": 1.0} | each))
        said = backward(ctypes.byref(call), 0, None)
        assert said is None if right else reason in said.decode(), memory


def test_a_gpu_that_is_not_there_is_an_error(library: Path) -> None:
    forward = ctypes.CDLL(str(library)).snn_cuda_training_forward
    forward.restype = ctypes.c_char_p
    names = ("x", "spikes", "current", "voltage", "last_current", "last_voltage")
    call, memory = call_of(native.Forward, names, v_keep=4096)
    assert b"invalid device" in forward(ctypes.byref(call), 7, None), memory


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here, or a torch without CUDA")
@pytest.mark.parametrize("changes", [{}, {"i_decay": 1000, "v_decay": 100}, {"normed": True, "learned": False}], ids=str)
def test_a_real_gpu_does_what_torch_does(changes: dict[str, Any]) -> None:
    case = IF | {"shape": (11, 2, 2, 33, 32)} | changes
    with native.switched_off():
        expected = results(case, device="cuda")
    assert native.library_for(torch.empty(0, device="cuda")) is not None
    require_equal(results(case, device="cuda"), expected, "GPU and torch on it")
