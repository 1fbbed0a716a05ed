"""Scalars of (loss, residuals, multipliers) against the textbook's own formulas."""

from fractions import Fraction
from functools import partial
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tables import assert_each, assert_refused

import jaxcon as jc
from jaxcon import penalties
from jaxcon.constraints import named, only
from jaxcon.lagrangians import check_penalty, penalty_barrier_lagrangian, shared

RESIDUALS = jc.Constraints(
    {"h": np.float32(2.0), "hs": np.float32([1.0, -0.5])},
    {"g": np.float32(-1.0), "gs": np.float32([0.5, -3.0, 0.0])},
)
MULTIPLIERS = jc.Constraints(
    {"h": np.float32(-3.0), "hs": np.float32([0.5, 2.0])},
    {"g": np.float32(4.0), "gs": np.float32([1.0, 2.0, 0.0])},
)
# Compiled once for all their arguments: nearly every test calls these.
augmented = jax.jit(jc.augmented_lagrangian)
slope_of_augmented = jax.jit(jax.value_and_grad(jc.augmented_lagrangian, argnums=1))
estimates_of = jax.jit(jc.multiplier_estimates)
RHOS = (1e-3, 0.7, 40.0)


def sample(seed, n=6):
    """Residuals and multipliers of every kind, in float64, some slack, some not."""
    rng = np.random.default_rng(seed)
    residuals = jc.Constraints(
        {"h": np.array(rng.normal()), "hs": rng.normal(size=n)},
        {"g": np.array(rng.normal()), "gs": 3 * rng.normal(size=n)},
    )
    multipliers = jc.Constraints(
        {"h": np.array(rng.normal()), "hs": rng.normal(size=n)},
        {"g": np.array(0.0), "gs": np.maximum(rng.normal(size=n), 0)},
    )
    return np.array(rng.normal()), residuals, multipliers


def textbook(loss, residuals, multipliers, rho):
    """Nocedal and Wright's (17.36) and (17.65), signs turned to h = 0, g <= 0.

    Evaluated in rational numbers: the two squares cancel, and here nothing is lost.
    """
    total, rho = Fraction(float(loss)), Fraction(rho)
    for (kind, _, residual), (_, _, multiplier) in zip(
        named(residuals), named(multipliers)
    ):
        for r, m in zip(np.ravel(residual).tolist(), np.ravel(multiplier).tolist()):
            r, m = Fraction(r), Fraction(m)
            if kind == "equality":
                total += m * r + rho / 2 * r**2
            else:
                total += (max(0, m + rho * r) ** 2 - m**2) / (2 * rho)
    return float(total)


def test_zero_multipliers_have_the_residuals_shapes_in_float32_at_least():
    residuals = jc.Constraints(
        {"h": jnp.ones((), jnp.bfloat16)},
        {"g": jax.ShapeDtypeStruct((3,), jnp.float32)},
    )
    multipliers = jc.zero_multipliers(residuals)
    np.testing.assert_array_equal(multipliers.inequality["g"], [0.0, 0.0, 0.0])
    assert multipliers.inequality["g"].dtype == jnp.float32
    assert multipliers.equality["h"].dtype == jnp.float32
    assert multipliers.equality["h"].shape == ()


def test_lagrangian_by_hand():
    # 10 - 6 + (0.5 - 1) - 4 + (0.5 - 6 + 0)
    assert float(jc.lagrangian(jnp.array(10.0), RESIDUALS, MULTIPLIERS)) == -6.0


def test_augmented_lagrangian_by_hand():
    # rho = 2. h: -6 + 4; hs: (0.5 + 1) + (-1 + 0.25); g: λ + ρg = 2, so -4 + 1;
    # gs: 2 > 0, so 0.5 + 0.25; -4 < 0, so -4/4; 0: nothing.
    by_hand = 10.0 - 2.0 + 0.75 - 3.0 + 0.75 - 1.0
    value = jc.augmented_lagrangian(jnp.array(10.0), RESIDUALS, MULTIPLIERS, 2.0)
    assert float(value) == by_hand


def test_lagrangians_without_constraints_are_the_loss():
    none = jc.Constraints()
    assert float(jc.lagrangian(jnp.array(3.5), none, none)) == 3.5
    assert float(jc.augmented_lagrangian(jnp.array(3.5), none, none, 1.0)) == 3.5


