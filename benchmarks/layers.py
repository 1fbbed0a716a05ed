"""What does a layer that never breaks its rule cost?

Question     Time of the forward pass and of a whole training step (value, gradient,
             Adam) of every layer, as ratios to a plain network of the same inputs,
             outputs, width and depth; and of others' layers of the same kind, as ratios
             to a plain network in their own framework.
Conditions   4 inputs, width 64, three linear layers, batch 512, float32. One process;
             all programs compiled first (compile time apart), then run in turns, 11 of
             them; median of the turns' ratios. Others where they are installed:
             pip install --group peers (pip 25.1).
Run          python -m benchmarks.layers
Last         2026-11-22, jax 0.12.0, torch 2.15, two CPU cores; no accelerator was measured.
             Ratios of time, forward and step:

             plain, one output      1     1     plain, eight outputs   1     1
             lipschitz, sandwich   31    27     bounded                1.1   1.2
             lipschitz, cayley     13    18     positive               1.0   1.1
             lipschitz, norms       1.3   1.8   simplex                1.1   1.0
             derivative_box         1.3   2.0   sparse_simplex         2.3   1.6
             monotone               1.4   2.0   ordered                1.1   1.0
             smooth_monotone        1.2   0.9   sums_to                0.9   0.9
             convex                 5.5   2.3   moving_average         1.0   0.9
             convex in two          8.5   6.6   affine                 0.9   1.9
             gradient_field         1.3   1.8   oblique_correction     0.8   1.2
             hamiltonian_field      1.3   1.8   box_section           12     5.6
             divergence_free        2.8   4.4   half_spaces, three    21     7.2
                                                polyhedron            12     5.7
             torch, plain           1     1
             monotonicnetworks      5.5   2.2   orthogonium           22     7.0

             Projection of 64 outputs onto DC3's polyhedron, forward and backward, ms,
             and the largest violation (float32):

             jaxcon                 16 to 96    16 to 108   4.8e-06
             pinet-hcnn, 50 steps    2 to 4      6 to 11    1.4e-02
             pinet-hcnn, 200 steps   8 to 17    13 to 14    7.4e-05

Conclusion   Outputs of closed form cost what rounding of the clock does, monotone and
             bounded slopes by row norms at most twice a plain network. Orthogonal weights
             cost a solve for every layer once a batch, which at batch 512 is most of the
             step: 0.06 ms for a 64 x 64 solve alone, more where its threads find the cores
             busy (the same run beside one other program: 129 and 86 for cayley, and 77
             for affine, whose QR is 0.01 ms alone). Projections onto polyhedra are exact,
             and cost 4 to 26 times pinet's 50 steps, which leave 1e-2 here.
"""

import argparse
import functools
import importlib
import importlib.util
import itertools
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxcon import layers

INPUTS, OUTPUTS, WIDTH, DEPTH, BATCH, TURNS = 4, 8, 64, 3, 512, 11
SIZE: dict[str, Any] = {"width": WIDTH, "depth": DEPTH}
MATRIX = np.random.default_rng(0).normal(size=(3, OUTPUTS))


peer: Callable[[str], Any] = functools.cache(importlib.import_module)


class Timed(NamedTuple):
    """Something to be run again and again, ready to be: its two programs."""

    name: str
    forward: Callable[[], Any]
    step: Callable[[], Any]
    compiling: float  # seconds


