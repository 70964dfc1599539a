"""What is damaged in a store beside its rows, and how each piece is mended.

What was computed is removed, so that it is made again; Zarr metadata that the records know are
written again. Rows, and the record of the store's state, cannot be made again from the store.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath
from typing import Any

from numpy.typing import NDArray

from ..errors import DamagedStoreError
from .dataset import Store
from .evaluations import EVALUATIONS, EvaluationRecords
from .objects import Objects
from .prefixes import PREFIXES, check_prefixes
from .results import RESULTS, ResultTables, find_results
from .seals import (
    DATA,
    EVALUATION,
    MARK,
    SHEET,
    damaged_node,
    damaged_object,
    drop_record,
    encoded,
    kind_of,
    repair,
    unseal,
)
from .state import FATE, begun, is_fate, past, root_node

NODE = "zarr.json"
GROUP = {"attributes": {}, "zarr_format": 3, "node_type": "group"}  # of folders in a store
ENDS = (
    ".state", FATE, ".blob", ".result", ".step", EVALUATION, ".checkpoint", ".prefixes", ".basis",
    ".record", SHEET,
)  # fmt: skip
ROWS = 65_536  # of a table, read at once

Look = Callable[[ResultTables, str, int, NDArray[Any]], None]


@dataclass(frozen=True)
class Damage:
    """A damaged piece of a store.

    Attributes
    ----------
    key : str
        Of the object, or the folder, that is mended.
    error : DamagedStoreError
        Names what is damaged.
    mend : callable, optional
        Removes it, or writes it again; None where it cannot be made again.
    """

    key: str
    error: DamagedStoreError
    mend: Callable[[], None] | None


def inspect(
    store: Store, tell: Callable[[str], None] | None = None, look: Look | None = None
) -> Iterator[Damage]:
    """Look at everything beside the rows; yield what is damaged.

    Parameters
    ----------
    store : Store
    tell : callable, optional
        Called with the key of every sealed object that was looked at.
    look : callable, optional
        Called with every piece of a result that was read: the result, the table's name, the first
        row, the values.
    """
    yield from _sealed(store.objects, tell or (lambda key: None))
    yield from _nodes(store)
    yield from _evaluations(store)
    for result in find_results(store, everything=True):
        yield from _checked(
            store.objects, f"{RESULTS}/{result.name}", partial(_read_tables, result, look)
        )
    for kind in store.objects.names(PREFIXES):
        if "." not in kind:
            key = f"{PREFIXES}/{kind}"
            yield from _checked(store.objects, key, partial(check_prefixes, store, kind))


def _checked(objects: Objects, key: str, check: Callable[[], None]) -> Iterator[Damage]:
    try:
        check()
    except DamagedStoreError as error:
        yield Damage(key, error, partial(objects.drop, key))


def _read_tables(result: ResultTables, look: Look | None) -> None:
    for table in result.tables():
        for lo in range(0, result.rows, ROWS):
            values = result.read(table, lo, min(lo + ROWS, result.rows))
            if look is not None:
                look(result, table, lo, values)


# -- sealed objects ------------------------------------------------------------------------------


def _sealed(objects: Objects, tell: Callable[[str], None]) -> Iterator[Damage]:
    """Check every sealed object, known by its end, but for claims, which come and go."""
    old, unfinished = set(past(objects)), begun(objects)
    for key in unfinished:
        yield Damage(key, _unfinished(objects, key), partial(drop_record, objects, key))
    for key in list(objects.all_keys()):
        if "/c/" in key or not key.endswith((*ENDS, MARK)):  # what is not ours is left alone
            continue
        if key in unfinished:
            continue
        try:
            if not _is_whole(objects, key):
                continue
        except DamagedStoreError as error:
            part = _part_of(key.removesuffix(MARK))
            if key.removesuffix(MARK) in old:
                part, hint = key.removesuffix(MARK), repair(objects.address.url, "removes it")
                error = DamagedStoreError(f"{error.args[0]} (nobody reads it any more)", hint)
            yield Damage(part or key, error, partial(drop_record, objects, part) if part else None)
        if not key.endswith(MARK):
            tell(key)


def _unfinished(objects: Objects, key: str) -> DamagedStoreError:
    """Build the error that names the record of a state that was begun."""
    url = objects.address.url
    return DamagedStoreError(
        f"object '{key}' of {url} was begun and never finished: who wrote it was killed, and the "
        "store is as it was before; the next change goes past it",
        repair(url, "removes it"),
    )


def _is_whole(objects: Objects, key: str) -> bool:
    """Check a sealed object, or that a mark has its record; False where it went meanwhile."""
    url, record = objects.address.url, key.removesuffix(MARK)
    data = objects.read(record)
    if data is None and record != key and objects.read(key) is not None:
        raise damaged_object(url, record, "is missing")
    if data is None:
        return False
    if key.endswith(FATE):
        if not is_fate(key, data):
            hint = repair(url, "removes it, and rows that nobody needs go later")
            raise DamagedStoreError(f"object '{key}' of {url} is not what was written", hint)
        return True
    unseal(kind_of(data), record, data, url)
    return True


def _part_of(key: str) -> str:
    """Return what goes where an object is damaged, "" where it cannot be made again."""
    parts = key.split("/")
    if key.endswith(FATE):
        return key
    if parts[0] in DATA or key.endswith(EVALUATION):
        return ""
    if parts[0] in (RESULTS, PREFIXES):
        return "/".join(parts[:2])
    if parts[0] == EVALUATIONS and parts[2] == "arrays":  # they belong to a step's record
        return f"{'/'.join(parts[:2])}/steps/{parts[3]}.step"
    if parts[0] == EVALUATIONS and parts[2] == "checkpoints":
        return "/".join(parts[:5])
    return key


def _evaluations(store: Store) -> Iterator[Damage]:
    """Evaluations with steps that do not say what they are of; subsets, folds that lack rows."""
    for name in store.objects.names(EVALUATIONS):
        records = EvaluationRecords(store.address, name)
        if "." in name:
            continue
        with suppress(DamagedStoreError):  # which is told of already
            facts = records.facts()
            if not facts and records.steps():
                key = f"{records.path}/record{EVALUATION}"
                yield Damage(key, damaged_object(store.url, key, "is missing"), None)
            needed = facts.get("subsets", {}).values() if records.steps() else ()
            subsets = {subset["key"] for part in needed for subset in part.values()}
            for subset in sorted(subsets | _whole_lists(store.objects, records)):
                folder = f"{records.path}/rows/{subset}"
                yield from _checked(store.objects, folder, partial(_check_rows, records, subset))


def _whole_lists(objects: Objects, records: EvaluationRecords) -> set[str]:
    """Return the row lists, of drawn folds too, that were written to their end."""
    names = [name for name in objects.names(f"{records.path}/rows") if "." not in name]
    return {name for name in names if records.counts(name) is not None}


def _check_rows(records: EvaluationRecords, key: str) -> None:
    """Look whether all lists of a subset's row numbers are there; what is in them is sealed."""
    missing = records.missing_lists(key)
    if missing:
        raise damaged_object(records.address.url, missing[0], "(rows of a subset) is missing")


