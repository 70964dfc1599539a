"""Online News Popularity: 58 attributes of articles and how often each was shared."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import Hint, InvalidDataError, SourceFileError
from ..store import Block, StoreSpec
from .columns import counted
from .delimited import CsvTable
from .fitting import fit
from .places import Place
from .preparation import Preparation, PreparationOptions, PreparedColumn
from .profile import NUMBER
from .reader import (
    ReaderOptions,
    StreamReader,
    array_blocks,
    constant_split,
    folders,
    provenance,
    reads,
)
from .tables import feature_dtype

FILE = "OnlineNewsPopularity.csv"
TRAIN_ROWS = 32_000
TARGET = "shares"
NOT_PREDICTIVE = ("url", "timedelta")
_ATTRIBUTES = """
n_tokens_title n_tokens_content n_unique_tokens n_non_stop_words n_non_stop_unique_tokens
num_hrefs num_self_hrefs num_imgs num_videos average_token_length num_keywords
data_channel_is_lifestyle data_channel_is_entertainment data_channel_is_bus
data_channel_is_socmed data_channel_is_tech data_channel_is_world kw_min_min kw_max_min
kw_avg_min kw_min_max kw_max_max kw_avg_max kw_min_avg kw_max_avg kw_avg_avg
self_reference_min_shares self_reference_max_shares self_reference_avg_sharess weekday_is_monday
weekday_is_tuesday weekday_is_wednesday weekday_is_thursday weekday_is_friday
weekday_is_saturday weekday_is_sunday is_weekend LDA_00 LDA_01 LDA_02 LDA_03 LDA_04
global_subjectivity global_sentiment_polarity global_rate_positive_words
global_rate_negative_words rate_positive_words rate_negative_words avg_positive_polarity
min_positive_polarity max_positive_polarity avg_negative_polarity min_negative_polarity
max_negative_polarity title_subjectivity title_sentiment_polarity abs_title_subjectivity
abs_title_sentiment_polarity
"""
ATTRIBUTES = tuple(_ATTRIBUTES.split())
COLUMNS = (*ATTRIBUTES, TARGET)


@reads("online-news")
def open_online_news(source: Path | None, options: ReaderOptions) -> StreamReader:
    """Return the reader of the CSV file, given itself or a folder that holds it.

    Features are (n, 58) float64 and labels (n,) float64, both scaled to [0, 1] over the whole
    set; ``spec.preparation`` and ``spec.scaling`` keep the bounds (see `units.restore_labels`). A
    random 32,000 rows, drawn with the option seed, are the group train, the rest test; rows stay
    in the file's order.

    Raises
    ------
    SourceFileError
        For a file that is missing, not the Online News one, or has 32,000 rows or fewer.
    InvalidDataError
        For a value that is missing or not a finite number.
    """
    options.allow("online-news")
    if source is None:
        raise SourceFileError(
            "online-news needs its CSV file: download OnlineNewsPopularity.zip from the UCI "
            "repository (data set 332) and unpack it",
            Hint("give the folder, source=DIR", "give the folder with --source DIR"),
        )
    path = find_file(source)
    table = CsvTable.open(Place.of(path))
    check_columns(table)
    rows = table.rows
    if rows <= TRAIN_ROWS:
        raise SourceFileError(
            f"{path} has {rows:,} rows; of the official file's 39,644, {TRAIN_ROWS:,} train"
        )
    asked = PreparationOptions(scale="minmax", prepare="none")
    fitted, _ = fit(table, {name: table.types[name] for name in COLUMNS}, asked, None)
    *features, shares = fitted.columns
    left_out = tuple(name for name in NOT_PREDICTIVE if name in table.names)
    spec = StoreSpec(
        name="Online News Popularity",
        label_kind="real",
        groups=("train", "test"),
        feature_names=ATTRIBUTES,
        preparation=Preparation(tuple(features), left_out).to_json(),
        scaling={"labels": {"min": shares.center, "max": shares.center + shares.spread}},
        provenance=provenance("online-news", [path], seed=options.seed),
    )
    split = draw_split(rows, options.seed)
    return StreamReader(options.apply(spec), rows, partial(_blocks, table, fitted, split))


def draw_split(rows: int, seed: int) -> NDArray[np.int16]:
    """Return the split codes (rows,): 0 for TRAIN_ROWS rows drawn at random, 1 for the others."""
    split = np.ones(rows, np.int16)
    split[np.random.default_rng(seed).permutation(rows)[:TRAIN_ROWS]] = 0
    return split


def open_more(path: Path, spec: StoreSpec, options: ReaderOptions) -> StreamReader:
    """Return the reader of more rows of a store, scaled with the bounds that the store recorded."""
    options.allow("online-news")
    file = find_file(path)
    table = CsvTable.open(Place.of(file))
    check_columns(table)
    if spec.feature_names != ATTRIBUTES or spec.scaling is None or spec.preparation is None:
        raise InvalidDataError(f"{spec.name} does not have the columns of Online News Popularity")
    low, high = (spec.scaling["labels"][end] for end in ("min", "max"))
    shares = PreparedColumn(TARGET, NUMBER, center=low, spread=high - low, scale="minmax")
    known = Preparation((*Preparation.from_json(spec.preparation).columns, shares))
    new = StoreSpec(file.name, "real", groups=("all",), feature_names=ATTRIBUTES)
    split = constant_split(table.rows, 0)
    return StreamReader(new, table.rows, partial(_blocks, table, known, split))


def _blocks(table: CsvTable, prepared: Preparation, split: NDArray[np.int16]) -> Iterator[Block]:
    """Yield the blocks of attributes and shares."""
    for first, batch in counted(table, {name: table.types[name] for name in COLUMNS}):
        values = prepared.transform(batch, table.where, first)
        part = split[first : first + len(values)]
        yield from array_blocks(values[:, :-1], values[:, -1], part)


def find_file(source: Path) -> Path:
    if source.is_file():
        return source
    for folder in folders(source):
        if (folder / FILE).is_file():
            return folder / FILE
    raise SourceFileError(f"{source} holds no {FILE}")


def check_columns(table: CsvTable) -> None:
    expected = {*COLUMNS}
    missing = [name for name in COLUMNS if name not in table.names]
    unknown = [name for name in table.names if name not in expected.union(NOT_PREDICTIVE)]
    for what, names in (("lacks", missing), ("has besides the official columns", unknown)):
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            raise SourceFileError(
                f"{table.where} is not the Online News Popularity file: it {what} "
                f"{', '.join(names[:3])}{more}"
            )
    feature_dtype(table, COLUMNS)
