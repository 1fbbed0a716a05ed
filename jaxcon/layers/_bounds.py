"""Output layers that keep bounds, one-sided or two-sided."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcon.layers._certificates import (
    Function,
    Gap,
    Guarantee,
    Test,
    curved,
    lipschitz,
    slope,
    within,
)
from jaxcon.layers._nearest import obeying
from jaxcon.layers._networks import Output, check_term, floating, output
from jaxcon.layers._outputs import evaluated

# Sigmoid or softplus to four roundings, the bounds, products and a sum.
RISING = 8.0


def bounded(lower: Any, upper: Any) -> Output:
    r"""Maps outputs into bounds, one-sided or two-sided.

    .. math::
        f = l + (u - l)\, \sigma(z), \qquad
        f = l + \log(1 + e^z) \text{ if } u = \infty, \qquad
        f = u - \log(1 + e^{-z}) \text{ if } l = -\infty

    It is exact in floating point: no output is outside, though it may be *at* a bound,
    where the slope vanishes. Bounds at which data lie are better left to a constraint. It
    costs one exponential for each output. Each output rises with its z at a rate of at
    most :math:`(u - l) / 4`, or 1 if one-sided. So, where bounds are numbers, signs of
    slopes stay, Lipschitz constants and bounds of slopes are multiplied by the rate,
    periods stay, and one-sided bounds keep what is convex (l) or concave (u).

    Args:
        lower: l, () or (m,), or a function of x that returns it; may be infinite.
        upper: u, likewise, above l at every x. An output without any bound passes
            unchanged.

    Returns:
        The output layer, of y () or (m,). Where functions of x put l above u, the result is
        NaN under jit and a ValueError outside it.

    Raises:
        TypeError: a bound is neither numbers nor a function.
        ValueError: l < u does not hold, or no bound is finite; when called, the bounds'
            shape is not that of y, or they are functions of x and x is not given.

    References:
        Dugas et al., Incorporating Second-Order Functional Knowledge for Better Option
        Pricing (2001), for the softplus.

    Example:
        >>> import jax.numpy as jnp, jaxcon as jc
        >>> share = jc.layers.bounded(0.0, 1.0)
        >>> print(share(jnp.array([-1e30, 0.0, 1e30])))
        [0.  0.5 1. ]
    """
    return _bounded("bounded", lower, upper)


def _bounded(name: str, lower: Any, upper: Any) -> Output:
    """Builds `bounded` under the name that its errors give."""
    lower, upper = (
        check_term(f"{name}: {word}", bound, "() or (m,)", finite=False)
        for word, bound in (("lower", lower), ("upper", upper))
    )

    def function(z: jax.Array, x: Any) -> jax.Array:
        z = floating(f"{name}: y", z)
        low = evaluated(name, "lower", lower, z, x)
        high = evaluated(name, "upper", upper, z, x)
        below, above = jnp.isfinite(low), jnp.isfinite(high)
        # Infinity times zero would be left in the slopes of the cases not taken.
        least, most = jnp.where(below, low, 0), jnp.where(above, high, 0)
        # Not the width, which may overflow, times a share.
        between = least * jax.nn.sigmoid(-z) + most * jax.nn.sigmoid(z)
        rising = jnp.where(
            below, least + jax.nn.softplus(z), most - jax.nn.softplus(-z)
        )
        y = jnp.where(below & above, between, jnp.where(below | above, rising, z))
        y = jnp.clip(y, low, high)  # the last rounding
        if not varies:
            return y
        sentence = f"{name}: the set is empty, lower exceeds upper at this x"
        return obeying(y, jnp.all(low <= high), sentence)

    varies = callable(lower) or callable(upper)
    promised = within(lower, upper)
    if varies:
        return output(function, promised)
    low, high = np.asarray(lower, float), np.asarray(upper, float)
    if low.shape and high.shape and low.shape != high.shape:
        raise ValueError(
            f"{name} needs lower and upper of one shape, got {low.shape} and {high.shape}"
        )
    if not np.all((low < high) & (low < np.inf) & (high > -np.inf)):
        raise ValueError(
            f"{name} needs lower < upper, got {low} and {high}: the set is empty"
        )
    below, above = np.isfinite(low), np.isfinite(high)
    if not np.any(below | above):
        raise ValueError(f"{name} has no finite bound in lower {low} and upper {high}")
    rate = np.max(np.where(below & above, (high - low) / 4, 1.0))
    bend = "convex" if not above.any() else "concave" if not below.any() else ""
    finite = [np.abs(bound[np.isfinite(bound)]) for bound in (low, high)]
    largest = max(np.max(sizes, initial=0.0) for sizes in finite)
    carry = _rising(float(rate), bend, float(largest))
    return output(function, promised, carry=carry)


def positive(lower: Any = 0.0) -> Output:
    r"""Maps outputs above a bound by softplus.

    .. math::
        f = l + \log(1 + e^z)

    This is `bounded` from one side. It is exact in floating point (f is at l where
    :math:`e^z` is lost beside it), convex and rising at a rate of at most 1. So signs of
    slopes, Lipschitz constants and convexity stay. For outputs that fall off over orders of
    magnitude train on the logarithm of the target instead.

    Args:
        lower: l, () or (m,), or a function of x that returns it.

    Returns:
        The output layer, of y () or (m,).

    Raises:
        ValueError: see `bounded`.

    References:
        Dugas et al., Incorporating Second-Order Functional Knowledge for Better Option
        Pricing (2001).

    Example:
        >>> import jax.numpy as jnp, jaxcon as jc
        >>> print(jc.layers.positive()(jnp.array([-1e30, 100.0])))
        [  0. 100.]
    """
    return _bounded("positive", lower, np.inf)


def _rising(
    rate: float, bend: str, bounds: float
) -> Callable[[Guarantee], Guarantee | None]:
    """Returns the carry of a function of each output that rises at a bounded rate.

    Args:
        rate: (u - l) / 4, or 1.
        bend: "convex" or "concave" if the function is.
        bounds: the largest finite one's size.

    Returns:
        The carry of an `Output`.
    """

    def carry(before: Guarantee) -> Guarantee | None:
        about: dict[str, Any] = {"roundings": before.roundings + RISING}
        if before.kind == "slope":
            low, high = before.constant
            # Not the rate times zero times infinity.
            low, high = (
                rate * s if s else 0.0 for s in (min(low, 0.0), max(high, 0.0))
            )
            after = slope(before.inputs[0], low, high, **about)
        elif before.kind == "lipschitz":
            after = lipschitz(rate * before.constant, exact=before.exact, **about)
        elif before.kind == "periodic":
            after = replace(before, **about)
        elif before.kind == bend:
            sign = 1 if bend == "convex" else -1
            after = curved(before.inputs, sign, **about)
        else:
            return None
        tests = {
            name: _widened(
                test, before.tests[name], after.kind == bend and name == "derivative"
            )
            for name, test in after.tests.items()
        }
        return replace(after, tests=tests, domain=before.domain)

    def _widened(test: Test, inner: Test, bends: bool) -> Test:
        def widened(f: Function, x: jax.Array, y: jax.Array) -> Gap:
            gap = test(f, x, y)
            # A rounding of z itself moves the output by at most |z| times the slope there:
            # 0.23 of the width for a sigmoid, 0.28 and the output for a softplus.
            size = gap.size + rate * (1.0 + inner(f, x, y).size) + bounds
            if bends:
                # The slope of a softplus is exp(z - f), off by a rounding of z; it bends by
                # that slope less its square, times the square of z's own slope.
                reach = 1.0 + bounds + jnp.abs(f(x))
                size += 2 * reach * jnp.sum(jnp.square(jax.grad(f)(x)))
            return Gap(gap.excess, size)

        return widened

    return carry
