"""Indexed multipliers against their samples alone, network ones in closed form."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.extend.core import ClosedJaxpr, Jaxpr
from tables import assert_refused

import jaxcon as jc
from jaxcon.multipliers import indexed, network

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
START = (0.5, -0.25)
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


def run(solver, params, batches):
    """The state after a scan over `batches`, and its infos."""
    state = solver.init(params, jax.tree.map(lambda rows: rows[0], batches))
    return jax.jit(lambda s: jax.lax.scan(solver.step, s, batches))(state)


def table_and_state(state, name):
    """The rows of one constraint, and those of its transform's state."""
    (entry,) = [m for kind in state.multipliers for n, m in kind.items() if n == name]
    return entry.rows, state.dual.own[name]


SOME = [
    "adam, equality",
    "capped, equality",
    "method of multipliers, equality",
    "nupi, inequality",
    "capped, inequality",
    "every estimate, inequality",
]


@pytest.mark.parametrize(
    ("order", "penalty"),
    [
        ("dual first", RHO),
        pytest.param("dual first", None, marks=pytest.mark.slow),
        *(pytest.param(name, RHO, marks=pytest.mark.slow) for name in OTHERS),
    ],
)
def test_indexed_on_batches_of_the_same_samples_is_a_dense_run_on_them(
    x64, order, penalty
):
    duals = {name: DUALS[name] for name in ("adam", "nupi", "capped")}
    duals = of_both_kinds(duals if penalty is None else duals | WITH_PENALTY)
    if order == "dual first" and penalty:  # the slow rows have all of both kinds
        duals = {name: duals[name] for name in SOME}
    # Sample j of constraint i wants p[i] near y[j]: multipliers and params interact.
    constraints = constraints_of(
        duals, lambda i: lambda p, batch: 0.3 * (p[i] - batch["y"])
    )
    problem = partial(
        jc.Lagrangian,
        lambda p, _: jnp.sum((p - 0.5) ** 2),
        constraints,
        penalty=penalty,
    )

    def make(**kinds):
        return ORDERS[order](problem(**kinds), optax.sgd(0.05), duals)

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
def test_indexed_sample_s_trajectory_is_that_of_its_own_visits(x64, order):
    # Residuals are the batch's alone, so that nothing couples the samples.
    batches, duals = visits(), of_both_kinds(DUALS | WITH_PENALTY)
    solver = order(
        jc.Lagrangian(
            lambda p, _: p**2,
            constraints_of(duals, lambda i: lambda p, batch: batch["r"]),
            penalty=RHO,
            multipliers={name: indexed(SIZE, on="index") for name in duals},
        ),
        optax.sgd(0.1),
        duals,
    )
    start = solver.init(1.0, jax.tree.map(lambda rows: rows[0], batches))
    state, infos = run(solver, 1.0, batches)
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


@cache
def after_two_moves(kind):
    """All duals, moved twice by a batch that has a sample twice, or once their sum."""
    duals = {f"{name}, {kind}": dual for name, dual in (DUALS | WITH_PENALTY).items()}
    solver = jc.alternating(
        jc.Lagrangian(
            lambda p, _: p**2,
            constraints_of(duals, lambda i: lambda p, batch: batch["r"]),
            penalty={f"{name}, {kind}": RHO for name in WITH_PENALTY},
            multipliers={name: indexed(SIZE, on="index") for name in duals},
        ),
        optax.sgd(0.1),
        duals,
    )

    @jax.jit
    def moved(batch):
        def body(state, _):
            return solver.step(state, batch)[0], None

        return jax.lax.scan(body, solver.init(1.0, batch), length=2)[0]

    def after(index, r):
        return moved({"index": np.int32(index), "r": np.float64(r)})

    return after([3, 5, 3], [0.2, -0.1, 0.4]), after([3, 5, 8], [0.2 + 0.4, -0.1, 0.0])


@pytest.mark.parametrize(
    "kind", [pytest.param("equality", marks=pytest.mark.slow), "inequality"]
)
@pytest.mark.parametrize("name", DUALS | WITH_PENALTY)
def test_indexed_sample_that_a_batch_has_twice_counts_twice_in_one_move(
    x64, name, kind
):
    twice, once = (
        table_and_state(state, f"{name}, {kind}") for state in after_two_moves(kind)
    )
    rest = np.setdiff1d(np.arange(SIZE), [8])  # which stands where the second 3 stood
    jax.tree.map(
        lambda got, want: np.testing.assert_allclose(got[rest], want[rest], **CLOSE),
        twice,
        once,
    )
    assert twice[0][3] != 0


