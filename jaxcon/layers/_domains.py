"""Constructions that prescribe values and fluxes on the boundary of a domain."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcon._checks import check_type
from jaxcon.domains import Domain
from jaxcon.layers._certificates import Certificate, Function, Gap
from jaxcon.layers._networks import Apply, Construction, check_term, one_example
from jaxcon.layers._outputs import evaluated
from jaxcon.layers._prescribed import Condition, largest, prescribed, promise

# Newton's steps from any point to the boundary, and the least square of a slope in one.
STEPS, FLAT = 40, 0.01
# A point is taken for one of the boundary if its distance is so many roundings, and for
# none of a corner if the slope differs from one by no more than that.
ROUNDED, SMOOTH = 8.0, 1e-3


def dirichlet(domain: Domain, value: Any) -> Condition:
    r"""Prescribes a network's values on the boundary of a domain.

    .. math::
        f(x) = g(x) + w(x)\, N(x)

    with w the distance of the domain. It guarantees f = g exactly where w is exactly zero
    in floating point. Elsewhere f is free: with :math:`N = (u - g) / w` it is any u with
    u = g on the boundary, and N is smooth there since w has the slope one across it. It
    costs one evaluation of each. `box_boundary` is for some faces of a box, `initial_value`
    for initial values.

    Args:
        domain: of the first inputs, e.g. `jaxcon.domains.ball`; others, such as time, are
            free.
        value: g, a number or x (d,) -> () or the network's shape, any smooth function
            with the right values on the boundary.

    Returns:
        The construction.

    Raises:
        TypeError: domain is no `jaxcon.domains.Domain`, or value neither a function nor
            numbers.
        ValueError: when called, x has fewer inputs than the domain or g's shape does not
            fit the network's.

    References:
        Lagaris, Likas and Fotiadis, Artificial Neural Networks for Solving Ordinary and
        Partial Differential Equations (1998). Sukumar and Srivastava, Exact Imposition of
        Boundary Conditions with Distance Functions in Physics-Informed Deep Neural
        Networks (2022).

    Example:
        >>> import jax, jax.numpy as jnp, jaxcon as jc
        >>> disc = jc.domains.ball([0.0, 0.0], 1.0)
        >>> network = jc.layers.mlp(2).then(jc.layers.dirichlet(disc, lambda x: x[0]))
        >>> params = network.init(jax.random.key(0))
        >>> print(network.apply(params, jnp.array([0.0, -1.0])))
        0.0
    """
    check_type("dirichlet: domain", domain, Domain, "a jaxcon.domains.Domain")
    value = check_term("dirichlet: value", value, "of any shape")

    def factor(x: jax.Array, like: jax.Array) -> jax.Array:
        del like
        return domain.distance(x[: domain.inputs])

    def lift(known: Function) -> Function:
        return lambda x: evaluated("dirichlet", "value", value, known(x), x)

    place = _boundary_of(domain)

    def on_boundary(f: Function, x: jax.Array, y: jax.Array) -> Gap:
        del y
        there, normal, on_it = place(x)

        def off(x: jax.Array) -> jax.Array:
            found = f(x)
            return found - evaluated("check", "what is prescribed", value, found, x)

        # The boundary is rounded to eps of its size, and with it the value there.
        gap, steep = jax.jvp(off, (there,), (normal,))
        found = f(there)
        size = largest(found, found - gap, _size(domain, there) * steep)
        return Gap(jnp.where(on_it, jnp.max(jnp.abs(gap)), 0.0), size)

    statement = "f = value on the boundary of the domain"
    inputs = tuple(range(domain.inputs))
    return prescribed(
        "dirichlet",
        (promise(statement, {"value": on_boundary}, inputs),),
        check=_has_inputs("dirichlet", domain),
        scale=lambda x: x,
        factor=factor,
        lift=lift,
        given=(value,),
        inputs=inputs,
        forgets=True,
    )


def flux(domain: Domain, value: Any, coefficient: Any = 0.0) -> Construction:
    r"""Prescribes a network's flux through the boundary of a domain.

    .. math::
        f = N + w\, (c N - g - \nabla w \cdot \nabla N), \qquad
        \frac{\partial f}{\partial n} + c f = g \text{ where } w = 0

    with w the distance of the domain, whose gradient there is the inward unit normal. c = 0
    prescribes the slope along the outward normal (Neumann), c > 0 a loss (Robin). It costs
    one evaluation of N and one of its derivatives along :math:`\nabla w`, and holds to
    rounding wherever the boundary is smooth. At a corner there is no normal: the second
    derivatives of w, and so those of f, are not bounded near one. Of one input, `neumann`
    and `robin` need no derivative of N.

    Args:
        domain: of the first inputs, e.g. `jaxcon.domains.ball`; others, such as time, are
            free.
        value: g, a number or x (d,) -> () or the network's shape, in units of f per unit
            of length.
        coefficient: c, likewise, per unit of length.

    Returns:
        The construction.

    Raises:
        TypeError: domain is no `jaxcon.domains.Domain`, or another argument neither a
            function nor numbers.
        ValueError: when called, x has fewer inputs than the domain or a shape does not
            fit the network's.

    References:
        Sukumar and Srivastava, Exact Imposition of Boundary Conditions with Distance
        Functions in Physics-Informed Deep Neural Networks (2022).

    Example:
        >>> import jax, jax.numpy as jnp, jaxcon as jc
        >>> disc = jc.domains.ball([0.0, 0.0], 1.0)
        >>> network = jc.layers.mlp(2).then(jc.layers.flux(disc, 2.0))
        >>> f = lambda x: network.apply(network.init(jax.random.key(0)), x)
        >>> outward = jnp.array([1.0, 0.0])
        >>> print(f"{jax.jvp(f, (outward,), (outward,))[1]:.4f}")
        2.0000
    """
    check_type("flux: domain", domain, Domain, "a jaxcon.domains.Domain")
    value = check_term("flux: value", value, "of any shape")
    coefficient = check_term("flux: coefficient", coefficient, "of any shape")
    check, place = _has_inputs("flux", domain), _boundary_of(domain)

    def wrap(apply: Apply) -> Apply:
        def wrapped(params: Any, x: jax.Array) -> jax.Array:
            x = one_example("flux", x)
            check(x)
            w, inward = _distance_and_slope(domain, x)
            free, along = jax.jvp(lambda x: apply(params, x), (x,), (inward,))
            g = evaluated("flux", "value", value, free, x)
            c = evaluated("flux", "coefficient", coefficient, free, x)
            return free + w * (c * free - g - along)

        return wrapped

    def on_boundary(f: Function, x: jax.Array, y: jax.Array) -> Gap:
        del y
        there, normal, on_it = place(x)

        def terms(x: jax.Array) -> tuple[jax.Array, ...]:
            found, out = jax.jvp(f, (x,), (normal,))
            c = evaluated("check", "the coefficient", coefficient, found, x)
            g = evaluated("check", "what is prescribed", value, found, x)
            return out + c * found - g, out, c * found, g

        (off, *sizes), (bend, *_) = jax.jvp(terms, (there,), (normal,))
        # What cancels along the normal is as large as the slopes in all directions.
        length = _size(domain, there)
        jacobian = jax.jacobian(f)(there)
        size = largest(*sizes, length * bend, f(there) / length)
        size += jnp.linalg.norm(jnp.ravel(jacobian))
        return Gap(jnp.where(on_it, jnp.max(jnp.abs(off)), 0.0), size)

    statement = "df/dn + coefficient f = value on the boundary of the domain"
    inputs = tuple(range(domain.inputs))
    guarantee = promise(statement, {"derivative": on_boundary}, inputs)
    return Construction(wrap, Certificate((guarantee,)))


def _distance_and_slope(domain: Domain, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the distance () and its gradient (d,), zero in the other inputs."""
    return jax.value_and_grad(lambda x: domain.distance(x[: domain.inputs]))(x)


