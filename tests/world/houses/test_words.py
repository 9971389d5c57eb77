"""Word vectors of houses, and features in which a policy can find words."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from sterna.errors import InputError
from sterna.world.houses.language.lexicon import NOUNS
from sterna.world.houses.language.lexicon import ROOMS as ROOM_NOUNS
from sterna.world.houses.pack import CLASSES
from sterna.world.houses.seen import COLOUR_NAMES, ROOMS, Cells
from sterna.world.houses.words import (
    CONCEPTS,
    GROUPS,
    KNOWN,
    THING_CLASSES,
    THINGS,
    name_vectors,
    shares,
    shown,
    view_features,
    word_vectors,
)


def test_visible_words_are_nearly_orthogonal() -> None:
    table = word_vectors(KNOWN).astype(np.float64)
    products = table @ table.T - np.eye(len(KNOWN))
    assert np.abs(products[:128, :128]).max() < 1e-6
    assert np.abs(products).max() <= 0.125 + 1e-6
    wide = word_vectors(KNOWN, 256).astype(np.float64)
    assert np.abs(wide @ wide.T - np.eye(len(KNOWN))).max() < 1e-6


def test_words_have_the_same_vectors_on_every_machine() -> None:
    table = word_vectors(["sofa", "red", "bedroom", "walk", "past"])
    digest = hashlib.sha256(table.tobytes()).hexdigest()
    assert digest[:16] == "44888b3c1d25e4e7"


def test_plurals_case_others_and_special_tokens() -> None:
    chair, chairs, loud, walk, pad = word_vectors(["chair", "chairs", "CHAIR", "walk", "[PAD]"])
    np.testing.assert_array_equal(chair, chairs)
    np.testing.assert_array_equal(chair, loud)
    np.testing.assert_array_equal(*word_vectors(["bench", "benches"]))
    assert np.linalg.norm(chair) == pytest.approx(1, abs=1e-6)
    assert np.linalg.norm(walk) == pytest.approx(0.5, abs=1e-6)
    assert not pad.any()
    others = word_vectors([f"word{i}" for i in range(50)])
    assert np.abs(others @ word_vectors(KNOWN).T).max() < 0.25
    for size in (0, 64, 100, 129):
        with pytest.raises(InputError, match="power of two"):
            word_vectors(["chair"], size)


def test_other_words_for_what_is_visible_have_its_vector() -> None:
    """Instructions say couch, hallway and nightstand; views show a sofa, a corridor and so on."""
    for word, name in (
        ("couch", "sofa"), ("hallway", "corridor"), ("nightstand", "night table"),
        ("TV", "television"), ("painting", "picture"), ("shelves", "shelf"), ("study", "office"),
        ("paintings", "picture"),
    ):  # fmt: skip
        np.testing.assert_array_equal(word_vectors([word])[0], name_vectors([name])[0])
    for kind, nouns in {**NOUNS, **ROOM_NOUNS}.items():
        for noun in (noun for noun in nouns if " " not in noun):
            assert name_vectors([kind])[0] @ word_vectors([noun])[0] > 0.49, (kind, noun)


def test_names_are_sums_of_their_words() -> None:
    table, dining, coffee = name_vectors(["table", "dining table", "coffee table"])
    assert table @ dining == pytest.approx(0.5**0.5, abs=1e-6)
    assert dining @ coffee == pytest.approx(0.5, abs=1e-6)
    drawers, chest = name_vectors(["chest of drawers", "chest drawers"])
    np.testing.assert_array_equal(drawers, chest)


def test_words_are_found_in_features() -> None:
    rng = np.random.default_rng(0)
    truth = rng.random((200, len(CONCEPTS))) < 0.04
    base = np.full(len(CONCEPTS), 0.04, np.float32)
    features = view_features(truth.astype(np.float32), base)
    assert features.shape == (200, 256) and features.dtype == np.float32
    names = name_vectors(CONCEPTS)
    read = np.concatenate(
        [features[:, :128] @ names[: GROUPS["rooms"].stop].T,
         features[:, 128:] @ names[GROUPS["colours"]].T], axis=1
    )  # fmt: skip
    for concept in range(len(CONCEPTS)):
        seen = truth[:, concept]
        if seen.any():
            assert read[seen, concept].mean() > read[~seen, concept].mean() + 0.1
    empty = view_features(np.zeros((1, len(CONCEPTS)), np.float32), base)
    assert not empty.any()
    assert (np.linalg.norm(features[:, :128], axis=1) < 1).all()


def test_what_is_rare_counts_more() -> None:
    base = np.full(len(CONCEPTS), 0.3, np.float32)
    base[3] = 0.003
    both = np.zeros((1, len(CONCEPTS)), np.float32)
    both[0, [2, 3]] = 1
    common, rare = (view_features(both, base)[0, :128] @ name_vectors(THINGS[2:4]).T).tolist()
    assert rare > 1.5 * common > 0


def test_shares_and_what_is_shown() -> None:
    kinds = np.zeros((1, 16, len(CLASSES)), np.uint8)
    colours = np.zeros((1, 16, len(COLOUR_NAMES) + 1), np.uint8)
    rooms = np.zeros((1, 16, len(ROOMS) + 1), np.uint8)
    kinds[..., 0], colours[..., -1], rooms[..., -1] = 100, 100, 100
    sofa, red = CLASSES.index("sofa"), COLOUR_NAMES.index("red")
    kinds[0, 5, 0], kinds[0, 5, sofa] = 50, 50  # a cell of the second column
    colours[0, 5, -1], colours[0, 5, red] = 50, 50
    rooms[0, :8, -1], rooms[0, :8, 2] = 0, 100
    cells = Cells(kinds=kinds, colours=colours, rooms=rooms)
    share = shares(cells)
    assert share.shape == (1, len(CONCEPTS))
    place = int(np.flatnonzero(sofa == THING_CLASSES)[0])
    weight = (0.5 + 0.5 * np.cos(np.pi / 4)) / 2 / 4
    assert share[0, place] == pytest.approx(0.5 * weight, rel=1e-5)
    assert share[0, GROUPS["rooms"]].sum() == pytest.approx(0.5, rel=1e-5)
    found = {CONCEPTS[i] for i in np.flatnonzero(shown(cells)[0])}
    assert found == {"sofa", "red", "kitchen"}
