"""How often is a verdict of a run's diagnosis wrong?

Question     Over problems of known solution, methods, and learning rates that are good, far
             too small and far too large: what does `diagnosis` say of a run, and what is
             true of it?
Answer       One of 510 verdicts is wrong (0.2 %).
Conditions   The 34 problems of benchmarks.problems.closed_form; Adam and gradient descent
             with dual ascent, the method of multipliers (a move every 30 steps), PI
             control, a growing penalty; the problem's own rate (a tenth of it for Adam), a
             thousandth of it and thirty times it. 3,000 steps from the problem's start,
             float32, tolerance 1e-3.
             Nothing was tuned to the table: thresholds are those of OSQP and of the
             docstring of `diagnose`.
             Truth, from the known solution: *solved*, the last parameters are within 1 % of
             it (of its size or of the way to it, whichever is larger) and within the
             tolerance; *elsewhere*, feasible but not there; *violated*; *not finite*, steps
             were skipped. A verdict is wrong if it says converged of a run that is not
             solved, infeasible of any (all 34 problems are feasible), or an alarm of one
             that is solved. Still moving, settled, winding up and too short are no alarms.
             The last verdict of a run is counted: the first may count skipped steps.
Run          python -m benchmarks.verdicts       (about ten minutes; --quick: a sample)
Last         2026-11-30, jax 0.12.0, CPU.

                                     solved   elsewhere    violated  not finite
             converged                  126           .           .           .
             diverging                    .           .           .          55
             not met                      .           .           3           1
             oscillating                  .          15          36           8
             penalty too large            .           .           1          77
             stalled                      1           6           .           2
             still moving                 1          69          87           7
             too short to say             .           .           .           9
             winding up                   .           .           6           .
             wrong: 1 of 510 (0.2%)

Conclusion   All 126 runs that are called converged are, and two that are solved are not
             called so: of one the Lagrangian's gradient is 1.4e-3 of its scale, just above
             the 1e-3 that are asked for, though the parameters are within 1 % (the one
             wrong verdict: stalled); the other's multiplier still swings. No run is called
             infeasible. A growing penalty outgrows the good rate on most problems.
"""

import argparse
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxcon as jc
from benchmarks.problems import PROBLEMS, Problem
from jaxcon.diagnosis import Diagnosis, End

STEPS, TOLERANCE, CLOSE, INNER = 3_000, 1e-3, 1e-2, 30
RATES = {"good": 1.0, "far too small": 1e-3, "far too large": 30.0}
TRUTHS = ("solved", "elsewhere", "violated", "not finite")
NO_ALARM = {"converged", "settled", "still moving", "winding up", "too short to say"}

Make = Callable[[Problem, Any], jc.Solver]


def ascent(rate: Any) -> Any:
    return jc.dual_ascent(optax.sgd(rate))


def augmented(problem: Problem, penalty: Any) -> jc.Lagrangian:
    return jc.Lagrangian(problem.loss, problem.constraints, penalty=penalty)


def every_so_often() -> Any:
    return jc.every(jc.method_of_multipliers(), INNER)


METHODS: dict[str, Make] = {
    "adam": lambda problem, rate: jc.alternating(
        augmented(problem, None), optax.adam(rate / 10), ascent(rate)
    ),
    "augmented": lambda problem, rate: jc.alternating(
        augmented(problem, 1.0), optax.sgd(rate), ascent(rate)
    ),
    "multipliers": lambda problem, rate: jc.alternating(
        augmented(problem, 1.0), optax.sgd(rate), every_so_often()
    ),
    "nupi": lambda problem, rate: jc.alternating(
        augmented(problem, None), optax.sgd(rate), jc.nupi(rate, kp=1 / rate)
    ),
    "growing": lambda problem, rate: jc.alternating(
        augmented(problem, jc.growing_penalty(1.0, every=INNER, limit=100.0)),
        optax.sgd(rate),
        every_so_often(),
    ),
}


class Case(NamedTuple):
    """A run, what is said of it and what is true.

    Attributes:
        problem: its name.
        method: its name.
        rate: a key of `RATES`.
        truth: one of `TRUTHS`.
        said: the diagnosis.
    """

    problem: str
    method: str
    rate: str
    truth: str
    said: Diagnosis

    @property
    def verdict(self) -> str:
        """The kind of the last verdict: the first may count skipped steps."""
        return self.said.verdicts[-1].kind

    @property
    def wrong(self) -> bool:
        """True if a verdict contradicts the known solution."""
        kinds = {verdict.kind for verdict in self.said.verdicts}
        solved = self.truth == "solved"
        false_alarm = solved and not kinds <= NO_ALARM | {"not finite"}
        return "infeasible" in kinds or false_alarm or ("converged" in kinds) > solved


def truth(problem: Problem, result: jc.FitResult, worst: float) -> str:
    """Returns what is true of the end of a run."""
    if not np.asarray(result.history.finite).all():
        return "not finite"
    if not worst <= TOLERANCE:
        return "violated"
    answer, start, reached = (
        np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])
        for tree in (problem.params, problem.start, result.state.params)
    )
    size = max(np.linalg.norm(answer), np.linalg.norm(answer - start))
    close = np.linalg.norm(reached - answer) <= CLOSE * size
    return "solved" if close else "elsewhere"


def cases(name: str, method: str, steps: int = STEPS) -> Iterable[Case]:
    """Yields the runs of one problem by one method, one for each rate."""
    problem = PROBLEMS[name]()
    start = jax.tree.map(jnp.asarray, problem.start)

    def make_run(scale: Any) -> tuple[jc.Solver, Any, None]:
        return METHODS[method](problem, scale * problem.learning_rate), start, None

    swept = jc.sweep(
        make_run,
        {"scale": list(RATES.values())},
        steps=steps,
        tolerance=TOLERANCE,
        keep=steps,
    )
    lagrangian = augmented(problem, None if method in ("adam", "nupi") else 1.0)
    for i, rate in enumerate(RATES):
        result = swept.run(i)
        evaluated = lagrangian.evaluate(result.state.params)
        worst = float(jc.max_violation(evaluated.residuals))
        said = jc.diagnose(
            result.history, TOLERANCE, End(lagrangian, result.state, [None], start)
        )
        yield Case(name, method, rate, truth(problem, result, worst), said)


def table(found: list[Case]) -> str:
    """Returns the confusion table, verdicts by truth."""
    counts = Counter((case.verdict, case.truth) for case in found)
    kinds = sorted({verdict for verdict, _ in counts})
    lines = [f"{'':18s}" + "".join(f"{truth:>12s}" for truth in TRUTHS)]
    for kind in kinds:
        cells = "".join(f"{counts[kind, truth] or '.':>12}" for truth in TRUTHS)
        lines.append(f"{kind:18s}{cells}")
    wrong = sum(case.wrong for case in found)
    lines.append(f"wrong: {wrong} of {len(found)} ({wrong / len(found):.1%})")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument(
        "--quick", action="store_true", help="two problems, two methods"
    )
    quick = parser.parse_args().quick
    names, methods = list(PROBLEMS), list(METHODS)
    if quick:
        names, methods = ["active from outside", "circle"], ["augmented", "nupi"]
    found: list[Case] = []
    for name in names:
        for method in methods:
            for case in cases(name, method):
                found.append(case)
                if case.wrong:
                    where = f"{case.problem}, {case.method}, {case.rate} rate"
                    print(f"{where}: {case.truth}\n{case.said}\n", flush=True)
    print(table(found))


if __name__ == "__main__":
    main()
