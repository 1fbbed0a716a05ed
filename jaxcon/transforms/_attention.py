"""Weights of single residuals: attention to large ones, and causality in time."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxcon._checks import check_number, check_type
from jaxcon.constraints import batch_part


class WeightRule(NamedTuple):
    """Rule of the weights of a residual's squares, in optax's grammar.

    Attributes:
        init: the residual, or its shape -> what the rule remembers.
        update: (residual, state, batch) -> weights in the residual's shape, and the state.
    """

    init: Callable[[Any], Any]
    update: Callable[[jax.Array, Any, Any], tuple[jax.Array, Any]]


def residual_attention(decay: float = 0.999, rate: float = 0.01) -> WeightRule:
    r"""Multiplies squares by weights that grow with past sizes of their residuals.

    .. math::
        w_i = \lambda_i^2, \qquad
        \lambda_i \leftarrow \gamma \lambda_i + \eta \frac{|r_i|}{\max_j |r_j|}

    residual-based attention, from :math:`\lambda = 0`, at most :math:`\eta / (1 - \gamma)`.
    Where all residuals can vanish, the end of training is the same as without it. Where
    they cannot, the weights settle at a multiple of :math:`r_i^2`: of one term alone,
    training then ends where :math:`\sum r_i^4` is stationary, with smaller large residuals
    than least squares have.

    Args:
        decay: gamma, in [0, 1).
        rate: eta > 0.

    Returns:
        A rule for the ``weights=`` of `MeanSquares`.

    Raises:
        ValueError: a number is out of its range.

    References:
        Anagnostopoulos, Toscano, Stergiopulos and Karniadakis, Residual-based attention in
        physics-informed neural networks (2024).

    Example:
        >>> import jax.numpy as jnp, jaxcon as jc
        >>> rule = jc.residual_attention(decay=0.5, rate=1.0)
        >>> residual = jnp.array([1.0, -2.0])
        >>> state = rule.init(residual)
        >>> for _ in range(2):
        ...     weights, state = rule.update(residual, state, None)
        >>> print(state, weights)                            # 0.5 (0.5, 1) + (0.5, 1)
        [0.75 1.5 ] [0.5625 2.25  ]
    """
    check_number("decay", decay, least=0, below=1)
    check_number("rate", rate, above=0)

    def init(residual: Any) -> jax.Array:
        dtype = jnp.promote_types(residual.dtype, jnp.float32)
        return jnp.zeros(residual.shape, dtype)

    def update(
        residual: jax.Array, state: jax.Array, batch: Any
    ) -> tuple[jax.Array, jax.Array]:
        del batch
        size = jnp.abs(residual).astype(state.dtype)
        largest = jnp.max(size, initial=0)
        share = size / jnp.where(largest == 0, 1, largest)
        state = decay * state + rate * share
        return state**2, state

    return WeightRule(init, update)


def causal_weights(
    *, on: str, index: int = 0, chunks: int = 32, tolerance: float = 1.0
) -> WeightRule:
    r"""Multiplies squares by weights that are small until earlier times are solved.

    .. math::
        w_c = \exp\left(-\epsilon \sum_{b < c} L_b\right), \qquad
        L_b = \operatorname{mean}_{t_i \in b} r_i^2

    The points are cut into chunks of equal numbers in the order of their times; all of a
    chunk have its weight. A time counts once the residuals before it are small; where all
    are, each weight is 1. Where they cannot vanish, later times are weighted less for
    good. While a chunk's mean is far above :math:`1 / \epsilon` nothing holds the solution
    after it: scale a residual so that its first squares are not far above one.

    Args:
        on: key of the batch, for the points (n, d) that the residual (n,) runs over.
        index: of the time among their inputs.
        chunks: C, at most n.
        tolerance: epsilon >= 0, over the square of the residual's units; the larger, the
            later a time is begun with.

    Returns:
        A rule for the ``weights=`` of `MeanSquares`.

    Raises:
        TypeError: `on` is no text, or a number is none.
        ValueError: a number is out of its range; when traced, the batch has no such
            points, or fewer than chunks.

    References:
        Wang, Sankaran and Perdikaris, Respecting causality is all you need for training
        physics-informed neural networks (2022).

    Example:
        >>> import jax.numpy as jnp, jaxcon as jc
        >>> rule = jc.causal_weights(on="x", chunks=3)
        >>> batch = {"x": jnp.array([[2.0], [0.0], [1.0]])}
        >>> weights, _ = rule.update(jnp.array([1.0, 0.5, 2.0]), (), batch)
        >>> print(weights.round(2))                      # e^-4.25, e^0 and e^-0.25
        [0.01 1.   0.78]
    """
    check_type("on", on, str, "text, a key of the batch")
    check_number("index", index, least=0, whole=True)
    check_number("chunks", chunks, least=1, whole=True)
    check_number("tolerance", tolerance, least=0)

    def update(residual: jax.Array, state: Any, batch: Any) -> tuple[jax.Array, Any]:
        points = batch_part(on, batch)
        shape = jnp.shape(points)
        fits = len(shape) == 2 and residual.shape == shape[:1] and index < shape[1]
        if not fits or len(points) < chunks:
            raise ValueError(
                f"causal_weights(on={on!r}, index={index}, chunks={chunks}) are for a "
                f"residual (n,) at points (n, d), n >= {chunks} and d > {index}; got "
                f"shapes {residual.shape} and {shape}"
            )
        order = jnp.argsort(points[:, index])
        # One rank after the other, in as many chunks of equal numbers as may be.
        chunk = jnp.arange(len(points)) * chunks // len(points)
        squares = residual[order] ** 2
        total = jax.ops.segment_sum(squares, chunk, chunks)
        mean = total / jax.ops.segment_sum(jnp.ones_like(squares), chunk, chunks)
        before = jnp.concatenate([jnp.zeros_like(mean[:1]), jnp.cumsum(mean)[:-1]])
        weights = jnp.exp(-tolerance * before)[chunk]
        return jnp.zeros_like(weights).at[order].set(weights), state

    return WeightRule(lambda residual: (), update)
