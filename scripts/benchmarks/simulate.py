"""A run beyond this machine: the real scheduler and graph, and tasks that sleep instead of compute.

The graph is the one that `compute` would send for so many rows (of a run in waves, its first one),
with all that its tasks are given. A tile sleeps the seconds that the plan says over `--faster`;
what it returns is empty, so that what travels between workers in a real run is left out. The
scheduler is a process of its own, the workers are threads of another one.

    python scripts/benchmarks/simulate.py --rows 10000000 --columns 100 --workers 64 [--out FILE]
    python scripts/benchmarks/simulate.py --rows 100000000 --columns 100 --workers 256
    python scripts/benchmarks/simulate.py --plans
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import pickle
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
from dask.delayed import Delayed
from dask.utils import parse_bytes
from distributed import Client, Worker

import dskrobust as dr
from dskrobust import display
from dskrobust.engine.graph import Choices, Graph, PairGraph, RunGraph, build, start_graph
from dskrobust.engine.plan import Plan, Resources, make_plan, pair_seconds, pairs_of
from dskrobust.engine.spec import PairSpec, TileSpec, TileTask
from dskrobust.engine.tasks import run_tile, settle
from dskrobust.engine.workload import Workload
from dskrobust.labels import LabelMap
from dskrobust.store import SourceAddress, TileMemo

MIB = 2**20
WORKERS_READY = 600  # seconds; hundreds of them on two cores that others use
PRICE = 0.05  # of a core hour, in any currency: about what clouds ask for one with 4 to 8 GiB
CONFIG = {"DASK_DISTRIBUTED__WORKER__PROFILE__CYCLE": "60s",
          "DASK_DISTRIBUTED__WORKER__PROFILE__INTERVAL": "1s",
          "DASK_DISTRIBUTED__ADMIN__SYSTEM_MONITOR__INTERVAL": "5s"}  # fmt: skip


def sleep(seconds: float, *given: Any) -> None:
    """Stand in for a task."""
    time.sleep(seconds)


def plan_of(rows: int, columns: int, resources: Resources) -> tuple[Workload, Plan]:
    """The plan of float32 rows in a store, with classes as labels."""
    work = Workload(
        (rows,), columns, 4, 4, True, 16, max(1, MIB // columns), prefixed=True, stored=True,
        resumable=True,
    )  # fmt: skip
    return work, make_plan(work, resources)


def plans() -> str:
    """What runs of several sizes would take, as a table; arithmetic only."""
    head = ("rows", "columns", "hours", "core hours", f"at {PRICE} a core hour",
            "peak of a worker", "read", "tiles", "a tile")  # fmt: skip
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for rows in (10**6, 10**7, 10**8):
        for columns in (100, 1_000, 10_000):
            plan = plan_of(rows, columns, Resources(64, 1, 8 * 2**30))[1]
            hours = plan.seconds / 3600
            cores = 64 * hours
            cells = [f"{rows:,}", f"{columns:,}", f"{hours:.2f}", f"{cores:,.0f}"]
            cells.append(f"{PRICE * cores:,.2f}")
            cells += [display.size(plan.peak_bytes), display.size(plan.bytes_read)]
            cells += [f"{len(plan.tiles):,}", display.clock(plan.tile_seconds)]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def graph_of(rows: int, columns: int, plan: Plan) -> PairGraph:
    """The graph that `compute` would send; the store is only named in it."""
    address = SourceAddress("/data/some.zarr", rows)
    spec = PairSpec(
        dr.Euclidean(), LabelMap("categorical"), ("all",), columns, 1.0, (0,), "float32"
    )
    tiles = TileSpec(spec, plan.panel_rows, TileMemo(address, "0" * 16), plan.panel_bytes)
    marks = [f"{lo}-{hi}-{'0' * 12}" for lo, hi in plan.blocks]
    names = {} if plan.in_rounds else {(i, j): f"{marks[i]}.{marks[j]}" for i, j in plan.tiles}
    choices = Choices(names, block_names=marks if plan.in_rounds else ())
    pairs = build(start_graph(address, spec, plan.blocks), tiles, plan, choices)
    if not pairs.waves:
        return pairs
    start = {key: pairs.graph[key] for key in (pairs.source, pairs.context)}
    first = PairGraph(start, pairs.token, pairs.blocks, pairs.source, pairs.context)
    first.states += RunGraph(first, tiles, plan, choices).add_wave(pairs.waves[0], {}).values()
    return first


def asleep(graph: Graph, work: Workload, faster: float) -> Graph:
    """The same graph of tasks that sleep."""

    def stand_in(task: Any) -> Any:
        if isinstance(task, list):
            return [stand_in(one) for one in task]
        if not (isinstance(task, tuple) and callable(task[0])):
            return task
        of_tile = task[0] is run_tile and isinstance(task[1], TileTask)
        seconds = pair_seconds(work) * pairs_of(task[1].rows, task[1].columns) if of_tile else 0.0
        return sleep, seconds / faster, *map(stand_in, task[1:])

    return {key: stand_in(task) for key, task in graph.items()}


def figures(options: argparse.Namespace, address: str, scheduler: psutil.Process) -> dict[str, Any]:
    """Run the sleeping graph and say what it took."""
    limit = parse_bytes(options.memory_limit)
    work, plan = plan_of(options.rows, options.columns, Resources(options.workers, 1, limit))
    pairs = graph_of(options.rows, options.columns, plan)
    graph = asleep(pairs.graph, work, options.faster)
    slept = sum(task[1] for task in graph.values() if isinstance(task, tuple) and task[0] is sleep)
    ends = [(f"end-{k}", state) for k, state in enumerate(pairs.states)]
    graph |= {end: (settle, state) for end, state in ends} | {"end": (settle, [e for e, _ in ends])}
    with Client(address) as client:
        client.wait_for_workers(options.workers, timeout=WORKERS_READY)
        before, held = sum(scheduler.cpu_times()[:2]), scheduler.memory_info().rss
        started = time.perf_counter()
        running = client.compute(Delayed("end", graph))
        most = held
        while not running.done():
            most = max(most, scheduler.memory_info().rss)
            time.sleep(0.2)
        running.result()
        seconds = time.perf_counter() - started
        busy = sum(scheduler.cpu_times()[:2]) - before
    tiles = len(pairs.tiles)
    return {
        "rows": options.rows,
        "columns": options.columns,
        "workers": options.workers,
        "load average before": os.getloadavg()[0],  # of other work
        "tiles of the run": len(plan.tiles),
        "graphs": -(-len(plan.tiles) // tiles),
        "planned seconds a tile": plan.tile_seconds,
        "planned hours": plan.seconds / 3600,
        "tasks of the graph": len(graph),
        "graph MiB": len(pickle.dumps(graph)) / MIB,
        "times faster": options.faster,
        "seconds": seconds,
        "share of the time that workers work": slept / seconds / options.workers,
        "scheduler seconds": busy,
        "scheduler ms a task": 1e3 * busy / len(graph),
        "scheduler MiB for the graph": (most - held) / MIB,
        # what is not slept, spread over the seconds that tiles take in earnest
        "projected share in earnest": slept * options.faster
        / (slept * options.faster + seconds * options.workers - slept),
    }  # fmt: skip


async def serve(address: str, count: int) -> None:
    """Run so many workers of a thread each until the scheduler is gone."""
    workers = [
        Worker(address, nthreads=1, host="127.0.0.1", dashboard=False, memory_limit=0)
        for _ in range(count)
    ]
    await asyncio.gather(*workers)
    await asyncio.gather(*(worker.finished() for worker in workers))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, default=10**7)
    parser.add_argument("--columns", type=int, default=100)
    parser.add_argument("--workers", type=int, default=64)
    parser.add_argument("--memory-limit", default="8GiB")
    parser.add_argument("--faster", type=float, default=100.0)
    parser.add_argument("--plans", action="store_true", help="print what plans say, run nothing")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.plans:
        print(plans())
        return
    if options.serve:
        asyncio.run(serve(options.serve, options.workers))
        return
    with tempfile.TemporaryDirectory() as folder:
        file, environment = Path(folder, "scheduler.json"), {**os.environ, **CONFIG}
        scheduler = subprocess.Popen(
            [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1",
             "--port", "0", "--no-dashboard", "--scheduler-file", str(file)],
            env=environment, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            while not file.exists() and scheduler.poll() is None:
                time.sleep(0.1)
            address = json.loads(file.read_text())["address"]
            workers = subprocess.Popen(
                [sys.executable, __file__, "--serve", address, "--workers", str(options.workers)],
                env=environment, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            try:
                found = figures(options, address, psutil.Process(scheduler.pid))
            finally:
                workers.terminate()
                workers.wait()
        finally:
            scheduler.terminate()
            scheduler.wait()
    print(json.dumps(found, indent=1))
    if options.out:
        options.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
