"""What clipping and balancing do: to a gradient, and to the point training ends at."""

import inspect
import re
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.integrate import solve_ivp

import jaxcon as jc
from jaxcon import penalties
from jaxcon.transforms import fired

# min |p - a|² / 2 subject to c p = b, in closed form.
A, C, B = np.array([3.0, 1.0]), np.array([1.0, 2.0]), 1.0
MULTIPLIER = (C @ A - B) / (C @ C)
OPTIMUM = A - MULTIPLIER * C
START = np.array([0.5, -1.0])
PLANE = jc.Constraints({"h": lambda p, _: jnp.asarray(C) @ p - B})
ASCENT = jc.dual_ascent(optax.sgd(0.1))


def loss(params, _):
    return 0.5 * jnp.sum((params - A) ** 2)


def penalised(weight):
    """Where |p - a|² / 2 + w (c p - b)² / 2 is least."""
    return A - weight * (C @ A - B) / (1 + weight * C @ C) * C


class End(NamedTuple):
    state: jc.PrimalDualState
    fired: dict[str, float]

    def error(self, expected):
        return np.abs(np.asarray(self.state.params) - expected).max()


def train(primal, dual, steps=4000, start=START, f=loss, held=PLANE, **options):
    """Where training ends, and how often each clip fired."""
    method = jc.alternating(f, held, primal, dual, **options)

    def step(state, _):
        state, info = method.step(state)
        return state, info.clipped

    run = jax.jit(partial(jax.lax.scan, step, length=steps))
    state, clipped = run(method.init(jnp.asarray(start, float)))
    return End(state, {name: float(rows.mean()) for name, rows in clipped.items()})


WHOLE = {
    "clip": optax.clip(0.1),
    "clip_by_global_norm": optax.clip_by_global_norm(0.1),
    "clip_by_block_rms": optax.clip_by_block_rms(0.1),
    "adaptive_grad_clip": optax.adaptive_grad_clip(0.05),
    "clip_by_percentile": jc.clip_by_percentile(),
    "clip_by_z_score": jc.clip_by_z_score(0.1, decay=0.5, warmup=2),
}


@pytest.mark.parametrize("name", WHOLE)
def test_a_clip_of_the_whole_gradient_keeps_point_and_multiplier(x64, name):
    clip = jc.counted("whole", WHOLE[name])
    # Damped: a clipped step beside a multiplier that is not may swing for ever.
    end = train(optax.chain(clip, optax.sgd(0.1)), ASCENT, penalty=0.3)
    assert end.error(OPTIMUM) < 1e-7
    assert abs(end.state.multipliers.equality["h"] - MULTIPLIER) < 1e-7
    assert end.fired["whole"] > 0.001


@pytest.mark.parametrize(
    "name", [name for name in WHOLE if name != "adaptive_grad_clip"]
)
def test_so_does_a_clip_of_what_the_multiplier_sees(x64, name):
    clip = jc.counted("seen", WHOLE[name])
    dual = jc.dual_ascent(optax.chain(clip, optax.sgd(0.1)))
    end = train(optax.sgd(0.1), dual)
    assert end.error(OPTIMUM) < 1e-7
    assert abs(end.state.multipliers.equality["h"] - MULTIPLIER) < 1e-7
    assert end.fired["dual seen"] > 0.001


def test_a_clipped_loss_keeps_the_point_and_shrinks_the_multiplier(x64):
    clip = optax.masked(optax.clip_by_global_norm(0.5), jc.Terms(True, False))
    end = train(optax.sgd(0.1), ASCENT, terms=clip, penalty=1.0)
    assert end.error(OPTIMUM) < 1e-7
    share = 0.5 / np.linalg.norm(MULTIPLIER * C)
    found = end.state.multipliers.equality["h"]
    np.testing.assert_allclose(found, share * MULTIPLIER, rtol=1e-7)


