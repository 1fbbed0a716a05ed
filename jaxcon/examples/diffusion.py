r"""An inverse problem: one unknown constant behind averages over simulated paths.

Paths of a diffusion with drift, :math:`dX = \mu\, dt + \sigma\, dW`, are averaged at
times t to

.. math::
    k_j = \lambda\, m_j, \qquad m_j = \frac{1}{n} \sum_{i=1}^n x_{ij}^2, \qquad
    E\, m_j = (x_0 + \mu t_j)^2 + \sigma^2 t_j,

and lambda is to be found. In five parts, each with its truth:

- With paths and k at hand it is one number, :math:`\sum km / \sum m^2`. Every method that
  converges ends within a relative 1e-6 of it in float32; descent on raw numbers explodes.
- Taken for a function of x, constant, linear, cubic or a network, lambda is
  :math:`\tfrac12 k''(0)` of :math:`k(x) = \lambda(x)\, x^2`. Polynomials end within a
  relative 1e-5 of the constant, a network whose exact slope is held at zero within 1e-3;
  a free network fits k better than noise would show, and does not.
- A network of x alone, trained on k, learns :math:`E[k \mid x]`, within 2 % of its closed
  form, and never lambda.
- Under noise, the estimator's variance is within 15 % of the Cramér-Rao bound, and 95 %
  intervals cover the truth in 90 to 98 % of data sets.
- Without the paths, k alone gives lambda, mu and sigma if x0 = 1, within four standard
  errors; if x0 = 0, `identify` refuses: only lambda mu² and lambda sigma² can be known.
"""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree

from jaxcon import methods
from jaxcon.comparison import train
from jaxcon.constraints import Constraints
from jaxcon.derivatives import derivative, value_and_jacobian
from jaxcon.examples._example import Findings
from jaxcon.identifiability import Identification, cramer_rao_bound, identify
from jaxcon.primal_dual import Solver, alternating
from jaxcon.report import new_figure
from jaxcon.training import fit
from jaxcon.transforms import every, method_of_multipliers

LAMBDA = 1.7  # no power of two, by which rounding would be exact
START = 1.0  # x0
DRIFT = 0.5  # mu, per unit of time
VOLATILITY = 0.8  # sigma, per square root of a unit of time
TIMES = np.arange(1, 51) / 50
PATHS = 200
UNSEEN = 5000  # paths behind a k whose paths nobody saw
NOISE = 0.05  # standard deviation, in units of k
LAW = {"start": START, "drift": DRIFT, "volatility": VOLATILITY}


def simulate(
    key: jax.Array,
    times: jax.Array,
    *,
    start: float,
    drift: float,
    volatility: float,
    paths: int,
) -> jax.Array:
    r"""Paths of a diffusion with constant drift, by exact transitions.

    .. math::
        x_{j+1} = x_j + \mu\, \Delta_j + \sigma \sqrt{\Delta_j}\, z_j, \qquad
        z_j \sim N(0, 1)

    Args:
        key: a typed key.
        times: increasing, the first above 0, (m,).
        start: x0, at time 0.
        drift: mu, per unit of time.
        volatility: sigma, per square root of a unit of time.
        paths: n.

    Returns:
        Shape (m, n).
    """
    steps = jnp.diff(times, prepend=0.0)[:, None]
    shocks = jax.random.normal(key, (len(times), paths), steps.dtype)
    return start + jnp.cumsum(drift * steps + volatility * jnp.sqrt(steps) * shocks, 0)


def second_moments(
    times: jax.Array, start: Any, drift: Any, volatility: Any
) -> jax.Array:
    r"""What the mean of squared paths tends to as the paths grow many.

    .. math::
        E\, x_j^2 = (x_0 + \mu t_j)^2 + \sigma^2 t_j

    Args:
        times: (m,).
        start: x0.
        drift: mu, per unit of time.
        volatility: sigma, per square root of a unit of time.

    Returns:
        Shape (m,).
    """
    return (start + drift * times) ** 2 + volatility**2 * times


