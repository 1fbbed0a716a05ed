"""Problems of the series and of the field, and their residuals."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcon import derivatives, points, shapes, tabular
from jaxcon.constraints import Constraints, tighten
from jaxcon.derivatives import Laplacian, Partial
from jaxcon.examples.smoothing._layers import init_steep_network
from jaxcon.examples.smoothing._truth import (
    CHECKED,
    CHECKED_SIDE,
    CURVED,
    MARGIN,
    NOISE,
    SAMPLES,
    SIDE,
    STEEPEST,
    field,
    lipschitz_regression,
    series,
)
from jaxcon.methods import Apply, Problem


def series_problem(seed: int = 0) -> Problem:
    """Builds the problem of the noisy series with the bound L on the slope.

    Args:
        seed: of the noise.

    Returns:
        A `Problem` with one constraint, "slope", in fractions of L.
    """
    t = np.linspace(0, 1, SAMPLES)
    y = series(t) + NOISE * np.random.default_rng(seed).normal(size=SAMPLES)
    optimum, _ = lipschitz_regression(t, y, STEEPEST)
    unseen = np.linspace(0, 1, 2001)

    def score(apply: Apply, params: Any) -> dict[str, float]:
        (there, slope), fitted = read(Partial(0), apply, params, row(unseen), row(t))
        return {
            "RMSE to truth": _rms(there - series(unseen)),
            "RMSE to optimum": _rms(fitted - optimum),
            "fit RMSE": _rms(fitted - y),
            "steepest slope": float(jnp.max(jnp.abs(slope))),
        }

    return Problem(
        init=init_steep_network,
        apply=tabular.network,
        loss=_mean_squared_error,
        constraints=lambda apply: bound("slope", _slope_excess(apply)),
        trained=lambda apply: bound("slope", tighten(_slope_excess(apply), MARGIN)),
        batch={
            "x": row(t),
            "y": row(y)[:, 0],
            "points": points.grid([0.0], [1.0], CHECKED),
        },
        score=score,
        lower=np.zeros(1),
        upper=np.ones(1),
    )


def field_problem(seed: int = 0) -> Problem:
    """Builds the problem of the noisy field with the bound C on the Laplacian.

    Args:
        seed: of the noise.

    Returns:
        A `Problem` with one constraint, "Laplacian", in fractions of C.
    """
    x = points.grid([0.0, 0.0], [1.0, 1.0], SIDE)
    u = field(np.asarray(x, float)) + NOISE * np.random.default_rng(seed).normal(
        size=len(x)
    )
    unseen = points.sobol([0.0, 0.0], [1.0, 1.0], 4096)
    truth = field(np.asarray(unseen, float))

    def score(apply: Apply, params: Any) -> dict[str, float]:
        (there, curved), fitted = read(Laplacian(), apply, params, unseen, x)
        return {
            "RMSE to truth": _rms(there - truth),
            "fit RMSE": _rms(fitted - u),
            "largest Laplacian": float(jnp.max(jnp.abs(curved))),
        }

    return Problem(
        init=lambda key: tabular.init_network(key, (2, 32, 1)),
        apply=tabular.network,
        loss=_mean_squared_error,
        constraints=lambda apply: bound("Laplacian", _laplacian_excess(apply)),
        trained=lambda apply: bound(
            "Laplacian", tighten(_laplacian_excess(apply), MARGIN)
        ),
        batch={
            "x": x,
            "y": jnp.asarray(u, jnp.float32),
            "points": points.grid([0.0, 0.0], [1.0, 1.0], CHECKED_SIDE),
        },
        score=score,
        lower=np.zeros(2),
        upper=np.ones(2),
    )


def row(values: np.ndarray) -> jax.Array:
    return jnp.asarray(values, jnp.float32)[:, None]


@partial(jax.jit, static_argnums=(0, 1))
def read(
    wanted: Any, apply: Apply, params: Any, unseen: jax.Array, samples: jax.Array
) -> tuple[Any, jax.Array]:
    """Evaluates f and the wanted derivative at unseen points, and f at the samples."""
    f = partial(apply, params)
    read = derivatives.derivatives(f, derivatives.Value(), wanted)
    return tuple(jax.vmap(read)(unseen)), jax.vmap(f)(samples)


def _rms(error: Any) -> float:
    return float(np.sqrt(np.mean(np.square(error))))


def _mean_squared_error(apply: Apply, params: Any, batch: Any) -> jax.Array:
    fitted = jax.vmap(partial(apply, params))(batch["x"])
    return jnp.mean(jnp.square(fitted - batch["y"]))


def bound(name: str, excess: Any) -> Constraints:
    return Constraints(inequality={name: excess})


def relative_slope(apply: Apply) -> shapes.Pointwise:
    return shapes.Pointwise(apply, "points", (Partial(0),), lambda t, s: s / STEEPEST)


def _slope_excess(apply: Apply) -> shapes.Pointwise:
    return relative_slope(apply).map(lambda slope: jnp.abs(slope) - 1)


def relative_laplacian(apply: Apply) -> shapes.Pointwise:
    return shapes.Pointwise(
        apply, "points", (Laplacian(),), lambda x, bend: bend / CURVED
    )


def _laplacian_excess(apply: Apply) -> shapes.Pointwise:
    return relative_laplacian(apply).map(lambda laplacian: jnp.abs(laplacian) - 1)


def differences(apply: Apply) -> Callable[[Any, Any], jax.Array]:
    """Returns the slope proxy: differences of consecutive outputs, in fractions of L h.

    Args:
        apply: f.

    Returns:
        (params, batch) -> (n - 1,), of the samples ``batch["x"]``.
    """

    def residual(params: Any, batch: Any) -> jax.Array:
        outputs = jax.vmap(partial(apply, params))(batch["x"])
        return jnp.diff(outputs) * (SAMPLES - 1) / STEEPEST

    return residual


def stencil(apply: Apply) -> Callable[[Any, Any], jax.Array]:
    """Returns the Laplacian proxy: the grid's five-point stencil, in fractions of C.

    Args:
        apply: u.

    Returns:
        (params, batch) -> one for each inner node of the grid ``batch["x"]``.
    """

    def residual(params: Any, batch: Any) -> jax.Array:
        u = jax.vmap(partial(apply, params))(batch["x"]).reshape(SIDE, SIDE)
        around = u[2:, 1:-1] + u[:-2, 1:-1] + u[1:-1, 2:] + u[1:-1, :-2]
        laplacian = (around - 4 * u[1:-1, 1:-1]) * (SIDE - 1) ** 2
        return jnp.ravel(laplacian) / CURVED

    return residual
