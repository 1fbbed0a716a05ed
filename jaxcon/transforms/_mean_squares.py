"""Mean of squared residuals, each of which may have a weight of its own."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxcon._checks import check_function, check_real, described, inside
from jaxcon.lagrangians import Lagrangian
from jaxcon.transforms._attention import WeightRule

Residual = Callable[[Any, Any], jax.Array]


@dataclass(frozen=True, eq=False)
class MeanSquares:
    r"""Least-squares loss whose residuals are known.

    .. math:: f(\theta) = \sum_k \frac{1}{n_k} \sum_{i=1}^{n_k} r_{ki}(\theta)^2

    With `weights` a solver descends on

    .. math:: \sum_k \frac{1}{n_k} \sum_i w_{ki} r_{ki}(\theta)^2

    where each step evaluates w at the parameters it starts from and holds it fixed, in
    its gradient, in a search along a line and in `gauss_newton`, whose rows it multiplies
    by :math:`\sqrt{w}`. What a rule of weights remembers is in ``state.weights``. Called
    by itself the loss is without weights, and so it is in the solver's report, so that its
    values at different steps can be compared.

    Attributes:
        residuals: name: function (params, batch) -> () or (n,). A constant weight w of a
            term is a factor :math:`\sqrt{w}` in its function.
        weights: rule of the weights by name, e.g. `residual_attention` or
            `causal_weights`; 1 where there is none.

    Raises:
        TypeError: `residuals` is no dict of functions, or `weights` none of rules; when
            called, a residual is not real.
        ValueError: `weights` names no residual; when called, a residual has two or more
            dimensions.

    Example:
        >>> import jax.numpy as jnp, jaxcon as jc
        >>> loss = jc.MeanSquares({"misfit": lambda p, batch: p * batch["x"] - batch["y"]})
        >>> float(loss(2.0, {"x": jnp.array([1.0, 2.0]), "y": jnp.array([2.0, 2.0])}))
        2.0
    """

    residuals: Mapping[str, Residual]
    weights: Mapping[str, WeightRule] = field(default_factory=dict, kw_only=True)

    def __post_init__(self) -> None:
        """Refuses a function that has no name, and a weight without a function."""
        kind = type(self).__name__
        if not isinstance(self.residuals, Mapping):
            raise TypeError(
                f"{kind} needs a dict of functions (params, batch) -> residual by "
                f"name, got {described(self.residuals)}"
            )
        for name, residual in self.residuals.items():
            check_function(self._label(name), residual, "(params, batch) -> residual")
        form = "rules such as jaxcon.residual_attention() by name of a residual"
        if not isinstance(self.weights, Mapping):
            raise TypeError(
                f"weights of {kind} must be a dict of {form}, got "
                f"{described(self.weights)}"
            )
        for name, rule in self.weights.items():
            if name not in self.residuals:
                raise ValueError(
                    f"weights of {kind} name {name!r}, but the residuals are "
                    f"{list(self.residuals)}"
                )
            if not isinstance(rule, WeightRule):
                raise TypeError(
                    f"weights of {kind} must be {form}, got {described(rule)} for "
                    f"{name!r}"
                )

    def __call__(self, params: Any, batch: Any = None) -> jax.Array:
        """Evaluates the loss without weights, ()."""
        return self.weighted({}, params, batch)

    def evaluate(self, name: str, params: Any, batch: Any = None) -> jax.Array:
        """Evaluates one of the residuals, () or (n,)."""
        label = self._label(name)
        with inside(label):
            found = self.residuals[name](params, batch)
        found = check_real(f"{label} returned", found, "real, () or (n,)")
        if found.ndim > 1:
            raise ValueError(f"{label} has shape {found.shape}, not () or (n,)")
        return found

    def weighted(
        self, weights: Mapping[str, jax.Array], params: Any, batch: Any = None
    ) -> jax.Array:
        """Evaluates the loss under given weights, (); 1 where there is none."""
        parts = []
        for name in self.residuals:
            residual = self.evaluate(name, params, batch)
            parts.append(self._mean(name, residual, batch, weights.get(name)))
        return jnp.asarray(sum(parts, 0.0))

    def losses(self, name: str, residual: jax.Array, batch: Any) -> jax.Array:
        """Evaluates the loss of each entry of a residual, in its shape.

        Args:
            name: of the residual.
            residual: its value, () or (n,).
            batch: what it was evaluated on.

        Returns:
            An array like the residual.
        """
        del name, batch
        return residual**2

    def slopes(
        self, name: str, residual: jax.Array, batch: Any, weight: Any = None
    ) -> tuple[jax.Array, jax.Array]:
        """Evaluates the loss's first and second derivative by each entry of a residual.

        Args:
            name: of the residual.
            residual: its value, () or (n,).
            batch: what it was evaluated on.
            weight: of each entry, in the residual's shape; None for 1.

        Returns:
            Both, in the residual's shape.
        """

        def slope(residual: jax.Array) -> jax.Array:
            return jax.grad(lambda r: self._mean(name, r, batch, weight))(residual)

        # No entry's loss depends on another's: the product with ones has each its own.
        return jax.jvp(slope, (residual,), (jnp.ones_like(residual),))

    def _mean(
        self, name: str, residual: jax.Array, batch: Any, weight: Any
    ) -> jax.Array:
        losses = self.losses(name, residual, batch)
        if weight is not None:
            losses = weight.astype(losses.dtype) * losses
        return jnp.mean(losses)

    def _label(self, name: str) -> str:
        return f"residual {name!r} of {type(self).__name__}"

    def first_weights(self, params: Any, batch: Any) -> dict[str, Any]:
        """Returns what the rules remember at first, by name."""
        return {
            name: rule.init(jax.eval_shape(partial(self.evaluate, name), params, batch))
            for name, rule in self.weights.items()
        }

    def next_weights(
        self, states: Mapping[str, Any], params: Any, batch: Any
    ) -> tuple[dict[str, jax.Array], dict[str, Any]]:
        """Returns the weights at some parameters, constants, and what rules remember."""
        weights, after = {}, {}
        for name, rule in self.weights.items():
            residual = jax.lax.stop_gradient(self.evaluate(name, params, batch))
            shapes = [
                [leaf.shape for leaf in jax.tree.leaves(tree)]
                for tree in (states[name], jax.eval_shape(rule.init, residual))
            ]
            if shapes[0] != shapes[1]:
                raise ValueError(
                    f"the weights of {self._label(name)} are of another batch: the state "
                    f"has shapes {shapes[0]}, this batch needs {shapes[1]}"
                )
            with inside(f"weights of {self._label(name)}"):
                weights[name], after[name] = rule.update(residual, states[name], batch)
        return weights, after


@dataclass(frozen=True, eq=False)
class WeightedSquares:
    """Loss of one step: mean of squares under weights that are fixed.

    Attributes:
        problem: whose loss is a `MeanSquares`.
        weights: w by name, each in the shape of its residual.
    """

    problem: Lagrangian
    weights: Mapping[str, jax.Array]

    def __call__(self, params: Any, batch: Any = None) -> jax.Array:
        """Evaluates the loss, ()."""
        loss: Any = self.problem.loss
        return loss.weighted(self.weights, params, batch)
