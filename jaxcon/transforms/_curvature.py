r"""Gauss-Newton matrices, and solutions of damped systems with them.

With the residuals' Jacobian J, their weights W and slopes s,

.. math:: H = J^T W J, \qquad g = J^T s + r

where r is what residuals of no weight and other transforms add to the gradient. There is a
form in the space of the parameters, one in that of the residuals, and one that sees J
through products alone.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

# Rank of the sketch that preconditions conjugate gradients.
_RANK = 64
# Their steps, and the share of the right side that they may leave.
_STEPS, _LEFT = 200, 1e-3


class Rows(NamedTuple):
    """Residuals of one term, as the model has them.

    Attributes:
        jacobian: for each leaf of the parameters, of size p, (n, p).
        weight: second derivative of the objective by each residual, (n,).
        slope: first derivative, (n,).
    """

    jacobian: list[jax.Array]
    weight: jax.Array
    slope: jax.Array


class Curvature(NamedTuple):
    """Gauss-Newton matrix H of an objective with gradient g.

    Attributes:
        trace: of H, ().
        product: v -> H v, (p,).
        solved: (damping, v) -> (H + damping I)^-1 (g + H v), (p,); v may be None for 0.
    """

    trace: jax.Array
    product: Callable[[jax.Array], jax.Array]
    solved: Callable[[jax.Array, Any], jax.Array]


def of_parameters(terms: list[Rows], gradient: jax.Array) -> Curvature:
    """Forms H, (p, p).

    Args:
        terms: of the objective.
        gradient: g, (p,).

    Returns:
        A `Curvature` that costs one factorisation of (p, p) for each damping.
    """
    wide = [jnp.concatenate(term.jacobian, axis=1) for term in terms]
    parts = [_product(j.T, term.weight[:, None] * j) for j, term in zip(wide, terms)]
    matrix = _sum(parts)
    identity = jnp.eye(len(matrix), dtype=matrix.dtype)

    def product(v: jax.Array) -> jax.Array:
        return _product(matrix, v)

    def solved(damping: jax.Array, push: Any) -> jax.Array:
        right = gradient if push is None else gradient + product(push)
        factor = jax.scipy.linalg.cho_factor(matrix + damping * identity)
        return jax.scipy.linalg.cho_solve(factor, right)

    return Curvature(jnp.trace(matrix), product, solved)


def of_rows(terms: list[Rows], gradient: jax.Array) -> Curvature:
    r"""Forms the Gram matrix of the rows of :math:`A = W^{1/2} J`, (n, n).

    .. math::
        (A^T A + \nu I)^{-1} (A^T s + r) = A^T K^{-1} s + (r - A^T K^{-1} A r) / \nu, \quad
        K = A A^T + \nu I

    Args:
        terms: of the objective.
        gradient: g, (p,).

    Returns:
        A `Curvature` that costs one factorisation of (n, n) for each damping.
    """
    # A barrier may be concave somewhere, of which Gauss-Newton knows nothing.
    roots = [jnp.sqrt(jnp.maximum(term.weight, 0.0)) for term in terms]
    ends = np.cumsum([len(root) for root in roots])[:-1]
    widths = np.cumsum([part.shape[1] for part in terms[0].jacobian])[:-1]

    def back(u: jax.Array) -> jax.Array:
        """Evaluates A^T u."""
        found = [
            [_product(root * part, leaf) for leaf in term.jacobian]
            for term, root, part in zip(terms, roots, jnp.split(u, ends))
        ]
        return jnp.concatenate([_sum(leaves) for leaves in zip(*found)])

    def forth(v: jax.Array) -> jax.Array:
        """Evaluates A v."""
        parts = jnp.split(v, widths)
        return jnp.concatenate(
            [root * _sum(map(_product, term.jacobian, parts)) for term, root in ours]
        )

    def block(i: int, j: int) -> jax.Array:
        if i > j:
            return blocks[j, i].T
        pairs = zip(terms[i].jacobian, terms[j].jacobian)
        inner = _sum(_product(one, other.T) for one, other in pairs)
        return roots[i][:, None] * inner * roots[j][None]

    ours, places = list(zip(terms, roots)), range(len(terms))
    blocks: dict[tuple[int, int], jax.Array] = {}
    for i in places:
        for j in places[i:]:
            blocks[i, j] = block(i, j)
    gram = jnp.block([[block(i, j) for j in places] for i in places])
    s = jnp.concatenate(
        [
            jnp.where(root > 0, term.slope / jnp.where(root > 0, root, 1.0), 0.0)
            for term, root in ours
        ]
    )
    rest = gradient - back(s)
    # What rounding leaves would be magnified by a small damping. Near a minimum the
    # gradient is a small difference of large terms, whose roundings these are.
    eps = jnp.finfo(gradient.dtype).eps
    size = jnp.sqrt(jnp.trace(gram)) * jnp.linalg.norm(s)
    none = jnp.linalg.norm(rest) <= 100 * eps * size
    rest = jnp.where(none, 0.0, rest)
    identity = jnp.eye(len(gram), dtype=gram.dtype)

    def product(v: jax.Array) -> jax.Array:
        return back(forth(v))

    def solved(damping: jax.Array, push: Any) -> jax.Array:
        factor = jax.scipy.linalg.cho_factor(gram + damping * identity)
        pushed = jnp.zeros_like(s) if push is None else forth(push)

        def of(s: jax.Array, rest: jax.Array) -> jax.Array:
            inner = s - forth(rest) / damping
            return back(jax.scipy.linalg.cho_solve(factor, inner)) + rest / damping

        def refined() -> jax.Array:
            # Of a part of r in the space of the rows little is left: once more for the
            # error.
            move = of(s + pushed, rest)
            error = gradient + back(pushed) - product(move) - damping * move
            return move + of(jnp.zeros_like(s), error)

        def plain() -> jax.Array:
            return back(jax.scipy.linalg.cho_solve(factor, s + pushed))

        return jax.lax.cond(none, plain, refined)

    return Curvature(jnp.trace(gram), product, solved)


def of_products(
    product: Callable[[jax.Array], jax.Array], gradient: jax.Array
) -> Curvature:
    r"""Sees H through products alone.

    Conjugate gradients solve the systems, preconditioned by a Nyström sketch: with
    orthonormal random columns :math:`\Omega` and :math:`Y = H \Omega`,

    .. math:: H \approx Y (\Omega^T Y)^{-1} Y^T = U \Lambda U^T

    Args:
        product: v -> H v.
        gradient: g, (p,).

    Returns:
        A `Curvature` that forms no matrix of both sizes. Its trace is an estimate.

    References:
        Frangella, Tropp and Udell, Randomized Nyström Preconditioning (2023), algorithm
        2.1 and eq. 1.3.
    """
    dtype, size = gradient.dtype, gradient.size
    rank = min(_RANK, size)
    random = jax.random.normal(jax.random.key(0), (size, rank), dtype)
    columns = jnp.linalg.qr(random)[0]
    images = jax.lax.map(product, columns.T).T
    trace = jnp.sum(columns * images) * (size / rank)
    shift = jnp.finfo(dtype).eps * jnp.linalg.norm(images)
    images = images + shift * columns
    core = _product(columns.T, images)
    factor = jnp.linalg.cholesky((core + core.T) / 2)
    half = jax.scipy.linalg.solve_triangular(factor, images.T, lower=True)
    vectors, values, _ = jnp.linalg.svd(half.T, full_matrices=False)
    bends = jnp.maximum(values**2 - shift, 0.0)
    known = jnp.all(jnp.isfinite(vectors)) & jnp.all(jnp.isfinite(bends))
    vectors, bends = (jnp.where(known, part, 0.0) for part in (vectors, bends))

    def solved(damping: jax.Array, push: Any) -> jax.Array:
        right = gradient if push is None else gradient + product(push)
        scale = (bends[-1] + damping) / (bends + damping) - 1

        def direct(v: jax.Array) -> jax.Array:
            seen = _product(vectors.T, v)
            return v + _product(vectors, scale * seen)

        def damped(v: jax.Array) -> jax.Array:
            return product(v) + damping * v

        return jax.scipy.sparse.linalg.cg(
            damped, right, tol=_LEFT, maxiter=_STEPS, M=direct
        )[0]

    return Curvature(trace, product, solved)


def _product(x: jax.Array, y: jax.Array) -> jax.Array:
    return jnp.matmul(x, y, precision="highest")


def _sum(parts: Any) -> jax.Array:
    first, *others = parts
    return functools.reduce(jnp.add, others, first)
