"""Tables and figures of a comparison of methods."""

import csv
import os
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxcon._checks import check_array, check_each, check_number, check_type
from jaxcon.comparison import MethodEvaluation
from jaxcon.constraints import named
from jaxcon.training import FitResult

__all__ = [
    "Curve",
    "Row",
    "Trace",
    "csv_text",
    "markdown",
    "new_figure",
    "plot_curves",
    "plot_history",
    "plot_trade_off",
    "rows",
    "summary",
    "trace",
    "write_csv",
]


def __dir__() -> list[str]:
    """Lists the public names."""
    return __all__


Row = dict[str, str | float]


def rows(outcomes: Sequence[MethodEvaluation]) -> list[Row]:
    """Returns one row per method: accuracy, violations, multipliers, KKT, seconds.

    Args:
        outcomes: the methods' evaluations on one problem.

    Returns:
        Rows with the same keys. Violations are the largest over all constraints;
        "multipliers" is the largest constraint's sum over its points; "stationarity" and
        "slackness" (the largest) are KKT residuals of the trained problem.

    Raises:
        TypeError: `outcomes` are no evaluations.
    """
    _check_outcomes(outcomes)
    return [
        {
            "method": outcome.name,
            **outcome.scores,
            "violation (search)": _largest(outcome.searched.values()),
            "violation (random)": _largest(outcome.random.values()),
            "multipliers": _largest(map(abs, outcome.multipliers.values())),
            "stationarity": float(outcome.kkt.stationarity),
            "slackness": _largest(outcome.kkt.slackness.values()),
            "seconds": outcome.result.seconds,
            "compile seconds": outcome.result.compile_seconds,
        }
        for outcome in outcomes
    ]


def summary(outcomes: Sequence[MethodEvaluation]) -> list[Row]:
    """Returns one short row per method: accuracy, worst violation, sweep, time.

    Args:
        outcomes: the methods' evaluations on one problem.

    Returns:
        Rows with the same keys. "violation" is the worst over all constraints, by search
        or at random points; "multipliers" the sum over a constraint's points; "swept"
        columns hold the least and the greatest violation and first score over the sweep
        of the hyperparameter; "ms/step" leaves out compilation.

    Raises:
        TypeError: `outcomes` are no evaluations.
    """
    _check_outcomes(outcomes)
    table: list[Row] = []
    names = dict.fromkeys(name for one in outcomes for name in one.multipliers)
    for outcome in outcomes:
        method, sweep = outcome.method, outcome.sensitivity
        row: Row = {"method": outcome.name, **outcome.scores}
        row["violation"] = outcome.violation
        for name in names:
            # A method that trains on other constraints has none of this name.
            total = outcome.multipliers.get(name, 0.0)
            row["multipliers" if len(names) == 1 else f"multipliers of {name}"] = total
        row["hyperparameter"] = (
            f"{method.hyperparameter} {method.value:g}" if method.hyperparameter else ""
        )
        first = next(iter(outcome.scores))
        row[f"swept {first}"] = "" if sweep is None else _range(sweep.scores[first])
        row["swept violation"] = "" if sweep is None else _range(sweep.violation)
        steps = int(outcome.result.state.step)
        row["ms/step"] = 1000 * outcome.result.seconds / steps
        table.append(row)
    return table


def _check_outcomes(outcomes: Any) -> None:
    check_each("outcomes", outcomes, MethodEvaluation, "evaluations of methods")


def _check_path(path: Any) -> None:
    check_type("path", path, (str, os.PathLike), "a file's path")


def _largest(values: Iterable[Any]) -> float:
    """Returns the largest value, or NaN if one is NaN, which Python's max may skip."""
    return float(np.max([*values], initial=0.0))


def _range(values: np.ndarray) -> str:
    finished = values[~np.isnan(values)]
    if not finished.size:
        return "all failed"
    text = f"{_cell(float(np.min(finished)))} … {_cell(float(np.max(finished)))}"
    failed = values.size - finished.size
    return f"{text} ({failed} failed)" if failed else text


