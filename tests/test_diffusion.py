"""The inverse problem of the diffusion: closed forms, and what each part must show."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcon import report
from jaxcon.examples import diffusion as example
from jaxcon.examples.diffusion import (
    LAMBDA,
    LAW,
    NOISE,
    TIMES,
    conditional_mean,
    least_squares,
    moment_covariance,
    second_moments,
    simulate,
)

MOMENTS = (LAW["start"], LAW["drift"], LAW["volatility"])


def by_method(findings):
    return {row["method"]: row for row in findings.rows}


def test_simulate_draws_paths_of_the_law_of_the_diffusion(key):
    times = np.array([0.1, 0.5, 2.0], np.float32)
    law = {"start": 3.0, "drift": -1.0, "volatility": 0.7}
    x = jax.jit(partial(simulate, **law, paths=40_000))(key, times)
    assert x.shape == (3, 40_000)
    t = times
    covariance = 0.49 * np.minimum(t[:, None], t[None, :])
    # Five standard errors of means and of covariances of 40,000 paths.
    close = 5 * np.sqrt(0.49 * t / 40_000)
    assert (abs(np.mean(x, axis=1) - (3.0 - t)) < close).all()
    variances = np.diag(covariance)
    spread = np.sqrt((np.outer(variances, variances) + covariance**2) / 40_000)
    assert (abs(np.cov(x) - covariance) < 5 * spread).all()


def test_second_moments_are_those_of_simulated_paths(key):
    @jax.jit
    def compared(key, times):
        x = simulate(key, times, **LAW, paths=40_000)
        return (
            jnp.mean(x**2, axis=1) - second_moments(times, *MOMENTS),
            jnp.diag(moment_covariance(times, *MOMENTS, 40_000)),
        )

    apart, variances = compared(key, np.asarray(TIMES, np.float32))
    # Five standard errors, of fifty numbers that move together.
    assert (abs(apart) < 5 * np.sqrt(variances)).all()


def test_moment_covariance_of_one_path_is_that_of_squares(key):
    @jax.jit
    def compared(key, times):
        x = simulate(key, times, **LAW, paths=400_000)
        return jnp.square(x), moment_covariance(times, *MOMENTS, 1)

    squares, expected = compared(key, np.array([0.5, 1.0], np.float32))
    # Products of squares of normals scatter widely: 2 % of 400,000 of them.
    np.testing.assert_allclose(np.cov(squares), expected, rtol=0.02)


def test_conditional_mean_is_bayes_rule(x64):
    from scipy.stats import norm

    times, k, x = np.array([0.2, 1.0]), np.array([1.0, 5.0]), np.array([0.3, 2.0])
    weights = norm.pdf(x[:, None], 1 + 0.5 * times, 0.8 * np.sqrt(times))
    expected = (weights * k).sum(1) / weights.sum(1)
    ours = jax.jit(conditional_mean)(x, times, k)
    np.testing.assert_allclose(ours, expected, rtol=1e-12)  # float64


def from_raw_moments(key):
    """Lambda from the law's k and sample moments."""
    times = jnp.asarray(TIMES)
    x = simulate(key, times, **LAW, paths=200)
    k = 2.0 * second_moments(times, *MOMENTS)
    return least_squares(k, jnp.mean(x**2, axis=1))


def from_the_law(key):
    """Lambda from the law's k and the moments of the law that fits the paths best."""
    times = jnp.asarray(TIMES)
    x = simulate(key, times, **LAW, paths=200)
    steps = jnp.diff(x, axis=0, prepend=1.0) * jnp.sqrt(len(TIMES))
    drift = jnp.mean(x[-1] - 1.0) / times[-1]
    volatility = jnp.std(steps)
    k = 2.0 * second_moments(times, *MOMENTS)
    return least_squares(k, second_moments(times, 1.0, drift, volatility))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("estimate", "error"), [(from_raw_moments, 0.1013), (from_the_law, 0.0879)]
)
def test_least_squares_has_its_errors_of_lambda_in_simulations(estimate, error, key):
    keys = jax.random.split(key, 4000)
    estimates = jax.jit(partial(jax.lax.map, estimate, batch_size=200))(keys)
    # A standard deviation from 4,000 numbers is known to 1.1 %; the delta method leaves
    # out terms of relative size 0.1013 / 2 squared, about 1 %.
    assert float(jnp.std(estimates)) == pytest.approx(error, rel=0.05)


