"""Residuals that are drawn: the flag, the dual's own batch, the bias of the clamp."""

import warnings
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tables import assert_each

import jaxcon as jc
from benchmarks import stochastic_constraints as noisy

# Points that are drawn anew under multipliers that belong to the old ones.

POINTS = np.linspace(0.1, 1.0, 4, dtype=np.float32)[:, None]
PARAMS = {"w": np.array([-1.0], np.float32), "b": np.float32(0.0)}


@jax.custom_jvp
def kink(x):
    return jnp.maximum(x, 0.5 * x)


kink.defjvp(lambda x, t: (kink(*x), jnp.where(x[0] > 0, 1.0, 0.5) * t[0]))


@jax.custom_vjp
def bent(x):
    return jnp.maximum(x, 0.5 * x)


bent.defvjp(
    lambda x: (bent(x), jnp.where(x > 0, 1.0, 0.5)),
    lambda slope, cotangent: (slope * cotangent,),
)


def net(params, x, bend=jnp.tanh):
    return bend(x @ params["w"] + params["b"])


def values(params, batch, bend=jnp.tanh):
    """g = 0.5 - f(x) at every point: violated at first."""
    return 0.5 - jax.vmap(partial(net, params, bend=bend))(batch["points"])


def scanned(params, batch):
    body = lambda total, x: (total + net(params, x), 0.5 - net(params, x))  # noqa: E731
    return jax.lax.scan(body, 0.0, batch["points"])[1]


# Every one of them reads the points and nothing else of a batch.
READS_THE_POINTS = {
    "plain": values,
    "jit": jax.jit(values),
    "checkpoint": jax.checkpoint(values),
    "scan": scanned,
    "custom_jvp": partial(values, bend=kink),
    "custom_vjp": partial(values, bend=bent),
    "shapes.increasing": jc.shapes.increasing(net, 0, on="points"),
    "jit of both": lambda p, batch: _both(p, batch)[1],
}


@jax.jit
def _both(params, batch):
    """Two results of one call, the second of which reads the points alone."""
    return jnp.sum(batch["x"]), values(params, batch)


def loss(params, batch):
    return jnp.mean((jax.vmap(partial(net, params))(batch["x"]) + 1.0) ** 2)


@cache
def drawing(points):
    """Key -> batch of new data, at new points or at points it closes over."""

    def draw(key):
        for_x, for_points = jax.random.split(key)
        drawn = jax.random.uniform(for_points, POINTS.shape)
        return {
            "x": jax.random.uniform(for_x, (8, 1)),
            "points": drawn if points == "new" else POINTS,
        }

    return draw


def streaming(points, steps=12, until=0):
    """Batches of new data, at points that are new from step `until` on, or fixed."""
    for i in range(steps):
        of_points, of_data = (
            np.random.default_rng([max(i, until)]),
            np.random.default_rng([i, 1]),
        )
        yield {
            "x": of_data.random((8, 1), np.float32),
            "points": of_points.random(POINTS.shape, np.float32)
            if points == "new"
            else POINTS,
        }


def warned(constraints, source, points, dual=None, chunk=5, **kinds):
    """Messages of a run of 12 steps."""
    make = drawing(points) if source == "function" else streaming(points)
    solver = jc.alternating(
        jc.Lagrangian(loss, constraints, **kinds),
        optax.sgd(0.01),
        dual or jc.dual_ascent(optax.sgd(0.1)),
    )
    batch = next(streaming(points))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        jc.fit(
            solver,
            solver.init(PARAMS, batch),
            make,
            steps=12,
            key=jax.random.key(1) if source == "function" else None,
            chunk=chunk,
            progress=False,
        )
    assert all(issubclass(one.category, RuntimeWarning) for one in caught)
    assert all(one.filename == __file__ for one in caught)
    return [str(one.message) for one in caught]


def named(messages):
    """The constraints that messages speak of, which are quoted."""
    return [message.split("'")[1] for message in messages]


SOURCES = pytest.mark.parametrize("source", ["function", "iterator"])


