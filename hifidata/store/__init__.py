"""The dataset folder on disk: shards, manifests and resume state. Every file is written atomically."""
