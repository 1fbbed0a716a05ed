r"""Constant behind averages over simulated paths of a diffusion, lambda = 1/4.

.. math::
    k_j = \frac{1}{n} \sum_{i=1}^n \lambda(x_{ij})\, x_{ij}^2 \qquad \text{at 50 times } t_j

The averages are equality constraints. As one number, lambda starts at its prior, 1, and
the loss is the squared distance to it: 50 constraints of rank one. As a network, the
loss is the mean square of its slope, which is zero at the answer.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxcon as jc
from benchmarks.problems.networks._problem import Arrays, NetworkProblem, start
from benchmarks.problems.networks._tanh import draw, net, root_mean_square

LAMBDA, PRIOR = 0.25, 1.0
START, DRIFT, VOLATILITY = 0.5, 1.0, 0.4
TIMES, PATHS = 50, 20


def _paths(seed: int) -> tuple[np.random.Generator, np.ndarray]:
    rng = np.random.default_rng([seed, 7])
    shocks = VOLATILITY * np.sqrt(1 / TIMES) * rng.normal(size=(TIMES, PATHS))
    return rng, START + np.cumsum(DRIFT / TIMES + shocks, axis=0)


def arrays_constant(seed: int) -> Arrays:
    """Simulates paths; lambda is one number."""
    _, x = _paths(seed)
    x = x.astype(np.float32)
    k = LAMBDA * np.mean(x.astype(float) ** 2, axis=1)
    prior = np.float32(PRIOR)
    return {
        "x": x,
        "k": k.astype(np.float32),
        "prior": prior,
        "weights": {"lambda": prior},
    }


def arrays_function(seed: int) -> Arrays:
    """Simulates paths; lambda is a network of x."""
    rng, _ = _paths(seed)
    arrays = arrays_constant(seed)
    low, high = np.quantile(arrays["x"], [0.0, 1.0])
    points = np.linspace(low, high, 64)[:, None]
    dense = np.linspace(low, high, 401)[:, None]
    return arrays | {
        "points": points.astype(np.float32),
        "dense": dense.astype(np.float32),
        "weights": draw(rng, (1, 32, 32, 1)),
    }


def far_from_prior(params: Any, batch: Any) -> jax.Array:
    """Evaluates the distance to the prior, ()."""
    return params["lambda"] - PRIOR


def moments_constant(params: Any, batch: Any) -> jax.Array:
    """Evaluates the errors of the averages, (m,)."""
    return params["lambda"] * jnp.mean(batch["x"] ** 2, axis=1) - batch["k"]


def slope(params: Any, batch: Any) -> jax.Array:
    """Evaluates the derivative of lambda at the points, (n,)."""
    derivative = jc.derivatives.partial_derivative(partial(net, params), 0)
    return jax.vmap(derivative)(batch["points"])


def moments_function(params: Any, batch: Any) -> jax.Array:
    """Evaluates the errors of the averages, (m,)."""
    x = batch["x"]
    curve = jax.vmap(jax.vmap(lambda x: net(params, x[None])))(x)
    return jnp.mean(curve * x**2, axis=1) - batch["k"]


def problem_constant(arrays: Arrays) -> tuple[jc.Lagrangian, Any, Any]:
    """Finds the number nearest to the prior that reproduces the averages."""
    loss = jc.MeanSquares({"prior": far_from_prior})
    constraints = jc.Constraints(equality={"averages": moments_constant})
    batch = {name: jnp.asarray(arrays[name]) for name in ("x", "k")}
    return jc.Lagrangian(loss, constraints), start(arrays), batch


def problem_function(arrays: Arrays) -> tuple[jc.Lagrangian, Any, Any]:
    """Finds the flattest network that reproduces the averages."""
    loss = jc.MeanSquares({"slope": slope})
    constraints = jc.Constraints(equality={"averages": moments_function})
    batch = {name: jnp.asarray(arrays[name]) for name in ("x", "k", "points")}
    return jc.Lagrangian(loss, constraints), start(arrays), batch


def off_constant(arrays: Arrays, params: Any) -> jax.Array:
    """Evaluates the distances to the averages."""
    return jnp.abs(moments_constant(params, arrays))


def off_function(arrays: Arrays, params: Any) -> jax.Array:
    """Evaluates the distances to the averages."""
    return jnp.abs(moments_function(params, arrays))


def error_constant(arrays: Arrays, params: Any) -> jax.Array:
    """Evaluates the distance to lambda."""
    return jnp.abs(params["lambda"] - LAMBDA)


def error_function(arrays: Arrays, params: Any) -> jax.Array:
    """Evaluates the root mean square distance to lambda where the paths have been."""
    return root_mean_square(jax.vmap(partial(net, params))(arrays["dense"]) - LAMBDA)


LAMBDA_CONSTANT = NetworkProblem(
    "lambda, a number",
    arrays_constant,
    problem_constant,
    off_constant,
    error_constant,
    "distance to lambda",
    enough=1e-4,
)
LAMBDA_FUNCTION = NetworkProblem(
    "lambda, a network",
    arrays_function,
    problem_function,
    off_function,
    error_function,
    "RMSE to lambda",
    enough=1e-3,
)
