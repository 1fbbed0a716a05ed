"""Which method reaches which optimum, primal and dual, and in how many steps?

Question     For every training method and every problem with a known solution: how many
             steps until parameters *and* multipliers stay within the tolerance of it; and
             where they do not get there, does theory say so?
Conditions   The problems of benchmarks.problems.closed_form, one learning rate for each
             (its own), the same for parameters and multipliers; rho = 1 where there is a
             penalty; methods that search along a line (L-BFGS) move the multipliers every
             30 steps. Tolerance 1e-4 in float32, 1e-7 in float64, held for 20 steps.
             "x1.0050" is no number of steps but the spectral radius of the step's
             Jacobian at the solution: the factor by which errors grow at each step; 1
             circles. "-" is a failure that is listed, with its reason. "!" marks a run that
             ended otherwise than the eigenvalues or the list say; the command then fails.
Run          python -m benchmarks.methods              (about eight minutes)
Last         2026-11-29, jax 0.12.0. Of 34 problems in float64 (the table itself, with
             float32, is in benchmarks/methods.txt):

             method reached  median steps  most     method reached  median steps  most
             sim         28           581  5,810    sched       33           323  6,260
             alt         28           418  4,683    mom         32           554  4,739
             pri         28           418  4,682    grow        33           269    419
             ext         32           364  4,685    capu        29            46    300
             opt         32           814 14,612    log         29           693  4,019
             PI          34           276  6,585    exp         29           719  4,019
             PID         34           264  6,353    reset       27           289  2,207
             sim+        34           270  6,451    fixed        6            20  1,296
             alt+        34           284  6,468
             pri+        34           284  6,467
             ext+        34           283  6,466

Conclusion   Every order on the augmented Lagrangian, and PI and PID control without one,
             reach all 34. On the plain Lagrangian gradients reach exactly the problems
             where the step's eigenvalues lie inside the unit circle: simultaneous moves
             run away on bilinear games (at (1 + eta^2)^1/2 a step), alternating ones
             circle, extragradient and optimistic ones get there; none does where the
             Lagrangian bends down. The method of multipliers fails where rho is too small
             or the first minimum leaves the constraint without a gradient; barriers where
             strict complementarity fails, as 1 over the steps; restarts where an active
             inequality is overshot; a fixed penalty wherever there is a multiplier.
             PECANN-CAPU is the fastest where it arrives, but nothing bounds its next move
             where it does not. Steps by line search (mom to exp) cost several evaluations
             each, which are not counted.
"""

import statistics
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxcon as jc
from benchmarks.problems import PROBLEMS, Problem
from jaxcon.constraints import named

TOLERANCE = {"float32": 1e-4, "float64": 1e-7}
HELD = 20  # steps for which an answer must stay
# Steps from one move of the multipliers to the next, where a line is searched.
INNER = 30
AT_ONE = 1e-6  # precision of a float64 eigenvalue, possibly a multiple one


class Method(NamedTuple):
    """A training method.

    Attributes:
        make: problem -> solver.
        most: steps after which it counts as not getting there.
        smooth: whether a step is one differentiable map around the solution, whose
            eigenvalues say if it gets there.
    """

    make: Callable[[Problem], jc.Solver]
    most: int = 100_000
    smooth: bool = True


class Reached(NamedTuple):
    """How a run ended.

    Attributes:
        steps: taken before the answer stayed within the tolerance; None if it did not.
        primal: largest error of a parameter at the end.
        dual: largest error of a multiplier, or, where others fit as well, largest KKT
            residual.
    """

    steps: int | None
    primal: float
    dual: float


def ascent(rate: float) -> Any:
    return jc.dual_ascent(optax.sgd(rate))


def by_gradient(
    order: Any,
    dual: Callable[[float], Any] = ascent,
    primal: Callable[[float], Any] = optax.sgd,
    scale: float = 1.0,
    smooth: bool = True,
    penalty: Any = None,
    barrier: Any = None,
    **more: Any,
) -> Method:
    """Gradient steps at `scale` times the problem's rate."""

    def make(problem: Problem) -> jc.Solver:
        rate = scale * problem.learning_rate
        lagrangian = jc.Lagrangian(
            problem.loss, problem.constraints, penalty=penalty, barrier=barrier
        )
        return order(lagrangian, primal(rate), dual(rate), **more)

    return Method(make, smooth=smooth)


