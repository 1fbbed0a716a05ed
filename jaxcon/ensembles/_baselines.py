"""Plain models to set a fit beside: a straight line and boosted trees."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcon.ensembles._columns import Column, offsets
from jaxcon.ensembles._losses import CLASSES, Loss, first_score, scale_of
from jaxcon.ensembles._network import standardise
from jaxcon.ensembles._prepared import standardisation
from jaxcon.ensembles._rules import ShapeRules

Predict = Callable[[np.ndarray], np.ndarray]

# Weight of the sum of squares, per row, that keeps a line of collinear columns finite.
_RIDGE = 1e-6


def linear_model(
    columns: tuple[Column, ...],
    loss: Loss,
    v: np.ndarray,
    y: np.ndarray,
    weight: np.ndarray,
) -> Predict:
    r"""Fits scores that are affine in the encoded rows, η = b + v A, by L-BFGS.

    Args:
        columns: the encoding.
        loss: of the target.
        v: encoded rows, (n, d).
        y: target, (n,).
        weight: of the rows, (n,).

    Returns:
        (rows (n, d)) -> predictions (n, m) in the target's units.
    """
    from scipy.optimize import minimize

    center, unit = scale_of(loss, y, weight)
    target, share = (y - center) / unit, weight / weight.sum()
    inputs = standardisation(columns, v, weight)
    layout = tuple(column.block for column in columns)
    z = standardise(inputs, layout, v, np)
    first = first_score(loss, target, weight)
    d, m = z.shape[1], len(first)
    data = tuple(jnp.asarray(one, jnp.float32) for one in (z, target, share))
    fall = jax.jit(jax.value_and_grad(partial(_affine_loss, loss, d)))

    def both(flat: np.ndarray) -> tuple[float, np.ndarray]:
        value, slope = fall(jnp.asarray(flat, jnp.float32), *data)
        return float(value), np.asarray(slope, float)

    begun = np.concatenate([np.zeros(d * m), first])
    found = minimize(both, begun, jac=True, method="L-BFGS-B").x
    weights, shift = found[: d * m].reshape(d, m), found[d * m :]

    def predict(rows: np.ndarray) -> np.ndarray:
        score = standardise(inputs, layout, rows, np) @ weights + shift
        made = loss.prediction(score, np)
        return made if loss.kind in CLASSES else center + unit * made

    return predict


def _affine_loss(
    loss: Loss,
    d: int,
    flat: jax.Array,
    z: jax.Array,
    target: jax.Array,
    share: jax.Array,
) -> jax.Array:
    weights = flat[: d * loss.outputs].reshape(d, loss.outputs)
    losses = loss(z @ weights + flat[None, d * loss.outputs :], target)
    return jnp.sum(share * losses) + _RIDGE * jnp.sum(jnp.square(weights))


def boosted_trees(
    columns: tuple[Column, ...],
    loss: Loss,
    rules: ShapeRules,
    v: np.ndarray,
    y: np.ndarray,
    weight: np.ndarray,
) -> Predict | None:
    """Fits scikit-learn's HistGradientBoosting under the same monotone rules.

    Args:
        columns: the encoding.
        loss: of the target.
        rules: of which those that trees have, the monotone ones, are held.
        v: encoded rows, (n, d).
        y: target, (n,).
        weight: of the rows, (n,).

    Returns:
        (rows (n, d)) -> predictions (n, m); None without scikit-learn, or for a loss or
        rules that it has not.
    """
    try:
        from sklearn import ensemble
    except ImportError:
        return None
    signs = np.zeros(v.shape[1], int)
    for column, place in zip(columns, offsets([one.block for one in columns])):
        sign = rules.monotone.get(column.name, 0)
        if not isinstance(sign, int) or (loss.kind == "multinomial" and sign):
            return None
        signs[place] = sign
    options: dict[str, Any] = {"monotonic_cst": signs, "random_state": 0}
    if loss.kind in CLASSES:
        model = ensemble.HistGradientBoostingClassifier(**options)
        fitted: Any = model.fit(v, y, sample_weight=weight)
        if loss.kind == "binary":
            return lambda rows: fitted.predict_proba(rows)[:, 1:]
        return fitted.predict_proba
    names = ("squared_error", "absolute_error", "poisson", "gamma")
    kind = "squared_error" if loss.kind == "log_squared_error" else loss.kind
    if kind not in names:
        return None
    model = ensemble.HistGradientBoostingRegressor(loss=kind, **options)
    fitted = model.fit(v, y, sample_weight=weight)
    return lambda rows: fitted.predict(rows)[:, None]