@SOURCES
def test_fit_warns_of_points_that_change_under_dense_multipliers(source):
    messages = warned(jc.Constraints(inequality=READS_THE_POINTS), source, "new")
    # Once each, however a constraint reads its points.
    assert sorted(named(messages)) == sorted(READS_THE_POINTS)
    for message in messages:
        for word in ["inequality", "4 points", "mean", "network", "indexed"]:
            assert word in message


@SOURCES
def test_fit_does_not_warn_of_points_that_stay_while_the_data_change(source):
    assert warned(jc.Constraints(inequality=READS_THE_POINTS), source, "fixed") == []


@pytest.mark.parametrize("chunk", [1, 12])
@SOURCES
def test_fit_warns_once_of_each_constraint_whose_points_change(source, chunk):
    at_fixed = jc.shapes.increasing(net, 0, on=POINTS)
    constraints = jc.Constraints({"level": values, "still": at_fixed}, {"high": values})
    assert named(warned(constraints, source, "new", chunk=chunk)) == ["level", "high"]


@SOURCES
def test_fit_does_not_warn_of_a_constraint_without_a_multiplier_for_each_point(source):
    # Multiplier i belongs to group i, whoever of it is in the batch.
    groups = np.array([0, 0, 1, 1, 1, 2, 2, 2])

    def rates(params, batch):
        outputs = jax.vmap(partial(net, params))(batch["x"])
        return 0.5 - jax.ops.segment_sum(outputs, groups, 3) / 3

    psi = {"w": jnp.zeros(1), "b": jnp.array(0.0)}
    constraints = {
        "mean": lambda p, batch: jnp.mean(values(p, batch)),
        "one point": lambda p, batch: values(p, batch)[:1],
        "rates of groups": rates,
    }
    kinds = {
        # Which samples they are would be part of the batch.
        "indexed": jc.multipliers.indexed(4, on=np.arange(4)),
        "network": jc.multipliers.network(net, psi, on="points"),
    }
    if source == "iterator":  # what is kept does not depend on the source
        kinds = {}
    held = jc.Constraints(inequality=constraints | dict.fromkeys(kinds, values))
    assert warned(held, source, "new", multipliers=kinds) == []


@SOURCES
def test_fit_does_not_warn_of_new_points_under_a_penalty_alone(source):
    held = jc.Constraints(inequality={"high": values})
    assert warned(held, source, "new", dual=optax.set_to_zero(), penalty=1.0) == []


@pytest.mark.parametrize("half", [0, 1])
def test_fit_with_a_split_batch_reads_the_points_of_its_dual_part(half):
    drawing_half = drawing("new")

    def draw(key):
        pair = [fixed, fixed]
        pair[half] = drawing_half(key)
        return jc.SplitBatch(*pair)

    fixed = next(streaming("fixed"))
    solver = jc.alternating(
        jc.Lagrangian(loss, jc.Constraints(inequality={"high": values})),
        optax.sgd(0.01),
        jc.dual_ascent(optax.sgd(0.1)),
    )
    state = solver.init(PARAMS, jc.SplitBatch(fixed, fixed))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        jc.fit(solver, state, draw, steps=3, key=jax.random.key(1), progress=False)
    assert len(caught) == half


@pytest.mark.parametrize("chunk", [5, 100])
def test_fit_warns_of_an_iterator_that_changes_its_points_late(chunk):
    solver = jc.alternating(
        jc.Lagrangian(loss, jc.Constraints(inequality={"high": values})),
        optax.sgd(0.01),
        jc.dual_ascent(optax.sgd(0.1)),
    )
    first = next(streaming("new", until=4))
    with pytest.warns(RuntimeWarning, match="'high'") as caught:
        jc.fit(
            solver,
            solver.init(PARAMS, first),
            streaming("new", until=3),
            steps=12,
            chunk=chunk,
            progress=False,
        )
    assert len(caught) == 1


def test_fit_finds_new_points_without_tracing_a_further_step():
    traces = []

    def counted(params, batch):
        traces.append(None)
        return loss(params, batch)

    solver = jc.alternating(
        jc.Lagrangian(counted, jc.Constraints(inequality={"high": values})),
        optax.sgd(0.01),
        jc.dual_ascent(optax.set_to_zero()),
    )
    state = solver.init(PARAMS, next(streaming("new")))
    traces.clear()
    options = {"steps": 12, "chunk": 5, "progress": False}
    jc.fit(solver, state, drawing("new"), key=jax.random.key(1), **options)
    # One to learn the shapes of the infos and one to compile: as without that check.
    assert len(traces) <= 2


