"""Dual optimizers: the transform of each constraint's multipliers."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxcon.constraints import Constraints, merged, named, only
from jaxcon.multipliers import (
    Indexed,
    Kinds,
    Weights,
    indices,
    put_rows,
    rows,
)
from jaxcon.primal_dual._state import DualStates
from jaxcon.transforms import CappedState, as_dual

Transform = optax.GradientTransformationExtraArgs


class Dual(NamedTuple):
    """The dual transforms of a method.

    Attributes:
        kinds: of multipliers, by constraint name.
        shared: moves all multipliers that have no transform of their own; or None.
        own: by constraint name.
    """

    kinds: Kinds
    shared: Transform | None
    own: dict[str, Transform]

    def init(self, multipliers: Constraints) -> Any:
        """Returns the states to start from, of all multipliers."""
        own = {
            name: self._init_own(name, transform, multipliers)
            for name, transform in self.own.items()
        }
        shared = ()
        if self.shared is not None:
            shared = self.shared.init(self._rest(multipliers))  # pyright: ignore[reportArgumentType]
        return DualStates(shared, own) if self.own else shared

    def gather(self, states: Any, batch: Any) -> Any:
        """Returns the states that a batch reads: of a table, its samples' rows."""
        return self._own_rows(
            states,
            lambda name, state, index: jax.tree.map(
                lambda table: rows(table, index), state
            ),
            batch,
        )

    def scatter(self, states: Any, touched: Any, batch: Any) -> Any:
        """Writes the rows that `gather` read back into their tables."""
        return self._own_rows(
            touched,
            lambda name, state, index: jax.tree.map(
                lambda table, new: put_rows(table, index, new), states.own[name], state
            ),
            batch,
        )

    def update(
        self,
        directions: Constraints,
        states: Any,
        multipliers: Constraints,
        *,
        value: jax.Array,
        estimates: Constraints,
        penalty: Constraints | None,
    ) -> tuple[Constraints, Any]:
        """Returns multipliers and states after the step."""

        def move(
            transform: Transform, state: Any, names: list[str], per_row: bool
        ) -> tuple[Constraints, Any]:
            ours = only(multipliers, names)
            network = any(isinstance(entry, Weights) for _, _, entry in named(ours))

            def one(ours: Any, state: Any, direction: Any, estimate: Any) -> Any:
                climb, state = transform.update(
                    direction,
                    state,
                    ours,
                    value=value,
                    estimates=None if network else estimate,
                    penalty=None if penalty is None else only(penalty, names),
                )
                return optax.apply_updates(ours, climb), state

            each = jax.vmap(one) if per_row else one
            return each(ours, state, only(directions, names), only(estimates, names))

        parts, own = [], {}
        for name, transform in self.own.items():
            per_row = isinstance(self.kinds.get(name), Indexed)
            part, own[name] = move(transform, states.own[name], [name], per_row)
            parts.append(part)
        shared = states.shared if self.own else states
        if self.shared is not None:
            names = [name for _, name, _ in named(self._rest(multipliers))]
            part, shared = move(self.shared, shared, names, per_row=False)
            parts.append(part)
        return (
            merged(parts, multipliers),
            DualStates(shared, own) if self.own else shared,
        )

    def _rest(self, entries: Constraints) -> Constraints:
        names = {name for _, name, _ in named(entries)}
        return only(entries, names - self.own.keys())

    def _init_own(
        self, name: str, transform: Transform, multipliers: Constraints
    ) -> Any:
        ours = only(multipliers, {name})
        if not isinstance(self.kinds.get(name), Indexed):
            return transform.init(ours)  # pyright: ignore[reportArgumentType]
        tables = Constraints(
            *({name: table.rows for name, table in kind.items()} for kind in ours)
        )
        # One state a row: its clock and its momentum are its own.
        return jax.vmap(transform.init)(tables)

    def _own_rows(self, states: Any, change: Any, batch: Any) -> Any:
        if not self.own:
            return states
        own = dict(states.own)
        for name in own:
            if isinstance(kind := self.kinds.get(name), Indexed):
                own[name] = change(name, own[name], indices(name, kind, batch))
        return states._replace(own=own)


def check_dual(dual: Any) -> Any:
    """Checks what a `dual=` argument gives.

    Args:
        dual: a transform for all multipliers, or a dict of them by constraint name.

    Returns:
        The same, each with optax's extra arguments.

    Raises:
        ValueError: a transform descends.
        TypeError: it is no transform.
    """
    if isinstance(dual, Mapping):
        return {name: as_dual(f"dual of {name!r}", dual[name]) for name in dual}
    return as_dual("dual", dual)


def make_dual(dual: Any, kinds: Kinds, constraints: Constraints) -> Dual:
    """Assigns each constraint its transform.

    Args:
        dual: what `check_dual` returned.
        kinds: of multipliers, by constraint name.
        constraints: anything with an entry for each constraint.

    Returns:
        A `Dual`; indexed multipliers have a transform of their own either way.

    Raises:
        ValueError: a constraint has no transform, or a name is no constraint's.
    """
    names = [name for _, name, _ in named(constraints)]
    if isinstance(dual, Mapping):
        for name in dual.keys() ^ set(names):
            if name in names:
                raise ValueError(f"dual has no transform for constraint {name!r}")
            raise ValueError(f"dual of {name!r}: no such constraint; there are {names}")
        return Dual(kinds, None, {name: dual[name] for name in names})
    own = {name: dual for name in names if isinstance(kinds.get(name), Indexed)}
    return Dual(kinds, dual, own)


def capped(states: Any, multipliers: Constraints) -> Constraints:
    """Flags the constraints with a multiplier on its cap.

    Args:
        states: of the dual transforms.
        multipliers: anything with an entry for each constraint.

    Returns:
        Booleans, each of shape ().
    """
    on_cap = {name: jnp.array(False) for _, name, _ in named(multipliers)}
    found = jax.tree.leaves(states, is_leaf=lambda s: isinstance(s, CappedState))
    for state in found:
        if isinstance(state, CappedState):
            for _, name, flag in named(state.at_cap):
                on_cap[name] |= jnp.any(flag)
    return Constraints(*({name: on_cap[name] for name in kind} for kind in multipliers))
