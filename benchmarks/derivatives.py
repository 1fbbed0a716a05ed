"""What does a training step cost whose loss is made of exact input derivatives?

Question     Time, FLOPs, memory and compile time of the whole training step, the
             parameter gradient of the mean squared derivative over a batch, by jaxcon
             and by others, as ratios to the step of the same network and batch that
             uses the value alone: jit(value_and_grad(mean f(x)²)).
Conditions   A tanh network d-w-w-w-m, w 128, batch n 512 (256 from d = 50; w 64, n 128
             at d = 400), float32. One process on one core; all programs of a group
             compiled first (compile time apart), then run in turns of random order: in
             a turn, one run that is not counted and 5 ms or one run that are, as a
             training loop runs one program again and again. Processor time of all
             threads; ratio of 20th percentiles over the rounds. With --gate a turn is
             one run, which pays for what the program before it left in caches and
             memory; the value step pays most (0.63 ms become 1.0 at d = 50), so that
             ratios are lower. The targets were set so. On an accelerator: wall time,
             float32 matrix products, no pinning. "bound": GEMM FLOPs of the cheapest
             exact schedule known over those of the value step. "FLOPs" and "MiB", the
             temporaries, are what the compiled programs report (FLOPs of a tiled one
             are left out: a loop's body is counted once). "loss" and "gradient":
             relative differences from the group's first peer.
Run          python -m benchmarks.derivatives [--only laplacian-3,…] [--gate]
             [--figure benchmarks/derivatives.png] [--accelerator]; the peers are the
             dependency group of that name (pip 25.1: pip install --group peers)
Last         2026-11-21, jax 0.12.0, one of two Xeon cores (2 MiB of L2 each); no
             accelerator was measured. Time ratios to the value-only step:

                           bound jaxcon  tiled   folx jvp of grad torch autograd
             gradient-3     2.00   2.05   2.04      -           -           2.59
             directional-3  1.99   1.95   1.94      -           -           2.72
             jacobian-10   10.72  10.29   9.97      -           -          13.61
             jacobian-50   11.19   9.99  10.08      -           -          15.64
             laplacian-3    4.95   4.80   4.80   6.91       10.38          12.77
             laplacian-10  11.68  10.85   9.46  19.25       60.24          37.71
             laplacian-50  45.97 112.49  49.50 113.97      279.31         221.44
             laplacian-400 22.03  41.43  34.66 409.09     1583.86        2717.23
             all-3          4.95   4.98   5.04   7.33           -          13.36
             hessian-3      7.96   8.38   7.09      -       10.35          12.59
             fourth         4.97   5.45   5.08      -           -          39.89
             probes-50     15.99  15.91  14.74      -       81.65              -
             wave           4.94   4.65   4.83   8.25           -              -
             determinants      -  16.73  16.79  22.69      108.08              -
             mixed-50          -  18.78  16.82      -           -              -
             convolutions      -   1.00   1.00      -           -              -

             The last four on 2026-12-01. determinants: folx with sparsity 17.84;
             mixed-50: jax.hessian 249 and compiled in 1.16 s, jaxcon in 1.45 s.

             --gate, one run a turn, median of three: gradient 1.98, directional 1.88
             and 1.77, Jacobian 10x10 8.75, 50->10 8.68, Laplacian 4.39, 7.62, 32.2 and
             (d = 400) 10.6, all three 4.72, Hessian 6.71, fourth 4.90, 16 probes 13.0;
             118 of 119 targets met. Missed: FLOPs at d = 400, 1.13 of the bound then,
             1.047 now, of at most 1.03. Untiled temporaries 0.16 to 0.99 of folx's;
             3.3 MiB tiled at d = 50; compiled in 0.7 of folx's time at d = 3 and in at
             most 1.4 s anywhere.
Conclusion   Up to d = 50 every operator takes at most a tenth more than its FLOPs ask for,
             if tiled from 17 tangents on: stacked tangents of a whole batch leave the
             cache and double the time. Run again and again, two targets are out of
             reach: 49.5 against 33 at d = 50, where 33 is below the FLOP bound, and 34.7
             against 17 at d = 400, where the QR and the small products add to 22.
"""

