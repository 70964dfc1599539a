"""Writing a store: empty arrays, whole aligned chunks by one writer each, then one new state.

Rows that are written at once are a segment, with a folder of its own that nobody else writes to. It
is part of the store once a state names it (`state`), which is one atomic step: a kill at any time
leaves either the old store or the new one, and of several that write at once none loses a row.
"""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..credentials import without_credentials
from ..errors import DskrobustError, Hint, InvalidDataError, StoreError
from ..ids import NUMBERS, TEXT, id_dtype
from ..paths import absolute, behind_links, expand, local_path
from . import arrays, claims
from .blobs import Blobs
from .clearing import clear_up
from .format1 import ForeignError
from .objects import Objects, Place
from .seals import damaged_object
from .spec import Block, StoreSpec, Summary, feature_dtype, lossless
from .state import (
    SEGMENTS,
    Link,
    Names,
    Numbered,
    Segment,
    State,
    added,
    begin,
    change,
    committed,
    keep,
    known_of,
    newest,
)
from .written import Written, record_rows

UNITS_PER_WRITE = 16  # rows of one write: labels and split have chunks of this many units
ID_ROWS = 65_536  # most rows of a chunk of ids: of single rows no more is read
ARRAYS = ("features", "labels", "split", "ids")  # the last one only where rows have ids
CHECKSUMS, SUMS = "checksums", "sums"

StorageOptions = Mapping[str, Any] | None  # for fsspec


@dataclass(frozen=True)
class Layout:
    """Shapes of a store's arrays: rows are added later, so none are counted here.

    Attributes
    ----------
    feature_shape, label_shape : tuple of int
        Shape of one row: (d,), and () or (m,).
    feature_dtype, label_dtype : numpy.dtype
    id_dtype : numpy.dtype, optional
        int64, or object for text; None where rows have no ids.
    """

    feature_shape: tuple[int, ...]
    feature_dtype: np.dtype[Any]
    label_shape: tuple[int, ...]
    label_dtype: np.dtype[Any]
    id_dtype: np.dtype[Any] | None = None

    @property
    def unit_rows(self) -> int:
        """Rows of a chunk of features and of a checksum."""
        row = int(np.prod(self.feature_shape)) * self.feature_dtype.itemsize
        return arrays.rows_per_unit(row)

    @property
    def write_rows(self) -> int:
        """Rows of one write; writers that start at multiples of it never share a chunk."""
        return self.unit_rows * UNITS_PER_WRITE

    @classmethod
    def of(cls, features: Any, labels: Any, ids: Any = None) -> Layout:
        """Layout of the given arrays (anything with shape and dtype)."""
        if len(features.shape) != 2 or features.shape[1] == 0:
            raise InvalidDataError(
                f"features must have the shape (samples, columns), not {tuple(features.shape)}"
            )
        if len(labels.shape) not in (1, 2):
            raise InvalidDataError(
                f"labels must have the shape (samples,) or (samples, m), not {tuple(labels.shape)}"
            )
        dtype = np.dtype(labels.dtype)
        if dtype.kind not in "biuf" or dtype.itemsize > 8:
            raise InvalidDataError(
                f"labels of dtype {dtype} are neither numbers nor text; convert them first"
            )
        dtype = np.dtype(np.uint8) if dtype.kind == "b" else dtype.newbyteorder("=")
        return cls(
            tuple(features.shape[1:]),
            feature_dtype(features.dtype),
            tuple(labels.shape[1:]),
            dtype,
            None if ids is None else id_dtype(ids.dtype),
        )


def layout_of(features: Any, labels: Any) -> Layout:
    """Layout of the given arrays (anything with shape and dtype), which are checked."""
    return Layout.of(features, labels)


def place_of(url: str, storage_options: StorageOptions = None) -> Place:
    """Return where a store is, also after this process has gone to another folder."""
    return Place(absolute(expand(url)), dict(storage_options or {}))


