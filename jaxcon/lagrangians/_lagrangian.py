"""The Lagrangian: the constrained problem that a solver solves."""

from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxcon import multipliers as kinds_of
from jaxcon._checks import check_function, check_real, described, inside
from jaxcon._dtypes import at_least_float32
from jaxcon.constraints import (
    Constraints,
    check_constraints,
    check_residuals,
    evaluate,
    named,
)
from jaxcon.lagrangians._batch import split
from jaxcon.lagrangians._formulas import (
    augmented_lagrangian,
    check_match,
    lagrangian,
    penalty_barrier_lagrangian,
)
from jaxcon.lagrangians._penalty_rules import PenaltyRule, penalty_rule
from jaxcon.multipliers import Kinds

Loss = Callable[..., Any]

_NO_CONSTRAINTS = Constraints()


class Evaluation(NamedTuple):
    """Loss and residuals from one evaluation, with what else it returns.

    A loss returns one to give residuals of the same forward pass, to report numbers, or
    to update state that is not trained.

    Attributes:
        loss: f, shape ().
        residuals: h and g by name, each () or (n,).
        aux: anything to report; `fit` keeps it for every step, so a few numbers.
        extra: the next value of the state that is not trained, e.g. batch statistics or
            a random key; None where there is none.

    Example:
        >>> import jax.numpy as jnp, optax, jaxcon as jc
        >>> def evaluate(params, batch):               # one pass for loss and constraint
        ...     y = batch @ params
        ...     total = jc.Constraints({"mean is 1": jnp.mean(y) - 1.0})
        ...     return jc.Evaluation(jnp.mean(y**2), total)
        >>> problem = jc.Lagrangian(evaluate, penalty=1.0)
        >>> solver = jc.alternating(problem, optax.sgd(0.1), jc.dual_ascent(optax.sgd(1.0)))
        >>> result = jc.fit(solver, jnp.zeros(1), jnp.ones((4, 1)), steps=200)
        >>> print(result.state.params.round(3))
        [1.]
    """

    loss: jax.Array
    residuals: Constraints = Constraints()
    aux: Any = None
    extra: Any = None


