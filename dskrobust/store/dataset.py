"""Opening, creating and extending a store; its arrays, read lazily and checked."""

from __future__ import annotations

import difflib
import json
import platform
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from shlex import quote
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import display
from ..credentials import without_credentials
from ..declared_types import checked_arguments
from ..errors import DamagedStoreError, Hint, StaleResultsError, StoreError
from ..ids import id_dtype
from ..paths import absolute, expand, local_path
from ..processes import in_children
from ..renaming import renamed_keywords
from . import arrays, format1
from .blobs import Blobs
from .links import Decoder, decoders, open_linked, read_decoded
from .notes import Note, read_notes
from .objects import Objects, Place
from .results import find_results
from .seals import damaged_object
from .spec import Block, StoreSpec, Summary
from .state import Segment, State, newest
from .stored_array import StoredArray
from .writing import ARRAYS, CHECKSUMS, ID_ROWS, SUMS, StorageOptions


@dataclass(frozen=True, repr=False)
class SourceAddress:
    """Where a store is and how many of its rows are meant; small enough for every task."""

    url: str
    rows: int
    storage_json: str = "{}"
    digest: str = ""
    segment: str = ""  # folder of the last rows: a store that replaces another has others

    def __repr__(self) -> str:  # Dask logs what tasks are given
        return f"<SourceAddress {without_credentials(self.url)}, {self.rows:,} rows>"

    @property
    def storage_options(self) -> dict[str, Any]:
        """Options for fsspec (kept as JSON, so that an address can be hashed)."""
        return dict(json.loads(self.storage_json))

    def open(self) -> Store:
        """Open the store, once a process."""
        return _open_cached(self)


