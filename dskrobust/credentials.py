"""Addresses as people and files may see them: without keys, passwords and signed queries."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

HIDDEN = "…"

# user:password@ before a host. A secret key may hold slashes; a port before a path is no secret.
_USER = r"[^\s/@'\"]*@|[^\s/:@'\"]+:(?!\d*/)[^\s@'\"]*@"
_URL = re.compile(
    rf"(?P<scheme>[A-Za-z][\w+.-]*://)(?P<user>{_USER})?(?P<path>[^\s?'\"]*)(?P<query>\?[^\s'\"]*)?"
)
_END = re.compile(r"[;,.:!)\]}]+$")  # of the sentence, not of the address


def without_credentials(text: str) -> str:
    """Return an address, or a text with addresses in it, without what would let others in.

    Of every URL the user with the password and the query become "…": keys of S3 are written
    before the @, and signatures and tokens stand in the query.
    """
    return _URL.sub(_without, text) if "://" in text else text


def _without(url: re.Match[str]) -> str:
    user = f"{HIDDEN}@" if url["user"] else ""
    query = url["query"] or ""
    end = _END.search(query)
    query = f"?{HIDDEN}{end[0] if end else ''}" if len(query) > 1 else query
    return f"{url['scheme']}{user}{url['path']}{query}"


def last_part(address: str) -> str:
    """Return only the name of a file or folder: no path, host or user; other texts as they are."""
    if not address.startswith(("/", "~")) and "://" not in address and "\\" not in address:
        return address
    return re.split(r"[/\\]", without_credentials(address).split("?")[0].rstrip("/\\"))[-1]


def anonymous(value: Any) -> Any:
    """Return plain values in which only the last part of every address is left."""
    if isinstance(value, str):
        return last_part(value)
    if isinstance(value, Mapping):
        return {name: anonymous(each) for name, each in value.items()}
    return [anonymous(each) for each in value] if isinstance(value, (list, tuple)) else value
