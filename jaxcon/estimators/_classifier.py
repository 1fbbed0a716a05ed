"""Classification whose probabilities obey shape rules."""

from typing import Any

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import column_or_1d

from jaxcon.ensembles import Loss
from jaxcon.ensembles._checked import read_weight
from jaxcon.estimators._base import ShapeConstrained
from jaxcon.estimators._regressor import evaluation


class ShapeConstrainedClassifier(ClassifierMixin, ShapeConstrained):
    r"""Classification by an ensemble of smooth networks whose probabilities obey rules.

    The rules are of the probability of the second class, ``classes_[1]``. Of more than two
    classes, `monotone_constraints` takes a dict by class, as in
    ``{"age": {"ill": 1, "well": -1}}``, and the other rules hold of every probability. The
    probabilities are means of the members', and sum to 1.

    Args:
        monotone_constraints: as in `ShapeConstrainedRegressor`, of the probability.
        convex: columns or groups in which the probability is convex.
        concave: columns or groups in which it is concave.
        bounds: (least, greatest) probability.
        slope_bounds: by column, (least, greatest) slope, per input unit.
        lipschitz: greatest norm of the gradient, per input unit.
        unimodal: columns along which it rises to a mode and falls beyond it.
        categorical_features: as in `ShapeConstrainedRegressor`.
        members: number of members.
        max_iter: training steps; chosen by the number of rows unless given.
        random_state: seed of members, folds and points.
        verbose: whether to print the held-out loss from time to time.

    Attributes:
        classes_: labels, sorted.
        fitted_: the `jaxcon.ensembles.EnsembleFit`.

    Example:
        >>> import numpy as np
        >>> from jaxcon.estimators import ShapeConstrainedClassifier
        >>> x = np.linspace(-1, 1, 60)[:, None]
        >>> model = ShapeConstrainedClassifier(
        ...     monotone_constraints={0: 1}, max_iter=100, random_state=0
        ... ).fit(x, x[:, 0] + 0.3 * np.sin(20 * x[:, 0]) > 0)
        >>> bool(np.all(np.diff(model.predict_proba(x)[:, 1]) >= 0))
        True
    """

    classes_: np.ndarray

    def fit(
        self, X: Any, y: Any, sample_weight: Any = None, eval_set: Any = None
    ) -> "ShapeConstrainedClassifier":
        """Fits the ensemble.

        Args:
            X: inputs, (rows, columns): an array, or a frame of pandas or polars.
            y: labels, (rows,).
            sample_weight: of the rows, (rows,); 1 unless given.
            eval_set: (X, y) on which all members are stopped.

        Returns:
            The estimator.

        Raises:
            TypeError: an argument is of another type.
            ValueError: a rule names no column or contradicts another, or there is only
                one class.
        """
        frame = self._read(X, reset=True)
        labels = _labels(y, frame.rows)
        self.classes_, numbers = np.unique(labels, return_inverse=True)
        count = len(self.classes_)
        kept = read_weight("sample_weight", sample_weight, frame.rows) > 0
        if len(set(numbers[kept])) < 2:
            raise ValueError(
                "ShapeConstrainedClassifier needs labels of at least 2 classes, got 1 class"
            )
        loss = Loss("binary") if count == 2 else Loss("multinomial", count)
        if eval_set is not None:
            other, known = evaluation(eval_set)
            theirs = self._read(other)
            eval_set = theirs, self._numbers(_labels(known, theirs.rows))
        self._train(
            frame, numbers, sample_weight, eval_set, loss, self.classes_.tolist()
        )
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """Predicts the probability of each class.

        Args:
            X: inputs, (rows, columns).

        Returns:
            (rows, classes), in the order of `classes_`.
        """
        found = self._predicted(X)
        if found.shape[1] > 1:
            return found
        return np.column_stack([1 - found[:, 0], found[:, 0]])

    def predict(self, X: Any) -> np.ndarray:
        """Predicts the most probable class.

        Args:
            X: inputs, (rows, columns).

        Returns:
            Labels, (rows,).
        """
        found = self.predict_proba(X)
        return self.classes_[np.argmax(found, axis=1)]

    def _numbers(self, labels: np.ndarray) -> np.ndarray:
        unknown = np.setdiff1d(labels, self.classes_).tolist()
        if unknown:
            raise ValueError(f"eval_set has a label {unknown[0]!r} that y has not")
        return np.searchsorted(self.classes_, labels)


def _labels(y: Any, rows: int) -> np.ndarray:
    """Reads labels."""
    if y is None:
        raise ValueError("requires y to be passed, but the target y is None")
    try:
        y = y if hasattr(y, "dtype") else np.asarray(y)
    except ValueError:
        raise ValueError(
            "y must be one label for each row, got a ragged list"
        ) from None
    if y.dtype.kind == "c":
        raise ValueError("Complex data not supported: y")
    labels = column_or_1d(y, warn=True)
    if labels.dtype.kind == "f" and not np.all(np.isfinite(labels)):
        raise ValueError("y contains NaN or infinity")
    check_classification_targets(labels)
    if len(labels) != rows:
        raise ValueError(f"X has {rows} rows, y has {len(labels)}")
    return labels
