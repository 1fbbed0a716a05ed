"""Every verdict on real runs of which theory says what they do, and on made histories."""

from collections import Counter
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tables import assert_each

import jaxcon as jc
from benchmarks.problems import PROBLEMS
from jaxcon.diagnosis import End, Verdict, diagnose
from jaxcon.training import History, NonFiniteError

PAIR = {"x <= -1": lambda x, _: x + 1.0, "x >= 1": lambda x, _: 1.0 - x}
HARMLESS = {"x <= 5": lambda x, _: x - 5.0}
AT_0 = {"x = 0": lambda x, _: x}
AT_1 = {"x = 1": lambda x, _: x - 1.0}
AT_MOST_1 = {"x <= 1": lambda x, _: x - 1.0}
NEVER = {"x² <= -1": lambda x, _: x**2 + 1.0}


def nothing(x, _):
    return 0.0 * jnp.sum(x)


def square(x, _):
    return jnp.sum(x**2)


def to_2(x, _):
    return (x - 2.0) ** 2


def capped(limit):
    return jc.capped(jc.dual_ascent(optax.sgd(0.1)), limit)


STILL = optax.set_to_zero()


FAR = {"x <= 10": lambda x, _: x - 10.0}
SUM_1 = {"x + y = 1": lambda p, _: jnp.sum(p) - 1.0}


def ellipse(p, _):
    return (p[0] - 3.0) ** 2 + 5.0 * (p[1] - 1.0) ** 2


def decaying(rate):
    return optax.cosine_decay_schedule(rate, 50)


def run_of(
    loss, equality, inequality, primal, start=0.0, penalty=1.0, dual=None, steps=500
):
    """The result of a run by any transform."""
    rules = jc.Constraints(equality, inequality)
    problem = jc.Lagrangian(loss, rules, penalty=penalty)
    dual = dual or jc.dual_ascent(optax.sgd(0.1))
    solver = jc.alternating(problem, primal, dual)
    return jc.fit(solver, jnp.asarray(start, float), steps=steps, progress=False)


@cache
def method_of(order, loss, equality, inequality, adam, dual, penalised):
    """A method whose rates and penalty are numbers of its state: one for many runs."""
    primal = optax.inject_hyperparams(optax.adam if adam else optax.sgd)(0.0)
    if dual is None:
        dual = jc.dual_ascent(optax.inject_hyperparams(optax.sgd)(0.0))
    constraints = jc.Constraints(dict(equality), dict(inequality))
    penalty = 1.0 if penalised else None
    return order(jc.Lagrangian(loss, constraints, penalty=penalty), primal, dual)


def run(
    order=jc.alternating,
    loss=square,
    equality={},  # noqa: B006
    inequality={},  # noqa: B006
    start=2.0,
    rate=0.1,
    adam=False,
    dual_rate=0.1,
    dual=None,
    penalty=None,
    steps=1000,
    **more,
):
    """The result of a run, also of one that stops because it left the numbers."""
    rules = tuple(equality.items()), tuple(inequality.items())
    solver = method_of(order, loss, *rules, adam, dual, penalty is not None)
    state = solver.init(jnp.asarray(start, float), 0.0)

    def given(tree, value):
        return jax.tree.map(lambda leaf: jnp.asarray(value, leaf.dtype), tree)

    def at_rate(transform, rate):
        old = optax.tree_utils.tree_get(transform, "learning_rate")
        return optax.tree_utils.tree_set(transform, learning_rate=given(old, rate))

    state = state._replace(
        primal=at_rate(state.primal, rate),
        dual=at_rate(state.dual, dual_rate) if dual is None else state.dual,
        penalty=given(state.penalty, penalty),
    )
    try:
        return jc.fit(solver, state, steps=steps, progress=False, **more)
    except NonFiniteError as stopped:
        return stopped.result


def of(problem, order, steps=3000, **more):
    rate = problem.learning_rate
    return run(
        order,
        problem.loss,
        *problem.constraints,
        start=problem.start,
        rate=rate,
        dual_rate=rate,
        steps=steps,
        **more,
    )


def history(rows=400, finite=None, loss=0.0, **tracks):
    """A made history: name=(violation, multiplier[, penalty]) of one inequality each."""
    full = lambda value: np.broadcast_to(np.asarray(value, float), rows)  # noqa: E731
    column = lambda i: jc.Constraints(  # noqa: E731
        inequality={n: full(t[i]) for n, t in tracks.items() if len(t) > i}
    )
    return jc.Info(
        loss=full(loss),
        max_violation=np.max([full(t[0]) for t in tracks.values()], axis=0),
        violation=column(0),
        multiplier=column(1),
        penalty=column(2),
        capped=jc.Constraints(),
        clipped={},
        finite=np.ones(rows, bool) if finite is None else finite,
        aux=None,
    )


def kinds(history, tolerance=1e-3):
    return kinds_of(diagnose(history, tolerance))


def kinds_of(diagnosis):
    return {v.kind: v.constraints for v in diagnosis.verdicts}


