"""Widths of enclosures, to be made small by training."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jax.typing import ArrayLike

from jaxcon._checks import check_array
from jaxcon.certify._claims import claim_of
from jaxcon.certify._enclosure import Program


def width(
    claim: Any, lower: ArrayLike, upper: ArrayLike
) -> Callable[[Any, Any], jax.Array]:
    r"""Returns how loosely a residual is enclosed on boxes, as a function of parameters.

    .. math:: w_b(\theta) = \max_k \, \bar r_k - \underline r_k, \quad
        \underline r_k \le r_k(x) \le \bar r_k \text{ for all } x \in b

    The bounds are those of linear enclosures, propagated forwards. A network of small
    widths needs fewer boxes for a proof. The widths are differentiable, so that a
    multiple of their mean can be added to a loss. They are infinite where nothing is known,
    e.g. of the second derivative of a kink.

    Args:
        claim: a constraint of `jaxcon.shapes` or a claim of this module.
        lower: lower corners of n boxes, (n, d); they may be traced, e.g. drawn anew at
            each step.
        upper: upper corners, (n, d).

    Returns:
        A function (params, batch) -> (n,), in units of the residual. It does not read the
        batch.

    Raises:
        TypeError: the claim is none.
        ValueError: the corners are no corners of boxes.
        NotImplementedError: when it is called, no enclosure is known of an operation.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxcon as jc
        >>> rises = jc.shapes.increasing(lambda p, x: jnp.tanh(p * x[0]), 0)
        >>> loose = jc.certify.width(rises, [[0.0], [0.5]], [[0.5], [1.0]])
        >>> widths = loose(1.0, None)
        >>> print(widths.shape, bool(jnp.all(loose(0.5, None) < widths)))
        (2,) True
    """
    one = claim_of(claim, 0.0)
    low, high = (
        check_array(f"width: {word}", corners, "(n, d)")
        for word, corners in (("lower", lower), ("upper", upper))
    )
    known = not any(isinstance(corners, Tracer) for corners in (low, high))
    if low.shape != high.shape or (known and bool(jnp.any(low > high))):
        raise ValueError(
            f"width got lower of shape {low.shape} and upper of shape {high.shape}; pass "
            "two of one shape (n, d), no lower above its upper"
        )
    dtype = jnp.result_type(float)

    def widths(params: Any, batch: Any = None) -> jax.Array:
        del batch
        program = Program(
            partial(one.apply, params),
            one.wanted,
            one.residual,
            low.shape[1],
            dtype,
            "forward",
        )
        found = jax.vmap(program)(jnp.asarray(low, dtype), jnp.asarray(high, dtype))
        return jnp.max(found.upper - found.lower, axis=1)

    return widths
