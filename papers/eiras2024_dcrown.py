r"""Eiras et al., certified errors of physics-informed networks, ∂-CROWN (ICML 2024).

Claim     The worst residual of a trained network over its whole domain can be bounded, and
          tightly, for Burgers' and three other equations; so can the errors of its initial
          and boundary values. Points alone, however many, are no grounds for use (the
          abstract).
Equation  Burgers' equation on 0 <= t <= 1, -1 <= x <= 1, with u = -sin(pi x) at t = 0 and
          u = 0 at x = -1 and 1:

          .. math:: u_t + u u_x - \frac{0.01}{\pi} u_{xx} = 0

Measured  A tanh network of 8 layers of 20, trained here by L-BFGS at points drawn where the
          residual is large. `jc.certify.residual_bound` proves the largest squared residual
          on the whole domain and the largest squared errors of the initial and boundary
          values; beside them stand the largest of a million samples. Then a step that is
          not theirs: on Poisson's equation with a known solution, `jc.certify.error_bound`
          turns the bounds into one of the error itself, beside the true error.
Command   python -m papers.eiras2024_dcrown [--minutes 8] [--quick] [--figure PATH]
Recorded  2026-12-01, --minutes 4, beside other work: the squared residual is at most
          0.02166 on the whole domain, 1.005 times the largest of a million samples. The
          squared errors at t = 0 and at x = -1 and 1 are within 1.003 and 1.002 times the
          largest sampled. The error on Poisson's equation is at most 0.0155, the largest
          sampled 0.0065; residual and boundary error are each proved within 1 %.
"""

import argparse
import math
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from scipy.optimize import minimize

import jaxcon as jc
from jaxcon.derivatives import Gradient, Laplacian, Partial, Value, value_and_grad
from papers import _table
from papers._table import Conditions, Spread, Verdict

SUBJECT = (
    "Eiras, Bibi, Bunel, Dvijotham, Torr and Kumar, Efficient Error Certification for "
    "Physics-Informed Neural Networks, ICML 2024"
)

# Burgers' equation: inputs are (t, x).
LOWER, UPPER = np.array([0.0, -1.0]), np.array([1.0, 1.0])
VISCOSITY = 0.01 / math.pi
# Poisson's: the unit square.
SQUARE = np.zeros(2), np.ones(2)
# Of the squared errors of values given, beside the mean squared residual.
WEIGHT = 10.0
# Candidates for each point that is drawn where the residual is large.
CANDIDATES = 20


class Size(NamedTuple):
    """How much is run.

    Attributes:
        layers: hidden ones, of the network for Burgers' equation.
        width: of each.
        rounds: of L-BFGS, each at new points.
        iterations: of a round.
        points: where the residual is made small.
        samples: that the bounds stand beside.
        minutes: of the residual's proof.
        seconds: of each of the others.
        poisson: layers, width, rounds, iterations and points for Poisson's equation.
    """

    layers: int = 8
    width: int = 20
    rounds: int = 6
    iterations: int = 600
    points: int = 4000
    samples: int = 1_000_000
    minutes: float = 8.0
    seconds: float = 60.0
    poisson: tuple[int, int, int, int, int] = (2, 12, 2, 500, 1000)


QUICK = Size(2, 6, 2, 60, 300, 10_000, 0.1, 5.0, (1, 8, 1, 60, 200))


class Fit(NamedTuple):
    """A trained network.

    Attributes:
        params: layers of `network`.
        gradients: that it took.
    """

    params: Any
    gradients: int


def network(params: Any, x: jax.Array) -> jax.Array:
    """Tanh layers at x (2,), ()."""
    for layer in params[:-1]:
        x = jnp.tanh(x @ layer["w"] + layer["b"])
    return (x @ params[-1]["w"] + params[-1]["b"])[0]


