"""Columns of a table in memory: arrays, lists of rows and data frames read alike."""

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

import numpy as np

from jaxcon._checks import check_each, described


class Frame(NamedTuple):
    """Columns of a table.

    Attributes:
        names: one per column.
        columns: arrays (rows,): of float64, or of objects where cells are no numbers.
        levels: by name, the levels of columns whose dtype lists them.
        ordered: names of columns whose levels the dtype declares to be ordered.
    """

    names: tuple[str, ...]
    columns: tuple[np.ndarray, ...]
    levels: Mapping[str, tuple[Any, ...]]
    ordered: tuple[str, ...]

    def followed_by(self, other: "Frame") -> "Frame":
        """Appends the rows of a frame with the same columns."""
        pairs = zip(self.columns, other.columns)
        joined = tuple(
            np.concatenate([a, b] if a.dtype == b.dtype else [a.astype(object), b])
            for a, b in pairs
        )
        return self._replace(columns=joined)

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.columns[0]) if self.columns else 0


def read_frame(x: Any, names: Sequence[str] | None = None) -> Frame:
    """Reads the columns of an array, a list of rows or a data frame.

    Args:
        x: (rows, columns): a NumPy array, nested lists, or a frame of pandas or polars.
        names: of the columns of an array; ``x0, x1, ...`` unless given.

    Returns:
        A `Frame`.

    Raises:
        TypeError: `x` is no table.
        ValueError: it has no column, or no two dimensions.
    """
    if hasattr(x, "columns") and hasattr(x, "__getitem__"):
        return _of_frame(x)
    values = as_table(x)
    if values.shape[1] == 0:
        raise ValueError(
            f"0 feature(s) (shape={values.shape}) while a minimum of 1 is required."
        )
    if names is not None:
        check_each("names", names, str, "text")
        if len(names) != values.shape[1]:
            raise ValueError(
                f"names has {len(names)} for {values.shape[1]} columns of X"
            )
    given = names or [f"x{place}" for place in range(values.shape[1])]
    columns = tuple(_plain(one, str(name)) for one, name in zip(values.T, given))
    return Frame(_distinct(map(str, given)), columns, {}, ())


def as_table(x: Any) -> np.ndarray:
    """Converts nested lists to an array in which numbers beside text stay numbers.

    Args:
        x: nested lists, or an array.

    Returns:
        An array (rows, columns).

    Raises:
        TypeError: the lists are of unequal length, or hold no numbers or text.
        ValueError: there are no two dimensions.
    """
    try:
        values = np.asarray(x)
        if values.dtype.kind in "US" and not hasattr(x, "dtype"):
            values = np.asarray(x, object)
    except ValueError:
        raise TypeError("X must be a table, with rows of one length") from None
    if values.dtype.kind == "c":
        raise ValueError("Complex data not supported: X")
    if values.ndim != 2:
        raise ValueError(
            f"X must have two dimensions, (rows, columns), got shape {values.shape}. "
            "Reshape your data by .reshape(-1, 1) if it has a single feature or by "
            ".reshape(1, -1) if it is a single sample"
        )
    if values.dtype.kind not in "biufOUS":
        raise TypeError(f"X must hold numbers or categories, got {described(values)}")
    return values


def _distinct(names: Iterable[str]) -> tuple[str, ...]:
    """Refuses a name of two columns."""
    every = tuple(names)
    twice = [one for place, one in enumerate(every) if one in every[:place]]
    if twice:
        raise ValueError(f"X has two columns of the name {twice[0]!r}")
    return every


def _of_frame(x: Any) -> Frame:
    """Reads a data frame of pandas or polars column by column."""
    names = _distinct(map(str, x.columns))
    if not names:
        raise ValueError("X has no column")
    columns, levels, ordered = [], {}, []
    for name, label in zip(names, x.columns):
        series = x[label]
        known = _levels_of(series)
        if known is not None:
            levels[name] = known[0]
            ordered += [name] if known[1] else []
            columns.append(np.asarray(series.to_numpy(), object))
        else:
            columns.append(_plain(np.asarray(series.to_numpy()), name))
    return Frame(names, tuple(columns), levels, tuple(ordered))


def _levels_of(series: Any) -> tuple[tuple[Any, ...], bool] | None:
    """Returns the levels of a column of categories and their order, or None."""
    dtype = series.dtype
    if hasattr(dtype, "ordered"):  # of pandas
        return tuple(_scalar(one) for one in dtype.categories), bool(dtype.ordered)
    if str(dtype).startswith("Enum"):  # of polars
        return tuple(dtype.categories.to_list()), True
    if str(dtype).startswith("Categorical"):
        return scalar_levels(np.asarray(series.to_numpy(), object)), False
    return None


def _plain(column: np.ndarray, name: str) -> np.ndarray:
    """Converts a column to float64 if all its cells are numbers, else to objects."""
    if column.dtype.kind in "biuf":
        return column.astype(float)
    if column.dtype.kind in "mMcV" or column.ndim != 1:
        raise TypeError(
            f"X: column {name!r} holds {column.dtype.name}; give numbers, e.g. days"
        )
    column = np.asarray(column, object)
    for row, cell in enumerate(column):
        if not (isinstance(cell, (str, bytes)) or _is_number(cell)):
            raise TypeError(
                f"X: column {name!r}, row {row} holds {described(cell)}; a cell must be a "
                "number or text"
            )
    if all(_is_number(cell) for cell in column):
        return np.array([np.nan if is_missing(one) else one for one in column], float)
    return column


def _is_number(cell: Any) -> bool:
    kinds = (int, float, np.integer, np.floating, bool, np.bool_, Decimal)
    return isinstance(cell, kinds) or is_missing(cell)


def is_missing(cell: Any) -> bool:
    """Returns whether a cell holds nothing: None, NaN, pandas' NA or empty text."""
    if cell is None or type(cell).__name__ in ("NAType", "NaTType"):
        return True
    if isinstance(cell, str):
        return cell == ""
    return isinstance(cell, (float, np.floating)) and cell != cell


def _scalar(value: Any) -> Any:
    """Converts a NumPy scalar to Python's, which JSON and equality know."""
    return value.item() if isinstance(value, np.generic) else value


def scalar_levels(column: np.ndarray) -> tuple[Any, ...]:
    """Returns the distinct cells of a column in their order, missing ones left out.

    Args:
        column: (rows,).

    Returns:
        Numbers in numerical, text in alphabetical order, numbers first, others last.
    """
    found = {_scalar(cell) for cell in column if not is_missing(cell)}
    kinds = {kind: "" for kind in (bool, int, float)} | {str: " "}
    names = {one: kinds.get(type(one), type(one).__name__) for one in found}
    return tuple(sorted(found, key=lambda one: (names[one], one)))
