"""How close does a Lipschitz network come to the constant that it may not exceed?

Question     The square wave, 1 on x <= -1 and on 0 < x <= 1, else 0, has slopes that no
             constant allows. Of L = 1, 5 and 10, how much is used by each of the methods
             that bound a network?
Conditions   300 training points, uniform on [-2, 2], 200 epochs; Adam, 3e-2 decaying by a
             cosine to 0, batches of 30; three hidden layers of 32 units; float32. Used:
             the largest difference quotient at 4,001 points, over L. Three seeds, in one
             program: median, and the least and the greatest. Error: on a grid of 200.
             "Claimed": for their own networks, by Wang and Manchester, Direct
             Parameterization of Lipschitz-Bounded Deep Networks (2023), whose layers are
             the first method and whose orthogonal ones are nearest to the second.
Run          python -m benchmarks.lipschitz              (a few minutes)
Last         2026-11-25 (sandwich), 2026-11-21, jax 0.12.0, CPU. Rounding, and so the
             machine, moves a row by a point or two.

             method      L  claimed  measured, %              test MSE
             sandwich    1     99.9      99.3 ( 99.3 to  99.3)   0.0665
             sandwich    5     99.3      93.0 ( 92.2 to  95.2)   0.0147
             sandwich   10     94.0      89.7 ( 87.5 to  91.5)   0.0079
             cayley      1     74.1     100.0 (100.0 to 100.0)   0.0633
             cayley      5     72.8      91.1 ( 87.5 to  95.6)   0.0153
             cayley     10     64.5      66.7 ( 66.3 to  80.9)   0.0120
             norms       1        -     100.0 (100.0 to 100.0)   0.0633
             norms       5        -      96.5 ( 90.2 to  97.9)   0.0149
             norms      10        -      60.8 ( 60.5 to  65.0)   0.0141

Conclusion   At 1 and 5 the networks of sorted pairs are tighter, being piecewise linear as
             the target is; at 10 the sandwich keeps most of its constant and they do not,
             and it is the closest to the target at 5 and 10. The claims for orthogonal
             layers are exceeded; those for the sandwich are nearly met: its activation is
             a smooth clip here, which has second derivatives. (With tanh in its place it
             used 96.7, 90.5 and 91.6 %, with ReLU 100 at 1 and 95.6 at 5.)
"""

import statistics
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxcon.layers._lipschitz import lipschitz

METHODS = ("sandwich", "cayley", "norms")
CONSTANTS = (1.0, 5.0, 10.0)
# Percent, as reported for the 2-norm's two methods.
CLAIMED = {
    "sandwich": {1.0: 99.9, 5.0: 99.3, 10.0: 94.0},
    "cayley": {1.0: 74.1, 5.0: 72.8, 10.0: 64.5},
}
TRAINED, TESTED, EPOCHS, BATCH, RATE = 300, 200, 200, 30, 3e-2
WIDTH, DEPTH, SEEDS = 32, 4, 3


class Fit(NamedTuple):
    """Results of one method and constant, by seed.

    Attributes:
        tightness: the largest difference quotient over the constant, in percent.
        error: mean squared error at the test points.
    """

    tightness: list[float]
    error: list[float]


def wave(x: jax.Array) -> jax.Array:
    return jnp.where((x <= -1) | ((x > 0) & (x <= 1)), 1.0, 0.0)


def fit(
    method: str,
    constant: float,
    *,
    width: int = WIDTH,
    seeds: int = SEEDS,
    epochs: int = EPOCHS,
) -> Fit:
    """Networks of one method, trained on the square wave, all seeds in one program."""
    network = lipschitz(1, constant=constant, by=method, width=width, depth=DEPTH)
    steps = epochs * (TRAINED // BATCH)
    optimizer = optax.adam(optax.cosine_decay_schedule(RATE, steps))

    def outputs(params: Any, x: jax.Array) -> jax.Array:
        return jax.vmap(partial(network.apply, params))(x[:, None])

    def loss(params: Any, x: jax.Array) -> jax.Array:
        return jnp.mean(jnp.square(outputs(params, x) - wave(x)))

    def run(key: jax.Array) -> tuple[jax.Array, jax.Array]:
        start, data, order = jax.random.split(key, 3)
        x = jax.random.uniform(data, (TRAINED,), minval=-2.0, maxval=2.0)
        rounds = jax.random.split(order, epochs)
        batches = jax.vmap(lambda k: jax.random.permutation(k, x))(rounds)

        def step(carry: Any, batch: jax.Array) -> tuple[Any, None]:
            params, state = carry
            gradient = jax.grad(loss)(params, batch)
            updates, state = optimizer.update(gradient, state, params)
            return (optax.apply_updates(params, updates), state), None

        params = network.init(start)
        carry = params, optimizer.init(params)
        (params, _), _ = jax.lax.scan(step, carry, batches.reshape(steps, BATCH))
        # A thousandth apart: finer, rounding shows; coarser, kinks are averaged.
        rises = jnp.diff(outputs(params, jnp.linspace(-2.0, 2.0, 4001)))
        tightness = 100 * jnp.max(jnp.abs(rises)) / (1e-3 * constant)
        return tightness, loss(params, jnp.linspace(-2.0, 2.0, TESTED))

    found = jax.jit(jax.vmap(run))(jax.random.split(jax.random.key(0), seeds))
    return Fit(*(value.tolist() for value in found))


def line(method: str, constant: float, found: Fit) -> str:
    claimed = CLAIMED.get(method, {}).get(constant)
    low, middle, high = (
        pick(found.tightness) for pick in (min, statistics.median, max)
    )
    return (
        f"{method:9s}{constant:4.0f}  {'-' if claimed is None else claimed:>7}"
        f"{middle:10.1f} ({low:5.1f} to {high:5.1f}){statistics.median(found.error):9.4f}"
    )


def main() -> None:
    print("method      L  claimed  measured, %              test MSE")
    for method in METHODS:
        for constant in CONSTANTS:
            print(line(method, constant, fit(method, constant)), flush=True)


if __name__ == "__main__":
    main()
