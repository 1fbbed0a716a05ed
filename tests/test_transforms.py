"""Multipliers climb, those of inequalities stay nonnegative, on any tree of names."""

from itertools import pairwise, repeat
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxcon as jc

RHO = 0.5
FLAT = repeat(1.0)
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


SGD = jc.dual_ascent(optax.sgd(0.5))
DUALS = {
    **{name: jc.dual_ascent(make()) for name, make in OPTIMIZERS.items()},
    "optimistic": jc.dual_ascent(optax.optimistic_gradient_descent(0.5)),
    "smoothed": jc.dual_ascent(optax.chain(optax.ema(0.9), optax.sgd(0.5))),
    "mean of 2": optax.MultiSteps(SGD, 2).gradient_transformation(),
    "nupi": jc.nupi(0.5, kp=2.0, nu=0.5),
    "nupi, zero": jc.nupi(0.5, kp=-0.5, nu=0.5, init="zero"),
    "pid": jc.pid(0.5, 0.5, 0.5),
    "method of multipliers": jc.method_of_multipliers(),
    "capped": jc.capped(SGD, 0.75),
    "restart when feasible": jc.restart_when_feasible(SGD),
    "every": jc.every(SGD, 2),
    "when stalled": jc.when_stalled(SGD),
}
# Each wrapper, with nothing of its own to do at the residuals of the tests below.
WRAPPERS = {
    "capped": lambda dual: jc.capped(dual, 1e6),
    "restart when feasible": jc.restart_when_feasible,
    "every": lambda dual: jc.every(dual, 1),
    "when stalled": jc.when_stalled,
}
kinds = pytest.mark.parametrize("kind", jc.Constraints._fields)


@pytest.fixture(params=OPTIMIZERS)
def dual(request):
    return DUALS[request.param]


class Weights(NamedTuple):
    """Stands for the parameters of a network that computes multipliers."""

    params: Any


def of(kind, entry):
    """Constraints with one entry."""
    return jc.Constraints(**{kind: {"c": entry}})


def series(kind, numbers):
    """The residuals of one constraint, call after call."""
    return [of(kind, jnp.asarray(number)) for number in numbers]


def extras(residuals, multipliers, value=1.0):
    """What a step hands to the dual transform besides the residuals."""
    return {
        "value": jnp.asarray(value),
        "estimates": jc.multiplier_estimates(residuals, multipliers, RHO),
        "penalty": jax.tree.map(lambda r: jnp.array(RHO, r.dtype), residuals),
    }


def climb(dual, multipliers, residuals, values=FLAT):
    """All the multipliers passed through while climbing along a list of residuals."""
    state, path = dual.init(multipliers), [multipliers]
    update = jax.jit(optax.with_extra_args_support(dual).update)
    for residual, value in zip(residuals, values):
        extra = extras(residual, multipliers, value)
        updates, state = update(residual, state, multipliers, **extra)
        multipliers = optax.apply_updates(multipliers, updates)
        path.append(multipliers)
    return path


def climbed(dual, kind, numbers, start=0.0, values=FLAT):
    """The multipliers of one constraint after each call, stacked."""
    residuals = series(kind, numbers)
    first = jax.tree.map(lambda r: jnp.full(r.shape, start, r.dtype), residuals[0])
    _, *path = climb(dual, first, residuals, values)
    return np.stack([getattr(multipliers, kind)["c"] for multipliers in path])


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


@pytest.mark.parametrize("name", DUALS)
@pytest.mark.parametrize(
    "dtype", [pytest.param(jnp.bfloat16, marks=pytest.mark.slow), jnp.float32]
)
@pytest.mark.parametrize("tree", TREES)
def test_a_scan_over_any_tree_keeps_structure_shapes_and_dtypes(name, dtype, tree):
    dual = optax.with_extra_args_support(DUALS[name])
    residuals = jax.tree.map(lambda leaf: leaf.astype(dtype), TREES[tree])
    start = jc.zero_multipliers(residuals)

    def step(carry, value):
        multipliers, state = carry
        extra = extras(residuals, multipliers, value)
        updates, state = dual.update(residuals, state, multipliers, **extra)
        chex.assert_trees_all_equal_shapes_and_dtypes(updates, residuals)
        return (optax.apply_updates(multipliers, updates), state), None

    before = start, dual.init(start)
    after, _ = jax.lax.scan(step, before, jnp.ones(4))
    chex.assert_trees_all_equal_structs(after, before)
    chex.assert_trees_all_equal_shapes_and_dtypes(after, before)
    jax.tree.map(lambda leaf: chex.assert_equal(leaf.weak_type, False), before[1])
    for leaf in jax.tree.leaves(after[0]):
        assert (leaf > 0).all()


