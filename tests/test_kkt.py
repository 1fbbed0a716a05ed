"""Residuals answer to their own fault; multipliers and conflicts match their oracles."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcon as jc
from benchmarks.problems import PROBLEMS
from jaxcon.kkt import (
    _gram,
    active,
    conflict,
    least_squares_multipliers,
    sensitivity,
)


@pytest.mark.parametrize("name", PROBLEMS)
def test_all_five_vanish_at_a_known_solution(x64, name):
    problem = PROBLEMS[name]()
    params, multipliers = jax.tree.map(jnp.array, (problem.params, problem.multipliers))
    judged = jc.kkt(problem.loss, problem.constraints, params, multipliers)
    equalities, inequalities = map(set, problem.constraints)
    assert set(judged.equality) == equalities
    assert set(judged.inequality) == inequalities
    assert set(judged.dual) == set(judged.slackness) == inequalities
    assert all(leaf.shape == () for leaf in jax.tree.leaves((judged, judged.worst)))
    # The solutions are of lapack's accuracy, or polished by OSQP to about 1e-12.
    np.testing.assert_allclose(judged.worst, 0.0, atol=1e-10)


# min x² + y² + c·z s.t. x = 1 (μ = -2), y >= 3 (λ = 6), z <= 4 slack (λ = 0), c = 0.
CONSTRAINTS = jc.Constraints(
    equality={"x = 1": lambda p, _: p["x"] - 1.0},
    inequality={
        "y >= 3": lambda p, _: 3.0 - p["yz"][0],
        "z <= 4": lambda p, _: p["yz"][1] - 4.0,
    },
)


@pytest.mark.parametrize(
    ("x", "y", "c", "lam_y", "lam_z", "expected"),
    [
        (1.0, 3.0, 0.0, 6.0, 0.0, {}),
        (1.0, 3.0, 0.5, 6.0, 0.0, {"stationarity": 0.5}),
        # x moves: its own gradient too.
        (1.25, 3.0, 0.0, 6.0, 0.0, {"stationarity": 0.5, "equality x = 1": 0.25}),
        (0.75, 3.0, 0.0, 6.0, 0.0, {"stationarity": 0.5, "equality x = 1": 0.25}),
        # y = 0 s.t. y >= 3 with λ = 0: stationary, and only infeasible.
        (1.0, 0.0, 0.0, 0.0, 0.0, {"inequality y >= 3": 3.0}),
        # λ of the slack z <= 4 at z = 0, balanced by c: slackness alone, or with dual.
        (1.0, 3.0, -0.5, 6.0, 0.5, {"slackness z <= 4": 2.0}),
        (1.0, 3.0, 0.5, 6.0, -0.5, {"dual z <= 4": 0.5, "slackness z <= 4": 2.0}),
    ],
    ids=["optimal", "stationarity", "h > 0", "h < 0", "g > 0", "slackness", "dual"],
)
@pytest.mark.parametrize("jit", [False, True], ids=["eager", "jit"])
def test_each_answers_to_its_own_fault(x, y, c, lam_y, lam_z, expected, jit):
    def loss(p, c):
        return p["x"] ** 2 + p["yz"][0] ** 2 + c * p["yz"][1]

    params = {"x": jnp.array(x), "yz": (jnp.array(y), jnp.array(0.0))}
    multipliers = jc.Constraints(
        {"x = 1": jnp.array(-2.0)},
        {"y >= 3": jnp.array(lam_y), "z <= 4": jnp.array(lam_z)},
    )

    def judge(params, multipliers, batch):
        return jc.kkt(loss, CONSTRAINTS, params, multipliers, batch)

    judged = (jax.jit(judge) if jit else judge)(params, multipliers, jnp.array(c))
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


@pytest.mark.parametrize("place", jc.KKT._fields)
def test_the_worst_of_all_is_nan_where_one_is(place):
    number = jnp.array(np.nan) if place == "stationarity" else {"a": jnp.array(np.nan)}
    well = jc.KKT(jnp.array(1.0), *({"a": jnp.array(2.0)} for _ in range(4)))
    assert float(well.worst) == 2.0
    assert np.isnan(well._replace(**{place: number}).worst)


def test_one_evaluation_serves_all_residuals():
    calls = []
    constraints = jc.Constraints({"h": lambda p, _: calls.append("h") or p})
    jc.kkt(
        lambda p, _: calls.append("f") or p**2,
        constraints,
        jnp.array(1.0),
        jc.Constraints({"h": jnp.array(1.0)}),
    )
    assert sorted(calls) == ["f", "h"]


def test_a_negative_multiplier_of_an_active_constraint_shows_in_dual_alone():
    # max instead of min at the bound: stationary with λ = -2, g = 0.
    judged = jc.kkt(
        lambda p, _: p**2,
        jc.Constraints(inequality={"p <= 1": lambda p, _: p - 1.0}),
        jnp.array(1.0),
        jc.Constraints(inequality={"p <= 1": jnp.array(-2.0)}),
    )
    assert jax.tree.map(float, judged) == jc.KKT(
        0.0, {}, {"p <= 1": 0.0}, {"p <= 1": 2.0}, {"p <= 1": 0.0}
    )


def test_it_takes_the_largest_entry_not_a_sum():
    constraints = jc.Constraints(
        {"h": lambda p, _: p - jnp.array([1.0, 2.0, 4.0])},
        {"g": lambda p, _: p - jnp.array([-1.0, -3.0, 9.0])},
    )
    multipliers = jc.Constraints(
        {"h": jnp.zeros(3)}, {"g": jnp.array([-0.5, -0.25, 1.0])}
    )
    judged = jc.kkt(lambda p, _: 0.0 * p[0], constraints, jnp.zeros(3), multipliers)
    assert jax.tree.map(float, judged) == jc.KKT(
        1.0, {"h": 4.0}, {"g": 3.0}, {"g": 0.5}, {"g": 9.0}
    )


def test_a_loss_with_aux_and_no_constraints():
    none = jc.Constraints()
    judged = jc.kkt(lambda p, _: (p**2, {"p": p}), none, jnp.array(3.0), none)
    assert jax.tree.map(float, judged) == jc.KKT(6.0, {}, {}, {}, {})
    assert float(judged.worst) == 6.0


def test_multipliers_of_another_shape_are_refused():
    constraints = jc.Constraints({"h": lambda p, _: p})
    multipliers = jc.Constraints({"h": jnp.zeros(())})
    with pytest.raises(ValueError, match=r"'h' has a residual of shape \(3,\)"):
        jc.kkt(lambda p, _: jnp.sum(p), constraints, jnp.ones(3), multipliers)


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


@pytest.mark.parametrize(
    "dtype",
    ["float64", pytest.param("float32", marks=pytest.mark.slow)],
    indirect=True,
)
@pytest.mark.parametrize("name", PROBLEMS)
def test_multipliers_of_known_solutions(dtype, name):
    problem = PROBLEMS[name]()
    params = jax.tree.map(lambda p: jnp.asarray(p, dtype), problem.params)
    found = least_squares_multipliers(problem.loss, problem.constraints, params)
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


def linear(rows, offsets=0.0):
    """One constraint of many rows: rows @ params + offsets."""
    return lambda p, _: jnp.array(rows) @ p + jnp.array(offsets)


@pytest.mark.parametrize(
    "size", [(0, 4, 9), (3, 0, 9), (3, 5, 9), (4, 9, 6), (9, 9, 5)]
)
@pytest.mark.parametrize("seed", range(3))
def test_multipliers_are_the_bounded_least_squares_of_the_jacobian(x64, size, seed):
    from scipy.optimize import lsq_linear

    equalities, inequalities, dimension = size
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(equalities + inequalities, dimension))
    # Two of four inequalities off the active set have offsets below the tolerance.
    idle = np.array([-1.0, -2e-4, -0.9e-4, 0.0])
    slope = rng.normal(size=dimension)
    found = least_squares_multipliers(
        lambda p, _: slope @ p,
        jc.Constraints(
            {"h": linear(rows[:equalities])},
            {
                "g": linear(rows[equalities:]),
                "idle": linear(np.zeros((4, dimension)), idle),
            },
        ),
        jnp.zeros(dimension),
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
    np.testing.assert_allclose(found.stationarity, np.linalg.norm(residual), atol=1e-12)
    if found.rank == len(rows):
        np.testing.assert_allclose(got, oracle.x, atol=1e-11)


@pytest.mark.parametrize("kinds", ["hhh", "ggg", "hgg", "ghg"])
def test_what_is_not_unique_is_shared_by_equal_pulls(dtype, kinds):
    # -p0 - 3 p1: p0 is held by two, in units a thousand times apart, p1 by one alone.
    functions = {
        "a": lambda p, _: p[0],
        "b": lambda p, _: 1000 * p[0],
        "c": lambda p, _: p[1],
    }
    entries = {"h": {}, "g": {}}
    for kind, (name, function) in zip(kinds, functions.items()):
        entries[kind][name] = function
    found = least_squares_multipliers(
        lambda p, _: -p[0] - 3 * p[1], jc.Constraints(*entries.values()), jnp.zeros(2)
    )
    multipliers = {name: m for _, name, m in jc.constraints.named(found.multipliers)}
    expected = {"a": 0.5, "b": 0.0005, "c": 3.0}
    # The proximal term of the first round leaves a trace in what nothing else fixes.
    assert multipliers == pytest.approx(expected, rel=float(np.finfo(dtype).eps) ** 0.5)
    assert (found.num_active, found.rank, found.unique) == (3, 2, False)


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
def test_the_rank_has_the_resolution_it_says(dtype, angle, rank):
    rows = np.array([[1.0, 0.0], [np.cos(angle), np.sin(angle)]])
    found = least_squares_multipliers(
        lambda p, _: -p[0], jc.Constraints({"h": linear(rows)}), jnp.zeros(2)
    )
    assert found.rank == rank


def test_a_constraint_without_gradient_has_no_multiplier():
    constraints = jc.Constraints(
        inequality={"flat": lambda p, _: 0 * p + 1.0, "p <= 0": lambda p, _: p}
    )
    found = least_squares_multipliers(lambda p, _: -2 * p, constraints, jnp.array(0.0))
    assert jax.tree.map(float, found.multipliers.inequality) == {"flat": 0, "p <= 0": 2}
    assert (found.num_active, found.rank) == (2, 1)


@pytest.mark.parametrize("constraints", [jc.Constraints(), CONSTRAINTS])
def test_nothing_active_leaves_the_gradient_of_the_loss(constraints):
    params = {"x": jnp.array(1.0), "yz": (jnp.array(4.0), jnp.array(0.0))}
    constraints = constraints._replace(equality={})
    found = least_squares_multipliers(
        lambda p, _: (3 * p["x"] + 4 * p["yz"][0], "aux"), constraints, params
    )
    assert float(found.stationarity) == 5.0
    assert (found.num_active, found.rank, found.unique) == (0, 0, True)
    assert not any(jax.tree.leaves(found.multipliers))


def network(params, x):
    hidden = jnp.tanh(x @ params["w"] + params["b"])
    return jnp.tanh(hidden @ params["u"]) @ params["v"]


def at_points(params, points):
    return jax.vmap(partial(network, params))(points)


def random_network(key, inputs, width):
    k1, k2, k3, k4 = jax.random.split(key, 4)
    return {
        "w": jax.random.normal(k1, (inputs, width)),
        "b": jax.random.normal(k2, (width,)),
        "u": jax.random.normal(k3, (width, width)) / width**0.5,
        "v": jax.random.normal(k4, (width,)) / width**0.5,
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
def test_a_million_parameters_and_two_hundred_active_points(key):
    params = random_network(key, 10, 1000)
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    assert count > 1e6
    x = jax.random.normal(jax.random.key(1), (200, 10)).at[7].set(0.0).at[8].set(0.0)
    batch = {"x": x, "bound": at_points(params, x)}
    true = jax.random.uniform(jax.random.key(2), (200,)).at[7:9].set(0.25)
    constraints = jc.Constraints(inequality={"below": below})
    loss = pulled_by(true, params, batch)
    found = least_squares_multipliers(loss, constraints, params, batch)
    assert (found.num_active, found.rank) == (200, 199)  # one point stands there twice
    # Gradients of order one, nearly orthogonal, and products summed in float32.
    np.testing.assert_allclose(found.multipliers.inequality["below"], true, atol=1e-5)
    # Beside the parameters a gradient, its activations and the (200, 200) products.
    compiled = jax.jit(partial(_gram, constraints)).lower(
        jnp.arange(200), params, batch
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
    return jax.lax.scan(layer, start, None, length=3)[0] @ params["v"] - batch["bound"]


def mixed(params):
    half = {name: params[name].astype("bfloat16") for name in "uv"}
    return params | half


VARIANTS = {
    "plain": (below, lambda p: p),
    "custom_vjp": (lambda p, b: backwards_only(below(p, b)), lambda p: p),
    "scan": (lambda p, b: looped(p, b) * jnp.arange(1.0, 6.0), lambda p: p),
    "tiled": (
        lambda p, b: jc.derivatives.tiled_vmap(partial(network, p), tile=2)(b["x"]),
        lambda p: p,
    ),
    "proxy": (jc.proxy(below, lambda p, b: jnp.round(below(p, b))), lambda p: p),
    "bfloat16": (below, mixed),
    "complex": (
        lambda p, b: jnp.real(at_points(p, b["x"]) * (2 - 1j)),
        lambda p: jax.tree.map(lambda leaf: leaf * (1 + 0.5j), p),
    ),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_any_parameters_and_any_constraint_with_a_backward_pass(key, variant):
    constraint, change = VARIANTS[variant]
    params = change(random_network(key, 4, 16))
    x = jax.random.normal(jax.random.key(1), (5, 4))
    batch = {"x": x, "bound": jnp.zeros(5)}
    true = jnp.array([1.0, -2.0, 0.5, 0.25, 3.0])

    def loss(p, batch):
        # Its gradient is minus the constraint's, weighted; and so is a proxy's.
        return -jnp.vdot(true.astype("float32"), constraint(p, batch).astype("float32"))

    found = least_squares_multipliers(
        loss, jc.Constraints({"h": constraint}), params, batch
    )
    # Five nearly orthogonal gradients: rounding times a condition number below 100.
    rtol = 0.05 if variant == "bfloat16" else 1e-4
    scale = float(jnp.max(jnp.abs(true)))
    got = np.asarray(found.multipliers.equality["h"], float)
    np.testing.assert_allclose(got, true, rtol=0, atol=rtol * scale)
    assert found.rank == (found.rank if variant == "bfloat16" else 5)


@pytest.mark.parametrize(
    "judge", [partial(least_squares_multipliers, jnp.sum), conflict]
)
@pytest.mark.parametrize(
    ("function", "at", "message"),
    [
        (lambda p, _: jnp.log(p), -1.0, "'odd' is not finite"),
        (
            lambda p, _: jnp.sqrt(p) + 1,
            0.0,
            "not every gradient of 'even', 'odd' is finite",
        ),
    ],
)
def test_what_is_not_finite_is_named(judge, function, at, message):
    rules = {"even": lambda p, _: p + 1.0, "odd": function}
    with pytest.raises(ValueError, match=message):
        judge(jc.Constraints(inequality=rules), jnp.array(at))


def test_a_loss_without_finite_gradient_is_refused():
    with pytest.raises(ValueError, match="gradient of the loss is not finite"):
        least_squares_multipliers(
            lambda p, _: jnp.sqrt(p), jc.Constraints(), jnp.array(0.0)
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


UNIQUE = [name for name, make in PROBLEMS.items() if make().unique]


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if i % 4 == 0 else pytest.mark.slow)
        for i, name in enumerate(UNIQUE)
    ],
)
def test_sensitivity_is_the_slope_of_the_optimal_loss(x64, name):
    problem, room = PROBLEMS[name](), 1e-3
    params = jax.tree.map(jnp.array, problem.params)
    found = least_squares_multipliers(problem.loss, problem.constraints, params)
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


# name: (constraints, params, names that conflict)
INFEASIBLE = {
    "interval": (
        jc.Constraints(
            inequality={
                "x <= -1": lambda p, _: p[0] + 1.0,
                "x >= 1": lambda p, _: 1.0 - p[0],
            }
        ),
        [0.3, 0.0],
        {"x <= -1": 0.5, "x >= 1": 0.5},
    ),
    "units": (
        jc.Constraints(
            inequality={
                "x <= -1": lambda p, _: 1e4 * (p[0] + 1.0),
                "x >= 1": lambda p, _: 1.0 - p[0],
            }
        ),
        [-0.5, 0.0],
        {"x <= -1": 0.5, "x >= 1": 0.5},
    ),
    "one at its bound": (
        jc.Constraints(
            inequality={
                "x <= -1": lambda p, _: p[0] + 1.0,
                "x >= 1": lambda p, _: 1.0 - p[0],
            }
        ),
        [1.0, 0.0],
        {"x <= -1": 0.5, "x >= 1": 0.5},
    ),
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
        None,  # found in more than one way: x <= -1 or y = 2, x + y <= -3 against x >= 1
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


@pytest.mark.parametrize("name", INFEASIBLE)
def test_an_infeasible_set_is_certified_by_name(dtype, name):
    constraints, at, expected = INFEASIBLE[name]
    found = conflict(constraints, jnp.array(at))
    weights = {key: float(w) for _, key, w in jc.constraints.named(found.weights)}
    # Angles are known to the root of epsilon (see the rank), sums to epsilon.
    atol = 10 * float(np.finfo(dtype).eps) ** 0.5
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


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("size", [(0, 4), (2, 0), (2, 3)])
def test_the_step_is_the_shortest_that_mends_every_violation(x64, size, seed):
    from scipy.optimize import minimize

    rng = np.random.default_rng(seed)
    equalities, rows = size[0], rng.normal(size=(sum(size), 6))
    offsets = np.hstack([rng.normal(size=equalities), rng.uniform(0.2, 2.0, size[1])])
    held = [(slice(equalities), "eq", 1.0), (slice(equalities, None), "ineq", -1.0)]
    oracle = minimize(
        lambda d: d @ d / 2,
        -np.linalg.pinv(rows) @ offsets,
        jac=lambda d: d,
        method="SLSQP",
        constraints=[
            {
                "type": kind,
                "fun": lambda d, at=at, sign=sign: sign * (rows[at] @ d + offsets[at]),
                "jac": lambda d, at=at, sign=sign: sign * rows[at],
            }
            for at, kind, sign in held
            if len(rows[at])
        ],
        options={"ftol": 1e-14},
    )
    constraints = jc.Constraints(
        {"h": linear(rows[:equalities], offsets[:equalities])},
        {"g": linear(rows[equalities:], offsets[equalities:])},
    )
    found = conflict(constraints, jnp.zeros(6))
    # SLSQP ends when the half square changes by 1e-14.
    np.testing.assert_allclose(found.step, np.linalg.norm(oracle.x), rtol=1e-6)


def test_a_feasible_point_has_no_conflict():
    constraints = jc.Constraints(
        {"x = 0": lambda p, _: p[0]}, {"y <= 1": lambda p, _: p[1] - 1.0}
    )
    for rules in (constraints, jc.Constraints()):
        found = conflict(rules, jnp.array([0.0, 1.0]))
        assert found.names == ()
        assert not any(jax.tree.leaves(found.weights))
        assert (found.stationarity, found.step, found.violation) == (1.0, 0.0, 0.0)


def test_points_of_a_network_that_cannot_be_both_high_and_low(key):
    params = random_network(key, 2, 64)
    x = jax.random.normal(jax.random.key(1), (20, 2))
    rules = {
        "high": lambda p, x: 1.0 - at_points(p, x[:10]),
        "low": lambda p, x: at_points(p, x[5:]) + 1.0,
    }
    found = conflict(jc.Constraints(inequality=rules), params, x)
    assert set(found.names) == {"high", "low"}
    assert (
        float(found.stationarity) < 1e-4
    )  # the root of epsilon, and the same gradients
    # The same points pull both ways, by equal weights; the others are free to follow. The
    # weights are resolved as the rank is, with m = 25.
    high, low = found.weights.inequality["high"], found.weights.inequality["low"]
    atol = (35 * float(np.finfo("float32").eps)) ** 0.5
    np.testing.assert_allclose(high[5:], low[:5], atol=atol)
    assert max(high[:5].max(), low[5:].max()) < atol
