"""The constant as one trained number."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxcon import methods
from jaxcon.comparison import train
from jaxcon.constraints import Constraints
from jaxcon.examples._example import Findings
from jaxcon.examples.diffusion._law import (
    LAMBDA,
    data,
    least_squares,
    mean_squared_error,
    normalised,
)
from jaxcon.report import new_figure


def descend(
    optimizer: optax.GradientTransformation, batch: Any, steps: int
) -> np.ndarray:
    """Descends on the squared error from 0 and returns lambda before each step.

    Unlike `jaxcon.fit`, which skips steps that are not finite, it takes all steps.

    Args:
        optimizer: any optax optimizer.
        batch: "m" and "k", (m,) each.
        steps: their number.

    Returns:
        The path, (steps,); not finite after an overflow.
    """

    def step(carry: Any, _: None) -> tuple[Any, jax.Array]:
        params, state = carry
        gradient = jax.grad(mean_squared_error)(params, batch)
        updates, state = optimizer.update(gradient, state, params)
        return (optax.apply_updates(params, updates), state), params["lambda"]

    params = {"lambda": jnp.zeros(())}
    _, path = jax.lax.scan(step, (params, optimizer.init(params)), length=steps)
    return np.asarray(path)


def constant(seed: int = 0) -> Findings:
    """Trains lambda as one number by every method, on raw and on normalised data.

    Args:
        seed: as in `findings`.

    Returns:
        Its `Findings`.
    """
    raw = data(jax.random.key(seed), unit=10.0)
    even = normalised(raw)
    rate, steps = 1e-3, 5000
    decaying = optax.cosine_decay_schedule(rate, steps)
    errors = {
        name: np.abs(descend(optimizer, batch, steps) / LAMBDA - 1)
        for name, optimizer, batch in (
            ("descent, raw data", optax.sgd(rate), raw),
            ("clipped", optax.chain(optax.clip(1.0), optax.sgd(rate)), raw),
            (
                "clipped, decaying",
                optax.chain(optax.clip(1.0), optax.sgd(decaying)),
                raw,
            ),
            ("descent, normalised", optax.sgd(0.3), even),
        )
    }
    problem = methods.Problem(
        init=lambda key: {"lambda": jnp.zeros(())},
        apply=lambda params, m: params["lambda"] * m,
        # The loss selects the feasible lambda nearest to a first guess.
        loss=lambda apply, params, batch: 0.5 * (params["lambda"] - 1) ** 2,
        constraints=lambda apply: Constraints(
            {"k": lambda params, batch: apply(params, batch["m"]) - batch["k"]}
        ),
        batch=even,
        score=lambda apply, params: {"error": abs(float(params["lambda"]) - LAMBDA)},
    )
    for name, method in {
        "penalty 10": methods.penalty(optax.sgd(0.01), 10.0),
        "penalty 100": methods.penalty(optax.sgd(0.01), 100.0),
        "lagrangian": methods.lagrangian(optax.sgd(0.3), 0.5),
        "PI control": methods.pi_control(optax.sgd(0.3), 0.3, 3.0),
        "augmented": methods.augmented(optax.sgd(0.1), 10.0),
    }.items():
        result = train(problem, method, steps=steps, progress=False)
        # Every residual is lambda's error times m, up to rounding.
        path = np.asarray(result.history.max_violation) / float(jnp.max(even["k"]))
        last = abs(float(result.state.params["lambda"]) / LAMBDA - 1)
        errors[name] = np.append(path, last)
    exact = float(least_squares(raw["k"], raw["m"]))
    rows = [
        {
            "method": name,
            "relative error": float(error[-1]),
            "steps to 1e-6": _steps_below(error, 1e-6),
        }
        for name, error in errors.items()
    ]
    rows.append(
        {
            "method": "least squares",
            "relative error": abs(exact / LAMBDA - 1),
            "steps to 1e-6": 0,
        }
    )
    blown = int(np.argmin(np.isfinite(errors["descent, raw data"])))
    curvature = float(2 * jnp.mean(raw["m"] ** 2))
    return Findings(
        "a constant",
        rows,
        f"On raw data each step of size {rate:g} multiplies the error by "
        f"1 - {rate * curvature:.0f}: it overflows after {blown} steps. Clipping bounds "
        "the error, and cures it if the rate decays; dividing the data by their size "
        "cures it at once. A penalty leaves the share 1 / (1 + weight) of the guess's "
        "error, multipliers leave none.",
        {"diffusion-constant": lambda path: _draw_errors(errors, path)},
    )


def _steps_below(error: np.ndarray, tolerance: float) -> float:
    """Returns the first step from which on all errors are below the tolerance, or inf."""
    above = np.flatnonzero(~(error < tolerance))
    last = above[-1] if above.size else -1
    return float("inf") if last == len(error) - 1 else float(last + 1)


def _draw_errors(errors: dict[str, np.ndarray], path: Path) -> None:
    figure = new_figure(7, 4)
    axes = figure.add_subplot()
    for name, error in errors.items():
        shown = np.where(
            np.isfinite(error) & (error < 1e6) & (error > 0), error, np.nan
        )
        axes.loglog(np.arange(1, 1 + len(error)), shown, label=name)
    axes.axhline(1e-6, color="0.6", lw=0.8)
    axes.set_xlabel("step")
    axes.set_title("relative error of lambda")
    axes.legend(fontsize=8, loc="upper right")
    figure.savefig(path, dpi=120)
