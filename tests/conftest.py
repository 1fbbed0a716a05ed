"""What every test runs under: no silent broadcast, and float64 where it is asked for."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import pytest

# The silent (n,) * (n, 1) -> (n, n) broadcast is this field's classic bug.
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture
def key():
    return jax.random.key(0)


@pytest.fixture
def x64():
    """Runs one test in float64 (jax.enable_x64 does not exist in jax 0.7.2)."""
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", False)


@pytest.fixture(params=["float32", "float64"])
def dtype(request):
    """Runs a test in both precisions; the value is the dtype's name."""
    jax.config.update("jax_enable_x64", request.param == "float64")
    yield request.param
    jax.config.update("jax_enable_x64", False)
