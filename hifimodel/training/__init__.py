"""Training the face refiner and HiFi-Net (the paper's sections 3.3 and 4.1).

The flow, one file each: ``options`` (what a run is asked for, and whether it fits the shards) -> ``frozen`` (a batch
through the frozen encoders) -> ``draws`` (noise and timesteps) -> ``step`` (the loss of a batch) -> ``loop`` (many of them),
which keeps ``checkpoint``, ``metrics``, ``samples`` and ``plot`` up to date. ``python -m hifimodel.train`` is the way in.
"""
