"""Single objects of a store: each is read, replaced or created as a whole, by any process.

On a local file system an object is a file: written beside and moved into place, or, where it must
not be there yet, put there by a hard link, which fails for all but one, on network file systems
too; without hard links by an exclusive open. Elsewhere it is what fsspec writes in one piece, and
creation is the file system's own exclusive write (S3: If-None-Match). No lock, no time of a file
and no fresh listing of a folder is relied upon.
"""

from __future__ import annotations

import errno
import os
import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import fsspec

from ..errors import SharedStoreWarning, StoreError
from ..paths import NO_LINKS, behind_links, expand, is_remote, local_path
from ..processes import in_children
from ..user_warnings import warn

PARTIAL = ".partial"
ATTEMPTS = 3  # where others remove or replace at the same moment
TAKEN = (
    "PreconditionFailed",
    "ConditionalRequestConflict",
)  # what S3 calls an object that is there


class Address(Protocol):
    """Where a store is."""

    @property
    def url(self) -> str: ...

    @property
    def storage_options(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class Place:
    """An address that is nothing else.

    Attributes
    ----------
    url : str
    storage_options : dict
        Options for fsspec.
    """

    url: str
    storage_options: dict[str, Any] = field(repr=False)  # they hold keys


@dataclass(frozen=True)
class Objects:
    """The objects below an address, by keys with "/" between the parts.

    Attributes
    ----------
    address : Address
    """

    address: Address

    def read(self, key: str) -> bytes | None:
        """Return an object's bytes, None where there is none."""
        path = self._path(key)
        try:
            if path is not None:
                return _read_file(path)
            files, root = self._files()
            with reached(self.address.url):
                return bytes(files.cat_file(f"{root}/{key}"))
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None

    def write(self, key: str, data: bytes) -> None:
        """Write an object, in place of one that is there."""
        path = self._path(key)
        if path is None:
            self._send(key, data)
            return
        for attempt in range(ATTEMPTS):
            try:
                with _beside(path, data) as part:
                    part.replace(path)
                return
            except FileNotFoundError:  # others removed the folder just now
                if attempt == ATTEMPTS - 1:
                    raise

    def create(self, key: str, data: bytes) -> bool:
        """Write an object that is not there; False where it is there. Of several one succeeds.

        An answer may get lost on the way, and who asks again finds its own object: that is success
        too. So what several create must not be the same bytes, unless they mean the same.
        """
        path = self._path(key)
        if path is None:
            return self._create_elsewhere(key, data)
        with _beside(path, data, durable=True) as part:
            try:
                try:
                    os.link(part, path)
                except OSError as error:
                    if error.errno not in NO_LINKS:
                        raise
                    _create_in_place(part, path)
            except FileExistsError:
                return self.read(key) == data
        return True

    def _send(self, key: str, data: bytes, **how: str) -> None:
        """Write an object where fsspec does it."""
        files, root = self._files()
        try:
            with reached(self.address.url):
                files.pipe_file(f"{root}/{key}", data, **how)
        except (FileNotFoundError, PermissionError) as error:  # of a bucket, a server
            raise StoreError(f"nothing can be written to {self.address.url}: {error}") from error

    def _create_elsewhere(self, key: str, data: bytes) -> bool:
        files, root = self._files()
        with reached(self.address.url):
            exclusive = _is_exclusive(files, root)
        if not exclusive:
            warn(
                f"{self.address.url} has no exclusive writes: do not let several processes change "
                "this store at a time, the last one would win",
                SharedStoreWarning,
            )
            if self.read(key) is not None:
                return False
        try:
            self._send(key, data, **({"mode": "create"} if exclusive else {}))
        except FileExistsError:
            return self.read(key) == data
        return True

    def names(self, folder: str) -> list[str]:
        """Return the names of all that lies directly in a folder, rising."""
        path = self._path(folder)
        try:
            if path is not None:
                found = os.listdir(path)
            else:
                files, root = self._files()
                with reached(self.address.url):
                    listed = files.ls(f"{root}/{folder}", detail=False)
                found = [str(name).rstrip("/").rpartition("/")[2] for name in listed]
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted(name for name in found if name and not name.endswith(PARTIAL))

    def all_keys(self) -> Iterator[str]:
        """Yield the keys of all objects."""
        base = self._path("")
        if base is not None:
            for place, _, names in os.walk(base):
                yield from (Path(place, n).relative_to(base).as_posix() for n in sorted(names))
            return
        files, root = self._files()
        with reached(self.address.url):
            for name in files.find(root):
                yield str(name).split(root.lstrip("/"), 1)[1].lstrip("/")

    def drop(self, key: str) -> None:
        """Remove an object, or a folder with all that lies below; what is gone is no error."""
        path = self._path(key)
        if path is None:
            files, root = self._files()
            with suppress(FileNotFoundError), reached(self.address.url):
                files.rm(f"{root}/{key}", recursive=True)
        elif path.is_dir() and not path.is_symlink():
            _remove(path)
        else:
            path.unlink(missing_ok=True)

    def drop_empty(self, nodes: Sequence[str]) -> None:
        """Remove a folder of this machine that holds nothing but empty folders and some nodes.

        Only what is empty goes: another process may be about to fill it.
        """
        root = self._path("")
        with suppress(OSError):
            for node in nodes if root is not None else ():
                path = self._path(node)
                assert path is not None
                path.unlink(missing_ok=True)
                if path.parent.exists():
                    for folder in (*(f for f in path.parent.iterdir() if f.is_dir()), path.parent):
                        folder.rmdir()

    def zarr(self, *, read_only: bool) -> Any:
        """Return Zarr's own view of the store."""
        from .zarr_files import Files, FsspecStore

        path = self._path("")
        if path is not None:
            return Files(path, read_only=read_only)
        url, options = expand(self.address.url), file_options(self.address)
        with reached(url):
            return FsspecStore.from_url(url, storage_options=options, read_only=read_only)

    def _path(self, key: str) -> Path | None:
        """Return an object's file on a local file system, None elsewhere."""
        folder = local_path(self.address.url)
        if folder is None:
            return None
        return behind_links(folder) / key if key else behind_links(folder)

    def _files(self) -> tuple[Any, str]:
        with reached(self.address.url):
            files, root = fsspec.core.url_to_fs(
                expand(self.address.url), **file_options(self.address)
            )
        return files, root.rstrip("/")


def file_options(address: Address) -> dict[str, Any]:
    """Return options for fsspec that make it list a folder anew: other processes write there."""
    fresh = is_remote(address.url) and "::" not in address.url
    return {**({"use_listings_cache": False} if fresh else {}), **address.storage_options}


@contextmanager
def reached(url: str) -> Iterator[None]:
    """Say in a line what a file system elsewhere raises; each has its own exceptions.

    What is missing, taken or forbidden stays what it is: callers make the best of it.

    Raises
    ------
    StoreError
        Where it cannot be reached, or a library is missing.
    """
    try:
        yield
    except (FileNotFoundError, FileExistsError, NotADirectoryError, PermissionError, StoreError):
        raise
    except ImportError as error:
        hint = " (pip install 'dskrobust[s3]')" if url.startswith("s3://") else ""
        raise StoreError(f"{url} cannot be opened: {error}{hint}") from error
    except Exception as error:
        if any(word in f"{error!r} {error.__cause__!r}" for word in TAKEN):
            raise FileExistsError(url) from error
        raise StoreError(
            f"{url} cannot be reached: {error}; check the address, the credentials and the storage "
            "options (for S3 also AWS_ENDPOINT_URL)"
        ) from error


@contextmanager
def _beside(path: Path, data: bytes, *, durable: bool = False) -> Iterator[Path]:
    """Yield a file with some bytes beside the one that they are for; it is gone afterwards.

    Raises
    ------
    PermissionError
        Also where the whole file system may only be read.
    """
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}{PARTIAL}")
    try:
        try:
            file = part.open("wb")
        except FileNotFoundError:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = part.open("wb")
        with file:
            file.write(data)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        yield part
    except OSError as error:
        if error.errno == errno.EROFS:
            raise PermissionError(errno.EROFS, os.strerror(errno.EROFS), str(path)) from error
        raise
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def _create_in_place(part: Path, path: Path) -> None:
    """Create a file where there are no hard links: its name, exclusively, then all of it at once.

    In between it is empty, and stays so where its maker is killed.
    """
    path.open("xb").close()
    try:
        part.replace(path)
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _read_file(path: Path) -> bytes:
    """Read a file that others may be replacing, which network file systems may call stale."""
    for _ in range(ATTEMPTS - 1):
        try:
            return path.read_bytes()
        except OSError as error:
            if error.errno != errno.ESTALE:
                raise
    return path.read_bytes()


def _remove(path: Path) -> None:
    """Remove a folder; others may be removing it too, or still be writing into it."""
    for _ in range(ATTEMPTS):
        with suppress(FileNotFoundError):
            try:
                shutil.rmtree(path)
            except OSError as error:
                if error.errno == errno.ENOTEMPTY:
                    continue
                raise
        return


@lru_cache(maxsize=32)
def _is_exclusive(files: Any, root: str) -> bool:
    """Whether a file system refuses to create what is there; found out by trying."""
    probe = f"{root}/probe-{uuid.uuid4().hex}{PARTIAL}"
    try:
        files.pipe_file(probe, b"", mode="create")
    except FileNotFoundError:  # there is no bucket: whoever writes will hear of it
        return True
    except TypeError:  # it does not even know of it
        return False
    try:
        with reached(root):
            files.pipe_file(probe, b"", mode="create")
    except FileExistsError:
        return True
    finally:
        files.rm(probe)
    return False


in_children(_is_exclusive.cache_clear)  # connections stay in the parent
