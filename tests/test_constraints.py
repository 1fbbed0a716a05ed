"""Residuals, violations, feasibility and proxies, by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tables import assert_each, assert_refused

import jaxcon as jc
from jaxcon.constraints import check_constraints, named, worst

RESIDUALS = jc.Constraints(
    equality={"scalar": np.array(-2.0), "points": np.array([0.5, -3.0, 1.0])},
    inequality={"inside": np.array([-1.0, -4.0]), "outside": np.array([0.25, -9.0])},
)


def test_evaluate_calls_every_function_with_params_and_batch():
    constraints = jc.Constraints(
        equality={"h": lambda p, x: x * p["w"] - 1.0},
        inequality={"g": lambda p, x: jnp.sum(x) - p["b"]},
    )
    residuals = jc.evaluate(
        constraints, {"w": jnp.array(2.0), "b": jnp.array(0.5)}, jnp.array([1.0, 3.0])
    )
    np.testing.assert_array_equal(residuals.equality["h"], [1.0, 5.0])
    np.testing.assert_array_equal(residuals.inequality["g"], 3.5)


def test_violation_is_absolute_for_h_and_positive_part_for_g():
    violation = jc.violation(RESIDUALS)
    expected = jc.Constraints(
        equality={"scalar": 2.0, "points": [0.5, 3.0, 1.0]},
        inequality={"inside": [0.0, 0.0], "outside": [0.25, 0.0]},
    )
    for kind, name, want in named(expected):
        got = getattr(violation, kind)[name]
        np.testing.assert_array_equal(got, np.array(want), err_msg=name)
        assert got.shape == np.shape(want)


def test_worst_is_one_number_per_constraint_and_zero_for_no_points():
    entries = jc.Constraints(
        inequality={"some": jnp.array([1.0, 4.0]), "no": jnp.ones(0)}
    )
    assert jax.tree.map(float, worst(entries)) == jc.Constraints(
        inequality={"some": 4.0, "no": 0.0}
    )


def test_max_violation_is_over_all_points_and_not_finite_where_one_is_nan():
    def inequality(**entries):
        return jc.Constraints(inequality={k: np.array(v) for k, v in entries.items()})

    nan_in_h = jc.Constraints({"h": np.array(np.nan)}, {"g": np.array(5.0)})
    rows = {
        "both": (RESIDUALS, 3.0),
        "inequalities": (jc.Constraints(inequality=RESIDUALS.inequality), 0.25),
        "inside": (inequality(inside=[-1.0, -4.0]), 0.0),
        "none": (jc.Constraints(), 0.0),
        "no points": (inequality(points=[]), 0.0),
        "nan in h": (nan_in_h, np.nan),
        "nan in g": (inequality(g=[-1.0, np.nan]), np.nan),
    }

    def check(name):
        residuals, largest = rows[name]
        np.testing.assert_array_equal(jc.max_violation(residuals), largest)

    assert_each(rows, check)


def test_feasible_is_within_the_tolerance_and_never_with_nan():
    def check(row):
        h, g, feasible = row
        residuals = jc.Constraints({"h": np.array(h)}, {"g": np.array([g, -1.0])})
        answer = jc.feasible(residuals, tolerance=0.25)
        assert answer.shape == ()
        assert bool(answer) is feasible

    assert_each(
        [
            (0.25, -1.0, True),
            (-0.25, 0.25, True),
            (-0.2501, -1.0, False),
            (0.0, 0.2501, False),
            (np.nan, -1.0, False),
            (0.0, np.nan, False),
            (0.0, -np.inf, True),
        ],
        check,
    )


@pytest.mark.parametrize("jit", [False, True], ids=["eager", "jit"])
@pytest.mark.parametrize("kind", jc.Constraints._fields)
def test_evaluate_refuses_a_residual_that_is_no_vector_of_reals(kind, jit):
    def evaluated(residual):
        constraints = jc.Constraints(**{kind: {"flux": lambda p, _: residual}})
        evaluate = lambda p: jc.evaluate(constraints, p)  # noqa: E731
        return lambda: (jax.jit(evaluate) if jit else evaluate)(np.ones(2))

    assert_refused(
        (evaluated(residual), error, [kind, "'flux'", *words])
        for residual, error, words in [
            (jnp.zeros((4, 1)), ValueError, ["(4, 1)", "(n,)"]),
            (jnp.zeros((1, 1)), ValueError, ["(1, 1)"]),
            (jnp.arange(4), TypeError, ["int32", "real number"]),
            (jnp.array([True, False]), TypeError, ["bool", "jaxcon.proxy"]),
            (jnp.array([1j]), TypeError, ["complex64"]),
        ]
    )


def test_constraints_that_cannot_be_are_refused_before_tracing():
    f = lambda p, b: p  # noqa: E731

    def checked(constraints):
        return lambda: check_constraints(constraints)

    assert_refused(
        (checked(constraints), error, words)
        for constraints, error, words in [
            (jc.Constraints({"cap": f}, {"cap": f}), ValueError, ["'cap'", "both"]),
            (jc.Constraints(None), TypeError, ["equality", "dict", "NoneType"]),
            (jc.Constraints({}, [f]), TypeError, ["inequality", "list"]),
            (jc.Constraints({"cap": 3.0}), TypeError, ["'cap'", "function", "float"]),
            ({"cap": f}, TypeError, ["jaxcon.Constraints", "dict"]),
            (({}, {}), TypeError, ["jaxcon.Constraints", "tuple"]),
        ]
    )


def test_constraints_pass_their_check_unchanged():
    constraints = jc.Constraints({"h": lambda p, b: p}, {"g": lambda p, b: p})
    assert check_constraints(constraints) is constraints


@pytest.mark.parametrize("jit", [False, True], ids=["eager", "jit"])
def test_proxy_has_the_strict_value_to_the_bit_and_the_surrogate_s_gradient(key, jit):
    surrogate = lambda p, x: jax.nn.softplus(30 * x @ p) - 0.1  # noqa: E731
    strict = lambda p, x: (x @ p > 0) - 0.1  # noqa: E731
    p, x = jnp.array([0.3, -1.7]), jax.random.normal(key, (50, 2))
    # A jit around all of it: what the compiler simplifies must not change a bit.
    wrap = jax.jit if jit else lambda f: f
    proxy = jc.proxy(surrogate, strict)
    np.testing.assert_array_equal(wrap(proxy)(p, x), wrap(strict)(p, x))
    jacobian = wrap(jax.jacrev(proxy))(p, x)
    np.testing.assert_array_equal(jacobian, wrap(jax.jacrev(surrogate))(p, x))
    assert np.abs(jacobian).max() > 0.1  # the strict rule's own gradient is zero


def test_proxy_refuses_two_shapes():
    share = jc.proxy(lambda p, x: x @ p, lambda p, x: jnp.mean(x @ p > 0) - 0.1)
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (words below)
        jax.eval_shape(share, jnp.ones(2), jnp.ones((7, 2)))
    for word in ["proxy", "(7,)", "()", "agree"]:
        assert word in str(caught.value)


def test_constraint_that_raises_or_returns_no_residual_is_named():
    wrong = [
        (lambda p: p, TypeError, "takes 1 positional.*'culprit'"),
        (lambda p, b: None, TypeError, "'culprit' returned None"),
        (lambda p, b: "x", TypeError, "'culprit' returned 'x'"),
        (lambda p, b: {"a": p}, TypeError, "'culprit' returned dict"),
        (lambda p, b: [p, p], TypeError, "'culprit' returned list"),
        (lambda p, b: b["missing"], KeyError, "missing.*raised in .* 'culprit'"),
    ]

    def evaluated(function):
        constraints = jc.Constraints({"fine": lambda p, b: p}, {"culprit": function})
        return lambda: jax.eval_shape(
            lambda p: jc.evaluate(constraints, p, {"x": 1.0}), jnp.ones(())
        )

    assert_refused((evaluated(f), error, words) for f, error, words in wrong)
    with pytest.raises(jax.errors.TracerBoolConversionError) as caught:
        evaluated(lambda p, b: p if p > 0 else -p)()
    note = " ".join(caught.value.__notes__)
    assert "inequality constraint 'culprit'" in note
    assert "use jnp.where or jax.lax.cond" in note


def test_evaluate_checks_what_a_solver_checks():
    def g(p, b):
        return p

    cases = [
        (jc.Constraints({"a": g}, {"a": g}), ValueError, "'a' is both"),
        (jc.Constraints({"a": None}), TypeError, "equality constraint 'a' must be"),
        (jc.Constraints({1: g}), TypeError, "name of an equality .* text, got 1"),
        (jc.Constraints([g]), TypeError, "equality of constraints must be a dict"),
        (None, TypeError, "constraints must be jaxcon.Constraints.* got NoneType"),
        ({"a": g}, TypeError, "constraints must be jaxcon.Constraints.* got dict"),
    ]
    assert_refused(
        (lambda c=c: jc.evaluate(c, jnp.ones(())), error, words)
        for c, error, words in cases
    )


def test_violations_of_what_is_no_residual_are_refused():
    wrong = [
        (jc.Constraints({"a": None}), TypeError, "constraint 'a' is None"),
        (jc.Constraints({"a": jnp.array(True)}), TypeError, "constraint 'a' is bool"),
        (jc.Constraints({"a": jnp.ones((2, 1))}), ValueError, ["'a'", "(2, 1)"]),
        ({"a": jnp.ones(())}, TypeError, "residuals must be jaxcon.Constraints"),
    ]
    for function in (jc.violation, jc.max_violation, lambda r: jc.feasible(r, 0.1)):
        assert_refused(
            (lambda given=given, function=function: function(given), error, words)
            for given, error, words in wrong
        )
    right = jc.Constraints({"a": jnp.ones(())})
    tolerances = [
        *((t, ValueError) for t in (float("nan"), -1.0, float("inf"))),
        *((t, TypeError) for t in (None, "1", True, jnp.ones(2))),
    ]
    assert_refused(
        (lambda t=t: jc.feasible(right, t), error, "tolerance must be")
        for t, error in tolerances
    )


def test_changed_constraints_refuse_rules_that_are_not_real():
    def real(p, b):
        return p

    changed = {
        "tighten": lambda f: jc.tighten(f, 0.1),
        "clip_residual": lambda f: jc.clip_residual(f, 1.0),
        "strict": lambda f: jc.proxy(real, f),
        "surrogate": lambda f: jc.proxy(f, real),
    }
    rules = [lambda p, b: p > 0, lambda p, b: jnp.sum(p > 0) - 1, lambda p, b: None]
    assert_refused(
        (lambda f=f, change=change: change(f)(jnp.ones(()), None), TypeError, name)
        for name, change in changed.items()
        for f in rules
    )
    margins = [(-5.0, ValueError), (float("nan"), ValueError), ("1", TypeError)]
    assert_refused(
        (lambda m=m: jc.tighten(real, m), error, "margin must be")
        for m, error in margins
    )
