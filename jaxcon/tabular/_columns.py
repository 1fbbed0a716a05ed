"""Columns of comma-separated files: numbers or categories, some of them missing."""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxcon.tabular._csv import DECIMAL, File, fault_of
from jaxcon.tabular._table import LARGEST, TableError

# Cells that hold nothing.
MISSING = frozenset(["", "NA", "N/A", "NaN", "nan", "null", "NULL"])
# Programs that know no missing whole numbers write 1 as 1.0.
_WHOLE = re.compile(r"(-?\d+)\.0+")
# Distinct texts of a column up to which equal ones are kept once.
_DISTINCT = 2**16


class Columns(NamedTuple):
    """Columns of a file.

    Attributes:
        names: one per column.
        columns: arrays (rows,): float64 with NaN where a number is missing, or objects:
            text, None where it is missing.
    """

    names: tuple[str, ...]
    columns: tuple[np.ndarray, ...]


def parse_columns(
    content: bytes,
    path: Any,
    columns: Sequence[str] | None = None,
    categorical: Sequence[str] = (),
    numbers: Sequence[str] = (),
) -> Columns:
    """Reads a table whose columns hold numbers or categories, and may lack some.

    A column without any number holds categories; one with numbers and texts is refused.

    Args:
        content: the bytes of the file.
        path: the file's, for messages.
        columns: names of those to read; None for all.
        categorical: names of columns that hold categories, whatever their cells are.
        numbers: names of columns that hold numbers, even if all cells are texts.

    Returns:
        `Columns` of at least one row.

    Raises:
        TypeError: `columns` is no list of names.
        TableError: the file is no such table; the message names the line and column.
    """
    file = File(content, path)
    names, places = file.header(columns)
    found = [
        _Column(names[place], names[place] in categorical, names[place] in numbers)
        for place in places
    ]
    rows = 0
    for before, chunk in file.chunks():
        kept = range(before, before + len(chunk))
        usual = set(map(len, chunk)) == {len(names)}
        if not usual or any(not row[0] for row in chunk):
            kept = [n for n, row in zip(kept, chunk) if any(map(str.strip, row))]
            chunk = [chunk[number - before] for number in kept]
            for number, row in zip(kept, chunk):
                if len(row) != len(names):
                    raise TableError(
                        f"{path}, line {file.line_of(number)}: {len(row)} cells where "
                        f"the first line has {len(names)}"
                    )
        rows += len(chunk)
        cells = list(zip(*chunk))
        for column, place in zip(found, places):
            if chunk:
                column.add(cells[place], kept)
        faults = [column.fault for column in found if column.fault is not None]
        if faults:
            number, name, why = min(faults)
            raise TableError(
                f"{path}, line {file.line_of(number)}, column {name!r}: {why}"
            )
    if not rows:
        raise TableError(f"{path} has names but no rows")
    return Columns(
        tuple(column.name for column in found),
        tuple(column.joined() for column in found),
    )


class _Column:
    """Column that is read some cells at a time.

    Args:
        name: of the column.
        category: whether it holds categories, whatever its cells are.
        number: whether it holds numbers, even if all cells are texts.
    """

    def __init__(self, name: str, category: bool, number: bool):
        self.name, self._category, self._number = name, category, number
        self._parts: list[np.ndarray] = []
        self._text: tuple[int, str] | None = None
        self._odd: tuple[int, str] | None = None
        self._known: dict[str, str | None] = dict.fromkeys(MISSING)

    @property
    def fault(self) -> tuple[int, str, str] | None:
        """Returns the row, the column and the words of what is wrong with it, or None."""
        found = self._odd or (self._text if self._number else None)
        if found is None:
            return None
        row, cell = found
        hint = (
            "" if self._category else "; if it holds categories, --categorical names it"
        )
        return row, self.name, fault_of(cell) + hint

    def add(self, cells: Sequence[str], rows: Sequence[int]) -> None:
        """Adds cells, which stand in rows of these numbers."""
        values = None if self._category else _numbers(cells)
        if values is None:
            known = self._known
            stripped = [cell.strip() for cell in cells]
            if self._category:
                stripped = [_WHOLE.sub(r"\1", cell) for cell in stripped]
            else:
                self._look(stripped, cells, rows)
            if len(known) > _DISTINCT:
                known.clear()
                known.update(dict.fromkeys(MISSING))
            values = np.array([known.setdefault(one, one) for one in stripped], object)
        elif not self._number:
            self._number = not np.all(np.isnan(values))
        self._parts.append(values)

    def joined(self) -> np.ndarray:
        """Joins all cells that were added."""
        if self._number or all(part.dtype == float for part in self._parts):
            return np.concatenate([np.asarray(part, float) for part in self._parts])
        # Parts of nothing but missing numbers stand among texts.
        blank = [np.full(len(part), None) for part in self._parts]
        return np.concatenate(
            [b if p.dtype == float else p for p, b in zip(self._parts, blank)]
        )

    def _look(
        self, stripped: list[str], cells: Sequence[str], rows: Sequence[int]
    ) -> None:
        """Finds the first text, and the first number that is out of range."""
        for row, one, cell in zip(rows, stripped, cells):
            if one in MISSING:
                continue
            why = fault_of(cell)
            if not why:
                self._number = True
            elif not why.endswith("is not a number"):
                self._odd = self._odd or (row, cell)
            elif self._text is None:
                self._text = row, cell


def _numbers(cells: Sequence[str]) -> np.ndarray | None:
    """Converts cells to numbers, missing ones to NaN; None where one is no number."""
    lost = not MISSING.isdisjoint(cells)
    kept = [cell for cell in cells if cell not in MISSING] if lost else cells
    if "".join(kept).encode().translate(None, DECIMAL):
        return None
    try:
        if lost:
            values = [np.nan if cell in MISSING else float(cell) for cell in cells]
        else:
            values = [*map(float, cells)]
    except ValueError:  # of a cell of spaces, or one like 1-2
        return None
    found = np.array(values)
    return found if (np.abs(found[~np.isnan(found)]) <= LARGEST).all() else None
