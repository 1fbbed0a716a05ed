"""What data can say about parameters: against closed forms, regressions and refusals."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tables import assert_each, assert_refused

from jaxcon.examples.diffusion import moment_covariance, second_moments
from jaxcon.identifiability import cramer_rao_bound, fisher_information, identify

TIMES = np.arange(1, 51) / 50
TRUTH = {"lambda": 2.0, "mu": 0.5, "sigma": 0.8}
NAMES = ("lambda", "mu", "sigma")

IN_FLOAT64_AND_SLOWLY_IN_FLOAT32 = pytest.mark.parametrize(
    "dtype",
    ["float64", pytest.param("float32", marks=pytest.mark.slow)],
    indirect=True,
)
# Where it is the range of the dtype that may be left, and not its precision.
IN_FLOAT32_AND_SLOWLY_IN_FLOAT64 = pytest.mark.parametrize(
    "dtype",
    ["float32", pytest.param("float64", marks=pytest.mark.slow)],
    indirect=True,
)

# A model is jitted, so that it is one program and not one for each of its operations.


def diffusion(start, times=None):
    """k_j = lambda ((x0 + mu t)² + sigma² t), of paths that are not observed."""
    times = ramp() / 2 if times is None else times

    def model(p):
        t = jnp.asarray(times)
        return p["lambda"] * second_moments(t, start, p["mu"], p["sigma"])

    return jax.jit(model)


def ramp(n=20):
    return np.linspace(0.1, 2.0, n)


def in_dtype(params, dtype):
    return jax.tree.map(lambda value: np.asarray(value, dtype), params)


@jax.jit
def wave(p):
    return p["a"] * jnp.sin(p["b"] * jnp.linspace(0.1, 1.0, 7))


def wave_jacobian(a, b):
    t = np.linspace(0.1, 1.0, 7)
    return np.stack([np.sin(b * t), a * t * np.cos(b * t)], axis=1)


def covariance(n):
    root = np.random.default_rng(0).normal(size=(n, n))
    return root @ root.T + n * np.eye(n)


@IN_FLOAT64_AND_SLOWLY_IN_FLOAT32
def test_fisher_information_and_its_inverse_are_those_by_hand(dtype):
    params = in_dtype({"a": 1.5, "b": 2.0}, dtype)
    jac = wave_jacobian(1.5, 2.0)

    def check(noise):
        s = noise if np.ndim(noise) == 2 else np.diag(np.broadcast_to(noise, 7) ** 2)
        fisher = jac.T @ np.linalg.solve(s, jac)
        # Some hundred roundings, times the condition numbers of S and F.
        close = {"rtol": 1e3 * jnp.finfo(dtype).eps}
        np.testing.assert_allclose(
            fisher_information(wave, params, noise), fisher, **close
        )
        bound = cramer_rao_bound(wave, params, noise)
        np.testing.assert_allclose(bound, np.linalg.inv(fisher), **close)
        found = identify(wave, params, noise)
        # The same numbers, brought to the parameters' units in float64.
        rounding = {"rtol": 4 * jnp.finfo(dtype).eps}
        np.testing.assert_allclose(found.covariance, bound, **rounding)
        np.testing.assert_allclose(found.fisher, fisher, **close)
        assert found.determined == found.names == ("a", "b")
        errors = np.sqrt(np.diag(np.linalg.inv(fisher)))
        assert found.standard_errors == pytest.approx(dict(zip("ab", errors)), rel=1e-3)

    assert_each([0.3, np.linspace(0.1, 0.7, 7), covariance(7)], check)


def test_fisher_information_and_cramer_rao_bound_run_inside_jit_and_vmap(x64):
    a, b = np.array([1.0, 2.0, 3.0]), np.array([0.5, 1.0, 1.5])
    noise = np.array([0.1, 0.2, 0.3])

    @jax.jit
    @jax.vmap
    def both(params, noise):
        return (
            fisher_information(wave, params, noise),
            cramer_rao_bound(wave, params, noise),
        )

    information, bounds = both({"a": a, "b": b}, noise)
    for i in range(3):
        jac = wave_jacobian(a[i], b[i])
        fisher = jac.T @ jac / noise[i] ** 2
        # Some hundred roundings, times the condition number of F.
        np.testing.assert_allclose(information[i], fisher, rtol=1e-10)
        np.testing.assert_allclose(bounds[i], np.linalg.inv(fisher), rtol=1e-10)


def test_fisher_information_of_the_diffusion_has_known_singular_values(x64):
    # With the variance, not the deviation, as the parameter; values by NumPy.
    @jax.jit
    def fisher(start):
        def by_variance(p):
            return diffusion(start, TIMES)({**p, "sigma": jnp.sqrt(p["variance"])})

        params = {"lambda": 2.0, "mu": 0.5, "variance": 0.64}
        return fisher_information(by_variance, params, 1.0)

    for start, expected in [
        (1.0, (27.94224928, 3.51680436, 0.30928374)),
        (0.0, (10.9950079, 1.29134211, 0.0)),
    ]:
        squares = np.linalg.eigvalsh(fisher(start))[::-1]
        # A square that is zero is a rounding of the largest one.
        np.testing.assert_allclose(squares, np.square(expected), rtol=1e-7, atol=1e-12)


@IN_FLOAT32_AND_SLOWLY_IN_FLOAT64
def test_identify_refuses_errors_of_what_cannot_be_known_by_name(dtype):
    found = identify(diffusion(0.0), in_dtype(TRUTH, dtype), 0.05)
    assert (found.rank, found.determined, found.standard_errors) == (2, (), {})
    (group,) = found.confounded
    assert group.parameters == NAMES
    assert group.combinations == ("lambda mu^2", "lambda sigma^2")
    assert group.everywhere
    relative = group.directions[0] / np.array([TRUTH[name] for name in NAMES])
    # The step scales x by c and lambda by 1 / c²; the null space is exact to roundings
    # over the smallest singular value, 0.2.
    np.testing.assert_allclose(
        relative / relative[1], [-2, 1, 1], rtol=100 * jnp.finfo(dtype).eps
    )
    reason = "of lambda, mu and sigma, only lambda mu^2 and lambda sigma^2 can be known"
    assert_refused(
        [
            (
                partial(ask, name),
                ValueError,
                [f"{name} is not determined by these data: {reason}"],
            )
            for name in NAMES
            for ask in (found.interval, found.standard_error)
        ]
    )
    assert "only lambda mu^2 and lambda sigma^2 can be known" in str(found)
    assert np.isinf(np.diag(found.covariance)).all()
    assert np.isnan(found.covariance[0, 1])


@IN_FLOAT32_AND_SLOWLY_IN_FLOAT64
def test_identify_determines_all_where_the_start_is_known(dtype):
    found = identify(diffusion(1.0), in_dtype(TRUTH, dtype), 0.05)
    assert found.determined == NAMES
    assert found.confounded == ()
    assert "sigma = 0.8, standard error" in str(found)


# model, parameters, combinations of each group, whether they hold everywhere.
GROUPS = {
    "sum": (
        lambda p: (p["a"] + p["b"]) * ramp(),
        {"a": 2.0, "b": 1.0},
        [(("a + b",), True)],
    ),
    "difference": (
        lambda p: jnp.exp(p["a"] - 2 * p["b"]) * ramp(),
        {"a": 1.0, "b": 0.3},
        [(("a - 2 b",), True)],
    ),
    "quotient": (
        lambda p: p["a"] / (p["b"] * p["c"]) * ramp(),
        {"a": 2.0, "b": 3.0, "c": 0.7},
        [(("a / (b c)",), True)],
    ),
    "negative values": (
        lambda p: p["a"] * p["b"] ** 2 * ramp(),
        {"a": -2.0, "b": -0.5},
        [(("a b^2",), True)],
    ),
    "other coefficients": (
        lambda p: (p["a"] + 2.5 * p["b"]) * ramp(),
        {"a": 2.0, "b": 0.0},
        [(("a + 2.5 b",), True)],
    ),
    "only here": (
        lambda p: (p["a"] + jnp.sin(p["b"])) * ramp(),
        {"a": 2.0, "b": 1.0},
        [(("a + 0.54 b",), False)],
    ),
    "only here, at zero": (
        lambda p: jnp.stack([p["a"] + p["b"] * jnp.exp(p["c"]), p["c"]]),
        {"a": 1.0, "b": 2.0, "c": 0.0},
        [(("a + b",), False)],
    ),
    "no effect, only here": (
        lambda p: p["a"] * p["b"] * ramp(),
        {"a": 0.0, "b": 2.0},
        [((), False)],
    ),
    "not finite elsewhere": (
        lambda p: jnp.sqrt(2 - p["c"]) * ramp() + 0 * p["a"],
        {"a": 1.0, "c": 1.95},
        [((), False)],
    ),
    "no effect": (
        lambda p: 3.0 * ramp() + 0 * p["a"],
        {"a": 2.0},
        [((), True)],
    ),
    "two groups": (
        lambda p: p["w"][0] * p["w"][1] * ramp() + p["v"]["x"] - p["v"]["y"],
        {"w": np.array([1.0, 2.0]), "v": {"x": 1.0, "y": 3.0}},
        [(("v.x - v.y",), True), (("w[0] w[1]",), True)],
    ),
    "too many to name": (
        lambda p: jnp.sum(p) * ramp(),
        np.ones(6),
        [((), False)],
    ),
}


def found_groups(found):
    return [(g.combinations, g.everywhere) for g in found.confounded]


@IN_FLOAT64_AND_SLOWLY_IN_FLOAT32
def test_identify_names_the_combinations_that_can_be_known(dtype):
    # All at once, as one model whose predictions have nothing in common; a prediction
    # that is nowhere finite at the other point would spoil all of them.
    names = [name for name in GROUPS if name != "not finite elsewhere"]

    @jax.jit
    def model(p):
        return jnp.concatenate([GROUPS[name][0](p[name]) for name in names])

    params = {name: in_dtype(GROUPS[name][1], dtype) for name in names}
    found = identify(model, params, 0.1)
    assert found.determined == ("no effect, only here.a", "only here, at zero.c")

    def check(name):
        own = found._replace(
            confounded=tuple(
                group._replace(
                    combinations=tuple(
                        words.replace(f"{name}.", "") for words in group.combinations
                    )
                )
                for group in found.confounded
                if group.parameters[0].startswith((f"{name}.", f"{name}["))
            )
        )
        assert found_groups(own) == GROUPS[name][2]

    assert_each(names, check)
    groups = sum(len(GROUPS[name][2]) for name in names)
    assert str(found).count("not determined by these data") == groups


@IN_FLOAT64_AND_SLOWLY_IN_FLOAT32
def test_identify_names_no_combination_where_the_model_is_not_finite_elsewhere(dtype):
    model, params, expected = GROUPS["not finite elsewhere"]
    found = identify(jax.jit(model), in_dtype(params, dtype), 0.1)
    assert found_groups(found) == expected
    assert "not determined by these data" in str(found)


@IN_FLOAT64_AND_SLOWLY_IN_FLOAT32
def test_identify_refuses_a_parameter_that_is_barely_touched(dtype):
    small = np.asarray(0.01, dtype)

    @jax.jit
    def model(p):
        return jnp.stack([p["a"] + p["b"], small * p["b"] + p["c"]])

    found = identify(model, in_dtype({"a": 2.0, "b": 1.0, "c": 3.0}, dtype), 0.1)
    assert found.determined == ()
    assert [g.parameters for g in found.confounded] == [("a", "b", "c")]
    assert np.isinf(np.diag(found.covariance)).all()


@IN_FLOAT64_AND_SLOWLY_IN_FLOAT32
def test_identify_counts_a_small_component_of_a_sharp_direction(dtype):
    for small in (2e-4, 1e-4):
        rows = np.array([[1.0, 1.0, 0.0], [0.0, small, 1.0]], dtype)
        step = np.array([1 / np.float64(small), -1 / np.float64(small), 1.0], dtype)
        # c moves, and no prediction does.
        np.testing.assert_array_equal(jnp.asarray(rows) @ jnp.asarray(step), 0.0)
        found = identify(jax.jit(lambda p, rows=rows: rows @ p), np.ones(3, dtype), 0.1)
        assert found.determined == ()


@IN_FLOAT64_AND_SLOWLY_IN_FLOAT32
def test_identify_prints_no_coefficients_that_are_roundings(dtype):
    @jax.jit
    def model(p):
        return jnp.stack([p["a"] / p["b"], p["b"] + p["c"]])

    params = in_dtype({"a": 1.0, "b": 2.0, "c": 3.0}, dtype)
    (group,) = identify(model, params, 0.1).confounded
    assert group.combinations == ("a + 0.5 c", "b + c")


@IN_FLOAT64_AND_SLOWLY_IN_FLOAT32
def test_identify_keeps_the_standard_errors_of_all_others(dtype):
    @jax.jit
    def model(p):
        return p["a"] * p["b"] * ramp() + p["c"]

    @jax.jit
    def reduced(p):
        return p["ab"] * ramp() + p["c"]

    found = identify(model, in_dtype({"a": 2.0, "b": 3.0, "c": 1.0}, dtype), 0.1)
    assert found.determined == ("c",)
    whole = identify(reduced, in_dtype({"ab": 6.0, "c": 1.0}, dtype), 0.1)
    assert found.standard_error("c") == pytest.approx(
        whole.standard_error("c"), rel=100 * float(jnp.finfo(dtype).eps)
    )


@IN_FLOAT32_AND_SLOWLY_IN_FLOAT64
def test_identify_in_other_units_finds_the_same(dtype):
    params = in_dtype(TRUTH, dtype)

    def check(row):
        start, unit = row

        @jax.jit
        def in_units(p):
            return diffusion(start)(p | {"lambda": p["lambda"] / unit})

        scaled = params | {"lambda": params["lambda"] * np.asarray(unit, dtype)}
        ours = identify(in_units, scaled, 0.05)
        theirs = identify(diffusion(start), params, 0.05)
        assert ours.rank == theirs.rank
        assert found_groups(ours) == found_groups(theirs)
        for name, error in theirs.standard_errors.items():
            factor = unit if name == "lambda" else 1.0
            # Roundings times the condition number of the scaled columns, 57.
            close = 1e3 * float(jnp.finfo(dtype).eps)
            assert ours.standard_error(name) == pytest.approx(factor * error, rel=close)

    assert_each(
        [(start, unit) for start in (0.0, 1.0) for unit in (1e-12, 1e12)], check
    )


def test_identify_under_a_constraint_knows_what_data_cannot_tell(x64):
    @jax.jit
    def pinned(p):
        return p["mu"] - 0.5

    found = identify(diffusion(0.0), TRUTH, 0.05, constraints=pinned)

    @jax.jit
    def with_mu(p):
        return diffusion(0.0)(p | {"mu": 0.5})

    known = identify(with_mu, {"lambda": 2.0, "sigma": 0.8}, 0.05)
    assert found.confounded == ()
    assert found.rank == 2
    assert found.standard_error("mu") == pytest.approx(0, abs=1e-12)  # exact, roundings
    for name in ("lambda", "sigma"):
        expected = known.standard_error(name)
        assert found.standard_error(name) == pytest.approx(expected, rel=1e-9)


@IN_FLOAT32_AND_SLOWLY_IN_FLOAT64
def test_identify_in_other_units_of_what_only_constraints_tie_finds_the_same(dtype):
    @jax.jit
    def alone(p, height):
        return p["a"] / height * ramp() + p["c"]

    # Through b to d, which no other residual names.
    @jax.jit
    def tied(p, unit):
        b = p["b"] / unit
        return jnp.stack([b - p["d"] * unit, p["a"] - b])

    def check(row):
        height, unit = row
        values = {"a": height, "b": height * unit, "c": 0.0, "d": height / unit}
        params = in_dtype(values, dtype)
        model = partial(alone, height=np.asarray(height, dtype))
        few = {name: params[name] for name in "ac"}
        expected = identify(model, few, 0.1).standard_errors
        found = identify(
            model,
            params,
            0.1,
            constraints=partial(tied, unit=np.asarray(unit, dtype)),
        )
        errors = expected | {"b": expected["a"] * unit, "d": expected["a"] / unit}
        # Some roundings times the condition number, 4.
        close = 100 * float(jnp.finfo(dtype).eps)
        assert found.standard_errors == pytest.approx(errors, rel=close, abs=0)

    assert_each([(1.0, 1.0), (1.0, 6e11), (1e-6, 1e8), (1e-6, 1e-9)], check)


@IN_FLOAT32_AND_SLOWLY_IN_FLOAT64
def test_identify_does_not_determine_what_nothing_ties_to_the_data(dtype):
    for unit in (1.0, 1e8):
        params = in_dtype({"a": 1.0, "b": 1.0, "c": unit}, dtype)
        found = identify(
            jax.jit(lambda p: p["a"] * ramp()),
            params,
            0.1,
            constraints=jax.jit(lambda p, unit=unit: p["b"] - p["c"] / unit),
        )
        assert found.determined == ("a",)


@IN_FLOAT64_AND_SLOWLY_IN_FLOAT32
def test_identify_under_constraints_that_leave_nothing_open(dtype):
    value = np.asarray(2.0, dtype)
    model = jax.jit(lambda p: p * ramp(5))
    found = identify(model, value, 0.1, constraints=lambda p: p - 2)
    assert found.standard_errors == {"params": 0.0}
    assert str(found) == (
        "params = 2, standard error 0.\nthe constraints alone determine all parameters."
    )


@IN_FLOAT32_AND_SLOWLY_IN_FLOAT64
def test_identify_squares_beyond_the_range_of_the_dtype(dtype):
    @jax.jit
    def model(p, size):
        return p["a"] * size * ramp() + p["b"]

    def error(size):
        params = in_dtype({"a": 1 / size, "b": 1.0}, dtype)
        found = identify(partial(model, size=np.asarray(size, dtype)), params, 0.1)
        return found.standard_error("a"), found.fisher[0, 0]

    unit_error, unit_fisher = error(1.0)

    def check(size):
        # Some roundings times the condition number, 4.
        close = {"rel": 100 * float(jnp.finfo(dtype).eps), "abs": 0}
        found, fisher = error(size)
        assert found == pytest.approx(unit_error / size, **close)
        assert fisher == pytest.approx(unit_fisher * size**2, **close)

    assert_each([1e-24, 1e20, 1e24], check)


def test_cramer_rao_bound_under_constraints_is_the_reparametrised_one(x64):
    # With b = a² there is one parameter left, of which b is a function.
    def tied(p):
        return jnp.stack([p["b"] - p["a"] ** 2, 2 * p["b"] - 2 * p["a"] ** 2])

    bound = jax.jit(lambda p: cramer_rao_bound(wave, p, 0.3, tied))(
        {"a": 1.5, "b": 2.25}
    )
    tangent = np.array([1.0, 3.0])
    squares = np.sum((wave_jacobian(1.5, 2.25) @ tangent) ** 2) / 0.3**2
    np.testing.assert_allclose(bound, np.outer(tangent, tangent) / squares, rtol=1e-10)


def test_identify_under_a_constraint_of_what_is_known_determines_no_more(x64):
    found = identify(
        diffusion(0.0),
        TRUTH,
        0.05,
        constraints=jax.jit(lambda p: p["lambda"] * p["mu"] ** 2 - 0.5),
    )
    assert found.determined == ()
    assert found.rank == 1


@pytest.mark.slow
def test_cramer_rao_bounds_of_lambda_from_raw_moments_and_from_the_law(x64):
    # k is that of the true law; lambda is what least squares makes of other paths'
    # moments: raw ones, or those of the law with mu and sigma² fitted to the paths.
    n = 200

    @jax.jit
    def bounds(t):
        moments = second_moments(t, 1.0, 0.5, 0.8)
        k = 2.0 * moments

        def fitted(p, m):
            return m @ (k - p["lambda"] * m)

        raw = cramer_rao_bound(
            lambda p: p["m"],
            {"lambda": 2.0, "m": moments},
            moment_covariance(t, 1.0, 0.5, 0.8, n),
            lambda p: fitted(p, p["m"]),
        )
        law = cramer_rao_bound(
            lambda p: jnp.stack([p["mu"], p["variance"]]),
            {"lambda": 2.0, "mu": 0.5, "variance": 0.64},
            jnp.array([0.8 / n**0.5, 0.64 * (2 / (n * 50 - 1)) ** 0.5]),
            lambda p: fitted(
                p, second_moments(t, 1.0, p["mu"], jnp.sqrt(p["variance"]))
            ),
        )
        return raw, law

    raw, law = bounds(TIMES)
    # The delta method's values, to the digits they are known to.
    assert raw[0, 0] ** 0.5 == pytest.approx(0.1013, abs=5e-5)
    assert law[0, 0] ** 0.5 == pytest.approx(0.0879, abs=5e-5)


def test_interval_of_a_regression_is_the_textbooks(x64):
    from scipy import stats

    rng = np.random.default_rng(0)
    x = np.linspace(0, 3, 12)
    y = 1.0 + 2.0 * x + 0.3 * rng.normal(size=12)
    line = stats.linregress(x, y)
    params = {"height": line.intercept, "slope": line.slope}
    model = jax.jit(lambda p: p["height"] + p["slope"] * x)
    found = identify(model, params, observed=y)
    assert found.degrees_of_freedom == 10
    for name, error in (("height", line.intercept_stderr), ("slope", line.stderr)):
        assert found.standard_error(name) == pytest.approx(error, rel=1e-10)
        half = stats.t.ppf(0.95, 10) * error
        expected = (params[name] - half, params[name] + half)
        assert found.interval(name, 0.9) == pytest.approx(expected, rel=1e-10)


def test_interval_under_known_noise_is_normal(x64):
    from scipy import stats

    found = identify(jax.jit(lambda p: p["a"] * jnp.ones(5)), {"a": 3.0}, 2.0)
    expected = stats.norm.interval(0.99, 3.0, 2.0 / 5**0.5)
    assert found.interval("a", 0.99) == pytest.approx(expected, rel=1e-10)


def test_identify_refuses_what_makes_no_sense(x64):
    line = {"model": jax.jit(lambda p: p["a"] * ramp(5)), "params": {"a": 2.0}}
    gone = "derivatives are not finite with respect to a"
    rows = [
        ({"noise": np.ones(4)}, "noise has shape (4,) for 5 observations"),
        ({"noise": np.ones((5, 4))}, "noise has shape (5, 4) for 5 observations"),
        ({"noise": 0.0}, "noise must be positive, got standard deviations of 0"),
        ({"noise": -np.eye(5)}, "noise must be positive, got covariance of -1"),
        ({}, "pass noise, or observed"),
        ({"observed": np.ones(4)}, "observed has shape (4,), the predictions (5,)"),
        ({"observed": 2 * ramp(5)}, "leave no noise to estimate"),
        (
            {"noise": 1.0, "model": lambda p: p["a"]},
            "must be real numbers in one array (n,)",
        ),
        ({"noise": float("nan")}, "finite numbers, got nan"),
        ({"noise": [[[1.0]]]}, "noise must be an array () or (n,) or (n, n)"),
        ({"observed": [0.0, 1.0, 2.0, 3.0, np.inf]}, "observed must be an array (n,)"),
        ({"noise": np.eye(5) + 0.1 * np.eye(5, k=1)}, "images by up to 0.1"),
        (
            {"noise": 1.0, "constraints": lambda p: jnp.sqrt(p["a"] - 2)},
            f"the constraints' {gone}",
        ),
        (
            {"noise": 1.0, "model": lambda p: jnp.sqrt(p["a"] - 2) * ramp(5)},
            f"the model's {gone}",
        ),
    ]
    found = identify(**line, noise=1.0)
    asked = [
        (lambda: found.standard_error("b"), "there is no parameter 'b'; there are a"),
        (lambda: found.interval("a", 95), "level must be in (0, 1), got 95"),
        (lambda: found.interval(np.ones(2)), "there is no parameter"),
    ]
    kinds = [
        (
            {"noise": np.eye(5) * (1 + 0j)},
            "noise must be an array () or (n,) or (n, n)",
        ),
        ({"noise": "0.1"}, "noise must be an array () or (n,) or (n, n)"),
        ({"noise": True}, "noise must be an array () or (n,) or (n, n)"),
        ({"noise": 1.0, "model": 1.0}, "model must be a function params -> (n,)"),
        ({"noise": 1.0, "model": lambda p: None}, "model returned None"),
        ({"noise": 1.0, "model": lambda p: [1.0]}, "model returned list"),
        ({"noise": 1.0, "model": lambda: 1.0}, "raised in model"),
        ({"noise": 1.0, "constraints": lambda p: "a"}, "constraints returned 'a'"),
        ({"noise": 1.0, "constraints": {}}, "constraints must be a function"),
        ({"noise": 1.0, "params": {"a": "2"}}, "params['a'] must be an array"),
        ({"noise": 1.0, "params": {"a": True}}, "params['a'] must be an array"),
        ({"noise": 1.0, "params": {"a": 1j}}, "params['a'] must be an array"),
        ({"noise": 1.0, "params": None}, "params must hold real numbers, got None"),
        ({"observed": ["a"]}, "observed must be an array (n,)"),
    ]
    calls = [(partial(identify, **(line | changes)), words) for changes, words in rows]
    assert_refused(
        [
            *((call, ValueError, [words]) for call, words in [*calls, *asked]),
            *(
                (partial(identify, **(line | changes)), TypeError, [words])
                for changes, words in kinds
            ),
        ]
    )
