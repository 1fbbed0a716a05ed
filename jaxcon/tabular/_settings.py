"""Settings of a fit and the methods that they describe."""

from dataclasses import dataclass

import optax

from jaxcon.methods import Method, standard


@dataclass(frozen=True)
class Settings:
    """Settings of a fit: all numbers of a run beside its data and its rules.

    Attributes:
        steps: of the optimizer, over the whole training data each.
        seed: of the split and of the network's first weights.
        held_out: share of the rows kept for the score.
        width: units in each hidden layer.
        depth: hidden layers.
        learning_rate: Adam's first, decayed to zero by a cosine.
        strength: c of `jaxcon.methods.standard`.
        margin: of the constraints at their points, so that the rules hold between them:
            in scaled units for slopes and curvatures, a tenth of it for bounds.
    """

    steps: int = 3000
    seed: int = 0
    held_out: float = 0.2
    width: int = 32
    depth: int = 2
    learning_rate: float = 1e-2
    strength: float = 1.0
    margin: float = 0.2


def methods(settings: Settings) -> dict[str, Method]:
    """Builds the standard methods with Adam and a cosine decay.

    Args:
        settings: of the fit.

    Returns:
        Methods by name.
    """
    rate = optax.cosine_decay_schedule(settings.learning_rate, settings.steps)
    return standard(optax.adam(rate), settings.strength)
