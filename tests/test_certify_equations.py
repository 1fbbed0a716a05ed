"""Proved residuals and errors of differential equations, against closed forms."""

import jax.numpy as jnp
import numpy as np
import pytest
from tables import assert_refused

import jaxcon as jc
from jaxcon.certify import Advection, Heat, Ordinary, Poisson, error_bound
from jaxcon.derivatives import Gradient, Laplacian, Partial, Value

TOLERANCE = 2e-3  # where residuals are constant, no box is better than another

# The exact solutions, and what is added to them, times params.


def sine(x):
    return jnp.sin(x[0])


def interval(p, x):
    """-u'' = sin has sin; p x (1 - x) / 2 is what a residual of p adds."""
    return sine(x) + p * x[0] * (1 - x[0]) / 2


def square(p, x):
    """-(u_xx + u_yy) = -2 y has x^2 y; p x (2 - x) / 2 is what a residual of p adds."""
    return x[0] ** 2 * x[1] + p * x[0] * (2 - x[0]) / 2


def heat(p, x):
    """u_t = u_xx / 2 has x^2 + t; p t is what a residual of p adds."""
    return x[1] ** 2 + x[0] + p * x[0]


def wave(p, x):
    """u_t + 2 u_x + c u = 0 has e^(-c t) sin(x - 2 t), for c = p["c"]."""
    moved = jnp.sin(x[1] - 2 * x[0])
    return jnp.exp(-p["c"] * x[0]) * moved + p["error"] * (1 + x[0])


def decay(p, x):
    """u' = mu u has e^(mu t), for mu = p["mu"]; the rest is an error at the start."""
    return (1 + p["error"]) * jnp.exp(p["mu"] * x[0])


def poisson(apply, source):
    return jc.shapes.Pointwise(
        apply, None, (Laplacian(),), lambda x, bend: -bend - source(x)
    )


HEAT = jc.shapes.Pointwise(
    heat,
    None,
    (Gradient(), Partial((1, 1))),
    lambda x, slope, bend: slope[0] - bend / 2,
)


def transport(c):
    return jc.shapes.Pointwise(
        wave,
        None,
        (Value(), Gradient()),
        lambda x, u, slope: slope[0] + 2 * slope[1] + c * u,
    )


def growth(mu):
    return jc.shapes.Pointwise(
        decay, None, (Value(), Partial(0)), lambda x, u, slope: slope - mu * u
    )


def assert_tight(found, true, loosest):
    assert found.decided
    assert true <= found.bound <= loosest * true
    assert f"{found.bound:.6g}" in str(found)
    assert found.theorem in str(found)


def test_residual_bound_encloses_the_largest_absolute_value():
    # -u'' - sin is p; the cubic makes it p - 6 q x with a zero inside.
    residual = jc.shapes.Pointwise(
        lambda p, x: interval(p, x) + x[0] ** 3,
        None,
        (Laplacian(),),
        lambda x, bend: -bend - sine(x),
    )
    found = jc.certify.residual_bound(residual, [-0.5], [1.0], params=1.0)
    assert found.decided
    assert found.largest <= 5.0 <= found.bound <= 5.0 * 1.003
    np.testing.assert_allclose(found.point, [1.0], atol=1e-2)
    assert "at most" in str(found)
    assert "reaches" in str(found)


def test_residual_bound_without_time_is_still_a_bound():
    found = jc.certify.residual_bound(
        poisson(interval, sine), [0.0], [1.0], params=0.3, tolerance=1e-9, budget=0.0
    )
    assert not found.decided
    assert found.largest <= 0.3 + 1e-15
    assert 0.3 <= found.bound
    assert "budget" in str(found)


def test_residual_bound_of_a_residual_that_is_zero_ends():
    found = jc.certify.residual_bound(
        HEAT, [0.0, 0.0], [0.5, 1.0], params=0.0, tolerance=0.02
    )
    assert found.decided
    assert 0 <= found.largest < 1e-12
    assert 0 <= found.bound <= 0.02 + 1e-12


def test_residual_bound_keeps_to_a_domain():
    residual = jc.shapes.equals(lambda p, x: x[0] + x[1], 0.0)
    found = jc.certify.residual_bound(
        residual, [0.0, 0.0], [1.0, 1.0], within=jc.certify.simplex()
    )
    assert found.largest <= 1.0 <= found.bound <= 1.003


