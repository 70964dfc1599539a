"""What workers do: hold the model, embed blocks of rows, check what comes out."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

from ..cluster.workers import cores_here
from ..display import error_line
from ..errors import DskrobustError, EmbeddingError
from ..processes import ProcessLock
from ..store import SourceAddress
from .models import EmbeddingModel, LoadedModel, Place, Trained
from .plan import Probe
from .rows import RowForm

TOPIC = "dskrobust-embedding"  # events of blocks that are done, for progress displays
LOOK_SECONDS = 0.005  # between two looks at a process's memory
NO_MEMORY = ("MemoryError", "OutOfMemoryError")


@dataclass(frozen=True)
class EmbeddingTask:
    """What every task of an embedding has to know.

    Attributes
    ----------
    key : str
        Of this embedding; a model is loaded once for it.
    source : SourceAddress
    model : EmbeddingModel
    form : RowForm
    device : {"cpu", "cuda"}
    width : int
        Columns of the embedding; 0 until the first batch has shown them.
    weights : str
        What the first worker says of the weights; all have to say the same.
    """

    key: str
    source: SourceAddress
    model: EmbeddingModel
    form: RowForm
    device: str
    width: int = 0
    weights: str = ""


class _HeldModel:
    """The model that this process loaded last; it is applied to one batch at a time."""

    def __init__(self) -> None:
        self.lock = ProcessLock()
        self._kept: tuple[str, LoadedModel] | None = None

    def get(self, task: EmbeddingTask, trained: Trained | None) -> LoadedModel:
        """Return the model of a task, loaded once; the lock is the caller's."""
        if self._kept is None or self._kept[0] != task.key:
            self._kept = None  # let go of another one first
            place = place_here(task.device)
            try:
                loaded = task.model.load(place, trained)
            except DskrobustError:
                raise
            except Exception as error:
                raise task.model.failed(f"it cannot be loaded: {error_line(error)}") from error
            said = loaded.facts["weights"]
            if task.weights and said != task.weights:
                raise task.model.failed(
                    f"its weights are not the same on all workers: {said} here, {task.weights} on "
                    "the first; give all of them one file"
                )
            self._kept = task.key, loaded
        return self._kept[1]

    def forget(self) -> None:
        """Let go of the model."""
        self._kept = None


held_model = _HeldModel()


def forget_model() -> None:
    """Let go of the model that this process has loaded; called on every worker at the end."""
    held_model.forget()


def place_here(device: str) -> Place:
    """Return where this process computes: with as many threads as its worker has."""
    from distributed import get_worker

    try:
        threads = get_worker().state.nthreads
    except ValueError:  # not on a worker of Dask's
        threads = cores_here()
    return Place(device, threads)


def train_model(task: EmbeddingTask) -> Trained | None:
    """Train the model of a task; return its weights."""
    return task.model.train(task.source, place_here(task.device))


def embed_block(
    task: EmbeddingTask, lo: int, hi: int, trained: Trained | None = None
) -> NDArray[np.float32]:
    """Return the embedding (hi − lo, width) of rows lo:hi, batch by batch; lo begins a batch."""
    values = task.source.open().read("features", lo, hi)
    out = np.empty((hi - lo, task.width), np.float32)
    step = task.model.options.batch_rows
    for a in range(0, hi - lo, step):
        part = values[a : a + step]
        with held_model.lock:
            model = held_model.get(task, trained)
            out[a : a + len(part)] = apply(task, model, part, lo + a)
    _tell(task, lo, hi)
    return out


def apply(
    task: EmbeddingTask, model: LoadedModel, values: NDArray[Any], first: int
) -> NDArray[np.float32]:
    """Return what a model makes of stored rows (b, d), checked; the first has number `first`.

    Raises
    ------
    EmbeddingError
        Naming the model and the rows.
    """
    rows = f"rows {first:,} to {first + len(values) - 1:,}"
    batch = task.form.batch(values, model.channels)
    try:
        made = model(batch)
    except Exception as error:
        lacks_memory = type(error).__name__ in NO_MEMORY
        hint = "; take a smaller batch_rows" if lacks_memory else ""
        raise task.model.failed(
            f"it failed on {rows}, given as {batch.shape}: {error_line(error)}{hint}"
        ) from error
    try:
        return checked(made, len(values), task.width, first)
    except EmbeddingError as error:
        raise task.model.failed(f"of {rows} it {error}") from error


