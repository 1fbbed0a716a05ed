r"""Multipliers of a batch: dense, indexed or the output of a network.

- **Dense** multipliers are the default: an array shaped like the residual. Multiplier i
  belongs to point i, so the points must stay where they are.
- `indexed` multipliers form a table with one for each training sample. A batch reads and
  moves the rows of its own samples, and a step costs what its batch costs.
- `network` multipliers :math:`\lambda(x)` are a network's output at each point. They are
  for points that are drawn anew, or for a constraint with a parameter.

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
    """Kind of multipliers that `indexed` returns.

    Attributes:
        size: number of samples.
        on: the name of the samples' indices in a batch.
    """

    size: int
    on: Any


class Network(NamedTuple):
    """Kind of multipliers that `network` returns.

    Attributes:
        apply: (psi, x) -> ().
        params: psi to start from.
        on: the name of the points in a batch, None or the points themselves.
        positive: the function that keeps an inequality's multiplier nonnegative.
    """

    apply: Callable[[Any, Any], jax.Array]
    params: Any
    on: Any
    positive: Callable[[jax.Array], jax.Array]


Kinds = Mapping[str, Indexed | Network]


def indexed(size: int, *, on: Any) -> Indexed:
    r"""Gives each of `size` samples a multiplier that moves when a batch holds the sample.

    Each sample's multiplier has a dual transform of its own. Its momentum, its step
    count and its rule's memory advance at its own visits and at no others, exactly as
    in a run that consists of those visits. So a transform that couples multipliers, e.g.
    `optax.clip_by_global_norm`, acts on each sample alone. A sample that stands in one
    batch twice counts twice, in one move. Jit the step with ``donate_argnums=0``, or let
    `jaxcon.fit` run it; otherwise every step copies the table. `fit` copies it once a
    chunk: with ten million samples let ``chunk`` be thousands of steps.

    Args:
        size: number of samples.
        on: a name, for integer indices ``batch[on]`` of shape (n,), each in [0, size),
            beside a residual of shape (n,); or None, for the batch itself. An index out
            of range makes the step non-finite, so that it is skipped.

    Returns:
        A kind, for ``multipliers={name: ...}``.

    Raises:
        ValueError: `size` is no whole number, or below 1.

    Example:
        >>> import jax.numpy as jnp, optax, jaxcon as jc
        >>> solver = jc.alternating(
        ...     lambda p, batch: p**2,
        ...     jc.Constraints(inequality={"p >= y": lambda p, batch: batch["y"] - p}),
        ...     optax.sgd(0.1),
        ...     jc.dual_ascent(optax.sgd(1.0)),
        ...     multipliers={"p >= y": jc.multipliers.indexed(1000, on="index")},
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
    r"""Computes multipliers by a network, as a density over the points.

    With n points in the batch, point i has the multiplier

    .. math::
        \mu_i = \tfrac1n a(\psi, x_i), \qquad
        \lambda_i = \tfrac1n \operatorname{positive}(a(\psi, x_i))

    so that :math:`\sum_i \lambda_i g_i` is the mean of :math:`\lambda g`, however many
    points are drawn. The dual transform moves :math:`\psi` along its gradient,
    :math:`\sum_i g_i \nabla_\psi \lambda_i`; nothing is projected. The problem does not
    determine a part of the multiplier to which no parameter of the constrained network
    responds. In that part a rich multiplier network drifts with the noise, so keep the
    network as simple as the multiplier.

    Args:
        apply: a, (psi, x) -> () for one point x; from any library.
        params: psi to start from, any pytree of floating-point arrays.
        on: where the points are: a name, for ``batch[on]`` of shape (n, ...); None, for
            the batch itself; or an array, for fixed points.
        positive: elementwise, for inequalities only.

    Returns:
        A kind, for ``multipliers={name: ...}``. Give the constraint a dual transform of
        its own, ``dual={name: jc.dual_ascent(optax.adam(1e-3)), ...}``.

    Raises:
        TypeError: `params` holds something other than floating-point arrays.

    References:
        Narasimhan et al., Approximate Heavily-Constrained Learning with Lagrange
        Multiplier Models (2020).

    Example:
        >>> import jax.numpy as jnp, optax, jaxcon as jc
        >>> slope = lambda psi, x: psi["a"] * x[0] + psi["b"]
        >>> start = {"a": jnp.zeros(()), "b": jnp.zeros(())}
        >>> kind = jc.multipliers.network(slope, start, on="x")
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
    """Returns the multipliers that training starts from.

    Args:
        kinds: by constraint name; dense where there is none.
        residuals: h and g, each () or (n,); arrays or `jax.ShapeDtypeStruct`s.
        inequality: the first value of those of inequalities (those of a network start at
            their network's output); those of equalities start at zero.

    Returns:
        One entry for each constraint: an array, a `Table` or `Weights`.
    """

    def entry(kind: str, name: str, residual: Any) -> Any:
        value = inequality if kind == "inequality" else 0.0
        match kinds.get(name):
            case Network(params=params):
                # The params are copied: a donated state must leave the kind its own.
                # The dtype is given, since a weakly typed leaf would be traced anew.
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
    """Gathers the multipliers that a batch can move; of a table, its samples' rows.

    Args:
        kinds: by constraint name.
        multipliers: all of them.
        batch: the data of the constraints.

    Returns:
        `multipliers` with each `Table` replaced by rows of shape (n,); NaN where an index
        is out of range.
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
    """Scatters the rows that `gather` read and a step moved back into their tables.

    Args:
        kinds: by constraint name.
        multipliers: all of them, before the step.
        touched: those of the batch, after the step.
        batch: the one that `gather` read.

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
    """Returns the multiplier of each residual.

    Args:
        kinds: by constraint name.
        touched: the result of `gather`.
        residuals: h and g, each () or (n,); or their shapes.
        batch: the data of the constraints.

    Returns:
        mu and lambda, shaped like `residuals`.

    Raises:
        ValueError: a network's output, or the rows of the batch's indices, do not match
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
    """Returns the gradient of the Lagrangian with respect to the result of `gather`.

    Args:
        kinds: by constraint name.
        touched: the result of `gather`.
        residuals: h and g, each () or (n,).
        batch: the data of the constraints.

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
    r"""Joins the estimates of a sample that a batch holds twice, so that both move it once.

    .. math::
        \lambda + \sum (\hat\lambda - \lambda)

    Args:
        kinds: by constraint name.
        multipliers: mu and lambda of each residual.
        estimates: shaped like them.
        batch: the data of the constraints.

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
    """Returns the indices of the samples that a batch holds.

    Args:
        name: the constraint's.
        kind: its kind.
        batch: the data of the constraints.

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
    """Reads rows of a table along its first axis: NaN, or 0 of an integer, past the end.

    Args:
        table: (size, ...).
        index: which, shape (n,), none negative.

    Returns:
        Shape (n, ...).
    """
    floating = jnp.issubdtype(table.dtype, jnp.floating)
    return table.at[index].get(mode="fill", fill_value=jnp.nan if floating else 0)


def put_rows(table: jax.Array, index: jax.Array, new: jax.Array) -> jax.Array:
    """Replaces some rows of a table and drops those past its end.

    Args:
        table: (size, ...).
        index: which, shape (n,), none negative; equal ones with equal rows.
        new: (n, ...).

    Returns:
        Shape (size, ...).
    """
    return table.at[index].set(new, mode="drop")


def _summed(index: jax.Array, residual: jax.Array) -> jax.Array:
    """Replaces each entry by the sum over all entries of its index."""
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
    """Reads the part of a batch that multipliers need; an error names it by `what`."""
    try:
        return batch_part(on, batch)
    except ValueError as error:
        raise ValueError(f"{what}: {error}") from None


def _map(entry: Callable[[str, str, Any], Any], entries: Constraints) -> Constraints:
    """Builds `Constraints` from entry(kind, name, old)."""
    return Constraints(
        *(
            {name: entry(kind, name, old) for name, old in olds.items()}
            for kind, olds in zip(Constraints._fields, entries)
        )
    )
