"""Does PI control of multipliers settle where plain ascent oscillates?

Question     The hard-margin support vector machine, min ½ |w|² s.t. 1 - y (w.x + b) <= 0,
             whose b has no curvature: how fast do the multipliers come to their one true
             value under PI control, under plain ascent, and under what else is usual?
             And is what plain ascent does at PI's rate what its eigenvalues say?
Conditions   Iris, setosa against versicolor, all 100 rows, z-scores; one constraint of
             shape (100,); float64; from zero; `alternating`, multipliers first; primal
             SGD of rate 1e-3 and momentum 0.9, as in the script of the experiment in
             Sohrabi et al., On PI Controllers for Updating Lagrange Multipliers in
             Constrained Optimization (2024); "primal too" frees both. Truth by SLSQP
             and a linear system. Gains: of each method's grid (how many were tried stands
             beside it) those whose step, differentiated at the solution, has the least
             spectral radius; Adam and the method of multipliers have no such map, and
             show the fastest of the grid's runs, or the nearest if none arrives. A step
             of the method of multipliers is one of L-BFGS, k of them between its moves:
             what its line search evaluates is not counted.
Run          python -m benchmarks.support_vectors         (about a minute)
Last         2026-11-21, jax 0.12.0, two CPU cores. |lambda - lambda*| after so many steps,
             and the steps after which it stays within 1e-6:

             method                    radius      100   1,000  10,000 100,000 to 1e-6
             PI control               0.99037  1.1e-01 4.2e-05 1.2e-15 1.2e-15   1,412
               best of 833: eta 0.75  kp 100
             plain ascent             0.99967  6.4e-01 1.3e-01 5.6e-03 7.1e-14  35,812
               best of 49: eta 0.00562
             momentum 0.9             0.99986  6.0e-01 1.6e-01 3.8e-02 1.5e-07  86,201
               best of 49: eta 0.000237
             optimistic               0.99967  6.1e-01 1.2e-01 5.6e-03 6.8e-14  35,835
               best of 49: eta 0.00562
             augmented Lagrangian     0.99037  6.4e-01 3.7e-03 1.9e-15 1.9e-15   1,850
               best of 2,009: eta 0.75  rho 75
             PI control, primal too   0.92194  6.3e-04 2.2e-15 9.2e-16 9.2e-16     188
               best of 10,985: eta 1  kp 3.16  alpha 0.0562  beta 0.5
             plain ascent, primal too 0.95153  1.0e+00 7.3e-16 5.2e-16 8.0e-16     307
               best of 3,185: eta 0.75  alpha 0.316  beta 0
             Adam                           -  6.3e-01 6.0e-01 1.7e-01 6.6e-04   never
               best of 9: eta 3.16e-05
             method of multipliers          -  8.5e-07 6.8e-13       -       -     100
               best of 15: rho 1e+03  k 20

             PI control, 5,000 steps: objective off by 1.1e-16, multipliers by 1.0e-15,
             KKT 1.9e-15; in float32 1.1e-08, 1.1e-06, 7.7e-07; nonzero in both: rows
             23, 41, 57, 98.
             Plain ascent at PI's rate, eta 0.75, near the solution: distance x 1.075593
             a step and a period of 32.516 steps by eigenvalues, 1.075593 and 32.514
             measured. From zero, the last 50,000 of 100,000 steps: distance 0.16 to 7.27,
             the first support multiplier passes its true value 736 times. By
             eigenvalues without momentum: 0.997970 a step.

Conclusion   PI control brings the objective, the four multipliers and the 96 zeros to
             rounding (float32: multipliers to 1.1e-6). At the same rate plain ascent has
             eigenvalues outside the unit circle: a nudge grows and turns by the factor
             and the period that they predict, until the clamps at zero bound it; then it
             orbits and never settles. It needs a rate 133 times smaller, and 25 times as
             many steps; with momentum on the multipliers 61 times as many. Adam at a
             constant rate does not arrive. Optimistic ascent is PI control with kp = 1
             and gains nothing here: useful kp are near 100.
             But PI control is not the only cure. The augmented Lagrangian with plain
             ascent and rho = eta kp has the same linear map, so the same radius, and the
             search finds the same gains for it; the method of multipliers with L-BFGS
             needs the fewest steps, though dearer ones. And the orbit is the work
             of the primal's momentum: without it, at the same long-run rate 1e-2, plain
             ascent contracts at PI's eta, and with the primal tuned too it needs 307
             steps against PI control's 188.
"""

