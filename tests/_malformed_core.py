"""Good calls of problems, solvers, transforms, runs and derivatives, to be altered."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxcon as jc

X = jnp.array([0.5, -1.0])
POINTS = jnp.array([[0.5, -1.0], [0.25, 0.75]])
BATCH = {"x": jnp.array([1.0, 2.0]), "y": jnp.array([2.0, 4.0]), "points": POINTS}
BOX = ([0.0, 0.0], [1.0, 1.0])
PARAMS = {"w": jnp.array([0.3, 0.2])}
RESIDUALS = jc.Constraints({"h": jnp.array(0.5)}, {"g": jnp.array([-1.0, 0.5])})
MULTIPLIERS = jc.Constraints({"h": jnp.array(1.0)}, {"g": jnp.array([0.0, 2.0])})


def of(**given):
    """A function that returns these arguments."""
    return lambda: dict(given)


def loss(params, batch):
    """A number."""
    return jnp.mean((params["w"][0] * batch["x"] - batch["y"]) ** 2)


def smooth(x):
    """A scalar function of a point."""
    return jnp.sin(x[0]) * x[1] ** 2


def field(x):
    """A vector field of as many outputs as inputs."""
    return jnp.stack([x[0] * x[1], x[1] ** 2])


def swirl(x):
    """A vector field in three dimensions."""
    return jnp.stack([-x[1], x[0], x[2]])


def apply(params, x):
    """A network of one output."""
    return params["w"] @ jnp.tanh(x)


def outputs(params, x):
    """A network of two outputs."""
    return params["w"] * jnp.tanh(x)


def rule(params, batch):
    """A residual for each point."""
    return params["w"] - 1.0


def height(params, batch):
    """A residual at each of the points."""
    return batch["points"] @ params["w"] - 1.0


def constraints():
    """One constraint of each kind."""
    return jc.Constraints({"h": lambda p, b: p["w"][0] - 1.0}, {"g": rule})


def problem(**options):
    """A problem with a penalty."""
    return jc.Lagrangian(loss, constraints(), **{"penalty": 1.0, **options})


def dual():
    """Plain ascent."""
    return jc.dual_ascent(optax.sgd(0.1))


def solver(**options):
    """A solver of the problem."""
    return jc.alternating(problem(), optax.sgd(0.1), dual(), **options)


def stepped(made):
    """Traces one step of a solver."""
    state = made.init(PARAMS, BATCH)
    return jax.eval_shape(made.step, state, BATCH)


def with_dual(transform):
    """Traces one step with a transform of multipliers."""
    return stepped(jc.alternating(problem(), optax.sgd(0.1), transform))


def with_primal(transform):
    """Traces one step with a transform of parameters."""
    return stepped(jc.alternating(problem(), transform, dual()))


def per_term(transform):
    """Traces one step with a transform of single terms' gradients."""
    return stepped(solver(per_term=transform))


def with_penalty(rule):
    """Traces one step with a rule of penalties."""
    return stepped(jc.alternating(problem(penalty=rule), optax.sgd(0.1), dual()))


def weighting(rule):
    """Traces one step with weights of single residuals."""
    loss = {"one": lambda p, b: b["x"] * p["w"]}
    misfit = jc.MeanSquares(loss, weights={"one": rule})
    return stepped(jc.alternating(jc.Lagrangian(misfit), optax.sgd(0.1), dual()))


def constrained(constraint):
    """Traces one constraint."""
    made = jc.Constraints({"one": constraint})
    return jax.eval_shape(lambda p: jc.evaluate(made, p, BATCH), PARAMS)


def at_point(operator):
    """Evaluates an operator at a point."""
    return jax.eval_shape(operator, X)


def sums():
    """A least-squares problem for gauss_newton."""
    misfit = jc.MeanSquares({"misfit": lambda p, b: p["w"][0] * b["x"] - b["y"]})
    return jc.Lagrangian(misfit, constraints(), penalty=1.0)


def run(rate):
    """One run of a sweep."""
    made = jc.alternating(problem(), optax.sgd(rate), dual())
    return made, PARAMS, BATCH


def fitted():
    """What `fit` takes."""
    return {
        "solver": solver(),
        "start": PARAMS,
        "batches": BATCH,
        "steps": 2,
        "tolerance": 1e-3,
        "chunk": 2,
        "progress": False,
        "callbacks": [lambda state, info: None],
        "max_skipped": 1,
        "spike": 5.0,
    }


