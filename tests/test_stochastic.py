"""Residuals that are drawn: the flag, the dual's own batch, the bias of the clamp."""

import warnings
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxcon as jc
from benchmarks import stochastic_constraints as noisy

# Points that are drawn anew under multipliers that belong to the old ones.

POINTS = np.linspace(0.1, 1.0, 4, dtype=np.float32)[:, None]
PARAMS = {"w": jnp.array([-1.0]), "b": jnp.array(0.0)}


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
        batch = drawing("new")(jax.random.fold_in(jax.random.key(3), max(i, until)))
        data = drawing("new")(jax.random.fold_in(jax.random.key(4), i))["x"]
        yield batch | {"x": data} | ({} if points == "new" else {"points": POINTS})


def warned(constraint, source, points, dual=None, chunk=5, **more):
    """Messages of a run of 12 steps."""
    make = drawing(points) if source == "function" else streaming(points)
    method = jc.alternating(
        loss,
        constraint
        if isinstance(constraint, jc.Constraints)
        else jc.Constraints(inequality={"high": constraint}),
        optax.sgd(0.01),
        dual or jc.dual_ascent(optax.sgd(0.1)),
        **more,
    )
    batch = drawing(points)(jax.random.key(0))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        jc.fit(
            method,
            method.init(PARAMS, batch),
            make,
            steps=12,
            key=jax.random.key(1) if source == "function" else None,
            chunk=chunk,
            progress=False,
        )
    assert all(issubclass(one.category, RuntimeWarning) for one in caught)
    assert all(one.filename == __file__ for one in caught)
    return [str(one.message) for one in caught]


# How a constraint reads its points is looked through alike for both sources.
READERS = [("function", name) for name in READS_THE_POINTS] + [
    ("iterator", name) for name in ("plain", "jit of both")
]


@pytest.mark.parametrize(("source", "reads"), READERS)
def test_points_that_change_under_dense_multipliers_are_warned_of_once(reads, source):
    [message] = warned(READS_THE_POINTS[reads], source, "new")
    for word in ["inequality", "'high'", "4 points", "mean", "functional", "indexed"]:
        assert word in message


@pytest.mark.parametrize(("source", "reads"), READERS)
def test_points_that_stay_while_the_data_change_are_not(reads, source):
    assert warned(READS_THE_POINTS[reads], source, "fixed") == []


@pytest.mark.parametrize("source", ["function", "iterator"])
def test_only_the_constraint_whose_points_change_is_named(source):
    at_fixed = jc.shapes.increasing(net, 0, on=jnp.asarray(POINTS))
    constraints = jc.Constraints({"still": at_fixed}, {"high": values})
    [message] = warned(constraints, source, "new")
    assert "'high'" in message


@pytest.mark.parametrize("chunk", [1, 12])
@pytest.mark.parametrize("source", ["function", "iterator"])
def test_each_is_named_once_whatever_the_chunk(source, chunk):
    constraints = jc.Constraints({"level": values}, {"high": values})
    messages = warned(constraints, source, "new", chunk=chunk)
    assert [m.split("'")[1] for m in messages] == ["level", "high"]


@pytest.mark.parametrize("source", ["function", "iterator"])
@pytest.mark.parametrize(
    "way", ["mean", "indexed", "functional", "penalty alone", "one point"]
)
def test_what_keeps_no_multiplier_for_a_point_is_not_warned_of(way, source):
    constraint, more = values, {}
    if way == "mean":
        constraint = lambda p, batch: jnp.mean(values(p, batch))  # noqa: E731
    elif way == "one point":
        constraint = lambda p, batch: values(p, batch)[:1]  # noqa: E731
    elif way == "penalty alone":
        more = {"dual": optax.set_to_zero(), "penalty": 1.0}
    elif way == "indexed":
        # Which samples they are would be part of the batch.
        kind = jc.multipliers.indexed(4, on=jnp.arange(4))
        more = {"multipliers": {"high": kind}}
    elif way == "functional":
        psi = {"w": jnp.zeros(1), "b": jnp.array(0.0)}
        kind = jc.multipliers.functional(net, psi, on="points")
        more = {"multipliers": {"high": kind}}
    assert warned(constraint, source, "new", **more) == []


