"""Model files: the catalogue, where they lie on this machine, and how they get there.

``find`` is what backends use; ``catalogue`` is the table to read first.
"""

from __future__ import annotations

from hifidata.weights.locate import find
from hifidata.weights.places import searching

__all__ = ["find", "searching"]
