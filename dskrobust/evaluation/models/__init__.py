"""The kinds of models that an experiment can name.

A model is one file of this folder (or a folder with a module ``model``): a subclass of `Model` that
says in its class line which kind it is, such as ``class Forest(Model, kind="forest")``, or which
import paths it takes. All files are imported the first time that a kind is asked for, so a file
imports a library of its own only where something is checked or trained.
"""

from functools import cache
from importlib import import_module
from pkgutil import iter_modules

from ...display import suggestion
from ...errors import InvalidOptionError
from .base import KINDS, PATHS, Model

__all__ = ["model_class"]


def model_class(kind: str) -> type[Model]:
    """Return the class of a kind of model.

    Raises
    ------
    InvalidOptionError
        For an unknown kind.
    """
    _import_all()
    if kind in KINDS:
        return KINDS[kind]
    if "." not in kind:
        raise InvalidOptionError(
            f"model {kind!r} is unknown; {suggestion(kind, sorted(KINDS))}; or give the import "
            "path of a scikit-learn estimator such as sklearn.svm.SVC, incremental: and that of "
            "one with partial_fit, or torch:package.module.Class"
        )
    return PATHS[max((prefix for prefix in PATHS if kind.startswith(prefix)), key=len)]


@cache
def _import_all() -> None:
    for module in iter_modules(__path__):
        import_module(f".{module.name}{'.model' if module.ispkg else ''}", __name__)
