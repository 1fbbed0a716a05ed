"""Estimators of scikit-learn's kind: its checks, rules, frames, files, intervals."""

import pickle
from functools import cache, partial

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.base import clone
from sklearn.datasets import make_regression
from sklearn.inspection import partial_dependence
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import (
    check_dataframe_column_names_consistency,
    check_estimator,
    estimator_checks_generator,
)
from tables import assert_each, assert_refused

from jaxcon.ensembles import ShapeRules, read_frame, verdicts
from jaxcon.estimators import (
    ShapeConstrainedClassifier,
    ShapeConstrainedQuantileRegressor,
    ShapeConstrainedRegressor,
    load,
    save,
)
from jaxcon.estimators._spelling import categorical_of, rules_of

QUICK = {"members": 2, "max_iter": 100, "random_state": 0}
REGRESSOR = ShapeConstrainedRegressor(**QUICK)
CLASSIFIER = ShapeConstrainedClassifier(**QUICK)
QUANTILES = ShapeConstrainedQuantileRegressor((0.1, 0.5, 0.9), **QUICK)
EACH = [REGRESSOR, CLASSIFIER, QUANTILES]

# Checks of scikit-learn's that fit to tables of sizes of their own: what they take is
# compilation. The last one skips itself.
COMPILED = set(
    """
    classifier_data_not_an_array classifiers_classes classifiers_train
    dict_unchanged dont_overwrite_parameters dtype_object estimators_dtypes
    estimators_fit_returns_self estimators_overwrite_params estimators_pickle
    f_contiguous_array_estimator fit2d_1feature fit2d_predict1d fit_check_is_fitted
    fit_idempotent fit_score_takes_y methods_sample_order_invariance
    methods_subset_invariance n_features_in n_features_in_after_fitting
    non_transformer_estimators_n_iter pipeline_consistency
    positive_only_tag_during_fit readonly_memmap_input regressor_data_not_an_array
    regressors_int regressors_no_decision_function regressors_train
    sample_weights_list sample_weights_not_an_array sample_weights_not_overwritten
    sample_weights_pandas_series sample_weights_shape supervised_y_2d
    array_api_input
    """.split()
)


@pytest.mark.parametrize("estimator", EACH, ids=lambda one: type(one).__name__)
def test_estimators_pass_quick_checks_of_scikit_learn(estimator):
    count = 0
    for one, check in estimator_checks_generator(estimator):
        name = getattr(check, "func", check).__name__.removeprefix("check_")
        if name not in COMPILED:
            check(one)
            count += 1
    assert count > 20


@pytest.mark.slow
@pytest.mark.parametrize("estimator", EACH, ids=lambda one: type(one).__name__)
def test_estimators_pass_all_checks_of_scikit_learn(estimator):
    check_estimator(estimator, on_skip=None)
    check_dataframe_column_names_consistency("estimator", estimator)


# Inputs whose box is the unit square, and a target that falls along x0.
X = np.random.default_rng(1).uniform(size=(40, 2))
X[:4] = [[0, 0], [0, 1], [1, 0], [1, 1]]
Y = np.exp(0.5 - 0.4 * X[:, 0] + 0.5 * np.sin(6 * X[:, 1]))
LABELS = np.array(["bad", "fair", "good"])[np.digitize(Y, [1.0, 2.0])]
GRID = np.stack(np.meshgrid(*[np.linspace(0, 1, 101)] * 2, indexing="ij"), -1)
AT = GRID.reshape(-1, 2)


@cache
def fitted(kind):
    """Estimators that are fitted under a rule that the data contradict."""
    if kind == "regressor":
        return clone(REGRESSOR).set_params(monotone_constraints=[1, 0]).fit(X, Y)
    if kind == "quantiles":
        return clone(QUANTILES).set_params(monotone_constraints=[1, 0]).fit(X, Y)
    if kind == "two classes":
        return clone(CLASSIFIER).set_params(monotone_constraints=[1, 0]).fit(X, Y > 1.5)
    signs = {0: {"good": 1, "bad": -1}}
    return clone(CLASSIFIER).set_params(monotone_constraints=signs).fit(X, LABELS)


KINDS = ("regressor", "quantiles", "two classes", "three classes")


def predicted(model, x=AT):
    """Predictions (n, m)."""
    for name in ("predict_proba", "predict_quantiles"):
        if hasattr(model, name):
            return getattr(model, name)(x)
    return model.predict(x)[:, None]


