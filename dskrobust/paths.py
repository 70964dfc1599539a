"""Addresses as users write them: folders of this machine, ~ for the home folder, fsspec URLs."""

from __future__ import annotations

import os
from pathlib import Path

from .errors import InvalidOptionError

LOCAL = "file://"


def expand(address: str | Path) -> str:
    """Return an address with the home folder in place of ``~`` or ``~user``.

    Other fsspec URLs than those of local files stay as they are.

    Raises
    ------
    InvalidOptionError
        For a user who is unknown here.
    """
    text = str(address)
    if is_remote(text):
        return text
    scheme = LOCAL if text.startswith(LOCAL) else ""
    path = text.removeprefix(scheme)
    expanded = os.path.expanduser(path)
    if expanded == path and path.startswith("~"):
        raise InvalidOptionError(
            f"{path}: there is no home folder {path.split('/')[0]}; write ./{path} for a file of "
            "that name"
        )
    return scheme + expanded


def expand_path(path: str | Path) -> Path:
    """Return a path with the home folder in place of ``~``; see `expand`."""
    return Path(expand(path))


def is_remote(address: str) -> bool:
    """Whether an address is an fsspec URL of something other than a local file."""
    return "::" in address or ("://" in address and not address.startswith(LOCAL))


def local_path(address: str | Path) -> Path | None:
    """Return the path of a local address, None for other fsspec URLs."""
    text = expand(address)
    return None if is_remote(text) else Path(text.removeprefix(LOCAL))


def absolute(address: str | Path) -> str:
    """Return an address that is understood in every folder; symbolic links stay as they are."""
    path = local_path(address)
    return str(address) if path is None else str(path.absolute())


def behind_links(path: Path) -> Path:
    """Return what a path stands for behind all symbolic links, there already or not."""
    return Path(os.path.realpath(path))
