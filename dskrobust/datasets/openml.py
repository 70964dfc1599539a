"""Data sets of OpenML by name; they need the network, once, and memory for the whole set."""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from ..errors import Hint, InvalidDataError, SourceFileError
from ..store import Block, StoreSpec
from .arrow import MemoryTable
from .reader import ReaderOptions, StreamReader, block_rows, constant_split, provenance, reads
from .tables import Source, open_table


class ImagesCopy(NamedTuple):
    """OpenML's copy of official images.

    Attributes
    ----------
    name : str
        What OpenML calls it.
    train : int
        Rows of the group train, the first ones.
    counts : tuple of int
        How many of these are of every class, which tells that rows are in order.
    title : str
    classes : tuple of str
    image_shape : tuple of int
    """

    name: str
    train: int
    counts: tuple[int, ...]
    title: str
    classes: tuple[str, ...]
    image_shape: tuple[int, ...]


FILES_INSTEAD = Hint(
    "give the folder of the official files of MNIST or CIFAR-10, source=DIR",
    "give the folder of the official files of MNIST or CIFAR-10, --source DIR",
)


@reads("openml:")
def open_openml(name: str, options: ReaderOptions) -> StreamReader:
    """Return the reader of a data set of OpenML: one group, or the split column's groups.

    Raises
    ------
    SourceFileError
        Where OpenML cannot be reached or has no such data set.
    """
    import pyarrow as pa

    options.allow("an OpenML data set", "target", "split", "group")
    bunch = _fetch(name, f"openml:{name}", True, options.target or "default-target")
    if bunch.frame is None or bunch.target is None or bunch.target.ndim != 1:
        raise InvalidDataError(f"openml:{name} has no single label column; name it with target")
    table = MemoryTable(f"openml:{name}", pa.Table.from_pandas(bunch.frame, preserve_index=False))
    numbers = bunch.target.dtype.kind in "iuf"  # OpenML itself tells classes from numbers
    options = replace(
        options,
        target=bunch.target.name,
        labels=options.labels or ("real" if numbers else None),
    )
    return open_table(table, Source(name, provenance(f"openml:{name}")), options)


def open_images_copy(what: str, copy: ImagesCopy, options: ReaderOptions) -> StreamReader:
    """Return the reader of images from OpenML, in the order of their official files."""
    name, train, counts, title, classes, image_shape = copy
    bunch = _fetch(name, what, False, "default-target")
    labels = np.asarray(bunch.target).astype(np.int64).astype(np.uint8)
    seen = np.bincount(labels[:train], minlength=10)
    if len(labels) <= train or tuple(seen.tolist()) != counts:
        raise SourceFileError(
            f"OpenML's {name} is not in the official order of {title}", FILES_INSTEAD
        )
    spec = StoreSpec(
        name=title,
        label_kind="categorical",
        groups=("train", "test"),
        scale=1 / 255,
        classes=classes,
        image_shape=image_shape,
        provenance=provenance(f"openml:{name}"),
    )
    stream = partial(_image_blocks, bunch.data, labels, train)
    return StreamReader(options.apply(spec), len(labels), stream)


def _image_blocks(data: Any, labels: Any, train: int) -> Iterator[Block]:
    """Yield uint8 blocks, none of them with rows of both groups."""
    step = block_rows(data.shape[1])
    for code, (lo, hi) in enumerate([(0, train), (train, len(labels))]):
        for a in range(lo, hi, step):
            b = min(a + step, hi)
            values = np.asarray(data[a:b])
            pixels = values.astype(np.uint8)
            if not np.array_equal(pixels, values):
                raise InvalidDataError(f"rows from {a} on hold values that are no pixels of a byte")
            yield Block(pixels, labels[a:b], constant_split(b - a, code))


def _fetch(name: str, what: str, as_frame: bool, target: str) -> Any:
    from sklearn.datasets import fetch_openml

    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "A network error occurred")  # the error says it
            return fetch_openml(name, as_frame=as_frame, target_column=target, n_retries=1)
    except (EOFError, zlib.error) as error:
        raise SourceFileError(
            f"what OpenML sent of {name}, or scikit-learn keeps of it, is damaged ({error}); "
            "remove it from scikit-learn's data folder and fetch it again",
            FILES_INSTEAD,
        ) from error
    except OSError as error:
        raise SourceFileError(
            f"OpenML, where {what} is fetched from, cannot be reached ({error}); download the "
            "files elsewhere and read a CSV or Parquet file by its path",
            FILES_INSTEAD,
        ) from error
    except (ValueError, KeyError) as error:
        raise SourceFileError(f"OpenML has no usable data set {name}: {error}") from error
