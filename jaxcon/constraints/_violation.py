"""Violations of constraints."""

import jax
import jax.numpy as jnp

from jaxcon._checks import check_number
from jaxcon._stacking import map_numbers
from jaxcon.constraints._checks import check_residuals
from jaxcon.constraints._constraints import Constraints


def violation(residuals: Constraints) -> Constraints:
    r"""Returns the violation of each constraint: :math:`|h|` and :math:`\max(g, 0)`.

    Args:
        residuals: h and g, each () or (n,), in the units the constraint was written in.

    Returns:
        Nonnegative numbers in the shapes of `residuals`; NaN stays NaN.

    Raises:
        TypeError: a residual is not a real floating-point array.
        ValueError: a residual has two or more dimensions.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxcon as jc
        >>> residuals = jc.Constraints({"h": jnp.array(-2.0)}, {"g": jnp.array(-3.0)})
        >>> print(jc.violation(residuals).equality["h"])
        2.0
        >>> print(jc.violation(residuals).inequality["g"])
        0.0
    """
    check_residuals(residuals)
    return Constraints(
        equality=map_numbers(jnp.abs, residuals.equality),
        inequality=map_numbers(lambda g: jnp.maximum(g, 0), residuals.inequality),
    )


def worst(entries: Constraints) -> Constraints:
    """Returns the largest entry of each constraint, e.g. to plot an (n,) array.

    Args:
        entries: one array per constraint, e.g. violations, each () or (n,).

    Returns:
        One number per constraint, each of shape (); 0 for an empty array.
    """
    largest = jax.tree.map(
        lambda entry: jnp.max(entry, initial=0) if jnp.ndim(entry) else entry, entries
    )
    return map_numbers(lambda entry: jnp.maximum(entry, 0), largest)


def max_violation(residuals: Constraints) -> jax.Array:
    r"""Returns the largest violation of all: :math:`\max(|h|, g, 0)` over every entry.

    Args:
        residuals: h and g, each () or (n,).

    Returns:
        Shape (); 0 where there are no constraints, NaN where any residual is NaN.

    Raises:
        TypeError: a residual is not a real floating-point array.
        ValueError: a residual has two or more dimensions.
    """
    largest = jax.tree.leaves(worst(violation(residuals)))
    return jnp.max(jnp.stack(largest)) if largest else jnp.zeros(())


def feasible(residuals: Constraints, tolerance: float) -> jax.Array:
    """Returns whether every violation is at most `tolerance`.

    Args:
        residuals: h and g, each () or (n,).
        tolerance: at least 0, in the units the constraints were written in.

    Returns:
        A boolean of shape (); False where any residual is NaN.

    Raises:
        TypeError: a residual is not a real floating-point array.
        ValueError: `tolerance` is negative or not finite.
    """
    check_number("tolerance", tolerance, least=0)
    return max_violation(residuals) <= tolerance
