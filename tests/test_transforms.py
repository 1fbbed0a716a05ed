"""Multipliers climb, those of inequalities stay nonnegative, on any tree of names."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxcon as jc

OPTIMIZERS = {
    "sgd": lambda: optax.sgd(0.5),
    "momentum": lambda: optax.sgd(0.5, momentum=0.9),
    "nesterov": lambda: optax.sgd(0.5, momentum=0.9, nesterov=True),
    "adam": lambda: optax.adam(0.5),
    "clipped": lambda: optax.chain(optax.clip_by_global_norm(0.1), optax.sgd(0.5)),
    "schedule": lambda: optax.sgd(optax.linear_schedule(0.5, 0.1, 10)),
}
TREES = {
    "both": jc.Constraints({"h": jnp.array(1.0)}, {"g": jnp.array([1.0, 2.0, 3.0])}),
    "equalities": jc.Constraints(equality={"h": jnp.ones(2), "x = 1": jnp.array(3.0)}),
    "inequalities": jc.Constraints(inequality={"b": jnp.ones(2), "a": jnp.ones(())}),
    "none": jc.Constraints(),
}


@pytest.fixture(params=OPTIMIZERS)
def dual(request):
    return jc.dual_ascent(OPTIMIZERS[request.param]())


def climb(dual, multipliers, residuals):
    """All the multipliers passed through while climbing along a list of residuals."""
    state, path = dual.init(multipliers), [multipliers]
    update = jax.jit(dual.update)
    for residual in residuals:
        updates, state = update(residual, state, multipliers)
        multipliers = optax.apply_updates(multipliers, updates)
        path.append(multipliers)
    return path


def test_sgd_by_hand():
    multipliers = jc.Constraints(
        {"h": jnp.array(1.0)}, {"g": jnp.array([1.0, 0.25, 0.0])}
    )
    residuals = jc.Constraints(
        {"h": jnp.array(-4.0)}, {"g": jnp.array([1.0, -2.0, -1.0])}
    )
    _, after = climb(jc.dual_ascent(optax.sgd(0.5)), multipliers, [residuals])
    np.testing.assert_array_equal(after.equality["h"], -1.0)
    np.testing.assert_array_equal(after.inequality["g"], [1.5, 0.0, 0.0])


@pytest.mark.parametrize("tree", TREES)
def test_multipliers_rise_along_positive_residuals_on_any_tree(dual, tree):
    residuals = TREES[tree]
    start = jc.zero_multipliers(residuals)
    _, *_, after = climb(dual, start, [residuals] * 3)
    assert jax.tree.structure(after) == jax.tree.structure(start)
    for leaf, like in zip(jax.tree.leaves(after), jax.tree.leaves(start)):
        assert leaf.shape == like.shape
        assert leaf.dtype == like.dtype
        assert (leaf > 0).all()


def test_equality_multipliers_fall_below_zero_and_inequality_ones_stop_there(dual):
    residuals = jax.tree.map(jnp.negative, TREES["both"])
    start = jc.zero_multipliers(residuals)
    _, *_, after = climb(dual, start, [residuals] * 3)
    assert float(after.equality["h"]) < 0
    np.testing.assert_array_equal(after.inequality["g"], np.zeros(3))


def test_inequality_multipliers_are_never_negative(dual, key):
    noise = jax.random.normal(key, (60, 2, 4))
    residuals = [jc.Constraints({"h": h}, {"g": g}) for h, g in noise]
    path = climb(dual, jc.zero_multipliers(residuals[0]), residuals)
    lam = np.stack([multipliers.inequality["g"] for multipliers in path])
    mu = np.stack([multipliers.equality["h"] for multipliers in path])
    assert lam.min() == 0.0  # the wall is reached, to the bit
    assert lam.max() > 0.1
    assert mu.min() < -0.1  # and stands on one side only


@pytest.mark.parametrize("name", ["momentum", "adam"])
def test_the_optimizer_climbs_as_it_would_descend(name):
    # On equalities nothing is projected, so the path is its descent's mirror image.
    residuals = [
        jc.Constraints({"h": jnp.array([1.0, -2.0]) * t}) for t in (1, -3, 2, 5)
    ]
    start = jc.zero_multipliers(residuals[0])
    *_, up = climb(jc.dual_ascent(OPTIMIZERS[name]()), start, residuals)
    *_, down = climb(OPTIMIZERS[name](), start, residuals)
    # The same operations on numbers of opposite sign; a fused one may round apart.
    rtol = 4 * np.finfo(np.float32).eps
    np.testing.assert_allclose(up.equality["h"], -down.equality["h"], rtol=rtol)
    assert np.abs(up.equality["h"]).min() > 0


def test_weight_decay_pulls_multipliers_back_and_not_away():
    # The sign is turned before the optimizer: its own terms keep theirs.
    decayed = optax.chain(optax.add_decayed_weights(0.25), optax.sgd(0.5))
    multipliers = jc.Constraints({"h": jnp.array(-8.0)}, {"g": jnp.array([4.0, 0.0])})
    residuals = jc.Constraints({"h": jnp.array(1.0)}, {"g": jnp.array([2.0, 1.0])})
    _, after = climb(jc.dual_ascent(decayed), multipliers, [residuals])
    # m + ½ (r - ¼ m)
    np.testing.assert_array_equal(after.equality["h"], -6.5)
    np.testing.assert_array_equal(after.inequality["g"], [4.5, 0.5])
