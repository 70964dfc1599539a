"""How things are shown: numbers in words, and self-contained HTML for notebooks.

The HTML takes its colours from the page it is on, so that it suits Jupyter's light and dark
themes; it loads nothing.
"""

from __future__ import annotations

import difflib
import html
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .credentials import without_credentials

NO_NAME = "(empty)"
# What breaks lines, commands terminals, turns text around, or is no character by itself.
_UNSEEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060\u2066-\u2069\ud800-\udfff\ufeff]"
)
BIN_STEPS = tuple(m * 10.0**e for e in range(-6, 0) for m in (1, 2, 5))
BINS = 50  # of a histogram in HTML, at most
WIDTH, HEIGHT, FOOT = 640, 64, 18  # of a histogram in HTML

_STYLE = """<style>
.dskrobust { max-width: 660px; font: 13px/1.45 system-ui, sans-serif; padding: 2px;
  color: var(--jp-content-font-color1, inherit); font-variant-numeric: tabular-nums; }
.dskrobust .head { font-size: 1.1em; margin: 0 0 .5em; }
.dskrobust .quiet, .dskrobust .foot { color: var(--jp-content-font-color2, inherit);
  opacity: .75; font-weight: 400; }
.dskrobust .foot { margin: .5em 0 0; }
.dskrobust .caption { margin: .9em 0 .1em; font-weight: 600; }
.dskrobust table { border-collapse: collapse; border: 0; margin: .5em 0 .2em; font: inherit;
  color: inherit; }
.dskrobust table tr { background: none; }
.dskrobust table :is(th, td) { padding: .16em .9em .16em 0; text-align: left; border: 0;
  background: none; vertical-align: baseline; }
.dskrobust table.figures :is(th, td):not(.text) { text-align: right; }
.dskrobust table.figures thead th { border-bottom: 1px solid rgba(127, 127, 127, .5); }
.dskrobust table th { font-weight: 400; opacity: .75; white-space: nowrap; }
.dskrobust table tbody tr:hover { background: rgba(127, 127, 127, .12); }
.dskrobust svg { display: block; width: 100%; height: auto; }
.dskrobust svg text { fill: currentColor; font-size: 11px; opacity: .75; }
.dskrobust svg .bar, .dskrobust .meter > div { fill: #2e86c1; background: #2e86c1; }
.dskrobust svg .bar:hover { fill: #e08214; }
.dskrobust svg .before { fill: none; stroke: #e08214; stroke-width: 1.3; }
.dskrobust svg .axis { stroke: currentColor; opacity: .4; }
.dskrobust .meter { height: 6px; margin: .3em 0 .5em; background: rgba(127, 127, 127, .25);
  border-radius: 3px; overflow: hidden; }
.dskrobust .meter > div { height: 100%; }
.dskrobust .warn { border-left: 3px solid #e08214; padding-left: .6em; margin: .6em 0; }
</style>"""


# -- numbers in words ------------------------------------------------------------------------


def size(count: float) -> str:
    """Return a number of bytes in binary units."""
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if count < 1024 or unit == "TiB":
            return f"{count:.0f} {unit}" if unit in ("B", "KiB") else f"{count:,.1f} {unit}"
        count /= 1024
    raise AssertionError


def counted(count: int, name: str) -> str:
    """Return a number and what it counts: 1 thread, 2 threads."""
    return f"{count:,} {name}" + ("" if count == 1 else "s")


def span(low: int, high: int) -> str:
    """Return which whole numbers will do, in words; more of what is counted, if none."""
    if low > high:
        return "more of them"
    return f"{low:,}" if low == high else f"a number from {low:,} to {high:,}"


def big(count: float) -> str:
    """Return a large number with an SI prefix."""
    for unit in ("", "k", "M", "G", "T", "P"):
        if count < 1000 or unit == "P":
            return f"{count:,.0f}" if not unit else f"{count:,.3g} {unit}"
        count /= 1000
    raise AssertionError


