"""What a model is to an experiment: from jobs to what predicts the test rows.

A model trains what a job says. Most jobs are one Dask task each; the model of a job that uses
the whole cluster itself says so (`Model.distributed`) and is called where the client is. A job is
one trial, or all of them where a model trains them at once (`Model.lockstep`).
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ...display import meant, suggestion
from ...errors import InvalidOptionError
from ...whole_numbers import is_whole
from ..experiment import ModelSpec, Setting
from ..job import Job
from ..rows import BLOCK
from ..scoring import PIECE, Fitted, Scores

if TYPE_CHECKING:
    from distributed import Client

GPU = "GPU"  # the resource of a worker that has one
TOPIC = "dskrobust-epoch"  # events of epochs that jobs are through with, for progress displays


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
    image_shape : tuple of int, optional
        How a row is seen as a picture, where the store says so.
    itemsize : int
        Bytes of a stored feature.
    trials : int
        How often a model is trained that is not deterministic.
    """

    categorical: bool
    columns: int
    train: Mapping[str, int]
    test: Mapping[str, int]
    classes: int = 0
    image_shape: tuple[int, ...] | None = None
    itemsize: int = 8
    trials: int = 1

    def answer_bytes(self, models: int = 1) -> int:
        """Bytes of what some models say of a block of test rows, and of a piece of it by class."""
        rows = min(BLOCK, sum(self.test.values()))
        classes = max(1, self.classes)
        return models * (rows * 16 + 3 * 8 * min(rows * classes, max(PIECE, classes)))


@dataclass(frozen=True)
class Outcome:
    """What a model found that measures its predictions itself.

    Attributes
    ----------
    rows : list of dict
        As a record has them: train, test, setting, loss, acc; where the job is all trials, trial
        and seed too.
    facts : mapping
        Plain values that the record keeps beside its rows.
    arrays : mapping of str to ndarray
        Kept beside the record.
    earlier : float
        Seconds of attempts that were cut short, from whose checkpoints it went on.
    """

    rows: list[dict[str, Any]]
    facts: Mapping[str, Any] = field(default_factory=dict)
    arrays: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    earlier: float = 0.0


KINDS: dict[str, type[Model]] = {}  # by name, of all modules that are imported
PATHS: dict[str, type[Model]] = {}  # by what import paths begin with


class Model(ABC):
    """A kind of model in an experiment; made of a `ModelSpec` once per job.

    Attributes
    ----------
    spec : ModelSpec
    distributed : bool
        Whether `fit` uses the whole cluster itself and needs the client; otherwise it is
        called inside one Dask task, with None for the client.
    lockstep : bool
        Whether all trials are one job.
    chosen_by : {"acc", "loss"}
        What chooses the swept hyper-parameter in the paper's tables.
    instead : str
        What to do where the training data does not fit a worker, after "raise the limit".
    own_parameters : tuple of str
        Hyper-parameters that are ours and not the library's.
    known_options : tuple of str
    """

    distributed: ClassVar[bool] = False
    lockstep: ClassVar[bool] = False
    chosen_by: ClassVar[str] = "acc"
    instead: ClassVar[str] = ""
    own_parameters: ClassVar[tuple[str, ...]] = ()
    known_options: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls, *, kind: str = "", paths: str | None = None) -> None:
        """Make a class known to experiments.

        Parameters
        ----------
        kind : str, optional
            Its name.
        paths : str, optional
            What import paths begin with that it takes for a kind; "" for all of them.
        """
        if kind:
            KINDS[kind] = cls
        if paths is not None:
            PATHS[paths] = cls

    def __init__(self, spec: ModelSpec) -> None:
        self.spec = spec

    @property
    def sweep(self) -> str:
        """The hyper-parameter that is chosen in the paper's tables; "" for none."""
        return next(iter((*self.own_parameters, *self.spec.grid)), "")

    @property
    def own_sweep(self) -> tuple[str, ...]:
        """Hyper-parameters that are not in the grid as the model chooses their values itself."""
        return ()

    @property
    def resources(self) -> Mapping[str, int]:
        """What a worker must have to run a job, such as ``{"GPU": 1}``, and how much of it."""
        return {}

    def lacks(self, problem: Problem) -> str:
        """Return what this process lacks to run a job; asked on every worker that may run one."""
        return ""

    def identity(self) -> dict[str, Any]:
        """Return what a record depends on besides the setting, as plain values."""
        return self.spec.identity()

    def seed_identity(self) -> dict[str, Any]:
        """Return what seeds depend on besides the setting, as plain values."""
        return self.identity()

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

    def streamed_bytes(self, rows: int, problem: Problem) -> int | None:
        """Return bytes of a worker that trains from the store part by part; None for who cannot.

        Asked where a model uses the whole cluster, which cannot hold its training data.
        """
        return None

    @abstractmethod
    def fit(self, job: Job, client: Client | None) -> Iterator[Fitted | Scores | Outcome]:
        """Yield what was trained on a job's subsets, for all of its settings, in any order.

        As models that predict test rows here (`Fitted`), as sums over test rows that workers have
        predicted (`Scores`), or as what came of it otherwise (`Outcome`).
        """

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
                near = meant(key, self.known_options)
                raise self.refuse(f"option {key!r} is unknown{near}; {hint}")

    def check_names(self, known: Iterable[str]) -> None:
        """Refuse hyper-parameters that are neither ours nor among the library's."""
        names = sorted({*self.own_parameters, *known})
        for key in (*self.spec.grid, *self.spec.parameters):
            if key not in names:
                raise self.refuse(f"hyper-parameter {key!r} is unknown; {suggestion(key, names)}")

    def check_whole(self, name: str, least: int = 1, most: float = np.inf) -> None:
        """Refuse values of a hyper-parameter that are no whole numbers in a range."""
        values = self.spec.grid.get(name, ())
        if name in self.spec.parameters:
            values = (self.spec.parameters[name],)
        for value in values:
            if not is_whole(value, least, most):
                limit = f"from {least} on" if most == np.inf else f"from {least} to {most:,}"
                raise self.refuse(f"{name} must be a whole number {limit}, not {value!r}")
