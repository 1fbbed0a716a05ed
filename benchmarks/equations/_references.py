"""Solutions that no network had a part in: spectral methods and a method of particulars.

Nothing is downloaded: every reference is computed here, in float64, in a few seconds, and
`python -m benchmarks.equations --references` prints how far each is from one of another
resolution.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

Values = Callable[[np.ndarray], np.ndarray]


def periodic(
    linear: Callable[[np.ndarray], np.ndarray],
    nonlinear: Callable[[np.ndarray, np.ndarray], np.ndarray],
    start: Callable[[np.ndarray], np.ndarray],
    end: float,
    modes: int,
    steps: int,
) -> Values:
    r"""Solves :math:`u_t = L u + N(u)` on [-1, 1) with periodic ends.

    Fourier modes in space, and the exponential Runge-Kutta scheme of fourth order in time,
    whose coefficients are means over a circle.

    Args:
        linear: wave numbers k -> the factor of each mode under L.
        nonlinear: modes and wave numbers -> the modes of N(u), by fast transforms.
        start: u at time 0.
        end: last time.
        modes: number of points.
        steps: of time.

    Returns:
        Points (n, 2) of place and time -> u (n,), interpolated by the modes in space and
        by polynomials of degree 7 in time.

    References:
        Kassam and Trefethen, Fourth-Order Time-Stepping for Stiff PDEs (2005), eqs. 2.5 and
        26 to 29.
    """
    x = -1 + 2 * np.arange(modes) / modes
    k = np.pi * np.fft.fftfreq(modes, 1 / modes)
    h = end / steps
    factor = np.asarray(linear(k), complex)
    whole, half = np.exp(h * factor), np.exp(h * factor / 2)
    circle = np.exp(2j * np.pi * (np.arange(64) + 0.5) / 64)
    z = h * factor[:, None] + circle
    q = h * np.mean((np.exp(z / 2) - 1) / z, 1)
    f1 = h * np.mean((-4 - z + np.exp(z) * (4 - 3 * z + z**2)) / z**3, 1)
    f2 = h * np.mean((2 + z + np.exp(z) * (z - 2)) / z**3, 1)
    f3 = h * np.mean((-4 - 3 * z - z**2 + np.exp(z) * (4 - z)) / z**3, 1)
    v = np.fft.fft(start(x))
    kept = [v]
    for _ in range(steps):
        nv = nonlinear(v, k)
        a = half * v + q * nv
        na = nonlinear(a, k)
        b = half * v + q * na
        nb = nonlinear(b, k)
        c = half * a + q * (2 * nb - nv)
        nc = nonlinear(c, k)
        v = whole * v + nv * f1 + 2 * (na + nb) * f2 + nc * f3
        kept.append(v)
    every = max(1, steps // 400)
    times, spectra = h * np.arange(0, steps + 1, every), np.array(kept[::every])

    def values(points: np.ndarray) -> np.ndarray:
        place, time = np.asarray(points, float).T
        weights, rows = _lagrange(times, time)
        found = np.zeros(len(place))
        for part in np.array_split(np.arange(len(place)), max(1, len(place) // 256)):
            v = np.einsum("nj,njm->nm", weights[part], spectra[rows[part]])
            waves = np.exp(1j * np.outer(place[part] + 1, k))
            found[part] = np.real(np.sum(v * waves, 1)) / modes
        return found

    return values


def _lagrange(nodes: np.ndarray, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns weights (n, 8) of the eight nodes nearest to each place, and which."""
    step = nodes[1] - nodes[0]
    first = np.clip((at / step).astype(int) - 3, 0, len(nodes) - 8)
    rows = first[:, None] + np.arange(8)
    s = at / step - first
    weights = np.ones((len(at), 8))
    for i in range(8):
        for j in range(8):
            if i != j:
                weights[:, i] *= (s - j) / (i - j)
    return weights, rows


def _dealiased(modes: np.ndarray) -> np.ndarray:
    """Returns the modes without the highest third, which squares would alias."""
    count = len(modes)
    kept = np.abs(np.fft.fftfreq(count, 1 / count)) < count / 3
    return modes * kept


