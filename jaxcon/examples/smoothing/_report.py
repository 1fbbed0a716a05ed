"""Notes and figures on the series and on the field."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxcon import points, report
from jaxcon.comparison import MethodEvaluation
from jaxcon.derivatives import Laplacian, Partial
from jaxcon.examples.smoothing._problems import read, row
from jaxcon.examples.smoothing._truth import (
    CURVED,
    PROXIES,
    STEEPEST,
    field,
    lipschitz_regression,
    series,
)
from jaxcon.methods import Problem


def exact(evaluations: dict[str, MethodEvaluation]) -> list[MethodEvaluation]:
    """Selects the methods that train on the bound of the exact derivative."""
    return [o for name, o in evaluations.items() if name.startswith("bound, ")]


def proxies(evaluations: dict[str, MethodEvaluation]) -> list[MethodEvaluation]:
    """Selects the methods that train on differences between samples."""
    return [o for name, o in evaluations.items() if name.startswith(PROXIES)]


def _worst(evaluations: Sequence[MethodEvaluation]) -> float:
    return max(evaluation.violation for evaluation in evaluations)


def _least(evaluations: Sequence[MethodEvaluation]) -> float:
    return min(evaluation.violation for evaluation in evaluations)


def series_note(evaluations: dict[str, MethodEvaluation]) -> str:
    """Summarises the table of the series.

    Args:
        evaluations: by method.

    Returns:
        Two sentences.
    """
    free = evaluations["unconstrained"].scores
    layers = [evaluations[name] for name in ("moving average", "Gaussian")]
    removed = [1 - o.scores["steepest slope"] / free["steepest slope"] for o in layers]
    learned = evaluations["learned convolution"].scores["steepest slope"]
    best = min(exact(evaluations), key=lambda o: o.scores["RMSE to optimum"])
    return (
        f"Smoothing layers take {min(removed):.0%} to {max(removed):.0%} off a steepest "
        f"slope of {free['steepest slope']:.1f} and guarantee nothing: learned on the same "
        f"loss, a kernel comes to {learned:.1f}. Bounds on the exact slope leave at most "
        f"{_worst(exact(evaluations)):.2g} L too much, bounds and penalties on "
        f"differences at least {_least(proxies(evaluations)):.2g} L, between the samples "
        f"where they are not evaluated; {best.name} ends "
        f"{best.scores['RMSE to optimum']:.3f} from the exact "
        f"optimum, for a fit RMSE of {best.scores['fit RMSE']:.3f} instead of "
        f"{free['fit RMSE']:.3f}."
    )


def field_note(evaluations: dict[str, MethodEvaluation]) -> str:
    """Summarises the table of the field.

    Args:
        evaluations: by method.

    Returns:
        Two sentences.
    """
    free = evaluations["unconstrained"].scores
    best = min(exact(evaluations), key=lambda o: o.scores["RMSE to truth"])
    bounds = [o for o in proxies(evaluations) if "bound" in o.name]
    return (
        f"The stencil has no nodes at the edge and no values between them: its bounds "
        f"leave a Laplacian at least {_least(bounds):.2g} C too large, those on the exact "
        f"Laplacian at most {_worst(exact(evaluations)):.2g} C. The error to the truth "
        f"falls "
        f"from {free['RMSE to truth']:.3f} to {best.scores['RMSE to truth']:.3f}."
    )


def draw_series(
    problem: Problem, evaluations: Sequence[MethodEvaluation], path: Path
) -> None:
    """Draws fits and slopes of some methods over the shaded infeasible slopes.

    Args:
        problem: of the series.
        evaluations: of it.
        path: the PNG to write.
    """
    shown = {
        "unconstrained": "C3",
        "moving average": "C1",
        "difference bound, augmented": "C4",
        "bound, augmented": "C0",
        "by construction": "C2",
    }
    t = np.linspace(0, 1, 1001)
    samples, y = (np.asarray(problem.batch[name], float) for name in ("x", "y"))
    optimum, _ = lipschitz_regression(samples[:, 0], y, STEEPEST)
    figure = report.new_figure(12, 4.4)
    left, right = figure.add_subplot(1, 2, 1), figure.add_subplot(1, 2, 2)
    left.plot(samples, y, ".", color="0.6", label="samples")
    left.plot(samples, optimum, "k+", label="optimum")
    left.plot(t, series(t), "k:", label="truth")
    for evaluation in evaluations:
        if evaluation.name in shown:
            apply = evaluation.method.change(problem).apply
            params = evaluation.result.state.params
            (value, slope), _ = read(Partial(0), apply, params, row(t), row(t))
            style: dict[str, Any] = {"color": shown[evaluation.name], "lw": 1.2}
            left.plot(t, value, label=evaluation.name, **style)
            label = f"{evaluation.name}: {evaluation.scores['steepest slope']:.1f}"
            right.plot(t, slope, label=label, **style)
    limit = 2.5 * STEEPEST
    for sign in (-1, 1):
        right.axhspan(sign * STEEPEST, sign * limit, color="C3", alpha=0.1, lw=0)
    right.set_ylim(-limit, limit)
    left.set(title="fit", xlabel="time")
    right.set(title=f"slope; steeper than {STEEPEST:g} is forbidden", xlabel="time")
    left.legend(fontsize=7)
    right.legend(fontsize=7, title="steepest", title_fontsize=7)
    figure.savefig(path, dpi=120)


def draw_field(
    problem: Problem, evaluations: Sequence[MethodEvaluation], path: Path
) -> None:
    """Draws fields and their Laplacians over the square, with outlined violations.

    Args:
        problem: of the field.
        evaluations: of it.
        path: the PNG to write.
    """
    side = 121
    shown = ("unconstrained", "stencil bound, augmented", "bound, augmented")
    x = points.grid([0.0, 0.0], [1.0, 1.0], side)
    truth = field(np.asarray(x, float))
    waves = jnp.prod(jnp.cos(2 * np.pi * x), axis=1)
    pictures = [("truth", truth, -CURVED * waves)]
    for evaluation in evaluations:
        if evaluation.name in shown:
            apply, params = (
                evaluation.method.change(problem).apply,
                evaluation.result.state.params,
            )
            fitted, _ = read(Laplacian(), apply, params, x, x)
            error = evaluation.scores["RMSE to truth"]
            pictures.append((f"{evaluation.name}\nRMSE to truth {error:.3f}", *fitted))
    figure = report.new_figure(12, 6)
    span: dict[str, Any] = {"origin": "lower", "extent": (0, 1, 0, 1)}
    for place, (title, u, laplacian) in enumerate(pictures):
        above = figure.add_subplot(2, len(pictures), place + 1)
        below = figure.add_subplot(2, len(pictures), place + 1 + len(pictures))
        high = np.abs(truth).max()
        top = above.imshow(_square(u), vmin=-high, vmax=high, cmap="viridis", **span)
        relative = _square(laplacian) / CURVED
        bottom = below.imshow(relative, vmin=-2, vmax=2, cmap="RdBu_r", **span)
        broken = np.abs(relative) > 1 + 1e-3
        if broken.any():
            below.contour(broken, levels=[0.5], colors="k", linewidths=0.8, **span)
        above.set_title(title, fontsize=9)
        below.set_title(f"|Laplacian| > C on {broken.mean():.1%}", fontsize=9)
        if place == len(pictures) - 1:
            figure.colorbar(top, ax=above, label="u")
            figure.colorbar(bottom, ax=below, label="Laplacian / C")
    figure.savefig(path, dpi=120)


def _square(values: Any) -> np.ndarray:
    """Arranges values on a grid as rows of a picture, the second input upwards."""
    side = round(len(values) ** 0.5)
    return np.asarray(values, float).reshape(side, side).T
