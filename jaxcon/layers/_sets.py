r"""Outputs in convex sets, most by the nearest point.

`affine`, `box_section`, `half_space`, `second_order_cone` and `spectral_ball` have closed
forms and move an output no farther than they must. `oblique_correction` obeys several
inequalities at once in one formula, where their rows are far from parallel; where they are
not, or where an exact nearest point is wanted, that is `polyhedron`.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from optax.projections import projection_halfspace

from jaxcon import projections
from jaxcon.layers._certificates import Function, Gap, Guarantee, Test, holds, within
from jaxcon.layers._networks import Output, at_input, output
from jaxcon.projections._products import product

# What a function of x returns may round differently each time that it is compiled.
TWICE = 4.0

FAR = "An output far above what is left of it adds (m eps)^2 cond(A) of its own terms."
KEPT = "A Lipschitz constant is kept to the rounding of the output before this layer."


def affine(A: Any, b: Any) -> Output:
    r"""The nearest output at which linear equations hold.

    .. math::
        z = y - A^T (A A^T)^{-1} (A y - b(x))

    Guaranteed: A z = b. Costs a QR decomposition of A, once for a whole batch, and two
    products with it for each output. For equations alone; with bounds and one equation
    choose `box_section`, with more inequalities `polyhedron`.

    Args:
        A: one row for each equation, (k, m), of full row rank.
        b: right-hand sides, (k,), in the units of A y; or a function of x that returns
            them.

    Returns:
        Takes and returns (m,).

    Raises:
        ValueError: the shapes do not fit, or a row of A is a combination of those above.

    References:
        Boyd and Vandenberghe, Convex Optimization (2004), section 8.1.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxcon as jc
        >>> balance = jc.layers.affine([[0.0, 2.0]], lambda x: x[:1])
        >>> print(balance(jnp.array([3.0, 1.0]), jnp.array([8.0, 7.0])))
        [3. 4.]
    """
    A = np.asarray(A)
    if A.ndim == 2:  # otherwise the projection says so, as it does of dependent rows
        projections.affine(np.zeros(A.shape[1]), A, np.zeros(A.shape[0]))

    def function(y: jax.Array, x: Any) -> jax.Array:
        y = as_float(y)
        right = parameter("affine", b, x, y)
        return projections.affine(y, jnp.asarray(A, right.dtype), right)

    def gap(z: jax.Array, x: jax.Array) -> Gap:
        right = parameter("affine", b, x, z)
        rows = jnp.asarray(A, right.dtype)
        return worst_row(
            jnp.abs(product(rows, z) - right),
            product(jnp.abs(rows), jnp.abs(z)) + jnp.abs(right),
        )

    # A sum of m products rounds by at most m/2 eps of its terms: the last correction's
    # and the test's. Four more for the entries, their correction and the right-hand side.
    equations = holds(
        "A f(x) = b",
        gap,
        roundings=A.shape[-1] + 4.0 + TWICE * callable(b),
        size="each equation's terms",
        constant=(A, b),
    )
    return output(function, equations, carry=nonexpansive(b), caveat=f"{FAR} {KEPT}")


def box_section(lower: Any, upper: Any, weights: Any = 1.0, total: Any = 1.0) -> Output:
    r"""The nearest output within bounds whose weighted sum has its value.

    .. math::
        z_i = \min(\max(y_i - \mu w_i, l_i), u_i), \qquad w \cdot z = s(x)

    Guaranteed: the bounds, exactly, and the sum. Costs sorting 2 m numbers and about
    :math:`3 \log_2 2m` sums. For budgets, fractions and portfolios; it reaches the bounds,
    where a softmax only comes near.

    Args:
        lower: l, () or (m,), in units of y; may be -inf; or a function of x.
        upper: u, likewise; may be inf.
        weights: w, () or (m,), of any sign; or a function of x.
        total: s, (), in the units of w y; or a function of x.

    Returns:
        Takes and returns (m,). Where functions of x leave no point, the result is NaN
        under jit and a ValueError outside it.

    Raises:
        ValueError: the shapes do not fit, or no point of the box has that sum.

    References:
        Brucker, An O(n) algorithm for quadratic knapsack problems (1984).

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxcon as jc
        >>> shares = jc.layers.box_section(0.0, 0.5)
        >>> print(shares(jnp.array([3.0, 0.25, 0.25])))
        [0.5  0.25 0.25]
    """
    terms = lower, upper, weights, total
    varies = any(map(callable, terms))
    if not varies:
        # Now, not at the first output, if it will be refused.
        known = [np.asarray(term) for term in terms]
        if shapes := [term.shape for term in known[:3] if term.shape]:
            projections.box_section(np.zeros(shapes[0]), *known)

    def function(y: jax.Array, x: Any) -> jax.Array:
        y = as_float(y)
        given = (parameter("box_section", term, x, y) for term in terms)
        return projections.box_section(y, *given)

    def gap(z: jax.Array, x: jax.Array) -> Gap:
        w, s = (parameter("box_section", term, x, z) for term in (weights, total))
        w = jnp.broadcast_to(w, z.shape)
        size = jnp.sum(jnp.abs(w * z)) + jnp.abs(s)
        return Gap(jnp.abs(jnp.sum(w * z) - s), z.size * size)

    # The last pass and the test each round a sum of m products, by at most m/2 eps of
    # its terms; the entries, the scale of the weights and the total add 4.
    sums = holds(
        "w . f(x) = s",
        gap,
        roundings=5.0 + TWICE * varies,
        size="m times the sum's terms",
        constant=(weights, total),
    )
    bounds = within(lower, upper, roundings=TWICE * varies)
    return output(function, bounds, sums, carry=nonexpansive(*terms), caveat=KEPT)


def half_space(a: Any, upper: Any) -> Output:
    r"""The nearest output at which one linear inequality holds.

    .. math::
        z = y - \frac{\max(a \cdot y - u(x), 0)}{\|a\|^2} \, a(x)

    Guaranteed: a . z <= u, in whatever order it is summed up: the bound is brought in by
    what rounding may do, some machine epsilons of its terms. Costs four sums. For one
    inequality; for several `oblique_correction` or `polyhedron`. Where the inequality is
    active the output learns along it only: a single number there learns nothing, so start
    inside.

    Args:
        a: normal, of the shape of y, not zero; or a function of x.
        upper: u, (), in the units of a y, finite; or a function of x.

    Returns:
        Takes and returns (m,), or () where a is ().

    Raises:
        ValueError: the shapes do not fit, a is zero or its square leaves the dtype's
            range, or u is not finite. Where functions of x return such, the result is NaN.

    References:
        Boyd and Vandenberghe, Convex Optimization (2004), section 8.1.1.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxcon as jc
        >>> below = jc.layers.half_space(1.0, lambda x: x[0])
        >>> print(below(jnp.array(0.5), jnp.array([2.0])))
        0.5
        >>> bool(below(jnp.array(3.0), jnp.array([2.0])) <= 2.0)
        True
    """
    varies = callable(a) or callable(upper)
    square = 1.0 if callable(a) else np.sum(np.square(np.asarray(a, np.float32)))
    if not 0 < square < np.inf:
        raise ValueError(
            f"half_space needs a normal whose square is positive and finite, got {a}"
        )
    if not callable(upper) and not (np.shape(upper) == () and np.isfinite(upper)):
        raise ValueError(f"half_space needs one finite upper, got {upper}")

    def terms(z: jax.Array, x: Any) -> tuple[jax.Array, jax.Array, jax.Array]:
        # In the output's own dtype: the margin is of its rounding.
        normal, bound = (
            parameter("half_space", term, x, z).astype(z.dtype) for term in (a, upper)
        )
        if normal.shape != z.shape or bound.shape != ():
            raise ValueError(
                "half_space needs a of the shape of the output and one upper, got "
                f"a {normal.shape}, upper {bound.shape} and the output {z.shape}"
            )
        return normal, bound, jnp.sum(jnp.abs(normal * z)) + jnp.abs(bound)

    def function(y: jax.Array, x: Any) -> jax.Array:
        y = as_float(y)
        normal, bound, far = terms(y, x)
        # Once more: the rounding of a long first move would be large beside its end.
        near = projection_halfspace(y, normal, bound)
        # Of m terms T: the sum a . near rounds by m/2 eps T, its excess over the bound,
        # the division and the move by m/2 + 3 more, and the result's own sum, whose terms
        # are at most 2 T, by m. One for the bound as brought in. And the compiler may
        # compute `near` twice, in two orders, which differ by m + 3 eps of y's terms.
        size = (2 * y.size + 5) * terms(near, x)[2] + (y.size + 3) * far
        margin = jnp.finfo(y.dtype).eps * jax.lax.stop_gradient(size)
        return projection_halfspace(near, normal, bound - margin)

    def gap(z: jax.Array, x: jax.Array) -> Gap:
        normal, bound, size = terms(z, x)
        return Gap(jnp.sum(normal * z) - bound, size)

    below = holds(
        "a . f(x) <= u",
        gap,
        roundings=TWICE * varies,
        size="the inequality's terms",
        constant=(a, upper),
    )
    return output(function, below, carry=nonexpansive(a, upper), caveat=KEPT)


def second_order_cone() -> Output:
    r"""The nearest output in the second-order cone.

    .. math::
        \sqrt{z_1^2 + \dots + z_{m-1}^2} \le z_m

    Guaranteed: that; an output that is moved ends some machine epsilons higher than the
    nearest point, so that rounding undoes nothing. Costs two norms. For a vector and the
    bound of its length, both learned: forces under friction, a mean and its spread.

    Returns:
        Takes and returns (m,), m >= 2: the axes, then the height.

    References:
        Boyd and Parikh, Proximal Algorithms (2013), section 6.3.2.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxcon as jc
        >>> cone = jc.layers.second_order_cone()
        >>> print(cone(jnp.array([0.0, 1.0, 2.0])))
        [0. 1. 2.]
        >>> y, t = jnp.split(cone(jnp.array([3.0, 4.0, 2.0])), [2])
        >>> bool(jnp.linalg.norm(y) <= t[0])
        True
    """

    def function(y: jax.Array, x: Any) -> jax.Array:
        del x
        if jnp.ndim(y) != 1 or jnp.size(y) < 2:
            raise ValueError(
                "second_order_cone takes one output of shape (m,), m >= 2, got "
                f"{jnp.shape(y)}"
            )
        axes, height = projections.second_order_cone(y[:-1], y[-1])
        # Near the polar cone both are small differences, which the compiler may compute
        # twice, in two orders: then they differ by two norms' rounding and a few eps.
        size = jax.lax.stop_gradient(jnp.sum(jnp.abs(y[:-1])))
        margin = (y.size + 8) * jnp.finfo(height.dtype).eps * size
        return jnp.append(axes, height + jnp.where(height == y[-1], 0.0, margin))

    def gap(z: jax.Array, x: jax.Array) -> Gap:
        del x
        # Scaled, or squares would leave the dtype's range.
        size = jnp.max(jnp.abs(z))
        length = size * jnp.linalg.norm(z[:-1] / jnp.where(size > 0, size, 1.0))
        return Gap(length - z[-1], z.size * size)

    # A norm of m terms rounds by at most m/4 + 2 eps, the layer's and the test's; the
    # division and the product by one together; all of it per entry.
    inside = holds(
        "|axes of f(x)| <= its height", gap, roundings=3.0, size="m times the height"
    )
    return output(function, inside, carry=nonexpansive(), caveat=KEPT)


def spectral_ball(shape: tuple[int, int], radius: Any) -> Output:
    r"""The nearest matrix of at most that spectral norm.

    .. math::
        Z = U \min(\Sigma, r(x)) V^T, \qquad Y = U \Sigma V^T

    Guaranteed: no singular value of Z exceeds r, so a linear map z -> Z z lengthens
    nothing by more than r. Costs one singular value decomposition for each output: for
    small matrices that depend on x. For a network's own weights, see the Lipschitz
    networks.

    Args:
        shape: (m, n), of the matrix.
        radius: r >= 0, (), in units of y; or a function of x.

    Returns:
        Takes (m n,), row by row, or (m, n); returns (m, n).

    Raises:
        ValueError: the shapes do not fit or the radius is negative.

    References:
        Lewis and Sendov, Nonsmooth analysis of singular values, part I (2005).

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxcon as jc
        >>> ball = jc.layers.spectral_ball((2, 2), 1.0)
        >>> print(ball(jnp.array([3.0, 0.0, 0.0, 0.5])))
        [[1.  0. ]
         [0.  0.5]]
    """
    if len(shape) != 2 or min(shape) < 1:
        raise ValueError(f"spectral_ball needs the shape (m, n), got {shape}")
    if not callable(radius):
        projections.spectral_ball(np.zeros(shape), radius)

    def function(y: jax.Array, x: Any) -> jax.Array:
        y = as_float(y)
        if y.shape not in (shape, (shape[0] * shape[1],)):
            raise ValueError(
                f"spectral_ball makes {shape} of {shape[0] * shape[1]} outputs, got "
                f"{y.shape}"
            )
        bound = parameter("spectral_ball", radius, x, y)
        return projections.spectral_ball(y.reshape(shape), bound)

    def gap(z: jax.Array, x: jax.Array) -> Gap:
        bound = parameter("spectral_ball", radius, x, z)
        largest = jnp.linalg.svd(z, compute_uv=False)[0]
        return Gap(largest - bound, jnp.maximum(largest, bound))

    # U and V are products of at most m + n reflections, each orthogonal to some eps; the
    # product of p = min(m, n) terms rounds by p/2 eps of |U| r |V|, at most p r. Twice for
    # the singular values that the test takes.
    roundings = 4.0 * sum(shape) + min(shape) ** 2 / 2
    inside = holds(
        "|f(x)| <= r, the spectral norm",
        gap,
        roundings=roundings + TWICE * callable(radius),
        size="the radius",
        constant=radius,
    )
    return output(function, inside, carry=nonexpansive(radius), caveat=KEPT)


@dataclass(frozen=True, eq=False)
class ObliqueCorrection(Output):
    """An output of `oblique_correction`, which also tells how oblique it is.

    Attributes:
        condition: x -> (), the condition number of A(x) with rows of length 1.
    """

    condition: Callable[[Any], jax.Array] = lambda x: jnp.ones(())


def oblique_correction(
    A: Any, lower: Any, upper: Any, *, max_condition: float = 10.0
) -> ObliqueCorrection:
    r"""An output at which several linear inequalities hold, in one formula.

    .. math::
        z = y + A^+ \left( \max(l - A y, 0) - \max(A y - u, 0) \right),
        \qquad l(x) \le A(x) z \le u(x)

    Guaranteed: that, where the rows of A are independent. Outputs that obey are left
    alone; l = u makes an equation. Costs a QR decomposition of A, for each output where A
    depends on x, and two products with it.

    It is no nearest point: it corrects each broken row without moving the others, so
    it moves obliquely where rows are not orthogonal, farther than it must. How much is
    bounded by the condition number of A with rows of length 1: every point that obeys
    differs from y by at least :math:`\|r\| / \sigma_{\max}(A)`, r being what the rows are
    broken by, and this one by at most :math:`\|r\| / \sigma_{\min}(A)`. Choose it for a
    few rows that are far from parallel; otherwise `polyhedron`, which iterates.

    Args:
        A: one row for each inequality, (k, m), k <= m; or a function of x.
        lower: l, (k,), in the units of A y; may be -inf; or a function of x.
        upper: u, likewise; may be inf.
        max_condition: refuse a constant A of a larger condition number. 10 lets it move
            up to ten times as far as needed, one digit of the output: two rows 11 degrees
            apart, or random rows half as many as the outputs, of condition 6.

    Returns:
        Takes and returns (m,); ``.condition(x)`` tells the condition number where A is
        a function. Where functions of x leave no point, the result is NaN; where A's
        rows are dependent, it is NaN under jit and a ValueError outside it.

    Raises:
        ValueError: the shapes do not fit, lower exceeds upper, or A's condition number is
            above `max_condition`.

    References:
        Min and Azizan, HardNet: hard-constrained neural networks with universal
        approximation guarantees (2024), who call it HardNet-Aff.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxcon as jc
        >>> ordered = jc.layers.oblique_correction(
        ...     [[1.0, -1.0]], [-jnp.inf], lambda x: x[:1]
        ... )
        >>> print(ordered(jnp.array([3.0, 1.0]), jnp.array([1.0])))
        [2.5 1.5]
    """
    terms = A, lower, upper
    if not callable(A):
        if np.ndim(A) != 2 or not 1 <= np.shape(A)[0] <= np.shape(A)[1]:
            raise ValueError(
                f"oblique_correction needs A (k, m), 1 <= k <= m, got {np.shape(A)}; for "
                "more rows than outputs use polyhedron"
            )
        worst = float(_condition(np, np.asarray(A, float)))
        if not worst <= max_condition:
            raise ValueError(
                f"oblique_correction: A has condition number {worst:.4g}, more than "
                f"{max_condition:g}: it might move an output {worst:.4g} times as far as "
                "needed; use polyhedron"
            )
    if not (callable(lower) or callable(upper)):
        low, high = np.asarray(lower), np.asarray(upper)
        if low.shape != high.shape or not (low <= high).all():
            raise ValueError(
                "oblique_correction needs lower <= upper, one of each for each row, got "
                f"{lower} and {upper}"
            )

    def at(x: Any, y: jax.Array) -> list[jax.Array]:
        return [parameter("oblique_correction", term, x, y) for term in terms]

    def condition(x: Any = None) -> jax.Array:
        return _condition(jnp, parameter("oblique_correction", A, x, jnp.zeros(())))

    def function(y: jax.Array, x: Any) -> jax.Array:
        y = as_float(y)
        rows, low, high = at(x, y)
        k, m = len(low), y.size
        if (y.shape, rows.shape, low.shape, high.shape) != ((m,), (k, m), (k,), (k,)):
            raise ValueError(
                "oblique_correction needs y (m,), A (k, m), lower and upper (k,), got "
                f"{y.shape}, {rows.shape}, {low.shape} and {high.shape}"
            )
        # The nearest point at which each row has the nearest value allowed: rows are
        # independent, so that one exists, and those that obey keep their values.
        held = jnp.clip(product(rows, y), low, high)
        return projections.affine(y, rows, jnp.where(low <= high, held, jnp.nan))

    def gap(z: jax.Array, x: jax.Array) -> Gap:
        rows, low, high = at(x, z)
        sums = product(rows, z)
        size = jnp.linalg.norm(rows, axis=1) * jnp.linalg.norm(z)
        excess = jnp.maximum(low - sums, sums - high)
        return worst_row(excess, z.size * condition(x) * size)

    # As for `affine`. The solve errs by the condition number times as much, but squared:
    # only the second of two corrections counts, so once covers moves far beyond z.
    inequalities = holds(
        "l <= A f(x) <= u",
        gap,
        roundings=5.0 + TWICE * any(map(callable, terms)),
        size="m times the condition number times |A row| |z|",
        constant=terms,
    )
    made = output(function, inequalities, caveat=FAR)
    return ObliqueCorrection(**vars(made), condition=condition)


def parameter(layer: str, given: Any, x: Any, y: jax.Array) -> jax.Array:
    """A parameter of a layer at x, in y's dtype or in float32 where that is narrower.

    The projections compute no narrower, so what they promise is about such parameters.

    Args:
        layer: its name.
        given: a number, an array, or a function of x.
        x: (d,), or None where the layer is called without it.
        y: the output that it belongs to.

    Returns:
        The parameter.

    Raises:
        ValueError: x is needed and not given.
    """
    dtype = jnp.result_type(y.dtype, jnp.float32)
    return jnp.asarray(at_input(layer, given, x), dtype)


def as_float(y: Any) -> jax.Array:
    """y, in the default float where it is of integers: its dtype is the parameters'."""
    return jnp.asarray(y, jnp.result_type(y, float))


