"""Trust-region Newton steps on a solver's objective."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

from jaxcon._checks import check_number
from jaxcon.transforms._mean_squares import MeanSquares, WeightedSquares
from jaxcon.transforms._objective import Objective

# Tries of one update; each has a quarter of the radius of the one before, or less.
_TRIES = 12
# Roundings in an objective's value: it tells no smaller share of itself.
_ROUNDINGS = 8
# Bisections of the multiplier of the trust region.
_BISECTIONS = 60
# Steps of conjugate gradients, and the share of the gradient that they may leave.
_STEPS, _LEFT = 60, 0.1
# Residuals, and entries of their Jacobian, up to which it preconditions them.
_ROWS, _ENTRIES = 128, 2**24


class NewtonState(NamedTuple):
    """State of `newton`.

    Attributes:
        radius: of the trust region, in the parameters' units, ().
    """

    radius: jax.Array


def newton(*, dense: int = 50) -> optax.GradientTransformationExtraArgs:
    r"""Takes Newton steps within a trust region.

    .. math::
        \delta = \arg\min_{\|\delta\| \le \Delta}
            g^T \delta + \tfrac12 \delta^T \nabla^2 L \, \delta

    Directions of negative curvature are followed to the boundary. A move is made if the
    objective falls; else the radius shrinks and another is tried. Where the gain that the
    model foretells is lost in the objective's roundings the model is trusted, so that the
    gradient falls further than the objective can tell.

    It goes as `primal` of a solver, on batches that stay the same for a few steps at
    least. Up to `dense` parameters the Hessian is formed, by one product for each, and
    factored by its eigenvalues; above, conjugate gradients see it through products alone.
    Where the solver's loss is a `MeanSquares` and its constraints have at most 128
    residuals, their gradients precondition them, so that a large penalty costs no steps.

    Args:
        dense: most parameters whose Hessian is formed.

    Returns:
        An optax transform for the parameters.

    Raises:
        ValueError: `dense` is no whole number >= 0.
        TypeError: at the first step, that no objective is given.

    References:
        Nocedal and Wright, Numerical Optimization (2006), algorithms 4.1 and 7.2 and
        section 4.3.

    Example:
        >>> import jax, jax.numpy as jnp, jaxcon as jc
        >>> def loss(p, _):                                # Rosenbrock's
        ...     return 100.0 * (p[1] - p[0] ** 2) ** 2 + (1.0 - p[0]) ** 2
        >>> inside = jc.Constraints(inequality={"disk": lambda p, _: p @ p - 4.0})
        >>> problem = jc.Lagrangian(loss, inside, penalty=1.0)
        >>> solver = jc.alternating(problem, jc.newton(), jc.method_of_multipliers())
        >>> state = solver.init(jnp.array([-1.0, 1.0]))
        >>> step = jax.jit(solver.step)
        >>> for _ in range(30):
        ...     state, info = step(state)
        >>> print(state.params.round(3))
        [1. 1.]
    """
    check_number("dense", dense, least=0, whole=True)

    def init(params: Any) -> NewtonState:
        theta, _ = ravel_pytree(params)
        return NewtonState(0.1 * jnp.maximum(jnp.linalg.norm(theta), 1.0))

    def update(
        updates: Any,
        state: NewtonState,
        params: Any = None,
        *,
        value: Any = None,
        value_fn: Any = None,
        **_: Any,
    ) -> tuple[Any, NewtonState]:
        if value_fn is None:
            raise TypeError(
                "newton needs the objective of a solver: pass it as primal= of "
                "jaxcon.alternating or jaxcon.simultaneous"
            )
        gradient, unravel = ravel_pytree(updates)
        theta = ravel_pytree(params)[0]

        def objective(theta: jax.Array) -> jax.Array:
            return value_fn(unravel(theta))

        # Once: each product then costs the tangent alone.
        _, product = jax.linearize(jax.grad(objective), theta)
        if gradient.size <= dense:
            within = _by_eigenvalues(product, gradient)
        else:
            inverse = preconditioner(value_fn, product, theta, unravel)
            within = _by_conjugate_gradients(product, gradient, inverse)
        eps = jnp.finfo(gradient.dtype).eps
        rounding = _ROUNDINGS * eps * jnp.abs(value)

        def attempt(carry: Any) -> Any:
            tries, radius, _, _ = carry
            move, foretold, length = within(radius)
            moved = objective(theta + move)
            hidden = foretold <= rounding
            share = (value - moved) / foretold
            # Each is False of a NaN.
            fell = jnp.where(hidden, moved <= value + rounding, share > 1e-4)
            smaller = jnp.where(fell & (share > 0.25) | hidden, radius, 0.25 * length)
            larger = fell & ~hidden & (share > 0.75) & (length > 0.8 * radius)
            radius = jnp.where(
                larger, 2.5 * radius, jnp.where(fell, smaller, 0.25 * length)
            )
            radius = radius.astype(state.radius.dtype)
            return tries + 1, radius, jnp.where(fell, move, 0.0), fell

        def go_on(carry: Any) -> jax.Array:
            tries, _, _, fell = carry
            return ~fell & (tries < _TRIES)

        start = (
            jnp.zeros((), jnp.int32),
            state.radius,
            jnp.zeros_like(gradient),
            jnp.zeros((), bool),
        )
        _, radius, move, fell = jax.lax.while_loop(go_on, attempt, start)
        # Where nothing helps, the last radius says nothing of the next step's problem.
        radius = jnp.where(fell, radius, state.radius)
        return unravel(move), NewtonState(radius)

    return optax.GradientTransformationExtraArgs(init, update)  # pyright: ignore[reportArgumentType]


# radius -> (move, the fall that it foretells, its length in the trust region's norm).
Within = Callable[[jax.Array], tuple[jax.Array, jax.Array, jax.Array]]
Product = Callable[[jax.Array], jax.Array]


def _by_eigenvalues(product: Product, gradient: jax.Array) -> Within:
    """Returns radius -> the exact minimiser within it."""
    size = gradient.size
    hessian = jax.vmap(product)(jnp.eye(size, dtype=gradient.dtype))
    bends, vectors = jnp.linalg.eigh((hessian + hessian.T) / 2)
    slopes = jnp.matmul(gradient, vectors, precision="highest")

    def within(radius: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        # The shift that makes the curvature positive, and the one that is surely enough.
        most = jnp.linalg.norm(slopes) / radius + jnp.max(jnp.abs(bends))
        floor = jnp.finfo(gradient.dtype).eps * most
        least = jnp.maximum(-bends[0], 0.0) + floor
        most = least + most

        def length(shift: jax.Array) -> jax.Array:
            return jnp.linalg.norm(slopes / (bends + shift))

        def halve(_: Any, ends: Any) -> Any:
            low, high = ends
            # Geometric: shifts run over many orders of magnitude.
            middle = jnp.sqrt(low * high)
            long = length(middle) > radius
            return jnp.where(long, middle, low), jnp.where(long, high, middle)

        _, high = jax.lax.fori_loop(0, _BISECTIONS, halve, (least, most))
        zero = jnp.zeros_like(least)
        free = (bends[0] > floor) & (length(zero) <= radius)
        shift = jnp.where(free, zero, high)
        along = -slopes / (bends + shift)
        # The hard case: the lowest curvature is negative, and the gradient lacks it.
        missing = jnp.sqrt(jnp.maximum(radius**2 - jnp.sum(along**2), 0.0))
        side = jnp.where(slopes[0] > 0, -1.0, 1.0)
        along = along.at[0].add(jnp.where(bends[0] < -floor, side * missing, 0.0))
        foretold = -jnp.sum(slopes * along + bends * along**2 / 2)
        move = jnp.matmul(vectors, along, precision="highest")
        return move, foretold, jnp.linalg.norm(move)

    return within


def preconditioner(
    objective: Any, product: Product, theta: jax.Array, unravel: Any
) -> Product:
    r"""Returns the inverse of what is known of the Hessian beside a multiple of one.

    .. math:: M = I + \frac1\sigma A^T A

    with the rows of A the gradients of the residuals, each times the root of the
    objective's second derivative with respect to it, and :math:`\sigma` the mean
    curvature that they leave. It needs few and known residuals; else it is the identity.
    """
    # With other losses plain conjugate gradients end networks at better places.
    if not isinstance(objective, Objective) or not isinstance(
        objective.problem.loss, (MeanSquares, WeightedSquares)
    ):
        return lambda vector: vector

    def residuals(theta: jax.Array) -> jax.Array:
        entries = jax.tree.leaves(objective.residuals(unravel(theta)))
        return jnp.concatenate(list(map(jnp.ravel, entries))).astype(theta.dtype)

    bends = list(map(jnp.ravel, jax.tree.leaves(objective.curvature())))
    count = sum(map(jnp.size, bends))
    if not 0 < count <= min(_ROWS, _ENTRIES // theta.size):
        return lambda vector: vector
    roots = jnp.sqrt(jnp.maximum(jnp.concatenate(bends), 0.0)).astype(theta.dtype)
    rows = roots[:, None] * jax.jacrev(residuals)(theta)
    gram = jnp.matmul(rows, rows.T, precision="highest")
    # The Hessian's mean diagonal, by one random vector of signs.
    signs = jax.random.rademacher(jax.random.key(0), theta.shape, theta.dtype)
    seen = jnp.matmul(rows, signs, precision="highest")
    rest = jnp.abs(jnp.vdot(signs, product(signs)) - jnp.sum(seen**2)) / theta.size
    floor = 10 * jnp.finfo(theta.dtype).eps * jnp.trace(gram)
    sigma = jnp.maximum(rest, floor)
    sigma = jnp.where(jnp.isfinite(sigma) & (sigma > 0), sigma, 1.0)
    factor = jnp.linalg.cholesky(gram + sigma * jnp.eye(count, dtype=gram.dtype))
    rows = jax.scipy.linalg.solve_triangular(factor, rows, lower=True)
    # Roundings of many rows may exceed sigma.
    rows = jnp.where(jnp.all(jnp.isfinite(rows)), rows, 0.0)

    def inverse(vector: jax.Array) -> jax.Array:
        seen = jnp.matmul(rows, vector, precision="highest")
        return vector - jnp.matmul(rows.T, seen, precision="highest")

    return inverse


def _by_conjugate_gradients(
    product: Product, gradient: jax.Array, inverse: Product
) -> Within:
    """Returns radius -> Steihaug's step within it, in the preconditioner's norm."""

    def within(radius: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        def step(carry: Any) -> Any:
            count, at, bent, rest, square, along, lengths, _ = carry
            image = product(along)
            curvature = jnp.sum(along * image)
            share = square / curvature
            # <at, at>, <at, along> and <along, along> in the preconditioner's norm.
            aa, ab, bb = lengths
            beyond = aa + share * (2 * ab + share * bb) >= radius**2
            leaves = (curvature <= 0) | beyond | ~jnp.isfinite(share)
            root = jnp.sqrt(jnp.maximum(ab**2 - bb * (aa - radius**2), 0.0))
            edge = (root - ab) / jnp.maximum(bb, jnp.finfo(bb.dtype).tiny)
            share = jnp.where(leaves, edge, share)
            at, bent = at + share * along, bent + share * image
            rest = rest + share * image
            direct = inverse(rest)
            after = jnp.sum(rest * direct)
            done = leaves | (after <= _LEFT**2 * first)
            turn = after / square
            aa = aa + share * (2 * ab + share * bb)
            ab = turn * (ab + share * bb)
            bb = after + turn**2 * bb
            along = -direct + turn * along
            return count + 1, at, bent, rest, after, along, (aa, ab, bb), done

        def go_on(carry: Any) -> jax.Array:
            count, *_, done = carry
            return ~done & (count < _STEPS)

        zero, none = jnp.zeros_like(gradient), jnp.zeros((), gradient.dtype)
        direct = inverse(gradient)
        first = jnp.sum(gradient * direct)
        lengths = none, none, first
        start = (0, zero, zero, gradient, first, -direct, lengths, first <= 0)
        _, at, bent, *_, lengths, _ = jax.lax.while_loop(go_on, step, start)
        foretold = -jnp.sum(gradient * at + bent * at / 2)
        return at, foretold, jnp.sqrt(lengths[0])

    return within
