"""Reads a table: columns, scaling and shape rules become a `Problem`.

Inputs are scaled to [0, 1] over the table's box and the target to mean 0 and standard
deviation 1, so that slopes and curvatures of different columns are comparable and one
set of settings serves most tables. Violations are in these units: standard deviations
of the target (bounds), per whole range of the input (slopes) or per its square
(curvatures); of a Lipschitz constant, fractions of it.
"""

import csv
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxcon import derivatives, points, shapes
from jaxcon.constraints import Constraint, Constraints, tighten
from jaxcon.methods import Apply, Method, Problem, standard
from jaxcon.report import Curve


class TableError(ValueError):
    """A table, or what was asked of it, cannot be used; one line says why."""


class Table(NamedTuple):
    """Numbers in named columns.

    Attributes:
        names: one per column.
        values: float64, (rows, columns).
    """

    names: tuple[str, ...]
    values: np.ndarray

    def column(self, name: str) -> np.ndarray:
        """The column of that name, (rows,)."""
        return self.values[:, self.names.index(name)]


@dataclass(frozen=True)
class Rules:
    """What must hold of the fitted function, by column.

    Attributes:
        increasing: inputs along which it must not fall.
        decreasing: inputs along which it must not rise.
        convex: inputs along each of which it must be convex.
        concave: inputs along each of which it must be concave.
        lower: bound it must not fall below, in the target's units.
        upper: bound it must not exceed, in the target's units.
        lipschitz: largest Euclidean norm of its gradient, in target units per input unit.
    """

    increasing: tuple[str, ...] = ()
    decreasing: tuple[str, ...] = ()
    convex: tuple[str, ...] = ()
    concave: tuple[str, ...] = ()
    lower: float | None = None
    upper: float | None = None
    lipschitz: float | None = None


@dataclass(frozen=True)
class Settings:
    """How to fit; every number a run depends on beside its data and its rules.

    Attributes:
        steps: of the optimizer, over the whole training data each.
        seed: of the split and of the network's first weights.
        held_out: share of the rows kept for the score.
        width: units in each hidden layer.
        depth: hidden layers.
        learning_rate: Adam's first, decayed to zero by a cosine.
        strength: c of `jaxcon.methods.standard`.
        margin: room asked for at the constraint points so that the rules hold between
            them: in scaled units for slopes and curvatures, a tenth of it for bounds.
    """

    steps: int = 3000
    seed: int = 0
    held_out: float = 0.2
    width: int = 32
    depth: int = 2
    learning_rate: float = 1e-2
    strength: float = 1.0
    margin: float = 0.2


class Scaling(NamedTuple):
    """Between a table's units and the network's.

    Attributes:
        inputs: names of the input columns.
        target: name of the target column.
        lower: smallest value of each input, (d,).
        upper: largest value of each input, (d,).
        center: mean of the training target.
        scale: standard deviation of the training target.
    """

    inputs: tuple[str, ...]
    target: str
    lower: np.ndarray
    upper: np.ndarray
    center: float
    scale: float

    def unit(self, x: Any) -> np.ndarray:
        """Inputs (n, d) in their own units to [0, 1]."""
        return ((np.asarray(x) - self.lower) / (self.upper - self.lower)).astype(float)

    def predict(self, params: Any, x: Any, apply: Apply | None = None) -> np.ndarray:
        """The fitted function, `network` unless given, at inputs (n, d), in own units."""
        z = jnp.asarray(self.unit(x), jnp.float32)
        y = jax.vmap(partial(apply or network, params))(z)
        return self.center + self.scale * np.asarray(y, float)

    def to_json(self) -> dict[str, Any]:
        """Plain lists and numbers, for `from_json`."""
        lists = {"lower": self.lower.tolist(), "upper": self.upper.tolist()}
        return self._asdict() | lists

    @classmethod
    def from_json(cls, entry: dict[str, Any]) -> "Scaling":
        """What `to_json` wrote."""
        return cls(
            tuple(entry["inputs"]),
            entry["target"],
            np.array(entry["lower"]),
            np.array(entry["upper"]),
            entry["center"],
            entry["scale"],
        )


def init_network(key: jax.Array, sizes: Sequence[int]) -> list[dict[str, jax.Array]]:
    """Weights of a fully connected network, normal with variance 1 / fan-in.

    Args:
        key: a typed key.
        sizes: units of each layer, inputs and outputs included.

    Returns:
        One {"w": (in, out), "b": (out,)} per layer.
    """
    keys = jax.random.split(key, len(sizes) - 1)
    return [
        {"w": jax.random.normal(k, (m, n)) / jnp.sqrt(m), "b": jnp.zeros(n)}
        for k, m, n in zip(keys, sizes, sizes[1:])
    ]


