"""Penalties that move: by hand, against NumPy, under every transformation, in a run."""

from functools import partial
from itertools import repeat

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxcon as jc
from jaxcon.transforms import PenaltyRule, constant_penalty, scheduled_penalty
from jaxcon.transforms._penalty import penalty_rule, unsettled

FLAT = repeat(1.0)
kinds = pytest.mark.parametrize("kind", jc.Constraints._fields)
growing = partial(jc.growing_penalty, 1.0, every=1)


def clock(step):
    """An optax schedule: 1, 2, 3, …"""
    return 1.0 + step


RULES = {
    "constant": constant_penalty(2.0),
    "scheduled": scheduled_penalty(clock),
    "growing": growing(),
    "growing, every 3": jc.growing_penalty(1.0, every=3, factor=2.0),
    "adaptive": jc.adaptive_penalty(0.1, decay=0.5),
}


def of(kind, entry):
    """Constraints with one entry."""
    return jc.Constraints(**{kind: {"c": entry}})


def follow(rule, residuals, multipliers=None, values=FLAT):
    """All penalties that a rule goes through along a list of residuals."""
    penalty, state = rule.init(residuals[0], jax.tree.leaves(residuals[0])[0].dtype)
    update, path = jax.jit(rule.update), []
    for residual, value in zip(residuals, values):
        theirs = jc.zero_multipliers(residual) if multipliers is None else multipliers
        penalty, state = update(residual, state, penalty, theirs, jnp.asarray(value))
        path.append(penalty)
    return path


def followed(rule, kind, numbers, multiplier=0.0, values=FLAT):
    """The penalty of one constraint after each call."""
    residuals = [of(kind, jnp.asarray(number, float)) for number in numbers]
    multipliers = of(kind, jnp.full_like(getattr(residuals[0], kind)["c"], multiplier))
    path = follow(rule, residuals, multipliers, values)
    return np.stack([getattr(penalty, kind)["c"] for penalty in path])


VIOLATIONS = [8.0, 1.0, 0.5, 0.1, 0.05, 0.012, 0.011, 0.009, 5.0]
# The first is a fall from infinity; then 0.5 > 1/4, 0.05 > 0.1/4, 0.011 > 0.01 (the
# tolerance) and 5 > 0.01 are none, and the limit cuts the third and fourth growth.
GROWN = [1, 1, 10, 10, 100, 100, 500, 500, 500]


@kinds
@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("every", [1, 3])
def test_growth_by_hand(kind, sign, every):
    rule = jc.growing_penalty(1.0, every=every, tolerance=0.01, limit=500.0)
    # What happens between two looks does not count, however large.
    seen = np.stack([np.full(9, 1e6)] * (every - 1) + [VIOLATIONS], axis=1)
    if kind == "inequality" and sign < 0:
        # Satisfied with multipliers zero is settled.
        np.testing.assert_array_equal(
            followed(rule, kind, -seen.ravel()), np.ones(9 * every)
        )
        return
    path = followed(rule, kind, sign * seen.ravel())
    held = np.concatenate([np.ones(every - 1), np.repeat(GROWN, every)])
    np.testing.assert_array_equal(path, held[: len(path)])


@kinds
def test_the_worst_point_of_a_constraint_decides(kind):
    # All but one of the points are met from the second look on.
    numbers = [[4.0, 4.0, 4.0], [0.0, 0.0, 2.0], [0.0, 0.4, 0.0]]
    np.testing.assert_array_equal(followed(growing(), kind, numbers), [1, 10, 10])


def test_slack_under_a_multiplier_is_no_complementarity():
    # g = -1 and lambda = 2 stand still; rho is what divides lambda: 2/1, 2/10, 2/100.
    path = followed(growing(), "inequality", -np.ones(6), multiplier=2.0)
    np.testing.assert_array_equal(path, [1, 10, 10, 100, 100, 1000])


@pytest.mark.parametrize(
    ("g", "lam", "rho", "want"),
    [
        (0.5, 0.0, 2.0, 0.5),
        (0.5, 3.0, 2.0, 0.5),
        (-0.5, 0.0, 2.0, 0.0),
        (0.0, 3.0, 2.0, 0.0),
        (-0.5, 3.0, 2.0, -0.5),
        (-2.0, 3.0, 2.0, -1.5),
    ],
)
def test_unsettled_is_what_the_multipliers_have_left_to_move(g, lam, rho, want):
    residuals = jc.Constraints({"h": jnp.array([g, 1.0])}, {"g": jnp.array([g])})
    theirs = jc.Constraints({"h": jnp.array([lam, lam])}, {"g": jnp.array([lam])})
    penalty = jax.tree.map(lambda _: jnp.array(rho), residuals)
    left = unsettled(residuals, theirs, penalty)
    np.testing.assert_array_equal(left.equality["h"], [g, 1.0])
    np.testing.assert_array_equal(left.inequality["g"], [want])
    estimates = jc.multiplier_estimates(residuals, theirs, penalty)
    moved = jax.tree.map(lambda m, c: m + rho * c, theirs, left)
    chex.assert_trees_all_equal(moved, estimates)  # all are exact in binary
    only = unsettled(residuals, theirs, jc.Constraints({"h": jnp.array(rho)}))
    assert (list(only.equality), list(only.inequality)) == (["h"], [])


