"""Malformed command lines, tables and run folders, each with what its refusal must name.

    python -m tests.malformed_command

counts the refusals of all of them.
"""

import contextlib
import io
import json
import os
import random
import shutil
import signal
import tempfile
import traceback
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxcon import cli

NAMES = ["a", "the dose", "y"]
ROWS = [[str(i), str(i * i % 7), str(5 - i)] for i in range(12)]
ENSEMBLE = ["fit", "table.csv", "--target", "y", "--out", "run"]
METHOD = ["--method", "augmented"]
FIT = [*ENSEMBLE, *METHOD]
SECONDS = 60  # after which a call is said to hang


def table(names: list[str] = NAMES, rows: list[list[str]] = ROWS) -> bytes:
    """The bytes of a table."""
    return "\n".join(map(",".join, [names, *rows])).encode("utf-8", "surrogatepass")


class Case(NamedTuple):
    """A command that must be refused, or a run folder that `predict` must refuse.

    Attributes:
        kind: what is wrong, in a few words.
        words: the command line.
        named: what the refusal must contain.
        files: bytes by name, in the folder in which the command runs.
        alter: function of a copy of a good run's folder, "fitted"; None without one.
    """

    kind: str
    words: list[str]
    named: list[str]
    files: dict[str, bytes]
    alter: Callable[[Path], Any] | None = None


def commands(seed: int = 0) -> list[Case]:
    """Malformed command lines and tables, distinct, in the order of their kinds."""
    draw = random.Random(seed)
    cases = [*_numbers(), *_flags(draw), *_columns(), *_cells(draw), *_tables()]
    cases += [*_paths(), *_others(), *_ensembles()]
    distinct = {(tuple(one.words), tuple(one.files.items())): one for one in cases}
    return list(distinct.values())


NUMBERS = {
    "--steps": [
        "0",
        "-1",
        "2147483648",
        "9" * 30,
        "1.5",
        "nan",
        "inf",
        "many",
        "1_0",
        "١٢",
        "",
    ],
    "--seed": ["-1", "4294967296", "9" * 30, "0.5", "nan", "one", ""],
    "--width": ["0", "-8", "1000000000", "1e9", "2.5", "wide", ""],
    "--depth": ["0", "-1", "1000000", "1e9", "2.5", "deep", ""],
    "--held-out": ["0", "1", "-0.2", "1.5", "nan", "inf", "20%", ""],
    "--learning-rate": ["0", "-0.1", "nan", "inf", "1e300", "1e-300", "fast", ""],
    "--strength": ["0", "-1", "nan", "inf", "-inf", "1e300", "strong", ""],
    "--margin": ["-0.1", "nan", "inf", "1e300", "-1e-9", "some", ""],
    "--lower": ["1_0", "１", "nan", "inf", "-inf", "1e300", "-1e300", "low", ""],
    "--upper": ["nan", "inf", "-inf", "1e300", "-1e300", "1,5", ""],
    "--lipschitz": ["0", "-1", "nan", "inf", "1e300", "1e-300", "steep", ""],
}


def _numbers() -> Iterator[Case]:
    for flag, values in NUMBERS.items():
        for value in values:
            words = [*FIT, f"{flag}={value}"]
            yield Case(f"value of {flag}", words, [flag], {"table.csv": table()})
    for flag in ("--steps", "--seed", "--width", "--depth"):
        for value in NUMBERS[flag][:3]:
            words = ["example", "engel", "--out", "run", flag, value]
            yield Case("value of an example's flag", words, [flag], {})
    for seed in ("-1", "4294967296", "x"):
        words = ["example", "bounded", "--out", "run", "--seed", seed]
        yield Case("value of a study's flag", words, ["--seed"], {})