NETWORK = Weights({"w": jnp.array([-2.0, 3.0]), "b": jnp.array(-1.0)})


@pytest.mark.parametrize(
    "name", sorted(DUALS.keys() - {"pid", "method of multipliers"})
)
def test_a_network_s_parameters_move_as_an_equality_s_would(name):
    # They have no sign to keep, no cap, and nothing to restart.
    def moved(kind):
        dual = optax.with_extra_args_support(DUALS[name])
        multipliers, pull = (
            of(kind, NETWORK),
            of(kind, jax.tree.map(lambda w: -w, NETWORK)),
        )
        state = dual.init(multipliers)
        for value in (2.0, 2.0, 2.0):
            updates, state = dual.update(pull, state, multipliers, value=value)
            multipliers = optax.apply_updates(multipliers, updates)
        return getattr(multipliers, kind)["c"]

    inequality, equality = moved("inequality"), moved("equality")
    chex.assert_trees_all_equal(inequality, equality)
    changed = jax.tree.map(
        lambda new, old: bool((new != old).all()), inequality, NETWORK
    )
    assert all(jax.tree.leaves(changed))


@kinds
@pytest.mark.parametrize(
    ("init", "path"), [("first", [1, 2, 3, 4]), ("zero", [11, 12, 13, 14])]
)
def test_the_first_step_of_pi_control_kicks_only_from_zero(kind, init, path):
    dual = jc.nupi(1.0, kp=10.0, init=init)
    np.testing.assert_array_equal(climbed(dual, kind, np.ones(4)), path)


@kinds
@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("beta", [-0.3, 0.5, 0.9])
def test_pi_control_from_zero_contains_momentum(x64, kind, nesterov, beta):
    # Theorem 1 of Sohrabi et al.: gamma is 0 for Polyak, 1 for Nesterov. The trace of
    # optax is unnormalised (m = e + beta m), as theirs is.
    alpha, gamma = 0.3, float(nesterov)
    kp = -alpha * beta / (1 - beta) ** 2 * (1 - gamma * (1 - beta))
    pi = jc.nupi(1.0, kp=kp, ki=alpha / (1 - beta), nu=beta, init="zero")
    momentum = jc.dual_ascent(optax.sgd(alpha, beta, nesterov))
    residuals = np.random.default_rng(0).normal(size=(50, 4))
    # The gains are up to 30 times what is left of them, over 50 steps.
    np.testing.assert_allclose(
        climbed(pi, kind, residuals), climbed(momentum, kind, residuals), atol=1e-12
    )


@kinds
def test_pi_control_from_the_first_error_contains_optimistic_ascent(kind):
    residuals = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    # 2 e - e' against e + (e - e'): a rounding or two of numbers near 5, 50 times.
    np.testing.assert_allclose(
        climbed(jc.nupi(0.1, kp=1.0), kind, residuals),
        climbed(DUALS["optimistic"], kind, residuals / 5),
        atol=50 * np.finfo(np.float32).eps,
    )


def test_the_rate_of_pi_control_may_follow_a_schedule():
    rate = optax.piecewise_constant_schedule(1.0, {2: 0.25})
    path = climbed(jc.nupi(rate, kp=0.0, ki=2.0), "equality", np.ones(4))
    np.testing.assert_array_equal(path, [2, 4, 4.5, 5])


@pytest.mark.parametrize(
    ("kind", "path"),
    [
        # kp g + ki I + kd D of (g, I, D) = (1, 1, 0), (3, 4, 2), (-6, 0, 0), (2, 2, 8)
        ("inequality", [1.5, 9, 0, 19]),
        # ... and of (1, 1, 0), (3, 4, 2), (-6, -2, -9), (2, 0, 8)
        ("equality", [1.5, 9, -25, 18]),
    ],
)
@pytest.mark.parametrize("start", [0.0, 7.0])
def test_pid_by_hand_wherever_it_starts(kind, path, start):
    dual = jc.pid(kp=1.0, ki=0.5, kd=2.0)
    moved = climbed(dual, kind, [1.0, 3.0, -6.0, 2.0], start=start)
    # Set as a difference from the present multiplier: 19 - 0 and 0 - 9 are exact.
    np.testing.assert_array_equal(moved, path)