def test_each_constraint_grows_on_its_own():
    falls, stays = jnp.array([8.0, 1.0, 0.1]), jnp.full(3, 0.5)
    residuals = [
        jc.Constraints({"falls": a, "stays": b}, {"falls too": a, "stays too": b})
        for a, b in zip(falls, stays)
    ]
    *_, last = follow(growing(), residuals)
    got = {name: float(rho) for _, name, rho in jc.constraints.named(last)}
    assert got == {"falls": 1, "falls too": 1, "stays": 100, "stays too": 100}


ETA, ZETA, OMEGA, EPS = 0.3, 0.9, 0.95, 1e-8


@kinds
@pytest.mark.parametrize("multiplier", [0.0, 0.7])
def test_adaptive_penalties_follow_their_recursion(x64, kind, multiplier):
    rng = np.random.default_rng(0)
    numbers, values = rng.normal(size=(20, 3)), rng.normal(size=20)
    numbers *= np.geomspace(1, 1e-3, 20)[:, None]
    rho, mean_square, moves, want = 0.5, 0.0, 0, []
    for t, c in enumerate(numbers):
        if kind == "inequality":
            c = np.maximum(c, -multiplier / rho)
        mean_square = ZETA * mean_square + (1 - ZETA) * np.mean(c**2)
        if t and values[t] >= values[t - 1] - (1 - OMEGA) * abs(values[t - 1]):
            moves += 1
            rho = max(rho, ETA / np.sqrt(mean_square + EPS))
        want.append(rho)
    assert 5 < moves < 15
    assert want[0] == 0.5 < want[-1]
    rule = jc.adaptive_penalty(ETA, decay=ZETA, initial=0.5, decrease=OMEGA, eps=EPS)
    got = followed(rule, kind, numbers, multiplier, values)
    # Twenty sums of a few roundings each.
    np.testing.assert_allclose(got, want, rtol=1e-13)


@kinds
@pytest.mark.parametrize(
    ("values", "moves"),
    [(np.ones(4), True), (-np.ones(4), True), (-np.arange(4.0), False)],
    ids=["flat", "flat and negative", "falling"],
)
def test_an_adaptive_penalty_moves_once_the_objective_stalls(kind, values, moves):
    # Nothing is violated: eps alone bounds what the penalty moves to.
    rule = jc.adaptive_penalty(0.5, initial=2.0, eps=1e-4)
    path = followed(rule, kind, np.zeros(4), values=values)
    bound = 0.5 / np.sqrt(1e-4)
    np.testing.assert_allclose(path, [2.0, *repeat(bound if moves else 2.0, 3)])


@kinds
def test_a_constraint_without_points_needs_no_larger_penalty(kind):
    for rule in (growing(), jc.adaptive_penalty(eps=1.0)):
        np.testing.assert_array_equal(
            followed(rule, kind, np.zeros((3, 0))), np.ones(3)
        )


RESIDUALS = jc.Constraints(
    {"h": jnp.array([0.5, -1.0])}, {"g": jnp.array(2.0), "gs": jnp.array([-3.0, 0.1])}
)
MULTIPLIERS = jc.Constraints(
    {"h": jnp.array([1.0, -1.0])}, {"g": jnp.array(0.5), "gs": jnp.array([0.2, 0.0])}
)
MIXED = {"g": clock, "h": growing(), "gs": None}


def rule_of(name):
    return penalty_rule(MIXED, RESIDUALS) if name == "mixed" else RULES[name]


def scanned(rule, residuals, multipliers, dtype, calls=7):
    """Penalty and memory after some calls, and before them."""

    def body(carry, value):
        penalty, state = carry
        return rule.update(residuals, state, penalty, multipliers, value), None

    before = rule.init(residuals, dtype)
    return jax.lax.scan(body, before, jnp.ones(calls, dtype))[0], before


