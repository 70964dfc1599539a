"""Evaluations beside the data: the rows of their subsets, and one record per finished step.

A record is a blob: a kill loses only the steps under way, and what is damaged counts as missing.
Arrays that belong to a record are written before it. Steps that take long keep checkpoints until
they have a record.
"""

from __future__ import annotations

import json
from collections.abc import Container, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from ..errors import DamagedStoreError
from . import arrays, writing
from .blobs import Blobs, open_root
from .checkpoints import Checkpoints
from .dataset import SourceAddress, Store

EVALUATIONS, CHECKPOINTS = "evaluations", "checkpoints"
KEY = writing.KEY


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

    def begin(self, facts: Mapping[str, Any]) -> None:
        """Write down what the records are of; earlier facts are replaced."""
        group = open_root(self.address, "r+").require_group(self.path)
        date = datetime.now(UTC).isoformat(timespec="seconds")
        group.attrs[KEY] = {**facts, "date": date}

    def facts(self) -> dict[str, Any]:
        """Return what was written down by `begin`."""
        try:
            return dict(self._blobs.group().attrs.get(KEY, {}))  # type: ignore[arg-type]
        except KeyError:
            return {}

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
            raise DamagedStoreError(
                f"the rows of a subset in {self.address.url}/{self.path} are damaged; run the same "
                "command again, they are written anew"
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
        packed = np.frombuffer(json.dumps({**record, **named}).encode(), np.uint8)
        self._blobs.write(f"steps/{step}", packed)
        self.checkpoints(step).clear()

    def load(self, step: str) -> dict[str, Any] | None:
        """Return a step's record, None where there is none (or it or an array is damaged)."""
        packed = self._blobs.read(f"steps/{step}")
        if packed is None:
            return None
        record = dict(json.loads(packed.tobytes()))
        whole = all(self.array(step, name) is not None for name in record.get("arrays", ()))
        return record if whole else None

    def array(self, step: str, name: str) -> NDArray[Any] | None:
        """Return an array beside a step's record, None where there is none (or a damaged one)."""
        return self._blobs.read(f"arrays/{step}/{name}")

    def checkpoints(self, step: str) -> Checkpoints:
        """Return where a step that is under way keeps what it has so far."""
        return Checkpoints(self.address, f"{self.path}/{CHECKPOINTS}/{step}")

    def tidy(self, finished: Container[str]) -> None:
        """Drop checkpoints of steps that were killed just after their record was written."""
        with suppress(KeyError, ValueError, TypeError):
            for step in Blobs(self.address, f"{self.path}/{CHECKPOINTS}").group().group_keys():
                if step in finished:
                    self.checkpoints(step).clear()

    def finished(self, steps: Iterable[str]) -> set[str]:
        """Return which steps have a record; damage inside one is only found by `load`."""
        try:
            return set(Blobs(self.address, f"{self.path}/steps").names()) & set(steps)
        except (ValueError, TypeError):  # metadata is damaged: one by one
            return {step for step in steps if self.load(step) is not None}


def evaluation_records(store: Store, shared: Mapping[str, Any]) -> EvaluationRecords:
    """Return where the steps are kept whose results depend on `shared` and on the store's data."""
    fingerprint = [digest for _, digest in store.segments]
    identity = json.dumps([fingerprint, dict(shared)], sort_keys=True)
    return EvaluationRecords(store.address, arrays.digest([identity.encode()])[:16])


def find_evaluations(store: Store) -> list[EvaluationRecords]:
    """Return the evaluations in a store that are of its data, newest last."""
    try:
        parent = store.group[EVALUATIONS]
    except KeyError:
        return []
    assert isinstance(parent, zarr.Group)
    fingerprint = [digest for _, digest in store.segments]
    dated = []
    for name, group in parent.groups():
        facts: dict[str, Any] = dict(group.attrs.get(KEY, {}))  # type: ignore[arg-type]
        if facts.get("segments") == fingerprint:
            dated.append((str(facts.get("date", "")), EvaluationRecords(store.address, name)))
    return [records for _, records in sorted(dated, key=lambda pair: pair[0])]
