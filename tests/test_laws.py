"""One table of penalties, transforms and orders, and the laws that all of them keep."""

from functools import partial
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxcon as jc
from jaxcon import penalties


class Case(NamedTuple):
    """A function of one pytree, where to try it, and where it has nothing to do.

    Attributes:
        function: pytree -> pytree.
        value: an argument at which it does something.
        at_rest: an argument that is feasible (and optimal); None where there is none.
        rests: asserts of (output, argument) that the cost is zero or nothing moved.
        carry: picks from the output what the next call takes; None for no state.
    """

    function: Any
    value: Any
    at_rest: Any
    rests: Any
    carry: Any = None


def penalty_case(penalty, at_rest=0.0, last=0.7):
    return Case(
        lambda tree: jax.tree.map(penalty, tree),
        {"points": jnp.array([-2.5, -0.3, -1.0]), "one": (jnp.array(last),)},
        None if at_rest is None else jnp.array(at_rest),
        lambda cost, _: [
            np.testing.assert_array_equal(price, np.zeros_like(price))
            for price in jax.tree.leaves(cost)
        ],
    )


RESIDUALS = jc.Constraints(
    {"h": jnp.array([0.5, -1.0])},
    {"g": jnp.array(2.0, float), "gs": jnp.array([-3.0, 0.1])},
)
MULTIPLIERS = jc.Constraints(
    {"h": jnp.array([1.0, -1.0])},
    {"g": jnp.array(0.5, float), "gs": jnp.array([0.2, 0.0])},
)
# Where MULTIPLIERS are positive the residual is zero.
SETTLED = jc.Constraints(
    {"h": jnp.zeros(2)}, {"g": jnp.array(0.0), "gs": jnp.array([0.0, -0.1])}
)
FEASIBLE = jc.Constraints(
    {"h": jnp.zeros(2)}, {"g": jnp.array(0.0), "gs": jnp.array([-3.0, -0.1])}
)


def dual_case(dual):
    dual = optax.with_extra_args_support(dual)

    def update(tree):
        residuals, multipliers, state = tree
        climbs, state = dual.update(
            residuals,
            state,
            multipliers,
            value=1.0 + residuals.inequality["g"],
            estimates=jc.multiplier_estimates(residuals, multipliers, 0.5),
            penalty=jax.tree.map(lambda _: jnp.array(0.5, float), residuals),
        )
        return residuals, optax.apply_updates(multipliers, climbs), state

    def begun(residuals, multipliers):
        """After one call, since some transforms leave their first one out."""
        _, _, state = update((residuals, multipliers, dual.init(multipliers)))
        return residuals, multipliers, state

    def rests(after, before):
        jax.tree.map(np.testing.assert_array_equal, after[1], before[1])

    zero = jc.zero_multipliers(RESIDUALS)
    return Case(
        update,
        begun(RESIDUALS, MULTIPLIERS),
        begun(FEASIBLE, zero),
        rests,
        carry=lambda after: after,
    )


def primal_case(primal):
    def loss(params):
        return jnp.sum((params["w"] - 1.0) ** 4) + params["b"] ** 2

    def update(tree):
        params, state = tree
        value, grad = jax.value_and_grad(loss)(params)
        extra = {"value": value, "grad": grad, "value_fn": loss}
        moves, state = primal.update(grad, state, params, **extra)
        return optax.apply_updates(params, moves), state

    def rests(after, before):
        jax.tree.map(np.testing.assert_array_equal, after[0], before[0])

    start = {"w": jnp.array([1.5, -1.0]), "b": jnp.array(0.5, float)}
    optimum = {"w": jnp.ones(2), "b": jnp.zeros(())}
    return Case(
        update,
        (start, primal.init(start)),
        (optimum, primal.init(optimum)),
        rests,
        carry=lambda after: after,
    )


def rule_case(rule, at_rest=None):
    """A penalty rule, by the penalties it gives."""

    def update(tree):
        residuals, penalty, state = tree
        penalty, state = rule.update(
            residuals, state, penalty, MULTIPLIERS, 1.0 + residuals.inequality["g"]
        )
        return residuals, penalty, state

    def begun(residuals):
        """After one call: growth and adaptation compare with the one before."""
        return update((residuals, *rule.init(residuals, jnp.float32)))

    def rests(after, before):
        jax.tree.map(np.testing.assert_array_equal, after[1], before[1])

    return Case(
        update,
        begun(RESIDUALS),
        at_rest if at_rest is None else begun(at_rest),
        rests,
        carry=lambda after: after,
    )


