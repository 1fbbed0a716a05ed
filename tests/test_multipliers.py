"""Indexed multipliers against their samples alone, functional ones in closed form."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from jax.extend.core import ClosedJaxpr, Jaxpr

import jaxcon as jc
from jaxcon.multipliers import functional, indexed

ORDERS = {
    "simultaneous": jc.simultaneous,
    "dual first": jc.alternating,
    "primal first": partial(jc.alternating, first="primal"),
    "extragradient": jc.extragradient,
}
OTHERS = ["simultaneous", "primal first", "extragradient"]
KINDS = jc.Constraints._fields
# The schedule has a clock, momentum and Adam a memory, every a count, capped a flag.
DUALS = {
    "sgd": jc.dual_ascent(optax.sgd(0.3)),
    "momentum": jc.dual_ascent(optax.sgd(0.2, momentum=0.8)),
    "adam": jc.dual_ascent(optax.adam(0.1)),
    "schedule": jc.dual_ascent(
        optax.chain(
            optax.clip(0.5), optax.sgd(optax.piecewise_constant_schedule(1.0, {2: 0.5}))
        )
    ),
    "nupi": jc.nupi(0.2, kp=3.0, nu=0.4),
    "pid": jc.pid(1.0, 0.5, 0.3),
    "every": jc.every(jc.dual_ascent(optax.adam(0.1)), 2),
    "capped": jc.capped(jc.dual_ascent(optax.sgd(0.8)), 0.5),
    "restarted": jc.restart_when_feasible(jc.dual_ascent(optax.sgd(0.7))),
}
WITH_PENALTY = {
    "method of multipliers": jc.method_of_multipliers(),
    "every estimate": jc.every(jc.method_of_multipliers(), 2),
}
RHO, SIZE = 2.0, 12
# Some tens of roundings of numbers near 1, in float64.
CLOSE = {"rtol": 1e-12, "atol": 1e-13}


@pytest.fixture(params=ORDERS)
def order(request):
    return ORDERS[request.param]


def assert_same_bits(got, want):
    assert jax.tree.structure(got) == jax.tree.structure(want)
    for g, w in zip(jax.tree.leaves(got), jax.tree.leaves(want)):
        assert g.dtype == w.dtype
        assert np.asarray(g).tobytes() == np.asarray(w).tobytes()


def of_both_kinds(duals):
    """One transform for each constraint."""
    return {f"{name}, {kind}": dual for name, dual in duals.items() for kind in KINDS}


def constraints_of(names, residual):
    """Constraints of these names, `residual(i)` the i-th."""
    return jc.Constraints(
        *(
            {name: residual(i) for i, name in enumerate(names) if name.endswith(kind)}
            for kind in (", equality", ", inequality")
        )
    )


def run(method, params, batches):
    """The state after a scan over `batches`, and its infos."""
    state = method.init(params, jax.tree.map(lambda rows: rows[0], batches))
    return jax.jit(lambda s: jax.lax.scan(method.step, s, batches))(state)


def table_and_state(state, name):
    """The rows of one constraint, and those of its transform's state."""
    (entry,) = [m for kind in state.multipliers for n, m in kind.items() if n == name]
    return entry.rows, state.dual.own[name]


