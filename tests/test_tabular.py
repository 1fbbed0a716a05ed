"""Tables: what is read and refused, and the method to scaled units and back."""

import csv
import json
import os
import threading
import time
import tracemalloc
from functools import partial

import jax
import numpy as np
import pytest
from tables import assert_each, assert_refused

import jaxcon as jc
from jaxcon import tabular
from jaxcon.tabular import Rules, Scaling, Settings, Table, TableError
from jaxcon.tabular._columns import parse_columns


def text(*lines):
    return "\n".join(lines).encode()


ROWS = [f"{i},{i * i},{5 - i}" for i in range(12)]

# name: (bytes of the file, words of the message); also read by test_cli.
BAD_FILES = {
    "empty": (b"", ["is empty"]),
    "blank": (b"\n  \n,,\n", ["is empty"]),
    "names only": (text("a,b,y", "", ""), ["names but no rows"]),
    "no names": (text(*ROWS), ["first line", "names"]),
    "Latin-1": ("a,b,yé\n1,2,3\n".encode("latin-1"), ["UTF-8", "0xe9"]),
    "UTF-16": ("a,b,y\n1,2,3\n".encode("utf-16"), ["UTF-8"]),
    "ragged": (text("a,b,y", "1,2,3", "1,2"), ["line 3", "2 cells", "has 3"]),
    "too long": (text("a,b,y", "1,2,3,4"), ["line 2", "4 cells", "has 3"]),
    "text": (text("a,b,y", "1,2,3", "1,two,3"), ["line 3", "'b'", "'two'", "number"]),
    "comma for point": (text("a,b,y", '1,"2,5",3'), ["line 2", "'b'", "'2,5'"]),
    "after blank lines": (text("", "a,b,y", "", "1,x,3"), ["line 4", "'b'", "'x'"]),
    "cell": (text("a,b,y", "1, ,3"), ["line 2", "'b'", "blank"]),
    "line break in a cell": (text("a,b,y", '1,"2\n3",3'), ["'b'", r"'2\n3'", "number"]),
    "infinite": (text("a,b,y", "1,2,-inf"), ["line 2", "'y'", "-inf", "finite"]),
    "not a number": (text("a,b,y", "1,nan,3"), ["line 2", "'b'", "nan", "finite"]),
    "overflow": (text("a,b,y", "1,2,1e999"), ["line 2", "'y'", "1e999", "finite"]),
    "duplicate names": (text("a,b , b,y", "1,2,3,4"), ["two columns", "'b'"]),
    "underscore": (text("a,b,y", "1,1_000,3"), ["line 2", "'b'", "'1_000'", "number"]),
    "Arabic digits": ("a,b,y\n1,١٢,3".encode(), ["line 2", "'b'", "'١٢'", "number"]),
    "full-width digits": ("a,b,y\n1,１２,3".encode(), ["line 2", "'b'", "number"]),
    "no-break space": ("a,b,y\n1,\xa02,3".encode(), ["line 2", "'b'", "number"]),
    "form feed": (text("a,b,y", "1,2\f,3"), ["line 2", "'b'", "number"]),
    "quote that never closes": (text("a,b,y", "1,2,3", '4,5,"6'), ["quote", "closed"]),
    "text after a quote": (text("a,b,y", '1,"2"3,4'), ["line 2"]),
    "NUL in a name": (b"a\0,b,y\n1,2,3", ["UTF-8", "line 1", "NUL"]),
    "NUL in a cell": (b"a,b,y\n1,2,3\n1,\0,3", ["UTF-8", "line 3", "NUL"]),
    "line break in a name": (text('a,"b', 'c",y', "1,2,3"), ["column 2", "control"]),
    "escape in a name": (text("a,\x1b[31mb,y", "1,2,3"), ["column 2", "control"]),
    "nameless": (text(",a,y", "1,2,3"), ["column 1 has no name"]),
    "rows' numbers of pandas": (text("Unnamed: 0,a,y", "1,2,3"), ["column 1", "name"]),
    "blank name": (text('a," ",y', "1,2,3"), ["column 2 has no name"]),
    "names one too few": (text("a,y", "1,2,3"), ["line 2", "3 cells"]),
    "too large": (
        text("a,b,y", "1,2,3", "1,1.797e308,2"),
        ["line 3", "'b'", "1.797e308", "too large"],
    ),
    "fault after a chunk": (
        text("a,b,y", *["1,2,3"] * 6000, "1,x,3"),
        ["line 6002", "'b'", "'x'"],
    ),
    "semicolons": (text("a;b;y", "1;2;3"), ["commas"]),
    "tabs": (text("a\tb\ty", "1\t2\t3"), ["commas"]),
}

