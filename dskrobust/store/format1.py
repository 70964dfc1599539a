"""Stores of format 1 (dskrobust 0.1.0): what they keep elsewhere or otherwise, in today's words.

They kept what they say of themselves as attributes in ``zarr.json``, all segments in one array
after another, and small records as Zarr arrays of one chunk. They open as they are; the first
change writes a state of today's kind, and what is written from then on is of that kind.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DamagedStoreError, StoreError
from . import arrays
from .objects import Address, Objects
from .seals import damaged_object

KEY = "dskrobust"
FORMAT = 1
NODE = "zarr.json"
SEALED = (NODE, ".blob", ".step", ".evaluation", ".checkpoint", ".made")  # of today, beside


class ForeignError(StoreError):
    """What lies at an address is Zarr, but none of ours."""


def attributes(objects: Objects, path: str) -> Mapping[str, Any]:
    """Return our attributes of a group or array; nothing where it has none.

    Raises
    ------
    DamagedStoreError
        Where its metadata are no JSON.
    """
    node = _node(objects, path)
    found = node.get("attributes", {}) if isinstance(node, Mapping) else {}
    own = found.get(KEY, {}) if isinstance(found, Mapping) else {}
    return own if isinstance(own, Mapping) else {}


def _node(objects: Objects, path: str) -> Any:
    key = f"{path}/{NODE}".lstrip("/")
    data = objects.read(key)
    if data is None:
        return None
    try:
        return json.loads(data)
    except ValueError as error:
        raise damaged_object(objects.address.url, key, f"is no JSON: {error}") from error


def is_unfinished(objects: Objects) -> bool:
    """Whether a run of an earlier version was killed while it made a store."""
    meta = attributes(objects, "")
    return meta.get("format") == FORMAT and not meta.get("segments")


def state(objects: Objects) -> dict[str, Any] | None:
    """Return the state that the attributes of a store say, None where it was never finished.

    Raises
    ------
    StoreError
        Where there is no store, one of another version, or a damaged one.
    """
    url = objects.address.url
    node = _node(objects, "")
    if node is None:
        raise FileNotFoundError(url)
    meta = attributes(objects, "")
    if not meta:
        raise ForeignError(f"{url} is a Zarr group but not a dskrobust store; use create_store")
    if meta.get("format") not in (FORMAT, 2):
        raise StoreError(
            f"{url} has store format {meta.get('format')}, this version reads 1 and 2; "
            "ingest the data again or use the version of dskrobust that wrote it"
        )
    if not meta.get("segments"):
        return None
    try:
        return {
            "spec": meta["spec"],
            "unit_rows": meta["unit_rows"],
            "ids": meta.get("ids", False),
            "segments": [
                {"rows": s["rows"], "digest": s["digest"], "path": ""} for s in meta["segments"]
            ],
            "arrays": _arrays(objects, meta),
            "links": meta["links"],
            "known": meta["summary"],
        }
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise damaged_object(url, NODE, f"cannot be understood: {error!r}") from error


def _arrays(objects: Objects, meta: Mapping[str, Any]) -> dict[str, Any]:
    found = {}
    for name in ("features", "labels", "split", "ids"):
        node = None if name in meta["links"] else _node(objects, name)
        if node is not None:
            found[name] = {**node, "shape": [0, *node["shape"][1:]]}
    return found


def checksums(objects: Objects) -> NDArray[np.uint32]:
    """Return the checksums of all units of a store, (units, arrays)."""
    return _whole(objects, "checksums")


def center(objects: Objects) -> NDArray[np.float64]:
    """Return the column means of a store, (d,)."""
    return _whole(objects, "center")


def _whole(objects: Objects, path: str) -> NDArray[Any]:
    found = read_blob(objects.address, path)
    if found is None:
        raise damaged_object(objects.address.url, path, "is missing")
    return found


def blob_names(address: Address, path: str, found: Sequence[str]) -> list[str]:
    """Return which names in a folder are of small records."""
    plain = [name for name in found if not name.endswith(SEALED)]
    objects = Objects(address)
    return [name for name in plain if _is_array(objects, f"{path}/{name}")]


def _is_array(objects: Objects, path: str) -> bool:
    try:
        node = _node(objects, path)
    except DamagedStoreError:  # it was one, who knows
        return True
    return isinstance(node, Mapping) and node.get("node_type") == "array"


def read_blob(address: Address, path: str) -> NDArray[Any] | None:
    """Return a small record, None where there is none.

    Raises
    ------
    DamagedStoreError
    """
    objects = Objects(address)
    node = _node(objects, path)
    if node is None:
        return None
    rows = node["shape"][0] if node.get("shape") else 0
    return arrays.read_plain(arrays.open_known(objects, path, node, rows))


def result(objects: Objects, path: str) -> dict[str, Any] | None:
    """Return what a finished result says of itself and its tables, None where it is unfinished.

    Raises
    ------
    DamagedStoreError
    """
    meta = attributes(objects, path)
    if not meta.get("complete"):
        return None
    names = objects.names(path)
    tables = [name for name in names if f"{name}.checksums" in names]
    try:
        return {
            "parameters": meta["parameters"],
            "segments": meta["segments"],
            "rows": meta["rows"],
            "groups": meta["groups"],
            "facts": meta["facts"],
            "arrays": {name: _node(objects, f"{path}/{name}") for name in tables},
            "checksums": {
                name: _whole(objects, f"{path}/{name}.checksums").tolist() for name in tables
            },
        }
    except (KeyError, TypeError) as error:
        key = f"{path}/{NODE}"
        raise damaged_object(
            objects.address.url, key, f"cannot be understood: {error!r}"
        ) from error
