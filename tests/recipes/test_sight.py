"""A tower that learns to see: labels fit the frames, the loss falls, names mean what they say."""

import numpy as np
import pytest
import torch

pytest.importorskip("transformers", reason="navigators need transformers: sterna[vlm]")

from sterna.data.ego.store import EgoCamera
from sterna.errors import InputError
from sterna.recipes.sight import Reader, Said, SightConfig, _mirrored, look, sight_loss, teach_sight
from sterna.world.houses.pack import CLASSES
from sterna.world.houses.words import name_vectors
from toy_navigator import SIDE, tiny

CAMERA = EgoCamera(width=SIDE, height=SIDE, hfov=90.0, elevation=1.25)
FEW = SightConfig(seeds=(0, 1), held_out=(500_000, 500_001), views=64, epochs=6, batch_size=16)


def test_frames_and_labels_are_of_the_same_places():
    seen = look(FEW, CAMERA, 0, 2)
    assert seen.frames.shape == (64, SIDE, SIDE, 3) and seen.depth.shape == (64, 4)
    assert np.abs(seen.cells.kinds.sum(-1).astype(int) - 100).max() <= 6
    # The lower half shows the floor, which the upper half does not.
    floor = seen.cells.kinds[:, :, CLASSES.index("floor")].astype(float).mean(0)
    assert floor[2:].min() > 2 * floor[:2].max()
    again = look(FEW, CAMERA, 0, 2)
    assert np.array_equal(seen.frames, again.frames)


def test_a_mirrored_house_is_a_house():
    seen = look(FEW, CAMERA, 0, 2)
    twice = _mirrored(_mirrored(seen, flip=True), flip=True)
    assert np.array_equal(twice.frames, seen.frames) and np.array_equal(twice.depth, seen.depth)
    once = _mirrored(seen, flip=True)
    assert np.array_equal(once.cells.kinds[:, 0], seen.cells.kinds[:, 1])
    assert np.array_equal(once.frames[:, :, 0], seen.frames[:, :, -1])


def test_tokens_that_are_names_are_read_as_them():
    reader = Reader(128)
    tokens = 3 * torch.from_numpy(name_vectors(CLASSES, 128))[None]
    said: Said = reader(tokens)
    names = np.array(CLASSES)[said.kinds[0].argmax(-1).numpy()]
    same = [a == b or name_vectors([a, b], 128).std(0).max() < 1e-6
            for a, b in zip(names, CLASSES, strict=True)]  # fmt: skip
    assert np.mean(same) > 0.97


def test_a_tower_learns_to_see():
    navigator = tiny()
    seen = look(FEW, CAMERA, 0, 2)
    reader = Reader(128)
    with torch.no_grad():
        before = float(sight_loss(reader(navigator.features(seen.frames)), seen))
    words = navigator.core.get_input_embeddings().weight.clone()
    scores = teach_sight(navigator, CAMERA, FEW)
    assert torch.equal(words, navigator.core.get_input_embeddings().weight)
    assert before > 9.0 and scores["cells"] > 0.3 and scores["depth"] < 0.7
    assert {"kinds", "colours", "rooms", "things"} <= scores.keys()


def test_what_cannot_be_learnt_from_is_refused():
    with pytest.raises(InputError, match="must be a range of seeds"):
        SightConfig(seeds=(5, 5))
    with pytest.raises(InputError, match="must not be among"):
        SightConfig(seeds=(0, 10), held_out=(5, 12))
    wide = EgoCamera(width=2 * SIDE, height=SIDE, hfov=90.0, elevation=1.25)
    with pytest.raises(InputError, match=r"frames must be square|cannot be pooled"):
        teach_sight(tiny(history_pool=1), wide, FEW)
