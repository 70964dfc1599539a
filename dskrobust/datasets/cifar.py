"""CIFAR-10 in its official forms: the binary version and the Python version."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import SourceFileError
from ..store import Block, StoreSpec
from .openml import ImagesCopy, open_images_copy
from .reader import (
    ReaderOptions,
    StreamReader,
    array_blocks,
    block_rows,
    constant_split,
    expect_end,
    fill,
    folders,
    provenance,
    reads,
    source_errors,
)

IMAGE_SHAPE = (3, 32, 32)
PIXELS = 3_072
RECORD = 1 + PIXELS
GROUPS = ("train", "test")
BATCHES = {**{f"data_batch_{k}": 0 for k in range(1, 6)}, "test_batch": 1}  # name: group code
_CLASSES = "airplane automobile bird cat deer dog frog horse ship truck"
CLASSES = tuple(_CLASSES.split())
OPENML = ImagesCopy("CIFAR_10", 50_000, (5000,) * 10, "CIFAR-10", CLASSES, IMAGE_SHAPE)

BatchReader = Callable[[Path, int], Iterator[Block]]


@reads("cifar10")
def open_cifar10(source: Path | None, options: ReaderOptions) -> StreamReader:
    """Return the reader of the CIFAR-10 files in a folder or just below it, else of OpenML's copy.

    Features are (n, 3072) uint8 (red, green, blue, each row by row), labels (n,) uint8, groups
    train and test in this order. Pickles of the Python version cannot run code: only arrays of
    numbers and plain containers are rebuilt from them.

    Raises
    ------
    SourceFileError
        For a file that is missing, truncated or of another format.
    """
    options.allow("cifar10")
    if source is None:
        return open_images_copy("cifar10", OPENML, options)
    folder, suffix = _find(source)
    paths = {folder / f"{name}{suffix}": code for name, code in BATCHES.items()}
    meta = folder / ("batches.meta.txt" if suffix else "batches.meta")
    rows = sum(_records(path) for path in paths) if suffix else None
    read: BatchReader = _binary_blocks if suffix else _python_blocks
    spec = StoreSpec(
        name="CIFAR-10",
        label_kind="categorical",
        groups=GROUPS,
        scale=1 / 255,
        classes=_classes(meta),
        image_shape=IMAGE_SHAPE,
        provenance=provenance("cifar10", list(paths)),
    )

    def stream() -> Iterator[Block]:
        for path, code in paths.items():
            yield from read(path, code)

    return StreamReader(options.apply(spec), rows, stream)


def _find(source: Path) -> tuple[Path, str]:
    """Return the folder of the files and their suffix: '.bin', or '' for the Python version."""
    missing = ""
    for folder in folders(source):
        for suffix in (".bin", ""):
            absent = [n for n in BATCHES if not (folder / f"{n}{suffix}").is_file()]
            if not absent:
                return folder, suffix
            if len(absent) < len(BATCHES):
                missing = missing or f"{folder} has no {', '.join(n + suffix for n in absent)}"
    raise SourceFileError(
        missing
        or f"{source} holds no CIFAR-10 files (data_batch_1.bin or data_batch_1, and so on); "
        "unpack cifar-10-binary.tar.gz or cifar-10-python.tar.gz there"
    )


def _classes(meta: Path) -> tuple[str, ...]:
    """Return the class names of the meta file, or the official ones where there is none."""
    if not meta.is_file():
        return CLASSES
    if meta.suffix == ".txt":
        with source_errors(meta, "text"):
            names = meta.read_text("utf-8", errors="replace").split()
    else:
        names = [_text(n) for n in _entry(load_plain_pickle(meta), "label_names", list, meta)]
    if len(names) != len(CLASSES) or len(set(names)) != len(names):
        raise SourceFileError(f"{meta} names {len(names)} classes, not 10 different ones")
    return tuple(names)


def _text(value: Any) -> str:
    return value.decode("utf-8", errors="replace") if isinstance(value, bytes) else str(value)


def _checked(labels: NDArray[np.uint8], path: Path) -> NDArray[np.uint8]:
    if labels.max() >= len(CLASSES):
        raise SourceFileError(f"{path} has the label {labels.max()}; CIFAR-10 has 0 to 9")
    return labels


# -- binary version ----------------------------------------------------------------------------


def _records(path: Path) -> int:
    """Return the number of records in a binary batch."""
    size = path.stat().st_size
    if not size or size % RECORD:
        raise SourceFileError(
            f"{path} has {size:,} bytes, which is no multiple of the {RECORD:,} bytes of a record; "
            "it is truncated or no binary CIFAR-10 batch"
        )
    return size // RECORD


def _binary_blocks(path: Path, code: int) -> Iterator[Block]:
    rows, step = _records(path), block_rows(RECORD)
    with source_errors(path, "a binary CIFAR-10 batch"), path.open("rb") as handle:
        for a in range(0, rows, step):
            records = np.empty((min(step, rows - a), RECORD), np.uint8)
            fill(handle, records)
            labels = _checked(records[:, 0].copy(), path)
            yield Block(records[:, 1:].copy(), labels, constant_split(len(records), code))
        expect_end(handle, path, rows)


# -- Python version ----------------------------------------------------------------------------


def load_plain_pickle(path: Path) -> Any:
    """Load a pickle of arrays of numbers and plain containers; refuse every other content.

    Raises
    ------
    SourceFileError
        Where the file is no pickle, or one that would import anything but NumPy's arrays.
    """
    with source_errors(path, "a pickle"), path.open("rb") as handle:
        try:
            return _PlainUnpickler(handle, encoding="bytes").load()
        except (SourceFileError, EOFError, OSError):
            raise
        except pickle.UnpicklingError as error:
            raise SourceFileError(f"{path} cannot be read as a pickle: {error}") from error
        except Exception as error:  # damaged pickles fail in every way there is
            raise SourceFileError(
                f"{path} is no pickle of a CIFAR-10 batch, or a damaged one ({error!r})"
            ) from error


class _PlainUnpickler(pickle.Unpickler):
    """Finds what numeric arrays are rebuilt with, and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        if module in ("numpy.core.multiarray", "numpy._core.multiarray") and name == "_reconstruct":
            return np.empty(0).__reduce__()[0]  # the function of that name, where NumPy keeps it
        if (module, name) == ("numpy", "ndarray"):
            return np.ndarray
        if (module, name) == ("numpy", "dtype"):
            return _NumberType()
        if (module, name) == ("_codecs", "encode"):
            return _Latin1()
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no data needs; not run")


