"""What every test runs under: no silent broadcast, and float64 where it is asked for."""

import itertools
import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import pytest

# The silent (n,) * (n, 1) -> (n, n) broadcast is this field's classic bug.
jax.config.update("jax_numpy_rank_promotion", "raise")


TAKEN = itertools.count(1)


@pytest.fixture(autouse=True)
def _bounded_caches():
    """Forgets compiled programs now and then: thousands of them slow all others down."""
    yield
    if next(TAKEN) % 300 == 0:
        jax.clear_caches()


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