import argparse
import importlib.util
import math
import os
import random
import sys
import time
from collections.abc import Callable, Container
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import _derivatives_peers as peers
from benchmarks._derivatives_groups import (
    GROUPS,
    Group,
    Size,
    difference,
    flat,
    laplacian_bound,
    laplacians,
    problem,
)
from benchmarks._derivatives_peers import Operator
from jaxcon import derivatives as jd

PLAIN, TILED = "jaxcon", "jaxcon tiled"
VALUE, TORCH_VALUE = "value only", "torch value only"


class Target(NamedTuple):
    """A row's quantity may be at most the limit, or the limit times another row's."""

    group: str
    row: str
    quantity: str
    limit: float
    against: str = ""


TARGETS = (
    Target("gradient-3", PLAIN, "time", 2.1),
    Target("value-gradient-3", PLAIN, "time", 2.1),
    Target("directional-3", PLAIN, "time", 2.0),
    Target("directional-10", PLAIN, "time", 2.0),
    Target("jacobian-10", TILED, "time", 10.2),
    Target("jacobian-50", TILED, "time", 13),
    Target("laplacian-3", PLAIN, "time", 5.0),
    Target("laplacian-10", TILED, "time", 11.2),
    Target("laplacian-50", TILED, "time", 33),
    Target("laplacian-400", TILED, "time", 17),
    Target("all-3", PLAIN, "time", 5.3),
    Target("hessian-3", TILED, "time", 9.5),
    Target("fourth", PLAIN, "time", 7.7),
    Target("probes-50", PLAIN, "time", 18),
    Target("laplacian-3", PLAIN, "time", 1 / 1.2, "folx"),
    Target("laplacian-10", TILED, "time", 1 / 1.6, "folx"),
    Target("laplacian-50", TILED, "time", 1 / 2, "folx"),
    Target("laplacian-3", PLAIN, "time", 1 / 2, "jvp of grad"),
    Target("laplacian-10", TILED, "time", 1 / 5, "jvp of grad"),
    Target("laplacian-50", TILED, "time", 1 / 5.5, "jvp of grad"),
    Target("laplacian-3", PLAIN, "time", 1 / 2.5, "torch autograd"),
    Target("laplacian-10", TILED, "time", 1 / 3.9, "torch autograd"),
    Target("gradient-3", PLAIN, "FLOPs/bound", 1.03),
    Target("directional-3", PLAIN, "FLOPs/bound", 1.03),
    Target("directional-10", PLAIN, "FLOPs/bound", 1.03),
    Target("laplacian-3", PLAIN, "FLOPs/bound", 1.03),
    Target("laplacian-10", PLAIN, "FLOPs/bound", 1.03),
    Target("laplacian-50", PLAIN, "FLOPs/bound", 1.03),
    Target("laplacian-400", PLAIN, "FLOPs/bound", 1.03),
    Target("laplacian-3", PLAIN, "MiB", 1, "folx"),
    Target("laplacian-10", PLAIN, "MiB", 1, "folx"),
    Target("laplacian-50", PLAIN, "MiB", 1, "folx"),
    Target("laplacian-400", PLAIN, "MiB", 1, "folx"),
    Target("laplacian-50", TILED, "MiB", 4),
    Target("laplacian-3", PLAIN, "compile s", 1.3, "folx"),
)
EVERYWHERE = {"compile s": 5.0, "loss": 1e-6, "gradient": 1e-6}  # both jaxcon rows
SLACK = {"time": 1.1, "compile s": 1.1}  # what a clock measured may miss by 10 %
FORMATS = {
    "time": ".2f",
    "FLOPs": ".2f",
    "FLOPs/bound": ".3f",
    "MiB": ".1f",
    "compile s": ".2f",
    "loss": ".0e",
    "gradient": ".0e",
}
FEWEST, MOST = 5, 201  # rounds
RUNS = 3  # of the gate; a target is missed that most of them miss
DRAWN = {
    TILED: ("jaxcon", "#0072b2", "o"),
    "folx": ("folx", "#d55e00", "s"),
    "jvp of grad": ("jvp of grad", "#009e73", "^"),
}
LARGEST_SECONDS, LARGEST_MIB = 3.0, 4096.0  # of a program drawn

