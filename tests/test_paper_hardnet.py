"""The piecewise fit of HardNet's paper: its data, its bounds, and layers on them."""

import jax
import numpy as np
import pytest

import jaxcon as jc
from papers import min2024_hardnet as hardnet


@pytest.fixture(scope="module")
def params():
    """Parameters of three random networks, twice, that are far from the target."""
    rng, draw = np.random.default_rng(0), next(iter(hardnet.INITS.values()))

    def random(leaf):
        values = 3 * rng.normal(size=(len(hardnet.INITS), 3, *leaf.shape))
        return np.asarray(values / np.sqrt(leaf.shape[0]), leaf.dtype)

    return jax.tree.map(random, jax.eval_shape(draw, jax.random.key(0)))


def test_hardnet_target_obeys_its_own_bounds_and_touches_them():
    @jax.jit
    def above(x):
        return jax.vmap(lambda x: hardnet.excess(hardnet.target(x[0])[None], x))(x)

    x = jc.points.grid(hardnet.LOWER, hardnet.UPPER, hardnet.TESTED)
    g = np.asarray(above(x))
    assert g.max() < 1e-5  # float32
    # On (-1, 0], and at the ends of the pieces.
    assert abs(g[[100, 150, 200, 300]]).max() < 1e-5


def test_hardnet_data_are_those_of_the_published_seed():
    data = hardnet.data()
    shapes = [data[name].shape for name in ("x", "y", "points")]
    assert shapes == [(50, 1), (50,), (200, 1)]
    # The first draws of NumPy's seed 17 in (0, 1), stretched to (-1.2, 1.2).
    np.testing.assert_allclose(data["x"][:2, 0], [-0.4928, 0.0734], atol=1e-4)


# The half-space to the last bit; a row of equations to the roundings of outputs of 50.
@pytest.mark.parametrize(
    ("layer", "tolerance"),
    [
        (hardnet.half_space, 0.0),
        pytest.param(hardnet.hardnet_aff, 1e-4, marks=pytest.mark.slow),
    ],
)
def test_hardnet_layers_obey_at_random_parameters(layer, tolerance, params):
    for row in hardnet.reached(params, layer).values():
        assert row["greatest violation"].mean <= tolerance
    for row in hardnet.reached(params, hardnet.as_it_is).values():
        assert row["greatest violation"].mean > 1
