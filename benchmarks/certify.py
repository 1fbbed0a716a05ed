"""How long does a proof of a network's derivatives take?

Question     How many boxes, and how many seconds, does a proof take that a trained network
             is monotone or convex on its whole box, for one to six inputs? How much is
             won over plain intervals? How soon is a counterexample found? What does a
             regulariser on the width of the enclosures win, and what does it cost?
Conditions   Networks of tanh units, trained here for 3,000 Adam steps with a penalty on the
             derivative's sign at random points, margin 0.2; inputs in [0, 1]. The first
             two are the packaged examples' functions in one and two inputs. float64, two
             cores. Each program is compiled first; its time is given apart. Proofs end
             after 90 s.
Run          python -m benchmarks.certify            (--level forward, or intervals)
             python -m benchmarks.certify --grid     against inputs, width and depth
             python -m benchmarks.certify --cases 2 3 5 --widths 0 1e-3 1e-2 --seed 1
             where a multiple of the mean of `jaxcon.certify.width` on 16 boxes of side
             1/8, drawn anew at each step, is added to the loss.
Answer       Up to three inputs in less than half a second, four inputs and six in five to
             seven seconds; compilation takes four to eight. Boxes grow sevenfold with each
             input, threefold with twice the width, and with the depth. Plain intervals
             need 25 to 5,000 times as many, and fail with three layers. A regulariser of
             1e-3 takes away a third to nine tenths of the boxes and adds 0 to 3 % to the
             error; one of 1e-2 takes away 70 to 99 % and adds 19 to 35 %.
Last         2026-12-01, jax 0.12.0, two CPU cores:

             case                                 outcome   boxes  seconds compilation
             1 input, 2 x 32, convex              proved       32     0.00     4.2
             2 inputs, 2 x 32, convex in one      proved      324     0.03     3.7
             2 inputs, 3 x 64, rising in all      proved      222     0.04     3.7
             2 inputs, 3 x 64, convex in one      proved    1,060     0.06     5.0
             3 inputs, 3 x 64, rising in all      proved    4,882     0.21     4.4
             4 inputs, 3 x 64, rising in all      proved  119,005     6.91     5.8
             6 inputs, 2 x 32, rising in all      proved  151,446     4.99     5.1
             2 inputs, 3 x 64, convex, free       refuted      36     0.03     8.4

             rising in all, --grid: boxes, seconds below
             1 to 6 inputs, 2 x 32                     32, 52, 372, 4,919, 22,476, 151,446
                                                     0.01, 0.01, 0.03, 0.21, 0.92, 4.65
             2 inputs, 3 x 16, 32, 64, 128             56, 94, 222, 738
                                                     0.01, 0.01, 0.03, 0.08
             2 inputs, 1, 2, 4, 6 x 32                 36, 52, 300, 4,222
                                                     0.00, 0.02, 0.03, 0.30

             with plain intervals                 outcome     boxes  seconds
             1 input, 2 x 32, convex              proved        794     0.02
             2 inputs, 2 x 32, convex in one      proved    178,390     9.64
             2 inputs, 3 x 64, rising in all      proved  1,106,174    89.8
             2 inputs, 3 x 64, convex in one      96 % of the volume left after 90 s

             boxes and mean squared error by the regulariser's weight, seed 1
             weight                              0               1e-3              1e-2
             2 inputs, rising          166, 0.0026       78, 0.0026       36, 0.0035
             2 inputs, convex          820, 0.0130      546, 0.0133      244, 0.0165
             4 inputs, rising       70,565, 0.0029    8,661, 0.0029      609, 0.0034
"""

import argparse
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxcon import certify, shapes
from jaxcon.certify._branch import Boxes, examined, examiner, grid
from jaxcon.certify._claims import claim_of
from jaxcon.certify._enclosure import LEVELS
from jaxcon.certify._proof import DTYPE, double, proved, widened

MARGIN, STEPS, BUDGET = 0.2, 3000, 90.0
BOXES, SIDE = 16, 0.125  # of the regulariser

Params = list[tuple[jax.Array, jax.Array]]


class Case(NamedTuple):
    """Network with a rule.

    Attributes:
        inputs: d.
        hidden: widths of the hidden layers.
        convex: whether it is convex in its first input; else it rises in every input.
        obeys: whether it is trained to obey.
    """

    inputs: int
    hidden: tuple[int, ...]
    convex: bool = False
    obeys: bool = True

    @property
    def name(self) -> str:
        """Words for a table."""
        rule = "convex in the first" if self.convex else "rising in all"
        size = f"{len(self.hidden)} x {self.hidden[0]}"
        return f"{self.inputs} inputs, {size}, {rule}{'' if self.obeys else ', free'}"


CASES = (
    Case(1, (32, 32), convex=True),
    Case(2, (32, 32), convex=True),
    Case(2, (64, 64, 64)),
    Case(2, (64, 64, 64), convex=True),
    Case(3, (64, 64, 64)),
    Case(4, (64, 64, 64)),
    Case(6, (32, 32)),
    Case(2, (64, 64, 64), convex=True, obeys=False),
)

# Against inputs, width and depth, one at a time.
GRID = (
    *(Case(d, (32, 32)) for d in range(1, 7)),
    *(Case(2, (width,) * 3) for width in (16, 32, 64, 128)),
    *(Case(2, (32,) * depth) for depth in (1, 2, 4, 6)),
)


def apply(params: Params, x: jax.Array) -> jax.Array:
    """Evaluates a network of tanh units at one x (d,)."""
    h = 2 * x - 1
    for w, b in params[:-1]:
        h = jnp.tanh(h @ w + b)
    w, b = params[-1]
    return (h @ w + b)[0]


