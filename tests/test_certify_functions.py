"""Ranges of elementary functions and of their derivatives, against mpmath."""

import mpmath as mp
import numpy as np
import pytest

from jaxcon.certify import _functions
from jaxcon.certify._curves import Kinked
from jaxcon.certify._proof import double

INTERVALS, POINTS = 40, 7
POWERS = (2, 3, 4, -1, -2, 0.5, -0.5, 1.5)


def by_taylor(f):
    """All derivatives of a function that is analytic well around the real line."""

    def derivatives(x, count):
        found = mp.taylor(f, x, count - 1)
        return [c * mp.factorial(k) for k, c in enumerate(found)]

    return derivatives


def of_power(a):
    """x^a, whose derivatives are known."""

    def derivatives(x, count):
        found = []
        for k in range(count):
            factor = mp.mpf(1)
            for i in range(k):
                factor *= a - i
            found.append(factor * mp.power(x, a - k) if factor else mp.mpf(0))
        return found

    return derivatives


def of_shifted_log(shift):
    def derivatives(x, count):
        y = x + shift
        # log1p, not log of the sum: near 0 the two differ at any precision.
        first = mp.log1p(x) if shift else mp.log(x)
        return [first, *of_power(-1)(y, count - 1)]

    return derivatives


def of_wave(phase):
    def derivatives(x, count):
        turns = [mp.sin(x), mp.cos(x), -mp.sin(x), -mp.cos(x)]
        return [turns[(k + phase) % 4] for k in range(count)]

    return derivatives


def of_erf(sign, value):
    """Hermite's polynomials times a bell."""

    def derivatives(x, count):
        bell = sign * 2 / mp.sqrt(mp.pi) * mp.exp(-x * x)
        rest = [(-1) ** k * mp.hermite(k, x) * bell for k in range(count - 1)]
        return [value(x), *rest]

    return derivatives


def of_arctangent(x, count):
    """All derivatives as polynomials over powers of 1 + x^2."""
    found, p = [mp.atan(x)], [mp.mpf(1)]
    for k in range(1, count):
        value = sum(c * x**n for n, c in enumerate(p))
        found.append(value / (1 + x * x) ** k)
        slope = [n * c for n, c in enumerate(p)][1:]
        after = [mp.mpf(0)] * (len(p) + 1)
        for n, c in enumerate(slope):
            after[n] += c
            after[n + 2] += c
        for n, c in enumerate(p):
            after[n + 1] -= 2 * k * c
        p = after
    return found


def logistic(x):
    return 1 / (1 + mp.exp(-x))


def of_softplus(x, count):
    value = max(x, mp.mpf(0)) + mp.log1p(mp.exp(-abs(x)))
    return [value, *by_taylor(logistic)(x, count - 1)]


def line(slope):
    return lambda x, count: [slope * x, mp.mpf(slope), *[mp.mpf(0)] * (count - 2)]


def of_exp(first, factor=1):
    def derivatives(x, count):
        return [factor * first(x), *[factor * mp.exp(x)] * (count - 1)]

    return derivatives


def kinked(left, right):
    return lambda x, count: (left if x < 0 else right)(x, count)


TRUE = {
    "tanh": by_taylor(mp.tanh),
    "logistic": by_taylor(logistic),
    "exp": of_exp(mp.exp),
    "expm1": of_exp(mp.expm1),
    "log": of_shifted_log(0),
    "log1p": of_shifted_log(1),
    "sin": of_wave(0),
    "cos": of_wave(1),
    "sqrt": of_power(0.5),
    "rsqrt": of_power(-0.5),
    "square": of_power(2),
    "sinh": by_taylor(mp.sinh),
    "cosh": by_taylor(mp.cosh),
    "atan": of_arctangent,
    "erf": of_erf(1, mp.erf),
    "erfc": of_erf(-1, mp.erfc),
    "softplus": of_softplus,
    "silu": by_taylor(lambda x: x * logistic(x)),
    "relu": kinked(line(0), line(1)),
    "abs": kinked(line(-1), line(1)),
}
CURVES = {name: (_functions.known(name), TRUE[name]) for name in TRUE}
CURVES |= {f"power {a}": (_functions.power(a), of_power(a)) for a in POWERS}
CURVES |= {
    f"elu {a}": (_functions.elu(a), kinked(of_exp(mp.expm1, a), line(1)))
    for a in (1.0, 0.7)
}
CURVES["leaky_relu"] = _functions.leaky_relu(0.01), kinked(line(0.01), line(1))