import itertools
import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree

import jaxcon as jc
from papers import sohrabi2024_nupi

# Of the primal SGD in the script of the paper's experiment.
RATE, MOMENTUM = 1e-3, 0.9
ACCURACY = 1e-6
MARKS = (100, 1_000, 10_000, 100_000)


class Answer(NamedTuple):
    """The solution of the problem that a batch states.

    Attributes:
        params: "w" (4,) and "b" ().
        multipliers: lambda, (n,); zero away from the support vectors.
        objective: ½ |w|².
    """

    params: dict[str, np.ndarray]
    multipliers: np.ndarray
    objective: float

    @property
    def support(self) -> np.ndarray:
        """Rows of the support vectors."""
        return np.flatnonzero(self.multipliers)


def iris() -> dict[str, np.ndarray]:
    """Setosa (y = -1) against versicolor (y = 1): x (100, 4) in z-scores, y (100,)."""
    from sklearn.datasets import load_iris

    x, species = load_iris(return_X_y=True)  # pyright: ignore[reportArgumentType]
    x, species = np.asarray(x)[:100], np.asarray(species)[:100]
    return {"x": (x - x.mean(0)) / x.std(0), "y": np.where(species == 0, -1.0, 1.0)}


def solve(batch: dict[str, np.ndarray]) -> Answer:
    """The answer in float64, as the paper's file finds it, and the objective there."""
    found = sohrabi2024_nupi.solve(batch)
    w = found.params["w"]
    return Answer(found.params, found.multipliers, 0.5 * float(w @ w))


def loss(params: Any, batch: Any) -> jax.Array:
    return 0.5 * jnp.sum(params["w"] ** 2)


def margin(params: Any, batch: Any) -> jax.Array:
    return 1.0 - batch["y"] * (batch["x"] @ params["w"] + params["b"])


CONSTRAINTS = jc.Constraints(inequality={"margin": margin})


def solver(
    dual: Any,
    rate: Any = RATE,
    momentum: Any = MOMENTUM,
    penalty: Any = None,
) -> jc.Solver:
    """Multipliers first, then SGD on the parameters."""
    primal = optax.sgd(rate, momentum)
    return jc.alternating(
        jc.Lagrangian(loss, CONSTRAINTS, penalty=penalty), primal, dual
    )


def minimised(penalty: float, k: int) -> jc.Solver:
    """The method of multipliers with k steps of L-BFGS between its moves."""
    return jc.alternating(
        jc.Lagrangian(loss, CONSTRAINTS, penalty=penalty),
        jc.restart_every(optax.lbfgs(), k),
        jc.every(jc.method_of_multipliers(), k),
    )


class Method(NamedTuple):
    """A method up to its gains.

    Attributes:
        make: gains -> solver.
        grids: the values tried of each gain; all combinations are.
        steps: to run.
    """

    make: Callable[..., jc.Solver]
    grids: dict[str, np.ndarray]
    steps: int = MARKS[-1]

    def combinations(self) -> np.ndarray:
        """All gains that are tried, (combinations, gains)."""
        return np.array(list(itertools.product(*self.grids.values())))


def powers(low: int, high: int, per_decade: int) -> np.ndarray:
    return np.logspace(low, high, (high - low) * per_decade + 1)


ETA, KP = powers(-4, 2, 8), powers(0, 4, 4)
FREE = {"alpha": powers(-3, 0, 4), "beta": np.array([0.0, 0.3, 0.5, 0.7, 0.9])}

