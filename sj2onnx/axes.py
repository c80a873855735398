"""Which axes of a network's input are time and samples: found by running it, since every network keeps them where it likes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from .errors import ExportError
from .reference import Call, Reference, Run

__all__ = ["Axes", "find_axes", "other_input", "other_size"]


@dataclass(frozen=True)
class Axes:
    """Where time and samples are in the input.

    Args:
        time: the axis of the time steps; None where the network makes them itself, of images that stay the same, say.
        batch: the axis of the samples; None where the network is written for one number of them.
        free_time: whether the network takes another number of time steps.
    """

    time: int | None
    batch: int | None
    free_time: bool = True


def find_axes(reference: Reference, example: torch.Tensor, first: Run) -> Axes:
    """Where time and samples are in ``example``.

    SpikingJelly's neurons take ``[T, N, *]``, or ``[N, *]`` at each call in step mode ``s``. So the axis of the samples is the
    one whose size the neurons' batch axis follows, and the axis of time the one that their time axis, or the number of their
    calls, follows. Where there are no neurons, the outputs tell. ``[T, N, *]`` is tried first, and ``[N, *]`` of two axes.

    Args:
        reference: the network.
        example: an input that it takes.
        first: what it gave for the example.
    """
    sizes = example.dim()
    # ``view(-1, F)`` makes samples of features as well: of two axes the first is meant.
    order = list(dict.fromkeys([*((0, 1) if sizes == 2 else (1, 0)), sizes - 1, *range(sizes)]))
    batch = next((axis for axis in order if axis < sizes and _is_batch(reference, example, first, axis)), None)
    small = example if batch is None else _resized(example, batch, min(example.shape[batch], 2))
    before = first if small is example else reference.sizes(small)
    # Time comes first, second behind the samples, last, or behind the channels; only where neurons say so.
    order = [axis for axis in dict.fromkeys([0, 1, sizes - 1, *range(sizes)]) if axis != batch and axis < sizes]
    if batch == 1 or batch is None:
        free = _runs(reference, small, 0, before, _follows_time) is not None
        return Axes(0, batch, free)
    for axis in order:
        if _runs(reference, small, axis, before, _follows_time) is not None:
            return Axes(axis, batch)
    return Axes(_fixed_time(reference, small, order), batch, free_time=False)


def other_input(example: torch.Tensor, axes: Axes, samples: int, steps: int | None = None) -> torch.Tensor:
    """Another input of the kind of ``example``: its values in another order, or random spikes where they are all the same."""
    x = example
    if axes.batch is not None:
        x = _resized(x, axes.batch, samples)
    if axes.time is not None and steps is not None:
        x = _resized(x, axes.time, steps)
    generator = torch.Generator().manual_seed(samples)
    if bool((example == example.flatten()[0]).all()):
        return (torch.rand(x.shape, generator=generator) < 0.5).to(example.dtype)
    return x.flatten()[torch.randperm(x.numel(), generator=generator)].reshape(x.shape)


def other_size(size: int) -> int:
    """Another number of samples or steps: a small one, and not one, which some code treats apart."""
    return 2 if size != 2 else 3


def _is_batch(reference: Reference, example: torch.Tensor, first: Run, axis: int) -> bool:
    return _runs(reference, example, axis, first, _follows_batch) is not None


def _runs(reference: Reference, example: torch.Tensor, axis: int, first: Run, follows: object) -> Run | None:
    """The run with another size of ``axis``; None where the network does not take it, or its neurons do not follow."""
    size, other = example.shape[axis], other_size(example.shape[axis])
    try:
        run = reference.sizes(_resized(example, axis, other))
    except ExportError:
        return None
    return run if follows(first, run, size, other) else None  # type: ignore[operator]


def _follows_batch(first: Run, run: Run, size: int, other: int) -> bool:
    if not first.calls:
        return all(_one_axis_follows(a.shape, b.shape, size, other) for a, b in _pairs(first, run) if a.dim())
    if len(first.calls) != len(run.calls):
        return False
    pairs = list(zip(first.calls, run.calls, strict=True))
    if all(_axis_follows(a, b, 0 if a.single_step else 1, size, other) for a, b in pairs):
        return True
    # Some networks give neurons their channels where others have samples, which come later then.
    return all(
        any(_axis_follows(a, b, axis, size, other) for axis in range(0 if a.single_step else 1, len(a.shape))) for a, b in pairs
    )


def _follows_time(first: Run, run: Run, size: int, other: int) -> bool:
    if not first.calls:
        return True
    if len(first.calls) != len(run.calls):
        return len(first.calls) * other == len(run.calls) * size
    return all(
        _axis_follows(a, b, 0, size, other) for a, b in zip(first.calls, run.calls, strict=True) if not a.single_step
    ) and not all(a.single_step for a in first.calls)


def _axis_follows(a: Call, b: Call, axis: int, size: int, other: int) -> bool:
    rest = [*a.shape[:axis], *a.shape[axis + 1 :]] == [*b.shape[:axis], *b.shape[axis + 1 :]]
    return a.path == b.path and len(a.shape) > axis and rest and a.shape[axis] * other == b.shape[axis] * size


def _one_axis_follows(a: Sequence[int], b: Sequence[int], size: int, other: int) -> bool:
    if len(a) != len(b):
        return False
    changed = [(one, two) for one, two in zip(a, b, strict=True) if one != two]
    return len(changed) == 1 and changed[0][0] * other == changed[0][1] * size


def _pairs(first: Run, run: Run) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return [(value, run.outputs[name]) for name, value in first.outputs.items() if name in run.outputs]


def _fixed_time(reference: Reference, example: torch.Tensor, order: Sequence[int]) -> int | None:
    """The axis that has as many entries as the neurons see time steps, for a network that takes one number of them only.

    None where the first neurons see the same at every step, whatever the input: the network repeats it.
    """
    varied = other_input(example, Axes(None, None), 2)
    seen: dict[str, list[torch.Tensor]] = {}

    def keep(path: str) -> Callable[..., None]:
        return lambda module, inputs, output: seen.setdefault(path, []).append(
            inputs[0].unsqueeze(0) if getattr(module, "step_mode", "m") == "s" else inputs[0]
        )

    reference.run(varied, keep)
    if not seen:
        return None
    over_time = torch.cat(next(iter(seen.values())))
    if len(over_time) > 1 and bool((over_time == over_time[0]).all()):
        return None
    return next((axis for axis in order if len(over_time) == example.shape[axis] and example.dim() > 2), None)


def _resized(x: torch.Tensor, axis: int, size: int) -> torch.Tensor:
    """``x`` with ``size`` entries along ``axis``: the first ones, over again from the start where there are fewer."""
    return x.index_select(axis, torch.arange(size) % x.shape[axis])
