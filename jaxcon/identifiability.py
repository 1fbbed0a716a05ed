r"""Inverse problems: what data can say about parameters, and what they cannot.

A model predicts observations with normal noise, :math:`y = f(\theta) + e`,
:math:`e \sim N(0, S)`, and :math:`J = \partial f / \partial \theta` is exact. Then

.. math::
    F = J^T S^{-1} J, \qquad \operatorname{cov}(\hat\theta) \succeq F^{-1},

the Fisher information and the Cramér-Rao bound, which least squares reaches as the data
grow. Directions in which F is singular are ones that no estimator can see: `identify`
finds them, says which parameters they touch, and refuses to give errors of those.

All of it is local: true of small changes around the parameters it is asked at.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import product
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.flatten_util import ravel_pytree

from jaxcon.derivatives import jacobian

Model = Callable[[Any], jax.Array]

# Roundings in an entry of a Jacobian: a model is a few operations, or one long sum.
_ROUNDINGS = 32
# Exponents and coefficients that a combination of parameters may be named with.
_LARGEST_INTEGER = 3
# Parameters in one combination: the search tries 7 to this power.
_MOST_PARAMETERS = 5


class NonIdentifiable(NamedTuple):
    """Parameters that the data tell apart from others, but not from each other.

    Attributes:
        parameters: their names.
        directions: independent steps of them (q, len(parameters)), in their units, that
            change no prediction to first order; their lengths mean nothing.
        num_known: how many independent combinations of them can be known.
        combinations: these in words; none if there are more than five parameters.
        everywhere: whether the combinations are the same at another point too, and so of
            the model; else they hold near this point only, to first order.
    """

    parameters: tuple[str, ...]
    directions: np.ndarray
    num_known: int
    combinations: tuple[str, ...]
    everywhere: bool

    @property
    def reason(self) -> str:
        """Why none of them can be known, as half a sentence."""
        if not self.num_known:
            return f"no prediction moves with {self.parameters[0]} here"
        if not self.combinations:
            return (
                f"{len(self.parameters)} parameters, {self.parameters[0]} the first of "
                f"them, act together, and only {self.num_known} combinations can be known"
            )
        near = "" if self.everywhere else " near this point,"
        return (
            f"of {_listed(self.parameters)},{near} only {_listed(self.combinations)} "
            "can be known"
        )


class Identification(NamedTuple):
    """What data can say about p parameters; printing it gives sentences.

    Attributes:
        names: of the parameters; an entry of an array has its index behind it.
        estimate: their values, (p,).
        fisher: the Fisher information (p, p).
        covariance: the Cramér-Rao bound (p, p); of a parameter that is not determined,
            infinity on the diagonal and NaN beside it.
        singular_values: of the whitened Jacobian with columns of length one, along the
            constraints if there are any, (p,).
        rank: how many of them exceed `tolerance` times the largest.
        tolerance: of the rank, without a unit.
        confounded: groups of parameters that are not determined; none if all are.
        degrees_of_freedom: of the estimated noise; infinity if the noise is known.
    """

    names: tuple[str, ...]
    estimate: np.ndarray
    fisher: np.ndarray
    covariance: np.ndarray
    singular_values: np.ndarray
    rank: int
    tolerance: float
    confounded: tuple[NonIdentifiable, ...]
    degrees_of_freedom: float

    @property
    def determined(self) -> tuple[str, ...]:
        """Names of the parameters that have a standard error."""
        lost = {name for group in self.confounded for name in group.parameters}
        return tuple(name for name in self.names if name not in lost)

    @property
    def standard_errors(self) -> dict[str, float]:
        """Standard errors by name, in the parameters' units; of determined ones only."""
        return {name: self.standard_error(name) for name in self.determined}

    def standard_error(self, name: str) -> float:
        """The standard error of one parameter, in its units.

        Args:
            name: which.

        Returns:
            The square root of its entry on the covariance's diagonal.

        Raises:
            ValueError: the data do not determine it, or there is no such parameter.
        """
        index = self._index(name)
        return float(np.sqrt(self.covariance[index, index]))

    def interval(self, name: str, level: float = 0.95) -> tuple[float, float]:
        r"""The confidence interval of one parameter.

        .. math::
            \hat\theta_i \pm q \sqrt{C_{ii}}

        with q the quantile of the normal distribution, or of Student's t if the noise
        was estimated.

        Args:
            name: which.
            level: the probability that it covers the truth, between 0 and 1.

        Returns:
            Lower and upper end, in the parameter's units.

        Raises:
            ValueError: the data do not determine it, there is no such parameter, or
                `level` is no probability.
        """
        # scipy.special takes a tenth of a second to import.
        from scipy.special import ndtri, stdtrit

        if not 0 < level < 1:
            raise ValueError(f"level must be between 0 and 1, got {level}")
        above = (1 + level) / 2
        known = np.isinf(self.degrees_of_freedom)
        q = ndtri(above) if known else stdtrit(self.degrees_of_freedom, above)
        half = float(q) * self.standard_error(name)
        center = float(self.estimate[self._index(name)])
        return center - half, center + half

    def _index(self, name: str) -> int:
        if name not in self.names:
            raise ValueError(
                f"there is no parameter {name!r}; there are {_listed(self.names)}"
            )
        for group in self.confounded:
            if name in group.parameters:
                raise ValueError(
                    f"{name} is not determined by these data: {group.reason}"
                )
        return self.names.index(name)

    def __str__(self) -> str:
        lines = [
            f"{name} = {value:.6g}, standard error {self.standard_error(name):.2g}"
            for name, value in zip(self.names, self.estimate)
            if name in self.determined
        ]
        lines += [
            f"not determined by these data: {group.reason}" for group in self.confounded
        ]
        if not self.rank and not self.confounded:
            lines.append("the constraints alone determine all parameters")
            return ".\n".join(lines) + "."
        smallest = self.singular_values[self.rank - 1] if self.rank else 0.0
        lines.append(
            f"rank {self.rank} of {len(self.names)} (smallest singular value "
            f"{smallest:.2g}, tolerance {self.tolerance:.2g})"
        )
        return ".\n".join(lines) + "."


