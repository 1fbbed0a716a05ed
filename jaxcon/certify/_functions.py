"""Elementary functions, with their derivatives and turning points."""

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.polynomial import Polynomial

from jaxcon.certify._curves import Curve, Derivative, Kinked, Order, Pole, Wave

ORDERS = 6  # derivatives known of each curve, of order 0 to 5

Array = Any


def _constant(c: float) -> Derivative:
    return Derivative(lambda x: jnp.full_like(x, c), lambda x: jnp.full_like(x, abs(c)))


def _line(slope: float) -> Curve:
    first = Derivative(lambda x: slope * x, lambda x: jnp.abs(slope * x))
    rest = [_constant(slope), *[_constant(0.0)] * (ORDERS - 2)]
    return Curve("line", [first, *rest])


def _in_value(
    name: str,
    value: Order,
    inverse: Callable[[float], float],
    slope: Polynomial,
    image: tuple[float, float],
) -> Curve:
    """Returns a curve y with y' = p(y): its derivatives are polynomials in y."""
    orders, q = [], Polynomial([0.0, 1.0])
    for _ in range(ORDERS):
        inner = [
            float(inverse(root.real))
            for root in q.deriv().roots()
            if abs(root.imag) < 1e-9 and image[0] < root.real < image[1]
        ]
        orders.append(_polynomial_of(value, q, tuple(sorted(inner))))
        q = q.deriv() * slope
    return Curve(name, orders, image=image)


def _polynomial_of(
    value: Order, q: Polynomial, turning: tuple[float, ...]
) -> Derivative:
    coefficients = [float(c) for c in q.coef]
    # |y| <= 1, and power n of y has n roundings of its own.
    largest = sum(abs(c) * (n + 1) for n, c in enumerate(coefficients))
    return Derivative(
        lambda x: _horner(coefficients, value(x)),
        lambda x: jnp.full_like(x, largest),
        turning,
    )


def _horner(coefficients: Sequence[float], y: Array) -> Array:
    total = jnp.full_like(y, coefficients[-1])
    for c in reversed(coefficients[:-1]):
        total = total * y + c
    return total


def _gaussian(
    name: str,
    first: Sequence[Derivative],
    q: Polynomial,
    rate: float,
    image: tuple[float, float],
) -> Curve:
    """Returns a curve whose later derivatives are q(x) exp(-rate x^2), and so on."""
    orders = list(first)
    while len(orders) < ORDERS:
        following = q.deriv() - 2 * rate * Polynomial([0.0, 1.0]) * q
        orders.append(_times_bell(q, rate, _real_roots(following)))
        q = following
    return Curve(name, orders, image=image)


def _times_bell(q: Polynomial, rate: float, turning: tuple[float, ...]) -> Derivative:
    coefficients = [float(c) for c in q.coef]
    largest = [abs(c) * (n + 1) for n, c in enumerate(coefficients)]

    def bell(x: Array) -> Array:
        return jnp.exp(-rate * x * x)

    def size(x: Array) -> Array:
        # The exponent is rounded, by an amount that grows with it.
        x = jnp.minimum(jnp.abs(x), 30.0)
        return _horner(largest, x) * bell(x) * (1 + 2 * rate * x * x)

    def at(x: Array) -> Array:
        near = jnp.clip(x, -30.0, 30.0)
        return _horner(coefficients, near) * bell(near)

    return Derivative(at, size, turning)


def _real_roots(q: Polynomial) -> tuple[float, ...]:
    roots = q.trim().roots()
    return tuple(sorted(float(r.real) for r in roots if abs(r.imag) < 1e-6))


def power(exponent: float) -> Curve:
    r"""Returns the curve :math:`x^a`.

    It is defined everywhere for a whole number a >= 0, on either side of zero for
    a whole number a < 0, and else for x > 0.

    Args:
        exponent: a.

    Returns:
        The curve.
    """
    whole = float(exponent).is_integer() and exponent >= 0
    orders, factor, rest = [], 1.0, float(exponent)
    for _ in range(ORDERS):
        orders.append(_monomial(factor, rest, whole))
        factor, rest = factor * rest, rest - 1
    name = f"power {exponent:g}"
    if float(exponent).is_integer() and not whole:
        return Pole(name, orders)
    if whole:
        even = exponent % 2 == 0
        return Curve(name, orders, image=(0.0 if even else -math.inf, math.inf))
    positive = (0.0, math.inf)
    return Curve(name, orders, positive, closed=exponent > 0, image=positive)