# name: (what is run, {each kind that must be said: of which constraints})
RUNS = {
    # Simultaneous moves turn outward on a bilinear game by sqrt(1 + 0.01) a step,
    # alternating ones stay on a closed curve, and extragradient turns inward.
    "bilinear, simultaneous": (
        lambda: run(jc.simultaneous, nothing, AT_0),
        {"oscillating": ("x = 0",)},
    ),
    "bilinear, simultaneous, fast": (
        lambda: run(
            jc.simultaneous,
            nothing,
            AT_0,
            rate=0.5,
            dual_rate=0.5,
            steps=500,
        ),
        {"oscillating": ("x = 0",)},
    ),
    "bilinear, alternating": (
        lambda: run(jc.alternating, nothing, AT_0),
        {"oscillating": ("x = 0",)},
    ),
    "bilinear, extragradient": (
        lambda: run(jc.extragradient, nothing, AT_0, steps=3000),
        {"converged": ()},
    ),
    "linear loss, alternating": (
        lambda: run(jc.alternating, lambda x, _: -x, {}, AT_MOST_1, steps=2000),
        {"oscillating": ("x <= 1",)},
    ),
    "three bilinear games at once": (
        lambda: run(
            jc.simultaneous,
            nothing,
            *PROBLEMS["min norm"]().constraints,
            start=np.ones(6),
            rate=0.02,
            dual_rate=0.02,
            steps=2000,
        ),
        {"oscillating": ("A x = b",)},
    ),
    # Nothing satisfies these: at the balance both are broken by 1 (or 1/2).
    "infeasible pair": (
        lambda: run(inequality=PAIR),
        {"infeasible": ("x <= -1", "x >= 1")},
    ),
    "infeasible pair, extragradient, no loss": (
        lambda: run(jc.extragradient, nothing, {}, PAIR, steps=2000),
        {"infeasible": ("x <= -1", "x >= 1")},
    ),
    "infeasible pair, Adam and a penalty": (
        lambda: run(
            loss=lambda x, _: (x - 0.3) ** 2,
            inequality=PAIR,
            rate=0.01,
            adam=True,
            penalty=1.0,
            steps=3000,
        ),
        {"infeasible": ("x <= -1", "x >= 1")},
    ),
    "infeasible pair beside a harmless one": (
        lambda: run(jc.simultaneous, inequality=PAIR | HARMLESS),
        {"infeasible": ("x <= -1", "x >= 1")},
    ),
    "infeasible equalities": (
        lambda: run(equality=AT_0 | AT_1),
        {"infeasible": ("x = 0", "x = 1")},
    ),
    "infeasible equalities under a penalty": (
        lambda: run(equality=AT_0 | AT_1, penalty=1.0),
        {"infeasible": ("x = 0", "x = 1")},
    ),
    "infeasible by itself": (
        lambda: run(loss=to_2, inequality=NEVER, rate=1e-3, steps=2000),
        {"infeasible": ("x² <= -1",)},
    ),
    "infeasible pair under a cap": (
        lambda: run(inequality=PAIR, dual=capped(10.0)),
        {
            "infeasible": ("x <= -1", "x >= 1"),
            "cap reached": ("x <= -1", "x >= 1"),
        },
    ),
    # The multiplier is 2, but may only be 1, so x stays at 3/2.
    "a cap too low": (
        lambda: run(loss=to_2, inequality=AT_MOST_1, dual=capped(1.0)),
        {"cap reached": ("x <= 1",)},
    ),
    "a cap high enough": (
        lambda: run(loss=to_2, inequality=AT_MOST_1, dual=capped(9.0)),
        {"converged": ()},
    ),
    # Gradient descent of rate 0.1 is stable up to a curvature of 20; here it is 32,
    # 21 or, on the circle, 8 times the penalty.
    "penalty too large, inequality": (
        lambda: run(loss=to_2, inequality=AT_MOST_1, penalty=30.0, start=3.0),
        {"penalty too large": ("x <= 1",)},
    ),
    "penalty too large, no multipliers": (
        lambda: run(loss=to_2, inequality=AT_MOST_1, penalty=30.0, dual=STILL),
        {"penalty too large": ("x <= 1",)},
    ),
    "penalty slightly too large, equality": (
        lambda: run(loss=to_2, equality=AT_0, penalty=19.0, steps=300),
        {"penalty too large": ("x = 0",)},
    ),
    "penalty too small": (  # 2 (x - 2) + 3 (x - 1) = 0 leaves x - 1 = 2/5
        lambda: run(loss=to_2, inequality=AT_MOST_1, penalty=3.0, dual=STILL),
        {"penalty too small": ("x <= 1",)},
    ),
    "penalty of a pair": (  # no penalty is large enough
        lambda: run(inequality=PAIR, penalty=3.0, dual=STILL),
        {"infeasible": ("x <= -1", "x >= 1")},
    ),
    # The multiplier gets to 4e-7, and pulls nothing beside 3 (x - 1).
    "penalty too small beside a dual far too slow": (
        lambda: run(loss=to_2, inequality=AT_MOST_1, penalty=3.0, dual_rate=1e-9),
        {"penalty too small": ("x <= 1",)},
    ),
    "penalty large enough beside a dual far too slow": (
        lambda: run(
            loss=to_2,
            inequality=AT_MOST_1,
            penalty=5e3,
            rate=1e-4,
            dual_rate=1e-9,
        ),
        {"converged": ()},
    ),
    "penalty large enough": (  # it leaves 2 / (2 + 5000)
        lambda: run(
            loss=to_2,
            inequality=AT_MOST_1,
            penalty=5e3,
            rate=1e-4,
            dual=STILL,
        ),
        {"converged": ()},
    ),
    "nobody pulls": (
        lambda: run(loss=to_2, inequality=AT_MOST_1, dual=STILL),
        {"not pulled": ("x <= 1",)},
    ),
    "nobody pulls at an equality": (
        lambda: run(loss=to_2, equality=AT_0, dual=STILL),
        {"not pulled": ("x = 0",)},
    ),
    "nobody pulls a pair": (
        lambda: run(inequality=PAIR | HARMLESS, start=0.5, dual=STILL),
        {"infeasible": ("x <= -1", "x >= 1")},
    ),
    # Slow parameters: λ passes its 2 at once, reaches 100 and has to come down again.
    "winding up": (
        lambda: run(
            loss=to_2,
            inequality=AT_MOST_1,
            rate=1e-4,
            dual_rate=1.0,
            steps=130,
        ),
        {"winding up": ("x <= 1",)},
    ),
    "winding up, slower": (
        lambda: run(
            loss=to_2,
            inequality=AT_MOST_1,
            rate=1e-5,
            dual_rate=1.0,
            steps=400,
        ),
        {"winding up": ("x <= 1",)},
    ),
    "wound up": (
        lambda: run(
            loss=to_2,
            inequality=AT_MOST_1,
            rate=1e-4,
            dual_rate=1.0,
            steps=400,
        ),
        {"winding up": ("x <= 1",)},
    ),
    "wound up, Adam": (
        lambda: run(
            loss=to_2,
            inequality=AT_MOST_1,
            rate=1e-3,
            adam=True,
            start=3.0,
            penalty=1.0,
            steps=4000,
        ),
        {"winding up": ("x <= 1",)},
    ),
    # In step with its multiplier the violation falls by 0.05 % a step, or not to be seen.
    "a slow dual": (
        lambda: run(loss=to_2, inequality=AT_MOST_1, dual_rate=1e-3, steps=300),
        {"still moving": ("x <= 1",)},
    ),
    "a dual far too slow": (
        lambda: run(loss=to_2, inequality=AT_MOST_1, dual_rate=1e-9, start=3.0),
        {"still moving": ("x <= 1",)},
    ),
    "a slow primal": (
        lambda: run(loss=to_2, rate=1e-3, start=3.0),
        {"still moving": ()},
    ),
    # Nothing moves, but nothing is optimal: x - 2 = -1.9, or the constraint by itself.
    "a rate that decayed": (
        lambda: run_of(to_2, {}, FAR, optax.adam(decaying(0.1)), start=-2.0),
        {"stalled": ()},
    ),
    "a rate that decayed, no constraint": (
        lambda: run_of(to_2, {}, {}, optax.sgd(decaying(1e-2)), penalty=None),
        {"stalled": ()},
    ),
    "a penalty of 1e12": (
        lambda: run_of(
            ellipse, SUM_1, {}, optax.adam(1e-2), [0.0, 0.0], 1e12, steps=2000
        ),
        {"stalled": ()},
    ),
    # At 1e5 within sixty steps, long before the parameters are near a minimum.
    "a penalty grown to 1e5": (
        lambda: run_of(
            ellipse,
            SUM_1,
            {},
            optax.adam(1e-2),
            [0.0, 0.0],
            optax.piecewise_constant_schedule(
                1.0, dict.fromkeys(range(20, 70, 10), 10.0)
            ),
            steps=2000,
        ),
        {"stalled": ()},
    ),
    # It is that by step 200; violations pass the tolerance until step 1,780 at least.
    "a penalty that a rule grew to 1e5": (
        lambda: run_of(
            ellipse,
            SUM_1,
            {},
            optax.adam(1e-2),
            [0.0, 0.0],
            jc.growing_penalty(1.0, every=10, limit=1e5),
            steps=2000,
        ),
        {"oscillating": ("x + y = 1",)},
    ),
    "a large penalty, but stuck": (
        lambda: run_of(
            to_2, {}, AT_MOST_1, optax.adam(decaying(1e-2)), 3.0, 1e6, STILL
        ),
        {"stalled": ("x <= 1",)},
    ),
    # The multiplier climbs to 50 while x stays at 2; x <= 1 is one step away.
    "a primal far too slow": (
        lambda: run(loss=to_2, inequality=AT_MOST_1, rate=1e-9, steps=500),
        {"not met": ("x <= 1",)},
    ),
    "a primal far too slow, equality": (
        lambda: run(loss=to_2, equality=AT_0, rate=1e-12, steps=500),
        {"not met": ("x = 0",)},
    ),
    "a primal far too slow, penalised": (
        lambda: run(loss=to_2, inequality=AT_MOST_1, rate=1e-9, penalty=1.0),
        {"still moving": ("x <= 1",)},
    ),
    # The violation falls all the while, under a multiplier of 3 that is enough.
    "a cap that is reached on the way": (
        lambda: run(
            loss=to_2,
            inequality=AT_MOST_1,
            rate=1e-3,
            dual=capped(3.0),
            start=3.0,
            steps=500,
        ),
        {"still moving": ("x <= 1",)},
    ),
    # The loss alone bends by 22, and gradient descent of rate 0.1 bears 20.
    "a loss too stiff, beside a penalty": (
        lambda: run(
            loss=lambda x, _: 10.0001 * (x - 2.0) ** 2,
            inequality=AT_MOST_1,
            penalty=1e-6,
            start=3.0,
            dual=STILL,
            steps=300,
        ),
        {"oscillating": ("x <= 1",)},
    ),
    "too short": (lambda: run(inequality=PAIR, steps=10), {"too short to say": ()}),
    "no constraint": (lambda: run(), {"converged": ()}),
    "no constraint, diverging": (
        lambda: run(rate=1.5, steps=60),
        {"diverging": ()},
    ),
    "concave loss, no penalty": (
        lambda: run(
            loss=lambda x, _: -(x**2), equality=AT_0, dual_rate=0.01, steps=100
        ),
        {"diverging": ("x = 0",)},
    ),
    "no logarithm from the start": (
        lambda: run(loss=lambda x, _: jnp.log(-x), inequality=AT_MOST_1),
        {"not finite": (), "too short to say": ()},
    ),
    "blown up": (
        lambda: run(
            loss=lambda x, _: x[0],
            equality={"circle": lambda x, _: x @ x - 1.0},
            start=[2.0, 0.1],
            penalty=12.0,
        ),
        {"not finite": (), "penalty too large": ("circle",)},
    ),
}