def test_two_short_parts_balance_a_clipped_loss(x64):
    # Constraints at right angles: each part is shorter than the loss's.
    axes = jc.Constraints({"x": lambda p, _: p[0] - 1.0, "y": lambda p, _: p[1] + 0.5})
    clip = jc.each_term(jc.counted("norm", optax.clip_by_global_norm(1.0)))
    end = train(optax.sgd(0.1), ASCENT, held=axes, terms=clip, penalty=1.0)
    assert end.error([1.0, -0.5]) < 1e-7
    found = [float(end.state.multipliers.equality[name]) for name in "xy"]
    np.testing.assert_allclose(found, np.array([2.0, 1.5]) / 2.5, rtol=1e-7)
    assert end.fired["norm: the loss"] > 0.9
    assert end.fired["norm: x"] < 0.1


@pytest.mark.parametrize(("limit", "kept"), [(1.0, False), (6.0, True)])
def test_parts_that_are_opposed_may_be_longer_than_the_clip(x64, limit, kept):
    # Both multipliers at the optimum are 5, and both gradients as long; the loss's is 1/2.
    opposed = jc.Constraints(
        {
            "up": lambda p, _: p[1] - 0.05 * p[0],
            "down": lambda p, _: -p[1] - 0.05 * p[0],
        }
    )
    end = train(
        optax.sgd(0.1),
        ASCENT,
        f=lambda p, _: -0.5 * p[0] + 0.5 * jnp.sum(p**2),
        held=opposed,
        start=[1.0, 0.0],
        terms=jc.each_term(jc.counted("norm", optax.clip_by_global_norm(limit))),
        penalty=1.0,
        steps=100_000,
    )
    assert (end.error([0.0, 0.0]) < 1e-7) == kept
    assert end.error([0.0, 0.0]) < 1e-7 or end.error([0.0, 0.0]) > 0.1


# A percentile keeps moving by its rate, 5 % a step: so does what it clips.
@pytest.mark.parametrize(
    ("clip", "tolerance"),
    [(jc.clip_by_percentile(), 5e-3), (jc.clip_by_z_score(), 1e-7)],
)
def test_a_constraint_that_is_met_at_first_is_not_forgotten(x64, clip, tolerance):
    cap = jc.Constraints(inequality={"cap": lambda p, _: p[0] - 1.0})
    end = train(
        optax.sgd(0.05),
        ASCENT,
        f=lambda p, _: 0.5 * (p[0] - 2.0) ** 2 + p[1] ** 2,
        held=cap,
        start=[-1.0, 1.0],
        terms=optax.masked(jc.each_term(clip), jc.Terms(False, True)),
        penalty=1.0,
    )
    assert end.error([1.0, 0.0]) < tolerance


def test_norms_that_were_all_alike_do_not_bind_for_ever():
    clip = jc.clip_by_z_score()
    state = clip.init(jnp.zeros(1))

    def step(state, norm):
        updates, state = clip.update(norm[None], state)
        return state, updates[0]

    norms = jnp.array([1.0] * 30 + [5.0] * 6000)
    _, passed = jax.lax.scan(step, state, norms)
    assert float(passed[31]) < 1.1
    assert float(passed[-1]) == 5.0


def test_one_part_as_long_as_the_loss_s_winds_up(x64):
    clip = jc.each_term(optax.clip_by_global_norm(0.5))
    end = train(optax.sgd(0.1), ASCENT, terms=clip)
    # Opposed and both clipped: at rest wherever the path met the line through a.
    t = (A - end.state.params) / C
    np.testing.assert_allclose(t[0], t[1], rtol=1e-6)
    assert end.error(OPTIMUM) > 0.1
    assert end.state.multipliers.equality["h"] > 10 * MULTIPLIER


def test_a_clipped_price_stops_where_the_loss_pulls_as_much(x64):
    clip = jc.each_term(optax.clip_by_global_norm(0.5))
    price = jc.fixed_price(2.0, penalties.quadratic)
    end = train(optax.sgd(0.01), price, start=A, terms=clip)
    expected = A - 0.5 * C / np.linalg.norm(C)
    assert end.error(expected) < 0.01 * np.linalg.norm(expected - A)


@pytest.mark.parametrize(
    ("ratio", "expected"), [(2.0, OPTIMUM), (1.1, OPTIMUM), (0.5, A)]
)
def test_bounded_constraints_obey_if_they_may_pull_more_than_the_loss(
    x64, ratio, expected
):
    end = train(
        optax.sgd(0.02), ASCENT, steps=20_000, terms=jc.bound_constraints(ratio)
    )
    assert end.error(expected) < 1e-7
    assert end.fired["constraints"] > 0.001


