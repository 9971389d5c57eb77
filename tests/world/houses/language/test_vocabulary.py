"""The list of words holds every word that is said."""

import re

import pytest

from sterna.world.houses import make_house
from sterna.world.houses.ground import ground_of
from sterna.world.houses.language import HouseMap, make_episodes, make_errands
from sterna.world.houses.language.vocabulary import vocabulary
from sterna.world.houses.viewpoints import place_viewpoints


def test_it_is_sorted_and_in_lower_case():
    words = vocabulary()
    assert list(words) == sorted(set(words)) and all(word == word.lower() for word in words)
    assert 300 < len(words) < 500


@pytest.mark.parametrize("seed", range(6))
def test_every_word_said_is_in_it(seed):
    house, words = make_house(seed), set(vocabulary())
    known = HouseMap(house, place_viewpoints(house, ground_of(house)))
    for one in (*make_episodes(known, 20), *make_errands(known, 40)):
        for text in one.instructions:
            assert set(re.findall(r"\w+|[^\w\s]+", text.lower())) <= words, text
