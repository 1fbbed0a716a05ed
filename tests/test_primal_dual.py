"""The three orders of moves: by hand, on games and known problems, on faults."""

from functools import cache, partial
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxcon as jc
from jaxcon import penalties
from jaxcon.constraints import named
from jaxcon.lagrangian import penalty_barrier_lagrangian

ORDERS = {
    "simultaneous": jc.simultaneous,
    "alternating": jc.alternating,
    "primal first": partial(jc.alternating, first="primal"),
    "extragradient": jc.extragradient,
}

SGD = jc.dual_ascent(optax.sgd(0.2))


@pytest.fixture(params=ORDERS)
def order(request):
    return ORDERS[request.param]


def run(method, state, steps, batch=None):
    """The state after `steps` steps, and the infos of all of them."""

    def body(state, _):
        return method.step(state, batch)

    return jax.jit(lambda s: jax.lax.scan(body, s, length=steps))(state)


def assert_same_bits(got, want):
    assert jax.tree.structure(got) == jax.tree.structure(want)
    for g, w in zip(jax.tree.leaves(got), jax.tree.leaves(want)):
        assert g.dtype == w.dtype
        assert np.asarray(g).tobytes() == np.asarray(w).tobytes()


# One step by hand: f = ½|p - c|², h = a·p - 1, g = G p - k.
ALPHA, ETA = 0.1, 0.3
C, A = np.array([1.0, -2.0, 0.5]), np.array([1.0, 2.0, -1.0])
G, K = np.array([[1.0, 0.0, 1.0], [0.5, -1.0, 0.0]]), np.array([0.25, 4.0])


def residuals(p):
    return A @ p - 1.0, G @ p - K


def slope(p, mu, lam, rho):
    """∇ₚ of the (augmented) Lagrangian, written out."""
    h, g = residuals(p)
    if rho is not None:
        mu, lam = mu + rho * h, np.maximum(0, lam + rho * g)
    return p - C + mu * A + lam @ G


def ascended(mu, lam, at):
    h, g = residuals(at)
    return mu + ETA * h, np.maximum(0, lam + ETA * g)


def simultaneous_by_hand(p, mu, lam, rho):
    return p - ALPHA * slope(p, mu, lam, rho), *ascended(mu, lam, p)


def alternating_by_hand(p, mu, lam, rho):
    new = ascended(mu, lam, p)
    return p - ALPHA * slope(p, *new, rho), *new


def primal_first_by_hand(p, mu, lam, rho):
    new = p - ALPHA * slope(p, mu, lam, rho)
    return new, *ascended(mu, lam, new)


def extragradient_by_hand(p, mu, lam, rho):
    ahead, *theirs = simultaneous_by_hand(p, mu, lam, rho)
    return p - ALPHA * slope(ahead, *theirs, rho), *ascended(mu, lam, ahead)


@pytest.mark.parametrize(
    ("order", "by_hand"),
    [
        (ORDERS["simultaneous"], simultaneous_by_hand),
        (ORDERS["alternating"], alternating_by_hand),
        (ORDERS["primal first"], primal_first_by_hand),
        (ORDERS["extragradient"], extragradient_by_hand),
    ],
    ids=ORDERS,
)
@pytest.mark.parametrize("penalty", [None, 2.0])
def test_three_steps_by_hand(x64, order, by_hand, penalty):
    method = order(
        lambda p, _: 0.5 * jnp.sum((p - C) ** 2),
        jc.Constraints({"h": lambda p, _: A @ p - 1.0}, {"g": lambda p, _: G @ p - K}),
        optax.sgd(ALPHA),
        jc.dual_ascent(optax.sgd(ETA)),
        penalty=penalty,
    )
    p, mu, lam = np.array([0.5, 0.25, -3.0]), 0.7, np.array([0.2, 0.4])
    state = method.init(jnp.array(p))._replace(
        multipliers=jc.Constraints({"h": jnp.array(mu)}, {"g": jnp.array(lam)})
    )
    step = jax.jit(method.step)
    for taken in range(3):
        h, g = residuals(p)
        largest = abs(mu), np.abs(lam).max()
        p, mu, lam = by_hand(p, mu, lam, penalty)
        loss = 0.5 * np.sum((np.asarray(state.params) - C) ** 2)
        state, info = step(state)
        # Some ten roundings of numbers below 30 in float64.
        close = {"rtol": 1e-13, "atol": 1e-14}
        np.testing.assert_allclose(state.params, p, **close)
        np.testing.assert_allclose(state.multipliers.equality["h"], mu, **close)
        np.testing.assert_allclose(state.multipliers.inequality["g"], lam, **close)
        # What is reported was read before the moves.
        np.testing.assert_allclose(info.loss, loss, **close)
        np.testing.assert_allclose(info.violation.equality["h"], abs(h), **close)
        worst = max(g.max(), 0)
        np.testing.assert_allclose(info.violation.inequality["g"], worst, **close)
        np.testing.assert_allclose(info.max_violation, max(abs(h), worst), **close)
        np.testing.assert_allclose(info.multiplier.equality["h"], largest[0], **close)
        np.testing.assert_allclose(info.multiplier.inequality["g"], largest[1], **close)
        assert int(state.step) == taken + 1
        assert int(state.skipped) == 0
        assert bool(info.finite)
        assert info.aux is None


