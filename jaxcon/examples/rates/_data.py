"""Samples of two Gaussians and cases of breast cancer."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxcon import points
from jaxcon.methods import (
    Apply,
)

LIMIT = 0.05  # alpha
SEPARATION = 2.0  # delta
FEATURES = ("mean radius", "mean texture")
Batch = dict[str, jax.Array]


def optimal_misses(alarms: Any) -> Any:
    r"""Computes the least rate of misses for a rate of false alarms of the Gaussians.

    .. math::
        \Phi(\Phi^{-1}(1 - \alpha) - \delta)

    Args:
        alarms: alpha, in (0, 1), any shape.

    Returns:
        Rates of that shape.
    """
    from scipy.stats import norm

    return norm.cdf(norm.isf(alarms) - SEPARATION)


def affine_rates(apply: Apply, params: Any) -> tuple[Any, Any]:
    r"""Computes false alarms and misses of an affine score over both Gaussians.

    .. math::
        \Phi(b / |w|), \qquad \Phi(-(w_1 \delta + b) / |w|)

    Args:
        apply: (params, x (2,)) -> b + w x.
        params: of it.

    Returns:
        Both rates.
    """
    from scipy.stats import norm

    b, w = jax.value_and_grad(partial(apply, params))(jnp.zeros(2))
    size = float(jnp.linalg.norm(w))
    return norm.cdf(b / size), norm.cdf(-(w[0] * SEPARATION + b) / size)


def gaussians(num: int, seed: int) -> Batch:
    """Spreads examples evenly over both Gaussians, the positive one at (delta, 0).

    Args:
        num: n, of each.
        seed: of the scrambling.

    Returns:
        "negative" and "positive", each (n, 2).
    """
    spread = points.sobol([0.0] * 4, [1.0] * 4, num, seed=seed)
    z = jax.scipy.stats.norm.ppf(spread)
    return {"negative": z[:, :2], "positive": z[:, 2:] + jnp.array([[SEPARATION, 0.0]])}


def breast_cancer(seed: int) -> tuple[Batch, Batch]:
    """Loads two features of scikit-learn's breast cancer cases, malignant ones positive.

    Args:
        seed: of the split into halves.

    Returns:
        Training and unseen cases, each "negative" (n, 2) and "positive" (m, 2), in
        standard deviations of the training cases.

    Raises:
        ImportError: scikit-learn is not installed, with the line that installs it.
    """
    try:
        from sklearn.datasets import load_breast_cancer
        from sklearn.model_selection import train_test_split
    except ImportError:
        raise ImportError(
            "breast cancer data needs scikit-learn: pip install scikit-learn"
        ) from None
    data: Any = load_breast_cancer()
    x = data.data[:, [list(data.feature_names).index(name) for name in FEATURES]]
    malignant = data.target == list(data.target_names).index("malignant")
    halves: Any = train_test_split(
        x, malignant, test_size=0.5, stratify=malignant, random_state=seed
    )
    center, scale = halves[0].mean(axis=0), halves[0].std(axis=0)
    train, unseen = (
        {
            "negative": jnp.asarray(z[~positive], jnp.float32),
            "positive": jnp.asarray(z[positive], jnp.float32),
        }
        for z, positive in (
            ((part - center) / scale, label)
            for part, label in zip(halves[:2], halves[2:])
        )
    )
    return train, unseen
