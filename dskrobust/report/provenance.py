"""What is known of data, scores and models, as names and values."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any

from ..credentials import anonymous, without_credentials
from ..display import moment
from ..evaluation.matrices import value_text
from ..store import ResultTables
from .results import MOST_CLASSES, StoredResults
from .trials import ModelTrials

MOST_PARTS = 10  # files, or parts that were written at once


def data_facts(results: StoredResults, *, nameless: bool = False) -> list[tuple[str, str]]:
    """Return what is known of the data and of the scores, as names and values.

    nameless: whether of addresses in the provenance only the last part is left.
    """
    store, parameters = results.store, results.result.parameters
    spec, (_, dtype) = store.spec, store.row_shape("features")
    origin = anonymous(spec.provenance) if nameless else spec.provenance
    scale = f", times {spec.scale:.6g}" if spec.scale != 1 else ""
    size = size_text(store.rows * store.columns * dtype.itemsize)
    counts = results.group_counts
    norm = f" ({parameters['norm']} norm)" if "norm" in parameters else ""
    bound = float(results.scores.label_norm)
    facts = [
        ("Features", f"{store.rows:,} × {store.columns:,} {dtype}{scale}, {size}"),
        ("Labels", spec.label_kind + _class_words(spec.classes)),
        ("Groups", ", ".join(f"{group} {count:,}" for group, count in counts.items())),
        ("Source", str(origin.get("reader", "arrays"))),
    ]
    files = [
        f"{file['name']}, {file['bytes']:,} bytes"
        + (f", SHA-256 {file['sha256']}" if "sha256" in file else "")
        for file in origin.get("files", ())
    ]
    facts += _few("File", files)
    known = ("reader", "files")
    facts += [(k, without_credentials(str(v))) for k, v in origin.items() if k not in known]
    facts += _few("Fingerprint", [f"{digest}, {rows:,} rows" for rows, digest in store.segments])
    facts += [
        ("Metric", f"{parameters['metric']}, {parameters['labels']} labels{norm}"),
        ("‖y‖∞", f"{bound:g}"),
        ("Result", f"{results.result.name}, {moment(results.result.facts.get('date'))}"),
    ]
    made = results.result.facts.get("versions", {})
    return [*facts, ("Made with", ", ".join(f"{k} {v}" for k, v in made.items()))]


def data_notes(results: StoredResults) -> list[tuple[str, str]]:
    """Return what was noticed of the data when it was written, as names and values."""
    return [(note.kind, note.on_command_line) for note in results.store.notes or ()]


def _few(name: str, values: Sequence[str]) -> list[tuple[str, str]]:
    """The first values under one name, and how many more there are."""
    rows = [(name, value) for value in values[:MOST_PARTS]]
    more = len(values) - MOST_PARTS
    return [*rows, ("", f"and {more:,} more")] if more > 0 else rows


def _class_words(classes: Sequence[str] | None) -> str:
    if not classes:
        return ""
    more = f", … ({len(classes):,} in all)" if len(classes) > MOST_CLASSES else ""
    return f": {', '.join(classes[:MOST_CLASSES])}{more}"


def score_costs(result: ResultTables) -> list[tuple[str, str]]:
    """Return what is known of how scores were computed, as names and values."""
    facts = result.facts
    shown = {
        "seconds": ("Took", duration),
        "tiles": ("Tiles", "{:,}".format),
        "pairs": ("Pairs of samples", "{:,}".format),
        "workers": ("Workers", "{:,}".format),
        "threads": ("Threads of each worker", "{:,}".format),
        "memory_limit": ("Memory limit of each worker", size_text),
        "peak_projected": ("Projected peak of each worker", size_text),
        "peak_measured": ("Highest measured peak of a worker", size_text),
    }
    return [
        (name, words(facts[key]))
        for key, (name, words) in shown.items()
        if facts.get(key) is not None
    ]


def model_cost(model: ModelTrials) -> dict[str, Any]:
    """Return how many steps a model took, and how long they were."""
    seconds, dates = model.steps["seconds"], model.steps["date"]
    grid = ", ".join(f"{name} {_range(values)}" for name, values in model.spec.grid.items())
    return {
        "name": model.spec.name,
        "grid": grid or "–",
        "steps": len(seconds),
        "trials": int(model.table["trial"].nunique()),
        "seconds": float(seconds.sum()),
        "longest": float(seconds.max()),
        "from": moment(dates.min()),
        "to": moment(dates.max()),
    }


def _range(values: Iterable[Any]) -> str:
    texts = [value_text(value) for value in values]
    return ", ".join(texts) if len(texts) < 5 else f"{texts[0]} … {texts[-1]}"


def duration(seconds: float) -> str:
    """Return a time that something took: 14.5 s, 0:02:00 h."""
    return f"{seconds:.1f} s" if seconds < 60 else f"{timedelta(seconds=round(seconds))} h"


def size_text(count: float) -> str:
    """Return a number of bytes in binary units."""
    from jinja2.filters import do_filesizeformat

    return do_filesizeformat(count, binary=True)