def checked(made: Any, rows: int, width: int, first: int) -> NDArray[np.float32]:
    """Return a model's output as float32 (rows, width); width 0 stands for any.

    Raises
    ------
    EmbeddingError
        Where it is of another shape, no numbers, or not finite; then the row is named.
    """
    try:
        values = np.asarray(made)
    except Exception as error:
        raise EmbeddingError(f"returned a {type(made).__name__}, no array") from error
    if values.dtype.kind not in "biuf":
        raise EmbeddingError(f"returned {type(made).__name__} of dtype {values.dtype}, no numbers")
    while values.ndim > 2 and values.shape[-1] == 1:  # pooled images of a single pixel
        values = values[..., 0]
    if values.ndim != 2 or len(values) != rows or not values.shape[1]:
        raise EmbeddingError(
            f"returned the shape {np.shape(made)}; an embedding is ({rows}, columns), so take "
            "another layer, or pool and flatten"
        )
    if width and values.shape[1] != width:
        raise EmbeddingError(f"returned {values.shape[1]} columns, of other rows {width}")
    with np.errstate(over="ignore"):
        values = values.astype(np.float32, copy=False)
    if not np.isfinite(values).all():
        row, column = (int(k) for k in np.argwhere(~np.isfinite(values))[0])
        raise EmbeddingError(f"made {values[row, column]} of row {first + row}, column {column}")
    return values


def join_rows(
    blocks: Sequence[NDArray[np.float32]], first: int, lo: int, hi: int
) -> NDArray[np.float32]:
    """Return rows lo:hi of blocks that follow each other, the first of which begins at `first`."""
    parts, at = [], first
    for block in blocks:
        parts.append(block[max(lo - at, 0) : hi - at])
        at += len(block)
    return np.concatenate(parts)


def probe_model(
    task: EmbeddingTask, rows: int, trained: Trained | None = None
) -> tuple[Probe, dict[str, Any]]:
    """Load the model and embed the first rows; return what that took, and which model it is."""
    values = task.source.open().read("features", 0, rows)
    process = psutil.Process()
    before = process.memory_info().rss
    with held_model.lock:
        model = held_model.get(task, trained)
        loaded = process.memory_info().rss
        with _peak_of(process) as peak:
            made = apply(task, model, values, 0)  # the first call of a library takes longer
            started = time.perf_counter()
            again = apply(task, model, values, 0)
            seconds = time.perf_counter() - started
    if not np.allclose(made, again, rtol=1e-3, atol=1e-3 * float(np.abs(made).max())):
        raise task.model.failed(
            f"it made two different embeddings of the same rows 0 to {rows - 1:,}; a model must "
            "give the same ones each time"
        )
    least = 2 * (4 * values.size + made.nbytes)  # what is there too briefly to be seen
    grown = max(least, peak[0] - loaded)
    probe = Probe(made.shape[1], max(0, loaded - before), grown, loaded, seconds)
    return probe, dict(model.facts)


@contextmanager
def _peak_of(process: psutil.Process) -> Iterator[list[int]]:
    """Yield a list whose number is the most memory that a process has held in the block."""
    peak, done = [process.memory_info().rss], threading.Event()

    def look() -> None:
        while not done.wait(LOOK_SECONDS):
            peak[0] = max(peak[0], process.memory_info().rss)

    looking = threading.Thread(target=look, daemon=True)
    looking.start()
    try:
        yield peak
    finally:
        done.set()
        looking.join()


def _tell(task: EmbeddingTask, lo: int, hi: int) -> None:
    from distributed import get_worker

    with suppress(ValueError):  # not on a worker of Dask's
        get_worker().log_event(TOPIC, {"key": task.key, "rows": (lo, hi)})
