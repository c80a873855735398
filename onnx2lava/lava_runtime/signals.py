"""Ctrl-C and SIGTERM while another library holds processes and shared memory that must not outlive this one."""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

from ..errors import LavaRunError

__all__ = ["deferred_signals"]


class _Interrupted(BaseException):
    """Unwinds to where the signal's own handler may take over."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum


@contextlib.contextmanager
def deferred_signals() -> Iterator[Callable[[], None]]:
    """Give a function that ends the block if a signal has come; until it is called, signals wait.

    Between two calls, processes may be started without one being lost: an exception out of a signal handler could come between
    the fork and the line that remembers the child. Whoever is not patient sends a second signal, which ends the block at once.
    Processes forked inside the block ignore both signals, since whoever forked them ends them. Afterwards the signal does what it
    would have done without the block, except that SIGTERM, where nobody handles it, raises ``SystemExit(143)`` so that callers
    may tidy up, too.

    Raises:
        SystemExit: SIGTERM came.
        KeyboardInterrupt: Ctrl-C came, and Python's own handler was there.
        LavaRunError: a handler of the caller took the signal and returned.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None  # signals reach the main thread alone
        return
    owner = os.getpid()
    received: list[int] = []

    def remember(signum: int, _frame: FrameType | None) -> None:
        if os.getpid() != owner:
            if os.getppid() != owner:
                os._exit(128 + signum)
        elif received:
            raise _Interrupted(signum)
        else:
            received.append(signum)

    def check() -> None:
        if received:
            raise _Interrupted(received[0])

    handlers = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    # What is ignored stays ignored; None is a handler that Python cannot put back.
    taken = [each for each, handler in handlers.items() if handler not in (signal.SIG_IGN, None)]
    try:
        try:
            for each in taken:
                signal.signal(each, remember)
            yield check
        finally:
            for each in taken:
                signal.signal(each, handlers[each])
    except _Interrupted as interruption:
        _deliver(interruption.signum)
        raise LavaRunError(f"The run was stopped by the signal {interruption.signum}.") from None
    if received:
        _deliver(received[0])


def _deliver(signum: int) -> None:
    if signal.getsignal(signum) is signal.SIG_DFL:
        raise SystemExit(128 + signum)
    try:
        signal.raise_signal(signum)
    except BaseException as error:
        raise error from None  # what the block unwound with is nobody's business
