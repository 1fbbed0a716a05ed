"""Plants forty-one faults in the library, one at a time: does the test suite catch them?

A fault is a small mistake that a good engineer could make: a sign, a lost clamp, an old
state in the place of the new one. Each changes what a user sees, many of them in some
cases only. For each fault the script copies the tracked files of a checkout to a
temporary folder, changes one piece of the library there and runs the test files of the
room concerned, without slow tests:

    python -m tests.planted                          # all of them; half an hour or more
    python -m tests.planted resumed-skips cap-flag   # these alone
    python -m tests.planted --tree ../other          # another checkout's library and tests

A row is printed for each fault as it ends, and their number last. "Caught by" is the
first test that fails, or "hangs" after ten minutes. MISSED says that every test passes:
nobody would notice that mistake in these files. An ERROR says that the fault could not be
tried, because the library's text has changed, its tests are gone, or the tests do not
run; then the exit code is 1. Missed faults leave it at 0.

The faults were chosen from the library's text alone, before any was run. They are there
to compare two test suites: whoever changes the suite runs both, and the new one must catch
at least as many. So do not drop a fault because it is missed. Where the library changes,
plant the same mistake in the new text.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent.parent
LIMIT = 600  # seconds for the tests of one fault
FOREIGN = 70  # exit code where the tests would import another copy of the library

# Runs pytest in the copy, once it is sure that the copy's library is imported.
RUN = f"""
import importlib.util, pathlib, sys
import pytest
origin = pathlib.Path(importlib.util.find_spec("jaxcon").origin).resolve()
if not origin.is_relative_to(pathlib.Path.cwd().resolve()):
    print(f"jaxcon would be imported from {{origin}}")
    sys.exit({FOREIGN})