# Flags of ensembles: a value of each, and those that are refused, with what is named.
NEW_FLAGS: dict[str, tuple[str, dict[str, str]]] = {
    "--monotone": ("a", {"z": "'z'", "y": "target", "a,-a": "'a'", "a,a": "'a'",
                         "": "monotone", "-": "monotone", "a,": "monotone"}),
    "--unimodal": ("a", {"z": "'z'", "y": "target", "": "''"}),
    "--categorical": ("a", {"z": "'z'", "": "''"}),
    "--quantiles": ("0.5", {"0": "0", "1": "1", "-0.5": "-0.5", "nan": "nan",
                            "half": "'half'", "1.5": "1.5", "": "''"}),
    "--loss": ("huber", {"mse": "'mse'", "gamma": "positive", "poisson": "at least 0"}),
    "--members": ("2", {"0": "0", "-1": "-1", "1001": "1001", "two": "'two'",
                        "2.5": "'2.5'", "": "''"}),
    "--batch": ("8", {"0": "0", "-1": "-1", "1e9": "'1e9'", "all": "'all'"}),
}  # fmt: skip
# Words after a good command of an ensemble, and what the refusal names.
NEW_WORDS: list[tuple[list[str], list[str]]] = [
    (["--slope"], ["--slope"]),
    (["--slope", "a"], ["--slope", "LOW"]),
    (["--slope", "a", "0"], ["--slope", "LOW"]),
    (["--slope", "z", "0", "1"], ["--slope", "'z'"]),
    (["--slope", "y", "0", "1"], ["--slope", "target"]),
    (["--slope", "a", "1", "0"], ["--slope a", "1.0", "below"]),
    (["--slope", "a", "-1", "-1"], ["--slope a", "-1.0", "below"]),
    (["--slope", "a", "none", "none"], ["--slope a", "none"]),
    (["--slope", "a", "low", "1"], ["--slope", "'low'"]),
    (["--slope", "a", "nan", "1"], ["--slope", "nan"]),
    (["--slope", "a", "1e300", "none"], ["--slope"]),
    (["--slope", "a", "0", "1", "--slope", "a", "0", "2"], ["'a'", "twice"]),
    (["--slope", "a", "1", "2", "--decreasing", "a"], ["'a'", "no slope"]),
    (["--convex-together", "a"], ["--convex-together", "two"]),
    (["--convex-together", "a", "z"], ["--convex-together", "'z'"]),
    (["--concave-together", "a", "a"], ["--concave-together", "'a'", "twice"]),
    (["--concave-together", "a", "y"], ["--concave-together", "target"]),
    (["--monotone", "a", "--decreasing", "a"], ["'a'", "increasing and decreasing"]),
    (["--monotone", "-a", "--unimodal", "a"], ["'a'", "unimodal"]),
    (["--quantiles", "0.5", "--loss", "huber"], ["--quantiles", "--loss"]),
    (["--quantiles", "0.5", "0.5"], ["--quantiles", "twice"]),
    (["--loss", "huber", "--log"], ["--loss", "--log"]),
    (["--log"], ["--log", "'y'", "positive"]),
    (["--categorical", "a", "--increasing", "a"], ["'a'", "categories"]),
    (["--categorical", "a", "--unimodal", "a"], ["'a'"]),
    (["--upper", "-1e300"], ["--upper"]),
    (["--lipschitz", "1e-300"], ["--lipschitz"]),
    (["--loss", "classes", "--convex", "a"], ["'y'", "classes"]),
    *[([flag, "7"], [flag, "--method"])
      for flag in ("--width", "--depth", "--learning-rate", "--strength", "--margin")],
]  # fmt: skip


def _ensembles() -> Iterator[Case]:
    files = {"table.csv": table()}
    for flag, (good, bad) in NEW_FLAGS.items():
        yield Case(f"value of {flag}", [*ENSEMBLE, flag], [flag], files)
        twice = [*ENSEMBLE, flag, good, flag, good]
        yield Case("flag given twice", twice, [flag, "twice"], files)
        words = [*FIT, flag, good]
        yield Case("flag of ensembles", words, [flag, "--method"], files)
        for value, named in bad.items():
            words = [*ENSEMBLE, f"{flag}={value}"]
            yield Case(f"value of {flag}", words, [flag, named], files)
    for more, named in NEW_WORDS:
        yield Case(f"an ensemble's {more[0]}", [*ENSEMBLE, *more], named, files)
    for flag in ("--log", "--json", "--no-report"):
        yield Case("flag of ensembles", [*FIT, flag], [flag, "--method"], files)
    contents = {
        "a text among numbers": (table(rows=[*ROWS, ["two", "1", "3"]]),
                                 ["line 14", "'a'", "'two'", "--categorical"]),
        "a text in the target": (table(rows=[*ROWS, ["2", "1", "x"]]),
                                 ["line 14", "'y'", "'x'"]),
        "an infinite cell": (table(rows=[*ROWS, ["inf", "1", "3"]]),
                             ["line 14", "'a'", "finite"]),
        "no target": (table(rows=[[*row[:2], "NA"] for row in ROWS]), ["'y'", "0 rows"]),
        "one row": (table(rows=ROWS[:1]), ["1 row", "'y'"]),
        "one label": (table(rows=[[*row[:2], "x"] for row in ROWS]),
                      ["'y'", "constant", "'x'"]),
        "labels all apart": (table(rows=[[*row[:2], f"x{row[0]}"] for row in ROWS]),
                             ["'y'", "12 labels"]),
        "constant target": (table(rows=[[*row[:2], "1"] for row in ROWS]),
                            ["'y'", "constant"]),
        "too long a row": (table(rows=[*ROWS, ["1", "2", "3", "4"]]),
                           ["line 14", "4 cells"]),
        "target alone": (table(["y"], [[row[0]] for row in ROWS]), ["'y'", "target"]),
    }  # fmt: skip
    for name, (content, named) in contents.items():
        yield Case(f"ensemble: {name}", ENSEMBLE, named, {"table.csv": content})
    words = ["fit", "--target", "foodexp", "--monotone", "wealth"]
    yield Case("rule of no column of Engel's", words, ["'wealth'"], {})
    for flag, value in (("--level", "0.9"), ("--level", "x")):
        words = ["predict", "fitted", "new.csv", flag, value]
        new = {"new.csv": b"a,the dose\n1,2"}
        yield Case("level of a method", words, [flag], new, lambda at: None)


