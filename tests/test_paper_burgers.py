"""The solution of Burgers' equation that both coefficients are recovered from."""

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad

from papers import raissi2019_burgers_inverse as burgers


def by_quadpack(t, x):
    """The formula of Cole and Hopf, integrated by SciPy's adaptive rule."""
    nu = burgers.LAMBDA2

    def weight(y):
        start = (np.cos(np.pi * y) + 1) / (2 * np.pi * nu)
        return np.exp(-start - (x - y) ** 2 / (4 * nu * t))

    def integral(function):
        # In pieces, for the weight has several narrow maxima.
        edges = pairwise(np.linspace(x - 2, x + 2, 41))
        return sum(quad(function, *edge, epsabs=0, epsrel=1e-12)[0] for edge in edges)

    return integral(lambda y: (x - y) / t * weight(y)) / integral(weight)


def test_burgers_solution_is_what_another_quadrature_finds(x64):
    places = np.array([(t, x) for t in (0.1, 0.5, 0.99) for x in (-0.6, 0.02, 0.3)])
    found = jax.jit(jax.vmap(burgers.solution))(places)
    expected = [by_quadpack(t, x) for t, x in places]
    np.testing.assert_allclose(found, expected, atol=1e-8)


def test_burgers_solution_starts_as_the_paper_s_and_is_zero_at_the_ends(x64):
    x = np.linspace(-1, 1, 21)
    at = jax.jit(jax.vmap(lambda t, x: burgers.solution(jnp.stack([t, x])), (None, 0)))
    np.testing.assert_allclose(at(0.0, x), -np.sin(np.pi * x), atol=1e-12)
    np.testing.assert_allclose(np.asarray(at(0.7, x))[[0, -1]], 0.0, atol=1e-10)


@pytest.mark.slow
def test_burgers_equation_is_the_same_by_nested_gradients(x64):
    x = jnp.array([0.3, 0.4])
    once = burgers.equation(burgers.solution, 1.0, 0.01 / np.pi, x)
    again = burgers.nested(burgers.solution, 1.0, 0.01 / np.pi, x)
    np.testing.assert_allclose(once, again, atol=1e-10)
    assert abs(once.residual) < 1e-8