# -- Zarr metadata -------------------------------------------------------------------------------


def _nodes(store: Store) -> Iterator[Damage]:
    """Compare the metadata that tools of others read with what the records say."""
    known = {"": root_node()} if store.state.segments[0].path else {}
    for segment in store.state.segments:
        for name, node in store.state.arrays.items() if segment.path else ():
            known[f"{segment.path}/{name}"] = _with_rows(node, segment.rows)
    for result in find_results(store, everything=True):
        record = result.record()
        for name, node in record.arrays.items():
            known[f"{RESULTS}/{result.name}/{name}"] = node
    for path, node in known.items():
        key = f"{path}/{NODE}".lstrip("/")
        if _parsed(store.objects.read(key)) != node:
            write = partial(store.objects.write, key, encoded(node))
            yield Damage(key, damaged_node(store.url, key), write)
    folders = {above.as_posix() for path in known for above in PurePosixPath(path).parents}
    for folder in folders - {"."}:
        key = f"{folder}/{NODE}"  # which Zarr wrote, and reads where an array is made below
        data = store.objects.read(key)
        node = _parsed(data)
        if data is not None and not (isinstance(node, dict) and node.get("node_type") == "group"):
            write = partial(store.objects.write, key, encoded(GROUP))
            yield Damage(key, damaged_node(store.url, key), write)


def _with_rows(node: Mapping[str, Any], rows: int) -> dict[str, Any]:
    return {**node, "shape": [rows, *node["shape"][1:]]}


def _parsed(data: bytes | None) -> Any:
    try:
        return None if data is None else json.loads(data)
    except ValueError:
        return None
