"""Probes: what is fitted to activations and labels, its one setting chosen by cross-validation over disjoint groups.

scikit-learn's estimators on coordinates of standard deviation 1; `logistic` alone gives all coordinates one scale, for
what is to be a direction. Sources: the methods that Kantamneni et al. 2502.16681 compare (section 3), and the mean
difference of Marks & Tegmark 2310.06824.
"""

import warnings
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, get_args

import numpy as np

from tools.workbench.splits import folds
from tools.workbench.stats import auroc

Estimator = Literal["mean_difference", "logistic", "pca", "nearest", "mlp"]
ESTIMATORS: tuple[Estimator, ...] = get_args(Estimator)
PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # inverse strengths of the logistic probe's
COMPONENTS = (1, 4, 16, 64)
NEIGHBOURS = (1, 5, 25)
DECAYS = (10.0, 1.0, 0.01)  # of the MLP's weights
WIDTH = 32  # of its hidden layer
STEPS = 500
L2 = 0.1  # inverse strength of a direction's penalty


class Probe(NamedTuple):
    """vector: float64[d], norm 1, pointing to the positive class. See `Direction` for norm, centre and slope."""

    vector: np.ndarray
    norm: float
    centre: float
    slope: float

    def log_odds(self, x: np.ndarray) -> np.ndarray:
        """float64[n] of the positive class, of x [n, d]."""
        return np.asarray(self.slope * (x @ self.vector - self.centre))


class Fitted(NamedTuple):
    """model: fitted, float64[n, d] to scores by `scores`. chosen: its setting. validated: mean AUROC over the folds on
    the training texts, what to choose between sites by; 0.5 where they are too few for folds."""

    estimator: Estimator
    model: Any
    chosen: float
    validated: float

    def scores(self, x: np.ndarray) -> np.ndarray:
        """float64[n], greater for what looks positive."""
        return _scores(self.model, x)

    @property
    def is_linear(self) -> bool:
        return self.estimator in ("mean_difference", "logistic", "pca")


def fit_probe(
    estimator: Estimator,
    x: np.ndarray,
    positive: np.ndarray,
    groups: np.ndarray,
    seed: int,
    setting: float | None = None,
) -> Fitted:
    """The probe of x [n, d] for positive bool[n]; groups int64[n] are kept whole in cross-validation.

    setting: taken as it is, without cross-validation. Of settings that do equally well the first is taken.
    """
    cuts = folds(positive, groups, seed) if setting is None else []
    settings = _settings(estimator, x, cuts) if setting is None else [setting]
    validated = [_validated(_model(estimator, each, seed), x, positive, cuts) for each in settings]
    best = int(np.argmax(validated))
    model = _model(estimator, settings[best], seed)
    fit_quietly(model, x, positive)
    return Fitted(estimator, model, settings[best], validated[best])


def linear(fitted: Fitted, x: np.ndarray, positive: np.ndarray) -> Probe:
    """A linear probe as a direction of the activations [n, d] that it was fitted on; see `Direction`. The mean
    difference is no classifier: its slope is 0."""
    steps = dict(fitted.model.steps)
    weights = np.asarray(steps["fit"].coef_[0], float)
    if "pca" in steps:
        weights = weights @ steps["pca"].components_
    if "scale" in steps:
        weights = weights / steps["scale"].scale_
    length = float(np.linalg.norm(weights)) or 1.0
    vector = weights / length
    projections = x @ vector
    ends = float(projections[positive].mean()), float(projections[~positive].mean())
    if fitted.estimator == "mean_difference":
        return Probe(vector, ends[0] - ends[1], sum(ends) / 2, 0.0)
    bias = float(fitted.scores(np.zeros((1, x.shape[1])))[0])
    return Probe(vector, ends[0] - ends[1], -bias / length, length)


def logistic(x: np.ndarray, positive: np.ndarray) -> Probe:
    """A logistic probe of x [n, d] for bool[n] with a fixed penalty. One scale for all coordinates: a rotation of x
    rotates its vector."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import Pipeline

    model = Pipeline([("scale", _OneScale()), ("fit", LogisticRegression(C=L2, max_iter=4 * STEPS))])
    fit_quietly(model, x, positive)
    return linear(Fitted("logistic", model, L2, 0.5), x, positive)


class _OneScale:
    """Coordinates less their means, over the standard deviation of them all together."""

    def fit(self, x: np.ndarray, positive: np.ndarray) -> "_OneScale":
        self.mean_ = x.mean(0)
        self.scale_ = float((x - self.mean_).std()) or 1.0
        return self

    def transform(self, x: np.ndarray) -> np.ndarray:
        return np.asarray((x - self.mean_) / self.scale_)


class _MeanDifference:
    """The projection on the difference of the classes' means; spelled as a pipeline of one step."""

    @property
    def steps(self) -> list[tuple[str, Any]]:
        return [("fit", self)]

    def fit(self, x: np.ndarray, positive: np.ndarray) -> "_MeanDifference":
        self.coef_ = (x[positive].mean(0) - x[~positive].mean(0))[None]
        return self

    def decision_function(self, x: np.ndarray) -> np.ndarray:
        return np.asarray(x @ self.coef_[0])


def _settings(estimator: Estimator, x: np.ndarray, cuts: Sequence[tuple[np.ndarray, np.ndarray]]) -> list[float]:
    fewest = min((len(fit) for fit, _ in cuts), default=len(x))
    match estimator:
        case "mean_difference":
            return [0.0]
        case "logistic":
            return list(PENALTIES)
        case "pca":
            return [k for k in COMPONENTS if k <= min(fewest, x.shape[1])]
        case "nearest":
            return [k for k in NEIGHBOURS if k <= fewest]
        case "mlp":
            return list(DECAYS)


def _model(estimator: Estimator, setting: float, seed: int) -> Any:
    from sklearn.decomposition import PCA
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import StandardScaler

    scale = ("scale", StandardScaler())
    match estimator:
        case "mean_difference":
            return _MeanDifference()
        case "logistic":
            return Pipeline([scale, ("fit", LogisticRegression(C=setting, max_iter=STEPS))])
        case "pca":
            parts = PCA(int(setting), random_state=seed)
            return Pipeline([scale, ("pca", parts), ("fit", LogisticRegression(max_iter=STEPS))])
        case "nearest":
            return Pipeline([scale, ("fit", KNeighborsClassifier(int(setting)))])
        case "mlp":
            network = MLPClassifier((WIDTH,), max_iter=STEPS, alpha=setting, random_state=seed)
            return Pipeline([scale, ("fit", network)])


def _validated(model: Any, x: np.ndarray, positive: np.ndarray, cuts: Sequence[tuple[np.ndarray, np.ndarray]]) -> float:
    found = []
    for rows, others in cuts:
        fit_quietly(model, x[rows], positive[rows])
        scores = _scores(model, x[others])
        found.append(auroc(scores[positive[others]], scores[~positive[others]]))
    return float(np.mean(found)) if found else 0.5


def fit_quietly(model: Any, x: np.ndarray, positive: np.ndarray) -> None:
    """Fits a model, whether or not it converges: it is graded on held-out texts all the same."""
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(x, positive)


def _scores(model: Any, x: np.ndarray) -> np.ndarray:
    if hasattr(model, "decision_function"):
        return np.asarray(model.decision_function(x), float)
    return np.asarray(model.predict_proba(x)[:, 1], float)