# What a history does not tell.
OF_THE_END = {"converged", "stalled", "infeasible", "penalty too small"}

# Further runs of what others show as well.
REPEATED = {
    "bilinear, simultaneous, fast",
    "linear loss, alternating",
    "infeasible pair, extragradient, no loss",
    "infeasible pair beside a harmless one",
    "infeasible equalities under a penalty",
    "penalty of a pair",
    "nobody pulls a pair",
    "no constraint, diverging",
}

# Runs that are others in float64, which does not round away what moves them.
ROUNDED = {
    "a penalty of 1e12",
    "a primal far too slow",
    "a primal far too slow, equality",
    "a primal far too slow, penalised",
}


@cache
def result_of(name, dtype):
    """The result of a run of the table; the dtype is set by whoever asks."""
    return RUNS[name][0]()


@pytest.mark.filterwarnings("ignore:.*the step was skipped")
@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        pytest.param(
            name,
            dtype,
            marks=[pytest.mark.slow] * (name in REPEATED or dtype == "float64"),
        )
        for dtype in ("float32", "float64")
        for name in RUNS
        if dtype == "float32" or name not in ROUNDED
    ],
    indirect=["dtype"],
)
def test_diagnose_calls_real_runs_what_they_are(dtype, name):
    result, expected = result_of(name, dtype), RUNS[name][1]
    assert kinds_of(result.diagnosis) == expected
    text = str(result.diagnosis)
    assert len(text.splitlines()) == len(expected)
    for kind, names in expected.items():
        assert kind in text
        for constraint in names:
            assert repr(constraint) in text
    # The history alone knows nothing of what is only seen at the end.
    assert kinds(result.history).keys().isdisjoint(OF_THE_END)


