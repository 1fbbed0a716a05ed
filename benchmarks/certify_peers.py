"""How tight are bounds of derivatives, beside those of immrax?

Question     How wide are proved bounds of a network's gradient over a box, beside those of
             immrax, which propagates intervals through `jax.jacfwd`, at equal time?
Conditions   The trained networks of benchmarks.certify of 3 x 64 tanh units, rising in all
             inputs; 64 boxes at random places of [0, 1]^d, of sides 1/4 to 1/256; float32.
             Both are compiled for batches of boxes and timed side by side, the fastest of
             five repeats. immrax may cut each box into as many equal parts as
             take no longer than one of ours. Width of the widest entry, median of boxes.
             immrax knows no rule for the newest derivative of `jnp.tanh`, so there it is
             given one as 1 - tanh^2.
Run          python -m benchmarks.certify_peers       (needs immrax, which is no
             dependency of jaxcon: pip install -e ".[peers]")
Answer       Ours are 10 to 147 times as tight; cutting a box once in each input already
             takes immrax longer than one of ours takes.
Last         2026-12-01, jax 0.12.0, immrax 0.3.8, two CPU cores, beside other work:

             inputs   side  parts of immrax'  width: ours   immrax   ratio
                  2   1/4             1            23.8       428    17.9
                  2   1/16            1           0.459      67.5   147.2
                  2   1/64            1           0.104      10.8   103.9
                  2   1/256           1          0.0632      2.47    39.1
                  4   1/4             1              56       590    10.5
                  4   1/16            1            1.02        93    91.5
                  4   1/64            1            0.17      13.2    77.4
                  4   1/256           1          0.0972      2.81    28.9
"""

import time
from collections.abc import Callable
from itertools import product
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.certify import CASES, Params, apply, trained
from jaxcon import certify
from jaxcon.derivatives import Gradient

BOXES, REPEATS = 64, 5
SIDES = (1 / 4, 1 / 16, 1 / 64, 1 / 256)
CHOSEN = (2, 5)  # of the cases, with 2 and 4 inputs

Bounded = Callable[[Any, Any], tuple[jax.Array, jax.Array]]


@jax.custom_jvp
def tanh(x: jax.Array) -> jax.Array:
    """Evaluates the hyperbolic tangent."""
    return jnp.tanh(x)


@tanh.defjvp
def _tanh_jvp(primals: Any, tangents: Any) -> Any:
    y = jnp.tanh(primals[0])
    return y, (1 - y * y) * tangents[0]


def ours(params: Params) -> Bounded:
    """Returns our bounds of the gradient over one box."""

    def bounded(low: jax.Array, high: jax.Array) -> tuple[jax.Array, jax.Array]:
        found = certify.bounds(lambda x: apply(params, x), low, high, Gradient())
        return found.gradient.lower, found.gradient.upper

    return bounded


def immrax_s(params: Params) -> Bounded:
    """Returns immrax' bounds of the gradient over one box."""
    import immrax  # pyright: ignore[reportMissingImports]

    def network(x: jax.Array) -> jax.Array:
        h = 2 * x - 1
        for w, b in params[:-1]:
            h = tanh(h @ w + b)
        w, b = params[-1]
        return (h @ w + b)[0]

    natural = immrax.natif(jax.jacfwd(network))

    def bounded(low: jax.Array, high: jax.Array) -> tuple[jax.Array, jax.Array]:
        found = natural(immrax.interval(low, high))
        return found.lower, found.upper

    return bounded


def cut(low: jax.Array, side: float, each: int) -> tuple[jax.Array, jax.Array]:
    """Cuts boxes (n, d) into each^d equal ones, (n, each^d, d)."""
    d = low.shape[1]
    places = np.array(list(product(range(each), repeat=d)), np.float32) / each
    lower = low[:, None] + side * jnp.asarray(places)[None]
    return lower, lower + side / each


def seconds(run: Callable[..., Any], *args: Any) -> float:
    """Times a compiled call, the fastest of some."""
    taken = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        jax.block_until_ready(run(*args))
        taken.append(time.perf_counter() - began)
    return min(taken)


def main() -> None:
    """Prints a row for each network and side."""
    rng = np.random.default_rng(0)
    print("inputs   side  parts of immrax'  width: ours   immrax   ratio")
    for number in CHOSEN:
        case = CASES[number]
        params, _ = trained(case)
        d = case.inputs
        tight, loose = (
            jax.jit(jax.vmap(jax.vmap(bound(params)))) for bound in (ours, immrax_s)
        )
        for side in SIDES:
            low = jnp.asarray(rng.uniform(size=(BOXES, d)) * (1 - side), jnp.float32)
            whole = cut(low, side, 1)
            widths = jax.block_until_ready(tight(*whole))
            allowed = seconds(tight, *whole)
            each, parts = 1, jax.block_until_ready(loose(*whole))
            while True:
                boxes = cut(low, side, each + 1)
                finer = jax.block_until_ready(loose(*boxes))
                taken = seconds(loose, *boxes)
                if taken > allowed:
                    break
                each, parts = each + 1, finer
            found = []
            for least, most in (widths, parts):
                spread = jnp.max(most, axis=1) - jnp.min(least, axis=1)
                found.append(float(jnp.median(jnp.max(spread, axis=1))))
            print(
                f"{d:6}  {side:7.4f}  {each**d:12}  {found[0]:14.3g}  {found[1]:8.3g}"
                f"  {found[1] / found[0]:6.1f}"
            )


if __name__ == "__main__":
    main()
