"""The `jaxcon` command: fit, predict and example.

`fit` fits an ensemble of networks under shape rules; with ``--method`` or ``--compare``,
one network by methods of constrained training.

==== ======================================================================
code meaning
==== ======================================================================
0    done, and every rule holds
1    a fit went wrong, or a file could not be written
2    bad input, explained in one line
3    done, but a search found that a rule does not hold
130  stopped by Ctrl-C; 143: by SIGTERM
==== ======================================================================

A run that was stopped is saved, whatever stopped it; the same command with ``--resume`` and
its folder as ``--out`` goes on from there, and ends with the same parameters.
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

__all__ = ["main"]


def __dir__() -> list[str]:
    """Lists the public names."""
    return __all__


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Runs the command.

    Args:
        arguments: those of the command line where None.

    Raises:
        SystemExit: always, with the codes above.
    """
    # A terminal that is not UTF-8 gets its letters escaped.
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError):
            stream.reconfigure(errors="backslashreplace")  # pyright: ignore[reportAttributeAccessIssue]
    try:
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_: say(str(message))
            code = dispatch(sys.argv[1:] if arguments is None else arguments)
            sys.stdout.flush()
    except (TableError, ImportError) as error:
        _leave(str(error), 2)
    except FloatingPointError as error:
        _leave(str(error), 1)
    except BrokenPipeError:
        _discard_stdout()  # `| head` has closed the pipe
        code = 0
    except OSError as error:
        _discard_stdout()
        where = "the output" if error.filename is None else f"{error.filename}"
        _leave(f"{where} cannot be written: {error.strerror or error}", 1)
    except KeyboardInterrupt as stop:
        number = getattr(stop, "signal", signal.SIGINT)
        _leave(str(stop) or "stopped by Ctrl-C", 128 + number)
    sys.exit(code)


def _discard_stdout() -> None:
    """Sends what is left to print nowhere, so that it is not tried again at exit."""
    with contextlib.suppress(OSError, ValueError):  # one that is no file
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _leave(message: str, code: int) -> NoReturn:
    say(message)
    sys.exit(code)
