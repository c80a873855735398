"""The GPU's kernels, run on the CPU: their own source, compiled by a C++ compiler for a GPU that is stricter than a real one.

What this cannot show: that a driver accepts the library, and how fast anything is. ``docs/native.md`` says what is unmeasured.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import custom_ops
from bench import cuda_network
from custom_ops.errors import RuntimeUnavailableError
from custom_ops.sessions import runtime

from .corners import block_corners, corners
from .emulated import EMULATION, ROOT, block_cases, build, check_unaligned, emulated_library, launches, opened
from .one_node import Case, cuba_lif_cases, float_cases, recurrent_cases
from .test_native import ATTRIBUTES, simple_case

FOUR_WIDE, ONE_WIDE = "0", "1000000"
"""How many processors the GPU has, so that every layer, or none, is large enough for threads of four neurons."""
SHARE = int(os.environ.get("EMULATED_SHARE", "1"))
"""One in how many of the property cases to run: all, but under the sanitizer."""
NEURON_CASES, BLOCK_CASES = 1_900 // SHARE, 650 // SHARE
CHECKS = settings(deadline=None, database=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="session")
def library() -> Path:
    return emulated_library()


@pytest.fixture(autouse=True)
def gpu(library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sessions find the emulated library, and with it one GPU."""
    monkeypatch.setattr(runtime, "_LIBRARIES", {**runtime._LIBRARIES, "cuda": library})
    for name in [name for name in os.environ if name.startswith("EMULATED_") and name != "EMULATED_SHARE"]:
        monkeypatch.delenv(name)


# Two widths for each neuron case, copying and in place for each block: together at least 5,000.
@settings(CHECKS, max_examples=NEURON_CASES)
@given(st.one_of(cuba_lif_cases(), cuba_lif_cases(), float_cases(), recurrent_cases()), st.data())
def test_neurons_equal_the_reference(library: Path, case: Case, data: st.DataObject) -> None:
    case.outputs = tuple(name if name == "s" or data.draw(st.booleans(), label=name) else "" for name in case.outputs)
    model = case.model(function=False)
    copies = data.draw(st.booleans(), label="copies")
    session = custom_ops.session(model, device="cuda") if copies else opened(model, library, copies=False)
    for processors in (FOUR_WIDE, ONE_WIDE):
        os.environ["EMULATED_PROCESSORS"] = processors
        case.check(session)


@settings(CHECKS, max_examples=BLOCK_CASES)
@given(block_cases())
def test_blocks_equal_the_cpus(library: Path, case: tuple[onnx.ModelProto, dict[str, np.ndarray]]) -> None:
    model, inputs = case
    expected = opened(model, custom_ops.get_library_path()).run(None, inputs)
    for copies in (True, False):
        for name, value, right in zip("ps", opened(model, library, copies=copies).run(None, inputs), expected, strict=True):
            np.testing.assert_array_equal(value, right, err_msg=f"{name}, {copies=}")


