"""SIGTERM as an exception, while a run lasts."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Terminated(KeyboardInterrupt):
    """SIGTERM: what a scheduler sends before it kills."""


@contextmanager
def sigterm_raises() -> Iterator[None]:
    """Lets SIGTERM raise `Terminated` inside, unless the program has its own answer to it.

    Yields:
        Nothing.
    """
    # Python sets handlers in its main thread only.
    ours = threading.current_thread() is threading.main_thread()
    if not (ours and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL):
        yield
        return

    def stop(*_: Any) -> None:
        # One is enough: a second would disturb the saving that the first one caused.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise Terminated

    signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
