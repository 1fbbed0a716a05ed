r"""Judges: how far a point and its multipliers are from optimal.

A local minimiser of :math:`f` s.t. :math:`h = 0, g \le 0` (under a constraint
qualification) has multipliers with

.. math::
    \nabla f + \sum \mu \nabla h + \sum \lambda \nabla g = 0, \quad
    h = 0, \quad g \le 0, \quad \lambda \ge 0, \quad \lambda g = 0.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxcon.constraints import Constraints, evaluate, max_violation
from jaxcon.lagrangian import lagrangian


class KKT(NamedTuple):
    """The Karush-Kuhn-Tucker residuals; all zero at a KKT point.

    Attributes:
        stationarity: largest entry of the Lagrangian's gradient, shape ().
        equality: largest abs h, shape ().
        inequality: largest max(g, 0), shape ().
        dual: largest max(-lambda, 0), shape ().
        slackness: largest abs lambda g, shape ().
    """

    stationarity: jax.Array
    equality: jax.Array
    inequality: jax.Array
    dual: jax.Array
    slackness: jax.Array


def kkt(
    loss: Callable[[Any, Any], Any],
    constraints: Constraints,
    params: Any,
    multipliers: Constraints,
    batch: Any = None,
) -> KKT:
    r"""The KKT residuals of one point, each as its largest absolute entry.

    .. math::
        \|\nabla_\theta (f + \mu h + \lambda g)\|_\infty, \quad \|h\|_\infty, \quad
        \|\max(g, 0)\|_\infty, \quad \|\max(-\lambda, 0)\|_\infty, \quad
        \|\lambda g\|_\infty

    Args:
        loss: (params, batch) -> () or ((), aux).
        constraints: functions (params, batch) -> residual.
        params: theta, any pytree of floating-point arrays.
        multipliers: mu and lambda, shaped like the residuals. After an augmented
            Lagrangian or a penalty run, pass `multiplier_estimates`.
        batch: what both read; may be None.

    Returns:
        Five numbers, each of shape (). One backward pass: no Jacobian is formed.

    Raises:
        ValueError: names or shapes of residuals and multipliers differ.

    References:
        Nocedal and Wright, Numerical Optimization (2006), eqs. 12.34, written there for
        constraints >= 0.

    Example:
        >>> import jaxcon as jc
        >>> f = lambda p, _: jnp.sum(p**2)                    # min x² + y²
        >>> sums = jc.Constraints(equality={"sum": lambda p, _: jnp.sum(p) - 1.0})
        >>> mu = jc.Constraints(equality={"sum": jnp.array(-1.0)})
        >>> print(jc.kkt(f, sums, jnp.array([0.5, 0.5]), mu).stationarity)
        0.0
    """

    def objective(params: Any) -> tuple[jax.Array, Constraints]:
        value = loss(params, batch)
        residuals = evaluate(constraints, params, batch)
        value = value[0] if isinstance(value, tuple) else value
        return lagrangian(value, residuals, multipliers), residuals

    gradient, residuals = jax.grad(objective, has_aux=True)(params)
    return KKT(
        stationarity=_largest(gradient),
        equality=max_violation(Constraints(equality=residuals.equality)),
        inequality=max_violation(Constraints(inequality=residuals.inequality)),
        dual=_largest(
            jax.tree.map(lambda lam: jnp.maximum(-lam, 0), multipliers.inequality)
        ),
        slackness=_largest(
            jax.tree.map(jnp.multiply, multipliers.inequality, residuals.inequality)
        ),
    )


def _largest(tree: Any) -> jax.Array:
    sizes = [jnp.max(jnp.abs(leaf), initial=0) for leaf in jax.tree.leaves(tree)]
    return jnp.max(jnp.stack(sizes)) if sizes else jnp.zeros(())
