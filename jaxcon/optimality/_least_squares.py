"""Least-squares multipliers of a point, and what they say of its constraints."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxcon.constraints import Constraints, named
from jaxcon.lagrangians import Lagrangian, check_match, split
from jaxcon.optimality._active_set import ActiveSet, active_set
from jaxcon.optimality._bounded import MOST_ROUNDS, least, least_of_products
from jaxcon.optimality._point import check_on_host


class LeastSquares(NamedTuple):
    """Multipliers that fit a point best, and how far they are determined.

    Attributes:
        multipliers: mu and lambda >= 0, shaped like the residuals, 0 off the active set.
        stationarity: Euclidean norm of the Lagrangian's gradient at them, shape ().
        active: booleans, shaped like the residuals.
        num_active: the number of active residuals.
        rank: the number of linearly independent gradients among them; None where it is
            not computed, for more than 2,896 active residuals and 1,024 parameters.
    """

    multipliers: Constraints
    stationarity: jax.Array
    active: Constraints
    num_active: int
    rank: int | None

    @property
    def unique(self) -> bool:
        """True where the active gradients are known to be independent (LICQ).

        No other multipliers fit then.
        """
        return self.rank == self.num_active


def least_squares_multipliers(
    problem: Lagrangian,
    params: Any,
    batch: Any = None,
    *,
    extra: Any = None,
    tolerance: float = 1e-4,
) -> LeastSquares:
    r"""Finds the multipliers with which the Lagrangian's gradient is shortest.

    .. math::
        \min_{\mu,\; \lambda \ge 0} \; \|\nabla f + J^T (\mu, \lambda)\|_2

    over the active residuals; multipliers of the others are zero. They depend on the
    point alone, not on how it was reached, so they also judge a run that had none. Where
    several fit equally well, these are the shortest, each measured by its pull
    :math:`|\lambda| \|\nabla g\|`, so that the units a constraint is written in do not
    matter.

    Of up to 2,896 active residuals, J times its transpose is computed column by column, two
    passes each, and the multipliers by proximal steps whose residual is one more pass:
    they are as exact as the gradient, not as its square. The rank is read from that matrix
    after every gradient is scaled to length one. It squares the singular values: those
    below :math:`\sqrt{(m + 10) \epsilon}` count as zero, with :math:`\epsilon` the machine
    epsilon of the coarsest dtype (m = 10: 1.5e-3 in float32, 6.7e-8 in float64).

    Of more, no matrix of their number is formed: the same proximal steps are taken by a
    semismooth Newton method, from products with J and its transpose alone. With up to
    1,024 parameters p, lengths and rank are as exact, by a product for each parameter.
    With more, the rank is not computed, and lengths are estimated by 256 products with
    random signs, each to about 4 %; they decide only which of several solutions is taken.

    Args:
        problem: the `Lagrangian`; penalty, barrier and kinds of multipliers do not matter.
        params: theta, any pytree of floating-point arrays.
        batch: what loss and constraints read; may be None.
        extra: state that is not trained, if the loss reads one.
        tolerance: an inequality is active where g >= -tolerance.

    Returns:
        A `LeastSquares`. Computed on the host: not for use inside jit. Up to 2,896 active
        residuals: two passes for each, and thirty nonnegative least-squares problems of
        their number: seconds for hundreds, minutes for thousands. More: some hundred to
        some ten thousand passes, whatever their number: on two CPU cores a quarter of a
        minute for 10^5 active outputs of a network of 96 parameters, 80 seconds and 1 GB
        for 10^6, and eight minutes for 5,000 of a network of 12,760 parameters.

    Raises:
        TypeError: `problem` is no problem, `params` hold no floating-point arrays,
            `tolerance` is no number, or something is traced.
        ValueError: a residual or a gradient is not finite, or `tolerance` is negative.

    References:
        Nocedal and Wright, Numerical Optimization (2006), chapter 18, for equalities and
        with the other sign; Parikh and Boyd, Proximal Algorithms (2014), section 4.1; Li,
        Sun and Toh, A Highly Efficient Semismooth Newton Augmented Lagrangian Method for
        Solving Lasso Problems (2018).

    Example:
        >>> import jax.numpy as jnp, jaxcon as jc
        >>> caps = {"caps": lambda p, _: p - jnp.array([1.0, 3.0])}
        >>> problem = jc.Lagrangian(                           # min (x - 2)² + (y - 2)²
        ...     lambda p, _: jnp.sum((p - 2.0) ** 2), jc.Constraints(inequality=caps)
        ... )
        >>> found = jc.least_squares_multipliers(problem, jnp.array([1.0, 2.0]))
        >>> print(found.multipliers.inequality["caps"], found.unique)
        [2. 0.] True
    """
    check_on_host("least_squares_multipliers", params, batch)
    batch, _ = split(batch)
    held = active_set(problem, params, batch, extra, tolerance)
    y = np.zeros(len(held.rows))
    slope, norm = held.slopes(y, 1.0)
    if not jnp.isfinite(norm):
        raise ValueError("the gradient of the loss is not finite at these params")
    if held.gram is None:
        rows = held.rows_of_gradients()
        y = least_of_products(rows, held.loss_gradient(), held.free, held.noise)
    elif len(y):
        y = _by_inner_products(held, slope)
    if len(y):
        _, norm = held.slopes(y, 1.0)
    return LeastSquares(
        multipliers=held.spread(y / held.lengths),
        stationarity=norm,
        active=held.active,
        num_active=len(y),
        rank=held.rank,
    )


def _by_inner_products(held: ActiveSet, slope: np.ndarray) -> np.ndarray:
    """Fits multipliers of the scaled gradients, by their inner products."""
    y, prox = np.zeros(len(slope)), np.sqrt(held.noise)
    for _ in range(MOST_ROUNDS):
        curvature = held.gram + prox * np.eye(len(y))
        before, y = y, least(y, slope, curvature, held.free)
        if np.max(np.abs(y - before)) <= held.epsilon * np.max(np.abs(y)):
            break
        slope, _ = held.slopes(y, 1.0)
        # The first round settles, by a strong prox, what the gradients leave open; in the
        # later ones the slope is nearly zero, and weaker directions can be resolved.
        prox = max(prox / 10, held.noise)
    return y


def sensitivity(multipliers: Constraints) -> dict[str, jax.Array]:
    r"""Evaluates the optimal loss's slope in each constraint's right-hand side.

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
        TypeError: they are no real arrays by name, or a table's or a network's, not those
            of a batch.

    References:
        Boyd and Vandenberghe, Convex Optimization (2004), section 5.6.3.

    Example:
        >>> import jax.numpy as jnp, jaxcon as jc
        >>> lam = jc.Constraints(inequality={"cap": jnp.array([2.0, 1.0])})
        >>> print(jc.sensitivity(lam)["cap"])                  # a looser cap, a lower loss
        -3.0
    """
    check_match(multipliers, multipliers)
    return {name: -jnp.sum(m) for _, name, m in named(multipliers)}
