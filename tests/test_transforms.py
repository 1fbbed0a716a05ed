"""Transforms of multipliers: by hand, and one against another; restarts of parameters."""

from itertools import pairwise
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tables import assert_each, assert_refused

import jaxcon as jc

RHO = 0.5

# Nothing is built here: a row is a function without arguments.
OPTIMIZERS = {
    "sgd": lambda: optax.sgd(0.5),
    "momentum": lambda: optax.sgd(0.5, momentum=0.9),
    "nesterov": lambda: optax.sgd(0.5, momentum=0.9, nesterov=True),
    "adam": lambda: optax.adam(0.5),
    "clipped": lambda: optax.chain(optax.clip_by_global_norm(0.1), optax.sgd(0.5)),
    "schedule": lambda: optax.sgd(optax.linear_schedule(0.5, 0.1, 10)),
    "optimistic": lambda: optax.optimistic_gradient_descent(0.5),
    "smoothed": lambda: optax.chain(optax.ema(0.9), optax.sgd(0.5)),
}


def sgd():
    return jc.dual_ascent(optax.sgd(0.5))


def mean_of_two():
    return optax.MultiSteps(sgd(), 2).gradient_transformation()


DUALS = {
    **{
        name: lambda make=make: jc.dual_ascent(make())
        for name, make in OPTIMIZERS.items()
    },
    "mean of 2": mean_of_two,
    "nupi": lambda: jc.nupi(0.5, kp=2.0, nu=0.5),
    "nupi, zero": lambda: jc.nupi(0.5, kp=-0.5, nu=0.5, init="zero"),
    "capped": lambda: jc.capped(sgd(), 0.75),
    "restart_when_feasible": lambda: jc.restart_when_feasible(sgd()),
    "every": lambda: jc.every(sgd(), 2),
    "when_stalled": lambda: jc.when_stalled(sgd()),
}
# Each wrapper, with nothing of its own to do at the residuals of the tests below.
WRAPPERS = {
    "capped": lambda dual: jc.capped(dual, 1e6),
    "restart_when_feasible": jc.restart_when_feasible,
    "every": lambda dual: jc.every(dual, 1),
    "when_stalled": jc.when_stalled,
}


class Weights(NamedTuple):
    """Stands for the parameters of a network that computes multipliers."""

    params: Any


NETWORK = Weights({"w": np.float32([-2.0, 3.0]), "b": np.float32(-1.0)})


def of(kind, entry):
    """Constraints with one entry."""
    return jc.Constraints(**{kind: {"c": entry}})


def both(entry):
    """Constraints with the same entry for an equality and for an inequality."""
    return jc.Constraints({"h": entry}, {"g": entry})


def stack(trees):
    return jax.tree.map(lambda *leaves: np.stack(leaves), *trees)


def path_of(dual, multipliers, residuals, values=None, extras=True):
    """The multipliers after each call, along stacked residuals."""
    dual = optax.with_extra_args_support(dual)
    if values is None:
        values = jnp.ones(len(jax.tree.leaves(residuals)[0]))

    def step(carry, now):
        (multipliers, state), (residual, value) = carry, now
        extra = {"value": value}
        if extras:
            extra |= {
                "estimates": jc.multiplier_estimates(residual, multipliers, RHO),
                "penalty": jax.tree.map(lambda r: jnp.array(RHO, r.dtype), residual),
            }
        updates, state = dual.update(residual, state, multipliers, **extra)
        multipliers = optax.apply_updates(multipliers, updates)
        return (multipliers, state), multipliers

    return jax.lax.scan(
        step, (multipliers, dual.init(multipliers)), (residuals, values)
    )[1]


climb = jax.jit(path_of, static_argnums=0, static_argnames="extras")


def climbed(dual, numbers, start=0.0, values=None):
    """The multipliers of an equality and of an inequality with the same residuals.

    Args:
        dual: the transform.
        numbers: residuals, call after call, (calls,) or (calls, points).
        start: what all multipliers start from.
        values: of the objective, (calls,); constant by default.

    Returns:
        Two arrays shaped like `numbers`: the equality's and the inequality's.
    """
    numbers = jnp.asarray(numbers, float)
    first = both(jnp.full(numbers.shape[1:], start, numbers.dtype))
    path = climb(dual, first, both(numbers), values)
    return np.array(path.equality["h"]), np.array(path.inequality["g"])


