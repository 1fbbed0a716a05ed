"""Residuals answer to their own fault; multipliers and conflicts match their oracles."""

import subprocess
import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tables import assert_each, assert_refused

import jaxcon as jc
from benchmarks.problems import PROBLEMS
from jaxcon.optimality import (
    active,
    conflict,
    least_squares_multipliers,
    sensitivity,
)
from jaxcon.optimality._products import gram

IN_FLOAT64_AND_SLOWLY_IN_FLOAT32 = pytest.mark.parametrize(
    "dtype",
    ["float64", pytest.param("float32", marks=pytest.mark.slow)],
    indirect=True,
)


def test_kkt_vanishes_at_known_solutions(x64):
    known = {name: make() for name, make in PROBLEMS.items()}

    @jax.jit
    def judge(points):
        return {
            name: jc.kkt(jc.Lagrangian(problem.loss, problem.constraints), points[name])
            for name, problem in known.items()
        }

    verdicts = judge(
        {name: jc.Point(p.params, p.multipliers) for name, p in known.items()}
    )

    def check(name):
        judged = verdicts[name]
        equalities, inequalities = map(set, known[name].constraints)
        assert set(judged.equality) == equalities
        assert set(judged.inequality) == inequalities
        assert set(judged.dual) == set(judged.slackness) == inequalities
        leaves = jax.tree.leaves((judged, judged.worst))
        assert all(leaf.shape == () for leaf in leaves)
        # The solutions are of lapack's accuracy, or polished by OSQP to about 1e-12.
        np.testing.assert_allclose(judged.worst, 0.0, atol=1e-10)

    assert_each(known, check)


# min x² + y² + c·z s.t. x = 1 (μ = -2), y >= 3 (λ = 6), z <= 4 slack (λ = 0), c = 0.
CONSTRAINTS = jc.Constraints(
    equality={"x = 1": lambda p, _: p["x"] - 1.0},
    inequality={
        "y >= 3": lambda p, _: 3.0 - p["yz"][0],
        "z <= 4": lambda p, _: p["yz"][1] - 4.0,
    },
)


# name: (x, y, c, lambda of y, lambda of z, all residuals that are not zero)
FAULTS = {
    "optimal": (1.0, 3.0, 0.0, 6.0, 0.0, {}),
    "stationarity": (1.0, 3.0, 0.5, 6.0, 0.0, {"stationarity": 0.5}),
    # x moves: its own gradient too.
    "h > 0": (
        *(1.25, 3.0, 0.0, 6.0, 0.0),
        {"stationarity": 0.5, "equality x = 1": 0.25},
    ),
    "h < 0": (
        *(0.75, 3.0, 0.0, 6.0, 0.0),
        {"stationarity": 0.5, "equality x = 1": 0.25},
    ),
    # y = 0 s.t. y >= 3 with λ = 0: stationary, and only infeasible.
    "g > 0": (1.0, 0.0, 0.0, 0.0, 0.0, {"inequality y >= 3": 3.0}),
    # λ of the slack z <= 4 at z = 0, balanced by c: slackness alone, or with dual.
    "slackness": (1.0, 3.0, -0.5, 6.0, 0.5, {"slackness z <= 4": 2.0}),
    "dual": (
        *(1.0, 3.0, 0.5, 6.0, -0.5),
        {"dual z <= 4": 0.5, "slackness z <= 4": 2.0},
    ),
}


def test_kkt_residuals_answer_to_their_own_fault():
    def loss(p, c):
        return p["x"] ** 2 + p["yz"][0] ** 2 + c * p["yz"][1]

    @jax.jit
    def judge(params, multipliers, batch):
        return jc.kkt(
            jc.Lagrangian(loss, CONSTRAINTS), jc.Point(params, multipliers), batch
        )

    def check(case):
        name, how = case
        *numbers, expected = FAULTS[name]
        x, y, c, lam_y, lam_z = map(np.float32, numbers)
        params = {"x": x, "yz": (y, np.float32(0))}
        multipliers = jc.Constraints(
            {"x = 1": np.float32(-2)}, {"y >= 3": lam_y, "z <= 4": lam_z}
        )
        with jax.disable_jit(how == "eager"):
            judged = judge(params, multipliers, c)
        stationarity, *by_name = jax.tree.map(float, judged)
        found = {"stationarity": stationarity} | {
            f"{field} {name}": value
            for field, values in zip(jc.KKT._fields[1:], by_name)
            for name, value in values.items()
        }
        # All numbers are exact in binary.
        assert len(found) == 1 + 1 + 3 * 2
        assert found == dict.fromkeys(found, 0.0) | expected
        assert float(judged.worst) == max(expected.values(), default=0.0)

    assert_each([*((name, "jit") for name in FAULTS), ("dual", "eager")], check)


def test_kkt_worst_is_nan_where_one_is():
    well = jc.KKT(jnp.array(1.0), *({"a": jnp.array(2.0)} for _ in range(4)))
    assert float(well.worst) == 2.0

    def check(place):
        nan = jnp.array(np.nan)
        number = nan if place == "stationarity" else {"a": nan}
        assert np.isnan(well._replace(**{place: number}).worst)

    assert_each(jc.KKT._fields, check)


def test_kkt_evaluates_everything_once():
    calls = []
    constraints = jc.Constraints({"h": lambda p, _: calls.append("h") or p})
    jc.kkt(
        jc.Lagrangian(lambda p, _: calls.append("f") or p**2, constraints),
        jc.Point(jnp.array(1.0), jc.Constraints({"h": jnp.array(1.0)})),
    )
    assert sorted(calls) == ["f", "h"]


