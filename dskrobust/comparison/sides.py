"""What is compared of a store: the scores of one run, and what else tells of every row."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple

import dask.array as da
import numpy as np
from numpy.typing import NDArray

from ..datasets import restore_labels
from ..errors import Hint, InvalidOptionError
from ..label_issues import Findings
from ..label_thresholds import HIGHEST, Thresholds
from ..records import BLOCK_ROWS, as_records
from ..report import StoredResults
from ..scores import Scores
from ..store import ResultTables, Store, current_results, find_results, open_store
from ..stored_rows import store_labels
from ..subsets import class_name

WHOLE = "whole"  # labels are compared as stored


class Side:
    """One of the two that are compared.

    Parameters
    ----------
    store : Store
    result : ResultTables
    """

    def __init__(self, store: Store, result: ResultTables) -> None:
        self.store, self.results = store, StoredResults(store, result)

    @property
    def is_searched(self) -> bool:
        """Whether the store knows which labels are suspicious."""
        return self.results.label_findings is not None

    @cached_property
    def calibrated(self) -> Thresholds | None:
        """The thresholds that planted errors told, where the store keeps some."""
        findings = self.results.label_findings
        return None if findings is None else Thresholds.kept_for(findings.quality)

    def suspicious(self, thresholds: Thresholds) -> da.Array:
        """Return which labels are suspicious by some thresholds, (n,) bool, lazy."""
        findings = self.results.label_findings
        if findings is None:
            return da.zeros(self.store.rows, dtype=bool, chunks=BLOCK_ROWS)
        return Findings.of(findings.quality, thresholds).is_issue

    def names(self) -> list[str]:
        """Return what the classes that occur are called, in the order of their labels."""
        return [class_name(self.store, label) for label in self.results.label_counts["value"]]

    def records(self, label: da.Array, thresholds: Thresholds) -> da.Array:
        """Return a record a row, (n,), lazy.

        Fields are row, split, robustness, witness, contradictory, suspicious and label.
        """
        scores = self.results.scores
        names = ("split", "robustness", "witness")
        columns = {name: getattr(scores, name) for name in names}
        columns["contradictory"] = da.asarray(scores.reach) == 0
        return as_records({**columns, "suspicious": self.suspicious(thresholds), "label": label})


class LabelColumns(NamedTuple):
    """The labels of two stores, as one may compare them.

    Attributes
    ----------
    before, after : dask array (n,)
        Codes of classes, or numbers in their own units; zeros where they cannot be compared.
    names : tuple of str
        Of the codes.
    comparable : bool
    """

    before: da.Array
    after: da.Array
    names: tuple[str, ...]
    comparable: bool


def label_columns(before: Side, after: Side) -> LabelColumns:
    """Return the labels of both sides under the same names, or in the same units."""
    sides = before, after
    if all(side.results.categorical for side in sides):
        own = [side.names() for side in sides]
        names = tuple(dict.fromkeys([*own[1], *own[0]]))
        code = {name: k for k, name in enumerate(names)}
        columns = [
            store_labels(side.store, dtype=np.int64, made=partial(
                _codes, side.results.label_counts["value"],
                np.array([code[name] for name in own_names])))
            for side, own_names in zip(sides, own, strict=True)
        ]  # fmt: skip
        return LabelColumns(columns[0], columns[1], names, True)
    if all(side.results.has_real_labels for side in sides):
        columns = [
            store_labels(
                side.store, dtype=np.float64, made=partial(restore_labels, side.store.spec)
            )
            for side in sides
        ]
        return LabelColumns(columns[0], columns[1], (), True)
    columns = [da.zeros(side.store.rows, dtype=np.float64, chunks=BLOCK_ROWS) for side in sides]
    return LabelColumns(columns[0], columns[1], (), False)


def _codes(
    known: NDArray[Any], codes: NDArray[np.int64], labels: NDArray[Any]
) -> NDArray[np.int64]:
    return codes[np.searchsorted(known, labels)]


def common_thresholds(before: Side, after: Side) -> tuple[Thresholds, str]:
    """Return from which score on labels are suspicious on both sides, and how that is known.

    The same on both: else a store in which errors were planted would be compared with one that has
    not seen any.
    """
    if before.store.spec.classes == after.store.spec.classes:
        for side, which in ((before, "before"), (after, "after")):
            if side.calibrated is not None:
                return side.calibrated, f"thresholds of {which}, told by planted errors"
    return Thresholds.fixed(HIGHEST), f"a score of at most {HIGHEST:g}"


# -- which runs --------------------------------------------------------------------------------

Given = Scores | Side | Store | str | Path


def sides(before: Given, after: Given | None = None) -> tuple[Side, Side]:
    """Return the two sides that are compared.

    Of two stores the newest results of the same parameters are taken, without such the newest of
    each; of one store its two results.

    Raises
    ------
    InvalidOptionError
        Where a store's two runs are not told apart, or both sides are the same run.
    StaleResultsError
        Where a store has no results for its data.
    """
    if after is None:
        return _two_runs(before)
    (store, run), (other, further) = _opened(before), _opened(after)
    if run is None or further is None:
        run, further = _alike(store, other, run, further)
    if run.url == further.url and run.name == further.name:
        if not {type(before), type(after)} & {Scores, Side}:
            return _two_runs(store)
        raise InvalidOptionError(
            f"both sides are {run.name} of {store.url}; compare two runs, or two stores"
        )
    return Side(store, run), Side(other, further)


def _opened(given: Given) -> tuple[Store, ResultTables | None]:
    if isinstance(given, Side):
        return given.store, given.results.result
    if not isinstance(given, Scores):
        return open_store(given), None
    if given.store is None or given.result is None:
        raise InvalidOptionError(
            "only scores that are in a store are compared; write them first, scores.write()"
        )
    return given.store, given.result


def current_runs(store: Store) -> list[ResultTables]:
    """Return the runs that cover a store's data, the newest last."""
    return [result for result in find_results(store) if result.covers(store)]


