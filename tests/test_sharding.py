"""A step over several devices: the batch split, everything else as on one."""

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


@pytest.fixture(scope="module")
def seen():
    flags = "--xla_force_host_platform_device_count=4"
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def test_step_on_a_batch_split_over_devices_is_that_on_one(seen):
    assert seen["devices"] == 4
    assert seen["moved"] > 0.1
    # Twenty steps of means summed in another order, of numbers near one.
    assert seen["gap"] < 2e-5


def test_multiplier_is_the_same_on_every_device(seen):
    assert seen["copies"] == 1


def test_indexed_multipliers_stay_split(seen):
    assert seen["table"] == 4