def test_multiplier_estimates_by_hand():
    got = jc.multiplier_estimates(RESIDUALS, MULTIPLIERS, 2.0)
    np.testing.assert_array_equal(got.equality["h"], 1.0)
    np.testing.assert_array_equal(got.equality["hs"], [2.5, 1.0])
    np.testing.assert_array_equal(got.inequality["g"], 2.0)
    np.testing.assert_array_equal(got.inequality["gs"], [2.0, 0.0, 0.0])
    assert jc.multiplier_estimates(RESIDUALS, MULTIPLIERS) is MULTIPLIERS


def test_augmented_lagrangian_is_the_textbook_s(x64):
    def check(row):
        seed, rho = row
        loss, residuals, multipliers = sample(seed)
        want = textbook(loss, residuals, multipliers, rho)
        got = augmented(loss, residuals, multipliers, rho)
        # Fourteen terms of size up to 10, 40 * 10² / 2 and, resting, λ²/2ρ <= ρ g²/2.
        atol = 14 * np.finfo(np.float64).eps * (10 + 50 * rho)
        np.testing.assert_allclose(got, want, rtol=0, atol=atol)

    assert_each([(seed, rho) for seed in range(5) for rho in RHOS], check)


def test_augmented_lagrangian_is_the_least_over_slacks_of_the_equality_problem(x64):
    # What PHR is by definition: g <= 0 is g + s = 0 with the best s >= 0.
    from scipy.optimize import minimize_scalar

    def check(row):
        (g, lam), rho = row
        inequality = jc.Constraints(inequality={"g": np.array(g)})
        theirs = jc.Constraints(inequality={"g": np.array(lam)})
        price = lambda s: lam * (g + s) + rho / 2 * (g + s) ** 2  # noqa: E731
        best = minimize_scalar(
            price, bounds=(0.0, 100.0), method="bounded", options={"xatol": 1e-10}
        )
        least = min(best.fun, price(0.0))
        got = augmented(np.array(0.0), inequality, theirs, rho)
        # At a minimum an error of 1e-10 in s is one of 1e-20; on the boundary, 1e-10 λ.
        np.testing.assert_allclose(got, least, rtol=1e-9, atol=1e-12)

    points = [(-2.0, 0.1), (-0.1, 2.0), (0.5, 0.0), (1.0, 3.0)]
    assert_each([(point, rho) for point in points for rho in (0.3, 5.0)], check)


def test_augmented_lagrangian_s_slope_in_the_residuals_is_the_estimates(x64):
    # Both are one multiplication and one addition.
    close = partial(np.testing.assert_allclose, rtol=1e-15, atol=1e-15)

    def check(row):
        seed, rho = row
        loss, residuals, multipliers = sample(seed)
        _, slope = slope_of_augmented(loss, residuals, multipliers, rho)
        jax.tree.map(close, slope, estimates_of(residuals, multipliers, rho))

    assert_each([(seed, rho) for seed in range(3) for rho in RHOS], check)


PHI = {
    penalties.log_quadratic: lambda t: np.where(
        t < -0.5, -0.25 / np.minimum(t, -0.5), 1 + t
    ),
    penalties.exponential_quadratic: lambda t: np.where(
        t < 0, np.exp(np.minimum(t, 0)), 1 + t
    ),
}


@pytest.mark.parametrize("phi", PHI, ids=lambda phi: phi.__name__)
def test_barrier_lagrangian_s_slope_in_the_residuals_scales_the_multipliers(x64, phi):
    slope = jax.jit(jax.grad(partial(penalty_barrier_lagrangian, barrier=phi), 1))
    # A handful of roundings; 1 + rho g may cancel to a tenth.
    close = partial(np.testing.assert_allclose, rtol=1e-14, atol=1e-15)
    loss, residuals, multipliers = sample(0)

    def check(rho):
        gradient = slope(loss, residuals, multipliers, rho)
        for name, g in residuals.inequality.items():
            lam = multipliers.inequality[name]
            close(gradient.inequality[name], lam * PHI[phi](rho * g))
        for name, h in residuals.equality.items():
            close(gradient.equality[name], multipliers.equality[name] + rho * h)

    assert_each(RHOS, check)


LAGRANGIANS = {
    "augmented": jc.augmented_lagrangian,
    "barrier": partial(penalty_barrier_lagrangian, barrier=penalties.log_quadratic),
}


