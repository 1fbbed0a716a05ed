"""Scalars of (loss, residuals, multipliers) against the textbook's own formulas."""

from fractions import Fraction
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.optimize import minimize_scalar

import jaxcon as jc
from jaxcon import penalties
from jaxcon.constraints import named, only
from jaxcon.lagrangian import check_penalty, penalty_barrier_lagrangian

RESIDUALS = jc.Constraints(
    {"h": jnp.array(2.0), "hs": jnp.array([1.0, -0.5])},
    {"g": jnp.array(-1.0), "gs": jnp.array([0.5, -3.0, 0.0])},
)
MULTIPLIERS = jc.Constraints(
    {"h": jnp.array(-3.0), "hs": jnp.array([0.5, 2.0])},
    {"g": jnp.array(4.0), "gs": jnp.array([1.0, 2.0, 0.0])},
)

NOTHING = None, jc.Constraints(), optax.sgd(1.0), optax.sgd(1.0)


def sample(seed, n=6):
    """Residuals and multipliers of every kind, in float64, some slack, some not."""
    rng = np.random.default_rng(seed)
    residuals = jc.Constraints(
        {"h": jnp.array(rng.normal()), "hs": jnp.array(rng.normal(size=n))},
        {"g": jnp.array(rng.normal()), "gs": jnp.array(3 * rng.normal(size=n))},
    )
    multipliers = jc.Constraints(
        {"h": jnp.array(rng.normal()), "hs": jnp.array(rng.normal(size=n))},
        {"g": jnp.array(0.0), "gs": jnp.array(np.maximum(rng.normal(size=n), 0))},
    )
    return jnp.array(rng.normal()), residuals, multipliers


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


def test_zero_multipliers_have_the_residuals_shapes_and_dtypes():
    residuals = jc.Constraints(
        {"h": jnp.ones((), jnp.bfloat16)},
        {"g": jax.ShapeDtypeStruct((3,), jnp.float32)},
    )
    multipliers = jc.zero_multipliers(residuals)
    np.testing.assert_array_equal(multipliers.inequality["g"], [0.0, 0.0, 0.0])
    assert multipliers.inequality["g"].dtype == jnp.float32
    assert multipliers.equality["h"].dtype == jnp.bfloat16
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


@pytest.mark.parametrize(
    ("function", "extra"),
    [(jc.lagrangian, ()), (jc.augmented_lagrangian, (1.0,))],
    ids=["lagrangian", "augmented"],
)
def test_without_constraints_it_is_the_loss(function, extra):
    none = jc.Constraints()
    assert float(function(jnp.array(3.5), none, none, *extra)) == 3.5


def test_multiplier_estimates_by_hand():
    got = jc.multiplier_estimates(RESIDUALS, MULTIPLIERS, 2.0)
    np.testing.assert_array_equal(got.equality["h"], 1.0)
    np.testing.assert_array_equal(got.equality["hs"], [2.5, 1.0])
    np.testing.assert_array_equal(got.inequality["g"], 2.0)
    np.testing.assert_array_equal(got.inequality["gs"], [2.0, 0.0, 0.0])
    assert jc.multiplier_estimates(RESIDUALS, MULTIPLIERS) is MULTIPLIERS


@pytest.mark.parametrize("rho", [1e-3, 0.7, 40.0])
@pytest.mark.parametrize("seed", range(5))
def test_augmented_lagrangian_is_the_textbook_s(x64, seed, rho):
    loss, residuals, multipliers = sample(seed)
    want = textbook(loss, residuals, multipliers, rho)
    got = jc.augmented_lagrangian(loss, residuals, multipliers, rho)
    # Fourteen terms of size up to 10, 40 * 10² / 2 and, resting, λ²/2ρ <= ρ g²/2.
    atol = 14 * np.finfo(np.float64).eps * (10 + 50 * rho)
    np.testing.assert_allclose(got, want, rtol=0, atol=atol)


