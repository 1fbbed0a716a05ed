"""Parts of ensembles: residuals, plain functions that obey rules, losses."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import expit, logsumexp, softmax
from sklearn import metrics
from tables import assert_each, assert_refused

from jaxcon.ensembles import Loss, ShapeRules
from jaxcon.ensembles._columns import Column
from jaxcon.ensembles._fit import share_of
from jaxcon.ensembles._losses import first_score, scale_of
from jaxcon.ensembles._reference import reference
from jaxcon.ensembles._residuals import residuals
from jaxcon.ensembles._rules import Bounds, Kinds, resolve

RNG = np.random.default_rng(0)
FAR = 1e18


@pytest.fixture
def rng():
    """A generator of its own for each test."""
    return np.random.default_rng(0)


def curved(v, lib):
    """Two outputs of four entries, of which the third says that the second is missing."""
    return lib.stack(
        [
            lib.sin(2 * v[..., 0]) * v[..., 1] + v[..., 0] ** 2 * v[..., 3],
            lib.exp(v[..., 0] * v[..., 1]) - v[..., 3] ** 3,
        ],
        axis=-1,
    )


def slopes_of(f, v, entry, h=1e-4):
    """Central differences (n, m) along an entry."""
    step = h * np.eye(v.shape[1])[entry]
    return (f(v + step) - f(v - step)) / (2 * h)


def hessians_of(f, v, entries, h=1e-4):
    """Central differences (n, m, k, k)."""
    columns = [
        [
            slopes_of(partial(slopes_of, f, entry=j, h=h), v, i, h).astype(float)
            for j in entries
        ]
        for i in entries
    ]
    return np.moveaxis(np.array(columns), (0, 1), (2, 3))


def violations(kinds, bounds, f, v):
    """Residuals (rules, n) by finite differences and eigenvalues of NumPy's."""

    def picked(values, output):
        return values if output < 0 else values[:, output : output + 1]

    gone = {entry: v[:, flag] > 0.5 for entry, flag in kinds.flags}

    def present(entries, values):
        lost = np.any([gone.get(entry, np.zeros(len(v), bool)) for entry in entries], 0)
        return np.where(lost, -1.0, values.max(1))

    found = []
    for place, (entry, output) in enumerate(kinds.slopes):
        slope = picked(slopes_of(f, v, entry), output)
        low, high = bounds.slope_lower[place], bounds.slope_upper[place]
        found.append(present([entry], np.maximum(low - slope, slope - high)))
    for entries, sign, output in kinds.curvatures:
        hessian = picked(sign * hessians_of(f, v, entries), output)
        found.append(present(entries, -np.linalg.eigvalsh(hessian)[..., 0]))
    if kinds.bounded:
        value = f(v)
        found.append(np.maximum(bounds.lower - value, value - bounds.upper).max(1))
    if kinds.steep:
        each = zip(kinds.steep, bounds.steepness)
        slopes = [weight * slopes_of(f, v, entry) for entry, weight in each]
        found.append(np.linalg.norm(slopes, axis=0).max(1) - 1)
    return np.array(found)


KINDS = Kinds(
    slopes=((0, -1), (1, 1), (3, 0)),
    curvatures=(((0,), 1, -1), ((0, 1), -1, 0), ((0, 1, 3), 1, 1), ((3,), -1, -1)),
    bounded=True,
    steep=(0, 1, 3),
    flags=((1, 2),),
)
BOUNDS = Bounds(
    np.array([-0.2, 0.0, 0.1]),
    np.array([0.5, FAR, 0.2]),
    -0.5,
    0.8,
    np.array([1.0, 0.5, 2.0]),
)


def test_residuals_are_those_of_finite_differences_and_eigenvalues(rng):
    v = rng.uniform(size=(40, 4))
    v[:, 2] = np.arange(40) % 4 == 0
    f = partial(curved, lib=jnp)
    found = jax.vmap(lambda row: jnp.stack(residuals(KINDS, BOUNDS, f, row)))(
        v.astype(np.float32)
    )
    wanted = violations(KINDS, BOUNDS, partial(curved, lib=np), v)
    np.testing.assert_allclose(found.T, wanted, rtol=1e-3, atol=1e-4)
    lost = v[:, 2] == 1
    assert np.all(np.asarray(found)[lost][:, [1, 4, 5]] == -1)
    assert np.any(np.asarray(found)[~lost][:, [1, 4, 5]] > 0)


