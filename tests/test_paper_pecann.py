"""The equations of PECANN's paper, what is built into its networks, and its soil."""

import jax
import numpy as np
import pytest

from papers import basir2022_pecann as pecann


def forcing(x, t):
    """Klein and Gordon's right-hand side, by hand."""
    u = x * np.cos(5 * np.pi * t) + (x * t) ** 3
    u_tt = -25 * np.pi**2 * x * np.cos(5 * np.pi * t) + 6 * x**3 * t
    return u_tt - 6 * x * t**3 + u**3


def sines(x, y):
    """Helmholtz's."""
    return (1 - 17 * np.pi**2) * np.sin(np.pi * x) * np.sin(4 * np.pi * y)


def test_pecann_right_hand_sides_are_those_by_hand(x64):
    for equation, by_hand in ((pecann.SQUARE, sines), (pecann.STRIP, forcing)):
        x = equation.points(0, 64)["interior"]
        found = jax.jit(jax.vmap(equation.operators["interior"](equation.truth)))(x)
        # Of terms of some 250.
        np.testing.assert_allclose(found, by_hand(*np.asarray(x).T), atol=1e-10)


def test_pecann_strip_conditions_built_in_hold(x64):
    net = pecann.network([2, 4, 1], 0.5, 0.3)
    beginning, ends = pecann.strip_conditions()
    net = net.then(beginning).then(ends)
    names = [*pecann.conditions(pecann.STRIP), "interior"]

    @jax.jit
    def residuals(key, batch):
        params = net.init(key)
        return [
            pecann.residual(pecann.STRIP, net.apply, name)(params, batch)
            for name in names
        ]

    *held, inside = residuals(jax.random.key(0), pecann.STRIP.points(1, 64))
    assert held
    for off in held:
        np.testing.assert_allclose(off, 0, atol=1e-12)
    assert np.abs(inside).max() > 0.1


def test_pecann_soil_is_the_published_one(x64):
    x, h, flux = pecann.flow(*pecann.TRUE)
    assert round(flux, 4) == pecann.FLUX
    assert (h[0], h[-1]) == pytest.approx(pecann.HEADS, abs=1e-9)
    # Saturated soil lets through what it can; a dry one less.
    K = pecann.conductivity(np.array([0.0, -10.0, -1000.0]), *pecann.TRUE)
    assert K[0] == pecann.SATURATED
    assert K[0] > K[1] > K[2] > 0
    # Darcy's law on the nodes, by differences.
    middle, slopes = (h[1:] + h[:-1]) / 2, np.diff(h) / np.diff(x)
    law = -pecann.conductivity(middle, *pecann.TRUE) * slopes
    np.testing.assert_allclose(law, flux, rtol=1e-3)  # of second order in 8 cm
    found = pecann.quadrature(flux)
    np.testing.assert_allclose(found, pecann.TRUE, rtol=1e-8)
