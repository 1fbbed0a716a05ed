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
from jaxcon.ensembles._rules import FAR
from jaxcon.report import new_figure

# Rows averaged over along one input and over two; points drawn; outputs drawn.
_ROWS, _PAIRED, _POINTS, _SHOWN = 500, 100, 1000, 8
_ROUNDING = 1e-5  # of scaled derivatives, in float32
_STYLES = ("-", "--", ":", "-.", *((0, on) for on in ((1, 3), (5, 4), (8, 2), (2, 2))))
_LARGE, _SMALL, _MARKS = 15, 12.5, "osD^v<>P"
_GREY = {"color": "0.87", "lw": 0}
_FORBIDDEN = {"facecolor": "0.96", "edgecolor": "0.4", "hatch": "//", "lw": 0}
_LEGEND = dict(frameon=False, fontsize=_SMALL, handlelength=1.5, columnspacing=1)


class _Along(NamedTuple):
    """Value, slope and curvature of a fit along an input, (3, k, rows, m): `parts`."""

    ensemble: Ensemble
    column: Column
    entry: int
    cells: np.ndarray
    v: np.ndarray  # (rows, d)
    x: np.ndarray  # (k,)
    side: np.ndarray  # 1 from a mode on, where the second entry moves
    unit: np.ndarray  # (3, k)
    parts: np.ndarray


