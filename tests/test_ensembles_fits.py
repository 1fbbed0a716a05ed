"""Fits of ensembles: search and projection of planted violations, rules at many points."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tables import assert_each, assert_refused

from jaxcon.ensembles import (
    Loss,
    Options,
    ShapeRules,
    fit_ensemble,
    load_ensemble,
    read_frame,
    save_ensemble,
)
from jaxcon.ensembles._columns import Block, expand
from jaxcon.ensembles._mixture import Mixture
from jaxcon.ensembles._network import Inputs, score
from jaxcon.ensembles._projection import project
from jaxcon.ensembles._reference import Reference
from jaxcon.ensembles._rules import Bounds, Kinds
from jaxcon.ensembles._search import _over_levels, search
from jaxcon.ensembles._training import Design

LAYOUT = (Block(1, False, False),) * 2
FIRST = Loss("squared_error")
RISING = Kinds(slopes=((0, -1),), names=("rising in a",))
NOTHING = Bounds(np.zeros(1), np.full(1, 1e18), -1e18, 1e18, np.zeros(0))


def dented(width, depth=0.2):
    """Mixture of one member: 2 a, but for a dent near (0.7, 0.2) of a width."""
    edges = np.array([[1, 0], [1, 0], [0, 1], [0, 1]]).T / width
    places = np.array([0.7, 0.7 + 2 * width, 0.2, 0.2 + 2 * width])
    layers = [
        {"w": edges, "b": -edges.sum(0) * places},
        {"w": 3 * np.array([[1.0], [-1.0], [1.0], [-1.0]]), "b": np.array([-9.0])},
        {"w": np.array([[-depth]]), "b": np.zeros(1)},
    ]
    member = {"layers": layers, "linear": np.array([[2.0], [0.0]])}
    members = jax.tree.map(lambda leaf: leaf[None], member)
    reference = Reference(np.zeros(1), np.array([[1.0], [0.0]]), np.zeros((2, 1)))
    return Mixture(Inputs(np.zeros(2), np.ones(2)), members, reference)


def values(mixture, v):
    """Predictions (n,) in NumPy's precision."""
    one = jax.tree.map(lambda leaf: np.asarray(leaf[0], float), mixture.members)
    return score(one, v, np)[:, 0]


def steepest(mixture, width):
    """Worst slope downwards along the first entry, on a fine grid around the dent."""
    a, b = (np.linspace(at - 4 * width, at + 6 * width, 801) for at in (0.7, 0.2))
    v = np.stack(np.meshgrid(a, b, indexing="ij"), -1).reshape(-1, 2)
    return np.max(
        -np.diff(values(mixture, v).reshape(801, 801), axis=0) / np.diff(a)[0]
    )


ROWS = np.random.default_rng(0).uniform(size=(50, 2))


def test_search_finds_a_narrow_violation():
    for width in (0.04, 0.02):
        mixture = dented(width)
        found = search(LAYOUT, FIRST, RISING, NOTHING, mixture, ROWS)
        truth = steepest(mixture, width)
        assert truth > 1
        assert found.values[0] == pytest.approx(truth, rel=1e-2)
        assert np.all(np.abs(found.rows[0] - [0.7, 0.2 + width]) < 4 * width)
        # The region is a small part of the box, where few rows are.
        assert found.active[0] < 0.1
    kept = search(LAYOUT, FIRST, RISING, NOTHING, dented(0.04, 1e-3), ROWS)
    assert kept.values[0] == pytest.approx(steepest(dented(0.04, 1e-3), 0.04), abs=0.05)
    assert kept.values[0] < 0


def test_search_over_levels_finds_the_one_combination_that_breaks_a_rule():
    # 13^3 combinations of levels, unknown ones too, and a narrow bump along a number.
    layout = (LAYOUT[0], *[Block(12, True, False)] * 3)

    def residual(u):
        v = expand(layout, u)
        bump = jnp.exp(-jnp.square((v[0] - 0.37) / 0.02))
        return v[1 + 3] + v[13 + 7] + v[25 + 11] + bump - 3.5

    found, place = jax.jit(lambda: _over_levels(layout, residual, residual))()
    assert float(found) == pytest.approx(0.5, abs=0.05)
    assert float(residual(place)) == float(found)


def test_search_counts_the_rows_at_which_a_rule_is_active():
    # The slope is 2 - s but in the dent, which has no depth here.
    def active(fall):
        mixture = dented(0.04, 0.0)
        linear = mixture.members["linear"] - np.array([[[fall], [0.0]]])
        members = mixture.members | {"linear": linear}
        moved = mixture._replace(members=members)
        return search(LAYOUT, FIRST, RISING, NOTHING, moved, ROWS).active[0]

    assert [active(fall) for fall in (0.0, 1.8, 1.95, 2.1)] == [0, 0, 1, 1]