def test_diagnosis_shows_its_sentences():
    shown = jc.Diagnosis(
        (
            Verdict("not pulled", ("a < b",), "not pulled: 'a < b' stays; pull"),
            Verdict("converged", (), "converged: all is well"),
        )
    )
    lines = ["not pulled: 'a < b' stays; pull", "converged: all is well"]
    assert repr(shown).splitlines() == str(shown).splitlines() == lines
    html = shown._repr_html_()
    assert html.count("<tr>") == 3
    assert "a &lt; b" in html
    assert "<" not in html.replace("<t", "").replace("</t", "")


def test_diagnose_is_tried_twice_at_least_on_every_kind_of_its_docstring():
    met = [kind for _, expected in RUNS.values() for kind in expected]
    listed = {
        line.split("*")[1]
        for line in diagnose.__doc__.splitlines()
        if line.strip().startswith("- *")
    }
    # Noise has tests of its own, and only a history or noise leaves a run settled.
    assert set(met) | {"noisy", "settled"} == listed
    once = {kind for kind in listed if met.count(kind) < 2}
    assert once <= {"noisy", "settled", "too short to say"}
    # The default run sees every kind that the slow one sees.
    default = {name: RUNS[name] for name in RUNS.keys() - REPEATED}
    assert {kind for _, kinds in default.values() for kind in kinds} == set(met)


