"""Tables of numbers with named columns."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np


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
        """Returns the column of that name, (rows,)."""
        return self.values[:, self.names.index(name)]


def no_column(name: str, names: Sequence[str], where: Any) -> str:
    return f"{where} has no column {name!r}; it has {', '.join(map(repr, names))}"
