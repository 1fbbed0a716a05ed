"""Ctrl-C and SIGTERM while a run lasts."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self


class Terminated(KeyboardInterrupt):
    """SIGTERM, which a scheduler sends before it kills."""

    signal = signal.SIGTERM


# What Python does with each, where the program does not handle it.
_USUAL = {
    signal.SIGINT: signal.default_int_handler,
    signal.SIGTERM: signal.SIG_DFL,
}


class Signals:
    """Context in which both raise, but never while something is saved.

    A save that is cut short leaves threads behind that keep the process from ending.
    Signals that the program handles itself are left to it.

    Attributes:
        received: the first of them, None before.
        deferred: set while saving.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self.deferred = False

    def __enter__(self) -> Self:
        # Python sets handlers in its main thread only.
        if threading.current_thread() is threading.main_thread():
            for number, usual in _USUAL.items():
                if signal.getsignal(number) == usual:
                    signal.signal(number, self._stop)
        return self

    def __exit__(self, *_: Any) -> None:
        for number, usual in _USUAL.items():
            if signal.getsignal(number) == self._stop:
                signal.signal(number, usual)

    @contextmanager
    def saving(self) -> Iterator[None]:
        """Lets what is done inside end before a signal raises."""
        self.deferred = True
        # After an error it stays so: what was reached is saved once more.
        yield
        self.deferred = False
        self.check()

    def check(self) -> None:
        """Raises what was swallowed, e.g. by a destructor that it was raised in."""
        if self.received == signal.SIGTERM:
            raise Terminated("stopped by SIGTERM")
        if self.received is not None:
            raise KeyboardInterrupt

    def _stop(self, number: int, _: Any) -> None:
        self.received = self.received or number
        if not self.deferred:
            self.check()
