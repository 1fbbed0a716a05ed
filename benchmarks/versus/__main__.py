"""Does jaxcon's default, with nothing tuned, beat tuned peers on their own ground?

Question     How soon, how exactly and in how many lines do jaxcon's default, Cooper,
             humancompatible-train, torch and JAX by hand, DeepXDE, jinns, SciPy and
             slsqp-jax solve the network problems, and what does a step cost?
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
