"""The derivatives benchmark: its bounds by hand, and one tiny group, untimed."""

import math

import pytest

from benchmarks import _derivatives_groups as groups
from benchmarks import derivatives


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


@pytest.mark.parametrize("name", ["laplacian-3", "fourth"])
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
