"""Pictures of ensembles: exact derivatives, limits that no outlier moves, errors."""

from types import SimpleNamespace

import numpy as np
import pytest

from jaxcon.ensembles import (
    Loss,
    Options,
    ShapeRules,
    fit_ensemble,
    plot_calibration,
    plot_pair,
    plot_rule,
    read_frame,
)
from jaxcon.ensembles import _pictures as pictures

OPTIONS = Options(members=2, steps=100)
NAMES = ["dose", "age", "kind", "grade", "heat"]
GRADES = ["low", "middle", "high"]


def fit(loss, rules, classes=()):
    rng = np.random.default_rng(0)
    x = rng.uniform(0, 10, (120, 5)).astype(object)
    x[:, 2] = rng.choice(["a", "b"], 120)
    x[:, 3] = rng.choice(GRADES, 120)
    x[::9, 1] = None
    y = 5 + np.sqrt(x[:, 0].astype(float)) + 0.1 * rng.normal(size=120)
    y = np.digitize(y, classes) if classes else y
    given = {"categorical": {"grade": GRADES}, "options": OPTIONS}
    frame = read_frame(x, NAMES)
    made = fit_ensemble(frame, y, loss, rules, **given)
    return SimpleNamespace(ensemble=made.ensemble, frame=frame, x=x, y=y)


@pytest.fixture(scope="module")
def fitted():
    rules = ShapeRules(
        monotone={"dose": 1, "grade": 1},
        concave=(("dose", "age"),),
        slope_bounds={"age": (-900, 900)},
        unimodal={"heat": 6.0},
    )
    return fit(Loss("squared_error"), rules)


@pytest.fixture
def figures(monkeypatch):
    """Keeps figures in place of files."""
    kept = []
    monkeypatch.setattr(pictures, "_save", lambda figure, *given: kept.append(figure))
    return kept


def thick(axes):
    """Returns the lines of means."""
    return [line for line in axes.lines if line.get_linewidth() > 2]


def told(axes):
    return axes.get_title("left")


@pytest.mark.parametrize(("column", "place"), [("dose", 0), ("age", 1)])
def test_lines_agree_with_differences_of_predictions(fitted, figures, column, place):
    plot_rule(fitted.ensemble, fitted.frame, fitted.y, column, "unused")
    value, slope, bent = (thick(axes)[0].get_ydata()[50] for axes in figures[0].axes)
    at, h = thick(figures[0].axes[0])[0].get_xdata()[50], 1e-2

    def predict(here):
        moved = fitted.x.copy()
        moved[:, place] = here
        return fitted.ensemble.predict(read_frame(moved, NAMES))[:, 0]

    low, here, high = predict(at - h), predict(at), predict(at + h)
    assert value == pytest.approx(here.mean(), rel=1e-5)
    assert slope == pytest.approx((high - low).mean() / (2 * h), rel=1e-3, abs=1e-6)
    # The joint rule is of rows with an age alone.
    known = np.array([column == "age" or one is not None for one in fitted.x[:, 1]])
    second = ((high - 2 * here + low) / h**2)[known].mean()
    assert bent == pytest.approx(second, rel=1e-2, abs=1e-6)


def test_envelope_holds_every_row_and_keeps_the_rule(fitted, figures):
    plot_rule(fitted.ensemble, fitted.frame, fitted.y, "dose", "unused")
    least, most, mean = (line.get_ydata() for line in figures[0].axes[1].lines[:3])
    assert np.all(least <= mean)
    assert np.all(mean <= most)
    assert np.all(least >= -1e-5)
    assert not any("BROKEN" in told(axes) for axes in figures[0].axes)


def test_slope_beyond_a_mode_falls(fitted, figures):
    plot_rule(fitted.ensemble, fitted.frame, fitted.y, "heat", "unused")
    value, slope = figures[0].axes
    before, beyond = thick(slope)
    assert before.get_xdata()[-1] < 6.0 <= beyond.get_xdata()[0]
    assert np.all(before.get_ydata() >= 0)
    assert np.all(beyond.get_ydata() <= 0)
    assert told(slope).endswith("rule: ≥ 0, then ≤ 0")
    assert value.lines[-1].get_xdata() == [6.0, 6.0]
    assert value.lines[-1].get_linestyle() == ":"