@pytest.mark.parametrize(
    ("order", "penalty"),
    [
        ("dual first", RHO),
        pytest.param("dual first", None, marks=pytest.mark.slow),
        *(pytest.param(name, RHO, marks=pytest.mark.slow) for name in OTHERS),
    ],
)
def test_batches_of_the_same_samples_are_a_dense_run_on_them(x64, order, penalty):
    duals = {name: DUALS[name] for name in ("adam", "nupi", "capped")}
    duals = of_both_kinds(duals if penalty is None else duals | WITH_PENALTY)
    # Sample j of constraint i wants p[i] near y[j]: multipliers and params interact.
    constraints = constraints_of(
        duals, lambda i: lambda p, batch: 0.3 * (p[i] - batch["y"])
    )
    make = partial(
        ORDERS[order],
        lambda p, _: jnp.sum((p - 0.5) ** 2),
        constraints,
        optax.sgd(0.05),
        duals,
        penalty=penalty,
    )
    index, steps = jnp.array([7, 2, 11]), 9
    batches = {
        "y": jnp.tile(jnp.array([-1.0, 0.3, 2.0]), (steps, 1)),
        "index": jnp.tile(index, (steps, 1)),
    }
    start = jnp.linspace(-1.0, 1.0, len(duals))
    tables = {name: indexed(SIZE, on="index") for name in duals}
    dense, want = run(make(), start, batches)
    state, got = run(make(multipliers=tables), start, batches)
    np.testing.assert_allclose(state.params, dense.params, **CLOSE)
    jax.tree.map(lambda g, w: np.testing.assert_allclose(g, w, **CLOSE), got, want)
    rest = np.setdiff1d(np.arange(SIZE), index)
    for kind in KINDS:
        for name, multipliers in getattr(dense.multipliers, kind).items():
            table, rows = table_and_state(state, name)
            np.testing.assert_allclose(table[index], multipliers, **CLOSE)
            assert not table[rest].any()

            def one_for_all(leaf, of_dense):
                # A count stands for all points of a dense run; a flag, for any of them.
                seen = leaf[index] if of_dense.ndim else leaf[index].max()
                np.testing.assert_allclose(seen, of_dense, **CLOSE)

            jax.tree.map(one_for_all, rows, dense.dual.own[name])


def visits(steps=10, batch=4):
    """Random batches of distinct samples, the last two of which are never drawn."""
    rng = np.random.default_rng(0)
    index = np.stack([rng.permutation(SIZE - 2)[:batch] for _ in range(steps)])
    assert len({(index == i).sum() for i in range(SIZE - 2)}) > 2  # clocks differ
    return {"index": index, "r": rng.normal(size=index.shape)}


@cache
def alone(name, kind):
    """A transform's jitted update, and what one sample of that kind starts from."""
    dual = optax.with_extra_args_support((DUALS | WITH_PENALTY)[name])
    start = jc.Constraints(**{kind: {"c": jnp.zeros(())}})
    return jax.jit(dual.update), start, dual.init(start)


@cache
def one_sample_alone(name, kind, residuals):
    """A multiplier and its transform's state, by a loop over its own residuals."""
    update, multiplier, state = alone(name, kind)
    for residual in residuals:
        value = float(getattr(multiplier, kind)["c"])
        estimate = value + RHO * residual
        if kind == "inequality":
            estimate = max(estimate, 0.0)
        climb, state = update(
            jc.Constraints(**{kind: {"c": np.asarray(residual)}}),
            state,
            multiplier,
            estimates=jc.Constraints(**{kind: {"c": np.asarray(estimate)}}),
            penalty=jc.Constraints(**{kind: {"c": np.asarray(RHO)}}),
        )
        multiplier = optax.apply_updates(multiplier, climb)
    return getattr(multiplier, kind)["c"], jax.tree.leaves(state)


@pytest.mark.parametrize(
    "order",
    [pytest.param(o, marks=pytest.mark.slow) for o in ("dual first", *OTHERS)],
    indirect=True,
)
def test_each_sample_s_trajectory_is_that_of_its_own_visits(x64, order):
    # Residuals are the batch's alone, so that nothing couples the samples.
    batches, duals = visits(), of_both_kinds(DUALS | WITH_PENALTY)
    method = order(
        lambda p, _: p**2,
        constraints_of(duals, lambda i: lambda p, batch: batch["r"]),
        optax.sgd(0.1),
        duals,
        penalty=RHO,
        multipliers={name: indexed(SIZE, on="index") for name in duals},
    )
    start = method.init(1.0, jax.tree.map(lambda rows: rows[0], batches))
    state, infos = run(method, 1.0, batches)
    assert infos.finite.all()
    for label in duals:
        name, kind = label.split(", ")
        table, rows = table_and_state(state, label)
        for i in range(SIZE - 2):
            seen = tuple(batches["r"][batches["index"] == i].tolist())
            want = one_sample_alone(name, kind, seen)
            for g, w in zip([table, *jax.tree.leaves(rows)], [want[0], *want[1]]):
                np.testing.assert_allclose(g[i], w, **CLOSE)
        unseen = jax.tree.map(lambda rows: rows[-2:], table_and_state(state, label))
        at_start = jax.tree.map(lambda rows: rows[-2:], table_and_state(start, label))
        assert_same_bits(unseen, at_start)


