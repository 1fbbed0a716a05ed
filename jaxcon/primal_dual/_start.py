"""Start of a step, and the proposal that an order makes of it."""

from collections.abc import Callable
from typing import Any, NamedTuple

from jaxcon.constraints import Constraints
from jaxcon.lagrangians import Evaluation, SplitBatch, split
from jaxcon.primal_dual._dual import Dual
from jaxcon.primal_dual._linearization import Linearization, linearize
from jaxcon.primal_dual._state import PrimalDualState
from jaxcon.primal_dual._steps import (
    DualVariables,
    Gradient,
    dual_step,
    lagrangian_gradient,
    primal_step,
    summed_terms,
)


class Proposal(NamedTuple):
    """A step that is decided on.

    Attributes:
        evaluated: all losses and residuals that it came of.
        gradient: of the parameters.
        terms: next state of the transform of single terms' gradients.
        step: (gradient, parameters, optimizer state) -> both after the step.
        moved: what `step` returned, where the dual step needed it; else None.
        after: the dual variables after the step.
    """

    evaluated: Any
    gradient: Any
    terms: Any
    step: Callable[[Any, Any, Any], tuple[Any, Any]]
    moved: tuple[Any, Any] | None
    after: DualVariables


class Start(NamedTuple):
    """Start of one step: everything that an order makes its proposal of.

    Attributes:
        solver: the solver.
        state: before the step.
        batch: as it was passed to the step.
        dual: the transforms of the multipliers.
        before: the dual variables that the batch reads.
        at: the linearization at the state's parameters.
    """

    solver: Any
    state: PrimalDualState
    batch: Any
    dual: Dual
    before: DualVariables
    at: Linearization

    def linearize(self, params: Any) -> Linearization:
        """Linearizes loss and residuals at other parameters."""
        return linearize(
            self.solver.problem,
            params,
            split(self.batch)[0],
            self.state.extra,
            self.solver.per_term is not None,
        )

    def evaluate(self, params: Any) -> Evaluation:
        """Evaluates loss and residuals on the batch of the dual step."""
        there = split(self.batch)[1]
        return self.solver.problem.evaluate(params, there, self.state.extra)

    def dual_residuals(self, at: Linearization, params: Any = None) -> Constraints:
        """Returns the residuals of the dual step: of its own batch, if it has one."""
        if not isinstance(self.batch, SplitBatch):
            return at.residuals
        return self.evaluate(self.state.params if params is None else params).residuals

    def gradient(self, at: Linearization, variables: DualVariables) -> Gradient:
        """Evaluates the gradient of the objective."""
        here = split(self.batch)[0]
        return lagrangian_gradient(self.solver.problem, at, variables, here)

    def climb(self, loss: Any, residuals: Constraints) -> DualVariables:
        """Takes the dual step."""
        there = split(self.batch)[1]
        problem = self.solver.problem
        return dual_step(problem, self.dual, self.before, loss, residuals, there)

    def descend(
        self,
        at: Linearization,
        found: Gradient,
        penalty: Any,
        elsewhere: bool = False,
    ) -> tuple[Any, Any, Callable[[Any, Any, Any], tuple[Any, Any]]]:
        """Returns the gradient, the next state of the terms' transform, and the step."""
        solver, state = self.solver, self.state
        here = split(self.batch)[0]
        gradient, terms = summed_terms(
            solver.problem, solver.per_term, state, at, penalty, found, here
        )
        step = primal_step(solver, at, found, (here, state.extra, penalty), elsewhere)
        return gradient, terms, step