def _square_slope(factor: float) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Returns modes of -factor u u_x."""

    def modes(v: np.ndarray, k: np.ndarray) -> np.ndarray:
        u = np.real(np.fft.ifft(_dealiased(v)))
        return -0.5j * factor * k * _dealiased(np.fft.fft(u**2))

    return modes


def _cubic(v: np.ndarray, k: np.ndarray) -> np.ndarray:
    del k
    u = np.real(np.fft.ifft(v))
    return np.fft.fft(5 * u - 5 * u**3)


@lru_cache
def allen_cahn(modes: int = 2048, steps: int = 2000) -> Values:
    """Solves u_t = 1e-4 u_xx + 5 u - 5 u^3 from x^2 cos(pi x)."""
    return periodic(
        lambda k: -1e-4 * k**2,
        _cubic,
        lambda x: x**2 * np.cos(np.pi * x),
        1.0,
        modes,
        steps,
    )


@lru_cache
def korteweg_de_vries(modes: int = 512, steps: int = 4000) -> Values:
    """Solves u_t + u u_x + 0.022^2 u_xxx = 0 from cos(pi x)."""
    return periodic(
        lambda k: 1j * 0.022**2 * k**3,
        _square_slope(1.0),
        lambda x: np.cos(np.pi * x),
        1.0,
        modes,
        steps,
    )


@lru_cache
def kuramoto_sivashinsky(modes: int = 512, steps: int = 4000) -> Values:
    """Solves u_t + 5 u u_x + 0.5 u_xx + 0.005 u_xxxx = 0 from -sin(pi x)."""
    return periodic(
        lambda k: 0.5 * k**2 - 0.005 * k**4,
        _square_slope(5.0),
        lambda x: -np.sin(np.pi * x),
        0.5,
        modes,
        steps,
    )


@lru_cache
def burgers(nodes: int = 4001) -> Values:
    r"""Solves u_t + u u_x = nu u_xx, nu = 0.01 / pi, from -sin(pi x), in closed form.

    .. math::
        u(x, t) = \frac{\int -\sin(\pi y)\, e^{a(y)}\, dy}{\int e^{a(y)}\, dy}, \qquad
        a(y) = -\frac{\cos \pi y}{2 \pi \nu} - \frac{(x - y)^2}{4 \nu t}

    The trapezoidal rule, exponents shifted by their maximum.

    References:
        Cole, On a Quasi-Linear Parabolic Equation Occurring in Aerodynamics (1951).
    """
    nu = 0.01 / np.pi
    z = np.linspace(-9.0, 9.0, nodes)

    def values(points: np.ndarray) -> np.ndarray:
        place, time = np.asarray(points, float).T
        found = -np.sin(np.pi * place)
        late = np.flatnonzero(time > 0)
        for part in np.array_split(late, max(1, len(late) // 256)):
            y = place[part, None] - np.sqrt(4 * nu * time[part, None]) * z
            exponent = -np.cos(np.pi * y) / (2 * np.pi * nu) - z**2
            weight = np.exp(exponent - np.max(exponent, 1, keepdims=True))
            found[part] = -np.sum(np.sin(np.pi * y) * weight, 1) / np.sum(weight, 1)
        return found

    return values


@lru_cache
def l_shape(terms: int = 40) -> Values:
    r"""Solves -lap u = 1 on an L-shape with u = 0 on its edges.

    The domain is [-1, 1]^2 without [0, 1]^2. The solution is a particular one and harmonic
    functions of the corner at the origin and of poles beyond the other corners,

    .. math::
        u = -\tfrac14 |x|^2 + \sum_k c_k r^{2k/3} \sin \tfrac{2k}{3} \theta + \dots

    fitted to the edges by least squares. By the maximum principle the error inside is at
    most that on the edges, which `l_shape_error` returns.

    References:
        Betcke and Trefethen, Reviving the Method of Particular Solutions (2005); Gopal and
        Trefethen, Solving Laplace Problems with Corner Singularities via Rational
        Functions (2019), for the poles.
    """
    coefficients, basis = _l_shape_fit(terms)
    return lambda points: _particular(points) + basis(points) @ coefficients


def l_shape_error(terms: int = 40) -> float:
    """Returns the largest value of the reference on the edges, where it should be 0."""
    return float(np.max(np.abs(l_shape(terms)(_edges(1501, 1.0)))))


def _particular(points: np.ndarray) -> np.ndarray:
    return -0.25 * np.sum(np.asarray(points, float) ** 2, 1)


_CORNERS = [(0, 0), (0, 1), (-1, 1), (-1, -1), (1, -1), (1, 0)]


def _edges(count: int, power: float) -> np.ndarray:
    """Returns points of the L-shape's edges, denser at the corners for a larger power."""
    s = np.linspace(-1.0, 1.0, count)
    s = (
        0.5 + 0.5 * np.tanh(power * 4 * s) / np.tanh(power * 4)
        if power > 1
        else s / 2 + 0.5
    )
    parts = []
    for a, b in zip(_CORNERS, [*_CORNERS[1:], _CORNERS[0]]):
        parts.append(np.asarray(a) + s[:, None] * (np.asarray(b) - np.asarray(a)))
    return np.concatenate(parts)


