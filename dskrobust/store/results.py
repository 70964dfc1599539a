"""Results beside the data: tables of all rows, written chunk by chunk, then committed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from shlex import quote
from typing import Any, Protocol

import numpy as np
import zarr
from numpy.typing import NDArray

from ..errors import Hint, StaleResultsError
from ..paths import absolute
from . import arrays, writing
from .blobs import Address, Blobs, open_root

RESULTS = "results"
KEY = writing.KEY


class RowsAddress(Address, Protocol):
    """Where a store is and how many rows of it results are of."""

    @property
    def rows(self) -> int: ...


class Segmented(RowsAddress, Protocol):
    """What results are of: a store, as far as they need to know it."""

    @property
    def group(self) -> zarr.Group: ...

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
    storage_options: dict[str, Any] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)

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
        """Read rows lo:hi of a table, shape (hi - lo, groups) or (hi - lo,)."""
        group = open_root(self, "r")
        array = group[f"{RESULTS}/{self.name}/{table}"]
        assert isinstance(array, zarr.Array)
        sums = group[f"{RESULTS}/{self.name}/{table}.checksums"]
        assert isinstance(sums, zarr.Array)
        step, checks = array.chunks[0], arrays.read_plain(sums)
        units = [
            (a, min(a + step, self.rows), int(checks[a // step]))
            for a in range(lo - lo % step, hi, step)
        ]
        return arrays.read_checked(array, lo, hi, units)

    def tables(self) -> dict[str, tuple[tuple[int, ...], np.dtype[Any]]]:
        """Return name → (shape, dtype) of every table."""
        root = open_root(self, "r")
        group = root[f"{RESULTS}/{self.name}"]
        assert isinstance(group, zarr.Group)
        return {
            name: (a.shape, a.dtype)
            for name, a in group.arrays()
            if not name.endswith(".checksums")
        }


def find_results(store: Segmented, *, everything: bool = False) -> list[ResultTables]:
    """Return the finished scores in a store, newest last.

    everything: also searches that are no scores, and scores against further reference sets.
    """
    return [r for r in _finished(store, store.group) if everything or r.is_scores]


def _finished(address: Address, root: zarr.Group) -> list[ResultTables]:
    """Return all finished results below the group of a store, newest last."""
    try:
        parent = root[RESULTS]
    except KeyError:
        return []
    assert isinstance(parent, zarr.Group)
    results = []
    for name, group in parent.groups():
        meta: dict[str, Any] = dict(group.attrs.get(KEY, {}))  # type: ignore[arg-type]
        if meta.get("complete"):
            results.append(
                ResultTables(
                    url=absolute(address.url),
                    name=name,
                    parameters=meta["parameters"],
                    segments=tuple(meta["segments"]),
                    rows=int(meta["rows"]),
                    groups=tuple(meta["groups"]),
                    storage_options=address.storage_options,
                    facts=meta["facts"],
                )
            )
    return sorted(results, key=lambda r: str(r.facts.get("date", "")))


def matching(store: Segmented, parameters: Mapping[str, Any]) -> list[ResultTables]:
    """Return the store's results with these parameters, newest last."""
    results = find_results(store, everything=True)
    return [r for r in results if dict(r.parameters) == dict(parameters)]


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


class ResultWriter:
    """Writes one result: tables created first, rows by any number of tasks, then one commit."""

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
        identity = [repr(sorted(self.parameters.items())).encode(), *(s.encode() for s in segments)]
        label = re.sub(r"[^a-z0-9]+", "-", str(parameters.get("metric", "")).lower()).strip("-")
        self.name = f"{label}-{arrays.digest(identity)[:12]}"

    def _group(self) -> zarr.Group:
        return open_root(self.address, "r+").require_group(f"{RESULTS}/{self.name}")

    def create(self, tables: Mapping[str, tuple[tuple[int, ...], np.dtype[Any]]]) -> None:
        """Create the tables, name → (shape of a row, dtype)."""
        results = open_root(self.address, "r+").require_group(RESULTS)
        group = results.create_group(self.name, overwrite=True)
        for name, (row, dtype) in tables.items():
            shape = (self.address.rows, *row)
            arrays.create_array(group, name, shape, (self.chunk_rows, *row), dtype)

    def write(self, start: int, rows: Mapping[str, NDArray[Any]]) -> dict[str, int]:
        """Write one chunk of every table; return its checksums."""
        group = self._group()
        for name, values in rows.items():
            array = group[name]
            assert isinstance(array, zarr.Array)
            array[start : start + len(values)] = values
        return {name: arrays.checksum(values) for name, values in rows.items()}

    def commit(self, checksums: list[dict[str, int]], facts: Mapping[str, Any]) -> ResultTables:
        """Mark the result complete and drop the older ones with the same parameters."""
        group = self._group()
        for name in checksums[0]:
            values = np.array([part[name] for part in checksums], np.uint32)
            Blobs(self.address, f"{RESULTS}/{self.name}").write(f"{name}.checksums", values)
        facts = {**facts, "date": datetime.now(UTC).isoformat(timespec="seconds")}
        group.attrs[KEY] = {
            "complete": True,
            "parameters": self.parameters,
            "segments": list(self.segments),
            "rows": self.address.rows,
            "groups": list(self.groups),
            "facts": facts,
        }
        root = open_root(self.address, "r+")
        written = _finished(self.address, root)
        for old in written:
            if old.name != self.name and dict(old.parameters) == self.parameters:
                del root[f"{RESULTS}/{old.name}"]
        return next(r for r in written if r.name == self.name)
