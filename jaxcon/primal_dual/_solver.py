"""The solver: a problem, an optimizer for each side, and the order of their steps."""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import optax

from jaxcon import multipliers as kinds_of
from jaxcon._checks import described
from jaxcon.constraints import Constraints
from jaxcon.lagrangians import Lagrangian, SplitBatch, split
from jaxcon.multipliers import Indexed
from jaxcon.points import PointRule
from jaxcon.primal_dual._dual import Dual, check_dual, make_dual
from jaxcon.primal_dual._guard import all_finite, guarded, keeps_finite, still_finite
from jaxcon.primal_dual._info import clips, report
from jaxcon.primal_dual._linearization import (
    gradient_terms_like,
    linearize,
)
from jaxcon.primal_dual._moving import (
    check_points,
    first_points,
    moved,
    with_points,
)
from jaxcon.primal_dual._start import Proposal, Start
from jaxcon.primal_dual._state import Info, PrimalDualState
from jaxcon.primal_dual._steps import (
    dual_variables,
)
from jaxcon.transforms import GradientTerms, MeanSquares, WeightedSquares
from jaxcon.transforms._entries import DualTransform, as_transform

Transform = optax.GradientTransformationExtraArgs


Order = Callable[[Start], Proposal]


@dataclass(frozen=True, eq=False)
class Solver:
    """A method at work on one problem: pure functions in optax's grammar.

    Made by `simultaneous`, `alternating` and `extragradient`.

    Attributes:
        problem: the `Lagrangian` it solves.
        primal: optax transform of the parameters.
        dual: transform of the multipliers, or a dict of them by constraint name.
        per_term: transform of the gradients of single terms, or None.
        order: in which the two sides move.
        points: rules that move points, by key of the batch.
    """

    problem: Lagrangian
    primal: Transform
    dual: Any
    per_term: Transform | None
    order: Order
    name: str
    dual_first: bool = False
    points: Mapping[str, PointRule] = dataclasses.field(default_factory=dict)
    # Whether a residual (n,) has a multiplier at each entry, which then must stay there.
    per_point: ClassVar[bool] = True
    # Whether it takes a batch of each side's own.
    splits: ClassVar[bool] = True

    def __repr__(self) -> str:
        return f"Solver({self.name}) of {self.problem!r}"

    def init(
        self, params: Any, batch: Any = None, extra: Any = None
    ) -> PrimalDualState:
        """Returns the state to start from.

        Args:
            params: theta, any pytree of floating-point arrays.
            batch: a batch like those of the steps, of which shapes matter alone, and
                points that a rule moves.
            extra: state that is not trained, if the loss takes any.

        Returns:
            A `PrimalDualState` that shares no buffer with its arguments.

        Raises:
            TypeError: a parameter is not floating-point, or there is none.
            ValueError: what the loss, a constraint or multipliers return does not fit.
        """
        here, _ = split(batch)
        if not jax.tree.leaves(params):
            raise TypeError(f"params must hold arrays, got {described(params)}")
        params = jax.tree.map_with_path(_float_leaf, params)
        self._check_batch(batch)
        points = first_points(self.points, here)
        found = jax.eval_shape(self.problem.evaluate, params, here, extra)
        self._check_extra(extra, found.extra)
        dual = self._dual(found.residuals)
        state = self._first(params, extra, found.loss, found.residuals)
        state = state._replace(points=points)
        if self.weighted is not None:
            weights = self.weighted.first_weights(params, here)
            state = state._replace(weights=weights)

        def read(state: PrimalDualState) -> Constraints:
            touched = dual_variables(self.problem, dual, state, here).multipliers
            return self.problem.read(touched, found.residuals, here)

        # Indices and networks that do not fit their residual fail here, not in the step.
        jax.eval_shape(read, state)
        return jax.tree.map(_own, state)

    def step(
        self, state: PrimalDualState, batch: Any = None
    ) -> tuple[PrimalDualState, Info]:
        """Takes one step; jit, vmap and scan it.

        Args:
            state: what `init` or an earlier step returned.
            batch: what loss and constraints read; a `SplitBatch` for one of each side.

        Returns:
            The next state, and what was evaluated before the step.

        Raises:
            TypeError: when traced, `state` is no solver's state.
            ValueError: when traced, it is the state of another method or problem, or what
                the loss, a constraint or multipliers return does not fit.
        """
        batch = self.with_points(state, batch)
        here, there = split(batch)
        start = self._start(state, batch, self.per_term is not None)
        at, dual, before = start.at, start.dual, start.before
        proposal = self.order(start)
        after = proposal.after
        finite = all_finite((at.loss, proposal.evaluated)) & all_finite(
            (after.multipliers, after.penalty), (before.multipliers, before.penalty)
        )
        # Nor may a memory, e.g. a mean of squares, that never would recover.
        finite &= still_finite(
            (before.dual, before.rule, state.terms, state.extra),
            (after.dual, after.rule, proposal.terms, at.extra),
        )
        weighed = start.state.weights
        finite &= still_finite(state.weights, weighed)

        def step() -> Any:
            moves = proposal.moved or proposal.step(
                proposal.gradient, state.params, state.primal
            )
            return *moves, (proposal.terms, at.extra, weighed, after)

        in_place = proposal.moved is None and keeps_finite(self.primal)
        (params, primal, (terms, extra, weights, kept)), finite = guarded(
            finite,
            proposal.gradient,
            step,
            (
                state.params,
                state.primal,
                (state.terms, state.extra, state.weights, before),
            ),
            in_place,
        )
        often = clips(state.primal, state.terms, before.dual)
        now = clips(primal, terms, kept.dual)
        info = report(
            state,
            at,
            self.problem.read(before.multipliers, at.residuals, here),
            before.dual,
            {name: count > often[name] for name, count in now.items()},
            finite,
        )
        if self.weighted is not None:
            info = info._replace(loss=self.problem.loss(state.params, here))
        state = PrimalDualState(
            params=params,
            multipliers=kinds_of.scatter(
                self.problem.multipliers, state.multipliers, kept.multipliers, there
            ),
            penalty=kept.penalty,
            primal=primal,
            dual=dual.scatter(state.dual, kept.dual, there),
            rule=kept.rule,
            terms=terms,
            extra=extra,
            step=state.step + 1,
            skipped=state.skipped + jnp.where(finite, 0, 1),
            points=state.points,
            weights=weights,
        )
        return moved(self, state, batch), info

    def with_points(self, state: Any, batch: Any = None) -> Any:
        """Returns a batch with the points that a state has reached.

        Args:
            state: of this solver, or the best iterate of its run.
            batch: a batch of the steps.

        Returns:
            The batch on which the next step evaluates, e.g. for `jaxcon.kkt`; itself where
            no rule moves points.

        Raises:
            TypeError: `state` is neither.
            ValueError: it has points of another solver.
        """
        if not hasattr(state, "points"):
            raise _no_state(state)
        self._check_batch(batch)
        if sorted(state.points) != sorted(self.points):
            raise ValueError(
                f"the state has moving points {sorted(state.points)}, but {self!r} moves "
                f"{sorted(self.points)}; start from this solver's init"
            )
        return with_points(state.points, batch)

    @property
    def weighted(self) -> MeanSquares | None:
        """The loss where it has weights of single residuals, or None."""
        loss = self.problem.loss
        return loss if isinstance(loss, MeanSquares) and loss.weights else None

    def _first(
        self, params: Any, extra: Any, loss: Any, residuals: Constraints
    ) -> PrimalDualState:
        """Returns the first state; of loss and residuals only the shapes are read."""
        multipliers, penalty, rule = self.problem.start(residuals, loss.dtype)
        per_term = ()
        if self.per_term is not None:
            each: Any = gradient_terms_like(params, residuals)
            per_term = self.per_term.init(each)
        return PrimalDualState(
            params=params,
            multipliers=multipliers,
            penalty=penalty,
            primal=self.primal.init(params),
            dual=self._dual(residuals).init(multipliers),
            rule=rule,
            terms=per_term,
            extra=extra,
            step=jnp.zeros((), jnp.int32),
            skipped=jnp.zeros((), jnp.int32),
        )

    def finished(self, state: PrimalDualState) -> jax.Array:
        """Returns whether nothing is left to do, boolean (); of most solvers never."""
        del state
        return jnp.zeros((), bool)

    def progress(self, state: PrimalDualState) -> list[str]:
        """Describes in a few words how far a run is, beside loss and violations."""
        del state
        return []

    def gradients(self, state: PrimalDualState, batch: Any = None) -> GradientTerms:
        """Evaluates the gradient of each term of the objective.

        Args:
            state: where.
            batch: what loss and constraints read.

        Returns:
            `GradientTerms`: the gradient of the loss, and of each constraint's part,
            weighted as the next step weights them.
        """
        batch = self.with_points(state, batch)
        start = self._start(state, batch, per_term=True)
        variables = start.before
        if self.dual_first:
            variables = start.climb(start.at.loss, start.dual_residuals(start.at))
        return start.gradient(start.at, variables).gradient

    def _start(self, state: PrimalDualState, batch: Any, per_term: bool) -> Start:
        if not isinstance(state, PrimalDualState):
            raise _no_state(state)
        here, there = split(batch)
        solver = self
        if self.weighted is not None:
            given, state = self._next_weights(self.weighted, state, here)
            problem = dataclasses.replace(
                self.problem, loss=WeightedSquares(self.problem, given)
            )
            solver = dataclasses.replace(self, problem=problem)
        at = linearize(solver.problem, state.params, here, state.extra, per_term)
        ours = jax.eval_shape(
            self._first, state.params, state.extra, at.loss, at.residuals
        )
        if jax.tree.structure(state.multipliers) != jax.tree.structure(
            ours.multipliers
        ):
            self._check_state(state, ours, "multipliers")
        dual = self._dual(at.residuals)
        touched = kinds_of.gather(self.problem.multipliers, state.multipliers, there)
        self.problem.read(touched, at.residuals, here)  # names those of other shapes
        for field in ("penalty", "primal", "dual", "rule", "terms"):
            self._check_state(state, ours, field)
        before = dual_variables(self.problem, dual, state, there)
        return Start(solver, state, batch, dual, before, at)

    def _next_weights(
        self, loss: MeanSquares, state: PrimalDualState, batch: Any
    ) -> tuple[dict[str, jax.Array], PrimalDualState]:
        """Returns the weights of a step, and the state with what their rules remember."""
        if sorted(state.weights) != sorted(loss.weights):
            raise ValueError(
                f"the state has weights of {sorted(state.weights)}, but the loss of "
                f"{self!r} has rules for {sorted(loss.weights)}; start from this solver's "
                "init"
            )
        given, weights = loss.next_weights(state.weights, state.params, batch)
        return given, state._replace(weights=weights)

    def _dual(self, residuals: Constraints) -> Dual:
        return make_dual(self.dual, self.problem.multipliers, residuals)

    def _check_batch(self, batch: Any) -> None:
        if isinstance(batch, SplitBatch) and not self.splits:
            raise ValueError(
                f"the {self.name} reads one batch for both sides: a SplitBatch is for "
                "alternating"
            )
        if isinstance(batch, SplitBatch) and (self.points or self.weighted is not None):
            which = "points that move" if self.points else "weights of single residuals"
            raise ValueError(
                f"{which} go without a SplitBatch: both sides read one batch"
            )
        for name, kind in self.problem.multipliers.items():
            if isinstance(batch, SplitBatch) and isinstance(kind, Indexed):
                raise ValueError(
                    f"the indexed multipliers of {name!r} move with their own samples' "
                    "batch: they go without a SplitBatch"
                )

    def _check_state(
        self, state: PrimalDualState, ours: PrimalDualState, field: str
    ) -> None:
        """Refuses a part of a state that is of another method or problem."""
        if words := _difference(getattr(ours, field), getattr(state, field)):
            raise ValueError(
                f"the state is of another method or problem than {self!r}: its {field} "
                f"{words}; start from this solver's init"
            )

    def _check_extra(self, extra: Any, after: Any) -> None:
        def shapes(tree: Any) -> Any:
            return [(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(tree)]

        given = jax.eval_shape(lambda: extra)
        if extra is None and after is not None:
            raise ValueError(
                "the loss returned an extra state, but there is none to start from: pass "
                "it as init(params, batch, extra)"
            )
        if extra is not None and (
            jax.tree.structure(given) != jax.tree.structure(after)
            or shapes(given) != shapes(after)
        ):
            raise ValueError(
                "the loss must return the next extra state, of the structure and shapes "
                f"of the one it is given: {jax.tree.structure(given)}, got "
                f"{jax.tree.structure(after)}"
            )


def make_solver(
    problem: Lagrangian,
    primal: optax.GradientTransformation,
    dual: Any,
    per_term: Any,
    order: Order,
    name: str,
    dual_first: bool = False,
    points: Any = None,
) -> Solver:
    """Checks the arguments of an order.

    Raises:
        TypeError: `problem` is no `Lagrangian`, an optimizer no transform of its side, or
            `points` no dict of rules.
        ValueError: a name in `dual` is no constraint's, or `dual` descends.
    """
    if not isinstance(problem, Lagrangian):
        raise TypeError(
            f"{name.split()[0]} needs a problem: pass jaxcon.Lagrangian(loss, "
            f"constraints), got {type(problem).__name__}"
        )
    if isinstance(primal, DualTransform):
        raise TypeError(
            "primal must be an optax transform of parameters, which descends, such as "
            "optax.adam(1e-3), got a transform of multipliers"
        )
    primal = as_transform("primal", primal)
    dual = check_dual(dual)
    if any(problem.constraints):
        make_dual(dual, problem.multipliers, problem.constraints)
    return Solver(
        problem,
        primal,
        dual,
        None if per_term is None else as_transform("per_term", per_term),
        order,
        name,
        dual_first,
        check_points(points),
    )


def _no_state(state: Any) -> TypeError:
    """Returns the error of what is no state of a solver."""
    return TypeError(
        "state must be what solver.init or solver.step returned, got "
        f"{described(state)}"
    )


def _difference(wanted: Any, given: Any) -> str:
    """Describes how a part of a state differs from a solver's own; "" if it does not."""
    kinds = [jax.tree.structure(tree) for tree in (given, wanted)]
    shapes = [list(map(jnp.shape, jax.tree.leaves(tree))) for tree in (given, wanted)]
    if kinds[0] == kinds[1] and shapes[0] == shapes[1]:
        return ""
    theirs, ours = map(_leaves, (given, wanted))
    for path in [*ours, *theirs]:
        if ours.get(path) != theirs.get(path):
            has, needs = (
                "nothing" if shape is None else f"an array of shape {shape}"
                for shape in (theirs.get(path), ours.get(path))
            )
            return f"has {has} at {path or 'its root'}, where this solver has {needs}"
    return f"is {kinds[0]}, where this solver has {kinds[1]}"


def _leaves(tree: Any) -> dict[str, tuple[int, ...]]:
    found = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path): jnp.shape(leaf) for path, leaf in found}


def _own(leaf: Any) -> jax.Array:
    """Returns a copy that shares its buffer with nothing, so that it can be donated.

    And of no weak type, with which optax.lbfgs begins: a step is traced only once.
    """
    if jnp.issubdtype(jnp.result_type(leaf), jax.dtypes.prng_key):
        return leaf.copy()
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
