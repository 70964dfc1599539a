"""Results as tables: a pandas frame, or a Parquet or CSV file that is written block by block."""

from __future__ import annotations

import re
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from math import prod
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import dask.array as da
import numpy as np
from dask.base import compute
from numpy.lib import format as npy
from numpy.typing import NDArray

from .datasets import restore_labels
from .declared_types import checked_arguments
from .ids import held_ids, ids_of
from .labels import label_names
from .outputs import check_output, whole_file
from .ranking import blocks_of
from .records import BLOCK_ROWS
from .spreadsheets import harmless_frame, harmless_table

if TYPE_CHECKING:
    import pandas as pd

NAMED_ROWS = 2**20  # where rows have ids: a block looks through those of all rows for its witnesses
ID_BYTES, NAME_BYTES = 200, 100  # of an id, and of a label's name in a row, while it is made
ARROW = 96 * 2**20  # what Arrow keeps of freed bytes, and loads when it first writes
ID = "id"
PARQUET = ".parquet"
# What separates folders or commands terminals; and a % that would read like one of those.
_NO_FILE = re.compile(r"[/\\\x00-\x1f]|%(?=2F|5C|[01][0-9A-F]|25)")
FORMATS = (PARQUET, ".csv", ".csv.gz")


@checked_arguments()
def export_scores(scores: Any, path: str | Path, *, by_group: bool = False) -> Path | str:
    """Write scores into a Parquet or CSV file, one row per sample.

    Scores that are in a store are read and written block by block; others are computed first. The
    file appears once it is complete. In CSV a text that a spreadsheet would run, as it begins with
    ``=``, ``+``, ``-`` or ``@``, has an apostrophe before it.

    Parameters
    ----------
    scores : Scores
    path : str or Path
        A path or an fsspec URL; its end says the format: .parquet, .csv or .csv.gz.
    by_group : bool
        Also Q, reach and witness against every group.

    Returns
    -------
    Path or str
        Of the file; a URL is a str.

    Raises
    ------
    InvalidOptionError
        For another end, a folder that does not exist, or a URL that cannot be written.
    """
    return write_frames(score_frames(scores, by_group), check_output(path, FORMATS))


def score_frames(
    scores: Any, by_group: bool = False, rows: int | None = None
) -> Iterator[pd.DataFrame]:
    """Yield the scores of `rows` samples after another, as `Scores.to_frame` has them all."""
    ids = held_ids(scores.ids)
    rows = rows or (BLOCK_ROWS if ids is None else NAMED_ROWS)
    columns = _columns(scores, by_group)
    if scores.result is None and any(isinstance(c, da.Array) for c in columns.values()):
        scores = scores.compute()
        columns = _columns(scores, by_group)
    for lo in range(0, scores.rows, rows):
        hi = min(lo + rows, scores.rows)
        part = compute({k: v[lo:hi] for k, v in columns.items()}, scheduler="threads")[0]
        frame = _frame(scores, lo, {name: np.asarray(values) for name, values in part.items()})
        yield with_ids(frame, ids)


def frames_memory(scores: Any, by_group: bool = False) -> int:
    """Return how many bytes writing `score_frames` holds at most."""
    named = scores.ids is not None
    rows = min(scores.rows, NAMED_ROWS if named else BLOCK_ROWS)
    numbers = 1 + sum(prod(c.shape[1:]) for c in _columns(scores, by_group).values())
    # as stored, as read, in the frame, in Arrow, and as the file has it; ids as objects and text
    return ARROW + rows * (5 * 8 * numbers + (2 * ID_BYTES if named else 0) + NAME_BYTES)


def _columns(scores: Any, by_group: bool) -> dict[str, Any]:
    """Return what a table has besides row numbers: arrays (n, ...), lazy or not."""
    names = ["robustness", "lipschitz", "reach", "witness"]
    names += [] if scores.categorical else ["nearest"]
    names += ["lipschitz_by_group", "reach_by_group", "witness_by_group"] if by_group else []
    source = scores.arrays.y if scores.store is None else scores.store.labels
    return {"split": scores.split, "label": source, **{n: getattr(scores, n) for n in names}}


def _frame(scores: Any, first: int, values: dict[str, NDArray[Any]]) -> pd.DataFrame:
    import pandas as pd

    groups, split = np.array(scores.groups, dtype=object), values.pop("split")
    columns: dict[str, Any] = {"row": np.arange(first, first + len(split)), "split": groups[split]}
    columns |= _label_columns(scores, values.pop("label"))
    for name, column in values.items():
        if name.endswith("_by_group"):
            kind = name.removesuffix("_by_group")
            columns |= {f"{kind}_{g}": column[:, k] for k, g in enumerate(scores.groups)}
        else:
            columns[name] = column
    for name, column in columns.items():
        if name.startswith(("witness", "nearest")):
            columns[name] = pd.Series(column, dtype="Int64").mask(column < 0)
    return pd.DataFrame(columns)


def with_ids(table: pd.DataFrame, ids: Any) -> pd.DataFrame:
    """Return a table of rows with their ids as its index, and the ids of other rows beside them.

    Parameters
    ----------
    table : DataFrame
        ``row``, and columns of dtype Int64 that hold the numbers of other rows, which get a
        column of their ids (witness_id).
    ids : array (n,), optional
        Only those of the table's rows are read; without it the table is returned as it is.
    """
    import pandas as pd

    if ids is None:
        return table
    columns: dict[str, Any] = {}
    for name, column in table.items():
        columns[str(name)] = column.array
        if column.dtype == "Int64":
            there = ids_of(ids, column.fillna(-1))
            kind = "Int64" if ids.dtype.kind == "i" else "string"
            columns[f"{name}_id"] = pd.array(there, dtype=kind)
    index = pd.Index(np.asarray(ids[table["row"].to_numpy()]), name=ID)
    return pd.DataFrame(columns, index=index)