@pytest.mark.parametrize("source", ["function", "iterator"])
def test_a_rate_of_each_group_is_not_warned_of(source):
    # Multiplier i belongs to group i, whoever of it is in the batch.
    groups = jnp.array([0, 0, 1, 1, 1, 2, 2, 2])

    def rates(params, batch):
        outputs = jax.vmap(partial(net, params))(batch["x"])
        return 0.5 - jax.ops.segment_sum(outputs, groups, 3) / 3

    assert warned(rates, source, "fixed") == []


@pytest.mark.parametrize("half", [0, 1])
def test_with_its_own_batch_it_is_the_dual_s_points_that_count(half):
    drawing_half = drawing("new")

    def draw(key):
        pair = [fixed, fixed]
        pair[half] = drawing_half(key)
        return tuple(pair)

    fixed = drawing("fixed")(jax.random.key(2))
    method = jc.alternating(
        loss,
        jc.Constraints(inequality={"high": values}),
        optax.sgd(0.01),
        jc.dual_ascent(optax.sgd(0.1)),
        dual_batch=True,
    )
    state = method.init(PARAMS, (fixed, fixed))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        jc.fit(method, state, draw, steps=3, key=jax.random.key(1), progress=False)
    assert len(caught) == half


@pytest.mark.parametrize("chunk", [5, 100])
def test_an_iterator_that_changes_its_points_late_is_warned_of(chunk):
    method = jc.alternating(
        loss,
        jc.Constraints(inequality={"high": values}),
        optax.sgd(0.01),
        jc.dual_ascent(optax.sgd(0.1)),
    )
    first = next(streaming("new", until=4))
    with pytest.warns(RuntimeWarning, match="'high'") as caught:
        jc.fit(
            method,
            method.init(PARAMS, first),
            streaming("new", until=3),
            steps=12,
            chunk=chunk,
            progress=False,
        )
    assert len(caught) == 1


@pytest.mark.parametrize("points", ["new", "fixed"])
def test_looking_for_it_traces_no_further_step(points):
    traces = []

    def counted(params, batch):
        traces.append(None)
        return loss(params, batch)

    method = jc.alternating(
        counted,
        jc.Constraints(inequality={"high": values}),
        optax.sgd(0.01),
        jc.dual_ascent(optax.set_to_zero()),
    )
    state = method.init(PARAMS, drawing(points)(jax.random.key(0)))
    traces.clear()
    options = {"steps": 12, "chunk": 5, "progress": False}
    jc.fit(method, state, drawing(points), key=jax.random.key(1), **options)
    # One to learn the shapes of the infos and one to compile: as without the look.
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
    return ORDERS[order](
        lambda x, a: (x - 2.0) ** 2 + 0.0 * a,
        jc.Constraints(inequality={"cap": lambda x, a: a * x - 1.0}),
        optax.sgd(ALPHA),
        jc.dual_ascent(optax.sgd(ETA)),
        penalty=penalty,
        dual_batch=True,
    )


def by_hand(order, penalty, x, lam, batch):
    """One step, written out."""
    here, there = batch

    def moved(at, price):
        weight = price
        if penalty is not None:
            weight = max(price + penalty * (here * at - 1.0), 0.0)
        return x - ALPHA * (2.0 * (at - 2.0) + weight * here)

    def climbed(at):
        return max(lam + ETA * (there * at - 1.0), 0.0)

    if order == "simultaneous":
        return moved(x, lam), climbed(x)
    if order == "dual first":
        return moved(x, climbed(x)), climbed(x)
    if order == "primal first":
        return moved(x, lam), climbed(moved(x, lam))
    ahead, price = moved(x, lam), climbed(x)
    return moved(ahead, price), climbed(ahead)