def test_kkt_dual_alone_shows_a_negative_multiplier_of_an_active_constraint():
    # max instead of min at the bound: stationary with λ = -2, g = 0.
    judged = jc.kkt(
        jc.Lagrangian(
            lambda p, _: p**2,
            jc.Constraints(inequality={"p <= 1": lambda p, _: p - 1.0}),
        ),
        jc.Point(
            jnp.array(1.0), jc.Constraints(inequality={"p <= 1": jnp.array(-2.0)})
        ),
    )
    assert jax.tree.map(float, judged) == jc.KKT(
        0.0, {}, {"p <= 1": 0.0}, {"p <= 1": 2.0}, {"p <= 1": 0.0}
    )


def test_kkt_takes_the_largest_entry_not_a_sum():
    constraints = jc.Constraints(
        {"h": lambda p, _: p - jnp.array([1.0, 2.0, 4.0])},
        {"g": lambda p, _: p - jnp.array([-1.0, -3.0, 9.0])},
    )
    multipliers = jc.Constraints(
        {"h": jnp.zeros(3)}, {"g": jnp.array([-0.5, -0.25, 1.0])}
    )
    judged = jc.kkt(
        jc.Lagrangian(lambda p, _: 0.0 * p[0], constraints),
        jc.Point(jnp.zeros(3), multipliers),
    )
    assert jax.tree.map(float, judged) == jc.KKT(
        1.0, {"h": 4.0}, {"g": 3.0}, {"g": 0.5}, {"g": 9.0}
    )


def test_kkt_of_a_loss_with_aux_and_no_constraints():
    none = jc.Constraints()
    judged = jc.kkt(
        jc.Lagrangian(lambda p, _: (p**2, {"p": p}), none),
        jc.Point(jnp.array(3.0), none),
    )
    assert jax.tree.map(float, judged) == jc.KKT(6.0, {}, {}, {}, {})
    assert float(judged.worst) == 6.0


def test_kkt_refuses_multipliers_of_another_shape():
    constraints = jc.Constraints({"h": lambda p, _: p})
    multipliers = jc.Constraints({"h": jnp.zeros(())})
    with pytest.raises(ValueError, match=r"'h' has a residual of shape \(3,\)"):
        jc.kkt(
            jc.Lagrangian(lambda p, _: jnp.sum(p), constraints),
            jc.Point(jnp.ones(3), multipliers),
        )


def test_active_are_all_equalities_and_inequalities_at_their_bound_or_beyond():
    residuals = jc.Constraints(
        {"h": jnp.array([0.0, 5.0, jnp.nan])},
        {"g": jnp.array([-0.5, -0.25, 0.0, 3.0, jnp.nan]), "one": jnp.array(-1.0)},
    )
    found = jax.jit(active, static_argnums=1)(residuals, 0.25)
    np.testing.assert_array_equal(found.equality["h"], [True] * 3)
    np.testing.assert_array_equal(found.inequality["g"], [0, 1, 1, 1, 0])
    assert not found.inequality["one"]
    assert found.inequality["one"].shape == ()


def assert_least_squares_finds(name, dtype):
    problem = PROBLEMS[name]()
    params = jax.tree.map(lambda p: jnp.asarray(p, dtype), problem.params)
    found = least_squares_multipliers(
        jc.Lagrangian(problem.loss, problem.constraints), params
    )
    assert found.unique == problem.unique
    # Gradients of order ten round at ten times epsilon; OSQP's answers end at 1e-12.
    atol = max(1e-10, 200 * np.finfo(dtype).eps)
    np.testing.assert_allclose(found.stationarity, 0, atol=atol)
    for kind, constraint, true in jc.constraints.named(problem.multipliers):
        got = getattr(found.multipliers, kind)[constraint]
        assert got.dtype == dtype
        assert got.shape == np.shape(true)
        if problem.unique:
            np.testing.assert_allclose(got, true, rtol=0, atol=atol, err_msg=constraint)
        if kind == "inequality":
            assert (got >= 0).all()


# Every seventh, and those whose multipliers are not unique.
SOME = sorted({*list(PROBLEMS)[::7], "redundant equalities", "redundant inequalities"})


def test_least_squares_multipliers_are_those_of_known_solutions(x64):
    assert_each(SOME, partial(assert_least_squares_finds, dtype="float64"))


@pytest.mark.slow
def test_least_squares_multipliers_are_those_of_all_known_solutions(dtype):
    rows = PROBLEMS if dtype == "float32" else sorted({*PROBLEMS} - {*SOME})
    assert_each(rows, partial(assert_least_squares_finds, dtype=dtype))


@pytest.fixture(params=["inner products", "products"])
def form(request, monkeypatch):
    """The two ways in which multipliers are found: with a matrix (m, m), and without."""
    if request.param == "products":
        monkeypatch.setattr("jaxcon.optimality._active_set._LARGEST_GRAM", -1)
    return request.param


def linear(rows, offsets=0.0):
    """One constraint of many rows: rows @ params + offsets."""
    return lambda p, _: jnp.array(rows) @ p + jnp.array(offsets)


def affine(name):
    """The same, of rows and offsets that a batch holds: one program for all of a size."""
    return lambda p, batch: batch[name][0] @ p + batch[name][1]