# Their step is a smooth map at the solution: eigenvalues say how fast they converge.
SMOOTH = {
    "PI control": Method(
        lambda eta, kp: solver(jc.nupi(eta, kp)), {"eta": ETA, "kp": KP}
    ),
    "plain ascent": Method(
        lambda eta: solver(jc.dual_ascent(optax.sgd(eta))), {"eta": ETA}
    ),
    "momentum 0.9": Method(
        lambda eta: solver(jc.dual_ascent(optax.sgd(eta, 0.9))), {"eta": ETA}
    ),
    "optimistic": Method(
        lambda eta: solver(jc.dual_ascent(optax.optimistic_gradient_descent(eta))),
        {"eta": ETA},
    ),
    "augmented Lagrangian": Method(
        lambda eta, rho: solver(jc.dual_ascent(optax.sgd(eta)), penalty=rho),
        {"eta": ETA, "rho": powers(-2, 3, 8)},
    ),
    "PI control, primal too": Method(
        lambda eta, kp, alpha, beta: solver(jc.nupi(eta, kp), alpha, beta),
        {"eta": powers(-2, 1, 4), "kp": powers(-1, 2, 4)} | FREE,
    ),
    "plain ascent, primal too": Method(
        lambda eta, alpha, beta: solver(jc.dual_ascent(optax.sgd(eta)), alpha, beta),
        {"eta": ETA} | FREE,
    ),
}

# Adam divides by the residual's own size, which vanishes there, and the method of
# multipliers moves by the clock: these are tried by running them.
RUN = {
    "Adam": Method(
        lambda eta: solver(jc.dual_ascent(optax.adam(eta))), {"eta": powers(-5, -1, 2)}
    ),
    "method of multipliers": Method(
        lambda rho, k: minimised(float(rho), int(k)),
        {"rho": powers(0, 4, 1), "k": np.array([5, 10, 20])},
        steps=1_000,
    ),
}


def linear_map(solver: jc.Solver, batch: Any, answer: Answer) -> jax.Array:
    """The derivative of one step at the solution, (s, s), s all numbers that move."""
    # The first step lets the dual transform remember the residuals of the solution.
    state, _ = solver.step(at(solver, batch, answer), batch)
    fields = ("params", "multipliers", "primal", "dual")

    def moving(state: jc.PrimalDualState) -> Any:
        return tuple(getattr(state, field) for field in fields)

    def real(state: jc.PrimalDualState) -> list[jax.Array]:
        return [leaf for leaf in jax.tree.leaves(moving(state)) if is_real(leaf)]

    numbers, unravel = ravel_pytree(real(state))

    def step(numbers: jax.Array) -> jax.Array:
        new = iter(unravel(numbers))
        moved = jax.tree.map(
            lambda leaf: next(new) if is_real(leaf) else leaf, moving(state)
        )
        after, _ = solver.step(state._replace(**dict(zip(fields, moved))), batch)
        return ravel_pytree(real(after))[0]

    return jax.jacfwd(step)(numbers)


def is_real(leaf: jax.Array) -> bool:
    return jnp.issubdtype(leaf.dtype, jnp.floating)


def at(solver: jc.Solver, batch: Any, answer: Answer) -> jc.PrimalDualState:
    """A solver's state at the solution."""
    params = jax.tree.map(jnp.asarray, answer.params)
    lam = jnp.asarray(answer.multipliers)
    state = solver.init(params, batch)
    return state._replace(multipliers=jc.Constraints(inequality={"margin": lam}))


def slowest(linear: Any) -> np.ndarray:
    """The eigenvalue of largest size, with a positive imaginary part if complex."""
    eigenvalues = np.linalg.eigvals(np.asarray(linear))
    largest = np.argmax(np.abs(eigenvalues), axis=-1)
    found = np.take_along_axis(eigenvalues, largest[..., None], -1)[..., 0]
    return np.real(found) + 1j * np.abs(np.imag(found))


