"""The demo dataset: its photos, its server, and the overview picture of the demo training."""