def moment_covariance(
    times: jax.Array, start: Any, drift: Any, volatility: Any, paths: int
) -> jax.Array:
    r"""The covariance of means of squares over n paths.

    .. math::
        C_{jl} = \frac{2 c_{jl}^2 + 4 a_j a_l c_{jl}}{n}, \qquad
        c_{jl} = \sigma^2 \min(t_j, t_l), \qquad a_j = x_0 + \mu t_j

    Args:
        times: (m,).
        start: x0.
        drift: mu, per unit of time.
        volatility: sigma, per square root of a unit of time.
        paths: n.

    Returns:
        Shape (m, m).
    """
    c = volatility**2 * jnp.minimum(times[:, None], times[None, :])
    a = start + drift * times
    return (2 * c**2 + 4 * jnp.outer(a, a) * c) / paths


def least_squares(k: jax.Array, m: jax.Array) -> jax.Array:
    r"""The constant that fits best.

    .. math::
        \hat\lambda = \frac{\sum_j k_j m_j}{\sum_j m_j^2}

    Args:
        k: observed averages, (m,).
        m: means of squared paths, (m,).

    Returns:
        Shape ().
    """
    return k @ m / (m @ m)


def conditional_mean(x: jax.Array, times: jax.Array, k: jax.Array) -> jax.Array:
    r"""What a network of one x alone can learn of k at most: its mean given x.

    .. math::
        E[k \mid x] = \frac{\sum_j w_j(x)\, k_j}{\sum_j w_j(x)}, \qquad
        w_j(x) = N(x;\; x_0 + \mu t_j,\; \sigma^2 t_j)

    where w is the density of x at time j, all times being equally likely, of the law
    that this example simulates.

    Args:
        x: places, (l,).
        times: (m,).
        k: at those times, (m,).

    Returns:
        Shape (l,).
    """
    mean, deviation = START + DRIFT * times, VOLATILITY * jnp.sqrt(times)
    log_w = jax.scipy.stats.norm.logpdf(x[:, None], mean[None, :], deviation[None, :])
    return jax.nn.softmax(log_w, axis=1) @ k


def diffusion(seed: int = 0) -> Iterator[Findings]:
    """All five parts, one after the other; about half a minute on two cores.

    Args:
        seed: of the simulations and of the networks' parameters.

    Yields:
        `Findings` of the constant, of functions of x, of the set-up that cannot work, of
        noise, and of paths that are not observed.
    """
    yield constant(seed)
    yield functions(seed)
    yield naive(seed)
    yield noisy(seed)
    yield unobserved(seed)


def mean_squared_error(params: Any, batch: Any) -> jax.Array:
    """Of k, by a constant lambda.

    Args:
        params: {"lambda": ()}.
        batch: "m" and "k", (m,) each.

    Returns:
        The mean of squares, ().
    """
    return jnp.mean((params["lambda"] * batch["m"] - batch["k"]) ** 2)


def data(key: jax.Array, unit: float = 1.0) -> dict[str, jax.Array]:
    """Noise-free averages and the paths that they are of.

    Args:
        key: a typed key.
        unit: what the paths are multiplied by, as if measured in other units.

    Returns:
        Paths "x" (m, n), their mean squares "m" (m,) and "k" (m,).
    """
    x = unit * simulate(key, jnp.asarray(TIMES), **LAW, paths=PATHS)
    m = jnp.mean(x**2, axis=1)
    return {"x": x, "m": m, "k": LAMBDA * m}


def normalised(batch: dict[str, jax.Array]) -> dict[str, jax.Array]:
    """The same data with m of root mean square one: lambda stays what it is.

    Args:
        batch: "m" and "k", (m,) each.

    Returns:
        Both, divided by the root mean square of m.
    """
    size = jnp.sqrt(jnp.mean(batch["m"] ** 2))
    return {"m": batch["m"] / size, "k": batch["k"] / size}


