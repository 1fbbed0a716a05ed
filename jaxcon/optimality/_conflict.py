"""Conflicts of violated constraints at a point."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxcon.constraints import Constraints, max_violation, named
from jaxcon.lagrangians import Lagrangian, split
from jaxcon.optimality._active_set import active_set
from jaxcon.optimality._bounded import least, least_of_products
from jaxcon.optimality._point import check_on_host


class Conflict(NamedTuple):
    """Constraints that keep a point from becoming feasible.

    Attributes:
        weights: each residual's share in the balance of unit gradients, shaped like the
            residuals; of either sign for h, >= 0 for g. Their sizes sum to one, or all
            are zero if nothing is violated.
        stationarity: length of the so weighted sum of unit gradients, from 0 (they
            cancel) to 1, shape ().
        step: length of the shortest change of the parameters that would mend every
            violation to first order, shape (); infinite where no change does.
        violation: the largest one, shape ().
    """

    weights: Constraints
    stationarity: jax.Array
    step: jax.Array
    violation: jax.Array

    @property
    def names(self) -> tuple[str, ...]:
        """The constraints that take part: those with more than a thousandth of it."""
        shares = {name: np.sum(np.abs(w)) for _, name, w in named(self.weights)}
        return tuple(name for name, share in shares.items() if share > 1e-3)


def conflict(
    problem: Lagrangian,
    params: Any,
    batch: Any = None,
    *,
    extra: Any = None,
    tolerance: float = 1e-4,
) -> Conflict:
    r"""Finds violated constraints that pull against each other.

    Weights that prove it: with :math:`u` the active constraints' gradients scaled to
    length one and :math:`r` their residuals, scaled alike, they minimise

    .. math::
        \frac{\| \sum w u \|_2}{\sum w r}, \qquad \sum |w| = 1

    with :math:`w \ge 0` for inequalities. By Farkas' lemma the smallest value is one over
    the length of the shortest step after which every linearised constraint holds: zero if
    there is none, and then the point is stationary for the infeasibility. In practice a
    `step` much longer than the parameters says that the point is infeasible nearby.

    Args:
        problem: the `Lagrangian`, whose constraints alone matter.
        params: theta, any pytree of floating-point arrays.
        batch: what loss and constraints read; may be None.
        extra: state that is not trained, if the loss reads one.
        tolerance: a violation up to it is none; an inequality is active where
            g >= -tolerance.

    Returns:
        A `Conflict`. Computed on the host: not for use inside jit. Two passes for every
        active residual; of more than 2,896, some thousand passes, as in
        `least_squares_multipliers`.

    Raises:
        TypeError: `problem` is no problem, `params` hold no floating-point arrays,
            `tolerance` is no number, or something is traced.
        ValueError: a residual or a gradient is not finite, or `tolerance` is negative.

    References:
        Boyd and Vandenberghe, Convex Optimization (2004), section 5.8 (theorems of
        alternatives).

    Example:
        >>> import jax.numpy as jnp, jaxcon as jc
        >>> rules = {"x <= -1": lambda x, _: x + 1.0, "x >= 1": lambda x, _: 1.0 - x}
        >>> problem = jc.Lagrangian(lambda x, _: x**2, jc.Constraints(inequality=rules))
        >>> found = jc.conflict(problem, jnp.array(0.3))
        >>> print(found.names, round(float(found.weights.inequality["x >= 1"]), 4))
        ('x <= -1', 'x >= 1') 0.5
    """
    check_on_host("conflict", params, batch)
    batch, _ = split(batch)
    held = active_set(problem, params, batch, extra, tolerance)
    largest = max_violation(held.residuals)
    if not largest > tolerance:
        none = held.spread(np.zeros(len(held.rows)))
        return Conflict(none, jnp.ones(()), jnp.zeros(()), largest)
    distances = held.values / held.lengths
    scaled = distances / np.max(np.abs(distances))
    # To minimise |sum w u|² + (w . scaled - 1)² over the cone finds the least ratio: for
    # weights of a given direction, the best length leaves a function of the ratio alone.
    if held.gram is None:
        rows = held.rows_of_gradients().with_column(scaled)
        offset = np.append(np.zeros(len(rows.spectrum[1]) - 1), -1.0)
        weights = least_of_products(rows, offset, held.free, held.noise)
    else:
        inner = held.gram + held.noise * np.eye(len(scaled)) + np.outer(scaled, scaled)
        weights = least(np.zeros(len(scaled)), -scaled, inner, held.free)
    weights /= np.sum(np.abs(weights))
    _, norm = held.slopes(weights, 0.0)
    with np.errstate(divide="ignore"):
        step = np.divide(weights @ distances, norm)
    return Conflict(held.spread(weights), norm, jnp.asarray(step, norm.dtype), largest)
