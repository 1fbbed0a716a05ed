"""Does a step with one multiplier a sample cost what its batch costs?

Question     Time of a step against the number of samples that have a multiplier, as a
             ratio to that with 1,000 of them; and whether 10,000,000 fit in 24 GB.
Conditions   A tanh network 8-64-64-1, batches of 256 of the samples, the constraint
             (f(x) - y)^2 <= 1/10 on each of them, Adam for the network, float32. It is
             run twice: by a step jitted with donate_argnums=0, called from Python, and by
             `fit`, which draws its batches inside the compiled chunk of 100 steps.
             All sizes are compiled first and then run in random turns in one process;
             median over the rounds of each round's ratio. "noise" is the ratio of 1,000
             samples to a second compilation of itself.
Run          python -m benchmarks.indexed_multipliers
Last         2026-11-21, jax 0.12.0, two CPU cores that other programs were using too,
             so that a step took 0.4 to 2 ms; no accelerator was measured.

                              sgd              adam             nupi
                samples   step    fit      step    fit      step    fit
                 10,000   1.02   1.02      0.97   0.95      1.05   0.99
                100,000   1.09   0.53      0.95   0.51      0.98   0.96
              1,000,000   1.05   0.60      1.07   0.78      0.96   0.88
             10,000,000   1.16   1.65      1.20   3.92      1.10   2.66
                  noise   1.00   0.96      0.99   0.93      1.01   1.03

             1.0 GB at most, with the tables of all sizes at once.

Conclusion   The donated step costs what its batch costs: at most 1.07 with a million, and
             its compiled program has no copy of a table. The compiled chunk of `fit` has
             one copy of each, table and optimizer state, before its loop, because the
             state it was given must outlive it. With Adam a chunk of one step took 2, 7
             and 214 ms with 100,000, a million and ten million samples: at ten million
             a chunk wants to be of thousands of steps. Ratios of `fit` below 1 are of the
             reference: its loop over tables of 1,000 and 10,000 runs slower, why is not
             known.
"""

import random
import resource
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

import jaxcon as jc

INPUTS, WIDTH, BATCH = 8, 64, 256
SIZES = (1_000, 10_000, 100_000, 1_000_000, 10_000_000)
DUALS = {
    "sgd": jc.dual_ascent(optax.sgd(0.1)),
    "adam": jc.dual_ascent(optax.adam(0.01)),
    "nupi": jc.nupi(0.1, kp=1.0, nu=0.5),
}
STEPS, ROUNDS = 100, 21


class Case(NamedTuple):
    """One table and its two programs, ready to be timed.

    Attributes:
        stepped: () -> seconds a step, through the jitted and donated step.
        fitted: () -> seconds a step, through `fit`.
    """

    stepped: Callable[[], float]
    fitted: Callable[[], float]


def network(params: Any, x: jax.Array) -> jax.Array:
    for layer in params[:-1]:
        x = jnp.tanh(x @ layer["w"] + layer["b"])
    return (x @ params[-1]["w"] + params[-1]["b"])[0]


def start(key: jax.Array) -> Any:
    widths = (INPUTS, WIDTH, WIDTH, 1)
    return [
        {"w": jax.random.normal(k, (m, n)) / m**0.5, "b": jnp.zeros(n)}
        for k, m, n in zip(jax.random.split(key, 3), widths, widths[1:])
    ]


def draw(key: jax.Array, size: int) -> Any:
    """A batch of numbered samples; all of them are made, not stored."""
    sample, noise = jax.random.split(key)
    x = jax.random.uniform(noise, (BATCH, INPUTS))
    index = jax.random.randint(sample, (BATCH,), 0, size)
    return {"x": x, "y": jnp.sin(3 * x[:, 0]), "index": index}


def error(params: Any, batch: Any) -> jax.Array:
    return jax.vmap(partial(network, params))(batch["x"]) - batch["y"]


def solver_of(dual: str, size: int) -> jc.Solver:
    return jc.alternating(
        jc.Lagrangian(
            lambda params, batch: jnp.mean(error(params, batch) ** 2),
            jc.Constraints(
                inequality={
                    "fits": lambda params, batch: error(params, batch) ** 2 - 0.1
                }
            ),
            multipliers={"fits": jc.multipliers.indexed(size, on="index")},
        ),
        optax.adam(1e-3),
        DUALS[dual],
    )


def prepare(dual: str, size: int) -> Case:
    """Compiles both programs of one table."""
    solver, source = solver_of(dual, size), partial(draw, size=size)
    keys = jax.random.split(jax.random.key(1), STEPS)
    batches = [jax.jit(source)(key) for key in keys]
    step = jax.jit(solver.step, donate_argnums=0)
    state = solver.init(start(jax.random.key(0)), batches[0])

    # Both go on from where they were: a donated state is gone, and one that is kept
    # would be a second table.
    def stepped() -> float:
        nonlocal state
        began = time.perf_counter()
        for batch in batches:
            state, _ = step(state, batch)
        jax.block_until_ready(state)
        return (time.perf_counter() - began) / STEPS

    def fitted() -> float:
        nonlocal state
        result = jc.fit(
            solver,
            state,
            source,
            key=jax.random.key(2),
            steps=STEPS,
            chunk=STEPS,
            progress=False,
        )
        state = result.state
        return result.seconds / STEPS

    stepped()
    fitted()
    return Case(stepped, fitted)


def measure(
    dual: str, sizes: Sequence[int] = SIZES, rounds: int = ROUNDS
) -> list[dict[str, Any]]:
    """A row for each size, then the first size's once more: the noise."""
    cases = [prepare(dual, size) for size in (*sizes, sizes[0])]
    turns = random.Random(0)
    times: dict[str, list[list[float]]] = {program: [] for program in Case._fields}
    for _ in range(rounds):
        for program, seen in times.items():
            now = [0.0] * len(cases)
            for i in turns.sample(range(len(cases)), len(cases)):
                now[i] = getattr(cases[i], program)()
            seen.append(now)
    return [
        {"size": size}
        | {
            program: (
                statistics.median(now[i] / now[0] for now in seen),
                statistics.median(now[i] for now in seen),
            )
            for program, seen in times.items()
        }
        for i, size in enumerate((*sizes, sizes[0]))
    ]


def main() -> None:
    print(f"jax {jax.__version__}, {jax.devices()[0].device_kind}")
    for dual in DUALS:
        for i, row in enumerate(measure(dual)):
            size = f"{row['size']:10,d}" if i < len(SIZES) else "     noise"
            programs = "   ".join(
                f"{program} {row[program][0]:5.2f} of {1e6 * row[program][1]:6.0f} us"
                for program in Case._fields
            )
            print(f"{dual:4s} {size}   {programs}", flush=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"largest memory of the process, all sizes at once: {peak:.1f} GB")


if __name__ == "__main__":
    main()
