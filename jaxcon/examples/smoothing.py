r"""A noisy series that is nowhere steep, and a noisy field that is nowhere strongly curved.

A series :math:`y_i = f^*(t_i) + \varepsilon_i` is known to come from a function no steeper
than L. Its truth is a triangle wave with rounded corners,

.. math::
    f^*(t) = \frac{L}{a k} \arcsin(a \sin kt), \qquad \max |f^{*\prime}| = L,

close to that bound most of the time. What is asked for is the least-squares fit among all
functions with :math:`|f'| \le L`. At the samples its values z are known: they solve

.. math::
    \min_z \frac{1}{n} \sum_i (z_i - y_i)^2 \quad \text{subject to} \quad
    |z_{i+1} - z_i| \le L\, (t_{i+1} - t_i),

because any such z is joined by lines no steeper than L; its multipliers say what a
steeper bound would be worth.

Smoothing layers act on the function, :math:`f_s(t) = \sum_k w_k f(t + kh)`: h is the
samples' distance, so that on the samples this is the usual convolution of the series,
with the network's own continuation at the edges, and weights that sum to one leave
constants alone. Averaging K nodes of a function with :math:`|f| \le B` guarantees
:math:`|f_s(t + h) - f_s(t)| \le 2B / K`, no more: between nodes f may do anything, and only
the integral over a window of width Kh has :math:`|f_s'| \le 2B / Kh`. Without a bound on f
there is no guarantee at all. The difference proxies, penalty and bound on
:math:`(f(t_{i+1}) - f(t_i)) / h`, do not see what happens between samples either.

The field is measured with noise on a grid; there the proxy is the five-point stencil:

.. math::
    u^*(x, y) = \frac{C}{8 \pi^2} \cos 2 \pi x \cos 2 \pi y
    + \frac12 \operatorname{Re} (2x - 1 + (2y - 1) i)^3, \qquad \max |\Delta u^*| = C,

.. math::
    \Delta_h u = \frac{u_E + u_W + u_N + u_S - 4 u_0}{h^2}.

Violations are fractions of L and of C, "steepest slope" and "largest Laplacian" are not.
Methods with a bound on exact derivatives end, for seed 0, with an RMSE of at most 0.12 to
either truth, in the series at most 0.06 from z and with a total multiplier within 25 % of
the optimum's; their violations are, in the mean over four series, below a tenth of those
of methods that see differences. All others are in the tables with what they come to. The
field has no projection: no set of weights is known that is simple and holds its Laplacian
down. Run it by ``jaxcon example smoothing``.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxcon import derivatives, methods, points, report, shapes, tabular
from jaxcon.comparison import MethodEvaluation
from jaxcon.constraints import Constraints, tighten
from jaxcon.derivatives import Laplacian, Partial
from jaxcon.examples._example import Findings, study
from jaxcon.methods import Apply, Method, Problem

STEEPEST = 8.0  # L, units of the series per unit of time
ROUNDING = 0.95  # a; 1 is a triangle wave with sharp corners
FREQUENCY = 4 * np.pi  # k, radians per unit of time
SAMPLES = 31  # of the series, evenly on [0, 1]
NODES = 9  # of a smoothing kernel, one sample apart

CURVED = 40.0  # C, units of the field per squared unit of length
SIDE = 15  # samples along each side of the field, evenly on [0, 1]

SHARPNESS = (
    20.0  # of the by-construction method's maxima and minima, per unit of the series
)
CHECKED = 121  # points at which the slope is checked, four for each sample
CHECKED_SIDE = 29  # along each side of the field, two for each sample
NOISE = 0.3  # standard deviation, in both
MARGIN = 0.03  # of L or C: the room that bounds are trained with
STEPS = 3000
STRENGTH = 0.1  # of all multiplier methods, and the weight of smoothness penalties
WEIGHT = 10.0  # of penalties on the bounds

# Names of methods that see differences only begin with these.
PROXIES = ("difference", "stencil")

# What methods with a bound on exact derivatives reach: RMSE to the truth of the series
# and to its optimum, relative error of its total multiplier, RMSE to the truth of the
# field.
TOLERANCES = {"series": 0.12, "optimum": 0.06, "multipliers": 0.25, "field": 0.12}


def series(t: np.ndarray) -> np.ndarray:
    """The true series: nowhere steeper than L.

    Args:
        t: times, any shape.

    Returns:
        f*(t), of that shape.
    """
    swing = np.arcsin(ROUNDING * np.sin(FREQUENCY * t))
    return STEEPEST / (ROUNDING * FREQUENCY) * swing


def field(x: np.ndarray) -> np.ndarray:
    """The true field: its Laplacian is nowhere larger than C.

    Args:
        x: places (n, 2) in the unit square.

    Returns:
        u*(x), (n,).
    """
    waves = np.cos(2 * np.pi * x[:, 0]) * np.cos(2 * np.pi * x[:, 1])
    z = (2 * x[:, 0] - 1) + (2 * x[:, 1] - 1) * 1j
    return CURVED / (8 * np.pi**2) * waves + (z**3).real / 2


def lipschitz_regression(
    t: np.ndarray, y: np.ndarray, constant: float
) -> tuple[np.ndarray, float]:
    r"""The best fit among all functions no steeper than a constant, and its price.

    Solved as bounded least squares in the first value and the increments.

    Args:
        t: increasing times, (n,).
        y: targets, (n,).
        constant: L.

    Returns:
        Values z at t, (n,), and :math:`-d f / d \log L`: by how much the mean squared
        error would fall per fraction by which L is raised.
    """
    from scipy.optimize import lsq_linear

    room = constant * np.diff(t)
    sums = np.tri(len(t))
    upper = np.append(np.inf, room)
    z = sums @ lsq_linear(sums, y, (-upper, upper), method="bvls").x
    gradient = 2 / len(t) * sums.T @ (z - y)
    return z, float(np.abs(gradient[1:]) @ room)


def smoothed(apply: Apply, weights: jax.Array) -> Apply:
    r"""A smoothing output layer, :math:`f_s(t) = \sum_k w_k f(t + kh)`.

    Args:
        apply: f.
        weights: w, (K,), K odd; the middle one is that of k = 0.

    Returns:
        f_s; h is the distance of the series' samples.
    """
    return lambda params, t: weights @ _nodes(apply, params, t, len(weights))


def moving_average(apply: Apply) -> Apply:
    """Equal weights."""
    return smoothed(apply, jnp.full(NODES, 1 / NODES))


def bounded_moving_average(apply: Apply) -> Apply:
    """Equal weights, of a function bounded so that differences obey L."""
    bound = STEEPEST * NODES / (2 * (SAMPLES - 1))
    return moving_average(lambda params, t: bound * jnp.tanh(apply(params, t)))


def gaussian(apply: Apply) -> Apply:
    """Normal weights of the moving average's variance."""
    k = jnp.arange(NODES) - NODES // 2
    return smoothed(apply, jax.nn.softmax(-jnp.square(k) / (2 * jnp.var(k))))


