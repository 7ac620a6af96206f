"""What lies on disk: shards, manifests, and the rule that nothing is ever seen half-written."""
