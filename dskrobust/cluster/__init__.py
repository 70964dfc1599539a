"""All that is known of schedulers and workers: options, local clusters, connections, checks."""
