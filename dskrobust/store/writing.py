"""Writing a store: empty arrays, whole aligned chunks by one writer each, then one commit.

A store is valid from its first commit on. `commit_segment` replaces the metadata in one atomic
write, so a kill at any time leaves either the old state or the new one; rows beyond the committed
number are never read.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import zarr
from numpy.typing import NDArray

from ..errors import Hint, InvalidDataError, StoreError
from ..ids import NUMBERS, TEXT, id_dtype
from ..paths import behind_links, expand, is_remote, local_path
from . import arrays
from .spec import Block, GroupSummary, StoreSpec, Summary, feature_dtype, summarise

FORMAT = 1
KEY = "dskrobust"
UNITS_PER_WRITE = 16  # rows of one write: labels and split have chunks of this many units
ID_ROWS = 65_536  # most rows of a chunk of ids: of single rows no more is read
ARRAYS = ("features", "labels", "split", "ids")  # the last one only where rows have ids

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
        if dtype.kind not in "biuf":
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


@dataclass(frozen=True)
class Written:
    """What a writer tells of its rows: start, per unit checksums and digests, and a summary."""

    start: int
    checksums: NDArray[np.uint32]
    digests: tuple[str, ...]
    summary: Summary


def open_group(url: str, storage_options: StorageOptions, mode: str) -> zarr.Group:
    """Open the Zarr group at a path or fsspec URL.

    Raises
    ------
    FileNotFoundError, ValueError, KeyError, TypeError
        Where there is none, or what the options say means nothing.
    StoreError
        Where a file system cannot be reached, or not be written to.
    """
    folder, options = local_path(url), _storage_options(url, storage_options)
    remote, extra = folder is None, {"storage_options": options} if options else {}
    url = expand(url)
    if folder is not None and not extra:  # Zarr cannot empty what is a symbolic link
        url = str(behind_links(folder) if mode == "w" else folder)
    try:
        return zarr.open_group(url, mode=mode, zarr_format=3, **extra)  # type: ignore[arg-type]
    except (FileNotFoundError, ValueError, KeyError, TypeError) as error:
        if remote and mode == "w":
            raise StoreError(f"nothing can be written to {url}: {error}") from error
        raise
    except ImportError as error:
        hint = " (pip install 'dskrobust[s3]')" if url.startswith("s3://") else ""
        raise StoreError(f"{url} cannot be opened: {error}{hint}") from error
    except Exception as error:
        if not remote or (mode == "r+" and isinstance(error, PermissionError)):
            raise  # of what may only be read, callers make the best
        raise StoreError(
            f"{url} cannot be reached: {error}; check the address, the credentials and the storage "
            "options (for S3 also AWS_ENDPOINT_URL)"
        ) from error


def _storage_options(url: str, storage_options: StorageOptions) -> dict[str, Any]:
    """Return options for fsspec that make it list a folder anew: other processes write there."""
    fresh = {"use_listings_cache": False} if is_remote(url) and "::" not in url else {}
    return {**fresh, **(storage_options or {})}


def create_empty(
    url: str,
    spec: StoreSpec,
    layout: Layout,
    *,
    overwrite: bool = False,
    storage_options: StorageOptions = None,
    links: Mapping[str, Any] | None = None,
) -> None:
    """Create a store without rows; it opens only after the first `commit_segment`.

    Raises
    ------
    StoreError
        Where a complete store is already there and `overwrite` is false.
    """
    check_free(url, storage_options, overwrite=overwrite)
    group = open_group(url, storage_options, "w")
    unit, step = layout.unit_rows, layout.write_rows
    if not links:
        arrays.create_array(
            group,
            "features",
            (0, *layout.feature_shape),
            (unit, *layout.feature_shape),
            layout.feature_dtype,
            compress=layout.feature_dtype.kind != "f",
        )
        shape = layout.label_shape
        arrays.create_array(group, "labels", (0, *shape), (step, *shape), layout.label_dtype)
    if not links or "split" not in links:
        arrays.create_array(group, "split", (0,), (step,), np.dtype(np.int16))
    has_ids = layout.id_dtype is not None
    if has_ids and (not links or "ids" not in links):
        dtype = np.dtypes.StringDType() if layout.id_dtype == TEXT else NUMBERS
        arrays.create_array(group, "ids", (0,), (min(step, ID_ROWS),), dtype)
    width = len(ARRAYS) - (not has_ids)
    arrays.create_array(group, "checksums", (0, width), (16_384, width), np.dtype(np.uint32))
    group.attrs[KEY] = {
        "format": FORMAT,
        "spec": _spec_to_json(spec),
        "unit_rows": unit,
        "ids": has_ids,
        "segments": [],
        "links": dict(links or {}),
        "summary": None,
    }


def check_free(url: str, storage_options: StorageOptions = None, *, overwrite: bool) -> None:
    """Refuse to write where a finished store or anything that is not a store lies.

    Raises
    ------
    StoreError
    """
    try:
        old = open_group(url, storage_options, "r").attrs.get(KEY)
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        old = None
    if isinstance(old, Mapping):
        if old.get("segments") and not overwrite:
            raise StoreError(
                f"{url} is already a store",
                Hint(
                    "choose another path or pass overwrite=True",
                    "choose another path or replace it with --overwrite",
                ),
            )
        return
    if _occupied(url, storage_options):
        raise StoreError(
            f"{url} holds something that is not a dskrobust store; choose another path"
        )


def _occupied(url: str, storage_options: StorageOptions) -> bool:
    """Whether there is anything at an address."""
    folder = local_path(url)
    if folder is not None:
        return folder.exists() and (folder.is_file() or any(folder.iterdir()))
    files, path = fsspec.core.url_to_fs(url, **_storage_options(url, storage_options))
    return bool(files.exists(path) and files.find(path))


def _is_ours(folder: Path) -> bool:
    """Whether a folder is a dskrobust store, finished or not."""
    try:
        return isinstance(open_group(str(folder), None, "r").attrs.get(KEY), Mapping)
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return False


def _recover(folder: Path, old: Path) -> None:
    """Clear up after a kill between the two renames of `staged`: no store is lost.

    Raises
    ------
    StoreError
        Where something that is not ours has the name that is needed.
    """
    if not os.path.lexists(old):
        return
    if not (old.is_symlink() or _is_ours(old)):
        raise StoreError(f"{old} is in the way and is not a dskrobust store; move it away first")
    if old.is_symlink():  # earlier versions moved the link away, not what is behind it
        old.unlink()
    elif folder.exists():
        shutil.rmtree(old)
    else:
        old.rename(folder)


@contextmanager
def staged(url: str, storage_options: StorageOptions = None, *, overwrite: bool) -> Iterator[str]:
    """Yield an address to write a new store to; it takes the place of `url` once complete.

    On a local file system that is a folder beside it, so that a store is only ever replaced by a
    finished one. Elsewhere there is no renaming and the store is written in place. Where `url` is
    a symbolic link it stays one, and all this goes on behind it.

    Raises
    ------
    StoreError
        Where something else is there, or a symbolic link leads nowhere.
    """
    folder = local_path(url)
    if folder is None:
        check_free(url, storage_options, overwrite=overwrite)
        yield url
        return
    folder = behind_links(folder)
    if folder.is_symlink():
        raise StoreError(f"{url} is a symbolic link that leads in a circle; remove it")
    old = folder.with_name(f".{folder.name}.old")
    _recover(folder, old)
    check_free(url, storage_options, overwrite=overwrite)
    beside = folder.with_name(f".{folder.name}.partial")
    try:
        yield str(beside)
    except BaseException:
        if _is_ours(beside):
            shutil.rmtree(beside)
        raise
    if folder.exists():
        folder.rename(old)
        beside.rename(folder)
        shutil.rmtree(old)
    else:
        beside.rename(folder)


def grow(url: str, start: int, rows: int, storage_options: StorageOptions = None) -> None:
    """Make room for `rows` rows in all; what lies beyond the committed rows is not read.

    start: where the segment begins that is being written.
    """
    group = open_group(url, storage_options, "r+")
    _check_end(url, group.attrs[KEY], start)
    for name in ARRAYS:
        if name in group:
            array = group[name]
            assert isinstance(array, zarr.Array)
            array.resize((rows, *array.shape[1:]))


def write_rows(
    url: str,
    start: int,
    block: Block,
    storage_options: StorageOptions = None,
    names: Sequence[str] = ARRAYS,
) -> Written:
    """Write a block's rows from row `start` on and return what the commit needs of them.

    Only the arrays in `names` are written: what is linked lies elsewhere. Parallel writers must
    start at multiples of `Layout.write_rows` and, but for the last, write that many rows.
    """
    group = open_group(url, storage_options, "r+")
    meta = group.attrs[KEY]
    assert isinstance(meta, dict)
    written = record_rows(start, block, int(meta["unit_rows"]))
    for name, values in zip(ARRAYS, block, strict=True):
        if values is None or name not in names:
            continue
        array = group[name]
        assert isinstance(array, zarr.Array)
        array[start : start + len(values)] = values
    return written


def record_rows(start: int, block: Block, unit_rows: int) -> Written:
    """Check a block and take the checksums and digests of its units.

    The digests are of what results depend on, which ids are not.
    """
    summary = summarise(block, start)
    sums, digests = [], []
    known = [values for values in block if values is not None]
    for a in range(0, len(block.features), unit_rows):
        parts = [np.ascontiguousarray(values[a : a + unit_rows]) for values in known]
        sums.append([arrays.checksum(part) for part in parts])
        digests.append(arrays.digest([part.tobytes() for part in parts[:3]]))
    table = np.array(sums, np.uint32).reshape(-1, len(known))
    return Written(start, table, tuple(digests), summary)


def commit_segment(
    url: str,
    written: Iterable[Written],
    storage_options: StorageOptions = None,
    *,
    names: Mapping[str, tuple[str, ...] | None] | None = None,
) -> None:
    """Make written rows part of the store, as one segment, in one atomic step.

    `names` replaces parts of the spec (groups, classes) in the same step.
    """
    parts = sorted(written, key=lambda part: part.start)
    if not parts:
        raise InvalidDataError("there are no rows to store")
    group = open_group(url, storage_options, "r+")
    meta: dict[str, Any] = dict(group.attrs[KEY])  # type: ignore[arg-type]
    _check_end(url, meta, parts[0].start)
    summary = parts[0].summary
    for part in parts[1:]:
        summary = summary.merge(part.summary)
    if meta["summary"] is None:
        center = arrays.create_array(
            group, "center", summary.column_sum.shape, summary.column_sum.shape, np.dtype("f8")
        )
        center[:] = summary.center
    else:
        summary = summary_from_json(meta["summary"], summary.column_sum).merge(summary)
    table = group["checksums"]
    assert isinstance(table, zarr.Array)
    at = sum(segment["units"] for segment in meta["segments"])
    sums = np.concatenate([part.checksums for part in parts])
    table.resize((at + len(sums), table.shape[1]))
    table[at:] = sums
    segment = {
        "rows": sum(part.summary.rows for part in parts),
        "units": len(sums),
        "digest": arrays.digest([d.encode() for part in parts for d in part.digests]),
    }
    meta["segments"] = [*meta["segments"], segment]
    meta["summary"] = _summary_to_json(summary)
    if names:
        meta["spec"] = {**meta["spec"], **{k: list(v) if v else None for k, v in names.items()}}
    group.attrs[KEY] = meta


def _check_end(url: str, meta: Any, start: int) -> None:
    """Refuse to write a segment that does not begin where the committed rows end."""
    rows = sum(segment["rows"] for segment in meta["segments"])
    if rows != start:
        raise StoreError(
            f"{url} has {rows:,} rows, but {start:,} when it was opened: others appended to it "
            "meanwhile. Nothing was lost; open it again and append once more"
        )


def spec_from_json(data: Mapping[str, Any]) -> StoreSpec:
    """Rebuild a spec from a store's metadata."""
    values = dict(data)
    for name in ("groups", "classes", "image_shape", "feature_names", "decisions"):
        if values.get(name) is not None:
            values[name] = tuple(values[name])
    return StoreSpec(**values)


def _spec_to_json(spec: StoreSpec) -> dict[str, Any]:
    return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(spec).items()}


def _summary_to_json(summary: Summary) -> dict[str, Any]:
    return {
        "rows": summary.rows,
        "largest_feature": summary.largest_feature,
        "label_bounds": dict(summary.label_bounds),
        "groups": {str(code): asdict(group) for code, group in summary.groups.items()},
    }


def summary_from_json(data: Mapping[str, Any], column_sum: NDArray[np.float64]) -> Summary:
    """Rebuild a summary from a store's metadata and the column sums."""
    groups = {
        int(code): GroupSummary(g["rows"], tuple(g["label"]), g["varied"])
        for code, g in data["groups"].items()
    }
    return Summary(
        data["rows"], column_sum, data["largest_feature"], dict(data["label_bounds"]), groups
    )
