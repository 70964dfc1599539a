"""What the page shows of a case, as plain values: pictures, texts, columns of the samples."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..datasets import feature_texts
from ..display import number, shown_name
from ..errors import DskrobustError
from ..report.pictures import as_picture
from ..store import EMBEDDING, Store, open_store
from .labels import LabelNames
from .queue import Case
from .texts import Texts

SHOWN = 16  # columns of wide rows
PIXELS = 1024  # of a picture's longer side, at most: of larger ones every k-th


class Looks(NamedTuple):
    """Where rows are shown from: a store, and in words whose rows those are."""

    store: Store
    remark: str


@dataclass(frozen=True)
class CaseReader:
    """Reads what is shown of cases, one at a time.

    Attributes
    ----------
    store : Store
    names : LabelNames
    texts : dict
        Of rows that have some.
    """

    store: Store
    names: LabelNames
    texts: Texts = field(default_factory=dict)

    @cached_property
    def looks(self) -> Looks:
        """The store itself, or the one that was embedded in it, where that is still there."""
        source = self.store.spec.provenance
        if source.get("reader") == EMBEDDING:
            try:
                origin = open_store(str(source.get("source")))
            except (DskrobustError, OSError):
                return Looks(self.store, "")
            if [digest for _, digest in origin.segments] == source.get("source_fingerprint"):
                return Looks(origin, f"Shown are the rows of {shown_name(origin.spec.name)}, which "
                             "were embedded.")  # fmt: skip
        return Looks(self.store, "")

    def read(self, case: Case) -> dict[str, Any]:
        """Return all that the page shows of a case."""
        rows = np.array([case.row, *(one.row for one in case.neighbours)], np.int64)
        labels = self.names.of_rows(rows)
        features = self.looks.store.features[rows]
        picture = self.looks.store.spec.image_shape is not None
        texts = [self.texts.get(row, ()) for row in rows.tolist()]
        roles = ["sample", *(one.role for one in case.neighbours)]
        distances = [None, *(number(one.distance) for one in case.neighbours)]
        ids = self.store.ids[rows].tolist() if self.store.has_ids else [None] * len(rows)
        samples = [
            {
                "role": role,
                "row": row,
                "id": None if known is None else shown_name(known),
                "label": shown_name(label),
                "distance": distance,
                "texts": [[shown_name(name), text] for name, text in said],
                "picture": self._picture(features[k]) if picture else None,
            }
            for k, (role, row, known, label, distance, said) in enumerate(
                zip(roles, rows.tolist(), ids, labels, distances, texts, strict=True)
            )
        ]
        return {
            "row": case.row,
            "group": shown_name(case.group) if len(self.store.groups) > 1 else "",
            "label": labels[0],
            "suggested": case.suggested,
            "is_issue": case.is_issue,
            "facts": [list(fact) for fact in case.facts],
            "samples": samples,
            "columns": [] if picture else self._columns(features),
            "more_columns": 0 if picture else max(0, features.shape[1] - SHOWN),
            "remark": self.looks.remark,
        }

    def _picture(self, row: NDArray[Any]) -> dict[str, Any]:
        """Return a row as a picture: height, width, channels, and its bytes."""
        spec = self.looks.store.spec
        assert spec.image_shape is not None
        picture = as_picture(row, spec.image_shape, spec.scale)
        step = -(-max(picture.shape[:2]) // PIXELS)
        picture = np.ascontiguousarray(picture[::step, ::step])
        height, width = picture.shape[:2]
        data = base64.b64encode(picture.tobytes()).decode()
        return {"height": height, "width": width, "channels": picture.ndim, "data": data}

    def _columns(self, features: NDArray[Any]) -> list[dict[str, Any]]:
        """Return the columns that make most of the distance to the first neighbour.

        All of narrow rows, in their order; of wider ones the largest parts first. A part is that
        of the squared Euclidean distance of the features as they are stored.
        """
        spec = self.looks.store.spec
        values = features.astype(np.float64)
        squares = (values[0] - values[1]) ** 2
        total = float(squares.sum())
        parts = squares / total if total > 0 else squares
        order = np.arange(len(parts))
        if len(parts) > SHOWN:
            order = np.argsort(-parts, kind="stable")[:SHOWN]
        texts = [feature_texts(spec, row) for row in features]
        names = spec.column_names(len(parts))
        return [
            {
                "name": shown_name(names[k]),
                "values": [text[k] for text in texts],
                "differs": [bool(values[j, k] != values[0, k]) for j in range(len(values))],
                "part": float(parts[k]),
            }
            for k in order.tolist()
        ]
