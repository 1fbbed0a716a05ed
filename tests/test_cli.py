"""The command: what it writes and prints, and that bad input is one line."""

import csv
import errno
import hashlib
import io
import json
import math
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import termios
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import malformed_command
import numpy as np
import pytest
from tables import assert_each
from test_tabular import BAD_FILES, BAD_WISHES, GOOD

from jaxcon import cli
from jaxcon.cli import _app, _ensemble, _folder, _tables
from jaxcon.ensembles import RuleVerdict, ShapeRules, load_ensemble
from jaxcon.examples import Findings, engel
from jaxcon.tabular import Rules

AUGMENTED = ["--method", "augmented"]
LITTLE = ["--members", "2", "--steps", "100"]
SMALL = ["--steps", "60", "--width", "8", "--depth", "1"]
METHODS = [
    "unconstrained",
    "light penalty",
    "penalty",
    "heavy penalty",
    "lagrangian",
    "augmented",
    "default",
]


def command(*words):
    """Runs the command in this process and returns its exit code."""
    with pytest.raises(SystemExit) as left:
        cli.main([str(word) for word in words])
    return left.value.code


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """A small CSV of two inputs, with spaces in a name and a column of text."""
    path = tmp_path_factory.mktemp("data") / "small.csv"
    rng = np.random.default_rng(0)
    rows = rng.uniform([0.0, -50.0], [10.0, 50.0], (40, 2))
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["the dose", "who", "b", "y"])
        for i, (a, b) in enumerate(rows):
            writer.writerow([a, f"row {i}", b, 100 - a + b / 10 + rng.normal()])
    return path


@pytest.fixture(scope="module")
def fitted(table, tmp_path_factory):
    """The folder of a fit by one method, under rules of several kinds."""
    folder = tmp_path_factory.mktemp("runs") / "deep" / "one"
    flags = ["--target", "y", "--inputs", "the dose", "b", "--increasing", "the dose"]
    flags += ["--lower", "-1e-05", "--seed", "5", *SMALL, *AUGMENTED]
    assert command("fit", table, *flags, "--out", folder) in (0, 3)
    return folder


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """The folder of a fit of one input by every method."""
    at = tmp_path_factory.mktemp("runs")
    rows = [f"{i},{i % 3}" for i in range(20)]
    (at / "one.csv").write_text("\n".join(["x,y", *rows]))
    flags = ["--target", "y", "--upper", "1.5", "--compare", *SMALL]
    assert command("fit", at / "one.csv", *flags, "--out", at / "all") == 0
    return at / "all"


@pytest.fixture
def inputs(tmp_path):
    """New rows for `fitted`, the columns in another order; the last is outside."""
    path = tmp_path / "new.csv"
    path.write_text("b,note,the dose\n-20,x,3\n0,y,4.5\n20,z,99\n")
    return path


def parameters(folder):
    with np.load(folder / "parameters.npz", allow_pickle=False) as file:
        return dict(file)


def one_line(capsys):
    """What was printed: nothing but one line on stderr that says whose it is."""
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("jaxcon: ")
    assert printed.err.endswith("\n")
    assert printed.err.count("\n") == 1, printed.err
    return printed.err


def test_fit_writes_its_folder(fitted, table):
    assert {path.name for path in fitted.iterdir()} == {
        "run.json",
        "parameters.npz",
        "table.csv",
        "table.md",
        "history.npz",
        "history.png",
        "curve-the-dose.png",
        "curve-b.png",
    }
    run = json.loads((fitted / "run.json").read_text())
    assert run["trained"] == ["augmented"]
    assert (run["rows"], run["target"]) == (40, "y")
    assert run["rules"]["increasing"] == ["the dose"]
    assert run["rules"]["lower"] == -1e-5
    assert (run["settings"]["seed"], run["settings"]["steps"]) == (5, 60)
    assert run["data"]["path"] == str(table)
    assert re.fullmatch("[0-9a-f]{64}", run["data"]["sha256"])
    assert "stopped" not in run
    (result,) = run["results"]
    with open(fitted / "table.csv", newline="") as file:
        (row,) = csv.DictReader(file)
    assert row.pop("method") == result.pop("method") == "augmented"
    assert {name: float(cell) for name, cell in row.items()} == result
    assert "| augmented |" in (fitted / "table.md").read_text()


def test_fit_repeats_a_run_to_the_bit_by_the_command_that_it_kept(
    fitted, tmp_path, capsys
):
    program, *words = shlex.split(
        json.loads((fitted / "run.json").read_text())["command"]
    )
    assert program == "jaxcon"
    assert command(*words, "--out", tmp_path / "again") in (0, 3)
    first, second = parameters(fitted), parameters(tmp_path / "again")
    assert first.keys() == second.keys()
    for name in first:
        assert first[name].tobytes() == second[name].tobytes(), name
    printed = capsys.readouterr()
    assert printed.out.startswith((tmp_path / "again" / "table.md").read_text())
    inputs, said = printed.err.splitlines()
    assert inputs == "jaxcon: small: 'y' from 'the dose', 'b', 40 rows"
    assert said == "jaxcon: small: augmented"


def test_fit_compare_trains_every_method(compared):
    run = json.loads((compared / "run.json").read_text())
    assert run["trained"] == METHODS
    assert [result["method"] for result in run["results"]] == METHODS
    assert list(run["worst points"]) == METHODS
    with open(compared / "table.csv", newline="") as file:
        assert [row["method"] for row in csv.DictReader(file)] == METHODS


def predicted(text):
    """Header and numbers of a CSV."""
    header, *rows = csv.reader(io.StringIO(text))
    return header, np.array(rows, float)


