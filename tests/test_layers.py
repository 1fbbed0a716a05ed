"""Layers: their common form, certificates, the check that tries to break them, flax."""

import dataclasses
import subprocess
import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxcon as jc
from jaxcon import layers
from jaxcon.layers import _certificates as certificates
from jaxcon.layers._networks import checked_input, chosen_inputs

draw = partial(jc.points.uniform, lower=[-1.0, 0.0], upper=[1.0, 2.0])
look = partial(layers.check, sampler=draw, num=1000)


def test_check_finds_no_fault_where_there_is_none():
    promised = layers.Certificate(
        (
            certificates.slope(1, upper=0.0, roundings=4),
            certificates.within(0.0, jnp.inf, roundings=4),
        ),
        "a caveat",
    )

    def apply(params, x):
        return params * (2 * x[0] + jax.nn.softplus(-x[1]))

    # Of these only the last is false, and only for negative inputs.
    found = look(apply, jnp.ones(()), lambda params: promised)
    broken = {one.guarantee.kind for one in found.attempts if not one.holds}
    assert broken == {"within"}
    assert {one.dtype for one in found.attempts} == {"float32"}
    assert "FAILS near [" in str(found)
    assert str(found).endswith("a caveat")
    assert not found.holds


CLAIMS = {
    "slope": (certificates.slope(0, 0.0, roundings=8), lambda x: -x[0], 1.0),
    "steep": (certificates.slope(0, -1.0, 1.0, roundings=8), lambda x: 2 * x[0], 1.0),
    "convex": (certificates.curved((0,), roundings=8), lambda x: -(x[0] ** 2), 2.0),
    "concave": (certificates.curved((0,), -1, roundings=8), lambda x: x[0] ** 2, 2.0),
    "lipschitz": (certificates.lipschitz(1.0, roundings=8), lambda x: 3 * x, 2.0),
    "within": (certificates.within(0.0, 1.0), lambda x: x[0] - x[0] + 2.0, 1.0),
}


# Compiled in seconds each; a concave and a steep one differ from others in a sign.
SLOW = {"concave", "convex", "lipschitz", "steep"}


@pytest.mark.parametrize(
    "claim",
    [pytest.param(c, marks=pytest.mark.slow if c in SLOW else ()) for c in CLAIMS],
)
def test_check_finds_every_kind_of_fault_by_every_test(claim):
    guarantee, f, excess = CLAIMS[claim]
    found = look(
        lambda params, x: f(x) + 0 * params,
        jnp.zeros(()),
        lambda params: layers.Certificate((guarantee,)),
    )
    assert [one.test for one in found.attempts] == [
        name for test in guarantee.tests for name in (test, f"{test}, searched")
    ]
    assert not any(one.holds for one in found.attempts)
    # Of values, slopes and curvatures the excess is known; of differences it depends.
    worst = [one.excess for one in found.attempts if "difference" not in one.test]
    np.testing.assert_allclose(worst, excess, rtol=1e-3)


def test_check_climbs_to_a_narrow_fault():
    # A dip of width 1e-2 in a square of side 2: one point in 4e4 sees it. Its slope is
    # below the claim's by a hair all along its flank, which leads there.
    def apply(params, x):
        far = jnp.sum((x - params) ** 2) / 0.01**2
        return -2 * jnp.exp(-far) / (1 + far) - 0.999 / (1 + far * 1e-4)

    near = layers.Certificate((certificates.within(-1.5, jnp.inf),))
    found = look(apply, jnp.array([0.31, 0.73]), lambda params: near, reach=1.0)
    random, searched = found.attempts
    assert random.holds
    assert not searched.holds
    assert "FAILS" in str(found)


def test_check_stays_in_the_domain_and_takes_nan_for_a_fault():
    corners = [-1.0, 0.0], [1.0, 2.0]
    inside = certificates.within(-1.0, 1.0, domain=corners)

    def apply(params, x):
        beyond = jnp.any((x < jnp.array(corners[0])) | (x > jnp.array(corners[1])))
        return jnp.where(beyond, jnp.nan, x[0] + params)

    promised = layers.Certificate((inside,))
    assert look(apply, jnp.zeros(()), lambda params: promised).holds
    anywhere = layers.Certificate((certificates.within(-1.0, 1.0),))
    assert not look(apply, jnp.zeros(()), lambda params: anywhere).holds


def test_check_goes_on_in_float64_where_it_is_enabled(x64):
    # In float32 the sum is the larger of its terms, in float64 it is more.
    claim = layers.Certificate((certificates.within(-1e5, 1e5),))

    def apply(params, x):
        return params + 1e-4 * jnp.tanh(x[0])

    found = look(apply, jnp.float32(1e5), lambda params: claim)
    assert [one.dtype for one in found.attempts[::2]] == ["float32", "float64"]
    assert [one.holds for one in found.attempts[::2]] == [True, False]