def test_least_squares_multipliers_are_the_bounded_least_squares_of_the_jacobian(x64):
    from scipy.optimize import lsq_linear

    # Two of four inequalities off the active set have offsets below the tolerance.
    idle = np.array([-1.0, -2e-4, -0.9e-4, 0.0])
    constraints = jc.Constraints(
        {"h": affine("h")}, {"g": affine("g"), "idle": affine("idle")}
    )

    def check(row):
        (equalities, inequalities, dimension), seed = row
        rng = np.random.default_rng(seed)
        rows = rng.normal(size=(equalities + inequalities, dimension))
        slope = rng.normal(size=dimension)
        batch = {
            "slope": slope,
            "h": (rows[:equalities], np.zeros(equalities)),
            "g": (rows[equalities:], np.zeros(inequalities)),
            "idle": (np.zeros((4, dimension)), idle),
        }
        found = least_squares_multipliers(
            jc.Lagrangian(lambda p, batch: batch["slope"] @ p, constraints),
            np.zeros(dimension),
            batch,
        )
        below = [-np.inf] * equalities + [0.0] * inequalities
        oracle = lsq_linear(rows.T, -slope, (below, np.inf), method="bvls", tol=1e-14)
        got = np.hstack(
            [found.multipliers.equality["h"], found.multipliers.inequality["g"]]
        )
        np.testing.assert_array_equal(found.active.inequality["idle"], [0, 0, 1, 1])
        np.testing.assert_array_equal(found.multipliers.inequality["idle"], 0.0)
        assert found.num_active == len(rows) + 2
        assert found.rank == np.linalg.matrix_rank(rows)
        # Random rows have condition numbers below 1e3.
        residual = slope + rows.T @ got
        np.testing.assert_allclose(residual, slope + rows.T @ oracle.x, atol=1e-11)
        length = np.linalg.norm(residual)
        np.testing.assert_allclose(found.stationarity, length, atol=1e-12)
        if found.rank == len(rows):
            np.testing.assert_allclose(got, oracle.x, atol=1e-11)

    sizes = [(0, 4, 9), (3, 0, 9), (3, 5, 9), (4, 9, 6), (9, 9, 5)]
    assert_each([(size, seed) for size in sizes for seed in range(2)], check)


@pytest.mark.parametrize("dtype", ["float64", "float32"], indirect=True)
def test_least_squares_multipliers_by_products_are_the_shortest(dtype, monkeypatch):
    from scipy.optimize import lsq_linear

    monkeypatch.setattr("jaxcon.optimality._active_set._LARGEST_GRAM", -1)
    problem = jc.Lagrangian(
        lambda p, batch: batch["slope"] @ p,
        jc.Constraints({"h": affine("h")}, {"g": affine("g")}),
    )

    def check(row):
        (equalities, inequalities, dimension), decay, balanced = row
        rng = np.random.default_rng(0)
        rows = rng.normal(size=(equalities + inequalities, dimension))
        rows *= np.exp(rng.normal(size=len(rows)))[:, None]
        rows = (rows * np.logspace(0, -decay, dimension)).astype(dtype)
        slope = rng.normal(size=dimension)
        if balanced:
            slope = -np.abs(rng.normal(size=len(rows))) @ rows
        slope = slope.astype(dtype)
        none = np.zeros(len(rows), dtype)
        h, g = slice(equalities), slice(equalities, None)
        batch = {"slope": slope, "h": (rows[h], none[h]), "g": (rows[g], none[g])}
        found = least_squares_multipliers(problem, np.zeros(dimension, dtype), batch)
        got = np.hstack(
            [found.multipliers.equality["h"], found.multipliers.inequality["g"]]
        )
        below = [-np.inf] * equalities + [0.0] * inequalities
        rows, slope = rows.astype(float), slope.astype(float)
        lengths = np.linalg.norm(rows, axis=1)
        units = rows / lengths[:, None]
        assert found.rank == min(rows.shape)
        assert np.all(got[g] >= 0)
        # Rounding of a sum of some hundred gradients, relative to the loss's.
        rounding = 1000 * float(np.finfo(dtype).eps)
        atol = rounding * np.linalg.norm(slope)
        best = lsq_linear(units.T, -slope, (below, np.inf), method="bvls", tol=1e-14)
        want = np.linalg.norm(slope + best.x @ units)
        np.testing.assert_allclose(found.stationarity, want, rtol=rounding, atol=atol)
        pulls = got * lengths
        if len(rows) <= dimension:
            np.testing.assert_allclose(pulls, best.x, atol=10 * atol)
        else:
            # The shortest that make the same sum. The weight leaves its square of faint
            # directions undone, and so does the first round: the roots of epsilon.
            weighted = np.vstack([units.T, 1e-6 * np.eye(len(rows))])
            right = np.append(best.x @ units, none)
            oracle = lsq_linear(weighted, right, (below, np.inf), "bvls", tol=1e-15).x
            root = float(np.finfo(dtype).eps) ** 0.5
            size, share = np.linalg.norm(oracle), 0.01 if decay else root
            np.testing.assert_allclose(np.linalg.norm(pulls), size, rtol=share)
            np.testing.assert_allclose(pulls, oracle, rtol=0, atol=3 * share * size)

    faint, wide, tall = 1.5, (20, 40, 90), (40, 80, 30)
    rows = [(wide, 0.0, False), (wide, 0.0, True), (tall, 0.0, False)]
    assert_each([*rows, (tall, 0.0, True), (tall, faint, True)], check)


