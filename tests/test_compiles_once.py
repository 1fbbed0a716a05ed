"""A whole run compiles once: counted in traces of the loss and of the step."""

from itertools import product

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from laws import assert_keeps
from tables import assert_each

import jaxcon as jc

SGD = jc.dual_ascent(optax.sgd(0.1))
# Functions: a line search is built where it is needed.
WAYS = {
    "Lagrangian": dict,
    "augmented": lambda: {"penalty": 1.0},
    "growing": lambda: {"penalty": jc.growing_penalty(1.0, every=3)},
    "nupi": lambda: {
        "dual": jc.nupi(0.1, kp=1.0),
        "penalty": {"sum": lambda t: 1.0 + t},
    },
    "method of multipliers": lambda: {
        "primal": jc.restart_every(optax.lbfgs(), 3),
        "dual": jc.every(jc.method_of_multipliers(), 3),
        "penalty": jc.adaptive_penalty(),
    },
    "own": lambda: {
        "dual": {
            "sum": jc.every(jc.nupi(0.1, kp=1.0), 2),
            "cap": jc.capped(jc.when_stalled(jc.dual_ascent(optax.adam(0.1))), 1.0),
        },
        "penalty": {"cap": jc.growing_penalty(1.0, every=2)},
    },
}


def counted(order=jc.alternating, method="augmented"):
    """A method over batches of points, and the list of its loss's traces."""
    traces = []

    def loss(p, batch):
        traces.append(None)
        return jnp.mean((batch @ p["w"] - p["b"]) ** 2)

    constraints = jc.Constraints(
        {"sum": lambda p, _: jnp.sum(p["w"]) - 1.0},
        {"cap": lambda p, batch: jnp.mean(batch @ p["w"]) - 5.0},
    )
    how = {"primal": optax.adam(0.01), "dual": SGD, "penalty": None} | WAYS[method]()
    problem = jc.Lagrangian(loss, constraints, penalty=how["penalty"])
    solver = order(problem, how["primal"], how["dual"])
    params = {"w": jnp.ones(2), "b": 0.0}  # a Python float: weakly typed, if let be
    return solver, solver.init(params, BATCH), traces


BATCH = np.arange(8, dtype=np.float32).reshape(4, 2) / 8


@pytest.mark.parametrize(
    ("order", "method"),
    [
        (jc.simultaneous, "augmented"),
        (jc.extragradient, "augmented"),
        *product([jc.alternating], ["augmented", "method of multipliers", "own"]),
    ],
)
def test_step_is_traced_once(order, method):
    chex.clear_trace_counter()
    solver, state, _ = counted(order, method)
    step = jax.jit(chex.assert_max_traces(solver.step, n=1))
    for i in range(20):
        state, _ = step(state, BATCH + np.float32(i))
    assert int(state.step) == 20


def test_step_gives_back_its_state_s_types_so_that_nothing_is_traced_again():
    def check(row):
        solver, state, _ = counted(*row)
        assert_keeps(lambda state: solver.step(state, BATCH)[0], state)

    assert_each(
        [
            *product([jc.simultaneous, jc.extragradient], ["Lagrangian"]),
            *product([jc.alternating], ["Lagrangian", "growing", "nupi"]),
        ],
        check,
    )


def draw(key):
    return jax.random.uniform(key, (4, 2))


SOURCES = {
    "one batch": (lambda: BATCH, None),
    "iterator": (lambda: (BATCH + np.float32(i) for i in range(2000)), None),
    "function": (lambda: draw, 0),
}


@pytest.mark.parametrize(
    ("source", "method"),
    [
        *product(SOURCES, ["augmented"]),
        ("one batch", "own"),
        ("function", "method of multipliers"),
    ],
)
def test_fit_traces_as_often_whatever_its_length_and_never_again(source, method):
    # Shapes are read once and the loop is traced once; nothing is traced for a chunk.
    make, seed = SOURCES[source]
    key = None if seed is None else jax.random.key(seed)
    lengths = [(1000, 100), (10, 100)] + [(25, 10)] * (method == "augmented")
    counts = {}
    for steps, chunk in lengths:
        solver, state, traces = counted(method=method)
        traces.clear()
        options = {"key": key, "chunk": chunk, "progress": False}
        result = jc.fit(solver, state, make(), steps=steps, **options)
        counts[steps, chunk] = len(traces)
    assert len(set(counts.values())) == 1, counts
    # A line search's own evaluations are traced beside the step's.
    assert 1 <= counts[10, 100] <= (3 if method != "method of multipliers" else 9), (
        counts
    )
    traces.clear()
    for start in (state, result.state):
        jc.fit(solver, start, make(), steps=240, **options)
    assert not traces


def test_fit_saved_and_resumed_traces_nothing_more(tmp_path):
    solver, state, traces = counted()
    options = {"chunk": 10, "progress": False, "checkpoint": tmp_path}
    jc.fit(solver, state, BATCH, steps=20, **options)
    traces.clear()
    result = jc.fit(solver, state, BATCH, steps=45, **options)
    assert len(result.history.loss) == 25
    assert not traces