def learned_convolution(apply: Apply) -> Apply:
    """Few filters with a large kernel, all weights free, and their linear combination."""

    def convolved(params: Any, t: jax.Array) -> jax.Array:
        nodes = _nodes(apply, params["network"], t, params["filters"].shape[1])
        return params["mix"] @ (params["filters"] @ nodes)

    return convolved


def init_learned_convolution(key: jax.Array) -> dict[str, Any]:
    """Params of `learned_convolution`: three filters of as many nodes as the others."""
    filters = 1 / NODES + 0.1 * jax.random.normal(key, (3, NODES))
    return {
        "network": init_steep_network(key),
        "filters": filters,
        "mix": jnp.full(3, 1 / 3),
    }


def _nodes(apply: Apply, params: Any, t: jax.Array, num: int) -> jax.Array:
    offsets = (jnp.arange(num) - num // 2) / (SAMPLES - 1)
    return jax.vmap(lambda offset: apply(params, t + offset))(offsets)


def max_min_of_lines(params: dict[str, jax.Array], t: jax.Array) -> jax.Array:
    r"""No steeper than L by construction, and any such function in the limit.

    .. math::
        f(t) = \max_j \min_k \left( L \tanh(a_{jk})\, t + b_{jk} \right)

    with maxima and minima smoothed as logarithms of sums of exponentials, so that all
    lines learn; the slope is an average of the lines' slopes.

    Args:
        params: {"a", "b"}, each (groups, lines).
        t: (1,).

    Returns:
        Shape ().
    """
    lines = STEEPEST * jnp.tanh(params["a"]) * t[0] + params["b"]
    tents = -jax.nn.logsumexp(-SHARPNESS * lines, axis=1)
    return jax.nn.logsumexp(tents) / SHARPNESS


def init_lines(key: jax.Array) -> dict[str, jax.Array]:
    """Params of `max_min_of_lines`: 16 tents of 4 lines, their tops at random times."""
    slope, place = jax.random.split(key)
    a = jax.random.normal(slope, (16, 4))
    places = jax.random.uniform(place, (16, 1))
    return {"a": a, "b": -STEEPEST * jnp.tanh(a) * places}


def init_steep_network(key: jax.Array) -> list[dict[str, jax.Array]]:
    """A hidden layer of 32 steep steps at random times, able to follow the noise."""
    weights, places = jax.random.split(key)
    first, last = tabular.init_network(weights, (1, 32, 1))
    steps = jax.random.uniform(places, (32,), minval=-1, maxval=1)
    return [{"w": 10 * first["w"], "b": 10 * steps}, last]


def series_problem(seed: int = 0) -> Problem:
    """The noisy series, to be fitted by a function no steeper than L.

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
        (there, slope), fitted = _read(Partial(0), apply, params, _row(unseen), _row(t))
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
        constraints=lambda apply: _bound("slope", _slope_excess(apply)),
        trained=lambda apply: _bound("slope", tighten(_slope_excess(apply), MARGIN)),
        batch={
            "x": _row(t),
            "y": _row(y)[:, 0],
            "points": points.grid([0.0], [1.0], CHECKED),
        },
        score=score,
        lower=np.zeros(1),
        upper=np.ones(1),
    )


def field_problem(seed: int = 0) -> Problem:
    """The noisy field, to be fitted by a function whose Laplacian is at most C.

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
        (there, curved), fitted = _read(Laplacian(), apply, params, unseen, x)
        return {
            "RMSE to truth": _rms(there - truth),
            "fit RMSE": _rms(fitted - u),
            "largest Laplacian": float(jnp.max(jnp.abs(curved))),
        }

    return Problem(
        init=lambda key: tabular.init_network(key, (2, 32, 1)),
        apply=tabular.network,
        loss=_mean_squared_error,
        constraints=lambda apply: _bound("Laplacian", _laplacian_excess(apply)),
        trained=lambda apply: _bound(
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


def _row(values: np.ndarray) -> jax.Array:
    return jnp.asarray(values, jnp.float32)[:, None]


@partial(jax.jit, static_argnums=(0, 1))
def _read(
    wanted: Any, apply: Apply, params: Any, unseen: jax.Array, samples: jax.Array
) -> tuple[Any, jax.Array]:
    """Value and what is wanted at unseen points, and the value at the samples."""
    f = partial(apply, params)
    read = derivatives.derivatives(f, derivatives.Value(), wanted)
    return tuple(jax.vmap(read)(unseen)), jax.vmap(f)(samples)


def _rms(error: Any) -> float:
    return float(np.sqrt(np.mean(np.square(error))))


def _mean_squared_error(apply: Apply, params: Any, batch: Any) -> jax.Array:
    fitted = jax.vmap(partial(apply, params))(batch["x"])
    return jnp.mean(jnp.square(fitted - batch["y"]))


def _bound(name: str, excess: Any) -> Constraints:
    return Constraints(inequality={name: excess})


def _slope(apply: Apply) -> shapes.Pointwise:
    return shapes.Pointwise(apply, "points", (Partial(0),), lambda t, s: s / STEEPEST)


def _slope_excess(apply: Apply) -> shapes.Pointwise:
    return _slope(apply).map(lambda slope: jnp.abs(slope) - 1)


def _laplacian(apply: Apply) -> shapes.Pointwise:
    return shapes.Pointwise(
        apply, "points", (Laplacian(),), lambda x, bend: bend / CURVED
    )


def _laplacian_excess(apply: Apply) -> shapes.Pointwise:
    return _laplacian(apply).map(lambda laplacian: jnp.abs(laplacian) - 1)


def differences(apply: Apply) -> Callable[[Any, Any], jax.Array]:
    """The slope proxy: differences of consecutive outputs, in fractions of L h.

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
    """The Laplacian proxy: the five-point stencil on the grid, in fractions of C.

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


def _smoothness(name: str, measured: Callable[[Apply], Any]) -> Callable:
    """Problem -> problem that is trained towards zero of what is measured."""
    return lambda problem: problem._replace(
        trained=lambda apply: Constraints(equality={name: measured(apply)})
    )


def _proxy_bound(name: str, proxy: Callable[[Apply], Any]) -> Callable:
    """Problem -> problem that is trained with the bound on a proxy."""

    def excess(apply: Apply) -> Any:
        measured = proxy(apply)
        return lambda params, batch: jnp.abs(measured(params, batch)) - 1 + MARGIN

    return lambda problem: problem._replace(
        trained=lambda apply: _bound(name, excess(apply))
    )


def bounded_waves(params: dict[str, jax.Array], x: jax.Array) -> jax.Array:
    r"""Has a Laplacian of at most C by construction: harmonic waves and damped ones.

    .. math::
        u(x) = \sum_j v_j e^{p_j \cdot x} \cos(p_j^\perp \cdot x + c_j)
             + C \sum_k s_k \frac{\sin(w_k \cdot x + b_k)}{\|w_k\|^2}, \quad
        \|s\|_1 \le 1

    Args:
        params: {"p", "w"} (2, terms) and {"v", "c", "s", "b"} (terms,).
        x: (2,).

    Returns:
        Shape ().
    """
    across = jnp.stack([params["p"][1], -params["p"][0]])
    harmonic = jnp.exp(x @ params["p"]) * jnp.cos(x @ across + params["c"])
    share = params["s"] / jnp.maximum(1.0, jnp.sum(jnp.abs(params["s"])))
    curved = jnp.sin(x @ params["w"] + params["b"]) / jnp.sum(params["w"] ** 2, axis=0)
    return params["v"] @ harmonic + CURVED * (share @ curved)


def init_waves(key: jax.Array) -> dict[str, jax.Array]:
    """Params of `bounded_waves`: 8 terms of each kind, the curved ones a few waves long."""
    p, c, w, b = jax.random.split(key, 4)
    return {
        "p": jax.random.normal(p, (2, 8)),
        "c": jax.random.uniform(c, (8,), maxval=2 * np.pi),
        "v": jnp.zeros(8),
        "w": 2 * np.pi * jax.random.normal(w, (2, 8)),
        "b": jax.random.uniform(b, (8,), maxval=2 * np.pi),
        "s": jnp.zeros(8),
    }


def _adam() -> optax.GradientTransformation:
    # Not down to zero: multipliers move to the last step, and parameters must follow.
    return optax.adam(optax.cosine_decay_schedule(1e-2, STEPS, alpha=0.03))


def _layer(
    output: Callable[[Apply], Apply], watched: Callable, init: Any = None
) -> Method:
    """A network with another output; a proxy is watched meanwhile, for it costs little."""
    method = methods.by_construction(_adam(), output, init)
    return method._replace(change=lambda problem: watched(method.change(problem)))


def series_methods() -> dict[str, Method]:
    """Every method to a series that is not steep.

    Returns:
        Methods by name. "difference" ones see the samples only.
    """
    adam = _adam()
    radius = np.sqrt(STEEPEST / 2)

    def short_weights(params: Any) -> Any:
        # Twice the product of both norms is as steep as the network can be.
        project = partial(optax.projections.projection_l2_ball, scale=radius)
        return [{**layer, "w": project(layer["w"])} for layer in params]

    of_differences = _smoothness("difference", differences)
    of_slopes = _smoothness("slope", _slope)
    bound_differences = _proxy_bound("difference", differences)
    smoothness = methods.penalty(adam, STRENGTH, "absolute")
    return {
        "unconstrained": methods.unconstrained(adam),
        "moving average": _layer(moving_average, bound_differences),
        "bounded moving average": _layer(bounded_moving_average, bound_differences),
        "Gaussian": _layer(gaussian, bound_differences),
        "learned convolution": _layer(
            learned_convolution, bound_differences, init_learned_convolution
        ),
        "difference penalty": smoothness._replace(change=of_differences),
        "slope penalty": smoothness._replace(change=of_slopes),
        "difference bound, augmented": methods.augmented(adam, STRENGTH)._replace(
            change=bound_differences
        ),
        "bound, penalty": methods.penalty(adam, WEIGHT),
        "bound, lagrangian": methods.lagrangian(adam, STRENGTH),
        "bound, PI control": methods.pi_control(adam, STRENGTH),
        "bound, augmented": methods.augmented(adam, STRENGTH),
        "projection": methods.projected(adam, short_weights),
        "by construction": _layer(
            lambda apply: max_min_of_lines, bound_differences, init_lines
        ),
    }


def field_methods() -> dict[str, Method]:
    """Every method to a field that is not strongly curved.

    Returns:
        Methods by name. "stencil" ones see the grid only; there is no set of weights to
        project on.
    """
    adam = _adam()
    of_stencil = _smoothness("stencil", stencil)
    of_laplacians = _smoothness("Laplacian", _laplacian)
    bound_stencil = _proxy_bound("stencil", stencil)
    smoothness = methods.penalty(adam, STRENGTH)
    return {
        "unconstrained": methods.unconstrained(adam),
        "stencil penalty": smoothness._replace(change=of_stencil),
        "Laplacian penalty": smoothness._replace(change=of_laplacians),
        "stencil bound, augmented": methods.augmented(adam, STRENGTH)._replace(
            change=bound_stencil
        ),
        "bound, penalty": methods.penalty(adam, WEIGHT),
        "bound, lagrangian": methods.lagrangian(adam, STRENGTH),
        "bound, PI control": methods.pi_control(adam, STRENGTH),
        "bound, augmented": methods.augmented(adam, STRENGTH),
        "by construction": _layer(
            lambda apply: bounded_waves, bound_stencil, init_waves
        ),
    }


def smoothing(seed: int = 0) -> Iterator[Findings]:
    """Every method to a series that is not steep and a field that is not strongly curved.

    Args:
        seed: of the noise and of the initial parameters.

    Yields:
        `Findings` of the series, then of the field.
    """
    # A step on the field takes ten times as long: it is not swept.
    parts = (
        (series_problem(seed), series_methods(), (0.1, 10.0), draw_series, series_note),
        (field_problem(seed), field_methods(), (), draw_field, field_note),
    )
    titles = ("a series that is not steep", "a field that is not strongly curved")
    for title, (problem, tried, factors, draw, note) in zip(titles, parts):
        yield study(
            title,
            problem,
            tried,
            steps=STEPS,
            factors=factors,
            seed=seed,
            note=note,
            draw=partial(draw, problem),
        )


def exact(outcomes: dict[str, MethodEvaluation]) -> list[MethodEvaluation]:
    """Of methods that train on the bound of the exact derivative."""
    return [o for name, o in outcomes.items() if name.startswith("bound, ")]


def proxies(outcomes: dict[str, MethodEvaluation]) -> list[MethodEvaluation]:
    """Of methods that train on differences between samples."""
    return [o for name, o in outcomes.items() if name.startswith(PROXIES)]


def _worst(outcomes: Sequence[MethodEvaluation]) -> float:
    return max(outcome.violation for outcome in outcomes)


def _least(outcomes: Sequence[MethodEvaluation]) -> float:
    return min(outcome.violation for outcome in outcomes)


def series_note(outcomes: dict[str, MethodEvaluation]) -> str:
    """What the table of the series shows.

    Args:
        outcomes: by method.

    Returns:
        Two sentences.
    """
    free = outcomes["unconstrained"].scores
    layers = [outcomes[name] for name in ("moving average", "Gaussian")]
    removed = [1 - o.scores["steepest slope"] / free["steepest slope"] for o in layers]
    learned = outcomes["learned convolution"].scores["steepest slope"]
    best = min(exact(outcomes), key=lambda o: o.scores["RMSE to optimum"])
    return (
        f"Smoothing layers take {min(removed):.0%} to {max(removed):.0%} off a steepest "
        f"slope of {free['steepest slope']:.1f} and guarantee nothing: learned on the same "
        f"loss, a kernel comes to {learned:.1f}. Bounds on the exact slope leave at most "
        f"{_worst(exact(outcomes)):.2g} L too much, bounds and penalties on differences at "
        f"least {_least(proxies(outcomes)):.2g} L, between the samples where they do not "
        f"look; {best.name} ends {best.scores['RMSE to optimum']:.3f} from the exact "
        f"optimum, for a fit RMSE of {best.scores['fit RMSE']:.3f} instead of "
        f"{free['fit RMSE']:.3f}."
    )


def field_note(outcomes: dict[str, MethodEvaluation]) -> str:
    """What the table of the field shows.

    Args:
        outcomes: by method.

    Returns:
        Two sentences.
    """
    free = outcomes["unconstrained"].scores
    best = min(exact(outcomes), key=lambda o: o.scores["RMSE to truth"])
    bounds = [o for o in proxies(outcomes) if "bound" in o.name]
    return (
        f"The stencil sees neither the edge nor what is between its nodes: its bounds "
        f"leave a Laplacian at least {_least(bounds):.2g} C too large, those on the exact "
        f"Laplacian at most {_worst(exact(outcomes)):.2g} C. The error to the truth falls "
        f"from {free['RMSE to truth']:.3f} to {best.scores['RMSE to truth']:.3f}."
    )


def draw_series(
    problem: Problem, outcomes: Sequence[MethodEvaluation], path: Path
) -> None:
    """Fits and slopes of some methods, the forbidden slopes shaded.

    Args:
        problem: of the series.
        outcomes: of it.
        path: the PNG to write.
    """
    shown = {
        "unconstrained": "C3",
        "moving average": "C1",
        "difference bound, augmented": "C4",
        "bound, augmented": "C0",
        "by construction": "C2",
    }
    t = np.linspace(0, 1, 1001)
    samples, y = (np.asarray(problem.batch[name], float) for name in ("x", "y"))
    optimum, _ = lipschitz_regression(samples[:, 0], y, STEEPEST)
    figure = report.new_figure(12, 4.4)
    left, right = figure.add_subplot(1, 2, 1), figure.add_subplot(1, 2, 2)
    left.plot(samples, y, ".", color="0.6", label="samples")
    left.plot(samples, optimum, "k+", label="optimum")
    left.plot(t, series(t), "k:", label="truth")
    for outcome in outcomes:
        if outcome.name in shown:
            apply = outcome.method.change(problem).apply
            params = outcome.result.state.params
            (value, slope), _ = _read(Partial(0), apply, params, _row(t), _row(t))
            style: dict[str, Any] = {"color": shown[outcome.name], "lw": 1.2}
            left.plot(t, value, label=outcome.name, **style)
            label = f"{outcome.name}: {outcome.scores['steepest slope']:.1f}"
            right.plot(t, slope, label=label, **style)
    limit = 2.5 * STEEPEST
    for sign in (-1, 1):
        right.axhspan(sign * STEEPEST, sign * limit, color="C3", alpha=0.1, lw=0)
    right.set_ylim(-limit, limit)
    left.set(title="fit", xlabel="time")
    right.set(title=f"slope; steeper than {STEEPEST:g} is forbidden", xlabel="time")
    left.legend(fontsize=7)
    right.legend(fontsize=7, title="steepest", title_fontsize=7)
    figure.savefig(path, dpi=120)


def draw_field(
    problem: Problem, outcomes: Sequence[MethodEvaluation], path: Path
) -> None:
    """Fields and their Laplacians over the square, the violated region outlined.

    Args:
        problem: of the field.
        outcomes: of it.
        path: the PNG to write.
    """
    side = 121
    shown = ("unconstrained", "stencil bound, augmented", "bound, augmented")
    x = points.grid([0.0, 0.0], [1.0, 1.0], side)
    truth = field(np.asarray(x, float))
    waves = jnp.prod(jnp.cos(2 * np.pi * x), axis=1)
    pictures = [("truth", truth, -CURVED * waves)]
    for outcome in outcomes:
        if outcome.name in shown:
            apply, params = (
                outcome.method.change(problem).apply,
                outcome.result.state.params,
            )
            fitted, _ = _read(Laplacian(), apply, params, x, x)
            error = outcome.scores["RMSE to truth"]
            pictures.append((f"{outcome.name}\nRMSE to truth {error:.3f}", *fitted))
    figure = report.new_figure(12, 6)
    span: dict[str, Any] = {"origin": "lower", "extent": (0, 1, 0, 1)}
    for place, (title, u, laplacian) in enumerate(pictures):
        above = figure.add_subplot(2, len(pictures), place + 1)
        below = figure.add_subplot(2, len(pictures), place + 1 + len(pictures))
        high = np.abs(truth).max()
        top = above.imshow(_square(u), vmin=-high, vmax=high, cmap="viridis", **span)
        relative = _square(laplacian) / CURVED
        bottom = below.imshow(relative, vmin=-2, vmax=2, cmap="RdBu_r", **span)
        broken = np.abs(relative) > 1 + 1e-3
        if broken.any():
            below.contour(broken, levels=[0.5], colors="k", linewidths=0.8, **span)
        above.set_title(title, fontsize=9)
        below.set_title(f"|Laplacian| > C on {broken.mean():.1%}", fontsize=9)
        if place == len(pictures) - 1:
            figure.colorbar(top, ax=above, label="u")
            figure.colorbar(bottom, ax=below, label="Laplacian / C")
    figure.savefig(path, dpi=120)


def _square(values: Any) -> np.ndarray:
    """Values at points of a grid, as rows of a picture: the second input upwards."""
    side = round(len(values) ** 0.5)
    return np.asarray(values, float).reshape(side, side).T
