r"""Constraints, their residuals and their violations.

The convention is :math:`h = 0` for equalities and :math:`g \le 0` for inequalities. A
constraint is a pure function ``(params, batch) -> residual`` whose residual is a scalar
``()`` or one number per point ``(n,)``, never ``(n, 1)``: a column times a row of
multipliers broadcasts silently to a matrix, a classic bug of this field, so that shape
is refused.

One type, `Constraints`, holds functions, residuals, violations and multipliers alike. It
is a tuple split by kind, so its *structure* shows which multipliers must stay
nonnegative, without a flag.
"""

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp

from jaxcon._checks import (
    check_function,
    check_number,
    check_real,
    described,
    inside,
)
from jaxcon._stacking import map_numbers

__all__ = [
    "Constraint",
    "Constraints",
    "Grouped",
    "evaluate",
    "feasible",
    "max_violation",
    "named",
    "proxy",
    "tighten",
    "violation",
    "worst",
]


def __dir__() -> list[str]:
    """Lists the public names."""
    return __all__


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


def check_constraints(constraints: Constraints) -> Constraints:
    """Refuses an invalid set of constraints, before anything is traced.

    Args:
        constraints: as a user wrote them.

    Returns:
        `constraints`, unchanged.

    Raises:
        TypeError: it is not a `Constraints` of dicts of callables.
        ValueError: a name stands under both kinds.
    """
    check_entries("constraints", constraints, "function")
    for kind, name, function in named(constraints):
        check_function(
            f"{kind} constraint {name!r}", function, "(params, batch) -> residual"
        )
    return constraints


def check_entries(label: str, entries: Any, content: str) -> None:
    """Refuses a value that is no `Constraints` of entries by name.

    Args:
        label: of the argument, for the message.
        entries: as a user wrote them.
        content: what the entries are, for the message.

    Raises:
        TypeError: it is something else.
        ValueError: a name stands under both kinds.
    """
    if not isinstance(entries, Constraints):
        raise TypeError(
            f"{label} must be jaxcon.Constraints(equality={{...}}, inequality={{...}}), "
            f"got {type(entries).__name__}"
        )
    for kind, members in zip(Constraints._fields, entries):
        if not isinstance(members, dict):
            raise TypeError(
                f"Constraints.{kind} of {label} must be a dict of name: {content}, "
                f"got {type(members).__name__}"
            )
        for name in members:
            if not isinstance(name, str):
                raise TypeError(
                    f"the name of an {kind} constraint must be text, got "
                    f"{described(name)}"
                )
    twice = sorted(entries.equality.keys() & entries.inequality.keys())
    if twice:
        raise ValueError(
            f"constraint {twice[0]!r} is both an equality and an inequality; "
            "give each its own name"
        )


def check_residuals(residuals: Any) -> None:
    """Refuses residuals that are not real arrays by name.

    Args:
        residuals: as a user passed them.

    Raises:
        TypeError: they are no `Constraints` of floating-point arrays.
        ValueError: one has two or more dimensions.
    """
    check_entries("residuals", residuals, "residual")
    for kind, name, residual in named(residuals):
        check_residual(f"the residual of {kind} constraint {name!r} is", residual)


def check_residual(label: str, residual: Any) -> jax.Array:
    """Refuses a value that is no residual.

    Args:
        label: beginning of the message, e.g. "equality constraint 'sum' returned".
        residual: the value.

    Returns:
        The residual as an array, () or (n,).

    Raises:
        TypeError: it is no array of real floating-point numbers.
        ValueError: it has two or more dimensions.
    """
    form = (
        "a signed real number or an array (n,) of them (for a true/false rule see "
        "jaxcon.proxy)"
    )
    residual = check_real(label, residual, form)
    if residual.ndim > 1:
        raise ValueError(
            f"{label} a residual of shape {residual.shape}; a residual is () or (n,), one "
            "number per point: index or sum the last axis"
        )
    return residual


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


