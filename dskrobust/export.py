"""Results as tables: a pandas frame, or a Parquet or CSV file that is written block by block."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np
from dask.base import compute
from numpy.typing import NDArray

from .datasets import restore_labels
from .errors import InvalidOptionError
from .labels import label_names
from .paths import behind_links, expand_path

if TYPE_CHECKING:
    import pandas as pd

BLOCK_ROWS = 65_536  # as results are stored: every chunk is read once
FORMATS = (".parquet", ".csv", ".csv.gz")


def export_scores(scores: Any, path: str | Path, *, by_group: bool = False) -> Path:
    """Write scores into a Parquet or CSV file, one row per sample.

    Scores that are in a store are read and written block by block; others are computed first. The
    file appears once it is complete.

    Parameters
    ----------
    scores : Scores
    path : path
        Its end says the format: .parquet, .csv or .csv.gz.
    by_group : bool
        Also Q, reach and witness against every group.

    Returns
    -------
    Path

    Raises
    ------
    InvalidOptionError
        For another end, or a folder that does not exist.
    """
    path = check_path(path)
    return write_frames(score_frames(scores, by_group), path)


def score_frames(
    scores: Any, by_group: bool = False, rows: int = BLOCK_ROWS
) -> Iterator[pd.DataFrame]:
    """Yield the scores of `rows` samples after another, as `Scores.to_frame` has them all."""
    columns = _columns(scores, by_group)
    if scores.result is None and any(isinstance(c, da.Array) for c in columns.values()):
        scores = scores.compute()
        columns = _columns(scores, by_group)
    for lo in range(0, scores.rows, rows):
        hi = min(lo + rows, scores.rows)
        part = compute({k: v[lo:hi] for k, v in columns.items()}, scheduler="threads")[0]
        yield _frame(scores, lo, {name: np.asarray(values) for name, values in part.items()})


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


def check_path(path: str | Path) -> Path:
    """Refuse a file that cannot be written, before anything is computed."""
    path = expand_path(path)
    if not path.name.lower().endswith(FORMATS):
        raise InvalidOptionError(f"{path} must end in {', '.join(FORMATS)}, which says the format")
    if not path.parent.is_dir():
        raise InvalidOptionError(f"there is no folder {path.parent} to write {path.name} into")
    return path


def write_frames(
    frames: Iterable[pd.DataFrame], path: Path, progress: Callable[[int], None] | None = None
) -> Path:
    """Write frames with the same columns into a file; `progress` gets their numbers of rows."""
    import pyarrow as pa

    with ExitStack() as stack:
        part = stack.enter_context(_whole(path))
        writer: Any = None
        for frame in frames:
            if writer is None:
                schema = pa.Schema.from_pandas(frame, preserve_index=False)
                writer = stack.enter_context(_writer(part, path.name.lower(), schema))
            writer.write_table(pa.Table.from_pandas(frame, schema, preserve_index=False))
            if progress:
                progress(len(frame))
    return path


@contextmanager
def _whole(path: Path) -> Iterator[Path]:
    """Yield the file to write; only once it is complete it takes its place."""
    path = behind_links(path)  # a link stays one
    part = path.with_name(f"{path.name}.partial")
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def _writer(part: Path, name: str, schema: Any) -> Iterator[Any]:
    import pyarrow as pa
    from pyarrow import csv, parquet

    if name.endswith(".parquet"):
        with parquet.ParquetWriter(part, schema) as writer:
            yield writer
        return
    compression = "gzip" if name.endswith(".gz") else None
    with (
        pa.output_stream(part, compression=compression) as sink,
        csv.CSVWriter(sink, schema) as writer,
    ):
        yield writer
