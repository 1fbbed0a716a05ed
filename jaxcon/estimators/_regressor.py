"""Regression whose predictions obey shape rules."""

from typing import Any

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.utils.validation import check_is_fitted

from jaxcon._checks import check_choice, check_number
from jaxcon.ensembles import Loss
from jaxcon.ensembles._losses import REGRESSION
from jaxcon.estimators._base import ShapeConstrained, target_of


class ShapeConstrainedRegressor(RegressorMixin, ShapeConstrained):
    r"""Regression by an ensemble of smooth networks that obeys shape rules.

    .. math:: F(x) = (1 - t) \, \tfrac1K \sum_k f_k(x) + t f_0(x)

    Every member f_k is a linear part plus a network, trained under a penalty on its exact
    derivatives, stopped on rows of its own that it holds out; weight decay is chosen by all
    of them. A search over the box of the training data finds the worst violation of the
    mean, which is moved to a function f_0 that obeys strictly until nothing is left of it.
    Inputs outside the box are predicted as their nearest neighbours in it.

    Args:
        loss: "squared_error", "absolute_error", "huber", "poisson" or "gamma"; the last two
            predict a positive mean.
        monotone_constraints: 1 (must not fall), -1 (must not rise) or 0 by column, a dict
            by name or number, or a sequence of one for each column.
        convex: columns along each of which the prediction is convex; a group, as in
            ``[("a", "b")]``, in which it is convex jointly.
        concave: columns or groups in which it is concave.
        bounds: (least, greatest) prediction, in the target's units; None for no bound.
        slope_bounds: by column, (least, greatest) slope, in target units per input unit.
        lipschitz: greatest Euclidean norm of the gradient along all columns of numbers, in
            target units per input unit.
        unimodal: columns along which the prediction rises to a mode and falls beyond it, or
            a dict of the modes' places by column.
        categorical_features: "from_dtype" (columns of categories or text of a frame), names
            or numbers of columns, or a dict of the levels in their order by column, None
            where they have none.
        log_target: whether members fit the logarithm of a positive target, for one that
            runs over decades. The prediction is still of the mean.
        members: number of members.
        max_iter: training steps; chosen by the number of rows unless given.
        random_state: seed of members, folds and points.
        verbose: whether to print the held-out loss from time to time.

    Attributes:
        fitted_: the `jaxcon.ensembles.EnsembleFit`.
        n_features_in_: number of columns.
        feature_names_in_: their names, where a frame was fitted.

    References:
        Breiman, Bagging Predictors, Machine Learning 24 (1996).

    Example:
        >>> import numpy as np
        >>> from jaxcon.estimators import ShapeConstrainedRegressor
        >>> x = np.linspace(0, 1, 40)[:, None]
        >>> model = ShapeConstrainedRegressor(
        ...     monotone_constraints=[1], max_iter=100, random_state=0
        ... ).fit(x, np.sqrt(x[:, 0]))
        >>> bool(np.all(np.diff(model.predict(x)) >= 0))
        True
    """

    def __init__(
        self,
        loss: str = "squared_error",
        *,
        monotone_constraints: Any = None,
        convex: Any = None,
        concave: Any = None,
        bounds: Any = None,
        slope_bounds: Any = None,
        lipschitz: Any = None,
        unimodal: Any = None,
        categorical_features: Any = "from_dtype",
        log_target: bool = False,
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
        self.loss = loss
        self.log_target = log_target

    def fit(
        self, X: Any, y: Any, sample_weight: Any = None, eval_set: Any = None
    ) -> "ShapeConstrainedRegressor":
        """Fits the ensemble.

        Args:
            X: inputs, (rows, columns): an array, or a frame of pandas or polars. NaN and
                None are missing values.
            y: target, (rows,).
            sample_weight: of the rows, (rows,); 1 unless given.
            eval_set: (X, y) on which all members are stopped and their decay is chosen,
                instead of rows that each holds out.

        Returns:
            The estimator.

        Raises:
            TypeError: an argument is of another type.
            ValueError: a rule names no column, contradicts another, or the data hold
                infinity.
        """
        loss = self._loss()
        frame = self._read(X, reset=True)
        target = target_of(y, frame.rows, loss)
        if eval_set is not None:
            other, known = evaluation(eval_set)
            frame_of_it = self._read(other)
            eval_set = frame_of_it, target_of(known, frame_of_it.rows, loss)
        self._train(frame, target, sample_weight, eval_set, loss)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Predicts the target.

        Args:
            X: inputs, (rows, columns).

        Returns:
            (rows,), in the target's units.
        """
        return self._predicted(X)[:, 0]

    def predict_interval(self, X: Any, level: float = 0.9) -> np.ndarray:
        """Predicts intervals that hold new targets, by split conformal prediction.

        Both ends obey the rules as the prediction does; where a bound cuts an end off, it
        is flat, and need not be convex or concave there.

        Args:
            X: inputs, (rows, columns).
            level: share of new targets that the intervals are to hold.

        Returns:
            Lower and upper ends, (rows, 2).

        Raises:
            ValueError: `level` is not between 0 and 1.
        """
        check_number("level", level, above=0, below=1)
        check_is_fitted(self, "fitted_")
        return self.fitted_.ensemble.predict_interval(self._read(X), level)

    def _loss(self) -> Loss:
        check_choice("loss", self.loss, REGRESSION)
        if self.log_target:
            if self.loss != "squared_error":
                raise ValueError("log_target is for the squared error")
            return Loss("log_squared_error")
        return Loss(self.loss)


def evaluation(given: Any) -> tuple[Any, Any]:
    """Reads an evaluation set as scikit-learn's (X, y) or as LightGBM's [(X, y)].

    Args:
        given: either.

    Returns:
        X and y.

    Raises:
        TypeError: it is neither.
    """
    if isinstance(given, list) and len(given) == 1:
        given = given[0]
    if not isinstance(given, (tuple, list)) or len(given) != 2:
        raise TypeError("eval_set must be (X, y)")
    return given[0], given[1]
