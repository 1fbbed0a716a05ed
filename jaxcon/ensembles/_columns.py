"""Encoding of a table's columns as numbers between 0 and 1.

A number is scaled to its range in the training data, a little widened, and cut to it, so
that a rule that holds on that box holds for every input. One along which the
prediction is to rise up to a peak and fall beyond has two entries, which rise to 1 at the
peak from below and from above: a prediction that rises in both has its mode there.

A category has one entry for each level, or its place if its levels are ordered. A column in
which values are missing has a further entry, 1 where one is missing, whose weight is
learned.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxcon.ensembles._frame import Frame, is_missing, scalar_levels

# Levels with fewer rows than this are encoded as unknown; more levels are not kept.
_LEAST_ROWS, _MOST_LEVELS = 2, 255
# Share of its range by which a column is widened at most at each end.
_FARTHEST = 0.25


class Block(NamedTuple):
    """Entries of one column in an encoded row.

    Attributes:
        size: number of entries without the one for missing values: 1 for a number, 2 for
            one with a peak.
        category: whether they are indicators of levels.
        missing: whether there is an entry for missing values.
    """

    size: int
    category: bool
    missing: bool


class Column(NamedTuple):
    """Encoding of one column.

    Attributes:
        name: of the column.
        levels: of a category, in their order; () of a number.
        ordered: whether the levels are ordered.
        lower: smallest value in the training data.
        upper: largest.
        center: mean, which stands for a missing value.
        missing: whether values are missing in the training data.
        peak: where the prediction has its mode along the column; None for no such rule.
    """

    name: str
    levels: tuple[Any, ...] = ()
    ordered: bool = False
    lower: float = 0.0
    upper: float = 1.0
    center: float = 0.5
    missing: bool = False
    peak: float | None = None

    @property
    def is_number(self) -> bool:
        """Returns whether slopes exist along the column."""
        return not self.levels or self.ordered

    @property
    def widths(self) -> tuple[float, ...]:
        """Widths in the column's units that its entries of numbers run over."""
        if self.peak is None:
            return ((self.upper - self.lower) or 1.0,)
        return (self.peak - self.lower) or 1.0, (self.upper - self.peak) or 1.0

    @property
    def entry_names(self) -> list[str]:
        """Names of the entries."""
        if self.is_number:
            ends = [""] if self.peak is None else [" to its mode", " from its mode"]
            names = [self.name + end for end in ends]
        else:
            names = [f"{self.name}={level}" for level in self.levels]
        return names + [f"{self.name} missing"] * self.missing

    @property
    def block(self) -> Block:
        """Entries of the column."""
        size = len(self.widths) if self.is_number else len(self.levels)
        return Block(size, not self.is_number, self.missing)

    def values(self, cells: np.ndarray) -> np.ndarray:
        """Converts cells to numbers: values, or places of levels; NaN where missing."""
        if not self.levels:
            return _as_numbers(cells, self.name)
        places = {level: float(place) for place, level in enumerate(self.levels)}
        return np.array([places.get(_key(cell), np.nan) for cell in cells])

    def encode(self, cells: np.ndarray) -> np.ndarray:
        """Encodes cells (rows,) as entries (rows, k) between 0 and 1."""
        values = self.values(cells)
        lost = np.isnan(values)
        if self.is_number:
            known = np.clip(np.where(lost, self.center, values), self.lower, self.upper)
            entries = self.entries_at(known)
        else:
            entries = (values[:, None] == np.arange(len(self.levels))).astype(float)
        if self.missing:
            gone = lost if not self.levels else np.array([is_missing(c) for c in cells])
            entries = np.column_stack([entries, gone])
        return entries

    def entries_at(self, known: np.ndarray) -> np.ndarray:
        """Scales numbers within the range, (k,), to entries (k, size) between 0 and 1."""
        if self.peak is None:
            return ((known - self.lower) / self.widths[0])[:, None]
        below, above = self.widths
        rising = (np.minimum(known, self.peak) - self.lower) / below
        falling = (self.upper - np.maximum(known, self.peak)) / above
        # Beyond a mode at an end of the range there is nothing.
        rising = np.ones_like(rising) if self.peak == self.lower else rising
        falling = np.ones_like(falling) if self.peak == self.upper else falling
        return np.column_stack([rising, falling])


def describe_columns(
    frame: Frame, weight: np.ndarray, categorical: Mapping[str, Sequence[Any] | None]
) -> tuple[Column, ...]:
    """Determines the encoding of each column from training data.

    Args:
        frame: the inputs.
        weight: of the rows, (rows,).
        categorical: by name, columns of numbers that are categories, with their levels in
            order, or None for unordered ones that the data show.

    Returns:
        One `Column` for each.

    Raises:
        ValueError: a column holds values that are neither numbers nor categories.
    """
    described = []
    for name, cells in zip(frame.names, frame.columns):
        levels = categorical.get(name)
        ordered = levels is not None
        if name in frame.levels and levels is None:
            levels, ordered = frame.levels[name], name in frame.ordered
        if name in categorical or name in frame.levels or cells.dtype == object:
            described.append(_category(name, cells, weight, levels, ordered))
        else:
            described.append(_number(name, cells, weight))
    return tuple(described)