def evaluate(constraints: Constraints, params: Any, batch: Any = None) -> Constraints:
    r"""Evaluates the residuals h and g of every constraint at `params`.

    Constraints of `jaxcon.shapes` that read the same network at the same points share
    one pass through it.

    Args:
        constraints: functions (params, batch) -> residual.
        params: any pytree.
        batch: any pytree that the functions read; may be None.

    Returns:
        Residuals in the shape of `constraints`, each of shape () or (n,).

    Raises:
        ValueError: a residual has two or more dimensions.
        TypeError: `constraints` are not functions by name, or a residual is not a real
            floating-point array. Whatever a constraint raises has its name in a note.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxcon as jc
        >>> on_circle = jc.Constraints(equality={"circle": lambda p, _: p @ p - 1.0})
        >>> float(jc.evaluate(on_circle, jnp.array([3.0, 0.0])).equality["circle"])
        8.0
    """
    check_constraints(constraints)
    found: dict[tuple[str, str], Any] = {}
    for group in grouped(constraints):
        keys = [(kind, name) for kind, name, _ in named(group)]
        first, *others = functions = [function for _, _, function in named(group)]
        if others:
            names = ", ".join(repr(name) for _, name in keys)
            with inside(f"the constraints {names}, evaluated together"):
                found.update(
                    zip(keys, first.evaluate_jointly(functions, params, batch))
                )
        else:
            kind, name = keys[0]
            with inside(f"{kind} constraint {name!r}, called with (params, batch)"):
                found[kind, name] = first(params, batch)

    def residual(kind: str, name: str) -> jax.Array:
        label = f"{kind} constraint {name!r} returned"
        return check_residual(label, found[kind, name])

    return Constraints(
        *(
            {name: residual(kind, name) for name in entries}
            for kind, entries in zip(Constraints._fields, constraints)
        )
    )


def violation(residuals: Constraints) -> Constraints:
    r"""Returns the violation of each constraint: :math:`|h|` and :math:`\max(g, 0)`.

    Args:
        residuals: h and g, each () or (n,), in the units the constraint was written in.

    Returns:
        Nonnegative numbers in the shapes of `residuals`; NaN stays NaN.

    Raises:
        TypeError: a residual is not a real floating-point array.
        ValueError: a residual has two or more dimensions.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxcon as jc
        >>> residuals = jc.Constraints({"h": jnp.array(-2.0)}, {"g": jnp.array(-3.0)})
        >>> print(jc.violation(residuals).equality["h"])
        2.0
        >>> print(jc.violation(residuals).inequality["g"])
        0.0
    """
    check_residuals(residuals)
    return Constraints(
        equality=map_numbers(jnp.abs, residuals.equality),
        inequality=map_numbers(lambda g: jnp.maximum(g, 0), residuals.inequality),
    )


def worst(entries: Constraints) -> Constraints:
    """Returns the largest entry of each constraint, e.g. to plot an (n,) array.

    Args:
        entries: one array per constraint, e.g. violations, each () or (n,).

    Returns:
        One number per constraint, each of shape (); 0 for an empty array.
    """
    largest = jax.tree.map(
        lambda entry: jnp.max(entry, initial=0) if jnp.ndim(entry) else entry, entries
    )
    return map_numbers(lambda entry: jnp.maximum(entry, 0), largest)


def max_violation(residuals: Constraints) -> jax.Array:
    r"""Returns the largest violation of all: :math:`\max(|h|, g, 0)` over every entry.

    Args:
        residuals: h and g, each () or (n,).

    Returns:
        Shape (); 0 where there are no constraints, NaN where any residual is NaN.

    Raises:
        TypeError: a residual is not a real floating-point array.
        ValueError: a residual has two or more dimensions.
    """
    largest = jax.tree.leaves(worst(violation(residuals)))
    return jnp.max(jnp.stack(largest)) if largest else jnp.zeros(())


def feasible(residuals: Constraints, tolerance: float) -> jax.Array:
    """Returns whether every violation is at most `tolerance`.

    Args:
        residuals: h and g, each () or (n,).
        tolerance: at least 0, in the units the constraints were written in.

    Returns:
        A boolean of shape (); False where any residual is NaN.

    Raises:
        TypeError: a residual is not a real floating-point array.
        ValueError: `tolerance` is negative or not finite.
    """
    check_number("tolerance", tolerance, least=0)
    return max_violation(residuals) <= tolerance


def batch_part(on: Any, batch: Any) -> Any:
    """Returns the part of a batch that a constraint, or its multipliers, read.

    Args:
        on: a name, for ``batch[on]``; None, for the batch itself; or an array, which
            stands for itself.
        batch: any pytree.

    Returns:
        That part.

    Raises:
        ValueError: the batch has no such part.
    """
    if on is None:
        return batch
    if not isinstance(on, str):
        return on
    try:
        return batch[on]
    except (KeyError, TypeError, IndexError):
        has = sorted(batch) if isinstance(batch, dict) else type(batch).__name__
        raise ValueError(
            f"constraint points {on!r} are not in the batch, which has {has}"
        ) from None


