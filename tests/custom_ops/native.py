"""The native library as the tests use it: its instruction sets can be chosen."""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

import custom_ops


class Library:
    """The functions that ``libsnn_ops.so`` exports for tests."""

    def __init__(self) -> None:
        self.path = custom_ops.get_library_path()
        self._functions = ctypes.CDLL(self.path)
        self._functions.snn_ops_isa.restype = ctypes.c_char_p
        self._functions.snn_ops_use_isa.argtypes = [ctypes.c_char_p]

    @property
    def isas(self) -> list[str]:
        """The instruction sets that this processor has, best first."""
        names = iter(self._functions.snn_ops_isa(index) for index in range(8))
        return [name.decode() for name in iter(lambda: next(names), None)]

    @contextmanager
    def isa(self, name: str) -> Iterator[None]:
        """Run the kernels of one instruction set inside the block."""
        assert self._functions.snn_ops_use_isa(name.encode()), f"this processor has no {name}"
        try:
            yield
        finally:
            self._functions.snn_ops_use_isa(self.isas[0].encode())