def test_residuals_along_a_direction_are_curvatures_along_it():
    v = np.array([0.3, 0.4, 0.0, 0.7])
    hessian = hessians_of(partial(curved, lib=np), v[None], (0, 1, 3))[0, 1]
    values, vectors = np.linalg.eigh(hessian)
    for value, vector in zip(values, vectors.T):
        along = np.insert(3 * vector, 2, 5.0).astype(np.float32)
        f, row = partial(curved, lib=jnp), v.astype(np.float32)
        each = residuals(KINDS, BOUNDS, f, row, along)
        assert float(each[5][0]) == pytest.approx(-value, rel=1e-3, abs=1e-3)
        assert each[0].shape == (2,)  # one for each output


def test_residuals_of_a_constant_have_slopes():
    slope = jax.grad(
        lambda c: sum(
            residuals(KINDS, BOUNDS, lambda v: c * jnp.ones(2), jnp.ones(4) / 2)
        )
    )(1.0)
    assert np.isfinite(slope)
    assert residuals(Kinds(), BOUNDS, lambda v: v, jnp.ones(4)) == []


# Columns of several units, and what combinations of rules leave room for.
COLUMNS = (
    Column("a", lower=-1.0, upper=3.0),
    Column("b", lower=0.0, upper=1e3),
    Column("c", lower=0.0, upper=1.0, peak=0.25),
)
COMBINATIONS = {
    "monotone and bounds": (
        {"monotone": {"a": 1, "b": -1}, "bounds": (-1.0, 4.0)},
        "any",
    ),
    "convex and falling": ({"convex": (("a",),), "monotone": {"a": -1}}, "any"),
    "concave jointly": ({"concave": (("a", "b"),), "bounds": (None, 9.0)}, "any"),
    "slope bounds": (
        {"slope_bounds": {"a": (0.5, 1.5), "b": (None, -1e-4)}, "lipschitz": 4.0},
        "any",
    ),
    "lipschitz": ({"lipschitz": 0.3, "monotone": {"a": 1}, "convex": (("b",),)}, "any"),
    "mode": ({"unimodal": {"c": None}, "monotone": {"a": -1}, "bounds": (0, 3)}, "any"),
    "positive": ({"monotone": {"a": 1}, "convex": (("a",),)}, "poisson"),
    "probability": ({"monotone": {"a": 1}, "bounds": (0.2, None)}, "binary"),
    "classes": (
        {"monotone": {"a": {0: 1, 2: -1}}, "bounds": (0.05, 0.9)},
        "multinomial",
    ),
    "quantiles": ({"monotone": {"a": 1}, "bounds": (-2.0, 8.0)}, "quantile"),
}
LOSSES = {
    "any": Loss("squared_error"),
    "poisson": Loss("poisson"),
    "binary": Loss("binary"),
    "multinomial": Loss("multinomial", 3),
    "quantile": Loss("quantile", 3, (0.1, 0.5, 0.9)),
}


def resolved(rules, kind):
    """Kinds, bounds, loss and best constant of rules over `COLUMNS`."""
    loss, columns = LOSSES[kind], COLUMNS
    if not rules.unimodal:
        columns = tuple(one._replace(peak=None) for one in COLUMNS)
    classes = kind in ("binary", "multinomial")
    units = (0.0, 1.0) if classes or kind == "poisson" else (1.0, 2.0)
    first = {"multinomial": [0.2, 0.3, 0.5], "quantile": [-0.5, 0.1, 0.4]}.get(
        kind, [0.4]
    )
    return *resolve(rules, columns, loss, *units), loss, np.array(first)


def test_reference_obeys_every_rule_with_its_slack(rng):
    v = rng.uniform(size=(2000, 4))
    v[:8, :3] = list(itertools.product([0.0, 1.0], repeat=3))

    def check(name):
        rules, kind = COMBINATIONS[name]
        kinds, bounds, loss, first = resolved(ShapeRules(**rules), kind)
        made, slack = reference(kinds, bounds, loss, first, 4)
        assert 0 < slack <= 1
        # Differences of a parabola are exact but for rounding.
        found = violations(kinds, bounds, made, v)
        assert len(found) == len(kinds.names)
        assert found.max() <= -slack + 1e-6
        value = made(v)
        if kind in ("binary", "multinomial", "poisson"):
            assert value.min() >= slack - 1e-9
        if kind == "multinomial":
            np.testing.assert_allclose(value.sum(1), 1, atol=1e-9)
        if kind == "quantile":
            apart = np.tile(np.diff(first), (2000, 1))
            np.testing.assert_allclose(np.diff(value, axis=1), apart, atol=1e-9)

    assert_each(COMBINATIONS, check)


