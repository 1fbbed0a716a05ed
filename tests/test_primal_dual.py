"""The three orders of moves: by hand, on games and known problems, on faults."""

from functools import cache, partial
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from laws import assert_keeps
from tables import assert_each, assert_refused

import jaxcon as jc
from jaxcon import penalties
from jaxcon.constraints import named
from jaxcon.lagrangians import penalty_barrier_lagrangian
from jaxcon.primal_dual._guard import keeps_finite

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


def scanned(solver, state, steps, batch=None):
    """The state after `steps` steps, and the infos of all of them."""
    return jax.lax.scan(lambda state, _: solver.step(state, batch), state, length=steps)


def run(solver, state, steps, batch=None):
    """The same in one program."""
    return jax.jit(lambda state: scanned(solver, state, steps, batch))(state)


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
def test_order_takes_three_steps_by_hand(x64, order, by_hand, penalty):
    solver = order(
        jc.Lagrangian(
            lambda p, _: 0.5 * jnp.sum((p - C) ** 2),
            jc.Constraints(
                {"h": lambda p, _: A @ p - 1.0}, {"g": lambda p, _: G @ p - K}
            ),
            penalty=penalty,
        ),
        optax.sgd(ALPHA),
        jc.dual_ascent(optax.sgd(ETA)),
    )
    p, mu, lam = np.array([0.5, 0.25, -3.0]), 0.7, np.array([0.2, 0.4])
    state = solver.init(jnp.array(p))._replace(
        multipliers=jc.Constraints({"h": jnp.array(mu)}, {"g": jnp.array(lam)})
    )
    step = jax.jit(solver.step)
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


def told_two_values():
    """A primal that stands still, and remembers the objective here and one further."""

    def update(gradient, _, params, *, value_fn, **more):
        still = jax.tree.map(jnp.zeros_like, gradient)
        return still, (value_fn(params), value_fn(params + 1.0))

    start = jnp.zeros(())
    return optax.GradientTransformationExtraArgs(lambda _: (start, start), update)


@pytest.mark.parametrize("name", ORDERS)
def test_primal_is_told_the_objective_at_any_point(x64, name):
    # What a line search asks for, by hand.
    rho, p, mu, lam = 2.0, np.array([0.5, 0.25, -3.0]), 0.7, np.array([0.2, 0.4])
    solver = ORDERS[name](
        jc.Lagrangian(
            lambda p, _: 0.5 * jnp.sum((p - C) ** 2),
            jc.Constraints(
                {"h": lambda p, _: A @ p - 1.0}, {"g": lambda p, _: G @ p - K}
            ),
            penalty=rho,
        ),
        told_two_values(),
        jc.dual_ascent(optax.sgd(ETA)),
    )
    multipliers = jc.Constraints({"h": np.array(mu)}, {"g": lam})
    state, _ = jax.jit(solver.step)(solver.init(p)._replace(multipliers=multipliers))
    if name in ("alternating", "extragradient"):
        mu, lam = ascended(mu, lam, p)
    for told, at in zip(state.primal, (p, p + 1.0)):
        h, g = residuals(at)
        want = 0.5 * np.sum((at - C) ** 2) + mu * h + rho / 2 * h**2
        want += np.sum(np.maximum(0, lam + rho * g) ** 2 - lam**2) / (2 * rho)
        np.testing.assert_allclose(told, want, rtol=1e-13)  # of numbers below 200


@pytest.mark.parametrize("penalty", [None, 1.0])
def test_order_lets_go_of_a_constraint_that_is_slack_in_the_end(order, penalty):
    # min p² s.t. p <= 1. A squared slack variable would hold its multiplier fast.
    solver = order(
        jc.Lagrangian(
            lambda p, _: p**2,
            jc.Constraints(inequality={"p <= 1": lambda p, _: p - 1.0}),
            penalty=penalty,
        ),
        optax.sgd(0.1),
        jc.dual_ascent(optax.sgd(0.5)),
    )
    ended = jax.jit(jax.vmap(lambda p: scanned(solver, solver.init(p), 300)[0]))
    states = ended(np.float32([1.5, 0.5]))
    # 0.8^300 is far below float32's smallest number.
    assert np.abs(states.params).max() < 1e-20
    np.testing.assert_array_equal(states.multipliers.inequality["p <= 1"], 0.0)


def bilinear(order, eta):
    """L = μ x: the game around whose saddle plain moves circle."""
    solver = order(
        jc.Lagrangian(
            lambda x, _: 0.0 * x, jc.Constraints(equality={"x = 0": lambda x, _: x})
        ),
        optax.sgd(eta),
        jc.dual_ascent(optax.sgd(eta)),
    )

    def body(state, _):
        new, _ = solver.step(state)
        return new, jnp.hypot(new.params, new.multipliers.equality["x = 0"])

    return jax.lax.scan(body, solver.init(1.0), length=400)[1]


def test_simultaneous_spirals_outward_at_the_known_rate(x64):
    radius = bilinear(jc.simultaneous, eta=0.1)
    # |1 + iη| = sqrt(1 + η²) per step; 400 steps of a few roundings each.
    want = (1 + 0.1**2) ** (np.arange(1, 401) / 2)
    np.testing.assert_allclose(radius, want, rtol=400 * 4 * np.finfo(np.float64).eps)


def test_alternating_stays_on_its_ellipse(x64):
    radius = np.asarray(bilinear(jc.alternating, eta=0.1))
    # x² + μ² - η x μ is conserved (from 1), so radius² lies within 1/(1 ± η/2).
    assert radius.max() ** 2 <= 1 / (1 - 0.05) + 1e-12
    assert radius.min() ** 2 >= 1 / (1 + 0.05) - 1e-12