def test_error_bound_of_poisson_in_one_input_is_attained():
    # The error is p x (1 - x) / 2, at most p / 8: the theorem's constant is sharp.
    found = error_bound(
        Poisson(),
        poisson(interval, sine),
        jc.shapes.equals(interval, sine),
        [0.0],
        [1.0],
        params=0.4,
        tolerance=TOLERANCE,
    )
    assert_tight(found, 0.4 / 8, 1.05)
    assert found.growth == 1.0
    np.testing.assert_allclose(found.constant, 1 / 8)
    assert found.constant > 1 / 8


def test_error_bound_of_poisson_in_two_inputs():
    def exact(x):
        return square(0.0, x)

    found = error_bound(
        Poisson(),
        poisson(square, lambda x: -2 * x[1]),
        jc.shapes.equals(square, exact),
        [0.0, 0.0],
        [2.0, 1.0],
        params=0.4,
        tolerance=TOLERANCE,
    )
    # p / 2 on the boundary at x = 1, y = 0, and as much inside; 1 / 8 of p for the rest.
    assert_tight(found, 0.4 / 2, 1.3)
    np.testing.assert_allclose(found.boundary, 0.2, rtol=5e-2)
    np.testing.assert_allclose(found.residual, 0.4, rtol=5e-2)
    np.testing.assert_allclose(found.constant, 1 / 8)


def test_error_bound_of_poisson_finds_the_worst_face():
    # The error is p y on a box whose upper end of y is the only face where it is p.
    def apply(p, x):
        return p * x[1]

    found = error_bound(
        Poisson(),
        poisson(apply, lambda x: 0.0 * x[0]),
        jc.shapes.equals(apply, 0.0),
        [0.0, -0.5],
        [1.0, 1.0],
        params=-2.0,
        tolerance=TOLERANCE,
    )
    assert_tight(found, 2.0, 1.003)


@pytest.mark.parametrize(("end", "constant"), [(0.5, 0.5), (9.0, 1.0)])
def test_error_bound_of_heat(end, constant):
    # u is p t off: as much at the end of time as the residual's part for a short one.
    def exact(x):
        return heat(0.0, x)

    found = error_bound(
        Heat(0.5),
        HEAT,
        jc.shapes.equals(heat, exact),
        [0.0, 0.0],
        [end, 2.0],
        params=0.1,
        tolerance=TOLERANCE,
    )
    assert_tight(found, 0.1 * end, 2.1)
    np.testing.assert_allclose(found.constant, constant)
    np.testing.assert_allclose(found.boundary, 0.1 * end, rtol=5e-2)


def test_error_bound_of_heat_with_other_initial_values():
    # The sides are compared with u there, the start with itself plus 1 / 2.
    found = error_bound(
        Heat(0.5),
        HEAT,
        jc.shapes.equals(heat, lambda x: heat(0.0, x)),
        [0.0, 0.0],
        [0.25, 2.0],
        initial=jc.shapes.equals(heat, lambda x: x[1] ** 2 + 0.5),
        params=0.1,
        tolerance=TOLERANCE,
    )
    np.testing.assert_allclose(found.boundary, 0.5, rtol=5e-2)
    assert found.boundary >= 0.5


def test_error_bound_of_advection():
    # The error is e (1 + t), its residual e (1 + c (1 + t)).
    c, end = -0.5, 0.5
    params = {"c": c, "error": 0.1}
    found = error_bound(
        Advection((2.0,), reaction=c),
        transport(c),
        jc.shapes.equals(wave, lambda x: wave({"c": c, "error": 0.0}, x)),
        [0.0, 0.0],
        [end, 3.0],
        params=params,
        tolerance=TOLERANCE,
    )
    assert_tight(found, 0.1 * (1 + end), 1.6)
    np.testing.assert_allclose(found.residual, 0.1 * (1 + c), atol=2 * TOLERANCE)
    np.testing.assert_allclose(found.constant, (1 - np.exp(-c * end)) / c)
    np.testing.assert_allclose(found.growth, np.exp(max(-c, 0) * end))


def test_error_bound_of_advection_stays_as_long_as_a_characteristic():
    # It crosses a side of 1 at a speed of 2 in half of the time.
    equation = Advection((-2.0,))
    wave_back = jc.shapes.Pointwise(
        lambda p, x: p * x[0], None, (Gradient(),), lambda x, g: g[0] - 2 * g[1]
    )
    found = error_bound(
        equation,
        wave_back,
        jc.shapes.equals(wave_back.apply, lambda x: x[0] * (x[1] - 1)),
        [0.0, 0.0],
        [4.0, 1.0],
        params=0.0,
        tolerance=TOLERANCE,
    )
    np.testing.assert_allclose(found.constant, 0.5)
    # Values are read where it enters, at x = 1, and not where it leaves.
    assert found.boundary <= TOLERANCE