sys.exit(pytest.main(sys.argv[1:]))
"""
OPTIONS = ("-x", "-q", "-p", "no:cacheprovider", "-n", "0")


class Fault(NamedTuple):
    """A mistake in the library.

    Attributes:
        name: of the fault, for the command line.
        file: of the library, from the repository's root.
        before: a piece of its text, which occurs there once.
        after: what stands there instead.
        tests: the test files that a developer of this room would run.
    """

    name: str
    file: str
    before: str
    after: str
    tests: tuple[str, ...]

    @property
    def room(self) -> str:
        """The room of the library that the file belongs to."""
        return Path(self.file).parts[1].removesuffix(".py")


DERIVATIVES = ("test_derivatives.py", "test_exactness.py", "test_interpreter.py")
PROJECTIONS = ("test_projections.py", "test_projections_sets.py")
TRAINING = ("test_training.py", "test_survival.py")

FAULTS = (
    # Where the strict rule can be differentiated, its gradient is followed as well.
    Fault(
        "proxy-gradient",
        "jaxcon/constraints/_changed.py",
        "true = jax.lax.stop_gradient(true)",
        "pass",
        ("test_constraints.py", "test_proxies.py"),
    ),
    # Of two changes of a residual, e.g. a margin and a clip, the last one alone is made.
    Fault(
        "former-change",
        "jaxcon/shapes/_pointwise.py",
        "change=lambda r: change(self.change(r))",
        "change=change",
        ("test_shapes.py", "test_constraints.py"),
    ),
    # A scan that runs backwards is differentiated as if it ran forwards.
    Fault(
        "reversed-scan",
        "jaxcon/derivatives/_interpreter.py",
        'for key in ("length", "reverse", "unroll")',
        'for key in ("length", "unroll")',
        DERIVATIVES,
    ),
    # A mixed derivative beside more than sixteen tangents becomes a pure one.
    Fault(
        "stacked-pair",
        "jaxcon/derivatives/_layouts.py",
        "left, right = pick(a, form.left), pick(b, form.right)",
        "left, right = pick(a, form.left), pick(b, form.left)",
        DERIVATIVES,
    ),
    # From the third order on, of functions that have no rule of their own.
    Fault(
        "taylor-factorial",
        "jaxcon/derivatives/_taylor.py",
        "scale = 1 / math.factorial(k)",
        "scale = 1 / max(k, 1)",
        DERIVATIVES,
    ),
    # The gradients of many tiles are added up in half precision.
    Fault(
        "tile-sums",
        "jaxcon/derivatives/_tiling.py",
        "jnp.zeros_like(p, jnp.promote_types(p.dtype, jnp.float32))",
        "jnp.zeros_like(p)",
        ("test_tiling.py",),
    ),
    # Opposite faces of a box have the same points.
    Fault(
        "opposite-faces",
        "jaxcon/points/_box.py",
        "np.random.default_rng([seed, face])",
        "np.random.default_rng([seed, i])",
        ("test_points.py",),
    ),
    # The slope is NaN where the residual is exactly zero.
    Fault(
        "barrier-at-zero",
        "jaxcon/penalties.py",
        "-jnp.log(jnp.where(inside, -g, 1.0))",
        "-jnp.log(-g)",
        ("test_penalties.py",),
    ),
    # A term of the derivative with respect to the weights is lost.
    Fault(
        "weights-slope",
        "jaxcon/projections/_box_section.py",
        "jnp.sum(weights * dz + z * dweights)",
        "jnp.sum(weights * dz)",
        PROJECTIONS,
    ),
    # The derivative with respect to the rows is NaN where a bound is infinite.
    Fault(
        "infinite-bound",
        "jaxcon/projections/_polyhedron.py",
        "return jnp.where(finite, jnp.where(finite, bound, 0.0) / scale, bound)",
        "return bound / scale",
        ("test_projections_polyhedron.py",),
    ),
    # Under jit, dependent equations give some point and not NaN.
    Fault(
        "dependent-rows",
        "jaxcon/projections/_affine.py",
        "r = jnp.where(_dependent(r, y.size)[None, :], jnp.nan, r)",
        "",
        PROJECTIONS,
    ),
    # The penalty of an inactive inequality whose multiplier is not zero yet is wrong.
    Fault(
        "resting-price",
        "jaxcon/lagrangians/_formulas.py",
        "resting = -jnp.square(lam) / (2 * rho)",
        "resting = -jnp.square(lam) / rho",
        ("test_lagrangians.py",),
    ),
    # The multiplier of a sample that a batch has twice may become negative.
    Fault(
        "repeated-sample",
        "jaxcon/multipliers/_batch.py",
        'return jnp.maximum(after, 0) if kind == "inequality" else after',
        "return after",
        ("test_multipliers.py",),
    ),
    # An equality that takes part with a negative weight is not named.
    Fault(
        "conflict-names",
        "jaxcon/optimality/_conflict.py",
        "shares = {name: np.sum(np.abs(w)) for",
        "shares = {name: np.sum(w) for",
        ("test_optimality.py",),
    ),
    # The transpose of the Cholesky factor is taken: wrong where noise is correlated.
    Fault(
        "correlated-noise",
        "jaxcon/identifiability/_fisher.py",
        "solve_triangular(lower, jac, lower=True)",
        "solve_triangular(lower, jac, trans=1, lower=True)",
        ("test_identifiability.py",),
    ),
    # The index counts finite iterates only.
    Fault(
        "best-index",
        "jaxcon/selection.py",
        "return int(np.flatnonzero(finite)[np.argmin(rank)])",
        "return int(np.argmin(rank))",
        ("test_selection.py",),
    ),
    # The average forgets that it began at the first error: seen at the second call.
    Fault(
        "pi-average",
        "jaxcon/transforms/_control.py",
        "(nu * xi + (1 - nu) * e).astype(e.dtype), updates, previous",
        "(nu * xi + (1 - nu) * e).astype(e.dtype), updates, state.average",
        ("test_transforms.py",),
    ),
    # A violation is compared with that of the step before, not of the check before.
    Fault(
        "growth-reference",
        "jaxcon/lagrangians/_penalty_rules.py",
        "lambda v, before: jnp.where(look, v, before), now, state.reference",
        "lambda v, before: v, now, state.reference",
        ("test_penalty_rules.py",),
    ),
    # A norm of zero, as of a constraint that is not active yet, is remembered.
    Fault(
        "zero-norm",
        "jaxcon/transforms/_clipping.py",
        "jnp.isfinite(size) & (size > 0)",
        "jnp.isfinite(size)",
        ("test_clipping.py",),
    ),
    # Of three terms or more, the order is the same at every step.
    Fault(
        "conflict-order",
        "jaxcon/transforms/_balancing.py",
        "key = jax.random.fold_in(jax.random.key(seed), state.memory)",
        "key = jax.random.key(seed)",
        ("test_clipping.py",),
    ),
    # A multiplier that was clipped to its cap does not count as having reached it.
    Fault(
        "cap-flag",
        "jaxcon/transforms/_bounds.py",
        "jnp.abs(target) >= jnp.asarray(limit, target.dtype)",
        "jnp.abs(target) > jnp.asarray(limit, target.dtype)",
        ("test_transforms.py",),
    ),
    # The new start comes one call late, with the old count of calls.
    Fault(
        "late-restart",
        "jaxcon/transforms/_timing.py",
        "calls == 0, lambda: primal.init(params), lambda: state.inner",
        "state.calls == 0, lambda: primal.init(params), lambda: state.inner",
        ("test_transforms.py",),
    ),
    # No gain is ever foretold, so that the damping does not follow the model.
    Fault(
        "foretold-gain",
        "jaxcon/transforms/_gauss_newton.py",
        "return move, (damping * jnp.sum(move**2) - along) / 2",
        "return move, (damping * jnp.sum(move**2) + along) / 2",
        ("test_gauss_newton.py",),
    ),
    # The memory of a penalty rule may become infinite, and stays so.
    Fault(
        "rule-memory",
        "jaxcon/primal_dual/_solver.py",
        """\
            (before.dual, before.rule, state.terms, state.extra),
            (after.dual, after.rule, proposal.terms, at.extra),
