"""Boosted trees, and forests larger than a worker's memory, with xgboost on the whole cluster."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import dask.array as da
import numpy as np
from dask.base import compute
from dask.delayed import delayed
from distributed.comm.addressing import get_address_host
from numpy.typing import NDArray

from ...cluster.options import HOST
from ...cluster.workers import workers_of
from ...display import meant
from ...store import EvaluationRecords, RowRange, row_ranges
from ..checks import fit_together
from ..experiment import Setting
from ..external_memory import train_from_batches
from ..job import Job
from ..rows import read_features, read_labels
from ..scoring import Answer, Scores, merge_tables, score_block
from ..trees import merged
from .base import Model, Problem

if TYPE_CHECKING:
    from distributed import Client

PART_BYTES = 64 * 2**20  # of features in one piece
EXTERNAL = "external_memory"
OURS = (  # of scikit-learn's wrapper, or set here
    "callbacks",
    "device",
    "early_stopping_rounds",
    "enable_categorical",
    "eval_metric",
    "feature_types",
    "importance_type",
    "missing",
    "n_estimators",
    "n_jobs",
    "num_class",
    "num_parallel_tree",
    "objective",
    "random_state",
    "validate_parameters",
    "verbosity",
)
SAMPLED = ("subsample", "colsample_bytree", "colsample_bylevel", "colsample_bynode")
OBJECTIVES = {"squared_error": "reg:squarederror", "absolute_error": "reg:absoluteerror"}


class _Boosted(Model):
    """What both kinds of xgboost's models share: data as Dask arrays, one training a job.

    Rows of one part are trained on by one task: the same trees, and no workers that have to meet.

    With the option ``external_memory``, or where the training data does not fit the workers
    together, one worker trains from external memory: it reads the store part by part.
    """

    distributed = True
    known_options = (EXTERNAL,)
    defaults: ClassVar[Mapping[str, Any]] = {}

    def check(self, problem: Problem) -> None:
        self.check_options()
        external = self.spec.options.get(EXTERNAL, False)
        if not isinstance(external, bool):
            raise self.refuse(f"option {EXTERNAL} must be true or false")
        if external and {*self._values("tree_method")} - {"hist", "auto"}:
            raise self.refuse("external memory needs tree_method 'hist'")
        known = _parameters(self)
        self.check_names(name for name in known if name not in OURS)
        self.check_whole(self.sweep)
        for criterion in self._values("criterion"):
            if problem.categorical:
                raise self.refuse("criterion is for real labels; classes have the cross-entropy")
            if criterion not in OBJECTIVES:
                raise self.refuse(
                    f"criterion {criterion!r} is unknown{meant(criterion, OBJECTIVES)}; choose "
                    f"{' or '.join(OBJECTIVES)}"
                )
        for setting in self.spec.settings:
            self._check_values(setting, problem)

    def _check_values(self, setting: Setting, problem: Problem) -> None:
        """Let xgboost check its hyper-parameters, on a handful of made-up rows."""
        xgboost = _import(self)
        parameters, _ = self._asked(setting, ("0", "1") if problem.categorical else ())
        X = np.random.default_rng(0).normal(size=(8, min(problem.columns, 8)))
        try:
            with xgboost.config_context(verbosity=0):
                data = xgboost.DMatrix(X, np.arange(8) % 2)
                xgboost.train({**parameters, "nthread": 1}, data, num_boost_round=1)
        except xgboost.core.XGBoostError as error:
            raise self.refuse(without_stack(str(error))) from error

    def task_bytes(self, rows: int, problem: Problem) -> tuple[int, int]:
        """Features and labels as float32, and xgboost's own copy of them; a block's answers."""
        return 2 * rows * (problem.columns + 1) * 4, problem.answer_bytes(len(self.spec.settings))

    def streamed_bytes(self, rows: int, problem: Problem) -> int:
        """Some parts of the features, and gradients: what training from external memory holds."""
        return 6 * PART_BYTES + rows * (16 * max(1, problem.classes) + 8)

    def _is_external(self, job: Job, client: Client) -> bool:
        """Whether one worker trains from external memory: if asked, or where nothing else can."""
        asked = self.spec.options.get(EXTERNAL)
        if asked is not None:
            return bool(asked)
        ((_, subset),), store = job.train, job.records.address.open()
        counts = job.records.counts(subset)
        assert counts is not None
        data, _ = self.task_bytes(int(counts.sum()), Problem(False, store.columns, {}, {}))
        return not fit_together(client, data)

    def _values(self, name: str) -> tuple[Any, ...]:
        fixed = self.spec.parameters
        return (fixed[name],) if name in fixed else tuple(self.spec.grid.get(name, ()))

    def trials(self, wanted: int) -> int:
        drawn = any(
            value != 1 for n in SAMPLED for value in self._values(n) or (self.defaults.get(n, 1),)
        )
        return wanted if drawn else 1

    def _asked(self, setting: Setting, classes: Sequence[Any]) -> tuple[dict[str, Any], int]:
        """Return xgboost's parameters and the number of rounds."""
        parameters = {**self.defaults, **self.spec.parameters, **setting}
        criterion = parameters.pop("criterion", "squared_error")
        rounds, own = self._rounds(parameters)
        if classes:
            own |= {"objective": "multi:softprob", "num_class": max(2, len(classes))}
        else:
            own["objective"] = OBJECTIVES[criterion]
        return {**parameters, **own}, rounds

    def _train(self, job: Job, client: Client, setting: Setting) -> Trained:
        """Train on the cluster with a setting (of the most rounds)."""
        xgboost = _import(self)
        parameters, rounds = self._asked(setting, job.classes)
        parameters["seed"] = job.seed % 2**31
        if self._is_external(job, client):
            ((_, subset),) = job.train
            read = partial(_read_part, job.records, subset, job.classes)
            booster = client.submit(
                train_from_batches, read, _parts(job), parameters, rounds, pure=False
            ).result()
            return Trained(booster, external=True)
        if len(parts := _parts(job)) == 1:  # one worker has all rows: it needs no other
            booster = client.submit(
                _train_here, job, parts[0], parameters, rounds, pure=False
            ).result()
            return Trained(booster, external=False)
        X, y = _as_arrays(job)
        with xgboost.config_context(verbosity=0):
            data = xgboost.dask.DaskDMatrix(client, X, y)
            trained = xgboost.dask.train(
                client, parameters, data, num_boost_round=rounds, coll_cfg=_collective(client)
            )
        return Trained(trained["booster"], external=False)

    @abstractmethod
    def _rounds(self, parameters: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Take our hyper-parameters out and return rounds and what xgboost calls the rest."""

    def _scores(self, job: Job, client: Client, fitted: FittedBooster, *, external: bool) -> Scores:
        """Predict the test rows on the workers, a task for every block."""
        ((train, _),) = job.train
        # hash=False: were it scattered again, the first copy's release would take the second
        model = client.scatter(fitted, broadcast=True, hash=False)
        shared = delayed(job, traverse=False)
        parts = [delayed(score_block)(shared, block, model) for block in job.blocks]
        (table,) = compute(merged(parts, merge_tables))
        return Scores(train, fitted.settings, table, {EXTERNAL: True} if external else {})


class Trained(NamedTuple):
    """A booster, and whether one worker trained it from external memory."""

    booster: Any
    external: bool


@dataclass(frozen=True, eq=False)
class FittedBooster:
    """A booster, and the models of its first rounds.

    Attributes
    ----------
    settings : tuple of Setting
    rounds : tuple of int
        Of every model.
    booster : xgboost.Booster
    classes : tuple
    """

    settings: tuple[Setting, ...]
    rounds: tuple[int, ...]
    booster: Any
    classes: tuple[Any, ...]
    dtype: Any = np.float32

    def answers(self, X: NDArray[Any]) -> Iterator[Answer]:
        """Yield values, or classes with probabilities, of every model."""
        for rounds in self.rounds:
            values = self.booster.inplace_predict(X, iteration_range=(0, rounds))
            if not self.classes:
                yield Answer(values.astype(np.float64))
                continue
            p = values[:, : len(self.classes)]
            yield Answer(np.array(self.classes)[p.argmax(axis=1)], p)


class BoostedTrees(_Boosted, kind="xgboost"):
    """Gradient-boosted trees (``xgboost.dask``).

    Hyper-parameters: ``rounds`` (of boosting; one training of the most serves all, as its first k
    rounds are the model of k rounds), ``criterion`` for real labels, and xgboost's own. One trial
    is made where nothing is sampled. xgboost merges partial sums in the order in which its workers
    have the rows, so another number of workers may change the last digits.
    """

    own_parameters = ("rounds", "criterion")

    @staticmethod
    def default_grid(categorical: bool) -> Mapping[str, Sequence[Any]]:
        return {"rounds": (10, 30, 100)}

    def seeded_by(self, settings: Sequence[Setting]) -> Setting:
        return {k: v for k, v in super().seeded_by(settings).items() if k != "rounds"}

    def _rounds(self, parameters: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        return parameters.pop("rounds", 100), {}

    def fit(self, job: Job, client: Client | None) -> Iterator[Scores]:
        assert client is not None
        fixed = self.spec.parameters.get("rounds", 100)
        by_rounds = {setting.get("rounds", fixed): setting for setting in job.settings}
        booster, external = self._train(job, client, by_rounds[max(by_rounds)])
        settings, rounds = tuple(by_rounds.values()), tuple(by_rounds)
        fitted = FittedBooster(settings, rounds, booster, job.classes)
        yield self._scores(job, client, fitted, external=external)


class ParallelTrees(_Boosted, kind="xgboost-forest"):
    """One boosting round of many trees at once: not scikit-learn's forest, but larger than memory.

    Rows are drawn without replacement and leaves are second-order steps, as in xgboost's own
    forests. Hyper-parameters: ``trees`` (``num_parallel_tree``), ``criterion`` for real labels,
    and xgboost's own.
    """

    own_parameters = ("trees", "criterion")
    defaults: ClassVar[Mapping[str, Any]] = {
        "learning_rate": 1.0,
        "subsample": 0.8,
        "colsample_bynode": 0.8,
        "reg_lambda": 1e-5,
    }  # those of XGBRFRegressor

    @staticmethod
    def default_grid(categorical: bool) -> Mapping[str, Sequence[Any]]:
        trees = {"trees": range(1, 10)}
        return trees if categorical else {**trees, "criterion": tuple(OBJECTIVES)}

    def _rounds(self, parameters: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        return 1, {"num_parallel_tree": parameters.pop("trees", 100)}

    def fit(self, job: Job, client: Client | None) -> Iterator[Scores]:
        assert client is not None
        (setting,) = job.settings
        booster, external = self._train(job, client, setting)
        fitted = FittedBooster(job.settings, (1,), booster, job.classes)
        yield self._scores(job, client, fitted, external=external)


def without_stack(text: str) -> str:
    """Return the sentence of an error of xgboost without where in its sources it came about."""
    return re.sub(r"^\[[^\]]*\] \S+: ", "", text.split("Stack trace:")[0].strip())


def _import(model: Model) -> Any:
    try:
        import xgboost
        import xgboost.dask
    except ImportError as error:
        raise model.refuse(
            f"xgboost is not installed; install dskrobust[forest] or another model ({error})"
        ) from error
    return xgboost


def _collective(client: Client) -> Any:
    """Have xgboost's tracker listen at HOST where all workers do; elsewhere it knows better."""
    from xgboost.collective import Config

    local = all(get_address_host(address) == HOST for address in workers_of(client))
    return Config(tracker_host_ip=HOST if local else None)


def _parameters(model: Model) -> list[str]:
    """Return the names that xgboost knows."""
    return list(_import(model).XGBRegressor().get_params())


def _as_arrays(job: Job) -> tuple[da.Array, da.Array]:
    """Return features (k, d) float32 and labels (k,) to train on, as Dask arrays.

    The workers read them, in parts of about PART_BYTES of features. Classes become their positions
    among the job's classes.
    """
    ((_, subset),), columns = job.train, job.records.address.open().columns
    X, y = [], []
    for rows in _parts(job):
        size = rows.stop - rows.start
        part = delayed(_read_part, nout=2, pure=True)(job.records, subset, job.classes, rows)
        X.append(da.from_delayed(part[0], (size, columns), np.float32))
        y.append(da.from_delayed(part[1], (size,), np.float32))
    return da.concatenate(X), da.concatenate(y)


def _train_here(job: Job, part: RowRange, parameters: Mapping[str, Any], rounds: int) -> Any:
    """Return the booster that a worker trains on all rows at once, as `xgboost.dask` has it."""
    import xgboost
    from distributed import get_worker

    ((_, subset),) = job.train
    features, labels = _read_part(job.records, subset, job.classes, part)
    own = {**parameters, "nthread": get_worker().state.nthreads}
    with xgboost.config_context(verbosity=0):
        data = xgboost.DMatrix(features, labels, nthread=own["nthread"])
        return xgboost.train(own, data, num_boost_round=rounds)


def _parts(job: Job) -> list[RowRange]:
    """Return the runs of rows to train on that are read at once."""
    ((_, subset),), columns = job.train, job.records.address.open().columns
    counts = job.records.counts(subset)
    assert counts is not None
    return row_ranges(counts, max(1, PART_BYTES // (4 * columns)))


def _read_part(
    records: EvaluationRecords, subset: str, classes: tuple[Any, ...], part: RowRange
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    store, rows = records.address.open(), records.range_rows(subset, part)
    labels = read_labels(store, rows)
    if classes:
        labels = np.searchsorted(np.array(classes), labels)
    return read_features(store, rows, np.float32), labels.astype(np.float32)