# Runs that reach the known answer within 3000 steps, checked below: by default every order
# with and without a penalty, on one problem each.
CONVERGING = [
    (name, order, penalty)
    for name in ["sum to one", "min norm", "quadratic program"]
    for order in ["simultaneous", "alternating", "extragradient"]
    for penalty in [None, 1.0]
]
BY_DEFAULT = {
    ("sum to one", "simultaneous", None),
    ("sum to one", "extragradient", 1.0),
    ("min norm", "alternating", 1.0),
    ("min norm", "extragradient", None),
    ("quadratic program", "simultaneous", 1.0),
    ("quadratic program", "alternating", None),
}


def assert_no_false_alarm(row):
    name, order, penalty = row
    result = of(PROBLEMS[name](), getattr(jc, order), penalty=penalty)
    whole = result.history
    assert whole.max_violation[-1] < 1e-4
    assert kinds_of(result.diagnosis) == {"converged": ()}
    assert kinds(whole) == {"settled": ()}
    # The same at any moment, from what came before it; only the start may be called
    # anything, where multipliers that have just begun to climb look like any others.
    for end in [160, 320, 640, 1280]:
        seen = kinds(jax.tree.map(lambda rows, end=end: rows[:end], whole))
        assert set(seen) <= {"settled", "still moving", "winding up"}, end


def test_diagnose_raises_no_false_alarm_on_runs_that_converge():
    assert_each(sorted(BY_DEFAULT, key=CONVERGING.index), assert_no_false_alarm)


@pytest.mark.slow
def test_diagnose_raises_no_false_alarm_on_further_runs_that_converge(dtype):
    rest = [row for row in CONVERGING if row not in BY_DEFAULT]
    assert_each(CONVERGING if dtype == "float64" else rest, assert_no_false_alarm)


def under_noise(x, noise):
    return (x - 2.0 - noise) ** 2


def at_most_1_under_noise(x, noise):
    return x - 1.0 + noise


def draw(scale, key):
    return scale * jax.random.normal(key)


def test_diagnose_calls_noise_within_the_tolerance_converged():
    noise = partial(draw, 0.1)

    def check(seed):
        got = run(
            loss=under_noise,
            inequality=AT_MOST_1,
            rate=1e-3,
            adam=True,
            penalty=10.0,
            steps=8000,
            start=1.2,
            batches=noise,
            key=jax.random.key(seed),
            tolerance=0.05,
        )
        assert np.ptp(got.history.loss[-1000:]) > 0.1  # the noise is there
        # At a constant rate the last parameters may lie far out in the noise.
        found.update(kinds_of(got.diagnosis).keys())
        assert found.keys() <= {"converged", "settled"}

    found = Counter()
    assert_each(range(4), check)
    assert "converged" in found


def test_diagnose_calls_noise_above_the_tolerance_noise():
    noise = partial(draw, 0.3)

    def check(seed):
        got = run(
            loss=to_2,
            inequality={"x <= 1": at_most_1_under_noise},
            penalty=1.0,
            steps=2000,
            batches=noise,
            key=jax.random.key(seed),
        )
        assert kinds_of(got.diagnosis) == {"noisy": ("x <= 1",)}

    assert_each(range(4), check)


def test_diagnose_in_a_callback_watches_and_stops_a_running_fit():
    seen = []

    def watch(_, infos):
        seen.append(kinds(infos))
        return "not met" in seen[-1]

    got = run(inequality=PAIR, callbacks=[watch], chunk=100, steps=5000)
    assert seen[-1] == {"not met": ("x <= -1", "x >= 1")}
    assert kinds_of(got.diagnosis) == {"infeasible": ("x <= -1", "x >= 1")}
    assert len(got.history.loss) == 100 * len(seen) < 5000


def at_rest(problem, x, batches=(None,), fixed=True, **multipliers):
    """An end at x, with multipliers of inequalities by name."""
    inequality = {name: jnp.asarray(m) for name, m in multipliers.items()}
    point = jc.Point(jnp.asarray(x), jc.Constraints({}, inequality))
    return End(problem, point, list(batches), jnp.zeros_like(point.params), fixed)


