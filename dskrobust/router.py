"""A model for every part of the robustness spectrum, as a scikit-learn meta-estimator."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, MetaEstimatorMixin, clone, is_classifier, is_regressor
from sklearn.exceptions import DataConversionWarning
from sklearn.metrics import accuracy_score, r2_score
from sklearn.model_selection import ParameterGrid
from sklearn.utils import Tags, get_tags
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from .datasets.containers import refuse_infinite
from .datasets.frames import take_labels
from .declared_types import is_number, told
from .errors import ContradictionWarning, InvalidOptionError
from .estimator import SampleRobustness, checked_features, sklearn_errors
from .evaluation.windows import ALL, Windows
from .part_choice import FoldScores, Interval, corrected_interval, held_out, part_cuts
from .runs import RunOptions
from .user_warnings import warn
from .whole_numbers import check_whole

Rows = NDArray[np.int64]
# as scikit-learn's own estimators say it
COLUMN = "A column-vector y was passed when a 1d array was expected; its only column is taken"


class Option(NamedTuple):
    """What a part may be served by.

    Attributes
    ----------
    train : str
        Window of the training spectrum, or "all".
    parameters : dict
        Of the estimator.
    """

    train: str
    parameters: dict[str, Any]


def _has_probabilities(router: RobustnessRouter) -> bool:
    return hasattr(getattr(router, "estimator_", router.estimator), "predict_proba")


class RobustnessRouter(MetaEstimatorMixin, BaseEstimator):
    """Serve every sample by the model that suits its part of the robustness spectrum.

    R of a new sample would need its label. So one model, trained on all samples, predicts a label;
    R under that label (for classes a matter of the distance to the nearest training sample of any
    other one) says in which part of the spectrum the sample lies, and the part's model answers.
    Which window of the training spectrum and which hyper-parameters serve a part is chosen on
    held-out samples, placed in the same way. A part that nothing serves surely better keeps the one
    model. Whether all that gains anything is told by `gain_`: it often does not.

    Parameters
    ----------
    estimator : estimator
        A classifier or regressor of scikit-learn's interface.
    param_grid : dict or list of dict, optional
        Hyper-parameters that are tried, as `GridSearchCV` takes them; its own without it.
    parts : int
        Into how many parts, of equally many samples, the spectrum is cut.
    windows : int or Windows, optional
        Windows of the training spectrum that are tried beside all samples, each of half of them
        where only their number is given; None for hyper-parameters alone.
    cv : int
        Folds, 3 or more, in which each sample is held out once.
    margin : float
        How many standard errors a choice has to be better by than the one model on everything.
    metric : str, Metric or callable
        As for `sample_robustness`.
    scale : float
        Features are multiplied by it for the robustness only.
    options : RunOptions, optional
        How robustness is computed, as for `SampleRobustness`.
    random_state : int
        Of the folds.

    Attributes
    ----------
    estimator_ : estimator
        The one model, trained on all samples with the hyper-parameters that are best for all.
    models_ : list of estimator
        Of every part, from the least to the most robust; `estimator_` itself where it stays.
    options_ : list of Option
        Training window and hyper-parameters of every part.
    baseline_ : Option
        Those of the one model.
    cuts_ : ndarray (parts - 1,) float64
        R at which the parts meet; empty where there are too few samples, or labels, for parts.
    gain_ : Interval
        Accuracy (for regression R²) that routing gains over the one model, with its 95 % interval,
        cross-fitted: each fold is measured with what the scores of the others choose.
    part_gains_ : list of Interval
        The same in every part.
    classes_ : ndarray
        Of classifiers.
    robustness_ : SampleRobustness
        What places samples.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.neighbors import KNeighborsClassifier
    >>> X, y = load_digits(return_X_y=True)
    >>> router = RobustnessRouter(KNeighborsClassifier(), {"n_neighbors": [1, 5]}, scale=1 / 16)
    >>> router.fit(X[:1000], y[:1000]).gain_.verdict
    'no difference'
    """

    def __init__(
        self,
        estimator: Any,
        param_grid: Any = None,
        *,
        parts: int = 3,
        windows: int | Windows | None = 5,
        cv: int = 5,
        margin: float = 1.0,
        metric: Any = "euclidean",
        scale: float = 1.0,
        options: RunOptions | None = None,
        random_state: int = 0,
    ) -> None:
        self.estimator = estimator
        self.param_grid = param_grid
        self.parts = parts
        self.windows = windows
        self.cv = cv
        self.margin = margin
        self.metric = metric
        self.scale = scale
        self.options = options
        self.random_state = random_state

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        own = get_tags(self.estimator)
        tags.estimator_type = own.estimator_type
        tags.classifier_tags, tags.regressor_tags = own.classifier_tags, own.regressor_tags
        tags.target_tags.required = True
        if tags.classifier_tags is not None:
            tags.classifier_tags.multi_label = False
        return tags

    def fit(self, X: ArrayLike, y: ArrayLike) -> RobustnessRouter:
        """Choose and train a model for every part.

        Parameters
        ----------
        X : array_like, shape (n, d)
        y : array_like, shape (n,)

        Returns
        -------
        RobustnessRouter

        Raises
        ------
        InvalidOptionError
            For an estimator that is neither classifier nor regressor, and fewer than 2 parts or 3
            folds.
        InvalidDataError
            For values that are sparse, masked, missing or infinite.
        """
        self._check_options()
        X, y = self._checked(X, y)
        if self._classifies:
            self.classes_ = np.unique(y)
        grid = [Option(ALL, p) for p in ParameterGrid(self.param_grid or {})]
        study = self._study(X, y, grid)
        self.baseline_ = grid[0] if study is None else study.options[study.scores.baseline]
        self.estimator_ = self._trained(self.baseline_, X, y)
        self.cuts_ = np.empty(0) if study is None else study.cuts
        if study is None:
            self.options_, self.models_ = [self.baseline_], [self.estimator_]
            self._gains([Interval(0.0, 0.0, 0.0)])
            return self
        self.robustness_ = self._placing(X, y)
        self._keep(study, X, y)
        return self

    def _keep(self, study: Study, X: NDArray[Any], y: NDArray[Any]) -> None:
        """Train what was chosen, on all samples, and keep what it gains."""
        order = np.argsort(self.robustness_.robustness_, kind="stable")
        rows = windows_of(self.windows, order)
        self.options_ = [study.options[k] for k in study.scores.choice()]
        made = {repr(self.baseline_): self.estimator_}
        for option in self.options_:
            if repr(option) not in made:
                own = rows[option.train]
                made[repr(option)] = self._trained(option, X[own], y[own])
        self.models_ = [made[repr(option)] for option in self.options_]
        gains = study.scores.cross_fitted().T
        self._gains([corrected_interval(g, 1 / (self.cv - 1)) for g in gains])

    def _gains(self, intervals: list[Interval]) -> None:
        """Keep what is gained in every part, and over all of them."""
        self.part_gains_, self.gain_ = intervals[:-1], intervals[-1]

    def _study(self, X: NDArray[Any], y: NDArray[Any], grid: Sequence[Option]) -> Study | None:
        """Measure all options on held-out samples; None where there are too few for that."""
        if len(y) < 4 * self.cv * self.parts or len(np.unique(y)) < 2:
            return None
        names = list(windows_of(self.windows, np.arange(len(y))))
        options = [Option(name, option.parameters) for name in names for option in grid]
        made = []
        for held in held_out(y, self.cv, self.random_state, by_class=self._classifies):
            rest = np.setdiff1d(np.arange(len(y)), held)
            if len(np.unique(y[rest])) < 2:
                return None
            made.append(self._measured(X, y, (rest, held), options))
        return self._joined(options, made, X)

    def _joined(
        self, options: Sequence[Option], made: Sequence[Measured], X: NDArray[Any]
    ) -> Study | None:
        """Place the samples of all folds by what the one model predicts, and cut the spectrum."""
        totals = np.concatenate([fold.scores for fold in made]).mean(axis=0)
        known = ~np.isnan(totals)
        whole = np.array([option.train == ALL for option in options])
        best = int(np.argmax(np.where(whole & known, totals, -np.inf)))
        places = [self._places(fold.placing, X[fold.held], fold.answers[best]) for fold in made]
        try:
            cuts = part_cuts(np.concatenate(places), self.parts)
        except InvalidOptionError:  # most samples lie at one place
            return None
        scores = np.full((len(made), self.parts, int(known.sum())), np.nan)
        rows = np.zeros(scores.shape[:2], np.int64)
        for f, (fold, at) in enumerate(zip(made, places, strict=True)):
            codes = np.searchsorted(cuts, at, side="right")
            rows[f] = np.bincount(codes, minlength=self.parts)
            for p in np.flatnonzero(rows[f]):
                scores[f, p] = fold.scores[codes == p][:, known].mean(axis=0)
        kept = [option for option, there in zip(options, known, strict=True) if there]
        return Study(kept, FoldScores(scores, rows, whole[known], self.margin), cuts)

    def _measured(
        self, X: NDArray[Any], y: NDArray[Any], fold: tuple[Rows, Rows], options: Sequence[Option]
    ) -> Measured:
        """Return how good every option is on every held-out sample of a fold."""
        rest, held = fold
        placing = self._placing(X[rest], y[rest])
        rows = windows_of(self.windows, np.argsort(placing.robustness_, kind="stable"))
        scores, answers = np.full((len(held), len(options)), np.nan), []
        for k, option in enumerate(options):
            own = rest[rows[option.train]]
            try:
                answers.append(self._trained(option, X[own], y[own]).predict(X[held]))
            except ValueError:  # a window of a single class, or of fewer samples than neighbours
                if option.train == ALL:
                    raise
                answers.append(None)
                continue
            scores[:, k] = self._scored(y, y[held], answers[-1])
        return Measured(held, placing, scores, answers)

    def _scored(self, y: NDArray[Any], true: NDArray[Any], answer: NDArray[Any]) -> Any:
        """Return 1 for right classes; of values what they add to R² of everything."""
        if self._classifies:
            return true == answer
        return 1 - np.square(true - answer) / y.var()

    # -- models and places -----------------------------------------------------------------------

    @property
    def _classifies(self) -> bool:
        return bool(is_classifier(self.estimator))

    def _trained(self, option: Option, X: NDArray[Any], y: NDArray[Any]) -> Any:
        return clone(self.estimator).set_params(**option.parameters).fit(X, y)

    def _placing(self, X: NDArray[Any], y: NDArray[Any]) -> SampleRobustness:
        labels = "categorical" if self._classifies else "real"
        made = SampleRobustness(self.metric, labels, self.scale, self.options)
        with warnings.catch_warnings():  # contradictions: R of such samples is 0, as it should be
            warnings.simplefilter("ignore", ContradictionWarning)
            return made.fit(X, y)

    def _places(
        self, placing: SampleRobustness, X: NDArray[Any], predicted: NDArray[Any]
    ) -> NDArray[np.float64]:
        """Return R of samples under predicted labels."""
        if not self._classifies:  # 3.4 is for labels within the norm
            bound = placing.label_norm_
            predicted = np.clip(np.asarray(predicted, np.float64), -bound, bound)
        return placing.score_samples(X, predicted)

    def _check_options(self) -> None:
        own = self.estimator
        tagged = hasattr(own, "__sklearn_tags__") and not isinstance(own, type)
        if not tagged or not (is_classifier(own) or is_regressor(own)):
            raise InvalidOptionError(
                f"{told(own)} is neither a classifier nor a regressor; only "
                "what predicts labels can be routed"
            )
        for name, least in (("parts", 2), ("cv", 3)):
            check_whole(name, getattr(self, name), least)
        if not is_number(self.margin) or not self.margin >= 0:
            raise InvalidOptionError(f"margin must be a number from 0 on, not {told(self.margin)}")

    # -- new samples -----------------------------------------------------------------------------

    def parts_of(self, X: ArrayLike) -> NDArray[np.int64]:
        """Return the part of the spectrum that each sample is placed in, 0 the least robust.

        Parameters
        ----------
        X : array_like, shape (k, d)

        Returns
        -------
        ndarray (k,) int64
        """
        return self._routed(self._new(X))[0]

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Return labels, each by the model of the sample's part.

        Parameters
        ----------
        X : array_like, shape (k, d)

        Returns
        -------
        ndarray (k,)
        """
        X = self._new(X)
        parts, predicted = self._routed(X)
        for rows, model in self._others(parts):
            predicted[rows] = model.predict(X[rows])
        return predicted

    @available_if(_has_probabilities)
    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return probabilities of the classes, each by the model of the sample's part.

        Parameters
        ----------
        X : array_like, shape (k, d)

        Returns
        -------
        ndarray (k, classes) float64
            In the order of `classes_`; 0 for classes that a part's training window does not have.
        """
        X = self._new(X)
        likely = self.estimator_.predict_proba(X)
        for rows, model in self._others(self._routed(X)[0]):
            likely[rows] = 0.0
            columns = np.searchsorted(self.classes_, model.classes_)
            likely[np.ix_(rows, columns)] = model.predict_proba(X[rows])
        return likely

    def score(self, X: ArrayLike, y: ArrayLike) -> float:
        """Return the accuracy of a classifier, R² of a regressor.

        Parameters
        ----------
        X : array_like, shape (k, d)
        y : array_like, shape (k,)

        Returns
        -------
        float
        """
        measure = accuracy_score if self._classifies else r2_score
        return float(measure(y, self.predict(X)))

    def _routed(self, X: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[Any]]:
        """Return the part of every sample, and what the one model predicts."""
        predicted = np.array(self.estimator_.predict(X))
        if not len(self.cuts_):
            return np.zeros(len(X), np.int64), predicted
        places = self._places(self.robustness_, X, predicted)
        return np.searchsorted(self.cuts_, places, side="right"), predicted

    def _others(self, parts: NDArray[np.int64]) -> Iterator[tuple[Rows, Any]]:
        """Yield the samples of every part that is not served by the one model, and its model."""
        for part, model in enumerate(self.models_):
            rows = np.flatnonzero(parts == part)
            if model is not self.estimator_ and len(rows):
                yield rows, model

    # -- checks ----------------------------------------------------------------------------------

    def _checked(self, X: Any, y: Any) -> tuple[NDArray[Any], NDArray[Any]]:
        if getattr(y, "ndim", 1) == 2 and y.shape[1] == 1:
            warn(COLUMN, DataConversionWarning)
        X, y = checked_features(X), take_labels(y)
        refuse_infinite(y, "y")
        finite = {"dtype": "numeric", "ensure_all_finite": False}
        with sklearn_errors():
            X, y = validate_data(
                self, X, y, ensure_min_samples=2, y_numeric=not self._classifies, **finite
            )
            if self._classifies:
                check_classification_targets(y)
        refuse_infinite(X, "X")
        return X, y

    def _new(self, X: Any) -> NDArray[Any]:
        check_is_fitted(self)
        X = checked_features(X)
        with sklearn_errors():
            X = validate_data(self, X, reset=False, dtype="numeric", ensure_all_finite=False)
        refuse_infinite(X, "X")
        return X


class Measured(NamedTuple):
    """A fold: what every option is worth on its held-out samples.

    Attributes
    ----------
    held : ndarray (h,) int64
    placing : SampleRobustness
        Of the samples that remain.
    scores : ndarray (h, options) float64
        More is better; NaN where an option could not be trained.
    answers : list of ndarray (h,) or None
        What every option predicts.
    """

    held: Rows
    placing: SampleRobustness
    scores: NDArray[np.float64]
    answers: list[Any]


class Study(NamedTuple):
    """What was measured on all folds.

    Attributes
    ----------
    options : list of Option
    scores : FoldScores
    cuts : ndarray (parts - 1,) float64
    """

    options: list[Option]
    scores: FoldScores
    cuts: NDArray[np.float64]


def windows_of(windows: int | Windows | None, order: Rows) -> dict[str, Rows]:
    """Return all samples and every window of their order, from the least to the most robust."""
    found = {ALL: np.sort(order)}
    if windows is not None:
        ranks = Windows.of(windows).ranks(len(order))
        found |= {name: np.sort(order[a:b]) for name, (a, b) in ranks.items()}
    return found