@kinds
def test_the_method_of_multipliers_goes_to_the_estimates(kind):
    residuals = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    # Going there is one subtraction and one addition of numbers near one.
    np.testing.assert_allclose(
        climbed(jc.method_of_multipliers(), kind, residuals),
        climbed(jc.dual_ascent(optax.sgd(RHO)), kind, residuals),
        atol=20 * np.finfo(np.float32).eps,
    )


MU = jc.Constraints({"h": jnp.array(1.0)}, {"g": jnp.ones(2)})


@pytest.mark.parametrize(
    "extra",
    [
        {},
        {"penalty": None, "estimates": MU},
        {"penalty": jc.Constraints({"h": jnp.array(1.0)}), "estimates": MU},
    ],
)
def test_the_method_of_multipliers_needs_a_penalty_for_each(extra):
    dual = jc.method_of_multipliers()
    with pytest.raises(ValueError, match="needs a penalty for"):
        dual.update(MU, dual.init(MU), MU, **extra)


def test_a_network_s_parameters_cannot_be_set_to_a_value():
    weights, residual = of("equality", NETWORK), of("equality", jnp.ones(3))
    penalty = of("equality", jnp.array(1.0))
    with pytest.raises(ValueError, match="pid sets .* equality constraint 'c'"):
        jc.pid(1.0, 1.0).init(weights)
    dual = jc.method_of_multipliers()
    with pytest.raises(ValueError, match="method_of_multipliers sets .* 'c'"):
        dual.update(residual, (), weights, estimates=residual, penalty=penalty)


@kinds
def test_capped_multipliers_stay_in_the_box_and_say_when_they_reach_it(kind):
    limit, low = 0.7, -0.7 if kind == "equality" else 0.0
    dual = jc.capped(jc.dual_ascent(optax.sgd(0.5)), limit)
    residuals = np.random.default_rng(0).normal(size=(60, 1, 3)).astype(np.float32)
    start = of(kind, jnp.zeros(3))
    state, multiplier, reached = dual.init(start), start, []
    for residual in series(kind, residuals[:, 0]):
        moves, state = dual.update(residual, state, multiplier)
        free = getattr(multiplier, kind)["c"] + 0.5 * getattr(residual, kind)["c"]
        multiplier = optax.apply_updates(multiplier, moves)
        now = np.asarray(getattr(multiplier, kind)["c"])
        # limit = m + (limit - m) up to a rounding.
        np.testing.assert_allclose(now, np.clip(free, low, limit), rtol=1e-6)
        assert getattr(state.at_cap, kind)["c"] == (abs(now) >= limit - 1e-6).any()
        reached.append(bool(getattr(state.at_cap, kind)["c"]))
    assert 5 < sum(reached) < 55


def test_a_cap_holds_whatever_the_transform_inside_does():
    # Scaled residuals alone climb, and clamp nothing.
    dual = jc.capped(optax.scale(1.0), 2.0)
    path = climbed(dual, "inequality", [1.5, 1.5, -3.0, -3.0])
    np.testing.assert_array_equal(path, [1.5, 2, 0, 0])


def test_a_feasible_inequality_forgets_its_multiplier_point_by_point():
    dual = jc.restart_when_feasible(SGD)
    residuals = [[1.0, 1.0], [-0.25, 2.0], [2.0, 0.0]]
    np.testing.assert_array_equal(
        climbed(dual, "inequality", residuals), [[0.5, 0.5], [0, 1.5], [1, 0]]
    )
    np.testing.assert_array_equal(
        climbed(dual, "equality", residuals), [[0.5, 0.5], [0.375, 1.5], [1.375, 1.5]]
    )