def test_diagnose_is_the_same_in_other_units():
    def check(units):
        of_loss, of_params = units

        def loss(p, _):
            return of_loss * ellipse(p / of_params, None)

        rule = jc.Constraints({"s": lambda p, _: jnp.sum(p) / of_params - 1.0})
        problem = jc.Lagrangian(loss, rule)
        answer = np.array([0.5, 0.5])
        for x, kind in [(answer, "converged"), (answer + [0.02, -0.02], "stalled")]:
            # x - 3 = -2.5 and 10 (y - 1) = -5, against mu = 5.
            mu = jc.Constraints({"s": jnp.asarray(5.0 * of_loss)})
            point = jc.Point(jnp.asarray(of_params * x), mu)
            made = history(s=(0.0, 5.0 * of_loss), loss=of_loss * ellipse(x, None))
            found = diagnose(made, end=End(problem, point, [None], jnp.zeros(2)))
            assert [v.kind for v in found.verdicts] == [kind], (units, found)

    assert_each([(1.0, 1.0), (1e6, 1.0), (1e-6, 1.0), (1.0, 1e4), (1.0, 1e-4)], check)


AT_MOST = jc.Lagrangian(to_2, jc.Constraints(inequality={"a": lambda x, _: x - 1.0}))


def test_diagnose_calls_a_kkt_point_converged_whatever_trend_there_is():
    end = at_rest(AT_MOST, 1.0, a=2.0)
    for made in [
        history(a=(0.0, 2.0)),
        history(a=(np.exp(-T / 20), 2.0 - np.exp(-T / 20))),
        history(a=(0.0, 500 - T)),  # it unwound
        history(10, a=(0.0, 2.0)),
    ]:
        assert kinds(made) != {"converged": ()}
        (verdict,) = diagnose(made, end=end).verdicts
        assert verdict.kind == "converged"
        assert "KKT point" in verdict.text


def test_diagnose_calls_no_other_point_converged():
    still = history(a=(0.0, 2.0))
    for x, lam, words in [
        (1.0, 2.1, "the Lagrangian's gradient is 0.025 times"),
        (1.1, 1.8, "the violation of 'a' is 0.1"),
        (0.9, 2.2, "multiplier times residual of 'a'"),
        (2.5, -1.0, "a multiplier of 'a' is negative"),
        (0.0, 0.0, "the Lagrangian's gradient is 1 times"),
    ]:
        found = diagnose(still, end=at_rest(AT_MOST, x, a=lam))
        assert [v.kind for v in found.verdicts] == ["stalled"], (x, lam)
        assert words in str(found), found


def test_diagnose_blames_no_step_for_swings_of_the_batches():
    problem = jc.Lagrangian(
        lambda x, _: x**2, jc.Constraints(inequality={"a": lambda x, b: x - b})
    )
    for period in (2, 13):
        batches = [1.0 - 2.0 * (i % period == 0) for i in range(32)]
        made = history(a=(1.0 * (T % period == 0), 0.0))
        assert set(kinds(made)) == {"oscillating"}
        end = at_rest(problem, 0.0, batches, fixed=False, a=0.0)
        (verdict,) = diagnose(made, end=end).verdicts
        assert verdict.kind == "noisy", period


def test_diagnose_calls_nothing_noise_where_every_step_has_the_same_data():
    made = MADE["spikes that have just begun"][0]
    assert set(kinds(made)) == {"noisy"}
    for x in (1.5, np.nan):
        (verdict,) = diagnose(made, end=at_rest(AT_MOST, x, a=0.0)).verdicts
        assert verdict.kind == "oscillating"
        assert "every step has the same data" in verdict.text


def test_diagnose_sees_multipliers_beneath_the_largest():
    # The first entry's multiplier is 5, and hides that of the second.
    rule = {"a": lambda x, _: jnp.stack([0.0 * x, x - 1.0])}
    problem = jc.Lagrangian(to_2, jc.Constraints(inequality=rule))
    made = history(a=(0.5, 5.0))
    for second, kind in [(0.0, "not pulled"), (1.0, "still moving")]:
        end = at_rest(problem, 1.5, a=[5.0, second])
        (verdict,) = diagnose(made, end=end).verdicts
        assert verdict.kind == kind


def test_diagnose_asks_the_noise_of_batches():
    harmless = jc.Constraints(inequality={"a": lambda x, _: x - 10.0})
    problem = jc.Lagrangian(under_noise, harmless)
    still = history(a=(0.0, 0.0))
    noise = np.random.default_rng(1).normal(size=32)
    for x, scale, kind in [
        (2.0, 0.0, "converged"),
        (2.0, 0.1, "converged"),
        (2.0, 10.0, "settled"),  # nobody can tell
        (2.1, 0.3, "settled"),  # less than one batch's noise
        (1.0, 0.1, "stalled"),
    ]:
        noise -= noise.mean()
        end = at_rest(problem, x, scale * noise, fixed=False, a=0.0)
        (verdict,) = diagnose(still, end=end).verdicts
        assert verdict.kind == kind, (x, scale, verdict)


