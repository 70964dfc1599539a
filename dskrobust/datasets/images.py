"""Folders of images: one sub-folder per class, below one per group where there are groups."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InvalidDataError, SourceFileError
from ..paths import expand_path
from ..store import Block, StoreSpec
from .reader import FOLDER, ReaderOptions, StreamReader, block_rows, reads, source_errors

ENDS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
FIRST = ("train", "training")  # of the groups; the others follow by name
GREY, COLOUR = ("1", "L"), ("P", "RGB", "RGBA")  # Pillow's modes


@dataclass(frozen=True)
class ImageFile:
    """An image of a folder: where it is, and the names of its class and group."""

    path: Path
    label: str
    group: str


def image_files(folder: str | Path) -> list[ImageFile]:
    """Return the images of a folder in the order of the rows that they become.

    The folder holds ``CLASS/image.png`` or ``GROUP/CLASS/image.png``. Groups, classes and files
    come in the order of their names, training first; other files are left out.

    Raises
    ------
    SourceFileError
        Where there are no images, a class has none, or classes and groups are mixed.
    """
    folder = expand_path(folder)
    inside = {path: _folders(path) for path in _folders(folder)}
    grouped = {path for path, below in inside.items() if below}
    flat = [path for path in inside if path not in grouped]
    if not inside:
        raise SourceFileError(
            f"{folder} has no sub-folders; put images into one per class (cat/1.png), or into "
            "those of groups (train/cat/1.png)"
        )
    if grouped and flat:
        raise SourceFileError(
            f"{folder}: {flat[0].name} has no sub-folders, but {min(grouped).name} has; either all "
            "hold images of a class, or all hold classes"
        )
    if not grouped:
        return _in_classes(flat, "all")
    order = sorted(grouped, key=lambda p: (p.name.lower() not in FIRST, p.name))
    return [file for group in order for file in _in_classes(inside[group], group.name)]


def _folders(path: Path) -> list[Path]:
    with source_errors(path, "a folder"):
        return sorted(p for p in path.iterdir() if p.is_dir() and not p.name.startswith("."))


def _in_classes(folders: Sequence[Path], group: str) -> list[ImageFile]:
    images = []
    for folder in folders:
        files = sorted(p for p in folder.iterdir() if p.suffix.lower() in ENDS)
        files = [p for p in files if not p.name.startswith(".")]
        if not files:
            raise SourceFileError(
                f"{folder} holds no images ({', '.join(ENDS)}); fill the folder or remove it"
            )
        images += [ImageFile(path, folder.name, group) for path in files]
    return images


@reads(FOLDER)
def open_images(folder: Path, options: ReaderOptions) -> StreamReader:
    """Return the reader of a folder of images of one size; features are bytes, in colour or grey.

    Rows are as `image_files` has them, channels first. Images are grey where all files are.

    Raises
    ------
    SourceFileError
        For a file that cannot be read as an image, or a folder of another form.
    InvalidDataError
        For an image of another size, deeper than a byte, or with transparent pixels.
    """
    options.allow("a folder of images")
    files = image_files(folder)
    size, grey = _form(files)
    labels = sorted({file.label for file in files})
    groups = list(dict.fromkeys(file.group for file in files))
    shape = size if grey else (3, *size)
    spec = StoreSpec(
        name=folder.resolve().name,
        label_kind="categorical",
        groups=tuple(groups),
        scale=1 / 255,
        classes=tuple(labels),
        image_shape=shape,
        provenance={
            "reader": "images",
            "folder": folder.resolve().name,
            "images": len(files),
            "bytes": sum(file.path.stat().st_size for file in files),
        },
    )
    codes = {name: code for code, name in enumerate(labels)}
    split = {name: code for code, name in enumerate(groups)}
    stream = partial(_blocks, files, shape, codes, split)
    return StreamReader(options.apply(spec), len(files), stream)


def _form(files: Sequence[ImageFile]) -> tuple[tuple[int, int], bool]:
    """Return (height, width) of all images and whether all are grey, from the files' headers."""
    size, grey = None, True
    for file in files:
        with source_errors(file.path, "an image"), _opened(file.path) as image:
            shape, mode = (image.height, image.width), image.mode
        if mode not in (*GREY, *COLOUR):
            raise InvalidDataError(
                f"{file.path} has pixels of the mode {mode}; save it with bytes (grey or RGB)"
            )
        size, grey = size or shape, grey and mode in GREY
        if shape != size:
            raise InvalidDataError(
                f"{file.path} has {shape[0]} × {shape[1]} pixels, {files[0].path} has {size[0]} × "
                f"{size[1]}; resize all images to one size first"
            )
    assert size is not None
    return size, grey


def _opened(path: Path) -> Any:
    try:
        from PIL import Image
    except ImportError as error:
        raise SourceFileError(f"{path} needs Pillow: pip install 'dskrobust[formats]'") from error
    return Image.open(path)


def _blocks(
    files: Sequence[ImageFile],
    shape: tuple[int, ...],
    codes: dict[str, int],
    split: dict[str, int],
) -> Iterator[Block]:
    pixels = int(np.prod(shape))
    step = block_rows(pixels)
    for a in range(0, len(files), step):
        some = files[a : a + step]
        features = np.empty((len(some), pixels), np.uint8)
        for row, file in enumerate(some):
            features[row] = _pixels(file.path, grey=len(shape) == 2)
        labels = np.array([codes[file.label] for file in some], np.int64)
        yield Block(features, labels, np.array([split[file.group] for file in some], np.int16))


def _pixels(path: Path, grey: bool) -> NDArray[np.uint8]:
    """Return an image's bytes, channels first, shape (d,)."""
    with source_errors(path, "an image"), _opened(path) as image:
        if "A" in image.getbands() or "transparency" in image.info:
            alpha = image.convert("RGBA").getchannel("A")
            if alpha.getextrema()[0] < 255:
                raise InvalidDataError(
                    f"{path} has transparent pixels; save it on a background, without transparency"
                )
        values = np.asarray(image.convert("L" if grey else "RGB"))
    return (values if grey else np.moveaxis(values, -1, 0)).reshape(-1)
