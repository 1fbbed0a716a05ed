"""The constant as a function of the paths' values."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxcon.constraints import Constraints
from jaxcon.derivatives import derivative
from jaxcon.examples._example import Findings
from jaxcon.examples.diffusion._law import (
    LAMBDA,
    LAW,
    NOISE,
    TIMES,
    conditional_mean,
    data,
    simulate,
)
from jaxcon.identifiability import cramer_rao_bound
from jaxcon.lagrangians import Lagrangian
from jaxcon.primal_dual import alternating
from jaxcon.report import new_figure
from jaxcon.training import fit
from jaxcon.transforms import every, method_of_multipliers


def functions(seed: int = 0) -> Findings:
    """Trains lambda as a function of x, whose value at 0 is half of k''.

    Args:
        seed: as in `findings`.

    Returns:
        Its `Findings`.
    """
    batch = data(jax.random.key(seed))
    places = middle(batch["x"])
    batch = {"x": batch["x"], "k": batch["k"], "points": places}
    curves, rows = {}, []
    for name, (curve, init, held) in FAMILIES.items():
        params = _fitted(curve, init(jax.random.key(seed + 1)), held, batch)
        values = jax.vmap(partial(curve, params))(places)
        k = average(curve, params, batch["x"])
        curves[name] = np.asarray(values)
        rows.append(
            {
                "method": name,
                "half k''(0)": float(half_curvature(curve, params)),
                "worst error": float(jnp.max(jnp.abs(values / LAMBDA - 1))),
                "worst error of k": float(jnp.max(jnp.abs(k / batch["k"] - 1))),
                "standard error": float(error_at_zero(curve, params, held, batch)),
            }
        )
    known = {row["method"]: row["standard error"] for row in rows}
    return Findings(
        "a function of x",
        rows,
        "Errors are relative, that of lambda over the middle 98 % of x. The standard "
        f"error of lambda(0), if k had noise of {NOISE:g}, is the cost of not knowing "
        "that lambda is a constant: x² gives what happens near 0 no weight, and there a "
        "network is free. With its exact slope held at zero the standard error is "
        f"{known['network, slope 0']:.4f}, beside {known['constant']:.4f} of a constant.",
        {
            "diffusion-functions": lambda path: _draw_curves(
                np.asarray(places), curves, ("x", "lambda(x)"), path
            )
        },
    )


def middle(x: jax.Array) -> jax.Array:
    """Returns fifty places that span the middle 98 % of all x, (50,)."""
    low, high = jnp.quantile(x, jnp.array([0.01, 0.99]))
    return jnp.linspace(low, high, 50)


def polynomial(params: Any, x: jax.Array) -> jax.Array:
    """Evaluates a polynomial lambda of one x by coefficients "c", highest power first."""
    return jnp.polyval(params["c"], x)


def network(params: Any, x: jax.Array) -> jax.Array:
    """Evaluates a network of one hidden layer at one x."""
    return jnp.tanh(x * params["w"] + params["b"]) @ params["v"] + params["c"]


def network_params(key: jax.Array, width: int = 16) -> dict[str, jax.Array]:
    """Draws random parameters of `network`."""
    w, b, v = jax.random.normal(key, (3, width))
    return {"w": w, "b": b, "v": v / width, "c": jnp.zeros(())}


def flat(params: Any, batch: Any) -> jax.Array:
    """Evaluates the network's slope at every point: zero if lambda is a constant."""
    return jax.vmap(derivative(partial(network, params)))(batch["points"])


# name: lambda as (params, x) -> (), (key) -> params, its known constraints.
FAMILIES: dict[str, tuple[Callable[..., jax.Array], Any, Constraints]] = {
    "constant": (polynomial, lambda key: {"c": jnp.zeros(1)}, Constraints()),
    "linear": (polynomial, lambda key: {"c": jnp.zeros(2)}, Constraints()),
    "cubic": (polynomial, lambda key: {"c": jnp.zeros(4)}, Constraints()),
    "network": (network, network_params, Constraints()),
    "network, slope 0": (network, network_params, Constraints({"flat": flat})),
}


def average(curve: Callable[..., jax.Array], params: Any, x: jax.Array) -> jax.Array:
    r"""Computes k for lambda as a function of x.

    .. math::
        \bar k_j = \frac{1}{n} \sum_i \lambda(x_{ij})\, x_{ij}^2

    Args:
        curve: (params, x ()) -> lambda ().
        params: of the curve.
        x: paths (m, n).

    Returns:
        Shape (m,).
    """
    return jnp.mean(jnp.vectorize(partial(curve, params))(x) * x**2, axis=1)


