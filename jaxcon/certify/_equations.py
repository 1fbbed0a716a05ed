r"""Differential equations: proved bounds of residuals, and of errors by stability."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxcon._checks import check_array, check_number, check_type
from jaxcon.certify._branch import examiner
from jaxcon.certify._claims import Domain, between
from jaxcon.certify._extremum import FLOOR, GAP, Maximum, supremum
from jaxcon.certify._proof import double
from jaxcon.certify._results import Boxes, shown
from jaxcon.certify._verify import corners, domains_of

SAMPLES = 256  # points of each box that tell the scale
MOST = 600  # exponent of a growth
EPS = float(np.finfo(np.float64).eps)
Face = tuple[int, bool]  # an input, and whether it is at its upper end


class ResidualBound(NamedTuple):
    """Largest absolute residual of an equation on a box, proved from both sides.

    Attributes:
        bound: proved upper bound of the absolute residual.
        largest: absolute residual that is attained at `point`, proved as well.
        point: (d,).
        decided: whether both are as close as was asked for.
    """

    bound: float
    largest: float
    point: np.ndarray
    decided: bool

    def __str__(self) -> str:
        end = "" if self.decided else "; the budget ended before both met"
        return (
            f"the residual is at most {self.bound:.6g} in absolute value, and reaches "
            f"{self.largest:.6g} at x = {shown(self.point)}{end}"
        )


class ErrorBound(NamedTuple):
    """Distance of a function from the solution of an equation, proved on a whole box.

    Attributes:
        bound: growth times boundary plus constant times residual.
        residual: proved bound of the absolute residual.
        boundary: proved bound of the error of boundary and initial values.
        constant: of the residual, by the theorem.
        growth: of the boundary's error, by the theorem.
        theorem: its name.
        decided: whether residual and boundary are as close to values that are attained
            as was asked for.
    """

    bound: float
    residual: float
    boundary: float
    constant: float
    growth: float
    theorem: str
    decided: bool

    def __str__(self) -> str:
        return (
            f"|u - u*| is at most {self.bound:.6g} on the whole box: "
            f"{self.growth:.4g} * {self.boundary:.4g} of the boundary + "
            f"{self.constant:.4g} * {self.residual:.4g} of the residual "
            f"({self.theorem})"
        )


class _Stability(NamedTuple):
    """Constants of a theorem, rounded upwards, and the faces where values are given."""

    constant: float
    growth: float
    faces: list[Face]
    theorem: str


@dataclasses.dataclass(frozen=True)
class Poisson:
    r"""Poisson's equation on a box, with u given on the whole boundary.

    .. math:: -\Delta u = f, \qquad r = -\Delta u - f

    By the maximum principle, with the barrier :math:`(x_j - a_j)(b_j - x_j) / 2`,

    .. math::
        |u - u^*| \le \max_{\partial} |u - g|
            + \min_j \frac{(b_j - a_j)^2}{8} \sup |r|

    Example:
        >>> import jaxcon as jc
        >>> print(jc.certify.Poisson())
        Poisson()
    """

    time = None

    def _stability(self, low: np.ndarray, high: np.ndarray) -> _Stability:
        constant = _up(float(np.min(_sides(low, high))) ** 2 / 8)
        theorem = "maximum principle, Gilbarg and Trudinger, theorem 3.7"
        return _Stability(constant, 1.0, _faces(range(low.size)), theorem)


@dataclasses.dataclass(frozen=True)
class Heat:
    r"""Heat equation on a box, with u given at the start and on the sides.

    .. math:: u_t = k \Delta u + f, \qquad r = u_t - k \Delta u - f

    By the maximum principle, with the barriers t and :math:`(x_j - a_j)(b_j - x_j) / 2k`,

    .. math::
        |u - u^*| \le \max_{\partial} |u - g|
            + \min\Big(T, \min_j \frac{(b_j - a_j)^2}{8 k}\Big) \sup |r|

    Attributes:
        conductivity: k > 0.
        time: number of the input that is t.

    Example:
        >>> import jaxcon as jc
        >>> print(jc.certify.Heat(0.5))
        Heat(conductivity=0.5, time=0)
    """

    conductivity: float = 1.0
    time: int = 0

    def __post_init__(self) -> None:
        """Refuses numbers out of range."""
        check_number("Heat: conductivity", self.conductivity, above=0)
        check_number("Heat: time", self.time, least=0, whole=True)

    def _stability(self, low: np.ndarray, high: np.ndarray) -> _Stability:
        sides, places = _sides(low, high), _places("Heat", low.size, self.time)
        if not places:
            raise ValueError("Heat got one input; pass time and one place at least")
        shortest = float(min(sides[places]))
        diffused = shortest**2 / (8 * self.conductivity)
        constant = _up(min(float(sides[self.time]), diffused))
        theorem = "parabolic maximum principle, Evans, section 7.1.4"
        return _Stability(constant, 1.0, [(self.time, False), *_faces(places)], theorem)


@dataclasses.dataclass(frozen=True)
class Advection:
    r"""Transport with a reaction on a box, with u given where characteristics enter.

    .. math:: u_t + a \cdot \nabla u + c u = f, \qquad r = u_t + a \cdot \nabla u + c u - f

    with constant a and :math:`c(t, x) \ge c_0`. A characteristic stays in the box for at
    most :math:`S = \min(T, \min_j (b_j - a_j) / |a_j|)`, so that

    .. math::
        |u - u^*| \le e^{\max(-c_0, 0) S} \max_{in} |u - g|
            + \frac{1 - e^{-c_0 S}}{c_0} \sup |r|

    Attributes:
        velocity: a, (d - 1,), of the inputs but time in their order.
        reaction: the constant that c is nowhere below.
        time: number of the input that is t.

    Example:
        >>> import jaxcon as jc
        >>> print(jc.certify.Advection((2.0,)))
        Advection(velocity=(2.0,), reaction=0.0, time=0)
    """

    velocity: Sequence[float]
    reaction: float = 0.0
    time: int = 0

    def __post_init__(self) -> None:
        """Refuses numbers out of range."""
        check_array("Advection: velocity", self.velocity, "(m,)")
        check_number("Advection: reaction", self.reaction)
        check_number("Advection: time", self.time, least=0, whole=True)

    def _stability(self, low: np.ndarray, high: np.ndarray) -> _Stability:
        places = _places("Advection", low.size, self.time)
        velocity = np.asarray(self.velocity, np.float64)
        if len(velocity) != len(places):
            raise ValueError(
                f"Advection got velocity of shape {velocity.shape} on a box of "
                f"{low.size} inputs; pass one number for each input but time"
            )
        sides = _sides(low, high)
        stay, faces = float(sides[self.time]), [(self.time, False)]
        for place, speed in zip(places, velocity.tolist()):
            if speed != 0:
                stay = min(stay, _up(float(sides[place]) / abs(speed)))
                faces.append((place, speed < 0))
        constant, growth = _along(-float(self.reaction), stay)
        theorem = "integration along characteristics, Evans, section 3.2"
        return _Stability(constant, growth, faces, theorem)


@dataclasses.dataclass(frozen=True)
class Ordinary:
    r"""Ordinary differential equation in one unknown, with u given at the start.

    .. math:: u' = F(t, u), \qquad r = u' - F(t, u)

    with :math:`\partial F / \partial u \le \mu` wherever it is between u and the solution.
    By the lemma of Grönwall, with a one-sided Lipschitz constant,

    .. math::
        |u - u^*| \le e^{\max(\mu, 0) T} |u - u^*|(0) + \frac{e^{\mu T} - 1}{\mu} \sup |r|

    Attributes:
        slope: mu. A Lipschitz constant L is one; a smaller one, e.g. below zero where
            the equation is dissipative, gives a smaller bound.

    Example:
        >>> import jaxcon as jc
        >>> print(jc.certify.Ordinary(-1.0))
        Ordinary(slope=-1.0)
    """

    slope: float
    time = 0

    def __post_init__(self) -> None:
        """Refuses what is no number."""
        check_number("Ordinary: slope", self.slope)

    def _stability(self, low: np.ndarray, high: np.ndarray) -> _Stability:
        if low.size != 1:
            raise ValueError(f"Ordinary got {low.size} inputs; pass one, the time")
        constant, growth = _along(float(self.slope), float(_sides(low, high)[0]))
        theorem = "Grönwall's lemma, Hairer, Nørsett and Wanner, section I.10"
        return _Stability(constant, growth, [(0, False)], theorem)


Equation = Poisson | Heat | Advection | Ordinary


def residual_bound(
    constraint: Any,
    lower: ArrayLike,
    upper: ArrayLike,
    *,
    params: Any = None,
    within: Domain | Sequence[Domain] = (),
    tolerance: float | None = None,
    budget: float = 60.0,
) -> ResidualBound:
    r"""Encloses the largest absolute residual of an equation on a whole domain.

    .. math:: \sup_x |N[u](x)|

    A residual that is small at collocation points may be large between them. This bound
    holds at all points, and the largest residual that is attained stands beside it.

    Args:
        constraint: the residual, a `jaxcon.shapes.Pointwise`. Of several entries the
            largest counts.
        lower: lower corner, (d,).
        upper: upper corner, (d,).
        params: of the network.
        within: as for `jaxcon.certify.verify`.
        tolerance: most that the bound may be above what is attained, in units of the
            residual; 0.2 % of that unless given, which cannot be met if it is zero.
        budget: seconds after which the bound is what it is by then.

    Returns:
        A `ResidualBound`, which prints as a sentence.

    Raises:
        TypeError: an argument is of another type.
        ValueError: the box is empty, or a number is out of range.
        NotImplementedError: no enclosure is known of an operation of the network.

    References:
        Eiras et al., Efficient Error Certification for Physics-Informed Neural Networks,
        ICML 2024.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxcon as jc
        >>> from jaxcon.derivatives import Laplacian
        >>> residual = jc.shapes.Pointwise(
        ...     *(lambda p, x: p * jnp.sin(x[0]), None, (Laplacian(),)),
        ...     lambda x, laplacian: -laplacian - jnp.sin(x[0]),
        ... )
        >>> found = jc.certify.residual_bound(residual, [0.0], [2.0], params=1.5)
        >>> print(found.largest <= 0.5 <= found.bound <= 0.501)
        True
    """
    low, high = corners("residual_bound", lower, upper)
    domains = domains_of("residual_bound", within)
    _check_effort("residual_bound", tolerance, budget)
    found = _absolute(
        constraint, low, high, tolerance, None, params, budget, within=domains
    )
    return ResidualBound(found.bound, found.value, found.point, found.decided)


def error_bound(
    equation: Equation,
    residual: Any,
    boundary: Any,
    lower: ArrayLike,
    upper: ArrayLike,
    *,
    initial: Any = None,
    params: Any = None,
    tolerance: float | None = None,
    budget: float = 60.0,
) -> ErrorBound:
    r"""Encloses the distance of a function from the solution of an equation on a box.

    .. math:: |u - u^*| \le G \max_{\partial} |u - g| + C \sup |r|

    The theorem depends on the equation (see `Poisson`, `Heat`, `Advection` and
    `Ordinary`). It supposes that the equation has a classical solution u*, continuous on
    the closed box: the values given are then continuous too. The residual and the error of
    the values given are proved on the whole box and on its faces.

    Args:
        equation: its kind, with its constants.
        residual: r, a `jaxcon.shapes.Pointwise` on ``apply``, scaled as the equation's
            docstring says; its sign is free.
        boundary: u - g, a `Pointwise` on the same ``apply``, e.g.
            ``jc.shapes.equals(apply, g)``. It is read on the faces where the equation
            takes values: all for `Poisson`, all but the end of time for `Heat`, the start
            and the inflow for `Advection`, the start for `Ordinary`.
        lower: lower corner, (d,).
        upper: upper corner, (d,).
        initial: u - g at the start of time, where it is not `boundary`.
        params: of the network.
        tolerance: most that either part of the bound may be above what is attained, in
            units of u; 0.2 % of the sum at some points unless given.
        budget: seconds for the residual, and as many for each of the other two.

    Returns:
        An `ErrorBound`, which prints as a sentence.

    Raises:
        TypeError: an argument is of another type.
        ValueError: the box is empty, a number is out of range, or the equation has
            another number of inputs.
        NotImplementedError: no enclosure is known of an operation of the network.

    References:
        Gilbarg and Trudinger, Elliptic Partial Differential Equations of Second Order,
        theorem 3.7. Evans, Partial Differential Equations, sections 3.2 and 7.1.4.
        Hairer, Nørsett and Wanner, Solving Ordinary Differential Equations I, section
        I.10.

    Example:
        >>> import jaxcon as jc
        >>> from jaxcon.derivatives import Laplacian
        >>> def u(p, x):                                     # -u'' = 2 has x (1 - x)
        ...     return p * x[0] * (1 - x[0])
        >>> residual = jc.shapes.Pointwise(
        ...     u, None, (Laplacian(),), lambda x, laplacian: -laplacian - 2.0
        ... )
        >>> found = jc.certify.error_bound(
        ...     jc.certify.Poisson(), residual, jc.shapes.equals(u, 0.0), [0.0], [1.0],
        ...     params=1.1,
        ... )
        >>> print(0.025 <= found.bound < 0.0251)
        True
    """
    check_type("error_bound: equation", equation, Equation, "Poisson(), Heat(), ...")
    low, high = corners("error_bound", lower, upper)
    _check_effort("error_bound", tolerance, budget)
    for one in (residual, boundary, boundary if initial is None else initial):
        between(one, 0.0, 0.0)  # refuses what is no residual
    stability = equation._stability(low, high)
    faces, found = stability.faces, []
    if initial is not None:
        if equation.time is None:
            raise ValueError("error_bound got initial= for an equation without time")
        begin = (equation.time, False)
        faces = [face for face in faces if face != begin]
        found.append((initial, _boxes(low, high, [begin])))
    if faces:
        found.append((boundary, _boxes(low, high, faces)))
    everywhere = _boxes(low, high, None)
    if tolerance is None:
        # Neither part need be known more exactly than matters beside the other.
        sizes = [_sampled(one, boxes, params) for one, boxes in found]
        size = stability.growth * max(sizes)
        size += stability.constant * _sampled(residual, everywhere, params)
        tolerance = max(2 * GAP * size, FLOOR) if math.isfinite(size) else 1.0
    inner = _absolute(
        residual, low, high, tolerance / stability.constant, None, params, budget
    )
    parts = [
        _absolute(one, low, high, tolerance / stability.growth, boxes, params, budget)
        for one, boxes in found
    ]
    edge = max(part.bound for part in parts)
    return ErrorBound(
        _up(stability.growth * edge + stability.constant * inner.bound),
        inner.bound,
        edge,
        stability.constant,
        stability.growth,
        stability.theorem,
        all(part.decided for part in [inner, *parts]),
    )


def _absolute(
    constraint: Any,
    low: np.ndarray,
    high: np.ndarray,
    tolerance: float | None,
    start: Boxes | None,
    params: Any,
    budget: float,
    within: Sequence[Domain] = (),
) -> Maximum:
    """Encloses the largest absolute residual on a box, or on some of its faces."""
    # The larger of r and -r is searched once.
    step = examiner([between(constraint, 0.0, 0.0)], within)
    given: dict[str, Any] = {"params": params, "budget": budget, "start": start}
    found = supremum(step, low, high, tolerance, None, **given)
    return found._replace(value=max(found.value, 0.0))


def _boxes(low: np.ndarray, high: np.ndarray, faces: Sequence[Face] | None) -> Boxes:
    """Returns faces of a box as boxes of which nothing is known; None for itself."""
    count = 1 if faces is None else len(faces)
    lower, upper = np.tile(low, (count, 1)), np.tile(high, (count, 1))
    for row, (place, above) in enumerate(faces or ()):
        lower[row, place] = upper[row, place] = (high if above else low)[place]
    return Boxes(lower, upper, np.full((count, 1), np.inf))


def _sampled(constraint: Any, boxes: Boxes, params: Any) -> float:
    """Returns the largest absolute residual at some points of each box."""
    shares = np.random.default_rng(0).random((SAMPLES, 1, boxes.lower.shape[1]))
    points = boxes.lower + shares * (boxes.upper - boxes.lower)
    points = points.reshape(-1, points.shape[-1])
    with double():
        one = dataclasses.replace(constraint, on=None)
        return float(jnp.max(jnp.abs(one(params, jnp.asarray(points)))))


def _check_effort(name: str, tolerance: float | None, budget: float) -> None:
    check_number(f"{name}: budget", budget, least=0)
    if tolerance is not None:
        check_number(f"{name}: tolerance", tolerance, above=0)


def _places(name: str, inputs: int, time: int) -> list[int]:
    if time >= inputs:
        raise ValueError(
            f"{name} got time={time} on a box of {inputs} inputs; pass the number of one"
        )
    return [place for place in range(inputs) if place != time]


def _faces(places: Sequence[int]) -> list[Face]:
    return [(place, above) for place in places for above in (False, True)]


def _sides(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    return (high - low) * (1 + EPS)


def _up(x: float) -> float:
    """Returns x >= 0 enlarged by more than some roundings, and an underflow."""
    return x * (1 + 16 * EPS) + float(np.finfo(np.float64).tiny)


def _along(rate: float, time: float) -> tuple[float, float]:
    """Returns bounds of (e^(rate t) - 1) / rate and e^(rate t) for all t up to a time."""
    change = rate * time
    if change > MOST:
        raise ValueError(
            f"error_bound got an equation whose errors grow by exp({change:.3g}) over the "
            f"box; no more than exp({MOST}) can be bounded"
        )
    # A relative error of the exponent is one of the exponential, times the exponent.
    slack = 1 + 8 * (abs(change) + 1) * EPS
    growth = 1.0 if rate <= 0 else _up(math.exp(change)) * slack
    constant = time if rate == 0 else math.expm1(change) / rate
    return _up(constant) * slack, growth
