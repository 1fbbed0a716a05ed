r"""Selection of iterates: the best one, or a sparse mixture of several.

A game between parameters and multipliers may circle its solution and never converge.
Then the last iterate is no solution, but a mixture of iterates can be: drawn with
probabilities :math:`p`, it obeys the constraints and has a low loss *on average*.
"""

from typing import Any, NamedTuple

import numpy as np

from jaxcon._checks import check_array, check_number
from jaxcon.constraints import Constraints, check_entries, named

__all__ = [
    "Mixture",
    "best_iterate",
    "mixture",
]


def __dir__() -> list[str]:
    """Lists the public names."""
    return __all__


class Mixture(NamedTuple):
    """Distribution over iterates, with its average loss and violation.

    Attributes:
        weights: probabilities p, float64 of shape (t,); few are not zero.
        loss: sum p f.
        max_violation: largest abs sum p h or max(sum p g, 0).
        feasible: whether some mixture keeps within the tolerance; this one then does so
            up to rounding.
    """

    weights: np.ndarray
    loss: float
    max_violation: float
    feasible: bool


def best_iterate(losses: Any, residuals: Constraints, tolerance: float = 1e-3) -> int:
    r"""Returns the feasible iterate of lowest loss, or else the least infeasible one.

    .. math::
        \arg\min_i \{f_i : \max(|h_i|, g_i, 0) \le \epsilon\}

    It is the rule of `fit`'s ``best``, for iterates evaluated after the run, e.g. on
    held-out data. Of equal iterates the first is taken; those that are not finite are
    left out.

    Args:
        losses: f of each iterate, (t,).
        residuals: h and g of each, (t,) or (t, n).
        tolerance: epsilon >= 0, the largest violation that counts as feasible.

    Returns:
        An index into the iterates.

    Raises:
        TypeError: losses or residuals are no real numbers, or `tolerance` is none.
        ValueError: lengths differ, no iterate is finite, or `tolerance` is negative.

    Example:
        >>> import numpy as np
        >>> import jaxcon as jc
        >>> g = jc.Constraints(inequality={"cap": np.array([0.4, -0.1, -0.2])})
        >>> jc.best_iterate([1.0, 2.0, 3.0], g)
        1
    """
    check_number("tolerance", tolerance, least=0)
    losses, sides, finite = _iterates(losses, residuals)
    violations = sides[:, finite].max(axis=0, initial=0.0)
    feasible = violations <= tolerance
    rank = np.where(feasible, losses[finite], np.inf) if feasible.any() else violations
    return int(np.flatnonzero(finite)[np.argmin(rank)])


def mixture(losses: Any, residuals: Constraints, tolerance: float = 0.0) -> Mixture:
    r"""Returns the mixture of iterates of lowest loss that is feasible on average.

    .. math::
        \min_p \sum_i p_i f_i \quad \text{s.t.} \quad
        \Big|\sum_i p_i h_i\Big| \le \epsilon, \quad \sum_i p_i g_i \le \epsilon, \quad
        p \ge 0, \quad \sum_i p_i = 1

    This linear program is solved at a vertex: with m scalar constraints at most m + 1
    weights are not zero. If no mixture is feasible, :math:`\epsilon` becomes the least
    violation that a mixture can have, so that of the least infeasible mixtures the one
    of lowest loss is taken. Iterates that are not finite get weight 0.

    Args:
        losses: f of each iterate, (t,).
        residuals: h and g of each, (t,) or (t, n), all of one set of points.
        tolerance: epsilon >= 0, in the constraints' units.

    Returns:
        A `Mixture`.

    Raises:
        TypeError: losses or residuals are no real numbers, or `tolerance` is none.
        ValueError: lengths differ, no iterate is finite, or `tolerance` is negative.

    References:
        Cotter, Jiang, Gupta, Wang, Narayan, You and Sridharan, Optimization with
        Non-Differentiable Constraints with Applications to Fairness, Recall, Churn, and
        Other Goals (2019), on shrinking a stochastic classifier.

    Example:
        A rule that accepts all cases or none cannot accept half of them, but a mixture of
        the two can. A callback of `fit` collects the iterates of a game that never
        converges.

        >>> import jax, jax.numpy as jnp, optax, jaxcon as jc
        >>> share = lambda x, _: jnp.where(x > 0, 1.0, 0.0)
        >>> smooth = lambda x, _: jax.nn.sigmoid(x)
        >>> most = jc.Constraints(
        ...     inequality={"share": jc.proxy(
        ...         lambda x, _: smooth(x, _) - 0.5, lambda x, _: share(x, _) - 0.5)}
        ... )
        >>> problem = jc.Lagrangian(lambda x, _: -smooth(x, _), most)
        >>> solver = jc.alternating(problem, optax.sgd(1.0), jc.dual_ascent(optax.sgd(0.1)))
        >>> saved = []
        >>> keep = lambda state, infos: saved.append(state.params)   # after each chunk
        >>> _ = jc.fit(solver, jnp.array(1.0), steps=500, chunk=10, callbacks=[keep])
        >>> x = jnp.stack(saved)
        >>> residuals = jax.vmap(lambda x: jc.evaluate(most, x))(x)
        >>> mixed = jc.mixture(-jax.vmap(lambda x: share(x, None))(x), residuals)
        >>> print(mixed.weights[mixed.weights > 0], mixed.loss)
        [0.5 0.5] -0.5
    """
    check_number("tolerance", tolerance, least=0)
    losses, sides, finite = _iterates(losses, residuals)
    f, a = losses[finite], sides[:, finite]
    # A row a <= bound is a - bound <= 0 here, because the weights sum to one.
    found = _vertex(f, a - tolerance, np.ones_like(f))
    feasible = found is not None
    if found is None:
        bound = _least_violation(a)
        # The bound is met up to rounding, so it is relaxed by as much.
        found = _vertex(f, a - bound * (1 + 1e-8), np.ones_like(f))
        assert found is not None
    weights = np.zeros_like(losses)
    weights[finite] = found / found.sum()
    return Mixture(
        weights=weights,
        loss=float(f @ weights[finite]),
        max_violation=float(np.max(a @ weights[finite], initial=0.0)),
        feasible=feasible,
    )


