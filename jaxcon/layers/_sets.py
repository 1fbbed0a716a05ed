"""Output layers that project onto convex sets with closed forms.

`affine`, `box_section`, `half_space`, `second_order_cone` and `spectral_ball` return the
nearest point of their set, so that an output is moved no farther than it must be.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from optax.projections import projection_halfspace

from jaxcon import projections
from jaxcon._checks import check_array, check_number, described
from jaxcon.layers._certificates import TWICE, Gap, holds, within
from jaxcon.layers._nearest import (
    FAR,
    KEPT,
    nonexpansive,
    parameter,
    worst_row,
)
from jaxcon.layers._networks import Output, check_term, floating, output
from jaxcon.projections import product
from jaxcon.projections._affine import check_independent
from jaxcon.projections._box_section import check_bounds, reach

MOST_SIDE = 10_000  # of a matrix, whose singular values are needed


def affine(A: Any, b: Any) -> Output:
    r"""Projects outputs onto linear equations: the nearest point.

    .. math::
        z = y - A^T (A A^T)^{-1} (A y - b(x))

    It guarantees A z = b. It costs a QR decomposition of A, once for a whole batch, and two
    products with it for each output. It is for equations alone; with bounds and one
    equation choose `box_section`, with more inequalities `polyhedron`.

    Args:
        A: one row for each equation, (k, m), of full row rank.
        b: right-hand sides, (k,), in the units of A y; or a function of x that returns
            them.

    Returns:
        A layer of y (m,) that returns (m,).

    Raises:
        TypeError: A is no array of numbers, or b neither that nor a function.
        ValueError: the shapes do not fit, or a row of A is a combination of those above.

    References:
        Boyd and Vandenberghe, Convex Optimization (2004), section 8.1.

    Example:
        >>> import jax.numpy as jnp, jaxcon as jc
        >>> balance = jc.layers.affine([[0.0, 2.0]], lambda x: x[:1])
        >>> print(balance(jnp.array([3.0, 1.0]), jnp.array([8.0, 7.0])))
        [3. 4.]
    """
    A = check_array("affine: A", A, "(k, m)")
    b = check_term("affine: b", b, "(k,)")
    k, m = A.shape
    if not 1 <= k <= m or not (callable(b) or b.shape == (k,)):
        raise ValueError(
            "affine needs A (k, m), 1 <= k <= m, and b (k,), got "
            f"{A.shape} and {'a function' if callable(b) else b.shape}"
        )
    right = None if callable(b) else b
    check_independent("affine", A, right, jnp.result_type(float))

    def function(y: jax.Array, x: Any) -> jax.Array:
        y = floating("affine: y", y)
        rows, right = (parameter("affine", term, x, y) for term in (A, b))
        return projections.affine(y, rows, right)

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
    r"""Projects outputs onto a box section: bounds, and a value of a weighted sum.

    .. math::
        z_i = \min(\max(y_i - \mu w_i, l_i), u_i), \qquad w \cdot z = s(x)

    It guarantees the bounds, exactly, and the sum. It costs sorting 2 m numbers and about
    :math:`3 \log_2 2m` sums. It is for budgets, fractions and portfolios, and reaches the
    bounds, which a softmax only approaches.

    Args:
        lower: l, () or (m,), in units of y; may be -inf; or a function of x.
        upper: u, likewise; may be inf.
        weights: w, () or (m,), of any sign; or a function of x.
        total: s, (), in the units of w y; or a function of x.

    Returns:
        A layer of y (m,) that returns (m,). Where functions of x leave no point, the
        result is NaN under jit and a ValueError outside it.

    Raises:
        TypeError: an argument is neither numbers nor a function.
        ValueError: the shapes do not fit, or no point of the box has that sum; where all
            four are one number each, the latter is found at the first output.

    References:
        Brucker, An O(n) algorithm for quadratic knapsack problems (1984).

    Example:
        >>> import jax.numpy as jnp, jaxcon as jc
        >>> shares = jc.layers.box_section(0.0, 0.5)
        >>> print(shares(jnp.array([3.0, 0.25, 0.25])))
        [0.5  0.25 0.25]
    """
    lower, upper = (
        check_term(f"box_section: {name}", given, "() or (m,)", finite=False)
        for name, given in (("lower", lower), ("upper", upper))
    )
    weights = check_term("box_section: weights", weights, "() or (m,)")
    total = check_term("box_section: total", total, "()")
    terms = lower, upper, weights, total
    varies = any(map(callable, terms))
    if not varies:
        # Wrong values are refused now, not at the first output.
        if shapes := [term.shape for term in terms[:3] if term.shape]:
            projections.box_section(np.zeros(shapes[0]), *terms)
        elif not any(isinstance(bound, Tracer) for bound in (lower, upper)):
            check_bounds("box_section", lower[None], upper[None])
            _check_some_size(*terms)

    def function(y: jax.Array, x: Any) -> jax.Array:
        y = floating("box_section: y", y)
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


def _check_some_size(lower: Any, upper: Any, weights: Any, total: Any) -> None:
    """Refuses a box section that is empty for any number of equal entries."""
    if any(isinstance(term, Tracer) for term in (weights, total)):
        return
    least, most = reach(np, lower[None], upper[None], weights[None])
    if (least >= 0 and total < least) or (most <= 0 and total > most):
        raise ValueError(
            "box_section: the set is empty, between lower and upper each entry adds "
            f"{least:g} to {most:g} to the sum with these weights, and total is {total:g}"
        )


def half_space(a: Any, upper: Any) -> Output:
    r"""Projects outputs onto a half-space, one linear inequality: the nearest point.

    .. math::
        z = y - \frac{\max(a \cdot y - u(x), 0)}{\|a\|^2} \, a(x)

    It guarantees a . z <= u in any order of summation: the bound is lowered by the error
    that rounding may cause, some machine epsilons of its terms. It costs four sums. It is
    for one inequality; for several choose `oblique_correction` or `polyhedron`. Where the
    inequality is active the output learns along it only: a single number there learns
    nothing, so start inside.

    Args:
        a: normal, of the shape of y, not zero; or a function of x.
        upper: u, (), in the units of a y, finite; or a function of x.

    Returns:
        A layer of y (m,) that returns (m,), or of () where a is ().

    Raises:
        TypeError: an argument is neither numbers nor a function.
        ValueError: the shapes do not fit, a is zero or its square leaves the dtype's
            range, or u is not finite. Where functions of x return such, the result is NaN.

    References:
        Boyd and Vandenberghe, Convex Optimization (2004), section 8.1.1.

    Example:
        >>> import jax.numpy as jnp, jaxcon as jc
        >>> below = jc.layers.half_space(1.0, lambda x: x[0])
        >>> print(below(jnp.array(0.5), jnp.array([2.0])))
        0.5
        >>> bool(below(jnp.array(3.0), jnp.array([2.0])) <= 2.0)
        True
    """
    varies = callable(a) or callable(upper)
    a = check_term("half_space: a", a, "() or (m,)")
    upper = check_term("half_space: upper", upper, "()")
    if not (callable(a) or isinstance(a, Tracer)):
        with np.errstate(over="ignore"):
            square = np.sum(np.square(np.asarray(a, np.float32)))
        if not 0 < square < np.inf:
            raise ValueError(
                "half_space needs a normal a whose square is positive and finite, got a "
                f"square of {square:g}: the set is empty, or everything"
            )

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
        y = floating("half_space: y", y)
        normal, bound, far = terms(y, x)
        # It moves twice, since the rounding of a long first move is large beside its end.
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
    r"""Projects outputs onto the second-order cone: the nearest point.

    .. math::
        \sqrt{z_1^2 + \dots + z_{m-1}^2} \le z_m

    It guarantees this inequality; an output that is moved ends some machine epsilons higher
    than the nearest point, so that rounding cannot break it. It costs two norms. It is for
    a vector and the bound of its length, both learned: forces under friction, a mean and
    its spread.

    Returns:
        A layer of y (m,), m >= 2, that returns (m,): the axes, then the height.

    References:
        Boyd and Parikh, Proximal Algorithms (2013), section 6.3.2.

    Example:
        >>> import jax.numpy as jnp, jaxcon as jc
        >>> cone = jc.layers.second_order_cone()
        >>> print(cone(jnp.array([0.0, 1.0, 2.0])))
        [0. 1. 2.]
        >>> y, t = jnp.split(cone(jnp.array([3.0, 4.0, 2.0])), [2])
        >>> bool(jnp.linalg.norm(y) <= t[0])
        True
    """

    def function(y: jax.Array, x: Any) -> jax.Array:
        del x
        y = floating("second_order_cone: y", y)
        if y.ndim != 1 or y.size < 2:
            raise ValueError(
                f"second_order_cone takes one output y of shape (m,), m >= 2, got {y.shape}"
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
    r"""Projects a matrix onto those of at most a given spectral norm.

    .. math::
        Z = U \min(\Sigma, r(x)) V^T, \qquad Y = U \Sigma V^T

    It guarantees that no singular value of Z exceeds r, so a linear map z -> Z z lengthens
    nothing by more than r. It costs one singular value decomposition for each output, and
    is for small matrices that depend on x. For a network's own weights, see `lipschitz`.

    Args:
        shape: (m, n), of the matrix.
        radius: r >= 0, (), in units of y; or a function of x.

    Returns:
        A layer of y (m n,), row by row, or (m, n) that returns (m, n).

    Raises:
        TypeError: shape is no pair of integers, or radius neither a number nor a function.
        ValueError: the shapes do not fit or the radius is negative.

    References:
        Lewis and Sendov, Nonsmooth analysis of singular values, part I (2005).

    Example:
        >>> import jax.numpy as jnp, jaxcon as jc
        >>> ball = jc.layers.spectral_ball((2, 2), 1.0)
        >>> print(ball(jnp.array([3.0, 0.0, 0.0, 0.5])))
        [[1.  0. ]
         [0.  0.5]]
    """
    if not isinstance(shape, (tuple, list)):
        raise TypeError(f"spectral_ball: shape must be (m, n), got {described(shape)}")
    if len(shape) != 2:
        raise ValueError(f"spectral_ball: shape must be (m, n), got {shape}")
    for size in shape:
        check_number("spectral_ball: shape", size, least=1, most=MOST_SIDE, whole=True)
    shape = int(shape[0]), int(shape[1])
    radius = check_term("spectral_ball: radius", radius, "()")
    if not callable(radius):
        check_number("spectral_ball: radius", radius, least=0)

    def function(y: jax.Array, x: Any) -> jax.Array:
        y = floating("spectral_ball: y", y)
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
