"""What reading a file may cost: memory and work that grow with the file, and no faster."""

from ..errors import ConversionError

__all__ = ["LARGEST_MAP", "Budget", "BudgetError"]

LARGEST_MAP = 2**24
"""Weights that one map may grow to while it is read."""
_BYTES_PER_BYTE, _BYTES = 16, 2**28
_OPERATIONS_PER_BYTE, _OPERATIONS = 2**12, 2**34
_CALL = 2**10  # operations that a call of NumPy costs at least


class BudgetError(ConversionError):
    """A file asks for much more memory or work than its size can need."""


class Budget:
    """Bytes and arithmetic operations that a file may still take.

    Args:
        size: of the file, in bytes.
    """

    def __init__(self, size: int) -> None:
        self._bytes = _BYTES_PER_BYTE * size + _BYTES
        self._operations = _OPERATIONS_PER_BYTE * size + _OPERATIONS

    def take(self, count: int, itemsize: int = 8) -> None:
        """Account for an array of ``count`` numbers before it is made.

        Raises:
            BudgetError: there is no room for it.
        """
        self._bytes -= count * itemsize
        if self._bytes < 0:
            raise BudgetError("what has to be computed up to here outgrows the file by far")

    def holds(self, count: int, itemsize: int = 8) -> bool:
        """Whether there is room for an array of ``count`` numbers."""
        return count * itemsize <= self._bytes

    def work(self, operations: int, calls: int = 1) -> None:
        """Account for arithmetic, and for calls of NumPy, before they are made.

        Raises:
            BudgetError: they would take minutes.
        """
        self._operations -= operations + _CALL * calls
        if self._operations < 0:
            raise BudgetError("what has to be computed up to here takes far longer than the file can need")
