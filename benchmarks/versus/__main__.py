"""Does jaxcon's default, with nothing tuned, beat tuned peers on their own ground?

Question     How soon, how exactly and in how many lines do jaxcon's default, Cooper,
             humancompatible-train, torch and JAX by hand, DeepXDE, jinns, SciPy and
             slsqp-jax solve the network problems, and what does a step cost?
Answer       On seeds that no setting was chosen on, the default is feasible on every one on
             11 of 13 problems, the tuned augmented Lagrangian by hand in JAX on 10. It is
             as accurate to 5 % or more accurate on 12, and rarely sooner: compiling
             Newton's step is most of its time.
Conditions   All start at the same weights and take 3,000 steps of Adam at 1e-2, decaying
             by a cosine to 0, where they use it. Each peer's penalty, rate or gain is
             chosen from a grid of five or six on a seed of its own: feasible to 1e-3 on the
             dense grid first, then accuracy. Scored on five other seeds, every 50 steps.
             float32; SciPy and slsqp-jax in float64; torch on one thread. Seconds include
             compilation.
Run          python -m benchmarks.versus --quick   (within five minutes: four problems, one
             seed, half the steps, the settings of tuned.json), python -m benchmarks.versus
             (hours; --lanes and --problems for a part, whose rows replace the earlier ones)
             with the peers of pyproject's group: pip install --group versus. A lane whose
             peer is missing says so. jinns does not import under CPython 3.12.0 and .1.
Last         2026-11-30, jax 0.12.0, two CPU cores; the default and the augmented Lagrangian
             by hand alone, seeds 200 to 202. Worst violation on the dense grid, median
             error, on how many seeds it stays feasible. (Settings of the default were
             chosen while the seeds 0 to 3 were looked at, and 50 of Neyman-Pearson.)

                                     the default              by hand, tuned
             monotone 1-D            1.8e-03    0.095  2/3    2.2e-04    0.090  3/3
             monotone 2-D            0          0.032  3/3    0          0.031  3/3
             call surface            0         0.0026  3/3    0         0.0018  3/3
             Poisson 1-D             9.7e-07  8.7e-06  3/3    1.3e-06  1.0e-05  3/3
             Poisson 2-D             9.4e-06  6.8e-06  3/3    7.4e-04  2.5e-04  3/3
             y = 2x in the mean      3.3e-06  9.5e-04  3/3    1.7e-05  4.8e-03  3/3
             y = 2x pointwise        1.7e-05  1.3e-06  3/3    1.1e-02  1.6e-03  0/3
             sum to one              2.0e-04    0.035  3/3    3.2e-03     0.12  1/3
             lambda, a number        5.1e-06  1.7e-06  3/3    1.6e-07  1.5e-08  3/3
             Neyman-Pearson          1.0e-03     0.50  2/3    1.6e-09     0.52  3/3
             fairness, minibatches   0           0.50  3/3    0           0.50  3/3
             CMDP                    0        1.2e-07  3/3    9.4e-03    0.011  1/3
             Lipschitz classifier    0           0.23  3/3    0           0.22  3/3

             Seconds to stay feasible, with compilation once, medians of the seeds 0 to 2:
             below those by hand on the Lipschitz classifier, about equal on Poisson 1-D,
             above on eight; on y = 2x pointwise, sum to one and CMDP the other one stays
             feasible on no seed or one. Cooper's augmented Lagrangian, tuned, ends as that
             by hand does on the six problems where it was run on those seeds; its steps
             take 18 to 195 times as long.

Conclusion   The default loses the call surface (1.4 times the error), and time. Points of
             training do not hold a slope between them (monotone 1-D), and an end at a rate
             that counts 2,000 examples is off by an example or two (Neyman-Pearson;
             fairness, up to 2.5e-3 on 5 of 19 further seeds).
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

from benchmarks.problems.networks import ALL
from benchmarks.versus._lane import STEPS
from benchmarks.versus._lanes import LANES
from benchmarks.versus._report import figure, table
from benchmarks.versus._worker import Worker

TUNED = Path(__file__).with_name("tuned.json")
QUICK = ("monotone 1-D", "Poisson 1-D", "CMDP", "linear regulator")
FIRST = 200  # of the seeds scored on: settings were chosen looking at smaller ones
BUDGET = 285.0  # seconds of a quick run


def chosen(known: dict[str, Any], lane: str, problem: str, retune: bool) -> Any:
    """Looks up a tuned setting; None to tune."""
    if len(LANES[lane].settings) == 1:
        return {}
    return None if retune else known.get(lane, {}).get(problem)


def main() -> None:
    """Runs the cells asked for, and writes rows, table and figure after each."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.versus")
    parser.add_argument("--quick", action="store_true", help="within five minutes")
    parser.add_argument("--retune", action="store_true", help="ignore tuned.json")
    parser.add_argument("--problems", nargs="*", choices=list(ALL))
    parser.add_argument("--lanes", nargs="*", help="parts of the lanes' names")
    parser.add_argument("--seeds", type=int, help="how many to score on")
    parser.add_argument("--steps", type=int, help=f"{STEPS:,}, half of it if quick")
    parser.add_argument("--limit", type=float, default=3600.0, help="seconds a cell")
    parser.add_argument("--out", type=Path, default=Path("jaxcon-runs/versus"))
    given = parser.parse_args()
    begun = time.monotonic()
    problems = given.problems or (QUICK if given.quick else list(ALL))
    lanes = [
        lane
        for lane in LANES
        if not given.lanes or any(part in lane for part in given.lanes)
    ]
    count = given.seeds or (1 if given.quick else 5)
    seeds = tuple(range(FIRST, FIRST + count))
    steps = given.steps or (STEPS // 2 if given.quick else STEPS)
    known = json.loads(TUNED.read_text()) if TUNED.exists() else {}
    given.out.mkdir(parents=True, exist_ok=True)
    rows = _kept(given.out / "rows.jsonl", problems, lanes)
    worker = Worker()
    for problem in problems:
        for lane in lanes:
            only = LANES[lane].problems
            if only is not None and problem not in only:
                continue
            setting = chosen(known, lane, problem, given.retune)
            limit = given.limit
            if given.quick:
                limit = BUDGET - (time.monotonic() - begun)
                if setting is None:
                    setting = LANES[lane].settings[len(LANES[lane].settings) // 2]
            found = _found(worker, lane, problem, limit, setting, seeds, steps)
            rows += found
            with (given.out / "rows.jsonl").open("w") as file:
                file.writelines(json.dumps(row) + "\n" for row in rows)
            (given.out / "table.md").write_text(table(rows))
            print(_said(found), flush=True)
            if not given.quick and "setting" in found[0] and found[0]["setting"]:
                known.setdefault(lane, {})[problem] = found[0]["setting"]
                TUNED.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")
    worker.close()
    try:
        figure(rows, given.out / "figure.png")
    except ImportError:
        print("matplotlib is not installed: no figure")
    print(f"{given.out}/table.md after {time.monotonic() - begun:.0f} s")


def _kept(path: Path, problems: Any, lanes: Any) -> list[dict[str, Any]]:
    """Reads the rows of earlier runs, but those that are run again."""
    if not path.exists():
        return []
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    again = [row["lane"] in lanes and row["problem"] in problems for row in rows]
    return [row for row, repeated in zip(rows, again) if not repeated]


def _found(worker: Worker, lane: str, problem: str, limit: float, *rest: Any) -> Any:
    if limit <= 1:
        late = "no time was left within five minutes"
        return [{"lane": lane, "problem": problem, "failed": late}]
    return worker.run(lane, problem, limit, *rest)


def _said(rows: list[dict[str, Any]]) -> str:
    row = rows[0]
    start = f"{row['problem']:22s} {row['lane']:36s}"
    if "failed" in row:
        return f"{start} failed: {row['failed']}"
    return (
        f"{start} violation {row['violation']:.1e} accuracy {row['accuracy']:.3g} "
        f"stays from step {row['stays from step']}"
    )


if __name__ == "__main__":
    main()