def _along(ensemble: Ensemble, frame: Frame, name: str, path: Any) -> _Along:
    """Evaluates exact derivatives along an input."""
    v, ((column, entry, cells),) = _prepared(path, ensemble, frame, _ROWS, column=name)
    x, size = _places(column, cells, 101), len(column.widths)
    if not column.levels:
        # One wild value may stretch the range: what is drawn has places of its own.
        x = np.unique([*x, *np.linspace(column.lower, column.upper, 101)])
    single = partial(jax.tree.map, partial(np.asarray, dtype=np.float32))
    f = partial(single(ensemble.mixture).at, ensemble.layout, ensemble.loss)
    moving = [Partial(entry + one) for one in range(size)]
    bent = [Partial((entry + one,) * 2) for one in range(size)]
    exact, rows = derivatives(f, Value(), *moving, *bent), single(v)

    def at(here: jax.Array) -> jax.Array:
        moved = jax.vmap(lambda row: row.at[entry : entry + size].set(here))(rows)
        return jax.vmap(lambda row: jnp.stack(list(exact(row))))(moved)

    # One place after another: all at once would take much memory.
    every = jax.jit(partial(jax.lax.map, at))(single(column.entries_at(x)))
    found = np.moveaxis(np.array(every, float), 2, 0)
    found[~np.isfinite(found)] = np.nan
    side = np.zeros(len(x), int) + (column.peak is not None and x >= column.peak)
    unit = ensemble.unit / np.array(column.widths)[side] ** np.arange(3)[:, None]
    # Beyond a mode it is the second entry that moves, downwards.
    sign, each = (1 - 2 * side)[:, None, None], np.arange(len(x))
    parts = found[0], sign * found[1 + side, each], found[1 + size + side, each]
    parts = np.stack(parts) * unit[..., None, None]
    parts[0] += ensemble.center
    return _Along(ensemble, column, entry, cells, v, x, side, unit, parts)


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

    Lines are means over up to 500 rows of the data, whose other inputs stay as they
    are; points are the line plus rows' residuals, ticks where classes' data lie. Grey
    slopes are all rows'; hatched is what rules forbid; crosses are where one is broken.

    Args:
        ensemble: fitted.
        frame: inputs of the data.
        y: target of the data, in its units; of classes their numbers, (rows,).
        column: name of the input, one of numbers or of ordered levels.
        path: the PNG to write.
        level: share of new targets in the band.

    Raises:
        TypeError: an argument is of another kind.
        ValueError: there is no such column, or `level` is not between 0 and 1.
    """
    check_number("level", level, above=0, below=1)
    along = _along(ensemble, frame, column, path)
    y = read_target(y, frame.rows, ensemble.loss)
    panels = _panels(along)
    figure = new_figure(6, 7.5 + 1.8 * max(len(panels) - 2, 0))
    heights = [1.5, *[1.0] * len(panels)]
    axes = figure.subplots(len(heights), 1, sharex=True, height_ratios=heights)
    _name_axis(axes[-1], "x", along.column, along.cells)
    _draw_value(axes[0], along, frame, y, level)
    for one, panel in zip(axes[1:], panels):
        _draw_derivative(one, along, panel)
    for one in axes if along.column.peak is not None else ():
        one.axvline(along.column.peak, color="0.3", ls=":", lw=1.5)
    figure.align_ylabels()
    rows = len(along.v)
    told = f"other inputs: mean over {rows} rows of the data\n(grey slopes: all rows)"
    _save(figure, path, told if len(ensemble.columns) > 1 else "")


def _panels(along: _Along) -> list[tuple[int, int, np.ndarray, np.ndarray, np.ndarray]]:
    """Returns part, output or -1 for all, rows, and bounds (k,) of each derivative."""
    kinds, bounds, entry = along.ensemble.kinds, along.ensemble.bounds, along.entry
    free, none = np.full(len(along.x), np.inf), np.zeros(len(along.x))
    rules = list(zip(*np.reshape(kinds.slopes, (-1, 2)).T, *bounds[:2]))
    rules += [(one, -1, -1 / w, 1 / w) for one, w in zip(kinds.steep, bounds.steepness)]
    rules = [one for one in rules if entry <= one[0] < entry + len(along.column.widths)]
    panels = []
    # Rules of single classes have panels of their own.
    for output in sorted({int(one[1]) for one in rules} - {-1})[:3] or [-1]:
        low, high = -free, free
        for one, of, *ends in rules:
            ends = [np.inf * end if abs(end) > FAR / 2 else end for end in ends]
            # Beyond a mode, that to rise in the entry is to fall along the input.
            least, most = sorted(-end if one > entry else end for end in ends)
            here = (along.side == one - entry) & (of in (-1, output))
            low = np.where(here, np.maximum(low, least * along.unit[1]), low)
            high = np.where(here, np.minimum(high, most * along.unit[1]), high)
        panels.append((1, output, np.ones(len(along.v), bool), low, high))
    groups = {sign: group for group, sign, _ in kinds.curvatures if entry in group}
    # A joint rule is of rows in which none of its inputs is missing.
    flags = [flag for one, flag in kinds.flags if one in sum(groups.values(), ())]
    known = ~np.any(along.v[:, flags] > 0.5, axis=1)
    if groups and known.any():
        low, high = (none if sign in groups else free for sign in (1, -1))
        panels.append((2, -1, known, -low, high))
    return panels


def _draw_value(
    axes: Any, along: _Along, frame: Frame, y: np.ndarray, level: float
) -> None:
    """Draws the mean prediction, its band, and the curve plus residuals of rows."""
    ensemble, value = along.ensemble, along.parts[0].mean(1)
    loss, at = ensemble.loss, along.cells
    classes, output = loss.kind in CLASSES, loss.outputs // 2
    target, near = y[:: -(-len(y) // _POINTS)], np.zeros(len(at))
    if not classes:
        residual = target - ensemble.predict(_thinned(frame, _POINTS))[:, output]
        near = np.interp(at, along.x, value[:, output]) + residual
    for style, one in zip(_STYLES, value.T):
        axes.plot(along.x, one, "k", lw=2.2, ls=style)
    axes.lines[0].set_label("fit" if loss.outputs == 1 else "_")
    shown = [value, near]
    if ensemble.calibration is not None:
        ends = ensemble.interval_at(along.parts[0].reshape(-1, 1), level)
        shown.append(ends.reshape(*along.parts[0].shape[:2], 2).mean(1))
        label = f"{100 * level:g} % of targets"
        axes.fill_between(along.x, *shown[2].T, label=label, **_GREY)
    low, high = _limits(np.concatenate(shown, axis=None))
    positive = y.min() >= 0 and not np.any(value < 0)
    axes.set_ylim(max(low, 0) if positive else low, min(high, 1) if classes else high)
    # Rows of one level lie beside one another.
    beside = 0.4 * (np.arange(len(at)) * 0.618 % 1 - 0.5) * bool(along.column.levels)
    (low, high), (left, right) = axes.get_ylim(), axes.get_xlim()
    off = np.sum((near < low) | (near > high) | (at < left) | (at > right))
    label = f"data ({off} outside)" if off else "data"
    mark, size = ("|", 14) if classes else (".", 5)
    axes.plot(at + beside, near, mark, ms=size, color="0.5", label=label, zorder=1.5)
    if loss.outputs > 1:
        _name_lines(axes, along, value)
    _name_values(axes, "probability" if classes else "prediction")
    axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 1), ncols=3, **_LEGEND)


def _draw_derivative(axes: Any, along: _Along, panel: tuple[Any, ...]) -> None:
    """Draws a derivative, its range over the rows, and what is forbidden."""
    part, output, rows, low, high = panel
    parts = along.parts[part][:, rows, max(output, 0) : output + 1 or None]
    mean, least, most = parts.mean(1), parts.min((1, 2)), parts.max((1, 2))
    bottom, top = np.sort([0.0, *_limits(parts)])[[0, 2]]
    # A bound far away would flatten the curve: the title states it, nothing draws it.
    span, ends = top - bottom, np.concatenate([low, high, [bottom, 0.0, top]])
    near = ends[np.abs(ends - (bottom + top) / 2) <= 2.5 * span]
    bottom, top = min(bottom, *(near - 0.1 * span)), max(top, *(near + 0.1 * span))
    axes.set_ylim(bottom, top)
    # At a mode the derivative jumps.
    for here in (along.side == side for side in np.unique(along.side)):
        x = along.x[here]
        axes.fill_between(x, least[here], most[here], **_GREY)
        axes.plot(x, np.stack([least, most], 1)[here], color="0.45", lw=0.8)
        for style, one in zip(_STYLES[max(output, 0) % _SHOWN :], mean[here].T):
            axes.plot(x, one, "k", lw=2.2, ls=style)
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
    if output < 0 and parts.shape[2] > 1:
        _name_lines(axes, along, mean)
    label = ("slope", "curvature")[part - 1]
    _name_values(axes, label)
    told = f"class {output}: {label}" if output >= 0 else label
    told += f" {_number(np.min(least))} to {_number(np.max(most))}"
    rules = [f"≥ {_number(end)}" for end in {*low} if end > -np.inf]
    rules += [f"≤ {_number(end)}" for end in {*high} if end < np.inf]
    then = ", then " if along.side.min() < along.side.max() else ", "
    word = f"{'BROKEN ' * any(broken)}rule: {then.join(rules)}" if rules else ""
    told += ("; " if len(told) + len(word) < 47 else "\n") * bool(rules) + word
    axes.set_title(told, fontsize=_SMALL, loc="left")


def plot_pair(
    ensemble: Ensemble, frame: Frame, first: str, second: str, path: Any
) -> None:
    """Draws contours of the mean prediction over two inputs.

    The mean is over up to 100 rows of the data. Of quantiles it is of the middle one,
    of several classes of the last one's probability.

    Args:
        ensemble: fitted.
        frame: inputs of the data.
        first: name of the input on the horizontal axis, of numbers or ordered levels.
        second: name of that on the vertical axis.
        path: the PNG to write.

    Raises:
        TypeError: an argument is of another kind.
        ValueError: there is no such column of numbers, or both are the same.
    """
    v, chosen = _prepared(path, ensemble, frame, _PAIRED, first=first, second=second)
    (columns, starts, data), loss = zip(*chosen), ensemble.loss
    x, y = (_places(one, at, 25) for one, at in zip(columns, data))
    every, across = np.tile(v, (len(x), 1)), columns[0].entries_at(x)
    every[:, starts[0] : starts[0] + across.shape[1]] = across.repeat(len(v), 0)
    output = loss.outputs // 2 if loss.kind == "quantile" else loss.outputs - 1
    surface = []
    for entries in columns[1].entries_at(y):
        every[:, starts[1] : starts[1] + len(entries)] = entries
        value = ensemble.predict_encoded(every)[:, output]
        surface.append(value.reshape(len(x), len(v)).mean(1))
    axes = new_figure(6, 7.5).subplots()
    _draw_contours(axes, x, y, np.array(surface))
    look = {"mfc": "white", "mec": "black", "mew": 0.7, "ls": "", "ms": 4}
    axes.plot(*data, "o", zorder=2.5, **look)
    for way, column, at in zip("xy", columns, data):
        _name_axis(axes, way, column, at)
    name = f" of {_names(loss)[output]}" if loss.outputs > 1 else ""
    axes.set_title(f"prediction{name}; circles: data", fontsize=_SMALL, loc="left")
    told = f"other inputs: mean over {len(v)} rows of the data"
    _save(axes.figure, path, told if len(ensemble.columns) > 2 else "")


def _draw_contours(axes: Any, *grid: np.ndarray) -> None:
    """Draws contour lines of (x, y, surface) with their values, and greys between."""
    low, high = _limits(grid[2], 0.0)
    if not high - low > 1e-6 * abs(high):
        told, look = f"{_number(low)} everywhere", {"ha": "center", "fontsize": _LARGE}
        axes.text(0.5, 0.5, told, transform=axes.transAxes, **look)
        return
    grid = (*grid[:2], np.clip(grid[2], low, high))
    # Lighter than black, so that black lines and labels stay seen.
    filled = axes.contourf(*grid, 8, cmap="Greys", vmin=low, vmax=2 * high - low)
    look = {"colors": "black", "linewidths": 1.2, "linestyles": "solid"}
    lines = axes.contour(*grid, filled.levels, **look)
    for label in axes.clabel(lines, fontsize=_SMALL, fmt="%.6g", zorder=4):
        label.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 1.5})


def plot_calibration(
    ensemble: Ensemble, frame: Frame, y: np.ndarray, path: Any
) -> None:
    """Draws how often statements of probability come true on given rows.

    They are levels of prediction intervals or of quantiles, or classes' probabilities
    in ten groups of equal size.

    Args:
        ensemble: fitted, with a calibration, of quantiles or of classes.
        frame: inputs, of rows that were not fitted.
        y: target, in its units; of classes their numbers, (rows,).
        path: the PNG to write.

    Raises:
        TypeError: an argument is of another kind.
        ValueError: the ensemble makes no statement of probability.
    """
    _prepared(path, ensemble, frame, 1)
    y = read_target(y, frame.rows, ensemble.loss)
    predicted, loss = ensemble.predict(frame), ensemble.loss
    rows, curves, words = len(y), [], ("level of the interval", "share of rows within")
    if ensemble.calibration is not None:
        levels = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95])
        ends = [ensemble.interval_at(predicted[:, :1], level) for level in levels]
        found = np.mean([(one[:, 0] <= y) & (y <= one[:, 1]) for one in ends], 1)
        curves.append(("intervals", levels, found))
    elif loss.kind == "quantile":
        words = "level of the quantile", "share of rows below"
        curves.append(("quantiles", loss.levels, np.mean(y[:, None] <= predicted, 0)))
    elif loss.kind in CLASSES:
        words, bins = ("predicted probability", "share of rows"), min(10, len(y))
        rows /= bins
        for place, name in enumerate(_names(loss)):
            pairs = np.stack([predicted[:, place], y == int(name.split()[1])], 1)
            groups = np.array_split(pairs[np.argsort(pairs[:, 0], kind="stable")], bins)
            curves.append((name, *np.array([one.mean(0) for one in groups]).T))
    else:
        raise ValueError("the ensemble has neither intervals, quantiles nor classes")
    axes, even = new_figure(6, 7.5).subplots(), np.linspace(0, 1, 101)
    error = 2 * np.sqrt(even * (1 - even) / rows)
    ends = np.clip([even - error, even + error], 0, 1)
    axes.fill_between(even, *ends, label="two standard errors", **_GREY)
    axes.plot(even, even, color="0.4", ls=(0, (1, 2)), lw=1.5, label="as stated")
    for place, (name, stated, found) in enumerate(curves):
        look = {"marker": _MARKS[place], "ms": 8, "mfc": "white", "color": "black"}
        look |= {"ls": _STYLES[place], "lw": 1.8, "label": name, "clip_on": False}
        axes.plot(stated, found, **look)
    axes.set(xlim=(0, 1), ylim=(0, 1))
    axes.legend(loc="upper left", **_LEGEND)
    axes.set_title(f"{len(y):,} rows", fontsize=_SMALL, loc="left")
    axes.set_xlabel(words[0], fontsize=_LARGE)
    axes.set_ylabel(words[1], fontsize=_LARGE)
    _save(axes.figure, path, "")


def _name_lines(axes: Any, along: _Along, values: np.ndarray) -> None:
    """Writes outputs' names beside the right ends of their lines, none over another."""
    names, (low, high) = _names(along.ensemble.loss), axes.get_ylim()
    last = values[along.x <= axes.get_xlim()[1]][-1, : len(names)]
    order, steps = np.argsort(last), 0.1 * np.arange(len(names))
    places = np.clip((last[order] - low) / (high - low), 0.02, 0.98)
    places = np.maximum.accumulate(places - steps) + steps
    places = np.minimum(places, 0.98 - steps[::-1])
    look = {"transform": axes.transAxes, "va": "center", "fontsize": _SMALL}
    for output, place in zip(order, places):
        axes.text(1.01, place, names[output], **look)


