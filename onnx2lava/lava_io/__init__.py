"""Lava processes that play spikes from a file and record spikes to one. Needs lava-dl; imported only where Lava runs.

Lava's own ring buffers hand their data over one number at a time, which takes longer than the simulation itself. This module is
alone in its folder, because Lava looks for models of a process by executing every module beside it.
"""

import os
from typing import Any

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyInPort, PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol

__all__ = ["Player", "Recorder"]


class Player(AbstractProcess):  # type: ignore[misc]
    """Sends what a file holds, a step at a time, and zeros after its end.

    Args:
        path: an ``.npy`` file of uint8 ``[steps, *shape]``.
        shape: of one step, in the order of Lava, ``(W, H, C)`` or ``(F,)``.
    """

    def __init__(self, path: str | os.PathLike[str], shape: tuple[int, ...]) -> None:
        super().__init__(path=path)
        self.s_out = OutPort(shape=shape)


class Recorder(AbstractProcess):  # type: ignore[misc]
    """Keeps what comes in, a step at a time, in a file.

    Args:
        path: an ``.npy`` file of uint8 ``[steps, *shape]`` that exists already.
        shape: of one step, as in :class:`Player`.
    """

    def __init__(self, path: str | os.PathLike[str], shape: tuple[int, ...]) -> None:
        super().__init__(path=path)
        self.a_in = InPort(shape=shape)


@implements(proc=Player, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class _PlayerModel(PyLoihiProcessModel):  # type: ignore[misc]
    s_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self._spikes = np.load(proc_params["path"], mmap_mode="r")

    def run_spk(self) -> None:
        step = self.time_step - 1  # Lava counts from 1
        spikes = self._spikes[step] if step < len(self._spikes) else np.zeros(self._spikes.shape[1:])
        self.s_out.send(spikes.astype(np.int32))


@implements(proc=Recorder, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class _RecorderModel(PyLoihiProcessModel):  # type: ignore[misc]
    a_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self._spikes = np.load(proc_params["path"], mmap_mode="r+")

    def run_spk(self) -> None:
        self._spikes[self.time_step - 1] = self.a_in.recv()
