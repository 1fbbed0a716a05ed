"""Gradients of the loss and of each constraint before their sum."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxcon._checks import described
from jaxcon.constraints import Constraints, named
from jaxcon.transforms._entries import as_transform


class GradientTerms(NamedTuple):
    """Entries for the loss and for each constraint, by name.

    Attributes:
        loss: the loss's.
        constraints: each constraint's.
    """

    loss: Any
    constraints: Constraints

    def entries(self) -> list[Any]:
        """Lists the entries: the loss's, then equalities', then inequalities'."""
        return [self.loss, *(entry for _, _, entry in named(self.constraints))]


def like(terms: GradientTerms, entries: Any) -> GradientTerms:
    """Combines the names of some terms with other entries.

    Args:
        terms: those with the names.
        entries: as many as there are terms, in the order of `GradientTerms.entries`.

    Returns:
        `GradientTerms` of those entries.
    """
    loss, *rest = entries
    each = iter(rest)
    return GradientTerms(
        loss,
        Constraints(
            *({name: next(each) for name in kind} for kind in terms.constraints)
        ),
    )


def scaled(terms: GradientTerms, factors: Any) -> GradientTerms:
    """Multiplies each term's gradient by a number.

    Args:
        terms: gradients.
        factors: one number for each term, (t,).

    Returns:
        Gradients of the dtypes of `terms`.
    """

    def times(factor: Any, gradient: Any) -> Any:
        return jax.tree.map(lambda leaf: (factor * leaf).astype(leaf.dtype), gradient)

    return like(terms, map(times, factors, terms.entries()))


def total(entries: Sequence[Any]) -> Any:
    """Adds up terms; the sum of all of them is the gradient of the parameters' descent.

    Args:
        entries: at least one; pytrees of one structure.

    Returns:
        A pytree of that structure.
    """
    return jax.tree.map(lambda first, *others: sum(others, first), *entries)


def gram(terms: GradientTerms) -> jax.Array:
    r"""Computes the Gram matrix of the terms' gradients.

    .. math::
        K_{ij} = g_i^\top g_j

    Args:
        terms: gradients.

    Returns:
        Shape (t, t), at the highest precision, because differences of nearly parallel
        gradients are computed from it.
    """

    def products(*leaves: jax.Array) -> jax.Array:
        rows = jnp.stack(leaves)
        # Flattened leaves would be gathered if they are split over devices.
        axes = tuple(range(1, rows.ndim))
        return jnp.tensordot(
            rows,
            rows,
            (axes, axes),
            precision="highest",
            preferred_element_type=precision(rows),
        )

    return total(jax.tree.leaves(jax.tree.map(products, *terms.entries())))


def each_term(
    transform: optax.GradientTransformation,
) -> optax.GradientTransformationExtraArgs:
    r"""Applies a transform to the gradients of the loss and of each constraint separately.

    .. math::
        \theta \leftarrow \theta - \alpha\, A\Big( T(\nabla f)
            + \textstyle\sum_i T(\lambda_i \nabla g_i) \Big)

    for the ``per_term=`` of an order, with T the transform and A the primal one. With a
    clip, a term that explodes does not shrink the others, as it does where their sum is
    clipped. `jaxcon.transforms` describes the effect on the end point of training. A
    transform with a state has one for each term.

    Args:
        transform: any optax transform, e.g. ``optax.clip_by_global_norm(1.0)``.

    Returns:
        A transform over `GradientTerms` of gradients.

    Raises:
        TypeError: `transform` is no optax transform.

    Example:
        >>> import jax.numpy as jnp, optax, jaxcon as jc
        >>> clip = jc.each_term(optax.clip_by_global_norm(1.0))
        >>> h = jc.Constraints({"h": jnp.array([0.0, 9.0])})
        >>> gradients = jc.GradientTerms(jnp.array([0.6, 0.8]), h)
        >>> clipped, _ = clip.update(gradients, clip.init(gradients))
        >>> print(clipped.loss, clipped.constraints.equality["h"])
        [0.6 0.8] [0. 1.]
    """
    inner = as_transform("transform", transform)

    def init(params: Any) -> Any:
        check_terms("each_term", params)
        return like(params, [inner.init(entry) for entry in params.entries()])

    def update(
        updates: Any, state: Any, params: Any = None, **extra: Any
    ) -> tuple[Any, Any]:
        beside = [None] * len(updates.entries()) if params is None else params.entries()
        moved = [
            inner.update(*entries, **extra)
            for entries in zip(updates.entries(), state.entries(), beside, strict=True)
        ]
        return tuple(like(updates, entries) for entries in zip(*moved))  # pyright: ignore[reportReturnType]

    return optax.GradientTransformationExtraArgs(init, update)


def precision(tree: Any) -> Any:
    """Returns the dtype for statistics of gradients: theirs, at least float32.

    Args:
        tree: of arrays.

    Returns:
        A dtype.
    """
    return jnp.result_type(jnp.float32, *jax.tree.leaves(tree))


def norm(tree: Any) -> jax.Array:
    """Computes the Euclidean norm of all leaves together, in their `precision`.

    Args:
        tree: of arrays.

    Returns:
        Shape ().
    """
    dtype = precision(tree)
    wide = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), tree)
    return jnp.asarray(optax.tree.norm(wide), dtype)


def remembered(new: Any, old: Any, when: Any = True) -> Any:
    """Casts a new state to the dtypes of the old one, or keeps the old one.

    Args:
        new: the state.
        old: the one before, or one with the dtypes to cast to.
        when: whether to take the new one, boolean ().

    Returns:
        `new`, or `old`.
    """

    def one(a: Any, b: Any) -> jax.Array:
        chosen, dtype = jnp.where(when, a, b), jnp.result_type(b)
        return chosen if chosen.dtype == dtype else chosen.astype(dtype)

    return jax.tree.map(one, new, old)


def by_factors(
    init: Callable[[int, Any], Any],
    factors: Callable[..., tuple[jax.Array, Any]],
) -> optax.GradientTransformationExtraArgs:
    """Makes a transform over `GradientTerms` that multiplies each gradient by a number.

    Args:
        init: (number of terms, dtype of statistics) -> state.
        factors: (updates, state, values) -> (t,) and the new state, where values are the
            terms' parts of the objective, (t,), or None.

    Returns:
        The transform. Its update takes the extra argument ``values``, `GradientTerms` of
        ().
    """

    def update(
        updates: Any,
        state: Any,
        params: Any = None,
        *,
        values: Any = None,
        **extra: Any,
    ) -> tuple[Any, Any]:
        del params, extra
        values = None if values is None else jnp.stack(values.entries())
        found, after = factors(updates, state, values)
        return scaled(updates, found), remembered(after, state)

    def begin(params: Any) -> Any:
        check_terms("this transform", params)
        return init(len(params.entries()), precision(params))

    return optax.GradientTransformationExtraArgs(begin, update)


def check_terms(label: str, params: Any) -> None:
    """Refuses gradients that are summed already.

    Args:
        label: of the transform, for the message.
        params: what it is to act on.

    Raises:
        TypeError: they are no `GradientTerms`.
    """
    if not isinstance(params, GradientTerms):
        raise TypeError(
            f"{label} acts on the gradients of single terms, jaxcon.GradientTerms: pass it "
            "as per_term= of jaxcon.alternating, simultaneous or extragradient, got "
            f"{described(params)}"
        )
