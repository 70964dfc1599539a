"""The command `score`: robustness of new samples in the rows of a store."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import Hint, InvalidDataError, InvalidOptionError
from ..extras import check_libraries
from .memory import say_memory
from .options import (
    WHERE,
    File,
    cluster_options,
    label_bound_option,
    metric_option,
    opened_store,
    store_argument,
    where_options,
)
from .source_options import keywords, reader_options

if TYPE_CHECKING:
    import pandas as pd

    from ..datasets.append import MoreRows
    from ..engine.spec import PairSpec
    from ..store import Block, Store

BATCH_BYTES = 2**27  # of features that are scored at once
BATCH_ROWS = 2**18
HELD = 6  # times a batch: as read, joined, as tasks take it, and as a table
LEAST = 5  # samples that are named
LOW = 0.05  # share of the reference's own samples that counts as little robust
FEWER = Hint("score fewer columns at once", "score the samples on workers: --scheduler ADDRESS")


@click.command()
@store_argument
@click.argument("what", metavar="FILE")
@click.option("--out", "-o", required=True, type=File(dir_okay=False), metavar="FILE",
              help="The new table: .parquet, .csv or .csv.gz.")  # fmt: skip
@click.option(
    "--reference",
    metavar="GROUP",
    help="Group that the samples are scored in; train, or the only one, by default.",
)
@metric_option
@label_bound_option
@reader_options
@where_options
def score(
    store: str,
    what: str,
    out: str,
    reference: str | None,
    metric: str | None,
    label_bound: float | None,
    source: Path | None,
    **options: Any,
) -> None:
    """Score new labelled samples in the rows of a store, which stays as it is.

    FILE is what `append` takes: its columns are prepared as those of the store were, and its
    classes are the store's. Samples are read and scored batch by batch, however many there are.

    \b
    Examples:
      dskrobust score news.zarr monday.csv --out monday.parquet
      dskrobust score mnist.zarr own.npz --reference test --out own.csv
    """
    from ..datasets import ReaderOptions, more_rows
    from ..export import FORMATS, write_frames
    from ..memory import projected_peak
    from ..outputs import check_output
    from ..runs import pair_spec
    from ..show import terminal
    from .compute import workers_for
    from .options import label_map

    path = check_output(out, FORMATS)
    check_libraries("pandas")
    cluster = cluster_options(**{name: options.pop(name) for name in WHERE})
    opened = opened_store(store)
    labels = label_map(opened, None, label_bound)
    spec = pair_spec(opened, metric or "euclidean", labels)
    given = ReaderOptions.of(None, keywords(options))
    more = more_rows(opened, what, source, opened.groups[0], given)
    _refuse_new_classes(opened, more, what)
    found = _Found(_low_end(opened, spec, reference))
    projected = projected_peak("scoring new samples", HELD * BATCH_BYTES, FEWER)
    with workers_for(opened, cluster), terminal.progress("Scoring", more.reader.rows or 0) as job:
        write_frames(_frames(more, spec, reference, found), path, progress=job.add)
    terminal.say(f"{found.rows:,} new samples scored in {found.reference} of {opened.spec.name}",
                 style=terminal.STRONG)  # fmt: skip
    for line in found.words:
        terminal.say(line)
    terminal.fact("saved", f"{found.rows:,} rows in {out}")
    say_memory(projected)


def _refuse_new_classes(store: Store, more: MoreRows, what: str) -> None:
    known, found = store.spec.classes or (), more.matched.classes or ()
    if found[len(known) :]:
        raise InvalidDataError(
            f"{what} has the class {found[len(known)]!r}, which {store.spec.name} does not have; "
            "a class that the reference lacks has no meaning there"
        )


@dataclass
class _Found:
    """What is told of all samples, counted while they pass.

    Attributes
    ----------
    low : float, optional
        R below which the reference's own least robust samples lie.
    """

    low: float | None
    reference: str = ""
    rows: int = 0
    below: int = 0
    contradictions: int = 0
    least: list[tuple[float, int]] = field(default_factory=list)

    def add(self, frame: pd.DataFrame) -> None:
        self.rows += len(frame)
        self.contradictions += int((frame["reach"] == 0).sum())
        if self.low is not None:
            self.below += int((frame["robustness"] < self.low).sum())
        few = frame.nsmallest(LEAST, "robustness")
        some = zip(few["robustness"].tolist(), few["row"].tolist(), strict=True)
        self.least = heapq.nsmallest(LEAST, [*self.least, *some])

    @property
    def words(self) -> list[str]:
        """What was found, and what to do."""
        named = ", ".join(f"{row:,} ({value:.4f})" for value, row in self.least)
        lines = [f"Least robust are the rows {named}: look at their labels first."]
        if self.contradictions:
            lines.append(
                f"{self.contradictions:,} equal a row of {self.reference} with another label "
                "(reach 0): one of both labels is wrong, or the columns do not tell them apart."
            )
        if self.low is None:
            return [*lines, "Compute the store's own scores to learn whether that is usual."]
        share = self.below / self.rows
        margin = 2 * (LOW * (1 - LOW) / self.rows) ** 0.5  # of a draw of so many of its own
        said = f"{share:.1%} are less robust than {1 - LOW:.0%} of {self.reference} itself"
        if share > LOW + margin:
            return [
                *lines,
                f"{said}, more than chance: they lie nearer to other labels than what a model "
                "learns from. Check them, or train on samples like them.",
            ]
        return [*lines, f"{said}, as {LOW:.0%} ± {margin:.1%} of its own are: nothing unusual."]


def _low_end(store: Store, spec: PairSpec, reference: str | None) -> float | None:
    """Return what R the least robust of a group's own samples stay below; None without scores."""
    from dask.base import compute

    from ..display import no_group
    from ..distributions import Sample, quantiles
    from ..new_samples import default_group
    from ..scores import read_scores
    from ..store import covering

    group = reference or default_group(store)
    if group not in store.groups:
        raise InvalidOptionError(no_group(group, store.groups))
    code = store.groups.index(group)
    results = covering(store, spec.parameters())
    if not results:
        return None
    scores, size = read_scores(store, results[-1]), store.summary.groups[code].rows
    own = Sample(scores.robustness, scores.split == code, size)
    return float(compute(quantiles(own.keys, size, (LOW,)))[0][0])


