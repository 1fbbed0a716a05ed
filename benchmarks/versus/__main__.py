"""Does jaxcon's default, with nothing tuned, beat tuned peers on their own ground?

Question     How soon, how exactly and in how many lines do jaxcon's default, Cooper,
             humancompatible-train, torch and JAX by hand, DeepXDE, jinns, SciPy and
             slsqp-jax solve the network problems, and what does a step cost?
Answer       Beside the tuned augmented Lagrangian by hand in JAX the default is feasible on
             12 problems of 13 where that is on 9, as accurate to 5 % or more accurate on
             12, and not sooner: a second of compilation is most of its time.
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
Last         2026-11-30, jax 0.12.0, two CPU cores; three seeds, and the default and the
             augmented Lagrangian by hand in JAX alone. Worst violation on the dense grid,
             median error, median seconds, with compilation once, to stay feasible.

                                     the default                by hand, tuned
             monotone 1-D            5.6e-04    0.055  1.8 s    6.2e-04    0.062  0.8 s
             monotone 2-D            0          0.034  0.7 s    0          0.034  0.4 s
             call surface            0         0.0027  1.3 s    0         0.0021  1.0 s
             Poisson 1-D             3.6e-07  3.7e-06  0.6 s    2.5e-07  8.3e-06  0.6 s
             Poisson 2-D             1.9e-05  3.5e-06   15 s    5.9e-04  1.5e-04  2.5 s
             y = 2x in the mean      3.2e-06  4.6e-04  0.6 s    1.4e-05  5.5e-03  0.3 s
             y = 2x pointwise        1.4e-05  1.3e-06  1.0 s    8.4e-03  2.2e-03  never
             sum to one              1.3e-04    0.043  0.9 s    3.8e-03     0.16  never
             lambda, a number        5.4e-06  1.7e-06  0.2 s    1.2e-07        0  0.1 s
             Neyman-Pearson          1.6e-09     0.51  7.9 s    1.6e-09     0.51  1.4 s
             fairness, minibatches   2.5e-03     0.50  2 of 3   2.0e-03     0.50  1 of 3
             CMDP                    6.0e-08  1.2e-07  0.4 s    1.6e-02    0.017  1 of 3
             Lipschitz classifier    0           0.23  0.5 s    0           0.22  3.3 s
             lambda, a network       2.4e-05  2.0e-05  1.5 s    7.5e-05  7.2e-05  1.3 s
             maximum entropy         4.8e-07  6.0e-08  0.4 s    2.4e-02  3.4e-04  1 of 3
             linear regulator        9.5e-07  1.1e-06  2.4 s    6.2e-04  8.4e-06  0.4 s

             Cooper's augmented Lagrangian, tuned, ends as that by hand does on the six
             problems where it was run; its steps take 18 to 195 times as long.

Conclusion   The default loses the call surface (1.3 times the error, one seed of three) and
             Lipschitz (1.05 times), and time wherever compiling Newton's step costs more
             than 3,000 steps of Adam. Fairness is as exact as 10,000 minibatches of 256
             tell a rate: a standard error of about 1e-3.
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
    seeds = tuple(range(given.seeds or (1 if given.quick else 5)))
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
