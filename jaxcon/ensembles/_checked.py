"""Checks of what a fit is given."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxcon._checks import check_array, check_function, check_type, described
from jaxcon.ensembles._frame import Frame, scalar_levels
from jaxcon.ensembles._losses import read_target
from jaxcon.ensembles._prepared import Options
from jaxcon.ensembles._rules import ShapeRules


class Given(NamedTuple):
    """Table of a fit without rows of weight 0.

    Attributes:
        frame: inputs.
        y: target, (rows,).
        weight: of the rows, (rows,).
        held_out: rows that all members hold out, (rows,) of bool, or None.
    """

    frame: Frame
    y: np.ndarray
    weight: np.ndarray
    held_out: np.ndarray | None


def checked(
    frame: Any,
    y: Any,
    loss: Any,
    rules: Any,
    weight: Any,
    held_out: Any,
    categorical: Any,
    options: Any,
    watch: Any,
    checkpoint: Any,
) -> Given:
    """Refuses what no fit can be made of, and drops rows of weight 0.

    Args:
        frame: as `fit_ensemble` takes it, as is all else.
        y: target.
        loss: of the target.
        rules: by column.
        weight: of the rows.
        held_out: rows that all members hold out.
        categorical: levels by column.
        options: of the fit.
        watch: function that is called from time to time.
        checkpoint: file.

    Returns:
        `Given`.

    Raises:
        TypeError: an argument is of another type.
        ValueError: it has another size, or is out of its range.
    """
    check_type("frame", frame, Frame, "a Frame, as read_frame makes one")
    check_type("rules", rules, ShapeRules, "ShapeRules")
    check_type("options", options, Options, "Options")
    if watch is not None:
        check_function("watch", watch, "(steps done, steps, loss)")
    if checkpoint is not None:
        check_type("checkpoint", checkpoint, Path, "a pathlib.Path")
    if frame.rows == 0 or {len(one) for one in frame.columns} != {frame.rows}:
        raise ValueError("frame must have columns of one length, with at least one row")
    target = read_target(y, frame.rows, loss)
    weight = read_weight("weight", weight, frame.rows)
    if held_out is not None:
        held_out = _marks(held_out, weight)
    check_categorical(categorical, frame)
    kept = weight > 0
    if not kept.all():
        columns = tuple(one[kept] for one in frame.columns)
        frame, target, weight = (
            frame._replace(columns=columns),
            target[kept],
            weight[kept],
        )
        held_out = None if held_out is None else held_out[kept]
    return Given(frame, target, weight, held_out)


def read_weight(name: str, given: Any, rows: int) -> np.ndarray:
    """Reads weights of rows.

    Args:
        name: of the argument, for the message.
        given: one for each row, or one number; None for 1.
        rows: their number.

    Returns:
        (rows,) of float64.

    Raises:
        TypeError: they are no numbers.
        ValueError: they are of another shape, negative, or 0 everywhere.
    """
    if given is None:
        return np.ones(rows)
    weight = np.asarray(check_array(name, given, "() or (rows,)"), float)
    if weight.ndim == 0:
        weight = np.full(rows, float(weight))
    if weight.shape != (rows,):
        raise ValueError(f"{name} must have shape ({rows},), got shape {weight.shape}")
    if np.any(weight < 0):
        raise ValueError(f"{name} must be at least 0, got {weight.min():g}")
    if not np.any(weight > 0):
        raise ValueError(f"{name} must not be zero everywhere")
    return weight


def check_categorical(given: Any, frame: Frame) -> None:
    """Refuses levels of columns that are not there, or that lack a level of the data.

    Args:
        given: levels by name, None where they have no order; or None.
        frame: inputs.

    Raises:
        TypeError: it is no such dict.
        ValueError: it names no column, or a cell is none of its column's levels.
    """
    if given is None:
        return
    check_type("categorical", given, Mapping, "a dict of levels by column")
    for name, levels in given.items():
        if name not in frame.names:
            raise ValueError(f"categorical: there is no column {described(name)}")
        if levels is None:
            continue
        if isinstance(levels, (str, bytes)) or not isinstance(levels, Sequence):
            raise TypeError(
                f"categorical: the levels of column {name!r} must be a list in order, or "
                f"None, got {described(levels)}"
            )
        if not len(levels) or len(set(levels)) < len(levels):
            raise ValueError(f"categorical: column {name!r} must have distinct levels")
        for cell in scalar_levels(frame.columns[frame.names.index(name)]):
            if cell not in levels:
                raise ValueError(
                    f"categorical: column {name!r} holds {cell!r}, none of its levels"
                )


def _marks(given: Any, weight: np.ndarray) -> np.ndarray:
    """Reads which rows all members hold out."""
    try:
        marks: np.ndarray = np.asarray(given)
    except ValueError:  # a ragged list
        marks = np.zeros(0, bool)
    if marks.dtype != bool or marks.shape != weight.shape:
        raise ValueError(
            f"held_out must be an array ({len(weight)},) of bool, got {described(given)}"
        )
    if not np.any(marks & (weight > 0)) or not np.any(~marks & (weight > 0)):
        raise ValueError("held_out must mark some rows of weight above 0, and not all")
    return marks