def init(key: jax.Array, layers: int, width: int) -> Any:
    """Glorot's weights, no biases.

    Args:
        key: of the random numbers.
        layers: hidden ones.
        width: of each.

    Returns:
        Layers of `network`.
    """
    sizes = [2, *[width] * layers, 1]
    return [
        {"w": jax.random.normal(k, (n, m)) * math.sqrt(2 / (n + m)), "b": jnp.zeros(m)}
        for k, n, m in zip(jax.random.split(key, layers + 1), sizes, sizes[1:])
    ]


# The equations, each residual with its boundary values.


def burgers(x: jax.Array, u: jax.Array, slope: jax.Array, bend: jax.Array) -> jax.Array:
    """Burgers' equation of u, its gradient and its second derivative in x, ()."""
    return slope[0] + u * slope[1] - VISCOSITY * bend


def started(x: jax.Array) -> jax.Array:
    """Values of Burgers' equation at t = 0, and, but for roundings of pi, at the ends."""
    return -jnp.sin(jnp.pi * x[1])


def solution(x: jax.Array) -> jax.Array:
    """The solution of Poisson's equation, ()."""
    return jnp.sin(jnp.pi * x[0]) * jnp.sin(jnp.pi * x[1])


def poisson(x: jax.Array, laplacian: jax.Array) -> jax.Array:
    """Poisson's equation of u, by its Laplacian, ()."""
    return -laplacian - 2 * jnp.pi**2 * solution(x)


BURGERS = jc.shapes.Pointwise(
    network, None, (Value(), Gradient(), Partial((1, 1))), burgers
)
POISSON = jc.shapes.Pointwise(network, None, (Laplacian(),), poisson)
EDGE = jc.shapes.equals(network, solution)


def at_start(params: Any, x: jax.Array) -> jax.Array:
    """The network at t = 0 and a place x (1,), ()."""
    return network(params, jnp.stack([jnp.zeros_like(x[0]), x[0]]))


def at_ends(params: Any, t: jax.Array) -> jax.Array:
    """The network at both ends and a time t (1,), (2,)."""
    one = jnp.ones_like(t[0])
    ends = [jnp.stack([t[0], side * one]) for side in (-1.0, 1.0)]
    return jnp.stack([network(params, end) for end in ends])


START = jc.shapes.equals(at_start, lambda x: -jnp.sin(jnp.pi * x[0]))
ENDS = jc.shapes.equals(at_ends, lambda t: jnp.zeros(2, t.dtype))


def edge_points(faces: tuple[int, ...], lower: Any, upper: Any, n: int) -> np.ndarray:
    """Even points on some faces of a rectangle.

    Args:
        faces: 0 and 1 for the first input at its lower and upper end, 2 and 3 for the
            second's.
        lower: lower corner.
        upper: upper corner.
        n: on each.

    Returns:
        Points, (n faces, 2).
    """
    parts = []
    for face in faces:
        place, above = divmod(face, 2)
        points = np.stack([np.linspace(*ends, n) for ends in zip(lower, upper)], 1)
        points[:, place] = (upper if above else lower)[place]
        parts.append(points)
    return np.concatenate(parts)


# Training.


def residuals(residual: Any) -> Callable[[Any, jax.Array], jax.Array]:
    """The residual of a network at points (n, 2), compiled, (n,)."""
    return jax.jit(lambda params, points: jnp.ravel(residual(params, points)))


