"""Does clipping save the network that explodes while it learns lambda?

Question     A network reads all paths of a diffusion at one time and gives lambda, trained
             on k = lambda mean x² one time after another. How many of ten runs blow up,
             and how many end near the truth, without and with each clip?
Answer       Every clip saves all ten runs, but for the z-score at its paper's limit of 2.5.
Conditions   50 paths of `jaxcon.examples.diffusion`'s law at 100 times up to 5, raw;
             lambda = 1/4; 16 tanh units; plain SGD on the squared error of one time, in an
             order drawn anew for each of 300 epochs; float32, ten seeds in one program.
             Blown up: a step that is not finite, or |lambda| over 1,000 at the end.
             Converged: a mean relative error of lambda below 5 % over all times. "fired"
             is the share of steps at which the clip changed the gradient; "by step": the
             last of the seeds that blew up had a loss over 1e8 at that step.
Run          python -m benchmarks.exploding
Last         2026-11-25, jax 0.12.0, CPU (the machine matters to no figure).

             rate    clip                    blown up (by step)  converged  worst  fired
             0.001   none                    7/10 (170)               3/10  1e+19     0%
             0.001   each of those below     0/10                    10/10   0.04 13-99%
             0.0015  none                   10/10 (54)                0/10  3e+19     0%
             0.0015  clip(0.3)               0/10                    10/10  0.026    48%
             0.0015  clip_by_global_norm(1)  0/10                    10/10  0.017    51%
             0.0015  clip_by_block_rms(0.3)  0/10                    10/10  0.022    44%
             0.0015  adaptive_grad_clip(2)   0/10                    10/10  0.023    99%
             0.0015  clip_by_percentile()    0/10                    10/10  0.036    90%
             0.0015  clip_by_z_score(1.5)    0/10                    10/10  0.016    52%
             0.0015  clip_by_z_score()       2/10 (61)                8/10  2e+17    17%

Conclusion   Unclipped it blows up within the first epoch of 100 steps: at the rate of the
             example's raw data, 0.001, on seven seeds, at half as much again on all. Every
             clip saves all ten, but for the z-score at its paper's limit of 2.5: what
             grows by less than that at every step is no outlier among its own past.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxcon as jc
from jaxcon.examples import diffusion

LAMBDA, PATHS, TIMES, LAST, WIDTH, EPOCHS, SEEDS = 0.25, 50, 100, 5.0, 16, 300, 10
RATES = (1e-3, 1.5e-3)
CLIPS = {
    "none": optax.identity(),
    "clip(0.3)": optax.clip(0.3),
    "clip_by_global_norm(1)": optax.clip_by_global_norm(1.0),
    "clip_by_block_rms(0.3)": optax.clip_by_block_rms(0.3),
    "adaptive_grad_clip(2)": optax.adaptive_grad_clip(2.0),
    "clip_by_percentile()": jc.clip_by_percentile(),
    "clip_by_z_score(1.5)": jc.clip_by_z_score(1.5),
    "clip_by_z_score()": jc.clip_by_z_score(),
}


class Runs(NamedTuple):
    """Results of some seeds.

    Attributes:
        finite: whether all steps were, (seeds,).
        step: the first at which the loss was over 1e8, or the number of steps, (seeds,).
        error: mean relative error of lambda, (seeds,).
        fired: share of steps, (seeds,).
    """

    finite: np.ndarray
    step: np.ndarray
    error: np.ndarray
    fired: np.ndarray

    @property
    def blown_up(self) -> int:
        """How many seeds."""
        return int(np.sum(~self.finite | ~(self.error < 1000 / LAMBDA)))

    @property
    def converged(self) -> int:
        """How many seeds."""
        return int(np.sum(self.finite & (self.error < 0.05)))


def network(params: Any, x: jax.Array) -> jax.Array:
    """Lambda from all paths at one time."""
    return jnp.tanh(x @ params["w"] + params["b"]) @ params["v"] + params["c"]


def squared_error(params: Any, batch: Any) -> jax.Array:
    """Of one time's k."""
    return (network(params, batch["x"]) * batch["m"] - batch["k"]) ** 2


def run(seed: jax.Array, clip: optax.GradientTransformation, rate: float) -> Any:
    """One seed's entry of each part of `Runs`."""
    for_paths, for_params, for_order = jax.random.split(jax.random.key(seed), 3)
    times = jnp.linspace(LAST / TIMES, LAST, TIMES)
    x = diffusion.simulate(for_paths, times, **diffusion.LAW, paths=PATHS)
    m = jnp.mean(x**2, axis=1)
    data = {"x": x, "m": m, "k": LAMBDA * m}
    inner, outer = jax.random.split(for_params)
    params = {
        "w": jax.random.normal(inner, (PATHS, WIDTH)) / PATHS**0.5,
        "b": jnp.zeros(WIDTH),
        "v": jax.random.normal(outer, (WIDTH,)) / WIDTH**0.5,
        "c": jnp.zeros(()),
    }
    solver = jc.simultaneous(
        jc.Lagrangian(squared_error, jc.Constraints()),
        optax.chain(jc.counted("clip", clip), optax.sgd(rate)),
        optax.set_to_zero(),
    )

    def step(state: Any, j: jax.Array) -> Any:
        state, info = solver.step(state, jax.tree.map(lambda rows: rows[j], data))
        return state, (info.clipped["clip"], ~(info.loss < 1e8))

    keys = jax.random.split(for_order, EPOCHS)
    order = jax.vmap(lambda key: jax.random.permutation(key, TIMES))(keys)
    start = solver.init(params, jax.tree.map(lambda rows: rows[0], data))
    state, (fired, huge) = jax.lax.scan(step, start, order.ravel())
    found = jax.vmap(partial(network, state.params))(x)
    error = jnp.mean(jnp.abs(found / LAMBDA - 1))
    first = jnp.where(jnp.any(huge), jnp.argmax(huge), len(huge))
    return state.skipped == 0, first, error, jnp.mean(fired)


def measure(
    clip: optax.GradientTransformation, rate: float, seeds: int = SEEDS
) -> Runs:
    """All seeds, in one program."""
    many = jax.jit(jax.vmap(partial(run, clip=clip, rate=rate)))
    return Runs(*map(np.asarray, many(jnp.arange(seeds))))


def main() -> None:
    print(
        "rate     clip                     blown up (by step)  converged  worst error"
    )
    for rate in RATES:
        for name, clip in CLIPS.items():
            runs = measure(clip, rate)
            late = np.max(runs.step[runs.step < EPOCHS * TIMES], initial=0)
            when = f"({late})" if runs.blown_up else ""
            print(
                f"{rate:<8g} {name:24s} {runs.blown_up:5d}/{SEEDS} {when:10s}"
                f"{runs.converged:10d}/{SEEDS}{np.max(runs.error):13.3g}"
                f"   fired {np.mean(runs.fired):.1%}",
                flush=True,
            )


if __name__ == "__main__":
    main()
