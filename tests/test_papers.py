"""The papers' files: what each must have."""

import importlib
import math
from pathlib import Path

import jax
import pytest
from tables import assert_each

import papers
from papers import __main__ as index
from papers import _table

NAMES = sorted(
    path.stem
    for path in Path(papers.__path__[0]).glob("*.py")
    if not path.stem.startswith("_")
)


@pytest.fixture
def precision():
    """Gives back the precision after a paper has set its own."""
    before = jax.config.jax_enable_x64  # pyright: ignore[reportAttributeAccessIssue]
    yield
    jax.config.update("jax_enable_x64", before)


def module(name):
    return importlib.import_module(f"papers.{name}")


def keys(table):
    return {(row, column) for row in table for column in table[row]}


def assert_complete(name):
    """Asserts that a recorded run has all numbers, verdicts and differences."""
    paper = module(name)
    _table.check_same_keys(paper.CLAIMED, paper.MEASURED)
    judged = paper.verdicts(paper.MEASURED)
    assert judged
    assert all(verdict.holds in (True, False) for verdict in judged)
    assert paper.DIFFERENCES
    assert paper.CONDITIONS.seconds <= 15 * 60
    printed = _table.report(
        paper.SUBJECT,
        paper.CLAIMED,
        paper.MEASURED,
        paper.CONDITIONS,
        judged,
        paper.DIFFERENCES,
    )
    assert all(row in printed for row in paper.MEASURED)


def test_papers_recorded_runs_are_complete():
    assert_each(NAMES, assert_complete)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_papers_smoke_run_fills_the_recorded_table(name, precision):
    paper = module(name)
    found = paper.smoke()
    assert keys(found) == keys(paper.MEASURED)
    for row, column in keys(found):
        if paper.MEASURED[row][column] is not None:
            assert math.isfinite(found[row][column].mean), (row, column)


def test_papers_index_names_every_paper_and_claim():
    printed = index.index()
    assert index.modules()
    for name in NAMES:
        paper = module(name)
        assert f"papers.{name}" in printed
        assert all(v.claim in printed for v in paper.verdicts(paper.MEASURED))


def test_papers_summary_stands_in_readme():
    readme = (Path(papers.__path__[0]).parent / "README.md").read_text()
    assert index.summary() in readme
