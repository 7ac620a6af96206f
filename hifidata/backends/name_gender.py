"""Gender from a person's first name, where a recipe allows it, with the ``gender-guesser`` name list."""

from __future__ import annotations

import re

from gender_guesser.detector import Detector

_UNAMBIGUOUS = {"female": "female", "male": "male"}


class NameGender:
    """Looks first names up. Reads its list of names on construction (about 0.1 s), so build one per worker."""

    def __init__(self) -> None:
        self._detector = Detector(case_sensitive=False)

    def gender_of(self, name: str) -> str | None:
        """``female``, ``male``, or None where the name is unknown or is given to both.

        Names that the list calls "mostly" female or male count as ambiguous: a guess is not worth a wrong label.

        Args:
            name: a full name in any of the forms "Barack Obama", "barack_obama", "Obama, Barack", "Barack Obama 2".
        """
        first_name = first_name_of(name)
        return _UNAMBIGUOUS.get(self._detector.get_gender(first_name)) if first_name else None


def first_name_of(name: str) -> str | None:
    """The first word of letters with at least two of them ("John R. Smith": John), or None ("nm0385722")."""
    given = name.partition(",")[2] or name
    words = re.split(r"[\s_.]+", given)
    return next((word for word in words if len(word) > 1 and word.replace("-", "").replace("'", "").isalpha()), None)
