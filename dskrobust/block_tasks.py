"""Arrays whose blocks are read and joined in one task each.

Dask runs the tasks of several columns abreast: blocks of one wait for those of another, and a
worker comes to hold columns of all rows. In one task there is nothing to wait for, and less to
schedule.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import dask.array as da
from dask._task_spec import Alias, Task, convert_legacy_graph
from dask.base import optimize
from dask.core import flatten
from dask.highlevelgraph import HighLevelGraph
from dask.local import get_sync
from dask.tokenize import tokenize

Key = Any  # of Dask: a string, or a tuple that begins with one
KINDS = (Task, Alias)  # of what is run, and not data


@dataclass(frozen=True)
class BlockTask:
    """Tasks that only one block needs, as one.

    Attributes
    ----------
    tasks : mapping
        Key → task.
    key : Key
        Of the task that makes the block.
    inputs : tuple of Key
        What comes from elsewhere.
    """

    tasks: Mapping[Key, Any]
    key: Key
    inputs: tuple[Key, ...]

    def __call__(self, *values: Any) -> Any:
        given = zip(self.inputs, values, strict=True)
        return get_sync({**self.tasks, **dict(given)}, self.key)


def in_one_task(array: da.Array) -> da.Array:
    """Return an array every block of which is one task, of all that no other block needs.

    What several blocks need, and what is computed already, stays as it is.
    """
    futures = dict(array.__dask_graph__())  # among others; `optimize` leaves them out
    (array,) = optimize(array)
    graph = convert_legacy_graph(dict(array.__dask_graph__()))
    keys = list(flatten(array.__dask_keys__()))
    needed = {key: _ancestors(graph, key) for key in keys}
    blocks = Counter(node for nodes in needed.values() for node in nodes)
    alone = {n for n, count in blocks.items() if count == 1 and isinstance(graph.get(n), KINDS)}
    name = f"{array.name}-in-one-{tokenize(array.name)}"
    tasks: dict[Key, Any] = {}
    for key in keys:
        own = {node: graph[node] for node in needed[key] & alone}
        inputs = {other for node in own.values() for other in node.dependencies} - own.keys()
        made = BlockTask(own, key, tuple(sorted(inputs, key=str)))
        tasks[(name, *key[1:])] = (made, *made.inputs) if own else key
    others = f"{name}-others"
    layers = {name: tasks, others: {n: graph.get(n, futures.get(n)) for n in blocks.keys() - alone}}
    joined = HighLevelGraph(layers, {name: {others}, others: set()})
    return da.Array(joined, name, array.chunks, dtype=array.dtype, meta=array._meta)


def _ancestors(graph: Mapping[Key, Any], key: Key) -> set[Key]:
    """Return the keys that one needs, and itself."""
    found, left = {key}, [key]
    while left:
        node = graph.get(left.pop())
        new = set(node.dependencies) - found if node is not None else set[Key]()
        found |= new
        left.extend(new)
    return found
