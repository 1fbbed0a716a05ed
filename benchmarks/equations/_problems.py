"""List of the differential equations."""

from collections.abc import Callable

from benchmarks.equations import _evolutions as evolutions
from benchmarks.equations import _steady as steady
from benchmarks.equations._equation import Equation

EQUATIONS: dict[str, Callable[[], Equation]] = {
    "Poisson": steady.poisson,
    "Laplace, 10 inputs": steady.poisson_10,
    "Helmholtz (1, 4)": steady.helmholtz,
    "Klein-Gordon": evolutions.klein_gordon,
    "Burgers": evolutions.burgers,
    "Allen-Cahn": evolutions.allen_cahn,
    "convection, 30": lambda: evolutions.convection(30.0),
    "convection, 50": lambda: evolutions.convection(50.0),
    "reaction, 5": evolutions.reaction,
    "wave": evolutions.wave,
    "KdV": evolutions.korteweg_de_vries,
    "Kuramoto-Sivashinsky": evolutions.kuramoto_sivashinsky,
    "Kovasznay": steady.kovasznay,
    "plate": steady.plate,
    "L-shape": steady.l_shape,
    "heat, Robin": evolutions.robin,
}