def markdown(rows: Sequence[Row]) -> str:
    r"""Formats rows as a Markdown table that also reads as plain text.

    Args:
        rows: dicts with the same keys. What Markdown would read in their text as a mark,
            a link or HTML is escaped.

    Returns:
        Lines, the last one ended.

    Raises:
        ValueError: there are no rows, or one has other keys than the first.

    Example:
        >>> from jaxcon import report
        >>> print(report.markdown([{"method": "a|b", "x": 2.0}]), end="")
        | method |  x |
        | ------ | -: |
        | a\|b   |  2 |
    """
    header = _keys(rows)
    cells = [_escaped(name) for name in header]
    cells = [cells, *([_escaped(_cell(row[name])) for name in header] for row in rows)]
    # A ruler of one dash and a colon is the narrowest.
    widths = [max(2, *(len(line[i]) for line in cells)) for i in range(len(header))]
    ruler = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "".join(
        "| " + " | ".join(map(_pad, line, widths, range(len(line)))) + " |\n"
        for line in [cells[0], ruler, *cells[1:]]
    )


def _keys(rows: Sequence[Row]) -> list[str]:
    """Returns the keys that all rows have."""
    check_each("rows", rows, Mapping, "dicts")
    if not rows:
        raise ValueError("rows must hold at least one row, got none")
    for number, row in enumerate(rows):
        odd = sorted(row.keys() ^ rows[0].keys())
        if odd:
            raise ValueError(
                f"row {number} has other keys than the first: {odd[0]!r} is in one of them"
            )
    return list(rows[0])


def _escaped(text: str) -> str:
    """Escapes a text for a cell of a Markdown table."""
    text = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;")
    return re.sub(r"([\\|`*\[\]$~])", r"\\\1", text)


def _cell(value: str | float) -> str:
    if isinstance(value, str):
        return value
    if value == 0:
        return "0"
    return f"{value:.4g}" if 1e-3 <= abs(value) < 1e5 else f"{value:.1e}"


def _pad(text: str, width: int, column: int) -> str:
    return text.ljust(width) if column == 0 else text.rjust(width)


def write_csv(rows: Sequence[Row], path: Path) -> None:
    """Writes rows as CSV, every number in full.

    Args:
        rows: dicts with the same keys; their text as `csv_text` returns it.
        path: the file to write.

    Raises:
        TypeError: an argument is of another kind.
        ValueError: there are no rows, or one has other keys than the first.
    """
    names = _keys(rows)
    _check_path(path)
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(map(csv_text, names))
        for row in rows:
            writer.writerow(
                [csv_text(v) if isinstance(v, str) else v for v in map(row.get, names)]
            )


def csv_text(text: str) -> str:
    """Returns text for a cell of a CSV file that no spreadsheet takes for a formula.

    Args:
        text: of the cell.

    Returns:
        The text, after an apostrophe if it begins as a formula does.

    Raises:
        TypeError: it is no text.

    Example:
        >>> from jaxcon import report
        >>> report.csv_text("=1+2"), report.csv_text("1+2")
        ("'=1+2", '1+2')
    """
    check_type("text", text, str, "text")
    return f"'{text}" if text.lstrip()[:1] in ("=", "+", "-", "@") else text


class Curve(NamedTuple):
    """A fitted function and its derivatives along one input.

    Attributes:
        value: (n,).
        slope: (n,).
        curvature: (n,).
    """

    value: np.ndarray
    slope: np.ndarray
    curvature: np.ndarray


