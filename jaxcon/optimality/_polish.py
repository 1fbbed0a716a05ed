"""Newton's method on the KKT conditions, from a point near a solution."""

import math
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from jaxcon._checks import check_number
from jaxcon.constraints import Constraints
from jaxcon.lagrangians import Lagrangian, Point, split
from jaxcon.optimality._point import (
    check_on_host,
    check_params,
    check_problem,
    point_of,
)

# Entries of the Jacobian of all residuals that are kept at once.
_ENTRIES = 2**26
# Steps in a row that may be worse than an earlier one, while the active set is sought.
_WORSE = 4
# Steps of projected conjugate gradients, beside one for each parameter.
_CONJUGATE = 20


class _Units(NamedTuple):
    """Lengths of gradients at the start.

    Attributes:
        loss: of the loss's or the Lagrangian's gradient, the longer one, ().
        residuals: of each residual's, (m,).
    """

    loss: jax.Array
    residuals: jax.Array


class _Step(NamedTuple):
    """Newton's step from a point.

    Attributes:
        error: of the KKT conditions at the point, in the units of the start, ().
        theta: the parameters after the step, (p,).
        multipliers: after the step, (m,).
        active: residuals that the next step holds at zero, boolean (m,).
    """

    error: jax.Array
    theta: jax.Array
    multipliers: jax.Array
    active: jax.Array


def polish(
    problem: Lagrangian, state: Any, batch: Any = None, *, steps: int = 20
) -> Any:
    r"""Solves the KKT conditions by Newton's method, to the number format's last digits.

    With A the gradients of the active residuals c, it takes the step of

    .. math::
        \begin{pmatrix} \nabla^2 L & A^T \\ A & 0 \end{pmatrix}
        \begin{pmatrix} \delta \\ \nu \end{pmatrix}
        = - \begin{pmatrix} \nabla f \\ c \end{pmatrix}

    and :math:`\nu` as the active residuals' multipliers. Equalities are active, and
    inequalities with :math:`\lambda + \rho g > 0`, which is asked anew after each step.
    Conjugate gradients within the null space of A read the Hessian through products alone.

    It is for the end of a run, where the active residuals are known but for a few: the
    convergence is quadratic there. Of all points that it comes by the one of least error is
    returned, which may be the first.

    Args:
        problem: the `Lagrangian`, with dense multipliers.
        state: a solver's state, or anything with ``params``, ``multipliers`` and perhaps
            ``penalty`` and ``extra``, e.g. `Point`.
        batch: what loss and constraints read; may be None.
        steps: most of them.

    Returns:
        `state` with other parameters and multipliers; a `Point` where it is no NamedTuple.

    Raises:
        TypeError: `problem` is no problem, `state` no point of one, or values are traced.
        ValueError: there are kinds of multipliers, or the Jacobian of the residuals has
            more than 67 million entries.

    References:
        Nocedal and Wright, Numerical Optimization (2006), eq. 18.9 and algorithm 16.2.

    Example:
        >>> import jax.numpy as jnp, jaxcon as jc
        >>> circle = jc.Constraints({"circle": lambda p, _: p @ p - 2.0})
        >>> problem = jc.Lagrangian(lambda p, _: p[0] + p[1], circle)
        >>> mu = jc.Constraints({"circle": jnp.array(0.4)})
        >>> end = jc.polish(problem, jc.Point(jnp.array([-0.9, -1.2]), mu))
        >>> print(end.params.round(4), end.multipliers.equality["circle"].round(4))
        [-1. -1.] 0.5
    """
    check_problem(problem)
    point = point_of(state)
    check_params(point.params)
    check_on_host("polish", point, batch)
    check_number("steps", steps, least=1, whole=True)
    if problem.multipliers:
        raise ValueError("polish is for dense multipliers, not for kinds of them")
    here = split(batch)[0]
    theta, unravel = ravel_pytree(point.params)
    shapes = jax.eval_shape(partial(_residuals, problem), point, here)
    count = sum(leaf.size for leaf in jax.tree.leaves(shapes))
    if count * theta.size > _ENTRIES:
        raise ValueError(
            f"polish keeps the Jacobian of all residuals, {count} x {theta.size} here: "
            f"more than {_ENTRIES:,} entries"
        )
    begin, step = _programs(problem)
    multipliers, entries = ravel_pytree(
        jax.tree.map(
            lambda y, r: jnp.broadcast_to(y, r.shape), point.multipliers, shapes
        )
    )
    units, active = begin(point, here, multipliers)
    least, best, worse = float("inf"), (theta, multipliers), 0
    for _ in range(steps + 1):
        found = step(point, here, theta, multipliers, active, units)
        error, worse = float(found.error), worse + 1
        if error < least:  # False of NaN
            least, best, worse = error, (theta, multipliers), 0
        if worse > _WORSE or not math.isfinite(error):
            break
        theta, multipliers, active = found.theta, found.multipliers, found.active
    end = {"params": unravel(best[0]), "multipliers": entries(best[1])}
    return (state if hasattr(state, "_replace") else point)._replace(**end)


