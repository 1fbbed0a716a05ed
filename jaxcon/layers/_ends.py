"""Constructions that prescribe slopes and mixtures of them at the ends of one input."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxcon._checks import check_number, described
from jaxcon.layers._certificates import Function
from jaxcon.layers._networks import check_term, chosen_inputs
from jaxcon.layers._outputs import evaluated
from jaxcon.layers._prescribed import (
    Condition,
    between,
    check_index,
    face,
    prescribed,
    promise,
    slope_test,
    value_and_slope,
    value_test,
)


def neumann(
    index: int, lower: float, upper: float, left: Any = None, right: Any = None
) -> Condition:
    r"""Prescribes a network's slopes at both ends of one input, or at one of them.

    .. math::
        f(x) = a\, (x_i - l) + \frac{b - a}{2 (u - l)} (x_i - l)^2 + N(s(x)), \qquad
        s_i = l + (u - l)\, t^2 (3 - 2t), \quad t = \frac{x_i - l}{u - l}

    N receives :math:`x_i` on a scale s of zero slope at both ends, so that f without the
    parabola has zero slope there for any N, and the parabola has the given slopes. That
    takes one evaluation of N and none of its derivatives, and any smooth f with these
    slopes is a continuously differentiable N: near an end the rest of f is quadratic in t,
    and so is s. The slopes are exact to rounding, also where they depend on the other
    inputs. Where one end is free,

    .. math::
        f(x) = a\, (x_i - l) + N(s(x)), \; s_i = l + (u - l)\, t^2, \qquad
        f(x) = b\, (x_i - u) + N(s(x)), \; s_i = l + (u - l)\, t (2 - t)

    Args:
        index: i.
        lower: l, one end, in units of input i.
        upper: u, the other.
        left: a, the slope at l: a number or x (d,) -> () or the network's shape, in units
            of f per unit of input i; l is free unless given.
        right: b, the slope at u, likewise.

    Returns:
        The construction, for x_i in [l, u].

    Raises:
        TypeError: an argument is of another type.
        ValueError: lower < upper does not hold, or both ends are free; when called, there
            is no such input or a shape does not fit the network's.

    Example:
        >>> import jax, jax.numpy as jnp, jaxcon as jc
        >>> insulated = jc.layers.neumann(0, 0.0, 2.0, left=0.0, right=1.0)
        >>> network = jc.layers.mlp(1).then(insulated)
        >>> f = lambda x: network.apply(network.init(jax.random.key(0)), x)
        >>> print(jax.jvp(f, (jnp.zeros(1),), (jnp.ones(1),))[1])
        0.0
    """
    ends = [
        _End(word, place, 1.0, None, check_term(f"neumann: {word}", value, ANY))
        for word, place, value in (("left", lower, left), ("right", upper, right))
        if value is not None
    ]
    return _at_ends("neumann", index, lower, upper, ends)


def robin(
    index: int, lower: float, upper: float, left: Any = None, right: Any = None
) -> Condition:
    r"""Prescribes a mixture of slope and value at both ends of one input, or at one.

    .. math::
        \frac{\partial f}{\partial n} + c f = g, \qquad
        \frac{\partial f}{\partial n} = -\frac{\partial f}{\partial x_i} \text{ at } l,
        \quad \frac{\partial f}{\partial x_i} \text{ at } u

    with the slope along the outward normal, so that c > 0 is heat lost to surroundings at
    either end, and c = 0 a slope (`neumann`). With s as in `neumann`,

    .. math::
        f(x) = p(x) + \frac{m(z)}{m(z_{1/2})} N(s(x)), \quad
        m(z) = z + \sqrt{1 + z^2}, \quad
        z = c_l\, w t (1 - t)^2 + c_u\, w t^2 (1 - t)

    where w = u - l, t = (x_i - l) / w and :math:`z_{1/2}` is z at t = 1/2. At an end
    :math:`m' / m = z'`, which is -c along the normal, so that the second term meets the
    condition with g = 0 for any N, and is of order one inside for any c, also a large one.
    p is the cubic polynomial of :math:`x_i` whose values and outward slopes at the ends
    are the least that meet the condition,

    .. math::
        p = \frac{g\, c\, w^2}{1 + c^2 w^2}, \qquad
        \frac{\partial p}{\partial n} = \frac{g}{1 + c^2 w^2}

    Where one end is free, z is c times the distance from the other, and p is linear. It
    takes one evaluation of N and none of its derivatives, any smooth f with these
    conditions is a continuously differentiable N, and they are exact to rounding.

    Args:
        index: i.
        lower: l, one end, in units of input i.
        upper: u, the other.
        left: (c, g) at l; each a number or x (d,) -> () or the network's shape, c per unit
            of input i and g in units of f per unit of input i; l is free unless given.
        right: (c, g) at u, likewise.

    Returns:
        The construction, for x_i in [l, u].

    Raises:
        TypeError: an argument is of another type.
        ValueError: lower < upper does not hold, both ends are free, or an end is no pair;
            when called, there is no such input or a shape does not fit the network's.

    Example:
        >>> import jax, jax.numpy as jnp, jaxcon as jc
        >>> cooled = jc.layers.robin(0, 0.0, 1.0, left=(0.0, 0.0), right=(2.0, 3.0))
        >>> network = jc.layers.mlp(1).then(cooled)
        >>> f = lambda x: network.apply(network.init(jax.random.key(0)), x)
        >>> value, slope = jax.jvp(f, (jnp.ones(1),), (jnp.ones(1),))
        >>> print(f"{slope + 2 * value:.4f}")
        3.0000
    """
    ends = []
    for word, place, sign, pair in (
        ("left", lower, -1.0, left),
        ("right", upper, 1.0, right),
    ):
        if pair is None:
            continue
        if not isinstance(pair, (tuple, list)):
            raise TypeError(
                f"robin: {word} must be a pair (c, g), got {described(pair)}"
            )
        if len(pair) != 2:
            raise ValueError(
                f"robin: {word} must be a pair (c, g), got {len(pair)} entries"
            )
        c, g = (
            check_term(f"robin: {word}[{number}]", term, ANY)
            for number, term in enumerate(pair)
        )
        ends.append(_End(word, place, sign, c, g))
    return _at_ends("robin", index, lower, upper, ends)


def mixed(
    index: int,
    dirichlet_at: float,
    neumann_at: float,
    value: Any,
    slope: Any,
    coefficient: Any = None,
) -> Condition:
    r"""Prescribes a network's value at one end of an input and its slope at the other.

    .. math::
        f(x) = g + b\, (x_i - p) + s\, N(\dots, p + (q - p) s, \dots), \qquad
        s = t (2 - t), \quad t = \frac{x_i - p}{q - p}

    The scale s is zero at p and has zero slope at q (see `neumann`). The value is exact in
    floating point, the slope to rounding, for one evaluation of N. With a coefficient c
    the condition at q is that of `robin`,

    .. math::
        \frac{\partial f}{\partial x_i} + \sigma c f = b, \qquad
        \sigma = \frac{q - p}{|q - p|}

    where c > 0 is a loss at either end, and N has the factor of `robin` too.

    Args:
        index: i.
        dirichlet_at: p, the end with the value, in units of input i.
        neumann_at: q, the end with the slope; above or below p.
        value: g, a number or x (d,) -> () or the network's shape.
        slope: b, likewise, in units of f per unit of input i.
        coefficient: c, likewise, per unit of input i; the slope alone unless given.

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
    check_index("mixed", index)
    check_number("mixed: dirichlet_at", dirichlet_at)
    check_number("mixed: neumann_at", neumann_at)
    value = check_term("mixed: value", value, ANY)
    slope = check_term("mixed: slope", slope, ANY)
    if coefficient is not None:
        coefficient = check_term("mixed: coefficient", coefficient, ANY)
    p, q = float(dirichlet_at), float(neumann_at)  # as in face
    if p == q:
        raise ValueError(
            f"mixed: dirichlet_at and neumann_at must be two ends, got {p} for both"
        )
    first, last, width = face(index, p), face(index, q), q - p
    sign = 1.0 if width > 0 else -1.0

    def at(word: str, term: Any, like: jax.Array, x: jax.Array) -> jax.Array:
        return evaluated("mixed", word, term, like, x)

    def scale(x: jax.Array) -> jax.Array:
        t = (x[index] - p) / width
        return x.at[index].set(p + width * (t * (2 - t)))

    def factor(x: jax.Array, like: jax.Array) -> jax.Array:
        t = (x[index] - p) / width
        if coefficient is None:
            return t * (2 - t)
        c = abs(width) * at("coefficient", coefficient, like, last(x))
        return t * (2 - t) * _tilt(c * (1 - t), c / 2)

    def lift(known: Function) -> Function:
        def lifted(x: jax.Array) -> jax.Array:
            begin, end, along = first(x), last(x), x[index] - p
            here, before = known(x), known(begin)
            after, steep = value_and_slope(known, index, end)
            rise = at("value", value, here, begin) - before
            b = at("slope", slope, here, end) - steep
            if coefficient is None:
                return here + rise + b * along
            c = sign * at("coefficient", coefficient, here, end)
            # The least line and multiple of s, of which both are zero at p.
            b = b - c * (after + rise)
            loss = c * width
            squares = (1 + loss) ** 2 + loss**2
            line, high = (1 + loss) * b / squares, width * loss * b / squares
            t = along / width
            return here + rise + line * along + high * (t * (2 - t))

        return lifted

    size = max(abs(width), abs(p), abs(q))
    tests = {
        "value": value_test(first, value),
        "derivative": slope_test(
            last,
            slope,
            index,
            size,
            coefficient=None if coefficient is None else _times(sign, coefficient),
        ),
    }
    added = "" if coefficient is None else f" {'+' if sign > 0 else '-'} c f"
    statement = (
        f"f = value at x{index} = {p:g}, "
        f"df/dx{index}{added} = slope at x{index} = {q:g}"
    )
    return prescribed(
        "mixed",
        (promise(statement, tests, (index,)),),
        check=_has_input("mixed", index),
        scale=scale,
        factor=factor,
        lift=lift,
        given=(value, slope, coefficient),
        inputs=(index,),
        inside=between(index, min(p, q), max(p, q)),
    )


