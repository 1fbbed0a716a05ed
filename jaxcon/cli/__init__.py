"""The `jaxcon` command: fit, predict and example.

Bad input ends the command with one line and exit code 2. After Ctrl-C or SIGTERM the
command saves what training had reached and exits with code 130 or 143; the same command
with ``--resume`` goes on from there, and ends with the same parameters.
"""

import contextlib
import os
import signal
import sys
import warnings
from collections.abc import Sequence
from typing import NoReturn

from jaxcon.cli._app import dispatch
from jaxcon.cli._words import say
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
        SystemExit: always: 0, 2 (bad input), 1 (a fit that went wrong, or a file that
            could not be written) or 130 (Ctrl-C).
    """
    # A terminal that is not UTF-8 gets its letters escaped.
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError):
            stream.reconfigure(errors="backslashreplace")  # pyright: ignore[reportAttributeAccessIssue]
    try:
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_: say(str(message))
            dispatch(sys.argv[1:] if arguments is None else arguments)
            sys.stdout.flush()
    except (TableError, ImportError) as error:
        _leave(str(error), 2)
    except NonFiniteError as error:
        _leave(str(error), 1)
    except BrokenPipeError:
        _discard_stdout()  # `| head` has closed the pipe
    except OSError as error:
        _discard_stdout()
        where = "the output" if error.filename is None else f"{error.filename}"
        _leave(f"{where} cannot be written: {error.strerror or error}", 1)
    except KeyboardInterrupt as stop:
        number = getattr(stop, "signal", signal.SIGINT)
        _leave(str(stop) or "stopped by Ctrl-C", 128 + number)
    sys.exit(0)


def _discard_stdout() -> None:
    """Sends what is left to print nowhere, so that it is not tried again at exit."""
    with contextlib.suppress(OSError, ValueError):  # one that is no file
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _leave(message: str, code: int) -> NoReturn:
    say(message)
    sys.exit(code)
