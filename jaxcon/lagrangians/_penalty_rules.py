r"""Rules by which the penalty of each constraint follows a run."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.core import Tracer

from jaxcon._checks import check_function, check_number, inside
from jaxcon._dtypes import largest
from jaxcon.constraints import Constraints, named, only
from jaxcon.lagrangians._formulas import check_penalty

# Share of itself that an objective keeps from one step to the next at a minimum.
_SETTLED = 0.999


class PenaltyRule(NamedTuple):
    """Rule of penalties, in optax's grammar: two pure functions.

    Attributes:
        init: (residuals, dtype) -> (penalty, state): `Constraints` of rho, each of shape
            (), one for each residual; and whatever the rule must remember.
        update: (residuals, state, penalty, multipliers, value) -> (penalty, state), of
            the residuals, multipliers and augmented Lagrangian at the present point.
    """

    init: Callable[[Constraints, Any], tuple[Constraints, Any]]
    update: Callable[..., tuple[Constraints, Any]]


class GrowthState(NamedTuple):
    """State of `growing_penalty`.

    Attributes:
        reference: the violation that must fall, of each constraint, each of shape ().
        calls: since the last look, int32 of shape ().
        value: the augmented Lagrangian one update ago, shape ().
    """

    reference: Constraints
    calls: jax.Array
    value: jax.Array


class AdaptiveState(NamedTuple):
    """State of `adaptive_penalty`.

    Attributes:
        mean_square: running mean of squared violations, each of shape ().
        value: the augmented Lagrangian one update ago, shape ().
    """

    mean_square: Constraints
    value: jax.Array


def constant_penalty(penalty: Any) -> PenaltyRule:
    """Keeps one rho for every constraint and step, as ``penalty=10.0`` does.

    Args:
        penalty: rho > 0, shape ().

    Returns:
        A rule.

    Raises:
        ValueError: `penalty` is not positive.
        TypeError: it is no number.
    """
    check_penalty(penalty)
    check_number("penalty", penalty, above=0)
    return PenaltyRule(
        lambda residuals, dtype: (_each(residuals, penalty, dtype), ()),
        lambda residuals, state, penalty, multipliers, value: (penalty, state),
    )


def scheduled_penalty(schedule: Callable[[Any], Any]) -> PenaltyRule:
    r"""Sets the penalty by a schedule, :math:`\rho_t = \mathrm{schedule}(t)`.

    ``penalty=optax.exponential_decay(...)`` stands for it. The clock counts steps that
    were taken; one that was skipped leaves it where it is.

    Args:
        schedule: an optax schedule, (int32 of shape ()) -> rho > 0.

    Returns:
        A rule.

    Raises:
        ValueError: the schedule does not begin at a positive number. Where it later is
            zero or negative, steps are not finite, and so skipped.

    Example:
        >>> import jax.numpy as jnp, optax, jaxcon as jc
        >>> from jaxcon.lagrangians import scheduled_penalty
        >>> rule = scheduled_penalty(optax.exponential_decay(1.0, 100, 10.0))
        >>> g = jc.Constraints(inequality={"cap": jnp.array(0.5)})
        >>> print(rule.init(g, float)[0].inequality["cap"])
        1.0
    """

    def init(residuals: Constraints, dtype: Any) -> tuple[Constraints, Any]:
        count = jnp.zeros((), jnp.int32)
        return _each(residuals, schedule(count), dtype), count

    def update(
        residuals: Constraints,
        state: Any,
        penalty: Constraints,
        multipliers: Constraints,
        value: jax.Array,
    ) -> tuple[Constraints, Any]:
        count = state + 1
        rho = schedule(count)
        rho = jnp.where(rho > 0, rho, jnp.nan)
        return jax.tree.map(lambda old: jnp.asarray(rho, old.dtype), penalty), count

    check_function("schedule", schedule, "of the step -> rho")
    with inside("the schedule of a penalty"):
        first = schedule(0)
        check_penalty(first)
        check_number("penalty", first, above=0)
    return PenaltyRule(init, update)


def growing_penalty(
    initial: float,
    *,
    every: int,
    factor: float = 10.0,
    decrease: float = 0.25,
    tolerance: float = 1e-4,
    limit: float | None = None,
) -> PenaltyRule:
    r"""Grows the penalty of each constraint whose violation does not fall fast enough.

    Every `every` steps, with :math:`V` the constraint's largest
    :math:`|h|` or :math:`|\max(g, -\lambda / \rho)|` and :math:`V'` the one before,

    .. math::
        \rho \leftarrow \min(\gamma \rho, \rho_{\max}) \quad \text{if} \quad
        V > \max(\tau V', \epsilon)

    and else rho stays. It compares only near a minimum, where the augmented Lagrangian no
    longer falls by a thousandth of itself in a step,
    :math:`L_t \ge L_{t-1} - |L_{t-1}| / 1000`: what is violated before says nothing of
    rho. Pair it with ``every(method_of_multipliers(), k)`` of the same k.

    Args:
        initial: rho to start from, > 0.
        every: steps from one look to the next, at least 1.
        factor: gamma > 1.
        decrease: tau in (0, 1], the share of the violation that may be left.
        tolerance: epsilon >= 0, below which a violation is small enough, in its own units.
        limit: rho_max, beyond which the objective is too ill-conditioned to be minimised;
            :math:`\rho_0 / \varepsilon^{2/3}` with the number format's machine epsilon
            unless given, 4e4 times the first in float32.

    Returns:
        A rule, with a memory for each constraint.

    Raises:
        ValueError: an argument is out of its range.

    References:
        Nocedal and Wright, Numerical Optimization (2006), section 17.4; Birgin and
        Martinez, Practical Augmented Lagrangian Methods (2014), algorithm 4.1.

    Example:
        >>> import jax.numpy as jnp, jaxcon as jc
        >>> rule = jc.growing_penalty(1.0, every=1)
        >>> h = jc.Constraints(equality={"sum": jnp.array(0.5)})
        >>> rho, state = rule.init(h, float)
        >>> for _ in range(2):                            # h stays where it is
        ...     rho, state = rule.update(h, state, rho, h, jnp.array(0.0))
        >>> print(rho.equality["sum"])
        10.0
    """
    check_penalty(initial, "initial penalty")
    check_number("initial", initial, above=0)
    check_number("every", every, least=1, whole=True)
    check_number("factor", factor, above=1)
    check_number("decrease", decrease, above=0, most=1)
    check_number("tolerance", tolerance, least=0)
    if limit is not None:
        check_number("limit", limit, above=0, finite=False)
        known = not any(isinstance(end, Tracer) for end in (initial, limit))
        if known and limit < initial:
            raise ValueError(f"limit must be at least initial = {initial}, got {limit}")

    def init(residuals: Constraints, dtype: Any) -> tuple[Constraints, GrowthState]:
        # Nothing has been seen yet: whatever comes first is a fall.
        reference = _each(residuals, largest(dtype), dtype)
        state = GrowthState(reference, jnp.zeros((), jnp.int32), -largest(dtype) / 2)
        return _each(residuals, initial, dtype), state

    def update(
        residuals: Constraints,
        state: GrowthState,
        penalty: Constraints,
        multipliers: Constraints,
        value: jax.Array,
    ) -> tuple[Constraints, GrowthState]:
        now = jax.tree.map(
            lambda v, old: jnp.max(jnp.abs(v), initial=0).astype(old.dtype),
            unsettled(residuals, multipliers, penalty),
            state.reference,
        )
        calls = ((state.calls + 1) % every).astype(jnp.int32)
        look = (calls == 0) & has_stalled(value, state.value, _SETTLED)

        def grown(rho: jax.Array, v: jax.Array, before: jax.Array) -> jax.Array:
            stuck = v > jnp.maximum(decrease * before, tolerance)
            most = limit
            if most is None:
                most = initial / jnp.finfo(rho.dtype).eps ** (2 / 3)
            larger = jnp.minimum(factor * rho, most).astype(rho.dtype)
            return jnp.where(look & stuck, larger, rho)

        return (
            jax.tree.map(grown, penalty, now, state.reference),
            GrowthState(
                jax.tree.map(
                    lambda v, before: jnp.where(look, v, before), now, state.reference
                ),
                calls,
                value.astype(state.value.dtype),
            ),
        )

    return PenaltyRule(init, update)


def adaptive_penalty(
    learning_rate: float = 0.01,
    *,
    decay: float = 0.99,
    initial: float = 1.0,
    decrease: float = 0.999,
    eps: float = 1e-16,
) -> PenaltyRule:
    r"""Sets the penalty of each constraint by the root mean square of its violation.

    With :math:`C` the constraint's :math:`h` or :math:`\max(g, -\lambda / \rho)`,

    .. math::
        \bar v \leftarrow \zeta \bar v + (1 - \zeta) \operatorname{mean}(C^2), \qquad
        \rho \leftarrow \max\left(\rho, \frac{\eta}{\sqrt{\bar v + \epsilon}}\right)

    the second only when the augmented Lagrangian has stopped falling,
    :math:`L_t \ge L_{t-1} - (1 - \omega) |L_{t-1}|`. Pair it with
    ``when_stalled(method_of_multipliers(), decrease)``, which moves the multipliers at
    the same steps.

    Args:
        learning_rate: eta > 0.
        decay: zeta in [0, 1).
        initial: rho to start from, > 0.
        decrease: omega in (0, 1].
        eps: > 0, what keeps rho below eta / sqrt(eps).

    Returns:
        A rule, with a memory for each constraint.

    Raises:
        ValueError: an argument is out of its range.

    References:
        Hu, Basir and Senocak, Conditionally Adaptive Augmented Lagrangian Method for
        Physics-Informed Learning of Forward and Inverse Problems (2026), whose
        constraints are each one number, and whose objective is positive.

    Example:
        >>> import jax.numpy as jnp, jaxcon as jc
        >>> rule = jc.adaptive_penalty(1.0, decay=0.0)
        >>> h = jc.Constraints(equality={"sum": jnp.array(0.125)})
        >>> rho, state = rule.init(h, float)
        >>> for _ in range(2):                            # the objective stays
        ...     rho, state = rule.update(h, state, rho, h, jnp.array(1.0))
        >>> print(rho.equality["sum"])
        8.0
    """
    check_penalty(initial, "initial penalty")
    check_number("initial", initial, above=0)
    check_number("learning_rate", learning_rate, above=0)
    check_number("decay", decay, least=0, below=1)
    check_number("decrease", decrease, above=0, most=1)
    check_number("eps", eps, above=0)

    def init(residuals: Constraints, dtype: Any) -> tuple[Constraints, AdaptiveState]:
        state = AdaptiveState(_each(residuals, 0.0, dtype), largest(dtype))
        return _each(residuals, initial, dtype), state

    def update(
        residuals: Constraints,
        state: AdaptiveState,
        penalty: Constraints,
        multipliers: Constraints,
        value: jax.Array,
    ) -> tuple[Constraints, AdaptiveState]:
        mean_square = jax.tree.map(
            lambda old, c: (
                decay * old + (1 - decay) * jnp.sum(jnp.square(c)) / max(c.size, 1)
            ).astype(old.dtype),
            state.mean_square,
            unsettled(residuals, multipliers, penalty),
        )
        stalled = has_stalled(value, state.value, decrease)

        def adapted(rho: jax.Array, v: jax.Array) -> jax.Array:
            wanted = learning_rate / jnp.sqrt(v + eps)
            larger = jnp.maximum(rho, wanted).astype(rho.dtype)
            return jnp.where(stalled, larger, rho)

        return (
            jax.tree.map(adapted, penalty, mean_square),
            AdaptiveState(mean_square, value.astype(state.value.dtype)),
        )

    return PenaltyRule(init, update)


def has_stalled(value: Any, before: Any, decrease: Any) -> jax.Array:
    """Returns whether an objective fell by less than a share since the call before.

    Args:
        value: the objective, shape ().
        before: one call ago, shape (); the dtype's largest number before the first.
        decrease: omega; a fall of less than the share 1 - omega counts as none.

    Returns:
        A boolean of shape (); False at the first call.
    """
    return value >= before - (1 - decrease) * jnp.abs(before)


def unsettled(
    residuals: Constraints, multipliers: Constraints, penalty: Constraints
) -> Constraints:
    r"""Measures the distance of each constraint from feasible *and* complementary.

    .. math::
        h, \qquad \max(g, -\lambda / \rho)

    Zero where h = 0, and where g <= 0 with lambda = 0 or g = 0 with lambda > 0; rho times
    it is what the method of multipliers would add to the multipliers.

    Args:
        residuals: h and g, each () or (n,).
        multipliers: mu and lambda, shaped like `residuals`.
        penalty: rho of each constraint, each of shape ().

    Returns:
        One entry for each constraint of `penalty`, shaped like its residual.
    """
    return Constraints(
        {name: residuals.equality[name] for name in penalty.equality},
        {
            name: jnp.maximum(
                residuals.inequality[name], -multipliers.inequality[name] / rho
            )
            for name, rho in penalty.inequality.items()
        },
    )


def penalty_rule(penalty: Any, constraints: Constraints) -> PenaltyRule | None:
    """Returns the rule that a `penalty=` argument stands for.

    Args:
        penalty: None, a number, an optax schedule, a `PenaltyRule`, or a dict of these
            by constraint name, where a constraint may be missing.
        constraints: anything with an entry for each constraint.

    Returns:
        A rule, or None where no constraint has a penalty.

    Raises:
        ValueError: a penalty is not positive, or its name is no constraint's.
        TypeError: it is none of those.
    """
    if penalty is None or isinstance(penalty, PenaltyRule):
        return penalty
    if isinstance(penalty, Mapping):
        return _by_name(penalty, constraints)
    if isinstance(penalty, Constraints):
        raise TypeError("penalty takes a dict by constraint name, got Constraints")
    if callable(penalty):
        return scheduled_penalty(penalty)
    return constant_penalty(penalty)


def _by_name(
    penalties: Mapping[str, Any], constraints: Constraints
) -> PenaltyRule | None:
    """Returns a rule that applies each constraint's own."""
    names = [name for _, name, _ in named(constraints)]
    for name, entry in penalties.items():
        if name not in names:
            raise ValueError(
                f"penalty of {name!r}: no such constraint; there are {names}"
            )
        if not isinstance(entry, PenaltyRule):
            with inside(f"the schedule of the penalty of {name!r}"):
                first = entry(0) if callable(entry) else entry
                check_penalty(Constraints({name: first}))
    rules = {
        name: penalty_rule(entry, constraints) for name, entry in penalties.items()
    }
    rules = {name: rule for name, rule in rules.items() if rule is not None}

    def join(parts: list[Constraints]) -> Constraints:
        return Constraints(
            {name: rho for part in parts for name, rho in part.equality.items()},
            {name: rho for part in parts for name, rho in part.inequality.items()},
        )

    def init(residuals: Constraints, dtype: Any) -> tuple[Constraints, Any]:
        began = {
            name: rule.init(only(residuals, {name}), dtype)
            for name, rule in rules.items()
        }
        return (
            join([penalty for penalty, _ in began.values()]),
            {name: state for name, (_, state) in began.items()},
        )

    def update(
        residuals: Constraints,
        state: Any,
        penalty: Constraints,
        multipliers: Constraints,
        value: jax.Array,
    ) -> tuple[Constraints, Any]:
        moved = {
            name: rule.update(
                only(residuals, {name}),
                state[name],
                only(penalty, {name}),
                only(multipliers, {name}),
                value,
            )
            for name, rule in rules.items()
        }
        return (
            join([penalty for penalty, _ in moved.values()]),
            {name: state for name, (_, state) in moved.items()},
        )

    return PenaltyRule(init, update) if rules else None


def _each(residuals: Constraints, value: Any, dtype: Any) -> Constraints:
    """Returns one number for each residual."""
    return jax.tree.map(lambda _: jnp.asarray(value, dtype), residuals)
