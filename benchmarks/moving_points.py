"""How near to a differential equation's solution do moving points and weights come?

Question     Relative L2 error on a grid after equal numbers of steps: plain training, each
             weight of single residuals and each rule that moves points; and each balance
             of the equation against its initial values.
Conditions   Convection u_t + 30 u_x = 0 and reaction u_t = 5 u (1 - u) against their closed
             forms, Allen-Cahn u_t = 1e-4 u_xx - 5 u^3 + 5 u against a Fourier method. A
             tanh network, periodic by construction. "held": the initial values hold by
             construction, and Levenberg-Marquardt steps on the mean square of the residual
             at 200 points, moved every 10 steps; "terms": a fixed penalty of weight one on
             their mean square, and Adam at 1e-3. float64; every rule with its defaults, and
             a tenth of the points where it replaces some. The seed is that of the first
             parameters and of the rule; plain points are Sobol's.
Run          python -m benchmarks.moving_points [convection | reaction | Allen-Cahn]
Last         2026-12-01, jax 0.12.0, two busy CPU cores, where an equation took
             eight to fourteen minutes; the errors of both seeds

             held, 150 steps                  convection         reaction       Allen-Cahn
               plain                     1.0e+00 1.1e+00  3.2e-03 2.7e-03  3.4e-01 3.1e-01
               residual_attention        1.0e+00 1.0e+00  1.9e-03 2.5e-03  4.8e-01 4.1e-01
               causal_weights            1.8e+01 1.4e+01  2.9e-03 3.7e-03  6.8e-02 4.6e-02
               points.rad                9.3e-01 1.0e+00  2.5e-03 1.7e-03  8.0e-02 1.1e-01
               points.rar_d              1.3e+00 9.1e-01  1.4e-03 9.4e-04  6.0e-02 7.6e-02
               points.r3                 1.2e+00 1.1e+00  1.9e-03 1.1e-03  5.1e-02 9.7e-02
               points.adversarial        1.3e+00 9.6e-01  1.5e-03 1.4e-03  6.5e-02 3.2e-02
             terms, 1000 steps                convection         reaction       Allen-Cahn
               plain terms               1.0e+00 1.0e+00  1.0e+00 1.0e+00  1.4e+00 1.0e+00
               balance_by_gradient_norm  1.0e+00 1.0e+00  2.9e-01 9.6e-01  7.5e-01 9.8e-01
               balance_by_kernel_trace   1.0e+00 1.0e+00  9.7e-01 9.6e-01  1.0e+00 9.9e-01
               balance_by_relative_loss  1.0e+00 1.0e+00  1.0e+00 1.0e+00  1.4e+00 1.0e+00
               balance_by_loss_rate      1.0e+00 1.0e+00  1.0e+00 1.0e+00  1.4e+00 1.0e+00

Conclusion   On Allen-Cahn, whose fronts are thin, causal weights and each rule that moves
             points leave a fraction of plain training's error, and attention does not. On
             the reaction all errors are small, and those of moving points smaller than
             plain ones. On convection nothing comes near the solution in so few steps,
             and causal weights, whose first squares are in the hundreds, leave later times
             without any hold. With the initial values as a term, 1,000 steps of Adam are
             too few under any balance; by gradient norms two runs of six got nearer. Two
             seeds tell no more than that.
"""

import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxcon as jc
from jaxcon.derivatives import Gradient, Partial, Value

POINTS, EVERY = 200, 10
WIDTH, DEPTH = 16, 4
STEPS = {"held": 150, "terms": 1000}
SEEDS = (0, 1)


class Equation(NamedTuple):
    """A differential equation of (x, t), periodic in x.

    Attributes:
        residual: value, gradient and u_xx at a point -> ().
        start: x -> u at t = 0.
        lower: end of the period, which t = 0 belongs to.
        upper: its other end; t ends at 1.
        solution: (x, t) of a grid, (m,) and (k,) -> u (m, k).
    """

    residual: Callable[[Any, Any, Any], jax.Array]
    start: Callable[[Any], Any]
    lower: float
    upper: float
    solution: Callable[[np.ndarray, np.ndarray], np.ndarray]