""",
        """\
            (before.dual, state.terms, state.extra),
            (after.dual, proposal.terms, at.extra),
""",
        ("test_survival.py", "test_primal_dual.py"),
    ),
    # Multipliers stay in their rows while their points move.
    Fault(
        "masses-stay",
        "jaxcon/primal_dual/_moving.py",
        "multipliers=entries(move.masses, state.multipliers)",
        "multipliers=state.multipliers",
        ("test_moving_points.py",),
    ),
    # Multipliers move from the point ahead, and not from where the step began.
    Fault(
        "move-from-ahead",
        "jaxcon/primal_dual/_orders.py",
        "after = start.climb(ahead.loss, ahead_residuals)",
        "after = start._replace(before=variables).climb(ahead.loss, ahead_residuals)",
        ("test_primal_dual.py",),
    ),
    # Parameters follow the old multipliers, as in the simultaneous order.
    Fault(
        "old-multipliers",
        "jaxcon/primal_dual/_orders.py",
        "found = start.gradient(start.at, after)",
        "found = start.gradient(start.at, start.before)",
        ("test_primal_dual.py",),
    ),
    # The scatter of a median is too small: noise passes for a trend.
    Fault(
        "median-doubt",
        "jaxcon/diagnosis/_statistics.py",
        "float(deviation) / np.sqrt(len(tail) / 3)",
        "float(deviation) / (len(tail) / 3)",
        ("test_diagnosis.py",),
    ),
    # A resumed run may skip as many steps again.
    Fault(
        "resumed-skips",
        "jaxcon/training/_fit.py",
        "allowed = None if max_skipped is None else int(state.skipped) + max_skipped",
        "allowed = None if max_skipped is None else int(reached.skipped) + max_skipped",
        TRAINING,
    ),
    # A run resumes from a checkpoint of another precision.
    Fault(
        "checkpoint-dtype",
        "jaxcon/training/_checkpoint.py",
        'f"{leaf.dtype}{list(leaf.shape)}"',
        'f"{list(leaf.shape)}"',
        TRAINING,
    ),
    # Of two terms that rise at once the larger is named, not the one that rose more.
    Fault(
        "spike-name",
        "jaxcon/training/_trouble.py",
        "found.append((row, -rows[row] / max(usual, np.finfo(float).tiny), text))",
        "found.append((row, -rows[row], text))",
        TRAINING,
    ),
    # Every chunk of a run draws the same batches.
    Fault(
        "batch-keys",
        "jaxcon/training/_source.py",
        "return draw(jax.random.fold_in(key, state.step), state)",
        "return draw(jax.random.fold_in(key, row), state)",
        TRAINING,
    ),
    # The best iterate's parameters are those of the step after it.
    Fault(
        "sweep-best",
        "jaxcon/training/_sweep.py",
        "return new, better(best, state, info, tolerance), infos",
        "return new, better(best, new, info, tolerance), infos",
        ("test_sweep.py",),
    ),
    # An inequality that holds with room to spare is penalized.
    Fault(
        "huber-price",
        "jaxcon/methods.py",
        '"huber": (penalties.huber, lambda g: penalties.huber(jnp.maximum(g, 0))),',
        '"huber": (penalties.huber, penalties.huber),',
        ("test_comparison.py",),
    ),
    # The mean of a constraint's multipliers is reported for their sum.
    Fault(
        "total-multiplier",
        "jaxcon/comparison.py",
        "{name: jnp.sum(m) for _, name, m in named(estimates)}",
        "{name: jnp.mean(m) for _, name, m in named(estimates)}",
        ("test_comparison.py",),
    ),
    # A violation that is NaN is passed over.
    Fault(
        "nan-violation",
        "jaxcon/report.py",
        "return float(np.max([*values], initial=0.0))",
        "return float(max([0.0, *values]))",
        ("test_report.py",),
    ),
    # The target is scaled by the rows that are held out, too.
    Fault(
        "target-scale",
        "jaxcon/tabular/_problem.py",
        "float(y[train].std())",
        "float(y.std())",
        ("test_tabular.py",),
    ),
    # A layer whose values are NaN passes.
    Fault(
        "check-nan",
        "jaxcon/layers/_check.py",
        "return self.excess <= self.tolerance",
        "return not self.excess > self.tolerance",
        ("test_layers.py",),
    ),
    # Columns are bounded, and not rows.
    Fault(
        "bounded-rows",
        "jaxcon/layers/_norms.py",
        "jnp.sum(jnp.abs(W), axis=1, keepdims=True)",
        "jnp.sum(jnp.abs(W), axis=0, keepdims=True)",
        ("test_layers_lipschitz.py", "test_layers_slopes.py"),
    ),
    # An example's second part overwrites the tables of the first.
    Fault(
        "overwritten-tables",
        "jaxcon/cli/_folder.py",
        'for title, rows in entries["parts"].items()',
        'for title, rows in list(entries["parts"].items())[-1:]',
        ("test_cli.py",),
    ),
    # The threshold allows one false alarm too many.
    Fault(
        "one-alarm-more",
        "jaxcon/examples/rates/_problems.py",
        "last = len(negatives) - int(LIMIT * len(negatives))",
        "last = len(negatives) - int(LIMIT * len(negatives)) - 1",
        ("test_example_rates.py",),
    ),
)


class Verdict(NamedTuple):
    """What became of one fault.

    Attributes:
        fault: which.
        kind: "caught", "missed" or "error".
        words: the first test that fails, "hangs", "MISSED", or what went wrong.
        seconds: from the copy to the end of the tests.
    """

    fault: Fault
    kind: str
    words: str
    seconds: float


class CannotTryError(Exception):
    """A fault cannot be tried; the message says why, in one line."""


def copy_tree(tree: Path, copy: Path) -> None:
    """Copies the tracked files of a checkout, as they are in the working tree."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=tree, check=True, capture_output=True, text=True
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (tree / name).is_file():  # one that was deleted is tracked still
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(tree / name, copy / name)


