"""Results beside the data: tables of all rows, written chunk by chunk, then committed."""

from __future__ import annotations

import json
import logging
import re
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from shlex import quote
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..credentials import without_credentials
from ..errors import DamagedStoreError, Hint, StaleResultsError
from ..paths import absolute
from . import arrays, format1
from .objects import Address, Objects, Place
from .seals import decoded, encoded, read_record, write_record
from .state import Digest, Record, Rows, newest

RESULTS = "results"
KIND = "result"
RECORD = "record.result"

_log = logging.getLogger(__name__)


class ResultRecord(Record, frozen=True):
    """What a finished result says of itself; see `ResultTables`.

    Attributes
    ----------
    arrays : dict
        Table → its Zarr metadata.
    checksums : dict
        Table → checksum of every chunk.
    """

    parameters: dict[str, Any]
    segments: tuple[Digest, ...]
    rows: Rows
    groups: tuple[str, ...]
    facts: dict[str, Any]
    arrays: dict[str, dict[str, Any]]
    checksums: dict[str, tuple[int, ...]]


class RowsAddress(Address, Protocol):
    """Where a store is and how many rows of it results are of."""

    @property
    def rows(self) -> int: ...


class Segmented(RowsAddress, Protocol):
    """What results are of: a store, as far as they need to know it."""

    @property
    def address(self) -> Address: ...

    @property
    def segments(self) -> tuple[tuple[int, str], ...]: ...

    @property
    def uniform_groups(self) -> tuple[str, ...]: ...


