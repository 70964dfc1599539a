"""A run over pairs of rows on Dask: sources, plan, tasks, graph, lazy arrays."""