def fit(
    residual: Any,
    given: Callable[[jax.Array], jax.Array],
    faces: tuple[int, ...],
    box: tuple[Any, Any],
    size: tuple[int, int, int, int, int],
    seed: int = 0,
) -> Fit:
    """Mean squares of the residual and of the values given, by SciPy's L-BFGS-B.

    Each round goes on at points drawn with a density of one plus the residual, in units
    of its mean: what matters later is the worst point.

    Args:
        residual: a `Pointwise` on `network`.
        given: values on the faces.
        faces: as for `edge_points`.
        box: both corners.
        size: layers, width, rounds, iterations and points.
        seed: of the random numbers.

    Returns:
        A `Fit`.
    """
    layers, width, rounds, iterations, n = size
    keys = iter(jax.random.split(jax.random.key(seed), 2 * rounds + 2))
    edge = jnp.asarray(edge_points(faces, *box, max(n // 20, 10)))
    data = {"x": edge, "u": jax.vmap(given)(edge)}
    theta, unravel = ravel_pytree(init(next(keys), layers, width))

    def square(params: Any, example: Any) -> jax.Array:
        return residual(params, example["x"][None])[0] ** 2

    def missed(params: Any, example: Any) -> jax.Array:
        return (network(params, example["x"]) - example["u"]) ** 2

    @jax.jit
    def loss(theta: jax.Array, points: jax.Array) -> tuple[jax.Array, jax.Array]:
        params = unravel(theta)
        inner, slope = value_and_grad(square)(params, {"x": points})
        outer, other = value_and_grad(missed)(params, data)
        both = jax.tree.map(lambda a, b: a + WEIGHT * b, slope, other)
        return inner + WEIGHT * outer, ravel_pytree(both)[0]

    def called(theta: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = loss(jnp.asarray(theta), points)
        return float(value), np.asarray(gradient)

    of = residuals(residual)
    theta, points, gradients = np.asarray(theta), None, 0
    for _ in range(rounds):
        some = jc.points.uniform(next(keys), *box, CANDIDATES * n)
        density = None
        if points is not None:
            sizes = jnp.abs(of(unravel(jnp.asarray(theta)), some))
            density = 1 + sizes / jnp.mean(sizes)
            density = density / jnp.sum(density)
        points = jax.random.choice(next(keys), some, (n,), replace=False, p=density)
        found = minimize(
            called,
            theta,
            jac=True,
            method="L-BFGS-B",
            options={
                "maxiter": iterations,
                "maxfun": 2 * iterations,
                "maxcor": 50,
                "ftol": 0.0,
                "gtol": 1e-12,
            },
        )
        theta, gradients = found.x, gradients + found.nfev
    return Fit(unravel(jnp.asarray(theta)), gradients)


# The numbers.

PROVED, SAMPLED, RATIO = "proved", "largest sampled", "proved / sampled"
SECONDS = "seconds"
RESIDUAL = "Burgers: squared residual"
INITIAL = "Burgers: squared error at t = 0"
SIDES = "Burgers: squared error at x = -1 and 1"
INNER = "Poisson: residual"
OUTER = "Poisson: error on the boundary"
ERROR = "Poisson: error"
COLUMNS = PROVED, SAMPLED, RATIO
ROWS = {
    RESIDUAL: (*COLUMNS, SECONDS),
    INITIAL: COLUMNS,
    SIDES: COLUMNS,
    INNER: COLUMNS,
    OUTER: COLUMNS,
    ERROR: (*COLUMNS, SECONDS),
}
# Its tables were not at hand.
CLAIMED: _table.Claimed = {
    row: {column: None for column in columns} for row, columns in ROWS.items()
}


def largest(
    f: Callable[[jax.Array], jax.Array], lower: Any, upper: Any, samples: int
) -> float:
    """The largest absolute value of a function at random points of a box.

    Args:
        f: of one x (d,), () or (m,).
        lower: lower corner.
        upper: upper corner.
        samples: how many.

    Returns:
        The largest.
    """
    part = min(samples, 10_000)

    def some(key: jax.Array) -> jax.Array:
        points = jc.points.uniform(key, lower, upper, part)
        return jnp.max(jnp.abs(jax.vmap(f)(points)))

    keys = jax.random.split(jax.random.key(1), -(-samples // part))
    return float(jnp.max(jax.jit(partial(jax.lax.map, some))(keys)))


def row(proved: float, sampled: float) -> dict[str, Spread | None]:
    """A proved bound and what was sampled, with their ratio."""
    return dict(zip(COLUMNS, map(Spread, (proved, sampled, proved / sampled))))


def on_burgers(fitted: Fit, size: Size) -> _table.Measured:
    """What is proved of the network for Burgers' equation.

    Args:
        fitted: the network.
        size: how much.

    Returns:
        Rows, all of squares.
    """
    measured: _table.Measured = {}
    params = fitted.params
    for name, rule, box, budget in (
        (RESIDUAL, BURGERS, (LOWER, UPPER), 60 * size.minutes),
        (INITIAL, START, (LOWER[1:], UPPER[1:]), size.seconds),
        (SIDES, ENDS, (LOWER[:1], UPPER[:1]), size.seconds),
    ):
        began = time.perf_counter()
        found = jc.certify.residual_bound(rule, *box, params=params, budget=budget)
        seconds = time.perf_counter() - began
        sampled = largest(
            lambda x, rule=rule: rule(params, x[None]), *box, size.samples
        )
        measured[name] = row(found.bound**2, sampled**2)
        if SECONDS in ROWS[name]:
            measured[name][SECONDS] = Spread(seconds)
    return measured


def on_poisson(fitted: Fit, size: Size) -> _table.Measured:
    """What is proved of the network for Poisson's equation, its error among it.

    Args:
        fitted: the network.
        size: how much.

    Returns:
        Rows.
    """
    params, samples = fitted.params, size.samples
    began = time.perf_counter()
    found = jc.certify.error_bound(
        jc.certify.Poisson(),
        POISSON,
        EDGE,
        *SQUARE,
        params=params,
        budget=size.seconds,
    )
    seconds = time.perf_counter() - began

    def around(s: jax.Array) -> jax.Array:
        places = [
            jnp.stack([s[0], end] if first else [end, s[0]])
            for end in (jnp.zeros_like(s[0]), jnp.ones_like(s[0]))
            for first in (True, False)
        ]
        return jnp.ravel(EDGE(params, jnp.stack(places)))

    inner = largest(lambda x: POISSON(params, x[None]), *SQUARE, samples)
    error = largest(lambda x: EDGE(params, x[None]), *SQUARE, samples)
    edge = largest(around, np.zeros(1), np.ones(1), samples)
    return {
        INNER: row(found.residual, inner),
        OUTER: row(found.boundary, edge),
        # The error is largest inside or on the boundary.
        ERROR: {**row(found.bound, max(error, edge)), SECONDS: Spread(seconds)},
    }


def measure(*, size: Size = Size()) -> tuple[_table.Measured, int]:  # noqa: B008
    """Both networks, trained and bounded.

    Args:
        size: how much.

    Returns:
        The measured table, and how many gradients training took.
    """
    jax.config.update("jax_enable_x64", True)
    first = fit(BURGERS, started, (0, 2, 3), (LOWER, UPPER), size[:5])
    second = fit(POISSON, solution, (0, 1, 2, 3), SQUARE, size.poisson)
    measured = on_burgers(first, size) | on_poisson(second, size)
    return measured, first.gradients + second.gradients


def smoke() -> _table.Measured:
    """Everything, in half a minute: small networks and small budgets."""
    return measure(size=QUICK)[0]


# As `measure` returned it, by the columns of `ROWS`.
RECORDED: dict[str, tuple[float, ...]] = {
    RESIDUAL: (0.02166, 0.02154, 1.005, 48.06),
    INITIAL: (0.0002864, 0.0002855, 1.003),
    SIDES: (1.535e-06, 1.532e-06, 1.002),
    INNER: (0.07136, 0.07089, 1.007),
    OUTER: (0.006537, 0.006521, 1.003),
    ERROR: (0.01546, 0.006521, 2.370, 81.79),
}
MEASURED: _table.Measured = {
    name: dict(zip(ROWS[name], map(Spread, numbers)))
    for name, numbers in RECORDED.items()
}
CONDITIONS = Conditions(
    "2026-12-01", "jax 0.12.0.1, Python 3.12.1", "2 CPU cores", 641, 5071
)

DIFFERENCES = (
    "CLAIMED is empty: of the paper its abstract and its setting were at hand, its tables "
    "were not, so no number of theirs is printed, and how tight 'tight' is there is not "
    "known. The factor of 3 is ours.",
    "The network is trained here: theirs was not at hand. Points are drawn where the "
    "residual is large, so that its worst is smaller; this does not make proofs easier.",
    "They bound by linear relaxations, propagated backwards, and split greedily; "
    "here boxes are enclosed by forms linear in (t, x), with all roundings counted, and "
    "those of the largest bounds are split first, until the time is over.",
    "The other equations, Schrödinger's, Allen and Cahn's and diffusion with sorption, are "
    "not repeated.",
    "The bound of Poisson's error is not theirs: the maximum principle with the proved "
    "bounds of residual and boundary.",
)


def verdicts(measured: _table.Measured) -> list[Verdict]:
    """What stands of their claim, and of ours.

    Args:
        measured: a table with the keys of `CLAIMED`.

    Returns:
        Verdicts.
    """
    of = partial(_table.number, measured)

    def told(name: str) -> str:
        bound, seen, ratio = (of(name, column).mean for column in COLUMNS)
        return f"{bound:.4g} proved, {seen:.4g} sampled, a factor of {ratio:.4g}"

    ratio, seconds = of(RESIDUAL, RATIO).mean, of(RESIDUAL, SECONDS).mean
    near = [of(name, RATIO).mean for name in (INITIAL, SIDES)]
    error = of(ERROR, RATIO).mean
    return [
        Verdict(
            "the largest squared residual on the whole domain can be bounded tightly (our "
            "reading: within 3 times the largest sampled, in 15 minutes on two cores)",
            f"{'' if ratio <= 3 else 'short: '}{told(RESIDUAL)}, in {seconds:.0f} s",
            ratio <= 3 and seconds <= 15 * 60,
        ),
        Verdict(
            "so can the squared errors of initial and boundary values (within 1 %)",
            f"{'' if max(near) <= 1.01 else 'short: '}{told(INITIAL)}; {told(SIDES)}",
            max(near) <= 1.01,
        ),
        Verdict(
            "ours: a bound of the error itself, of Poisson's equation (above the true "
            "error, and within 10 times of it)",
            f"{'' if error <= 10 else 'short: '}{told(ERROR)}",
            1 <= error <= 10,
        ),
    ]


def figure(path: str) -> None:
    """Proved bounds beside what was sampled, as recorded.

    Args:
        path: the image to write.

    Raises:
        ImportError: matplotlib is not installed.
    """
    image = jc.report.new_figure(8, 4)
    axes = image.add_subplot()
    for column, mark in ((PROVED, "_"), (SAMPLED, ".")):
        heights = [_table.number(MEASURED, name, column).mean for name in ROWS]
        axes.plot(range(len(ROWS)), heights, mark, label=column, markersize=12)
    axes.set_yscale("log")
    axes.set_xticks(range(len(ROWS)), [name.replace(": ", "\n") for name in ROWS])
    axes.tick_params(axis="x", labelsize=7)
    axes.legend()
    image.savefig(path, dpi=120)


def main() -> None:
    """Runs the command: measures again, prints all, draws if asked to."""
    parser = argparse.ArgumentParser(description=SUBJECT)
    parser.add_argument(
        "--minutes",
        type=float,
        help=f"of the residual's proof (default {Size().minutes:g})",
    )
    parser.add_argument("--quick", action="store_true", help="small networks, seconds")
    parser.add_argument("--figure", metavar="PATH", help="draw it there as well")
    given = parser.parse_args()
    size = QUICK if given.quick else Size()
    if given.minutes is not None:
        size = size._replace(minutes=given.minutes)
    began = time.perf_counter()
    measured, gradients = measure(size=size)
    conditions = _table.here(time.perf_counter() - began, gradients)
    judged = verdicts(measured)
    print(_table.report(SUBJECT, CLAIMED, measured, conditions, judged, DIFFERENCES))
    if given.figure:
        figure(given.figure)


if __name__ == "__main__":
    sys.exit(main())
