"""Addresses as users write them: folders of this machine, ~ for the home folder, fsspec URLs."""

from __future__ import annotations

import errno
import os
import re
import stat
from pathlib import Path
from urllib.parse import unquote

from .errors import InvalidOptionError, SourceFileError, system_reason

# file:///x, file://localhost/x and file:/x are files of this machine; file:x is a name.
FILE = re.compile(r"file:(?://(?:localhost(?=/))?|(?=/))")
SCHEME = re.compile(r"[A-Za-z][\w+.-]*(://|::)")
# How a file system says that it has no hard links.
NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
MOST_NAME = 255  # bytes of a file's name, on any system
SPECIAL = (  # what is read without end, or waited for, and what to do instead
    (stat.S_ISDIR, "a folder", "name a file in it"),
    (stat.S_ISFIFO, "a pipe", "write what comes out of it into a file first, and name that"),
    (stat.S_ISCHR, "a device", "copy what you need of it into a file first"),
    (stat.S_ISBLK, "a device", "copy what you need of it into a file first"),
    (stat.S_ISSOCK, "a socket", "name a file"),
)


def expand(address: str | Path) -> str:
    """Return an address with the home folder in place of ``~`` or ``~user``.

    A ``file:`` URL becomes the path that it means. Other fsspec URLs stay as they are, and so does
    the name of something that is there.

    Raises
    ------
    InvalidOptionError
        For a user who is unknown here, and for what can be no name: nothing, blanks, NUL, half a
        character, more than a name may have.
    """
    text = str(address)
    if not text.strip() or "\0" in text:
        what = "holds the character NUL" if text.strip() else "is empty"
        raise InvalidOptionError(f"the path or address {text!r} {what}; name a file or folder")
    if is_remote(text):
        return text
    _check_names(text)
    path = _behind_scheme(text)
    expanded = os.path.expanduser(path)
    if expanded == path and path.startswith("~") and not os.path.lexists(path):
        raise InvalidOptionError(
            f"{path}: there is no home folder {path.split('/')[0]}; write ./{path} for a file of "
            "that name"
        )
    return expanded


def _check_names(path: str) -> None:
    """Refuse what no file of this machine can be called."""
    try:
        longest = max(path.split(os.sep), key=lambda name: len(os.fsencode(name)))
    except UnicodeEncodeError as error:
        raise InvalidOptionError(
            f"the path or address {path!r} holds half a character; name a file or folder"
        ) from error
    size = len(os.fsencode(longest))
    if size > MOST_NAME:
        raise InvalidOptionError(
            f"{longest[:20]}… is a name of {size:,} bytes, and files have at most {MOST_NAME}; "
            "choose a shorter one"
        )


def _behind_scheme(text: str) -> str:
    """Return the path that a ``file:`` URL means, as it is written or with %20 for a blank."""
    scheme = FILE.match(text)
    if scheme is None or os.path.lexists(text):
        return text
    path = text[scheme.end() :] or "/"
    decoded = unquote(path)
    if os.path.lexists(path):
        return path
    folder, other = os.path.dirname(path), os.path.dirname(decoded)
    moved = not os.path.isdir(folder) and os.path.isdir(other)
    return decoded if os.path.lexists(decoded) or moved else path


def expand_path(path: str | Path) -> Path:
    """Return a path with the home folder in place of ``~``; see `expand`."""
    return Path(expand(path))


def is_remote(address: str) -> bool:
    """Whether an address is an fsspec URL of something other than a local file.

    What is there under this very name is a local file, whatever it is called: ``a::b.csv``.
    """
    scheme = SCHEME.match(address)
    if scheme is None or FILE.match(address) or os.path.lexists(address):
        return False
    if "://" in address:
        return True
    from fsspec import available_protocols  # simplecache::x, but no x::y

    return address[: scheme.start(1)] in available_protocols()


def local_path(address: str | Path) -> Path | None:
    """Return the path of a local address, None for other fsspec URLs."""
    text = expand(address)
    return None if is_remote(text) else Path(text)


def absolute(address: str | Path) -> str:
    """Return an address that is understood in every folder; symbolic links stay as they are."""
    path = local_path(address)
    return str(address) if path is None else str(path.absolute())


def behind_links(path: Path) -> Path:
    """Return what a path stands for behind all symbolic links, there already or not."""
    return Path(os.path.realpath(path))


def check_regular(path: str | Path) -> None:
    """Refuse what is no regular file, before anything waits for it or reads it without end.

    Raises
    ------
    SourceFileError
        Naming what it is instead: nothing, a folder, a pipe, a device, a socket.
    """
    path = Path(path)
    try:
        mode = path.stat().st_mode
    except FileNotFoundError as error:
        if path.is_symlink():
            raise SourceFileError(
                f"{path} is a link to nothing; mend it, or name a file"
            ) from error
        raise SourceFileError(f"there is no file {path}") from error
    except (OSError, ValueError) as error:
        said = system_reason(error) if isinstance(error, OSError) else str(error)
        raise SourceFileError(f"{path} cannot be read: {said}") from error
    special = special_kind(mode)
    if special:
        raise SourceFileError(f"{path} is {special[0]}, not a regular file; {special[1]}")


def special_kind(mode: int) -> tuple[str, str] | None:
    """Return what something is that is no regular file, and what to do; None for regular ones."""
    return next(((what, remedy) for test, what, remedy in SPECIAL if test(mode)), None)
