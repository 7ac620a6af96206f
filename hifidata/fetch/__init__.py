"""From a URL to verified bytes: address guard, robots, politeness, client. Knows nothing of stages or manifests."""
