"""Do ensembles find functions that are known, and do their intervals hold their share?

Question     On simulated tables whose truth is a closed form: how far is a fit under shape
             rules from the truth, on a plateau too, beside plain models? How many new
             targets lie in 90 % intervals, and do their ends obey the rules? How long
             does a fit take, up to a million rows?
Conditions   `jaxcon.examples.dose_response` (200 rows, rising) and `house_prices` (550
             rows, nine inputs, six monotone), five seeds each; a fifth of the houses is
             held out. Peers: a straight line, and scikit-learn's HistGradientBoosting with
             the same monotone rules and with its own settings. Coverage: each replicate
             has new data, 235 rows like Engel's (spread grows with income; rising and
             concave) or 200 doses, and 4,000 new targets. Speed: Friedman's function in
             ten inputs, three rules. Nothing is tuned.
Run          python -m benchmarks.known_tables            (plateau, houses)
             python -m benchmarks.known_tables --coverage 200
             python -m benchmarks.known_tables --speed 235 10000 100000 1000000
Answer       As near as the best plain model: houses at 0.998 of a straight line, 0.956 of
             boosted trees. A plateau within 0.72 %: aim 0.5, short. 10^6 rows in 209 s.
Last         2026-12-01, jax 0.12.0, two CPU cores.

             dose response  worst error on the plateau of five seeds 0.72 %, four of five
                            below 0.6 %; mean RMSE to the truth 0.0050 (noise 0.02)
             houses         ensemble 26.97, line 27.01, trees 28.22, the truth 25.67
             coverage       200 replicates each: Engel-like 90.8 % (standard error 0.1 %),
                            doses 89.6 % (0.2 %); no end of an interval breaks a rule
             235 rows       15.1 s with compilation, 5.9 s without, 0.6 GiB
             10,000 rows    31.6 s with compilation, 27.7 s without, 0.7 GiB
             100,000 rows   28.3 s with compilation, 0.7 GiB
             1,000,000 rows 208.9 s with compilation, 1.0 GiB
"""

import argparse
import resource
import time
from collections.abc import Callable

import numpy as np
from jax import clear_caches

from jaxcon.ensembles import (
    EnsembleFit,
    Frame,
    Loss,
    Options,
    ShapeRules,
    fit_ensemble,
    read_frame,
)
from jaxcon.ensembles._baselines import boosted_trees, linear_model
from jaxcon.ensembles._columns import encode
from jaxcon.examples import TableExample, dose_response, house_prices

SEEDS = range(5)
DOSES = np.array([8.7, 18.2, 21.9])  # where the truth is .987, .997, .998
LEVEL, NEW = 0.9, 4000

Draw = Callable[[np.random.Generator, int], tuple[np.ndarray, np.ndarray]]


def rules_of(example: TableExample) -> ShapeRules:
    """Returns an example's monotone and concave rules."""
    rules = example.rules
    signs = dict.fromkeys(rules.increasing, 1) | dict.fromkeys(rules.decreasing, -1)
    return ShapeRules(monotone=signs, concave=tuple((one,) for one in rules.concave))


def fitted(
    x: np.ndarray, y: np.ndarray, names: tuple[str, ...], rules: ShapeRules, seed: int
) -> EnsembleFit:
    """Fits an ensemble by its own settings."""
    frame, loss = read_frame(x, names), Loss("squared_error")
    return fit_ensemble(frame, y, loss, rules, options=Options(seed=seed))


def rmse(apart: np.ndarray) -> float:
    """Returns the root of the mean square."""
    return float(np.sqrt(np.mean(np.square(apart))))


def plateau() -> None:
    """Prints relative errors of the dose response at three doses on its plateau."""
    print("dose response: relative error on the plateau, RMSE to the truth")
    errors, apart = [], []
    for seed in SEEDS:
        example = dose_response(seed=seed)
        assert example.truth is not None
        x, y = example.table.values[:, :1], example.table.column("effect")
        fit = fitted(x, y, ("dose",), rules=rules_of(example), seed=seed)
        at = fit.ensemble.predict(read_frame(DOSES[:, None], ["dose"]))[:, 0]
        errors.append(at / example.truth(DOSES[:, None]) - 1)
        even = np.linspace(0.05, 21.9, 1000)[:, None]
        found = fit.ensemble.predict(read_frame(even, ["dose"]))[:, 0]
        apart.append(rmse(found - example.truth(even)))
        print(f"  seed {seed}: {np.round(100 * errors[-1], 2)} %, {apart[-1]:.4f}")
    worst = 100 * np.abs(errors).max()
    print(f"  worst {worst:.2f} %, mean RMSE {np.mean(apart):.4f} (noise 0.02)")


