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
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import arrays, format1
from .blobs import Blobs
from .checkpoints import Checkpoints
from .dataset import SourceAddress, Store
from .objects import Objects
from .seals import MARK, damaged_object, read_record, write_record

EVALUATIONS, CHECKPOINTS = "evaluations", "checkpoints"
STEP, FACTS = "step", "evaluation"  # kinds of records
FACTS_RECORD = "record.evaluation"


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

    def save_rows(self, key: str, rows: NDArray[np.int64]) -> None:
        """Write the row numbers (k,) of a subset, unless they are there; the key says which."""
        self._blobs.write_once(f"rows/{key}", np.ascontiguousarray(rows, np.int64))

    def rows(self, key: str) -> NDArray[np.int64]:
        """Return the row numbers (k,) of a subset.

        Raises
        ------
        DamagedStoreError
        """
        rows = self._blobs.read(f"rows/{key}")
        if rows is None:
            raise damaged_object(
                self.address.url, self._blobs.key(f"rows/{key}"), "(rows of a subset) is missing"
            )
        return rows

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
