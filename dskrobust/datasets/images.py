"""Folders of images: one sub-folder per class, below one per group where there are groups."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..display import counted, error_line
from ..errors import DskrobustError, Hint, InvalidDataError, InvalidOptionError, SourceFileError
from ..store import Block, StoreSpec
from ..user_warnings import warn
from .image_folder import FolderContent, ImageFile, folder_content, pillow
from .reader import FOLDER, MOST_COLUMNS, ReaderOptions, StreamReader, block_rows, reads
from .splits import RowKeys

GREY = ("1", "L", "LA", "La")  # Pillow's modes; but for deep ones all others are colours
DEEP = re.compile(r";16[BLNS]")  # in what Pillow says of a tile: two bytes a value in the file
ORIENTATION = 0x0112  # in EXIF; from 5 on pictures lie on their side
SAMPLED = 16  # pictures whose channels are compared


@dataclass(frozen=True)
class ImageOptions:
    """How images are read.

    Attributes
    ----------
    size : (int, int), optional
        Height and width that all are brought to; without it they have one size.
    grey : bool, optional
        Whether all are grey; where all files are by default.
    """

    size: tuple[int, int] | None = None
    grey: bool | None = None

    @classmethod
    def of(cls, options: ReaderOptions) -> ImageOptions:
        """Return what a reader's options say of images."""
        return cls(None if options.resize is None else _size(options.resize), options.gray)


def _size(resize: Any) -> tuple[int, int]:
    """Return (height, width) of "WIDTHxHEIGHT" or (width, height)."""
    parts = resize.lower().split("x") if isinstance(resize, str) else resize
    try:
        width, height = (int(part) for part in parts)
    except (TypeError, ValueError):
        width = height = 0
    if min(width, height) < 1:
        raise InvalidOptionError(
            f"resize={resize!r} is no size; give width and height in pixels, such as 64x48"
        )
    return height, width


class Header(NamedTuple):
    """What is known of an image before its pixels are read; it has no size where none is asked."""

    size: tuple[int, int] | None
    grey: bool
    frames: bool