@pytest.mark.parametrize("penalty", [None, 1.0])
@pytest.mark.parametrize("start", [1.5, 0.5])
def test_a_constraint_that_is_slack_in_the_end_lets_go(order, start, penalty):
    # min p² s.t. p <= 1. A squared slack variable would hold its multiplier fast.
    method = order(
        lambda p, _: p**2,
        jc.Constraints(inequality={"p <= 1": lambda p, _: p - 1.0}),
        optax.sgd(0.1),
        jc.dual_ascent(optax.sgd(0.5)),
        penalty=penalty,
    )
    state, _ = run(method, method.init(start), 300)
    # 0.8^300 is far below float32's smallest number.
    assert abs(float(state.params)) < 1e-20
    assert float(state.multipliers.inequality["p <= 1"]) == 0.0


def bilinear(order, eta):
    """L = μ x: the game around whose saddle plain moves circle."""
    method = order(
        lambda x, _: 0.0 * x,
        jc.Constraints(equality={"x = 0": lambda x, _: x}),
        optax.sgd(eta),
        jc.dual_ascent(optax.sgd(eta)),
    )

    def body(state, _):
        new, _ = method.step(state)
        return new, jnp.hypot(new.params, new.multipliers.equality["x = 0"])

    return jax.lax.scan(body, method.init(1.0), length=400)[1]


def test_simultaneous_moves_spiral_outward_at_the_known_rate(x64):
    radius = bilinear(jc.simultaneous, eta=0.1)
    # |1 + iη| = sqrt(1 + η²) per step; 400 steps of a few roundings each.
    want = (1 + 0.1**2) ** (np.arange(1, 401) / 2)
    np.testing.assert_allclose(radius, want, rtol=400 * 4 * np.finfo(np.float64).eps)


def test_alternating_moves_stay_on_their_ellipse(x64):
    radius = np.asarray(bilinear(jc.alternating, eta=0.1))
    # x² + μ² - η x μ is conserved (from 1), so radius² lies within 1/(1 ± η/2).
    assert radius.max() ** 2 <= 1 / (1 - 0.05) + 1e-12
    assert radius.min() ** 2 >= 1 / (1 + 0.05) - 1e-12


def test_extragradient_converges_at_the_known_rate(x64):
    radius = bilinear(jc.extragradient, eta=0.5)
    # One step is 1 - η² + iη on the plane.
    want = np.hypot(1 - 0.25, 0.5) ** np.arange(1, 401)
    np.testing.assert_allclose(radius, want, rtol=400 * 8 * np.finfo(np.float64).eps)


@pytest.mark.parametrize("rho", [0.5, 8.0])
def test_a_dual_that_stands_still_is_the_quadratic_penalty(x64, order, rho):
    # min ½|p - c|² + ρ/2 (a·p - 1)² is a linear system.
    method = order(
        lambda p, _: 0.5 * jnp.sum((p - C) ** 2),
        jc.Constraints(equality={"h": lambda p, _: A @ p - 1.0}),
        optax.sgd(0.5 / (1 + rho * A @ A)),
        optax.set_to_zero(),
        penalty=rho,
    )
    state, _ = run(method, method.init(jnp.zeros(3)), 4000)
    want = np.linalg.solve(np.eye(3) + rho * np.outer(A, A), C + rho * A)
    # At worst 1 - 1/98 + 1/98² a step, 4e-18 in the end; conditioning 49 at most.
    np.testing.assert_allclose(state.params, want, rtol=1e-12)
    assert float(state.multipliers.equality["h"]) == 0.0
    estimate = jc.multiplier_estimates(
        jc.Constraints({"h": jnp.array(A @ want - 1)}), state.multipliers, rho
    )
    np.testing.assert_allclose(estimate.equality["h"] * A, C - want, rtol=1e-12)


# min ½|p - (1, 1, 0)|² s.t. Σp = 1, p₀ <= 1/5 and p₁ <= 9, which is slack.
NEAREST = (
    lambda p, _: 0.5 * jnp.sum((p - jnp.array([1.0, 1.0, 0.0])) ** 2),
    jc.Constraints(
        {"sum": lambda p, _: jnp.sum(p) - 1.0},
        {"cap": lambda p, _: p[:2] - jnp.array([0.2, 9.0])},
    ),
)


def assert_nearest(state, atol):
    """By hand: p₀ = 1/5; p₁ - 1 = p₂ = -μ, so μ = 1/10; 1/5 - 1 + μ + λ = 0."""
    close = partial(np.testing.assert_allclose, rtol=0, atol=atol)
    close(state.params, [0.2, 0.9, -0.1])
    close(state.multipliers.equality["sum"], 0.1)
    close(state.multipliers.inequality["cap"], [0.7, 0.0])


