"""The small vision-language-action policy and its folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from sterna.errors import InputError
from sterna.files import read_json, write_json
from sterna.models.vla import PAD, UNKNOWN, Vla, VlaBatch, VlaConfig, blocks, chunk_loss
from sterna.models.vla_folder import from_pretrained, save_pretrained
from sterna.models.weights import WeightsError

CONFIG = VlaConfig(
    words=("close", "door", "open", "the"), image_size=48, depth=2, width=32, heads=2, ffn=64
)


def make_batch(sentence: str = "open the door", rows: int = 2) -> VlaBatch:
    made = torch.Generator().manual_seed(3)
    return VlaBatch(
        images=torch.randint(0, 256, (rows, 1, 48, 48, 3), generator=made, dtype=torch.uint8),
        words=CONFIG.read([sentence] * rows),
        proprio=torch.randn(rows, 4, generator=made),
        recent=torch.zeros(rows, 32),
    )


@pytest.fixture
def model() -> Vla:
    torch.manual_seed(0)
    return Vla(CONFIG).eval()


@torch.no_grad()
def test_shapes_and_what_matters(model: Vla) -> None:
    batch = make_batch()
    out = model(batch)
    assert out.shape == (2, 8, 4) and CONFIG.tokens == 2 + 1 + 4 + 1
    assert not torch.equal(out, model(make_batch("close the door")))
    for name, value in (("images", 255 - batch.images), ("proprio", batch.proprio + 1)):
        assert not torch.equal(out, model(replace(batch, **{name: value}))), name
    assert torch.equal(out, model(replace(batch, recent=batch.recent + 1)))


@torch.no_grad()
def test_tokens_never_look_ahead(model: Vla) -> None:
    tokens = model.prepare(make_batch())
    changed = tokens.clone()
    changed[:, 5:] += 1.0
    layer = model.layers[0]
    before, after = layer(tokens, model.bias), layer(changed, model.bias)
    assert torch.allclose(before[:, :5], after[:, :5], atol=1e-6)
    assert not torch.allclose(before[:, 5:], after[:, 5:], atol=1e-3)


@torch.no_grad()
def test_two_cameras_are_twice_the_tokens() -> None:
    config = replace(CONFIG, cameras=2)
    model = Vla(config).eval()
    batch = make_batch()
    two = replace(batch, images=torch.cat([batch.images, batch.images.flip(2)], 1))
    assert config.image_tokens == 8 and model(two).shape == (2, 8, 4)
    # Kernels for twice the rows may sum in another order.
    torch.testing.assert_close(model.stem(two.images)[:, :4], model.stem(batch.images))


def test_blocks_keep_neighbours_together() -> None:
    x = torch.arange(2 * 6 * 6 * 1).view(2, 6, 6, 1)
    found = blocks(x, 3)
    assert found.shape == (2, 4, 9)
    assert found[1, 2].tolist() == x[1, 3:6, 0:3, 0].flatten().tolist()


def test_words() -> None:
    found = CONFIG.read(["Open the door", "open a window"])
    assert found[0, :4].tolist() == [4, 5, 3, PAD] and found[1, :3].tolist() == [4, UNKNOWN, 1]
    assert CONFIG.read(["the " * 40]).shape == (1, 12)
    with pytest.raises(InputError, match="empty sentence"):
        CONFIG.read([" "])


@torch.no_grad()
def test_padding_of_a_sentence_changes_nothing(model: Vla) -> None:
    words = CONFIG.read(["open the door"])
    longer = torch.cat([words[:, :3], torch.full((1, 9), PAD)], 1)
    assert torch.allclose(model.sentence(words[:, :3]), model.sentence(longer), atol=1e-6)


def test_the_loss_is_the_mean_absolute_error() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(3, 8, 4)), rng.normal(size=(3, 8, 4))
    found = chunk_loss(torch.from_numpy(a), torch.from_numpy(b))
    assert float(found) == pytest.approx(float(np.abs(a - b).mean()))


def test_saved_and_loaded(model: Vla, tmp_path: Path) -> None:
    model.proprio_mean += 0.3
    folder = save_pretrained(model, tmp_path / "policy", notes="A note.")
    again = from_pretrained(folder)
    assert torch.equal(model(make_batch()), again(make_batch())) and again.config == CONFIG
    card = (folder / "README.md").read_text("utf-8")
    assert "A note." in card and "door" in card


def test_loading_is_strict(model: Vla, tmp_path: Path) -> None:
    folder = save_pretrained(model, tmp_path / "policy")
    file = folder / "model.safetensors"
    state = load_file(file)
    kept = dict(state)
    kept["act_head.weight"] = kept["act_head.weight"] * 1.5
    save_file(kept, file)
    with pytest.raises(WeightsError, match="no longer computes"):
        from_pretrained(folder)
    assert not from_pretrained(folder, check=False).training
    kept.pop("query")
    kept["more"] = torch.zeros(1)
    save_file(kept, file)
    with pytest.raises(WeightsError, match="1 missing, 1 unexpected"):
        from_pretrained(folder)
    config = read_json(folder / "config.json")
    for change, word in (
        ({"model": "DUET"}, "configuration of a VLA"),
        ({"format": 9}, "format"),
        ({"sizes": {"depth": 2}}, "unknown or missing"),
    ):
        write_json(folder / "config.json", {**config, **change})
        with pytest.raises(InputError, match=word):
            from_pretrained(folder)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"image_size": 50}, "multiple of 24"),
        ({"width": 33}, "heads"),
        ({"depth": 0}, "depth"),
        ({"words": ("Open",)}, "small letters"),
    ],
)
def test_bad_sizes_are_named(change: dict[str, object], word: str) -> None:
    with pytest.raises(InputError, match=word):
        replace(CONFIG, **change)  # type: ignore[arg-type]