def test_predict_prints_the_rows_with_their_predictions(fitted, inputs, capsys):
    assert command("predict", fitted, inputs) == 0
    printed = capsys.readouterr()
    header, rows = predicted(printed.out)
    assert header == ["the dose", "b", "y"]
    x = np.array([[3, -20], [4.5, 0], [99, 20]])
    np.testing.assert_array_equal(rows[:, :2], x)
    # The network in NumPy, read from the files alone.
    scaling = json.loads((fitted / "run.json").read_text())["scaling"]
    lower, upper = np.array(scaling["lower"]), np.array(scaling["upper"])
    arrays = parameters(fitted)
    z = 2 * (x - lower) / (upper - lower) - 1
    z = np.tanh(z @ arrays["augmented/0/w"] + arrays["augmented/0/b"])
    z = (z @ arrays["augmented/1/w"] + arrays["augmented/1/b"])[:, 0]
    expected = scaling["center"] + scaling["scale"] * z
    np.testing.assert_allclose(rows[:, 2], expected, rtol=1e-5)  # float32
    assert printed.err.startswith("jaxcon: 1 of 3 rows lie outside the box")
    assert printed.err.count("\n") == 1


def test_predict_warns_of_nothing_inside_the_box(fitted, inputs, capsys):
    inputs.write_text("the dose,b\n3,-20\n")
    assert command("predict", fitted, inputs) == 0
    assert capsys.readouterr().err == ""


def test_predict_writes_a_new_file_only(fitted, inputs, tmp_path, capsys):
    assert command("predict", fitted, inputs) == 0
    text = capsys.readouterr().out
    out = tmp_path / "out.csv"
    assert command("predict", fitted, inputs, "--out", out) == 0
    assert capsys.readouterr().out == ""
    assert predicted(out.read_text())[0] == ["the dose", "b", "y"]
    np.testing.assert_array_equal(predicted(out.read_text())[1], predicted(text)[1])
    out.write_text("precious")
    inputs.write_text("the dose,b\n3,-20\n")  # inside the box: no other line
    assert command("predict", fitted, inputs, "--out", out) == 2
    assert f"--out {out}" in one_line(capsys)
    assert out.read_text() == "precious"


def test_predict_uses_the_method_asked_for(compared, tmp_path, capsys):
    (tmp_path / "new.csv").write_text("x\n2.5\n")
    arrays = parameters(compared)
    scaling = json.loads((compared / "run.json").read_text())["scaling"]

    def check(method):
        flags = [] if method is None else ["--method", method]
        assert command("predict", compared, tmp_path / "new.csv", *flags) == 0
        _, rows = predicted(capsys.readouterr().out)
        name = method or METHODS[-1]
        z = np.array([2 * 2.5 / 19 - 1])
        z = np.tanh(z @ arrays[f"{name}/0/w"] + arrays[f"{name}/0/b"])
        z = z @ arrays[f"{name}/1/w"] + arrays[f"{name}/1/b"]
        expected = scaling["center"] + scaling["scale"] * z[0]
        np.testing.assert_allclose(rows, [[2.5, expected]], rtol=1e-5)

    assert_each([None, *METHODS], check)


def broken(folder, **contents):
    """A new folder of a run, with files of these contents."""
    folder.mkdir()
    names = {"run": "run.json", "parameters": "parameters.npz"}
    for name, content in contents.items():
        (folder / names[name]).write_bytes(content)
    return folder


def test_predict_refuses_what_is_no_run(fitted, inputs, tmp_path, capsys):
    run = (fitted / "run.json").read_bytes()
    folders = {
        "nowhere": lambda at: at,
        "bare": lambda at: broken(at),
        "file": lambda at: fitted / "run.json",
        "text": lambda at: broken(at, run=b"no JSON"),
        "list": lambda at: broken(at, run=b"[1, 2]"),
        "binary": lambda at: broken(at, run=b"\xff\xfe"),
        "no parameters": lambda at: broken(at, run=run),
        "empty parameters": lambda at: broken(at, run=run, parameters=b""),
        "torn parameters": lambda at: broken(at, run=run, parameters=b"PK\3\4 torn"),
        "other parameters": lambda at: broken(at, run=run, parameters=b"nothing"),
    }

    def check(name):
        folder = folders[name](tmp_path / name)
        assert command("predict", folder, inputs) == 2
        message = one_line(capsys)
        assert "holds no run" in message
        assert str(folder) in message

    assert_each(folders, check)


def test_predict_refuses_bad_rows(fitted, inputs, capsys):
    def check(row):
        text, flags, words = row
        inputs.write_text(text)
        assert command("predict", fitted, inputs, *flags) == 2
        message = one_line(capsys)
        assert all(word in message for word in words), message

    rows = [
        ("the dose\n1\n", [], ["no column 'b'"]),
        ("the dose,b\n1,2\n", ["--method", "own"], ["'own'", "'augmented'"]),
        ("the dose,b\n1,\n", [], ["line 2", "'b'", "blank"]),
        ("the dose,b\n", [], ["no rows"]),
    ]
    assert_each(rows, check)


def flags_of(wishes):
    """Rules and settings as they are written on a command line."""
    words = []
    for name, value in ({"target": "y"} | wishes).items():
        words.append(f"--{name.replace('_', '-')}")
        words += map(str, value if isinstance(value, tuple) else [value])
    return words


BAD = {
    **{name: (content, {}, words) for name, (content, words) in BAD_FILES.items()},
    **BAD_WISHES,
    "unknown input": (GOOD, {"inputs": ("a", "z")}, ["'z'", "'a', 'b', 'y'"]),
    "input twice": (GOOD, {"inputs": ("a", "a")}, ["'a'", "twice"]),
    "target an input": (GOOD, {"inputs": ("a", "y")}, ["'y'", "target"]),
    "rule of an input left out": (
        GOOD,
        {"inputs": ("a",), "increasing": ("b",)},
        ["--increasing", "'b'"],
    ),
}


def assert_fit_refused(words, folder, capsys, *given):
    """Asserts that `fit` says so in one line and leaves the folder as it was."""
    before = set(folder.rglob("*"))
    assert command("fit", *given) == 2
    message = one_line(capsys)
    assert all(word in message for word in words), message
    assert set(folder.rglob("*")) == before