class _NumberType:
    """``numpy.dtype`` for numbers only; a callable object without anything to set on it."""

    __slots__ = ()

    def __call__(self, code: Any, *flags: Any) -> np.dtype[Any]:
        dtype = np.dtype(_text(code))
        if dtype.kind not in "biuf":
            raise pickle.UnpicklingError(f"it holds an array of dtype {dtype}, not of numbers")
        return dtype


class _Latin1:
    """The encoding by which protocol 2 of Python 3 writes bytes."""

    __slots__ = ()

    def __call__(self, text: str, encoding: str) -> bytes:
        if encoding not in ("latin1", b"latin1"):
            raise pickle.UnpicklingError(f"it asks for the encoding {encoding!r}")
        return text.encode("latin1")


def _entry(content: Any, key: str, kind: type, path: Path) -> Any:
    """Return an entry of an unpickled dict, whose keys may be bytes or text."""
    value = None
    if isinstance(content, dict):
        value = content.get(key.encode(), content.get(key))
    if not isinstance(value, kind):
        raise SourceFileError(f"{path} holds no '{key}' as CIFAR-10's Python version has it")
    return value


def _python_blocks(path: Path, code: int) -> Iterator[Block]:
    content = load_plain_pickle(path)
    data = _entry(content, "data", np.ndarray, path)
    labels = _entry(content, "labels", list, path)
    if data.dtype != np.uint8 or data.ndim != 2 or data.shape[1] != PIXELS or not len(data):
        raise SourceFileError(
            f"{path} holds data of {data.shape} {data.dtype}, not (n, 3072) uint8"
        )
    if len(labels) != len(data):
        raise SourceFileError(f"{path} has {len(data):,} images but {len(labels):,} labels")
    if not all(isinstance(label, int) and 0 <= label < len(CLASSES) for label in labels):
        raise SourceFileError(f"{path} has labels that are not whole numbers from 0 to 9")
    yield from array_blocks(data, np.array(labels, np.uint8), constant_split(len(data), code))
