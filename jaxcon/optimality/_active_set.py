"""Active residuals of a point, and products with their Jacobian."""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from jaxcon.constraints import Constraints, named
from jaxcon.lagrangians import Lagrangian


def active(residuals: Constraints, tolerance: float) -> Constraints:
    r"""Flags residuals that may have a multiplier: every h, and g at its bound.

    .. math::
        g \ge -\epsilon

    A violated inequality counts: its multiplier still pushes.

    Args:
        residuals: h and g, each () or (n,).
        tolerance: epsilon, in the units the constraints were written in.

    Returns:
        Booleans in the shapes of `residuals`; False where g is NaN.

    Example:
        >>> import jax.numpy as jnp, jaxcon as jc
        >>> g = jc.Constraints(inequality={"cap": jnp.array([-1.0, 0.0, 1.0])})
        >>> print(jc.active(g, 1e-4).inequality["cap"])
        [False  True  True]
    """
    return Constraints(
        jax.tree.map(lambda h: jnp.ones(h.shape, bool), residuals.equality),
        jax.tree.map(lambda g: g >= -tolerance, residuals.inequality),
    )


class ActiveSet(NamedTuple):
    """Active residuals of one point, with their m gradients scaled to length one.

    Attributes:
        residuals: all of them, h and g.
        active: booleans, shaped like the residuals.
        rows: which entries of the raveled residuals are active, (m,).
        values: their residuals, (m,).
        free: which of them are equalities, (m,).
        lengths: norms of their gradients, 1 where a gradient is zero, (m,).
        gram: inner products of the scaled gradients, (m, m).
        eigenvalues: of `gram`, (m,).
        epsilon: machine epsilon of the coarsest dtype in play.
    """

    residuals: Constraints
    active: Constraints
    rows: np.ndarray
    values: np.ndarray
    free: np.ndarray
    lengths: np.ndarray
    gram: np.ndarray
    eigenvalues: np.ndarray
    epsilon: float

    @property
    def noise(self) -> float:
        """The eigenvalue of `gram` up to which rounding may have caused it."""
        # Without rounding none is negative: one that is shows how large it really was.
        expected = (len(self.rows) + 10) * self.epsilon
        return max(expected, -2 * np.min(self.eigenvalues, initial=0))

    @property
    def rank(self) -> int:
        """The number of linearly independent gradients."""
        return int(np.sum(self.eigenvalues > self.noise))

    def spread(self, entries: np.ndarray) -> Constraints:
        """Scatters numbers (m,) to the active residuals, with zero elsewhere."""
        return _spread(self.residuals, self.rows, entries)


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
        ValueError: a residual or a gradient is not finite.
    """
    run = programs(problem)
    residuals = run.residuals(params, batch, extra)
    for kind, name, residual in named(residuals):
        if not jnp.isfinite(residual).all():
            raise ValueError(
                f"{kind} constraint {name!r} is not finite at these params"
            )
    which = active(residuals, tolerance)
    rows = np.flatnonzero(ravel_pytree(which)[0])
    gram = np.zeros((0, 0))
    if len(rows):
        gram = np.asarray(run.gram(rows, params, batch, extra), float)
    squares = np.diag(gram)
    broken = _spread(residuals, rows, ~np.isfinite(squares))
    names = [repr(name) for _, name, points in named(broken) if jnp.any(points)]
    if names:
        # Zero times infinity: one without a gradient may spoil those it shares a pass with.
        raise ValueError(
            f"not every gradient of {', '.join(names)} is finite at these params"
        )
    lengths = np.where(squares > 0, np.sqrt(squares), 1.0)
    gram = (gram + gram.T) / 2 / np.outer(lengths, lengths)
    flat, _ = ravel_pytree(residuals)
    equality, _ = ravel_pytree(active(residuals, -np.inf))  # no g is infinite
    dtypes = [jnp.result_type(leaf) for leaf in (*jax.tree.leaves(params), flat)]
    return ActiveSet(
        residuals=residuals,
        active=which,
        rows=rows,
        values=np.asarray(flat, float)[rows],
        free=np.asarray(equality, bool)[rows],
        lengths=lengths,
        gram=gram,
        eigenvalues=np.linalg.eigvalsh(gram) if len(rows) else lengths,
        epsilon=max(float(jnp.finfo(dtype).eps) for dtype in dtypes),
    )


def _spread(
    residuals: Constraints, rows: np.ndarray, entries: np.ndarray
) -> Constraints:
    """Scatters numbers to entries of the raveled residuals, with zero elsewhere."""
    flat, unravel = ravel_pytree(residuals)
    everywhere = np.zeros(flat.shape)
    everywhere[rows] = entries
    return unravel(jnp.asarray(everywhere, flat.dtype))


class Programs(NamedTuple):
    """Compiled functions of one problem.

    Attributes:
        residuals: (params, batch, extra) -> h and g.
        gram: (rows, params, batch, extra) -> inner products of the rows' gradients.
        slopes: (multipliers, with_loss, params, batch, extra) -> J times the Lagrangian's
            gradient, raveled, and that gradient's norm.
    """

    residuals: Callable[..., Constraints]
    gram: Callable[..., jax.Array]
    slopes: Callable[..., tuple[jax.Array, jax.Array]]


@lru_cache(maxsize=16)
def programs(problem: Lagrangian) -> Programs:
    """Returns the functions of a problem, compiled once for all calls."""
    return Programs(
        jax.jit(partial(_evaluate, problem)),
        jax.jit(partial(_gram, problem)),
        jax.jit(partial(_slopes, problem)),
    )


def _evaluate(problem: Lagrangian, params: Any, batch: Any, extra: Any) -> Constraints:
    return problem.evaluate(params, batch, extra).residuals


def _gram(
    problem: Lagrangian, rows: jax.Array, params: Any, batch: Any, extra: Any
) -> jax.Array:
    """Computes inner products of the rows' gradients, (m, m), one gradient at a time."""
    with jax.default_matmul_precision("highest"):  # TF32 would pass for dependence
        flat, pull, push = _products(problem, params, batch, extra)

        def column(row: jax.Array) -> jax.Array:
            return push(pull(jnp.zeros_like(flat).at[row].set(1)))[rows]

        return jax.lax.map(column, rows)


