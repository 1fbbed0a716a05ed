"""Points that follow a residual, and the multipliers that follow the points."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from laws import assert_keeps
from scipy import stats
from tables import assert_each, assert_refused

import jaxcon as jc
from jaxcon.points import transfer

UNIT = ([0.0], [1.0])


def column(*entries):
    return jnp.array(entries)[:, None]


def steep(p, batch):
    """A residual that is p x."""
    return p * batch["x"][:, 0]


def moved(rule, points, p=1.0, seed=0):
    """Points after one move of a rule."""
    values = lambda x: rule.residual(p, {"x": x})  # noqa: E731
    return rule.move(jax.random.key(seed), points, values)


# The rules, at given parameters.


@pytest.mark.parametrize(("power", "offset"), [(1.0, 1.0), (2.0, 0.0)])
def test_rad_draws_from_its_density(power, offset):
    # Of one point drawn from five candidates: the density is known by hand.
    candidates = np.array([0.0, 0.5, 1.0, 1.5, 2.0])
    fixed = lambda key, num: jnp.asarray(candidates, jnp.float32)[:, None]  # noqa: E731
    options = {"candidates": 5, "power": power, "offset": offset}
    rule = jc.points.rad(steep, fixed, **options)
    draws = 20_000
    keys = jax.random.split(jax.random.key(3), draws)
    one = lambda key: rule.move(key, column(9.0), lambda x: -x[:, 0])  # noqa: E731
    found = np.asarray(jax.jit(jax.vmap(one))(keys))[:, 0, 0]

    density = candidates**power / np.mean(candidates**power) + offset
    expected = draws * density / density.sum()
    counts = np.array([np.sum(found == x) for x in candidates])
    assert counts.sum() == draws
    there = expected > 0
    assert (counts[~there] == 0).all()
    # One in a million seeds fails.
    chance = stats.chisquare(counts[there], expected[there]).pvalue
    assert chance > 1e-6


def test_rad_draws_no_candidate_twice_and_none_where_the_residual_is_not_finite():
    pool = column(*range(8)).astype(float)
    bad = lambda p, b: jnp.where(b["x"][:, 0] == 7, jnp.nan, b["x"][:, 0])  # noqa: E731
    rule = jc.points.rad(bad, lambda key, num: pool, candidates=8)
    found = moved(rule, jnp.zeros((7, 1)))
    assert sorted(np.asarray(found)[:, 0]) == list(range(7))


def test_rad_draws_evenly_where_the_residual_is_zero():
    rule = jc.points.rad(steep, UNIT, candidates=256, offset=0.0)
    found = np.asarray(moved(rule, jnp.zeros((256, 1)), p=0.0))[:, 0]
    assert stats.kstest(found, "uniform").pvalue > 1e-6


def test_rar_d_replaces_the_smallest_residuals_and_no_other():
    x = column(0.1, -0.6, 0.0, 0.7, 0.2)
    rule = jc.points.rar_d(steep, ([2.0], [3.0]), replace=2, candidates=50)
    found = np.asarray(moved(rule, x))
    stays = (
        [True, True, False, True, False] if False else np.array([0, 1, 0, 1, 1], bool)
    )
    np.testing.assert_array_equal(found[stays], np.asarray(x)[stays])
    assert (found[~stays] >= 2).all()


def test_r3_retains_exactly_the_points_above_the_mean():
    x = column(0.1, -0.6, 0.2, 0.7, 0.4)  # mean size 0.4, which is not above itself
    rule = jc.points.r3(steep, ([2.0], [3.0]))
    found = np.asarray(moved(rule, x, p=2.0))
    stays = np.array([0, 1, 0, 1, 0], bool)
    np.testing.assert_array_equal(found[stays], np.asarray(x)[stays])
    assert (found[~stays] >= 2).all()
    # A point where nothing is known is drawn anew as well.
    holes = lambda p, b: jnp.where(b["x"][:, 0] < 0, jnp.nan, steep(p, b))  # noqa: E731
    found = np.asarray(moved(jc.points.r3(holes, ([2.0], [3.0])), x))
    np.testing.assert_array_equal(found[[1]] >= 2, True)


def test_adversarial_points_climb_to_every_peak():
    def peaks(p, batch):
        return -jnp.cos(4 * jnp.pi * batch["x"][:, 0])  # 1 at a quarter and at three

    x = column(0.25, 0.0, 0.5, 0.75, 1.0)
    rule = jc.points.adversarial(peaks, UNIT, replace=3, steps=60)
    found = np.asarray(moved(rule, x, seed=2))[:, 0]
    np.testing.assert_array_equal(found[[0, 3]], [0.25, 0.75])
    distance = np.abs(found[:, None] - np.array([[0.25, 0.75]]))
    assert distance.min(axis=1).max() < 1e-3
    assert set(distance.argmin(axis=1)) == {0, 1}


# What belongs to points.


def test_transfer_divides_masses_and_averages_values():
    draw = np.random.default_rng(0)

    def check(d):
        old = jnp.asarray(draw.uniform(size=(40, d)), jnp.float32)
        new = old.at[10:].set(draw.uniform(size=(30, d)))
        mass = jnp.asarray(draw.uniform(size=40), jnp.float32)
        move = jax.jit(transfer)(old, new)
        found = move.masses(mass)
        # Of numbers near one.
        np.testing.assert_allclose(found.sum(), mass.sum(), rtol=1e-5)
        assert (found >= 0).all()
        values = np.asarray(move.values(mass))
        np.testing.assert_array_equal(values[:10], mass[:10])
        assert mass.min() <= values.min()
        assert values.max() <= mass.max()
        same = jax.jit(transfer)(old, old[::-1])
        np.testing.assert_array_equal(same.masses(mass), mass[::-1])

    assert_each([1, 2, 5], check)


def test_transfer_on_a_line_keeps_the_first_moment():
    # Each old point lies between two new ones.
    draw = np.random.default_rng(1)
    new = column(0.0, *np.sort(draw.uniform(size=20)), 1.0)
    old = column(*draw.uniform(size=30))
    mass = jnp.asarray(draw.normal(size=30), jnp.float32)
    found = transfer(old, new).masses(mass)
    moments = found @ new, mass @ old
    # The two nearest may lie on one side: then only the sum is kept.
    np.testing.assert_allclose(found.sum(), mass.sum(), atol=1e-5)
    gap = np.diff(np.asarray(new)[:, 0]).max()
    assert abs(float((moments[0] - moments[1])[0])) <= gap * float(jnp.abs(mass).sum())


def powers(x):
    return jnp.stack([jnp.ones_like(x), x, x**2], axis=-1)


# min |p - a|^2 / 2 subject to p . (1, x, x^2) = b . (1, x, x^2) for all x in [0, 1], whose
# multipliers have the density 1 + x: a - b is its integral against (1, x, x^2).
B = jnp.array([0.5, -1.0, 0.25])
FORCE = jnp.array([3 / 2, 5 / 6, 7 / 12])
NUM = 64


def misfit(p, batch):
    return powers(batch["x"][:, 0]) @ (p - B)


CURVE = jc.Lagrangian(
    lambda p, _: jnp.sum((p - B - FORCE) ** 2) / 2,
    jc.Constraints({"curve": misfit}),
    penalty=1.0,
)
RULES = {
    "rad": lambda every: jc.points.rad(misfit, UNIT, every=every, candidates=512),
    "rar_d": lambda every: jc.points.rar_d(
        misfit, UNIT, every=every, replace=8, candidates=512
    ),
    "r3": lambda every: jc.points.r3(misfit, UNIT, every=every),
    "adversarial": lambda every: jc.points.adversarial(
        lambda p, b: jnp.abs(misfit(p, b)), UNIT, every=every, replace=8
    ),
}


def solver(rule=None, dual=None):
    points = None if rule is None else {"x": rule}
    ascent = dual or jc.dual_ascent(optax.sgd(0.1))
    return jc.alternating(CURVE, optax.sgd(0.01), ascent, points=points)


def begin(num=NUM):
    return {"x": jc.points.sobol(*UNIT, num)}


def force(state, x):
    """What the multipliers pull the parameters by."""
    return state.multipliers.equality["curve"] @ powers(x[:, 0])


def test_multipliers_that_follow_their_points_keep_the_kkt_point():
    num = 1024
    rule = jc.points.rad(misfit, UNIT, every=1, candidates=4 * num)
    made, batch = solver(rule), begin(num)
    state = made.init(B, batch)
    # At the solution, with the multipliers' density at each point.
    density = (1 + batch["x"][:, 0]) / num
    state = state._replace(multipliers=jc.Constraints({"curve": density}))
    after, _ = jax.jit(made.step)(state, batch)
    x = after.points["x"]
    assert not np.any(np.asarray(x == batch["x"]))  # all are drawn anew
    # The masses, 3/2 together, move by the largest gap at most, about log(n) / n, along
    # slopes of at most 2.
    bound = 3 / 2 * 2 * np.log(num) / num
    np.testing.assert_allclose(force(after, x), FORCE, atol=bound)
    # In their old rows they lose the covariance of density and x, or x^2: 1/12 of the
    # force, give or take the 1/75 that x is off by chance.
    assert np.abs(force(state, x) - FORCE)[1:].min() > 1 / 24 > bound


def test_moving_points_reach_the_kkt_point_from_zero():
    def run(rule):
        made = solver(rule)

        def step(state, _):
            return made.step(state, begin())[0], None

        state = made.init(jnp.zeros(3), begin())
        return jax.jit(lambda s: jax.lax.scan(step, s, length=3990)[0])(state)

    def check(name):
        state = run(RULES[name](50))
        # After the last move there were 40 steps.
        np.testing.assert_allclose(state.params, B, atol=1e-2)
        np.testing.assert_allclose(force(state, state.points["x"]), FORCE, atol=2e-2)

    assert_each(["rad", "r3"], check)


def test_adversarial_points_gather_the_multiplier_where_it_is():
    # The highest line at 1/2 below e^x is its tangent there, with the multiplier a mass of
    # one at 1/2. Eight points that stay let it rise over e^x by h^2 / 8 of it, h = 1/7.
    def below(p, batch):
        x = batch["x"][:, 0]
        return p[0] + p[1] * x - jnp.exp(x)

    held = jc.Constraints(inequality={"below": below})
    problem = jc.Lagrangian(lambda p, _: -(p[0] + p[1] / 2), held, penalty=10.0)
    batch = {"x": jc.points.grid(*UNIT, 8)}

    def run(points):
        ascent = jc.dual_ascent(optax.sgd(5.0))
        made = jc.alternating(problem, optax.sgd(0.01), ascent, points=points)
        step = lambda state, _: (made.step(state, batch)[0], None)  # noqa: E731
        states = lambda s: jax.lax.scan(step, s, length=6010)[0]  # noqa: E731
        return jax.jit(states)(made.init(jnp.zeros(2), batch))

    rule = jc.points.adversarial(below, UNIT, replace=3, every=20, steps=30)
    fine, middle = {"x": jc.points.grid(*UNIT, 1001)}, np.exp(0.5)
    state, fixed = run({"x": rule}), run(None)
    np.testing.assert_allclose(state.params, [middle / 2, middle], atol=1e-3)
    assert float(below(state.params, fine).max()) < 1e-4
    assert float(below(fixed.params, fine).max()) > 0.9 * middle / 7**2 / 8
    lam, x = state.multipliers.inequality["below"], state.points["x"][:, 0]
    np.testing.assert_allclose(lam.sum(), 1.0, atol=1e-3)
    assert float(lam @ jnp.abs(x - 0.5)) < 1e-3


def test_inequality_multipliers_stay_nonnegative_and_averages_follow():
    cap = jc.Constraints(inequality={"cap": lambda p, b: p - b["x"][:, 0]})
    problem = jc.Lagrangian(lambda p, _: (p - 2.0) ** 2, cap)
    rule = jc.points.r3(lambda p, b: p - b["x"][:, 0], UNIT, every=1)
    made = jc.alternating(
        problem,
        optax.sgd(0.01),
        jc.dual_ascent(optax.sgd(0.1, momentum=0.9)),
        points={"x": rule},
    )
    state = made.init(jnp.array(0.5), begin())
    step = jax.jit(made.step)
    for _ in range(5):
        state, _ = step(state, begin())
    lam = np.asarray(state.multipliers.inequality["cap"])
    assert (lam >= 0).all()
    assert lam.max() > 0
    # The momentum of a descent along x - p: it rises along x wherever the points are.
    trace = jax.tree.leaves(state.dual)[0]
    assert trace.shape == (NUM,)
    assert np.corrcoef(state.points["x"][:, 0], trace)[0, 1] > 0.95


# In a solver's step, and in runs.


def test_points_move_at_every_kth_step_only_and_params_do_not_feel_it():
    made = solver(RULES["rad"](3))
    step, plain = jax.jit(made.step), jax.jit(solver().step)
    state, other = (one.init(jnp.zeros(3), begin()) for one in (made, solver()))
    for number in range(1, 5):
        before = state.points["x"]
        state, info = step(state, {"x": jnp.full((NUM, 1), jnp.nan)})  # never read
        still = bool(jnp.all(state.points["x"] == before))
        assert still == (number != 3)
        if number <= 3:
            other, _ = plain(other, begin())
            np.testing.assert_array_equal(state.params, other.params)
    assert bool(info.finite)


def test_moving_points_jit_is_eager_and_vmap_is_a_loop():
    made = solver(RULES["r3"](1))
    state = made.init(jnp.zeros(3), begin())
    assert_keeps(lambda state: made.step(state, begin())[0], state)
    starts = jnp.stack([jnp.zeros(3), B])
    both = jax.jit(jax.vmap(lambda p: made.step(made.init(p, begin()), begin())[0]))
    batched = both(starts)
    for row, start in enumerate(starts):
        with jax.disable_jit():
            alone, _ = made.step(made.init(start, begin()), begin())
        found = jax.tree.map(lambda leaf, row=row: leaf[row], batched)
        for ours, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(alone)):
            np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


def test_moving_points_resume_to_the_bit(tmp_path):
    made = solver(RULES["rad"](4))
    run = partial(jc.fit, made, jnp.zeros(3), begin(), progress=False)
    whole = run(steps=22)
    run(steps=9, checkpoint=tmp_path)
    resumed = run(steps=22, checkpoint=tmp_path)
    for ours, theirs in zip(
        jax.tree.leaves(resumed.state), jax.tree.leaves(whole.state), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)
    other = solver(RULES["rad"](5))
    with pytest.raises(ValueError, match=r"points\['x'\].every"):
        jc.fit(other, jnp.zeros(3), begin(), steps=22, checkpoint=tmp_path)


def test_moving_points_are_swept_over_seeds():
    def one(seed):
        rule = jc.points.r3(misfit, UNIT, every=2, seed=seed)
        return solver(rule), jnp.zeros(3), begin()

    found = jc.sweep(one, {"seed": [0, 1]}, steps=5)
    x = np.asarray(found.state.points["x"])
    assert x.shape == (2, NUM, 1)
    assert np.any(x[0] != x[1])


def test_multipliers_of_moving_points_are_not_warned_of(recwarn):
    # The function draws other points, which are never read.
    def draw(key):
        return {"x": jax.random.uniform(key, (NUM, 1)), "noise": jax.random.normal(key)}

    made = solver(RULES["r3"](2))
    jc.fit(made, jnp.zeros(3), draw, key=jax.random.key(0), steps=6, progress=False)
    assert not recwarn.list
    with pytest.warns(RuntimeWarning, match="keeps one multiplier for each"):
        jc.fit(solver(), jnp.zeros(3), draw, key=jax.random.key(0), steps=6)


def test_with_points_returns_the_batch_of_the_next_step():
    made = solver(RULES["r3"](1))
    state, _ = made.step(made.init(jnp.zeros(3), begin()), begin())
    batch = made.with_points(state, begin())
    np.testing.assert_array_equal(batch["x"], state.points["x"])
    _, info = made.step(state, begin())
    violation = jc.max_violation(jc.evaluate(CURVE.constraints, state.params, batch))
    np.testing.assert_allclose(info.max_violation, violation, rtol=1e-6)
    # The best iterate's multipliers are those of the points beside them.
    best = jc.fit(made, jnp.zeros(3), begin(), steps=5, progress=False).best
    found = made.with_points(best, begin())
    violation = jc.max_violation(jc.evaluate(CURVE.constraints, best.params, found))
    np.testing.assert_allclose(best.max_violation, violation, rtol=1e-5)


def test_moving_points_refuse_what_does_not_fit():
    good, batch = RULES["r3"](1), begin()
    made = solver(good)
    state = made.init(jnp.zeros(3), batch)
    flat = jc.points.r3(lambda p, b: jnp.sum(b["x"]), UNIT, every=1)
    wide = jc.points.r3(misfit, ([0.0, 0.0], [1.0, 1.0]), every=1)
    few = jc.points.rad(misfit, UNIT, every=1, candidates=4)
    many = jc.points.rar_d(misfit, UNIT, replace=100)
    split = jc.SplitBatch(batch, batch)
    alm = jc.Lagrangian(CURVE.loss, CURVE.constraints)
    target = jc.certify.Target([0.0], [1.0])
    assert_refused(
        [
            (lambda: solver("rad"), TypeError, "by key of the batch.*'rad'.*'x'"),
            (
                lambda: jc.alternating(
                    alm, optax.sgd(1.0), jc.nupi(1.0, kp=1.0), points=[good]
                ),
                TypeError,
                "points must be a dict",
            ),
            (lambda: made.init(B, {"y": batch["x"]}), ValueError, "'x'.*'y'"),
            (lambda: made.init(B, {"x": jnp.ones(4)}), ValueError, r"\(4,\).*\(n, d\)"),
            (lambda: made.init(B, {"x": jnp.ones((4, 1), int)}), TypeError, "'x'.*int"),
            (
                lambda: solver(flat).step(state, batch),
                ValueError,
                r"points='x' has shape \(\) at points of shape \(64, 1\)",
            ),
            (
                lambda: solver(wide).step(state, batch),
                ValueError,
                ["r3: domain", "(64, 2)", "(64, 1)"],
            ),
            (lambda: solver(few).step(state, batch), ValueError, ["4", "64 points"]),
            (lambda: solver(many).step(state, batch), ValueError, ["100", "64 points"]),
            (lambda: made.step(state, split), ValueError, "SplitBatch"),
            (lambda: solver().step(state, batch), ValueError, "'x'.*init"),
            (
                lambda: jc.fit(made, B, batch, steps=1, certify=target),
                ValueError,
                "certify.*points=",
            ),
            (
                lambda: jc.points.adversarial(misfit, lambda k, n: k, replace=1),
                TypeError,
                "adversarial: domain.*corners",
            ),
            (
                lambda: jc.points.rad(misfit, ([0.0],)),
                TypeError,
                "rad: domain.*corners",
            ),
        ]
    )
