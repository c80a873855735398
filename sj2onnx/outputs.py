"""The tensors in what a network gives, and their names in the file."""

from collections.abc import Mapping
from dataclasses import is_dataclass
from typing import Any

import torch
from torch.distributions import Distribution

from .errors import ExportError

__all__ = ["flattened"]


def flattened(y: Any) -> dict[str, torch.Tensor]:
    """The tensors in ``y``, by name.

    A tensor is ``output``. Of several, in tuples and lists that may hold others, the first is ``output``, the next ``output.1``
    and so on; what stands in a dictionary is named by its keys, joined by dots; a distribution is its parameters, named as
    torch names them (``loc``, ``scale``, ``probs``, ``logits``). Numbers, words and None are left out.

    Raises:
        ExportError: there is no tensor at all, two would have the same name, or an object of another kind holds some.
    """
    leaves = list(_leaves(y, ()))
    found: dict[str, torch.Tensor] = {}
    count = 0
    for keys, tensor in leaves:
        if keys:
            name = ".".join(keys)
            name = f"output.{name}" if name in ("input", "output") else name
        else:
            name = "output" if count == 0 else f"output.{count}"
            count += 1
        if name in found:
            raise ExportError(f"The network gives two tensors that would both be called {name!r}: give them other keys.")
        found[name] = tensor
    if not found:
        raise ExportError(f"The network gives a {type(y).__name__} without any tensor: return what the file is to give.")
    return found


def _leaves(y: Any, keys: tuple[str, ...]) -> list[tuple[tuple[str, ...], torch.Tensor]]:
    if isinstance(y, torch.Tensor):
        return [(keys, y)]
    if isinstance(y, Mapping):
        return [leaf for key, value in y.items() for leaf in _leaves(value, (*keys, str(key)))]
    if isinstance(y, list | tuple):
        if not keys:
            return [leaf for value in y for leaf in _leaves(value, ())]
        flat = [leaf for value in y for leaf in _leaves(value, ())]
        # Below a key the first keeps the key alone, as the first of all is ``output`` alone.
        return [((*keys, *(own or ((str(index),) if index else ()))), tensor) for index, (own, tensor) in enumerate(flat)]
    if isinstance(y, Distribution):
        return [leaf for key in y.arg_constraints for leaf in _leaves(vars(y).get(key), (*keys, key))]
    if is_dataclass(y):
        return [leaf for key, value in vars(y).items() for leaf in _leaves(value, (*keys, key))]
    if any(isinstance(value, torch.Tensor) for value in getattr(y, "__dict__", {}).values()):
        raise ExportError(
            f"The network gives a {type(y).__name__}, whose tensors have no place in a file: return tensors, in tuples, lists or "
            "dictionaries."
        )
    return []
