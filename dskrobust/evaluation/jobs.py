"""Jobs: cutting an experiment into them, running one, measuring what it predicts."""

from __future__ import annotations

import hashlib
import json
import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..kernels import one_blas_thread
from .experiment import Experiment, Setting
from .models import Job, Model, Prediction, model_class
from .rows import TestSide, test_side

if TYPE_CHECKING:
    from distributed import Client

    from ..store import EvaluationRecords

_LIBRARIES = ("dskrobust", "numpy", "scikit-learn", "xgboost", "dask", "zarr")


def jobs_of(
    experiment: Experiment,
    models: Sequence[Model],
    records: EvaluationRecords,
    keys: tuple[Mapping[str, str], Mapping[str, str]],
    classes: tuple[Any, ...],
    threshold: float | None,
) -> list[Job]:
    """Return the jobs of an experiment; those of one training subset follow each other.

    Parameters
    ----------
    keys : two mappings of str to str
        The keys of the training and of the test subsets' rows.
    """
    train, test = keys
    found = []
    for model in models:
        for names, settings in model.steps(list(experiment.train)):
            for trial in range(1, model.trials(experiment.trials) + 1):
                subsets = tuple((name, train[name]) for name in names)
                about = [model.spec.identity(), subsets, list(settings), trial]
                job = Job(
                    records=records,
                    name=_digest(about)[:24],
                    model=model.spec,
                    train=subsets,
                    test=tuple(test.items()),
                    settings=settings,
                    trial=trial,
                    seed=_seed(experiment.seed, model, names, settings, trial),
                    classes=classes,
                    threshold=threshold,
                )
                found.append(job)
    order = {name: k for k, name in enumerate(experiment.train)}
    return sorted(found, key=lambda job: order[job.train[0][0]])  # stable


def _seed(
    root: int, model: Model, trains: Sequence[str], settings: Sequence[Setting], trial: int
) -> int:
    """Return a job's seed below 2³²: of what it does, whatever else an experiment has."""
    words = _digest([model.spec.identity(), list(trains), model.seeded_by(settings), trial])
    entropy = [root, *(int(words[k : k + 8], 16) for k in range(0, 32, 8))]
    return int(np.random.SeedSequence(entropy).generate_state(1)[0])


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


# -- running ---------------------------------------------------------------------------------


def run_job(job: Job, client: Client | None = None) -> dict[str, Any]:
    """Run a job, unless it has a record, and keep its record; return the record.

    A record holds plain values: ``rows``, one per training subset, setting and test subset, and
    ``facts`` on how they came about.
    """
    found = job.records.load(job.name)
    if found is not None:  # a retry after a worker was lost
        return found
    started = time.perf_counter()
    model = model_class(job.model.kind)(job.model)
    side = test_side(job)
    rows: list[dict[str, Any]] = []
    with one_blas_thread():
        for prediction in model.predict(job, client):
            rows += _measured(job, side, prediction)
    record = {
        "rows": rows,
        "facts": {
            "model": job.model.name,
            **job.model.identity(),
            "trial": job.trial,
            "seed": job.seed,
            "seconds": round(time.perf_counter() - started, 3),
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "versions": versions(),
        },
    }
    job.records.save(job.name, record)
    return record


def versions() -> dict[str, str]:
    """Return what the numbers may depend on besides data, experiment and seed."""
    found = {"python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _measured(job: Job, side: TestSide, prediction: Prediction) -> Iterator[dict[str, Any]]:
    """Yield LOSS and ACC on every test subset (paper, 4.1 and C.2)."""
    codes = np.searchsorted(np.array(job.classes), side.labels) if job.classes else None
    for name, places in side.places.items():
        true, values = side.labels[places], prediction.values[places]
        p = prediction.probabilities
        loss, acc = _measures(
            true,
            values,
            None if codes is None else codes[places],
            None if p is None else p[places],
            job.threshold,
        )
        yield {
            "train": prediction.train,
            "test": name,
            "setting": prediction.setting,
            "loss": loss,
            "acc": acc,
        }


def _measures(
    true: NDArray[Any],
    values: NDArray[Any],
    codes: NDArray[np.int64] | None,
    probabilities: NDArray[Any] | None,
    threshold: float | None,
) -> tuple[float, float]:
    from . import measures

    if codes is not None:
        loss = np.nan if probabilities is None else measures.cross_entropy(codes, probabilities)
        return loss, measures.accuracy(true, values)
    loss = measures.regression_loss(true, values)
    if threshold is None:
        return loss, np.nan
    return loss, measures.threshold_accuracy(true, values, threshold)
