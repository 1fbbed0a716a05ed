"""Parts of an example and the comparison of its methods."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxcon import report
from jaxcon.comparison import MethodEvaluation, compare
from jaxcon.methods import Method, Problem
from jaxcon.report import Row
from jaxcon.tabular import Rules, Table


class TableExample(NamedTuple):
    """Table with its rules and, if simulated, its truth.

    Attributes:
        table: inputs and target.
        target: name of the target column.
        rules: its shape constraints.
        truth: the function of inputs (n, d) behind simulated data, or None.
    """

    table: Table
    target: str
    rules: Rules
    truth: Callable[[np.ndarray], np.ndarray] | None


class Findings(NamedTuple):
    """Results of one part of an example.

    Attributes:
        title: of the part, a few words, e.g. "bounds on a noisy sine".
        rows: its table, one row for each method; the first key is "method".
        note: the result in the table, in a sentence or two.
        figures: {file name without ending: function (path) that writes the PNG}.
        evaluations: of the comparison behind the rows; () where there is none.
    """

    title: str
    rows: list[Row]
    note: str
    figures: dict[str, Callable[[Path], None]]
    evaluations: Sequence[MethodEvaluation] = ()


def study(
    title: str,
    problem: Problem,
    methods: dict[str, Method],
    *,
    steps: int,
    note: Callable[[dict[str, MethodEvaluation]], str],
    draw: Callable[[Sequence[MethodEvaluation], Path], None],
    factors: Sequence[float] = (0.01, 0.1, 10.0, 100.0),
    seed: int = 0,
) -> Findings:
    """Compares the methods of one problem.

    Args:
        title: as in `Findings`.
        problem: the definition all methods share.
        methods: by name.
        steps: of each run.
        note: (evaluations by name) -> the note on the table.
        draw: (evaluations, path) writes the example's own picture.
        factors: as in `jaxcon.compare`.
        seed: of the initial parameters.

    Returns:
        `Findings` with two figures: the picture, and the trade-off of all methods.
    """
    evaluations = compare(
        problem,
        methods,
        steps=steps,
        factors=factors,
        seed=seed,
        num_random=10_000,
    )
    name = title.replace(" ", "-")
    return Findings(
        title,
        report.summary(evaluations),
        note({evaluation.name: evaluation for evaluation in evaluations}),
        {
            name: lambda path: draw(evaluations, path),
            f"{name}-trade-off": lambda path: report.plot_trade_off(evaluations, path),
        },
        evaluations,
    )