def test_predictions_obey_on_a_grid():
    for kind in KINDS:
        value = predicted(fitted(kind)).reshape(101, 101, -1)
        rise = np.diff(value, axis=0)
        if kind == "two classes":
            assert np.all(rise[..., 1] >= 0)
        elif kind == "three classes":
            good, bad = (
                list(fitted(kind).classes_).index(one) for one in ("good", "bad")
            )
            assert np.all(rise[..., good] >= 0)
            assert np.all(rise[..., bad] <= 0)
        else:
            assert np.all(rise >= 0)
        assert all(verdict.holds for verdict in verdicts(fitted(kind).fitted_))


def test_predictions_beyond_the_box_are_those_of_its_nearest_points():
    far = np.array([[2.0, 0.5], [-1.0, 3.0]])
    near = np.array([[1.0, 0.5], [0.0, 1.0]])
    for kind in KINDS:
        model = fitted(kind)
        np.testing.assert_array_equal(predicted(model, far), predicted(model, near))


def test_quantiles_never_cross():
    x = np.random.default_rng(0).uniform(-0.5, 1.5, size=(100_000, 2))
    found = fitted("quantiles").predict_quantiles(x)
    assert found.shape == (100_000, 3)
    assert np.all(np.diff(found, axis=1) > 0)
    alone = fitted("quantiles").predict(x[:9])
    np.testing.assert_allclose(alone, found[:9, 1], rtol=1e-14)


def test_probabilities_sum_to_one_and_name_the_most_probable_class():
    for kind in KINDS[2:]:
        model = fitted(kind)
        shares = model.predict_proba(AT)
        assert shares.min() >= 0
        np.testing.assert_allclose(shares.sum(1), 1, atol=1e-12)
        labels = model.classes_[shares.argmax(1)]
        np.testing.assert_array_equal(model.predict(AT), labels)
    assert fitted("two classes").predict(AT).dtype == bool
    assert list(fitted("three classes").classes_) == ["bad", "fair", "good"]


def test_intervals_have_ends_that_obey():
    model = fitted("regressor")
    ends = model.predict_interval(AT, 0.8).reshape(101, 101, 2)
    assert np.all(np.diff(ends, axis=0) >= 0)
    assert np.all(ends[..., 0] <= ends[..., 1])
    wide = model.predict_interval(AT, 0.95).reshape(101, 101, 2)
    assert np.all(wide[..., 0] <= ends[..., 0])
    assert np.all(wide[..., 1] >= ends[..., 1])
    bent = clone(REGRESSOR).set_params(convex=[0], monotone_constraints=[-1, 0])
    ends = bent.fit(X, Y).predict_interval(AT, 0.8).reshape(101, 101, 2)
    assert np.all(np.diff(ends, axis=0) <= 0)
    assert np.all(np.diff(ends, 2, axis=0) >= -1e-12)


def test_intervals_hold_their_share_of_new_targets():
    rng = np.random.default_rng(5)
    x = rng.uniform(size=(700, 1))
    y = np.sin(5 * x[:, 0]) + (0.2 + 0.3 * x[:, 0]) * rng.normal(size=700)
    model = ShapeConstrainedRegressor(members=5, max_iter=300, random_state=0)
    ends = model.fit(x[:200], y[:200]).predict_interval(x[200:], 0.9)
    held = np.mean((ends[:, 0] <= y[200:]) & (y[200:] <= ends[:, 1]))
    # Two standard errors of 500 rows and of the scores' quantiles.
    assert 0.84 <= held <= 0.96


def test_log_target_predicts_a_positive_mean_and_intervals():
    model = clone(REGRESSOR).set_params(log_target=True).fit(X, 1e6 * Y**8)
    value = model.predict(AT)
    assert value.min() > 0
    assert model.predict(X).mean() == pytest.approx(np.mean(1e6 * Y**8), rel=0.05)
    ends = model.predict_interval(AT)
    assert ends.min() >= 0
    assert np.all(ends[:, 0] <= ends[:, 1])


def test_estimators_are_cloned_and_pickled():
    for kind in KINDS:
        model = fitted(kind)
        assert clone(model).get_params() == model.get_params()
        assert not hasattr(clone(model), "fitted_")
        again = pickle.loads(pickle.dumps(model))
        np.testing.assert_array_equal(predicted(again), predicted(model))
        assert again.n_iter_ == 100
    assert list(fitted("regressor").get_feature_names_out()) == ["x0", "x1"]


