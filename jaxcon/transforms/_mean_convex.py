"""Mean of convex functions of known residuals."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax

from jaxcon._checks import check_function, check_real, described, inside
from jaxcon.transforms._mean_squares import MeanSquares


@dataclass(frozen=True, eq=False)
class MeanConvex(MeanSquares):
    r"""Loss that is a convex function of known residuals.

    .. math:: f(\theta) = \sum_k \frac{1}{n_k} \sum_{i=1}^{n_k} \varphi_{ki}(r_{ki}(\theta))

    With :math:`\varphi(r) = \log(1 + e^r) - y r` it is the logistic loss of a score r and a
    label y of 0 or 1, with :math:`\varphi(r) = e^r - y r` Poisson's of a log rate r and a
    count y. `gauss_newton` then takes generalised Gauss-Newton steps, with
    :math:`\varphi''` for the curvature.

    Attributes:
        residuals: name: function (params, batch) -> () or (n,).
        convex: name: function (r, batch) -> an array like r, entry i of entry i of r, and
            convex in it. Residuals that are not named here are squared.
        weights: rule of the weights by name, as of `MeanSquares`.

    Raises:
        TypeError: `residuals` or `convex` is no dict of functions.
        ValueError: `convex` names no residual; when called, a shape differs.

    References:
        Schraudolph, Fast Curvature Matrix-Vector Products for Second-Order Gradient
        Descent (2002), section 3, for the generalised Gauss-Newton matrix.

    Example:
        >>> import jax, jax.numpy as jnp, jaxcon as jc
        >>> def score(p, batch):
        ...     return p * batch["x"]
        >>> def logistic(r, batch):
        ...     return jax.nn.softplus(r) - batch["y"] * r
        >>> loss = jc.MeanConvex({"score": score}, {"score": logistic})
        >>> batch = {"x": jnp.array([1.0, 2.0]), "y": jnp.array([0.0, 1.0])}
        >>> print(f"{loss(0.0, batch):.4f}")                                # log 2
        0.6931
    """

    convex: Mapping[str, Callable[[jax.Array, Any], jax.Array]] = field(
        default_factory=dict
    )

    def __post_init__(self) -> None:
        """Refuses a function that has no name, or one of no residual."""
        super().__post_init__()
        if not isinstance(self.convex, Mapping):
            raise TypeError(
                "MeanConvex: convex must be a dict of functions (r, batch) -> losses by "
                f"name, got {described(self.convex)}"
            )
        for name, function in self.convex.items():
            label = f"convex[{name!r}] of MeanConvex"
            check_function(label, function, "(r, batch) -> losses")
            if name not in self.residuals:
                raise ValueError(
                    f"{label} is of no residual; there are {sorted(self.residuals)}"
                )

    def losses(self, name: str, residual: jax.Array, batch: Any) -> jax.Array:
        """Evaluates the loss of each entry of a residual, in its shape.

        Args:
            name: of the residual.
            residual: its value, () or (n,).
            batch: what it was evaluated on.

        Returns:
            An array like the residual.

        Raises:
            ValueError: the function returns another shape.
        """
        if name not in self.convex:
            return super().losses(name, residual, batch)
        label = f"convex[{name!r}] of MeanConvex"
        with inside(label):
            found = self.convex[name](residual, batch)
        found = check_real(f"{label} returned", found, "real, like its residual")
        if found.shape != residual.shape:
            raise ValueError(
                f"{label} returned shape {found.shape} for residuals of shape "
                f"{residual.shape}; return one loss for each"
            )
        return found