@pytest.mark.parametrize(
    "kind", [pytest.param("equality", marks=pytest.mark.slow), "inequality"]
)
@pytest.mark.parametrize("name", DUALS | WITH_PENALTY)
def test_a_sample_that_a_batch_has_twice_counts_twice_in_one_move(x64, name, kind):
    def moved(batch):
        method = jc.alternating(
            lambda p, _: p**2,
            jc.Constraints(**{kind: {"c": lambda p, batch: batch["r"]}}),
            optax.sgd(0.1),
            (DUALS | WITH_PENALTY)[name],
            penalty=RHO if name in WITH_PENALTY else None,
            multipliers={"c": indexed(SIZE, on="index")},
        )
        state = method.init(1.0, batch)
        for _ in range(2):
            state, _ = jax.jit(method.step)(state, batch)
        return table_and_state(state, "c")

    twice = {"index": jnp.array([3, 5, 3]), "r": jnp.array([0.2, -0.1, 0.4])}
    once = {"index": jnp.array([3, 5]), "r": jnp.array([0.2 + 0.4, -0.1])}
    jax.tree.map(
        lambda got, want: np.testing.assert_allclose(got, want, **CLOSE),
        moved(twice),
        moved(once),
    )


def line(psi, x):
    return psi["a"] * x + psi["b"]


TABLES = {
    "fit": indexed(SIZE, on="index"),
    "near": indexed(SIZE, on="index"),
    "line": functional(line, {"a": 0.1, "b": jnp.array(0.2)}, on="x"),
}
STYLES = {
    "shared": DUALS["adam"],
    "by name": {
        "fit": DUALS["momentum"],
        "sum": DUALS["sgd"],
        "near": DUALS["nupi"],
        "line": DUALS["adam"],
    },
}


def mixed(order=jc.alternating, dual=DUALS["adam"], size=SIZE):
    """Two tables, dense multipliers and a network under one method."""
    return order(
        lambda p, batch: jnp.sum((p - 1.0) ** 2) * batch["scale"],
        jc.Constraints(
            {
                "fit": lambda p, batch: p[0] - batch["y"],
                "sum": lambda p, _: jnp.sum(p) - 1.0,
            },
            {
                "near": lambda p, batch: (p[1] - batch["y"]) ** 2 - 0.1,
                "line": lambda p, batch: p[1] * batch["x"] - 0.5,
            },
        ),
        optax.adam(0.05),
        dual,
        penalty=1.0,
        multipliers=TABLES
        | {name: indexed(size, on="index") for name in ("fit", "near")},
    )


def sample(i):
    """Batch i of numbered samples: their targets stay, their order does not."""
    index = np.random.default_rng(i).permutation(SIZE)[:4].astype(np.int32)
    y = np.sin(index).astype(np.float32)
    x = np.linspace(0, 1, 3, dtype=np.float32) + np.float32(0.1 * i)
    return {"index": index, "y": y, "x": x, "scale": np.float32(1)}


START = (0.5, -0.25)
FAULTS = {
    "past the end": {"index": np.array([1, 2, SIZE, 3], np.int32)},
    "negative": {"index": np.array([1, -1, 2, 3], np.int32)},
    "residual of a table": {"y": np.array([0, np.nan, 0, 0], np.float32)},
    "residual of a network": {"x": np.array([0, 0, np.inf], np.float32)},
    "loss": {"scale": np.float32(np.nan)},
}


