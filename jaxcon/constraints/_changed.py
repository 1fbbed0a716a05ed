"""Constraints made of others: tightened, or with the gradient of a surrogate."""

from collections.abc import Callable
from typing import Any

import jax

from jaxcon._checks import check_function, check_number
from jaxcon.constraints._checks import check_residual
from jaxcon.constraints._constraints import Constraint, Grouped


def tighten(constraint: Constraint, margin: float) -> Constraint:
    r"""Returns an inequality tightened by a margin: :math:`g + \epsilon \le 0`.

    A constraint is checked at points only; a small margin makes it hold between them too.

    Args:
        constraint: (params, batch) -> residual g.
        margin: epsilon >= 0, in the residual's units.

    Returns:
        An inequality constraint.

    Raises:
        TypeError: `constraint` is no function; when traced, its residual is not real.
        ValueError: `margin` is negative or not finite.

    Example:
        >>> import jaxcon as jc
        >>> at_most_1 = jc.tighten(lambda x, _: x - 1.0, margin=0.25)
        >>> print(at_most_1(1.0, None))
        0.25
    """
    check_function("constraint", constraint, "(params, batch) -> residual")
    check_number("margin", margin, least=0)
    return mapped("tighten", constraint, lambda residual: residual + margin)


def mapped(
    label: str, constraint: Constraint, change: Callable[[jax.Array], jax.Array]
) -> Constraint:
    """Returns a constraint whose residual is changed by a function.

    Args:
        label: of what changes it, for the message about a residual that is not real.
        constraint: (params, batch) -> residual.
        change: residual -> residual.

    Returns:
        A constraint; it still shares its pass through a network with others of
        `jaxcon.shapes`.
    """
    if isinstance(constraint, Grouped):
        return constraint.map(change)
    label = f"the constraint of {label} returned"
    return lambda params, batch: change(
        check_residual(label, constraint(params, batch))
    )


def proxy(surrogate: Constraint, strict: Constraint) -> Constraint:
    r"""Returns a constraint with the value of `strict` and the gradient of `surrogate`.

    It is for rules that cannot be differentiated (rates, counts, indicators): the
    multiplier receives the strict residual, and the parameters the gradient of a smooth
    surrogate.

    .. math::
        \tilde g = g_\mathrm{strict}, \qquad
        \nabla_\theta \tilde g = \nabla_\theta g_\mathrm{surrogate}

    An augmented Lagrangian penalizes the strict value too, so its penalty vanishes where
    the rule is met. On a rate of at most 5 % (``python -m benchmarks.proxies``) runs with
    no penalty and with 1 to 100 ended at 5.00 %, within 0.1 points of the fewest misses. A
    quadratic term on the surrogate's own value can constrain too much (100 on a hinge:
    2.20 %, 14 points more misses); a penalty without multipliers constrains too little
    (6.7 to 22 %). `jaxcon.solve` ended there too: where a step compares values, as a line
    search does, the proxy moves by as much as its surrogate.

    Args:
        surrogate: differentiable (params, batch) -> residual, () or (n,).
        strict: the true (params, batch) -> residual, of the same shape.

    Returns:
        A constraint.

    Raises:
        TypeError: `surrogate` or `strict` is no function; when traced, its residual is
            not real: write a count as ``jnp.asarray(count, float)``.
        ValueError: when traced, if the two residuals differ in shape.

    References:
        Cotter et al., Two-Player Games for Efficient Non-Convex Constrained Optimization
        (2019).

    Example:
        >>> import jax, jax.numpy as jnp
        >>> import jaxcon as jc
        >>> share = jc.proxy(
        ...     lambda p, x: jnp.mean(jax.nn.sigmoid(x @ p)) - 0.1,
        ...     lambda p, x: jnp.mean(x @ p > 0) - 0.1,
        ... )
        >>> print(share(jnp.ones(1), jnp.ones((4, 1))))
        0.9
    """
    for name, function in (("surrogate", surrogate), ("strict", strict)):
        check_function(name, function, "(params, batch) -> residual")

    def constraint(params: Any, batch: Any) -> jax.Array:
        stand_in = check_residual(
            "the surrogate of proxy returned", surrogate(params, batch)
        )
        true = check_residual(
            "the strict rule of proxy returned", strict(params, batch)
        )
        if stand_in.shape != true.shape:
            raise ValueError(
                f"proxy: the surrogate's residual has shape {stand_in.shape} but the "
                f"strict one has {true.shape}; they must agree"
            )
        true = jax.lax.stop_gradient(true)
        # s - stop_gradient(s) is exactly zero, so the value is the strict one to the bit.
        return true + (stand_in - jax.lax.stop_gradient(stand_in))

    # For steps that compare values: along them the strict one may be flat, or jump.
    constraint.surrogate = surrogate  # pyright: ignore[reportFunctionMemberAccess]
    return constraint
