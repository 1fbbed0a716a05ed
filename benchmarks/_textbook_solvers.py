"""Solvers of other libraries on one problem: float64, their own defaults, one tolerance."""

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import Bounds, NonlinearConstraint, minimize

from benchmarks._textbook_cases import Flat

TOLERANCE = 1e-9


class Answer(NamedTuple):
    """Answer of a solver.

    Attributes:
        x: the last point, as a vector.
        multipliers: of f + multipliers·residuals, one for each row, where it gives any.
        converged: it says that it is done.
        message: what it says.
    """

    x: np.ndarray
    multipliers: np.ndarray | None
    converged: bool
    message: str


def _multipliers(f: Flat, rows: np.ndarray, on_rows: Any, on_x: Any) -> np.ndarray:
    """Puts multipliers of general rows and of bounds (positive at the upper) in place."""
    out = np.zeros(len(f.equality))
    out[rows] = on_rows
    low, high = np.isfinite(f.lower), np.isfinite(f.upper)
    signed = np.concatenate([np.maximum(-on_x[low], 0), np.maximum(on_x[high], 0)])
    # A row may be a multiple of the bound itself.
    slopes = np.abs(np.array(f.jacobian(f.start))[f.bound]).sum(axis=1)
    out[f.bound] = signed / slopes
    return out


def _completed(f: Flat, x: np.ndarray, rows: np.ndarray, values: Any) -> np.ndarray:
    """Adds multipliers of bounds: at one, what is left of the Lagrangian's gradient."""
    rest = np.array(f.loss(x)[1]) + np.array(f.jacobian(x))[rows].T @ values
    near = TOLERANCE * np.maximum(1, np.abs(x))
    at = (x <= f.lower + near) | (x >= f.upper - near)
    return _multipliers(f, rows, values, np.where(at, -rest, 0.0))


def slsqp(f: Flat) -> Answer:
    """SciPy's SLSQP."""
    kinds = {"eq": f.equality, "ineq": ~f.equality & ~f.bound}
    rows = {kind: np.flatnonzero(which) for kind, which in kinds.items() if which.any()}
    found = minimize(
        lambda x: tuple(map(np.array, f.loss(x))),
        f.start,
        jac=True,
        method="SLSQP",
        bounds=Bounds(f.lower, f.upper),
        constraints=[
            {
                "type": kind,
                "fun": lambda x, at=at: -np.array(f.residuals(x))[at],
                "jac": lambda x, at=at: -np.array(f.jacobian(x))[at],
            }
            for kind, at in rows.items()
        ],
        options={"ftol": TOLERANCE},
    )
    order = np.concatenate([*rows.values(), np.zeros(0)]).astype(int)
    multipliers = _completed(f, found.x, order, found.multipliers)
    return Answer(found.x, multipliers, found.success, found.message)


def trust_constr(f: Flat) -> Answer:
    """SciPy's trust-constr."""
    rows = np.flatnonzero(~f.bound)
    constraint = NonlinearConstraint(
        lambda x: np.array(f.residuals(x))[rows],
        np.where(f.equality[rows], 0.0, -np.inf),
        0.0,
        jac=lambda x: np.array(f.jacobian(x))[rows],  # pyright: ignore[reportArgumentType]
    )
    bounded = f.bound.any()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = minimize(
            lambda x: tuple(map(np.array, f.loss(x))),
            f.start,
            jac=True,
            method="trust-constr",
            bounds=Bounds(f.lower, f.upper) if bounded else None,
            constraints=[constraint] if len(rows) else [],
            options={"gtol": TOLERANCE, "xtol": TOLERANCE, "barrier_tol": TOLERANCE},
        )
    on_rows = found.v[0] if len(rows) else np.zeros(0)
    on_x = found.v[-1] if bounded else np.zeros(len(f.start))
    multipliers = _multipliers(f, rows, on_rows, on_x)
    return Answer(found.x, multipliers, found.success, found.message)