@pytest.mark.parametrize("mu", [-2.0, 1.0])
def test_error_bound_of_an_ordinary_equation(mu):
    # Only the start is wrong: by 0.1 there, by 0.1 e^(mu t) later.
    found = error_bound(
        Ordinary(mu),
        growth(mu),
        jc.shapes.equals(decay, 1.0),
        [0.0],
        [1.5],
        params={"mu": mu, "error": 0.1},
        tolerance=TOLERANCE,
    )
    assert_tight(found, 0.1 * max(1.0, np.exp(1.5 * mu)), 1.05)


def test_error_bound_of_an_ordinary_equation_by_its_residual():
    # u = (1 + e t) e^(mu t) starts right, with a residual of e e^(mu t).
    def apply(p, x):
        return (1 + p * x[0]) * jnp.exp(-x[0])

    residual = jc.shapes.Pointwise(
        apply, None, (Value(), Partial(0)), lambda x, u, slope: slope + u
    )
    found = error_bound(
        Ordinary(-1.0),
        residual,
        jc.shapes.equals(apply, 1.0),
        [0.0],
        [1.0],
        params=0.2,
        tolerance=TOLERANCE,
    )
    true = 0.2 * np.exp(-1)
    assert_tight(found, true, 1.75)
    np.testing.assert_allclose(found.constant, 1 - np.exp(-1))


def test_error_bound_of_a_network_is_above_its_error():
    rng = np.random.default_rng(0)
    params = {"w": rng.normal(size=(2, 8)), "v": rng.normal(size=8) / 8}

    def apply(p, x):
        return jnp.tanh(x @ p["w"]) @ p["v"]

    # Beside u = 0: the error is the network itself.
    found = error_bound(
        Poisson(),
        poisson(apply, lambda x: 0.0 * x[0]),
        jc.shapes.equals(apply, 0.0),
        [-1.0, -1.0],
        [1.0, 1.0],
        params=params,
        tolerance=TOLERANCE,
    )
    ends = np.linspace(-1, 1, 41)
    points = np.stack(np.meshgrid(ends, ends), -1).reshape(-1, 2)
    true = np.abs(np.tanh(points @ params["w"]) @ params["v"]).max()
    assert true <= found.bound <= 3 * true
    assert found.boundary >= true * (1 - 1e-12)


def test_equations_refuse_what_is_malformed():
    residual, edge = HEAT, jc.shapes.equals(heat, 0.0)
    box = [0.0, 0.0], [1.0, 1.0]
    line = [0.0], [1.0]

    def bound(equation, *corners, **options):
        return lambda: error_bound(equation, residual, edge, *corners, **options)

    assert_refused(
        [
            (lambda: Heat(0.0), ValueError, "conductivity"),
            (lambda: Heat(1.0, time=-1), ValueError, "time"),
            (lambda: Heat("k"), TypeError, "conductivity"),  # pyright: ignore
            (lambda: Advection("fast"), TypeError, "velocity"),
            (lambda: Advection((1.0,), reaction=np.nan), ValueError, "reaction"),
            (lambda: Ordinary(np.inf), ValueError, "slope"),
            (bound("heat", *box), TypeError, "equation"),
            (bound(Heat(), [0.0, 0.0], [1.0, 0.0]), ValueError, "lower"),
            (bound(Heat(), *line), ValueError, "one place"),
            (bound(Heat(time=2), *box), ValueError, "time=2"),
            (bound(Advection((1.0, 2.0)), *box), ValueError, "velocity"),
            (bound(Ordinary(1.0), *box), ValueError, "one, the time"),
            (bound(Ordinary(1e4), *line), ValueError, "grow"),
            (bound(Poisson(), *box, initial=edge), ValueError, "without time"),
            (bound(Heat(), *box, tolerance=0.0), ValueError, "tolerance"),
            (bound(Heat(), *box, budget=-1.0), ValueError, "budget"),
            (
                lambda: error_bound(Heat(), heat, edge, *box),
                TypeError,
                "jaxcon.shapes",
            ),
            (
                lambda: jc.certify.residual_bound(residual, *box, tolerance=-1.0),
                ValueError,
                "tolerance",
            ),
            (
                lambda: jc.certify.residual_bound(residual, *box, within=[3]),
                TypeError,
                "within",
            ),
        ]
    )