def descend(
    optimizer: optax.GradientTransformation, batch: Any, steps: int
) -> np.ndarray:
    """Lambda before each step of training on the squared error, from 0, (steps,).

    Unlike `jaxcon.fit`, which skips steps that are not finite, this takes them all.

    Args:
        optimizer: any optax optimizer.
        batch: "m" and "k", (m,) each.
        steps: how many.

    Returns:
        The path, (steps,); not finite from where it overflows.
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
    """Lambda as one trained number, in every method, from raw and from normalised data.

    Args:
        seed: as in `diffusion`.

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
        # Of all lambdas that obey, the one nearest to a first guess.
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
        # Every residual is lambda's error times m, up to its rounding.
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
    """The first step from which on all errors are below the tolerance, or infinity."""
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


def functions(seed: int = 0) -> Findings:
    """Lambda as a function of x, whose value at 0 is half the second derivative of k.

    Args:
        seed: as in `diffusion`.

    Returns:
        Its `Findings`.
    """
    batch = data(jax.random.key(seed))
    places = middle(batch["x"])
    batch = {"x": batch["x"], "k": batch["k"], "points": places}
    curves, rows = {}, []
    for name, (curve, init, held) in FAMILIES.items():
        params = _fitted(curve, init(jax.random.key(seed + 1)), held, batch)
        values = jax.vmap(partial(curve, params))(places)
        k = average(curve, params, batch["x"])
        curves[name] = np.asarray(values)
        rows.append(
            {
                "method": name,
                "half k''(0)": float(half_curvature(curve, params)),
                "worst error": float(jnp.max(jnp.abs(values / LAMBDA - 1))),
                "worst error of k": float(jnp.max(jnp.abs(k / batch["k"] - 1))),
                "standard error": float(error_at_zero(curve, params, held, batch)),
            }
        )
    known = {row["method"]: row["standard error"] for row in rows}
    return Findings(
        "a function of x",
        rows,
        "Errors are relative, that of lambda over the middle 98 % of x. The standard "
        f"error of lambda(0), if k had noise of {NOISE:g}, is the price of not knowing "
        "that lambda is a constant: x² gives what happens near 0 no weight, and there a "
        "network is free. With its exact slope held at zero the standard error is "
        f"{known['network, slope 0']:.4f}, beside {known['constant']:.4f} of a constant.",
        {
            "diffusion-functions": lambda path: _draw_curves(
                np.asarray(places), curves, ("x", "lambda(x)"), path
            )
        },
    )


def middle(x: jax.Array) -> jax.Array:
    """Fifty places that span the middle 98 % of all x, (50,)."""
    low, high = jnp.quantile(x, jnp.array([0.01, 0.99]))
    return jnp.linspace(low, high, 50)


def polynomial(params: Any, x: jax.Array) -> jax.Array:
    """Lambda of one x, by coefficients "c", that of the highest power first."""
    return jnp.polyval(params["c"], x)


def network(params: Any, x: jax.Array) -> jax.Array:
    """A number for one x, by one hidden layer."""
    return jnp.tanh(x * params["w"] + params["b"]) @ params["v"] + params["c"]


def network_params(key: jax.Array, width: int = 16) -> dict[str, jax.Array]:
    """Random parameters of `network`."""
    w, b, v = jax.random.normal(key, (3, width))
    return {"w": w, "b": b, "v": v / width, "c": jnp.zeros(())}


def flat(params: Any, batch: Any) -> jax.Array:
    """The network's slope at every point: zero where lambda is a constant."""
    return jax.vmap(derivative(partial(network, params)))(batch["points"])


# name: lambda as (params, x) -> (), (key) -> params, what is known of it.
FAMILIES: dict[str, tuple[Callable[..., jax.Array], Any, Constraints]] = {
    "constant": (polynomial, lambda key: {"c": jnp.zeros(1)}, Constraints()),
    "linear": (polynomial, lambda key: {"c": jnp.zeros(2)}, Constraints()),
    "cubic": (polynomial, lambda key: {"c": jnp.zeros(4)}, Constraints()),
    "network": (network, network_params, Constraints()),
    "network, slope 0": (network, network_params, Constraints({"flat": flat})),
}


