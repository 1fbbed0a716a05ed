"""Tiles of a batch: exact sums and maps in the memory of a few examples at a time.

The k tangents of each example of a whole batch exceed every cache; those of a tile fit.
Tiling changes only the order of a sum: it is no approximation.

optax.microbatching is not used for this: the oldest supported optax (0.2.6) does not
have it, it refuses a batch that the micro-batch does not divide, and nothing here needs
more than jax.
"""

import math
import operator
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax.extend import core

from jaxcon._checks import check_choice, check_function, check_number

Tile = int | Literal["auto"] | None

# BUDGET is the most that one tile keeps alive, in bytes: most of a core's own (L2) cache
# of 2 MiB. A batch of up to SLACK times as much is left whole, since tiles would gain
# little; SLACK_TWICE holds if they cost a second forward pass. Both were measured.
BUDGET = 3 * 2**19
SLACK = 2
SLACK_TWICE = 12
SMALLEST = 8  # examples; below this a vector unit has too little to do
REUSED = 64  # examples for which weights beyond the cache are worth reading once


def value_and_grad(
    loss: Callable[[Any, Any], jax.Array],
    *,
    tile: Tile = "auto",
    reduction: Literal["mean", "sum"] = "mean",
) -> Callable[[Any, Any], tuple[jax.Array, Any]]:
    r"""Returns the mean loss of a batch and its parameter gradient, tile by tile.

    .. math:: (\theta, z) \mapsto (L, \nabla_\theta L), \quad
              L = \frac{1}{n} \sum_{i=1}^n \ell(\theta, z_i)

    Only a tile's intermediates exist at once, forwards and backwards, and the result is
    that of the whole batch up to rounding. A remainder is one more, smaller tile.

    Args:
      loss: params and ONE example to its loss (). It closes over what examples share.
      tile: examples at a time; None for the whole batch; "auto" for as many as fit a
        CPU's cache, but None if there are convolutions, which are slow in loops, and on
        accelerators, where tiling has not been measured.
      reduction: "mean", or "sum" for n times as much.

    Returns:
      A function of params, any pytree of floats, and a batch, any pytree whose leaves
      (n, ...) share the leading axis. It returns the value () and the gradient, like
      params. Its one example has the structure of the batch and leaves (...).

    Raises:
      ValueError: if the reduction is another, e.g. a maximum, whose tiles could not be
        added up, or tile is not a whole number >= 1; when called, if the leading axes
        differ or have no entry, a leaf of the batch has none, or loss is not ().
      TypeError: if loss is not a function, or tile not a number, "auto" or None; when
        called, if the loss or a leaf of params is not real floating point.

    Example:
      >>> import jax.numpy as jnp
      >>> import jaxcon as jc
      >>> loss = lambda w, example: (w * example["x"] - example["y"]) ** 2
      >>> step = jc.derivatives.value_and_grad(loss, tile=2)
      >>> value, gradient = step(1.0, {"x": jnp.arange(3.0), "y": jnp.ones(3)})
      >>> round(float(value), 4), round(float(gradient), 4)
      (0.6667, 1.3333)
    """
    name = "value_and_grad"
    check_function(f"{name}: loss", loss, "(params, example) -> number")
    check_choice(f"{name}: reduction", reduction, ["mean", "sum"])
    tile = _tile(tile, name)

    def checked(params: Any, example: Any) -> jax.Array:
        value = _real(loss(params, example), f"{name}: loss returned a value")
        if value.shape != ():
            raise ValueError(
                f"{name}: loss returned shape {value.shape}; return the loss of one "
                "example, shape ()"
            )
        return value

    def at(params: Any, batch: Any) -> tuple[jax.Array, Any]:
        params = jax.tree_util.tree_map_with_path(
            lambda path, leaf: _real(leaf, f"{name} got {_at('params', path)}"), params
        )
        batch, n = _batch(batch, name, "batch")
        one = _example(batch)
        size = _size(tile, n, lambda: _auto(n, checked, params, one, argnums=(1,)))

        def total(params: Any, examples: Any) -> jax.Array:
            losses = jax.vmap(checked, (None, 0))(params, examples)
            if reduction == "sum":
                return jnp.sum(losses)
            # A sum over n would overflow in half precision where a mean does not.
            return jnp.mean(losses) * (losses.size / n)

        part = jax.value_and_grad(total)
        if size is None:
            return part(params, batch)

        def add(gradients: Any, examples: Any) -> tuple[Any, jax.Array]:
            value, more = part(params, examples)
            return jax.tree.map(jnp.add, gradients, more), value

        tiles, rest = _split(batch, n, size)
        # Many small terms added up in half precision would soon be rounded away.
        zeros = jax.tree.map(
            lambda p: jnp.zeros_like(p, jnp.promote_types(p.dtype, jnp.float32)),
            params,
        )
        gradients, values = jax.lax.scan(add, zeros, tiles)
        if rest is not None:
            gradients, value = add(gradients, rest)
            values = jnp.append(values, value)
        gradients = jax.tree.map(lambda g, p: g.astype(p.dtype), gradients, params)
        return jnp.sum(values), gradients

    return at


