"""Where Numba keeps what it compiled: a folder that can be written, wherever this runs."""

from __future__ import annotations

import getpass
import os
import stat
import tempfile
from pathlib import Path

from numba import config, njit


def _probe(x):
    return x


def use_writable_cache() -> None:
    """Let Numba cache in the temporary folder where neither this package nor HOME can be written.

    Cached code is run, so the folder must be the user's own and closed to others; where it is not,
    a new one serves this process alone.
    """
    try:
        njit(cache=True)(_probe)
    except RuntimeError:  # no locator available
        config.CACHE_DIR = str(_private_folder())  # type: ignore[attr-defined]


def _private_folder() -> Path:
    folder = Path(tempfile.gettempdir()) / f"dskrobust-numba-{_user()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError:
        found = None
    if found is None or not stat.S_ISDIR(found.st_mode) or found.st_mode & 0o077:
        return Path(tempfile.mkdtemp(prefix="dskrobust-numba-"))
    if not hasattr(os, "getuid") or found.st_uid == os.getuid():
        return folder
    return Path(tempfile.mkdtemp(prefix="dskrobust-numba-"))


def _user() -> str:
    return str(os.getuid()) if hasattr(os, "getuid") else getpass.getuser()


use_writable_cache()
