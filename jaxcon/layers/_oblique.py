"""Output layer that corrects several linear inequalities obliquely, in one formula."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcon._checks import check_number
from jaxcon.layers._certificates import TWICE, Gap, holds
from jaxcon.layers._nearest import FAR, obeying, parameter, worst_row
from jaxcon.layers._networks import Output, check_term, floating, output
from jaxcon.projections import product
from jaxcon.projections._affine import check_independent, onto_equations
from jaxcon.projections._box_section import check_bounds


@dataclass(frozen=True, eq=False)
class ObliqueCorrection(Output):
    """Output layer of `oblique_correction`, with the condition number of its rows.

    Attributes:
        condition: x -> (), the condition number of A(x) with rows of length 1.
    """

    condition: Callable[[Any], jax.Array] = lambda x: jnp.ones(())


def oblique_correction(
    A: Any, lower: Any, upper: Any, *, max_condition: float = 10.0
) -> ObliqueCorrection:
    r"""Corrects outputs to several linear inequalities, in one formula.

    .. math::
        z = y + A^+ \left( \max(l - A y, 0) - \max(A y - u, 0) \right),
        \qquad l(x) \le A(x) z \le u(x)

    It guarantees these inequalities where the rows of A are independent. Outputs that
    fulfil them do not move; l = u makes an equation. It costs a QR decomposition of A, for
    each output where A depends on x, and two products with it.

    The result is no nearest point: each violated row is corrected without moving the
    others, so the move is oblique where rows are not orthogonal, and farther than
    necessary. The condition number of A with rows of length 1 bounds the excess: every
    feasible point differs from y by at least :math:`\|r\| / \sigma_{\max}(A)`, where r are
    the rows' violations, and this one by at most :math:`\|r\| / \sigma_{\min}(A)`. Choose
    it for a few rows that are far from parallel; otherwise `polyhedron`, which iterates.

    Args:
        A: one row for each inequality, (k, m), k <= m; or a function of x.
        lower: l, (k,), in the units of A y; may be -inf; or a function of x.
        upper: u, likewise; may be inf.
        max_condition: a constant A of a larger condition number is refused. 10 allows moves
            of up to ten times the distance needed, one digit of the output: two rows 11
            degrees apart, or random rows half as many as the outputs, of condition 6.

    Returns:
        A layer of y (m,) that returns (m,); ``.condition(x)`` is the condition number where
        A is a function. Where functions of x leave no point or make A's rows dependent, the
        result is NaN under jit and a ValueError outside it.

    Raises:
        TypeError: an argument is neither numbers nor a function.
        ValueError: the shapes do not fit, lower exceeds upper, or A's condition number is
            above `max_condition`.

    References:
        Min and Azizan, HardNet: hard-constrained neural networks with universal
        approximation guarantees (2024), where it is called HardNet-Aff.

    Example:
        >>> import jax.numpy as jnp, jaxcon as jc
        >>> ordered = jc.layers.oblique_correction(
        ...     [[1.0, -1.0]], [-jnp.inf], lambda x: x[:1]
        ... )
        >>> print(ordered(jnp.array([3.0, 1.0]), jnp.array([1.0])))
        [2.5 1.5]
    """
    check_number("oblique_correction: max_condition", max_condition, least=1)
    A = check_term("oblique_correction: A", A, "(k, m)")
    lower, upper = (
        check_term(f"oblique_correction: {name}", given, "(k,)", finite=False)
        for name, given in (("lower", lower), ("upper", upper))
    )
    terms = A, lower, upper
    if not callable(A):
        if not 1 <= A.shape[0] <= A.shape[1]:
            raise ValueError(
                f"oblique_correction needs A (k, m), 1 <= k <= m, got {np.shape(A)}; for "
                "more rows than outputs use polyhedron"
            )
        worst = float(_condition(np, np.asarray(A, float)))
        if not worst <= max_condition:
            raise ValueError(
                f"oblique_correction: A has condition number {worst:.4g}, more than "
                f"{max_condition:g}: it might move an output {worst:.4g} times as far as "
                "needed; use polyhedron"
            )
    if not (callable(lower) or callable(upper)):
        if lower.shape != upper.shape:
            raise ValueError(
                "oblique_correction needs lower and upper, one of each for each row, got "
                f"{lower.shape} and {upper.shape}"
            )
        check_bounds("oblique_correction", np.asarray(lower), np.asarray(upper))

    def at(x: Any, y: jax.Array) -> list[jax.Array]:
        return [parameter("oblique_correction", term, x, y) for term in terms]

    def condition(x: Any = None) -> jax.Array:
        return _condition(jnp, parameter("oblique_correction", A, x, jnp.zeros(())))

    def function(y: jax.Array, x: Any) -> jax.Array:
        y = floating("oblique_correction: y", y)
        rows, low, high = at(x, y)
        k, m = len(low), y.size
        if (y.shape, rows.shape, low.shape, high.shape) != ((m,), (k, m), (k,), (k,)):
            raise ValueError(
                "oblique_correction needs y (m,), A (k, m), lower and upper (k,), got "
                f"{y.shape}, {rows.shape}, {low.shape} and {high.shape}"
            )
        # The nearest point at which each row has the nearest value allowed: rows are
        # independent, so that one exists, and those that hold keep their values.
        held = jnp.clip(product(rows, y), low, high)
        dtype = jnp.result_type(y, rows, held)
        check_independent("oblique_correction", rows, held, dtype)
        z = onto_equations(*(jnp.asarray(one, dtype) for one in (y, rows, held)))
        sentence = "oblique_correction: the set is empty, a lower exceeds its upper"
        return obeying(z, jnp.all(low <= high), sentence)

    def gap(z: jax.Array, x: jax.Array) -> Gap:
        rows, low, high = at(x, z)
        sums = product(rows, z)
        size = jnp.linalg.norm(rows, axis=1) * jnp.linalg.norm(z)
        excess = jnp.maximum(low - sums, sums - high)
        return worst_row(excess, z.size * condition(x) * size)

    # As for `affine`. The solve errs by the condition number times as much, but squared:
    # only the second of two corrections counts, so once covers moves far beyond z.
    inequalities = holds(
        "l <= A f(x) <= u",
        gap,
        roundings=5.0 + TWICE * any(map(callable, terms)),
        size="m times the condition number times |A row| |z|",
        constant=terms,
    )
    made = output(function, inequalities, caveat=FAR)
    return ObliqueCorrection(**vars(made), condition=condition)


def _condition(xp: Any, A: Any) -> Any:
    """Returns the condition number of A (k, m) with rows of length 1, by the module `xp`.

    Longer rows change no correction. The number of dependent rows is infinite.
    """
    lengths = xp.linalg.norm(A, axis=1)
    rows = A / xp.where(lengths > 0, lengths, 1.0)[:, None]
    values = xp.linalg.svd(rows, compute_uv=False)
    least = xp.where(values[-1] > 0, values[-1], 1.0)
    return xp.where(values[-1] > 0, values[0] / least, xp.inf)
