"""What the three orders share: the problem, looked at and priced; moves, made or not."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxcon import multipliers as kinds_of
from jaxcon.constraints import (
    Constraints,
    check_constraints,
    evaluate,
    grouped,
    max_violation,
    merged,
    named,
    only,
    same,
    violation,
    worst,
)
from jaxcon.lagrangians import (
    augmented_lagrangian,
    check_match,
    lagrangian,
    penalty_barrier_lagrangian,
    safeguarded_estimates,
)
from jaxcon.multipliers import Indexed, Kinds
from jaxcon.primal_dual._dual import Dual, capped, make_dual
from jaxcon.primal_dual._state import Info, Loss, PrimalDualState, Solver
from jaxcon.transforms import (
    GradientTerms,
    Objective,
    PenaltyRule,
    fired,
    like,
    penalty_rule,
    total,
)
from jaxcon.transforms._entries import as_transform

Step = Callable[..., tuple[PrimalDualState, Info]]

# States of what a user puts into a chain to go on where a gradient is NaN: zero_nans,
# apply_if_finite, and MultiSteps with skip_not_finite.
ANSWERS = (optax.ZeroNansState, optax.ApplyIfFiniteState, optax.MultiStepsState)


class Point(NamedTuple):
    """Loss and residuals at some parameters, and how to pull weights back from them."""

    loss: jax.Array
    residuals: Constraints
    pullback: Callable[[tuple[jax.Array, Constraints]], tuple[Any]]
    aux: Any


class Prices(NamedTuple):
    """What the dual side moves, as far as a batch can touch it."""

    multipliers: Constraints
    penalty: Any
    dual: Any
    rule: Any


class Weighed(NamedTuple):
    """The objective at a point.

    Attributes:
        multipliers: of each residual.
        value: of the objective, ().
        gradient: with respect to the parameters; `GradientTerms` of it where terms are
        moved
            apart.
    """

    multipliers: Constraints
    value: jax.Array
    gradient: Any


class Parts(NamedTuple):
    """The problem and its transforms, made ready."""

    loss: Loss
    constraints: Constraints
    primal: optax.GradientTransformationExtraArgs
    dual: Dual
    rule: PenaltyRule | None
    barrier: Any
    kinds: Kinds
    dual_batch: bool
    terms: optax.GradientTransformationExtraArgs | None

    def split(self, batch: Any) -> tuple[Any, Any]:
        """The batches of the primal's and of the dual's move."""
        if not self.dual_batch:
            return batch, batch
        if not (isinstance(batch, tuple) and len(batch) == 2):
            raise ValueError(
                "with dual_batch=True a batch is a pair, (batch of the parameters' move, "
                f"batch of the multipliers' move), got {type(batch).__name__}"
            )
        return batch

    def evaluate(
        self, params: Any, batch: Any
    ) -> tuple[tuple[jax.Array, Constraints], Any]:
        """Loss and residuals, and what the loss returned beside its value."""
        value, aux = _scalar_loss(self.loss(params, batch))
        return (value, evaluate(self.constraints, params, batch)), aux

    def objective(
        self,
        loss: jax.Array,
        residuals: Constraints,
        multipliers: Constraints,
        penalty: Any,
    ) -> jax.Array:
        """The (augmented) Lagrangian."""
        if penalty is None:
            return lagrangian(loss, residuals, multipliers)
        if self.barrier is not None:
            return penalty_barrier_lagrangian(
                loss, residuals, multipliers, penalty, self.barrier
            )
        return augmented_lagrangian(loss, residuals, multipliers, penalty)

    def look(self, params: Any, batch: Any) -> Point:
        """One forward pass, ready to be pulled back with any multipliers."""
        if self.terms is not None:
            return self.look_apart(params, batch)
        (loss, residuals), pullback, aux = jax.vjp(
            lambda params: self.evaluate(params, batch), params, has_aux=True
        )
        return Point(loss, residuals, pullback, aux)

    def look_apart(self, params: Any, batch: Any) -> Point:
        """The same, to be pulled back to one gradient for each term."""
        loss, of_loss, aux = jax.vjp(
            lambda params: _scalar_loss(self.loss(params, batch)), params, has_aux=True
        )
        # A group is one pass through the network, which all of its members pull back.
        groups = [
            jax.vjp(partial(evaluate, group, batch=batch), params)
            for group in grouped(self.constraints)
        ]
        residuals = merged([found for found, _ in groups], self.constraints)

        def pullback(weights: tuple[jax.Array, Constraints]) -> tuple[GradientTerms]:
            gradients = []
            for found, of_group in groups:
                none = jax.tree.map(jnp.zeros_like, found)
                for kind, name, _ in named(found):
                    entries = getattr(none, kind) | {
                        name: getattr(weights[1], kind)[name]
                    }
                    alone = none._replace(**{kind: entries})
                    gradients.append(Constraints(**{kind: {name: of_group(alone)[0]}}))
            apart = merged(gradients, self.constraints)
            return (GradientTerms(of_loss(weights[0])[0], apart),)

        return Point(loss, residuals, pullback, aux)

    def look_again(self, params: Any, point: Point, batch: Any) -> Constraints:
        """The residuals that the dual sees at `point`: of its own batch, if it has one."""
        if not self.dual_batch:
            return point.residuals
        return evaluate(self.constraints, params, batch)

    def prices(self, state: PrimalDualState, batch: Any) -> Prices:
        """What a batch can touch of the dual side."""
        return Prices(
            kinds_of.gather(self.kinds, state.multipliers, batch),
            state.penalty,
            self.dual.gather(state.dual, batch),
            state.rule,
        )

    def read(self, prices: Prices, residuals: Constraints, batch: Any) -> Constraints:
        """The multiplier of each residual."""
        multipliers = kinds_of.read(self.kinds, prices.multipliers, residuals, batch)
        check_match(residuals, multipliers)
        return multipliers

    def weigh(self, point: Point, prices: Prices, batch: Any) -> Weighed:
        """Multipliers, objective and its gradient with respect to the parameters."""
        # The objective is a function of two things only, so its gradient there is the
        # pullback's weights: 1 for the loss and the multiplier estimates for h and g.
        multipliers = self.read(prices, point.residuals, batch)
        value, weights = jax.value_and_grad(self.objective, argnums=(0, 1))(
            point.loss, point.residuals, multipliers, prices.penalty
        )
        return Weighed(multipliers, value, point.pullback(weights)[0])

    def sum(
        self, state: PrimalDualState, point: Point, penalty: Any, weighed: Weighed
    ) -> tuple[Any, Any]:
        """The gradients of all terms as one, and what their transform remembers."""
        if self.terms is None:
            return weighed.gradient, ()

        def value(name: str) -> jax.Array:
            """What one constraint adds to the objective."""
            return self.objective(
                jnp.zeros_like(point.loss),
                only(point.residuals, {name}),
                only(weighed.multipliers, {name}),
                None if penalty is None else only(penalty, {name}),
            )

        names = [name for _, name, _ in named(self.constraints)]
        terms = weighed.gradient
        moved, memory = self.terms.update(
            terms,
            state.terms,
            like(terms, [state.params] * (1 + len(names))),  # pyright: ignore[reportArgumentType]
            values=like(terms, [point.loss, *map(value, names)]),
        )
        return total(moved.entries()), memory  # pyright: ignore[reportAttributeAccessIssue]

    def descend(
        self,
        state: PrimalDualState,
        batch: Any,
        penalty: Any,
        point: Point,
        weighed: Weighed,
        elsewhere: bool = False,
    ) -> tuple[Any, Any, Any]:
        """New parameters, primal state and memory of the terms' transform.

        `elsewhere`: whether the order moves parameters by what it saw at other ones.
        """
        gradient, terms = self.sum(state, point, penalty, weighed)

        def value(params: Any) -> jax.Array:
            """What a line search sees: the same objective."""
            (loss, residuals), _ = self.evaluate(params, batch)
            return self.objective(loss, residuals, weighed.multipliers, penalty)

        def curvature() -> Constraints:

            def slope(residuals: Constraints) -> jax.Array:
                slopes = jax.grad(self.objective, argnums=1)(
                    point.loss, residuals, weighed.multipliers, penalty
                )
                return sum(map(jnp.sum, jax.tree.leaves(slopes)), jnp.zeros(()))

            # No entry's slope depends on another's: the sum has each entry's own.
            return jax.grad(slope)(point.residuals)

        told = value if elsewhere else Objective(value, curvature, self.loss, batch)
        updates, primal = self.primal.update(
            gradient,
            state.primal,
            state.params,
            value=weighed.value,
            grad=gradient,
            value_fn=told,
        )
        return optax.apply_updates(state.params, updates), primal, terms

    def climb(
        self, prices: Prices, loss: jax.Array, residuals: Constraints, batch: Any
    ) -> Prices:
        """New multipliers and penalties: the residuals are the dual gradient."""
        multipliers = self.read(prices, residuals, batch)
        # What a transform does not ask for is never computed: XLA leaves it out.
        value, estimates = jax.value_and_grad(self.objective, argnums=1)(
            loss, residuals, multipliers, prices.penalty
        )
        estimates = kinds_of.joined(self.kinds, multipliers, estimates, batch)
        if self.barrier is not None:
            estimates = safeguarded_estimates(multipliers, estimates)
        moved, dual = self.dual.update(
            kinds_of.ascent(self.kinds, prices.multipliers, residuals, batch),
            prices.dual,
            prices.multipliers,
            value=value,
            estimates=estimates,
            penalty=prices.penalty,
        )
        penalty, rule = prices.penalty, prices.rule
        if self.rule is not None:
            penalty, rule = self.rule.update(
                residuals, rule, penalty, multipliers, value
            )
        return Prices(moved, penalty, dual, rule)


def make_parts(
    loss: Loss,
    constraints: Constraints,
    primal: optax.GradientTransformation,
    dual: Any,
    penalty: Any,
    barrier: Any,
    multipliers: Kinds,
    dual_batch: bool,
    terms: Any,
) -> Parts:
    """Checks what a user passed to an order."""
    check_constraints(constraints)
    rule = penalty_rule(penalty, constraints)
    kinds_of.check_kinds(multipliers, constraints)
    if barrier is not None and rule is None:
        raise ValueError("barrier= needs a penalty: pass penalty= too")
    for name, kind in multipliers.items():
        if dual_batch and isinstance(kind, Indexed):
            raise ValueError(
                f"the indexed multipliers of {name!r} move with their own samples' "
                "batch: they go without dual_batch=True"
            )
    return Parts(
        loss,
        constraints,
        optax.with_extra_args_support(primal),
        make_dual(dual, multipliers, constraints),
        rule,
        barrier,
        multipliers,
        dual_batch,
        None if terms is None else as_transform("terms", terms),
    )


def make_method(parts: Parts, step: Step, climbs_first: bool = False) -> Solver:
    """A method of that step, which weighs gradients before or after multipliers move."""

    def residuals(params: Any, batch: Any = None) -> Constraints:
        return evaluate(parts.constraints, params, parts.split(batch)[1])

    def estimates(state: PrimalDualState, batch: Any = None) -> Constraints:
        here, _ = parts.split(batch)
        (loss, residuals), _ = parts.evaluate(state.params, here)
        multipliers = parts.read(parts.prices(state, here), residuals, here)
        return jax.grad(parts.objective, argnums=1)(
            loss, residuals, multipliers, state.penalty
        )

    def gradients(state: PrimalDualState, batch: Any = None) -> GradientTerms:
        here, there = parts.split(batch)
        prices = parts.prices(state, there)
        point = parts.look_apart(state.params, here)
        if climbs_first:
            residuals = parts.look_again(state.params, point, there)
            prices = parts.climb(prices, point.loss, residuals, there)
        return parts.weigh(point, prices, here).gradient

    return Solver(partial(_init, parts), step, estimates, residuals, gradients)


def _init(parts: Parts, params: Any, batch: Any = None) -> PrimalDualState:
    here, _ = parts.split(batch)
    params = jax.tree.map_with_path(_float_leaf, params)
    (loss, residuals), _ = jax.eval_shape(parts.evaluate, params, here)
    penalty, rule = None, ()
    if parts.rule is not None:
        penalty, rule = parts.rule.init(residuals, loss.dtype)
    # A penalty-barrier price scales with its multiplier: one of zero would stay zero.
    start = 0.0 if parts.barrier is None else 1.0
    multipliers = kinds_of.start(parts.kinds, residuals, start)
    state = PrimalDualState(
        params=params,
        multipliers=multipliers,
        penalty=penalty,
        primal=parts.primal.init(params),
        dual=parts.dual.init(multipliers),
        rule=rule,
        terms=_init_terms(parts, params),
        step=jnp.zeros((), jnp.int32),
        skipped=jnp.zeros((), jnp.int32),
    )
    # Indices and networks that do not fit their residual speak now, not in the step.
    jax.eval_shape(
        lambda state: parts.read(parts.prices(state, here), residuals, here), state
    )
    return jax.tree.map(_own, state)


def _init_terms(parts: Parts, params: Any) -> Any:
    if parts.terms is None:
        return ()
    each: Any = GradientTerms(params, same(params, parts.constraints))
    return parts.terms.init(each)


def finish(
    parts: Parts,
    state: PrimalDualState,
    batch: Any,
    point: Point,
    before: Prices,
    seen: Any,
    gradient: Any,
    moved: tuple[Any, Any, Any, Prices],
) -> tuple[PrimalDualState, Info]:
    """Moves if all that was `seen` and comes of it is finite, else touches nothing.

    Args:
        parts: the method's.
        state: before the step.
        batch: as it was passed to the step.
        point: where the step began.
        before: the dual side as the step found it.
        seen: all losses and residuals that the moves came of.
        gradient: what the parameters' move came of.
        moved: new parameters, new states of the primal transform and of that of terms,
            new prices.

    Returns:
        The state after the step, and its info.
    """
    here, there = parts.split(batch)
    params, primal, terms, after = moved
    # A finite gradient can still overflow the parameters.
    finite = _all_finite((point.loss, seen, params, after.multipliers, after.penalty))
    # Nor may a memory, e.g. a mean of squares, that never would recover.
    finite &= _still_finite(
        (before.dual, before.rule, state.terms), (after.dual, after.rule, terms)
    )
    finite &= _all_finite(gradient) | _answered(gradient, state.primal, primal)
    # Selecting fuses with the update; a conditional would copy every buffer, and an
    # accelerator would wait for the host to read its predicate. Of indexed multipliers
    # only the batch's rows are selected: the tables are as large as the data.
    params, primal, terms, after = jax.tree.map(
        lambda new, old: jnp.where(finite, new, old),
        (params, primal, terms, after),
        (state.params, state.primal, state.terms, before),
    )
    often = clips(state.primal, state.terms, before.dual)
    now = clips(primal, terms, after.dual)
    # -inf satisfies g <= 0, but nothing can follow from it: as NaN it is seen.
    residuals = jax.tree.map(
        lambda r: jnp.where(jnp.isfinite(r), r, jnp.nan), point.residuals
    )
    read = parts.read(before, point.residuals, here)
    info = Info(
        loss=point.loss,
        max_violation=max_violation(residuals),
        violation=worst(violation(residuals)),
        multiplier=worst(jax.tree.map(jnp.abs, read)),
        penalty=Constraints() if state.penalty is None else state.penalty,
        capped=capped(before.dual, state.multipliers),
        clipped={name: count > often[name] for name, count in now.items()},
        finite=finite,
        aux=point.aux,
    )
    new = PrimalDualState(
        params=params,
        multipliers=kinds_of.scatter(
            parts.kinds, state.multipliers, after.multipliers, there
        ),
        penalty=after.penalty,
        primal=primal,
        dual=parts.dual.scatter(state.dual, after.dual, there),
        rule=after.rule,
        terms=terms,
        step=state.step + 1,
        skipped=state.skipped + jnp.where(finite, 0, 1),
    )
    return new, info


def _answered(gradient: Any, before: Any, after: Any) -> Any:
    """Whether the primal's chain has its own answer to a NaN, and it was one."""
    has = [
        isinstance(state, ANSWERS)
        for state in jax.tree.leaves(before, is_leaf=lambda s: isinstance(s, ANSWERS))
    ]
    if not any(has):
        return False
    infinite = [jnp.any(jnp.isinf(leaf)) for leaf in jax.tree.leaves(gradient)]
    return ~jnp.any(jnp.stack(infinite)) & _still_finite(before, after)


