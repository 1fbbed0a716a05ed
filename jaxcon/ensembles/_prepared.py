"""Tables made ready for a training: merged, scaled, and held out in parts."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from jaxcon._checks import check_number
from jaxcon.ensembles._columns import Column, encode
from jaxcon.ensembles._frame import Frame
from jaxcon.ensembles._losses import Loss, scale_of
from jaxcon.ensembles._network import Inputs
from jaxcon.ensembles._training import Rows

# Members, and the folds of which each holds out one; rows that are held out at most.
MEMBERS, FOLDS, _SEEN = 8, 5, 8192


@dataclass(frozen=True)
class Options:
    """Options of a fit.

    Attributes:
        members: of the ensemble.
        steps: of training; chosen by the number of rows if None.
        seed: of members, folds and points.
        batch: rows of a step; chosen by the number of rows if None.
    """

    members: int = MEMBERS
    steps: int | None = None
    seed: int = 0
    batch: int | None = None

    def __post_init__(self) -> None:
        check_number("members", self.members, least=1, most=1000, whole=True)
        check_number("seed", self.seed, least=0, below=2**32, whole=True)
        for name in ("steps", "batch"):
            if getattr(self, name) is not None:
                value = getattr(self, name)
                check_number(name, value, least=1, most=10**8, whole=True)


class Prepared(NamedTuple):
    """Table in scaled units, with all that a training needs.

    Attributes:
        columns: the encoding.
        loss: of the target.
        center: of the target.
        unit: of the target.
        v: encoded rows.
        target: scaled.
        weight: of the rows.
        held: which rows each member holds out, (members, rows).
    """

    columns: tuple[Column, ...]
    loss: Loss
    center: float
    unit: float
    v: np.ndarray
    target: np.ndarray
    weight: np.ndarray
    held: np.ndarray


def prepare(
    frame: Frame,
    y: np.ndarray,
    loss: Loss,
    columns: tuple[Column, ...],
    weight: np.ndarray,
    held_out: np.ndarray | None,
    options: Options,
) -> Prepared:
    """Scales a table and draws the rows that each member holds out.

    Args:
        frame: inputs.
        y: target.
        loss: of the target.
        columns: the encoding.
        weight: of the rows.
        held_out: rows that all members hold out, or None.
        options: of the fit.

    Returns:
        A `Prepared`.
    """
    v, y = encode(columns, frame), np.asarray(y, float)
    held = np.zeros(len(y), bool) if held_out is None else held_out
    v, y, weight, held = merged(v, y, weight, held)
    center, unit = scale_of(loss, y, weight)
    drawn = folds(len(y), options, None if held_out is None else held)
    return Prepared(columns, loss, center, unit, v, (y - center) / unit, weight, drawn)


def merged(
    v: np.ndarray, y: np.ndarray, weight: np.ndarray, held: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Merges equal rows and adds up their weights; drops those without weight.

    A row with weight 2 is then the same as two such rows, and no row is both trained on
    and held out.

    Args:
        v: encoded rows.
        y: target.
        weight: of the rows.
        held: rows that all members hold out.

    Returns:
        Distinct rows in a fixed order, and their targets, weights and marks.
    """
    kept = weight > 0
    v, y, weight, held = v[kept], y[kept], weight[kept], held[kept]
    order = np.lexsort([weight, held, y, *v.T])
    v, y, weight, held = v[order], y[order], weight[order], held[order]
    new = np.any(v[1:] != v[:-1], axis=1) | (y[1:] != y[:-1]) | (held[1:] != held[:-1])
    first = np.flatnonzero(np.concatenate([[True], new]))
    return v[first], y[first], np.add.reduceat(weight, first), held[first]


def folds(
    rows: int, options: Options, held_out: np.ndarray | None = None
) -> np.ndarray:
    """Draws the rows that each member holds out to choose its iterate and decay.

    Args:
        rows: their number.
        options: of the fit.
        held_out: rows that all members hold out, or None.

    Returns:
        (members, rows) of 0 and 1: of five folds, drawn anew for every five members; all
        rows where they are fewer than five.
    """
    if held_out is not None:
        return np.tile(held_out.astype(np.float32), (options.members, 1))
    held = np.zeros((options.members, rows), np.float32)
    if rows < FOLDS:
        return held + 1
    rng = np.random.default_rng(options.seed)
    order = rng.permutation(rows)
    # Of many rows a few thousand tell as well as all when to stop.
    pool = min(rows, _SEEN)
    for member in range(options.members):
        if member and member % FOLDS == 0:
            order = np.concatenate([rng.permutation(order[:pool]), order[pool:]])
        held[member, order[member % FOLDS : pool : FOLDS]] = 1
    return held


def standardisation(
    columns: Sequence[Column], v: np.ndarray, weight: np.ndarray
) -> Inputs:
    """Computes means of all entries, and deviations of those of numbers."""
    mean = np.average(v, axis=0, weights=weight)
    spread = np.sqrt(np.average(np.square(v - mean), axis=0, weights=weight))
    number = np.concatenate(
        [[one.is_number] * one.block.size + [False] * one.missing for one in columns]
    )
    return Inputs(
        mean, np.where(number & (spread > 0), 1 / np.maximum(spread, 1e-9), 1.0)
    )


def padded_rows(prepared: Prepared) -> Rows:
    """Pads rows to the next of few sizes, with weight 0."""
    rows = len(prepared.target)
    padded = _padded(rows)
    extra = padded - rows
    held = np.pad(prepared.held, ((0, 0), (0, extra)))
    weight = np.pad(prepared.weight / prepared.weight.mean(), (0, extra))
    few = prepared.held.all()  # few rows are both trained on and held out
    train = weight * (np.ones_like(held) if few else 1 - held)
    seen = np.flatnonzero(held.any(0))
    seen = np.resize(seen, _padded(len(seen)))
    counted = np.arange(len(seen)) < len(np.flatnonzero(held.any(0)))
    return Rows(
        single(np.pad(prepared.v, ((0, extra), (0, 0)))),
        single(np.pad(prepared.target, (0, extra), mode="edge")),
        single(train),
        np.int32(rows),
        seen.astype(np.int32),
        single(held[:, seen] * weight[seen] * counted),
    )


def _padded(rows: int) -> int:
    """Returns the next of sizes that grow by an eighth."""
    step = 2 ** max(int(rows).bit_length() - 4, 3)
    return -(-rows // step) * step


def single(value: Any) -> np.ndarray:
    """Converts numbers to float32, in which the training computes.

    Args:
        value: an array of numbers of any shape.

    Returns:
        Of its shape.
    """
    return np.asarray(value, np.float32)