def test_extragradient_converges_at_the_known_rate(x64):
    radius = bilinear(jc.extragradient, eta=0.5)
    # One step is 1 - η² + iη on the plane.
    want = np.hypot(1 - 0.25, 0.5) ** np.arange(1, 401)
    np.testing.assert_allclose(radius, want, rtol=400 * 8 * np.finfo(np.float64).eps)


def test_penalty_under_a_dual_that_stands_still_is_the_quadratic_penalty(x64, order):
    # min ½|p - c|² + ρ/2 (a·p - 1)² is a linear system.
    def ended(rho):
        solver = order(
            jc.Lagrangian(
                lambda p, _: 0.5 * jnp.sum((p - C) ** 2),
                jc.Constraints(equality={"h": lambda p, _: A @ p - 1.0}),
                penalty=rho,
            ),
            optax.sgd(0.5 / (1 + rho * A @ A)),
            optax.set_to_zero(),
        )
        state, _ = scanned(solver, solver.init(jnp.zeros(3)), 4000)
        return state, solver.problem.multiplier_estimates(state)

    rhos = np.array([0.5, 8.0])
    states, estimates = jax.jit(jax.vmap(ended))(rhos)
    for i, rho in enumerate(rhos):
        want = np.linalg.solve(np.eye(3) + rho * np.outer(A, A), C + rho * A)
        # At worst 1 - 1/98 + 1/98² a step, 4e-18 in the end; conditioning 49 at most.
        np.testing.assert_allclose(states.params[i], want, rtol=1e-12)
        assert float(states.multipliers.equality["h"][i]) == 0.0
        # The estimate's weight of the constraint's gradient balances the loss's.
        got = estimates.equality["h"][i] * A
        np.testing.assert_allclose(got, C - want, rtol=1e-11)
        h = jc.Constraints({"h": A @ want - 1})
        theirs = jc.multiplier_estimates(h, jc.Constraints({"h": 0.0}), rho)
        np.testing.assert_allclose(theirs.equality["h"] * A, C - want, rtol=1e-12)


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


@pytest.mark.parametrize(
    ("name", "penalty"),
    [
        ("alternating", lambda: jc.growing_penalty(1.0, every=20, limit=100.0)),
        ("primal first", lambda: 10.0),
        pytest.param("alternating", lambda: 10.0, marks=pytest.mark.slow),
        pytest.param(
            "primal first",
            lambda: jc.growing_penalty(1.0, every=20, limit=100.0),
            marks=pytest.mark.slow,
        ),
    ],
    ids=["growing", "fixed", "fixed", "growing"],
)
def test_method_of_multipliers_as_in_textbooks_reaches_the_answer(x64, name, penalty):
    # Each minimisation has 20 steps of its own and a memory of its own.
    solver = ORDERS[name](
        jc.Lagrangian(*NEAREST, penalty=penalty()),
        jc.restart_every(optax.lbfgs(), 20),
        jc.every(jc.method_of_multipliers(), 20),
    )
    state, infos = run(solver, solver.init(jnp.zeros(3)), 600)
    assert int(state.skipped) == 0
    # 30 moves of the multipliers, each of at most a factor of 1 / (1 + 10).
    assert_nearest(state, atol=1e-7)
    jax.tree.map(
        lambda got, want: np.testing.assert_allclose(got, want, atol=1e-7),
        jax.jit(solver.problem.multiplier_estimates)(state),
        state.multipliers,
    )
    assert infos.max_violation[-1] < 1e-7


BARRIER = penalties.log_quadratic