def test_least_squares_multipliers_of_more_residuals_than_a_matrix_is_formed_for():
    # min (p - 2)² s.t. p x_i <= 0: pulls of equal size share what 4 needs by their x.
    x = jnp.linspace(-1, 1, 3001)
    problem = jc.Lagrangian(
        lambda p, _: (p[0] - 2) ** 2,
        jc.Constraints(inequality={"g": lambda p, _: p * x}),
    )
    found = least_squares_multipliers(problem, jnp.zeros(1))
    multipliers = np.asarray(found.multipliers.inequality["g"])
    # Sums of 1500 products in float32, one after the other.
    rtol = 1500 * float(np.finfo("float32").eps)
    np.testing.assert_allclose(multipliers @ x, 4.0, rtol=rtol)
    np.testing.assert_allclose((multipliers * x)[1501:], 4 / 1500, rtol=1e-4)
    assert np.max((multipliers * np.abs(x))[:1501]) < rtol * 4 / 1500
    assert float(found.stationarity) < 4 * rtol
    assert (found.num_active, found.rank, found.unique) == (3001, 1, False)
    apart = conflict(problem, jnp.ones(1))
    np.testing.assert_allclose(apart.step, 1.0, rtol=1e-3)  # to p = 0
    assert apart.names == ("g",)


@pytest.mark.slow
@pytest.mark.parametrize("inner", [1024, 0], ids=["by parameters", "by random signs"])
def test_least_squares_multipliers_of_more_points_than_parameters(inner, monkeypatch):
    monkeypatch.setattr("jaxcon.optimality._active_set._MOST_PARAMETERS", inner)
    rng = np.random.default_rng(0)
    params = random_network(rng, 3, 12)
    x = rng.normal(size=(5000, 3)).astype(np.float32)
    batch = {"x": x, "bound": at_points(params, x)}
    true = np.maximum(rng.normal(size=5000), 0).astype(np.float32)
    problem = jc.Lagrangian(
        pulled_by(true, params, batch), jc.Constraints(inequality={"below": below})
    )
    found = least_squares_multipliers(problem, params, batch)
    alone = least_squares_multipliers(jc.Lagrangian(problem.loss), params, batch)
    # Two thousand multipliers of order one, summed in float32.
    assert float(found.stationarity) < 3e-6 * float(alone.stationarity)
    assert (found.multipliers.inequality["below"] >= 0).all()
    assert not found.unique
    if inner:
        gradients = jax.jacobian(below)(params, batch)
        rows = np.hstack([np.reshape(leaf, (5000, -1)) for leaf in gradients.values()])
        rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        values = np.linalg.svd(rows.astype(float), compute_uv=False)
        assert found.rank == np.sum(values**2 > 5010 * np.finfo("float32").eps) < 60
    else:
        assert found.rank is None
    size = np.linalg.norm(found.multipliers.inequality["below"])
    assert size < np.linalg.norm(true)


@pytest.mark.slow
@pytest.mark.parametrize("count", [10**5, 10**6])
def test_multipliers_and_conflict_of_a_million_residuals_in_four_gigabytes(count):
    code = f"""
import resource
resource.setrlimit(resource.RLIMIT_AS, (12 << 30, 12 << 30))
import jax.numpy as jnp, jaxcon as jc
x = jnp.linspace(-1, 1, {count})
held = jc.Constraints(inequality={{"g": lambda p, _: p[0] * x}})
problem = jc.Lagrangian(lambda p, _: (p[0] - 2) ** 2, held)
found = jc.least_squares_multipliers(problem, jnp.zeros(1))
judged = jc.kkt(problem, jc.Point(jnp.zeros(1), found.multipliers))
slope = jc.sensitivity(found.multipliers)["g"]
print(float(found.stationarity), float(judged.worst), float(slope))
print(float(jc.conflict(problem, jnp.ones(1)).step))
# Not getrusage's, which begins at the size of the process that this one was forked from.
[peak] = [line for line in open("/proc/self/status") if line.startswith("VmHWM")]
print(int(peak.split()[1]) / 2**20)
"""
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=600
    )
    assert run.returncode == 0, run.stderr[-2000:]
    stationarity, worst, slope, step, gigabytes = map(float, run.stdout.split())
    assert max(stationarity, worst) < 1e-5
    assert slope < -4  # the sum of multipliers that pull by x <= 1 with 4 in all
    assert step == pytest.approx(1.0, rel=1e-3)
    assert gigabytes < 4


@IN_FLOAT64_AND_SLOWLY_IN_FLOAT32
def test_least_squares_multipliers_not_unique_share_by_equal_pulls(dtype, form):
    # -p0 - 3 p1: p0 is held by two, in units a thousand times apart, p1 by one alone.
    functions = {
        "a": lambda p, _: p[0],
        "b": lambda p, _: 1000 * p[0],
        "c": lambda p, _: p[1],
    }

    def check(kinds):
        entries = {"h": {}, "g": {}}
        for kind, (name, function) in zip(kinds, functions.items()):
            entries[kind][name] = function
        found = least_squares_multipliers(
            jc.Lagrangian(
                lambda p, _: -p[0] - 3 * p[1], jc.Constraints(*entries.values())
            ),
            np.zeros(2, dtype),
        )
        multipliers = {
            name: m for _, name, m in jc.constraints.named(found.multipliers)
        }
        expected = {"a": 0.5, "b": 0.0005, "c": 3.0}
        # The proximal term of the first round leaves a trace in what nothing else fixes.
        rel = float(np.finfo(dtype).eps) ** 0.5
        assert multipliers == pytest.approx(expected, rel=rel)
        assert (found.num_active, found.rank, found.unique) == (3, 2, False)

    assert_each(["hhh", "ggg", "hgg", "ghg"], check)