def half_curvature(curve: Callable[..., jax.Array], params: Any) -> jax.Array:
    r"""Computes lambda at 0 by the exact second derivative of k.

    .. math::
        \lambda(0) = \tfrac12 k''(0), \qquad k(x) = \lambda(x)\, x^2

    Args:
        curve: (params, x ()) -> lambda ().
        params: of the curve.

    Returns:
        Shape ().
    """
    second = derivative(lambda x: curve(params, x) * x**2, order=2)
    return second(jnp.zeros(())) / 2


def error_at_zero(
    curve: Callable[..., jax.Array], params: Any, held: Constraints, batch: Any
) -> jax.Array:
    """Computes the standard error of lambda at 0 for noise in k.

    Lambda at 0 is a parameter of its own, which a constraint ties to the others; the
    known properties of the curve are further constraints.

    Args:
        curve: (params, x ()) -> lambda ().
        params: of the curve.
        held: known equality constraints of the curve.
        batch: their data, with paths "x".

    Returns:
        Shape (), in units of lambda; infinity where k does not determine it.
    """

    def residuals(both: Any) -> jax.Array:
        here = curve(both["curve"], jnp.zeros(())) - both["at 0"]
        known = [h(both["curve"], batch) for h in held.equality.values()]
        return jnp.concatenate([here[None], *known])

    def k(both: Any) -> jax.Array:
        return average(curve, both["curve"], batch["x"])

    @jax.jit
    def bound(both: Any) -> jax.Array:
        return cramer_rao_bound(k, both, NOISE, residuals)

    return jnp.sqrt(
        bound({"at 0": half_curvature(curve, params), "curve": params})[0, 0]
    )


def _fitted(
    curve: Callable[..., jax.Array], params: Any, held: Constraints, batch: Any
) -> Any:
    def loss(params: Any, batch: Any) -> jax.Array:
        return jnp.mean((average(curve, params, batch["x"]) / batch["k"] - 1) ** 2)

    dual = every(method_of_multipliers(), 50)
    solver = alternating(Lagrangian(loss, held, penalty=10.0), optax.lbfgs(), dual)
    state = solver.init(params, batch)
    return fit(solver, state, batch, steps=300, progress=False).state.params


def _draw_curves(
    x: np.ndarray, curves: dict[str, np.ndarray], labels: tuple[str, str], path: Path
) -> None:
    figure = new_figure(7, 4)
    axes = figure.add_subplot()
    for name, curve in curves.items():
        axes.plot(x, curve, label=name)
    axes.set_xlabel(labels[0])
    axes.set_title(labels[1])
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=120)


def naive(seed: int = 0) -> Findings:
    """Trains a network of x alone on k, which does not converge to lambda.

    Args:
        seed: as in `findings`.

    Returns:
        Its `Findings`.
    """
    times = jnp.asarray(TIMES)
    x = simulate(jax.random.key(seed), times, **LAW, paths=1000)
    k = LAMBDA * jnp.mean(x**2, axis=1)

    def loss(params: Any, batch: Any) -> jax.Array:
        outputs = jnp.vectorize(partial(network, params))(x)
        return jnp.mean((outputs - k[:, None]) ** 2)

    solver = alternating(
        Lagrangian(loss, Constraints()), optax.lbfgs(), optax.set_to_zero()
    )
    state = solver.init(network_params(jax.random.key(seed + 1)))
    params = fit(solver, state, steps=200, progress=False).state.params
    places = middle(x)
    curves = {
        "network": jax.vmap(partial(network, params))(places),
        "E[k | x]": conditional_mean(places, times, k),
        "lambda": jnp.full(places.shape, LAMBDA),
    }
    shown = np.array([0, 12, 25, 37, 49])
    rows = [
        {"method": name}
        | {f"x = {places[i]:.2f}": float(curve[i]) for i in shown}
        | {"mean": float(jnp.mean(curve))}
        for name, curve in curves.items()
    ]
    return Findings(
        "the set-up that cannot work",
        rows,
        "Squared error against k teaches a function of x the mean of k given x. Lambda is "
        "nowhere in that loss: the same data with lambda twice as large are told apart by "
        "k only. Given all paths of a time at once, the network would learn k itself.",
        {
            "diffusion-naive": lambda path: _draw_curves(
                np.asarray(places),
                {name: np.asarray(curve) for name, curve in curves.items()},
                ("x", "what a network of x learns from k"),
                path,
            )
        },
    )