def _l_shape_fit(terms: int) -> tuple[np.ndarray, Callable[[Any], np.ndarray]]:
    poles = []
    for corner in _CORNERS:
        outward = _outward(corner)
        sizes = np.exp(4 * (np.sqrt(np.arange(1, terms + 1)) - np.sqrt(terms)))
        poles += [complex(*corner) + size * outward for size in sizes]
    poles = np.array(poles)
    scales = np.abs(poles - np.repeat([complex(*c) for c in _CORNERS], terms))

    def basis(points: np.ndarray) -> np.ndarray:
        x, y = np.asarray(points, float).T
        z = x + 1j * y
        # The solid angle at the origin runs from pi / 2 to 2 pi.
        angle = np.mod(np.angle(z) - np.pi / 2 + 1e-13, 2 * np.pi) - 1e-13
        powers = 2 * np.arange(1, terms + 1) / 3
        corner = np.abs(z)[:, None] ** powers * np.sin(powers * angle[:, None])
        fractions = scales / (z[:, None] - poles)
        smooth = ((z + 0.3 + 0.3j) / 1.5)[:, None] ** np.arange(12)
        parts = [fractions.real, fractions.imag, smooth.real, smooth.imag]
        return np.concatenate([corner, *parts], 1)

    edges = _edges(1200, 2.0)
    matrix = basis(edges)
    size = np.linalg.norm(matrix, axis=0)
    size[size == 0] = 1.0
    solved = np.linalg.lstsq(matrix / size, -_particular(edges), rcond=1e-14)[0]
    return solved / size, basis


def _outward(corner: tuple[int, int]) -> complex:
    """Returns the direction of the diagonal that leaves the domain at a corner."""
    if corner == (0, 0):
        return (1 + 1j) / np.sqrt(2)
    x, y = corner
    # Away from the middle of the arm that the corner belongs to.
    middle = {(0, 1): (-0.5, 0.5), (1, 0): (0.5, -0.5)}.get(corner, (0.0, 0.0))
    away = complex(x - middle[0], y - middle[1])
    return away / abs(away)


def all_references() -> dict[str, tuple[Values, Values, np.ndarray]]:
    """Lists each computed reference, one of another resolution, and points to compare."""
    rng = np.random.default_rng(0)

    def points(end: float) -> np.ndarray:
        return rng.uniform([-1.0, 0.0], [1.0, end], (500, 2))

    return {
        "Allen-Cahn": (allen_cahn(), allen_cahn(1536, 1500), points(1.0)),
        "KdV": (korteweg_de_vries(), korteweg_de_vries(384, 3000), points(1.0)),
        "Kuramoto-Sivashinsky": (
            kuramoto_sivashinsky(),
            kuramoto_sivashinsky(384, 3000),
            points(0.5),
        ),
        "Burgers": (burgers(), burgers(3001), points(1.0)),
    }
