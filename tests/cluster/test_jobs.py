"""Clusters that are not ours: a job script under a stand-in for SLURM, TLS, what jobs ask for."""

import json
import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from distributed import LocalCluster, Security
from helpers import ROOT

import dskrobust as dr
from dskrobust import cli
from dskrobust.cluster import ClusterOptions, connect
from dskrobust.cluster.options import Patience
from dskrobust.errors import ClusterError

JOBS = ROOT / "scripts" / "jobs"

# Runs a batch script as SLURM would: what its #SBATCH lines and the command line ask for, as
# variables; `srun` starts the command once for every task.
SBATCH = """#!{python}
import os, re, sys
asked, rest = {{}}, sys.argv[1:]
while rest[0].startswith("--"):
    name, _, value = rest.pop(0)[2:].partition("=")
    asked[name] = value
lines = re.findall(r"^#SBATCH --([a-z-]+)=(\\S+)", open(rest[0]).read(), re.M)
asked = dict(lines) | asked
os.environ.update(
    SLURM_JOB_ID="7",
    SLURM_SUBMIT_DIR=os.getcwd(),
    SLURM_NTASKS=asked["ntasks"],
    SLURM_CPUS_PER_TASK=asked["cpus-per-task"],
    SLURM_MEM_PER_CPU=str(1024 * int(asked["mem-per-cpu"].removesuffix("G"))),
)
os.execv("/bin/bash", ["bash", *rest])
"""
SRUN = """#!/bin/bash
# a step gets the cores it asks for, not those of the job
[[ "$1" == "--cpus-per-task=$SLURM_CPUS_PER_TASK" ]] || { echo "srun: $1?" >&2; exit 1; }
shift
for ((task = 0; task < SLURM_NTASKS; task++)); do "$@" & done
wait
"""


@pytest.fixture
def store(tmp_path):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(600, 5)), rng.integers(0, 3, 600)
    return dr.create_store(str(tmp_path / "data.zarr"), X, y)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """A self-signed certificate: files for authority, certificate and key, by option name."""
    folder, made = tmp_path_factory.mktemp("tls"), Security.temporary()
    found = {}
    for name, text in (
        ("tls_ca", made.tls_ca_file),
        ("tls_cert", made.tls_scheduler_cert),
        ("tls_key", made.tls_scheduler_key),
    ):
        found[name] = str(folder / f"{name}.pem")
        Path(found[name]).write_text(text)
    return found


def program(path, text):
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def tls_environment(certificates):
    """Dask's configuration of TLS as environment variables."""
    prefix = "DASK_DISTRIBUTED__COMM__"
    found = {f"{prefix}DEFAULT_SCHEME": "tls", f"{prefix}REQUIRE_ENCRYPTION": "true"}
    found[f"{prefix}TLS__CA_FILE"] = certificates["tls_ca"]
    for role in ("SCHEDULER", "WORKER", "CLIENT"):
        found[f"{prefix}TLS__{role}__CERT"] = certificates["tls_cert"]
        found[f"{prefix}TLS__{role}__KEY"] = certificates["tls_key"]
    return found


