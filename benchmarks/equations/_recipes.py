"""Recipes: one for every equation, with nothing chosen for a single one.

Each takes an equation and a seed and yields where it is after every chunk of steps. The
first yield comes after compilation, before any step. A process of its own has the
precision of its recipe, `DOUBLE`.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree

import jaxcon as jc
from benchmarks.equations._equation import Equation, Field, Residual

# (params, points (n, d)) -> values (n,) or (n, m).
Apply = Callable[[Any, jax.Array], jax.Array]


class Reached(NamedTuple):
    """Where a recipe has come.

    Attributes:
        steps: taken.
        params: of the network.
        field: (params, points (n, d)) -> values.
    """

    steps: int
    params: Any
    field: Callable[[Any, np.ndarray], jax.Array]


Recipe = Callable[[Equation, int], Iterator[Reached]]


def over(residual: Residual, apply: Apply, key: str) -> Callable[..., jax.Array]:
    """Returns (params, batch) -> a residual at the points under a key, (n,)."""

    def at(params: Any, batch: Any) -> jax.Array:
        field: Field = partial(apply, params)
        return jax.vmap(partial(residual, field))(batch[key])

    return at


def points(equation: Equation, seed: int, inner: int, outer: int) -> dict[str, Any]:
    """Draws points inside, and for each condition that a recipe does not build in."""
    rng = np.random.default_rng([seed, 1])
    conditions = {
        name: sampler(rng, outer) for name, (sampler, _) in equation.conditions.items()
    }
    return {"inside": equation.sample(seed, inner), **conditions}


def _yielder(apply: Apply) -> Callable[[int, Any], Reached]:
    several = jax.jit(jax.vmap(apply, (None, 0)))
    return lambda steps, params: Reached(steps, params, several)


# jaxcon's recipe: a network that keeps the conditions, and Gauss-Newton in float64.
WIDTH, DEPTH, INNER, OUTER, REDRAWN = 24, 4, 1000, 40, 10
# Draws until an evolution is asked for up to its end.
GROWN = 40


def recommended(equation: Equation, seed: int) -> Iterator[Reached]:
    """Builds the conditions in, and takes Gauss-Newton steps on points drawn anew.

    Points of an evolution begin near its start, and reach its end after 40 draws.

    Conditions that no construction keeps are equality constraints with a multiplier for
    each of their points.
    """
    network = equation.network(WIDTH, DEPTH)
    params = network.init(jax.random.key(seed))
    left = {
        name: over(equation.conditions[name][1], network.apply, name)
        for name in equation.left
    }
    loss = jc.MeanSquares(
        {
            name: over(residual, network.apply, "inside")
            for name, residual in equation.residuals.items()
        }
    )
    held = jc.Constraints(left)
    problem = jc.Lagrangian(loss, held, penalty=1.0) if left else jc.Lagrangian(loss)
    dual = jc.every(jc.method_of_multipliers(), 50) if left else optax.set_to_zero()
    solver = jc.alternating(problem, jc.gauss_newton(problem), dual)

    outer = OUTER * len(equation.lower) if left else 1
    known = points(equation, seed, INNER, outer)

    def inside(steps: int) -> np.ndarray:
        drawn = equation.sample(seed + steps, INNER)
        if not equation.evolution:
            return drawn
        share, start = min(1, (1 + steps / REDRAWN) / GROWN), equation.lower[-1]
        time = start + share * (drawn[:, -1:] - start)
        return np.concatenate([drawn[:, :-1], time], axis=1)

    known["inside"] = inside(0)
    state = solver.init(params, known)
    step = jax.jit(solver.step).lower(state, known).compile()
    reached = _yielder(network.apply)
    yield reached(0, params)
    steps = 0
    while True:
        for _ in range(REDRAWN):
            state, _ = step(state, known)
        steps += REDRAWN
        yield reached(steps, state.params)
        known = {**known, "inside": inside(steps)}


def soft(
    equation: Equation, apply: Apply, weight: float = 1.0
) -> Callable[[Any, Any], dict[str, jax.Array]]:
    """Returns (params, batch) -> mean squares of all residuals and conditions."""
    parts = {
        name: (over(residual, apply, "inside"), 1.0)
        for name, residual in equation.residuals.items()
    } | {
        name: (over(residual, apply, name), weight)
        for name, (_, residual) in equation.conditions.items()
    }

    def losses(params: Any, batch: Any) -> dict[str, jax.Array]:
        return {
            name: factor * jnp.mean(residual(params, batch) ** 2)
            for name, (residual, factor) in parts.items()
        }

    return losses


def adam_and_lbfgs(equation: Equation, seed: int) -> Iterator[Reached]:
    """Takes 15,000 steps of Adam and then L-BFGS on penalties of weight one.

    This is the recipe of DeepXDE's examples: three hidden layers of 20, tanh, learning
    rate 1e-3, 2,540 points inside, 80 on each condition, float32.
    """
    size = len(equation.lower)
    network = jc.layers.mlp(size, equation.outputs, width=20, depth=4)
    apply = network.apply
    losses = soft(equation, apply)
    batch = jax.tree.map(np.float32, points(equation, seed, 2540, 80))
    params = network.init(jax.random.key(seed))

    def loss(params: Any, batch: Any) -> jax.Array:
        return sum(losses(params, batch).values(), jnp.zeros(()))

    reached = _yielder(apply)
    steps = 0
    first = True
    for optimizer, most, chunk in (
        (optax.adam(1e-3), 15_000, 100),
        (optax.lbfgs(), 10**9, 20),
    ):

        def step(carry: Any, batch: Any, optimizer: Any = optimizer) -> Any:
            params, state = carry
            of = partial(loss, batch=batch)
            value, slope = jax.value_and_grad(of)(params)
            move, state = optimizer.update(
                slope, state, params, value=value, grad=slope, value_fn=of
            )
            return (optax.apply_updates(params, move), state), None

        def many(carry: Any, batch: Any, chunk: int = chunk, step: Any = step) -> Any:
            return jax.lax.scan(lambda c, _: step(c, batch), carry, length=chunk)[0]

        optimizer = optax.with_extra_args_support(optimizer)
        carry = params, _strong(optimizer.init(params))
        compiled = jax.jit(many).lower(carry, batch).compile()
        if first:
            yield reached(0, params)
        first = False
        for _ in range(most // chunk):
            carry = compiled(carry, batch)
            steps += chunk
            yield reached(steps, carry[0])
        params = carry[0]


def _strong(state: Any) -> Any:
    """Returns a state without weak types, which would be compiled for anew."""
    return jax.tree.map(lambda leaf: jnp.array(leaf, jnp.result_type(leaf)), state)


def natural_gradient(equation: Equation, seed: int) -> Iterator[Reached]:
    """Takes natural-gradient steps on penalties of weight one.

    This is energy natural gradient descent as jinns has it (ridge 1e-5, a line search over
    powers of one half), with two hidden layers of 32, tanh, 1,000 points inside, 100 on
    each condition, float64.
    """
    size = len(equation.lower)
    network = jc.layers.mlp(size, equation.outputs, width=32, depth=3)
    apply = network.apply
    losses = soft(equation, apply)
    theta, unravel = ravel_pytree(network.init(jax.random.key(seed)))
    every = [
        *((r, "inside") for r in equation.residuals.values()),
        *((r, name) for name, (_, r) in equation.conditions.items()),
    ]

    def total(theta: jax.Array, batch: Any) -> jax.Array:
        return sum(losses(unravel(theta), batch).values(), jnp.zeros(()))

    def gram(theta: jax.Array, batch: Any) -> jax.Array:
        matrix = jnp.zeros((theta.size, theta.size))
        for residual, key in every:

            def entry(theta: jax.Array, x: jax.Array, residual: Any = residual) -> Any:
                return residual(partial(apply, unravel(theta)), x)

            rows = jax.vmap(jax.grad(entry), (None, 0))(theta, batch[key])
            matrix += rows.T @ rows / len(rows)
        return matrix

    def step(theta: jax.Array, batch: Any) -> jax.Array:
        slope = jax.grad(total)(theta, batch)
        matrix = gram(theta, batch) + 1e-5 * jnp.eye(theta.size)
        way = jnp.linalg.solve(matrix, slope)
        sizes = 0.5 ** jnp.arange(31.0)
        tried = jax.lax.map(lambda s: total(theta - s * way, batch), sizes)
        best = jnp.argmin(jnp.where(jnp.isfinite(tried), tried, jnp.inf))
        return theta - sizes[best] * way

    batch = points(equation, seed, 1000, 100)
    compiled = jax.jit(step).lower(theta, batch).compile()
    reached = _yielder(lambda theta, x: apply(unravel(theta), x))
    yield reached(0, theta)
    steps = 0
    while True:
        theta = compiled(theta, batch)
        steps += 1
        yield reached(steps, theta)


def weighted_adam(equation: Equation, seed: int) -> Iterator[Reached]:
    """Takes Adam steps on terms weighted by gradient norms, with causal weights in time.

    This is jaxpi's recipe: random Fourier features of scale 1 before a modified network of
    four layers of 256, learning rate 1e-3 times 0.9 every 2,000 steps, batches of 4,096
    inside, weights renewed every 1,000 steps with memory 0.9, sixteen causal chunks of
    tolerance 1, float32. Inputs are scaled to [-1, 1].
    """
    size, width, single = len(equation.lower), 256, np.float32
    last = 1 if equation.outputs is None else equation.outputs
    low, high = (np.asarray(end, single) for end in (equation.lower, equation.upper))

    def glorot(key: jax.Array, shape: tuple[int, int]) -> jax.Array:
        return jax.random.normal(key, shape) * np.float32(np.sqrt(2 / sum(shape)))

    keys = jax.random.split(jax.random.key(seed), 8)
    sizes = [(width, width)] * 4
    params = {
        "features": jax.random.normal(keys[0], (size, width // 2)),
        "gates": [(glorot(key, (width, width)), jnp.zeros(width)) for key in keys[1:3]],
        "layers": [
            (glorot(key, shape), jnp.zeros(shape[1]))
            for key, shape in zip(keys[3:7], sizes)
        ],
        "last": (glorot(keys[7], (width, last)), jnp.zeros(last)),
    }

    def apply(params: Any, x: jax.Array) -> jax.Array:
        angles = (2 * (x - low) / (high - low) - 1) @ params["features"]
        h = jnp.concatenate([jnp.cos(angles), jnp.sin(angles)])
        u, v = (jnp.tanh(h @ w + b) for w, b in params["gates"])
        for w, b in params["layers"]:
            z = jnp.tanh(h @ w + b)
            h = z * u + (1 - z) * v
        y = h @ params["last"][0] + params["last"][1]
        return y[0] if equation.outputs is None else y

    terms = soft(equation, apply)
    inside = {
        name: over(residual, apply, "inside")
        for name, residual in equation.residuals.items()
    }

    def losses(params: Any, batch: Any) -> dict[str, jax.Array]:
        found = terms(params, batch)
        if equation.evolution:
            order = jnp.argsort(batch["inside"][:, -1])
            for name, residual in inside.items():
                squares = residual(params, batch)[order] ** 2
                chunks = jnp.mean(squares.reshape(16, -1), axis=1)
                before = jnp.cumsum(chunks) - chunks
                weight = jax.lax.stop_gradient(jnp.exp(-before))
                found[name] = jnp.mean(weight * chunks)
        return found

    outer = points(equation, seed, 16, 256)
    optimizer = optax.adam(optax.exponential_decay(1e-3, 2000, 0.9))

    pool = jnp.asarray(equation.sample(seed, 2**16), single)
    rest = {k: jnp.asarray(v, single) for k, v in outer.items() if k != "inside"}

    def drawn(key: jax.Array) -> Any:
        rows = jax.random.randint(key, (4096,), 0, len(pool))
        return {"inside": pool[rows], **rest}

    def step(carry: Any, _: Any) -> Any:
        params, state, weights, count = carry
        batch = drawn(jax.random.fold_in(keys[0], count))

        def renewed() -> Any:
            norms = {
                name: optax.tree.norm(
                    jax.grad(lambda p, name=name: losses(p, batch)[name])(params)
                )
                for name in weights
            }
            whole = sum(norms.values(), jnp.zeros(()))
            return {
                name: 0.9 * weights[name] + 0.1 * whole / (norms[name] + 1e-5 * whole)
                for name in weights
            }

        weights = jax.lax.cond(count % 1000 == 0, renewed, lambda: weights)

        def loss(params: Any) -> jax.Array:
            found = losses(params, batch)
            return sum((weights[k] * found[k] for k in found), jnp.zeros(()))

        move, state = optimizer.update(jax.grad(loss)(params), state)
        return (optax.apply_updates(params, move), state, weights, count + 1), None

    names = jax.eval_shape(losses, params, jax.eval_shape(drawn, keys[0]))
    weights = {name: jnp.ones((), single) for name in names}
    carry = params, optimizer.init(params), weights, jnp.zeros((), jnp.int32)
    many = jax.jit(lambda carry: jax.lax.scan(step, carry, length=5)[0])
    compiled = many.lower(carry).compile()
    reached = _yielder(apply)
    yield reached(0, params)
    steps = 0
    while True:
        carry = compiled(carry)
        steps += 5
        yield reached(steps, carry[0])


DOUBLE = ("jaxcon", "natural gradient")
RECIPES: dict[str, Recipe] = {
    "jaxcon": recommended,
    "Adam, L-BFGS": adam_and_lbfgs,
    "natural gradient": natural_gradient,
    "weighted Adam": weighted_adam,
}
