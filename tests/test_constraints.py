"""Residuals, violations, feasibility and proxies, by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcon as jc
from jaxcon.constraints import check_constraints, named, worst

RESIDUALS = jc.Constraints(
    equality={"scalar": jnp.array(-2.0), "points": jnp.array([0.5, -3.0, 1.0])},
    inequality={"inside": jnp.array([-1.0, -4.0]), "outside": jnp.array([0.25, -9.0])},
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


@pytest.mark.parametrize(
    ("residuals", "largest"),
    [
        (RESIDUALS, 3.0),
        (jc.Constraints(inequality=RESIDUALS.inequality), 0.25),
        (jc.Constraints(inequality={"inside": jnp.array([-1.0, -4.0])}), 0.0),
        (jc.Constraints(), 0.0),
        (jc.Constraints(inequality={"no points": jnp.zeros(0)}), 0.0),
        (jc.Constraints({"h": jnp.array(jnp.nan)}, {"g": jnp.array(5.0)}), np.nan),
        (jc.Constraints(inequality={"g": jnp.array([-1.0, jnp.nan])}), np.nan),
    ],
    ids=["both", "inequalities", "inside", "none", "empty", "nan in h", "nan in g"],
)
def test_max_violation(residuals, largest):
    np.testing.assert_array_equal(jc.max_violation(residuals), largest)


@pytest.mark.parametrize(
    ("h", "g", "feasible"),
    [
        (0.25, -1.0, True),
        (-0.25, 0.25, True),
        (-0.2501, -1.0, False),
        (0.0, 0.2501, False),
        (jnp.nan, -1.0, False),
        (0.0, jnp.nan, False),
        (0.0, -jnp.inf, True),
    ],
)
def test_feasible_is_within_the_tolerance_and_never_with_nan(h, g, feasible):
    residuals = jc.Constraints({"h": jnp.array(h)}, {"g": jnp.array([g, -1.0])})
    answer = jc.feasible(residuals, tolerance=0.25)
    assert answer.shape == ()
    assert bool(answer) is feasible


@pytest.mark.parametrize(
    ("residual", "error", "words"),
    [
        (jnp.zeros((4, 1)), ValueError, ["(4, 1)", "(n,)"]),
        (jnp.zeros((1, 1)), ValueError, ["(1, 1)"]),
        (jnp.arange(4), TypeError, ["int32", "real number"]),
        (jnp.array([True, False]), TypeError, ["bool", "jaxcon.proxy"]),
        (jnp.array([1j]), TypeError, ["complex64"]),
    ],
    ids=["column", "one by one", "integer", "boolean", "complex"],
)
@pytest.mark.parametrize("kind", jc.Constraints._fields)
@pytest.mark.parametrize("jit", [False, True], ids=["eager", "jit"])
def test_a_residual_that_is_no_vector_of_reals_is_refused(
    residual, error, words, kind, jit
):
    constraints = jc.Constraints(**{kind: {"flux": lambda p, _: residual}})
    evaluate = lambda p: jc.evaluate(constraints, p)  # noqa: E731
    with pytest.raises(error) as caught:
        (jax.jit(evaluate) if jit else evaluate)(jnp.ones(2))
    for word in [kind, "'flux'", *words]:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("constraints", "error", "words"),
    [
        (
            jc.Constraints({"cap": lambda p, b: p}, {"cap": lambda p, b: p}),
            ValueError,
            ["'cap'", "both"],
        ),
        (jc.Constraints(equality=None), TypeError, ["equality", "dict", "NoneType"]),
        (jc.Constraints({}, [lambda p, b: p]), TypeError, ["inequality", "list"]),
        (jc.Constraints({"cap": 3.0}), TypeError, ["'cap'", "function", "float"]),
        ({"cap": lambda p, b: p}, TypeError, ["jaxcon.Constraints", "dict"]),
        (({}, {}), TypeError, ["jaxcon.Constraints", "tuple"]),
    ],
    ids=["twice", "no dict", "list", "not callable", "plain dict", "plain tuple"],
)
def test_what_cannot_be_constraints_is_refused_before_tracing(
    constraints, error, words
):
    with pytest.raises(error) as caught:
        check_constraints(constraints)
    for word in words:
        assert word in str(caught.value)


def test_constraints_pass_the_check_unchanged():
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
