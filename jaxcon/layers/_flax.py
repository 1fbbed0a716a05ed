"""Conversion to and from flax nnx modules; flax is imported only when it is used."""

import re
from typing import Any

import jax
import jax.numpy as jnp
from jax.tree_util import keystr

from jaxcon._checks import described
from jaxcon.layers._networks import Apply, Network


def from_module(module: Any) -> tuple[Apply, Any]:
    """Splits a flax nnx module into a pure function and its parameters.

    Args:
        module: any `flax.nnx.Module`. Its variables other than `nnx.Param` (statistics,
            keys) stay as they are now: call ``module.eval()`` first where that matters.

    Returns:
        apply and params: ``apply(params, x)`` is ``module(x)``; ``nnx.update(module,
        params)`` puts trained parameters back.

    Raises:
        ImportError: flax is not installed.
        TypeError: not an nnx module.

    Example:
        >>> import jax.numpy as jnp, jaxcon as jc
        >>> from flax import nnx
        >>> apply, params = jc.from_module(nnx.Linear(2, 3, rngs=nnx.Rngs(0)))
        >>> apply(params, jnp.ones(2)).shape
        (3,)
    """
    nnx = _nnx("jc.from_module")
    if not isinstance(module, nnx.Module):
        raise TypeError(
            f"jc.from_module takes a flax nnx module, got {type(module).__name__}; "
            "of a linen module, module.apply is the pure function already"
        )
    graph, params, rest = nnx.split(module, nnx.Param, ...)

    def apply(params: Any, x: jax.Array) -> jax.Array:
        return nnx.merge(graph, params, rest)(x)

    return apply, params


def module(network: Network, *, rngs: Any) -> Any:
    """Converts a network into a flax nnx module, for any leading batch axes.

    Args:
        network: from `jaxcon.layers`.
        rngs: `flax.nnx.Rngs`, whose "params" stream seeds the parameters.

    Returns:
        An `nnx.Module`: ``module(x)`` maps (…, d) to (…) or (…, m), and
        ``module.certificate()`` is the certificate at its present parameters.

    Raises:
        ImportError: flax is not installed.
        TypeError: network is no network, or rngs no `flax.nnx.Rngs`.

    Example:
        >>> import jax.numpy as jnp, jaxcon as jc
        >>> from flax import nnx
        >>> network = jc.layers.module(jc.layers.mlp(2), rngs=nnx.Rngs(0))
        >>> network(jnp.ones((5, 2))).shape
        (5,)
    """
    nnx = _nnx("jc.layers.module")
    if not isinstance(network, Network):
        raise TypeError(
            "module: network must be a Network of jaxcon.layers, got "
            f"{described(network)}"
        )
    if not isinstance(rngs, nnx.Rngs):
        raise TypeError(f"module: rngs must be flax.nnx.Rngs, got {described(rngs)}")
    shapes = jax.eval_shape(network.init, jax.random.key(0))
    paths, structure = jax.tree_util.tree_flatten_with_path(shapes)
    # An attribute for each array: flax 0.11 has no lists of them, 0.12 no plain ones.
    names = [
        re.sub(r"\W+", "_", f"params{keystr(path)}").strip("_") for path, _ in paths
    ]

    class Module(nnx.Module):
        def __init__(self) -> None:
            params = network.init(rngs.params())
            for name, leaf in zip(names, jax.tree.leaves(params)):
                setattr(self, name, nnx.Param(leaf))

        def _params(self) -> Any:
            return jax.tree.unflatten(structure, [getattr(self, n)[...] for n in names])

        def __call__(self, x: jax.Array) -> jax.Array:
            params, x = self._params(), jnp.asarray(x)
            if x.ndim == 0:
                raise ValueError("module takes x of shape (…, d), got ()")
            if x.ndim == 1:
                return network.apply(params, x)
            flat = x.reshape(-1, x.shape[-1])
            y = jax.vmap(lambda one: network.apply(params, one))(flat)
            return y.reshape(*x.shape[:-1], *y.shape[1:])

        def certificate(self) -> Any:
            return network.certificate(self._params())

    return Module()


def _nnx(what: str) -> Any:
    """Returns flax.nnx, or raises an error with the line that installs flax."""
    try:
        from flax import nnx
    except ImportError as error:
        raise ImportError(f"{what} needs flax: pip install 'jaxcon[flax]'") from error
    return nnx
