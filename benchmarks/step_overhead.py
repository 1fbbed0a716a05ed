"""What does a constrained step cost against one written out by hand?

Question     FLOPs (as the compiled program reports them) and time of jaxcon's step over
             a step written out for the same problem and the same method, its Lagrangian
             and its multiplier update spelled out, reporting loss and worst violation.
Conditions   A tanh network 2-w-w-w-1, n data and n constraint points, f increasing in
             x0 by its exact derivative, Adam, SGD on one multiplier a point, float32.
             Both programs compiled first (compile time apart), each twenty steps in one
             scan, as `fit` runs them; run in random turns in one process; median over 41
             rounds of each round's ratio. "noise" is the hand-written program's ratio to
             a second compilation of itself.
Run          python -m benchmarks.step_overhead
Last         2026-11-21, jax 0.12.0, two CPU cores; no accelerator was measured.

             w 128 n 512 simultaneous  no penalty  FLOPs 1.0010  time 0.93  noise 0.99
             w 128 n 512 simultaneous  penalty     FLOPs 1.0010  time 1.07  noise 1.01
             w 128 n 512 alternating   no penalty  FLOPs 1.0010  time 0.90  noise 1.00
             w 128 n 512 alternating   penalty     FLOPs 1.0010  time 1.11  noise 1.00
             w  32 n  64 simultaneous  no penalty  FLOPs 1.0082  time 1.08  noise 0.98
             w  32 n  64 simultaneous  penalty     FLOPs 1.0081  time 1.07  noise 1.01
             w  32 n  64 alternating   no penalty  FLOPs 1.0080  time 1.11  noise 0.99
             w  32 n  64 alternating   penalty     FLOPs 1.0079  time 1.08  noise 0.99

Conclusion   All of the excess in FLOPs is the guard that keeps parameters, multipliers and
             both optimizers' states to the bit when something is not finite: a select a
             number. Without it FLOPs were 1.0000 and times 0.93 to 1.01 at both sizes
             (measured before the derivative engine, whose FLOPs here are those of
             jax.jvp). A conditional instead of the selects brings the guard's FLOPs to
             0 but small steps to 1.3 of the time.
"""

import random
import statistics
import time
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

import jaxcon as jc

PRIMAL = optax.adam(1e-3)
PENALTY, RATE = 10.0, 1.0


def network(params: Any, x: jax.Array) -> jax.Array:
    for layer in params[:-1]:
        x = jnp.tanh(x @ layer["w"] + layer["b"])
    return (x @ params[-1]["w"] + params[-1]["b"])[0]


def problem(width: int, num: int) -> tuple[Any, Any]:
    sizes = (2, width, width, width, 1)
    keys = jax.random.split(jax.random.key(0), 6)
    params = [
        {"w": jax.random.normal(k, (m, n)) / m**0.5, "b": jnp.zeros(n)}
        for k, m, n in zip(keys, sizes, sizes[1:])
    ]
    x = jax.random.uniform(keys[4], (num, 2))
    points = jax.random.uniform(keys[5], (num, 2))
    return params, {"x": x, "y": jnp.sin(3 * x[:, 0]), "points": points}


def loss(params: Any, batch: Any) -> jax.Array:
    fitted = jax.vmap(partial(network, params))(batch["x"])
    return jnp.mean((fitted - batch["y"]) ** 2)


def falling(params: Any, batch: Any) -> jax.Array:
    """-df/dx0 by hand."""
    along = jnp.array([1.0, 0.0])

    def slope(x: jax.Array) -> jax.Array:
        return jax.jvp(partial(network, params), (x,), (along,))[1]

    return -jax.vmap(slope)(batch["points"])


def by_hand(carry: Any, batch: Any, order: str, penalty: float | None) -> Any:
    """The step as one writes it for one problem: no names, no checks, no guard."""
    params, moments, lam = carry

    def objective(params: Any) -> Any:
        f, g = loss(params, batch), falling(params, batch)
        new = jnp.maximum(lam + RATE * jax.lax.stop_gradient(g), 0)
        used = new if order == "alternating" else lam
        if penalty is None:
            priced = jnp.sum(used * g)
        else:
            pushed = jnp.maximum(used + penalty * g, 0)
            priced = jnp.sum(pushed**2 - used**2) / (2 * penalty)
        return f + priced, (f, jnp.max(jnp.maximum(g, 0)), new)

    (_, (f, worst, new)), gradient = jax.value_and_grad(objective, has_aux=True)(params)
    updates, moments = PRIMAL.update(gradient, moments, params)
    return (optax.apply_updates(params, updates), moments, new), (f, worst)


def measure(width: int, num: int, order: str, penalty: float | None) -> dict[str, Any]:
    params, batch = problem(width, num)
    constraints = jc.Constraints(
        inequality={"increasing": jc.shapes.increasing(network, 0, on="points")}
    )
    solver = getattr(jc, order)(
        loss, constraints, PRIMAL, jc.dual_ascent(optax.sgd(RATE)), penalty=penalty
    )
    ours = solver.init(params, batch)
    theirs = (params, PRIMAL.init(params), jnp.zeros(num))
    hand = partial(by_hand, order=order, penalty=penalty)
    flops = [
        count_flops(step, state, batch)
        for step, state in ((solver.step, ours), (hand, theirs))
    ]
    # The hand-written program runs twice a round: its ratio to itself is the noise.
    programs = [
        (loop(solver.step, batch), ours),
        (loop(hand, batch), theirs),
        (loop(hand, batch), theirs),
    ]
    for program, state in programs:
        jax.block_until_ready(program(state))
    turns = random.Random(0)
    rounds = []
    for _ in range(ROUNDS):
        times = [0.0] * len(programs)
        for i in turns.sample(range(len(programs)), len(programs)):
            program, state = programs[i]
            began = time.perf_counter()
            jax.block_until_ready(program(state))
            times[i] = (time.perf_counter() - began) / STEPS
        rounds.append(times)
    return {
        "flops": flops[0],
        "flops by hand": flops[1],
        "ms by hand": 1e3 * statistics.median(hand for _, hand, _ in rounds),
        "time ratio": statistics.median(ours / hand for ours, hand, _ in rounds),
        "noise": statistics.median(again / hand for _, hand, again in rounds),
    }


def count_flops(step: Any, state: Any, batch: Any) -> float:
    costs: Any = jax.jit(step).lower(state, batch).compile().cost_analysis()
    return costs["flops"]


STEPS, ROUNDS = 20, 41


def loop(step: Any, batch: Any) -> Any:
    """Twenty steps in one program, as `fit` runs them: dispatch is not the question."""

    @jax.jit
    def run(state: Any) -> Any:
        return jax.lax.scan(lambda s, _: step(s, batch), state, None, length=STEPS)

    return run


def main() -> None:
    print(f"jax {jax.__version__}, {jax.devices()[0].device_kind}")
    for width, num in ((128, 512), (32, 64)):
        for order in ("simultaneous", "alternating"):
            for penalty in (None, PENALTY):
                row = measure(width, num, order, penalty)
                print(
                    f"w {width:3d} n {num:3d} {order:12s} penalty {penalty!s:5s} "
                    f"FLOPs {row['flops']:.5g} / {row['flops by hand']:.5g} = "
                    f"{row['flops'] / row['flops by hand']:.4f}   time "
                    f"{row['time ratio']:.3f} (noise {row['noise']:.3f}) of "
                    f"{row['ms by hand']:.3f} ms",
                    flush=True,
                )


if __name__ == "__main__":
    main()
