"""Several devices: a step as on one; derivatives inside and around a shard_map."""

import json
import os
import subprocess
import sys

import pytest

# Four devices have to be asked for before jax starts: hence a process of its own.
PROGRAM = """
import json
import jax, jax.numpy as jnp, numpy as np, optax
from jax.sharding import NamedSharding, PartitionSpec as P
import jaxcon as jc

N, SAMPLES = 16, 64
key = jax.random.key(0)
batch = {
    "x": jax.random.normal(key, (N, 3)),
    "index": jax.random.permutation(key, SAMPLES)[:N],
}
problem = jc.Lagrangian(
    lambda p, b: jnp.mean((b["x"] @ p - 1.0) ** 2),
    jc.Constraints(
        {"mean": lambda p, b: jnp.mean(b["x"] @ p) - 0.25},
        {"each": lambda p, b: b["x"] @ p - 1.5, "point": lambda p, b: b["x"] @ p - 2.0},
    ),
    penalty=jc.growing_penalty(1.0, every=5),
    multipliers={"each": jc.multipliers.indexed(SAMPLES, on="index")},
)
solver = jc.alternating(
    problem,
    optax.chain(jc.clip_by_percentile(50.0), jc.clip_by_z_score(), optax.adam(0.05)),
    jc.nupi(0.5, kp=2.0),
    per_term=optax.chain(jc.balance_by_gradient_norm(), jc.project_conflicts()),
)
step = jax.jit(solver.step)

def run(state, batch):
    for _ in range(20):
        state, info = step(state, batch)
    return state, info

alone, seen_alone = run(solver.init(jnp.zeros(3), batch), batch)
mesh = jax.make_mesh((4,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
split, whole = NamedSharding(mesh, P("data")), NamedSharding(mesh, P())
state = solver.init(jnp.zeros(3), batch)
# What has one number a point or a sample is split as the batch is.
place = lambda leaf: split if leaf.ndim and leaf.shape[0] in (N, SAMPLES) else whole
state = jax.device_put(state, jax.tree.map(place, state))
shared, seen = run(state, jax.device_put(batch, split))
gap = jax.tree.map(
    lambda a, b: float(np.max(np.abs(np.asarray(a, float) - np.asarray(b, float)))),
    (alone, seen_alone), (shared, seen),
)
mu = shared.multipliers.equality["mean"]
print(json.dumps({
    "devices": jax.device_count(),
    "gap": max(jax.tree.leaves(gap)),
    "copies": len({np.asarray(s.data).tobytes() for s in mu.addressable_shards}),
    "moved": float(np.abs(np.asarray(shared.params)).max()),
    "table": len(shared.multipliers.inequality["each"].rows.sharding.device_set),
}))
"""


# Operators called inside a shard_map, and of networks that hold one.
DERIVATIVES = """
import json
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import AxisType, PartitionSpec as P
import jaxcon as jc
from jaxcon import derivatives as dv

jax.config.update("jax_enable_x64", True)
mesh = jax.make_mesh((4,), ("i",), axis_types=(AxisType.Auto,))
W = np.cos(np.arange(9.0)).reshape(3, 3)
points = jax.random.normal(jax.random.key(0), (8, 3))

def recurrent(x):
    return jnp.sum(jax.lax.scan(
        lambda h, a: (jnp.tanh(W @ h * x[0] + a), None), x, jnp.arange(3.0)
    )[0])

def branched(x):
    return jnp.sum(jax.lax.cond(x[0] > 0, jnp.sin, lambda h: h**3, W @ x))

def looped(x):
    turn = lambda c: (c[0] + 1, jnp.sin(c[1] * x))
    return jnp.sum(
        jax.lax.while_loop(lambda c: c[0] < 2.5 + x[0] ** 2, turn, (0 * x[0], x))[1]
    )

def activated(x):
    h = jax.checkpoint(jax.nn.softplus)(W @ x)
    return jnp.sum(jnp.sort(h) * jnp.where(np.arange(3) > 0, x, x * x)) + jnp.prod(x)

programs = dict(recurrent=recurrent, branched=branched, looped=looped, activated=activated)
operators = dict(
    partial=lambda f: dv.partial_derivative(f, 1),
    third=lambda f: dv.partial_derivative(f, 0, 0, 1),
    laplacian=lambda f: dv.laplacian(f, unroll=False),
    hessian=dv.hessian,
    jacobian=lambda f: dv.jacobian(lambda x: jnp.stack([f(x), f(2 * x)])),
    probes=lambda f: dv.laplacian(f, probes=2, key=jax.random.key(0)),
)

def split(f):
    return jax.shard_map(f, mesh=mesh, in_specs=P("i"), out_specs=P("i"))

def every(points, split):
    return {
        name + ", " + kind: split(jax.vmap(make(f)))(points)
        for name, f in programs.items() for kind, make in operators.items()
    }

gaps = jax.jit(lambda points: jax.tree.map(
    lambda a, b: jnp.max(jnp.abs(a - b)), every(points, split), every(points, lambda f: f)
))(points)

def residual(w, points):
    net = lambda w, x: jnp.sum(jnp.tanh(w @ x))
    return jc.shapes.convex(net, 0)(w, points)

def summed(w, points):
    step = dv.value_and_grad(lambda w, x: residual(w, x[None])[0] ** 2, tile=1)
    return step(w, points)[1]

def tiled(points):
    return dv.tiled_vmap(lambda x: dv.laplacian(recurrent)(x), tile=1)(points)

inside = jax.jit(jax.shard_map(
    lambda w, x: (residual(w, x), tiled(x), summed(w, x)),
    mesh=mesh, in_specs=(P(), P("i")), out_specs=(P("i"), P("i"), P()),
))(W, points)
alone = residual(W, points), tiled(points), 4 * summed(W, points)
gaps["shapes"], gaps["tiles"], gaps["gradient"] = (
    jnp.max(jnp.abs(a - b)) for a, b in zip(inside, alone)
)

layer = jax.shard_map(jnp.tanh, mesh=mesh, in_specs=P("i"), out_specs=P("i"))
mapped = jax.pmap(jnp.tanh)
wide = np.cos(np.arange(12.0)).reshape(3, 4)

def held(layer):
    f = lambda x: jnp.sum(layer(x @ wide) ** 2)
    return [make(f) for kind, make in operators.items() if kind != "probes"]

for name, split_layer in (("shard_map", layer), ("pmap", mapped)):
    for n, (a, b) in enumerate(zip(held(split_layer), held(jnp.tanh))):
        gaps[name + str(n)] = jnp.max(jnp.abs(a(points[0]) - b(points[0])))
print(json.dumps({name: float(gap) for name, gap in gaps.items()}))
"""


def printed(program):
    """Returns what a program printed that ran on four devices."""
    flags = "--xla_force_host_platform_device_count=4"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def seen():
    return printed(PROGRAM)


def test_step_on_a_batch_split_over_devices_is_that_on_one(seen):
    assert seen["devices"] == 4
    assert seen["moved"] > 0.1
    # Twenty steps of means summed in another order, of numbers near one.
    assert seen["gap"] < 2e-5


def test_multiplier_is_the_same_on_every_device(seen):
    assert seen["copies"] == 1


def test_indexed_multipliers_stay_split(seen):
    assert seen["table"] == 4


@pytest.mark.slow
def test_derivatives_inside_and_around_a_shard_map_are_those_without():
    gaps = printed(DERIVATIVES)
    assert {name: gap for name, gap in gaps.items() if not gap < 1e-10} == {}
