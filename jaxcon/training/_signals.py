"""SIGTERM as an exception while a run lasts."""

import signal
import threading
from typing import Any, Self


class Terminated(KeyboardInterrupt):
    """SIGTERM, which a scheduler sends before it kills."""

    signal = signal.SIGTERM


class Signals:
    """Context in which SIGTERM raises `Terminated`, unless the program handles it.

    Attributes:
        received: whether it was.
        deferred: set while saving, which no second signal shall disturb.
    """

    def __init__(self) -> None:
        self.received = self.deferred = False

    def __enter__(self) -> Self:
        # Python sets handlers in its main thread only.
        main = threading.current_thread() is threading.main_thread()
        if main and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
            signal.signal(signal.SIGTERM, self._stop)
        return self

    def __exit__(self, *_: Any) -> None:
        if signal.getsignal(signal.SIGTERM) == self._stop:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def check(self) -> None:
        """Raises what was swallowed, e.g. by a destructor that it was raised in."""
        if self.received:
            raise Terminated("stopped by SIGTERM")

    def _stop(self, *_: Any) -> None:
        self.received = True
        if not self.deferred:
            self.check()