def _least_violation(sides: np.ndarray) -> float:
    """Returns the least v such that some mixture has every side at most v."""
    count = sides.shape[1]
    # The variables are the weights and v itself.
    cost, total = np.eye(1, count + 1, count)[0], 1 - np.eye(1, count + 1, count)[0]
    with_v = np.hstack([sides, np.full((len(sides), 1), -1.0)])
    found = _vertex(cost, with_v, total)
    assert found is not None  # any mixture with its own violation is a solution
    return float(found[-1])


def _vertex(cost: np.ndarray, sides: np.ndarray, total: np.ndarray) -> Any:
    """Returns a vertex that minimises cost x s.t. sides x <= 0, total x = 1, x >= 0.

    None if no such x exists.
    """
    from scipy.optimize import linprog

    # The solver's tolerances are absolute and it drops coefficients below 1e-9, so rows
    # are brought to size one; a column that stands out (an iterate of a run that blew
    # up) is shrunk by itself instead of shrinking its whole row.
    program = np.vstack([cost - cost.min(), sides])
    size = np.abs(program)
    typical = [np.median(row[row > 0]) if row.any() else 1.0 for row in size]
    program = program / np.array(typical)[:, None]
    column = np.maximum(np.abs(program).max(axis=0), 1.0)
    program = program / column
    solution = linprog(
        program[0],
        program[1:] if len(sides) else None,
        np.zeros(len(sides)) if len(sides) else None,
        (total / column)[None],
        [1.0],
        method="highs-ds",
        options={
            "primal_feasibility_tolerance": 1e-10,
            "dual_feasibility_tolerance": 1e-10,
        },
    )
    if solution.status == 2:
        return None
    if solution.status != 0:
        raise RuntimeError(f"mixture: the linear program failed: {solution.message}")
    return np.maximum(solution.x, 0.0) / column


def _iterates(
    losses: Any, residuals: Constraints
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns losses (t,), rows that must be <= 0 (rows, t), and finite iterates (t,)."""
    losses = np.asarray(check_array("losses", losses, "(t,)", finite=None), np.float64)
    if not losses.size:
        raise ValueError("losses must hold at least one iterate, got shape (0,)")
    check_entries("residuals", residuals, "residual")
    sides = [np.zeros((0, len(losses)))]
    for kind, name, residual in named(residuals):
        label = f"residuals of {kind} constraint {name!r}"
        residual = check_array(label, residual, "(t,) or (t, n)", finite=None)
        residual = np.asarray(residual, np.float64)
        if len(residual) != len(losses):
            raise ValueError(
                f"{kind} constraint {name!r} has residuals of shape {residual.shape} but "
                f"losses {losses.shape}; stack them over the iterates, to (t,) or (t, n)"
            )
        rows = np.atleast_2d(residual.T)
        sides += [rows, -rows] if kind == "equality" else [rows]
    sides = np.vstack(sides)
    finite = np.isfinite(losses) & np.isfinite(sides).all(axis=0)
    if not finite.any():
        raise ValueError(f"none of the {len(losses)} iterates is finite")
    return losses, sides, finite