def test_dual_ascent_by_sgd_by_hand():
    multipliers = jc.Constraints({"h": jnp.array(1.0)}, {"g": jnp.array([1, 0.25, 0])})
    residuals = jc.Constraints(
        {"h": jnp.array([-4.0])}, {"g": jnp.array([[1.0, -2.0, -1.0]])}
    )
    after = climb(sgd(), multipliers, residuals)
    np.testing.assert_array_equal(after.equality["h"], [-1.0])
    np.testing.assert_array_equal(after.inequality["g"], [[1.5, 0.0, 0.0]])


def test_dual_ascent_rises_falls_and_stops_inequalities_at_zero():
    noise = np.float32(np.random.default_rng(0).normal(size=(60, 2, 4)))

    def check(name):
        dual = DUALS[name]()

        def climbed(h, g):
            path = climb(
                dual,
                jc.Constraints({"h": np.zeros(4)}, {"g": np.zeros(4)}),
                jc.Constraints({"h": h}, {"g": g}),
            )
            return np.array(path.equality["h"]), np.array(path.inequality["g"])

        ones = np.ones((60, 4), np.float32)
        mu, lam = climbed(ones, ones)
        assert (mu[2] > 0).all()
        assert (lam[2] > 0).all()
        mu, lam = climbed(-ones, -ones)
        assert (mu[2] < 0).all()
        np.testing.assert_array_equal(lam[2], np.zeros(4))
        mu, lam = climbed(noise[:, 0], noise[:, 1])
        assert lam.min() == 0.0  # the wall is reached, to the bit
        assert lam.max() > 0.1
        assert mu.min() < -0.1  # and stands on one side only

    # The other transforms are rows of test_laws.
    assert_each([*OPTIMIZERS, "mean of 2", "nupi, zero"], check)


@pytest.mark.parametrize("name", ["momentum", "adam"])
def test_dual_ascent_climbs_as_its_optimizer_would_descend(name):
    # On equalities nothing is projected, so the path is its descent's mirror image.
    h = np.float32([[1.0, -2.0]]) * np.float32([[1], [-3], [2], [5]])
    start, residuals = jc.Constraints({"h": np.zeros(2)}), jc.Constraints({"h": h})
    up = climb(DUALS[name](), start, residuals).equality["h"][-1]
    down = climb(OPTIMIZERS[name](), start, residuals).equality["h"][-1]
    # The same operations on numbers of opposite sign; a fused one may round apart.
    np.testing.assert_allclose(up, -down, rtol=4 * np.finfo(np.float32).eps)
    assert np.abs(up).min() > 0


def test_dual_ascent_decays_multipliers_towards_zero_and_not_away():
    # The sign is turned before the optimizer: its own terms keep theirs.
    decayed = optax.chain(optax.add_decayed_weights(0.25), optax.sgd(0.5))
    multipliers = jc.Constraints({"h": jnp.array(-8.0)}, {"g": jnp.array([4.0, 0.0])})
    residuals = jc.Constraints({"h": jnp.array([1.0])}, {"g": jnp.array([[2.0, 1.0]])})
    after = climb(jc.dual_ascent(decayed), multipliers, residuals)
    # m + ½ (r - ¼ m)
    np.testing.assert_array_equal(after.equality["h"], [-6.5])
    np.testing.assert_array_equal(after.inequality["g"], [[4.5, 0.5]])


def test_dual_transforms_move_a_network_s_parameters_as_an_equality_s():
    # They have no sign to keep, no cap, and nothing to restart.
    pull = stack([jax.tree.map(np.negative, NETWORK)] * 3)
    values = np.full(3, 2.0, np.float32)

    def check(name):
        path = climb(DUALS[name](), both(NETWORK), both(pull), values, extras=False)
        equality, inequality = path.equality["h"], path.inequality["g"]
        chex.assert_trees_all_equal(inequality, equality)
        for new, old in zip(jax.tree.leaves(equality), jax.tree.leaves(NETWORK)):
            assert (np.array(new[-1]) != old).all()

    assert_each(DUALS, check)


@pytest.mark.parametrize(
    ("init", "path"), [("first", [1, 2, 3, 4]), ("zero", [11, 12, 13, 14])]
)
def test_nupi_kicks_at_its_first_step_only_from_zero(init, path):
    for got in climbed(jc.nupi(1.0, kp=10.0, init=init), np.ones(4)):
        np.testing.assert_array_equal(got, path)


