"""Record what every layer of a network gives on a chip, as a trace that ``onnx2lava verify --trace`` compares with the rest.

A template for laboratories with a Loihi: complete ``run_config`` where it says so. As it stands it runs Lava's simulation.

    python models/chip_trace.py net.onnx x.npy chip.npz
    onnx2lava verify net.onnx --trace chip.npz
"""

import sys
from typing import Any

import numpy as np

import onnx2lava
from custom_ops.files.trace import Trace, write_trace
from onnx2lava.host import encode
from onnx2lava.targets import TARGETS


def run_config() -> Any:
    """Lava's run configuration; with a chip, ``Loihi2HwCfg`` takes the place of ``Loihi2SimCfg``."""
    from lava.magma.core.run_configs import Loihi2SimCfg

    class Laboratory(Loihi2SimCfg):  # type: ignore[misc]
        """Adapters stand between processes on the host and those on a chip."""

        def connect_input(self, source: Any, target: Any) -> None:
            # On a chip, with Intel's lava-loihi: adapter = PyToN3ConvAdapter(shape=target.shape, ...);
            # source.connect(adapter.inp); adapter.out.connect(target)
            source.connect(target)

        def connect_output(self, source: Any, target: Any) -> None:
            # Likewise with a NxToPyAdapter.
            source.connect(target)

    return Laboratory(select_tag="fixed_pt")


def main(model: str, given: str, recorded: str) -> None:
    """Run the network on the input in the file ``given``, ``[T, N, *]``, and write the trace.

    Only layers that a chip lets out can be recorded: leave the others out of ``spikes``, and they are compared without it.
    """
    x = np.load(given)
    network = onnx2lava.quantize(onnx2lava.load(model))
    target = TARGETS["lava"].configured(run_config)  # "netx" where the network is loaded from its .net file
    spikes = target.run(network, encode(network, x))
    write_trace(Trace(x, {name: values.astype(np.uint8) for name, values in spikes.items()}), recorded)


if __name__ == "__main__":
    main(*sys.argv[1:])