def clips(primal: Any, terms: Any, dual: Any) -> dict[str, jax.Array]:
    """How often each clip changed something.

    Args:
        primal: state of the primal transform.
        terms: state of the transform of single terms' gradients.
        dual: state of the dual transform.

    Returns:
        Numbers of shape () by the names of `Info.clipped`.
    """
    of_dual = {f"dual {name}": count for name, count in fired(dual).items()}
    return fired((primal, terms)) | of_dual


def _all_finite(tree: Any) -> jax.Array:
    return jnp.all(
        jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)])
    )


def _still_finite(before: Any, after: Any) -> jax.Array:
    """Whether nothing became infinite or NaN; what was before, may be."""
    sound = [
        jnp.all(jnp.isfinite(new) | ~jnp.isfinite(old))
        for old, new in zip(jax.tree.leaves(before), jax.tree.leaves(after))
        if jnp.issubdtype(jnp.result_type(new), jnp.inexact)
    ]
    return jnp.all(jnp.stack([jnp.array(True), *sound]))


def _scalar_loss(value: Any) -> tuple[jax.Array, Any]:
    value, aux = value if isinstance(value, tuple) else (value, None)
    if jnp.shape(value) != ():
        raise ValueError(
            f"loss returned shape {jnp.shape(value)}; it must be one number (), "
            "e.g. a mean over the batch"
        )
    if not jnp.issubdtype(jnp.result_type(value), jnp.floating):
        raise TypeError(f"loss returned {jnp.result_type(value)}; it must be real")
    return jnp.asarray(value), aux


def _own(leaf: Any) -> jax.Array:
    """A copy that shares its buffer with nothing, so that the state can be donated.

    And of no weak type, with which optax.lbfgs begins: a step is traced only once.
    """
    return jnp.array(leaf, jnp.result_type(leaf), copy=True)


def _float_leaf(path: Any, leaf: Any) -> jax.Array:
    name = f"params{jax.tree_util.keystr(path)}"
    try:
        dtype = jnp.result_type(leaf)
    except TypeError:
        dtype = type(leaf).__name__
    if not (isinstance(dtype, jnp.dtype) and jnp.issubdtype(dtype, jnp.floating)):
        raise TypeError(
            f"{name} is {dtype}; params must hold floating-point arrays only: split the "
            "rest off first (flax.nnx.split, equinox.partition)"
        )
    # A weakly typed leaf (a Python float) would make the second call trace anew.
    return jnp.asarray(leaf, dtype)