BAD_FILES["far line after quoted breaks"] = (
    text("a,b,y", '1,"2",3', "", "1,2,", "1,2,3"),
    ["line 4", "'y'", "blank"],
)

GOOD = text("a,b,y", *ROWS)
# name: (bytes of the file, the rules and settings asked for, words of the message)
BAD_WISHES = {
    "unknown target": (GOOD, {"target": "z"}, ["'z'", "'a', 'b', 'y'"]),
    "no input": (text("y", *"123456789012"), {}, ["but the target 'y'"]),
    "constant input": (text("a,b,y", *[f"{i},1,{i}" for i in range(12)]), {},
                       ["'b'", "constant"]),
    "constant target": (text("a,y", *[f"{i},1" for i in range(12)]), {},
                        ["'y'", "constant"]),
    "one row": (text("a,b,y", "1,2,3"), {}, ["1 row;", "--held-out"]),
    "few rows": (text("a,b,y", *ROWS[:4]), {}, ["4 rows;", "--held-out"]),
    "rule of no column": (GOOD, {"convex": ("z",)},
                          ["--convex", "'z'", "'a', 'b'"]),
    "rule of the target": (GOOD, {"increasing": ("a", "y")},
                           ["--increasing y", "target"]),
    "up and down": (GOOD, {"increasing": ("b", "a"), "decreasing": ("a",)},
                    ["'a'", "increasing and decreasing"]),
    "bowl and dome": (GOOD, {"convex": ("b",), "concave": ("b",)},
                      ["'b'", "convex and concave"]),
    "equal bounds": (GOOD, {"lower": 1.0, "upper": 1.0},
                     ["--lower 1.0", "below", "--upper 1.0"]),
    "crossed bounds": (GOOD, {"lower": 2.0, "upper": -1.0},
                       ["--lower 2.0", "below", "--upper -1.0"]),
    "bound is nan": (GOOD, {"lower": float("nan")}, ["--lower", "nan"]),
    "infinite bound": (GOOD, {"upper": float("inf")}, ["--upper", "inf", "finite"]),
    "no steepness": (GOOD, {"lipschitz": 0.0}, ["--lipschitz must be", "got 0"]),
    "negative steepness": (GOOD, {"lipschitz": -1.0}, ["--lipschitz must be", "got -1"]),
    "no steps": (GOOD, {"steps": 0}, ["--steps must be", "got 0"]),
    "no layers": (GOOD, {"depth": 0}, ["--depth must be", "got 0"]),
    "no units": (GOOD, {"width": -8}, ["--width must be", "got -8"]),
    "no rate": (GOOD, {"learning_rate": 0.0}, ["--learning-rate must be", "got 0.0"]),
    "negative margin": (GOOD, {"margin": -0.1}, ["--margin must be", "got -0.1"]),
    "negative seed": (GOOD, {"seed": -1}, ["--seed must be", "got -1"]),
    "vast seed": (GOOD, {"seed": 2**32}, ["--seed must be", "got 4294967296"]),
    "vast steps": (GOOD, {"steps": 2**31}, ["--steps must be", "got 2147483648"]),
    "vast width": (GOOD, {"width": 10**9}, ["--width must be", "got 1000000000"]),
    "vast depth": (GOOD, {"depth": 10**6}, ["--depth must be", "got 1000000"]),
    "vast rate": (GOOD, {"learning_rate": 1e300}, ["--learning-rate must be"]),
    "rate that float32 has not": (GOOD, {"learning_rate": 1e-300},
                                  ["--learning-rate must be"]),
    "vast margin": (GOOD, {"margin": 1e300}, ["--margin must be"]),
    "vast strength": (GOOD, {"strength": 1e300}, ["--strength must be"]),
    "upper in float32": (GOOD, {"upper": 1e300}, ["--upper 1e+300", "'y'"]),
    "small lipschitz in float32": (GOOD, {"lipschitz": 1e-300},
                                   ["--lipschitz 1e-300", "'a'"]),
    "vast lipschitz in float32": (GOOD, {"lipschitz": 1e300},
                                  ["--lipschitz 1e+300", "'a'"]),
    "rule named twice": (GOOD, {"increasing": ("a", "a")}, ["--increasing", "'a'"]),
    "next to constant": (text("a,y", *[f"{i}e-300,{i}" for i in range(12)]), {},
                         ["'a'", "varies by"]),
    "too many inputs": (
        text(",".join(f"x{i}" for i in range(700)) + ",y",
             *[",".join([str(i)] * 701) for i in range(12)]),
        {}, ["700 inputs", "--inputs"]),
    "strength is nan": (GOOD, {"strength": float("nan")},
                        ["--strength must be", "got nan"]),
    "none held out": (GOOD, {"held_out": 0.0}, ["--held-out must be", "got 0.0"]),
    "all held out": (GOOD, {"held_out": 1.5}, ["--held-out must be", "got 1.5"]),
    "too much held out": (GOOD, {"held_out": 0.95}, ["12 rows;", "--held-out 0.95"]),
}  # fmt: skip