FLAGS = {
    **dict.fromkeys(NUMBERS, "1"),
    **dict.fromkeys(("--increasing", "--decreasing", "--convex", "--concave"), "a"),
    "--inputs": "a",
    "--method": "penalty",
    "--target": "y",
    "--out": "other",
}


def _flags(draw: random.Random) -> Iterator[Case]:
    files = {"table.csv": table()}
    for flag, value in FLAGS.items():
        own = {"--out": "run", "--target": "y", "--method": "augmented"}.get(flag)
        rest = [word for word in FIT if word not in (flag, own)]
        yield Case("flag without a value", [*rest, flag], [flag], files)
        twice = [*rest, flag, value, flag, value]
        yield Case("flag given twice", twice, [flag, "twice"], files)
        for _ in range(2):
            letters = list(flag[2:])
            at = draw.randrange(len(letters))
            if draw.random() < 0.5:
                letters.insert(at, draw.choice("qxz"))
            else:
                letters[at] = draw.choice("QXZ")
            odd = "--" + "".join(letters)
            words = [*FIT, odd, value]
            yield Case("misspelled flag", words, [odd, "nearest is --"], files)
        if "-" in flag[2:]:
            odd = "--" + flag[2:].replace("-", "_")
            words = [*FIT, f"{odd}={value}"]
            yield Case("underscore in a flag", words, [odd, flag], files)
    for flag in ("--increasing", "--lower", "--target", "--steps", "--compare"):
        words = ["predict", "run", "table.csv", flag, "1"]
        yield Case("flag of another command", words, [flag], files)
    for flag in ("--increasing", "--target", "--compare", "--method"):
        words = ["example", "engel", flag, "a"]
        yield Case("flag of another command", words, [flag], {})
    for flag in ("--steps", "--width", "--held-out", "--margin"):
        value = "0.5" if flag in ("--held-out", "--margin") else "7"
        words = ["example", "bounded", flag, value]
        yield Case("flag of tables", words, [flag], {})
    for more in (["more.csv"], ["a", "b"], ["-"]):
        words = ["fit", "table.csv", *more, "--target", "y", "--out", "run"]
        yield Case("an argument too many", words, [repr(more[0])], files)


def _columns() -> Iterator[Case]:
    files = {"table.csv": table()}
    for flag in ("--increasing", "--decreasing", "--convex", "--concave", "--inputs"):
        for name in ("z", "A", "dose", "", "a\0", "\udc80", "$x$", "x" * 300, "a\nb"):
            words = [*FIT, flag, name]
            shown = repr(name)[1:-1][:20]
            named = [shown] if flag == "--inputs" else [flag, shown]
            yield Case("column that is not there", words, named, files)
        words = [*FIT, flag, "y"]
        yield Case("rule of the target", words, [flag, "y", "target"], files)
        yield Case("column twice", [*FIT, flag, "a", "a"], ["'a'", "twice"], files)
    for name in ("z", "Y", "", "y ", "\udc80", "x" * 300):
        words = ["fit", "table.csv", "--target", name, "--out", "run"]
        yield Case("target that is not there", words, [repr(name)[1:-1][:20]], files)
        words = ["fit", "--target", name, "--out", "run"]
        yield Case("target not of Engel's", words, [repr(name)[1:-1][:20]], {})
    for one, other in (("--increasing", "--decreasing"), ("--convex", "--concave")):
        words = [*FIT, one, "a", other, "the dose", "a"]
        yield Case(
            "rules against each other", words, [one[2:], other[2:], "'a'"], files
        )
    for low, high in (("1", "1"), ("2", "-1"), ("0", "-1e-9")):
        words = [*FIT, "--lower", low, "--upper", high]
        yield Case("bounds crossed", words, ["--lower", "--upper"], files)
    for share in ("0.05", "0.95", "0.001"):
        words = [*FIT, "--held-out", share]
        yield Case("too few rows", words, ["12 rows", "--held-out"], files)