@pytest.mark.parametrize("style", STYLES)
def test_a_broken_batch_leaves_every_bit_and_is_counted(order, style):
    method = mixed(order, STYLES[style])
    step = jax.jit(method.step)
    state = method.init(jnp.array(START), sample(0))
    for i in range(2):
        state, info = step(state, sample(i))
        assert bool(info.finite)
    for fault in FAULTS.values():
        after, info = step(state, sample(2) | fault)
        assert not bool(info.finite)
        assert int(after.skipped) == 1
        assert_same_bits(after._replace(step=state.step, skipped=state.skipped), state)
    after, info = step(after, sample(2))
    assert bool(info.finite)
    for name in ("fit", "near"):
        for new, old in zip(table_and_state(after, name), table_and_state(state, name)):
            leaves = zip(jax.tree.leaves(new), jax.tree.leaves(old), strict=True)
            assert any(not np.array_equal(n, o) for n, o in leaves)


@pytest.mark.parametrize("style", STYLES)
def test_each_kind_moves_as_it_does_alone(x64, style):
    # Residuals of the first step do not know of one another.
    batch, dual = sample(0), STYLES[style]
    method = mixed(dual=dual)
    state, _ = jax.jit(method.step)(method.init(jnp.array(START), batch), batch)
    p = np.array(START)
    near, x = (p[1] - batch["y"]) ** 2 - 0.1, batch["x"]
    slope = jax.nn.sigmoid(0.1 * x + 0.2) * (p[1] * x - 0.5) / x.size
    directions = {
        "fit": p[0] - batch["y"],
        "sum": np.sum(p) - 1.0,
        "near": near,
        "line": {"a": np.sum(slope * x), "b": np.sum(slope)},
    }
    started = jc.Constraints(
        {"fit": jnp.zeros(4), "sum": jnp.zeros(())},
        {"near": jnp.zeros(4), "line": {"a": jnp.array(0.1), "b": jnp.array(0.2)}},
    )
    for kind in KINDS:
        for name, start in getattr(started, kind).items():
            transform = dual[name] if style == "by name" else dual
            alone = jc.Constraints(**{kind: {name: start}})
            direction = jc.Constraints(
                **{kind: {name: jax.tree.map(jnp.asarray, directions[name])}}
            )
            climb, _ = transform.update(direction, transform.init(alone), alone)
            want = getattr(optax.apply_updates(alone, climb), kind)[name]
            got = getattr(state.multipliers, kind)[name]
            if name in ("fit", "near"):
                got = got.rows[batch["index"]]
            elif name == "line":
                got = got.params
            # The batch is of float32, and so is what is made of it.
            jax.tree.map(
                lambda g, w: np.testing.assert_allclose(g, w, rtol=1e-5, atol=1e-6),
                got,
                want,
            )


def test_info_reports_the_batch_s_multipliers():
    method = mixed()
    state = method.init(jnp.array(START), sample(0))
    rows = jnp.arange(SIZE, dtype=jnp.float32)
    multipliers = state.multipliers
    tables = {"fit": jc.multipliers.Table(-rows)}, {"near": jc.multipliers.Table(rows)}
    state = state._replace(
        multipliers=jc.Constraints(
            multipliers.equality | tables[0], multipliers.inequality | tables[1]
        )
    )
    batch = sample(0)
    _, info = jax.jit(method.step)(state, batch)
    assert float(info.multiplier.inequality["near"]) == batch["index"].max()
    assert float(info.multiplier.equality["fit"]) == batch["index"].max()
    density = jax.nn.softplus(0.1 * batch["x"] + 0.2) / 3
    np.testing.assert_allclose(
        info.multiplier.inequality["line"], density.max(), rtol=1e-6
    )
    estimates = method.estimates(state, batch)
    want = jc.multiplier_estimates(
        method.residuals(state.params, batch),
        jc.Constraints(
            {"fit": -rows[batch["index"]], "sum": jnp.zeros(())},
            {"near": rows[batch["index"]], "line": density},
        ),
        1.0,
    )
    # A few roundings of numbers up to ten.
    jax.tree.map(
        lambda g, w: np.testing.assert_allclose(g, w, rtol=1e-5, atol=1e-6),
        estimates,
        want,
    )