def test_search_sees_the_share_of_the_reference():
    mixture = dented(0.04)
    worst = search(LAYOUT, FIRST, RISING, NOTHING, mixture, ROWS).values[0]
    share = worst / (worst + 1)  # the reference's slope is 1
    moved = mixture._replace(share=share)
    left = search(LAYOUT, FIRST, RISING, NOTHING, moved, ROWS).values[0]
    assert left == pytest.approx(0, abs=1e-4)


def test_project_removes_a_planted_violation_and_little_else():
    design = Design(LAYOUT, FIRST, RISING, width=4, batch=0, points=128)
    mixture = dented(0.04)
    before = search(LAYOUT, FIRST, RISING, NOTHING, mixture, ROWS).values[0]
    moved, worst = project(design, NOTHING, mixture, ROWS, 1.0)
    assert before > 1
    assert worst.values[0] < 0.05
    assert steepest(moved, 0.04) < 0.06
    far = np.abs(ROWS - [0.7, 0.24]).max(1) > 0.2
    apart = values(moved, ROWS) - values(mixture, ROWS)
    assert (
        np.sqrt(np.mean(apart[far] ** 2)) < 0.12
    )  # four units cannot move one dent alone
    kept, worst = project(design, NOTHING, dented(0.04, 1e-3), ROWS, 1.0)
    np.testing.assert_array_equal(values(kept, ROWS), values(dented(0.04, 1e-3), ROWS))
    assert worst.values[0] < 0


# A target that falls along x0, where the rules want it to rise, and bends along x1.
X = np.random.default_rng(1).uniform(size=(40, 2))
X[:4] = [[0, 0], [0, 1], [1, 0], [1, 1]]
Y = np.exp(0.5 - 0.4 * X[:, 0] + 0.5 * np.sin(6 * X[:, 1]))
AGAINST = ShapeRules(monotone={"x0": 1})
# Programs of these are those of test_estimators.py.
FITS = {
    Loss("squared_error"): (Y, AGAINST),
    Loss("multinomial", 3): (
        np.digitize(Y, [1.0, 2.0]),
        ShapeRules(monotone={"x0": {2: 1, 0: -1}}),
    ),
    Loss("quantile", 3, (0.1, 0.5, 0.9)): (Y, AGAINST),
}
BETWEEN = ShapeRules(monotone={"x0": 1}, bounds=(0.5, 2.5))
SLOW = {
    Loss("absolute_error"): (Y, BETWEEN),
    Loss("huber"): (Y, BETWEEN),
    Loss("poisson"): (
        np.floor(3 * Y),
        ShapeRules(monotone={"x0": 1}, bounds=(None, 9.0)),
    ),
    Loss("gamma"): (Y, BETWEEN),
    Loss("log_squared_error"): (Y, BETWEEN),
    Loss("binary"): (Y > 1.5, ShapeRules(monotone={"x0": 1}, bounds=(0.1, 0.9))),
}


def fit(x=X, y=Y, loss=FIRST, rules=None, seed=0, steps=100, **more):
    options = Options(members=2, steps=steps, seed=seed)
    rules = ShapeRules() if rules is None else rules
    return fit_ensemble(read_frame(x), y, loss, rules, options=options, **more)


@cache
def fitted(loss):
    y, rules = (FITS | SLOW)[loss]
    return fit(y=y, loss=loss, rules=rules)


