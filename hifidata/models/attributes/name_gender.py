"""Gender from first names, with the name list of the ``gender-guesser`` package."""

from __future__ import annotations

import re

from gender_guesser.detector import Detector

_UNAMBIGUOUS = {"female": "female", "male": "male"}


class NameGender:
    """Looks up first names. The constructor reads the name list (about 0.3 s), so construct it once per worker."""

    def __init__(self) -> None:
        self._detector = Detector(case_sensitive=False)

    def gender_of(self, name: str) -> str | None:
        """Return ``female``, ``male``, or None if the name is unknown or ambiguous.

        Names that the list marks as "mostly" female or male count as ambiguous, to avoid wrong labels.

        Args:
            name: a full name in any of the forms "Barack Obama", "barack_obama", "Obama, Barack", "Barack Obama 2".
        """
        for first_name in first_names_of(name):
            if answer := _UNAMBIGUOUS.get(self._detector.get_gender(first_name)):
                return answer
        return None


def first_names_of(name: str) -> list[str]:
    """List the first names to look up, best first: the first name, and its first part if it has a hyphen.

    Initials and numbers are not names. The last word after an initial is the family name. Examples: "J. Robert Smith" gives
    Robert; "J. Smith" and "nm0385722" give nothing; "Jean-Luc" gives Jean-Luc and Jean; "anna-smith" gives anna-smith and
    anna.
    """
    given = name.partition(",")[2] or name
    words = [word for word in re.split(r"[\s_.]+", given) if word and not word.isdigit()]
    starts_with_initial = len(words) > 1 and len(words[0]) == 1
    candidates = words[1:-1] if starts_with_initial else words[:1]
    first_name = next((word for word in candidates if len(word) > 1 and word.replace("-", "").isalpha()), None)
    return [] if first_name is None else list(dict.fromkeys([first_name, first_name.partition("-")[0]]))
