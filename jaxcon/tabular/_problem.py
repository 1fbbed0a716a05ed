"""Problem of a table in scaled units."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcon import points
from jaxcon._checks import check_number
from jaxcon.methods import Apply, Problem
from jaxcon.tabular._checks import check, held_out_rows
from jaxcon.tabular._network import init_network, network
from jaxcon.tabular._rules import Rules, rule_constraints, scaled_bounds, steepness
from jaxcon.tabular._scaling import Scaling
from jaxcon.tabular._settings import Settings
from jaxcon.tabular._table import LEAST_SPREAD, Table, TableError


def problem(
    table: Table,
    target: str,
    rules: Rules,
    settings: Settings,
    truth: Callable[[np.ndarray], np.ndarray] | None = None,
) -> tuple[Problem, Scaling]:
    """Builds a table's problem in scaled units, and the scaling back to its own.

    Args:
        table: inputs and target; every column but the target is an input.
        target: name of the target column.
        rules: the shape constraints over the box of the inputs.
        settings: of the fit.
        truth: the true function of inputs (n, d) in their own units, where known.

    Returns:
        The `Problem`, whose scores are in the target's units, and its `Scaling`.

    Raises:
        TableError: see `check`.
    """
    check(table, target, rules, settings)
    inputs = tuple(name for name in table.names if name != target)
    place = table.names.index(target)
    x, y = np.delete(table.values, place, axis=1), table.values[:, place]
    order = np.random.default_rng(settings.seed).permutation(len(y))
    kept = held_out_rows(len(y), settings)
    test, train = order[:kept], order[kept:]
    if np.ptp(y[train]) == 0:
        raise TableError(f"column {target!r} is constant in the rows to fit")
    if np.ptp(y[train]) < LEAST_SPREAD:
        raise TableError(
            f"column {target!r} varies by {np.ptp(y[train]):g} in the rows to fit, where "
            f"{LEAST_SPREAD:g} is the least"
        )
    scaling = Scaling(
        inputs,
        target,
        x.min(0),
        x.max(0),
        float(y[train].mean()),
        float(y[train].std()),
    )
    scaled_bounds(scaling, rules)
    if rules.lipschitz is not None:
        steepness(scaling, rules.lipschitz)
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
            # Sobol points over the box: the truth is scored everywhere, not only at data.
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
        constraints=lambda apply: rule_constraints(apply, scaling, rules, margin=0.0),
        trained=lambda apply: rule_constraints(apply, scaling, rules, settings.margin),
        batch=batch,
        lower=np.zeros(d),
        upper=np.ones(d),
        score=score,
    )
    return made, scaling


def constraint_points(d: int) -> jax.Array:
    """Returns the points of the constraints: in the unit box, on its faces and corners.

    A network has its largest curvatures where there are no data, at the edge of the box,
    so the faces have points of their own.

    Args:
        d: the number of inputs.

    Returns:
        (n, d): an even grid of 256 for one input, else 1,024 Sobol points, 64 more on
        each face and, up to 8 inputs, the corners.
    """
    check_number("d", d, least=1, whole=True)
    lower, upper = np.zeros(d), np.ones(d)
    if d == 1:
        return points.grid(lower, upper, 256)
    parts = [points.sobol(lower, upper, 1024), points.boundary(lower, upper, 64).points]
    if d <= 8:
        parts.append(points.grid(lower, upper, 2))
    return jnp.concatenate(parts)


def _rms(error: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(error))))