@pytest.mark.parametrize("rho", [0.3, 5.0])
@pytest.mark.parametrize(
    ("g", "lam"), [(-2.0, 0.1), (-0.1, 2.0), (0.5, 0.0), (1.0, 3.0)]
)
def test_it_is_the_least_over_slacks_of_the_equality_problem(x64, g, lam, rho):
    # What PHR is by definition: g <= 0 is g + s = 0 with the best s >= 0.
    inequality = jc.Constraints(inequality={"g": jnp.array(g)})
    theirs = jc.Constraints(inequality={"g": jnp.array(lam)})
    equality_price = lambda s: lam * (g + s) + rho / 2 * (g + s) ** 2  # noqa: E731
    best = minimize_scalar(
        equality_price, bounds=(0.0, 100.0), method="bounded", options={"xatol": 1e-10}
    )
    least = min(best.fun, equality_price(0.0))
    got = jc.augmented_lagrangian(jnp.array(0.0), inequality, theirs, rho)
    # At a minimum an error of 1e-10 in s is one of 1e-20; on the boundary, 1e-10 λ.
    np.testing.assert_allclose(got, least, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("rho", [1e-3, 0.7, 40.0])
@pytest.mark.parametrize("seed", range(3))
def test_its_gradient_in_the_residuals_is_the_multiplier_estimates(x64, seed, rho):
    loss, residuals, multipliers = sample(seed)
    gradient = jax.grad(jc.augmented_lagrangian, argnums=1)(
        loss, residuals, multipliers, rho
    )
    estimates = jc.multiplier_estimates(residuals, multipliers, rho)
    jax.tree.map(
        # Both are one multiplication and one addition.
        lambda got, want: np.testing.assert_allclose(got, want, rtol=1e-15, atol=1e-15),
        gradient,
        estimates,
    )


PHI = {
    penalties.log_quadratic: lambda t: np.where(
        t < -0.5, -0.25 / np.minimum(t, -0.5), 1 + t
    ),
    penalties.exponential_quadratic: lambda t: np.where(
        t < 0, np.exp(np.minimum(t, 0)), 1 + t
    ),
}


@pytest.mark.parametrize("rho", [1e-3, 0.7, 40.0])
@pytest.mark.parametrize("phi", PHI, ids=lambda phi: phi.__name__)
def test_a_barrier_s_gradient_in_the_residuals_scales_the_multipliers(x64, phi, rho):
    loss, residuals, multipliers = sample(0)
    gradient = jax.grad(penalty_barrier_lagrangian, argnums=1)(
        loss, residuals, multipliers, rho, phi
    )
    # A handful of roundings; 1 + rho g may cancel to a tenth.
    close = partial(np.testing.assert_allclose, rtol=1e-14, atol=1e-15)
    for name, g in residuals.inequality.items():
        lam = np.asarray(multipliers.inequality[name])
        close(gradient.inequality[name], lam * PHI[phi](rho * np.asarray(g)))
    for name, h in residuals.equality.items():
        close(gradient.equality[name], multipliers.equality[name] + rho * h)


PRICES = {
    "PHR": jc.augmented_lagrangian,
    "barrier": lambda *args: penalty_barrier_lagrangian(*args, penalties.log_quadratic),
}


@pytest.mark.parametrize("price", PRICES.values(), ids=PRICES)
def test_each_constraint_has_its_own_penalty_or_none(x64, price):
    loss, residuals, multipliers = sample(1)
    rhos = {"h": 2.0, "gs": 0.5}
    penalty = jc.Constraints({"h": 2.0}, {"gs": jnp.array(0.5)})
    want = loss
    for _, name, _ in named(residuals):
        alone = only(residuals, {name}), only(multipliers, {name})
        if name in rhos:
            want += price(jnp.array(0.0), *alone, rhos[name])
        else:
            want += jc.lagrangian(jnp.array(0.0), *alone)
    value, gradient = jax.value_and_grad(price, argnums=1)(
        loss, residuals, multipliers, penalty
    )
    # Two orders of the same ten terms.
    np.testing.assert_allclose(value, want, rtol=1e-14)
    for kind, name, multiplier in named(multipliers):
        if name not in rhos:
            np.testing.assert_array_equal(getattr(gradient, kind)[name], multiplier)
    estimates = jc.multiplier_estimates(residuals, multipliers, penalty)
    if price is jc.augmented_lagrangian:
        jax.tree.map(
            partial(np.testing.assert_allclose, rtol=1e-14), gradient, estimates
        )


@pytest.mark.parametrize(
    "penalty",
    [jnp.array(2.0), np.float32(2.0), jc.Constraints({"h": jnp.array(2.0)}), 2, None],
    ids=lambda penalty: type(penalty).__name__,
)
def test_a_known_penalty_is_checked_while_something_else_is_traced(penalty):
    @jax.jit
    def traced(x):
        check_penalty(penalty)
        return x

    assert float(traced(1.0)) == 1.0


@pytest.mark.parametrize("zero", [jnp.array(0.0), jc.Constraints({}, {"g": 0.0})])
def test_a_known_zero_is_refused_while_something_else_is_traced(zero):
    with pytest.raises(ValueError, match="must be > 0 and finite, got 0.0"):
        jax.jit(lambda x: check_penalty(zero))(1.0)


def test_a_traced_penalty_passes_whatever_it_will_be():
    traced = jax.jit(lambda rho: check_penalty(jc.Constraints({"h": rho})))
    assert traced(-1.0) is None
    with pytest.raises(TypeError, match="penalty of 'h' must be one number"):
        traced(jnp.ones(2))


def test_the_lagrangian_s_gradient_in_the_residuals_is_the_multipliers():
    gradient = jax.grad(jc.lagrangian, argnums=1)(
        jnp.array(1.0), RESIDUALS, MULTIPLIERS
    )
    jax.tree.map(np.testing.assert_array_equal, gradient, MULTIPLIERS)


@pytest.mark.parametrize("rho", [1e-30, 1e-12, 1e12, 1e30])
@pytest.mark.parametrize("lam", [0.0, 1.0, 1e4])
@pytest.mark.parametrize("r", [-1e3, -1.0, 0.0, 1.0, 1e3])
def test_tiny_and_huge_penalties_give_no_nan_in_float32(r, lam, rho):
    residuals = jc.Constraints({"h": jnp.array(r)}, {"g": jnp.array(r)})
    multipliers = jc.Constraints({"h": jnp.array(lam)}, {"g": jnp.array(lam)})
    value, gradient = jax.value_and_grad(jc.augmented_lagrangian, argnums=1)(
        jnp.array(0.0), residuals, multipliers, rho
    )
    want = textbook(0.0, residuals, multipliers, rho)
    # A few float32 roundings, of terms of one sign or far apart.
    np.testing.assert_allclose(np.float64(value), want, rtol=2e-6, atol=0)
    np.testing.assert_allclose(gradient.equality["h"], lam + rho * r, rtol=1e-6)
    np.testing.assert_allclose(
        gradient.inequality["g"], max(lam + rho * r, 0), rtol=1e-6
    )


@pytest.mark.parametrize("rho", [1e-6, 1.0, 1e6])
def test_value_and_gradient_are_continuous_where_the_push_ends(x64, rho):
    # At λ + ρ g = 0 exactly: pushing and resting agree, and the gradient is zero.
    lam = 2.0
    multipliers = jc.Constraints(inequality={"g": jnp.array(lam)})

    def price(g):
        residuals = jc.Constraints(inequality={"g": g})
        return jc.augmented_lagrangian(jnp.array(0.0), residuals, multipliers, rho)

    value, slope = jax.value_and_grad(price)(jnp.array(-lam / rho))
    np.testing.assert_allclose(value, -(lam**2) / (2 * rho), rtol=1e-15)
    np.testing.assert_allclose(slope, 0.0, atol=4 * np.finfo(np.float64).eps * lam)
    beyond = jax.grad(price)(jnp.array(-lam / rho * (1 + 1e-9)))
    before = jax.grad(price)(jnp.array(-lam / rho * (1 - 1e-9)))
    assert float(beyond) == 0.0
    np.testing.assert_allclose(before, 1e-9 * lam, rtol=1e-6)  # 1 - 1e-9 is rounded


@pytest.mark.parametrize("rho", [1e-3, 0.7, 40.0])
@pytest.mark.parametrize("seed", range(3))
def test_ascent_of_rate_rho_is_the_method_of_multipliers(seed, rho):
    _, residuals, multipliers = sample(seed)
    dual = jc.dual_ascent(optax.sgd(rho))
    climb, _ = dual.update(residuals, dual.init(multipliers), multipliers)
    jax.tree.map(
        np.testing.assert_array_equal,
        optax.apply_updates(multipliers, climb),
        jc.multiplier_estimates(residuals, multipliers, rho),
    )


@pytest.mark.parametrize("penalty", [0, 0.0, -1.0, float("nan"), -float("inf")])
@pytest.mark.parametrize(
    "use",
    [
        *(
            lambda rho, price=price: price(jnp.ones(()), RESIDUALS, MULTIPLIERS, rho)
            for price in PRICES.values()
        ),
        lambda rho: jc.simultaneous(*NOTHING, penalty=rho),
        lambda rho: jc.alternating(*NOTHING, penalty=rho),
        lambda rho: jc.extragradient(*NOTHING, penalty=rho),
    ],
    ids=[*PRICES, "simultaneous", "alternating", "extragradient"],
)
def test_a_penalty_that_is_not_positive_is_refused(use, penalty):
    with pytest.raises(
        ValueError, match=f"penalty must be > 0 and finite, got {penalty}"
    ):
        use(penalty)


@pytest.mark.parametrize(
    "function",
    [
        jc.lagrangian,
        lambda f, r, m: jc.augmented_lagrangian(f, r, m, 1.0),
        lambda f, r, m: penalty_barrier_lagrangian(f, r, m, 1.0, penalties.hinge),
        lambda f, r, m: jc.multiplier_estimates(r, m, 1.0),
        lambda f, r, m: jc.multiplier_estimates(r, m),
    ],
    ids=["lagrangian", "augmented", "barrier", "estimates", "estimates, no penalty"],
)
@pytest.mark.parametrize(
    ("theirs", "words"),
    [
        ({"flux": jnp.ones((5, 1))}, ["'flux'", "(5,)", "(5, 1)"]),
        ({"flux": jnp.ones(4)}, ["'flux'", "(5,)", "(4,)", "number of points"]),
        ({"flux": jnp.ones(())}, ["'flux'", "(5,)", "()"]),
        ({}, ["'flux'", "a residual but no multiplier"]),
        (
            {"flux": jnp.ones(5), "x": jnp.ones(5)},
            ["'x'", "a multiplier but no residual"],
        ),
    ],
    ids=["column", "points", "scalar", "lacking", "too many"],
)
@pytest.mark.parametrize("kind", jc.Constraints._fields)
def test_multipliers_that_do_not_match_are_refused(function, theirs, words, kind):
    residuals = jc.Constraints(**{kind: {"flux": jnp.ones(5)}})
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (words below)
        function(jnp.array(0.0), residuals, jc.Constraints(**{kind: theirs}))
    for word in [kind, *words]:
        assert word in str(caught.value)
