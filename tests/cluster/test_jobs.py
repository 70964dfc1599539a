"""Clusters that are not ours: a job script under a stand-in for SLURM, TLS, what jobs ask for."""

import json
import os
import re
import socket
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

# Runs a batch script at once as SLURM would later: what its #SBATCH lines and the command line ask
# for, as variables; its output in the file that they name. Jobs count from 7 on; a job that others
# have to be done before is refused where one of them is not.
SBATCH = """#!{python}
import os, pathlib, re, subprocess, sys
asked, rest = {{}}, sys.argv[1:]
while rest and rest[0].startswith("--"):
    name, _, value = rest.pop(0)[2:].partition("=")
    asked[name] = value
text = open(rest[0]).read() if rest else sys.stdin.read()
asked = dict(re.findall(r"^#SBATCH --([a-z-]+)=(\\S+)", text, re.M)) | asked
done = pathlib.Path("jobs-done")
number = 7 + (len(done.read_text().split()) if done.exists() else 0)
for before in filter(None, asked.get("dependency", "").removeprefix("afterok:").split(":")):
    assert before in done.read_text().split(), f"job {{before}} is not done"
ask = {{"ntasks": "1", "cpus-per-task": "1", "mem-per-cpu": "1G"}} | asked
environment = dict(
    os.environ,
    SLURM_JOB_ID=str(number),
    SLURM_SUBMIT_DIR=os.getcwd(),
    SLURM_NTASKS=ask["ntasks"],
    SLURM_CPUS_PER_TASK=ask["cpus-per-task"],
    SLURM_MEM_PER_CPU=str(1024 * int(ask["mem-per-cpu"].removesuffix("G"))),
)
log = open(asked["output"].replace("%j", str(number)), "a")
job = subprocess.Popen(["/bin/bash", "-c", text, *rest], env=environment, stdout=log, stderr=log)
if "signal" in asked and "SIGNAL_AFTER" in os.environ:  # B:TERM, to the batch shell alone
    try:
        job.wait(float(os.environ["SIGNAL_AFTER"]))
    except subprocess.TimeoutExpired:
        job.terminate()
code = job.wait()
if code == 0:
    with open(done, "a") as lines:
        lines.write(f"{{number}}\\n")
if "parsable" in asked:
    print(number)
sys.exit(code)
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


@pytest.fixture
def slurm(tmp_path):
    """A folder with a stand-in for SLURM, and what runs a command of it there."""
    programs = tmp_path / "bin"
    programs.mkdir()
    program(programs / "sbatch", SBATCH.format(python=sys.executable))
    program(programs / "srun", SRUN)
    program(programs / "scontrol", '#!/bin/bash\necho "$@" >>scontrol.log\n')
    path = os.pathsep.join([str(programs), str(Path(sys.executable).parent), os.environ["PATH"]])

    def run(*command, **more):
        return subprocess.run(
            command, env={**os.environ, "PATH": path, "DASK_INTERFACE": "lo", **more},
            cwd=tmp_path, capture_output=True, text=True, timeout=240,
        )  # fmt: skip

    return run


ASKED = ("--ntasks=2", "--cpus-per-task=1", "--mem-per-cpu=1G")


def test_the_batch_script_runs_a_scheduler_and_workers_with_tls(
    tmp_path, slurm, store, certificates
):
    done = slurm("sbatch", *ASKED, str(JOBS / "slurm.sbatch"), store.url, "--metric", "cityblock",
                 **tls_environment(certificates))  # fmt: skip
    log = (tmp_path / "dskrobust-7.log").read_text()
    assert done.returncode == 0, log
    assert "workers     2 workers × 1 thread, 896.0 MiB each" in log  # 7/8 of what SLURM gives
    assert "R at most 0." in log
    assert "tls://127.0.0.1:" in log
    assert "tcp://" not in log
    found = dr.sample_robustness(store, metric="cityblock")
    assert found.result is not None
    alone = dr.sample_robustness(store.features[:], store.labels[:], metric="cityblock")
    np.testing.assert_array_equal(found.robustness, alone.compute(scheduler="sync").robustness)
    assert not list(tmp_path.glob("dskrobust-7.*/"))  # the scheduler's file is gone again
    assert not (tmp_path / "scontrol.log").exists()


def test_a_job_whose_time_is_over_goes_back_into_the_queue(tmp_path, slurm, store):
    program(tmp_path / "bin" / "dskrobust", "#!/bin/bash\nexec sleep 600\n")
    asked = (*ASKED, str(JOBS / "slurm.sbatch"), store.url)
    done = slurm("sbatch", *asked, SIGNAL_AFTER="4")
    log = (tmp_path / "dskrobust-7.log").read_text()
    assert done.returncode == 143, log
    assert "requeued" in log
    assert (tmp_path / "scontrol.log").read_text() == "requeue 7\n"
    done = slurm("sbatch", *asked, SIGNAL_AFTER="4", SLURM_RESTART_COUNT="10")  # often enough
    assert done.returncode == 143
    assert (tmp_path / "scontrol.log").read_text() == "requeue 7\n"
    assert not list(tmp_path.glob("dskrobust-7.*/"))


def test_an_environment_that_is_not_there_is_said(tmp_path, slurm, store):
    done = slurm("sbatch", *ASKED, str(JOBS / "slurm.sbatch"), store.url, DSKROBUST_ENV="nowhere")
    assert done.returncode == 2
    assert "there is no virtual environment at DSKROBUST_ENV=nowhere" in (
        (tmp_path / "dskrobust-7.log").read_text()
    )


def test_steps_from_a_file_to_a_page_follow_each_other(tmp_path, slurm):
    rng = np.random.default_rng(0)
    rows = [f"{a:.3f},{b:.3f},{'xyz'[int(3 * b)]}" for a, b in rng.random((300, 2))]
    (tmp_path / "own.csv").write_text("\n".join(["a,b,label", *rows]) + "\n")
    done = slurm(str(JOBS / "slurm_steps.sh"), "own.csv", "own.zarr", "--target", "label",
                 ASK=" ".join(ASKED))  # fmt: skip
    logs = {path.name: path.read_text() for path in tmp_path.glob("*.log")}
    assert done.returncode == 0, (done.stderr, logs)
    assert done.stdout == "ingest 7, compute 8, issues 9, report 10\n"
    assert (tmp_path / "own-issues.csv").exists()
    assert "<html" in (tmp_path / "own.html").read_text()


def test_a_step_that_fails_is_the_last(tmp_path, slurm):
    done = slurm(str(JOBS / "slurm_steps.sh"), "nothing.csv", "own.zarr", ASK=" ".join(ASKED))
    assert done.returncode != 0
    assert not (tmp_path / "own.zarr").exists()
    assert not (tmp_path / "jobs-done").exists()


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


# -- pods as processes ---------------------------------------------------------------------------


def container_of(spec, part):
    (container,) = spec["spec"][part]["spec"]["containers"]
    return container


def test_the_pods_of_kubernetes_run_as_processes(tmp_path, store):
    """Their commands and variables as they are asked for, the operator's own added as it does."""
    pytest.importorskip("dask_kubernetes")
    text = printed("kubernetes_operator", store.url, "--image", "i:1", "--workers", "2",
                   "--threads", "1", "--memory", "1GiB")  # fmt: skip
    spec, port = json.loads(text), free_port()
    own = {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "DASK_SCHEDULER_ADDRESS": f"tcp://127.0.0.1:{port}",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    started = []

    def start(container, **more):
        env = {e["name"]: e["value"] for e in container.get("env", [])}
        args = [more.get(word.strip("$()"), word) for word in container["args"]]
        started.append(subprocess.Popen(args, cwd=tmp_path, env={**env, **own, **more}))

    scheduler = container_of(spec, "scheduler")
    assert {"name": "tcp-comm", "containerPort": 8786, "protocol": "TCP"} in scheduler["ports"]
    scheduler["args"] += ["--host", "127.0.0.1", "--port", str(port), "--dashboard-address", ":0"]
    try:
        start(scheduler)
        for k in range(spec["spec"]["worker"]["replicas"]):
            worker = container_of(spec, "worker")
            start({**worker, "args": [*worker["args"], "--dashboard-address", ":0"]},
                  DASK_WORKER_NAME=f"pod-{k}")  # fmt: skip
        done = CliRunner().invoke(cli.main, [
            "compute", store.url, "--scheduler", own["DASK_SCHEDULER_ADDRESS"], "--wait-for", "2",
        ])  # fmt: skip
    finally:
        for process in reversed(started):
            process.terminate()
            process.wait()
    assert done.exit_code == 0, done.output
    assert "2 workers × 1 thread, 1.0 GiB each" in done.stdout
    assert dr.sample_robustness(store).result is not None


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


# -- hosts reached by SSH ------------------------------------------------------------------------


SSH_SERVER = """import asyncio, sys
import asyncssh

async def pump(source, sink):
    while piece := await source.read(4096):
        sink.write(piece)

async def serve(process):
    shell = await asyncio.create_subprocess_shell(
        process.command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE)
    try:  # all is handed on before the exit is told: a late write ends the whole connection
        await asyncio.gather(pump(shell.stdout, process.stdout), pump(shell.stderr, process.stderr))
        process.exit(await shell.wait())
    finally:
        if shell.returncode is None:
            shell.terminate()

async def main(folder):
    host, own = (asyncssh.generate_private_key("ssh-ed25519") for _ in range(2))
    own.write_private_key(f"{folder}/id_ed25519")
    own.write_public_key(f"{folder}/authorized_keys")
    listening = await asyncssh.listen(
        "127.0.0.1", 0, server_host_keys=[host], process_factory=serve, encoding=None,
        authorized_client_keys=f"{folder}/authorized_keys")
    with open(f"{folder}/known_hosts", "w") as known:
        key = host.export_public_key().decode()
        known.write(f"[127.0.0.1]:{listening.get_port()} {key}")
    print(listening.get_port(), flush=True)
    await asyncio.Future()

asyncio.run(main(sys.argv[1]))
"""


@pytest.fixture
def ssh_server(tmp_path):
    """A home folder whose key opens an SSH server on this machine; and the server's port."""
    pytest.importorskip("asyncssh")
    folder = tmp_path / ".ssh"
    folder.mkdir(mode=0o700)
    with subprocess.Popen(
        [sys.executable, "-c", SSH_SERVER, str(folder)], stdout=subprocess.PIPE, text=True
    ) as server:
        yield tmp_path, int(server.stdout.readline())
        server.terminate()


def test_hosts_reached_by_ssh_compute(ssh_server, store):
    home, port = ssh_server
    done = subprocess.run(
        [sys.executable, str(JOBS / "ssh_hosts.py"), store.url, "127.0.0.1", "127.0.0.1",
         "--threads", "1", "--memory", "1GiB", "--port", str(port)],
        env={**os.environ, "HOME": str(home), "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "2 workers" in done.stdout or "R at most" in done.stderr + done.stdout
    assert dr.sample_robustness(store).result is not None


# -- the GPUs of a machine -----------------------------------------------------------------------

DASK_CUDA = """from distributed import LocalCluster


class LocalCUDACluster(LocalCluster):
    \"\"\"Two GPUs that are none: a worker each, with the options that dask-cuda has.\"\"\"

    def __init__(self, *, resources, host, threads_per_worker):
        super().__init__(n_workers=2, threads_per_worker=threads_per_worker, host=host,
                         resources=resources, dashboard_address=f"{host}:0")
"""


def test_an_experiment_runs_on_the_workers_of_gpus(tmp_path, store):
    (tmp_path / "dask_cuda.py").write_text(DASK_CUDA)
    (tmp_path / "few.toml").write_text(
        '[train]\nx = "all"\n[test]\nt = "all"\n[[models]]\nkind = "forest"\n'
        "[models.grid]\ntrees = [2]\n"
    )
    done = subprocess.run(
        [sys.executable, str(JOBS / "gpu_local.py"), "few.toml", store.url], cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "dashboard http://127.0.0.1:" in done.stdout
    assert "forest" in done.stdout