def average(curve: Callable[..., jax.Array], params: Any, x: jax.Array) -> jax.Array:
    r"""k, if lambda is a function of x.

    .. math::
        \bar k_j = \frac{1}{n} \sum_i \lambda(x_{ij})\, x_{ij}^2

    Args:
        curve: (params, x ()) -> lambda ().
        params: of the curve.
        x: paths (m, n).

    Returns:
        Shape (m,).
    """
    return jnp.mean(jnp.vectorize(partial(curve, params))(x) * x**2, axis=1)


def half_curvature(curve: Callable[..., jax.Array], params: Any) -> jax.Array:
    r"""Lambda at 0 by way of k, through an exact derivative.

    .. math::
        \lambda(0) = \tfrac12 k''(0), \qquad k(x) = \lambda(x)\, x^2

    Args:
        curve: (params, x ()) -> lambda ().
        params: of the curve.

    Returns:
        Shape ().
    """
    second = derivative(lambda x: curve(params, x) * x**2, order=2)
    return second(jnp.zeros(())) / 2


def error_at_zero(
    curve: Callable[..., jax.Array], params: Any, held: Constraints, batch: Any
) -> jax.Array:
    """The standard error that noise in k would leave in lambda at 0.

    Lambda at 0 is made a parameter of its own, bound to the others by a constraint;
    what is known of the curve are more of them.

    Args:
        curve: (params, x ()) -> lambda ().
        params: of the curve.
        held: equality constraints that the curve is known to obey.
        batch: what they read, with paths "x".

    Returns:
        Shape (), in units of lambda; infinity where k does not determine it.
    """

    def residuals(both: Any) -> jax.Array:
        here = curve(both["curve"], jnp.zeros(())) - both["at 0"]
        known = [h(both["curve"], batch) for h in held.equality.values()]
        return jnp.concatenate([here[None], *known])

    def k(both: Any) -> jax.Array:
        return average(curve, both["curve"], batch["x"])

    @jax.jit
    def bound(both: Any) -> jax.Array:
        return cramer_rao_bound(k, both, NOISE, residuals)

    return jnp.sqrt(
        bound({"at 0": half_curvature(curve, params), "curve": params})[0, 0]
    )


def _fitted(
    curve: Callable[..., jax.Array], params: Any, held: Constraints, batch: Any
) -> Any:
    def loss(params: Any, batch: Any) -> jax.Array:
        return jnp.mean((average(curve, params, batch["x"]) / batch["k"] - 1) ** 2)

    dual = every(method_of_multipliers(), 50)
    solver = alternating(loss, held, optax.lbfgs(), dual, penalty=10.0)
    state = solver.init(params, batch)
    return fit(solver, state, batch, steps=300, progress=False).state.params


def _draw_curves(
    x: np.ndarray, curves: dict[str, np.ndarray], labels: tuple[str, str], path: Path
) -> None:
    figure = new_figure(7, 4)
    axes = figure.add_subplot()
    for name, curve in curves.items():
        axes.plot(x, curve, label=name)
    axes.set_xlabel(labels[0])
    axes.set_title(labels[1])
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=120)


