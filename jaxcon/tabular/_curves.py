"""Curves of a fitted function along one input."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcon import derivatives
from jaxcon._checks import check_each, check_number, check_type
from jaxcon.report import Curve
from jaxcon.tabular._network import network
from jaxcon.tabular._scaling import Scaling
from jaxcon.tabular._table import place_of


def places(scaling: Scaling, name: str, num: int = 400) -> np.ndarray:
    """Returns even places along one input, from the box's lower end to its upper.

    Args:
        scaling: of the problem.
        name: of the input.
        num: the number of places.

    Returns:
        (num,), in the input's units.
    """
    check_type("scaling", scaling, Scaling, "of tabular.problem")
    index = place_of(name, scaling.inputs, "the fit")
    check_number("num", num, least=2, whole=True)
    return np.linspace(scaling.lower[index], scaling.upper[index], num)


def curve(scaling: Scaling, params: Any, name: str, num: int = 400) -> Curve:
    """Evaluates the fitted function along one input, the others at the box's centre.

    Args:
        scaling: of the problem.
        params: of its network.
        name: of the input.
        num: the number of `places` along it.

    Returns:
        Value, slope and curvature there, in the table's units.

    Raises:
        TypeError: an argument is of another kind.
        ValueError: `num` is below 2.
        TableError: the fit has no input of this name.
    """
    check_type("scaling", scaling, Scaling, "of tabular.problem")
    index = place_of(name, scaling.inputs, "the fit")
    check_number("num", num, least=2, whole=True)
    z = np.full((num, len(scaling.inputs)), 0.5, np.float32)
    z[:, index] = np.linspace(0, 1, num)
    check_each("params", params, dict, "layers, as init_network returns them")
    f = partial(network, params)
    width = scaling.upper[index] - scaling.lower[index]

    along = derivatives.derivatives(
        f,
        derivatives.Value(),
        derivatives.Partial(index),
        derivatives.Partial((index,) * 2),
    )
    value, slope, curvature = (
        np.asarray(part, float) for part in jax.vmap(along)(jnp.asarray(z))
    )
    return Curve(
        scaling.center + scaling.scale * value,
        scaling.scale / width * slope,
        scaling.scale / width**2 * curvature,
    )


def true_curve(
    scaling: Scaling,
    truth: Callable[[np.ndarray], np.ndarray],
    name: str,
    num: int = 400,
) -> Curve:
    """Evaluates the truth as in `curve`, its derivatives by central differences.

    Args:
        scaling: of the problem.
        truth: function of inputs (n, d) in their own units.
        name: of the input.
        num: the number of `places` along it.

    Returns:
        Value, slope and curvature, in the table's units.
    """
    along = places(scaling, name, num)
    x = np.tile((scaling.lower + scaling.upper) / 2, (num, 1))
    x[:, scaling.inputs.index(name)] = along
    value = truth(x)
    slope = np.gradient(value, along)
    return Curve(value, slope, np.gradient(slope, along))