def test_indexed_multiplier_of_a_sample_that_a_batch_has_twice_stays_nonnegative():
    # Each copy alone takes the multiplier to zero; both together would take it below.
    solver = jc.alternating(
        jc.Lagrangian(
            lambda p, _: p**2,
            jc.Constraints(inequality={"c": lambda p, batch: batch["r"]}),
            penalty=RHO,
            multipliers={"c": indexed(SIZE, on="index")},
        ),
        optax.sgd(0.1),
        {"c": jc.method_of_multipliers()},
    )
    batches = [
        {"index": np.int32([3, 5, 8]), "r": np.float32([0.5, 0.25, 0.125])},
        {"index": np.int32([3, 5, 3]), "r": np.float32([-0.5, -0.125, -0.5])},
    ]
    state, step = solver.init(1.0, batches[0]), jax.jit(solver.step)
    for batch in batches:
        state, _ = step(state, batch)
    rows, _ = table_and_state(state, "c")
    # rho r each, all exact in binary.
    np.testing.assert_array_equal(rows[np.array([3, 5, 8])], [0.0, 0.25, 0.25])


def line(psi, x):
    return psi["a"] * x + psi["b"]


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
        jc.Lagrangian(
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
            penalty=1.0,
            multipliers={
                "fit": indexed(size, on="index"),
                "near": indexed(size, on="index"),
                "line": network(line, {"a": 0.1, "b": jnp.array(0.2)}, on="x"),
            },
        ),
        optax.adam(0.05),
        dual,
    )


@cache  # several tests read the same compiled steps
def stepping(order="dual first", style="shared"):
    """A method of mixed kinds, its jitted step, and a start of it."""
    solver = mixed(ORDERS[order], STYLES[style])
    return solver, jax.jit(solver.step), solver.init(np.float32(START), sample(0))


def sample(i):
    """Batch i of numbered samples: their targets stay, their order does not."""
    index = np.random.default_rng(i).permutation(SIZE)[:4].astype(np.int32)
    y = np.sin(index).astype(np.float32)
    x = np.linspace(0, 1, 3, dtype=np.float32) + np.float32(0.1 * i)
    return {"index": index, "y": y, "x": x, "scale": np.float32(1)}


FAULTS = {
    "past the end": {"index": np.array([1, 2, SIZE, 3], np.int32)},
    "negative": {"index": np.array([1, -1, 2, 3], np.int32)},
    "residual of a table": {"y": np.array([0, np.nan, 0, 0], np.float32)},
    "residual of a network": {"x": np.array([0, 0, np.inf], np.float32)},
    "loss": {"scale": np.float32(np.nan)},
}


@pytest.mark.parametrize(
    ("order", "style"),
    [
        *(("dual first", style) for style in STYLES),
        ("extragradient", "by name"),
        *(
            pytest.param(order, style, marks=pytest.mark.slow)
            for order, style in [
                ("extragradient", "shared"),
                ("primal first", "shared"),
                ("primal first", "by name"),
                ("simultaneous", "by name"),
            ]
        ),
    ],
)
def test_multipliers_keep_every_bit_at_a_broken_batch_which_is_counted(order, style):
    _, step, state = stepping(order, style)
    for i in range(2):
        state, info = step(state, sample(i))
        assert bool(info.finite)
    for name, fault in FAULTS.items():
        after, info = step(state, sample(2) | fault)
        assert not bool(info.finite), name
        assert int(after.skipped) == 1, name
        assert_same_bits(after._replace(step=state.step, skipped=state.skipped), state)
    after, info = step(after, sample(2))
    assert bool(info.finite)
    for name in ("fit", "near"):
        for new, old in zip(table_and_state(after, name), table_and_state(state, name)):
            leaves = zip(jax.tree.leaves(new), jax.tree.leaves(old), strict=True)
            assert any(not np.array_equal(n, o) for n, o in leaves)