def assert_obeys(made, rules, rows=10_000):
    """Asserts that predictions obey rules at random points of the box, exactly."""
    rng = np.random.default_rng(2)
    lower = np.array([column.lower for column in made.ensemble.columns])
    upper = np.array([column.upper for column in made.ensemble.columns])
    width = upper - lower
    x = lower + width * rng.uniform(size=(rows, len(lower)))

    def predict(x):
        return made.ensemble.predict(read_frame(x))

    value = predict(x)
    rounding = 1e-12 * np.abs(value).max()

    def moved(name, share=None):
        """The points farther along a column, and by how much."""
        place = int(name[1:])
        share = rng.uniform(1e-3, 1, size=rows) if share is None else share
        other = x.copy()
        other[:, place] += share * (upper[place] - x[:, place])
        return other, other[:, place] - x[:, place]

    for name, sign in rules.monotone.items():
        signs = (
            sign
            if isinstance(sign, dict)
            else dict.fromkeys(range(value.shape[1]), sign)
        )
        rise = predict(moved(name)[0]) - value
        for output, one in signs.items():
            assert np.all(one * rise[:, output] >= 0)
    for name, pair in rules.slope_bounds.items():
        other, apart = moved(name)
        slopes = (predict(other) - value) / apart[:, None]
        low, high = (np.inf * s if e is None else e for e, s in zip(pair, (-1, 1)))
        assert slopes.min() >= low
        assert slopes.max() <= high
    for sign, groups in ((1, rules.convex), (-1, rules.concave)):
        for group in groups:
            other = x.copy()
            for name in group:
                place = int(name[1:])
                other[:, place] = lower[place] + width[place] * rng.uniform(size=rows)
            middle = predict((x + other) / 2)
            assert np.all(sign * (value + predict(other) - 2 * middle) >= -rounding)
    low, high = rules.bounds
    assert low is None or value.min() >= low
    assert high is None or value.max() <= high
    if rules.lipschitz is not None:
        other = lower + width * rng.uniform(size=x.shape)
        apart = np.linalg.norm(other - x, axis=1)
        assert np.max(np.abs(predict(other) - value)[:, 0] / apart) <= rules.lipschitz
    for name, peak in rules.unimodal.items():
        place = int(name[1:])
        for sign, low, high in ((1, lower[place], peak), (-1, peak, upper[place])):
            ends = np.sort(rng.uniform(low, high, size=(2, rows)), axis=0)
            first, last = x.copy(), x.copy()
            first[:, place], last[:, place] = ends
            rise = sign * (predict(last) - predict(first))
            assert np.all(rise >= -rounding)


@pytest.mark.parametrize("loss", FITS, ids=lambda loss: loss.kind)
def test_fit_obeys_its_rules_at_many_points(loss):
    made, rules = fitted(loss), FITS[loss][1]
    assert_obeys(made, rules)
    assert len(made.residuals) == len(made.ensemble.kinds.names) == len(made.active)
    assert max(made.residuals) <= 0
    assert 0 <= made.ensemble.share < 1
    assert np.isfinite(made.losses).all()
    assert made.decay > 0
    value = made.ensemble.predict(read_frame(X))
    assert value.shape == (40, loss.outputs)
    if loss.kind == "multinomial":
        np.testing.assert_allclose(value.sum(1), 1, atol=1e-12)
    if loss.kind == "quantile":
        assert np.all(np.diff(value, axis=1) > 0)


@pytest.mark.slow
@pytest.mark.parametrize("loss", SLOW, ids=lambda loss: loss.kind)
def test_fit_of_other_losses_obeys_its_rules_at_many_points(loss):
    assert_obeys(fitted(loss), SLOW[loss][1])
    assert max(fitted(loss).residuals) <= 0


def test_fit_lies_on_a_bound_where_the_data_do_and_never_beyond():
    made = fit(
        y=np.maximum(2 * X[:, 0] - 1, 0),
        rules=ShapeRules(monotone={"x0": 1}, bounds=(0.0, None)),
        steps=600,
    )
    x = np.random.default_rng(3).uniform(size=(2000, 2))
    found = made.ensemble.predict(read_frame(x))[:, 0]
    assert found.min() >= 0
    assert found[x[:, 0] < 0.3].max() < 0.02
    # Without a corner at the bound a smooth function is off by more at the kink.
    assert np.abs(found - np.maximum(2 * x[:, 0] - 1, 0)).max() < 0.1
    assert max(made.residuals) <= 0


def test_fit_obeys_many_rules_at_once():
    rules = ShapeRules(
        monotone={"x0": -1},
        convex=(("x0",),),
        slope_bounds={"x1": (-1.0, 2.0)},
        lipschitz=2.5,
        bounds=(0.8, 2.0),
    )
    made = fit(rules=rules)
    assert_obeys(made, rules)
    assert len(made.residuals) == 5
    assert max(made.residuals) <= 0
    assert made.ensemble.calibration.slope == 0  # its ends have the prediction's slopes
    wide = fit(1e6 * X - 3e6, 1e-3 * Y, rules=scaled(rules, 1e6, 1e-3))
    both = [
        one.ensemble.predict(read_frame(x))
        for one, x in ((made, X), (wide, 1e6 * X - 3e6))
    ]
    np.testing.assert_allclose(both[1], 1e-3 * both[0], rtol=1e-3)