def test_fit_refuses_bad_input(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def check(name):
        content, wishes, words = BAD[name]
        (tmp_path / "table.csv").write_bytes(content)
        given = ["table.csv", *flags_of(wishes), *AUGMENTED]
        assert_fit_refused(words, tmp_path, capsys, *given)
        assert_fit_refused(words, tmp_path, capsys, *given, "--out", "run")

    assert_each(BAD, check)


# fmt: off
BAD_FLAGS = [
    (["none.csv", "--target", "y"], ["none.csv", "no such file"]),
    ([".", "--target", "y"], ["folder"]),
    (["table.csv"], ["--target"]),
    (["table.csv", "--target", "y", "--increasing"], ["--increasing"]),
    (["table.csv", "--target", "y", "--incresing", "a"],
     ["--incresing", "nearest is --increasing"]),
    (["table.csv", "--target", "y", "--convex", "a", "--convex", "b"],
     ["--convex", "twice"]),
    (["table.csv", "more.csv", "--target", "y"], ["'more.csv'", "too many"]),
    (["table.csv", "--target", "y", "--steps", "many"], ["--steps", "'many'"]),
    (["table.csv", "--target", "y", "--method", "simplex"], ["--method", "'simplex'"]),
    (["table.csv", "--target", "y", "--lower", "-inf"], ["--lower", "-inf"]),
    (["table.csv", "--target", "y", "--resume"], ["--resume", "--out"]),
    (["a\0b.csv", "--target", "y"], ["NUL"]),
    (["a\udc80b.csv", "--target", "y"], ["UTF-8"]),
    (["a\nb.csv", "--target", "y"], [r"a\nb.csv", "no such file"]),
    (["table.csv", "--target", "y", "--out", "a\0b"], ["--out", "NUL"]),
    (["table.csv", "--target", "y", "--out", "x" * 300], ["--out", "long"]),
    (["/dev/zero", "--target", "y"], ["/dev/zero", "NUL"]),
    (["table.csv", "--target", "y", "--compare"], ["--compare", "--increasing"]),
    (
        ["table.csv", "--target", "y", "--increasing", "a", "--compare"]
        + ["--method", "penalty"],
        ["--compare", "--method"],
    ),
    (["--target", "wealth"], ["Engel", "'wealth'", "'income'"]),
    (["--inputs", "wealth"], ["Engel", "'wealth'"]),
    (["--convex", "wealth"], ["--convex", "'wealth'"]),
    (["--method", "penalty", "--compare"], ["--compare", "--method"]),
    (["table.csv", "--target", "y", "--out", "table.csv"], ["--out table.csv"]),
    (["table.csv", "--target", "y", "--out", "table.csv/x"], ["--out table.csv/x"]),
]
# fmt: on


def test_fit_refuses_bad_flags(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "table.csv").write_bytes(GOOD)

    def check(row):
        given, words = row
        assert_fit_refused(words, tmp_path, capsys, *given)

    assert_each(BAD_FLAGS, check)


def test_fit_leaves_a_folder_that_exists_alone(table, tmp_path, capsys):
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "run.json").write_text("precious")
    assert command("fit", table, "--target", "y", "--inputs", "b", "--out", folder) == 2
    assert f"--out {folder} exists" in one_line(capsys)
    assert [path.name for path in folder.iterdir()] == ["run.json"]
    assert (folder / "run.json").read_text() == "precious"


