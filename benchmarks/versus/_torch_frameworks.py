"""Cooper and humancompatible-train.

Penalties and rates are of means over a vector of residuals, so that one grid serves
vectors of any length; the frameworks, which sum, get them divided by the length.
"""

from collections.abc import Iterator
from typing import Any

import cooper  # pyright: ignore[reportMissingImports]
import jax
import torch  # pyright: ignore[reportMissingImports]
from humancompatible.train.dual_optim import ALM  # pyright: ignore[reportMissingImports]

from benchmarks.versus._lane import RATE, Iterate
from benchmarks.versus._torch_by_hand import numbers, parameter, tensor
from benchmarks.versus._torch_problems import DRAWN, PROBLEMS


class Constrained(cooper.ConstrainedMinimizationProblem):
    """Problem with one vector of constraints."""

    def __init__(self, problem: Any, kind: str, size: int, penalty: float | None):
        super().__init__()
        self.problem, form = problem, {}
        if penalty is not None:
            coefficient = cooper.penalty_coefficients.DensePenaltyCoefficient
            form["formulation_type"] = cooper.formulations.AugmentedLagrangian
            form["penalty_coefficient"] = coefficient(init=torch.tensor(penalty / size))
        self.constraint = cooper.Constraint(
            constraint_type=cooper.ConstraintType[kind],
            multiplier=cooper.multipliers.DenseMultiplier(num_constraints=size),
            **form,
        )

    def compute_cmp_state(self, params: Any, batch: Any) -> Any:
        """Evaluates the problem on a batch."""
        loss, h, g, strict = self.problem(params, batch)
        seen = cooper.ConstraintState(
            violation=h if len(h) else g, strict_violation=strict
        )
        return cooper.CMPState(loss=loss, observed_constraints={self.constraint: seen})


def by_cooper(
    name: str, arrays: Any, setting: dict[str, float], steps: int, every: int
) -> Iterator[Iterate]:
    problem, draw = PROBLEMS[name], DRAWN.get(name, lambda data: data)
    data = {key: tensor(value) for key, value in arrays.items() if key != "weights"}
    params = jax.tree.map(parameter, arrays["weights"])
    _, h, g, _ = problem(params, draw(data))
    kind, size = ("EQUALITY", len(h)) if len(h) else ("INEQUALITY", len(g))
    constrained = Constrained(problem, kind, size, setting.get("penalty"))
    adam = torch.optim.Adam(jax.tree.leaves(params), lr=RATE)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(adam, steps)
    optimizer, rate = torch.optim.SGD, setting["rate"] / size
    gains = {}
    if "gain" in setting:
        optimizer, gains = cooper.optim.nuPI, {"Kp": torch.tensor(setting["gain"])}
    dual = optimizer(constrained.dual_parameters(), lr=rate, maximize=True, **gains)
    both = cooper.optim.AlternatingDualPrimalOptimizer(constrained, adam, dual)
    for step in range(1, steps + 1):
        both.roll({"params": params, "batch": draw(data)})
        decay.step()
        if step % every == 0:
            yield Iterate(step, numbers(params))


def by_humancompatible(
    name: str, arrays: Any, setting: dict[str, float], steps: int, every: int
) -> Iterator[Iterate]:
    problem, draw = PROBLEMS[name], DRAWN.get(name, lambda data: data)
    data = {key: tensor(value) for key, value in arrays.items() if key != "weights"}
    params = jax.tree.map(parameter, arrays["weights"])
    _, h, g, _ = problem(params, draw(data))
    size = max(len(h), len(g))
    rate, penalty = setting["rate"] / size, setting["penalty"] / size
    dual = ALM(m=size, lr=rate, penalty=penalty, is_ineq=len(g) > 0)
    adam = torch.optim.Adam(jax.tree.leaves(params), lr=RATE)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(adam, steps)
    for step in range(1, steps + 1):
        loss, h, g, strict = problem(params, draw(data))
        residual = h if len(h) else g
        adam.zero_grad()
        if strict is None:
            dual.forward_update(loss, residual).backward()
        else:
            dual.forward(loss, residual).backward()
            dual.update(strict)
        adam.step()
        decay.step()
        if step % every == 0:
            yield Iterate(step, numbers(params))