@pytest.mark.parametrize("name", [*RULES, "mixed"])
@pytest.mark.parametrize("residual_dtype", [jnp.bfloat16, jnp.float32, jnp.float64])
@pytest.mark.parametrize("loss_dtype", [jnp.float32, jnp.float64])
def test_a_scan_keeps_structure_shapes_and_dtypes(
    x64, name, residual_dtype, loss_dtype
):
    residuals, multipliers = jax.tree.map(
        lambda leaf: leaf.astype(residual_dtype), (RESIDUALS, MULTIPLIERS)
    )
    after, before = scanned(rule_of(name), residuals, multipliers, loss_dtype)
    chex.assert_trees_all_equal_structs(after, before)
    chex.assert_trees_all_equal_shapes_and_dtypes(after, before)
    jax.tree.map(lambda leaf: chex.assert_equal(leaf.weak_type, False), before)
    for leaf in jax.tree.leaves(after[0]):
        assert leaf.shape == ()
        assert leaf.dtype == loss_dtype
        assert leaf >= 1


def test_numpy_s_numbers_do_not_widen_a_penalty(x64):
    for rule in (
        jc.growing_penalty(np.float64(1), every=np.int64(2), factor=np.float64(2)),
        jc.adaptive_penalty(np.float64(1), decay=np.float64(0.5)),
    ):
        after, before = scanned(rule, RESIDUALS, MULTIPLIERS, jnp.float32)
        chex.assert_trees_all_equal_shapes_and_dtypes(after, before)


# Fused and unfused programs differ by a few roundings.
close = partial(chex.assert_trees_all_close, rtol=16 * np.finfo(np.float32).eps)


@pytest.mark.parametrize("name", [*RULES, "mixed"])
def test_jit_is_eager_and_vmap_is_a_loop(name):
    rule = rule_of(name)

    def twice(scale):
        residuals = optax.tree.scale(scale, RESIDUALS)
        penalty, state = rule.init(residuals, jnp.float32)
        for _ in range(2):
            penalty, state = rule.update(
                residuals, state, penalty, MULTIPLIERS, 1.0 + scale
            )
        return penalty, state

    scales = jnp.array([0.5, 1.0, 1.75])
    with jax.disable_jit():
        eager = [twice(scale) for scale in scales]
    close([jax.jit(twice)(scale) for scale in scales], eager)
    stacked = jax.tree.map(lambda *rows: jnp.stack(rows), *eager)
    close(jax.jit(jax.vmap(twice))(scales), stacked)


def step_of(order, penalty, **more):
    """min |p|² s.t. p₀ = 1, p₁ >= 2, p₂ >= 3, and its start."""
    method = order(
        lambda p, batch: jnp.sum(p**2) + batch,
        jc.Constraints(
            {"h": lambda p, _: p[0] - 1.0},
            {"g": lambda p, _: 2.0 - p[1], "gs": lambda p, _: 3.0 - p[2:]},
        ),
        optax.sgd(0.02),
        jc.dual_ascent(optax.sgd(0.1)),
        penalty=penalty,
    )
    return method, method.init(jnp.zeros(3), 0.0)


@pytest.mark.parametrize(
    "penalty",
    [
        lambda rho: rho,
        lambda rho: {"h": rho, "gs": 2.0},
        lambda rho: jc.growing_penalty(rho, every=3),
        lambda rho: jc.growing_penalty(1.0, every=3, factor=1 + rho, limit=9 * rho),
        lambda rho: jc.adaptive_penalty(rho, initial=rho, decay=0.5),
        lambda rho: lambda step: rho * (1 + step),
    ],
    ids=["number", "of some", "growing", "factor", "adaptive", "schedule"],
)
def test_a_penalty_may_be_swept_in_one_program(penalty):
    def train(rho):
        method, state = step_of(jc.alternating, penalty(rho))
        return jax.lax.scan(lambda s, _: method.step(s, 0.0), state, length=8)

    rhos = jnp.array([0.5, 1.0, 3.0])
    together = jax.jit(jax.vmap(train))(rhos)
    alone = [jax.jit(train)(rho) for rho in rhos]
    # Eight steps of a few roundings of numbers below 30.
    chex.assert_trees_all_close(
        together, jax.tree.map(lambda *rows: jnp.stack(rows), *alone), rtol=1e-4
    )
    assert (np.diff(together[0].params[:, 0]) > 0).all()


def test_a_schedule_counts_only_steps_that_were_taken():
    method, state = step_of(jc.alternating, clock)
    step, seen = jax.jit(method.step), []
    for batch in (0.0, 0.0, np.nan, np.nan, 0.0):
        before = state
        state, info = step(state, batch)
        # What is reported stood before the move.
        chex.assert_trees_all_equal(info.penalty, before.penalty)
        assert len(set(map(float, jax.tree.leaves(state.penalty)))) == 1
        seen.append(float(state.penalty.equality["h"]))
    assert seen == [2, 3, 3, 3, 4]
    assert int(state.skipped) == 2


MIX = {"h": 2.0, "g": clock, "gs": growing()}