@pytest.mark.parametrize("name", LAGRANGIANS)
def test_lagrangians_take_a_penalty_of_each_constraint_or_none(x64, name):
    price = LAGRANGIANS[name]
    compiled = jax.jit(price)
    loss, residuals, multipliers = sample(1)
    rhos = {"h": 2.0, "gs": 0.5}
    penalty = jc.Constraints({"h": 2.0}, {"gs": np.array(0.5)})
    want = loss
    for _, name, _ in named(residuals):
        alone = only(residuals, {name}), only(multipliers, {name})
        if name in rhos:
            want += compiled(np.array(0.0), *alone, rhos[name])
        else:
            want += float(jc.lagrangian(np.array(0.0), *alone))
    value, gradient = jax.jit(jax.value_and_grad(price, argnums=1))(
        loss, residuals, multipliers, penalty
    )
    # Two orders of the same ten terms.
    np.testing.assert_allclose(value, want, rtol=1e-14)
    for kind, name, multiplier in named(multipliers):
        if name not in rhos:
            np.testing.assert_array_equal(getattr(gradient, kind)[name], multiplier)
    estimates = estimates_of(residuals, multipliers, penalty)
    if price is jc.augmented_lagrangian:
        jax.tree.map(
            partial(np.testing.assert_allclose, rtol=1e-14), gradient, estimates
        )


def test_check_penalty_judges_what_is_known_while_something_else_is_traced():
    def traced(penalty):
        return jax.eval_shape(lambda x: (check_penalty(penalty), x)[1], 1.0)

    two = jnp.array(2.0)
    for known in (two, np.float32(2.0), jc.Constraints({"h": two}), 2, None):
        traced(known)
    words = "must be > 0 and finite, got 0.0"
    zeros = (jnp.array(0.0), jc.Constraints({}, {"g": 0.0}))
    assert_refused([(partial(traced, zero), ValueError, words) for zero in zeros])


def test_check_penalty_lets_a_traced_one_pass_whatever_it_will_be():
    traced = jax.jit(lambda rho: check_penalty(jc.Constraints({"h": rho})))
    assert traced(-1.0) is None
    with pytest.raises(TypeError, match="penalty of 'h' must be one number"):
        traced(jnp.ones(2))


def test_lagrangian_s_slope_in_the_residuals_is_the_multipliers():
    slope = jax.jit(jax.grad(jc.lagrangian, argnums=1))
    gradient = slope(jnp.array(1.0), RESIDUALS, MULTIPLIERS)
    jax.tree.map(np.testing.assert_array_equal, gradient, MULTIPLIERS)


def test_augmented_lagrangian_of_tiny_and_huge_penalties_has_no_nan_in_float32():
    def check(row):
        r, lam, rho = row
        residuals = jc.Constraints({"h": np.float32(r)}, {"g": np.float32(r)})
        multipliers = jc.Constraints({"h": np.float32(lam)}, {"g": np.float32(lam)})
        value, gradient = slope_of_augmented(0.0, residuals, multipliers, rho)
        want = textbook(0.0, residuals, multipliers, rho)
        # A few float32 roundings, of terms of one sign or far apart.
        np.testing.assert_allclose(np.float64(value), want, rtol=2e-6, atol=0)
        np.testing.assert_allclose(gradient.equality["h"], lam + rho * r, rtol=1e-6)
        np.testing.assert_allclose(
            gradient.inequality["g"], max(lam + rho * r, 0), rtol=1e-6
        )

    residuals, multipliers = (-1e3, -1.0, 0.0, 1.0, 1e3), (0.0, 1.0, 1e4)
    rhos = (1e-30, 1e-12, 1e12, 1e30)
    assert_each(product(residuals, multipliers, rhos), check)


def test_augmented_lagrangian_is_smooth_where_the_push_ends(x64):
    # At λ + ρ g = 0 exactly: pushing and resting agree, and the slope is zero.
    lam = 2.0
    multipliers = jc.Constraints(inequality={"g": np.array(lam)})

    def check(rho):
        def at(g):
            residuals = jc.Constraints(inequality={"g": np.array(g)})
            value, slope = slope_of_augmented(0.0, residuals, multipliers, rho)
            return float(value), float(slope.inequality["g"])

        value, slope = at(-lam / rho)
        np.testing.assert_allclose(value, -(lam**2) / (2 * rho), rtol=1e-15)
        np.testing.assert_allclose(slope, 0.0, atol=4 * np.finfo(np.float64).eps * lam)
        _, beyond = at(-lam / rho * (1 + 1e-9))
        _, before = at(-lam / rho * (1 - 1e-9))
        assert beyond == 0.0
        # 1 - 1e-9 is rounded.
        np.testing.assert_allclose(before, 1e-9 * lam, rtol=1e-6)

    assert_each((1e-6, 1.0, 1e6), check)