@pytest.mark.parametrize(
    ("dtype", "angle", "rank"),
    [
        ("float32", 0.1, 2),
        ("float32", 1e-5, 1),
        ("float64", 1e-5, 2),
        ("float64", 1e-9, 1),
    ],
    indirect=["dtype"],
)
def test_least_squares_rank_has_the_resolution_it_says(dtype, angle, rank):
    rows = np.array([[1.0, 0.0], [np.cos(angle), np.sin(angle)]])
    found = least_squares_multipliers(
        jc.Lagrangian(lambda p, _: -p[0], jc.Constraints({"h": linear(rows)})),
        jnp.zeros(2),
    )
    assert found.rank == rank


def test_least_squares_multiplier_of_a_constraint_without_gradient_is_zero():
    constraints = jc.Constraints(
        inequality={"flat": lambda p, _: 0 * p + 1.0, "p <= 0": lambda p, _: p}
    )
    found = least_squares_multipliers(
        jc.Lagrangian(lambda p, _: -2 * p, constraints), jnp.array(0.0)
    )
    assert jax.tree.map(float, found.multipliers.inequality) == {"flat": 0, "p <= 0": 2}
    assert (found.num_active, found.rank) == (2, 1)


def test_least_squares_multipliers_where_nothing_is_active_are_none():
    params = {"x": jnp.array(1.0), "yz": (jnp.array(4.0), jnp.array(0.0))}
    for constraints in (jc.Constraints(), CONSTRAINTS._replace(equality={})):
        found = least_squares_multipliers(
            jc.Lagrangian(
                lambda p, _: (3 * p["x"] + 4 * p["yz"][0], "aux"), constraints
            ),
            params,
        )
        assert float(found.stationarity) == 5.0
        assert (found.num_active, found.rank, found.unique) == (0, 0, True)
        assert not any(jax.tree.leaves(found.multipliers))


def network(params, x):
    """Of one hidden layer, or of two where there are weights "u" of a second."""
    hidden = jnp.tanh(x @ params["w"] + params["b"])
    if "u" in params:
        hidden = jnp.tanh(hidden @ params["u"])
    return hidden @ params["v"]


def at_points(params, points):
    return jax.vmap(partial(network, params))(points)


def random_network(rng, inputs, width, names="wbv"):
    shapes = {
        "w": (inputs, width),
        "b": (width,),
        "u": (width, width),
        "v": (width,),
    }
    scale = {"w": 1.0, "b": 1.0, "u": width**-0.5, "v": width**-0.5}
    return {
        name: (scale[name] * rng.normal(size=shape)).astype(np.float32)
        for name, shape in shapes.items()
        if name in names
    }


def below(params, batch):
    return at_points(params, batch["x"]) - batch["bound"]


def pulled_by(weights, params, batch):
    """A loss, linear in the parameters, that these multipliers of `below` balance."""
    _, pull = jax.vjp(lambda p: below(p, batch), params)
    slope = jax.tree.map(jnp.conj, pull(weights)[0])
    return lambda p, _: (
        -sum(
            jnp.real(jnp.vdot(s, leaf))
            for s, leaf in zip(jax.tree.leaves(slope), jax.tree.leaves(p))
        )
    )


@pytest.mark.slow
def test_least_squares_multipliers_of_a_million_parameters_and_two_hundred_points():
    rng = np.random.default_rng(0)
    params = random_network(rng, 10, 1000, "wbuv")
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    assert count > 1e6
    x = rng.normal(size=(200, 10)).astype(np.float32)
    x[7:9] = 0.0
    batch = {"x": x, "bound": at_points(params, x)}
    true = rng.random(200, np.float32)
    true[7:9] = 0.25
    constraints = jc.Constraints(inequality={"below": below})
    loss = pulled_by(true, params, batch)
    found = least_squares_multipliers(jc.Lagrangian(loss, constraints), params, batch)
    assert (found.num_active, found.rank) == (200, 199)  # one point stands there twice
    # Gradients of order one, nearly orthogonal, and products summed in float32.
    np.testing.assert_allclose(found.multipliers.inequality["below"], true, atol=1e-5)
    # Beside the parameters a gradient, its activations and the (200, 200) products.
    problem = jc.Lagrangian(loss, constraints)
    compiled = jax.jit(partial(gram, problem)).lower(
        jnp.arange(200), params, batch, None
    )
    memory = compiled.compile().memory_analysis()
    assert memory.temp_size_in_bytes < 10 * 4 * count


@jax.custom_vjp
def backwards_only(x):
    return jnp.tanh(x)


backwards_only.defvjp(
    lambda x: (jnp.tanh(x), x), lambda x, ct: (ct * (1 - jnp.tanh(x) ** 2),)
)


def looped(params, batch):
    def layer(h, _):
        return jnp.tanh(h @ params["u"]), None

    start = jnp.tanh(batch["x"] @ params["w"] + params["b"][None])
    h, _ = jax.lax.scan(layer, start, None, length=3)
    return (h @ params["v"] - batch["bound"]) * jnp.arange(1.0, 6.0)


def tiled(params, batch):
    one = lambda x: backwards_only(network(params, x))  # noqa: E731
    return jc.derivatives.tiled_vmap(one, tile=2)(batch["x"])


def halved(params):
    return params | {name: jnp.asarray(params[name], "bfloat16") for name in "uv"}


def turned(params):
    return jax.tree.map(lambda leaf: leaf * np.complex64(1 + 0.5j), params)


