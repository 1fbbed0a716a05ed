"""Levenberg-Marquardt steps on an augmented Lagrangian of least squares."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree

from jaxcon._checks import check_number
from jaxcon.constraints import Constraints, named
from jaxcon.lagrangians import Lagrangian
from jaxcon.transforms._mean_squares import MeanSquares, Residual, WeightedSquares

# Tries of one update; the last is damped 2^66 times as much as the first.
_TRIES = 12
# Roundings in an objective's value: it tells no smaller share of itself.
_ROUNDINGS = 8


@dataclass(frozen=True, eq=False)
class Objective:
    """Objective that a solver passes to its primal transform as `value_fn`.

    All of it is at the parameters that the transform moves; `extragradient` moves them by
    the gradient at others, and passes a plain function. It is no pytree, as no function
    is one.

    Attributes:
        value: params -> the objective at the present multipliers, ().
        residuals: params -> those of the constraints.
        slopes: () -> its derivative with respect to each residual, in the residuals'
            shapes, at the present parameters.
        curvature: () -> its second derivative with respect to each residual, in the
            residuals' shapes, at the present parameters.
        problem: the solver's `Lagrangian`.
        batch: what loss and constraints are evaluated on.
    """

    value: Callable[[Any], jax.Array]
    residuals: Callable[[Any], Constraints]
    slopes: Callable[[], Constraints]
    curvature: Callable[[], Constraints]
    problem: Lagrangian
    batch: Any

    def __call__(self, params: Any) -> jax.Array:
        """Evaluates the objective, ()."""
        return self.value(params)


class GaussNewtonState(NamedTuple):
    """State of `gauss_newton`.

    Attributes:
        damping: mu, in units of the curvature's mean diagonal, ().
    """

    damping: jax.Array


def gauss_newton(
    problem: Lagrangian,
    *,
    on: Mapping[str, str | tuple[str, ...]] = MappingProxyType({}),
    damping: Any = 1e-3,
) -> optax.GradientTransformationExtraArgs:
    r"""Takes Levenberg-Marquardt steps on the loss and on the constraints' penalty.

    An augmented Lagrangian of a sum of squares is one: with gradient g and

    .. math::
        H = \sum_k \frac{2}{n_k} J_k^T W_k J_k
            + \sum_{i \in h} \rho_i J_i^T J_i
            + \sum_{i \in g,\, \lambda_i + \rho_i g_i > 0} \rho_i J_i^T J_i

    the move is :math:`\delta = -(H + \mu \bar H I)^{-1} g`, where :math:`\bar H` is the
    mean of H's diagonal, and :math:`W_k` holds the weights of the `MeanSquares`, 1 without
    any. It is made if the objective falls; else the damping :math:`\mu` grows and another
    is tried. After a move that gained :math:`\varrho` times what the model foretold,
    :math:`\mu` is multiplied by :math:`\max(1/3, 1 - (2 \varrho - 1)^3)`. Where the gain
    foretold is lost in the objective's roundings the model is trusted; where every try
    fails, nothing moves.

    It goes as `primal` of `simultaneous` or `alternating` with the same `problem`, on
    batches that stay the same for a few steps at least. Where there are fewer residuals
    than parameters, n < p, the same move is computed in the space of the residuals: with
    the rows :math:`A = W^{1/2} J`, :math:`H = A^T A`, and s the derivatives of the
    objective by the residuals over :math:`W^{1/2}`,

    .. math:: \delta = -A^T (A A^T + \mu \bar H I)^{-1} s

    So a step costs n p min(n, p) operations, and each try min(n, p)³; J takes n p numbers.
    Use float64. For differential equations the moves are known as energy natural gradient.
    Let some steps pass between two moves of the multipliers, and many where all residuals
    can be zero: there the true multipliers are zero, and what moves early is unlearned.

    Args:
        problem: a `Lagrangian` whose loss is a `MeanSquares`.
        on: by name of a loss's or constraint's residual, the key (or keys) of the batch, a
            dict, over whose rows it runs: entry i of the residual reads row i, and no
            other, nor their number or a mean. Its Jacobian then costs as much as one
            gradient. Residuals that are not named here are differentiated whole, which
            costs one gradient for each entry.
        damping: mu at the first step, > 0.

    Returns:
        An optax transform for the parameters.

    Raises:
        TypeError: `problem` is no `Lagrangian` of a `MeanSquares`; at the first step,
            that no solver runs it.
        ValueError: a name is unknown or used twice, or the damping not positive; at the
            first step, that the solver has another problem, the batch no such entry, or a
            residual another shape than its rows have.

    References:
        Nielsen, Damping Parameter in Marquardt's Method (1999), eqs. 2.4 to 2.6, with
        other units of the damping; Müller and Zeinhofer, Achieving High Accuracy with
        PINNs via Energy Natural Gradients (2023); Chen and Heyl, Empowering deep neural
        quantum states through efficient optimization (2024), for the space of residuals.

    Example:
        A line through two points that also meets (2, 0):

        >>> import jax, jax.numpy as jnp, jaxcon as jc
        >>> def misfit(p, batch):
        ...     return p[0] + p[1] * batch["x"] - batch["y"]
        >>> loss = jc.MeanSquares({"misfit": misfit})
        >>> meets = jc.Constraints({"meets": lambda p, _: p[0] + 2.0 * p[1]})
        >>> problem = jc.Lagrangian(loss, meets, penalty=1.0)
        >>> primal = jc.gauss_newton(problem, on={"misfit": ("x", "y")})
        >>> solver = jc.alternating(problem, primal, jc.method_of_multipliers())
        >>> batch = {"x": jnp.array([0.0, 1.0]), "y": jnp.array([1.0, 1.0])}
        >>> state = solver.init(jnp.zeros(2), batch)
        >>> step = jax.jit(solver.step)
        >>> for _ in range(20):
        ...     state, info = step(state, batch)
        >>> print(f"{state.params[0]:.3f} {state.params[1]:.3f}")
        1.200 -0.600
    """
    if not isinstance(problem, Lagrangian):
        raise TypeError(
            "gauss_newton needs a problem: pass jaxcon.Lagrangian(loss, constraints), got "
            f"{type(problem).__name__}"
        )
    loss, constraints = problem.loss, problem.constraints
    if not isinstance(loss, MeanSquares):
        raise TypeError(
            "gauss_newton needs to know what the loss is the square of: give the "
            f"Lagrangian jaxcon.MeanSquares({{name: residual}}), got {type(loss).__name__}"
        )
    check_number("damping", damping, above=0)
    if not isinstance(on, Mapping):
        raise TypeError(
            "on must be a dict of keys of the batch by residual, got "
            f"{type(on).__name__}"
        )
    names = [*loss.residuals, *_listed(constraints)]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"gauss_newton: {twice[0]!r} names two residuals")
    if unknown := sorted(on.keys() - set(names)):
        raise ValueError(
            f"gauss_newton: on= names {unknown[0]!r}, but the residuals are {names}"
        )

    def rows(params: Any, objective: Objective) -> list[_Rows]:
        """Evaluates the residuals' gradients, with their weights and slopes."""
        given, weights = objective.problem, {}
        if isinstance(given.loss, WeightedSquares):
            given, weights = given.loss.problem, given.loss.weights
        if given is not problem:
            raise ValueError(
                "gauss_newton and its solver have different problems: pass the same "
                "Lagrangian to both"
            )
        batch, found = objective.batch, []
        for name, residual in loss.residuals.items():
            jacobian = _jacobian(name, residual, on.get(name), params, batch)
            count = len(jacobian)
            second = 2 / count * jnp.atleast_1d(weights.get(name, jnp.ones(count)))
            slope = second * jnp.atleast_1d(residual(params, batch))
            found.append((jacobian, second, slope))
        slopes, seconds = objective.slopes(), objective.curvature()
        for kind, name, residual in named(constraints):
            jacobian = _jacobian(name, residual, on.get(name), params, batch)
            slope, second = (
                jnp.atleast_1d(getattr(part, kind)[name]) for part in (slopes, seconds)
            )
            found.append((jacobian, second, slope))
        # Data may be more exact than the parameters.
        dtype = ravel_pytree(params)[0].dtype
        return [_Rows(*(part.astype(dtype) for part in one)) for one in found]

    def init(params: Any) -> GaussNewtonState:
        return GaussNewtonState(jnp.asarray(damping, ravel_pytree(params)[0].dtype))

    def update(
        updates: Any,
        state: GaussNewtonState,
        params: Any = None,
        *,
        value: Any = None,
        value_fn: Any = None,
        **_: Any,
    ) -> tuple[Any, GaussNewtonState]:
        if not isinstance(value_fn, Objective):
            raise TypeError(
                "gauss_newton needs the objective of a solver: pass it as primal= of "
                "jaxcon.alternating or jaxcon.simultaneous"
            )
        gradient, unravel = ravel_pytree(updates)
        terms = rows(params, value_fn)
        count = sum(len(term.slope) for term in terms)
        by_rows = count < gradient.size
        trace, solved = (_of_rows if by_rows else _of_parameters)(terms, gradient)
        # Without a curvature there is no model, and a unit is as good as any.
        unit = trace / gradient.size
        unit = jnp.where(unit > 0, unit, 1.0)
        # Less damping than eps would be lost in the diagonal's roundings.
        eps = jnp.finfo(gradient.dtype).eps
        rounding = _ROUNDINGS * eps * jnp.abs(value)

        def attempt(carry: Any) -> Any:
            tries, mu, growth, _, _ = carry
            move = -solved(mu * unit)
            foretold = (mu * unit * jnp.sum(move**2) - jnp.sum(gradient * move)) / 2
            moved = value_fn(optax.apply_updates(params, unravel(move)))
            # Where its roundings hide the gain, the objective says nothing of the model.
            hidden = foretold <= rounding
            fell = moved <= jnp.where(hidden, value + rounding, value)  # False of NaN
            share = (value - moved) / foretold
            shrunk = mu * jnp.maximum(1 / 3, 1 - (2 * share - 1) ** 3)
            kept = jnp.where(hidden, mu, jnp.maximum(shrunk, eps))
            mu = jnp.where(fell, kept, growth * mu).astype(state.damping.dtype)
            return tries + 1, mu, 2 * growth, jnp.where(fell, move, 0.0), fell

        def go_on(carry: Any) -> jax.Array:
            tries, _, _, _, fell = carry
            return ~fell & (tries < _TRIES)

        start = (
            jnp.zeros((), jnp.int32),
            state.damping,
            jnp.full_like(state.damping, 2.0),
            jnp.zeros_like(gradient),
            jnp.zeros((), bool),
        )
        _, mu, _, move, fell = jax.lax.while_loop(go_on, attempt, start)
        # Where no damping helps, the last one says nothing of the next step's problem.
        mu = jnp.where(fell, mu, state.damping)
        return unravel(move), GaussNewtonState(mu)

    return optax.GradientTransformationExtraArgs(init, update)  # pyright: ignore[reportArgumentType]


