"""Trainings in processes of their own: a core each."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import TypeVar

__all__ = ["side_by_side"]

Case = TypeVar("Case")
Result = TypeVar("Result")


def side_by_side(run: Callable[[Case], Result], cases: Sequence[Case], jobs: int) -> Iterator[Result]:
    """``run`` of each case, in their order, at most ``jobs`` at a time; with one job or case, in this process."""
    if jobs == 1 or len(cases) == 1:
        yield from map(run, cases)
        return
    with ProcessPoolExecutor(min(jobs, len(cases)), get_context("spawn")) as pool:
        yield from pool.map(run, cases)