def by_search(
    dual: Callable[[], Any] = lambda: jc.every(jc.method_of_multipliers(), INNER),
    inner: int = INNER,
    penalty: Any = None,
    barrier: Any = None,
) -> Method:
    """Minimisation by L-BFGS, and a step of the method of multipliers now and then."""

    def make(problem: Problem) -> jc.Solver:
        return jc.alternating(
            jc.Lagrangian(
                problem.loss, problem.constraints, penalty=penalty, barrier=barrier
            ),
            jc.restart_every(optax.lbfgs(), inner),
            dual(),
        )

    return Method(make, most=20_000, smooth=False)


def optimistic_ascent(rate: float) -> Any:
    return jc.dual_ascent(optax.optimistic_gradient_descent(rate))


METHODS = {
    # The plain Lagrangian.
    "sim": by_gradient(jc.simultaneous),
    "alt": by_gradient(jc.alternating),
    "pri": by_gradient(jc.alternating, first="primal"),
    "ext": by_gradient(jc.extragradient),
    "opt": by_gradient(
        jc.simultaneous, optimistic_ascent, optax.optimistic_gradient_descent, 0.5
    ),
    "PI": by_gradient(jc.alternating, lambda rate: jc.nupi(rate, kp=1 / rate)),
    "PID": by_gradient(
        jc.alternating, lambda rate: jc.pid(1.0, rate, 0.1), smooth=False
    ),
    # The augmented one.
    "sim+": by_gradient(jc.simultaneous, penalty=1.0),
    "alt+": by_gradient(jc.alternating, penalty=1.0),
    "pri+": by_gradient(jc.alternating, first="primal", penalty=1.0),
    "ext+": by_gradient(jc.extragradient, penalty=1.0),
    "sched": by_gradient(
        jc.alternating,
        smooth=False,
        penalty=optax.linear_schedule(0.1, 1.0, 1000),
    ),
    "mom": by_search(penalty=1.0),
    "grow": by_search(penalty=jc.growing_penalty(1.0, every=INNER, limit=100.0)),
    "capu": by_search(
        lambda: jc.when_stalled(jc.method_of_multipliers()),
        inner=3,
        penalty=jc.adaptive_penalty(eps=1e-6),
    ),
    "log": by_search(penalty=1.0, barrier=jc.penalties.log_quadratic),
    "exp": by_search(penalty=1.0, barrier=jc.penalties.exponential_quadratic),
    # Those that theory says cannot get everywhere.
    "reset": by_gradient(
        jc.alternating,
        lambda rate: jc.restart_when_feasible(ascent(rate)),
        smooth=False,
        penalty=1.0,
    ),
    "fixed": by_gradient(
        jc.alternating, lambda rate: optax.set_to_zero(), smooth=False, penalty=1.0
    ),
}


# Gradients on the plain Lagrangian, which may fail where it has no curvature.
PLAIN = ("sim", "alt", "pri", "ext", "opt")

LEGEND = """
sim alt pri ext   simultaneous, alternating (dual first, primal first), extragradient
opt PI PID        optimistic moves of both; PI and PID control of the multipliers
sim+ ... ext+     the same orders on the augmented Lagrangian, rho = 1
sched             rho from 0.1 to 1 in 1,000 steps
mom grow capu     method of multipliers on L-BFGS; with rho growing on demand; with
                  PECANN-CAPU's conditional and adaptive updates
log exp           the same with penalty-barrier multipliers
reset fixed       restarts on feasibility; a fixed penalty, its multipliers zero
"""


def multipliers_of(problem: Problem) -> np.ndarray:
    return np.concatenate([np.ravel(m) for m in jax.tree.leaves(problem.multipliers)])


def tight_without_force(problem: Problem) -> bool:
    """Whether strict complementarity fails: some g = 0 with lambda = 0."""
    params = jax.tree.map(jnp.asarray, problem.params)
    residuals = jc.evaluate(problem.constraints, params)
    return any(
        bool(jnp.any((jnp.abs(g) < 1e-6) & (problem.multipliers.inequality[name] == 0)))
        for kind, name, g in named(residuals)
        if kind == "inequality"
    )