def fisher_information(model: Model, params: Any, noise: Any) -> jax.Array:
    r"""The Fisher information of parameters in observations with normal noise.

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
        ValueError: the model does not return (n,), or `noise` has another shape, is
            complex, or is a covariance known to be asymmetric.
        TypeError: the parameters are not real numbers.

    References:
        Kay, Fundamentals of Statistical Signal Processing: Estimation Theory (1993),
        chapter 3.

    Example:
        >>> import jaxcon as jc
        >>> from jaxcon.identifiability import fisher_information
        >>> t = jnp.arange(4.0)
        >>> line = lambda p: p["height"] + p["slope"] * t
        >>> params = {"height": 0.0, "slope": 1.0}
        >>> fisher_information(line, params, noise=0.5).tolist()
        [[16.0, 24.0], [24.0, 56.0]]
    """
    theta, predict = _flat(model, params)
    whitened = _whitened(jacobian(predict)(theta), noise)
    return jnp.matmul(whitened.T, whitened, precision="highest")


def cramer_rao_bound(
    model: Model,
    params: Any,
    noise: Any,
    constraints: Model | None = None,
) -> jax.Array:
    r"""The smallest covariance that an unbiased estimator of the parameters can have.

    .. math::
        F^{-1}, \qquad \text{or} \quad U (U^T F U)^{-1} U^T

    under constraints :math:`h(\theta) = 0`, with U a basis of the null space of
    :math:`\partial h / \partial \theta`.

    It is computed from the singular values of the whitened Jacobian, each column scaled
    to length one, so that the parameters' units do not matter. Those below
    :math:`32 \sqrt p\, \epsilon` times the largest, with :math:`\epsilon` the dtype's
    machine epsilon, count as zero (p = 3: 6.6e-6 in float32, 1.2e-14 in float64). A
    parameter that such directions touch is not determined: one with a component above
    that tolerance over the smallest singular value that counts, relative to the largest,
    and at most :math:`\sqrt\epsilon`. A parameter that only constraints tie to the data
    takes its scale from theirs.

    Args:
        model: params -> predicted observations (n,).
        params: theta, p real numbers in any pytree.
        noise: standard deviations, () or (n,), or a covariance (n, n).
        constraints: params -> residuals h, () or (k,); None if there are none.

    Returns:
        Shape (p, p), in units of two parameters. Of a parameter that is not determined,
        infinity on the diagonal and NaN beside it. Runs inside jit and vmap.

    Raises:
        ValueError: the model does not return (n,), or `noise` has another shape, is
            complex, or is a covariance known to be asymmetric.
        TypeError: the parameters are not real numbers.

    References:
        Gorman and Hero, Lower Bounds for Parametric Estimation with Constraints (1990);
        Stoica and Ng, On the Cramér-Rao Bound Under Parametric Constraints (1998).

    Example:
        >>> import jaxcon as jc
        >>> from jaxcon.identifiability import cramer_rao_bound
        >>> both = lambda p: jnp.stack([p["a"], p["b"]])
        >>> ones = {"a": 1.0, "b": 1.0}
        >>> cramer_rao_bound(both, ones, noise=1.0).tolist()
        [[1.0, 0.0], [0.0, 1.0]]
        >>> tied = cramer_rao_bound(both, ones, 1.0, lambda p: p["a"] - p["b"])
        >>> print(f"{tied[0, 0]:.4f}")
        0.5000
    """
    spectrum = _spectrum(model, params, noise, constraints)
    scale = spectrum.scale
    return _scaled_covariance(spectrum) / scale[:, None] / scale[None, :]


