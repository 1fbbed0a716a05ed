"""Projection onto a polyhedron."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.scipy.linalg import cho_solve

from jaxcon._checks import check_array, check_number
from jaxcon.projections._affine import check_independent, onto_equations, product
from jaxcon.projections._box_section import check_bounds
from jaxcon.projections._emptiness import contradiction

# Parameters of the splitting, for rows of length one. They affect how soon the active
# rows are found, but not the result.
_PENALTY, _RELAXATION, _MOVES = 10.0, 1.7, 50

# The rounding of a long first move may be large beside a small point, so the result is
# projected again. Three passes leave no more than the point's own rounding, up to a move
# 1 / eps^2 times as long.
_PASSES = 3


class Projection(NamedTuple):
    """Nearest point, and the largest violation there.

    Attributes:
        point: P(y), (m,).
        residual: the largest violation of any row at that point, in the units of b, lower
            and upper, ().
    """

    point: jax.Array
    residual: jax.Array


def polyhedron(
    y: Any, A: Any, b: Any, C: Any, lower: Any, upper: Any, *, iterations: int = 200
) -> Projection:
    r"""Returns the nearest point at which linear equations and inequalities hold.

    .. math::
        P(y) = \operatorname{argmin}_z \tfrac12 \|z - y\|^2
        \quad \text{subject to} \quad A z = b, \quad l \le C z \le u

    Fifty moves of Douglas-Rachford splitting estimate which rows of C are active; an
    active set method of the dual corrects the estimate, one row at a time; the point is
    then the projection onto the active rows, a linear system. So it is exact to the
    rounding of y, not the last of many iterates, and the derivative of that system gives
    the derivative of P in all six arguments: no iteration is unrolled. The derivative in y
    is the projection onto the null space of A and of the active rows. Where two faces meet
    P has a kink, and the derivative is that of one of them.

    Where the active rows were found, each inequality holds to :math:`m + 10` machine
    epsilons of its terms, :math:`\max(\|C_i\| \|P(y)\|, |l_i|, |u_i|)` over its finite
    bounds, though the rounding of y may be far larger: its remainder is projected
    again. The equations hold to rounding always. Where :math:`\epsilon \|y\|` reaches the
    size of the set, the point is still feasible, but another may be nearer; where
    :math:`\epsilon^2 \|y\|` does, it may be infeasible. If the nearest point is zero, as a
    cone's apex, the roundings in its place are replaced by zero.

    The residual is large if a traced set is empty, if more than `iterations` changes
    would have been needed, or if rows are too nearly dependent for the precision. Rows
    are compared through their products, which square their condition number: two rows
    are distinguished from an angle of :math:`2 \sqrt{p \epsilon}` on (p = 50: 5e-3 in
    float32, 2e-7 in float64). Use float64 for closer ones.

    The cost is p² m operations, shared by a batch whose A and C are not batched, and for
    each y 50 p² of the splitting and p³ / 3 for every change, often two or three in all.
    Use `affine` if there are no inequalities, and `optax.projections` for a box, a
    simplex, a ball or one half-space.

    Args:
        y: the point to project, (m,).
        A: one row for each equation, (k, m), of full row rank; (0, m) for none.
        b: right-hand sides, (k,), in the units of A y.
        C: one row for each inequality, (p, m), p >= 1.
        lower: l (p,), in the units of C y; -inf for none.
        upper: u (p,), in the units of C y; inf for none.
        iterations: the most changes of the active rows, in each of three passes.

    Returns:
        A `Projection`, in float32 or wider.

    Raises:
        TypeError: an argument is no array of numbers.
        ValueError: the shapes do not fit, `affine` refuses A, or no point obeys all rows.
            If A, b, C, lower or upper are traced and their values are not known, or A and
            C have more than 100,000 entries, an empty set has a large residual instead.

    References:
        Goldfarb and Idnani, A numerically stable dual method for solving strictly convex
        quadratic programs, Mathematical Programming 27 (1983). Lions and Mercier,
        Splitting algorithms for the sum of two nonlinear operators, SIAM Journal on
        Numerical Analysis 16 (1979).

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxcon as jc
        >>> A, b = jnp.ones((1, 3)), jnp.ones(1)                   # they add up to 1
        >>> C, lower, upper = jnp.eye(3), jnp.zeros(3), jnp.full(3, 0.5)
        >>> y = jnp.array([2.0, 0.3, 0.2])
        >>> nearest = jc.projections.polyhedron(y, A, b, C, lower, upper)
        >>> print([f"{entry:.3f}" for entry in nearest.point], nearest.residual < 1e-6)
        ['0.500', '0.300', '0.200'] True
    """
    check_number(
        "polyhedron: iterations", iterations, least=1, most=2**31 - 1, whole=True
    )
    y, A, b, C, lower, upper = checked("polyhedron", y, A, b, C, lower, upper)
    k = b.size

    def onto(y: jax.Array) -> jax.Array:
        return onto_equations(y, A, b) if k else y

    rows = _reduced(A, C, lower, upper)
    fixed = jax.lax.stop_gradient(rows)

    start = onto(y)
    values = product(rows.unit, start)
    side = _split(fixed, jax.lax.stop_gradient(values))

    def project(carry: Any, _: Any) -> tuple[Any, Any]:
        y, start, side = carry
        values = product(fixed.unit, start)
        size = jnp.linalg.norm(y) + jnp.linalg.norm(start)
        found = _search(fixed, values, side, size, iterations)
        point = start - product(fixed.free.T, found.multipliers)
        start = onto(point)
        side = _violated(fixed, product(fixed.unit, start))
        return (point, start, side), (found.side, point)

    # The later passes change no derivative.
    before = jax.lax.stop_gradient((y, start, side))
    (found, _, _), (sides, points) = jax.lax.scan(project, before, length=_PASSES)
    # If the last pass still shrank the point, it is zero to the rounding of y.
    length, last, far = map(jnp.linalg.norm, (found, points[-2], before[0]))
    noise = (length < 0.99 * last) & (length <= jnp.finfo(found.dtype).eps * far)
    zero_obeys = jnp.all(b == 0) & jnp.all((lower <= 0) & (upper >= 0))
    found = jnp.where(noise & zero_obeys, 0.0, found)
    factor = _factor(fixed, sides[0])
    multipliers = _multipliers(rows, values, sides[0], factor)
    point = start - product(rows.free.T, multipliers)
    # The difference is zero. It is added to `found`, because `point` has y's rounding.
    point = jax.lax.stop_gradient(found) + (point - jax.lax.stop_gradient(point))
    equations = jnp.abs(product(A, point) - b)
    values = product(C, point)
    inequalities = jnp.maximum(lower - values, values - upper)
    largest = jnp.max(jnp.concatenate([equations, inequalities]))
    return Projection(point, jnp.maximum(largest, 0.0))


def checked(
    name: str, y: Any, A: Any, b: Any, C: Any, lower: Any, upper: Any
) -> tuple[jax.Array, ...]:
    """Refuses arrays of the wrong shape, dependent equations and an empty set.

    Args:
        name: of the caller.
        y: as `polyhedron` takes them.
        A: likewise.
        b: likewise.
        C: likewise.
        lower: likewise.
        upper: likewise.

    Returns:
        All six, of one dtype.

    Raises:
        TypeError: an argument is no array of numbers.
        ValueError: the shapes do not fit, a row of A is a combination of those above, or
            the set is empty; what is traced is not compared.
    """
    arrays = [
        check_array(f"{name}: {word}", given, "of any shape", finite=finite)
        for word, given, finite in (
            ("y", y, None),
            ("A", A, True),
            ("b", b, True),
            ("C", C, True),
            ("lower", lower, False),
            ("upper", upper, False),
        )
    ]
    m, k, p = arrays[0].size, arrays[2].size, arrays[4].size
    shapes = [array.shape for array in arrays]
    if shapes != [(m,), (k, m), (k,), (p, m), (p,), (p,)]:
        raise ValueError(
            f"{name} needs y (m,), A (k, m), b (k,), C (p, m), lower (p,) and upper "
            f"(p,), got {', '.join(map(str, shapes))}; use jax.vmap for many y"
        )
    if p == 0:
        raise ValueError(f"{name} got no inequality; use affine for equations alone")
    dtype = jnp.result_type(*arrays, jnp.float32)
    known = arrays[1:]
    if k:
        check_independent(name, known[0], known[1], dtype)
    if not any(isinstance(array, Tracer) for array in known):
        check_bounds(name, *map(np.asarray, known[3:]))
        eps = float(jnp.finfo(dtype).eps)
        rows = contradiction(known[0], known[1], known[2], known[3], known[4], eps)
        if rows:
            raise ValueError(f"{name}: the set is empty, no point obeys {rows}")
    return tuple(jnp.asarray(array, dtype) for array in arrays)


class _Rows(NamedTuple):
    """Inequalities, their rows scaled so that their free parts have length one.

    The point is y_0 - F^T nu, where y_0 satisfies the equations and nu are the multipliers;
    the rows' values there are V y_0 - F F^T nu.
    """

    unit: jax.Array  # V (p, m): C, scaled
    free: jax.Array  # F (p, m): V without its part along the rows of A
    gram: jax.Array  # F F^T, (p, p)
    lower: jax.Array  # (p,), scaled
    upper: jax.Array  # (p,), scaled
    reach: jax.Array  # (p,), length of V's rows

    def excess(self, values: jax.Array) -> jax.Array:
        """Returns by how much values (p,) exceed their bounds; negative inside, (p,)."""
        return jnp.maximum(self.lower - values, values - self.upper)

    def side(self, values: jax.Array) -> jax.Array:
        """Returns 1 where values (p,) are above their bounds, -1 below, 0 between, (p,)."""
        above, below = values > self.upper, values < self.lower
        return jnp.where(above, 1.0, jnp.where(below, -1.0, 0.0)).astype(values.dtype)


def _reduced(A: jax.Array, C: jax.Array, lower: jax.Array, upper: jax.Array) -> _Rows:
    """Returns the inequalities, reduced to the null space of the equations."""
    m = C.shape[1]
    # A root has no slope at zero: it would make all rows NaN.
    square = jnp.sum(C**2, axis=1)
    length = jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1.0)), 1.0)
    unit = free = C / length[:, None]
    q = jnp.linalg.qr(A.T)[0]
    for _ in range(2):  # once leaves a trace of A in a row that is almost in its span
        free -= product(product(free, q), q.T)
    # A row in the span of A has a constant value.
    left = jnp.sum(free**2, axis=1)
    moves = left > (4 * m * jnp.finfo(C.dtype).eps) ** 2
    scale = jnp.where(moves, jnp.sqrt(jnp.where(moves, left, 1.0)), 1.0)
    free = jnp.where(moves[:, None], free, 0.0) / scale[:, None]
    return _Rows(
        unit / scale[:, None],
        free,
        product(free, free.T),
        _scaled(lower, length * scale),
        _scaled(upper, length * scale),
        1 / scale,
    )


def _scaled(bound: jax.Array, scale: jax.Array) -> jax.Array:
    """Divides a bound by a scale, (p,), without a NaN slope where it is infinite."""
    finite = jnp.isfinite(bound)
    return jnp.where(finite, jnp.where(finite, bound, 0.0) / scale, bound)


def _split(rows: _Rows, values: jax.Array) -> jax.Array:
    """Finds the side at which each row is probably active, (p,), by Douglas-Rachford.

    It alternates between the bounds and the values that a short move from y_0 reaches.
    """
    p = len(values)
    gram = _PENALTY * rows.gram
    reached = product(gram, jnp.linalg.inv(gram + jnp.eye(p, dtype=gram.dtype)))

    def move(_: Any, t: jax.Array) -> jax.Array:
        inside = jnp.clip(t, rows.lower, rows.upper)
        wanted = 2 * inside - t
        return t + _RELAXATION * (values + product(reached, wanted - values) - inside)

    return _violated(rows, jax.lax.fori_loop(0, _MOVES, move, values))


def _violated(rows: _Rows, values: jax.Array) -> jax.Array:
    """Returns the side at which independent rows violate their bounds, (p,)."""
    # Rows that depend on others with larger violations are left out.
    order = jnp.argsort(-rows.excess(values))
    side = rows.side(values)[order]
    sorted_rows = rows._replace(gram=rows.gram[order][:, order])
    pivots = jnp.diagonal(_factor(sorted_rows, side)) ** 2
    side = jnp.where(_dependent(pivots, len(side)), 0.0, side)
    return jnp.zeros_like(side).at[order].set(side)


def _factor(rows: _Rows, side: jax.Array) -> jax.Array:
    """Factors the products of the active rows (Cholesky); inactive ones are units."""
    on = side != 0
    among = on[:, None] & on[None, :]
    # The shift keeps dependent rows from a NaN; refinement removes its effect.
    shift = jnp.where(on, len(on) * jnp.finfo(side.dtype).eps, 1.0)
    return jnp.linalg.cholesky(jnp.where(among, rows.gram, 0.0) + jnp.diag(shift))


def _dependent(left: jax.Array, p: int) -> jax.Array:
    """Returns whether a row, of which others leave that squared length, depends on them."""
    # True also if rounding made the factor fail: all of it is NaN then.
    return ~(left > 4 * p * jnp.finfo(left.dtype).eps)


def _multipliers(
    rows: _Rows, values: jax.Array, side: jax.Array, factor: jax.Array
) -> jax.Array:
    """Solves for the active rows' multipliers, (p,), differentiable in the rows."""
    on = side != 0
    bound = jnp.where(side > 0, rows.upper, rows.lower)
    excess = jnp.where(on, values - bound, 0.0)

    def gram(nu: jax.Array) -> jax.Array:
        moved = product(rows.free.T, jnp.where(on, nu, 0.0))
        return jnp.where(on, product(rows.free, moved), nu)

    def solve(gram: Any, excess: jax.Array) -> jax.Array:
        def refine(_: Any, nu: jax.Array) -> jax.Array:
            return nu + cho_solve((factor, True), excess - gram(nu))

        return jax.lax.fori_loop(0, 3, refine, jnp.zeros_like(excess))

    return jax.lax.custom_linear_solve(gram, excess, solve, symmetric=True)