@dataclass(frozen=True)
class SegmentWriter:
    """Writes the rows of a new segment; small enough for every task.

    Attributes
    ----------
    url, storage_json : str
        Where the store is, and options for fsspec as JSON.
    path : str
        The segment's folder in it.
    first : int
        Number of its first row in the store, for what is said of rows.
    unit_rows : int
    names : tuple of str
        The arrays that are written; others lie elsewhere.
    """

    url: str
    storage_json: str
    path: str
    first: int
    unit_rows: int
    names: tuple[str, ...]

    @property
    def objects(self) -> Objects:
        """All objects of the store."""
        return Objects(Place(self.url, json.loads(self.storage_json)))

    def create(self, layout: Layout) -> None:
        """Create the arrays, without rows."""
        unit, step = layout.unit_rows, layout.write_rows
        shape, row = layout.feature_shape, layout.label_shape
        text = np.dtypes.StringDType()
        ids = text if layout.id_dtype == TEXT else NUMBERS
        floats = layout.feature_dtype.kind == "f"
        made = {
            "features": ((unit, *shape), layout.feature_dtype),
            "labels": ((step, *row), layout.label_dtype),
            "split": ((step,), np.dtype(np.int16)),
            "ids": ((min(step, ID_ROWS),), ids),
        }
        objects = self.objects
        for name in self.names:
            chunks, dtype = made[name]
            plain = name == "features" and floats
            shape = (0, *chunks[1:])
            arrays.create_array(
                objects, f"{self.path}/{name}", shape, chunks, dtype, compress=not plain
            )

    def grow(self, rows: int) -> None:
        """Make room for so many rows."""
        for array in self._arrays().values():
            array.resize((rows, *array.shape[1:]))

    def write(self, start: int, block: Block) -> Written:
        """Write a block's rows from row `start` of the segment on; return what a commit needs.

        Parallel writers must start at multiples of `Layout.write_rows` and, but for the last,
        write that many rows.

        Raises
        ------
        InvalidDataError
            For values that the store's dtypes or row shapes do not hold as they are.
        """
        held = {k: a for k, a in self._arrays().items() if getattr(block, k) is not None}
        # checksums are those of the bytes that are read back, so of the stored dtype
        block = block._replace(**{k: _as_stored(getattr(block, k), a, k) for k, a in held.items()})
        written = record_rows(start, block, self.unit_rows, self.first)
        for name, array in held.items():
            values = getattr(block, name)
            array[start : start + len(values)] = values
        return written

    def _arrays(self) -> dict[str, arrays.Array]:
        objects = self.objects
        return {n: arrays.open_writable(objects, f"{self.path}/{n}") for n in self.names}

    def finish(self, written: Written) -> Finished:
        """Write what is known of all rows beside them; the segment is not in the store yet."""
        summary = written.summary
        blobs = Blobs(self.objects.address, self.path)
        blobs.write(CHECKSUMS, written.checksums)
        blobs.write(SUMS, summary.column_sum)
        digest = arrays.digest([digest.encode() for digest in written.digests])
        segment = Segment(rows=summary.rows, digest=digest, path=self.path)
        held = {
            name: {**arrays.metadata_of(array), "shape": [0, *array.shape[1:]]}
            for name, array in self._arrays().items()
        }
        return Finished(segment, summary, held)

    def drop(self) -> None:
        """Remove the segment."""
        self.objects.drop(self.path)


@dataclass(frozen=True)
class Finished:
    """A segment that is written: its record, its summary, its arrays' metadata by name."""

    segment: Segment
    summary: Summary
    arrays: dict[str, dict[str, Any]]


def _newest_or_none(objects: Objects) -> Numbered | None:
    """Return the newest state of a store; None where there is none, or nothing at all."""
    try:
        return newest(objects)
    except FileNotFoundError:
        return None


def check_free(url: str, storage_options: StorageOptions = None, *, overwrite: bool) -> None:
    """Refuse to write where a finished store or anything that is not a store lies.

    Raises
    ------
    StoreError
    """
    folder = local_path(url)
    if folder is not None and behind_links(folder).is_symlink():
        raise StoreError(f"{url} is a symbolic link that leads in a circle; remove it")
    objects = Objects(place_of(url, storage_options))
    foreign = f"{url} holds something that is not a dskrobust store; choose another path"
    try:
        found = newest(objects)
    except ForeignError as error:
        raise StoreError(foreign) from error
    except FileNotFoundError:
        is_file = folder is not None and behind_links(folder).is_file()
        if is_file or (set(objects.names("")) - {claims.CLAIMS} and not _is_rest(objects)):
            raise StoreError(foreign) from None
        return
    if found is not None and not overwrite:
        raise _taken(url)


def _is_rest(objects: Objects) -> bool:
    """Whether nothing is there but chunks of a creation that failed while workers still wrote."""
    names = set(objects.names("")) - {claims.CLAIMS}
    return names == {SEGMENTS} and "zarr.json" not in objects.names(SEGMENTS)


def _taken(url: str) -> StoreError:
    return StoreError(
        f"{url} is already a store",
        Hint(
            "choose another path or pass overwrite=True",
            "choose another path or replace it with --overwrite",
        ),
    )


@contextmanager
def new_store(
    url: str,
    layout: Layout,
    storage_options: StorageOptions = None,
    *,
    overwrite: bool,
    links: Sequence[str] = (),
) -> Iterator[SegmentWriter]:
    """Yield the writer of a store's first rows; one that is there stays until `commit_new`.

    Where `url` is a symbolic link it stays one, and all this goes on behind it.

    Parameters
    ----------
    links : sequence of str
        Arrays that lie elsewhere.

    Raises
    ------
    StoreError
        Where something else is there, or a symbolic link leads nowhere.
    """
    check_free(url, storage_options, overwrite=overwrite)
    objects = Objects(place_of(url, storage_options))
    if _newest_or_none(objects) is None:
        begin(objects)
    try:
        with (
            claims.at_work(objects.address, "a store is written", writes=True),
            _segment(objects, layout, 0, links) as writer,
        ):
            yield writer
    except BaseException:
        _drop_unborn(objects)
        raise
    clear_up(objects)