def test_example_refuses_an_unknown_name(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert command("example", "nonesuch") == 2
    message = one_line(capsys)
    assert "'nonesuch'" in message
    assert "engel, call-surface" in message
    assert list(tmp_path.iterdir()) == []


def parts(seed, skip):
    """An example in two parts, the second of which Ctrl-C never sees the end of."""

    def draw(path):
        path.write_bytes(b"a picture")

    row = {"method": "a method", "seed": np.int64(seed), "error": math.nan}
    if skip < 1:
        yield Findings("first part", [row], "It shows.", {"first-part": draw})
        if seed == 1:
            raise KeyboardInterrupt
    yield Findings("second part", [row], "It shows more.", {"second-part": draw})


@pytest.mark.parametrize("seed", [0, 1])
def test_example_in_parts_is_written_as_it_goes(seed, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(_app.STUDIES, "both", parts)
    code = command("example", "both", "--seed", seed)
    printed = capsys.readouterr()
    titles = ["first part", "second part"][: 2 - seed]
    assert code == (130 if seed else 0)
    assert re.findall("## (.*)", printed.out) == titles
    folder = Path("jaxcon-runs/both-1")
    run = json.loads((folder / "run.json").read_text())
    assert run["command"] == f"jaxcon example both --seed {seed}"
    assert list(run["parts"]) == titles
    (row,) = run["parts"]["first part"]
    assert row["error"] == "nan"  # strict JSON has no NaN
    assert type(row["seed"]) is int
    assert ("stopped" in run) == ("saved in" in printed.err) == bool(seed)
    tables = (folder / "tables.md").read_text()
    assert re.findall("## (.*)", tables) == titles
    for title in titles:
        name = title.replace(" ", "-")
        assert (folder / f"{name}.png").read_bytes() == b"a picture"
        with open(folder / f"{name}.csv", newline="") as file:
            assert list(csv.DictReader(file)) == [
                {"method": "a method", "seed": str(seed), "error": "nan"}
            ]


def test_example_in_parts_goes_on_after_those_that_it_has(
    tmp_path, capsys, monkeypatch
):
    monkeypatch.setitem(_app.STUDIES, "both", parts)
    words = ["example", "both", "--seed", 1, "--out", tmp_path / "run"]
    assert command(*words) == 130
    capsys.readouterr()
    assert command(*words, "--resume") == 0
    resumed = capsys.readouterr().out
    assert re.findall("## (.*)", resumed) == ["first part", "second part"]
    tables = (tmp_path / "run" / "tables.md").read_text()
    assert re.findall("## (.*)", tables) == ["first part", "second part"]
    assert "stopped" not in json.loads((tmp_path / "run" / "run.json").read_text())
    assert command("example", "both", "--seed", 2, *words[4:], "--resume") == 2
    assert "--seed: 1 in" in one_line(capsys)


def test_example_refuses_settings_of_tables(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(_app.STUDIES, "both", parts)
    for flags in (["--steps", "7"], ["--seed", "-1"]):
        assert command("example", "both", *flags) == 2
        assert flags[0] in one_line(capsys)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_fit_without_a_file_is_of_engels_data_under_its_rules(
    tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert command("fit", "--method", "penalty", *SMALL) in (0, 3)
    capsys.readouterr()
    run = json.loads(Path("jaxcon-runs/engel-1/run.json").read_text())
    assert (run["rows"], run["target"], run["trained"]) == (235, "foodexp", ["penalty"])
    assert run["rules"]["increasing"] == run["rules"]["concave"] == ["income"]
    assert run["data"] is None
    assert Path("jaxcon-runs/engel-1/curve-income.png").exists()


def test_fit_and_example_train_the_methods_asked_for(monkeypatch):
    seen = []
    row = {"violation (search)": 0.0}
    monkeypatch.setattr(_app, "_run", lambda *given: seen.append(given) or [row])
    own = engel()

    def check(row):
        words, rules, only = row
        seen.clear()
        assert command(*words) == 0
        ((example, _, which, name, data),) = seen
        assert (example.rules, which, name, data) == (rules, only, "engel", None)
        np.testing.assert_array_equal(example.table.values, own.table.values)

    rows = [
        (["fit", "--compare"], own.rules, None),
        (["fit", "--method", "lagrangian"], own.rules, "lagrangian"),
        (["fit", "--convex", "income", "--compare"], Rules(convex=("income",)), None),
        (["example", "engel"], own.rules, None),
    ]
    assert_each(rows, check)


@pytest.mark.filterwarnings("ignore:step 1:RuntimeWarning")
def test_fit_that_goes_wrong_is_kept_and_exits_1(table, tmp_path, capsys):
    """A first step so long that everything after it is infinite."""
    folder = tmp_path / "run"
    flags = ["--target", "y", "--inputs", "b", *SMALL[2:], *AUGMENTED]
    flags += ["--steps", "250", "--learning-rate", "1e38"]
    assert command("fit", table, *flags, "--out", folder) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    *_, last = printed.err.splitlines()
    assert re.match(rf"jaxcon: step \d+: .*; saved in {folder}; ", last), printed.err
    assert "Traceback" not in printed.err
    assert json.loads((folder / "run.json").read_text())["stopped"]


def test_fit_stopped_before_it_trained_is_kept(
    table, inputs, tmp_path, capsys, monkeypatch
):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(_app, "train", stop)
    folder = tmp_path / "run"
    flags = ["--target", "y", "--inputs", "b", "--out", folder, *AUGMENTED]
    assert command("fit", table, *flags) == 130
    _, said, stopped = capsys.readouterr().err.splitlines()
    assert said == "jaxcon: small: augmented"
    assert stopped == (
        f"jaxcon: stopped by Ctrl-C; saved in {folder}; the same command with --resume "
        f"--out {folder} goes on"
    )
    run = json.loads((folder / "run.json").read_text())
    assert (run["trained"], run["stopped"]) == ([], "stopped by Ctrl-C")
    assert command("predict", folder, inputs) == 2
    assert "stopped before it trained" in one_line(capsys)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize(
    ("number", "name"),
    [
        (signal.SIGINT, "Ctrl-C"),
        pytest.param(signal.SIGTERM, "SIGTERM", marks=pytest.mark.slow),
    ],
)
def test_fit_stopped_half_way_keeps_what_was_reached(
    table, inputs, tmp_path, capsys, number, name
):
    folder = tmp_path / "run"
    words = [sys.executable, "-m", "jaxcon", "fit", table, "--target", "y"]
    words += ["--inputs", "the dose", "b", "--decreasing", "the dose", *AUGMENTED]
    words += ["--steps", "200000", "--width", "8", "--depth", "1", "--out", folder]
    # The progress bar, which says when training is under way, needs a terminal.
    ours, theirs = os.openpty()
    termios.tcsetwinsize(theirs, (24, 200))
    process = subprocess.Popen(
        list(map(str, words)), stdout=subprocess.PIPE, stderr=theirs, text=True
    )
    os.close(theirs)
    try:
        heard = listen(ours, until="worst violation", seconds=120)
        assert folder.exists()
        process.send_signal(number)
        heard += listen(ours, until=None, seconds=120)
        out, _ = process.communicate(timeout=120)
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    assert process.returncode == 128 + number, heard
    assert "Traceback" not in heard
    assert out == ""
    last = re.split(r"[\r\n]+", heard.strip())[-1]
    pattern = (
        rf"jaxcon: stopped by {name} after step (\d+) of 200000; saved in (.*?); .*"
    )
    step, place = re.fullmatch(pattern, last).groups()
    assert 0 < int(step) < 200_000
    assert place == str(folder)

    run = json.loads((folder / "run.json").read_text())
    assert run["stopped"].startswith(f"augmented: stopped by {name}")
    assert run["trained"] == ["augmented"]
    scaling, params = _folder.read_model(folder, None)
    assert command("predict", folder, inputs) == 0
    _, rows = predicted(capsys.readouterr().out)
    expected = scaling.predict(params, rows[:, :2])
    np.testing.assert_allclose(rows[:, 2], expected, rtol=1e-6)


def listen(terminal, until, seconds):
    """Reads a terminal until some text came, or to its end."""
    heard, end = "", time.monotonic() + seconds
    os.set_blocking(terminal, False)
    while until is None or until not in heard:
        assert time.monotonic() < end, f"{until!r} never came, but {heard!r}"
        try:
            piece = os.read(terminal, 4096).decode(errors="replace")
        except BlockingIOError:
            time.sleep(0.02)
            continue
        except OSError:  # Linux's way to say that the other side is closed
            break
        if not piece:
            break
        heard += piece
    return heard


def test_predict_into_a_closed_pipe_is_no_error(fitted, tmp_path):
    rows = tmp_path / "rows.csv"
    with open(fitted / "run.json") as file:
        names = json.load(file)["scaling"]["inputs"]
    row = ",".join("1" for _ in names)
    rows.write_text("\n".join([",".join(names), *[row] * 60_000]))
    words = shlex.join(
        [sys.executable, "-m", "jaxcon", "predict", str(fitted), str(rows)]
    )
    done = subprocess.run(
        f"{words} | head -n 1", shell=True, capture_output=True, text=True
    )
    assert done.stdout.startswith(names[0])
    assert "Traceback" not in done.stderr
    assert "Broken" not in done.stderr


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """The run that `malformed_command` alters."""
    return malformed_command.fitted(tmp_path_factory.mktemp("malformed"))


def outcomes(cases, good):
    return [malformed_command.outcome(case, good) for case in cases]


def test_malformed_commands_and_altered_runs_are_refused_by_name(good):
    """One of each kind of command line, and every eleventh of the altered runs."""
    kinds = {case.kind: case for case in malformed_command.commands()}
    cases = [*list(kinds.values())[::3], *malformed_command.alterations()[::11]]
    found = outcomes(cases, good)
    assert all(one.word == "refused" and one.named for one in found), (
        malformed_command.report(found)
    )


@pytest.mark.slow
def test_all_malformed_commands_and_altered_runs_are_refused_by_name(good):
    commands, alterations = (
        outcomes(cases, good)
        for cases in (malformed_command.commands(), malformed_command.alterations())
    )
    assert len(commands) >= 250
    assert len(alterations) >= 150
    for found in (commands, alterations):
        words = malformed_command.report(found)
        assert {one.word for one in found} == {"refused"}, words
        assert np.mean([one.named for one in found]) >= 0.98, words


# The command with a checkpoint every fifth of a second.
PROGRAM = """
import sys
from jaxcon import cli
from jaxcon.cli import _folder

_folder.INTERVAL = 0.2
cli.main(sys.argv[1:])
"""


def start(words):
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *map(str, words)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def assert_same_parameters(one, other):
    first, second = parameters(one), parameters(other)
    assert list(first) == list(second)
    for name in first:
        assert first[name].tobytes() == second[name].tobytes(), name


@pytest.fixture(scope="module")
def long_run(table, tmp_path_factory):
    """Words of a fit that takes a while, and its folder."""
    folder = tmp_path_factory.mktemp("long") / "run"
    words = ["fit", table, "--target", "y", "--inputs", "b", "--convex", "b"]
    words += ["--steps", 4000, "--width", 8, "--depth", 1, *AUGMENTED]
    assert command(*words, "--out", folder) == 0
    return words, folder


def test_fit_killed_resumes_to_the_same_parameters(long_run, tmp_path, capsys):
    words, whole = long_run
    folder = tmp_path / "run"
    process = start([*words, "--out", folder])
    try:
        end = time.monotonic() + 120
        saved = folder / "checkpoints" / "augmented"
        while not any(path.name.isdigit() for path in saved.glob("*")):
            assert time.monotonic() < end
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.01)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == -signal.SIGKILL
    at = max(int(path.name) for path in saved.glob("*") if path.name.isdigit())
    assert at < 4000
    assert command(*words, "--out", folder, "--resume") == 0
    assert_same_parameters(folder, whole)
    assert not (folder / "checkpoints").exists()
    with np.load(folder / "history.npz") as file:
        assert file["augmented/step"][0] == at  # it did not begin anew
    capsys.readouterr()
    # A run that is finished is read back.
    assert command(*words, "--out", folder, "--resume") == 0
    said = capsys.readouterr().err
    assert "augmented finished before" in said
    assert_same_parameters(folder, whole)


def words_of(folder):
    """The command that a run kept, as words after "jaxcon"."""
    run = json.loads((folder / "run.json").read_text())
    return shlex.split(run["command"])[1:]


def test_fit_killed_at_its_beginning_begins_anew(fitted, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    for name in ("parameters.npz", "history.npz", "run.json.part"):
        (folder / name).write_bytes(b"torn")
    assert command(*words_of(fitted), "--out", folder, "--resume") == 0
    assert_same_parameters(folder, fitted)


def test_fit_resumes_after_the_methods_that_have_finished(
    compared, tmp_path, capsys, monkeypatch
):
    words = words_of(compared)
    train, folder = _app.train, tmp_path / "run"
    calls = []

    def stopped(*given, **more):
        if len(calls) == 2:
            raise KeyboardInterrupt
        calls.append(given)
        return train(*given, **more)

    monkeypatch.setattr(_app, "train", stopped)
    assert command(*words, "--out", folder) == 130
    assert json.loads((folder / "run.json").read_text())["trained"] == METHODS[:2]
    capsys.readouterr()
    monkeypatch.setattr(_app, "train", train)
    assert command(*words, "--out", folder, "--resume") == 0
    printed = capsys.readouterr()
    assert "unconstrained, light penalty finished before" in printed.err
    assert_same_parameters(folder, compared)
    with open(folder / "table.csv", newline="") as file:
        assert [row["method"] for row in csv.DictReader(file)] == METHODS
    assert printed.out.startswith((folder / "table.md").read_text())
    assert "stopped" not in json.loads((folder / "run.json").read_text())


@pytest.mark.slow
def test_compare_killed_at_twenty_moments_resumes_to_the_same_parameters(
    compared, tmp_path
):
    words = words_of(compared)
    words[words.index("--steps") + 1] = "3000"
    began = time.monotonic()
    process = start([*words, "--out", tmp_path / "whole"])
    _, said = process.communicate()
    assert process.returncode == 0, said
    seconds = time.monotonic() - began
    draw = np.random.default_rng(0)
    for number in range(20):
        folder = tmp_path / str(number)
        process = start([*words, "--out", folder])
        time.sleep(draw.uniform(0, seconds))
        process.kill()
        process.communicate()
        assert command(*words, "--out", folder, "--resume") == 0
        assert_same_parameters(folder, tmp_path / "whole")


def test_fit_reads_a_pipe_once(fitted, table, tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    content = table.read_bytes()
    writer = threading.Thread(target=pipe.write_bytes, args=(content,), daemon=True)
    writer.start()
    words = words_of(fitted)
    words[words.index(str(table))] = str(pipe)
    assert command(*words, "--out", tmp_path / "run") == 0
    writer.join()
    run = json.loads((tmp_path / "run" / "run.json").read_text())
    assert run["data"]["sha256"] == hashlib.sha256(content).hexdigest()
    assert_same_parameters(tmp_path / "run", fitted)


def test_fit_on_a_full_disk_prints_its_table_and_one_line(
    table, tmp_path, capsys, monkeypatch
):
    """The disk is full from the figures on."""

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "history.png")

    monkeypatch.setattr(_folder.report, "plot_history", full)
    folder = tmp_path / "run"
    flags = ["--target", "y", "--inputs", "b", *SMALL, *AUGMENTED, "--out", folder]
    assert command("fit", table, *flags) == 1
    printed = capsys.readouterr()
    assert "| augmented |" in printed.out
    last = printed.err.splitlines()[-1]
    assert last == f"jaxcon: {folder} cannot be written: No space left on device"
    assert "augmented/0/w" in parameters(folder)


def test_fit_whose_checkpoints_fill_the_disk_keeps_its_parameters(
    table, tmp_path, capsys, monkeypatch
):
    folder, write = tmp_path / "run", _folder.write_arrays

    def full(path, trees):
        if trees and any((folder / "checkpoints").glob("*")):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(path, trees)

    monkeypatch.setattr(_folder, "write_arrays", full)
    flags = ["--target", "y", "--inputs", "b", *SMALL, *AUGMENTED, "--out", folder]
    assert command("fit", table, *flags) == 0
    assert json.loads((folder / "run.json").read_text())["trained"] == ["augmented"]


def test_predict_to_a_full_device_says_so_in_one_line(fitted, inputs):
    inputs.write_text("the dose,b\n3,-20\n")
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "jaxcon", "predict", fitted, inputs],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert done.returncode == 1
    assert done.stderr == (
        "jaxcon: the output cannot be written: No space left on device\n"
    )


def test_predict_writes_no_formula(tmp_path, capsys):
    rows = "\n".join(f"{i},{i % 3}" for i in range(20))
    (tmp_path / "odd.csv").write_text(f"=1+1,@y\n{rows}")
    words = ["fit", tmp_path / "odd.csv", "--target", "@y", "--out", tmp_path / "run"]
    assert command(*words, *SMALL, *AUGMENTED) == 0
    capsys.readouterr()
    assert command("predict", tmp_path / "run", tmp_path / "odd.csv") == 0
    assert capsys.readouterr().out.startswith("'=1+1,'@y")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["$x_{$", "x" * 300, "收入", "a|b"])
def test_fit_takes_any_name(name, tmp_path, capsys):
    rows = "\n".join(f"{i},{i % 3}" for i in range(20))
    (tmp_path / "odd.csv").write_text(f"{name},y\n{rows}")
    words = ["fit", tmp_path / "odd.csv", "--target", "y", "--upper", "3", *SMALL]
    assert command(*words, *AUGMENTED, "--out", tmp_path / "run") in (0, 3)
    assert len(capsys.readouterr().err.splitlines()) == 2


def test_help_names_every_flag(capsys):
    assert command("fit", "--help") == 0
    text = capsys.readouterr().out
    assert all(flag in text for flag in malformed_command.FLAGS)
    assert "inputs along which it must not fall" in text


@pytest.mark.slow
def test_fit_draws_columns_of_like_names_apart(tmp_path):
    rows = "\n".join(f"{i},{i % 3},{i % 5 + i}" for i in range(20))
    (tmp_path / "like.csv").write_text(f"a b,a-b,y\n{rows}")
    flags = ["--target", "y", "--increasing", "a b", "a-b", *SMALL, *AUGMENTED]
    words = ["fit", tmp_path / "like.csv", *flags, "--out", tmp_path / "run"]
    assert command(*words) in (0, 3)
    drawn = sorted(path.name for path in (tmp_path / "run").glob("curve-*.png"))
    assert drawn == ["curve-a-b-0.png", "curve-a-b-1.png"]


@pytest.fixture(scope="module")
def houses(tmp_path_factory):
    """A CSV of numbers and categories, some of them missing, with a class."""
    path = tmp_path_factory.mktemp("data") / "houses.csv"
    rng = np.random.default_rng(0)
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["area", "age", "town", "price", "sold"])
        for i in range(60):
            area, age, town = rng.uniform(30, 200), rng.uniform(0, 80), i % 3
            price = 3 * area - age + 50 * town
            row = [area, age, ["Bath", "Bonn", "Nice"][town], price]
            row[i % 4] = ["", "NA", "null", "NaN"][i % 4] if i % 7 == 0 else row[i % 4]
            writer.writerow([*row, "yes" if price > 300 else "no"])
    return path


@pytest.fixture(scope="module")
def ensemble(houses, tmp_path_factory):
    """The folder of an ensemble under two rules, with a report."""
    folder = tmp_path_factory.mktemp("runs") / "houses"
    flags = ["--target", "price", "--inputs", "area", "age", "town"]
    flags += ["--monotone", "area,-age", *LITTLE, "--out", folder]
    assert command("fit", houses, *flags) == 0
    return folder


def read_entries(folder):
    return json.loads((folder / "run.json").read_text())


def test_fit_writes_an_ensembles_folder(ensemble, houses):
    names = {path.name for path in ensemble.iterdir()}
    assert names == {
        "run.json",
        "model.safetensors",
        "report.md",
        "rule-area.png",
        "rule-age.png",
        "calibration.png",
    }
    run = read_entries(ensemble)
    assert run["data"]["path"] == str(houses)
    assert (run["target"], run["inputs"]) == ("price", ["area", "age", "town"])
    assert run["rules"]["increasing"] == ["area"]
    assert run["rules"]["decreasing"] == ["age"]
    assert (run["settings"]["members"], run["settings"]["steps"]) == (2, 100)
    assert [row["model"] for row in run["results"]][:2] == ["this fit", "without rules"]
    assert [one["rule"] for one in run["verdicts"]] == [
        "rising in area",
        "falling in age",
    ]
    assert all(one["holds"] for one in run["verdicts"])
    assert run["rows"] == 58  # two have no price
    kept, extra = load_ensemble(ensemble / "model.safetensors")
    assert extra == {"target": "price", "classes": []}
    assert kept.columns[2].levels == ("Bath", "Bonn", "Nice")


def test_fit_of_an_ensemble_that_has_finished_is_shown_again(
    ensemble, tmp_path, capsys
):
    folder = tmp_path / "again"
    shutil.copytree(ensemble, folder)
    assert command(*words_of(ensemble), "--out", folder, "--resume") == 0
    printed = capsys.readouterr()
    assert "fitted before" in printed.err
    assert "rising in area: proved" in printed.out
    assert read_entries(folder)["results"] == read_entries(ensemble)["results"]


def test_fit_of_an_ensemble_repeats_to_the_bit_by_the_command_that_it_kept(
    ensemble, tmp_path, capsys
):
    words = [*words_of(ensemble), "--no-report", "--out", tmp_path / "again"]
    assert command(*words) == 0
    first, second = (
        (folder / "model.safetensors").read_bytes()
        for folder in (ensemble, tmp_path / "again")
    )
    assert first == second
    printed = capsys.readouterr()
    assert "rising in area: proved" in printed.out
    assert f"everything is in {tmp_path / 'again'}" in printed.out
    inputs, left_out, proof = printed.err.splitlines()
    assert proof.startswith("jaxcon: proving the rules on the whole box")
    assert inputs == (
        "jaxcon: houses: 'price' from 'area' (3 missing), 'age' (2 missing), 'town' "
        "(3 categories, 2 missing), 58 rows"
    )
    assert left_out == "jaxcon: 2 more rows are left out: 'price' is missing"


def test_predict_by_an_ensemble_takes_missing_and_unknown_cells(
    ensemble, tmp_path, capsys
):
    new = tmp_path / "new.csv"
    new.write_text("town,area,age\nBath,100,10\nOslo,50,\n,500,3\n=1+1,NA,1\n")
    assert command("predict", ensemble, new, "--level", "0.9") == 0
    printed = capsys.readouterr()
    header, *rows = csv.reader(io.StringIO(printed.out))
    assert header == ["area", "age", "town", "price", "lower", "upper"]
    assert [row[:3] for row in rows] == [
        ["100.0", "10.0", "Bath"],
        ["50.0", "", "Oslo"],
        ["500.0", "3.0", ""],
        ["", "1.0", "'=1+1"],
    ]
    values = np.array([row[3:] for row in rows], float)
    assert np.all(values[:, 1] < values[:, 0])
    assert np.all(values[:, 0] < values[:, 2])
    unknown, outside = printed.err.splitlines()
    assert "2 of 4 rows hold a 'town' that the model does not know" in unknown
    assert "1 of 4 rows lie outside the box" in outside
    # Without a level there are no intervals, and a file takes the rows.
    assert command("predict", ensemble, new, "--out", tmp_path / "out.csv") == 0
    with open(tmp_path / "out.csv", newline="") as file:
        assert next(csv.reader(file)) == header[:4]


def test_predict_refuses_an_altered_ensemble(ensemble, tmp_path, capsys):
    new = tmp_path / "new.csv"
    new.write_text("town,area,age\nBath,100,10\n")
    run = read_entries(ensemble)
    model = (ensemble / "model.safetensors").read_bytes()
    flipped = bytearray(model)
    flipped[-5] ^= 1
    folders = {
        "no model": (run, None, "no model.safetensors"),
        "flipped": (run, bytes(flipped), "model.safetensors was altered"),
        "torn": (run, model[:100], "model.safetensors was altered"),
        "other target": (run | {"target": "rent"}, model, "'target' was altered"),
        "other hash": (run | {"model": {"sha256": "0"}}, model, "'model.sha256'"),
        "no verdicts": (
            {name: one for name, one in run.items() if name != "verdicts"},
            model,
            "'verdicts' is missing",
        ),
    }

    def check(name):
        entries, content, words = folders[name]
        folder = tmp_path / name
        folder.mkdir()
        (folder / "run.json").write_text(json.dumps(entries))
        if content is not None:
            (folder / "model.safetensors").write_bytes(content)
        assert command("predict", folder, new) == 2
        message = one_line(capsys)
        assert "holds no run" in message
        assert words in message

    assert_each(folders, check)


def test_fit_of_labels_and_of_quantiles_prints_json(houses, tmp_path, capsys):
    new = tmp_path / "new.csv"
    new.write_text("area,age\n100,10\n50,\n")
    flags = ["--inputs", "area", "age", "--no-report", "--json", *LITTLE, "--out"]
    words = ["fit", houses, "--target", "sold", "--increasing", "area"]
    assert command(*words, *flags, tmp_path / "sold") == 0
    printed = capsys.readouterr()
    found = json.loads(printed.out)
    assert (found["classes"], found["loss"]) == (["no", "yes"], "binary")
    assert found["rules"][0]["holds"] is found["obeys"] is True
    assert "the probability of 'yes'" in printed.err
    assert command("predict", tmp_path / "sold", new) == 0
    header, *rows = csv.reader(io.StringIO(capsys.readouterr().out))
    assert header[2:] == ["sold=no", "sold=yes"]
    assert sum(map(float, rows[0][2:])) == pytest.approx(1)
    assert command("predict", tmp_path / "sold", new, "--level", "0.9") == 2
    assert "probabilities" in one_line(capsys)

    words = ["fit", houses, "--target", "price", "--quantiles", "0.9", "0.1"]
    assert command(*words, *flags, tmp_path / "price") == 0
    assert json.loads(capsys.readouterr().out)["loss"] == "quantile"
    assert command("predict", tmp_path / "price", new) == 0
    header, *rows = csv.reader(io.StringIO(capsys.readouterr().out))
    assert header[2:] == ["price 0.1", "price 0.9"]
    assert all(float(row[2]) < float(row[3]) for row in rows)


def test_certify_proves_the_rules_of_a_run_again(ensemble, tmp_path, capsys):
    for one in read_entries(ensemble)["verdicts"]:
        assert one["proof"]["outcome"] == "proved"
        assert f"{one['rule']}: proved on the whole box" in one["sentence"]
    capsys.readouterr()
    assert command("certify", ensemble, "--seconds", "5") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(" (")[0] for line in lines] == [
        "rising in area: proved on the whole box",
        "falling in age: proved on the whole box",
    ]
    assert command("certify", tmp_path) == 2
    assert "holds no run" in one_line(capsys)
    assert command("certify", ensemble, "--seconds", "-1") == 2
    one_line(capsys)
    assert command("certify", ensemble, "--method", "penalty") == 2
    assert "is of an ensemble" in one_line(capsys)


