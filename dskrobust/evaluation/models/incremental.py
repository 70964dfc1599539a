"""Estimators that learn block by block, so that training data may be larger than any memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from ...store import row_ranges
from ..job import Job
from ..rows import read_features, read_labels
from .base import Problem
from .estimators import AnyEstimator

PREFIX = "incremental:"
PART_BYTES = 16 * 2**20  # of features that are learned from at once, at most
PART_ROWS = 2**14


class Incremental(AnyEstimator, paths=PREFIX):
    """An estimator with ``partial_fit``: ``incremental:sklearn.linear_model.SGDClassifier``.

    It goes through the training subset in the store's order, 16,384 rows (or 16 MiB) at a time, of
    which it holds no more. Hyper-parameters: ``passes`` over the data (1), and the estimator's own.
    What is learned depends on the order of the rows; shuffle those of a store that is sorted by
    label when it is written.

    dask-ml's `Incremental` is not used: it changes one model in place from task to task, so that a
    task that is tried again learns from its block twice.
    """

    instead = ""
    own_parameters = ("passes",)
    protocol: ClassVar[tuple[str, ...]] = (*AnyEstimator.protocol, "partial_fit")

    @property
    def path(self) -> str:
        """Where the estimator is imported from."""
        return self.spec.kind.removeprefix(PREFIX)

    @property
    def sweep(self) -> str:
        """The hyper-parameter that is chosen in tables; "" for none."""
        return next(iter(self.spec.grid), "")

    def check(self, problem: Problem) -> None:
        super().check(problem)
        self.check_whole("passes")

    def task_bytes(self, rows: int, problem: Problem) -> tuple[int, int]:
        """A part of the features as stored, scaled, and as the estimator copies it; its answers."""
        part = min(rows, _part_rows(problem.columns))
        likely = hasattr(self.make(self.spec.settings[0]), "predict_proba")
        answers = problem if likely else replace(problem, classes=0)
        return 0, part * problem.columns * 8 * 3 + answers.answer_bytes()

    def _train(self, estimator: Any, job: Job) -> None:
        ((_, subset),), store = job.train, job.records.address.open()
        counts = job.records.counts(subset)
        assert counts is not None
        known: Mapping[str, Any] = {"classes": np.array(job.classes)} if job.classes else {}
        passes = {**self.spec.parameters, **job.settings[0]}.get("passes", 1)
        for _ in range(passes):
            for part in row_ranges(counts, _part_rows(store.columns)):
                rows = job.records.range_rows(subset, part)
                X, y = read_features(store, rows, np.float64), read_labels(store, rows)
                estimator.partial_fit(X, y, **known)


def _part_rows(columns: int) -> int:
    return max(1, min(PART_ROWS, PART_BYTES // (8 * columns)))
