"""Checked Zarr arrays: whole chunks, one writer each, nothing read that was not written.

Zarr reads a missing chunk as the fill value, and most codecs do not notice a flipped bit. So
every array carries a crc32c codec, and the features, labels and split also a table with the
checksum of every *unit* (a run of rows), which is compared on every read: a chunk that is missing
or was swapped is an error that names it.

Zarr is only loaded where an array is made or opened: arrays in memory need none.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from ..errors import DamagedStoreError, StoreError
from .objects import Objects
from .seals import damaged_node, remedy_of

if TYPE_CHECKING:
    import zarr

    Array = zarr.Array[Any]

UNIT_BYTES = 4 * 2**20  # about the chunk size from which local reads run at full speed
CRC_BYTES = 2**16  # small pieces stay in the cache and off the allocator's large blocks
READ_BYTES = 8 * 2**20  # most bytes decoded at once while a block is read
TEXT_BYTES = 128  # about what an id takes in memory
TEXT_KINDS = "TUO"


def is_zarr(value: object) -> bool:
    """Tell whether a value is a Zarr array; then the library is there."""
    return "zarr" in sys.modules and isinstance(value, sys.modules["zarr"].Array)


def rows_per_unit(row_bytes: int) -> int:
    """Return how many rows make a unit (a chunk of features): a power of two, about 4 MiB."""
    return 1 << max(0, min(16, (UNIT_BYTES // max(row_bytes, 1)).bit_length() - 1))


def create_array(
    objects: Objects,
    path: str,
    shape: tuple[int, ...],
    chunks: tuple[int, ...],
    dtype: np.dtype[Any],
    *,
    compress: bool = True,
) -> zarr.Array[Any]:
    """Create an array whose chunks are always written and checksummed, unless it is there."""
    import zarr
    from zarr.codecs import Crc32cCodec, ZstdCodec
    from zarr.errors import ContainsArrayError

    codecs = ([ZstdCodec(level=1)] if compress else []) + [Crc32cCodec()]
    _check_folders(objects, path)
    try:
        return zarr.create_array(
            objects.zarr(read_only=False),
            name=path,
            shape=shape,
            chunks=tuple(max(1, c) for c in chunks),
            dtype=dtype,
            compressors=codecs,
            config={"write_empty_chunks": True},
        )
    except ContainsArrayError:
        return open_writable(objects, path)


def _check_folders(objects: Objects, path: str) -> None:
    """Refuse what Zarr fails at above an array: no UTF-8, or an array; all else it takes for none.

    Raises
    ------
    DamagedStoreError
    """
    for folder in PurePosixPath(path).parents:
        key, node = (folder / "zarr.json").as_posix(), None
        with suppress(json.JSONDecodeError):
            try:
                node = json.loads(objects.read(key) or b"null")
            except UnicodeDecodeError as error:
                raise damaged_node(objects.address.url, key) from error
        if isinstance(node, dict) and node.get("node_type") == "array":
            raise damaged_node(objects.address.url, key)


def open_writable(objects: Objects, path: str) -> Array:
    """Return the array at a path to write to; also chunks that hold nothing but zeros are."""
    import zarr

    store = objects.zarr(read_only=False)
    array = zarr.open_array(store, path=path, mode="r+", zarr_format=3)
    return array.with_config({"write_empty_chunks": True})


def metadata_of(array: zarr.Array[Any]) -> dict[str, Any]:
    """Return an array's Zarr metadata as plain values."""
    from zarr.buffer import default_buffer_prototype

    found = array.metadata.to_buffer_dict(default_buffer_prototype())["zarr.json"]
    return dict(json.loads(found.to_bytes()))


def open_known(objects: Objects, path: str, metadata: Mapping[str, Any], rows: int) -> Array:
    """Return the array at a path by metadata that are known, with so many rows; nothing is read.

    Raises
    ------
    DamagedStoreError
        Where they are no metadata of an array.
    """
    import zarr
    from zarr.storage import StorePath

    known = {**metadata, "shape": [rows, *list(metadata.get("shape", ()))[1:]]}
    place = StorePath(objects.zarr(read_only=True), path)
    try:
        return zarr.Array.from_dict(place, known)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise DamagedStoreError(
            f"the metadata of array '{path}' of {objects.address.url} cannot be understood: {error}"
        ) from error


def checksum(values: NDArray[Any]) -> int:
    """Return the crc32c of the values' bytes in C order; of texts that of lengths and UTF-8."""
    if values.dtype.kind in TEXT_KINDS:
        values = _text_bytes(values)
    flat = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
    crc = 0
    for k in range(0, flat.size, CRC_BYTES):
        crc = google_crc32c.extend(crc, flat[k : k + CRC_BYTES].tobytes())
    return int(crc)


