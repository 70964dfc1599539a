"""Heat maps of windows: in a notebook and in a terminal. Computes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.table import Table
from rich.text import Text

from ..display import Html, escape
from .terminal import QUIET, table

DEEPEST = 0.75  # how much of the colour a best cell has: text stays legible on it
COLOUR = (46, 134, 193)


def heat_html(
    rows: Sequence[str],
    columns: Sequence[str],
    shades: NDArray[np.float64],
    texts: NDArray[Any],
    notes: NDArray[Any],
) -> Html:
    """Return a table of cells, the deeper coloured the better.

    Parameters
    ----------
    rows, columns : sequence of str
    shades : ndarray (rows, columns) float64
        0 to 1; NaN where a cell has nothing.
    texts, notes : ndarray (rows, columns) of str
        What a cell says, and what stands small below it.
    """
    head = "".join(f"<th>{escape(name)}</th>" for name in columns)
    lines = []
    for name, *cells in zip(rows, shades, texts, notes, strict=True):
        made = (_cell(*cell) for cell in zip(*cells, strict=True))
        lines.append(f"<tr><th>{escape(name)}</th>{''.join(made)}</tr>")
    return Html(
        f'<table class="figures"><thead><tr><th></th>{head}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table>"
    )


def _cell(shade: float, text: str, note: str) -> str:
    depth = 0.0 if np.isnan(shade) else DEEPEST * shade
    red, green, blue = COLOUR
    return (
        f'<td style="background: rgba({red}, {green}, {blue}, {depth:.2f}); padding: .3em .6em">'
        f'{escape(text)}<br><span class="quiet">{escape(note)}</span></td>'
    )


def heat_table(
    rows: Sequence[str],
    columns: Sequence[str],
    shades: NDArray[np.float64],
    texts: NDArray[Any],
    notes: NDArray[Any],
) -> Table:
    """Return the same for a terminal: a bar beside the number, the best of a row bold."""
    made = table("", *columns, text=range(len(columns) + 1))
    made.columns[0].no_wrap = True
    for name, *cells in zip(rows, shades, texts, notes, strict=True):
        made.add_row(Text(name, QUIET), *(_text(*cell) for cell in zip(*cells, strict=True)))
    return made


def _text(shade: float, text: str, note: str) -> Text:
    best = shade == 1
    said = Text(f"{text}{'*' if best else ' '}", "bold" if best else "", no_wrap=True)
    if note:
        said.append("\n" + note.replace(", ", "\n"), QUIET)
    return said
