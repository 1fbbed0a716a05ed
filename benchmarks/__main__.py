"""Lists every benchmark's question with its last answer: python -m benchmarks."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from textwrap import wrap
from typing import NamedTuple

ROOM, WIDTH = Path(__file__).parent, 96
SECTION = re.compile(r"^([A-Z][a-z]+)  +(.*)$")


class Entry(NamedTuple):
    """A benchmark's header.

    Attributes:
        name: what `python -m benchmarks.name` runs.
        question: its first line.
        answer: its section "Answer", or the first sentence of "Conclusion", or "".
        date: when it was measured last, or "".
    """

    name: str
    question: str
    answer: str
    date: str


def sections(header: str) -> dict[str, str]:
    """Splits a header at lines of a word, spaces and text; "" is what comes before."""
    found, name = {"": ""}, ""
    for line in header.splitlines():
        if match := SECTION.match(line):
            name, line = match.groups()
            found[name] = ""
        elif line[:1].strip():
            name = ""
        found[name] += " " + line.strip()
    return {name: text.strip() for name, text in found.items()}


def read(name: str, path: Path) -> Entry:
    """Reads a module's header without importing the module."""
    header = ast.get_docstring(ast.parse(path.read_text())) or ""
    parts = sections(header)
    sentence = re.match(r".*?\.(?= |$)", parts.get("Conclusion", ""))
    date = re.search(r"\d{4}-\d\d-\d\d", parts.get("Last", ""))
    return Entry(
        name,
        header.partition("\n")[0],
        parts.get("Answer", sentence[0] if sentence else ""),
        date[0] if date else "",
    )


def entries() -> Iterator[Entry]:
    """Yields every benchmark that can be run, by name."""
    for path in sorted(ROOM.iterdir()):
        main = path / "__main__.py"
        if not path.name.startswith("_") and (path.suffix == ".py" or main.exists()):
            yield read(path.stem, path if path.suffix else main)


def table(listed: list[Entry]) -> str:
    """Sets names and dates left, questions and answers right."""
    left = 2 + max(len(entry.name) for entry in listed)
    lines = []
    for entry in listed:
        asked = wrap(entry.question, WIDTH - left, break_on_hyphens=False)
        answered = wrap(entry.answer, WIDTH - left - 2, break_on_hyphens=False)
        texts = [*asked, *("  " + line for line in answered)]
        heads = [entry.name, entry.date]
        for i in range(max(len(texts), 2 if entry.date else 1)):
            head = heads[i] if i < len(heads) else ""
            text = texts[i] if i < len(texts) else ""
            lines.append(f"{head:{left}s}{text}".rstrip())
        lines.append("")
    return "\n".join(lines).rstrip()


if __name__ == "__main__":
    print(table(list(entries())))
    print("\nRun one by `python -m benchmarks.NAME`.")
