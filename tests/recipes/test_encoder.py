"""The view encoder's recipe: it learns, and encodes whole houses."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sterna.errors import InputError
from sterna.models.encoder import SHIPPED, load_encoder
from sterna.recipes import encoder as recipe
from sterna.recipes.encoder import (
    EncoderConfig,
    average_precision,
    encode_house,
    score_encoder,
    train_encoder,
)
from sterna.recipes.makehouses import HELD_OUT, UNSEEN, VIEWS_OF
from sterna.recipes.viewsamples import draw_sample, draw_samples
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


def test_many_processes_draw_what_one_draws(tmp_path: Path) -> None:
    small = replace(TINY, views=6)
    one = draw_samples(small, (2, 4), "pictures")
    for _ in range(2):  # drawn, then read
        two = draw_samples(small, (2, 4), "pictures", workers=2, keep=tmp_path)
        np.testing.assert_array_equal(one.pictures, two.pictures)
        np.testing.assert_array_equal(one.shown, two.shown)
        np.testing.assert_array_equal(one.cells.kinds, two.cells.kinds)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["2.npz", "3.npz"]


def test_a_killed_training_goes_on(trained: Path, tmp_path: Path) -> None:
    """Stopped after an epoch, then the same command: the same weights."""
    short = replace(TINY, epochs=3)
    whole = load_encoder(train_encoder(short, tmp_path / "whole")).digest
    real, calls = recipe.save_state, []

    def save_and_die(*given: Any) -> None:
        real(*given)
        calls.append(given)
        if len(calls) == 2:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recipe, "save_state", save_and_die)
        with pytest.raises(KeyboardInterrupt):
            train_encoder(short, tmp_path / "broken")
    with pytest.raises(InputError, match="begun there with other settings"):
        train_encoder(TINY, tmp_path / "broken")
    assert load_encoder(train_encoder(short, tmp_path / "broken")).digest == whole
    assert not (tmp_path / "broken" / ".begun").exists()


def test_the_shipped_one_knows_houses_that_nobody_trained_on() -> None:
    """Better than a random order by far, on a house of the unseen seeds."""
    encoder = load_encoder(SHIPPED)
    scores = score_encoder(encoder, draw_sample(EncoderConfig(views=300), UNSEEN + 77))
    for group in GROUPS:
        assert scores[group]["words"] > 4 * scores[group]["base"], group
    settings = json.loads((SHIPPED / "config.json").read_text())["notes"]["settings"]
    first, last = settings["seeds"]
    assert UNSEEN + 200_000 < first < last < HELD_OUT[0], "no folder's houses"


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
