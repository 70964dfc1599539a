"""NumPy files: arrays of an ``.npz`` archive, and ``.npy`` files side by side, read by rows."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Generator, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from ..display import meant
from ..errors import InvalidDataError, SourceFileError
from ..ids import plain_ids
from ..labels import decoded, infer_label_kind
from ..paths import expand_path
from ..store import Block, StoreSpec
from .reader import (
    BLOCK_BYTES,
    MOST_CLASSES,
    MOST_GROUPS,
    ReaderOptions,
    StreamReader,
    block_rows,
    check_row,
    coded_classes,
    constant_split,
    distinct,
    encode,
    expect_end,
    fill,
    provenance,
    reads,
    source_errors,
)
from .splits import RowKeys, group_keys

CHANNELS = (1, 3, 4)


class RowArray(Protocol):
    """An array in a file that is read by runs of rows."""

    @property
    def where(self) -> str: ...

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> np.dtype[Any]: ...

    def slices(self, step: int) -> Generator[NDArray[Any]]: ...


@reads(".npz")
def open_npz(path: Path, options: ReaderOptions) -> StreamReader:
    """Return the reader of an ``.npz`` archive, compressed or not.

    X has the shape (n, d), or (n, ...) for images; y (n,) or (n, m); a split array, which is
    optional, (n,). No array is ever held as a whole.

    Raises
    ------
    SourceFileError
        For a damaged archive, or a missing array.
    InvalidDataError
        For arrays of objects, in Fortran order, or of different lengths.
    """
    options.allow("an .npz file", "x", "y", "split", "group")
    names = array_names(options)
    arrays = [Member.open(path, name) for name in names]
    spec = StoreSpec(path.stem, "categorical", provenance=provenance("npz", [path], arrays=names))
    return rows_reader(arrays, spec, options)


@reads(".npy")
def open_npy(path: Path, options: ReaderOptions) -> StreamReader:
    """Return the reader of an ``.npy`` file of features with a file of labels beside it.

    Shapes and errors are those of `open_npz`; Fortran order is fine here.
    """
    options.allow("an .npy file", "y", "split", "group")
    paths = [path, _beside(path, options.y, "labels", "y")]
    if options.split:
        paths.append(_beside(path, options.split, "groups", "split"))
    elif options.drawn.group:
        paths.append(_beside(path, options.drawn.group, "values", "group"))
    arrays = [Mapped.open(p) for p in paths]
    spec = StoreSpec(path.stem, "categorical", provenance=provenance("npy", paths))
    return rows_reader(arrays, spec, options)


def array_names(options: ReaderOptions) -> list[str]:
    """Return what features, labels and, where one is named, the third array are called."""
    beside = options.split or options.drawn.group
    return [options.x, options.y, *([beside] if beside else [])]


def _beside(path: Path, name: str, what: str, option: str) -> Path:
    """Return the file that an option names, seen from here or from the features' folder."""
    for file in (expand_path(name), path.parent / name, path.parent / f"{name}.npy"):
        if file.is_file() and file.suffix == ".npy":
            return file
    raise SourceFileError(
        f"there is no file {path.parent / name} with the {what} of {path.name}; "
        f"name their .npy file with the option {option}"
    )


# -- arrays in files ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Member:
    """An array of an ``.npz`` archive, streamed out of the archive."""

    path: Path
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def where(self) -> str:
        """What messages call it."""
        return f"array '{self.name}' of {self.path}"

    @classmethod
    def open(cls, path: Path, name: str) -> Member:
        """Read the array's header."""
        with _archive(path) as archive:
            members = [member.removesuffix(".npy") for member in archive.namelist()]
            if name not in members:
                raise SourceFileError(
                    f"{path} has no array '{name}' but {', '.join(members) or 'none'}"
                    f"{meant(name, members)}; name the arrays with the options x, y and split"
                )
            with archive.open(f"{name}.npy") as handle:
                shape, fortran, dtype = _header(handle, f"array '{name}' of {path}")
                promised = handle.tell() + math.prod(shape) * dtype.itemsize
            if promised > archive.getinfo(f"{name}.npy").file_size:
                raise EOFError
        if fortran:
            raise InvalidDataError(
                f"array '{name}' of {path} is in Fortran order and cannot be read by rows; save "
                "it as np.ascontiguousarray(array), or in an .npy file"
            )
        return cls(path, name, shape, dtype)

    def slices(self, step: int) -> Generator[NDArray[Any]]:
        """Yield runs of `step` rows, shape (step, ...); the last one is shorter."""
        with _archive(self.path) as archive, archive.open(f"{self.name}.npy") as handle:
            _header(handle, self.where)
            for a in range(0, self.shape[0], step):
                out = np.empty((min(step, self.shape[0] - a), *self.shape[1:]), self.dtype)
                fill(handle, out)
                yield out
            expect_end(handle, self.path, self.shape[0])