def identify(
    model: Model,
    params: Any,
    noise: Any = None,
    *,
    observed: Any = None,
    constraints: Model | None = None,
) -> Identification:
    r"""What data can say about parameters: standard errors, or why there are none.

    If the Jacobian loses rank, some parameters cannot be known however many such data
    there are. They are named, with the combinations that can be: products of powers if
    those are the same here and at another point, else sums. Powers and coefficients are
    whole numbers up to 3; where none fit, sums are given with their coefficients here.
    The rank, and which parameters it leaves undetermined, are told as in
    `cramer_rao_bound`.

    Args:
        model: params -> predicted observations (n,).
        params: the estimate, p real numbers in any pytree.
        noise: standard deviations, () or (n,), or a covariance (n, n). None if they are
            all equal and unknown: their square is then estimated as the sum of squared
            residuals over n - rank.
        observed: the observations (n,), needed only for that.
        constraints: params -> residuals h, () or (k,), of what is known to hold; None if
            nothing is.

    Returns:
        An `Identification`. Computed on the host: not for use inside jit.

    Raises:
        ValueError: the model does not return (n,), `noise` has another shape, is complex,
            asymmetric or not positive, a Jacobian is not finite, or there is no noise to
            estimate: no `observed`, no more observations than parameters, or no residual
            at all.
        TypeError: the parameters are not real numbers.

    References:
        Rothenberg, Identification in Parametric Models (1971), theorem 1.

    Example:
        >>> import jaxcon as jc
        >>> from jaxcon.identifiability import identify
        >>> t = jnp.linspace(0.1, 1.0, 10)
        >>> decay = lambda p: p["dose"] / p["volume"] * jnp.exp(-p["rate"] * t)
        >>> print(identify(decay, {"dose": 3.0, "rate": 1.0, "volume": 2.0}, noise=0.01))
        rate = 1, standard error 0.013.
        not determined by these data: of dose and volume, only dose / volume can be known.
        rank 2 of 3 (smallest singular value 0.47, tolerance 6.6e-06).
    """
    if noise is None:
        variance, freedom = _residual_variance(model, params, observed, constraints)
        noise = np.sqrt(variance)
    else:
        freedom = np.inf
    spectrum = _spectrum(model, params, noise, constraints)
    _check_positive(noise)
    names = _names(params)
    for whose, finite in zip(("model's", "constraints'"), spectrum.finite):
        wild = [name for name, is_so in zip(names, finite) if not is_so]
        if wild:
            raise ValueError(
                f"the {whose} derivatives are not finite with respect to {_listed(wild)}"
            )
    # Squares of what float32 can hold, in float64.
    scale = np.asarray(spectrum.scale, float)
    units = np.outer(scale, scale)
    scaled = np.asarray(spectrum.jacobian, float)
    return Identification(
        names=names,
        estimate=np.asarray(_flat(model, params)[0]),
        fisher=scaled.T @ scaled * units,
        covariance=np.asarray(_scaled_covariance(spectrum), float) / units,
        singular_values=np.asarray(spectrum.values),
        rank=int(spectrum.seen.sum()),
        tolerance=float(spectrum.tolerance),
        confounded=tuple(
            _confounded(
                partial(_spectrum, model, noise=noise, constraints=constraints), params
            )
        ),
        degrees_of_freedom=freedom,
    )


