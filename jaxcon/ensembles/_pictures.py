"""Pictures of fitted ensembles, readable in black and white and on a small screen."""

import os
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxcon._checks import check_number, check_type
from jaxcon.derivatives import Partial, Value, derivatives
from jaxcon.ensembles._columns import encode, offsets
from jaxcon.ensembles._ensemble import Ensemble
from jaxcon.ensembles._frame import Frame
from jaxcon.ensembles._losses import CLASSES, read_target
from jaxcon.ensembles._rules import _FAR
from jaxcon.report import new_figure

# Rows that are averaged over, points that are drawn, and places along an input.
_ROWS, _POINTS, _PLACES = 500, 1000, 101
_STYLES = ("-", "--", ":", "-.", (0, (1, 3)), (0, (5, 4)))


class Profile(NamedTuple):
    """Derivatives of a fitted function along one input, over the rows of a table.

    Attributes:
        x: places along the input, in its units, (k,).
        mean: value, slope and curvature in the mean over the rows, (3, k, m).
        least: their least over the rows, (3, k, m).
        most: their greatest, (3, k, m).
    """

    x: np.ndarray
    mean: np.ndarray
    least: np.ndarray
    most: np.ndarray


def profile(ensemble: Ensemble, frame: Frame, column: str) -> Profile:
    """Evaluates value, slope and curvature along an input, other inputs as in the rows.

    Args:
        ensemble: fitted.
        frame: inputs, of which at most 500 rows are used.
        column: name of the input, one of numbers.

    Returns:
        A `Profile`, in the table's units.

    Raises:
        TypeError: an argument is of another kind.
        ValueError: there is no such column of numbers.
    """
    place = _place(ensemble, column)
    described = ensemble.columns[place]
    entry = offsets(ensemble.layout)[place]
    unit = 1.0 if ensemble.loss.kind in CLASSES else ensemble.unit
    center = 0.0 if ensemble.loss.kind in CLASSES else ensemble.center
    v = encode(ensemble.columns, _thinned(frame, _ROWS))
    if described.missing:  # where the input is missing nothing rises along it
        v = v[v[:, entry + len(described.widths)] < 0.5]
    x = np.linspace(described.lower, described.upper, _PLACES)
    if described.levels:
        x = np.arange(len(described.levels), dtype=float)
    entries = described.entries_at(x)
    single = partial(jax.tree.map, partial(np.asarray, dtype=np.float32))
    f = partial(single(ensemble.mixture).at, ensemble.layout, ensemble.loss)
    size = len(described.widths)

    def along(row: jax.Array, here: jax.Array) -> jax.Array:
        # Beyond a mode it is the second entry that moves, downwards.
        v = jax.lax.dynamic_update_slice(row, here, (entry,))
        moving = [Partial(entry + one) for one in range(size)]
        bent = [Partial((entry + one,) * 2) for one in range(size)]
        return jnp.stack(list(derivatives(f, Value(), *moving, *bent)(v)))

    every = jax.vmap(jax.vmap(along, (0, None)), (None, 0))
    found = np.asarray(jax.jit(every)(single(v), single(entries)), float)
    parts = np.moveaxis(found, 2, 0)  # (1 + 2 size, k, rows, m)
    side = 0 if size == 1 else np.where(x < (described.peak or 0.0), 0, 1)
    side = np.broadcast_to(side, x.shape)
    width = np.array(described.widths)[side][:, None, None]
    sign = np.where(side == 0, 1.0, -1.0)[:, None, None]
    places = np.arange(len(x))
    slope = unit * sign * parts[1 + side, places] / width
    curvature = unit * parts[1 + size + side, places] / width**2
    whole = np.stack([center + unit * parts[0], slope, curvature])
    return Profile(x, whole.mean(2), whole.min(2), whole.max(2))


