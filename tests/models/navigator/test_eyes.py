"""The convolutional tower: its pictures, its place in a navigator, its way through a folder."""

import numpy as np
import pytest
import torch

from sterna.data.ego.store import EgoCamera
from sterna.errors import InputError
from sterna.models.encoder import SHIPPED, load_encoder
from sterna.models.navigator.eyes import Eyes, picture
from sterna.models.navigator.folder import load, save
from sterna.models.navigator.houseeyes import PARTS, HouseEyes
from sterna.models.navigator.pixels import patches
from sterna.recipes.sft import take_tower
from sterna.recipes.sight import SightConfig, look
from sterna.world.houses.pack import CLASSES
from sterna.world.houses.scene import STRUCTURE
from sterna.world.houses.words import name_vectors
from sterna.world.talk.images import patch_grid
from toy_navigator import FAMILIES, SIDE, samples, tiny

FRAMES = np.random.default_rng(0).integers(0, 256, (3, SIDE, SIDE, 3), dtype=np.uint8)


def test_patches_become_the_picture_they_were_cut_from():
    images = tiny().processor.images
    grid = patch_grid(SIDE, SIDE, images)
    found = picture(patches(FRAMES, images), grid, images.patch, images.merge)
    wanted = torch.from_numpy(FRAMES).permute(0, 3, 1, 2).float() / 127.5 - 1
    torch.testing.assert_close(found, wanted, atol=1e-6, rtol=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_eyes_are_read_as_they_were_written(family, tmp_path):
    navigator = tiny(family, tower="conv", vision_width=16)
    assert isinstance(navigator.tower, Eyes)
    seen = navigator.features(FRAMES)
    assert seen.shape == (3, *navigator.token_shape((SIDE, SIDE)))
    save(navigator, tmp_path / "kept")
    kept = load(tmp_path / "kept")
    assert isinstance(kept.tower, Eyes) and torch.equal(kept.features(FRAMES), seen)
    given, frames = samples(2)
    told = [n.generate(n.batch(given, (SIDE, SIDE), frames=frames)) for n in (navigator, kept)]
    assert told[0] == told[1]


def test_another_navigator_takes_its_tower(tmp_path):
    taught = tiny(tower="conv", vision_width=16, seed=1)
    save(taught, tmp_path / "sight")
    fresh = tiny(tower="conv", vision_width=16, layers=1, history_pool=1)
    assert not torch.equal(fresh.features(FRAMES), taught.features(FRAMES))
    take_tower(fresh, tmp_path / "sight")
    assert torch.equal(fresh.features(FRAMES), taught.features(FRAMES))
    with pytest.raises(InputError, match="does not fit"):
        take_tower(tiny(tower="conv", vision_width=32), tmp_path / "sight")
    with pytest.raises(InputError, match="other sizes"):
        take_tower(tiny(tower="conv", vision_width=16, patch=4), tmp_path / "sight")


def test_heads_that_are_alike_look_for_what_resembles():
    """Before anything is learnt a word attends to its like more than to the rest."""
    for alike in (False, True):
        layer = tiny(alike=alike).core.model.language_model.layers[0].self_attn
        x = torch.randn(64, 128, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            query, key = layer.q_proj(x)[:, :32], layer.k_proj(x)[:, :32]
        scores = query @ key.T
        gap = float((scores.diagonal().mean() - scores.mean()) / scores.std())
        assert (gap > 2) == alike


def test_patches_that_cannot_be_halved_are_refused():
    with pytest.raises(InputError, match="patch of 2, 4, 8 or 16"):
        Eyes(patch=7, merge=2, width=16, depth=1, out=32)


def test_the_houses_eyes_see_what_the_view_encoder_sees():
    """Cell by cell at the encoder's own size; what a cell is sure to be, its token names."""
    navigator = tiny(tower="house", merge=1, side=48, history_pool=1)
    eyes = navigator.tower.requires_grad_(False)
    camera = EgoCamera(width=48, height=48, hfov=60.0, elevation=1.25)
    frames = look(SightConfig(views=48), camera, 500_000, 6).frames
    wanted = load_encoder(SHIPPED).net(torch.from_numpy(frames))
    pictures = torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 127.5 - 1
    found = eyes.cells(pictures)[1].flatten(1, 2).split(PARTS, -1)
    for own, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(own, theirs, atol=1e-3, rtol=1e-4)
    kinds, names = wanted.kinds.argmax(-1), torch.from_numpy(name_vectors(CLASSES, 128))
    sure = (wanted.kinds.softmax(-1).amax(-1) > 0.8) & (kinds >= len(STRUCTURE))
    said = (navigator.features(frames) @ names.T)[..., len(STRUCTURE) :].argmax(-1)
    right = (names[len(STRUCTURE) :][said] * names[kinds]).sum(-1) > 0.99
    assert sure.sum() > 20 and right[sure].float().mean() > 0.8


@pytest.mark.parametrize("family", FAMILIES)
def test_the_houses_eyes_are_read_as_they_were_written(family, tmp_path):
    navigator = tiny(family, tower="house", merge=1)
    save(navigator, tmp_path / "kept")
    kept = load(tmp_path / "kept")
    assert isinstance(kept.tower, HouseEyes)
    assert torch.equal(kept.features(FRAMES), navigator.features(FRAMES))


def test_tokens_of_the_houses_eyes_say_where_they_lie():
    """Black frames look alike all over, so that what differs inside is where a token lies."""
    eyes = tiny(tower="house", merge=1).tower
    assert isinstance(eyes, HouseEyes)
    eyes.names.weight.data.zero_()
    tokens = eyes(torch.zeros(1, 16, 192), (4, 4))[0].detach()
    apart = torch.cdist(tokens, tokens) + torch.eye(16)
    assert apart.min() > 0.1
    with pytest.raises(InputError, match="patches of 8 pixels"):
        HouseEyes(patch=4, merge=1, width=16, out=128)
