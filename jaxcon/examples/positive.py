r"""Nonnegative outputs: heads and a constraint :math:`f \ge 0`.

Targets are :math:`y_i = f^*(x_i)\, \varepsilon_i` with gamma noise of mean one. Their mean
touches zero and stays there for a while:

.. math::
    f^*(x) = \max(\sin 3 \pi x, 0), \qquad x \in [0, 1].

An unconstrained network is negative there. Three heads on a network g prevent this: relu
:math:`\max(g, 0)`, softplus :math:`\log(1 + e^g)` and square :math:`g^2`, which is
independent of the sign of g. A sample at which a head has no slope does not move the
network. Relu has none wherever g < 0: a network that starts, or moves, below zero at all
samples is dead for good. The square has none at g = 0 only. Softplus has a slope
everywhere, but approaches zero only as g falls without bound.

For seed 0, methods with multipliers end within 0.1 of the truth (RMSE on [0, 1]). A
softplus head fits the noise more closely, and a relu head may be dead: the second part
counts the initial seeds for which it is. Run it by ``jaxcon example positive``.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxcon import layers, methods, points, report, shapes, tabular
from jaxcon.comparison import MethodEvaluation
from jaxcon.constraints import Constraints
from jaxcon.examples._example import Findings, study
from jaxcon.examples.smoothing import init_steep_network
from jaxcon.methods import Apply, Method, Problem
from jaxcon.report import Row
from jaxcon.training import sweep

__all__ = [
    "CHECKED",
    "HEADS",
    "RUNS",
    "RUN_STEPS",
    "SAMPLES",
    "SHAPE",
    "STEPS",
    "STRENGTH",
    "TOLERANCE",
    "deaths",
    "draw",
    "findings",
    "init_network",
    "positive_methods",
    "positive_problem",
    "targets",
    "truth",
    "with_head",
]


def __dir__() -> list[str]:
    """Lists the public names."""
    return __all__


SAMPLES = 40
SHAPE = 16.0  # of the gamma noise: its standard deviation is 1 / sqrt(SHAPE)
CHECKED = 121  # points at which the sign is checked
STEPS = 3000
STRENGTH = 1.0  # of every penalty and every multiplier method
RUNS = 200  # initial seeds of the second part
RUN_STEPS = 1000
TOLERANCE = 0.1  # RMSE to the truth, of methods with multipliers

HEADS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "relu head": jax.nn.relu,
    "softplus head": layers.positive(),
    "square head": jnp.square,
}


def truth(x: np.ndarray) -> np.ndarray:
    """Evaluates the targets' mean: nowhere negative, zero from 1/3 to 2/3.

    Args:
        x: places, any shape.

    Returns:
        f*(x), of that shape.
    """
    return np.maximum(np.sin(3 * np.pi * x), 0.0)


def targets(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Draws random places and nonnegative targets there.

    Args:
        seed: of both.

    Returns:
        x and y, each (n,).
    """
    rng = np.random.default_rng(seed)
    x = np.sort(rng.uniform(size=SAMPLES))
    return x, truth(x) * rng.gamma(SHAPE, 1 / SHAPE, SAMPLES)


def with_head(head: Callable[[jax.Array], jax.Array]) -> Callable[[Apply], Apply]:
    """Wraps networks by an output layer.

    Args:
        head: from numbers to numbers >= 0.

    Returns:
        apply -> apply, of one output.
    """
    return lambda apply: lambda params, x: head(apply(params, x))


def init_network(key: jax.Array) -> list[dict[str, jax.Array]]:
    """Draws a network of 32 steep steps and a random bias of the output."""
    hidden, output = init_steep_network(key)
    return [
        hidden,
        {**output, "b": jax.random.normal(jax.random.fold_in(key, 1), (1,))},
    ]