def _monomial(factor: float, exponent: float, whole: bool) -> Derivative:
    if factor == 0:
        return _constant(0.0)

    def at(x: Array) -> Array:
        if float(exponent).is_integer():
            return factor * _whole_power(x, int(exponent))
        return factor * jnp.power(x, exponent)

    def size(x: Array) -> Array:
        return jnp.abs(at(x)) * (1 + abs(exponent))

    even = whole and exponent >= 2 and exponent % 2 == 0
    return Derivative(at, size, (0.0,) if even else ())


def _whole_power(x: Array, exponent: int) -> Array:
    y = jnp.ones_like(x)
    for _ in range(abs(exponent)):
        y = y * x
    return y if exponent >= 0 else 1 / y


def _logarithm(name: str, shift: float, log: Order) -> Curve:
    def first_size(x: Array) -> Array:
        return jnp.abs(log(x))

    inverse = power(-1.0).orders

    def moved(one: Derivative) -> Derivative:
        return Derivative(
            lambda x: one.at(x + shift),
            # x + shift is rounded once.
            lambda x: (
                one.size(x + shift) * (1 + (jnp.abs(x) + shift) / jnp.abs(x + shift))
            ),
        )

    rest = [moved(one) if shift else one for one in inverse[: ORDERS - 1]]
    return Curve(name, [Derivative(log, first_size), *rest], (-shift, math.inf))


def _softplus() -> Curve:
    slopes = logistic().orders

    def value(x: Array) -> Array:
        return jnp.maximum(x, 0.0) + jnp.log1p(jnp.exp(-jnp.abs(x)))

    orders = [Derivative(value, value), *slopes[: ORDERS - 1]]
    return Curve("softplus", orders, image=(0.0, math.inf))


def _silu() -> Curve:
    inner = logistic().orders

    def order(k: int) -> Derivative:
        def at(x: Array) -> Array:
            before = k * inner[k - 1].at(x) if k else 0.0
            return x * inner[k].at(x) + before

        def size(x: Array) -> Array:
            before = k * inner[k - 1].size(x) if k else 0.0
            # Far out the product vanishes, its factors' sizes do not.
            return jnp.abs(x) * inner[k].size(x) + before

        return Derivative(at, size, _turning_of_silu(k))

    return Curve("silu", [order(k) for k in range(ORDERS - 1)])


@lru_cache
def _turning_of_silu(order: int) -> tuple[float, ...]:
    """Finds the roots of the next derivative, which all lie within 20 of zero."""
    from scipy.optimize import brentq

    # s^(k) as polynomials in s, evaluated in float64.
    slope, q = Polynomial([0.0, 1.0, -1.0]), [Polynomial([0.0, 1.0])]
    for _ in range(order + 1):
        q.append(q[-1].deriv() * slope)
    k = order + 1

    def next_derivative(x: float) -> float:
        s = 1 / (1 + math.exp(-x))
        return x * float(q[k](s)) + k * float(q[k - 1](s))

    grid = np.linspace(-20.0, 20.0, 4001) + 1e-4 * math.pi
    values = np.array([next_derivative(x) for x in grid])
    signs = np.flatnonzero(values[:-1] * values[1:] < 0)
    found: list[Any] = [
        brentq(next_derivative, grid[i], grid[i + 1], xtol=1e-14) for i in signs
    ]
    return tuple(map(float, found))


@lru_cache
def logistic() -> Curve:
    """Returns the logistic function."""
    return _in_value(
        "logistic",
        jax.nn.sigmoid,
        lambda y: math.log(y / (1 - y)),
        Polynomial([0.0, 1.0, -1.0]),
        (0.0, 1.0),
    )


@lru_cache
def curve(name: str) -> Curve | None:
    """Returns the curve of a primitive, None if there is none.

    Args:
        name: of the primitive, or of a function of `jax.nn`.

    Returns:
        The curve.
    """
    return _MADE[name]() if name in _MADE else None


def known(name: str) -> Curve:
    """Returns the curve of a name that is in the table.

    Args:
        name: as for `curve`.

    Returns:
        The curve.
    """
    found = curve(name)
    assert found is not None
    return found


def elu(alpha: float) -> Curve:
    """Returns the exponential linear unit of one alpha."""
    grown = _scaled(_exponential(), alpha)
    first = Derivative(
        lambda x: alpha * jnp.expm1(x), lambda x: jnp.abs(alpha * jnp.expm1(x))
    )
    left = Curve("elu", [first, *grown.orders[1:]])
    return Kinked("elu", left, _line(1.0), smooth=1 if alpha == 1 else 0)


def leaky_relu(slope: float) -> Curve:
    """Returns the leaky rectifier of one slope."""
    return Kinked("leaky_relu", _line(slope), _line(1.0))


