"""A batch for each of the two steps."""

from typing import Any, NamedTuple


class SplitBatch(NamedTuple):
    """A batch of the parameters' step and an independent one of the multipliers' step.

    A solver that is given one evaluates the constraints once more, on `dual`.

    Attributes:
        primal: what the parameters' step reads.
        dual: what the multipliers' step reads.

    Example:
        >>> import jax.numpy as jnp, optax, jaxcon as jc
        >>> rule = jc.Constraints(equality={"p is the mean": lambda p, x: p - x.mean()})
        >>> problem = jc.Lagrangian(lambda p, x: jnp.mean((p - x) ** 2), rule)
        >>> solver = jc.alternating(problem, optax.sgd(0.1), jc.dual_ascent(optax.sgd(0.1)))
        >>> batch = jc.SplitBatch(jnp.zeros(4), jnp.ones(4))
        >>> state, info = solver.step(solver.init(0.0, batch), batch)
        >>> print(state.multipliers.equality["p is the mean"])
        -0.1
    """

    primal: Any
    dual: Any


def split(batch: Any) -> tuple[Any, Any]:
    """Returns the batches of the primal and of the dual step."""
    return tuple(batch) if isinstance(batch, SplitBatch) else (batch, batch)  # pyright: ignore[reportReturnType]
