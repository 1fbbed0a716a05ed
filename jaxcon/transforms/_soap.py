"""SOAP: Adam in the eigenbasis of Shampoo's preconditioner."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxcon._checks import check_number, check_rate


class SoapState(NamedTuple):
    """State of `soap`, for each array of the parameters.

    Attributes:
        calls: so far, int32 of shape ().
        mean: of the gradients, in the parameters' shapes.
        square: mean of the rotated gradients' squares, in the parameters' shapes.
        outer: for each axis the mean of the gradient's outer products over all others,
            (n, n); () where nothing is rotated.
        bases: for each axis orthonormal columns, (n, n), likewise.
    """

    calls: jax.Array
    mean: Any
    square: Any
    outer: Any
    bases: Any


def soap(
    learning_rate: optax.ScalarOrSchedule,
    b1: float = 0.95,
    b2: float = 0.95,
    eps: float = 1e-8,
    *,
    every: int = 10,
    largest: int = 1024,
) -> optax.GradientTransformation:
    r"""Takes Adam's steps in the eigenbasis of Shampoo's preconditioner.

    Of a matrix of parameters with gradient G it keeps

    .. math::
        M \leftarrow \beta_1 M + (1 - \beta_1) G, \quad
        L \leftarrow \beta_2 L + (1 - \beta_2) G G^T, \quad
        R \leftarrow \beta_2 R + (1 - \beta_2) G^T G

    and bases :math:`Q_L, Q_R` of their eigenvectors, in which it adapts the rates:

    .. math::
        V \leftarrow \beta_2 V + (1 - \beta_2) (Q_L^T G Q_R)^2, \qquad
        W \leftarrow W - \eta \, Q_L \frac{Q_L^T \hat M Q_R}{\sqrt{\hat V} + \epsilon} Q_R^T

    with the hats for Adam's corrections. The first call only measures the bases and
    moves nothing. Every k-th call one power iteration, :math:`Q \leftarrow
    \mathrm{QR}(L Q)`, renews them, with columns in the order of their eigenvalues. Of an
    array of more axes each has a basis. Axes longer than `largest` are not rotated, nor
    are vectors and numbers: their steps are Adam's.

    A network whose gradients have a few strong directions gains most. A step costs the
    products with the bases, O(m n (m + n)) for a matrix (m, n), and m² + n² more numbers.

    Args:
        learning_rate: eta >= 0, or an optax schedule.
        b1: beta_1, the weight of the past in the mean of gradients, in [0, 1).
        b2: beta_2, that in all means of products, in [0, 1).
        eps: epsilon > 0.
        every: k, calls between two renewals of the bases.
        largest: axis that has a basis.

    Returns:
        An optax transform for the parameters.

    Raises:
        TypeError: an argument is no number.
        ValueError: one is out of its range.

    References:
        Vyas et al., SOAP: Improving and Stabilizing Shampoo using Adam (2024),
        Algorithm 3.

    Example:
        A quadratic whose narrow valley runs across the axes, which Adam cannot see:

        >>> import jax, jax.numpy as jnp, optax, jaxcon as jc
        >>> mix = jnp.array([[10.0, 11.0], [11.0, 10.0]])
        >>> def loss(w):
        ...     return jnp.sum((w @ mix - jnp.eye(2)) ** 2)
        >>> rate = optax.linear_schedule(0.1, 0.0, 200)
        >>> def end(optimizer):
        ...     w, update = jnp.ones((2, 2)), jax.jit(optimizer.update)
        ...     state = optimizer.init(w)
        ...     for _ in range(200):
        ...         moves, state = update(jax.grad(loss)(w), state)
        ...         w = optax.apply_updates(w, moves)
        ...     return loss(w)
        >>> bool(end(jc.soap(rate)) < end(optax.adam(rate)))
        True
    """
    check_rate("learning_rate", learning_rate, least=0)
    for name, weight in (("b1", b1), ("b2", b2)):
        check_number(name, weight, least=0, below=1)
    check_number("eps", eps, above=0)
    check_number("every", every, least=1, whole=True)
    check_number("largest", largest, least=1, whole=True)

    def init(params: Any) -> SoapState:
        def axes(leaf: jax.Array, number: float) -> tuple[jax.Array, ...]:
            sizes = _rotated(leaf.shape, largest)
            return tuple(number * jnp.eye(n, dtype=_wide(leaf)) for n in sizes)

        zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, _wide(leaf)), params)
        return SoapState(
            calls=jnp.zeros((), jnp.int32),
            mean=zeros,
            square=zeros,
            outer=jax.tree.map(lambda leaf: axes(leaf, 0.0), params),
            bases=jax.tree.map(lambda leaf: axes(leaf, 1.0), params),
        )

    def update(
        updates: Any, state: SoapState, params: Any = None
    ) -> tuple[Any, SoapState]:
        del params
        count = state.calls
        # 0: measure the bases, 1: keep them, 2: renew them.
        stage = jnp.where(count == 0, 0, jnp.where(count % every == 0, 2, 1))

        def one(leaf: jax.Array, *memory: Any) -> tuple[Any, ...]:
            mean, square, outer, bases = memory
            gradient = leaf.astype(mean.dtype)
            turned = _turned(gradient, bases, largest)
            # Of what is not rotated the first call is a step like all others.
            skips = (count == 0) & bool(bases)
            taken = count if bases else count + 1
            mean = jnp.where(skips, mean, b1 * mean + (1 - b1) * gradient)
            square = jnp.where(skips, square, b2 * square + (1 - b2) * turned**2)
            unbiased = _turned(mean, bases, largest) / (1 - b1**taken)
            scale = jnp.sqrt(square / (1 - b2**taken)) + eps
            move = _turned(unbiased / scale, bases, largest, back=True)
            move = jnp.where(skips, 0.0, move).astype(leaf.dtype)
            outer = tuple(
                b2 * old + (1 - b2) * _outer(gradient, axis)
                for old, axis in zip(outer, _axes(gradient.shape, largest))
            )
            if not bases:
                return move, mean, square, outer, bases
            bases, square = jax.lax.switch(
                stage,
                [
                    lambda: (tuple(map(_eigenvectors, outer)), square),
                    lambda: (bases, square),
                    lambda: _renewed(outer, bases, square, largest),
                ],
            )
            return move, mean, square, outer, bases

        leaves, tree = jax.tree.flatten(updates)
        memory = [tree.flatten_up_to(part) for part in state[1:]]
        found = [one(*each) for each in zip(leaves, *memory)]
        parts = [list(part) for part in zip(*found)] or [[]] * 5
        moves, *after = (tree.unflatten(part) for part in parts)
        return moves, SoapState(count + 1, *after)

    return optax.chain(
        optax.GradientTransformation(init, update),  # pyright: ignore[reportArgumentType]
        optax.scale_by_learning_rate(learning_rate),
    )


def _wide(leaf: jax.Array) -> Any:
    """Returns the dtype of an array's memory: its own, at least float32."""
    return jnp.promote_types(leaf.dtype, jnp.float32)


