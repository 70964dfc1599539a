"""What a model is to an embedding: named and checked here, loaded once in every worker process."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from ..display import error_line
from ..errors import EmbeddingError, InvalidOptionError
from ..own_code import imported
from ..paths import expand_path
from ..store import SourceAddress, Store
from .options import EmbeddingOptions

Trained = Mapping[str, Any]  # weights by name, as arrays, of a model that was trained for this


@dataclass(frozen=True)
class Place:
    """Where a process computes.

    Attributes
    ----------
    device : {"cpu", "cuda"}
    threads : int
        That a library of its own threads may use.
    """

    device: str
    threads: int


class LoadedModel(Protocol):
    """A model in a worker process.

    Attributes
    ----------
    channels : int, optional
        That images must have; None where any will do.
    facts : mapping
        Plain values that say which model it is: they are the same on every worker.
    """

    @property
    def channels(self) -> int | None: ...

    @property
    def facts(self) -> Mapping[str, Any]: ...

    def __call__(self, batch: NDArray[np.float32]) -> Any:
        """Return what the model makes of a batch (b, C, H, W) or (b, d): rows (b, w)."""
        ...


@dataclass(frozen=True)
class EmbeddingModel(ABC):
    """A model by its name; small enough for every task.

    Attributes
    ----------
    name : str
        As it was given.
    options : EmbeddingOptions
    file : str, optional
        Of weights, found by `check`.
    """

    name: str
    options: EmbeddingOptions
    file: str | None = None

    packages: ClassVar[tuple[str, ...]] = ()
    extra: ClassVar[str] = "embed"
    known_options: ClassVar[tuple[str, ...]] = ()  # of layer, weights, seed and epochs
    images_only: ClassVar[bool] = False

    @property
    def part(self) -> str:
        """The name without what says which kind of model it is."""
        return self.name.partition(":")[2]

    # -- in the client -------------------------------------------------------------------------

    def check(self, store: Store) -> EmbeddingModel:
        """Return the model with its weights found, after checks for which nothing is computed.

        Raises
        ------
        InvalidOptionError
            Naming the model and what is missing.
        """
        missing = self.missing_packages()
        if missing:
            raise self.refuse(f"it needs {missing}")
        for option in ("layer", "weights", "seed", "epochs"):
            if getattr(self.options, option) is not None and option not in self.known_options:
                raise self.refuse(f"the option {option} means nothing to it")
        if self.images_only and store.spec.image_shape is None:
            raise self.refuse(
                f"it takes images, and {store.url} does not say how its rows are images; create "
                "it with StoreSpec(image_shape=…)"
            )
        return self

    def missing_packages(self) -> str:
        """Return what is not installed in this process, and how to install it; "" for nothing."""
        missing = [name for name in self.packages if find_spec(name) is None]
        if not missing:
            return ""
        names = " ".join(missing)
        return f"{names}: pip install {names} (or 'dskrobust[{self.extra}]')"

    def refuse(self, what: str) -> InvalidOptionError:
        """Return the error that names this model."""
        return InvalidOptionError(f"model {self.name}: {what}")

    def with_file(self, path: str | Path) -> EmbeddingModel:
        """Return the model with a file of weights that is there.

        Raises
        ------
        InvalidOptionError
            Naming the file.
        """
        path = expand_path(path).absolute()
        if not path.is_file():
            raise self.refuse(f"there is no file of weights {path}")
        return replace(self, file=str(path))

    # -- on workers ----------------------------------------------------------------------------

    def lacks(self) -> str:
        """Return what this process lacks to load the model; asked on every worker."""
        missing = self.missing_packages()
        if missing:
            return f"has no {missing}"
        if self.file is not None and not Path(self.file).is_file():
            return f"sees no file {self.file}; keep it where all workers see it"
        return ""

    def sees_gpu(self) -> bool:
        """Whether this process has a GPU that the model can use."""
        return False

    @abstractmethod
    def load(self, place: Place, trained: Trained | None) -> LoadedModel:
        """Return the model, ready to be applied.

        Raises
        ------
        EmbeddingError
        """

    def training_bytes(self, device: str) -> int:
        """Return the bytes that `train` takes of a worker, about; 0 where nothing is trained."""
        return 0

    def train(self, source: SourceAddress, place: Place) -> Trained | None:
        """Return weights that are trained for this embedding; None where it has its own."""
        return None

    def failed(self, what: str) -> EmbeddingError:
        """Return the error that names this model."""
        return EmbeddingError(f"model {self.name}: {what}")

    def imported(self, module: str, name: str) -> Any:
        """Return what an import path leads to.

        Raises
        ------
        EmbeddingError
            Where that is nothing.
        """
        try:
            return imported(module, name)
        except Exception as error:  # whatever a module does when it is imported
            raise self.failed(
                f"{module}.{name} cannot be imported: {error_line(error)}; modules are looked for "
                "where Python does (PYTHONPATH)"
            ) from error


def class_count(store: Store) -> int:
    """Return how many classes a network has to tell apart; at most, where they have no names."""
    if store.spec.label_kind != "categorical":
        return 0
    return len(store.spec.classes or ()) or int(store.summary.label_bounds["linf"]) + 1


def file_facts(path: str) -> dict[str, Any]:
    """Return name, bytes and SHA-256 of a file."""
    with Path(path).open("rb") as handle:
        digest = hashlib.file_digest(handle, "sha256").hexdigest()
    return {"name": Path(path).name, "bytes": Path(path).stat().st_size, "sha256": digest}


def versions_of(*packages: str) -> dict[str, str]:
    """Return the versions of the packages that are installed."""
    known = {}
    for name in packages:
        try:
            known[name] = version(name)
        except PackageNotFoundError:
            continue
    return known
