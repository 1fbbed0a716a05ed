r"""Judges: how far a point is from optimal, and what its multipliers are.

A local minimiser of :math:`f` s.t. :math:`h = 0, g \le 0` (under a constraint
qualification) has multipliers with

.. math::
    \nabla f + \sum \mu \nabla h + \sum \lambda \nabla g = 0, \quad
    h = 0, \quad g \le 0, \quad \lambda \ge 0, \quad \lambda g = 0.

`kkt` measures these at given multipliers and runs inside jit.
`least_squares_multipliers` and `conflict` find the multipliers at a point, on the host.
They read the Jacobian J of the m active residuals through products with J and its
transpose: it is never formed, and what is kept grows with :math:`m^2`, not with m times
the number of parameters. For a constraint made by `jaxcon.proxy` every gradient here is
the surrogate's.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from jaxcon.constraints import (
    Constraints,
    check_constraints,
    evaluate,
    max_violation,
    named,
    violation,
    worst,
)
from jaxcon.lagrangians import check_match, lagrangian

# Of the proximal iteration: each costs two passes, beside the two per active residual.
_MOST_ROUNDS = 30


class KKT(NamedTuple):
    """The Karush-Kuhn-Tucker residuals; all zero at a KKT point.

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
        return jnp.max(jnp.array(jax.tree.leaves(self)))


def kkt(
    loss: Callable[[Any, Any], Any],
    constraints: Constraints,
    params: Any,
    multipliers: Constraints,
    batch: Any = None,
) -> KKT:
    r"""The KKT residuals of one point, each as the largest absolute entry.

    .. math::
        \|\nabla_\theta (f + \mu h + \lambda g)\|_\infty, \quad \|h\|_\infty, \quad
        \|\max(g, 0)\|_\infty, \quad \|\max(-\lambda, 0)\|_\infty, \quad
        \|\lambda g\|_\infty

    Args:
        loss: (params, batch) -> () or ((), aux).
        constraints: functions (params, batch) -> residual.
        params: theta, any pytree of floating-point arrays.
        multipliers: mu and lambda, shaped like the residuals. After an augmented
            Lagrangian or a penalty run, pass `multiplier_estimates`.
        batch: what both read; may be None.

    Returns:
        Stationarity, (), and four dicts of numbers by the constraints' names. One
        backward pass: no Jacobian is formed.

    Raises:
        ValueError: names or shapes of residuals and multipliers differ.

    References:
        Nocedal and Wright, Numerical Optimization (2006), eqs. 12.34, written there for
        constraints >= 0.

    Example:
        >>> import jaxcon as jc
        >>> f = lambda p, _: jnp.sum(p**2)                    # min x² + y²
        >>> sums = jc.Constraints(equality={"sum": lambda p, _: jnp.sum(p) - 1.0})
        >>> mu = jc.Constraints(equality={"sum": jnp.array(-1.0)})
        >>> print(jc.kkt(f, sums, jnp.array([0.5, 0.5]), mu).worst)
        0.0
    """

    def objective(params: Any) -> tuple[jax.Array, Constraints]:
        residuals = evaluate(constraints, params, batch)
        return lagrangian(
            _value(loss, params, batch), residuals, multipliers
        ), residuals

    gradient, residuals = jax.grad(objective, has_aux=True)(params)
    violated = worst(violation(residuals))
    lam, g = multipliers.inequality, residuals.inequality
    return KKT(
        stationarity=_largest(gradient),
        equality=violated.equality,
        inequality=violated.inequality,
        dual={name: jnp.max(-lam[name], initial=0) for name in lam},
        slackness={name: _largest(lam[name] * g[name]) for name in lam},
    )


def active(residuals: Constraints, tolerance: float) -> Constraints:
    r"""Where a constraint may have a multiplier: h everywhere, g where it is at its bound.

    .. math::
        g \ge -\epsilon

    A violated inequality counts: its multiplier still pushes.

    Args:
        residuals: h and g, each () or (n,).
        tolerance: epsilon, in the units the constraints were written in.

    Returns:
        Booleans in the shapes of `residuals`; False where g is NaN.

    Example:
        >>> import jaxcon as jc
        >>> from jaxcon.optimality import active
        >>> g = jc.Constraints(inequality={"cap": jnp.array([-1.0, 0.0, 1.0])})
        >>> print(active(g, 1e-4).inequality["cap"])
        [False  True  True]
    """
    return Constraints(
        jax.tree.map(lambda h: jnp.ones(h.shape, bool), residuals.equality),
        jax.tree.map(lambda g: g >= -tolerance, residuals.inequality),
    )