@dataclass(frozen=True, eq=False)
class Lagrangian:
    r"""A loss, its constraints, and how the constraints enter the objective.

    .. math::
        \min_\theta f(\theta) \quad \text{subject to} \quad h(\theta) = 0, \quad
        g(\theta) \le 0

    Equal operations in loss and constraints, e.g. a network evaluated at the same points,
    are evaluated and differentiated once.

    Args:
        loss: (params, batch) -> (), or ((), aux), or an `Evaluation`. Where a state has
            an ``extra`` part, the loss is called with it as third argument.
        constraints: functions (params, batch) -> residual, () or (n,). Left out where the
            loss returns an `Evaluation` with residuals.
        penalty: of the augmented Lagrangian: rho > 0, an optax schedule, a rule such as
            `growing_penalty`, or a dict of these by constraint name; None for the plain
            Lagrangian.
        barrier: phi of the penalty-barrier method for inequalities, e.g.
            `penalties.log_quadratic`; None for Rockafellar's penalty. Multipliers then
            start at one.
        multipliers: kinds by constraint name (`jaxcon.multipliers`); dense otherwise.

    Raises:
        TypeError: `constraints` is no `Constraints` of functions.
        ValueError: a penalty is not positive, a name is used twice, or a name in
            `penalty` or `multipliers` is no constraint's.

    References:
        Nocedal and Wright, Numerical Optimization (2006), sections 12.3 and 17.4.

    Example:
        >>> import jax.numpy as jnp, jaxcon as jc
        >>> sums = jc.Constraints(equality={"sum": lambda p, _: jnp.sum(p) - 1.0})
        >>> jc.Lagrangian(lambda p, _: jnp.sum(p**2), sums, penalty=1.0)
        Lagrangian of <lambda> subject to sum = 0, penalty 1.0
    """

    loss: Loss
    constraints: Constraints = _NO_CONSTRAINTS
    _: KW_ONLY
    penalty: Any = None
    barrier: Callable[[jax.Array], jax.Array] | None = None
    multipliers: Kinds = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Checks all that can be known before the first evaluation."""
        check_constraints(self.constraints)
        check_function("loss", self.loss, "(params, batch) -> ()")
        if self.barrier is not None:
            check_function("barrier", self.barrier, "residual -> phi, elementwise")
        if not isinstance(self.multipliers, Mapping):
            raise TypeError(
                "multipliers must be a dict of kinds by constraint name, got "
                f"{described(self.multipliers)}"
            )
        if any(self.constraints):
            self._check_names(self.constraints)
        elif not isinstance(self.penalty, Mapping):
            # Names are those of the loss's residuals, known at the first evaluation.
            self._check_rule(self.constraints)

    def __repr__(self) -> str:
        rules = {"equality": "= 0", "inequality": "<= 0"}
        held = [f"{name} {rules[kind]}" for kind, name, _ in named(self.constraints)]
        loss = getattr(self.loss, "__name__", type(self.loss).__name__)
        text = f"Lagrangian of {loss}"
        if held:
            text += f" subject to {', '.join(held)}"
        if self.penalty is not None:
            rule = isinstance(self.penalty, PenaltyRule) or callable(self.penalty)
            text += f", penalty {'by a rule' if rule else self.penalty}"
        return text

    def evaluate(self, params: Any, batch: Any = None, extra: Any = None) -> Evaluation:
        """Evaluates loss and residuals.

        Args:
            params: theta, any pytree of floating-point arrays.
            batch: what loss and constraints read.
            extra: state that is not trained, passed to the loss if it is not None.

        Returns:
            An `Evaluation`, checked.

        Raises:
            ValueError: the loss is not one number, a residual not () or (n,), or both
                the loss and `constraints` give residuals.
            TypeError: one of them is not real.
        """
        # Rebuilt here, so that a module may write into what it is given (flax nnx).
        more = [] if extra is None else [jax.tree.map(lambda leaf: leaf, extra)]
        reads = "(params, batch, extra)" if more else "(params, batch)"
        with inside(f"the loss, called with {reads}"):
            found = self.loss(params, batch, *more)
        if not isinstance(found, Evaluation):
            value: Any = found
            aux = None
            if type(found) is tuple and len(found) == 2:
                value, aux = found
            found = Evaluation(value, aux=aux)
        loss = _check_loss(found.loss)
        residuals = evaluate(self.constraints, params, batch)
        check_residuals(found.residuals)
        if any(found.residuals):
            if any(residuals):
                raise ValueError(
                    "the loss returned residuals in an Evaluation, and the Lagrangian has "
                    "constraints too: give all constraints in one of the two"
                )
            self._check_names(found.residuals)
            # Copied, so that nothing later changes a dict of the user's.
            residuals = Constraints(*map(dict, found.residuals))
            residuals = jax.tree.map(jnp.asarray, residuals)
        elif not any(residuals):
            self._check_names(residuals)
        return Evaluation(loss, residuals, found.aux, found.extra)

    def objective(
        self,
        loss: jax.Array,
        residuals: Constraints,
        multipliers: Constraints,
        penalty: Any,
    ) -> jax.Array:
        """Evaluates the (augmented) Lagrangian.

        Args:
            loss: f, shape ().
            residuals: h and g, each () or (n,).
            multipliers: mu and lambda, shaped like `residuals`.
            penalty: rho of each constraint, or None for the plain Lagrangian.

        Returns:
            Shape (), in float32 at least: squares of float16 overflow.
        """
        loss, residuals = jax.tree.map(at_least_float32, (loss, residuals))
        if penalty is None:
            return lagrangian(loss, residuals, multipliers)
        if self.barrier is not None:
            return penalty_barrier_lagrangian(
                loss, residuals, multipliers, penalty, self.barrier
            )
        return augmented_lagrangian(loss, residuals, multipliers, penalty)

    def rule(self, residuals: Constraints) -> PenaltyRule | None:
        """Returns the rule that moves the penalties; None for the plain Lagrangian."""
        return penalty_rule(self.penalty, residuals)

    def start(self, residuals: Constraints, dtype: Any) -> tuple[Constraints, Any, Any]:
        """Returns multipliers and penalties to start from.

        Args:
            residuals: h and g, or their shapes.
            dtype: of the penalties, which are float32 at least.

        Returns:
            Multipliers, penalties (None without any), and the state of the penalty rule.
        """
        # A barrier's penalty scales with its multiplier: one of zero would stay zero.
        value = 0.0 if self.barrier is None else 1.0
        multipliers = kinds_of.start(self.multipliers, residuals, value)
        rule = self.rule(residuals)
        dtype = jnp.promote_types(dtype, jnp.float32)
        penalty, memory = (None, ()) if rule is None else rule.init(residuals, dtype)
        return multipliers, penalty, memory

    def read(
        self, touched: Constraints, residuals: Constraints, batch: Any
    ) -> Constraints:
        """Returns the multiplier of each residual.

        Args:
            touched: the multipliers that the batch reads (`multipliers.gather`).
            residuals: h and g, each () or (n,).
            batch: what the constraints read.

        Returns:
            mu and lambda, shaped like `residuals`.

        Raises:
            ValueError: their shapes differ.
        """
        multipliers = kinds_of.read(self.multipliers, touched, residuals, batch)
        check_match(residuals, multipliers)
        return multipliers

    def multiplier_estimates(self, state: Any, batch: Any = None) -> Constraints:
        r"""Returns the multipliers that the objective's gradient uses.

        .. math::
            \hat\mu = \mu + \rho h, \qquad \hat\lambda = \max(\lambda + \rho g, 0)

        With a barrier they are the derivatives of its terms.

        Args:
            state: a solver's state, or anything with ``params``, ``multipliers`` and
                perhaps ``penalty`` and ``extra``.
            batch: what loss and constraints read; of a `SplitBatch` the primal part.

        Returns:
            One for each residual, in the residuals' shapes.

        References:
            Nocedal and Wright, Numerical Optimization (2006), eq. 17.39.

        Example:
            >>> import jax.numpy as jnp, jaxcon as jc
            >>> at_most_1 = jc.Constraints(inequality={"cap": lambda x, _: x - 1.0})
            >>> problem = jc.Lagrangian(lambda x, _: x**2, at_most_1, penalty=2.0)
            >>> lam = jc.Constraints(inequality={"cap": jnp.array(0.5)})
            >>> rho = jc.Constraints(inequality={"cap": jnp.array(2.0)})
            >>> at = jc.Point(jnp.array(1.5), lam, rho)
            >>> print(problem.multiplier_estimates(at).inequality["cap"])
            1.5
        """
        batch, _ = split(batch)
        found = self.evaluate(state.params, batch, getattr(state, "extra", None))
        touched = kinds_of.gather(self.multipliers, state.multipliers, batch)
        multipliers = self.read(touched, found.residuals, batch)
        return jax.grad(self.objective, argnums=1)(
            found.loss, found.residuals, multipliers, getattr(state, "penalty", None)
        )

    def _check_names(self, constraints: Constraints) -> None:
        self._check_rule(constraints)
        kinds_of.check_kinds(self.multipliers, constraints)

    def _check_rule(self, constraints: Constraints) -> None:
        if self.rule(constraints) is None and self.barrier is not None:
            raise ValueError("barrier= needs a penalty: pass penalty= too")


class Point(NamedTuple):
    """Parameters and multipliers of one point, e.g. of a known solution.

    Attributes:
        params: theta.
        multipliers: mu and lambda, shaped like the residuals.
        penalty: rho of each constraint, if the multipliers are those of an augmented
            Lagrangian; None where they are the estimates themselves.
        extra: state that is not trained, if the loss reads one.
    """

    params: Any
    multipliers: Constraints
    penalty: Any = None
    extra: Any = None


def _check_loss(value: Any) -> jax.Array:
    form = "one real number (), or the pair (number, aux), or a jaxcon.Evaluation"
    value = check_real("loss returned", value, form)
    if value.shape != ():
        raise ValueError(
            f"loss returned shape {value.shape}; it must be one number (), "
            "e.g. a mean over the batch"
        )
    return value