@pytest.mark.parametrize(
    ("name", "phi"),
    [
        *((name, BARRIER) for name in ORDERS),
        ("alternating", penalties.exponential_quadratic),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_barrier_starts_at_ones_and_reaches_the_answer(x64, name, phi):
    solver = ORDERS[name](
        jc.Lagrangian(*NEAREST, penalty=2.0, barrier=phi),
        optax.sgd(0.1),
        jc.every(jc.method_of_multipliers(), 50),
    )
    state = solver.init(jnp.zeros(3))
    assert float(state.multipliers.equality["sum"]) == 0.0
    np.testing.assert_array_equal(state.multipliers.inequality["cap"], [1.0, 1.0])
    state, infos = run(solver, state, 3000)
    # Sixty moves, each of at most half the method left.
    assert_nearest(state, atol=1e-7)
    assert not infos.capped.equality["sum"].any()


def test_barrier_needs_a_penalty():
    def made(penalty):
        return lambda: jc.Lagrangian(*NEAREST, penalty=penalty, barrier=BARRIER)

    def begun(penalty):
        def evaluate(p, _):  # whose constraints are known at its first evaluation
            return jc.Evaluation(NEAREST[0](p, None), jc.evaluate(NEAREST[1], p))

        problem = jc.Lagrangian(evaluate, penalty=penalty, barrier=BARRIER)
        return problem.evaluate(jnp.zeros(3))

    words = "barrier= needs a penalty: pass penalty="
    assert_refused(
        (call, ValueError, words)
        for penalty in (None, {}, {"sum": None})
        for call in (made(penalty), partial(begun, penalty))
    )


@pytest.mark.parametrize("name", ORDERS)
def test_estimates_are_the_weights_of_the_residuals_gradients(x64, name):
    loss, constraints = NEAREST
    multipliers = jc.Constraints({"sum": np.array(0.3)}, {"cap": np.array([0.4, 0.6])})
    # A few roundings of numbers below ten.
    close = partial(np.testing.assert_allclose, rtol=1e-13, atol=1e-13)

    def check(row):
        penalty, barrier = row
        solver = ORDERS[name](
            jc.Lagrangian(loss, constraints, penalty=penalty, barrier=barrier),
            optax.sgd(0.1),
            SGD,
        )
        state = solver.init(np.array([0.5, 7.0, -1.0]))
        state = state._replace(multipliers=multipliers)

        def objective(params):
            terms = loss(params, None), solver.problem.evaluate(params).residuals
            prices = state.multipliers, state.penalty
            if barrier is not None:
                return penalty_barrier_lagrangian(*terms, *prices, barrier)
            if penalty is not None:
                return jc.augmented_lagrangian(*terms, *prices)
            return jc.lagrangian(*terms, state.multipliers)

        @jax.jit
        def everything(state):
            residuals, pullback = jax.vjp(
                lambda params: solver.problem.evaluate(params).residuals, state.params
            )
            estimates = solver.problem.multiplier_estimates(state)
            got = jax.grad(loss)(state.params, None) + pullback(estimates)[0]
            return got, jax.grad(objective)(state.params), residuals, estimates

        got, want, residuals, estimates = everything(state)
        close(got, want)
        sums, caps = residuals.equality["sum"], residuals.inequality["cap"]
        close(sums, 5.5)
        close(caps, [0.3, -2.0])
        if barrier is None:
            theirs = jc.multiplier_estimates(residuals, multipliers, state.penalty)
            jax.tree.map(close, estimates, theirs)

    some = [(2.0, None), ({"cap": 3.0}, BARRIER)]
    penalty_of = [2.0, {"cap": 3.0}, {"sum": 3.0}]
    every = [(None, None), *product(penalty_of, [None, BARRIER])]
    assert_each(every if name == "alternating" else some, check)


def test_estimates_and_residuals_read_the_batch(order):
    solver = order(
        jc.Lagrangian(
            lambda p, batch: p * batch,
            jc.Constraints({"h": lambda p, batch: p - batch}),
            penalty=2.0,
        ),
        optax.sgd(0.1),
        SGD,
    )
    state = solver.init(5.0, 1.0)
    found = solver.problem.evaluate(state.params, 3.0)
    assert float(found.loss) == 15.0
    assert float(found.residuals.equality["h"]) == 2.0
    assert float(solver.problem.multiplier_estimates(state, 3.0).equality["h"]) == 4.0


def test_first_is_the_dual_or_the_primal():
    def made(first):
        return lambda: jc.alternating(
            jc.Lagrangian(*NEAREST), optax.sgd(0.1), SGD, first=first
        )

    assert_refused(
        (made(first), ValueError, f"first must be 'dual' or .*got {first!r}")
        for first in ("both", None, "Primal")
    )


OWN = {
    "h": jc.nupi(0.3, kp=2.0),
    "g": jc.capped(jc.dual_ascent(optax.adam(0.1)), 0.7),
    "gs": jc.every(jc.method_of_multipliers(), 3),
}


# All orders move multipliers by the same parts.
@pytest.mark.parametrize(
    "name", ["alternating", pytest.param("extragradient", marks=pytest.mark.slow)]
)
def test_dual_for_each_constraint_is_a_run_of_each(x64, name):
    # The three parameters have nothing to do with one another.
    everything = {
        "h": lambda p, _: p["h"] - 1.0,
        "g": lambda p, _: 2.0 - p["g"],
        "gs": lambda p, _: jnp.stack([3.0 - p["gs"], p["gs"] - 8.0]),
    }
    start = {name: np.array(0.5) for name in everything}

    def trained(names):
        functions = {name: everything[name] for name in names}
        solver = ORDERS[name](
            jc.Lagrangian(
                lambda p, _: sum(p[name] ** 2 for name in names),
                jc.Constraints(
                    {name: f for name, f in functions.items() if name == "h"},
                    {name: f for name, f in functions.items() if name != "h"},
                ),
                penalty=1.5,
            ),
            optax.adam(0.05),
            {name: OWN[name] for name in names},
        )
        return scanned(solver, solver.init({name: start[name] for name in names}), 30)

    (together, infos), *runs = jax.jit(
        lambda: [trained(everything), *(trained([name]) for name in everything)]
    )()
    # Thirty steps of a few roundings of numbers below ten.
    close = partial(np.testing.assert_allclose, rtol=1e-11, atol=1e-12)
    for constraint, (alone, info) in zip(everything, runs):
        kind = "equality" if constraint == "h" else "inequality"
        close(together.params[constraint], alone.params[constraint])
        for ours, theirs in [
            (together.multipliers, alone.multipliers),
            (together.penalty, alone.penalty),
            (infos.violation, info.violation),
            (infos.capped, info.capped),
        ]:
            close(getattr(ours, kind)[constraint], getattr(theirs, kind)[constraint])
        assert getattr(infos.multiplier, kind)[constraint].max() > 0.1


def test_dual_that_is_none_is_refused_in_one_sentence():
    def made(dual):
        return lambda: jc.alternating(jc.Lagrangian(*NEAREST), optax.sgd(0.1), dual)

    no_transform = "dual must be an optax transform, .* got "
    assert_refused(
        [
            (made(dual), error, words)
            for dual, error, words in [
                (
                    {"sum": SGD},
                    ValueError,
                    "dual has no transform for constraint 'cap'",
                ),
                (
                    {"sum": SGD, "cap": SGD, "flux": SGD},
                    ValueError,
                    r"dual of 'flux': no such constraint; there are \['sum', 'cap'\]",
                ),
                (0.1, TypeError, no_transform + "float"),
                (optax.sgd, TypeError, no_transform + "function"),
                (
                    {"sum": SGD, "cap": 0.1},
                    TypeError,
                    "dual of 'cap' must be .* got float",
                ),
                (optax.adam(0.1), ValueError, "dual moves a multiplier down"),
                (optax.chain(SGD, optax.scale(-1.0)), ValueError, "dual moves a mult"),
                (
                    {"sum": SGD, "cap": optax.sgd(0.1)},
                    ValueError,
                    "dual of 'cap' moves a multiplier down",
                ),
            ]
        ],
        most=159,
    )


def test_dual_that_descends_is_refused_however_it_is_wrapped():
    sgd = optax.sgd(0.5)
    duals = {
        "bare": lambda: sgd,
        "warm-up": lambda: optax.sgd(optax.linear_schedule(0.0, 0.5, 10)),
        "mean": lambda: optax.MultiSteps(sgd, 3).gradient_transformation(),
        "every": lambda: jc.every(sgd, 3),
        "stalled": lambda: jc.when_stalled(sgd),
        "capped": lambda: jc.capped(sgd, 10.0),
        "restarted": lambda: jc.restart_when_feasible(sgd),
    }

    def made(dual):
        return lambda: jc.alternating(
            jc.Lagrangian(parabola, AT_MOST_1), optax.sgd(0.1), dual()
        )

    words = r"dual moves a .*wrap it as jaxcon\.dual_ascent"
    assert_refused(
        ((made(dual), ValueError, words) for dual in duals.values()), most=159
    )


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
def test_dual_wrapped_by_optax_climbs_at_rates_swept_in_one_program(wrap):
    def climbed(rate):
        dual = wrap(jc.dual_ascent(optax.sgd(rate)))
        solver = jc.alternating(jc.Lagrangian(*NEAREST), optax.sgd(0.01), dual)
        state = solver.init(jnp.array([2.0, 1.0, 0.0]))
        return scanned(solver, state, 2)[0].multipliers

    together, alone = jax.jit(
        lambda rates: (jax.vmap(climbed)(rates), [climbed(rate) for rate in rates])
    )(np.float32([0.1, 0.2]))
    for row, one in enumerate(alone):
        jax.tree.map(
            # Fused and unfused programs differ by a few roundings.
            lambda rows, one, row=row: np.testing.assert_allclose(
                rows[row], one, rtol=1e-5
            ),
            together,
            one,
        )
        assert float(one.inequality["cap"][0]) > 0
    # The steps of two rates, so that the sweep does not hold of a rate left out.
    assert together.inequality["cap"][1, 0] > 1.5 * together.inequality["cap"][0, 0]
    still = isinstance(wrap(SGD), dict)
    assert (np.asarray(together.equality["sum"]) == 0).all() == still


def test_method_of_multipliers_says_which_constraint_has_no_penalty():
    def stepped(order):
        dual = jc.method_of_multipliers()
        solver = order(
            jc.Lagrangian(*NEAREST, penalty={"sum": 1.0}), optax.sgd(0.1), dual
        )
        state = solver.init(jnp.zeros(3))
        return lambda: jax.eval_shape(solver.step, state)

    words = "penalty for inequality constraint 'cap'"
    assert_refused((stepped(order), ValueError, words) for order in ORDERS.values())


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
def test_info_capped_says_whose_multipliers_sit_on_their_cap(dual, on_cap):
    solver = jc.alternating(
        jc.Lagrangian(
            lambda p, _: 0.0 * p,
            jc.Constraints(
                {"up": lambda p, _: 1.0 + 0 * p, "down": lambda p, _: 0 * p - 1.0},
                {
                    "pushes": lambda p, _: jnp.stack([1.0 + 0 * p, 0 * p - 1.0]),
                    "rests": lambda p, _: 0 * p - 1.0,
                },
            ),
        ),
        optax.sgd(0.1),
        dual,
    )
    _, infos = run(solver, solver.init(1.0), 8)
    for _, name, flags in named(infos.capped):
        np.testing.assert_array_equal(flags, np.arange(8) >= on_cap.get(name, 8))


# Not extragradient: its gradient is of the point ahead, its line search from here. The
# primal's move first is in the method of multipliers above.
@pytest.mark.parametrize(
    "name", [pytest.param("simultaneous", marks=pytest.mark.slow), "alternating"]
)
def test_lbfgs_with_its_line_search_is_a_primal(x64, name):
    solver = ORDERS[name](
        jc.Lagrangian(*NEAREST, penalty=1.0),
        optax.lbfgs(),
        # Curvature is learned across moves of the multipliers, so these move slowly.
        jc.dual_ascent(optax.sgd(0.1)),
    )
    state, _ = run(solver, solver.init(jnp.zeros(3)), 1000)
    assert int(state.skipped) == 0
    # (1 - 0.1 / 2)^1000 = 5e-23 of the multipliers' method is left; the search is inexact.
    assert_nearest(state, atol=1e-5)


ONES = np.ones(2, np.float32)
TREES = {
    "array": (np.float32([1.0, -2.0]), lambda p: p),
    "scalar": (np.float32(2.0), lambda p: p),
    "python float": (2.0, lambda p: p),
    "dict": ({"w": np.ones((2, 2), np.float32), "b": 0.5}, lambda p: p["w"] + p["b"]),
    "tuple": ((ONES, [np.float32(3.0)], None), lambda p: p[0] * p[1][0]),
}


def on_tree(order, tree):
    """A method whose parameters are that tree, and its start."""
    params, output = TREES[tree]
    solver = order(
        jc.Lagrangian(
            lambda p, _: jnp.sum(output(p) ** 2),
            jc.Constraints(equality={"sum": lambda p, _: jnp.sum(output(p)) - 1.0}),
            penalty=1.0,
        ),
        optax.sgd(0.02, momentum=0.5),
        jc.dual_ascent(optax.sgd(0.5)),
    )
    return solver, solver.init(params)


@pytest.mark.parametrize("tree", TREES)
def test_params_are_any_pytree_of_floats(tree):
    params, _ = TREES[tree]
    solver, state = on_tree(jc.alternating, tree)
    assert jax.tree.structure(state.params) == jax.tree.structure(params)
    state, infos = run(solver, state, 500)
    assert jax.tree.structure(state.params) == jax.tree.structure(params)
    assert infos.max_violation[0] > 0.5
    assert infos.max_violation[-1] < 1e-3


def test_params_keep_their_structure_in_every_order():
    def check(row):
        solver, state = on_tree(ORDERS[row[0]], row[1])
        assert_keeps(lambda state: solver.step(state)[0], state)

    assert_each(product(ORDERS, TREES), check)


def test_params_that_are_no_floats_are_refused_by_path():
    def begun(params):
        solver = jc.alternating(
            jc.Lagrangian(lambda p, _: 0.0, jc.Constraints()), optax.sgd(0.1), SGD
        )
        return lambda: solver.init(params)

    ones = jnp.ones(2)
    assert_refused(
        (begun(params), TypeError, [*words, "floating-point"])
        for params, words in [
            ({"w": ones, "n": jnp.array(3)}, ["params['n']", "int32"]),
            ((ones, [ones, 7]), ["params[1][1]", "int"]),
            ({"mask": np.array([True])}, ["params['mask']", "bool"]),
            ({"name": "tanh"}, ["params['name']", "str"]),
            ({"key": jax.random.key(0)}, ["params['key']", "key"]),
            (jnp.array(1 + 1j), ["params", "complex64"]),
        ]
    )


def test_loss_that_is_not_one_real_number_is_refused():
    def begun(order, loss):
        solver = order(jc.Lagrangian(loss, jc.Constraints()), optax.sgd(0.1), SGD)
        return lambda: solver.init(jnp.ones(2))

    def column(p, _):
        return jnp.ones((3, 1)), 0.0

    assert_refused(
        (begun(order, loss), error, ["loss", *words])
        for order in ORDERS.values()
        for loss, error, words in [
            (lambda p, _: jnp.ones(1), ValueError, ["(1,)", "mean"]),
            (column, ValueError, ["(3, 1)"]),
            (lambda p, _: jnp.array(1), TypeError, ["int32", "real"]),
            (lambda p, _: jnp.array(1j), TypeError, ["complex64", "real"]),
        ]
    )


def test_loss_and_constraints_are_checked_when_the_problem_is_made():
    held = {"h": lambda p, _: p}
    assert_refused(
        [
            (lambda: jc.Lagrangian(parabola, held), TypeError, r"jaxcon\.Constraints"),
            (
                lambda: jc.Lagrangian(parabola, jc.Constraints({"h": 1.0})),
                TypeError,
                "'h'",
            ),
            (lambda: jc.Lagrangian(1.0), TypeError, "loss must be .* got float"),
        ]
    )


def test_order_refuses_what_is_no_problem():
    def made(order):
        return lambda: order(parabola, optax.sgd(1.0), SGD)

    words = r"needs a problem: pass jaxcon\.Lagrangian.* got function"
    assert_refused((made(order), TypeError, words) for order in ORDERS.values())


def test_multipliers_of_another_number_of_points_are_refused():
    def stepped(kind, later, penalty):
        constraints = jc.Constraints(**{kind: {"flux": lambda p, batch: p * batch}})
        solver = jc.alternating(
            jc.Lagrangian(lambda p, _: p**2, constraints, penalty=penalty),
            optax.sgd(0.1),
            SGD,
        )
        state = solver.init(1.0, np.ones(5, np.float32))
        return lambda: jax.eval_shape(solver.step, state, later)

    assert_refused(
        (
            stepped(kind, later, penalty),
            ValueError,
            [
                kind,
                "'flux'",
                f"residual of shape {np.shape(later)}",
                "multipliers of shape (5,)",
            ],
        )
        for kind, later, penalty in [
            ("equality", np.ones(7, np.float32), None),
            ("inequality", np.ones(7, np.float32), 1.0),
            # What would be broadcast in silence.
            ("equality", np.ones(1, np.float32), 1.0),
            ("inequality", 2.0, None),
        ]
    )


def test_state_of_another_method_is_refused():
    cap = jc.Constraints(inequality={"cap": lambda p, _: p - 1.0})
    floor = jc.Constraints(inequality={"floor": lambda p, _: 1.0 - p})

    def made(constraints=cap, primal=None, dual=SGD, penalty=1.0):
        problem = jc.Lagrangian(lambda p, _: p**2, constraints, penalty=penalty)
        return jc.alternating(problem, primal or optax.sgd(0.1), dual)

    others = {
        "penalty": made(penalty=None),
        "primal": made(primal=optax.adam(0.1)),
        "dual": made(dual=jc.nupi(0.1, kp=1.0)),
        "rule": made(penalty=jc.growing_penalty(1.0, every=2)),
        "multipliers": made(constraints=floor),
    }
    solver = made()
    assert_refused(
        (
            lambda other=other: jax.eval_shape(solver.step, other.init(1.0)),
            ValueError,
            ["the state is of another method", f"its {part} "],
        )
        for part, other in others.items()
    )
    assert_refused([(lambda: solver.step(1.0), TypeError, "state must be .* got 1.0")])
    jax.eval_shape(solver.step, made().init(2.0))  # of an equal method


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_multipliers_penalties_and_their_optimizers_are_float32_at_least(dtype):
    rule = jc.Constraints(inequality={"g": lambda p, _: jnp.ones((), dtype) + 0 * p[0]})
    problem = jc.Lagrangian(
        lambda p, _: 0 * jnp.sum(p),
        rule,
        penalty=jc.growing_penalty(1e-3, every=1000, factor=2.0),
    )
    ascent = jc.dual_ascent(optax.adam(1e-3))
    solver = jc.alternating(problem, optax.sgd(0.0), ascent)
    state = solver.init(jnp.zeros(2, dtype))
    kept = state.multipliers, state.penalty, state.dual, state.rule
    for leaf in jax.tree.leaves(kept):
        assert leaf.dtype in (jnp.float32, jnp.int32)
    state, infos = run(solver, state, 3000)
    assert state.params.dtype == dtype
    assert bool(infos.finite.all())
    # In bfloat16 it would stand still at 0.5.
    np.testing.assert_allclose(state.multipliers.inequality["g"], 3.0, rtol=1e-3)
    assert float(state.penalty.inequality["g"]) == np.float32(4e-3)


BATCHES = {
    "none": (None, lambda batch: 1.0),
    "dict": (
        {"x": np.ones(3, np.float32), "unused": np.arange(2)},
        lambda batch: batch["x"].mean(),
    ),
    "tuple": ((np.float32(0.5), 2.0), lambda batch: batch[0] * batch[1]),
    "python float": (1.0, lambda batch: batch),
}


@pytest.mark.parametrize(
    ("order", "batch"),
    [
        *((name, "dict") for name in ORDERS),
        *(("alternating", batch) for batch in BATCHES if batch != "dict"),
    ],
)
def test_batch_is_any_pytree_or_none(order, batch):
    batch, read = BATCHES[batch]
    solver = ORDERS[order](
        jc.Lagrangian(
            lambda p, batch: p**2 / 2 + 0 * read(batch),
            jc.Constraints(equality={"h": lambda p, batch: p - read(batch)}),
            penalty=1.0,
        ),
        optax.sgd(0.5),
        jc.dual_ascent(optax.sgd(0.5)),
    )
    more = () if batch is None else (batch,)
    state, step = solver.init(0.0, *more), jax.jit(solver.step)
    for _ in range(100):
        state, _ = step(state, *more)
    # Every order contracts by at least 0.8 a step here, to float32's rounding.
    np.testing.assert_allclose(state.params, 1.0, rtol=1e-6)
    np.testing.assert_allclose(state.multipliers.equality["h"], -1.0, rtol=1e-6)


def test_info_aux_is_of_the_point_before_the_step(order):
    solver = order(
        jc.Lagrangian(
            lambda p, batch: (p**2, {"p": p, "both": (p + batch, jnp.arange(3))}),
            jc.Constraints(),
        ),
        optax.sgd(0.25),
        jc.dual_ascent(optax.sgd(0.1)),
    )
    state, info = jax.jit(solver.step)(solver.init(4.0, 1.0), 1.0)
    assert float(info.aux["p"]) == 4.0
    assert float(info.aux["both"][0]) == 5.0
    np.testing.assert_array_equal(info.aux["both"][1], [0, 1, 2])
    assert float(state.params) < 4.0


def test_order_without_constraints_is_the_optimizer_alone(order):
    primal = optax.sgd(0.1, momentum=0.5)
    solver = order(
        jc.Lagrangian(lambda p, _: jnp.sum(p**2) / 2, jc.Constraints()),
        primal,
        jc.dual_ascent(optax.adam(0.1)),
    )
    state, infos = run(solver, solver.init(jnp.array([1.0, 2.0])), 1)
    # sgd from p moves by -0.1 p; the step looked ahead to is 0.9 p.
    factor = 0.91 if order is jc.extragradient else 0.9
    np.testing.assert_allclose(state.params, [factor, 2 * factor], rtol=1e-6)
    assert float(infos.max_violation[0]) == 0.0


GOOD = {"loss": 1.0, "h": 0.5, "g": -0.25, "root": 1.0}
FAULTS = [
    {"loss": np.nan},
    {"loss": np.inf},
    {"h": np.nan},
    {"h": np.inf},
    {"g": np.nan},
    {"g": np.inf},
    {"g": -np.inf},
    {"root": 0.0},  # sqrt(0) is 0, its gradient 0 times infinity
]


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
    solver = order(
        jc.Lagrangian(
            lambda p, b: b["loss"] * p @ p + jnp.sqrt(b["root"] * p @ p),
            jc.Constraints(
                {"h": lambda p, b: p + b["h"]}, {"g": lambda p, b: jnp.sum(p) + b["g"]}
            ),
            penalty=penalty,
        ),
        optax.adam(0.1),
        dual,
    )
    return solver, solver.init(jnp.array([1.0, -2.0, 3.0]), GOOD), jax.jit(solver.step)


@pytest.mark.parametrize(
    "memory",
    [
        pytest.param(name, marks=() if name == "everything" else pytest.mark.slow)
        for name in MEMORIES
    ],
)
def test_step_that_is_not_finite_moves_nothing(order, memory):
    _, start, step = faulty(order, memory)

    def check(fault):
        state = start
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
        back = skipped._replace(step=state.step, skipped=state.skipped)
        assert_same_bits(back, state)
        after, info = step(skipped, GOOD)
        assert bool(info.finite)
        assert int(after.skipped) == 1
        for new, old in zip(after[:2], skipped[:2]):
            assert not np.array_equal(jax.tree.leaves(new)[0], jax.tree.leaves(old)[0])

    assert_each(FAULTS, check)


def test_info_of_a_broken_residual_is_not_finite_either(order):
    # -inf satisfies g <= 0, but nothing follows from it: it must be seen, and by name.
    _, state, step = faulty(order, "everything")
    kinds = {"equality": "h", "inequality": "g"}

    def check(row):
        kind, value = row
        _, info = step(state, GOOD | {kinds[kind]: value})
        assert not np.isfinite(getattr(info.violation, kind)[kinds[kind]])
        assert not np.isfinite(info.max_violation)
        (other,) = kinds.keys() - {kind}
        assert np.isfinite(jax.tree.leaves(getattr(info.violation, other))).all()

    assert_each(product(kinds, [np.nan, np.inf, -np.inf]), check)


def test_step_vmapped_over_starts_skips_only_the_one_with_a_fault():
    # The guard is one for all orders; that vmap is a loop of steps is a law of each.
    solver, _, step = faulty(jc.alternating, "everything")
    starts = np.float32([[1.0, -2.0, 3.0], [0.5, 0.5, 0.5]])
    batches = {name: np.full(2, value, np.float32) for name, value in GOOD.items()}
    batches["loss"][0] = np.nan

    @jax.jit
    def moved(starts, batches):
        states = jax.vmap(lambda p: solver.init(p, GOOD))(starts)
        return jax.vmap(solver.step)(states, batches)

    after, infos = moved(starts, batches)
    np.testing.assert_array_equal(infos.finite, [False, True])
    np.testing.assert_array_equal(after.skipped, [1, 0])
    np.testing.assert_array_equal(after.params[0], starts[0])
    alone, _ = step(solver.init(starts[1], GOOD), GOOD)
    np.testing.assert_allclose(after.params[1], alone.params, rtol=1e-6)


def test_penalty_is_kept_in_the_loss_s_dtype(dtype):
    def check(name):
        solver = ORDERS[name](
            jc.Lagrangian(
                lambda p, _: jnp.sum(p**2),
                jc.Constraints(equality={"h": lambda p, _: p}),
                penalty=2.0,
            ),
            optax.sgd(0.1),
            SGD,
        )
        state = solver.init(jnp.ones(2))
        assert state.penalty.equality["h"].dtype == dtype
        assert state.multipliers.equality["h"].dtype == dtype
        assert jax.eval_shape(solver.step, state)[0].params.dtype == dtype

    assert_each(ORDERS, check)


def test_step_whose_move_overflows_is_skipped(order):
    constraints = jc.Constraints(inequality={"cap": lambda p, _: p["x"] - 3.0})
    solver = order(
        jc.Lagrangian(lambda p, _: 1e38 * p["x"], constraints),
        optax.sgd(10.0),
        jc.dual_ascent(optax.sgd(1.0)),
    )
    state = solver.init({"x": 4.0})
    after, info = jax.jit(solver.step)(state)
    assert not info.finite
    assert int(after.skipped) == 1
    assert float(after.params["x"]) == 4.0
    assert float(after.multipliers.inequality["cap"]) == 0.0


def rate_of_one_s_own(step):
    return 0.1 / (1 + step)


# Optimizers by whether finite gradients are known to lead to finite moves.
KEEP_FINITE = {
    True: [
        optax.sgd(0.1),
        optax.sgd(0.1, momentum=0.9, nesterov=True),
        optax.adam(optax.cosine_decay_schedule(1e-2, 100)),
        optax.adamw(optax.warmup_cosine_decay_schedule(0.0, 1e-2, 10, 100)),
        optax.chain(optax.clip_by_global_norm(1.0), optax.adam(1e-3)),
        optax.set_to_zero(),
    ],
    False: [
        optax.sgd(1e12),  # times which a moderate gradient may overflow
        optax.sgd(rate_of_one_s_own),
        optax.adam(0.1, eps=0.0),
        optax.lbfgs(),
        optax.MultiSteps(optax.sgd(0.1), 2).gradient_transformation(),
        jc.restart_every(optax.adam(0.1), 3),
        optax.stateless(lambda updates, params: updates),
    ],
}


@pytest.mark.parametrize("known", KEEP_FINITE)
def test_guard_knows_optimizers_that_keep_finite_gradients_finite(known):
    assert [keeps_finite(primal) for primal in KEEP_FINITE[known]] == [known] * len(
        KEEP_FINITE[known]
    )


def test_gradient_whose_square_overflows_is_skipped_where_moves_are_not_checked():
    # Adam would divide by that square for ever after.
    unknown = optax.chain(optax.sgd(1e-20), optax.stateless(lambda u, _: u))

    def check(row):
        name, (primal, taken) = row
        solver = ORDERS[name](
            jc.Lagrangian(lambda p, batch: batch * p), primal, optax.set_to_zero()
        )
        state, step = solver.init(1.0, 1.0), jax.jit(solver.step)
        state, _ = step(state, 1.0)
        after, info = step(state, 1e20)
        assert bool(info.finite) == taken
        if not taken:
            back = after._replace(step=state.step, skipped=state.skipped)
            assert_same_bits(back, state)
        else:
            assert float(after.params) < float(state.params)

    rows = [(optax.adam(0.1), False), (optax.sgd(0.1), False), (unknown, True)]
    # Primal first needs the move before all else, and checks what it leads to.
    assert_each(product(ORDERS.keys() - {"primal first"}, rows), check)


@pytest.mark.parametrize("name", ["primal first", "extragradient"])
def test_step_to_a_point_without_a_loss_is_skipped(name):
    # The step leads to where the square root is none; h is finite everywhere.
    solver = ORDERS[name](
        jc.Lagrangian(
            lambda p, _: jnp.sqrt(p), jc.Constraints({"h": lambda p, _: p - 1.0})
        ),
        optax.sgd(1.0),
        SGD,
    )
    state = solver.init(0.25)
    after, info = jax.jit(solver.step)(state)
    assert not info.finite
    assert_same_bits(after._replace(step=state.step, skipped=state.skipped), state)


AT_MOST_1 = jc.Constraints(inequality={"x <= 1": lambda x, _: x - 1.0})


def parabola(x, _):
    return (x - 3.0) ** 2


@pytest.mark.parametrize("phi", [BARRIER, penalties.exponential_quadratic])
def test_barrier_s_multiplier_survives_a_start_far_inside(phi):
    # e^(-300) is zero in float32, and a price that is a product with it stays zero.
    solver = jc.alternating(
        jc.Lagrangian(parabola, AT_MOST_1, penalty=10.0, barrier=phi),
        optax.sgd(0.01),
        jc.every(jc.method_of_multipliers(), 100),
    )
    ended = jax.jit(jax.vmap(lambda p: scanned(solver, solver.init(p), 12_000)[0]))
    states = ended(np.float32([-30.0, -3.0, 0.0]))
    # Float32's rounding of x, which the slope of the price, 40, multiplies.
    np.testing.assert_allclose(states.params, 1.0, rtol=1e-5)
    np.testing.assert_allclose(states.multipliers.inequality["x <= 1"], 4.0, rtol=1e-4)


def test_step_that_would_spoil_a_memory_for_good_is_skipped(order):
    # Its square is infinite: Adam would divide by that for ever after.
    solver = order(
        jc.Lagrangian(
            lambda p, _: p**2, jc.Constraints({"h": lambda p, batch: p - 1.0 + batch})
        ),
        optax.sgd(0.1),
        jc.dual_ascent(optax.adam(0.1)),
    )
    state, step = solver.init(0.0, 0.0), jax.jit(solver.step)
    state, _ = step(state, 0.0)
    after, info = step(state, 1e20)
    assert not info.finite
    assert_same_bits(after._replace(step=state.step, skipped=state.skipped), state)


@pytest.mark.parametrize(
    "more",
    [
        lambda: {"dual": jc.pid(1.0, 1.0)},
        lambda: {"penalty": optax.exponential_decay(1.0, 100, 2.0)},
        lambda: {"penalty": 2.0},
        lambda: {"primal": jc.restart_every(optax.lbfgs(), 5)},
    ],
    ids=["pid", "schedule", "number", "lbfgs"],
)
def test_state_can_be_donated_and_the_start_is_kept(more):
    two = jc.Constraints(
        inequality={"a": lambda x, _: x - 1.0, "b": lambda x, _: x - 2.0}
    )
    how = {"primal": optax.sgd(0.1), "dual": SGD, "penalty": None} | more()
    problem = jc.Lagrangian(parabola, two, penalty=how["penalty"])
    solver = jc.alternating(problem, how["primal"], how["dual"])
    start = jnp.array(0.5)
    step = jax.jit(solver.step, donate_argnums=0)
    state, _ = step(solver.init(start))
    state, info = step(state)
    assert bool(info.finite)
    assert float(start) == 0.5


def averaging(p, batch, seen):
    """A problem that keeps the mean of all batches, which its constraint reads."""
    count = seen["count"] + 1
    mean = seen["mean"] + (batch - seen["mean"]) / count
    after = {"count": count, "mean": mean, "key": jax.random.split(seen["key"])[0]}
    residuals = jc.Constraints({"p is the mean": p - seen["mean"]})
    return jc.Evaluation((p - batch) ** 2, residuals, {"mean": mean}, after)


SEEN = {"count": 0.0, "mean": 5.0, "key": jax.random.key(0)}


def test_extra_state_moves_with_every_step_that_is_taken_and_no_other(order):
    solver = order(jc.Lagrangian(averaging, penalty=1.0), optax.sgd(0.1), SGD)
    state = solver.init(2.0, 1.0, SEEN)
    assert float(state.extra["mean"]) == 5.0
    step, key = jax.jit(solver.step), SEEN["key"]
    for count, batch in enumerate((1.0, 4.0, 1.0), start=1):
        violated = abs(state.params - state.extra["mean"])
        state, info = step(state, batch)
        assert float(info.violation.equality["p is the mean"]) == float(violated)
        assert float(info.aux["mean"]) == float(state.extra["mean"])
        key = jax.random.split(key)[0]
        assert float(state.extra["count"]) == count
        assert (state.extra["key"] == key).all()
    np.testing.assert_allclose(state.extra["mean"], 2.0, rtol=1e-6)
    skipped, info = step(state, np.nan)
    assert not info.finite
    back = skipped._replace(step=state.step, skipped=state.skipped)
    jax.tree.map(np.testing.assert_array_equal, *map(without_key, (back, state)))
    # What is read of a state reads it too.
    found = solver.problem.multiplier_estimates(state, 1.0).equality["p is the mean"]
    mu = state.multipliers.equality["p is the mean"]
    np.testing.assert_allclose(found, mu + state.params - state.extra["mean"], 1e-6)
    judged = jc.kkt(solver.problem, state, 1.0)
    np.testing.assert_allclose(
        judged.equality["p is the mean"], abs(state.params - state.extra["mean"])
    )


def without_key(state):
    """The state with its random key as numbers."""
    key = jax.random.key_data(state.extra["key"])
    return state._replace(extra=state.extra | {"key": key})


def test_extra_state_that_a_step_cannot_give_back_is_refused():
    def begun(after, extra):
        def evaluate(p, _, *seen):
            return jc.Evaluation(p**2, extra=after)

        solver = jc.alternating(jc.Lagrangian(evaluate), optax.sgd(0.1), SGD)
        return lambda: solver.init(1.0, None, extra)

    one = np.float32(1.0)
    given = "must return the next extra state, of the structure and shapes"
    assert_refused(
        [
            (begun(one, None), ValueError, r"pass it as init\(params, batch, extra\)"),
            (begun(None, one), ValueError, given),
            (begun({"a": one}, {"b": one}), ValueError, given),
            (begun(np.ones(2, np.float32), one), ValueError, given),
            (begun(np.int32(1), one), ValueError, given),
        ]
    )


def test_split_batch_has_a_part_for_each_side_and_a_tuple_none(order):
    # f = (p - b)², h = p - b: the multiplier moves by the residual of its own batch.
    problem = jc.Lagrangian(
        lambda p, b: (p - jnp.mean(b)) ** 2,
        jc.Constraints({"h": lambda p, b: p - jnp.mean(b)}),
    )
    solver = order(problem, optax.sgd(0.1), jc.dual_ascent(optax.sgd(0.5)))
    pair = np.ones(2, np.float32), np.full(3, 3.0, np.float32)
    batch = jc.SplitBatch(*pair)
    state, info = jax.jit(solver.step)(solver.init(0.0, batch), batch)
    assert float(info.violation.equality["h"]) == 1.0
    # Of the point before the step, or where the parameters' step leads to.
    moved = order in (ORDERS["primal first"], jc.extragradient)
    mu = 0.5 * ((0.2 if moved else 0.0) - 3.0)
    np.testing.assert_allclose(state.multipliers.equality["h"], mu, rtol=1e-6)
    plain = jc.Lagrangian(lambda p, b: (p - b[0]) ** 2 + 0.0 * b[1])
    solver = order(plain, optax.sgd(0.1), SGD)
    _, info = solver.step(solver.init(0.0, (2.0, 3.0)), (2.0, 3.0))
    assert float(info.loss) == 4.0