@pytest.mark.parametrize(
    ("wrap", "settles"), [(lambda dual: dual, True), (jc.restart_when_feasible, False)]
)
def test_an_active_constraint_that_is_overshot_does_not_settle_under_restarts(
    wrap, settles
):
    # min (x - 2)² s.t. x <= 1: x* = 1 and λ* = 2.
    dual = wrap(jc.dual_ascent(optax.sgd(0.5)))
    optimum, active = of("inequality", jnp.array(2.0)), of("inequality", jnp.array(0.0))
    moves, _ = dual.update(active, dual.init(optimum), optimum)
    assert moves.inequality["c"] == (0 if settles else -2)

    def step(carry, _):
        x, lam, state = carry
        moves, state = dual.update(of("inequality", x - 1), state, lam)
        lam = optax.apply_updates(lam, moves)
        x = x - 0.1 * (2 * (x - 2) + lam.inequality["c"])
        return (x, lam, state), x - 1

    start = jnp.array(2.0), active, dual.init(active)
    _, g = jax.lax.scan(step, start, length=600)
    if settles:  # by a factor of 0.9 a step, down to roundings of numbers near one
        np.testing.assert_allclose(g[-100:], 0, atol=1e-5)
    else:
        assert g[-100:].max() > 0.1


@pytest.mark.parametrize("name", ["momentum", "adam"])
@pytest.mark.parametrize("k", [1, 3])
def test_every_is_the_transform_on_every_kth_residual(name, k):
    residuals = np.random.default_rng(0).normal(size=(12, 2)).astype(np.float32)
    often = climbed(jc.every(DUALS[name], k), "inequality", residuals)
    seldom = climbed(DUALS[name], "inequality", residuals[k - 1 :: k])
    # Zero until call k; then each one stands for k calls.
    stands = np.concatenate([np.zeros((1, 2)), seldom]).repeat(k, axis=0)
    np.testing.assert_array_equal(often, stands[1 : 1 + len(often)])


def test_multisteps_climb_along_the_mean_residual():
    path = climbed(
        DUALS["mean of 2"], "inequality", [[1.0, -1.0], [2.0, 3.0], [5.0, 0.0]]
    )
    np.testing.assert_array_equal(path, [[0, 0], [0.75, 0.5], [0.75, 0.5]])


def test_multipliers_wait_until_the_objective_stalls():
    values = [4.0, 2.0, 1.999, 1.0, 1.5, 1.5]
    path = climbed(DUALS["when stalled"], "equality", np.ones(6), values=values)
    np.testing.assert_array_equal(path, [0, 0, 0.5, 0.5, 1, 1.5])


def test_when_stalled_asks_for_the_objective():
    dual = DUALS["when stalled"]
    with pytest.raises(ValueError, match="needs value="):
        dual.update(MU, dual.init(MU), MU)


@pytest.mark.parametrize("name", WRAPPERS)
def test_extra_arguments_reach_the_transform_inside(name):
    residuals = np.array([[1.0, 3.0], [2.0, 1.0], [1.0, 1.0]], np.float32)
    wrapped = WRAPPERS[name](jc.method_of_multipliers())
    skipped = 1 if name == "when stalled" else 0
    np.testing.assert_array_equal(
        climbed(wrapped, "inequality", residuals)[skipped:],
        climbed(jc.method_of_multipliers(), "inequality", residuals[skipped:]),
    )
    # This one asks for value=, and waits for its own second call.
    wrapped = WRAPPERS[name](DUALS["when stalled"])
    assert (climbed(wrapped, "inequality", residuals)[-1] > 0).all()


@pytest.mark.parametrize("name", WRAPPERS)
def test_what_wraps_a_dual_transform_is_one_and_what_wraps_another_is_not(name):
    wrap = WRAPPERS[name]
    assert isinstance(wrap(SGD), jc.transforms.DualTransform)
    assert not isinstance(wrap(optax.scale(0.5)), jc.transforms.DualTransform)


def rosenbrock(x):
    return (1 - x[0]) ** 2 + 10 * (x[1] - x[0] ** 2) ** 2


def descend(primal, calls):
    """Points passed through while `primal` descends, and what it saw."""
    x, state = jnp.array([-1.0, 0.5]), primal.init(jnp.array([-1.0, 0.5]))
    path = [x]
    update = jax.jit(
        lambda grad, state, x, value: primal.update(
            grad, state, x, value=value, grad=grad, value_fn=rosenbrock
        )
    )
    for _ in range(calls):
        value, grad = jax.value_and_grad(rosenbrock)(x)
        moves, after = update(grad, state, x, value)
        chex.assert_trees_all_equal_shapes_and_dtypes(after, state)
        x, state = optax.apply_updates(x, moves), after
        path.append(x)
    return path


