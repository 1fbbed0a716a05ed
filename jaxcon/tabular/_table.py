"""Tables of numbers with named columns."""

import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

# Magnitude above which squares overflow in float64, and spread below which they vanish.
LARGEST, LEAST_SPREAD = 1e150, 1e-150


class TableError(ValueError):
    """Error of a table or of its settings, explained in one line."""


class Table(NamedTuple):
    """Table of numbers in named columns.

    Attributes:
        names: one per column.
        values: float64, (rows, columns).
    """

    names: tuple[str, ...]
    values: np.ndarray

    def column(self, name: str) -> np.ndarray:
        """Returns the column of that name, (rows,).

        Raises:
            TableError: there is none.
        """
        return self.values[:, place_of(name, self.names, "the table")]


def place_of(name: str, names: Sequence[str], where: Any) -> int:
    """Returns the place of a column among the names of a table.

    Args:
        name: of the column.
        names: all names.
        where: what has these columns, for the message.

    Returns:
        From 0.

    Raises:
        TableError: there is no such column.
    """
    if name not in names:
        raise TableError(no_column(name, names, where))
    return names.index(name)


def no_column(name: str, names: Sequence[str], where: Any) -> str:
    return f"{where} has no column {name!r}; it has {listed(names)}"


def listed(names: Sequence[str]) -> str:
    """Lists names, the first twenty of many."""
    more = len(names) - 20
    shown = ", ".join(map(repr, names[:20]))
    return f"{shown} and {more} more" if more > 0 else shown


def is_one_line(text: str) -> bool:
    """Returns whether a text can be printed: it has no control character in it."""
    return not any(
        ord(c) < 32 or "\x7f" <= c <= "\x9f" or c in "\u2028\u2029" for c in text
    )


def check_path(name: str, path: Any) -> None:
    """Refuses a path that no file can have.

    Args:
        name: of the argument, for the message.
        path: as the caller passed it.

    Raises:
        TypeError: it is no path.
        TableError: it is empty, or holds a NUL character or bytes that are not UTF-8.
    """
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"{name} must be a path, got {path!r}")
    text = os.fspath(path)
    if "\0" in text:
        raise TableError(f"{name} {text!r} is no path: it holds a NUL character")
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        raise TableError(f"{name} {text!r} is no path: it is not UTF-8")
    if not text:
        raise TableError(f"{name} must be a path, got ''")
