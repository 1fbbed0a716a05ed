"""KKT residuals of a point."""

from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.core import Tracer

from jaxcon import multipliers as kinds_of
from jaxcon._display import html_table, text_table
from jaxcon.constraints import violation, worst
from jaxcon.lagrangians import Lagrangian, Point, shared, split
from jaxcon.optimality._point import check_problem, point_of


class KKT(NamedTuple):
    """Karush-Kuhn-Tucker residuals; all zero at a KKT point.

    Attributes:
        stationarity: largest entry of the Lagrangian's gradient, shape ().
        equality: by name, largest abs h, each ().
        inequality: by name, largest max(g, 0), each ().
        dual: by name of an inequality, largest max(-lambda, 0), each ().
        slackness: by name of an inequality, largest abs lambda g, each ().
    """

    stationarity: jax.Array
    equality: dict[str, jax.Array]
    inequality: dict[str, jax.Array]
    dual: dict[str, jax.Array]
    slackness: dict[str, jax.Array]

    @property
    def worst(self) -> jax.Array:
        """The largest of all of them, (); NaN where any is NaN."""
        return jnp.max(jnp.array(jax.tree.leaves(tuple(self))))

    def __repr__(self) -> str:
        if any(
            jnp.ndim(leaf) or isinstance(leaf, Tracer)
            for leaf in jax.tree.leaves(tuple(self))
        ):
            return f"KKT{tuple(self)!r}"
        return (
            f"KKT residuals, worst {float(self.worst):.2e}\n{text_table(self._rows())}"
        )

    def _repr_html_(self) -> str:
        return html_table(self._rows())

    def _rows(self) -> list[dict[str, str]]:
        def cell(entries: dict[str, Any], name: str) -> str:
            return f"{float(entries[name]):.2e}" if name in entries else ""

        rows = [
            {
                "constraint": name,
                "kind": kind,
                "violation": cell(getattr(self, kind), name),
                "negative multiplier": cell(self.dual, name),
                "complementarity": cell(self.slackness, name),
            }
            for kind in ("equality", "inequality")
            for name in getattr(self, kind)
        ]
        stationary = {
            "constraint": "stationarity of the Lagrangian",
            "violation": f"{float(self.stationarity):.2e}",
        }
        return [{**dict.fromkeys(rows[0] if rows else (), ""), **stationary}, *rows]


def kkt(problem: Lagrangian, state: Any, batch: Any = None) -> KKT:
    r"""Evaluates the KKT residuals of one point, each as the largest absolute entry.

    .. math::
        \|\nabla_\theta (f + \mu h + \lambda g)\|_\infty, \quad \|h\|_\infty, \quad
        \|\max(g, 0)\|_\infty, \quad \|\max(-\lambda, 0)\|_\infty, \quad
        \|\lambda g\|_\infty

    Args:
        problem: the `Lagrangian`.
        state: a solver's state, or anything with ``params``, ``multipliers`` and perhaps
            ``penalty`` and ``extra``, e.g. `Point`. With a penalty, the multipliers are
            the estimates that the augmented Lagrangian's gradient uses.
        batch: what loss and constraints read; may be None.

    Returns:
        Stationarity, (), and four dicts of numbers by the constraints' names. One
        backward pass: no Jacobian is formed. It runs inside jit too.

    Raises:
        TypeError: `problem` is no problem, or `state` no point of one.
        ValueError: names or shapes of residuals and multipliers differ, or a penalty is
            not positive. What loss and constraints raise has their name in a note.

    References:
        Nocedal and Wright, Numerical Optimization (2006), eqs. 12.34, written there for
        constraints >= 0.

    Example:
        >>> import jax.numpy as jnp, jaxcon as jc
        >>> sums = jc.Constraints(equality={"sum": lambda p, _: jnp.sum(p) - 1.0})
        >>> problem = jc.Lagrangian(lambda p, _: jnp.sum(p**2), sums)   # min x² + y²
        >>> mu = jc.Constraints(equality={"sum": jnp.array(-1.0)})
        >>> print(jc.kkt(problem, jc.Point(jnp.array([0.5, 0.5]), mu), None).worst)
        0.0
    """
    check_problem(problem)
    return _program(problem)(point_of(state), split(batch)[0])


@lru_cache(maxsize=16)
def _program(problem: Lagrangian) -> Any:
    return jax.jit(partial(_residuals, problem))


def _residuals(problem: Lagrangian, point: Point, batch: Any) -> KKT:
    def both(params: Any) -> Any:
        found = problem.evaluate(params, batch, point.extra)
        return found.loss, found.residuals

    (loss, residuals), pull = jax.vjp(shared(both), point.params)
    touched = kinds_of.gather(problem.multipliers, point.multipliers, batch)
    multipliers = problem.read(touched, residuals, batch)
    # As `problem.multiplier_estimates`, of the evaluation that is there already.
    estimates = jax.grad(problem.objective, argnums=1)(
        loss, residuals, multipliers, point.penalty
    )
    (gradient,) = pull((jnp.ones_like(loss), estimates))
    violated = worst(violation(residuals))
    lam, g = estimates.inequality, residuals.inequality
    return KKT(
        stationarity=_largest(gradient),
        equality=violated.equality,
        inequality=violated.inequality,
        dual={name: jnp.max(-lam[name], initial=0) for name in lam},
        slackness={name: _largest(lam[name] * g[name]) for name in lam},
    )


def _largest(tree: Any) -> jax.Array:
    sizes = [jnp.max(jnp.abs(leaf), initial=0) for leaf in jax.tree.leaves(tree)]
    return jnp.max(jnp.stack(sizes)) if sizes else jnp.zeros(())
