"""Evaluations beside the data: the rows of their subsets, and one record per finished step.

A record is a sealed object: a kill loses only the steps under way, and one that was changed is an
error that names it. Arrays that belong to a record are written before it. Steps that take long keep
checkpoints until they have a record.
"""

from __future__ import annotations

import json
from collections.abc import Container, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import DamagedStoreError
from . import arrays, format1
from .blobs import Blobs
from .checkpoints import Checkpoints
from .dataset import SourceAddress, Store
from .objects import Objects
from .seals import MARK, damaged_object, read_record, write_record

EVALUATIONS, CHECKPOINTS = "evaluations", "checkpoints"
STEP, FACTS = "step", "evaluation"  # kinds of records
FACTS_RECORD = "record.evaluation"
DRAWN = "drawn"  # among the facts of folds that were drawn: what was asked for
SPAN = 2**16  # rows of the store whose members of a subset are one list: 2 bytes each say which


class RowRange(NamedTuple):
    """A run of a subset's rows, rising, as a task finds them: spans, and places in their lists.

    Attributes
    ----------
    first, last : int
        Spans of the store's rows, the last one not included.
    start, stop : int
        Places among the subset's rows in these spans.
    """

    first: int
    last: int
    start: int
    stop: int


def row_ranges(counts: NDArray[np.int64], size: int) -> list[RowRange]:
    """Cut a subset into runs of `size` rows, told from how many it has in every span."""
    ends = np.cumsum(counts)
    total = int(ends[-1]) if len(ends) else 0
    ranges = []
    for a in range(0, total, size):
        b = min(a + size, total)
        first, last = int(np.searchsorted(ends, a, "right")), int(np.searchsorted(ends, b)) + 1
        before = int(ends[first] - counts[first])
        ranges.append(RowRange(first, last, a - before, b - before))
    return ranges


