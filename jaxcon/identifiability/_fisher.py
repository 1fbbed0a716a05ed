"""Fisher information: the Jacobian of a model in units of the noise, squared."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxcon._checks import check_array
from jaxcon.derivatives import jacobian
from jaxcon.identifiability._parameters import Model, flat


def fisher_information(model: Model, params: Any, noise: Any) -> jax.Array:
    r"""Returns the Fisher information of parameters in data with normal noise.

    .. math::
        F = J^T S^{-1} J, \qquad J_{ij} = \partial f_i / \partial \theta_j

    Args:
        model: params -> predicted observations f (n,).
        params: theta, p real numbers in any pytree, in the order of
            `jax.flatten_util.ravel_pytree`: dicts by sorted names.
        noise: standard deviations, () or (n,), in the observations' units; or their
            covariance S (n, n).

    Returns:
        F (p, p), in units of one over those of two parameters. Runs inside jit and vmap.

    Raises:
        ValueError: the model does not return (n,), or `noise` has another shape, or is
            known not to be finite, positive, and symmetric if it is a covariance.
        TypeError: `model` is no function, or parameters or noise are not real numbers.

    References:
        Kay, Fundamentals of Statistical Signal Processing: Estimation Theory (1993),
        chapter 3.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxcon as jc
        >>> t = jnp.arange(4.0)
        >>> line = lambda p: p["height"] + p["slope"] * t
        >>> params = {"height": 0.0, "slope": 1.0}
        >>> jc.fisher_information(line, params, noise=0.5).tolist()
        [[16.0, 24.0], [24.0, 56.0]]
    """
    theta, predict = flat(model, params)
    jac = jacobian(predict)(theta)
    return _information(jac, real_noise(noise, jac.dtype))


@jax.jit
def _information(jac: jax.Array, noise: jax.Array) -> jax.Array:
    whitened = whiten(jac, noise)
    return jnp.matmul(whitened.T, whitened, precision="highest")


def whiten(jac: jax.Array, noise: jax.Array) -> jax.Array:
    """Returns the Jacobian (n, p) in units of the noise."""
    n = len(jac)
    if noise.shape == (n, n):
        lower = jnp.linalg.cholesky(noise)
        return jax.scipy.linalg.solve_triangular(lower, jac, lower=True)
    if noise.shape not in ((), (n,)):
        raise ValueError(
            f"noise has shape {noise.shape} for {n} observations; pass standard "
            f"deviations, () or ({n},), or a covariance ({n}, {n})"
        )
    return jac / jnp.broadcast_to(noise, n)[:, None]


def real_noise(noise: Any, dtype: Any) -> jax.Array:
    """Returns the noise in a dtype, or refuses what no noise can be.

    Args:
        noise: standard deviations or a covariance.
        dtype: of the result.

    Returns:
        The noise, () or (n,) or (n, n).

    Raises:
        TypeError: it is not real.
        ValueError: it has another number of axes, or is known not to be finite, positive,
            and symmetric if it is a covariance.
    """
    noise = check_array("noise", noise, "() or (n,) or (n, n)")
    if not isinstance(noise, Tracer):
        _check_symmetric(noise)
        _check_positive(noise)
    return jnp.asarray(noise, dtype)


def _check_symmetric(noise: np.ndarray) -> None:
    if noise.ndim != 2 or noise.shape[0] != noise.shape[1]:
        return
    deviations = np.sqrt(np.abs(np.diag(noise)))
    # It may have been computed in single precision, whatever its dtype.
    rounding = float(np.finfo(np.float32).eps) ** 0.5
    gap = np.abs(noise - noise.T)
    if np.any(gap > rounding * np.outer(deviations, deviations)):
        raise ValueError(
            "noise must be a symmetric covariance; entries differ from their mirror "
            f"images by up to {np.max(gap):.3g}"
        )


def _check_positive(noise: np.ndarray) -> None:
    if noise.ndim == 2 and noise.shape[0] != noise.shape[1]:
        return
    sizes = np.linalg.eigvalsh(noise) if noise.ndim == 2 else noise
    if not np.all(sizes > 0):
        what = "covariance" if noise.ndim == 2 else "standard deviations"
        raise ValueError(f"noise must be positive, got {what} of {np.min(sizes):.3g}")
