"""HiFi-Portrait: train it on the shards that hifidata writes, and generate portraits from one to six photos.

The paper's parts, one file each: ``face_encoder`` and ``face_refiner`` (section 3.2, Eq. 2-4), ``hifinet`` (Eq. 5 and
appendix B), ``losses`` (Eq. 6-8). ``config`` names every choice the paper leaves open; ``build`` puts the parts together.
"""