def plot_rule(
    ensemble: Ensemble,
    frame: Frame,
    y: np.ndarray,
    column: str,
    path: Any,
    *,
    level: float = 0.9,
) -> None:
    """Draws a fit along one input: value with its band, slope, curvature, and bounds.

    Args:
        ensemble: fitted.
        frame: inputs of the data.
        y: target of the data, (rows,).
        column: name of the input, one of numbers.
        path: the PNG to write.
        level: share of new targets in the band.

    Raises:
        TypeError: an argument is of another kind.
        ValueError: there is no such column of numbers, or `level` is not between 0 and 1.
    """
    check_type("path", path, (str, os.PathLike), "a file's path")
    check_number("level", level, above=0, below=1)
    curves, place = profile(ensemble, frame, column), _place(ensemble, column)
    described = ensemble.columns[place]
    bent = _is_bent(ensemble, place)
    panels = 2 + bent
    figure = new_figure(6, 2.6 + 2.4 * (panels - 1))
    axes = figure.subplots(panels, 1, sharex=True, squeeze=False)[:, 0]
    _draw_value(
        axes[0],
        ensemble,
        frame,
        read_target(y, frame.rows, ensemble.loss),
        curves,
        place,
        level,
    )
    low, high = _slope_bounds(ensemble, place)
    _draw_derivative(axes[1], curves, 1, low, high, "slope")
    if bent:
        sign = _bend(ensemble, place)
        bounds = (0.0, np.inf) if sign > 0 else (-np.inf, 0.0)
        _draw_derivative(axes[2], curves, 2, *bounds, "curvature")
    for one in axes:
        if described.peak is not None:
            one.axvline(described.peak, color="0.4", ls=":", lw=1)
        one.tick_params(labelsize=11)
        one.spines[["top", "right"]].set_visible(False)
    if described.levels:
        axes[-1].set_xticks(curves.x, [str(one) for one in described.levels])
    axes[-1].set_xlabel(_text(column), fontsize=13)
    rows = min(frame.rows, _ROWS)
    if len(ensemble.columns) > 1:
        figure.text(
            0.99,
            0.005,
            f"other inputs as in {rows} rows of the data; grey: all of them",
            ha="right",
            fontsize=9,
            color="0.35",
        )
        figure.get_layout_engine().set(rect=(0, 0.03, 1, 0.97))
    figure.savefig(path, dpi=150)


def plot_pair(
    ensemble: Ensemble, frame: Frame, first: str, second: str, path: Any
) -> None:
    """Draws contours of the mean prediction over two inputs.

    Args:
        ensemble: fitted.
        frame: inputs of the data.
        first: name of the input on the horizontal axis, one of numbers.
        second: name of that on the vertical axis.
        path: the PNG to write.

    Raises:
        TypeError: an argument is of another kind.
        ValueError: there is no such column of numbers.
    """
    check_type("path", path, (str, os.PathLike), "a file's path")
    named = (("first", first), ("second", second))
    chosen = [_place(ensemble, name, word) for word, name in named]
    columns = [ensemble.columns[place] for place in chosen]
    starts = offsets(ensemble.layout)
    x, y = (np.linspace(one.lower, one.upper, 25) for one in columns)
    v = encode(ensemble.columns, _thinned(frame, 100))
    surface = np.zeros((len(y), len(x)))
    for row, one in enumerate(y):
        for place, value in enumerate(x):
            for column, start, at in zip(columns, chosen, (value, one)):
                begin = starts[start]
                entries = column.entries_at(np.array([at]))[0]
                v[:, begin : begin + len(entries)] = entries
            surface[row, place] = ensemble.predict_encoded(v)[:, 0].mean()
    figure = new_figure(6, 5.6)
    axes = figure.subplots()
    axes.contourf(x, y, surface, levels=9, cmap="Greys", alpha=0.55)
    lines = axes.contour(x, y, surface, levels=9, colors="black", linewidths=1)
    axes.clabel(lines, fontsize=11)
    thin = _thinned(frame, _POINTS)
    data = [one.values(thin.columns[place]) for one, place in zip(columns, chosen)]
    axes.scatter(*data, s=9, color="white", edgecolor="black", lw=0.6)
    axes.set_xlim(x[0], x[-1])
    axes.set_ylim(y[0], y[-1])
    axes.set_xlabel(_text(first), fontsize=13)
    axes.set_ylabel(_text(second), fontsize=13)
    axes.tick_params(labelsize=11)
    axes.set_title("mean prediction; circles: data", fontsize=12)
    figure.savefig(path, dpi=150)