def naive(seed: int = 0) -> Findings:
    """A network of x alone, trained on k: what it converges to is not lambda.

    Args:
        seed: as in `diffusion`.

    Returns:
        Its `Findings`.
    """
    times = jnp.asarray(TIMES)
    x = simulate(jax.random.key(seed), times, **LAW, paths=1000)
    k = LAMBDA * jnp.mean(x**2, axis=1)

    def loss(params: Any, batch: Any) -> jax.Array:
        outputs = jnp.vectorize(partial(network, params))(x)
        return jnp.mean((outputs - k[:, None]) ** 2)

    solver = alternating(loss, Constraints(), optax.lbfgs(), optax.set_to_zero())
    state = solver.init(network_params(jax.random.key(seed + 1)))
    params = fit(solver, state, steps=200, progress=False).state.params
    places = middle(x)
    curves = {
        "network": jax.vmap(partial(network, params))(places),
        "E[k | x]": conditional_mean(places, times, k),
        "lambda": jnp.full(places.shape, LAMBDA),
    }
    shown = np.array([0, 12, 25, 37, 49])
    rows = [
        {"method": name}
        | {f"x = {places[i]:.2f}": float(curve[i]) for i in shown}
        | {"mean": float(jnp.mean(curve))}
        for name, curve in curves.items()
    ]
    return Findings(
        "the set-up that cannot work",
        rows,
        "Squared error against k teaches a function of x the mean of k given x. Lambda is "
        "nowhere in that loss: the same data with lambda twice as large are told apart by "
        "k only. Given all paths of a time at once, the network would learn k itself.",
        {
            "diffusion-naive": lambda path: _draw_curves(
                np.asarray(places),
                {name: np.asarray(curve) for name, curve in curves.items()},
                ("x", "what a network of x learns from k"),
                path,
            )
        },
    )


def noisy(seed: int = 0) -> Findings:
    """Many data sets with noise on k, each simulated, trained and judged in one program.

    Args:
        seed: as in `diffusion`.

    Returns:
        Its `Findings`.
    """
    reached = jax.jit(jax.vmap(replicate))(jax.random.split(jax.random.key(seed), 200))
    many = jax.jit(lambda keys: jax.lax.map(replicate, keys, batch_size=200))(
        jax.random.split(jax.random.key(seed + 1), 2000)
    )
    rows = [
        {"method": f"{len(estimates)} data sets"} | judged(estimates, errors, bounds)
        for estimates, errors, bounds in (reached, many)
    ]
    return Findings(
        "noise",
        rows,
        "The variance of the trained lambda over the Cramér-Rao bound's, and how many of "
        "the reported 95 % intervals cover the truth. From 200 data sets the ratio is "
        "itself only known to 10 %.",
        {"diffusion-noise": lambda path: _draw_estimates(reached, many, path)},
    )


def replicate(key: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """One simulated data set: lambda trained on it, and what is said of its error.

    Args:
        key: a typed key.

    Returns:
        Estimate, standard error with the noise estimated from residuals, and the
        Cramér-Rao bound of the standard error, each of shape ().
    """
    for_paths, for_noise = jax.random.split(key)
    batch = data(for_paths)
    m = batch["m"]
    k = batch["k"] + NOISE * jax.random.normal(for_noise, m.shape, m.dtype)
    params = _stepped(
        alternating(
            mean_squared_error, Constraints(), optax.sgd(0.3), optax.set_to_zero()
        ),
        {"lambda": jnp.zeros(())},
        normalised({"m": m, "k": k}),
        steps=40,
    )

    def error(noise: Any) -> jax.Array:
        bound = cramer_rao_bound(lambda params: params["lambda"] * m, params, noise)
        return jnp.sqrt(bound[0, 0])

    left = k - params["lambda"] * m
    estimated = jnp.sqrt(jnp.sum(left**2) / (len(m) - 1))
    return params["lambda"], error(estimated), error(NOISE)


def _stepped(solver: Solver, params: Any, batch: Any, steps: int) -> Any:
    """Parameters after some steps; unlike `jaxcon.fit` it runs inside vmap."""

    def step(state: Any, _: None) -> tuple[Any, None]:
        return solver.step(state, batch)[0], None

    state, _ = jax.lax.scan(step, solver.init(params, batch), length=steps)
    return state.params


def judged(
    estimates: jax.Array, errors: jax.Array, bounds: jax.Array
) -> dict[str, float]:
    """How estimates of lambda scatter, against what is said of them.

    Args:
        estimates: of each data set, (r,).
        errors: the standard errors reported, (r,).
        bounds: standard errors by the Cramér-Rao bound, (r,).

    Returns:
        Mean and standard deviation of the estimates, their variance over the bound's, and
        the share of 95 % intervals (Student's t) that cover the truth.
    """
    from scipy.special import stdtrit

    quantile = float(stdtrit(len(TIMES) - 1, 0.975))
    covered = jnp.abs(estimates - LAMBDA) <= quantile * errors
    return {
        "mean": float(jnp.mean(estimates)),
        "standard deviation": float(jnp.std(estimates, ddof=1)),
        "variance / bound": float(jnp.var(estimates, ddof=1) / jnp.mean(bounds**2)),
        "covered": float(jnp.mean(covered)),
    }


def _draw_estimates(reached: Any, many: Any, path: Path) -> None:
    figure = new_figure(7, 4)
    axes = figure.add_subplot()
    bound = float(jnp.sqrt(jnp.mean(many[2] ** 2)))
    for estimates, _, _ in (many, reached):
        axes.hist(
            np.asarray(estimates),
            bins=30,
            density=True,
            alpha=0.5,
            label=f"{len(estimates)} data sets",
        )
    x = np.linspace(LAMBDA - 4 * bound, LAMBDA + 4 * bound, 200)
    density = np.exp(-(((x - LAMBDA) / bound) ** 2) / 2) / bound / np.sqrt(2 * np.pi)
    axes.plot(x, density, color="black", label="Cramér-Rao bound")
    axes.set_xlabel("estimate of lambda")
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=120)


