"""Verify on a Dask cluster of two workers, of which one is killed: ``python dask_cluster.py MODEL X.npy FOUND.json``."""

import os
import signal
import sys
import threading
import time

from distributed import Client, LocalCluster

from onnx2lava import verify
from onnx2lava.verification import write_json


def main(model: str, x: str, target: str) -> None:
    options = {"against": ["ort", "numpy"], "batch": 2}
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        client.wait_for_workers(2)
        victim = next(iter(client.run(os.getpid).values()))
        done = threading.Event()

        def kill(name: str, count: int, total: int | None) -> None:
            if not done.is_set():
                done.set()
                os.kill(victim, signal.SIGKILL)

        with client.get_executor(pure=False) as executor:
            result = verify(model, x, executor=executor, progress=kill, **options)
        assert done.is_set()
        deadline = time.monotonic() + 60
        while victim in client.run(os.getpid).values() and time.monotonic() < deadline:
            time.sleep(0.1)
    write_json(result, target)


if __name__ == "__main__":
    main(*sys.argv[1:])