def test_estimators_are_searched_and_scored():
    grid = {"monotone_constraints": [None, [1, 0]]}
    found = GridSearchCV(REGRESSOR, grid, cv=2).fit(X, 3 - Y)
    assert found.best_params_["monotone_constraints"] in (None, [1, 0])
    assert np.all(np.isfinite(found.cv_results_["mean_test_score"]))
    assert cross_val_score(CLASSIFIER, X, Y > 1.5, cv=2).shape == (2,)
    piped = make_pipeline(StandardScaler(), found.best_estimator_).fit(X, Y)
    np.testing.assert_allclose(
        piped.predict(X),
        found.best_estimator_.predict(StandardScaler().fit_transform(X)),
    )


def test_partial_dependence_rises_along_a_rule():
    for kind in ("regressor", "two classes"):
        shown = partial_dependence(fitted(kind), X, [0], grid_resolution=20)
        assert np.all(np.diff(shown["average"][0]) >= 0)


def mixed(rows=40):
    """Columns of numbers, of levels in order, of categories and of text."""
    places = np.arange(rows)
    size = np.array(["S", "M", "L"])[places % 3]
    colour = np.array(["red", "blue"])[places % 2]
    town = np.where(places % 5 == 0, "Rome", "Oslo").astype(object)
    number = np.where(places % 7 == 0, np.nan, X[places % 40, 0])
    return {"number": number, "size": size, "colour": colour, "town": town}


def frames():
    """The same table as frames of pandas and polars, and as an array."""
    cells, levels = mixed(), ["S", "M", "L"]
    ordered = pd.CategoricalDtype(levels, ordered=True)
    pandas = pd.DataFrame(cells).astype({"size": ordered, "colour": "category"})
    polars = pl.DataFrame(
        {name: list(one) for name, one in cells.items()}, strict=False, nan_to_null=True
    ).with_columns(
        pl.col("size").cast(pl.Enum(levels)), pl.col("colour").cast(pl.Categorical)
    )
    array = np.array([*map(list, cells.values())], object).T
    return {"pandas": pandas, "polars": polars, "array": array}


def test_frames_and_arrays_give_the_same_predictions():
    found, levels = {}, {"size": ["S", "M", "L"], "colour": None}
    for name, frame in frames().items():
        given = {1: levels["size"], 2: None} if name == "array" else "from_dtype"
        signs = {1: "pos"} if name == "array" else {"size": "pos"}
        model = clone(REGRESSOR).set_params(
            monotone_constraints=signs, categorical_features=given
        )
        found[name] = model.fit(frame, Y).predict(frame)
        if name != "array":
            assert list(model.feature_names_in_) == ["number", "size", "colour", "town"]
            names = list(model.get_feature_names_out())
            assert names[:4] == ["number", "number missing", "size", "colour=blue"]
    np.testing.assert_array_equal(found["pandas"], found["polars"])
    np.testing.assert_array_equal(found["pandas"], found["array"])
    numbers = [pd.DataFrame(X, columns=["a", "b"]), pl.DataFrame(X, schema=["a", "b"])]
    for frame in numbers:
        model = clone(fitted("regressor")).fit(frame, Y)
        np.testing.assert_array_equal(
            model.predict(frame), fitted("regressor").predict(X)
        )


def test_frames_in_another_order_are_refused_by_their_columns():
    frame = pd.DataFrame(X, columns=["a", "b"])
    model = clone(REGRESSOR).fit(frame, Y)
    for other in (frame[["b", "a"]], pl.DataFrame(frame[["b", "a"]])):
        with pytest.raises(ValueError, match="Column 0 is 'b', and was 'a'"):
            model.predict(other)
    with pytest.raises(ValueError, match="now missing:\n- b"):
        model.predict(frame[["a"]])
    with pytest.raises(ValueError, match="two columns of the name 'a'"):
        read_frame(pd.DataFrame(X, columns=["a", "a"]))


def test_save_and_load_keep_predictions_to_the_bit(tmp_path):
    path, frame = tmp_path / "model.safetensors", frames()["pandas"]
    categories = [
        clone(REGRESSOR).fit(frame, Y),
        clone(CLASSIFIER).fit(frame, LABELS),
        clone(QUANTILES).fit(frame, Y),
    ]
    whole = clone(CLASSIFIER).fit(X, np.where(Y > 1.5, 7, -2))
    for model in (*map(fitted, KINDS), whole, *categories):
        save(model, path)
        again = load(path)
        x = frame if model in categories else AT
        assert type(again) is type(model)
        np.testing.assert_array_equal(predicted(again, x), predicted(model, x))
        np.testing.assert_array_equal(again.predict(x), model.predict(x))
        assert verdicts(again.fitted_) == verdicts(model.fitted_)
        if hasattr(model, "classes_"):
            np.testing.assert_array_equal(again.classes_, model.classes_, strict=True)
        if isinstance(model, ShapeConstrainedRegressor):
            before = model.predict_interval(x)
            np.testing.assert_array_equal(again.predict_interval(x), before)
    once = load(path).fit(frame, Y)  # is fitted anew as it was
    np.testing.assert_array_equal(once.predict(frame), categories[-1].predict(frame))


