"""Fits of ensembles to tables."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxcon.ensembles._checked import checked
from jaxcon.ensembles._checkpoint import Checkpoint
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
from jaxcon.ensembles._losses import INTERVALS, POSITIVE, Loss, first_score
from jaxcon.ensembles._network import Inputs
from jaxcon.ensembles._prepared import (
    Options,
    Prepared,
    padded_rows,
    prepare,
    single,
    standardisation,
)
from jaxcon.ensembles._projection import project
from jaxcon.ensembles._reference import Reference, reference
from jaxcon.ensembles._rules import FAR, Bounds, Kinds, ShapeRules, resolve
from jaxcon.ensembles._search import search
from jaxcon.ensembles._training import (
    EVERY,
    LOOKS,
    Course,
    Design,
    State,
    start,
)
from jaxcon.ensembles._training import train as train_members

# Weight decays that are tried, times the number of rows; a tenth of them for one or two
# entries, of which a network needs large weights to be as flexible.
DECAYS = (0.3, 3.0, 30.0)
# Rows above which a step takes a part of them, and that part.
_WHOLE, _BATCH = 1024, 512
# Rows above which decays fall no further.
_MANY = 4096
# A search in many dimensions may miss the worst place: so much more than it found is
# allowed for, times f_0's slack. It bends a plateau by as much, in standard deviations of
# the target over the range of an input. Rounding of a residual in float32 is less.
_MISSED, _ROUNDING = 2e-3, 1e-5


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
        active: share of the rows at which each rule is active: its residual above -0.1.
    """

    ensemble: Ensemble
    losses: np.ndarray
    decay: float
    own: np.ndarray
    steps: int
    residuals: tuple[float, ...] = ()
    active: tuple[float, ...] = ()


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
    checkpoint: Path | None = None,
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
        checkpoint: file in which the training is saved from time to time and when it is
            stopped, and from which it goes on; it is removed at the end.

    Returns:
        An `EnsembleFit`. Whatever stops the training, the exception's ``result`` is that
        of the members so far.

    Raises:
        ValueError: the rules name no column, or contradict one another.
        FloatingPointError: no member's loss was ever finite.
        ValueError: the checkpoint is of another training.
    """
    frame, y, weight, held_out = checked(
        frame,
        y,
        loss,
        rules,
        weight,
        held_out,
        categorical,
        options,
        watch,
        checkpoint,
    )
    columns = describe_columns(frame, weight, categorical or {})
    if rules.unimodal:
        peaks = peaks_of(columns, frame, y, loss, rules, weight, categorical, options)
        columns = tuple(one._replace(peak=peaks.get(one.name)) for one in columns)
    prepared = prepare(frame, y, loss, columns, weight, held_out, options)
    kinds, bounds = resolve(rules, columns, loss, prepared.center, prepared.unit)
    inputs = standardisation(columns, prepared.v, prepared.weight)
    first = first_score(loss, prepared.target, prepared.weight)
    d, decays = prepared.v.shape[1], decays_of(prepared)
    constant = np.atleast_1d(np.asarray(loss.prediction(first, np), float))
    toward, slack = reference(kinds, bounds, loss, constant, d)
    course = Course(
        jax.tree.map(single, inputs),
        jax.tree.map(single, bounds),
        single(decays),
        np.int32(steps_of(len(prepared.v), options)),
        jax.random.key(options.seed),
    )
    design = design_of(prepared, kinds, options)
    task = _Task(prepared, kinds, bounds, inputs, toward, slack, design, course, decays)
    rows = padded_rows(prepared)
    begun = start(design, course, first, options.members, options.seed)
    saved = Checkpoint(checkpoint, design, course, rows)
    state = begun = saved.read(begun)
    try:
        for state in train_members(design, course, rows, begun):
            saved.after(state)
            if watch is not None:
                least = float(np.min(np.mean(np.asarray(state.least), 1)))
                watch(int(state.step), int(course.steps), least)
    except BaseException as stop:
        _give(stop, task, saved, state)
        raise
    fit = _finished(task, state)
    saved.remove()
    return fit


class _Task(NamedTuple):
    """Training and all that its result is made of."""

    prepared: Prepared
    kinds: Kinds
    bounds: Bounds
    inputs: Inputs
    toward: Reference
    slack: float
    design: Design
    course: Course
    decays: np.ndarray


def _give(stop: BaseException, task: _Task, saved: Checkpoint, state: State) -> None:
    """Saves a training that is stopped, and gives its result to the exception."""
    if int(state.step) > 0:
        saved.save(state)
        stop.result = _finished(task, state)  # pyright: ignore[reportAttributeAccessIssue]


def _finished(task: _Task, state: State) -> EnsembleFit:
    """Chooses the decay, makes the members' mean obey, and measures its errors."""
    prepared, kinds, bounds, inputs, toward, slack, design, course, decays = task
    losses, place, own, members = _chosen(state)
    ensemble = Ensemble(
        prepared.columns,
        prepared.loss,
        prepared.center,
        prepared.unit,
        inputs,
        members,
        kinds,
        bounds,
        toward,
        share=0.0,
    )
    if prepared.loss.kind == "log_squared_error":
        ensemble = _smeared(ensemble, prepared)
    residuals, active = (), ()
    if kinds.names:
        mixture, worst = project(design, bounds, ensemble.mixture, prepared.v, slack)
        built = np.zeros(len(kinds.names), bool)
        if ensemble.ends == (bounds.lower, bounds.upper):
            # Only rounding leads out of these bounds, and predictions are cut at them.
            built[len(kinds.slopes + kinds.curvatures)] = True
        share = share_of(float(worst.values[~built].max(initial=-np.inf)), slack)
        if share > 0:
            mixture = mixture._replace(share=share)
            worst = search(
                design.layout, prepared.loss, kinds, bounds, mixture, prepared.v
            )
        ensemble = ensemble._replace(members=mixture.members, share=share)
        values = np.where(built, np.minimum(worst.values, 0.0), worst.values)
        residuals = tuple(map(float, values))
        active = tuple(map(float, worst.active))
    members = jax.tree.map(lambda leaf: np.asarray(leaf, float), ensemble.members)
    ensemble = ensemble._replace(members=members)
    if prepared.loss.kind in INTERVALS:
        ensemble = ensemble._replace(calibration=_calibrated(ensemble, prepared))
    decay, steps = float(decays[place]), int(course.steps)
    return EnsembleFit(ensemble, losses, decay, own, steps, residuals, active)


