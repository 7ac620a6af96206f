"""Fetch verified bytes from URLs: address guard, robots.txt, throttle, client. Independent of stages and manifests."""