@pytest.mark.parametrize("penalty", [None, 2.0])
@pytest.mark.parametrize("order", ORDERS)
def test_a_step_with_two_batches_is_that_by_hand(x64, order, penalty):
    method = two_batches(order, penalty)
    batches = [(1.5, 0.5), (0.25, 3.0), (2.0, -1.0), (1.0, 1.0)]
    state, (x, lam) = method.init(jnp.array(0.5), batches[0]), (0.5, 0.0)
    multipliers = set()
    for batch in batches:
        state, info = method.step(state, batch)
        # What is reported is the parameters' batch.
        violation = max(batch[0] * x - 1.0, 0.0)
        np.testing.assert_allclose(info.max_violation, violation, rtol=1e-14)
        x, lam = by_hand(order, penalty, x, lam, batch)
        # A few roundings of numbers of order one.
        np.testing.assert_allclose(state.params, x, rtol=1e-14)
        np.testing.assert_allclose(
            state.multipliers.inequality["cap"], lam, rtol=1e-14, atol=1e-15
        )
        multipliers.add(lam)
    assert 0.0 in multipliers
    assert len(multipliers) > 1


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("batch", [1.0, None, (1.0,), (1.0, 1.0, 1.0), [1.0, 1.0]])
def test_a_batch_that_is_no_pair_is_refused_in_one_sentence(order, batch):
    method = two_batches(order, None)
    state = method.init(jnp.array(0.5), (1.0, 1.0))
    for refuse in (
        partial(method.init, jnp.array(0.5)),
        partial(method.step, state),
        partial(method.estimates, state),
        partial(method.residuals, state.params),
    ):
        with pytest.raises(ValueError, match="pair") as caught:
            refuse(batch)
        assert "dual_batch=True" in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("order", ["simultaneous", "alternating"])
@pytest.mark.parametrize("own", [False, True], ids=["one batch", "own batch"])
@pytest.mark.parametrize("penalty", [None, 1.0])
def test_one_batch_for_both_moves_bends_the_multiplier(key, order, own, penalty):
    found, theory = noisy.correlated(order, penalty, own, key, steps=8000)
    # Five standard errors; what is left of the start is below a tenth of one.
    error = np.hypot(found.multiplier.error, 2.0 * found.x.error)
    assert abs(found.multiplier.value - theory) < 5.0 * error
    assert abs(found.x.value - 1.0) < 5.0 * found.x.error
    # Theory has no bend of its own making: var a = 1/4 by rate 0.2 and penalty 1.
    at_once = 0.2 if order == "alternating" and not own else 0.0
    bend = (at_once + (penalty or 0.0)) / 4.0
    np.testing.assert_allclose(theory, 2.0 - bend, atol=4.0 * 5.0 * found.x.error)
    assert bend == 0.0 or bend > 5.0 * error


# The clamp.


def averaged(transform, k):
    return optax.MultiSteps(transform, k).gradient_transformation()


@pytest.mark.parametrize("margin", [0.1, 0.25, 0.5])
@pytest.mark.parametrize(("rate", "calls"), [(0.1, 1), (0.01, 1), (0.1, 4)], ids=str)
def test_noise_keeps_the_multiplier_of_a_slack_constraint_up(key, margin, rate, calls):
    noise = 0.5
    dual = averaged(jc.dual_ascent(optax.sgd(rate)), calls)
    found = noisy.multiplier_under_noise(dual, margin, noise, key)
    theory = noisy.clamped_mean(rate, margin, noise / calls**0.5)
    # Five standard errors; what is left of the start at zero is a tenth of one.
    assert abs(found.value - theory) < 5.0 * found.error
    assert found.error < 0.1 * theory


