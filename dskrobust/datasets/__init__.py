"""Readers of official file formats, which stream into a store."""

from .append import append, more_rows
from .dialect import CsvOptions
from .frame_rows import FrameRows
from .frames import create_store, link_store, prepare, take
from .images import images_like
from .opening import (
    available,
    has_parts,
    ingest,
    open_reader,
    without_end,
    write_reader,
)
from .preparation import Preparation, PreparationOptions
from .quantiles import digit_counts, order_statistic
from .reader import IngestKeywords, Reader, ReaderKeywords, ReaderOptions
from .room import with_room
from .splits import SplitOptions
from .units import feature_texts, label_ends, restore_features, restore_labels

__all__ = [
    "CsvOptions",
    "FrameRows",
    "IngestKeywords",
    "Preparation",
    "PreparationOptions",
    "Reader",
    "ReaderKeywords",
    "ReaderOptions",
    "SplitOptions",
    "append",
    "available",
    "create_store",
    "digit_counts",
    "feature_texts",
    "has_parts",
    "images_like",
    "ingest",
    "label_ends",
    "link_store",
    "more_rows",
    "open_reader",
    "order_statistic",
    "prepare",
    "restore_features",
    "restore_labels",
    "take",
    "with_room",
    "without_end",
    "write_reader",
]
