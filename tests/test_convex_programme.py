"""The benchmark of quadratic programmes, with few and small ones."""

import numpy as np
import pytest

from benchmarks import convex_programme


@pytest.mark.slow
def test_a_small_family_is_answered(x64):
    given = convex_programme.programme(variables=6, rows=2, instances=300)
    rows, _, truth = convex_programme.measure(given, 50, epochs=60, batch=50, width=32)
    # A solver finds no better point, and its multipliers are those at its points.
    for row in rows.values():
        assert 0 <= row["gap"] < 0.05  # after 240 small steps
    assert rows["float64"]["equality"] < 1e-12  # float64
    assert rows["float64"]["inequality"] < 1e-12
    assert rows["float32"]["equality"] < 1e-5  # float32
    assert rows["float32"]["inequality"] < 1e-5
    test = given._replace(x=given.x[-50:])
    for z, lam in zip(truth.points, truth.multipliers):
        fit = convex_programme.multipliers(test, z)
        np.testing.assert_allclose(fit, lam, atol=1e-5)  # the solver's own tolerance


def test_every_instance_is_feasible():
    given = convex_programme.programme()
    # One point is known for each x.
    inside = given.x @ np.linalg.pinv(given.A).T
    assert (inside @ given.G.T <= given.h + 1e-9).all()
