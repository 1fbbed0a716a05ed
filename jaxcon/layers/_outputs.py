"""Output layers by elementary functions: shares, order, definiteness, sums."""

from math import isqrt
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxcon._checks import check_array, check_number
from jaxcon.layers._certificates import (
    Gap,
    Guarantee,
    holds,
)
from jaxcon.layers._networks import Output, at_input, check_term, floating, output
from jaxcon.projections import product


def simplex() -> Output:
    r"""Maps outputs to nonnegative shares that sum to one by softmax.

    .. math::
        f_i = e^{z_i} / \textstyle\sum_j e^{z_j}

    The sum holds to one rounding for each output. Shares of exactly zero are reached only
    where the exponential underflows: see `sparse_simplex` for those.

    Returns:
        The output layer, of y (m,).

    Raises:
        ValueError: when called, y is not of shape (m,).

    References:
        Bridle, Training Stochastic Model Recognition Algorithms as Networks (1989).

    Example:
        >>> import jax.numpy as jnp, jaxcon as jc
        >>> print(jc.layers.simplex()(jnp.array([1.0, 1.0])))
        [0.5 0.5]
    """
    return output(
        lambda z, x: jax.nn.softmax(vector("simplex", z)), _sums_to_one("f(x) >= 0")
    )


def sparse_simplex() -> Output:
    r"""Projects outputs onto the simplex: shares, many of them exactly zero (sparsemax).

    .. math::
        f = \arg\min_p \|p - z\|^2 \quad \text{subject to} \quad p \ge 0, \sum_i p_i = 1

    The nearest point of the simplex costs one sort of the outputs. A share that is zero has
    no slope, and its logarithm is infinite: use squared errors, or `simplex` where every
    share is to learn from every example.

    Returns:
        The output layer, of y (m,).

    Raises:
        ValueError: when called, y is not of shape (m,).

    References:
        Martins and Astudillo, From Softmax to Sparsemax (2016).

    Example:
        >>> import jax.numpy as jnp, jaxcon as jc
        >>> print(jc.layers.sparse_simplex()(jnp.array([0.5, 0.3, -1.0])))
        [0.6 0.4 0. ]
    """

    def function(z: jax.Array, x: Any) -> jax.Array:
        z = vector("sparse_simplex", z)
        # This is the same point, from sums in which nothing large cancels: an output more
        # than one below the largest has no share, and two leave room for a rounding.
        near = jnp.maximum(z - jax.lax.stop_gradient(jnp.max(z)), -2)
        # Its derivative fails in any precision but the default.
        near = near.astype(jnp.result_type(float))
        p = optax.projections.projection_simplex(near).astype(z.dtype)
        # Not m^2 roundings of the threshold, but m of the sum.
        return p / jnp.sum(p)

    return output(function, _sums_to_one("f(x) >= 0"))


def ordered(gap: float = 0.0) -> Output:
    r"""Maps outputs to ascending order, e.g. quantiles.

    .. math::
        f_0 = z_0, \qquad f_i = f_{i-1} + \delta + \log(1 + e^{z_i})

    The order is exact in floating point, the gap holds to m roundings of the values'
    size: a step that is smaller than that is lost beside them, and neighbours are then
    equal. It costs one exponential and two cumulative sums of the outputs.

    Args:
        gap: δ >= 0, the least distance of neighbours, in units of the outputs.

    Returns:
        The output layer, of y (m,).

    Raises:
        ValueError: the gap is negative; when called, y is not of shape (m,).

    Example:
        >>> import jax.numpy as jnp, jaxcon as jc
        >>> print(jc.layers.ordered(gap=1.0)(jnp.array([5.0, -1e30, -1e30])))
        [5. 6. 7.]
    """
    check_number("ordered: gap", gap, least=0)

    def function(z: jax.Array, x: Any) -> jax.Array:
        z = vector("ordered", z)
        steps = jax.nn.softplus(z[1:]) + jnp.asarray(gap, z.dtype)
        # Sums taken in any order may fall by a rounding.
        return jax.lax.cummax(jnp.cumsum(jnp.concatenate([z[:1], steps])))

    def falls(y: jax.Array, x: jax.Array) -> Gap:
        del x
        return Gap(jnp.max(-jnp.diff(y), initial=-jnp.inf), jnp.max(jnp.abs(y)))

    def short(y: jax.Array, x: jax.Array) -> Gap:
        del x
        # Two sums of m terms, each to m - 1 half roundings of all that was added.
        added = jnp.abs(y[0]) + jnp.abs(y[-1] - y[0])
        return Gap(jnp.max(gap - jnp.diff(y), initial=-jnp.inf), y.size * added)

    order = holds("f_i >= f_(i-1)", falls, roundings=0.0, size="the outputs")
    apart = holds(
        f"f_i - f_(i-1) >= {gap:g}",
        short,
        roundings=1.0,
        size="m (|f_0| + f_(m-1) - f_0)",
        constant=gap,
    )
    return output(
        function,
        order,
        *([apart] if gap > 0 else []),
        caveat="Steps smaller than a rounding of the outputs are lost beside them.",
    )


