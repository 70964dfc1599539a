"""The rows of subsets as tasks read them: from the store, unit by unit, in the store's order.

Every worker process keeps the training data it read last, as an experiment trains many models on
one subset before the next.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ..processes import ProcessLock
from ..store import EvaluationRecords, RowRange, Store, row_ranges

if TYPE_CHECKING:
    from .job import Job


BLOCK = 2**16  # test rows that are predicted and summed up at once, at most


@dataclass(frozen=True)
class TestRows:
    """Rows of the union of an experiment's test subsets: a block of them, or all.

    Attributes
    ----------
    rows : ndarray (n,) int64
        Rising row numbers.
    labels : ndarray (n,)
    places : dict of str to ndarray (k,)
        For every test subset its rows' positions in `rows`.
    """

    __test__ = False  # to pytest this is no test

    rows: NDArray[np.int64]
    labels: NDArray[Any]
    places: dict[str, NDArray[np.int64]]


def test_blocks(tested: NDArray[np.int64]) -> tuple[RowRange, ...]:
    """Cut the union of the test subsets into blocks, told from its rows in every span."""
    return tuple(row_ranges(tested, BLOCK))


test_blocks.__test__ = False  # type: ignore[attr-defined]


@lru_cache(maxsize=2)
def test_block(
    records: EvaluationRecords, tests: tuple[tuple[str, str], ...], block: RowRange
) -> TestRows:
    """Return a block of the rows that models have to predict; tests are (name, key)."""
    subsets = {name: records.spans_rows(key, block.first, block.last) for name, key in tests}
    return _test_rows(records, subsets, slice(block.start, block.stop))


test_block.__test__ = False  # type: ignore[attr-defined]


def all_test_rows(job: Job) -> TestRows:
    """Return all rows that a job has to predict, in this process."""
    subsets = {name: job.records.rows(key) for name, key in job.test}
    return _test_rows(job.records, subsets, slice(None))


def _test_rows(
    records: EvaluationRecords, subsets: Mapping[str, NDArray[np.int64]], part: slice
) -> TestRows:
    rows = np.unique(np.concatenate(list(subsets.values())))[part]
    places = {
        name: np.searchsorted(rows, subset[(subset >= rows[0]) & (subset <= rows[-1])])
        for name, subset in subsets.items()
    }
    return TestRows(rows, read_labels(records.address.open(), rows), places)


class _TrainingData:
    """Features and labels of the training subset that this process read last."""

    def __init__(self) -> None:
        self._lock = ProcessLock()  # one thread reads, the others wait for what it read
        self._kept: tuple[Any, tuple[NDArray[Any], NDArray[Any]]] | None = None

    def __call__(self, job: Job, dtype: DTypeLike | None) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return features (k, d) and labels (k,) of a job's only training subset."""
        ((_, subset),) = job.train
        key = (job.records.address, job.records.name, subset, dtype and np.dtype(dtype))
        with self._lock:
            data = self._kept  # which `forget` may take away meanwhile
            if data is None or data[0] != key:
                data = self._kept = None  # let go of the old data first
                data = self._kept = key, read_rows(job.records, subset, dtype)
            return data[1]

    def forget(self) -> None:
        """Let go of the data."""
        self._kept = None


training_data = _TrainingData()


def forget_training_data() -> None:
    """Let go of what this process has read; called on every worker at the end of a run."""
    training_data.forget()


def read_rows(
    records: EvaluationRecords, subset: str, dtype: DTypeLike | None
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return features (k, d), scaled, and labels (k,) of a subset, read-only.

    Without a dtype features are as they are stored, not scaled.
    """
    store, rows = records.address.open(), records.rows(subset)
    features = read_features(store, rows, dtype)
    labels = read_labels(store, rows)
    features.flags.writeable = labels.flags.writeable = False
    return features, labels


def read_features(store: Store, rows: NDArray[np.int64], dtype: DTypeLike | None) -> NDArray[Any]:
    """Return features (k, d) of rising row numbers, scaled; as stored without a dtype."""
    features = np.empty((len(rows), store.columns), dtype or store.row_shape("features")[1])
    for part, values in feature_blocks(store, rows, dtype):
        features[part] = values
    return features


def feature_blocks(
    store: Store, rows: NDArray[np.int64], dtype: DTypeLike | None
) -> Iterator[tuple[slice, NDArray[Any]]]:
    """Yield (positions in rows, features (b, d)), scaled, for rising row numbers.

    Without a dtype features are as they are stored, not scaled. A block is what one unit of the
    store holds of the rows, so a test set is never whole in memory.
    """
    for part, values in _parts(store, "features", rows):
        if dtype is None:
            yield part, values
            continue
        if store.spec.scale != 1:
            values = np.multiply(values, store.spec.scale, dtype=np.float64)
        with np.errstate(over="ignore"):  # what float32 cannot hold is named by the estimator
            yield part, values.astype(dtype, copy=False)


def read_labels(store: Store, rows: NDArray[np.int64]) -> NDArray[Any]:
    """Return labels (k,) of rising row numbers."""
    labels = np.empty((len(rows),), store.row_shape("labels")[1])
    for part, values in _parts(store, "labels", rows):
        labels[part] = values.reshape(len(values))
    return labels


def _parts(
    store: Store, name: str, rows: NDArray[np.int64]
) -> Iterator[tuple[slice, NDArray[Any]]]:
    """Yield the picked rows of every unit that has some."""
    if not len(rows):
        return
    for first, last, _ in store.units(int(rows[0]), int(rows[-1]) + 1):
        a, b = np.searchsorted(rows, [first, last])
        if a < b:
            yield slice(a, b), store.read(name, first, last)[rows[a:b] - first]
