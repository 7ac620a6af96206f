"""Training the face refiner and HiFi-Net (the paper's sections 3.3 and 4.1).

The flow, one file each: ``options`` (settings of a run, and whether they match the shards) -> ``frozen`` (a batch through the
frozen encoders) -> ``draws`` (noise and timesteps) -> ``step`` (the loss of a batch) -> ``loop`` (all steps). The loop writes
``checkpoint``, ``metrics``, ``samples`` and ``plot``. The command is ``python -m hifimodel.train``.
"""
