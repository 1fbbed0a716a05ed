r"""Surface of call prices, by 250 noisy quotes, free of arbitrage.

Prices are a mixture of two Black-Scholes prices over the spot, without interest. Strikes
from 0.6 to 1.5 of the spot and maturities from a quarter to two years are scaled to the
unit square: prices fall with the strike and are convex in it, and rise with maturity.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.stats import norm

import jaxcon as jc
from benchmarks.problems.networks._problem import Arrays, NetworkProblem, start
from benchmarks.problems.networks._tanh import at, draw, grid, net, root_mean_square

STRIKES, MATURITIES, NOISE = (0.6, 1.5), (0.25, 2.0), 0.004
MIXTURE = {0.15: 0.6, 0.35: 0.4}  # share by volatility


def price(x: np.ndarray) -> np.ndarray:
    """Computes the true prices at scaled strikes and maturities (n, 2), shape (n,)."""
    strike, maturity = (
        low + (high - low) * x[:, i].astype(float)
        for i, (low, high) in enumerate((STRIKES, MATURITIES))
    )
    total = np.zeros(len(x))
    for volatility, share in MIXTURE.items():
        deviation = volatility * np.sqrt(maturity)
        d = -np.log(strike) / deviation + deviation / 2
        total += share * (norm.cdf(d) - strike * norm.cdf(d - deviation))
    return total


def arrays(seed: int) -> Arrays:
    """Draws 250 quotes: 25 strikes at each of 10 maturities."""
    rng = np.random.default_rng([seed, 8])
    x, dense = grid(25, 10), grid(81, 41)
    return {
        "x": x,
        "y": (price(x) + NOISE * rng.normal(size=len(x))).astype(np.float32),
        "points": grid(31, 15),
        "margin": np.float32(0.01),
        "dense": dense,
        "truth": price(dense).astype(np.float32),
        "weights": draw(rng, (2, 64, 64, 1)),
    }


def misfit(params: Any, batch: Any) -> jax.Array:
    """Evaluates the errors at the quotes, (n,)."""
    return at(params, batch["x"]) - batch["y"]


def problem(arrays: Arrays) -> tuple[jc.Lagrangian, Any, Any]:
    """Fits the quotes by a network that obeys by a margin at 465 points."""
    shapes = {
        "falls in strike": jc.shapes.decreasing(net, 0, on="points"),
        "convex in strike": jc.shapes.convex(net, 0, on="points"),
        "rises in maturity": jc.shapes.increasing(net, 1, on="points"),
    }
    margin = float(arrays["margin"])
    constraints = jc.Constraints(
        inequality={name: jc.tighten(shape, margin) for name, shape in shapes.items()}
    )
    batch = {name: jnp.asarray(arrays[name]) for name in ("x", "y", "points")}
    loss = jc.MeanSquares({"misfit": misfit})
    return jc.Lagrangian(loss, constraints), start(arrays), batch


def arbitrage(arrays: Arrays, params: Any) -> jax.Array:
    """Evaluates the violations of all three shapes on the dense grid."""
    f = partial(net, params)
    slopes = jax.vmap(jax.grad(f))(arrays["dense"])
    bends = jax.vmap(jc.derivatives.partial_derivative(f, 0, 0))(arrays["dense"])
    wrong = jnp.concatenate([slopes[:, 0], -bends, -slopes[:, 1]])
    return jnp.maximum(wrong, 0.0)


def error(arrays: Arrays, params: Any) -> jax.Array:
    """Evaluates the root mean square distance to the true prices, in spots."""
    return root_mean_square(at(params, arrays["dense"]) - arrays["truth"])


SURFACE = NetworkProblem(
    "call surface", arrays, problem, arbitrage, error, "RMSE to the truth"
)
