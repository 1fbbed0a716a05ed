"""What clipping and balancing do: to a gradient, and to the point training ends at."""

import inspect
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tables import assert_each, assert_refused

import jaxcon as jc
from jaxcon import penalties
from jaxcon.transforms import fired

# min |p - a|² / 2 subject to c p = b, in closed form.
A, C, B = np.array([3.0, 1.0]), np.array([1.0, 2.0]), 1.0
MULTIPLIER = (C @ A - B) / (C @ C)
OPTIMUM = A - MULTIPLIER * C
START = np.array([0.5, -1.0])
PLANE = jc.Constraints({"h": lambda p, _: C.astype(p.dtype) @ p - B})
ASCENT = jc.dual_ascent(optax.sgd(0.1))


def loss(params, _):
    return 0.5 * jnp.sum((params - A) ** 2)


def penalised(weight):
    """Where |p - a|² / 2 + w (c p - b)² / 2 is least."""
    return A - weight * (C @ A - B) / (1 + weight * C @ C) * C


class End(NamedTuple):
    state: jc.PrimalDualState
    each: dict[str, np.ndarray]  # whether each clip fired, step by step

    @property
    def fired(self):
        """The share of steps at which each clip fired."""
        return {name: float(np.mean(rows)) for name, rows in self.each.items()}

    def error(self, expected):
        return np.abs(np.asarray(self.state.params) - expected).max()


def train(
    primal, dual, steps=4000, start=START, f=loss, held=PLANE, penalty=None, **options
):
    """Where training ends, and how often each clip fired."""
    solver = jc.alternating(
        jc.Lagrangian(f, held, penalty=penalty), primal, dual, **options
    )

    def step(state, _):
        state, info = solver.step(state)
        return state, info.clipped

    run = jax.jit(partial(jax.lax.scan, step, length=steps))
    state, clipped = run(solver.init(jnp.asarray(start, float)))
    return End(state, jax.device_get(clipped))


WHOLE = {
    "clip": optax.clip(0.1),
    "clip_by_global_norm": optax.clip_by_global_norm(0.1),
    "clip_by_block_rms": optax.clip_by_block_rms(0.1),
    "adaptive_grad_clip": optax.adaptive_grad_clip(0.05),
    "clip_by_percentile": jc.clip_by_percentile(),
    "clip_by_z_score": jc.clip_by_z_score(0.1, decay=0.5, warmup=2),
}


@pytest.mark.parametrize("name", WHOLE)
def test_clips_of_the_whole_gradient_keep_point_and_multiplier(x64, name):
    clip = jc.counted("whole", WHOLE[name])
    # Damped: a clipped step beside a multiplier that is not may swing for ever.
    end = train(optax.chain(clip, optax.sgd(0.1)), ASCENT, penalty=0.3)
    assert end.error(OPTIMUM) < 1e-7
    assert abs(end.state.multipliers.equality["h"] - MULTIPLIER) < 1e-7
    assert end.fired["whole"] >= 0.001


@pytest.mark.parametrize(
    "name", [name for name in WHOLE if name != "adaptive_grad_clip"]
)
def test_clips_of_what_the_multiplier_sees_keep_point_and_multiplier(x64, name):
    clip = jc.counted("seen", WHOLE[name])
    dual = jc.dual_ascent(optax.chain(clip, optax.sgd(0.1)))
    end = train(optax.sgd(0.1), dual)
    assert end.error(OPTIMUM) < 1e-7
    assert abs(end.state.multipliers.equality["h"] - MULTIPLIER) < 1e-7
    assert end.fired["dual seen"] > 0.001


def test_clip_of_the_loss_keeps_the_point_and_shrinks_the_multiplier(x64):
    clip = optax.masked(optax.clip_by_global_norm(0.5), jc.GradientTerms(True, False))
    end = train(optax.sgd(0.1), ASCENT, per_term=clip, penalty=1.0)
    assert end.error(OPTIMUM) < 1e-7
    share = 0.5 / np.linalg.norm(MULTIPLIER * C)
    found = end.state.multipliers.equality["h"]
    np.testing.assert_allclose(found, share * MULTIPLIER, rtol=1e-7)