@pytest.mark.parametrize("nesterov", [False, True])
def test_nupi_from_zero_contains_momentum(x64, nesterov):
    # Theorem 1 of Sohrabi et al.: gamma is 0 for Polyak, 1 for Nesterov. The trace of
    # optax is unnormalised (m = e + beta m), as theirs is.
    alpha, gamma = 0.3, float(nesterov)
    residuals = both(np.random.default_rng(0).normal(size=(50, 4)))

    @jax.jit
    @jax.vmap
    def paths(beta):
        kp = -alpha * beta / (1 - beta) ** 2 * (1 - gamma * (1 - beta))
        pi = jc.nupi(1.0, kp=kp, ki=alpha / (1 - beta), nu=beta, init="zero")
        momentum = jc.dual_ascent(optax.sgd(alpha, beta, nesterov))
        start = both(jnp.zeros(4))
        return path_of(pi, start, residuals), path_of(momentum, start, residuals)

    # The gains are up to 30 times what is left of them, over 50 steps.
    chex.assert_trees_all_close(
        *paths(np.array([-0.3, 0.5, 0.9])), rtol=1e-7, atol=1e-12
    )


def test_nupi_from_the_first_error_contains_optimistic_ascent():
    residuals = np.float32(np.random.default_rng(0).normal(size=(50, 4)))
    # 2 e - e' against e + (e - e'): a rounding or two of numbers near 5, 50 times.
    np.testing.assert_allclose(
        climbed(jc.nupi(0.1, kp=1.0), residuals),
        climbed(DUALS["optimistic"](), residuals / 5),
        atol=50 * np.finfo(np.float32).eps,
    )


def test_nupi_follows_the_average_of_a_changing_residual_by_hand():
    # xi = 1, 2, 1/2, 5/4, so that e + 2 (xi - xi') = 1, 3 + 2, -1 - 3, 2 + 3/2.
    dual = jc.nupi(1.0, kp=2.0, nu=0.5)
    for path in climbed(dual, [1.0, 3.0, -1.0, 2.0]):
        np.testing.assert_array_equal(path, [1, 6, 2, 5.5])


def test_nupi_s_rate_may_follow_a_schedule():
    rate = optax.piecewise_constant_schedule(1.0, {2: 0.25})
    path, _ = climbed(jc.nupi(rate, kp=0.0, ki=2.0), np.ones(4))
    np.testing.assert_array_equal(path, [2, 4, 4.5, 5])


@pytest.mark.parametrize("start", [0.0, 7.0])
def test_pid_by_hand_wherever_it_starts(start):
    dual = jc.pid(kp=1.0, ki=0.5, kd=2.0)
    equality, inequality = climbed(dual, [1.0, 3.0, -6.0, 2.0], start=start)
    # kp g + ki I + kd D of (g, I, D) = (1, 1, 0), (3, 4, 2), (-6, -2, -9), (2, 0, 8).
    # Set as a difference from the present multiplier: 19 - 0 and 0 - 9 are exact.
    np.testing.assert_array_equal(equality, [1.5, 9, -25, 18])
    # ... and of (1, 1, 0), (3, 4, 2), (-6, 0, 0), (2, 2, 8)
    np.testing.assert_array_equal(inequality, [1.5, 9, 0, 19])


def test_method_of_multipliers_goes_to_the_estimates():
    residuals = np.float32(np.random.default_rng(0).normal(size=(20, 4)))
    # Going there is one subtraction and one addition of numbers near one.
    np.testing.assert_allclose(
        climbed(jc.method_of_multipliers(), residuals),
        climbed(jc.dual_ascent(optax.sgd(RHO)), residuals),
        atol=20 * np.finfo(np.float32).eps,
    )


def test_method_of_multipliers_and_when_stalled_ask_for_what_they_need():
    mu = jc.Constraints({"h": jnp.array(1.0)}, {"g": jnp.ones(2)})

    def update(dual, **extra):
        return lambda: dual.update(mu, dual.init(mu), mu, **extra)

    some = jc.Constraints({"h": jnp.array(1.0)})
    dual, words = jc.method_of_multipliers(), "needs a penalty for"
    assert_refused(
        [
            (update(dual), ValueError, words),
            (update(dual, penalty=None, estimates=mu), ValueError, words),
            (update(dual, penalty=some, estimates=mu), ValueError, words),
            (update(jc.when_stalled(sgd())), ValueError, "needs value="),
        ]
    )