def _slopes(
    problem: Lagrangian,
    multipliers: Constraints,
    with_loss: Any,
    params: Any,
    batch: Any,
    extra: Any,
) -> tuple[jax.Array, jax.Array]:
    with jax.default_matmul_precision("highest"):
        _, pull, push = _products(problem, params, batch, extra)

        def loss(params: Any) -> jax.Array:
            return with_loss * problem.evaluate(params, batch, extra).loss

        pulled = pull(ravel_pytree(multipliers)[0])
        gradient = jax.tree.map(jnp.add, jax.grad(loss)(params), pulled)
        return push(gradient), _norm(gradient)


def _products(
    problem: Lagrangian, params: Any, batch: Any, extra: Any
) -> tuple[jax.Array, Callable[[jax.Array], Any], Callable[[Any], jax.Array]]:
    """Returns the raveled residuals, and products with the transpose of J and with J."""
    flat, pull = jax.vjp(
        lambda params: ravel_pytree(_evaluate(problem, params, batch, extra))[0], params
    )
    # Backwards twice rather than jax.jvp, which a jax.custom_vjp does not have.
    _, back = jax.vjp(lambda weights: pull(weights)[0], jnp.zeros_like(flat))

    def push(gradient: Any) -> jax.Array:
        # A complex gradient is the conjugate of the direction it stands for.
        return back(jax.tree.map(jnp.conj, gradient))[0]

    return flat, lambda weights: pull(weights)[0], push


def _norm(tree: Any) -> jax.Array:
    # Half precision would overflow at squares and lose their sum.
    sizes = [jnp.abs(leaf) for leaf in jax.tree.leaves(tree)]
    wide = [size.astype(jnp.promote_types(size.dtype, jnp.float32)) for size in sizes]
    squares = [jnp.sum(jnp.square(size)) for size in wide]
    return jnp.sqrt(sum(squares, start=jnp.zeros(())))


def least(
    start: np.ndarray, slope: np.ndarray, curvature: np.ndarray, free: np.ndarray
) -> np.ndarray:
    r"""Minimizes a quadratic model with K > 0 over u, >= 0 where not free.

    .. math::
        c^T (u - u_0) + \tfrac12 (u - u_0)^T K (u - u_0)
    """
    from scipy.linalg import solve_triangular
    from scipy.optimize import nnls

    # With K = RᵀR and the free entries first, they solve their rows exactly whatever the
    # others are, and what is left is a nonnegative least-squares problem.
    order, k = np.argsort(~free, stable=True), int(np.sum(free))
    upper = np.linalg.cholesky(curvature[np.ix_(order, order)]).T
    target = upper @ start[order] - solve_triangular(upper.T, slope[order], lower=True)
    bounded = np.zeros(len(free) - k)
    if len(bounded):
        bounded, _ = nnls(upper[k:, k:], target[k:])
    rest = target[:k] - upper[:k, k:] @ bounded
    found = np.zeros(len(free))
    found[order] = [*(solve_triangular(upper[:k, :k], rest) if k else rest), *bounded]
    return found
