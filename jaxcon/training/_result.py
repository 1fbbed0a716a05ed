"""What a run comes to, however it ends."""

from typing import Any, NamedTuple

import jax

from jaxcon.constraints import Constraints
from jaxcon.diagnosis import Diagnosis, diagnose
from jaxcon.primal_dual import Info, PrimalDualState


class Iterate(NamedTuple):
    """One point a run passed through, with what was seen there.

    Attributes:
        params: theta at that step.
        multipliers: mu and lambda at that step; without indexed ones, of which a copy
            each step would cost what the data cost.
        loss: f, shape ().
        max_violation: on the batch of that step, shape ().
        feasible: whether `max_violation` is within the tolerance, boolean of shape ().
        step: which step it was, int32 of shape (); -1 if no step was finite.
    """

    params: Any
    multipliers: Constraints
    loss: jax.Array
    max_violation: jax.Array
    feasible: jax.Array
    step: jax.Array


class FitResult(NamedTuple):
    """What a run came to.

    Attributes:
        state: the last state; pass it to `fit` again to go on.
        best: the feasible iterate of lowest loss, or, if none was feasible (see
            `best.feasible`), the one of smallest violation.
        history: `Info` of NumPy arrays, one row per step of this call.
        seconds: running time, without compilation.
        compile_seconds: time to trace and compile.
        tolerance: largest violation that counted as feasible.
        rollbacks: the steps at which the run went back to an earlier state.
    """

    state: PrimalDualState
    best: Iterate
    history: Info
    seconds: float
    compile_seconds: float
    tolerance: float = 1e-3
    rollbacks: tuple[int, ...] = ()

    @property
    def diagnosis(self) -> Diagnosis:
        """What the history says, in words: `jaxcon.diagnose` of it."""
        return diagnose(self.history, self.tolerance)


class Interrupted(KeyboardInterrupt):
    """Ctrl-C or SIGTERM during `fit`; `result` holds what was reached.

    Attributes:
        result: a `FitResult`.
        signal: the signal's number.
    """

    def __init__(self, message: str, result: FitResult, signal: int):
        super().__init__(message)
        self.result = result
        self.signal = signal


class NonFiniteError(FloatingPointError):
    """Too many steps were not finite; `result` holds what was reached."""

    def __init__(self, message: str, result: FitResult):
        super().__init__(message)
        self.result = result


class DivergedError(ArithmeticError):
    """A run left the scale it was on and going back does not help.

    Attributes:
        result: a `FitResult`, whose state is the last good one.
    """

    def __init__(self, message: str, result: FitResult):
        super().__init__(message)
        self.result = result
