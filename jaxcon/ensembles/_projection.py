r"""Projection of an ensemble's mean onto the functions that obey shape rules.

After training, the mean F_0 of the members may break a rule somewhere in the box. It is
moved to the nearest mean that does not,

.. math::
    \min \tfrac1n \sum_i (F(x_i) - F_0(x_i))^2
    + \rho \sum_r \operatorname{mean}_u \max(g_r(u) + m_r, 0)^2,

u at random and at the worst points found so far, where the margin m_r is zero until a
search finds a violation, and is raised by as much as it finds.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxcon.ensembles._network import Member, score, standardise
from jaxcon.ensembles._residuals import residuals
from jaxcon.ensembles._search import Worst, search
from jaxcon.ensembles._training import PENALTY, Course, Design, random_points

# Rounds of search and steps, steps of each, rows of F_0 that are held, worst points kept.
_ROUNDS, _STEPS, _ROWS, _KEPT = 6, 200, 1024, 32
# A violation that f_0 ends at a share of it of one part in a few hundred.
_CLOSE = 3e-3


class _Aim(NamedTuple):
    """Rows, the mean's predictions at them, worst points and margins."""

    v: Any
    value: Any
    worst: Any
    margin: Any


def project(
    design: Design, course: Course, members: Member, v: np.ndarray, slack: float
) -> tuple[Member, Worst]:
    """Moves members until a search finds no violation of note of their mean.

    Args:
        design: of the training.
        course: its numbers.
        members: parameters, with a leading axis.
        v: encoded rows of the training data.
        slack: of the function to which the ensemble is moved at last.

    Returns:
        The members, and the worst violations that are left.
    """
    find = partial(search, design.layout, design.loss, design.kinds)
    worst = find(course.bounds, course.inputs, members)
    if worst.values.max() <= _CLOSE * slack:
        return members, worst
    drawn = np.random.default_rng(0).integers(len(v), size=_ROWS)
    rows = np.asarray(v[drawn], np.float32)
    value = _values(design, course, members, rows)
    places, margin = worst.rows, np.zeros(len(worst.values), np.float32)
    best, least = members, worst
    for turn in range(_ROUNDS):
        margin = margin + np.maximum(worst.values, 0).astype(np.float32)
        aim = _Aim(rows, value, np.resize(places, (_KEPT, v.shape[1])), margin)
        members = _steps(design, course, members, aim, jax.random.key(turn))
        worst = find(course.bounds, course.inputs, members)
        places = np.concatenate([worst.rows, places])[:_KEPT]
        if worst.values.max() < least.values.max():
            best, least = members, worst
        if worst.values.max() <= _CLOSE * slack:
            break
    return best, least


def _mean(design: Design, course: Course, members: Member, v: jax.Array) -> jax.Array:
    z = standardise(course.inputs, design.layout, v)
    each = jax.vmap(lambda one: design.loss.prediction(score(one, z)))(members)
    return jnp.mean(each, 0)


@partial(jax.jit, static_argnums=0)
def _values(design: Design, course: Course, members: Member, v: jax.Array) -> jax.Array:
    return _mean(design, course, members, v)


@partial(jax.jit, static_argnums=0)
def _steps(
    design: Design, course: Course, members: Member, aim: _Aim, key: jax.Array
) -> Member:
    """Takes steps of Adam towards the nearest mean that obeys with the margins."""

    def objective(members: Member, key: jax.Array) -> jax.Array:
        apart = _mean(design, course, members, aim.v) - aim.value
        v, _ = random_points(design, key)
        v = jnp.concatenate([v, aim.worst])
        found = jax.vmap(
            lambda row: jnp.stack(
                residuals(
                    design.kinds,
                    course.bounds,
                    lambda one: _mean(design, course, members, one),
                    row,
                )
            )
        )(v)
        over = jnp.square(jnp.maximum(found + aim.margin, 0.0))
        return jnp.mean(jnp.square(apart)) + PENALTY * jnp.sum(jnp.mean(over, 0))

    optimizer = optax.adam(optax.cosine_decay_schedule(3e-3, _STEPS))

    def step(carry: Any, number: jax.Array) -> tuple[Any, None]:
        members, state = carry
        slopes = jax.grad(objective)(members, jax.random.fold_in(key, number))
        moves, state = optimizer.update(slopes, state)
        return (optax.apply_updates(members, moves), state), None

    carry = members, optimizer.init(members)
    (members, _), _ = jax.lax.scan(step, carry, jnp.arange(_STEPS))
    return members