def test_a_clipped_residual_keeps_the_point(x64):
    held = jc.Constraints({"h": jc.clip_residual(PLANE.equality["h"], 0.1)})
    end = train(optax.sgd(0.1), ASCENT, held=held, penalty=1.0)
    assert end.error(OPTIMUM) < 1e-7
    assert abs(end.state.multipliers.equality["h"] - MULTIPLIER) < 1e-7


def test_a_clipped_residual_s_price_is_huber_s(x64):
    limit, weight = 0.1, 2.0
    held = jc.Constraints({"h": jc.clip_residual(PLANE.equality["h"], limit)})
    price = jc.fixed_price(weight, penalties.quadratic)
    end = train(optax.sgd(0.01), price, held=held)
    huber = train(
        optax.sgd(0.01), jc.fixed_price(weight, partial(penalties.huber, delta=limit))
    )
    expected = A - weight * limit * C
    assert end.error(expected) < 1e-7
    assert huber.error(expected) < 1e-7


def test_clipped_samples_move_the_mean_as_much_as_they_are_clipped_to(x64):
    y, limit = jnp.array([0.0, 0.0, 9.0]), 1.0
    f = jc.clip_each_example(lambda p, y: 0.5 * (p - y) ** 2, limit)
    end = train(
        optax.sgd(0.1),
        optax.set_to_zero(),
        start=0.0,
        f=lambda p, _: f(p, y),
        held=jc.Constraints(),
    )
    np.testing.assert_allclose(end.state.params, limit / 2, rtol=1e-7)


def test_clipped_weights_end_at_the_projection(x64):
    box = partial(optax.projections.projection_box, lower=-0.5, upper=2.0)
    end = train(jc.proximal(optax.sgd(0.1), box), optax.set_to_zero())
    assert end.error([2.0, 1.0]) < 1e-7


BALANCES = {
    "gradient norm": jc.balance_by_gradient_norm(),
    "relative loss": jc.balance_by_relative_loss(),
    "uncertainty": jc.balance_by_uncertainty(optax.adam(0.01), limit=20.0),
}


def test_a_hardly_violated_inequality_gets_no_weight_that_explodes():
    cap = jc.Constraints(inequality={"cap": lambda p, _: p - 1.0})
    price = jc.fixed_price(4.0, inequality=penalties.squared_hinge)
    method = jc.alternating(
        lambda p, noise: 0.5 * (p - 2.0 - noise) ** 2,
        cap,
        optax.sgd(0.05),
        price,
        terms=jc.balance_by_gradient_norm(),
    )

    def largest(key):
        def step(state, noise):
            state, info = method.step(state, noise)
            return state, (jnp.abs(state.params), info.finite)

        noise = 2 * jax.random.normal(key, (3000,))
        start = method.init(jnp.zeros(()), 0.0)
        _, (size, finite) = jax.lax.scan(step, start, noise)
        return jnp.max(size), jnp.all(finite)

    size, finite = jax.jit(jax.vmap(largest))(jax.random.split(jax.random.key(0), 20))
    assert np.all(finite)
    assert np.max(size) < 10  # 2 without the balance


@pytest.mark.parametrize("name", BALANCES)
def test_a_balanced_penalty_ends_as_the_weight_it_came_to(x64, name):
    price = jc.fixed_price(2.0, penalties.quadratic)
    end = train(optax.sgd(0.002), price, steps=20_000, terms=BALANCES[name])
    w = np.asarray(end.state.terms.weights)
    bias = penalised(2.0 * w[1] / w[0]) - OPTIMUM
    assert end.error(OPTIMUM + bias) < 0.01 * np.linalg.norm(bias)
    assert abs(w[1] / w[0] - 1) > 0.01
    if name == "uncertainty":
        np.testing.assert_allclose(w, [1 / loss(end.state.params, None), 20], rtol=1e-3)


def test_without_lookback_relative_losses_end_as_the_penalty_itself(x64):
    price = jc.fixed_price(2.0, penalties.quadratic)
    balance = jc.balance_by_relative_loss(lookback=1.0)
    end = train(optax.sgd(0.01), price, terms=balance)
    assert end.error(penalised(2.0)) < 1e-7


