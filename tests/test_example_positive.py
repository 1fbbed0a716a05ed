"""The positive example: its data, its heads, and how many of them die."""

import jax
import numpy as np
import pytest

from jaxcon.examples.positive import (
    HEADS,
    RUNS,
    SHAPE,
    TOLERANCE,
    findings,
    positive_methods,
    positive_problem,
    targets,
    truth,
    with_head,
)


def test_positive_targets_are_never_negative_and_have_the_truth_as_mean():
    draws = [targets(seed) for seed in range(400)]
    x, y = (np.concatenate(part) for part in zip(*draws))
    assert y.min() >= 0
    noise = (y - truth(x))[truth(x) > 0] / truth(x)[truth(x) > 0]
    # Four standard errors of the mean of gamma noise.
    assert abs(noise.mean()) < 4 / np.sqrt(SHAPE * len(noise))


def test_positive_truth_touches_zero_and_stays():
    x = np.linspace(0, 1, 1201)
    zero = np.isclose(truth(x), 0, atol=1e-12)
    assert zero[400:801].all()
    assert not zero[1:400].any()
    assert not zero[801:-1].any()


def test_heads_are_never_negative():
    @jax.jit
    def outputs(params, x):
        applies = [with_head(HEADS[name])(lambda p, x: p * x[0]) for name in HEADS]
        return [jax.vmap(apply, (None, 0))(params, x) for apply in applies]

    x = np.random.default_rng(0).normal(size=(100, 1)).astype(np.float32)
    for name, found in zip(HEADS, outputs(3.0, x), strict=True):
        assert np.min(found) >= 0, name


def test_heads_kill_a_constant_network_where_they_have_no_slope():
    problem = positive_problem()

    @jax.jit
    def slopes(value, batch):
        def slope(head):
            apply = with_head(head)(lambda params, x: params)
            return jax.grad(problem.loss, 1)(apply, value, batch)

        return {name: slope(head) for name, head in HEADS.items()}

    negative, zero = slopes(-1.0, problem.batch), slopes(0.0, problem.batch)
    assert {name for name in HEADS if negative[name] == 0} == {"relu head"}
    assert negative.keys() == {"relu head", "softplus head", "square head"}
    assert zero["square head"] == 0


def test_positive_loss_moves_a_network_that_is_negative_everywhere():
    problem = positive_problem()
    slope = jax.grad(problem.loss, 1)(lambda params, x: params, -1.0, problem.batch)
    assert slope < 0


@pytest.mark.slow
def test_positive_every_method_is_there_and_only_relu_heads_die(tmp_path):
    found, seeds = findings()
    evaluations = {evaluation.name: evaluation for evaluation in found.evaluations}
    assert list(evaluations) == list(positive_methods())
    for name in ("lagrangian", "PI control", "augmented"):
        assert evaluations[name].scores["RMSE to truth"] <= TOLERANCE
        assert evaluations[name].violation <= 1e-3
        # Less than a tenth of what is there without a constraint.
        assert (
            evaluations[name].violation <= evaluations["unconstrained"].violation / 10
        )
    for name in (*HEADS, "projection afterwards"):
        assert evaluations[name].violation == 0
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