class LeastSquares(NamedTuple):
    """The multipliers that fit a point best, and whether they are the only ones.

    Attributes:
        multipliers: mu and lambda >= 0, shaped like the residuals, 0 off the active set.
        stationarity: Euclidean norm of the Lagrangian's gradient at them, shape ().
        active: booleans, shaped like the residuals.
        num_active: how many residuals are active.
        rank: how many of their gradients are linearly independent.
    """

    multipliers: Constraints
    stationarity: jax.Array
    active: Constraints
    num_active: int
    rank: int

    @property
    def unique(self) -> bool:
        """Whether the active gradients are independent (LICQ), so no others fit."""
        return self.rank == self.num_active


def least_squares_multipliers(
    loss: Callable[[Any, Any], Any],
    constraints: Constraints,
    params: Any,
    batch: Any = None,
    *,
    tolerance: float = 1e-4,
) -> LeastSquares:
    r"""The multipliers with which the Lagrangian's gradient is shortest.

    .. math::
        \min_{\mu,\; \lambda \ge 0} \; \|\nabla f + J^T (\mu, \lambda)\|_2

    over the active residuals; multipliers of the others are zero. They depend on the
    point alone, not on how it was reached, so they also judge a run that had none. Where
    several fit equally well, these are the shortest, each measured by its pull
    :math:`|\lambda| \|\nabla g\|`, so that the units a constraint is written in do not
    matter.

    J times its transpose is computed column by column, two passes each, and the multipliers
    by proximal steps whose residual is one more pass: they are as exact as the gradient,
    not as its square. The rank is read from that matrix after every gradient is scaled to
    length one. It squares the singular values: those below
    :math:`\sqrt{(m + 10) \epsilon}` count as zero, with :math:`\epsilon` the machine
    epsilon of the coarsest dtype (m = 10: 1.5e-3 in float32, 6.7e-8 in float64).

    Args:
        loss: (params, batch) -> () or ((), aux).
        constraints: functions (params, batch) -> residual.
        params: theta, any pytree of floating-point arrays.
        batch: what both read; may be None.
        tolerance: an inequality is active where g >= -tolerance.

    Returns:
        A `LeastSquares`. Computed on the host: not for use inside jit. Two passes for every
        active residual, and up to thirty small nonnegative least-squares problems of
        their number: seconds for hundreds, minutes for thousands.

    Raises:
        TypeError: `constraints` is no `Constraints` of functions.
        ValueError: a residual or a gradient is not finite.

    References:
        Nocedal and Wright, Numerical Optimization (2006), chapter 18, for equalities and
        with the other sign; Parikh and Boyd, Proximal Algorithms (2014), section 4.1.

    Example:
        >>> import jaxcon as jc
        >>> from jaxcon.optimality import least_squares_multipliers
        >>> f = lambda p, _: jnp.sum((p - 2.0) ** 2)           # min (x - 2)² + (y - 2)²
        >>> caps = {"caps": lambda p, _: p - jnp.array([1.0, 3.0])}
        >>> at = jnp.array([1.0, 2.0])
        >>> found = least_squares_multipliers(f, jc.Constraints(inequality=caps), at)
        >>> print(found.multipliers.inequality["caps"], found.unique)
        [2. 0.] True
    """
    held = _active_set(constraints, params, batch, tolerance)
    slopes = jax.jit(partial(_slopes, loss, constraints))
    y, prox = np.zeros(len(held.rows)), np.sqrt(held.noise)
    multipliers = held.spread(y)
    slope, norm = slopes(multipliers, params, batch)
    if not jnp.isfinite(norm):
        raise ValueError("the gradient of the loss is not finite at these params")
    for _ in range(_MOST_ROUNDS if len(y) else 0):
        scaled_slope = np.asarray(slope, float)[held.rows] / held.lengths
        curvature = held.gram + prox * np.eye(len(y))
        before, y = y, _descend(y, scaled_slope, curvature, held.free)
        multipliers = held.spread(y / held.lengths)
        slope, norm = slopes(multipliers, params, batch)
        if np.max(np.abs(y - before)) <= held.epsilon * np.max(np.abs(y)):
            break
        # The first round settles, by a strong prox, what the gradients leave open; in the
        # later ones the slope is nearly zero, and weaker directions can be resolved.
        prox = max(prox / 10, held.noise)
    return LeastSquares(
        multipliers=multipliers,
        stationarity=norm,
        active=held.active,
        num_active=len(y),
        rank=held.rank,
    )


