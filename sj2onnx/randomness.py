"""Find the module that draws random numbers, with whatever it draws them."""

import pickle
import random
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from .refusals import Trail

if TYPE_CHECKING:
    from .reference import Reference

__all__ = ["Draws", "drawing_module"]


class Draws(Trail):
    """Remembers as well which module draws numbers from NumPy or Python, which a trace takes for constants.

    Attributes:
        drawn: path of the first one; None where there is none.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__(net)
        # A method such as np.random.rand holds its generator, and a copy of the module has a copy of it.
        held = [getattr(value, "__self__", value) for module in net.modules() for value in module.__dict__.values()]
        own = [value for value in held if isinstance(value, _GENERATORS)]
        self._own: list[Any] = list({id(value): value for value in own}.values())
        self._seen = self._state()
        self.drawn: str | None = None

    def _state(self) -> list[Any]:
        return [random.getstate(), pickle.dumps(np.random.get_state()), *(_own_state(value) for value in self._own)]

    def _passed(self) -> None:
        now = self._state()
        if self.drawn is None and now != self._seen:
            self.drawn = self.path
        self._seen = now

    def _entered(self, path: str) -> Any:
        enter = super()._entered(path)

        def hook(module: nn.Module, inputs: Any) -> None:
            self._passed()
            enter(module, inputs)

        return hook

    def _left(self, module: nn.Module, inputs: Any, output: Any) -> None:
        self._passed()
        super()._left(module, inputs, output)


_GENERATORS = (random.Random, np.random.Generator, np.random.RandomState)


def _own_state(generator: Any) -> Any:
    if isinstance(generator, random.Random):
        return generator.getstate()
    return pickle.dumps(generator.bit_generator.state if isinstance(generator, np.random.Generator) else generator.get_state())


def drawing_module(reference: "Reference", x: torch.Tensor) -> str | None:
    """The path of the innermost module that gives something else in another run on the same input; None where none does."""
    first: list[tuple[str, Any, Any]] = []
    for attempt in range(4):
        again: list[tuple[str, Any, Any]] = []
        handles = [module.register_forward_hook(_noted(again, path)) for path, module in reference.net.named_modules()]
        try:
            reference.run(x)
        finally:
            for handle in handles:
                handle.remove()
        if attempt == 0:
            first = again
            continue
        for one, other in zip(first, again, strict=False):
            if one[0] != other[0]:
                break
            if _equal(one[1], other[1]) and not _equal(one[2], other[2]):
                return one[0]
    return None


def _noted(calls: list[tuple[str, Any, Any]], path: str) -> Any:
    def hook(module: nn.Module, inputs: Any, output: Any) -> None:
        calls.append((path, _kept(inputs), _kept(output)))

    return hook


def _kept(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.detach().clone()
    if isinstance(value, dict):
        return [_kept(part) for part in value.values()]
    return [_kept(part) for part in value] if isinstance(value, list | tuple) else None


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return one.shape == other.shape and bool(torch.isclose(one, other, rtol=0, atol=0, equal_nan=True).all())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_equal, one, other))
    return one is None and other is None
