"""k-nearest-neighbour models: one search serves all training subsets, K and weightings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from dask.base import compute
from dask.delayed import delayed
from numpy.typing import NDArray

from ...display import meant
from ...metrics import resolve_metric
from ...neighbours import Neighbours, nearest_neighbours
from ...row_sets import RecordedRows
from ...searches import searching
from ..experiment import Setting
from ..job import Job
from ..rows import BLOCK, read_labels, test_block
from ..scoring import Answer, Answers, Scores, Table, merge_tables, piece_rows
from ..trees import merged
from .base import Model, Problem

if TYPE_CHECKING:
    from distributed import Client

WEIGHTS = ("uniform", "distance")
LIST_BYTES = 64  # of an entry of a list: found, labelled, weighed


class NearestNeighbours(Model, kind="knn"):
    """K nearest neighbours, what scikit-learn's KNeighborsClassifier and -Regressor predict.

    Hyper-parameters: ``neighbors`` (K), ``weights`` ("uniform" or "distance", the reciprocal of
    the distance) and ``metric`` (any of ours; "euclidean" by default). Distances are exact. Among
    training samples at the same distance the lower row number is nearer; of classes with equally
    many votes the first in order is predicted. The training data may be larger than memory.
    """

    distributed = True
    own_parameters = ("neighbors", "weights", "metric")

    @staticmethod
    def default_grid(categorical: bool) -> Mapping[str, Sequence[Any]]:
        return {"neighbors": tuple(range(1, 16)), "weights": WEIGHTS}

    def check(self, problem: Problem) -> None:
        self.check_options()
        self.check_names(())
        name, size = min(problem.train.items(), key=lambda item: item[1])
        self.check_whole("neighbors")
        most = max(_of(setting, self.spec.parameters)[0] for setting in self.spec.settings)
        if most > size:
            raise self.refuse(
                f"neighbors={most} is more than the {size:,} samples of {name}; give at most "
                f"{size:,}"
            )
        for setting in self.spec.settings:
            _, weights, metric = _of(setting, self.spec.parameters)
            if weights not in WEIGHTS:
                raise self.refuse(
                    f"weights {weights!r} is unknown{meant(weights, WEIGHTS)}; choose "
                    f"{' or '.join(WEIGHTS)}"
                )
            resolve_metric(metric).form(problem.columns, 1.0)

    def steps(self, trains: Sequence[str]) -> Iterable[tuple[tuple[str, ...], tuple[Setting, ...]]]:
        """All training subsets and settings are one job."""
        yield tuple(trains), tuple(self.spec.settings)

    def trials(self, wanted: int) -> int:
        """One: every trial would be the same."""
        return 1

    def task_bytes(self, rows: int, problem: Problem) -> tuple[int, int]:
        """Lists of the nearest rows of a block of queries, and what their votes say."""
        most = max(_of(setting, self.spec.parameters)[0] for setting in self.spec.settings)
        queries = min(BLOCK, sum(problem.test.values()))
        return 0, queries * most * LIST_BYTES + problem.answer_bytes()

    def fit(self, job: Job, client: Client | None) -> Iterator[Scores]:
        assert client is not None
        by_metric: dict[str, list[Setting]] = {}
        for setting in job.settings:
            by_metric.setdefault(_of(setting, self.spec.parameters)[2], []).append(setting)
        for metric, settings in by_metric.items():
            yield from self._search(job, metric, settings)

    def _search(self, job: Job, metric: str, settings: Sequence[Setting]) -> Iterator[Scores]:
        """Search once with a metric, and have the workers score all settings that have it."""
        models = tuple(_of(setting, self.spec.parameters)[:2] for setting in settings)
        lists = nearest_neighbours(
            job.records.address.open(),
            max(count for count, _ in models),
            queries=RecordedRows(job.records, tuple(key for _, key in job.test)),
            references={name: RecordedRows(job.records, (key,)) for name, key in job.train},
            metric=metric,
        )
        shared = delayed(job, traverse=False)
        rows = tuple(block.stop - block.start for block in job.blocks)
        with searching(one.search for one in lists.values()):
            tables = compute(*(_scored(shared, rows, one, models) for one in lists.values()))
        for name, table in zip(lists, tables, strict=True):
            yield Scores(name, tuple(settings), table)


def _scored(
    job: Any, rows: tuple[int, ...], lists: Neighbours, models: tuple[tuple[int, str], ...]
) -> Any:
    """Delayed sums over all queries, from the blocks' lists of the nearest in a training subset."""
    k = lists.index.shape[1]
    distance, index = (
        # as it is: each for itself would be optimised into a search of its own
        values.rechunk((rows, (k,))).to_delayed(optimize_graph=False).ravel()
        for values in (lists.distance, lists.index)
    )
    blocks = range(len(rows))
    parts = [delayed(score_lists)(job, n, models, distance[n], index[n]) for n in blocks]
    return merged(parts, merge_tables)


