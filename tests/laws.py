"""The laws that every function of the library keeps, one assertion each.

A law is checked on stacked cases: a pytree of arrays whose leading axis numbers them.
"""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np

# Fused and unfused programs differ by a few roundings of numbers near one.
ROUNDINGS = 16


def stack(trees):
    """Stacks pytrees of one structure leaf by leaf."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def scaled(tree, scales=(0.5, 1.0, 1.75)):
    """Stacks a pytree at several scales; leaves that are not floating stay as they are."""

    def scale(leaf):
        factors = jnp.reshape(jnp.asarray(scales), (-1,) + (1,) * jnp.ndim(leaf))
        if not jnp.issubdtype(jnp.result_type(leaf), jnp.floating):
            return jnp.broadcast_to(leaf, (len(scales), *jnp.shape(leaf)))
        return leaf * factors.astype(jnp.result_type(leaf))

    return jax.tree.map(scale, tree)


def close(roundings=ROUNDINGS, dtype=np.float32):
    """Returns an assertion that two pytrees agree within some roundings near one."""
    tolerance = roundings * float(np.finfo(dtype).eps)
    return partial(chex.assert_trees_all_close, rtol=tolerance, atol=tolerance)


def assert_transforms(function, cases, assert_close=None, eager=1):
    """Asserts that jit is eager evaluation and that vmap is a loop.

    One compiled program holds both the loop and the batch over all cases.

    Args:
        function: pure function of one case.
        cases: stacked cases; their outputs must differ somewhere, or the laws would hold
            of a constant.
        assert_close: asserts that two pytrees agree; `close()` by default.
        eager: the index of the case that is evaluated without compilation as well.

    Returns:
        The outputs of the loop, stacked.
    """
    assert_close = assert_close or close()
    looped, batched = jax.jit(
        lambda cases: (jax.lax.map(function, cases), jax.vmap(function)(cases))
    )(cases)
    with jax.disable_jit():
        alone = function(jax.tree.map(lambda leaf: leaf[eager], cases))
    assert_close(jax.tree.map(lambda leaf: leaf[eager], looped), alone)
    assert_close(batched, looped)
    assert not all(
        np.array_equal(rows[0], rows[-1]) for rows in jax.tree.leaves(looped)
    )
    return looped


def assert_keeps(function, carry):
    """Asserts that a function gives back its argument's structure, shapes and dtypes.

    Nothing is compiled. A weakly typed leaf is refused in the output: a scan would take it
    for another type than the carry's.

    Args:
        function: pure function of one pytree, the step of a scan.
        carry: its argument.
    """
    before, after = jax.eval_shape(lambda carry: (carry, function(carry)), carry)
    chex.assert_trees_all_equal_structs(after, before)
    chex.assert_trees_all_equal_shapes_and_dtypes(after, before)
    for path, leaf in jax.tree_util.tree_leaves_with_path(after):
        assert not leaf.weak_type, jax.tree_util.keystr(path)
