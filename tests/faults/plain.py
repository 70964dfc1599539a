"""A file system that cannot rename, as some object stores and mounts: files of this machine."""

from __future__ import annotations

import errno
import os
from typing import Any

from fsspec import register_implementation
from fsspec.implementations.local import LocalFileSystem

SCHEME = "plain"


class PlainFileSystem(LocalFileSystem):
    """Files that can be written, read and removed, but keep their names."""

    protocol = SCHEME

    def __init__(self, **options: Any) -> None:
        super().__init__(auto_mkdir=True, **options)  # it has no folders that one makes

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        if isinstance(path, list):
            return [cls._strip_protocol(p) for p in path]
        return LocalFileSystem._strip_protocol(os.fspath(path).removeprefix(f"{SCHEME}://"))

    def unstrip_protocol(self, name: str) -> str:
        """Return the URL of a path."""
        return f"{SCHEME}://{self._strip_protocol(name)}"

    def mv(self, path1: str, path2: str, **kwargs: Any) -> None:
        """Refuse, whatever it is."""
        raise OSError(errno.ENOTSUP, "this file system cannot rename", path1)

    mv_file = rename = move = mv


def register() -> None:
    """Let fsspec, and so dskrobust, know URLs that begin with plain://."""
    register_implementation(SCHEME, PlainFileSystem, clobber=True)
