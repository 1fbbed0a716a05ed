r"""Lagrangians and augmented Lagrangians of loss, residuals and multipliers."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxcon._checks import check_function, check_real
from jaxcon._stacking import MANY, groups
from jaxcon.constraints import Constraints, check_entries, check_residuals, named


def zero_multipliers(residuals: Constraints) -> Constraints:
    """Returns multipliers of zero, one for each residual.

    Args:
        residuals: h and g, each () or (n,); arrays or `jax.ShapeDtypeStruct`s.

    Returns:
        Zeros in the shapes and dtypes of `residuals`, of float32 at least: sums of small
        steps stand still in shorter formats.

    Raises:
        TypeError: a residual is no array of real numbers.
    """
    check_residuals(residuals)
    return jax.tree.map(
        lambda r: jnp.zeros(r.shape, jnp.promote_types(r.dtype, jnp.float32)), residuals
    )


def lagrangian(
    loss: jax.Array, residuals: Constraints, multipliers: Constraints
) -> jax.Array:
    r"""Evaluates the Lagrangian at one point.

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
        >>> import jax.numpy as jnp, jaxcon as jc
        >>> g = jc.Constraints(inequality={"cap": jnp.array(0.5)})
        >>> lam = jc.Constraints(inequality={"cap": jnp.array(2.0)})
        >>> print(jc.lagrangian(jnp.array(1.0), g, lam))
        2.0
    """
    loss = check_real("loss is", loss, "one real number ()")
    check_match(residuals, multipliers)
    terms = jax.tree.map(lambda r, m: jnp.sum(m * r), residuals, multipliers)
    return sum(jax.tree.leaves(terms), start=loss)


def augmented_lagrangian(
    loss: jax.Array,
    residuals: Constraints,
    multipliers: Constraints,
    penalty: Any,
) -> jax.Array:
    r"""Evaluates the Powell-Hestenes-Rockafellar augmented Lagrangian.

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
        penalty: rho > 0: one number, shape (), or a `Constraints` of them, each of shape
            (); a constraint that has none in it enters as in `lagrangian`.

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
        >>> import jax.numpy as jnp, jaxcon as jc
        >>> g = jc.Constraints(inequality={"cap": jnp.array(0.5)})
        >>> lam = jc.Constraints(inequality={"cap": jnp.array(2.0)})
        >>> print(jc.augmented_lagrangian(jnp.array(1.0), g, lam, penalty=4.0))
        2.5
    """

    def inequality(g: jax.Array, lam: jax.Array, rho: Any) -> jax.Array:
        pushing = lam * g + 0.5 * rho * jnp.square(g)
        resting = -jnp.square(lam) / (2 * rho)
        # A NaN pushes: a line search must see it.
        return jnp.where(lam + rho * g <= 0, resting, pushing)

    return _augmented(loss, residuals, multipliers, penalty, inequality)


def penalty_barrier_lagrangian(
    loss: jax.Array,
    residuals: Constraints,
    multipliers: Constraints,
    penalty: Any,
    barrier: Callable[[jax.Array], jax.Array],
) -> jax.Array:
    r"""Evaluates the Lagrangian of the penalty-barrier multiplier method.

    .. math::
        f + \sum \left( \mu h + \tfrac{\rho}{2} h^2 \right)
          + \sum \frac{\lambda}{\rho} \varphi(\rho g)

    Equalities enter as in `augmented_lagrangian`. The penalty of an inequality is as
    smooth as :math:`\varphi`, where Rockafellar's has a jump in its second derivative, and
    scales with its multiplier: one that is zero stays zero, so start from positive ones.

    Args:
        loss: f, shape ().
        residuals: h and g, each () or (n,).
        multipliers: mu and lambda, shaped like `residuals`.
        penalty: rho > 0, shape (), or a `Constraints` of such numbers.
        barrier: phi, elementwise, convex and increasing, with phi(0) = 0 and
            phi'(0) = 1: `penalties.log_quadratic` or `penalties.exponential_quadratic`.

    Returns:
        Shape ().

    Raises:
        ValueError: names or shapes of residuals and multipliers differ, or `penalty` is a
            Python number that is not positive.

    References:
        Ben-Tal and Zibulevsky, Penalty/Barrier Multiplier Methods for Convex Programming
        Problems (1997).

    Example:
        >>> import jax.numpy as jnp, jaxcon as jc
        >>> g = jc.Constraints(inequality={"cap": jnp.array(0.5)})
        >>> lam = jc.Constraints(inequality={"cap": jnp.array(2.0)})
        >>> phi = jc.penalties.log_quadratic
        >>> from jaxcon.lagrangians import penalty_barrier_lagrangian
        >>> print(penalty_barrier_lagrangian(jnp.array(1.0), g, lam, 4.0, phi))
        3.0
    """
    check_function("barrier", barrier, "residual -> phi, elementwise")

    def inequality(g: jax.Array, lam: jax.Array, rho: Any) -> jax.Array:
        return lam / rho * barrier(rho * g)

    return _augmented(loss, residuals, multipliers, penalty, inequality)


def _augmented(
    loss: jax.Array,
    residuals: Constraints,
    multipliers: Constraints,
    penalty: Any,
    inequality: Callable[[jax.Array, jax.Array, Any], jax.Array],
) -> jax.Array:
    """Sums all terms; `inequality` evaluates that of g of a constraint with a penalty."""
    loss = check_real("loss is", loss, "one real number ()")
    check_match(residuals, multipliers)
    if penalty is None:
        raise TypeError("penalty must be one number or a Constraints of them, got None")
    check_penalty(penalty)

    def plain(residual: jax.Array, multiplier: jax.Array) -> jax.Array:
        return multiplier * residual

    def equality(residual: jax.Array, multiplier: jax.Array, rho: Any) -> jax.Array:
        return multiplier * residual + 0.5 * rho * jnp.square(residual)

    terms: dict[Callable[..., jax.Array], list[tuple[Any, ...]]] = {}
    for kind, name, residual in named(residuals):
        multiplier = getattr(multipliers, kind)[name]
        rho = penalty_of(penalty, kind, name)
        if rho is None:
            terms.setdefault(plain, []).append((residual, multiplier))
        else:
            term = equality if kind == "equality" else inequality
            terms.setdefault(term, []).append((residual, multiplier, rho))
    value = loss
    for term, columns in terms.items():
        for places in groups(columns):
            if len(places) < MANY:
                for place in places:
                    value = value + jnp.sum(term(*columns[place]))
            else:
                rows = zip(*(columns[place] for place in places))
                value = value + jnp.sum(term(*map(jnp.stack, rows)))
    return value


def penalty_of(penalty: Any, kind: str, name: str) -> Any:
    """Returns the penalty of one constraint, or None where it has none.

    Args:
        penalty: rho, one number or a `Constraints` of them; or None.
        kind: "equality" or "inequality".
        name: the constraint's name.

    Returns:
        rho of shape (), or None.
    """
    if isinstance(penalty, Constraints):
        return getattr(penalty, kind).get(name)
    return penalty


def multiplier_estimates(
    residuals: Constraints, multipliers: Constraints, penalty: Any = None
) -> Constraints:
    r"""Computes the multipliers that the objective's gradient uses at this point.

    .. math::
        \hat\mu = \mu + \rho h, \qquad \hat\lambda = \max(\lambda + \rho g, 0)

    They are the weights of the residuals' gradients in the gradient of the (augmented)
    Lagrangian, and the next multipliers of the method of multipliers. With multipliers
    zero they are what a quadratic penalty stands for. `Lagrangian.multiplier_estimates`
    returns them for any kind of multipliers and any barrier.

    Args:
        residuals: h and g, each () or (n,).
        multipliers: mu and lambda, shaped like `residuals`.
        penalty: rho > 0, shape (), or a `Constraints` of such numbers; None, or none for
            a constraint, for the plain Lagrangian, whose estimates are the multipliers.

    Returns:
        Estimates, shaped like `residuals`.

    References:
        Nocedal and Wright, Numerical Optimization (2006), eq. 17.39 and section
        17.4.
    """
    check_match(residuals, multipliers)
    if penalty is None:
        return multipliers
    check_penalty(penalty)

    def estimate(kind: str, name: str, residual: jax.Array) -> jax.Array:
        multiplier = getattr(multipliers, kind)[name]
        rho = penalty_of(penalty, kind, name)
        if rho is None:
            return multiplier
        moved = multiplier + rho * residual
        return moved if kind == "equality" else jnp.maximum(moved, 0)

    return Constraints(
        *(
            {name: estimate(kind, name, entry) for name, entry in entries.items()}
            for kind, entries in zip(Constraints._fields, residuals)
        )
    )


def safeguarded_estimates(
    multipliers: Constraints, estimates: Constraints
) -> Constraints:
    r"""Restricts the change of multipliers by estimates of a penalty-barrier method.

    .. math::
        \lambda \leftarrow \max\left(
            \min(\max(\hat\lambda, \kappa \lambda), \lambda / \kappa), \epsilon
        \right), \qquad \kappa = 0.3

    A multiplier of which one step far inside the constraint left nothing would be lost
    for good: its penalty is a product with it. Epsilon is the dtype's machine epsilon.

    Args:
        multipliers: mu and lambda, the present ones.
        estimates: shaped like them.

    Returns:
        Estimates; those of equalities unchanged.

    Raises:
        TypeError: an argument holds no real arrays by name.
        ValueError: names or shapes of the two differ.

    References:
        Ben-Tal and Zibulevsky, Penalty/Barrier Multiplier Methods for Convex Programming
        Problems (1997), who bound the change of a multiplier by a factor.
    """
    check_entries("multipliers", multipliers, "multiplier")
    check_entries("estimates", estimates, "estimate")
    check_match(estimates, multipliers)

    def bounded(before: jax.Array, estimate: jax.Array) -> jax.Array:
        bounded = jnp.clip(estimate, 0.3 * before, before / 0.3)
        return jnp.maximum(bounded, jnp.finfo(before.dtype).eps)

    return Constraints(
        estimates.equality,
        jax.tree.map(bounded, multipliers.inequality, estimates.inequality),
    )


def check_penalty(penalty: Any, label: str = "penalty") -> None:
    """Refuses a penalty that is known and not positive.

    Args:
        penalty: rho, one number or a `Constraints` of them, or None; a tracer passes, its
            value is not known here.
        label: of the argument, for the message.

    Raises:
        ValueError: at zero (the quadratic term divides by it), negative or not finite.
        TypeError: it is no number.
    """
    if isinstance(penalty, Constraints):
        entries = [(f" of {name!r}", rho) for _, name, rho in named(penalty)]
    else:
        entries = [("", penalty)]
    for name, rho in entries:
        if rho is None:
            continue
        # Not `rho > 0`: while something else is traced, that would be a tracer.
        try:
            value = rho if isinstance(rho, Tracer) else np.asarray(rho)
        except ValueError:  # nested lists of different lengths
            value = np.array(None)
        if value.shape != () or not (
            jnp.issubdtype(value.dtype, jnp.integer)
            or jnp.issubdtype(value.dtype, jnp.floating)
        ):
            raise TypeError(
                f"{label}{name} must be one number, got {type(rho).__name__}"
            )
        if not isinstance(value, Tracer) and not 0 < value < np.inf:
            raise ValueError(
                f"{label}{name} must be > 0 and finite, got {rho}; for a plain "
                "Lagrangian use penalty=None"
            )


def check_match(residuals: Constraints, multipliers: Constraints) -> None:
    """Refuses multipliers that do not stand one to one beside the residuals.

    Args:
        residuals: h and g, each () or (n,).
        multipliers: mu and lambda.

    Raises:
        ValueError: names or shapes differ.
        TypeError: residuals or multipliers are not real arrays by name; or multipliers
            are a table or a network, not those of a batch.
    """
    check_entries("multipliers", multipliers, "multiplier")
    for kind, name, multiplier in named(multipliers):
        if not jax.tree_util.all_leaves([multiplier]):
            raise TypeError(
                f"the multipliers of {kind} constraint {name!r} are kept as a "
                f"{type(multiplier).__name__}: pass "
                "problem.multiplier_estimates(state, batch), which has one for each "
                "residual"
            )
        check_real(
            f"the multiplier of {kind} constraint {name!r} is", multiplier, "real"
        )
    check_residuals(residuals)
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
