"""Output layers that project onto polyhedra."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxcon._checks import check_array, check_number
from jaxcon.layers._certificates import TWICE, Gap, holds
from jaxcon.layers._nearest import KEPT, nonexpansive, obeying, parameter, worst_row
from jaxcon.layers._networks import Output, check_term, floating, output
from jaxcon.projections import Projection, product
from jaxcon.projections import polyhedron as nearest
from jaxcon.projections._box_section import check_bounds
from jaxcon.projections._polyhedron import checked

SETTLED = (
    "The inequalities hold to that wherever the active rows were found, which "
    "projections.polyhedron's residual tells: it is large where the set is empty or the "
    "iterations did not suffice, and the output is NaN there. Where the machine epsilon "
    "of an output is as large as the set, the result obeys but is no longer the nearest "
    "point; where even its square is, it may obey no more."
)


@dataclass(frozen=True, eq=False)
class Polyhedron(Output):
    """Output layer of `polyhedron`, with the violation that is left.

    Attributes:
        projection: (y, x) -> `jaxcon.projections.Projection`.
    """

    projection: Callable[[jax.Array, Any], Projection] = lambda y, x: Projection(y, y)

    def residual(self, y: jax.Array, x: Any = None) -> jax.Array:
        """Returns the largest violation left, (), in the units of b, lower and upper."""
        return self.projection(y, x).residual


def polyhedron(
    A: Any, b: Any, C: Any, lower: Any, upper: Any, *, iterations: int = 200
) -> Polyhedron:
    r"""Projects outputs onto linear equations and inequalities: the nearest point.

    .. math::
        z = \operatorname{argmin} \tfrac12 \|z - y\|^2
        \quad \text{subject to} \quad A z = b(x), \quad l(x) \le C z \le u(x)

    It guarantees A z = b, and the inequalities wherever the active rows are found, which
    the layer's ``residual(y, x)`` shows. The search is exact to the rounding of y, not the
    last of many iterates, but no useful bound on its length is known; `iterations` bounds
    it. An output that is 1 / eps times as large as the set, 1e7 times in float32, is still
    feasible, but need not be the nearest point. It costs p² operations for each
    of 50 moves of a splitting and p³ / 3 for each change of the active rows, often three
    in all, for each output; the part that depends on A and C alone is done once for a
    batch, unless they are functions of x.

    Choose `affine` for equations alone, `box_section` for a box and one sum,
    `oblique_correction` for a few rows far from parallel, `half_spaces` for one-sided
    rows without equations. An output learns only along what its active rows leave free:
    an output held at a corner learns nothing, so start inside.

    Args:
        A: one row for each equation, (k, m), of full row rank; (0, m) for none.
        b: right-hand sides, (k,), in the units of A y.
        C: one row for each inequality, (p, m).
        lower: l (p,), in the units of C y; -inf for none.
        upper: u (p,), likewise; inf for none. Each of these five may be a function of x.
        iterations: the most changes of the active rows, in each of three passes.

    Returns:
        A layer of y (m,) that returns (m,); ``.residual(y, x)`` is the violation left.
        Where that is above :math:`\sqrt{\epsilon}` of the rows' terms, because functions of
        x leave no point or the iterations do not suffice, the result is NaN under jit and
        a ValueError outside it.

    Raises:
        TypeError: an argument is neither numbers nor a function.
        ValueError: the shapes do not fit, a row of A is a combination of those above, or
            no point obeys all rows.

    References:
        Goldfarb and Idnani, A numerically stable dual method for solving strictly convex
        quadratic programs, Mathematical Programming 27 (1983).

    Example:
        >>> import jax.numpy as jnp, jaxcon as jc
        >>> A, C = jnp.ones((1, 3)), jnp.array([[1.0, -1.0, 0.0]])
        >>> shares = jc.layers.polyhedron(A, lambda x: x[:1], C, [0.0], [0.5])
        >>> y, x = jnp.array([4.0, 2.0, 3.0]), jnp.array([6.0])
        >>> print([f"{z:.3f}" for z in shares(y, x)], shares.residual(y, x) < 1e-5)
        ['2.250', '1.750', '2.000'] True
    """
    check_number(
        "polyhedron: iterations", iterations, least=1, most=2**31 - 1, whole=True
    )
    A, C = (
        check_term(f"polyhedron: {name}", given, "(k, m)")
        for name, given in (("A", A), ("C", C))
    )
    b = check_term("polyhedron: b", b, "(k,)")
    lower, upper = (
        check_term(f"polyhedron: {name}", given, "(p,)", finite=False)
        for name, given in (("lower", lower), ("upper", upper))
    )
    terms = A, b, C, lower, upper

    def projection(y: jax.Array, x: Any) -> Projection:
        y = floating("polyhedron: y", y)
        given = [parameter("polyhedron", term, x, y) for term in terms]
        return nearest(y, *given, iterations=iterations)

    def function(y: jax.Array, x: Any) -> jax.Array:
        y = floating("polyhedron: y", y)
        point, residual = projection(y, x)
        rows, low, high = (
            parameter("polyhedron", term, x, y) for term in (C, lower, upper)
        )
        sizes = jnp.linalg.norm(rows, axis=1) * jnp.linalg.norm(point)
        bounds = [
            jnp.where(jnp.isfinite(bound), abs(bound), 0.0) for bound in (low, high)
        ]
        right = abs(parameter("polyhedron", b, x, y))
        terms = jnp.max(jnp.concatenate([sizes, *bounds, right]))
        # Of an output that is NaN or infinite nothing is known, and it is NaN already.
        broken = residual > jnp.sqrt(jnp.finfo(point.dtype).eps) * terms
        sentence = (
            "polyhedron: no point was found that obeys all rows: the set is empty at this "
            f"x, or iterations ({iterations}) do not suffice"
        )
        return obeying(point, ~jax.lax.stop_gradient(broken), sentence)

    if not any(map(callable, terms)):
        # Now, not at the first output, if it will be refused.
        checked("polyhedron", np.zeros(C.shape[-1]), *terms)
    elif not any(callable(one) or isinstance(one, Tracer) for one in (lower, upper)):
        if lower.shape != upper.shape:
            raise ValueError(
                "polyhedron needs lower and upper (p,), got "
                f"{lower.shape} and {upper.shape}"
            )
        check_bounds("polyhedron", lower, upper)

    def equations_gap(z: jax.Array, x: jax.Array) -> Gap:
        rows, right = (parameter("polyhedron", term, x, z) for term in (A, b))
        terms = product(jnp.abs(rows), jnp.abs(z)) + jnp.abs(right)
        return worst_row(jnp.abs(product(rows, z) - right), (z.size + 12) * terms)

    def inequalities_gap(z: jax.Array, x: jax.Array) -> Gap:
        rows, low, high = (
            parameter("polyhedron", term, x, z) for term in (C, lower, upper)
        )
        values = product(rows, z)
        size = jnp.linalg.norm(rows, axis=1) * jnp.linalg.norm(z)
        for bound in (low, high):
            size = jnp.maximum(size, jnp.where(jnp.isfinite(bound), abs(bound), 0.0))
        excess = jnp.maximum(low - values, values - high)
        return worst_row(excess, (z.size + 10) * size)

    # A sum of m products rounds by at most m/2 eps of its terms: the last correction's
    # and the test's. Four for the entries, their correction and the right-hand side, four
    # for what the inequalities move after it, four for a function that rounds twice.
    equations = holds(
        "A f(x) = b",
        equations_gap,
        roundings=1.0,
        size="m + 12 times each equation's terms",
        constant=(A, b),
    )
    # The search is over where no row is out by more than 4 eps of |C row| times the norms
    # of what it starts from, both |z| the third time; two for the last move. Its values
    # round by m/2 eps, and so do the test's. Where z is zero and the bounds are too, the
    # projection returns zero itself, not what rounding leaves of y.
    inequalities = holds(
        "l <= C f(x) <= u",
        inequalities_gap,
        roundings=1.0 + TWICE * any(map(callable, terms)),
        size="m + 10 times |C row| |z| or the row's bounds",
        constant=(C, lower, upper),
    )
    made = output(
        function,
        *([equations] if callable(b) or np.size(b) else []),
        inequalities,
        carry=nonexpansive(*terms),
        caveat=f"{SETTLED} {KEPT}",
    )
    return Polyhedron(**vars(made), projection=projection)


def half_spaces(C: Any, upper: Any, *, iterations: int = 200) -> Polyhedron:
    r"""Projects outputs onto an intersection of half-spaces: the nearest point.

    .. math::
        z = \operatorname{argmin} \tfrac12 \|z - y\|^2
        \quad \text{subject to} \quad C z \le u(x)

    Guarantees and cost are those of `polyhedron` without equations and lower bounds.
    For one row choose `half_space`, its closed form; a few rows that are far from parallel
    are cheaper by `oblique_correction`, which is no nearest point.

    Args:
        C: one row for each inequality, (p, m).
        upper: u (p,), in the units of C y, inf for none; or a function of x that returns
            them.
        iterations: the most changes of the active rows, in each of three passes.

    Returns:
        A layer of y (m,) that returns (m,); ``.residual(y, x)`` is the violation left.

    Raises:
        TypeError: an argument is neither numbers nor a function.
        ValueError: the shapes do not fit, or no point obeys all rows.

    References:
        Goldfarb and Idnani, A numerically stable dual method for solving strictly convex
        quadratic programs, Mathematical Programming 27 (1983).

    Example:
        >>> import jax.numpy as jnp, jaxcon as jc
        >>> corner = jc.layers.half_spaces([[1.0, 0.0], [0.0, 1.0]], [1.0, 2.0])
        >>> print(corner(jnp.array([3.0, 4.0])))
        [1. 2.]
    """
    C = check_array("half_spaces: C", C, "(p, m)")
    upper = check_term("half_spaces: upper", upper, "(p,)", finite=False)
    check_number(
        "half_spaces: iterations", iterations, least=1, most=2**31 - 1, whole=True
    )
    p, m = C.shape
    if p < 1 or m < 1 or not (callable(upper) or upper.shape == (p,)):
        raise ValueError(
            "half_spaces needs C (p, m) of at least one row and upper (p,), got "
            f"{C.shape} and {'a function' if callable(upper) else upper.shape}"
        )
    nothing = np.zeros((0, m)), np.zeros(0)
    return polyhedron(*nothing, C, np.full(p, -np.inf), upper, iterations=iterations)
