"""Tiles against the whole batch: equal results, less memory, one compilation."""

import re
from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tables import assert_each, assert_refused

from jaxcon.derivatives import _tiling, laplacian
from jaxcon.derivatives._tiling import (
    auto_tile,
    tiled_vmap,
    value_and_grad,
    working_set,
)

N = 10
TILES = [1, 3, np.int64(8), N, 3 * N, None, "auto"]
# Half of what these tests take is machine code whose speed does not matter.
COMPILER = {
    "xla_backend_optimization_level": 0,
    "xla_cpu_parallel_codegen_split_count": 1,
}
compiled = partial(jax.jit, compiler_options=COMPILER)


def network(params, x):
    return params["out"] @ jnp.tanh(params["hidden"] @ x + params["bias"])


def loss(params, example):
    residual = laplacian(partial(network, params))(example["x"]) - example["y"]
    return residual**2


@pytest.fixture
def params(x64):
    hidden = np.sin(np.arange(8.0)).reshape(4, 2)
    return {"hidden": hidden, "bias": np.linspace(-1, 1, 4), "out": np.ones(4)}


@pytest.fixture
def batch(x64):
    x = np.cos(np.arange(2.0 * N)).reshape(N, 2)
    return {"x": x, "y": np.linspace(0.0, 1.0, N)}


@pytest.fixture
def small_budget(monkeypatch):
    """So small that "auto" makes tiles of 8 even of these batches."""
    monkeypatch.setattr(_tiling, "BUDGET", 64)


def whole(loss, reduction=jnp.mean):
    """The same by jax alone, with nothing tiled."""
    return jax.value_and_grad(
        lambda params, batch: reduction(jax.vmap(partial(loss, params))(batch))
    )


def assert_close(a, b):
    chex.assert_trees_all_equal_shapes_and_dtypes(a, b)
    # Sums of ten numbers of order one in another order: a few roundings.
    chex.assert_trees_all_close(a, b, rtol=1e-12, atol=1e-12)


def assert_all_close(found, expected):
    """Asserts that the results of all tiles, a dict, are those of the whole batch."""
    assert_each(found, lambda tile: assert_close(found[tile], expected))


def test_value_and_grad_in_tiles_is_that_of_the_whole_batch(
    params, batch, small_budget
):
    @compiled
    def every(params, batch):
        found = {
            str(tile): value_and_grad(loss, tile=tile)(params, batch) for tile in TILES
        }
        return found, whole(loss)(params, batch)

    assert_all_close(*every(params, batch))


def test_value_and_grad_of_a_sum_without_jit(params, batch):
    def cubic(params, example):
        return network(params, example["x"]) ** 3 * example["y"]

    given = value_and_grad(cubic, tile=4, reduction="sum")(params, batch)
    assert_close(given, compiled(whole(cubic, jnp.sum))(params, batch))


def test_value_and_grad_under_vmap_over_params(params, batch, small_budget):
    def squared(params, example):
        return (network(params, example["x"]) - example["y"]) ** 2

    @compiled
    def every(many, batch):
        def mapped(step):
            return jax.vmap(step, (0, None))(many, batch)

        tiles = (4, "auto")
        found = {str(n): mapped(value_and_grad(squared, tile=n)) for n in tiles}
        return found, mapped(whole(squared))

    many = jax.tree.map(lambda p: np.stack([p, 2 * p, -p]), params)
    assert_all_close(*every(many, batch))


def test_value_and_grad_of_a_batch_of_keys_in_a_tuple(params, key):
    def noisy(params, example):
        key, (x, label) = example
        return network(params, x + jax.random.normal(key, x.shape)) * label

    @compiled
    def both(params, batch):
        steps = value_and_grad(noisy, tile=4), whole(noisy)
        return [step(params, batch) for step in steps]

    batch = (jax.random.split(key, N), (np.ones((N, 2)), np.arange(N)))
    assert_close(*both(params, batch))


def test_value_and_grad_can_be_differentiated_again(params, batch):
    def square(step):
        return lambda params: sum(
            jnp.sum(g**2) for g in jax.tree.leaves(step(params, batch)[1])
        )

    def cubic(params, example):
        return network(params, example["x"]) ** 3

    @compiled
    def both(params):
        steps = value_and_grad(cubic, tile=4), whole(cubic)
        return [jax.grad(square(step))(params) for step in steps]

    assert_close(*both(params))


def test_value_and_grad_in_half_precision_adds_up_in_single():
    # In bfloat16, 256 + 1 is 256: added up there, the sum would stop growing.
    @compiled
    def every(params, batch):
        return {
            str(tile): value_and_grad(lambda w, x: w * x, tile=tile, reduction="sum")(
                params, batch
            )
            for tile in (8, 5, None)
        }

    found = every(np.ones((), jnp.bfloat16), np.ones(2048, jnp.bfloat16))
    for value, gradient in found.values():
        assert (value, gradient) == (2048, 2048)
        assert value.dtype == gradient.dtype == jnp.bfloat16


