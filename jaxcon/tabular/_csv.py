"""Tables in comma-separated files."""

import csv
import hashlib
import io
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from jaxcon._checks import check_each
from jaxcon.tabular._table import (
    LARGEST,
    Table,
    TableError,
    check_path,
    is_one_line,
    no_column,
)

# Bytes read, and cells converted, at a time.
_BLOCK, _CELLS = 2**20, 2**14
# Cells made of these and taken by `float` mean to people what they mean to Python; its
# 1_000, its digits of other alphabets and its infinities do not.
DECIMAL = b"0123456789+-.eE \t"
# The name that pandas gives to a column without one.
_NAMELESS = re.compile(r"Unnamed: \d+(_level_\d+|\.\d+)?")


def read_csv(path: Path, columns: Sequence[str] | None = None) -> Table:
    """Reads a comma-separated table of numbers with one line of names.

    Args:
        path: the file, UTF-8. It is read once, so that it may be a pipe.
        columns: names of those to read; None for all. Others may hold anything.

    Returns:
        A `Table` of finite numbers with distinct names and at least one row.

    Raises:
        TableError: the file is no such table; the message names the line and column.
    """
    return parse_csv(read_bytes(path), path, columns)


def read_bytes(path: Path) -> bytes:
    """Reads a file of text once, from its beginning to its end.

    Args:
        path: the file, or a pipe.

    Returns:
        Its bytes.

    Raises:
        TableError: there is no file, it cannot be read, or it is binary.
    """
    check_path("the file", path)
    blocks = []
    try:
        with open(path, "rb") as file:
            while block := file.read(_BLOCK):
                if b"\0" in block:  # a device of zeros would have no end
                    line = sum(one.count(b"\n") for one in blocks)
                    line += block[: block.index(b"\0")].count(b"\n") + 1
                    raise TableError(
                        f"{path} is not a UTF-8 CSV file: line {line} holds a NUL "
                        "character"
                    )
                blocks.append(block)
    except FileNotFoundError:
        raise TableError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise TableError(f"{path} is a folder, not a CSV file") from None
    except OSError as error:
        raise TableError(f"{path} cannot be read: {error.strerror}") from None
    return b"".join(blocks)


def digest(content: bytes) -> str:
    """Computes the SHA-256 hash of a file's bytes, in hexadecimal.

    Args:
        content: the bytes.

    Returns:
        64 characters.
    """
    return hashlib.sha256(content).hexdigest()


def parse_csv(content: bytes, path: Any, columns: Sequence[str] | None = None) -> Table:
    """Reads a table as `read_csv` does, from the bytes of its file.

    Args:
        content: the bytes.
        path: the file's, for messages.
        columns: names of those to read; None for all.

    Returns:
        A `Table`.

    Raises:
        TypeError: `columns` is no list of names.
        TableError: as in `read_csv`.
    """
    file = File(content, path)
    names, places = file.header(columns)
    parts = [
        _numbers(chunk, before, names, places, file) for before, chunk in file.chunks()
    ]
    values = np.concatenate([np.zeros((0, len(places))), *parts])
    if not len(values):
        raise TableError(f"{path} has names but no rows")
    return Table(tuple(names[place] for place in places), values)


