"""Active residuals of a point, and their gradients scaled to length one."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from jaxcon._checks import check_number
from jaxcon.constraints import Constraints, check_residuals, named
from jaxcon.lagrangians import Lagrangian
from jaxcon.optimality._bounded import Rows, sketched
from jaxcon.optimality._point import check_params, check_problem
from jaxcon.optimality._products import flat, programs

# Bytes of the inner products of all gradients, in float64; beyond, they are not formed.
_LARGEST_GRAM = 64 * 2**20
# Parameters up to which lengths and rank are computed by products for each of them.
_MOST_PARAMETERS = 1024


def active(residuals: Constraints, tolerance: float) -> Constraints:
    r"""Flags residuals that may have a multiplier: every h, and g at its bound.

    .. math::
        g \ge -\epsilon

    A violated inequality counts: its multiplier still pushes.

    Args:
        residuals: h and g, each () or (n,).
        tolerance: epsilon >= 0, in the units the constraints were written in.

    Returns:
        Booleans in the shapes of `residuals`; False where g is NaN.

    Raises:
        TypeError: `residuals` are no `Constraints` of arrays, or `tolerance` no number.
        ValueError: `tolerance` is negative or not finite.

    Example:
        >>> import jax.numpy as jnp, jaxcon as jc
        >>> g = jc.Constraints(inequality={"cap": jnp.array([-1.0, 0.0, 1.0])})
        >>> print(jc.active(g, 1e-4).inequality["cap"])
        [False  True  True]
    """
    check_number("tolerance", tolerance, least=0)
    check_residuals(residuals)
    return _flags(residuals, tolerance)


def _flags(residuals: Constraints, tolerance: float) -> Constraints:
    return Constraints(
        jax.tree.map(lambda h: jnp.ones(jnp.shape(h), bool), residuals.equality),
        jax.tree.map(lambda g: g >= -tolerance, residuals.inequality),
    )


class ActiveSet(NamedTuple):
    """Active residuals of one point, with their m gradients scaled to length one.

    Attributes:
        problem: the `Lagrangian`.
        at: params, batch and extra.
        residuals: all of them, h and g.
        active: booleans, shaped like the residuals.
        rows: which entries of the raveled residuals are active, (m,).
        values: their residuals, (m,).
        free: which of them are equalities, (m,).
        lengths: norms of their gradients, 1 where a gradient is zero, (m,).
        gram: inner products of the scaled gradients, (m, m); None where it is too large.
        eigenvalues: of `gram`, those that may differ from zero; None where unknown.
        spectrum: eigenvalues and eigenvectors of the gradients' products over parameters
            in place of residuals, (p,) and (p, p); None where they are not computed.
        epsilon: machine epsilon of the coarsest dtype in play.
    """

    problem: Lagrangian
    at: tuple[Any, Any, Any]
    residuals: Constraints
    active: Constraints
    rows: np.ndarray
    values: np.ndarray
    free: np.ndarray
    lengths: np.ndarray
    gram: np.ndarray | None
    eigenvalues: np.ndarray | None
    spectrum: tuple[np.ndarray, np.ndarray] | None
    epsilon: float

    @property
    def noise(self) -> float:
        """The eigenvalue of `gram` up to which rounding may have caused it."""
        # Without rounding none is negative: one that is shows how large it really was.
        expected = (len(self.rows) + 10) * self.epsilon
        known = () if self.eigenvalues is None else self.eigenvalues
        return max(expected, -2 * np.min(known, initial=0))

    @property
    def rank(self) -> int | None:
        """The number of linearly independent gradients, if it is known."""
        if self.eigenvalues is None:
            return None
        return int(np.sum(self.eigenvalues > self.noise))

    def spread(self, entries: np.ndarray) -> Constraints:
        """Scatters numbers (m,) to the active residuals, with zero elsewhere."""
        return _spread(self.residuals, self.rows, entries)

    def slopes(
        self, weights: np.ndarray, with_loss: float
    ) -> tuple[np.ndarray, jax.Array]:
        """Computes the gradients' products with the Lagrangian's gradient, and its norm.

        Args:
            weights: of the scaled gradients, (m,).
            with_loss: the weight of the loss.

        Returns:
            Shapes (m,) and ().
        """
        multipliers = self.spread(weights / self.lengths)
        slopes, norm = programs(self.problem).slopes(multipliers, with_loss, *self.at)
        return np.asarray(slopes, float)[self.rows] / self.lengths, norm

    def loss_gradient(self) -> np.ndarray:
        """Computes the gradient of the loss, (p,)."""
        return np.asarray(programs(self.problem).slope(*self.at), float)

    def rows_of_gradients(self) -> Rows:
        """Returns products with the scaled gradients, a matrix (m, p)."""
        run, at = programs(self.problem), self.at

        def pushed(direction: np.ndarray) -> np.ndarray:
            found = run.pushed(self.rows, direction, *at)
            return np.asarray(found, float) / self.lengths

        def pulled(weights: np.ndarray) -> np.ndarray:
            found = run.pulled(self.rows, weights / self.lengths, *at)
            return np.asarray(found, float)

        spectrum = self.spectrum
        if spectrum is None:
            size = flat(self.at[0])[0].size
            spectrum = sketched(pushed, pulled, size)
        return Rows(pushed, pulled, spectrum, self.epsilon)


def active_set(
    problem: Lagrangian, params: Any, batch: Any, extra: Any, tolerance: float
) -> ActiveSet:
    """Finds the active residuals of a point, and how their gradients depend.

    Args:
        problem: the `Lagrangian`.
        params: theta.
        batch: what loss and constraints read.
        extra: state that is not trained.
        tolerance: an inequality is active where g >= -tolerance.

    Returns:
        An `ActiveSet`.

    Raises:
        TypeError: `problem` is no problem, `params` hold no floating-point arrays, or
            `tolerance` is no number.
        ValueError: a residual or a gradient is not finite, or `tolerance` is negative.
    """
    check_problem(problem)
    check_params(params)
    check_number("tolerance", tolerance, least=0)
    run, at = programs(problem), (params, batch, extra)
    residuals = run.residuals(*at)
    for kind, name, residual in named(residuals):
        if not jnp.isfinite(residual).all():
            raise ValueError(
                f"{kind} constraint {name!r} is not finite at these params"
            )
    which = active(residuals, tolerance)
    rows = np.flatnonzero(ravel_pytree(which)[0])
    formed = 8 * len(rows) ** 2 <= _LARGEST_GRAM
    few = flat(params)[0].size <= _MOST_PARAMETERS
    gram = None
    if formed:
        gram = np.asarray(run.gram(rows, *at), float) if len(rows) else np.zeros((0, 0))
        squares = np.diag(gram)
    else:
        measure = run.squares if few else run.squares_by_probes
        squares = np.asarray(measure(rows, *at), float)
    broken = _spread(residuals, rows, ~np.isfinite(squares))
    names = [repr(name) for _, name, points in named(broken) if jnp.any(points)]
    if names:
        # Zero times infinity: one without a gradient may spoil those it shares a pass with.
        raise ValueError(
            f"not every gradient of {', '.join(names)} is finite at these params"
        )
    lengths = np.where(squares > 0, np.sqrt(squares), 1.0)
    eigenvalues, spectrum = None, None
    if gram is not None:
        gram = (gram + gram.T) / 2 / np.outer(lengths, lengths)
        eigenvalues = np.linalg.eigvalsh(gram) if len(rows) else lengths
    elif few:
        # Those of J times its transpose, but for zeros, are those of J's transpose times J.
        inner = np.asarray(run.inner(rows, 1 / lengths**2, *at), float)
        spectrum = np.linalg.eigh((inner + inner.T) / 2)
        eigenvalues = spectrum[0]
    raveled, _ = ravel_pytree(residuals)
    equality, _ = ravel_pytree(_flags(residuals, -np.inf))  # no g is infinite
    dtypes = [jnp.result_type(leaf) for leaf in (*jax.tree.leaves(params), raveled)]
    return ActiveSet(
        problem=problem,
        at=at,
        residuals=residuals,
        active=which,
        rows=rows,
        values=np.asarray(raveled, float)[rows],
        free=np.asarray(equality, bool)[rows],
        lengths=lengths,
        gram=gram,
        eigenvalues=eigenvalues,
        spectrum=spectrum,
        epsilon=max(float(jnp.finfo(dtype).eps) for dtype in dtypes),
    )


def _spread(
    residuals: Constraints, rows: np.ndarray, entries: np.ndarray
) -> Constraints:
    """Scatters numbers to entries of the raveled residuals, with zero elsewhere."""
    raveled, unravel = ravel_pytree(residuals)
    everywhere = np.zeros(raveled.shape)
    everywhere[rows] = entries
    return unravel(jnp.asarray(everywhere, raveled.dtype))