def plot_calibration(
    ensemble: Ensemble, frame: Frame, y: np.ndarray, path: Any
) -> None:
    """Draws how often statements of probability come true on given rows.

    They are prediction intervals' levels, levels of quantiles, or classes' probabilities in
    ten groups of equal size.

    Args:
        ensemble: fitted, with a calibration, of quantiles or of classes.
        frame: inputs, of rows that were not fitted.
        y: target, (rows,).
        path: the PNG to write.

    Raises:
        TypeError: an argument is of another kind.
        ValueError: the ensemble makes no statement of probability.
    """
    check_type("ensemble", ensemble, Ensemble, "a fitted Ensemble")
    check_type("frame", frame, Frame, "a Frame, of read_frame")
    check_type("path", path, (str, os.PathLike), "a file's path")
    stated, found, rows, label = _statements(
        ensemble, frame, read_target(y, frame.rows, ensemble.loss)
    )
    figure = new_figure(5.5, 5.5)
    axes = figure.subplots()
    even = np.linspace(0, 1, 101)
    error = 2 * np.sqrt(even * (1 - even) / max(rows, 1))
    axes.fill_between(even, even - error, even + error, color="0.85", lw=0)
    axes.plot(even, even, color="0.4", ls="--", lw=1)
    axes.plot(stated, found, color="black", marker="o", ms=6)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.set_xlabel(label, fontsize=13)
    axes.set_ylabel("share of the rows", fontsize=13)
    axes.set_title(f"{len(y)} rows; grey: two standard errors", fontsize=12)
    axes.tick_params(labelsize=11)
    figure.savefig(path, dpi=150)


def _statements(
    ensemble: Ensemble, frame: Frame, y: np.ndarray
) -> tuple[np.ndarray, np.ndarray, float, str]:
    """Returns stated and found shares, the rows of each, and the axis' label."""
    if ensemble.calibration is not None:
        levels = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95])
        ends = [ensemble.predict_interval(frame, level) for level in levels]
        found = [np.mean((one[:, 0] <= y) & (y <= one[:, 1])) for one in ends]
        return levels, np.array(found), len(y), "level of the interval"
    predicted = ensemble.predict(frame)
    if ensemble.loss.kind == "quantile":
        levels = np.array(ensemble.loss.levels)
        return (
            levels,
            np.mean(y[:, None] <= predicted, 0),
            len(y),
            "level of the quantile",
        )
    if ensemble.loss.kind not in CLASSES:
        raise ValueError("the ensemble has neither intervals, quantiles nor classes")
    stated = predicted.ravel()
    true = y == 1
    if ensemble.loss.kind == "multinomial":
        true = (y[:, None] == np.arange(predicted.shape[1])).ravel()
    groups = np.array_split(np.argsort(stated), min(10, len(stated)))
    means = [(stated[one].mean(), true[one].mean()) for one in groups]
    number = len(stated) / len(groups)
    return *np.array(means).T, number, "predicted probability"


def _draw_value(
    axes: Any,
    ensemble: Ensemble,
    frame: Frame,
    y: np.ndarray,
    curves: Profile,
    place: int,
    level: float,
) -> None:
    """Draws the mean prediction, its band and the data adjusted for other inputs."""
    x, value = curves.x, curves.mean[0]
    shown = [value.ravel()]
    if ensemble.calibration is not None:
        low, high = _band(ensemble, value[:, 0], level)
        axes.fill_between(
            x, low, high, color="0.85", lw=0, label=f"{level:.0%} of targets"
        )
        shown += [low, high]
    if ensemble.loss.kind not in CLASSES and value.shape[1] >= 1:
        thin = _thinned(frame, _POINTS)
        kept = _kept(frame.rows, _POINTS)
        at = ensemble.columns[place].values(thin.columns[place])
        middle = value.shape[1] // 2
        apart = y[kept] - ensemble.predict(thin)[:, middle]
        here = np.isfinite(at)
        adjusted = np.interp(at[here], x, value[:, middle]) + apart[here]
        axes.scatter(
            at[here], adjusted, s=8, color="0.55", lw=0, label="data, adjusted"
        )
        shown.append(np.percentile(adjusted, [1, 99]) if len(adjusted) else adjusted)
    for output in range(value.shape[1]):
        style = _STYLES[output % len(_STYLES)]
        axes.plot(x, value[:, output], color="black", lw=2, ls=style)
        if value.shape[1] > 1:
            axes.annotate(
                _output_name(ensemble, output),
                (x[-1], value[-1, output]),
                xytext=(4, 0),
                textcoords="offset points",
                va="center",
                fontsize=10,
            )
    low, high = _limits(np.concatenate(shown))
    if y.min() >= 0 and value.min() >= 0:
        low = max(low, 0.0)
    axes.set_ylim(low, high)
    title = "probability" if ensemble.loss.kind in CLASSES else "prediction"
    axes.set_ylabel(title, fontsize=13)
    if ensemble.loss.kind not in CLASSES:
        axes.legend(fontsize=10, frameon=False, loc="best")


