"""Results that a cleaned store takes over: only what changed rows touch is searched again.

Let C be the rows with another label and D those that were dropped; all others are as they were, and
their row numbers have the same order. Of a row x outside C, against a group, the old result is the
pair of smallest distance (then of the lowest row number) among all that count.

- Its partner is in neither C nor D: all pairs outside C and D that counted still do, and no others,
  so the old pair is the best of them. The new result is the better of it and the best pair with a
  row of C.
- Its partner is in C or D: what the best of the others is was never known. x is searched anew.

Rows of C are searched anew, too. So there are two one-sided searches, of few rows among all and
of all rows among few, whose distances are the same float64 numbers as those of any search; Q and
R are made of them as ever. That holds for categories, where the rule of a pair ("different",
"same") is all that labels do; of other labels, and of searches with other parameters, nothing is
taken over.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..definitions import lipschitz_of, robustness_of
from ..engine.spec import PairSpec
from ..errors import DskrobustError, Hint, MemoryPlanError
from ..labels import LabelMap
from ..memory import check_memory
from ..neighbours import compute_neighbours, nearest_neighbours
from ..runs import pair_spec
from ..scores import RESULT_ROWS
from ..store import ResultTables, ResultWriter, RowChanges, Store, find_results, made_once

MOST_ANEW = 0.25  # of the rows: more that are searched anew are no gain
ROW_BYTES = 96  # of a row against a group: distance and row number, old, new, of either search
_INSTEAD = Hint("compute the cleaned store", "run `dskrobust compute` on the cleaned store")


class Carried(NamedTuple):
    """A result that was taken over, and how many of its rows were searched anew."""

    result: ResultTables
    anew: int


class _Best(NamedTuple):
    """The best pair of every row, (n, groups): distance, and row number or -1."""

    distance: NDArray[np.float64]
    row: NDArray[np.int64]


def carry_results(old: Store, new: Store, changes: RowChanges) -> list[Carried]:
    """Write into a cleaned store the results of the old one, searching only what changes touch.

    Returns
    -------
    list of Carried
        None of other labels than categories, where a group holds fewer than two rows or labels,
        or where computing all of it is no more work.
    """
    carried = []
    known: dict[str, ResultTables] = {}
    for result in find_results(old, everything=True):
        if result.covers(old) and result.groups == new.groups and not _is_uneven(new):
            known[repr(sorted(result.parameters.items(), key=str))] = result
    for result in known.values():
        spec = _spec_of(new, result)
        if spec is not None:
            try:
                check_memory("what is taken over", new.rows, ROW_BYTES * len(new.groups), _INSTEAD)
            except MemoryPlanError:
                continue
            with made_once(new, spec.parameters()):
                made = _Carrying(old, new, changes, result, spec).carry()
            carried += [] if made is None else [made]
    return carried


def _is_uneven(store: Store) -> bool:
    counts = store.summary.groups
    few = any(code not in counts or counts[code].rows < 2 for code in range(len(store.groups)))
    return few or bool(store.uniform_groups)


def _spec_of(new: Store, result: ResultTables) -> PairSpec | None:
    """Return what computes a result in the new store; None where that would not be the same."""
    parameters = result.parameters
    if {"k", "references"} & set(parameters) or "reach_by_group" not in result.tables():
        return None
    try:
        rule = str(parameters.get("labels"))
        rule = rule if rule == "same" else "different"
        labels = LabelMap("categorical", bound=parameters.get("bound"))
        spec = pair_spec(new, str(parameters["metric"]), labels, rule)
    except DskrobustError:  # a metric that only Python can give
        return None
    return spec if spec.parameters() == dict(parameters) else None


@dataclass(frozen=True)
class _Carrying:
    """One result on its way from a store to the cleaned one."""

    old: Store
    new: Store
    changes: RowChanges
    result: ResultTables
    spec: PairSpec

    def carry(self) -> Carried | None:
        """Write the result; None where computing all of it is no more work."""
        stays = np.setdiff1d(np.arange(self.old.rows), self.changes.dropped)
        changed = np.array(sorted(self.changes.labels), np.int64)
        best, anew = self._kept(stays, changed)
        if len(anew) > MOST_ANEW * self.new.rows:
            return None
        changed = self.changes.new_rows(changed)
        if len(changed):
            best = _better(best, self._search(None, self._by_group(changed)))
        if len(anew):
            found = self._search(anew, {name: name for name in self.new.groups})
            best.distance[anew], best.row[anew] = found
        return Carried(self._write(best), len(anew))

    def _kept(
        self, stays: NDArray[np.int64], changed: NDArray[np.int64]
    ) -> tuple[_Best, NDArray[np.int64]]:
        """Return the old pairs of rows that stay, and which rows are searched anew."""
        index = self.result.read("nearest_by_group", 0, self.old.rows)[stays]
        distance = self.result.read("reach_by_group", 0, self.old.rows)[stays]
        touched = np.union1d(changed, self.changes.dropped)
        lost = np.isin(index, touched).any(axis=1) | np.isin(stays, changed)
        moved = self.changes.new_rows(index.ravel()).reshape(index.shape)
        return _Best(distance, moved), np.flatnonzero(lost)

    def _by_group(self, rows: NDArray[np.int64]) -> dict[str, NDArray[np.int64]]:
        """Return some rows by their groups, those that have any."""
        split = self.new.split_codes[rows]
        parts = {name: rows[split == code] for code, name in enumerate(self.new.groups)}
        return {name: part for name, part in parts.items() if len(part)}

    def _search(self, queries: Any, references: Mapping[str, Any]) -> _Best:
        """Return the best pairs of queries with rows of every reference set, by group.

        Of the same label a query that is a reference too finds itself: then the next one counts.
        """
        asked = np.arange(self.new.rows) if queries is None else queries
        shape = len(asked), len(self.new.groups)
        found = _Best(np.full(shape, np.inf), np.full(shape, -1, np.int64))
        for k, sets in self._by_length(references).items():
            lists = nearest_neighbours(
                self.new, k, queries=queries, references=sets,
                labels=self.spec.rule, metric=self.spec.metric,
            )  # fmt: skip
            for name, one in compute_neighbours(lists).items():
                column = self.new.groups.index(name)
                other = one.index != asked[:, None]
                first, there = other.argmax(axis=1)[:, None], other.any(axis=1)
                for values, made in ((one.distance, found.distance), (one.index, found.row)):
                    made[there, column] = np.take_along_axis(values, first, axis=1)[there, 0]
        return found

    def _by_length(self, references: Mapping[str, Any]) -> dict[int, dict[str, Any]]:
        """Return reference sets by how many neighbours are asked for in them: 1, or 2 if there."""
        sets: dict[int, dict[str, Any]] = {}
        for name, rows in references.items():
            two = self.spec.rule == "same" and (isinstance(rows, str) or len(rows) > 1)
            sets.setdefault(1 + two, {})[name] = rows
        return sets

    def _write(self, best: _Best) -> ResultTables:
        """Write a result of the best pairs as a computation writes it."""
        digests = tuple(digest for _, digest in self.new.segments)
        size = min(RESULT_ROWS, self.new.rows)
        writer = ResultWriter(
            self.new.address, self.spec.parameters(), digests, self.new.groups, size
        )
        kinds = self.result.tables()
        writer.create({name: (shape[1:], dtype) for name, (shape, dtype) in kinds.items()})
        norm = float(self.result.facts["label_norm"])
        checksums = []
        for lo in range(0, self.new.rows, size):
            part = _Best(best.distance[lo : lo + size], best.row[lo : lo + size])
            split = self.new.read("split", lo, lo + len(part.row))
            checksums.append(writer.write(lo, _tables(part, split, norm)))
        facts = {**self.result.facts, "seconds": 0.0, "carried": True}
        return writer.commit(checksums, facts)


def _tables(best: _Best, split: NDArray[np.int16], norm: float) -> dict[str, NDArray[Any]]:
    """Return the tables of some rows by name."""
    lipschitz = lipschitz_of(best.distance)
    by_group = {
        "lipschitz_by_group": lipschitz, "reach_by_group": best.distance,
        "nearest_by_group": best.row,
    }  # fmt: skip
    own = np.arange(len(split)), split
    return {
        "robustness": robustness_of(lipschitz[own], norm), "lipschitz": lipschitz[own],
        "reach": best.distance[own], "witness": best.row[own], **by_group,
    }  # fmt: skip


def _better(one: _Best, other: _Best) -> _Best:
    """Return the better of two pairs of every row: smaller distance, then lower row number."""
    nearer = other.distance < one.distance
    tied = (other.distance == one.distance) & (other.row >= 0)
    first = nearer | (tied & ((other.row < one.row) | (one.row < 0)))
    return _Best(np.where(first, other.distance, one.distance), np.where(first, other.row, one.row))
