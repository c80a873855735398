"""How long something takes."""

import statistics
import time
from collections.abc import Callable
from typing import Any

__all__ = ["THREADS", "median_seconds"]

THREADS = 2
"""Threads for everything that takes part."""


def median_seconds(call: Callable[[], Any], runs: int, *, warm_up: int = 2) -> float:
    """The median time of one call of several in a row, after ``warm_up`` calls that do not count."""
    for _ in range(warm_up):
        call()
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)
