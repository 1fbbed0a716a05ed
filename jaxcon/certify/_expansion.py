r"""Enclosures by an expansion about the middle of a box.

With the middle c of a box of half-widths r, the mean-value form and the Taylor form of
second order enclose a quantity q by

.. math::
    q(x) &\in q(c) + \sum_j [\partial_j q] \, r_j [-1, 1] \\
    q(x) &\in q(c) + \sum_j \partial_j q(c) \, r_j [-1, 1]
    + \tfrac12 \sum_j [\partial_{jj} q] \, r_j^2 [0, 1]
    + \sum_{j < k} [\partial_{jk} q] \, r_j r_k [-1, 1]

where [.] is an enclosure over the box by linear forms and adjoints. They are tighter than
these on small boxes alone, and cost the derivatives of one or two more orders.

References:
    R. E. Moore, R. B. Kearfott and M. J. Cloud, Introduction to Interval Analysis, 2009,
    sections 6.3 and 6.4.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxcon.certify._enclosure import Program
from jaxcon.certify._forms import outwards
from jaxcon.certify._jets import Key

EXPANSIONS = {"mean value": 1, "taylor": 2}
Bounds = tuple[jax.Array, jax.Array]


def expanded(
    f: Callable[[jax.Array], jax.Array],
    wanted: tuple[Any, ...],
    lower: jax.Array,
    upper: jax.Array,
    order: int,
) -> Bounds:
    """Encloses quantities of a function over a box by an expansion.

    Args:
        f: x (d,) -> () or (m,).
        wanted: the quantities.
        lower: lower corner, (d,).
        upper: upper corner, (d,).
        order: 1 for the mean-value form, 2 for the Taylor form.

    Returns:
        Lower and upper bounds of all entries of the quantities, (n,) each.
    """
    d, dtype = lower.size, lower.dtype
    middle = lower + (upper - lower) / 2
    reach = outwards(jnp.maximum(upper - middle, middle - lower), 2)
    firsts = [(j,) for j in range(d)]
    pairs = [(j, k) for j in range(d) for k in range(j, d)]

    def enclosed(shifts: list[Key], low: jax.Array, high: jax.Array) -> Bounds:
        program = Program(f, wanted, listed, d, dtype, shifts=shifts)
        found = program(low, high)
        return found.lower.reshape(len(shifts), -1), found.upper.reshape(
            len(shifts), -1
        )

    def largest(bounds: Bounds) -> jax.Array:
        return jnp.maximum(jnp.abs(bounds[0]), jnp.abs(bounds[1]))

    [least], [most] = enclosed([()], middle, middle)
    if order == 1:
        slopes = largest(enclosed(firsts, lower, upper))
        below = above = jnp.sum(reach[:, None] * slopes, axis=0)
    else:
        slopes = largest(enclosed(firsts, middle, middle))
        second = enclosed(pairs, lower, upper)
        below = above = jnp.sum(reach[:, None] * slopes, axis=0)
        for (j, k), low, high in zip(pairs, *second):
            area = reach[j] * reach[k]
            if j == k:
                below = below + area / 2 * jnp.maximum(-low, 0)
                above = above + area / 2 * jnp.maximum(high, 0)
            else:
                size = jnp.maximum(jnp.abs(low), jnp.abs(high))
                below, above = below + area * size, above + area * size
    terms = 2 * d * d + 8
    size = jnp.maximum(jnp.abs(least), jnp.abs(most))
    slack = 4 * jnp.finfo(dtype).eps * size
    return (
        least - outwards(below + slack, terms),
        most + outwards(above + slack, terms),
    )


def listed(x: jax.Array, *found: jax.Array) -> list[jax.Array]:
    """Returns the quantities as the residual of a `Program`."""
    del x
    return list(found)