def history():
    """A history of ten steps."""
    rows = np.linspace(1.0, 0.0, 10)
    each = jc.Constraints({"h": rows})
    flags = jc.Constraints({"h": np.zeros(10, bool)})
    return jc.History(
        loss=rows,
        max_violation=rows,
        violation=each,
        multiplier=each,
        penalty=jc.Constraints(),
        capped=flags,
        clipped={},
        finite=np.ones(10, bool),
        aux=None,
        step=np.arange(10),
    )


_OPERATORS = {
    name: lambda: {"f": smooth}
    for name in (
        "gradient",
        "hessian",
        "hessian_diagonal",
        "value_and_gradient",
        "value_and_hessian",
        "value_and_hessian_diagonal",
        "laplacian",
        "value_and_laplacian",
    )
}

GOOD = {
    "Lagrangian": lambda: {
        "loss": loss,
        "constraints": constraints(),
        "penalty": 1.0,
        "barrier": jc.penalties.log_quadratic,
        "multipliers": {},
    },
    "evaluate": lambda: {
        "constraints": constraints(),
        "params": PARAMS,
        "batch": BATCH,
    },
    "violation": of(residuals=RESIDUALS),
    "max_violation": of(residuals=RESIDUALS),
    "feasible": of(residuals=RESIDUALS, tolerance=1e-3),
    "tighten": of(constraint=rule, margin=0.1),
    "proxy": of(surrogate=rule, strict=rule),
    "clip_residual": of(constraint=rule, limit=1.0),
    "lagrangian": of(loss=jnp.array(1.0), residuals=RESIDUALS, multipliers=MULTIPLIERS),
    "augmented_lagrangian": of(
        loss=jnp.array(1.0), residuals=RESIDUALS, multipliers=MULTIPLIERS, penalty=2.0
    ),
    "multiplier_estimates": of(
        residuals=RESIDUALS, multipliers=MULTIPLIERS, penalty=2.0
    ),
    "zero_multipliers": of(residuals=RESIDUALS),
    "lagrangians.penalty_barrier_lagrangian": of(
        loss=jnp.array(1.0),
        residuals=RESIDUALS,
        multipliers=MULTIPLIERS,
        penalty=2.0,
        barrier=jc.penalties.log_quadratic,
    ),
    "lagrangians.safeguarded_estimates": of(
        multipliers=MULTIPLIERS, estimates=MULTIPLIERS
    ),
    "lagrangians.constant_penalty": of(penalty=2.0),
    "lagrangians.scheduled_penalty": of(schedule=optax.constant_schedule(2.0)),
    "alternating": lambda: {
        "problem": problem(),
        "primal": optax.sgd(0.1),
        "dual": dual(),
        "first": "primal",
        "per_term": jc.conflict_free(),
        "points": {"points": jc.points.r3(height, BOX)},
    },
    "simultaneous": lambda: {
        "problem": problem(),
        "primal": optax.sgd(0.1),
        "dual": dual(),
    },
    "extragradient": lambda: {
        "problem": problem(),
        "primal": optax.sgd(0.1),
        "dual": dual(),
    },
    "augmented_lagrangian_method": lambda: {
        "problem": problem(penalty=None),
        "primal": optax.sgd(0.1),
        "tolerance": 1e-3,
    },
    "stochastic_lagrangian": lambda: {
        "problem": problem(penalty=None),
        "primal": optax.sgd(0.1),
        "steps": 10,
    },
    "capped": lambda: {"dual": dual(), "limit": 3.0},
    "dual_ascent": lambda: {"optimizer": optax.sgd(0.1)},
    "every": lambda: {"dual": dual(), "k": 3},
    "fixed_penalty": of(
        weight=2.0,
        equality=jc.penalties.quadratic,
        inequality=jc.penalties.squared_hinge,
    ),
    "nupi": of(learning_rate=0.1, kp=1.0, ki=1.0, nu=0.5, init="zero"),
    "pid": of(kp=1.0, ki=1.0, kd=0.5),
    "scale_by_pi": of(kp=1.0, ki=1.0, nu=0.5, init="zero"),
    "restart_every": lambda: {"primal": optax.sgd(0.1), "k": 3},
    "restart_when_feasible": lambda: {"dual": dual()},
    "when_stalled": lambda: {"dual": dual(), "decrease": 0.9},
    "adaptive_penalty": of(
        learning_rate=0.01, decay=0.9, initial=1.0, decrease=0.9, eps=1e-8
    ),
    "growing_penalty": of(
        initial=1.0, every=2, factor=10.0, decrease=0.25, tolerance=1e-4, limit=1e3
    ),
    "MeanSquares": of(
        residuals={"misfit": rule}, weights={"misfit": jc.residual_attention()}
    ),
    "MeanConvex": of(residuals={"misfit": rule}, convex={"misfit": rule}),
    "causal_weights": of(on="points", index=1, chunks=2, tolerance=0.5),
    "residual_attention": of(decay=0.9, rate=0.1),
    "gauss_newton": lambda: {
        "problem": sums(),
        "on": {"misfit": ("x", "y")},
        "damping": 1e-3,
        "momentum": 0.5,
    },
    "newton": of(dense=10),
    "self_scaled_broyden": of(by="bfgs", largest=10),
    "soap": of(learning_rate=0.1, b1=0.9, b2=0.9, eps=1e-8, every=2, largest=8),
    "proximal": lambda: {
        "optimizer": optax.sgd(0.1),
        "operator": lambda p: jax.tree.map(lambda w: jnp.clip(w, 0.0, 1.0), p),
    },
    "balance_by_gradient_norm": of(decay=0.9),
    "balance_by_kernel_trace": of(every=2, decay=0.9, seed=1),
    "balance_by_loss_rate": of(beta=0.1),
    "balance_by_relative_loss": of(decay=0.9, lookback=0.9, temperature=1.0),
    "balance_by_uncertainty": lambda: {"optimizer": optax.sgd(0.1), "limit": 10.0},
    "bound_constraints": of(ratio=2.0),
    "clip_by_percentile": of(percentile=10.0, rate=0.05),
    "clip_by_z_score": of(limit=2.5, decay=0.9, warmup=5),
    "clip_each_example": of(loss=lambda p, x: jnp.sum(p["w"]) * x["x"], max_norm=1.0),
    "counted": lambda: {"name": "clip", "clip": optax.clip(1.0)},
    "each_term": lambda: {"transform": optax.clip(1.0)},
    "project_conflicts": of(seed=1),
    "fit": fitted,
    "solve": lambda: {
        "problem": problem(penalty=None),
        "start": PARAMS,
        "batches": BATCH,
        "steps": 2,
        "primal": optax.sgd(0.1),
    },
    "sweep": lambda: {
        "make_run": run,
        "grid": {"rate": [0.1, 0.2]},
        "steps": 2,
        "tolerance": 1e-3,
        "keep": 2,
        "together": 1,
    },
    "diagnose": lambda: {"history": history(), "tolerance": 1e-3},
    "points.adversarial": of(
        residual=height, domain=BOX, replace=1, every=1, steps=2, seed=0
    ),
    "points.r3": of(residual=height, domain=BOX, every=1, seed=0),
    "points.rad": of(
        residual=height,
        domain=BOX,
        every=1,
        candidates=9,
        power=1.0,
        offset=1.0,
        seed=0,
    ),
    "points.rar_d": of(
        residual=height,
        domain=BOX,
        replace=1,
        every=1,
        candidates=9,
        power=1.0,
        offset=1.0,
        seed=0,
    ),
    **{f"derivatives.{name}": make for name, make in _OPERATORS.items()},
    "derivatives.hessian": of(f=smooth, mode="forward", unroll=False),
    "derivatives.laplacian": of(f=smooth, weights=jnp.ones(2)),
    "derivatives.jacobian": of(f=field),
    "derivatives.value_and_jacobian": of(f=field),
    "derivatives.divergence": of(f=field),
    "derivatives.value_and_divergence": of(f=field),
    "derivatives.derivative": of(f=jnp.sin, order=2),
    "derivatives.value_and_derivative": of(f=jnp.sin, order=2),
    "derivatives.directional_derivative": of(f=smooth, direction=X),
    "derivatives.value_and_directional_derivative": of(f=smooth, direction=X),
    "derivatives.hessian_vector_product": of(f=smooth, vector=X),
    "derivatives.value_and_hessian_vector_product": of(f=smooth, vector=X),
    "derivatives.jacobian_norm_squared": lambda: {
        "f": field,
        "projections": 2,
        "key": jax.random.key(0),
    },
    "derivatives.explain": of(f=smooth, x=X),
    "derivatives.partial_derivative": of(f=smooth, inputs=1),
    "derivatives.value_and_partial_derivative": of(f=smooth, inputs=1),
    "derivatives.derivatives": lambda: {
        "f": smooth,
        "wanted": jc.derivatives.Hessian(),
        "mode": "forward",
        "unroll": False,
    },
    "derivatives.tiled_vmap": of(f=smooth, tile=2),
    "derivatives.value_and_grad": lambda: {
        "loss": lambda p, x: apply(p, x),
        "tile": 2,
        "reduction": "sum",
    },
    "derivatives.Partial": of(inputs=0),
    "derivatives.Directional": of(direction=X),
    "derivatives.Laplacian": of(weights=jnp.ones(2)),
    "derivatives.curl": of(f=swirl),
    "derivatives.value_and_curl": of(f=swirl),
    "derivatives.value_and_jacobian_norm_squared": lambda: {
        "f": field,
        "projections": 2,
        "key": jax.random.key(0),
    },
    "derivatives.unbiased_square": lambda: {
        "estimate": lambda key: jax.random.normal(key),
        "key": jax.random.key(0),
    },
    "shapes.boundary": of(apply=apply, value=0.0, flux=False, on="points"),
    "shapes.interface": of(first=apply, second=apply, jump=0.0, on="points"),
    "shapes.increasing": of(apply=apply, index=0, on="points"),
    "shapes.decreasing": of(apply=apply, index=0, on="points"),
    "shapes.convex": of(apply=apply, index=0, on="points"),
    "shapes.concave": of(apply=apply, index=0, on="points"),
    "shapes.bounded": of(apply=apply, lower=0.0, upper=1.0, on="points"),
    "shapes.equals": of(apply=apply, target=1.0, on="points"),
    "shapes.lipschitz": of(apply=apply, constant=1.0, on="points"),
    "shapes.sums_to": of(apply=outputs, total=1.0, on="points"),
}

