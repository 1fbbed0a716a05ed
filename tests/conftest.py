"""Settings of every test: no silent broadcast, float64 on request, shared compilations."""

import contextlib
import hashlib
import os
import platform
import resource
import signal
import sys
import time
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import jaxlib
import pytest

pytest.register_assert_rewrite("laws", "tables")

# The silent (n,) * (n, 1) -> (n, n) broadcast is this field's classic bug.
jax.config.update("jax_numpy_rank_promotion", "raise")

# A compiled program that no run has written anew for so long is deleted.
CACHE_DAYS = 14
MEMORY = 10**9  # bytes of a process from which on it keeps one file's programs only


def pytest_addoption(parser):
    parser.addoption(
        "--no-compile-cache",
        action="store_true",
        help="compile everything anew (also: JAXCON_NO_COMPILE_CACHE=1)",
    )


def processor():
    """A name of this processor's instructions: a compiled program holds for no other."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line for line in lines if line.startswith("flags")), "")


def cache_folder():
    """The folder of the programs that these versions compile on this processor."""
    user = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    kind = hashlib.sha256(processor().encode()).hexdigest()[:8]
    versions = f"jax-{jax.__version__}-jaxlib-{jaxlib.__version__}-{kind}"
    return Path(user) / "jaxcon-tests" / versions


def prune(folder):
    """Deletes the entries of all versions that are older than CACHE_DAYS."""
    oldest = time.time() - CACHE_DAYS * 24 * 3600
    for entry in folder.glob("*/*"):
        with contextlib.suppress(FileNotFoundError):  # another run prunes as well
            if entry.stat().st_mtime < oldest:
                entry.unlink()


def set_jax(settings):
    """Sets JAX in this process and in those that tests start."""
    for name, value in settings.items():
        os.environ[name.upper()] = str(value)
        jax.config.update(name, value)


def pytest_configure(config):
    """Turns JAX's persistent compilation cache on, or off where that is asked for."""
    if config.getoption("--no-compile-cache") or os.environ.get(
        "JAXCON_NO_COMPILE_CACHE"
    ):
        set_jax({"jax_enable_compilation_cache": False})
        return
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:  # a home that cannot be written to
        return
    set_jax(
        {
            "jax_compilation_cache_dir": str(folder),
            "jax_persistent_cache_min_compile_time_secs": 0,
            "jax_persistent_cache_min_entry_size_bytes": -1,
        }
    )
    if not hasattr(config, "workerinput"):  # once a run, not once a worker
        prune(folder.parent)


@pytest.fixture
def fresh_compilation():
    """Compiles anew, where a test reads what the compiler made of a program."""
    from jax.experimental.compilation_cache import compilation_cache

    before = jax.config.jax_enable_compilation_cache
    jax.config.update("jax_enable_compilation_cache", False)
    compilation_cache.reset_cache()
    yield
    jax.config.update("jax_enable_compilation_cache", before)
    compilation_cache.reset_cache()


@pytest.fixture(autouse=True, scope="module")
def _bounded_memory():
    """Forgets compiled programs after a file, once the process has grown large."""
    yield
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if used * (1 if sys.platform == "darwin" else 1024) > MEMORY:
        from jaxcon import _programs

        jax.clear_caches()
        _programs._EXECUTABLES.clear()


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


@pytest.fixture
def interruptible():
    """Lets Ctrl-C raise, even where the shell has put us in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
