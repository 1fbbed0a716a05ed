r"""Training of all members of an ensemble, under several weight decays, in one program.

Member k under decay δ minimises

.. math::
    \sum_{i \notin H_k} w_i \, \ell(\eta(x_i), y_i) / \sum_{i \notin H_k} w_i
    + \delta \lVert W \rVert^2 + \rho \sum_r \operatorname{mean}_u \max(g_r(u), 0)^2

by Adam with a warm-up and a cosine decay. Without the warm-up the penalty leads the first
steps to poor minima. The points u are drawn anew at each step; residuals g_r of slopes and
curvatures are divided by the slope of the prediction in the score. Every member keeps the
iterate of the least sum of its loss on its own held-out rows H_k and the penalty at fixed
points. Rows are padded to one of few sizes, so that tables of like sizes share one compiled
program.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxcon.ensembles._columns import Block, cube_size, expand
from jaxcon.ensembles._losses import Loss
from jaxcon.ensembles._network import (
    Inputs,
    Member,
    init_members,
    score,
    size,
    standardise,
)
from jaxcon.ensembles._residuals import in_scores, residuals
from jaxcon.ensembles._rules import Bounds, Kinds, ends_of

# Steps between two looks at the held-out rows, and looks in one call of the program.
EVERY, LOOKS = 25, 4
# ρ of a rule in standard deviations of the target per range of an input.
PENALTY = 100.0
# Greatest step, and the share of the steps in which it is reached.
RATE, WARM = 1e-2, 0.1


class Design(NamedTuple):
    """Parts of a training that are compiled into it.

    Attributes:
        layout: of the columns.
        loss: of the target.
        kinds: of the rules.
        width: units of a hidden layer.
        batch: rows of a step; 0 for all.
        points: at which the rules are evaluated in a step.
    """

    layout: tuple[Block, ...]
    loss: Loss
    kinds: Kinds
    width: int
    batch: int
    points: int


class Rows(NamedTuple):
    """Rows of a table.

    Attributes:
        v: encoded, (n, d).
        target: scaled, (n,).
        train: weight of each row in each member's loss, (members, n).
        number: of rows that are not padding, ().
        seen: places of the rows that are held out by some member, (h,).
        held: their weights in each member's choice of its iterate, (members, h).
    """

    v: Any
    target: Any
    train: Any
    number: Any
    seen: Any
    held: Any


class Course(NamedTuple):
    """Numbers of a training that are not compiled into it.

    Attributes:
        inputs: standardisation of the rows.
        bounds: of the rules.
        decays: weight decays, (decays,).
        steps: their number, ().
        key: of the draws.
    """

    inputs: Inputs
    bounds: Bounds
    decays: Any
    steps: Any
    key: Any


class State(NamedTuple):
    """State of a training, with leading axes (decays, members).

    Attributes:
        member: parameters.
        adam: state of the optimizer.
        best: parameters of the least held-out loss.
        least: that loss.
        step: number of steps done, ().
    """

    member: Member
    adam: Any
    best: Member
    least: Any
    step: Any


_ADAM = optax.scale_by_adam()


def start(
    design: Design, course: Course, first: np.ndarray, members: int, seed: int
) -> State:
    """Draws the members, the same under every decay.

    Args:
        design: of the training.
        course: its numbers.
        first: scores of the best constant, (m,).
        members: their number.
        seed: of the draws.

    Returns:
        The state before the first step.
    """
    d = sum(block.size + block.missing for block in design.layout)
    drawn = init_members(seed, members, d, first, design.width)
    decays = len(course.decays)
    member = jax.tree.map(
        lambda leaf: np.tile(leaf, (decays, *leaf.ndim * (1,))), drawn
    )
    zeros = jax.tree.map(np.zeros_like, member)
    counts = np.zeros((decays, members), np.int32)
    adam = optax.ScaleByAdamState(counts, zeros, zeros)
    least = np.full((decays, members), np.inf, np.float32)
    state = State(member, adam, member, least, np.int32(0))
    return jax.tree.map(jnp.asarray, state)


@partial(jax.jit, static_argnums=0)
def advance(design: Design, course: Course, rows: Rows, state: State) -> State:
    """Trains all members for `EVERY` times `LOOKS` steps.

    Args:
        design: of the training.
        course: its numbers.
        rows: of the table.
        state: so far.

    Returns:
        The state after these steps.
    """
    penalised = bool(design.kinds.names)

    def objective(
        member: Member, weight: jax.Array, decay: jax.Array, batch: Any, points: Any
    ) -> jax.Array:
        z, target = batch
        ends = ends_of(design.loss, design.kinds, course.bounds)
        losses = design.loss(score(member, z), target, ends)
        total = jnp.sum(weight * losses) / jnp.maximum(jnp.sum(weight), 1e-12)
        total = total + decay * size(member)
        if penalised:
            broken = _broken(design, course, member, *points)
            total = total + PENALTY * broken
        return total

    def step(state: State, _: None) -> tuple[State, None]:
        key = jax.random.fold_in(course.key, state.step)
        z, target, train = _batch(design, rows, key)
        z = standardise(course.inputs, design.layout, z)
        points = random_points(design, key) if penalised else None
        fall = jax.vmap(jax.grad(objective), (0, 0, None, None, None))
        fall = jax.vmap(fall, (0, None, 0, None, None))
        slopes = fall(state.member, train, course.decays, (z, target), points)
        moves, adam = jax.vmap(jax.vmap(_ADAM.update))(slopes, state.adam)
        share = jnp.minimum(state.step / jnp.float32(course.steps), 1.0)
        rate = RATE * 0.5 * (1 + jnp.cos(jnp.pi * share))
        rate *= jnp.minimum(1.0, (share + 1e-3) / WARM)
        member = jax.tree.map(lambda p, move: p - rate * move, state.member, moves)
        return state._replace(member=member, adam=adam, step=state.step + 1), None

    def look(state: State, _: None) -> tuple[State, None]:
        state, _ = jax.lax.scan(step, state, length=EVERY)
        losses = _held_out(design, course, rows, state.member)
        if penalised:
            # An iterate that breaks the rules is not the best, however well it fits.
            points = random_points(design, course.key)
            broken = jax.vmap(
                jax.vmap(lambda one: _broken(design, course, one, *points))
            )
            losses += PENALTY * broken(state.member)
        return _kept(state, losses), None

    state, _ = jax.lax.scan(look, state, length=LOOKS)
    return state


def train(design: Design, course: Course, rows: Rows, state: State) -> Iterator[State]:
    """Trains all members, and yields the state after each call of `advance`.

    Args:
        design: of the training.
        course: its numbers.
        rows: of the table.
        state: where it stands.

    Yields:
        The state; the last one is trained.
    """
    while int(state.step) < int(course.steps):
        state = advance(design, course, rows, state)
        yield state


def random_points(design: Design, key: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Draws rows all over the unit cube, half of them towards its faces, and directions.

    Args:
        design: of the training.
        key: of the draws.

    Returns:
        Encoded rows and directions, (points, d) each.
    """
    key, other = jax.random.split(jax.random.fold_in(key, 1))
    u = jax.random.uniform(key, (design.points, cube_size(design.layout)), jnp.float32)
    half = design.points // 2
    u = u.at[:half].set(jnp.square(jnp.sin(0.5 * jnp.pi * u[:half])))
    v = jax.vmap(partial(expand, design.layout))(u)
    return v, jax.random.normal(other, v.shape, v.dtype)


