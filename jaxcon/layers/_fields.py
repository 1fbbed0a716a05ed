"""Vector fields that obey a law, as exact derivatives of a potential."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxcon import derivatives
from jaxcon._checks import check_number
from jaxcon.layers._certificates import Certificate, Function, Gap, Guarantee
from jaxcon.layers._networks import Apply, Construction, checked_input, one_example

TERMS = 1024  # of the longest sums in a potential's second derivatives: 4 layers of 256
MOST_INPUTS = 4096  # of an antisymmetric matrix, 8 million entries
LEVELS = 4  # of finite differences, each at half the step of the one before
INWARDS = 10.0 ** -np.arange(4)  # where saturated units may have their terms from


def divergence_free(inputs: int) -> Construction:
    r"""Makes a divergence-free field of any smooth network with d (d - 1) / 2 outputs.

    .. math::
        v_i = \sum_j \frac{\partial A_{ij}}{\partial x_j}, \quad A_{ij} = -A_{ji}, \quad
        \nabla \cdot v = \sum_{ij} \frac{\partial^2 A_{ij}}{\partial x_i \partial x_j} = 0

    The network's outputs are the entries above A's diagonal, row by row: for d = 2 the
    stream function, a scalar, with :math:`v = (\partial_1 \psi, -\partial_0 \psi)`; for
    d = 3 v is the curl of :math:`(A_{12}, -A_{02}, A_{01})`. Every smooth field without
    divergence on a box is such a one.

    For any parameters the divergence is zero, to rounding of the network's second
    derivatives. The network must have them: tanh or softplus, not ReLU. It costs one
    reverse pass for d = 2, otherwise d forward passes.

    Args:
        inputs: d >= 2.

    Returns:
        A construction, for ``network.then``: (params, x) -> v (d,), in units of the
        network's output per unit of x.

    Raises:
        TypeError: inputs is no number.
        ValueError: d < 2 or above 4096; when called, if the network has another number of
            outputs.

    References:
        Richter-Powell, Lipman and Chen, Neural Conservation Laws: A Divergence-Free
            Perspective (2022), in their words the divergence of an antisymmetric matrix.

    Example:
        >>> import jax, jax.numpy as jnp, jaxcon as jc
        >>> flow = jc.layers.mlp(2).then(jc.layers.divergence_free(2))
        >>> params = flow.init(jax.random.key(0))
        >>> flow.apply(params, jnp.ones(2)).shape
        (2,)
    """
    name = "divergence_free: inputs"
    check_number(name, inputs, least=2, most=MOST_INPUTS, whole=True)
    rows, columns = np.triu_indices(inputs, 1)
    entry = np.arange(rows.size)

    def field(f: Function, x: jax.Array) -> jax.Array:
        x = checked_input("divergence_free", x, inputs)
        f = _giving("divergence_free", f, () if inputs == 2 else rows.shape)
        slopes = derivatives.jacobian(lambda x: jnp.ravel(f(x)))(x)
        v = jnp.zeros(inputs, slopes.dtype).at[rows].add(slopes[entry, columns])
        return v.at[columns].add(-slopes[entry, rows])

    law = _vanishing("div v = 0", "divergence", jnp.trace, terms=inputs)
    return _construction(field, law)


def gradient_field() -> Construction:
    r"""Makes a curl-free field of any smooth scalar network: its gradient.

    .. math::
        v = \nabla \phi, \quad
        \frac{\partial v_i}{\partial x_j} = \frac{\partial v_j}{\partial x_i}

    The work along a path depends on its ends alone: a conservative force. The gradient of
    a network from `convex` is a monotone map, and so an optimal transport. Every smooth
    field without rotation on a box is such a one.

    For any parameters the Jacobian is symmetric, to rounding of the network's second
    derivatives, which it must have. It costs one reverse pass.

    Returns:
        A construction, for ``network.then``: (params, x) -> v (d,), in units of the
        network's output per unit of x.

    Raises:
        ValueError: when called, if the network is not scalar.

    Example:
        >>> import jax, jax.numpy as jnp, jaxcon as jc
        >>> force = jc.layers.mlp(3).then(jc.layers.gradient_field())
        >>> params = force.init(jax.random.key(0))
        >>> force.apply(params, jnp.ones(3)).shape
        (3,)
    """

    def field(f: Function, x: jax.Array) -> jax.Array:
        x = one_example("gradient_field", x)
        return derivatives.gradient(_giving("gradient_field", f, ()))(x)

    law = _vanishing("dv_i/dx_j = dv_j/dx_i", "curl", _asymmetry, terms=2)
    return _construction(field, law)


def hamiltonian_field() -> Construction:
    r"""Makes a Hamiltonian field of any smooth scalar network H of x = (q, p).

    .. math::
        \dot q = \frac{\partial H}{\partial p}, \quad
        \dot p = -\frac{\partial H}{\partial q}, \quad
        \dot H = \nabla H \cdot v = 0

    The flow keeps the network's own energy H, and volumes. It keeps the true energy as
    well as H approximates it, and an integrator adds an error of its own.

    For any parameters v derives from an energy, which its own Jacobian shows (that of
    (-dp/dt, dq/dt), the energy's gradient, is symmetric), to rounding of the network's
    second derivatives, which it must have. It costs one reverse pass.

    Returns:
        A construction, for ``network.then``: (params, x) -> v (2 k,), in units of the
        network's output per unit of x.

    Raises:
        ValueError: when called, if the network is not scalar or x not of even size.

    References:
        Greydanus, Dzamba and Yosinski, Hamiltonian Neural Networks (2019).

    Example:
        >>> import jax.numpy as jnp, jaxcon as jc
        >>> motion = jc.layers.hamiltonian_field()
        >>> apply = motion.wrap(lambda spring, x: spring * x @ x / 2)
        >>> apply(4.0, jnp.array([1.0, 0.5])).tolist()
        [2.0, -4.0]
    """

    def field(f: Function, x: jax.Array) -> jax.Array:
        x = one_example("hamiltonian_field", x)
        if x.size % 2:
            raise ValueError(
                "hamiltonian_field takes one example x = (q, p) of shape (2 k,), got "
                f"{x.shape}"
            )
        q, p = jnp.split(
            derivatives.gradient(_giving("hamiltonian_field", f, ()))(x), 2
        )
        return jnp.concatenate([p, -q])

    def rotation(slopes: jax.Array) -> jax.Array:
        q, p = jnp.split(slopes, 2)
        return _asymmetry(jnp.concatenate([-p, q]))

    law = _vanishing("v = (dH/dp, -dH/dq), so dH/dt = 0", "energy", rotation, terms=2)
    return _construction(field, law)


def _asymmetry(slopes: jax.Array) -> jax.Array:
    return slopes - slopes.T


def _giving(name: str, f: Function, shape: tuple[int, ...]) -> Function:
    """Returns the potential with a check of its output's shape."""

    def checked(x: jax.Array) -> jax.Array:
        y = f(x)
        if jnp.shape(y) != shape:
            raise ValueError(
                f"{name} of {x.size} inputs is put on a network whose output has shape "
                f"{shape}, got {jnp.shape(y)}"
            )
        return y

    return checked


def _construction(
    field: Callable[[Function, jax.Array], jax.Array], law: Guarantee
) -> Construction:
    def wrap(apply: Apply) -> Apply:
        return lambda params, x: field(partial(apply, params), x)

    return Construction(wrap, Certificate((law,), _CAVEAT))


_CAVEAT = (
    "The law holds to rounding of the network's second derivatives, where they are made of "
    f"terms not much larger than themselves, and of no more than {TERMS}. Central "
    "differences are judged where they settle at second order, by how much they still move."
)


def _vanishing(
    statement: str, kind: str, law: Callable[[jax.Array], jax.Array], *, terms: int
) -> Guarantee:
    """Makes the guarantee that sums of entries of a field's Jacobian are zero.

    Args:
        statement: the claim.
        kind: of the guarantee.
        law: Jacobian (d, d) -> the sums, of entries each taken once or negatively.
        terms: the number of entries in a sum.
    """

    def inwards(x: jax.Array) -> jax.Array:
        # Far out a saturated unit is rounded to an eps of what it is nearer the origin.
        return jnp.outer(jnp.asarray(INWARDS, x.dtype), x)

    def derivative(f: Function, x: jax.Array, y: jax.Array) -> Gap:
        del y
        slopes = jax.vmap(jax.jacfwd(f))(inwards(x))
        size = jnp.max(jnp.sqrt(jnp.sum(slopes**2, (1, 2))))
        return Gap(jnp.max(jnp.abs(law(slopes[0]))), size)

    def difference(f: Function, x: jax.Array, y: jax.Array) -> Gap:
        del y
        reach, eps = jnp.max(jnp.abs(x)), float(jnp.finfo(x.dtype).eps)
        largest = jnp.max(jnp.abs(jax.vmap(f)(inwards(x))))
        # Down to the cube root of eps, below which rounding outweighs truncation.
        step = eps ** (1 / 4) * jnp.where(reach > 0, reach, 1.0)
        steps = step / 2.0 ** jnp.arange(LEVELS)

        def column(step: jax.Array, unit: jax.Array) -> tuple[jax.Array, jax.Array]:
            ends = jnp.stack([x + step * unit, x - step * unit])
            plus, minus = jax.vmap(f)(ends)
            rise = (plus - minus) / jnp.dot(ends[0] - ends[1], unit)
            # The terms of the quotient, and the effect of rounding its middle.
            terms = largest + jnp.abs(plus) + jnp.abs(minus) + reach * jnp.abs(rise)
            bend = jnp.abs(plus + minus - 2 * f(x)) / step
            return rise, jnp.max(terms / step + reach * bend / step)

        units = jnp.eye(x.size, dtype=x.dtype)
        slopes, sizes = jax.vmap(lambda h: jax.vmap(lambda e: column(h, e))(units))(
            steps
        )
        slopes = jnp.swapaxes(slopes, 1, 2)
        # Halving the step divides the error of a resolved field by four: a third of the
        # last change is left. A field that is not resolved gives no evidence.
        changes, size = jnp.diff(slopes, axis=0), jnp.max(sizes[-1])
        later = jnp.sum(jnp.abs(changes[1:]), (1, 2))
        order = jnp.sum(jnp.abs(changes[:-1] - 4 * changes[1:]), (1, 2))
        settles = jnp.all(order <= 2 * later + 8 * eps * size)
        truncation = jnp.sum(jnp.abs(changes))
        excess = jnp.max(jnp.abs(law(slopes[-1]))) - truncation
        return Gap(jnp.where(settles, excess, -truncation), size)

    return Guarantee(
        statement,
        kind=kind,
        tests={"derivative": derivative, "difference": difference},
        roundings=float(terms * TERMS),
        size="the Jacobian here and nearer the origin",
        constant=0.0,
    )