def _alike(
    store: Store, other: Store, run: ResultTables | None, further: ResultTables | None
) -> tuple[ResultTables, ResultTables]:
    """Return the newest runs of two stores with the same parameters, or the newest of each."""
    own = [run] if run else current_runs(store)
    others = [further] if further else current_runs(other)
    for one in reversed(own):
        for another in reversed(others):
            if same_run(one) == same_run(another):
                return one, another
    return run or current_results(store), further or current_results(other)


def same_run(result: ResultTables) -> dict[str, Any]:
    """Return the parameters of a run but for what a matrix of the data makes of the metric."""
    known = dict(result.parameters)
    metric = str(known.get("metric"))
    return {**known, "metric": "mahalanobis" if metric.startswith("mahalanobis") else metric}


def _two_runs(given: Given) -> tuple[Side, Side]:
    store, run = _opened(given)
    runs = current_runs(store)
    if run is not None:
        runs = [*(one for one in runs if one.name != run.name), run]
    if len(runs) != 2:
        raise InvalidOptionError(
            f"{store.url} has {run_words(runs)}; two of them are compared", _WHICH
        )
    return Side(store, runs[0]), Side(store, runs[1])


_WHICH = Hint(
    "give the scores of both: compare(sample_robustness(store, metric=…), "
    "sample_robustness(store, metric=…))",
    "name the metric of the second, --after-metric METRIC, or another store",
)


def run_words(runs: Sequence[ResultTables]) -> str:
    """Return in words which runs a store has."""
    if not runs:
        return "no results of its data"
    told = (f"{run.parameters['metric']}, {run.parameters['labels']} labels" for run in runs)
    return f"{len(runs)} result{'s' * (len(runs) > 1)} of its data ({'; '.join(told)})"
