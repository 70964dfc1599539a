"""Training and test subsets of an experiment: what was asked for, checked, and their rows."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from shlex import quote
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import (
    EqualRowsWarning,
    Hint,
    InvalidOptionError,
    OverlapWarning,
    StaleResultsError,
)
from ..metrics import resolve_metric
from ..scores import Scores, read_scores
from ..selection import parse_selection
from ..store import SHARED_ROWS, ResultTables, Store, current_results, find_results
from ..subsets import Subset, select_subset


@dataclass(frozen=True)
class SubsetRows:
    """A subset of an experiment.

    Attributes
    ----------
    name : str
    size : int
    key : str or None
        Digest of what it is; None while only its computation can tell.
    load : callable
        Returns its row numbers.
    """

    name: str
    size: int
    key: str | None
    load: Callable[[], NDArray[np.int64]]

    def rows(self) -> NDArray[np.int64]:
        """Return the row numbers (size,), rising."""
        return np.sort(self.load())

    def resolved(self) -> SubsetRows:
        """Return the same with its key, for which a lazy subset has to be computed."""
        if self.key is not None:
            return self
        rows = self.rows()
        return SubsetRows(self.name, self.size, _key_of(rows), lambda: rows)


class Selector:
    """Turns selections into rows of a store; the robustness is only asked where one needs it.

    Parameters
    ----------
    store : Store
    metric : str, optional
        Of the result whose robustness selects; the newest result by default.
    """

    def __init__(self, store: Store, metric: str | None) -> None:
        if metric not in (None, "mahalanobis"):
            resolve_metric(metric)  # refuses unknown ones also where nothing selects by it
        self.store, self.metric = store, metric
        self._scores: Scores | None = None

    @property
    def scores(self) -> Scores:
        """The stored robustness.

        Raises
        ------
        StaleResultsError
            Where there is none of this metric for the store's data.
        """
        if self._scores is None:
            self._scores = read_scores(self.store, result_of(self.store, self.metric))
        return self._scores

    def choose(self, what: str, name: str, selection: Any) -> SubsetRows:
        """Return a checked subset; nothing is computed.

        Raises
        ------
        InvalidOptionError
            For an unknown group, more samples than there are, or rows that do not exist.
        """
        try:
            if isinstance(selection, str):
                chosen = self._of_text(name, selection)
            elif isinstance(selection, Subset):
                chosen = self._of_subset(name, selection)
            else:
                chosen = self._of_rows(name, np.asarray(selection))
        except InvalidOptionError as error:
            raise InvalidOptionError(f"{what} subset {name!r}: {error}") from error
        if not chosen.size:
            raise InvalidOptionError(f"{what} subset {name!r} has no samples; choose another")
        return chosen

    def _of_text(self, name: str, text: str) -> SubsetRows:
        terms = parse_selection(text, self.store.groups)
        group, steps = terms[0].group, terms[0].steps
        if steps or len(terms) > 1:
            subset = select_subset(self.scores, text)
            result = self.scores.result
            assert result is not None
            what = [group, steps] if len(terms) == 1 else [subset.intervals]
            key = _digest(["selection", *what, result.name])
            return SubsetRows(name, subset.size, key, partial(_rows_of_subset, subset))
        code = self.store.groups.index(group) if group in self.store.groups else None
        known = self.store.summary.groups
        size = self.store.rows if code is None else known[code].rows if code in known else 0
        key = _digest(["group", code])
        return SubsetRows(name, size, key, partial(_rows_of_group, self.store, code))

    def _of_subset(self, name: str, subset: Subset) -> SubsetRows:
        if isinstance(subset.indices, np.ndarray):
            return self._of_rows(name, subset.indices)
        return SubsetRows(name, subset.size, None, partial(_rows_of_subset, subset))

    def _of_rows(self, name: str, rows: NDArray[Any]) -> SubsetRows:
        rows = np.sort(rows).astype(np.int64)
        if len(rows) and (rows[0] < 0 or rows[-1] >= self.store.rows):
            row = rows[0] if rows[0] < 0 else rows[-1]
            last = self.store.rows - 1
            raise InvalidOptionError(f"there is no row {row}; rows go from 0 to {last}")
        if (rows[1:] == rows[:-1]).any():
            row = rows[1:][rows[1:] == rows[:-1]][0]
            raise InvalidOptionError(f"row {row} is there twice; give every row once")
        return SubsetRows(name, len(rows), _key_of(rows), lambda: rows)


def overlap_warnings(
    store: Store, train: Iterable[SubsetRows], test: Iterable[SubsetRows]
) -> Iterator[OverlapWarning]:
    """Yield a warning where a test subset has samples of a training subset, or equal ones."""
    train, test = list(train), list(test)
    largest = overlap(store.rows, train, test)
    if largest is not None:
        share, trained, tested = largest
        yield OverlapWarning(
            f"{share:.0%} of the samples of {tested} are in {trained} too: LOSS and ACC on samples "
            "that a model was trained on are flattering"
        )
    equal = equal_rows(store, train, test)
    if equal is not None:
        rows, trained, tested = equal
        yield EqualRowsWarning(
            f"up to {rows:,} samples of {tested} equal one of {trained} in every feature: LOSS and "
            "ACC on them are flattering; keep equal rows in one group: drop repeats, or split with "
            "group=COLUMN (--group COLUMN)"
        )


def overlap(
    rows: int, train: Iterable[SubsetRows], test: Iterable[SubsetRows]
) -> tuple[float, str, str] | None:
    """Return the largest share of a test subset that a training subset has too, and their names.

    None where no sample is in two of them.

    Parameters
    ----------
    rows : int
        Of the store.
    """
    tested = {chosen.name: chosen.rows() for chosen in test}
    shares = []
    for chosen in train:
        trained = np.zeros(rows, np.bool_)
        trained[chosen.rows()] = True
        shares += [(float(trained[r].mean()), chosen.name, name) for name, r in tested.items()]
    worst = max(shares, key=lambda triple: triple[0])
    return worst if worst[0] else None


def equal_rows(
    store: Store, train: Iterable[SubsetRows], test: Iterable[SubsetRows]
) -> tuple[int, str, str] | None:
    """Return how many rows of a test subset may equal one of a training subset, and their names.

    Told by the store's note on equal rows across groups alone: exact for whole groups, an upper
    bound for selections from them. None where the note has nothing, or there is none.
    """
    pairs = [pair for note in store.notes or () if note.kind == SHARED_ROWS
             for pair in note.details["pairs"]]  # fmt: skip
    if not pairs:
        return None
    codes = store.split_codes[:]
    trained = {chosen.name: _groups_in(codes, chosen.rows()) for chosen in train}
    found = []
    for chosen in test:
        within = _groups_in(codes, chosen.rows())
        for name, groups in trained.items():
            shared = sum(
                min(rows, within[code])
                for a, b, rows in pairs
                if (code := store.groups.index(a)) in within
                and (other := store.groups.index(b)) in groups
                and not (other in within and code in groups)  # nothing is held out there
            )
            found.append((min(shared, chosen.size), name, chosen.name))
    worst = max(found, key=lambda triple: triple[0])
    return worst if worst[0] else None


def _groups_in(codes: NDArray[np.int16], rows: NDArray[np.int64]) -> dict[int, int]:
    """Return how many of some rows every group has that is among them."""
    known, counts = np.unique(codes[rows], return_counts=True)
    return dict(zip(known.tolist(), counts.tolist(), strict=True))


def result_of(store: Store, metric: str | None) -> ResultTables:
    """Return the newest stored result of a metric (of any without) that covers the data.

    Raises
    ------
    StaleResultsError
    """
    if metric is None:
        return current_results(store)
    wanted = metric if metric == "mahalanobis" else str(resolve_metric(metric))
    fit = [r for r in find_results(store) if str(r.parameters["metric"]).startswith(wanted)]
    for result in reversed(fit):
        if result.covers(store):
            return result
    raise StaleResultsError(
        f"{store.url} has no results for the metric {wanted} and its data",
        Hint(
            f"run dr.sample_robustness(store, metric={wanted!r}).write()",
            f"run `dskrobust compute {quote(store.url)} --metric {quote(wanted)}`",
        ),
    )


def _rows_of_group(store: Store, code: int | None) -> NDArray[np.int64]:
    if code is None:
        return np.arange(store.rows)
    return np.flatnonzero(store.split_codes[:] == code)


def _rows_of_subset(subset: Subset) -> NDArray[np.int64]:
    return np.asarray(subset.compute(), np.int64)


def _key_of(rows: NDArray[np.int64]) -> str:
    return hashlib.sha256(np.ascontiguousarray(rows).tobytes()).hexdigest()[:16]


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16]
