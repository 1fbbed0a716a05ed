"""Tables of rows as plain text and as HTML, for objects that show themselves."""

from collections.abc import Mapping, Sequence
from html import escape
from numbers import Integral, Real
from typing import Any


def text_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Returns rows as aligned plain text: names, a rule, one line per row.

    Args:
        rows: their keys name the columns, in the order of first appearance; a key that a
            row lacks leaves an empty cell. Numbers that are no integers have four digits.

    Returns:
        Lines without a final line break; "" for no rows.

    Example:
        >>> from jaxcon._display import text_table
        >>> print(text_table([{"name": "sum", "gap": 0.25}, {"name": "order", "gap": 0}]))
        name    gap
        -----  ----
        sum    0.25
        order     0
    """
    if not rows:
        return ""
    columns = _columns(rows)
    cells = [columns, *([_cell(row.get(c, "")) for c in columns] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells)]
    right = [_numeric(rows, column) for column in columns]
    cells.insert(1, ["-" * width for width in widths])
    return "\n".join(
        "  ".join(
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(line, widths, right)
        ).rstrip()
        for line in cells
    )


def html_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Returns rows as an HTML table, its cells escaped.

    Args:
        rows: as `text_table` takes them.

    Returns:
        One `table` element; "" for no rows.

    Example:
        >>> from jaxcon._display import html_table
        >>> html_table([{"rule": "a < b"}]).count("a &lt; b")
        1
    """
    if not rows:
        return ""
    columns = _columns(rows)
    styles = [
        "text-align: right" if _numeric(rows, column) else "text-align: left"
        for column in columns
    ]
    body = [[_cell(row.get(column, "")) for column in columns] for row in rows]
    head, *lines = (
        "".join(
            f'<{tag} style="{style}">{escape(cell)}</{tag}>'
            for cell, style in zip(line, styles)
        )
        for tag, line in [("th", columns), *(("td", line) for line in body)]
    )
    return (
        f"<table><thead><tr>{head}</tr></thead><tbody>"
        + "".join(f"<tr>{line}</tr>" for line in lines)
        + "</tbody></table>"
    )


def _columns(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(key for row in rows for key in row))


def _cell(value: Any) -> str:
    """Returns a value as one line of text, real numbers to four digits."""
    value = _scalar(value)
    if isinstance(value, Real) and not isinstance(value, Integral):
        return f"{float(value):.4g}"
    return " ".join(str(value).split())


def _scalar(value: Any) -> Any:
    """Returns the number in an array of no axes, and anything else as it is."""
    return value.item() if getattr(value, "shape", None) == () else value


def _numeric(rows: Sequence[Mapping[str, Any]], column: str) -> bool:
    """Returns whether a column holds real numbers alone."""
    values = [_scalar(row[column]) for row in rows if column in row]
    return all(isinstance(v, Real) and not isinstance(v, bool) for v in values)
