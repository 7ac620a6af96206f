"""The demo dataset: its photos, its server, and the overview image of the demo training."""
