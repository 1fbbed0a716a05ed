"""The table of penalties, transforms, penalty rules and orders, and the laws they keep.

A row is built only when a test asks for it. A new function of these kinds is one row.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import laws
import numpy as np
import optax
import pytest
from tables import assert_each

import jaxcon as jc
from jaxcon import penalties
from jaxcon.lagrangians import constant_penalty, penalty_rule, scheduled_penalty

CALLS = 4
RHO = 0.5


class Case(NamedTuple):
    """A function of one pytree, and the arguments at which its laws are checked.

    Attributes:
        function: argument -> (moves, rest). At rest all its moves are zero.
        cases: stacked arguments. At the first three it does something.
        rests: whether the last argument is one at rest: feasible, and optimal.
        check: asserts what is known of the stacked outputs besides, or None.
    """

    function: Callable[[Any], tuple[Any, Any]]
    cases: Any
    rests: bool = True
    check: Callable[[Any], None] | None = None


def np_stack(*trees):
    return jax.tree.map(lambda *leaves: np.stack(leaves), *trees)


def in_three_sizes(tree):
    """The argument, smaller, as it is and larger."""
    return [
        jax.tree.map(lambda leaf, by=by: np.float32(by) * leaf, tree)
        for by in (0.5, 1.0, 1.75)
    ]


def difference(after, before):
    return jax.tree.map(jnp.subtract, after, before)


# Penalties.


def penalty_case(penalty, at_rest=0.0, last=0.7):
    away = {"points": np.float32([-2.5, -0.3, -1.0]), "one": (np.float32(last),)}
    rest = {"points": np.float32([0.0, at_rest, 0.0]), "one": (np.float32(at_rest),)}
    return Case(
        lambda tree: (jax.tree.map(penalty, tree), ()),
        np_stack(*in_three_sizes(away), rest),
        rests=penalty is not penalties.log_barrier,
    )


PENALTIES = {
    "absolute": lambda: penalty_case(penalties.absolute),
    "quadratic": lambda: penalty_case(penalties.quadratic),
    "hinge": lambda: penalty_case(penalties.hinge, at_rest=-1.0),
    "squared_hinge": lambda: penalty_case(penalties.squared_hinge, at_rest=-1.0),
    "huber": lambda: penalty_case(penalties.huber),
    "log_barrier": lambda: penalty_case(penalties.log_barrier, last=-0.7),
    "log_quadratic": lambda: penalty_case(penalties.log_quadratic),
    "exponential_quadratic": lambda: penalty_case(penalties.exponential_quadratic),
}


# Transforms of multipliers.

MULTIPLIERS = jc.Constraints(
    {"h": np.float32([1.0, -1.0])},
    {"g": np.float32(0.5), "gs": np.float32([0.2, 0.0])},
)
ZERO = jax.tree.map(np.zeros_like, MULTIPLIERS)
FEASIBLE = jc.Constraints(
    {"h": np.zeros(2, np.float32)},
    {"g": np.float32(0.0), "gs": np.float32([-3.0, -0.1])},
)


def every_call(tree):
    """The same residuals at every call."""
    return jax.tree.map(lambda r: np.broadcast_to(r, (CALLS, *np.shape(r))), tree)


def noise(seed=6):
    draw = np.random.default_rng(seed)
    return jax.tree.map(
        lambda r: np.float32(draw.normal(size=(CALLS, *np.shape(r)))), MULTIPLIERS
    )


def extras(residuals, multipliers):
    """What a step hands to the dual transform besides the residuals."""
    return {
        "value": jnp.ones((), jnp.float32),
        "estimates": jc.multiplier_estimates(residuals, multipliers, RHO),
        "penalty": jax.tree.map(lambda r: jnp.array(RHO, r.dtype), residuals),
    }


def climb(dual, carry, residuals):
    """One call of a dual transform."""
    multipliers, state = carry
    climbs, state = optax.with_extra_args_support(dual).update(
        residuals, state, multipliers, **extras(residuals, multipliers)
    )
    chex.assert_trees_all_equal_shapes_and_dtypes(climbs, residuals)
    return optax.apply_updates(multipliers, climbs), state


def dual_case(dual):
    def function(argument):
        residuals, start = argument

        def step(carry, residuals):
            after = climb(dual, carry, residuals)
            return after, after[0]

        (last, state), path = jax.lax.scan(step, (start, dual.init(start)), residuals)
        return difference(last, start), (path, state)

    ones = jax.tree.map(np.ones_like, noise())
    cases = [
        *((scaled, MULTIPLIERS) for scaled in in_three_sizes(noise())),
        (ones, ZERO),
        (jax.tree.map(np.negative, ones), ZERO),
        (every_call(FEASIBLE), ZERO),
    ]

    def check(outputs):
        _, (path, _) = outputs
        for entry in jax.tree.leaves(path):
            assert (entry[3, -1] > 0).all()  # along positive residuals they rise
        # Along negative ones those of equalities fall, and the others stop at zero.
        assert (path.equality["h"][4, -1] < 0).all()
        for entry in path.inequality.values():
            assert (entry[4] == 0).all()
            assert (entry >= 0).all()
        assert max(entry[:3].max() for entry in path.inequality.values()) > 0.1
        assert path.equality["h"][:3].min() < -0.1

    return Case(function, np_stack(*cases), check=check)


def ascent(optimizer):
    return jc.dual_ascent(optimizer)


DUALS = {
    "ascent by sgd": lambda: ascent(optax.sgd(0.5)),
    "ascent by momentum": lambda: ascent(optax.sgd(0.5, momentum=0.9)),
    "ascent by adam": lambda: ascent(optax.adam(0.1)),
    "ascent, mean of 2": lambda: optax.MultiSteps(
        ascent(optax.sgd(0.5)), 2
    ).gradient_transformation(),
    "method_of_multipliers": jc.method_of_multipliers,
    "nupi": lambda: jc.nupi(0.5, kp=2.0, nu=0.5),
    "nupi from zero": lambda: jc.nupi(0.5, kp=-0.2, nu=0.5, init="zero"),
    "pid": lambda: jc.pid(0.3, 0.2, 0.1),
    "capped": lambda: jc.capped(jc.nupi(0.5, kp=2.0), 0.8),
    "restart_when_feasible": lambda: jc.restart_when_feasible(ascent(optax.adam(0.1))),
    "every": lambda: jc.every(ascent(optax.adam(0.1)), 2),
    "when_stalled": lambda: jc.when_stalled(ascent(optax.adam(0.1))),
    "fixed_penalty": lambda: jc.fixed_penalty(
        0.5, penalties.quadratic, penalties.squared_hinge
    ),
}


# Transforms of parameters.


def primal_loss(params):
    return jnp.sum((params["w"] - 1.0) ** 4) + params["b"] ** 2


def move(primal, carry):
    params, state = carry
    value, grad = jax.value_and_grad(primal_loss)(params)
    extra = {"value": value, "grad": grad, "value_fn": primal_loss}
    primal = optax.with_extra_args_support(primal)
    moves, state = primal.update(grad, state, params, **extra)
    return optax.apply_updates(params, moves), state


START = {"w": np.float32([1.5, -1.0]), "b": np.float32(0.5)}
OPTIMUM = {"w": np.float32([1.0, 1.0]), "b": np.float32(0.0)}


def primal_case(primal):
    def function(params):
        start = params, primal.init(params)
        last, path = jax.lax.scan(
            lambda carry, _: (move(primal, carry),) * 2, start, length=3
        )
        return difference(last[0], params), path

    return Case(function, np_stack(*in_three_sizes(START), OPTIMUM))


PRIMALS = {
    "proximal": lambda: jc.proximal(
        optax.adam(0.1), lambda p: jax.tree.map(lambda w: w.clip(0, 1), p)
    ),
    "clip_by_percentile": lambda: optax.chain(jc.clip_by_percentile(), optax.sgd(0.1)),
    "clip_by_z_score": lambda: optax.chain(
        jc.clip_by_z_score(warmup=2), optax.sgd(0.1)
    ),
    "counted": lambda: optax.chain(
        jc.counted("norm", optax.clip_by_global_norm(0.5)), optax.sgd(0.1)
    ),
    "restart_every, adam": lambda: jc.restart_every(optax.adam(0.1), 2),
    "restart_every, lbfgs": lambda: jc.restart_every(optax.lbfgs(), 2),
    "soap": lambda: jc.soap(0.1, every=1),
    "self_scaled_broyden": jc.self_scaled_broyden,
}


# Penalty rules.

# Where MULTIPLIERS are positive the residual is zero.
SETTLED = FEASIBLE._replace(
    inequality={"g": np.float32(0.0), "gs": np.float32([0.0, -0.1])}
)


def clock(step):
    """An optax schedule: 1, 2, 3, …"""
    return 1.0 + step


RULES = {
    "growing_penalty": lambda: jc.growing_penalty(1.0, every=1),
    "growing_penalty, every 2": lambda: jc.growing_penalty(1.0, every=2, factor=2.0),
    "adaptive_penalty": lambda: jc.adaptive_penalty(9.0, decay=0.5),
    "penalties by name": lambda: penalty_rule(
        {"g": clock, "h": jc.growing_penalty(1.0, every=1), "gs": 2.0}, MULTIPLIERS
    ),
}
# These answer to nothing: all that can be asked of them is their structure.
CLOCKS = {
    "constant_penalty": lambda: constant_penalty(2.0),
    "scheduled_penalty": lambda: scheduled_penalty(clock),
    "penalties by name, not of all": lambda: penalty_rule(
        {"g": clock, "h": jc.growing_penalty(1.0, every=1), "gs": None}, MULTIPLIERS
    ),
}


def rule_case(rule, rests=False):
    """A penalty rule, by the penalties it gives."""

    def function(argument):
        residuals, values = argument
        start = rule.init(jax.tree.map(lambda r: r[0], residuals), jnp.float32)

        def step(carry, now):
            (residuals, value), (penalty, state) = now, carry
            after = rule.update(residuals, state, penalty, MULTIPLIERS, value)
            return after, after[0]

        (last, state), path = jax.lax.scan(step, start, (residuals, values))
        return difference(last, start[0]), (path, state)

    # Rising, as an objective near its minimum may: the rules wait while it falls.
    values = np.sort(np.float32(np.random.default_rng(1).normal(size=CALLS)))
    cases = [(scaled, values) for scaled in in_three_sizes(noise())]

    def check(outputs):
        _, (path, _) = outputs
        for rhos in jax.tree.leaves(path):
            assert (rhos >= 1).all()
            assert (np.diff(rhos) >= 0).all()  # these four never fall

    settled = every_call(SETTLED), np.ones_like(values)
    return Case(function, np_stack(*cases, settled), rests, check)


# Transforms of the terms' gradients.

TERMS = {
    "each_term": lambda: jc.each_term(optax.clip_by_global_norm(0.5)),
    "bound_constraints": lambda: jc.bound_constraints(0.5),
    "project_conflicts": lambda: jc.project_conflicts(),
    "conflict_free": lambda: jc.conflict_free(),
    "balance_by_gradient_norm": lambda: jc.balance_by_gradient_norm(),
    "balance_by_relative_loss": lambda: jc.balance_by_relative_loss(),
    "balance_by_uncertainty": lambda: jc.balance_by_uncertainty(optax.sgd(0.1)),
    "balance_by_loss_rate": lambda: jc.balance_by_loss_rate(),
    "balance_by_kernel_trace": lambda: jc.balance_by_kernel_trace(),
}


def balance(transform, carry):
    """One call, whose carry holds the gradients and the values as well."""
    terms, values, _, state = carry
    transform = optax.with_extra_args_support(transform)
    known = {"values": values, "traces": lambda key: jax.random.uniform(key, (2,))}
    moves, state = transform.update(terms, state, terms, **known)
    return terms, values, moves, state


def as_terms(entries):
    f, h = entries
    return jc.GradientTerms(f, jc.Constraints({"h": h}))


def terms_case(transform):
    def function(argument):
        gradients, values = argument
        start = gradients, values, gradients, transform.init(gradients)
        *_, moves, state = jax.lax.scan(
            lambda carry, _: (balance(transform, carry), None), start, length=2
        )[0]
        return moves, state

    draw = np.random.default_rng(2)
    gradients = as_terms(
        [
            {"w": np.float32(draw.normal(size=2)), "b": np.float32(draw.normal())}
            for _ in range(2)
        ]
    )
    values = as_terms(np.float32([0.5, 2.0]))
    cases = [(scaled, values) for scaled in in_three_sizes(gradients)]
    zero = jax.tree.map(np.zeros_like, gradients)
    return Case(function, np_stack(*cases, (zero, values)))


# Orders, and what they are made with.


def order_method(
    order, primal=None, dual=None, penalty=None, barrier=None, per_term=None
):
    return order(
        jc.Lagrangian(
            lambda p, _: (jnp.sum(p["w"] ** 2) + p["b"][0] ** 2, {"b": p["b"][0]}),
            jc.Constraints(
                {"h": lambda p, _: p["w"] - p["b"][0]},
                {"g": lambda p, _: p["b"][0] - 0.5, "gs": lambda p, _: -p["w"] - 1.0},
            ),
            penalty=penalty,
            barrier=barrier,
        ),
        primal or optax.adam(0.1),
        dual or ascent(optax.sgd(0.3)),
        per_term=per_term,
    )


def order_case(solver, rests=True):
    def function(params):
        start = solver.init(params)
        last, infos = jax.lax.scan(lambda state, _: solver.step(state), start, length=2)
        moves = difference(
            (last.params, last.multipliers), (start.params, start.multipliers)
        )
        return moves, (last, infos)

    away = {"w": np.float32([1.0, -2.0]), "b": (np.float32(2.0),)}
    # At zero the loss is least, h = 0 and g < 0: there is nothing to do.
    zero = jax.tree.map(np.zeros_like, away)
    return Case(function, np_stack(*in_three_sizes(away), zero), rests)


def own():
    """A dual transform and a penalty for each constraint."""
    return {
        "dual": {
            "h": jc.nupi(0.3, kp=2.0),
            "g": jc.capped(ascent(optax.sgd(0.3)), 0.5),
            "gs": jc.every(ascent(optax.adam(0.1)), 1),
        },
        "penalty": {
            "h": jc.growing_penalty(1.0, every=1),
            "g": lambda t: 2.0 + t,
            "gs": jc.adaptive_penalty(0.1),
        },
    }


ORDERS = {
    "alternating": jc.alternating,
    "extragradient": jc.extragradient,
    "simultaneous": jc.simultaneous,
    "primal first": partial(jc.alternating, first="primal"),
}
WAYS = {
    "Lagrangian": dict,
    "each_term": lambda: {"per_term": TERMS["each_term"]()},
    "augmented": lambda: {"penalty": 2.0},
    "own": own,
    "growing": lambda: {"penalty": jc.growing_penalty(2.0, every=1)},
    "adaptive": lambda: {"penalty": jc.adaptive_penalty(0.1)},
    "barrier": lambda: {
        "dual": jc.method_of_multipliers(),
        "penalty": 2.0,
        "barrier": penalties.log_quadratic,
    },
}


METHODS = {
    f"{order}, {method}": lambda make=make, more=more: order_method(make, **more())
    for order, make in ORDERS.items()
    for method, more in WAYS.items()
    if order == "alternating" or method in ("Lagrangian", "augmented", "own")
}


def rows_of(table, make_case, **options):
    return {
        name: lambda name=name: make_case(table[name](), **options.get(name, {}))
        for name in table
    }


CASES = {
    **PENALTIES,
    **rows_of(DUALS, dual_case),
    **rows_of(PRIMALS, primal_case),
    # The others grow where violations are small as well, or by the clock.
    **rows_of(RULES, rule_case, **{"growing_penalty": {"rests": True}}),
    # Multipliers of one fall where g < 0: a barrier's start is not at rest.
    **rows_of(TERMS, terms_case),
    **rows_of(METHODS, order_case, **{"alternating, barrier": {"rests": False}}),
}
# Orders that the others are made of; lbfgs, for the seconds that it compiles.
SLOW = {
    "restart_every, lbfgs",
    "ascent by momentum",  # adam keeps two of what it keeps
    "ascent, mean of 2",
    "nupi from zero",
    "growing_penalty, every 2",
    "bound_constraints",
    "balance_by_gradient_norm",
    "balance_by_relative_loss",
    "balance_by_loss_rate",
    "alternating, each_term",
    "alternating, Lagrangian",
    "alternating, growing",  # "own" holds both rules
    "alternating, adaptive",
    "extragradient, augmented",
    "extragradient, own",
    *(name for name in METHODS if name.startswith(("simultaneous", "primal first"))),
}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name
        for name in CASES
    ],
)
def test_law_jit_is_eager_vmap_is_a_loop_and_what_is_at_rest_stays(name):
    case = CASES[name]()
    cases = jax.device_put(case.cases)  # the oldest optax takes no NumPy scalars
    outputs = jax.device_get(laws.assert_transforms(case.function, cases))
    moves = jax.tree.leaves(outputs[0])
    if case.rests:
        for leaf in moves:
            np.testing.assert_array_equal(leaf[-1], np.zeros_like(leaf[-1]))
    # Or the law above would hold of what never does anything.
    assert any(np.any(leaf[1] != 0) for leaf in moves)
    if case.check:
        case.check(outputs)


# Structure, shapes and dtypes: nothing is compiled.

f32 = partial(jax.ShapeDtypeStruct, dtype=jnp.float32)
TREES = {
    "both": jc.Constraints({"h": f32(())}, {"g": f32((3,))}),
    "equalities": jc.Constraints({"h": f32((2,)), "x = 1": f32(())}),
    "inequalities": jc.Constraints({}, {"b": f32((2,)), "a": f32(())}),
    "none": jc.Constraints(),
}


def of_dtype(tree, dtype):
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, dtype), tree)


def assert_keeps_from(init, step, *arguments):
    """Asserts that `step` keeps what `init` begins with, which is not weakly typed."""
    start = jax.eval_shape(init, *arguments)
    for leaf in jax.tree.leaves(start):
        assert not leaf.weak_type
    laws.assert_keeps(step, start)


def test_dual_transforms_keep_structure_shapes_and_dtypes_of_any_tree():
    def check(row):
        name, tree, dtype = row
        dual, like = DUALS[name](), of_dtype(TREES[tree], dtype)

        def step(carry):
            _, multipliers, state = carry
            return like_carry(climb(dual, (multipliers, state), carry[0]), carry[0])

        def like_carry(after, residuals):
            return residuals, *after

        assert_keeps_from(lambda r: (r, r, dual.init(r)), step, like)

    kinds = [(tree, jnp.float32) for tree in TREES] + [("both", jnp.bfloat16)]
    assert_each([(name, *kind) for name in DUALS for kind in kinds], check)


def test_primal_transforms_keep_structure_shapes_and_dtypes():
    def check(name):
        primal = PRIMALS[name]()
        init = lambda params: (params, primal.init(params))  # noqa: E731
        # optax's lbfgs begins with a weakly typed number, and keeps it so.
        laws.assert_keeps(partial(move, primal), jax.eval_shape(init, START))

    assert_each(PRIMALS, check)


def test_transforms_of_terms_keep_structure_shapes_and_dtypes():
    def check(name):
        transform, case = TERMS[name](), terms_case(TERMS[name]())
        gradients, values = jax.tree.map(lambda leaf: leaf[0], case.cases)
        init = lambda g, v: (g, v, g, transform.init(g))  # noqa: E731
        assert_keeps_from(init, partial(balance, transform), gradients, values)

    assert_each(TERMS, check)


def test_penalty_rules_keep_structure_shapes_and_the_loss_s_dtype(x64):
    def check(row):
        name, residual_dtype, loss_dtype = row
        rule, like = (RULES | CLOCKS)[name](), of_dtype(MULTIPLIERS, residual_dtype)

        def init(residuals):
            return (
                residuals,
                jnp.ones((), loss_dtype),
                *rule.init(residuals, loss_dtype),
            )

        def step(carry):
            residuals, value, penalty, state = carry
            after = rule.update(residuals, state, penalty, residuals, value)
            return residuals, value, *after

        assert_keeps_from(init, step, like)
        for rho in jax.tree.leaves(jax.eval_shape(init, like)[2]):
            assert (rho.shape, rho.dtype) == ((), loss_dtype)

    assert_each(
        [
            (name, residual_dtype, loss_dtype)
            for name in RULES | CLOCKS
            for residual_dtype in (jnp.bfloat16, jnp.float32, jnp.float64)
            for loss_dtype in (jnp.float32, jnp.float64)
        ],
        check,
    )


def test_orders_keep_structure_shapes_and_dtypes():
    def check(name):
        solver = METHODS[name]()
        params = {"w": f32((2,)), "b": (f32(()),)}
        assert_keeps_from(solver.init, lambda state: solver.step(state)[0], params)

    assert_each(METHODS, check)


def test_penalties_have_their_residual_s_shape_and_dtype():
    def check(row):
        name, dtype = row
        case = PENALTIES[name]()
        like = of_dtype(jax.tree.map(lambda leaf: leaf[0], case.cases), dtype)
        laws.assert_keeps(lambda tree: case.function(tree)[0], like)

    dtypes = (jnp.bfloat16, jnp.float16, jnp.float32)
    assert_each([(name, dtype) for name in PENALTIES for dtype in dtypes], check)
