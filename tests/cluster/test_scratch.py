"""Arrays on a cluster lie in a scratch folder that all workers, and whoever tidies up, share."""

import os

import dask.array as da
import numpy as np
import pytest

import dskrobust as dr
from dskrobust.cluster import checks, workers
from dskrobust.engine import scratch
from dskrobust.errors import InvalidOptionError
from dskrobust.store import SegmentWriter

X = np.random.default_rng(0).standard_normal((60, 4))
Y = np.arange(60) % 3


class TwoHosts:
    """A client of two workers, of which the second sees no file of the first."""

    def __init__(self, blind=(), read_only=False):
        self.blind, self.read_only = blind, read_only

    def run(self, function, *arguments, workers=None, on_error=None):
        def answer(worker):
            if self.read_only and function is checks._leave:
                return PermissionError("read-only")
            if function is os.path.exists and worker in self.blind:
                return False
            return function(*arguments)

        return {worker: answer(worker) for worker in workers}


@pytest.fixture(autouse=True)
def two_workers(monkeypatch):
    for module in (checks, workers):
        monkeypatch.setattr(module, "workers_of", lambda client: {"tcp://a": {}, "tcp://b": {}})


def test_a_folder_that_all_share(tmp_path):
    checks.check_scratch(TwoHosts(), str(tmp_path / "new"))
    checks.check_scratch(TwoHosts(), None)
    assert list((tmp_path / "new").iterdir()) == []  # nothing is left behind


@pytest.mark.parametrize("named", [False, True])
def test_a_folder_that_a_worker_does_not_share(named, tmp_path):
    folder = str(tmp_path) if named else None
    with pytest.raises(InvalidOptionError, match=r"worker tcp://b does not.*RunOptions\(scratch=F"):
        checks.check_scratch(TwoHosts(blind={"tcp://b"}), folder)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written(tmp_path):
    with pytest.raises(InvalidOptionError, match="tcp://a cannot write into"):
        checks.check_scratch(TwoHosts(read_only=True), str(tmp_path))
    with pytest.raises(InvalidOptionError, match="tcp://a cannot write into") as raised:
        checks.check_scratch(_Raising(), str(tmp_path / "no" / "folder"))
    assert isinstance(raised.value.__cause__, FileNotFoundError)


class _Raising(TwoHosts):
    def run(self, function, *arguments, workers=None, on_error=None):
        try:
            return super().run(function, *arguments, workers=workers, on_error=on_error)
        except OSError as error:
            return dict.fromkeys(workers, error)


def test_workers_elsewhere_share_not_even_among_one(monkeypatch, tmp_path):
    """A single worker on another machine would keep what nobody here can remove."""
    monkeypatch.setattr(checks, "workers_of", lambda client: {"tcp://a": {}})
    monkeypatch.setattr(checks, "_leave", lambda path: None)  # that is: on its own disk
    with pytest.raises(InvalidOptionError, match="this process does not share"):
        checks.check_scratch(TwoHosts(), None)
    checks.check_scratch(TwoHosts(), str(tmp_path))


def test_a_worker_that_comes_later_is_told(tmp_path):
    split = np.zeros(60, np.int16)
    with pytest.raises(InvalidOptionError, match=r"is not the scratch folder.*scratch=FOLDER"):
        writer = SegmentWriter(str(tmp_path / "none.zarr"), "{}", "rows", 0, 60, ("features",))
        scratch._write_scratch(writer, 0, X, Y, split)


CALLS = {
    "scores": lambda how: dr.sample_robustness(X, Y, options=how).compute(),
    "estimator": lambda how: dr.SampleRobustness(options=how).fit(X, Y),
    "sampler": lambda how: dr.RobustnessSampler(size=0.5, options=how).fit_resample(X, Y),
    "issues": lambda how: dr.find_label_issues(X, Y, options=how),
    "neighbours": lambda how: dr.nearest_neighbours(da.asarray(X), 3, options=how).compute(),
    "counts": lambda how: dr.count_within(X, 1.0, options=how).compute(),
}


@pytest.mark.parametrize("call", CALLS)
def test_every_call_may_name_the_folder(call, monkeypatch):
    """And is refused where workers do not share it, before anything is computed."""
    asked = []

    def refuse(client, folder):
        asked.append(folder)
        raise InvalidOptionError("not shared")

    monkeypatch.setattr("dskrobust.runs.shares_process", lambda: False)
    monkeypatch.setattr("dskrobust.runs.current_client", object)
    monkeypatch.setattr("dskrobust.cluster.checks.check_scratch", refuse)
    for scratch_folder in ("~/shared", "shared"):
        with pytest.raises(InvalidOptionError, match="not shared"):
            CALLS[call](dr.RunOptions(scratch=scratch_folder))
    assert asked == [os.path.expanduser("~/shared"), os.path.abspath("shared")]
