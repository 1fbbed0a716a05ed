"""The benchmarks: bounds by hand, and each of them run, tiny and untimed."""

import math
from functools import partial

import numpy as np
import pytest
from tables import assert_each

import jaxcon as jc
from benchmarks import _derivatives_groups as groups
from benchmarks import (
    clipping,
    derivatives,
    indexed_multipliers,
    joint_errors,
    moving_points,
    optimizers,
    proxies,
    stochastic_constraints,
    support_vectors,
    sweep,
    verdicts,
)


def test_derivatives_bounds_are_those_counted_by_hand():
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


def test_derivatives_targets_name_a_group_and_its_rows():
    for target in derivatives.TARGETS:
        group = groups.GROUPS[target.group]
        assert target.row in (derivatives.PLAIN, derivatives.TILED)
        assert target.against in {"", *group.others, *group.torch}
        assert target.quantity in derivatives.FORMATS


@pytest.mark.parametrize(
    "name", ["laplacian-3", pytest.param("fourth", marks=pytest.mark.slow)]
)
def test_derivatives_tiny_group_is_measured(name):
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


def assert_takes_steps(name):
    """Asserts that a method for the support vectors runs and is shown."""
    batch = support_vectors.iris()
    answer = support_vectors.solve(batch)
    method = (support_vectors.SMOOTH | support_vectors.RUN)[name]._replace(steps=10)
    gains = tuple(method.combinations()[0].tolist())
    course = support_vectors.run(method.make(*gains), batch, answer, method.steps)
    assert int(course.state.skipped) == 0
    row, settings = support_vectors.line(name, method, gains, None, course).splitlines()
    assert row.startswith(name)
    assert row.endswith("never")
    assert all(gain in settings for gain in method.grids)


SHOWN = ["PI control, primal too", "augmented Lagrangian", "method of multipliers"]


def test_support_vectors_methods_take_steps(x64):
    assert_each(SHOWN, assert_takes_steps)


@pytest.mark.slow
def test_support_vectors_other_methods_take_steps(x64):
    others = (support_vectors.SMOOTH | support_vectors.RUN).keys() - set(SHOWN)
    assert_each(sorted(others), assert_takes_steps)


@pytest.mark.slow
def test_clipping_tiny_table_is_measured():
    constraints, terms = clipping.together(2), {"conflict_free": jc.conflict_free()}
    clips = {"clip": clipping.CLIPS["clip"]}
    ratios = clipping.measure(constraints, clips, terms, width=4, points=8, rounds=1)
    assert list(ratios) == ["ms", "noise", "clip", "conflict_free"]
    assert all(ratio > 0 for ratio in ratios.values())


@pytest.mark.slow
def test_moving_points_tiny_runs_are_measured():
    steps = {"held": 3, "terms": 3}

    def check(row):
        equation, method = row
        equation = moving_points.EQUATIONS[equation]
        found = moving_points.errors(equation, method, steps=steps, seeds=(0,), num=40)
        assert found.shape == (1,)
        assert 0 < found[0] < 10

    assert_each(
        [
            ("convection", "points.rar_d"),
            ("reaction", "causal_weights"),
            ("Allen-Cahn", "balance_by_kernel_trace"),
        ],
        check,
    )


@pytest.mark.slow
def test_indexed_multipliers_tiny_table_is_measured(monkeypatch):
    monkeypatch.setattr(indexed_multipliers, "STEPS", 2)
    rows = indexed_multipliers.measure("nupi", sizes=(300,), rounds=1)
    assert [row["size"] for row in rows] == [300, 300]
    for program in indexed_multipliers.Case._fields:
        assert rows[0][program][0] == 1.0
        assert all(math.isfinite(number) for row in rows for number in row[program])


@pytest.mark.slow
def test_joint_errors_tiny_table_is_measured(x64):
    for make in joint_errors.CASES.values():
        case = make()
        rows, found = joint_errors.measure(case, 3, asked=1, first=40, again=2)
        assert rows.keys() == case.truth.keys()
        for row in rows.values():
            assert 0 < row.spread < math.inf
            assert 0 < row.reported < math.inf
        assert all(0 < unmet < math.inf for unmet in found.unmet)


