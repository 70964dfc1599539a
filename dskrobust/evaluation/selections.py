"""Training and test subsets of an experiment: what was asked for, checked, and their rows."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from shlex import quote
from typing import Any

import dask.array as da
import numpy as np
from numpy.typing import NDArray

from ..errors import Hint, InvalidOptionError, StaleResultsError
from ..metrics import resolve_metric
from ..scores import Scores, read_scores
from ..selection import parse_selection
from ..store import ResultTables, Store, current_results, find_results
from ..subsets import Subset, select_subset
from .membership import GroupRows, LazyRows, ListedRows, RowSource, check_exist, check_single


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
        Returns what knows its rows.
    """

    name: str
    size: int
    key: str | None
    load: Callable[[], RowSource]

    def resolved(self) -> SubsetRows:
        """Return the same with its key, for which a lazy subset has to be computed."""
        if self.key is not None:
            return self
        source = self.load()
        assert isinstance(source, LazyRows)
        return replace(self, key=source.key())


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

    @property
    def groups(self) -> tuple[str, ...]:
        """What selections are of."""
        return self.store.groups

    @property
    def context(self) -> tuple[Any, ...]:
        """What tells these groups from those of the store."""
        return ()

    @property
    def result_name(self) -> str:
        """Of the stored result whose robustness selects."""
        assert self.scores.result is not None
        return self.scores.result.name

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
            elif isinstance(selection, da.Array):
                chosen = self._of_array(name, selection)
            else:
                chosen = self._of_rows(name, np.asarray(selection))
        except InvalidOptionError as error:
            raise InvalidOptionError(f"{what} subset {name!r}: {error}") from error
        if not chosen.size:
            raise InvalidOptionError(f"{what} subset {name!r} has no samples; choose another")
        return chosen

    def _of_text(self, name: str, text: str) -> SubsetRows:
        terms = parse_selection(text, self.groups)
        group, steps = terms[0].group, terms[0].steps
        if not steps and len(terms) == 1:
            return self.whole_group(name, group)
        subset = select_subset(self.scores, text)
        what = [group, steps] if len(terms) == 1 else [subset.intervals]
        key = digest_of([*self.context, "selection", *what, self.result_name])
        return SubsetRows(name, subset.size, key, partial(_rows_of_subset, subset))

    def whole_group(self, name: str, group: str | None) -> SubsetRows:
        """Return all rows of a group, or of the store."""
        code = self.store.groups.index(group) if group in self.store.groups else None
        known = self.store.summary.groups
        size = self.store.rows if code is None else known[code].rows if code in known else 0
        key = digest_of(["group", code])
        return SubsetRows(name, size, key, partial(_rows_of_group, self.store, code))

    def _of_subset(self, name: str, subset: Subset) -> SubsetRows:
        if isinstance(subset.indices, da.Array):
            load = partial(LazyRows, subset.indices, self.store.rows)
            return SubsetRows(name, subset.size, None, load)
        return self._of_rows(name, np.asarray(subset.indices))

    def _of_array(self, name: str, rows: da.Array) -> SubsetRows:
        """Rows of a Dask array, which are checked once they are computed."""
        if rows.ndim != 1 or np.isnan(rows.shape[0]) or rows.dtype.kind not in "iu":
            raise InvalidOptionError(
                "a Dask array of row numbers must be whole numbers in one dimension of known "
                "length; call compute_chunk_sizes() first"
            )
        load = partial(LazyRows, rows, self.store.rows)
        return SubsetRows(name, len(rows), None, load)

    def _of_rows(self, name: str, rows: NDArray[Any]) -> SubsetRows:
        rows = np.sort(rows).astype(np.int64)
        check_exist(rows, self.store.rows)
        check_single(rows)
        return SubsetRows(name, len(rows), _key_of(rows), partial(ListedRows, rows))


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


def _rows_of_group(store: Store, code: int | None) -> RowSource:
    return GroupRows(store.address, code)


def _rows_of_subset(subset: Subset) -> RowSource:
    indices = subset.indices
    if isinstance(indices, da.Array):
        assert subset.scores is not None
        return LazyRows(indices, subset.scores.rows)
    return ListedRows(np.sort(indices).astype(np.int64))


def _key_of(rows: NDArray[np.int64]) -> str:
    return hashlib.sha256(np.ascontiguousarray(rows).tobytes()).hexdigest()[:16]


def digest_of(value: Any) -> str:
    """Return the digest of plain values."""
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16]