@lru_cache(maxsize=16)
def _programs(problem: Lagrangian) -> tuple[Any, Any]:
    return jax.jit(partial(_begin, problem)), jax.jit(partial(_step, problem))


def _residuals(problem: Lagrangian, point: Point, batch: Any) -> Constraints:
    return problem.evaluate(point.params, batch, point.extra).residuals


def _functions(problem: Lagrangian, point: Point, batch: Any) -> tuple[Any, Any]:
    """Returns theta -> the loss, (), and theta -> all residuals, (m,)."""
    _, unravel = ravel_pytree(point.params)

    def loss(theta: jax.Array) -> jax.Array:
        return problem.evaluate(unravel(theta), batch, point.extra).loss

    def residuals(theta: jax.Array) -> jax.Array:
        moved = point._replace(params=unravel(theta))
        return ravel_pytree(_residuals(problem, moved, batch))[0].astype(theta.dtype)

    return loss, residuals


def _equal(problem: Lagrangian, point: Point, batch: Any) -> jax.Array:
    """Returns whether each residual is an equality's, (m,)."""
    found = _residuals(problem, point, batch)
    marks = [
        {name: jnp.full(r.shape, kind == "equality") for name, r in entries.items()}
        for kind, entries in zip(Constraints._fields, found)
    ]
    return ravel_pytree(Constraints(*marks))[0].astype(bool)


def _begin(
    problem: Lagrangian, point: Point, batch: Any, multipliers: jax.Array
) -> tuple[_Units, jax.Array]:
    """Measures the units, and tells which residuals are active at the start."""
    theta, _ = ravel_pytree(point.params)
    loss, residuals = _functions(problem, point, batch)
    slope, rows = jax.grad(loss)(theta), jax.jacrev(residuals)(theta)
    of_all = slope + rows.T @ multipliers
    unit = jnp.maximum(jnp.linalg.norm(slope), jnp.linalg.norm(of_all))
    lengths = jnp.linalg.norm(rows, axis=1)
    units = _Units(*(jnp.where(u > 0, u, 1.0) for u in (unit, lengths)))
    rho = units.loss / units.residuals**2
    if point.penalty is not None:
        found = _residuals(problem, point, batch)
        given = Constraints(
            *(
                {
                    name: jnp.broadcast_to(kind.get(name, 0.0), r.shape)
                    for name, r in of.items()
                }
                for kind, of in zip(point.penalty, found)
            )
        )
        rho = ravel_pytree(given)[0]
    estimates = multipliers + rho * residuals(theta)
    return units, _equal(problem, point, batch) | (estimates > 0)


