"""onnxruntime as two targets: with the function bodies in the file, and with the native operator library."""

import custom_ops

from ...network import CubaNeuron, Network, Neuron
from ..base import Finding, Progress, Spikes, Target
from ..loops import loops
from .writing import to_onnx

__all__ = ["ORT", "ORT_NATIVE"]


class _OnnxRuntime(Target):
    def __init__(self, name: str, title: str, native: bool) -> None:
        self.name, self.title, self._native = name, title, native

    def available(self) -> str | None:
        if not self._native:
            return None
        try:
            custom_ops.get_library_path()
        except custom_ops.errors.RuntimeUnavailableError as error:
            return str(error)
        return None

    def check(self, network: Network[Neuron]) -> list[Finding]:
        return list(loops(network, self.name, "onnxruntime"))

    def run(self, network: Network[CubaNeuron], x: Spikes, progress: Progress | None = None) -> Spikes:
        session = custom_ops.session(to_onnx(network, outputs="all"), native=self._native)
        names = [each.name for each in network.populations]
        return dict(zip(names, session.run(names, dict(x)), strict=True))


ORT = _OnnxRuntime("ort", "onnxruntime", native=False)
ORT_NATIVE = _OnnxRuntime("ort-native", "onnxruntime, native operators", native=True)