def positive_problem(seed: int = 0) -> Problem:
    """Builds the problem of nonnegative targets and outputs.

    Args:
        seed: of the targets.

    Returns:
        A `Problem` with one constraint, "sign".
    """
    x, y = targets(seed)
    unseen = np.linspace(0, 1, 1001)

    def score(apply: Apply, params: Any) -> dict[str, float]:
        error = _values(apply, params, unseen) - truth(unseen)
        fit = _values(apply, params, x) - y
        return {"RMSE to truth": _rms(error), "fit RMSE": _rms(fit)}

    return Problem(
        init=init_network,
        apply=tabular.network,
        loss=_mean_squared_error,
        constraints=lambda apply: Constraints(
            inequality={"sign": shapes.bounded(apply, lower=0.0, on="points")}
        ),
        batch={
            "x": jnp.asarray(x, jnp.float32)[:, None],
            "y": jnp.asarray(y, jnp.float32),
            "points": points.grid([0.0], [1.0], CHECKED),
        },
        score=score,
        lower=np.zeros(1),
        upper=np.ones(1),
    )


def _rms(error: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(error))))


@partial(jax.jit, static_argnums=0)
def _outputs(apply: Apply, params: Any, x: jax.Array) -> jax.Array:
    return jax.vmap(partial(apply, params))(x)


def _values(apply: Apply, params: Any, x: np.ndarray) -> np.ndarray:
    return np.asarray(
        _outputs(apply, params, jnp.asarray(x, jnp.float32)[:, None]), float
    )


def _mean_squared_error(apply: Apply, params: Any, batch: Any) -> jax.Array:
    outputs = jax.vmap(partial(apply, params))(batch["x"])
    return jnp.mean(jnp.square(outputs - batch["y"]))


def _adam(steps: int) -> optax.GradientTransformation:
    return optax.adam(optax.cosine_decay_schedule(1e-2, steps, alpha=0.03))


def _methods_of(steps: int) -> dict[str, Method]:
    adam = _adam(steps)
    return {
        "unconstrained": methods.unconstrained(adam),
        "penalty": methods.penalty(adam, STRENGTH),
        "hinge penalty": methods.penalty(adam, STRENGTH, "absolute"),
        "lagrangian": methods.lagrangian(adam, STRENGTH),
        "PI control": methods.pi_control(adam, STRENGTH),
        "augmented": methods.augmented(adam, STRENGTH),
        "default": methods.default(),
        "projection afterwards": methods.afterwards(adam, with_head(jax.nn.relu)),
    } | {
        name: methods.by_construction(adam, with_head(head))
        for name, head in HEADS.items()
    }


def positive_methods() -> dict[str, Method]:
    """Lists the methods for nonnegative outputs.

    Returns:
        Methods by name; heads are by construction.
    """
    return _methods_of(STEPS)


def deaths(seed: int = 0) -> list[Row]:
    """Trains heads and a constraint from many initial seeds.

    A run is dead when the gradient of its loss is exactly zero at every weight.

    Args:
        seed: of the targets.

    Returns:
        A row for each method: runs dead at the start and at the end, the median and the
        worst RMSE to the truth, and the mean share of samples at which the network, before
        its head, ends negative.
    """
    tried = _methods_of(RUN_STEPS)
    problem = positive_problem(seed)
    return [_deaths(name, tried[name], problem) for name in (*HEADS, "augmented")]


def _deaths(name: str, method: Method, problem: Problem) -> Row:
    changed = method.change(problem)
    seeds = jnp.arange(RUNS)
    unseen = np.linspace(0, 1, 201)
    samples, places = problem.batch["x"], jnp.asarray(unseen, jnp.float32)[:, None]

    def run(seed: jax.Array) -> Any:
        solver = method.solver(changed, method.value)
        return solver, changed.init(jax.random.key(seed)), changed.batch

    @jax.jit
    @jax.vmap
    def read(params: Any) -> tuple[jax.Array, jax.Array, jax.Array]:
        slopes = jax.tree.leaves(jax.grad(changed.objective)(params, changed.batch))
        dead = jnp.all(jnp.array([jnp.all(slope == 0) for slope in slopes]))
        before_head = jax.vmap(partial(problem.apply, params))(samples)
        fitted = jax.vmap(partial(changed.apply, params))(places)
        return dead, fitted, jnp.mean(before_head < 0)

    start = jax.vmap(lambda seed: changed.init(jax.random.key(seed)))(seeds)
    ended = sweep(run, {"seed": seeds}, steps=RUN_STEPS, keep=1, together=RUNS)
    born_dead, _, _ = read(start)
    dead, fitted, negative = read(ended.state.params)
    squares = np.square(np.asarray(fitted, float) - truth(unseen))
    errors = np.sqrt(np.mean(squares, axis=1))
    return {
        "method": name,
        "runs": float(RUNS),
        "dead at start": float(np.sum(born_dead)),
        "dead at end": float(np.sum(dead)),
        "median RMSE to truth": float(np.median(errors)),
        "worst RMSE to truth": float(np.max(errors)),
        "samples with a negative network": float(np.mean(negative)),
    }