@pytest.fixture
def file(tmp_path):
    """Writes bytes to a file and returns its path."""

    def write(content):
        path = tmp_path / "table.csv"
        path.write_bytes(content)
        return path

    return write


def refused(words, call):
    """A row of `assert_refused` for a table that is refused."""
    return call, TableError, words


def test_read_csv_reads_all_usual_methods_to_write_a_table(file):
    contents = {
        "plain": text("a,b c,y", "1,2,3", "-4.5,5e-1,6"),
        "byte-order mark": b"\xef\xbb\xbf" + text("a,b c,y", "1,2,3", "-4.5,5e-1,6"),
        "blank lines": text("", "a,b c,y", "", "1,2,3", "  ", ",,", "-4.5,5e-1,6", ""),
        "quoted": b'"a","b c","y"\r\n1,2,3\r\n"-4.5",5e-1,6\r\n',
        "spaces": text(" a ,  b c, y ", " 1 , 2 ,3", "-4.5 ,5e-1, 6"),
    }

    def check(name):
        names, values = tabular.read_csv(file(contents[name]))
        assert names == ("a", "b c", "y")
        np.testing.assert_array_equal(values, [[1, 2, 3], [-4.5, 0.5, 6]])
        assert values.dtype == np.float64

    assert_each(contents, check)


def test_read_csv_keeps_commas_and_accents_of_names(file):
    content = '"rent, cold",größe\n1,2\n'.encode()
    assert tabular.read_csv(file(content)).names == ("rent, cold", "größe")


def test_read_csv_reads_chosen_columns_whatever_the_others_hold(file):
    path = file(text("a,who,y,b", "1,Ann,3,2", "4,,6,nope"))
    table = tabular.read_csv(path, ["y", "a"])
    assert table.names == ("y", "a")
    np.testing.assert_array_equal(table.values, [[3, 1], [6, 4]])
    np.testing.assert_array_equal(table.column("a"), [1, 4])
    assert_refused(
        [
            refused(["no column 'c'", "'who'"], lambda: tabular.read_csv(path, ["c"])),
            refused(["'a'", "twice"], lambda: tabular.read_csv(path, ["a", "a"])),
        ]
    )


def test_read_csv_refuses_bad_files(tmp_path):
    rows = []
    for number, (content, words) in enumerate(BAD_FILES.values()):
        path = tmp_path / f"table-{number}.csv"
        path.write_bytes(content)
        rows.append(refused([str(path), *words], partial(tabular.read_csv, path)))
    assert_refused(rows)


