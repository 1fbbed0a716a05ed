"""`python -m benchmarks` lists every benchmark's question and last answer."""

import sys
from pathlib import Path

import pytest

from benchmarks.__main__ import ROOM, entries, sections, table

LISTED = list(entries())


def test_every_benchmark_that_runs_is_listed_with_a_question():
    runs = {
        path.stem
        for path in ROOM.glob("[!_]*.py")
        if '__name__ == "__main__"' in path.read_text()
    }
    assert runs <= {entry.name for entry in LISTED}
    for entry in LISTED:
        assert entry.question.endswith("?"), entry.name


def test_most_benchmarks_are_listed_with_an_answer_and_a_date():
    answered = [entry for entry in LISTED if entry.answer]
    assert len(answered) >= 14
    assert sum(bool(entry.date) for entry in LISTED) >= 13
    assert all(entry.answer.endswith(".") for entry in answered)


def test_table_has_every_word_of_question_and_answer():
    words = table(LISTED).split()
    for entry in LISTED:
        assert set((entry.question + " " + entry.answer).split()) <= set(words)


def test_headers_are_read_without_importing_the_benchmark(tmp_path):
    from benchmarks.__main__ import read

    module = tmp_path / "raises.py"
    module.write_text('"""Is it read?\n\nAnswer       Yes,\n    it is.\n"""\n1 / 0\n')
    entry = read("raises", Path(module))
    assert (entry.question, entry.answer) == ("Is it read?", "Yes, it is.")
    assert "raises" not in sys.modules


@pytest.mark.parametrize("text", ["", "One line."])
def test_sections_of_a_header_without_any_are_its_text(text):
    assert sections(text) == {"": text}
