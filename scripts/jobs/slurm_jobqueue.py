"""Score a store on SLURM through dask-jobqueue: every worker is a job of its own.

    python scripts/jobs/slurm_jobqueue.py STORE --jobs 8 --threads 4 --memory 4GiB --print
    python scripts/jobs/slurm_jobqueue.py STORE --jobs 8 --threads 4 --memory 4GiB

`--print` shows the job script and submits nothing. Run the second command where it may wait, such
as in tmux on a login node: jobs that SLURM ends are replaced, finished tiles are kept in the store.
`pip install 'dskrobust[cluster]'`; PBS, SGE, LSF, OAR and HTCondor have clusters of the same kind.
"""

import click
import dask
from dask_jobqueue import SLURMCluster
from distributed import Client

import dskrobust as dr
from dskrobust.cluster.local import CONFIG


@click.command()
@click.argument("store")
@click.option("--jobs", default=8, show_default=True, help="Workers, each a job.")
@click.option("--threads", default=4, show_default=True, help="Of a worker.")
@click.option("--memory", default="4GiB", show_default=True, help="Of a worker.")
@click.option("--walltime", default="04:00:00", show_default=True)
@click.option("--queue", help="SLURM's partition.")
@click.option("--interface", help="Network interface that nodes share, such as ib0.")
@click.option("--print", "only_print", is_flag=True, help="Show the job script, submit nothing.")
def main(store, jobs, threads, memory, walltime, queue, interface, only_print):
    dask.config.set(CONFIG)
    with SLURMCluster(
        cores=threads,
        processes=1,  # threads of one process share what a tile reads
        memory=memory,
        walltime=walltime,
        queue=queue,
        interface=interface,
        local_directory="$TMPDIR",
        death_timeout=120,
        job_script_prologue=["export DASK_DISTRIBUTED__WORKER__PROFILE__CYCLE=60s"],
        scheduler_options={"dashboard_address": "127.0.0.1:0"},
    ) as cluster:
        if only_print:
            print(cluster.job_script())
            return
        cluster.adapt(minimum_jobs=jobs, maximum_jobs=jobs)  # also replaces jobs that ended
        with Client(cluster) as client:
            client.wait_for_workers(jobs)  # the plan is for the workers that are there
            print("dashboard", client.dashboard_link)
            scores = dr.sample_robustness(store)
            with dr.live(scores):
                print(scores.write())


if __name__ == "__main__":
    main()
