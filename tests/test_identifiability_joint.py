"""Parameters that are fitted together with a network: against what needs no network."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tables import assert_each, assert_refused

from jaxcon.identifiability import identify

# Growth u' = rate u (1 - u) from an unknown start, observed at some times.
LAST, START, RATE, NOISE = 6.0, 0.1, 1.0, 0.02
TIMES, POINTS = np.linspace(0, LAST, 30), np.linspace(0, LAST, 50)


def grown(p, t):
    odds = p["start"] * jnp.exp(p["rate"] * t)
    return odds / (1 - p["start"] + odds)


def best_possible():
    """The standard error of the rate by the solution in closed form."""
    model = jax.jit(lambda p: grown(p, TIMES))
    truth = {"start": START, "rate": RATE}
    return identify(model, truth, NOISE).standard_error("rate")


def tanh_layer(params, t):
    """One hidden layer, at times (n,), (n,)."""

    def at(t):
        return jnp.tanh(t / LAST * params["w"] + params["b"]) @ params["v"]

    return jax.vmap(at)(jnp.asarray(t, params["w"].dtype)) + params["c"]


def fitted(width, dtype="float64"):
    """The rate, and a layer whose outer weights fit the solution and its slope."""
    random = np.random.default_rng(0)
    inner = {
        "w": random.normal(size=width) * 4,
        "b": random.uniform(-4, 4, size=width),
    }
    t = np.linspace(0, LAST, 200)
    hidden = np.tanh((t / LAST)[:, None] * inner["w"] + inner["b"])
    u = np.asarray(grown({"start": START, "rate": RATE}, t))
    columns = np.c_[hidden, np.ones(len(t))]
    slopes = np.c_[(1 - hidden**2) * inner["w"] / LAST, np.zeros(len(t))]
    rows, values = np.r_[columns, slopes], np.r_[u, RATE * u * (1 - u)]
    outer = np.linalg.lstsq(rows, values, rcond=1e-8)[0]
    params = {"rate": RATE, "network": {**inner, "v": outer[:-1], "c": outer[-1]}}
    return jax.tree.map(lambda leaf: np.asarray(leaf, dtype), params)


@jax.jit
def observed(params):
    return tanh_layer(params["network"], TIMES)


def grows(params, rate=None):
    """The equation's residuals."""
    points = jnp.asarray(POINTS, params["network"]["w"].dtype)
    u, slope = jax.jvp(
        partial(tanh_layer, params["network"]), (points,), (jnp.ones_like(points),)
    )
    return slope - (params["rate"] if rate is None else rate) * u * (1 - u)


jointly = partial(
    identify, observed, noise=NOISE, constraints=jax.jit(grows), network="network"
)


@pytest.mark.parametrize(
    "dtype",
    ["float32", pytest.param("float64", marks=pytest.mark.slow)],
    indirect=True,
)
def test_identify_beside_a_network_knows_what_the_solution_tells(dtype):
    # From fewer parameters than observations and points to many more.
    def check(width):
        found = jointly(fitted(width, dtype))
        assert found.names == found.determined == ("rate",)
        assert found.standard_error("rate") == pytest.approx(best_possible(), rel=0.05)

    assert_each([20, 400], check)


def test_identify_beside_a_network_estimates_the_noise(x64):
    random = np.random.default_rng(1)
    exact = np.asarray(grown({"start": START, "rate": RATE}, TIMES))
    seen = exact + NOISE * random.normal(size=len(TIMES))
    params = fitted(20)
    found = jointly(params, noise=None, observed=seen)
    # The solution has two parameters; the network is not fitted to this noise.
    assert found.degrees_of_freedom == pytest.approx(len(TIMES) - 2, abs=0.1)
    deviation = np.linalg.norm(seen - exact) / found.degrees_of_freedom**0.5
    assert found.standard_error("rate") == pytest.approx(
        best_possible() * deviation / NOISE, rel=0.05
    )


def test_identify_refuses_what_a_network_makes_up_for(x64):
    params = fitted(20)
    found = jointly(params, constraints=None)
    # No prediction knows the rate.
    assert found.determined == ()
    scaled = {"gain": 2.0, **params}
    found = identify(
        jax.jit(lambda p: p["gain"] * observed(p)), scaled, NOISE, network="network"
    )
    assert found.determined == ()
    with pytest.raises(
        ValueError, match="the network can make up for any change of ga"
    ):
        found.standard_error("gain")


