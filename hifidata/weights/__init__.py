"""Model files: the catalogue, where they lie on this machine, and how they get there.

``find.find`` is what models use; ``catalogue`` is the table to read first.
"""