# name: (constraint, names of its network's parameters, how these are changed)
VARIANTS = {
    "custom_vjp in tiles": (tiled, "wbv", dict),
    "proxy of a scan": (
        jc.proxy(looped, lambda p, b: jnp.round(looped(p, b))),
        "wbuv",
        dict,
    ),
    "complex": (lambda p, b: jnp.real(at_points(p, b["x"]) * (2 - 1j)), "wbv", turned),
    "bfloat16": (below, "wbuv", halved),
}


# Half precision is the coarsest in play, and would be the resolution of all others.
@pytest.mark.parametrize("half", [False, True], ids=["others", "bfloat16"])
def test_least_squares_multipliers_of_any_parameters_and_any_backward_pass(half):
    names = [name for name in VARIANTS if (name == "bfloat16") == half]
    rng = np.random.default_rng(0)
    params = {
        name: change(random_network(rng, 4, 16, parts))
        for name, (_, parts, change) in VARIANTS.items()
        if name in names
    }
    batch = {"x": rng.normal(size=(5, 4)).astype(np.float32), "bound": np.zeros(5, "f")}
    true = np.array([1.0, -2.0, 0.5, 0.25, 3.0], np.float32)
    rules = {
        name: lambda p, b, name=name: VARIANTS[name][0](p[name], b) for name in names
    }

    def loss(p, batch):
        # Its gradient is minus the constraints', weighted; and so is a proxy's.
        return -sum(
            jnp.vdot(true, rule(p, batch).astype("float32")) for rule in rules.values()
        )

    found = least_squares_multipliers(
        jc.Lagrangian(loss, jc.Constraints(rules)), params, batch
    )
    # Nearly orthogonal gradients: rounding times a condition number below 100.
    atol = (0.05 if half else 1e-4) * np.max(np.abs(true))

    def check(name):
        got = np.asarray(found.multipliers.equality[name], float)
        np.testing.assert_allclose(got, true, rtol=0, atol=atol)

    assert_each(names, check)
    assert half or found.rank == 5 * len(names)


def test_least_squares_multipliers_and_conflict_name_what_is_not_finite():
    def calls(function, at, message):
        rules = jc.Constraints(
            inequality={"even": lambda p, _: p + 1.0, "odd": function}
        )
        problem = jc.Lagrangian(lambda p, _: jnp.sum(p), rules)
        for judge in (least_squares_multipliers, conflict):
            yield partial(judge, problem, np.float32(at)), ValueError, message

    assert_refused(
        [
            *calls(lambda p, _: jnp.log(p), -1.0, "'odd' is not finite"),
            *calls(
                lambda p, _: jnp.sqrt(p) + 1,
                0.0,
                "not every gradient of 'even', 'odd' is finite",
            ),
            (
                lambda: least_squares_multipliers(
                    jc.Lagrangian(lambda p, _: jnp.sqrt(p), jc.Constraints()),
                    np.float32(0.0),
                ),
                ValueError,
                "gradient of the loss is not finite",
            ),
        ]
    )


BAD_TOLERANCES = [
    (-1.0, ValueError),
    (np.nan, ValueError),
    (np.inf, ValueError),
    (None, TypeError),
    ("a", TypeError),
    (True, TypeError),
    (np.ones(2), TypeError),
]


def test_active_and_multipliers_and_conflict_refuse_other_tolerances():
    problem = jc.Lagrangian(
        lambda p, _: jnp.sum(p), jc.Constraints({"h": lambda p, _: p})
    )
    residuals = jc.Constraints({"h": jnp.zeros(2)})
    calls = [
        partial(active, residuals),
        *(
            lambda bad, judge=judge: judge(problem, jnp.zeros(2), tolerance=bad)
            for judge in (least_squares_multipliers, conflict)
        ),
    ]
    assert_refused(
        [
            (partial(call, bad), error, "^tolerance must be")
            for call in calls
            for bad, error in BAD_TOLERANCES
        ]
    )


def test_judges_of_a_point_refuse_what_is_no_problem_and_no_point():
    rules = jc.Constraints({"h": lambda p, batch: p * batch["x"] - 1.0})
    problem = jc.Lagrangian(lambda p, _: jnp.sum(p), rules)
    p, batch = jnp.ones(2), {"x": jnp.ones(2)}
    mu, one = jc.Constraints({"h": jnp.ones(2)}), jnp.ones(2)

    def judge(problem=problem, params=p, batch=batch, multipliers=mu, **rest):
        return jc.kkt(problem, jc.Point(params, multipliers, **rest), batch)

    solve, apart = least_squares_multipliers, conflict
    assert_refused(
        [
            *(
                (partial(call, problem=bad), TypeError, "^problem must be a jaxcon.Lag")
                for call in (
                    judge,
                    *(partial(f, params=p, batch=batch) for f in (solve, apart)),
                )
                for bad in (None, rules, lambda p, _: p, "a")
            ),
            *(
                (partial(call, params=bad), TypeError, "^params must be a pytree of fl")
                for call in (judge, *(partial(f, problem) for f in (solve, apart)))
                for bad in (None, "a", jnp.arange(2), {"w": True}, [object()])
            ),
            (lambda: jc.kkt(problem, p, batch), TypeError, "^state must have params"),
            (lambda: jc.kkt(problem, None), TypeError, "^state must have params"),
            (
                partial(judge, multipliers={"h": one}),
                TypeError,
                "^multipliers of the state must be jaxcon.Constraints",
            ),
            (
                partial(judge, multipliers=jc.Constraints({"h": None})),
                TypeError,
                "multiplier of equality constraint 'h'",
            ),
            (
                partial(judge, multipliers=jc.Constraints({"other": one})),
                ValueError,
                "constraint '(h|other)' has a",
            ),
            (
                partial(judge, multipliers=jc.Constraints({}, {"h": one})),
                ValueError,
                "constraint 'h' has a",
            ),
            (partial(judge, penalty=-1.0), ValueError, "^penalty of the state must be"),
            (
                partial(judge, penalty=jc.Constraints({"other": 1.0})),
                ValueError,
                "penalty of equality constraint 'other'",
            ),
            *(
                (call, TypeError, "raised in equality constraint 'h'")
                for call in (
                    partial(judge, batch=None),
                    partial(solve, problem, p),
                    partial(apart, problem, p),
                )
            ),
            *(
                (
                    lambda f=f: jax.jit(f, static_argnums=0)(problem, p),
                    TypeError,
                    "host",
                )
                for f in (solve, apart)
            ),
            *(
                (partial(sensitivity, bad), TypeError, "multiplier")
                for bad in (None, {"h": one}, jc.Constraints({"h": "a"}), one)
            ),
        ]
    )


