"""One problem, in the terms of any framework and in jaxcon's."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxcon import Lagrangian

Arrays = dict[str, Any]


class NetworkProblem(NamedTuple):
    """Constrained training problem whose data are NumPy arrays.

    Attributes:
        name: of the problem, as in the tables.
        arrays: (seed) -> data, points, dense evaluation grid and, as "weights", initial
            parameters; NumPy arrays.
        problem: (arrays) -> the Lagrangian, initial parameters and the batch, as
            `jaxcon.fit` takes them. The batch is a function (key, state) -> batch where
            data come in minibatches.
        violations: (arrays, params) -> violations on the dense grid, (n,).
        error: (arrays, params) -> (); the smaller, the better.
        measure: what `error` is.
        steps: a usual length of training.
        enough: errors below this one are equally good.
        minibatches: whether the batch is a function.
    """

    name: str
    arrays: Callable[[int], Arrays]
    problem: Callable[[Arrays], tuple[Lagrangian, Any, Any]]
    violations: Callable[[Arrays, Any], jax.Array]
    error: Callable[[Arrays, Any], jax.Array]
    measure: str
    steps: int = 3000
    enough: float = 0.0
    minibatches: bool = False

    def violation(self, arrays: Arrays, params: Any) -> float:
        """Evaluates the largest violation on the dense grid.

        Args:
            arrays: of the problem.
            params: in the structure of ``arrays["weights"]``, of any framework that
                NumPy can read.

        Returns:
            At least zero; infinite where it is no number.
        """
        found = _compiled(self.violations)(arrays, params)
        return _number(np.max(np.asarray(found), initial=0.0))

    def accuracy(self, arrays: Arrays, params: Any) -> float:
        """Evaluates `error`; infinite where it is no number."""
        return _number(_compiled(self.error)(arrays, params))


def start(arrays: Arrays) -> Any:
    """Returns the initial parameters as JAX arrays."""
    return jax.tree.map(jnp.asarray, arrays["weights"])


_programs: dict[Any, Any] = {}


def _compiled(function: Any) -> Any:
    return _programs.setdefault(function, jax.jit(function))


def _number(value: Any) -> float:
    value = float(value)
    return value if np.isfinite(value) else float("inf")
