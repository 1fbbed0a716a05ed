"""Regularized least squares of which some variables are nonnegative."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

# Of the proximal iterations that find multipliers.
MOST_ROUNDS = 30
# Eigenvectors by which the systems are preconditioned, and bytes of all of them.
_MOST_VECTORS, _LARGEST_SKETCH = 512, 256 * 2**20
# Rounds that end in a longer sum, before the best is taken.
_MOST_WORSE = 3
# Newton's steps of one round; after the first round it takes two or three.
_MOST_STEPS = 60
# Steps that do not halve the smallest gap, before its rounding is taken for the reason.
_MOST_STALE = 8
# Products of one of Newton's systems, which need not be solved exactly.
_MOST_PRODUCTS = 200


def least(
    start: np.ndarray, slope: np.ndarray, curvature: np.ndarray, free: np.ndarray
) -> np.ndarray:
    r"""Minimizes a quadratic model with K > 0 over u, >= 0 where not free.

    .. math::
        c^T (u - u_0) + \tfrac12 (u - u_0)^T K (u - u_0)

    Args:
        start: u_0, (m,).
        slope: c, (m,).
        curvature: K, (m, m).
        free: which entries may have either sign, (m,).

    Returns:
        u, (m,).
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


class Rows(NamedTuple):
    """Products with a matrix A of m rows and p columns that is never formed.

    Attributes:
        pushed: v (p,) -> A v.
        pulled: u (m,) -> A^T u.
        spectrum: the largest eigenvalues of A^T A, ascending, (k,), and their eigenvectors
            as columns, (p, k).
        epsilon: machine epsilon of the products.
    """

    pushed: Callable[[np.ndarray], np.ndarray]
    pulled: Callable[[np.ndarray], np.ndarray]
    spectrum: tuple[np.ndarray, np.ndarray]
    epsilon: float

    def with_column(self, column: np.ndarray) -> "Rows":
        """Returns the products with [A, c] of one more column c (m,)."""
        values, vectors = self.spectrum
        k = len(values)
        inner = np.zeros((k + 1, k + 1))
        inner[:k, :k] = np.diag(values)
        inner[k, :k] = inner[:k, k] = vectors.T @ self.pulled(column)
        inner[k, k] = column @ column
        values, turned = np.linalg.eigh(inner)
        vectors = np.vstack([vectors @ turned[:k], turned[k:]])
        return Rows(
            lambda v: self.pushed(v[:-1]) + column * v[-1],
            lambda u: np.append(self.pulled(u), column @ u),
            (values, vectors),
            self.epsilon,
        )