@dataclass(frozen=True)
class Form:
    """What all images have when they are read.

    Attributes
    ----------
    size : (int, int)
        Height and width.
    grey : bool
    resized : bool
        Whether they are brought to the size.
    """

    size: tuple[int, int]
    grey: bool
    resized: bool

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of an image as a row of a store holds it, channels first."""
        return self.size if self.grey else (3, *self.size)


@reads(FOLDER)
def open_images(folder: Path, options: ReaderOptions) -> StreamReader:
    """Return the reader of a folder of images of one size; features are bytes, in colour or grey.

    Rows are as `folder_content` has them, channels first; their ids are the paths below the folder.
    Every image is read to one rule: turned as its EXIF data say, its first frame, as bytes of
    red, green and blue (palettes, CMYK and opaque alpha are converted), or of grey where all
    files are grey or the option says so. `resize` brings them to one size by bicubic
    interpolation, without keeping proportions.

    Raises
    ------
    InvalidOptionError
        For a size that is none.
    SourceFileError
        For a file that cannot be read as an image, or a folder of another form.
    InvalidDataError
        For an image of another size, deeper than a byte, or with transparent pixels.
    """
    options.allow("a folder of images", "resize", "gray")
    asked = ImageOptions.of(options)
    content = folder_content(folder)
    headers = [read_header(file.path, asked.size is None) for file in content.images]
    form = _form(content.images, headers, asked)
    if math.prod(form.shape) > MOST_COLUMNS:
        raise _too_large(content.images[0].path, form.size)
    labels = sorted({file.label for file in content.images})
    groups = list(dict.fromkeys(file.group for file in content.images))
    remarks = (*content.remarks(), *_decisions(content, headers, form, asked))
    spec = StoreSpec(
        name=folder.resolve().name,
        label_kind="categorical",
        groups=tuple(groups),
        scale=1 / 255,
        classes=tuple(labels),
        image_shape=form.shape,
        decisions=remarks,
        provenance=_provenance(content, form, asked),
    )

    def part(lo: int, hi: int) -> Callable[[], Iterator[Block]]:
        some = replace(content, images=content.images[lo:hi], left_out=())
        return partial(_blocks, some, form, labels, groups)

    codes = {name: code for code, name in enumerate(labels)}
    numbers = np.array([codes[file.label] for file in content.images], np.int64)
    keys = partial(iter, [RowKeys(numbers)])
    count = len(content.images)
    return StreamReader(options.apply(spec), count, part(0, count), remarks, keys, part)


def images_like(spec: StoreSpec) -> dict[str, Any]:
    """Return resize and gray of `ReaderOptions` that read images as those of a store were."""
    origin, colour = spec.provenance, len(spec.image_shape or ()) == 3
    if origin.get("reader") != "images":
        return {}
    return {
        "resize": origin.get("resize"),
        "gray": origin.get("gray", False if colour else None),  # grey files too are read in colour
    }


def _provenance(content: FolderContent, form: Form, asked: ImageOptions) -> dict[str, Any]:
    height, width = form.size
    more = {
        "resize": f"{width}x{height}" if form.resized else None,
        "gray": asked.grey,
        "left_out": len(content.left_out) or None,
        "hidden": content.hidden or None,
    }
    return {
        "reader": "images",
        "folder": content.folder.resolve().name,
        "images": len(content.images),
        "bytes": sum(file.path.stat().st_size for file in content.images),
        **{name: value for name, value in more.items() if value is not None},
    }


def _form(files: Sequence[ImageFile], headers: Sequence[Header], asked: ImageOptions) -> Form:
    grey = all(header.grey for header in headers) if asked.grey is None else asked.grey
    if asked.size is not None:
        return Form(asked.size, grey, resized=True)
    first = headers[0].size
    assert first is not None
    for file, header in zip(files, headers, strict=True):
        if header.size != first:
            assert header.size is not None
            raise _other_size(file.path, header.size, f"{files[0].path} has", first)
    return Form(first, grey, resized=False)


def _too_large(path: Path, size: tuple[int, int]) -> InvalidDataError:
    height, width = size
    return InvalidDataError(
        f"{path} would be read as {height:,} × {width:,} pixels, more than {MOST_COLUMNS:,} values "
        "a row",
        Hint(
            "bring all to a smaller size, as with resize=(64, 48)",
            "bring all to a smaller size, as with --resize 64x48",
        ),
    )


def _other_size(
    path: Path, size: tuple[int, int], others: str, expected: tuple[int, int]
) -> InvalidDataError:
    (a, b), (height, width) = size, expected
    return InvalidDataError(
        f"{path} has {a} × {b} pixels, {others} {height} × {width}",
        Hint(
            f"resize them all, as with resize=({width}, {height}), which is width and height",
            f"resize them all, as with --resize {width}x{height}, which is width and height",
        ),
    )


def _decisions(
    content: FolderContent, headers: Sequence[Header], form: Form, asked: ImageOptions
) -> Iterator[str]:
    """Yield a line on each decision about how images are read."""
    files, grey = content.images, sum(header.grey for header in headers)
    several = [f for f, header in zip(files, headers, strict=True) if header.frames]
    if several:
        yield (
            f"{counted(len(several), 'image')} with several frames: the first one is read; the "
            f"first file is {content.name(several[0].path)}"
        )
    if form.resized:
        height, width = form.size
        yield f"all images are brought to {width} × {height} pixels (width × height)"
    if form.grey and grey < len(files):
        yield f"{counted(len(files) - grey, 'image')} in colour read as grey"
    if not form.grey and asked.grey is None:
        if grey:
            yield f"{counted(grey, 'grey image')} among {len(files):,} read in colour too"
        sample = files[:: -(-len(files) // SAMPLED)]
        if all(_channels_equal(file.path) for file in sample):
            yield (
                f"all three channels of {counted(len(sample), 'sampled image')} are equal: "
                "--gray (gray=True) keeps one, for a third of the cost"
            )


def _blocks(
    content: FolderContent, form: Form, labels: Sequence[str], groups: Sequence[str]
) -> Iterator[Block]:
    files = content.images
    codes = {name: code for code, name in enumerate(labels)}
    split = {name: code for code, name in enumerate(groups)}
    pixels = int(np.prod(form.shape))
    step = block_rows(pixels)
    for a in range(0, len(files), step):
        some = files[a : a + step]
        features = np.empty((len(some), pixels), np.uint8)
        for row, file in enumerate(some):
            features[row] = read_pixels(file.path, form)
        numbers = np.array([codes[file.label] for file in some], np.int64)
        in_group = np.array([split[file.group] for file in some], np.int16)
        names = np.array([content.name(file.path) for file in some], object)
        yield Block(features, numbers, in_group, names)


# -- single images ---------------------------------------------------------------------------


def read_header(path: Path, sized: bool = True) -> Header:
    """Return what is known of an image without its pixels, wherever the format says it there.

    Parameters
    ----------
    path : Path
    sized : bool
        Whether the size is asked for.
    """
    with _opened(path) as image:
        _refuse_deep(image, path)
        grey, frames = image.mode in GREY, bool(getattr(image, "is_animated", False))
        if not sized:
            return Header(None, grey, frames)
        lies = image.width != image.height and image.getexif().get(ORIENTATION, 1) >= 5
        shown = _turned(image) if lies else image
        return Header((shown.height, shown.width), grey, frames)


def read_pixels(path: Path, form: Form) -> NDArray[np.uint8]:
    """Return an image's bytes, channels first, shape (d,)."""
    with _opened(path) as image:
        picture = _plain(image, path, form.grey)
        size = (picture.height, picture.width)
        if size != form.size and not form.resized:
            raise _other_size(path, size, "the others have", form.size)
        if size != form.size:
            picture = picture.resize(form.size[::-1], pillow(path).Resampling.BICUBIC)
        values = np.asarray(picture)
    return (values if form.grey else np.moveaxis(values, -1, 0)).reshape(-1)


