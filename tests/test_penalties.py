"""Penalties of residuals: by hand, and their derivatives against finite differences."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tables import assert_each, assert_refused

from jaxcon import penalties

INF = np.inf

huber_of_2 = partial(penalties.huber, delta=2.0)


def jet(penalty):
    """Value and slope, and curvature, at each of some residuals."""

    def at(r):
        value, slope = jax.value_and_grad(penalty)(r)
        return value, slope, jax.grad(jax.grad(penalty))(r)

    return jax.jit(jax.vmap(at))


BY_HAND = [
    (penalties.absolute, [-2.0, 0.0, 3.0], [2.0, 0.0, 3.0]),
    (penalties.quadratic, [-2.0, 0.0, 3.0], [2.0, 0.0, 4.5]),
    (penalties.hinge, [-2.0, 0.0, 3.0], [0.0, 0.0, 3.0]),
    (penalties.squared_hinge, [-2.0, 0.0, 3.0], [0.0, 0.0, 4.5]),
    (penalties.huber, [-2.0, 0.0, 1.0, 0.5], [1.5, 0.0, 0.5, 0.125]),
    (huber_of_2, [-3.0, 1.0], [4.0, 0.5]),
    (penalties.log_barrier, [-1.0, 0.0, 2.0], [0.0, INF, INF]),
    (penalties.log_quadratic, [-0.5, -0.25, 0.0, 2.0], [-0.375, -0.21875, 0.0, 4.0]),
    (penalties.exponential_quadratic, [-INF, 0.0, 1.0, 2.0], [-1.0, 0.0, 1.5, 4.0]),
]


def test_penalties_by_hand():
    residuals = [np.float32(residual) for _, residual, _ in BY_HAND]
    costs = jax.jit(lambda rows: [f(r) for (f, *_), r in zip(BY_HAND, rows)])(residuals)

    def check(row):
        assert costs[row].dtype == np.float32
        # All are exact in binary.
        np.testing.assert_array_equal(costs[row], np.float32(BY_HAND[row][2]))

    assert_each(range(len(BY_HAND)), check)


def test_log_barrier_is_a_logarithm_inside(x64):
    g = -np.array([1e-300, 0.1, 2.0, 1e300])
    # One rounding of log and one of the negation.
    rtol = 4 * np.finfo(np.float64).eps
    np.testing.assert_allclose(
        penalties.log_barrier(jnp.array(g)), -np.log(-g), rtol=rtol
    )


# Away from kinks.
SMOOTH = [
    (penalties.absolute, [-2.0, -0.5, 3.0]),
    (penalties.quadratic, [-2.0, 0.0, 3.0]),
    (penalties.hinge, [-2.0, -0.5, 3.0]),
    (penalties.squared_hinge, [-2.0, -0.5, 0.5, 3.0]),
    (penalties.huber, [-2.0, -0.9, 0.0, 0.3, 7.0]),
    (penalties.log_barrier, [-2.0, -0.5, -9.0]),
    (penalties.log_quadratic, [-9.0, -0.7, -0.3, 0.0, 2.0]),
    (penalties.exponential_quadratic, [-9.0, -0.7, 0.2, 3.0]),
]


def test_penalties_gradients_are_those_of_finite_differences(x64):
    step = 1e-5

    def difference_and_slope(penalty, r):
        difference = (penalty(r + step) - penalty(r - step)) / (2 * step)
        return difference, jax.vmap(jax.grad(penalty))(r)

    @jax.jit
    def differences_and_slopes(rows):
        return [difference_and_slope(f, r) for (f, _), r in zip(SMOOTH, rows)]

    found = differences_and_slopes([np.array(r) for _, r in SMOOTH])

    def check(row):
        # Truncation is step² of third derivatives below 100, rounding 1e-15 / step.
        np.testing.assert_allclose(*found[row], rtol=1e-7, atol=1e-9)

    assert_each(range(len(SMOOTH)), check)


def test_penalties_slopes_at_zero_are_zero_and_not_nan():
    smooth = (penalties.quadratic, penalties.squared_hinge, penalties.huber)
    for slope in jax.jit(lambda r: [jax.grad(f)(r) for f in smooth])(0.0):
        assert float(slope) == 0.0


def test_log_barrier_outside_is_infinite_with_a_zero_gradient():
    outside = np.float32([0.0, 1e-30, 5.0])
    value, slope = jax.jit(jax.vmap(jax.value_and_grad(penalties.log_barrier)))(outside)
    np.testing.assert_array_equal(value, np.full(3, INF))
    np.testing.assert_array_equal(slope, np.zeros(3))


def test_huber_is_smooth_where_it_turns_linear(x64):
    delta, step = 0.7, 1e-9
    ends = np.array([delta - step, delta + step])
    cost, slope, _ = jet(partial(penalties.huber, delta=delta))(ends)
    # Value and slope differ across the seam by their own slopes times 2e-9, at most.
    np.testing.assert_allclose(np.diff(cost), 0, atol=2.1 * step * delta)
    np.testing.assert_allclose(slope, delta, atol=2.1 * step)


# Where each of the two changes its formula.
BARRIERS = {penalties.log_quadratic: -0.5, penalties.exponential_quadratic: 0.0}
barriers = pytest.mark.parametrize("phi", BARRIERS, ids=lambda phi: phi.__name__)


@barriers
def test_barriers_rise_are_convex_and_twice_differentiable_at_their_seams(phi, x64):
    far = np.geomspace(1e-6, 30, 300)
    seam, step = BARRIERS[phi], 1e-4
    t = np.concatenate([-far[::-1], [0.0], far, seam + step * np.arange(-2, 3)])
    value, slope, curvature = map(np.array, jet(phi)(t))

    zero = len(far)  # a multiplier stays as it is where the residual is zero
    assert (value[zero], slope[zero]) == (0.0, 1.0)
    assert (np.diff(value[:-5]) > 0).all()
    assert (np.diff(slope[:-5]) > 0).all()
    assert (slope > 0).all()

    value, slope, curvature = value[-5:], slope[-5:], curvature[-5:]
    # Differences across the seam see half the jump of the third derivative, at most 4
    # here, times the step; and to first and second derivatives rounding / step².
    differences = np.diff(value, 2) / step**2
    np.testing.assert_allclose(differences, curvature[2], atol=4 * step)
    np.testing.assert_allclose(np.diff(slope) / step, curvature[2], atol=8 * step)
    np.testing.assert_allclose(curvature, curvature[2], atol=8 * step)
    assert curvature[2] == pytest.approx(1.0)


@barriers
def test_barriers_slopes_are_finite_everywhere(phi):
    far = np.float32([-INF, -1e6, -100.0, -0.5, -1e-30, 0.0, 1e-30, 100.0, 1e6])
    for dtype in (jnp.bfloat16, jnp.float32):
        at = jax.jit(jax.vmap(jax.value_and_grad(phi)))
        value, slope = at(jnp.array(far, dtype))
        assert np.isfinite(np.float32(value[1:])).all()
        assert np.isfinite(np.float32(slope)).all()
        assert (np.float32(slope) >= 0).all()
        # Far outside it is a parabola's.
        assert float(slope[-1]) == pytest.approx(1e6, rel=0.01)


@barriers
def test_barriers_branches_make_no_nan_of_one_another(phi):
    t = np.float32([*-np.geomspace(1e-8, 1e8, 99), 0.0, *np.geomspace(1e-8, 1e8, 99)])
    _, slope, curvature = jet(phi)(t)
    assert np.isfinite(slope).all()
    assert np.isfinite(curvature).all()


RESIDUAL = {name: "h" for name in ("absolute", "quadratic", "huber")}
RESIDUAL |= {name: "g" for name in ("hinge", "squared_hinge", "log_barrier")}
RESIDUAL |= {name: "t" for name in ("log_quadratic", "exponential_quadratic")}


def test_penalties_refuse_residuals_without_a_derivative():
    """Also rules such as w <= 1 and counts, of which no penalty makes a constraint."""
    assert RESIDUAL.keys() == set(penalties.__all__)
    bad = ["text", None, True, {}, 1j, jnp.array([True]), jnp.arange(3), [None, 1.0]]
    assert_refused(
        (partial(getattr(penalties, name), value), TypeError, f"^{name}: {letter} must")
        for name, letter in RESIDUAL.items()
        for value in bad
    )


def test_huber_refuses_a_delta_that_is_no_positive_number():
    h = np.ones(2, np.float32)
    assert_refused(
        (partial(penalties.huber, h, delta), error, "^huber: delta must be")
        for error, deltas in {
            TypeError: ["1", None, True, 1j, np.ones(2), [1.0]],
            ValueError: [0, -1.0, INF, np.nan, 10**400],
        }.items()
        for delta in deltas
    )
    assert jax.jit(penalties.huber)(h, 0.5)[0] == 0.375


def test_huber_of_half_precision_takes_a_delta_beyond_its_range():
    value = penalties.huber(jnp.ones(1, jnp.float16), 1e6)
    assert (value.dtype, value[0]) == (jnp.float16, 0.5)


def test_penalties_of_nan_are_nan():
    for name in penalties.__all__:
        assert np.isnan(getattr(penalties, name)(np.float32(np.nan))), name