def sensitivity(multipliers: Constraints) -> dict[str, jax.Array]:
    r"""What room is worth: the optimal loss's slope in each constraint's right-hand side.

    .. math::
        \frac{\partial f^*}{\partial \epsilon} = -\sum \lambda
        \quad \text{for} \quad g \le \epsilon, \qquad
        -\sum \mu \quad \text{for} \quad h = \epsilon

    with the bound of all of a constraint's points moved together. It holds where the
    multipliers are unique and strict complementarity and second-order sufficiency hold.

    Args:
        multipliers: mu and lambda at a solution, each () or (n,).

    Returns:
        One slope per constraint, each ().

    Raises:
        TypeError: they are a table's or a network's, not those of a batch.

    References:
        Boyd and Vandenberghe, Convex Optimization (2004), section 5.6.3.

    Example:
        >>> import jaxcon as jc
        >>> from jaxcon.optimality import sensitivity
        >>> lam = jc.Constraints(inequality={"cap": jnp.array([2.0, 1.0])})
        >>> print(sensitivity(lam)["cap"])                     # a looser cap, a lower loss
        -3.0
    """
    check_match(multipliers, multipliers)
    return {name: -jnp.sum(m) for _, name, m in named(multipliers)}


class Conflict(NamedTuple):
    """Which constraints keep a point from becoming feasible.

    Attributes:
        weights: each residual's share in the balance of unit gradients, shaped like the
            residuals; of either sign for h, >= 0 for g. Their sizes sum to one, or all
            are zero if nothing is violated.
        stationarity: length of the so weighted sum of unit gradients, from 0 (they
            cancel) to 1, shape ().
        step: length of the shortest change of the parameters that would mend every
            violation to first order, shape (); infinite where no change does.
        violation: the largest one, shape ().
    """

    weights: Constraints
    stationarity: jax.Array
    step: jax.Array
    violation: jax.Array

    @property
    def names(self) -> tuple[str, ...]:
        """The constraints that take part: those with more than a thousandth of it."""
        shares = {name: np.sum(np.abs(w)) for _, name, w in named(self.weights)}
        return tuple(name for name, share in shares.items() if share > 1e-3)


def conflict(
    constraints: Constraints,
    params: Any,
    batch: Any = None,
    *,
    tolerance: float = 1e-4,
) -> Conflict:
    r"""Whether violated constraints pull against each other, and which.

    Weights that prove it: with :math:`u` the active constraints' gradients scaled to
    length one and :math:`r` their residuals, scaled alike, they minimise

    .. math::
        \frac{\| \sum w u \|_2}{\sum w r}, \qquad \sum |w| = 1

    with :math:`w \ge 0` for inequalities. By Farkas' lemma the smallest value is one over
    the length of the shortest step after which every linearised constraint holds: zero if
    there is none, and then the point is stationary for the infeasibility. In practice a
    `step` much longer than the parameters says that the point is infeasible nearby.

    Args:
        constraints: functions (params, batch) -> residual.
        params: theta, any pytree of floating-point arrays.
        batch: what they read; may be None.
        tolerance: a violation up to it is none; an inequality is active where
            g >= -tolerance.

    Returns:
        A `Conflict`. Computed on the host: not for use inside jit. Two passes for every
        active residual.

    Raises:
        TypeError: `constraints` is no `Constraints` of functions.
        ValueError: a residual or a gradient is not finite.

    References:
        Boyd and Vandenberghe, Convex Optimization (2004), section 5.8 (theorems of
        alternatives).

    Example:
        >>> import jaxcon as jc
        >>> from jaxcon.optimality import conflict
        >>> rules = {"x <= -1": lambda x, _: x + 1.0, "x >= 1": lambda x, _: 1.0 - x}
        >>> found = conflict(jc.Constraints(inequality=rules), jnp.array(0.3))
        >>> print(found.names, round(float(found.weights.inequality["x >= 1"]), 4))
        ('x <= -1', 'x >= 1') 0.5
    """
    held = _active_set(constraints, params, batch, tolerance)
    largest = max_violation(held.residuals)
    if not largest > tolerance:
        none = held.spread(np.zeros(len(held.rows)))
        return Conflict(none, jnp.ones(()), jnp.zeros(()), largest)
    distances = held.values / held.lengths
    scaled = distances / np.max(np.abs(distances))
    nothing = np.zeros(len(scaled))
    # To minimise |sum w u|² + (w . scaled - 1)² over the cone finds the least ratio: for
    # weights of a given direction, the best length leaves a function of the ratio alone.
    curvature = held.gram + held.noise * np.eye(len(scaled)) + np.outer(scaled, scaled)
    weights = _descend(nothing, -scaled, curvature, held.free)
    weights /= np.sum(np.abs(weights))
    _, norm = jax.jit(partial(_slopes, lambda *_: 0.0, constraints))(
        held.spread(weights / held.lengths), params, batch
    )
    with np.errstate(divide="ignore"):
        step = np.divide(weights @ distances, norm)
    return Conflict(held.spread(weights), norm, jnp.asarray(step, norm.dtype), largest)