def test_settled_weights_are_other_units_of_the_multiplier(x64):
    balance = jc.balance_by_gradient_norm()
    end = train(optax.sgd(0.05), ASCENT, penalty=1.0, terms=balance)
    assert end.error(OPTIMUM) < 1e-7
    w = np.asarray(end.state.terms.weights)
    found = end.state.multipliers.equality["h"] * w[1] / w[0]
    np.testing.assert_allclose(found, MULTIPLIER, rtol=1e-7)
    assert abs(w[1] / w[0] - 1) > 0.01


def surgery(g, k):
    """Both gradients, each without what works against the other, added up."""
    if g @ k >= 0:
        return g + k
    return g - g @ k / (k @ k) * k + k - k @ g / (g @ g) * g


def equal_angles(g, k):
    u, v = g / np.linalg.norm(g), k / np.linalg.norm(k)
    d = (u + v) / np.linalg.norm(u + v)
    return (g @ d + k @ d) * d


@pytest.mark.parametrize(
    ("terms", "direction"),
    [(jc.project_conflicts(), surgery), (jc.conflict_free(), equal_angles)],
)
def test_shared_directions_stop_where_two_terms_are_opposed(x64, terms, direction):
    price = jc.fixed_price(2.0, penalties.quadratic)
    across = np.array([-C[1], C[0]]) / np.linalg.norm(C)
    start = A + across  # both can fall here
    end = train(optax.sgd(1e-3), price, steps=30_000, start=start, terms=terms)

    def flow(_, p):
        return -direction(p - A, 2.0 * (C @ p - B) * C)

    def opposed(_, p):
        return abs((p - A) @ across) - 1e-4

    opposed.terminal = True
    path = solve_ivp(flow, (0, 100), start, events=opposed, rtol=1e-9, atol=1e-12)
    expected = path.y[:, -1]
    bias = np.linalg.norm(expected - penalised(2.0))
    assert bias > 0.05
    assert end.error(expected) < 0.01 * bias


def test_there_a_multiplier_winds_up(x64):
    end = train(optax.sgd(0.05), ASCENT, terms=jc.conflict_free())
    assert end.error(OPTIMUM) > 0.1
    assert end.state.multipliers.equality["h"] > 100 * MULTIPLIER


# Gradients of a loss and two constraints over twenty calls, in four numbers each.
RNG = np.random.default_rng(0)
GRADIENTS = RNG.normal(size=(20, 3, 4)) * np.geomspace(1, 30, 20)[:, None, None]
VALUES = RNG.uniform(0.1, 2.0, size=(20, 3))
RATE, P, LIMIT, DECAY, RHO, T = 0.3, 40.0, 0.7, 0.6, 0.8, 1.5


def percentile(gradients, _):
    threshold = None
    for g in gradients:
        norm = np.linalg.norm(g)
        highest = norm if threshold is None else threshold
        yield g * min(1, highest / norm)
        threshold = highest * np.exp(-RATE * ((norm <= highest) - P / 100))


def z_score(gradients, _):
    norms = [np.linalg.norm(g) for g in gradients]
    mean, variance = np.mean(norms[:3]), np.var(norms[:3])
    yield from gradients[:3]
    for g, norm in zip(gradients[3:], norms[3:]):
        deviation = max(np.sqrt(variance), mean / 10)
        z = (norm - mean) / deviation
        left = mean + LIMIT**2 / z * deviation if z > LIMIT else norm
        yield g * left / norm
        mean = DECAY * mean + (1 - DECAY) * left
        variance = DECAY * variance + (1 - DECAY) * (left - mean) ** 2


def each(gradients, _):
    for terms in gradients:
        yield terms * np.minimum(1, LIMIT / np.linalg.norm(terms, axis=1))[:, None]


def bounded(gradients, _):
    for f, *parts in gradients:
        most = LIMIT * np.linalg.norm(f)
        yield (
            np.stack([f, *parts])
            * np.array([1, *[min(1, most / np.linalg.norm(sum(parts)))] * 2])[:, None]
        )


def gradient_norm(gradients, _):
    n = np.zeros(3)
    for terms in gradients:
        n = DECAY * n + (1 - DECAY) * np.linalg.norm(terms, axis=1)
        yield (n.sum() / n)[:, None] * terms


