"""Other libraries on the tables of `benchmarks.tables`, all tuned by one search.

A peer is fitted with the settings that are best in an inner cross-validation of three
folds on the training rows, by the loss that it is judged by. Its candidates are the
library's own settings and others drawn at random, the same ones for every table; the
number of rounds of boosting comes from early stopping on the inner folds. A search that
has used its time tries no further candidate.

Boosters and both additive models get the table's monotone rules, the additive ones its
convex and concave rules too. The linear model gets none. A fit has one thread, by
arguments here or by `benchmarks.tables`. Bounds are kept by clipping.
"""

import ctypes
import resource
import signal
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from itertools import islice
from multiprocessing import get_context
from typing import Any, NamedTuple

import numpy as np

from benchmarks._tables_data import TableTask, loss

CANDIDATES, LIMIT = 12, 120.0
FOLDS, ROUNDS, PATIENCE = 3, 1000, 30
GAMFIT_SECONDS = 30  # of a single fit, some of which never end
# gamfit's words, and pyGAM's.
SHAPES = {1: "monotone_increasing", -1: "monotone_decreasing"}
CONSTRAINTS = {SHAPES[1]: "monotonic_inc", SHAPES[-1]: "monotonic_dec"}

Settings = dict[str, Any]


class Job(NamedTuple):
    """Fit of a model to rows.

    Attributes:
        task: with the rules; its own rows are not looked at.
        X: training inputs.
        y: training targets.
        seed: of the fit.
        settings: of the library.
        aside: X and y of rows to stop boosting early on; None without.
    """

    task: TableTask
    X: Any
    y: Any
    seed: int
    settings: Settings = {}
    aside: tuple[Any, Any] | None = None


class Fitted(NamedTuple):
    """Model that was fitted.

    Attributes:
        predict: (X) -> means or probabilities, (n,).
        rounds: of boosting; None of models that have none.
    """

    predict: Callable[[Any], Any]
    rounds: int | None = None


class Peer(NamedTuple):
    """Library, with the settings that it is searched over.

    Attributes:
        fit: fits it once.
        settings: candidates, the first one being the library's own.
        needs: module that must be installed.
        counted: whether it may be the best peer.
    """

    fit: Callable[[Job], Fitted]
    settings: list[Settings]
    needs: str = "sklearn"
    counted: bool = True


class Prediction(NamedTuple):
    """Predictions for the test rows, and how they came about.

    Attributes:
        values: (n,).
        settings: that were chosen.
        tried: number of candidates.
        fit_seconds: of the last fit alone.
    """

    values: np.ndarray
    settings: Settings
    tried: int
    fit_seconds: float


def bounded(task: TableTask, values: Any) -> np.ndarray:
    """Clips predictions to a table's bounds."""
    values = np.asarray(values, float).reshape(-1)
    return values if task.bounds is None else np.clip(values, *task.bounds)


def predict(
    name: str,
    task: TableTask,
    X: Any,
    y: np.ndarray,
    X_test: Any,
    seed: int,
    candidates: int = CANDIDATES,
    limit: float = LIMIT,
) -> Prediction:
    """Searches a peer's settings, fits it with the best ones, and predicts.

    Args:
        name: of the peer.
        task: with the rules; its own rows are not looked at.
        X: training inputs.
        y: training targets.
        X_test: inputs to predict for.
        seed: of folds and fits.
        candidates: most candidates to try.
        limit: seconds after which no further candidate is tried.

    Returns:
        Its predictions.

    Raises:
        Exception: what the library raised last, where no candidate could be fitted.
    """
    peer = PEERS[name]
    job = Job(task if peer.counted else task._replace(monotone={}), X, y, seed)
    ranked = [(0.0, peer.settings[0])]
    if len(peer.settings) > 1:
        ranked = _ranked(peer, job, candidates, time.perf_counter() + limit)
    failure: Exception = ValueError("no candidate")
    for _, settings in ranked:
        begun = time.perf_counter()
        try:
            fitted = peer.fit(job._replace(settings=settings))
            seconds = time.perf_counter() - begun
            values = bounded(task, fitted.predict(X_test))
            if not np.isfinite(values).all():
                raise ArithmeticError("predictions are not finite")
            return Prediction(values, settings, len(ranked), seconds)
        except Exception as error:
            failure = error
    raise failure


