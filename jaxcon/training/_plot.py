"""Figure of a run's history."""

from typing import Any

import numpy as np

from jaxcon.constraints import named
from jaxcon.training._history import History


def plot_history(history: History, tolerance: float, path: Any = None) -> Any:
    """Draws loss, violations and multipliers over the steps.

    Args:
        history: of a run.
        tolerance: largest violation that counts as feasible, drawn as a line.
        path: a file to write, or None.

    Returns:
        A matplotlib figure.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError("plots need matplotlib: pip install matplotlib") from None
    figure = Figure(figsize=(12, 3.2), layout="constrained")
    loss, violations, multipliers = figure.subplots(1, 3)
    loss.plot(history.step, history.loss)
    loss.set_title("loss")
    for _, name, rows in named(history.violation):
        violations.plot(history.step, np.maximum(rows, 1e-12), label=name)
    violations.axhline(tolerance, color="0.5", linestyle=":", label="tolerance")
    violations.set_yscale("log")
    violations.set_title("largest violation")
    for _, name, rows in named(history.multiplier):
        multipliers.plot(history.step, rows, label=name)
    multipliers.set_title("largest |multiplier|")
    for axes in (loss, violations, multipliers):
        axes.set_xlabel("step")
    if len([*named(history.violation)]) <= 10:
        violations.legend(fontsize="small")
    if path is not None:
        figure.savefig(path)
    return figure
