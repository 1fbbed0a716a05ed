"""The augmented Lagrangian method: subproblems solved inexactly, everything scaled."""

from dataclasses import dataclass
from numbers import Real
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxcon._checks import check_number
from jaxcon.constraints import Constraints
from jaxcon.lagrangians import Lagrangian, split, unsettled
from jaxcon.primal_dual._scale import length, loss_scale, residual_scales
from jaxcon.primal_dual._solver import Solver, make_solver
from jaxcon.primal_dual._start import Proposal, Start
from jaxcon.primal_dual._state import PrimalDualState
from jaxcon.primal_dual._steps import DualVariables, Gradient
from jaxcon.transforms import method_of_multipliers, newton
from jaxcon.transforms._entries import as_transform

# First relative stationarity, and its share from one subproblem to the next.
_FIRST, _TIGHTER = 0.1, 0.1
# First penalties, in units in which loss and constraints have gradients of length 1.
_LEAST, _MOST = 0.1, 10.0
# Share of a violation that may be left, and growth of the penalty where more is.
_LEFT, _GROWTH = 0.5, 10.0
# Growth of the penalties where a subproblem has no minimum, and what shows it: a fall of
# the loss, in its own scale, or parameters so many times as large as they were.
_RESCUE, _AWAY = 100.0, 1e8
# Share of itself that the objective may still lose in so many steps at a run's end, and
# in a whole subproblem that mends nothing.
_SLOW, _WINDOW, _IDLE = 1e-2, 10, 1e-3
# Stationarity, in what is wanted, that is far from it.
_ROUGH = 10.0
# Steps of a subproblem.
_STEPS = 300
# Updates in a row without progress that end the run, and subproblems without minimum.
_STUCK, RESCUES = 4, 5


class Outer(NamedTuple):
    """State of the outer iteration of `augmented_lagrangian_method`.

    Attributes:
        loss_scale: F, the length of a gradient that counts as large, ().
        scales: by constraint, the length of its residuals' gradients, each ().
        stationarity: the subproblem's gradient over F, ().
        wanted: epsilon, what it shall fall to, ().
        violation: by constraint, at the last update of the multipliers, each ().
        start: the parameters that the run started from.
        anchor: those that the subproblem started from.
        value: the objective there, ().
        last: the objective at the last step that was a multiple of ten, ().
        inner: steps of the subproblem, int32 (); -1 before the scales are measured.
        updates: of the multipliers, int32 ().
        stuck: updates in a row without progress, int32 ().
        rescues: subproblems that had no minimum, int32 ().
        finished: whether the run is done, boolean ().
    """

    loss_scale: jax.Array
    scales: Constraints
    stationarity: jax.Array
    wanted: jax.Array
    violation: Constraints
    start: Any
    anchor: Any
    value: jax.Array
    last: jax.Array
    inner: jax.Array
    updates: jax.Array
    stuck: jax.Array
    rescues: jax.Array
    finished: jax.Array


class WatchedState(NamedTuple):
    """State of an optimizer, and whether its last move was none."""

    inner: Any
    still: jax.Array