def plot_curves(
    x: np.ndarray,
    curves: dict[str, Curve],
    names: tuple[str, str],
    path: Path,
    *,
    data: tuple[np.ndarray, np.ndarray] | None = None,
    truth: Curve | None = None,
) -> None:
    """Plots fit, slope and curvature against one input, the methods over one another.

    Args:
        x: places along the input, (n,).
        curves: by method.
        names: of the input and of the target, for the axes.
        path: the PNG to write.
        data: points (x, y) to show under the fit.
        truth: the true function, where it is known.

    Raises:
        TypeError: an argument is of another kind.
        ValueError: `x` is not (n,).
    """
    x = check_array("x", x, "(n,)", finite=False)
    check_type("curves", curves, Mapping, "a dict of Curve by method")
    check_each("curves", [*curves.values()], Curve, "Curve")
    check_each("names", names, str, "two names")
    if len(names) != 2:
        raise TypeError(f"names must hold two names, got {len(names)}")
    _check_path(path)
    figure = new_figure(12, 3.6)
    source, target = map(_label, names)
    labels = (target, f"slope in {source}", f"curvature in {source}")
    for place, (part, label) in enumerate(zip(Curve._fields, labels)):
        axes = figure.add_subplot(1, 3, place + 1)
        if data is not None and part == "value":
            axes.scatter(*data, s=6, color="0.7", label="data")
        if truth is not None:
            axes.plot(x, getattr(truth, part), color="black", ls=":", label="truth")
        for name, curve in curves.items():
            axes.plot(x, getattr(curve, part), label=_label(name), **_style(name))
        if part != "value":
            axes.axhline(0, color="0.6", lw=0.8)
            axes.set_ylim(*_calm_range(curves, part))
        axes.set_xlabel(source)
        axes.set_title(label)
    figure.axes[0].legend(fontsize=8)
    _save(figure, path)


def _calm_range(curves: dict[str, Curve], part: str) -> tuple[float, float]:
    """Returns axis limits by which a wild unconstrained curve does not flatten others."""
    calm = {name: curve for name, curve in curves.items() if name != "unconstrained"}
    series = [getattr(curve, part) for curve in (calm or curves).values()]
    low, high = min(np.min(series), 0.0), max(np.max(series), 0.0)
    room = 0.5 * (high - low) + np.finfo(float).tiny
    return low - room, high + room


class Trace(NamedTuple):
    """Violation and multipliers of a run, over its steps.

    Attributes:
        step: (n,).
        violation: the worst at the training points, (n,).
        multiplier: the largest of a point, (n,).
    """

    step: np.ndarray
    violation: np.ndarray
    multiplier: np.ndarray


def trace(result: FitResult) -> Trace:
    """Returns the worst violation and the largest multiplier over a run's steps.

    Args:
        result: of the run.

    Returns:
        A `Trace`.

    Raises:
        TypeError: `result` is something else.
    """
    check_type("result", result, FitResult, "what fit returned")
    history = result.history
    violation = np.asarray(history.max_violation, float)
    each = [np.asarray(series, float) for _, _, series in named(history.multiplier)]
    largest = np.max([np.zeros(len(violation)), *each], axis=0)
    return Trace(np.asarray(history.step), violation, largest)


def plot_history(traces: Mapping[str, Trace], path: Path) -> None:
    """Plots worst violation and largest multiplier over the steps.

    Args:
        traces: by the method's name.
        path: the PNG to write.

    Raises:
        TypeError: an argument is of another kind.
    """
    check_type("traces", traces, Mapping, "a dict of Trace by method")
    check_each("traces", [*traces.values()], Trace, "Trace")
    _check_path(path)
    figure = new_figure(9, 3.6)
    left, right = figure.add_subplot(1, 2, 1), figure.add_subplot(1, 2, 2)
    for name, seen in traces.items():
        style = {"label": _label(name), **_style(name)}
        left.semilogy(seen.step, _positive(seen.violation), **style)
        if np.any(seen.multiplier):
            right.semilogy(seen.step, _positive(seen.multiplier), **style)
    left.set_title("worst violation at the training points")
    right.set_title("largest multiplier of a point")
    for axes in (left, right):
        axes.set_xlabel("step")
        if axes.lines:
            axes.legend(fontsize=8, loc="upper right")
    _save(figure, path)