CELLS = {
    "": "blank",
    " ": "blank",
    "two": "'two'",
    "1_000": "'1_000'",
    "١٢": "'١٢'",
    "１２": "'１２'",
    "1e999": "1e999",
    "-inf": "-inf",
    "nan": "nan",
    "1.797e308": "1.797e308",
    "0x10": "'0x10'",
    "1 000": "'1 000'",
    "1-2": "'1-2'",
    "$5": "'$5'",
    "5%": "'5%'",
    "−5": "'−5'",
    '"2,5"': "'2,5'",
    '"1\n2"': r"'1\n2'",
    "NA": "'NA'",
    "1\f": "number",
    "=1+1": "'=1+1'",
    "true": "'true'",
}


def _cells(draw: random.Random) -> Iterator[Case]:
    for cell, word in CELLS.items():
        for _ in range(3):
            row, place = draw.randrange(12), draw.randrange(3)
            rows = [list(one) for one in ROWS]
            rows[row][place] = cell
            line = row + 2 + cell.count("\n")
            files = {"table.csv": table(rows=rows)}
            named = [f"line {line}", repr(NAMES[place]), word]
            yield Case(f"cell {cell[:9]!r}", FIT, named, files)


def _tables() -> Iterator[Case]:
    def rows(*changes: list[str]) -> bytes:
        return table(rows=[*ROWS, *changes])

    contents = {
        "empty": (b"", ["empty"]),
        "blank": (b"\n , , \n\n", ["empty"]),
        "names only": (table(rows=[]), ["no rows"]),
        "no names": (table(ROWS[0], ROWS[1:]), ["first line", "names"]),
        "nameless": (table(["", "the dose", "y"]), ["column 1", "no name"]),
        "blank name": (table(["a", "  ", "y"]), ["column 2", "no name"]),
        "pandas' name": (table(["Unnamed: 0", "b", "y"]), ["column 1", "no name"]),
        "two of a name": (table(["a", "a", "y"]), ["two columns", "'a'"]),
        "NUL in a name": (table(["a\0", "b", "y"]), ["NUL", "line 1"]),
        "tab in a name": (table(["a\tb", "b", "y"]), ["column 1", "control"]),
        "escape in a name": (table(["a", "\x1b[2J", "y"]), ["column 2", "control"]),
        "break in a name": (table(['"a\nb"', "b", "y"]), ["column 1", "control"]),
        "row too short": (rows(["1", "2"]), ["line 14", "2 cells"]),
        "row too long": (rows(["1", "2", "3", "4"]), ["line 14", "4 cells"]),
        "row of one cell": (rows(["1"]), ["line 14", "1 cells"]),
        "open quote": (rows(["1", "2", '"3']), ["quote", "closed"]),
        "open quote early": (table(rows=[["1", '"2', "3"], *ROWS]), ["quote", "closed"]),
        "text after a quote": (rows(["1", '"2"2', "3"]), ["line 14"]),
        "NUL in a cell": (rows(["1", "2\0", "3"]), ["line 14", "NUL"]),
        "Latin-1": ("a,é,y\n1,2,3".encode("latin-1"), ["UTF-8", "0xe9"]),
        "UTF-16": ("a,b,y\n1,2,3".encode("utf-16"), ["UTF-8"]),
        "UTF-32": ("a,b,y\n1,2,3".encode("utf-32-be"), ["UTF-8", "NUL"]),
        "cut UTF-8": (rows(["1", "2", "3"]) + b"\xc3", ["UTF-8"]),
        "surrogate": (table(["a\ud800", "b", "y"]), ["UTF-8"]),
        "binary": (bytes(range(256)) * 8, ["UTF-8"]),
        "a zip": (b"PK\3\4\0\0\0\0" * 99, ["UTF-8"]),
        "semicolons": (b"a;b;y\n1;2;3", ["commas"]),
        "tabs": (b"a\tb\ty\n1\t2\t3", ["commas"]),
        "a vast cell": (rows(["1", "9" * 200_000, "3"]), ["line 14"]),
        "constant input": (table(rows=[[r[0], "1", r[2]] for r in ROWS]),
                           ["'the dose'", "constant"]),
        "constant target": (table(rows=[[*r[:2], "1"] for r in ROWS]),
                            ["'y'", "constant"]),
        "next to constant": (table(rows=[[r[0], f"{r[1]}e-200", r[2]] for r in ROWS]),
                             ["'the dose'", "varies"]),
        "target alone": (table(["y"], [[r[0]] for r in ROWS]), ["'y'", "target"]),
        "one row": (table(rows=ROWS[:1]), ["1 row", "--held-out"]),
        "four rows": (table(rows=ROWS[:4]), ["4 rows", "--held-out"]),
        "many inputs": (table([f"x{i}" for i in range(600)] + ["y"],
                              [[str(i)] * 601 for i in range(12)]), ["600 inputs"]),
    }  # fmt: skip
    for name, (content, words) in contents.items():
        yield Case(f"table: {name}", FIT, words, {"table.csv": content})