def positive_definite(minimum: float = 0.0) -> Output:
    r"""Maps outputs to a symmetric matrix with eigenvalues above a bound.

    .. math::
        F = L L^T + \mu I, \qquad L_{ii} = \log(1 + e^{z_{ii}}), \qquad
        L_{ij} = z_{ij} \text{ for } i > j

    Every symmetric matrix with eigenvalues above μ has one such L, the Cholesky factor of
    :math:`F - \mu I`. The matrix is exactly symmetric, and its eigenvalues are at least μ
    to rounding of its trace. It costs a product of two matrices.

    Args:
        minimum: μ >= 0, in units of F.

    Returns:
        The output layer, of y (m (m + 1) / 2,), the rows of L one after the other; it
        returns (m, m).

    Raises:
        ValueError: the minimum is negative; when called, y is no lower triangle.

    References:
        Pinheiro and Bates, Unconstrained Parametrizations for Variance-Covariance
        Matrices (1996).

    Example:
        >>> import jax.numpy as jnp, jaxcon as jc
        >>> covariance = jc.layers.positive_definite(minimum=1.0)
        >>> print(covariance(jnp.array([-1e30, 2.0, -1e30])))
        [[1. 0.]
         [0. 5.]]
    """
    check_number("positive_definite: minimum", minimum, least=0)

    def function(z: jax.Array, x: Any) -> jax.Array:
        z = vector("positive_definite", z)
        m = (isqrt(8 * z.size + 1) - 1) // 2
        if m * (m + 1) // 2 != z.size:
            raise ValueError(
                "positive_definite takes the m (m + 1) / 2 entries of a lower triangle, "
                f"e.g. {m * (m + 1) // 2} for m = {m}; got shape {z.shape}"
            )
        free = jnp.zeros((m, m), z.dtype).at[np.tril_indices(m)].set(z)
        factor = jnp.tril(free, -1) + jnp.diag(jax.nn.softplus(jnp.diag(free)))
        square = product(factor, factor.T)
        # A product need not be symmetric to the last rounding.
        square = jnp.tril(square) + jnp.tril(square, -1).T
        return square + jnp.asarray(minimum, z.dtype) * jnp.eye(m, dtype=z.dtype)

    def skew(y: jax.Array, x: jax.Array) -> Gap:
        del x
        return Gap(jnp.max(jnp.abs(y - y.T)), jnp.max(jnp.abs(y)))

    def short(y: jax.Array, x: jax.Array) -> Gap:
        del x
        # The product is off by m half roundings of |L| |L|^T, whose norm is at most the
        # trace; the eigenvalues that are compared are off by m roundings of the norm.
        return Gap(minimum - jnp.linalg.eigvalsh(y)[0], len(y) * jnp.trace(y))

    return output(
        function,
        holds("F = F^T", skew, roundings=0.0, size="the entries"),
        holds(
            f"eigenvalues of F >= {minimum:g}",
            short,
            roundings=2.0,
            size="m trace F",
            constant=minimum,
        ),
        caveat=(
            "An eigenvalue below a rounding of the trace may come out zero or less: a "
            "minimum above that keeps the matrix positive definite in floating point."
        ),
    )


