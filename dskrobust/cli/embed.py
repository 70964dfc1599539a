"""The command `embed`: what a model makes of every row, as a new store."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack
from typing import Any

import click

from .data import describe
from .options import (
    MOST_SEED,
    NewStore,
    cluster_options,
    local_gpu_worker,
    opened_store,
    store_argument,
    where_options,
)


@click.command()
@store_argument
@click.option(
    "--model",
    required=True,
    metavar="MODEL",
    help="cnn (the paper's small network, trained on the group train), torchvision:NAME, "
    "timm:NAME, torch:MODULE.CLASS, FILE.onnx, or MODULE:FUNCTION of an array.",
)
@click.option(
    "--layer",
    metavar="NAME",
    help="Module of a network whose output is taken, or output of an ONNX model; the features "
    "before the classifier (torchvision, timm) or the first output by default.",
)
@click.option(
    "--weights",
    metavar="FILE|NAME|random",
    help="File of weights, name of weights of torchvision, or random; what the library has in its "
    "cache by default. Nothing is downloaded.",
)
@click.option(
    "--seed",
    type=click.IntRange(0, MOST_SEED),
    help="Of random weights, and of the training of cnn (0).",
)
@click.option("--epochs", type=click.IntRange(1, 1_000_000), help="For how long cnn trains (20).")
@click.option(
    "--batch-rows",
    type=click.IntRange(1, 1_000_000),
    default=64,
    show_default=True,
    metavar="N",
    help="Rows that the model gets at once.",
)
@click.option(
    "--device",
    type=click.Choice(["auto", "gpu", "cpu"]),
    default="auto",
    show_default=True,
    help="Where models compute; auto is the GPU where all workers see one.",
)
@click.option("--name", help="What the data set is called in titles; as the store by default.")
@click.option(
    "--anonymous",
    is_flag=True,
    help="Leave folders, hosts and users out of the new store's provenance.",
)
@click.option("--out", "-o", required=True, type=NewStore(), metavar="STORE", help="The new store.")
@click.option("--overwrite", is_flag=True, help="Replace a store that is there already.")
@where_options
def embed(store: str, model: str, out: str, overwrite: bool, **options: Any) -> None:
    """Write what a model makes of every row into a new store, with labels, split and ids.

    Images are given as float32 (b, C, H, W) in [0, 1], with the model's own preprocessing after
    that; rows of other stores as (b, d). Modules of your own are looked for in this folder too.

    \b
    Examples:
      dskrobust embed mnist.zarr --model cnn --out mnist-cnn.zarr
      dskrobust embed photos.zarr --model torchvision:resnet18 --out photos-resnet18.zarr
      dskrobust embed photos.zarr --model timm:vit_small_patch14_dinov2 --out photos-dino.zarr
      dskrobust embed own.zarr --model torch:nets.Encoder --weights encoder.pt --out own-emb.zarr
      dskrobust embed own.zarr --model nets:pooled --batch-rows 256 --out own-emb.zarr
    """
    from ..embedding import EmbeddingOptions
    from ..embedding import embed as write_embedding
    from ..embedding.naming import model_of
    from ..show import terminal
    from ..store import check_free
    from .run_view import connected

    names = ("layer", "weights", "seed", "epochs", "batch_rows", "device", "name", "anonymous")
    how = EmbeddingOptions(**{name: options.pop(name) for name in names})
    cluster = cluster_options(**options)
    if os.getcwd() not in sys.path:  # last, so that it hides nothing; local workers get it too
        sys.path.append(os.getcwd())
    opened = opened_store(store)
    check_free(out, overwrite=overwrite)
    checked = model_of(model, how).check(opened)  # before a cluster is started for it
    with ExitStack() as stack:
        if how.device != "cpu" and not cluster.is_remote and checked.sees_gpu():
            cluster = local_gpu_worker(stack, cluster)
        client = stack.enter_context(connected(cluster))
        bar = stack.enter_context(terminal.progress(f"Embedding {store}", opened.rows))
        made = write_embedding(
            opened, model, out, how, client=client, overwrite=overwrite, progress=bar.add
        )
    describe(made)
    terminal.fact("store", f"{out}  ({terminal.clock(bar.elapsed)})")
    terminal.fact("next", f"dskrobust compute {out}")