def test_diagnose_says_go_on_only_where_violations_fall_steadily():
    falling = np.exp(-T / 90)
    swing = 1.5 + 1.5 * np.cos(2 * np.pi * T / 200)
    for made, words in [
        (history(a=(falling, T)), "go on, for about"),
        (history(a=(falling, swing)), "swings between"),
        (history(a=(0.0, swing)), "swings between"),
        (history(a=(1 + T / 400, T), loss=T), "grows while its multiplier does"),
        (history(a=(0.5 + 0.2 * np.exp(-T / 9e3), T), loss=1e9), "does not fall yet"),
        (history(a=(1.0 - 2e-4 * T, T), loss=1e9), "many times as long"),
    ]:
        (verdict,) = diagnose(made).verdicts
        assert verdict.kind == "still moving"
        assert words in verdict.text, verdict.text
        assert ("go on" in verdict.text) == ("go on" in words)


def test_diagnose_counts_steps_and_not_rows_of_a_thinned_history():
    made = history(a=(np.exp(-T / 90), T))
    thinned = History(*made, step=np.arange(len(T)) * 8)
    steps = [
        float(str(diagnose(each)).split("for about ")[1].split()[0])
        for each in (made, thinned)
    ]
    assert steps[1] == pytest.approx(8 * steps[0], rel=0.05)


def test_diagnose_calls_nothing_infeasible_that_is_only_flat():
    # A policy that takes one action for sure, at a cost of 1: its gradient is 1e-9.
    cost = {"a": lambda p, _: jax.nn.softmax(p)[0] - 0.5}
    policy = jc.Lagrangian(nothing, jc.Constraints(inequality=cost))
    level = history(a=(0.5, T))
    (verdict,) = diagnose(level, end=at_rest(policy, [10.0, -10.0], a=40.0)).verdicts
    assert verdict.kind == "not met"
    # Without the way out, it is.
    never = jc.Constraints(inequality={"a": lambda p, _: jax.nn.softmax(p)[0] + 0.5})
    policy = jc.Lagrangian(nothing, never)
    (verdict,) = diagnose(level, end=at_rest(policy, [1.0, -1.0], a=40.0)).verdicts
    assert verdict.kind == "infeasible"


def test_diagnose_refuses_the_end_of_another_problem():
    with pytest.raises(ValueError, match="history has a constraint 'b'.*end.problem"):
        diagnose(history(b=(0.0, 0.0)), end=at_rest(AT_MOST, 1.0, a=2.0))


def test_diagnose_refuses_a_tolerance_that_is_none():
    made = history(a=(0.0, 0.0))
    for tolerance, error in [
        (-1.0, ValueError),
        (np.nan, ValueError),
        ("x", TypeError),
    ]:
        with pytest.raises(error, match="tolerance"):
            diagnose(made, tolerance)


T = np.arange(400.0)
RANDOM = np.random.default_rng(0).random((2, 400))
SPIKES = 1.0 * (RANDOM < 0.04)
# A multiplier that is a maximum over points does not climb in a straight line.
ROUGH = T / 20 + RANDOM[0]
SWERVES = 0.06 - T / 1e4 + 0.5 * np.exp(-(((T - 300) / 25) ** 2))
LATE = T >= 340
MADE = {
    "settled": (history(a=(0.0, 2.0)), "settled"),
    "settled within the tolerance": (history(a=(9e-4, 2.0)), "settled"),
    "level, climbing": (history(a=(0.5, T)), "not met"),
    "level, climbing beside a great loss": (
        history(a=(0.5, T), loss=1e9 - T),
        "still moving",
    ),
    "level, at rest": (history(a=(0.5, 0.0)), "not pulled"),
    "level, at rest, penalised": (history(a=(0.5, 0.0, 10.0)), "not met"),
    "falling to 1": (history(a=(1 + np.exp(-T / 90), T)), "not met"),
    "falling to 0": (history(a=(np.exp(-T / 90), T)), "still moving"),
    "falling ever faster": (history(a=(1 - (T / 420) ** 2, T)), "winding up"),
    "falling evenly": (history(a=(1 - T / 420, T)), "still moving"),
    "level, climbing roughly": (history(a=(0.5, ROUGH)), "not met"),
    "falling to 0, climbing roughly": (
        history(a=(np.exp(-T / 90), ROUGH)),
        "still moving",
    ),
    "level beside one that swerves": (
        history(a=(0.5, ROUGH), b=(SWERVES, T)),
        "not met",
    ),
    "falling beside one that swerves": (
        history(a=(np.exp(-T / 90), ROUGH), b=(SWERVES * np.exp(-T / 90), T)),
        "still moving",
    ),
    "met, but multiplier and loss soar": (
        history(a=(1e-6, np.where(LATE, 7e3, 0.1) + T / 1e3), loss=1e-4 + LATE * T),
        "winding up",
    ),
    "met, and only the multiplier soars": (
        history(a=(1e-6, np.where(LATE, 7e3, 0.1) + T / 1e3), loss=1.0),
        "still moving",
    ),
    "met, and only the loss soars": (
        history(a=(1e-6, 1.0), loss=1e-4 + LATE * T),
        "still moving",
    ),
    "spikes that have just begun": (
        history(a=(LATE * (RANDOM[0] < 0.15), 0.0)),
        "noisy",
    ),
    "periodic spikes that have just begun": (
        history(a=(LATE * (T % 13 == 0), 0.0)),
        "oscillating",
    ),
    "cosine": (history(a=(1 + np.cos(T / 5), T % 7)), "oscillating"),
    "cosine that dies out": (
        history(a=(np.exp(-T / 60) * np.abs(np.cos(T / 5)), 1.0)),
        "still moving",
    ),
    "cosine within the tolerance": (
        history(a=(1e-4 + 1e-4 * np.cos(T / 5), 1.0)),
        "settled",
    ),
    "alternating": (history(a=(T % 2, 1.0, 5.0)), "penalty too large"),
    "alternating, no penalty": (history(a=(T % 2, 1.0)), "oscillating"),
    "huge": (history(a=(np.exp(T), np.exp(T))), "diverging"),
    "huge, penalised": (history(a=(np.exp(T), 0.0, 1.0)), "penalty too large"),
    "loss falls": (history(a=(0.0, 0.0), loss=-T), "still moving"),
    "the price of a violation that falls": (
        history(a=(np.exp(-T / 90), T), loss=np.exp(T / 40)),
        "still moving",
    ),
    "loss grows at a point that is feasible": (
        history(a=(0.0, 0.0), loss=np.exp(T / 40)),
        "diverging",
    ),
    "unwinding": (history(a=(0.0, 500 - T)), "winding up"),
    "settling from above": (history(a=(0.0, 5 + np.exp(-T / 40))), "settled"),
}