def softmax(x):
    return np.exp(x) / np.exp(x).sum()


def relative_loss(gradients, values):
    w, before = np.ones(3), None
    for terms, now in zip(gradients, values):
        if before is not None:
            first = 3 * softmax(now / T / values[0])
            last = 3 * softmax(now / T / before)
            w = DECAY * (RHO * w + (1 - RHO) * first) + (1 - DECAY) * last
        before = now
        yield w[:, None] * terms


def uncertainty(gradients, values):
    s = np.zeros(3)
    for terms, now in zip(gradients, values):
        s = s - RATE * (1 - np.exp(-s) * now) / 2
        yield np.exp(-s)[:, None] * terms


def pcgrad(gradients, _):
    for t, terms in enumerate(gradients):
        key = jax.random.fold_in(jax.random.key(5), t)
        moved = terms.copy()
        for i in range(3):
            for j in np.asarray(jax.random.permutation(key, 3)):
                if i != j and (along := moved[i] @ terms[j]) < 0:
                    moved[i] -= along / (terms[j] @ terms[j]) * terms[j]
        yield moved


def config(gradients, _):
    for terms in gradients:
        units = terms / np.linalg.norm(terms, axis=1)[:, None]
        v = np.linalg.pinv(units) @ np.ones(3)
        u = v / np.linalg.norm(v)
        yield (terms @ u).sum() * u


# transform: the formulas of its docstring, one of it, and the same in NumPy; of the sum
# for those that share a direction.
TERMS = {
    jc.each_term: (
        [r"T(\nabla f) + \textstyle\sum_i T(\lambda_i \nabla g_i)"],
        jc.each_term(optax.clip_by_global_norm(LIMIT)),
        each,
    ),
    jc.bound_constraints: (
        [r"g_c \min\left(1, \frac{\kappa \|\nabla f\|}{\|g_c\|}\right)"],
        jc.bound_constraints(LIMIT),
        bounded,
    ),
    jc.balance_by_gradient_norm: (
        [
            r"w_i = \frac{\sum_j n_j}{n_i}",
            r"n_i \leftarrow \alpha n_i + (1 - \alpha) \|g_i\|",
        ],
        jc.balance_by_gradient_norm(DECAY),
        gradient_norm,
    ),
    jc.balance_by_relative_loss: (
        [
            r"\alpha \left( \rho\, w_i + (1 - \rho)\, b_i(0) \right) "
            r"+ (1 - \alpha)\, b_i(t - 1)",
            r"m \operatorname{softmax}_i \frac{L_i(t)}{T L_i(s)}",
        ],
        jc.balance_by_relative_loss(DECAY, RHO, T),
        relative_loss,
    ),
    jc.balance_by_uncertainty: (
        [r"\sum_i \tfrac12 e^{-s_i} L_i(\theta) + \tfrac12 s_i", r"w_i = e^{-s_i}"],
        jc.balance_by_uncertainty(optax.sgd(RATE)),
        uncertainty,
    ),
    jc.project_conflicts: (
        [
            r"g_i - \frac{g_i^\top g_j}{\|g_j\|^2}\, g_j",
            r"\text{where } g_i^\top g_j < 0",
        ],
        jc.project_conflicts(seed=5),
        pcgrad,
    ),
    jc.conflict_free: (
        [r"\left( \sum_i g_i^\top u \right) u", r"v = (U^\top)^+ 1"],
        jc.conflict_free(),
        config,
    ),
}
CLIPS = {
    jc.clip_by_percentile: (
        [r"\log C - \eta \left( 1_{\|g\| \le C} - \tfrac{p}{100} \right)"],
        jc.clip_by_percentile(P, RATE),
        percentile,
    ),
    jc.clip_by_z_score: (
        [r"z = \frac{\|g\| - \mu}{\sigma}", r"\mu + \frac{z_0^2}{z}\, \sigma"],
        jc.clip_by_z_score(LIMIT, DECAY, warmup=3),
        z_score,
    ),
}


def as_terms(rows):
    f, h, g = map(jnp.asarray, rows)
    return jc.Terms(f, jc.Constraints({"h": h}, {"g": g}))