def test_value_and_grad_takes_a_python_float_as_a_parameter():
    value, gradient = value_and_grad(lambda w, x: w * x, tile=2)(3.0, np.ones(5))
    assert (value, gradient) == (3, 1)
    assert gradient.shape == ()


def test_tiled_vmap_is_vmap(params, batch, small_budget):
    def f(params, x, other):
        return {"a": network(params, x) * other["y"], "b": (jnp.outer(x, x), x[:0])}

    # One weight per point, known only when all values are: an augmented Lagrangian.
    def weighed(vmap, params, batch):
        values = vmap(partial(f, params))(batch["x"], {"y": batch["y"]})
        total = values["a"] @ jax.lax.stop_gradient(values["a"] - 1.0) + sum(
            jnp.sum(b**2) for b in values["b"]
        )
        return total, values

    @compiled
    def every(params, batch):
        def step(vmap):
            slope = jax.grad(partial(weighed, vmap), (0, 1), has_aux=True)
            return slope(params, batch)

        found = {str(tile): step(partial(tiled_vmap, tile=tile)) for tile in TILES}
        return found, step(jax.vmap)

    assert_all_close(*every(params, batch))


def test_tiled_vmap_of_keys_and_forward_derivatives(key, x64):
    def draw(key):
        return jax.random.normal(key), key

    @compiled
    def every(keys, x):
        _, tangent = jax.jvp(tiled_vmap(jnp.sin, tile=4), (x,), (jnp.ones(N),))
        return tiled_vmap(draw, tile=4)(keys), jax.vmap(draw)(keys), tangent

    x = np.linspace(0.0, 1.0, N)
    keys = jax.random.split(key, N)
    (noise, same), (plain, _), tangent = every(keys, x)
    np.testing.assert_array_equal(noise, plain)
    assert jnp.array_equal(jax.random.key_data(same), jax.random.key_data(keys))
    assert_close(tangent, jnp.asarray(np.cos(x)))


def temporary(f, *args):
    program = compiled(f).lower(*args).compile()
    return program.memory_analysis().temp_size_in_bytes


