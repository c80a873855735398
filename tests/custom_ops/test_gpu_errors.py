"""A session that asks for a GPU gets one, or says why not: each reason, provoked with the emulated GPU and stub libraries."""

import ctypes
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import onnxruntime
import pytest

import custom_ops
from custom_ops.errors import ModelFileError, RuntimeUnavailableError
from custom_ops.sessions import gpu, runtime

from .emulated import emulated_library
from .test_cuda import needs_nvcc
from .test_native import simple_case

MODEL = simple_case("IF", (4, 2, 3)).model()


@pytest.fixture(autouse=True)
def emulated(monkeypatch: pytest.MonkeyPatch) -> Path:
    library = emulated_library()
    monkeypatch.setattr(runtime, "_LIBRARIES", {**runtime._LIBRARIES, "cuda": library})
    return library


class Device:
    """Written like torch's."""

    def __str__(self) -> str:
        return "cuda:0"


@pytest.mark.parametrize("device", ["cuda", "cuda:0", Device()])
def test_devices_that_mean_the_gpu(device: str, emulated: Path) -> None:
    session = custom_ops.session(MODEL, device=device)
    before = ctypes.CDLL(str(emulated)).snn_cuda_launches()
    simple_case("IF", (4, 2, 3)).check(session)
    assert ctypes.CDLL(str(emulated)).snn_cuda_launches() == before + 1


@pytest.mark.parametrize("device", ["gpu", "CUDA", "cuda:", "cuda:-1", "cuda:x", "cuda 0", "cpu:0", "", 0, None])
def test_other_devices_are_refused(device: str) -> None:
    with pytest.raises(RuntimeUnavailableError, match=r"There is no device .*: use 'cpu', 'cuda', or 'cuda:1'"):
        custom_ops.session(MODEL, device=device)


@pytest.mark.parametrize("native", ["no", "yes", None, 2])
def test_other_ways_to_run_are_refused(native: bool) -> None:
    with pytest.raises(RuntimeUnavailableError, match="use 'auto', True or False"):
        custom_ops.session(MODEL, native=native)


@pytest.mark.parametrize(
    ("machine", "device", "reason"),
    [
        ({"EMULATED_DRIVER": "0"}, "cuda", "there is no NVIDIA driver on this machine"),
        ({"EMULATED_DRIVER": "12040"}, "cuda", "driver knows CUDA 12.4 at most, but the library was built with CUDA 13.0"),
        ({"EMULATED_DEVICES": "0"}, "cuda", "no CUDA GPU was found on this machine"),
        ({"EMULATED_DEVICES": "2"}, "cuda:2", "there is no GPU number 2, but 2, counted from 0"),
        ({"EMULATED_CAPABILITY": "61"}, "cuda", "compute capability 6.1, for which the library has no code"),
    ],
)
def test_machines_without_a_gpu_for_it(
    machine: dict[str, str], device: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in machine.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(RuntimeUnavailableError, match=rf"The GPU cannot be used, because .*{reason}.*: use device='cpu'"):
        custom_ops.session(MODEL, device=device)


def test_a_library_that_cannot_be_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "libsnn_ops_cuda.so"
    broken.write_bytes(b"no library" * 1000)
    monkeypatch.setitem(runtime._LIBRARIES, "cuda", broken)
    with pytest.raises(RuntimeUnavailableError, match=r"cannot be loaded .*invalid ELF header"):
        custom_ops.session(MODEL, device="cuda")


def shared_library(path: Path, source: str, *options: str) -> None:
    command = [os.environ.get("CXX", "c++"), "-shared", "-fPIC", "-x", "c++", "-", "-x", "none", "-o", str(path), *options]
    subprocess.run(command, input=textwrap.dedent(source), text=True, check=True)


@needs_nvcc
def test_the_real_library_under_an_old_driver(tmp_path: Path) -> None:
    """NVIDIA's own runtime, with a driver that is none but says what CUDA it knows."""
    driver = """
    extern "C" int cuInit(unsigned) { return 0; }
    extern "C" int cuDriverGetVersion(int* version) { *version = 12040; return 0; }
    """
    shared_library(tmp_path / "libcuda.so.1", driver)
    real = Path(custom_ops.__file__).with_name("libsnn_ops_cuda.so")
    program = f"from custom_ops.sessions import gpu; print(gpu.problem({str(real)!r}, 0))"
    environment = os.environ | {"LD_LIBRARY_PATH": str(tmp_path)}
    ran = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert "the NVIDIA driver knows CUDA 12.4 at most, but the library was built with CUDA" in ran.stdout


@pytest.fixture
def onnxruntime_for_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """This onnxruntime as one for GPUs whose libraries are missing: it says that it has a CUDA provider, and gives the CPU's."""
    capi = tmp_path / "onnxruntime" / "capi"
    capi.mkdir(parents=True)
    shared_library(capi / "libcublasLt.so.99", 'extern "C" int cublasLtCreate() { return 0; }', "-Wl,-soname,libcublasLt.so.99")
    shared_library(capi / "libonnxruntime_providers_shared.so", "int nothing;")
    calls = 'extern "C" int cublasLtCreate(); extern "C" int provider() { return cublasLtCreate(); }'
    shared_library(capi / "libonnxruntime_providers_cuda.so", calls, str(capi / "libcublasLt.so.99"))
    (capi / "libcublasLt.so.99").unlink()
    monkeypatch.setattr(onnxruntime, "__file__", str(capi.with_name("__init__.py")))
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [gpu.PROVIDER, "CPUExecutionProvider"])
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: print("Failed to load cuDNN: no libcudnn.so.9"), raising=False)
    return capi


