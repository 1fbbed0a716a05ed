"""Pictures of ensembles: exact derivatives, limits that outliers do not move, errors."""

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
NAMES = ["dose", "age", "kind"]


@pytest.fixture(scope="module")
def fitted():
    rng = np.random.default_rng(0)
    x = rng.uniform(0, 10, (80, 3)).astype(object)
    x[:, 2] = rng.choice(["a", "b"], 80)
    x[::9, 1] = None
    y = np.sqrt(x[:, 0].astype(float)) + 0.1 * rng.normal(size=80)
    frame = read_frame(x, NAMES)
    rules = ShapeRules(
        monotone={"dose": 1}, concave=(("dose", "age"),), slope_bounds={"age": (-9, 9)}
    )
    fit = fit_ensemble(frame, y, Loss("squared_error"), rules, options=OPTIONS)
    return fit.ensemble, frame, y


def test_profile_agrees_with_differences_of_predictions(fitted):
    ensemble, frame, _ = fitted
    found = pictures.profile(ensemble, frame, "dose")
    v = np.array(list(frame.columns), object).T

    def mean(value):
        moved = v.copy()
        moved[:, 0] = value
        return ensemble.predict(read_frame(moved, NAMES))[:, 0].mean()

    at, h = found.x[50], 1e-3
    low, here, high = (mean(at + step) for step in (-h, 0, h))
    assert found.mean[0, 50, 0] == pytest.approx(here, rel=1e-5)
    assert found.mean[1, 50, 0] == pytest.approx((high - low) / (2 * h), rel=1e-3)
    second = (high - 2 * here + low) / h**2
    assert found.mean[2, 50, 0] == pytest.approx(second, rel=2e-2, abs=1e-4)
    assert np.all(found.least <= found.mean)
    assert np.all(found.mean <= found.most)


def test_profile_beyond_a_mode_falls():
    x = np.linspace(0, 1, 60)[:, None]
    y = -((x[:, 0] - 0.6) ** 2)
    rules = ShapeRules(unimodal={"x0": 0.6})
    fit = fit_ensemble(read_frame(x), y, Loss("squared_error"), rules, options=OPTIONS)
    found = pictures.profile(fit.ensemble, read_frame(x), "x0")
    differences = np.gradient(found.mean[0, :, 0], found.x)
    away = np.abs(found.x - 0.6) > 0.05
    np.testing.assert_allclose(
        found.mean[1, away, 0][1:-1], differences[away][1:-1], atol=2e-3
    )
    assert np.all(found.mean[1, found.x < 0.6] >= 0)
    assert np.all(found.mean[1, found.x > 0.6] <= 0)


def test_pictures_are_written(fitted, tmp_path):
    ensemble, frame, y = fitted
    plot_rule(ensemble, frame, y, "dose", tmp_path / "rule.png")
    plot_pair(ensemble, frame, "dose", "age", tmp_path / "pair.png")
    plot_calibration(ensemble, frame, y, tmp_path / "calibration.png")
    for path in tmp_path.iterdir():
        assert path.read_bytes().startswith(b"\x89PNG")


def test_limits_are_not_moved_by_one_wild_value():
    values = np.append(np.linspace(0, 1, 999), 1e9)
    low, high = pictures._limits(values)
    assert -0.2 < low < 0.0
    assert 1.0 < high < 1.2


def test_pictures_name_the_column_that_is_not_there(fitted, tmp_path):
    ensemble, frame, y = fitted
    for column in ("weight", "kind"):
        with pytest.raises(ValueError, match=f"no column of numbers '{column}'"):
            plot_rule(ensemble, frame, y, column, tmp_path / "rule.png")
    assert not list(tmp_path.iterdir())