def scaled(rules, x, y):
    """The same rules of inputs and targets in other units."""
    return ShapeRules(
        rules.monotone,
        rules.convex,
        bounds=tuple(end * y for end in rules.bounds),
        slope_bounds={
            name: (low * y / x, high * y / x)
            for name, (low, high) in rules.slope_bounds.items()
        },
        lipschitz=rules.lipschitz * y / x,
    )


def test_fit_has_its_mode_where_it_is_told_or_where_the_data_have_it():
    y = 1 - 4 * (X[:, 1] - 0.6) ** 2 + 0.5 * X[:, 0]
    found = fit(y=y, rules=ShapeRules(unimodal={"x1": None}), steps=400)
    peak = found.ensemble.columns[1].peak
    assert peak == pytest.approx(0.6, abs=0.15)
    assert_obeys(found, ShapeRules(unimodal={"x1": peak}))
    told = fit(y=y, rules=ShapeRules(unimodal={"x1": 0.3}))
    assert told.ensemble.columns[1].peak == 0.3
    assert_obeys(told, ShapeRules(unimodal={"x1": 0.3}))


def same(one, other, x=X):
    """Whether two fits agree to the bit."""
    values = [made.ensemble.predict(read_frame(x)) for made in (one, other)]
    return np.array_equal(*values) and np.array_equal(one.losses, other.losses)


def test_fit_is_repeated_to_the_bit_by_its_seed():
    made = fitted(FIRST)
    assert same(made, fit(rules=AGAINST))
    assert not same(made, fit(rules=AGAINST, seed=1))


def test_fit_takes_weights_for_repetitions_and_rows_in_any_order():
    weight = np.arange(40) % 3
    once = fit(weight=weight)
    rows = np.random.default_rng(0).permutation(np.repeat(np.arange(40), weight))
    assert same(once, fit(X[rows], Y[rows]))
    assert not same(once, fit())
    tiny = fit(weight=np.full(40, 1e-3))  # weights may sum to anything
    ends = [one.ensemble.predict_interval(read_frame(X), 0.8) for one in (tiny, fit())]
    np.testing.assert_allclose(*ends, rtol=1e-3)


def test_fit_holds_out_the_rows_it_is_given():
    marks = np.arange(40) >= 30
    wild = np.where(marks, Y, Y).copy()
    made = fit(held_out=marks)
    assert made.own[0] > 0
    wild[35] += 1e-9  # of no account but for the choice of the iterate and the scale
    again = fit(y=wild, held_out=marks)
    values = [one.ensemble.predict(read_frame(X)) for one in (made, again)]
    np.testing.assert_allclose(*values, rtol=1e-3)


def test_fit_of_small_and_odd_tables_is_finite():
    flat, y = X.copy(), np.full(40, 5.0)
    flat[:, 1] = 3.0
    tables = {
        "one row": (X[:1], Y[:1]),
        "two rows": (X[:2], Y[:2]),
        "equal rows": (np.tile(X[:1], (9, 1)), np.full(9, 2.0)),
        "constant column": (flat, Y),
        "constant target": (X, y),
        "float32": (X.astype(np.float32), Y.astype(np.float32)),
        "target of 1e12": (X, 1e12 * Y),
        "target of 1e-12": (X, 1e-12 * Y),
        "inputs of 1e12": (1e12 * X, Y),
        "inputs near 1e6": (1e6 + X, Y),
    }
    made = {name: fit(*given) for name, given in tables.items()}

    def check(name):
        x, y = tables[name]
        predicted = made[name].ensemble.predict(read_frame(x))[:, 0]
        assert predicted.dtype == np.float64
        assert np.all(np.isfinite(predicted))
        assert np.ptp(predicted) <= 2 * np.ptp(y) + 0.01 * np.abs(y).max()
        ends = made[name].ensemble.predict_interval(read_frame(x), 0.9)
        assert np.all(ends[:, 0] <= ends[:, 1])

    assert_each(tables, check)
    for name, value in (
        ("one row", Y[0]),
        ("equal rows", 2.0),
        ("constant target", 5.0),
    ):
        predicted = made[name].ensemble.predict(read_frame(tables[name][0]))
        np.testing.assert_allclose(predicted, value, rtol=1e-2)
    usual = fit().ensemble.predict(read_frame(X))
    for name, unit in (("target of 1e12", 1e12), ("target of 1e-12", 1e-12)):
        found = made[name].ensemble.predict(read_frame(X)) / unit
        np.testing.assert_allclose(found, usual, rtol=1e-4)
    for name in ("inputs of 1e12", "inputs near 1e6", "float32"):
        found = made[name].ensemble.predict(read_frame(tables[name][0]))
        np.testing.assert_allclose(found, usual, rtol=1e-3)
    constant = made["constant column"].ensemble
    other = np.column_stack([X[:, 0], np.full(40, -7.0)])
    np.testing.assert_array_equal(
        constant.predict(read_frame(flat)), constant.predict(read_frame(other))
    )