def augmented_lagrangian_method(
    problem: Lagrangian,
    primal: optax.GradientTransformation | None = None,
    *,
    tolerance: float | None = None,
) -> Solver:
    r"""Solves a problem on one batch by inexact subproblems, with no numbers to choose.

    A subproblem minimises the augmented Lagrangian until its gradient is small against
    the loss's own scale F,

    .. math:: \|\nabla_\theta L_\rho(\theta, \lambda)\| \le \epsilon_k F

    Then the multipliers become their estimates, :math:`\epsilon` a tenth, and ten times as
    large the penalty of each constraint whose violation did not halve. One that has no
    minimum is begun anew under a hundredfold penalty. The first penalties balance loss
    and violations in units in which both have gradients of length 1.

    It ends where the gradient is below the tolerance, the objective no longer falls, and
    the violations are lost in roundings; or where four updates in a row mend nothing.
    `jaxcon.fit` then stops before its steps are used up.

    Args:
        problem: the `Lagrangian`, with dense multipliers. A penalty that is a number is
            the first one.
        primal: optimizer of the parameters, begun anew with each subproblem; `newton()`
            unless given. `optax.lbfgs()` takes steps that cost less.
        tolerance: the gradient over F that counts as small, > 0; the root of the number
            format's machine epsilon unless given.

    Returns:
        A `Solver`, whose states count updates and say in ``rule`` how stationary they are.

    Raises:
        TypeError: `problem` is no `Lagrangian`, or `primal` no transform.
        ValueError: the tolerance is not positive, or the problem has a penalty by a rule, a
            barrier, or kinds of multipliers, which `alternating` is for.

    References:
        Birgin and Martinez, Practical Augmented Lagrangian Methods (2014), algorithm 4.1
        and section 10.2.4; Nocedal and Wright, Numerical Optimization (2006), algorithm
        17.4.

    Example:
        >>> import jax.numpy as jnp, jaxcon as jc
        >>> circle = jc.Constraints({"circle": lambda p, _: p @ p - 2.0})
        >>> problem = jc.Lagrangian(lambda p, _: p[0] + p[1], circle)
        >>> solver = jc.augmented_lagrangian_method(problem)
        >>> run = jc.fit(solver, jnp.array([-0.5, -1.5]), steps=1000)
        >>> print(run.state.params.round(3))
        [-1. -1.]
        >>> print(f"{run.state.multipliers.equality['circle']:.3f}")
        0.500
    """
    check_number("tolerance", 1.0 if tolerance is None else tolerance, above=0)
    primal = newton() if primal is None else as_transform("primal", primal)
    name = "augmented Lagrangian method"
    dual = method_of_multipliers()
    made = make_solver(problem, watched(primal), dual, None, _inexact, name)
    if not isinstance(problem.penalty, Real | None):
        raise ValueError(
            f"{name} moves its penalties itself: penalty= may be the first, one number"
        )
    for field in ("barrier", "multipliers"):
        if getattr(problem, field):
            raise ValueError(f"{name}: {field}= of the Lagrangian is for alternating")
    if made.weighted:
        raise ValueError(f"{name}: weights= of the loss are for alternating")
    fields: dict[str, Any] = {**vars(made), "tolerance": tolerance}
    return AugmentedLagrangianMethod(**fields)


@dataclass(frozen=True, eq=False)
class AugmentedLagrangianMethod(Solver):
    """Solver of `augmented_lagrangian_method`."""

    splits: ClassVar[bool] = False
    tolerance: float | None = None

    def finished(self, state: PrimalDualState) -> jax.Array:
        """Returns whether nothing is left to do."""
        return state.rule.finished

    def progress(self, state: PrimalDualState) -> list[str]:
        """Describes the subproblem, how far it is solved, and the largest penalty."""
        rule = state.rule
        return [
            f"subproblem {int(rule.updates) + 1}",
            f"stationarity {float(rule.stationarity):.1e} of {float(rule.wanted):.1e}",
            f"penalty {float(_largest(state.penalty)):.1e}",
        ]

    def _first(
        self, params: Any, extra: Any, loss: Any, residuals: Constraints
    ) -> PrimalDualState:
        state = super()._first(params, extra, loss, residuals)
        dtype = jnp.promote_types(loss.dtype, jnp.float32)

        def each(value: float) -> Constraints:
            return jax.tree.map(lambda _: jnp.full((), value, dtype), residuals)

        one, none = jnp.ones((), dtype), jnp.zeros((), jnp.int32)
        unmeasured = jnp.full((), -1, jnp.int32)
        rule = Outer(
            loss_scale=one,
            scales=each(1.0),
            stationarity=one,
            wanted=_FIRST * one,
            violation=each(float(jnp.finfo(dtype).max)),
            start=params,
            anchor=params,
            value=one,
            last=one,
            inner=unmeasured,
            updates=none,
            stuck=none,
            rescues=none,
            finished=jnp.zeros((), bool),
        )
        penalty = each(1.0) if state.penalty is None else state.penalty
        return state._replace(penalty=penalty, rule=rule)

    def scales(
        self, state: PrimalDualState, batch: Any
    ) -> tuple[jax.Array, Constraints]:
        """Measures the loss's scale, and that of each constraint's residuals."""
        args, rule = (self.problem, state.params), state.rule
        of_loss = loss_scale(*args, rule.start, batch, state.extra)
        of_residuals = residual_scales(*args, batch, state.extra)
        return of_loss.astype(rule.value.dtype), jax.tree.map(
            lambda new, old: new.astype(old.dtype), of_residuals, rule.scales
        )


