"""Report of which parameters data determine, and how well."""

import html
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxcon._checks import check_number


class NonIdentifiable(NamedTuple):
    """Group of parameters that the data cannot determine separately.

    Attributes:
        parameters: their names.
        directions: independent steps of them (q, len(parameters)), in their units, that
            change no prediction to first order; their lengths mean nothing.
        num_known: the number of independent combinations of them that can be known.
        combinations: their formulas; none if there are more than five parameters.
        everywhere: whether the combinations are the same at another point too, and so
            belong to the model; else they hold near this point only, to first order.
        beside_network: whether a network is fitted with them, so that directions which
            the network makes up for count as changing no prediction.
    """

    parameters: tuple[str, ...]
    directions: np.ndarray
    num_known: int
    combinations: tuple[str, ...]
    everywhere: bool
    beside_network: bool = False

    @property
    def reason(self) -> str:
        """Reason why none of them can be known, as half a sentence."""
        if not self.num_known and self.beside_network:
            return (
                f"the network can make up for any change of {self.parameters[0]} here"
            )
        if not self.num_known:
            return f"no prediction moves with {self.parameters[0]} here"
        if not self.combinations:
            return (
                f"{len(self.parameters)} parameters, {self.parameters[0]} the first of "
                f"them, act together, and only {self.num_known} combinations can be known"
            )
        near = "" if self.everywhere else " near this point,"
        return (
            f"of {listed(self.parameters)},{near} only {listed(self.combinations)} "
            "can be known"
        )


class Identification(NamedTuple):
    """Identification of p parameters from data; it prints as sentences.

    Attributes:
        names: of the parameters, without a network's; an entry of an array has its index
            behind it.
        estimate: their values, (p,).
        fisher: the Fisher information (p, p).
        covariance: the Cramér-Rao bound (p, p); of a parameter that is not determined,
            infinity on the diagonal and NaN beside it.
        singular_values: of the whitened Jacobian with columns of length one, along the
            constraints if there are any, (p,).
        rank: the number of them that exceed `tolerance` times the largest.
        tolerance: of the rank, without a unit.
        confounded: groups of parameters that are not determined; none if all are.
        degrees_of_freedom: of the estimated noise, beside a network no whole number;
            infinity if the noise is known.
    """

    names: tuple[str, ...]
    estimate: np.ndarray
    fisher: np.ndarray
    covariance: np.ndarray
    singular_values: np.ndarray
    rank: int
    tolerance: float
    confounded: tuple[NonIdentifiable, ...]
    degrees_of_freedom: float

    @property
    def determined(self) -> tuple[str, ...]:
        """Names of the parameters that have a standard error."""
        lost = {name for group in self.confounded for name in group.parameters}
        return tuple(name for name in self.names if name not in lost)

    @property
    def standard_errors(self) -> dict[str, float]:
        """Standard errors by name, in the parameters' units, of determined ones only."""
        return {name: self.standard_error(name) for name in self.determined}

    def standard_error(self, name: str) -> float:
        """Returns the standard error of one parameter, in its units.

        Args:
            name: of the parameter.

        Returns:
            The square root of its entry on the covariance's diagonal.

        Raises:
            ValueError: the data do not determine it, or there is no such parameter.
        """
        index = self._index(name)
        return float(np.sqrt(self.covariance[index, index]))

    def interval(self, name: str, level: float = 0.95) -> tuple[float, float]:
        r"""Returns the confidence interval of one parameter.

        .. math::
            \hat\theta_i \pm q \sqrt{C_{ii}}

        with q the quantile of the normal distribution, or of Student's t if the noise
        was estimated.

        Args:
            name: of the parameter.
            level: the probability that it covers the truth, between 0 and 1.

        Returns:
            Lower and upper end, in the parameter's units.

        Raises:
            ValueError: the data do not determine it, there is no such parameter, or
                `level` is no probability.
        """
        # scipy.special takes a tenth of a second to import.
        from scipy.special import ndtri, stdtrit

        check_number("level", level, above=0, below=1)
        above = (1 + level) / 2
        known = np.isinf(self.degrees_of_freedom)
        q = ndtri(above) if known else stdtrit(self.degrees_of_freedom, above)
        half = float(q) * self.standard_error(name)
        center = float(self.estimate[self._index(name)])
        return center - half, center + half

    def _index(self, name: str) -> int:
        if not isinstance(name, str) or name not in self.names:
            raise ValueError(
                f"there is no parameter {name!r}; there are {listed(self.names)}"
            )
        for group in self.confounded:
            if name in group.parameters:
                raise ValueError(
                    f"{name} is not determined by these data: {group.reason}"
                )
        return self.names.index(name)

    def __str__(self) -> str:
        lines = [
            f"{name} = {value:.6g}, standard error {self.standard_error(name):.2g}"
            for name, value in zip(self.names, self.estimate)
            if name in self.determined
        ]
        lines += [
            f"not determined by these data: {group.reason}" for group in self.confounded
        ]
        if not self.rank and not self.confounded:
            lines.append("the constraints alone determine all parameters")
            return ".\n".join(lines) + "."
        smallest = self.singular_values[self.rank - 1] if self.rank else 0.0
        lines.append(
            f"rank {self.rank} of {len(self.names)} (smallest singular value "
            f"{smallest:.2g}, tolerance {self.tolerance:.2g})"
        )
        return ".\n".join(lines) + "."

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(str(self))}</pre>"


def listed(words: Sequence[str]) -> str:
    """Joins words by commas and a final "and"."""
    *most, last = words
    return f"{', '.join(most)} and {last}" if most else last