@pytest.mark.filterwarnings("ignore:Specified provider")
def test_a_provider_that_cannot_be_loaded(onnxruntime_for_gpus: Path, capfd: pytest.CaptureFixture[str]) -> None:
    missing = r"libcublasLt\.so\.99: cannot open shared object file"
    with pytest.raises(RuntimeUnavailableError, match=f"on the CPU instead of the GPU, because .*{missing}.*no libcudnn.so.9"):
        custom_ops.session(MODEL, device="cuda")
    assert not capfd.readouterr().out


@pytest.mark.filterwarnings("ignore:Specified provider")
def test_a_provider_that_is_not_there(onnxruntime_for_gpus: Path) -> None:
    provider = onnxruntime_for_gpus / "libonnxruntime_providers_cuda.so"
    shared_library(provider, "int nothing;")
    with pytest.raises(RuntimeUnavailableError, match="because its CUDA provider does not start"):
        custom_ops.session(MODEL, device="cuda")
    provider.unlink()
    with pytest.raises(RuntimeUnavailableError, match=r"because .*libonnxruntime_providers_cuda\.so does not exist"):
        custom_ops.session(MODEL, device="cuda", providers=["CPUExecutionProvider"])


def test_what_onnxruntime_says_of_the_gpu_is_no_fault_of_the_model(
    onnxruntime_for_gpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = "CUDA failure 35: CUDA driver version is insufficient for CUDA runtime version"
    given: list[object] = []

    def refuse(*_: object, **options: object) -> None:
        given.append(options["providers"])
        raise RuntimeError(said)

    monkeypatch.setattr(onnxruntime, "InferenceSession", refuse)
    with pytest.raises(RuntimeUnavailableError, match=r"onnxruntime cannot use the GPU .CUDA failure 35"):
        custom_ops.session(MODEL, device="cuda:0")
    # Without TF32, on the GPU that was asked for.
    assert given == [[(gpu.PROVIDER, {"device_id": "0", "use_tf32": "0"}), "CPUExecutionProvider"]]
    said = "Node (layer.0) has an attribute of the wrong type"
    with pytest.raises(ModelFileError, match="refuses the model"):
        custom_ops.session(MODEL, device="cuda")


def test_function_bodies_on_a_gpu_need_the_provider() -> None:
    with pytest.raises(RuntimeUnavailableError, match="native=False on a GPU needs onnxruntime's CUDA provider"):
        custom_ops.session(MODEL, device="cuda", native=False)


@pytest.mark.parametrize(("first", "second"), [("cpu", "cuda"), ("cuda", "cpu")])
def test_options_of_another_device_are_refused(first: str, second: str, emulated: Path) -> None:
    options = onnxruntime.SessionOptions()
    custom_ops.session(MODEL, device=first, sess_options=options, native=True)
    custom_ops.session(MODEL, device=first, sess_options=options)  # again: harmless
    with pytest.raises(RuntimeUnavailableError, match="sess_options has the operators of an earlier session"):
        custom_ops.session(MODEL, device=second, sess_options=options)
    with pytest.raises(RuntimeUnavailableError, match="sess_options has the operators of an earlier session"):
        custom_ops.session(MODEL, sess_options=options, native=False)
    other = str(emulated) if second == "cuda" else custom_ops.get_library_path()
    with pytest.raises(Exception, match="operators for another device already"):
        options.register_custom_ops_library(other)