class _Spectrum(NamedTuple):
    """The singular value decomposition that every answer is read from.

    Attributes:
        scale: lengths of the whitened Jacobian's columns; where those are zero, of the
            constraints' columns, or one; (p,).
        jacobian: whitened, in units of the scale, (n, p).
        values: its singular values, (p,).
        directions: right singular vectors in those units, one per column, (p, p); what
            constraints forbid is taken out of them.
        seen: which values exceed the tolerance, (p,).
        tolerance: relative to the largest value.
        touches: the component from which on a direction touches a parameter.
        finite: with respect to which parameters the derivatives of the model, and those
            of the constraints, are finite, (p,) each.
    """

    scale: jax.Array
    jacobian: jax.Array
    values: jax.Array
    directions: jax.Array
    seen: jax.Array
    tolerance: float
    touches: jax.Array
    finite: tuple[jax.Array, jax.Array]


def _spectrum(
    model: Model, params: Any, noise: Any, constraints: Model | None
) -> _Spectrum:
    theta, predict = _flat(model, params)
    p, eps = theta.size, float(jnp.finfo(theta.dtype).eps)
    tolerance = _ROUNDINGS * p**0.5 * eps
    whitened = _whitened(jacobian(predict)(theta), noise)
    normals = jnp.zeros((0, p), theta.dtype)
    if constraints is not None:
        _, residuals = _flat(lambda p: jnp.atleast_1d(constraints(p)), params)
        normals = jacobian(residuals)(theta)
    scale = _scale(_lengths(whitened, axis=0), normals)
    free, weakest = jnp.eye(p, dtype=theta.dtype), jnp.asarray(1, theta.dtype)
    if constraints is not None:
        tied = normals / scale[None, :]
        sizes = _lengths(tied, axis=1)[:, None]
        values, directions = _svd(tied / jnp.where(sizes == 0, 1, sizes))
        used, weakest = _above(values, tolerance)
        # Columns of zeros in place of what is forbidden: under jit, the number of
        # independent constraints cannot be a shape.
        free = directions * ~used[None, :]
    scaled = whitened / scale[None, :]
    values, directions = _svd(jnp.matmul(scaled, free, precision="highest"))
    seen, smallest = _above(values, tolerance)
    return _Spectrum(
        scale=scale,
        jacobian=scaled,
        values=values,
        directions=jnp.matmul(free, directions, precision="highest"),
        seen=seen,
        tolerance=tolerance,
        # What roundings turn a direction by is theirs over the smallest value.
        touches=jnp.minimum(tolerance / jnp.minimum(smallest, weakest), eps**0.5),
        finite=(jnp.isfinite(whitened).all(0), jnp.isfinite(normals).all(0)),
    )


def _above(values: jax.Array, tolerance: float) -> tuple[jax.Array, jax.Array]:
    """Which singular values count, and the smallest of those over the largest."""
    largest = jnp.where(values[0] == 0, 1, values[0])
    counts = values > tolerance * values[0]
    return counts, jnp.min(jnp.where(counts, values / largest, 1))


def _lengths(matrix: jax.Array, axis: int) -> jax.Array:
    """Euclidean norms whose squares may be too large or too small for the dtype."""
    largest = jnp.max(jnp.abs(matrix), axis=axis, keepdims=True)
    unit = jnp.where(largest == 0, 1, largest)
    return jnp.linalg.norm(matrix / unit, axis=axis) * jnp.squeeze(unit, axis)


