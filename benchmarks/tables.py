"""Is a network that obeys known shape rules as accurate on tables as tuned peers?

Question     On public tables with shape rules that are known beforehand: how does the
             held-out loss of jaxcon's estimators, nothing tuned, compare with the best
             of LightGBM, XGBoost, HistGradientBoosting, pyGAM, gamfit, isotonic
             regression and a linear model, each tuned on every training half? Do the
             predictions obey the rules between the data? What do rules cost or bring?
Conditions   The tables and rules of `_tables_data`, written down before any fit.
             Cross-validation in two folds, five times (stratified where the target is
             binary): ten halves to train on, the others held out. Loss: root mean
             squared error, log loss (probabilities clipped at 1e-6) or mean Poisson
             deviance, averaged over the halves. Peers (`_tables_peers`) choose among
             twelve candidates by three inner folds, with the same rules as far as they
             have them; `hist_free`, HistGradientBoosting without rules, is information
             and never the best peer. jaxcon's estimators run as they are: `ours` with
             the rules, `unconstrained` without. A peer that fails on one half fails on
             the table; failures are listed. Every fit has one thread; its seconds are
             of search, fit, compilation and prediction. A search tries no further
             candidate after 120 s; a single fit of gamfit may take 30 s.
             Violations of `ours` are searched for on 1e5 random points of the training
             half's box for each rule: falls between two values of a column, distances
             from chords at a third value, and values out of bounds. They are given in
             standard deviations of the target and in roundings, multiples of float32's
             epsilon times the largest prediction; up to 16 roundings count as none.
Run          pip download --no-deps -d benchmarks/data pygam==0.9.1 islp==0.6.0
             pip install lightgbm xgboost pygam gamfit pandas scikit-learn
             python -m benchmarks.tables --out FILE    (--resume, --methods, --tables)
             python -m benchmarks.tables --report FILE
Answer       Not yet the best on every table: one repeat on fifteen tables has 0.96 of the
             best peer in the mean, 1.05 without `credit`; no rule is broken.
Last         2026-12-01, jax 0.12.0, two CPU cores. Short: one repeat of five, fifteen
             tables of 27, gamfit on seven of them. Loss over that of the best peer:

             mcycle  0.98  coal      1.08  auto      0.95  tuition      1.01
             head    1.00  faithful  0.99  carseats  1.06  graduation   0.98
             cake    0.99  trees     1.64  credit    0.29  publication  1.01
             diabetes 1.01 hitters   1.09  hepatitis 1.02
"""

import argparse
import json
import os
import time
import warnings
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures import TimeoutError as Late
from concurrent.futures.process import BrokenProcessPool
from functools import lru_cache
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from threading import Event, Lock, local
from typing import Any, NamedTuple

import jax
import numpy as np

from benchmarks import _tables_peers as peers
from benchmarks._tables_data import TABLES, TableTask, loss

OURS = ("ours", "unconstrained")
METHODS = (*OURS, *peers.PEERS)
POINTS, ROUNDINGS = 100_000, 16
HARD = 5  # times the limit of a search, after which a method is ended
VIOLATIONS = ("violation", "roundings")
CLOSE = 1.01  # ratio up to which a loss is as good as another
THREADS = ("OMP", "OPENBLAS", "MKL", "RAYON")

Row = dict[str, Any]
Key = tuple[str, int, int, str]
Predict = Callable[[Any], Any]


class Options(NamedTuple):
    """Choices of a run.

    Attributes:
        data: folder of the wheels.
        candidates: most settings of a peer that are tried.
        limit: seconds after which a peer's search tries no further candidate.
        points: random points to search for violations on, for each rule.
    """

    data: Path
    candidates: int = peers.CANDIDATES
    limit: float = peers.LIMIT
    points: int = POINTS


# One fit and its judgement.


@lru_cache(maxsize=2)
def load(name: str, folder: Path) -> TableTask:
    return TABLES[name](folder)