# Functions that take more than named arguments.
CALLS = {
    "derivatives.explain": lambda f, x: jc.derivatives.explain(
        f, x, jc.derivatives.Gradient()
    ),
    "derivatives.partial_derivative": lambda f, inputs: (
        jc.derivatives.partial_derivative(f, inputs)
    ),
    "derivatives.value_and_partial_derivative": lambda f, inputs: (
        jc.derivatives.value_and_partial_derivative(f, inputs)
    ),
    "derivatives.derivatives": lambda f, wanted, mode, unroll: (
        jc.derivatives.derivatives(f, wanted, mode=mode, unroll=unroll)
    ),
}

# What else names an argument in a message.
NAMES = {
    "MeanConvex": ["MeanConvex"],
    "MeanSquares": ["MeanSquares"],
    "fit": ["params", "the loss"],
    "solve": ["params", "the loss"],
    "sweep": ["sweep"],
    "shapes.equals": ["'one'"],
    "shapes.boundary": ["'one'"],
    "shapes.interface": ["'one'"],
    "derivatives.unbiased_square": ["estimate"],
    "derivatives.derivatives": ["pass quantities"],
    "derivatives.Partial": ["number of an input"],
    "derivatives.partial_derivative": ["number of an input"],
    "derivatives.value_and_partial_derivative": ["number of an input"],
}