def test_identify_beside_a_network_names_the_combination_that_can_be_known(x64):
    params = {"a": np.array([2.0, 3.0]), "network": fitted(20)["network"]}
    product = jax.jit(lambda p: grows(p, p["a"][0] * p["a"][1] * RATE / 6))
    found = jointly(params, constraints=product)
    (group,) = found.confounded
    assert group.combinations == ("a[0] a[1]",)
    assert group.everywhere
    assert "of a[0] and a[1], only a[0] a[1] can be known" in str(found)


# The source's strength in u'' = -strength pi² sin(pi t), and both ends unknown; u a sum of
# given functions.
PLACES, WITHIN = np.linspace(0, 1, 25), np.linspace(0, 1, 40)
POWERS = np.arange(16)


def source(unit=1.0):
    def curved(p):
        curves = POWERS * (POWERS - 1) * WITHIN[:, None] ** np.maximum(POWERS - 2, 0)
        force = p["strength"] / unit * np.pi**2 * np.sin(np.pi * WITHIN)
        return curves @ p["sum"] + force

    # sin(pi t) by Taylor.
    taylor = [np.sin(n * np.pi / 2) for n in POWERS] / np.cumprod([1.0, *POWERS[1:]])
    params = {"strength": unit, "sum": np.pi**POWERS * taylor}
    model = jax.jit(lambda p: PLACES[:, None] ** POWERS @ p["sum"])
    return partial(identify, model, params, constraints=jax.jit(curved), network="sum")


def test_identify_beside_linear_functions_is_the_regression_in_every_unit(x64):
    columns = np.stack([np.sin(np.pi * PLACES), np.ones(25), PLACES], axis=1)
    root = np.random.default_rng(2).normal(size=(25, 25)) / 10

    def check(row):
        unit, noise = row
        square = (
            noise if np.ndim(noise) == 2 else np.diag(np.broadcast_to(noise, 25) ** 2)
        )
        cov = np.linalg.inv(columns.T @ np.linalg.solve(square, columns))
        found = source(unit)(noise=noise)
        error = found.standard_error("strength")
        assert error == pytest.approx(unit * cov[0, 0] ** 0.5, rel=0.05)

    noises = [0.01, np.linspace(0.01, 0.03, 25), 1e-4 * (np.eye(25) + root @ root.T)]
    assert_each([(1.0, noise) for noise in noises] + [(1e9, 0.01)], check)


def test_identify_beside_a_network_is_the_dense_formula(x64):
    params = fitted(8)
    network, unravel = jax.flatten_util.ravel_pytree(params["network"])

    def both(network, rate):
        p = {"rate": rate, "network": unravel(network)}
        unmet = jnp.sqrt(jnp.mean(jax.lax.stop_gradient(grows(p)) ** 2))
        return jnp.concatenate(
            [observed(p) / NOISE, grows(p) / (unmet * len(POINTS) ** 0.5)]
        )

    wide, b = jax.jit(jax.jacobian(both, (0, 1)))(network, params["rate"])
    wide, b = np.asarray(wide), np.asarray(b)
    spread = np.mean(np.asarray(network) ** 2) * wide @ wide.T
    information = b @ np.linalg.solve(np.eye(len(b)) + spread, b)
    found = jointly(params)
    np.testing.assert_allclose(found.fisher, [[information]], rtol=1e-6)


def test_identify_refuses_a_network_that_makes_no_sense(x64):
    params = fitted(8)
    network = params["network"]
    zero = jax.tree.map(np.zeros_like, network)
    rows = [
        ({"network": "layers"}, "network names 'layers', but the parameters are"),
        ({"network": "net"}, "network names 'net'"),
        ({"network": ()}, "network names no parameters"),
        ({"network": ("network", "rate")}, "names all parameters"),
        (
            {"params": {**params, "network": zero}},
            "a fitted network, got parameters of",
        ),
        ({"params": {**params, "network": {**network, "c": np.inf}}}, "of size inf"),
        (
            {"constraints": lambda p: grows(p) * jnp.sqrt(p["network"]["c"] - 1e9)},
            "the constraints' derivatives are not finite with respect to rate and the",
        ),
    ]
    kinds = [
        ({"network": 3}, "network must be a list or tuple of paths"),
        ({"network": [1]}, "network must hold paths of parameters"),
    ]
    assert_refused(
        [
            (partial(jointly, **{"params": params, **changes}), kind, [words])
            for some, kind in ((rows, ValueError), (kinds, TypeError))
            for changes, words in some
        ]
    )