def test_limits_are_not_moved_by_one_wild_target(fitted, figures):
    wild = fitted.y.copy()
    wild[7] = 1e9
    for y in (fitted.y, wild):
        plot_rule(fitted.ensemble, fitted.frame, y, "dose", "unused")
    usual, moved = (figure.axes[0] for figure in figures)
    np.testing.assert_allclose(moved.get_ylim(), usual.get_ylim(), rtol=0.2)
    assert usual.get_ylim()[0] >= 0
    words = [text.get_text() for text in moved.get_legend().get_texts()]
    assert words == ["fit", "90 % of targets", "data (1 outside)"]


def test_limits_are_not_moved_by_one_wild_slope(fitted, monkeypatch, figures):
    along = pictures._along(fitted.ensemble, fitted.frame, "dose", "unused")
    usual = np.max(along.parts[1])
    along.parts[1, :, 5] = -1e9
    monkeypatch.setattr(pictures, "_along", lambda *given: along)
    plot_rule(fitted.ensemble, fitted.frame, fitted.y, "dose", "unused")
    slope = figures[0].axes[1]
    low, high = slope.get_ylim()
    assert -usual < low < 0 < high < 2 * usual
    # It is told, and crossed where it leaves the picture.
    assert "−1e+09" in told(slope)
    assert "BROKEN rule: ≥ 0" in told(slope)
    assert any(line.get_marker() == "x" for line in slope.lines)


def test_places_are_not_moved_by_one_wild_input():
    column = pictures.Column("x", lower=0.0, upper=1e9)
    values = np.append(np.linspace(0, 10, 200), 1e9)
    assert 10 <= pictures._places(column, values, 101)[-1] < 12


def test_far_bound_is_told_and_not_drawn(fitted, figures):
    plot_rule(fitted.ensemble, fitted.frame, fitted.y, "age", "unused")
    assert figures[0].axes[1].get_ylim()[1] < 100
    assert told(figures[0].axes[1]).endswith("rule: ≥ −900, ≤ 900")


def test_levels_are_ticks(fitted, figures):
    plot_rule(fitted.ensemble, fitted.frame, fitted.y, "grade", "unused")
    ticks = figures[0].axes[-1].get_xticklabels()
    assert [one.get_text() for one in ticks] == GRADES


def test_classes_differ_without_colour_and_have_their_own_rules(figures):
    rules = ShapeRules(monotone={"dose": {2: 1, 0: -1}})
    made = fit(Loss("multinomial", 3), rules, [6.5, 7.5])
    plot_rule(made.ensemble, made.frame, made.y, "dose", "unused")
    value, first, second = figures[0].axes
    assert len({line.get_linestyle() for line in thick(value)}) == 3
    names = {text.get_text() for text in value.texts}
    assert names == {"class 0", "class 1", "class 2"}
    assert told(first).startswith("class 0: slope")
    assert told(second).startswith("class 2: slope")
    plot_calibration(made.ensemble, made.frame, made.y, "unused")
    _, *lines = figures[1].axes[0].lines
    assert [len(line.get_xdata()) for line in lines] == [10, 10, 10]


def test_calibration_counts_rows_within(fitted, figures):
    plot_calibration(fitted.ensemble, fitted.frame, fitted.y, "unused")
    stated, found = figures[0].axes[0].lines[1].get_data()
    low, high = fitted.ensemble.predict_interval(fitted.frame, stated[8]).T
    assert found[8] == np.mean((low <= fitted.y) & (fitted.y <= high))


def test_pictures_are_written(fitted, tmp_path):
    given = fitted.ensemble, fitted.frame
    plot_rule(*given, fitted.y, "dose", tmp_path / "rule.png")
    plot_pair(*given, "dose", "grade", tmp_path / "pair.png")
    plot_calibration(*given, fitted.y, tmp_path / "calibration.png")
    for path in tmp_path.iterdir():
        assert path.read_bytes().startswith(b"\x89PNG")


def test_pictures_name_the_column_that_is_not_there(fitted, tmp_path):
    given = fitted.ensemble, fitted.frame
    for column in ("weight", "kind"):
        message = f"no column of numbers '{column}'; known: 'dose'"
        with pytest.raises(ValueError, match=message):
            plot_rule(*given, fitted.y, column, tmp_path / "rule.png")
    with pytest.raises(ValueError, match="second: no column of numbers 'dose'"):
        plot_pair(*given, "dose", "dose", tmp_path / "pair.png")
    assert not list(tmp_path.iterdir())