@pytest.mark.parametrize("dtype_of_index", [np.int8, np.uint32])
def test_an_index_is_of_any_integer_dtype(dtype_of_index):
    # A size beyond the dtype's range must not wrap around.
    method = mixed(size=300)
    batch = sample(0)
    state = method.init(jnp.array(START), batch)
    want, _ = method.step(state, batch)
    got, _ = method.step(
        state, batch | {"index": batch["index"].astype(dtype_of_index)}
    )
    assert_same_bits(got, want)


def test_starts_are_vmapped():
    method, batch = mixed(), sample(0)
    starts = jnp.array([START, (2.0, 1.0)])
    states = jax.vmap(lambda p: method.init(p, batch))(starts)
    step = jax.jit(jax.vmap(method.step, in_axes=(0, None)))
    after, _ = step(step(states, batch)[0], sample(1))
    for i, start in enumerate(starts):
        alone, _ = method.step(method.init(start, batch), batch)
        alone, _ = method.step(alone, sample(1))
        # Two steps of some roundings of numbers near 1.
        jax.tree.map(
            lambda g, w, i=i: np.testing.assert_allclose(g[i], w, rtol=1e-5, atol=1e-6),
            after,
            alone,
        )


def test_a_donated_state_is_used_up_and_the_step_the_same():
    method, batch = mixed(), sample(0)
    want, _ = jax.jit(method.step)(method.init(jnp.array(START), batch), batch)
    state = method.init(jnp.array(START), batch)
    got, _ = jax.jit(method.step, donate_argnums=0)(state, batch)
    assert state.multipliers.inequality["near"].rows.is_deleted()
    again = method.init(jnp.array(START), batch)  # the network's start is still there
    assert not again.multipliers.inequality["line"].params["b"].is_deleted()
    assert_same_bits(got, want)


def equations(jaxpr):
    """All equations that compute something, those of inner jaxprs included."""
    for eqn in jaxpr.eqns:
        inner = [
            getattr(value, "jaxpr", value)
            for value in eqn.params.values()
            if isinstance(value, (ClosedJaxpr, Jaxpr))
        ]
        for each in inner:
            yield from equations(each)
        if not inner:
            yield eqn


@pytest.mark.parametrize("style", STYLES)
def test_a_step_touches_its_batch_s_rows_and_no_others(order, style):
    size = 54321

    def traced(size):
        method = mixed(order, STYLES[style], size)
        state = jax.eval_shape(method.init, jnp.array(START), sample(0))
        return method, state

    method, state = traced(size)
    jaxpr = jax.make_jaxpr(method.step)(state, sample(0)).jaxpr
    made = {
        eqn.primitive.name
        for eqn in equations(jaxpr)
        for out in eqn.outvars
        if size in out.aval.shape
    }
    read = {
        eqn.primitive.name
        for eqn in equations(jaxpr)
        for var in eqn.invars
        if size in var.aval.shape
    }
    assert made == {"scatter"}
    assert read == {"scatter", "gather"}


def test_a_step_s_cost_does_not_know_the_table_s_size():
    def cost(size):
        method = mixed(size=size)
        state = jax.eval_shape(method.init, jnp.array(START), sample(0))
        program = jax.jit(method.step, donate_argnums=0).lower(state, sample(0))
        compiled = program.compile()
        copies = [line for line in compiled.as_text().splitlines() if " copy(" in line]
        assert not any(f"[{size}]" in line for line in copies)
        return compiled.cost_analysis()["flops"]

    assert cost(10_000) == cost(1_000_000)


