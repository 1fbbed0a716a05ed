"""Derivatives requested of an enclosed function, read from its jet."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxcon.certify._jets import Jet, Jets, Key
from jaxcon.derivatives import (
    Directional,
    Divergence,
    Gradient,
    Hessian,
    HessianDiagonal,
    Jacobian,
    Laplacian,
    Partial,
    Value,
)

MOST = 3  # order of a derivative
Read = Callable[[Jets, Jet, tuple[int, ...]], Any]


class Request:
    """Derivatives wanted, as keys of a jet and as what is read from it.

    Attributes:
        directions: of the jet, (n, d); the first d are unit vectors.
        keys: of the derivatives that are read.
    """

    def __init__(self, wanted: tuple[Any, ...], inputs: int, dtype: Any):
        self.inputs, self.dtype = inputs, dtype
        self._rows = list(np.eye(inputs, dtype=dtype))
        self.keys: list[Key] = []
        self._reads = [self._read(spec) for spec in wanted]

    @property
    def directions(self) -> Any:
        """Directions of the jet, (n, d)."""
        return np.stack(self._rows)

    def read(self, jets: Jets, y: Jet, shape: tuple[int, ...]) -> list[Any]:
        """Returns the quantities.

        Args:
            jets: rules of the jet.
            y: the jet of the function's value.
            shape: of that value.

        Returns:
            A jet without derivatives, or an array, for each.
        """
        return [read(jets, y, shape) for read in self._reads]

    def _read(self, spec: Any) -> Read:
        every = range(self.inputs)
        match spec:
            case Value():
                return lambda jets, y, shape: Jet({(): y.value})
            case Gradient() | Jacobian():
                return self._stacked([(i,) for i in every], (self.inputs,))
            case Divergence():
                keys = [(i,) for i in every]
                self.keys += keys
                return lambda jets, y, shape: _total(
                    jets, [_entry(jets, y, key, shape, key[0]) for key in keys], None
                )
            case Directional():
                row = len(self._rows)
                self._rows.append(np.asarray(spec.direction, self.dtype))
                return self._stacked([(row,)], ())
            case Hessian():
                keys = [tuple(sorted((i, j))) for i in every for j in every]
                return self._stacked(keys, (self.inputs, self.inputs))
            case HessianDiagonal():
                return self._stacked([(i, i) for i in every], (self.inputs,))
            case Laplacian():
                return self._laplacian(spec)
            case Partial():
                inputs = (
                    spec.inputs if isinstance(spec.inputs, tuple) else (spec.inputs,)
                )
                if len(inputs) > MOST:
                    raise ValueError(
                        f"certify got a derivative of order {len(inputs)}; it encloses "
                        f"those up to order {MOST}"
                    )
                return self._stacked([tuple(sorted(map(int, inputs)))], ())
        raise TypeError(f"certify knows no quantity {spec!r}")

    def _stacked(self, keys: list[Key], form: tuple[int, ...]) -> Read:
        self.keys += keys

        def read(jets: Jets, y: Jet, shape: tuple[int, ...]) -> Any:
            parts = [_part(jets, y, key, shape) for key in keys]
            if not form:
                return parts[0]

            def stack(*xs: Any) -> Any:
                return jnp.stack(xs, axis=-1).reshape((*shape, *form))

            return jets.moved(stack, parts, 1)

        return read

    def _laplacian(self, spec: Laplacian) -> Read:
        first = 0
        if spec.directions is not None:
            first = len(self._rows)
            self._rows += list(np.asarray(spec.directions, self.dtype))
        count = len(self._rows) - first if spec.directions is not None else self.inputs
        keys = [(first + i, first + i) for i in range(count)]
        self.keys += keys
        weights = None
        if spec.weights is not None:
            weights = np.asarray(spec.weights, self.dtype)

        def read(jets: Jets, y: Jet, shape: tuple[int, ...]) -> Any:
            return _total(jets, [_part(jets, y, key, shape) for key in keys], weights)

        return read


def _part(jets: Jets, y: Jet, key: Key, shape: tuple[int, ...]) -> Jet:
    """Returns one derivative as a jet of its own."""
    if key in y:
        return Jet({(): y[key]})
    return Jet({(): jets.numbers.exact(jnp.zeros(shape, y_dtype(y)))})


def y_dtype(y: Jet) -> Any:
    """Returns the dtype of a jet."""
    return jnp.result_type(getattr(y.value, "centre", y.value))


def _entry(jets: Jets, y: Jet, key: Key, shape: tuple[int, ...], i: int) -> Jet:
    return jets.moved(lambda v: v[i], [_part(jets, y, key, shape)], 1)


def _total(jets: Jets, parts: list[Jet], weights: Any) -> Jet:
    """Adds derivatives, with weights."""
    if weights is None:
        weights = np.ones(len(parts))

    def add(*xs: Any) -> Any:
        return sum((w * x for w, x in zip(weights[1:], xs[1:])), weights[0] * xs[0])

    def absolute(*xs: Any) -> Any:
        sizes = np.abs(weights)
        return sum((w * x for w, x in zip(sizes[1:], xs[1:])), sizes[0] * xs[0])

    return jets.linear(add, absolute, parts, len(parts) + 1)
