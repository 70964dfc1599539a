"""Fixtures and settings that all tests share."""

import os
import shutil
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, NoReturn

import dask
import pytest
import tracing
from distributed import Client, LocalCluster
from helpers import TESTS, keep_seconds, seconds_of_files, slow_tests
from hypothesis import settings

from dskrobust.engine import workload

UNKNOWN = 20.0  # seconds of a file that was never timed

# Not random, so that more of the same examples in every run find nothing new.
settings.register_profile("ci", deadline=None, derandomize=True, max_examples=25)
# The first call of a kernel compiles it, so a deadline would only measure Numba.
settings.register_profile("dev", deadline=None, max_examples=30)
settings.register_profile("quick", deadline=None, derandomize=True, max_examples=10)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if "CI" in os.environ else "dev"))


@pytest.fixture(scope="session", autouse=True)
def compiling_untraced() -> Iterator[None]:
    """Have Numba compile without coverage looking on."""
    with pytest.MonkeyPatch.context() as patch:
        tracing.install(patch)
        yield


@pytest.fixture(scope="session", autouse=True)
def bounds_of_small_data() -> Iterator[None]:
    """Have small data of this process go through blocks and bounds, as large data does.

    What small data goes through is tested in tests/engine/test_small.py, which undoes this.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workload, "PLAIN_VALUES", 0)
        yield


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--quick``: what takes less than two minutes altogether."""
    parser.addoption(
        "--quick", action="store_true",
        help="leave out what is slow (tests/slow.txt), starts worker processes or needs the data",
    )  # fmt: skip

    parser.addoption(
        "--write-seconds",
        action="store_true",
        help="keep what every file took in tests/seconds.txt",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Try fewer examples where time is short."""
    if config.getoption("quick"):
        settings.load_profile("quick")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out files that are slow as a whole before anything of them is imported."""
    return True if config.getoption("quick") and _path(collection_path) in slow_tests() else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark what is slow, uses the data or the cluster, so that ``-m "not data"`` misses no test."""
    tracing.count_examples(items)
    slow = slow_tests()
    for item in items:
        fixtures = getattr(item, "fixturenames", ())
        if "paper_data" in fixtures:
            item.add_marker(pytest.mark.data)
        if "local_cluster" in fixtures:
            item.add_marker(pytest.mark.cluster)
        path = _path(item.path)
        if slow & {path, f"{path}::{getattr(item, 'originalname', item.name)}", _node(path, item)}:
            item.add_marker(pytest.mark.slow)
    if config.getoption("quick"):
        marks = ("slow", "data", "cluster")
        left = [item for item in items if any(map(item.get_closest_marker, marks))]
        config.hook.pytest_deselected(items=left)
        items[:] = [item for item in items if item not in left]
    if "PYTEST_XDIST_WORKER" in os.environ:  # the longest files first: none is left to the end
        known = seconds_of_files()
        items.sort(key=lambda item: -known.get(_path(item.path), UNKNOWN))


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """Look at what a test covers, for its first seconds."""
    with tracing.traced_test(pyfuncitem):
        return (yield)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Keep how long files took, where that was asked for."""
    if config.getoption("write_seconds"):
        reports = (r for several in terminalreporter.stats.values() for r in several)
        timed = [
            (r.nodeid.partition("::")[0], r.duration) for r in reports if hasattr(r, "duration")
        ]
        keep_seconds(timed)


def _path(path: Path) -> str:
    return path.relative_to(TESTS).as_posix() if path.is_relative_to(TESTS) else str(path)


def _node(path: str, item: pytest.Item) -> str:
    return f"{path}::{item.nodeid.partition('::')[2]}"


@pytest.fixture(scope="session")
def paper_data() -> Path:
    """Return the folder with the paper's data sets in their publishers' layouts."""
    folder = os.environ.get("DSKROBUST_DATA")
    if not folder:
        pytest.skip("DSKROBUST_DATA doesn't name the folder of the paper's data sets")
    path = Path(folder)
    if not path.is_dir():
        pytest.fail(f"DSKROBUST_DATA={folder} is no folder")
    return path


@pytest.fixture(scope="session")
def browser() -> str:
    """Return a Chromium that pages can be looked at in."""
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        pytest.skip("no Chromium is installed; the page is not looked at in a browser")
    return found


@pytest.fixture(scope="session")
def local_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    """Yield two worker processes of one thread each, shared by the whole session."""
    with LocalCluster(
        n_workers=2,
        threads_per_worker=1,
        processes=True,
        host="127.0.0.1",
        dashboard_address="127.0.0.1:0",
        local_directory=str(tmp_path_factory.mktemp("workers")),
    ) as cluster:
        yield cluster


@pytest.fixture
def client(local_cluster: LocalCluster) -> Iterator[Client]:
    """Yield a client that is Dask's default scheduler during this test, and only during it."""
    with Client(local_cluster) as client:
        yield client


class ComputedError(AssertionError):
    """Something was computed where only a graph should have been built."""


def _refuse(dsk: Any, keys: Any, **kwargs: Any) -> NoReturn:
    raise ComputedError(f"a graph was computed, for {str(keys)[:200]}")


@contextmanager
def _raise_if_dask_computes() -> Iterator[None]:
    with dask.config.set(scheduler=_refuse):
        yield


@pytest.fixture
def raise_if_dask_computes() -> Callable[[], AbstractContextManager[None]]:
    """Return a context manager, ``with raise_if_dask_computes():``, that lets graphs be built only.

    It also holds where a client is the default, but not for ``client.compute`` and ``.submit``.
    """
    return _raise_if_dask_computes


@pytest.fixture
def ranges_read(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], list[tuple[int, int]]]:
    """Return a function that makes rows which are read when needed list the ranges asked for."""

    def watch(rows: Any) -> list[tuple[int, int]]:
        read: list[tuple[int, int]] = []
        real = type(rows).read

        def reading(self: Any, lo: int, hi: int) -> Any:
            read.append((lo, hi))
            return real(self, lo, hi)

        monkeypatch.setattr(type(rows), "read", reading)
        return read

    return watch