@pytest.mark.parametrize("name", ["alternating", "primal first"])
@pytest.mark.parametrize(
    "penalty",
    [jc.growing_penalty(1.0, every=20, limit=100.0), 10.0],
    ids=["growing", "fixed"],
)
def test_the_classical_method_of_multipliers_reaches_the_answer(x64, name, penalty):
    # Each minimisation has 20 steps of its own and a memory of its own.
    method = ORDERS[name](
        *NEAREST,
        jc.restart_every(optax.lbfgs(), 20),
        jc.every(jc.method_of_multipliers(), 20),
        penalty=penalty,
    )
    state, infos = run(method, method.init(jnp.zeros(3)), 600)
    assert int(state.skipped) == 0
    # 30 moves of the multipliers, each of at most a factor of 1 / (1 + 10).
    assert_nearest(state, atol=1e-7)
    jax.tree.map(
        lambda got, want: np.testing.assert_allclose(got, want, atol=1e-7),
        method.estimates(state),
        state.multipliers,
    )
    assert infos.max_violation[-1] < 1e-7


BARRIERS = [penalties.log_quadratic, penalties.exponential_quadratic]
barriers = pytest.mark.parametrize("phi", BARRIERS, ids=lambda phi: phi.__name__)


@barriers
def test_a_barrier_starts_at_ones_and_reaches_the_answer(x64, order, phi):
    method = order(
        *NEAREST,
        optax.sgd(0.1),
        jc.every(jc.method_of_multipliers(), 50),
        penalty=2.0,
        barrier=phi,
    )
    state = method.init(jnp.zeros(3))
    assert float(state.multipliers.equality["sum"]) == 0.0
    np.testing.assert_array_equal(state.multipliers.inequality["cap"], [1.0, 1.0])
    state, infos = run(method, state, 3000)
    # Sixty moves, each of at most half the way left.
    assert_nearest(state, atol=1e-7)
    assert not infos.capped.equality["sum"].any()


@pytest.mark.parametrize("penalty", [None, {}, {"sum": None}])
def test_a_barrier_needs_a_penalty(order, penalty):
    with pytest.raises(ValueError, match="barrier= needs a penalty: pass penalty="):
        order(*NEAREST, optax.sgd(0.1), SGD, penalty=penalty, barrier=BARRIERS[0])


@pytest.mark.parametrize(
    ("penalty", "barrier"),
    [
        (None, None),
        *product([2.0, {"cap": 3.0}, {"sum": 3.0}], [None, BARRIERS[0]]),
    ],
)
def test_estimates_are_the_weights_of_the_residuals_gradients(
    x64, order, penalty, barrier
):
    loss, constraints = NEAREST
    method = order(
        loss, constraints, optax.sgd(0.1), SGD, penalty=penalty, barrier=barrier
    )
    state = method.init(jnp.array([0.5, 7.0, -1.0]))._replace(
        multipliers=jc.Constraints(
            {"sum": jnp.array(0.3)}, {"cap": jnp.array([0.4, 0.6])}
        )
    )

    def objective(params):
        terms = loss(params, None), method.residuals(params)
        prices = state.multipliers, state.penalty
        if barrier is not None:
            return penalty_barrier_lagrangian(*terms, *prices, barrier)
        if penalty is not None:
            return jc.augmented_lagrangian(*terms, *prices)
        return jc.lagrangian(*terms, state.multipliers)

    residuals, pullback = jax.vjp(method.residuals, state.params)
    jax.tree.map(
        np.testing.assert_array_equal,
        residuals,
        jc.evaluate(constraints, state.params, None),
    )
    estimates = jax.jit(method.estimates)(state)
    want = jax.grad(objective)(state.params)
    got = jax.grad(loss)(state.params, None) + pullback(estimates)[0]
    # A few roundings of numbers below ten.
    close = partial(np.testing.assert_allclose, rtol=1e-13, atol=1e-13)
    close(got, want)
    if barrier is None:
        theirs = jc.multiplier_estimates(residuals, state.multipliers, state.penalty)
        jax.tree.map(close, estimates, theirs)


def test_estimates_and_residuals_read_the_batch(order):
    method = order(
        lambda p, batch: p * batch,
        jc.Constraints({"h": lambda p, batch: p - batch}),
        optax.sgd(0.1),
        SGD,
        penalty=2.0,
    )
    state = method.init(5.0, 1.0)
    assert float(method.residuals(state.params, 3.0).equality["h"]) == 2.0
    assert float(method.estimates(state, 3.0).equality["h"]) == 4.0


@pytest.mark.parametrize("first", ["both", None, "Primal"])
def test_who_moves_first_is_the_dual_or_the_primal(first):
    with pytest.raises(ValueError, match=f"first must be 'dual' or .*got {first!r}"):
        jc.alternating(*NEAREST, optax.sgd(0.1), SGD, first=first)