def _draw_derivative(
    axes: Any, curves: Profile, part: int, low: float, high: float, label: str
) -> None:
    """Draws a derivative, its range over the rows, and where it must not lie."""
    x = curves.x
    least, most = curves.least[part].min(1), curves.most[part].max(1)
    axes.fill_between(x, least, most, color="0.85", lw=0)
    for output in range(curves.mean.shape[2]):
        style = _STYLES[output % len(_STYLES)]
        axes.plot(x, curves.mean[part, :, output], color="black", lw=2, ls=style)
    bottom, top = _limits(np.concatenate([least, most]), zero=True)
    room = 0.08 * (top - bottom)
    if np.isfinite(low):
        bottom = min(bottom, low - room)
    if np.isfinite(high):
        top = max(top, high + room)
    hatch: dict[str, Any] = {
        "facecolor": "none",
        "edgecolor": "0.5",
        "hatch": "///",
        "lw": 0,
    }
    if np.isfinite(low):
        axes.axhspan(min(bottom, low), low, **hatch)
        axes.axhline(low, color="black", lw=0.8)
    if np.isfinite(high):
        axes.axhspan(high, max(top, high), **hatch)
        axes.axhline(high, color="black", lw=0.8)
    axes.set_ylim(bottom, top)
    axes.set_ylabel(label, fontsize=13)


def _limits(values: np.ndarray, zero: bool = False) -> tuple[float, float]:
    """Returns axis limits that a few wild values do not move."""
    low, high = np.percentile(values[np.isfinite(values)], [1, 99])
    if zero:
        low, high = min(low, 0.0), max(high, 0.0)
    room = 0.08 * (high - low) or 1.0
    return float(low - room), float(high + room)


def _band(
    ensemble: Ensemble, value: np.ndarray, level: float
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the ends of intervals at predictions, (k,) each."""
    ends = ensemble.interval_at(value[:, None], level)
    return ends[:, 0], ends[:, 1]


def _slope_bounds(ensemble: Ensemble, place: int) -> tuple[float, float]:
    """Returns the bounds of slopes along a column, in the table's units."""
    column, entry = ensemble.columns[place], offsets(ensemble.layout)[place]
    if column.peak is not None:
        return -np.inf, np.inf
    unit = 1.0 if ensemble.loss.kind in CLASSES else ensemble.unit
    low, high = -np.inf, np.inf
    for (one, output), least, most in zip(
        ensemble.kinds.slopes, ensemble.bounds.slope_lower, ensemble.bounds.slope_upper
    ):
        if one == entry and output < 0:
            scale = unit / column.widths[0]
            low = max(low, least * scale if abs(least) < _FAR else -np.inf)
            high = min(high, most * scale if abs(most) < _FAR else np.inf)
    return float(low), float(high)


def _is_bent(ensemble: Ensemble, place: int) -> bool:
    return _bend(ensemble, place) != 0


def _bend(ensemble: Ensemble, place: int) -> int:
    """Returns 1 where a column is in a convex group, -1 in a concave one, else 0."""
    entry = offsets(ensemble.layout)[place]
    for entries, sign, _ in ensemble.kinds.curvatures:
        if entry in entries:
            return sign
    return 0


def _place(ensemble: Ensemble, column: str, word: str = "column") -> int:
    check_type("ensemble", ensemble, Ensemble, "a fitted Ensemble")
    check_type(word, column, str, "a column's name")
    known = [one.name for one in ensemble.columns if one.is_number]
    if column not in known:
        raise ValueError(
            f"{word}: there is no column of numbers {column!r}; there are "
            f"{', '.join(map(repr, known[:20]))}"
        )
    return [one.name for one in ensemble.columns].index(column)


def _kept(rows: int, most: int) -> np.ndarray:
    return (
        np.arange(rows) if rows <= most else np.linspace(0, rows - 1, most).astype(int)
    )


def _thinned(frame: Frame, most: int) -> Frame:
    """Keeps at most so many rows, evenly spread."""
    check_type("frame", frame, Frame, "a Frame, of read_frame")
    kept = _kept(frame.rows, most)
    return frame._replace(columns=tuple(one[kept] for one in frame.columns))


def _output_name(ensemble: Ensemble, output: int) -> str:
    if ensemble.loss.kind == "quantile":
        return f"{ensemble.loss.levels[output]:.0%}"
    return f"class {output}"


def _text(name: str) -> str:
    """Escapes what matplotlib would take for mathematics."""
    return name.replace("$", r"\$")