Clock = Callable[[], float]


class Conditions(NamedTuple):
    """How to measure: the clock, seconds a group and a turn, and peers left out."""

    clock: Clock = time.process_time
    seconds: float = 6.0
    turn: float = 0.005
    absent: tuple[str, ...] = ()


class Program(NamedTuple):
    """A compiled step, returning its loss and gradient, and the costs of compiling it."""

    run: Callable[[], Any]
    flops: float = math.nan
    mib: float = math.nan
    seconds: float = math.nan


class Result(NamedTuple):
    """What each row measured, by quantity, and the value step behind the ratios."""

    rows: dict[str, dict[str, float]]
    seconds: float
    rounds: int


def plain_step(operator: Operator, view: Callable) -> Callable:
    one = example_loss(operator, view)
    return jax.value_and_grad(
        lambda params, batch: jnp.mean(jax.vmap(partial(one, params))(batch))
    )


def tiled_step(operator: Operator, view: Callable) -> Callable:
    return jd.value_and_grad(example_loss(operator, view), tile="auto")


def example_loss(operator: Operator, view: Callable) -> Callable:
    """The mean square of a derivative at one example, of several their sum."""

    def loss(params: Any, x: jax.Array) -> jax.Array:
        results = jax.tree.leaves(operator(partial(view, params))(x))
        squares = (
            jnp.real(r * jnp.conj(r)) for r in results
        )  # a complex one has a size
        return sum(map(jnp.mean, squares), jnp.zeros(()))

    return loss


def compile_group(
    group: Group, wanted: Container[str] | None, how: Conditions
) -> dict[str, Program]:
    """Compiles the rows wanted, the value step first."""
    group.prepare()
    params, x = problem(group)
    operators = {PLAIN: group.ours, TILED: group.ours, **group.others}
    steps = {VALUE: plain_step(lambda f: f, group.view)} | {
        name: (tiled_step if name == TILED else plain_step)(operator, group.view)
        for name, operator in operators.items()
    }
    methods = {TORCH_VALUE: peers.torch_value, **group.torch} if group.torch else {}

    def left_out(name: str) -> bool:
        unwanted = wanted is not None and name not in wanted
        return unwanted or name.startswith(how.absent)

    programs = {
        name: compile_step(step, params, x, how.clock, looped=name == TILED)
        for name, step in steps.items()
        if not left_out(name)
    }
    for name, method in methods.items():
        if not left_out(name):
            programs[name] = Program(peers.torch_step(method, params, x))
    return programs


def compile_step(
    step: Callable, params: Any, x: jax.Array, clock: Clock, looped: bool
) -> Program:
    began = clock()
    compiled = jax.jit(step).lower(params, x).compile()
    seconds = clock() - began
    costs: Any = compiled.cost_analysis()
    memory: Any = compiled.memory_analysis()
    return Program(
        run=lambda: jax.block_until_ready(compiled(params, x)),
        flops=math.nan if looped else costs["flops"],
        mib=memory.temp_size_in_bytes / 2**20,
        seconds=seconds,
    )


def run_in_turns(
    programs: dict[str, Program], how: Conditions
) -> dict[str, list[float]]:
    """Seconds a run of every program, in rounds that each have an order of their own."""
    turns = random.Random(0)
    times: dict[str, list[float]] = {name: [] for name in programs}
    began, rounds = how.clock(), 0
    while rounds < FEWEST or (rounds < MOST and how.clock() - began < how.seconds):
        for name in turns.sample(list(programs), len(programs)):
            times[name].append(take_turn(programs[name].run, how))
        rounds += 1
    return times


def take_turn(run: Callable[[], Any], how: Conditions) -> float:
    """Seconds a run, over as many runs as a turn takes; the first one is not counted.

    The first pays for the caches and for the memory that the last program gives back.
    """
    if how.turn:
        run()
    runs, began = 0, how.clock()
    while True:
        run()
        runs += 1
        if (taken := how.clock() - began) >= how.turn:
            return taken / runs