def test_multiplier_estimates_are_where_ascent_of_rate_rho_goes():
    def check(row):
        seed, rho = row
        _, residuals, multipliers = jax.tree.map(jnp.asarray, sample(seed))
        dual = jc.dual_ascent(optax.sgd(rho))
        climb, _ = dual.update(residuals, dual.init(multipliers), multipliers)
        jax.tree.map(
            np.testing.assert_array_equal,
            optax.apply_updates(multipliers, climb),
            jc.multiplier_estimates(residuals, multipliers, rho),
        )

    assert_each([(seed, rho) for seed in range(3) for rho in RHOS], check)


def test_penalties_that_are_not_positive_are_refused():
    one = np.float32(1.0)
    held = jc.Constraints({"h": lambda p, _: p})
    # In all by the same check, which must only be reached.
    uses = [
        *(
            lambda rho, price=price: price(one, RESIDUALS, MULTIPLIERS, rho)
            for price in LAGRANGIANS.values()
        ),
        *(
            lambda rho, more=more: jc.Lagrangian(lambda p, _: p, *more, penalty=rho)
            for more in ([], [held])  # a loss may return its constraints
        ),
    ]
    penalties = (0, 0.0, -1.0, float("nan"), -float("inf"))
    assert_refused(
        [
            (
                partial(use, penalty),
                ValueError,
                f"penalty must be > 0 and finite, got {penalty}",
            )
            for use in uses
            for penalty in penalties
        ]
    )


def test_multipliers_that_do_not_match_are_refused():
    f = np.float32(0.0)
    functions = [
        lambda r, m: jc.lagrangian(f, r, m),
        lambda r, m: jc.augmented_lagrangian(f, r, m, 1.0),
        lambda r, m: penalty_barrier_lagrangian(f, r, m, 1.0, penalties.hinge),
        lambda r, m: jc.multiplier_estimates(r, m, 1.0),
        lambda r, m: jc.multiplier_estimates(r, m),
    ]
    five = np.ones(5, np.float32)
    rows = [
        ({"flux": np.ones((5, 1), np.float32)}, ["'flux'", "(5,)", "(5, 1)"]),
        ({"flux": five[:4]}, ["'flux'", "(5,)", "(4,)", "number of points"]),
        ({"flux": five[0]}, ["'flux'", "(5,)", "()"]),
        ({}, ["'flux'", "a residual but no multiplier"]),
        ({"flux": five, "x": five}, ["'x'", "a multiplier but no residual"]),
    ]
    assert_refused(
        [
            (
                partial(
                    function,
                    jc.Constraints(**{kind: {"flux": five}}),
                    jc.Constraints(**{kind: theirs}),
                ),
                ValueError,
                [kind, *words],
            )
            for function in functions
            for theirs, words in rows
            for kind in jc.Constraints._fields
        ]
    )


# The problem.


def squares(p, _):
    return jnp.sum(p**2)


HELD = jc.Constraints({"h": lambda p, b: p[0] - b}, {"g": lambda p, _: p - 1.0})
POINT = np.float32([0.5, 3.0])


def in_one(loss, constraints):
    """A loss that returns its constraints' residuals, and a number to report."""
    return lambda p, b: jc.Evaluation(loss(p, b), jc.evaluate(constraints, p, b), b)


@pytest.mark.parametrize("penalty", [None, 2.0, {"g": 3.0}])
def test_evaluation_with_residuals_is_one_of_loss_and_constraints(penalty):
    apart = jc.Lagrangian(
        lambda p, b: (squares(p, b), b), HELD, penalty=penalty, barrier=None
    )
    together = jc.Lagrangian(in_one(squares, HELD), penalty=penalty)
    rho = apart.start(apart.evaluate(POINT, 0.25).residuals, jnp.float32)[1]
    multipliers = jc.Constraints({"h": np.float32(1)}, {"g": np.float32([0, 0.5])})
    at = jc.Point(POINT, multipliers, rho)
    for read in (
        lambda problem: problem.evaluate(POINT, 0.25),
        lambda problem: problem.multiplier_estimates(at, 0.25),
        lambda problem: problem.start(problem.evaluate(POINT, 0.25).residuals, float),
        lambda problem: jc.kkt(problem, at, 0.25),
    ):
        jax.tree.map(np.testing.assert_array_equal, read(apart), read(together))
    found = apart.evaluate(POINT, 0.25)
    assert float(found.loss) == 9.25
    assert float(found.residuals.equality["h"]) == 0.25
    np.testing.assert_array_equal(found.residuals.inequality["g"], [-0.5, 2.0])
    assert (found.aux, found.extra) == (0.25, None)


