"""The view encoder's recipe: it learns, and encodes whole houses."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sterna.errors import InputError
from sterna.models.encoder import load_encoder
from sterna.recipes.encoder import (
    EncoderConfig,
    average_precision,
    draw_sample,
    encode_house,
    score_encoder,
    train_encoder,
)
from sterna.recipes.makehouses import VIEWS_OF
from sterna.world.houses import make_house
from sterna.world.houses.ground import ground_of
from sterna.world.houses.oracle import Oracle
from sterna.world.houses.viewpoints import place_viewpoints
from sterna.world.houses.words import CONCEPTS, GROUPS, name_vectors

TINY = EncoderConfig(
    seeds=(0, 1), held_out=(7, 8), views=96, epochs=30, batch_size=16, side=32, width=16
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_encoder(TINY, tmp_path_factory.mktemp("encoder"))


def test_it_learns_what_it_was_shown(trained: Path) -> None:
    encoder = load_encoder(trained)
    scores = score_encoder(encoder, draw_sample(TINY, 0))
    for group in GROUPS:
        assert scores[group]["words"] > 2 * scores[group]["base"], group
        assert scores[group]["vectors"] > 1.5 * scores[group]["base"], group
    notes = json.loads((trained / "config.json").read_text())["notes"]
    assert notes["scores"]["views"] == 96 and notes["seconds"]["training"] > 0
    assert notes["settings"]["side"] == 32


def test_a_house_becomes_features(trained: Path) -> None:
    house = make_house(3)
    points = place_viewpoints(house, ground_of(house))
    encoder, places = load_encoder(trained), points.graph.positions
    features = encode_house(house, places, encoder)
    level = encode_house(house, places, encoder, views=VIEWS_OF["level"])
    np.testing.assert_allclose(level, features[:, 12:24], atol=1e-5)
    assert features.shape == (len(points.graph), 36, encoder.size)
    assert np.isfinite(features).all()
    np.testing.assert_array_equal(features, encode_house(house, places, encoder, threads=2))
    best = encode_house(house, places, Oracle(encoder.base, side=32))
    assert best.shape == features.shape
    _oracle_names_its_room(house.rooms[points.room[0]].kind, best[0])


def _oracle_names_its_room(kind: str, views: np.ndarray) -> None:
    rooms = CONCEPTS[GROUPS["rooms"]]
    read = views[:, :128] @ name_vectors(rooms).T
    assert kind in [rooms[i] for i in np.argsort(-read.mean(0))[:3]]


def test_samples_are_those_of_their_seed() -> None:
    small = replace(TINY, views=6)
    one, two = draw_sample(small, 2), draw_sample(replace(small, threads=2), 2)
    np.testing.assert_array_equal(one.pictures, two.pictures)
    np.testing.assert_array_equal(one.shown, two.shown)
    assert one.shown.shape == (6, len(CONCEPTS)) and one.cells.kinds.shape[1] == 16
    assert (draw_sample(replace(small, seed=1), 2).pictures != one.pictures).any()


def test_average_precision_by_hand() -> None:
    truth = np.array([True, False, True, False])
    assert average_precision(np.array([4.0, 3, 2, 1], np.float32), truth) == pytest.approx(5 / 6)
    assert average_precision(np.array([1.0, 2, 3, 4], np.float32), truth) == pytest.approx(
        (1 / 2 + 2 / 4) / 2
    )


@pytest.mark.parametrize(
    "wrong",
    [{"seeds": (3, 3)}, {"held_out": (10, 20)}, {"views": 0}, {"epochs": 0}, {"threads": 0}],
)
def test_impossible_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(InputError, match="encoder:"):
        EncoderConfig(**wrong)  # type: ignore[arg-type]
