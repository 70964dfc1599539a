"""What lies in a folder of images: classes, groups, images, and what is left out. Opens no file."""

from __future__ import annotations

import mimetypes
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from shlex import quote
from typing import Any

from ..display import counted
from ..errors import SourceFileError
from ..paths import expand_path
from .reader import source_errors

FIRST = ("train", "training")  # of the groups; the others follow by name
PLUGINS = {"image/heic": "pillow-heif", "image/heif": "pillow-heif"}  # that Pillow lacks


@dataclass(frozen=True)
class ImageFile:
    """An image of a folder: where it is, and the names of its class and group."""

    path: Path
    label: str
    group: str


@dataclass(frozen=True)
class FolderContent:
    """The images below a folder in the order of the rows that they become, and what else is there.

    Attributes
    ----------
    folder : Path
    images : tuple of ImageFile
    left_out : tuple of Path
        Files that are no images by their suffix.
    hidden : int
        Files and folders whose names begin with a dot; nobody has looked into these folders.
    """

    folder: Path
    images: tuple[ImageFile, ...]
    left_out: tuple[Path, ...]
    hidden: int

    def name(self, path: Path) -> str:
        """Return the path of a file below the folder, with slashes; bytes beside UTF-8 escaped."""
        name = path.relative_to(self.folder).as_posix()
        return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")

    def remarks(self) -> Iterator[str]:
        """Yield a line on each kind of what is left out."""
        if self.left_out:
            yield (
                f"{counted(len(self.left_out), 'file')} left out, no images by their suffixes; "
                f"the first is {self.name(self.left_out[0])}"
            )
        if self.hidden:
            yield f"{counted(self.hidden, 'hidden file')} (or folders) left out"


@dataclass(frozen=True)
class _Inside:
    """What lies in one folder, in the order of the names."""

    folders: tuple[Path, ...]
    images: tuple[Path, ...]
    others: tuple[Path, ...]
    hidden: int


