"""Find the module that draws random numbers, with whatever it draws them."""

import pickle
import random
import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from .refusals import Trail

if TYPE_CHECKING:
    from .reference import Reference, Run

__all__ = ["Draws", "checksum", "drawing_module", "hidden_draw"]


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
    """The path of the module whose own code gives something else in another run on the same input; None where none does."""
    return _parting(reference, x, (1, 2, 3), 0)


def hidden_draw(reference: "Reference", x: torch.Tensor, first: "Run") -> str | None:
    """The same for what torch's seed does not decide and a trace takes for a constant: the system's random numbers, the time, a
    generator of one's own, what one run leaves for the next. No spike needs to differ, only what enters a stateful module.

    Args:
        reference: the network.
        x: an input.
        first: what it gave for ``x`` in a run that kept what stateful modules give.
    """
    if reference.run(x, keep=True).checksums == first.checksums:
        return None
    return _parting(reference, x, (0, 0, 0), _ROUNDING)


_ROUNDING = 1e-7
"""Threads that add numbers in another order change sums of many by less than this part of them."""


def checksum(value: torch.Tensor) -> int:
    """Of a tensor's numbers, to tell two runs apart without keeping them."""
    return zlib.crc32(_dense(value).flatten().view(torch.uint8).numpy().data)


class _Passages(Trail):
    """Remembers what entered and left each module, as sums, and whose code made it."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__(net)
        self.made: list[tuple[str, _Sums]] = []

    def _entered(self, path: str) -> Any:
        enter = super()._entered(path)

        def hook(module: nn.Module, inputs: Any) -> None:
            self.made.append((self.path, _sums(inputs)))  # by the module that calls this one
            enter(module, inputs)

        return hook

    def _left(self, module: nn.Module, inputs: Any, output: Any) -> None:
        self.made.append((self.path, _sums(output)))
        super()._left(module, inputs, output)


_Sums = list[tuple[tuple[int, ...], tuple[float, float, float]]]
"""Of each tensor its shape, and its sum, the sum with weights that rise from 1 to 2, and that of its absolute values."""


def _parting(reference: "Reference", x: torch.Tensor, seeds: Sequence[int], rounding: float) -> str | None:
    """Whose code made the first thing that differs from the run with seed 0 by more than ``rounding`` of what was summed."""
    first = _passages(reference, x, 0)
    for seed in seeds:
        for (path, ours), (other, theirs) in zip(first, _passages(reference, x, seed), strict=False):
            if path != other or not _same(ours, theirs, rounding):
                return path
    return None


def _passages(reference: "Reference", x: torch.Tensor, seed: int) -> list[tuple[str, _Sums]]:
    with _Passages(reference.net) as passages:
        reference.run(x, seed=seed)
    return passages.made


def _same(ours: _Sums, theirs: _Sums, rounding: float) -> bool:
    return [shape for shape, _ in ours] == [shape for shape, _ in theirs] and all(
        np.allclose(one, other, 0, rounding * one[2] if np.isfinite(one[2]) else 0, equal_nan=True)
        for (_, one), (_, other) in zip(ours, theirs, strict=True)
    )


def _sums(value: Any) -> _Sums:
    if isinstance(value, torch.Tensor):
        flat = _dense(value).flatten().double()
        weights = torch.linspace(1, 2, len(flat), dtype=torch.float64)
        return [(tuple(value.shape), (float(flat.sum()), float(flat @ weights), float(flat.abs().sum())))]
    if isinstance(value, dict):
        value = list(value.values())
    return [each for part in value for each in _sums(part)] if isinstance(value, list | tuple) else []


def _dense(value: torch.Tensor) -> torch.Tensor:
    value = value.detach().resolve_neg()
    value = value.dequantize() if value.is_quantized else value.to_dense()
    return torch.view_as_real(value.resolve_conj()) if value.is_complex() else value
