"""LOSS and ACC of what models predict, block by block of the test rows.

Who trained a model hands over a `Fitted`; whoever computes, a task that goes through all blocks or
one task a block, predictions of one block are all that is held, and sums are all that leaves it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ..store import RowRange
from .experiment import Setting
from .measures import Sums, class_sums, true_class_probabilities, value_sums
from .rows import TestRows, feature_blocks, test_block

if TYPE_CHECKING:
    from .job import Job

PIECE = 2**22  # probabilities that are held at once, at most

Table = tuple[tuple[Sums, ...], ...]  # of every setting, on every test subset


class Answer(NamedTuple):
    """What a model says of some rows.

    Attributes
    ----------
    values : ndarray (n,)
        Labels.
    probabilities : ndarray (n, classes), optional
        Columns in the order of `Job.classes`; without them a classifier has no LOSS.
    """

    values: NDArray[Any]
    probabilities: NDArray[Any] | None = None


class Fitted(Protocol):
    """What was trained on one subset: one model, or several that share their work.

    Attributes
    ----------
    settings : tuple of Setting
        Of the models.
    dtype : dtype
        Of the features that they take.
    """

    @property
    def settings(self) -> tuple[Setting, ...]: ...

    @property
    def dtype(self) -> DTypeLike: ...

    def answers(self, X: NDArray[Any]) -> Iterable[Answer]:
        """Return what every model says of features (n, d)."""


@dataclass(frozen=True)
class Scores:
    """Sums of models that were trained on one subset, over all test rows.

    Attributes
    ----------
    train : str
    settings : tuple of Setting
    table : tuple of tuples of Sums
        Settings × test subsets.
    facts : mapping
        Plain values that the record keeps beside its rows.
    """

    train: str
    settings: tuple[Setting, ...]
    table: Table
    facts: Mapping[str, Any] = field(default_factory=dict)

    def rows(self, tests: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Yield rows as a record has them, with LOSS and ACC (paper, 4.1 and C.2)."""
        for setting, line in zip(self.settings, self.table, strict=True):
            for test, sums in zip(tests, line, strict=True):
                about = {"train": self.train, "test": test, "setting": setting}
                yield about | sums.result()


def score(job: Job, fitted: Fitted) -> Scores:
    """Predict all test rows, block by block, in this process."""
    ((train, _),) = job.train
    tables = (score_block(job, block, fitted) for block in job.blocks)
    return Scores(train, fitted.settings, reduce(merge_pair, tables))


def score_block(job: Job, block: RowRange, fitted: Fitted) -> Table:
    """Predict the test rows of a block and sum up."""
    part = test_block(job.records, job.test, block)
    answers = [Answers(job, part) for _ in fitted.settings]
    for piece, X in _pieces(job, part, fitted.dtype):
        for one, answer in zip(answers, fitted.answers(X), strict=True):
            one.add(piece, answer)
    return tuple(one.sums() for one in answers)


def _pieces(job: Job, part: TestRows, dtype: DTypeLike) -> Iterator[tuple[slice, NDArray[Any]]]:
    """Yield features by units of the store, cut where there are many classes."""
    step = piece_rows(job)
    for where, X in feature_blocks(job.records.address.open(), part.rows, dtype):
        for k in range(0, len(X), step):
            first = where.start + k
            yield slice(first, min(first + step, where.stop)), X[k : k + step]


def piece_rows(job: Job) -> int:
    """Return for how many rows the probabilities of all classes are held at once."""
    return max(1, PIECE // max(1, len(job.classes)))


class Answers:
    """What one model says of a block, piece by piece: 16 bytes a row, however many classes.

    Parameters
    ----------
    job : Job
    part : TestRows
    """

    def __init__(self, job: Job, part: TestRows) -> None:
        self._job, self._part = job, part
        self._codes = codes_of(job, part.labels) if job.classes else None
        self._values = np.empty(len(part.rows), part.labels.dtype if job.classes else np.float64)
        self._chosen: NDArray[Any] | None = None

    def add(self, piece: slice, answer: Answer) -> None:
        """Take in the answer for some rows of the block."""
        self._values[piece] = answer.values
        if answer.probabilities is not None:
            assert self._codes is not None
            chosen = true_class_probabilities(self._codes[piece], answer.probabilities)
            if self._chosen is None:
                self._chosen = np.empty(len(self._values), chosen.dtype)
            self._chosen[piece] = chosen

    def sums(self) -> tuple[Sums, ...]:
        """Return the sums of every test subset's rows, None for those without any."""
        return tuple(self._of(places) for places in self._part.places.values())

    def _of(self, places: NDArray[np.int64]) -> Any:
        if not len(places):
            return None
        true, values = self._part.labels[places], self._values[places]
        if self._codes is None:
            return value_sums(true, values, self._job.threshold)
        chosen = None if self._chosen is None else self._chosen[places]
        return class_sums(true, values, self._codes[places], chosen)


def codes_of(job: Job, labels: NDArray[Any]) -> NDArray[np.int64]:
    """Return the columns of labels (n,) among the probabilities."""
    return np.searchsorted(np.array(job.classes), labels)


def merge_tables(tables: Sequence[Table]) -> Table:
    """Return the sums of blocks that follow each other."""
    return reduce(merge_pair, tables)


def merge_pair(first: Table, later: Table) -> Table:
    """Return the sums of two blocks."""
    return tuple(
        tuple(_merged(*both) for both in zip(*lines, strict=True))
        for lines in zip(first, later, strict=True)
    )


def _merged(one: Any, other: Any) -> Any:
    """Merge two sums; a block may have no rows of a test subset."""
    if one is None or other is None:
        return one if other is None else other
    return one.merge(other)
