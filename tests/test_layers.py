"""Layers: their common form, certificates, the check that tries to break them, flax."""

import subprocess
import sys
from dataclasses import replace
from functools import partial, reduce

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _malformed_layers import GOOD
from flax import nnx
from tables import assert_each, assert_refused

import jaxcon as jc
from jaxcon import layers
from jaxcon.layers import _certificates as certificates
from jaxcon.layers._networks import checked_input, chosen_inputs

draw = partial(jc.points.uniform, lower=[-1.0, 0.0], upper=[1.0, 2.0])
look = partial(layers.check, sampler=draw, num=1000)


def test_check_finds_a_fault_only_where_there_is_one():
    corners = [-1.0, 0.0], [1.0, 2.0]

    def exact(excess):
        return lambda: layers.Gap(np.float32(excess), np.float32(1.0))

    falling = certificates.slope(1, upper=0.0, roundings=4, domain=corners)
    falling = replace(falling, tests={"difference": falling.tests["difference"]})
    inside = certificates.within(-2.0, 4.0, roundings=8, domain=corners)
    anywhere = certificates.within(-np.inf, np.inf)
    promised = layers.Certificate(
        # Of the parameters alone, an excess of a rounding is none, a thousandth is one.
        (
            replace(falling, exact=exact(1e-7)),
            replace(inside, exact=exact(1e-3)),
            anywhere,
        ),
        "a caveat",
    )

    def apply(params, x):
        # Outside of the domain it is no number, and there only the last claim looks.
        beyond = jnp.any((x < jnp.array(corners[0])) | (x > jnp.array(corners[1])))
        return jnp.where(beyond, jnp.nan, params * (2 * x[0] + jax.nn.softplus(-x[1])))

    found = look(apply, jnp.ones(()), lambda params: promised)
    holds = [(one.guarantee.kind, one.test, one.holds) for one in found.attempts]
    assert holds == [
        ("slope", "difference", True),
        ("slope", "difference, searched", True),
        ("slope", "parameters", True),
        ("within", "value", True),
        ("within", "value, searched", True),
        ("within", "parameters", False),
        ("within", "value", False),
        ("within", "value, searched", False),
    ]
    assert {one.dtype for one in found.attempts} == {"float32"}
    # Of the points, since a test of the parameters has none to show.
    shown = found._replace(
        attempts=tuple(one for one in found.attempts if one.test != "parameters")
    )
    assert "FAILS near [" in str(shown)
    assert str(shown).endswith("a caveat")
    assert not found.holds


CLAIMS = {
    "slope": (certificates.slope(0, 0.0, roundings=8), lambda x: -x[0], 1.0),
    "steep": (certificates.slope(0, -1.0, 1.0, roundings=8), lambda x: 2 * x[0], 1.0),
    "convex": (certificates.curved((0,), roundings=8), lambda x: -(x[0] ** 2), 2.0),
    "concave": (certificates.curved((0,), -1, roundings=8), lambda x: x[0] ** 2, 2.0),
    "lipschitz": (certificates.lipschitz(1.0, roundings=8), lambda x: 3 * x, 2.0),
    "within": (certificates.within(0.0, 1.0), lambda x: x[0] - x[0] + 2.0, 1.0),
}


