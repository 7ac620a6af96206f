from __future__ import annotations

import pytest

from hifidata.models.attributes.name_gender import NameGender, first_names_of


@pytest.fixture(scope="module")
def names() -> NameGender:
    return NameGender()


@pytest.mark.parametrize(
    ("name", "gender"),
    [
        ("Maria Sharapova", "female"),
        ("barack_obama", "male"),
        ("Obama, Barack", "male"),
        ("SERENA WILLIAMS", "female"),
        ("Tom Hanks 2", "male"),
        ("roger-federer", "male"),
        ("Jean-Claude Van Damme", "male"),
        ("Björk", "female"),
        ("J. Robert Oppenheimer", "male"),
    ],
)
def test_common_spellings_of_a_name_are_understood(names: NameGender, name: str, gender: str) -> None:
    assert names.gender_of(name) == gender


@pytest.mark.parametrize(
    "name",
    ["Kim Kardashian", "Robin Wright", "virat_kohli", "nm0385722", "J. Smith", "J. K. Rowling", "李娜", "", " , ", "7"],
)
def test_doubtful_and_unknown_names_get_no_gender(names: NameGender, name: str) -> None:
    assert names.gender_of(name) is None


def test_a_family_name_is_never_taken_for_a_first_name() -> None:
    assert first_names_of("Kelly, Grace") == ["Grace"]
    assert first_names_of("J. Grace") == []
    assert first_names_of("Xyzzy Grace") == ["Xyzzy"]
