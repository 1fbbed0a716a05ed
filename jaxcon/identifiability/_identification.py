"""Identification of parameters from data, at one point."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from jaxcon._checks import check_array
from jaxcon.identifiability._combinations import confounded
from jaxcon.identifiability._joint import Joint, in_network
from jaxcon.identifiability._parameters import Model, flat, names_of
from jaxcon.identifiability._report import Identification, listed
from jaxcon.identifiability._spectrum import (
    constraint_residuals,
    decomposition,
    rank_tolerance,
)


def identify(
    model: Model,
    params: Any,
    noise: Any = None,
    *,
    observed: Any = None,
    constraints: Model | None = None,
    network: str | Sequence[str] | None = None,
) -> Identification:
    r"""Computes standard errors of parameters, and finds those that data cannot determine.

    If the Jacobian loses rank, some parameters cannot be known, however many such data
    there are. The result names them, with the combinations that can be known: products of
    powers if those are the same here and at another point, else sums. Powers and
    coefficients are whole numbers up to 3; if none fit, sums have their coefficients at
    this point. The rank, and the parameters that it leaves undetermined, are determined as
    in `cramer_rao_bound`.

    Where a network is fitted together with the parameters, as to data and a differential
    equation with unknown coefficients, `network` names its part of params. The result is
    of the other parameters, with the network eliminated:

    .. math:: F = b^T (I + \omega^2 B B^T)^{-1} b

    Here b and B are the derivatives of the predictions, in units of the noise, and of the
    k constraints, in units of :math:`\tau \sqrt k`, with respect to those parameters and
    to the network's. No network obeys an equation at many points exactly. It counts as
    known to within :math:`\tau`, the root mean square of its residuals at params, however
    many points there are: an equation that the fit does not meet well makes the standard
    errors too large. The network's parameters may outnumber the data. Their moves count as
    normal with the deviation :math:`\omega`, the root mean square of their values. A
    direction is not determined if more than half of its information comes from this
    assumption. The Jacobian takes (n + k) p numbers.

    Args:
        model: params -> predicted observations (n,).
        params: the estimate, p real numbers in any pytree.
        noise: standard deviations, () or (n,), or a covariance (n, n). None if they are
            all equal and unknown: their square is then estimated as the sum of squared
            residuals over n - rank, or with a network over the trace of :math:`M^2`, M
            being the matrix that takes the noise to the residuals.
        observed: the observations (n,), needed only for that.
        constraints: params -> residuals h, () or (k,), which are known to be zero; None
            if there are none.
        network: path of the parameters of a network in params, keys joined by dots, or
            several; None if all parameters are to be identified.

    Returns:
        An `Identification`. It is computed on the host: not for use inside jit.

    Raises:
        ValueError: the model does not return (n,), `noise` has another shape, is complex,
            asymmetric or not positive, a Jacobian is not finite, or there is no noise to
            estimate: no `observed`, no more observations than parameters, or no residual
            at all. `network` names no parameter or all, or they are all zero.
        TypeError: `model` or `constraints` is no function, parameters, noise or
            observations are not real numbers, or `network` is no path.

    References:
        Rothenberg, Identification in Parametric Models (1971), theorem 1; MacKay, A
        Practical Bayesian Framework for Backpropagation Networks (1992), for normal moves
        of a network's parameters.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxcon as jc
        >>> t = jnp.linspace(0.1, 1.0, 10)
        >>> decay = lambda p: p["dose"] / p["volume"] * jnp.exp(-p["rate"] * t)
        >>> params = {"dose": 3.0, "rate": 1.0, "volume": 2.0}
        >>> print(jc.identify(decay, params, noise=0.01))
        rate = 1, standard error 0.013.
        not determined by these data: of dose and volume, only dose / volume can be known.
        rank 2 of 3 (smallest singular value 0.47, tolerance 6.6e-06).

        The rate of u' = -rate u, with u a sum of powers that stands for a network:

        >>> powers = jnp.array([1 / 720, -1 / 120, 1 / 24, -1 / 6, 1 / 2, -1.0, 1.0])
        >>> params = {"rate": 1.0, "network": powers}
        >>> def decays(p):
        ...     slope = jnp.polyval(jnp.polyder(p["network"]), t)
        ...     return slope + p["rate"] * jnp.polyval(p["network"], t)
        >>> found = jc.identify(
        ...     lambda p: jnp.polyval(p["network"], t),
        ...     params,
        ...     noise=0.01,
        ...     constraints=decays,
        ...     network="network",
        ... )
        >>> print(f"{found.standard_error('rate'):.3f}")
        0.019
    """
    everything, predict = flat(model, params)
    residuals = constraint_residuals(constraints, params)
    theta, names = everything, names_of(params)
    decompose = partial(decomposition, predict=predict, residuals=residuals)

    def fitted(noise: float) -> float:
        return float(decompose(theta, noise)[0].significant.sum())

    if network is not None:
        shared = in_network(params, network)
        joint = Joint(everything, shared, predict, residuals)
        theta, decompose, fitted = joint.theta, joint.decomposition, joint.fitted
        names = tuple(name for name, its in zip(names, shared) if not its)
    freedom = np.inf
    if observed is not None:
        observed = np.asarray(check_array("observed", observed, "(n,)"))
    if noise is None:
        if observed is None:
            raise ValueError(
                "pass noise, or observed for the noise to be estimated from"
            )
        differences = _differences(np.asarray(predict(everything)), observed)
        variance, freedom = _variance(differences, fitted)
        noise = np.sqrt(variance)
    spectrum, scaled_covariance = decompose(theta, noise)
    for whose, finite in zip(("model's", "constraints'"), spectrum.finite):
        wild = [
            name for name, is_so in zip((*names, "the network"), finite) if not is_so
        ]
        if wild:
            raise ValueError(
                f"the {whose} derivatives are not finite with respect to {listed(wild)}"
            )
    # In float64, because squares may leave the range of float32.
    scale = np.asarray(spectrum.scale, float)
    units = np.outer(scale, scale)
    scaled = np.asarray(spectrum.jacobian, float)
    groups = confounded(
        spectrum, lambda theta: decompose(theta, noise)[0], theta, names
    )
    return Identification(
        names=names,
        estimate=np.asarray(theta),
        fisher=scaled.T @ scaled * units,
        covariance=np.asarray(scaled_covariance, float) / units,
        singular_values=np.asarray(spectrum.values),
        rank=int(spectrum.significant.sum()),
        tolerance=rank_tolerance(theta),
        confounded=tuple(
            group._replace(beside_network=network is not None) for group in groups
        ),
        degrees_of_freedom=freedom,
    )


def _differences(predicted: np.ndarray, observed: np.ndarray) -> np.ndarray:
    if predicted.shape != observed.shape:
        raise ValueError(
            f"observed has shape {observed.shape}, the predictions {predicted.shape}"
        )
    return observed - predicted


def _variance(
    differences: np.ndarray, fitted: Callable[[float], float]
) -> tuple[float, float]:
    """Returns the estimated variance of the noise, and its degrees of freedom."""
    n, squares = len(differences), float(np.sum(differences**2, dtype=float))
    # How many directions a network follows depends on the noise.
    directions = fitted(np.sqrt(squares / n)) if squares else 0.0
    freedom = n - directions
    if freedom < 1 or squares == 0:
        raise ValueError(
            f"{n} observations with a sum of squared residuals of {squares:.3g} and "
            f"{directions:.3g} directions fitted to them leave no noise to estimate; "
            "pass noise"
        )
    return squares / freedom, float(freedom)
