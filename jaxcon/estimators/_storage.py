"""Files of fitted estimators."""

from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from jaxcon._checks import check_type
from jaxcon.ensembles import EnsembleFit, load_ensemble, save_ensemble
from jaxcon.estimators._base import ShapeConstrained
from jaxcon.estimators._classifier import ShapeConstrainedClassifier
from jaxcon.estimators._quantiles import ShapeConstrainedQuantileRegressor
from jaxcon.estimators._regressor import ShapeConstrainedRegressor

_KINDS = {
    kind.__name__: kind
    for kind in (
        ShapeConstrainedClassifier,
        ShapeConstrainedQuantileRegressor,
        ShapeConstrainedRegressor,
    )
}


def save(estimator: ShapeConstrained, path: Any) -> None:
    """Writes a fitted estimator to a file without code, in the safetensors format.

    Args:
        estimator: fitted.
        path: of the file, which is replaced as a whole.

    Raises:
        TypeError: it is no estimator of jaxcon, or a parameter has no form in JSON.
        NotFittedError: it was not fitted.
        OSError: the file cannot be written.

    Example:
        >>> import tempfile, os, numpy as np
        >>> from jaxcon.estimators import ShapeConstrainedRegressor, load, save
        >>> x = np.linspace(0, 1, 30)[:, None]
        >>> model = ShapeConstrainedRegressor(max_iter=100).fit(x, x[:, 0])
        >>> path = os.path.join(tempfile.mkdtemp(), "model.safetensors")
        >>> save(model, path)
        >>> bool(np.all(load(path).predict(x) == model.predict(x)))
        True
    """
    check_type("estimator", estimator, ShapeConstrained, "an estimator of jaxcon")
    check_is_fitted(estimator, "fitted_")
    parameters = estimator.get_params(deep=False)
    if isinstance(parameters["random_state"], np.random.RandomState):
        parameters["random_state"] = None
    extra: dict[str, Any] = {
        "estimator": type(estimator).__name__,
        "parameters": {name: _pairs(value) for name, value in parameters.items()},
        "n_features_in_": estimator.n_features_in_,
    }
    fitted = estimator.fitted_
    extra["fit"] = {
        name: value for name, value in fitted._asdict().items() if name != "ensemble"
    }
    for name in ("feature_names_in_", "classes_"):
        if hasattr(estimator, name):
            extra[name] = getattr(estimator, name).tolist()
    save_ensemble(fitted.ensemble, path, extra)


def load(path: Any) -> Any:
    """Reads an estimator that `save` wrote.

    Args:
        path: of the file.

    Returns:
        The fitted estimator.

    Raises:
        OSError: the file cannot be read.
        ValueError: it holds no estimator, or is damaged.
    """
    ensemble, extra = load_ensemble(path)
    if extra.get("estimator") not in _KINDS:
        raise ValueError(f"{path} holds no estimator of jaxcon")
    parameters = {name: _unpaired(one) for name, one in extra["parameters"].items()}
    estimator = _KINDS[extra["estimator"]](**parameters)
    fit = extra["fit"]
    estimator.fitted_ = EnsembleFit(
        ensemble,
        np.array(fit["losses"]),
        fit["decay"],
        np.array(fit["own"]),
        fit["steps"],
        tuple(fit["residuals"]),
        tuple(fit["active"]),
    )
    estimator.n_features_in_ = extra["n_features_in_"]
    for name in ("feature_names_in_", "classes_"):
        if name in extra:
            kind = object if name == "feature_names_in_" else None
            setattr(estimator, name, np.array(extra[name], kind))
    return estimator


def _pairs(value: Any) -> Any:
    """Writes dicts as lists of pairs, since JSON's keys are text alone."""
    if isinstance(value, dict):
        return {"pairs": [[key, _pairs(one)] for key, one in value.items()]}
    if isinstance(value, (list, tuple)):
        return [_pairs(one) for one in value]
    return value


def _unpaired(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _unpaired(one) for key, one in value["pairs"]}
    return [_unpaired(one) for one in value] if isinstance(value, list) else value
