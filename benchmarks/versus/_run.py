"""Runs of lanes, tuned on one seed and scored on others, and what is recorded."""

import math
import time
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np

from benchmarks.problems.networks import ALL
from benchmarks.versus._hand_lanes import HAND_ALM
from benchmarks.versus._lane import EVERY, Iterate, Lane
from benchmarks.versus._lanes import LANES
from benchmarks.versus._lines import count

FEASIBLE = 1e-3
VALIDATION = 100  # the seed that settings are chosen on
RATIO = "ratio to JAX by hand"
TURNS, LONG = 5, 100  # of timing: turns of two lanes, steps in each

Row = dict[str, Any]


def scored(lane: str, problem: str, setting: Any, seed: int, steps: int) -> Row:
    """Trains once and judges the iterates on the dense grid.

    Args:
        lane: its name.
        problem: its name.
        setting: of the lane's grid.
        seed: of the problem's arrays.
        steps: of training.

    Returns:
        The last violation and accuracy; steps and seconds after which the run was, and
        stayed, feasible, None if it did not; steps and seconds in all.
    """
    definition = ALL[problem]
    arrays = definition.arrays(seed)
    spent, kept = 0.0, None
    iterates = LANES[lane].train(problem, arrays, setting, steps, EVERY)
    violation, last = math.inf, None
    for iterate, seconds in _timed(iterates):
        spent = seconds if iterate.seconds is None else iterate.seconds
        last = iterate
        violation = definition.violation(arrays, iterate.params)
        if violation > FEASIBLE:
            kept = None
        elif kept is None:
            kept = iterate.step, spent
    if last is None:
        raise RuntimeError("no iterate")
    return {
        "violation": violation,
        "accuracy": definition.accuracy(arrays, last.params),
        "stays from step": kept and kept[0],
        "stays from second": kept and kept[1],
        "steps": last.step,
        "seconds": spent,
        "pace": last.pace,
    }


def _timed(iterates: Iterator[Iterate]) -> Iterator[tuple[Iterate, float]]:
    """Adds the seconds that were spent inside the iterator."""
    spent = 0.0
    while True:
        begun = time.perf_counter()
        iterate = next(iterates, None)
        spent += time.perf_counter() - begun
        if iterate is None:
            return
        yield iterate, spent


def merit(row: Row) -> tuple[float, float]:
    """Orders rows: feasible ones by accuracy, then the others by violation."""
    if row["violation"] <= FEASIBLE:
        return 0.0, row["accuracy"]
    return 1.0, row["violation"]


def tuned(lane: str, problem: str, steps: int) -> tuple[dict[str, float], float]:
    """Chooses a setting on the validation seed.

    Args:
        lane: its name.
        problem: its name.
        steps: of training.

    Returns:
        The setting of best `merit`, and the seconds that the search took.
    """
    settings, begun = LANES[lane].settings, time.perf_counter()
    if len(settings) == 1:
        return settings[0], 0.0
    tried = []
    for setting in settings:
        row = scored(lane, problem, setting, VALIDATION, steps)
        if not all(map(math.isfinite, merit(row))):
            row["violation"] = math.inf
        tried.append((merit(row), setting))
    best = min(tried, key=lambda pair: pair[0])[1]
    return best, time.perf_counter() - begun


def timed(lane: str, problem: str, setting: Any, row: Row) -> Row:
    """Times a step beside the hand-written augmented Lagrangian in JAX.

    Both lanes advance in turns. A lane whose iterates come all at once has the pace of its
    own run, or none where its steps are no steps of descent.

    Args:
        lane: its name.
        problem: its name.
        setting: of the lane's grid.
        row: of a run of `scored`.

    Returns:
        Milliseconds a step of both, and their ratio; None where there is none.
    """
    arrays = ALL[problem].arrays(VALIDATION)
    other, ours = _laps(HAND_ALM, problem, arrays, HAND_ALM.settings[0]), []
    hand = [next(other) for _ in range(2)][1:]
    if LANES[lane].iterative:
        own = _laps(LANES[lane], problem, arrays, setting)
        next(own)
        for _ in range(TURNS):
            hand.append(next(other))
            ours.append(next(own))
    elif row["pace"] is not None:
        hand += [next(other) for _ in range(TURNS)]
        ours.append(row["pace"])
    else:
        return {"ms a step": None, "ms a step by hand": None, RATIO: None}
    mine, theirs = float(np.median(ours)), float(np.median(hand))
    return {
        "ms a step": 1e3 * mine,
        "ms a step by hand": 1e3 * theirs,
        RATIO: mine / theirs,
    }


def _laps(lane: Lane, problem: str, arrays: Any, setting: Any) -> Iterator[float]:
    steps = LONG * (TURNS + 4)
    iterates = lane.train(problem, arrays, setting, steps, LONG)
    before = 0.0
    for _, spent in _timed(iterates):
        yield (spent - before) / LONG
        before = spent


@lru_cache
def lines(lane: str, problem: str) -> int:
    """Counts the statements a user writes."""
    return count(LANES[lane].user(problem))


def cell(
    lane: str, problem: str, setting: Any, seeds: tuple[int, ...], steps: int
) -> list[Row]:
    """Tunes, scores and times one lane on one problem.

    Args:
        lane: its name.
        problem: its name.
        setting: one that is known, or None to tune.
        seeds: to score on.
        steps: of training.

    Returns:
        One row for each seed.
    """
    search = 0.0
    if setting is None:
        setting, search = tuned(lane, problem, steps)
    rows = [scored(lane, problem, setting, seed, steps) for seed in seeds]
    shared = timed(lane, problem, setting, rows[-1]) | {
        "lane": lane,
        "problem": problem,
        "setting": setting,
        "seconds of tuning": search,
        "lines": lines(lane, problem),
    }
    return [shared | {"seed": seed} | row for seed, row in zip(seeds, rows)]