OWN = {
    "h": jc.nupi(0.3, kp=2.0),
    "g": jc.capped(jc.dual_ascent(optax.adam(0.1)), 0.7),
    "gs": jc.every(jc.method_of_multipliers(), 3),
}


def test_a_transform_for_each_constraint_is_a_run_of_each(x64, order):
    # The three parameters have nothing to do with one another.
    everything = {
        "h": lambda p, _: p["h"] - 1.0,
        "g": lambda p, _: 2.0 - p["g"],
        "gs": lambda p, _: jnp.stack([3.0 - p["gs"], p["gs"] - 8.0]),
    }
    start = {name: jnp.array(0.5) for name in everything}

    def trained(names):
        functions = {name: everything[name] for name in names}
        method = order(
            lambda p, _: sum(p[name] ** 2 for name in names),
            jc.Constraints(
                {name: f for name, f in functions.items() if name == "h"},
                {name: f for name, f in functions.items() if name != "h"},
            ),
            optax.adam(0.05),
            {name: OWN[name] for name in names},
            penalty=1.5,
        )
        return run(method, method.init({name: start[name] for name in names}), 30)

    together, infos = trained(everything)
    # Thirty steps of a few roundings of numbers below ten.
    close = partial(np.testing.assert_allclose, rtol=1e-11, atol=1e-12)
    for name in everything:
        alone, info = trained([name])
        kind = "equality" if name == "h" else "inequality"
        close(together.params[name], alone.params[name])
        for ours, theirs in [
            (together.multipliers, alone.multipliers),
            (together.penalty, alone.penalty),
            (infos.violation, info.violation),
            (infos.capped, info.capped),
        ]:
            close(getattr(ours, kind)[name], getattr(theirs, kind)[name])
        assert getattr(infos.multiplier, kind)[name].max() > 0.1


@pytest.mark.parametrize(
    ("dual", "error", "words"),
    [
        ({"sum": SGD}, ValueError, "dual has no transform for constraint 'cap'"),
        (
            {"sum": SGD, "cap": SGD, "flux": SGD},
            ValueError,
            r"dual of 'flux': no such constraint; there are \['sum', 'cap'\]",
        ),
        (0.1, TypeError, "dual must be an optax transform, .* got float"),
        (optax.sgd, TypeError, "dual must be an optax transform, .* got function"),
        ({"sum": SGD, "cap": 0.1}, TypeError, "dual of 'cap' must be .* got float"),
        (optax.sgd(0.1), ValueError, "dual moves a .*wrap it as jaxcon.dual_ascent"),
        (optax.adam(0.1), ValueError, "dual moves a multiplier down"),
        (optax.chain(SGD, optax.scale(-1.0)), ValueError, "dual moves a multiplier"),
        (
            {"sum": SGD, "cap": optax.sgd(0.1)},
            ValueError,
            "dual of 'cap' moves a multiplier down",
        ),
    ],
)
def test_a_dual_that_is_none_is_refused_in_one_sentence(dual, error, words):
    with pytest.raises(error, match=words) as caught:
        jc.alternating(*NEAREST, optax.sgd(0.1), dual)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 160


@pytest.mark.parametrize(
    "wrap",
    [
        lambda dual: dual,
        lambda dual: optax.chain(dual, optax.clip(10.0)),
        lambda dual: optax.MultiSteps(dual, 2).gradient_transformation(),
        lambda dual: {"sum": optax.set_to_zero(), "cap": optax.chain(dual)},
    ],
    ids=["bare", "chain", "MultiSteps", "set_to_zero"],
)
def test_what_optax_wraps_around_a_dual_climbs_at_rates_swept_in_one_program(wrap):
    def climbed(rate):
        dual = wrap(jc.dual_ascent(optax.sgd(rate)))
        method = jc.alternating(*NEAREST, optax.sgd(0.01), dual)
        return run(method, method.init(jnp.array([2.0, 1.0, 0.0])), 2)[0].multipliers

    together = jax.jit(jax.vmap(climbed))(jnp.array([0.1, 0.2]))
    for rate, row in zip((0.1, 0.2), (0, 1)):
        alone = climbed(rate)
        jax.tree.map(
            # Fused and unfused programs differ by a few roundings.
            lambda rows, one, row=row: np.testing.assert_allclose(
                rows[row], one, rtol=1e-5
            ),
            together,
            alone,
        )
        assert float(alone.inequality["cap"][0]) > 0
    still = isinstance(wrap(SGD), dict)
    assert (np.asarray(together.equality["sum"]) == 0).all() == still


def test_the_method_of_multipliers_says_which_constraint_has_no_penalty(order):
    dual = jc.method_of_multipliers()
    method = order(*NEAREST, optax.sgd(0.1), dual, penalty={"sum": 1.0})
    with pytest.raises(ValueError, match="penalty for inequality constraint 'cap'"):
        method.step(method.init(jnp.zeros(3)))