def pillow(path: Path) -> Any:
    """Return the module Image of Pillow, with plugins for what it does not open itself.

    Parameters
    ----------
    path : Path
        What needs it.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise SourceFileError(f"{path} needs Pillow: pip install 'dskrobust[formats]'") from error
    _register_plugins()
    return Image


@cache
def _register_plugins() -> None:
    with suppress(ImportError):
        from pillow_heif import register_heif_opener

        register_heif_opener()


@cache
def image_suffixes() -> frozenset[str]:
    """Return the suffixes, in lower case, of the files that Pillow opens and decodes."""
    image = pillow(Path("a folder of images"))
    from PIL.ImageFile import StubImageFile

    def decodes(form: str) -> bool:
        opener = image.OPEN[form][0]
        return not (isinstance(opener, type) and issubclass(opener, StubImageFile))

    ends = image.registered_extensions()  # also registers the openers
    return frozenset(end for end, form in ends.items() if form in image.OPEN and decodes(form))


def folder_content(folder: str | Path) -> FolderContent:
    """Return the images of a folder in the order of their rows, and what is left out.

    The folder holds ``CLASS/image.png`` or ``GROUP/CLASS/image.png``. Groups, classes and files
    come in the order of their names, training first. Images are the files with a suffix that
    Pillow can open, in upper or lower case. Other files are left out, and so are files and folders
    whose names begin with a dot. Symbolic links are followed as long as they stay in the folder.

    Raises
    ------
    SourceFileError
        Where there are no images, a class has none, classes and groups are mixed, images lie
        beside sub-folders, an image is of a kind that Pillow cannot open, or a link leads out of
        the folder.
    """
    folder = expand_path(folder)
    look = partial(_look, root=folder.resolve())
    top = look(folder)
    inside = {path: look(path) for path in top.folders}
    groups = _groups(folder, top, inside)
    if groups is None:
        classes = {"all": inside}
        seen = [top, *inside.values()]
    else:
        classes = {group.name: {p: look(p) for p in inside[group].folders} for group in groups}
        deepest = [each for several in classes.values() for each in several.values()]
        seen = [top, *inside.values(), *deepest]
    images = [file for group, several in classes.items() for file in _of_classes(several, group)]
    left_out = tuple(path for each in seen for path in each.others)
    return FolderContent(folder, tuple(images), left_out, sum(each.hidden for each in seen))


def _groups(folder: Path, top: _Inside, inside: Mapping[Path, _Inside]) -> list[Path] | None:
    """Return the folders of groups in order, None where folders are classes."""
    if not inside:
        raise SourceFileError(
            f"{folder} has no sub-folders; put images into one per class (cat/1.png), or into "
            "those of groups (train/cat/1.png)"
        )
    _refuse_strays(top)
    for each in inside.values():
        _refuse_strays(each)
    grouped = [path for path, each in inside.items() if each.folders]
    flat = [path for path in inside if path not in grouped]
    if grouped and flat:
        raise SourceFileError(
            f"{folder}: {flat[0].name} has no sub-folders, but {grouped[0].name} has; either all "
            "hold images of a class, or all hold classes"
        )
    return sorted(grouped, key=lambda p: (p.name.lower() not in FIRST, p.name)) or None


def _refuse_strays(inside: _Inside) -> None:
    """Refuse images beside sub-folders: either would be lost."""
    if inside.images and inside.folders:
        raise SourceFileError(
            f"{inside.images[0]} lies beside the folder {inside.folders[0].name}; move one of "
            "them: images lie in the folders of their classes, with no folders among them"
        )


def _of_classes(classes: Mapping[Path, _Inside], group: str) -> Iterator[ImageFile]:
    for folder, inside in classes.items():
        if inside.folders:
            raise SourceFileError(
                f"{inside.folders[0]} is a folder inside a class of a group; images lie no deeper "
                "than GROUP/CLASS/image.png"
            )
        if not inside.images:
            raise SourceFileError(
                f"{folder} holds no images (.png, .jpg or others that Pillow opens); fill the "
                "folder or remove it"
            )
        yield from (ImageFile(path, folder.name, group) for path in inside.images)


def _look(folder: Path, root: Path) -> _Inside:
    folders, images, others, hidden = [], [], [], 0
    with source_errors(folder, "a folder"):
        for path in sorted(folder.iterdir()):
            if path.name.startswith("."):
                hidden += 1
            elif path.is_dir():
                folders.append(_not_out(path, root))
            elif _is_image(path):
                images.append(_not_out(path, root))
            else:
                others.append(path)
    _refuse_bytes([*folders, *images, *others])
    return _Inside(tuple(folders), tuple(images), tuple(others), hidden)


def _not_out(path: Path, root: Path) -> Path:
    """Refuse a link out of the folder: who made the folder may not read what we may."""
    if path.is_symlink() and not path.resolve().is_relative_to(root):
        raise SourceFileError(
            f"{path} is a link that leads out of the folder, to {path.resolve()}; copy what it "
            f"leads to, or make a folder of hard links: cp -rlL {quote(str(root))} NEW"
        )
    return path


def _is_image(path: Path) -> bool:
    """Tell by the suffix; refuse images that cannot be read, so that none is lost."""
    suffix = path.suffix.lower()
    if suffix in image_suffixes():
        if not path.is_file():  # a link to nothing, a pipe
            what = "a link to nothing" if path.is_symlink() else "no file"
            raise SourceFileError(f"{path} is {what}; mend or remove it")
        return True
    kind = mimetypes.guess_type(f"image{suffix}", strict=False)[0] or ""
    if not kind.startswith("image/"):
        return False
    plugin = f"pip install {PLUGINS[kind]}, or " if kind in PLUGINS else ""
    raise SourceFileError(
        f"{path} is an image of a kind that Pillow cannot open ({kind}); {plugin}save it as PNG"
    )


def _refuse_bytes(paths: Sequence[Path]) -> None:
    """Refuse names that are no UTF-8: neither stores nor terminals can hold them."""
    for path in paths:
        try:
            path.name.encode()
        except UnicodeEncodeError as error:
            raise SourceFileError(f"the name of {str(path)!a} is no UTF-8; rename it") from error
