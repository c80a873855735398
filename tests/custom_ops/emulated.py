"""The library for GPUs with its kernels compiled for the CPU (see ``custom_ops/native/check/emulated``), and cases for it."""

import ctypes
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import strategies as st

import custom_ops
from custom_ops.sessions import gpu
from tests.native_build import NoCompilerError, native_build

from .one_node import block_model, cuba_attributes

ROOT = Path(__file__).parents[2]
EMULATION = ROOT / "custom_ops" / "native" / "check" / "emulated"
KERNELS = [
    ROOT / "custom_ops" / "native" / "cuda" / f"{name}.cu" for name in ("neurons", "block", "recurrent", "training", "device")
]


def build(target: str = "snn_ops_emulated", *, sanitized: bool = False) -> Path:
    """The folder of what CMake builds; without a compiler the test fails in CI and is skipped, saying why, elsewhere."""
    try:
        return native_build(target, sanitized=sanitized)
    except NoCompilerError as error:
        if os.environ.get("CI"):
            pytest.fail(str(error))
        pytest.skip(str(error))


def emulated_library() -> Path:
    """The emulated library: named by ``SNN_EMULATED_LIBRARY``, else built."""
    given = os.environ.get("SNN_EMULATED_LIBRARY")
    return Path(given) if given else build() / "libsnn_ops_emulated.so"


def launches(library: Path) -> int:
    """How many kernels the library has launched."""
    count = ctypes.CDLL(str(library)).snn_cuda_launches
    count.restype = ctypes.c_ulonglong
    return int(count())


def opened(model: onnx.ModelProto, library: Path | str, *, copies: bool | None = None) -> onnxruntime.InferenceSession:
    """A session with this library's operators: for the CPU's, ``copies`` is None; else whether the GPU's copy."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.enable_cpu_mem_arena = False  # memory with neighbours, where the sanitizer watches
    if copies is not None:
        options.add_session_config_entry(gpu.COPIES, str(int(copies)))
    options.register_custom_ops_library(str(library))
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def check_unaligned(library: Path) -> None:
    """Layers of a caller with pointers of his own, which are no multiples of 16 bytes; raises where a spike differs."""
    os.environ["EMULATED_PROCESSORS"] = "0"  # every layer is large enough for four-wide threads
    run = ctypes.CDLL(str(library)).snn_cuda_cuba_lif
    run.restype = ctypes.c_char_p
    steps, neurons = 9, 64
    room = np.random.default_rng(0).integers(-40, 60, steps * neurons + 8).astype(np.float32)
    for offset, other in ((0, 1), (1, 0), (2, 3), (3, 2)):
        x = room[offset : offset + steps * neurons].reshape(steps, 1, neurons)
        s = np.full(steps * neurons + 8, -1, np.float32)[other:][: steps * neurons]
        pointers = [ctypes.c_void_p(x.ctypes.data), None, None, None, ctypes.c_void_p(s.ctypes.data), None, None]
        assert run(*pointers, ctypes.c_size_t(steps), ctypes.c_size_t(neurons), 1024, 128, 64, None) is None
        expected = custom_ops.reference.cuba_lif(x, i_decay=1024, v_decay=128, v_threshold=64).s
        np.testing.assert_array_equal(s.reshape(expected.shape), expected)


@st.composite
def block_cases(draw: st.DrawFn) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    """A ``CubaBlock`` and its input: convolutions and dense synapses, over floats and over bytes.

    Channels and outputs that fill no sixteen, steps that fill no eight, windows that leave the image on every side, inputs that
    are spikes, counts and real numbers, sums that wrap around and such that do not, IF neurons and decaying ones.
    """
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    packed, dense = draw(st.booleans()), draw(st.booleans())
    channels = draw(st.sampled_from([1, 2, 3, 4, 5, 15, 16, 17, 33]))
    outputs = draw(st.sampled_from([1, 3, 16, 17, 40]))
    steps, samples = draw(st.sampled_from([1, 2, 7, 8, 9, 16, 19, 0])), draw(st.sampled_from([1, 2, 3, 0]))
    height, width = (draw(st.integers(1, 6)), draw(st.integers(1, 6))) if packed or not dense else (1, 1)
    window = [(1, 1, 0, 1)] * 2
    if dense and packed:
        window = [(height, 1, 0, 1), (width, 1, 0, 1)]
    elif not dense:
        window = [draw(_axis(size)) for size in (height, width)]
    kernel, dilation = (window[0][0], window[1][0]), window[1][3]
    joins = not packed and dilation == 1
    run_bytes = kernel[1] * channels if joins else channels
    runs, groups = kernel[0] * (1 if joins else kernel[1]), -(-run_bytes // 4)

    largest = draw(st.sampled_from([3, 127]))
    weights = np.zeros((-(-outputs // 16) * 16, runs, groups * 4), np.int8)
    weights[:outputs, :, :run_bytes] = rng.integers(-largest - 1, largest, (outputs, runs, run_bytes), endpoint=True)
    small = np.abs(2.0 * weights).sum((1, 2)).max() * (1 if packed else 127) < 2**17
    inputs: dict[str, np.ndarray] = {"w": weights.reshape(-1, 16, runs * groups, 4).transpose(0, 2, 1, 3).copy()}
    if packed:
        inputs["x"] = rng.integers(0, 2, (samples, height, width, -(-channels // 16), steps, 16)).astype(np.uint8)
    else:
        shape = (steps, samples, channels) if dense else (steps, samples, channels, height, width)
        inputs["x"] = _values(draw, rng, shape)
    if draw(st.booleans()):
        limit = draw(st.sampled_from([5, 4096, 2**24]))
        inputs["bias"] = rng.integers(-limit, limit, outputs, np.int32)
    attributes = draw(cuba_attributes())
    if draw(st.booleans()):
        attributes |= {"i_decay": 4096, "v_decay": 0}
    for axis, side in enumerate(("height", "width")):
        attributes |= {
            f"{name}_{side}": value for name, value in zip(("kernel", "stride", "padding", "dilation"), window[axis], strict=True)
        }
    attributes |= {"dense": int(dense), "small_sums": int(small), "channels": channels, "outputs": outputs}

    return block_model(inputs, attributes), inputs


@st.composite
def _axis(draw: st.DrawFn, size: int) -> tuple[int, int, int, int]:
    """Kernel, stride, padding and dilation along an axis, with at least one place."""
    kernel, dilation = draw(st.integers(1, 4)), draw(st.integers(1, 2))
    reach = (kernel - 1) * dilation + 1
    least = max(0, -(-(reach - size) // 2))
    return kernel, draw(st.integers(1, 3)), draw(st.integers(least, max(least, reach - 1))), dilation


def _values(draw: st.DrawFn, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    kind = draw(st.sampled_from(["spikes", "counts", "one is larger", "one is not whole", "quarters"]))
    if kind == "spikes":
        return (rng.random(shape) < 0.4).astype(np.float32)
    if kind == "quarters":  # their sums are exact, and ties occur
        return np.array(rng.integers(-12, 13, shape) / 4, np.float32)
    values = rng.integers(0, 127, shape, endpoint=True).astype(np.float32)
    if kind != "counts" and values.size:
        values.flat[rng.integers(values.size)] = 128 if kind == "one is larger" else rng.choice([0.5, -1, 126.75])
    return values


def differing(one: list[Any], other: list[Any]) -> int:
    """How many elements of two lists of tensors differ."""
    return sum(int((a != b).sum()) if a.shape == b.shape else max(a.size, b.size, 1) for a, b in zip(one, other, strict=True))
