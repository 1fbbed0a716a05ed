"""Notes and figures on the rates."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from jaxcon import report
from jaxcon.comparison import MethodEvaluation
from jaxcon.examples.rates._data import LIMIT, Batch, optimal_misses
from jaxcon.examples.rates._problems import sampling_deviation, scores
from jaxcon.methods import (
    Problem,
)


def gaussian_note(problem: Problem, evaluations: dict[str, MethodEvaluation]) -> str:
    on_surrogate, on_proxy = (
        evaluations[f"lagrangian, {kind}"].scores for kind in ("surrogate", "proxy")
    )
    moved = evaluations["threshold moved"].scores
    weights = evaluations["penalty, surrogate"].sensitivity
    assert weights is not None
    return (
        f"At most {LIMIT:.0%} false alarms cost at least {optimal_misses(LIMIT):.2%} "
        f"misses. The multiplier of the surrogate ends at "
        f"{on_surrogate['false alarms']:.2%} and {on_surrogate['misses']:.2%}, that of "
        f"the proxy at {on_proxy['false alarms']:.2%} and {on_proxy['misses']:.2%}; a "
        f"penalty on the surrogate, anywhere between "
        f"{weights.scores['false alarms'].min():.1%} and "
        f"{weights.scores['false alarms'].max():.1%} as its weight has it. Moving the "
        f"threshold ends at {moved['false alarms']:.2%} and {moved['misses']:.2%}: the "
        "limit does not turn the best direction."
    )


def cancer_note(problem: Problem, evaluations: dict[str, MethodEvaluation]) -> str:
    on_proxy = evaluations["lagrangian, proxy"].scores
    on_surrogate = evaluations["lagrangian, surrogate"].scores
    deviation = sampling_deviation(problem.batch, _unseen(problem))
    return (
        f"The proxy ends at {on_proxy['training alarms']:.2%} of false alarms on the "
        f"training cases and {on_proxy['false alarms']:.2%} on unseen ones, where "
        f"{LIMIT:.0%} give or take {deviation:.1%} is what samples of this size say; the "
        f"surrogate at {on_surrogate['training alarms']:.2%} and "
        f"{on_surrogate['misses']:.1%} misses for the proxy's {on_proxy['misses']:.1%}."
    )


Curve = tuple[np.ndarray, np.ndarray, str]


def optimal_curve(problem: Problem, evaluations: Sequence[MethodEvaluation]) -> Curve:
    """Computes the lemma's rates.

    Args:
        problem: of the Gaussians.
        evaluations: of its methods.

    Returns:
        False alarms and misses, and their label.
    """
    rates = np.linspace(0.001, 0.25, 200)
    return rates, optimal_misses(rates), "Neyman and Pearson"


def moved_curve(problem: Problem, evaluations: Sequence[MethodEvaluation]) -> Curve:
    """Computes the rates of an unconstrained score with any threshold on unseen examples.

    Args:
        problem: whose evaluations they are.
        evaluations: of its methods, the unconstrained one first.

    Returns:
        False alarms and misses, and their label.
    """
    params, unseen = evaluations[0].result.state.params, _unseen(problem)
    negative, positive = (
        np.asarray(scores(problem.apply, params, unseen[name]))
        for name in ("negative", "positive")
    )
    cuts = np.quantile(negative, 1 - np.linspace(0.001, 0.25, 200))[:, None]
    alarms = np.mean(negative > cuts, axis=1)
    return alarms, np.mean(positive <= cuts, axis=1), "unconstrained, any threshold"


def draw(
    problem: Problem,
    curve: Callable[[Problem, Sequence[MethodEvaluation]], Curve],
    evaluations: Sequence[MethodEvaluation],
    path: Path,
) -> None:
    """Draws the decision boundaries among the examples, and the two rates.

    Args:
        problem: whose evaluations they are.
        curve: `optimal_curve` or `moved_curve`, for comparison.
        evaluations: of its methods, the unconstrained one first.
        path: the PNG to write.
    """
    figure = report.new_figure(13, 5.5)
    left, right = figure.add_subplot(1, 2, 1), figure.add_subplot(1, 2, 2)
    sizes = []
    for name, color in (("negative", "C0"), ("positive", "C3")):
        x = np.asarray(problem.batch[name])
        left.scatter(*x.T, s=6, color=color, alpha=0.3, label=name)
        sizes.append(f"{len(x)} {name}")
    limits = left.get_xlim(), left.get_ylim()
    across = [np.linspace(low, high, 100) for low, high in limits]
    plane = jnp.asarray(np.stack(np.meshgrid(*across), axis=-1), jnp.float32)
    *line, name = curve(problem, evaluations)
    right.plot(*line, color="0.5", lw=1, label=name)
    right.axvspan(LIMIT, 0.25, color="C3", alpha=0.1, lw=0, label="too many alarms")
    marks = "osD^v<>PX*h"
    for place, (evaluation, mark) in enumerate(zip(evaluations, marks)):
        apply, params = (
            evaluation.method.change(problem).apply,
            evaluation.result.state.params,
        )
        color = f"C{place % 10}"
        height = jax.vmap(partial(scores, apply, params))(plane)
        line = "-" if place < 10 else "--"
        left.contour(*across, height, [0.0], colors=color, linestyles=line)
        at = evaluation.scores["false alarms"], evaluation.scores["misses"]
        right.plot(*at, mark, color=color, ms=8, alpha=0.8, label=evaluation.name)
    left.set_title(", ".join(sizes))
    left.legend(fontsize=8)
    right.set(xlabel="false alarms, unseen", ylabel="misses, unseen", xlim=(0, 0.25))
    reached = evaluations[
        [one.name for one in evaluations].index("augmented, proxy")
    ].scores
    right.set_title(
        f"augmented, proxy: {reached['false alarms']:.2%} alarms, "
        f"{reached['misses']:.2%} misses"
    )
    right.legend(fontsize=7)
    figure.savefig(path, dpi=120)


def _unseen(problem: Problem) -> Batch:
    assert problem.unseen is not None
    return problem.unseen
