"""Information of physical parameters that are fitted together with a network."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxcon._checks import check_each, described
from jaxcon.identifiability._fisher import real_noise, whiten
from jaxcon.identifiability._parameters import leaves_of
from jaxcon.identifiability._spectrum import Spectrum, decomposed, rank_tolerance

# Rows or columns of a Jacobian that are computed at once.
_AT_ONCE = 32
# A direction is not determined if more of its information is assumed, not observed.
_MOST = 0.5
# Names in a message.
_SHOWN = 6

Vector = Callable[[jax.Array], jax.Array]


def in_network(params: Any, network: Any) -> np.ndarray:
    """Flags the parameters that belong to the network.

    Args:
        params: real numbers in any pytree.
        network: the path of a subtree, its keys joined by dots, or a tuple of paths.

    Returns:
        Flags in the order of `ravel_pytree`, (p,).

    Raises:
        TypeError: `network` is neither a path nor a tuple of paths.
        ValueError: a path names no parameter, or all are named.
    """
    paths = (network,) if isinstance(network, str) else network
    check_each("network", paths, str, "paths of parameters, such as 'layers'")
    leaves = leaves_of(params)
    few = [name for name, _ in leaves][:_SHOWN]
    known = ", ".join(few) + (", ..." if len(leaves) > _SHOWN else "")
    if not paths:
        raise ValueError(f"network names no parameters; there are {known}")
    for path in paths:
        if not any(_within(name, path) for name, _ in leaves):
            raise ValueError(f"network names {path!r}, but the parameters are {known}")
    flags = [
        np.full(np.size(leaf), any(_within(name, path) for path in paths))
        for name, leaf in leaves
    ]
    flags = np.concatenate(flags)
    if flags.all():
        raise ValueError(
            f"network={described(network)} names all parameters; none is left to identify"
        )
    return flags


def _within(name: str, path: str) -> bool:
    return f"{name}.".startswith(f"{path}.")


class Joint:
    """Physical parameters of a fit that a network shares; the network is eliminated.

    Attributes:
        theta: the physical parameters, (d,).
    """

    def __init__(
        self,
        theta: jax.Array,
        network: np.ndarray,
        predict: Vector,
        residuals: Vector | None,
    ) -> None:
        """Takes all parameters (p,), the network's flags (p,), functions of all (p,)."""
        self.theta = theta[~network]
        self._everything, self._network = theta, network
        self._predict, self._residuals = predict, residuals
        self._size = _rms(theta[network])
        if not 0 < self._size < np.inf:
            raise ValueError(
                f"identify needs a fitted network, got parameters of size {self._size:g}"
            )
        self._here = self._linearised(self.theta)
        self._unmet = _rms(self._here.unmet)

    def fitted(self, noise: Any) -> float:
        """Returns how many of the observations' directions the fit follows."""
        rows = self._whitened(self._here, noise)
        if not rows.finite:
            return 0.0
        found = _eliminated(rows, self._size, rank_tolerance(self._everything))
        return rows.observed - float(np.sum(found.leftover**2))

    def decomposition(self, theta: jax.Array, noise: Any) -> tuple[Spectrum, jax.Array]:
        """Returns the spectrum and the bound of the physical parameters (d,)."""
        raw = self._here if theta is self.theta else self._linearised(theta)
        rows = self._whitened(raw, noise)
        root = np.full((theta.size, theta.size), np.nan)
        if rows.finite:
            tolerance = rank_tolerance(self._everything)
            root = _eliminated(rows, self._size, tolerance).root
        root = jnp.asarray(root, theta.dtype)
        spectrum, covariance = decomposed(theta, root, jnp.ones((), root.dtype), None)
        flags = [np.isfinite(part).all(0) for part in (raw.data, raw.constraints)]
        # One more for the network.
        finite = [
            np.append(one[~self._network], one[self._network].all()) for one in flags
        ]
        return spectrum._replace(finite=(finite[0], finite[1])), covariance

    def _linearised(self, theta: jax.Array) -> "_Linearised":
        at = self._everything.at[np.flatnonzero(~self._network)].set(theta)
        _, data = _value_and_jacobian(self._predict, at)
        if self._residuals is None:
            none = jnp.zeros((0, at.size), data.dtype)
            return _Linearised(data, jnp.zeros(1, data.dtype), none)
        return _Linearised(data, *_value_and_jacobian(self._residuals, at))

    def _whitened(self, raw: "_Linearised", noise: Any) -> "_Rows":
        data = np.asarray(whiten(raw.data, real_noise(noise, raw.data.dtype)), float)
        held = np.asarray(raw.constraints, float)
        if held.size:
            # With a smaller unit they are no more exact, up to rounding.
            exact = np.linalg.norm(held) * float(jnp.finfo(self.theta.dtype).eps) ** 0.5
            unit = max(self._unmet, exact / (np.linalg.norm(data) or 1.0)) or 1.0
            held = held / (unit * len(held) ** 0.5)
        both = np.concatenate([data, held])
        return _Rows(both[:, ~self._network], both[:, self._network], len(data))


