"""Any scikit-learn estimator by its import path, one Dask task each."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ...own_code import imported, no_exit
from ...processes import ProcessLock, in_children
from ..experiment import Setting
from ..job import Job
from ..rows import training_data
from ..scoring import Answer
from .base import Model, Problem

if TYPE_CHECKING:
    from distributed import Client

SEED = "random_state"


class _Quiet:
    """Silences warnings while any thread is inside; the filters are those of the whole process.

    `warnings.catch_warnings` in threads that overlap would leave one's filters to the others.
    """

    def __init__(self) -> None:
        self._lock, self._inside, self._before = ProcessLock(), 0, ExitStack()
        in_children(self._leave)

    def _leave(self) -> None:
        """Restore the filters in a forked child: whoever is inside stays in the parent."""
        self._inside = 0
        self._before.close()

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._before.enter_context(warnings.catch_warnings())
                warnings.simplefilter("ignore")
            self._inside += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._before.close()


_QUIET = _Quiet()


class AnyEstimator(Model, paths=""):
    """An estimator with fit and predict, such as ``sklearn.svm.SVC``.

    The import path names a class, or a function that returns an estimator (a pipeline of your
    own). Features are float64. An estimator that has ``random_state`` gets the trial's seed, and
    every part of it (of a pipeline, say) whose ``random_state`` is None one that follows from it;
    where nothing is random, a single trial is made. A classifier without ``predict_proba`` has no
    LOSS.
    """

    instead = ", or take an estimator with partial_fit, as incremental:PATH"
    protocol: ClassVar[tuple[str, ...]] = ("fit", "predict", "get_params", "set_params")

    @property
    def path(self) -> str:
        """Where the estimator is imported from."""
        return self.spec.kind

    def make(self, setting: Setting) -> Any:
        """Return a new estimator with a setting.

        Raises
        ------
        InvalidOptionError
            Where the path leads to nothing, or to no estimator.
        """
        module, _, name = self.path.rpartition(".")
        try:
            factory = imported(module, name)
        except Exception as error:  # whatever a module does when it is imported
            raise self.refuse(f"{self.spec.kind!r} cannot be imported: {error}") from error
        if isinstance(factory, type):  # of a function only what it returns shows it
            self._check_protocol(factory)
        try:
            with no_exit():
                estimator = factory()
        except Exception as error:
            raise self.refuse(f"{self.spec.kind} cannot be made: {error}") from error
        self._check_protocol(estimator)
        self.check_names(estimator.get_params())
        given = {**self.spec.parameters, **setting}
        return estimator.set_params(
            **{key: value for key, value in given.items() if key not in self.own_parameters}
        )

    def _check_protocol(self, value: Any) -> None:
        for needed in self.protocol:
            if not hasattr(value, needed):
                raise self.refuse(f"{self.spec.kind} is no scikit-learn estimator: no {needed}")

    def check(self, problem: Problem) -> None:
        from sklearn.base import is_classifier, is_regressor

        self.check_options()
        for setting in self.spec.settings:
            estimator = self.make(setting)
            wanted, is_wanted = "regressor", is_regressor
            if problem.categorical:
                wanted, is_wanted = "classifier", is_classifier
            if not is_wanted(estimator):
                kind = "categorical" if problem.categorical else "real"
                raise self.refuse(f"{kind} labels need a {wanted}, {self.spec.kind} is none")
            check_values(self, estimator, problem)

    def trials(self, wanted: int) -> int:
        estimator = self.make(self.spec.settings[0])
        return wanted if self._seeds(estimator, (*self.spec.grid,), 0) else 1

    def _seeds(self, estimator: Any, swept: Collection[str], seed: int) -> dict[str, int]:
        """Return the seeds of an estimator and its parts; what the experiment fixes has none."""
        seeds = {}
        for name, value in estimator.get_params().items():
            if name in swept or name in self.spec.parameters:
                continue
            if name == SEED:
                seeds[name] = seed
            elif name.endswith(f"__{SEED}") and value is None:
                words = np.random.SeedSequence([seed, int.from_bytes(name.encode())])
                seeds[name] = int(words.generate_state(1)[0])
        return seeds

    def task_bytes(self, rows: int, problem: Problem) -> tuple[int, int]:
        """Features as float64, probabilities; what fitting needs is the estimator's own affair."""
        likely = hasattr(self.make(self.spec.settings[0]), "predict_proba")
        answers = problem if likely else replace(problem, classes=0)
        return rows * problem.columns * 8, rows * 16 + answers.answer_bytes()

    def fit(self, job: Job, client: Client | None) -> Iterator[FittedEstimator]:
        (setting,) = job.settings
        estimator = self.make(setting)
        estimator.set_params(**self._seeds(estimator, setting, job.seed))
        with _QUIET, no_exit():  # of convergence and the like: not the experiment's
            self._train(estimator, job)
        yield FittedEstimator(job.settings, estimator, job.classes)

    def _train(self, estimator: Any, job: Job) -> None:
        estimator.fit(*training_data(job, np.float64))


@dataclass(frozen=True, eq=False)
class FittedEstimator:
    """A trained estimator.

    Attributes
    ----------
    settings : tuple of Setting
    estimator : estimator
    classes : tuple
        All of them; it may have seen some only.
    """

    settings: tuple[Setting, ...]
    estimator: Any
    classes: tuple[Any, ...]
    dtype: Any = np.float64

    def answers(self, X: NDArray[Any]) -> Sequence[Answer]:
        """Return labels and, where the estimator has them, probabilities."""
        own = self.estimator
        with _QUIET, no_exit():
            values, p = own.predict(X), None
            if self.classes and hasattr(own, "predict_proba"):
                p = spread_columns(own.predict_proba(X), own.classes_, self.classes)
        return [Answer(values, p)]


def spread_columns(p: NDArray[Any], known: NDArray[Any], classes: tuple[Any, ...]) -> NDArray[Any]:
    """Return probabilities (n, all classes) from those of the classes that were trained on."""
    spread = np.zeros((len(p), len(classes)), p.dtype)
    spread[:, np.searchsorted(np.array(classes), known)] = p
    return spread


def check_values(model: Model, estimator: Any, problem: Problem) -> None:
    """Let a scikit-learn estimator check its hyper-parameters, on a handful of made-up rows.

    Only its refusal of a value counts, as other failures may come from the made-up rows.

    Raises
    ------
    InvalidOptionError
    """
    if not type(estimator).__module__.startswith("sklearn."):
        return
    X = np.random.default_rng(0).normal(size=(8, problem.columns if problem.columns < 8 else 8))
    try:
        with no_exit(), warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            estimator.fit(X, np.arange(8) % 2 if problem.categorical else np.arange(8.0))
    except Exception as error:
        if type(error).__name__ == "InvalidParameterError":
            raise model.refuse(" ".join(str(error).split())) from error
