"""Fits of ensembles to tables."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxcon.ensembles._columns import (
    Column,
    cube_size,
    describe_columns,
    encode,
    expand,
    offsets,
)
from jaxcon.ensembles._ensemble import Ensemble
from jaxcon.ensembles._frame import Frame
from jaxcon.ensembles._intervals import Calibration, calibrate
from jaxcon.ensembles._losses import REGRESSION, Loss, first_score, scale_of
from jaxcon.ensembles._mixture import Mixture
from jaxcon.ensembles._network import Inputs
from jaxcon.ensembles._projection import project
from jaxcon.ensembles._reference import Reference, reference
from jaxcon.ensembles._rules import Kinds, ShapeRules, resolve
from jaxcon.ensembles._search import search
from jaxcon.ensembles._training import (
    EVERY,
    LOOKS,
    PENALTY,
    Course,
    Design,
    Rows,
    State,
    start,
)
from jaxcon.ensembles._training import train as train_members

# Weight decays that are tried, times the number of rows; members, and the folds of which
# each holds out one.
DECAYS = (0.3, 3.0, 30.0)
MEMBERS, FOLDS = 8, 5
# Rows above which a step takes a part of them, that part, and those held out at most.
_WHOLE, _BATCH, _SEEN = 1024, 512, 8192
# Rounding of a residual in float32, a few operations on numbers of order 10.
_ROUNDING = 1e-5


@dataclass(frozen=True)
class Options:
    """Options of a fit.

    Attributes:
        members: of the ensemble.
        steps: of training; chosen by the number of rows if None.
        seed: of members, folds and points.
    """

    members: int = MEMBERS
    steps: int | None = None
    seed: int = 0


class EnsembleFit(NamedTuple):
    """Result of a fit.

    Attributes:
        ensemble: the fitted function.
        losses: held-out loss of each weight decay, (decays,).
        decay: that of the least.
        own: each member's held-out loss, (members,).
        steps: of the training.
        residuals: the worst of each rule over the box that a search of the fitted function
            found, in scaled units; a rule is broken where one is positive.
        active: share of the rows at which each rule is about to be broken.
    """

    ensemble: Ensemble
    losses: np.ndarray
    decay: float
    own: np.ndarray
    steps: int
    residuals: tuple[float, ...] = ()
    active: tuple[float, ...] = ()


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


def fit_ensemble(
    frame: Frame,
    y: np.ndarray,
    loss: Loss,
    rules: ShapeRules,
    *,
    weight: np.ndarray | None = None,
    held_out: np.ndarray | None = None,
    categorical: Mapping[str, Sequence[Any] | None] | None = None,
    options: Options = Options(),
    watch: Callable[[int, int, float], None] | None = None,
) -> EnsembleFit:
    """Fits an ensemble to a table under shape rules.

    Args:
        frame: inputs.
        y: target, (rows,); of classes their numbers from 0.
        loss: of the target.
        rules: by column.
        weight: of the rows; 1 unless given.
        held_out: rows that all members hold out, (rows,) of bool; folds unless given.
        categorical: as in `describe_columns`.
        options: of the fit.
        watch: (steps done, steps, least held-out loss), called from time to time.

    Returns:
        An `EnsembleFit`.

    Raises:
        ValueError: the rules name no column, or contradict one another.
        FloatingPointError: no member's loss was ever finite.
    """
    weight = np.ones(len(y)) if weight is None else np.asarray(weight, float)
    columns = describe_columns(frame, weight, categorical or {})
    if rules.unimodal:
        peaks = peaks_of(columns, frame, y, loss, rules, weight, categorical, options)
        columns = tuple(one._replace(peak=peaks.get(one.name)) for one in columns)
    prepared = prepare(frame, y, loss, columns, weight, held_out, options)
    kinds, bounds = resolve(rules, columns, loss, prepared.center, prepared.unit)
    inputs = standardisation(columns, prepared.v, prepared.weight)
    first = first_score(loss, prepared.target, prepared.weight)
    d, decays = prepared.v.shape[1], np.array(DECAYS) / len(prepared.v)
    constant = np.atleast_1d(np.asarray(loss.prediction(first, np), float))
    toward, slack = reference(kinds, bounds, loss, constant, d)
    course = Course(
        jax.tree.map(_single, inputs),
        jax.tree.map(_single, bounds),
        _single(decays),
        np.float32(PENALTY),
        np.int32(steps_of(len(prepared.v), options)),
        jax.random.key(options.seed),
    )
    design = design_of(prepared, kinds)
    state = _trained(design, course, prepared, first, options, watch)
    losses, place, own, members = _chosen(state, prepared)
    if loss.kind == "log_squared_error":
        members = _smeared(members, columns, prepared, inputs, loss)
    mixture, worst = Mixture(inputs, members, toward), None
    if kinds.names:
        mixture, worst = project(design, bounds, mixture, prepared.v, slack)
        share = share_of(float(worst.values.max()), slack)
        mixture = mixture._replace(share=share)
        if share > 0:
            worst = search(design.layout, loss, kinds, bounds, mixture, prepared.v)
    ensemble = Ensemble(
        columns,
        loss,
        prepared.center,
        prepared.unit,
        inputs,
        jax.tree.map(lambda leaf: np.asarray(leaf, float), mixture.members),
        kinds,
        bounds,
        toward,
        float(mixture.share),
    )
    if loss.kind in REGRESSION and loss.outputs == 1:
        ensemble = ensemble._replace(calibration=_calibrated(ensemble, prepared))
    return EnsembleFit(
        ensemble,
        losses,
        float(decays[place]),
        own,
        int(course.steps),
        () if worst is None else tuple(map(float, worst.values)),
        () if worst is None else tuple(map(float, worst.active)),
    )


def share_of(violation: float, slack: float) -> float:
    """Computes the share t of f_0 at which a violation ends, v / (v + s).

    Args:
        violation: the worst of all rules, v; negative where all are kept.
        slack: s of f_0.

    Returns:
        Between 0 and 1.
    """
    violation += _ROUNDING
    return 0.0 if violation <= 0 else violation / (violation + slack)


def steps_of(rows: int, options: Options) -> int:
    """Returns the number of training steps, a multiple of those of one call."""
    block = EVERY * LOOKS
    if options.steps is not None:
        return -(-options.steps // block) * block
    if rows <= _WHOLE:
        return 1500
    return -(-min(max(2000, 10 * rows // _BATCH), 20_000) // block) * block


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
    order = np.lexsort([held, y, *v.T])
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


def design_of(prepared: Prepared, kinds: Kinds) -> Design:
    """Chooses the width and the batch by the size of a table."""
    rows = len(prepared.target)
    numbers = sum(column.is_number for column in prepared.columns)
    return Design(
        tuple(column.block for column in prepared.columns),
        prepared.loss,
        kinds,
        width=32 if rows <= _WHOLE else 64,
        depth=2,
        batch=0 if rows <= _WHOLE else _BATCH,
        points=64 if numbers == 1 else 128,
    )


def _trained(
    design: Design,
    course: Course,
    prepared: Prepared,
    first: np.ndarray,
    options: Options,
    watch: Callable[[int, int, float], None] | None,
) -> State:
    """Runs the training."""
    state, total = None, int(course.steps)
    rows = _rows(prepared)
    begun = start(design, course, first, options.members, options.seed)
    for state in train_members(design, course, rows, begun):
        if watch is not None:
            least = float(np.min(np.mean(np.asarray(state.least), 1)))
            watch(int(state.step), total, least)
    assert state is not None
    return state


def _rows(prepared: Prepared) -> Rows:
    """Pads rows to the next of few sizes, with weight 0."""
    rows = len(prepared.target)
    padded = _padded(rows)
    extra = padded - rows
    held = np.pad(prepared.held, ((0, 0), (0, extra)))
    weight = np.pad(prepared.weight / prepared.weight.mean(), (0, extra))
    every = held.min(0) == 1  # few rows are both trained on and held out
    train = weight * np.where(every & (rows < FOLDS), 1.0, 1 - held)
    seen = np.flatnonzero(held.any(0))
    seen = np.resize(seen, _padded(len(seen)))
    counted = np.arange(len(seen)) < len(np.flatnonzero(held.any(0)))
    return Rows(
        _single(np.pad(prepared.v, ((0, extra), (0, 0)))),
        _single(np.pad(prepared.target, (0, extra), mode="edge")),
        _single(train),
        np.int32(rows),
        seen.astype(np.int32),
        _single(held[:, seen] * weight[seen] * counted),
    )


def _padded(rows: int) -> int:
    """Returns the next of sizes that grow by an eighth."""
    step = 2 ** max(int(rows).bit_length() - 4, 3)
    return -(-rows // step) * step


def _chosen(
    state: State, prepared: Prepared
) -> tuple[np.ndarray, int, np.ndarray, Any]:
    """Chooses the weight decay of the least held-out loss.

    Returns:
        Losses by decay, the place of the least, its members' losses and parameters.
    """
    least = np.asarray(state.least, float)
    losses = least.mean(1)
    if not np.isfinite(losses).any():
        raise FloatingPointError("no member's loss was ever finite")
    place = int(np.nanargmin(losses))
    members = jax.tree.map(lambda leaf: np.asarray(leaf[place]), state.best)
    return losses, place, least[place], members


def _smeared(
    members: Any,
    columns: Sequence[Column],
    prepared: Prepared,
    inputs: Inputs,
    loss: Loss,
) -> Any:
    """Multiplies exp η by the factor that makes its mean that of the target."""
    nothing = Reference(0.0, 0.0, 0.0)
    kinds, bounds = Kinds(), resolve(ShapeRules(), (), loss, 0.0, 1.0)[1]
    plain = Ensemble(
        tuple(columns), loss, 0.0, 1.0, inputs, members, kinds, bounds, nothing, 0.0
    )
    predicted = plain.predict_encoded(prepared.v)[:, 0]
    total = np.average(predicted, weights=prepared.weight)
    factor = np.average(prepared.target, weights=prepared.weight) / total
    last = members["layers"][-1]
    last["b"] = last["b"] + np.float32(np.log(factor))
    return members


def _calibrated(ensemble: Ensemble, prepared: Prepared) -> Calibration:
    """Computes errors of the members on the rows that they hold out."""
    rows = np.flatnonzero(prepared.held.any(0))
    held, v = prepared.held[:, rows], prepared.v[rows]
    each = ensemble.each_scaled(v)[..., 0]
    mean = np.sum(held * each, 0) / np.sum(held, 0)
    scaled = ensemble._replace(center=0.0, unit=1.0)
    predicted = scaled.moved(mean[:, None], v)[:, 0]
    box = np.random.default_rng(0).uniform(size=(2048, cube_size(ensemble.layout)))
    anywhere = jax.vmap(partial(expand, ensemble.layout))(_single(box))
    found = scaled.predict_encoded(np.concatenate([np.asarray(anywhere, float), v]))
    kinds = ensemble.kinds
    rigid = bool(kinds.steep) or any("slope bounds" in name for name in kinds.names)
    target, weight = prepared.target[rows], prepared.weight[rows]
    return calibrate(predicted, target, weight, (found.min(), found.max()), rigid)


def peaks_of(
    columns: tuple[Column, ...],
    frame: Frame,
    y: np.ndarray,
    loss: Loss,
    rules: ShapeRules,
    weight: np.ndarray,
    categorical: Mapping[str, Sequence[Any] | None] | None,
    options: Options,
) -> dict[str, float]:
    """Returns the peaks of the rules, or of a fit without rules where they have none.

    A peak that is looked for is where the mean over the rows, the column's value replaced
    by the same for all of them, is greatest.

    Args:
        columns: the encoding without peaks.
        frame: inputs.
        y: target.
        loss: of the target.
        rules: by column.
        weight: of the rows.
        categorical: as in `describe_columns`.
        options: of the fit.

    Returns:
        By column, within its range.

    Raises:
        ValueError: a rule names no column of numbers.
    """
    known = {one.name: one for one in columns}
    for name in rules.unimodal:
        if name not in known or not known[name].is_number:
            raise ValueError(f"unimodal: there is no column of numbers {name!r}")
    peaks = dict(rules.unimodal)
    wanted = [name for name, peak in peaks.items() if peak is None]
    if wanted:
        free = fit_ensemble(
            frame,
            y,
            loss,
            ShapeRules(),
            weight=weight,
            categorical=categorical,
            options=options,
        ).ensemble
        v = encode(columns, frame)[:2048]
        for name in wanted:
            place = offsets(free.layout)[frame.names.index(name)]
            grid = np.linspace(0, 1, 101)[1:-1]
            means = []
            for u in grid:
                v[:, place] = u
                means.append(free.predict_encoded(v).mean())
            column = known[name]
            share = grid[int(np.argmax(means))]
            peaks[name] = column.lower + share * column.widths[0]
    return {
        name: float(np.clip(peak, known[name].lower, known[name].upper))
        for name, peak in peaks.items()
        if peak is not None
    }


def _single(value: Any) -> np.ndarray:
    return np.asarray(value, np.float32)
