"""First layer of a network: the narrow intermediate, affine in x, before the others."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import (
    ClosedJaxpr,  # pyright: ignore[reportPrivateImportUsage]
    jaxpr_as_fun,
)

from jaxcon.derivatives._equations import held_operands, is_variable


class Layer(NamedTuple):
    """Part of a program that ends in one intermediate, as a function of x."""

    after: int  # the number of the equation that makes it
    variable: Any
    closed: ClosedJaxpr

    def __call__(self, x: jax.Array) -> jax.Array:
        """Evaluates the intermediate."""
        return jaxpr_as_fun(self.closed)(x)[0]


def narrowest(closed: ClosedJaxpr, size: int) -> Layer | None:
    """Finds the first intermediate, affine in x, through which all else depends on x.

    That is a network's first layer before its activation. The result is None if no such
    intermediate has fewer entries than ``size``.
    """
    jaxpr = closed.jaxpr
    dependent, affine = set(jaxpr.invars), set(jaxpr.invars)
    last = {
        v: i for i, eqn in enumerate(jaxpr.eqns) for v in eqn.invars if is_variable(v)
    }
    last.update((v, len(jaxpr.eqns)) for v in jaxpr.outvars if is_variable(v))
    for i, eqn in enumerate(jaxpr.eqns):
        active = [
            n for n, v in enumerate(eqn.invars) if is_variable(v) and v in dependent
        ]
        if not active:
            continue
        dependent.update(eqn.outvars)
        held = held_operands(eqn.primitive.name, len(eqn.invars), active)
        if held is not None and all(eqn.invars[n] in affine for n in active):
            affine.update(eqn.outvars)
        frontier = [v for v in dependent if last.get(v, -1) > i]
        if len(frontier) == 1 and frontier[0] in affine and frontier[0] in eqn.outvars:
            z: Any = frontier[0].aval
            # A complex layer's form is no Gram matrix.
            real = jnp.issubdtype(z.dtype, jnp.floating)
            if real and math.prod(z.shape) < size:
                part = jaxpr.replace(eqns=jaxpr.eqns[: i + 1], outvars=frontier)
                return Layer(i, frontier[0], ClosedJaxpr(part, closed.consts))
    return None
