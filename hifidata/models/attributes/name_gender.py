"""Gender from a person's first name, where a recipe allows it, with the ``gender-guesser`` name list."""

from __future__ import annotations

import re

from gender_guesser.detector import Detector

_UNAMBIGUOUS = {"female": "female", "male": "male"}


class NameGender:
    """Looks first names up. Reads its list of names on construction (about 0.3 s), so build one per worker."""

    def __init__(self) -> None:
        self._detector = Detector(case_sensitive=False)

    def gender_of(self, name: str) -> str | None:
        """``female``, ``male``, or None where the name is unknown or is given to both.

        Names that the list calls "mostly" female or male count as ambiguous: a guess is not worth a wrong label.

        Args:
            name: a full name in any of the forms "Barack Obama", "barack_obama", "Obama, Barack", "Barack Obama 2".
        """
        for first_name in first_names_of(name):
            if answer := _UNAMBIGUOUS.get(self._detector.get_gender(first_name)):
                return answer
        return None


def first_names_of(name: str) -> list[str]:
    """What to look up, best first: the first name and, where it has a hyphen, its first part.

    Initials and numbers are no names, and a last word after initials is the family name: "J. Robert Smith" gives Robert,
    "J. Smith" and "nm0385722" nothing, "Jean-Luc" Jean-Luc and Jean, "anna-smith" anna-smith and anna.
    """
    given = name.partition(",")[2] or name
    words = [word for word in re.split(r"[\s_.]+", given) if word and not word.isdigit()]
    starts_with_initial = len(words) > 1 and len(words[0]) == 1
    candidates = words[1:-1] if starts_with_initial else words[:1]
    first_name = next((word for word in candidates if len(word) > 1 and word.replace("-", "").isalpha()), None)
    return [] if first_name is None else list(dict.fromkeys([first_name, first_name.partition("-")[0]]))