def assert_meets_noise(key, name):
    """Asserts that a dual's multiplier under noise is one, and is shown."""
    mean = stochastic_constraints.multiplier_under_noise(
        stochastic_constraints.duals()[name],
        margin=0.1,
        noise=0.5,
        key=key,
        steps=40,
        runs=2,
    )
    assert mean.value >= 0.0
    assert "±" in str(mean)


NOISY = ["sgd", "MultiSteps(dual_ascent, 10)"]


def test_stochastic_constraints_duals_meet_noise(key):
    assert_each(NOISY, partial(assert_meets_noise, key))


@pytest.mark.slow
def test_stochastic_constraints_other_duals_meet_noise(key):
    others = stochastic_constraints.duals().keys() - set(NOISY)
    assert_each(sorted(others), partial(assert_meets_noise, key))


def test_stochastic_constraints_correlated_noise_is_met(key):
    for order in ("simultaneous", "alternating"):
        found, theory = stochastic_constraints.correlated(
            order, 1.0, True, key, steps=40, runs=2
        )
        assert all(math.isfinite(mean.value) for mean in found), order
        assert math.isfinite(theory), order


def assert_proxy_shown(capsys, order):
    """Asserts that a short run on a proxy is shown as a row of its table."""
    proxy = jc.proxy(proxies.SURROGATES["hinge"], proxies.strict)
    reached = proxies.train(
        proxy, proxies.ascent(), 1.0, order=proxies.ORDERS[order], num=20, steps=8
    )
    proxies.show(order, reached, num=20)
    row = capsys.readouterr().out
    assert row.startswith(order)
    assert "of 20" in row


def test_proxies_short_run_is_shown(capsys):
    assert_proxy_shown(capsys, "dual first")


@pytest.mark.slow
def test_proxies_short_runs_in_other_orders_are_shown(capsys):
    others = proxies.ORDERS.keys() - {"dual first"}
    assert_each(sorted(others), partial(assert_proxy_shown, capsys))


def test_verdicts_are_right_of_one_problem():
    found = list(verdicts.cases("active from outside", "augmented", steps=400))
    assert [case.rate for case in found] == list(verdicts.RATES)
    assert found[0].verdict == "converged"
    assert found[0].truth == "solved"
    assert not any(case.wrong for case in found)
    assert verdicts.table(found).endswith("wrong: 0 of 3 (0.0%)")
    # Each of these would be wrong.
    for truth, kind in [
        ("solved", "stalled"),
        ("elsewhere", "converged"),
        ("violated", "infeasible"),
    ]:
        said = jc.Diagnosis((jc.diagnosis.Verdict(kind, (), ""),))
        assert found[0]._replace(truth=truth, said=said).wrong


@pytest.mark.slow
def test_sweep_tiny_table_is_measured():
    ratios = sweep.measure(4, 8, steps=2, rounds=1)
    assert list(ratios) == list(sweep.TOGETHER)
    assert all(ratio > 0 for ratio in ratios.values())


def test_optimizers_solution_solves_its_equation():
    t, x, h = np.full(5, 0.4), np.linspace(-0.9, 0.9, 5), 1e-3
    u = optimizers.exact
    in_x = [u(t, x + k * h) for k in (-1, 0, 1)]
    slope = (in_x[2] - in_x[0]) / (2 * h)
    bend = (in_x[2] - 2 * in_x[1] + in_x[0]) / h**2
    rate = (u(t + h, x) - u(t - h, x)) / (2 * h)
    residual = rate + in_x[1] * slope - optimizers.VISCOSITY * bend
    # Differences of second order, of a solution whose slopes are about 10.
    np.testing.assert_allclose(residual, 0.0, atol=1e-2)


@pytest.mark.slow
def test_optimizers_are_measured():
    tiny = {"seeds": 1, "warm": 2, "steps": 3, "few": 2, "points": 8, "width": 4}

    def check(name):
        row = optimizers.measure(name, **tiny)
        assert math.isfinite(row.loss)
        assert math.isfinite(row.error)
        assert row.seconds != 0

    assert_each(optimizers.methods(3, 2), check)
