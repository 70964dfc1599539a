"""Readers of official file formats, which stream into a store."""

from .append import append
from .frames import FrameRows, create_store, link_store, take
from .image_folder import image_files
from .images import images_like
from .online_news import restore_features, restore_labels
from .opening import available, ingest, open_reader, without_end
from .reader import Reader, ReaderOptions

__all__ = [
    "FrameRows",
    "Reader",
    "ReaderOptions",
    "append",
    "available",
    "create_store",
    "image_files",
    "images_like",
    "ingest",
    "link_store",
    "open_reader",
    "restore_features",
    "restore_labels",
    "take",
    "without_end",
]
