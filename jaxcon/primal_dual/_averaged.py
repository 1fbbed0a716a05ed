r"""Proportional-integral control of multipliers in measured units, for minibatches.

With residuals r in units of their own size at the start and multipliers in units of
:math:`\Lambda = F / C`, at which a constraint's gradient is as long as the loss's,

.. math::
    \xi_t = \nu \xi_{t-1} + (1 - \nu) r_t, \qquad
    I_t = \max(I_{t-1} + k_t r_t, 0), \qquad
    \lambda_t = \max(I_t + \xi_{t-1}, 0)

The average that weights a batch's gradient is of the batches before it, so that the two
are independent.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxcon._checks import check_number
from jaxcon.constraints import Constraints
from jaxcon.lagrangians import Lagrangian, split
from jaxcon.primal_dual._scale import length, loss_scale, residual_scales
from jaxcon.primal_dual._solver import Solver, make_solver
from jaxcon.primal_dual._start import Proposal, Start
from jaxcon.primal_dual._state import PrimalDualState

# Weight of the past average, and integral times in a run.
_AVERAGE, _TIMES = 0.95, 30.0
# Share of the parameters' length by which a large residual may be mended, at least.
_LEAST = 1e-2
# Rate of Adam, which decays to nothing.
_RATE = 5e-3


class Control(NamedTuple):
    """State of the control of `stochastic_lagrangian`.

    Attributes:
        units: by constraint, a multiplier at which its gradient is as long as the
            loss's, each ().
        sizes: by constraint, a residual that counts as large, each ().
        average: xi, by constraint, each ().
        integral: I, by constraint, each ().
        step: of the run, int32 ().
    """

    units: Constraints
    sizes: Constraints
    average: Constraints
    integral: Constraints
    step: jax.Array


def stochastic_lagrangian(
    problem: Lagrangian,
    primal: optax.GradientTransformation | None = None,
    *,
    steps: int,
) -> Solver:
    r"""Solves a problem from minibatches, with gains measured on the first one.

    The multipliers follow PI control in the problem's own units, with averaged residuals
    (the module's docstring has the equations); the integral gain decays with the run, as
    the default rate of the parameters does. A residual of shape (n,) over points that
    change from step to step has no multiplier of its own at each: its mean violation has
    one, an exact penalty.

    Args:
        problem: the `Lagrangian`, without penalty, barrier or kinds of multipliers.
        primal: any optax optimizer of the parameters; Adam at 5e-3, decayed by a cosine
            over `steps`, unless given.
        steps: of the run.

    Returns:
        A `Solver`.

    Raises:
        TypeError: `problem` is no `Lagrangian`, or `primal` no transform.
        ValueError: `steps` is not positive, or the problem has a penalty, a barrier or
            kinds of multipliers, which `alternating` is for.

    References:
        Sohrabi et al., On PI Controllers for Updating Lagrange Multipliers in
        Constrained Optimization (2024), Algorithm 1, there without units.

    Example:
        >>> import jax, jax.numpy as jnp, jaxcon as jc
        >>> cap = jc.Constraints(inequality={"mean <= 1": lambda x, _: x - 1.0})
        >>> problem = jc.Lagrangian(lambda x, aims: jnp.mean((x - aims) ** 2), cap)
        >>> def batches(key):
        ...     return 2.0 + jax.random.normal(key, (16,))
        >>> solver = jc.stochastic_lagrangian(problem, steps=2000)
        >>> run = jc.fit(solver, 0.0, batches, key=jax.random.key(0), steps=2000)
        >>> print(f"{run.state.params:.1f}")
        1.0
    """
    check_number("steps", steps, least=1, whole=True)
    if primal is None:
        primal = optax.adam(optax.cosine_decay_schedule(_RATE, steps))
    name = "stochastic Lagrangian method"
    made = make_solver(problem, primal, optax.set_to_zero(), None, _controlled, name)
    for field in ("penalty", "barrier", "multipliers"):
        if getattr(problem, field):
            raise ValueError(
                f"stochastic_lagrangian sets its multipliers itself: {field}= of the "
                "Lagrangian is for alternating"
            )
    if made.weighted:
        raise ValueError(
            "stochastic_lagrangian: weights= of the loss are for alternating"
        )
    fields: dict[str, Any] = {**vars(made), "steps": int(steps)}
    return StochasticLagrangian(**fields)


@dataclass(frozen=True, eq=False)
class StochasticLagrangian(Solver):
    """Solver of `stochastic_lagrangian`."""

    per_point: ClassVar[bool] = False
    splits: ClassVar[bool] = False
    steps: int = 1

    def init(
        self, params: Any, batch: Any = None, extra: Any = None
    ) -> PrimalDualState:
        """Returns the state to start from, in units of what `batch` holds."""
        state = super().init(params, batch, extra)
        return state._replace(rule=jax.jit(self._measured)(state, split(batch)[0]))

    def _first(
        self, params: Any, extra: Any, loss: Any, residuals: Constraints
    ) -> PrimalDualState:
        state = super()._first(params, extra, loss, residuals)
        dtype = jnp.promote_types(loss.dtype, jnp.float32)

        def each(value: float) -> Constraints:
            return jax.tree.map(lambda _: jnp.full((), value, dtype), residuals)

        none = jnp.zeros((), jnp.int32)
        return state._replace(
            rule=Control(each(1.0), each(1.0), each(0.0), each(0.0), none)
        )

    def _measured(self, state: PrimalDualState, batch: Any) -> Control:
        args = self.problem, state.params
        found = self.problem.evaluate(state.params, batch, state.extra)
        of_loss = loss_scale(*args, state.params, batch, state.extra)
        scales = residual_scales(*args, batch, state.extra)
        parts = _signals(found.residuals)[0]

        def like(new: jax.Array, old: jax.Array) -> jax.Array:
            return new.astype(old.dtype)

        # Residuals that happen to be small at the start are not the scale of others.
        size = length(state.params)
        least = _LEAST * jnp.where(size > 0, size, 1.0)
        sizes = jax.tree.map(
            lambda r, c: jnp.maximum(jnp.abs(r), least * c), parts, scales
        )
        units = jax.tree.map(lambda c: of_loss / c, scales)
        rule = state.rule
        return rule._replace(
            units=jax.tree.map(like, units, rule.units),
            sizes=jax.tree.map(like, sizes, rule.sizes),
        )


def _signals(residuals: Constraints) -> tuple[Constraints, Constraints]:
    """Returns one number for each constraint, and its slope by the residual."""

    def mean(violation: Any) -> Any:
        def of(residual: jax.Array) -> tuple[jax.Array, jax.Array]:
            if residual.ndim == 0:
                return residual, jnp.ones_like(residual)
            return jax.value_and_grad(lambda r: jnp.mean(violation(r)))(residual)

        return of

    pairs = Constraints(
        {name: mean(jnp.abs)(r) for name, r in residuals.equality.items()},
        {name: mean(jax.nn.relu)(r) for name, r in residuals.inequality.items()},
    )
    return tuple(
        Constraints(*({name: pair[i] for name, pair in kind.items()} for kind in pairs))
        for i in range(2)
    )  # pyright: ignore[reportReturnType]


def _controlled(start: Start) -> Proposal:
    """Moves the parameters under the control's multipliers, and the control."""
    state, at, control = start.state, start.at, start.state.rule
    signals, slopes = _signals(at.residuals)
    errors = jax.tree.map(
        lambda r, size: (r / size).astype(size.dtype), signals, control.sizes
    )
    share = jnp.minimum(control.step / start.solver.steps, 1.0)
    gain = _TIMES / start.solver.steps * (1 + jnp.cos(jnp.pi * share)) / 2

    def kept(entries: Constraints) -> Constraints:
        return entries._replace(
            inequality=jax.tree.map(jax.nn.relu, entries.inequality)
        )

    first = control.step == 0
    average = jax.tree.map(
        lambda xi, e: jnp.where(first, e, _AVERAGE * xi + (1 - _AVERAGE) * e),
        control.average,
        errors,
    )
    integral = kept(
        jax.tree.map(
            lambda i, e: i + gain.astype(e.dtype) * e, control.integral, errors
        )
    )
    wanted = kept(jax.tree.map(jnp.add, control.integral, control.average))
    multipliers = jax.tree.map(
        lambda w, unit, slope, old: (w * unit * slope).astype(old.dtype),
        wanted,
        control.units,
        slopes,
        state.multipliers,
    )
    before = start.before._replace(multipliers=multipliers)
    found = start.gradient(at, before)
    gradient, terms, step = start.descend(at, found, None)
    rule = control._replace(average=average, integral=integral, step=control.step + 1)
    after = before._replace(rule=rule)
    return Proposal((at.residuals,), gradient, terms, step, None, after)