def _paths() -> Iterator[Case]:
    files = {"table.csv": table(), "folder/x": b""}
    paths = {
        "none.csv": ["none.csv", "no such file"],
        "none/none.csv": ["none/none.csv", "no such file"],
        "folder": ["folder"],
        ".": ["folder"],
        "table.csv/x": ["table.csv/x"],
        "a\0b": ["NUL"],
        "\0": ["NUL"],
        "a\udc80b": ["UTF-8"],
        "\ud800": ["UTF-8"],
        "": ["path"],
        "x" * 300: ["xxx", "long"],
        "a\nb": [r"a\nb", "no such file"],
        "\x1b[2J": [r"\x1b[2J", "no such file"],
        "/dev/zero": ["/dev/zero", "NUL"],
        "/dev/null": ["/dev/null", "empty"],
        "~": ["~", "no such file"],
    }
    for path, named in paths.items():
        words = ["fit", path, "--target", "y", "--out", "run"]
        yield Case("path of a table", words, named, files)
    outs = {
        "table.csv": ["--out table.csv"],
        "table.csv/x": ["--out table.csv/x"],
        "folder": ["--out folder", "exists"],
        ".": ["--out .", "exists"],
        "a\0b": ["--out", "NUL"],
        "\ud800": ["--out", "UTF-8"],
        "x" * 300: ["--out", "long"],
        "": ["--out"],
        "/proc/nothing/run": ["--out /proc/nothing"],
    }
    for out, named in outs.items():
        words = ["fit", "table.csv", "--target", "y", "--out", out]
        yield Case("path of the results", words, named, files)
        words = ["example", "bounded", "--out", out]
        yield Case("path of an example's results", words, named, files)
    for run in ("none", "folder", "table.csv", ".", "a\0b", "\ud800", "x" * 300, ""):
        words = ["predict", run, "table.csv"]
        odd = {"a\0b": "NUL", "\ud800": "UTF-8", "": "path"}.get(run, run[:9])
        yield Case("path of a run", words, [odd], files)
    for extra in ([], ["--method", "penalty"]):
        words = [*ENSEMBLE[:4], "--out", "folder", "--resume", *extra]
        yield Case("resume of no run", words, ["folder", "no run"], files)
        words = [*ENSEMBLE[:4], "--resume", *extra]
        yield Case("resume of nothing", words, ["--resume", "--out"], files)