class _ActiveSet(NamedTuple):
    """The active residuals of one point, their m gradients scaled to length one.

    Attributes:
        residuals: all of them, h and g.
        active: booleans, shaped like the residuals.
        rows: which entries of the raveled residuals are active, (m,).
        values: their residuals, (m,).
        free: which of them are equalities, (m,).
        lengths: norms of their gradients, 1 where a gradient is zero, (m,).
        gram: inner products of the scaled gradients, (m, m).
        eigenvalues: of `gram`, (m,).
        epsilon: machine epsilon of the coarsest dtype in play.
    """

    residuals: Constraints
    active: Constraints
    rows: np.ndarray
    values: np.ndarray
    free: np.ndarray
    lengths: np.ndarray
    gram: np.ndarray
    eigenvalues: np.ndarray
    epsilon: float

    @property
    def noise(self) -> float:
        """The eigenvalue of `gram` up to which rounding may have caused it."""
        # Without rounding none is negative: one that is shows how large it really was.
        expected = (len(self.rows) + 10) * self.epsilon
        return max(expected, -2 * np.min(self.eigenvalues, initial=0))

    @property
    def rank(self) -> int:
        """How many gradients are linearly independent."""
        return int(np.sum(self.eigenvalues > self.noise))

    def spread(self, entries: np.ndarray) -> Constraints:
        """Numbers (m,) at the active residuals, zero elsewhere, shaped like them all."""
        return _spread(self.residuals, self.rows, entries)


def _active_set(
    constraints: Constraints, params: Any, batch: Any, tolerance: float
) -> _ActiveSet:
    check_constraints(constraints)
    residuals = jax.jit(partial(evaluate, constraints))(params, batch)
    for kind, name, residual in named(residuals):
        if not jnp.isfinite(residual).all():
            raise ValueError(
                f"{kind} constraint {name!r} is not finite at these params"
            )
    which = active(residuals, tolerance)
    rows = np.flatnonzero(ravel_pytree(which)[0])
    gram = np.zeros((0, 0))
    if len(rows):
        products = jax.jit(partial(_gram, constraints))(rows, params, batch)
        gram = np.asarray(products, float)
    squares = np.diag(gram)
    broken = _spread(residuals, rows, ~np.isfinite(squares))
    names = [repr(name) for _, name, points in named(broken) if jnp.any(points)]
    if names:
        # Zero times infinity: one without a gradient may spoil those it shares a pass with.
        raise ValueError(
            f"not every gradient of {', '.join(names)} is finite at these params"
        )
    lengths = np.where(squares > 0, np.sqrt(squares), 1.0)
    gram = (gram + gram.T) / 2 / np.outer(lengths, lengths)
    flat, _ = ravel_pytree(residuals)
    equality, _ = ravel_pytree(active(residuals, -np.inf))  # no g is infinite
    dtypes = [jnp.result_type(leaf) for leaf in (*jax.tree.leaves(params), flat)]
    return _ActiveSet(
        residuals=residuals,
        active=which,
        rows=rows,
        values=np.asarray(flat, float)[rows],
        free=np.asarray(equality, bool)[rows],
        lengths=lengths,
        gram=gram,
        eigenvalues=np.linalg.eigvalsh(gram) if len(rows) else lengths,
        epsilon=max(float(jnp.finfo(dtype).eps) for dtype in dtypes),
    )


