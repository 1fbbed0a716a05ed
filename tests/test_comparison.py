"""Ways side by side: the judge finds what was planted, and every way starts alike."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxcon as jc
from jaxcon import comparison
from jaxcon.training import FitResult

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
    "sum": ("inequality", lambda p, b: jnp.sum(b["x"]) - p, 7.0, None),
    "total": ("equality", lambda p, b: p - 7.5, 4.5, None),
    "each, held": ("inequality", lambda p, b: -p - b["x"], 0.0, None),
    "each, negative": ("equality", lambda p, b: b["x"] - p, 3.0, None),
}  # fmt: skip
BATCH = {
    "x": jnp.arange(5.0),
    # The corners of the square: none of them sees the peak.
    "points": jnp.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]),
}


def problem(*names, margin=0.0):
    """Minimise (p - 1)^2 under some of the planted constraints."""
    constraints = jc.Constraints(
        *(
            {name: PLANTED[name][1] for name in names if PLANTED[name][0] == kind}
            for kind in jc.Constraints._fields
        )
    )
    tightened = constraints._replace(
        inequality={
            name: jc.tighten(function, margin)
            for name, function in constraints.inequality.items()
        }
    )
    return jc.Problem(
        init=lambda key: jax.random.normal(key),
        apply=lambda p, x: p,
        loss=lambda p, batch: jnp.square(p - 1.0),
        constraints=constraints,
        tightened=tightened,
        batch=BATCH,
        lower=np.zeros(2),
        upper=np.ones(2),
        score=lambda p: {"double": 2 * float(p)},
    )


def at(problem, p, multipliers=None, penalty=None):
    """A run that came to p."""
    method = jc.alternating(
        problem.loss,
        problem.tightened,
        optax.sgd(0.1),
        jc.dual_ascent(optax.sgd(0.1)),
        penalty=penalty,
    )
    state = method.init(jnp.asarray(p, float), problem.batch)
    if multipliers is not None:
        state = state._replace(multipliers=multipliers)
    return FitResult(state, None, None, 0.0, 0.0)


@pytest.fixture(scope="module")
def verdict():
    """All that is planted, judged at once, at p = 3."""
    whole = problem(*PLANTED)
    return comparison.Judge(whole)("a way", at(whole, 3.0))


@pytest.mark.parametrize("name", PLANTED)
def test_judge_finds_the_planted_violation(name, verdict):
    _, _, worst, where = PLANTED[name]
    # The search ends within float32 of the peak; 100,000 random points leave gaps of
    # 1/300, over which the bump, 1/20 wide, and the line fall by 1 % of the scale 3.
    assert verdict.searched[name] == pytest.approx(worst, abs=1e-4)
    assert verdict.random[name] == pytest.approx(worst, abs=0.05)
    assert verdict.random[name] <= verdict.searched[name] + 1e-6
    if where is not None:
        np.testing.assert_allclose(verdict.worst_points[name], where, atol=1e-3)


def test_the_training_points_do_not_see_the_planted_peak():
    _, residual, _, _ = PLANTED["peak"]
    assert residual(3.0, BATCH).max() < 0


def test_judge_reports_the_scores_and_the_run(verdict):
    assert verdict.name == "a way"
    assert verdict.scores == {"double": 6.0}
    assert verdict.result.state.params == 3.0


@pytest.mark.parametrize("penalty", [None, 2.0])
def test_multipliers_are_summed_estimates(penalty):
    small = problem("corner", "total", margin=0.5)
    lam, mu = jnp.array([0.25, 1.0, 0.0, 2.0]), jnp.array(-3.0)
    result = at(small, 3.0, jc.Constraints({"total": mu}, {"corner": lam}), penalty)
    outcome = comparison.Judge(small, num_random=10)("a way", result)
    # Residuals at the corners (0,0), (0,1), (1,0), (1,1), with a margin of 0.5.
    g, h = 3 * np.array([1.0, 2.0, 0.0, 1.0]) - 5 + 0.5, 3.0 - 7.5
    rho = penalty or 0.0
    estimates, estimate = np.maximum(lam + rho * g, 0), float(mu) + rho * h
    assert outcome.multipliers == pytest.approx(
        {"total": estimate, "corner": estimates.sum()}, rel=1e-6
    )
    # d/dp of (p - 1)^2, of the residuals 3 line - 4.5 and p - 7.5.
    stationarity = 2 * (3 - 1) + estimates @ [1.0, 2.0, 0.0, 1.0] + estimate
    assert outcome.kkt.stationarity == pytest.approx(abs(stationarity), rel=1e-5)
    assert outcome.kkt.inequality["corner"] == pytest.approx(g.max())
    # The violation, by contrast, is of what was asked for, without the margin.
    assert outcome.searched["corner"] == pytest.approx(1.0)


STRENGTH, NUM = 8.0, len(BATCH["points"])
# way: (penalty, whether its multipliers move)
STANDARD = {
    "unconstrained": (None, False),
    "light penalty": (STRENGTH / 1000 / NUM, False),
    "penalty": (STRENGTH / NUM, False),
    "heavy penalty": (STRENGTH * 100 / NUM, False),
    "lagrangian": (None, True),
    "augmented": (STRENGTH / NUM, True),
}


@pytest.fixture(scope="module")
def outcomes():
    """Every standard way for one step that leaves the parameters where they start."""
    ways = jc.standard_ways(optax.set_to_zero(), STRENGTH)
    return jc.compare(problem("total", "sum"), ways, steps=1, seed=4, progress=False)


def test_compare_returns_every_way_in_order(outcomes):
    assert [outcome.name for outcome in outcomes] == list(STANDARD)
    assert [len(outcome.result.history.loss) for outcome in outcomes] == [1] * 6


def test_compare_starts_every_way_from_the_seed(outcomes):
    start = problem().init(jax.random.key(4))
    assert {float(outcome.result.state.params) for outcome in outcomes} == {
        float(start)
    }


@pytest.mark.parametrize("index", range(len(STANDARD)), ids=STANDARD)
def test_standard_ways(index, outcomes):
    state = outcomes[index].result.state
    penalty, climbs = STANDARD[outcomes[index].name]
    got = [float(rho) for rho in jax.tree.leaves(state.penalty)]
    assert got == pytest.approx([] if penalty is None else [penalty] * 2)
    p = float(problem().init(jax.random.key(4)))
    # One step of rate c / n up the residuals, of which at most 1 counts.
    rate = climbs * STRENGTH / NUM
    assert float(state.multipliers.equality["total"]) == pytest.approx(
        rate * np.clip(p - 7.5, -1, 1)
    )
    assert float(state.multipliers.inequality["sum"]) == pytest.approx(
        rate * np.clip(10 - p, 0, 1)
    )


def test_train_moves_by_the_trained_problem_alone():
    """The tightened constraint p <= 0.25 binds, although p <= 0.75 is what must hold."""
    small = problem()._replace(
        constraints=jc.Constraints(inequality={"cap": lambda p, _: p - 0.75}),
        tightened=jc.Constraints(inequality={"cap": lambda p, _: p - 0.25}),
    )
    way = jc.standard_ways(optax.sgd(0.1), 4.0)["augmented"]
    result = comparison.train(small, way, steps=300, progress=False)
    assert float(result.state.params) == pytest.approx(0.25, abs=1e-4)
    # Stationarity: 2 (p - 1) + lambda = 0.
    assert float(result.state.multipliers.inequality["cap"]) == pytest.approx(
        1.5, abs=1e-3
    )
