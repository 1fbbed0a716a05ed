"""Malformed calls of the public interface: a sample by default, all of them when slow."""

import pytest

from tests import malformed


def assert_refused_by_name(counts, least):
    """Asserts that nothing is silent, hangs or ends in a traceback."""
    total = sum(counts.values())
    assert total >= least
    for kind in ("silent", "hangs", "traceback"):
        assert counts[kind] == 0, f"{counts[kind]} {kind}: see the lines above"
    assert counts["named"] >= 0.98 * total


def test_malformed_calls_are_refused_by_name():
    assert_refused_by_name(malformed.report(seed=0, count=300), least=300)


@pytest.mark.slow
def test_all_malformed_calls_are_refused_by_name():
    assert_refused_by_name(malformed.report(), least=2000)


def test_good_calls_work():
    for table in malformed.TABLES:
        for name, make in table.GOOD.items():
            given = make()
            made = malformed.function_of(name)(**given)
            if hasattr(table, "use"):
                table.use(name, made, given)