def findings(seed: int = 0, skip: int = 0) -> Iterator[Findings]:
    """Yields the results of every method and the counts of dead heads.

    Args:
        seed: of the targets and of the initial parameters.
        skip: first parts that are left out.

    Yields:
        `Findings` of the methods, then of many initial seeds.
    """
    if skip < 1:
        yield _methods_study(seed)
    if skip < 2:
        rows = deaths(seed)
        yield Findings("dead heads", rows, _note_of_deaths(rows), {})


def _methods_study(seed: int) -> Findings:
    problem = positive_problem(seed)
    return study(
        "positive targets",
        problem,
        positive_methods(),
        steps=STEPS,
        factors=(0.1, 10.0),
        seed=seed,
        note=_note,
        draw=partial(draw, problem),
    )


def _note(evaluations: dict[str, MethodEvaluation]) -> str:
    free = evaluations["unconstrained"]
    held = [evaluations[name] for name in ("lagrangian", "PI control", "augmented")]
    heads = {name: evaluations[name].scores["RMSE to truth"] for name in HEADS}
    best = min(heads, key=heads.__getitem__)
    return (
        f"The unconstrained network falls to {-free.violation:.3f}; multipliers leave at "
        f"most {max(o.violation for o in held):.1e}. Heads are never negative; "
        f"the {best} ends nearest to the truth among them, {heads[best]:.3f} from it, the "
        f"augmented Lagrangian {evaluations['augmented'].scores['RMSE to truth']:.3f}."
    )


def _note_of_deaths(rows: Sequence[Row]) -> str:
    by_name = {row["method"]: row for row in rows}
    relu, others = by_name["relu head"], [by_name[name] for name in list(HEADS)[1:]]
    return (
        f"Of {RUNS} relu heads {relu['dead at start']:.0f} start without a gradient and "
        f"{relu['dead at end']:.0f} end so, with an output of zero everywhere; of the "
        f"other heads {sum(float(row['dead at end']) for row in others):.0f}, and with "
        f"the constraint {by_name['augmented']['dead at end']:.0f}."
    )


def draw(problem: Problem, evaluations: Sequence[MethodEvaluation], path: Path) -> None:
    """Draws fits of constraint and heads over the shaded infeasible outputs.

    Args:
        problem: whose evaluations they are.
        evaluations: of it.
        path: the PNG to write.
    """
    x = np.linspace(0, 1, 1001)
    figure = report.new_figure(12, 4.4)
    left, right = figure.add_subplot(1, 2, 1), figure.add_subplot(1, 2, 2)
    shown = ("unconstrained", "augmented", *HEADS)
    for axes in (left, right):
        axes.plot(
            problem.batch["x"], problem.batch["y"], ".", color="0.6", label="samples"
        )
        axes.plot(x, truth(x), "k:", label="truth")
        for place, evaluation in enumerate(o for o in evaluations if o.name in shown):
            apply = evaluation.method.change(problem).apply
            fitted = _values(apply, evaluation.result.state.params, x)
            label = f"{evaluation.name}: {evaluation.scores['RMSE to truth']:.3f}"
            color = ("C3", "C0", "C2", "C1", "C4")[place]
            axes.plot(x, fitted, color=color, lw=1.2, label=label)
        axes.axhspan(-1, 0, color="C3", alpha=0.1, lw=0)
        axes.set_xlabel("x")
    left.set(ylim=(-0.3, None), title="fits; negative is forbidden")
    right.set(ylim=(-0.06, 0.12), title="the same near zero")
    left.legend(fontsize=7, title="RMSE to truth", title_fontsize=7)
    figure.savefig(path, dpi=120)