def test_each_term_lets_two_short_parts_balance_a_clipped_loss(x64):
    # Constraints at right angles: each part is shorter than the loss's.
    axes = jc.Constraints({"x": lambda p, _: p[0] - 1.0, "y": lambda p, _: p[1] + 0.5})
    clip = jc.each_term(jc.counted("norm", optax.clip_by_global_norm(1.0)))
    end = train(optax.sgd(0.1), ASCENT, held=axes, per_term=clip, penalty=1.0)
    assert end.error([1.0, -0.5]) < 1e-7
    found = [float(end.state.multipliers.equality[name]) for name in "xy"]
    np.testing.assert_allclose(found, np.array([2.0, 1.5]) / 2.5, rtol=1e-7)
    assert end.fired["norm: the loss"] > 0.9
    assert end.fired["norm: x"] < 0.1


@pytest.mark.parametrize(("limit", "kept"), [(1.0, False), (6.0, True)])
def test_each_term_keeps_the_point_if_its_limit_is_above_opposed_parts(
    x64, limit, kept
):
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
        per_term=jc.each_term(jc.counted("norm", optax.clip_by_global_norm(limit))),
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
def test_clips_by_past_norms_do_not_forget_a_constraint_met_at_first(
    x64, clip, tolerance
):
    cap = jc.Constraints(inequality={"cap": lambda p, _: p[0] - 1.0})
    end = train(
        optax.sgd(0.05),
        ASCENT,
        f=lambda p, _: 0.5 * (p[0] - 2.0) ** 2 + p[1] ** 2,
        held=cap,
        start=[-1.0, 1.0],
        per_term=optax.masked(jc.each_term(clip), jc.GradientTerms(False, True)),
        penalty=1.0,
    )
    assert end.error([1.0, 0.0]) < tolerance


def test_clip_by_z_score_is_not_bound_for_ever_by_norms_that_were_alike():
    clip = jc.clip_by_z_score()
    state = clip.init(jnp.zeros(1))

    def step(state, norm):
        updates, state = clip.update(norm[None], state)
        return state, updates[0]

    norms = jnp.array([1.0] * 30 + [5.0] * 6000)
    _, passed = jax.lax.scan(step, state, norms)
    assert float(passed[31]) < 1.1
    assert float(passed[-1]) == 5.0


def test_each_term_winds_up_where_one_part_is_as_long_as_the_loss_s(x64):
    clip = jc.each_term(optax.clip_by_global_norm(0.5))
    end = train(optax.sgd(0.1), ASCENT, per_term=clip)
    # Opposed and both clipped: at rest wherever the path met the line through a.
    t = (A - end.state.params) / C
    np.testing.assert_allclose(t[0], t[1], rtol=1e-6)
    assert end.error(OPTIMUM) > 0.1
    assert end.state.multipliers.equality["h"] > 10 * MULTIPLIER


def test_each_term_of_a_fixed_price_stops_where_the_loss_pulls_as_much(x64):
    clip = jc.each_term(optax.clip_by_global_norm(0.5))
    price = jc.fixed_penalty(2.0, penalties.quadratic)
    end = train(optax.sgd(0.01), price, start=A, per_term=clip)
    expected = A - 0.5 * C / np.linalg.norm(C)
    assert end.error(expected) < 0.01 * np.linalg.norm(expected - A)


@pytest.mark.parametrize(
    ("ratio", "expected"), [(2.0, OPTIMUM), (1.1, OPTIMUM), (0.5, A)]
)
def test_bound_constraints_obeys_if_they_may_pull_more_than_the_loss(
    x64, ratio, expected
):
    end = train(
        optax.sgd(0.02), ASCENT, steps=20_000, per_term=jc.bound_constraints(ratio)
    )
    assert end.error(expected) < 1e-7
    assert end.fired["constraints"] > 0.001


def test_clip_residual_keeps_the_point(x64):
    held = jc.Constraints({"h": jc.clip_residual(PLANE.equality["h"], 0.1)})
    end = train(optax.sgd(0.1), ASCENT, held=held, penalty=1.0)
    assert end.error(OPTIMUM) < 1e-7
    assert abs(end.state.multipliers.equality["h"] - MULTIPLIER) < 1e-7


def test_clip_residual_under_a_fixed_price_is_huber_s_penalty(x64):
    limit, weight = 0.1, 2.0
    held = jc.Constraints({"h": jc.clip_residual(PLANE.equality["h"], limit)})
    price = jc.fixed_penalty(weight, penalties.quadratic)
    end = train(optax.sgd(0.01), price, held=held)
    huber = train(
        optax.sgd(0.01), jc.fixed_penalty(weight, partial(penalties.huber, delta=limit))
    )
    expected = A - weight * limit * C
    assert end.error(expected) < 1e-7
    assert huber.error(expected) < 1e-7


