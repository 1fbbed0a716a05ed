"""Tables and figures: the numbers in them are the evaluations' numbers."""

import csv
import math
import re
from types import SimpleNamespace

import numpy as np
import optax
import pytest
from tables import assert_each, assert_refused

from jaxcon import methods, report
from jaxcon.comparison import HyperparameterSensitivity, MethodEvaluation
from jaxcon.constraints import Constraints
from jaxcon.optimality import KKT
from jaxcon.training import FitResult, History

PNG = b"\x89PNG\r\n\x1a\n"


def history(violation, multiplier, constrained=True):
    """Of as many steps as numbers are given, one equality and one inequality."""
    violation = np.asarray(violation, float)

    def both(series):
        if not constrained:
            return Constraints()
        series = np.asarray(series, float)
        return Constraints({"h": series / 2}, {"g": series})

    return History(
        loss=np.ones(len(violation)),
        max_violation=violation,
        violation=both(violation),
        multiplier=both(multiplier),
        penalty=Constraints(),
        capped=Constraints(),
        clipped={},
        finite=np.ones(len(violation), bool),
        aux=None,
        step=np.arange(len(violation)),
    )


def evaluation(name="augmented", seen=None, **changes):
    """An evaluation with numbers that no two places share."""
    state = SimpleNamespace(step=np.int32(2))
    result = FitResult(state, None, seen or history([2, 0], [0, 3]), 1.25, 1e5 / 3)
    values = {
        "scores": {"held-out RMSE": 2 / 3, "RMSE to truth": 123456.789},
        "searched": {"a": 0.25, "b": 1e-7 / 3, "c": 0.0},
        "random": {"a": 0.125, "b": 0.0, "c": 0.0625},
        "worst_points": {},
        "multipliers": {"a": -5.5, "b": 4.0, "c": 0.0},
        "kkt": KKT(11.0, {"c": 12.0}, {"a": 13.0}, {"a": 14.0}, {"a": 0.0, "b": 0.75}),
    }
    values["method"] = methods.penalty(optax.sgd(0.1), 2.0)
    return MethodEvaluation(name=name, result=result, **(values | changes))


EXPECTED = {
    "method": "augmented",
    "held-out RMSE": 2 / 3,
    "RMSE to truth": 123456.789,
    "violation (search)": 0.25,
    "violation (random)": 0.125,
    "multipliers": 5.5,
    "stationarity": 11.0,
    "slackness": 0.75,
    "seconds": 1.25,
    "compile seconds": 1e5 / 3,
}
NUMBERS = [0.0, 1.0, -1.0, 2 / 3, 1e-3, 9.9995e-4, 1e-9 / 7, 99_999.0, 1e5 / 3, 7e22]


def test_rows_hold_the_evaluations_numbers():
    bare = evaluation("bare", scores={}, searched={}, random={}, multipliers={})
    first, second = report.rows([evaluation(), bare])
    assert first == EXPECTED
    assert second["method"] == "bare"
    assert [second[name] for name in list(EXPECTED)[3:6]] == [0, 0, 0]


def parsed(text):
    """The cells of a Markdown table."""
    lines = text.splitlines()
    assert len({len(line) for line in lines}) == 1  # aligned
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert all(set(cell) <= set("-:") for cell in cells[1])
    return [cells[0], *cells[2:]]


def test_markdown_parses_back_to_the_numbers():
    rows = [
        {"method": f"method {i}", "one": x, "the other": -x}
        for i, x in enumerate(NUMBERS)
    ]
    text = report.markdown(rows)
    assert text.endswith("|\n")
    header, *cells = parsed(text)
    assert header == ["method", "one", "the other"]
    for row, (name, *numbers) in zip(rows, cells, strict=True):
        assert name == row["method"]
        for number, column in zip(numbers, header[1:], strict=True):
            # Two digits at least, where the exponent says the rest.
            assert float(number) == pytest.approx(row[column], rel=0.05)
            if 1e-3 <= abs(row[column]) < 1e5:
                assert float(number) == pytest.approx(row[column], rel=5e-4)


def test_write_csv_holds_all_digits(tmp_path):
    rows = [{"method": f"method, {i}", "x": x} for i, x in enumerate(NUMBERS)]
    report.write_csv(rows, tmp_path / "table.csv")
    with open(tmp_path / "table.csv", newline="", encoding="utf-8") as file:
        read = list(csv.DictReader(file))
    assert [{**row, "x": float(row["x"])} for row in read] == rows


def test_markdown_escapes_what_it_would_take_for_a_mark():
    name = "a|b <i> [x](y) `c` $d$ *e*\n# f & \\"
    text = report.markdown([{"method": name, name: name}])
    assert text.count("\n") == 3
    cells = re.split(r"(?<!\\)\|", text.splitlines()[2])
    assert len(cells) == 4  # the two ends are empty
    expected = r"a\|b &lt;i> \[x\](y) \`c\` \$d\$ \*e\* # f &amp; \\"
    assert cells[1].strip() == cells[2].strip() == expected


@pytest.mark.parametrize("text", ["=1+2", "+1", "-1", "@a", "\t=1", " =1"])
def test_write_csv_writes_no_formula(text, tmp_path):
    report.write_csv([{"method": text, text: -1.5}], tmp_path / "table.csv")
    with open(tmp_path / "table.csv", newline="", encoding="utf-8") as file:
        assert list(csv.reader(file)) == [["method", f"'{text}"], [f"'{text}", "-1.5"]]