def _batch(design: Design, rows: Rows, key: jax.Array) -> tuple[Any, Any, Any]:
    """Draws the rows of a step, the same for all members."""
    if not design.batch:
        return rows.v, rows.target, rows.train
    drawn = jax.random.randint(key, (design.batch,), 0, rows.number)
    return rows.v[drawn], rows.target[drawn], rows.train[:, drawn]


def _broken(
    design: Design, course: Course, member: Member, v: jax.Array, along: jax.Array
) -> jax.Array:
    """Sums over the rules the mean square of their violations."""
    kinds, bounds, loss = design.kinds, course.bounds, design.loss
    ends = ends_of(loss, kinds, bounds)

    def prediction(row: jax.Array) -> jax.Array:
        z = standardise(course.inputs, design.layout, row)
        return loss.prediction(score(member, z), ends=ends)

    def at(row: jax.Array, direction: jax.Array) -> list[jax.Array]:
        each = residuals(kinds, bounds, prediction, row, direction)
        return in_scores(kinds, loss, each, prediction(row))

    found = jax.vmap(at)(v, along)
    squares = [jnp.mean(jnp.square(jnp.maximum(one, 0.0)), 0) for one in found]
    return sum((jnp.sum(one) for one in squares), jnp.zeros((), jnp.float32))


def _held_out(design: Design, course: Course, rows: Rows, members: Member) -> jax.Array:
    """Evaluates every member's loss on the rows that it holds out, (decays, members)."""
    z = standardise(course.inputs, design.layout, rows.v[rows.seen])
    target = rows.target[rows.seen]

    def loss(member: Member, weight: jax.Array) -> jax.Array:
        ends = ends_of(design.loss, design.kinds, course.bounds)
        losses = design.loss(score(member, z), target, ends)
        losses = jnp.where(weight > 0, losses, 0.0)
        return jnp.sum(weight * losses) / jnp.maximum(jnp.sum(weight), 1e-12)

    return jax.vmap(jax.vmap(loss), (0, None))(members, rows.held)


def _kept(state: State, losses: jax.Array) -> State:
    """Keeps the members whose held-out loss is the least so far."""
    better = losses < state.least

    def choose(new: jax.Array, old: jax.Array) -> jax.Array:
        return jnp.where(jnp.expand_dims(better, range(2, new.ndim)), new, old)

    return state._replace(
        best=jax.tree.map(choose, state.member, state.best),
        least=jnp.where(better, losses, state.least),
    )
