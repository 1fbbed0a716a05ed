"""A whole run compiles once: counted in traces of the loss and of the step."""

import chex
import jax
import jax.numpy as jnp
import optax
import pytest

import jaxcon as jc


def counted(order=jc.alternating, penalty=1.0):
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
        optax.adam(0.01),
        jc.dual_ascent(optax.sgd(0.1)),
        penalty=penalty,
    )
    params = {"w": jnp.ones(2), "b": 0.0}  # a Python float: weakly typed, if let be
    return method, method.init(params, BATCH), traces


BATCH = jnp.arange(8.0).reshape(4, 2) / 8


@pytest.fixture(autouse=True)
def fresh_counts():
    chex.clear_trace_counter()


@pytest.mark.parametrize("penalty", [None, 1.0])
@pytest.mark.parametrize("order", [jc.simultaneous, jc.alternating, jc.extragradient])
def test_a_step_is_traced_once(order, penalty):
    method, state, _ = counted(order, penalty)
    step = jax.jit(chex.assert_max_traces(method.step, n=1))
    for i in range(20):
        state, _ = step(state, BATCH + i)
    assert int(state.step) == 20


def draw(key):
    return jax.random.uniform(key, (4, 2))


SOURCES = {
    "one batch": (lambda: BATCH, None),
    "iterator": (lambda: iter([BATCH + i for i in range(2000)]), None),
    "function": (lambda: draw, jax.random.key(0)),
}


def traces_of_a_fit(source, steps, chunk):
    make, key = SOURCES[source]
    method, state, traces = counted()
    traces.clear()
    jc.fit(method, state, make(), steps=steps, key=key, chunk=chunk, progress=False)
    return len(traces)


@pytest.mark.parametrize("source", SOURCES)
def test_a_fit_traces_as_often_whatever_its_length(source):
    # Shapes are read once and the loop is traced once; nothing is traced per chunk.
    counts = {
        (steps, chunk): traces_of_a_fit(source, steps, chunk)
        for steps, chunk in [(10, 100), (1000, 100), (25, 10)]
    }
    assert set(counts.values()) == {counts[10, 100]}, counts
    assert 1 <= counts[10, 100] <= 3, counts


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize(
    "go_on", [False, True], ids=["from the start", "from the result"]
)
def test_a_second_fit_traces_nothing(source, go_on):
    make, key = SOURCES[source]
    method, state, traces = counted()
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
