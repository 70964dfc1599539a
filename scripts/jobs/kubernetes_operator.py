"""Score a store on Kubernetes, where the Dask operator is installed (its Helm chart).

    python scripts/jobs/kubernetes_operator.py s3://bucket/mnist.zarr --image IMAGE --print
    python scripts/jobs/kubernetes_operator.py s3://bucket/mnist.zarr --image IMAGE --workers 8

`--print` shows the DaskCluster that is asked for, for `kubectl apply` or a review. The image needs
dskrobust in our version and, for S3, its extra `s3`; `--secret` names the Kubernetes secret with
AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY. `pip install 'dskrobust[cluster,s3]'` here.
"""

import json

import click
from dask.utils import parse_bytes
from dask_kubernetes.operator import KubeCluster, make_cluster_spec
from distributed import Client

import dskrobust as dr


def cluster_spec(name, image, workers, threads, memory, secret, endpoint):
    """Return the DaskCluster: every worker a pod with as much memory as its limit, no swapping."""
    env = {
        "DASK_DISTRIBUTED__WORKER__PROFILE__CYCLE": "60s",
        "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "20",  # pods may be evicted
    }
    if endpoint:
        env["AWS_ENDPOINT_URL"] = endpoint
    asked = {"cpu": str(threads), "memory": str(parse_bytes(memory))}
    spec = make_cluster_spec(
        name=name,
        image=image,
        n_workers=workers,
        env=env,
        resources={"requests": asked, "limits": asked},
        worker_command=["dask", "worker", "--nthreads", str(threads), "--memory-limit", memory],
    )
    (scheduler,) = spec["spec"]["scheduler"]["spec"]["containers"]
    if scheduler["args"][0] == "dask-scheduler":  # a command that distributed has no more
        scheduler["args"][:1] = ["dask", "scheduler"]
    for part in ("scheduler", "worker"):
        for container in spec["spec"][part]["spec"]["containers"]:
            if secret:
                container["envFrom"] = [{"secretRef": {"name": secret}}]
    return spec


@click.command()
@click.argument("store")
@click.option("--image", required=True, help="With dskrobust in it.")
@click.option("--name", default="dskrobust", show_default=True)
@click.option("--workers", default=8, show_default=True, help="Pods.")
@click.option("--threads", default=4, show_default=True, help="Of a worker.")
@click.option("--memory", default="4GiB", show_default=True, help="Of a worker.")
@click.option("--secret", help="Kubernetes secret that holds the store's credentials.")
@click.option("--endpoint", help="URL of an S3 server that is not Amazon's.")
@click.option("--print", "only_print", is_flag=True, help="Show the DaskCluster, create nothing.")
def main(store, image, name, workers, threads, memory, secret, endpoint, only_print):
    spec = cluster_spec(name, image, workers, threads, memory, secret, endpoint)
    if only_print:
        print(json.dumps(spec, indent=2))
        return
    with KubeCluster(custom_cluster_spec=spec) as cluster, Client(cluster) as client:
        client.wait_for_workers(workers)
        print("dashboard", client.dashboard_link)
        scores = dr.sample_robustness(store)
        with dr.live(scores):
            print(scores.write())


if __name__ == "__main__":
    main()