def sketched(
    pushed: Callable[[np.ndarray], np.ndarray],
    pulled: Callable[[np.ndarray], np.ndarray],
    size: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Approximates the largest eigenvalues of A^T A, and their eigenvectors.

    Args:
        pushed: v (p,) -> A v.
        pulled: u (m,) -> A^T u.
        size: p.

    Returns:
        As `Rows.spectrum`.

    References:
        Halko, Martinsson and Tropp, Finding Structure with Randomness (2011).
    """
    k = min(size, _MOST_VECTORS, max(1, _LARGEST_SKETCH // (8 * size)))
    start = np.random.default_rng(0).normal(size=(size, k))
    basis, _ = np.linalg.qr(np.stack([pulled(pushed(v)) for v in start.T], axis=1))
    images = np.stack([pulled(pushed(v)) for v in basis.T], axis=1)
    inner = basis.T @ images
    values, turned = np.linalg.eigh((inner + inner.T) / 2)
    return values, basis @ turned


def least_of_products(
    rows: Rows, offset: np.ndarray, free: np.ndarray, noise: float
) -> np.ndarray:
    r"""Finds the shortest u, >= 0 where not free, that makes a sum shortest.

    .. math::
        \min_u \| A^T u + b \|_2

    Args:
        rows: A, each of its rows of length one or zero.
        offset: b, (p,).
        free: which entries may have either sign, (m,).
        noise: eigenvalues of A^T A up to it may be due to rounding.

    Returns:
        u, (m,).
    """
    u, prox, loose = np.zeros(len(free)), noise**0.5, 0.0
    # Twice, for products with the sum that was begun with are rounded by its size.
    _, y = _nearest(rows, offset, u, prox, free, offset, loose=0.1)
    best, shortest, worse = u, np.inf, 0
    for _ in range(MOST_ROUNDS):
        before = u
        u, y = _nearest(rows, offset, u, prox, free, y, loose)
        length = np.linalg.norm(offset + rows.pulled(u))
        if length <= 1.001 * shortest:
            best, shortest = u, min(length, shortest)
        else:
            worse += 1  # a sum of zero, whose rounding grows as prox falls
        small = np.max(np.abs(u - before)) <= 8 * rows.epsilon * np.max(np.abs(u))
        if small or worse == _MOST_WORSE:
            break
        # The first round settles what the rows leave open, and is solved exactly; later
        # ones up to a part of the distance that they move, which decreases.
        prox, loose = max(prox / 10, noise), rows.epsilon**0.25
    return best


def _nearest(
    rows: Rows,
    offset: np.ndarray,
    start: np.ndarray,
    prox: float,
    free: np.ndarray,
    y: np.ndarray,
    loose: float,
) -> tuple[np.ndarray, np.ndarray]:
    r"""Minimizes a sum's length and a distance over u, >= 0 where not free.

    .. math::
        \tfrac12 \| A^T u + b \|_2^2 + \tfrac{\epsilon}{2} \| u - u_0 \|_2^2

    It is `least` of :math:`K = A A^T + \epsilon I` by products with A alone: Newton's
    method for the dual problem, whose p variables y are the sum itself, with
    :math:`u = P(u_0 - A y / \epsilon)` and P the projection. The dual objective's gradient
    is piecewise linear; steps are found by preconditioned conjugate gradients, and their
    lengths by the slope along them, so that the method ends from any start.

    Args:
        rows: A.
        offset: b, (p,).
        start: u_0, (m,).
        prox: epsilon > 0.
        free: which entries may have either sign, (m,).
        y: a sum to begin with, (p,).
        loose: the error allowed, relative to the distance.

    Returns:
        u (m,) and y (p,).

    References:
        Li, Sun and Toh, A Highly Efficient Semismooth Newton Augmented Lagrangian Method
        for Solving Lasso Problems (2018); Frangella, Tropp and Udell, Randomized Nyström
        Preconditioning (2023).
    """
    from scipy.optimize import root_scalar
    from scipy.sparse.linalg import cg

    def at(pushed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        u = start - pushed / prox
        held = free | (u > 0)
        return np.where(held, u, 0.0), held

    values, vectors = rows.spectrum
    pushed = rows.pushed(y)
    smallest, stale = np.inf, 0
    for _ in range(_MOST_STEPS):
        u, held = at(pushed)
        gap = offset + rows.pulled(u) - y
        rounding = rows.epsilon * max(np.linalg.norm(offset), np.linalg.norm(y))
        near = loose * prox**0.5 * np.linalg.norm(u - start)
        size = np.linalg.norm(gap)
        if size < smallest / 2:
            smallest, stale = size, 0
        elif size <= len(free) * rounding:  # of a sum of so many terms
            stale += 1
        if size <= max(4 * rounding, near) or stale == _MOST_STALE:
            break
        # The rows that are held are about so large a part of all of A^T A.
        sizes = prox + np.mean(held) * np.maximum(values, 0)
        weights = np.min(sizes, initial=np.inf) / sizes - 1

        def hessian(v: np.ndarray, held: np.ndarray = held) -> np.ndarray:
            return v + rows.pulled(held * rows.pushed(v)) / prox

        def inverse(v: np.ndarray, weights: np.ndarray = weights) -> np.ndarray:
            return v + vectors @ (weights * (vectors.T @ v))

        step, _ = cg(
            _operator(len(y), hessian),
            gap,
            rtol=0.01,
            maxiter=_MOST_PRODUCTS,
            M=_operator(len(y), inverse),
        )
        moved = rows.pushed(step)

        def slope(t: float, y=y, pushed=pushed, step=step, moved=moved) -> float:
            """Evaluates the slope of the dual objective along the step."""
            u, _ = at(pushed + t * moved)
            return float(step @ (y + t * step - offset) - moved @ u)

        length = 1.0
        if slope(1.0) > 0:
            if slope(0.0) >= 0:
                break  # products of this precision show no descent
            length = root_scalar(slope, bracket=(0.0, 1.0), rtol=1e-3).root
        y, pushed = y + length * step, pushed + length * moved
    return at(pushed)[0], y


def _operator(size: int, function: Callable[[np.ndarray], np.ndarray]) -> Any:
    """Returns a linear function as SciPy's iterative methods take it."""
    from scipy.sparse.linalg import LinearOperator

    shape = (size, size)
    return LinearOperator(shape, matvec=function, dtype=float)  # pyright: ignore[reportCallIssue]
