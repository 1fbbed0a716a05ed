"""Training that goes on until its constraints are proved."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.optimize import isotonic_regression

import jaxcon as jc

BOX = [-1.0], [1.0]
X = jnp.linspace(-1.0, 1.0, 40)[:, None]
# Falls in the middle, where a rising fit is flat: its constraint is active there.
Y = X[:, 0] ** 3 - 0.6 * X[:, 0]


def network(params, x):
    hidden = jnp.tanh(params["w"] @ x + params["b"])
    return hidden @ params["v"]


def start():
    keys = jax.random.split(jax.random.key(0), 3)
    return {
        "w": 2 * jax.random.normal(keys[0], (12, 1)),
        "b": jax.random.normal(keys[1], (12,)),
        "v": 0.3 * jax.random.normal(keys[2], (12,)),
    }


def misfit(params, batch):
    del batch
    return jnp.mean((jax.vmap(lambda x: network(params, x))(X) - Y) ** 2)


def problem(**options):
    rules = {
        "rises": jc.shapes.increasing(network, 0, on=X[::8]),
        "bounded": jc.shapes.bounded(network, -5.0, 5.0, on=X[::8]),
    }
    rules["low"] = lambda params, _: network(params, X[0]) - 1.0
    return jc.Lagrangian(misfit, jc.Constraints(inequality=rules), **options)


def solver(**options):
    options = {"penalty": {"rises": 1.0, "bounded": 1.0, "low": 1.0}, **options}
    adam = optax.adam(optax.cosine_decay_schedule(3e-2, 600))
    rate = jc.dual_ascent(optax.sgd(1.0))
    return jc.alternating(
        problem(**options), adam, {"rises": rate, "bounded": rate, "low": rate}
    )


@pytest.fixture(scope="module")
def run():
    target = jc.certify.Target(*BOX, budget=5.0)
    return jc.fit(solver(), start(), steps=600, certify=target)


def test_training_goes_on_until_all_is_proved(run):
    proofs = run.certificate
    assert proofs.holds
    assert 1 <= proofs.rounds <= 8
    assert proofs.margins["rises"] > 0
    assert proofs.margins["bounded"] == 0
    assert proofs.untried == ("low",)
    assert len(run.history.step) == 600 * (proofs.rounds + 1)
    # Held against differences in plain arithmetic, at points nobody chose.
    grid = np.linspace(-1, 1, 4001)[:, None]
    value = jax.vmap(lambda x: network(run.best.params, x))(jnp.asarray(grid))
    assert np.diff(np.asarray(value)).min() > -1e-6
    steps = isotonic_regression(np.asarray(Y)).x
    assert float(run.best.loss) < 2 * np.mean((steps - np.asarray(Y)) ** 2)


def test_the_certificate_prints_a_sentence_for_each_constraint(run):
    lines = str(run.certificate).splitlines()
    assert lines[0].startswith("rises: df/dx0 >= 0: proved on the whole box")
    assert "trained with a margin of" in lines[0]
    assert lines[2] == "not tried: low"
    assert str(run.certificate) in repr(run)
    assert "proved on the whole box" in run._repr_html_()
    assert run.diagnosis.verdicts


def test_a_run_that_is_killed_goes_on_to_the_same_end(run, tmp_path):
    target = jc.certify.Target(*BOX, budget=5.0)
    options = {"steps": 600, "certify": target, "checkpoint": tmp_path, "chunk": 100}

    def killed(state, info):
        if int(state.step) >= 900:
            raise MemoryError("killed")

    with pytest.raises(MemoryError) as caught:
        jc.fit(solver(), start(), callbacks=[killed], **options)
    assert len(caught.value.result.history.step) == 900
    again = jc.fit(solver(), start(), **options)
    assert again.certificate.margins == run.certificate.margins
    for one, other in zip(
        jax.tree.leaves(again.best.params), jax.tree.leaves(run.best.params)
    ):
        np.testing.assert_array_equal(one, other)


def test_a_rule_that_the_data_forbid_is_told_after_the_last_round():
    falls = jc.shapes.decreasing(network, 0, on=X[::8])
    steep = jc.Lagrangian(
        lambda params, _: 1e4 * misfit(params, None),
        jc.Constraints(inequality={"falls": falls}),
        penalty=1e-3,
    )
    fast = jc.alternating(steep, optax.adam(1e-2), jc.dual_ascent(optax.sgd(1e-6)))
    target = jc.certify.Target(*BOX, budget=1.0, rounds=1)
    found = jc.fit(fast, start(), steps=200, certify=target).certificate
    assert found.holds is False
    assert found.rounds == 1
    assert "counterexample" in str(found)


def test_batches_from_a_stream_and_points_of_a_batch_are_proved_too():
    rises = jc.shapes.increasing(network, 0, on="x")

    def loss(params, batch):
        value = jax.vmap(lambda x: network(params, x))(batch["x"])
        return jnp.mean((value - batch["x"][:, 0]) ** 2)

    straight = jc.Lagrangian(loss, jc.Constraints(inequality={"rises": rises}))
    generator = np.random.default_rng(0)
    batches = ({"x": generator.uniform(-1, 1, (16, 1))} for _ in range(5000))
    target = jc.certify.Target(*BOX, within=jc.certify.ball([0.0], 0.9), budget=5.0)
    found = jc.solve(straight, start(), batches, steps=500, certify=target)
    assert found.certificate.holds


def test_a_state_of_the_plain_problem_is_taken_up():
    plain = jc.fit(solver(), start(), steps=20)
    target = jc.certify.Target(*BOX, budget=0.0, rounds=0, names=["bounded"])
    found = jc.fit(solver(), plain.state, steps=20, certify=target)
    assert int(found.state.step) == 40
    assert list(found.certificate.outcomes) == ["bounded"]
    assert found.certificate.untried == ("rises", "low")


@pytest.mark.slow
def test_vectors_and_kinks_end_undecided_and_are_told():
    def relu(params, x):
        return jax.nn.relu(params["w"] @ x + params["b"])[:2]

    bent = jc.shapes.convex(lambda p, x: relu(p, x)[0], 0, on=X[::8])
    share = jc.shapes.bounded(relu, 0.5, None, on=X[::8])
    free = jc.Lagrangian(
        lambda p, _: jnp.mean((jax.vmap(lambda x: relu(p, x))(X) - 1.0) ** 2),
        jc.Constraints(inequality={"bent": bent, "share": share}),
    )
    alone = jc.alternating(free, optax.sgd(1e-3), jc.dual_ascent(optax.sgd(1e-3)))
    target = jc.certify.Target(*BOX, budget=0.5, rounds=2)
    with warnings.catch_warnings():  # of the kinks
        warnings.simplefilter("ignore")
        found = jc.fit(alone, start(), steps=5, certify=target).certificate
    assert found.outcomes["bent"].holds is None
    assert found.outcomes["share"].holds is False
    assert all(np.isfinite(one) for one in found.margins.values())


def test_a_callback_that_ends_the_run_ends_its_rounds():
    target = jc.certify.Target(*BOX, budget=0.0)
    found = jc.fit(
        solver(),
        start(),
        steps=600,
        chunk=10,
        callbacks=[lambda state, info: True],
        certify=target,
    )
    assert int(found.state.step) == 10
    assert found.certificate.rounds == 0


@pytest.mark.parametrize(
    ("target", "error", "words"),
    [
        ((BOX, 3), TypeError, "certify"),
        (jc.certify.Target([1.0], [0.0]), ValueError, "every lower less"),
        (jc.certify.Target(*BOX, names=["slope"]), ValueError, "'rises', 'bounded'"),
        (jc.certify.Target(*BOX, names=["low"]), ValueError, "'low'"),
        (jc.certify.Target(*BOX, rounds=-1), ValueError, "rounds"),
        (jc.certify.Target(*BOX, budget=-1), ValueError, "budget"),
        (
            jc.certify.Target(*BOX, within=jc.certify.ball([3.0], 1.0)),
            ValueError,
            "within the domain",
        ),
    ],
)
def test_a_target_that_is_none_is_told(target, error, words):
    with pytest.raises(error, match=words):
        jc.fit(solver(), start(), steps=1, certify=target)


def test_a_problem_without_rules_has_nothing_to_prove():
    free = jc.Lagrangian(misfit)
    alone = jc.alternating(free, optax.sgd(0.1), jc.dual_ascent(optax.sgd(0.1)))
    with pytest.raises(ValueError, match="has none"):
        jc.fit(alone, start(), steps=1, certify=jc.certify.Target(*BOX))