def failure(method: str, name: str) -> str | None:
    """Why a method without a smooth step does not get there, or may not; or None."""
    problem = PROBLEMS[name]()
    if method == "fixed" and np.abs(multipliers_of(problem)).max() > 0:
        return "a fixed penalty stops a multiplier over rho short of the constraint"
    if method in ("log", "exp") and tight_without_force(problem):
        return "a multiplier that falls to zero with its g falls as 1 over the steps"
    return FAILURES.get((method, name)) or RISKS.get((method, name))


TOO_SMALL = "rho = 1 is too small: an exact step of the multipliers maps mu to 1 - mu"
NO_GRADIENT = "the first minimum is x = y = 0, where the constraint has no gradient"
FAILURES = {
    ("sched", "saddle"): "rho < 1/2 leaves the objective unbounded from below at first",
    ("mom", "saddle"): TOO_SMALL,
    ("log", "saddle"): TOO_SMALL,
    ("exp", "saddle"): TOO_SMALL,
    ("mom", "hyperbola"): NO_GRADIENT,
    ("grow", "hyperbola"): NO_GRADIENT,
    ("log", "hyperbola"): NO_GRADIENT,
    ("exp", "hyperbola"): NO_GRADIENT,
}

# What may fail, by no theory that says when.
OVERSHOOT = "an active inequality that is overshot loses its multiplier at once"
NO_CONTROL = "objectives are compared across moves of the multipliers"
RISKS = {
    ("reset", name): OVERSHOOT
    for name in (
        "half disk",
        "HS22",
        "HS35",
        "HS43",
        "support vectors",
        "quadratic program",
        "water filling",
    )
} | {
    ("capu", name): NO_CONTROL
    for name in (
        "HS40",
        "hyperbola",
        "saddle",
        "HS35",
        "water filling",
        "linear program",
    )
}


def contraction(method: Method, problem: Problem) -> float | None:
    """The spectral radius of the step's Jacobian at the solution; None if it has none.

    The step is a map of parameters, multipliers and both transforms' states. Where other
    multipliers fit as well, errors along them stay, and do not count.
    """
    if not method.smooth or tight_without_force(problem):
        return None
    solver = method.make(problem)
    state = solver.init(jax.tree.map(jnp.asarray, problem.params))
    state = state._replace(multipliers=jax.tree.map(jnp.asarray, problem.multipliers))
    for _ in range(3):  # until the transforms' memories are those of standing still
        state, _ = jax.jit(solver.step)(state)
    moving = (state.params, state.multipliers, state.primal, state.dual)
    leaves, tree = jax.tree.flatten(moving)
    floating = [jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in leaves]
    sizes = [leaf.size for leaf, floats in zip(leaves, floating) if floats]
    cuts = np.cumsum(sizes)[:-1]

    def pack(moving: Any) -> jax.Array:
        leaves = jax.tree.leaves(moving)
        return jnp.concatenate(
            [jnp.ravel(leaf) for leaf, floats in zip(leaves, floating) if floats]
        )

    def step(vector: jax.Array) -> jax.Array:
        parts = iter(jnp.split(vector, cuts))
        params, multipliers, primal, dual = tree.unflatten(
            next(parts).reshape(leaf.shape) if floats else leaf
            for leaf, floats in zip(leaves, floating)
        )
        before = state._replace(
            params=params, multipliers=multipliers, primal=primal, dual=dual
        )
        after, _ = solver.step(before)
        return pack((after.params, after.multipliers, after.primal, after.dual))

    eigenvalues = np.linalg.eigvals(jax.jit(jax.jacfwd(step))(pack(moving)))
    if not problem.unique:
        eigenvalues = eigenvalues[np.abs(eigenvalues - 1) > 1e-6]
    return float(np.abs(eigenvalues).max())


