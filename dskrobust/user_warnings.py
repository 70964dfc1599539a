"""Warnings that point at the user's own line, however deep in this package they arise."""

from __future__ import annotations

import os
import sys
import warnings
from contextlib import suppress
from pathlib import Path

PACKAGE = f"{Path(__file__).parent}{os.sep}"


def warn(message: str | Warning, category: type[Warning] = UserWarning) -> None:
    """Warn at the nearest line that is not this package's, which called into it.

    That line says once what it leads to, as `warnings` does by default; the outermost line where
    all are of this package.

    Parameters
    ----------
    message : str or Warning
        Of a category of its own where it is one.
    category : type of Warning
    """
    level = 1
    with suppress(ValueError):  # no frame is left
        while sys._getframe(level).f_code.co_filename.startswith(PACKAGE):
            level += 1
    warnings.warn(message, category, stacklevel=level + 1)
