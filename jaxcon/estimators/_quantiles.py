"""Regression of several quantiles that never cross and obey shape rules."""

from typing import Any

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.utils.validation import check_is_fitted

from jaxcon._checks import check_array, check_number, described
from jaxcon.ensembles import Loss
from jaxcon.estimators._base import ShapeConstrained, target_of
from jaxcon.estimators._regressor import evaluation


class ShapeConstrainedQuantileRegressor(RegressorMixin, ShapeConstrained):
    r"""Quantile regression by an ensemble of smooth networks that obeys shape rules.

    All quantiles are fitted together by the pinball loss. Each member returns the least and
    positive distances to the next ones, so that quantiles never cross, nor do those of the
    members' mean. The rules hold of every quantile.

    Args:
        quantiles: levels between 0 and 1, rising.
        monotone_constraints: as in `ShapeConstrainedRegressor`.
        convex: columns or groups in which each quantile is convex.
        concave: columns or groups in which each is concave.
        bounds: (least, greatest) quantile, in the target's units.
        slope_bounds: by column, (least, greatest) slope.
        lipschitz: greatest norm of the gradient.
        unimodal: columns along which each quantile rises to a mode and falls beyond it.
        categorical_features: as in `ShapeConstrainedRegressor`.
        members: number of members.
        max_iter: training steps; chosen by the number of rows unless given.
        random_state: seed of members, folds and points.
        verbose: whether to print the held-out loss from time to time.

    Attributes:
        fitted_: the `jaxcon.ensembles.EnsembleFit`.

    References:
        Koenker and Bassett, Regression Quantiles, Econometrica 46 (1978), equation (2.1).

    Example:
        >>> import numpy as np
        >>> from jaxcon.estimators import ShapeConstrainedQuantileRegressor
        >>> x = np.linspace(0, 1, 60)[:, None]
        >>> y = x[:, 0] * (1 + np.sin(40 * x[:, 0]))
        >>> model = ShapeConstrainedQuantileRegressor(
        ...     (0.1, 0.5, 0.9), max_iter=100, random_state=0
        ... ).fit(x, y)
        >>> bool(np.all(np.diff(model.predict_quantiles(x), axis=1) > 0))
        True
    """

    def __init__(
        self,
        quantiles: Any = (0.05, 0.5, 0.95),
        *,
        monotone_constraints: Any = None,
        convex: Any = None,
        concave: Any = None,
        bounds: Any = None,
        slope_bounds: Any = None,
        lipschitz: Any = None,
        unimodal: Any = None,
        categorical_features: Any = "from_dtype",
        members: int = 8,
        max_iter: int | None = None,
        random_state: Any = None,
        verbose: int = 0,
    ):
        super().__init__(
            monotone_constraints=monotone_constraints,
            convex=convex,
            concave=concave,
            bounds=bounds,
            slope_bounds=slope_bounds,
            lipschitz=lipschitz,
            unimodal=unimodal,
            categorical_features=categorical_features,
            members=members,
            max_iter=max_iter,
            random_state=random_state,
            verbose=verbose,
        )
        self.quantiles = quantiles

    def fit(
        self, X: Any, y: Any, sample_weight: Any = None, eval_set: Any = None
    ) -> "ShapeConstrainedQuantileRegressor":
        """Fits the ensemble.

        Args:
            X: inputs, (rows, columns): an array, or a frame of pandas or polars.
            y: target, (rows,).
            sample_weight: of the rows, (rows,); 1 unless given.
            eval_set: (X, y) on which all members are stopped.

        Returns:
            The estimator.

        Raises:
            TypeError: an argument is of another type.
            ValueError: the levels do not rise between 0 and 1, or a rule names no column.
        """
        levels = self._levels()
        loss = Loss("quantile", len(levels), levels)
        frame = self._read(X, reset=True)
        target = target_of(y, frame.rows, loss)
        if eval_set is not None:
            other, known = evaluation(eval_set)
            theirs = self._read(other)
            eval_set = theirs, target_of(known, theirs.rows, loss)
        self._train(frame, target, sample_weight, eval_set, loss)
        return self

    def predict_quantiles(self, X: Any) -> np.ndarray:
        """Predicts all quantiles.

        Args:
            X: inputs, (rows, columns).

        Returns:
            (rows, quantiles), rising along each row.
        """
        return self._predicted(X)

    def predict(self, X: Any) -> np.ndarray:
        """Predicts the quantile whose level is nearest to 0.5.

        Args:
            X: inputs, (rows, columns).

        Returns:
            (rows,).
        """
        check_is_fitted(self, "fitted_")
        levels = np.array(self.fitted_.ensemble.loss.levels)
        return self._predicted(X)[:, np.argmin(np.abs(levels - 0.5))]

    def _levels(self) -> tuple[float, ...]:
        levels = np.atleast_1d(check_array("quantiles", self.quantiles, "() or (k,)"))
        for level in levels:
            check_number("quantiles", level, above=0, below=1)
        if not len(levels) or np.any(np.diff(levels) <= 0):
            raise ValueError(f"quantiles must rise, got {described(self.quantiles)}")
        return tuple(map(float, levels))