def _drop_unborn(objects: Objects) -> None:
    """Remove a store of this machine that has nothing, unless somebody else is making it."""
    with suppress(OSError, DskrobustError):
        if _newest_or_none(objects) is None and not claims.others(objects.address):
            objects.drop_empty((f"{SEGMENTS}/zarr.json", "zarr.json"))


@contextmanager
def more_rows(
    url: str, layout: Layout, first: int, storage_options: StorageOptions = None
) -> Iterator[SegmentWriter]:
    """Yield the writer of rows behind the first ones of a store."""
    objects = Objects(place_of(url, storage_options))
    with (
        claims.at_work(objects.address, "rows are appended", writes=True),
        _segment(objects, layout, first) as writer,
    ):
        yield writer
    clear_up(objects)


@contextmanager
def _segment(
    objects: Objects, layout: Layout, first: int, links: Sequence[str] = ()
) -> Iterator[SegmentWriter]:
    """Yield the writer of a new segment, which is gone again where that fails."""
    names = tuple(
        n for n in ARRAYS if n not in links and (n != "ids" or layout.id_dtype is not None)
    )
    path = f"{SEGMENTS}/{uuid.uuid4().hex[:12]}"
    address = objects.address
    storage = json.dumps(address.storage_options, sort_keys=True)
    writer = SegmentWriter(address.url, storage, path, first, layout.unit_rows, names)
    try:
        writer.create(layout)
        yield writer
    except BaseException:
        if path not in _pending:  # a state may name it by now
            with suppress(OSError, DskrobustError):
                writer.drop()
        raise
    finally:
        _pending.discard(path)


_log = logging.getLogger(__name__)
_pending: set[str] = set()  # segments whose states are being made


def _commit(writer: SegmentWriter, to: Callable[[State | None], State]) -> None:
    """Make the state that names a segment; until it is known not to be there, its rows stay."""

    def at_once(before: State | None) -> State:
        _pending.discard(writer.path)
        state = to(before)
        keep(writer.objects, writer.path)
        _pending.add(writer.path)
        return state

    made = change(writer.objects, at_once)
    _pending.discard(writer.path)
    committed(writer.objects, writer.path, made.number)
    _log.info("%s: rows are written (%s)", without_credentials(writer.url), writer.path)


def begin_scratch(url: str, layout: Layout, rows: int) -> SegmentWriter:
    """Return the writer of a store that only the tasks of one graph know; run again, the same."""
    objects = Objects(place_of(url))
    names = tuple(n for n in ARRAYS if n != "ids")
    writer = SegmentWriter(url, "{}", f"{SEGMENTS}/rows", 0, layout.unit_rows, names)
    begin(objects)
    writer.create(layout)
    writer.grow(rows)
    return writer


def commit_new(
    writer: SegmentWriter,
    spec: StoreSpec,
    written: Written,
    *,
    overwrite: bool,
    ids: bool = False,
    links: Mapping[str, Link] | None = None,
) -> None:
    """Make written rows a store, in place of one that is there, in one atomic step."""
    done = writer.finish(written)
    state = State(
        spec=spec,
        unit_rows=writer.unit_rows,
        ids=ids,
        segments=(done.segment,),
        arrays=done.arrays,
        links=dict(links or {}),
        known=known_of(done.summary),
    )

    def to(before: State | None) -> State:
        if before is not None and done.segment in before.segments:  # only the answer got lost
            return before
        if before is not None and not overwrite:  # others were quicker
            raise _taken(writer.url)
        return state

    _commit(writer, to)


def commit_more(writer: SegmentWriter, base: State, names: Names, written: Written) -> None:
    """Make written rows part of a store, as one segment, in one atomic step.

    Others may have appended meanwhile: theirs come first.

    Parameters
    ----------
    base : State
        The one that the rows were written for.
    names : Names
        What their codes are positions in.
    """
    done = writer.finish(written)

    def to(before: State | None) -> State:
        if before is None:
            raise damaged_object(writer.url, "", "has no rows any more")
        return added(before, base, done.segment, done.summary, names)

    _commit(writer, to)


def _as_stored(values: NDArray[Any], array: Any, name: str) -> NDArray[Any]:
    """Return values as an array of the store holds them; ids were made so before."""
    if name == "ids":
        return values
    if values.shape[1:] != array.shape[1:]:
        raise InvalidDataError(
            f"a block of {name} has rows of shape {values.shape[1:]}, the store {array.shape[1:]}"
        )
    return cast(values, array.dtype, name)


def cast(values: NDArray[Any], dtype: np.dtype[Any], what: str) -> NDArray[Any]:
    """Return values in another dtype, only where none of them changes.

    Raises
    ------
    InvalidDataError
    """
    same = lossless(values, dtype)
    if same is None:
        raise InvalidDataError(
            f"{what} of dtype {values.dtype} do not fit the store's {dtype} without loss"
        )
    return same
