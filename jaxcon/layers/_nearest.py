"""Parameters, tolerances and kept guarantees of layers that move outputs into sets."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxcon.layers._certificates import Function, Gap, Guarantee, Test
from jaxcon.layers._networks import at_input

FAR = "An output far above what is left of it adds (m eps)^2 cond(A) of its own terms."
KEPT = "A Lipschitz constant is kept to the rounding of the output before this layer."


def parameter(layer: str, given: Any, x: Any, y: jax.Array) -> Any:
    """Evaluates a layer's parameter at x, in y's dtype and at least in float32.

    The projections compute in no narrower dtype, so guarantees are about such parameters.

    Args:
        layer: its name.
        given: a number, an array, or a function of x.
        x: (d,), or None where the layer is called without it.
        y: the output that it belongs to.

    Returns:
        The parameter; one that is known stays an array of NumPy, whose values a projection
        checks while it is traced too.

    Raises:
        TypeError: a function returns no array of numbers.
        ValueError: x is needed and not given.
    """
    dtype = jnp.result_type(y.dtype, jnp.float32)
    found = at_input(layer, given, x)
    known = not callable(given) and not isinstance(found, Tracer)
    return np.asarray(found, dtype) if known else jnp.asarray(found, dtype)


def obeying(y: jax.Array, holds: Any, sentence: str) -> jax.Array:
    """Returns an output where its set is not empty, and else refuses it or makes it NaN.

    Args:
        y: the output.
        holds: whether the set has a point, ().
        sentence: the error, raised where that is known.

    Returns:
        The output, of NaN where the set is empty and y or the set is traced.

    Raises:
        ValueError: the set is empty.
    """
    if not isinstance(holds, Tracer) and not holds:
        raise ValueError(sentence)
    return jnp.where(holds, y, jnp.nan)


def worst_row(excess: jax.Array, size: jax.Array) -> Gap:
    """Returns, of several gaps, the one that is largest for its size."""
    tiny = jnp.finfo(size.dtype).tiny
    worst = jnp.argmax(excess / (size + tiny))  # which takes NaN for the largest
    return Gap(excess[worst], size[worst])


def nonexpansive(*parameters: Any) -> Callable[[Guarantee], Guarantee | None]:
    """Returns the carry of a projection onto a convex set, if the set is independent of x.

    Two nearest points are no farther apart than the two outputs were.
    """

    def carry(guarantee: Guarantee) -> Guarantee | None:
        if guarantee.kind != "lipschitz" or any(map(callable, parameters)):
            return None
        tests = {name: _of_entries(test) for name, test in guarantee.tests.items()}
        # The derivative of a projection is applied in sums of m terms.
        roundings = guarantee.roundings + 5.0
        size = f"m times {guarantee.size}"
        return replace(guarantee, tests=tests, roundings=roundings, size=size)

    return carry


def _of_entries(test: Test) -> Test:
    """Returns a test of a function's m entries, perhaps a matrix, to m times its size."""

    def flat(f: Function, x: jax.Array, y: jax.Array) -> Gap:
        gap = test(lambda point: jnp.ravel(f(point)), x, y)
        return Gap(gap.excess, jnp.size(f(x)) * gap.size)

    return flat
