"""What the user is told of a BLAS that does not use the processor."""

import os

import pytest
from distributed import Client

from dskrobust.cluster import ClusterOptions, blas, connect

WIDE = frozenset({"avx2", "avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512cd"})


def core(monkeypatch, architecture):
    library = {"internal_api": "openblas", "architecture": architecture}
    monkeypatch.setattr(blas, "threadpool_info", lambda: [library])
    monkeypatch.delenv(blas.VARIABLE, raising=False)


@pytest.mark.parametrize(
    ("architecture", "flags", "expected"),
    [
        ("Haswell", WIDE, "SkylakeX"),
        ("Zen", WIDE, "SkylakeX"),
        ("SkylakeX", WIDE, None),
        ("Haswell", frozenset({"avx2"}), None),  # there the faster kernels would crash
        ("Haswell", frozenset({"avx512f"}), None),
    ],
)
def test_faster_core(monkeypatch, architecture, flags, expected):
    core(monkeypatch, architecture)
    assert blas.faster_core(flags) == expected
    monkeypatch.setenv(blas.VARIABLE, "Haswell")
    assert blas.faster_core(flags) is None  # the user has chosen


def test_flags_are_read():
    assert all(isinstance(flag, str) for flag in blas.processor_flags())


def test_local_workers_start_with_the_faster_core(monkeypatch):
    wanted = "Haswell"  # every x86 processor of ours has it
    monkeypatch.delenv(blas.VARIABLE, raising=False)
    monkeypatch.setattr("dskrobust.cluster.local.faster_core", lambda: wanted)
    with connect(ClusterOptions(workers=1, memory_limit=400 * 2**20)) as client:
        assert isinstance(client, Client)
        (found,) = client.run(lambda: os.environ.get("OPENBLAS_CORETYPE")).values()
        assert found == wanted