def test_clip_each_example_moves_the_mean_by_what_it_clips_to(x64):
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


def test_proximal_of_a_box_ends_at_the_projection(x64):
    box = partial(optax.projections.projection_box, lower=-0.5, upper=2.0)
    end = train(jc.proximal(optax.sgd(0.1), box), optax.set_to_zero())
    assert end.error([2.0, 1.0]) < 1e-7


BALANCES = {
    "gradient norm": jc.balance_by_gradient_norm(),
    "relative loss": jc.balance_by_relative_loss(),
    "uncertainty": jc.balance_by_uncertainty(optax.adam(0.01), limit=20.0),
}


def test_balance_by_gradient_norm_does_not_explode_for_a_hardly_violated_one():
    cap = jc.Constraints(inequality={"cap": lambda p, _: p - 1.0})
    price = jc.fixed_penalty(4.0, inequality=penalties.squared_hinge)
    solver = jc.alternating(
        jc.Lagrangian(lambda p, noise: 0.5 * (p - 2.0 - noise) ** 2, cap),
        optax.sgd(0.05),
        price,
        per_term=jc.balance_by_gradient_norm(),
    )

    def largest(key):
        def step(state, noise):
            state, info = solver.step(state, noise)
            return state, (jnp.abs(state.params), info.finite)

        noise = 2 * jax.random.normal(key, (3000,))
        start = solver.init(jnp.zeros(()), 0.0)
        _, (size, finite) = jax.lax.scan(step, start, noise)
        return jnp.max(size), jnp.all(finite)

    size, finite = jax.jit(jax.vmap(largest))(jax.random.split(jax.random.key(0), 20))
    assert np.all(finite)
    assert np.max(size) < 10  # 2 without the balance


@pytest.mark.parametrize("name", BALANCES)
def test_balances_end_as_the_weight_they_came_to(x64, name):
    price = jc.fixed_penalty(2.0, penalties.quadratic)
    end = train(optax.sgd(0.002), price, steps=20_000, per_term=BALANCES[name])
    w = np.asarray(end.state.terms.weights)
    bias = penalised(2.0 * w[1] / w[0]) - OPTIMUM
    assert end.error(OPTIMUM + bias) < 0.01 * np.linalg.norm(bias)
    assert abs(w[1] / w[0] - 1) > 0.01
    if name == "uncertainty":
        np.testing.assert_allclose(w, [1 / loss(end.state.params, None), 20], rtol=1e-3)


def test_balance_by_relative_loss_without_lookback_ends_as_the_penalty_itself(x64):
    price = jc.fixed_penalty(2.0, penalties.quadratic)
    balance = jc.balance_by_relative_loss(lookback=1.0)
    end = train(optax.sgd(0.01), price, per_term=balance)
    assert end.error(penalised(2.0)) < 1e-7


def test_balance_by_gradient_norm_settles_in_other_units_of_the_multiplier(x64):
    balance = jc.balance_by_gradient_norm()
    end = train(optax.sgd(0.05), ASCENT, penalty=1.0, per_term=balance)
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
def test_conflict_transforms_stop_where_two_terms_are_opposed(x64, terms, direction):
    from scipy.integrate import solve_ivp

    price = jc.fixed_penalty(2.0, penalties.quadratic)
    across = np.array([-C[1], C[0]]) / np.linalg.norm(C)
    start = A + across  # both can fall here
    end = train(optax.sgd(1e-3), price, steps=30_000, start=start, per_term=terms)

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


def test_conflict_free_lets_a_multiplier_wind_up(x64):
    end = train(optax.sgd(0.05), ASCENT, per_term=jc.conflict_free())
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
    f, h, g = rows
    return jc.GradientTerms(f, jc.Constraints({"h": h}, {"g": g}))


@partial(jax.jit, static_argnums=0)
def follow(transform, gradients, values):
    """What a transform makes of stacked gradients, in its own state's time.

    Gradients (calls, terms, n) are those of terms, (calls, n) those of one function.
    """
    transform = optax.with_extra_args_support(transform)
    wrap = as_terms if gradients.ndim == 3 else jnp.asarray

    def step(state, now):
        rows, value = now
        updates, state = transform.update(
            wrap(rows), state, wrap(rows), values=as_terms(value)
        )
        terms = isinstance(updates, jc.GradientTerms)
        return state, jnp.stack(updates.entries()) if terms else updates

    start = transform.init(wrap(gradients[0]))
    return jax.lax.scan(step, start, (gradients, values))[1]