def _others() -> Iterator[Case]:
    files = {"table.csv": table()}
    yield Case("no command", [], ["fit", "predict", "example"], {})
    for word in ("ft", "FIT", "train", "--steps", "table.csv", "", "\0"):
        yield Case("unknown command", [word], [repr(word)[1:-1]], {})
    for name in ("nonesuch", "Engel", "", "engel.csv", "a\0"):
        words = ["example", name, "--out", "run"]
        yield Case("unknown example", words, [repr(name), "engel"], {})
    yield Case("no example", ["example"], ["name"], {})
    yield Case("no run", ["predict"], ["run", "data"], {})
    yield Case("no data", ["predict", "run"], ["data"], {})
    yield Case("no target", FIT[:2], ["--target"], files)
    for name in ("simplex", "Penalty", "", "none"):
        words = [*ENSEMBLE, "--method", name]
        yield Case("unknown method", words, ["--method", repr(name)], files)
    for more in (["--compare"], ["--compare", "--method", "penalty"]):
        yield Case("nothing to compare", [*ENSEMBLE, *more], ["--compare"], files)
    yield Case(
        "target an input", [*FIT, "--inputs", "a", "y"], ["--inputs", "'y'"], files
    )
    words = [*FIT, "--inputs", "a", "--convex", "the dose"]
    yield Case("rule of an input left out", words, ["--convex", "'the dose'"], files)
    rows = {
        "too few columns": (table(["a", "z", "w"]), ["'the dose'"]),
        "bad cell": (b"a,the dose\n1,x", ["line 2", "'the dose'", "'x'"]),
        "blank cell": (b"a,the dose\n1,2\n,1", ["line 3", "'a'", "blank"]),
        "ragged": (b"a,the dose\n1,2,3", ["line 2", "3 cells"]),
        "no rows": (b"a,the dose\n", ["no rows"]),
        "far away": (b"a,the dose\n1,1\n1e100,1e100", ["row 2", "finite"]),
    }
    for kind, (content, named) in rows.items():
        words = ["predict", "fitted", "new.csv"]
        yield Case(f"rows: {kind}", words, named, {"new.csv": content}, lambda at: None)
    for method in ("penalty", "", "Augmented", "augmented/0"):
        words = ["predict", "fitted", "new.csv", "--method", method]
        named = [repr(method), "'augmented'"]
        files = {"new.csv": b"a,the dose\n1,2"}
        yield Case("method not trained", words, named, files, lambda at: None)
    for flag, value in (
        ("--steps", "4"),
        ("--seed", "1"),
        ("--lower", "-99"),
        ("--convex", "a"),
        ("--method", "penalty"),
        ("--inputs", "a"),
    ):
        words = [*ENSEMBLE[:4], "--out", "fitted", "--resume", flag, value]
        words += [] if flag == "--steps" else ["--steps", "3"]
        words += [] if flag == "--method" else METHOD
        named = ["--resume", "the methods" if flag == "--method" else flag]
        files = {"table.csv": table()}
        yield Case("resume of another run", words, named, files, lambda at: None)
    words = [*FIT[:4], *METHOD, "--out", "fitted", "--resume", "--steps", "3"]
    other = {"table.csv": table(rows=[*ROWS, ["99", "9", "-9"]])}
    yield Case(
        "resume with other data", words, ["--resume", "data"], other, lambda at: None
    )


def alterations(seed: int = 0) -> list[Case]:
    """Altered folders of a run, distinct by their kinds."""
    draw = random.Random(seed)
    cases = [*_altered_json(), *_altered_arrays(draw), *_altered_files(draw)]
    assert len({case.kind for case in cases}) == len(cases)
    return cases


def _altered(kind: str, named: list[str], alter: Callable[[Path], Any]) -> Case:
    new = {"new.csv": b"a,the dose\n1,2"}
    return Case(kind, ["predict", "fitted", "new.csv"], ["fitted", *named], new, alter)