def test_check_asks_for_what_parameters_alone_must_obey():
    def exact(excess):
        return lambda: layers.Gap(jnp.asarray(excess), jnp.ones(()))

    for excess, holds in [(1e-7, True), (1e-3, False)]:
        claim = certificates.within(-2.0, 2.0, roundings=8)
        claim = dataclasses.replace(claim, exact=exact(excess))
        found = look(
            lambda params, x: jnp.sin(x[0]) * params,
            jnp.ones(()),
            lambda params, claim=claim: layers.Certificate((claim,)),
        )
        assert found.attempts[-1].test == "parameters"
        assert found.attempts[-1].holds == holds


def test_then_adds_promises_and_keeps_what_is_carried():
    known = layers.Certificate(
        (
            certificates.slope(0, 0.0, roundings=1),
            certificates.lipschitz(1, roundings=1),
        ),
        "first.",
    )
    network = layers.free(2)._replace(certificate=lambda params: known)
    rising = layers.output(
        lambda y, x: jnp.tanh(y),
        certificates.within(-1.0, 1.0),
        carry=lambda claim: claim if claim.kind == "slope" else None,
        caveat="second.",
    )
    together = network.then(rising)
    promised = together.certificate(None)
    assert [one.kind for one in promised.guarantees] == ["within", "slope"]
    assert promised.caveat == "first. second."
    params = together.init(jax.random.key(0))
    x = jnp.array([0.5, 1.0])
    np.testing.assert_array_equal(
        together.apply(params, x), jnp.tanh(network.apply(params, x))
    )
    # By default nothing is known of what an output does to a guarantee.
    plain = layers.output(lambda y, x: -y)
    assert network.then(plain).certificate(None) == layers.Certificate((), "first.")


def test_outputs_are_plain_functions_that_any_network_can_end_in():
    halved = layers.output(lambda y, x: y / 2)
    assert halved(jnp.ones(3)).tolist() == [0.5] * 3
    apply = halved.wrap(lambda params, x: params * x)
    assert apply(4.0, jnp.ones(2)).tolist() == [2.0, 2.0]
    assert jax.jit(halved)(jnp.ones(3)).tolist() == [0.5] * 3
    model = nnx.Sequential(nnx.Linear(2, 3, rngs=nnx.Rngs(0)), halved)
    assert model(jnp.ones(2)).shape == (3,)


@pytest.mark.parametrize("outputs", [None, 3])
def test_a_network_as_a_module_and_back(outputs):
    network = layers.free(2, outputs, width=8)
    model = layers.module(network, rngs=nnx.Rngs(0))
    x = jax.random.normal(jax.random.key(1), (4, 5, 2))
    shape = () if outputs is None else (outputs,)
    assert model(x).shape == (4, 5, *shape)
    assert model.certificate() == layers.Certificate()
    apply, params = jc.functional(model)
    # One by one or together: the same sums in another order, in float32.
    close = partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
    close(jax.vmap(jax.vmap(partial(apply, params)))(x), model(x))
    seed = network.init(nnx.Rngs(0).params())
    close(network.apply(seed, x[0, 0]), model(x[0, 0]))
    # What is trained outside goes back.
    nnx.update(model, jax.tree.map(jnp.zeros_like, params))
    np.testing.assert_array_equal(model(x), jnp.zeros((4, 5, *shape)))


def test_functional_differentiates_and_trains_any_module():
    class Net(nnx.Module):
        def __init__(self, rngs):
            self.inner = nnx.Linear(2, 8, rngs=rngs)
            self.norm = nnx.BatchNorm(8, rngs=rngs)
            self.outer = nnx.Linear(8, 1, rngs=rngs)

        def __call__(self, x):
            return self.outer(self.norm(jnp.tanh(self.inner(x))))[0]

    model = Net(nnx.Rngs(0))
    model.eval()
    apply, params = jc.functional(model)
    rising = jc.shapes.increasing(apply, 0)
    x = jnp.ones((3, 2))
    assert rising(params, x).shape == (3,)
    gradient = jax.jit(jax.grad(lambda p: rising(p, x).sum()))(params)
    assert jax.tree.structure(gradient) == jax.tree.structure(params)
    # Statistics are no parameters.
    assert len(jax.tree.leaves(params)) == 6


def test_functional_refuses_what_is_no_module():
    with pytest.raises(TypeError, match="takes a flax nnx module, got function"):
        jc.functional(lambda x: x)


@pytest.mark.parametrize(
    "call", ["jc.functional(None)", "jc.layers.module(None, rngs=0)"]
)
def test_without_flax_one_line_says_so(call):
    source = f"import sys; sys.modules['flax'] = None; import jaxcon as jc; {call}"
    done = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True
    )
    last = done.stderr.splitlines()[-1]
    assert (
        last
        == f"ImportError: {call.split('(')[0]} needs flax: pip install 'jaxcon[flax]'"
    )


