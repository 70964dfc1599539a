"""Opening, creating and extending a store; its arrays, read lazily and checked."""

from __future__ import annotations

import difflib
import json
import platform
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache, partial
from pathlib import Path
from shlex import quote
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from .. import display
from ..errors import DamagedStoreError, Hint, InvalidDataError, StaleResultsError, StoreError
from ..ids import id_dtype, plain_ids
from ..labels import decoded
from ..paths import absolute, expand
from ..processes import in_children
from . import arrays, writing
from .blobs import open_root
from .notes import Note, read_notes
from .results import find_results
from .spec import Block, StoreSpec, Summary
from .writing import ARRAYS, FORMAT, ID_ROWS, KEY, StorageOptions


@dataclass(frozen=True)
class SourceAddress:
    """Where a store is and how many of its rows are meant; small enough for every task."""

    url: str
    rows: int
    storage_json: str = "{}"
    digest: str = ""

    @property
    def storage_options(self) -> dict[str, Any]:
        """Options for fsspec (kept as JSON, so that an address can be hashed)."""
        return dict(json.loads(self.storage_json))

    def open(self) -> Store:
        """Open the store, once a process."""
        return _open_cached(self)


class StoredArray:
    """Rows of a stored array: read on slicing, every unit compared with its checksum.

    Attributes
    ----------
    shape : tuple of int
    dtype : numpy.dtype
    """

    def __init__(self, store: Store, name: str) -> None:
        self._store, self._name = store, name
        row, self.dtype = store.row_shape(name)
        self.shape = (store.rows, *row)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> NDArray[Any]:
        rows, rest = (key[0], key[1:]) if isinstance(key, tuple) else (key, ())
        if isinstance(rows, (int, np.integer)):
            row = range(len(self))[rows]
            picked = self._store.read(self._name, row, row + 1)[0]
            return np.asarray(picked[rest] if rest else picked)
        if isinstance(rows, slice):
            lo, hi, step = rows.indices(len(self))
            if step != 1:
                return self[(np.arange(lo, hi, step), *rest)]
            picked = self._store.read(self._name, lo, max(lo, hi))
        else:
            picked = self._pick(np.asarray(rows))
        return np.asarray(picked[(slice(None), *rest)])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self[:], dtype=dtype)

    def _pick(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Read single rows, chunk by chunk."""
        if rows.dtype == bool:
            if rows.shape != (len(self),):
                raise IndexError(f"a mask of shape {rows.shape} does not fit {len(self)} rows")
            rows = np.flatnonzero(rows)
        if len(rows) and not (-len(self) <= rows.min() and rows.max() < len(self)):
            raise IndexError(f"rows {rows.min()} to {rows.max()} of {len(self)} rows do not exist")
        rows = np.where(rows < 0, rows + len(self), rows)
        out = np.empty((len(rows), *self.shape[1:]), self.dtype)
        order = np.argsort(rows, kind="stable")
        ascending = rows[order]
        for first, last in self._store.chunks(self._name):
            a, b = np.searchsorted(ascending, (first, last))
            if a < b:
                lo, hi = int(ascending[a]), int(ascending[b - 1]) + 1
                out[order[a:b]] = self._store.read(self._name, lo, hi)[ascending[a:b] - lo]
        return out

    def __repr__(self) -> str:
        return f"<StoredArray {self._name} {self.shape} {self.dtype} of {self._store.url}>"


class Store:
    """A labelled data set in Zarr: features, labels, split, and results beside them.

    Use `open_store`; the constructor takes an open group.

    Parameters
    ----------
    url : str
        A path or fsspec URL.
    group : zarr.Group
        What lies there.
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

    Raises
    ------
    StoreError
        For a group that is no store, of another format, or never finished.
    """

    def __init__(
        self,
        url: str,
        group: zarr.Group,
        storage_options: StorageOptions = None,
        rows: int | None = None,
    ) -> None:
        self.url, self.group = url, group
        self.storage_options = dict(storage_options or {})
        self._opened: dict[str, zarr.Array[Any]] = {}
        meta: dict[str, Any] = dict(group.attrs.get(KEY, {}))  # type: ignore[arg-type]
        if not meta:
            raise StoreError(f"{url} is a Zarr group but not a dskrobust store; use create_store")
        if meta.get("format") != FORMAT:
            raise StoreError(
                f"{url} has store format {meta.get('format')}, this version reads {FORMAT}; "
                "ingest the data again or use the version of dskrobust that wrote it"
            )
        if not meta["segments"]:
            raise StoreError(f"{url} was never finished; run the ingest again")
        self._meta = meta
        self.spec: StoreSpec = writing.spec_from_json(meta["spec"])
        self.unit_rows = int(meta["unit_rows"])
        segments, total = [], 0
        for segment in meta["segments"]:
            if rows is not None and total >= rows:
                break
            segments.append((int(segment["rows"]), str(segment["digest"])))
            total += int(segment["rows"])
        self.segments = tuple(segments)
        self.rows = total
        self.columns = self.row_shape("features")[0][0]

    # -- what it is ------------------------------------------------------------------------

    @property
    def address(self) -> SourceAddress:
        """What a task needs to read this store."""
        storage = json.dumps(self.storage_options, sort_keys=True)
        return SourceAddress(absolute(self.url), self.rows, storage, self.segments[-1][1])

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
        return bool(self._meta.get("ids", False))

    @property
    def ids(self) -> StoredArray:
        """Ids of the rows, shape (n,): text (object) or int64; row numbers where there are none."""
        return StoredArray(self, "ids")

    @cached_property
    def summary(self) -> Summary:
        """What is known of all rows without reading them."""
        center = self.group["center"]
        assert isinstance(center, zarr.Array)
        values = arrays.read_plain(center)
        summary = writing.summary_from_json(self._meta["summary"], values)
        return replace(summary, column_sum=values * summary.rows)

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
        """
        return read_notes(self.group, self.segments)

    def row_shape(self, name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
        """Return shape and dtype of one row of features, labels, split or ids."""
        if name == "ids":
            return (), id_dtype(self._array(name).dtype if self.has_ids else np.dtype(np.int64))
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
        units, column = self.units(lo, hi), ARRAYS.index(name)
        decode = self._decoders.get(name)
        if decode is None:
            sums = [(a, b, int(self._checksums[u, column])) for a, b, u in units]
            return arrays.read_checked(self._array(name), lo, hi, sums, out)
        if not units:
            return np.empty((0,), self.row_shape(name)[1])
        first, last = units[0][0], units[-1][1]
        coded = decode(np.asarray(self._array(name)[first:last]))
        for a, b, u in units:
            if arrays.checksum(coded[a - first : b - first]) != int(self._checksums[u, column]):
                raise arrays.damaged(self._array(name), a, "was changed after it was linked")
        return coded[lo - first : hi - first]

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
        units, start, number = [], 0, 0
        for rows, _ in self.segments:
            count = -(-rows // self.unit_rows)
            a, b = max(lo - start, 0), min(hi - start, rows)
            if a < b:
                for k in range(a // self.unit_rows, -(-b // self.unit_rows)):
                    first = start + k * self.unit_rows
                    last = min(first + self.unit_rows, start + rows)
                    units.append((first, last, number + k))
            start, number = start + rows, number + count
        return units

    @cached_property
    def _checksums(self) -> NDArray[np.uint32]:
        table = self.group["checksums"]
        assert isinstance(table, zarr.Array)
        if table.shape[1] != len(ARRAYS) - (not self.has_ids):
            raise DamagedStoreError(
                f"{self.url} does not say whether its rows have ids: its metadata was changed; "
                "write the store again from its source"
            )
        return arrays.read_plain(table)

    @cached_property
    def _decoders(self) -> dict[str, Callable[[NDArray[Any]], NDArray[Any]]]:
        """What makes linked text labels, splits and ids those that the store would hold."""
        links, decoders = self._meta["links"], {}
        if links and self._array("labels").dtype.kind in "UTOS":
            decoders["labels"] = partial(encode, known=self.spec.classes, name="labels")
        if "split" in links and links["split"].get("values") is not None:
            decoders["split"] = partial(encode, known=tuple(links["split"]["values"]), name="split")
        return {**decoders, **({"ids": plain_ids} if "ids" in links else {})}

    def _array(self, name: str) -> zarr.Array[Any]:
        """Return an array, opened once: in object stores that takes two requests."""
        if name not in self._opened:
            self._opened[name] = self._open_array(name)
        return self._opened[name]

    def _open_array(self, name: str) -> zarr.Array[Any]:
        link = self._meta["links"].get(name)
        if link is None:
            array = self.group[name]
        else:
            try:
                array = zarr.open_array(link["url"], mode="r")
            except FileNotFoundError as error:
                raise StoreError(
                    f"{self.url} refers to {name} at {link['url']}, which is not there; "
                    "move the array back or create the store again"
                ) from error
        if not isinstance(array, zarr.Array):
            raise StoreError(f"{self.url}: '{name}' is not an array")
        return array

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
        facts += [("note", str(note), "") for note in self.notes or ()]
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


def is_zarr(value: object) -> bool:
    """Tell whether a value is a Zarr array."""
    return isinstance(value, zarr.Array)


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
    try:
        group = writing.open_group(url, storage_options, "r")
    except FileNotFoundError as error:
        raise StoreError(f"there is no store at {url}", _instead_of(url)) from error
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{url} cannot be opened as a Zarr group: {error}") from error
    return Store(url, group, storage_options)


@lru_cache(maxsize=16)
def _open_cached(address: SourceAddress) -> Store:
    try:
        group = open_root(address, "r")
    except FileNotFoundError as error:
        raise StoreError(
            f"{address.url} is not there on {platform.node()}; keep it where all workers see it "
            "under the same path, or at an fsspec URL"
        ) from error
    store = Store(address.url, group, address.storage_options, address.rows)
    if address.digest and (store.rows != address.rows or store.segments[-1][1] != address.digest):
        raise StaleResultsError(
            f"{address.url} holds other data than when this computation was set up; open the store "
            "and call sample_robustness again"
        )
    return store


in_children(_open_cached.cache_clear)  # a connection to an object store stays in the parent


def encode(values: NDArray[Any], known: tuple[Any, ...] | None, name: str) -> NDArray[Any]:
    """Replace values by their positions among the sorted known ones."""
    table = np.array(known)
    values = np.asarray(values)
    values = (decoded(values, name) if values.dtype.kind == "S" else values).astype(table.dtype)
    codes = np.minimum(np.searchsorted(table, values), len(table) - 1)
    if not (table[codes] == values).all():
        raise InvalidDataError(f"{name} has values that were not there before: expected {known}")
    return codes.astype(np.int16 if name == "split" else np.int64)


def _instead_of(url: str) -> Hint:
    """Return what to do where there is no store: a file is to be read, a name may be misspelt."""
    path = Path(url)
    make = Hint("make one with create_store or ingest", "make one with `dskrobust ingest`")
    if "://" in url or "::" in url:
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
