"""What does a constrained step cost against one written out by hand?

Question     FLOPs, time, memory and compilation of jaxcon's step and of `fit` over a step
             written out for the same problem and method, its Lagrangian and its multiplier
             update spelled out, reporting loss and worst violation, without a guard.
Conditions   Alternating steps of an augmented Lagrangian, Adam, SGD on the multipliers,
             float32. Cases: constraints on the loss's own outputs; the exact derivative at
             the loss's points and at others; 200 named constraints, each one number, each
             a network's output, each a shape; 10^3 to 10^7 parameters with 16 points; tiny
             steps. "scan" is jaxcon's step in the user's own scan, "fit" a whole call of
             `jc.fit` (its second), both without compilation; "noise" the hand-written
             program against a second compilation of itself. Run in random turns in one
             process; median over the rounds of each round's ratio. FLOPs and temporary
             memory are what the compiled programs report.
Run          python -m benchmarks.step_overhead [CASE ...]
Last         2026-11-29, jax 0.12.0, two CPU cores; no accelerator was measured. "200 names,
             shapes" was not run to its end.

                                         FLOPs   scan    fit  noise memory compile
             same outputs, function,
               w 32 n 128               1.0175  1.010  0.812  0.948  1.202   1.664
               w 256 n 1024             1.0008  1.030  1.051  0.997  0.946   1.496
             same outputs, shape,
               w 32 n 128               1.0175  1.018  0.858  0.930  1.202   1.532
               w 256 n 1024             1.0008  1.009  1.092  0.973  0.946   1.872
             same points, w 32 n 64     1.0196  1.115  0.878  0.948  1.087   1.762
             other points, w 32 n 64    1.0149  1.030  0.852  0.967  1.036   1.554
             other points, w 128 n 512  1.0003  1.062  1.244  1.000  0.940   1.543
             50 names, numbers          0.7147  1.210  0.690  1.026  0.673   0.950
             200 names, numbers         0.5662  0.837  1.138  0.996  0.207   0.871
             200 names, outputs         0.7146  1.540  2.856  0.990  0.826   0.946
             10^3 parameters            1.0572  1.031  1.118  0.987  1.186   1.396
             10^4 parameters            1.0464  1.126  1.222  1.007  1.082   2.035
             10^5 parameters            1.0099  1.035  1.178  1.026  1.014   1.332
             10^6 parameters            1.0101  1.084  1.133  1.035  1.000   1.672
             10^7 parameters            1.0099  0.970  1.639  0.970  1.000   1.856
             tiny                       1.0407  1.109  1.220  0.978  1.072   1.216
             10 numbers                 3.3227  1.398  4.647  0.982  1.848   1.997

Conclusion   The backward pass of shared outputs is paid once. What exceeds the hand-written
             FLOPs is the guard: below 10^5 numbers of state a select for each, above them
             the reading of the gradient. `fit` also records every step and keeps the best
             iterate: a copy of the parameters, which shows at 10^7. "10 numbers" is a step
             of 0.2 µs, to which `fit` adds 0.8.
"""

import random
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

import jaxcon as jc

PENALTY, RATE = 10.0, 1.0
PRIMAL = optax.adam(1e-3)
ROUNDS = 15


class Case(NamedTuple):
    """One problem, in jaxcon's words and by hand.

    Attributes:
        problem: the `Lagrangian`.
        hand: (params, batch) -> loss and a dict of residuals, inequalities.
        params: theta.
        batch: of every step.
        steps: in one call.
    """

    problem: jc.Lagrangian
    hand: Callable[[Any, Any], tuple[jax.Array, dict[str, jax.Array]]]
    params: Any
    batch: Any
    steps: int


def network(params: Any, x: jax.Array) -> jax.Array:
    for layer in params[:-1]:
        x = jnp.tanh(x @ layer["w"] + layer["b"])
    return x @ params[-1]["w"] + params[-1]["b"]


def first_output(params: Any, x: jax.Array) -> jax.Array:
    return network(params, x)[0]