# Values that an argument may have.
FREE = {
    "lagrangians.scheduled_penalty": {"schedule": {"-> 1"}},
    "Lagrangian": {"penalty": {"lambda"}},
    "evaluate": {"batch": {"all"}},
    "counted": {"name": {"'a'", "'zzz'", "''"}},
    "nupi": {"learning_rate": {"lambda"}},
    "soap": {"learning_rate": {"lambda"}},
    "shapes.equals": {"target": {"lambda"}},
    "shapes.boundary": {"value": {"lambda"}},
    "shapes.interface": {"jump": {"lambda"}},
    # Outputs may be complex.
    **{
        f"derivatives.{name}": {"f": {"-> 1j"}}
        for name in ("gradient", "hessian", "hessian_diagonal", "laplacian")
    },
    "derivatives.derivatives": {"mode": {"None"}},
    "derivatives.tiled_vmap": {"tile": {"None"}},
    "derivatives.value_and_grad": {"tile": {"None"}},
}

# What shows that the result of a good call works; a malformed one may fail there.
USE = {
    **dict.fromkeys(
        (
            "alternating",
            "simultaneous",
            "extragradient",
            "augmented_lagrangian_method",
            "stochastic_lagrangian",
        ),
        lambda made, given: stepped(made),
    ),
    **dict.fromkeys(
        (
            "capped",
            "dual_ascent",
            "every",
            "fixed_penalty",
            "nupi",
            "pid",
            "restart_when_feasible",
            "when_stalled",
        ),
        lambda made, given: with_dual(made),
    ),
    **dict.fromkeys(
        (
            "newton",
            "self_scaled_broyden",
            "soap",
            "restart_every",
            "proximal",
            "counted",
            "clip_by_percentile",
            "clip_by_z_score",
        ),
        lambda made, given: with_primal(made),
    ),
    **dict.fromkeys(
        (
            "balance_by_gradient_norm",
            "balance_by_loss_rate",
            "balance_by_relative_loss",
            "balance_by_uncertainty",
            "bound_constraints",
            "each_term",
            "project_conflicts",
        ),
        lambda made, given: per_term(made),
    ),
    **dict.fromkeys(
        (
            "adaptive_penalty",
            "growing_penalty",
            "lagrangians.constant_penalty",
            "lagrangians.scheduled_penalty",
        ),
        lambda made, given: with_penalty(made),
    ),
    **dict.fromkeys(
        ("tighten", "proxy", "clip_residual"), lambda made, given: constrained(made)
    ),
    "Lagrangian": lambda made, given: stepped(
        jc.alternating(made, optax.sgd(0.1), dual())
    ),
    "MeanSquares": lambda made, given: made(PARAMS, BATCH),
    **dict.fromkeys(
        ("causal_weights", "residual_attention"),
        lambda made, given: weighting(made),
    ),
    "balance_by_kernel_trace": lambda made, given: stepped(
        jc.alternating(sums(), optax.sgd(0.1), dual(), per_term=made)
    ),
    **dict.fromkeys(
        ("points.adversarial", "points.r3", "points.rad", "points.rar_d"),
        lambda made, given: stepped(solver(points={"points": made})),
    ),
    "gauss_newton": lambda made, given: stepped(
        jc.alternating(given["problem"], made, dual())
    ),
    "clip_each_example": lambda made, given: jax.eval_shape(
        made, PARAMS, {"x": BATCH["x"]}
    ),
    "derivatives.tiled_vmap": lambda made, given: made(POINTS),
    "derivatives.value_and_grad": lambda made, given: made(PARAMS, POINTS),
    "derivatives.derivative": lambda made, given: made(0.5),
    "derivatives.value_and_derivative": lambda made, given: made(0.5),
    "derivatives.explain": lambda made, given: None,
    "derivatives.unbiased_square": lambda made, given: None,
    **dict.fromkeys(
        ("derivatives.curl", "derivatives.value_and_curl"),
        lambda made, given: jax.eval_shape(made, jnp.ones(3)),
    ),
    **dict.fromkeys(
        ("derivatives.Partial", "derivatives.Directional", "derivatives.Laplacian"),
        lambda made, given: at_point(jc.derivatives.derivatives(smooth, made)),
    ),
}


