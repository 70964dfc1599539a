"""Whether what is to be written has room on the disk, asked before anything runs for it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from .display import size
from .errors import OutputError
from .paths import behind_links, local_path


def check_space(address: str | Path, needed: int, what: str) -> None:
    """Refuse to begin what does not fit onto the disk of a local address.

    Nothing is known of the room at other addresses, and nothing is refused there.

    Parameters
    ----------
    address : str or Path
        Of a file or store, there already or not.
    needed : int
        Bytes that will be written at most, about.
    what : str
        What they are, as the message begins.

    Raises
    ------
    OutputError
        With both numbers.
    """
    path = local_path(address)
    if path is None:
        return
    folder = _there(behind_links(path))
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise OutputError(
            f"{what} may take {size(needed)} at {address}, but its disk has {size(free)} free; "
            "free some space, or keep the store on another disk"
        )


def _there(path: Path) -> Path:
    """Return the nearest folder above, or the path itself, that is there already."""
    return next((p for p in (path, *path.parents) if p.exists()), Path(os.sep))