@pytest.mark.slow
def test_a_fit_on_numbered_samples_resumes_to_the_bit(tmp_path):
    method = mixed()

    def fit(steps=30, **more):
        batches = map(numbered, range(10**6))
        start = method.init(jnp.array(START), numbered(0))
        # Warnings are errors here: rows follow their samples, so none is due.
        return jc.fit(
            method, start, batches, steps=steps, chunk=5, progress=False, **more
        )

    whole = fit()
    options = ocp.CheckpointManagerOptions(save_interval_steps=1)
    with ocp.CheckpointManager(tmp_path, options=options) as manager:
        fit(checkpoint=manager, callbacks=[lambda state, _: int(state.step) == 15])
    with ocp.CheckpointManager(tmp_path, options=options) as manager:
        resumed = fit(checkpoint=manager)
    assert len(resumed.history.loss) == 15
    assert_same_bits((resumed.state, resumed.best), (whole.state, whole.best))
    # The best iterate is one of the run's; it has all multipliers but the tables.
    assert float(whole.best.loss) == whole.history.loss[int(whole.best.step)]
    assert set(whole.best.multipliers.equality) == {"sum"}
    assert set(whole.best.multipliers.inequality) == {"line"}
    assert np.count_nonzero(whole.state.multipliers.equality["fit"].rows) == SIZE


def numbered(i):
    """The points of the network stay too."""
    return sample(i) | {"x": sample(0)["x"]}


REFUSED = {
    "no index": (indexed(9, on="index"), {}, ["indices", "'index'", "['x', 'y']"]),
    "index of floats": (indexed(9, on="y"), {}, ["integers", "float32"]),
    "index (n, 1)": (
        indexed(9, on="index"),
        {"index": jnp.ones((3, 1), int)},
        ["(n,)", "(3, 1)"],
    ),
    "index of others": (
        indexed(9, on="index"),
        {"index": jnp.ones(2, int)},
        ["indices", "(2,)", "(3,)"],
    ),
    "no points": (functional(line, {}, on="points"), {}, ["functional", "'points'"]),
    "two numbers a point": (
        functional(lambda psi, x: x, 1.0, on="x"),
        {},
        ["functional", "(3, 2)", "(3,)", "one number per point"],
    ),
    "other points": (
        functional(lambda psi, x: psi * x[0], 1.0, on="x"),
        {"x": jnp.ones((4, 2))},
        ["functional", "(4,)", "(3,)"],
    ),
}


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.parametrize("kind", KINDS)
def test_what_fits_no_residual_is_refused_by_name(kind, case):
    how, more, words = REFUSED[case]
    method = one_constraint({"flux": how}, kind)
    batch = {"y": jnp.ones(3), "x": jnp.ones((3, 2))} | more
    with pytest.raises((ValueError, TypeError)) as caught:
        method.init(1.0, batch)
    message = str(caught.value)
    for word in ["'flux'", *words]:
        assert word in message
    assert "\n" not in message


def one_constraint(multipliers, kind="inequality", dual=DUALS["sgd"], **more):
    return jc.alternating(
        lambda p, _: p**2,
        jc.Constraints(**{kind: {"flux": lambda p, batch: p - batch["y"]}}),
        optax.sgd(0.1),
        dual,
        multipliers=multipliers,
        **more,
    )


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: indexed(0, on=None), ValueError, ["whole number >= 1", "0"]),
        (lambda: indexed(2.5, on=None), ValueError, ["whole number", "2.5"]),
        (
            lambda: one_constraint({"flow": indexed(9, on=None)}),
            ValueError,
            ["'flow'", "['flux']"],
        ),
        (lambda: one_constraint({"flux": 9}), TypeError, ["'flux'", "int"]),
        (
            lambda: one_constraint({"flux": indexed(9, on=None)}, dual_batch=True),
            ValueError,
            ["'flux'", "dual_batch"],
        ),
    ],
    ids=["size 0", "size 2.5", "no such constraint", "no kind", "two batches"],
)
def test_kinds_that_cannot_be_are_refused_at_once(make, error, words):
    with pytest.raises(error) as caught:
        make()
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    "dual", [jc.method_of_multipliers(), jc.pid(1.0, 1.0)], ids=["estimates", "pid"]
)
def test_a_network_s_output_cannot_be_set(dual):
    kind = functional(lambda psi, x: psi * x, 1.0, on="y")
    method = one_constraint({"flux": kind}, dual=dual, penalty=1.0)
    batch = {"y": jnp.ones(3)}
    with pytest.raises(
        ValueError, match="'flux' are computed from parameters"
    ) as caught:
        method.step(method.init(1.0, batch), batch)
    assert "\n" not in str(caught.value)