CAPPED = jc.capped(jc.dual_ascent(optax.sgd(1.0)), 2.0)


@pytest.mark.parametrize(
    ("dual", "on_cap"),
    [
        # Whose multipliers sit on the cap, and from which step on that is seen.
        (CAPPED, {"up": 2, "down": 2, "pushes": 2}),
        (jc.every(CAPPED, 2), {"up": 4, "down": 4, "pushes": 4}),
        (jc.capped(jc.every(SGD, 1), 1.0), {"up": 5, "down": 5, "pushes": 5}),
        (
            dict.fromkeys(["up", "down", "pushes", "rests"], CAPPED),
            {"up": 2, "down": 2, "pushes": 2},
        ),
        (
            {"up": jc.every(CAPPED, 3), "down": SGD, "pushes": CAPPED, "rests": CAPPED},
            {"up": 6, "pushes": 2},
        ),
        (jc.dual_ascent(optax.sgd(1.0)), {}),
    ],
    ids=["shared", "every", "outside every", "own", "of some", "none"],
)
def test_info_says_whose_multipliers_sit_on_their_cap(dual, on_cap):
    method = jc.alternating(
        lambda p, _: 0.0 * p,
        jc.Constraints(
            {"up": lambda p, _: 1.0 + 0 * p, "down": lambda p, _: 0 * p - 1.0},
            {
                "pushes": lambda p, _: jnp.stack([1.0 + 0 * p, 0 * p - 1.0]),
                "rests": lambda p, _: 0 * p - 1.0,
            },
        ),
        optax.sgd(0.1),
        dual,
    )
    _, infos = run(method, method.init(1.0), 8)
    for _, name, flags in named(infos.capped):
        np.testing.assert_array_equal(flags, np.arange(8) >= on_cap.get(name, 8))


# Not extragradient: its gradient is of the point ahead, its line search from here.
@pytest.mark.parametrize("name", sorted(ORDERS.keys() - {"extragradient"}))
def test_lbfgs_with_its_line_search_is_a_primal(x64, name):
    method = ORDERS[name](
        *NEAREST,
        optax.lbfgs(),
        # Curvature is learned across moves of the multipliers, so these move slowly.
        jc.dual_ascent(optax.sgd(0.1)),
        penalty=1.0,
    )
    state, _ = run(method, method.init(jnp.zeros(3)), 1000)
    assert int(state.skipped) == 0
    # (1 - 0.1 / 2)^1000 = 5e-23 of the multipliers' way is left; the search is inexact.
    assert_nearest(state, atol=1e-5)


TREES = {
    "array": (jnp.array([1.0, -2.0]), lambda p: p),
    "scalar": (jnp.array(2.0), lambda p: p),
    "python float": (2.0, lambda p: p),
    "dict": ({"w": jnp.ones((2, 2)), "b": 0.5}, lambda p: p["w"] + p["b"]),
    "tuple": ((jnp.ones(2), [jnp.array(3.0)], None), lambda p: p[0] * p[1][0]),
}


@pytest.mark.parametrize("tree", TREES)
def test_params_are_any_pytree_of_floats(order, tree):
    params, output = TREES[tree]
    method = order(
        lambda p, _: jnp.sum(output(p) ** 2),
        jc.Constraints(equality={"sum": lambda p, _: jnp.sum(output(p)) - 1.0}),
        optax.sgd(0.02, momentum=0.5),
        jc.dual_ascent(optax.sgd(0.5)),
        penalty=1.0,
    )
    state = method.init(params)
    assert jax.tree.structure(state.params) == jax.tree.structure(params)
    state, infos = run(method, state, 500)
    assert jax.tree.structure(state.params) == jax.tree.structure(params)
    assert infos.max_violation[0] > 0.5
    assert infos.max_violation[-1] < 1e-3


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"w": jnp.ones(2), "n": jnp.array(3)}, ["params['n']", "int32"]),
        ((jnp.ones(2), [jnp.ones(2), 7]), ["params[1][1]", "int"]),
        ({"mask": np.array([True])}, ["params['mask']", "bool"]),
        ({"name": "tanh"}, ["params['name']", "str"]),
        ({"key": jax.random.key(0)}, ["params['key']", "key"]),
    ],
    ids=["integer", "python int", "boolean", "string", "key"],
)
def test_params_that_are_no_floats_are_refused_by_path(order, params, words):
    method = order(
        lambda p, _: 0.0,
        jc.Constraints(),
        optax.sgd(0.1),
        jc.dual_ascent(optax.sgd(0.1)),
    )
    with pytest.raises(TypeError) as caught:
        method.init(params)
    for word in [*words, "floating-point"]:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("loss", "error", "words"),
    [
        (lambda p, _: jnp.ones(1), ValueError, ["loss", "(1,)", "mean"]),
        (lambda p, _: (jnp.ones((3, 1)), 0.0), ValueError, ["loss", "(3, 1)"]),
        (lambda p, _: jnp.array(1), TypeError, ["loss", "int32", "real"]),
        (lambda p, _: jnp.array(1j), TypeError, ["loss", "complex64", "real"]),
    ],
    ids=["(1,)", "aux", "integer", "complex"],
)
def test_a_loss_that_is_not_one_real_number_is_refused(order, loss, error, words):
    method = order(
        loss, jc.Constraints(), optax.sgd(0.1), jc.dual_ascent(optax.sgd(0.1))
    )
    with pytest.raises(error) as caught:
        method.init(jnp.ones(2))
    for word in words:
        assert word in str(caught.value)