def follow(transform, gradients, values, wrap):
    """What a transform makes of each gradient, in its own state's time."""
    transform = optax.with_extra_args_support(transform)
    state = transform.init(wrap(gradients[0]))
    for rows, value in zip(gradients, values):
        updates, state = transform.update(
            wrap(rows), state, wrap(rows), values=as_terms(value)
        )
        yield np.stack(updates.entries()) if isinstance(updates, jc.Terms) else updates


@pytest.mark.parametrize("function", TERMS | CLIPS, ids=lambda f: f.__name__)
def test_the_formula_stands_in_the_docstring_and_is_the_transform(x64, function):
    formulas, transform, in_numpy = (TERMS | CLIPS)[function]
    words = " ".join(inspect.getdoc(function).split())
    for formula in formulas:
        assert formula in words
    whole = function in CLIPS
    gradients = GRADIENTS.reshape(20, 12) if whole else GRADIENTS
    found = list(
        follow(transform, gradients, VALUES, jnp.asarray if whole else as_terms)
    )
    expected, plain = list(in_numpy(gradients, VALUES)), gradients
    if function in (jc.conflict_free, jc.project_conflicts):
        # A direction is shared: what each term adds to it is nobody's concern.
        found, plain = np.sum(found, 1), np.sum(gradients, 1)
        expected = [np.reshape(rows, (-1, 4)).sum(0) for rows in expected]
    # Sums of a few numbers below 1,000: some roundings of float64.
    np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-11)
    assert not np.allclose(found, plain)


def test_the_percentile_is_met_whatever_the_norms_are(x64):
    p, rate, steps = 25.0, 0.02, 5000
    norms = np.random.default_rng(1).lognormal(size=steps) * np.geomspace(
        9, 0.01, steps
    )
    clip = jc.clip_by_percentile(p, rate)

    def step(state, norm):
        _, state = clip.update(norm[None], state)
        return state, state.memory.threshold

    state, threshold = jax.lax.scan(step, clip.init(jnp.zeros(1)), norms)
    identity = p / 100 - np.log(threshold[-1] / norms[0]) / (rate * steps)
    np.testing.assert_allclose(
        1 - fired(state)["percentile"] / steps, identity, rtol=1e-9
    )


@pytest.mark.parametrize(
    "clip", [jc.clip_by_percentile(), jc.clip_by_z_score(warmup=2)]
)
@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_what_is_not_finite_is_not_remembered(clip, broken):
    state = clip.init(jnp.zeros(2))
    for size in (1.0, 2.0, 1.5):
        _, state = clip.update(jnp.array([size, 0.0]), state)
    updates, after = clip.update(jnp.array([broken, 1.0]), state)
    for new, old in zip(jax.tree.leaves(after.memory), jax.tree.leaves(state.memory)):
        np.testing.assert_array_equal(new, old)
    assert not np.isfinite(updates).all() or not np.isfinite(broken)


def test_a_point_that_obeys_is_left_to_the_loss():
    terms = jc.Terms(
        jnp.array([1.0, 2.0]), jc.Constraints({"h": jnp.zeros(2)}, {"g": jnp.zeros(2)})
    )
    for function, (_, transform, _) in TERMS.items():
        if function in (jc.each_term, jc.balance_by_gradient_norm):
            continue  # the one clips the loss too; the other weighs it
        values = jc.Terms(
            jnp.array(1.0), jc.Constraints({"h": jnp.array(0.0)}, {"g": jnp.array(0.0)})
        )
        transform = optax.with_extra_args_support(transform)
        moved, _ = transform.update(terms, transform.init(terms), terms, values=values)
        np.testing.assert_allclose(
            sum(moved.entries()) / sum(moved.entries())[0], [1.0, 2.0], rtol=1e-6
        )


def test_gradients_of_single_terms_add_up_to_that_of_the_objective():
    held = jc.Constraints(
        {"h": lambda p, _: jnp.sum(p) - 1.0}, {"g": lambda p, _: p**2 - 0.5}
    )
    method = jc.simultaneous(loss, held, optax.sgd(0.1), ASCENT, penalty=2.0)
    state = method.init(START)
    for _ in range(3):
        state, _ = method.step(state)
    terms = method.gradients(state)

    def objective(p):
        return jc.augmented_lagrangian(
            loss(p, None), jc.evaluate(held, p), state.multipliers, 2.0
        )

    np.testing.assert_allclose(
        sum(terms.entries()), jax.grad(objective)(state.params), rtol=1e-5
    )
    np.testing.assert_allclose(terms.loss, state.params - A, rtol=1e-6)