def ipopt(f: Flat) -> Answer:
    """Ipopt, through CasADi, with exact Hessians."""
    import casadi  # pyright: ignore[reportMissingImports]

    rows = np.flatnonzero(~f.bound)
    n, m = len(f.start), len(rows)

    class Called(casadi.Callback):
        """A function of NumPy arrays that CasADi can call."""

        def __init__(self, name: str, shapes: Any, out: Any, function: Any) -> None:
            casadi.Callback.__init__(self)
            self.shapes, self.out, self.function = shapes, out, function
            self.construct(name, {})

        def get_n_in(self) -> int:
            return len(self.shapes)

        def get_n_out(self) -> int:
            return len(self.out)

        def get_sparsity_in(self, i: int) -> Any:
            return casadi.Sparsity.dense(*self.shapes[i])

        def get_sparsity_out(self, i: int) -> Any:
            rows, columns, upper = self.out[i]
            if upper:
                return casadi.Sparsity.upper(rows)
            return casadi.Sparsity.dense(rows, columns)

        def eval(self, arguments: Any) -> Any:
            return self.function(*(np.array(a).ravel() for a in arguments))

    def lagrangian_hessian(x: Any, _: Any, factor: Any, at_rows: Any) -> Any:
        every = np.zeros(len(f.equality))
        every[rows] = at_rows
        return [casadi.triu(casadi.DM(np.array(f.hessian(x, factor[0], every))))]

    def gradient(x: Any, _: Any) -> Any:
        return [np.array(part) for part in f.loss(x)]

    def jacobian(x: Any, _: Any) -> Any:
        return [np.array(f.residuals(x))[rows], np.array(f.jacobian(x))[rows]]

    x, vector, scalar = casadi.MX.sym("x", n), (n, 1), (1, 1)
    loss = Called("f", [vector], [(1, 1, False)], lambda x: [float(f.loss(x)[0])])
    program = {"x": x, "f": loss(x)}
    options = {
        "grad_f": Called(
            "grad_f", [vector, (0, 1)], [(1, 1, False), (n, 1, False)], gradient
        ),
        "hess_lag": Called(
            "hess_lag",
            [vector, (0, 1), scalar, (m, 1)],
            [(n, n, True)],
            lagrangian_hessian,
        ),
        "ipopt.tol": TOLERANCE,
        "ipopt.print_level": 0,
        "ipopt.sb": "yes",
        "print_time": False,
        "no_nlp_grad": True,
    }
    if m:
        g = Called(
            "g", [vector], [(m, 1, False)], lambda x: [np.array(f.residuals(x))[rows]]
        )
        program["g"] = g(x)
        options["jac_g"] = Called(
            "jac_g", [vector, (0, 1)], [(m, 1, False), (m, n, False)], jacobian
        )
    solver = casadi.nlpsol("solver", "ipopt", program, options)
    found = solver(
        x0=f.start,
        lbx=f.lower,
        ubx=f.upper,
        lbg=np.where(f.equality[rows], 0.0, -np.inf),
        ubg=np.zeros(m),
    )
    status = solver.stats()
    on_rows, on_x = np.array(found["lam_g"]).ravel(), np.array(found["lam_x"]).ravel()
    multipliers = _multipliers(f, rows, on_rows, on_x)
    end = np.array(found["x"]).ravel()
    return Answer(end, multipliers, status["success"], status["return_status"])


def slsqp_jax(f: Flat) -> Answer:
    """slsqp-jax, as `minimize_like_scipy`."""
    import optimistix  # pyright: ignore[reportMissingImports]
    from slsqp_jax import minimize_like_scipy  # pyright: ignore[reportMissingImports]

    kinds = {"eq": f.equality, "ineq": ~f.equality & ~f.bound}
    rows = {kind: np.flatnonzero(which) for kind, which in kinds.items() if which.any()}
    found = minimize_like_scipy(
        lambda x: f.loss(x)[0],
        jnp.asarray(f.start),
        bounds=Bounds(f.lower, f.upper) if f.bound.any() else None,
        constraints=[
            {"type": kind, "fun": lambda x, at=at: -f.residuals(x)[at]}
            for kind, at in rows.items()
        ],
        options={"rtol": TOLERANCE, "atol": TOLERANCE},
    )
    end, values = np.array(found.value), []
    for kind, at in rows.items():  # those of bounds follow, in other units
        values.append(np.array(found.stats[f"multipliers_{kind}_user"])[: len(at)])
    order = np.concatenate([*rows.values(), np.zeros(0)]).astype(int)
    multipliers = _completed(f, end, order, np.concatenate([*values, np.zeros(0)]))
    converged = bool(found.result == optimistix.RESULTS.successful)
    return Answer(end, multipliers, converged, optimistix.RESULTS[found.result])


def ours(f: Flat) -> Answer:
    """The default of jaxcon."""
    import jaxcon as jc

    problem = f.problem
    start = jax.tree.map(jnp.asarray, problem.start)
    posed = jc.Lagrangian(problem.loss, problem.constraints)
    found = jc.solve(posed, start, progress=False)
    parts = [found.state.multipliers.equality, found.state.multipliers.inequality]
    order = [problem.constraints.equality, problem.constraints.inequality]
    rows = [np.ravel(part[name]) for part, names in zip(parts, order) for name in names]
    verdicts = found.diagnosis.verdicts
    return Answer(
        np.concatenate(
            [np.ravel(leaf) for leaf in jax.tree.leaves(found.state.params)]
        ),
        np.concatenate([*rows, np.zeros(0)]),
        verdicts[0].kind == "converged",
        str(found.diagnosis),
    )


SOLVERS: dict[str, Callable[[Flat], Answer]] = {
    "jaxcon": ours,
    "SLSQP": slsqp,
    "trust-constr": trust_constr,
    "Ipopt": ipopt,
    "slsqp-jax": slsqp_jax,
}