@pytest.mark.parametrize("function", TERMS | CLIPS, ids=lambda f: f.__name__)
def test_docstring_formula_is_what_the_transform_does(x64, function):
    formulas, transform, in_numpy = (TERMS | CLIPS)[function]
    words = " ".join(inspect.getdoc(function).split())
    for formula in formulas:
        assert formula in words
    gradients = GRADIENTS.reshape(20, 12) if function in CLIPS else GRADIENTS
    found = np.array(follow(transform, gradients, VALUES))
    expected, plain = list(in_numpy(gradients, VALUES)), gradients
    if function in (jc.conflict_free, jc.project_conflicts):
        # A direction is shared: what each term adds to it is nobody's concern.
        found, plain = np.sum(found, 1), np.sum(gradients, 1)
        expected = [np.reshape(rows, (-1, 4)).sum(0) for rows in expected]
    # Sums of a few numbers below 1,000: some roundings of float64.
    np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-11)
    assert not np.allclose(found, plain)


def test_clip_by_percentile_meets_its_percentile_whatever_the_norms_are(x64):
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
def test_clips_do_not_remember_what_is_not_finite(clip):
    update = jax.jit(clip.update)
    state = clip.init(jnp.zeros(2))
    for size in (1.0, 2.0, 1.5):
        _, state = update(np.float32([size, 0.0]), state)
    for broken in (np.nan, np.inf):
        updates, after = update(np.float32([broken, 1.0]), state)
        jax.tree.map(np.testing.assert_array_equal, after.memory, state.memory)
        assert not np.isfinite(updates).all() or not np.isfinite(broken)


def test_terms_transforms_leave_a_point_that_obeys_to_the_loss():
    zero = np.zeros(2, np.float32)
    terms = as_terms([np.float32([1.0, 2.0]), zero, zero])
    values = as_terms(np.float32([1.0, 0.0, 0.0]))
    # each_term clips the loss too, and the balance by gradient norms weighs it.
    others = TERMS.keys() - {jc.each_term, jc.balance_by_gradient_norm}

    @jax.jit
    def sums(terms, values):
        moved = []
        for function in others:
            transform = optax.with_extra_args_support(TERMS[function][1])
            state = transform.init(terms)
            updates, _ = transform.update(terms, state, terms, values=values)
            moved.append(sum(updates.entries()))
        return moved

    for total in sums(terms, values):
        np.testing.assert_allclose(total / total[0], [1.0, 2.0], rtol=1e-6)


def test_gradients_of_single_terms_add_up_to_that_of_the_objective():
    held = jc.Constraints(
        {"h": lambda p, _: jnp.sum(p) - 1.0}, {"g": lambda p, _: p**2 - 0.5}
    )
    solver = jc.simultaneous(
        jc.Lagrangian(loss, held, penalty=2.0), optax.sgd(0.1), ASCENT
    )

    @jax.jit
    def after_three_steps(start):
        step = lambda state, _: (solver.step(state)[0], None)  # noqa: E731
        state, _ = jax.lax.scan(step, solver.init(start), length=3)

        def objective(p):
            return jc.augmented_lagrangian(
                loss(p, None), jc.evaluate(held, p), state.multipliers, 2.0
            )

        return state.params, solver.gradients(state), jax.grad(objective)(state.params)

    params, terms, gradient = after_three_steps(jnp.asarray(START, float))
    np.testing.assert_allclose(sum(terms.entries()), gradient, rtol=1e-5)
    np.testing.assert_allclose(terms.loss, params - A.astype(np.float32), rtol=1e-6)