def houses() -> None:
    """Prints held-out errors of house prices beside plain models and the noise."""
    names = ("ensemble", "straight line", "boosted trees", "the truth itself")
    print("house prices: held-out RMSE of", ", ".join(names))
    rows = []
    for seed in SEEDS:
        example = house_prices(seed=seed)
        assert example.truth is not None
        x, y = example.table.values[:, :-1], example.table.column("price")
        inputs, rules = example.table.names[:-1], rules_of(example)
        train, test = slice(110, None), slice(0, 110)
        fit = fitted(x[train], y[train], inputs, rules=rules, seed=seed)
        columns = fit.ensemble.columns
        v = encode(columns, read_frame(x, inputs))
        given = (v[train], y[train], np.ones(len(y[train])))
        line = linear_model(columns, fit.ensemble.loss, *given)
        trees = boosted_trees(columns, fit.ensemble.loss, rules, *given)
        assert trees is not None
        found = [fit.ensemble.predict_encoded, line, trees]
        errors = [rmse(model(v[test])[:, 0] - y[test]) for model in found]
        rows.append([*errors, rmse(example.truth(x[test]) - y[test])])
        print(f"  seed {seed}:", *(f"{one:.2f}" for one in rows[-1]))
    mean = np.mean(rows, 0)
    print("  mean:  ", *(f"{one:.2f}" for one in mean))
    print(f"  ensemble over the best plain model {mean[0] / min(mean[1:3]):.3f}")


def like_engel(rng: np.random.Generator, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Draws incomes and expenditures whose spread grows with income."""
    x = np.clip(rng.lognormal(6.8, 0.45, rows), 350, 4000)
    return x, 80 + 0.75 * x - 5e-5 * x**2 + 0.09 * x * rng.normal(size=rows)


def like_doses(rng: np.random.Generator, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Draws doses and effects."""
    x = rng.uniform(0, 22, rows)
    return x, x**2 / (1 + x**2) + 0.02 * rng.normal(size=rows)


COVERED: dict[str, tuple[Draw, int, ShapeRules]] = {
    "Engel-like": (
        like_engel,
        235,
        ShapeRules(monotone={"x": 1}, concave=(("x",),)),
    ),
    "dose response": (like_doses, 200, ShapeRules(monotone={"x": 1})),
}


def coverage(replicates: int) -> None:
    """Prints the share of new targets in the intervals, and whether ends break rules."""
    for name, (draw, rows, rules) in COVERED.items():
        shares, broken = [], 0
        for seed in range(replicates):
            rng = np.random.default_rng(10_000 + seed)
            x, y = draw(rng, rows)
            fit = fitted(x[:, None], y, ("x",), rules=rules, seed=seed)
            new, targets = draw(rng, NEW)
            ends = fit.ensemble.predict_interval(frame(new), LEVEL)
            shares.append(np.mean((ends[:, 0] <= targets) & (targets <= ends[:, 1])))
            ends = fit.ensemble.predict_interval(
                frame(np.linspace(x.min(), x.max(), 2001)), LEVEL
            )
            room = 1e-9 * np.abs(ends).max()
            bent = bool(rules.concave) and np.diff(ends, 2, axis=0).max() > room
            broken += bool(np.diff(ends, axis=0).min() < -room) or bent
        error = np.std(shares) / np.sqrt(replicates)
        print(
            f"{name}: {100 * np.mean(shares):.1f} % of new targets in {LEVEL:.0%} "
            f"intervals (standard error {100 * error:.1f} %), {broken} of {replicates} "
            "break a rule"
        )


def frame(x: np.ndarray) -> Frame:
    """Returns one column as a frame."""
    return read_frame(x[:, None], ["x"])


def friedman(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draws Friedman's function of ten inputs with noise of deviation 1."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(size=(rows, 10))
    waves = 10 * np.sin(np.pi * x[:, 0] * x[:, 1]) + 20 * (x[:, 2] - 0.5) ** 2
    return x, waves + 10 * x[:, 3] + 5 * x[:, 4] + rng.normal(size=rows)


def speed(rows: int) -> None:
    """Prints seconds of a fit with and without compilation, its error and memory."""
    x, y = friedman(rows, seed=0)
    rules = ShapeRules(monotone={"x3": 1, "x4": 1}, convex=(("x2",),))
    names = tuple(f"x{place}" for place in range(10))
    clear_caches()
    seconds = []
    fit = None
    for _ in range(2 if rows <= 10_000 else 1):
        begun = time.perf_counter()
        fit = fitted(x, y, names, rules=rules, seed=0)
        seconds.append(time.perf_counter() - begun)
    assert fit is not None
    new, targets = friedman(NEW, seed=1)
    apart = rmse(fit.ensemble.predict(read_frame(new, names))[:, 0] - targets)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    said = " and ".join(f"{one:.1f} s" for one in seconds)
    print(
        f"{rows} rows: {said}, RMSE {apart:.3f} (noise 1), {memory:.1f} GiB", flush=True
    )


def main() -> None:
    """Runs the parts that are asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--coverage", type=int, help="replicates of each table")
    parser.add_argument("--speed", type=int, nargs="+", help="numbers of rows")
    given = parser.parse_args()
    if given.coverage:
        coverage(given.coverage)
    for rows in given.speed or ():
        speed(rows)
    if not given.coverage and not given.speed:
        plateau()
        houses()


if __name__ == "__main__":
    main()