def tiled_vmap(f: Callable[..., Any], *, tile: Tile = "auto") -> Callable[..., Any]:
    r"""Returns f mapped over the leading axis of its arguments, tile by tile.

    .. math:: (z_1, \dots, z_n) \mapsto (f(z_1), \dots, f(z_n))

    It is ``jax.vmap(f)`` that keeps only a tile's intermediates, in the backward pass
    too: they are computed again there, by a second forward pass for a third more FLOPs.
    If the loss is a sum over examples, ``value_and_grad`` needs no second pass. A
    constraint with one multiplier per point is no such sum, because the multipliers that
    weigh its residuals are known only after all residuals are.

    Args:
      f: one example, in one or more arguments, to any pytree of arrays. Arrays that it
        closes over, such as params, get their exact gradient.
      tile: examples at a time; None for the whole batch; "auto" for as many as fit a
        CPU's cache, but None if there are convolutions, which are slow in loops, and on
        accelerators, where tiling has not been measured.

    Returns:
      A function of pytrees whose leaves (n, ...) share the leading axis. It returns the
      outputs of f with n in front of every shape.

    Raises:
      ValueError: if tile is not a whole number >= 1; when called, if the leading axes
        differ or have no entry, or a leaf has none.
      TypeError: if f is not a function, or tile not a number, "auto" or None.

    Example:
      >>> import jax.numpy as jnp
      >>> import jaxcon as jc
      >>> square = jc.derivatives.tiled_vmap(lambda x: x @ x, tile=2)
      >>> square(jnp.arange(6.0).reshape(3, 2)).tolist()
      [1.0, 13.0, 41.0]
    """
    name = "tiled_vmap"
    check_function(f"{name}: f", f, "of one example")
    tile = _tile(tile, name)

    def over(*args: Any) -> Any:
        args, n = _batch(args, name, "args")
        size = _size(tile, n, lambda: _auto(n, f, *_example(args), slack=SLACK_TWICE))
        if size is None:
            return jax.vmap(f)(*args)
        # jax.lax.map(batch_size=...) would fail where f returns an empty array.
        mapped = jax.vmap(jax.checkpoint(f))
        tiles, rest = _split(args, n, size)
        _, ys = jax.lax.scan(lambda _, examples: (None, mapped(*examples)), None, tiles)
        ys = jax.tree.map(lambda y: y.reshape(n // size * size, *y.shape[2:]), ys)
        if rest is None:
            return ys
        return jax.tree.map(lambda *two: jnp.concatenate(two), ys, mapped(*rest))

    return over


def auto_tile(
    n: int, bytes_per_example: int, slack: int = SLACK, least: int = SMALLEST
) -> int | None:
    """Returns the tile for n examples, a power of two, or None to leave them whole."""
    if jax.default_backend() != "cpu" or n * bytes_per_example <= slack * BUDGET:
        return None
    nearest = round(math.log2(max(1, BUDGET / bytes_per_example)))
    tile = max(least, 2**nearest)
    return None if tile >= n else tile


def working_set(
    f: Callable[..., Any], *args: Any, argnums: tuple[int, ...] | None = None
) -> int:
    """Returns the most bytes of intermediates that one evaluation of f keeps alive.

    It counts the floats that depend on the arguments numbered by argnums (on any, if
    None), because only they are repeated for every example. It is an estimate from the
    equations as written, which XLA may fuse, and of f alone, not of its backward pass.
    """
    return _peak(*_counted(f, args, argnums))[0]


def _auto(
    n: int,
    f: Callable[..., Any],
    *args: Any,
    argnums: tuple[int, ...] | None = None,
    slack: int = SLACK,
) -> int | None:
    """Returns the tile for n examples of f, from what it reads again and again.

    Convolutions are left whole: each uses what it reads for all of its kernel's entries,
    so that they do not wait for the memory, and XLA's for a CPU are many times slower in
    a loop. Weights beyond the cache are read anew for each tile.
    """
    jaxpr, flags = _counted(f, args, argnums)
    if _convolves(jaxpr):
        return None
    shared = [v for v, flag in zip(jaxpr.invars, flags) if not flag]
    held = sum(_bytes(v.aval) for v in (*shared, *jaxpr.constvars))
    least = REUSED if held > BUDGET else SMALLEST
    return auto_tile(n, _peak(jaxpr, flags)[0], slack, least)


def _counted(
    f: Callable[..., Any], args: tuple[Any, ...], argnums: tuple[int, ...] | None
) -> tuple[core.Jaxpr, list[bool]]:
    """Returns a program, and for each of its inputs whether argnums name it."""
    flags = [
        argnums is None or i in argnums
        for i, arg in enumerate(args)
        for _ in jax.tree.leaves(arg)
    ]
    return jax.make_jaxpr(f)(*args).jaxpr, flags


def _convolves(jaxpr: core.Jaxpr) -> bool:
    return any(
        eqn.primitive.name == "conv_general_dilated"
        or any(map(_convolves, _programs(eqn)))
        for eqn in jaxpr.eqns
    )


def _peak(jaxpr: core.Jaxpr, flags: list[bool]) -> tuple[int, list[bool]]:
    """Returns a program's peak, its inputs left out, and which outputs are counted."""
    uses = [*(eqn.invars for eqn in jaxpr.eqns), jaxpr.outvars]
    last = {v: i for i, used in enumerate(uses) for v in _variables(used)}
    counted = {v for v, flag in zip(jaxpr.invars, flags) if flag}
    alive: dict[core.Var, int] = {}
    peak = 0
    for i, eqn in enumerate(jaxpr.eqns):
        ins = [isinstance(v, core.Var) and v in counted for v in eqn.invars]
        if any(ins):
            inside, outs = _peak_inside(eqn, ins)
            made = {v: _bytes(v.aval) for v, out in zip(eqn.outvars, outs) if out}
            counted |= made.keys()
            new = sum(made.values())
            # The results of a loop exist beside the intermediates of one iteration;
            # those of any other program inside are already among its intermediates.
            new = new + inside if eqn.primitive.name == "scan" else max(new, inside)
            peak = max(peak, sum(alive.values()) + new)
            alive |= made
        for v in _variables([*eqn.invars, *eqn.outvars]):
            if last.get(v, i) == i:
                alive.pop(v, None)
    return peak, [isinstance(v, core.Var) and v in counted for v in jaxpr.outvars]


def _peak_inside(eqn: core.JaxprEqn, ins: list[bool]) -> tuple[int, list[bool]]:
    peak, outs = 0, [False] * len(eqn.outvars)
    for jaxpr in _programs(eqn):
        # The operands of a program inside come last: a cond's index stands before
        # them, a while's condition has its own.
        flags = ins[max(0, len(ins) - len(jaxpr.invars)) :]
        inner, given = _peak(jaxpr, flags)
        while eqn.primitive.name in ("scan", "while"):
            # The carry of an iteration enters the next in an input of that shape.
            carried = [v.aval for v, out in zip(jaxpr.outvars, given) if out]
            more = [x or v.aval in carried for v, x in zip(jaxpr.invars, flags)]
            if more == flags:
                break
            flags = more
            inner, given = _peak(jaxpr, flags)
        peak = max(peak, inner)
        if len(given) == len(outs):
            outs = [a or b for a, b in zip(outs, given)]
    return peak, outs if any(outs) else [True] * len(outs)


def _programs(eqn: core.JaxprEqn) -> Iterator[core.Jaxpr]:
    """Yields the jaxprs inside an equation: of jit, scan, cond, remat, custom_jvp."""
    for value in eqn.params.values():
        for program in value if isinstance(value, tuple) else (value,):
            program = getattr(program, "jaxpr", program)  # of a closed one
            if isinstance(program, core.Jaxpr):
                yield program


def _variables(atoms: Iterable[Any]) -> list[core.Var]:
    return [v for v in atoms if isinstance(v, core.Var)]  # and no literal


def _bytes(aval: Any) -> int:
    floats = jnp.issubdtype(aval.dtype, jnp.inexact)
    return aval.size * aval.dtype.itemsize if floats else 0


def _tile(tile: Tile, name: str) -> Tile:
    if tile is None or (isinstance(tile, str) and tile == "auto"):
        return tile
    kind = f"{name}: tile other than 'auto' and None"
    check_number(kind, tile, least=1, whole=True)
    return operator.index(tile)


def _size(tile: Tile, n: int, auto: Callable[[], int | None]) -> int | None:
    if tile == "auto":
        # The estimate costs one more trace, so it is made only if it can give a tile.
        return auto() if jax.default_backend() == "cpu" and n > SMALLEST else None
    return None if tile is None or tile >= n else tile


def _split(batch: Any, n: int, size: int) -> tuple[Any, Any]:
    """Returns the full tiles (n // size, size, ...) and the remainder, or None."""
    full = n // size * size
    shape = (n // size, size)
    tiles = jax.tree.map(lambda x: x[:full].reshape(*shape, *x.shape[1:]), batch)
    rest = None if full == n else jax.tree.map(lambda x: x[full:], batch)
    return tiles, rest


def _example(batch: Any) -> Any:
    return jax.eval_shape(lambda batch: jax.tree.map(lambda x: x[0], batch), batch)


def _batch(batch: Any, name: str, noun: str) -> tuple[Any, int]:
    """Returns a batch of arrays and its length, or refuses the batch."""
    batch = jax.tree_util.tree_map_with_path(
        lambda path, leaf: _array(leaf, f"{name} got {_at(noun, path)}"), batch
    )
    (path, first), *others = jax.tree_util.tree_leaves_with_path(batch) or [((), None)]
    if first is None:
        raise ValueError(
            f"{name} got {noun} without arrays; pass at least one (n, ...)"
        )
    for where, leaf in ((path, first), *others):
        if leaf.ndim == 0:
            raise ValueError(
                f"{name} got {_at(noun, where)} of shape (); every leaf needs a leading "
                "axis of n examples, close over what all of them share"
            )
        if leaf.shape[0] != first.shape[0]:
            raise ValueError(
                f"{name} got {_at(noun, path)} of shape {first.shape} and "
                f"{_at(noun, where)} of shape {leaf.shape}; all leaves share the "
                "leading axis of n examples"
            )
    if first.shape[0] == 0:
        raise ValueError(
            f"{name} got {_at(noun, path)} of shape {first.shape}; pass at least one "
            "example"
        )
    return batch, first.shape[0]


def _real(leaf: Any, what: str) -> jax.Array:
    array = _array(leaf, what)
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise TypeError(
            f"{what} of dtype {array.dtype}; a gradient needs real floating point"
        )
    return array


def _array(leaf: Any, what: str) -> jax.Array:
    try:
        # Otherwise a tuple would be stacked silently.
        if jax.tree_util.treedef_is_leaf(jax.tree.structure(leaf)):
            return jnp.asarray(leaf)
    except (TypeError, ValueError):
        pass
    raise TypeError(f"{what} of type {type(leaf).__name__}; an array is needed")


def _at(noun: str, path: Any) -> str:
    return noun + jax.tree_util.keystr(path)
