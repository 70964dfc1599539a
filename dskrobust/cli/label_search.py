"""The nearest samples of another and of the same label, computed where a store lacks them."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..cluster import ClusterOptions
    from ..label_fit import LabelQuality
    from ..store import Store


def search_labels(
    store: Store, metric: str, options: ClusterOptions, *, quiet: bool, wait: bool = True
) -> None:
    """Search both in one pass; what the store holds, or holds of its first rows, is not searched.

    quiet: nothing on stdout. wait: whether to wait where another process computes the same.
    """
    from ..compute import run_and_write
    from ..label_fit import label_quality
    from ..runs import RunOptions, pair_spec
    from ..store import covering, made_once
    from .compute import run, show_run

    def prepare(resources: Any) -> LabelQuality:
        return label_quality(store, metric=metric, options=RunOptions(resources))

    specs = [pair_spec(store, metric, "categorical", rule) for rule in ("different", "same")]
    if prepare(None).together:
        with ExitStack() as turns:
            for spec in specs:
                turns.enter_context(made_once(store, spec.parameters(), wait=wait))
            title = specs[0].metric.name.capitalize()
            show_run(partial(run_and_write, store, prepare, options), title, options, quiet=quiet)
    for spec in specs:
        if not covering(store, spec.parameters()):
            run(store, spec, options, quiet=quiet, wait=wait)