def test_weights_are_repetitions_and_zero_is_absence():
    weight = np.arange(40) % 3
    rows = np.repeat(np.arange(40), weight)
    for one, y in ((REGRESSOR, Y), (CLASSIFIER, Y > 1.5), (QUANTILES, Y)):
        weighted = predicted(clone(one).fit(X, y, sample_weight=weight))
        repeated = predicted(clone(one).fit(X[rows], y[rows]))
        np.testing.assert_array_equal(weighted, repeated)
    # An outlier of weight 0 widens no box, and a missing cell of weight 0 is none.
    extra = np.vstack([X, [[50.0, np.nan]]])
    absent = clone(REGRESSOR).fit(extra, np.append(Y, 99.0), np.append(np.ones(40), 0))
    np.testing.assert_array_equal(
        absent.predict(AT), clone(REGRESSOR).fit(X, Y).predict(AT)
    )


def test_eval_set_stops_the_members():
    shifted = (X[:20] / 2, Y[:20] + 1)
    one = clone(REGRESSOR).fit(X, Y, eval_set=shifted)
    two = clone(REGRESSOR).fit(X, Y, eval_set=[shifted])
    np.testing.assert_array_equal(one.predict(AT), two.predict(AT))
    assert not np.array_equal(one.predict(AT), clone(REGRESSOR).fit(X, Y).predict(AT))
    labels = clone(CLASSIFIER).fit(X, LABELS, eval_set=(X[:9], LABELS[:9]))
    assert labels.predict_proba(X).shape == (40, 3)


FRAME = read_frame(pd.DataFrame(X, columns=["a", "b"]))
RISING = ShapeRules(monotone={"a": 1, "b": -1})


def test_rules_are_read_as_users_spell_them():
    def check(row):
        given, wanted = row
        assert rules_of(FRAME, **given) == wanted

    signs = [
        {"a": 1, "b": -1},
        {0: 1, 1: -1},
        [1, -1],
        (1, -1),
        np.array([1, -1]),
        np.array([1.0, -1.0]),
        {"a": "pos", "b": "neg"},
        {"a": "increasing", "b": "decreasing"},
        {np.int64(0): np.int8(1), "b": -1},
    ]
    rows = [({"monotone_constraints": one}, RISING) for one in signs]
    one = ShapeRules(monotone={"a": 1})
    rows += [
        ({"monotone_constraints": given}, one)
        for given in ([1, 0], {"a": 1, "b": 0}, {"a": 1, "b": "no_cst"}, {"a": 1})
    ]
    rows += [
        ({"convex": given}, ShapeRules(convex=(("a",),))) for given in ("a", 0, ["a"])
    ]
    rows += [
        ({"convex": [("a", "b")]}, ShapeRules(convex=(("a", "b"),))),
        ({"concave": [0, 1]}, ShapeRules(concave=(("a",), ("b",)))),
        ({"bounds": (0, None)}, ShapeRules(bounds=(0.0, None))),
        ({"bounds": [-np.inf, 5]}, ShapeRules(bounds=(None, 5.0))),
        ({"slope_bounds": {1: (0, 2)}}, ShapeRules(slope_bounds={"b": (0.0, 2.0)})),
        ({"lipschitz": np.float32(2)}, ShapeRules(lipschitz=2.0)),
        ({"unimodal": "a"}, ShapeRules(unimodal={"a": None})),
        ({"unimodal": {1: 0.5}}, ShapeRules(unimodal={"b": 0.5})),
        ({}, ShapeRules()),
    ]
    assert_each(rows, check)
    assert categorical_of([False, True], FRAME) == {"b": None}
    assert categorical_of(["b"], FRAME) == categorical_of([1], FRAME) == {"b": None}
    assert categorical_of({"b": [2, 1]}, FRAME) == {"b": (2, 1)}


