"""Constraints by name and kind, and what may stand in them."""

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax

Constraint = Callable[[Any, Any], jax.Array]


@runtime_checkable
class Grouped(Protocol):
    """Constraint that costs less when it is evaluated together with others.

    `evaluate` calls ``evaluate_jointly`` once for all constraints of equal ``key``, e.g.
    all that read derivatives of one network at one set of points.
    """

    key: Hashable

    def __call__(self, params: Any, batch: Any) -> jax.Array:
        """Returns the residual of this constraint alone."""
        ...

    def evaluate_jointly(
        self, others: Sequence[Any], params: Any, batch: Any
    ) -> list[Any]:
        """Returns the residuals of a group that includes this constraint, in order."""
        ...

    def map(self, change: Callable[[jax.Array], jax.Array]) -> Constraint:
        """Returns a constraint of the same group with a changed residual, e.g. shifted."""
        ...


class Constraints(NamedTuple):
    """One entry per constraint, by name, split by kind.

    Attributes:
        equality: entries with h = 0.
        inequality: entries with g <= 0.
    """

    equality: dict[str, Any] = {}
    inequality: dict[str, Any] = {}


def named(constraints: Constraints) -> Iterator[tuple[str, str, Any]]:
    """Yields (kind, name, entry) for every entry, equalities first.

    Args:
        constraints: functions, residuals, violations or multipliers.

    Yields:
        The kind ("equality" or "inequality"), the constraint's name and its entry.
    """
    for kind, entries in zip(Constraints._fields, constraints):
        for name, entry in entries.items():
            yield kind, name, entry


def only(entries: Constraints, names: Any) -> Constraints:
    """Returns the entries of the named constraints.

    Args:
        entries: functions, residuals, multipliers, ...
        names: of the constraints whose entries are kept.

    Returns:
        Their entries, under the same names.
    """
    return Constraints(
        *(
            {name: entry for name, entry in kind.items() if name in names}
            for kind in entries
        )
    )


def merged(parts: Iterable[Constraints], order: Constraints) -> Constraints:
    """Merges entries that have different names.

    Args:
        parts: residuals, multipliers, gradients, ...
        order: anything with an entry for each name; its order is kept.

    Returns:
        One `Constraints` of all entries.
    """
    found = {(kind, name): entry for part in parts for kind, name, entry in named(part)}
    return Constraints(
        *(
            {name: found[kind, name] for name in entries}
            for kind, entries in zip(Constraints._fields, order)
        )
    )


def same(value: Any, order: Constraints) -> Constraints:
    """Returns one value for each constraint.

    Args:
        value: anything.
        order: anything with an entry for each name, which may be a pytree.

    Returns:
        `Constraints` of it.
    """
    return Constraints(*(dict.fromkeys(kind, value) for kind in order))


def grouped(constraints: Constraints) -> list[Constraints]:
    """Splits constraints into groups that are evaluated together.

    Args:
        constraints: functions.

    Returns:
        The groups; each constraint is in one of them, most are alone in theirs.
    """
    groups: dict[Any, set[str]] = {}
    for kind, name, function in named(constraints):
        alone = ("alone", kind, name)
        key = function.key if isinstance(function, Grouped) else alone
        groups.setdefault(key, set()).add(name)
    return [only(constraints, names) for names in groups.values()]