class _State(NamedTuple):
    """State of the search for the active rows."""

    side: jax.Array  # (p,): 1 at a row's upper bound, -1 at its lower, 0 inactive
    multipliers: jax.Array  # nu (p,)
    entering: jax.Array  # the row whose multiplier is growing; p for none
    changes: jax.Array
    over: jax.Array


def _search(
    rows: _Rows, values: jax.Array, side: jax.Array, size: jax.Array, most: Any
) -> _State:
    """Finds the rows active at the nearest point, by the dual active set method.

    Multipliers of the wrong sign are dropped until there are none. Then the row that is
    worst violated enters: its multiplier grows until its bound holds, and a row whose
    multiplier falls to zero on the way leaves. Every entry increases the distance to the
    point, so no set occurs twice.
    """
    p = len(values)
    # The usual rounding of sums of products; its bound, m / 2 times as much, is rare.
    rounding = 4 * jnp.finfo(values.dtype).eps

    def unsettled(state: _State) -> jax.Array:
        return ~state.over & (state.changes < most)

    def change(state: _State) -> _State:
        side, on = state.side, state.side != 0
        factor = _factor(rows, side)
        between = state.entering == p
        fresh = _multipliers(rows, values, side, factor)
        nu = jnp.where(between, fresh, state.multipliers)
        wrong = between & (nu * side < 0)

        move = product(rows.free.T, nu)
        here = values - product(rows.free, move)
        excess = jnp.where(on, -jnp.inf, rows.excess(here))
        tolerance = rounding * (size + jnp.linalg.norm(move)) * rows.reach
        row = jnp.where(between, jnp.argmax(excess - tolerance), state.entering)
        settled = between & (excess[row] <= tolerance[row])

        # The other multipliers' response to the entering one, and how far it grows.
        entering = jnp.arange(p) == row
        sign = rows.side(here)[row]
        column = jnp.where(on, rows.gram[row], 0.0)
        response = -sign * cho_solve((factor, True), column)
        left = rows.gram[row, row] + sign * jnp.sum(response * column)
        full = jnp.where(_dependent(left, p), jnp.inf, excess[row] / left)
        fall = -side * response
        room = jnp.where(fall > 0, jnp.maximum(nu * side, 0.0) / fall, jnp.inf)
        leaving = jnp.arange(p) == jnp.argmin(room)
        blocked = room.min() < full
        length = jnp.minimum(room.min(), full)

        drop = wrong.any()
        over = ~drop & (settled | ~jnp.isfinite(length))
        after = jnp.where(
            blocked, jnp.where(leaving, 0.0, side), jnp.where(entering, sign, side)
        )
        grown = nu + length * (response + sign * entering)
        return _State(
            jnp.where(drop, jnp.where(wrong, 0.0, side), jnp.where(over, side, after)),
            # If rows are dropped no multiplier has grown; the last change may drop rows.
            jnp.where(over | drop, nu, jnp.where(blocked & leaving, 0.0, grown)),
            jnp.where(drop | ~blocked, p, row),
            state.changes + 1,
            over,
        )

    nothing = jnp.zeros_like(values)
    none, start, searching = jnp.array(p), jnp.array(0), jnp.array(False)
    state = _State(side, nothing, none, start, searching)
    return jax.lax.while_loop(unsettled, change, state)
