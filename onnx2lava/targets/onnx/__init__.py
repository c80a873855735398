"""onnxruntime: any network without loops through several populations, in the file that outlives all others."""

from .target import ORT, ORT_NATIVE
from .writing import to_onnx

__all__ = ["ORT", "ORT_NATIVE", "to_onnx"]