def clock(seconds: float) -> str:
    """Return a duration: 7.2 s, 3:05 min, 2:10 h."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}:{rest:02d} min"
    return f"{minutes // 60}:{minutes % 60:02d} h"


def moment(date: Any) -> str:
    """Return an ISO date and time to the minute."""
    return str(date or "?")[:16].replace("T", " ") + " UTC"


def listed(names: Sequence[str], most: int = 5) -> str:
    """Return the first of some names in a line, and whether there are more."""
    return ", ".join(names[:most]) + (", …" if len(names) > most else "")


def number(value: float) -> str:
    """Return a distance or quotient in a few digits."""
    return "∞" if np.isinf(value) else f"{value:.5g}"


def error_line(error: Exception) -> str:
    """Return an exception in one line, without the stack trace that xgboost's C++ puts in."""
    text = " ".join(str(error).split("Stack trace:")[0].split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def nearest_name(word: Any, known: Iterable[Any]) -> str | None:
    """Return which of some names a misspelt word may have meant, upper case or lower; or None."""
    names = {str(name).lower(): str(name) for name in reversed([*known])}
    close = difflib.get_close_matches(str(word).lower(), names, n=1)
    return names[close[0]] if close else None


def suggestion(word: str, known: Sequence[str]) -> str:
    """Return what a misspelt word may have meant, or what there is to choose from."""
    close = nearest_name(word, known)
    return f"did you mean {close!r}?" if close else f"choose from {', '.join(known)}"


def meant(word: Any, known: Iterable[Any]) -> str:
    """Return what a misspelt word may have meant, to stand behind it in a message; else nothing."""
    close = nearest_name(word, known)
    return f" (did you mean {close!r}?)" if close else ""


def no_group(name: Any, groups: Sequence[str], what: str = "groups") -> str:
    """Return that there is no group of a name, and which there are."""
    return f"there is no group {name!r}{meant(name, groups)}; the {what} are {', '.join(groups)}"


def round_edges(low: float, high: float, most: int) -> NDArray[np.float64]:
    """Return round edges that span low to high in at most `most` equal steps."""
    for step in BIN_STEPS:
        first, last = np.floor(low / step), np.floor(high / step) + 1
        if last - first <= most:
            return np.arange(first, last + 1) * step
    return np.array([low, max(high, np.nextafter(low, np.inf))])


def digits_of(edges: NDArray[np.float64]) -> int:
    """Return how many decimals tell edges apart."""
    return max(0, -int(np.floor(np.log10(edges[1] - edges[0]) + 1e-9)))


# -- names -----------------------------------------------------------------------------------


def visible(text: str) -> str:
    """Return a text in one line, control characters written as Python writes them (\\n)."""
    return _UNSEEN.sub(lambda match: ascii(match[0])[1:-1], text)


def shown_name(name: Any, most: int | None = None) -> str:
    """Return a name of a class or group in one line, never empty.

    Parameters
    ----------
    name : object
    most : int, optional
        Longer names lose their middle: what tells names apart is often at their end.
    """
    text = visible(str(name)) if str(name).strip() else NO_NAME
    if most is None or len(text) <= most:
        return text
    tail = (most - 1) // 2
    return f"{text[: most - 1 - tail]}…{text[len(text) - tail :]}"


# -- HTML ------------------------------------------------------------------------------------

Cell = tuple[str, str, str]  # name, value, remark


def escape(text: str) -> str:
    """Return a text as HTML shows it as it is, in elements and in quoted attributes."""
    return html.escape(visible(text))


@dataclass(frozen=True)
class Html:
    """HTML that is put into a card as it is."""

    text: str


def card(title: str, subtitle: str, *parts: Html | str) -> str:
    """Return a titled card; parts that are plain text become its last lines.

    The subtitle may be an address.
    """
    made = [_STYLE, '<div class="dskrobust">']
    made.append(
        f'<div class="head"><b>{escape(title)}</b> '
        f'<span class="quiet">{escape(without_credentials(subtitle))}</span></div>'
    )
    for part in parts:
        if part:
            text = part.text if isinstance(part, Html) else f'<p class="foot">{escape(part)}</p>'
            made.append(text)
    return "\n".join([*made, "</div>"])


def caption(text: str) -> Html:
    """Return a line above a picture or table."""
    return Html(f'<div class="caption">{escape(text)}</div>')


def warning(text: str) -> Html:
    """Return a line that stands out."""
    return Html(f'<div class="warn">{escape(text)}</div>')


def link(name: str, address: str) -> Html:
    """Return a line with a link that opens beside the notebook."""
    href = escape(address)
    return Html(f'<p class="foot">{escape(name)} <a href="{href}" target="_blank">{href}</a></p>')


def code(before: str, text: str, after: str = "") -> Html:
    """Return a line with a piece of code in it."""
    return Html(f'<p class="foot">{escape(before)}<code>{escape(text)}</code>{escape(after)}</p>')


def facts(rows: Iterable[Cell]) -> Html:
    """Return lines of name, value and a quiet remark."""
    lines = (
        f"<tr><th>{escape(name)}</th><td>{escape(value)}</td>"
        f'<td class="quiet">{escape(remark)}</td></tr>'
        for name, value, remark in rows
    )
    return Html(f"<table><tbody>{''.join(lines)}</tbody></table>")


def table(head: Sequence[str], rows: Iterable[Sequence[str]], text: Sequence[int] = (0,)) -> Html:
    """Return a table of figures, the columns in `text` to the left."""

    def line(cells: Sequence[str], tag: str) -> str:
        kinds = (' class="text"' if k in text else "" for k in range(len(cells)))
        shown = (f"<{tag}{kind}>{escape(c)}</{tag}>" for c, kind in zip(cells, kinds, strict=True))
        return f"<tr>{''.join(shown)}</tr>"

    body = "".join(line(cells, "td") for cells in rows)
    return Html(
        f'<table class="figures"><thead>{line(head, "th")}</thead><tbody>{body}</tbody></table>'
    )


def meter(share: float) -> Html:
    """Return a bar that is filled by a share."""
    percent = 100 * min(1.0, max(0.0, share))
    return Html(f'<div class="meter"><div style="width:{percent:.1f}%"></div></div>')


def histograms(
    counts: Mapping[str, NDArray[Any]],
    edges: NDArray[np.float64],
    *,
    what: str = "samples",
    before: NDArray[Any] | None = None,
) -> Html:
    """Return bars of counts, one panel below the other on one scale of values.

    Parameters
    ----------
    counts : mapping of arrays (bins,)
        A panel's name, and how many of `what` fall between the edges.
    edges : ndarray (bins + 1,)
    before : ndarray (bins,), optional
        Counts of before, as a line over the (only) panel.
    """
    height = (HEIGHT + FOOT) * len(counts) + FOOT
    label = f"Histogram of {what}: {', '.join(counts)}"
    parts = [f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(label)}">']
    for k, (name, values) in enumerate(counts.items()):
        top = k * (HEIGHT + FOOT) + FOOT
        most = max(1, int(values.max()), 0 if before is None else int(before.max()))
        parts.append(f'<text x="0" y="{top - 5}">{escape(name)}</text>')
        parts += _bars(values, edges, most, top, what)
        if before is not None:
            parts.append(_outline(before, most, top))
        parts.append(f'<path class="axis" d="M0 {top + HEIGHT + 0.5}H{WIDTH}"/>')
    parts += _ticks(edges, height - 4)
    return Html("".join([*parts, "</svg>"]))


def _bars(
    values: NDArray[Any], edges: NDArray[np.float64], most: int, top: int, what: str
) -> Iterable[str]:
    digits, step, total = digits_of(edges), WIDTH / len(values), max(1, int(values.sum()))
    for k, value in enumerate(values):
        if value:
            tall = max(1.0, HEIGHT * value / most)
            said = (
                f"{edges[k]:.{digits}f} to {edges[k + 1]:.{digits}f}: {value:,} {what} "
                f"({value / total:.1%})"
            )
            yield (
                f'<rect class="bar" x="{k * step + 0.5:.1f}" y="{top + HEIGHT - tall:.1f}" '
                f'width="{step - 1:.1f}" height="{tall:.1f}"><title>{said}</title></rect>'
            )


def _outline(values: NDArray[Any], most: int, top: int) -> str:
    step, path = WIDTH / len(values), [f"M0 {top + HEIGHT}"]
    for k, value in enumerate(values):
        path.append(f"V{top + HEIGHT - HEIGHT * value / most:.1f}H{(k + 1) * step:.1f}")
    return f'<path class="before" d="{"".join(path)}V{top + HEIGHT}"/>'


def _ticks(edges: NDArray[np.float64], y: int) -> Iterable[str]:
    """Five to ten labelled values below the panels."""
    every, digits = max(1, -(-(len(edges) - 1) // 8)), digits_of(edges)
    for k in range(0, len(edges), every):
        x = WIDTH * k / (len(edges) - 1)
        anchor = "start" if k == 0 else "end" if x > WIDTH - 20 else "middle"
        yield f'<text x="{x:.1f}" y="{y}" text-anchor="{anchor}">{edges[k]:.{digits}f}</text>'
