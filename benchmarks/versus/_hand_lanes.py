"""Penalty and augmented Lagrangian by hand in JAX, Adam in one compiled scan."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import optax

from benchmarks.versus._hand_problems import DRAWN, PROBLEMS, Parts
from benchmarks.versus._lane import AUGMENTED, PENALTIES, RATE, Iterate, Lane


def penalised(parts: Parts, mu: jax.Array, nu: jax.Array, c: float) -> jax.Array:
    h, g = parts.equality, parts.inequality
    equal = jnp.sum(mu * h + c / 2 * h**2) / max(h.size, 1)
    pushed = jnp.maximum(nu + c * g, 0.0) ** 2 - nu**2
    return parts.loss + equal + jnp.sum(pushed) / (2 * c) / max(g.size, 1)


def train(
    name: str, arrays: Any, setting: dict[str, float], steps: int, every: int
) -> Iterator[Iterate]:
    problem, draw = PROBLEMS[name], DRAWN.get(name, lambda key, data: data)
    data = {k: jnp.asarray(v) for k, v in arrays.items() if k != "weights"}
    params = jax.tree.map(jnp.asarray, arrays["weights"])
    adam = optax.adam(optax.cosine_decay_schedule(RATE, steps))
    c, rate = setting["penalty"], setting.get("rate", 0.0)

    def step(carry: Any, key: jax.Array) -> Any:
        params, moments, mu, nu = carry
        batch = draw(key, data)

        def objective(params: Any) -> Any:
            parts = problem(params, batch)
            return penalised(parts, mu, nu, c), parts

        slope, parts = jax.grad(objective, has_aux=True)(params)
        moves, moments = adam.update(slope, moments)
        strict = parts.inequality if parts.strict is None else parts.strict
        mu, nu = mu + rate * parts.equality, jnp.maximum(nu + rate * strict, 0.0)
        return (optax.apply_updates(params, moves), moments, mu, nu), None

    start = jax.eval_shape(lambda: problem(params, draw(jax.random.key(0), data)))
    mu, nu = jnp.zeros(start.equality.shape), jnp.zeros(start.inequality.shape)
    carry = params, adam.init(params), mu, nu
    advance = jax.jit(lambda carry, keys: jax.lax.scan(step, carry, keys)[0])
    keys = jax.random.split(jax.random.key(0), steps)
    for done in range(0, steps, every):
        carry = jax.block_until_ready(advance(carry, keys[done : done + every]))
        yield Iterate(done + every, carry[0])


def user(name: str) -> tuple[Any, ...]:
    return (train, PROBLEMS[name], *(DRAWN[n] for n in (name,) if n in DRAWN))


HAND_ALM = Lane("JAX by hand, augmented Lagrangian", train, AUGMENTED, user)
HAND_PENALTY = Lane("JAX by hand, penalty", train, PENALTIES, user)
