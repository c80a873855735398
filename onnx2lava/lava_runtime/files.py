"""Lava processes that play spikes from files and record spikes to files. Needs Lava; imported only where it runs.

Lava's own ring buffers hand their data over one number at a time, which takes longer than the simulation itself. Each of
Lava's processes is a thread, or a process of the operating system: one player and one recorder serve any number of ports.
"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyInPort, PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol

from ..network import Shape

__all__ = ["Player", "Recorder", "player_model", "recorder_model"]


class _Files(AbstractProcess):  # type: ignore[misc]
    """Ports ``port0``, ``port1`` ..., one for each file.

    Args:
        paths: ``.npy`` files of whole numbers ``[steps, *shape]`` that exist already.
        shapes: of one step of each, in the order of Lava, ``(W, H, C)`` or ``(F,)``.
    """

    _port: type

    def __init__(self, paths: Sequence[Path], shapes: Sequence[Shape]) -> None:
        super().__init__(paths=[str(path) for path in paths])
        self.ports = [self._port(shape=shape) for shape in shapes]
        for index, port in enumerate(self.ports):
            setattr(self, f"port{index}", port)


class Player(_Files):
    """Sends what its files hold, a step at a time, and zeros after their ends."""

    _port = OutPort


class Recorder(_Files):
    """Keeps what comes in, a step at a time, in its files."""

    _port = InPort


class _FilesModel(PyLoihiProcessModel):  # type: ignore[misc]
    _mode: Literal["r", "r+"]

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self._files = [np.load(path, mmap_mode=self._mode) for path in proc_params["paths"]]

    def ports(self) -> list[Any]:
        return [getattr(self, f"port{index}") for index in range(len(self._files))]


class _PlayerModel(_FilesModel):
    _mode = "r"

    def run_spk(self) -> None:
        step = self.time_step - 1  # Lava counts from 1
        for file, port in zip(self._files, self.ports(), strict=True):
            spikes = file[step] if step < len(file) else np.zeros(file.shape[1:])
            port.send(spikes.astype(np.int32))


class _RecorderModel(_FilesModel):
    _mode = "r+"

    def run_spk(self) -> None:
        for file, port in zip(self._files, self.ports(), strict=True):
            file[self.time_step - 1] = port.recv()


def player_model(process: Player) -> type:
    """What runs ``process``."""
    return _model(Player, _PlayerModel, PyOutPort.VEC_DENSE, len(process.ports))


def recorder_model(process: Recorder) -> type:
    """What runs ``process``."""
    return _model(Recorder, _RecorderModel, PyInPort.VEC_DENSE, len(process.ports))


@cache
def _model(process: type, base: type, port: type, ports: int) -> type:
    """Lava reads the ports of a model from its class, so each number of ports needs a class."""
    model = type(base.__name__, (base,), {f"port{index}": LavaPyType(port, np.int32) for index in range(ports)})
    marked: type = implements(proc=process, protocol=LoihiProtocol)(requires(CPU)(tag("fixed_pt")(model)))
    return marked
