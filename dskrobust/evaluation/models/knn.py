"""k-nearest-neighbour models: one search serves all training subsets, K and weightings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...metrics import resolve_metric
from ...neighbours import Neighbours, compute_neighbours, nearest_neighbours
from ..experiment import Setting
from ..rows import read_labels, test_side
from .base import Job, Model, Prediction, Problem

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
                raise self.refuse(f"weights {weights!r} is unknown; choose {' or '.join(WEIGHTS)}")
            resolve_metric(metric).form(problem.columns, 1.0)

    def steps(self, trains: Sequence[str]) -> Iterable[tuple[tuple[str, ...], tuple[Setting, ...]]]:
        """All training subsets and settings are one job."""
        yield tuple(trains), tuple(self.spec.settings)

    def trials(self, wanted: int) -> int:
        """One: every trial would be the same."""
        return 1

    def own_bytes(self, problem: Problem) -> int:
        """Lists of the nearest rows for every training subset, and shares of the votes."""
        most = max(_of(setting, self.spec.parameters)[0] for setting in self.spec.settings)
        queries = sum(problem.test.values())
        lists = len(problem.train) * queries * most * LIST_BYTES
        return lists + problem.probability_bytes

    def predict(self, job: Job, client: Client | None) -> Iterator[Prediction]:
        assert client is not None
        by_metric: dict[str, list[Setting]] = {}
        for setting in job.settings:
            by_metric.setdefault(_of(setting, self.spec.parameters)[2], []).append(setting)
        for metric, settings in by_metric.items():
            yield from self._search(job, client, metric, settings)

    def _search(
        self, job: Job, client: Client, metric: str, settings: Sequence[Setting]
    ) -> Iterator[Prediction]:
        """Search once with a metric and predict with all settings that have it."""
        store, queries = job.records.address.open(), test_side(job).rows
        subsets = {name: job.records.rows(key) for name, key in job.train}
        most = max(_of(setting, self.spec.parameters)[0] for setting in settings)
        with client.as_current():
            search = nearest_neighbours(
                store, most, queries=queries, references=subsets, metric=metric
            )
            nearest = compute_neighbours(search, scheduler=client)
        for name, rows in subsets.items():
            rows = np.sort(rows)
            labels = read_labels(store, rows)[np.searchsorted(rows, nearest[name].index)]
            for setting in settings:
                count, weights, _ = _of(setting, self.spec.parameters)
                votes = Votes(labels, nearest[name], weights)
                if job.classes:
                    classes = np.array(job.classes)
                    values = classes[votes.most(count, classes)]
                    yield Prediction(name, setting, values, votes.shares(count, classes))
                else:
                    yield Prediction(name, setting, votes.mean(count))


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
    nearest : Neighbours
    weights : {"uniform", "distance"}
    """

    def __init__(self, labels: NDArray[Any], nearest: Neighbours, weights: str) -> None:
        self._labels, self._distance, self._weights = labels, nearest.distance, weights

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
