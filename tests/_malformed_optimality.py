"""Good calls of optimality, selection, identifiability, methods, kinds of multipliers."""

import jax
import jax.numpy as jnp
import optax

import jaxcon as jc

X = jnp.array([[0.5, -1.0], [0.25, 0.75]])
BATCH = {"points": X, "index": jnp.array([0, 1])}
PARAMS = {"w": jnp.array([0.3, 0.2])}
MULTIPLIERS = jc.Constraints({"h": jnp.array(1.0)}, {"g": jnp.array([0.0, 2.0])})
ITERATES = jc.Constraints({"h": jnp.array([0.5, 0.0])}, {"g": jnp.ones((2, 3))})


def apply(params, x):
    """A network of one output."""
    return params["w"] @ jnp.tanh(x)


def loss(params, batch):
    """A number."""
    return jnp.sum((params["w"] - batch["points"][0]) ** 2)


def constraints():
    """One constraint of each kind."""
    return jc.Constraints(
        {"h": lambda p, b: p["w"][0] - 1.0}, {"g": lambda p, b: p["w"] - 0.1}
    )


PROBLEM = jc.Lagrangian(loss, constraints())


def at_a_point():
    """What functions of a problem and its parameters take."""
    return {"problem": PROBLEM, "params": PARAMS, "batch": BATCH, "tolerance": 1e-3}


def predictions(params):
    """Predicted observations."""
    return params["w"][0] * jnp.arange(1.0, 4.0) + params["w"][1]


def sums(params):
    """A residual that is zero."""
    return params["w"][0] + params["w"][1] - 0.5


def inverse():
    """What functions of a model take."""
    return {
        "model": predictions,
        "params": PARAMS,
        "noise": jnp.array([0.1, 0.1, 0.2]),
        "constraints": sums,
    }


def definition():
    """A problem that a method trains."""
    return jc.Problem(
        init=lambda key: {"w": jax.random.normal(key, (2,))},
        apply=apply,
        loss=lambda net, params, batch: jnp.mean(
            jax.vmap(lambda x: net(params, x))(batch["points"]) ** 2
        ),
        constraints=lambda net: jc.Constraints(
            inequality={
                "g": lambda p, b: jax.vmap(lambda x: net(p, x))(b["points"]) - 1.0
            }
        ),
        batch={"points": X},
        score=lambda net, params: {"error": 0.0},
    )


def dual(rate):
    """A transform of multipliers with a rate."""
    return jc.dual_ascent(optax.sgd(rate))


def smaller(net):
    """A network of half the output."""
    return lambda params, x: net(params, x) / 2


