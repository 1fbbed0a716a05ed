"""The differential equations of the benchmark: their solutions and what is built in."""

from itertools import combinations_with_replacement

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tables import assert_each

from benchmarks.equations import __main__ as benchmark
from benchmarks.equations import _references as references
from benchmarks.equations._problems import EQUATIONS
from benchmarks.equations._recipes import RECIPES


def patch(equation, centre, side):
    """A polynomial through a solution around a point, as a field."""
    rng = np.random.default_rng(0)
    size = len(centre)
    degree = 8 if size == 2 else 2
    powers = [
        [chosen.count(i) for i in range(size)]
        for order in range(degree + 1)
        for chosen in combinations_with_replacement(range(size), order)
    ]
    away = rng.uniform(-1, 1, (4 * len(powers), size))
    values = equation.solution(centre + side * away)
    table = np.prod(away[:, None] ** np.array(powers), axis=-1)
    fitted = np.linalg.lstsq(table, values)[0]

    chosen = np.array(powers)

    def field(x):
        z = (x - centre) / side
        # Whole powers, whose derivatives at zero are finite.
        each = jnp.stack([z**k for k in range(degree + 1)])
        return jnp.prod(each[chosen, np.arange(size)], axis=-1) @ fitted

    return field


def test_solutions_satisfy_their_equations(x64):
    # Smooth parts: between layers, plateaus and solitons.
    places = {
        "Allen-Cahn": [0.3, 0.1],
        "Burgers": [-0.4, 0.3],
        "KdV": [0.2, 0.1],
        "L-shape": [-0.5, 0.3],
    }
    sides = {"Laplace, 10 inputs": 0.2, "Kuramoto-Sivashinsky": 0.03}

    def check(name):
        equation = EQUATIONS[name]()
        low, high = map(np.asarray, (equation.lower, equation.upper))
        place = np.array(places.get(name, low + 0.37 * (high - low)))
        field = patch(equation, place, sides.get(name, 0.06))
        x = jnp.asarray(place)
        terms = jax.hessian(field)(x)
        for residual in equation.residuals.values():
            size = jnp.max(jnp.abs(terms)) + jnp.max(jnp.abs(field(x)))
            # A polynomial of degree 8 on a patch has lost two or three digits at its
            # fourth derivative.
            assert abs(residual(field, x)) < 2e-3 * size, name

    assert_each(EQUATIONS, check)


def test_networks_keep_the_conditions_that_are_built_in(x64):
    rng = np.random.default_rng(1)

    def check(name):
        equation = EQUATIONS[name]()
        network = equation.network(6, 3)
        params = network.init(jax.random.key(1))

        def field(x):
            return network.apply(params, x)

        for condition, (sampler, residual) in equation.conditions.items():
            points = jnp.asarray(sampler(rng, 6))
            gaps = jax.vmap(lambda x, r=residual: r(field, x))(points)
            if condition in equation.left:
                assert np.max(np.abs(gaps)) > 1e-3, condition
            else:
                np.testing.assert_allclose(gaps, 0, atol=1e-13, err_msg=condition)
            # And the solution satisfies every condition, where it is in closed form.
            if condition in ("start", "edges", "faces", "ends", "u", "v"):
                values = equation.solution(np.asarray(points))
                found = [
                    residual(lambda x, u=u: u, x)
                    for x, u in zip(points, map(jnp.asarray, values))
                ]
                # Trigonometric polynomials meet a kink at the ends to a few millionths.
                np.testing.assert_allclose(found, 0, atol=1e-5, err_msg=condition)

    assert_each(EQUATIONS, check)


def test_references_agree_between_resolutions():
    for name, (one, other, points) in references.all_references().items():
        gap = benchmark.relative_error(other(points[:100]), one(points[:100]))
        assert gap < 1e-6, name
    # The maximum principle bounds the error inside by that on the edges.
    assert references.l_shape_error(20) < 1e-6


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES)
def test_recipes_take_a_step(recipe):
    found = benchmark.alone("Poisson", recipe, 0.0, 0)
    assert np.isfinite(found["error"])
    assert found["steps"] > 0