def test_tiled_vmap_and_value_and_grad_need_the_memory_of_a_tile():
    width, layers = 64, 6
    shape = jax.ShapeDtypeStruct

    def deep(weights, x):
        for _ in range(layers):
            x = jnp.tanh(weights @ x)
        return jnp.mean(x)

    weights, x = shape((width, width), "float32"), shape((width,), "float32")
    size = working_set(deep, weights, x, argnums=(1,))
    n = 16 * _tiling.SLACK * _tiling.BUDGET // size  # compiled and never run
    points = shape((n, width), "float32")

    def constrained(vmap, weights, points):
        residuals = vmap(partial(deep, weights))(points)
        return residuals @ jax.lax.stop_gradient(residuals)

    def smaller(make):
        """How much smaller than the whole batch's the memory of tiles is."""
        sizes = [
            temporary(make(tile), weights, points) for tile in (None, n // 128, "auto")
        ]
        return sizes[0] / np.array(sizes[1:])

    assert min(smaller(lambda tile: value_and_grad(deep, tile=tile))) > 8
    backwards = smaller(
        lambda tile: jax.grad(partial(constrained, partial(tiled_vmap, tile=tile)))
    )
    assert min(backwards) > 4


@pytest.mark.parametrize("tile", [4, "auto"])
def test_value_and_grad_is_compiled_once(params, batch, tile, small_budget):
    def linear(params, example):
        return network(params, example["x"])

    chex.clear_trace_counter()
    params = jax.tree.map(jnp.asarray, params)
    step = compiled(chex.assert_max_traces(value_and_grad(linear, tile=tile), n=1))
    for _ in range(3):
        params = step(params, batch)[1]
    assert step._cache_size() == 1


def test_value_and_grad_traces_the_loss_once_per_shape_of_tile(params, batch):
    traces = []

    def counted(params, example):
        traces.append(None)
        return network(params, example["x"])

    jax.eval_shape(value_and_grad(counted, tile=5), params, batch)
    assert len(traces) == 1
    jax.eval_shape(value_and_grad(counted, tile=4), params, batch)
    assert len(traces) == 3  # the tile's and the remainder's


X, FLOATS = np.ones((4, 3), "float32"), np.ones(4, "float32")


def product(w, x):
    return jnp.sum(w * x)


REFUSED = {
    "reduction": (
        lambda: value_and_grad(product, reduction="max"),
        ValueError,
        "value_and_grad: reduction must be 'mean' or 'sum', got 'max'",
    ),
    "tile of zero": (
        lambda: value_and_grad(product, tile=0),
        ValueError,
        "value_and_grad: tile other than 'auto' and None must be a "
        "whole number >= 1, got 0",
    ),
    "tile of half": (
        lambda: tiled_vmap(jnp.sin, tile=0.5),
        ValueError,
        "tiled_vmap: tile other than 'auto' and None must be a "
        "whole number >= 1, got 0.5",
    ),
    "tile of truth": (
        lambda: tiled_vmap(jnp.sin, tile=True),
        TypeError,
        "tiled_vmap: tile other than 'auto' and None must be a "
        "whole number >= 1, got True",
    ),
    "tile of another word": (
        lambda: value_and_grad(product, tile="all"),
        TypeError,
        "value_and_grad: tile other than 'auto' and None must be a "
        "whole number >= 1, got 'all'",
    ),
    "no loss": (
        lambda: value_and_grad(1.0),
        TypeError,
        "value_and_grad: loss must be a function (params, example) -> number, got float",
    ),
    "nothing to map": (
        lambda: tiled_vmap(None),
        TypeError,
        "tiled_vmap: f must be a function of one example, got NoneType",
    ),
    "loss of a shape": (
        lambda: value_and_grad(lambda w, x: w * x)(1.0, X),
        ValueError,
        "value_and_grad: loss returned shape (3,); return the loss of one example, "
        "shape ()",
    ),
    "loss that counts": (
        lambda: value_and_grad(lambda w, x: jnp.argmax(x), tile=2)(1.0, X),
        TypeError,
        "value_and_grad: loss returned a value of dtype int32; a gradient needs real "
        "floating point",
    ),
    "loss with more": (
        lambda: value_and_grad(lambda w, x: (w, x))(1.0, X),
        TypeError,
        "value_and_grad: loss returned a value of type tuple; an array is needed",
    ),
    "lengths": (
        lambda: value_and_grad(product)(1.0, {"x": X, "y": (FLOATS[:2],)}),
        ValueError,
        "value_and_grad got batch['x'] of shape (4, 3) and batch['y'][0] of shape "
        "(2,); all leaves share the leading axis of n examples",
    ),
    "lengths of arguments": (
        lambda: tiled_vmap(product)(X, FLOATS[:2]),
        ValueError,
        "tiled_vmap got args[0] of shape (4, 3) and args[1] of shape (2,); all leaves "
        "share the leading axis of n examples",
    ),
    "a number in the batch": (
        lambda: value_and_grad(product)(1.0, {"t": 2.0, "x": X}),
        ValueError,
        "value_and_grad got batch['t'] of shape (); every leaf needs a leading axis of "
        "n examples, close over what all of them share",
    ),
    "a word in the batch": (
        lambda: value_and_grad(product)(1.0, {"name": "sin", "x": X}),
        TypeError,
        "value_and_grad got batch['name'] of type str; an array is needed",
    ),
    "no leaves": (
        lambda: value_and_grad(product)(1.0, {}),
        ValueError,
        "value_and_grad got batch without arrays; pass at least one (n, ...)",
    ),
    "no arguments": (
        lambda: tiled_vmap(product)(),
        ValueError,
        "tiled_vmap got args without arrays; pass at least one (n, ...)",
    ),
    "no examples": (
        lambda: value_and_grad(product)(1.0, X[:0]),
        ValueError,
        "value_and_grad got batch of shape (0, 3); pass at least one example",
    ),
    "integer params": (
        lambda: value_and_grad(product)({"w": FLOATS, "steps": 3}, X),
        TypeError,
        "value_and_grad got params['steps'] of dtype int32; a gradient needs real "
        "floating point",
    ),
    "complex params": (
        lambda: value_and_grad(product)(1j * FLOATS, X),
        TypeError,
        "value_and_grad got params of dtype complex64; a gradient needs real floating "
        "point",
    ),
}


def test_value_and_grad_and_tiled_vmap_refuse_in_one_sentence():
    whole_sentence = r"\A{}(\Z| )"  # notes may follow
    assert_refused(
        (call, error, whole_sentence.format(re.escape(sentence)))
        for call, error, sentence in REFUSED.values()
    )


def looped(x):
    # A turn makes y (16 bytes) beside the carry (16); the stack of three takes 48.
    def turn(carry, _):
        y = jnp.sin(carry)
        return carry + y, y

    return jax.lax.scan(turn, x, None, length=3)


W = np.ones((4, 4), "float32")
COUNTED = {
    # Bytes of float32 vectors of four, the argument itself left out.
    "one result": (lambda x: jnp.sin(x), 16),
    "the former dies": (lambda x: jnp.sin(jnp.sin(jnp.sin(x))), 32),
    "both are kept": (lambda x: (y := jnp.sin(x)) * jnp.cos(jnp.exp(y)), 48),
    "integers do not count": (lambda x: jnp.argmax(x), 0),
    "nor what is closed over": (lambda x: jnp.sin(W) @ x, 16),
    "an outer product does": (lambda x: jnp.sum(x[:, None] * x[None, :]), 16 + 16 + 64),
    "jit": (lambda x: jax.jit(lambda x: jnp.sin(jnp.sin(x)))(x), 32),
    "remat": (lambda x: jax.checkpoint(lambda x: jnp.sin(jnp.sin(x)))(x), 32),
    "custom_jvp": (lambda x: jax.nn.silu(x), 32),
    "cond": (
        lambda x: jax.lax.cond(True, lambda x: jnp.sin(jnp.cos(x)), jnp.sin, x),
        32,
    ),
    "scan": (looped, 16 + 48 + 16 + 16),
    "scan from zero": (
        lambda x: jax.lax.scan(lambda c, _: (c + x, None), jnp.zeros(4), None, 3)[0],
        16 + 16,
    ),
    "while": (
        lambda x: jax.lax.while_loop(
            lambda c: c[0] < 9.0, lambda c: jnp.exp(jnp.sin(c)) + x, jnp.zeros(4)
        ),
        32,
    ),
}


def test_working_set_counts_what_is_alive_at_once():
    def check(name):
        f, size = COUNTED[name]
        assert working_set(f, jax.ShapeDtypeStruct((4,), jnp.float32)) == size

    assert_each(COUNTED, check)


def test_working_set_of_one_argument(dtype):
    def f(w, x):
        return jnp.tanh(jax.jit(jnp.sin)(w) @ x)

    w, x = jax.ShapeDtypeStruct((4, 4), dtype), jax.ShapeDtypeStruct((4,), dtype)
    item = np.dtype(dtype).itemsize
    assert working_set(f, w, x, argnums=(1,)) == 8 * item
    assert working_set(f, w, x) == 20 * item  # and sin(w), until it was multiplied


def test_auto_tile_is_the_nearest_power_of_two_to_what_fits():
    for fitting, tile in [(64, 64), (90, 64), (91, 128), (128, 128)]:
        assert auto_tile(10**6, _tiling.BUDGET // fitting) == tile


def test_auto_tile_where_nothing_fits_or_everything_does():
    budget, smallest = _tiling.BUDGET, _tiling.SMALLEST
    assert auto_tile(10**6, budget) == auto_tile(10**6, 9 * budget) == smallest
    assert auto_tile(smallest, budget) is None
    assert auto_tile(10**6, 0) is None
    # A batch of a little more than fits is left whole.
    whole = _tiling.SLACK * 2 * smallest
    assert auto_tile(whole, budget // (2 * smallest)) is None
    assert auto_tile(whole + 1, budget // (2 * smallest)) == 2 * smallest


def loops(loss, params, batch, vmapped=False):
    """How often a step with automatic tiles loops over them."""
    step = value_and_grad(loss)
    if vmapped:
        step = tiled_vmap(partial(loss, params))
        return str(jax.make_jaxpr(step)(batch)).count("scan[")
    return str(jax.make_jaxpr(step)(params, batch)).count("scan[")


def test_convolutions_are_left_whole(small_budget):
    def convolved(kernel, x):
        layer = jax.jit(lambda x: jnp.convolve(x, kernel))
        return jnp.sum(jnp.tanh(layer(x)))

    def dense(kernel, x):
        return jnp.sum(jnp.tanh(kernel * x[:3]))

    kernel, batch = np.ones(3, "float32"), np.ones((64, 20), "float32")
    for vmapped in (False, True):
        assert loops(convolved, kernel, batch, vmapped) == 0
        assert loops(dense, kernel, batch, vmapped) == 1


def test_weights_beyond_the_cache_are_used_for_more_examples(monkeypatch):
    def tile(width):
        w = jax.ShapeDtypeStruct((width, 64), jnp.float32)
        x = jax.ShapeDtypeStruct((64,), jnp.float32)

        def f(w, x):
            return jnp.sum(jnp.tanh(w @ x)[0] * jnp.outer(x, x))

        return _tiling._auto(10**6, f, w, x, argnums=(1,))

    monkeypatch.setattr(_tiling, "BUDGET", 2**17)
    assert tile(64) == _tiling.SMALLEST
    assert tile(1024) == _tiling.REUSED


def test_auto_tile_leaves_accelerators_whole(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
    assert auto_tile(10**6, 10**6) is None