def _spread(
    residuals: Constraints, rows: np.ndarray, entries: np.ndarray
) -> Constraints:
    """Numbers at some entries of the raveled residuals, zero elsewhere."""
    flat, unravel = ravel_pytree(residuals)
    everywhere = np.zeros(flat.shape)
    everywhere[rows] = entries
    return unravel(jnp.asarray(everywhere, flat.dtype))


def _gram(
    constraints: Constraints, rows: jax.Array, params: Any, batch: Any
) -> jax.Array:
    """Inner products of the rows' gradients, (m, m), holding one gradient at a time."""
    with jax.default_matmul_precision("highest"):  # TF32 would pass for dependence
        flat, pull, push = _products(constraints, params, batch)

        def column(row: jax.Array) -> jax.Array:
            return push(pull(jnp.zeros_like(flat).at[row].set(1)))[rows]

        return jax.lax.map(column, rows)


def _slopes(
    loss: Callable[[Any, Any], Any],
    constraints: Constraints,
    multipliers: Constraints,
    params: Any,
    batch: Any,
) -> tuple[jax.Array, jax.Array]:
    """J times the Lagrangian's gradient, raveled, and that gradient's norm."""
    with jax.default_matmul_precision("highest"):
        _, pull, push = _products(constraints, params, batch)
        of_loss = jax.grad(lambda params: _value(loss, params, batch))(params)
        pulled = pull(ravel_pytree(multipliers)[0])
        gradient = jax.tree.map(jnp.add, of_loss, pulled)
        return push(gradient), _norm(gradient)


def _products(
    constraints: Constraints, params: Any, batch: Any
) -> tuple[jax.Array, Callable[[jax.Array], Any], Callable[[Any], jax.Array]]:
    """The raveled residuals, and the products with the transpose of J and with J."""
    flat, pull = jax.vjp(
        lambda params: ravel_pytree(evaluate(constraints, params, batch))[0], params
    )
    # Backwards twice rather than jax.jvp, which a jax.custom_vjp does not have.
    _, back = jax.vjp(lambda weights: pull(weights)[0], jnp.zeros_like(flat))

    def push(gradient: Any) -> jax.Array:
        # A complex gradient is the conjugate of the direction it stands for.
        return back(jax.tree.map(jnp.conj, gradient))[0]

    return flat, lambda weights: pull(weights)[0], push


def _descend(
    start: np.ndarray, slope: np.ndarray, curvature: np.ndarray, free: np.ndarray
) -> np.ndarray:
    r"""From a start, the least u, >= 0 where not free, of a model with K > 0.

    .. math::
        c^T (u - u_0) + \tfrac12 (u - u_0)^T K (u - u_0)
    """
    from scipy.linalg import solve_triangular
    from scipy.optimize import nnls

    # With K = RᵀR and the free entries first, they solve their rows exactly whatever the
    # others are, and what is left is a nonnegative least-squares problem.
    order, k = np.argsort(~free, stable=True), int(np.sum(free))
    upper = np.linalg.cholesky(curvature[np.ix_(order, order)]).T
    target = upper @ start[order] - solve_triangular(upper.T, slope[order], lower=True)
    bounded = np.zeros(len(free) - k)
    if len(bounded):
        bounded, _ = nnls(upper[k:, k:], target[k:])
    rest = target[:k] - upper[:k, k:] @ bounded
    found = np.zeros(len(free))
    found[order] = [*(solve_triangular(upper[:k, :k], rest) if k else rest), *bounded]
    return found


def _value(loss: Callable[[Any, Any], Any], params: Any, batch: Any) -> jax.Array:
    value = loss(params, batch)
    return value[0] if isinstance(value, tuple) else value


def _norm(tree: Any) -> jax.Array:
    # Half precision would overflow at squares and lose their sum.
    sizes = [jnp.abs(leaf) for leaf in jax.tree.leaves(tree)]
    wide = [size.astype(jnp.promote_types(size.dtype, jnp.float32)) for size in sizes]
    squares = [jnp.sum(jnp.square(size)) for size in wide]
    return jnp.sqrt(sum(squares, start=jnp.zeros(())))


def _largest(tree: Any) -> jax.Array:
    sizes = [jnp.max(jnp.abs(leaf), initial=0) for leaf in jax.tree.leaves(tree)]
    return jnp.max(jnp.stack(sizes)) if sizes else jnp.zeros(())