@dataclass(frozen=True)
class EvaluationRecords:
    """The records of all steps that are measured on the same test subsets with the same seed.

    Attributes
    ----------
    address : SourceAddress
    name : str
        Digest of the data's fingerprint and of what all the steps share.
    """

    address: SourceAddress
    name: str

    @property
    def path(self) -> str:
        """The records' group in the store."""
        return f"{EVALUATIONS}/{self.name}"

    @property
    def _blobs(self) -> Blobs:
        return Blobs(self.address, self.path)

    @property
    def _objects(self) -> Objects:
        return Objects(self.address)

    def begin(self, facts: Mapping[str, Any]) -> None:
        """Write down what the records are of; earlier facts are replaced."""
        date = datetime.now(UTC).isoformat(timespec="seconds")
        write_record(self._objects, FACTS, f"{self.path}/{FACTS_RECORD}", {**facts, "date": date})

    def facts(self) -> dict[str, Any]:
        """Return what was written down by `begin`.

        Raises
        ------
        DamagedStoreError
        """
        facts = read_record(self._objects, FACTS, f"{self.path}/{FACTS_RECORD}", dict[str, Any])
        return dict(format1.attributes(self._objects, self.path)) if facts is None else facts

    # -- rows of subsets -----------------------------------------------------------------------

    def save_span(self, key: str, span: int, rows: NDArray[np.int64]) -> int:
        """Write which rows of a span are in a subset, unless that is there; return how many."""
        offsets = (np.asarray(rows, np.int64) - span * SPAN).astype(np.uint16)
        self._blobs.write_once(f"rows/{key}/{span}", offsets)
        return len(offsets)

    def save_counts(self, key: str, counts: NDArray[np.int64]) -> None:
        """Write how many rows of every span are in a subset: now its list is whole."""
        self._blobs.write_once(f"rows/{key}/counts", np.asarray(counts, np.int64))

    def counts(self, key: str) -> NDArray[np.int64] | None:
        """Return how many rows of every span are in a subset; None where no list is whole."""
        return self._blobs.whole(f"rows/{key}/counts")

    def has_span(self, key: str, span: int) -> bool:
        """Whether the list of a span is there and undamaged."""
        return self._blobs.whole(f"rows/{key}/{span}") is not None

    def span_rows(self, key: str, span: int) -> NDArray[np.int64]:
        """Return which rows of a span are in a subset, rising.

        Raises
        ------
        DamagedStoreError
        """
        offsets = self._blobs.read(f"rows/{key}/{span}")
        if offsets is None:
            raise self._missing_rows(f"rows/{key}/{span}")
        return span * SPAN + offsets.astype(np.int64)

    def spans_rows(self, key: str, first: int, last: int) -> NDArray[np.int64]:
        """Return the rows of a subset in some spans, rising."""
        parts = [self.span_rows(key, span) for span in range(first, last)]
        return np.concatenate(parts) if parts else np.empty(0, np.int64)

    def range_rows(self, key: str, part: RowRange) -> NDArray[np.int64]:
        """Return a run of a subset's rows, rising."""
        return self.spans_rows(key, part.first, part.last)[part.start : part.stop]

    def rows(self, key: str) -> NDArray[np.int64]:
        """Return all row numbers (k,) of a subset, rising, in this process.

        Raises
        ------
        DamagedStoreError
        """
        counts = self.counts(key)
        if counts is not None:
            return self.spans_rows(key, 0, len(counts))
        rows = self._blobs.read(f"rows/{key}")  # stores of before have one list
        if rows is None:
            raise self._missing_rows(f"rows/{key}")
        return rows

    def missing_lists(self, key: str) -> list[str]:
        """Return the keys of the lists of a subset's rows that are not there."""
        if self._blobs.read(f"rows/{key}") is not None:  # stores of before have one list
            return []
        counts = self.counts(key)
        if counts is None:
            return [self._blobs.key(f"rows/{key}/counts")]
        every = (self._blobs.key(f"rows/{key}/{span}") for span in range(len(counts)))
        there = set(self._objects.names(f"{self.path}/rows/{key}"))
        return [name for name in every if name.rpartition("/")[2] not in there]

    def _missing_rows(self, name: str) -> DamagedStoreError:
        key = self._blobs.key(name)
        return damaged_object(self.address.url, key, "(rows of a subset) is missing")

    # -- steps -----------------------------------------------------------------------------------

    def save(
        self,
        step: str,
        record: Mapping[str, Any],
        beside: Mapping[str, NDArray[Any]] | None = None,
    ) -> None:
        """Write the arrays beside a step's record, then the record (plain values), atomically."""
        beside = beside or {}
        for name, values in beside.items():
            self._blobs.write(f"arrays/{step}/{name}", values)
        named = {"arrays": list(beside)} if beside else {}
        write_record(self._objects, STEP, self._key(step), {**record, **named})
        self.checkpoints(step).clear()

    def _key(self, step: str) -> str:
        return f"{self.path}/steps/{step}.{STEP}"

    def load(self, step: str) -> dict[str, Any] | None:
        """Return a step's record, None where there is none.

        Raises
        ------
        DamagedStoreError
            Where it, or an array beside it, is not what was written.
        """
        record = read_record(self._objects, STEP, self._key(step), dict[str, Any])
        if record is None:
            packed = format1.read_blob(self.address, f"{self.path}/steps/{step}")
            if packed is None:
                return None
            record = dict(json.loads(packed.tobytes()))
        for name in record.get("arrays", ()):
            if self.array(step, name) is None:
                key = self._blobs.key(f"arrays/{step}/{name}")
                raise damaged_object(self.address.url, key, "is missing")
        return record

    def array(self, step: str, name: str) -> NDArray[Any] | None:
        """Return an array beside a step's record, None where there is none."""
        return self._blobs.read(f"arrays/{step}/{name}")

    def checkpoints(self, step: str) -> Checkpoints:
        """Return where a step that is under way keeps what it has so far."""
        return Checkpoints(self.address, f"{self.path}/{CHECKPOINTS}/{step}")

    def tidy(self, finished: Container[str]) -> None:
        """Drop checkpoints of steps that were killed just after their record was written."""
        with suppress(PermissionError):  # of what may only be read, nothing goes
            for step in self._objects.names(f"{self.path}/{CHECKPOINTS}"):
                if step in finished:
                    self.checkpoints(step).clear()

    def steps(self) -> list[str]:
        """Return the names of all steps that have a record, damaged or not."""
        path = f"{self.path}/steps"
        found = self._objects.names(path)
        named = {name.removesuffix(MARK) for name in found}  # one that was lost has its mark
        new = [name.removesuffix(f".{STEP}") for name in named if name.endswith(f".{STEP}")]
        return sorted({*new, *format1.blob_names(self.address, path, found)})

    def finished(self, steps: Iterable[str]) -> set[str]:
        """Return which steps have a record; damage inside one is only found by `load`."""
        return set(self.steps()) & set(steps)


def evaluation_records(store: Store, shared: Mapping[str, Any]) -> EvaluationRecords:
    """Return where the steps are kept whose results depend on `shared` and on the store's data."""
    fingerprint = [digest for _, digest in store.segments]
    identity = json.dumps([fingerprint, dict(shared)], sort_keys=True)
    return EvaluationRecords(store.address, arrays.digest([identity.encode()])[:16])


def find_drawings(store: Store) -> list[dict[str, Any]]:
    """Return what was asked for of every drawing of folds of the store's data that is kept."""
    found = []
    for name in sorted(Objects(store.address).names(EVALUATIONS)):
        if "." in name:
            continue
        asked = EvaluationRecords(store.address, name).facts().get(DRAWN)
        if asked is not None and evaluation_records(store, asked).name == name:
            found.append(dict(asked))
    return found


def find_evaluations(store: Store) -> list[EvaluationRecords]:
    """Return the evaluations in a store that are of its data, newest last."""
    fingerprint = [digest for _, digest in store.segments]
    dated = []
    for name in Objects(store.address).names(EVALUATIONS):
        if "." in name:  # a group's metadata
            continue
        records = EvaluationRecords(store.address, name)
        facts = records.facts()
        if facts.get("segments") == fingerprint:
            dated.append((str(facts.get("date", "")), records))
    return [records for _, records in sorted(dated, key=lambda pair: pair[0])]
