"""A whole run compiles once: counted in traces of the loss and of the step."""

from itertools import product

import chex
import jax
import jax.numpy as jnp
import optax
import pytest

import jaxcon as jc

SGD = jc.dual_ascent(optax.sgd(0.1))
WAYS = {
    "Lagrangian": {},
    "augmented": {"penalty": 1.0},
    "growing": {"penalty": jc.growing_penalty(1.0, every=3)},
    "nupi": {"dual": jc.nupi(0.1, kp=1.0), "penalty": {"sum": lambda t: 1.0 + t}},
    "method of multipliers": {
        "primal": jc.restart_every(optax.lbfgs(), 3),
        "dual": jc.every(jc.method_of_multipliers(), 3),
        "penalty": jc.adaptive_penalty(),
    },
    "own": {
        "dual": {
            "sum": jc.every(jc.nupi(0.1, kp=1.0), 2),
            "cap": jc.capped(jc.when_stalled(jc.dual_ascent(optax.adam(0.1))), 1.0),
        },
        "penalty": {"cap": jc.growing_penalty(1.0, every=2)},
    },
}


def counted(order=jc.alternating, way="augmented"):
    """A method over batches of points, and the list of its loss's traces."""
    traces = []

    def loss(p, batch):
        traces.append(None)
        return jnp.mean((batch @ p["w"] - p["b"]) ** 2)

    method = order(
        loss,
        jc.Constraints(
            {"sum": lambda p, _: jnp.sum(p["w"]) - 1.0},
            {"cap": lambda p, batch: jnp.mean(batch @ p["w"]) - 5.0},
        ),
        **({"primal": optax.adam(0.01), "dual": SGD} | WAYS[way]),
    )
    params = {"w": jnp.ones(2), "b": 0.0}  # a Python float: weakly typed, if let be
    return method, method.init(params, BATCH), traces


BATCH = jnp.arange(8.0).reshape(4, 2) / 8


@pytest.fixture(autouse=True)
def fresh_counts():
    chex.clear_trace_counter()


@pytest.mark.parametrize(
    ("order", "way"),
    [
        *product([jc.simultaneous, jc.extragradient], ["Lagrangian", "augmented"]),
        *product([jc.alternating], WAYS),
    ],
)
def test_a_step_is_traced_once(order, way):
    method, state, _ = counted(order, way)
    step = jax.jit(chex.assert_max_traces(method.step, n=1))
    for i in range(20):
        state, _ = step(state, BATCH + i)
    assert int(state.step) == 20


def draw(key):
    return jax.random.uniform(key, (4, 2))


RICH = ["method of multipliers", "own"]
SOURCES = {
    "one batch": (lambda: BATCH, None),
    "iterator": (lambda: iter([BATCH + i for i in range(2000)]), None),
    "function": (lambda: draw, jax.random.key(0)),
}


def traces_of_a_fit(source, steps, chunk, way):
    make, key = SOURCES[source]
    method, state, traces = counted(way=way)
    traces.clear()
    jc.fit(method, state, make(), steps=steps, key=key, chunk=chunk, progress=False)
    return len(traces)


@pytest.mark.parametrize(
    ("source", "way"),
    [*product(SOURCES, ["augmented"]), *product(["one batch"], RICH)],
)
def test_a_fit_traces_as_often_whatever_its_length(source, way):
    # Shapes are read once and the loop is traced once; nothing is traced per chunk.
    counts = {
        (steps, chunk): traces_of_a_fit(source, steps, chunk, way)
        for steps, chunk in [(10, 100), (1000, 100), (25, 10)]
    }
    assert set(counts.values()) == {counts[10, 100]}, counts
    # A line search's own evaluations are traced beside the step's.
    assert 1 <= counts[10, 100] <= (3 if "primal" not in WAYS[way] else 9), counts


@pytest.mark.parametrize(
    ("source", "way"),
    [*product(SOURCES, ["augmented"]), *product(["function"], RICH)],
)
@pytest.mark.parametrize(
    "go_on", [False, True], ids=["from the start", "from the result"]
)
def test_a_second_fit_traces_nothing(source, way, go_on):
    make, key = SOURCES[source]
    method, state, traces = counted(way=way)
    options = {"key": key, "chunk": 10, "progress": False}
    result = jc.fit(method, state, make(), steps=25, **options)
    traces.clear()
    jc.fit(method, result.state if go_on else state, make(), steps=40, **options)
    assert not traces


def test_saving_and_resuming_traces_nothing_more(tmp_path):
    method, state, traces = counted()
    options = {"chunk": 10, "progress": False, "checkpoint": tmp_path}
    jc.fit(method, state, BATCH, steps=20, **options)
    traces.clear()
    result = jc.fit(method, state, BATCH, steps=45, **options)
    assert len(result.history.loss) == 25
    assert not traces