def test_read_csv_refuses_places_without_a_file(tmp_path, file):
    inside = file(GOOD) / "table.csv"  # a file is no folder
    rows = [
        (tmp_path / "none.csv", ["no such file"]),
        (tmp_path, ["folder"]),
        (inside, ["cannot be read"]),
        (tmp_path / ("x" * 300), ["cannot be read"]),
    ]
    assert_refused(
        refused([str(path), *words], partial(tabular.read_csv, path))
        for path, words in rows
    )


def test_check_and_problem_refuse_bad_wishes(tmp_path):
    rows = []
    for number, (name, (content, wishes, words)) in enumerate(BAD_WISHES.items()):
        path = tmp_path / f"table-{number}.csv"
        path.write_bytes(content)
        given = (
            tabular.read_csv(path),
            wishes.get("target", "y"),
            Rules(**{key: wishes[key] for key in wishes if hasattr(Rules, key)}),
            Settings(**{key: wishes[key] for key in wishes if hasattr(Settings, key)}),
        )
        if "in float32" not in name:  # which depends on the split
            rows.append(refused(words, partial(tabular.check, *given)))
        rows.append(refused(words, partial(tabular.problem, *given)))
    assert_refused(rows)


def test_read_csv_leaves_a_nameless_column_that_is_not_asked_for(file):
    table = tabular.read_csv(file(text(",x,y", "0,1,2", "1,3,4")), ["x", "y"])
    np.testing.assert_array_equal(table.values, [[1, 2], [3, 4]])


def test_read_csv_reads_a_pipe_once(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_bytes, args=(GOOD,), daemon=True)
    writer.start()
    table = tabular.read_csv(path)
    writer.join()
    assert table.values.shape == (12, 3)


def test_read_csv_takes_memory_and_time_in_proportion(file):
    def peak(columns, rows):
        names = ",".join(f"c{i}" for i in range(columns))
        path = file(text(names, *[",".join(["0.1234567"] * columns)] * rows))
        size = path.stat().st_size
        tracemalloc.start()
        began = time.process_time()
        tabular.read_csv(path)
        seconds = time.process_time() - began
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most / size, seconds

    long, _ = peak(2, 40_000)
    (wide, few), (_, more) = peak(2_000, 20), peak(16_000, 20)
    assert max(long, wide) < 8
    assert more < 40 * few  # of eight times as many columns


@pytest.mark.slow
def test_read_csv_takes_at_most_twice_the_time_of_csv_and_float(file):
    rng = np.random.default_rng(0)
    path = file(
        text("a,b,y", *(f"{a},{b},{y}" for a, b, y in rng.normal(size=(10**6, 3))))
    )

    def plain():
        with open(path, newline="") as opened:
            reader = csv.reader(opened)
            next(reader)
            return [[float(cell) for cell in row] for row in reader]

    def seconds(call):
        began = time.process_time()
        call()
        return time.process_time() - began

    ours = min(seconds(lambda: tabular.read_csv(path)) for _ in range(2))
    assert ours < 2 * min(seconds(plain) for _ in range(2))


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (Table(("x", "y"), np.ones((4, 3))), ["(rows, 2)"]),
        (Table(("x", "y"), np.array([[0, 1], [np.nan, 2.0]])), ["'x'", "row 1", "nan"]),
        (Table(("x", "x"), np.ones((4, 2))), ["two columns", "'x'"]),
        (Table(("", "y"), np.ones((4, 2))), ["called ''"]),
    ],
)
def test_check_refuses_tables_that_no_file_holds(table, words):
    given = table, "y", Rules(), Settings()
    assert_refused([refused(words, partial(tabular.check, *given))])