class _Linearised(NamedTuple):
    """Model at some parameters.

    Attributes:
        data: derivatives of the predictions, (n, p).
        unmet: residuals of the constraints, (k,).
        constraints: their derivatives, (k, p).
    """

    data: jax.Array
    unmet: jax.Array
    constraints: jax.Array


class _Rows(NamedTuple):
    """Derivatives of n predictions and k constraints, in units of their errors.

    Attributes:
        physical: with respect to the physical parameters, (n + k, d).
        network: with respect to the network's, (n + k, q).
        observed: n.
    """

    physical: np.ndarray
    network: np.ndarray
    observed: int

    @property
    def finite(self) -> bool:
        """Flag that all of them are finite."""
        return all(np.isfinite(part).all() for part in (self.physical, self.network))


class _Eliminated(NamedTuple):
    """Information that is left without the network.

    Attributes:
        root: R with R^T R the information of the physical parameters, (d, d); zero along
            what only the size of the network's parameters tells.
        leftover: the matrix that takes the whitened noise to the fit's residuals, (n, n).
    """

    root: np.ndarray
    leftover: np.ndarray


def _eliminated(rows: _Rows, size: float, tolerance: float) -> _Eliminated:
    r"""Eliminates a network's parameters whose moves have deviations of their size.

    .. math:: F = b^T (I + \omega^2 B B^T)^{-1} b

    Args:
        rows: b and B.
        size: omega.
        tolerance: of rounding, relative to the columns of b.

    Returns:
        A root of F, and what the fit leaves of the noise.
    """
    n, d = rows.observed, rows.physical.shape[1]
    lengths = np.linalg.norm(rows.physical, axis=0)
    units = np.where(lengths > 0, lengths, 1)
    # Parameters that act as one are one before the elimination adds its roundings.
    basis, values, turn = np.linalg.svd(rows.physical / units, full_matrices=False)
    turn = np.where(values > tolerance * values[0], values, 0)[:, None] * turn
    network = rows.network
    if network.shape[1] > len(network):
        # The same moves of the predictions by fewer parameters, at the same lengths.
        network = np.linalg.qr(network.T, mode="r").T
    q = network.shape[1]
    # That each parameter moves by about its size is one more observation of zero.
    moves, _ = np.linalg.qr(np.concatenate([network, np.eye(q) / size]))
    whole = np.concatenate([basis, np.zeros((q, basis.shape[1]))])
    for _ in range(2):  # once more, for what rounding left
        whole = whole - moves @ (moves.T @ whole)
    whole = whole @ turn
    sides, values, turn = np.linalg.svd(whole, full_matrices=False)
    counts = values > tolerance
    sides, turn = sides[:, counts], values[counts, None] * turn[counts] * units
    _, shares, mixed = np.linalg.svd(sides[-q:], full_matrices=False)
    assumed = mixed[shares**2 > _MOST]
    root = np.zeros((d, d))
    root[: len(turn)] = turn - assumed.T @ (assumed @ turn)
    leftover = np.eye(n) - moves[:n] @ moves[:n].T - sides[:n] @ sides[:n].T
    return _Eliminated(root, leftover)


def _rms(values: jax.Array) -> float:
    return float(np.sqrt(np.mean(np.asarray(values, float) ** 2)))


def _value_and_jacobian(
    function: Vector, theta: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Returns the values (m,) and the Jacobian (m, p), some rows or columns at a time."""

    @jax.jit
    def in_parts(theta: jax.Array) -> tuple[jax.Array, jax.Array]:
        values, pull = jax.vjp(function, theta)
        if theta.size > values.size:
            return values, _of_units(lambda unit: pull(unit)[0], values)
        # Backwards twice, as a jax.custom_vjp has no forward mode.
        _, push = jax.vjp(lambda weights: pull(weights)[0], jnp.zeros_like(values))
        return values, _of_units(lambda unit: push(unit)[0], theta).T

    with jax.default_matmul_precision("highest"):
        return in_parts(theta)


def _of_units(function: Vector, like: jax.Array) -> jax.Array:
    """Evaluates a function at each unit vector, (m, ...)."""

    def at(place: jax.Array) -> jax.Array:
        return function(jnp.zeros_like(like).at[place].set(1))

    return jax.lax.map(at, jnp.arange(like.size), batch_size=_AT_ONCE)
