"""Constructions that prescribe values on a box and at the start, and several at once."""

from collections.abc import Mapping
from dataclasses import replace
from functools import reduce
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcon._checks import (
    check_array,
    check_choice,
    check_number,
    described,
)
from jaxcon.layers._certificates import Function, Gap, Guarantee
from jaxcon.layers._networks import check_term, chosen_inputs
from jaxcon.layers._outputs import evaluated
from jaxcon.layers._prescribed import (
    Condition,
    Test,
    check_index,
    face,
    prescribed,
    promise,
    slope_test,
    value_and_slope,
    value_test,
    zero_like,
)

# Roundings of several lifts, each of what the ones before have left.
JOINTLY = 16.0
# Names of tests whose sizes have the slopes' own terms.
SLOPES = ("derivative", "lower", "upper")
SIDES = {"lower": (True, False), "upper": (False, True), "both": (True, True)}


def box_boundary(
    lower: Any, upper: Any, value: Any, *, faces: Mapping[int, str] | None = None
) -> Condition:
    r"""Prescribes a network's values on some faces of a box.

    .. math::
        f(x) = g(x) + N(x) \prod_{i} \frac{x_i - l_i}{u_i - l_i}
        \prod_{j} \frac{u_j - x_j}{u_j - l_j}

    over the faces named, four times as much for an input with both, so that factors are of
    order one. The values are exact in floating point, since on a face its factor is zero.
    Where faces meet, f is g whatever N is; no continuous g meets a value that jumps there.

    Args:
        lower: corner l (d,), in the inputs' units; infinite where it has no face.
        upper: corner u (d,), likewise.
        value: g, a number or x (d,) -> () or the network's shape.
        faces: "lower", "upper" or "both" by input; all faces unless given.

    Returns:
        The construction.

    Raises:
        TypeError: an argument is of another type.
        ValueError: lower < upper does not hold, or a face is unknown or infinite; when
            called, x is not (d,) or g's shape does not fit the network's.

    References:
        Lagaris, Likas and Fotiadis, Artificial Neural Networks for Solving Ordinary and
        Partial Differential Equations (1998).

    Example:
        >>> import jax, jax.numpy as jnp, jaxcon as jc
        >>> rod = jc.layers.box_boundary([0.0, 0.0], [2.0, 1.0], 3.0, faces={0: "both"})
        >>> network = jc.layers.mlp(2).then(rod)
        >>> params = network.init(jax.random.key(0))
        >>> print(network.apply(params, jnp.array([2.0, 0.7])))
        3.0
    """
    low, high = (
        np.asarray(
            check_array(f"box_boundary: {name}", corner, "(d,)", finite=False), float
        )
        for name, corner in (("lower", lower), ("upper", upper))
    )
    value = check_term("box_boundary: value", value, "of any shape")
    if not low.size or low.shape != high.shape or not np.all(low < high):
        raise ValueError(
            "box_boundary needs corners lower < upper of shape (d,), got lower "
            f"{low.tolist()} and upper {high.tolist()}"
        )
    if not (faces is None or isinstance(faces, Mapping)):
        raise TypeError(
            "box_boundary: faces must be a mapping from inputs to 'lower', 'upper' or "
            f"'both', got {described(faces)}"
        )
    every = {i: "both" for i in range(low.size)} if faces is None else dict(faces)
    chosen_inputs("box_boundary", "faces", list(every), low.size)
    for i, side in every.items():
        check_choice(f"box_boundary: faces[{i}]", side, SIDES)
    if not every:
        raise ValueError("box_boundary: faces must name an input, got none")
    sides = {i: SIDES[every[i]] for i in sorted(every)}
    walls = [
        (i, float(corner[i]))
        for i, present in sides.items()
        for corner, there in zip((low, high), present)
        if there
    ]
    if not np.all(np.isfinite([place for _, place in walls])):
        raise ValueError(
            "box_boundary has an infinite face in lower "
            f"{low.tolist()} or upper {high.tolist()}"
        )
    width = np.where(np.isfinite(high - low), high - low, 1.0).tolist()
    # Python's numbers, which widen nothing.
    first, last = low.tolist(), high.tolist()

    def check(x: jax.Array) -> None:
        if jnp.shape(x) != low.shape:
            raise ValueError(
                f"box_boundary takes one example x of shape {low.shape}, got "
                f"{jnp.shape(x)}; use jax.vmap for a batch"
            )

    def factor(x: jax.Array, like: jax.Array) -> jax.Array:
        del like
        product = jnp.ones((), x.dtype)
        for i, (below, above) in sides.items():
            product *= (x[i] - first[i]) / width[i] if below else 1.0
            product *= (last[i] - x[i]) / width[i] if above else 1.0
            product *= 4.0 if below and above else 1.0
        return product

    def lift(known: Function) -> Function:
        return lambda x: evaluated("box_boundary", "value", value, known(x), x)

    tests = {
        f"x{i} = {place:g}": value_test(face(i, place), value) for i, place in walls
    }
    statement = f"f = value where {' or '.join(tests)}"
    chosen = tuple(sides)
    ends = [
        (first[i] if below else -np.inf, last[i] if above else np.inf)
        for i, (below, above) in sides.items()
    ]

    def inside(x: jax.Array) -> jax.Array:
        for i, (least, most) in zip(chosen, ends):
            x = x.at[i].set(jnp.clip(x[i], least, most))
        return x

    return prescribed(
        "box_boundary",
        (promise(statement, tests, chosen),),
        check=check,
        scale=lambda x: x,
        factor=factor,
        lift=lift,
        given=(value,),
        inputs=chosen,
        inside=inside,
        forgets=True,
    )