def _boundary_of(domain: Domain) -> Any:
    """Returns the map of x to a point of the boundary (d,), its normal, and whether found.

    The normal leads out and is zero in the inputs that are not the domain's.
    """

    def step(_: Any, x: jax.Array) -> jax.Array:
        w, inward = _distance_and_slope(domain, x)
        # Where w is flat a step would lead too far away to come back.
        return x - w * inward / jnp.maximum(jnp.sum(inward**2), FLAT)

    def place(x: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        there = jax.lax.fori_loop(0, STEPS, step, x)
        w, inward = _distance_and_slope(domain, there)
        steep = jnp.linalg.norm(inward)
        near = jnp.abs(w) <= ROUNDED * jnp.finfo(x.dtype).eps * _size(domain, there)
        smooth = jnp.abs(steep - 1) < SMOOTH
        return there, -inward / jnp.maximum(steep, FLAT), near & smooth

    return place


def _size(domain: Domain, there: jax.Array) -> jax.Array:
    """Returns the size of the numbers of which a distance is the difference, ()."""
    extent = float(np.max(domain.upper - domain.lower))
    place = jnp.max(jnp.abs(there[: domain.inputs]))
    return place + (extent if np.isfinite(extent) else 0.0)


def _has_inputs(name: str, domain: Domain) -> Any:
    def check(x: jax.Array) -> None:
        if x.size < domain.inputs:
            raise ValueError(
                f"{name}: the domain has {domain.inputs} inputs, one example x has "
                f"{x.size}"
            )

    return check
