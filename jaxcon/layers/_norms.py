"""Weights of bounded norm from free ones, and activations of slope at most one."""

import jax
import jax.numpy as jnp

from jaxcon._checks import check_array
from jaxcon.projections import product


def group_sort(x: jax.Array) -> jax.Array:
    r"""Sorts neighbouring pairs: an activation that loses no gradient.

    .. math::
        (x_{2i}, x_{2i+1}) \mapsto
        \left( \min(x_{2i}, x_{2i+1}), \max(x_{2i}, x_{2i+1}) \right)

    It is exactly a permutation, so it keeps every norm; of an odd number the last stays.
    It is piecewise linear: its second derivatives are zero.

    Args:
        x: (n,).

    Returns:
        Shape (n,).

    Raises:
        TypeError: x is no array of numbers.
        ValueError: it is not of shape (n,).

    References:
        Anil, Lucas and Grosse, Sorting Out Lipschitz Function Approximation (2019), for
        groups of two.

    Example:
        >>> import jax.numpy as jnp, jaxcon as jc
        >>> print(jc.layers.group_sort(jnp.array([3.0, 1.0, 0.0, 2.0, -1.0])))
        [ 1.  3.  0.  2. -1.]
    """
    x = jnp.asarray(check_array("group_sort: x", x, "(n,)", finite=None))
    even = x.size // 2 * 2
    first, second = x[0:even:2], x[1:even:2]
    pairs = jnp.stack([jnp.minimum(first, second), jnp.maximum(first, second)], axis=1)
    return jnp.concatenate([pairs.ravel(), x[even:]])


def soft_clip(x: jax.Array) -> jax.Array:
    r"""Clips smoothly to [-1, 1], with a slope close to one on most of it.

    .. math:: x \mapsto \frac{x}{(1 + x^6)^{1/6}}

    The slope, :math:`(1 + x^6)^{-7/6}`, is above 0.98 up to :math:`|x| = 1/2`, where that
    of tanh has fallen to 0.79.

    Args:
        x: any shape.

    Returns:
        The shape of `x`.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcon.layers._norms import soft_clip
        >>> print([f"{y:.4f}" for y in soft_clip(jnp.array([-1e9, 0.5, 2.0]))])
        ['-1.0000', '0.4987', '0.9974']
    """
    # The same for every m; with this one no power overflows.
    m = jax.lax.stop_gradient(jnp.maximum(jnp.abs(x), 1))
    return x / m * ((1 / m) ** 6 + (x / m) ** 6) ** (-1 / 6)


def bounded_rows(W: jax.Array) -> jax.Array:
    r"""Scales rows to 1-norms of at most one: :math:`\|W x\|_\infty \le \|x\|_\infty`.

    .. math:: W_{ij} / \max\left( 1, \sum_k |W_{ik}| \right)

    Args:
        W: (m, n), any numbers.

    Returns:
        Shape (m, n), to n + 1 roundings.

    Raises:
        TypeError: W is no array of numbers.
        ValueError: it is not of shape (m, n).

    Example:
        >>> import jax.numpy as jnp, jaxcon as jc
        >>> print(jc.layers.bounded_rows(jnp.array([[1.0, -3.0], [0.5, 0.0]])))
        [[ 0.25 -0.75]
         [ 0.5   0.  ]]
    """
    W = jnp.asarray(check_array("bounded_rows: W", W, "(m, n)", finite=None))
    return W / jnp.maximum(1.0, jnp.sum(jnp.abs(W), axis=1, keepdims=True))


def bounded_entries(W: jax.Array) -> jax.Array:
    r"""Scales entries to sizes of at most one: :math:`\|W x\|_\infty \le \|x\|_1`.

    .. math:: W_{ij} / \max\left( 1, \max_k |W_{ik}| \right)

    A row is divided as a whole, so that an entry which has grown past one can shrink
    again where it is not its row's only one.

    Args:
        W: (m, n), any numbers.

    Returns:
        Shape (m, n).

    Raises:
        TypeError: W is no array of numbers.
        ValueError: it is not of shape (m, n).

    Example:
        >>> import jax.numpy as jnp, jaxcon as jc
        >>> print(jc.layers.bounded_entries(jnp.array([[4.0, -1.0], [0.5, 0.0]])))
        [[ 1.   -0.25]
         [ 0.5   0.  ]]
    """
    W = jnp.asarray(check_array("bounded_entries: W", W, "(m, n)", finite=None))
    return W / jnp.maximum(1.0, jnp.max(jnp.abs(W), axis=1, keepdims=True))


def cayley(V: jax.Array) -> jax.Array:
    r"""Makes orthonormal columns, or rows where there are fewer, of any matrix.

    .. math::
        Q = \begin{pmatrix} (I - A)(I + A)^{-1} \\ -2 Y (I + A)^{-1} \end{pmatrix},
        \quad A = X - X^T + Y^T Y, \quad V = \begin{pmatrix} X \\ Y \end{pmatrix}

    of a tall V (m, n); :math:`Q^T Q = I` as :math:`I + A` has a symmetric part of at least
    I. It takes one solve. A wide V is transposed. V is first scaled to a Frobenius norm of
    at most :math:`10 \sqrt n`, which excludes only turns by nearly half a circle and keeps
    the solve accurate; then Q is divided by the excess of its norm from rounding.

    Args:
        V: (m, n), any numbers.

    Returns:
        Shape (m, n), of spectral norm 1 to m n machine epsilons, whatever V.

    Raises:
        TypeError: V is no array of numbers.
        ValueError: it is not of shape (m, n).

    References:
        Trockman and Kolter, Orthogonalizing Convolutional Layers with the Cayley
        Transform (2021).

    Example:
        >>> import jax.numpy as jnp, jaxcon as jc
        >>> print(jc.layers.cayley(jnp.array([[0.0], [1.0]])))
        [[ 0.]
         [-1.]]
    """
    V = jnp.asarray(check_array("cayley: V", V, "(m, n)", finite=None))
    if V.shape[0] < V.shape[1]:
        return cayley(V.T).T
    n = V.shape[1]
    # No half precision: there is no solve in it.
    wide = V.astype(jnp.result_type(V, jnp.float32))
    wide = wide * jax.lax.rsqrt(jnp.maximum(1.0, jnp.sum(wide**2) / (100 * n)))
    x, y = wide[:n], wide[n:]
    identity = jnp.eye(n, dtype=wide.dtype)
    a = x - x.T + product(y.T, y)
    inverse = jnp.linalg.solve(identity + a, identity)
    lower = -2 * product(y, inverse)
    q = jnp.concatenate([2 * inverse - identity, lower])
    # |Q|^2 is at most the largest row sum of Q^T Q, which is 1 but for rounding, and
    # rounding has no derivative.
    gram = product(q.T, q)
    excess = jnp.max(jnp.sum(jnp.abs(gram), axis=1))
    q = q * jax.lax.rsqrt(jax.lax.stop_gradient(jnp.maximum(1.0, excess)))
    return q.astype(V.dtype)
