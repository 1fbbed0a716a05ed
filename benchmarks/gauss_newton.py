"""What does a Gauss-Newton step cost on networks of any width?

Question     Seconds and memory of a step of `gauss_newton`, conditions as multipliers, by
             the number of parameters; and how far its move is from that of the matrix of
             the parameters, where that fits. The aim: 33,537 parameters and 768 residuals
             in at most 0.5 s on two free cores and 1 GB, the same move to 1e-8.
Conditions   Poisson's equation on the unit square, tanh networks 2-w-w-w-1, 512 points
             inside and 256 on the edges, float64. Each width in a process of its own: the
             peak of its memory is that of everything, Python and compilation too. Median
             of 15 steps, of which some try several dampings; compilation apart.
Run          python -m benchmarks.gauss_newton
Last         2026-12-01, jax 0.12.0.1, two free CPU cores; no accelerator was measured.

             parameters  s/step   GiB  compiled    apart
                    609   0.018  0.52       1.7    0e+00
                   2241   0.055  0.63       2.8    6e-14
                   4897   0.087  0.66       2.7    1e-13
                  33537   0.320  0.85       2.7      nan

Conclusion   Both aims are met. Below 768 parameters the matrix is the parameters' own.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

import jaxcon as jc
from jaxcon.transforms import _gauss_newton as forms

WIDTHS = (16, 32, 48, 128)
INSIDE, EDGES, STEPS = 512, 64, 15
# Parameters above which the matrix of the parameters is left out.
_WHOLE = 5000


def problem(width: int) -> tuple[jc.Lagrangian, jax.Array, dict[str, jax.Array]]:
    """Builds the problem, its parameters and its batch."""
    network = jc.layers.mlp(2, width=width, depth=4)

    def equation(params: dict, batch: dict) -> jax.Array:
        def at(x: jax.Array) -> jax.Array:
            bend = jc.derivatives.laplacian(lambda x: network.apply(params, x))(x)
            return bend + 2 * jnp.pi**2 * jnp.prod(jnp.sin(jnp.pi * x))

        return jax.vmap(at)(batch["inside"])

    def edges(params: dict, batch: dict) -> jax.Array:
        return jax.vmap(lambda x: network.apply(params, x))(batch["edges"])

    loss = jc.MeanSquares({"equation": equation})
    held = jc.Constraints({"edges": edges})
    batch = {
        "inside": jc.points.sobol([0.0, 0.0], [1.0, 1.0], INSIDE),
        "edges": jc.points.boundary([0.0, 0.0], [1.0, 1.0], EDGES).points,
    }
    params = network.init(jax.random.key(0))
    return jc.Lagrangian(loss, held, penalty=10.0), params, batch


def measured(width: int) -> dict[str, float]:
    """Measures the steps of one width."""
    lagrangian, params, batch = problem(width)
    primal = jc.gauss_newton(lagrangian)
    solver = jc.alternating(lagrangian, primal, jc.every(jc.method_of_multipliers(), 5))
    state = solver.init(params, batch)
    size = ravel_pytree(params)[0].size
    began = time.perf_counter()
    step = jax.jit(solver.step).lower(state, batch).compile()
    compiling = time.perf_counter() - began
    first, times = None, []
    for _ in range(STEPS):
        began = time.perf_counter()
        state, _ = jax.block_until_ready(step(state, batch))
        times.append(time.perf_counter() - began)
        first = state.params if first is None else first
    apart, peak = float("nan"), _peak()
    if size < _WHOLE:
        # Another form of the same step.
        forms.of_rows = forms.of_parameters
        whole, _ = jax.jit(lambda s, b: solver.step(s, b))(
            solver.init(params, batch), batch
        )
        moves = [
            ravel_pytree(p)[0] - ravel_pytree(params)[0] for p in (first, whole.params)
        ]
        apart = float(jnp.linalg.norm(moves[0] - moves[1]) / jnp.linalg.norm(moves[1]))
    return {
        "parameters": size,
        "seconds": statistics.median(times),
        "compilation": compiling,
        "apart": apart,
        "gib": peak,
    }


def _peak() -> float:
    """Returns this process's own peak of memory, in GiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    kib = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    return kib / 2**20


def main() -> None:
    """Prints a row for each width."""
    print(
        f"{'parameters':>10s} {'s/step':>7s} {'GiB':>5s} {'compiled':>9s} {'apart':>8s}"
    )
    for width in WIDTHS:
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.gauss_newton", str(width)],
            env=os.environ | {"JAX_ENABLE_X64": "1"},
            capture_output=True,
            text=True,
            check=True,
        )
        row = json.loads(done.stdout.strip().splitlines()[-1])
        print(
            f"{row['parameters']:10d} {row['seconds']:7.3f} {row['gib']:5.2f} "
            f"{row['compilation']:9.1f} {row['apart']:8.0e}",
            flush=True,
        )


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(measured(int(sys.argv[1]))))
    else:
        main()
