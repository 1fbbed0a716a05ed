"""Proofs on boxes: claims, outcomes, domains, extrema and refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tables import assert_refused

import jaxcon as jc
from jaxcon import certify, layers, shapes
from jaxcon.certify import Counterexample, Proved, Undecided, verify
from jaxcon.certify._branch import _is_definite
from jaxcon.certify._proof import double
from jaxcon.derivatives import (
    Gradient,
    Hessian,
    Partial,
    Value,
    derivatives,
)

SQUARE = [-1.0, -1.0], [1.0, 1.0]
BUDGET = 20.0


def wave(p, x):
    return jnp.sin(3 * x[0]) * x[1]


def rising(p, x):
    """A network with weights of one sign, which rises in each input."""
    return jnp.tanh(x[0] + 0.5 * jnp.tanh(2 * x[0] + x[1])) + 0.25 * x[0]


def product(p, x):
    return x[0] * x[1]


HIDDEN, REACH = np.array([0.613, -0.377]), 0.03
# With a slope of its own at the centre of the bump, which is all there is outside.
PLAIN = 0.25


def dipping(least):
    """A function whose least slope along input 0 is a small number at a hidden place.

    It is that of tanh networks along input 1; along input 0 it is s x plus a narrow bump,
    whose steepest descent at HIDDEN takes the slope from s to the number.
    """
    drop = (PLAIN - least) * REACH

    def apply(p, x):
        near = (x - HIDDEN) / REACH
        bump = jnp.tanh(near[0]) * jnp.exp(-near[1] * near[1])
        return PLAIN * x[0] + jnp.tanh(x[1] + jnp.tanh(2 * x[1])) - drop * bump

    return apply


@pytest.mark.slow
@pytest.mark.parametrize("least", [-1e-5 * PLAIN, 1e-5 * PLAIN])
def test_verify_is_not_deceived_by_a_dip_of_one_part_in_a_hundred_thousand(least):
    found = verify(shapes.increasing(dipping(least), 0), *SQUARE, budget=BUDGET)
    assert isinstance(found, Proved if least > 0 else Counterexample)
    if least < 0:
        assert np.linalg.norm(found.point - HIDDEN) < REACH
        assert 0 < found.value <= 1.001 * abs(least)
    else:
        assert -least <= found.bound <= 0


def test_verify_proves_refutes_and_says_so():
    proved = verify(shapes.increasing(rising, 0), *SQUARE)
    assert isinstance(proved, Proved)
    assert proved.holds is True
    assert proved.bound <= 0
    assert str(proved).startswith("df/dx0 >= 0: proved on the whole box (")
    broken = verify(shapes.decreasing(rising, 1), *SQUARE)
    assert isinstance(broken, Counterexample)
    assert broken.holds is False
    assert str(broken).startswith("df/dx1 <= 0: counterexample at x = [")
    assert f"broken by {broken.value:.3g}" in str(broken)


def assert_refuted(found, violation, lower, upper, *outside):
    """A counterexample is one in plain arithmetic, in the box and in the domain."""
    assert isinstance(found, Counterexample)
    assert (np.asarray(lower) <= found.point).all()
    assert (found.point <= np.asarray(upper)).all()
    with double():
        x = jnp.asarray(found.point)
        value = float(violation(x))
        assert all(float(g(x)) <= 0 for g in outside)
    assert value > 0
    np.testing.assert_allclose(found.value, value, rtol=1e-9, atol=1e-12)


@pytest.mark.slow
def test_counterexample_violates_in_plain_evaluation():
    found = verify(shapes.increasing(wave, 0), *SQUARE)
    assert_refuted(found, lambda x: -jax.grad(lambda x: wave(None, x))(x)[0], *SQUARE)
    ball = certify.ball([0.5, 0.5], 0.25)
    found = verify(shapes.bounded(wave, None, 0.3), *SQUARE, within=ball)
    assert_refuted(found, lambda x: wave(None, x) - 0.3, *SQUARE, ball)


def test_undecided_is_taken_up_again():
    # The corner of the ball is cut off by small boxes only.
    claim, corners = shapes.bounded(product, None, 0.501), ([0.0, 0.0], [1.0, 1.0])
    ball = certify.ball([0.0, 0.0], 1.0)
    first = verify(claim, *corners, within=ball, budget=0.0)
    assert isinstance(first, Undecided)
    assert first.holds is None
    assert 0 < first.volume <= 1
    assert first.bound > 0
    assert first.largest <= 0
    assert "f(x) <= 0.501: undecided, " in str(first)
    assert "% of the volume left after" in str(first)
    rest = first.rest
    np.testing.assert_array_equal(rest.bound, np.sort(rest.bound)[::-1])
    second = verify(claim, *corners, within=ball, budget=BUDGET, resume=first)
    assert isinstance(second, Proved)
    assert -1.0001e-3 <= second.bound <= 0


def two_sided(p, x):
    """A function at most -0.01, of which much smaller values are hard to enclose."""
    right = jax.nn.sigmoid(50 * (x[0] - 0.5))
    loose = jnp.sin(400 * x[0]) ** 2 + jnp.cos(400 * x[0]) ** 2 - 1
    return -0.01 - 0.5 * right + loose * right


@pytest.mark.slow
def test_resumed_proof_is_of_one_claim_only():
    first = verify(shapes.bounded(two_sided, None, 0.0), [-1.0], [1.0], budget=0.0)

    def higher(p, x):  # on the left, where the first claim is decided
        return two_sided(p, x) + 0.05 * jax.nn.sigmoid(50 * (0.1 - x[0]))

    try:
        claim = shapes.bounded(higher, None, 0.0)
        found = verify(claim, [-1.0], [1.0], budget=BUDGET, resume=first)
    except ValueError:
        return  # refused
    assert found.holds is not True


@pytest.mark.slow
def test_progress_is_told_after_each_batch():
    seen = []
    claim = shapes.bounded(wave, None, 1.0 + 1e-9)
    found = verify(claim, *SQUARE, budget=BUDGET, progress=seen.append)
    assert isinstance(found, Proved)
    assert [each.boxes for each in seen] == sorted(each.boxes for each in seen)
    assert seen[-1].left == 0
    np.testing.assert_allclose(seen[-1].proved, 1.0)


@pytest.mark.slow
def test_verify_allows_a_tolerance():
    claim = shapes.bounded(wave, None, 0.9)
    assert verify(claim, *SQUARE).holds is False
    found = verify(claim, *SQUARE, tolerance=0.11)
    assert found.holds is True
    assert 0.1 <= found.bound <= 0.11
    hill = certify.convex(lambda p, x: -(x[0] ** 2), [0])
    assert verify(hill, *SQUARE, tolerance=1.99).holds is False
    assert verify(hill, *SQUARE, tolerance=2.01).holds is True


@pytest.mark.slow
def test_verify_holds_within_domains():
    unit = [0.0, 0.0], [1.0, 1.0]
    ball, simplex = certify.ball([0.0, 0.0], 1.0), certify.simplex(1.0)
    corner = certify.half_space([1.0, 2.0], 1.0)
    for within, most in [(ball, 0.5), (simplex, 0.25), ([simplex, corner], 0.125)]:
        above, below = (shapes.bounded(product, None, most + e) for e in (1e-3, -1e-3))
        assert verify(above, *unit, within=within, budget=BUDGET).holds is True
        found = verify(below, *unit, within=within, budget=BUDGET)
        every = within if isinstance(within, list) else [within]
        assert_refuted(found, lambda x, c=most: x[0] * x[1] - c + 1e-3, *unit, *every)


@pytest.mark.slow
def test_verify_of_an_empty_domain_holds():
    nowhere = certify.ball([5.0, 5.0], 1.0)
    assert verify(shapes.bounded(product, None, -9.0), *SQUARE, within=nowhere).holds


@pytest.mark.slow
def test_extremum_encloses_the_range():
    found = certify.extremum(shapes.equals(wave, 0.0), *SQUARE)
    assert found.decided
    assert found.most[0] <= 1 <= found.most[1]
    assert found.least[0] <= -1 <= found.least[1]
    assert found.most[1] - found.most[0] <= 3e-3
    np.testing.assert_allclose(wave(None, found.most_at), found.most[0], atol=1e-6)
    assert str(found).startswith("the minimum is between -1")


@pytest.mark.slow
def test_extremum_agrees_with_a_dense_grid():
    def residual(p, x):
        return jnp.exp(-(x[0] ** 2)) * jnp.cos(4 * x[1] + x[0]) + 0.3 * x[0]

    claim = shapes.Pointwise(residual, None, (Partial(0),), lambda x, y: y)
    ball = certify.ball([0.0, 0.0], 1.0)
    found = certify.extremum(claim, *SQUARE, within=ball, tolerance=0.01)
    x = jc.points.grid(*SQUARE, 200)
    slopes = jax.vmap(jax.grad(lambda x: residual(None, x)))(x)[:, 0]
    seen = np.asarray(slopes)[np.asarray(jax.vmap(ball)(x)) <= 0]
    assert found.decided
    assert found.least[0] - 1e-6 <= seen.min() <= found.least[1] + 0.01
    assert found.most[0] - 0.01 <= seen.max() <= found.most[1] + 1e-6


def bowl(narrow):
    """A rotated quadratic with eigenvalues 4, 1 and a narrow one, no row dominant."""
    ones = np.ones((3, 3)) / 3
    axis = np.outer([1.0, -1.0, 0.0], [1.0, -1.0, 0.0]) / 2
    matrix = narrow * ones + axis + 4.0 * (np.eye(3) - ones - axis)

    def apply(p, x):
        return x @ (jnp.asarray(matrix, x.dtype) @ x) / 2 + 1e-4 * jnp.sin(x[0])

    return apply


@pytest.mark.slow
def test_convex_is_decided_jointly():
    box = [-1.0] * 3, [1.0] * 3
    inputs = [0, 1, 2]
    assert verify(certify.convex(bowl(0.01), inputs), *box, budget=BUDGET).holds is True
    found = verify(certify.convex(bowl(-0.01), inputs), *box)
    assert isinstance(found, Counterexample)
    np.testing.assert_allclose(found.value, 0.01, rtol=0.05)
    flipped = certify.convex(lambda p, x: -bowl(0.01)(p, x), inputs, -1)
    assert verify(flipped, *box, budget=BUDGET).holds is True
    assert "f is concave in inputs 0, 1, 2" in str(verify(flipped, *box))


def test_definite_matrices_are_told_by_their_comparison_matrix():
    draw = np.random.default_rng(0)
    decided = jax.jit(_is_definite)
    seen = set()
    for n in (2, 3, 5):
        for _ in range(100):
            a = np.abs(draw.normal(size=(n, n))) * draw.uniform(0.05, 1)
            a = ((a + a.T) / 2).astype(np.float32)
            np.fill_diagonal(a, 10 ** draw.uniform(-2, 1, n))
            worst = 2 * np.diag(np.diag(a)) - a
            least = np.linalg.eigvalsh(worst.astype(float))[0]
            found = bool(decided(np.diag(np.diag(a)), a))
            assert not found or least > 0
            assert found or least < 1e-4
            seen.add(found)
    assert seen == {True, False}


@pytest.mark.slow
def test_monotone_is_decided_for_several_inputs():
    assert verify(certify.monotone(rising, {0: 1, 1: 1}), *SQUARE).holds is True
    found = verify(certify.monotone(rising, {0: 1, 1: -1}), *SQUARE)
    assert found.holds is False
    assert found.statement == "df/dx0 >= 0, df/dx1 <= 0"


@pytest.mark.slow
def test_between_bounds_a_residual_from_both_sides():
    residual = shapes.equals(wave, 0.0)
    wide = 1.0 + 1e-3
    assert verify(certify.between(residual, -wide, wide), *SQUARE).holds is True
    assert verify(certify.between(residual, -0.9), *SQUARE).holds is False
    assert verify(certify.between(residual, upper=0.9), *SQUARE).holds is False


@pytest.mark.slow
def test_tightened_claims_keep_their_margin():
    claim = shapes.bounded(wave, None, 1.5)
    assert verify(jc.tighten(claim, 0.49), *SQUARE).holds is True
    assert verify(jc.tighten(claim, 0.51), *SQUARE).holds is False


@pytest.mark.slow
def test_lipschitz_is_decided_where_the_gradient_vanishes():
    def well(p, x):
        return jnp.log(1 + x @ x)  # a slope of 2r / (1 + r^2), at most one

    assert verify(shapes.lipschitz(well, 1.001), *SQUARE, budget=BUDGET).holds is True
    assert verify(shapes.lipschitz(well, 0.999), *SQUARE).holds is False


@pytest.mark.slow
def test_verify_takes_compiled_functions_and_parameters():
    params = {"w": jnp.array([2.0, -1.0], jnp.float32)}

    @jax.jit
    def apply(p, x):
        return jax.nn.softplus(p["w"] @ x)

    claim = certify.monotone(apply, {0: 1, 1: -1})
    assert verify(claim, *SQUARE, params=params).holds is True


def test_bounds_take_parameters_under_a_transform():
    def upper(w, low, high):
        found = certify.bounds(
            lambda x: jnp.sin(jnp.exp(w) @ x), low, high, Value(), Gradient()
        )
        return found.value.upper

    w, low = jnp.zeros((3, 2)), jnp.zeros((3, 2))
    found = jax.jit(jax.vmap(upper))(w, low, low + 0.25)
    np.testing.assert_allclose(found, np.sin(0.5), rtol=0.05)
    assert (found >= np.sin(0.5)).all()


def test_explain_lists_the_methods():
    text = certify.explain(lambda x: jnp.sin(x[0]) * x[0], [0.0], [1.0], Value())
    methods = "intervals", "forward", "adjoint", "mean value", "taylor"
    assert [text.count(word) for word in methods] == [1] * 5


@pytest.mark.slow
def test_expansions_are_tighter_on_small_boxes_and_sound():
    rng = np.random.default_rng(0)
    matrices = [jnp.asarray(rng.normal(size=shape)) for shape in ((2, 4), (4, 4))]

    def f(x):
        for matrix in matrices:
            x = jnp.tanh(x @ matrix)
        return jnp.sum(x)

    wanted = (Gradient(),)
    low, inside = np.array([0.3, -0.4]), rng.uniform(size=(999, 2))
    read = jax.jit(jax.vmap(derivatives(f, *wanted)))
    width = {}
    for method in ("adjoint", "mean value", "taylor"):
        enclosed = jax.jit(
            lambda low, high, m=method: certify.bounds(f, low, high, *wanted, method=m)
        )
        for side in (0.5, 0.05):
            [q] = read(low + side * inside)
            [(least, most)] = enclosed(low, low + side)
            slack = 1e-5 * np.abs(q).max()
            assert (q >= least[None] - slack).all()
            assert (q <= most[None] + slack).all()
            width[method, side] = float(jnp.sum(most - least))
    for side in (0.5, 0.05):
        assert width["taylor", side] <= width["mean value", side]
        assert width["mean value", side] <= width["adjoint", side]
    assert width["taylor", 0.05] < width["adjoint", 0.05]


def test_expansions_know_all_derivatives_of_waves_and_none_that_are_hidden():
    def wave(x):
        return jnp.sin(x[0])

    third = Partial((0, 0, 0))
    [(least, most)] = certify.bounds(wave, [1.2], [1.4], third, method="taylor")
    assert least <= -np.cos(1.2)
    assert most >= -np.cos(1.4)

    def hidden(x):
        return x[0] * jax.lax.stop_gradient(x[0])

    with pytest.raises(NotImplementedError, match="stop_gradient"):
        certify.bounds(hidden, [1.0], [3.0], Value(), method="mean value")


def test_proof_is_about_what_a_function_is_now():
    sign = {"of": 1.0}
    rises = shapes.increasing(lambda p, x: sign["of"] * x[0], 0)
    assert verify(rises, [0.0], [1.0]).holds is True
    sign["of"] = -1.0
    assert verify(rises, [0.0], [1.0]).holds is False


NUMBER, POINT = shapes.equals(wave, 0.0), [0.0, 0.0]
REFUSED = [
    (lambda: verify(NUMBER, [0.0], [0.0]), ValueError, ["lower", "less than"]),
    (lambda: verify(NUMBER, [1.0], [0.0]), ValueError, ["[1.0]", "[0.0]"]),
    (lambda: verify(NUMBER, [0.0], [1.0, 1.0]), ValueError, ["shape (d,)"]),
    (lambda: verify(NUMBER, [-np.inf], [1.0]), ValueError, ["verify: lower", "finite"]),
    (lambda: verify(wave, *SQUARE), TypeError, ["jaxcon.shapes", "monotone"]),
    (lambda: verify(NUMBER, *SQUARE, within=[1.0]), TypeError, ["verify: within"]),
    (lambda: verify(NUMBER, *SQUARE, budget=-1), ValueError, ["verify: budget"]),
    (lambda: verify(NUMBER, *SQUARE, tolerance=-1), ValueError, ["verify: tolerance"]),
    (lambda: verify(NUMBER, *SQUARE, resume=1), TypeError, ["verify: resume"]),
    (lambda: certify.extremum(wave, *SQUARE), TypeError, ["jaxcon.shapes"]),
    (lambda: certify.extremum(NUMBER, [1.0], [0.0]), ValueError, ["extremum"]),
    (lambda: certify.monotone(wave, {}), TypeError, ["signs"]),
    (lambda: certify.monotone(wave, {0: 2}), ValueError, ["must be 1 or -1"]),
    (lambda: verify(certify.monotone(wave, {2: 1}), *SQUARE), ValueError, ["input 2"]),
    (lambda: certify.convex(wave, [0, 0]), ValueError, ["each once"]),
    (lambda: verify(certify.convex(wave, [2]), *SQUARE), ValueError, ["input 2"]),
    (lambda: certify.convex(wave, [0], 2), ValueError, ["must be 1 or -1"]),
    (lambda: certify.between(NUMBER), ValueError, ["infinite"]),
    (lambda: certify.ball(POINT, 0.0), ValueError, ["ball: radius"]),
    (lambda: certify.bounds(jnp.sum, POINT, [1.0], Value()), ValueError, ["(d,)"]),
    (
        lambda: certify.bounds(jnp.sum, [1.0], [0.0], Value()),
        ValueError,
        ["bounds", "[1.0]"],
    ),
]


def test_certify_refuses_wrong_boxes_and_claims():
    assert_refused(REFUSED)


def doubled(x):
    return jax.lax.while_loop(lambda y: y.sum() < 9, lambda y: 2 * y + 1, x).sum()


@pytest.mark.parametrize(
    ("f", "name"),
    [
        (lambda x: jnp.sort(x)[0], "sort"),
        (lambda x: jnp.floor(x).sum(), "floor"),
        (lambda x: jnp.cbrt(x).sum(), "cbrt"),
        (doubled, "while_loop"),
        (lambda x: x[jnp.argmax(x)], "argmax"),
        (lambda x: jax.lax.cond(x[0] > 0, jnp.sum, jnp.max, x), "cond"),
    ],
)
def test_certify_names_an_operation_that_it_does_not_know(f, name):
    with pytest.raises(NotImplementedError, match=name):
        certify.bounds(f, *SQUARE, Value())
    with pytest.raises(NotImplementedError, match=name):
        verify(shapes.bounded(lambda p, x: f(x), 0.0), *SQUARE)


SMALL = {"width": 4, "depth": 2}
LAYERS = {
    "bounded": layers.mlp(2, **SMALL).then(layers.bounded(-0.5, 0.5)),
    "positive": layers.mlp(2, **SMALL).then(layers.positive()),
    "monotone": layers.monotone(2, increasing=0, decreasing=1, **SMALL),
    "smooth_monotone": layers.smooth_monotone(2, increasing=0, groups=2, planes=2),
    "convex": layers.convex(2, **SMALL),
    "concave": layers.concave(2, decreasing=(0,), **SMALL),
    "lipschitz, norms": layers.lipschitz(2, constant=2.0, by="norms", **SMALL),
    "lipschitz, sandwich": layers.lipschitz(2, constant=2.0, **SMALL),
    "derivative_box": layers.derivative_box(2, [-1.0, 0.5], [2.0, np.inf], **SMALL),
}


def claims_of(apply, guarantee):
    """A guarantee of a layer as claims."""
    kind, given = guarantee.kind, guarantee.constant
    if kind == "within":
        low, high = (float(b) for b in given)
        yield shapes.bounded(
            apply, *(b if np.isfinite(b) else None for b in (low, high))
        )
    elif kind == "slope":
        [index] = guarantee.inputs
        slope = shapes.Pointwise(apply, None, (Partial((index,)),), lambda x, y: y)
        yield certify.between(slope, *map(float, given))
    elif kind in ("convex", "concave"):
        sign = 1 if kind == "convex" else -1
        yield certify.convex(apply, guarantee.inputs, sign)
    elif kind == "lipschitz":
        yield shapes.lipschitz(apply, float(given))


@pytest.mark.slow
@pytest.mark.parametrize("name", LAYERS)
def test_layer_guarantees_are_not_refuted(name):
    network = LAYERS[name]
    params = network.init(jax.random.key(5))
    params = jax.tree.map(lambda a: 2 * a, params)
    tried = 0
    for guarantee in network.certificate(params).guarantees:
        allowed = float(guarantee.tolerance(np.float32, 10.0))
        for claim in claims_of(network.apply, guarantee):
            try:
                found = verify(
                    claim,
                    [-0.5, -0.5],
                    [0.5, 0.5],
                    params=params,
                    tolerance=allowed,
                    budget=2.0,
                )
            except NotImplementedError as error:
                pytest.skip(f"{name}: {error}")
            assert found.holds is not False, str(found)
            tried += 1
    assert tried


def test_hessian_is_symmetric_in_its_bounds():
    found = certify.bounds(lambda x: jnp.sin(x[0] * x[1]), *SQUARE, Hessian()).hessian
    for part in found:
        np.testing.assert_array_equal(part, part.T)


def risen(x):  # falls by one
    return (x[0] < 0.5).astype(x.dtype)


def filled(x):
    y = jnp.take(5 * x, jnp.array([0, 7]), mode="fill", fill_value=-5.0)
    return y[0] + y[1]


def masked(x):
    which = (jnp.abs(x[0] - 0.1234) < 1e-6).astype(jnp.int32) & 1
    return jax.lax.select_n(which, -1 + 0 * x[0], 1 + 0 * x[0])


def undefined(x):
    return jnp.where(jnp.isnan(jnp.log(x[0])), 5 + 0 * x[0], -1 + 0 * x[0])


@pytest.mark.parametrize("f", [risen, filled, masked])
def test_certify_refuses_comparisons_as_numbers(f):
    with pytest.raises(NotImplementedError, match="cannot be enclosed"):
        certify.bounds(f, [-1.0], [1.0], Value())


def test_verify_does_not_prove_of_what_is_no_number():
    claim = shapes.bounded(lambda p, x: undefined(x), None, 0.0)
    assert verify(claim, [-1.0], [1.0], budget=0.2).holds is not True


def test_resumed_proof_keeps_its_tolerance():
    claim = shapes.bounded(
        lambda p, x: jnp.exp(-jnp.square(1e4 * (x[0] - 0.123456))), None, 0.0
    )
    first = verify(claim, [0.0], [1.0], tolerance=0.6, budget=0.0)
    then = verify(claim, [0.0], [1.0], tolerance=0.6, budget=BUDGET, resume=first)
    assert then.holds is False
