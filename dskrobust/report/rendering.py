"""Pages of HTML that need nothing else: pictures inside, scripts by their digests."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import numpy as np

from ..credentials import last_part, without_credentials
from ..display import shown_name, visible
from ..errors import InvalidOptionError
from ..show.sheets import subset_parts
from . import style
from .pictures import to_png
from .provenance import duration

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Image:
    """An image inside a page.

    Attributes
    ----------
    source : str
        A data URL.
    alt : str
        What a reader who does not see it is told.
    """

    source: str
    alt: str


def drawn(figure: Figure, alt: str) -> Image:
    """Return a figure as an image."""
    return Image(_data_url(style.save(figure, "svg"), "svg+xml"), alt)


def photo(picture: Any, alt: str) -> Image:
    """Return a picture of pixels as an image."""
    return Image(_data_url(to_png(picture), "png"), alt)


def _data_url(data: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def script_sources(scripts: Sequence[str]) -> str:
    """Return the digests of inline scripts for a Content-Security-Policy."""
    digests = (hashlib.sha256(script.encode()).digest() for script in scripts)
    return " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)


@cache
def page_script() -> str:
    """Return what lets tables be sorted and filtered, and pictures be enlarged."""
    return (files("dskrobust.report") / "templates" / "report.js").read_text(encoding="utf-8")


def render_page(
    template: str,
    shown: Mapping[str, Any],
    addresses: Sequence[str],
    scripts: Sequence[str] = (),
    *,
    anonymous: bool = False,
) -> str:
    """Return a page.

    Parameters
    ----------
    template : str
    shown : mapping
        What it shows, by the template's names.
    addresses : sequence of str
        Of stores: shown without keys.
    scripts : sequence of str
        Run in this order, before that of every page.
    anonymous : bool
        Whether of the addresses only the last part is shown.

    Raises
    ------
    InvalidOptionError
        Where Jinja is not installed.
    """
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined
    except ImportError as error:
        raise InvalidOptionError(
            f"a report needs Jinja: pip install 'dskrobust[report]' ({error})"
        ) from error
    safe = {address: without_credentials(address) for address in addresses}

    def printable(value: Any) -> Any:
        if type(value) is not str:
            return value
        for address, plain in safe.items():
            value = value.replace(address, plain)
            value = value.replace(plain, last_part(address)) if anonymous else value
        return visible(value)  # HTML knows no control characters

    environment = Environment(
        loader=PackageLoader("dskrobust.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=printable,
    )
    environment.filters |= {
        "subset": subset_parts,
        "decimals": _decimals,
        "signed": _signed,
        "duration": duration,
        "named": shown_name,
    }
    every = (*scripts, page_script())
    known = {"scripts": every, "script_sources": script_sources(every), **shown}
    return environment.get_template(template).render(known)


def _decimals(value: Any, digits: int = 4) -> str:
    if np.isnan(value):
        return "–"
    return "∞" if np.isinf(value) else f"{value:.{digits}f}"


def _signed(value: Any, digits: int = 4) -> str:
    """Return a change; one that is rounded to nothing has no sign."""
    if np.isnan(value):
        return "–"
    text = f"{value:+.{digits}f}".replace("-", "−")
    return text[1:] if float(f"{value:.{digits}f}") == 0 else text