def test_constraints_of_one_pass_are_told_apart(key):
    def f(params, x):
        return jnp.tanh(x @ params["w"]) @ params["v"]

    shapes = {
        "rises": jc.shapes.increasing(f, 0, on="points"),
        "bends": jc.shapes.convex(f, 1, on="points"),
    }
    params = {"w": jax.random.normal(key, (2, 5)), "v": jnp.ones(5)}
    batch = {"points": jax.random.normal(key, (7, 2))}
    together = jc.Constraints(inequality=shapes)

    def norm_of(held):
        method = jc.alternating(
            lambda p, _: jnp.sum(p["v"] ** 2), held, optax.sgd(0.1), ASCENT, penalty=3.0
        )
        state = method.init(params, batch)
        return jax.jit(method.gradients)(state, batch).constraints.inequality

    both = norm_of(together)
    for name, shape in shapes.items():
        alone = norm_of(jc.Constraints(inequality={name: shape}))[name]
        for ours, theirs in zip(jax.tree.leaves(both[name]), jax.tree.leaves(alone)):
            np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_the_sum_of_terms_left_alone_is_the_plain_step():
    for order in (jc.simultaneous, jc.alternating, jc.extragradient):
        runs = []
        for terms in (None, optax.identity()):
            method = order(
                loss, PLANE, optax.adam(0.1), ASCENT, penalty=2.0, terms=terms
            )
            state = method.init(START)
            for _ in range(5):
                state, _ = method.step(state)
            runs.append(state.params)
        np.testing.assert_allclose(*runs, rtol=1e-6)


def test_terms_see_parameters_and_values():
    seen = {}

    def update(updates, state, params=None, *, values, **extra):
        seen.update(params=params, values=values)
        return updates, state

    spy = optax.GradientTransformationExtraArgs(lambda _: (), update)
    method = jc.simultaneous(
        loss, PLANE, optax.sgd(0.1), ASCENT, penalty=2.0, terms=spy
    )
    state = method.init(START)
    method.step(state)
    h = C @ np.asarray(START) - B
    np.testing.assert_allclose(seen["values"].loss, loss(START, None), rtol=1e-6)
    np.testing.assert_allclose(
        seen["values"].constraints.equality["h"], h**2, rtol=1e-6
    )
    np.testing.assert_array_equal(seen["params"].constraints.equality["h"], START)


