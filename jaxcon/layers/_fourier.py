"""Construction that gives a network random Fourier features of its inputs."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcon._checks import check_array, check_number
from jaxcon.layers._certificates import Certificate, Function, Gap, Guarantee
from jaxcon.layers._certificates import lipschitz as lipschitz_guarantee
from jaxcon.layers._networks import (
    Apply,
    Construction,
    checked_input,
    everywhere_bounded,
    positive_sizes,
)
from jaxcon.projections import product


def fourier_features(
    inputs: int, num: int, *, scale: Any = 1.0, seed: int = 0
) -> Construction:
    r"""Gives a network waves of its inputs at random frequencies.

    .. math::
        f(x) = N(\gamma(x)), \qquad
        \gamma(x) = (\cos 2 \pi B x, \sin 2 \pi B x), \qquad
        B_{ij} \sim \mathcal N(0, \sigma_j^2)

    so the wrapped network N takes 2 `num` inputs. B is drawn once and is not trained. With
    a :math:`\sigma` near the frequencies of the solution these are learned first, which
    the inputs alone leave to the end.

    The Jacobian of :math:`\gamma` is of the same norm everywhere,
    :math:`J^T J = 4 \pi^2 B^T B`: where N is certified to be L-Lipschitz, f is with
    :math:`2 \pi \|B\|_2 L`. Of N's other guarantees bounds stay.

    Args:
        inputs: d.
        num: number of frequencies.
        scale: sigma > 0, in cycles per unit of input; one number, or one for each
            input, (d,).
        seed: of the frequencies.

    Returns:
        The construction; of x (d,) it calls N with (2 num,).

    Raises:
        TypeError: an argument is no number.
        ValueError: one is out of its range; when called, x is not (d,).

    References:
        Tancik et al., Fourier Features Let Networks Learn High Frequency Functions in Low
        Dimensional Domains (2020); Wang, Wang and Perdikaris, On the Eigenvector Bias of
        Fourier Feature Networks (2021).

    Example:
        >>> import jax, jax.numpy as jnp, jaxcon as jc
        >>> features = jc.layers.fourier_features(2, 16, scale=[1.0, 5.0])
        >>> network = jc.layers.lipschitz(32).then(features)
        >>> params = network.init(jax.random.key(0))
        >>> print(network.apply(params, jnp.ones(2)).shape)
        ()
        >>> network.certificate(params).guarantees[0].kind
        'lipschitz'
    """
    positive_sizes("fourier_features", inputs=inputs, num=num)
    check_number("fourier_features: seed", seed, least=0, whole=True)
    given = check_array("fourier_features: scale", scale, "() or (d,)")
    widths = np.asarray(given, float)
    if widths.shape not in ((), (inputs,)):
        raise ValueError(
            f"fourier_features: scale must be of shape () or ({inputs},), got "
            f"{widths.shape}"
        )
    if not np.all(widths > 0):
        raise ValueError(f"fourier_features: scale must be > 0, got {widths}")
    drawn = np.random.default_rng(seed).normal(size=(num, inputs))
    turns = 2 * np.pi * drawn * np.broadcast_to(widths, (num, inputs))
    # Of a rounded matrix, in whatever precision it is used.
    steepest = float(np.linalg.norm(turns, 2))

    def waves(x: jax.Array) -> jax.Array:
        x = checked_input("fourier_features", x, inputs)
        phases = product(jnp.asarray(turns, x.dtype), x)
        return jnp.concatenate([jnp.cos(phases), jnp.sin(phases)])

    def phase_size(x: jax.Array) -> jax.Array:
        terms = jnp.asarray(np.abs(turns), x.dtype) @ jnp.abs(x)
        return jnp.linalg.norm(terms)

    def wrap(apply: Apply) -> Apply:
        return lambda params, x: apply(params, waves(x))

    def carry(guarantee: Guarantee) -> Guarantee | None:
        if guarantee.kind != "lipschitz" or guarantee.domain is not None:
            return everywhere_bounded(guarantee)
        inner = guarantee.constant

        def difference(f: Function, x: jax.Array, y: jax.Array) -> Gap:
            # The size of the terms inside N, which its own test knows.
            value, ends = f(x), (waves(x), waves(y))
            of_n = guarantee.tests["difference"](lambda _: value, *ends).size
            gap = outer.tests["difference"](f, x, y)
            phases = inner * (phase_size(x) + phase_size(y))
            return Gap(gap.excess, gap.size + of_n + phases)

        # Angles of d products, sines of them, and the constant of a rounded matrix.
        outer = lipschitz_guarantee(
            steepest * inner, roundings=guarantee.roundings + inputs + 8.0
        )
        tests = {**outer.tests, "difference": difference}
        return replace(outer, tests=tests, exact=guarantee.exact)

    return Construction(wrap, Certificate(), carry)