def test_constraints_are_checked_when_the_method_is_made(order):
    with pytest.raises(TypeError, match=r"jaxcon\.Constraints"):
        order(None, {"h": lambda p, _: p}, optax.sgd(1.0), optax.sgd(1.0))


@pytest.mark.parametrize("penalty", [None, 1.0])
@pytest.mark.parametrize("kind", jc.Constraints._fields)
@pytest.mark.parametrize(
    ("later", "shape"), [(jnp.ones(7), "(7,)"), (jnp.ones(1), "(1,)"), (2.0, "()")]
)
def test_another_number_of_points_is_refused(order, kind, later, shape, penalty):
    constraints = jc.Constraints(**{kind: {"flux": lambda p, batch: p * batch}})
    method = order(
        lambda p, _: p**2,
        constraints,
        optax.sgd(0.1),
        jc.dual_ascent(optax.sgd(0.1)),
        penalty=penalty,
    )
    state = method.init(1.0, jnp.ones(5))
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (words below)
        jax.jit(method.step)(state, later)
    for word in [
        kind,
        "'flux'",
        f"residual of shape {shape}",
        "multipliers of shape (5,)",
    ]:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("batch", "read"),
    [
        (None, lambda batch: 1.0),
        ({"x": jnp.ones(3), "unused": jnp.arange(2)}, lambda batch: batch["x"].mean()),
        ((jnp.array(0.5), 2.0), lambda batch: batch[0] * batch[1]),
        (1.0, lambda batch: batch),
    ],
    ids=["none", "dict", "tuple", "python float"],
)
def test_a_batch_is_any_pytree_or_none(order, batch, read):
    method = order(
        lambda p, batch: p**2 / 2 + 0 * read(batch),
        jc.Constraints(equality={"h": lambda p, batch: p - read(batch)}),
        optax.sgd(0.5),
        jc.dual_ascent(optax.sgd(0.5)),
        penalty=1.0,
    )
    more = () if batch is None else (batch,)
    state, step = method.init(0.0, *more), jax.jit(method.step)
    for _ in range(100):
        state, _ = step(state, *more)
    # Every order contracts by at least 0.8 a step here, to float32's rounding.
    np.testing.assert_allclose(state.params, 1.0, rtol=1e-6)
    np.testing.assert_allclose(state.multipliers.equality["h"], -1.0, rtol=1e-6)


def test_aux_is_passed_on_from_the_point_before_the_step(order):
    method = order(
        lambda p, batch: (p**2, {"p": p, "both": (p + batch, jnp.arange(3))}),
        jc.Constraints(),
        optax.sgd(0.25),
        jc.dual_ascent(optax.sgd(0.1)),
    )
    state, info = jax.jit(method.step)(method.init(4.0, 1.0), 1.0)
    assert float(info.aux["p"]) == 4.0
    assert float(info.aux["both"][0]) == 5.0
    np.testing.assert_array_equal(info.aux["both"][1], [0, 1, 2])
    assert float(state.params) < 4.0


def test_without_constraints_it_is_the_optimizer_alone(order):
    primal = optax.sgd(0.1, momentum=0.5)
    method = order(
        lambda p, _: jnp.sum(p**2) / 2,
        jc.Constraints(),
        primal,
        jc.dual_ascent(optax.adam(0.1)),
    )
    state, infos = run(method, method.init(jnp.array([1.0, 2.0])), 1)
    # sgd from p moves by -0.1 p; the step looked ahead to is 0.9 p.
    factor = 0.91 if order is jc.extragradient else 0.9
    np.testing.assert_allclose(state.params, [factor, 2 * factor], rtol=1e-6)
    assert float(infos.max_violation[0]) == 0.0


GOOD = {"loss": 1.0, "h": 0.5, "g": -0.25, "root": 1.0}


# Of the third one every part remembers something; its third call moves all of them.
MEMORIES = {
    "Lagrangian": (jc.dual_ascent(optax.adam(0.1)), None),
    "augmented": (jc.dual_ascent(optax.adam(0.1)), 1.0),
    "everything": (
        {
            "h": jc.every(jc.capped(jc.nupi(0.1, kp=2.0, nu=0.5), 0.2), 3),
            "g": jc.capped(jc.nupi(0.1, kp=2.0, nu=0.5), 0.2),
        },
        {"h": jc.growing_penalty(1.0, every=2), "g": jc.adaptive_penalty(0.1)},
    ),
}


