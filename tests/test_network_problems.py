"""Network problems: the same arrays for the same seed, of the right shapes, and finite."""

import hashlib

import jax
import numpy as np
import pytest

from benchmarks.problems.networks import ALL, FURTHER, NETWORKS
from benchmarks.versus import PROBLEMS_BY_HAND

EVERY = pytest.mark.parametrize("name", list(ALL))
SHAPES = {
    "monotone 1-D": {"x": (60, 1), "points": (200, 1), "dense": (2001, 1)},
    "monotone 2-D": {"x": (200, 2), "points": (961, 2), "dense": (6561, 2)},
    "call surface": {"x": (250, 2), "points": (465, 2), "dense": (3321, 2)},
    "Poisson 1-D": {"x": (64, 1), "boundary": (2, 1), "truth": (1001,)},
    "Poisson 2-D": {"x": (400, 2), "boundary": (80, 2), "truth": (2601,)},
    "y = 2x in the mean": {"x": (64, 1), "y": (64,), "dense": (1024, 1)},
    "y = 2x pointwise": {"x": (64, 1), "y": (64,), "dense": (1024, 1)},
    "sum to one": {"x": (300, 1), "label": (300,), "truth": (1001, 3)},
    "lambda, a number": {"x": (50, 20), "k": (50,)},
    "lambda, a network": {"x": (50, 20), "k": (50,), "points": (64, 1)},
    "Neyman-Pearson": {"negative": (2000, 2), "positive": (2000, 2)},
    "fairness, minibatches": {"x0": (2000, 2), "y0": (2000,), "x1": (2000, 2)},
    "CMDP": {"moves": (6, 2, 6), "reward": (6, 2), "cost": (6, 2)},
    "Lipschitz classifier": {"x": (200, 2), "points": (961, 2), "dense": (6561, 2)},
    "maximum entropy": {"faces": (6,), "truth": (6,)},
    "linear regulator": {"a": (3, 3), "states": (12, 3), "controls": (12,)},
}

CHECKSUMS = {
    "monotone 1-D": "90614658d49f",
    "monotone 2-D": "9317c1ddd61a",
    "call surface": "b4b15fd22cfa",
    "Poisson 1-D": "b846f338e348",
    "Poisson 2-D": "563bebff1f6a",
    "y = 2x in the mean": "c040a2fc39ff",
    "y = 2x pointwise": "c040a2fc39ff",
    "sum to one": "fdd842220250",
    "lambda, a number": "7aaddb881726",
    "Neyman-Pearson": "c8c87ab00c42",
    "fairness, minibatches": "8480217cc868",
    "CMDP": "09e17260c3e7",
    "Lipschitz classifier": "9671990d00f3",
    "lambda, a network": "f1e2876ca3d2",
    "maximum entropy": "e6913357a41b",
    "linear regulator": "5ed6b77eb328",
}


def checksum(arrays):
    """Digests structure and numbers, of which the last digits may differ by platform."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(arrays):
        rounded = np.round(np.asarray(leaf, float), 3) + 0.0
        digest.update(f"{jax.tree_util.keystr(path)}{rounded.shape}".encode())
        digest.update(rounded.astype(np.float32).tobytes())
    return digest.hexdigest()[:12]


def test_names_are_unique_and_thirteen_are_networks_and_toys():
    assert len(ALL) == len(NETWORKS) + len(FURTHER)
    assert len(NETWORKS) == 13
    assert list(SHAPES.keys() ^ ALL.keys()) == []


@EVERY
def test_arrays_depend_on_the_seed_alone(name):
    arrays = ALL[name].arrays(0)
    assert checksum(arrays) == CHECKSUMS[name]
    assert checksum(ALL[name].arrays(0)) == checksum(arrays)
    assert checksum(ALL[name].arrays(1)) != checksum(arrays)


@EVERY
def test_arrays_are_numpy_of_the_stated_shapes(name):
    arrays = ALL[name].arrays(0)
    assert {entry: arrays[entry].shape for entry in SHAPES[name]} == SHAPES[name]
    for leaf in jax.tree.leaves(arrays):
        assert isinstance(leaf, (np.ndarray, np.generic, int))
        assert np.all(np.isfinite(leaf))


@EVERY
def test_a_problem_evaluates_at_its_start_as_the_one_by_hand_does(name):
    definition = ALL[name]
    arrays = definition.arrays(0)
    problem, params, batch = definition.problem(arrays)
    data = {key: value for key, value in arrays.items() if key != "weights"}
    if definition.minibatches:
        batch = batch(jax.random.key(0), None)
        data |= batch
    found = jax.jit(problem.evaluate)(params, batch)
    with jax.numpy_rank_promotion("allow"):
        parts = jax.jit(PROBLEMS_BY_HAND[name])(params, data)
    strict = parts.inequality if parts.strict is None else parts.strict
    assert np.isfinite(found.loss)
    np.testing.assert_allclose(found.loss, parts.loss, rtol=1e-4)
    for own, residuals in (
        (parts.equality, found.residuals.equality),
        (strict, found.residuals.inequality),
    ):
        together = [np.ravel(leaf) for leaf in residuals.values()]
        together = np.sort(np.concatenate([*together, np.zeros(0)]))
        assert np.all(np.isfinite(together))
        assert together.shape == own.shape
        np.testing.assert_allclose(together, np.sort(own), atol=2e-4)


@EVERY
def test_a_start_is_judged(name):
    definition = ALL[name]
    arrays = definition.arrays(0)
    _, params, _ = definition.problem(arrays)
    assert np.isfinite(definition.violation(arrays, params))
    assert np.isfinite(definition.accuracy(arrays, params))
    like = jax.tree.map(np.shape, arrays["weights"])
    assert jax.tree.map(np.shape, params) == like


@pytest.mark.parametrize("name", ["linear regulator", "maximum entropy"])
def test_exact_answers_obey_and_have_no_error(name):
    definition = ALL[name]
    arrays = definition.arrays(0)
    if name == "linear regulator":
        answer = {entry: arrays[entry] for entry in ("states", "controls")}
    else:
        answer = {"logarithm": np.log(arrays["truth"])}
    assert definition.violation(arrays, answer) < 1e-5
    assert definition.accuracy(arrays, answer) < 1e-6


def test_numbers_that_are_none_count_as_infinitely_wrong():
    definition = ALL["y = 2x pointwise"]
    arrays = definition.arrays(0)
    params = jax.tree.map(lambda leaf: np.full_like(leaf, np.nan), arrays["weights"])
    assert definition.violation(arrays, params) == np.inf
    assert definition.accuracy(arrays, params) == np.inf