@pytest.mark.slow
def test_constant_is_found_by_every_method_that_converges():
    rows = by_method(example.constant())
    exploded = rows.pop("descent, raw data")
    assert np.isnan(exploded["relative error"])
    # The error left by a penalty is the guess's over 1 + weight.
    for weight in (10, 100):
        error = rows.pop(f"penalty {weight}")["relative error"]
        left = (1 - 1 / LAMBDA) / (1 + weight)
        assert error == pytest.approx(left, rel=1e-3)  # float32, of a difference
    # The last steps overshoot: rate 1e-3, gradients clipped to 1.
    clipped = rows.pop("clipped")
    assert 1e-6 < clipped["relative error"] <= 1e-3 / LAMBDA
    assert len(rows) == 6
    for row in rows.values():
        assert row["relative error"] < 1e-6  # eight times float32's machine epsilon
        assert np.isfinite(row["steps to 1e-6"])


@pytest.fixture(scope="module")
def parts():
    return {findings.title: findings for findings in example.findings()}


@pytest.mark.slow
def test_diffusion_functions_of_x_agree_at_zero(parts):
    rows = by_method(parts["a function of x"])
    at_zero = {name: abs(row["half k''(0)"] / LAMBDA - 1) for name, row in rows.items()}
    for name in ("constant", "linear", "cubic"):
        assert max(at_zero[name], rows[name]["worst error"]) < 1e-5
    held = "network, slope 0"
    assert max(at_zero[held], rows[held]["worst error"]) < 1e-3
    # It fits k, closer than noise would show, but not lambda where x² is small.
    largest = LAMBDA * float(second_moments(1.0, *MOMENTS))
    assert rows["network"]["worst error of k"] < NOISE / largest
    assert at_zero["network"] > 0.01
    errors = {name: row["standard error"] for name, row in rows.items()}
    assert errors["constant"] < errors["linear"] < errors["cubic"] < errors["network"]
    assert errors["network"] == np.inf
    # Near a constant's, at this seed and in float32.
    assert errors[held] == pytest.approx(errors["constant"], rel=0.2)


@pytest.mark.slow
def test_diffusion_network_of_x_learns_the_conditional_mean(parts):
    rows = by_method(parts["the set-up that cannot work"])
    places = [name for name in rows["network"] if name.startswith("x = ")]
    for name in places:
        network, mean = rows["network"][name], rows["E[k | x]"][name]
        assert network == pytest.approx(mean, rel=0.02)
        assert abs(network / LAMBDA - 1) > 0.5


@pytest.mark.slow
def test_diffusion_errors_under_noise_are_calibrated(parts):
    for row in parts["noise"].rows:
        # 200 data sets know the ratio to 10 %, and the share to 1.5 points.
        assert abs(row["variance / bound"] - 1) < 0.15
        assert 0.90 <= row["covered"] <= 0.98
        error = row["standard deviation"] / int(row["method"].split()[0]) ** 0.5
        assert row["mean"] == pytest.approx(LAMBDA, abs=4 * error)


@pytest.mark.slow
def test_diffusion_of_unobserved_paths_is_not_identified(parts):
    findings = parts["unobserved paths"]
    seen, *blind = findings.rows
    for name, truth in (("lambda", LAMBDA), ("mu", 0.5), ("sigma", 0.8)):
        error = seen[f"error of {name}"]
        assert seen[name] == pytest.approx(truth, abs=4 * error)
        # One data set gives each to better than a third.
        assert error < truth / 3
        assert {row[f"error of {name}"] for row in blind} == {np.inf}
        # The ends of the fits have nothing in common.
        values = [row[name] for row in blind]
        assert max(values) > 1.2 * min(values)
    for name in ("lambda mu²", "lambda sigma²"):
        values = [row[name] for row in blind]
        np.testing.assert_allclose(values, values[0], rtol=1e-3)  # ill-conditioned fits
    assert "only lambda mu^2 and lambda sigma^2 can be known" in findings.note


@pytest.mark.slow
def test_repeated_intervals_cover_as_often_as_they_say():
    _, covered = example.repeated(jax.random.split(jax.random.key(1), 200))
    for name in ("lambda", "mu"):
        # Of 200 intervals 95 % cover, give or take 1.5 points.
        assert 0.90 <= covered[name] <= 0.98


@pytest.mark.slow
def test_diffusion_parts_have_tables_and_figures(parts, tmp_path):
    assert len(parts) == 5
    for findings in parts.values():
        assert report.markdown(findings.rows)
        for name, draw in findings.figures.items():
            draw(tmp_path / f"{name}.png")
            assert (tmp_path / f"{name}.png").stat().st_size > 10_000