@dataclass(frozen=True)
class ResultTables:
    """A finished result in a store.

    Attributes
    ----------
    url : str
        The store.
    name : str
        The result's group below ``results/``.
    parameters : mapping
        Metric, label map and what else the values depend on.
    segments : tuple of str
        Digests of the data that the result covers, in row order.
    rows : int
    groups : tuple of str
        Column names of the tables by group.
    facts : mapping
        How the result came about (seconds, tasks, versions, date).
    """

    url: str
    name: str
    parameters: Mapping[str, Any]
    segments: tuple[str, ...]
    rows: int
    groups: tuple[str, ...]
    storage_options: dict[str, Any] = field(default_factory=dict, repr=False)  # they hold keys
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def token(self) -> str:
        """What Dask's keys of its rows are named by: no copy of the store has the same."""
        where = self.url + json.dumps(self.storage_options, sort_keys=True)
        return f"{self.name}-{arrays.digest([where.encode()])[:8]}"

    @property
    def is_scores(self) -> bool:
        """Whether these are scores of groups, not of further sets, nor a search of its own."""
        rule = self.parameters.get("labels")
        return rule not in ("same", "any") and not {"references", "k"} & set(self.parameters)

    def covers(self, store: Segmented) -> bool:
        """Tell whether this result is of exactly the store's data."""
        return self.segments == tuple(digest for _, digest in store.segments)

    def is_prefix_of(self, store: Segmented) -> bool:
        """Tell whether this result is of the store's first segments."""
        digests = tuple(digest for _, digest in store.segments)
        return self.segments == digests[: len(self.segments)] and bool(self.segments)

    def read(self, table: str, lo: int, hi: int) -> NDArray[Any]:
        """Read rows lo:hi of a table, shape (hi - lo, groups) or (hi - lo,).

        Raises
        ------
        DamagedStoreError
            Naming table and chunk.
        StaleResultsError
            Where newer results have taken the place of these.
        """
        record = self.record()
        array = self._array(table, record)
        step, sums = array.chunks[0], record.checksums[table]
        units = [
            (a, min(a + step, self.rows), sums[a // step]) for a in range(lo - lo % step, hi, step)
        ]
        try:
            return arrays.read_checked(array, lo, hi, units)
        except DamagedStoreError:
            if self._is_there():
                raise
            raise self._gone() from None

    def tables(self) -> dict[str, tuple[tuple[int, ...], np.dtype[Any]]]:
        """Return name → (shape, dtype) of every table."""
        record = self.record()
        found = {name: self._array(name, record) for name in record.arrays}
        return {name: (a.shape, a.dtype) for name, a in found.items()}

    def _array(self, table: str, record: ResultRecord) -> arrays.Array:
        path = f"{RESULTS}/{self.name}/{table}"
        return arrays.open_known(Objects(self), path, record.arrays[table], self.rows)

    def record(self) -> ResultRecord:
        """Return what the result says of itself."""
        try:
            return _record_of(self.url, json.dumps(self.storage_options, sort_keys=True), self.name)
        except LookupError:
            raise self._gone() from None

    def _is_there(self) -> bool:
        objects = Objects(self)
        names = objects.names(f"{RESULTS}/{self.name}")
        return RECORD in names or format1.NODE in names

    def _gone(self) -> StaleResultsError:
        return StaleResultsError(
            f"newer results in {self.url} have taken the place of those that were read; open it "
            "again"
        )


@lru_cache(maxsize=64)
def _record_of(url: str, storage: str, name: str) -> ResultRecord:
    """Return the record of a result, read once a process: it never changes.

    One that is not there may come, so that is not kept: it raises LookupError.
    """
    record = _read(Objects(Place(url, json.loads(storage))), name)
    if record is None:
        raise LookupError(name)
    return record


def _read(objects: Objects, name: str) -> ResultRecord | None:
    """Return the record of a result, None of one that is unfinished."""
    path = f"{RESULTS}/{name}"
    record = read_record(objects, KIND, f"{path}/{RECORD}", ResultRecord)
    if record is not None:
        return record
    old = format1.result(objects, path)
    return None if old is None else decoded(encoded(old), ResultRecord, path, objects.address.url)


def find_results(store: Segmented, *, everything: bool = False) -> list[ResultTables]:
    """Return the finished scores in a store, newest last.

    everything: also searches that are no scores, and scores against further reference sets.
    """
    return [r for r in _finished(store.address) if everything or r.is_scores]


def _finished(address: Address) -> list[ResultTables]:
    """Return all finished results in a store, newest last."""
    objects = Objects(address)
    results = []
    for name in objects.names(RESULTS):
        record = None if "." in name else _read(objects, name)
        if record is not None:
            results.append(_tables_of(address, name, record))
    return sorted(results, key=lambda r: str(r.facts.get("date", "")))


def _tables_of(address: Address, name: str, record: ResultRecord) -> ResultTables:
    return ResultTables(
        url=absolute(address.url),
        name=name,
        parameters=record.parameters,
        segments=record.segments,
        rows=record.rows,
        groups=record.groups,
        storage_options=address.storage_options,
        facts=record.facts,
    )


def superseded(objects: Objects, segments: Sequence[str]) -> Iterator[str]:
    """Yield the keys of results that nobody needs: unfinished, of other data, or made anew.

    Parameters
    ----------
    segments : sequence of str
        Digests of the store's data.
    """
    found = {r.name: r for r in _finished(objects.address)}
    for name in objects.names(RESULTS):
        if "." not in name and not _is_needed(found.get(name), found.values(), segments):
            yield f"{RESULTS}/{name}"


def _is_needed(
    result: ResultTables | None, known: Iterable[ResultTables], segments: Sequence[str]
) -> bool:
    if result is None or list(result.segments) != list(segments[: len(result.segments)]):
        return False
    return not any(_replaces(other, result) for other in known)


def _replaces(new: ResultTables, old: ResultTables) -> bool:
    """Whether a result is of the same parameters and of more rows, or was made before of as many.

    Two that were made at once are equal; the first one stays.
    """
    if dict(new.parameters) != dict(old.parameters) or new.groups[: len(old.groups)] != old.groups:
        return False
    if new.rows != old.rows:
        return new.rows > old.rows
    return (str(new.facts["date"]), new.name) < (str(old.facts["date"]), old.name)


def matching(store: Segmented, parameters: Mapping[str, Any]) -> list[ResultTables]:
    """Return the store's results with these parameters, newest last."""
    results = find_results(store, everything=True)
    return [r for r in results if dict(r.parameters) == dict(parameters)]


def covering(store: Segmented, parameters: Mapping[str, Any]) -> list[ResultTables]:
    """Return the results with these parameters that are of all the store's data, newest last."""
    return [result for result in matching(store, parameters) if result.covers(store)]


def current_results(store: Segmented, parameters: Mapping[str, Any] | None = None) -> ResultTables:
    """Return the newest result that covers the store's data (with these parameters).

    Raises
    ------
    StaleResultsError
        Where there is none; the message says what there is.
    """
    results = find_results(store)
    fit = [r for r in results if parameters is None or dict(r.parameters) == dict(parameters)]
    for result in reversed(fit):
        if result.covers(store):
            return result
    hint = _how_to_compute(store, parameters or {})
    if fit:
        raise StaleResultsError(
            f"the results in {store.url} cover {fit[-1].rows:,} rows of other data than the "
            f"{store.rows:,} rows there now (rows already scored are kept)",
            hint,
        )
    if results:
        have = "; ".join(str(r.parameters.get("metric")) for r in results)
        raise StaleResultsError(f"{store.url} has results for other parameters ({have})", hint)
    raise StaleResultsError(f"{store.url} has no results yet", hint)


def _how_to_compute(store: Segmented, parameters: Mapping[str, Any]) -> Hint:
    """Return what makes the results that are missing."""
    if store.uniform_groups:
        return Hint(*[one_label(store.uniform_groups)] * 2)
    metric = str(parameters.get("metric", "euclidean"))
    metric = "mahalanobis" if metric.startswith("mahalanobis") else metric
    plain = metric == "euclidean"
    asked, option = ("", "") if plain else (f", metric={metric!r}", f" -m {quote(metric)}")
    return Hint(
        f"call sample_robustness({store.url!r}{asked}).write()",
        f"run `dskrobust compute {quote(store.url)}{option}`",
    )


def one_label(groups: Sequence[str]) -> str:
    """Say that nothing can be computed of groups with one label."""
    return (
        f"nothing can be computed as long as all samples of group {groups[0]!r} have the same label"
    )


def name_of(parameters: Mapping[str, Any], segments: Sequence[str]) -> str:
    """Return what results of some parameters and data are called, by whomever they are made."""
    identity = [repr(sorted(parameters.items())).encode(), *(s.encode() for s in segments)]
    label = re.sub(r"[^a-z0-9]+", "-", str(parameters.get("metric", "")).lower()).strip("-")
    return f"{label}-{arrays.digest(identity)[:12]}"


class ResultWriter:
    """Writes one result: tables created first, rows by any number of tasks, then one commit.

    Every writer has a folder of its own: two that make the same results never meet.
    """

    def __init__(
        self,
        address: RowsAddress,
        parameters: Mapping[str, Any],
        segments: tuple[str, ...],
        groups: tuple[str, ...],
        chunk_rows: int,
    ) -> None:
        self.address, self.parameters, self.groups = address, dict(parameters), groups
        self.segments, self.chunk_rows = segments, chunk_rows
        self.name = f"{name_of(parameters, segments)}-{uuid.uuid4().hex[:8]}"

    @property
    def _path(self) -> str:
        return f"{RESULTS}/{self.name}"

    def create(self, tables: Mapping[str, tuple[tuple[int, ...], np.dtype[Any]]]) -> None:
        """Create the tables, name → (shape of a row, dtype)."""
        objects = Objects(self.address)
        for name, (row, dtype) in tables.items():
            shape, chunks = (self.address.rows, *row), (self.chunk_rows, *row)
            arrays.create_array(objects, f"{self._path}/{name}", shape, chunks, dtype)

    def write(self, start: int, rows: Mapping[str, NDArray[Any]]) -> dict[str, int]:
        """Write one chunk of every table; return its checksums."""
        for name, values in rows.items():
            self._array(name)[start : start + len(values)] = values
        return {name: arrays.checksum(values) for name, values in rows.items()}

    def _array(self, table: str) -> arrays.Array:
        return arrays.open_writable(Objects(self.address), f"{self._path}/{table}")

    def commit(self, checksums: list[dict[str, int]], facts: Mapping[str, Any]) -> ResultTables:
        """Make the result readable, in one atomic step.

        Raises
        ------
        StaleResultsError
            Where the store holds other data by now; what was computed is of no use.
        """
        objects = Objects(self.address)
        found = newest(objects)
        now = () if found is None else tuple(s.digest for s in found.state.segments)
        if now[: len(self.segments)] != self.segments:
            self.drop()
            raise StaleResultsError(
                f"{self.address.url} was replaced while this was computed; run it again on the "
                "data that is there now"
            )
        date = datetime.now(UTC).isoformat(timespec="microseconds")
        record = ResultRecord(
            parameters=self.parameters,
            segments=self.segments,
            rows=self.address.rows,
            groups=self.groups,
            facts={**facts, "date": date},
            arrays={name: arrays.metadata_of(self._array(name)) for name in checksums[0]},
            checksums={name: tuple(part[name] for part in checksums) for name in checksums[0]},
        )
        write_record(objects, KIND, f"{self._path}/{RECORD}", record)
        where = without_credentials(self.address.url)
        _log.info("%s: results (%s) are written", where, self.parameters.get("metric"))
        return _tables_of(self.address, self.name, record)

    def drop(self) -> None:
        """Remove what was written."""
        Objects(self.address).drop(self._path)