def test_restart_every_gives_lbfgs_a_new_memory_before_its_kth_move():
    restarted = descend(jc.restart_every(optax.lbfgs(), 4), 7)
    plain = descend(optax.lbfgs(), 7)
    np.testing.assert_array_equal(restarted[:4], plain[:4])
    # The fourth call is the first of a new memory.
    primal, x = optax.lbfgs(), restarted[3]
    value, grad = jax.value_and_grad(rosenbrock)(x)
    moves, _ = primal.update(
        grad, primal.init(x), x, value=value, grad=grad, value_fn=rosenbrock
    )
    # The line search is compiled with the update in one, and alone in the other.
    np.testing.assert_allclose(restarted[4], x + moves, rtol=1e-5)
    assert not np.allclose(restarted[4], plain[4], rtol=1e-3)


def test_restart_every_and_every_meet_on_the_same_calls():
    k, calls = 3, 10
    lam = climbed(jc.every(SGD, k), "equality", np.ones(calls))
    moved = [i for i, (a, b) in enumerate(pairwise([0.0, *lam])) if a != b]
    sums, x = jc.restart_every(optax.trace(1.0), k), jnp.array(0.0)
    state, new = sums.init(x), []
    for i in range(calls):
        move, state = sums.update(jnp.array(1.0), state, x)
        new += [i] if i > 0 and move == 1 else []
    assert new == moved == [2, 5, 8]


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: jc.dual_ascent(0.1), TypeError, "optimizer must be .* got float"),
        (lambda: jc.dual_ascent(optax.sgd), TypeError, "optimizer must be .* function"),
        (lambda: jc.capped(None, 1.0), TypeError, "dual must be .* got NoneType"),
        (lambda: jc.restart_when_feasible(1.0), TypeError, "dual must be"),
        (lambda: jc.every(1.0, 2), TypeError, "dual must be"),
        (lambda: jc.when_stalled(1.0), TypeError, "dual must be"),
        (lambda: jc.restart_every(1.0, 2), TypeError, "primal must be"),
        (lambda: jc.nupi(0.1, 1.0, nu=1.0), ValueError, "nu must be in .* got 1.0"),
        (lambda: jc.nupi(0.1, 1.0, nu=-1), ValueError, "nu must be in"),
        (lambda: jc.nupi(0.1, 1.0, init="sgd"), ValueError, "init must be .* 'sgd'"),
        (lambda: jc.pid(-1.0, 1.0), ValueError, "kp must be >= 0, got -1.0"),
        (lambda: jc.pid(1.0, 1.0, float("nan")), ValueError, "kd must be >= 0"),
        (lambda: jc.capped(SGD, 0.0), ValueError, "limit must be > 0, got 0.0"),
        (lambda: jc.every(SGD, 0), ValueError, "k must be a whole number >= 1, got 0"),
        (lambda: jc.every(SGD, 2.5), ValueError, "k must be a whole number"),
        (lambda: jc.restart_every(SGD, -1), ValueError, "k must be a whole number"),
        (lambda: jc.when_stalled(SGD, 0.0), ValueError, "decrease must be in"),
        (lambda: jc.when_stalled(SGD, 1.1), ValueError, "decrease must be in"),
    ],
)
def test_bad_arguments_are_refused_at_once_in_one_sentence(make, error, words):
    with pytest.raises(error, match=words):
        make()


def test_gains_caps_and_rhythms_may_be_swept_in_one_program():
    def last(kp, nu, limit, k):
        dual = jc.capped(jc.every(jc.nupi(0.5, kp, nu=nu), k), limit)
        multipliers, state = MU, dual.init(MU)
        for scale in (1.0, -0.5, 2.0, 1.5):
            residuals = optax.tree.scale(scale, MU)
            moves, state = dual.update(residuals, state, multipliers)
            multipliers = optax.apply_updates(multipliers, moves)
        return multipliers

    columns = [np.array(c) for c in ([1.0, -0.2], [0.0, 0.5], [1.2, 9.0], [1, 2])]
    together = jax.jit(jax.vmap(last))(*columns)
    rows = [last(*(value.item() for value in row)) for row in zip(*columns)]
    alone = jax.tree.map(lambda *leaves: jnp.stack(leaves), *rows)
    # Fused and unfused programs differ by a few roundings of numbers near one.
    chex.assert_trees_all_close(together, alone, rtol=1e-6)