def _altered_json() -> Iterator[Case]:
    def case(path: tuple, what: str, change: Callable[[Any, Any], None]) -> Case:
        def alter(folder: Path) -> None:
            run = json.loads((folder / "run.json").read_text())
            at = run
            for key in path[:-1]:
                at = at[key]
            change(at, path[-1])
            (folder / "run.json").write_text(json.dumps(run))

        words = ["run.json", str(path[0] if len(path) < 2 else path[1])]
        if path[0] not in ("scaling", "settings"):
            words[1] = str(path[0])
        if path[0] == "scaling" or path == ("hashes", "scaling.scale"):
            words[1] = "scaling"
        return _altered(f"run.json: {'.'.join(map(str, path))} {what}", words, alter)

    def put(value: Any) -> Callable[[Any, Any], None]:
        return lambda at, key: at.__setitem__(key, value)

    values = {
        "NaN": float("nan"), "text": "x", "null": None, "a list": [], "true": True,
        "negative": -1, "zero": 0, "vast": 10**400, "entries": {},
    }  # fmt: skip
    for name in ("width", "depth", "steps", "margin"):
        for what, value in values.items():
            if (name, what) != ("margin", "zero"):
                yield case(("settings", name), f"is {what}", put(value))
    for name in ("inputs", "target", "lower", "upper", "center", "scale"):
        for what, value in values.items():
            yield case(("scaling", name), f"is {what}", put(value))
        yield case(("scaling", name), "is missing", lambda at, key: at.pop(key))
    for path, value in {
        ("scaling", "center"): 1.0, ("scaling", "scale"): 7.0,
        ("scaling", "lower"): [0.0, -1.0], ("scaling", "upper"): [12.0, 9.0],
        ("scaling", "inputs"): ["the dose", "a"], ("scaling", "target"): "z",
        ("settings", "depth"): 1, ("settings", "width"): 8,
        ("settings", "seed"): 3, ("rows",): 13, ("target",): "z",
        ("trained",): [], ("trained", 0): "penalty", ("results", 0): {},
    }.items():  # fmt: skip
        yield case(path, "is another", put(value))
    for name in ("settings", "scaling", "trained", "parameters", "results", "hashes",
                 "rules", "methods", "data", "target", "rows"):  # fmt: skip
        yield case((name,), "is missing", lambda at, key: at.pop(key))
        yield case((name,), "is text", put("augmented"))
        if name != "data":
            yield case((name,), "is null", put(None))
    yield case(("other",), "is more", put(1))
    yield case(("settings", "other"), "is more", put(1))
    yield case(("scaling", "other"), "is more", put(1))
    yield case(("parameters", "augmented"), "is another", put("0" * 64))
    yield case(("hashes", "scaling.scale"), "is another", put("0" * 64))


def _altered_arrays(draw: random.Random) -> Iterator[Case]:
    def case(what: str, key: str, change: Callable[[dict, str], Any]) -> Case:
        def alter(folder: Path) -> None:
            with np.load(folder / "parameters.npz") as file:
                arrays = dict(file)
            change(arrays, key)
            np.savez(folder / "parameters.npz", **arrays)

        return _altered(f"array {key} {what}", ["parameters.npz"], alter)

    def put(function: Callable[[np.ndarray], Any]) -> Callable[[dict, str], Any]:
        return lambda arrays, key: arrays.__setitem__(key, function(arrays[key]))

    def one(value: float) -> Callable[[np.ndarray], np.ndarray]:
        at = draw.random()

        def changed(array: np.ndarray) -> np.ndarray:
            array = array.copy()
            array.flat[int(at * array.size)] = value
            return array

        return changed

    changes = {
        "is missing": lambda arrays, key: arrays.pop(key),
        "is of another name": lambda arrays, key: arrays.update(x=arrays.pop(key)),
        "is longer": put(lambda array: np.concatenate([array, array])),
        "is a number": put(lambda array: np.float32(1)),
        "is empty": put(lambda array: array[:0]),
        "has another axis": put(lambda array: array[None]),
        "is float64": put(lambda array: array.astype(float)),
        "is of whole numbers": put(lambda array: np.ones(array.shape, int)),
        "is complex": put(lambda array: array + 1j),
        "is text": put(lambda array: np.full(array.shape, "x")),
        "is of objects": put(lambda array: array.astype(object)),
        "holds NaN": put(one(np.nan)),
        "holds another": put(one(0.125)),
        "is infinite": put(one(np.inf)),
        "is doubled": put(lambda array: 2 * array + 1),
    }
    for layer in range(3):
        for name in "wb":
            for what, change in changes.items():
                yield case(what, f"augmented/{layer}/{name}", change)