def networks() -> dict[str, Any]:
    """Every layer, on a plain network or a network itself, by its name."""
    fields = layers.mlp(INPUTS, INPUTS * (INPUTS - 1) // 2, **SIZE)
    chosen: dict[str, Any] = {
        "lipschitz, sandwich": layers.lipschitz(INPUTS, **SIZE),
        "lipschitz, cayley": layers.lipschitz(INPUTS, by="cayley", **SIZE),
        "lipschitz, norms": layers.lipschitz(INPUTS, by="norms", **SIZE),
        "derivative_box": layers.derivative_box(
            INPUTS, -np.ones(INPUTS), np.ones(INPUTS), **SIZE
        ),
        "monotone": layers.monotone(INPUTS, increasing=(0, 1), **SIZE),
        "smooth_monotone": layers.smooth_monotone(INPUTS, increasing=(0, 1)),
        "convex": layers.convex(INPUTS, **SIZE),
        "convex in two": layers.convex(INPUTS, convex=(0, 1), **SIZE),
        "gradient_field": layers.mlp(INPUTS, **SIZE).then(layers.gradient_field()),
        "hamiltonian_field": layers.mlp(INPUTS, **SIZE).then(
            layers.hamiltonian_field()
        ),
        "divergence_free": fields.then(layers.divergence_free(INPUTS)),
    }
    ends = {
        "bounded": layers.bounded(0.0, 1.0),
        "positive": layers.positive(),
        "simplex": layers.simplex(),
        "sparse_simplex": layers.sparse_simplex(),
        "ordered": layers.ordered(),
        "sums_to": layers.sums_to(1.0),
        "moving_average": layers.moving_average(3),
        "affine": layers.affine(MATRIX, np.ones(3)),
        "box_section": layers.box_section(0.0, 1.0),
        "half_spaces, three": layers.half_spaces(MATRIX, np.ones(3)),
        "oblique_correction": layers.oblique_correction(
            MATRIX, -np.ones(3), np.ones(3)
        ),
        "polyhedron": layers.polyhedron(
            MATRIX[:1], np.ones(1), MATRIX[1:], -np.ones(2), np.ones(2)
        ),
    }
    plain = layers.mlp(INPUTS, OUTPUTS, **SIZE)
    return chosen | {name: plain.then(layer) for name, layer in ends.items()}


def timed(name: str, network: Any, x: jax.Array) -> Timed:
    """A network's two programs, compiled."""
    params = network.init(jax.random.key(0))
    optimizer = optax.adam(1e-3)
    state = optimizer.init(params)

    def forward(params: Any, x: jax.Array) -> jax.Array:
        return jax.vmap(lambda one: network.apply(params, one))(x)

    def step(params: Any, state: Any, x: jax.Array) -> Any:
        gradient = jax.grad(lambda p: jnp.mean(jnp.square(forward(p, x) - 1.0)))(params)
        updates, state = optimizer.update(gradient, state)
        return optax.apply_updates(params, updates), state

    start = time.perf_counter()
    forward_program = jax.jit(forward).lower(params, x).compile()
    step_program = jax.jit(step).lower(params, state, x).compile()
    return Timed(
        name,
        lambda: jax.block_until_ready(forward_program(params, x)),
        lambda: jax.block_until_ready(step_program(params, state, x)),
        time.perf_counter() - start,
    )


def seconds(run: Callable[[], Any]) -> float:
    """One run that is not counted, then runs for 10 ms or one run: seconds of one."""
    run()
    count, start = 0, time.perf_counter()
    while True:
        run()
        count += 1
        spent = time.perf_counter() - start
        if spent > 0.01:
            return spent / count


def measured(group: list[Timed]) -> list[list[float]]:
    """Median over turns of each one's times as ratios to the first one's, and ms."""
    turns = [
        [[seconds(one.forward), seconds(one.step)] for one in group]
        for _ in range(TURNS)
    ]
    times = np.asarray(turns)  # (turns, members, 2)
    ratios = np.median(times / times[:, :1], axis=0)
    return np.concatenate([ratios, 1000 * np.median(times, axis=0)], axis=1).tolist()


def show(group: list[Timed]) -> None:
    """A table of ratios, milliseconds and compile seconds."""
    for one, (forward, step, forward_ms, step_ms) in zip(group, measured(group)):
        print(
            f"{one.name:24} {forward:8.2f} {step:8.2f} {forward_ms:10.3f} "
            f"{step_ms:9.3f} {one.compiling:9.2f}",
            flush=True,
        )


def torch_group() -> list[Timed]:
    """A plain torch network and those of monotonicnetworks and orthogonium."""
    monotonicnetworks, torch = peer("monotonicnetworks"), peer("torch")
    orthogonium = peer("orthogonium.layers")

    def chain(linear: Callable[[int, int], Any], activation: Callable[[], Any]) -> Any:
        sizes = [INPUTS, *[WIDTH] * (DEPTH - 1), 1]
        parts: list[Any] = []
        for n, m in itertools.pairwise(sizes):
            parts += [linear(n, m), activation()]
        return torch.nn.Sequential(*parts[:-1])

    def lipschitz(n: int, m: int) -> Any:
        kind = "one-inf" if n == INPUTS else "inf"
        return monotonicnetworks.LipschitzLinear(n, m, kind=kind)

    models = {
        "torch, plain": chain(torch.nn.Linear, torch.nn.Tanh),
        "monotonicnetworks": monotonicnetworks.MonotonicWrapper(
            chain(lipschitz, lambda: monotonicnetworks.GroupSort(WIDTH // 2)),
            monotonic_constraints=[1, 1, 0, 0],
        ),
        "orthogonium": chain(orthogonium.OrthoLinear, orthogonium.MaxMin),
    }
    x = torch.rand(BATCH, INPUTS)

    def both(name: str, model: Any) -> Timed:
        optimizer = torch.optim.Adam(model.parameters(), 1e-3)

        def forward() -> None:
            with torch.no_grad():
                model(x)

        def step() -> None:
            optimizer.zero_grad()
            (model(x) - 1.0).square().mean().backward()
            optimizer.step()

        return Timed(name, forward, step, 0.0)

    return [both(name, model) for name, model in models.items()]


def programme() -> tuple[Any, ...]:
    """The polyhedron of DC3's quadratic programme, 100 outputs: A, C, upper, b, y."""
    rng = np.random.default_rng(17)
    A, C = rng.normal(size=(50, 100)), rng.normal(size=(50, 100))
    upper = np.abs(C @ np.linalg.pinv(A)).sum(axis=1)
    b, y = rng.uniform(-1, 1, (64, 50)), rng.normal(size=(64, 100))
    return tuple(jnp.asarray(each, jnp.float32) for each in (A, C, upper, b, y))


def projection_group() -> list[tuple[Timed, float]]:
    """Projections onto that polyhedron, and the largest violation each leaves."""
    from jaxcon.projections import polyhedron

    A, C, upper, b, y = programme()
    lower = jnp.full(50, -jnp.inf)

    def ours(y: jax.Array) -> jax.Array:
        each = jax.vmap(lambda y, b: polyhedron(y, A, b, C, lower, upper).point)
        return each(y, b)

    methods: dict[str, Callable[[jax.Array], jax.Array]] = {"jaxcon": ours}
    if importlib.util.find_spec("pinet"):
        pinet = peer("pinet")
        project = pinet.Project(
            eq_constraint=pinet.EqualityConstraint(
                A[None], b[:, :, None], method=None, var_b=True
            ),
            ineq_constraint=pinet.AffineInequalityConstraint(
                C[None], lower[None, :, None], upper[None, :, None]
            ),
        )

        def theirs(iterations: int) -> Callable[[jax.Array], jax.Array]:
            def projected(y: jax.Array) -> jax.Array:
                equations = pinet.EqualityConstraintsSpecification(b=b[:, :, None])
                instance = pinet.ProjectionInstance(x=y[:, :, None], eq=equations)
                start = project.initialize(instance)
                found = project.call(
                    s0=start, y_raw=instance, n_iter=iterations, n_iter_bwd=25
                )
                return found[0].x[:, :, 0]

            return projected

        for iterations in (50, 200):
            methods[f"pinet-hcnn, {iterations} steps"] = theirs(iterations)

    group = []
    for name, method in methods.items():
        start = time.perf_counter()
        forward = jax.jit(method).lower(y).compile()
        loss = jax.grad(lambda y, method=method: jnp.sum(jnp.square(method(y))))
        step = jax.jit(loss).lower(y).compile()
        z = forward(y)
        excess = jnp.maximum(jnp.abs(z @ A.T - b).max(), (z @ C.T - upper).max())
        one = Timed(
            name,
            lambda program=forward: jax.block_until_ready(program(y)),
            lambda program=step: jax.block_until_ready(program(y)),
            time.perf_counter() - start,
        )
        group.append((one, float(excess)))
    return group


def main() -> None:
    argparse.ArgumentParser(description="What a layer costs.").parse_args()
    x = jax.random.normal(jax.random.key(1), (BATCH, INPUTS))
    columns = "forward", "step", "forward ms", "step ms", "compile s"
    print("{:24} {:>8} {:>8} {:>10} {:>9} {:>9}".format("", *columns))
    scalar, vector = [], []
    for name, network in networks().items():
        one = jax.eval_shape(network.apply, network.init(jax.random.key(0)), x[0])
        (vector if one.shape == (OUTPUTS,) else scalar).append((name, network))
    plain = layers.mlp(INPUTS, **SIZE)
    show(
        [
            timed("plain, one output", plain, x),
            *(timed(name, network, x) for name, network in scalar),
        ]
    )
    plain = layers.mlp(INPUTS, OUTPUTS, **SIZE)
    show(
        [
            timed("plain, eight outputs", plain, x),
            *(timed(name, network, x) for name, network in vector),
        ]
    )
    if importlib.util.find_spec("monotonicnetworks"):
        show(torch_group())
    else:
        print("monotonicnetworks and orthogonium are not installed")
    print("projection onto {A z = b, C z <= u}, 100 outputs, 50 and 50 rows, batch 64")
    projections = projection_group()
    show([one for one, _ in projections])
    print(
        "largest violation:", {one.name: f"{excess:.1e}" for one, excess in projections}
    )


if __name__ == "__main__":
    main()