def optimal_loss(problem):
    """The optimal loss, a function of the right-hand sides, by a solver of its own.

    Sequential quadratic programming from the known solution, of the problem with
    g <= room and h = room for the constraint that `rooms` names.
    """
    from jax.flatten_util import ravel_pytree
    from scipy.optimize import minimize

    start, unravel = ravel_pytree(jax.tree.map(jnp.array, problem.params))

    def at(v, rooms):
        residuals = jc.evaluate(problem.constraints, unravel(v))
        entries = [
            (kind, jnp.atleast_1d(r) - rooms.get(name, 0.0))
            for kind, name, r in jc.constraints.named(residuals)
        ]
        equality = [h for kind, h in entries if kind == "equality"]
        inequality = [-g for kind, g in entries if kind == "inequality"]  # SciPy's >= 0
        return [
            problem.loss(unravel(v), None),
            *(jnp.concatenate(part) for part in (equality, inequality) if part),
        ]

    values, slopes = jax.jit(at), jax.jit(jax.jacobian(at))
    kinds = [kind for kind, part in zip(("eq", "ineq"), problem.constraints) if part]

    def solve(rooms):
        def reads(i):
            return lambda v: values(v, rooms)[i], lambda v: slopes(v, rooms)[i]

        loss, slope = reads(0)
        held = [
            dict(zip(("type", "fun", "jac"), (kind, *reads(i))))
            for i, kind in enumerate(kinds, start=1)
        ]
        options = {"ftol": 1e-10, "maxiter": 500}
        answer = minimize(
            loss, start, jac=slope, method="SLSQP", constraints=held, options=options
        )
        # Not its status: rounding may keep it from ending at the solution it stands on.
        signs = [np.abs if kind == "eq" else np.negative for kind in kinds]
        _, *residuals = values(answer.x, rooms)
        for sign, residual in zip(signs, residuals):
            assert np.max(sign(residual)) < 1e-6
        return answer.fun

    return solve


def assert_sensitivity_is_the_slope(name):
    problem, room = PROBLEMS[name](), 1e-3
    params = jax.tree.map(jnp.array, problem.params)
    found = least_squares_multipliers(
        jc.Lagrangian(problem.loss, problem.constraints), params
    )
    slopes, solve = sensitivity(found.multipliers), optimal_loss(problem)
    zeros = dict.fromkeys(slopes, 0.0)
    assert set(slopes) == {
        *problem.constraints.equality,
        *problem.constraints.inequality,
    }
    for constraint, slope in slopes.items():
        high, low = (solve(zeros | {constraint: side}) for side in (room, -room))
        # A one-sided bend (g = 0 = lambda) errs by the step, a smooth one by its square.
        np.testing.assert_allclose((high - low) / (2 * room), slope, rtol=0, atol=room)


def unique():
    return [name for name, make in PROBLEMS.items() if make().unique]


def test_sensitivity_is_the_slope_of_the_optimal_loss(x64):
    assert_each(unique()[::8], assert_sensitivity_is_the_slope)


@pytest.mark.slow
def test_sensitivity_is_the_slope_of_the_optimal_loss_of_all_others(x64):
    assert_each(
        [name for i, name in enumerate(unique()) if i % 8],
        assert_sensitivity_is_the_slope,
    )


INTERVAL = jc.Constraints(
    inequality={
        "x <= -1": lambda p, scale: scale * (p[0] + 1.0),
        "x >= 1": lambda p, _: 1.0 - p[0],
    }
)
# name: (constraints, params, names that conflict); the batch scales x <= -1.
INFEASIBLE = {
    "interval": (INTERVAL, [0.3, 0.0], {"x <= -1": 0.5, "x >= 1": 0.5}),
    "units": (INTERVAL, [-0.5, 0.0], {"x <= -1": 0.5, "x >= 1": 0.5}),
    "one at its bound": (INTERVAL, [1.0, 0.0], {"x <= -1": 0.5, "x >= 1": 0.5}),
    "bystanders": (
        jc.Constraints(
            {"y = 2": lambda p, _: p[1] - 2.0},
            {
                "x <= -1": lambda p, _: p[0] + 1.0,
                "x >= 1": lambda p, _: 1.0 - p[0],
                "x + y <= -3": lambda p, _: p[0] + p[1] + 3.0,
                "y <= 9": lambda p, _: p[1] - 9.0,
            },
        ),
        [0.0, 0.0],
        None,  # found in more than one method: x <= -1 or y = 2, x + y <= -3 against x >= 1
    ),
    "equalities": (
        jc.Constraints(
            {"x = 0": lambda p, _: p[0], "x = 1": lambda p, _: p[0] - 1.0},
            {"y <= -2": lambda p, _: p[1] + 2.0},
        ),
        [0.2, 0.2],
        {"x = 0": 0.5, "x = 1": -0.5, "y <= -2": 0.0},
    ),
    "triangle": (
        # Half-planes at 120 degrees, each away from the others: no two conflict alone.
        jc.Constraints(
            inequality={
                name: linear([np.cos(turn), np.sin(turn)], 1.0)
                for name, turn in zip("abc", 2 * np.pi / 3 * np.arange(3))
            }
        ),
        [0.1, 0.2],
        dict.fromkeys("abc", 1 / 3),
    ),
    "no gradient": (
        jc.Constraints(
            {"x² = -1": lambda p, _: p[0] ** 2 + 1.0},
            {"y <= -2": lambda p, _: p[1] + 2.0},
        ),
        [0.0, 0.0],
        {"x² = -1": 1.0, "y <= -2": 0.0},
    ),
}