def plot_trade_off(outcomes: Sequence[MethodEvaluation], path: Path) -> None:
    """Plots accuracy against violation, and violation against hyperparameters.

    A method with a sweep is a curve, with a large marker at its own value; others are
    stars, or crosses from the eleventh on.

    Args:
        outcomes: the methods' evaluations on one problem; accuracy is their first score.
        path: the PNG to write.

    Raises:
        TypeError: an argument is of another kind.
        ValueError: there are no outcomes.
    """
    _check_outcomes(outcomes)
    _check_path(path)
    if not outcomes:
        raise ValueError("outcomes must hold at least one evaluation, got none")
    figure = new_figure(11, 4.2)
    left, right = figure.add_subplot(1, 2, 1), figure.add_subplot(1, 2, 2)
    score = next(iter(outcomes[0].scores))
    for place, outcome in enumerate(outcomes):
        sweep, color = outcome.sensitivity, f"C{place % 10}"
        # After ten colours come other marks.
        mark = "*P"[place // 10 % 2] if sweep is None else "oD"[place // 10 % 2]
        left.plot(
            outcome.violation,
            outcome.scores[score],
            mark,
            ms=11 if sweep is None else 8,
            color=color,
            label=_label(outcome.name),
        )
        if sweep is not None:
            style = "--" if place >= 10 else "-"
            thin = {"color": color, "marker": ".", "lw": 1, "ls": style}
            left.plot(sweep.violation, sweep.scores[score], **thin)
            relative = sweep.values / outcome.method.value
            right.plot(relative, sweep.violation, label=_label(outcome.name), **thin)
    violations = [outcome.violation for outcome in outcomes]
    violations += [
        v for o in outcomes if o.sensitivity for v in o.sensitivity.violation
    ]
    # Zero is on the axis too, which is linear below the least positive violation.
    threshold = min((v for v in violations if v > 0), default=1.0)
    left.set_xscale("symlog", linthresh=threshold)
    right.set_yscale("symlog", linthresh=threshold)
    right.set_xscale("log")
    left.set(xlabel="worst violation on unseen points", ylabel=_label(score))
    right.set(xlabel="hyperparameter, relative to its own", ylabel="worst violation")
    for axes in (left, right):
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend(fontsize=8)
    _save(figure, path)


def _positive(series: Any) -> np.ndarray:
    """Replaces zeros by NaN, which leaves a gap on a logarithmic axis."""
    return np.where(series > 0, series, np.nan)


_COLORS = {
    "unconstrained": "C3",
    "light penalty": "C8",
    "penalty": "C1",
    "heavy penalty": "C5",
    "lagrangian": "C2",
    "augmented": "C0",
}


def _style(name: str) -> dict[str, Any]:
    emphasis = {"lw": 2.0} if name == "augmented" else {"lw": 1.0}
    return emphasis | ({"color": _COLORS[name]} if name in _COLORS else {})


# Letters of a name that a figure of a few inches has room for.
_ROOM = 32


def _label(name: str) -> str:
    """Returns a name as it is drawn: short, and a dollar sign for itself."""
    short = name if len(name) <= _ROOM else f"{name[: _ROOM - 3]}..."
    return short.replace("$", r"\$")


def _save(figure: Any, path: Path) -> None:
    """Writes a figure, with boxes for letters that the font lacks."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        figure.savefig(path, dpi=120)


def new_figure(width: float, height: float) -> Any:
    """Creates an empty matplotlib figure without a window.

    Args:
        width: in inches.
        height: in inches.

    Returns:
        A `matplotlib.figure.Figure`; save it at ``dpi=120``, as the others are.

    Raises:
        ImportError: matplotlib is not installed, with the line that installs it.
        TypeError: a length is no number.
        ValueError: a length is not positive, or above 500.
    """
    check_number("width", width, above=0, most=500)
    check_number("height", height, above=0, most=500)
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError("plots need matplotlib: pip install 'jaxcon[plot]'") from None
    return Figure(figsize=(width, height), layout="constrained")