def _category(
    name: str,
    cells: np.ndarray,
    weight: np.ndarray,
    levels: Sequence[Any] | None,
    ordered: bool,
) -> Column:
    missing = any(map(is_missing, cells))
    if ordered and levels is not None:
        column = Column(name, tuple(levels), True, missing=missing)
        last = max(len(column.levels) - 1, 1)
        places = column.values(cells)
        here = np.isfinite(places)
        middle = (
            np.average(places[here], weights=weight[here]) if here.any() else last / 2
        )
        return column._replace(lower=0.0, upper=float(last), center=float(middle))
    every = scalar_levels(cells)
    # In the cells' own order, whichever the dtype lists; a row of weight 2 is two rows.
    counts: dict[Any, float] = {}
    for cell, one in zip(cells, np.maximum(weight, 1.0)):
        counts[_key(cell)] = counts.get(_key(cell), 0.0) + one
    known = [one for one in every if counts[one] >= _LEAST_ROWS]
    if len(known) > _MOST_LEVELS:
        often = sorted(known, key=lambda one: -counts[one])[:_MOST_LEVELS]
        known = [one for one in known if one in set(often)]
    return Column(name, tuple(known) or every[:1] or ("",), missing=missing)


def _number(name: str, cells: np.ndarray, weight: np.ndarray) -> Column:
    here = np.isfinite(cells)
    if np.any(np.isinf(cells)):
        raise ValueError(f"X: column {name!r} holds infinity")
    if not here.any():
        return Column(name, missing=True)
    values, total = cells[here], weight[here].sum()
    center = np.average(values, weights=weight[here]) if total > 0 else values.mean()
    lower, upper = _range(values, weight[here])
    return Column(name, (), False, lower, upper, float(center), not here.all())


def _range(values: np.ndarray, weight: np.ndarray) -> tuple[float, float]:
    """Returns the range of values, wider at an end at which a single row lies.

    New values lie beyond the greatest of n about as far as the greatest √n beyond the next
    (the mean excess of Davison and Smith, JRSS B 52 (1990)); the range is widened by it,
    but by a quarter of itself at most. An end that several rows share is taken for a true
    one, as 0 of a count. A row of weight 2 is two rows.
    """
    weight = np.maximum(weight, 1.0)
    lower, upper = float(values.min()), float(values.max())
    below, above = (
        min(_tail(sign * values, weight), _FARTHEST * (upper - lower))
        if weight[values == end].sum() <= 1
        else 0.0
        for sign, end in ((-1, lower), (1, upper))
    )
    return lower - below, upper + above


def _tail(values: np.ndarray, weight: np.ndarray) -> float:
    """Returns how far the mean of the greatest √n values lies beyond the next."""
    order = np.argsort(-values, kind="stable")
    values, weight = values[order], weight[order]
    reached, number = np.cumsum(weight), np.sqrt(weight.sum())
    share = np.clip(number - (reached - weight), 0.0, weight)
    following = np.searchsorted(reached, number, side="right")
    return float(
        np.average(values, weights=share) - values[min(following, len(values) - 1)]
    )


def encode(columns: Sequence[Column], frame: Frame) -> np.ndarray:
    """Encodes a table.

    Args:
        columns: the encoding.
        frame: the inputs, in the columns' order.

    Returns:
        (rows, d) of float64, between 0 and 1.
    """
    parts = [one.encode(cells) for one, cells in zip(columns, frame.columns)]
    return np.concatenate(parts, axis=1)


def offsets(layout: Sequence[Block]) -> tuple[int, ...]:
    """Returns the place of each column's first entry in an encoded row."""
    widths = [block.size + block.missing for block in layout]
    return tuple(int(one) for one in np.cumsum([0, *widths[:-1]]))


def cube_size(layout: Sequence[Block]) -> int:
    """Returns the number of coordinates by which `expand` chooses a row."""
    return sum(1 + block.missing for block in layout)


def expand(layout: Sequence[Block], u: jax.Array) -> jax.Array:
    """Maps a point of the unit cube to an encoded row.

    A coordinate is a number's entry, or chooses one of a category's levels or, by its last
    part, an unknown one; a further one for each column with missing values says by its last
    fifth that the value is missing.
    Every possible row is reached, and slopes along numbers are those along coordinates.

    Args:
        layout: of the columns.
        u: (`cube_size`,), between 0 and 1.

    Returns:
        (d,).
    """
    parts, place = [], 0
    for block in layout:
        own, place = u[place : place + 1], place + 1
        if block.category:
            level = (own * (block.size + 1)).astype(int)  # the last one is unknown
            own = (jnp.arange(block.size) == level).astype(u.dtype)
        elif block.size == 2:
            own = jnp.minimum(jnp.concatenate([2 * own, 2 - 2 * own]), 1.0)
        if block.missing:
            gone, place = (u[place] > 0.8).astype(u.dtype), place + 1
            own = jnp.append(own * (1 - gone), gone)
        parts.append(own)
    return jnp.concatenate(parts)


def _as_numbers(cells: np.ndarray, name: str) -> np.ndarray:
    if cells.dtype != object:
        return cells.astype(float)
    for row, cell in enumerate(cells):
        if not is_missing(cell):
            try:
                float(cell)
            except (TypeError, ValueError):
                raise ValueError(
                    f"X: column {name!r}, row {row}: {cell!r} is no number, as it was in "
                    "the training data"
                ) from None
    return np.array([np.nan if is_missing(one) else float(one) for one in cells])


def _key(cell: Any) -> Any:
    return cell.item() if isinstance(cell, np.generic) else cell
