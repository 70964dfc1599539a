"""What tailoring came to, as a table in words; kept in the store for reports."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from .evaluation.matrices import number_text
from .store import Store, find_small, keep_small

NAME = "advice"  # of the array that holds the text


class StoredAdvice(NamedTuple):
    """What came out of a tailoring.

    Attributes
    ----------
    title : str
        Models and groups.
    heads : sequence of str
    rows : sequence of sequence of str
        A part of the test spectrum each.
    findings : sequence of str
        Sentences, the decision first.
    """

    title: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    findings: Sequence[str]


def keep_advice(store: Store, parameters: Mapping[str, Any], advice: StoredAdvice) -> None:
    """Keep what came out under what it depends on, where the store may be written."""
    text = json.dumps(advice._asdict()).encode()
    keep_small(store, {"of": "tailoring", **parameters}, {NAME: np.frombuffer(text, np.uint8)})


def kept_advice(store: Store) -> list[StoredAdvice]:
    """Return all that is kept of the store's data, by title."""
    texts = (found[NAME].tobytes() for found in find_small(store, NAME))
    return sorted(StoredAdvice(**json.loads(text)) for text in texts)


# -- tables of parts ---------------------------------------------------------------------------


def part_heads(plan: Any, advice: Any) -> tuple[str, ...]:
    """Return the heads of a table of parts."""
    heads = ("R", "train on", "with", str(plan.measure), "one model", "gain", "verdict")
    return (*heads, "on test") if advice.parts[0].test else heads


def part_cells(plan: Any, part: Any) -> tuple[str, ...]:
    """Return a part's line of a table."""
    shown = plan.measure.shown
    cells = (
        f"{part.low:.3f}–{part.high:.3f}",
        part.train,
        model_words(part.model if len(plan.models) > 1 else "", part.setting),
        number_text(shown(part.score)),
        number_text(shown(part.baseline)),
        str(part.gain),
        part.gain.verdict,
    )
    return (*cells, f"{part.test[0] - part.test[1]:+.4f}") if part.test else cells


def model_words(model: str, setting: str) -> str:
    """Return a model and its hyper-parameters in words."""
    return ", ".join(filter(None, (model, setting)))
