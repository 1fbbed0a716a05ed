"""Which rows of a batch an entry of a residual reads."""

import jax
import jax.numpy as jnp
import pytest
from tables import assert_each

import jaxcon as jc
from jaxcon.derivatives import Partial, derivatives, laplacian, rows_of

NETWORK = (
    jc.layers.mlp(2, width=4)
    .then(jc.layers.box_boundary([0.0, 0.0], [1.0, 1.0], 0.0))
    .then(jc.layers.neumann(0, 0.0, 1.0, 0.0, 0.0))
)
CONVEX = jc.layers.convex(2, width=4)
BATCH = {
    "k": 3.0,
    "key": jax.random.key(0),
    "x": jnp.ones((7, 2)),
    "y": jnp.ones(7),
    "z": jnp.ones((4, 2)),
}
X, Y, Z = 2, 3, 4  # their numbers among the leaves
KERNEL = jnp.ones((1, 1, 3))


def u(x):
    return NETWORK.apply(NETWORK.init(jax.random.key(0)), x)


def c(x):
    return CONVEX.apply(CONVEX.init(jax.random.key(0)), x)


def solved(v):
    return jnp.linalg.solve(jnp.eye(2) + jnp.outer(v, v), v)[0]


def factored(v):
    return jnp.linalg.cholesky(jnp.eye(2) + jnp.outer(v, v))[0, 0]


def looped(b):
    return jax.lax.fori_loop(0, b["k"].astype(int), lambda _, y: jnp.sin(y), b["y"])


def convolved(b):
    found = jax.lax.conv(b["x"][:, None, :], KERNEL, (1,), "SAME")
    return found[:, 0, 0]


APART = {
    "affine": lambda b: b["k"] * b["x"] @ jnp.ones(2) - b["y"],
    "laplacian": lambda b: jax.vmap(laplacian(u))(b["x"]) - b["y"],
    "trace of a Hessian": lambda b: jax.vmap(
        lambda x: jnp.trace(jax.hessian(u)(x)) - c(x)
    )(b["x"]),
    "mixed": lambda b: jax.vmap(derivatives(u, Partial((0, 1))))(b["x"])[0],
    "quadrature": lambda b: jnp.sum(b["x"][:, None] * b["z"][None], axis=(1, 2)),
    "scan": lambda b: jax.lax.scan(
        lambda y, z: (jnp.sin(y) + z[0], None), b["y"], b["z"]
    )[0],
    "while": looped,
    "cond": lambda b: jax.lax.cond(b["k"] > 0, jnp.sin, jnp.cos, b["y"]),
    "solve": lambda b: jax.vmap(solved)(b["x"]),
    "cholesky": lambda b: jax.vmap(factored)(b["x"]),
    "table": lambda b: jnp.arange(50.0)[b["y"].astype(int)],
    "own index": lambda b: jax.vmap(lambda x: x[jnp.argmax(x)])(b["x"]),
    "written": lambda b: b["x"].at[:, 1].set(0.5)[:, 1] + b["y"],
    "sort": lambda b: jnp.sort(b["x"], axis=1)[:, 0],
    "softmax": lambda b: jax.nn.softmax(b["x"])[:, 0],
    "fft": lambda b: jnp.fft.fft(b["x"]).real[:, 0],
    "convolution": convolved,
    "even": lambda b: b["y"] + jnp.zeros(b["y"].shape),
}
W = jnp.ones(7)
MIXED = {
    "mean": lambda b: b["y"] - jnp.mean(b["y"]),
    "number": lambda b: b["y"] / len(b["y"]),
    "power": lambda b: b["y"] ** len(b["y"]),
    "loops": lambda b: jax.lax.fori_loop(0, len(b["y"]), lambda _, y: 2 * y, b["y"]),
    "position": lambda b: b["y"] * jnp.arange(len(b["y"])),
    "places": lambda b: b["y"] * jnp.linspace(0, 1, len(b["y"])),
    "counter": lambda b: b["y"] * jax.lax.iota(float, len(b["y"])),
    "constant": lambda b: b["y"] * W,
    "cumsum": lambda b: jnp.cumsum(b["y"]),
    "roll": lambda b: jnp.roll(b["y"], 1),
    "rev": lambda b: b["y"][::-1],
    "sort": lambda b: jnp.sort(b["y"]),
    "outer": lambda b: jnp.sum(b["x"] @ b["x"].T, axis=1),
    "a row of the outer": lambda b: (b["x"] @ b["x"].T)[0],
    "first": lambda b: b["y"] * b["y"][0],
    "first written": lambda b: b["y"].at[0].set(1.0),
    "first updated": lambda b: jax.lax.dynamic_update_slice(
        b["y"], jnp.zeros(1), (b["k"].astype(int),)
    ),
    "shift": lambda b: jax.lax.pad(b["y"], 0.0, ((1, -1, 0),)),
    "reshaped": lambda b: b["x"].reshape(2, -1).T[:, 0],
    "random": lambda b: b["y"] * jax.random.normal(b["key"], b["y"].shape),
    "until all": lambda b: jax.lax.while_loop(
        lambda y: jnp.max(y) < 10.0, lambda y: y + 1.0, b["y"]
    ),
    "permuted": lambda b: b["y"][jnp.argsort(b["y"])],
    "difference": lambda b: jnp.pad(b["y"], (1, 0))[:-1] - b["y"],
    "norm": lambda b: b["y"] / jnp.linalg.norm(b["y"]),
    "fft": lambda b: jnp.fft.fft(b["y"]).real,
    "of all": lambda b: (
        b["y"] - jax.vmap(lambda y: jax.lax.pmean(y, "rows"), axis_name="rows")(b["y"])
    ),
    "of nothing": lambda b: jnp.ones(7),
    "a mean": lambda b: jnp.mean(b["y"]),
}


@pytest.mark.parametrize("compiled", [False, True], ids=["plain", "jit"])
def test_rows_of_finds_residuals_that_run_over_rows(compiled):
    wrapped = jax.jit if compiled else lambda f: f
    batch = BATCH | {"k": jnp.asarray(3.0)}

    def check(name):
        found = rows_of(wrapped(APART[name]), batch)
        assert found == (X, Y), found

    assert_each(APART, check)


def test_rows_of_leaves_out_those_that_mix_rows():
    batch = BATCH | {"k": jnp.asarray(3.0)}

    def check(name):
        found = rows_of(MIXED[name], batch)
        assert found is None, found

    assert_each(MIXED, check)


def test_rows_of_finds_the_leaf_whose_rows_are_read_one_by_one():
    # As many points of a quadrature, all of which every entry reads.
    batch = {"x": jnp.ones((7, 2)), "z": jnp.ones((7, 2))}
    found = rows_of(lambda b: jnp.sum(b["x"][:, None] * b["z"][None], (1, 2)), batch)
    assert found == (0,)