def search(
    method: Method, batch: Any, answer: Answer
) -> tuple[tuple[float, ...], np.ndarray]:
    """The gains of least spectral radius, and the slowest eigenvalue of all gains.

    The rows away from the support vectors add nothing to the map's spectrum that is
    slow: multipliers that are clamped at zero stay there.
    """
    rows = answer.support
    batch = {name: column[rows] for name, column in batch.items()}
    answer = answer._replace(multipliers=answer.multipliers[rows])
    gains = method.combinations()
    maps = jax.jit(
        jax.vmap(lambda gains: linear_map(method.make(*gains), batch, answer))
    )(jnp.asarray(gains))
    found = slowest(maps)
    best = np.argmin(np.abs(found))
    return tuple(gains[best].tolist()), found


class Course(NamedTuple):
    """A run, step by step.

    Attributes:
        state: at its end.
        distance: |lambda - lambda*|, over all rows, (steps,).
        error: lambda - lambda* of the first support vector, (steps,).
    """

    state: jc.PrimalDualState
    distance: np.ndarray
    error: np.ndarray

    @property
    def reached(self) -> float:
        """Steps after which the distance stays within `ACCURACY`; infinite if never."""
        far = np.flatnonzero(~(self.distance <= ACCURACY))
        steps = far[-1] + 2 if len(far) else 1
        return steps if steps <= len(self.distance) else math.inf

    @property
    def turns(self) -> np.ndarray:
        """Steps at which that multiplier passes its true value."""
        return np.flatnonzero(np.diff(np.sign(self.error)))

    def eigenvalue(self, near: float, far: float) -> complex:
        """Of the recurrence e'' = p e' + q e that the error follows between the two.

        One pair of eigenvalues, or one that is real, outlives or outgrows the others.
        """
        steps = np.flatnonzero((self.distance > near) & (self.distance < far))
        e = self.error[steps[0] : steps[-1] + 1]
        p, q = np.linalg.lstsq(np.stack([e[1:-1], e[:-2]], 1), e[2:])[0]
        found = max(np.roots([1.0, -p, -q]), key=abs)
        return complex(found.real, abs(found.imag))


def run(
    solver: jc.Solver,
    batch: Any,
    answer: Answer,
    steps: int,
    state: jc.PrimalDualState | None = None,
) -> Course:
    """Takes `steps` steps from zero, or from a state, in the batch's precision."""
    zero = jnp.zeros((), batch["x"].dtype)
    start = {"w": jnp.zeros(4, zero.dtype), "b": zero}
    truth, first = jnp.asarray(answer.multipliers), answer.support[0]

    def step(state: jc.PrimalDualState, _: None) -> Any:
        state, _info = solver.step(state, batch)
        error = state.multipliers.inequality["margin"] - truth
        return state, (jnp.linalg.norm(error), error[first])

    end, (distance, error) = jax.jit(partial(jax.lax.scan, step, length=steps))(
        solver.init(start, batch) if state is None else state, None
    )
    return Course(end, np.asarray(distance), np.asarray(error))


def nudged(solver: jc.Solver, batch: Any, answer: Answer) -> jc.PrimalDualState:
    """A solver's state beside the solution, so near that its step is linear there."""
    aside = answer.params | {"b": answer.params["b"] + 1e-9}
    return at(solver, batch, answer._replace(params=aside))


def line(
    name: str,
    method: Method,
    gains: tuple[float, ...],
    radius: float | None,
    course: Course,
) -> str:
    settings = "  ".join(f"{key} {gain:.3g}" for key, gain in zip(method.grids, gains))
    marks = " ".join(
        f"{course.distance[mark - 1]:7.1e}" if mark <= method.steps else f"{'-':>7s}"
        for mark in MARKS
    )
    reached = "never" if math.isinf(course.reached) else f"{course.reached:,}"
    return (
        f"{name:24s} {'-' if radius is None else f'{radius:.5f}':>7s}  {marks} "
        f"{reached:>7s}\n  best of {len(method.combinations()):,}: {settings}"
    )


