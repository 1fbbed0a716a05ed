"""Laplacians: sums of pure second derivatives, exact or estimated from random probes.

Both operators take a pure function of ONE example and return a pure function of one
example; batch with ``jax.vmap``, compile with ``jax.jit``, differentiate with
``jax.grad``.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxcon._checks import check_function, check_key, inside
from jaxcon.derivatives import _checks, _shared
from jaxcon.derivatives._quantities import Laplacian
from jaxcon.derivatives._shared import Function, ValueAnd


def laplacian(
    f: Function,
    *,
    weights: ArrayLike | None = None,
    directions: ArrayLike | None = None,
    probes: int | None = None,
    key: jax.Array | None = None,
    mode: str | None = None,
    unroll: bool | None = None,
) -> Function:
    r"""Returns the weighted sum of pure second derivatives of a scalar function.

    .. math:: \sum_k c_k\, v_k^\top H(x)\, v_k

    Weights and directions cover anisotropic diffusion, the wave operator (a negative
    weight) and a Laplacian in space alone (directions without a time component). The sum
    costs about two evaluations of f and one more for every direction. If there are more
    directions than f's first layer is wide, as many tangents as it is wide suffice (unless
    a weight is negative, or unknown under jit); second derivatives with respect to the
    parameters then need the layer's matrix to be of full rank.

    With ``probes`` the result is the mean over that many random sums of the directions
    (Hutchinson's estimate with Rademacher signs): it is unbiased, and pays off only with
    far fewer probes than directions. One key gives the same probes at every x;
    ``jax.vmap`` over keys gives each its own. A loss that squares it should use
    `unbiased_square`.

    Args:
      f: one example x (d,) to a scalar ().
      weights: c (k,); ones by default.
      directions: v (k, d), one per row, not normalised; the unit vectors by default.
      probes: how many random probes; None for the exact sum.
      key: a `jax.random.key`, needed with probes.
      mode: "forward" or "reverse" (over reverse); None for forward.
      unroll: whether each tangent is a program of its own, or all are one array; None
        for the faster one.

    Returns:
      A function of x (d,) that returns the sum ().

    Raises:
      ValueError: if only one of probes and key is given, or probes < 1, or the mode is
        unknown; when called, if x is not (d,), f(x) not (), or the weights or
        directions do not fit.
      TypeError: when called, if x is no array of real, or f(x) of real or complex floats.

    References:
      Li et al., "A computational framework for neural network-based variational Monte
      Carlo with Forward Laplacian" (2024); Hutchinson, "A stochastic estimator of the
      trace of the influence matrix" (1990).

    Example:
      >>> import jax.numpy as jnp
      >>> import jaxcon as jc
      >>> f = lambda x: x[0] ** 2 + 3 * x[1] ** 2
      >>> x = jnp.array([2.0, 3.0])
      >>> float(jc.derivatives.laplacian(f)(x))
      8.0
      >>> float(jc.derivatives.laplacian(f, weights=jnp.array([1.0, -1.0]))(x))
      -4.0
    """
    terms = (weights, directions, probes, key)
    return _shared.derivative_only(_laplacian(f, terms, mode, unroll, "laplacian"))


def value_and_laplacian(
    f: Function,
    *,
    weights: ArrayLike | None = None,
    directions: ArrayLike | None = None,
    probes: int | None = None,
    key: jax.Array | None = None,
    mode: str | None = None,
    unroll: bool | None = None,
) -> ValueAnd:
    r"""Returns f(x) and its weighted Laplacian, from one pass.

    .. math:: x \mapsto (f(x), \textstyle\sum_k c_k v_k^\top H(x) v_k)

    Args:
      f: one example x (d,) to a scalar ().
      weights: as for `laplacian`.
      directions: as for `laplacian`.
      probes: as for `laplacian`.
      key: as for `laplacian`.
      mode: as for `laplacian`.
      unroll: as for `laplacian`.

    Returns:
      A function of x (d,) that returns the value () and the sum ().

    Raises:
      ValueError: as `laplacian` does.
      TypeError: as `laplacian` does.
    """
    terms = (weights, directions, probes, key)
    return _laplacian(f, terms, mode, unroll, "value_and_laplacian")


def _laplacian(
    f: Function, terms: tuple, mode: str | None, unroll: bool | None, name: str
) -> ValueAnd:
    weights, directions, probes, key = terms
    _checks.require_samples(probes, key, name, "probes")

    def quantity(x: jax.Array) -> Laplacian:
        given = _checks.terms(weights, directions, x, name)
        if probes is None:
            return Laplacian(*given)
        return Laplacian(*_probes(given[0], given[1], probes, key, x))

    require = _shared.scalar(name)
    return _shared.value_and(f, name, quantity, require, mode=mode, unroll=unroll)


def _probes(
    weights: jax.Array | None,
    directions: jax.Array | None,
    probes: int,
    key: Any,
    x: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """Returns random directions whose Laplacian has the exact one as its mean."""
    k = x.size if directions is None else len(directions)
    signs = jax.random.rademacher(key, (probes, k), x.dtype)

    def across(signs: jax.Array) -> jax.Array:
        if directions is None:
            return signs
        return jnp.matmul(signs, directions, precision=jax.lax.Precision.HIGHEST)

    mean = jnp.full(probes, 1 / probes, x.dtype)
    if weights is None:
        return mean, across(signs)
    # Weights may be negative, so that their roots cannot be split among the factors. With
    # z the signs, E (Σ z_k v_k)ᵀ H (Σ c_k z_k v_k) is the sum, and p'Hq is a difference
    # of squares of p + q and p - q.
    p, q = across(signs), across(signs * weights[None])
    return (
        jnp.concatenate([mean / 4, -mean / 4]),
        jnp.concatenate([p + q, p - q]),
    )


def unbiased_square(estimate: Callable[[jax.Array], Any], key: jax.Array) -> Any:
    r"""Returns the product of two independent estimates, unbiased for the square.

    .. math:: \mathbb{E}[\hat r_1 \hat r_2] = r^2, \qquad
              \mathbb{E}[\hat r^2] = r^2 + \operatorname{Var} \hat r

    A loss that squares a randomly estimated residual is too large by its variance, and
    its minimum is elsewhere. The product of two estimates with their own keys has no such
    bias.

    Args:
      estimate: key -> an estimate of the residual r, an array of any shape.
      key: a `jax.random.key`, split in two.

    Returns:
      The product, of the estimate's shape; it may be negative.

    Raises:
      TypeError: `estimate` is no function, or `key` no key.

    References:
      Hu et al., "Hutchinson trace estimation for high-dimensional and high-order
      physics-informed neural networks" (2024), section 3.3.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import jaxcon as jc
      >>> f = lambda x: jnp.sum(x**2)                # its Laplacian is 6 in 3 inputs
      >>> def residual(key):
      ...     return jc.derivatives.laplacian(f, probes=1, key=key)(jnp.ones(3)) - 6.0
      >>> print(jc.derivatives.unbiased_square(residual, jax.random.key(0)))
      0.0
    """
    check_function("estimate", estimate, "key -> array")
    check_key("key", key)
    first, second = jax.random.split(key)
    with inside("estimate"):
        return estimate(first) * estimate(second)
