"""Construction that makes a network periodic in some of its inputs."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcon._checks import check_number, described
from jaxcon.layers._certificates import TWICE, Certificate, Function, Gap, Guarantee
from jaxcon.layers._networks import (
    Apply,
    Construction,
    chosen_inputs,
    everywhere_bounded,
    one_example,
)


def periodic(periods: Mapping[int, float] | Sequence[float]) -> Construction:
    r"""Makes a network periodic in some of its inputs.

    .. math::
        f(x) = N(\dots, \cos \tfrac{2 \pi x_i}{P_i}, \sin \tfrac{2 \pi x_i}{P_i}, \dots)

    in place of each periodic :math:`x_i`, so the wrapped network N takes one input more for
    each. Every smooth periodic function is a smooth function of the two, and derivatives
    of all orders repeat as well. It guarantees :math:`f(x + P_i e_i) = f(x)`. Each
    :math:`x_i` is first reduced by whole periods, which is exact in floating point, so
    that far out only the rounding of x itself is lost. Of N's guarantees, bounds stay.

    Args:
        periods: by input, P > 0 in units of that input, or a sequence of one for each
            input.

    Returns:
        The construction; of x (d,) it calls N with (d + number of periods,).

    Raises:
        TypeError: periods are neither a mapping nor a sequence of numbers.
        ValueError: a period is not positive; when called, x is not (d,) with these
            inputs.

    References:
        Dong and Ni, A Method for Representing Periodic Functions and Enforcing Exactly
        Periodic Boundary Conditions with Deep Neural Networks (2021).

    Example:
        >>> import jax, jax.numpy as jnp, jaxcon as jc
        >>> network = jc.layers.mlp(3).then(jc.layers.periodic({0: 2.0}))
        >>> params = network.init(jax.random.key(0))
        >>> here, there = jnp.array([0.5, 1.0]), jnp.array([200.5, 1.0])
        >>> bool(network.apply(params, here) == network.apply(params, there))
        True
    """
    one_each = not isinstance(periods, Mapping)
    arrays = (np.ndarray, jax.Array)
    several = isinstance(periods, (Mapping, list, tuple, *arrays))
    if not several or (isinstance(periods, arrays) and periods.ndim != 1):
        raise TypeError(
            "periodic: periods must be a mapping from inputs to periods, or a sequence, "
            f"got {described(periods)}"
        )
    by_input = dict(enumerate(periods)) if one_each else dict(periods)
    if not by_input:
        raise ValueError("periodic: periods must name an input, got none")
    for index, period in by_input.items():
        check_number("periodic: an input of periods", index, least=0, whole=True)
        check_number(f"periodic: periods[{index}]", period, above=0)

    def reduced(x: jax.Array) -> tuple[np.ndarray, jax.Array, jax.Array]:
        """Returns indices, periods and remainders of these inputs, within [0, P)."""
        inputs = jnp.size(x)
        if one_each and len(by_input) != inputs:
            raise ValueError(
                f"periodic has {len(by_input)} periods for {inputs} inputs"
            )
        chosen = np.array(chosen_inputs("periodic", "periods", list(by_input), inputs))
        period = jnp.asarray([by_input[i] for i in chosen], x.dtype)
        left = jnp.remainder(x[chosen], period)
        # The remainder of a tiny negative number rounds to the whole period.
        return chosen, period, jnp.where(left < period, left, left - period)

    def wrap(apply: Apply) -> Apply:
        def wrapped(params: Any, x: jax.Array) -> jax.Array:
            x = one_example("periodic", x)
            chosen, period, left = reduced(x)
            angle = 2 * jnp.pi * (left / period)
            both = jnp.concatenate([x, jnp.cos(angle), jnp.sin(angle)])
            place: list[list[int]] = [[i] for i in range(x.size)]
            for k, i in enumerate(chosen):
                place[i] = [x.size + k, x.size + len(chosen) + k]
            return apply(params, both[np.concatenate(place)])

        return wrapped

    def same(f: Function, x: jax.Array, other: jax.Array) -> Gap:
        chosen, period, _ = reduced(x)
        along = jnp.zeros((len(chosen), x.size), x.dtype)
        along = along.at[np.arange(len(chosen)), chosen].set(period)
        turns = jax.vmap(lambda tangent: jax.jvp(f, (x,), (tangent,))[1])(along)
        one, two = f(x), f(other)
        # Where the compiler makes the angle twice, the two may differ by eps of a turn.
        size = jnp.max(jnp.abs(one)) + jnp.max(jnp.abs(two)) + jnp.sum(jnp.abs(turns))
        return Gap(jnp.max(jnp.abs(one - two)), size)

    def next_period(f: Function, x: jax.Array, y: jax.Array) -> Gap:
        del y
        chosen, period, left = reduced(x)
        gaps = []
        for k, i in enumerate(chosen):
            # Their difference is the period exactly: no rounding of x is tested.
            later = left[k] + period[k]
            gaps.append(same(f, x.at[i].set(later - period[k]), x.at[i].set(later)))
        excess, size = zip(*gaps)
        return Gap(jnp.max(jnp.stack(excess)), jnp.max(jnp.stack(size)))

    def first_period(f: Function, x: jax.Array, y: jax.Array) -> Gap:
        del y
        chosen, _, left = reduced(x)
        return same(f, x, x.at[chosen].set(left))

    named = ", ".join(f"{period:g} in input {i}" for i, period in by_input.items())
    promise = Guarantee(
        f"f repeats itself after {named}",
        kind="periodic",
        tests={"next period": next_period, "first period": first_period},
        roundings=TWICE,
        size="the values and of what they change by along a period",
        constant=by_input,
        inputs=tuple(by_input),
    )
    caveat = (
        "A period is rounded to x's precision, and so is x: a far one may be the float of "
        "another point of the period."
    )
    return Construction(wrap, Certificate((promise,), caveat), everywhere_bounded)
