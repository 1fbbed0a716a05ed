"""Self-scaled quasi-Newton steps with a dense inverse Hessian."""

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

from jaxcon._checks import check_choice, check_number

# Evaluations of one line search, as optax.lbfgs allows.
_EVALUATIONS = 20
# Roundings in an objective's value: it tells no smaller share of itself.
_ROUNDINGS = 8


class SelfScaledState(NamedTuple):
    """State of `self_scaled_broyden`.

    Attributes:
        inverse: H, approximates the inverse Hessian, (p, p).
        fresh: whether H is the identity still, or again, boolean ().
    """

    inverse: jax.Array
    fresh: jax.Array


def self_scaled_broyden(
    *, by: Literal["broyden", "bfgs"] = "broyden", largest: int = 10_000
) -> optax.GradientTransformationExtraArgs:
    r"""Takes quasi-Newton steps whose curvature is scaled anew at every step.

    With the step :math:`s = -\alpha H g` of a line search, and y the change of the
    gradient g along it,

    .. math::
        H \leftarrow \frac1\tau \left( H - \frac{H y\, (H y)^T}{y^T H y}
            + \phi\, (y^T H y)\, v v^T \right) + \frac{s s^T}{y^T s}, \qquad
        v = \frac{s}{y^T s} - \frac{H y}{y^T H y}

    With :math:`\tau = \phi = 1` it is BFGS. By "bfgs" :math:`\phi = 1` and
    :math:`\tau = \min(1, 1/b)`. By "broyden", with

    .. math::
        b = \frac{s^T H^{-1} s}{y^T s}, \quad h = \frac{y^T H y}{y^T s}, \quad
        a = b h - 1, \quad
        \rho = \min\left(1,\ h \left(1 - \sqrt{a / (1 + a)}\right)\right), \quad
        \theta = \max\left(\frac{\rho - 1}{a},\
            \min\left(\frac1\rho, \frac{1 - b}{b}\right)\right)

    and :math:`\sigma = 1 + a \theta`, it is :math:`\phi = (1 - \theta) / \sigma` and

    .. math::
        \tau = \begin{cases}
            \min(1, 1/b)\, \min(\sigma^{-1/(p-1)}, 1/\theta) & \theta > 0 \\
            \min(\min(1, 1/b)\, \sigma^{-1/(p-1)},\ \sigma) & \theta \le 0
        \end{cases}

    Eigenvalues of H that are too small grow so within a step, where BFGS would take
    many: the losses of differential equations have them. The first step is scaled by
    :math:`\tau = h / \sigma`.

    It goes as `primal` of a solver, on batches that stay the same. The pair (s, y) is of
    one step's objective, whatever multipliers and penalty do between steps. Where the
    line search finds no decrease nothing moves, and H begins anew. Use float64. It
    keeps p² numbers and a step costs O(p²): for more than `largest` parameters take
    `optax.lbfgs` or `gauss_newton`.

    Args:
        by: "broyden" or "bfgs".
        largest: number of parameters.

    Returns:
        An optax transform for the parameters.

    Raises:
        TypeError: `largest` is no number; at the first step, that no objective is given.
        ValueError: there is no such `by`; `largest` is no whole number >= 1; or at init,
            there are more parameters.

    References:
        Al-Baali, Numerical Experience with a Class of Self-Scaling Quasi-Newton
        Algorithms (1998); Urbán, Stefanou and Pons, Unveiling the Optimization Process
        of Physics Informed Neural Networks (2025).

    Example:
        >>> import jax, jax.numpy as jnp, jaxcon as jc
        >>> def loss(p, _):                                # Rosenbrock's
        ...     return 100.0 * (p[1] - p[0] ** 2) ** 2 + (1.0 - p[0]) ** 2
        >>> inside = jc.Constraints(inequality={"disk": lambda p, _: p @ p - 4.0})
        >>> problem = jc.Lagrangian(loss, inside, penalty=1.0)
        >>> primal = jc.self_scaled_broyden()
        >>> solver = jc.alternating(problem, primal, jc.method_of_multipliers())
        >>> state = solver.init(jnp.array([-1.0, 1.0]))
        >>> step = jax.jit(solver.step)
        >>> for _ in range(60):
        ...     state, info = step(state)
        >>> print(state.params.round(3))
        [1. 1.]
    """
    check_choice("by", by, ("broyden", "bfgs"))
    check_number("largest", largest, least=1, whole=True)
    search = optax.scale_by_zoom_linesearch(
        max_linesearch_steps=_EVALUATIONS, initial_guess_strategy="one"
    )

    def init(params: Any) -> SelfScaledState:
        theta, _ = ravel_pytree(params)
        if theta.size > largest:
            size = theta.size**2 * theta.dtype.itemsize / 2**30
            raise ValueError(
                f"self_scaled_broyden keeps a number for each two of the {theta.size:,} "
                f"parameters ({size:.3g} GiB), and largest is {largest:,}: raise it, or "
                "take optax.lbfgs()"
            )
        return SelfScaledState(jnp.eye(theta.size, dtype=theta.dtype), jnp.array(True))

    def update(
        updates: Any,
        state: SelfScaledState,
        params: Any = None,
        *,
        value: Any = None,
        value_fn: Any = None,
        **_: Any,
    ) -> tuple[Any, SelfScaledState]:
        if value_fn is None:
            raise TypeError(
                "self_scaled_broyden needs the objective of a solver: pass it as primal= "
                "of jaxcon.alternating or jaxcon.simultaneous"
            )
        gradient, unravel = ravel_pytree(updates)
        theta, dtype = ravel_pytree(params)[0], gradient.dtype
        direction = -jnp.matmul(state.inverse, gradient, precision="highest")
        # Without curvature a step of length one at most, as optax.lbfgs takes it.
        short = 1 / jnp.maximum(1.0, jnp.linalg.norm(gradient))
        direction = jnp.where(state.fresh, short * direction, direction)

        def objective(theta: jax.Array) -> jax.Array:
            return value_fn(unravel(theta)).astype(dtype)

        value = value.astype(dtype)
        found: Any
        step: Any
        step, found = search.update(
            direction,
            search.init(theta),
            theta,
            value=value,
            grad=gradient,
            value_fn=objective,
        )
        rounding = _ROUNDINGS * jnp.finfo(dtype).eps * jnp.abs(value)
        # False of NaN.
        fell = (found.value <= value + rounding) & jnp.all(jnp.isfinite(found.grad))
        fell &= jnp.any(step != 0)
        step = jnp.where(fell, step, 0.0)
        change = jnp.where(fell, found.grad - gradient, 0.0)
        # s^T H^-1 s, without an inverse.
        length = -jnp.where(state.fresh, short, 1.0) * found.learning_rate
        bent = (length * jnp.vdot(step, gradient)).astype(dtype)
        inverse, curved = _updated(by, state, step, change, bent)
        identity = jnp.eye(len(theta), dtype=dtype)
        kept = jnp.where(fell, inverse, identity)
        return unravel(step), SelfScaledState(kept, ~fell | (state.fresh & ~curved))

    return optax.GradientTransformationExtraArgs(init, update)  # pyright: ignore[reportArgumentType]


