"""Projection onto linear equations, and the matrix product that it rests on."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.scipy.linalg import solve_triangular

from jaxcon._checks import check_array

# Accelerators keep 8 to 11 bits of each factor by default: the error would exceed what a
# constraint or a bound on a norm allows.
product = partial(jnp.matmul, precision="highest")


def affine(y: Any, A: Any, b: Any) -> jax.Array:
    r"""Returns the nearest point at which linear equations hold.

    .. math::
        P(y) = y - A^T (A A^T)^{-1} (A y - b)

    It is computed from a QR decomposition of :math:`A^T`, which does not square A's
    condition number. Its derivative in y is the projection onto the null space of A, so
    a network that ends in it is trained only in the directions that the equations leave
    free. Each equation holds to 4 machine epsilons of its largest terms,
    :math:`\sum_j |A_{ij}| (|y_j| + |P(y)_j|) + |b_i|`, on accelerators too.

    Args:
        y: the point to project, (m,).
        A: one row for each equation, (k, m), of full row rank.
        b: right-hand sides, (k,), in the units of A y.

    Returns:
        Shape (m,), in float32 or wider.

    Raises:
        TypeError: an argument is no array of numbers.
        ValueError: the shapes do not fit, or a row of A is a combination of those above
            it, so that the equations either repeat or contradict each other. If A is
            traced and its values are not known, the result is NaN instead.

    References:
        Boyd and Vandenberghe, Convex Optimization (2004), section 8.1.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxcon as jc
        >>> A, b = jnp.ones((1, 2)), jnp.ones(1)
        >>> print(jc.projections.affine(jnp.array([1.0, 2.0]), A, b))
        [0. 1.]
    """
    y = check_array("affine: y", y, "of any shape", finite=None)
    A, b = (
        check_array(f"affine: {name}", given, "of any shape")
        for name, given in (("A", A), ("b", b))
    )
    m, k = y.size, b.size
    if (y.shape, A.shape, b.shape) != ((m,), (k, m), (k,)):
        raise ValueError(
            "affine needs y (m,), A (k, m) and b (k,), got "
            f"{y.shape}, {A.shape} and {b.shape}; use jax.vmap for many y"
        )
    if not 1 <= k <= m:
        raise ValueError(
            f"affine got {k} equations for {m} outputs; it needs at least one and at "
            "most as many as there are outputs"
        )
    # Half precision has no QR decomposition.
    dtype = jnp.result_type(y, A, b, jnp.float32)
    check_independent("affine", A, b, dtype)
    return onto_equations(*(jnp.asarray(entry, dtype) for entry in (y, A, b)))


def check_independent(name: str, A: Any, b: Any, dtype: Any) -> None:
    """Refuses equations of which one repeats or contradicts others, where A is known.

    Args:
        name: of the caller.
        A: (k, m).
        b: (k,), or None where it is not known.
        dtype: in which rows are compared.

    Raises:
        ValueError: a row of A is a combination of those above it.
    """
    if isinstance(A, Tracer):
        return
    rows = np.asarray(A).astype(dtype)
    r = np.linalg.qr(rows.T, mode="r")
    dependent = np.flatnonzero(_dependent(r, rows.shape[1]))
    if not dependent.size:
        return
    row = dependent[0].item()
    effect = "leave it out if its equation repeats theirs"
    if b is not None and not isinstance(b, Tracer):
        right, above = np.asarray(b).astype(dtype), rows[:row]
        factors = np.linalg.lstsq(above.T, rows[row])[0]
        gap = abs(right[row] - factors @ right[:row])
        terms = abs(right[row]) + np.abs(factors) @ np.abs(right[:row])
        # As many digits as independence is judged by.
        contradicts = gap > 4 * rows.shape[1] * np.finfo(dtype).eps * terms
        effect = (
            "its equation contradicts theirs: no point obeys them all"
            if contradicts
            else "its equation repeats theirs, leave it out"
        )
    raise ValueError(
        f"{name}: row {row} of A is a combination of the rows above it; {effect}"
    )


def onto_equations(y: jax.Array, A: jax.Array, b: jax.Array) -> jax.Array:
    """Returns the nearest point at which equations hold, NaN where rows are dependent.

    Args:
        y: (m,).
        A: (k, m).
        b: (k,), all three of one dtype.

    Returns:
        Shape (m,).
    """
    q, r = jnp.linalg.qr(A.T)
    r = jnp.where(_dependent(r, y.size)[None, :], jnp.nan, r)
    # It moves twice: the rounding of a long first move may be large in a row of small
    # terms.
    for _ in range(2):
        excess = product(A, y) - b
        y -= product(q, solve_triangular(r, excess, trans="T"))
    return y


def _dependent(r: Any, m: int) -> Any:
    """Flags columns of a triangular factor within rounding of those before, (k,)."""
    # Lengths are sums of absolute values: squares would overflow sooner.
    lengths = abs(r).sum(axis=0)
    return abs(r.diagonal()) <= 4 * m * jnp.finfo(r.dtype).eps * lengths