def use(name, made, given):
    """Uses the result of a call as its reader would."""
    if name in USE:
        return USE[name](made, given)
    if name.startswith("derivatives."):
        return at_point(made)
    if name.startswith("shapes."):
        return constrained(made)
    return made


_MODEL = ("gradient", "hessian", "hessian_diagonal", "laplacian", "jacobian")

# Functions of a user's, and what a wrong one is called in a message.
FUNCTIONS = {
    ("Lagrangian", "loss"): ["loss"],
    ("tighten", "constraint"): ["'one'"],
    ("proxy", "surrogate"): ["'one'"],
    ("proxy", "strict"): ["'one'"],
    ("clip_residual", "constraint"): ["'one'"],
    ("shapes.increasing", "apply"): ["'one'"],
    ("shapes.convex", "apply"): ["'one'"],
    ("shapes.bounded", "apply"): ["'one'"],
    ("shapes.equals", "apply"): ["'one'"],
    ("shapes.lipschitz", "apply"): ["'one'"],
    ("shapes.sums_to", "apply"): ["'one'"],
    ("lagrangians.scheduled_penalty", "schedule"): ["schedule"],
    ("proximal", "operator"): ["operator"],
    ("clip_each_example", "loss"): ["loss"],
    ("sweep", "make_run"): ["make_run"],
    **{
        (f"points.{name}", "residual"): ["residual of points='points'"]
        for name in ("adversarial", "r3", "rad", "rar_d")
    },
    **{(f"derivatives.{name}", "f"): [name] for name in _MODEL},
}