def measure(
    group: Group, how: Conditions, wanted: Container[str] | None = None
) -> Result:
    """Runs the rows wanted, or all."""
    programs = compile_group(group, wanted, how)
    answers = {name: flat(program.run()) for name, program in programs.items()}
    right = next((answers[name] for name in group.others if name in answers), None)
    times = run_in_turns(programs, how)
    typical = {name: float(np.quantile(t, 0.2)) for name, t in times.items()}
    bound = group.bound(group.size) / group.size.value_step
    rows = {}
    for name, program in programs.items():
        flops = program.flops / programs[VALUE].flops
        rows[name] = {
            "time": typical[name] / typical[VALUE],
            "FLOPs": flops,
            "FLOPs/bound": math.nan if name == VALUE else flops / bound,
            "MiB": program.mib,
            "compile s": program.seconds,
        }
        if right and name not in (VALUE, TORCH_VALUE):
            pairs = zip(("loss", "gradient"), answers[name], right)
            rows[name] |= {what: difference(a, b) for what, a, b in pairs}
    return Result(rows, typical[VALUE], len(times[VALUE]))


def print_table(name: str, group: Group, result: Result) -> None:
    n, d, m, w = group.size
    bound = group.bound(group.size) / group.size.value_step
    print(
        f"\n{name}: n {n}, d {d}, m {m}, w {w}; bound {bound:.2f}; value step "
        f"{1e3 * result.seconds:.3g} ms, {result.rounds} rounds"
    )
    print(" " * 22 + "".join(f"{quantity:>12}" for quantity in FORMATS))
    for row, found in result.rows.items():
        cells = (format_cell(q, found.get(q, math.nan)) for q in FORMATS)
        print(f"{row:22}" + "".join(f"{cell:>12}" for cell in cells))
    sys.stdout.flush()


def format_cell(quantity: str, value: float) -> str:
    return "-" if math.isnan(value) else format(value, FORMATS[quantity])


def passes_gate(measured: Callable[[str, Container[str]], Result], only: list) -> bool:
    """Measures three times what the targets name, and prints which are missed."""
    targets = [target for target in all_targets() if target.group in only]
    found: dict[Target, list[float]] = {target: [] for target in targets}
    for _ in range(RUNS):
        rows = {name: measured(name, named_rows(name, targets)).rows for name in only}
        for target in targets:
            if (value := read(target, rows[target.group])) is not None:
                found[target].append(value)
    missed = 0
    for target, values in found.items():
        verdict = judge_values(target, values)
        missed += verdict == "MISSED"
        over = f" / {target.against}" if target.against else ""
        cells = " ".join(format(value, ".3g") for value in values)
        print(
            f"{verdict:12}{target.group}: {target.quantity} of {target.row}{over}: "
            f"{cells} (at most {target.limit:.3g})"
        )
    print(f"{missed} of {len(targets)} targets missed")
    return not missed


def all_targets() -> list[Target]:
    common = [
        Target(group, row, quantity, limit)
        for group in GROUPS
        for row in (PLAIN, TILED)
        for quantity, limit in EVERYWHERE.items()
        # The logarithm of a determinant amplifies roundings, in every method.
        if group != "determinants" or quantity == "compile s"
    ]
    return [*TARGETS, *common]


def named_rows(name: str, targets: list[Target]) -> set[str]:
    """The rows that a group's targets need, and the one whose answers are right."""
    rows = {row for t in targets if t.group == name for row in (t.row, t.against)}
    return rows | {VALUE, next(iter(GROUPS[name].others))}


def read(target: Target, rows: dict[str, dict[str, float]]) -> float | None:
    """The quantity limited; None where the peer it is compared with is absent."""
    value = rows[target.row][target.quantity]
    if not target.against:
        return value
    if target.against not in rows:
        return None
    return value / rows[target.against][target.quantity]


def judge_values(target: Target, values: list[float]) -> str:
    if not values:
        return "not checked"
    allowed = target.limit * SLACK.get(target.quantity, 1.0)
    return "MISSED" if sum(not v <= allowed for v in values) > RUNS / 2 else "ok"