@cache
def faulty(order, memory):
    """A problem whose batch can break its loss, its residuals or its gradient alone."""
    dual, penalty = MEMORIES[memory]
    method = order(
        lambda p, b: b["loss"] * p @ p + jnp.sqrt(b["root"] * p @ p),
        jc.Constraints(
            {"h": lambda p, b: p + b["h"]}, {"g": lambda p, b: jnp.sum(p) + b["g"]}
        ),
        optax.adam(0.1),
        dual,
        penalty=penalty,
    )
    return method, method.init(jnp.array([1.0, -2.0, 3.0]), GOOD), jax.jit(method.step)


@pytest.mark.parametrize(
    "memory",
    [
        pytest.param(name, marks=() if name == "everything" else pytest.mark.slow)
        for name in MEMORIES
    ],
)
@pytest.mark.parametrize(
    "fault",
    [
        {"loss": np.nan},
        {"loss": np.inf},
        {"h": np.nan},
        {"h": np.inf},
        {"g": np.nan},
        {"g": np.inf},
        {"g": -np.inf},
        {"root": 0.0},  # sqrt(0) is 0, its gradient 0 times infinity
    ],
    ids=str,
)
def test_a_step_that_is_not_finite_moves_nothing(order, fault, memory):
    _, state, step = faulty(order, memory)
    for _ in range(2):
        state, info = step(state, GOOD)
        assert bool(info.finite)
    skipped, info = step(state, GOOD | fault)
    assert not bool(info.finite)
    if fault == {"root": 0.0}:
        assert np.isfinite(info.loss)
        assert np.isfinite(info.max_violation)
    assert int(skipped.step) == 3
    assert int(skipped.skipped) == 1
    assert_same_bits(skipped._replace(step=state.step, skipped=state.skipped), state)
    after, info = step(skipped, GOOD)
    assert bool(info.finite)
    assert int(after.skipped) == 1
    for new, old in zip(after[:2], skipped[:2]):
        assert not np.array_equal(jax.tree.leaves(new)[0], jax.tree.leaves(old)[0])


@pytest.mark.parametrize("kind", jc.Constraints._fields)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_the_info_of_a_broken_residual_is_not_finite_either(order, kind, value):
    # -inf satisfies g <= 0, but nothing follows from it: it must be seen, and by name.
    _, state, step = faulty(order, "Lagrangian")
    name = {"equality": "h", "inequality": "g"}[kind]
    _, info = step(state, GOOD | {name: value})
    assert not np.isfinite(getattr(info.violation, kind)[name])
    assert not np.isfinite(info.max_violation)
    (other,) = {"equality", "inequality"} - {kind}
    assert np.isfinite(jax.tree.leaves(getattr(info.violation, other))).all()


def test_a_scan_of_steps_is_a_loop_of_steps(order):
    method, state, step = faulty(order, "augmented")
    looped = state
    for _ in range(20):
        looped, last = step(looped, GOOD)
    scanned, infos = run(method, state, 20, GOOD)
    # One program or twenty may fuse differently: 20 steps of a few roundings.
    close = {"rtol": 200 * np.finfo(np.float32).eps, "atol": 1e-6}
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, **close), scanned, looped
    )
    np.testing.assert_allclose(infos.loss[-1], last.loss, **close)


def test_starts_are_vmapped_and_one_s_fault_is_its_own(order):
    method, _, step = faulty(order, "augmented")
    starts = jnp.array([[1.0, -2.0, 3.0], [0.5, 0.5, 0.5]])
    states = jax.vmap(lambda p: method.init(p, GOOD))(starts)
    batches = {name: jnp.full(2, value) for name, value in GOOD.items()}
    batches["loss"] = batches["loss"].at[0].set(jnp.nan)
    after, infos = jax.jit(jax.vmap(method.step))(states, batches)
    np.testing.assert_array_equal(infos.finite, [False, True])
    np.testing.assert_array_equal(after.skipped, [1, 0])
    np.testing.assert_array_equal(after.params[0], starts[0])
    alone, _ = step(method.init(starts[1], GOOD), GOOD)
    np.testing.assert_allclose(after.params[1], alone.params, rtol=1e-6)


def test_the_penalty_is_kept_in_the_loss_s_dtype(dtype, order):
    method = order(
        lambda p, _: jnp.sum(p**2),
        jc.Constraints(equality={"h": lambda p, _: p}),
        optax.sgd(0.1),
        jc.dual_ascent(optax.sgd(0.1)),
        penalty=2.0,
    )
    state = method.init(jnp.ones(2))
    assert state.penalty.equality["h"].dtype == dtype
    assert state.multipliers.equality["h"].dtype == dtype
    assert jax.eval_shape(method.step, state)[0].params.dtype == dtype