# min (x - p)² s.t. x <= 1, or x = 1, for all p in [-1, 3] at once: lambda = 2 max(0, p - 1)
# and mu = 2 (p - 1).
CLOSED_FORMS = {
    "inequality": (lambda p: 2 * np.maximum(0, p - 1), lambda p: np.minimum(p, 1)),
    "equality": (lambda p: 2 * (p - 1), np.ones_like),
}
POINTS, STEPS = 256, 8000


def hills(params, p):
    """A tanh network of one input."""
    return jnp.tanh(p * params["w"] + params["b"]) @ params["v"] + params["c"]


# Its units are spread over [-1, 3]; all it says is zero.
FLAT = {
    "w": jnp.full(24, 4.0),
    "b": -4 * jnp.linspace(-1.2, 3.2, 24),
    "v": jnp.zeros(24),
    "c": jnp.zeros(()),
}


# A line holds the equality's multiplier exactly; the inequality's has a kink.
@pytest.mark.parametrize(
    ("kind", "apply", "start"),
    [("equality", line, {"a": 0.0, "b": 0.0}), ("inequality", hills, FLAT)],
    ids=KINDS,
)
def test_a_network_learns_the_multiplier_of_every_parameter(kind, apply, start):
    def residual(params, batch):
        return jax.vmap(partial(hills, params))(batch["p"]) - 1.0

    def loss(params, batch):
        return jnp.mean((residual(params, batch) + 1.0 - batch["p"]) ** 2)

    rate = optax.cosine_decay_schedule(1e-2, STEPS)
    method = jc.alternating(
        loss,
        jc.Constraints(**{kind: {"x": residual}}),
        optax.adam(rate),
        {"x": jc.dual_ascent(optax.adam(rate))},
        penalty=4.0 / POINTS,  # 4, of a mean over the points
        multipliers={"x": functional(apply, start, on="p")},
    )

    def draw(key):
        return {"p": jax.random.uniform(key, (POINTS,), minval=-1.0, maxval=3.0)}

    key = jax.random.key(0)
    # New points each step; that no warning comes of it is part of the test.
    result = jc.fit(
        method,
        method.init(FLAT, draw(key)),
        draw,
        steps=STEPS,
        key=key,
        chunk=STEPS,
        progress=False,
    )
    p = np.linspace(-1.0, 3.0, 401, dtype=np.float32)
    psi = getattr(result.state.multipliers, kind)["x"].params
    got = jax.vmap(partial(apply, psi))(p)
    got = jax.nn.softplus(got) if kind == "inequality" else got
    multiplier, minimiser = CLOSED_FORMS[kind]
    # 2 % of the largest multiplier, which is 4 at p = 3 (-4 at p = -1), everywhere.
    np.testing.assert_allclose(got, multiplier(p), atol=0.02 * 4, rtol=0)
    # The solution has a kink at p = 1, which a tanh network rounds off.
    x = jax.vmap(partial(hills, result.state.params))(p)
    np.testing.assert_allclose(x, minimiser(p), atol=0.04, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_density_does_not_know_how_many_points_stand_for_it(x64, kind):
    def moved(batch):
        how = {"flux": functional(line, {"a": 0.3, "b": -0.2}, on="y")}
        method = one_constraint(how, kind, DUALS["adam"])
        state = method.init(0.5, batch)
        for _ in range(3):
            state, _ = jax.jit(method.step)(state, batch)
        return state.params, state.multipliers, state.dual

    y = jnp.array([-1.0, 0.2, 0.9])
    jax.tree.map(
        lambda got, want: np.testing.assert_allclose(got, want, **CLOSE),
        moved({"y": jnp.tile(y, 4)}),
        moved({"y": y}),
    )


def negative_dict():
    return lambda psi, x: psi["a"][0] * x, {"a": (-jnp.ones(()), None)}


def negative_nnx():
    nnx = pytest.importorskip("flax.nnx")
    graph, params = nnx.split(nnx.Linear(1, 1, rngs=nnx.Rngs(0)), nnx.Param)
    params = jax.tree.map(lambda leaf: 0 * leaf - 1, params)
    return lambda psi, x: nnx.merge(graph, psi)(x[None])[0], params


def negative_linen():
    linen = pytest.importorskip("flax.linen")
    module = linen.Dense(1)
    params = module.init(jax.random.key(0), jnp.ones(1))
    params = jax.tree.map(lambda leaf: 0 * leaf - 1, params)
    return lambda psi, x: module.apply(psi, x[None])[0], params


def negative_equinox():
    eqx = pytest.importorskip("equinox")
    module = eqx.nn.Linear(1, "scalar", key=jax.random.key(0))
    params, static = eqx.partition(module, eqx.is_inexact_array)
    params = jax.tree.map(lambda leaf: 0 * leaf - 1, params)
    return lambda psi, x: eqx.combine(psi, static)(x[None]), params


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "make", [negative_dict, negative_nnx, negative_linen, negative_equinox]
)
def test_a_network_s_parameters_are_any_pytree_and_never_projected(make, kind):
    apply, params = make()
    how = {"flux": functional(apply, params, on="y")}
    method = one_constraint(how, kind, DUALS["sgd"], penalty=1.0)
    batch = {"y": jnp.array([0.5, 1.0])}
    state, info = jax.jit(method.step)(method.init(0.6, batch), batch)
    assert bool(info.finite)
    moved = getattr(state.multipliers, kind)["flux"].params
    assert jax.tree.structure(moved) == jax.tree.structure(params)
    # All parameters began at -1: they moved, by less than one, and were not clipped.
    for leaf in jax.tree.leaves(moved):
        assert (leaf < -0.5).all()
        assert (leaf != -1).all()