def blocks_with_ids(table: pd.DataFrame, ids: Any) -> Iterator[pd.DataFrame]:
    """Yield a table with ids, as `with_ids` has it, block by block; as it is without ids."""
    step = len(table) if ids is None else NAMED_ROWS
    for lo in range(0, len(table), max(1, step)):
        yield with_ids(table.iloc[lo : lo + step], ids)


def _label_columns(scores: Any, labels: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """Return labels by name: classes as text, numbers in their own units, vectors in columns."""
    if labels.ndim == 2:
        return {f"label_{k}": labels[:, k] for k in range(labels.shape[1])}
    spec = None if scores.store is None else scores.store.spec
    classes = scores.arrays.classes if spec is None else spec.classes
    if scores.categorical and (classes is not None or labels.dtype.kind == "f"):
        return {"label": label_names(labels, classes)}
    return {"label": labels if spec is None else restore_labels(spec, labels)}


# -- files -------------------------------------------------------------------------------------


def write_frames(
    frames: Iterable[pd.DataFrame], path: Path | str, progress: Callable[[int], None] | None = None
) -> Path | str:
    """Write frames with the same columns into a file; `progress` gets their numbers of rows."""
    import pyarrow as pa

    name = str(path).lower()
    with ExitStack() as stack:
        part = stack.enter_context(whole_file(path))
        writer: Any = None
        for frame in frames:
            frame = frame.reset_index() if frame.index.name == ID else frame
            if writer is None:
                schema = pa.Schema.from_pandas(frame, preserve_index=False)
                writer = stack.enter_context(_writer(part, name, schema))
            table = pa.Table.from_pandas(frame, schema, preserve_index=False)
            writer.write_table(table if name.endswith(PARQUET) else harmless_table(table))
            if progress:
                progress(len(frame))
    return path


def write_csv(frame: pd.DataFrame, path: str | Path) -> None:
    """Write a frame that is in memory into a .csv or .csv.gz file, without its index."""
    packed = "gzip" if str(path).lower().endswith(".gz") else None
    with whole_file(path) as part:
        harmless_frame(frame).to_csv(part, index=False, compression=packed)


def write_subsets(path: str | Path, rows: Mapping[str, Any], ids: Any = None) -> None:
    """Write the row numbers of subsets, chunk by chunk.

    Parameters
    ----------
    path : str or Path
        To a Parquet file go the columns subset and row, with ids also id; to any other an
        ``.npz`` file with an array a subset, with ids also NAME_ids. Texts become fixed-width
        ones, as NumPy has them. What separates folders is written as in URLs (%2F), so that
        nothing is unpacked elsewhere.
    rows : mapping of str to array (k,) of int64
        Dask arrays are computed chunk by chunk.
    ids : array (n,), optional
    """
    if str(path).lower().endswith(PARQUET):
        write_frames(_subset_frames(rows, ids), path)
        return
    with whole_file(path) as part, zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, numbers in rows.items():
            member = _member(name)
            with tempfile.TemporaryFile() as kept:
                with archive.open(f"{member}.npy", "w", force_zip64=True) as file:
                    _write_header(file, numbers.dtype, numbers.shape)
                    for block in blocks_of(numbers):
                        file.write(block.tobytes())
                        if ids is not None:
                            kept.write(block.tobytes())
                if ids is not None:
                    with archive.open(f"{member}_ids.npy", "w", force_zip64=True) as file:
                        _write_ids(file, kept, numbers.shape, ids)


def _subset_frames(rows: Mapping[str, Any], ids: Any) -> Iterator[pd.DataFrame]:
    import pandas as pd

    for name, numbers in rows.items():
        for block in blocks_of(numbers):
            yield from blocks_with_ids(pd.DataFrame({"subset": name, "row": block}), ids)


def _member(name: str) -> str:
    """Return a name as that of a file in an archive, no two names alike."""
    return _NO_FILE.sub(lambda match: f"%{ord(match[0]):02X}", name)


def _write_header(file: IO[bytes], dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
    header = {"descr": npy.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    npy.write_array_header_1_0(file, header)


def _write_ids(file: IO[bytes], rows: IO[bytes], shape: tuple[int, ...], ids: Any) -> None:
    """Write the ids of row numbers that lie in a file, piece by piece."""

    def pieces() -> Iterator[NDArray[Any]]:
        rows.seek(0)
        while some := rows.read(8 * NAMED_ROWS):
            yield ids[np.frombuffer(some, np.int64)]

    dtype = ids.dtype
    if dtype.kind == "O":  # all are as wide as the longest one
        longest = max((len(text) for piece in pieces() for text in piece), default=0)
        dtype = np.dtype(f"U{max(1, longest)}")
    _write_header(file, dtype, shape)
    for piece in pieces():
        file.write(piece.astype(dtype).tobytes())


@contextmanager
def _writer(part: Path, name: str, schema: Any) -> Iterator[Any]:
    import pyarrow as pa
    from pyarrow import csv, parquet

    if name.endswith(PARQUET):
        with parquet.ParquetWriter(part, schema) as writer:
            yield writer
        return
    compression = "gzip" if name.endswith(".gz") else None
    with (
        pa.output_stream(part, compression=compression) as sink,
        csv.CSVWriter(sink, schema) as writer,
    ):
        yield writer
