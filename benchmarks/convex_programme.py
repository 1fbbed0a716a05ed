"""Can a network answer quadratic programmes and obey every one of their constraints?

Question     min ½ z.Qz + p.z  s.t.  A z = x, G z <= h for any x, by a network that ends in
             the projection onto the constraints and is trained on the objective alone:
             how far from the optimum is it, and what do its answers violate?
Conditions   The convex family of Donti et al., DC3 (2021): 100 variables, 50 equations, 50
             inequalities, Q diagonal, 10,000 x from numpy's seed 17; the last 833 are the
             test set, the 833 before it unused, 8,334 train. 2 x 200 ReLU, the last line
             `layers.polyhedron`; loss the objective of projected outputs; Adam, one
             cosine cycle to 1e-2, 50 epochs of batches of 512 (800 steps), float32. The
             parameters then answer in float64 and in float32. Optima by OSQP to 1e-9.
             Violations are the largest of all rows and all 833 instances, in float64;
             multipliers: the largest error of those of the inequalities that fit an
             answer best, by non-negative least squares on the rows active to 1e-6.
Run          python -m benchmarks.convex_programme
Last         2026-11-21, jax 0.12.0, two CPU cores shared with five other programs:

             optimum -15.0469, largest multiplier 0.2566
             training 625 s
             answers   objective     gap worst gap   max |h|      max g multipliers  seconds
             float64    -14.9762   0.47%     1.75%   1.6e-14    1.8e-14      0.0262    2.424
             float32    -14.9762   0.47%     1.75%   6.3e-06    7.9e-06      0.2566    0.747

Conclusion   Half a percent above the optimum, everything obeyed to rounding on every
             instance in float64. DC3 is printed with -13.46, 10.5 % above, and violations
             of 2e-13 and 2e-4 (means over instances of the worst row). In float32 rows
             are off by more than the 1e-6 that says which are active: the multipliers read
             off there are not to be trusted.
"""

import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxcon.layers._polyhedra import Polyhedron, polyhedron

VARIABLES, ROWS, INSTANCES, TESTED = 100, 50, 10_000, 833
EPOCHS, BATCH, RATE, WARM_UP = 50, 512, 1e-2, 0.1


class Programme(NamedTuple):
    """A family of convex quadratic programmes, one for each x.

    Attributes:
        Q: the diagonal of the objective's matrix, (m,).
        p: its linear term, (m,).
        A: of the equations A z = x, (k, m).
        G: of the inequalities G z <= h, (q, m).
        h: their bounds, (q,).
        x: right-hand sides of the equations, (n, k); the last 833 are for tests.
    """

    Q: Any
    p: Any
    A: Any
    G: Any
    h: Any
    x: Any

    def objective(self, z: Any) -> Any:
        """½ z.Qz + p.z of each z (..., m)."""
        return (z * z) @ self.Q / 2 + z @ self.p

    def layer(self) -> Polyhedron:
        """The projection onto the constraints, as a network's last line."""
        lower = np.full(len(self.h), -np.inf)
        return polyhedron(self.A, lambda x: x, self.G, lower, self.h)


def programme(
    variables: int = VARIABLES, rows: int = ROWS, instances: int = INSTANCES
) -> Programme:
    """The programmes of Donti et al., from the seed of their script.

    Each is feasible: the pseudo-inverse of A times x is, as no entry of x exceeds 1.

    Args:
        variables: m.
        rows: equations, and as many inequalities.
        instances: n.
    """
    draw = np.random.RandomState(17)
    Q, p = draw.random_sample(variables), draw.random_sample(variables)
    A = draw.normal(size=(rows, variables))
    x = draw.uniform(-1, 1, (instances, rows))
    G = draw.normal(size=(rows, variables))
    return Programme(Q, p, A, G, np.abs(G @ np.linalg.pinv(A)).sum(1), x)


def initial(key: jax.Array, sizes: tuple[int, ...]) -> list[dict[str, jax.Array]]:
    """Float32 parameters of a network of these widths."""
    return [
        {
            "w": jax.nn.initializers.he_normal()(k, (n, m), jnp.float32),
            "b": jnp.zeros(m, jnp.float32),
        }
        for k, n, m in zip(jax.random.split(key, len(sizes) - 1), sizes, sizes[1:])
    ]


def net(params: list[dict[str, jax.Array]], x: jax.Array) -> jax.Array:
    """A ReLU network."""
    for layer in params[:-1]:
        x = jax.nn.relu(x @ layer["w"] + layer["b"])
    return x @ params[-1]["w"] + params[-1]["b"]


