"""Kinds of multipliers: indexed by sample, or given by a network."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax

from jaxcon._checks import check_function, check_number, check_real, described
from jaxcon.constraints import Constraints, named


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
            beside a residual of shape (n,); None, for the batch itself; or an array, for
            fixed indices. An index out of range makes the step non-finite, so that it is
            skipped.

    Returns:
        A kind, for ``multipliers={name: ...}``.

    Raises:
        TypeError: `size` is no number, or `on` neither a name, an array nor None.
        ValueError: `size` is no whole number, or below 1.

    Example:
        >>> import jax.numpy as jnp, optax, jaxcon as jc
        >>> problem = jc.Lagrangian(
        ...     lambda p, batch: p**2,
        ...     jc.Constraints(inequality={"p >= y": lambda p, batch: batch["y"] - p}),
        ...     multipliers={"p >= y": jc.multipliers.indexed(1000, on="index")},
        ... )
        >>> solver = jc.alternating(problem, optax.sgd(0.1), jc.dual_ascent(optax.sgd(1.0)))
        >>> batch = {"y": jnp.array([1.0, 2.0]), "index": jnp.array([7, 900])}
        >>> state, info = solver.step(solver.init(0.0, batch), batch)
        >>> print(state.multipliers.inequality["p >= y"].rows[jnp.array([6, 7, 900])])
        [0. 1. 2.]
    """
    check_number("size", size, least=1, whole=True)
    _check_on(on)
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
        TypeError: `params` holds something other than floating-point arrays, `apply` or
            `positive` is no function, or `on` neither a name, an array nor None.

    References:
        Narasimhan et al., Approximate Heavily-Constrained Learning with Lagrange
        Multiplier Models (2020).

    Example:
        >>> import jax.numpy as jnp, optax, jaxcon as jc
        >>> slope = lambda psi, x: psi["a"] * x[0] + psi["b"]
        >>> start = {"a": jnp.zeros(()), "b": jnp.zeros(())}
        >>> kind = jc.multipliers.network(slope, start, on="x")
        >>> problem = jc.Lagrangian(
        ...     lambda p, batch: p**2,
        ...     jc.Constraints(equality={"p = x": lambda p, b: p - b["x"][:, 0]}),
        ...     multipliers={"p = x": kind},
        ... )
        >>> solver = jc.alternating(problem, optax.sgd(0.1), jc.dual_ascent(optax.sgd(1.0)))
        >>> batch = {"x": jnp.array([[1.0], [2.0]])}
        >>> state, info = solver.step(solver.init(0.0, batch), batch)
        >>> print(state.multipliers.equality["p = x"].params)
        {'a': Array(-2.5, dtype=float32), 'b': Array(-1.5, dtype=float32)}
    """
    check_function("apply", apply, "(psi, x) -> ()")
    check_function("positive", positive, "output -> multiplier, elementwise")
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        label = f"params{jax.tree_util.keystr(path)} of network multipliers is"
        check_real(label, leaf, "floating-point")
    _check_on(on)
    return Network(apply, params, on, positive)


def _check_on(on: Any) -> None:
    if on is None or isinstance(on, str):
        return
    arrays = [hasattr(leaf, "shape") for leaf in jax.tree.leaves(on)]
    if not (arrays and all(arrays)):
        raise TypeError(
            f"on must be a name in the batch, an array or None, got {described(on)}"
        )


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