def test_averaging_inside_an_ascent_is_averaging_around_it(key):
    inside = jc.dual_ascent(averaged(optax.sgd(0.5), 3))
    around = averaged(jc.dual_ascent(optax.sgd(0.5)), 3)
    multipliers = [jc.Constraints({"h": jnp.ones(())}, {"g": jnp.ones(())})] * 2
    states = [dual.init(multipliers[0]) for dual in (inside, around)]
    for h, g in jax.random.normal(key, (12, 2)):
        for i, dual in enumerate((inside, around)):
            climb, states[i] = dual.update(
                jc.Constraints({"h": h}, {"g": g}), states[i], multipliers[i]
            )
            multipliers[i] = optax.apply_updates(multipliers[i], climb)
        # Both round the same numbers in the same order but for the sign.
        jax.tree.map(np.testing.assert_array_equal, *multipliers)
    assert multipliers[0].equality["h"] != 1.0


def test_little_slack_leaves_the_law_of_a_diffusion():
    # eta sigma^2 / (2 m) - 0.5826 eta sigma: the second term is -zeta(1/2) / sqrt(2 pi).
    for margin in (0.1, 0.01):
        diffusion = 0.1 / (2 * margin) - 0.5826 * 0.1
        exact = noisy.clamped_mean(0.1, margin, 1.0)
        # The next term is a quarter of the margin.
        np.testing.assert_allclose(exact, diffusion, atol=0.1 * 0.3 * margin)


@pytest.mark.parametrize("noise", [0.5, 2.0])
@pytest.mark.parametrize("mean", [-1.0, 0.0, 1.5])
def test_the_mean_of_a_rectified_gaussian_is_that_of_quadrature(mean, noise):
    nodes, weights = np.polynomial.legendre.leggauss(400)
    # Over z > 0 alone, where the integrand is smooth; ten deviations lose 1e-22.
    top = max(mean, 0.0) + 10.0 * noise
    z = (nodes + 1.0) * top / 2.0
    density = np.exp(-(((z - mean) / noise) ** 2) / 2) / (noise * np.sqrt(2 * np.pi))
    want = np.sum(weights * z * density) * top / 2.0
    np.testing.assert_allclose(noisy.rectified_mean(mean, noise), want, rtol=1e-10)


@pytest.mark.parametrize("penalty", [None, 1.0], ids=["Lagrangian", "penalty alone"])
def test_a_slack_constraint_pushes_the_solution_by_what_theory_says(key, penalty):
    cap, noise, rate = 0.2, 0.5, 0.1
    residual, draw = noisy.shifted(cap, noise)
    dual = jc.dual_ascent(optax.sgd(rate)) if penalty is None else optax.set_to_zero()
    method = jc.alternating(
        *noisy.parabola(0.0, residual), optax.sgd(0.005), dual, penalty=penalty
    )
    found = noisy.rest(method, draw, key, steps=20_000)
    if penalty is None:
        theory = noisy.pushed(cap, lambda m: noisy.clamped_mean(rate, m, noise))
    else:
        theory = noisy.pushed(
            cap, lambda m: noisy.rectified_mean(-penalty * m, penalty * noise)
        )
    # Theory lets x stand still; that it moves a little adds some hundredths.
    assert abs(found.x.value - theory) < 5.0 * found.x.error + 0.03 * abs(theory)
    assert theory < -0.01


def test_noise_leaves_an_active_constraint_in_its_place(key):
    residual, draw = noisy.shifted(1.0, 0.5)
    method = jc.alternating(
        *noisy.parabola(2.0, residual), optax.sgd(0.01), jc.dual_ascent(optax.sgd(0.1))
    )
    found = noisy.rest(method, draw, key, steps=20_000)
    # The clamp is never met around lambda = 2, so the noise is averaged out.
    assert abs(found.x.value - 1.0) < 5.0 * found.x.error
    assert abs(found.multiplier.value - 2.0) < 5.0 * found.multiplier.error
