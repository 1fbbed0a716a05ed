"""Base of the estimators: inputs, rules, and the fit."""

import warnings
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data

from jaxcon._checks import check_number, described
from jaxcon.ensembles import (
    EnsembleFit,
    Frame,
    Loss,
    Options,
    fit_ensemble,
    read_frame,
    read_target,
)
from jaxcon.ensembles._checked import read_weight
from jaxcon.ensembles._frame import as_table
from jaxcon.estimators._spelling import categorical_of, rules_of


class ShapeConstrained(BaseEstimator):
    """Base of estimators whose predictions obey shape rules."""

    fitted_: EnsembleFit
    n_features_in_: int
    feature_names_in_: np.ndarray

    def __init__(
        self,
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
        self.monotone_constraints = monotone_constraints
        self.convex = convex
        self.concave = concave
        self.bounds = bounds
        self.slope_bounds = slope_bounds
        self.lipschitz = lipschitz
        self.unimodal = unimodal
        self.categorical_features = categorical_features
        self.members = members
        self.max_iter = max_iter
        self.random_state = random_state
        self.verbose = verbose

    def __sklearn_tags__(self) -> Any:
        """Returns scikit-learn's tags: missing values and categories are read."""
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.categorical = True
        tags.input_tags.string = True
        return tags

    @property
    def n_iter_(self) -> int:
        """Number of training steps."""
        return self.fitted_.steps

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Returns names of the entries into which inputs are encoded.

        Args:
            input_features: unused; scikit-learn passes it.

        Returns:
            One for each number and each level of a category, and one for each column
            with missing values.
        """
        check_is_fitted(self, "fitted_")
        names = []
        for column in self.fitted_.ensemble.columns:
            names += column.entry_names
        return np.array(names, object)

    def _read(self, X: Any, *, reset: bool = False) -> Frame:
        """Reads inputs, and refuses others than those that were fitted."""
        if hasattr(X, "columns") and hasattr(X, "__getitem__"):
            names = list(X.columns)
            if not reset:
                self._refuse_order(list(map(str, names)))
            with warnings.catch_warnings():
                # scikit-learn 1.6 does not see the names of a frame of polars.
                warnings.filterwarnings("ignore", "X does not have valid feature names")
                validate_data(self, X, reset=reset, skip_check_array=True)
            if reset and all(isinstance(one, str) for one in names):
                self.feature_names_in_ = np.array(names, object)
            known = list(getattr(self, "feature_names_in_", names))
            if names != known:
                raise ValueError(
                    "The feature names should match those that were passed during fit: "
                    f"got {names[:20]}, fitted were {known[:20]}"
                )
            frame = read_frame(X)
            if frame.rows == 0:
                raise ValueError("Found array with 0 sample(s): X has no row")
            return frame
        if not hasattr(X, "tocsr"):  # of a sparse matrix, which scikit-learn refuses
            X = as_table(X)
        X = validate_data(
            self, X, reset=reset, dtype=None, ensure_all_finite="allow-nan"
        )
        names = getattr(self, "feature_names_in_", None)
        return read_frame(X, None if names is None else list(names))

    def _refuse_order(self, names: list[str]) -> None:
        """Refuses a frame with the fitted columns in another order, and names them."""
        known = list(getattr(self, "feature_names_in_", names))
        if names != known and sorted(names) == sorted(known):
            place = next(at for at, one in enumerate(known) if names[at] != one)
            raise ValueError(
                "The feature names should match those that were passed during fit.\n"
                "Feature names must be in the same order as they were in fit.\n"
                f"Column {place} is {names[place]!r}, and was {known[place]!r}"
            )

    def _train(
        self,
        frame: Frame,
        y: np.ndarray,
        sample_weight: Any,
        eval_set: tuple[Frame, np.ndarray] | None,
        loss: Loss,
        classes: Any = (),
    ) -> None:
        """Fits the ensemble to inputs and a numeric target."""
        check_number("members", self.members, least=1, most=1000, whole=True)
        if self.max_iter is not None:
            check_number("max_iter", self.max_iter, least=1, whole=True)
        if not isinstance(self.verbose, bool):
            check_number("verbose", self.verbose, least=0, whole=True)
        weight = read_weight("sample_weight", sample_weight, frame.rows)
        held_out = None
        if eval_set is not None:
            held_out = np.arange(frame.rows + eval_set[0].rows) >= frame.rows
            weight = np.concatenate([weight, np.ones(eval_set[0].rows)])
            frame, y = frame.followed_by(eval_set[0]), np.append(y, eval_set[1])
        seed = self._drawn()
        self.fitted_ = fit_ensemble(
            frame,
            y,
            loss,
            rules_of(
                frame,
                monotone_constraints=self.monotone_constraints,
                convex=self.convex,
                concave=self.concave,
                bounds=self.bounds,
                slope_bounds=self.slope_bounds,
                lipschitz=self.lipschitz,
                unimodal=self.unimodal,
                classes=classes,
            ),
            weight=weight,
            held_out=held_out,
            categorical=categorical_of(self.categorical_features, frame),
            options=Options(self.members, self.max_iter, seed),
            watch=_say if self.verbose else None,
        )

    def _drawn(self) -> int:
        """Draws the seed of a fit."""
        try:
            if isinstance(self.random_state, bool):
                raise ValueError
            return int(check_random_state(self.random_state).randint(2**31 - 1))
        except ValueError:
            raise ValueError(
                "random_state must be a whole number from 0, a RandomState or None, got "
                f"{described(self.random_state)}"
            ) from None

    def _predicted(self, X: Any) -> np.ndarray:
        """Computes predictions (rows, m)."""
        check_is_fitted(self, "fitted_")
        return self.fitted_.ensemble.predict(self._read(X))


def target_of(y: Any, rows: int, loss: Loss) -> np.ndarray:
    """Reads a target; of one column it warns as scikit-learn does.

    Args:
        y: numbers, (rows,).
        rows: their number.
        loss: of the target.

    Returns:
        (rows,) of float64.

    Raises:
        TypeError: `y` holds no numbers.
        ValueError: it is of another shape, holds NaN or infinity, or is out of range.
    """
    if getattr(y, "shape", ())[1:] == (1,):
        y = column_or_1d(y, warn=True)
    return read_target(y, rows, loss)


def _say(done: int, steps: int, loss: float) -> None:
    print(f"step {done} of {steps}: held-out loss {loss:.4g}")