# Where squares of these would overflow, and where they would vanish.
@pytest.mark.parametrize(
    ("dtype", "scale"),
    [
        (jnp.float16, 300.0),
        (jnp.float16, 1e-4),
        pytest.param(jnp.bfloat16, 300.0, marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize(
    "function",
    [f for f in TERMS | CLIPS if f is not jc.each_term],  # that is optax's own clip
    ids=lambda f: f.__name__,
)
def test_half_precision_does_not_overflow_or_vanish(function, dtype, scale):
    _, transform, _ = (TERMS | CLIPS)[function]
    rng = np.random.default_rng(4)
    # Norms that differ: of equal ones, rounding says which is above the other.
    rows = [scale * s * rng.normal(size=(3, 100)) for s in rng.uniform(0.2, 2, size=9)]
    wrap = as_terms if function in TERMS else jnp.asarray
    half, single = ([wrap(r.astype(t)) for r in rows] for t in (dtype, jnp.float32))
    found, expected = (
        list(follow(transform, gradients, VALUES, lambda g: g))
        for gradients in (half, single)
    )
    assert found[0].dtype == dtype
    # The numbers themselves are kept to some parts in a hundred, or in a thousand.
    share = 4 * float(jnp.finfo(dtype).eps)
    error = np.abs(np.asarray(found, float) - np.asarray(expected, float)).max()
    assert error < 4 * share * np.abs(np.asarray(expected, float)).max()


@pytest.mark.parametrize(
    "clip",
    [jc.clip_by_percentile(), jc.clip_by_z_score(), jc.counted("n", optax.clip(1))],
)
def test_there_may_be_nothing_to_clip(clip):
    state = clip.init(jc.Constraints())
    updates, _ = clip.update(jc.Constraints(), state)
    assert updates == jc.Constraints()


def test_a_constraint_may_itself_be_a_pytree():
    half = jax.tree_util.Partial(lambda a, p, _: jnp.sum(p) - a, 0.5)
    method = jc.simultaneous(
        loss,
        jc.Constraints({"h": half}),
        optax.sgd(0.1),
        ASCENT,
        terms=optax.trace(0.9),
    )
    _, info = method.step(method.init(START.astype(np.float32)))
    assert info.finite


def test_a_transform_with_a_key_balances_too():
    noisy = jc.balance_by_uncertainty(optax.noisy_sgd(0.1, key=jax.random.key(0)))
    terms = as_terms(GRADIENTS[0].astype(np.float32))
    _, state = noisy.update(terms, noisy.init(terms), values=as_terms(VALUES[0]))
    assert np.isfinite(state.weights).all()


def test_a_clip_that_waits_is_not_counted():
    clip = jc.counted("norm", optax.clip_by_global_norm(1e-3))
    primal = optax.MultiSteps(optax.chain(clip, optax.sgd(0.1)), 3)
    method = jc.simultaneous(
        loss, jc.Constraints(), primal.gradient_transformation(), optax.set_to_zero()
    )
    state, seen = method.init(START), []
    for _ in range(6):
        state, info = method.step(state)
        seen.append(bool(info.clipped["norm"]))
    assert seen == [False, False, True] * 2


def test_a_nan_that_passes_a_clip_is_no_clipping():
    clip = jc.counted("norm", optax.clip(1.0))
    _, state = clip.update(jnp.array([np.nan, 0.5]), clip.init(jnp.zeros(2)))
    assert int(fired(state)["norm"]) == 0


def test_a_clip_counted_inside_others_is_found():
    clip = jc.counted("inner", optax.clip(0.1))
    primal = optax.MultiSteps(optax.chain(jc.counted("outer", clip), optax.sgd(0.1)), 1)
    dual = {"h": jc.every(jc.dual_ascent(optax.chain(clip, optax.sgd(0.1))), 1)}
    method = jc.simultaneous(loss, PLANE, primal.gradient_transformation(), dual)
    _, info = method.step(method.init(START))
    assert {name: bool(flag) for name, flag in info.clipped.items()} == {
        "outer": True,
        "inner": True,
        "dual inner: h": True,
    }


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: jc.clip_by_percentile(100.0), "in (0, 100)"),
        (lambda: jc.clip_by_percentile(rate=0.0), "rate must be > 0"),
        (lambda: jc.clip_by_z_score(warmup=1), "at least 2"),
        (lambda: jc.clip_by_z_score(decay=1.0), "in (0, 1)"),
        (lambda: jc.clip_by_z_score(-1.0), "limit must be > 0"),
        (lambda: jc.bound_constraints(0.0), "ratio must be > 0"),
        (lambda: jc.clip_residual(lambda p, b: p, 0.0), "limit must be > 0"),
        (lambda: jc.clip_each_example(lambda p, b: p, 0.0), "max_norm must be > 0"),
        (lambda: jc.balance_by_gradient_norm(1.0), "in [0, 1)"),
        (lambda: jc.balance_by_relative_loss(lookback=2.0), "in [0, 1]"),
        (lambda: jc.balance_by_relative_loss(temperature=0.0), "temperature must be"),
        (lambda: jc.balance_by_uncertainty(optax.sgd(0.1), 1.0), "limit must be > 1"),
    ],
)
def test_numbers_out_of_range_are_refused(make, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        make()


@pytest.mark.parametrize("wrap", [jc.each_term, partial(jc.counted, "name")])
def test_what_is_no_transform_is_refused(wrap):
    with pytest.raises(TypeError, match="must be an optax transform"):
        wrap(0.1)
    with pytest.raises(TypeError, match="terms must be an optax transform"):
        jc.alternating(loss, PLANE, optax.sgd(0.1), ASCENT, terms=0.1)


def test_values_are_asked_for_where_they_are_needed():
    balance = jc.balance_by_relative_loss()
    terms = as_terms(GRADIENTS[0])
    with pytest.raises(ValueError, match="terms= of an order"):
        balance.update(terms, balance.init(terms))
