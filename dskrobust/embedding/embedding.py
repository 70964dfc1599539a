"""The public function: a store's rows through a model into a new store, block by block."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np
from dask.delayed import delayed

from ..cluster.checks import check_source
from ..cluster.local import some_client
from ..cluster.workers import ask, resources_of, workers_of
from ..credentials import last_part, without_credentials
from ..declared_types import checked_arguments
from ..engine.footprint import USABLE
from ..engine.plan import MIB, Resources, base_bytes
from ..errors import ClusterError, Hint, InvalidOptionError, MemoryPlanError
from ..evaluation.models.base import GPU
from ..paths import behind_links, expand, local_path
from ..space import check_space
from ..store import (
    EMBEDDING,
    Arrays,
    Layout,
    Store,
    StoreSpec,
    TaskRows,
    check_free,
    open_store,
    write_arrays,
)
from .models import EmbeddingModel
from .naming import model_of
from .options import EmbeddingOptions
from .plan import EmbeddingPlan, EmbeddingWork, make_embedding_plan
from .rows import RowForm, StoredRows
from .tasks import (
    TOPIC,
    EmbeddingTask,
    embed_block,
    forget_model,
    join_rows,
    probe_model,
    train_model,
)

if TYPE_CHECKING:
    from distributed import Client, Future

DEFAULT = EmbeddingOptions()


@checked_arguments()
def embed(
    store: str | Path | Store,
    model: str | Callable[..., Any],
    out: str | Path,
    options: EmbeddingOptions = DEFAULT,
    *,
    client: Client | None = None,
    overwrite: bool = False,
    progress: Callable[[int], None] | None = None,
) -> Store:
    """Write what a model makes of every row into a new store, with labels, split and ids.

    Workers read, embed and write block by block; every worker process loads the model once, and
    this process computes nothing. An embedding that is interrupted leaves what was there before.

    Parameters
    ----------
    store : str or Store
        Where it says how its rows are images, models get these as float32 (b, C, H, W), else rows
        (b, d). Values are multiplied by the store's scale, images of bytes without one by 1/255;
        gray images are repeated where a model wants three channels. torchvision and timm then
        resize and normalise as the weights want it.
    model : str or callable
        ``cnn``, the paper's small network, trained on the rows of the group train; the names
        ``torchvision:resnet18`` or ``timm:NAME``; ``torch:package.Class``, a module that is made
        without arguments (or with image shape and number of classes); an ``.onnx`` file; a
        function of a float32 array that returns an array (b, w), itself or as ``module:function``
        (of a class, an instance).
    out : str
        Path or fsspec URL of the new store, which all workers see.
    options : EmbeddingOptions, optional
        Layer, weights, batches, device.
    client : distributed.Client, optional
        Where to run; the current client by default, threads of this process without one.
    overwrite : bool
        Replace a store that is already there.
    progress : callable, optional
        Called with the number of rows after each block, from another thread.

    Returns
    -------
    Store
        Features float32 (n, w). Its provenance names source, fingerprint, model and weights.

    Raises
    ------
    InvalidOptionError
        Before anything is written: for a model that is unknown, a package or weights that are
        missing (nothing is downloaded), options that mean nothing to the model.
    EmbeddingError
        Where a model cannot be loaded, fails, or returns what is no embedding; it names the rows.
    MemoryPlanError
        Before anything is written, where blocks of a batch do not fit the workers.
    OutputError
        Before anything is written, where the disk has no room for it.
    ClusterError
        Where workers lack the source, the package or the weights, or only some have a GPU.
    StoreError
        Where a store is already there.
    """
    opened, out = open_store(store), expand(out)
    _check_apart(opened, out)
    check_free(out, overwrite=overwrite)
    checked = model_of(model, options).check(opened)
    with some_client(client, {}) as running:
        check_source(running, opened.address)
        device = _device(running, checked)
        form = RowForm.of(opened)
        task = EmbeddingTask(uuid4().hex, opened.address, checked, form, device)
        try:
            with running.as_current(), _watch(running, task, progress):
                return _run(running, opened, out, task, overwrite)
        finally:
            with suppress(Exception):  # a worker that is gone keeps nothing
                running.run(forget_model, on_error="ignore")


def _check_apart(store: Store, out: str) -> None:
    """Refuse to write the new store where the old one is."""
    places = [local_path(url) for url in (store.url, out)]
    here = [str(url) if p is None else str(behind_links(p)) for url, p in
            zip((store.url, out), places, strict=True)]  # fmt: skip
    if here[0] == here[1]:
        raise InvalidOptionError(f"{out} is the store that is embedded; choose another address")


def _device(client: Client, model: EmbeddingModel) -> str:
    """Return where models compute, once all workers were asked what they lack.

    Raises
    ------
    ClusterError
        Naming the worker.
    """
    for address, lack in ask(client, model.lacks).items():
        if lack:
            raise ClusterError(f"model {model.name}: worker {address} {lack}")
    if model.options.device == "cpu":
        return "cpu"
    sees = ask(client, model.sees_gpu)
    blind = [address for address, answer in sees.items() if not answer]
    if not blind:
        return "cuda"
    if model.options.device == "auto" and len(blind) == len(sees):
        return "cpu"
    raise ClusterError(
        f"model {model.name}: worker {blind[0]} sees no GPU that the model can use"
        + (", others do" if len(blind) < len(sees) else ""),
        Hint("take EmbeddingOptions(device='cpu')", "take --device cpu"),
    )


@contextmanager
def _watch(
    client: Client, task: EmbeddingTask, progress: Callable[[int], None] | None
) -> Iterator[None]:
    """Call progress(rows) once for every block that is done."""
    if progress is None:
        yield
        return
    report, known = progress, set()

    def handle(event: tuple[float, dict[str, Any]]) -> None:
        rows = tuple(event[1]["rows"])
        if event[1]["key"] == task.key and rows not in known:
            known.add(rows)
            report(rows[1] - rows[0])

    client.subscribe_topic(TOPIC, handle)
    try:
        yield
    finally:
        with suppress(Exception):  # the scheduler may be gone
            client.unsubscribe_topic(TOPIC)


def _run(client: Client, store: Store, out: str, task: EmbeddingTask, overwrite: bool) -> Store:
    """Train where the model asks for it, look at the first batch, plan, and write."""
    resources = resources_of(client)
    trained = _trained(client, task, resources)
    first = min(store.rows, task.model.options.batch_rows)
    probe, facts = client.submit(probe_model, task, first, trained, pure=False).result()
    task = replace(task, width=probe.width, weights=facts["weights"])
    layout = Layout.of(np.empty((0, probe.width), np.float32), StoredRows(store, "labels"))
    _, dtype = store.row_shape("features")
    row = store.columns * dtype.itemsize
    work = EmbeddingWork(store.rows, task.model.options.batch_rows, row, store.unit_rows * row,
                         layout.write_rows)  # fmt: skip
    plan = make_embedding_plan(work, probe, resources)
    check_space(out, store.rows * probe.width * 4, "the embedding")
    rows = EmbeddedRows(task, plan, trained)
    arrays = Arrays(
        rows,
        StoredRows(store, "labels"),
        StoredRows(store, "split"),
        None,
        tuple(range(len(store.groups))),
        StoredRows(store, "ids") if store.has_ids else None,
    )
    return write_arrays(out, arrays, _spec(store, out, task, facts), overwrite=overwrite)


def _trained(client: Client, task: EmbeddingTask, resources: Resources) -> Future | None:
    """Train the model on one worker, where it has to be; its weights stay on the cluster.

    Raises
    ------
    MemoryPlanError
        Where a worker cannot hold what training takes.
    """
    training = task.model.training_bytes(task.device)
    if not training:
        return None
    needed, limit = base_bytes() + training, resources.memory_limit
    if limit is not None and needed > limit * USABLE:
        raise MemoryPlanError(
            f"model {task.model.name}: training takes about {needed / MIB:,.0f} MiB of a worker, "
            f"whose limit is {limit / MIB:,.0f} MiB, of which Dask leaves {USABLE:.0%} usable",
            Hint("give workers more memory", "give workers more, --memory-limit SIZE"),
        )
    needs = {GPU: 1} if task.device == "cuda" and workers_of(client, {GPU: 1}) else None
    return client.submit(train_model, task, resources=needs, pure=False)


class EmbeddedRows(TaskRows):
    """The embedding of a store as an array (n, width) of float32, a task a block.

    Parameters
    ----------
    task : EmbeddingTask
    plan : EmbeddingPlan
    trained : Future, optional
        Weights of a model that was trained on the cluster.
    """

    def __init__(self, task: EmbeddingTask, plan: EmbeddingPlan, trained: Future | None) -> None:
        self.shape = (task.source.rows, task.width)
        self.dtype = np.dtype(np.float32)
        self._starts = [lo for lo, _ in plan.blocks]
        # one key of the graph: a function of a user's own may be large
        shared = delayed(task, name=f"embedding-task-{task.key}", traverse=False)
        make = delayed(embed_block, pure=False)
        self._blocks = [make(shared, lo, hi, trained) for lo, hi in plan.blocks]

    def task(self, lo: int, hi: int) -> Any:
        """Return rows lo:hi as a delayed value, joined of the blocks that they lie in."""
        first = bisect_right(self._starts, lo) - 1
        last = bisect_right(self._starts, hi - 1)
        return delayed(join_rows)(self._blocks[first:last], self._starts[first], lo, hi)


def _spec(store: Store, out: str, task: EmbeddingTask, facts: Mapping[str, Any]) -> StoreSpec:
    """Return what the new store says of its data."""
    spec, options = store.spec, task.model.options
    labels = {k: v for k, v in (spec.scaling or {}).items() if k == "labels"}
    shown = last_part if options.anonymous else without_credentials
    provenance = {
        "reader": EMBEDDING,
        "source": shown(task.source.url),
        "source_fingerprint": [digest for _, digest in store.segments],
        "model": shown(task.model.name),
        **{name: fact for name, fact in facts.items() if fact},
        "batch_rows": options.batch_rows,
        **({"device": task.device} if task.model.packages else {}),
    }
    return replace(
        spec,
        name=options.name or out.rstrip("/").rsplit("/", 1)[-1].removesuffix(".zarr"),
        scale=1.0,
        image_shape=None,
        feature_names=None,
        scaling=labels or None,
        preparation=None,
        decisions=(),
        provenance=provenance,
    )