# A batch of the multipliers' own.

ORDERS = {
    "simultaneous": jc.simultaneous,
    "dual first": jc.alternating,
    "primal first": partial(jc.alternating, first="primal"),
    "extragradient": jc.extragradient,
}
ALPHA, ETA = 0.1, 0.5


def two_batches(order, penalty):
    """Min (x - 2)^2 s.t. a x <= 1, where a batch is a."""
    problem = jc.Lagrangian(
        lambda x, a: (x - 2.0) ** 2 + 0.0 * a,
        jc.Constraints(inequality={"cap": lambda x, a: a * x - 1.0}),
        penalty=penalty,
    )
    return ORDERS[order](problem, optax.sgd(ALPHA), jc.dual_ascent(optax.sgd(ETA)))


def by_hand(order, penalty, x, lam, batch):
    """One step, written out."""
    here, there = batch

    def moved(at, multiplier):
        weight = multiplier
        if penalty is not None:
            weight = max(multiplier + penalty * (here * at - 1.0), 0.0)
        return x - ALPHA * (2.0 * (at - 2.0) + weight * here)

    def climbed(at):
        return max(lam + ETA * (there * at - 1.0), 0.0)

    if order == "simultaneous":
        return moved(x, lam), climbed(x)
    if order == "dual first":
        return moved(x, climbed(x)), climbed(x)
    if order == "primal first":
        return moved(x, lam), climbed(moved(x, lam))
    ahead, lam_ahead = moved(x, lam), climbed(x)
    return moved(ahead, lam_ahead), climbed(ahead)


def test_split_batch_steps_are_those_by_hand(x64):
    batches = [(1.5, 0.5), (0.25, 3.0), (2.0, -1.0), (1.0, 1.0)]
    rows = [(order, penalty) for order in ORDERS for penalty in (None, 2.0)]

    @jax.jit
    def courses(start, batches):
        def course(solver):
            state = solver.init(start, jax.tree.map(lambda rows: rows[0], batches))

            def step(state, batch):
                state, info = solver.step(state, batch)
                lam = state.multipliers.inequality["cap"]
                return state, (state.params, lam, info.max_violation)

            return jax.lax.scan(step, state, batches)[1]

        return [course(two_batches(*row)) for row in rows]

    found = courses(np.array(0.5), jc.SplitBatch(*map(np.array, zip(*batches))))

    def check(row):
        x, lam, multipliers = 0.5, 0.0, set()
        for batch, *ours in zip(batches, *found[rows.index(row)]):
            # What is reported is the parameters' batch.
            violation = max(batch[0] * x - 1.0, 0.0)
            x, lam = by_hand(*row, x, lam, batch)
            # A few roundings of numbers of order one.
            np.testing.assert_allclose(
                ours, [x, lam, violation], rtol=1e-14, atol=1e-15
            )
            multipliers.add(lam)
        assert 0.0 in multipliers
        assert len(multipliers) > 1

    assert_each(rows, check)


# Long runs of which theory knows the means.