def train(
    given: Programme, *, epochs: int, batch: int, width: int = 200, seed: int = 0
) -> Any:
    """Parameters after Adam on the objective of projected outputs, in float32."""
    m, k = len(given.p), given.x.shape[1]
    low = Programme(*(np.asarray(entry, np.float32) for entry in given))
    apply = low.layer().wrap(net)
    steps = epochs * (len(given.x) // batch)
    optimizer = optax.adam(optax.cosine_onecycle_schedule(steps, RATE, WARM_UP))

    def loss(params: Any, x: jax.Array) -> jax.Array:
        return jnp.mean(low.objective(jax.vmap(apply, (None, 0))(params, x)))

    @jax.jit
    def epoch(params: Any, state: Any, x: jax.Array) -> tuple[Any, Any, jax.Array]:
        def step(carry: Any, x: jax.Array) -> tuple[Any, jax.Array]:
            params, state = carry
            value, gradient = jax.value_and_grad(loss)(params, x)
            updates, state = optimizer.update(gradient, state, params)
            return (optax.apply_updates(params, updates), state), value

        (params, state), values = jax.lax.scan(step, (params, state), x)
        return params, state, values.mean()

    params = initial(jax.random.key(seed), (k, width, width, m))
    state = optimizer.init(params)
    draw = np.random.default_rng(seed)
    for _ in range(epochs):
        order = draw.permutation(len(given.x))[: len(given.x) // batch * batch]
        params, state, value = epoch(params, state, low.x[order].reshape(-1, batch, k))
        print(f"  training objective {value:.4f}", end="\r", flush=True)
    return params


class Answers(NamedTuple):
    """What solves each programme, and what it is worth."""

    points: np.ndarray  # (n, m)
    multipliers: np.ndarray  # lambda of the inequalities, (n, q)


def solve(given: Programme) -> Answers:
    """The optima by OSQP, to 1e-9."""
    import osqp
    from scipy import sparse

    both = sparse.csc_matrix(np.vstack([given.A, given.G]))
    k = len(given.A)
    solver = osqp.OSQP()
    below = np.full(len(given.h), -np.inf)
    solver.setup(
        sparse.diags(given.Q, format="csc"),
        given.p,
        both,
        np.r_[given.x[0], below],
        np.r_[given.x[0], given.h],
        verbose=False,
        eps_abs=1e-9,
        eps_rel=1e-9,
        max_iter=200_000,
    )
    points, multipliers = [], []
    for x in given.x:
        solver.update(l=np.r_[x, below], u=np.r_[x, given.h])
        found = solver.solve(raise_error=True)
        points.append(found.x)
        multipliers.append(found.y[k:])
    return Answers(np.array(points), np.array(multipliers))


def answer(params: Any, given: Programme, dtype: Any) -> tuple[np.ndarray, float]:
    """The network's points (n, m), in float64, and the seconds that they took."""
    cast = jax.tree.map(lambda entry: jnp.asarray(entry, dtype), params)
    given = Programme(*(np.asarray(entry, dtype) for entry in given))
    apply = jax.jit(jax.vmap(given.layer().wrap(net), (None, 0)))
    x = jnp.asarray(given.x)
    jax.block_until_ready(apply(cast, x))
    start = time.perf_counter()
    points = jax.block_until_ready(apply(cast, x))
    return np.asarray(points, np.float64), time.perf_counter() - start


def multipliers(given: Programme, z: np.ndarray) -> np.ndarray:
    """Multipliers >= 0 of G z <= h that fit one point best, 0 off the active rows, (q,)."""
    from scipy.optimize import lsq_linear

    active = given.G @ z >= given.h - 1e-6
    rows = np.vstack([given.A, given.G[active]])
    least = np.r_[np.full(len(given.A), -np.inf), np.zeros(active.sum())]
    fit = lsq_linear(rows.T, -(given.Q * z + given.p), (least, np.inf))
    lam = np.zeros(len(given.h))
    lam[active] = fit.x[len(given.A) :]
    return lam


def judge(given: Programme, points: np.ndarray, truth: Answers) -> dict[str, float]:
    """What a table's row says of answers to all programmes."""
    best = given.objective(truth.points)
    lam = np.array([multipliers(given, z) for z in points])
    return {
        "objective": given.objective(points).mean(),
        "gap": (given.objective(points).mean() - best.mean()) / abs(best.mean()),
        "worst gap": ((given.objective(points) - best) / np.abs(best)).max(),
        "equality": np.abs(points @ given.A.T - given.x).max(),
        "inequality": np.maximum(points @ given.G.T - given.h, 0.0).max(),
        "multipliers": np.abs(lam - truth.multipliers).max(),
    }


def measure(
    given: Programme, tested: int, **training: Any
) -> tuple[dict[str, dict[str, float]], float, Answers]:
    """Rows of the table by dtype, the seconds of training and the true answers.

    The last `tested` instances are for tests, as many before them for nothing (others'
    validation set), the rest for training.
    """
    start = time.perf_counter()
    params = train(given._replace(x=given.x[: -2 * tested]), **training)
    seconds = time.perf_counter() - start
    test = given._replace(x=given.x[-tested:])
    truth = solve(test)
    rows = {}
    for dtype in ("float64", "float32"):
        points, passed = answer(params, test, dtype)
        rows[dtype] = {**judge(test, points, truth), "seconds": passed}
    return rows, seconds, truth


def line(name: str, row: dict[str, float]) -> str:
    """One row of the table."""
    return (
        f"{name:9s} {row['objective']:9.4f} {row['gap']:7.2%} {row['worst gap']:9.2%} "
        f"{row['equality']:9.1e} {row['inequality']:10.1e} {row['multipliers']:11.4f} "
        f"{row['seconds']:8.3f}"
    )


def main() -> None:
    jax.config.update("jax_enable_x64", True)
    given = programme()
    rows, seconds, truth = measure(given, TESTED, epochs=EPOCHS, batch=BATCH)
    best = given.objective(truth.points).mean()
    print(f"jax {jax.__version__}, {jax.devices()[0].device_kind}")
    print(f"optimum {best:.4f}, largest multiplier {truth.multipliers.max():.4f}")
    print(f"training {seconds:.0f} s")
    print(
        f"{'answers':9s} {'objective':>9s} {'gap':>7s} {'worst gap':>9s} "
        f"{'max |h|':>9s} {'max g':>10s} {'multipliers':>11s} {'seconds':>8s}"
    )
    for dtype, row in rows.items():
        print(line(dtype, row))


if __name__ == "__main__":
    main()
