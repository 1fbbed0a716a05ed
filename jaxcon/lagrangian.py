r"""Adds it up: scalars of (loss, residuals, multipliers).

Three classics in this room's words, for :math:`\min f` s.t. :math:`h = 0, g \le 0`:

- Lagrangian (Arrow-Hurwicz): `lagrangian`, multipliers climbing along the residuals.
- Quadratic penalty: `augmented_lagrangian` with multipliers that stay zero.
- Method of multipliers (Hestenes, Powell, Rockafellar): `augmented_lagrangian`, and
  multipliers replaced by `multiplier_estimates` after each minimisation.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer

from jaxcon.constraints import Constraints, named


def zero_multipliers(residuals: Constraints) -> Constraints:
    """Multipliers to start from: zero, one for each residual.

    Args:
        residuals: h and g, each () or (n,); arrays or `jax.ShapeDtypeStruct`s.

    Returns:
        Zeros in the shapes and dtypes of `residuals`.
    """
    return jax.tree.map(lambda r: jnp.zeros(r.shape, r.dtype), residuals)


def lagrangian(
    loss: jax.Array, residuals: Constraints, multipliers: Constraints
) -> jax.Array:
    r"""The Lagrangian of one problem at one point.

    .. math::
        f + \sum \mu h + \sum \lambda g

    Args:
        loss: f, shape ().
        residuals: h and g, each () or (n,).
        multipliers: mu and lambda, shaped like `residuals`.

    Returns:
        Shape ().

    Raises:
        ValueError: names or shapes of residuals and multipliers differ.

    References:
        Nocedal and Wright, Numerical Optimization (2006), eq. 12.33, written there for
        constraints >= 0, which reverses the sign of lambda's term.

    Example:
        >>> import jaxcon as jc
        >>> g = jc.Constraints(inequality={"cap": jnp.array(0.5)})
        >>> lam = jc.Constraints(inequality={"cap": jnp.array(2.0)})
        >>> print(jc.lagrangian(jnp.array(1.0), g, lam))
        2.0
    """
    check_match(residuals, multipliers)
    terms = jax.tree.map(lambda r, m: jnp.sum(m * r), residuals, multipliers)
    return sum(jax.tree.leaves(terms), start=loss)


def augmented_lagrangian(
    loss: jax.Array,
    residuals: Constraints,
    multipliers: Constraints,
    penalty: Any,
) -> jax.Array:
    r"""The Powell-Hestenes-Rockafellar augmented Lagrangian.

    .. math::
        f + \sum \left( \mu h + \tfrac{\rho}{2} h^2 \right)
          + \sum \frac{\max(\lambda + \rho g, 0)^2 - \lambda^2}{2 \rho}

    The second sum is written as :math:`\lambda g + \tfrac{\rho}{2} g^2` where
    :math:`\lambda + \rho g > 0` and :math:`-\lambda^2 / 2\rho` elsewhere: the same number
    without the cancellation of two large squares in float32.

    Args:
        loss: f, shape ().
        residuals: h and g, each () or (n,).
        multipliers: mu and lambda, shaped like `residuals`.
        penalty: rho > 0, shape ().

    Returns:
        Shape ().

    Raises:
        ValueError: names or shapes of residuals and multipliers differ, or `penalty` is a
            Python number that is not positive.

    References:
        Nocedal and Wright, Numerical Optimization (2006), eqs. 17.36 and 17.65, written
        there for constraints >= 0 and with mu for the penalty. Rockafellar, The
        Multiplier Method of Hestenes and Powell (1973).

    Example:
        >>> import jaxcon as jc
        >>> g = jc.Constraints(inequality={"cap": jnp.array(0.5)})
        >>> lam = jc.Constraints(inequality={"cap": jnp.array(2.0)})
        >>> print(jc.augmented_lagrangian(jnp.array(1.0), g, lam, penalty=4.0))
        2.5
    """
    check_match(residuals, multipliers)
    check_penalty(penalty)

    def equality(h: jax.Array, mu: jax.Array) -> jax.Array:
        return jnp.sum(mu * h + 0.5 * penalty * jnp.square(h))

    def inequality(g: jax.Array, lam: jax.Array) -> jax.Array:
        pushing = lam * g + 0.5 * penalty * jnp.square(g)
        resting = -jnp.square(lam) / (2 * penalty)
        return jnp.sum(jnp.where(lam + penalty * g > 0, pushing, resting))

    terms = Constraints(
        jax.tree.map(equality, residuals.equality, multipliers.equality),
        jax.tree.map(inequality, residuals.inequality, multipliers.inequality),
    )
    return sum(jax.tree.leaves(terms), start=loss)


def multiplier_estimates(
    residuals: Constraints, multipliers: Constraints, penalty: Any = None
) -> Constraints:
    r"""The multipliers that the objective's gradient at this point really uses.

    .. math::
        \hat\mu = \mu + \rho h, \qquad \hat\lambda = \max(\lambda + \rho g, 0)

    They are the weights of the residuals' gradients in the gradient of the (augmented)
    Lagrangian, and the next multipliers of the method of multipliers. With multipliers
    zero they are what a quadratic penalty stands for.

    Args:
        residuals: h and g, each () or (n,).
        multipliers: mu and lambda, shaped like `residuals`.
        penalty: rho > 0, shape (); None for the plain Lagrangian, whose estimates are
            the multipliers themselves.

    Returns:
        Estimates, shaped like `residuals`.

    References:
        Nocedal and Wright, Numerical Optimization (2006), eq. 17.39 and section
        17.4.
    """
    check_match(residuals, multipliers)
    if penalty is None:
        return multipliers
    return Constraints(
        jax.tree.map(
            lambda h, mu: mu + penalty * h, residuals.equality, multipliers.equality
        ),
        jax.tree.map(
            lambda g, lam: jnp.maximum(lam + penalty * g, 0),
            residuals.inequality,
            multipliers.inequality,
        ),
    )


def check_penalty(penalty: Any) -> None:
    """Refuses a penalty that is known and not positive.

    Args:
        penalty: rho, or None; a tracer passes, its value is not known here.

    Raises:
        ValueError: at zero (the quadratic term divides by it), negative or NaN.
        TypeError: it is a function.
    """
    if penalty is None or isinstance(penalty, Tracer):
        return
    if callable(penalty):
        raise TypeError(f"penalty must be one number, got {type(penalty).__name__}")
    if not penalty > 0:
        raise ValueError(
            f"penalty must be > 0, got {penalty}; for a plain Lagrangian use penalty=None"
        )


def check_match(residuals: Constraints, multipliers: Constraints) -> None:
    """Refuses multipliers that do not stand one to one beside the residuals.

    Args:
        residuals: h and g, each () or (n,).
        multipliers: mu and lambda.

    Raises:
        ValueError: names or shapes differ.
    """
    shapes = {(kind, name): jnp.shape(r) for kind, name, r in named(residuals)}
    theirs = {(kind, name): jnp.shape(m) for kind, name, m in named(multipliers)}
    for kind, name in shapes.keys() ^ theirs.keys():
        have, lack = ("residual", "multiplier")
        if (kind, name) in theirs:
            have, lack = lack, have
        raise ValueError(f"{kind} constraint {name!r} has a {have} but no {lack}")
    for (kind, name), shape in shapes.items():
        if shape != theirs[kind, name]:
            raise ValueError(
                f"{kind} constraint {name!r} has a residual of shape {shape} but "
                f"multipliers of shape {theirs[kind, name]}; keep the number of points "
                "fixed, or reduce the residual to one number, e.g. its mean"
            )
