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