def test_pid_and_method_of_multipliers_cannot_set_a_network_s_parameters():
    weights, residual = of("equality", NETWORK), of("equality", jnp.ones(3))
    penalty, dual = of("equality", jnp.array(1.0)), jc.method_of_multipliers()

    def update():
        return dual.update(residual, (), weights, estimates=residual, penalty=penalty)

    assert_refused(
        [
            (
                lambda: jc.pid(1.0, 1.0).init(weights),
                ValueError,
                "pid sets .* equality constraint 'c'",
            ),
            (update, ValueError, "method_of_multipliers sets .* 'c'"),
        ]
    )


@pytest.mark.parametrize("kind", jc.Constraints._fields)
def test_capped_stays_in_the_box_and_says_when_it_is_reached(kind):
    limit, low = 0.7, -0.7 if kind == "equality" else 0.0
    dual = jc.capped(sgd(), limit)
    residuals = np.float32(np.random.default_rng(0).normal(size=(60, 3)))

    def step(carry, residual):
        multiplier, state = carry
        moves, state = dual.update(of(kind, residual), state, multiplier)
        after = optax.apply_updates(multiplier, moves)
        return (after, state), (after, state.at_cap)

    start = of(kind, jnp.zeros(3))
    (_, _), path = jax.lax.scan(step, (start, dual.init(start)), residuals)
    after, reached = (np.array(getattr(entry, kind)["c"]) for entry in path)
    before = np.concatenate([np.zeros((1, 3)), after[:-1]])
    # limit = m + (limit - m) up to a rounding.
    free = before + 0.5 * residuals
    np.testing.assert_allclose(after, np.clip(free, low, limit), rtol=1e-6, atol=1e-7)
    np.testing.assert_array_equal(reached, (abs(after) >= limit - 1e-6).any(axis=1))
    assert 5 < sum(reached) < 55


def test_capped_holds_its_limit_whatever_the_transform_inside_does():
    # Scaled residuals alone climb, and clamp nothing.
    _, path = climbed(jc.capped(optax.scale(1.0), 2.0), [1.5, 1.5, -3.0, -3.0])
    np.testing.assert_array_equal(path, [1.5, 2, 0, 0])


def test_restart_when_feasible_forgets_an_inequality_s_multiplier_point_by_point():
    dual = jc.restart_when_feasible(sgd())
    residuals = [[1.0, 1.0], [-0.25, 2.0], [2.0, 0.0]]
    equality, inequality = climbed(dual, residuals)
    np.testing.assert_array_equal(inequality, [[0.5, 0.5], [0, 1.5], [1, 0]])
    np.testing.assert_array_equal(equality, [[0.5, 0.5], [0.375, 1.5], [1.375, 1.5]])


@pytest.mark.parametrize("settles", [True, False])
def test_restart_when_feasible_does_not_let_an_active_constraint_settle(settles):
    # min (x - 2)² s.t. x <= 1: x* = 1 and λ* = 2. Plain ascent settles there.
    dual = sgd() if settles else jc.restart_when_feasible(sgd())
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
    residuals = np.float32(np.random.default_rng(0).normal(size=(12, 2)))
    _, often = climbed(jc.every(DUALS[name](), k), residuals)
    _, seldom = climbed(DUALS[name](), residuals[k - 1 :: k])
    # Zero until call k; then each one stands for k calls.
    stands = np.concatenate([np.zeros((1, 2)), seldom]).repeat(k, axis=0)
    np.testing.assert_array_equal(often, stands[1 : 1 + len(often)])


def test_multisteps_climb_along_the_mean_residual():
    _, path = climbed(mean_of_two(), [[1.0, -1.0], [2.0, 3.0], [5.0, 0.0]])
    np.testing.assert_array_equal(path, [[0, 0], [0.75, 0.5], [0.75, 0.5]])


def test_when_stalled_waits_until_the_objective_stalls():
    values = np.float32([4.0, 2.0, 1.999, 1.0, 1.5, 1.5])
    path, _ = climbed(jc.when_stalled(sgd()), np.ones(6), values=values)
    np.testing.assert_array_equal(path, [0, 0, 0.5, 0.5, 1, 1.5])


@pytest.mark.parametrize("name", WRAPPERS)
def test_wrappers_hand_extra_arguments_to_the_transform_inside(name):
    residuals = np.float32([[1.0, 3.0], [2.0, 1.0], [1.0, 1.0]])
    _, wrapped = climbed(WRAPPERS[name](jc.method_of_multipliers()), residuals)
    skipped = 1 if name == "when_stalled" else 0
    _, plain = climbed(jc.method_of_multipliers(), residuals[skipped:])
    np.testing.assert_array_equal(wrapped[skipped:], plain)
    # This one asks for value=, and waits for its own second call.
    _, path = climbed(WRAPPERS[name](jc.when_stalled(sgd())), residuals)
    assert (path[-1] > 0).all()


