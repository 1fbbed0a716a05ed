"""Tables in comma-separated files."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxcon.tabular._table import Table, TableError, no_column


def read_csv(path: Path, columns: Sequence[str] | None = None) -> Table:
    """Reads a comma-separated table of numbers with one line of names.

    Args:
        path: the file, UTF-8.
        columns: names of those to read; None for all. Others may hold anything.

    Returns:
        A `Table` of finite numbers with distinct names and at least one row.

    Raises:
        TableError: the file is no such table; the message names the line and column.
    """
    names, rows = _read_rows(path)
    wanted = list(names) if columns is None else list(columns)
    for name in wanted:
        if wanted.count(name) > 1:
            raise TableError(f"column {name!r} is asked for twice")
        if name not in names:
            raise TableError(no_column(name, names, path))
    places = [names.index(name) for name in wanted]
    values = [
        [_number(row[place], names[place], line, path) for place in places]
        for line, row in rows
    ]
    return Table(tuple(wanted), np.array(values))


def _read_rows(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Reads the names, and (line number, cells) of the rows that are not blank."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            lines = [
                (reader.line_num, row) for row in reader if any(map(str.strip, row))
            ]
    except FileNotFoundError:
        raise TableError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise TableError(f"{path} is a folder, not a CSV file") from None
    except OSError as error:
        raise TableError(f"{path} cannot be read: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise TableError(f"{path} is not a UTF-8 CSV file: {error}") from None
    if not lines:
        raise TableError(f"{path} is empty")
    names = [name.strip() for name in lines[0][1]]
    if len(names) == 1 and any(mark in names[0] for mark in ";\t"):
        raise TableError(f"{path}: its columns must be separated by commas")
    if all(map(_is_number, names)):
        raise TableError(f"{path}: the first line must hold the columns' names")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise TableError(f"{path}: two columns are called {twice[0]!r}")
    for line, row in lines[1:]:
        if len(row) != len(names):
            raise TableError(
                f"{path}, line {line}: {len(row)} cells where the first line has "
                f"{len(names)}"
            )
    if len(lines) == 1:
        raise TableError(f"{path} has names but no rows")
    return names, lines[1:]


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _number(cell: str, name: str, line: int, path: Path) -> float:
    where = f"{path}, line {line}, column {name!r}"
    if not cell.strip():
        raise TableError(f"{where}: the cell is blank")
    if not _is_number(cell):
        raise TableError(f"{where}: {cell.strip()!r} is not a number")
    if not np.isfinite(float(cell)):
        raise TableError(f"{where}: {cell.strip()} is not a finite number")
    return float(cell)