def _scale(lengths: jax.Array, normals: jax.Array) -> jax.Array:
    """The parameters' scales: those of the data, else what constraints tie them to.

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
        # Of parameters that are tied to each other alone, one keeps its own unit.
        waiting = tied & ~known
        first = waiting & (jnp.cumsum(waiting) == 1)
        return jnp.where(jnp.all(found == scale) & first, 1, found)

    if len(normals):
        # Each round adds a parameter at least.
        lengths = jax.lax.fori_loop(0, len(lengths), spread, lengths)
    return jnp.where(lengths == 0, 1, lengths)


def _svd(matrix: jax.Array) -> tuple[jax.Array, jax.Array]:
    """All p singular values and right singular vectors, as columns."""
    n, p = matrix.shape
    # Rows of zeros: fewer rows than columns would lose vectors of the null space.
    tall = jnp.pad(matrix, ((0, max(p - n, 0)), (0, 0)))
    _, values, rows = jnp.linalg.svd(tall, full_matrices=False)
    return values, rows.T


def _scaled_covariance(spectrum: _Spectrum) -> jax.Array:
    """The Cramér-Rao bound of the parameters times their scales."""
    directions, values, seen = spectrum.directions, spectrum.values, spectrum.seen
    half = directions * jnp.where(seen, 1 / jnp.where(seen, values, 1), 0)[None, :]
    blind = jnp.linalg.norm(directions * ~seen[None, :], axis=1) > spectrum.touches
    beside = blind[:, None] | blind[None, :]
    on_diagonal = jnp.eye(len(directions), dtype=bool)
    product = jnp.matmul(half, half.T, precision="highest")
    return jnp.where(beside, jnp.where(on_diagonal, jnp.inf, jnp.nan), product)


def _flat(
    function: Model, params: Any
) -> tuple[jax.Array, Callable[[jax.Array], jax.Array]]:
    """The parameters in one vector, and the function of that vector."""
    theta, unravel = ravel_pytree(jax.tree.map(_real, params))

    def of_vector(theta: jax.Array) -> jax.Array:
        values = function(unravel(theta))
        if jnp.ndim(values) != 1:
            raise ValueError(
                f"the function of the parameters returned shape {jnp.shape(values)}; "
                "return one vector (n,)"
            )
        return values

    return theta, of_vector


def _real(leaf: Any) -> jax.Array:
    """A number that one can differentiate by, where Python's 1 is an integer."""
    return jnp.asarray(leaf, jnp.result_type(float, leaf))


def _whitened(jac: jax.Array, noise: Any) -> jax.Array:
    """The Jacobian (n, p) in units of the noise."""
    if jnp.iscomplexobj(noise):
        raise ValueError("noise must be real, got complex numbers")
    if not isinstance(noise, Tracer):
        _check_symmetric(np.asarray(noise))
    noise, n = jnp.asarray(noise, jac.dtype), len(jac)
    if noise.shape == (n, n):
        lower = jnp.linalg.cholesky(noise)
        return jax.scipy.linalg.solve_triangular(lower, jac, lower=True)
    if noise.shape not in ((), (n,)):
        raise ValueError(
            f"noise has shape {noise.shape} for {n} observations; pass standard "
            f"deviations, () or ({n},), or a covariance ({n}, {n})"
        )
    return jac / jnp.broadcast_to(noise, n)[:, None]


def _check_symmetric(noise: np.ndarray) -> None:
    if noise.ndim != 2 or noise.shape[0] != noise.shape[1]:
        return
    deviations = np.sqrt(np.abs(np.diag(noise)))
    # It may have been computed in single precision, whatever it is stored in.
    rounding = float(np.finfo(np.float32).eps) ** 0.5
    gap = np.abs(noise - noise.T)
    if np.any(gap > rounding * np.outer(deviations, deviations)):
        raise ValueError(
            "noise must be a symmetric covariance; entries differ from their mirror "
            f"images by up to {np.max(gap):.3g}"
        )


def _check_positive(noise: Any) -> None:
    noise = np.asarray(noise)
    sizes = np.linalg.eigvalsh(noise) if noise.ndim == 2 else noise
    if not np.all(sizes > 0):
        what = "covariance" if noise.ndim == 2 else "standard deviations"
        raise ValueError(f"noise must be positive, got {what} of {np.min(sizes):.3g}")


