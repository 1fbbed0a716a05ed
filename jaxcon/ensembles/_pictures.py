"""Pictures of fitted ensembles, readable in black and white and on a small screen."""

import os
import warnings
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxcon._checks import check_number, check_type
from jaxcon.derivatives import Partial, Value, derivatives
from jaxcon.ensembles._columns import Column, encode, offsets
from jaxcon.ensembles._ensemble import Ensemble
from jaxcon.ensembles._frame import Frame
from jaxcon.ensembles._losses import CLASSES, Loss, read_target
from jaxcon.ensembles._rules import _FAR
from jaxcon.report import new_figure

# Rows averaged over along one input and over two; points drawn; outputs drawn.
_ROWS, _PAIRED, _POINTS, _SHOWN = 500, 100, 1000, 8
# Part of a scaled derivative that is rounding in float32.
_ROUNDING = 1e-5
_STYLES = ("-", "--", ":", "-.", *((0, on) for on in ((1, 3), (5, 4), (8, 2), (2, 2))))
_LARGE, _SMALL, _MARKS = 15, 12.5, "osD^v<>P"
_GREY = {"color": "0.87", "lw": 0}
_FORBIDDEN = {"facecolor": "0.96", "edgecolor": "0.4", "hatch": "//", "lw": 0}
_LEGEND = {"frameon": False, "fontsize": _SMALL, "handlelength": 1.5}


class _Along(NamedTuple):
    """Fitted function along an input, other inputs as in the rows of a table.

    Attributes:
        column: encoding of the input.
        entry: its first one in an encoded row.
        v: the rows, (rows, d).
        x: places along the input, in its units, (k,).
        side: which of its entries moves there, 1 from a mode on, (k,).
        unit: of value, slope and curvature, in the table's units, (3, k).
        parts: value, slope and curvature, in the table's units, (3, k, rows, m).
    """

    column: Column
    entry: int
    v: np.ndarray
    x: np.ndarray
    side: np.ndarray
    unit: np.ndarray
    parts: np.ndarray


