r"""Projection of an ensemble's mean onto the functions that obey shape rules.

After training, the mean F_0 of the members may break a rule somewhere in the box. It is
moved to the nearest mean that does not,

.. math::
    \min \tfrac1n \sum_i (F(x_i) - F_0(x_i))^2 / r(F_0(x_i))
    + \rho \sum_r \operatorname{mean}_u \max(g_r(u) + m_r, 0)^2,

u at random and at the worst points found so far, to which each round of search adds.
r is a prediction's slope in the score, the variance of counts and classes; residuals of
slopes and curvatures are in the score's units. The margin m_r is zero in the
first rounds, and is then raised by as much as a search still finds.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxcon.ensembles._mixture import Mixture
from jaxcon.ensembles._network import Member
from jaxcon.ensembles._residuals import in_scores, residuals
from jaxcon.ensembles._rules import Bounds
from jaxcon.ensembles._search import Worst, search
from jaxcon.ensembles._training import PENALTY, Design, random_points

# Rounds of search and steps, steps of each, rows of F_0 that are held, worst points kept.
_ROUNDS, _STEPS, _ROWS, _KEPT = 16, 200, 8192, 64
_BATCH = 1024  # rows of a step: a few that stay would be held at the cost of all others
# Rounds before a margin is raised: it acts everywhere, a worst point only where it is.
_PATIENT = 12
# A violation that f_0 ends at a share of it of one part in a few hundred.
_CLOSE = 3e-3


class _Aim(NamedTuple):
    """Rows, the mean's predictions at them, worst points and margins."""

    v: Any
    value: Any
    worst: Any
    margin: Any


def project(
    design: Design, bounds: Bounds, mixture: Mixture, v: np.ndarray, slack: float
) -> tuple[Mixture, Worst]:
    """Moves members until a search finds no violation of note of their mean.

    Args:
        design: of the training.
        bounds: of the rules.
        mixture: the ensemble's numbers, of share 0.
        v: encoded rows of the training data.
        slack: of the function to which the ensemble is moved at last.

    Returns:
        The ensemble's numbers, and the worst violations that are left.
    """
    find = partial(search, design.layout, design.loss, design.kinds, bounds)
    worst = find(mixture, v)
    if not worst.values.max() > _CLOSE * slack:
        return mixture, worst
    drawn = np.random.default_rng(0).integers(len(v), size=_ROWS)
    rows = np.asarray(v[drawn], np.float32)
    bounds, mixture = jax.tree.map(
        partial(np.asarray, dtype=np.float32), (bounds, mixture)
    )
    value = _values(design, mixture, rows)
    places, margin = worst.rows, np.zeros(len(worst.values), np.float32)
    best, least = mixture, worst
    for turn in range(_ROUNDS):
        if turn >= _PATIENT:
            margin = margin + _margins(design, mixture, worst)
        aim = _Aim(rows, value, np.resize(places, (_KEPT, v.shape[1])), margin)
        mixture = _steps(design, bounds, mixture, aim, jax.random.key(turn))
        worst = find(mixture, v)
        places = np.concatenate([worst.rows, places])[:_KEPT]
        if worst.values.max() < least.values.max():
            best, least = mixture, worst
        if worst.values.max() <= _CLOSE * slack:
            break
    return best, least


def _margins(design: Design, mixture: Mixture, worst: Worst) -> np.ndarray:
    """Returns by how much each rule is broken, in the score's units, (rules,)."""
    predictions = _values(design, mixture, worst.rows)
    over = list(jnp.maximum(worst.values, 0.0))
    every = (in_scores(design.kinds, design.loss, over, at) for at in predictions)
    return np.array([each[rule] for rule, each in enumerate(every)], np.float32)


@partial(jax.jit, static_argnums=0)
def _values(design: Design, mixture: Mixture, v: jax.Array) -> jax.Array:
    return jax.vmap(partial(mixture.at, design.layout, design.loss))(v)


@partial(jax.jit, static_argnums=0)
def _steps(
    design: Design, bounds: Bounds, mixture: Mixture, aim: _Aim, key: jax.Array
) -> Mixture:
    """Takes steps of Adam towards the nearest mean that obeys with the margins."""

    def objective(members: Member, key: jax.Array) -> jax.Array:
        f = partial(mixture._replace(members=members).at, design.layout, design.loss)
        v, _ = random_points(design, key)
        v = jnp.concatenate([v, aim.worst])

        def at(row: jax.Array) -> jax.Array:
            each = residuals(design.kinds, bounds, f, row)
            return jnp.stack(in_scores(design.kinds, design.loss, each, f(row)))

        found = jax.vmap(at)(v)
        over = jnp.square(jnp.maximum(found + aim.margin[None], 0.0))
        drawn = jax.random.randint(key, (_BATCH,), 0, _ROWS)
        value = aim.value[drawn]
        apart = jnp.square(jax.vmap(f)(aim.v[drawn]) - value) / design.loss.rise(value)
        return jnp.mean(apart) + PENALTY * jnp.sum(jnp.mean(over, 0))

    optimizer = optax.adam(optax.cosine_decay_schedule(3e-3, _STEPS))

    def step(carry: Any, number: jax.Array) -> tuple[Any, None]:
        members, state = carry
        slopes = jax.grad(objective)(members, jax.random.fold_in(key, number))
        moves, state = optimizer.update(slopes, state)
        return (optax.apply_updates(members, moves), state), None

    carry = mixture.members, optimizer.init(mixture.members)
    (members, _), _ = jax.lax.scan(step, carry, jnp.arange(_STEPS))
    return mixture._replace(members=members)
