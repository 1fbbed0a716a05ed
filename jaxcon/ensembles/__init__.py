"""Ensembles of networks fitted to tables under shape rules, all members in one program."""

from jaxcon.ensembles._ensemble import Ensemble
from jaxcon.ensembles._fit import EnsembleFit, fit_ensemble
from jaxcon.ensembles._frame import Frame, read_frame
from jaxcon.ensembles._losses import Loss, read_target
from jaxcon.ensembles._pictures import plot_calibration, plot_pair, plot_rule
from jaxcon.ensembles._prepared import Options
from jaxcon.ensembles._proofs import RuleProof, prove
from jaxcon.ensembles._report import Report, RuleVerdict, report, verdicts
from jaxcon.ensembles._rules import ShapeRules
from jaxcon.ensembles._storage import load_ensemble, save_ensemble

__all__ = [
    "Ensemble",
    "EnsembleFit",
    "Frame",
    "Loss",
    "Options",
    "Report",
    "RuleProof",
    "RuleVerdict",
    "ShapeRules",
    "fit_ensemble",
    "load_ensemble",
    "plot_calibration",
    "plot_pair",
    "plot_rule",
    "prove",
    "read_frame",
    "read_target",
    "report",
    "save_ensemble",
    "verdicts",
]


def __dir__() -> list[str]:
    """Lists the public names."""
    return __all__