def network(params: list[dict[str, jax.Array]], z: jax.Array) -> jax.Array:
    """A tanh network of one example: smooth, so that curvatures mean something.

    Args:
        params: from `init_network`, with one output.
        z: inputs in [0, 1], (d,).

    Returns:
        Shape ().
    """
    return outputs(params, z)[0]


def outputs(params: list[dict[str, jax.Array]], z: jax.Array) -> jax.Array:
    """The same network with as many outputs as its last layer has.

    Args:
        params: from `init_network`.
        z: inputs in [0, 1], (d,).

    Returns:
        Shape (m,).
    """
    y = 2 * z - 1
    for layer in params[:-1]:
        y = jnp.tanh(y @ layer["w"] + layer["b"])
    return y @ params[-1]["w"] + params[-1]["b"]


def read_csv(path: Path, columns: Sequence[str] | None = None) -> Table:
    """Reads a comma-separated table of numbers with one line of names.

    Args:
        path: the file, UTF-8.
        columns: which to read; None for all. Others may hold anything.

    Returns:
        A `Table` of finite numbers with distinct names and at least one row.

    Raises:
        TableError: it cannot, with the line and column at fault.
    """
    names, rows = _read_rows(path)
    wanted = list(names) if columns is None else list(columns)
    for name in wanted:
        if wanted.count(name) > 1:
            raise TableError(f"column {name!r} is asked for twice")
        if name not in names:
            raise TableError(_no_column(name, names, path))
    places = [names.index(name) for name in wanted]
    values = [
        [_number(row[place], names[place], line, path) for place in places]
        for line, row in rows
    ]
    return Table(tuple(wanted), np.array(values))