def tighten(constraint: Constraint, margin: float) -> Constraint:
    r"""Returns an inequality tightened by a margin: :math:`g + \epsilon \le 0`.

    A constraint is checked at points only; a small margin makes it hold between them too.

    Args:
        constraint: (params, batch) -> residual g.
        margin: epsilon >= 0, in the residual's units.

    Returns:
        An inequality constraint.

    Raises:
        TypeError: `constraint` is no function; when traced, its residual is not real.
        ValueError: `margin` is negative or not finite.

    Example:
        >>> import jaxcon as jc
        >>> at_most_1 = jc.tighten(lambda x, _: x - 1.0, margin=0.25)
        >>> print(at_most_1(1.0, None))
        0.25
    """
    check_function("constraint", constraint, "(params, batch) -> residual")
    check_number("margin", margin, least=0)
    return mapped("tighten", constraint, lambda residual: residual + margin)


def mapped(
    label: str, constraint: Constraint, change: Callable[[jax.Array], jax.Array]
) -> Constraint:
    """Returns a constraint whose residual is changed by a function.

    Args:
        label: of what changes it, for the message about a residual that is not real.
        constraint: (params, batch) -> residual.
        change: residual -> residual.

    Returns:
        A constraint; it still shares its pass through a network with others of
        `jaxcon.shapes`.
    """
    if isinstance(constraint, Grouped):
        return constraint.map(change)
    label = f"the constraint of {label} returned"
    return lambda params, batch: change(
        check_residual(label, constraint(params, batch))
    )


def proxy(surrogate: Constraint, strict: Constraint) -> Constraint:
    r"""Returns a constraint with the value of `strict` and the gradient of `surrogate`.

    It is for rules that cannot be differentiated (rates, counts, indicators): the
    multiplier receives the strict residual, and the parameters the gradient of a smooth
    surrogate.

    .. math::
        \tilde g = g_\mathrm{strict}, \qquad
        \nabla_\theta \tilde g = \nabla_\theta g_\mathrm{surrogate}

    An augmented Lagrangian penalizes the strict value too, so its penalty vanishes where
    the rule is met. On a rate of at most 5 % (``python -m benchmarks.proxies``) runs with
    no penalty and with 1 to 100 ended at 5.00 %, within 0.1 points of the fewest misses. A
    quadratic term on the surrogate's own value can constrain too much (100 on a hinge:
    2.20 %, 14 points more misses); a penalty without multipliers constrains too little
    (6.7 to 22 %). It is not for line searches such as that of `optax.lbfgs`, which
    stopped at 17.1 %: the strict value is flat or jumps where the surrogate has a slope.

    Args:
        surrogate: differentiable (params, batch) -> residual, () or (n,).
        strict: the true (params, batch) -> residual, of the same shape.

    Returns:
        A constraint.

    Raises:
        TypeError: `surrogate` or `strict` is no function; when traced, its residual is
            not real: write a count as ``jnp.asarray(count, float)``.
        ValueError: when traced, if the two residuals differ in shape.

    References:
        Cotter et al., Two-Player Games for Efficient Non-Convex Constrained Optimization
        (2019).

    Example:
        >>> import jax, jax.numpy as jnp
        >>> import jaxcon as jc
        >>> share = jc.proxy(
        ...     lambda p, x: jnp.mean(jax.nn.sigmoid(x @ p)) - 0.1,
        ...     lambda p, x: jnp.mean(x @ p > 0) - 0.1,
        ... )
        >>> print(share(jnp.ones(1), jnp.ones((4, 1))))
        0.9
    """
    for name, function in (("surrogate", surrogate), ("strict", strict)):
        check_function(name, function, "(params, batch) -> residual")

    def constraint(params: Any, batch: Any) -> jax.Array:
        stand_in = check_residual(
            "the surrogate of proxy returned", surrogate(params, batch)
        )
        true = check_residual(
            "the strict rule of proxy returned", strict(params, batch)
        )
        if stand_in.shape != true.shape:
            raise ValueError(
                f"proxy: the surrogate's residual has shape {stand_in.shape} but the "
                f"strict one has {true.shape}; they must agree"
            )
        true = jax.lax.stop_gradient(true)
        # s - stop_gradient(s) is exactly zero, so the value is the strict one to the bit.
        return true + (stand_in - jax.lax.stop_gradient(stand_in))

    return constraint