class _Rows(NamedTuple):
    """Residuals of one term, as the model has them.

    Attributes:
        jacobian: J, (n, p).
        weight: second derivative of the objective by each residual, (n,).
        slope: first derivative, (n,).
    """

    jacobian: jax.Array
    weight: jax.Array
    slope: jax.Array


# Damping -> (H + damping I)^-1 g, (p,).
_Solved = Callable[[jax.Array], jax.Array]


def _product(x: jax.Array, y: jax.Array) -> jax.Array:
    return jnp.matmul(x, y, precision="highest")


def _of_parameters(
    terms: list[_Rows], gradient: jax.Array
) -> tuple[jax.Array, _Solved]:
    """Returns the trace of H, and solutions of systems with it, (p, p)."""
    parts = [_product(j.T, weight[:, None] * j) for j, weight, _ in terms]
    matrix = sum(parts[1:], parts[0])
    identity = jnp.eye(len(matrix), dtype=matrix.dtype)

    def solved(damping: jax.Array) -> jax.Array:
        factor = jax.scipy.linalg.cho_factor(matrix + damping * identity)
        return jax.scipy.linalg.cho_solve(factor, gradient)

    return jnp.trace(matrix), solved


def _of_rows(terms: list[_Rows], gradient: jax.Array) -> tuple[jax.Array, _Solved]:
    r"""Returns the trace of H, and solutions by a system of the residuals' size.

    With g = A^T s + r, where r is what residuals of no weight and other transforms add,

    .. math::
        (A^T A + \nu I)^{-1} g = A^T K^{-1} s + (r - A^T K^{-1} A r) / \nu, \quad
        K = A A^T + \nu I
    """
    # A barrier may be concave somewhere, of which Gauss-Newton knows nothing.
    roots = [jnp.sqrt(jnp.maximum(weight, 0.0)) for _, weight, _ in terms]

    def back(v: jax.Array) -> jax.Array:
        """Evaluates A^T v."""
        ends = np.cumsum([len(root) for root in roots])[:-1]
        parts = [
            _product(root * part, term.jacobian)
            for term, root, part in zip(terms, roots, jnp.split(v, ends))
        ]
        return sum(parts[1:], parts[0])

    blocks = [
        [
            root[:, None] * _product(term.jacobian, other.jacobian.T) * beside[None]
            for other, beside in zip(terms, roots)
        ]
        for term, root in zip(terms, roots)
    ]
    gram = jnp.block(blocks)
    s = jnp.concatenate(
        [
            jnp.where(root > 0, term.slope / jnp.where(root > 0, root, 1.0), 0.0)
            for term, root in zip(terms, roots)
        ]
    )
    rest = gradient - back(s)
    # What rounding leaves would be magnified by a small damping.
    eps = jnp.finfo(gradient.dtype).eps
    size = jnp.linalg.norm(gradient)
    none = jnp.linalg.norm(rest) <= 100 * len(s) * eps * size
    rest = jnp.where(none, 0.0, rest)
    identity = jnp.eye(len(gram), dtype=gram.dtype)

    def forth(v: jax.Array) -> jax.Array:
        """Evaluates A v."""
        return jnp.concatenate(
            [root * _product(term.jacobian, v) for term, root in zip(terms, roots)]
        )

    def solved(damping: jax.Array) -> jax.Array:
        factor = jax.scipy.linalg.cho_factor(gram + damping * identity)

        def of(s: jax.Array, rest: jax.Array) -> jax.Array:
            inner = s - forth(rest) / damping
            return back(jax.scipy.linalg.cho_solve(factor, inner)) + rest / damping

        move = of(s, rest)
        # Of a part of r in the space of the rows little is left: once more for the error.
        error = gradient - back(forth(move)) - damping * move
        more = of(jnp.zeros_like(s), error)
        return move + jnp.where(none, 0.0, more)

    return jnp.trace(gram), solved