def test_diagnose_calls_made_histories_what_they_are():
    def check(name):
        made, kind = MADE[name]
        assert set(kinds(made)) == {kind}

    assert_each(MADE, check)


def test_diagnose_names_all_that_give_method_to_each_other_in_a_conflict():
    for name, names in {"level": ("a", "b"), "falling": ()}.items():
        got = kinds(MADE[f"{name} beside one that swerves"][0])
        assert got.get("not met", ()) == names


def test_diagnose_names_the_largest_noise_where_only_together_they_come_often():
    first, second = SPIKES
    assert np.mean(first[-66:] > 0) < 0.05
    assert np.mean(second[-66:] > 0) < 0.05
    for a, b, name in [(2.0, 1.0, "a"), (1.0, 2.0, "b")]:
        got = kinds(history(a=(a * first, 0.0), b=(b * second, 0.0)))
        assert got == {"noisy": (name,)}


def test_diagnose_counts_skipped_steps_and_leaves_them_out():
    finite = T % 8 != 3
    violation = np.where(finite, 0.0, np.nan)
    made = history(a=(violation, 1.0), finite=finite)
    for array in (np.asarray, jnp.asarray):
        got = diagnose(jax.tree.map(array, made))
        assert [v.kind for v in got.verdicts] == ["not finite", "settled"]
        assert "50 of 400 steps (12.5%)" in got.verdicts[0].text
        assert "row 3;" in got.verdicts[0].text


def test_diagnose_writes_the_figures_of_the_run():
    text = str(result_of("infeasible pair", "float32").diagnosis)
    # Both are broken by 1, and climb by 0.1 a step for 1000 steps.
    assert "violations stay at 1 and 1" in text
    assert "grow to 1" in text
    text = str(result_of("a cap too low", "float32").diagnosis)
    assert "cap (1)" in text
    assert "violations of 0.5" in text
    text = str(result_of("penalty too small", "float32").diagnosis)
    assert "penalty of 3 leaves" in text
    assert "violations of 0.4" in text
    text = str(result_of("a primal far too slow, penalised", "float32").diagnosis)
    assert "raise the primal learning rate" in text
    # Alternating moves turn by 2 arcsin(0.05), and an absolute value twice a turn.
    text = str(result_of("bilinear, alternating", "float32").diagnosis)
    period = int(text.split("period of ")[1].split()[0])
    assert period == pytest.approx(np.pi / (2 * np.arcsin(0.05)), abs=1)


def test_diagnose_calls_short_histories_too_short():
    def check(rows):
        made = history(rows, a=(1.0, np.arange(rows)))
        verdict = diagnose(made).verdicts[-1]
        assert verdict.kind == "too short to say"
        assert f"{rows} finite steps" in verdict.text

    assert_each([0, 1, 2, 5, 19], check)


def test_diagnose_sees_no_period_and_no_trend_in_white_noise():
    def check(row):
        seed, rows = row
        rng = np.random.default_rng(seed)
        violation = np.abs(rng.normal(size=rows))
        made = history(rows, a=(violation, 1 + 0.1 * rng.normal(size=rows), 1.0))
        assert kinds(made) == {"noisy": ("a",)}

    assert_each([(seed, n) for seed in range(10) for n in (40, 400, 4000)], check)


def test_diagnose_refuses_what_is_no_history():
    for shape in [(), (3, 40)]:
        made = history(a=(T, T))._replace(finite=np.ones(shape, bool))
        with pytest.raises(ValueError, match="one row per step"):
            diagnose(made)
