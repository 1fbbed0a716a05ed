"""The benchmarks: bounds by hand, and each of them run, tiny and untimed."""

import math

import pytest

import jaxcon as jc
from benchmarks import _derivatives_groups as groups
from benchmarks import (
    derivatives,
    indexed_multipliers,
    proxies,
    stochastic_constraints,
    support_vectors,
    sweep,
)


def test_the_bounds_are_those_counted_by_hand():
    size = groups.Size(n=1, d=2, m=1, w=3)
    assert (size.first, size.hidden, size.last) == (12, 36, 6)
    assert size.value_step == 2 * 12 + 3 * 36 + 3 * 6
    primal = 2 * 12 + 3 * 36
    assert groups.jacobian_bound(size) == primal + 3 * (36 + 12)  # one cotangent
    assert groups.collapsed_bound(size, tangents=0) == primal + 3 * (36 + 6)
    assert groups.laplacian_bound(size) == primal + 3 * 2 * 36 + 3 * (36 + 6)
    assert groups.hessian_bound(size) == primal + 3 * 2 * 36 + 3 * 3 * (36 + 6)
    narrow = groups.Size(n=1, d=5, m=1, w=3)
    assert groups.laplacian_bound(narrow) == (2 * 30 + 108) + 3 * 3 * 36 + 3 * (36 + 6)


def test_every_target_names_a_group_and_its_rows():
    for target in derivatives.TARGETS:
        group = groups.GROUPS[target.group]
        assert target.row in (derivatives.PLAIN, derivatives.TILED)
        assert target.against in {"", *group.others, *group.torch}
        assert target.quantity in derivatives.FORMATS


@pytest.mark.parametrize(
    "name", ["laplacian-3", pytest.param("fourth", marks=pytest.mark.slow)]
)
def test_a_tiny_group_is_measured(name):
    group = groups.GROUPS[name]
    group = group._replace(size=group.size._replace(n=8, w=8))
    ours = (derivatives.PLAIN, derivatives.TILED)
    wanted = {derivatives.VALUE, *ours, next(iter(group.others))}
    how = derivatives.Conditions(seconds=0.0, turn=0.0)
    rows = derivatives.measure(group, how, wanted).rows
    assert set(rows) == wanted
    for row in ours:
        assert math.isfinite(rows[row]["time"])
        assert rows[row]["loss"] < 1e-5
        assert rows[row]["gradient"] < 1e-5


@pytest.mark.parametrize("name", [*support_vectors.SMOOTH, *support_vectors.RUN])
def test_every_way_to_the_support_vectors_takes_steps(x64, name):
    batch = support_vectors.iris()
    answer = support_vectors.solve(batch)
    way = (support_vectors.SMOOTH | support_vectors.RUN)[name]._replace(steps=10)
    gains = tuple(way.combinations()[0].tolist())
    course = support_vectors.run(way.make(*gains), batch, answer, way.steps)
    assert int(course.state.skipped) == 0
    row, settings = support_vectors.line(name, way, gains, None, course).splitlines()
    assert row.startswith(name)
    assert row.endswith("never")
    assert all(gain in settings for gain in way.grids)


@pytest.mark.slow
def test_a_tiny_table_is_measured(monkeypatch):
    monkeypatch.setattr(indexed_multipliers, "STEPS", 2)
    rows = indexed_multipliers.measure("nupi", sizes=(300,), rounds=1)
    assert [row["size"] for row in rows] == [300, 300]
    for way in indexed_multipliers.Case._fields:
        assert rows[0][way][0] == 1.0
        assert all(math.isfinite(number) for row in rows for number in row[way])


@pytest.mark.parametrize("name", stochastic_constraints.duals())
def test_every_dual_meets_the_noise(key, name):
    dual = stochastic_constraints.duals()[name]
    mean = stochastic_constraints.multiplier_under_noise(
        dual, margin=0.1, noise=0.5, key=key, steps=40, runs=2
    )
    assert mean.value >= 0.0
    assert "±" in str(mean)


@pytest.mark.parametrize("order", ["simultaneous", "alternating"])
def test_correlated_noise_is_met(key, order):
    found, theory = stochastic_constraints.correlated(
        order, 1.0, True, key, steps=40, runs=2
    )
    assert all(math.isfinite(mean.value) for mean in found)
    assert math.isfinite(theory)


@pytest.mark.parametrize("order", proxies.ORDERS)
def test_a_short_run_on_a_proxy_is_shown(capsys, order):
    proxy = jc.proxy(proxies.SURROGATES["hinge"], proxies.strict)
    reached = proxies.train(
        proxy, proxies.ascent(), 1.0, order=proxies.ORDERS[order], num=20, steps=8
    )
    proxies.show(order, reached, num=20)
    row = capsys.readouterr().out
    assert row.startswith(order)
    assert "of 20" in row


@pytest.mark.slow
def test_a_tiny_sweep_is_measured():
    ratios = sweep.measure(4, 8, steps=2, rounds=1)
    assert list(ratios) == list(sweep.TOGETHER)
    assert all(ratio > 0 for ratio in ratios.values())