def test_functions_refuse_arguments_and_name_them(fitted):
    table, _, scaling, params = fitted
    rules = partial(tabular.check, table, "y")
    assert_refused(
        [
            (
                lambda: rules(Rules(increasing="b"), Settings()),
                TypeError,
                "--increasing",
            ),
            (lambda: rules(Rules(upper="b"), Settings()), TypeError, "--upper"),
            (lambda: rules(Rules(), Settings(steps=1.5)), ValueError, "--steps"),
            (lambda: rules(Rules(), Settings(steps="9")), TypeError, "--steps"),
            (lambda: rules(Rules(), Settings(margin=None)), TypeError, "--margin"),
            (lambda: table.column("z"), TableError, ["no column 'z'"]),
            (lambda: tabular.curve(scaling, params, "z"), TableError, ["'z'"]),
            (lambda: tabular.places(scaling, "a", 1), ValueError, "num must"),
            (lambda: tabular.constraint_points(0), ValueError, "d must"),
            (lambda: tabular.init_network(jax.random.key(0), [3]), ValueError, "sizes"),
            (
                lambda: tabular.init_network(jax.random.key(0), [3, 0]),
                ValueError,
                "sizes must",
            ),
        ]
    )


def test_problem_refuses_a_target_that_varies_only_where_it_is_held_out():
    values = np.stack([np.arange(12.0), np.zeros(12)], axis=1)
    held_out = np.random.default_rng(0).permutation(12)[0]
    values[held_out, 1] = 1.0
    given = Table(("x", "y"), values), "y", Rules(), Settings()
    words = ["'y'", "constant", "rows to fit"]
    assert_refused([refused(words, partial(tabular.problem, *given))])


@pytest.fixture(scope="module")
def fitted():
    """A table of two inputs far from [0, 1], its problem and a network for it."""
    rng = np.random.default_rng(1)
    x = rng.uniform([-300.0, 2.0], [700.0, 2.5], (50, 2))
    y = 40 + 0.01 * x[:, 0] - 7 * x[:, 1] + rng.normal(size=50)
    # The target stands between the inputs, so that columns cannot be taken by place.
    table = Table(("a", "y", "b"), np.column_stack([x[:, 0], y, x[:, 1]]))
    rules = Rules(
        increasing=("b",), convex=("a",), lower=10.0, upper=30.0, lipschitz=5.0
    )
    problem, scaling = tabular.problem(table, "y", rules, Settings(width=4, margin=0.2))
    return table, problem, scaling, problem.init(jax.random.key(3))


def by_hand(params, scaling, x):
    """The network in the table's units, in NumPy and float64."""
    y = 2 * (x - scaling.lower) / (scaling.upper - scaling.lower) - 1
    *hidden, last = [{k: np.asarray(v, float) for k, v in p.items()} for p in params]
    for layer in hidden:
        y = np.tanh(y @ layer["w"] + layer["b"])
    return scaling.center + scaling.scale * (y @ last["w"] + last["b"])[:, 0]


def test_scaling_is_of_the_table(fitted):
    table, problem, scaling, _ = fitted
    assert (scaling.inputs, scaling.target) == (("a", "b"), "y")
    x = np.stack([table.column("a"), table.column("b")], axis=1)
    np.testing.assert_array_equal(scaling.lower, x.min(0))
    np.testing.assert_array_equal(scaling.upper, x.max(0))
    # 50 rows, of which a fifth is held out, and nothing of it is trained on.
    batch = {name: np.asarray(values) for name, values in problem.batch.items()}
    assert batch["x"].shape == (40, 2)
    unit, y = scaling.unit(x), (table.column("y") - scaling.center) / scaling.scale
    assert unit.min() == 0
    assert unit.max() == 1
    np.testing.assert_allclose([batch["y"].mean(), batch["y"].std()], [0, 1], atol=1e-6)
    place = [np.argmin(np.abs(unit - row).sum(1)) for row in batch["x"]]
    assert len(set(place)) == 40
    np.testing.assert_allclose(batch["x"], unit[place], atol=1e-6)  # float32
    np.testing.assert_allclose(batch["y"], y[place], atol=1e-6)


def test_score_is_of_the_rows_held_out(fitted):
    table, problem, scaling, params = fitted
    x = np.stack([table.column("a"), table.column("b")], axis=1)
    seen = np.asarray(problem.batch["x"])
    kept = [
        i for i, z in enumerate(scaling.unit(x)) if np.abs(seen - z).sum(1).min() > 1e-5
    ]
    assert len(kept) == 10
    error = by_hand(params, scaling, x[kept]) - table.column("y")[kept]
    assert problem.score(problem.apply, params) == {
        "held-out RMSE": pytest.approx(np.sqrt(np.mean(error**2)), rel=1e-5)
    }


