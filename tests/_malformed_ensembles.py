"""Good calls of ensembles and of estimators over them, to be altered one by one."""

import tempfile
from functools import cache
from pathlib import Path

import numpy as np

from jaxcon import ensembles, estimators
from jaxcon.ensembles import Loss, Options, ShapeRules, read_frame

X = np.random.default_rng(0).uniform(size=(16, 2))
Y = 1 + X[:, 0]
QUICK = {"members": 2, "max_iter": 100}


def of(**given):
    """A function that returns these arguments."""
    return lambda: dict(given)


def frame():
    """The inputs."""
    return read_frame(X, ["a", "b"])


@cache
def fit():
    """A fit under one rule."""
    rules = ShapeRules(monotone={"a": 1})
    options = Options(members=2, steps=100)
    return ensembles.fit_ensemble(
        frame(), Y, Loss("squared_error"), rules, options=options
    )


@cache
def regressor():
    """A fitted estimator."""
    return estimators.ShapeConstrainedRegressor(
        monotone_constraints=[1, 0], random_state=0, **QUICK
    ).fit(X, Y)


@cache
def folder():
    """A folder of this process, with files to read."""
    path = Path(tempfile.mkdtemp())
    ensembles.save_ensemble(fit().ensemble, path / "ensemble")
    estimators.save(regressor(), path / "estimator")
    return path


def rules(**more):
    """Arguments of an estimator; few rules, since each is compiled."""
    return {
        "monotone_constraints": {},
        "convex": (),
        "concave": (),
        "bounds": (None, None),
        "slope_bounds": {},
        "unimodal": {},
        "categorical_features": (),
        "random_state": 0,
        "verbose": 0,
        **QUICK,
        **more,
    }


CALLS = {
    "estimators.fit": lambda X, y, sample_weight=None, eval_set=None: (
        estimators.ShapeConstrainedRegressor(**QUICK).fit(X, y, sample_weight, eval_set)
    ),
    "estimators.fit of classes": lambda X, y, sample_weight=None, eval_set=None: (
        estimators.ShapeConstrainedClassifier(**QUICK).fit(
            X, y, sample_weight, eval_set
        )
    ),
    "estimators.predict": lambda X: regressor().predict(X),
    "estimators.predict_interval": lambda X, level: regressor().predict_interval(
        X, level
    ),
    "ensembles.predict": lambda frame: fit().ensemble.predict(frame),
    "ensembles.predict_interval": lambda frame, level: fit().ensemble.predict_interval(
        frame, level
    ),
}

GOOD = {
    "ensembles.ShapeRules": of(
        monotone={"a": 1},
        convex=(("b",),),
        concave=(("a",),),
        bounds=(0.0, 9.0),
        slope_bounds={"b": (-1.0, 1.0)},
        lipschitz=3.0,
        unimodal={"c": 0.5},
    ),
    "ensembles.Options": of(members=2, steps=100, seed=1, batch=8),
    "ensembles.Loss": of(kind="quantile", outputs=2, levels=(0.1, 0.9)),
    "ensembles.plot_rule": lambda: {
        "ensemble": fit().ensemble,
        "frame": frame(),
        "y": Y,
        "column": "a",
        "path": folder() / "rule.png",
        "level": 0.9,
    },
    "ensembles.plot_pair": lambda: {
        "ensemble": fit().ensemble,
        "frame": frame(),
        "first": "a",
        "second": "b",
        "path": folder() / "pair.png",
    },
    "ensembles.plot_calibration": lambda: {
        "ensemble": fit().ensemble,
        "frame": frame(),
        "y": Y,
        "path": folder() / "calibration.png",
    },
    "ensembles.read_frame": of(x=X, names=["a", "b"]),
    "ensembles.read_target": of(y=Y, rows=16, loss=Loss("squared_error")),
    "ensembles.fit_ensemble": lambda: {
        "frame": frame(),
        "y": Y,
        "loss": Loss("squared_error"),
        "rules": ShapeRules(monotone={"a": 1}),
        "weight": np.ones(16),
        "held_out": np.arange(16) > 12,
        "categorical": {},
        "options": Options(members=2, steps=100),
        "watch": lambda done, steps, loss: None,
        "checkpoint": folder() / "checkpoint",
    },
    "ensembles.predict": lambda: {"frame": frame()},
    "ensembles.predict_interval": lambda: {"frame": frame(), "level": 0.9},
    "ensembles.report": lambda: {
        "fit": fit(),
        "train": (frame(), Y),
        "held_out": (frame(), Y),
        "rules": ShapeRules(monotone={"a": 1}),
        "weight": np.ones(16),
        "categorical": {},
        "options": Options(members=2, steps=100),
    },
    "ensembles.verdicts": lambda: {"fit": fit()},
    "ensembles.save_ensemble": lambda: {
        "ensemble": fit().ensemble,
        "path": folder() / "again",
        "extra": {"a": 1},
    },
    "ensembles.load_ensemble": lambda: {"path": folder() / "ensemble"},
    "estimators.ShapeConstrainedRegressor": of(
        loss="squared_error", log_target=False, **rules(lipschitz=5.0)
    ),
    "estimators.ShapeConstrainedQuantileRegressor": of(quantiles=(0.1, 0.9), **rules()),
    "estimators.ShapeConstrainedClassifier": of(**rules(monotone_constraints=[0, 0])),
    "estimators.fit": of(X=X, y=Y, sample_weight=np.ones(16), eval_set=(X, Y)),
    "estimators.fit of classes": of(
        X=X,
        y=np.arange(16) % 2,
        sample_weight=np.ones(16),
        eval_set=(X, np.arange(16) % 2),
    ),
    "estimators.predict": of(X=X),
    "estimators.predict_interval": of(X=X, level=0.9),
    "estimators.save": lambda: {"estimator": regressor(), "path": folder() / "again"},
    "estimators.load": lambda: {"path": folder() / "estimator"},
}

# Values that an argument may have.
FREE = {
    "ensembles.plot_rule": {"column": {"'a'"}, "path": {"'a'"}},
    "ensembles.plot_pair": {"first": {"'a'"}, "second": {"'a'"}, "path": {"'a'"}},
    "ensembles.plot_calibration": {"path": {"'a'"}},
    "ensembles.save_ensemble": {"path": {"'a'"}},
    "ensembles.load_ensemble": {"path": {"'a'"}},
    "estimators.save": {"path": {"'a'"}},
    "estimators.load": {"path": {"'a'"}},
    **{
        f"estimators.ShapeConstrained{kind}": {
            "categorical_features": {"None"},
            "verbose": {"True"},
        }
        for kind in ("Regressor", "QuantileRegressor", "Classifier")
    },
}

# What else names an argument in a message.
NAMES = {"ensembles.read_frame": ["X"]}


def use(name, made, given):
    """Uses the result of a call as its reader would."""
    if name == "ensembles.Loss":
        ensembles.read_target(Y, 16, made)
    if name.startswith("estimators.Shape"):
        y = Y > 1.5 if "Classifier" in name else Y
        made.fit(X, y)
    return made