def test_one_example_at_a_time():
    network = layers.free(2)
    params = network.init(jax.random.key(0))
    with pytest.raises(ValueError, match=r"\(2,\), got \(5, 2\); use jax.vmap"):
        network.apply(params, jnp.ones((5, 2)))
    with pytest.raises(ValueError, match=r"it takes one example x of shape \(1,\)"):
        checked_input("it", jnp.ones(()), 1)


def test_inputs_are_named_once_and_exist():
    assert chosen_inputs("it", "rising", 1, 2) == (1,)
    assert chosen_inputs("it", "rising", (2, 0), 3) == (0, 2)
    with pytest.raises(
        ValueError, match="it: rising names input 2; there are inputs 0 to 1"
    ):
        chosen_inputs("it", "rising", (0, 2), 2)
    with pytest.raises(ValueError, match="names input -1"):
        chosen_inputs("it", "rising", -1, 2)
    with pytest.raises(ValueError, match="twice"):
        chosen_inputs("it", "rising", (1, 1), 2)


def test_guarantees_read_as_sentences():
    assert str(certificates.slope(1, 0.0, roundings=8)) == (
        "df/dx1 >= 0, to 8 eps of the slope's and the value's terms"
    )
    assert "-1 <= df/dx0 <= 3" in str(certificates.slope(0, -1, 3, roundings=1))
    assert "df/dx0 <= 3" in str(certificates.slope(0, upper=3.0, roundings=1))
    bounds = certificates.within(lambda x: x, [1.0, 2.0], domain=([0], [1]))
    assert str(bounds).startswith("l(x) <= f(x) <= [1. 2.] inside the domain, to 0 eps")
    assert "concave in inputs 0, 2" in str(certificates.curved((0, 2), -1, roundings=1))
    # The tolerance follows from the dtype.
    assert bounds.tolerance("float32", 2.0) == 0
    eight = certificates.lipschitz(2.0, roundings=8)
    assert eight.tolerance("float32", 2.0) == 16 * np.finfo("float32").eps


@pytest.mark.parametrize(
    "layer",
    [
        layers.bounded(0.5, 1.5),
        layers.ordered(0.5),
        layers.moving_average(3),
        layers.sums_to(0.5),
    ],
    ids=["bounded", "ordered", "moving_average", "sums_to"],
)
def test_whole_numbers_are_taken_as_floats(layer):
    whole = np.array([1, 2, 3])
    np.testing.assert_array_equal(layer(whole), layer(whole.astype(np.float32)))


@pytest.mark.parametrize(
    "construction",
    [
        layers.periodic({0: 0.5}),
        layers.initial_value(0, 0.5, lambda x: x[0]),
        layers.neumann(0, 0.2, 1.7, 0.5, 1.0),
        layers.box_boundary([0.5], [1.5], 0.25),
    ],
    ids=["periodic", "initial_value", "neumann", "box_boundary"],
)
def test_whole_inputs_are_taken_as_floats(construction):
    apply = construction.wrap(lambda params, x: params * jnp.cos(x.sum()))
    whole = np.array([1])
    expected = apply(2.0, whole.astype(np.float32))
    np.testing.assert_array_equal(apply(2.0, whole), expected)


def test_numpy_numbers_widen_nothing(x64):
    rod = layers.box_boundary([0.1], [0.7], 3.0)
    apply = rod.wrap(lambda params, x: params * x[0])
    for end in (0.1, 0.7):
        x = jnp.full(1, end, "float32")
        assert apply(jnp.float32(2), x).dtype == "float32"
        # The end in float32, seen from a factor in float32.
        assert apply(jnp.float32(2), x) == 3


SIZES = {
    "free: depth": lambda: layers.free(2, depth=0),
    "free: outputs": lambda: layers.free(2, 0),
    "convex: width": lambda: layers.convex(2, width=0),
    "concave: depth": lambda: layers.concave(2, depth=0),
    "bounded_convex: depth": lambda: layers.bounded_convex(
        [0.0], [1.0], 0.0, 1.0, increasing=0, depth=0
    ),
    "smooth_monotone: groups": lambda: layers.smooth_monotone(
        1, increasing=0, groups=0
    ),
}


@pytest.mark.parametrize("said", SIZES)
def test_sizes_below_one_are_refused(said):
    with pytest.raises(ValueError, match=f"{said} must be at least 1, got 0"):
        SIZES[said]()


def test_indices_may_be_of_numpy():
    assert chosen_inputs("it", "rising", np.int64(1), 2) == (1,)
    with pytest.raises(ValueError, match=r"module takes x of shape \(…, d\), got \(\)"):
        layers.module(layers.free(1), rngs=nnx.Rngs(0))(1.0)
