"""Where a source lies: a local path, or a URL that fsspec reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Any

from dask.utils import natural_sort_key

from ..errors import DskrobustError, SourceFileError
from ..paths import check_regular, is_remote


@dataclass(frozen=True)
class Place:
    """A file or folder to read from.

    Attributes
    ----------
    address : str
        A local path or an fsspec URL.
    storage_options : mapping, optional
        Options for fsspec; only for a URL.
    """

    address: str
    storage_options: Mapping[str, Any] | None = field(default=None, hash=False)

    @classmethod
    def of(cls, where: Place | Path | str, storage_options: Any = None) -> Place:
        """Return a place itself, or that of a path or URL."""
        return where if isinstance(where, Place) else cls(str(where), storage_options)

    def __str__(self) -> str:
        return self.address

    @property
    def local(self) -> bool:
        """Whether it is a path."""
        return not is_remote(self.address)

    @property
    def name(self) -> str:
        """The last part of the address, without a query."""
        if self.local:
            return Path(self.address).name
        # zip://own.csv::https://… is a file in another one, simplecache::https://… one kept here.
        url = next((part for part in self.address.split("::") if "://" in part), self.address)
        return PurePosixPath(url.split("?")[0]).name

    @property
    def size(self) -> int | None:
        """Bytes; None where a server does not tell."""
        with remote_errors(self):
            if self.local:
                return Path(self.address).stat().st_size
            files, path = self._files()
            found = files.info(path).get("size")
            return None if found is None else int(found)

    def check(self) -> None:
        """Refuse a local file that is no regular one: it may have no end.

        Raises
        ------
        SourceFileError
        """
        if self.local:
            check_regular(self.address)

    def open(self) -> IO[bytes]:
        """Open the file for reading; a local one must be a regular file."""
        self.check()
        with remote_errors(self):
            if self.local:
                return Path(self.address).open("rb")
            files, path = self._files()
            opened: IO[bytes] = files.open(path, "rb")
            return opened

    def is_folder(self) -> bool:
        """Return whether it is a folder that is there."""
        if self.local:
            return Path(self.address).is_dir()
        with remote_errors(self):
            files, path = self._files()
            return bool(files.isdir(path))

    def is_file(self) -> bool:
        """Return whether it is a file that is there."""
        if self.local:
            return Path(self.address).is_file()
        with remote_errors(self):
            files, path = self._files()
            return bool(files.isfile(path))

    def child(self, name: str) -> Place:
        """Return what is called so in this folder."""
        if self.local:
            return Place(str(Path(self.address) / name))
        with remote_errors(self):
            files, path = self._files()
            return Place(files.unstrip_protocol(f"{path.rstrip('/')}/{name}"), self.storage_options)

    def below(self) -> list[tuple[str, Place]]:
        """Return (path from here, file) of all files below, part 2 before part 10.

        Names that start with "_" or "." are left out: they are records of the writers, not data.
        """
        with remote_errors(self):
            if self.local:
                root = Path(self.address)
                found = {
                    path.relative_to(root).as_posix(): Place(str(path))
                    for path in root.rglob("*")
                    if path.is_file()
                }
            else:
                files, top = self._files()
                top = top.rstrip("/")
                found = {
                    path[len(top) :].lstrip("/"): Place(
                        files.unstrip_protocol(path), self.storage_options
                    )
                    for path in files.find(top)
                }
        shown = (n for n in found if not any(part[0] in "_." for part in n.split("/")))
        return [(name, found[name]) for name in sorted(shown, key=natural_sort_key)]

    def _files(self) -> tuple[Any, str]:
        import fsspec

        files, path = fsspec.core.url_to_fs(self.address, **(self.storage_options or {}))
        return files, path


@contextmanager
def remote_errors(place: Place) -> Iterator[None]:
    """Name the address in whatever a remote file system raises; each has its own exceptions."""
    try:
        yield
    except (DskrobustError, OSError, EOFError):
        raise
    except Exception as error:
        if place.local:
            raise
        text = " ".join(str(error).split()) or type(error).__name__
        raise SourceFileError(f"{place} cannot be read: {text}") from error