def initial_value(index: int, start: float, value: Any, rate: Any = None) -> Condition:
    r"""Prescribes a network's value, and perhaps its rate of change, at the start.

    .. math::
        f(x) = u_0 + (t - t_0) N(x), \qquad
        f(x) = u_0 + (t - t_0)\, v_0 + (t - t_0)^2 N(x)

    with :math:`t = x_i`, and :math:`u_0, v_0` taken at :math:`t = t_0` whatever the time.
    Both are exact in floating point at :math:`t = t_0`, the rate by its derivative. Late
    times multiply N by much: measure time in units of the whole run.

    Args:
        index: i, the input that is time.
        start: t0, in units of time.
        value: u0, a number or x (d,) -> () or the network's shape.
        rate: v0, likewise, per unit of time; the rate is free unless given.

    Returns:
        The construction.

    Raises:
        TypeError: an argument is of another type.
        ValueError: index is negative; when called, there is no such input or a shape does
            not fit the network's.

    References:
        Lagaris, Likas and Fotiadis, Artificial Neural Networks for Solving Ordinary and
        Partial Differential Equations (1998).

    Example:
        >>> import jax, jax.numpy as jnp, jaxcon as jc
        >>> drop = jc.layers.initial_value(0, 0.0, value=2.0, rate=-1.0)
        >>> network = jc.layers.mlp(1).then(drop)
        >>> f = lambda t: network.apply(network.init(jax.random.key(0)), t)
        >>> [y.item() for y in jax.jvp(f, (jnp.zeros(1),), (jnp.ones(1),))]
        [2.0, -1.0]
    """
    check_index("initial_value", index)
    check_number("initial_value: start", start)
    start = float(start)  # as in face
    value = check_term("initial_value: value", value, "of any shape")
    if rate is not None:
        rate = check_term("initial_value: rate", rate, "of any shape")
    begin = face(index, start)

    def check(x: jax.Array) -> None:
        chosen_inputs("initial_value", "index", index, x.size)

    def factor(x: jax.Array, like: jax.Array) -> jax.Array:
        del like
        elapsed = x[index] - start
        return elapsed if rate is None else elapsed**2

    def lift(known: Function) -> Function:
        def lifted(x: jax.Array) -> jax.Array:
            first, here = begin(x), known(x)
            before, speed = value_and_slope(known, index, first)
            found = here + (
                evaluated("initial_value", "value", value, here, first) - before
            )
            if rate is None:
                return found
            given = evaluated("initial_value", "rate", rate, here, first)
            return found + (x[index] - start) * (given - speed)

        return lifted

    tests = {"value": value_test(begin, value)}
    statement = f"f = value at x{index} = {start:g}"
    if rate is not None:
        tests["derivative"] = slope_test(begin, rate, index, 0.0)
        statement = f"f = value and df/dx{index} = rate at x{index} = {start:g}"
    return prescribed(
        "initial_value",
        (promise(statement, tests, (index,)),),
        check=check,
        scale=lambda x: x,
        factor=factor,
        lift=lift,
        given=(value, rate),
        inputs=(index,),
    )