def sums_to(total: Any) -> Output:
    r"""Projects outputs onto those of a given sum.

    .. math::
        f = z + \frac{1}{m} \left( t - \sum_j z_j \right)

    The orthogonal projection onto the plane of that sum costs two sums of the outputs. It
    may make outputs negative: for shares of a total that must not be negative, take the
    total times `simplex`; for weighted or several sums, `jaxcon.projections.affine`.

    Args:
        total: t, (), or a function of x that returns it, in units of the outputs.

    Returns:
        The output layer, of y (m,).

    Raises:
        ValueError: when called, y is not of shape (m,), the total is not (), or it is a
            function of x and x is not given.

    Example:
        >>> import jax.numpy as jnp, jaxcon as jc
        >>> print(jc.layers.sums_to(1.0)(jnp.array([1.0, 2.0])))
        [0. 1.]
    """
    total = check_term("sums_to: total", total, "()")

    def wanted(y: jax.Array, x: Any) -> jax.Array:
        # One output is passed, since a total is one number.
        return evaluated("sums_to", "total", total, y[0], x)

    def function(z: jax.Array, x: Any) -> jax.Array:
        y = vector("sums_to", z)
        # Twice: the rounding of a long first move may be large beside what is left.
        for _ in range(2):
            y = y + (wanted(y, x) - jnp.sum(y)) / y.size
        return y

    def off(y: jax.Array, x: jax.Array) -> Gap:
        # The last move's sum and the sum here: m - 1 half roundings each of what is added;
        # the move itself three.
        t = wanted(y, x)
        size = (y.size + 1) * (jnp.sum(jnp.abs(y)) + jnp.abs(t))
        return Gap(jnp.abs(jnp.sum(y) - t), size)

    text = "t(x)" if callable(total) else str(np.asarray(total))
    return output(
        function,
        holds(
            f"sum of f(x) = {text}",
            off,
            roundings=1.0,
            size="(m + 1) times the sum of sizes",
            constant=total,
        ),
    )


def evaluated(
    name: str, what: str, given: Any, y: jax.Array, x: jax.Array | None
) -> jax.Array:
    """Evaluates a number, an array or a function of x in the dtype of an output.

    Args:
        name: of the layer.
        what: the name of the given value.
        given: (), of y's shape, or a function of x that returns it.
        y: the output that it is combined with, () or (m,).
        x: (d,), or None where the layer is called without it.

    Returns:
        Shape () or that of y, in its dtype.

    Raises:
        ValueError: x is needed and not given, or the shapes do not fit.
    """
    given = at_input(f"{name}: {what}", given, x)
    check_array(f"{name}: {what}", given, "of any shape", finite=None)
    if jnp.shape(given) not in ((), y.shape):
        raise ValueError(
            f"{name}: {what} has shape {jnp.shape(given)}, the output {y.shape}; "
            "it must be () or the same, use jax.vmap for a batch"
        )
    return jnp.asarray(given, y.dtype)


def vector(name: str, y: jax.Array) -> jax.Array:
    """Checks that an output is a vector and returns it as an array of floats."""
    y = floating(f"{name}: y", y)
    if y.ndim != 1 or not y.size:
        raise ValueError(
            f"{name} takes one output y of shape (m,), got {y.shape}; "
            "use jax.vmap for a batch"
        )
    return y


def _sums_to_one(sign: str) -> Guarantee:
    def gap(y: jax.Array, x: jax.Array) -> Gap:
        del x
        # Both sums to m - 1 half roundings of 1, each quotient to half of one.
        size = jnp.asarray(y.size, y.dtype)
        return Gap(jnp.maximum(jnp.max(-y), jnp.abs(jnp.sum(y) - 1)), size)

    return holds(f"{sign}, sum of f(x) = 1", gap, roundings=1.0, size="m")