def test_gradients_of_constraints_that_share_a_pass_are_told_apart(key):
    def f(params, x):
        return jnp.tanh(x @ params["w"]) @ params["v"]

    shapes = {
        "rises": jc.shapes.increasing(f, 0, on="points"),
        "bends": jc.shapes.convex(f, 1, on="points"),
    }
    params = {"w": jax.random.normal(key, (2, 5)), "v": jnp.ones(5)}
    batch = {"points": jax.random.normal(key, (7, 2))}

    def gradients(names):
        held = jc.Constraints(inequality={name: shapes[name] for name in names})
        solver = jc.alternating(
            jc.Lagrangian(lambda p, _: jnp.sum(p["v"] ** 2), held, penalty=3.0),
            optax.sgd(0.1),
            ASCENT,
        )
        state = solver.init(params, batch)
        return solver.gradients(state, batch).constraints.inequality

    both, *alone = jax.jit(
        lambda: [gradients(names) for names in (list(shapes), *([n] for n in shapes))]
    )()
    for name, one in zip(shapes, alone):
        assert any(np.any(leaf != 0) for leaf in jax.tree.leaves(one))
        for ours, theirs in zip(jax.tree.leaves(both[name]), jax.tree.leaves(one)):
            np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("order", [jc.simultaneous, jc.alternating, jc.extragradient])
def test_terms_left_alone_add_up_to_the_plain_step(order):
    def run(start, terms):
        solver = order(
            jc.Lagrangian(loss, PLANE, penalty=2.0),
            optax.adam(0.1),
            ASCENT,
            per_term=terms,
        )
        step = lambda state, _: (solver.step(state)[0], None)  # noqa: E731
        return jax.lax.scan(step, solver.init(start), length=5)[0].params

    plain, summed = jax.jit(
        lambda start: [run(start, terms) for terms in (None, optax.identity())]
    )(jnp.asarray(START, float))
    np.testing.assert_allclose(plain, summed, rtol=1e-6)
    assert np.abs(plain - START).max() > 0.1


def test_terms_transforms_see_parameters_and_values():
    def update(updates, state, params=None, *, values, **extra):
        return updates, (params, values)

    def init(params):
        return params, jax.tree.map(jnp.sum, params)  # of the shapes to come

    spy = optax.GradientTransformationExtraArgs(init, update)
    solver = jc.simultaneous(
        jc.Lagrangian(loss, PLANE, penalty=2.0), optax.sgd(0.1), ASCENT, per_term=spy
    )
    state, _ = jax.jit(solver.step)(solver.init(START))
    params, values = state.terms
    h = C @ START - B
    np.testing.assert_allclose(values.loss, loss(START, None), rtol=1e-6)
    np.testing.assert_allclose(values.constraints.equality["h"], h**2, rtol=1e-6)
    np.testing.assert_array_equal(params.constraints.equality["h"], START)