def test_reference_stays_near_the_constant_where_a_loose_rule_has_room():
    # One rule leaves a slope of 1e-5, the other a gradient of 1e6.
    rules = ShapeRules(slope_bounds={"a": (-1e-5, 1e-5)}, lipschitz=1e6)
    kinds, bounds, loss, first = resolved(rules, "any")
    made, slack = reference(kinds, bounds, loss, first, 4)
    assert slack > 0
    assert np.abs(made.linear).max() < 1e-3
    assert made.constant == pytest.approx(first)


def test_reference_is_refused_where_rules_leave_no_room():
    def called(kind="any", **rules):
        def call():
            kinds, bounds, loss, first = resolved(ShapeRules(**rules), kind)
            return reference(kinds, bounds, loss, first, 4)

        return call

    rising = {"monotone": {"a": 1}}
    assert_refused(
        [
            (called(convex=(("a",),), concave=(("a",),)), ValueError, "leave no room"),
            (
                called(slope_bounds={"a": (1.0, 2.0)}, lipschitz=0.5),
                ValueError,
                "leave no room",
            ),
            (
                called(slope_bounds={"a": (1.0, 2.0)}, bounds=(0.0, 1.0)),
                ValueError,
                "leave no room",
            ),
            (called("multinomial", **rising), ValueError, "leave no room"),
            (called("binary", bounds=(1.5, None)), ValueError, "leave no room"),
            (
                called(slope_bounds={"a": (-2.0, -1.0)}, **rising),
                ValueError,
                "rising and slope bounds leave no slope in 'a'",
            ),
        ]
    )


def test_share_moves_a_violation_into_the_rules(rng):
    # Any convex residual g: g((1 - t) f + t f0) <= (1 - t) v - t s <= 0.
    violation = rng.uniform(-1, 10, size=1000)
    slack = 10.0 ** rng.uniform(-5, 0, size=1000)
    for one, room in zip(violation, slack):
        t = share_of(one, room)
        assert 0 <= t <= 1
        assert (1 - t) * one - t * room <= 1e-12
        assert t == 0 or one > -max(1e-5, 2e-3 * room)
    assert share_of(np.inf, 1.0) == share_of(np.nan, 1.0) == 1


def test_share_moves_random_parabolas_into_bounds_and_slopes(rng):
    grid = np.linspace(0, 1, 501)
    for a, b, c in rng.normal(size=(200, 3)) * 3:
        f, f0 = a + b * grid + c * grid**2, 0.1 + 0.5 * grid
        slope = b + 2 * c * grid
        worst = max(np.max(-slope), np.max(f - 1), np.max(-f))
        t = share_of(worst, 0.1)  # f0 has slope 0.5, and lies in [0.1, 0.6]
        moved = (1 - t) * f + t * f0
        assert np.all(np.diff(moved) >= 0)
        assert moved.min() >= 0
        assert moved.max() <= 1


SCORES = RNG.normal(size=(30, 3))
COUNTS = RNG.integers(0, 4, size=30)
LEVELS = (0.1, 0.5, 0.9)


def ordered(scores):
    """Quantiles by hand."""
    steps = np.log1p(np.exp(scores[:, 1:]))
    return np.column_stack([scores[:, 0], scores[:, :1] + np.cumsum(steps, 1)])


# loss: predictions of SCORES; target; mean loss in closed form, or by scikit-learn
ONE = SCORES[:, 0]
POSITIVE = RNG.gamma(2.0, size=30)
HUBER = np.abs(COUNTS - ONE)
CLOSED = {
    Loss("squared_error"): (ONE, COUNTS, metrics.mean_squared_error(COUNTS, ONE)),
    Loss("absolute_error"): (ONE, COUNTS, metrics.mean_absolute_error(COUNTS, ONE)),
    Loss("huber"): (
        ONE,
        COUNTS,
        np.mean(np.where(HUBER < 1.35, HUBER**2 / 2, 1.35 * (HUBER - 1.35 / 2))),
    ),
    Loss("poisson"): (
        np.exp(ONE),
        COUNTS,
        metrics.mean_poisson_deviance(COUNTS, np.exp(ONE)) / 2
        - np.mean([y * np.log(y) - y if y else 0.0 for y in COUNTS]),
    ),
    Loss("gamma"): (
        np.exp(ONE),
        POSITIVE,
        metrics.mean_gamma_deviance(POSITIVE, np.exp(ONE)) / 2
        + np.mean(np.log(POSITIVE) + 1),
    ),
    Loss("log_squared_error"): (
        np.exp(ONE),
        POSITIVE,
        metrics.mean_squared_error(np.log(POSITIVE), ONE),
    ),
    Loss("binary"): (
        expit(ONE),
        COUNTS > 1,
        metrics.log_loss(COUNTS > 1, expit(ONE)),
    ),
    Loss("multinomial", 3): (
        softmax(SCORES, axis=1),
        COUNTS % 3,
        np.mean(logsumexp(SCORES, axis=1) - SCORES[np.arange(30), COUNTS % 3]),
    ),
    Loss("quantile", 3, LEVELS): (
        ordered(SCORES),
        COUNTS,
        sum(
            metrics.mean_pinball_loss(COUNTS, predicted, alpha=level)
            for predicted, level in zip(ordered(SCORES).T, LEVELS)
        ),
    ),
}