def _channels_equal(path: Path) -> bool:
    with _opened(path) as image:
        values = np.asarray(_plain(image, path, grey=False))
    return bool((values == values[..., :1]).all())


def _plain(image: Any, path: Path, grey: bool) -> Any:
    """Return the image upright, as bytes of grey or of red, green and blue."""
    _refuse_deep(image, path)
    picture = _turned(image)
    if "A" in picture.getbands() or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        if picture.getchannel("A").getextrema()[0] < 255:
            raise InvalidDataError(
                f"{path} has transparent pixels; save it on a background, without transparency"
            )
    return picture.convert("L" if grey else "RGB")


def _turned(image: Any) -> Any:
    """Return the image as viewers show it, turned as its EXIF data say."""
    from PIL import ImageOps

    return ImageOps.exif_transpose(image)


def _refuse_deep(image: Any, path: Path) -> None:
    if image.mode[0] in "IF" or any(DEEP.search(str(tile[3])) for tile in image.tile):
        raise InvalidDataError(
            f"{path} has pixels of the mode {image.mode}, deeper than a byte; save it with bytes "
            "(grey or RGB)"
        )


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open an image; whatever its decoder raises or warns of names the file."""
    opener = pillow(path)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("error", opener.DecompressionBombWarning)
        try:
            with opener.open(path) as image:
                yield image
        except DskrobustError:
            raise
        except Exception as error:  # decoders fail in every way there is
            raise SourceFileError(
                f"{path} cannot be read as an image: {_why(path, error)}"
            ) from error
    for each in caught:
        warn(f"{path}: {each.message}", each.category)


def _why(path: Path, error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "it is not there any more"
    if path.stat().st_size == 0:
        return "it is empty, of 0 bytes; copy it again or remove it"
    if "DecompressionBomb" in type(error).__name__:
        return f"{error}; make it smaller or remove it"
    if type(error).__name__ == "UnidentifiedImageError":
        return "it is damaged, or its suffix is not that of its format; replace or remove it"
    return f"{error_line(error)}; replace or remove it"