@pytest.mark.slow
def test_certify_proves_or_refutes_the_rules_of_a_method(tmp_path, capsys):
    path = tmp_path / "rising.csv"
    rows = "".join(f"{i},{i + np.sin(i)}\n" for i in range(40))
    path.write_text("x,y\n" + rows)
    words = ["fit", path, "--target", "y", "--increasing", "x", "--lipschitz", "3"]
    words += ["--width", "8", "--depth", "1", "--steps", "300"]
    run = tmp_path / "run"
    command(*words, "--method", "augmented", "--out", run)
    capsys.readouterr()
    code = command("certify", run, "--seconds", "5")
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith(("increasing in x: proved", "increasing in x: counter"))
    assert code == (3 if "counterexample at x = " in first + second else 0)
    assert command("certify", run, "--method", "none") == 2
    assert "has no method 'none'" in one_line(capsys)


def test_fit_of_few_rows_holds_none_out(tmp_path, capsys):
    path = tmp_path / "few.csv"
    path.write_text("x,y\n" + "".join(f"{i},{i * i}\n" for i in range(6)))
    words = ["fit", path, "--target", "y", *LITTLE, "--out", tmp_path / "run"]
    assert command(*words) == 0
    assert "all 6 rows are fitted, and nothing is scored" in capsys.readouterr().err
    (row,) = read_entries(tmp_path / "run")["results"]
    assert list(row) == ["model", "training RMSE"]