def conditions(*several: Condition) -> Condition:
    r"""Prescribes several conditions at once, each on other inputs.

    .. math::
        f(x) = P_n(x) + E_1(x) \cdots E_n(x)\, N(s_1 \circ \dots \circ s_n (x)), \qquad
        P_k = P_{k-1} + L_k (g_k - B_k P_{k-1}), \quad P_0 = 0

    Each condition is :math:`B_k f = g_k` on the faces of its inputs, and alone it is
    :math:`L_k g_k + E_k(x) N(s_k(x))`. N is evaluated once; only the known functions
    :math:`P_k` are differentiated. The last condition holds whatever the others are. An
    earlier one holds as well, corners included, if the two agree where their faces meet,
    :math:`B_j g_k = B_k g_j`: a face that is kept at zero, and cooled to zero on the next,
    does; an initial state must meet the boundary conditions. Where they do not agree no
    smooth f has both, and the later one wins.

    ``network.then(a).then(b)`` keeps what a prescribes if both prescribe zero, but its
    certificate claims b alone: b is not known to leave the faces of a as they are.

    `dirichlet` and `box_boundary` come first, since their value is a function of all
    inputs. A coefficient c of `robin` or `mixed` must not depend on an input with another
    condition, but on that of an `initial_value` before it.

    Args:
        *several: of `box_boundary`, `dirichlet`, `initial_value`, `mixed`, `neumann` and
            `robin`, each of other inputs.

    Returns:
        The construction, with the guarantees of all.

    Raises:
        TypeError: one is no such construction.
        ValueError: there are none, two are of one input, or `dirichlet` or `box_boundary`
            is not the first.

    References:
        Mortari, The Theory of Connections: Connecting Points (2017), for sums like P.

    Example:
        >>> import jax, jax.numpy as jnp, jaxcon as jc
        >>> rod = jc.layers.conditions(
        ...     jc.layers.initial_value(1, 0.0, lambda x: 1 + x[0] ** 2),
        ...     jc.layers.robin(0, 0.0, 1.0, left=(0.0, 0.0), right=(1.0, 4.0)),
        ... )
        >>> network = jc.layers.mlp(2).then(rod)
        >>> f = lambda x: network.apply(network.init(jax.random.key(0)), x)
        >>> print(f(jnp.array([0.5, 0.0])))
        1.25
    """
    for one in several:
        if not isinstance(one, Condition):
            raise TypeError(
                "conditions: several must be constructions such as jc.layers.robin, got "
                f"{described(one)}"
            )
    if not several:
        raise ValueError("conditions: several must be one or more, got none")
    chosen = [i for one in several for i in one.inputs]
    if twice := sorted({i for i in chosen if chosen.count(i) > 1}):
        raise ValueError(f"conditions: two of several are of input {twice[0]}")
    if any(one.forgets for one in several[1:]):
        raise ValueError(
            "conditions: of several, dirichlet or box_boundary must be the first"
        )

    def check(x: jax.Array) -> None:
        for one in several:
            one.check(x)

    def scale(x: jax.Array) -> jax.Array:
        return reduce(lambda x, one: one.scale(x), several, x)

    def factor(x: jax.Array, like: jax.Array) -> jax.Array:
        product = jnp.ones((), like.dtype)
        for one in several:
            product = product * one.factor(x, like)
        return product

    def lift(known: Function) -> Function:
        return reduce(lambda known, one: one.lift(known), several, known)

    def inside(x: jax.Array) -> jax.Array:
        return reduce(lambda x, one: one.inside(x), several, x)

    def parts(f: Function, x: jax.Array) -> jax.Array:
        """Returns the size of the terms of which P consists, ()."""
        known, sizes = zero_like(f(x)), []
        for one in several:
            known = one.lift(known)
            sizes.append(jnp.max(jnp.abs(known(x))))
        return jnp.sum(jnp.stack(sizes))

    def jointly(guarantee: Guarantee) -> Guarantee:
        """Returns a guarantee for x inside the ranges of all."""

        def joint(name: str, test: Test) -> Test:
            def tested(f: Function, x: jax.Array, y: jax.Array) -> Gap:
                there = inside(x)
                gap = test(f, there, y)
                if name in SLOPES:
                    return gap
                return gap._replace(size=gap.size + parts(f, there))

            return tested

        tests = {name: joint(name, test) for name, test in guarantee.tests.items()}
        return replace(guarantee, tests=tests, roundings=JOINTLY)

    promises = [one for each in several for one in each.promises.guarantees]
    return prescribed(
        "conditions",
        tuple(jointly(one) for one in promises),
        check=check,
        scale=scale,
        factor=factor,
        lift=lift,
        given=[term for one in several for term in one.given],
        inputs=tuple(sorted(chosen)),
        inside=inside,
        forgets=several[0].forgets,
    )
