r"""Mean of an ensemble's members, moved to a function that obeys the rules strictly.

.. math:: F = (1 - t) \, \tfrac1K \sum_k f_k + t f_0
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxcon.ensembles._columns import Block
from jaxcon.ensembles._losses import Ends, Loss
from jaxcon.ensembles._network import Inputs, Member, score, standardise
from jaxcon.ensembles._reference import Reference


class Mixture(NamedTuple):
    """Numbers of a fitted function, in scaled units.

    Attributes:
        inputs: standardisation of encoded rows.
        members: parameters of the f_k, with a leading axis.
        reference: f_0.
        share: t, ().
        ends: bounds in which predictions are held by construction, or None.
    """

    inputs: Inputs
    members: Member
    reference: Reference
    share: Any = 0.0
    ends: Ends = None

    def at(self, layout: Sequence[Block], loss: Loss, v: jax.Array) -> jax.Array:
        """Evaluates F at an encoded row.

        Args:
            layout: of the columns.
            loss: of the target.
            v: the row, (d,).

        Returns:
            Scaled predictions, (m,).
        """
        z = standardise(self.inputs, layout, v)

        def predict(member: Member) -> jax.Array:
            return loss.prediction(score(member, z), ends=self.ends)

        mean = jnp.mean(jax.vmap(predict)(self.members), 0)
        return (1 - self.share) * mean + self.share * self.reference(v)