def test_fit_draws_the_inputs_that_rules_name(ensemble, tmp_path, monkeypatch):
    drawn = []
    for name in ("plot_rule", "plot_pair", "plot_calibration"):
        kept = lambda *given, name=name: drawn.append((name, given[-1].name))  # noqa: E731
        monkeypatch.setattr(_ensemble.ensembles, name, kept)
    model, _ = load_ensemble(ensemble / "model.safetensors")
    rules = ShapeRules(monotone={"age": 1}, concave=(("area", "age"),))
    task = SimpleNamespace(
        rules=rules,
        frame=SimpleNamespace(names=("area", "age")),
        loss=model.loss,
        classes=(),
    )
    _ensemble._draw(tmp_path, task, model, (None, None), (None, [1.0]))
    assert drawn == [
        ("plot_rule", "rule-age.png"),
        ("plot_rule", "rule-area.png"),
        ("plot_pair", "pair-area-age.png"),
        ("plot_calibration", "calibration.png"),
    ]


def test_fit_that_breaks_a_rule_exits_3(ensemble, tmp_path, capsys, monkeypatch):
    broken = RuleVerdict("rising in area", 0.25, 0.0)
    monkeypatch.setattr(_ensemble.ensembles, "verdicts", lambda *_: (broken,))
    words = [*words_of(ensemble), "--no-report", "--out", tmp_path / "run"]
    assert command(*words) == 3
    printed = capsys.readouterr()
    assert "rising in area: broken, by up to 0.25" in printed.out
    last = printed.err.splitlines()[-1]
    assert "broken: rising in area" in last
    assert "--members" in last
    assert (tmp_path / "run" / "model.safetensors").exists()
    # Read back, it is as broken as before.
    assert command(*words, "--resume") == 3

    for worst, flags, code in (
        (0.5, ["--method", "penalty"], 3),
        (0.5, ["--method", "unconstrained"], 0),
        (0.5, ["--compare"], 0),
        (1e-4, ["--method", "penalty"], 0),
    ):
        row = {"violation (search)": worst}
        monkeypatch.setattr(_app, "_run", lambda *_, row=row: [row])
        assert command("fit", *flags) == code
        assert ("broken" in capsys.readouterr().err) == (code == 3)