def _residual_variance(
    model: Model, params: Any, observed: Any, constraints: Model | None
) -> tuple[float, float]:
    """The estimated variance of the noise, and its degrees of freedom."""
    if observed is None:
        raise ValueError("pass noise, or observed for the noise to be estimated from")
    theta, predict = _flat(model, params)
    predicted, observed = np.asarray(predict(theta)), np.asarray(observed)
    if predicted.shape != observed.shape:
        raise ValueError(
            f"observed has shape {observed.shape}, the predictions {predicted.shape}"
        )
    rank = int(_spectrum(model, params, 1.0, constraints).seen.sum())
    freedom = len(observed) - rank
    squares = float(np.sum((observed - predicted) ** 2, dtype=float))
    if freedom < 1 or squares == 0:
        raise ValueError(
            f"{len(observed)} observations with a sum of squared residuals of "
            f"{squares:.3g} and {rank} directions fitted to them leave no noise to "
            "estimate; pass noise"
        )
    return squares / freedom, float(freedom)


def _names(params: Any) -> tuple[str, ...]:
    """One name for each entry, in the order of `ravel_pytree`."""

    def entries(path: Any, leaf: Any) -> Iterator[str]:
        name = jax.tree_util.keystr(path, simple=True, separator=".") or "params"
        for index in np.ndindex(np.shape(leaf)):
            yield name + (str(list(index)) if index else "")

    leaves, _ = jax.tree_util.tree_flatten_with_path(params)
    return tuple(name for path, leaf in leaves for name in entries(path, leaf))


def _confounded(
    spectrum_at: Callable[[Any], _Spectrum], params: Any
) -> Iterator[NonIdentifiable]:
    """Groups of parameters that share directions which change no prediction."""
    theta, unravel = ravel_pytree(jax.tree.map(_real, params))
    here = _blind(spectrum_at(params), theta)
    if not here.basis.shape[1]:
        return
    # A combination that the model allows is the same where the parameters are others;
    # of these steps, from nothing to a fifth, no two are in a simple ratio.
    factors = 1 + 0.2 * np.modf(0.618034 * np.arange(1, 1 + theta.size))[0]
    effects = np.abs(here.theta) * here.scale
    # Zeros move too, and do about as much to the predictions as the others.
    usual = np.median(effects[effects > 0]) if np.any(effects > 0) else 1.0
    steps = np.where(effects > 0, here.theta, usual / here.scale)
    moved = jnp.asarray(here.theta + (factors - 1) * steps, theta.dtype)
    there = _blind(spectrum_at(unravel(moved)), moved)
    names = np.array(_names(params))
    for group in _groups(here):
        yield _described(
            tuple(names[group].tolist()), here.only(group), there.only(group)
        )


class _Blind(NamedTuple):
    """Where the data see nothing, at one point.

    Attributes:
        theta: the point, (p,).
        scale: as in `_Spectrum`, (p,).
        basis: orthonormal directions in units of the scale, as columns (p, q).
        touches: the component from which on a direction touches a parameter.
    """

    theta: np.ndarray
    scale: np.ndarray
    basis: np.ndarray
    touches: float

    def only(self, group: np.ndarray) -> "_Blind":
        """The same of some parameters."""
        return _Blind(
            self.theta[group],
            self.scale[group],
            _basis(self.basis[group]),
            self.touches,
        )

    def hides(self, normals: np.ndarray) -> np.ndarray:
        """Whether a step of these directions moves what has these derivatives by theta."""
        normals = normals / self.scale
        normals = normals / np.linalg.norm(normals, axis=1, keepdims=True)
        return np.any(np.abs(normals @ self.basis) > self.touches, axis=1)


def _blind(spectrum: _Spectrum, theta: jax.Array) -> _Blind:
    # Where the derivatives are not finite, nothing is known of blind directions.
    directions = np.nan_to_num(np.asarray(spectrum.directions, float))
    basis = _basis(directions * ~np.asarray(spectrum.seen))
    scale = np.asarray(spectrum.scale, float)
    return _Blind(np.asarray(theta, float), scale, basis, float(spectrum.touches))


def _basis(columns: np.ndarray) -> np.ndarray:
    """An orthonormal basis of what parts of orthogonal directions hold all of."""
    vectors, values, _ = np.linalg.svd(columns, full_matrices=False)
    return vectors[:, values > 0.99]


def _groups(blind: _Blind) -> Iterator[np.ndarray]:
    """Indices of parameters that are connected by nonzero entries of the projector."""
    from scipy.sparse.csgraph import connected_components

    projector = blind.basis @ blind.basis.T
    sizes = np.sqrt(np.diag(projector))
    touched = sizes > blind.touches
    # A row of a projector has the length of its size, so its largest entry exceeds this.
    least = blind.touches * len(sizes) ** -0.5
    related = np.abs(projector) > least * np.maximum.outer(sizes, sizes)
    joined = related & np.outer(touched, touched)
    _, labels = connected_components(joined, directed=False)
    for label in np.unique(labels[touched]):
        yield np.flatnonzero(labels == label)


