"""To flax nnx and back: the only file that imports flax, and only when it is used."""

from typing import Any

import jax

from jaxcon.layers._networks import Apply, Network


def functional(module: Any) -> tuple[Apply, Any]:
    """A flax nnx module as a pure function and its parameters.

    Args:
        module: any `flax.nnx.Module`. What it holds besides `nnx.Param` (statistics, keys)
            stays as it is now: call ``module.eval()`` first where that matters.

    Returns:
        apply and params: ``apply(params, x)`` is ``module(x)``; ``nnx.update(module,
        params)`` puts trained parameters back.

    Raises:
        ImportError: flax is not installed.
        TypeError: not an nnx module.

    Example:
        >>> import jaxcon as jc
        >>> from flax import nnx
        >>> apply, params = jc.functional(nnx.Linear(2, 3, rngs=nnx.Rngs(0)))
        >>> apply(params, jax.numpy.ones(2)).shape
        (3,)
    """
    nnx = _nnx("jc.functional")
    if not isinstance(module, nnx.Module):
        raise TypeError(
            f"jc.functional takes a flax nnx module, got {type(module).__name__}; "
            "of a linen module, module.apply is the pure function already"
        )
    graph, params, rest = nnx.split(module, nnx.Param, ...)

    def apply(params: Any, x: jax.Array) -> jax.Array:
        return nnx.merge(graph, params, rest)(x)

    return apply, params


def module(network: Network, *, rngs: Any) -> Any:
    """A network as a flax nnx module, for any leading batch axes.

    Args:
        network: from `jaxcon.layers`.
        rngs: `flax.nnx.Rngs`, whose "params" stream seeds the parameters.

    Returns:
        An `nnx.Module`: ``module(x)`` maps (…, d) to (…) or (…, m), and
        ``module.certificate()`` says what holds of the parameters it has now.

    Raises:
        ImportError: flax is not installed.

    Example:
        >>> import jaxcon as jc
        >>> from flax import nnx
        >>> price = jc.layers.module(jc.layers.free(2), rngs=nnx.Rngs(0))
        >>> price(jax.numpy.ones((5, 2))).shape
        (5,)
    """
    nnx = _nnx("jc.layers.module")

    class Module(nnx.Module):
        def __init__(self) -> None:
            leaves, self.structure = jax.tree.flatten(network.init(rngs.params()))
            self.leaves = nnx.List([nnx.Param(leaf) for leaf in leaves])

        def _params(self) -> Any:
            return jax.tree.unflatten(
                self.structure, [leaf[...] for leaf in self.leaves]
            )

        def __call__(self, x: jax.Array) -> jax.Array:
            params = self._params()
            if x.ndim == 1:
                return network.apply(params, x)
            flat = x.reshape(-1, x.shape[-1])
            y = jax.vmap(lambda one: network.apply(params, one))(flat)
            return y.reshape(*x.shape[:-1], *y.shape[1:])

        def certificate(self) -> Any:
            return network.certificate(self._params())

    return Module()


def _nnx(what: str) -> Any:
    """flax.nnx, or one line that says how to get it."""
    try:
        from flax import nnx
    except ImportError as error:
        raise ImportError(f"{what} needs flax: pip install 'jaxcon[flax]'") from error
    return nnx