def test_errors_are_one_clear_line():
    frame = frames()["pandas"]
    flat = {"convex": [0], "concave": [0]}
    steep = {"slope_bounds": {0: (1, 2)}, "lipschitz": 0.1}

    def called(one=REGRESSOR, x=X, y=Y, **given):
        names = {
            name: given.pop(name) for name in list(given) if name in one.get_params()
        }
        return lambda: clone(one).set_params(**names).fit(x, y, **given)

    def of(**rule):
        return called(**rule)

    signs = "monotone_constraints"
    assert_refused(
        [
            (
                of(monotone_constraints={"z": 1}),
                ValueError,
                [signs, "'z'", "'x0', 'x1'"],
            ),
            (of(monotone_constraints={2: 1}), ValueError, [signs, "no column 2 of 2"]),
            (
                of(monotone_constraints=[1]),
                ValueError,
                [signs, "1 signs for 2 columns"],
            ),
            (of(monotone_constraints=[2, 0]), ValueError, [signs, "-1, 0 or 1, got 2"]),
            (of(monotone_constraints="pos"), TypeError, [signs, "'pos'"]),
            (
                called(x=frame, monotone_constraints={"town": 1}),
                ValueError,
                ["'town'", "categories without an order", "categorical_features"],
            ),
            (of(convex=[("x0", "x0")]), ValueError, "convex.*once"),
            (of(bounds=(1, 0)), ValueError, "bounds: 1 is not below 0"),
            (of(bounds=(np.inf, None)), ValueError, "bounds: inf is not below inf"),
            (of(bounds=3), TypeError, "bounds must be a sequence"),
            (of(slope_bounds={0: (1, 1)}), ValueError, r"slope_bounds\['x0'\]"),
            (of(slope_bounds=[(0, 1)]), TypeError, "slope_bounds must be a dict"),
            (of(lipschitz=-1), ValueError, "lipschitz must be > 0"),
            (of(unimodal={0: "a"}), TypeError, r"unimodal\['x0'\]"),
            (called(**flat), ValueError, "rules leave no room"),
            (called(**steep), ValueError, "rules leave no room"),
            (of(categorical_features=["z"]), ValueError, "categorical_features.*'z'"),
            (of(categorical_features={0: "ab"}), TypeError, "categorical_features"),
            (of(categorical_features={0: [1, 2]}), ValueError, "none of its levels"),
            (of(loss="l2"), ValueError, "loss must be 'squared_error'"),
            (called(y=-Y, loss="gamma"), ValueError, "y must be positive"),
            (called(y=Y[:5]), ValueError, r"y must have shape \(40,\)"),
            (of(members=0), ValueError, "members must be"),
            (of(max_iter=1.5), ValueError, "max_iter must be"),
            (of(sample_weight=np.ones(3)), ValueError, "sample_weight must have shape"),
            (
                of(sample_weight=-np.ones(40)),
                ValueError,
                "sample_weight must be at least",
            ),
            (of(eval_set=X), TypeError, "eval_set must be"),
            (of(eval_set=(X, Y[:3])), ValueError, "y must have shape"),
            (of(eval_set=(X[:, :1], Y)), ValueError, "1 features"),
            (
                called(QUANTILES, quantiles=(0.5, 1.5)),
                ValueError,
                "quantiles must be in",
            ),
            (
                called(QUANTILES, quantiles=(0.5, 0.1)),
                ValueError,
                "quantiles must rise",
            ),
            (called(QUANTILES, quantiles=("a",)), TypeError, "quantiles must be"),
            (called(CLASSIFIER, y=np.ones(40, int)), ValueError, "at least 2 classes"),
            (
                called(CLASSIFIER, y=LABELS, monotone_constraints=[1, 0]),
                ValueError,
                [signs, "of 3 classes, name those"],
            ),
            (
                called(CLASSIFIER, y=LABELS, monotone_constraints={0: {"best": 1}}),
                ValueError,
                [signs, "'best' is none of the classes"],
            ),
            (
                called(CLASSIFIER, y=LABELS, eval_set=(X[:1], ["best"])),
                ValueError,
                "eval_set has a label 'best'",
            ),
            (
                partial(fitted("regressor").predict_interval, X, 1.5),
                ValueError,
                "level",
            ),
            (partial(save, REGRESSOR, "a"), ValueError, "not fitted yet"),
            (partial(load, __file__), ValueError, "holds no ensemble"),
        ],
        most=300,
    )


def test_verbose_fits_say_how_they_stand(capsys):
    clone(REGRESSOR).set_params(verbose=1).fit(X, Y)
    assert "step 100 of 100: held-out loss" in capsys.readouterr().out


def test_estimators_fit_well_enough():
    x, y = make_regression(200, 3, noise=0.1, random_state=0)
    model = ShapeConstrainedRegressor(members=2, max_iter=300, random_state=0)
    assert model.fit(x[:150], y[:150]).score(x[150:], y[150:]) > 0.99
