r"""How a batch reads its multipliers: dense, indexed or given by a network.

- **Dense**, unless told otherwise: an array shaped like the residual. Multiplier i is
  that of point i, so the points must stay where they are.
- `indexed`: one for each training sample, in a table; a batch reads and moves the rows
  of its own samples, and a step costs what its batch costs.
- `network`: :math:`\lambda(x)`, a network's output at each point; for points that are
  drawn anew, or for a constraint with a parameter.

The order of moves takes them by constraint name::

    jc.alternating(..., multipliers={"fit": jc.multipliers.indexed(len(data), on="index")})

and keeps them in ``state.multipliers`` under that name: an array, a `Table` or `Weights`.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxcon.constraints import Constraints, batch_part, named


class Table(NamedTuple):
    """Multipliers of all samples.

    Attributes:
        rows: one for each sample, shape (size,).
    """

    rows: jax.Array


class Weights(NamedTuple):
    """Parameters of a network that gives the multipliers.

    Attributes:
        params: psi, any pytree.
    """

    params: Any


class Indexed(NamedTuple):
    """What `indexed` returned.

    Attributes:
        size: number of samples.
        on: where a batch has its samples' indices.
    """

    size: int
    on: Any


class Network(NamedTuple):
    """What `network` returned.

    Attributes:
        apply: (psi, x) -> ().
        params: psi to start from.
        on: where a batch has its points.
        positive: what keeps an inequality's multiplier nonnegative.
    """

    apply: Callable[[Any, Any], jax.Array]
    params: Any
    on: Any
    positive: Callable[[jax.Array], jax.Array]


Kinds = Mapping[str, Indexed | Network]


def indexed(size: int, *, on: Any) -> Indexed:
    r"""One multiplier for each of `size` samples, moved when its sample is in the batch.

    Each sample's multiplier has a dual transform of its own: its momentum, its step
    count and its rule's memory advance at its own visits and at no others, exactly as
    in a run that sees nothing but those visits. So what couples multipliers, e.g.
    `optax.clip_by_global_norm`, acts on each sample alone. A sample that stands in one
    batch twice counts twice, in one move. Jit the step with ``donate_argnums=0``, or let
    `jaxcon.fit` run it: else every step copies the table. `fit` copies it once a chunk:
    with ten million samples let ``chunk`` be thousands of steps.

    Args:
        size: number of samples.
        on: a name, for integer indices ``batch[on]`` of shape (n,), each in [0, size),
            beside a residual of shape (n,); or None, for the batch itself. An index out
            of range makes the step non-finite, which skips it.

    Returns:
        A kind, for ``multipliers={name: ...}``.

    Raises:
        ValueError: `size` is no whole number, or below 1.

    Example:
        >>> import optax, jaxcon as jc
        >>> solver = jc.alternating(
        ...     lambda p, batch: p**2,
        ...     jc.Constraints(inequality={"p >= y": lambda p, batch: batch["y"] - p}),
        ...     optax.sgd(0.1),
        ...     jc.dual_ascent(optax.sgd(1.0)),
        ...     multipliers={"p >= y": indexed(1000, on="index")},
        ... )
        >>> batch = {"y": jnp.array([1.0, 2.0]), "index": jnp.array([7, 900])}
        >>> state, info = solver.step(solver.init(0.0, batch), batch)
        >>> print(state.multipliers.inequality["p >= y"].rows[jnp.array([6, 7, 900])])
        [0. 1. 2.]
    """
    if not jnp.issubdtype(jnp.result_type(size), jnp.integer) or size < 1:
        raise ValueError(f"size must be a whole number >= 1, got {size!r}")
    return Indexed(size, on)


def network(
    apply: Callable[[Any, Any], jax.Array],
    params: Any,
    *,
    on: Any,
    positive: Callable[[jax.Array], jax.Array] = jax.nn.softplus,
) -> Network:
    r"""Multipliers that a network gives, as a density over the points.

    With n points in the batch, point i has the multiplier

    .. math::
        \mu_i = \tfrac1n a(\psi, x_i), \qquad
        \lambda_i = \tfrac1n \operatorname{positive}(a(\psi, x_i))

    so that :math:`\sum_i \lambda_i g_i` is the mean of :math:`\lambda g`, however many
    points are drawn. The dual transform moves :math:`\psi` along its gradient,
    :math:`\sum_i g_i \nabla_\psi \lambda_i`; nothing is projected. What no parameter of
    the constrained network responds to, the problem does not determine: there a rich
    multiplier network drifts with the noise, so keep it as simple as the multiplier.

    Args:
        apply: a, (psi, x) -> () for one point x; from any library.
        params: psi to start from, any pytree of floating-point arrays.
        on: where the points are: a name, for ``batch[on]`` of shape (n, ...); None, for
            the batch itself; or an array, for always the same.
        positive: elementwise, for inequalities only.

    Returns:
        A kind, for ``multipliers={name: ...}``. Give the constraint a dual transform of
        its own, ``dual={name: jc.dual_ascent(optax.adam(1e-3)), ...}``.

    Raises:
        TypeError: `params` holds something else than floating-point arrays.

    References:
        Narasimhan et al., Approximate Heavily-Constrained Learning with Lagrange
        Multiplier Models (2020).

    Example:
        >>> import optax, jaxcon as jc
        >>> slope = lambda psi, x: psi["a"] * x[0] + psi["b"]
        >>> kind = network(slope, {"a": jnp.zeros(()), "b": jnp.zeros(())}, on="x")
        >>> solver = jc.alternating(
        ...     lambda p, batch: p**2,
        ...     jc.Constraints(equality={"p = x": lambda p, b: p - b["x"][:, 0]}),
        ...     optax.sgd(0.1),
        ...     jc.dual_ascent(optax.sgd(1.0)),
        ...     multipliers={"p = x": kind},
        ... )
        >>> batch = {"x": jnp.array([[1.0], [2.0]])}
        >>> state, info = solver.step(solver.init(0.0, batch), batch)
        >>> print(state.multipliers.equality["p = x"].params)
        {'a': Array(-2.5, dtype=float32), 'b': Array(-1.5, dtype=float32)}
    """
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        if not jnp.issubdtype(jnp.result_type(leaf), jnp.floating):
            raise TypeError(
                f"params{jax.tree_util.keystr(path)} of network multipliers is "
                f"{jnp.result_type(leaf)}; it must be floating-point"
            )
    return Network(apply, params, on, positive)


def check_kinds(kinds: Kinds, constraints: Constraints) -> Kinds:
    """Refuses kinds of multipliers that no constraint can have.

    Args:
        kinds: by constraint name.
        constraints: anything with an entry for each constraint.

    Returns:
        `kinds`, unchanged.

    Raises:
        ValueError: a name is no constraint's.
        TypeError: a kind is none.
    """
    names = [name for _, name, _ in named(constraints)]
    for name, kind in kinds.items():
        if name not in names:
            raise ValueError(
                f"multipliers of {name!r}: no such constraint; there are {names}"
            )
        if not isinstance(kind, (Indexed, Network)):
            raise TypeError(
                f"multipliers of {name!r} must be jaxcon.multipliers.indexed(...) or "
                f"network(...), got {type(kind).__name__}"
            )
    return kinds


def start(kinds: Kinds, residuals: Constraints, inequality: float = 0.0) -> Constraints:
    """Multipliers to start from.

    Args:
        kinds: by constraint name; dense where there is none.
        residuals: h and g, each () or (n,); arrays or `jax.ShapeDtypeStruct`s.
        inequality: what those of inequalities start at (those of a network start at their
            network's output); those of equalities start at zero.

    Returns:
        One entry for each constraint: an array, a `Table` or `Weights`.
    """

    def entry(kind: str, name: str, residual: Any) -> Any:
        value = inequality if kind == "inequality" else 0.0
        match kinds.get(name):
            case Network(params=params):
                # A copy: whoever donates this state must leave the kind its params.
                # Its dtype is given, since a weakly typed leaf would be traced anew.
                return Weights(
                    jax.tree.map(
                        lambda leaf: jnp.array(leaf, jnp.result_type(leaf)), params
                    )
                )
            case Indexed(size=size):
                return Table(jnp.full((size,), value, residual.dtype))
            case _:
                return jnp.full(residual.shape, value, residual.dtype)

    return _map(entry, residuals)


def gather(kinds: Kinds, multipliers: Constraints, batch: Any) -> Constraints:
    """The multipliers that a batch can touch: of a table, its samples' rows.

    Args:
        kinds: by constraint name.
        multipliers: all of them.
        batch: what the constraints read.

    Returns:
        The same with each `Table` replaced by rows of shape (n,); NaN where an index is
        out of range.
    """

    def entry(_: str, name: str, multiplier: Any) -> Any:
        kind = kinds.get(name)
        if isinstance(kind, Indexed):
            return rows(multiplier.rows, indices(name, kind, batch))
        return multiplier

    return _map(entry, multipliers)


def scatter(
    kinds: Kinds, multipliers: Constraints, touched: Constraints, batch: Any
) -> Constraints:
    """Puts what `gather` read, and a step moved, back.

    Args:
        kinds: by constraint name.
        multipliers: all of them, before the step.
        touched: what became of those that the batch could touch.
        batch: what `gather` was given.

    Returns:
        All of them, after the step.
    """

    def entry(kind: str, name: str, new: Any) -> Any:
        how = kinds.get(name)
        if isinstance(how, Indexed):
            table = getattr(multipliers, kind)[name].rows
            return Table(put_rows(table, indices(name, how, batch), new))
        return new

    return _map(entry, touched)


def read(
    kinds: Kinds, touched: Constraints, residuals: Constraints, batch: Any
) -> Constraints:
    """The multiplier of each residual.

    Args:
        kinds: by constraint name.
        touched: what `gather` returned.
        residuals: h and g, each () or (n,); or their shapes.
        batch: what the constraints read.

    Returns:
        mu and lambda, shaped like `residuals`.

    Raises:
        ValueError: a network's output, or what the batch's indices read, does not match
            the residual's shape.
    """

    def entry(kind: str, name: str, multiplier: Any) -> Any:
        how = kinds.get(name)
        if how is None:
            return multiplier
        residual = getattr(residuals, kind)[name]
        if isinstance(how, Network):
            return _density(kind, name, how, multiplier, residual, batch)
        if multiplier.shape != residual.shape:
            raise ValueError(
                f"indices of {kind} constraint {name!r} have shape {multiplier.shape} "
                f"but its residual has {residual.shape}; both must be (n,), one number "
                "per sample"
            )
        return multiplier

    return _map(entry, touched)


def ascent(
    kinds: Kinds, touched: Constraints, residuals: Constraints, batch: Any
) -> Constraints:
    """The gradient of the Lagrangian with respect to what `gather` returned.

    Args:
        kinds: by constraint name.
        touched: what `gather` returned.
        residuals: h and g, each () or (n,).
        batch: what the constraints read.

    Returns:
        A tree like `touched`: the residuals themselves, summed over a sample that the
        batch has twice, and pulled back through a network.
    """

    def entry(kind: str, name: str, multiplier: Any) -> Any:
        how = kinds.get(name)
        residual = getattr(residuals, kind)[name]
        if isinstance(how, Indexed):
            return _summed(indices(name, how, batch), residual)
        if not isinstance(how, Network):
            return residual
        density, pullback = jax.vjp(
            lambda psi: _density(kind, name, how, psi, residual, batch), multiplier
        )
        return pullback(residual.astype(density.dtype))[0]

    return _map(entry, touched)


def joined(
    kinds: Kinds, multipliers: Constraints, estimates: Constraints, batch: Any
) -> Constraints:
    r"""Estimates under which a sample that a batch has twice moves once, by both.

    .. math::
        \lambda + \sum (\hat\lambda - \lambda)

    Args:
        kinds: by constraint name.
        multipliers: mu and lambda of each residual.
        estimates: shaped like them.
        batch: what the constraints read.

    Returns:
        Estimates, equal for equal samples and >= 0 for inequalities.
    """

    def entry(kind: str, name: str, estimate: jax.Array) -> jax.Array:
        how = kinds.get(name)
        if not isinstance(how, Indexed):
            return estimate
        before = getattr(multipliers, kind)[name]
        after = before + _summed(indices(name, how, batch), estimate - before)
        return jnp.maximum(after, 0) if kind == "inequality" else after

    return _map(entry, estimates)


def indices(name: str, kind: Indexed, batch: Any) -> jax.Array:
    """Which samples a batch holds.

    Args:
        name: the constraint's.
        kind: its kind.
        batch: what the constraints read.

    Returns:
        Indices, shape (n,).

    Raises:
        ValueError: they are not in the batch, or not of shape (n,).
        TypeError: they are no integers.
    """
    index = jnp.asarray(_part(f"indices of constraint {name!r}", kind.on, batch))
    if index.ndim != 1:
        raise ValueError(
            f"indices of constraint {name!r} must have shape (n,), got {index.shape}"
        )
    if not jnp.issubdtype(index.dtype, jnp.integer):
        raise TypeError(
            f"indices of constraint {name!r} must be integers, got {index.dtype}"
        )
    # A negative index would read from the end; past the end it reads NaN. The size may
    # be past the end of the index's own dtype.
    return jnp.where(index < 0, kind.size, index.astype(int))


def rows(table: jax.Array, index: jax.Array) -> jax.Array:
    """Rows of a table along its first axis; NaN, or 0 of an integer, past the end.

    Args:
        table: (size, ...).
        index: which, shape (n,), none negative.

    Returns:
        Shape (n, ...).
    """
    floating = jnp.issubdtype(table.dtype, jnp.floating)
    return table.at[index].get(mode="fill", fill_value=jnp.nan if floating else 0)


def put_rows(table: jax.Array, index: jax.Array, new: jax.Array) -> jax.Array:
    """The table with some rows replaced; what lies past the end is dropped.

    Args:
        table: (size, ...).
        index: which, shape (n,), none negative; equal ones with equal rows.
        new: (n, ...).

    Returns:
        Shape (size, ...).
    """
    return table.at[index].set(new, mode="drop")


def _summed(index: jax.Array, residual: jax.Array) -> jax.Array:
    """Each entry replaced by the sum over all of the same index."""
    _, inverse = jnp.unique(index, return_inverse=True, size=index.size)
    total = jax.ops.segment_sum(residual, inverse, num_segments=index.size)
    return total[inverse]


def _density(
    kind: str, name: str, how: Network, weights: Weights, residual: Any, batch: Any
) -> jax.Array:
    what = f"network multipliers of {kind} constraint {name!r}"
    points = _part(what, how.on, batch)
    output = jax.vmap(lambda x: how.apply(weights.params, x))(points)
    if output.shape != residual.shape:
        raise ValueError(
            f"{what} have shape {output.shape} but its residual has {residual.shape}; "
            "both must be (n,), one number per point"
        )
    output = how.positive(output) if kind == "inequality" else output
    return (output / output.size).astype(residual.dtype)


def _part(what: str, on: Any, batch: Any) -> Any:
    """What multipliers read of a batch; `what` says whose, where it is missing."""
    try:
        return batch_part(on, batch)
    except ValueError as error:
        raise ValueError(f"{what}: {error}") from None


def _map(entry: Callable[[str, str, Any], Any], entries: Constraints) -> Constraints:
    """Constraints of entry(kind, name, old)."""
    return Constraints(
        *(
            {name: entry(kind, name, old) for name, old in olds.items()}
            for kind, olds in zip(Constraints._fields, entries)
        )
    )
