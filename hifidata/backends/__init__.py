"""One file per model behind a stage; the only place that imports model libraries."""