def watched(
    primal: optax.GradientTransformation,
) -> optax.GradientTransformationExtraArgs:
    """Remembers whether an optimizer's last move was none."""
    inner = optax.with_extra_args_support(primal)

    def init(params: Any) -> WatchedState:
        return WatchedState(inner.init(params), jnp.zeros((), bool))

    def update(
        updates: Any, state: WatchedState, params: Any = None, **more: Any
    ) -> tuple[Any, WatchedState]:
        moves, after = inner.update(updates, state.inner, params, **more)
        eps = jnp.finfo(jax.tree.leaves(params)[0].dtype).eps
        still = length(moves) <= 0.1 * eps * length(params)
        return moves, WatchedState(after, still)

    return optax.GradientTransformationExtraArgs(init, update)  # pyright: ignore[reportArgumentType]


class _Look(NamedTuple):
    """State of a step before it moves, beside what is wanted.

    Attributes:
        stationarity: the objective's gradient over F, ().
        violation: by constraint, each ().
        first: whether the problem's scales are still to be measured, boolean ().
        update: whether the multipliers' turn has come, boolean ().
        solved: whether it came because the subproblem is solved, boolean ().
        away: whether the subproblem has no minimum, boolean ().
        converged: whether the run is done, boolean ().
        idle: whether this subproblem mended nothing, boolean ().
    """

    stationarity: jax.Array
    violation: Constraints
    first: jax.Array
    update: jax.Array
    solved: jax.Array
    away: jax.Array
    converged: jax.Array
    idle: jax.Array


def _look(start: Start, found: Gradient) -> _Look:
    """Compares gradient, violations and objective with what is wanted."""
    state, rule = start.state, start.state.rule
    eps = float(jnp.finfo(rule.value.dtype).eps)
    goal = start.solver.tolerance or eps**0.5
    size = 1.0 + length(rule.anchor)
    deep = rule.value - found.value > _AWAY * size * rule.loss_scale
    away = deep | (length(state.params) > _AWAY * size)
    first = rule.inner < 0
    # Or beyond the loss's domain, e.g. at the root of a number that is zero.
    broken = (rule.inner > 0) & ~jnp.isfinite(length(found.gradient))
    away = (away | broken) & ~first

    stationarity = (length(found.gradient) / rule.loss_scale).astype(rule.value.dtype)
    falls, size_of = rule.last - found.value, jnp.abs(found.value)
    tenth = rule.inner % _WINDOW == 0
    slow = (rule.inner > 0) & tenth & (falls <= _SLOW * size_of)
    # Where no move is left, the objective cannot fall.
    still = state.primal.still
    done = (stationarity <= goal) & (slow | still)
    done |= stationarity <= goal * eps**0.25
    violation = jax.tree.map(
        lambda v, old: jnp.max(jnp.abs(v), initial=0).astype(old.dtype),
        unsettled(start.at.residuals, found.multipliers, start.before.penalty),
        rule.violation,
    )
    # In the parameters' units: the way to feasibility, to first order.
    now, then = (
        _largest(jax.tree.map(jnp.divide, v, rule.scales))
        for v in (violation, rule.violation)
    )
    enough = jnp.where(rule.wanted > goal, stationarity <= rule.wanted, done)
    solved = enough | still
    stays = now > _LEFT * then
    exact = now <= eps**0.95
    # Nor can a violation, whose square is lost in the roundings of the objective.
    lost = now <= jnp.where(still, eps**0.7, eps**0.8)
    return _Look(
        stationarity=jnp.where(away, rule.stationarity, stationarity),
        violation=violation,
        first=first,
        update=(solved | (rule.inner >= _STEPS)) & ~away & ~first,
        solved=solved,
        away=away,
        converged=done & lost & (stays | exact),
        idle=stays & (still | (rule.value - found.value <= _IDLE * size_of)),
    )


def _inexact(start: Start) -> Proposal:
    """Moves the parameters or, where the subproblem is solved, the multipliers.

    The first step measures the scales and moves nothing.
    """
    state, before, solver = start.state, start.before, start.solver
    found = start.gradient(start.at, before)
    _, _, step = start.descend(start.at, found, before.penalty)
    look = _look(start, found)
    event = look.first | look.update | look.away
    anchor = _chosen(look.update, state.params, state.rule.anchor)

    def moved(gradient: Any, params: Any, primal: Any) -> tuple[Any, Any]:
        def begin() -> tuple[Any, Any]:
            return anchor, solver.primal.init(anchor)

        return jax.lax.cond(event, begin, lambda: step(gradient, params, primal))

    after = _after(start, found, look, anchor)
    gradient = jax.tree.map(lambda g: jnp.where(event, 0, g), found.gradient)
    return Proposal((start.at.residuals,), gradient, (), moved, None, after)