def target(x: jax.Array) -> jax.Array:
    """Evaluates the function that is learned, which rises and is not convex."""
    weights = jnp.arange(1, x.size + 1) / x.size
    bent = 0.3 * jnp.sin(4 * x[0]) + 0.5 * jnp.sum(jnp.square(x))
    return jnp.sum(weights * x) + bent + 0.5 * jnp.prod(x[:2])


def derivative(case: Case, params: Params, x: jax.Array) -> jax.Array:
    """Evaluates the derivatives that the rule bounds."""

    def f(x: jax.Array) -> jax.Array:
        return apply(params, x)

    if not case.convex:
        return jax.grad(f)(x)
    along = jnp.zeros_like(x).at[0].set(1.0)
    return jax.jvp(lambda x: jax.jvp(f, (x,), (along,))[1], (x,), (along,))[1]


def trained(
    case: Case, steps: int = STEPS, weight: float = 0.0, seed: int = 0
) -> tuple[Params, float]:
    """Trains a network with a penalty on its rule, and returns its error too."""
    rng, d = np.random.default_rng(seed), case.inputs
    sizes = (d, *case.hidden, 1)
    params = [
        (jnp.asarray(rng.normal(size=(m, n)) / np.sqrt(m), jnp.float32), jnp.zeros(n))
        for m, n in pairwise(sizes)
    ]
    x = jnp.asarray(rng.uniform(size=(2048, d)), jnp.float32)
    y = jax.vmap(target)(x) + 0.05 * jnp.asarray(rng.normal(size=2048), jnp.float32)
    optimizer = optax.adam(optax.cosine_decay_schedule(3e-3, steps))

    [rule] = claims(case)

    def misfit(params: Params) -> jax.Array:
        return jnp.mean(jnp.square(jax.vmap(lambda x: apply(params, x))(x) - y))

    def width(params: Params, key: jax.Array) -> jax.Array:
        low = jax.random.uniform(key, (BOXES, d), maxval=1 - SIDE)
        return jnp.mean(certify.width(rule, low, low + SIDE)(params, None))

    def loss(params: Params, key: jax.Array) -> jax.Array:
        keys = jax.random.split(key, 3)
        places = 1.1 * jax.random.uniform(keys[0], (1024, d)) - 0.05
        on_faces = jax.random.bernoulli(keys[1], 0.3, (1024, d))
        places = jnp.where(on_faces, jnp.round(places), places)
        slopes = jax.vmap(lambda x: derivative(case, params, x))(places)
        short = jnp.mean(jnp.square(jax.nn.relu(MARGIN - slopes)))
        loose = weight * width(params, keys[2]) if weight else 0.0
        return misfit(params) + (100 * short if case.obeys else 0.0) + loose

    @jax.jit
    def step(carry: Any, key: jax.Array) -> tuple[Any, None]:
        params, state = carry
        updates, state = optimizer.update(jax.grad(loss)(params, key), state)
        return (optax.apply_updates(params, updates), state), None

    keys = jax.random.split(jax.random.key(seed), steps)
    carry = params, optimizer.init(params)
    found = jax.jit(lambda carry: jax.lax.scan(step, carry, keys)[0])(carry)[0]
    return found, float(misfit(found))


def claims(case: Case) -> list[Any]:
    """Returns the rule as claims on `apply`."""
    if case.convex:
        return [shapes.convex(apply, 0)]
    return [certify.monotone(apply, dict.fromkeys(range(case.inputs), 1))]


def measured(case: Case, params: Params, level: str, budget: float) -> dict[str, Any]:
    """Proves a rule, and returns a row of the table."""
    given = [claim_of(one, 0.0) for one in claims(case)]
    lower, upper = np.zeros(case.inputs), np.ones(case.inputs)
    step = examiner(given, level=level)
    point = Boxes(lower[None], lower[None], np.full((1, 1), np.inf))
    params, began = widened(params), time.perf_counter()
    with double():
        examined(step, params, point, DTYPE)
    compiled = time.perf_counter() - began
    start = grid(lower, upper, 1)
    [found] = proved(step, [given[0].statement], params, start, budget=budget)
    left = found.volume if isinstance(found, certify.Undecided) else 0.0
    return {
        "case": case.name,
        "outcome": type(found).__name__.lower(),
        "volume left": f"{100 * left:.2g} %",
        "boxes": f"{found.boxes:,}",
        "seconds": f"{found.seconds:.2f}",
        "boxes/s": f"{found.boxes / found.seconds:,.0f}",
        "compilation": f"{compiled:.1f}",
    }


def main(
    cases: Sequence[Case],
    level: str,
    weights: Sequence[float] = (0.0,),
    seed: int = 0,
    show: Callable[[str], None] = print,
) -> None:
    """Trains and proves each case, and prints a row for each."""
    for case in cases:
        for weight in weights:
            params, error = trained(case, weight=weight, seed=seed)
            row = {"width": weight, "misfit": f"{error:.5f}"}
            row |= measured(case, params, level, BUDGET)
            show("  ".join(str(cell).rjust(9) for cell in row.values()))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Times proofs.")
    parser.add_argument("--level", choices=LEVELS, default="adjoint")
    parser.add_argument("--cases", type=int, nargs="*", default=range(len(CASES)))
    parser.add_argument("--grid", action="store_true")
    parser.add_argument("--widths", type=float, nargs="*", default=[0.0])
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    chosen = GRID if given.grid else [CASES[i] for i in given.cases]
    main(chosen, given.level, given.widths, given.seed)
