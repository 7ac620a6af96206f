"""Model files: the catalogue, their places on this machine, and their download.

Models use ``find.find_weight``; ``catalogue`` is the table to read first.
"""