def mean_of(rows):
    """Over runs (last axis) and all steps (first axis) but the first quarter."""
    late = np.asarray(rows, np.float64)[len(rows) // 4 :].mean(0)
    return noisy.Mean(late.mean(), late.std(ddof=1) / len(late) ** 0.5)


def at_rest(methods, batches):
    """Where methods rest, from batches (steps, runs): all in one program."""

    @jax.jit
    def courses(batches):
        def course(solver, mine):
            def step(state, batch):
                state, info = jax.vmap(solver.step)(state, batch)
                return state, (info.aux, info.multiplier.inequality["cap"])

            first = jax.tree.map(lambda rows: rows[0], mine)
            start = jax.vmap(partial(solver.init, jnp.zeros(())))(first)
            return jax.lax.scan(step, start, mine)[1]

        return [
            course(solver, batches if own else batches[0])
            for solver, own in methods.values()
        ]

    return {
        name: noisy.Rest(*map(mean_of, course))
        for name, course in zip(methods, courses(batches))
    }


def test_split_batch_keeps_the_multiplier_that_one_batch_for_both_moves_bends(key):
    # Min (x - 2)^2 s.t. a x <= 1, where a has mean 1 and variance 1/4: x = 1, lambda = 2.
    rate, noise = 0.2, 0.5
    residual, _ = noisy.scaled(noise)
    rows = [
        (order, own, penalty)
        for order in ("simultaneous", "alternating")
        for own in (False, True)
        for penalty in (None, 1.0)
    ]
    methods = {
        (order, own, penalty): (
            getattr(jc, order)(
                jc.Lagrangian(*noisy.parabola(2.0, residual), penalty=penalty),
                optax.sgd(0.05),
                jc.dual_ascent(optax.sgd(rate)),
            ),
            own,
        )
        for order, own, penalty in rows
    }
    draws = 1.0 + noise * jax.random.normal(key, (2, 3000, 64))
    found = at_rest(methods, jc.SplitBatch(*draws))

    def check(row):
        order, own, penalty = row
        x, multiplier = found[row]
        # E[(lambda + c (a x - 1)) a] = E lambda + c ((1 + var a) E x - 1), with c of the
        # penalty, and of a multiplier that moves before it weights the same batch.
        at_once = rate if order == "alternating" and not own else 0.0
        c = at_once + (penalty or 0.0)
        theory = 2.0 * (2.0 - x.value) - c * ((1.0 + noise**2) * x.value - 1.0)
        # Five standard errors; what is left of the start is below a tenth of one.
        error = np.hypot(multiplier.error, 2.0 * x.error)
        assert abs(multiplier.value - theory) < 5.0 * error
        assert abs(x.value - 1.0) < 5.0 * x.error
        # Theory has no bend of its own making: var a = 1/4 by c.
        np.testing.assert_allclose(theory, 2.0 - c / 4.0, atol=4.0 * 5.0 * x.error)
        assert c == 0.0 or c / 4.0 > 5.0 * error

    assert_each(rows, check)


# The clamp.


def averaged(transform, k):
    return optax.MultiSteps(transform, k).gradient_transformation()


def test_dual_ascent_under_noise_keeps_the_multiplier_of_a_slack_constraint_up(key):
    noise, margins = 0.5, np.array([0.1, 0.25, 0.5], np.float32)
    rows = [(0.1, 1), (0.01, 1), (0.1, 4)]

    @jax.jit
    def courses(draws):
        def course(rate, calls):
            dual = averaged(jc.dual_ascent(optax.sgd(rate)), calls)

            def step(carry, draw):
                lam, state = carry
                g = draw[None] - margins[:, None]
                move, state = dual.update(
                    jc.Constraints(inequality={"g": g}), state, lam
                )
                lam = optax.apply_updates(lam, move)
                return (lam, state), lam.inequality["g"]

            lam = jc.Constraints(inequality={"g": jnp.zeros((3, draws.shape[1]))})
            return jax.lax.scan(step, (lam, dual.init(lam)), draws)[1]

        return [course(*row) for row in rows]

    # Means over the later three quarters of 320 runs of 4,000 steps.
    found = courses(noise * jax.random.normal(key, (4000, 320)))

    def check(row):
        (rate, calls), i = row
        mean = mean_of(found[rows.index((rate, calls))][:, i])
        theory = noisy.clamped_mean(rate, float(margins[i]), noise / calls**0.5)
        # Five standard errors; what is left of the start at zero is a tenth of one.
        assert abs(mean.value - theory) < 5.0 * mean.error
        assert mean.error < 0.1 * theory

    assert_each([(row, i) for row in rows for i in range(3)], check)


def test_dual_ascent_that_averages_inside_is_averaged_around(key):
    inside = jc.dual_ascent(averaged(optax.sgd(0.5), 3))
    around = averaged(jc.dual_ascent(optax.sgd(0.5)), 3)
    multipliers = [jc.Constraints({"h": jnp.ones(())}, {"g": jnp.ones(())})] * 2
    updates = [jax.jit(dual.update) for dual in (inside, around)]
    states = [dual.init(multipliers[0]) for dual in (inside, around)]
    for h, g in np.asarray(jax.random.normal(key, (12, 2))):
        for i, update in enumerate(updates):
            climb, states[i] = update(
                jc.Constraints({"h": h}, {"g": g}), states[i], multipliers[i]
            )
            multipliers[i] = jax.tree.map(np.add, multipliers[i], climb)
        # Both round the same numbers in the same order but for the sign.
        jax.tree.map(np.testing.assert_array_equal, *multipliers)
    assert multipliers[0].equality["h"] != 1.0


def test_clamped_mean_at_little_slack_is_the_law_of_a_diffusion():
    # eta sigma^2 / (2 m) - 0.5826 eta sigma: the second term is -zeta(1/2) / sqrt(2 pi).
    for margin in (0.1, 0.01):
        diffusion = 0.1 / (2 * margin) - 0.5826 * 0.1
        exact = noisy.clamped_mean(0.1, margin, 1.0)
        # The next term is a quarter of the margin.
        np.testing.assert_allclose(exact, diffusion, atol=0.1 * 0.3 * margin)


def test_rectified_mean_of_a_gaussian_is_that_of_quadrature():
    nodes, weights = np.polynomial.legendre.leggauss(400)

    def check(row):
        mean, noise = row
        # Over z > 0 alone, where the integrand is smooth; ten deviations lose 1e-22.
        top = max(mean, 0.0) + 10.0 * noise
        z = (nodes + 1.0) * top / 2.0
        density = np.exp(-(((z - mean) / noise) ** 2) / 2)
        density /= noise * np.sqrt(2 * np.pi)
        want = np.sum(weights * z * density) * top / 2.0
        np.testing.assert_allclose(noisy.rectified_mean(mean, noise), want, rtol=1e-10)

    assert_each(
        [(mean, noise) for mean in (-1.0, 0.0, 1.5) for noise in (0.5, 2)], check
    )


@pytest.fixture(scope="module")
def rests():
    """Min (x - a)^2 s.t. x <= c under noise, in three methods that share their draws."""

    def solver(aim, cap, primal, dual, penalty=None):
        residual, _ = noisy.shifted(cap, 0.5)
        problem = noisy.parabola(aim, residual)
        return jc.alternating(
            jc.Lagrangian(*problem, penalty=penalty), optax.sgd(primal), dual
        ), False

    ascent = jc.dual_ascent(optax.sgd(0.1))
    methods = {
        "slack": solver(0.0, 0.2, 0.005, ascent),
        "slack, penalty alone": solver(0.0, 0.2, 0.005, optax.set_to_zero(), 1.0),
        "active": solver(2.0, 1.0, 0.01, ascent),
    }
    # The slowest mode, of rate 0.005, has 1,500 steps to die out in before the means.
    draws = 0.5 * jax.random.normal(jax.random.key(0), (6000, 128))
    return at_rest(methods, (draws,))


@pytest.mark.parametrize("penalty", [None, 1.0], ids=["Lagrangian", "penalty alone"])
def test_dual_ascent_of_a_slack_constraint_under_noise_pushes_as_theory_says(
    rests, penalty
):
    cap, noise, rate = 0.2, 0.5, 0.1
    if penalty is None:
        found = rests["slack"]
        theory = noisy.pushed(cap, lambda m: noisy.clamped_mean(rate, m, noise))
    else:
        found = rests["slack, penalty alone"]
        theory = noisy.pushed(
            cap, lambda m: noisy.rectified_mean(-penalty * m, penalty * noise)
        )
    # Theory lets x stand still; that it moves a little adds some hundredths.
    assert abs(found.x.value - theory) < 5.0 * found.x.error + 0.03 * abs(theory)
    assert theory < -0.01


def test_dual_ascent_of_an_active_constraint_under_noise_stays_in_its_place(rests):
    found = rests["active"]
    # The clamp is never met around lambda = 2, so the noise is averaged out.
    assert abs(found.x.value - 1.0) < 5.0 * found.x.error
    assert abs(found.multiplier.value - 2.0) < 5.0 * found.multiplier.error