def _altered_files(draw: random.Random) -> Iterator[Case]:
    def rewrite(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], Any]:
        return lambda at: (at / name).write_bytes(change((at / name).read_bytes()))

    def swap(name: str) -> Callable[[Path], Any]:
        def alter(at: Path) -> None:
            (at / name).unlink()
            (at / name).mkdir()

        return alter

    for name in ("run.json", "parameters.npz"):
        contents = {
            "is empty": lambda old: b"",
            "is torn": lambda old: old[: len(old) // 2],
            "is text": lambda old: b"nothing",
            "is binary": lambda old: b"\xff\xfe\0\1",
            "is a list": lambda old: b"[1, 2]",
            "is a number": lambda old: b"1",
            "is null": lambda old: b"null",
            "is nested": lambda old: b"[" * 100_000,
            "is begun": lambda old: b"PK\3\4 torn",
            "is of NULs": lambda old: bytes(4096),
            "is of other digits": lambda old: b'{"scaling": ' + b"9" * 5000 + b"}",
        }
        for what, change in contents.items():
            yield _altered(f"{name} {what}", [name], rewrite(name, change))
        yield _altered(f"{name} is gone", [name], lambda at, n=name: (at / n).unlink())
        yield _altered(f"{name} is a folder", [name], swap(name))
    for number in range(12):
        at = 0.05 + 0.6 * draw.random()  # of the bytes of arrays, before the directory

        def flip(old: bytes, at: float = at) -> bytes:
            # An array's own bytes: their checksum is that of the zip file.
            place = old.index(b"\n", int(at * len(old)) % (len(old) // 2)) + 40
            return old[:place] + bytes([old[place] ^ 0x40]) + old[place + 1 :]

        change = rewrite("parameters.npz", flip)
        yield _altered(f"parameters.npz, byte {number}", ["parameters.npz"], change)

    def bomb(at: Path) -> None:
        header = (
            b"{'descr': '<f4', 'fortran_order': False, 'shape': (9999999999999,), }"
        )
        npy = b"\x93NUMPY\1\0" + len(header).to_bytes(2, "little") + header
        with zipfile.ZipFile(at / "parameters.npz", "w") as file:
            for layer in range(3):
                for name in "wb":
                    file.writestr(f"augmented/{layer}/{name}.npy", npy)

    yield _altered("parameters.npz is vast", ["parameters.npz"], bomb)


class Outcome(NamedTuple):
    """What became of a case: refused, silent, traceback, hang or untidy; its line."""

    case: Case
    word: str
    line: str

    @property
    def named(self) -> bool:
        """Whether the refusal contains what it must."""
        return all(word in self.line for word in self.case.named)


def fitted(folder: Path) -> Path:
    """Makes the folder of a good run."""
    (folder / "table.csv").write_bytes(table())
    with contextlib.chdir(folder), contextlib.redirect_stderr(io.StringIO()):
        with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
            cli.main([*FIT[:4], *METHOD, "--steps", "3", "--out", "fitted"])
    return folder / "fitted"


def outcome(case: Case, good: Path) -> Outcome:
    """Runs one case in a folder of its own.

    Args:
        case: the case.
        good: the folder of `fitted`.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file, content in case.files.items():
            (folder / file).parent.mkdir(exist_ok=True)
            (folder / file).write_bytes(content)
        if case.alter is not None:
            shutil.copytree(good, folder / "fitted")
            case.alter(folder / "fitted")
        before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
        code, out, err = _call(folder, case.words)
        after = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    if isinstance(code, str):
        return Outcome(case, code, err)
    if code == 0:
        return Outcome(case, "silent", out[-200:])
    tidy = err.startswith("jaxcon: ") and err.count("\n") == 1 and before == after
    word = "refused" if code == 2 and tidy and not out else "untidy"
    return Outcome(case, word, err)


def _call(folder: Path, words: list[str]) -> tuple[Any, str, str]:
    """Runs a command, and returns its exit code, or what happened instead."""

    def late(*_: Any) -> None:
        raise TimeoutError

    out, err = io.StringIO(), io.StringIO()
    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    try:
        with contextlib.chdir(folder), contextlib.redirect_stderr(err):
            with contextlib.redirect_stdout(out):
                cli.main(words)
    except SystemExit as left:
        return left.code, out.getvalue(), err.getvalue()
    except TimeoutError:
        return "hang", "", ""
    except BaseException:
        return "traceback", "", traceback.format_exc(limit=-2)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    return "returned", "", ""


def report(outcomes: list[Outcome]) -> str:
    """Counts what became of all cases, and lists those that went wrong."""
    counts = Counter(one.word for one in outcomes)
    refused = [one for one in outcomes if one.word == "refused"]
    named = sum(one.named for one in refused) / max(1, len(refused))
    lines = [f"{len(outcomes)} cases: {dict(counts)}, {named:.1%} named"]
    lines += [
        f"{one.word}{'' if one.named else ', not named'}: {one.case.kind}: "
        f"{one.case.words!r}: wanted {one.case.named}, got {one.line!r}"
        for one in outcomes
        if one.word != "refused" or not one.named
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    with tempfile.TemporaryDirectory() as place:
        run = fitted(Path(place))
        for cases in (commands(), alterations()):
            print(report([outcome(case, run) for case in cases]))