# Compiled in seconds each; a concave and a steep one differ from others in a sign, and
# values beyond their bounds are found below.
@pytest.mark.parametrize(
    "claim",
    [pytest.param(c, marks=() if c == "slope" else pytest.mark.slow) for c in CLAIMS],
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


def test_check_goes_on_in_float64_where_it_is_enabled(x64):
    # In float32 the sum is the larger of its terms, in float64 it is more.
    claim = layers.Certificate((certificates.within(-1e5, 1e5),))

    def apply(params, x):
        return params + 1e-4 * jnp.tanh(x[0])

    found = look(apply, jnp.float32(1e5), lambda params: claim)
    assert [one.dtype for one in found.attempts[::2]] == ["float32", "float64"]
    assert [one.holds for one in found.attempts[::2]] == [True, False]


def test_then_adds_promises_and_keeps_what_is_carried():
    known = layers.Certificate(
        (
            certificates.slope(0, 0.0, roundings=1),
            certificates.lipschitz(1, roundings=1),
        ),
        "first.",
    )
    free = layers.mlp(2, width=4, depth=2)
    network = free._replace(certificate=lambda params: known)
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


def test_output_is_a_plain_function_that_any_network_can_end_in():
    halved = layers.output(lambda y, x: y / 2)
    assert halved(jnp.ones(3)).tolist() == [0.5] * 3
    apply = halved.wrap(lambda params, x: params * x)
    assert apply(4.0, jnp.ones(2)).tolist() == [2.0, 2.0]
    assert jax.jit(halved)(jnp.ones(3)).tolist() == [0.5] * 3
    model = nnx.Sequential(nnx.Linear(2, 3, rngs=nnx.Rngs(0)), halved)
    assert model(jnp.ones(2)).shape == (3,)


def test_module_is_a_network_and_back():
    network = layers.mlp(2, 3, width=8)
    model = layers.module(network, rngs=nnx.Rngs(0))
    x = np.random.default_rng(1).normal(size=(4, 5, 2)).astype("float32")
    together = model(x)
    assert together.shape == (4, 5, 3)
    assert model.certificate() == layers.Certificate()
    apply, params = jc.from_module(model)
    seed = network.init(nnx.Rngs(0).params())
    # One by one or together: the same sums in another order, in float32.
    close = partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
    alone = jax.jit(lambda each, x: (apply(each[0], x), network.apply(each[1], x)))
    for at in np.ndindex(4, 5):
        for found in alone((params, seed), x[at]):
            close(found, together[at])
    # What is trained outside goes back.
    nnx.update(model, jax.tree.map(jnp.zeros_like, params))
    np.testing.assert_array_equal(model(x), np.zeros((4, 5, 3)))


def test_module_of_a_scalar_network_keeps_the_batch_axes_alone():
    model = layers.module(layers.mlp(2, width=8), rngs=nnx.Rngs(0))
    assert jax.eval_shape(model, np.ones((4, 5, 2), "float32")).shape == (4, 5)
    with pytest.raises(ValueError, match=r"module takes x of shape \(…, d\), got \(\)"):
        model(1.0)


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
    apply, params = jc.from_module(model)
    rising = jc.shapes.increasing(apply, 0)
    x = jnp.ones((3, 2))
    assert jax.eval_shape(rising, params, x).shape == (3,)
    gradient = jax.jit(jax.grad(lambda p: rising(p, x).sum()))(params)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
    assert jax.tree.structure(gradient) == jax.tree.structure(params)
    # Statistics are no parameters.
    assert len(jax.tree.leaves(params)) == 6


def test_functional_refuses_what_is_no_module():
    with pytest.raises(TypeError, match="takes a flax nnx module, got function"):
        jc.from_module(lambda x: x)


def test_functional_and_module_without_flax_say_so_in_one_line():
    calls = ["jc.from_module(None)", "jc.layers.module(None, rngs=0)"]
    source = f"""
import sys; sys.modules['flax'] = None; import jaxcon as jc
for call in {calls}:
    try: print(eval(call))
    except ImportError as error: print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True
    )
    assert done.stdout.splitlines() == [
        f"{call.split('(')[0]} needs flax: pip install 'jaxcon[flax]'" for call in calls
    ]


def test_free_takes_one_example_at_a_time():
    network = layers.mlp(2, width=4, depth=2)
    params = jax.eval_shape(network.init, jax.random.key(0))
    with pytest.raises(ValueError, match=r"\(2,\), got \(5, 2\); use jax.vmap"):
        jax.eval_shape(network.apply, params, np.ones((5, 2)))
    with pytest.raises(ValueError, match=r"it takes one example x of shape \(1,\)"):
        checked_input("it", jnp.ones(()), 1)


def test_chosen_inputs_are_named_once_and_exist():
    assert chosen_inputs("it", "rising", np.int64(1), 2) == (1,)
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


def test_certificates_read_as_sentences():
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


def test_certificate_shows_a_table_of_its_guarantees():
    bounds = certificates.within(0.0, 1.0, domain=([0.0], [1.0]))
    rises = certificates.slope(1, 0.0, roundings=8)
    shown = certificates.Certificate((bounds, rises), "A < B & C.")
    lines = repr(shown).splitlines()
    assert repr(shown) == str(shown)
    assert [line.split("  ")[0] for line in lines[2:4]] == [
        "0.0 <= f(x) <= 1.0",
        "df/dx1 >= 0",
    ]
    assert lines[2].split()[-3:] == ["the", "domain", "exact"]
    assert lines[3].endswith("8 eps of the slope's and the value's terms")
    assert lines[4:] == ["A < B & C."]
    html = shown._repr_html_()
    assert html.count("<tr>") == 3
    assert "df/dx1 &gt;= 0" in html
    assert "<p>A &lt; B &amp; C.</p>" in html
    assert str(certificates.Certificate()) == "no guarantees"


def test_output_layers_take_whole_numbers_as_floats():
    made = {
        "bounded": layers.bounded(0.5, 1.5),
        "ordered": layers.ordered(0.5),
        "moving_average": layers.moving_average(3),
        "sums_to": layers.sums_to(0.5),
    }

    def check(name):
        whole = np.array([1, 2, 3])
        expected = made[name](whole.astype(np.float32))
        np.testing.assert_array_equal(made[name](whole), expected)

    assert_each(made, check)


def test_constructions_take_whole_inputs_as_floats():
    made = {
        "periodic": layers.periodic({0: 0.5}),
        "initial_value": layers.initial_value(0, 0.5, lambda x: x[0]),
        "neumann": layers.neumann(0, 0.2, 1.7, 0.5, 1.0),
        "box_boundary": layers.box_boundary([0.5], [1.5], 0.25),
    }

    def check(name):
        apply = made[name].wrap(lambda params, x: params * jnp.cos(x.sum()))
        whole = np.array([1])
        expected = apply(2.0, whole.astype(np.float32))
        np.testing.assert_array_equal(apply(2.0, whole), expected)

    assert_each(made, check)


def test_box_boundary_of_numpy_numbers_widens_nothing(x64):
    rod = layers.box_boundary([0.1], [0.7], 3.0)
    apply = rod.wrap(lambda params, x: params * x[0])
    for end in (0.1, 0.7):
        x = jnp.full(1, end, "float32")
        assert apply(jnp.float32(2), x).dtype == "float32"
        # The end in float32, seen from a factor in float32.
        assert apply(jnp.float32(2), x) == 3


SIZES = {
    "mlp: depth": lambda: layers.mlp(2, depth=0),
    "mlp: outputs": lambda: layers.mlp(2, 0),
    "convex: width": lambda: layers.convex(2, width=0),
    "concave: depth": lambda: layers.concave(2, depth=0),
    "bounded_convex: depth": lambda: layers.bounded_convex(
        [0.0], [1.0], 0.0, 1.0, increasing=0, depth=0
    ),
    "smooth_monotone: groups": lambda: layers.smooth_monotone(
        1, increasing=0, groups=0
    ),
}


def test_networks_refuse_sizes_below_one():
    assert_refused(
        [
            (make, ValueError, rf"{said} must be a whole number in \[1, .*, got 0")
            for said, make in SIZES.items()
        ]
    )


NOTHING = ["text", None, True, np.nan, {}, object(), 1j, ["a"], [[1.0], [1.0, 2.0]]]
ALLOWED = {
    # Arguments that None leaves out, and those that take anything of the list.
    None: {
        *("outputs", "rate", "faces", "key", "concave", "convex", "adaptive"),
        *("coefficient", "left", "right"),
    },
    "text": {"caveat"},
}
PAIRS = {("layers.robin", "left"), ("layers.robin", "right")}
# Their own tests have what these refuse: names of arrays, or whatever a caller passes.
ELSEWHERE = {"layers.check", "from_module"}


def test_layers_name_the_argument_that_is_of_another_kind():
    calls = []
    for dotted, make in GOOD.items():
        if not dotted.startswith("layers.") or dotted in ELSEWHERE:
            continue
        call = reduce(getattr, dotted.split("."), jc)
        for name in make():
            for bad in NOTHING:
                known = isinstance(bad, str) or bad is None
                if known and name in ALLOWED[bad]:
                    continue
                # A coefficient and a value, of any two shapes.
                if isinstance(bad, list) and (dotted, name) in PAIRS:
                    continue
                words = [dotted.split(".")[1], name]
                arguments = {**make(), name: bad}
                calls.append(
                    (partial(call, **arguments), (TypeError, ValueError), words)
                )
    assert len(calls) > 500
    assert_refused(calls, most=300)


def test_networks_and_layers_name_the_input_that_does_not_fit():
    network = layers.mlp(2)
    params = network.init(jax.random.key(0))
    assert_refused(
        [
            (lambda: network.apply(params, None), TypeError, "mlp: x must be an array"),
            (lambda: layers.bounded(0.0, 1.0)("y"), TypeError, "bounded: y must be"),
            (
                lambda: layers.affine([[1.0]], [1.0])(None),
                TypeError,
                "affine: y must be",
            ),
            (
                lambda: layers.bounded(lambda x: None, 1.0)(np.ones(2), np.ones(2)),
                TypeError,
                "bounded: lower of x must be an array",
            ),
            (lambda: network.then(np.tanh), TypeError, "then: construction must be"),
        ]
    )


LARGE = {
    "mlp: width 1000000": lambda: layers.mlp(2, width=1_000_000),
    "mlp: depth must be": lambda: layers.mlp(2, depth=10**9),
    "lipschitz: inputs must be": lambda: layers.lipschitz(10**12),
    "gaussian: sigma must be": lambda: layers.gaussian(1e12),
    "moving_average: width must be": lambda: layers.moving_average(10**12 + 1),
    "divergence_free: inputs must be": lambda: layers.divergence_free(10**6),
    "spectral_ball: shape must be": lambda: layers.spectral_ball((10**6, 10**6), 1.0),
}


def test_sizes_that_fit_no_memory_are_refused_at_once():
    assert_refused((make, ValueError, words) for words, make in LARGE.items())


def test_layers_of_a_set_that_is_empty_at_some_x_say_so():
    y, x = np.zeros(2, np.float32), np.array([1.0, -1.0], np.float32)
    makes = {
        "bounded": lambda: layers.bounded(lambda x: x, 0.0),
        "box_section": lambda: layers.box_section(0.0, 1.0, 1.0, lambda x: 5 * x[0]),
        "oblique_correction": lambda: layers.oblique_correction(
            np.eye(2), lambda x: x, [0.0, 0.0]
        ),
    }
    for name, make in makes.items():
        with pytest.raises(ValueError, match=f"{name}: the set is empty"):
            make()(y, x)
        assert np.isnan(jax.jit(make())(y, x)).any(), name


def test_layers_of_a_constant_set_that_is_empty_are_refused():
    rows = {
        "bounded": lambda: layers.bounded([0.0, 2.0], 1.0),
        "positive": lambda: layers.positive(np.inf),
        "box_section": lambda: layers.box_section(1.0, 0.0),
        "box_section: the set": lambda: layers.box_section(-1.0, 0.0),
        "half_space": lambda: layers.half_space([0.0, 0.0], -1.0),
        "affine: row 1 of A .* contradicts": lambda: layers.affine(
            [[1.0, 1.0], [1.0, 1.0]], [0.0, 1.0]
        ),
        "spectral_ball: radius": lambda: layers.spectral_ball((2, 2), -1.0),
        "oblique_correction": lambda: layers.oblique_correction([[1.0]], [1.0], [0.0]),
        "half_spaces|polyhedron": lambda: layers.half_spaces(
            [[1.0], [-1.0]], [0.0, -1.0]
        ),
        "derivative_box": lambda: layers.derivative_box(1, 1.0, 0.0),
    }
    assert_refused((make, ValueError, words) for words, make in rows.items())


def test_a_certificate_of_nothing_does_not_hold():
    network = layers.mlp(2, width=4)
    params = network.init(jax.random.key(0))
    tried = layers.check(network.apply, params, network.certificate, draw, num=2)
    assert not tried.holds
    assert str(tried) == "no guarantees, so nothing was tried"
    empty = replace(certificates.within(0.0, 1.0), tests={})
    promise = layers.Certificate((empty,))
    with pytest.raises(ValueError, match="the guarantee '.*' comes with no test"):
        layers.check(network.apply, params, lambda _: promise, draw, num=2)


def test_check_names_what_does_not_fit():
    network = layers.mlp(2, width=4).then(layers.bounded(0.0, 1.0))
    params = network.init(jax.random.key(0))

    def tried(**changed):
        good = {
            "apply": network.apply,
            "params": params,
            "certificate": network.certificate,
            "sampler": draw,
            "num": 2,
        }
        return lambda: layers.check(**{**good, **changed})

    assert_refused(
        [
            (tried(apply=1.0), TypeError, "check: apply must be a function"),
            (
                tried(certificate=None),
                TypeError,
                "check: certificate must be a function",
            ),
            (tried(certificate=len), TypeError, "certificate returned"),
            (tried(sampler=()), TypeError, "check: sampler must be a function"),
            (tried(sampler=lambda key, num: None), TypeError, "what sampler returns"),
            (
                tried(sampler=lambda key, num: np.ones((3, 2))),
                ValueError,
                r"sampler returned points of shape \(3, 2\), not \(2, d\)",
            ),
            (tried(params="text"), TypeError, "a leaf of params must be"),
            (tried(num=0), ValueError, "check: num must be"),
            (tried(reach=0.5), ValueError, "check: reach must be"),
            (tried(key=0), TypeError, "check: key must be one key"),
            (tried(apply=lambda params, x: x > 0), TypeError, "apply must return"),
        ]
    )
    with pytest.raises(KeyError) as caught:
        tried(apply=lambda params, x: {}["w"])()
    assert (
        "raised in check: apply, of these params and points" in caught.value.__notes__
    )