def test_wrappers_of_a_dual_transform_are_one_and_those_of_another_are_not():
    def check(name):
        wrap = WRAPPERS[name]
        assert isinstance(wrap(sgd()), jc.transforms.DualTransform)
        assert not isinstance(wrap(optax.scale(0.5)), jc.transforms.DualTransform)

    assert_each(WRAPPERS, check)


def rosenbrock(x):
    return (1 - x[0]) ** 2 + 10 * (x[1] - x[0] ** 2) ** 2


def descend(primal, calls):
    """Points that `primal` passes through, its state kept as it was in kind."""
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
    lam, _ = climbed(jc.every(sgd(), k), np.ones(calls))
    moved = [i for i, (a, b) in enumerate(pairwise([0.0, *lam])) if a != b]
    sums = jc.restart_every(optax.trace(1.0), k)

    def step(state, _):
        move, state = sums.update(jnp.array(1.0), state, jnp.array(0.0))
        return state, move

    _, moves = jax.lax.scan(step, sums.init(jnp.array(0.0)), length=calls)
    new = [i for i, move in enumerate(moves.tolist()) if i > 0 and move == 1]
    assert new == moved == [2, 5, 8]


def test_transforms_refuse_bad_arguments_at_once():
    optimizer, dual, k = "optimizer must be", "dual must be", "k must be a whole number"
    one = sgd()
    assert_refused(
        [
            (lambda: jc.dual_ascent(0.1), TypeError, f"{optimizer} .* got float"),
            (lambda: jc.dual_ascent(optax.sgd), TypeError, f"{optimizer} .* function"),
            (lambda: jc.capped(None, 1.0), TypeError, f"{dual} .* got NoneType"),
            (lambda: jc.restart_when_feasible(1.0), TypeError, dual),
            (lambda: jc.every(1.0, 2), TypeError, dual),
            (lambda: jc.when_stalled(1.0), TypeError, dual),
            (lambda: jc.restart_every(1.0, 2), TypeError, "primal must be"),
            (lambda: jc.nupi(0.1, 1.0, nu=1.0), ValueError, "nu must be in .* got 1.0"),
            (lambda: jc.nupi(0.1, 1.0, nu=-1), ValueError, "nu must be in"),
            (
                lambda: jc.nupi(0.1, 1.0, init="sgd"),
                ValueError,
                "init must be .* 'sgd'",
            ),
            (lambda: jc.pid(-1.0, 1.0), ValueError, "kp must be >= 0, got -1.0"),
            (lambda: jc.pid(1.0, 1.0, float("nan")), ValueError, "kd must be >= 0"),
            (lambda: jc.capped(one, 0.0), ValueError, "limit must be > 0, got 0.0"),
            (lambda: jc.every(one, 0), ValueError, f"{k} >= 1, got 0"),
            (lambda: jc.every(one, 2.5), ValueError, k),
            (lambda: jc.restart_every(one, -1), ValueError, k),
            (lambda: jc.when_stalled(one, 0.0), ValueError, "decrease must be in"),
            (lambda: jc.when_stalled(one, 1.1), ValueError, "decrease must be in"),
        ]
    )


def test_nupi_capped_and_every_may_be_swept_in_one_program():
    mu = jc.Constraints({"h": np.float32(1.0)}, {"g": np.ones(2, np.float32)})
    residuals = jax.tree.map(
        lambda r: np.multiply.outer(np.float32([1.0, -0.5, 2.0, 1.5]), r), mu
    )

    def path(kp, nu, limit, k):
        dual = jc.capped(jc.every(jc.nupi(0.5, kp, nu=nu), k), limit)
        return path_of(dual, mu, residuals)

    columns = [np.array(c) for c in ([1.0, -0.2], [0.0, 0.5], [1.2, 9.0], [1, 2])]
    together = jax.jit(jax.vmap(path))(*columns)
    rows = [path(*(value.item() for value in row)) for row in zip(*columns)]
    # Fused and unfused programs differ by a few roundings of numbers near one.
    chex.assert_trees_all_close(together, stack(rows), rtol=1e-6)
