"""``python -m tests.fuzz``: damaged files by the ten thousand, in processes whose death is seen.

Each case runs in a forked process with a bound on its memory and a time limit. Case K of seed S is always the same; ``--only K``
runs it in this process, so that it can be debugged.
"""

import argparse
import logging
import mmap
import os
import resource
import signal
import struct
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path

from .attempt import attempt, build
from .corpus import netx_files, onnx_files
from .damage import write_surroundings

_MEMORY = 1 << 30  # bytes that a process may take beyond what it has when it starts
_CPU_SECONDS = 30  # for one case; an honest one takes a tenth of a second
_WALL_SECONDS = 300  # for one that waits for something that never comes; a busy machine may take its time
_PER_PROCESS = 1000


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--only", type=int, help="run this one case, here")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        models, nets = onnx_files(), netx_files(Path(folder))
        if arguments.only is not None:
            return _one(arguments.seed, arguments.only, models, nets, Path(folder))
        return _Run(arguments.seed, arguments.cases, arguments.processes, Path(folder)).run(models, nets)


def _one(seed, number, models, nets, folder):
    case = build(seed, number, models, nets)
    print(f"{case.entrance}, {case.suffix}, {len(case.data)} bytes")
    inner = write_surroundings(folder)
    Path(f"case{number}{case.suffix}").write_bytes(case.data)
    print(attempt(case, inner, show=True))
    return 0


class _Run:
    """A pool of forked processes that share a counter of cases and say how each of them ended."""

    def __init__(self, seed, cases, processes, folder):
        self._seed, self._cases, self._processes, self._folder = seed, cases, processes, folder
        self._came = Counter()
        self._entrances = Counter()
        self._bugs = []
        self._peak = 0

    def run(self, models, nets):
        start = time.perf_counter()
        base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        waiting = [range(first, min(first + _PER_PROCESS, self._cases)) for first in range(0, self._cases, _PER_PROCESS)]
        running = {}
        while waiting or running:
            while waiting and len(running) < self._processes:
                numbers = waiting.pop(0)
                progress = mmap.mmap(-1, 8)
                log = self._folder / f"log{numbers.start}"
                pid = os.fork()
                if pid == 0:
                    self._child(numbers, progress, log, models, nets)
                running[pid] = numbers, progress, log
            pid, status, usage = os.wait4(-1, 0)
            numbers, progress, log = running.pop(pid)
            self._peak = max(self._peak, usage.ru_maxrss)
            self._read(log)
            if status:
                (number,) = struct.unpack("q", progress[:8])
                self._died(number, status, models, nets)
                if number + 1 < numbers.stop:
                    waiting.insert(0, range(number + 1, numbers.stop))
        return self._print(time.perf_counter() - start, base)

    def _child(self, numbers, progress, log, models, nets):
        code = 1
        try:
            folder = self._folder / f"process{numbers.start}"
            folder.mkdir()
            inner = write_surroundings(folder)
            with log.open("w", buffering=1) as file, Path(f"/proc/{os.getpid()}/statm").open() as sizes:
                own = int(sizes.read().split()[0]) * resource.getpagesize()
                resource.setrlimit(resource.RLIMIT_AS, (own + _MEMORY, own + _MEMORY))
                resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
                logging.disable()  # other libraries warn of what they meet
                warnings.simplefilter("error", RuntimeWarning)
                for number in numbers:
                    progress[:8] = struct.pack("q", number)
                    case = build(self._seed, number, models, nets)
                    signal.setitimer(signal.ITIMER_PROF, _CPU_SECONDS)
                    signal.setitimer(signal.ITIMER_REAL, _WALL_SECONDS)
                    came = attempt(case, inner)
                    signal.setitimer(signal.ITIMER_PROF, 0)
                    signal.setitimer(signal.ITIMER_REAL, 0)
                    file.write(f"{number}\t{case.entrance}\t{' '.join(came.split())}\n")
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)

    def _read(self, log):
        for line in log.read_text().splitlines():
            number, entrance, came = line.split("\t")
            self._note(int(number), entrance, came)
        log.unlink()

    def _died(self, number, status, models, nets):
        killed = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
        name = signal.Signals(killed).name if killed else f"exit status {os.WEXITSTATUS(status)}"
        came = "BUG: hang" if killed in (signal.SIGALRM, signal.SIGPROF) else f"BUG: crash, {name}"
        entrance = build(self._seed, number, models, nets).entrance
        self._note(number, entrance, f"{came} from {entrance}")

    def _note(self, number, entrance, came):
        self._entrances[entrance] += 1
        if came.startswith("BUG"):
            self._bugs.append((number, came))
            print(f"case {number}: {came}", flush=True)
        else:
            self._came[came] += 1

    def _print(self, seconds, base):
        crashes = sum("crash" in came for _, came in self._bugs)
        hangs = sum(came.startswith("BUG: hang") for _, came in self._bugs)
        print(f"{sum(self._entrances.values()):,} cases (seed {self._seed}) in {seconds:,.0f} s on {self._processes} processes")
        for title, counts in (("by entrance", self._entrances), ("by what came of them", self._came)):
            print(f"{title}: " + ", ".join(f"{name} {count:,}" for name, count in counts.most_common()))
        print(f"crashes: {crashes}, hangs: {hangs}, tracebacks and other bugs: {len(self._bugs) - crashes - hangs}")
        print(f"peak memory of a process: {self._peak // 1024:,} MiB, of which {base // 1024:,} MiB before the first case")
        return 1 if self._bugs else 0


if __name__ == "__main__":
    sys.exit(main())
