"""Runs that meet bad batches, spikes and signals, and what is left of them."""

import multiprocessing
import os
import signal
import warnings
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest

import jaxcon as jc
from jaxcon.training import DivergedError, Interrupted, NonFiniteError

STEPS, N = 3000, 32


def net(params, x):
    hidden = jnp.tanh(x @ params["w"] + params["b"])
    return hidden @ params["v"] + params["c"]


def truth(x):
    return jnp.tanh(2 * x[..., 0]) + x[..., 1] ** 2 / 2


def loss(params, batch):
    return jnp.mean((jax.vmap(lambda x: net(params, x))(batch["x"]) - batch["y"]) ** 2)


def mean_is_half(params, batch):
    """A constraint of the batch: the mean output, were labels right."""
    outputs = jax.vmap(lambda x: net(params, x))(batch["x"])
    return jnp.mean(outputs - batch["clean"])


RISES = jc.Constraints(
    {"mean": mean_is_half},
    {"rises": jc.shapes.increasing(net, 0, on="points")},
)


def data(seed=0):
    """Batches without a fault, (STEPS, N, ...)."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(-1, 1, size=(STEPS, N, 2)).astype(np.float32)
    clean = np.asarray(truth(x))
    return {
        "x": x,
        "clean": clean,
        "y": clean + 0.1 * rng.normal(size=clean.shape).astype(np.float32),
    }


def some(share, seed=1):
    return np.random.default_rng(seed).random(STEPS) < share


def nan_inputs(batches):
    bad = some(0.01)
    x = batches["x"].copy()
    x[bad, 0, 0] = np.nan
    return batches | {"x": x}, bad


def infinite_label(batches):
    bad = np.arange(STEPS) == 1234
    y = batches["y"].copy()
    y[bad, 3] = np.inf
    return batches | {"y": y}, bad


def outliers(batches):
    far = some(0.01)
    y = batches["y"].copy()
    y[far, 5] = 1e6
    return batches | {"y": y}, np.zeros(STEPS, bool)


def everything(batches):
    bad = np.zeros(STEPS, bool)
    for fault in (outliers, infinite_label, nan_inputs):
        batches, more = fault(batches)
        bad |= more
    return batches, bad


CLIPS = {
    "global norm": optax.clip_by_global_norm(1.0),
    "percentile": jc.clip_by_percentile(50.0),
    "z-score": jc.clip_by_z_score(),
}


@cache
def method(clip):
    schedule = optax.cosine_decay_schedule(1e-2, STEPS)
    return jc.alternating(
        loss,
        RISES,
        optax.chain(CLIPS[clip], optax.adam(schedule)),
        jc.dual_ascent(optax.chain(optax.clip(1.0), optax.sgd(0.1))),
        penalty=1.0,
        multipliers={},
    )


def start():
    k1, k2 = jax.random.split(jax.random.key(0))
    return {
        "w": jax.random.normal(k1, (2, 32)),
        "b": jnp.zeros(32),
        "v": jax.random.normal(k2, (32,)) / 6,
        "c": jnp.zeros(()),
    }


GRID = jc.points.grid([-1.0, -1.0], [1.0, 1.0], 12)


def run(clip, batches):
    batches = batches | {"points": np.broadcast_to(GRID, (STEPS, *GRID.shape))}
    rows = ({name: part[i] for name, part in batches.items()} for i in range(STEPS))
    first = {name: part[0] for name, part in batches.items()}
    state = method(clip).init(start(), first)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = jc.fit(method(clip), state, rows, steps=STEPS, progress=False)
    x = jc.points.uniform(jax.random.key(9), [-1.0, -1.0], [1.0, 1.0], 4000)
    found = jax.vmap(lambda x: net(result.state.params, x))(x)
    return result, float(jnp.sqrt(jnp.mean((found - truth(x)) ** 2)))


@cache
def clean_error(clip):
    return run(clip, data())[1]


@pytest.mark.parametrize("clip", CLIPS)
@pytest.mark.parametrize("fault", [nan_inputs, outliers, infinite_label, everything])
def test_faults_are_counted_and_cost_little(clip, fault):
    batches, bad = fault(data())
    result, error = run(clip, batches)
    print(clip, fault.__name__, error, clean_error(clip), bad.sum())
    assert (
        np.flatnonzero(~result.history.finite).tolist() == np.flatnonzero(bad).tolist()
    )
    assert int(result.state.skipped) == bad.sum()
    for leaf in jax.tree.leaves(result.state.multipliers):
        assert np.isfinite(leaf).all()
    assert error < 1.05 * clean_error(clip)