def order_case(order, dual=None, at_rest=True, **more):
    # At zero the loss is least, h = 0 and g < 0: there is nothing to do.
    method = order(
        lambda p, _: (jnp.sum(p["w"] ** 2) + p["b"][0] ** 2, {"b": p["b"][0]}),
        jc.Constraints(
            {"h": lambda p, _: p["w"] - p["b"][0]},
            {"g": lambda p, _: p["b"][0] - 0.5, "gs": lambda p, _: -p["w"] - 1.0},
        ),
        optax.adam(0.1),
        jc.dual_ascent(optax.sgd(0.3)) if dual is None else dual,
        **more,
    )
    start = method.init({"w": jnp.array([1.0, -2.0, 3.0]), "b": (jnp.array(2.0),)})

    def rests(after, before):
        for moved, stood in zip(after[0][:2], before[:2]):
            jax.tree.map(np.testing.assert_array_equal, moved, stood)

    return Case(
        method.step,
        start,
        method.init(jax.tree.map(jnp.zeros_like, start.params)) if at_rest else None,
        rests,
        carry=lambda after: after[0],
    )


ORDERS = {
    "simultaneous": jc.simultaneous,
    "dual first": jc.alternating,
    "primal first": partial(jc.alternating, first="primal"),
    "extragradient": jc.extragradient,
}
OWN = {
    "h": jc.nupi(0.3, kp=2.0),
    "g": jc.capped(jc.dual_ascent(optax.sgd(0.3)), 0.5),
    "gs": jc.every(jc.dual_ascent(optax.adam(0.1)), 1),
}
PRICED = jc.fixed_price(2.0, penalties.quadratic, penalties.squared_hinge)
WAYS = {
    "Lagrangian": {},
    "augmented": {"penalty": 2.0},
    "growing": {"penalty": jc.growing_penalty(2.0, every=1)},
    "adaptive": {"penalty": jc.adaptive_penalty(0.1)},
    "own duals and penalties": {"dual": OWN, "penalty": {"h": 1.0, "g": lambda t: 2.0}},
    # Multipliers of one fall where g < 0: such a start is not at rest.
    "barrier": {
        "dual": jc.method_of_multipliers(),
        "penalty": 2.0,
        "barrier": penalties.log_quadratic,
        "at_rest": False,
    },
}
CASES = (
    {
        "absolute": penalty_case(penalties.absolute),
        "quadratic": penalty_case(penalties.quadratic),
        "hinge": penalty_case(penalties.hinge, at_rest=[-1.0, 0.0]),
        "squared_hinge": penalty_case(penalties.squared_hinge, at_rest=[-1.0, 0.0]),
        "huber": penalty_case(penalties.huber),
        "log_barrier": penalty_case(penalties.log_barrier, at_rest=None, last=-0.7),
        "log_quadratic": penalty_case(penalties.log_quadratic),
        "exponential_quadratic": penalty_case(penalties.exponential_quadratic),
        "growing penalty": rule_case(jc.growing_penalty(1.0, every=1), SETTLED),
        # It grows where violations are small, up to a bound.
        "adaptive penalty": rule_case(jc.adaptive_penalty(9.0, decay=0.5)),
        "ascent by sgd": dual_case(jc.dual_ascent(optax.sgd(0.5))),
        "ascent by momentum": dual_case(jc.dual_ascent(optax.sgd(0.5, momentum=0.9))),
        "ascent by adam": dual_case(jc.dual_ascent(optax.adam(0.5))),
        "method of multipliers": dual_case(jc.method_of_multipliers()),
        "nupi": dual_case(jc.nupi(0.5, kp=2.0, nu=0.5)),
        "nupi from zero": dual_case(jc.nupi(0.5, kp=-0.2, nu=0.5, init="zero")),
        "pid": dual_case(jc.pid(0.3, 0.2, 0.1)),
        "capped": dual_case(jc.capped(jc.nupi(0.5, kp=2.0), 0.8)),
        "restart when feasible": dual_case(
            jc.restart_when_feasible(jc.dual_ascent(optax.adam(0.5)))
        ),
        "every": dual_case(jc.every(jc.dual_ascent(optax.adam(0.5)), 2)),
        "when stalled": dual_case(jc.when_stalled(jc.dual_ascent(optax.adam(0.5)))),
        "fixed price": dual_case(
            jc.fixed_price(0.5, penalties.quadratic, penalties.squared_hinge)
        ),
        "proximal": primal_case(
            jc.proximal(
                optax.adam(0.1), lambda p: jax.tree.map(lambda w: w.clip(0, 1), p)
            )
        ),
        "clip by percentile": primal_case(
            optax.chain(jc.clip_by_percentile(), optax.sgd(0.1))
        ),
        "clip by z-score": primal_case(
            optax.chain(jc.clip_by_z_score(warmup=2), optax.sgd(0.1))
        ),
        "counted": primal_case(
            optax.chain(
                jc.counted("norm", optax.clip_by_global_norm(0.5)), optax.sgd(0.1)
            )
        ),
        "restarted adam": primal_case(jc.restart_every(optax.adam(0.1), 2)),
        "restarted lbfgs": primal_case(jc.restart_every(optax.lbfgs(), 2)),
    }
    | {
        name: order_case(jc.alternating, dual=dual, terms=terms)
        for name, dual, terms in (
            ("each term", None, jc.each_term(optax.clip_by_global_norm(0.5))),
            ("bound constraints", None, jc.bound_constraints(0.5)),
            ("project conflicts", None, jc.project_conflicts()),
            ("conflict free", None, jc.conflict_free()),
            ("gradient norms", PRICED, jc.balance_by_gradient_norm()),
            ("relative losses", PRICED, jc.balance_by_relative_loss()),
            ("uncertainty", PRICED, jc.balance_by_uncertainty(optax.sgd(0.1))),
        )
    }
    | {
        f"{order}, {name}": order_case(ORDERS[order], **more)
        for order in ORDERS
        for name, more in WAYS.items()
        if order == "dual first" or name not in ("growing", "adaptive", "barrier")
    }
)
STATEFUL = {name: case for name, case in CASES.items() if case.carry}
RESTING = {name: case for name, case in CASES.items() if case.at_rest is not None}
# Orders that the two others are made of; lbfgs, for the seconds that it compiles.
REPEATING = {
    "restarted lbfgs",
    "gradient norms",  # as "project conflicts" and "uncertainty" together
    "relative losses",
    "bound constraints",
    *(
        f"{order}, {name}"
        for order in ("simultaneous", "primal first")
        for name in WAYS
    ),
}