def report_smooth(batch: Any, answer: Answer) -> dict[str, tuple[float, ...]]:
    """Finds gains by eigenvalues and runs them; returns them."""
    chosen = {}
    for name, method in SMOOTH.items():
        chosen[name], found = search(method, batch, answer)
        course = run(method.make(*chosen[name]), batch, answer, method.steps)
        radius = float(np.abs(found).min())
        print(line(name, method, chosen[name], radius, course), flush=True)
    return chosen


def report_run(batch: Any, answer: Answer) -> None:
    """Runs all gains and shows the fastest, or, where none arrives, the nearest."""
    for name, method in RUN.items():
        courses = [
            (run(method.make(*gains), batch, answer, method.steps), gains)
            for gains in method.combinations().tolist()
        ]
        course, gains = min(
            courses, key=lambda pair: (pair[0].reached, pair[0].distance[-1])
        )
        print(line(name, method, gains, None, course), flush=True)


def report_orbit(eta: float, batch: Any, answer: Answer) -> None:
    """Plain ascent at a rate: what the eigenvalues say and what it does."""
    method = SMOOTH["plain ascent"]
    plain = method.make(eta)
    value = slowest(linear_map(plain, batch, answer))
    print(f"plain ascent at PI's rate, eta {eta:.3g}:")
    near = run(plain, batch, answer, 250, nudged(plain, batch, answer))
    # The same step in the long run, without the lag.
    prompt = solver(jc.dual_ascent(optax.sgd(eta)), RATE / (1 - MOMENTUM), 0.0)
    for how, found in (
        ("eigenvalues", value),
        ("measured", near.eigenvalue(1e-6, 1e-3)),
        ("eigenvalues, no momentum", slowest(linear_map(prompt, batch, answer))),
    ):
        print(
            f"  near the solution, {how:24s} distance x {abs(found):.6f} a step, "
            f"period {2 * np.pi / np.angle(found):.3f} steps"
        )
    course = run(plain, batch, answer, method.steps)
    late = method.steps // 2
    print(
        f"  from zero, the last {method.steps - late:,} of {method.steps:,} steps: "
        f"distance {course.distance[late:].min():.2f} to {course.distance[late:].max():.2f}"
        f", the first support multiplier passes its true value "
        f"{np.sum(course.turns >= late):,} times"
    )
    _, found = search(method, batch, answer)
    stable = method.combinations()[np.abs(found) < 1, 0].max()
    print(f"  largest rate tried at which it contracts: {stable:.3g}")


def main() -> None:
    jax.config.update("jax_enable_x64", True)
    batch = iris()
    answer = solve(batch)
    print(f"jax {jax.__version__}, {jax.devices()[0].device_kind}")
    print(f"objective {answer.objective:.10f}, b {answer.params['b']:.8f}")
    for row in answer.support:
        print(f"multiplier of row {row}: {answer.multipliers[row]:.8f}")
    marks = " ".join(f"{mark:>7,d}" for mark in MARKS)
    print(f"{'method':24s} {'radius':>7s}  {marks} {'to 1e-6':>7s}")
    chosen = report_smooth(batch, answer)
    report_run(batch, answer)

    control = SMOOTH["PI control"].make(*chosen["PI control"])
    for dtype in ("float64", "float32"):
        rows = {name: column.astype(dtype) for name, column in batch.items()}
        state = run(control, rows, answer, 5_000).state
        lam = np.asarray(state.multipliers.inequality["margin"])
        multipliers = control.problem.multiplier_estimates(state, rows)
        worst = jc.kkt(
            jc.Lagrangian(loss, CONSTRAINTS), jc.Point(state.params, multipliers), rows
        ).worst
        objective = float(loss(state.params, rows))
        print(
            f"PI control, {dtype}, 5,000 steps: objective off by "
            f"{abs(objective - answer.objective):.1e}, multipliers by "
            f"{np.abs(lam - answer.multipliers).max():.1e}, nonzero "
            f"{np.flatnonzero(lam).tolist()}, KKT {worst:.1e}"
        )
    report_orbit(chosen["PI control"][0], batch, answer)


if __name__ == "__main__":
    main()