def _ranked(
    peer: Peer, job: Job, candidates: int, end: float
) -> list[tuple[float, Settings]]:
    """Cross-validates candidates until a time; returns losses and settings, best first.

    A candidate that fails on a fold is left for the end, its loss being infinite.
    """
    from sklearn.model_selection import KFold, StratifiedKFold

    folds = StratifiedKFold if job.task.kind == "binary" else KFold
    split = folds(FOLDS, shuffle=True, random_state=job.seed)
    rows = list(split.split(job.X, job.y))
    ranked: list[tuple[float, Settings]] = []
    for settings in peer.settings[:candidates]:
        if ranked and time.perf_counter() > end:
            break
        try:
            ranked.append(_score(peer, job._replace(settings=settings), rows))
        except Exception:
            ranked.append((np.inf, settings))
    return sorted(ranked, key=lambda pair: pair[0])


def _score(peer: Peer, job: Job, rows: Any) -> tuple[float, Settings]:
    """Cross-validates settings; returns their loss, and them with the rounds."""
    losses, rounds = [], []
    for train, held in rows:
        X, y = job.X.iloc[held], job.y[held]
        inner = job._replace(X=job.X.iloc[train], y=job.y[train], aside=(X, y))
        fitted = peer.fit(inner)
        losses.append(loss(job.task.kind, y, bounded(job.task, fitted.predict(X))))
        rounds.append(fitted.rounds)
    if not rounds[0]:
        return float(np.mean(losses)), job.settings
    return float(np.mean(losses)), job.settings | {"rounds": round(np.mean(rounds))}


def _log(low: float, high: float) -> Any:
    """Returns a law whose logarithm is uniform; of whole numbers between such."""
    kind = type(low)
    return lambda rng: kind(np.exp(rng.uniform(np.log(low), np.log(high))))


def _share(rng: np.random.Generator) -> float:
    return rng.uniform(0.5, 1.0)


def _drawn(own: Settings, **laws: Any) -> list[Settings]:
    """Returns a library's own settings and random ones, the same in every run."""
    rng = np.random.default_rng(0)
    others = [{name: law(rng) for name, law in laws.items()} for _ in range(100)]
    return [own, *others]


def _boosting(job: Job) -> tuple[Settings, int]:
    """Takes the number of rounds out of a booster's settings."""
    settings = {"rounds": 100} | job.settings
    rounds = settings.pop("rounds")
    return settings, rounds if job.aside is None else ROUNDS


def _lightgbm(job: Job) -> Fitted:
    import lightgbm  # pyright: ignore[reportMissingImports]

    options, rounds = _boosting(job)
    options |= {
        "objective": job.task.kind,
        "monotone_constraints": [job.task.monotone.get(name, 0) for name in job.X],
        "monotone_constraints_method": "advanced",
        "num_threads": 1,
        "seed": job.seed,
        "deterministic": True,
        "force_row_wise": True,
        "verbosity": -1,
    }
    data, stop = lightgbm.Dataset(job.X, job.y), {}
    if job.aside is not None:
        stop["valid_sets"] = [lightgbm.Dataset(*job.aside, reference=data)]
        stop["callbacks"] = [lightgbm.early_stopping(PATIENCE, verbose=False)]
    booster = lightgbm.train(options, data, rounds, **stop)
    return Fitted(booster.predict, booster.best_iteration)


def _xgboost(job: Job) -> Fitted:
    import xgboost  # pyright: ignore[reportMissingImports]

    losses = {"regression": "reg:squarederror", "binary": "binary:logistic"}
    options, rounds = _boosting(job)
    options |= {
        "objective": losses.get(job.task.kind, "count:poisson"),
        "monotone_constraints": tuple(job.task.monotone.get(name, 0) for name in job.X),
        "tree_method": "hist",
        "nthread": 1,
        "seed": job.seed,
        "verbosity": 0,
    }

    def matrix(inputs: Any, targets: Any = None) -> Any:
        return xgboost.DMatrix(inputs, targets, nthread=1, enable_categorical=True)

    stop: Settings = {"verbose_eval": False}
    if job.aside is not None:
        stop |= {"evals": [(matrix(*job.aside), "")], "early_stopping_rounds": PATIENCE}
    booster = xgboost.train(options, matrix(job.X, job.y), rounds, **stop)
    best = rounds if job.aside is None else booster.best_iteration + 1

    def values(inputs: Any) -> Any:
        return booster.predict(matrix(inputs), iteration_range=(0, best))

    return Fitted(values, best)