@pytest.mark.parametrize("corner", [*corners()])
def test_corners_of_neurons(library: Path, corner: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case = corners()[corner]
    monkeypatch.setenv("EMULATED_BOUNDS", "1")
    session = custom_ops.session(case.model(function=False), device="cuda")
    for processors in (FOUR_WIDE, ONE_WIDE):
        monkeypatch.setenv("EMULATED_PROCESSORS", processors)
        case.check(session)


@pytest.mark.parametrize("corner", [*block_corners()])
def test_corners_of_blocks(library: Path, corner: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, inputs = block_corners()[corner]
    monkeypatch.setenv("EMULATED_BOUNDS", "1")
    expected = opened(model, custom_ops.get_library_path()).run(None, inputs)
    for value, right in zip(opened(model, library, copies=True).run(None, inputs), expected, strict=True):
        np.testing.assert_array_equal(value, right)


def test_the_property_cases_are_five_thousand_at_least() -> None:
    assert SHARE > 1 or 2 * NEURON_CASES + 2 * BLOCK_CASES >= 5_000


def test_a_whole_network_is_blocks_on_the_gpu_too(library: Path) -> None:
    trace = np.load(ROOT / "models" / "digits_csnn.npz")
    session = custom_ops.session(ROOT / "models" / "digits_csnn.onnx", device="cuda")
    before = launches(library)
    spikes = session.run(None, {"input": trace["input"][:, :3].astype(np.float32)})[0]
    assert launches(library) - before == 6 + 3  # six blocks; the first packs its input, the last gives floats
    last = [name for name in trace.files if name.startswith("spikes/")][-1]
    np.testing.assert_array_equal(spikes, trace[last][:, :3])


def test_the_benchmark_of_whole_networks(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["cuda_network", str(ROOT / "models" / "digits_csnn.onnx"), "3"])
    monkeypatch.setattr(cuda_network, "STEPS", 4)
    monkeypatch.setattr(cuda_network, "RUNS", 1)
    assert cuda_network.main() == 0
    assert "0 spikes differ from the CPU's" in capsys.readouterr().out
    monkeypatch.setenv("EMULATED_DEVICES", "0")
    assert cuda_network.main() == 2
    assert "no CUDA GPU was found" in capsys.readouterr().out


@pytest.mark.parametrize("op_type", ATTRIBUTES)
def test_every_operator_launches_a_kernel(library: Path, op_type: str) -> None:
    case = simple_case(op_type, (4, 2, 70))
    session = custom_ops.session(case.model(), device="cuda")
    before = launches(library)
    case.check(session)
    assert launches(library) == before + 1


@pytest.mark.parametrize("steps", [0, 1, 3, 4, 5, 7, 8, 9, 15, 16, 17, 33])
@pytest.mark.parametrize("op_type", ["CubaLIF", "LIF"])
def test_layers_larger_than_a_block_of_threads(steps: int, op_type: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every number of steps around the groups that are read ahead; the last thread has neurons left, or has not."""
    for neurons, processors in ((1, 600), ONE_WIDE), ((3, 700), FOUR_WIDE), ((1, 257), ONE_WIDE):
        monkeypatch.setenv("EMULATED_PROCESSORS", processors)
        case = simple_case(op_type, (steps, *neurons))
        case.check(custom_ops.session(case.model(), device="cuda"))


def test_pointers_that_are_not_aligned(library: Path) -> None:
    """Four-wide threads would stop at them, so one-wide ones serve."""
    check_unaligned(library)


@pytest.mark.parametrize("op_type", ["CubaLIF", "IF", "RecurrentCubaLIF"])
def test_a_gpu_without_memory_is_an_error_and_not_the_end(op_type: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case = simple_case(op_type, (40, 2, 70))
    session = custom_ops.session(case.model(), device="cuda")
    monkeypatch.setenv("EMULATED_MEMORY", "9000")
    with pytest.raises(Exception, match="allocating GPU memory: out of memory"):
        session.run(None, case.inputs)
    monkeypatch.delenv("EMULATED_MEMORY")
    case.check(session)


def test_one_of_several_gpus_needs_the_provider(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMULATED_DEVICES", "2")
    model = simple_case("IF", (4, 2, 3)).model()
    custom_ops.session(model, device="cuda:0")
    with pytest.raises(RuntimeUnavailableError, match="CUDA_VISIBLE_DEVICES=1"):
        custom_ops.session(model, device="cuda:1")


def test_kernels_under_the_sanitizers() -> None:
    """A few of the cases above, with AddressSanitizer and UndefinedBehaviorSanitizer in the kernels and what launches them."""
    compiler = os.environ.get("CXX", "c++")
    library = build("snn_ops_emulated", sanitized=True) / "libsnn_ops_emulated.so"
    runtimes = [
        subprocess.run([compiler, f"-print-file-name=lib{name}.so"], check=True, capture_output=True, text=True).stdout.strip()
        for name in ("asan", "stdc++")
    ]
    environment = os.environ | {
        "LD_PRELOAD": " ".join(runtimes),
        "ASAN_OPTIONS": "detect_leaks=0",
        "SNN_EMULATED_LIBRARY": str(library),
        "EMULATED_SHARE": "25",
    }
    chosen = "neurons or blocks_equal or whole_network or larger or aligned"
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist", __file__, "-k", chosen]
    ran = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout[-4000:] + ran.stderr[-4000:]
    assert re.search(r"\d\d passed", ran.stdout)


def test_a_fault_in_an_access_stops_the_emulated_gpu(tmp_path: Path) -> None:
    """The emulation itself: an access that is not aligned, and a barrier that not every thread reaches, abort."""
    source = """
    #include <cuda_runtime.h>
    __global__ void misaligned(float* x) { __ldcs(reinterpret_cast<float4*>(x + threadIdx.x)); }
    __global__ void parted(float* x) { if (threadIdx.x != 3) __syncthreads(); *x = 0; }
    __global__ void summed(float* x) {
      __shared__ float parts[8];
      parts[threadIdx.x] = x[threadIdx.x];
      __syncthreads();
      float all = 0;
      for (float part : parts) all += part;
      __syncthreads();
      x[threadIdx.x] = all;
    }
    int main(int count, char**) {
      alignas(16) static float x[12] = {1, 2, 3, 4, 5, 6, 7, 8};
      if (count == 1) summed<<<2, 8, 0, nullptr>>>(x);
      if (count == 2) misaligned<<<1, 8, 0, nullptr>>>(x);
      if (count == 3) parted<<<1, 8, 0, nullptr>>>(x);
      return x[7] != 36 * 8;
    }
    """
    (tmp_path / "faults.cu").write_text(source)
    rewrite = [
        "cmake",
        f"-DFROM={tmp_path / 'faults.cu'}",
        f"-DTO={tmp_path / 'faults.cpp'}",
        "-P",
        EMULATION / "rewrite_launches.cmake",
    ]
    compiler = os.environ.get("CXX", "c++")
    if shutil.which(compiler) is None:
        build()
    compile_ = [compiler, "-std=c++17", "-I", EMULATION, tmp_path / "faults.cpp", "-o", tmp_path / "faults"]
    for command in ([sys.executable, "-m", *rewrite], compile_):
        subprocess.run(list(map(str, command)), check=True)
    results = [subprocess.run([tmp_path / "faults", *[""] * k], capture_output=True, text=True) for k in range(3)]
    assert [ran.returncode for ran in results] == [0, -6, -6]
    assert "not aligned" in results[1].stderr
    assert "not every thread" in results[2].stderr