def unobserved(seed: int = 0) -> Findings:
    """Only k, of many paths that nobody saw: what can be known of lambda, mu and sigma.

    Args:
        seed: as in `diffusion`.

    Returns:
        Its `Findings`.
    """
    times = jnp.asarray(TIMES)
    find = jax.jit(recovered)
    rows, found = [], []
    for start, guess in ((1.0, 1.0), (0.0, 1.0), (0.0, 0.3), (0.0, 4.0)):
        k = unseen(jax.random.key(seed), start)
        params, noise = find(k, start, {"lambda": guess, "mu": 1.0, "sigma": 1.0})
        found.append(identify(partial(law, times, start), params, noise))
        name = f"x0 = {start:g}, from lambda {guess:g}"
        rows.append({"method": name} | _said(found[-1]))
    many, covered = repeated(jax.random.split(jax.random.key(seed + 1), 200))
    shares = ", ".join(f"{name} in {share:.1%}" for name, share in covered.items())
    first, *_, last = found
    blur = rows[0]["error of sigma"] / rows[0]["sigma"]
    return Findings(
        "unobserved paths",
        rows,
        f"x0 = 1: {first}\n"
        f"Of 200 data sets, 95 % intervals cover {shares}. They are exact for small "
        f"errors only; sigma's standard error above is {blur:.0%} of sigma.\n"
        f"x0 = 0: {last}\n"
        "Where a fit then ends depends on where it began; the two products do not.",
        {"diffusion-unobserved": lambda path: _draw_unobserved(many, rows, path)},
    )


def law(times: jax.Array, start: float, params: Any) -> jax.Array:
    """The expected k of lambda, mu and sigma, (m,)."""
    moments = second_moments(times, start, params["mu"], params["sigma"])
    return params["lambda"] * moments


def scatter(times: jax.Array, start: float, params: Any) -> jax.Array:
    """The covariance of k around its law: of finitely many paths, and of noise, (m, m)."""
    paths = moment_covariance(times, start, params["mu"], params["sigma"], UNSEEN)
    return params["lambda"] ** 2 * paths + NOISE**2 * jnp.eye(len(times))


def unseen(key: jax.Array, start: float) -> jax.Array:
    """Noisy k of paths that are then forgotten, (m,)."""
    for_paths, for_noise = jax.random.split(key)
    times = jnp.asarray(TIMES)
    x = simulate(for_paths, times, **(LAW | {"start": start}), paths=UNSEEN)
    k = LAMBDA * jnp.mean(x**2, axis=1)
    return k + NOISE * jax.random.normal(for_noise, k.shape, k.dtype)