class File:
    """Bytes of a file, and its rows.

    Attributes:
        path: the file's, for messages.
        read: the number of rows that `rows` has read.
    """

    def __init__(self, content: bytes, path: Any):
        self._content, self.path, self.read = content, path, 0
        self._rows, self._names = self.rows(), []

    def header(self, columns: Sequence[str] | None) -> tuple[list[str], list[int]]:
        """Reads the line of names.

        Args:
            columns: names of those to read; None for all.

        Returns:
            All names, and the places of the columns to read.

        Raises:
            TableError: the names are not those of a table, or lack a column.
        """
        first = next((row for row in self._rows if any(map(str.strip, row))), None)
        if first is None:
            raise TableError(f"{self.path} is empty")
        self._names = [name.strip() for name in first]
        _check_names(self._names, self.path)
        return self._names, _places(self._names, columns, self.path)

    def chunks(self) -> Iterator[tuple[int, list[list[str]]]]:
        """Reads the rows after the names, some at a time.

        Yields:
            The number of rows before them, blank ones too, and their cells.
        """
        before = self.read
        while chunk := list(islice(self._rows, 1 + _CELLS // len(self._names))):
            yield before, chunk
            before = self.read

    def rows(self) -> Iterator[list[str]]:
        """Reads the rows' cells."""
        reader = self._reader()
        try:
            for row in reader:
                self.read += 1
                yield row
        except UnicodeDecodeError as error:
            raise TableError(f"{self.path} is not a UTF-8 CSV file: {error}") from None
        except csv.Error as error:
            fault = "a quote is never closed" if "end of data" in str(error) else error
            raise TableError(
                f"{self.path} is not a UTF-8 CSV file: line {reader.line_num}: {fault}"
            ) from None

    def line_of(self, row: int) -> int:
        """Returns the line on which a row ends, which quoted line breaks move."""
        reader = self._reader()
        next(islice(reader, row, None))
        return reader.line_num

    def _reader(self) -> Any:
        raw = io.BytesIO(self._content)
        return csv.reader(
            io.TextIOWrapper(raw, encoding="utf-8-sig", newline=""), strict=True
        )


def _check_names(names: list[str], path: Any) -> None:
    """Refuses names by which columns cannot be told apart or printed."""
    if len(names) == 1 and any(mark in names[0] for mark in ";\t"):
        raise TableError(f"{path}: its columns must be separated by commas")
    if all(map(_is_number, names)):
        raise TableError(f"{path}: the first line must hold the columns' names")
    for place, name in enumerate(names, 1):
        if not is_one_line(name):
            raise TableError(
                f"{path}: the name of column {place}, {name[:40]!r}, holds a control "
                "character"
            )
    counts = Counter(names)
    for name in names:
        if name and counts[name] > 1:
            raise TableError(f"{path}: two columns are called {name!r}")


def _places(names: list[str], columns: Sequence[str] | None, path: Any) -> list[int]:
    """Returns where the columns are that are to be read."""
    if columns is None:
        for place, name in enumerate(names, 1):
            if not name or _NAMELESS.fullmatch(name):
                raise TableError(
                    f"{path}: column {place} has no name; if it holds the rows' numbers, "
                    "name the columns to read, else name it"
                )
        return list(range(len(names)))
    check_each("columns", columns, str, "names of columns")
    if not columns:
        raise TypeError("columns must be a list of names, got none")
    place_of = {name: place for place, name in enumerate(names) if name}
    counts = Counter(columns)
    for name in columns:
        if counts[name] > 1:
            raise TableError(f"column {name!r} is asked for twice")
        if name not in place_of:
            raise TableError(no_column(name, list(place_of), path))
    return [place_of[name] for name in columns]


def _numbers(
    chunk: list[list[str]],
    before: int,
    names: list[str],
    places: list[int],
    file: File,
) -> np.ndarray:
    """Converts some rows to numbers, the columns at `places` of each.

    Args:
        chunk: cells of rows that follow one another.
        before: the number of rows in the file before them.
        names: of all columns.
        places: of the columns to read.
        file: where they stand, for messages.

    Returns:
        (rows that are not blank, places).
    """
    # Usual rows are converted a column at a time; else the first fault is looked for.
    if set(map(len, chunk)) == {len(names)}:
        columns = list(zip(*chunk))
        cells = [columns[place] for place in places]
        if not any("".join(one).encode().translate(None, DECIMAL) for one in cells):
            try:
                values = np.array([[*map(float, one)] for one in cells]).T
            except ValueError:
                values = np.array(np.inf)  # of a blank cell, or one like 1-2
            if (np.abs(values) <= LARGEST).all():
                return values
    kept = []
    for number, row in enumerate(chunk, before):
        if any(map(str.strip, row)):
            fault = _fault(row, names, places)
            if fault:
                raise TableError(f"{file.path}, line {file.line_of(number)}{fault}")
            kept.append([float(row[place]) for place in places])
    return np.array(kept).reshape(len(kept), len(places))


def _fault(row: list[str], names: list[str], places: list[int]) -> str:
    """Returns what is wrong with a row, to follow its line's number; "" if nothing is."""
    if len(row) != len(names):
        return f": {len(row)} cells where the first line has {len(names)}"
    for place in places:
        fault = fault_of(row[place])
        if fault:
            return f", column {names[place]!r}: {fault}"
    return ""


def fault_of(cell: str) -> str:
    """Returns why a cell is no number of a table.

    Args:
        cell: as it stands in the file.

    Returns:
        A few words; "" if it is one.
    """
    cell = cell.strip(" \t")
    shown = cell if len(cell) <= 40 else cell[:40] + "..."
    if not cell.strip():
        return "the cell is blank"
    # Not 1_000, nor digits of another alphabet, which `float` takes.
    usual = cell.isascii() and "_" not in cell and cell == cell.strip()
    if not usual or not _is_number(cell):
        return f"{shown!r} is not a number"
    if not np.isfinite(float(cell)):
        return f"{shown} is not a finite number"
    if abs(float(cell)) > LARGEST:
        return f"{shown} is too large; {LARGEST:g} is the most"
    return ""


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