def _frames(
    more: MoreRows, spec: PairSpec, reference: str | None, found: _Found
) -> Iterator[pd.DataFrame]:
    """Score batches of new samples, one after another, as tables."""
    from ..new_samples import default_group, score_outside
    from ..references import row_set
    from ..runs import PairData

    store, first = more.store, 0
    data, name = PairData(store, scale=store.spec.scale), reference or default_group(store)
    found.reference, rows = name, row_set(data, name, name)
    for block in _batches(more):
        arrays = _arrays(block, store)
        scores = score_outside(data, arrays, spec, (name, rows), first=first).compute()
        frame = scores.to_frame()
        frame["row"] += first
        frame = _labelled(frame, store, block)
        found.add(frame)
        yield frame
        first += len(frame)


def _arrays(block: Block, store: Store) -> Any:
    import numpy as np

    from ..datasets.labelled import LabelledArrays
    from ..store import lossless

    narrow = lossless(block.features, store.row_shape("features")[1])
    features = block.features if narrow is None else narrow
    split = np.zeros(len(features), np.int16)
    return LabelledArrays(features, block.labels, split, ("new",))


def _batches(more: MoreRows) -> Iterator[Block]:
    """Put the blocks of a reader together, as many as are scored at once."""
    from ..store import Block

    most = max(1, min(BATCH_ROWS, BATCH_BYTES // (8 * more.store.columns)))
    held: list[Block] = []
    for block in more.matched.blocks(more.reader):
        held.append(block)
        if sum(len(one.labels) for one in held) >= most:
            yield Block.joined(held)
            held = []
    if held:
        yield Block.joined(held)


def _labelled(frame: pd.DataFrame, store: Store, block: Block) -> pd.DataFrame:
    """Return a table with the samples' ids and labels, as people know them, behind their rows."""
    from ..datasets import restore_labels
    from ..labels import label_names

    labels, spec = block.labels, store.spec
    if block.ids is not None:
        frame.insert(1, "id", block.ids)
    at = frame.columns.get_loc("robustness")
    if labels.ndim == 2:
        for k in range(labels.shape[1]):
            frame.insert(at + k, f"label_{k}", labels[:, k])
        return frame
    named = spec.classes is not None
    frame.insert(at, "label", label_names(labels, spec.classes) if named
                 else restore_labels(spec, labels) if spec.scaling else labels)  # fmt: skip
    return frame
