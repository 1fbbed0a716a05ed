"""The `jaxcon` command: fit, predict and example.

Bad input ends the command with one line and exit code 2. After Ctrl-C or SIGTERM the
command saves what training had reached and exits with code 130 or 143.
"""

import os
import signal
import sys
import warnings
from collections.abc import Sequence
from typing import NoReturn

from jaxcon.cli._app import dispatch, say
from jaxcon.tabular import TableError
from jaxcon.training import NonFiniteError

__all__ = ["main"]


def __dir__() -> list[str]:
    """Lists the public names."""
    return __all__


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Runs the command.

    Args:
        arguments: those of the command line where None.

    Raises:
        SystemExit: always: 0, 2 (bad input), 1 (a fit that went wrong) or 130 (Ctrl-C).
    """
    try:
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_: say(str(message))
            dispatch(arguments)
    except (TableError, ImportError) as error:
        _leave(str(error), 2)
    except NonFiniteError as error:
        _leave(str(error), 1)
    except BrokenPipeError:
        # `| head` has closed the pipe; nothing may be flushed into it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt as stop:
        number = getattr(stop, "signal", signal.SIGINT)
        _leave(str(stop) or "stopped by Ctrl-C", 128 + number)
    sys.exit(0)


def _leave(message: str, code: int) -> NoReturn:
    say(message)
    sys.exit(code)
