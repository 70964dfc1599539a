"""MNIST in its official form: four IDX files, gzipped or not."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

import numpy as np
from numpy.typing import NDArray

from ..errors import SourceFileError
from ..store import Block, StoreSpec
from .openml import ImagesCopy, open_images_copy
from .reader import (
    ReaderOptions,
    StreamReader,
    block_rows,
    constant_split,
    expect_end,
    fill,
    folders,
    provenance,
    reads,
    source_errors,
)

UNSIGNED_BYTES = 0x08
IMAGE_SHAPE = (28, 28)
CLASSES = tuple("0123456789")
GROUPS = {"train": "train", "test": "t10k"}  # group: how its files begin
ENDS = ("", ".gz")
KINDS = {"images": "idx3", "labels": "idx1"}
COUNTS = (5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949)  # of classes in train
OPENML = ImagesCopy("mnist_784", 60_000, COUNTS, "MNIST", CLASSES, IMAGE_SHAPE)


@dataclass(frozen=True)
class IdxFile:
    """An IDX file of unsigned bytes whose header was read and checked.

    Attributes
    ----------
    path : Path
    shape : tuple of int
        (n, ...), as the header says.
    """

    path: Path
    shape: tuple[int, ...]

    @classmethod
    def open(cls, path: Path, row_shape: tuple[int, ...]) -> IdxFile:
        """Read the header and compare it with the expected shape of a row."""
        with source_errors(path, "an IDX file"), _opened(path) as handle:
            shape = _header(handle, path, 1 + len(row_shape))
        if shape[1:] != row_shape:
            raise SourceFileError(
                f"{path} holds items of {' × '.join(map(str, shape[1:]))}, "
                f"not of {' × '.join(map(str, row_shape))}"
            )
        return cls(path, shape)

    def slices(self, step: int) -> Iterator[NDArray[np.uint8]]:
        """Yield arrays of `step` rows, shape (step, ...) uint8; the last one is shorter."""
        with source_errors(self.path, "an IDX file"), _opened(self.path) as handle:
            _header(handle, self.path, len(self.shape))
            for a in range(0, self.shape[0], step):
                out = np.empty((min(step, self.shape[0] - a), *self.shape[1:]), np.uint8)
                fill(handle, out)
                yield out
            expect_end(handle, self.path, self.shape[0])


@reads("mnist")
def open_mnist(source: Path | None, options: ReaderOptions) -> StreamReader:
    """Return the reader of the MNIST files in a folder or just below it, else of OpenML's copy.

    Features are (n, 784) uint8, labels (n,) uint8, groups train and test in this order.

    Raises
    ------
    SourceFileError
        For a file that is missing, truncated, longer than its header says or no IDX file.
    """
    options.allow("mnist")
    if source is None:
        return open_images_copy("mnist", OPENML, options)
    paths = _find(source)
    parts = []
    for code, group in enumerate(GROUPS):
        images = IdxFile.open(paths[group, "images"], IMAGE_SHAPE)
        labels = IdxFile.open(paths[group, "labels"], ())
        if images.shape[0] != labels.shape[0]:
            raise SourceFileError(
                f"{images.path} has {images.shape[0]:,} images, but "
                f"{labels.path.name} {labels.shape[0]:,} labels; they are no pair"
            )
        parts.append((code, images, labels))
    spec = StoreSpec(
        name="MNIST",
        label_kind="categorical",
        groups=tuple(GROUPS),
        scale=1 / 255,
        classes=CLASSES,
        image_shape=IMAGE_SHAPE,
        provenance=provenance("mnist", list(paths.values())),
    )
    rows = sum(images.shape[0] for _, images, _ in parts)

    def stream() -> Iterator[Block]:
        for code, images, labels in parts:
            yield from _blocks(code, images, labels)

    return StreamReader(options.apply(spec), rows, stream)


def _blocks(code: int, images: IdxFile, labels: IdxFile) -> Iterator[Block]:
    """Yield the blocks of one group."""
    step = block_rows(int(np.prod(IMAGE_SHAPE)))
    for x, y in zip(images.slices(step), labels.slices(step), strict=True):
        if y.max() >= len(CLASSES):
            raise SourceFileError(f"{labels.path} has the label {y.max()}; digits are 0 to 9")
        yield Block(x.reshape(len(x), -1), y, constant_split(len(x), code))


def _find(source: Path) -> dict[tuple[str, str], Path]:
    """Return the four files by (group, kind), all of one folder."""
    missing: list[str] = []
    for folder in folders(source):
        files, absent = {}, []
        for group, begin in GROUPS.items():
            for kind, form in KINDS.items():
                names = [f"{begin}-{kind}{dot}{form}-ubyte{end}" for dot in "-." for end in ENDS]
                paths = [folder / name for name in names if (folder / name).is_file()]
                if paths:
                    files[group, kind] = paths[0]
                else:
                    absent.append(f"{names[0]}[.gz]")
        if not absent:
            return files
        if files:
            missing = missing or [f"{folder} has no {name}" for name in absent]
    raise SourceFileError(
        "; ".join(missing)
        or f"{source} holds no MNIST files (train-images-idx3-ubyte.gz and three more)"
    )


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as handle:
        yield cast(IO[bytes], handle)


def _header(handle: IO[bytes], path: Path, dimensions: int) -> tuple[int, ...]:
    """Read the magic number and the sizes of an IDX file."""
    magic = np.empty(4, np.uint8)
    fill(handle, magic)
    if magic.tolist() != [0, 0, UNSIGNED_BYTES, dimensions]:
        raise SourceFileError(
            f"{path} begins with the bytes {magic.tobytes().hex(' ')}, not with the magic number "
            f"00 00 08 {dimensions:02d} of an IDX file of {dimensions} dimensions"
        )
    sizes = np.empty(dimensions, ">u4")
    fill(handle, sizes)
    if not sizes[0]:
        raise SourceFileError(f"{path} is empty: its header promises 0 items")
    return tuple(int(size) for size in sizes)
