"""Transfer of what belongs to points from their old places to their new ones."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

# Differences of coordinates that are held at once.
_AT_ONCE = 2**20


class Neighbours(NamedTuple):
    """Nearest rows of one set of points to each row of another.

    Attributes:
        places: of the k nearest, (n, k).
        share: positive, inverse to the distance, of sum one, (n, k).
    """

    places: jax.Array
    share: jax.Array


class Transfer(NamedTuple):
    """Move of points from old places to new ones.

    Attributes:
        ahead: of each old point the nearest new ones.
        back: of each new point the nearest old ones.
    """

    ahead: Neighbours
    back: Neighbours

    def masses(self, old: jax.Array) -> jax.Array:
        r"""Divides each old point's mass among the new points nearest to it.

        .. math:: m'_j = \sum_i s_{ij} m_i, \qquad \sum_j s_{ij} = 1

        Args:
            old: m, (n,).

        Returns:
            m', (n,), of the same sum, and nowhere negative if m is not.
        """
        places, share = self.ahead
        parts = share.astype(old.dtype) * old[:, None]
        return jnp.zeros(len(self.back.places), old.dtype).at[places].add(parts)

    def values(self, old: jax.Array) -> jax.Array:
        """Averages the values of the old points nearest to each new point.

        Args:
            old: one value for each old point, (n,).

        Returns:
            One for each new point, (n,).
        """
        places, share = self.back
        return jnp.sum(share.astype(old.dtype) * old[places], axis=1)


def transfer(old: jax.Array, new: jax.Array) -> Transfer:
    """Compares old and new places of points.

    Args:
        old: points (n, d).
        new: points (m, d).

    Returns:
        A `Transfer` from `old` to `new`.
    """
    both = jnp.concatenate([old, new])
    width = jnp.max(both, axis=0) - jnp.min(both, axis=0)
    # Inputs of any units; one that is constant tells no distance.
    width = jnp.where(width > 0, width, 1)[None]
    return Transfer(_nearest(old, new, width), _nearest(new, old, width))


def _nearest(points: jax.Array, among: jax.Array, width: jax.Array) -> Neighbours:
    """Finds the d + 1 nearest rows, as many as a simplex has corners."""
    count = min(among.shape[1] + 1, len(among))

    def of(point: jax.Array) -> tuple[jax.Array, jax.Array]:
        # The difference first: of a point that stays it is exactly zero.
        squares = jnp.sum(((among - point[None]) / width) ** 2, axis=1)
        negative, places = jax.lax.top_k(-squares, count)
        return places, jnp.sqrt(jnp.maximum(-negative, 0))

    together = max(1, _AT_ONCE // among.size)
    places, distance = jax.lax.map(of, points, batch_size=together)
    here = distance == 0
    inverse = 1 / jnp.where(here, 1, distance)
    # A point that stays has all, together with others at the same place.
    share = jnp.where(jnp.any(here, axis=1, keepdims=True), here, inverse)
    return Neighbours(places, share / jnp.sum(share, axis=1, keepdims=True))