def plant(fault: Fault, copy: Path) -> None:
    """Changes the library in a copy of the tree."""
    path = copy / fault.file
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    if (times := text.count(fault.before)) != 1:
        raise CannotTryError(
            f"the fault no longer applies: its text occurs {times} times in {fault.file}"
        )
    path.write_text(text.replace(fault.before, fault.after), encoding="utf-8")


def run_tests(fault: Fault, copy: Path) -> tuple[str, str]:
    """Runs the fault's tests in the copy; returns the kind of a verdict and its words."""
    files = [f"tests/{name}" for name in fault.tests]
    files = [name for name in files if (copy / name).is_file()]
    if not files:
        raise CannotTryError(f"none of its test files exists: {', '.join(fault.tests)}")
    try:
        done = subprocess.run(
            [sys.executable, "-c", RUN, *OPTIONS, *files],
            cwd=copy,
            env=os.environ | {"PYTHONPATH": str(copy)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=LIMIT,
        )
    except subprocess.TimeoutExpired:
        return "caught", "hangs"
    if done.returncode == 0:
        return "missed", "MISSED"
    if done.returncode == 1:
        return "caught", first_failure(done.stdout)
    said = done.stdout.strip().splitlines() or [""]
    raise CannotTryError(f"the tests ended with code {done.returncode}: {said[-1]}")


def first_failure(output: str) -> str:
    """The first test that failed, by pytest's summary; an error in a fixture is one."""
    found = re.search(r"^(?:FAILED|ERROR) (.+?)(?: - .*)?$", output, re.MULTILINE)
    if found is None:
        raise CannotTryError("the tests failed without a word of which")
    return found[1]


def judge(fault: Fault, tree: Path) -> Verdict:
    """Plants one fault in a copy of the tree, and runs its tests there."""
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="planted-") as folder:
        copy = Path(folder)
        try:
            copy_tree(tree, copy)
            plant(fault, copy)
            kind, words = run_tests(fault, copy)
        except CannotTryError as error:
            kind, words = "error", f"ERROR: {error}"
    return Verdict(fault, kind, words, time.monotonic() - begun)


