r"""Adaptive weights of loss and constraints, and descent directions that they share.

The transforms are for the ``per_term=`` of an order, above all where the penalty of a
constraint is fixed (`jaxcon.methods.penalty`, `fixed_penalty`). A weight :math:`w_i` on a
term's gradient

.. math:: \theta \leftarrow \theta - \alpha A(w_0 \nabla f + \textstyle\sum_i w_i g_i)

changes the function that is minimised. Training ends at the minimum of the fixed penalty
with the last weights :math:`w_i / w_0`; the state holds them in ``state.terms.weights``.
These rules do not choose the weights so that the constraints hold; multipliers do. If the
multipliers move as well, weights by gradient norms, once settled, change only their units:
the parameters end at the KKT point, and the problem's multipliers are
:math:`w_i \lambda_i / w_0`.

Shared directions (`project_conflicts`, `conflict_free`) have no weights in their state.
Their direction is zero wherever the gradients of two terms are exactly opposed, however
long the gradients are. Of a loss and one constraint these are all Pareto stationary points;
the start determines at which of them training stops. No weight and no multiplier changes
that point: a multiplier grows without end while its constraint stays violated. Shared
directions are for terms that can all be satisfied at once, as a differential equation and
its boundary values.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxcon._checks import check_number
from jaxcon.projections import product
from jaxcon.transforms._clipping import count_on, never
from jaxcon.transforms._entries import as_transform
from jaxcon.transforms._terms import GradientTerms, by_factors, gram, norm

Factors = tuple[jax.Array, Any]


class BalanceState(NamedTuple):
    """State of a balancing transform.

    Attributes:
        weights: of the loss and of each constraint, equalities first, (t,).
        memory: further state of the rule.
    """

    weights: jax.Array
    memory: Any


def balance_by_gradient_norm(
    decay: float = 0.9,
) -> optax.GradientTransformationExtraArgs:
    r"""Balances the terms by weights under which their gradients have one norm on average.

    .. math::
        w_i = \frac{\sum_j n_j}{n_i}, \qquad
        n_i \leftarrow \alpha n_i + (1 - \alpha) \|g_i\|

    The published rule averages the weights themselves; this one averages the norms. The
    nearly vanishing gradient of an inequality that is hardly violated would leave a weight
    that acts on the next violation in full. With averaged norms no weighted gradient is
    longer than :math:`\sum_j n_j / (1 - \alpha)`. If there are only two terms, their
    weighted sum is zero at every point at which they are opposed, so the end depends on the
    path.

    Args:
        decay: alpha, the weight of the past, in [0, 1).

    Returns:
        A transform over `GradientTerms` of gradients.

    Raises:
        ValueError: the decay is not in [0, 1).

    References:
        Wang, Sankaran, Wang and Perdikaris, An Expert's Guide to Training
        Physics-informed Neural Networks (2023), section 4.1 (grad norm weighting); Wang,
        Teng and Perdikaris, Understanding and Mitigating Gradient Flow Pathologies in
        Physics-informed Neural Networks (2021), for the idea.

    Example:
        >>> import jax.numpy as jnp, jaxcon as jc
        >>> balance = jc.balance_by_gradient_norm()
        >>> h = jc.Constraints({"h": jnp.array([0.0, 4.0])})
        >>> g = jc.GradientTerms(jnp.array([1.0, 0.0]), h)
        >>> even, _ = balance.update(g, balance.init(g))
        >>> print(even.loss, even.constraints.equality["h"])
        [5. 0.] [0. 5.]
    """
    check_number("decay", decay, least=0, below=1)

    def factors(updates: GradientTerms, state: Any, values: Any) -> Factors:
        del values
        now = jnp.stack([norm(entry) for entry in updates.entries()])
        # All begin at zero: the bias of the first averages cancels in the ratio.
        norms = decay * state.memory + (1 - decay) * now
        there = norms > 0
        weights = jnp.where(there, jnp.sum(norms) / jnp.where(there, norms, 1), 1)
        return weights, BalanceState(weights, norms)

    return by_factors(
        lambda count, dtype: BalanceState(
            jnp.ones(count, dtype), jnp.zeros(count, dtype)
        ),
        factors,
    )


class RelativeLossMemory(NamedTuple):
    """Past values of the terms in `balance_by_relative_loss`.

    Attributes:
        first: values at the first step, (t,).
        previous: values at the step before, (t,).
        begun: whether there was a step before, boolean ().
    """

    first: jax.Array
    previous: jax.Array
    begun: jax.Array


def balance_by_relative_loss(
    decay: float = 0.95, lookback: float = 0.99, temperature: float = 1.0
) -> optax.GradientTransformationExtraArgs:
    r"""Balances the terms by larger weights on those whose values fell least.

    .. math::
        w_i &\leftarrow \alpha \left( \rho\, w_i + (1 - \rho)\, b_i(0) \right)
            + (1 - \alpha)\, b_i(t - 1), \\
        b_i(s) &= m \operatorname{softmax}_i \frac{L_i(t)}{T L_i(s)}

    This is ReLoBRaLo, for m terms of value L. There :math:`\rho` is a Bernoulli variable,
    nearly always 1; here it is that variable's mean, so nothing is random. A term's value
    is its part of the objective: the loss, and :math:`\sum \lambda g` of a constraint,
    which under a fixed quadratic penalty is twice the penalty. Use it only with fixed
    penalties: values of terms whose multipliers move vanish where these settle, and their
    ratios do not. A term of value zero has no ratio, and counts as one that has not
    changed. A term whose value was close to zero gets a weight without bound. The rule
    needs no gradient of a single term, but costs as much as if it did, like all transforms
    of terms.

    Args:
        decay: alpha, in [0, 1).
        lookback: rho, in [0, 1].
        temperature: T > 0; the larger, the more even the weights.

    Returns:
        A transform over `GradientTerms` of gradients. Its update takes the extra argument
        ``values``, `GradientTerms` of ().

    Raises:
        ValueError: a number is out of its range, or, when traced, there are no values.

    References:
        Bischof and Kraus, Multi-Objective Loss Balancing for Physics-Informed Deep Learning
        (2021), section III-D.

    Example:
        >>> import jax.numpy as jnp, jaxcon as jc
        >>> balance = jc.balance_by_relative_loss(decay=0.0)
        >>> g = jc.GradientTerms(jnp.ones(1), jc.Constraints({"h": jnp.ones(1)}))
        >>> state = balance.init(g)
        >>> h = jc.Constraints({"h": jnp.array(1.0)})
        >>> for loss in (1.0, 0.5):
        ...     read = jc.GradientTerms(jnp.array(loss), h)
        ...     _, state = balance.update(g, state, values=read)
        >>> print(f"{state.weights[0]:.3f} {state.weights[1]:.3f}")    # 2 softmax(0.5, 1)
        0.755 1.245
    """
    check_number("decay", decay, least=0, below=1)
    check_number("lookback", lookback, least=0, most=1)
    check_number("temperature", temperature, above=0)

    def factors(updates: GradientTerms, state: Any, values: Any) -> Factors:
        del updates
        now = _known("balance_by_relative_loss", values)
        first, previous, begun = state.memory

        def balanced(then: jax.Array) -> jax.Array:
            ratio = jnp.where(then == 0, 1.0, now / jnp.where(then == 0, 1.0, then))
            # Beyond this the softmax is 0 or 1, and infinity would make it NaN.
            return len(now) * jax.nn.softmax(jnp.clip(ratio / temperature, -1e6, 1e6))

        kept = lookback * state.weights + (1 - lookback) * balanced(first)
        moved = decay * kept + (1 - decay) * balanced(previous)
        weights = jnp.where(begun, moved, state.weights)
        memory = RelativeLossMemory(jnp.where(begun, first, now), now, jnp.array(True))
        return weights, BalanceState(weights, memory)

    def init(count: int, dtype: Any) -> Any:
        zero, one = jnp.zeros(count, dtype), jnp.ones(count, dtype)
        return BalanceState(one, RelativeLossMemory(zero, zero, jnp.array(False)))

    return by_factors(init, factors)


def balance_by_uncertainty(
    optimizer: optax.GradientTransformation, limit: float = 1e3
) -> optax.GradientTransformationExtraArgs:
    r"""Balances the terms by trained weights, the inverse variances of noisy readings.

    .. math::
        \min_{\theta, s} \sum_i \tfrac12 e^{-s_i} L_i(\theta) + \tfrac12 s_i, \qquad
        w_i = e^{-s_i}

    by steps of `optimizer` on s from zero. Where s has settled, :math:`w_i = 1 / L_i`, and
    :math:`\sum \log L_i` is minimised, to which a vanishing term, as the penalty of a
    constraint that holds, contributes minus infinity. So its weight grows without end and
    outweighs the loss; it stops at `limit`, and training then ends at the minimum of a
    fixed penalty of `limit` times the weight, over the loss's. Use it only with fixed
    penalties. A term's value is its part of the objective (see `balance_by_relative_loss`).

    Args:
        optimizer: any optax optimizer, for s.
        limit: the largest weight, > 1; the smallest is 1 / limit.

    Returns:
        A transform over `GradientTerms` of gradients. Its update takes the extra argument
        ``values``, `GradientTerms` of ().

    Raises:
        TypeError: `optimizer` is no optax transform.
        ValueError: the limit is not above 1, or, when traced, there are no values.

    References:
        Kendall, Gal and Cipolla, Multi-Task Learning Using Uncertainty to Weigh Losses for
        Scene Geometry and Semantics (2018), eq. 7.

    Example:
        >>> import jax.numpy as jnp, optax, jaxcon as jc
        >>> balance = jc.balance_by_uncertainty(optax.sgd(0.1))
        >>> g = jc.GradientTerms(jnp.ones(1), jc.Constraints({"h": jnp.ones(1)}))
        >>> values = jc.GradientTerms(jnp.array(4.0), jc.Constraints({"h": jnp.array(0.5)}))
        >>> state = balance.init(g)
        >>> for _ in range(300):
        ...     _, state = balance.update(g, state, values=values)
        >>> print(state.weights.round(3))
        [0.25 2.  ]
    """
    optimizer = as_transform("optimizer", optimizer)
    check_number("limit", limit, above=1)

    def factors(updates: GradientTerms, state: Any, values: Any) -> Factors:
        del updates
        now = _known("balance_by_uncertainty", values)
        inner, s = state.memory
        slope = (1 - jnp.exp(-s) * now) / 2
        move, inner = optimizer.update(slope, inner, s)
        most = jnp.log(jnp.asarray(limit, s.dtype))
        s = jnp.clip(s + move, -most, most)  # pyright: ignore[reportOperatorIssue]
        weights = jnp.exp(-s)
        # The next state holds the weights that this step used.
        return weights, BalanceState(weights, (inner, s))

    def init(count: int, dtype: Any) -> Any:
        s = jnp.zeros(count, dtype)
        return BalanceState(jnp.ones(count, dtype), (optimizer.init(s), s))

    return by_factors(init, factors)


def project_conflicts(seed: int = 0) -> optax.GradientTransformationExtraArgs:
    r"""Projects out of each term's gradient its component against another term's.

    .. math::
        g_i \leftarrow g_i - \frac{g_i^\top g_j}{\|g_j\|^2}\, g_j
            \quad \text{where } g_i^\top g_j < 0

    This is PCGrad: for each i it runs over all other j, in an order drawn anew at every
    step, with the original gradients j; the results are then added. The computation uses
    only the terms' inner products, so its cost is small beside that of one gradient for
    each term.

    Args:
        seed: of the orders; it has no effect on fewer than three terms.

    Returns:
        A transform over `GradientTerms` of gradients, counted as "conflict".

    Raises:
        TypeError: `seed` is no whole number.

    References:
        Yu et al., Gradient Surgery for Multi-Task Learning (2020), Algorithm 1.

    Example:
        >>> import jax.numpy as jnp, jaxcon as jc
        >>> h = jc.Constraints({"h": jnp.array([-1.0, 1.0])})
        >>> g = jc.GradientTerms(jnp.array([1.0, 0.0]), h)
        >>> surgery = jc.project_conflicts()
        >>> moved, _ = surgery.update(g, surgery.init(g))
        >>> print(moved.loss + moved.constraints.equality["h"])        # [.5 .5] + [0 1]
        [0.5 1.5]
    """
    check_number("seed", seed, whole=True)
    name = "conflict"

    def factors(updates: GradientTerms, state: Any, values: Any) -> Factors:
        del values
        inner = gram(updates)
        count = len(inner)
        key = jax.random.fold_in(jax.random.key(seed), state.memory)
        order = jax.random.permutation(key, count)

        def project(i: Any, parts: jax.Array) -> jax.Array:
            """Updates row i of `parts`, the coefficients of the present gradient i."""
            j = order[i]
            along = product(parts, inner[:, j])
            against = (along < 0) & (jnp.arange(count) != j)
            size = jnp.where(inner[j, j] > 0, inner[j, j], 1)
            return parts.at[:, j].add(jnp.where(against, -along / size, 0))

        start = jnp.eye(count, dtype=inner.dtype)
        parts = jax.lax.fori_loop(0, count, project, start)
        after = count_on(state, state.memory + 1, jnp.any(inner < 0))
        return jnp.sum(parts, 0), after

    return by_factors(lambda *_: never(name, jnp.zeros((), jnp.int32)), factors)


def conflict_free() -> optax.GradientTransformationExtraArgs:
    r"""Moves along one direction at the same angle to every term's gradient.

    .. math::
        d = \left( \sum_i g_i^\top u \right) u, \qquad u = \frac{v}{\|v\|}, \qquad
        v = (U^\top)^+ 1, \qquad U_{\cdot i} = \frac{g_i}{\|g_i\|}

    This is ConFIG: no term rises along d, to first order, and each falls at a rate in
    proportion to its own gradient. Terms with a zero gradient are left out. If two terms
    are exactly opposed there is no such direction, and d = 0.

    Returns:
        A transform over `GradientTerms` of gradients.

    References:
        Liu, Chu and Thuerey, ConFIG: Towards Conflict-free Training of Physics Informed
        Neural Networks (2024), eq. 2.

    Example:
        >>> import jax.numpy as jnp, jaxcon as jc
        >>> h = jc.Constraints({"h": jnp.array([0.0, 3.0])})
        >>> g = jc.GradientTerms(jnp.array([1.0, 0.0]), h)
        >>> config = jc.conflict_free()
        >>> moved, _ = config.update(g, config.init(g))
        >>> print(moved.loss + moved.constraints.equality["h"])        # 45 degrees to both
        [2. 2.]
    """

    def factors(updates: GradientTerms, state: Any, values: Any) -> Factors:
        del values
        inner = gram(updates)
        sizes = jnp.sqrt(jnp.diag(inner))
        there = sizes > 0
        sizes = jnp.where(there, sizes, 1)
        cosines = inner / (sizes[:, None] * sizes[None, :])
        ones = there.astype(inner.dtype)
        # v = U w. A cosine is exact to a few roundings only, and so are eigenvalues.
        least = 8 * len(ones) * jnp.finfo(inner.dtype).eps
        w = product(jnp.linalg.pinv(cosines, rtol=least, hermitian=True), ones)
        # g_i^T v is |g_i| where one angle exists, and |v|^2 is the sum of w.
        along = jnp.sum(jnp.where(there, sizes, 0) * product(cosines, w))
        squared = jnp.sum(w)
        length = jnp.where(squared > 0, along / jnp.where(squared > 0, squared, 1), 0)
        return length * w / sizes, state

    return by_factors(lambda *_: optax.EmptyState(), factors)


def _known(name: str, values: Any) -> jax.Array:
    if values is None:
        raise ValueError(
            f"{name} needs the terms' values: use it as the per_term= of an order"
        )
    return values