def _after(start: Start, found: Gradient, look: _Look, anchor: Any) -> DualVariables:
    """Returns multipliers, penalties and the outer iteration's state after the step."""
    at, before, rule = start.at, start.before, start.state.rule
    dtype = rule.value.dtype
    eps = float(jnp.finfo(dtype).eps)
    goal = start.solver.tolerance or eps**0.5
    event = look.first | look.update | look.away
    tenth = rule.inner % _WINDOW == 0
    loss_scale, scales = jax.lax.cond(
        look.first | look.update,
        lambda: start.solver.scales(start.state, split(start.batch)[0]),
        lambda: (rule.loss_scale, rule.scales),
    )

    def penalty(
        rho: jax.Array, v: jax.Array, old: jax.Array, c: jax.Array
    ) -> jax.Array:
        limit = jnp.maximum(rho, eps ** (-2 / 3) * rule.loss_scale / c**2)
        stays = (v > _LEFT * old) & (v > eps**0.9 * c)
        grows = look.update & look.solved & stays
        grown = jnp.where(grows, jnp.minimum(_GROWTH * rho, limit), rho)
        return jnp.where(look.away, _RESCUE * rho, grown).astype(rho.dtype)

    penalties = jax.tree.map(
        penalty, before.penalty, look.violation, rule.violation, rule.scales
    )
    if start.solver.problem.penalty is None:
        balanced = _balanced(start, found, loss_scale, scales)
        penalties = _chosen(look.first, balanced, penalties)
    grew = _largest(penalties) > _largest(before.penalty)
    idle = jnp.where(look.idle & ~grew, rule.stuck + 1, 0)
    stuck = jnp.where(look.update, idle, rule.stuck).astype(jnp.int32)
    rescues = rule.rescues + look.away.astype(jnp.int32)
    climbed = start.climb(at.loss, at.residuals)
    # Where no step is found, though far from the subproblem's solution, the residuals say
    # nothing of the multipliers.
    far = look.stationarity > _ROUGH * jnp.maximum(rule.wanted, goal)
    moves = look.update & ~(start.state.primal.still & far)
    multipliers = _chosen(moves, climbed.multipliers, before.multipliers)
    value = start.solver.problem.objective(
        at.loss, at.residuals, multipliers, penalties
    ).astype(dtype)
    tighter = jnp.maximum(_TIGHTER * rule.wanted, goal).astype(dtype)
    outer = Outer(
        loss_scale=loss_scale,
        scales=scales,
        stationarity=look.stationarity,
        wanted=jnp.where(look.update, tighter, rule.wanted),
        violation=_chosen(look.update, look.violation, rule.violation),
        start=rule.start,
        anchor=anchor,
        value=jnp.where(look.first | look.update, value, rule.value),
        last=jnp.where(event, value, jnp.where(tenth, found.value, rule.last)).astype(
            dtype
        ),
        inner=jnp.where(event, 0, rule.inner + 1).astype(jnp.int32),
        updates=rule.updates + look.update.astype(jnp.int32),
        stuck=stuck,
        rescues=rescues,
        finished=rule.finished
        | (look.update & (look.converged | (stuck >= _STUCK)))
        | (rescues >= RESCUES),
    )
    return DualVariables(multipliers, penalties, before.dual, outer)


def _balanced(
    start: Start, found: Gradient, loss_scale: jax.Array, scales: Constraints
) -> Constraints:
    """Returns penalties under which the loss and the violations weigh about the same."""
    broken = unsettled(start.at.residuals, found.multipliers, start.before.penalty)
    ways = jax.tree.map(lambda v, c: jnp.sum((v / c) ** 2), broken, scales)
    square = sum(jax.tree.leaves(ways), jnp.zeros(()))
    tiny = jnp.finfo(square.dtype).tiny
    balance = 4 * jnp.abs(start.at.loss / loss_scale) / jnp.maximum(square, tiny)
    first = jnp.clip(balance, _LEAST, _MOST) * loss_scale
    return jax.tree.map(
        lambda c, old: (first / c**2).astype(old.dtype), scales, start.before.penalty
    )


def _chosen(which: jax.Array, new: Any, old: Any) -> Any:
    return jax.tree.map(lambda n, o: jnp.where(which, n, o), new, old)


def _largest(entries: Constraints) -> jax.Array:
    """Returns the largest of numbers by constraint, (); zero without any."""
    numbers = jax.tree.leaves(entries)
    return jnp.max(jnp.stack(numbers)) if numbers else jnp.zeros(())