def test_the_batch_script_runs_a_scheduler_and_workers_with_tls(tmp_path, store, certificates):
    programs = tmp_path / "bin"
    programs.mkdir()
    program(programs / "sbatch", SBATCH.format(python=sys.executable))
    program(programs / "srun", SRUN)
    path = os.pathsep.join([str(programs), str(Path(sys.executable).parent), os.environ["PATH"]])
    asked = ["--ntasks=2", "--cpus-per-task=1", "--mem-per-cpu=1G"]
    done = subprocess.run(
        ["sbatch", *asked, str(JOBS / "slurm.sbatch"), store.url, "--metric", "cityblock"],
        env={**os.environ, **tls_environment(certificates), "PATH": path, "DASK_INTERFACE": "lo"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "workers     2 workers × 1 thread, 1.0 GiB each" in done.stdout
    assert "R at most 0." in done.stderr
    assert "tls://127.0.0.1:" in done.stderr
    assert "tcp://" not in done.stderr
    found = dr.sample_robustness(store, metric="cityblock")
    assert found.result is not None
    alone = dr.sample_robustness(store.features[:], store.labels[:], metric="cityblock")
    np.testing.assert_array_equal(found.robustness, alone.compute(scheduler="sync").robustness)
    assert not list(tmp_path.glob("dskrobust-7.*"))  # the scheduler's file is gone again


def test_the_batch_script_asks_for_what_it_uses():
    text = (JOBS / "slurm.sbatch").read_text()
    asked = dict(re.findall(r"^#SBATCH --([a-z-]+)=(\S+)", text, re.MULTILINE))
    assert {"ntasks", "cpus-per-task", "mem-per-cpu", "time"} <= set(asked)
    assert subprocess.run(["bash", "-n", str(JOBS / "slurm.sbatch")], check=False).returncode == 0


# -- TLS ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def encrypted(certificates):
    """The address of a scheduler that only speaks TLS, with one worker in this process."""
    ca, cert, key = (certificates[f"tls_{name}"] for name in ("ca", "cert", "key"))
    roles = ("scheduler", "worker", "client")
    files = {
        f"tls_{role}_{kind}": p for role in roles for kind, p in (("cert", cert), ("key", key))
    }
    security = Security(tls_ca_file=ca, require_encryption=True, **files)
    with LocalCluster(
        n_workers=1,
        threads_per_worker=1,
        processes=False,
        host="127.0.0.1",
        protocol="tls://",
        security=security,
        dashboard_address="127.0.0.1:0",
    ) as made:
        yield made.scheduler_address


def test_compute_on_a_scheduler_with_tls(encrypted, certificates, store):
    options = [f"--{k.replace('_', '-')}={v}" for k, v in certificates.items()]
    arguments = ["compute", store.url, "--scheduler", encrypted, "--wait-for", "1", *options]
    done = CliRunner().invoke(cli.main, arguments)
    assert done.exit_code == 0, done.output
    assert dr.sample_robustness(store).result is not None


def test_tls_is_checked_before_anything_else(encrypted, certificates):
    with (
        pytest.raises(ClusterError, match=r"tls://.* wants TLS, .*; give tls_ca"),
        connect(ClusterOptions(scheduler=encrypted)),
    ):
        pass
    wrong = {**certificates, "tls_key": "nowhere.pem"}
    with (
        pytest.raises(ClusterError, match=r"there is no TLS file nowhere.pem"),
        connect(ClusterOptions(scheduler=encrypted, **wrong)),
    ):
        pass
    with pytest.raises(ClusterError, match="give tls_ca, tls_cert and tls_key"):
        ClusterOptions(scheduler=encrypted, tls_ca=certificates["tls_ca"])
    with pytest.raises(ClusterError, match="are for a running scheduler"):
        ClusterOptions(**certificates)
    with pytest.raises(ClusterError, match="are for a running scheduler"):
        ClusterOptions(wait_for=3)


def test_workers_are_waited_for_by_number(encrypted, certificates):
    options = ClusterOptions(
        scheduler=encrypted, wait_for=2, patience=Patience(queue=1), **certificates
    )
    with (
        pytest.raises(ClusterError, match="1 workers after 1 s, 2 were expected"),
        connect(options),
    ):
        pass


# -- what jobs ask for -------------------------------------------------------------------------


def script(name):
    """Return the module of a job script."""
    import importlib.util

    spec = importlib.util.spec_from_file_location(name, JOBS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def printed(name, *arguments):
    done = CliRunner().invoke(script(name).main, [*arguments, "--print"])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_jobqueue_asks_slurm_for_a_worker():
    text = printed("slurm_jobqueue", "/shared/x.zarr", "--threads", "3", "--memory", "6GiB",
                   "--queue", "long", "--interface", "lo")  # fmt: skip
    for part in ("#SBATCH -p long", "--cpus-per-task=3", "#SBATCH --mem=6G", "--nthreads 3",
                 "--memory-limit 6.00GiB", "PROFILE__CYCLE=60s"):  # fmt: skip
        assert part in text
    assert "tcp://127.0.0.1:" in text


def test_kubernetes_is_asked_for_pods_with_limits():
    pytest.importorskip("dask_kubernetes")
    text = printed("kubernetes_operator", "s3://b/x.zarr", "--image", "i:1", "--workers", "5",
                   "--threads", "2", "--memory", "3GiB", "--secret", "aws")  # fmt: skip
    spec = json.loads(text)["spec"]
    assert spec["worker"]["replicas"] == 5
    (worker,) = spec["worker"]["spec"]["containers"]
    assert worker["resources"]["limits"] == {"cpu": "2", "memory": str(3 * 2**30)}
    assert worker["args"][:6] == ["dask", "worker", "--nthreads", "2", "--memory-limit", "3GiB"]
    for part in ("worker", "scheduler"):
        (container,) = spec[part]["spec"]["containers"]
        assert container["envFrom"] == [{"secretRef": {"name": "aws"}}]
        assert {e["name"]: e["value"] for e in container["env"]}[
            "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES"
        ] == "20"


@pytest.mark.parametrize("path", sorted(JOBS.glob("*.py")), ids=lambda path: path.name)
def test_job_scripts_are_python(path):
    compile(path.read_text(), str(path), "exec")