def test_score_to_truth_is_over_the_whole_box(fitted):
    table, _, scaling, params = fitted

    def shifted(x):
        return scaling.predict(params, x) + np.where(x[:, 0] < 200, 3.0, 0.0)

    again, _ = tabular.problem(
        table, "y", Rules(), Settings(width=4, margin=0.2), shifted
    )
    share = (200 - scaling.lower[0]) / (scaling.upper[0] - scaling.lower[0])
    # 4,096 Sobol points know the share of a half space to about one in 4,096.
    expected = pytest.approx(3 * np.sqrt(share), rel=1e-3)
    assert again.score(again.apply, params)["RMSE to truth"] == expected


def test_predict_is_the_network_in_the_tables_units(fitted):
    _, _, scaling, params = fitted
    x = np.random.default_rng(2).uniform(scaling.lower, scaling.upper, (9, 2))
    expected = by_hand(params, scaling, x)
    assert np.ptp(expected) > 1  # a constant would show nothing
    np.testing.assert_allclose(scaling.predict(params, x), expected, rtol=1e-5)


def test_scaling_survives_json(fitted):
    _, _, scaling, _ = fitted
    again = Scaling.from_json(json.loads(json.dumps(scaling.to_json())))
    assert again.to_json() == scaling.to_json()
    x = np.array([[1.0, 2.2]])
    np.testing.assert_array_equal(again.unit(x), scaling.unit(x))
    assert type(again.inputs) is tuple


def differences(f, x, step):
    """Slope and curvature by central differences of f at x, along `step`."""
    low, middle, high = f(x - step), f(x), f(x + step)
    length = np.abs(step).sum()
    return (high - low) / (2 * length), (high - 2 * middle + low) / length**2


@pytest.fixture(scope="module")
def residuals(fitted):
    """Twenty points, and there the inequalities as they are and with their margins."""
    _, problem, _, params = fitted
    z = np.random.default_rng(5).uniform(size=(20, 2))

    @jax.jit
    def evaluated(params, batch):
        which = problem.held(), problem.trained_on()
        return [jc.evaluate(one, params, batch).inequality for one in which]

    return z, *evaluated(params, {"points": z})


def test_constraints_are_those_of_the_tables_units(fitted, residuals):
    _, _, scaling, params = fitted
    z, found, _ = residuals
    width = scaling.upper - scaling.lower
    x = scaling.lower + z * width
    f = partial(by_hand, params, scaling)
    slopes, curvatures = zip(
        *(differences(f, x, 1e-3 * width * np.eye(2)[i]) for i in range(2))
    )
    value = f(x)
    spread = scaling.scale
    expected = {
        "increasing in b": -slopes[1] * width[1] / spread,
        "convex in a": -curvatures[0] * width[0] ** 2 / spread,
        "bounded": np.maximum(10 - value, value - 30) / spread,
        # Relative to the constant 5, in the table's units.
        "lipschitz": np.hypot(*slopes) / 5 - 1,
    }
    assert found.keys() == expected.keys()
    for name, residual in found.items():
        # Differences over a thousandth of the box err by about 1e-5 of the scale.
        np.testing.assert_allclose(
            residual, expected[name], rtol=1e-4, atol=1e-4, err_msg=name
        )


def test_margins_are_room_within_the_rules(residuals):
    _, exact, tight = residuals
    room = {"increasing in b": 0.2, "convex in a": 0.2, "bounded": 0.02}
    for name, margin in (room | {"lipschitz": 0.02}).items():
        np.testing.assert_allclose(tight[name] - exact[name], margin, atol=1e-5)