@IN_FLOAT64_AND_SLOWLY_IN_FLOAT32
@pytest.mark.parametrize(
    "form",
    ["inner products", pytest.param("products", marks=pytest.mark.slow)],
    indirect=True,
)
def test_conflict_certifies_an_infeasible_set_by_name(dtype, form):
    # Angles are known to the root of epsilon (see the rank), sums to epsilon.
    atol = 10 * float(np.finfo(dtype).eps) ** 0.5

    def check(name):
        constraints, at, expected = INFEASIBLE[name]
        scale = np.array(1e4 if name == "units" else 1.0, dtype)
        found = conflict(
            jc.Lagrangian(lambda *_: 0.0, constraints), np.array(at, dtype), scale
        )
        weights = {key: float(w) for _, key, w in jc.constraints.named(found.weights)}
        assert sum(map(abs, weights.values())) == pytest.approx(1.0, abs=1e-6)
        assert float(found.stationarity) < atol
        assert float(found.step) > 0.1 / atol
        assert float(found.violation) > 0.5
        if expected is not None:
            assert weights == pytest.approx(expected, abs=atol)
            assert set(found.names) == {key for key, w in expected.items() if w}
        else:
            assert "y <= 9" not in found.names
            assert "x >= 1" in found.names

    assert_each(INFEASIBLE, check)


def test_conflict_step_is_the_shortest_that_mends_every_violation(x64, form):
    from scipy.optimize import minimize

    constraints = jc.Constraints({"h": affine("h")}, {"g": affine("g")})

    def check(row):
        (equalities, inequalities), seed = row
        rng = np.random.default_rng(seed)
        rows = rng.normal(size=(equalities + inequalities, 6))
        offsets = np.hstack(
            [rng.normal(size=equalities), rng.uniform(0.2, 2.0, inequalities)]
        )
        h, g = slice(equalities), slice(equalities, None)
        oracle = minimize(
            lambda d: d @ d / 2,
            -np.linalg.pinv(rows) @ offsets,
            jac=lambda d: d,
            method="SLSQP",
            constraints=[
                {
                    "type": kind,
                    "fun": lambda d, at=at, sign=sign: (
                        sign * (rows[at] @ d + offsets[at])
                    ),
                    "jac": lambda d, at=at, sign=sign: sign * rows[at],
                }
                for at, kind, sign in [(h, "eq", 1.0), (g, "ineq", -1.0)]
                if len(rows[at])
            ],
            options={"ftol": 1e-14},
        )
        batch = {"h": (rows[h], offsets[h]), "g": (rows[g], offsets[g])}
        found = conflict(jc.Lagrangian(lambda *_: 0.0, constraints), np.zeros(6), batch)
        # SLSQP ends when the half square changes by 1e-14.
        np.testing.assert_allclose(found.step, np.linalg.norm(oracle.x), rtol=1e-6)

    sizes = [(0, 4), (2, 0), (2, 3)]
    assert_each([(size, seed) for size in sizes for seed in range(4)], check)


def test_conflict_of_a_feasible_point_is_none():
    constraints = jc.Constraints(
        {"x = 0": lambda p, _: p[0]}, {"y <= 1": lambda p, _: p[1] - 1.0}
    )
    for rules in (constraints, jc.Constraints()):
        found = conflict(jc.Lagrangian(lambda *_: 0.0, rules), jnp.array([0.0, 1.0]))
        assert found.names == ()
        assert not any(jax.tree.leaves(found.weights))
        assert (found.stationarity, found.step, found.violation) == (1.0, 0.0, 0.0)


def test_conflict_of_points_that_cannot_be_both_high_and_low():
    rng = np.random.default_rng(0)
    params = random_network(rng, 2, 64)
    x = rng.normal(size=(20, 2)).astype(np.float32)
    rules = {
        "high": lambda p, x: 1.0 - at_points(p, x[:10]),
        "low": lambda p, x: at_points(p, x[5:]) + 1.0,
    }
    found = conflict(
        jc.Lagrangian(lambda *_: 0.0, jc.Constraints(inequality=rules)), params, x
    )
    assert set(found.names) == {"high", "low"}
    assert (
        float(found.stationarity) < 1e-4
    )  # the root of epsilon, and the same gradients
    # The same points pull both methods, by equal weights; the others are free to follow.
    # The weights are resolved as the rank is, with m = 25.
    high, low = found.weights.inequality["high"], found.weights.inequality["low"]
    atol = (35 * float(np.finfo("float32").eps)) ** 0.5
    np.testing.assert_allclose(high[5:], low[:5], atol=atol)
    assert max(high[:5].max(), low[5:].max()) < atol