# Squares of the first would overflow, those of the second vanish.
@pytest.mark.parametrize(
    "dtype", [jnp.float16, pytest.param(jnp.bfloat16, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize(
    "function",
    [f for f in TERMS | CLIPS if f is not jc.each_term],  # that is optax's own clip
    ids=lambda f: f.__name__,
)
def test_half_precision_does_not_overflow_or_vanish(function, dtype):
    _, transform, in_numpy = (TERMS | CLIPS)[function]
    rng = np.random.default_rng(4)
    # Norms that differ: of equal ones, rounding says which is above the other.
    rows = np.stack(
        [s * rng.normal(size=(3, 100)) for s in rng.uniform(0.2, 2, size=9)]
    )
    rows = rows.reshape(9, 300) if function in CLIPS else rows
    values = np.float32(VALUES[:9])

    def check(scale):
        half = np.asarray(scale * rows, dtype)
        found = follow(transform, half, values)
        assert found.dtype == dtype
        expected = list(in_numpy(half.astype(np.float64), VALUES))
        found = np.asarray(found, np.float64)
        if function in (jc.conflict_free, jc.project_conflicts):
            # As above: the direction is shared.
            found = found.sum(1)
            expected = [np.reshape(terms, (-1, 100)).sum(0) for terms in expected]
        # The numbers themselves are kept to some parts in a hundred, or in a thousand.
        share = 4 * float(jnp.finfo(dtype).eps)
        error = np.abs(found - expected).max()
        assert error < 4 * share * np.abs(expected).max()

    assert_each((300.0, 1e-4), check)


def test_clips_take_a_tree_of_nothing():
    def check(clip):
        updates, _ = clip.update(jc.Constraints(), clip.init(jc.Constraints()))
        assert updates == jc.Constraints()

    counted = jc.counted("n", optax.clip(1))
    assert_each([jc.clip_by_percentile(), jc.clip_by_z_score(), counted], check)


def test_terms_of_a_constraint_that_is_itself_a_pytree():
    half = jax.tree_util.Partial(lambda a, p, _: jnp.sum(p) - a, 0.5)
    solver = jc.simultaneous(
        jc.Lagrangian(loss, jc.Constraints({"h": half})),
        optax.sgd(0.1),
        ASCENT,
        per_term=optax.trace(0.9),
    )
    _, info = jax.jit(solver.step)(solver.init(START.astype(np.float32)))
    assert info.finite


def test_balance_by_uncertainty_takes_a_transform_with_a_key():
    noisy = jc.balance_by_uncertainty(optax.noisy_sgd(0.1, key=jax.random.key(0)))
    terms, values = as_terms(np.float32(GRADIENTS[0])), as_terms(np.float32(VALUES[0]))

    @jax.jit
    def updated(terms, values):
        return noisy.update(terms, noisy.init(terms), values=values)[1]

    assert np.isfinite(updated(terms, values).weights).all()


def test_counted_does_not_count_a_clip_that_waits():
    clip = jc.counted("norm", optax.clip_by_global_norm(1e-3))
    primal = optax.MultiSteps(optax.chain(clip, optax.sgd(0.1)), 3)
    end = train(
        primal.gradient_transformation(),
        optax.set_to_zero(),
        held=jc.Constraints(),
        steps=6,
    )
    assert end.each["norm"].tolist() == [False, False, True] * 2


def test_counted_does_not_take_a_nan_that_passes_for_clipping():
    clip = jc.counted("norm", optax.clip(1.0))
    _, state = clip.update(jnp.array([np.nan, 0.5]), clip.init(jnp.zeros(2)))
    assert int(fired(state)["norm"]) == 0


def test_counted_is_found_inside_other_transforms():
    clip = jc.counted("inner", optax.clip(0.1))
    primal = optax.MultiSteps(optax.chain(jc.counted("outer", clip), optax.sgd(0.1)), 1)
    dual = {"h": jc.every(jc.dual_ascent(optax.chain(clip, optax.sgd(0.1))), 1)}
    solver = jc.simultaneous(
        jc.Lagrangian(loss, PLANE), primal.gradient_transformation(), dual
    )
    _, info = solver.step(solver.init(START))
    assert {name: bool(flag) for name, flag in info.clipped.items()} == {
        "outer": True,
        "inner": True,
        "dual inner: h": True,
    }


def test_clips_and_balances_refuse_numbers_out_of_range():
    rows = [
        (lambda: jc.clip_by_percentile(100.0), "in (0, 100)"),
        (lambda: jc.clip_by_percentile(rate=0.0), "rate must be > 0"),
        (lambda: jc.clip_by_z_score(warmup=1), "warmup must be a whole number >= 2"),
        (lambda: jc.clip_by_z_score(decay=1.0), "in (0, 1)"),
        (lambda: jc.clip_by_z_score(-1.0), "limit must be > 0"),
        (lambda: jc.bound_constraints(0.0), "ratio must be > 0"),
        (lambda: jc.clip_residual(lambda p, b: p, 0.0), "limit must be > 0"),
        (lambda: jc.clip_each_example(lambda p, b: p, 0.0), "max_norm must be > 0"),
        (lambda: jc.balance_by_gradient_norm(1.0), "in [0, 1)"),
        (lambda: jc.balance_by_relative_loss(lookback=2.0), "in [0, 1]"),
        (lambda: jc.balance_by_relative_loss(temperature=0.0), "temperature must be"),
        (lambda: jc.balance_by_uncertainty(optax.sgd(0.1), 1.0), "limit must be > 1"),
    ]
    assert_refused([(make, ValueError, [words]) for make, words in rows])


def test_each_term_counted_and_terms_refuse_what_is_no_transform():
    primal = optax.sgd(0.1)
    words = "must be an optax transform"
    assert_refused(
        [
            (lambda: jc.each_term(0.1), TypeError, words),
            (lambda: jc.counted("name", 0.1), TypeError, words),
            (
                lambda: jc.alternating(
                    jc.Lagrangian(loss, PLANE), primal, ASCENT, per_term=0.1
                ),
                TypeError,
                f"per_term {words}",
            ),
        ]
    )


def test_balance_by_relative_loss_asks_for_values():
    balance = jc.balance_by_relative_loss()
    terms = as_terms(GRADIENTS[0])
    with pytest.raises(ValueError, match="per_term= of an order"):
        balance.update(terms, balance.init(terms))