def test_a_move_that_overflows_is_not_made(order):
    constraints = jc.Constraints(inequality={"cap": lambda p, _: p["x"] - 3.0})
    method = order(
        lambda p, _: 1e38 * p["x"],
        constraints,
        optax.sgd(10.0),
        jc.dual_ascent(optax.sgd(1.0)),
    )
    state = method.init({"x": 4.0})
    after, info = jax.jit(method.step)(state)
    assert not info.finite
    assert int(after.skipped) == 1
    assert float(after.params["x"]) == 4.0
    assert float(after.multipliers.inequality["cap"]) == 0.0


@pytest.mark.parametrize("name", ["primal first", "extragradient"])
def test_a_point_looked_ahead_to_must_have_a_loss(name):
    # The step leads to where the square root is none; h is finite everywhere.
    method = ORDERS[name](
        lambda p, _: jnp.sqrt(p),
        jc.Constraints({"h": lambda p, _: p - 1.0}),
        optax.sgd(1.0),
        SGD,
    )
    state = method.init(0.25)
    after, info = jax.jit(method.step)(state)
    assert not info.finite
    assert_same_bits(after._replace(step=state.step, skipped=state.skipped), state)


def test_complex_params_are_refused():
    method = jc.alternating(
        lambda p, _: jnp.abs(p) ** 2,
        jc.Constraints(),
        optax.sgd(0.1),
        jc.dual_ascent(optax.sgd(0.1)),
    )
    with pytest.raises(TypeError, match="complex64"):
        method.init(jnp.array(1 + 1j))


AT_MOST_1 = jc.Constraints(inequality={"x <= 1": lambda x, _: x - 1.0})


def parabola(x, _):
    return (x - 3.0) ** 2


@pytest.mark.parametrize(
    "wrap",
    [
        lambda: optax.sgd(0.5),
        lambda: optax.sgd(optax.linear_schedule(0.0, 0.5, 10)),
        lambda: optax.MultiSteps(optax.sgd(0.5), 3).gradient_transformation(),
        lambda: jc.every(optax.sgd(0.5), 3),
        lambda: jc.when_stalled(optax.sgd(0.5)),
        lambda: jc.capped(optax.sgd(0.5), 10.0),
        lambda: jc.restart_when_feasible(optax.sgd(0.5)),
    ],
    ids=["bare", "warm-up", "mean", "every", "stalled", "capped", "restarted"],
)
def test_what_descends_is_refused_however_it_is_wrapped(wrap):
    with pytest.raises(ValueError, match=r"wrap it as jaxcon\.dual_ascent"):
        jc.alternating(parabola, AT_MOST_1, optax.sgd(0.1), wrap())


@pytest.mark.parametrize(
    "barrier", [jc.penalties.log_quadratic, jc.penalties.exponential_quadratic]
)
@pytest.mark.parametrize("start", [-30.0, -3.0, 0.0])
def test_a_barrier_s_multiplier_survives_a_start_far_inside(start, barrier):
    # e^(-300) is zero in float32, and a price that is a product with it stays zero.
    method = jc.alternating(
        parabola,
        AT_MOST_1,
        optax.sgd(0.01),
        jc.every(jc.method_of_multipliers(), 100),
        penalty=10.0,
        barrier=barrier,
    )
    state, _ = run(method, method.init(start), 12_000)
    # Float32's rounding of x, which the slope of the price, 40, multiplies.
    np.testing.assert_allclose(state.params, 1.0, rtol=1e-5)
    np.testing.assert_allclose(state.multipliers.inequality["x <= 1"], 4.0, rtol=1e-4)


def test_a_residual_that_would_spoil_a_memory_for_good_is_skipped(order):
    # Its square is infinite: Adam would divide by that for ever after.
    method = order(
        lambda p, _: p**2,
        jc.Constraints({"h": lambda p, batch: p - 1.0 + batch}),
        optax.sgd(0.1),
        jc.dual_ascent(optax.adam(0.1)),
    )
    state, step = method.init(0.0, 0.0), jax.jit(method.step)
    state, _ = step(state, 0.0)
    after, info = step(state, 1e20)
    assert not info.finite
    assert_same_bits(after._replace(step=state.step, skipped=state.skipped), state)


@pytest.mark.parametrize(
    "more",
    [
        {"dual": jc.pid(1.0, 1.0)},
        {"penalty": optax.exponential_decay(1.0, 100, 2.0)},
        {"penalty": 2.0},
        {"primal": jc.restart_every(optax.lbfgs(), 5)},
    ],
    ids=["pid", "schedule", "number", "lbfgs"],
)
def test_a_state_can_be_donated_and_the_start_is_kept(more):
    two = jc.Constraints(
        inequality={"a": lambda x, _: x - 1.0, "b": lambda x, _: x - 2.0}
    )
    how = {"primal": optax.sgd(0.1), "dual": jc.dual_ascent(optax.sgd(0.1))} | more
    method, start = jc.alternating(parabola, two, **how), jnp.array(0.5)
    step = jax.jit(method.step, donate_argnums=0)
    state, _ = step(method.init(start))
    state, info = step(state)
    assert bool(info.finite)
    assert float(start) == 0.5