def _hist(job: Job) -> Fitted:
    from sklearn.ensemble import HistGradientBoostingClassifier as Classifier
    from sklearn.ensemble import HistGradientBoostingRegressor as Regressor

    options, rounds = _boosting(job)
    options |= {
        "monotonic_cst": dict(job.task.monotone),
        "categorical_features": "from_dtype",
        "random_state": job.seed,
        "max_iter": rounds,
        "early_stopping": job.aside is not None,
        "n_iter_no_change": PATIENCE,
        "scoring": "loss",
    }
    if job.task.kind == "binary":
        model = Classifier(**options)
        staged = model.staged_predict_proba
    else:
        squares = "squared_error" if job.task.kind == "regression" else "poisson"
        model = Regressor(loss=squares, **options)
        staged = model.staged_predict
    if job.aside is None:
        model.fit(job.X, job.y)
    else:  # The scores begin with the one before the first round.
        model.fit(job.X, job.y, X_val=job.aside[0], y_val=job.aside[1])
        rounds = max(1, int(np.argmax(model.validation_score_)))

    def values(inputs: Any) -> Any:
        found = next(islice(staged(inputs), rounds - 1, None))
        return found.reshape(len(found), -1)[:, -1]

    return Fitted(values, rounds)


class _Codes:
    """Numbers in place of a DataFrame, for models that take no gaps and no names.

    A missing number becomes the median, a category its rank among the levels that were
    seen, the most frequent being 0; a level that was not is 0 too. Columns of one value
    are left out.

    Attributes:
        counts: of distinct values, by column.
        names: of the columns that are left.
        ranks: by column of categories, a dict from levels.
        medians: by column of numbers.
    """

    def __init__(self, X: Any) -> None:
        self.counts = {name: int(X[name].nunique()) for name in X}
        self.names = [name for name in X if self.counts[name] > 1]
        text = [name for name in self.names if X[name].dtype.name == "category"]
        levels = {name: X[name].astype(str).value_counts().index for name in text}
        self.ranks = {name: {v: i for i, v in enumerate(levels[name])} for name in text}
        self.medians = {n: X[n].median() for n in self.names if n not in text}

    def __call__(self, X: Any) -> np.ndarray:
        """Returns (n, columns)."""
        columns = [
            X[name].astype(str).map(self.ranks[name]).fillna(0)
            if name in self.ranks
            else X[name].fillna(self.medians[name])
            for name in self.names
        ]
        return np.column_stack(columns).astype(float)


def _shapes(task: TableTask, name: str) -> list[str]:
    """Lists the rules of a column, in gamfit's words."""
    signs = [SHAPES[task.monotone[name]]] if name in task.monotone else []
    curves = {"convex": task.convex, "concave": task.concave}
    return signs + [curve for curve, columns in curves.items() if name in columns]


def _pygam(job: Job) -> Fitted:
    import pygam  # pyright: ignore[reportMissingImports]
    from pygam.terms import TermList  # pyright: ignore[reportMissingImports]

    codes = _Codes(job.X)
    lam, terms = job.settings["lam"], []
    for index, name in enumerate(codes.names):
        if name in codes.ranks:
            terms.append(pygam.f(index, lam=lam))
            continue
        n = min(job.settings["splines"], codes.counts[name])
        rules = [CONSTRAINTS.get(rule, rule) for rule in _shapes(job.task, name)]
        term = pygam.s(index, n, min(3, n - 1), lam=lam, constraints=rules or None)
        terms.append(term)
    family = {"binary": pygam.LogisticGAM, "poisson": pygam.PoissonGAM}
    model = family.get(job.task.kind, pygam.LinearGAM)(TermList(*terms))
    with redirect_stdout(None):  # "did not converge"
        model.fit(codes(job.X), job.y)
    return Fitted(lambda inputs: model.predict_mu(codes(inputs)))


def _gamfit(job: Job) -> Fitted:
    import gamfit  # pyright: ignore[reportMissingImports]
    import pandas as pd  # pyright: ignore[reportMissingImports]

    codes = _Codes(job.X)
    signs = {1: "nonnegative", -1: "nonpositive", 0: "linear"}
    size, terms = job.settings["k"], []
    for index, name in enumerate(codes.names):
        column, shapes = f"x{index}", _shapes(job.task, name)
        if name in codes.ranks:
            terms.append(f"group({column})")
        elif codes.counts[name] < 5:
            terms.append(f"{signs[job.task.monotone.get(name, 0)]}({column})")
        else:
            basis = "" if size is None else f", k={min(size, codes.counts[name])}"
            shape = f", shape=[{', '.join(shapes)}]" if shapes else ""
            terms.append(f"s({column}{basis}{shape})")

    def frame(inputs: Any) -> Any:
        table = pd.DataFrame(codes(inputs)).add_prefix("x")
        for index, name in enumerate(codes.names):
            if name in codes.ranks:  # as text
                table[f"x{index}"] = [f"level {n:.0f}" for n in table[f"x{index}"]]
        return table

    families = {"regression": "gaussian", "binary": "binomial", "poisson": "poisson"}
    given, formula = frame(job.X).assign(y=job.y), f"y ~ {' + '.join(terms)}"

    def saved() -> bytes:
        return gamfit.fit(given, formula, family=families[job.task.kind]).dumps()

    model = gamfit.loads(_within(GAMFIT_SECONDS, saved))
    return Fitted(lambda inputs: model.predict(frame(inputs)))


