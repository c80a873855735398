"""Lava's runtime in threads of one process: its own compiler, runtime services and process models, other messengers. Needs Lava.

Lava starts a process of the operating system for every process of a network, and a message between two of them takes two
semaphores, two threads and a copy through shared memory: of a small network, most of the time. It lets others bring the messages
(``MessageInfrastructureInterface``). Here they go through queues in memory, and whoever waits for one sleeps. Since Python runs
one thread at a time, a run then takes one core, and as many can go on side by side as there are cores.
"""

import threading
import traceback
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

import numpy as np
from lava.magma.compiler.channels.interfaces import Channel, ChannelType
from lava.magma.compiler.channels.pypychannel import CspRecvPort, CspSendPort
from lava.magma.core.process.message_interface_enum import ActorType
from lava.magma.runtime.message_infrastructure.message_infrastructure_interface import MessageInfrastructureInterface
from lava.magma.runtime.runtime import Runtime

from ..network import Array

__all__ = ["ThreadRuntime"]

_END = object()
"""What a queue holds after the end of everything."""


class _Ended(SystemExit):
    """Unwinds a thread whose run is over; Lava catches exceptions, and this is none."""


class _Receiver(CspRecvPort):  # type: ignore[misc]
    """Where the messages of a channel come out, in their order.

    ``observer`` is called when one comes: Lava's selectors, which wait for several channels at once, set it.
    """

    def __init__(self, name: str, shape: tuple[int, ...], dtype: Any, size: int) -> None:
        self._name, self._shape, self._dtype, self._size = name, shape, dtype, size
        self._queue: SimpleQueue[Any] = SimpleQueue()
        self._next: list[Any] = []  # that has been looked at
        self.observer: Callable[[], Any] | None = None

    def put(self, message: Any) -> None:
        self._queue.put(message)
        if (observer := self.observer) is not None:
            observer()

    def start(self) -> None:
        pass

    def join(self) -> None:
        pass

    def probe(self) -> bool:
        return bool(self._next) or not self._queue.empty()

    def peek(self) -> Array:
        if not self._next:
            self._next.append(self._taken())
        message: Array = self._next[0]
        return message

    def recv(self) -> Array:
        return self._next.pop() if self._next else self._taken()

    def _taken(self) -> Array:
        message = self._queue.get()
        if message is _END:
            self._queue.put(_END)
            raise _Ended
        taken: Array = message
        return taken


class _Sender(CspSendPort):  # type: ignore[misc]
    """Where messages go in. Each is copied, as numbers of the channel's type, since whoever sends it goes on with its array.

    It never waits for a place: a runtime service begins no step before all have answered in the one before.
    """

    def __init__(self, name: str, receiver: _Receiver) -> None:
        self._name, self._receiver = name, receiver
        self._shape, self._dtype, self._size = receiver._shape, receiver._dtype, receiver._size
        self.observer = None

    def start(self) -> None:
        pass

    def join(self) -> None:
        pass

    def probe(self) -> bool:
        return True

    def send(self, data: Array) -> None:
        if data.shape != self._shape:
            raise AssertionError(f"{self._name} sends {data.shape} where {self._shape} are read")
        self._receiver.put(np.array(data, self._dtype))


class _Channel(Channel):  # type: ignore[misc]
    """A sender and its receiver; the arguments are those of Lava's own."""

    def __init__(
        self,
        infrastructure: "_Threads",
        source: str,
        target: str,
        shape: tuple[int, ...],
        dtype: Any,
        size: int,
        *_watchdogs: Any,
    ) -> None:
        self._target = _Receiver(target, tuple(shape), dtype, size)
        self._source = _Sender(source, self._target)
        infrastructure.receivers.append(self._target)

    @property
    def src_port(self) -> CspSendPort:
        return self._source

    @property
    def dst_port(self) -> CspRecvPort:
        return self._target


class _Actor:
    """A thread with what Lava asks of its processes.

    Attributes:
        exception: what it stumbled over, and where; None while nothing happened.
        built: gets None when its process model is there, or why it is not.
    """

    def __init__(self, target: Callable[..., None], builder: Any) -> None:
        self.exception: tuple[BaseException, str] | None = None
        self.built: SimpleQueue[Exception | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, args=(target, builder), daemon=True)
        self._thread.start()

    def _run(self, target: Callable[..., None], builder: Any) -> None:
        try:
            target(builder=builder, exception_q=self.built)
        except _Ended:
            pass
        except Exception as error:
            self.exception = error, traceback.format_exc()

    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def join(self) -> None:
        self._thread.join()


class _Threads(MessageInfrastructureInterface):  # type: ignore[misc]
    """Actors that are threads, and channels between them."""

    def __init__(self) -> None:
        self.receivers: list[_Receiver] = []
        self._actors: list[_Actor] = []

    @property
    def actors(self) -> list[_Actor]:
        return self._actors

    def start(self) -> None:
        pass

    def stop(self) -> None:
        """End all threads: each where it waits for its next message."""
        for receiver in self.receivers:
            receiver.put(_END)
        for actor in self._actors:
            actor.join()

    def build_actor(self, target_fn: Callable[..., None], builder: Any, exception_q: Any = None) -> _Actor:
        self._actors.append(_Actor(target_fn, builder))
        return self._actors[-1]

    def channel_class(self, channel_type: ChannelType) -> type[Channel]:
        return _Channel


class ThreadRuntime(Runtime):  # type: ignore[misc]
    """Lava's runtime of a compiled process, with threads in the place of processes.

    Args:
        executable: what ``process.compile`` gives.
    """

    def __init__(self, executable: Any) -> None:
        super().__init__(executable, ActorType.MultiProcessing)

    def _build_message_infrastructure(self) -> None:
        self._messaging_infrastructure = _Threads()

    def _start_ports(self) -> None:
        super()._start_ports()
        # What Lava waits for next. Its own queues, between processes, start threads that never end.
        self.exception_q = [actor.built for actor in self._messaging_infrastructure.actors]

    def end_threads(self) -> None:
        """End them without asking: each ends where it waits for its next message."""
        if self._messaging_infrastructure is not None:
            self._messaging_infrastructure.stop()
