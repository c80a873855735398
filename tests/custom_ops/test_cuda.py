"""The library for GPUs: it compiles wherever there is a CUDA compiler, and says clearly what it lacks elsewhere."""

import ctypes
import re
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest

import custom_ops
from custom_ops.errors import RuntimeUnavailableError
from custom_ops.sessions import gpu

from .emulated import launches
from .one_node import INTEGERS, Case

NVCC = shutil.which("nvcc") or shutil.which("nvcc", path="/usr/local/cuda/bin")
needs_nvcc = pytest.mark.skipif(NVCC is None, reason="no CUDA compiler (nvcc) here, so there is no library for GPUs to test")


def case(op_type: str, shape: tuple[int, ...]) -> Case:
    rng = np.random.default_rng(0)
    if op_type in INTEGERS:
        attributes = {"i_decay": 1000, "v_decay": 100, "v_threshold": 50}
        inputs = {"x": rng.integers(-100, 150, shape).astype(np.float32)}
        if op_type == "RecurrentCubaLIF":
            inputs["recurrent_weight"] = rng.integers(-256, 255, (shape[-1], shape[-1])).astype(np.float32)
        return Case(op_type, attributes, inputs)
    leak = {"tau": 2.0} if op_type == "LIF" else {}
    return Case(op_type, {"v_threshold": 1.0, "v_reset": 0.0, **leak}, {"x": rng.normal(size=shape).astype(np.float32)})


@pytest.fixture(scope="module")
def library() -> ctypes.CDLL:
    return ctypes.CDLL(custom_ops.get_library_path("cuda"))


def gpu_code(path: str) -> set[tuple[str, int]]:
    """Kind and architecture of each piece of GPU code in a library.

    nvcc puts them into one table ("fatbin"): a header with a magic number and its own and the table's size, then entries, each
    with its kind (1 for PTX, 2 for machine code), header size, size and, 28 bytes in, its architecture.
    """
    library = Path(path).read_bytes()
    start = library.index(struct.pack("<I", 0xBA55ED50))
    _, _, header, size = struct.unpack_from("<IHHQ", library, start)
    place, end, found = start + header, start + header + size, set()
    while place < end:
        kind, _, entry_header, entry_size = struct.unpack_from("<HHIQ", library, place)
        found.add(({1: "ptx", 2: "machine code"}[kind], struct.unpack_from("<I", library, place + 28)[0]))
        place += entry_header + entry_size
    return found


@needs_nvcc
def test_the_library_has_code_for_each_gpu_and_ptx_for_later_ones(library: ctypes.CDLL) -> None:
    assert gpu_code(custom_ops.get_library_path("cuda")) >= {
        ("machine code", 75),
        ("machine code", 80),
        ("machine code", 90),
        ("ptx", 90),
    }
    assert library.RegisterCustomOps
    assert library.snn_cuda_cuba_lif
    assert library.snn_cuda_lif


@needs_nvcc
@pytest.mark.parametrize("op_type", ["CubaLIF", "IF", "LIF", "RecurrentCubaLIF"])
def test_a_session_on_the_gpu_runs_there_or_says_why_not(library: ctypes.CDLL, op_type: str) -> None:
    one = case(op_type, (9, 3, 200) if op_type == "RecurrentCubaLIF" else (9, 3, 5, 200))
    path = custom_ops.get_library_path("cuda")
    if (why := gpu.problem(path, 0)) is not None:
        with pytest.raises(RuntimeUnavailableError, match=re.escape(why)):
            custom_ops.session(one.model(), device="cuda")
        return
    session = custom_ops.session(one.model(), device="cuda")
    assert not gpu.has_provider() or session.get_providers()[0] == gpu.PROVIDER
    before = launches(Path(path))
    one.check(session)
    assert launches(Path(path)) > before


@needs_nvcc
def test_the_kernels_refuse_in_words_where_there_is_no_gpu(library: ctypes.CDLL) -> None:
    if gpu.problem(custom_ops.get_library_path("cuda"), 0) is None:
        pytest.skip("there is a GPU here: `make bench-cuda` compares its spikes with the CPU's")
    library.snn_cuda_lif.restype = ctypes.c_char_p
    arguments = [None, None, None, None, ctypes.c_size_t(1), ctypes.c_size_t(4)]
    floats = [ctypes.c_float(2.0), ctypes.c_int(1), ctypes.c_float(1.0), ctypes.c_float(0.0)]
    assert b"cuda" in library.snn_cuda_lif(*arguments, *floats, None).lower()