GOOD = {
    "active": lambda: {"residuals": MULTIPLIERS, "tolerance": 1e-3},
    "kkt": lambda: {
        "problem": PROBLEM,
        "state": jc.Point(PARAMS, MULTIPLIERS),
        "batch": BATCH,
    },
    "polish": lambda: {
        "problem": PROBLEM,
        "state": jc.Point(PARAMS, MULTIPLIERS),
        "batch": BATCH,
        "steps": 2,
    },
    "least_squares_multipliers": at_a_point,
    "conflict": at_a_point,
    "sensitivity": lambda: {"multipliers": MULTIPLIERS},
    "best_iterate": lambda: {
        "losses": jnp.array([1.0, 2.0]),
        "residuals": ITERATES,
        "tolerance": 1e-3,
    },
    "mixture": lambda: {
        "losses": jnp.array([1.0, 2.0]),
        "residuals": ITERATES,
        "tolerance": 1e-3,
    },
    "fisher_information": lambda: {
        name: value for name, value in inverse().items() if name != "constraints"
    },
    "cramer_rao_bound": inverse,
    "identify": lambda: {
        **inverse(),
        "params": {**PARAMS, "layer": jnp.ones(2)},
        "observed": jnp.array([1.0, 0.5, 2.0]),
        "network": "layer",
    },
    "methods.unconstrained": lambda: {"primal": optax.sgd(0.1)},
    "methods.default": lambda: {"primal": optax.sgd(0.1)},
    "methods.penalty": lambda: {
        "primal": optax.sgd(0.1),
        "weight": 1.0,
        "kind": "quadratic",
        "per_term": jc.conflict_free(),
    },
    "methods.multipliers": lambda: {
        "primal": optax.sgd(0.1),
        "dual": dual,
        "rate": 0.1,
    },
    "methods.lagrangian": lambda: {"primal": optax.sgd(0.1), "rate": 0.1},
    "methods.pi_control": lambda: {
        "primal": optax.sgd(0.1),
        "rate": 0.1,
        "gain": 10.0,
    },
    "methods.augmented": lambda: {
        "primal": optax.sgd(0.1),
        "strength": 1.0,
        "period": 2,
    },
    "methods.projected": lambda: {
        "primal": optax.sgd(0.1),
        "operator": lambda params: jax.tree.map(lambda w: jnp.clip(w, 0, 1), params),
    },
    "methods.by_construction": lambda: {
        "primal": optax.sgd(0.1),
        "output": smaller,
        "init": lambda key: {"w": jax.random.normal(key, (2,))},
    },
    "methods.afterwards": lambda: {"primal": optax.sgd(0.1), "output": smaller},
    "methods.standard": lambda: {"primal": optax.sgd(0.1), "strength": 1.0},
    "multipliers.indexed": lambda: {"size": 2, "on": "index"},
    "multipliers.network": lambda: {
        "apply": apply,
        "params": PARAMS,
        "on": "points",
        "positive": jax.nn.softplus,
    },
}

# Values that an argument may have.
FREE = {
    "kkt": {"batch": ("all",)},
    "polish": {"batch": ("all",)},
    "least_squares_multipliers": {"batch": ("all",)},
    "conflict": {"batch": ("all",)},
}

# What else names an argument in a message.
NAMES = {
    "fisher_information": ["model"],
    "cramer_rao_bound": ["model"],
    "identify": ["model"],
    "multipliers.indexed": ["indices of constraint"],
    "multipliers.network": ["multipliers of"],
}

# Functions of a user's, and what a wrong one is called in a message.
FUNCTIONS = {
    ("fisher_information", "model"): ["model"],
    ("cramer_rao_bound", "model"): ["model"],
    ("cramer_rao_bound", "constraints"): ["constraints"],
    ("identify", "model"): ["model"],
    ("identify", "constraints"): ["constraints"],
    ("methods.multipliers", "dual"): ["dual"],
    ("methods.projected", "operator"): ["operator"],
    ("methods.by_construction", "output"): ["output", "the loss"],
    ("methods.by_construction", "init"): ["init", "params", "the loss"],
    ("methods.afterwards", "output"): ["output"],
    ("multipliers.network", "apply"): [],
    ("multipliers.network", "positive"): [],
}


def use(name, made, given):
    """Uses the result of a call as its reader would."""
    if name == "methods.standard":
        return [trained(method) for method in made.values()]
    if name.startswith("methods."):
        return trained(made)
    if name.startswith("multipliers."):
        rule = jc.Constraints(
            inequality={"g": lambda p, b: p["w"] @ b["points"].T - 1.0}
        )
        problem = jc.Lagrangian(loss, rule, multipliers={"g": made})
        return stepped(
            jc.alternating(problem, optax.sgd(0.1), dual(0.1)), PARAMS, BATCH
        )
    return made


def trained(method):
    """Traces one step of a method."""
    problem = method.change(definition())
    solver = method.solver(problem, method.value)
    params = problem.init(jax.random.key(0))
    return stepped(solver, params, problem.batch)


def stepped(solver, params, batch):
    """Traces one step of a solver."""
    return jax.eval_shape(solver.step, solver.init(params, batch), batch)