def _names(loss: Loss) -> list[str]:
    """Returns the names of the outputs that are drawn."""
    if loss.kind == "quantile":
        return [f"{100 * level:g} %" for level in loss.levels[:_SHOWN]]
    first = int(loss.kind == "binary")
    return [f"class {first + one}" for one in range(min(loss.outputs, _SHOWN))]


def _name_axis(axes: Any, way: str, column: Column, values: np.ndarray) -> None:
    """Writes a column's name and levels, and sets the axis' limits."""
    axis, x = getattr(axes, f"{way}axis"), _places(column, values, 2)
    axis.set_label_text(_text(column.name), fontsize=_LARGE)
    if column.levels:
        shown = range(0, len(x), -(-len(x) // 12))  # at most a dozen have room
        names = [_text(str(column.levels[one])) for one in shown]
        axis.set_ticks(shown, names, rotation=30 if len("".join(names)) > 36 else 0)
    beside = 0.3 if column.levels else 0.0
    axes.set(**{f"{way}lim": (x[0] - beside, x[-1] + beside)})


def _name_values(axes: Any, label: str) -> None:
    """Writes the name of the vertical axis, with its power of ten where it has one."""
    power = int(np.floor(np.log10(np.max(np.abs(axes.get_ylim())))))
    power *= not -3 < power < 5
    axes.yaxis.set_major_formatter(lambda at, _: _number(at / 10.0**power, 6))
    axes.set_ylabel(label + f" / 10$^{{{power}}}$" * bool(power), fontsize=_LARGE)


def _places(column: Column, values: np.ndarray, number: int) -> np.ndarray:
    """Returns places along a column as far as data are, or those of its levels."""
    if column.levels:
        return np.arange(len(column.levels), dtype=float)
    low, high = np.clip(_limits(values), column.lower, column.upper)
    return np.linspace(low, high if low < high else low + column.widths[0], number)


def _limits(values: np.ndarray, room: float = 0.05) -> tuple[float, float]:
    """Returns the 1st and 99th percentiles, or extremes where near, and room beside."""
    values = values[np.isfinite(values)] if np.isfinite(values).any() else np.arange(2)
    low, high = np.percentile(values, [1, 99])
    near = values[np.abs(values - (low + high) / 2) <= high - low]
    apart = room * (np.ptp(near) or abs(high) or 20.0)
    return float(near.min() - apart), float(near.max() + apart)


def _prepared(
    path: Any, ensemble: Ensemble, frame: Frame, most: int, **named: str
) -> tuple[np.ndarray, list[tuple[Column, int, np.ndarray]]]:
    """Returns encoded rows with columns known in all, their first entries and cells."""
    check_type("path", path, (str, os.PathLike), "a file's path")
    check_type("ensemble", ensemble, Ensemble, "a fitted Ensemble")
    check_type("frame", frame, Frame, "a Frame, of read_frame")
    check_number("frame: rows", frame.rows, least=1)
    ensemble.predict(_thinned(frame, 1))  # refuses another number of columns
    numbers = {one.name: at for at, one in enumerate(ensemble.columns) if one.is_number}
    v, chosen = encode(ensemble.columns, _thinned(frame, most)), []
    for word, name in named.items():
        check_type(word, name, str, "a column's name")
        if name not in numbers:
            known = ", ".join(map(repr, [*numbers][:20]))
            raise ValueError(f"{word}: no column of numbers {name!r}; known: {known}")
        place = numbers.pop(name)  # a second one is another
        column, entry = ensemble.columns[place], offsets(ensemble.layout)[place]
        if column.missing:
            v[:, entry + len(column.widths)] = 0.0
        cells = column.values(_thinned(frame, _POINTS).columns[place])
        chosen.append((column, entry, cells))
    return v, chosen


def _thinned(frame: Frame, most: int) -> Frame:
    step = -(-frame.rows // most)
    return frame._replace(columns=tuple(one[::step] for one in frame.columns))


def _number(value: float, digits: int = 4) -> str:
    return f"{value + 0.0:.{digits}g}".replace("-", "−")


def _text(name: str) -> str:
    """Shortens a name, and escapes what matplotlib would take for mathematics."""
    return (name if len(name) <= 40 else f"{name[:37]}...").replace("$", r"\$")


def _save(figure: Any, path: Any, told: str) -> None:
    """Writes a figure, with boxes for letters that the font lacks."""
    for axes in figure.axes:
        axes.tick_params(labelsize=_SMALL)
        axes.spines[["top", "right"]].set_visible(False)
    if told:
        figure.supxlabel(told, fontsize=_SMALL)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        figure.savefig(path, dpi=150, format="png")