def test_loss_has_the_predictions_and_values_of_closed_forms():
    def check(loss):
        predicted, target, wanted = CLOSED[loss]
        scores = SCORES[:, : loss.outputs]
        found = loss.prediction(scores, np)
        np.testing.assert_allclose(
            found, np.reshape(predicted, found.shape), rtol=1e-12
        )
        single = jnp.asarray(scores, jnp.float32)
        np.testing.assert_allclose(loss.prediction(single), found, rtol=1e-5, atol=1e-6)
        value = float(jnp.mean(loss(single, jnp.asarray(target, jnp.float32))))
        # Corners of absolute values are rounded by up to 0.02 for each output.
        round_ = loss.kind in ("absolute_error", "quantile")
        assert value == pytest.approx(
            wanted, rel=1e-5, abs=0.02 * loss.outputs * round_
        )

    assert_each(CLOSED, check)


def test_loss_knows_how_its_prediction_rises_with_its_score():
    def check(loss):
        if loss.outputs == 1:
            for at in (-20.0, -1.0, 0.0, 3.0):
                score = jnp.array([at], jnp.float32)
                wanted = jax.grad(lambda one: loss.prediction(one)[0])(score)
                found = loss.rise(loss.prediction(score))
                wanted = np.maximum(wanted, 1e-3)
                np.testing.assert_allclose(found, wanted, rtol=1e-4)

    assert_each(CLOSED, check)


def test_loss_holds_predictions_between_bounds_and_leaves_others():
    score = np.linspace(-50, 50, 10_001)[:, None]
    found = Loss("squared_error").prediction(score, np, (-1.0, 2.0))
    assert np.all(np.diff(found[:, 0]) >= -1e-14)
    assert found.min() >= -1 - 1e-9
    assert found.max() <= 2 + 1e-9
    inside = (score > -0.5) & (score < 1.5)
    np.testing.assert_allclose(found[inside], score[inside], atol=1e-5)


def test_resolve_scales_bounds_so_that_no_rounding_leads_out(rng):
    drawn = rng.normal(size=(200, 3)) * [1, 1e3, 7]
    for low, center, unit in [*drawn, (1e9 + 1e-6, 1e9, 1e-5), (0.0, -1e12, 3e-7)]:
        high, unit = low + 1.0, abs(unit) + 1e-9
        rules = ShapeRules(bounds=(low, high))
        _, bounds = resolve(rules, (), Loss("squared_error"), center, unit)
        assert center + unit * bounds.lower >= low
        assert center + unit * bounds.upper <= high
        apart = 4e-16 * max(abs(center), abs(low))
        assert center + unit * bounds.lower == pytest.approx(low, rel=0, abs=apart)


def test_loss_begins_at_the_best_constant(rng):
    weight = rng.uniform(0.5, 2, size=30)

    def check(loss):
        _, target, _ = CLOSED[loss]
        center, unit = scale_of(loss, np.asarray(target, float), weight)
        scaled = (np.asarray(target, float) - center) / unit
        first = first_score(loss, scaled, weight)

        def mean(score):
            rows = jnp.tile(jnp.asarray(score, jnp.float32), (30, 1))
            losses = loss(rows, jnp.asarray(scaled, jnp.float32))
            return float(np.average(losses, weights=weight))

        for _ in range(30):
            assert mean(first + 0.1 * rng.normal(size=len(first))) >= mean(first) - 2e-2

    # Huber's begins at the median, and quantiles at distances of 0.01 at least.
    near = ("huber", "quantile")
    assert_each([one for one in CLOSED if one.kind not in near], check)
