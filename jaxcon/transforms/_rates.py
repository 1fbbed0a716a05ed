r"""Balances of loss and constraints by the rates at which their terms fall.

Like those of `jaxcon.transforms._balancing`, they are for the ``per_term=`` of an order,
above all where the penalty of a constraint is fixed.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxcon._checks import check_number
from jaxcon.transforms._balancing import BalanceState
from jaxcon.transforms._terms import (
    GradientTerms,
    by_factors,
    check_terms,
    precision,
    remembered,
    scaled,
)

# The largest exponents of a softmax that tell anything.
_MOST = 1e6


class LossRateMemory(NamedTuple):
    """Past values of the terms in `balance_by_loss_rate`.

    Attributes:
        previous: values at the step before, (t,).
        begun: whether there was a step before, boolean ().
    """

    previous: jax.Array
    begun: jax.Array


def balance_by_loss_rate(
    beta: float = 0.1,
) -> optax.GradientTransformationExtraArgs:
    r"""Balances the terms by larger weights on those whose values rise, or fall least.

    .. math::
        w_i = m \operatorname{softmax}_i(\beta s_i), \qquad s_i = L_i(t) - L_i(t - 1)

    SoftAdapt, for m terms of value L, times m, so that equal rates leave the terms as they
    are. The rates are differences in the values' own units, so :math:`\beta` is in inverse
    units. Where the values no longer change all weights are 1: the rule changes the path
    of training, not its end. A term's value is its part of the objective (see
    `balance_by_relative_loss`).

    Args:
        beta: > 0; the published default is 0.1.

    Returns:
        A transform over `GradientTerms` of gradients. Its update takes the extra argument
        ``values``, `GradientTerms` of ().

    Raises:
        ValueError: the number is not positive, or, when traced, there are no values.

    References:
        Heydari, Thompson and Mehmood, SoftAdapt: Techniques for Adaptive Loss Weighting of
        Neural Networks with Multi-Part Loss Functions (2019).

    Example:
        >>> import jax.numpy as jnp, jaxcon as jc
        >>> balance = jc.balance_by_loss_rate(1.0)
        >>> g = jc.GradientTerms(jnp.ones(1), jc.Constraints({"h": jnp.ones(1)}))
        >>> state = balance.init(g)
        >>> h = jc.Constraints({"h": jnp.array(1.0)})
        >>> for loss in (2.0, 1.0):
        ...     read = jc.GradientTerms(jnp.array(loss), h)
        ...     _, state = balance.update(g, state, values=read)
        >>> print(f"{state.weights[0]:.3f} {state.weights[1]:.3f}")    # 2 softmax(-1, 0)
        0.538 1.462
    """
    check_number("beta", beta, above=0)

    def factors(
        updates: GradientTerms, state: Any, values: Any
    ) -> tuple[jax.Array, Any]:
        del updates
        if values is None:
            raise ValueError(
                "balance_by_loss_rate needs the terms' values: use it as the per_term= of "
                "an order"
            )
        previous, begun = state.memory
        rates = jnp.where(begun, values - previous, 0)
        # Beyond this the softmax is 0 or 1, and infinity would make it NaN.
        exponents = jnp.clip(beta * rates, -_MOST, _MOST)
        weights = len(values) * jax.nn.softmax(exponents)
        memory = LossRateMemory(values, jnp.array(True))
        return weights, BalanceState(weights, memory)

    def init(count: int, dtype: Any) -> BalanceState:
        zero = jnp.zeros(count, dtype)
        memory = LossRateMemory(zero, jnp.array(False))
        return BalanceState(jnp.ones(count, dtype), memory)

    return by_factors(init, factors)


class KernelMemory(NamedTuple):
    """Memory of `balance_by_kernel_trace`.

    Attributes:
        traces: averages, of each term's kernel, (t,).
        calls: so far, int32 ().
    """

    traces: jax.Array
    calls: jax.Array


def balance_by_kernel_trace(
    every: int = 10, decay: float = 0.9, *, seed: int = 0
) -> optax.GradientTransformationExtraArgs:
    r"""Balances the terms by the traces of their neural tangent kernels.

    .. math::
        w_i = \frac{\sum_j T_j}{T_i}, \qquad
        T_i \leftarrow \alpha T_i + (1 - \alpha) \|J_i^T z_i\|^2, \qquad
        \operatorname{E} \|J_i^T z_i\|^2 = \operatorname{tr} J_i J_i^T

    NTK weights. :math:`J_i` is the Jacobian of the term's residual (n,), and z holds
    random signs, so one more backward pass for each term estimates its trace without bias;
    that of a residual () is exact. The published rule computes the whole trace from the
    gradient of each row. The loss must be a `MeanSquares`, whose residuals' traces add up.
    The sums are over rows, as in the paper, where each term is a mean over its n points:
    so give a constraint (n,) the fixed penalty 2 / n.

    Args:
        every: steps from one estimate to the next.
        decay: alpha, the weight of past estimates, in [0, 1).
        seed: of the signs.

    Returns:
        A transform over `GradientTerms` of gradients. Its update takes the extra argument
        ``traces``, a function of a key that estimates the traces.

    Raises:
        TypeError: a number is none.
        ValueError: a number is out of its range; when traced, there are no traces, or the
            loss is no `MeanSquares`.

    References:
        Wang, Yu and Perdikaris, When and why PINNs fail to train: A neural tangent kernel
        perspective (2022), for the weights; Hutchinson, A stochastic estimator of the
        trace of the influence matrix (1989), for the estimate.

    Example:
        >>> import jax.numpy as jnp, jaxcon as jc
        >>> balance = jc.balance_by_kernel_trace()
        >>> g = jc.GradientTerms(jnp.ones(1), jc.Constraints({"h": jnp.ones(1)}))
        >>> even, _ = balance.update(
        ...     g, balance.init(g), traces=lambda key: jnp.array([1.0, 4.0])
        ... )
        >>> print(even.loss, even.constraints.equality["h"])
        [5.] [1.25]
    """
    check_number("every", every, least=1, whole=True)
    check_number("decay", decay, least=0, below=1)
    check_number("seed", seed, least=0, whole=True)

    def init(params: Any) -> BalanceState:
        check_terms("balance_by_kernel_trace", params)
        count, dtype = len(params.entries()), precision(params)
        memory = KernelMemory(jnp.zeros(count, dtype), jnp.zeros((), jnp.int32))
        return BalanceState(jnp.ones(count, dtype), memory)

    def update(
        updates: Any,
        state: BalanceState,
        params: Any = None,
        *,
        traces: Callable[[jax.Array], jax.Array] | None = None,
        **extra: Any,
    ) -> tuple[Any, BalanceState]:
        del params, extra
        if traces is None:
            raise ValueError(
                "balance_by_kernel_trace needs the Jacobians of the terms: use it as the "
                "per_term= of an order"
            )
        old, calls = state.memory

        def estimated() -> jax.Array:
            now = traces(jax.random.fold_in(jax.random.key(seed), calls))
            return decay * old + (1 - decay) * now.astype(old.dtype)

        # All begin at zero: the bias of the first averages cancels in the ratio.
        found = jax.lax.cond(calls % every == 0, estimated, lambda: old)
        there = found > 0
        weights = jnp.where(there, jnp.sum(found) / jnp.where(there, found, 1), 1)
        after = BalanceState(weights, KernelMemory(found, calls + 1))
        return scaled(updates, weights), remembered(after, state)

    return optax.GradientTransformationExtraArgs(init, update)  # pyright: ignore[reportArgumentType]