def _condition(xp: Any, A: Any) -> Any:
    """The condition number of A (k, m) with rows of length 1; `xp` is numpy or its like.

    Longer rows change no correction. Dependent rows have an infinite one.
    """
    lengths = xp.linalg.norm(A, axis=1)
    rows = A / xp.where(lengths > 0, lengths, 1.0)[:, None]
    values = xp.linalg.svd(rows, compute_uv=False)
    least = xp.where(values[-1] > 0, values[-1], 1.0)
    return xp.where(values[-1] > 0, values[0] / least, xp.inf)


def worst_row(excess: jax.Array, size: jax.Array) -> Gap:
    """Of several gaps the one that is largest for its size."""
    tiny = jnp.finfo(size.dtype).tiny
    worst = jnp.argmax(excess / (size + tiny))  # which takes NaN for the largest
    return Gap(excess[worst], size[worst])


def nonexpansive(*parameters: Any) -> Callable[[Guarantee], Guarantee | None]:
    """What the nearest point of a convex set keeps, if it is the same set for all x.

    Two nearest points are no farther apart than the two outputs were.
    """

    def carry(guarantee: Guarantee) -> Guarantee | None:
        if guarantee.kind != "lipschitz" or any(map(callable, parameters)):
            return None
        tests = {name: _of_entries(test) for name, test in guarantee.tests.items()}
        # The derivative of a projection is applied in sums of m terms.
        roundings = guarantee.roundings + 5.0
        size = f"m times {guarantee.size}"
        return replace(guarantee, tests=tests, roundings=roundings, size=size)

    return carry


def _of_entries(test: Test) -> Test:
    """A test of a function's m entries, which may make a matrix, to m times its size."""

    def flat(f: Function, x: jax.Array, y: jax.Array) -> Gap:
        gap = test(lambda point: jnp.ravel(f(point)), x, y)
        return Gap(gap.excess, jnp.size(f(x)) * gap.size)

    return flat