def _described(names: tuple[str, ...], here: _Blind, there: _Blind) -> NonIdentifiable:
    num = len(names) - here.basis.shape[1]
    found = partial(NonIdentifiable, names, (here.basis / here.scale[:, None]).T, num)
    if len(names) > _MOST_PARAMETERS:
        return found((), everywhere=False)
    alike = here.basis.shape == there.basis.shape
    for form in (_product, _sum) if alike else ():
        combinations = _whole_combinations(form, names, num, (here, there))
        if len(combinations) == num:
            return found(combinations, everywhere=True)
    rows = _visible(here)
    everywhere = alike and not np.any(there.hides(rows))
    return found(tuple(_sum(names, row) for row in rows), everywhere=everywhere)


def _whole_combinations(
    form: Callable[..., str],
    names: tuple[str, ...],
    num: int,
    points: tuple[_Blind, _Blind],
) -> tuple[str, ...]:
    """The simplest independent combinations that are known at all points."""
    if form is _product and any(np.any(point.theta == 0) for point in points):
        return ()
    span = range(-_LARGEST_INTEGER, _LARGEST_INTEGER + 1)
    # Of e and -e the one whose first number is positive.
    rows = [row for row in product(span, repeat=len(names)) if row > (0,) * len(row)]
    whole = np.array(rows)
    for point in points:
        # A product of powers, divided by itself, has these derivatives.
        normals = whole / (point.theta if form is _product else 1)
        whole = whole[~point.hides(normals)]
    simplest = sorted(whole, key=_complexity)
    # Far below the distance of one vector of whole numbers from the span of others.
    chosen = _independent(simplest, num, tolerance=1e-6)
    return tuple(form(names, simplest[i]) for i in chosen)


def _independent(
    vectors: Sequence[np.ndarray] | np.ndarray, num: int, tolerance: float
) -> list[int]:
    """Indices of the first vectors, `num` at most, that are linearly independent."""
    rest, chosen = np.array(vectors, float), []
    for i in range(len(rest)):
        size = float(np.linalg.norm(rest[i]))
        if len(chosen) < num and size > tolerance:
            chosen.append(i)
            unit = rest[i] / size
            rest = rest - np.outer(rest @ unit, unit)
    return chosen


def _complexity(row: np.ndarray) -> tuple[int, ...]:
    return (
        int(np.sum(row < 0)),
        int(np.count_nonzero(row)),
        int(np.abs(row).sum()),
        *(-row).tolist(),
    )


def _visible(here: _Blind) -> np.ndarray:
    """Coefficients of independent sums that the data do see, each with a first one of 1."""
    from scipy.linalg import null_space

    rows = null_space(here.basis.T).T
    lead = _independent(rows.T, len(rows), here.touches)
    rows = np.linalg.solve(rows[:, lead], rows)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    rows = np.where(np.abs(rows) > here.touches * lengths, rows, 0)
    rows[:, lead] = np.eye(len(rows))
    return rows * here.scale / here.scale[lead][:, None]


def _product(names: tuple[str, ...], powers: np.ndarray) -> str:
    def part(sign: int) -> list[str]:
        return [
            name if power == sign else f"{name}^{abs(power)}"
            for name, power in zip(names, powers)
            if power * sign > 0
        ]

    above, below = part(1), part(-1)
    if len(below) > 1:
        below = [f"({' '.join(below)})"]
    return " / ".join([" ".join(above), *below])


def _sum(names: tuple[str, ...], coefficients: np.ndarray) -> str:
    text = ""
    for name, c in zip(names, coefficients):
        if c == 0:
            continue
        size = "" if f"{abs(c):.3g}" == "1" else f"{abs(c):.3g} "
        sign = ("-" if c < 0 else "") if not text else (" - " if c < 0 else " + ")
        text += sign + size + name
    return text


def _listed(words: Sequence[str]) -> str:
    *most, last = words
    return f"{', '.join(most)} and {last}" if most else last
