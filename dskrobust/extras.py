"""Libraries that are in an extra: importing one that is missing says what to install.

Large libraries are imported where they are used, so that a plain installation needs none of them.
Python's own error would name the library and no remedy, and there are many such places: so a
finder that is asked last, when nobody has found a module, answers for all of them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import FrameType, ModuleType
from typing import NoReturn

EXTRAS = {  # by the name that is imported
    "bokeh": "report",
    "pandas": "tables",
    "pyarrow": "tables",
    "scipy": "analysis",
    "sklearn": "analysis",
}
_MACHINERY = ("importlib", "_frozen_importlib")


class MissingLibraries:
    """A finder that finds nothing, and says which extra a library is in where dskrobust asks."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return nothing.

        Raises
        ------
        MissingLibraryError
            Where a module of dskrobust imports a library of an extra.
        """
        if name in EXTRAS and next(_importers(), "").split(".")[0] == "dskrobust":
            _refuse(name)
        return None


def check_libraries(*names: str) -> None:
    """Refuse what will import libraries of extras, before anything runs.

    Raises
    ------
    MissingLibraryError
        Where one of them is not installed.
    """
    for name in names:
        if find_spec(name) is None:
            _refuse(name)


def _refuse(name: str) -> NoReturn:
    from .errors import MissingLibraryError

    raise MissingLibraryError(
        f"{name} is not installed: pip install 'dskrobust[{EXTRAS[name]}]', "
        "or 'dskrobust[full]' for all that reads tables, judges data and draws",
        name=name,
    )


def _importers() -> Iterator[str]:
    """Yield the names of the modules whose code is running, from the one that imports outwards.

    One that only looks whether there is a module, by importlib.util, imports nothing.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        module = str(frame.f_globals.get("__name__", ""))
        if module == "importlib.util":
            return
        if module != __name__ and not module.startswith(_MACHINERY):
            yield module
        frame = frame.f_back


sys.meta_path.append(MissingLibraries)