def halves(task: TableTask, repeat: int, half: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the rows to train on, and those to judge on."""
    from sklearn.model_selection import RepeatedKFold, RepeatedStratifiedKFold

    folds = RepeatedStratifiedKFold if task.kind == "binary" else RepeatedKFold
    split = folds(n_splits=2, n_repeats=repeat + 1, random_state=0)
    return list(split.split(task.X, task.y))[2 * repeat + half]


def network(task: TableTask, X: Any, y: np.ndarray, seed: int, ruled: bool) -> Predict:
    """Fits jaxcon's estimator with nothing tuned; returns its predictions' function."""
    from jaxcon.estimators import ShapeConstrainedClassifier, ShapeConstrainedRegressor

    jax.clear_caches()  # so that every fit compiles
    signs = task.monotone if ruled else {}
    if task.kind == "binary":
        model = ShapeConstrainedClassifier(
            monotone_constraints=dict(signs), random_state=seed
        ).fit(X, y.astype(int))
        return lambda inputs: model.predict_proba(inputs)[:, 1]
    model = ShapeConstrainedRegressor(
        loss="poisson" if task.kind == "poisson" else "squared_error",
        monotone_constraints=dict(signs),
        convex=list(task.convex) if ruled else [],
        concave=list(task.concave) if ruled else [],
        bounds=task.bounds if ruled else None,
        random_state=seed,
    ).fit(X, y)
    return model.predict


def cell(name: str, repeat: int, half: int, method: str, options: Options) -> Row:
    """Fits a method to half of a table and judges it on the other half.

    Args:
        name: of the table.
        repeat: of the cross-validation.
        half: 0 or 1.
        method: of `METHODS`.
        options: of the run.

    Returns:
        Results.
    """
    warnings.simplefilter("ignore")
    task = load(name, options.data)
    if method == "isotonic" and (len(task.X.columns), len(task.monotone)) != (1, 1):
        return {"absent": "not one input with a monotone rule"}
    train, test = halves(task, repeat, half)
    X, y, seed = task.X.iloc[train], task.y[train], 2 * repeat + half
    row: Row = {"kind": task.kind, "shape": task.X.shape}
    begun = time.perf_counter()
    if method in OURS:
        predict = network(task, X, y, seed, method == "ours")
        row["fit_seconds"] = time.perf_counter() - begun
        values = np.asarray(predict(task.X.iloc[test]), float).reshape(-1)
        row["seconds"] = time.perf_counter() - begun
        if method == "ours":
            largest, roundings = search(task, predict, X, y, options.points, seed)
            row |= {"violation": largest, "roundings": roundings}
    else:
        rest = (seed, options.candidates, options.limit)
        found = peers.predict(method, task, X, y, task.X.iloc[test], *rest)
        values, row["seconds"] = found.values, time.perf_counter() - begun
        row |= {"fit_seconds": found.fit_seconds, "tried": found.tried}
        row["settings"] = found.settings
    return row | {"loss": loss(task.kind, task.y[test], values)}


# Violations.


def scattered(X: Any, points: int, rng: np.random.Generator) -> Any:
    """Draws points from the box of a table.

    Args:
        X: DataFrame.
        points: n.
        rng: random generator.

    Returns:
        A DataFrame: numbers are uniform between the least and the largest, and missing
        as often as in X; categories are drawn from those in X.
    """
    import pandas as pd  # pyright: ignore[reportMissingImports]

    drawn = X.iloc[rng.integers(len(X), size=points)].reset_index(drop=True)
    for name in X:
        seen = X[name].dropna()
        if X[name].dtype.name == "category":
            levels = rng.choice(seen.unique().tolist(), points)
            drawn[name] = pd.Categorical(levels, dtype=X[name].dtype)
        elif len(seen):
            values = rounded(rng.uniform(seen.min(), seen.max(), points))
            gaps = rng.uniform(size=points) < X[name].isna().mean()
            drawn[name] = np.where(gaps, np.nan, values)
    return drawn


def rounded(values: np.ndarray) -> np.ndarray:
    """Rounds to float32, so that an estimator in float32 sees the very points."""
    return np.float32(values).astype(float)


def intervals(
    column: Any, points: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draws intervals of a column's range, of lengths from 1e-4 of it to all of it."""
    low, high = float(column.min()), float(column.max())
    length = (high - low) * 10.0 ** rng.uniform(-4, 0, points)
    begin = low + (high - low - length) * rng.uniform(size=points)
    return rounded(begin), rounded(begin + length)


def search(
    task: TableTask, predict: Predict, X: Any, y: np.ndarray, points: int, seed: int
) -> tuple[float, float]:
    """Searches for violations of a table's rules.

    Args:
        task: with the rules.
        predict: (X) -> means or probabilities.
        X: training inputs, whose box is searched.
        y: training targets.
        points: for each rule.
        seed: of the points.

    Returns:
        The largest violation in standard deviations of the target, and in roundings.
    """
    rng = np.random.default_rng(seed)
    base, found, sizes = scattered(X, points, rng), [0.0], [0.0]

    def at(name: str, values: np.ndarray) -> np.ndarray:
        predicted = np.asarray(predict(base.assign(**{name: values})), float)
        sizes.append(float(np.abs(predicted).max()))
        return predicted.reshape(-1)

    for name, sign in task.monotone.items():
        low, high = intervals(X[name], points, rng)
        found.append(float(np.max(sign * (at(name, low) - at(name, high)))))
    for name in task.convex + task.concave:
        low, high = intervals(X[name], points, rng)
        middle = rounded(low + (high - low) * rng.uniform(size=points))
        share = (middle - low) / np.maximum(high - low, 1e-30)
        chord = (1.0 - share) * at(name, low) + share * at(name, high)
        above = at(name, middle) - chord
        found.append(float(np.max(above if name in task.convex else -above)))
    if task.bounds is not None:
        name = X.columns[0]
        values = at(name, base[name])
        found.append(float(np.max(np.abs(values - np.clip(values, *task.bounds)))))
    largest = max(found)
    rounding = float(np.finfo(np.float32).eps) * max(sizes)
    return largest / float(np.std(y)), largest / rounding if largest else 0.0


# All fits, in processes that can be ended.


class Worker:
    """Process that runs cells, and is replaced where it dies or takes too long."""

    def __init__(self) -> None:
        self._pool: ProcessPoolExecutor | None = None

    def run(self, seconds: float, *arguments: Any) -> Row:
        """Runs a cell for so long; its row has "failed" where there is no result."""
        if self._pool is None:
            self._pool = ProcessPoolExecutor(1, get_context("spawn"))
        try:
            return self._pool.submit(cell, *arguments).result(seconds)
        except BrokenProcessPool:
            self.close()
            return {"failed": "the process died"}
        except Late as error:  # of this call, or of a fit, which says so
            self.close()
            reason = str(error) or f"not done after {seconds:.0f} s"
            return {"failed": reason, "late": True}
        except Exception as error:
            reason = str(error).splitlines()[:1] or [""]
            return {"failed": f"{type(error).__name__}: {reason[0][:150]}"}

    def close(self) -> None:
        """Ends the process."""
        if self._pool is not None:
            for process in list((self._pool._processes or {}).values()):
                process.kill()
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None


class Run:
    """Cells that are run in several processes, each row written as it comes.

    Attributes:
        options: of the run.
        stopped: whether rows are no longer written.
    """

    def __init__(self, path: Path, options: Options, done: set[Key]) -> None:
        self.options, self.stopped = options, Event()
        self._path, self._done = path, done
        self._lock, self._local, self._workers = Lock(), local(), []

    def group(self, name: str, method: str, repeats: int) -> None:
        """Runs a method on all halves of a table, until one takes too long."""
        if not hasattr(self._local, "worker"):
            self._local.worker = Worker()
            self._workers.append(self._local.worker)
        late = False
        for key in [(name, n // 2, n % 2, method) for n in range(2 * repeats)]:
            if key in self._done or self.stopped.is_set():
                continue
            row: Row = {"failed": "not tried: an earlier half was not done in time"}
            if not late:
                seconds = HARD * self.options.limit
                row = self._local.worker.run(seconds, *key, self.options)
            late = late or "late" in row
            if not self.stopped.is_set():
                self.write(key, row)
            if "absent" in row:
                return

    def write(self, key: Key, row: Row) -> None:
        """Appends a row to the file and prints it."""
        row = dict(zip(("table", "repeat", "half", "method"), key)) | row
        name, repeat, half, method = key
        said = row.get("failed") or row.get("absent")
        if said is None:
            said = f"{row['loss']:10.5g} {row['seconds']:7.1f} s"
        with self._lock:
            with self._path.open("a") as file:
                file.write(json.dumps(row) + "\n")
            print(f"{name:12s} {repeat} {half} {method:14s} {said}", flush=True)

    def all(self, pairs: Iterable[tuple[str, str]], repeats: int, count: int) -> None:
        """Runs all groups; ends all processes where it is interrupted."""
        pool = ThreadPoolExecutor(count)
        try:
            jobs: list[Future[None]] = [
                pool.submit(self.group, *pair, repeats) for pair in pairs
            ]
            for job in jobs:
                job.result()
        finally:
            self.stopped.set()
            pool.shutdown(wait=False, cancel_futures=True)
            for worker in self._workers:
                worker.close()


# The report.


def read(path: Path) -> dict[Key, Row]:
    """Reads rows, the last one of each cell."""
    rows: dict[Key, Row] = {}
    for line in path.read_text().splitlines():
        row = json.loads(line)
        rows[row["table"], row["repeat"], row["half"], row["method"]] = row
    return rows


class Table:
    """Rows of one table.

    Attributes:
        name: of the table.
        methods: method -> its rows.
        count: of halves.
        means: method -> mean loss, of methods that are done with all halves.
        best: smallest mean of a peer; None without one.
    """

    def __init__(self, name: str, rows: dict[Key, Row]) -> None:
        mine = {key: row for key, row in rows.items() if key[0] == name}
        self.name, self.count = name, len({key[1:3] for key in mine})
        self.methods: dict[str, list[Row]] = {}
        for key, row in mine.items():
            self.methods.setdefault(key[3], []).append(row)
        self.means: dict[str, float] = {}
        for method, found in self.methods.items():
            losses = [row["loss"] for row in found if "loss" in row]
            if len(losses) == self.count:
                self.means[method] = float(np.mean(losses))
        able = [m for m, p in peers.PEERS.items() if p.counted and m in self.means]
        self.best = min((self.means[m] for m in able), default=None)

    def ratio(self, method: str, other: str = "") -> float | None:
        """Returns a method's mean loss over another's, or over the best peer's."""
        below = self.means.get(other) if other else self.best
        return self.means[method] / below if method in self.means and below else None

    def said(self, method: str) -> str:
        """Puts a method's result in a word."""
        found = self.methods.get(method, [])
        if method in self.means:
            bold = "**" if self.means[method] == self.best else ""
            return f"{bold}{self.means[method]:.4g}{bold}"
        failed = sum("failed" in row for row in found)
        if failed:
            return f"{failed} failed"
        return "…" if any("loss" in row for row in found) else "–"

    def line(self, methods: Iterable[str]) -> str:
        """Sets a line of the Markdown table."""
        every = [row for found in self.methods.values() for row in found]
        done = next((row for row in every if "shape" in row), {"shape": "??"})
        ratio, found = self.ratio("ours"), self.methods.get("ours", [])
        worst = [max((r.get(w, 0.0) for r in found), default=0.0) for w in VIOLATIONS]
        cells = [self.name, " × ".join(map(str, done["shape"])), done.get("kind", "?")]
        cells += map(self.said, methods)
        cells += ["–" if ratio is None else f"{ratio:.3f}"]
        cells += [f"{worst[0]:.1e} ({worst[1]:.1f})" if found else "–"]
        return f"| {' | '.join(cells)} |"


def compare(tables: list[Table], other: str = "") -> str:
    """Compares `ours` with another method, or with the best peer."""
    ratios = {t.name: r for t in tables if (r := t.ratio("ours", other)) is not None}
    if not ratios:
        return f"ours / {other or 'best peer'}: no table has both"
    values, worst = list(ratios.values()), max(ratios, key=lambda name: ratios[name])
    lower, close = (np.mean(np.array(values) <= most) for most in (1.0, CLOSE))
    return (
        f"ours / {other or 'best peer'} on {len(values)} of {len(tables)} tables: mean "
        f"{np.exp(np.mean(np.log(values))):.4f} (geometric), at most {CLOSE} on "
        f"{close:.0%}, at most 1 on {lower:.0%}, largest {ratios[worst]:.3f} ({worst})"
    )


def report(path: Path) -> None:
    """Prints the Markdown table and the summary."""
    rows = read(path)
    tables = [Table(name, rows) for name in TABLES if any(k[0] == name for k in rows)]
    methods = [m for m in (*peers.PEERS, *OURS) if any(k[3] == m for k in rows)]
    heads = ["table", "rows × inputs", "kind", *methods, "ours / best"]
    heads += ["violation in sd (roundings)"]
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    print(*(table.line(methods) for table in tables), sep="\n")
    print()
    print(compare(tables))
    print(*(compare(tables, m) for m in methods if m != "ours"), sep="\n")
    found = [row["roundings"] for row in rows.values() if "roundings" in row]
    bad = sum(roundings > ROUNDINGS for roundings in found)
    print(f"{bad} of {len(found)} fits violate a rule by over {ROUNDINGS} roundings")
    for method in methods:
        done = [r["seconds"] for k, r in rows.items() if k[3] == method and "loss" in r]
        if done:
            print(f"{method}: median {np.median(done):.1f} s, most {max(done):.1f} s")
    for (name, repeat, half, method), row in rows.items():
        if "failed" in row:
            print(f"failed: {method} on {name} {repeat} {half}: {row['failed']}")


def main() -> None:
    """Runs what is asked for, or reports it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tables")
    parser.add_argument("--out", type=Path, help="file of rows, one JSON object a line")
    parser.add_argument("--resume", action="store_true", help="leave out what it has")
    parser.add_argument("--report", type=Path, help="file of rows to report")
    parser.add_argument("--data", type=Path, default=Path(__file__).parent / "data")
    parser.add_argument("--tables", default=",".join(TABLES))
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--candidates", type=int, default=peers.CANDIDATES)
    parser.add_argument("--limit", type=float, default=peers.LIMIT, help="of a search")
    parser.add_argument("--points", type=int, default=POINTS, help="for each rule")
    parser.add_argument("--processes", type=int, default=1)
    given = parser.parse_args()
    if given.report:
        return report(given.report)
    names, methods = given.tables.split(","), given.methods.split(",")
    unknown = {*names} - {*TABLES} | {*methods} - {*METHODS}
    if unknown or not given.out:
        parser.error(f"unknown: {', '.join(unknown)}" if unknown else "--out is needed")
    if given.out.exists() and not given.resume:
        parser.error(f"{given.out} is there: --resume goes on with it")
    for method in [m for m in methods if m in peers.PEERS]:
        if find_spec(peers.PEERS[method].needs) is None:
            print(f"{method} is left out: {peers.PEERS[method].needs} is not installed")
            methods.remove(method)
    os.environ |= dict.fromkeys([f"{name}_NUM_THREADS" for name in THREADS], "1")
    flags = os.environ.get("XLA_FLAGS", "")
    os.environ["XLA_FLAGS"] = f"{flags} --xla_cpu_multi_thread_eigen=false".strip()
    options = Options(given.data, given.candidates, given.limit, given.points)
    done = set(read(given.out)) if given.out.exists() else set()
    pairs = [(name, method) for name in names for method in methods]
    Run(given.out, options, done).all(pairs, given.repeats, given.processes)


if __name__ == "__main__":
    main()
