"""Every order of moves on every problem with a known primal and dual solution."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxcon as jc
from benchmarks.problems import PROBLEMS

# float32 rounds residuals of order one at 1e-7, which the problems' conditioning and
# the multipliers' size blow up a hundredfold; float64 has as much to spare.
TOLERANCE = {"float32": 1e-4, "float64": 1e-8}


@pytest.mark.parametrize("penalty", [None, 1.0])
@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize("order", [jc.simultaneous, jc.alternating, jc.extragradient])
def test_primal_and_dual_are_reached(dtype, order, name, penalty):
    problem, atol = PROBLEMS[name](), TOLERANCE[dtype]
    method = order(
        problem.loss,
        problem.constraints,
        optax.sgd(problem.learning_rate),
        jc.dual_ascent(optax.sgd(problem.learning_rate)),
        penalty=penalty,
    )
    start = jnp.array(problem.start, dtype)
    state = jc.fit(method, method.init(start), steps=2000, progress=False).state
    assert int(state.skipped) == 0
    assert state.params.dtype == dtype
    np.testing.assert_allclose(state.params, problem.params, rtol=0, atol=atol)
    # By name: a tree's leaves come sorted, a problem's as they were written.
    for kind, name, multiplier in jc.constraints.named(problem.multipliers):
        got = getattr(state.multipliers, kind)[name]
        assert got.dtype == dtype
        np.testing.assert_allclose(got, multiplier, rtol=0, atol=atol, err_msg=name)
    judged = jc.kkt(problem.loss, problem.constraints, state.params, state.multipliers)
    for field, residual in judged._asdict().items():
        # Gradients and residuals scale the error by the problems' norms, below 10.
        np.testing.assert_allclose(residual, 0, rtol=0, atol=10 * atol, err_msg=field)


@pytest.mark.parametrize("name", PROBLEMS)
def test_the_start_is_far_from_the_answer(name):
    # Or the test above would pass for a method that stands still.
    problem = PROBLEMS[name]()
    assert np.abs(problem.start - problem.params).max() > 0.2
    largest = [np.abs(leaf).max() for leaf in jax.tree.leaves(problem.multipliers)]
    assert max(largest) > 0.2