def start(width: int, outputs: int = 1, depth: int = 3) -> Any:
    sizes = (2, *[width] * depth, outputs)
    keys = jax.random.split(jax.random.key(0), len(sizes) - 1)
    return [
        {"w": jax.random.normal(k, (m, n)) / m**0.5, "b": jnp.zeros(n)}
        for k, m, n in zip(keys, sizes, sizes[1:])
    ]


def data(num: int, outputs: int = 1) -> Any:
    keys = jax.random.split(jax.random.key(1), 2)
    x = jax.random.uniform(keys[0], (num, 2))
    y = jnp.sin(3 * x[:, :1] + jnp.arange(outputs))
    return {"x": x, "y": y, "points": jax.random.uniform(keys[1], (num, 2))}


def fitted(params: Any, batch: Any) -> jax.Array:
    return jax.vmap(partial(network, params))(batch["x"])


def mse(params: Any, batch: Any) -> jax.Array:
    return jnp.mean((fitted(params, batch) - batch["y"]) ** 2)


def slope_by_hand(params: Any, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    along = jnp.array([1.0, 0.0])
    f = partial(network, params)
    return jax.vmap(lambda x: jax.jvp(f, (x,), (along,)))(x)


def inequality(**functions: Any) -> jc.Constraints:
    return jc.Constraints(inequality=functions)


def same_outputs(width: int, num: int, shape: bool) -> Case:
    """Outputs that add up to at most one, at the data: a function, or a shape."""
    total = jc.shapes.Pointwise(
        network, "x", (jc.derivatives.Value(),), lambda x, y: jnp.sum(y) - 1.0
    )
    own = lambda params, batch: jnp.sum(fitted(params, batch), axis=1) - 1.0  # noqa: E731
    problem = jc.Lagrangian(
        mse, inequality(sum=total if shape else own), penalty=PENALTY
    )

    def hand(params: Any, batch: Any) -> Any:
        y = fitted(params, batch)
        return jnp.mean((y - batch["y"]) ** 2), {"sum": jnp.sum(y, axis=1) - 1.0}

    return Case(problem, hand, start(width, 3), data(num, 3), 20)


def same_points(width: int, num: int) -> Case:
    """The exact derivative at the data's points, which the loss evaluates too."""
    rises = jc.shapes.increasing(first_output, 0, on="x")
    problem = jc.Lagrangian(mse, inequality(rises=rises), penalty=PENALTY)

    def hand(params: Any, batch: Any) -> Any:
        y, slope = slope_by_hand(params, batch["x"])
        return jnp.mean((y - batch["y"]) ** 2), {"rises": -slope[:, 0]}

    return Case(problem, hand, start(width), data(num), 20)


def other_points(width: int, num: int) -> Case:
    """The exact derivative at points of its own."""
    rises = jc.shapes.increasing(first_output, 0, on="points")
    problem = jc.Lagrangian(mse, inequality(rises=rises), penalty=PENALTY)

    def hand(params: Any, batch: Any) -> Any:
        _, slope = slope_by_hand(params, batch["points"])
        return mse(params, batch), {"rises": -slope[:, 0]}

    return Case(problem, hand, start(width), data(num), 20)


def named_numbers(count: int) -> Case:
    """Constraints of one parameter each."""
    rules = {f"p{i}": lambda p, _, i=i: p[i] - 0.1 for i in range(count)}
    loss = lambda p, _: jnp.sum((p - 1.0) ** 2)  # noqa: E731
    problem = jc.Lagrangian(loss, inequality(**rules), penalty=PENALTY)

    def hand(params: Any, batch: Any) -> Any:
        return loss(params, batch), {
            k: rule(params, batch) for k, rule in rules.items()
        }

    return Case(problem, hand, jnp.zeros(count), None, 200)


def named_outputs(count: int) -> Case:
    """Constraints of one output of a network each."""
    rules = {
        f"y{i}": lambda p, batch, i=i: jnp.mean(fitted(p, batch)[:, i]) - 0.1
        for i in range(count)
    }
    problem = jc.Lagrangian(mse, inequality(**rules), penalty=PENALTY)

    def hand(params: Any, batch: Any) -> Any:
        y = fitted(params, batch)
        found = {f"y{i}": jnp.mean(y[:, i]) - 0.1 for i in range(count)}
        return jnp.mean((y - batch["y"]) ** 2), found

    return Case(problem, hand, start(32, count), data(64, count), 50)


def named_shapes(count: int) -> Case:
    """Shape constraints, all of one network at the same points."""
    rules = {
        f"b{i}": jc.shapes.bounded(first_output, upper=1.0 + i, on="points")
        for i in range(count)
    }
    problem = jc.Lagrangian(mse, inequality(**rules), penalty=PENALTY)

    def hand(params: Any, batch: Any) -> Any:
        y = jax.vmap(partial(first_output, params))(batch["points"])
        return mse(params, batch), {f"b{i}": y - (1.0 + i) for i in range(count)}

    return Case(problem, hand, start(32), data(64), 50)


def many_parameters(number: int) -> Case:
    """The exact derivative at 16 points, of a network with about so many parameters."""
    case = other_points(max(4, round((number / 2) ** 0.5)), 16)
    return case._replace(steps=max(3, min(200, 20_000_000 // number)))


def tiny() -> Case:
    """A mean constraint of a network of 49 parameters at 64 points."""
    rule = lambda params, batch: jnp.mean(fitted(params, batch)) - 0.1  # noqa: E731
    problem = jc.Lagrangian(mse, inequality(mean=rule), penalty=PENALTY)

    def hand(params: Any, batch: Any) -> Any:
        y = fitted(params, batch)
        return jnp.mean((y - batch["y"]) ** 2), {"mean": jnp.mean(y) - 0.1}

    return Case(problem, hand, start(12, depth=1), data(64), 2000)


def scalars(count: int) -> Case:
    """Few constraints of one number: what `fit` adds to a bare loop."""
    return named_numbers(count)._replace(steps=20_000)


CASES: dict[str, Callable[[], Case]] = {
    "same outputs, function, w 32 n 128": lambda: same_outputs(32, 128, False),
    "same outputs, function, w 256 n 1024": lambda: same_outputs(256, 1024, False),
    "same outputs, shape, w 32 n 128": lambda: same_outputs(32, 128, True),
    "same outputs, shape, w 256 n 1024": lambda: same_outputs(256, 1024, True),
    "same points, slope, w 32 n 64": lambda: same_points(32, 64),
    "other points, slope, w 32 n 64": lambda: other_points(32, 64),
    "other points, slope, w 128 n 512": lambda: other_points(128, 512),
    "50 names, numbers": lambda: named_numbers(50),
    "200 names, numbers": lambda: named_numbers(200),
    "200 names, outputs": lambda: named_outputs(200),
    "200 names, shapes": lambda: named_shapes(200),
    "10^3 parameters": lambda: many_parameters(10**3),
    "10^4 parameters": lambda: many_parameters(10**4),
    "10^5 parameters": lambda: many_parameters(10**5),
    "10^6 parameters": lambda: many_parameters(10**6),
    "10^7 parameters": lambda: many_parameters(10**7),
    "tiny": tiny,
    "10 numbers": lambda: scalars(10),
}


def by_hand(case: Case) -> tuple[Callable[[Any], Any], Any]:
    """The step as one writes it for one problem: no checks, no guard."""

    def step(carry: Any) -> Any:
        params, moments, multipliers = carry

        def objective(params: Any) -> Any:
            f, g = case.hand(params, case.batch)
            new, penalties = {}, []
            for name, residual in g.items():
                fixed = jax.lax.stop_gradient(residual)
                new[name] = jnp.maximum(multipliers[name] + RATE * fixed, 0)
                pushed = jnp.maximum(new[name] + PENALTY * residual, 0)
                penalties.append(jnp.sum(pushed**2 - new[name] ** 2) / (2 * PENALTY))
            worst = jnp.max(jnp.stack([jnp.max(r) for r in g.values()]))
            return f + sum(penalties), (f, jnp.maximum(worst, 0), new)

        gradient, (f, worst, new) = jax.grad(objective, has_aux=True)(params)
        updates, moments = PRIMAL.update(gradient, moments, params)
        return (optax.apply_updates(params, updates), moments, new), (f, worst)

    shapes = jax.eval_shape(case.hand, case.params, case.batch)[1]
    zeros = jax.tree.map(lambda r: jnp.zeros(r.shape, r.dtype), shapes)
    return step, (case.params, PRIMAL.init(case.params), zeros)


def compiled(step: Callable[[Any], Any], start: Any, steps: int) -> tuple[Any, float]:
    """The program of some steps in one scan, and the seconds to build it."""

    def run(state: Any) -> Any:
        return jax.lax.scan(lambda state, _: step(state), state, None, length=steps)

    began = time.perf_counter()
    program = jax.jit(run).lower(start).compile()
    return program, time.perf_counter() - began


def flops(step: Callable[[Any], Any], start: Any) -> float:
    costs: Any = jax.jit(step).lower(start).compile().cost_analysis()
    return costs["flops"]


def measure(case: Case, rounds: int = ROUNDS) -> dict[str, float]:
    """Ratios of jaxcon to the program by hand."""
    solver = jc.alternating(case.problem, PRIMAL, jc.dual_ascent(optax.sgd(RATE)))
    state = solver.init(case.params, case.batch)

    def ours(state: Any) -> Any:
        state, info = solver.step(state, case.batch)
        return state, (info.loss, info.max_violation)

    hand, carry = by_hand(case)
    program, to_build = compiled(ours, state, case.steps)
    theirs, to_build_theirs = compiled(hand, carry, case.steps)
    again, _ = compiled(hand, carry, case.steps)

    def fit(steps: int) -> Any:
        return jc.fit(solver, state, case.batch, steps=steps, progress=False).state

    began = time.perf_counter()
    fit(case.steps)
    first_fit = time.perf_counter() - began
    began = time.perf_counter()
    jax.block_until_ready(theirs(carry))
    # A run of a few tenths of a second: a call of `fit` has a cost of its own.
    turns = max(1, round(0.3 / (time.perf_counter() - began)))
    lanes = {
        "scan": lambda: program(state),
        "fit": lambda: fit(turns * case.steps),
        "hand": lambda: theirs(carry),
        "noise": lambda: again(carry),
    }
    for run in lanes.values():
        jax.block_until_ready(run())
    times: list[dict[str, float]] = []
    for seed in range(rounds):
        order = random.Random(seed).sample(list(lanes), len(lanes))
        found = {}
        for name in order:
            began = time.perf_counter()
            jax.block_until_ready(lanes[name]())
            found[name] = time.perf_counter() - began
        found["fit"] /= turns
        times.append(found)

    def ratio(name: str) -> float:
        return statistics.median(row[name] / row["hand"] for row in times)

    memory = [p.memory_analysis().temp_size_in_bytes for p in (program, theirs)]
    return {
        "flops": flops(ours, state) / flops(hand, carry),
        "scan": ratio("scan"),
        "fit": ratio("fit"),
        "noise": ratio("noise"),
        "memory": memory[0] / max(memory[1], 1),
        "us by hand": 1e6 * statistics.median(r["hand"] for r in times) / case.steps,
        "compile": to_build / to_build_theirs,
        "s to compile by hand": to_build_theirs,
        "first fit": first_fit / to_build_theirs,
    }


def main() -> None:
    wanted = sys.argv[1:]
    print(f"jax {jax.__version__}, {jax.devices()[0].device_kind}")
    print(
        f"{'':38s} FLOPs   scan    fit  noise memory compile first fit  "
        "by hand: µs a step, s to compile"
    )
    for name, make in CASES.items():
        if wanted and not any(part in name for part in wanted):
            continue
        row = measure(make())
        print(
            f"{name:38s}{row['flops']:6.4f}{row['scan']:7.3f}{row['fit']:7.3f}"
            f"{row['noise']:7.3f}{row['memory']:7.3f}{row['compile']:8.3f}"
            f"{row['first fit']:10.3f}{row['us by hand']:12.1f}"
            f"{row['s to compile by hand']:8.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
