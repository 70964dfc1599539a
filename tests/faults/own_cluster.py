"""A scheduler and workers in processes of their own, as a user starts them, to be killed."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from distributed import Client
from helpers import ROOT

HOST = "127.0.0.1"


class OwnCluster:
    """A scheduler and its workers; all of them are killed at the end."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._processes = folder, []
        file = folder / "scheduler.json"
        self.scheduler = self._start("scheduler", "--port", "0", "--scheduler-file", str(file))
        with Client(scheduler_file=str(file), set_as_default=False) as client:
            self.address = client.scheduler.address

    def _start(self, what: str, *options: str, path: Path | None = None) -> subprocess.Popen:
        command = [sys.executable, "-m", f"distributed.cli.dask_{what}", "--host", HOST]
        paths = os.pathsep.join(str(place) for place in (path, ROOT) if place is not None)
        process = subprocess.Popen(
            [*command, "--no-dashboard", *options],
            cwd=self._folder,
            env={**os.environ, "PYTHONPATH": paths},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._processes.append(process)
        return process

    def start_worker(self, path: Path | None = None) -> subprocess.Popen:
        """Start a worker without a nanny; path: where it looks for packages first."""
        return self._start("worker", self.address, "--nthreads", "1", "--no-nanny", path=path)

    def started_worker(self) -> subprocess.Popen:
        """Start a worker and return it when the scheduler knows it."""
        process = self.start_worker()
        with Client(self.address, set_as_default=False) as client:
            client.wait_for_workers(1, timeout=60)
        return process

    def close(self) -> None:
        """Kill everything."""
        for process in self._processes:
            process.kill()
            process.wait()


@contextmanager
def own_cluster(folder: Path) -> Iterator[OwnCluster]:
    """Yield a scheduler that has no workers yet."""
    cluster = OwnCluster(folder)
    try:
        yield cluster
    finally:
        cluster.close()


def worker_processes(pid: int) -> list[psutil.Process]:
    """Return the worker processes that a process has started and that still live."""
    found = []
    for child in psutil.Process(pid).children(recursive=True):
        try:
            if "spawn_main" in " ".join(child.cmdline()) and child.status() != "zombie":
                found.append(child)
        except psutil.Error:  # gone meanwhile
            continue
    return found