def test_tables_and_figures_refuse_what_they_cannot_show(tmp_path):
    uneven = [{"method": "a", "x": 1.0}, {"method": "b"}]
    path = tmp_path / "file"
    assert_refused(
        [
            (lambda: report.markdown([]), ValueError, "rows"),
            (lambda: report.markdown(uneven), ValueError, "row 1 .* 'x'"),
            (lambda: report.write_csv([], path), ValueError, "rows"),
            (lambda: report.write_csv(uneven, path), ValueError, "row 1 .* 'x'"),
            (lambda: report.plot_trade_off([], path), ValueError, "outcomes"),
            (lambda: report.new_figure("a", 1), TypeError, "width"),
            (lambda: report.new_figure(1, float("nan")), ValueError, "height"),
        ]
    )
    assert not path.exists()


@pytest.mark.parametrize("name", ["$x_{$", r"$\frac{a}$", r"\$", "x" * 300, "收入"])
def test_figures_draw_any_name(name, tmp_path):
    x, path = np.linspace(0, 1, 9), tmp_path / "figure.png"
    report.plot_curves(x, {name: report.Curve(x, x, x)}, (name, name), path)
    written(path)
    if name == "$x_{$":
        one = evaluation(name, scores={name: 1.0})
        report.plot_history({name: report.trace(one.result)}, path)
        report.plot_trade_off([one], path)


def written(path):
    content = path.read_bytes()
    assert content.startswith(PNG)
    return content


def test_plot_curves_draws_what_it_is_given(tmp_path):
    x, path = np.linspace(0, 1, 9), tmp_path / "curve.png"
    more = {"data": (x, x**2), "truth": report.Curve(x**2, 2 * x, 2 + 0 * x)}

    def check(row):
        names, extra = row
        curves = {
            name: report.Curve(i * x, np.full(9, float(i)), np.zeros(9))
            for i, name in enumerate(names)
        }
        report.plot_curves(x, curves, ("in", "out"), path, **extra)
        drawn = written(path)
        wild = {
            name: curve._replace(value=curve.value + 1)
            for name, curve in curves.items()
        }
        wild[names[0]] = wild[names[0]]._replace(value=-3 * x)
        report.plot_curves(x, wild, ("in", "out"), path, **extra)
        assert written(path) != drawn

    three = ["unconstrained", "augmented", "own"]
    assert_each([(["augmented"], {}), (three, more)], check)


def test_plot_history_draws_any_run(tmp_path):
    path = tmp_path / "history.png"
    runs = {
        "usual": history([2.0, 1e-3, 0.0], [0.0, 1.0, 2.0]),
        "never violated": history([0.0, 0.0], [0.0, 0.0]),
        "no constraints": history([0.0, 0.0], [0.0, 0.0], constrained=False),
        "not finite": history([math.nan, math.inf, 1.0], [0.0, 1.0, 2.0]),
        "no steps": history([], []),
    }

    def check(name):
        seen = runs[name]
        traced = report.trace(evaluation(seen=seen).result)
        report.plot_history({"augmented": traced, "free": traced}, path)
        written(path)
        path.unlink()

    assert_each(runs, check)


SWEPT = HyperparameterSensitivity(
    values=np.array([0.2, 2.0, 20.0]),
    scores={"held-out RMSE": np.array([0.5, 2 / 3, 0.7]), "RMSE to truth": np.ones(3)},
    violation=np.array([3.0, 0.25, 0.0]),
)


def test_summary_holds_the_worst_violation_and_the_range_of_the_sweep():
    free = evaluation(
        "free", method=methods.unconstrained(optax.sgd(0.1)), multipliers={}
    )
    swept, plain = report.summary([evaluation(sensitivity=SWEPT), free])
    assert swept["violation"] == plain["violation"] == 0.25
    assert list(swept) == list(plain)
    assert [swept[f"multipliers of {name}"] for name in "abc"] == [-5.5, 4, 0]
    assert (swept["hyperparameter"], plain["hyperparameter"]) == ("weight 2", "")
    assert swept["swept held-out RMSE"] == "0.5 … 0.7"
    assert swept["swept violation"] == "0 … 3"
    assert plain["swept violation"] == ""
    assert swept["ms/step"] == 1000 * 1.25 / 2


def test_summary_and_rows_do_not_hide_what_is_not_a_number():
    broken = evaluation(searched={"a": 0.5, "b": math.nan}, random={"a": math.nan})
    assert math.isnan(report.summary([broken])[0]["violation"])
    (row,) = report.rows([broken])
    assert math.isnan(row["violation (search)"])
    assert math.isnan(row["violation (random)"])
    failed = SWEPT._replace(violation=np.array([3.0, 0.25, math.nan]))
    assert report.summary([evaluation(sensitivity=failed)])[0]["swept violation"] == (
        "0.25 … 3 (1 failed)"
    )
    lost = SWEPT._replace(violation=np.full(3, math.nan))
    row = report.summary([evaluation(sensitivity=lost)])[0]
    assert row["swept violation"] == "all failed"


def test_plot_trade_off_draws_with_and_without_a_sweep(tmp_path):
    path = tmp_path / "trade-off.png"
    for swept in ([None], [SWEPT, None], [SWEPT, SWEPT]):
        report.plot_trade_off([evaluation(sensitivity=seen) for seen in swept], path)
        written(path)
        path.unlink()