def _step(
    problem: Lagrangian,
    point: Point,
    batch: Any,
    theta: jax.Array,
    multipliers: jax.Array,
    active: jax.Array,
    units: _Units,
) -> _Step:
    """Judges a point and takes Newton's step from it."""
    loss, residuals = _functions(problem, point, batch)
    equal = _equal(problem, point, batch)
    values, rows = residuals(theta), jax.jacrev(residuals)(theta)

    def lagrangian(theta: jax.Array) -> jax.Array:
        return loss(theta) + multipliers @ residuals(theta)

    slope = jax.grad(loss)(theta)
    violated = jnp.where(equal, jnp.abs(values), jnp.maximum(values, 0.0))
    negative = jnp.where(equal, 0.0, jnp.maximum(-multipliers, 0.0))
    # Of a pair of multiplier and slack the smaller one, each in its unit.
    slack = jnp.minimum(
        jnp.abs(multipliers) * units.residuals / units.loss,
        jnp.abs(values) / units.residuals,
    )
    errors = [
        jnp.linalg.norm(slope + rows.T @ multipliers) / units.loss,
        jnp.max(violated / units.residuals, initial=0.0),
        jnp.max(negative * units.residuals, initial=0.0) / units.loss,
        jnp.max(jnp.where(equal, 0.0, slack), initial=0.0),
    ]
    _, product = jax.linearize(jax.grad(lagrangian), theta)
    held = jnp.where(active[:, None], rows / units.residuals[:, None], 0.0)
    move, pushes = _within(product, held, active, slope, values / units.residuals)
    after = jnp.where(active, pushes / units.residuals, 0.0)
    moved = residuals(theta + move)
    rho = units.loss / units.residuals**2
    return _Step(
        error=jnp.max(jnp.stack(errors)),
        theta=theta + move,
        multipliers=after,
        active=equal | (after + rho * moved > 0),
    )


def _within(
    product: Any,
    rows: jax.Array,
    active: jax.Array,
    slope: jax.Array,
    values: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """Solves the KKT system by conjugate gradients within the rows' null space."""
    exact = partial(jnp.matmul, precision="highest")
    # Of rows that depend on each other least squares takes the shortest multipliers.
    inverse = jnp.linalg.pinv(exact(rows, rows.T), hermitian=True)

    def onto(vector: jax.Array) -> jax.Array:
        rest = vector
        for _ in range(2):  # twice, since the first leaves roundings
            rest = rest - exact(rows.T, exact(inverse, exact(rows, rest)))
        return rest

    normal = -exact(rows.T, exact(inverse, jnp.where(active, values, 0.0)))
    right = -onto(slope + product(normal))

    # What the projection leaves of the loss's gradient is roundings, not a direction.
    enough = 10 * jnp.finfo(slope.dtype).eps * jnp.linalg.norm(slope)
    tangent = _conjugate(lambda vector: onto(product(vector)), right, enough)
    move = normal + onto(tangent)
    pushes = -exact(inverse, exact(rows, slope + product(move)))
    return move, pushes


def _conjugate(product: Any, right: jax.Array, enough: jax.Array) -> jax.Array:
    """Solves by conjugate gradients, as far as the curvature is positive."""
    # Of the largest curvature, below which a direction is flat but for roundings.
    share = jnp.finfo(right.dtype).eps ** 0.75

    def step(carry: Any) -> Any:
        count, at, rest, along, square, steepest, _ = carry
        image = product(along)
        curvature = jnp.sum(along * image) / jnp.sum(along**2)
        steepest = jnp.maximum(steepest, curvature)
        sound = curvature > share * steepest
        length = jnp.where(sound, square / (curvature * jnp.sum(along**2)), 0.0)
        at, rest = at + length * along, rest - length * image
        after = jnp.sum(rest**2)
        done = ~sound | (after <= enough**2)
        along = rest + after / square * along
        return count + 1, at, rest, along, after, steepest, done

    def goes_on(carry: Any) -> jax.Array:
        return ~carry[-1] & (carry[0] < right.size + _CONJUGATE)

    square = jnp.sum(right**2)
    none = jnp.zeros((), right.dtype)
    start = (0, jnp.zeros_like(right), right, right, square, none, square <= enough**2)
    return jax.lax.while_loop(goes_on, step, start)[1]
