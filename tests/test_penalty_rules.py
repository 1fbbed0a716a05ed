"""Penalties that move: by hand, against NumPy, in one program, in a run."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tables import assert_each, assert_refused

import jaxcon as jc
from jaxcon.constraints import named, only
from jaxcon.lagrangians import PenaltyRule, penalty_rule, unsettled

growing = partial(jc.growing_penalty, 1.0, every=1)


def clock(step):
    """An optax schedule: 1, 2, 3, …"""
    return 1.0 + step


def both(entry):
    """Constraints with the same entry for an equality and for an inequality."""
    return jc.Constraints({"h": entry}, {"g": entry})


@partial(jax.jit, static_argnums=0)
def follow(rule, residuals, multipliers, values):
    """All penalties that a rule goes through along stacked residuals."""
    dtype = jax.tree.leaves(residuals)[0].dtype
    start = rule.init(jax.tree.map(lambda r: r[0], residuals), dtype)

    def step(carry, now):
        (penalty, state), (residual, value) = carry, now
        after = rule.update(residual, state, penalty, multipliers, value)
        return after, after[0]

    return jax.lax.scan(step, start, (residuals, values))[1]


def followed(rule, numbers, multiplier=0.0, values=None):
    """The penalties of an equality and of an inequality after each call.

    Args:
        rule: the rule.
        numbers: residuals of both, call after call, (calls,) or (calls, points).
        multiplier: of both, constant.
        values: of the objective, (calls,); constant by default.

    Returns:
        Two arrays (calls,): the equality's and the inequality's.
    """
    numbers = jnp.asarray(numbers, float)
    values = jnp.ones(len(numbers)) if values is None else jnp.asarray(values, float)
    multipliers = both(jnp.full(numbers.shape[1:], multiplier, numbers.dtype))
    path = follow(rule, both(numbers), multipliers, values)
    return np.array(path.equality["h"]), np.array(path.inequality["g"])


VIOLATIONS = [8.0, 1.0, 0.5, 0.1, 0.05, 0.012, 0.011, 0.009, 5.0]
# The first is a fall from infinity; then 0.5 > 1/4, 0.05 > 0.1/4, 0.011 > 0.01 (the
# tolerance) and 5 > 0.01 are none, and the limit cuts the third and fourth growth.
GROWN = [1, 1, 10, 10, 100, 100, 500, 500, 500]


@pytest.mark.parametrize("every", [1, 3])
def test_growing_penalty_by_hand(every):
    rule = jc.growing_penalty(1.0, every=every, tolerance=0.01, limit=500.0)
    # What happens between two looks does not count, however large.
    seen = np.stack([np.full(9, 1e6)] * (every - 1) + [VIOLATIONS], axis=1).ravel()
    held = np.concatenate([np.ones(every - 1), np.repeat(GROWN, every)])[: len(seen)]
    above, below = followed(rule, seen), followed(rule, -seen)
    np.testing.assert_array_equal(above, [held, held])
    # An inequality that is satisfied, with multipliers zero, is settled.
    np.testing.assert_array_equal(below, [held, np.ones(9 * every)])


def test_growing_penalty_looks_at_the_worst_point_of_a_constraint():
    # All but one of the points are met from the second look on.
    numbers = [[4.0, 4.0, 4.0], [0.0, 0.0, 2.0], [0.0, 0.4, 0.0]]
    np.testing.assert_array_equal(followed(growing(), numbers), [[1, 10, 10]] * 2)


def test_growing_penalty_does_not_take_slack_under_a_multiplier_for_settled():
    # g = -1 and lambda = 2 stand still; rho is what divides lambda: 2/1, 2/10, 2/100.
    _, path = followed(growing(), -np.ones(6), multiplier=2.0)
    np.testing.assert_array_equal(path, [1, 10, 10, 100, 100, 1000])


def test_unsettled_is_what_the_multipliers_have_left_to_move():
    rho = 2.0
    g, lam, want = np.float32(
        [
            (0.5, 0.0, 0.5),
            (0.5, 3.0, 0.5),
            (-0.5, 0.0, 0.0),
            (0.0, 3.0, 0.0),
            (-0.5, 3.0, -0.5),
            (-2.0, 3.0, -1.5),
        ]
    ).T
    penalty = both(jnp.array(rho))
    left = unsettled(both(g), both(lam), penalty)
    np.testing.assert_array_equal(left.equality["h"], g)
    np.testing.assert_array_equal(left.inequality["g"], want)
    estimates = jc.multiplier_estimates(both(g), both(lam), penalty)
    moved = jax.tree.map(lambda m, c: m + rho * c, both(lam), left)
    chex.assert_trees_all_equal(moved, estimates)  # all are exact in binary
    some = unsettled(both(g), both(lam), jc.Constraints({"h": jnp.array(rho)}))
    assert (list(some.equality), list(some.inequality)) == (["h"], [])


def test_growing_penalty_grows_for_each_constraint_on_its_own():
    falls, stays = np.float32([8.0, 1.0, 0.1]), np.full(3, 0.5, np.float32)
    residuals = jc.Constraints(
        {"falls": falls, "stays": stays}, {"falls too": falls, "stays too": stays}
    )
    zero = jax.tree.map(lambda r: np.float32(0), residuals)
    path = follow(growing(), residuals, zero, np.ones(3, np.float32))
    got = {name: float(rho[-1]) for _, name, rho in named(path)}
    assert got == {"falls": 1, "falls too": 1, "stays": 100, "stays too": 100}


ETA, ZETA, OMEGA, EPS = 0.3, 0.9, 0.95, 1e-8


def adapted(numbers, values, multiplier, kind):
    """The recursion of `adaptive_penalty` in NumPy, and how often it moves."""
    rho, mean_square, moves, path = 0.5, 0.0, 0, []
    for t, c in enumerate(numbers):
        if kind == "inequality":
            c = np.maximum(c, -multiplier / rho)
        mean_square = ZETA * mean_square + (1 - ZETA) * np.mean(c**2)
        if t and values[t] >= values[t - 1] - (1 - OMEGA) * abs(values[t - 1]):
            moves += 1
            rho = max(rho, ETA / np.sqrt(mean_square + EPS))
        path.append(rho)
    return path, moves


def test_adaptive_penalty_follows_its_recursion(x64):
    rng = np.random.default_rng(0)
    numbers, values = rng.normal(size=(20, 3)), rng.normal(size=20)
    numbers *= np.geomspace(1, 1e-3, 20)[:, None]
    rule = jc.adaptive_penalty(ETA, decay=ZETA, initial=0.5, decrease=OMEGA, eps=EPS)
    for multiplier in (0.0, 0.7):
        paths = followed(rule, numbers, multiplier, values)
        for kind, got in zip(jc.Constraints._fields, paths):
            want, moves = adapted(numbers, values, multiplier, kind)
            assert 5 < moves < 15
            assert want[0] == 0.5 < want[-1]
            # Twenty sums of a few roundings each.
            np.testing.assert_allclose(got, want, rtol=1e-13, err_msg=kind)


def test_adaptive_penalty_moves_once_the_objective_stalls():
    # Nothing is violated: eps alone bounds what the penalty moves to.
    rule, bound = jc.adaptive_penalty(0.5, initial=2.0, eps=1e-4), 0.5 / np.sqrt(1e-4)
    flat, falling = np.ones(4), -np.arange(4.0)
    for values, last in (
        (flat, bound),
        (-flat, bound),
        (0 * flat, bound),
        (falling, 2.0),
    ):
        paths = followed(rule, np.zeros(4), values=values)
        np.testing.assert_allclose(paths, [[2.0, last, last, last]] * 2, rtol=1e-7)


def test_penalties_of_a_constraint_without_points_stay():
    for rule in (growing(), jc.adaptive_penalty(eps=1.0)):
        np.testing.assert_array_equal(followed(rule, np.zeros((3, 0))), np.ones((2, 3)))


RESIDUALS = jc.Constraints(
    {"h": np.float32([0.5, -1.0])},
    {"g": np.float32(2.0), "gs": np.float32([-3.0, 0.1])},
)
MULTIPLIERS = jc.Constraints(
    {"h": np.float32([1.0, -1.0])},
    {"g": np.float32(0.5), "gs": np.float32([0.2, 0.0])},
)


def test_penalties_are_not_widened_by_numpy_s_numbers(x64):
    for rule in (
        jc.growing_penalty(np.float64(1), every=np.int64(2), factor=np.float64(2)),
        jc.adaptive_penalty(np.float64(1), decay=np.float64(0.5)),
    ):
        start = rule.init(RESIDUALS, jnp.float32)
        update = partial(rule.update, RESIDUALS)
        after = jax.eval_shape(update, *start[::-1], MULTIPLIERS, np.float32(1.0))
        chex.assert_trees_all_equal_shapes_and_dtypes(after, start)


def method_of(order, penalty):
    """min |p|² s.t. p₀ = 1, p₁ >= 2, p₂ >= 3."""
    return order(
        jc.Lagrangian(
            lambda p, batch: jnp.sum(p**2) + batch,
            jc.Constraints(
                {"h": lambda p, _: p[0] - 1.0},
                {"g": lambda p, _: 2.0 - p[1], "gs": lambda p, _: 3.0 - p[2:]},
            ),
            penalty=penalty,
        ),
        optax.sgd(0.02),
        jc.dual_ascent(optax.sgd(0.1)),
    )


def step_of(order, penalty):
    """The method, and its start."""
    solver = method_of(order, penalty)
    return solver, solver.init(jnp.zeros(3), 0.0)


# A number for all constraints is swept in test_sweep.
SWEPT = {
    "growing, adaptive and a number": lambda rho: {
        "h": jc.growing_penalty(rho, every=3, limit=2 * rho),
        "g": jc.adaptive_penalty(rho, initial=rho, decay=0.5),
        "gs": 2.0 * rho,
    },
    "factor, schedule and none": lambda rho: {
        "h": jc.growing_penalty(1.0, every=3, factor=1 + rho, limit=9 * rho),
        "g": lambda step: rho * (1 + step),
    },
}


@pytest.mark.parametrize("name", SWEPT)
def test_penalties_may_be_swept_in_one_program(name):
    def train(rho):
        solver, state = step_of(jc.alternating, SWEPT[name](rho))
        return jax.lax.scan(lambda s, _: solver.step(s, 0.0), state, length=20)

    together, alone = jax.jit(
        lambda rhos: (jax.vmap(train)(rhos), jax.lax.map(train, rhos))
    )(np.float32([0.5, 1.0, 3.0]))
    # Twenty steps of a few roundings of numbers below 30.
    chex.assert_trees_all_close(together, alone, rtol=1e-4)
    assert (np.diff(together[0].params[:, 0]) > 0).all()
    for rhos in jax.tree.leaves(together[0].penalty):
        assert (np.diff(rhos) > 0).all()


def test_scheduled_penalty_counts_only_steps_that_were_taken():
    solver, state = step_of(jc.alternating, clock)
    step, seen = jax.jit(solver.step), []
    for batch in (0.0, 0.0, np.nan, np.nan, 0.0):
        before = state
        state, info = step(state, batch)
        # What is reported stood before the move.
        chex.assert_trees_all_equal(info.penalty, before.penalty)
        assert len(set(map(float, jax.tree.leaves(state.penalty)))) == 1
        seen.append(float(state.penalty.equality["h"]))
    assert seen == [2, 3, 3, 3, 4]
    assert int(state.skipped) == 2


# What is given as penalty=, and the constraints that then have one.
GIVEN = [
    (lambda: None, []),
    (dict, []),
    (lambda: {"g": None}, []),
    (lambda: 3, ["h", "g", "gs"]),
    (lambda: jc.adaptive_penalty(), ["h", "g", "gs"]),
    (lambda: {"gs": 2.0}, ["gs"]),
    (lambda: {"h": clock, "g": None}, ["h"]),
    (lambda: {"h": 2.0, "g": clock, "gs": growing()}, ["h", "g", "gs"]),
]


def test_penalties_are_one_number_for_each_constraint_that_has_one():
    def check(row):
        order, (make, names) = row
        solver, params = method_of(order, make()), jnp.zeros(3)
        state = jax.eval_shape(lambda p: solver.init(p, 0.0), params)
        after, info = jax.eval_shape(lambda s: solver.step(s, 0.0), state)
        if not names:
            assert state.penalty is None
            assert info.penalty == jc.Constraints()
            return
        for penalties in (state.penalty, after.penalty, info.penalty):
            got = {name: rho for _, name, rho in named(penalties)}
            assert sorted(got) == sorted(names)
            assert {(rho.shape, rho.dtype) for rho in got.values()} == {
                ((), jnp.dtype("float32"))
            }
        assert set(after.penalty.equality) <= {"h"}

    orders = (jc.alternating, jc.simultaneous, jc.extragradient)
    assert_each([(order, given) for order in orders for given in GIVEN], check)


@pytest.mark.parametrize(
    "names", [[], ["gs"], ["h"], ["h", "g", "gs"]], ids=lambda names: "+".join(names)
)
def test_penalties_move_the_estimates_of_their_own_constraints_only(names):
    make = next(make for make, having in GIVEN if having == names)
    solver, state = step_of(jc.alternating, make())
    for _, name, estimate in named(
        jax.jit(solver.problem.multiplier_estimates)(state, 0.0)
    ):
        # At the start all multipliers are zero and all constraints violated.
        assert np.all(estimate != 0) == (name in names)


def test_penalties_by_name_are_each_their_own_rule():
    rng = np.random.default_rng(0)
    residuals = jax.tree.map(
        lambda r: np.float32(rng.normal(size=(9, *r.shape))), RESIDUALS
    )
    values = np.float32(rng.normal(size=9))
    rules = {"gs": growing(), "g": clock, "h": jc.adaptive_penalty(1.0, decay=0.5)}
    together = follow(penalty_rule(rules, RESIDUALS), residuals, MULTIPLIERS, values)
    for name, rule in rules.items():
        theirs = only(residuals, {name})
        alone = follow(
            penalty_rule(rule, theirs), theirs, only(MULTIPLIERS, {name}), values
        )
        got = only(together, {name})
        chex.assert_trees_all_equal(got, alone)
        assert len(set(jax.tree.leaves(got)[0].tolist())) > 1


def test_penalty_rule_of_one_s_own_is_two_functions():
    def begun(residuals, dtype):
        return jax.tree.map(lambda _: jnp.array(8.0, dtype), residuals), ()

    def halved(residuals, state, penalty, multipliers, value):
        return optax.tree.scale(0.5, penalty), state

    rule = PenaltyRule(begun, halved)
    solver, state = step_of(jc.simultaneous, {"g": rule, "h": 1.0})
    step = jax.jit(solver.step)
    for want in (4.0, 2.0):
        state, _ = step(state, 0.0)
        assert float(state.penalty.inequality["g"]) == want
        assert float(state.penalty.equality["h"]) == 1.0


def test_penalties_that_are_none_are_refused_in_one_sentence():
    rows = [
        (
            0,
            ValueError,
            "penalty must be > 0 and finite, got 0; for a plain Lagrangian",
        ),
        (-1.0, ValueError, "penalty must be > 0 and finite, got -1.0"),
        (float("nan"), ValueError, "penalty must be > 0 and finite, got nan"),
        (float("inf"), ValueError, "penalty must be > 0 and finite, got inf"),
        ("10", TypeError, "penalty must be one number, got str"),
        (True, TypeError, "penalty must be one number, got bool"),
        (1j, TypeError, "penalty must be one number, got complex"),
        (object(), TypeError, "penalty must be one number, got object"),
        ([1.0], TypeError, "penalty must be one number, got list"),
        (np.ones(2), TypeError, "penalty must be one number, got ndarray"),
        (jnp.ones(1), TypeError, "penalty must be one number, got ArrayImpl"),
        (optax.sgd(1.0), TypeError, "penalty must be one number, got Gradient"),
        (jc.Constraints({"h": 1.0}), TypeError, "a dict by constraint name"),
        (lambda _: 0.0, ValueError, "penalty must be > 0 and finite, got 0.0"),
        (lambda _: jnp.ones(2), TypeError, "penalty must be one number"),
        ({"flux": 1.0}, ValueError, "penalty of 'flux': no such constraint"),
        (
            {"h": 1.0, "g": 0.0},
            ValueError,
            "penalty of 'g' must be > 0 and finite, got 0.0",
        ),
        (
            {"g": float("nan")},
            ValueError,
            "penalty of 'g' must be > 0 and finite, got nan",
        ),
        ({"g": "10"}, TypeError, "penalty of 'g' must be one number, got str"),
        ({"g": {"h": 1.0}}, TypeError, "penalty of 'g' must be one number, got dict"),
        (
            {"g": lambda _: -1.0},
            ValueError,
            "penalty of 'g' must be > 0 and finite, got -1.0",
        ),
    ]
    constraints = jc.Constraints(dict.fromkeys(["h", "g", "gs"], lambda p, _: p))
    make = partial(jc.Lagrangian, lambda p, _: p, constraints)
    assert_refused(
        [
            (partial(make, penalty=penalty), error, words)
            for penalty, error, words in rows
        ],
        most=99,
    )


def test_penalty_rules_refuse_arguments_out_of_range():
    rows = [
        (
            lambda: jc.growing_penalty(0.0, every=1),
            "penalty must be > 0 and finite, got 0.0",
        ),
        (lambda: jc.growing_penalty(1.0, every=0), "every must be a whole number"),
        (lambda: jc.growing_penalty(1.0, every=2.5), "every must be a whole .* 2.5"),
        (lambda: growing(factor=1.0), "factor must be > 1, got 1.0"),
        (lambda: growing(factor=np.nan), "factor must be > 1, got nan"),
        (lambda: growing(decrease=0.0), r"decrease must be in \(0, 1\], got 0.0"),
        (lambda: growing(decrease=1.5), "decrease must be in"),
        (lambda: growing(tolerance=-1.0), "tolerance must be >= 0, got -1.0"),
        (lambda: growing(tolerance=np.nan), "tolerance must be >= 0, got nan"),
        (lambda: growing(limit=0.5), "limit must be at least initial = 1.0, got 0.5"),
        (
            lambda: jc.adaptive_penalty(0.0),
            "learning_rate must be > 0, got 0.0",
        ),
        (lambda: jc.adaptive_penalty(decay=1.0), r"decay must be in \[0, 1\), got"),
        (lambda: jc.adaptive_penalty(decay=-0.1), "decay must be in"),
        (
            lambda: jc.adaptive_penalty(initial=-1.0),
            "penalty must be > 0 and finite, got -1.0",
        ),
        (lambda: jc.adaptive_penalty(decrease=0.0), "decrease must be in"),
        (lambda: jc.adaptive_penalty(decrease=2.0), "decrease must be in"),
        (lambda: jc.adaptive_penalty(eps=0.0), "eps must be > 0, got 0.0"),
    ]
    assert_refused([(make, ValueError, words) for make, words in rows])


SCHEDULES = {
    "negative": optax.linear_schedule(1.0, -1.0, 10),
    "zero once": lambda step: jnp.where(step == 5, 0.0, 1.0),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_scheduled_penalty_that_is_not_positive_skips_steps_and_fit_says_so(name):
    solver = jc.alternating(
        jc.Lagrangian(
            lambda p, _: p**2,
            jc.Constraints({"h": lambda p, _: p - 1.0}),
            penalty=SCHEDULES[name],
        ),
        optax.sgd(0.1),
        jc.dual_ascent(optax.sgd(0.1)),
    )
    with pytest.raises(FloatingPointError, match="a penalty,") as caught:
        jc.fit(solver, 0.0, steps=20, chunk=4, progress=False)
    state = caught.value.result.state
    # The clock of the schedule stands with the rest: it moves on when the state says so.
    assert 0 < int(state.skipped) < int(state.step)
    assert float(state.penalty.equality["h"]) > 0
