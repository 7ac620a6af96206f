"""HiFi-Portrait: training on shards of hifidata, and portraits from one to six photos.

The paper's parts: ``nets.face_encoder`` and ``nets.face_refiner`` (section 3.2, Eq. 2-4), ``nets.hifinet`` (Eq. 5 and appendix
B), ``losses`` (Eq. 6-8). ``config`` names every choice that the paper leaves open; ``nets.loading`` builds the model.
"""
