"""Spectrum of the Fisher information, and the Cramér-Rao bound that it gives."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxcon.derivatives import jacobian
from jaxcon.identifiability._fisher import real_noise, whiten
from jaxcon.identifiability._parameters import Model, flat

# Roundings in an entry of a Jacobian: a model is a few operations, or one long sum.
_ROUNDINGS = 32


def cramer_rao_bound(
    model: Model,
    params: Any,
    noise: Any,
    constraints: Model | None = None,
) -> jax.Array:
    r"""Returns the smallest covariance that an unbiased estimator can have.

    .. math::
        F^{-1}, \qquad \text{or} \quad U (U^T F U)^{-1} U^T

    under constraints :math:`h(\theta) = 0`, with U a basis of the null space of
    :math:`\partial h / \partial \theta`.

    It is computed from the singular values of the whitened Jacobian, each column scaled
    to length one, so that the parameters' units do not matter. Singular values below
    :math:`32 \sqrt p\, \epsilon` times the largest, with :math:`\epsilon` the dtype's
    machine epsilon, count as zero (p = 3: 6.6e-6 in float32, 1.2e-14 in float64). A
    parameter that their directions touch is not determined: such a direction has a
    component of it above that tolerance over the smallest singular value that counts,
    relative to the largest, and at most :math:`\sqrt\epsilon`. A parameter that only
    constraints tie to the data takes its scale from the constraints.

    Args:
        model: params -> predicted observations (n,).
        params: theta, p real numbers in any pytree.
        noise: standard deviations, () or (n,), or a covariance (n, n).
        constraints: params -> residuals h, () or (k,); None if there are none.

    Returns:
        Shape (p, p), in units of two parameters. Of a parameter that is not determined,
        infinity on the diagonal and NaN beside it. Runs inside jit and vmap.

    Raises:
        ValueError: the model does not return (n,), or `noise` has another shape, or is
            known not to be finite, positive, and symmetric if it is a covariance.
        TypeError: `model` or `constraints` is no function, or parameters or noise are not
            real numbers.

    References:
        Gorman and Hero, Lower Bounds for Parametric Estimation with Constraints (1990);
        Stoica and Ng, On the Cramér-Rao Bound Under Parametric Constraints (1998).

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxcon as jc
        >>> both = lambda p: jnp.stack([p["a"], p["b"]])
        >>> ones = {"a": 1.0, "b": 1.0}
        >>> jc.cramer_rao_bound(both, ones, noise=1.0).tolist()
        [[1.0, 0.0], [0.0, 1.0]]
        >>> tied = jc.cramer_rao_bound(both, ones, 1.0, lambda p: p["a"] - p["b"])
        >>> print(f"{tied[0, 0]:.4f}")
        0.5000
    """
    theta, predict = flat(model, params)
    residuals = constraint_residuals(constraints, params)
    spectrum, scaled = decomposition(theta, noise, predict, residuals)
    return scaled / spectrum.scale[:, None] / spectrum.scale[None, :]


class Spectrum(NamedTuple):
    """Singular value decomposition of the whitened Jacobian, along the constraints.

    Attributes:
        scale: lengths of the whitened Jacobian's columns; where those are zero, of the
            constraints' columns, or one; (p,).
        jacobian: whitened, in units of the scale, (n, p).
        values: its singular values, (p,).
        directions: right singular vectors in those units, one per column, (p, p), without
            their components across the constraints.
        significant: flags of the values that exceed the tolerance, (p,).
        touches: the component from which on a direction touches a parameter.
        finite: flags of the parameters with respect to which the derivatives of the model,
            and those of the constraints, are finite, (p,) each.
    """

    scale: jax.Array
    jacobian: jax.Array
    values: jax.Array
    directions: jax.Array
    significant: jax.Array
    touches: jax.Array
    finite: tuple[jax.Array, jax.Array]


def constraint_residuals(
    constraints: Model | None, params: Any
) -> Callable[[jax.Array], jax.Array] | None:
    """Returns the residuals (k,) of the constraints as a function of one vector."""
    if constraints is None:
        return None
    return flat(constraints, params, "constraints", "() or (k,)")[1]


def rank_tolerance(theta: jax.Array) -> float:
    """Returns the tolerance of the rank, relative to the largest singular value."""
    return _ROUNDINGS * theta.size**0.5 * float(jnp.finfo(theta.dtype).eps)


def decomposition(
    theta: jax.Array,
    noise: Any,
    predict: Callable[[jax.Array], jax.Array],
    residuals: Callable[[jax.Array], jax.Array] | None,
) -> tuple[Spectrum, jax.Array]:
    """Returns the spectrum at theta and the Cramér-Rao bound in units of its scale."""
    jac = jacobian(predict)(theta)
    normals = None if residuals is None else jacobian(residuals)(theta)
    return decomposed(theta, jac, real_noise(noise, jac.dtype), normals)


@jax.jit
def decomposed(
    theta: jax.Array, jac: jax.Array, noise: jax.Array, normals: jax.Array | None
) -> tuple[Spectrum, jax.Array]:
    """Returns the same for Jacobians (n, p) and (k, p); those of no constraints are None.

    Args:
        theta: the parameters, (p,).
        jac: of the model.
        noise: of `real_noise`.
        normals: of the constraints.

    Returns:
        The spectrum, and the Cramér-Rao bound in units of its scale.
    """
    p, tolerance = theta.size, rank_tolerance(theta)
    whitened = whiten(jac, noise)
    if normals is None:
        normals = jnp.zeros((0, p), theta.dtype)
    scale = _scale(_lengths(whitened, axis=0), normals)
    free, weakest = jnp.eye(p, dtype=theta.dtype), jnp.asarray(1, theta.dtype)
    if len(normals):
        tied = normals / scale[None, :]
        sizes = _lengths(tied, axis=1)[:, None]
        values, directions = _svd(tied / jnp.where(sizes == 0, 1, sizes))
        used, weakest = _above(values, tolerance)
        # Columns of zeros replace the directions across the constraints: under jit, the
        # number of independent constraints cannot be a shape.
        free = directions * ~used[None, :]
    scaled = whitened / scale[None, :]
    values, directions = _svd(jnp.matmul(scaled, free, precision="highest"))
    significant, smallest = _above(values, tolerance)
    spectrum = Spectrum(
        scale=scale,
        jacobian=scaled,
        values=values,
        directions=jnp.matmul(free, directions, precision="highest"),
        significant=significant,
        # Roundings turn a direction by their size over the smallest value.
        touches=jnp.minimum(
            tolerance / jnp.minimum(smallest, weakest),
            float(jnp.finfo(theta.dtype).eps) ** 0.5,
        ),
        finite=(jnp.isfinite(whitened).all(0), jnp.isfinite(normals).all(0)),
    )
    return spectrum, _scaled_covariance(spectrum)


def _above(values: jax.Array, tolerance: float) -> tuple[jax.Array, jax.Array]:
    """Flags the values that count; also returns their smallest over the largest."""
    largest = jnp.where(values[0] == 0, 1, values[0])
    counts = values > tolerance * values[0]
    return counts, jnp.min(jnp.where(counts, values / largest, 1))


def _lengths(matrix: jax.Array, axis: int) -> jax.Array:
    """Returns Euclidean norms, without overflow or underflow of the squares."""
    largest = jnp.max(jnp.abs(matrix), axis=axis, keepdims=True)
    unit = jnp.where(largest == 0, 1, largest)
    return jnp.linalg.norm(matrix / unit, axis=axis) * jnp.squeeze(unit, axis)


def _scale(lengths: jax.Array, normals: jax.Array) -> jax.Array:
    """Returns the parameters' scales: from the data, or else from the constraints.

    Args:
        lengths: of the whitened Jacobian's columns, (p,).
        normals: the constraints' Jacobian (k, p).

    Returns:
        Positive numbers (p,), in units of one over the parameters'.
    """
    sizes = jnp.abs(normals)
    tied = jnp.any(sizes > 0, axis=0)

    def spread(_: Any, scale: jax.Array) -> jax.Array:
        known = scale > 0
        units = jnp.where(known, scale, 1)[None, :]
        rows = jnp.where(known[None, :], sizes / units, 0)
        rows = jnp.max(rows, axis=1, keepdims=True)
        columns = jnp.where(rows > 0, sizes / jnp.where(rows > 0, rows, 1), 0)
        found = jnp.where(known, scale, jnp.max(columns, axis=0))
        # Of parameters that are tied only to each other, one keeps its own unit.
        waiting = tied & ~known
        first = waiting & (jnp.cumsum(waiting) == 1)
        return jnp.where(jnp.all(found == scale) & first, 1, found)

    if len(normals):
        # Each round adds at least one parameter.
        lengths = jax.lax.fori_loop(0, len(lengths), spread, lengths)
    return jnp.where(lengths == 0, 1, lengths)


def _svd(matrix: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns all p singular values and right singular vectors, as columns."""
    n, p = matrix.shape
    # Rows of zeros are added: fewer rows than columns would lose null space vectors.
    tall = jnp.pad(matrix, ((0, max(p - n, 0)), (0, 0)))
    _, values, rows = jnp.linalg.svd(tall, full_matrices=False)
    return values, rows.T


def _scaled_covariance(spectrum: Spectrum) -> jax.Array:
    """Returns the Cramér-Rao bound of the parameters times their scales."""
    directions, values, significant = (
        spectrum.directions,
        spectrum.values,
        spectrum.significant,
    )
    half = (
        directions
        * jnp.where(significant, 1 / jnp.where(significant, values, 1), 0)[None, :]
    )
    blind = (
        jnp.linalg.norm(directions * ~significant[None, :], axis=1) > spectrum.touches
    )
    beside = blind[:, None] | blind[None, :]
    on_diagonal = jnp.eye(len(directions), dtype=bool)
    product = jnp.matmul(half, half.T, precision="highest")
    return jnp.where(beside, jnp.where(on_diagonal, jnp.inf, jnp.nan), product)
