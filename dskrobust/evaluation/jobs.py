"""Jobs: cutting an experiment into them, running one, measuring what it predicts."""

from __future__ import annotations

import hashlib
import json
import platform
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..blas import one_blas_thread
from ..errors import DamagedStoreError
from .experiment import Experiment, Setting
from .job import Job
from .models import model_class
from .models.base import Model, Outcome
from .scoring import Scores, score

if TYPE_CHECKING:
    from distributed import Client

    from ..store import EvaluationRecords

STEP_BYTES = 16 * 2**10  # of a step and its record
CELL_BYTES = 8_000  # of a row of a record, in tables, matrices and JSON too (measured)
_LIBRARIES = ("dskrobust", "numpy", "scikit-learn", "xgboost", "torch", "dask", "zarr")


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
    jobs = []
    for model in models:
        for names, settings in model.steps(list(experiment.train)):
            subsets = tuple((name, train[name]) for name in names)
            count = model.trials(experiment.trials)
            seeds = [
                _seed(experiment.seed, model, names, settings, trial) for trial in range(count + 1)
            ]
            for trial in [0] if model.lockstep else range(1, count + 1):
                about = [model.identity(), subsets, list(settings), trial]
                if model.lockstep:  # the first test subset is the one that chooses
                    about += [count, next(iter(test.items()))]
                job = Job(
                    records=records,
                    name=_digest(about)[:24],
                    model=model.spec,
                    train=subsets,
                    test=tuple(test.items()),
                    settings=settings,
                    trial=trial,
                    seed=seeds[trial],
                    classes=classes,
                    threshold=threshold,
                    seeds=tuple(seeds[1:]) if model.lockstep else (),
                )
                jobs.append(job)
    order = {name: k for k, name in enumerate(experiment.train)}
    return sorted(jobs, key=lambda job: order[job.train[0][0]])  # stable


def records_memory(jobs: Iterable[Job]) -> int:
    """Return how many bytes the records of jobs take at most, and what is made of them."""
    return sum(
        STEP_BYTES + CELL_BYTES * len(job.settings) * len(job.test) * max(1, len(job.seeds))
        for job in jobs
    )


def _seed(
    root: int, model: Model, trains: Sequence[str], settings: Sequence[Setting], trial: int
) -> int:
    """Return a job's seed below 2³²: of what it does, whatever else an experiment has."""
    words = _digest([model.seed_identity(), list(trains), model.seeded_by(settings), trial])
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
    with suppress(DamagedStoreError):  # it is made again
        stored = job.records.load(job.name)
        if stored is not None:  # a retry after a worker was lost
            return stored
    started = time.perf_counter()
    model = model_class(job.model.kind)(job.model)
    tests = [name for name, _ in job.test]
    rows: list[dict[str, Any]] = []
    facts: dict[str, Any] = {}
    arrays: dict[str, NDArray[Any]] = {}
    earlier = 0.0
    with one_blas_thread():
        for made in model.fit(job, client):
            if isinstance(made, Outcome):
                rows += made.rows
                facts |= made.facts
                arrays |= made.arrays
                earlier += made.earlier
                continue
            scores = made if isinstance(made, Scores) else score(job, made)
            rows += scores.rows(tests)
            facts |= scores.facts
    trials = {"seeds": list(job.seeds)} if job.seeds else {"trial": job.trial, "seed": job.seed}
    record = {
        "rows": rows,
        "facts": {
            "model": job.model.name,
            **job.model.identity(),
            **trials,
            **facts,
            "seconds": round(earlier + time.perf_counter() - started, 3),
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "versions": versions(),
        },
    }
    job.records.save(job.name, record, arrays)
    return record


def versions() -> dict[str, str]:
    """Return what the numbers may depend on besides data, experiment and seed."""
    return dict(_versions())


@cache
def _versions() -> dict[str, str]:  # looks through all that is installed: 5 ms
    known = {"python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            known[name] = version(name)
        except PackageNotFoundError:
            continue
    return known
