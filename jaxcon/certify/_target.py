"""Proofs that a run of training aims at."""

from collections.abc import Sequence
from typing import NamedTuple

from jax.typing import ArrayLike

from jaxcon.certify._claims import Domain


class Target(NamedTuple):
    """Box on which `jaxcon.fit` is to prove its constraints.

    Attributes:
        lower: lower corner, (d,), in units of x.
        upper: upper corner, (d,).
        names: of the inequalities of `jaxcon.shapes` that are to be proved; all unless
            given.
        within: functions of x that are at most zero in the domain, where that is not the
            whole box: `ball`, `simplex`, `half_space` or others.
        budget: seconds of each proof, compilation apart.
        rounds: most times that training goes on after a proof that did not succeed.

    Example:
        >>> import jax.numpy as jnp, optax, jaxcon as jc
        >>> def apply(params, x):
        ...     return params[0] * x[0] + params[1] * x[0] ** 2
        >>> x = jnp.linspace(0.0, 1.0, 20)
        >>> y = x - 0.8 * x**2
        >>> def loss(params, _):
        ...     return jnp.mean((params[0] * x + params[1] * x**2 - y) ** 2)
        >>> rises = jc.shapes.increasing(apply, 0, on=jnp.array([[0.25], [0.5]]))
        >>> problem = jc.Lagrangian(loss, jc.Constraints(inequality={"rises": rises}))
        >>> run = jc.solve(
        ...     problem, jnp.zeros(2), certify=jc.certify.Target([0.0], [1.0])
        ... )
        >>> print(run.certificate.holds)
        True
    """

    lower: ArrayLike
    upper: ArrayLike
    names: Sequence[str] | None = None
    within: Domain | Sequence[Domain] = ()
    budget: float = 60.0
    rounds: int = 8