ANY = "of any shape"


class _End(NamedTuple):
    """Condition sign df/dx_i + coefficient f = value at one end."""

    word: str
    place: float
    sign: float
    coefficient: Any  # None for zero
    value: Any


def _at_ends(
    name: str, index: int, lower: float, upper: float, ends: list[_End]
) -> Condition:
    """Returns the construction with conditions at one end or both."""
    check_index(name, index)
    check_number(f"{name}: lower", lower)
    check_number(f"{name}: upper", upper)
    low, high = float(lower), float(upper)  # as in face
    if not low < high:
        raise ValueError(f"{name} needs lower < upper, got {low} and {high}")
    if not ends:
        raise ValueError(f"{name} needs left=, right= or both")
    width = high - low
    places = [face(index, end.place) for end in ends]
    words = [end.word for end in ends]
    mixture = name == "robin"

    def share(x: jax.Array) -> jax.Array:
        return (x[index] - low) / width

    def scale(x: jax.Array) -> jax.Array:
        t = share(x)
        if len(ends) == 2:
            return x.at[index].set(low + width * t * t * (3 - 2 * t))
        if words == ["left"]:
            return x.at[index].set(low + width * t * t)
        return x.at[index].set(low + width * t * (2 - t))

    def ramps(t: Any) -> list[Any]:
        """Returns functions of unit slope in t at their own end, and none at another."""
        if len(ends) == 1:
            return [t] if words == ["left"] else [t - 1]
        if mixture:
            return [t * (1 - t) ** 2, -(t**2) * (1 - t)]
        return [t - t * t / 2, t * t / 2]

    def steps(t: jax.Array) -> list[jax.Array]:
        """Returns functions of no slope at the ends, one at their own, zero at another."""
        if len(ends) == 1:
            return [jnp.ones_like(t)]
        return [(1 - t) ** 2 * (1 + 2 * t), t**2 * (3 - 2 * t)]

    def coefficients(x: jax.Array, like: jax.Array) -> list[jax.Array]:
        return [
            evaluated(name, f"{end.word}[0]", end.coefficient, like, place(x))
            for end, place in zip(ends, places)
        ]

    def factor(x: jax.Array, like: jax.Array) -> jax.Array:
        if not mixture:
            return jnp.ones((), like.dtype)
        losses = [-end.sign * width * c for end, c in zip(ends, coefficients(x, like))]
        here, half = (
            sum(loss * ramp for loss, ramp in zip(losses, ramps(t)))
            for t in (share(x), 0.5)
        )
        return _tilt(here, half)

    def lift(known: Function) -> Function:
        def lifted(x: jax.Array) -> jax.Array:
            t, found = share(x), known(x)
            like = found
            for number, (end, place) in enumerate(zip(ends, places)):
                word = f"{end.word}[1]" if mixture else end.word
                there = place(x)
                value, steep = value_and_slope(known, index, there)
                g = evaluated(name, word, end.value, like, there) - end.sign * steep
                ramp = end.sign * width * ramps(t)[number]
                if not mixture:
                    found = found + g * ramp
                    continue
                c = evaluated(name, f"{end.word}[0]", end.coefficient, like, there)
                # The least value and slope that meet the condition.
                loss = c * width
                g = (g - c * value) / (1 + loss**2)
                found = found + g * ramp + width * loss * g * steps(t)[number]
            return found

        return lifted

    size = max(width, abs(low), abs(high))
    tests = {
        "lower" if end.word == "left" else "upper": slope_test(
            place,
            end.value,
            index,
            size,
            sign=end.sign,
            coefficient=end.coefficient,
        )
        for end, place in zip(ends, places)
    }
    if mixture:
        at = " and ".join(f"{end.place:g}" for end in ends)
        statement = f"df/dn + c f = g at x{index} = {at}"
    else:
        at = " and ".join(f"{end.word} at {end.place:g}" for end in ends)
        statement = f"df/dx{index} = {at}"
    return prescribed(
        name,
        (promise(statement, tests, (index,)),),
        check=_has_input(name, index),
        scale=scale,
        factor=factor,
        lift=lift,
        given=[term for end in ends for term in (end.coefficient, end.value)],
        inputs=(index,),
        inside=between(index, low, high),
    )


def _tilt(z: Any, half: Any) -> jax.Array:
    """Returns a positive function of z, of logarithmic slope one at zero, one at half."""
    return (z + jnp.sqrt(1 + z**2)) / (half + jnp.sqrt(1 + half**2))


def _times(sign: float, given: Any) -> Any:
    """Returns a number or a function with a sign."""
    if callable(given):
        function: Any = given
        return lambda x: sign * function(x)
    return sign * given


def _has_input(name: str, index: int) -> Any:
    def check(x: jax.Array) -> None:
        chosen_inputs(name, "index", index, x.size)

    return check