def _within(seconds: int, work: Callable[[], Any]) -> Any:
    """Does work that nothing else can stop in a fork, for so long on the processor."""
    context = get_context("fork")
    receive, send = context.Pipe(duplex=False)

    def child() -> None:
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # where its parent ends
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
        try:
            send.send(work())
        except Exception as error:
            send.send(RuntimeError(f"{type(error).__name__}: {error}"))

    process = context.Process(target=child)
    process.start()
    send.close()
    try:
        result = receive.recv()
    except EOFError:
        raise TimeoutError(f"a fit took more than {seconds} s") from None
    finally:
        process.join()
    if isinstance(result, RuntimeError):
        raise result
    return result


def _isotonic(job: Job) -> Fitted:
    from sklearn.isotonic import IsotonicRegression

    (sign,) = job.task.monotone.values()
    model = IsotonicRegression(increasing=sign > 0, out_of_bounds="clip")
    return Fitted(model.fit(job.X.to_numpy(), job.y).predict)


def _linear(job: Job) -> Fitted:
    from sklearn.compose import make_column_selector, make_column_transformer
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression, PoissonRegressor, Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    filled = SimpleImputer(strategy="median", add_indicator=True)
    numbers = make_pipeline(filled, StandardScaler())
    names = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    inputs = make_column_transformer(
        (numbers, make_column_selector(dtype_include=float)),
        (names, make_column_selector(dtype_include="category")),
    )
    alpha = job.settings["alpha"]
    models = {
        "regression": Ridge(alpha),
        "binary": LogisticRegression(C=1.0 / alpha, max_iter=5000),
        "poisson": PoissonRegressor(alpha=alpha / len(job.y), max_iter=1000),  # a mean
    }
    model = make_pipeline(inputs, models[job.task.kind]).fit(job.X, job.y)
    if job.task.kind == "binary":
        return Fitted(lambda inputs: model.predict_proba(inputs)[:, 1])
    return Fitted(model.predict)


_LIGHTGBM = _drawn(
    {"num_leaves": 31},
    learning_rate=_log(0.02, 0.3),
    num_leaves=_log(3, 64),
    min_data_in_leaf=_log(1, 60),
    lambda_l2=_log(1e-3, 30.0),
    feature_fraction=_share,
    bagging_fraction=_share,
    bagging_freq=lambda rng: 1,
    min_data_per_group=_log(3, 100),
    cat_smooth=_log(1.0, 30.0),
)
_XGBOOST = _drawn(
    {"max_depth": 6},
    learning_rate=_log(0.02, 0.3),
    max_depth=_log(1, 9),
    min_child_weight=_log(0.5, 30.0),
    reg_lambda=_log(1e-2, 30.0),
    subsample=_share,
    colsample_bytree=_share,
)
_HIST = _drawn(
    {"max_leaf_nodes": 31},
    learning_rate=_log(0.02, 0.3),
    max_leaf_nodes=_log(3, 64),
    min_samples_leaf=_log(1, 60),
    l2_regularization=_log(1e-3, 30.0),
    max_features=_share,
)
_PYGAM = _drawn({"lam": 0.6, "splines": 20}, lam=_log(1e-3, 1e3), splines=_log(5, 26))
_LINEAR = _drawn({"alpha": 1.0}, alpha=_log(1e-3, 1e3))
PEERS: dict[str, Peer] = {
    "lightgbm": Peer(_lightgbm, _LIGHTGBM, "lightgbm"),
    "xgboost": Peer(_xgboost, _XGBOOST, "xgboost"),
    "hist": Peer(_hist, _HIST),
    "pygam": Peer(_pygam, _PYGAM, "pygam"),
    # It chooses smoothness itself, so what is left is the size of its bases.
    "gamfit": Peer(_gamfit, [{"k": k} for k in (None, 5, 8)], "gamfit"),
    "isotonic": Peer(_isotonic, [{}]),
    "linear": Peer(_linear, _LINEAR),
    "hist_free": Peer(_hist, _HIST, counted=False),
}
