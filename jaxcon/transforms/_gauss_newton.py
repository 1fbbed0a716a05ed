"""Levenberg-Marquardt steps on an augmented Lagrangian of least squares."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

from jaxcon._checks import check_number
from jaxcon.constraints import Constraints, named
from jaxcon.lagrangians import Lagrangian
from jaxcon.transforms._curvature import (
    Curvature,
    Rows,
    of_parameters,
    of_products,
    of_rows,
)
from jaxcon.transforms._jacobians import Term, jacobian, term
from jaxcon.transforms._mean_squares import MeanSquares, WeightedSquares
from jaxcon.transforms._objective import Objective

# Tries of one update; the last is damped 2^66 times as much as the first.
_TRIES = 12
# Roundings in an objective's value: it tells no smaller share of itself.
_ROUNDINGS = 8
# Entries of a Jacobian, and size of a system, up to which they are formed.
_ENTRIES, _SIZE = 2**28, 8192


class GaussNewtonState(NamedTuple):
    """State of `gauss_newton`.

    Attributes:
        damping: mu, in units of the curvature's mean diagonal, ().
        move: the last one, (p,); () without momentum.
        stalled: updates since one whose objective fell by some damping, int32 ().
    """

    damping: jax.Array
    move: Any
    stalled: jax.Array


def gauss_newton(
    problem: Lagrangian,
    *,
    on: Mapping[str, str | tuple[str, ...]] = MappingProxyType({}),
    damping: Any = 1e-3,
    momentum: float = 0.0,
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

    With momentum m the first try of a step is

    .. math:: \delta = m \delta_{-} - (H + \mu \bar H I)^{-1} (g + m H \delta_{-})

    which keeps what the last move :math:`\delta_{-}` had in directions that no residual
    sees now. It helps where batches change.

    It goes as `primal` of `simultaneous` or `alternating` with the same `problem`, on
    batches that stay the same for a few steps at least. With n residuals and p parameters
    a step costs n p min(n, p) operations, each try min(n, p)³, and memory for n p numbers:
    where n < p the same move is computed in the space of the residuals. Where those are
    too many, above 2^28 numbers or systems of 8,192, conjugate gradients see H through
    products alone, preconditioned by a random sketch of rank 64. Use float64. For
    differential equations the moves are known as energy natural gradient (ENGD).
    Let some steps pass between two moves of the multipliers, and many where all residuals
    can be zero: there the true multipliers are zero, and what moves early is unlearned.

    Where a residual (n,) runs over rows of the batch, entry i of it reading row i and
    no other, nor their number or a mean, its Jacobian costs as much as one gradient. Such
    residuals are found in the program. Others are differentiated whole, which costs one
    gradient for each entry; where there are many, a warning names them.

    Args:
        problem: a `Lagrangian` whose loss is a `MeanSquares` or a `MeanConvex`.
        on: by name of a loss's or constraint's residual, the key (or keys) of the batch, a
            dict, over whose rows it runs, where that is not found.
        damping: mu at the first step, > 0.
        momentum: m, in [0, 1).

    Returns:
        An optax transform for the parameters.

    Raises:
        TypeError: `problem` is no `Lagrangian` of a `MeanSquares`; at the first step,
            that no solver runs it.
        ValueError: a name is unknown or used twice, or a number out of its range; at the
            first step, that the solver has another problem, the batch no such entry, or a
            residual another shape than its rows have.

    References:
        Nielsen, Damping Parameter in Marquardt's Method (1999), eqs. 2.4 to 2.6, with
        other units of the damping; Müller and Zeinhofer, Achieving High Accuracy with
        PINNs via Energy Natural Gradients (2023); Chen and Heyl, Empowering deep neural
        quantum states through efficient optimization (2024), for the space of residuals;
        Goldshlager, Abrahamsen and Lin, A Kaczmarz-inspired approach to accelerate the
        optimization of neural network wavefunctions (2024), for the momentum (SPRING).

    Example:
        A line through two points that also meets (2, 0):

        >>> import jax, jax.numpy as jnp, jaxcon as jc
        >>> def misfit(p, batch):
        ...     return p[0] + p[1] * batch["x"] - batch["y"]
        >>> loss = jc.MeanSquares({"misfit": misfit})
        >>> meets = jc.Constraints({"meets": lambda p, _: p[0] + 2.0 * p[1]})
        >>> problem = jc.Lagrangian(loss, meets, penalty=1.0)
        >>> primal = jc.gauss_newton(problem)
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
    check_number("momentum", momentum, least=0, below=1)
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

    def init(params: Any) -> GaussNewtonState:
        theta = ravel_pytree(params)[0]
        return GaussNewtonState(
            jnp.asarray(damping, theta.dtype),
            jnp.zeros_like(theta) if momentum else (),
            jnp.zeros((), jnp.int32),
        )

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
        given, fixed = value_fn.problem, {}
        if isinstance(given.loss, WeightedSquares):
            given, fixed = given.loss.problem, given.loss.weights
        if given is not problem:
            raise ValueError(
                "gauss_newton and its solver have different problems: pass the same "
                "Lagrangian to both"
            )
        gradient, unravel = ravel_pytree(updates)
        trace, product, solved = _curvature(
            problem, fixed, on, params, value_fn, gradient
        )
        # Without a curvature there is no model, and a unit is as good as any.
        unit = trace / gradient.size
        unit = jnp.where(unit > 0, unit, 1.0)
        # Less damping than eps would be lost in the diagonal's roundings.
        eps = jnp.finfo(gradient.dtype).eps
        rounding = _ROUNDINGS * eps * jnp.abs(value)

        def proposed(tries: Any, damping: jax.Array) -> tuple[jax.Array, jax.Array]:
            """Returns a move, and the fall that the model foretells."""
            if not momentum:
                move = -solved(damping, None)
                along = jnp.sum(gradient * move)
                return move, (damping * jnp.sum(move**2) - along) / 2
            # A push that does not help is let go.
            push = jnp.where(tries == 0, momentum, 0.0) * state.move
            move = push - solved(damping, push)
            return move, -jnp.sum((gradient + product(move) / 2) * move)

        def attempt(carry: Any) -> Any:
            tries, mu, growth, _, _ = carry
            move, foretold = proposed(tries, mu * unit)
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
        return unravel(move), GaussNewtonState(
            jnp.where(fell, mu, state.damping),
            move if momentum else (),
            jnp.where(fell, 0, state.stalled + 1).astype(jnp.int32),
        )

    return optax.GradientTransformationExtraArgs(init, update)  # pyright: ignore[reportArgumentType]


def _curvature(
    problem: Lagrangian,
    fixed: Mapping[str, jax.Array],
    on: Mapping[str, str | tuple[str, ...]],
    params: Any,
    objective: Objective,
    gradient: jax.Array,
) -> Curvature:
    """Returns the model of an objective, in the form that its sizes ask for."""
    loss: Any = problem.loss
    batch = objective.batch
    terms, weights, slopes = [], [], []

    def add(name: str, residual: Any, slope: jax.Array, weight: jax.Array) -> None:
        terms.append(term(name, residual, on.get(name), params, batch))
        # Data may be more exact than the parameters.
        slopes.append(jnp.atleast_1d(slope).astype(gradient.dtype))
        weights.append(jnp.atleast_1d(weight).astype(gradient.dtype))

    for name, residual in loss.residuals.items():
        here = residual(params, batch)
        add(name, residual, *loss.slopes(name, here, batch, fixed.get(name)))
    firsts, seconds = objective.slopes(), objective.curvature()
    for kind, name, residual in named(problem.constraints):
        first, second = (getattr(part, kind)[name] for part in (firsts, seconds))
        add(name, residual, first, second)
    count, size = sum(map(len, slopes)), gradient.size
    if min(count, size) > _SIZE or count * size > _ENTRIES:
        return of_products(_product(terms, weights, params, batch), gradient)
    rows = [
        Rows(
            [leaf.astype(gradient.dtype) for leaf in jacobian(one, params, batch)],
            weight,
            slope,
        )
        for one, weight, slope in zip(terms, weights, slopes)
    ]
    return (of_rows if count < size else of_parameters)(rows, gradient)


def _product(
    terms: list[Term], weights: list[jax.Array], params: Any, batch: Any
) -> Any:
    """Returns the product of the Gauss-Newton matrix with a vector."""
    theta, unravel = ravel_pytree(params)

    def residuals(theta: jax.Array) -> jax.Array:
        params = unravel(theta)
        each = [jnp.atleast_1d(term.residual(params, batch)) for term in terms]
        return jnp.concatenate(each).astype(theta.dtype)

    _, forward = jax.linearize(residuals, theta)
    back = jax.linear_transpose(forward, theta)
    weight = jnp.maximum(jnp.concatenate(weights), 0.0)
    return lambda v: back(weight * forward(v))[0]


def _listed(constraints: Constraints) -> list[str]:
    """Lists the names of the constraints."""
    return [name for _, name, _ in named(constraints)]