def test_curve_agrees_with_finite_differences(fitted):
    _, _, scaling, params = fitted
    middle = np.tile((scaling.lower + scaling.upper) / 2, (11, 1))
    f = partial(by_hand, params, scaling)

    def check(name):
        index = scaling.inputs.index(name)
        curve = tabular.curve(scaling, params, name, num=11)
        places = tabular.places(scaling, name, 11)
        x = middle.copy()
        x[:, index] = np.linspace(scaling.lower[index], scaling.upper[index], 11)
        np.testing.assert_allclose(places, x[:, index], rtol=1e-6)
        step = np.zeros(2)
        step[index] = 1e-3 * (scaling.upper - scaling.lower)[index]
        slope, curvature = differences(f, x, step)
        np.testing.assert_allclose(curve.value, f(x), rtol=1e-5)
        for ours, expected in ((curve.slope, slope), (curve.curvature, curvature)):
            scale = np.abs(expected).max()
            assert scale > 0
            np.testing.assert_allclose(ours, expected, atol=1e-4 * scale)

    assert_each(["a", "b"], check)


def test_true_curve_is_the_truth_and_its_derivatives(fitted):
    _, _, scaling, _ = fitted

    def truth(x):
        return 3 * (x[:, 0] / 100) ** 2 + 7 * x[:, 1]

    curve = tabular.true_curve(scaling, truth, "a", num=401)
    places = tabular.places(scaling, "a", 401)
    middle = (scaling.lower[1] + scaling.upper[1]) / 2
    inner = slice(2, -2)  # differences are central, and so exact, inside only
    np.testing.assert_allclose(
        curve.value, 3 * (places / 100) ** 2 + 7 * middle, rtol=1e-5
    )
    np.testing.assert_allclose(
        curve.slope[inner], 6e-4 * places[inner], rtol=1e-5, atol=1e-6
    )
    np.testing.assert_allclose(curve.curvature[inner], 6e-4, rtol=1e-6)


def test_constraint_points_reach_the_edge_of_the_box():
    def check(d):
        points = np.asarray(tabular.constraint_points(d))
        assert points.shape[1:] == (d,)
        assert points.min() == 0
        assert points.max() == 1
        for face in (points == 0, points == 1):
            assert (face.sum(axis=0) >= (1 if d == 1 else 64)).all()
        inside = ((points > 0) & (points < 1)).all(axis=1)
        assert inside.sum() > 200
        if d <= 8:
            corners = np.unique(points[np.isin(points, (0, 1)).all(axis=1)], axis=0)
            assert len(corners) == 2**d

    assert_each([1, 2, 9], check)


def test_columns_hold_numbers_or_categories_some_missing():
    content = text("a,b,c,d", "1,x,3,", ",NA,4, ", "", ",,,", " 2 ,y z,nan,NULL")
    found = parse_columns(content, "file")
    assert found.names == ("a", "b", "c", "d")
    np.testing.assert_array_equal(found.columns[0], [1, np.nan, 2])
    assert found.columns[1].tolist() == ["x", None, "y z"]
    np.testing.assert_array_equal(found.columns[2], [3, 4, np.nan])
    # Programs write whole numbers with a point where others are missing.
    (column,) = parse_columns(text("a", "1.0", "02", "3"), "file", None, ["a"]).columns
    assert column.tolist() == ["1", "02", "3"]


BAD_COLUMNS = {
    "text after numbers": (text("a,b", "1,2", "x,3"), ["line 3", "'a'", "'x'"]),
    "numbers after text": (text("a,b", "x,2", "1,3"), ["line 2", "'a'", "'x'"]),
    "far": (text("a", *["1"] * 40_000, "x"), ["line 40002", "'x'", "--categorical"]),
    "infinite": (text("a", "1", "-inf"), ["line 3", "-inf", "finite"]),
    "odd digits": (text("a", "1", "1_0"), ["line 3", "'1_0'"]),
    "ragged": (text("a,b", "1,2", "1"), ["line 3", "1 cells"]),
    "no rows": (text("a,b", ","), ["no rows"]),
    "empty": (b"", ["empty"]),
}


def test_columns_of_numbers_and_texts_are_refused():
    for content, words in BAD_COLUMNS.values():
        with pytest.raises(TableError) as refused:
            parse_columns(content, "file")
        assert all(word in str(refused.value) for word in words), refused.value