@dataclass(frozen=True)
class _Part:
    """A segment in its place: the number of its first row in the store."""

    segment: Segment
    start: int

    @property
    def stop(self) -> int:
        return self.start + self.segment.rows

    @property
    def offset(self) -> int:
        """Where its rows begin in its arrays: in those of format 1 segments follow each other."""
        return 0 if self.segment.path else self.start

    def units(self, lo: int, hi: int, store: Store) -> list[tuple[int, int, int]]:
        """Return (first row, last row + 1, unit number) of its units that touch lo:hi."""
        size, a, b = store.unit_rows, max(lo, self.start), min(hi, self.stop)
        if a >= b:
            return []
        numbers = range((a - self.start) // size, -(-(b - self.start) // size))
        starts = [(self.start + k * size, k) for k in numbers]
        return [(first, min(first + size, self.stop), k) for first, k in starts]


def _kept(blobs: Blobs, name: str) -> NDArray[Any]:
    """Return a blob that has to be there."""
    found = blobs.read(name)
    if found is None:
        raise damaged_object(blobs.address.url, blobs.key(name), "is missing")
    return found


class Store:
    """A labelled data set in Zarr: features, labels, split, and results beside them.

    Use `open_store`; the constructor takes a state that was read.

    Parameters
    ----------
    url : str
        A path or fsspec URL.
    state : State
        What it says of its data.
    storage_options : mapping, optional
        Options for fsspec.
    rows : int, optional
        Only the segments that begin before this row; all without it.

    Attributes
    ----------
    url : str
    spec : StoreSpec
    rows, columns : int
        Shape of the features.
    segments : tuple of (rows, digest)
        What was written at once; the digests are the data's fingerprint.
    """

    def __init__(
        self,
        url: str,
        state: State,
        storage_options: StorageOptions = None,
        rows: int | None = None,
    ) -> None:
        self.url, self.state = url, state
        self._place = absolute(url)  # also after this process has gone to another folder
        self.storage_options = dict(storage_options or {})
        self._opened: dict[tuple[str, str], arrays.Array] = {}
        self._sums: dict[_Part, NDArray[np.uint32]] = {}
        self.spec: StoreSpec = state.spec
        self.unit_rows = state.unit_rows
        parts, total = [], 0
        for segment in state.segments:
            if rows is not None and total >= rows:
                break
            parts.append(_Part(segment, total))
            total += segment.rows
        self._parts = tuple(parts)
        self.segments = tuple((part.segment.rows, part.segment.digest) for part in parts)
        self.rows = total
        self.columns = self.row_shape("features")[0][0]

    # -- what it is ------------------------------------------------------------------------

    @property
    def address(self) -> SourceAddress:
        """What a task needs to read this store."""
        storage = json.dumps(self.storage_options, sort_keys=True)
        last = self._parts[-1].segment
        return SourceAddress(self._place, self.rows, storage, last.digest, last.path)

    @property
    def objects(self) -> Objects:
        """All objects of the store."""
        return Objects(self.address)

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of the reference groups."""
        return self.spec.groups

    @property
    def features(self) -> StoredArray:
        """Features, shape (n, d), as stored (multiply by ``spec.scale`` for the paper's units)."""
        return StoredArray(self, "features")

    @property
    def labels(self) -> StoredArray:
        """Labels, shape (n,) or (n, m)."""
        return StoredArray(self, "labels")

    @property
    def split(self) -> NDArray[np.str_]:
        """Group name of every row, shape (n,)."""
        return np.array(self.groups)[self.split_codes[:]]

    @property
    def split_codes(self) -> StoredArray:
        """Position of every row's group in `groups`, shape (n,), int16."""
        return StoredArray(self, "split")

    @property
    def has_ids(self) -> bool:
        """Whether rows have ids of their own."""
        return self.state.ids

    @property
    def ids(self) -> StoredArray:
        """Ids of the rows, shape (n,): text (object) or int64; row numbers where there are none."""
        return StoredArray(self, "ids")

    @cached_property
    def summary(self) -> Summary:
        """What is known of all rows without reading them."""
        first = self._parts[0].segment
        if first.path:
            sums = _kept(self._blobs(first), SUMS)
            center = sums / max(first.rows, 1)
        else:
            center = format1.center(self.objects)
        summary = self.state.summary(center)
        return replace(summary, column_sum=center * summary.rows)

    @property
    def uniform_groups(self) -> tuple[str, ...]:
        """Groups without two different labels: as long as there are some, nothing is computed."""
        known = self.summary.groups
        return tuple(
            name for k, name in enumerate(self.groups) if k not in known or not known[k].varied
        )

    @property
    def notes(self) -> tuple[Note, ...] | None:
        """What was noticed of the data when it was written; None where nobody has looked yet.

        `diagnose` looks.

        Raises
        ------
        DamagedStoreError
            Where they are lost or not what was written.
        """
        return read_notes(self.address, self.segments)

    def row_shape(self, name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
        """Return shape and dtype of one row of features, labels, split or ids."""
        if name == "ids":
            dtype = self._array(name).dtype if self.has_ids else np.dtype(np.int64)
            return (), id_dtype(dtype)
        array = self._array(name)
        if name == "labels" and array.dtype.kind in "UTOS":
            return (), np.dtype(np.int64)
        if name == "split":
            return (), np.dtype(np.int16)
        return tuple(array.shape[1:]), array.dtype

    # -- reading ---------------------------------------------------------------------------

    def read(self, name: str, lo: int, hi: int, out: NDArray[Any] | None = None) -> NDArray[Any]:
        """Read rows lo:hi of features, labels, split or ids (into `out`) and check them.

        Raises
        ------
        DamagedStoreError
            Naming array and chunk.
        """
        if name == "ids" and not self.has_ids:
            return np.arange(lo, hi)
        row, dtype = self.row_shape(name)
        if out is None:
            out = np.empty((hi - lo, *row), dtype)
        for part in self._parts:
            a, b = max(lo, part.start), min(hi, part.stop)
            if a < b:
                self._read_part(name, part, (a, b), out[a - lo : b - lo])
        return out

    def _read_part(self, name: str, part: _Part, rows: tuple[int, int], out: NDArray[Any]) -> None:
        """Read some rows, which lie in one segment."""
        (lo, hi), array, column = rows, self._array(name, part), ARRAYS.index(name)
        shift, decode = part.offset - part.start, self._decoders.get(name)  # rows of its array
        try:
            sums = self._checksums(part)
            units = [
                (a + shift, b + shift, int(sums[k, column])) for a, b, k in part.units(lo, hi, self)
            ]
            if decode is None:
                arrays.read_checked(array, lo + shift, hi + shift, units, out)
            else:
                out[:] = read_decoded(array, (lo + shift, hi + shift), units, decode)
        except DamagedStoreError:
            self._check_current(part)
            raise

    def _check_current(self, part: _Part) -> None:
        """Say so where rows cannot be read because others have replaced them."""
        found = newest(self.objects)
        if found is None or part.segment not in found.state.segments:
            raise StaleResultsError(
                f"{self.url} was replaced by another store meanwhile; open it again"
            )

    def read_block(self, lo: int, hi: int, out: NDArray[Any] | None = None) -> Block:
        """Read rows lo:hi of what results depend on, which ids are not; features into `out`."""
        features = self.read("features", lo, hi, out)
        return Block(features, self.read("labels", lo, hi), self.read("split", lo, hi))

    def chunks(self, name: str) -> list[tuple[int, int]]:
        """Return (first row, last row + 1) of what an array is best read by: whole units."""
        named = name == "ids" and self.has_ids
        rows = min(self._array(name).chunks[0], ID_ROWS) if named else self.unit_rows
        runs = arrays.runs(self.units(0, self.rows), rows)
        return [(run[0][0], run[-1][1]) for run in runs]

    def units(self, lo: int, hi: int) -> list[tuple[int, int, int]]:
        """Return (first row, last row + 1, unit number) of the units that touch lo:hi."""
        units, number = [], 0
        for part in self._parts:
            units += [(a, b, number + k) for a, b, k in part.units(lo, hi, self)]
            number += -(-part.segment.rows // self.unit_rows)
        return units

    def _blobs(self, segment: Segment) -> Blobs:
        return Blobs(self.address, segment.path)

    def _checksums(self, part: _Part) -> NDArray[np.uint32]:
        """Checksums of a segment's units, (units, arrays)."""
        if part not in self._sums:
            width = len(ARRAYS) - (not self.has_ids)
            units = -(-part.segment.rows // self.unit_rows)
            if part.segment.path:
                found = _kept(self._blobs(part.segment), CHECKSUMS)
            else:
                before = [p for p in self._parts if p.start < part.start]
                first = sum(-(-p.segment.rows // self.unit_rows) for p in before)
                found = format1.checksums(self.objects)[first : first + units]
            if found.shape != (units, width):
                raise DamagedStoreError(
                    f"{self.url} has checksums of {found.shape} units and arrays instead of "
                    f"{(units, width)}; write the store again from its source"
                )
            self._sums[part] = found
        return self._sums[part]

    @cached_property
    def _decoders(self) -> dict[str, Decoder]:
        links = self.state.links
        texts = bool(links) and self._array("labels").dtype.kind in "UTOS"
        return decoders(links, self.spec.classes if texts else None)

    def _array(self, name: str, part: _Part | None = None) -> arrays.Array:
        """Return a segment's array (the first one's without it), opened once."""
        part = part or self._parts[0]
        path = "" if name in self.state.links else part.segment.path
        if (path, name) not in self._opened:
            self._opened[path, name] = self._open_array(name, part)
        return self._opened[path, name]

    def _open_array(self, name: str, part: _Part) -> arrays.Array:
        link = self.state.links.get(name)
        if link is not None:
            return open_linked(self.url, name, link.url)
        metadata = self.state.arrays.get(name)
        if metadata is None:
            raise DamagedStoreError(f"{self.url} does not say what its array '{name}' is like")
        path = f"{part.segment.path}/{name}".lstrip("/")
        rows = part.segment.rows if part.segment.path else self.state.rows
        return arrays.open_known(self.objects, path, metadata, rows)

    def _repr_html_(self) -> str:
        row, counts = self.row_shape("features")[1], self.summary.groups
        groups = (f"{name} {counts[k].rows:,}" for k, name in enumerate(self.groups) if k in counts)
        classes = self.spec.classes
        named = f"{len(classes)} classes: {', '.join(classes[:10])}" if classes else ""
        row_bytes = self.columns * row.itemsize
        held, unit = (display.size(n * row_bytes) for n in (self.rows, self.unit_rows))
        facts: list[display.Cell] = [
            ("features", f"{self.rows:,} × {self.columns:,} {row}", held),
            *([("embedding", self.spec.embedding, "")] if self.spec.embedding else []),
            ("labels", self.spec.label_kind, named + ", …" * bool(classes and classes[10:])),
            ("groups", ", ".join(groups), ""),
            *([("ids", str(self.ids.dtype).replace("object", "text"), "")] if self.has_ids else []),
            ("chunks", f"{self.unit_rows:,} rows", f"of {unit}"),
        ]
        try:
            noted = [str(note) for note in self.notes or ()]
        except DamagedStoreError as error:  # a card is shown of whatever is there
            noted = [str(error)]
        facts += [("note", text, "") for text in noted]
        for result in find_results(self):
            state = "" if result.covers(self) else f", of {result.rows:,} rows of earlier data"
            date = display.moment(result.facts.get("date"))
            facts.append(("scores", str(result.parameters["metric"]), f"{date}{state}"))
        return display.card(self.spec.name, self.url, display.facts(facts))

    def __repr__(self) -> str:
        kind = self.spec.label_kind
        return (
            f"<Store {self.spec.name}: {self.rows:,} × {self.columns:,} "
            f"{self.row_shape('features')[1]}, {kind} labels, groups {', '.join(self.groups)}>"
        )


@renamed_keywords(options="storage_options")
@checked_arguments()
def open_store(url: str | Path | Store, storage_options: StorageOptions = None) -> Store:
    """Open a store for reading; its arrays are read on slicing.

    Parameters
    ----------
    url : str
        A path or any fsspec URL.
    storage_options : mapping, optional
        Options for fsspec.

    Raises
    ------
    StoreError
        Where there is no store, an unfinished one, or one of another version.
    """
    if isinstance(url, Store):
        return url
    url = expand(url)
    options = dict(storage_options or {})
    return Store(url, _state_at(url, options), options)


def _state_at(url: str, storage_options: dict[str, Any], where: str = "") -> State:
    """Return the newest state of the store at an address; where: on which machine one looks."""
    try:
        found = newest(Objects(Place(url, storage_options)))
    except FileNotFoundError as error:
        if where:
            raise StoreError(
                f"{url} is not there on {where}; keep it where all workers see it under the same "
                "path, or at an fsspec URL"
            ) from error
        raise StoreError(f"there is no store at {url}", _instead_of(url)) from error
    if found is None:
        raise StoreError(f"{url} was never finished; run the ingest again")
    return found.state


def open_anew(address: SourceAddress) -> Store:
    """Open the store of an address, which holds what it did when the address was made.

    Raises
    ------
    StaleResultsError
        Where it was replaced since.
    """
    state = _state_at(address.url, address.storage_options, platform.node())
    store = Store(address.url, state, address.storage_options, address.rows)
    if address.digest and store.address != address:
        raise StaleResultsError(
            f"{address.url} holds other data than when this computation was set up; open the store "
            "and call sample_robustness again"
        )
    return store


_open_cached = lru_cache(maxsize=16)(open_anew)
in_children(_open_cached.cache_clear)  # a connection to an object store stays in the parent


def _instead_of(url: str) -> Hint:
    """Return what to do where there is no store: a file is to be read, a name may be misspelt."""
    path = local_path(url)
    make = Hint("make one with create_store or ingest", "make one with `dskrobust ingest`")
    if path is None:
        return make
    if path.is_file():
        read = f"ingest({url!r}, …)", f"`dskrobust ingest {quote(url)}`"
        return Hint(*(f"it is a file: read it with {how}" for how in read))
    names = [p.parent.name for p in path.absolute().parent.glob("*/zarr.json")]
    stores = {name.removesuffix(".zarr"): name for name in names}
    close = difflib.get_close_matches(path.name.removesuffix(".zarr"), stores, n=1)
    if not close:
        return make
    return Hint(*[f"did you mean {path.with_name(stores[close[0]])}?"] * 2)