def _text_bytes(texts: NDArray[Any]) -> NDArray[np.uint8]:
    coded = [text.encode() for text in texts.tolist()]
    lengths = np.array([len(text) for text in coded], "<u4")
    return np.frombuffer(lengths.tobytes() + b"".join(coded), np.uint8)


def digest(parts: Iterator[bytes] | list[bytes]) -> str:
    """Return a 128-bit hexadecimal digest of the parts in their order."""
    sha = hashlib.sha256()
    for part in parts:
        sha.update(part)
    return sha.hexdigest()[:32]


def read_checked(
    array: zarr.Array[Any],
    lo: int,
    hi: int,
    units: list[tuple[int, int, int]],
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """Read rows lo:hi and compare every unit that they touch with its checksum.

    Parameters
    ----------
    array : zarr.Array, shape (n, ...)
    lo, hi : int
        Rows wanted.
    units : list of (first row, last row + 1, crc32c)
        The units that cover lo:hi, in order.
    out : ndarray (hi - lo, ...), optional
        Where to read to.

    Raises
    ------
    DamagedStoreError
        Naming the array and the chunk that is missing, truncated or changed.
    """
    text = array.dtype.kind in TEXT_KINDS
    if out is None:
        out = np.empty((hi - lo, *array.shape[1:]), object if text else array.dtype)
    row_bytes = max(1, out.itemsize * int(np.prod(array.shape[1:], dtype=np.int64)))
    row_bytes = TEXT_BYTES if text else row_bytes
    for run in runs(units, READ_BYTES // row_bytes):
        first, last = run[0][0], run[-1][1]
        inside = lo <= first and last <= hi
        target = out[first - lo : last - lo] if inside and not text else None
        values = _read(array, first, last, target)
        for a, b, expected in run:
            if checksum(values[a - first : b - first]) != expected:
                raise damaged(array, a, "is missing or was changed after it was written")
        if target is None:
            a, b = max(first, lo), min(last, hi)
            out[a - lo : b - lo] = values[a - first : b - first]
    return out


def read_plain(array: zarr.Array[Any]) -> NDArray[Any]:
    """Read a whole small array, whose chunks are only guarded by their codec."""
    if array.nchunks_initialized < array.nchunks:
        raise damaged(array, None, "has a chunk missing")
    return _read(array, 0, array.shape[0])


def damaged(array: zarr.Array[Any], row: int | None, what: str) -> DamagedStoreError:
    """Build the error that names a damaged chunk."""
    chunk = "" if row is None else f" chunk {row // array.chunks[0]} (rows from {row})"
    url = str(array.store_path.store)
    return DamagedStoreError(
        f"array '{array.path}' of {url}:{chunk} {what}", remedy_of(url, array.path)
    )


def runs(units: list[tuple[int, int, int]], most_rows: int) -> Iterator[list[tuple[int, int, int]]]:
    """Cut consecutive units into runs of at most `most_rows` rows, at least one unit each."""
    run: list[tuple[int, int, int]] = []
    for unit in units:
        if run and unit[1] - run[0][0] > most_rows:
            yield run
            run = []
        run.append(unit)
    if run:
        yield run


def _read(
    array: zarr.Array[Any], first: int, last: int, out: NDArray[Any] | None = None
) -> NDArray[Any]:
    try:
        if out is None:
            return np.asarray(array[first:last])
        from zarr.buffer.cpu import NDBuffer

        target: Any = out  # an ndarray is what the buffer wraps, whatever its protocol's types say
        array.get_basic_selection(slice(first, last), out=NDBuffer.from_ndarray_like(target))
        return out
    except MemoryError:
        raise
    except Exception as error:  # codecs raise what they like: name the chunk that does
        if _is_of_network(error):
            raise StoreError(
                f"array '{array.path}' of {array.store_path.store} cannot be read now: {error}"
            ) from error
        step = array.chunks[0]
        for row in range(first - first % step, last, step):
            try:
                array[row : min(row + step, array.shape[0])]
            except Exception as cause:
                raise damaged(array, row, f"cannot be decoded ({cause})") from cause
        raise StoreError(f"array '{array.path}' cannot be read: {error}") from error


def _is_of_network(error: Exception) -> bool:
    """Tell whether a file system could not be reached, which says nothing of the data."""
    library = type(error).__module__.partition(".")[0]
    kinds = (ConnectionError, TimeoutError, PermissionError)
    return isinstance(error, kinds) or library in ("aiohttp", "botocore")
