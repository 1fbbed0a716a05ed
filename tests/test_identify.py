"""What data can say about parameters: against closed forms, regressions and refusals."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxcon.examples.diffusion import moment_covariance, second_moments
from jaxcon.identify import cramer_rao_bound, fisher_information, identify

TIMES = np.arange(1, 51) / 50
TRUTH = {"lambda": 2.0, "mu": 0.5, "sigma": 0.8}
NAMES = ("lambda", "mu", "sigma")


def diffusion(start):
    """k_j = lambda ((x0 + mu t)² + sigma² t), of paths that are not observed."""

    def model(p):
        t = jnp.asarray(TIMES)
        return p["lambda"] * second_moments(t, start, p["mu"], p["sigma"])

    return model


def wave(p):
    t = jnp.linspace(0.1, 1.0, 7)
    return p["a"] * jnp.sin(p["b"] * t)


def wave_jacobian(a, b):
    t = np.linspace(0.1, 1.0, 7)
    return np.stack([np.sin(b * t), a * t * np.cos(b * t)], axis=1)


def covariance(n):
    root = np.random.default_rng(0).normal(size=(n, n))
    return root @ root.T + n * np.eye(n)


@pytest.mark.parametrize(
    "noise",
    [0.3, np.linspace(0.1, 0.7, 7), covariance(7)],
    ids=["one", "each", "matrix"],
)
def test_fisher_information_and_its_inverse(dtype, noise):
    params = {"a": jnp.asarray(1.5, dtype), "b": jnp.asarray(2.0, dtype)}
    jac = wave_jacobian(1.5, 2.0)
    s = noise if np.ndim(noise) == 2 else np.diag(np.broadcast_to(noise, 7) ** 2)
    fisher = jac.T @ np.linalg.solve(s, jac)
    # Some hundred roundings, times the condition numbers of S and F.
    close = {"rtol": 1e3 * jnp.finfo(dtype).eps}
    np.testing.assert_allclose(fisher_information(wave, params, noise), fisher, **close)
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


def test_they_run_inside_jit_and_vmap(x64):
    params = {"a": jnp.array([1.0, 2.0, 3.0]), "b": jnp.array([0.5, 1.0, 1.5])}
    noise = jnp.array([0.1, 0.2, 0.3])
    for function in (fisher_information, cramer_rao_bound):
        many = jax.jit(jax.vmap(lambda p, s, f=function: f(wave, p, s)))(params, noise)
        for i in range(3):
            one = function(
                wave, jax.tree.map(lambda leaf, i=i: leaf[i], params), noise[i]
            )
            # Batched decompositions sum in another order.
            np.testing.assert_allclose(many[i], one, rtol=1e-10)


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        (1.0, (27.94224928, 3.51680436, 0.30928374)),
        (0.0, (10.9950079, 1.29134211, 0.0)),
    ],
)
def test_singular_values_of_the_diffusion(x64, start, expected):
    # With the variance, not the deviation, as the parameter; values by NumPy.
    def by_variance(p):
        return diffusion(start)({**p, "sigma": jnp.sqrt(p["variance"])})

    params = {"lambda": 2.0, "mu": 0.5, "variance": 0.64}
    squares = np.linalg.eigvalsh(fisher_information(by_variance, params, 1.0))[::-1]
    # A square that is zero is a rounding of the largest one.
    np.testing.assert_allclose(squares, np.square(expected), rtol=1e-7, atol=1e-12)


def test_what_cannot_be_known_is_refused_by_name(dtype):
    params = {name: jnp.asarray(value, dtype) for name, value in TRUTH.items()}
    found = identify(diffusion(0.0), params, 0.05)
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
    for name in NAMES:
        for ask in (found.interval, found.standard_error):
            with pytest.raises(
                ValueError,
                match=f"{name} is not determined by these data: of lambda, mu and sigma, "
                + re.escape("only lambda mu^2 and lambda sigma^2 can be known"),
            ):
                ask(name)
    assert "only lambda mu^2 and lambda sigma^2 can be known" in str(found)
    assert np.isinf(np.diag(found.covariance)).all()
    assert np.isnan(found.covariance[0, 1])


def test_a_known_start_makes_all_of_them_known(dtype):
    params = {name: jnp.asarray(value, dtype) for name, value in TRUTH.items()}
    found = identify(diffusion(1.0), params, 0.05)
    assert found.determined == NAMES
    assert found.confounded == ()
    assert "sigma = 0.8, standard error" in str(found)


def ramp(n=20):
    return jnp.linspace(0.1, 2.0, n)


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


@pytest.mark.parametrize("name", GROUPS)
def test_combinations_that_can_be_known(dtype, name):
    model, params, expected = GROUPS[name]
    params = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), params)
    found = identify(model, params, 0.1)
    groups = [(g.combinations, g.everywhere) for g in found.confounded]
    assert groups == expected
    assert "not determined by these data" in str(found)


def test_a_parameter_that_is_barely_touched_is_refused_too(dtype):
    small = jnp.asarray(0.01, dtype)

    def model(p):
        return jnp.stack([p["a"] + p["b"], small * p["b"] + p["c"]])

    found = identify(model, {"a": 2.0, "b": 1.0, "c": 3.0}, 0.1)
    assert found.determined == ()
    assert [g.parameters for g in found.confounded] == [("a", "b", "c")]
    assert np.isinf(np.diag(found.covariance)).all()


@pytest.mark.parametrize("small", [2e-4, 1e-4])
def test_a_small_component_of_a_sharp_direction_counts(dtype, small):
    rows = jnp.array([[1.0, 1.0, 0.0], [0.0, small, 1.0]], dtype)
    step = jnp.array([1 / small, -1 / small, 1.0], dtype)
    np.testing.assert_array_equal(rows @ step, 0.0)  # c moves, and no prediction does
    found = identify(lambda p: rows @ p, jnp.ones(3, dtype), 0.1)
    assert found.determined == ()


def test_coefficients_that_are_roundings_are_not_printed(dtype):
    params = jax.tree.map(
        lambda v: jnp.asarray(v, dtype), {"a": 1.0, "b": 2.0, "c": 3.0}
    )

    def model(p):
        return jnp.stack([p["a"] / p["b"], p["b"] + p["c"]])

    (group,) = identify(model, params, 0.1).confounded
    assert group.combinations == ("a + 0.5 c", "b + c")


def test_others_keep_their_standard_errors(dtype):
    def model(p):
        return p["a"] * p["b"] * ramp() + p["c"]

    def reduced(p):
        return p["ab"] * ramp() + p["c"]

    params = {"a": jnp.asarray(2.0, dtype), "b": 3.0, "c": 1.0}
    found = identify(model, params, 0.1)
    assert found.determined == ("c",)
    whole = identify(reduced, {"ab": jnp.asarray(6.0, dtype), "c": 1.0}, 0.1)
    assert found.standard_error("c") == pytest.approx(
        whole.standard_error("c"), rel=100 * float(jnp.finfo(dtype).eps)
    )


@pytest.mark.parametrize("unit", [1e-12, 1.0, 1e12])
@pytest.mark.parametrize("start", [0.0, 1.0])
def test_units_change_nothing(dtype, start, unit):
    def in_units(p):
        return diffusion(start)(p | {"lambda": p["lambda"] / unit})

    params = {name: jnp.asarray(value, dtype) for name, value in TRUTH.items()}
    scaled = params | {"lambda": params["lambda"] * unit}
    ours, theirs = (
        identify(in_units, scaled, 0.05),
        identify(diffusion(start), params, 0.05),
    )
    assert ours.rank == theirs.rank
    assert [g.combinations for g in ours.confounded] == [
        g.combinations for g in theirs.confounded
    ]
    for name, error in theirs.standard_errors.items():
        factor = unit if name == "lambda" else 1.0
        # Roundings times the condition number of the scaled columns, 57.
        close = 1e3 * float(jnp.finfo(dtype).eps)
        assert ours.standard_error(name) == pytest.approx(factor * error, rel=close)


def test_a_constraint_pins_what_data_cannot(x64):
    def pinned(p):
        return p["mu"] - 0.5

    found = identify(diffusion(0.0), TRUTH, 0.05, constraints=pinned)

    def with_mu(p):
        return diffusion(0.0)(p | {"mu": 0.5})

    known = identify(with_mu, {"lambda": 2.0, "sigma": 0.8}, 0.05)
    assert found.confounded == ()
    assert found.rank == 2
    assert found.standard_error("mu") == pytest.approx(0, abs=1e-12)  # exact, roundings
    for name in ("lambda", "sigma"):
        expected = known.standard_error(name)
        assert found.standard_error(name) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    "unit", [1.0, pytest.param(1e8, marks=pytest.mark.slow), 6e11, 1e-9]
)
@pytest.mark.parametrize("height", [1.0, 1e-6])
def test_units_of_what_only_constraints_tie_change_nothing(dtype, unit, height):
    def model(p):
        return p["a"] / height * ramp() + p["c"]

    def tied(p):  # through b to d, which no other residual names
        b = p["b"] / unit
        return jnp.stack([b - p["d"] * unit, p["a"] - b])

    values = {"a": height, "b": height * unit, "c": 0.0, "d": height / unit}
    params = jax.tree.map(lambda v: jnp.asarray(v, dtype), values)
    alone = {name: params[name] for name in "ac"}
    expected = identify(model, alone, 0.1).standard_errors
    found = identify(model, params, 0.1, constraints=tied)
    errors = expected | {"b": expected["a"] * unit, "d": expected["a"] / unit}
    # Some roundings times the condition number, 4.
    close = 100 * float(jnp.finfo(dtype).eps)
    assert found.standard_errors == pytest.approx(errors, rel=close, abs=0)


@pytest.mark.parametrize("unit", [1.0, 1e8])
def test_what_nothing_ties_to_the_data_is_not_determined(dtype, unit):
    params = {name: jnp.asarray(1.0, dtype) for name in "abc"}
    found = identify(
        lambda p: p["a"] * ramp(),
        params | {"c": params["c"] * unit},
        0.1,
        constraints=lambda p: p["b"] - p["c"] / unit,
    )
    assert found.determined == ("a",)


def test_constraints_that_leave_nothing_open(dtype):
    value = jnp.asarray(2.0, dtype)
    found = identify(lambda p: p * ramp(), value, 0.1, constraints=lambda p: p - 2)
    assert found.standard_errors == {"params": 0.0}
    assert str(found) == (
        "params = 2, standard error 0.\nthe constraints alone determine all parameters."
    )


@pytest.mark.parametrize("size", [1e-24, 1e20, 1e24])
def test_squares_beyond_the_range_of_the_dtype(dtype, size):
    def error(size):
        params = {"a": jnp.asarray(1 / size, dtype), "b": jnp.asarray(1.0, dtype)}
        model = lambda p: p["a"] * size * ramp() + p["b"]  # noqa: E731
        found = identify(model, params, 0.1)
        return found.standard_error("a"), found.fisher[0, 0]

    # Some roundings times the condition number, 4.
    close = {"rel": 100 * float(jnp.finfo(dtype).eps), "abs": 0}
    unit_error, unit_fisher = error(1.0)
    assert error(size)[0] == pytest.approx(unit_error / size, **close)
    assert error(size)[1] == pytest.approx(unit_fisher * size**2, **close)


def test_the_constrained_bound_is_the_reparametrised_one(x64):
    # With b = a² there is one parameter left, of which b is a function.
    def tied(p):
        return jnp.stack([p["b"] - p["a"] ** 2, 2 * p["b"] - 2 * p["a"] ** 2])

    bound = cramer_rao_bound(wave, {"a": 1.5, "b": 2.25}, 0.3, tied)
    tangent = np.array([1.0, 3.0])
    squares = np.sum((wave_jacobian(1.5, 2.25) @ tangent) ** 2) / 0.3**2
    np.testing.assert_allclose(bound, np.outer(tangent, tangent) / squares, rtol=1e-10)


def test_a_constraint_that_does_not_help_is_no_help(x64):
    found = identify(
        diffusion(0.0),
        TRUTH,
        0.05,
        constraints=lambda p: p["lambda"] * p["mu"] ** 2 - 0.5,
    )
    assert found.determined == ()
    assert found.rank == 1


def test_errors_of_lambda_from_raw_moments_and_from_the_law(x64):
    # k is that of the true law; lambda is what least squares makes of other paths'
    # moments: raw ones, or those of the law with mu and sigma² fitted to the paths.
    t, n = jnp.asarray(TIMES), 200
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
        lambda p: fitted(p, second_moments(t, 1.0, p["mu"], jnp.sqrt(p["variance"]))),
    )
    # The delta method's values, to the digits they are known to.
    assert raw[0, 0] ** 0.5 == pytest.approx(0.1013, abs=5e-5)
    assert law[0, 0] ** 0.5 == pytest.approx(0.0879, abs=5e-5)


def test_intervals_of_a_regression_are_the_textbook_s(x64):
    rng = np.random.default_rng(0)
    x = np.linspace(0, 3, 12)
    y = 1.0 + 2.0 * x + 0.3 * rng.normal(size=12)
    line = stats.linregress(x, y)
    params = {"height": line.intercept, "slope": line.slope}
    found = identify(lambda p: p["height"] + p["slope"] * x, params, observed=y)
    assert found.degrees_of_freedom == 10
    for name, error in (("height", line.intercept_stderr), ("slope", line.stderr)):
        assert found.standard_error(name) == pytest.approx(error, rel=1e-10)
        half = stats.t.ppf(0.95, 10) * error
        expected = (params[name] - half, params[name] + half)
        assert found.interval(name, 0.9) == pytest.approx(expected, rel=1e-10)


def test_intervals_under_known_noise_are_normal(x64):
    found = identify(lambda p: p["a"] * jnp.ones(4), {"a": 3.0}, 2.0)
    expected = stats.norm.interval(0.99, 3.0, 1.0)
    assert found.interval("a", 0.99) == pytest.approx(expected, rel=1e-10)


LINE = {"model": lambda p: p["a"] * ramp(5), "params": {"a": 2.0}}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"noise": np.ones(4)}, "noise has shape (4,) for 5 observations"),
        ({"noise": np.ones((5, 4))}, "noise has shape (5, 4) for 5 observations"),
        ({"noise": 0.0}, "noise must be positive, got standard deviations of 0"),
        ({"noise": -np.eye(5)}, "noise must be positive, got covariance of -1"),
        ({}, "pass noise, or observed"),
        ({"observed": np.ones(4)}, "observed has shape (4,), the predictions (5,)"),
        ({"observed": 2 * np.asarray(ramp(5))}, "leave no noise to estimate"),
        ({"noise": 1.0, "model": lambda p: p["a"]}, "return one vector (n,)"),
        ({"noise": np.eye(5) * (1 + 0j)}, "noise must be real"),
        ({"noise": np.eye(5) + 0.1 * np.eye(5, k=1)}, "images by up to 0.1"),
        (
            {"noise": 1.0, "constraints": lambda p: jnp.sqrt(p["a"] - 2)},
            "the constraints' derivatives are not finite with respect to a",
        ),
        (
            {"noise": 1.0, "model": lambda p: jnp.sqrt(p["a"] - 2) * ramp(5)},
            "the model's derivatives are not finite with respect to a",
        ),
    ],
)
def test_refusals(changes, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        identify(**(LINE | changes))


def test_questions_that_make_no_sense():
    found = identify(**LINE, noise=1.0)
    with pytest.raises(ValueError, match="there is no parameter 'b'; there are a"):
        found.standard_error("b")
    with pytest.raises(ValueError, match="level must be between 0 and 1, got 95"):
        found.interval("a", 95)
