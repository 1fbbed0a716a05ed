"""The positive example: its data, its heads, and how many of them die."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcon.examples.positive import (
    HEADS,
    RUNS,
    SHAPE,
    TOLERANCE,
    positive,
    positive_problem,
    positive_ways,
    targets,
    truth,
    with_head,
)


def test_targets_are_never_negative_and_have_the_truth_as_mean():
    draws = [targets(seed) for seed in range(400)]
    x, y = (np.concatenate(part) for part in zip(*draws))
    assert y.min() >= 0
    noise = (y - truth(x))[truth(x) > 0] / truth(x)[truth(x) > 0]
    # Four standard errors of the mean of gamma noise.
    assert abs(noise.mean()) < 4 / np.sqrt(SHAPE * len(noise))


def test_truth_touches_zero_and_stays():
    x = np.linspace(0, 1, 1201)
    zero = np.isclose(truth(x), 0, atol=1e-12)
    assert zero[400:801].all()
    assert not zero[1:400].any()
    assert not zero[801:-1].any()


@pytest.mark.parametrize("name", HEADS)
def test_heads_are_never_negative(name, key):
    f = with_head(HEADS[name])(lambda params, x: params * x[0])
    x = jax.random.normal(key, (100, 1))
    assert jnp.min(jax.vmap(lambda x: f(3.0, x))(x)) >= 0


@pytest.mark.parametrize(
    ("name", "below", "dead"),
    [
        ("relu head", -1.0, True),
        ("softplus head", -1.0, False),
        ("square head", -1.0, False),
        ("square head", 0.0, True),
    ],
)
def test_a_constant_network_is_dead_where_its_head_has_no_slope(name, below, dead):
    problem = positive_problem()
    apply = with_head(HEADS[name])(lambda params, x: params)
    slope = jax.grad(problem.loss, 1)(apply, below, problem.batch)
    assert (slope == 0) == dead


def test_constraint_moves_a_network_that_is_negative_everywhere():
    problem = positive_problem()
    slope = jax.grad(problem.loss, 1)(lambda params, x: params, -1.0, problem.batch)
    assert slope < 0


@pytest.mark.slow
def test_every_way_is_there_and_only_relu_heads_die(tmp_path):
    found, seeds = positive()
    outcomes = {outcome.name: outcome for outcome in found.outcomes}
    assert list(outcomes) == list(positive_ways())
    for name in ("lagrangian", "PI control", "augmented"):
        assert outcomes[name].scores["RMSE to truth"] <= TOLERANCE
        assert outcomes[name].violation <= 1e-3
        # Less than a tenth of what is there without a constraint.
        assert outcomes[name].violation <= outcomes["unconstrained"].violation / 10
    for name in (*HEADS, "projection afterwards"):
        assert outcomes[name].violation == 0
    for part in (found, seeds):
        for name, draw in part.figures.items():
            path = tmp_path / f"{name}.png"
            draw(path)
            assert path.stat().st_size > 10_000
    rows = {row["method"]: row for row in seeds.rows}
    assert rows["relu head"]["runs"] == RUNS
    assert 0 < rows["relu head"]["dead at start"] <= rows["relu head"]["dead at end"]
    for name in ("softplus head", "square head", "augmented"):
        assert rows[name]["dead at start"] == rows[name]["dead at end"] == 0