def _exponential() -> Curve:
    # The error of exp grows with its argument where that was rounded; not so here.
    one = Derivative(jnp.exp, jnp.exp)
    return Curve("exp", [one] * ORDERS, image=(0.0, math.inf))


def _scaled(curve: Curve, factor: float) -> Curve:
    def times(one: Derivative) -> Derivative:
        return Derivative(
            lambda x: factor * one.at(x),
            lambda x: abs(factor) * one.size(x),
            one.turning,
        )

    return Curve(curve.name, [times(one) for one in curve.orders], curve.domain)


def _expm1() -> Curve:
    first = Derivative(jnp.expm1, lambda x: jnp.abs(jnp.expm1(x)))
    return Curve("expm1", [first, *_exponential().orders[1:]])


def _erf() -> Curve:
    first = Derivative(jax.lax.erf, lambda x: jnp.abs(jax.lax.erf(x)))
    return _gaussian(
        "erf", [first], Polynomial([2 / math.sqrt(math.pi)]), 1.0, (-1.0, 1.0)
    )


def _erfc() -> Curve:
    first = Derivative(jax.lax.erfc, lambda x: jax.lax.erfc(x) * (1 + x * x))
    return _gaussian(
        "erfc", [first], Polynomial([-2 / math.sqrt(math.pi)]), 1.0, (0.0, 2.0)
    )


def _wave(name: str) -> Curve:
    phase = 1 if name == "cos" else 0
    turns = [jnp.sin, jnp.cos, lambda x: -jnp.sin(x), lambda x: -jnp.cos(x)]

    def size(x: Array) -> Array:
        return 1 + jnp.abs(x)

    orders = [Derivative(turns[(k + phase) % 4], size) for k in range(ORDERS)]
    return Wave(name, orders)


def _hyperbolic(name: str) -> Curve:
    pair = [jnp.sinh, jnp.cosh]
    shift = 1 if name == "cosh" else 0

    def size(x: Array) -> Array:
        # The exponents are rounded, and the exponentials in a small sinh cancel.
        return jnp.cosh(x) * (1 + jnp.abs(x))

    def order(k: int) -> Derivative:
        f = pair[(k + shift) % 2]
        return Derivative(f, size, (0.0,) if f is jnp.cosh else ())

    image = (1.0, math.inf) if name == "cosh" else (-math.inf, math.inf)
    return Curve(name, [order(k) for k in range(ORDERS)], image=image)


def _arctangent() -> Curve:
    r"""Returns y = arctan x, :math:`y^{(k)} = (k - 1)! \cos^k y \sin k(y + \pi/2)`."""
    half = math.pi / 2

    def order(k: int) -> Derivative:
        factor = math.factorial(k - 1)

        def at(x: Array) -> Array:
            y = jnp.arctan(x)
            return factor * jnp.cos(y) ** k * jnp.sin(k * (y + half))

        turning = [j * math.pi / (k + 1) - half for j in range(1, k + 1)]
        largest = factor * (2 * k + 2)
        return Derivative(
            at, lambda x: jnp.full_like(x, largest), tuple(map(math.tan, turning))
        )

    first = Derivative(jnp.arctan, lambda x: jnp.abs(jnp.arctan(x)))
    orders = [first, *map(order, range(1, ORDERS))]
    return Curve("atan", orders, image=(-half * (1 + 1e-6), half * (1 + 1e-6)))


_MADE: dict[str, Callable[[], Curve]] = {
    "tanh": lambda: _in_value(
        "tanh", jnp.tanh, math.atanh, Polynomial([1.0, 0.0, -1.0]), (-1.0, 1.0)
    ),
    "logistic": logistic,
    "exp": _exponential,
    "expm1": _expm1,
    "log": lambda: _logarithm("log", 0.0, jnp.log),
    "log1p": lambda: _logarithm("log1p", 1.0, jnp.log1p),
    "sin": lambda: _wave("sin"),
    "cos": lambda: _wave("cos"),
    "sqrt": lambda: power(0.5),
    "rsqrt": lambda: power(-0.5),
    "square": lambda: power(2),
    "sinh": lambda: _hyperbolic("sinh"),
    "cosh": lambda: _hyperbolic("cosh"),
    "atan": _arctangent,
    "erf": _erf,
    "erfc": _erfc,
    "softplus": _softplus,
    "silu": _silu,
    "relu": lambda: Kinked("relu", _line(0.0), _line(1.0)),
    "abs": lambda: Kinked("abs", _line(-1.0), _line(1.0)),
}
