"""Results of runs, and the errors that carry them."""

from html import escape
from typing import Any, NamedTuple

import jax

from jaxcon._display import html_table, text_table
from jaxcon.certify import Proofs
from jaxcon.constraints import Constraints
from jaxcon.diagnosis import Diagnosis, diagnose
from jaxcon.primal_dual import PrimalDualState
from jaxcon.training._history import History


class Iterate(NamedTuple):
    """Iterate of a run, with loss and violation there.

    Attributes:
        params: theta at that step.
        multipliers: mu and lambda at that step; without indexed ones, of which a copy
            each step would cost what the data cost.
        penalty: rho at that step, or None.
        extra: state that is not trained, at that step.
        loss: f, shape ().
        max_violation: the largest one, shape (); on the batch of that step, or on the data
            that `judge` named, there two standard errors above the estimate.
        feasible: whether `max_violation` is within the tolerance, boolean of shape ().
        step: which step it was, int32 of shape (); -1 if no step was finite.
        points: those that a rule moves, at that step, by key of the batch; () without any.
    """

    params: Any
    multipliers: Constraints
    penalty: Any
    extra: Any
    loss: jax.Array
    max_violation: jax.Array
    feasible: jax.Array
    step: jax.Array
    points: Any = ()


class FitResult(NamedTuple):
    """Result of a run.

    Attributes:
        state: the last state; pass it to `fit` again to go on.
        best: the feasible iterate of lowest loss, or, if none was feasible (see
            `best.feasible`), the one of smallest violation.
        history: `History` of this call's steps, NumPy arrays.
        seconds: running time, without compilation.
        compile_seconds: time to trace and compile.
        tolerance: largest violation that counted as feasible.
        rollbacks: the steps at which the run went back to an earlier state.
        judge: what the best iterate was judged by, and the end is; None of a sweep.
        certificate: proofs of the constraints at the best iterate; None unless `certify`
            was given.
    """

    state: PrimalDualState
    best: Iterate
    history: History
    seconds: float
    compile_seconds: float
    tolerance: float = 1e-3
    rollbacks: tuple[int, ...] = ()
    judge: Any = None
    certificate: Proofs | None = None

    @property
    def diagnosis(self) -> Diagnosis:
        """Verdicts on history and end (`jaxcon.diagnose`).

        The end is evaluated on the data of `judge`; else on the batch of every step, on
        the 32 latest of a stream, or on the next 32 that a function draws.
        """
        end = None if self.judge is None else self.judge.end(self.state)
        return diagnose(self.history, self.tolerance, end)

    def plot(self, path: Any = None) -> Any:
        """Draws loss, violations and multipliers over the steps.

        Args:
            path: a file to write; none unless given.

        Returns:
            A matplotlib figure.

        Raises:
            ImportError: matplotlib is not installed.
        """
        from jaxcon.training._plot import plot_history

        return plot_history(self.history, self.tolerance, path)

    def __repr__(self) -> str:
        proofs = "" if self.certificate is None else f"\n{self.certificate}"
        return f"{self._sentence()}\n{text_table(self._rows())}{proofs}"

    def _repr_html_(self) -> str:
        proofs = (
            ""
            if self.certificate is None
            else f"<pre>{escape(str(self.certificate))}</pre>"
        )
        return f"<p>{self._sentence()}</p>{html_table(self._rows())}{proofs}"

    def _sentence(self) -> str:
        step, skipped = int(self.state.step), int(self.state.skipped)
        text = (
            f"FitResult after {step:,} steps ({self.seconds:.3g} s, and "
            f"{self.compile_seconds:.3g} s to compile)"
        )
        if skipped:
            text += f", {skipped:,} of them skipped"
        text += f", tolerance {self.tolerance:g}"
        words = "" if self.judge is None else self.judge.words(self.best)
        return f"{text}; {words}" if words else text

    def _rows(self) -> list[dict[str, Any]]:
        rows = []
        best = self.best
        if len(self.history.step):
            rows.append(
                {
                    "": "last",
                    "step": int(self.history.step[-1]),
                    "loss": float(self.history.loss[-1]),
                    "worst violation": float(self.history.max_violation[-1]),
                    "feasible": bool(self.history.max_violation[-1] <= self.tolerance),
                }
            )
        rows.append(
            {
                "": "best",
                "step": int(best.step),
                "loss": float(best.loss),
                "worst violation": float(best.max_violation),
                "feasible": bool(best.feasible),
            }
        )
        return rows


class Interrupted(KeyboardInterrupt):
    """Ctrl-C or SIGTERM during `fit`, with the `result` so far.

    Attributes:
        result: a `FitResult`.
        signal: the signal's number.
    """

    def __init__(self, message: str, result: FitResult, signal: int):
        super().__init__(message)
        self.result = result
        self.signal = signal


class NonFiniteError(FloatingPointError):
    """Error after too many steps that were not finite, with the `result` so far."""

    def __init__(self, message: str, result: FitResult):
        super().__init__(message)
        self.result = result


class DivergedError(ArithmeticError):
    """Error after a divergence that a rollback does not mend.

    Attributes:
        result: a `FitResult`, whose state is the last good one.
    """

    def __init__(self, message: str, result: FitResult):
        super().__init__(message)
        self.result = result