def test_evaluations_that_cannot_be_meant_are_refused():
    def evaluated(residuals, *constraints, **more):
        problem = jc.Lagrangian(
            lambda p, _: jc.Evaluation(squares(p, _), residuals), *constraints, **more
        )
        return partial(problem.evaluate, POINT, 0.25)

    one = jc.Constraints({"h": jnp.array(1.0)})
    column = jc.Constraints({"h": jnp.ones((3, 1))})
    whole = jc.Constraints({"h": jnp.array(1)})
    table = {"k": jc.multipliers.indexed(3, on="i")}
    assert_refused(
        [
            (evaluated(one, HELD), ValueError, "in one of the two"),
            (evaluated(column), ValueError, ["'h'", "(3, 1)"]),
            (evaluated(whole), TypeError, ["'h'", "int32"]),
            (evaluated(one, penalty={"k": 1.0}), ValueError, "'k': no such constraint"),
            (evaluated(one, multipliers=table), ValueError, "'k': no such constraint"),
            # None at all, which is known no sooner.
            (
                evaluated(jc.Constraints(), penalty={"k": 1.0}),
                ValueError,
                "'k': no such constraint",
            ),
        ]
    )


def test_lagrangian_says_what_it_is_of():
    constraints = jc.Constraints({"h": squares}, {"g": squares})
    assert repr(jc.Lagrangian(squares)) == "Lagrangian of squares"
    assert repr(jc.Lagrangian(squares, constraints, penalty=2.0)) == (
        "Lagrangian of squares subject to h = 0, g <= 0, penalty 2.0"
    )


# Equal operations of loss and constraints.


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def turned(x, sign):
    """The identity, with the gradient times a sign."""
    return x


turned.defvjp(lambda x, sign: (x, None), lambda sign, _, ct: (sign * ct,))


@jax.custom_jvp
def one_rule(x):
    return jnp.tanh(x)


@jax.custom_jvp
def another_rule(x):
    return jnp.tanh(x)


one_rule.defjvp(lambda x, t: (jnp.tanh(*x), 2.0 * t[0]))
another_rule.defjvp(lambda x, t: (jnp.tanh(*x), 3.0 * t[0]))


def looped(x):
    return jax.lax.scan(lambda h, _: (jnp.tanh(h), None), x, length=3)[0]


# name: (two functions of one array, a primitive, and how often it is left of the two)
PAIRS = {
    "the same": (jnp.tanh, jnp.tanh, "tanh", 1),
    "inside calls": (jax.jit(jnp.tanh), lambda x: jax.jit(jnp.tanh)(x), "tanh", 1),
    "loops": (looped, looped, "scan", 1),
    "other operands": (jnp.tanh, lambda x: jnp.tanh(2 * x), "tanh", 2),
    "other parameters": (lambda x: x**2, lambda x: x**3, "integer_pow", 2),
    "one rule": (one_rule, one_rule, "custom_jvp_call", 1),
    "two rules": (one_rule, another_rule, "custom_jvp_call", 2),
    "two signs": (
        partial(turned, sign=1.0),
        partial(turned, sign=-1.0),
        "custom_vjp_call",
        2,
    ),
}


@pytest.mark.parametrize("name", PAIRS)
def test_shared_operations_occur_once_and_change_nothing(name):
    first, second, primitive, left = PAIRS[name]
    x = np.float32([0.5, -1.25, 2.0])

    def both(x):
        return jnp.sum(first(x)), jnp.max(second(x)) + jnp.sum(x)

    text = str(jax.make_jaxpr(shared(both))(x))
    assert text.count(f" {primitive}") == left, text
    jax.tree.map(np.testing.assert_array_equal, shared(both)(x), both(x))
    for weights in ((1.0, 0.0), (0.5, 2.0)):
        pull = [jax.vjp(f, x)[1] for f in (shared(both), both)]
        got, want = (each(tuple(map(jnp.float32, weights)))[0] for each in pull)
        # The same sums in another order, of numbers near one.
        np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-6)