def score_lists(
    job: Job,
    number: int,
    models: tuple[tuple[int, str], ...],
    distance: NDArray[np.float64],
    index: NDArray[np.int64],
) -> Table:
    """Let the nearest rows (q, k) of a block of queries vote, and sum up.

    Parameters
    ----------
    number : int
        Of the block.
    models : tuple of (int, str)
        K and weights.
    """
    part = test_block(job.records, job.test, job.blocks[number])
    nearest, places = np.unique(index, return_inverse=True)
    labels = read_labels(job.records.address.open(), nearest)[places].reshape(index.shape)
    step, lines = piece_rows(job), []
    for count, weights in models:
        answers = Answers(job, part)
        for a in range(0, len(index), step):
            piece = slice(a, a + step)
            votes = Votes(labels[piece], distance[piece], weights)
            answers.add(piece, votes.answer(count, job.classes))
        lines.append(answers.sums())
    return tuple(lines)


def _of(setting: Setting, fixed: Mapping[str, Any]) -> tuple[int, str, str]:
    """K, weights and metric of a setting."""
    values = {"neighbors": 5, "weights": "uniform", "metric": "euclidean", **fixed, **setting}
    return values["neighbors"], values["weights"], values["metric"]


class Votes:
    """What the nearest rows say of some queries.

    Parameters
    ----------
    labels : ndarray (q, k)
        Of the nearest rows, nearest first.
    distance : ndarray (q, k) float64
    weights : {"uniform", "distance"}
    """

    def __init__(self, labels: NDArray[Any], distance: NDArray[np.float64], weights: str) -> None:
        self._labels, self._distance, self._weights = labels, distance, weights

    def answer(self, count: int, known: tuple[Any, ...]) -> Answer:
        """Return what the `count` nearest say: a class of those known, or a mean without any."""
        if not known:
            return Answer(self.mean(count))
        classes = np.array(known)
        return Answer(classes[self.most(count, classes)], self.shares(count, classes))

    def mean(self, count: int) -> NDArray[np.float64]:
        """Weighted mean label (q,) of the `count` nearest."""
        labels = self._labels[:, :count].astype(np.float64)
        if self._weights == "uniform":
            return labels.mean(axis=1)
        weights = self._of(count)
        return np.sum(labels * weights, axis=1) / np.sum(weights, axis=1)

    def most(self, count: int, classes: NDArray[Any]) -> NDArray[np.int64]:
        """Position (q,) of the class with most votes, the first of several.

        A class's votes are added up as scikit-learn's `predict` does, not its `predict_proba`.
        """
        codes, weights = np.searchsorted(classes, self._labels[:, :count]), self._of(count)
        votes = [np.sum(weights * (codes == codes[:, [k]]), axis=1) for k in range(count)]
        most = np.stack(votes, axis=1)
        leads = most == most.max(axis=1, keepdims=True)
        return np.where(leads, codes, len(classes)).min(axis=1)

    def shares(self, count: int, classes: NDArray[Any]) -> NDArray[np.float64]:
        """Share of the votes (q, classes) that each class has among the `count` nearest."""
        codes, weights = np.searchsorted(classes, self._labels[:, :count]), self._of(count)
        votes, every = np.zeros((len(codes), len(classes))), np.arange(len(codes))
        for k in range(count):  # in this order, as scikit-learn adds them up
            votes[every, codes[:, k]] += weights[:, k]
        return votes / votes.sum(axis=1, keepdims=True)

    def _of(self, count: int) -> NDArray[np.float64]:
        """Weights (q, count); where a row is at distance 0, only such rows count."""
        distance = self._distance[:, :count]
        if self._weights == "uniform":
            return np.ones_like(distance)
        with np.errstate(divide="ignore"):
            weights = 1.0 / distance
        same = np.isinf(weights)
        return np.where(same.any(axis=1, keepdims=True), same.astype(np.float64), weights)
