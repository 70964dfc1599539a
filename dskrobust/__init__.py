"""dskrobust: exact sample robustness for labelled data sets larger than memory.

The public names are listed in `__init__.pyi`, and nowhere else.
"""

from importlib import import_module
from pkgutil import get_data
from typing import Any

from . import extras as _extras  # noqa: F401  says from here on what a missing library is in
from . import processes as _processes  # noqa: F401  knows of every fork from here on

__version__ = "0.2.0"


def _public() -> dict[str, str]:
    """Return the module of every public name."""
    lines = (get_data(__name__, "__init__.pyi") or b"").decode().splitlines()
    imports = (line.split() for line in lines if line.startswith("from ."))
    return {name: module.lstrip(".") for _, module, _, _, _, name in imports}


_MODULES = _public()
_OLD_NAMES = {"Options": "RunOptions"}
__all__ = ["__version__", *_MODULES]


def __getattr__(name: str) -> Any:
    # loaded on first use: a worker that only runs tiles needs neither scikit-learn nor readers
    if name in _OLD_NAMES:
        from .renaming import warn_renamed

        warn_renamed(f"{__name__}.{name}", f"{__name__}.{_OLD_NAMES[name]}")
        name = _OLD_NAMES[name]
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = import_module(f".{_MODULES[name] or name}", __name__)
    return getattr(module, name) if _MODULES[name] else module


def __dir__() -> list[str]:
    return sorted(__all__)
