"""Methods side by side: planted violations are found, and every method starts alike."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tables import assert_each, assert_refused

import jaxcon as jc
from jaxcon import comparison
from jaxcon.training import FitResult

ANY = jc.methods.unconstrained(optax.sgd(0.1))
PEAK, WIDTH = (0.37, 0.81), 0.05


def bump(x):
    """1 at PEAK, and next to nothing two WIDTHs away."""
    return jnp.exp(-jnp.sum(jnp.square((x - jnp.asarray(PEAK)[None]) / WIDTH), axis=1))


def line(x):
    """Largest, 2, in the corner (0, 1) of the unit square."""
    return 1 - x[:, 0] + x[:, 1]


# name: (kind, residual of params p and the batch, worst violation at p = 3, where)
PLANTED = {
    "peak": ("inequality", lambda p, b: p * bump(b["points"]) - 1.0, 2.0, PEAK),
    "pit": ("equality", lambda p, b: -p * bump(b["points"]), 3.0, PEAK),
    "corner": ("inequality", lambda p, b: p * line(b["points"]) - 5.0, 1.0, (0, 1)),
    "two outputs": (
        "inequality",
        lambda p, b: jnp.stack([p * bump(b["points"]) - 2.0, -line(b["points"])], 1)
        .reshape(-1),
        1.0,
        PEAK,
    ),
    # One side of all points after the other.
    "sides": (
        "inequality",
        lambda p, b: jnp.concatenate([-line(b["points"]), p * bump(b["points"]) - 2.0]),
        1.0,
        PEAK,
    ),
    "sum": ("inequality", lambda p, b: jnp.sum(b["x"]) - p, 7.0, None),
    "total": ("equality", lambda p, b: p - 7.5, 4.5, None),
    "each, held": ("inequality", lambda p, b: -p - b["x"], 0.0, None),
    "each, negative": ("equality", lambda p, b: b["x"] - p, 3.0, None),
}  # fmt: skip
BATCH = {
    "x": np.arange(5.0, dtype=np.float32),
    # The corners of the square: none of them sees the peak.
    "points": np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32),
}


def problem(*names, margin=0.0):
    """Minimise (p - 1)^2 under some of the planted constraints."""
    held = jc.Constraints(
        *(
            {name: PLANTED[name][1] for name in names if PLANTED[name][0] == kind}
            for kind in jc.Constraints._fields
        )
    )
    tightened = held._replace(
        inequality={
            name: jc.tighten(function, margin)
            for name, function in held.inequality.items()
        }
    )
    return jc.Problem(
        init=lambda key: jax.random.normal(key),
        apply=lambda p, x: p,
        loss=lambda apply, p, batch: jnp.square(p - 1.0),
        constraints=lambda apply: held,
        trained=lambda apply: tightened,
        batch=BATCH,
        lower=np.zeros(2),
        upper=np.ones(2),
        score=lambda apply, p: {"double": 2 * p},
    )


def at(problem, p, multipliers=None, penalty=None):
    """A run that came to p."""
    solver = jc.alternating(
        jc.Lagrangian(problem.objective, problem.trained_on(), penalty=penalty),
        optax.sgd(0.1),
        jc.dual_ascent(optax.sgd(0.1)),
    )
    state = solver.init(jnp.asarray(p, float), problem.batch)
    if multipliers is not None:
        state = state._replace(multipliers=multipliers)
    return FitResult(state, None, None, 0.0, 0.0)


@pytest.fixture(scope="module")
def verdict():
    """All that is planted, evaluated at once, at p = 3."""
    whole = problem(*PLANTED)
    return comparison.Evaluator(whole)("a method", ANY, at(whole, 3.0))


def test_evaluator_finds_the_planted_violations(verdict):
    def check(name):
        _, _, worst, where = PLANTED[name]
        # The search ends within float32 of the peak; 100,000 random points leave gaps of
        # 1/300, over which the bump, 1/20 wide, and the line fall by 1 % of the scale 3.
        assert verdict.searched[name] == pytest.approx(worst, abs=1e-4)
        assert verdict.random[name] == pytest.approx(worst, abs=0.05)
        assert verdict.random[name] <= verdict.searched[name] + 1e-6
        if where is not None:
            np.testing.assert_allclose(verdict.worst_points[name], where, atol=1e-3)

    assert_each(PLANTED, check)


def test_planted_peak_is_not_seen_by_the_training_points():
    _, residual, _, _ = PLANTED["peak"]
    assert residual(3.0, BATCH).max() < 0


def test_evaluator_reports_the_scores_and_the_run(verdict):
    assert verdict.name == "a method"
    assert verdict.scores == {"double": 6.0}
    assert verdict.result.state.params == 3.0


def test_evaluator_sums_the_estimates_of_multipliers():
    small = problem("corner", "total", margin=0.5)
    lam, mu = jnp.array([0.25, 1.0, 0.0, 2.0]), jnp.array(-3.0)
    multipliers = jc.Constraints({"total": mu}, {"corner": lam})
    evaluator = comparison.Evaluator(small, num_random=10)

    def check(penalty):
        evaluation = evaluator("a method", ANY, at(small, 3.0, multipliers, penalty))
        # Residuals at the corners (0,0), (0,1), (1,0), (1,1), with a margin of 0.5.
        g, h = 3 * np.array([1.0, 2.0, 0.0, 1.0]) - 5 + 0.5, 3.0 - 7.5
        rho = penalty or 0.0
        estimates, estimate = np.maximum(lam + rho * g, 0), float(mu) + rho * h
        assert evaluation.multipliers == pytest.approx(
            {"total": estimate, "corner": estimates.sum()}, rel=1e-6
        )
        # d/dp of (p - 1)^2, of the residuals 3 line - 4.5 and p - 7.5.
        stationarity = 2 * (3 - 1) + estimates @ [1.0, 2.0, 0.0, 1.0] + estimate
        assert evaluation.kkt.stationarity == pytest.approx(abs(stationarity), rel=1e-5)
        assert evaluation.kkt.inequality["corner"] == pytest.approx(g.max())
        # The violation, by contrast, is of what was asked for, without the margin.
        assert evaluation.searched["corner"] == pytest.approx(1.0)

    assert_each([None, 2.0], check)


STRENGTH = 8.0
# method: (weight of a fixed quadratic penalty, rate of ascent, penalty)
STANDARD = {
    "unconstrained": (0, 0, None),
    "light penalty": (STRENGTH / 1000, 0, None),
    "penalty": (STRENGTH, 0, None),
    "heavy penalty": (STRENGTH * 100, 0, None),
    "lagrangian": (0, STRENGTH, None),
    "augmented": (0, STRENGTH, STRENGTH),
}


@pytest.fixture(scope="module")
def evaluations():
    """Every standard method for one step that leaves the parameters where they start."""
    methods = jc.methods.standard(optax.set_to_zero(), STRENGTH)
    held = problem("total", "corner")
    return jc.compare(held, methods, steps=1, seed=4, factors=(), num_random=10)


def test_compare_returns_every_method_in_order(evaluations):
    names = [evaluation.name for evaluation in evaluations]
    assert names == [*STANDARD, "default"]
    steps = [len(evaluation.result.history.loss) for evaluation in evaluations]
    assert steps == [1] * len(names)


def test_compare_starts_every_method_from_the_seed(evaluations):
    start = problem().init(jax.random.key(4))
    assert {float(evaluation.result.state.params) for evaluation in evaluations} == {
        float(start)
    }


def test_standard_methods_move_their_multipliers_by_weight_and_rate(evaluations):
    p = float(problem().init(jax.random.key(4)))

    def check(name):
        (evaluation,) = [one for one in evaluations if one.name == name]
        state = evaluation.result.state
        weight, rate, penalty = STANDARD[name]
        # A number of residuals each, over which weight, rate and penalty are spread.
        h, g = np.array(p - 7.5), p * np.array([1.0, 2.0, 0.0, 1.0]) - 5
        seen = jax.tree.leaves(state.penalty)
        assert seen == pytest.approx([] if penalty is None else [penalty, penalty / 4])
        np.testing.assert_allclose(
            state.multipliers.equality["total"],
            weight * h + rate * np.clip(h, -1, 1),
            rtol=1e-6,  # float32
        )
        np.testing.assert_allclose(
            state.multipliers.inequality["corner"],
            (weight * np.maximum(g, 0) + rate * np.clip(g, 0, 1)) / 4,
            rtol=1e-6,
        )

    assert_each(STANDARD, check)


def cap(limit):
    return lambda apply: jc.Constraints(inequality={"cap": lambda p, _: p - limit})


def test_train_moves_by_the_trained_problem_alone():
    """The tightened constraint p <= 0.25 binds, although p <= 0.75 is what must hold."""
    small = problem()._replace(constraints=cap(0.75), trained=cap(0.25))
    method = jc.methods.standard(optax.sgd(0.1), 4.0)["augmented"]
    result = comparison.train(small, method, steps=300, progress=False)
    assert float(result.state.params) == pytest.approx(0.25, abs=1e-4)
    # Stationarity: 2 (p - 1) + lambda = 0.
    assert float(result.state.multipliers.inequality["cap"]) == pytest.approx(
        1.5, abs=1e-3
    )


PRIMAL = optax.sgd(0.02)


def balance(weight):
    """2 (p - 1) + weight (p - 0.25) = 0, where a quadratic penalty ends."""
    return (2 + 0.25 * weight) / (2 + weight)


# method: where minimising (p - 1)^2 under p <= 0.25 ends, or a function from the method's
# hyperparameter to it; and its multiplier. The weight is 4.
ENDS = {
    "unconstrained": lambda: (jc.methods.unconstrained(PRIMAL), 1.0, 0.0),
    "penalty": lambda: (jc.methods.penalty(PRIMAL, 4.0), balance, 1.0),
    # The kink holds where the weight exceeds the multiplier; the step of sgd chatters.
    "balanced": lambda: (
        jc.methods.penalty(
            PRIMAL, 4.0, per_term=jc.balance_by_relative_loss(lookback=1.0)
        ),
        balance,
        1.0,
    ),
    "absolute": lambda: (jc.methods.penalty(PRIMAL, 4.0, "absolute"), 0.25, None),
    # Beyond delta = 1 a Huber penalty is linear; here it is quadratic.
    "huber": lambda: (jc.methods.penalty(PRIMAL, 4.0, "huber"), balance, 1.0),
    "linear": lambda: (
        jc.methods.penalty(PRIMAL, 4.0, "linear"),
        lambda weight: 1 - weight / 2,
        4.0,
    ),
    "lagrangian": lambda: (jc.methods.lagrangian(PRIMAL, 0.1), 0.25, 1.5),
    "pi": lambda: (jc.methods.pi_control(PRIMAL, 0.1), 0.25, 1.5),
    "augmented": lambda: (jc.methods.augmented(PRIMAL, 4.0), 0.25, 1.5),
    "each 50 steps": lambda: (jc.methods.augmented(PRIMAL, 4.0, period=50), 0.25, 1.5),
    "by adam": lambda: (
        jc.methods.multipliers(PRIMAL, lambda c: jc.dual_ascent(optax.adam(c)), 0.01),
        0.25,
        1.5,
    ),
    # Trained as if unconstrained, to p = 1, and only then cut.
    "afterwards": lambda: (jc.methods.afterwards(PRIMAL, cut), 0.25, 0.0),
    "projected": lambda: (
        jc.methods.projected(PRIMAL, lambda p: jnp.minimum(p, 0.25)),
        0.25,
        0.0,
    ),
    "by construction": lambda: (jc.methods.by_construction(PRIMAL, cut), 0.25, 0.0),
}


def cut(apply):
    return lambda p, x: jnp.minimum(p, 0.25)


def capped_problem():
    """Minimise (p - 1)^2 under p <= 0.25, both seen through the network."""
    return problem()._replace(
        loss=lambda apply, p, batch: jnp.square(apply(p, None) - 1.0),
        constraints=lambda apply: jc.Constraints(
            inequality={"cap": lambda p, _: apply(p, None) - 0.25}
        ),
        trained=None,
        score=lambda apply, p: {"distance": abs(apply(p, None) - 1.0)},
        lower=None,
        upper=None,
    )


class End(NamedTuple):
    """Where a method ended, and where it should have."""

    evaluation: Any
    method: Any
    where: Callable
    multiplier: float | None


@pytest.fixture(scope="module")
def ends():
    rows = {name: make() for name, make in ENDS.items()}
    methods = {name: method for name, (method, _, _) in rows.items()}
    made = jc.compare(capped_problem(), methods, steps=2000, factors=(0.5, 2.0))
    assert [evaluation.name for evaluation in made] == list(ENDS)
    return {
        name: End(
            evaluation,
            method,
            where if callable(where) else lambda _, where=where: where,
            multiplier,
        )
        for (name, (method, where, multiplier)), evaluation in zip(rows.items(), made)
    }


def test_compare_ends_every_method_where_it_should(ends):
    def check(name):
        evaluation, method, where, multiplier = ends[name]
        where = where(method.value)
        # The absolute penalty moves by 0.02 (4 - 1.5) at most around its kink.
        tolerance = 0.1 if name == "absolute" else 1e-4
        assert 1 - evaluation.scores["distance"] == pytest.approx(where, abs=tolerance)
        assert evaluation.violation == pytest.approx(
            max(where - 0.25, 0), abs=tolerance
        )
        if multiplier is not None:
            assert evaluation.multipliers["cap"] == pytest.approx(multiplier, abs=1e-3)

    assert_each(ENDS, check)


def test_compare_sensitivity_is_of_runs_with_another_value(ends):
    def check(name):
        evaluation, method, where, _ = ends[name]
        seen = evaluation.sensitivity
        if not method.hyperparameter:
            assert seen is None
            return
        values = method.value * np.array([0.5, 1, 2])
        np.testing.assert_allclose(seen.values, values, rtol=1e-6)
        for place, value in enumerate(values):
            p = where(value)
            # The absolute penalty moves by 0.02 (8 - 1.5) at most around its kink.
            loose = 0.2 if name == "absolute" else 1e-4
            distance, violation = seen.scores["distance"][place], seen.violation[place]
            assert distance == pytest.approx(abs(p - 1), abs=loose)
            assert violation == pytest.approx(max(p - 0.25, 0), abs=loose)

    assert_each(ENDS, check)


def test_compare_sensitivity_is_that_of_training_alone(ends):
    evaluation, method, _, _ = ends["penalty"]
    for place, factor in ((0, 0.5), (2, 2.0)):
        other = method._replace(value=method.value * factor)
        alone = comparison.train(capped_problem(), other, steps=200, progress=False)
        p = float(alone.state.params)
        # 200 steps contract by 0.92 or 0.8 each, to 1e-7, and float32.
        distance = evaluation.sensitivity.scores["distance"][place]
        assert distance == pytest.approx(abs(p - 1), abs=1e-5)


def test_evaluator_reads_unseen_data_where_constraints_are_on_data():
    data = problem("each, negative")._replace(unseen={**BATCH, "x": np.arange(9.0)})
    evaluation = comparison.Evaluator(data, num_random=10)(
        "a method", ANY, at(data, 3.0)
    )
    assert evaluation.searched["each, negative"] == 5.0  # 8 - 3


def test_methods_refuse_numbers_and_functions_that_they_cannot_have():
    m = jc.methods
    numbers = {
        "weight": partial(m.penalty, PRIMAL),
        "rate": partial(m.lagrangian, PRIMAL),
        "strength": partial(m.augmented, PRIMAL),
        "gain": partial(m.pi_control, PRIMAL, 0.1),
        "period": partial(m.augmented, PRIMAL, 1.0),
    }
    values = [(-1.0, ValueError), (np.nan, ValueError), (np.inf, ValueError)]
    kinds = [(None, TypeError), ("a", TypeError), (True, TypeError), ([1.0], TypeError)]
    rows = [
        (partial(call, **{name: bad}), error, f"^{name} must be")
        for name, call in numbers.items()
        for bad, error in [*values, *kinds]
    ]
    rows += [
        (partial(call, "adam", *rest), TypeError, "^primal must be an optax transform")
        for call, *rest in (
            (m.unconstrained,),
            (m.penalty, 1.0),
            (m.multipliers, lambda rate: None, 0.1),
            (m.augmented, 1.0),
            (m.projected, lambda p: p),
            (m.by_construction, lambda net: net),
            (m.standard, 1.0),
        )
    ]
    rows += [
        (partial(m.penalty, PRIMAL, 1.0, bad), ValueError, "^kind must be 'quadratic'")
        for bad in ("cubic", None, 1)
    ]
    rows += [
        (partial(m.multipliers, PRIMAL, None, 0.1), TypeError, "^dual must be a fun"),
        (partial(m.projected, PRIMAL, 1.0), TypeError, "^operator must be a function"),
        (partial(m.afterwards, PRIMAL, {}), TypeError, "^output must be a function"),
        (
            lambda: m.afterwards(PRIMAL, lambda net: None).change(  # pyright: ignore
                problem("each, negative")
            ),
            TypeError,
            "^what output returns must be a function",
        ),
    ]
    assert_refused(rows)


def test_compare_keeps_a_method_that_blows_up():
    methods = {
        "wild": jc.methods.unconstrained(optax.sgd(1e30)),
        "tame": jc.methods.unconstrained(optax.sgd(0.1)),
    }
    with pytest.warns(RuntimeWarning, match="wild: .* steps were not finite"):
        wild, tame = jc.compare(capped_problem(), methods, steps=200, factors=())
    assert np.isfinite(wild.scores["distance"])
    assert int(wild.result.state.skipped) > 0
    assert tame.scores["distance"] == pytest.approx(0.0, abs=1e-6)


def test_compare_has_no_numbers_of_a_hyperparameter_that_blows_up():
    method = jc.methods.penalty(optax.sgd(0.1), 1.0)
    (evaluation,) = jc.compare(
        capped_problem(), {"penalty": method}, steps=300, factors=(1e30,)
    )
    np.testing.assert_array_equal(
        np.isnan(evaluation.sensitivity.violation), [False, True]
    )
    assert np.isnan(evaluation.sensitivity.scores["distance"][1])


def test_functions_refuse_arguments_and_name_them():
    one, method = problem("sum"), {"any": ANY}
    compare = partial(comparison.compare, steps=1)
    assert_refused(
        [
            (lambda: compare(None, method), TypeError, "problem must"),
            (lambda: compare(one, {}), TypeError, "methods must"),
            (lambda: compare(one, {"x": 3}), TypeError, "method 'x' must"),
            (lambda: compare(one, method, steps=0), ValueError, "steps must"),
            (lambda: compare(one, method, factors=(0,)), ValueError, "factors must"),
            (lambda: compare(one, method, seed=2**32), ValueError, "seed must"),
            (lambda: compare(one, method, num_random=0), ValueError, "num_random"),
            (lambda: comparison.train(one, 3, steps=1), TypeError, "method must"),
            (lambda: comparison.train(3, ANY, steps=1), TypeError, "problem must"),
            (lambda: comparison.Evaluator(one, 1.5), ValueError, "num_random"),
        ]
    )