def decays_of(prepared: Prepared) -> np.ndarray:
    """Returns the weight decays that are tried.

    Args:
        prepared: table.

    Returns:
        (decays,).
    """
    rows, entries = prepared.v.shape
    return np.array(DECAYS) / min(rows, _MANY) * (0.1 if entries < 3 else 1.0)


def share_of(violation: float, slack: float) -> float:
    """Computes the share t of f_0 at which a violation ends, v / (v + s).

    Args:
        violation: the worst of all rules, v; negative where all are kept.
        slack: s of f_0.

    Returns:
        Between 0 and 1.
    """
    violation += max(_ROUNDING, _MISSED * slack)
    if violation <= 0:
        return 0.0
    return violation / (violation + slack) if np.isfinite(violation) else 1.0


def steps_of(rows: int, options: Options) -> int:
    """Returns the number of training steps, a multiple of those of one call."""
    block = EVERY * LOOKS
    if options.steps is not None:
        return -(-options.steps // block) * block
    if rows <= _WHOLE:
        return 1500
    return -(-min(max(2000, 10 * rows // _BATCH), 20_000) // block) * block


def design_of(prepared: Prepared, kinds: Kinds, options: Options) -> Design:
    """Chooses the width and the batch by the size of a table."""
    rows = len(prepared.target)
    batch = 0 if rows <= _WHOLE else _BATCH
    if options.batch is not None:
        batch = options.batch if options.batch < rows else 0
    numbers = sum(column.is_number for column in prepared.columns)
    return Design(
        tuple(column.block for column in prepared.columns),
        prepared.loss,
        kinds.nameless,
        width=32 if rows <= _WHOLE else 64,
        batch=batch,
        points=256 if numbers < len(prepared.columns) else 64 if numbers == 1 else 128,
    )


def _chosen(state: State) -> tuple[np.ndarray, int, np.ndarray, Any]:
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


def _smeared(ensemble: Ensemble, prepared: Prepared) -> Ensemble:
    """Multiplies exp η by the factor that makes its mean that of the target."""
    mean = partial(np.average, weights=prepared.weight)
    scaled = ensemble.each_scaled(prepared.v)[..., 0].mean(0)
    factor = np.float32(mean(prepared.target) / mean(scaled))
    *layers, last = ensemble.members["layers"]
    last = last | {"b": last["b"] + np.log(factor)}
    members = ensemble.members | {"layers": [*layers, last]}
    return ensemble._replace(members=members)


def _calibrated(ensemble: Ensemble, prepared: Prepared) -> Calibration:
    """Computes errors of the members on the rows that they hold out."""
    rows = np.flatnonzero(prepared.held.any(0))
    held, v = prepared.held[:, rows], prepared.v[rows]
    each = ensemble.each_scaled(v)[..., 0]
    mean = np.sum(held * each, 0) / np.sum(held, 0)
    scaled = ensemble._replace(center=0.0, unit=1.0)
    predicted = scaled.moved(mean[:, None], v)[:, 0]
    box = np.random.default_rng(0).uniform(size=(2048, cube_size(ensemble.layout)))
    anywhere = jax.vmap(partial(expand, ensemble.layout))(jax.numpy.array(single(box)))
    found = scaled.predict_encoded(np.concatenate([np.asarray(anywhere, float), v]))
    ends = np.abs([ensemble.bounds.slope_lower, ensemble.bounds.slope_upper])
    # Both ends of an interval are to keep bounds of slopes other than 0.
    rigid = bool(ensemble.kinds.steep) or bool(np.any((ends > 0) & (ends < FAR)))
    target, weight = prepared.target[rows], prepared.weight[rows]
    span = float(found.min()), float(found.max())
    made = calibrate(predicted, target, weight, span, rigid)
    lower, upper = ensemble.bounds.lower, ensemble.bounds.upper
    lower = max(lower, 0.0) if ensemble.loss.kind in POSITIVE else lower
    return made._replace(
        lower=float(lower) if prepared.target.min() >= lower else -np.inf,
        upper=float(upper) if prepared.target.max() <= upper else np.inf,
    )


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
                each = free.predict_encoded(v).mean(1)
                means.append(np.average(each, weights=weight[: len(v)]))
            column = known[name]
            share = grid[int(np.argmax(means))]
            peaks[name] = column.lower + share * column.widths[0]
    return {
        name: float(np.clip(peak, known[name].lower, known[name].upper))
        for name, peak in peaks.items()
        if peak is not None
    }
