r"""Bounds of linear functions of a program's results, from its adjoints.

`Forward` has replaced each operation k by a linear one, up to a remainder
:math:`\iota_k`. The program of these replacements is affine in the e_j of the box and in
all remainders. Its derivatives, from one reverse pass for each bound, are the
coefficients in

.. math::
    y = c + \sum_j A_j e_j + \sum_k \lambda_k \iota_k, \qquad
    |y - c| \le \sum_j |A_j| + \sum_k |\lambda_k| R_k

Terms that cancel between paths are cancelled before absolute values are taken, which is
what makes these bounds tighter than those that a forward pass propagates: CROWN [1] with
parallel lines, or affine arithmetic with one noise symbol for each operation.

References:
    [1] H. Zhang et al., "Efficient neural network robustness certification with general
        activation functions", NeurIPS 2018.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxcon.certify._curves import Curve
from jaxcon.certify._forms import Bind, Form, Forward, Linear, outwards, tightened

Array = Any


class Replay:
    """Algebra of numbers, which repeats the replacements that `Forward` wrote down.

    Attributes:
        record: the replacements.
        remainders: one array for each, added to its result.
    """

    def __init__(self, record: Sequence[Linear], remainders: Sequence[Array]):
        self.steps = iter(zip(record, remainders, strict=True))

    def exact(self, value: Array) -> Array:
        """Returns the number itself."""
        return jnp.asarray(value)

    def moved(self, bind: Bind, xs: Sequence[Array], terms: int) -> Array:
        """Repeats `Forward.moved`."""
        del terms
        return bind(*xs) + next(self.steps)[1]

    def linear(
        self, bind: Bind, absolute: Bind, xs: Sequence[Array], terms: int
    ) -> Array:
        """Repeats `Forward.linear`."""
        del absolute, terms
        return bind(*xs) + next(self.steps)[1]

    def product(self, bind: Bind, x: Array, y: Array, terms: int) -> Array:
        """Repeats `Forward.product`."""
        del terms
        (p, q, shift), remainder = self._next()
        return bind(p, y) + bind(x - p, q) + shift + remainder

    def unary(self, curve: Curve, order: int, x: Array) -> Array:
        """Repeats `Forward.unary`."""
        del curve, order
        (p, constant, m), remainder = self._next()
        return constant + p * (x - m) + remainder

    def selected(
        self, true: Array, false: Array, x: Array, y: Array, continuous: bool
    ) -> Array:
        """Repeats `Forward.selected`."""
        del continuous
        (true, false, middle), remainder = self._next()
        return jnp.where(true, x, jnp.where(false, y, middle)) + remainder

    def middle(self, x: Array) -> Array:
        """Repeats `Forward.middle`."""
        del x
        [centre], _ = self._next()
        return centre

    def at_least(self, x: Array, lower: Array) -> Array:
        """Returns x itself."""
        del lower
        return x

    def interval(self, x: Array) -> tuple[Array, Array]:
        """Returns bounds that decide nothing; the record has what was decided."""
        return jnp.full_like(x, -jnp.inf), jnp.full_like(x, jnp.inf)

    def _next(self) -> tuple[tuple[Array, ...], Array]:
        step, remainder = next(self.steps)
        return step.parts, remainder


def refined(
    program: Callable[[Any, Any], Array], x: Form, forward: Forward, result: Form
) -> tuple[Form, Array]:
    """Tightens the bounds of a program's results by its adjoints.

    Args:
        program: (algebra, x) -> the results (m,), run before with `forward`.
        x: the box, (d,).
        forward: the algebra after that run.
        result: what it returned, (m,).

    Returns:
        The bounds, and the part of each input in the remainder of each result, (m, d).
    """
    record = forward.record
    zeros = [jnp.zeros_like(step.remainder) for step in record]

    def replaced(e: Array, remainders: list[Array]) -> Array:
        algebra = Replay(record, remainders)
        assert x.slopes is not None
        return program(algebra, x.centre + jnp.sum(e[:, None] * x.slopes, axis=0))

    e = jnp.zeros_like(x.centre)
    centre, pull = jax.vjp(replaced, e, zeros)
    linear, adjoints = jax.vmap(pull)(jnp.eye(centre.size, dtype=centre.dtype))
    width, shares = jnp.zeros_like(centre), jnp.zeros_like(linear)
    terms = 0
    for adjoint, step in zip(adjoints, record):
        part = jnp.abs(adjoint) * step.remainder[None]
        width = width + jnp.sum(part.reshape(len(centre), -1), axis=1)
        terms += step.remainder.size
        for slopes in step.slopes:
            if slopes.shape[1:] == step.remainder.shape:
                shares = shares + _shared(part, slopes) / len(step.slopes)
    # The sum of all terms is rounded.
    remainder = outwards(width, terms + 4) + forward.lost
    form = Form(centre, linear.T, remainder, result.lower, result.upper)
    return tightened(form, len(e)), shares


def _shared(part: Array, slopes: Array) -> Array:
    """Divides remainders (m, ...) among the inputs as their slopes (d, ...) are, (m, d)."""
    sizes = jnp.abs(slopes).reshape(len(slopes), -1)
    total = jnp.sum(sizes, axis=0, keepdims=True)
    weights = sizes / (total + jnp.finfo(total.dtype).tiny)
    return part.reshape(len(part), -1) @ weights.T