def test_fit_of_an_ensemble_that_was_stopped_resumes_to_the_same_bits(
    ensemble, tmp_path, capsys, monkeypatch
):
    words = words_of(ensemble)
    words[words.index("--steps") + 1] = "400"
    assert command(*words, "--no-report", "--out", tmp_path / "whole") == 0
    fit = _ensemble.ensembles.fit_ensemble
    seen = []

    def stopped(*given, watch, **more):
        def stop(done, steps, loss):
            watch(done, steps, loss)
            seen.append(done)
            if len(seen) == 2:
                os.kill(os.getpid(), signal.SIGTERM)  # is seen at the next call

        return fit(*given, watch=stop, **more)

    monkeypatch.setattr(_ensemble.ensembles, "fit_ensemble", stopped)
    folder = tmp_path / "run"
    words += ["--no-report", "--out", folder]
    capsys.readouterr()
    assert command(*words) == 143
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"jaxcon: stopped by SIGTERM after step 300 of 400; saved in {folder}; the same "
        f"command with --resume --out {folder} goes on"
    )
    assert read_entries(folder)["stopped"].startswith("stopped by SIGTERM")
    assert (folder / "checkpoint.npz").exists()
    new = tmp_path / "new.csv"
    new.write_text("town,area,age\nBath,100,10\n")
    assert command("predict", folder, new) == 0
    monkeypatch.setattr(_ensemble.ensembles, "fit_ensemble", fit)
    assert command(*words, "--resume") == 0
    assert not (folder / "checkpoint.npz").exists()
    assert "stopped" not in read_entries(folder)
    first, second = (
        (one / "model.safetensors").read_bytes() for one in (folder, tmp_path / "whole")
    )
    assert first == second
    capsys.readouterr()
    assert command(*words, "--resume", "--members", "3") == 2
    assert "--members" in one_line(capsys)


def test_fit_asks_a_terminal_for_the_target(tmp_path, capsys, monkeypatch):
    path = tmp_path / "table.csv"
    path.write_bytes(GOOD)
    seen = []
    monkeypatch.setattr(_app, "fit_table", lambda task, _: seen.append(task) or 0)
    assert command("fit", path) == 2
    assert "--target 'y'" in one_line(capsys)

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr(_tables.sys.stderr, "isatty", lambda: True, raising=False)
    for answer, code in (("\n", 0), ("Yes\n", 0), ("n\n", 2), ("", 0)):
        monkeypatch.setattr(_tables.sys, "stdin", Terminal(answer))
        assert command("fit", path) == code
        assert capsys.readouterr().err.startswith("fit 'y'? [Y/n] ")
    assert [task.target for task in seen] == ["y"] * 3