def _updated(
    by: str, state: SelfScaledState, s: jax.Array, y: jax.Array, bent: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Returns H after a step, and whether the step had a curvature to learn from.

    Args:
        by: "broyden" or "bfgs".
        state: before the step.
        s: the step, (p,).
        y: the gradient's change along it, (p,).
        bent: s^T H^-1 s, ().
    """
    inverse, eps = state.inverse, jnp.finfo(s.dtype).eps
    image = jnp.matmul(inverse, y, precision="highest")
    along, across = jnp.vdot(y, s), jnp.vdot(y, image)
    # Below, the curvature is lost in roundings, or negative.
    sizes = jnp.linalg.norm(s) * jnp.linalg.norm(y)
    curved = (along > eps * sizes) & (across > 0) & (bent > 0)
    along, across, bent = (
        jnp.where(curved, each, 1.0) for each in (along, across, bent)
    )
    b, h = bent / along, across / along
    tau, phi = _scaling(by, b, h, len(s), state.fresh)
    v = s / along - image / across
    inner = inverse - jnp.outer(image, image) / across
    inner = inner + phi * across * jnp.outer(v, v)
    after = inner / tau + jnp.outer(s, s) / along
    curved &= jnp.all(jnp.isfinite(after))
    return jnp.where(curved, after, inverse), curved


def _scaling(
    by: str, b: jax.Array, h: jax.Array, size: int, fresh: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Returns tau and phi, each ()."""
    least = jnp.minimum(1.0, 1 / b)
    if by == "bfgs":
        return jnp.where(fresh, h, least), jnp.ones_like(b)
    # Zero by the inequality of Cauchy and Schwarz at least, but for rounding.
    a = jnp.maximum(b * h - 1, jnp.finfo(b.dtype).eps)
    root = jnp.sqrt(a / (1 + a))
    # h (1 - root), without a difference that cancels.
    rho = jnp.minimum(1.0, h / ((1 + a) * (1 + root)))
    theta = jnp.maximum((rho - 1) / a, jnp.minimum(1 / rho, (1 - b) / b))
    sigma = 1 + a * theta
    power = sigma ** (-1 / max(size - 1, 1))
    positive = jnp.where(theta > 0, theta, 1.0)
    tau = jnp.where(
        theta > 0,
        least * jnp.minimum(power, 1 / positive),
        jnp.minimum(least * power, sigma),
    )
    return jnp.where(fresh, h / sigma, tau), (1 - theta) / sigma
