"""Ray Tune: clusters, resources, workers."""
