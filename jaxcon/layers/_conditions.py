"""Constructions that prescribe a network's boundary and initial values and slopes."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcon._checks import (
    check_array,
    check_choice,
    check_function,
    check_number,
    described,
)
from jaxcon.layers._certificates import TWICE, Certificate, Function, Gap, Guarantee
from jaxcon.layers._networks import (
    MOST_UNITS,
    Apply,
    Construction,
    check_term,
    chosen_inputs,
    floating,
    one_example,
)
from jaxcon.layers._outputs import evaluated

SIDES = {"lower": (True, False), "upper": (False, True), "both": (True, True)}


def dirichlet(
    distance: Function,
    value: Any,
    *,
    boundary: Function,
) -> Construction:
    r"""Prescribes a network's values wherever a function is zero.

    .. math::
        f(x) = g(x) + l(x)\, N(x)

    It guarantees f = g exactly where l is exactly zero in floating point. Elsewhere f is
    free: with :math:`N = (u - g) / l` it is any u with u = g on the boundary, and N is
    smooth there if l is and its slope across the boundary is not zero. l should be smooth
    and of order one. It costs one evaluation of each. `box_boundary` is for boxes,
    `initial_value` for initial values.

    Args:
        distance: l, x (d,) -> (), zero on the boundary and nowhere inside.
        value: g, a number or x (d,) -> () or the network's shape, any smooth function
            with the right values on the boundary.
        boundary: x (d,) -> a point of the boundary (d,), for `check` to test there where
            rounding lets the distance be exactly zero.

    Returns:
        The construction.

    Raises:
        TypeError: an argument is no function, or value neither that nor numbers.
        ValueError: when called, l is not () or g's shape does not fit the network's.

    References:
        Lagaris, Likas and Fotiadis, Artificial Neural Networks for Solving Ordinary and
        Partial Differential Equations (1998). Sukumar and Srivastava, Exact Imposition of
        Boundary Conditions with Distance Functions in Physics-Informed Deep Neural
        Networks (2022).

    Example:
        >>> import jax, jax.numpy as jnp, jaxcon as jc
        >>> disc = jc.layers.dirichlet(
        ...     lambda x: 1 - x @ x, lambda x: x[0], boundary=lambda x: x / jnp.sqrt(x @ x)
        ... )
        >>> network = jc.layers.mlp(2).then(disc)
        >>> params = network.init(jax.random.key(0))
        >>> print(network.apply(params, jnp.array([0.0, -1.0])))
        0.0
    """
    check_function("dirichlet: distance", distance, "x (d,) -> ()")
    check_function("dirichlet: boundary", boundary, "x (d,) -> x (d,)")
    value = check_term("dirichlet: value", value, "of any shape")

    def on_boundary(f: Function, x: jax.Array, y: jax.Array) -> Gap:
        del y
        there = boundary(x)
        gap = _distance_between(f(there), value, there)
        return gap._replace(excess=jnp.where(distance(there) == 0, gap.excess, 0.0))

    promise = _promise("f = value where the distance is zero", {"value": on_boundary})
    return _blended("dirichlet", distance, value, promise)


def box_boundary(
    lower: Any, upper: Any, value: Any, *, faces: Mapping[int, str] | None = None
) -> Construction:
    r"""Prescribes a network's values on some faces of a box.

    .. math::
        f(x) = g(x) + N(x) \prod_{i} \frac{x_i - l_i}{u_i - l_i}
        \prod_{j} \frac{u_j - x_j}{u_j - l_j}

    over the faces named, four times as much for an input with both, so that factors are of
    order one. The values are exact in floating point, since on a face its factor is zero.
    Where faces meet, f is g whatever N is; no continuous g meets a value that jumps there.

    Args:
        lower: corner l (d,), in the inputs' units; infinite where it has no face.
        upper: corner u (d,), likewise.
        value: g, a number or x (d,) -> () or the network's shape.
        faces: "lower", "upper" or "both" by input; all faces unless given.

    Returns:
        The construction.

    Raises:
        TypeError: an argument is of another type.
        ValueError: lower < upper does not hold, or a face is unknown or infinite; when
            called, x is not (d,) or g's shape does not fit the network's.

    References:
        Lagaris, Likas and Fotiadis, Artificial Neural Networks for Solving Ordinary and
        Partial Differential Equations (1998).

    Example:
        >>> import jax, jax.numpy as jnp, jaxcon as jc
        >>> rod = jc.layers.box_boundary([0.0, 0.0], [2.0, 1.0], 3.0, faces={0: "both"})
        >>> network = jc.layers.mlp(2).then(rod)
        >>> params = network.init(jax.random.key(0))
        >>> print(network.apply(params, jnp.array([2.0, 0.7])))
        3.0
    """
    low, high = (
        np.asarray(
            check_array(f"box_boundary: {name}", corner, "(d,)", finite=False), float
        )
        for name, corner in (("lower", lower), ("upper", upper))
    )
    value = check_term("box_boundary: value", value, "of any shape")
    if not low.size or low.shape != high.shape or not np.all(low < high):
        raise ValueError(
            "box_boundary needs corners lower < upper of shape (d,), got lower "
            f"{low.tolist()} and upper {high.tolist()}"
        )
    if not (faces is None or isinstance(faces, Mapping)):
        raise TypeError(
            "box_boundary: faces must be a mapping from inputs to 'lower', 'upper' or "
            f"'both', got {described(faces)}"
        )
    every = {i: "both" for i in range(low.size)} if faces is None else dict(faces)
    chosen_inputs("box_boundary", "faces", list(every), low.size)
    for i, side in every.items():
        check_choice(f"box_boundary: faces[{i}]", side, SIDES)
    if not every:
        raise ValueError("box_boundary: faces must name an input, got none")
    sides = {i: SIDES[every[i]] for i in sorted(every)}
    walls = [
        (i, float(corner[i]))
        for i, present in sides.items()
        for corner, there in zip((low, high), present)
        if there
    ]
    if not np.all(np.isfinite([place for _, place in walls])):
        raise ValueError(
            "box_boundary has an infinite face in lower "
            f"{low.tolist()} or upper {high.tolist()}"
        )
    width = np.where(np.isfinite(high - low), high - low, 1.0).tolist()
    # Python's numbers, which widen nothing.
    first, last = low.tolist(), high.tolist()

    def distance(x: jax.Array) -> jax.Array:
        if jnp.shape(x) != low.shape:
            raise ValueError(
                f"box_boundary takes one example x of shape {low.shape}, got "
                f"{jnp.shape(x)}; use jax.vmap for a batch"
            )
        product = jnp.ones((), x.dtype)
        for i, (below, above) in sides.items():
            product *= (x[i] - first[i]) / width[i] if below else 1.0
            product *= (last[i] - x[i]) / width[i] if above else 1.0
            product *= 4.0 if below and above else 1.0
        return product

    tests = {
        f"x{i} = {place:g}": _value_test(_face(i, place), value) for i, place in walls
    }
    promise = _promise(f"f = value where {' or '.join(tests)}", tests)
    return _blended("box_boundary", distance, value, promise)


def initial_value(
    index: int, start: float, value: Any, rate: Any = None
) -> Construction:
    r"""Prescribes a network's value, and perhaps its rate of change, at the start.

    .. math::
        f(x) = u_0 + (t - t_0) N(x), \qquad
        f(x) = u_0 + (t - t_0)\, v_0 + (t - t_0)^2 N(x)

    with :math:`t = x_i`, and :math:`u_0, v_0` taken at :math:`t = t_0` whatever the time.
    Both are exact in floating point at :math:`t = t_0`, the rate by its derivative. Late
    times multiply N by much: measure time in units of the whole run.

    Args:
        index: i, the input that is time.
        start: t0, in units of time.
        value: u0, a number or x (d,) -> () or the network's shape.
        rate: v0, likewise, per unit of time; the rate is free unless given.

    Returns:
        The construction.

    Raises:
        TypeError: an argument is of another type.
        ValueError: index is negative; when called, there is no such input or a shape does
            not fit the network's.

    References:
        Lagaris, Likas and Fotiadis, Artificial Neural Networks for Solving Ordinary and
        Partial Differential Equations (1998).

    Example:
        >>> import jax, jax.numpy as jnp, jaxcon as jc
        >>> drop = jc.layers.initial_value(0, 0.0, value=2.0, rate=-1.0)
        >>> network = jc.layers.mlp(1).then(drop)
        >>> f = lambda t: network.apply(network.init(jax.random.key(0)), t)
        >>> [y.item() for y in jax.jvp(f, (jnp.zeros(1),), (jnp.ones(1),))]
        [2.0, -1.0]
    """
    _check_index("initial_value", index)
    check_number("initial_value: start", start)
    start = float(start)  # as in _face
    value = check_term("initial_value: value", value, "of any shape")
    if rate is not None:
        rate = check_term("initial_value: rate", rate, "of any shape")
    begin = _face(index, start)

    def wrap(apply: Apply) -> Apply:
        def wrapped(params: Any, x: jax.Array) -> jax.Array:
            x = one_example("initial_value", x)
            chosen_inputs("initial_value", "index", index, x.size)
            free, elapsed, first = apply(params, x), x[index] - start, begin(x)
            known = evaluated("initial_value", "value", value, free, first)
            if rate is None:
                return known + elapsed * free
            speed = evaluated("initial_value", "rate", rate, free, first)
            return known + elapsed * speed + elapsed**2 * free

        return wrapped

    tests = {"value": _value_test(begin, value)}
    statement = f"f = value at x{index} = {start:g}"
    if rate is not None:
        tests["derivative"] = _slope_test(begin, rate, index, 0.0)
        statement = f"f = value and df/dx{index} = rate at x{index} = {start:g}"
    return Construction(wrap, Certificate((_promise(statement, tests),)))


def neumann(
    index: int, lower: float, upper: float, left: Any, right: Any
) -> Construction:
    r"""Prescribes a network's slopes at both ends of one input.

    .. math::
        f(x) = a\, (x_i - l) + \frac{b - a}{2 (u - l)} (x_i - l)^2 + N(s(x)), \qquad
        s_i = l + (u - l)\, t^2 (3 - 2t), \quad t = \frac{x_i - l}{u - l}

    N receives :math:`x_i` on a scale s of zero slope at both ends, so that f without the
    parabola has zero slope there for any N, and the parabola has the given slopes. That
    takes one evaluation of N and none of its derivatives, and any smooth f with these
    slopes is a continuously differentiable N: near an end the rest of f is quadratic in t,
    and so is s. The slopes are exact to rounding, also where they depend on the other
    inputs.

    Args:
        index: i.
        lower: l, one end, in units of input i.
        upper: u, the other.
        left: a, the slope at l: a number or x (d,) -> () or the network's shape, in units
            of f per unit of input i.
        right: b, the slope at u, likewise.

    Returns:
        The construction, for x_i in [l, u].

    Raises:
        TypeError: an argument is of another type.
        ValueError: lower < upper does not hold; when called, there is no such input or a
            shape does not fit the network's.

    Example:
        >>> import jax, jax.numpy as jnp, jaxcon as jc
        >>> insulated = jc.layers.neumann(0, 0.0, 2.0, left=0.0, right=1.0)
        >>> network = jc.layers.mlp(1).then(insulated)
        >>> f = lambda x: network.apply(network.init(jax.random.key(0)), x)
        >>> print(jax.jvp(f, (jnp.zeros(1),), (jnp.ones(1),))[1])
        0.0
    """
    _check_index("neumann", index)
    check_number("neumann: lower", lower)
    check_number("neumann: upper", upper)
    left = check_term("neumann: left", left, "of any shape")
    right = check_term("neumann: right", right, "of any shape")
    lower, upper = float(lower), float(upper)  # as in _face
    if not lower < upper:
        raise ValueError(f"neumann needs lower < upper, got {lower} and {upper}")
    first, last = _face(index, lower), _face(index, upper)
    width = upper - lower

    def wrap(apply: Apply) -> Apply:
        def wrapped(params: Any, x: jax.Array) -> jax.Array:
            x = one_example("neumann", x)
            chosen_inputs("neumann", "index", index, x.size)
            along = x[index] - lower
            t = along / width
            free = apply(params, x.at[index].set(lower + width * t * t * (3 - 2 * t)))
            a = evaluated("neumann", "left", left, free, first(x))
            b = evaluated("neumann", "right", right, free, last(x))
            return a * along + (b - a) * (along * t / 2) + free

        return wrapped

    tests = {
        "lower": _slope_test(first, left, index, width),
        "upper": _slope_test(last, right, index, width),
    }
    statement = f"df/dx{index} = left at {lower:g} and right at {upper:g}"
    return Construction(wrap, Certificate((_promise(statement, tests),)))


def mixed(
    index: int, dirichlet_at: float, neumann_at: float, value: Any, slope: Any
) -> Construction:
    r"""Prescribes a network's value at one end of an input and its slope at the other.

    .. math::
        f(x) = g + b\, (x_i - p) + s\, N(\dots, p + (q - p) s, \dots), \qquad
        s = t (2 - t), \quad t = \frac{x_i - p}{q - p}

    The scale s is zero at p and has zero slope at q (see `neumann`). The value is exact in
    floating point, the slope to rounding, for one evaluation of N.

    Args:
        index: i.
        dirichlet_at: p, the end with the value, in units of input i.
        neumann_at: q, the end with the slope; above or below p.
        value: g, a number or x (d,) -> () or the network's shape.
        slope: b, likewise, in units of f per unit of input i.

    Returns:
        The construction, for x_i between p and q.

    Raises:
        TypeError: an argument is of another type.
        ValueError: both ends are one; when called, there is no such input or a shape does
            not fit the network's.

    Example:
        >>> import jax, jax.numpy as jnp, jaxcon as jc
        >>> rod = jc.layers.mixed(0, dirichlet_at=1.0, neumann_at=0.0, value=5.0, slope=0.0)
        >>> network = jc.layers.mlp(1).then(rod)
        >>> print(network.apply(network.init(jax.random.key(0)), jnp.ones(1)))
        5.0
    """
    _check_index("mixed", index)
    check_number("mixed: dirichlet_at", dirichlet_at)
    check_number("mixed: neumann_at", neumann_at)
    value = check_term("mixed: value", value, "of any shape")
    slope = check_term("mixed: slope", slope, "of any shape")
    dirichlet_at, neumann_at = float(dirichlet_at), float(neumann_at)  # as in _face
    if dirichlet_at == neumann_at:
        raise ValueError(
            "mixed: dirichlet_at and neumann_at must be two ends, got "
            f"{dirichlet_at} for both"
        )
    first, last = _face(index, dirichlet_at), _face(index, neumann_at)
    width = neumann_at - dirichlet_at

    def wrap(apply: Apply) -> Apply:
        def wrapped(params: Any, x: jax.Array) -> jax.Array:
            x = one_example("mixed", x)
            chosen_inputs("mixed", "index", index, x.size)
            along = x[index] - dirichlet_at
            t = along / width
            s = t * (2 - t)
            free = apply(params, x.at[index].set(dirichlet_at + width * s))
            g = evaluated("mixed", "value", value, free, first(x))
            b = evaluated("mixed", "slope", slope, free, last(x))
            return g + b * along + s * free

        return wrapped

    tests = {
        "value": _value_test(first, value),
        "derivative": _slope_test(last, slope, index, width),
    }
    statement = (
        f"f = value at x{index} = {dirichlet_at:g}, "
        f"df/dx{index} = slope at x{index} = {neumann_at:g}"
    )
    return Construction(wrap, Certificate((_promise(statement, tests),)))


def _check_index(name: str, index: Any) -> None:
    check_number(f"{name}: index", index, least=0, most=MOST_UNITS, whole=True)


def _blended(
    name: str, distance: Function, value: Any, promise: Guarantee
) -> Construction:
    """Returns the construction value + distance * network."""

    def wrap(apply: Apply) -> Apply:
        def wrapped(params: Any, x: jax.Array) -> jax.Array:
            x = one_example(name, x)
            away = floating(f"{name}: the distance", distance(x))
            free = apply(params, x)
            if away.shape:
                raise ValueError(
                    f"{name}: the distance of one x has shape {away.shape}, not ()"
                )
            return evaluated(name, "value", value, free, x) + away * free

        return wrapped

    return Construction(wrap, Certificate((promise,)))


def _face(index: int, place: float) -> Function:
    """Returns the map that moves x to a given value of one input."""
    place = float(place)  # not of NumPy, whose float64 would widen what it meets
    return lambda x: x.at[index].set(place)


def _promise(statement: str, tests: Mapping[str, Callable[..., Gap]]) -> Guarantee:
    return Guarantee(
        statement,
        kind="boundary",
        tests=tests,
        roundings=TWICE,
        size="what is prescribed and f's own terms",
    )


def _distance_between(found: jax.Array, given: Any, x: jax.Array) -> Gap:
    wanted = evaluated("check", "what is prescribed", given, found, x)
    size = jnp.max(jnp.abs(found)) + jnp.max(jnp.abs(wanted))
    return Gap(jnp.max(jnp.abs(found - wanted)), size)


def _value_test(place: Function, value: Any) -> Callable[..., Gap]:
    def test(f: Function, x: jax.Array, y: jax.Array) -> Gap:
        del y
        there = place(x)
        return _distance_between(f(there), value, there)

    return test


def _slope_test(
    place: Function, slope: Any, index: int, width: float
) -> Callable[..., Gap]:
    def test(f: Function, x: jax.Array, y: jax.Array) -> Gap:
        del y
        there = place(x)
        tangent = jnp.zeros_like(x).at[index].set(1.0)

        def steepness(x: jax.Array) -> jax.Array:
            return jax.jvp(f, (x,), (tangent,))[1]

        found, bend = jax.jvp(steepness, (there,), (tangent,))
        gap = _distance_between(found, slope, there)
        # The end is rounded to eps of the width, and with it the slope there.
        return gap._replace(size=gap.size + abs(width) * jnp.max(jnp.abs(bend)))

    return test