@pytest.mark.parametrize(
    "judge",
    [
        lambda c, s, b: jc.kkt(lambda p, _: p**2, c, s.params, s.multipliers, b),
        lambda c, s, b: jc.sensitivity(s.multipliers),
    ],
    ids=["kkt", "sensitivity"],
)
def test_a_table_is_not_taken_for_a_batch_s_multipliers(judge):
    constraints = jc.Constraints(inequality={"g": lambda p, batch: batch["y"] - p})
    method = jc.alternating(
        lambda p, _: p**2,
        constraints,
        optax.sgd(0.1),
        DUALS["sgd"],
        multipliers={"g": indexed(3, on="i")},
    )
    batch = {"y": jnp.ones(2), "i": jnp.array([0, 2])}
    state = method.init(0.0, batch)
    with pytest.raises(TypeError, match=r"'g' are kept as a Table.*method\.estimates"):
        judge(constraints, state, batch)


def test_an_index_out_of_its_table_is_named_by_fit():
    method = jc.alternating(
        lambda p, _: p**2,
        jc.Constraints(inequality={"g": lambda p, batch: batch["y"] - p}),
        optax.sgd(0.1),
        DUALS["sgd"],
        multipliers={"g": indexed(3, on="i")},
    )
    from_one = {"y": jnp.ones(3), "i": jnp.array([1, 2, 3])}
    state = method.init(0.0, from_one)
    with pytest.raises(
        FloatingPointError, match="multipliers of inequality.*'g'.*index"
    ):
        jc.fit(method, state, from_one, steps=5, progress=False)