def sweep(sizes: list[Size], how: Conditions) -> dict[str, list[float]]:
    """Time ratios of the Laplacian over sizes; a row ends before it grows too large."""
    ratios: dict[str, list[float]] = {row: [] for row in DRAWN}
    going, before, result = set(DRAWN), sizes[0], None
    for size in sizes:
        growth = size.d * size.w / (before.d * before.w)
        if result:
            going &= {
                row
                for row, found in result.rows.items()
                if found["time"] * result.seconds * growth < LARGEST_SECONDS
                and found["MiB"] * growth < LARGEST_MIB
            }
        result = measure(laplacians(size), how, going | {VALUE})
        print_table("figure", laplacians(size), result)
        for row in DRAWN:
            ratios[row].append(result.rows.get(row, {}).get("time", math.nan))
        before = size
    return ratios


def draw(path: str, how: Conditions) -> None:
    """The Laplacian's step against the number of inputs and against the width."""
    from matplotlib import pyplot as plt
    from matplotlib import ticker

    plt.switch_backend("agg")
    by_d = [Size(256, d, 1, 128) for d in (1, 3, 10, 30, 100, 300, 1000)]
    by_w = [Size(256, 3, 1, w) for w in (32, 64, 128, 256, 512)]
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.8), layout="constrained")
    panels = (
        (axes[0], by_d, [s.d for s in by_d], "inputs d (width 128)"),
        (axes[1], by_w, [s.w for s in by_w], "width w (3 inputs)"),
    )
    for axis, sizes, x, label in panels:
        for row, ratios in sweep(sizes, how).items():
            name, color, marker = DRAWN[row]
            axis.plot(x, ratios, color=color, marker=marker, label=name)
        bound = [laplacian_bound(s) / s.value_step for s in sizes]
        axis.plot(x, bound, color="black", linestyle="--", label="FLOP bound")
        axis.set(xscale="log", yscale="log", xlabel=label)
        axis.set_xticks(x, [str(value) for value in x], minor=False)
        axis.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
        axis.yaxis.set_major_formatter("{x:g}")
        axis.minorticks_off()
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(axis="y", color="0.9")
    axes[0].set_ylabel("time of a training step\n(value-only step = 1)")
    axes[0].legend(frameon=False)
    figure.savefig(path, dpi=160)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.derivatives")
    parser.add_argument("--only", help="groups to measure, as in " + ",".join(GROUPS))
    parser.add_argument("--seconds", type=float, default=6, help="for turns, a group")
    parser.add_argument(
        "--turn", type=float, help="milliseconds, 5 or with --gate 0: one run"
    )
    parser.add_argument("--gate", action="store_true", help="check the targets")
    parser.add_argument("--figure", metavar="PNG", help="draw the Laplacian's cost")
    parser.add_argument("--accelerator", action="store_true", help="JAX's own device")
    args = parser.parse_args()
    only = args.only.split(",") if args.only else list(GROUPS)
    if unknown := set(only) - set(GROUPS):
        parser.error(f"no group {', '.join(sorted(unknown))}")
    if args.gate and args.accelerator:
        parser.error("the targets are those of one CPU core")

    clock = prepare(args.accelerator)
    absent = tuple(n for n in ("folx", "torch") if not importlib.util.find_spec(n))
    for name in absent:
        print(f"{name} is not installed: its rows are left out")
    if args.accelerator:
        absent += ("torch",)  # its rows run on the CPU
    # The targets were set with one run a turn.
    turn = args.turn if args.turn is not None else 0 if args.gate else 5
    how = Conditions(clock, args.seconds, turn / 1e3, absent)

    if args.figure:
        draw(args.figure, how)
        return

    def measured(name: str, wanted: Container[str] | None = None) -> Result:
        result = measure(GROUPS[name], how, wanted)
        print_table(name, GROUPS[name], result)
        return result

    if args.gate:
        sys.exit(not passes_gate(measured, only))
    for name in only:
        measured(name)


def prepare(accelerator: bool) -> Clock:
    """Chooses the device and the clock, before JAX starts its threads."""
    if accelerator:
        jax.config.update("jax_default_matmul_precision", "float32")
        clock, how = time.perf_counter, "wall time"
    else:
        jax.config.update("jax_platforms", "cpu")
        clock, how = time.process_time, "processor time of all threads"
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
            how += " on one core"
    print(f"jax {jax.__version__}, {jax.devices()[0].device_kind}, {how}")
    return clock


if __name__ == "__main__":
    main()
