"""Linear program that tells whether linear rows contradict one another."""

from functools import lru_cache
from typing import Any

import numpy as np

SOLVED = 1e-9  # tolerance of the linear program, for rows of length one
LARGEST = 100_000  # entries of rows; a dense program of more takes seconds and minutes
NAMED = 5  # rows that a message names at most


def contradiction(A: Any, b: Any, C: Any, lower: Any, upper: Any, eps: float) -> str:
    r"""Searches for the least violation of rows, and names those that force it.

    .. math::
        \min_{z, t} t \quad \text{subject to} \quad
        |A z - b| \le t, \; l - t \le C z \le u + t

    of rows scaled to length one. It is exact but for the tolerance of the program; more
    than 100,000 entries of rows are not searched.

    Args:
        A: one row for each equation, (k, m).
        b: (k,), finite.
        C: one row for each inequality, (p, m).
        lower: (p,), may be -inf.
        upper: (p,), may be inf.
        eps: machine epsilon of the numbers; contradictions of that size are rounding.

    Returns:
        The names of rows that no point obeys together, or "" where there is one that
        obeys all or they are too many to tell.
    """
    arrays = [np.asarray(array, np.float64) for array in (A, b, C, lower, upper)]
    if arrays[0].size + arrays[2].size > LARGEST:
        return ""
    sizes = arrays[1].size, arrays[3].size, arrays[2].shape[-1]
    return _contradiction(sizes, eps, *(array.tobytes() for array in arrays))


# A layer of a constant set asks anew whenever it is called.
@lru_cache(maxsize=8)
def _contradiction(sizes: tuple[int, int, int], eps: float, *data: bytes) -> str:
    from scipy.optimize import linprog

    k, p, m = sizes
    A, b, C, lower, upper = (np.frombuffer(one) for one in data)
    rows = np.concatenate([A.reshape(k, m), C.reshape(p, m)])
    low, high = np.concatenate([b, lower]), np.concatenate([b, upper])
    if ((low <= 0) & (high >= 0)).all():
        return ""  # zero obeys
    lengths = np.linalg.norm(rows, axis=1)
    lengths = np.where(lengths > 0, lengths, 1.0)
    rows, low, high = rows / lengths[:, None], low / lengths, high / lengths
    bounds = np.concatenate([low, high])
    size = np.abs(bounds[np.isfinite(bounds)]).max()
    below, above = np.isfinite(low), np.isfinite(high)
    ends = np.concatenate([high[above], -low[below]]) / size
    sides = np.concatenate([rows[above], -rows[below]])
    found = linprog(
        np.eye(m + 1)[m],
        A_ub=np.column_stack([sides, np.full(len(sides), -1.0)]),
        b_ub=ends,
        bounds=[(None, None)] * m + [(0, None)],
        options={"primal_feasibility_tolerance": SOLVED},
    )
    if found.status != 0:
        return ""  # the program gave up, which proves nothing
    rounding = 4 * (m + 10) * eps * max(1.0, np.abs(found.x[:m]).max())
    if found.x[m] <= max(rounding, 10 * SOLVED):
        return ""
    places = np.concatenate([np.flatnonzero(above), np.flatnonzero(below)])
    forces = np.unique(places[np.abs(found.ineqlin.marginals) > SOLVED]).tolist()
    names = [f"row {i} of A" if i < k else f"row {i - k} of C" for i in forces]
    more = [f"{len(names) - NAMED} more"] if len(names) > NAMED else []
    names = names[:NAMED] + more
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
