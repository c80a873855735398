"""Sessions on a GPU: what one needs, and why it is not there. A session never falls back to the CPU without a word."""

import contextlib
import ctypes
import io
import re
from pathlib import Path
from typing import Any

import onnxruntime

from ..errors import RuntimeUnavailableError

__all__ = [
    "COPIES",
    "PROVIDER",
    "gpu_number",
    "has_provider",
    "is_trouble",
    "prepare",
    "problem",
    "providers",
    "require_provider",
]

PROVIDER = "CUDAExecutionProvider"
"""onnxruntime's name for what runs on NVIDIA's GPUs."""

COPIES = "snn.cuda_copies"
"""The entry of a session's options with which the library's operators run in CPU memory, and copy (see library_cuda.cpp)."""

_TROUBLE = re.compile(r"\bCUDA (failure|error)|cudaError|\bcuDNN\b|\bCUDNN|\bCUBLAS", re.IGNORECASE)


def gpu_number(device: object) -> int | None:
    """Which GPU ``device`` means, counted from 0; None for the CPU.

    Args:
        device: ``"cpu"``, ``"cuda"`` (the first GPU), ``"cuda:N"``, or what is written like one of them (``torch.device``).

    Raises:
        RuntimeUnavailableError: it means anything else.
    """
    name = str(device)
    if name == "cpu":
        return None
    if found := re.fullmatch(r"cuda(?::(\d{1,4}))?", name, re.ASCII):
        return int(found[1] or 0)
    raise RuntimeUnavailableError(f"There is no device {name!r}: use 'cpu', 'cuda', or 'cuda:1' for the second of several GPUs.")


def has_provider() -> bool:
    """Whether this onnxruntime was built for GPUs; that it finds what it needs there is another matter."""
    return PROVIDER in onnxruntime.get_available_providers()


def problem(library: str, number: int) -> str | None:
    """Why the kernels of this library cannot run on GPU ``number``, in words that go behind "because"; None where they can."""
    try:
        ask = ctypes.CDLL(library).snn_cuda_problem
    except (OSError, AttributeError) as error:
        return f"the library {library} cannot be loaded ({error})"
    ask.restype = ctypes.c_char_p
    said: bytes | None = ask(ctypes.c_int(number))
    return None if said is None else said.decode(errors="replace")


def prepare(options: onnxruntime.SessionOptions, number: int, library: str | None) -> None:
    """Make ``options`` ready for a session on GPU ``number``.

    Args:
        library: the operator library for GPUs, which is registered; None to run the function bodies.

    Raises:
        RuntimeUnavailableError: the GPU cannot be used, and why.
    """
    has = has_provider()
    if library is None:
        if not has:
            raise RuntimeUnavailableError(
                "native=False on a GPU needs onnxruntime's CUDA provider, which this onnxruntime was built without: install "
                "onnxruntime-gpu in its place, or use device='cpu'."
            )
        return
    if (why := problem(library, number)) is not None:
        raise RuntimeUnavailableError(f"The GPU cannot be used, because {why}: use device='cpu' until that is mended.")
    if number and not has:
        raise RuntimeUnavailableError(
            f"GPU number {number} needs onnxruntime's CUDA provider; without it the operators use the first GPU alone: install "
            f"onnxruntime-gpu, or use device='cuda' with CUDA_VISIBLE_DEVICES={number}."
        )
    options.add_session_config_entry(COPIES, "0" if has else "1")
    options.register_custom_ops_library(library)


def providers(number: int) -> list[Any]:
    """onnxruntime's providers for a session on GPU ``number``.

    Convolutions and products in TF32 would keep 11 bits of each factor: whole numbers of 8 bits come through, real ones do not.
    """
    if not has_provider():
        return ["CPUExecutionProvider"]
    return [(PROVIDER, {"device_id": str(number), "use_tf32": "0"}), "CPUExecutionProvider"]


def preload() -> str:
    """Load NVIDIA's libraries from Python packages, where onnxruntime can do that; what it said of those that are not there."""
    load = getattr(onnxruntime, "preload_dlls", None)  # since onnxruntime 1.21
    if load is None or not has_provider():
        return ""
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        load()
    return " ".join(said.getvalue().split())


def require_provider(session: onnxruntime.InferenceSession, preloaded: str) -> None:
    """Refuse a session that fell back to the CPU.

    Args:
        preloaded: what :func:`preload` said before.

    Raises:
        RuntimeUnavailableError: the session has no CUDA provider, and why.
    """
    if PROVIDER in session.get_providers():
        return
    raise RuntimeUnavailableError(
        f"onnxruntime gave a session on the CPU instead of the GPU, because {_why_no_provider()}"
        f"{f' (it said: {preloaded})' if preloaded else ''}: install the CUDA and cuDNN that this onnxruntime was built for "
        "(pip install 'onnxruntime-gpu[cuda,cudnn]'), or use device='cpu'."
    )


def is_trouble(reason: str) -> bool:
    """Whether onnxruntime's words are about the GPU and not about the model."""
    return _TROUBLE.search(reason) is not None


def _why_no_provider() -> str:
    """Load the provider as onnxruntime does, and see what the loader says."""
    folder = Path(onnxruntime.__file__).with_name("capi")
    library = folder / "libonnxruntime_providers_cuda.so"
    if not library.exists():
        return f"{library} does not exist"
    try:
        ctypes.CDLL(str(folder / "libonnxruntime_providers_shared.so"), mode=ctypes.RTLD_GLOBAL)
        ctypes.CDLL(str(library))
    except OSError as error:
        return f"its CUDA provider cannot be loaded ({error})"
    return "its CUDA provider does not start"
