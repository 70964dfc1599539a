"""What a model is to an experiment, and which models there are.

A model turns jobs into predictions. Most jobs are one Dask task each; the model of a job that uses
the whole cluster itself says so (`Model.distributed`) and is called where the client is.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ..errors import InvalidOptionError
from ..store import EvaluationRecords
from .experiment import ModelSpec, Setting, suggestion

if TYPE_CHECKING:
    from distributed import Client

KINDS = {
    "knn": ".knn:NearestNeighbours",
    "forest": ".forest:Forest",
    "xgboost": ".boosting:BoostedTrees",
    "xgboost-forest": ".boosting:ParallelTrees",
}
ANY_ESTIMATOR = ".estimators:AnyEstimator"


@dataclass(frozen=True)
class Problem:
    """What is known of the data and the subsets before anything is read.

    Attributes
    ----------
    categorical : bool
        Whether labels are classes; real numbers otherwise.
    columns : int
    train, test : mapping of str to int
        Rows of every subset.
    classes : int
        How many classes there are; 0 for real labels, and before the labels are read.
    """

    categorical: bool
    columns: int
    train: Mapping[str, int]
    test: Mapping[str, int]
    classes: int = 0


@dataclass(frozen=True)
class Job:
    """One step of an experiment: what is trained and tested at once, and kept as one record.

    Attributes
    ----------
    records : EvaluationRecords
        Where the store is, where the subsets' row numbers lie and the record goes.
    name : str
        Of the record.
    model : ModelSpec
    train, test : tuples of (name, key)
        Subsets, and the keys of their row numbers among the records.
    settings : tuple of Setting
        Hyper-parameters that are swept, one table row each (and per subset).
    trial : int
        From 1 on.
    seed : int
        Below 2³².
    classes : tuple
        Labels in the order of the columns of probabilities; empty for real labels.
    threshold : float, optional
        Of the pseudo-classification (paper, 4.1), in the stored labels' units.
    """

    records: EvaluationRecords
    name: str
    model: ModelSpec
    train: tuple[tuple[str, str], ...]
    test: tuple[tuple[str, str], ...]
    settings: tuple[Setting, ...]
    trial: int
    seed: int
    classes: tuple[Any, ...]
    threshold: float | None = None


@dataclass(frozen=True)
class Prediction:
    """What a model trained on one subset with one setting says of all test rows.

    Attributes
    ----------
    train : str
    setting : Setting
    values : ndarray (n,)
        Labels, for the rows of `rows.test_side` in their order.
    probabilities : ndarray (n, classes), optional
        Columns in the order of `Job.classes`; without them a classifier has no LOSS.
    """

    train: str
    setting: Setting
    values: NDArray[Any]
    probabilities: NDArray[Any] | None = None


class Model(ABC):
    """A kind of model in an experiment; made of a `ModelSpec` once per job.

    Attributes
    ----------
    spec : ModelSpec
    distributed : bool
        Whether `predict` uses the whole cluster itself and needs the client; otherwise it is
        called inside one Dask task, with None for the client.
    instead : str
        What to do where the training data does not fit a worker, after "raise the limit".
    own_parameters : tuple of str
        Hyper-parameters that are ours and not the library's.
    known_options : tuple of str
    """

    distributed: ClassVar[bool] = False
    instead: ClassVar[str] = ""
    own_parameters: ClassVar[tuple[str, ...]] = ()
    known_options: ClassVar[tuple[str, ...]] = ()

    def __init__(self, spec: ModelSpec) -> None:
        self.spec = spec

    @property
    def sweep(self) -> str:
        """The hyper-parameter that is chosen by ACC in the paper's tables; "" for none."""
        return next(iter((*self.own_parameters, *self.spec.grid)), "")

    @staticmethod
    def default_grid(categorical: bool) -> Mapping[str, Sequence[Any]]:
        """Return what is swept where an experiment gives no grid."""
        return {}

    @abstractmethod
    def check(self, problem: Problem) -> None:
        """Check hyper-parameters and options against the data; nothing is read or trained.

        Raises
        ------
        InvalidOptionError
            Naming the model and the hyper-parameter.
        """

    def steps(self, trains: Sequence[str]) -> Iterable[tuple[tuple[str, ...], tuple[Setting, ...]]]:
        """Return which training subsets and settings are done in one job.

        Here one subset, and the settings that have the same seed (`seeded_by`).
        """
        together: dict[str, list[Setting]] = {}
        for setting in self.spec.settings:
            together.setdefault(json.dumps(self.seeded_by([setting])), []).append(setting)
        for train in trains:
            for settings in together.values():
                yield (train,), tuple(settings)

    def trials(self, wanted: int) -> int:
        """Return how often a job is repeated: once where every trial would be the same."""
        return wanted

    def seeded_by(self, settings: Sequence[Setting]) -> Setting:
        """Return the hyper-parameters that a job's seed depends on: what its settings share."""
        first = settings[0].items()
        return {k: v for k, v in first if all(s[k] == v for s in settings)}

    def task_bytes(self, rows: int, problem: Problem) -> tuple[int, int]:
        """Return bytes of the training data, kept once a worker, and of each training beside it.

        Of a model that uses the whole cluster: what all its workers together have to hold.
        """
        return 0, 0

    @abstractmethod
    def predict(self, job: Job, client: Client | None) -> Iterator[Prediction]:
        """Yield one prediction per training subset and setting of a job, in any order."""

    # -- for the checks of subclasses ------------------------------------------------------

    def refuse(self, what: str) -> InvalidOptionError:
        """Return the error that names this model."""
        return InvalidOptionError(f"model {self.spec.name}: {what}")

    def check_options(self) -> None:
        """Refuse options that mean nothing to this model."""
        for key in self.spec.options:
            if key not in self.known_options:
                known = ", ".join(self.known_options)
                hint = f"it has {known}" if known else "it has none"
                raise self.refuse(f"option {key!r} is unknown; {hint}")

    def check_names(self, known: Iterable[str]) -> None:
        """Refuse hyper-parameters that are neither ours nor among the library's."""
        names = sorted({*self.own_parameters, *known})
        for key in (*self.spec.grid, *self.spec.parameters):
            if key not in names:
                raise self.refuse(f"hyper-parameter {key!r} is unknown; {suggestion(key, names)}")

    def check_whole(self, name: str, least: int = 1, most: float = np.inf) -> None:
        """Refuse values of a hyper-parameter that are no whole numbers in a range."""
        given = self.spec.grid.get(name, ())
        if name in self.spec.parameters:
            given = (self.spec.parameters[name],)
        for value in given:
            if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
                limit = f"from {least} on" if most == np.inf else f"from {least} to {most:,}"
                raise self.refuse(f"{name} must be a whole number {limit}, not {value!r}")


def model_class(kind: str) -> type[Model]:
    """Return the class of a kind of model.

    Raises
    ------
    InvalidOptionError
        For an unknown kind.
    """
    if kind not in KINDS and "." not in kind:
        raise InvalidOptionError(
            f"model {kind!r} is unknown; {suggestion(kind, list(KINDS))}, or give the import path "
            "of a scikit-learn estimator such as sklearn.svm.SVC"
        )
    module, name = KINDS.get(kind, ANY_ESTIMATOR).split(":")
    found: type[Model] = getattr(import_module(module, __package__), name)
    return found
