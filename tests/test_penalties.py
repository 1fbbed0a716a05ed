"""Prices of residuals: by hand, and their gradients against finite differences."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcon import penalties

INF = np.inf


@pytest.mark.parametrize(
    ("penalty", "residual", "cost"),
    [
        (penalties.absolute, [-2.0, 0.0, 3.0], [2.0, 0.0, 3.0]),
        (penalties.quadratic, [-2.0, 0.0, 3.0], [2.0, 0.0, 4.5]),
        (penalties.hinge, [-2.0, 0.0, 3.0], [0.0, 0.0, 3.0]),
        (penalties.squared_hinge, [-2.0, 0.0, 3.0], [0.0, 0.0, 4.5]),
        (penalties.huber, [-2.0, 0.0, 1.0, 0.5], [1.5, 0.0, 0.5, 0.125]),
        (lambda h: penalties.huber(h, 2.0), [-3.0, 1.0], [4.0, 0.5]),
        (penalties.log_barrier, [-1.0, 0.0, 2.0], [0.0, INF, INF]),
        (
            penalties.log_quadratic,
            [-0.5, -0.25, 0.0, 2.0],
            [-0.375, -0.21875, 0.0, 4.0],
        ),
        (penalties.exponential_quadratic, [-INF, 0.0, 1.0, 2.0], [-1.0, 0.0, 1.5, 4.0]),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_by_hand(penalty, residual, cost):
    residual = jnp.array(residual)
    price = penalty(residual)
    assert price.dtype == residual.dtype
    np.testing.assert_array_equal(price, np.float32(cost))  # all are exact in binary


def test_log_barrier_inside(x64):
    g = -np.array([1e-300, 0.1, 2.0, 1e300])
    # One rounding of log and one of the negation.
    rtol = 4 * np.finfo(np.float64).eps
    np.testing.assert_allclose(
        penalties.log_barrier(jnp.array(g)), -np.log(-g), rtol=rtol
    )


@pytest.mark.parametrize(
    ("penalty", "residual"),
    [
        (penalties.absolute, [-2.0, -0.5, 3.0]),
        (penalties.quadratic, [-2.0, 0.0, 3.0]),
        (penalties.hinge, [-2.0, -0.5, 3.0]),
        (penalties.squared_hinge, [-2.0, -0.5, 0.5, 3.0]),
        (penalties.huber, [-2.0, -0.9, 0.0, 0.3, 7.0]),
        (penalties.log_barrier, [-2.0, -0.5, -9.0]),
        (penalties.log_quadratic, [-9.0, -0.7, -0.3, 0.0, 2.0]),
        (penalties.exponential_quadratic, [-9.0, -0.7, 0.2, 3.0]),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_gradient_against_finite_differences(x64, penalty, residual):
    # Central differences in float64: truncation eps², rounding 1e-16 / eps.
    chex.assert_numerical_grads(
        lambda r: jnp.sum(penalty(r)), (jnp.array(residual),), order=1, rtol=1e-4
    )


@pytest.mark.parametrize(
    ("penalty", "slope"),
    [
        (penalties.quadratic, 0.0),
        (penalties.squared_hinge, 0.0),
        (penalties.huber, 0.0),
        (penalties.log_barrier, 0.0),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_gradient_at_zero_is_zero_and_not_nan(penalty, slope):
    assert float(jax.grad(penalty)(0.0)) == slope


@pytest.mark.parametrize("g", [0.0, 1e-30, 5.0])
def test_log_barrier_outside_is_infinite_with_a_zero_gradient(g):
    value, slope = jax.value_and_grad(penalties.log_barrier)(jnp.array(g))
    assert float(value) == INF
    assert float(slope) == 0.0


def test_huber_is_smooth_where_it_turns_linear(x64):
    delta, step = 0.7, 1e-9
    ends = jnp.array([delta - step, delta + step])
    cost, slope = jax.vmap(jax.value_and_grad(lambda h: penalties.huber(h, delta)))(
        ends
    )
    # Value and slope differ across the seam by their own slopes times 2e-9, at most.
    np.testing.assert_allclose(np.diff(cost), 0, atol=2.1 * step * delta)
    np.testing.assert_allclose(slope, delta, atol=2.1 * step)


# Where each of the two changes its formula.
BARRIERS = {penalties.log_quadratic: -0.5, penalties.exponential_quadratic: 0.0}
barriers = pytest.mark.parametrize("phi", BARRIERS, ids=lambda phi: phi.__name__)


@barriers
def test_a_barrier_leaves_the_multiplier_as_it_is_where_the_residual_is_zero(phi, x64):
    value, slope = jax.value_and_grad(phi)(0.0)
    assert (float(value), float(slope)) == (0.0, 1.0)


@barriers
def test_a_barrier_is_twice_continuously_differentiable_at_its_seam(phi, x64):
    seam, step = BARRIERS[phi], 1e-4
    t = jnp.array(seam + step * np.arange(-2, 3))
    value, slope = jax.vmap(jax.value_and_grad(phi))(t)
    curvature = jax.vmap(jax.grad(jax.grad(phi)))(t)
    # Differences across the seam see half the jump of the third derivative, at most 4
    # here, times the step; and to first and second derivatives rounding / step².
    differences = np.diff(value, 2) / step**2
    np.testing.assert_allclose(differences, curvature[2], atol=4 * step)
    np.testing.assert_allclose(np.diff(slope) / step, curvature[2], atol=8 * step)
    np.testing.assert_allclose(curvature, curvature[2], atol=8 * step)
    assert curvature[2] == pytest.approx(1.0)


@barriers
def test_a_barrier_is_convex_and_increasing(phi, x64):
    t = np.unique([*-np.geomspace(1e-6, 30, 300), 0.0, *np.geomspace(1e-6, 30, 300)])
    value, slope = jax.vmap(jax.value_and_grad(phi))(jnp.array(t))
    assert (np.diff(value) > 0).all()
    assert (np.diff(slope) > 0).all()
    assert (slope > 0).all()


@barriers
@pytest.mark.parametrize("residual_dtype", [jnp.bfloat16, jnp.float32])
def test_a_barrier_s_slope_is_finite_everywhere(phi, residual_dtype):
    far = [-INF, -1e6, -100.0, -0.5, -1e-30, 0.0, 1e-30, 100.0, 1e6]
    value, slope = jax.vmap(jax.value_and_grad(phi))(jnp.array(far, residual_dtype))
    assert np.isfinite(np.float32(value[1:])).all()
    assert np.isfinite(np.float32(slope)).all()
    assert (slope >= 0).all()
    # Far outside it is a parabola's.
    assert float(slope[-1]) == pytest.approx(1e6, rel=0.01)


@barriers
@pytest.mark.parametrize("order", [1, 2])
def test_no_branch_of_a_barrier_makes_a_nan_of_another_s(phi, order):
    derivative = phi
    for _ in range(order):
        derivative = jax.grad(derivative)
    t = np.float32([*-np.geomspace(1e-8, 1e8, 99), 0.0, *np.geomspace(1e-8, 1e8, 99)])
    assert np.isfinite(jax.vmap(derivative)(t)).all()