def bell(x: Any) -> Any:
    """The reaction's initial values."""
    return jnp.exp(-((x - jnp.pi) ** 2) / (2 * (jnp.pi / 4) ** 2))


def grown(x: np.ndarray, t: np.ndarray) -> np.ndarray:
    """The reaction's closed form."""
    first, factor = np.asarray(bell(x))[:, None], np.exp(5 * t)[None]
    return first * factor / (first * factor + 1 - first)


def wave(x: Any) -> Any:
    """Allen-Cahn's initial values."""
    return x**2 * jnp.cos(jnp.pi * x)


def spectral(x: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Allen-Cahn by 512 Fourier modes and the classical Runge-Kutta method."""
    modes, each = 512, 2000
    nodes = np.linspace(-1, 1, modes, endpoint=False)
    k = np.pi * np.fft.rfftfreq(modes, 1 / modes)

    def slope(u: np.ndarray) -> np.ndarray:
        bent = np.fft.irfft(-(k**2) * np.fft.rfft(u), modes)
        return 1e-4 * bent - 5 * u**3 + 5 * u

    u, rows, h = np.asarray(wave(nodes), float), [], 1 / each
    for _ in range(each + 1):
        rows.append(u)
        a = slope(u)
        b = slope(u + h / 2 * a)
        c = slope(u + h / 2 * b)
        u = u + h / 6 * (a + 2 * b + 2 * c + slope(u + h * c))
    found = np.fft.rfft(np.array(rows)[np.round(t * each).astype(int)], axis=1) / modes
    found[:, 1:] *= 2
    phase = np.exp(1j * k[:, None] * (x[None] + 1))
    return (found @ phase).real.T


EQUATIONS = {
    "convection": Equation(
        lambda u, slope, _: slope[1] + 30 * slope[0],
        jnp.sin,
        0.0,
        2 * np.pi,
        lambda x, t: np.sin(x[:, None] - 30 * t[None]),
    ),
    "reaction": Equation(
        lambda u, slope, _: slope[1] - 5 * u * (1 - u), bell, 0.0, 2 * np.pi, grown
    ),
    "Allen-Cahn": Equation(
        lambda u, slope, bend: slope[1] - 1e-4 * bend + 5 * u**3 - 5 * u,
        wave,
        -1.0,
        1.0,
        spectral,
    ),
}
WEIGHTS = {
    "residual_attention": jc.residual_attention,
    "causal_weights": partial(jc.causal_weights, on="points", index=1),
}
TENTH = POINTS // 10
RULES = {
    "points.rad": jc.points.rad,
    "points.rar_d": partial(jc.points.rar_d, replace=TENTH),
    "points.r3": jc.points.r3,
    "points.adversarial": partial(jc.points.adversarial, replace=TENTH),
}
BALANCES = {
    "balance_by_gradient_norm": jc.balance_by_gradient_norm,
    "balance_by_kernel_trace": jc.balance_by_kernel_trace,
    "balance_by_relative_loss": jc.balance_by_relative_loss,
    "balance_by_loss_rate": jc.balance_by_loss_rate,
}


def network(equation: Equation, held: bool) -> Any:
    """A periodic network; `held` with the initial values by construction."""
    free = jc.layers.mlp(3, width=WIDTH, depth=DEPTH)
    found = free.then(jc.layers.periodic({0: equation.upper - equation.lower}))
    if held:
        begin = lambda x: equation.start(x[0])  # noqa: E731
        found = found.then(jc.layers.initial_value(1, 0.0, value=begin))
    return found


def equation_residual(equation: Equation, apply: Any, params: Any, batch: Any) -> Any:
    """The equation's residual at the points of a batch, (n,)."""

    def at(x: jax.Array) -> jax.Array:
        f = partial(apply, params)
        wanted = (Value(), Gradient(), Partial((0, 0)))
        return equation.residual(*jc.derivatives.derivatives(f, *wanted)(x))

    return jax.vmap(at)(batch["points"])


def prepared(
    equation: Equation, name: str, seed: Any, num: int
) -> tuple[jc.Solver, Any, Any]:
    """A solver with the method of a name, first parameters and a batch."""
    held = name not in BALANCES and name != "plain terms"
    model = network(equation, held)
    pde = partial(equation_residual, equation, model.apply)
    lower, upper = [equation.lower, 0.0], [equation.upper, 1.0]
    weights = {"equation": WEIGHTS[name]()} if name in WEIGHTS else {}
    loss = jc.MeanSquares({"equation": pde}, weights=weights)
    batch = {"points": jc.points.sobol(lower, upper, num)}
    params = model.init(jax.random.key(seed))
    if held:
        problem = jc.Lagrangian(loss)
        points = None
        if name in RULES:
            of_size = jnp.abs if name == "points.adversarial" else lambda r: r
            size = lambda params, batch: of_size(pde(params, batch))  # noqa: E731
            rule = RULES[name](size, (lower, upper), every=EVERY, seed=seed)
            points = {"points": rule}
        primal = jc.gauss_newton(problem, on={"equation": "points"})
        solver = jc.alternating(problem, primal, optax.set_to_zero(), points=points)
        return solver, params, batch

    first = jc.points.sobol(lower[:1], upper[:1], num // 4)
    batch["first"] = jnp.concatenate([first, jnp.zeros_like(first)], axis=1)

    def initial(params: Any, batch: Any) -> jax.Array:
        x = batch["first"]
        return jax.vmap(partial(model.apply, params))(x) - equation.start(x[:, 0])

    weight = 2 / len(first)
    dual = jc.fixed_penalty(weight, jc.penalties.quadratic, jc.penalties.squared_hinge)
    problem = jc.Lagrangian(loss, jc.Constraints({"initial": initial}))
    balance = BALANCES[name]() if name in BALANCES else None
    solver = jc.alternating(problem, optax.adam(1e-3), dual, per_term=balance)
    return solver, params, batch


def errors(
    equation: Equation,
    name: str,
    *,
    steps: Mapping[str, int] = STEPS,
    seeds: tuple[int, ...] = SEEDS,
    num: int = POINTS,
) -> np.ndarray:
    """Relative L2 errors on a grid, one for each seed."""
    held = name not in BALANCES and name != "plain terms"
    found = jc.sweep(
        lambda seed: prepared(equation, name, seed, num),
        {"seed": list(seeds)},
        steps=steps["held" if held else "terms"],
        keep=2,
    )
    x = np.linspace(equation.lower, equation.upper, 128, endpoint=False)
    t = np.linspace(0, 1, 101)
    aim = equation.solution(x, t)
    grid = np.stack(np.meshgrid(x, t, indexing="ij"), -1).reshape(-1, 2)
    apply = jax.vmap(network(equation, held).apply, (None, 0))
    each = jax.jit(jax.vmap(apply, (0, None)))(found.state.params, jnp.asarray(grid))
    apart = np.asarray(each).reshape(-1, *aim.shape) - aim[None]
    return np.sqrt(np.sum(apart**2, axis=(1, 2)) / np.sum(aim**2))


def main(names: list[str]) -> None:
    jax.config.update("jax_enable_x64", True)
    print(f"jax {jax.__version__}, {jax.devices()[0].device_kind}; seeds {SEEDS}")
    held = ("plain", *WEIGHTS, *RULES)
    for name in names or EQUATIONS:
        for kind, methods in (("held", held), ("terms", ("plain terms", *BALANCES))):
            print(f"{name}, {kind}, {STEPS[kind]} steps")
            for method in methods:
                began = time.perf_counter()
                found = errors(EQUATIONS[name], method)
                row = "".join(f"{error:10.1e}" for error in found)
                took = time.perf_counter() - began
                print(f"    {method:26s}{row}{took:8.0f} s", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