def test_certify_functions_are_all_tested():
    assert set(TRUE) == set(_functions._MADE)


@pytest.mark.parametrize("name", ["sin", "cos"])
def test_certify_functions_know_waves_of_every_order(name):
    curve, x = CURVES[name][0], np.linspace(-4, 4, 17, dtype=np.float32)
    for order in range(8):
        low, high = curve.range(order, x, x + np.float32(0.25))
        again, top = curve.range(order % 4, x, x + np.float32(0.25))
        np.testing.assert_allclose(low, again, atol=1e-5)
        np.testing.assert_allclose(high, top, atol=1e-5)


def turning(curve):
    """Points where the range is not that of the two ends, and zero."""
    return [0.0, *{p for one in curve.orders for p in one.turning}]


def intervals(name, curve, dtype):
    """Intervals of all widths: anywhere, around turning points, inside the domain."""
    draw = np.random.default_rng(len(name))
    n = INTERVALS // 4
    wide = 10 ** draw.uniform(-9, 3, INTERVALS)
    middle = [
        draw.normal(size=n),
        30 * draw.normal(size=n),
        draw.choice(turning(curve), n) + wide[2 * n : 3 * n] * draw.uniform(-1, 1, n),
        10 ** draw.uniform(-6, 3, n) * draw.choice([-1, 1], n),
    ]
    middle = np.concatenate(middle)
    lower, upper = middle - wide / 2, middle + wide / 2
    if name in ("power -1", "power -2"):  # on one side of the pole
        lower, upper = np.abs(middle), np.abs(middle) + wide
        below = middle < 0
        lower, upper = np.where(below, -upper, lower), np.where(below, -lower, upper)
    elif np.isfinite(curve.domain[0]):
        lower = np.abs(middle) + curve.domain[0]
        upper = lower + wide
    if name in ("exp", "expm1", "sinh", "cosh"):  # within the range of floats
        lower, upper = np.clip(lower, -60, 60), np.clip(upper, -60, 60)
    lower, upper = lower.astype(dtype), upper.astype(dtype)
    upper[:4] = np.nextafter(lower[:4], np.inf, dtype=dtype)  # one ulp
    inside = (lower > curve.domain[0]) & (lower <= upper)
    return lower[inside], upper[inside]


def points(lower, upper):
    """Numbers of an interval, its ends among them, zero too if it is inside."""
    a, b = float(lower), float(upper)
    found = {a, b, *(a + (b - a) * np.linspace(0, 1, POINTS - 2)).tolist()}
    return [mp.mpf(x) for x in found if a <= x <= b]


def assert_contained(name, dtype):
    curve, true = CURVES[name]
    lower, upper = intervals(name, curve, dtype)
    assert len(lower) > INTERVALS / 2
    count = len(curve.orders)
    ranges = [
        [np.asarray(end) for end in curve.range(k, lower, upper)] for k in range(count)
    ]
    sizes = [np.asarray(curve.sampled(k, lower, lower, lower)[3]) for k in range(count)]
    assert all(end.dtype == dtype for pair in ranges for end in pair)
    for i, (a, b) in enumerate(zip(lower, upper)):
        values = [true(x, count) for x in points(a, b)]
        if isinstance(curve, Kinked) and a <= 0 <= b:  # the derivatives from the left
            values += [true(-(mp.mpf(10) ** -400), count)]
        for k, (least, most) in enumerate(ranges):
            least, most = float(least[i]), float(most[i])
            for x, each in zip(points(a, b), values):
                # What is not a number is no bound.
                assert not each[k] < least, (name, k, a, b, x, each[k], least)
                assert not each[k] > most, (name, k, a, b, x, each[k], most)
            kink = isinstance(curve, Kinked) and a <= 0 <= b
            if not kink and float(b) - float(a) <= 1e-6 * abs(float(a)):
                seen = [each[k] for each in values]
                spread = float(max(seen) - min(seen))
                loose = (most - least) - 2 * spread
                assert loose <= 1e-3 * float(sizes[k][i]) + 1e-30, (name, k, a, b)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", CURVES)
def test_certify_functions_ranges_contain_every_derivative(name, dtype):
    with mp.workdps(40):
        if dtype == "float64":
            with double():
                assert_contained(name, np.float64)
        else:
            assert_contained(name, np.float32)
