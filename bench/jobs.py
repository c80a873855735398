"""What two processes gain over one where Lava runs: ``python -m bench.jobs`` with Lava, usually by `make bench-jobs`.

One run uses one core, because all of Lava's processes run as threads of one process. With a run configuration of the user's,
Lava's own runtime starts some twenty processes that hand spikes on to each other, and uses more cores than one, most of it for
messages.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
from rich.console import Console

import onnx2lava
from onnx2lava.verification.parallel import workers

__all__ = ["main"]

_MODELS = Path(__file__).parents[1] / "models"


def lavas_own() -> object:
    """A run configuration that chooses what is chosen without one."""
    from lava.magma.core.run_configs import Loihi2SimCfg

    return Loihi2SimCfg(select_tag="fixed_pt")


def main() -> int:
    """Print seconds on the clock and of processors, of each way by turns, and the ratios; exit code 1 where spikes differ."""
    parser = argparse.ArgumentParser(prog="python -m bench.jobs", description=__doc__)
    parser.add_argument("--samples", type=int, default=384, help="of 16 time steps (default 384)")
    parser.add_argument("--rounds", type=int, default=2, help="of which the medians count (default 2)")
    parser.add_argument("--against", default="lava", help="lava (default) or netx")
    options = parser.parse_args()
    say = Console(highlight=False, soft_wrap=True).print
    given = np.load(_MODELS / "digits_csnn.npz")["input"]
    x = np.tile(given, (1, -(-options.samples // given.shape[1]), 1, 1, 1))[:, : options.samples]
    ways = {
        "one process": lambda: _run(x, options.against, 1, None),
        "two processes": lambda: _run(x, options.against, 2, None),
        "one process, Lava's own runtime": lambda: _run(x, options.against, 1, lavas_own),
        "two processes, Lava's own runtime": lambda: _run(x, options.against, 2, lavas_own),
    }
    say(f"verify of digits_csnn against {options.against}, {options.samples} samples of {len(x)} time steps")
    say(f"{os.cpu_count()} processors, load average of the machine before: {os.getloadavg()[0]:.1f}")
    _run(x[:, :1], options.against, 1, None)  # imports Lava
    found: dict[str, list[tuple[float, float, str]]] = {name: [] for name in ways}
    for _ in range(options.rounds):
        for name, way in ways.items():
            found[name].append(_timed(way))
    clocks = {}
    for name, runs in found.items():
        clock, processors = median(each[0] for each in runs), median(each[1] for each in runs)
        clocks[name] = clock
        say(f"{name:34} {clock:7.1f} s, processors {processors:7.1f} s: {processors / clock:.2f} at once")
    one, two, own, own_two = clocks.values()
    say(f"two processes are {one / two:.2f} x as fast as one; with Lava's own runtime {own / own_two:.2f} x")
    say(f"one process is {own / one:.2f} x as fast as one with Lava's own runtime, two as two {own_two / two:.2f} x")
    return int(len({text for runs in found.values() for _, _, text in runs}) > 1)


def _run(x: np.ndarray, against: str, jobs: int, run_config: Callable[[], object] | None) -> str:  # type: ignore[type-arg]
    """What was found, without the seconds."""
    with workers(jobs, None, [against]) as executor:
        result = onnx2lava.verify(_MODELS / "digits_csnn.onnx", x, against=[against], executor=executor, run_config=run_config)
    return repr((result.samples, result.layers, result.mismatches))


def _timed(way: Callable[[], str]) -> tuple[float, float, str]:
    """Seconds on the clock, seconds of processors in this process and in those that it started, and what was found."""
    before, start = sum(os.times()[:4]), time.perf_counter()
    text = way()
    return time.perf_counter() - start, sum(os.times()[:4]) - before, text


if __name__ == "__main__":
    sys.exit(main())