def _jacobian(
    name: str,
    residual: Residual,
    keys: str | tuple[str, ...] | None,
    params: Any,
    batch: Any,
) -> jax.Array:
    """Evaluates the Jacobian of a residual with respect to the parameters, (n, p)."""
    theta, unravel = ravel_pytree(params)
    shape = jax.eval_shape(residual, params, batch).shape
    if len(shape) > 1:
        raise ValueError(f"residual {name!r} has shape {shape}, not () or (n,)")
    if keys is None:
        return jax.jacrev(lambda t: jnp.atleast_1d(residual(unravel(t), batch)))(theta)
    keys = (keys,) if isinstance(keys, str) else tuple(keys)
    if not isinstance(batch, Mapping) or not set(keys) <= batch.keys():
        known = sorted(batch) if isinstance(batch, Mapping) else type(batch).__name__
        raise ValueError(
            f"residual {name!r} runs over the rows of {', '.join(map(repr, keys))} in the "
            f"batch, which has {known}"
        )

    def entry(theta: jax.Array, rows: dict[str, Any]) -> jax.Array:
        one = jax.tree.map(lambda array: array[None], rows)
        found = residual(unravel(theta), {**batch, **one})
        if found.shape != (1,):
            raise ValueError(
                f"residual {name!r} has shape {found.shape} for one row of "
                f"{', '.join(map(repr, keys))}, not (1,): name in on= the entries it runs "
                "over, or leave it out"
            )
        return found[0]

    rows = {key: batch[key] for key in keys}
    jacobian = jax.vmap(jax.grad(entry), (None, 0))(theta, rows)
    if shape != jacobian.shape[:1]:
        raise ValueError(
            f"residual {name!r} has shape {shape}, but the batch has {len(jacobian)} rows "
            f"under {', '.join(map(repr, keys))}"
        )
    return jacobian


def _listed(constraints: Constraints) -> list[str]:
    """Lists the names of the constraints."""
    return [name for _, name, _ in named(constraints)]