def _read_rows(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Names and (line number, cells) of the rows that are not blank."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            lines = [
                (reader.line_num, row) for row in reader if any(map(str.strip, row))
            ]
    except FileNotFoundError:
        raise TableError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise TableError(f"{path} is a folder, not a CSV file") from None
    except OSError as error:
        raise TableError(f"{path} cannot be read: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise TableError(f"{path} is not a UTF-8 CSV file: {error}") from None
    if not lines:
        raise TableError(f"{path} is empty")
    names = [name.strip() for name in lines[0][1]]
    if len(names) == 1 and any(mark in names[0] for mark in ";\t"):
        raise TableError(f"{path}: its columns must be separated by commas")
    if all(map(_is_number, names)):
        raise TableError(f"{path}: the first line must hold the columns' names")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise TableError(f"{path}: two columns are called {twice[0]!r}")
    for line, row in lines[1:]:
        if len(row) != len(names):
            raise TableError(
                f"{path}, line {line}: {len(row)} cells where the first line has "
                f"{len(names)}"
            )
    if len(lines) == 1:
        raise TableError(f"{path} has names but no rows")
    return names, lines[1:]


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _number(cell: str, name: str, line: int, path: Path) -> float:
    where = f"{path}, line {line}, column {name!r}"
    if not cell.strip():
        raise TableError(f"{where}: the cell is blank")
    if not _is_number(cell):
        raise TableError(f"{where}: {cell.strip()!r} is not a number")
    if not np.isfinite(float(cell)):
        raise TableError(f"{where}: {cell.strip()} is not a finite number")
    return float(cell)


def _no_column(name: str, names: Sequence[str], where: Any) -> str:
    return f"{where} has no column {name!r}; it has {', '.join(map(repr, names))}"


# Where a setting ends that has an end; a seed must fit 64 bits.
_BEYOND = {"held_out": 1, "seed": 2**63}


def check(table: Table, target: str, rules: Rules, settings: Settings) -> None:
    """Refuses what cannot be fitted, before anything is built.

    Args:
        table: inputs and target; every column but the target is an input.
        target: name of the target column.
        rules: what must hold.
        settings: how to fit.

    Raises:
        TableError: with the first thing wrong.
    """
    if target not in table.names:
        raise TableError(_no_column(target, table.names, "the table"))
    if len(table.names) == 1:
        raise TableError(f"the table has no column but the target {target!r}")
    for name, value in asdict(settings).items():
        least = 0 if name in ("seed", "margin") else np.nextafter(0, 1)
        if not least <= value < _BEYOND.get(name, np.inf):
            raise TableError(f"--{name.replace('_', '-')} {value} is out of range")
    rows = len(table.values)
    if min(held_out_rows(rows, settings), rows - held_out_rows(rows, settings)) < 2:
        raise TableError(
            f"the table has {rows} row{'s' * (rows != 1)}; with --held-out "
            f"{settings.held_out} that leaves fewer than two to fit or to score"
        )
    for name in table.names:
        if np.ptp(table.column(name)) == 0:
            raise TableError(f"column {name!r} is constant")
    inputs = [name for name in table.names if name != target]
    for rule in ("increasing", "decreasing", "convex", "concave"):
        for name in getattr(rules, rule):
            if name == target:
                raise TableError(f"--{rule} {name}: that is the target, not an input")
            if name not in inputs:
                raise TableError(f"--{rule}: {_no_column(name, inputs, 'the table')}")
    for one, other in (("increasing", "decreasing"), ("convex", "concave")):
        both = sorted(set(getattr(rules, one)) & set(getattr(rules, other)))
        if both:
            raise TableError(f"{both[0]!r} cannot be both {one} and {other}")
    for bound in ("lower", "upper", "lipschitz"):
        value = getattr(rules, bound)
        if value is not None and not np.isfinite(value):
            raise TableError(f"--{bound} {value} is not a finite number")
    if None not in (rules.lower, rules.upper) and not rules.lower < rules.upper:  # pyright: ignore[reportOperatorIssue]
        raise TableError(f"--lower {rules.lower} is not below --upper {rules.upper}")
    if rules.lipschitz is not None and not rules.lipschitz > 0:
        raise TableError(f"--lipschitz {rules.lipschitz} must be positive")


def held_out_rows(rows: int, settings: Settings) -> int:
    """How many rows are kept for the score.

    Args:
        rows: in the table.
        settings: how to fit.

    Returns:
        `settings.held_out` of them, rounded.
    """
    return round(settings.held_out * rows)


def problem(
    table: Table,
    target: str,
    rules: Rules,
    settings: Settings,
    truth: Callable[[np.ndarray], np.ndarray] | None = None,
) -> tuple[Problem, Scaling]:
    """The table's problem in scaled units, and the way back to its own.

    Args:
        table: inputs and target; every column but the target is an input.
        target: name of the target column.
        rules: what must hold over the box of the inputs.
        settings: how to fit.
        truth: where it is known, the true function of inputs (n, d) in their own units.

    Returns:
        The `Problem`, whose scores are in the target's units, and its `Scaling`.

    Raises:
        TableError: see `check`.
    """
    check(table, target, rules, settings)
    inputs = tuple(name for name in table.names if name != target)
    x = np.stack([table.column(name) for name in inputs], axis=1)
    y = table.column(target)
    order = np.random.default_rng(settings.seed).permutation(len(y))
    kept = held_out_rows(len(y), settings)
    test, train = order[:kept], order[kept:]
    if np.ptp(y[train]) == 0:
        raise TableError(f"column {target!r} is constant in the rows to fit")
    scaling = Scaling(
        inputs,
        target,
        x.min(0),
        x.max(0),
        float(y[train].mean()),
        float(y[train].std()),
    )
    d = len(inputs)
    batch = {
        "x": jnp.asarray(scaling.unit(x[train]), jnp.float32),
        "y": jnp.asarray((y[train] - scaling.center) / scaling.scale, jnp.float32),
        "points": constraint_points(d),
    }

    def loss(apply: Apply, params: Any, batch: Any) -> jax.Array:
        fitted = jax.vmap(partial(apply, params))(batch["x"])
        return jnp.mean(jnp.square(fitted - batch["y"]))

    def score(apply: Apply, params: Any) -> dict[str, float]:
        held_out = scaling.predict(params, x[test], apply) - y[test]
        scores = {"held-out RMSE": _rms(held_out)}
        if truth is not None:
            # Sobol points over the box: the truth is scored everywhere, not at data.
            unit = np.asarray(points.sobol(np.zeros(d), np.ones(d), 4096), float)
            places = scaling.lower + unit * (scaling.upper - scaling.lower)
            error = scaling.predict(params, places, apply) - truth(places)
            scores["RMSE to truth"] = _rms(error)
        return scores

    sizes = (d, *(settings.width,) * settings.depth, 1)
    made = Problem(
        init=lambda key: init_network(key, sizes),
        apply=network,
        loss=loss,
        constraints=lambda apply: _constraints(apply, scaling, rules, margin=0.0),
        trained=lambda apply: _constraints(apply, scaling, rules, settings.margin),
        batch=batch,
        lower=np.zeros(d),
        upper=np.ones(d),
        score=score,
    )
    return made, scaling


def constraint_points(d: int) -> jax.Array:
    """Where the rules are enforced: the unit box, its faces and its corners.

    A network bends most where no data holds it, at the edge of the box, so the faces
    get points of their own.

    Args:
        d: inputs.

    Returns:
        (n, d): an even grid of 256 for one input, else 1,024 Sobol points, 64 more on
        each face and, up to 8 inputs, the corners.
    """
    lower, upper = np.zeros(d), np.ones(d)
    if d == 1:
        return points.grid(lower, upper, 256)
    parts = [points.sobol(lower, upper, 1024), points.boundary(lower, upper, 64).points]
    if d <= 8:
        parts.append(points.grid(lower, upper, 2))
    return jnp.concatenate(parts)


def methods(settings: Settings) -> dict[str, Method]:
    """The standard methods with Adam and a cosine decay.

    Args:
        settings: how to fit.

    Returns:
        Methods by name.
    """
    rate = optax.cosine_decay_schedule(settings.learning_rate, settings.steps)
    return standard(optax.adam(rate), settings.strength)


def places(scaling: Scaling, name: str, num: int = 400) -> np.ndarray:
    """Even places along one input, from the box's lower end to its upper.

    Args:
        scaling: of the problem.
        name: which input.
        num: how many.

    Returns:
        (num,), in the input's units.
    """
    index = scaling.inputs.index(name)
    return np.linspace(scaling.lower[index], scaling.upper[index], num)


def curve(scaling: Scaling, params: Any, name: str, num: int = 400) -> Curve:
    """The fitted function along one input, the others half-way up the box.

    Args:
        scaling: of the problem.
        params: of its network.
        name: which input.
        num: how many `places` along it.

    Returns:
        Value, slope and curvature there, in the table's units.
    """
    index = scaling.inputs.index(name)
    z = np.full((num, len(scaling.inputs)), 0.5, np.float32)
    z[:, index] = np.linspace(0, 1, num)
    f = partial(network, params)
    width = scaling.upper[index] - scaling.lower[index]

    along = derivatives.derivatives(
        f,
        derivatives.Value(),
        derivatives.Partial(index),
        derivatives.Partial((index,) * 2),
    )
    value, slope, curvature = (
        np.asarray(part, float) for part in jax.vmap(along)(jnp.asarray(z))
    )
    return Curve(
        scaling.center + scaling.scale * value,
        scaling.scale / width * slope,
        scaling.scale / width**2 * curvature,
    )


def true_curve(
    scaling: Scaling,
    truth: Callable[[np.ndarray], np.ndarray],
    name: str,
    num: int = 400,
) -> Curve:
    """The truth along one input as in `curve`, its derivatives by central differences.

    Args:
        scaling: of the problem.
        truth: function of inputs (n, d) in their own units.
        name: which input.
        num: how many `places` along it.

    Returns:
        Value, slope and curvature, in the table's units.
    """
    x = np.tile((scaling.lower + scaling.upper) / 2, (num, 1))
    x[:, scaling.inputs.index(name)] = along = places(scaling, name, num)
    value = truth(x)
    slope = np.gradient(value, along)
    return Curve(value, slope, np.gradient(slope, along))


def _constraints(
    apply: Apply, scaling: Scaling, rules: Rules, margin: float
) -> Constraints:
    """The rules in scaled units, with a margin for derivatives and a tenth of it else."""
    held: dict[str, Constraint] = {}
    for rule in ("increasing", "decreasing", "convex", "concave"):
        for name in getattr(rules, rule):
            shaped = getattr(shapes, rule)(
                apply, scaling.inputs.index(name), on="points"
            )
            held[f"{rule} in {name}"] = tighten(shaped, margin)
    if rules.lower is not None or rules.upper is not None:
        lower, upper = (
            None if bound is None else (bound - scaling.center) / scaling.scale
            for bound in (rules.lower, rules.upper)
        )
        bounded = shapes.bounded(apply, lower, upper, on="points")
        held["bounded"] = tighten(bounded, margin / 10)
    if rules.lipschitz is not None:
        steep = _lipschitz(apply, scaling, rules.lipschitz)
        held["lipschitz"] = tighten(steep, margin / 10)
    return Constraints(inequality=held)


def _lipschitz(apply: Apply, scaling: Scaling, constant: float) -> Constraint:
    """The gradient's norm in the table's units, relative to `constant`."""
    width = jnp.asarray(scaling.upper - scaling.lower, jnp.float32)

    def relative(params: Any, v: jax.Array) -> jax.Array:
        return apply(params, v / width) * (scaling.scale / constant)

    steep = shapes.lipschitz(relative, 1.0)
    return lambda params, batch: steep(params, batch["points"] * width[None])


def _rms(error: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(error))))