def _axes(shape: tuple[int, ...], largest: int) -> list[int]:
    """Lists the axes that have a basis."""
    if len(shape) < 2:
        return []
    return [axis for axis, size in enumerate(shape) if 1 < size <= largest]


def _rotated(shape: tuple[int, ...], largest: int) -> list[int]:
    """Lists the sizes of the axes that have a basis."""
    return [shape[axis] for axis in _axes(shape, largest)]


def _outer(gradient: jax.Array, axis: int) -> jax.Array:
    """Sums the outer products along an axis over all others, (n, n)."""
    rows = jnp.moveaxis(gradient, axis, 0).reshape(gradient.shape[axis], -1)
    return jnp.matmul(rows, rows.T, precision="highest")


def _turned(
    array: jax.Array, bases: tuple[jax.Array, ...], largest: int, back: bool = False
) -> jax.Array:
    """Rotates an array into the bases of its axes, or back."""
    for axis, basis in zip(_axes(array.shape, largest), bases):
        contracted = 1 if back else 0
        axes = ((axis,), (contracted,))
        turned = jnp.tensordot(array, basis, axes, precision="highest")
        array = jnp.moveaxis(turned, -1, axis)
    return array


def _eigenvectors(matrix: jax.Array) -> jax.Array:
    """Returns the eigenvectors, those of the largest eigenvalues first."""
    return jnp.linalg.eigh(matrix)[1][:, ::-1]


def _renewed(
    outer: tuple[jax.Array, ...],
    bases: tuple[jax.Array, ...],
    square: jax.Array,
    largest: int,
) -> tuple[tuple[jax.Array, ...], jax.Array]:
    """Returns the bases after one power iteration, and squares in their order."""
    renewed = []
    for axis, matrix, basis in zip(_axes(square.shape, largest), outer, bases):
        image = jnp.matmul(matrix, basis, precision="highest")
        order = jnp.argsort(-jnp.sum(basis * image, axis=0))
        square = jnp.take(square, order, axis)
        renewed.append(jnp.linalg.qr(image[:, order])[0])
    return tuple(renewed), square
