"""Multipliers of a fixed penalty: its derivative at the residuals."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxcon._checks import check_function, check_number
from jaxcon.constraints import Constraints, named
from jaxcon.transforms._entries import DualTransform, check_array

Penalty = Callable[[jax.Array], jax.Array]


def fixed_penalty(
    weight: Any, equality: Penalty | None = None, inequality: Penalty | None = None
) -> DualTransform:
    r"""Sets multipliers to the derivative of a fixed penalty at the residuals.

    .. math::
        \mu_i = \frac{w}{n} p'(h_i), \qquad \lambda_i = \frac{w}{n} q'(g_i)

    so that in `alternating`, where multipliers move first, parameters descend on
    :math:`f + w \operatorname{mean} p(h) + w \operatorname{mean} q(g)` from a single
    evaluation of the constraints. This is a penalty method whose implied multipliers can be
    read and compared with those of an ascent. It uses only the residuals: a line search
    would still evaluate the Lagrangian. A move is a difference, so the new value is exact
    up to a rounding of the old one.

    Args:
        weight: w > 0.
        equality: p, elementwise, e.g. `penalties.absolute`.
        inequality: q, elementwise, e.g. `penalties.hinge`.

    Returns:
        A transform over `Constraints` of residuals and multipliers.

    Raises:
        TypeError: the weight is no number, or a penalty no function.
        ValueError: the weight is not positive; when traced, if there is a constraint of a
            kind without a penalty, or its multipliers are computed by a network.

    References:
        Nocedal and Wright, Numerical Optimization (2006), eq. 17.9, for p quadratic.

    Example:
        >>> import jax.numpy as jnp, optax, jaxcon as jc
        >>> dual = jc.fixed_penalty(4.0, inequality=jc.penalties.squared_hinge)
        >>> lam = jc.Constraints(inequality={"cap": jnp.zeros(2)})
        >>> g = jc.Constraints(inequality={"cap": jnp.array([-1.0, 0.5])})
        >>> move, _ = dual.update(g, dual.init(lam), lam)
        >>> print(optax.apply_updates(lam, move).inequality["cap"])
        [0. 1.]
    """
    check_number("weight", weight, above=0)
    penalties = {"equality": equality, "inequality": inequality}
    for kind, penalty in penalties.items():
        if penalty is not None:
            check_function(kind, penalty, "residual -> penalty, elementwise")

    def update(
        updates: Any, state: Any, params: Any = None, **extra: Any
    ) -> tuple[Any, Any]:
        del extra
        for kind, name, multiplier in named(params):
            check_array("fixed_penalty", kind, name, multiplier)
            if penalties[kind] is None:
                raise ValueError(
                    f"fixed_penalty has no penalty for {kind} constraint {name!r}: pass "
                    f"{kind}=, e.g. one of jaxcon.penalties"
                )
        moves = {
            kind: {
                name: _slope(penalties[kind], weight, residual)
                - getattr(params, kind)[name]
                for name, residual in getattr(updates, kind).items()
            }
            for kind in penalties
        }
        return Constraints(**moves), state

    return DualTransform(lambda params: optax.EmptyState(), update)


def _slope(penalty: Any, weight: Any, residual: jax.Array) -> jax.Array:
    """Evaluates the gradient of w times the mean penalty."""
    return jax.grad(lambda r: weight * jnp.mean(penalty(r)).astype(r.dtype))(residual)