def reach(method: Method, problem: Problem, dtype: str) -> Reached:
    """Runs until the answer is held, or cannot be any more."""
    tolerance, solver = TOLERANCE[dtype], method.make(problem)

    def cast(tree: Any) -> Any:
        return jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), tree)

    answer, multipliers = cast(problem.params), cast(problem.multipliers)

    def apart(a: Any, b: Any) -> jax.Array:
        gaps = jax.tree.map(lambda x, y: jnp.max(jnp.abs(x - y)), a, b)
        return jnp.max(jnp.stack(jax.tree.leaves(gaps)))

    def errors(state: jc.PrimalDualState) -> tuple[jax.Array, jax.Array]:
        primal = apart(state.params, answer)
        if problem.unique:
            return primal, apart(state.multipliers, multipliers)
        return primal, jc.kkt(
            jc.Lagrangian(problem.loss, problem.constraints),
            jc.Point(state.params, state.multipliers),
        ).worst

    def go_on(carry: tuple[jc.PrimalDualState, jax.Array]) -> jax.Array:
        state, held = carry
        lost = (state.skipped > 9) | (apart(state.params, answer) > 1e6)
        return (state.step < method.most) & (held < HELD) & ~lost

    def move(carry: tuple[jc.PrimalDualState, jax.Array]) -> Any:
        state, _ = solver.step(carry[0])
        primal, dual = errors(state)
        near = (primal <= tolerance) & (dual <= tolerance)
        return state, jnp.where(near, carry[1] + 1, 0)

    @jax.jit
    def run(state: jc.PrimalDualState) -> Any:
        state, held = jax.lax.while_loop(go_on, move, (state, jnp.array(0)))
        return state.step, held, *errors(state)

    steps, held, primal, dual = run(solver.init(cast(problem.start)))
    reached = int(steps) - HELD if held >= HELD else None
    return Reached(reached, float(primal), float(dual))


def contradicts(method: str, name: str, dtype: str, reached: Reached) -> bool:
    """Compares how a run ended with what the eigenvalues or the known failures say."""
    problem, arrived = PROBLEMS[name](), reached.steps is not None
    if arrived and (method, name) in FAILURES:
        return True
    if dtype == "float64":
        radius = contraction(METHODS[method], problem)
        if radius is not None:
            return arrived != (radius < 1 - AT_ONE)
    # In float32 a radius of one is not told from one just below it.
    known = failure(method, name) or (method in PLAIN and not problem.convex)
    return not (arrived or known)


def cell(method: str, name: str, dtype: str) -> str:
    problem = PROBLEMS[name]()
    reached = reach(METHODS[method], problem, dtype)
    mark = "!" if contradicts(method, name, dtype, reached) else ""
    if reached.steps is not None:
        return f"{reached.steps}{mark}"
    radius = contraction(METHODS[method], problem)
    return ("-" if radius is None else f"x{radius:.4f}") + mark


def reasons() -> dict[str, list[str]]:
    """Where methods without a smooth step do not get there, or may not, by reason."""
    found: dict[str, dict[str, list[str]]] = {}
    for method in METHODS:
        for name in PROBLEMS:
            if why := failure(method, name):
                found.setdefault(why, {}).setdefault(method, []).append(name)
    return {
        why: [f"{method} on {', '.join(names)}" for method, names in where.items()]
        for why, where in found.items()
    }


def main() -> None:
    wrong = 0
    for dtype in TOLERANCE:
        jax.config.update("jax_enable_x64", dtype == "float64")
        print(f"{dtype}, within {TOLERANCE[dtype]:.0e}", LEGEND, sep="\n")
        print(f"{'':22s}" + "".join(f"{method:>8s}" for method in METHODS))
        rows = []
        for name in PROBLEMS:
            rows.append([cell(method, name, dtype) for method in METHODS])
            print(f"{name:22s}" + "".join(f"{e:>8s}" for e in rows[-1]), flush=True)
            wrong += sum(e.endswith("!") for e in rows[-1])
        steps = [[int(e) for e in column if e.isdigit()] for column in zip(*rows)]
        for what, of in (
            ("reached", len),
            ("median", statistics.median),
            ("most", max),
        ):
            summary = "".join(f"{of(column):8.0f}" for column in steps)
            print(f"{what:22s}{summary}")
        print()
    for why, where in reasons().items():
        print(f"-  {why}: {'; '.join(where)}")
    if wrong:
        raise SystemExit(f"{wrong} runs ended otherwise than theory says")


if __name__ == "__main__":
    main()
