"""Is one program of many runs ever slower than the runs one by one?

Answer       On a CPU runs that take turns cost what a loop costs; batching gains little or
             loses.

`jaxcon.sweep` batches runs by vmap, or lets them take turns inside one program. Here 32
penalties on a network that must rise, in float32, against `fit` of each, compiled once
and called again for every penalty (which it takes as data).

    python -m benchmarks.sweep

Ratios of running time, median of five rounds, compilation apart:

    two cores, otherwise idle, jax 0.12.0:
    width points    1 at once   4 at once  32 at once
       16     64         1.00        1.67        1.02
       32    256         1.06        1.21        0.83
       64    256         1.05        0.96        0.95

So on a CPU turns cost what a loop costs, and batching gains little or loses: `sweep`
takes turns there unless `together` is given. Nothing was measured on an accelerator.
"""

import statistics
import time
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxcon as jc
from jaxcon import tabular

RUNS, STEPS, ROUNDS = 32, 300, 5
SIZES = ((16, 64), (32, 256), (64, 256))  # width, points
TOGETHER = (1, 4, RUNS)


def setting(width: int, points: int) -> tuple[Any, Any]:
    """(penalty) -> one run, and the grid of penalties."""
    x = jnp.linspace(0.0, 1.0, points)[:, None]
    batch = {"points": x, "y": jnp.sin(6 * x[:, 0])}
    params = tabular.init_network(jax.random.key(0), (1, width, width, 1))
    rises = jc.shapes.increasing(tabular.network, 0, on="points")

    def loss(params: Any, batch: Any) -> jax.Array:
        fitted = jax.vmap(partial(tabular.network, params))(batch["points"])
        return jnp.mean(jnp.square(fitted - batch["y"]))

    def run(penalty: Any) -> tuple[jc.Solver, Any, Any]:
        solver = jc.alternating(
            jc.Lagrangian(
                loss, jc.Constraints(inequality={"rises": rises}), penalty=penalty
            ),
            optax.adam(1e-3),
            jc.dual_ascent(optax.sgd(penalty)),
        )
        return solver, params, batch

    return run, np.logspace(-4, 0, RUNS).astype(np.float32)


def one_by_one(run: Any, penalties: np.ndarray, steps: int) -> Any:
    """A function that runs all penalties through one compiled loop, and how it went."""

    @jax.jit
    def trained(penalty: jax.Array) -> Any:
        solver, params, batch = run(penalty)
        start = solver.init(params, batch)
        return jax.lax.fori_loop(
            0, steps, lambda _, state: solver.step(state, batch)[0], start
        )

    jax.block_until_ready(trained(penalties[0]))

    def seconds() -> float:
        began = time.perf_counter()
        for penalty in penalties:
            jax.block_until_ready(trained(penalty))
        return time.perf_counter() - began

    return seconds


def measure(
    width: int, points: int, *, steps: int = STEPS, rounds: int = ROUNDS
) -> dict[int, float]:
    """Ratio to the loop, by how many runs are batched."""
    run, penalties = setting(width, points)
    loop = one_by_one(run, penalties, steps)
    ratios: dict[int, list[float]] = {together: [] for together in TOGETHER}
    for _ in range(rounds):
        for together in TOGETHER:
            swept = jc.sweep(
                run, {"penalty": penalties}, steps=steps, keep=1, together=together
            )
            ratios[together].append(swept.seconds / loop())
    return {together: statistics.median(seen) for together, seen in ratios.items()}


def main() -> None:
    print(f"{jax.default_backend()}, jax {jax.__version__}")
    print("width points " + "".join(f"{f'{t} at once':>12s}" for t in TOGETHER))
    for width, points in SIZES:
        row = "".join(f"{ratio:12.2f}" for ratio in measure(width, points).values())
        print(f"{width:5d} {points:6d} {row}")


if __name__ == "__main__":
    main()
