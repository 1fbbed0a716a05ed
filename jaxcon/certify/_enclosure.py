"""Enclosures of residuals of a function and of its derivatives over a box."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxcon._checks import inside
from jaxcon.certify import _adjoint, _program
from jaxcon.certify._forms import Forward, box, interval_box
from jaxcon.certify._jets import Jet, Jets, Key, closed
from jaxcon.certify._quantities import Request
from jaxcon.derivatives import derivatives

Function = Callable[[jax.Array], jax.Array]
LEVELS = ("intervals", "forward", "adjoint")


class Enclosure(NamedTuple):
    """Bounds of the residuals of one box.

    Attributes:
        lower: (m,).
        upper: (m,).
        slopes: change of each residual from the middle of the box to its upper faces,
            linear in each input, (m, d).
        shares: bound on what each input adds to the remainder of each residual, (m, d).
    """

    lower: jax.Array
    upper: jax.Array
    slopes: jax.Array
    shares: jax.Array


class Program:
    """Residuals of a function and of its derivatives, to be enclosed.

    Attributes:
        inputs: d.
        dtype: of x.
        level: the method: plain intervals, linear forms propagated forwards, or these
            tightened by adjoints.
        shapes: of the residuals' arrays.
        size: m, the number of residuals in all.
    """

    def __init__(
        self,
        f: Function,
        wanted: tuple[Any, ...],
        residual: Callable[..., Any],
        inputs: int,
        dtype: Any,
        level: str = "adjoint",
        extra: Sequence[tuple[int, ...]] = (),
        shifts: Sequence[Key] = ((),),
    ):
        """Traces the function and the residual.

        Args:
            f: x (d,) -> () or (m,).
            wanted: the quantities that the residual reads.
            residual: (x, *quantities, *extra arrays) -> arrays.
            inputs: d.
            dtype: of x.
            level: see the attribute.
            extra: shapes of arrays that come with each box.
            shifts: inputs that the quantities are differentiated by: ``(0,)`` for their
                derivative by input 0. The residual reads the quantities once for each.
        """
        self.f, self.wanted, self.residual = f, wanted, residual
        self.inputs, self.dtype, self.level = inputs, jnp.dtype(dtype), level
        x = jax.ShapeDtypeStruct((inputs,), self.dtype)
        self._request, self._shifts = Request(wanted, inputs, self.dtype), shifts
        # The first directions of a request are the inputs themselves.
        keys = closed(self._request.keys)
        self._keys = closed([key + shift for key in keys for shift in shifts])
        with inside("apply"):
            self._f = jax.make_jaxpr(f)(x)
        outputs: list[Any] = list(self._f.out_avals)
        self._shape = outputs[0].shape
        read = jax.eval_shape(self.quantities, x)
        added = [jax.ShapeDtypeStruct(shape, self.dtype) for shape in extra]
        with inside("residual"):
            self._residual = jax.make_jaxpr(residual)(x, *read * len(shifts), *added)
        avals: list[Any] = list(self._residual.out_avals)
        self.shapes = [aval.shape for aval in avals]
        self.size = sum(map(math.prod, self.shapes))
        # A part of a jet is read by each rule that makes a part of a jet from it. A term
        # stands in a sum as often as its partition does, at most 15 times up to order 5.
        parts = len(self._keys)
        jaxprs = self._f.jaxpr, self._residual.jaxpr
        self._readers = sum(map(_program.readers, jaxprs)) * (2 + 3 * parts)

    def quantities(self, x: jax.Array) -> list[jax.Array]:
        """Evaluates the quantities at one x in plain arithmetic."""
        return list(derivatives(self.f, *self.wanted)(x))

    def __call__(
        self, lower: jax.Array, upper: jax.Array, *extra: jax.Array
    ) -> Enclosure:
        """Encloses the residuals of all x between two corners (d,)."""
        make = interval_box if self.level == "intervals" else box
        x = make(lower, upper)
        forward = Forward(self.inputs, self._readers)
        run = functools.partial(self._run, extra=extra)
        result = run(forward, x)
        # Without adjoints it is not known which input a remainder comes from.
        sides = (upper - lower)[:, None]
        shares = (sides / jnp.sum(sides) * result.radius[None]).T
        if self.level == "adjoint":
            result, shares = _adjoint.refined(run, x, forward, result)
        empty = jnp.zeros((self.inputs, self.size), self.dtype)
        slopes = empty if result.slopes is None else result.slopes
        return Enclosure(
            # What is not known is unbounded.
            jnp.where(jnp.isnan(result.lower), -jnp.inf, result.lower),
            jnp.where(jnp.isnan(result.upper), jnp.inf, result.upper),
            slopes.T,
            jnp.abs(shares),
        )

    def _run(self, numbers: Any, x: Any, extra: Sequence[jax.Array]) -> Any:
        """Returns the residuals as one number (m,) of an algebra."""
        jets = Jets(numbers, self._keys, any(self._shifts))
        variable = jets.variable(x, jnp.asarray(self._request.directions))
        [y] = _program.interpret(self._f, [variable], jets)
        _program.refuse_condition(y)
        if not isinstance(y, Jet):
            y = Jet({(): numbers.exact(y)})
        values = Jets(numbers, ())
        found = [
            quantity
            for shift in self._shifts
            for quantity in self._request.read(
                values, self._derived(numbers, y, shift), self._shape
            )
        ]
        inputs = [Jet({(): variable.value}), *found, *extra]
        outputs = _program.interpret(self._residual, inputs, values)
        for out in outputs:
            _program.refuse_condition(out)
        outputs = [
            out if isinstance(out, Jet) else Jet({(): numbers.exact(out)})
            for out in outputs
        ]

        def flat(*parts: Any) -> Any:
            return jnp.concatenate([jnp.ravel(part) for part in parts])

        return values.moved(flat, outputs, 1).value

    def _derived(self, numbers: Any, y: Jet, shift: Key) -> Jet:
        """Returns the jet of a derivative; that of a function without one is zero."""
        found = y.by(shift)
        if () not in found:
            found[()] = numbers.exact(jnp.zeros(self._shape, self.dtype))
        return found
