"""Every verdict on real runs of which theory says what they do, and on made histories."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxcon as jc
from benchmarks.problems import PROBLEMS
from jaxcon.diagnosis import diagnose
from jaxcon.training import NonFiniteError

in_float64_slowly = pytest.mark.parametrize(
    "dtype",
    ["float32", pytest.param("float64", marks=pytest.mark.slow)],
    indirect=True,
)
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


def plain_dual(rate):
    return jc.dual_ascent(optax.sgd(rate))


PRIMAL, DUAL = optax.sgd(0.1), plain_dual(0.1)


def run(
    order=jc.alternating,
    loss=square,
    equality={},  # noqa: B006
    inequality={},  # noqa: B006
    start=2.0,
    primal=PRIMAL,
    dual=DUAL,
    steps=1000,
    **more,
):
    """The history of a run, also of one that stops because it left the numbers."""
    penalty, start = more.pop("penalty", None), jnp.asarray(start, float)
    constraints = jc.Constraints(equality, inequality)
    method = order(loss, constraints, primal, dual, penalty=penalty)
    try:
        return jc.fit(
            method, method.init(start, 0.0), steps=steps, progress=False, **more
        ).history
    except NonFiniteError as stopped:
        return stopped.result.history


def of(problem, order, steps=3000, **more):
    rate = problem.learning_rate
    return run(
        order,
        problem.loss,
        *problem.constraints,
        start=problem.start,
        primal=optax.sgd(rate),
        dual=plain_dual(rate),
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
    return {v.kind: v.constraints for v in diagnose(history, tolerance).verdicts}


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
            primal=optax.sgd(0.5),
            dual=plain_dual(0.5),
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
            primal=optax.sgd(0.02),
            dual=plain_dual(0.02),
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
            primal=optax.adam(0.01),
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
        lambda: run(loss=to_2, inequality=NEVER, primal=optax.sgd(1e-3), steps=2000),
        {"infeasible": ("x² <= -1",)},
    ),
    "infeasible pair under a cap": (
        lambda: run(inequality=PAIR, dual=jc.capped(plain_dual(0.1), 10.0)),
        {
            "infeasible": ("x <= -1", "x >= 1"),
            "cap reached": ("x <= -1", "x >= 1"),
        },
    ),
    # The multiplier is 2, but may only be 1, so x stays at 3/2.
    "a cap too low": (
        lambda: run(
            loss=to_2, inequality=AT_MOST_1, dual=jc.capped(plain_dual(0.1), 1.0)
        ),
        {"cap reached": ("x <= 1",)},
    ),
    "a cap high enough": (
        lambda: run(
            loss=to_2, inequality=AT_MOST_1, dual=jc.capped(plain_dual(0.1), 9.0)
        ),
        {"converged": ()},
    ),
    # Gradient descent of rate 0.1 is stable up to a curvature of 20; here it is 32,
    # 21 or, on the circle, 8 times the penalty.
    "penalty too large, inequality": (
        lambda: run(loss=to_2, inequality=AT_MOST_1, penalty=30.0, start=3.0),
        {"penalty too large": ("x <= 1",)},
    ),
    "penalty too large, no multipliers": (
        lambda: run(
            loss=to_2, inequality=AT_MOST_1, penalty=30.0, dual=optax.set_to_zero()
        ),
        {"penalty too large": ("x <= 1",)},
    ),
    "penalty slightly too large, equality": (
        lambda: run(loss=to_2, equality=AT_0, penalty=19.0, steps=300),
        {"penalty too large": ("x = 0",)},
    ),
    "penalty too small": (  # 2 (x - 2) + 3 (x - 1) = 0 leaves x - 1 = 2/5
        lambda: run(
            loss=to_2, inequality=AT_MOST_1, penalty=3.0, dual=optax.set_to_zero()
        ),
        {"penalty too small": ("x <= 1",)},
    ),
    "penalty too small for a pair": (
        lambda: run(inequality=PAIR, penalty=3.0, dual=optax.set_to_zero()),
        {"penalty too small": ("x <= -1", "x >= 1")},
    ),
    # The multiplier gets to 4e-7, and pulls nothing beside 3 (x - 1).
    "penalty too small beside a dual far too slow": (
        lambda: run(
            loss=to_2, inequality=AT_MOST_1, penalty=3.0, dual=plain_dual(1e-9)
        ),
        {"penalty too small": ("x <= 1",)},
    ),
    "penalty large enough beside a dual far too slow": (
        lambda: run(
            loss=to_2,
            inequality=AT_MOST_1,
            penalty=5e3,
            primal=optax.sgd(1e-4),
            dual=plain_dual(1e-9),
        ),
        {"converged": ()},
    ),
    "penalty large enough": (  # it leaves 2 / (2 + 5000)
        lambda: run(
            loss=to_2,
            inequality=AT_MOST_1,
            penalty=5e3,
            primal=optax.sgd(1e-4),
            dual=optax.set_to_zero(),
        ),
        {"converged": ()},
    ),
    "nobody pulls": (
        lambda: run(loss=to_2, inequality=AT_MOST_1, dual=optax.set_to_zero()),
        {"not pulled": ("x <= 1",)},
    ),
    "nobody pulls a pair": (
        lambda: run(inequality=PAIR | HARMLESS, start=0.5, dual=optax.set_to_zero()),
        {"not pulled": ("x <= -1", "x >= 1")},
    ),
    # Slow parameters: λ passes its 2 at once, reaches 100 and has to come down again.
    "winding up": (
        lambda: run(
            loss=to_2,
            inequality=AT_MOST_1,
            primal=optax.sgd(1e-4),
            dual=plain_dual(1.0),
            steps=130,
        ),
        {"winding up": ("x <= 1",)},
    ),
    "winding up, slower": (
        lambda: run(
            loss=to_2,
            inequality=AT_MOST_1,
            primal=optax.sgd(1e-5),
            dual=plain_dual(1.0),
            steps=400,
        ),
        {"winding up": ("x <= 1",)},
    ),
    "wound up": (
        lambda: run(
            loss=to_2,
            inequality=AT_MOST_1,
            primal=optax.sgd(1e-4),
            dual=plain_dual(1.0),
            steps=400,
        ),
        {"winding up": ("x <= 1",)},
    ),
    "wound up, Adam": (
        lambda: run(
            loss=to_2,
            inequality=AT_MOST_1,
            primal=optax.adam(1e-3),
            start=3.0,
            penalty=1.0,
            steps=4000,
        ),
        {"winding up": ("x <= 1",)},
    ),
    # In step with its multiplier the violation falls by 0.05 % a step, or not to be seen.
    "a slow dual": (
        lambda: run(loss=to_2, inequality=AT_MOST_1, dual=plain_dual(1e-3), steps=300),
        {"still moving": ("x <= 1",)},
    ),
    "a dual far too slow": (
        lambda: run(loss=to_2, inequality=AT_MOST_1, dual=plain_dual(1e-9), start=3.0),
        {"still moving": ("x <= 1",)},
    ),
    "a slow primal": (
        lambda: run(loss=to_2, primal=optax.sgd(1e-3), start=3.0),
        {"still moving": ()},
    ),
    "too short": (lambda: run(inequality=PAIR, steps=10), {"too short to say": ()}),
    "no constraint": (lambda: run(), {"converged": ()}),
    "no constraint, diverging": (
        lambda: run(primal=optax.sgd(1.5), steps=60),
        {"diverging": ()},
    ),
    "concave loss, no penalty": (
        lambda: run(
            loss=lambda x, _: -(x**2), equality=AT_0, dual=plain_dual(0.01), steps=100
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


@pytest.mark.filterwarnings("ignore:.*the step was skipped")
@in_float64_slowly
@pytest.mark.parametrize("name", RUNS)
def test_real_runs_are_called_what_they_are(dtype, name):
    history, expected = RUNS[name][0](), RUNS[name][1]
    assert kinds(history) == expected
    text = str(diagnose(history))
    assert len(text.splitlines()) == len(expected)
    for kind, names in expected.items():
        assert kind in text
        for constraint in names:
            assert repr(constraint) in text


def test_every_kind_is_met_at_least_twice_in_real_runs():
    met = [kind for _, expected in RUNS.values() for kind in expected]
    listed = {
        line.split("*")[1]
        for line in diagnose.__doc__.splitlines()
        if line.strip().startswith("- *")
    }
    assert set(met) | {"noisy"} == listed
    once = {kind for kind in listed if met.count(kind) < 2}
    assert once <= {"noisy", "too short to say"}


# Runs that reach the known answer within 3000 steps, checked below.
CONVERGING = [
    (name, order, penalty)
    for name in ["sum to one", "min norm", "quadratic program"]
    for order in [jc.simultaneous, jc.alternating, jc.extragradient]
    for penalty in [None, 1.0]
]


@in_float64_slowly
@pytest.mark.parametrize(("name", "order", "penalty"), CONVERGING)
def test_no_false_alarm_on_runs_that_converge(dtype, name, order, penalty):
    whole = of(PROBLEMS[name](), order, penalty=penalty)
    assert whole.max_violation[-1] < 1e-4
    assert kinds(whole) == {"converged": ()}
    # The same at any moment, from what came before it; only the start may be called
    # anything, where multipliers that have just begun to climb look like any others.
    for end in [160, 320, 640, 1280]:
        seen = kinds(jax.tree.map(lambda rows, end=end: rows[:end], whole))
        assert set(seen) <= {"converged", "still moving", "winding up"}, end


@pytest.mark.parametrize("seed", range(4))
def test_noise_within_the_tolerance_is_converged(seed):
    noise = lambda key: 0.1 * jax.random.normal(key)  # noqa: E731
    got = run(
        loss=lambda x, noise: (x - 2.0 - noise) ** 2,
        inequality=AT_MOST_1,
        primal=optax.adam(1e-3),
        penalty=10.0,
        steps=8000,
        start=1.2,
        batches=noise,
        key=jax.random.key(seed),
    )
    assert np.ptp(got.loss[-1000:]) > 0.1  # the noise is there
    assert set(kinds(got, tolerance=0.05)) == {"converged"}


@pytest.mark.parametrize("seed", range(4))
def test_noise_above_the_tolerance_is_noise(seed):
    got = run(
        loss=lambda x, noise: (x - 2.0) ** 2,
        inequality={"x <= 1": lambda x, noise: x - 1.0 + noise},
        penalty=1.0,
        steps=2000,
        batches=lambda key: 0.3 * jax.random.normal(key),
        key=jax.random.key(seed),
    )
    assert kinds(got) == {"noisy": ("x <= 1",)}


def test_a_running_fit_can_be_watched_and_stopped():
    seen = []

    def watch(_, infos):
        seen.append(kinds(infos))
        return "infeasible" in seen[-1]

    got = run(inequality=PAIR, callbacks=[watch], chunk=100, steps=5000)
    assert seen[-1] == {"infeasible": ("x <= -1", "x >= 1")}
    assert len(got.loss) == 100 * len(seen) < 5000


T = np.arange(400.0)
RANDOM = np.random.default_rng(0).random((2, 400))
SPIKES = 1.0 * (RANDOM < 0.04)
# A multiplier that is a maximum over points does not climb in a straight line.
ROUGH = T / 20 + RANDOM[0]
SWERVES = 0.06 - T / 1e4 + 0.5 * np.exp(-(((T - 300) / 25) ** 2))
LATE = T >= 340
MADE = {
    "settled": (history(a=(0.0, 2.0)), "converged"),
    "settled within the tolerance": (history(a=(9e-4, 2.0)), "converged"),
    "level, climbing": (history(a=(0.5, T)), "infeasible"),
    "level, climbing beside a great loss": (
        history(a=(0.5, T), loss=1e9 - T),
        "still moving",
    ),
    "level, at rest": (history(a=(0.5, 0.0)), "not pulled"),
    "level, at rest, priced": (history(a=(0.5, 0.0, 10.0)), "penalty too small"),
    "falling to 1": (history(a=(1 + np.exp(-T / 90), T)), "infeasible"),
    "falling to 0": (history(a=(np.exp(-T / 90), T)), "still moving"),
    "falling ever faster": (history(a=(1 - (T / 420) ** 2, T)), "winding up"),
    "falling evenly": (history(a=(1 - T / 420, T)), "still moving"),
    "level, climbing roughly": (history(a=(0.5, ROUGH)), "infeasible"),
    "falling to 0, climbing roughly": (
        history(a=(np.exp(-T / 90), ROUGH)),
        "still moving",
    ),
    "level beside one that swerves": (
        history(a=(0.5, ROUGH), b=(SWERVES, T)),
        "infeasible",
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
        "converged",
    ),
    "alternating": (history(a=(T % 2, 1.0, 5.0)), "penalty too large"),
    "alternating, no penalty": (history(a=(T % 2, 1.0)), "oscillating"),
    "huge": (history(a=(np.exp(T), np.exp(T))), "diverging"),
    "huge, priced": (history(a=(np.exp(T), 0.0, 1.0)), "penalty too large"),
    "loss falls": (history(a=(0.0, 0.0), loss=-T), "still moving"),
    "unwinding": (history(a=(0.0, 500 - T)), "winding up"),
    "settling from above": (history(a=(0.0, 5 + np.exp(-T / 40))), "converged"),
}


@pytest.mark.parametrize("name", MADE)
def test_made_histories(name):
    made, kind = MADE[name]
    assert set(kinds(made)) == {kind}


@pytest.mark.parametrize("name", ["level", "falling"])
def test_conflicts_name_all_that_give_way_to_each_other(name):
    got = kinds(MADE[f"{name} beside one that swerves"][0])
    assert got.get("infeasible", ()) == (("a", "b") if name == "level" else ())


def test_noise_names_the_largest_where_only_together_they_come_often():
    first, second = SPIKES
    assert np.mean(first[-66:] > 0) < 0.05
    assert np.mean(second[-66:] > 0) < 0.05
    for a, b, name in [(2.0, 1.0, "a"), (1.0, 2.0, "b")]:
        got = kinds(history(a=(a * first, 0.0), b=(b * second, 0.0)))
        assert got == {"noisy": (name,)}


@pytest.mark.parametrize("array", [np.asarray, jnp.asarray])
def test_skipped_steps_are_counted_and_left_out(array):
    finite = T % 8 != 3
    violation = np.where(finite, 0.0, np.nan)
    made = history(a=(violation, 1.0), finite=finite)
    got = diagnose(jax.tree.map(array, made))
    assert [v.kind for v in got.verdicts] == ["not finite", "converged"]
    assert "50 of 400 steps (12.5%)" in got.verdicts[0].text
    assert "row 3;" in got.verdicts[0].text


def test_figures_are_the_run_s():
    text = str(diagnose(RUNS["infeasible pair"][0]()))
    # Both are broken by 1, and climb by 0.1 a step for 1000 steps.
    assert "violations stay at 1 and 1" in text
    assert "grow to 1" in text
    text = str(diagnose(RUNS["a cap too low"][0]()))
    assert "cap (1)" in text
    assert "violations of 0.5" in text
    text = str(diagnose(RUNS["penalty too small"][0]()))
    assert "penalty of 3 leaves" in text
    assert "violations of 0.4" in text
    # Alternating moves turn by 2 arcsin(0.05), and an absolute value twice a turn.
    text = str(diagnose(RUNS["bilinear, alternating"][0]()))
    period = int(text.split("period of ")[1].split()[0])
    assert period == pytest.approx(np.pi / (2 * np.arcsin(0.05)), abs=1)


@pytest.mark.parametrize("rows", [0, 1, 2, 5, 19])
def test_too_short_histories(rows):
    made = history(rows, a=(1.0, np.arange(rows)))
    verdict = diagnose(made).verdicts[-1]
    assert verdict.kind == "too short to say"
    assert f"{rows} finite steps" in verdict.text


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("rows", [40, 400, 4000])
def test_white_noise_has_no_period_and_no_trend(seed, rows):
    rng = np.random.default_rng(seed)
    violation = np.abs(rng.normal(size=rows))
    made = history(rows, a=(violation, 1 + 0.1 * rng.normal(size=rows), 1.0))
    assert kinds(made) == {"noisy": ("a",)}


@pytest.mark.parametrize("shape", [(), (3, 40)])
def test_what_is_no_history_is_refused(shape):
    made = history(a=(T, T))._replace(finite=np.ones(shape, bool))
    with pytest.raises(ValueError, match="one row per step"):
        diagnose(made)