@pytest.mark.parametrize("style", STYLES)
def test_multipliers_of_each_kind_move_as_they_do_alone(style):
    # Residuals of the first step do not know of one another.
    batch, dual = sample(0), STYLES[style]
    _, step, start = stepping("dual first", style)
    state, _ = step(start, batch)
    p = np.array(START)
    near, x = (p[1] - batch["y"]) ** 2 - 0.1, batch["x"]
    slope = jax.nn.sigmoid(0.1 * x + 0.2) * (p[1] * x - 0.5) / x.size
    directions = {
        "fit": p[0] - batch["y"],
        "sum": np.sum(p) - 1.0,
        "near": near,
        "line": {"a": np.sum(slope * x), "b": np.sum(slope)},
    }
    directions = jax.tree.map(np.float32, directions)
    started = jc.Constraints(
        {"fit": np.zeros(4, np.float32), "sum": np.float32(0)},
        {
            "near": np.zeros(4, np.float32),
            "line": {"a": np.float32(0.1), "b": np.float32(0.2)},
        },
    )

    @jax.jit
    def alone(started, directions):
        """Each multiplier after a move of its transform, told of nothing else."""
        moved = {}
        for kind in KINDS:
            for name, start in getattr(started, kind).items():
                transform = dual[name] if style == "by name" else dual
                one = jc.Constraints(**{kind: {name: start}})
                direction = jc.Constraints(**{kind: {name: directions[name]}})
                climb, _ = transform.update(direction, transform.init(one), one)
                moved[name] = getattr(optax.apply_updates(one, climb), kind)[name]
        return moved

    multipliers = state.multipliers.equality | state.multipliers.inequality
    for name, want in alone(started, directions).items():
        got = multipliers[name]
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
    solver, step, state = stepping()
    rows = np.arange(SIZE, dtype=np.float32)
    multipliers = state.multipliers
    tables = {"fit": jc.multipliers.Table(-rows)}, {"near": jc.multipliers.Table(rows)}
    state = state._replace(
        multipliers=jc.Constraints(
            multipliers.equality | tables[0], multipliers.inequality | tables[1]
        )
    )
    batch = sample(0)
    _, info = step(state, batch)
    assert float(info.multiplier.inequality["near"]) == batch["index"].max()
    assert float(info.multiplier.equality["fit"]) == batch["index"].max()
    density = np.log1p(np.exp(0.1 * batch["x"] + 0.2)) / 3
    np.testing.assert_allclose(
        info.multiplier.inequality["line"], density.max(), rtol=1e-6
    )
    estimates, residuals = jax.jit(
        lambda state: (
            solver.problem.multiplier_estimates(state, batch),
            solver.problem.evaluate(state.params, batch).residuals,
        )
    )(state)
    want = jc.multiplier_estimates(
        residuals,
        jc.Constraints(
            {"fit": -rows[batch["index"]], "sum": np.float32(0)},
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


def test_indexed_takes_an_index_of_any_integer_dtype():
    # A size beyond the dtype's range must not wrap around.
    batch = sample(0)
    solver = one_constraint({"flux": indexed(300, on="index")}, dual=DUALS["momentum"])
    state = solver.init(0.5, batch)
    step = jax.jit(solver.step)
    want, _ = step(state, batch)
    assert np.count_nonzero(want.multipliers.inequality["flux"].rows)
    for dtype in (np.int8, np.uint32):
        got, _ = step(state, batch | {"index": batch["index"].astype(dtype)})
        assert_same_bits(got, want)


def test_multipliers_of_vmapped_starts_are_those_of_each_alone():
    solver, step, _ = stepping()
    starts = np.float32([START, (2.0, 1.0)])

    def begun(start):
        return solver.init(start, sample(0))

    together = jax.jit(jax.vmap(solver.step, in_axes=(0, None)))
    states = jax.tree.map(lambda *rows: np.stack(rows), *map(begun, starts))
    after, _ = together(together(states, sample(0))[0], sample(1))
    for i, start in enumerate(starts):
        alone, _ = step(step(begun(start), sample(0))[0], sample(1))
        # Two steps of some roundings of numbers near 1.
        jax.tree.map(
            lambda g, w, i=i: np.testing.assert_allclose(g[i], w, rtol=1e-5, atol=1e-6),
            after,
            alone,
        )


def test_state_donated_is_used_up_and_the_step_the_same():
    solver, step, start = stepping()
    batch = sample(0)
    want, _ = step(start, batch)
    state = solver.init(np.float32(START), batch)
    got, _ = jax.jit(solver.step, donate_argnums=0)(state, batch)
    assert state.multipliers.inequality["near"].rows.is_deleted()
    again = solver.init(np.float32(START), batch)  # the network's start is still there
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
def test_step_touches_its_batch_s_rows_and_no_others(order, style):
    size = 54321

    def traced(size):
        solver = mixed(order, STYLES[style], size)
        state = jax.eval_shape(solver.init, jnp.array(START), sample(0))
        return solver, state

    solver, state = traced(size)
    jaxpr = jax.make_jaxpr(solver.step)(state, sample(0)).jaxpr
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


def test_step_s_cost_does_not_know_the_table_s_size(fresh_compilation):
    def cost(size):
        solver = mixed(size=size)
        state = jax.eval_shape(solver.init, jnp.array(START), sample(0))
        program = jax.jit(solver.step, donate_argnums=0).lower(state, sample(0))
        compiled = program.compile()
        copies = [line for line in compiled.as_text().splitlines() if " copy(" in line]
        assert not any(f"[{size}]" in line for line in copies)
        return compiled.cost_analysis()["flops"]

    assert cost(10_000) == cost(1_000_000)


@pytest.mark.slow
def test_fit_on_numbered_samples_resumes_to_the_bit(tmp_path):
    import orbax.checkpoint as ocp

    solver = mixed()

    def fit(steps=30, **more):
        batches = map(numbered, range(10**6))
        start = solver.init(jnp.array(START), numbered(0))
        # Warnings are errors here: rows follow their samples, so none is due.
        return jc.fit(
            solver, start, batches, steps=steps, chunk=5, progress=False, **more
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


def one_constraint(multipliers, kind="inequality", dual=DUALS["sgd"], penalty=None):
    return jc.alternating(
        jc.Lagrangian(
            lambda p, _: p**2,
            jc.Constraints(**{kind: {"flux": lambda p, batch: p - batch["y"]}}),
            penalty=penalty,
            multipliers=multipliers,
        ),
        optax.sgd(0.1),
        dual,
    )


def test_multipliers_that_fit_no_residual_are_refused_by_name():
    table = indexed(9, on="index")

    def on_x(apply):
        return network(apply, 1.0, on="x")

    def begun(kind, how, more):
        solver = one_constraint({"flux": how}, kind)
        batch = {"y": np.ones(3, np.float32), "x": np.ones((3, 2), np.float32)}
        return lambda: solver.init(1.0, batch | more)

    assert_refused(
        (begun(kind, how, more), wrong_kind, ["'flux'", *words])
        for kind in KINDS
        for how, more, wrong_kind, words in [
            (table, {}, ValueError, ["indices", "'index'", "['x', 'y']"]),
            (indexed(9, on="y"), {}, TypeError, ["integers", "float32"]),
            (table, {"index": np.ones((3, 1), int)}, ValueError, ["(n,)", "(3, 1)"]),
            (
                table,
                {"index": np.ones(2, int)},
                ValueError,
                ["indices", "(2,)", "(3,)"],
            ),
            (
                network(line, {}, on="points"),
                {},
                ValueError,
                ["network", "'points'"],
            ),
            (
                on_x(lambda psi, x: x),
                {},
                ValueError,
                ["network", "(3, 2)", "(3,)", "one number per point"],
            ),
            (
                on_x(lambda psi, x: psi * x[0]),
                {"x": np.ones((4, 2), np.float32)},
                ValueError,
                ["network", "(4,)", "(3,)"],
            ),
        ]
    )


def test_multipliers_of_a_kind_that_cannot_be_are_refused_at_once():
    table = indexed(9, on=None)
    batch = {"y": np.ones(3, np.float32), "index": np.arange(3)}

    def split(method):
        solver = one_constraint({"flux": indexed(9, on="index")})
        state = solver.init(1.0, batch)
        given = {"init": 1.0, "step": state}[method]
        return partial(getattr(solver, method), given, jc.SplitBatch(batch, batch))

    assert_refused(
        [
            (lambda: indexed(0, on=None), ValueError, ["whole number >= 1", "0"]),
            (lambda: indexed(2.5, on=None), ValueError, ["whole number", "2.5"]),
            (
                lambda: one_constraint({"flow": table}),
                ValueError,
                ["'flow'", "['flux']"],
            ),
            (lambda: one_constraint({"flux": 9}), TypeError, ["'flux'", "int"]),
            *(
                (split(method), ValueError, ["indexed", "'flux'", "SplitBatch"])
                for method in ("init", "step")
            ),
        ]
    )


def test_functional_multipliers_cannot_be_set():
    def stepped(dual):
        kind = network(lambda psi, x: psi * x, 1.0, on="y")
        solver = one_constraint({"flux": kind}, dual=dual, penalty=1.0)
        batch = {"y": np.ones(3, np.float32)}
        return lambda: jax.eval_shape(
            lambda: solver.step(solver.init(1.0, batch), batch)
        )

    words = "'flux' are computed from parameters"
    assert_refused(
        (stepped(dual), ValueError, words)
        for dual in (jc.method_of_multipliers(), jc.pid(1.0, 1.0))
    )


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


def flat():
    """Parameters of hills whose units are spread over [-1, 3]; all it says is zero."""
    return {
        "w": np.full(24, 4.0, np.float32),
        "b": np.float32(-4 * np.linspace(-1.2, 3.2, 24)),
        "v": np.zeros(24, np.float32),
        "c": np.float32(0),
    }


# A line holds the equality's multiplier exactly; the inequality's has a kink.
@pytest.mark.parametrize(
    ("kind", "apply", "start"),
    [("equality", line, lambda: {"a": 0.0, "b": 0.0}), ("inequality", hills, flat)],
    ids=KINDS,
)
def test_functional_learns_the_multiplier_of_every_parameter(kind, apply, start):
    def residual(params, batch):
        return jax.vmap(partial(hills, params))(batch["p"]) - 1.0

    def loss(params, batch):
        return jnp.mean((residual(params, batch) + 1.0 - batch["p"]) ** 2)

    rate = optax.cosine_decay_schedule(1e-2, STEPS)
    solver = jc.alternating(
        jc.Lagrangian(
            loss,
            jc.Constraints(**{kind: {"x": residual}}),
            penalty=4.0 / POINTS,
            multipliers={"x": network(apply, start(), on="p")},
        ),
        optax.adam(rate),
        {"x": jc.dual_ascent(optax.adam(rate))},
    )

    def draw(key):
        return {"p": jax.random.uniform(key, (POINTS,), minval=-1.0, maxval=3.0)}

    key = jax.random.key(0)
    # New points each step; that no warning comes of it is part of the test.
    result = jc.fit(
        solver,
        solver.init(flat(), draw(key)),
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


def priced_on_both_sides(apply, params, dual, penalty=None):
    """A method whose multipliers of both kinds are a network's."""
    kinds = {kind: {kind: lambda p, batch: p - batch["y"]} for kind in KINDS}
    return jc.alternating(
        jc.Lagrangian(
            lambda p, _: p**2,
            jc.Constraints(**kinds),
            penalty=penalty,
            multipliers={kind: network(apply, params, on="y") for kind in KINDS},
        ),
        optax.sgd(0.1),
        dual,
    )


def test_functional_is_a_density_whatever_the_number_of_points(x64):
    start = {"a": 0.3, "b": -0.2}
    solver = priced_on_both_sides(line, start, DUALS["adam"])
    step = jax.jit(solver.step)

    def moved(batch):
        state = solver.init(0.5, batch)
        for _ in range(3):
            state, _ = step(state, batch)
        return state.params, state.multipliers, state.dual

    y = np.array([-1.0, 0.2, 0.9])
    jax.tree.map(
        lambda got, want: np.testing.assert_allclose(got, want, **CLOSE),
        moved({"y": np.tile(y, 4)}),
        moved({"y": y}),
    )


def negative_dict():
    return lambda psi, x: psi["a"][0] * x, {"a": (np.float32(-1), None)}


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


@pytest.mark.parametrize(
    "make", [negative_dict, negative_nnx, negative_linen, negative_equinox]
)
def test_functional_s_parameters_are_any_pytree_and_never_projected(make):
    apply, params = make()
    solver = priced_on_both_sides(apply, params, DUALS["sgd"], penalty=1.0)
    batch = {"y": np.float32([0.5, 1.0])}
    state, info = jax.jit(solver.step)(solver.init(0.6, batch), batch)
    assert bool(info.finite)
    for kind in KINDS:
        moved = getattr(state.multipliers, kind)[kind].params
        assert jax.tree.structure(moved) == jax.tree.structure(params)
        # All parameters began at -1: they moved, by less than one, and were not clipped.
        for leaf in jax.tree.leaves(moved):
            assert (leaf < -0.5).all()
            assert (leaf != -1).all()


def on_a_table_of_three():
    """A method over a table of three samples, and its constraints."""
    constraints = jc.Constraints(inequality={"g": lambda p, batch: batch["y"] - p})
    solver = jc.alternating(
        jc.Lagrangian(
            lambda p, _: p**2, constraints, multipliers={"g": indexed(3, on="i")}
        ),
        optax.sgd(0.1),
        DUALS["sgd"],
    )
    return solver, constraints


def test_kinds_of_multipliers_name_what_they_refuse():
    rule = jc.Constraints(inequality={"g": lambda p, b: p - b["x"]})
    batch = {"x": jnp.ones(2), "index": jnp.array([0, 1]), "none": {}}

    def start(kind):
        problem = jc.Lagrangian(lambda p, b: p**2, rule, multipliers={"g": kind})
        solver = jc.alternating(problem, optax.sgd(0.1), jc.dual_ascent(optax.sgd(0.1)))
        return jax.eval_shape(solver.step, solver.init(1.0, batch), batch)

    def net(apply=lambda psi, x: psi * x, params=1.0, on="x", **rest):
        return network(apply, params, on=on, **rest)

    dense = jc.Point(jnp.array(1.0), jc.Constraints(inequality={"g": jnp.ones(2)}))
    sizes = [(0, ValueError), (1.5, ValueError), (np.nan, ValueError)]
    others = [(None, TypeError), ("2", TypeError), (True, TypeError)]
    ours = "network multipliers of inequality constraint 'g'"
    assert_refused(
        [
            *(
                (
                    partial(indexed, bad, on="index"),
                    error,
                    "^size must be a whole number",
                )
                for bad, error in [*sizes, *others]
            ),
            (partial(indexed, 2, on=1), TypeError, "^on must be a name"),
            (partial(net, on=object()), TypeError, "^on must be a name"),
            (partial(net, apply=None), TypeError, "^apply must be a function"),
            (partial(net, positive="a"), TypeError, "^positive must be a function"),
            (partial(net, params={"a": 1}), TypeError, "params.'a'. of network"),
            (
                lambda: start(indexed(2, on="none")),
                TypeError,
                "indices of constraint 'g'",
            ),
            (lambda: start(net(lambda psi, x: None)), TypeError, f"apply of {ours}"),
            (lambda: start(net(lambda psi, x: 1)), TypeError, f"apply of {ours}"),
            (lambda: start(net(lambda psi: psi)), TypeError, f"raised in {ours}"),
            (
                lambda: start(net(positive=lambda output: "a")),
                TypeError,
                f"positive of {ours} returned 'a'",
            ),
            (
                lambda: jc.kkt(
                    jc.Lagrangian(
                        lambda p, b: p**2,
                        rule,
                        multipliers={"g": indexed(2, on="index")},
                    ),
                    dense,
                    batch,
                ),
                TypeError,
                "constraint 'g' must be a jaxcon.multipliers.Table",
            ),
        ]
    )


def test_table_is_not_taken_for_a_batch_s_multipliers():
    solver, constraints = on_a_table_of_three()
    batch = {"y": np.ones(2, np.float32), "i": np.array([0, 2])}
    state = solver.init(0.0, batch)

    def judged():
        loss = lambda p, _: p**2  # noqa: E731
        return jc.kkt(
            jc.Lagrangian(loss, constraints),
            jc.Point(state.params, state.multipliers),
            batch,
        )

    words = r"'g' are kept as a Table.*problem\.multiplier_estimates"
    assert_refused(
        [
            (judged, TypeError, words),
            (lambda: jc.sensitivity(state.multipliers), TypeError, words),
        ]
    )
    # Its own problem knows how to read it: at p = 0 the loss is flat, and both are
    # violated by one.
    rows = jc.multipliers.Table(jnp.array([0.25, 9.0, 0.5]))
    state = state._replace(multipliers=jc.Constraints(inequality={"g": rows}))
    judged = jc.kkt(solver.problem, state, batch)
    assert jax.tree.map(float, judged) == jc.KKT(
        0.75, {}, {"g": 1.0}, {"g": 0.0}, {"g": 0.5}
    )


def test_indexed_names_an_index_out_of_its_table_in_fit():
    solver, _ = on_a_table_of_three()
    from_one = {"y": np.ones(3, np.float32), "i": np.array([1, 2, 3])}
    state = solver.init(0.0, from_one)
    with pytest.raises(
        FloatingPointError, match="multipliers of inequality.*'g'.*index"
    ):
        jc.fit(solver, state, from_one, steps=5, progress=False)
