"""Proofs that ensembles obey their rules, and counterexamples in the table's units."""

import jax
import numpy as np
import pytest

from jaxcon.ensembles import (
    Loss,
    Options,
    RuleProof,
    ShapeRules,
    fit_ensemble,
    prove,
    read_frame,
    verdicts,
)

OPTIONS = Options(members=2, steps=300)


def table(rows=120):
    rng = np.random.default_rng(0)
    area, age = rng.uniform(20, 200, rows), rng.uniform(0, 50, rows)
    kind = rng.choice(["flat", "house"], rows).astype(object)
    age[rng.uniform(size=rows) < 0.1] = np.nan
    y = 3 * np.sqrt(area) - np.nan_to_num(0.2 * age, nan=5.0) + 4 * (kind == "house")
    cells = np.empty((rows, 3), object)
    cells[:, 0], cells[:, 1], cells[:, 2] = area, age, kind
    frame = read_frame(cells, ["area", "age", "kind"])
    return frame, y + 0.1 * rng.normal(size=rows)


@pytest.fixture(scope="module")
def fit():
    rules = ShapeRules(
        monotone={"area": 1, "age": -1}, concave=(("area",),), bounds=(-40.0, 90.0)
    )
    return fit_ensemble(*table(), Loss("squared_error"), rules, options=OPTIONS)


@pytest.fixture(scope="module")
def proofs(fit):
    return prove(fit.ensemble, budget=20)


def turned(ensemble):
    """The ensemble with minus its members' scores."""
    *layers, last = ensemble.members["layers"]
    last = jax.tree.map(np.negative, last)
    members = {"layers": [*layers, last], "linear": -ensemble.members["linear"]}
    return ensemble._replace(members=members, share=0.0)


def test_proofs_of_a_fit_with_categories_and_missing_values(fit, proofs):
    told = dict(zip(fit.ensemble.kinds.names, proofs))
    assert told["rising in area"].outcome == "proved"
    assert told["falling in age"].outcome == "proved"
    assert told["concave in area"].outcome == "proved"
    assert "proved on the whole box" in str(told["rising in area"])


def test_verdicts_say_what_is_proved(fit, proofs):
    with_proofs = verdicts(fit, proofs)
    assert all(one.holds for one in with_proofs)
    assert "proved on the whole box" in str(with_proofs[0])
    assert "a search" in str(verdicts(fit)[0])
    with pytest.raises(ValueError, match="1 proofs of 4 rules"):
        verdicts(fit, proofs[:1])


def test_counterexample_is_a_row_of_the_table_that_breaks_the_rule(fit):
    broken = turned(fit.ensemble)
    told = dict(zip(broken.kinds.names, prove(broken, budget=20)))
    rising = told["rising in area"]
    assert rising.outcome == "counterexample"
    assert "area = " in rising.sentence
    assert "kind = " in rising.sentence
    [verdict, *_] = verdicts(fit, tuple(told.values()))
    assert not verdict.holds
    assert "broken, counterexample at" in str(verdict)


def test_undecided_proof_leaves_the_search_to_judge(fit):
    proofs = (RuleProof("undecided", "undecided: 3 % of the volume left", 0.03),) * 4
    [verdict, *_] = verdicts(fit, proofs)
    assert verdict.holds
    assert "3 % of the volume left, a search of the whole box found no" in str(verdict)


def test_bounds_by_construction_are_said_to_be_so():
    x = np.linspace(0, 1, 60)[:, None]
    rules = ShapeRules(bounds=(0.0, 1.0))
    fit = fit_ensemble(
        read_frame(x), x[:, 0], Loss("squared_error"), rules, options=OPTIONS
    )
    [proof] = prove(fit.ensemble)
    assert str(proof) == "holds by construction"


def test_rules_of_levels_beyond_number_are_not_tried():
    rng = np.random.default_rng(0)
    letters = np.array(list("abcdefghijklmnopqrst"), object)
    cells = np.empty((100, 4), object)
    cells[:, 0] = rng.uniform(size=100)
    cells[:, 1:] = rng.choice(letters, (100, 3))
    rules = ShapeRules(monotone={"x0": 1})
    y = cells[:, 0].astype(float)
    fit = fit_ensemble(
        read_frame(cells), y, Loss("squared_error"), rules, options=OPTIONS
    )
    [proof] = prove(fit.ensemble)
    assert proof.outcome == "not tried"
    assert "combinations of levels" in str(proof)
    assert verdicts(fit, (proof,))[0].holds


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["poisson", "binary", "multinomial", "quantile"])
def test_proof_of_every_loss(kind):
    rng = np.random.default_rng(0)
    x = rng.uniform(size=(150, 2))
    mean = 1 + 2 * x[:, 0]
    y = {
        "poisson": rng.poisson(mean),
        "binary": (rng.uniform(size=150) < mean / 4).astype(float),
        "multinomial": rng.integers(0, 3, 150),
        "quantile": mean + 0.3 * rng.normal(size=150),
    }[kind]
    losses = {
        "multinomial": Loss("multinomial", 3),
        "quantile": Loss("quantile", 2, (0.1, 0.9)),
    }
    rules = ShapeRules(monotone={"x0": {0: 1} if kind == "multinomial" else 1})
    fit = fit_ensemble(
        read_frame(x), y, losses.get(kind, Loss(kind)), rules, options=OPTIONS
    )
    [proof] = prove(fit.ensemble, budget=10)
    assert proof.outcome == "proved", str(proof)


@pytest.mark.slow
def test_proof_of_joint_curvature_slope_bounds_and_lipschitz():
    rng = np.random.default_rng(0)
    x = rng.uniform(size=(150, 2))
    y = -np.square(x - 0.5).sum(1) + x[:, 0]
    rules = ShapeRules(
        concave=(("x0", "x1"),), slope_bounds={"x0": (-1.0, 3.0)}, lipschitz=5.0
    )
    fit = fit_ensemble(read_frame(x), y, Loss("squared_error"), rules, options=OPTIONS)
    outcomes = [one.outcome for one in prove(fit.ensemble, budget=30)]
    assert outcomes == ["proved"] * 3