@pytest.mark.parametrize(
    ("penalty", "names"),
    [
        (None, []),
        ({}, []),
        ({"g": None}, []),
        (3, ["h", "g", "gs"]),
        (jc.adaptive_penalty(), ["h", "g", "gs"]),
        ({"gs": 2.0}, ["gs"]),
        ({"h": clock, "g": None}, ["h"]),
        (MIX, ["h", "g", "gs"]),
    ],
    ids=["None", "empty", "None of g", "3", "adaptive", "gs", "h", "all"],
)
@pytest.mark.parametrize(
    "order",
    [jc.alternating]
    + [
        pytest.param(order, marks=pytest.mark.slow)
        for order in (jc.simultaneous, jc.extragradient)
    ],
)
def test_a_state_has_one_number_for_each_constraint_with_a_penalty(
    order, penalty, names
):
    method, state = step_of(order, penalty)
    after, info = jax.jit(method.step)(state, 0.0)
    if not names:
        assert state.penalty is None
        assert info.penalty == jc.Constraints()
        return
    for penalties in (state.penalty, after.penalty, info.penalty):
        got = {name: rho for _, name, rho in jc.constraints.named(penalties)}
        assert sorted(got) == sorted(names)
        assert {(rho.shape, rho.dtype) for rho in got.values()} == {
            ((), jnp.dtype("float32"))
        }
    assert set(after.penalty.equality) <= {"h"}
    for name in ["h", "g", "gs"]:
        kind = "equality" if name == "h" else "inequality"
        estimate = getattr(method.estimates(state, 0.0), kind)[name]
        # At the start all multipliers are zero and all constraints violated.
        assert (estimate != 0).all() == (name in names)


def test_penalties_by_name_are_each_their_own_rule():
    rng = np.random.default_rng(0)
    residuals = [
        jax.tree.map(
            lambda r: jnp.asarray(rng.normal(size=r.shape), r.dtype), RESIDUALS
        )
        for _ in range(9)
    ]
    values = rng.normal(size=9)
    rules = {"gs": growing(), "g": clock, "h": jc.adaptive_penalty(1.0, decay=0.5)}
    together = follow(penalty_rule(rules, RESIDUALS), residuals, MULTIPLIERS, values)
    for name, rule in rules.items():
        (alone,) = [
            follow(
                penalty_rule(rule, RESIDUALS),
                [jc.constraints.only(r, {name}) for r in residuals],
                jc.constraints.only(MULTIPLIERS, {name}),
                values,
            )
        ]
        got = [jc.constraints.only(penalty, {name}) for penalty in together]
        chex.assert_trees_all_equal(got, alone)
        assert len({float(jax.tree.leaves(penalty)[0]) for penalty in got}) > 1


def test_a_rule_of_one_s_own_is_two_functions():
    def halved(residuals, state, penalty, multipliers, value):
        return optax.tree.scale(0.5, penalty), state

    rule = PenaltyRule(
        lambda residuals, dtype: (
            jax.tree.map(lambda _: jnp.array(8.0, dtype), residuals),
            (),
        ),
        halved,
    )
    method, state = step_of(jc.simultaneous, {"g": rule, "h": 1.0})
    for want in (4.0, 2.0):
        state, _ = jax.jit(method.step)(state, 0.0)
        assert float(state.penalty.inequality["g"]) == want
        assert float(state.penalty.equality["h"]) == 1.0


@pytest.mark.parametrize(
    ("penalty", "error", "words"),
    [
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
    ],
)
@pytest.mark.parametrize("order", [jc.simultaneous, jc.alternating, jc.extragradient])
def test_what_is_no_penalty_is_refused_in_one_sentence(order, penalty, error, words):
    with pytest.raises(error, match=words) as caught:
        step_of(order, penalty)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 100


@pytest.mark.parametrize(
    ("make", "words"),
    [
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
    ],
)
def test_a_rule_s_arguments_out_of_range_are_refused_in_one_sentence(make, words):
    with pytest.raises(ValueError, match=words):
        make()


@pytest.mark.parametrize(
    "schedule",
    [
        optax.linear_schedule(1.0, -1.0, 10),
        optax.cosine_decay_schedule(1.0, 5),
        lambda step: jnp.where(step == 5, 0.0, 1.0),
    ],
    ids=["negative", "zero at last", "zero once"],
)
def test_where_a_schedule_is_not_positive_steps_are_skipped_and_fit_says_so(schedule):
    method = jc.alternating(
        lambda p, _: p**2,
        jc.Constraints({"h": lambda p, _: p - 1.0}),
        optax.sgd(0.1),
        jc.dual_ascent(optax.sgd(0.1)),
        penalty=schedule,
    )
    with pytest.raises(FloatingPointError, match="a penalty,") as caught:
        jc.fit(method, method.init(0.0), steps=20, chunk=4, progress=False)
    state = caught.value.result.state
    # The clock of the schedule stands with the rest: it moves on when the state says so.
    assert 0 < int(state.skipped) < int(state.step)
    assert float(state.penalty.equality["h"]) > 0