def test_fit_of_many_columns_obeys():
    rng = np.random.default_rng(3)
    x = rng.uniform(size=(40, 60))
    rules = ShapeRules(monotone={"x7": -1}, bounds=(0.0, None))
    made = fit(x, 1 + x[:, 7] + x[:, 8], rules=rules)
    assert_obeys(made, rules, rows=2000)


@pytest.mark.usefixtures("x64")
def test_fit_works_in_float64():
    made = fit(rules=AGAINST)
    assert_obeys(made, AGAINST, rows=2000)
    assert made.ensemble.predict(read_frame(X)).dtype == np.float64


def test_fit_s_rules_hold_at_unknown_and_missing_cells():
    cells = np.array([*X.T, np.array(["a", "b", "c", None] * 10)], object).T
    frame = read_frame(cells)
    y = Y + np.array([0.0, 1.0, -1.0, 2.0] * 10) * (1 - 2 * X[:, 0])
    rules = ShapeRules(monotone={"x0": 1})
    options = Options(members=2, steps=100)
    made = fit_ensemble(frame, y, FIRST, rules, options=options)
    grid = np.linspace(0, 1, 201)
    for level in ("a", "b", "c", None, "unknown"):
        for x1 in (0.0, 0.3, 1.0):
            rows = np.array([[x0, x1, level] for x0 in grid], object)
            assert np.all(np.diff(made.ensemble.predict(read_frame(rows))[:, 0]) >= 0)


def test_save_and_load_keep_an_ensemble_to_the_bit(tmp_path):
    path, before = tmp_path / "model.safetensors", fitted(FIRST).ensemble
    save_ensemble(before, path, {"note": [1, "a"]})
    loaded, extra = load_ensemble(path)
    assert extra == {"note": [1, "a"]}
    for name in ("columns", "kinds", "loss", "center", "unit", "share"):
        assert getattr(loaded, name) == getattr(before, name)
    for name in ("inputs", "members", "bounds", "reference", "calibration"):
        pairs = zip(*(jax.tree.leaves(getattr(one, name)) for one in (before, loaded)))
        for one, other in pairs:
            assert np.shape(one) == np.shape(other)
            np.testing.assert_array_equal(one, other)
    frame = read_frame(X)
    np.testing.assert_array_equal(loaded.predict(frame), before.predict(frame))


def test_fit_is_refused_with_a_clear_line():
    frame = read_frame(np.array([*X.T, ["a", "b"] * 20], object).T, ["a", "b", "c"])

    def called(y=Y, loss=FIRST, frame=frame, rules=None, **more):
        return lambda: fit_ensemble(frame, y, loss, ShapeRules(**(rules or {})), **more)

    assert_refused(
        [
            (
                called(rules={"monotone": {"z": 1}}),
                ValueError,
                "no column 'z'; there are",
            ),
            (
                called(rules={"monotone": {"c": 1}}),
                ValueError,
                "categories without an order",
            ),
            (
                called(rules={"unimodal": {"c": 1}}),
                ValueError,
                "no column of numbers 'c'",
            ),
            (
                called(rules={"unimodal": {"a": 0.5}, "convex": (("a",),)}),
                ValueError,
                "'a' is unimodal already",
            ),
            (
                called(rules={"monotone": {"a": {1: 1}}}),
                ValueError,
                "there is no class 1",
            ),
            (called(rules={"bounds": (2, 1)}), ValueError, "bounds: 2 is not below 1"),
            (called(Y[:3]), ValueError, r"y must have shape \(40,\)"),
            (called(-Y, Loss("gamma")), ValueError, "y must be positive"),
            (called(Y, Loss("binary")), ValueError, "y must hold numbers of classes"),
            (called(Y, Loss("tweedie")), ValueError, "kind must be"),
            (called(weight=-np.ones(40)), ValueError, "weight must be at least 0"),
            (called(weight=np.zeros(40)), ValueError, "weight must not be zero"),
            (called(held_out=np.ones(40, bool)), ValueError, "held_out must mark some"),
            (called(categorical={"z": None}), ValueError, "categorical: .*'z'"),
            (
                called(categorical={"c": ["a", "z"]}),
                ValueError,
                "column 'c' holds 'b', none of its levels",
            ),
        ],
        most=200,
    )
