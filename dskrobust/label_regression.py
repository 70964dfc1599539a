"""Real labels that are suspicious: far from those of the nearest samples, measured by their spread.

The nearest samples do not depend on labels. So errors that are planted, to tell from which score on
a label is suspicious, need no further search: only labels are looked up again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .datasets import restore_labels
from .errors import Hint, InvalidOptionError
from .label_planting import BESIDE, GIVEN, PLANTED, PLANTED_ERROR, PlantedScores, rounds_for
from .label_thresholds import Thresholds
from .memory import check_memory
from .metrics import Metric
from .neighbours import Neighbours, nearest_neighbours
from .runs import PairData, RunOptions, open_data
from .store import Store

if TYPE_CHECKING:
    import pandas as pd

NEIGHBOURS = 10  # whose labels a label is compared with
BLOCK = 65_536  # rows that are looked at together
ROW_BYTES = 250  # of a table of all samples, while it is made
NORMAL = 1.4826  # standard deviations of a normal distribution in a median absolute deviation


class Surroundings(NamedTuple):
    """What the neighbours' labels say of every sample, (n,) float64 each.

    Attributes
    ----------
    expected : ndarray
        Their median.
    spread : ndarray
        How far they are from it as a rule: 1.48 times the median absolute deviation, averaged in
        squares with its median over all samples, as ten labels tell it roughly.
    score : ndarray
        1 / (1 + |label - expected| / spread).
    """

    expected: NDArray[np.float64]
    spread: NDArray[np.float64]
    score: NDArray[np.float64]


@dataclass(frozen=True)
class RegressionFindings:
    """What is found of real labels.

    Attributes
    ----------
    labels : ndarray (n,) float64
        In their own units.
    split : ndarray (n,) int16
    groups : tuple of str
    surroundings : Surroundings
    nearest, distance : ndarray (n,)
        The nearest sample, and how far it is.
    thresholds : Thresholds
    """

    labels: NDArray[np.float64]
    split: NDArray[np.int16]
    groups: tuple[str, ...]
    surroundings: Surroundings
    nearest: NDArray[np.int64]
    distance: NDArray[np.float64]
    thresholds: Thresholds

    @property
    def rows(self) -> int:
        """Number of samples."""
        return len(self.labels)

    @property
    def is_issue(self) -> NDArray[np.bool_]:
        """Which labels are suspicious, (n,)."""
        limit = float(self.thresholds.judged["threshold"][-1])
        return self.surroundings.score <= limit

    @property
    def issues(self) -> int:
        """How many there are."""
        return int(self.is_issue.sum())

    def table(self, top: int | None = None) -> pd.DataFrame:
        """Return the samples as a table, the worst first; only so many with `top`."""
        import pandas as pd

        found = self.surroundings
        order = np.lexsort((np.arange(self.rows), found.score))[:top]
        columns = {
            "row": order, "split": np.array(self.groups, dtype=object)[self.split[order]],
            "is_issue": self.is_issue[order], "score": found.score[order],
            "given_label": self.labels[order], "neighbours_label": found.expected[order],
            "difference": (self.labels - found.expected)[order], "spread": found.spread[order],
            "nearest": pd.array(self.nearest[order], dtype="Int64"),
            "nearest_distance": self.distance[order],
        }  # fmt: skip
        table = pd.DataFrame(columns)
        table.attrs["thresholds"] = self.thresholds.frame(np.empty(0, object)).to_dict("records")
        return table


@dataclass(frozen=True)
class RegressionQuality:
    """Real labels and the lists of every sample's nearest ones.

    Attributes
    ----------
    data : PairData
    lists : Neighbours
        Of all samples, whatever their groups.
    """

    data: PairData
    lists: Neighbours

    def findings(self, threshold: float | None = None) -> RegressionFindings:
        """Search what is not there yet, and compare every label with its neighbours'.

        threshold: largest score of an issue; None to have it told by planted errors.

        Raises
        ------
        InvalidOptionError
            For a threshold that is no score.
        MemoryPlanError
            Where a few numbers of every sample do not fit into this process.
        """
        thresholds = None if threshold is None else Thresholds.fixed(threshold)
        in_store = self.data.store is not None
        held = ROW_BYTES + (0 if in_store else 16 * NEIGHBOURS)
        check_memory("a table of all labels", self.data.rows, held, _INSTEAD)
        lists = self.lists.write() if in_store else self.lists.compute()
        labels = _labels(self.data)
        if thresholds is None:
            thresholds = Thresholds.of(_planted(lists, labels), by_class=False)
        return RegressionFindings(
            labels, np.asarray(self.data.split), self.data.groups, _surroundings(lists, labels),
            np.asarray(lists.index[:, 0]), np.asarray(lists.distance[:, 0]), thresholds,
        )  # fmt: skip


_INSTEAD = Hint(
    "look at a part of the data, such as a store of a sample of its rows",
    "look at a part of the data, such as a store of a sample of its rows",
)


def regression_quality(
    data: Any,
    y: Any = None,
    split: ArrayLike | None = None,
    *,
    metric: str | Metric | Callable[..., float] = "euclidean",
    scale: float = 1.0,
    options: RunOptions | None = None,
) -> RegressionQuality:
    """Set up a comparison of real labels with those of the nearest samples; nothing runs yet.

    Parameters
    ----------
    data, y, split, metric, scale, options
        As `find_label_issues` takes them.

    Raises
    ------
    InvalidDataError, InvalidOptionError, MemoryPlanError, StoreError
    """
    opened = open_data(data, y, split, scale)
    if opened.rows <= NEIGHBOURS:
        raise InvalidOptionError(
            f"{opened.rows:,} samples are too few: every label is compared with those of "
            f"{NEIGHBOURS} others"
        )
    source: Any = opened.store if opened.arrays is None else opened.arrays.X
    scaled: dict[str, Any] = {} if opened.arrays is None else {"scale": scale}
    lists = nearest_neighbours(source, NEIGHBOURS, metric=metric, options=options, **scaled)
    return RegressionQuality(opened, lists)


def has_real_labels(data: Any) -> bool:
    """Whether data is a store, or its address, whose labels are numbers, one a sample."""
    from .store import open_store

    if not isinstance(data, (Store, str, Path)):
        return False
    return open_store(data).spec.label_kind == "real"


def _labels(data: PairData) -> NDArray[np.float64]:
    if data.store is None:
        assert data.arrays is not None
        return np.asarray(data.arrays.y, np.float64).reshape(data.rows)
    labels = np.asarray(data.store.labels[:], np.float64).reshape(data.rows)
    return restore_labels(data.store.spec, labels)


def _planted(lists: Neighbours, labels: NDArray[np.float64]) -> PlantedScores:
    """Give labels of others to PLANTED of the samples, and score all, in some rounds."""
    rows = len(labels)
    scores, kinds = [_surroundings(lists, labels).score], [np.full(rows, GIVEN, np.int8)]
    rounds = rounds_for(rows)
    for seed in range(rounds):
        rng = np.random.default_rng(seed)
        chosen = rng.choice(rows, max(1, round(PLANTED * rows)), replace=False)
        noisy, kind = labels.copy(), np.full(rows, BESIDE, np.int8)
        noisy[chosen] = labels[rng.integers(0, rows, len(chosen))]
        kind[chosen] = PLANTED_ERROR
        kind[chosen[noisy[chosen] == labels[chosen]]] = BESIDE  # it has not changed
        scores.append(_surroundings(lists, noisy).score)
        kinds.append(kind)
    score, kind = np.concatenate(scores), np.concatenate(kinds)
    return PlantedScores(np.zeros(len(score), np.int8), score, kind, rounds)


def _surroundings(lists: Neighbours, labels: NDArray[np.float64]) -> Surroundings:
    """Compare labels (n,) with those of the neighbours, block by block."""
    parts = [_medians(labels[index]) for index in _blocks(lists)]
    expected, own = (np.concatenate(several) for several in zip(*parts, strict=True))
    spread = np.sqrt((own**2 + np.median(own) ** 2) / 2)
    difference = np.abs(labels - expected)
    with np.errstate(divide="ignore", invalid="ignore"):
        score = 1.0 / (1.0 + difference / spread)
    return Surroundings(expected, spread, np.where(difference == 0, 1.0, score))


def _blocks(lists: Neighbours) -> Iterator[NDArray[np.int64]]:
    for lo in range(0, lists.rows, BLOCK):
        yield np.asarray(lists.index[lo : lo + BLOCK])


def _medians(labels: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the median of labels (b, k), and how far they are from it."""
    middle = np.median(labels, axis=1)
    return middle, NORMAL * np.median(np.abs(labels - middle[:, None]), axis=1)