def row(*cells: str) -> str:
    """One line of the table."""
    widths = (max(len(fault.name) for fault in FAULTS), 11, 0, 0)
    return "| " + " | ".join(map(str.ljust, cells, widths)) + " |"


def chosen(names: list[str]) -> list[Fault]:
    """The faults of these names, or all where there is none."""
    known = {fault.name: fault for fault in FAULTS}
    if unknown := [name for name in names if name not in known]:
        sys.exit(f"there is no fault {unknown[0]!r}; there are {', '.join(known)}")
    return [known[name] for name in names] or list(FAULTS)


def main() -> None:
    """Judges the faults asked for, and prints the table."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.planted",
        description="Plants faults in a copy of the library and runs its tests.",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="faults; default: all")
    parser.add_argument("--tree", type=Path, default=HERE, help="another checkout")
    parser.add_argument("--jobs", type=int, default=1, help="faults at a time")
    options = parser.parse_args()
    faults = chosen(options.names)
    print(row("fault", "room", "caught by", "seconds"))
    print(row("---", "---", "---", "---:"), flush=True)
    kinds = []
    with ThreadPoolExecutor(options.jobs) as pool:
        running = [pool.submit(judge, fault, options.tree) for fault in faults]
        for done in as_completed(running):
            fault, kind, words, seconds = done.result()
            kinds.append(kind)
            print(row(fault.name, fault.room, words, f"{seconds:.0f}"), flush=True)
    errors = f", {count} could not be tried" if (count := kinds.count("error")) else ""
    print(f"\n{kinds.count('caught')} of {len(kinds)} caught{errors}")
    sys.exit(1 if errors else 0)


if __name__ == "__main__":
    main()