def _along(ensemble: Ensemble, frame: Frame, name: str) -> _Along:
    """Evaluates exact derivatives along an input."""
    place, v, thin = _prepared(ensemble, frame, _ROWS, column=name)
    (column,), (entry,) = [ensemble.columns[one] for one in place], _entries(ensemble, place)
    x, size = _places(column, thin.columns[place[0]], 101), len(column.widths)
    if not column.levels:
        # One wild value may stretch the range: what is drawn has places of its own.
        x = np.unique([*x, *np.linspace(column.lower, column.upper, 101)])
    single = partial(jax.tree.map, partial(np.asarray, dtype=np.float32))
    f = partial(single(ensemble.mixture).at, ensemble.layout, ensemble.loss)
    moving = [Partial(entry + one) for one in range(size)]
    bent = [Partial((entry + one,) * 2) for one in range(size)]
    exact = derivatives(f, Value(), *moving, *bent)

    def at(here: jax.Array, row: jax.Array) -> jax.Array:
        return jnp.stack(list(exact(jax.lax.dynamic_update_slice(row, here, (entry,)))))

    # One place after another: all at once would take much memory.
    every = jax.jit(partial(jax.lax.map, lambda one: jax.vmap(partial(at, one))(single(v))))
    found = np.moveaxis(np.array(every(single(column.entries_at(x))), float), 2, 0)
    found[~np.isfinite(found)] = np.nan
    side = np.zeros(len(x), int) + (column.peak is not None and x >= column.peak)
    unit = ensemble.unit / np.array(column.widths)[side] ** np.arange(3)[:, None]
    # Beyond a mode it is the second entry that moves, downwards.
    sign, each = (1 - 2 * side)[:, None, None], np.arange(len(x))
    parts = found[0], sign * found[1 + side, each], found[1 + size + side, each]
    parts = np.stack(parts) * unit[..., None, None]
    parts[0] += ensemble.center
    return _Along(column, entry, v, x, side, unit, parts)


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

    Lines are means over up to 500 rows of the data, whose other inputs stay as they are;
    points are the line plus rows' residuals. Grey about a slope or a curvature is its range
    over the rows; hatched is what rules forbid; crosses are where one is broken. Of
    classes, ticks are where the data lie.

    Args:
        ensemble: fitted.
        frame: inputs of the data.
        y: target of the data, in its units; of classes their numbers, (rows,).
        column: name of the input, one of numbers or of ordered levels.
        path: the PNG to write.
        level: share of new targets in the band.

    Raises:
        TypeError: an argument is of another kind.
        ValueError: there is no such column of numbers, or `level` is not between 0 and 1.
    """
    check_type("path", path, (str, os.PathLike), "a file's path")
    check_number("level", level, above=0, below=1)
    along = _along(ensemble, frame, column)
    data = _adjusted(ensemble, frame, read_target(y, frame.rows, ensemble.loss), along)
    panels = _panels(ensemble, along)
    figure = new_figure(6, 7.5 + 1.8 * max(len(panels) - 2, 0))
    heights = [1.5, *[1.0] * len(panels)]
    axes = figure.subplots(len(heights), 1, sharex=True, height_ratios=heights)
    _draw_value(axes[0], ensemble, along, data, level)
    for one, panel in zip(axes[1:], panels):
        _draw_derivative(one, along, panel, ensemble.loss)
    for one in axes:
        if along.column.peak is not None:
            one.axvline(along.column.peak, color="0.3", ls=":", lw=1.5)
        _style(one)
    _name_axis(axes[-1], "x", along.column, data[0], 0.3)
    figure.align_ylabels()
    if len(ensemble.columns) > 1:
        told = f"other inputs: mean over {len(along.v)} rows of the data"
        figure.supxlabel(told, fontsize=_SMALL)
    _save(figure, path)


class _Panel(NamedTuple):
    """Derivative to draw: of an output or all (-1), over marked rows, with bounds (k,)."""

    part: int
    output: int
    rows: np.ndarray
    low: np.ndarray
    high: np.ndarray


def _panels(ensemble: Ensemble, along: _Along) -> list[_Panel]:
    """Returns slopes, and the curvature if a rule is of it."""
    kinds, bounds, entry, x = ensemble.kinds, ensemble.bounds, along.entry, along.x
    rules = list(zip(*np.reshape(kinds.slopes, (-1, 2)).T, *bounds[:2]))
    for one, factor in zip(kinds.steep, bounds.steepness):
        rules.append((one, -1, -1 / factor, 1 / factor))
    rules = [one for one in rules if entry <= one[0] < entry + len(along.column.widths)]
    panels, every = [], np.ones(len(along.v), bool)
    # Rules of single classes have panels of their own.
    for output in sorted({int(one[1]) for one in rules} - {-1})[:3] or [-1]:
        low, high = np.full(len(x), -np.inf), np.full(len(x), np.inf)
        for one, of, *ends in rules:
            ends = [np.inf * end if abs(end) > _FAR / 2 else end for end in ends]
            # Beyond a mode, that to rise in the entry is to fall along the input.
            least, most = sorted(-end if one > entry else end for end in ends)
            here = (along.side == one - entry) & (of in (-1, output))
            low = np.where(here, np.maximum(low, least * along.unit[1]), low)
            high = np.where(here, np.minimum(high, most * along.unit[1]), high)
        panels.append(_Panel(1, output, every, low, high))
    groups = [(group, sign) for group, sign, _ in kinds.curvatures if entry in group]
    # A joint rule is of rows in which none of its inputs is missing.
    near = {one for group, _ in groups for one in group}
    flags = [flag for one, flag in kinds.flags if one in near]
    known, signs = ~np.any(along.v[:, flags] > 0.5, axis=1), {one[1] for one in groups}
    if groups and known.any():
        low = np.full(len(x), 0.0 if 1 in signs else -np.inf)
        high = np.full(len(x), 0.0 if -1 in signs else np.inf)
        panels.append(_Panel(2, -1, known, low, high))
    return panels


def _adjusted(
    ensemble: Ensemble, frame: Frame, y: np.ndarray, along: _Along
) -> tuple[np.ndarray, np.ndarray]:
    """Returns places (r,) of rows, and the curve there plus their residuals, (r,)."""
    place, _, thin = _prepared(ensemble, frame, _POINTS, column=along.column.name)
    at, output = along.column.values(thin.columns[place[0]]), ensemble.loss.outputs // 2
    if ensemble.loss.kind in CLASSES:
        return at, np.zeros(len(at))
    curve = along.parts[0, ..., output].mean(1)
    residual = y[_kept(frame.rows, _POINTS)] - ensemble.predict(thin)[:, output]
    return at, np.interp(at, along.x, curve) + residual


def _draw_value(
    axes: Any,
    ensemble: Ensemble,
    along: _Along,
    data: tuple[np.ndarray, np.ndarray],
    level: float,
) -> None:
    """Draws the mean prediction, its band and the data."""
    value, loss, shown = along.parts[0].mean(1), ensemble.loss, [data[1]]
    _draw_lines(axes, along.x, value, 0, "fit" if loss.outputs == 1 else "_")
    if ensemble.calibration is not None:
        ends = ensemble.interval_at(along.parts[0].reshape(-1, 1), level)
        shown.append(ends.reshape(*along.parts[0].shape[:2], 2).mean(1))
        label = f"{100 * level:g} % of targets"
        axes.fill_between(along.x, *shown[1].T, label=label, **_GREY)
    low, high = _limits(np.concatenate([value, *shown], axis=None))
    if np.nanmin(value) >= 0 and data[1].min() >= 0:
        low = max(low, 0.0)
    classes = loss.kind in CLASSES
    axes.set_ylim(low, min(high, 1.0) if classes else high)
    # Rows of one level lie beside one another.
    beside = 0.4 * (np.arange(len(data[0])) * 0.618 % 1 - 0.5) * bool(along.column.levels)
    look = {"marker": "|", "ms": 14} if classes else {"marker": ".", "ms": 5}
    axes.plot(data[0] + beside, data[1], color="0.5", ls="", label="data", **look)
    if loss.outputs > 1:
        _name_lines(axes, loss, value[-1])
    axes.set_ylabel("probability" if classes else "prediction", fontsize=_LARGE)
    # Above the axes it hides nothing.
    axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 1), ncols=3, **_LEGEND)


def _draw_derivative(axes: Any, along: _Along, panel: _Panel, loss: Loss) -> None:
    """Draws a derivative, its range over the rows, and what is forbidden."""
    part, output, rows, low, high = panel
    parts = along.parts[part][:, rows, max(output, 0) : output + 1 or None]
    mean, least, most = parts.mean(1), parts.min((1, 2)), parts.max((1, 2))
    bottom, top = _limits(np.concatenate([least, most, [0.0]]))
    bottom, top = min(bottom, 0.0), max(top, 0.0)
    # A bound far away would flatten the curve: it is told, and not drawn.
    span, ends = top - bottom, np.concatenate([low, high])
    near = ends[(ends > bottom - 2 * span) & (ends < top + 2 * span)]
    bottom = min([bottom, *(near - 0.1 * span)])
    top = max([top, *(near + 0.1 * span)])
    # At a mode the derivative jumps.
    for here in (along.side == side for side in np.unique(along.side)):
        x = along.x[here]
        axes.fill_between(x, least[here], most[here], **_GREY)
        axes.plot(x, np.stack([least, most], 1)[here], color="0.45", lw=0.8)
        _draw_lines(axes, x, mean[here], max(output, 0))
        for end, edge in ((low[here], bottom), (high[here], top)):
            if np.all(np.isfinite(end)):
                axes.fill_between(x, end, edge, zorder=0.5, **_FORBIDDEN)
                axes.plot(x, end, color="black", lw=1)
    room = _ROUNDING * (along.unit[part] + np.maximum(-least, most))
    # What is no number breaks a rule too.
    broken = ~((least >= low - room) & (most <= high + room))
    if broken.any():
        worst = np.nan_to_num(np.where(least < low - room, least, most)[broken])
        look = {"color": "black", "ms": 8, "mew": 2, "clip_on": False}
        axes.plot(along.x[broken], np.clip(worst, bottom, top), "x", **look)
    axes.set_ylim(bottom, top)
    if output < 0 and loss.outputs > 1:
        _name_lines(axes, loss, mean[-1])
    label = "slope" if part == 1 else "curvature"
    # Powers of ten are told once, in the axis' name.
    power = int(np.floor(np.log10(max(-bottom, top))))
    power = power if power < -2 or power > 3 else 0
    axes.yaxis.set_major_formatter(lambda value, _: _number(value / 10.0**power))
    axes.set_ylabel(label + f" / 10$^{{{power}}}$" * bool(power), fontsize=_LARGE)
    told = f"class {output}: {label}" if output >= 0 else label
    told += f" {_number(np.min(least))} to {_number(np.max(most))}"
    told += ", BROKEN" if broken.any() else ""
    axes.set_title(told + _allowed(low, high), fontsize=_SMALL, loc="left")


def _allowed(low: np.ndarray, high: np.ndarray) -> str:
    """Tells what slopes rules allow."""
    if len({*low, *high}) > 2:  # they change at a mode
        return "; must rise, then fall"
    words = f" at least {_number(low[0])}" if np.isfinite(low[0]) else ""
    words += f" at most {_number(high[0])}" if np.isfinite(high[0]) else ""
    return f"; must be{words.replace(' at most', ', at most')}"
