"""The piecewise-constraint fit: its problem, and layers that never violate it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import piecewise
from benchmarks.piecewise import WAYS, Way, apply_of, judged, torch_default, train

LAYERS = [name for name, way in WAYS.items() if way.layer]


def seeds(num=3):
    return jax.vmap(torch_default)(jax.random.split(jax.random.key(0), num))


def test_target_obeys_its_own_bounds():
    x = jnp.linspace(-2, 2, 401)[:, None]
    g = piecewise.residuals(lambda params, x: piecewise.target(x[0]), None, x)
    assert g.shape == (401,)
    assert g.max() < 1e-5  # float32
    # It touches them: on (-1, 0], and at the ends of the pieces.
    assert abs(g[jnp.array([100, 150, 200, 300])]).max() < 1e-5


def test_data_are_those_of_the_published_seed():
    data = piecewise.data()
    assert [data[name].shape for name in ("x", "y", "points")] == [
        (50, 1),
        (50,),
        (200, 1),
    ]
    # The first draws of NumPy's seed 17 in (0, 1), stretched to (-1.2, 1.2).
    np.testing.assert_allclose(data["x"][:2, 0], [-0.4928, 0.0734], atol=1e-4)


@pytest.mark.parametrize("name", LAYERS)
def test_layers_obey_at_random_parameters(name):
    params = jax.tree.map(lambda leaf: 3 * leaf, seeds())
    reached = judged(WAYS[name], params)
    assert reached.error.shape == (3,)
    # The half-space to the last bit; one row of equations to roundings of outputs of 50.
    assert reached.greatest.max() <= (0 if name == "half-space" else 1e-4)
    assert judged(Way(), params).greatest.min() > 1


def test_layers_leave_alone_what_obeys():
    x, params = jnp.array([0.5]), torch_default(jax.random.key(1))
    params[-1]["b"] += 10.0  # far above a lower bound
    ways = WAYS["unconstrained"], WAYS["half-space"]
    free, held = (jax.jit(apply_of(way))(params, x) for way in ways)
    assert free == held


@pytest.mark.slow
def test_the_half_space_fits_where_no_data_are():
    middle, end = (judged(WAYS["half-space"], p) for p in train(WAYS["half-space"]))
    assert end.greatest.max() == middle.greatest.max() == 0
    # 0.16 is claimed with a deviation of 0.01; five seeds.
    assert abs(end.error.mean() - 0.16) < 3 * 0.01
    penalised = train(WAYS["soft penalty over [-2, 2]"])[1]
    reached = judged(WAYS["half-space"], penalised)
    assert reached.greatest.max() == 0
    assert reached.error.mean() < 0.16
