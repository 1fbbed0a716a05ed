"""The default: a problem solved without numbers to choose."""

from typing import Any

import jax
import optax

from jaxcon._checks import check_number
from jaxcon.lagrangians import Lagrangian
from jaxcon.primal_dual import augmented_lagrangian_method, stochastic_lagrangian
from jaxcon.training._fit import fit
from jaxcon.training._result import FitResult
from jaxcon.training._source import Source


def solve(
    problem: Lagrangian,
    start: Any,
    batches: Any = None,
    *,
    steps: int = 10_000,
    primal: optax.GradientTransformation | None = None,
    key: jax.Array | None = None,
    **options: Any,
) -> FitResult:
    r"""Minimises a loss subject to constraints, with nothing to tune.

    .. math::
        \min_\theta f(\theta) \quad \text{subject to} \quad h(\theta) = 0, \quad
        g(\theta) \le 0

    On one batch it runs `augmented_lagrangian_method`, which stops by itself where the KKT
    residuals are small in the problem's own scale, or where nothing mends them. On
    minibatches it runs `stochastic_lagrangian` for `steps` steps. ``result.diagnosis``
    says which end it was.

    Args:
        problem: the `Lagrangian`, without penalty or kinds of multipliers.
        start: parameters, any pytree of floating-point arrays; or the state of an earlier
            result, to go on from.
        batches: as for `fit`: one batch, an iterator, or a function of a key.
        steps: most of them, on one batch; all of them, on minibatches.
        primal: optimizer of the parameters; the method's own unless given.
        key: a typed key, needed only if `batches` is a function.
        options: any other argument of `fit`, e.g. ``checkpoint`` or ``progress``.

    Returns:
        A `FitResult`, with multipliers in the units of the loss and the constraints.

    Raises:
        TypeError: an argument is of another kind.
        ValueError: one is out of its range, or the problem has what `alternating` is for.
        Exception: as `fit` raises.

    References:
        Birgin and Martinez, Practical Augmented Lagrangian Methods (2014), algorithm 4.1.

    Example:
        >>> import jax.numpy as jnp, jaxcon as jc
        >>> sums = jc.Constraints(equality={"sum": lambda p, _: jnp.sum(p) - 1.0})
        >>> problem = jc.Lagrangian(lambda p, _: jnp.sum(p**2), sums)
        >>> result = jc.solve(problem, jnp.zeros(2))
        >>> print(result.state.params.round(3), result.diagnosis.verdicts[0].kind)
        [0.5 0.5] converged
    """
    check_number("steps", steps, least=1, whole=True)
    if Source(batches, key).fixed:
        solver = augmented_lagrangian_method(problem, primal)
    else:
        solver = stochastic_lagrangian(problem, primal, steps=steps)
    return fit(solver, start, batches, steps=steps, key=key, **options)