@contextmanager
def _archive(path: Path) -> Iterator[zipfile.ZipFile]:
    with source_errors(path, "an .npz archive"):
        try:
            with zipfile.ZipFile(path) as archive:
                yield archive
        except (zipfile.BadZipFile, NotImplementedError) as error:
            raise SourceFileError(
                f"{path} is no .npz archive, or a damaged one: {error}; save or copy it again"
            ) from error


def mapped_array(path: str | Path) -> NDArray[Any]:
    """Return the array of an .npy file, mapped into memory.

    Raises
    ------
    SourceFileError
    """
    try:
        made: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except MemoryError:
        raise
    except Exception as error:  # of what a header says, Python's own parser finds every fault
        said = " ".join(str(error).split())[:120]
        raise SourceFileError(f"{path} is no .npy file with numbers: {said}") from error
    return made


def _header(handle: IO[bytes], where: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Read the header of an array: shape, Fortran order, dtype."""
    try:
        version = npy.read_magic(handle)
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, fortran, dtype = read(handle)
    except (EOFError, OSError):
        raise
    except Exception as error:  # of what a header says, Python's own parser finds every fault
        said = " ".join(str(error).split())[:120]
        raise SourceFileError(f"{where} is no NumPy array: {said}") from error
    if min(shape, default=0) < 0:
        raise SourceFileError(f"{where} is no NumPy array: its header gives the shape {shape}")
    _check_kind(dtype, where)
    if not shape or not shape[0]:
        raise InvalidDataError(f"{where} has the shape {shape}; there are no rows in it")
    return shape, fortran, dtype


def _check_kind(dtype: np.dtype[Any], where: str) -> None:
    if dtype.hasobject:
        raise InvalidDataError(
            f"{where} has dtype {dtype} and is not loaded, because pickled objects can run code; "
            "save it as an array of numbers or text"
        )
    if dtype.kind not in "biufUS" or dtype.itemsize == 0:
        raise InvalidDataError(f"{where} has dtype {dtype}; save it as numbers or text")


@dataclass(frozen=True)
class Mapped:
    """An array in an ``.npy`` file, mapped into memory while it is read."""

    path: Path
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    parted = True  # any run of rows is read by itself

    @property
    def where(self) -> str:
        """What messages call it."""
        return str(self.path)

    @classmethod
    def open(cls, path: Path) -> Mapped:
        """Read the header and compare the file's size with it."""
        with source_errors(path, "an .npy file"), path.open("rb") as handle:
            shape, _, dtype = _header(handle, str(path))
            expected = handle.tell() + math.prod(shape) * dtype.itemsize
            size = path.stat().st_size
        if size != expected:
            raise SourceFileError(
                f"{path} has {size:,} bytes, but its header promises {expected:,}; it is "
                "truncated or was overwritten: save or copy it again"
            )
        return cls(path, shape, dtype)

    def slices(self, step: int, lo: int = 0, hi: int | None = None) -> Generator[NDArray[Any]]:
        """Yield runs of `step` of the rows lo:hi, shape (step, ...); the last one is shorter."""
        last = self.shape[0] if hi is None else hi
        with source_errors(self.path, "an .npy file"):
            for a in range(lo, last, step):  # mapped anew: pages read count as memory
                yield np.array(np.load(self.path, mmap_mode="r")[a : min(a + step, last)])


# -- arrays to blocks --------------------------------------------------------------------------


def rows_reader(
    arrays: list[Any], spec: StoreSpec, options: ReaderOptions, ids: RowArray | None = None
) -> StreamReader:
    """Build the reader of features, labels and, where they are there, a split and ids.

    The third array is no split but says which rows stay together where the options ask for that.
    """
    features, labels = arrays[:2]
    beside = arrays[2] if len(arrays) > 2 else None
    _check_shapes(features, labels, beside, ids)
    split, together = (None, beside) if options.drawn.group else (beside, None)
    read = [array for array in (features, labels, split, ids) if array is not None]
    kind, shape = _label_form(labels, options)
    classes, codes = None, dict[str, int]()
    if labels.dtype.kind in "US":
        classes, codes = coded_classes(_names(labels, MOST_CLASSES), labels.where)
    groups = None if split is None else _names(split, MOST_GROUPS)
    image_shape, channels_last = image_shape_of(features.shape[1:])
    positions = {name: code for code, name in enumerate(groups or ())}

    def coded(y: NDArray[Any]) -> NDArray[Any]:
        return encode(_text(y, labels.where), codes, np.int64) if classes else y

    def keys() -> Iterator[RowKeys]:
        for y, *values in _together([labels, *([together] if together else [])]):
            texts = _text(values[0], together.where) if together else None
            yield RowKeys(coded(y), None if texts is None else group_keys(texts))

    def stream(*rows: int) -> Iterator[Block]:
        for x, y, *names in _together(read, *rows):
            x = np.moveaxis(x, -1, 1) if channels_last else x
            y = coded(y)
            if split is None:
                in_group = constant_split(len(x), 0)
            else:
                in_group = encode(_text(names[0], split.where), positions, np.int16)
            x, y = x.reshape(len(x), -1), y.reshape(len(y), *shape)
            yield Block(x, y, in_group, None if ids is None else plain_ids(names[-1]))

    spec = replace(
        spec, label_kind=kind, classes=classes, groups=groups or ("all",), image_shape=image_shape
    )
    parted = all(getattr(array, "parted", False) for array in read)
    part = partial(partial, stream) if parted else None
    return StreamReader(options.apply(spec), features.shape[0], stream, keys=keys, part=part)


def _together(arrays: list[Any], *rows: int) -> Iterator[tuple[NDArray[Any], ...]]:
    """Yield the same rows of all arrays, those lo:hi alone, and close their files at the end."""
    step = block_rows(max(_row_bytes(array) for array in arrays))
    with ExitStack() as stack:
        runs = [stack.enter_context(closing(array.slices(step, *rows))) for array in arrays]
        yield from zip(*runs, strict=True)


def _row_bytes(array: RowArray) -> int:
    return math.prod(array.shape[1:]) * array.dtype.itemsize


def _label_form(labels: RowArray, options: ReaderOptions) -> tuple[str, tuple[int, ...]]:
    """Return the label kind and the shape of one label; a single column is no vector by itself."""
    wide = labels.shape[1:] not in ((), (1,))
    text = labels.dtype.kind in "US"
    if wide and options.labels not in (None, "vector"):
        raise InvalidDataError(
            f"{labels.where} has several columns: its labels are vectors, not {options.labels}"
        )
    if text and options.labels not in (None, "categorical"):
        raise InvalidDataError(
            f"{labels.where} holds text: its labels are categorical, not {options.labels}"
        )
    if wide or options.labels == "vector":
        return "vector", labels.shape[1:] or (1,)
    return infer_label_kind(np.dtype("U1") if text else labels.dtype, 1), ()


def _check_shapes(
    features: RowArray, labels: RowArray, split: RowArray | None, ids: RowArray | None
) -> None:
    if features.dtype.kind not in "biuf":
        raise InvalidDataError(f"{features.where} has dtype {features.dtype}; features are numbers")
    if len(features.shape) < 2 or 0 in features.shape:
        raise InvalidDataError(
            f"{features.where} has the shape {features.shape}; features have (samples, columns)"
        )
    wide_text = labels.dtype.kind in "US" and labels.shape[1:] not in ((), (1,))
    if len(labels.shape) > 2 or 0 in labels.shape or wide_text:
        raise InvalidDataError(
            f"{labels.where} has the shape {labels.shape}; labels have (samples,) or, "
            "as numbers, (samples, m)"
        )
    for array in (features, labels, split, ids):
        if array is not None:
            check_row(array.where, array.shape, array.dtype.itemsize)
    for other in (labels, split, ids):
        if other is not None and other.shape[0] != features.shape[0]:
            raise InvalidDataError(
                f"{features.where} has {features.shape[0]:,} rows, {other.where} "
                f"{other.shape[0]:,}; they must be equally long"
            )
    if split is not None and (len(split.shape) != 1 or split.dtype.kind == "f"):
        raise InvalidDataError(
            f"{split.where} has the shape {split.shape} and dtype {split.dtype}; the groups of "
            "rows have (samples,) and are text or whole numbers"
        )


def _names(array: RowArray, most: int) -> tuple[str, ...]:
    """Return the distinct values of an array as text, in the order of first appearance."""
    step = max(1, min(65_536, BLOCK_BYTES // _row_bytes(array)))

    def parts() -> Iterator[NDArray[np.str_]]:
        first = 0
        for part in array.slices(step):
            texts = _text(part, array.where).reshape(len(part))
            if (texts == "").any():
                raise InvalidDataError(
                    f"{array.where}: row {first + int((texts == '').argmax())} has no value; drop "
                    "the row or fill the value in"
                )
            yield texts
            first += len(texts)

    return distinct(parts(), most, array.where)


def _text(values: NDArray[Any], where: str) -> NDArray[np.str_]:
    return decoded(values, where) if values.dtype.kind == "S" else values.astype(str)


def image_shape_of(shape: tuple[int, ...]) -> tuple[tuple[int, ...] | None, bool]:
    """Return (height, width) or (channels, height, width), and whether channels are last now."""
    if len(shape) == 2:
        return shape, False
    if len(shape) == 3 and shape[0] in CHANNELS:
        return shape, False
    if len(shape) == 3 and shape[-1] in CHANNELS:
        return (shape[-1], *shape[:-1]), True
    return None, False