def over(names):
    return pytest.mark.parametrize(
        "name",
        [
            pytest.param(name, marks=pytest.mark.slow) if name in REPEATING else name
            for name in names
        ],
    )


# Fused and unfused programs differ by a few roundings of numbers near one.
close = partial(
    chex.assert_trees_all_close,
    rtol=16 * np.finfo(np.float32).eps,
    atol=16 * np.finfo(np.float32).eps,
)


@over(CASES)
def test_jit_is_eager(name):
    case = CASES[name]
    with jax.disable_jit():
        eager = case.function(case.value)
    close(jax.jit(case.function)(case.value), eager)


@over(CASES)
def test_vmap_is_a_loop(name):
    case = CASES[name]

    def scaled(scale):
        """The case's own argument, its floating-point leaves scaled a little."""

        def scale_leaf(leaf):
            floating = jnp.issubdtype(leaf.dtype, jnp.floating)
            return leaf * jnp.asarray(scale, leaf.dtype) if floating else leaf

        return jax.tree.map(scale_leaf, case.value)

    values = [scaled(scale) for scale in (0.5, 1.0, 1.75)]
    function = jax.jit(case.function)
    looped = jax.tree.map(lambda *rows: jnp.stack(rows), *map(function, values))
    batch = jax.tree.map(lambda *rows: jnp.stack(rows), *values)
    close(jax.jit(jax.vmap(case.function))(batch), looped)
    assert not all(np.array_equal(rows[0], rows[2]) for rows in jax.tree.leaves(looped))


@over(STATEFUL)
def test_the_state_keeps_its_structure_shapes_and_dtypes(name):
    case = STATEFUL[name]
    before = case.value
    for _ in range(2):
        after = case.carry(jax.jit(case.function)(before))
        chex.assert_trees_all_equal_structs(after, before)
        chex.assert_trees_all_equal_shapes_and_dtypes(after, before)
        jax.tree.map(lambda leaf: chex.assert_equal(leaf.weak_type, False), after)
        before = after


@over(sorted(CASES.keys() - STATEFUL.keys()))
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32])
def test_a_price_has_its_residual_s_shape_and_dtype(name, dtype):
    case = CASES[name]
    value = jax.tree.map(lambda leaf: leaf.astype(dtype), case.value)
    chex.assert_trees_all_equal_shapes_and_dtypes(case.function(value), value)


@over(RESTING)
def test_where_all_is_well_nothing_happens(name):
    case = RESTING[name]
    case.rests(jax.jit(case.function)(case.at_rest), case.at_rest)


@over(RESTING)
def test_elsewhere_something_does(name):
    # Or the law above would hold of what never does anything.
    case = RESTING[name]
    with pytest.raises(AssertionError):
        case.rests(jax.jit(case.function)(case.value), case.value)