def recovered(k: jax.Array, start: Any, guess: Any) -> tuple[Any, jax.Array]:
    r"""Parameters by Gauss-Newton steps, with the covariance that k has at the last ones.

    .. math::
        \theta \leftarrow \theta + (L^{-1} J)^+ L^{-1} (k - f(\theta)), \qquad
        L L^T = S(\theta)

    Where J has no full rank, the shortest step is taken.

    Args:
        k: observed, (m,).
        start: x0.
        guess: where to begin.

    Returns:
        Parameters, and the covariance of k (m, m).
    """
    times = jnp.asarray(TIMES)
    theta, unravel = ravel_pytree(guess)

    def step(theta: jax.Array, _: None) -> tuple[jax.Array, None]:
        predicted, slopes = value_and_jacobian(
            lambda theta: law(times, start, unravel(theta))
        )(theta)
        lower = jnp.linalg.cholesky(scatter(times, start, unravel(theta)))
        whiten = partial(jax.scipy.linalg.solve_triangular, lower, lower=True)
        solved = jnp.linalg.lstsq(whiten(slopes), whiten(k - predicted), rcond=1e-4)
        return theta + solved[0], None

    theta, _ = jax.lax.scan(step, theta, length=30)
    params = unravel(theta)
    return params, scatter(times, start, params)


def _said(found: Identification) -> dict[str, float]:
    values = {name: float(v) for name, v in zip(found.names, found.estimate)}
    errors = found.standard_errors
    return (
        values
        | {f"error of {name}": errors.get(name, np.inf) for name in values}
        | {
            f"lambda {name}²": values["lambda"] * values[name] ** 2
            for name in ("mu", "sigma")
        }
    )


def repeated(keys: jax.Array) -> tuple[dict[str, jax.Array], dict[str, float]]:
    """Parameters of many data sets with x0 = 1, and what their errors are worth.

    Args:
        keys: typed keys, (r,).

    Returns:
        Parameters, each (r,), and of each the share of 95 % intervals that cover it.
    """
    truth = {"lambda": LAMBDA, "mu": DRIFT, "sigma": VOLATILITY}

    def one(key: jax.Array) -> tuple[Any, jax.Array]:
        guess = {"lambda": 1.0, "mu": 1.0, "sigma": 1.0}
        params, noise = recovered(unseen(key, START), START, guess)
        bound = cramer_rao_bound(partial(law, jnp.asarray(TIMES), START), params, noise)
        return params, jnp.sqrt(jnp.diag(bound))

    params, errors = jax.jit(partial(jax.lax.map, one, batch_size=20))(keys)
    return params, {
        name: float(jnp.mean(jnp.abs(params[name] - truth[name]) <= 1.96 * error))
        for name, error in zip(sorted(truth), errors.T)
    }


def _draw_unobserved(many: Any, rows: Any, path: Path) -> None:
    figure = new_figure(7, 4)
    axes = figure.add_subplot()
    cloud = {name: np.asarray(values) for name, values in many.items()}
    axes.scatter(cloud["lambda"], cloud["sigma"], s=6, label="x0 = 1, 200 data sets")
    blind = [row for row in rows if np.isinf(row["error of lambda"])]
    line = np.geomspace(0.4, 5, 100)
    axes.plot(
        line,
        np.sqrt(blind[0]["lambda sigma²"] / line),
        color="0.6",
        label="x0 = 0: the same k all along",
    )
    ends = [(row["lambda"], row["sigma"]) for row in blind]
    axes.scatter(*zip(*ends), color="C3", label="x0 = 0, three fits to one data set")
    axes.scatter(LAMBDA, VOLATILITY, color="black", marker="+", s=100, label="truth")
    axes.set_xlabel("lambda")
    axes.set_title("sigma")
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=120)
