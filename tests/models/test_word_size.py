"""A word table narrower than the words: a product of two matrices, and nothing else."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sterna.errors import InputError
from sterna.models.duet import DUET
from sterna.models.presets import built_count, parameter_counts, preset
from sterna.models.pretraining import PretrainModel, load_heads
from sterna.models.weights import export_original, load_weights
from sterna.recipes.config import DataConfig, StartConfig
from sterna.recipes.minivln import _widened
from sterna.recipes.start import begin
from sterna.recipes.world import World
from toy_duet import CONFIG, make_batch, make_model, run

NARROW = 5
TABLE, MAP = "embeddings.word_embeddings.weight", "embeddings.word_map.weight"


def test_it_is_a_table_of_the_product() -> None:
    """Also under the masked-word head, whose logits are tied to it."""
    narrow = make_model(word_size=NARROW, lang2visn=True)
    state = narrow.state_dict()
    assert state[TABLE].shape == (50, NARROW) and state[MAP].shape == (24, NARROW)
    whole = DUET(replace(CONFIG, lang2visn=True)).eval()
    plain = {name: value for name, value in state.items() if name != MAP}
    whole.load_state_dict(plain | {TABLE: state[TABLE] @ state[MAP].T})
    mine, theirs = run(narrow, make_batch()), run(whole, make_batch())
    torch.testing.assert_close(mine.fused, theirs.fused, rtol=1e-5, atol=1e-5)
    torch.manual_seed(1)
    heads = PretrainModel(narrow)
    others = PretrainModel(whole)
    others.mlm_head.load_state_dict(heads.mlm_head.state_dict())
    words = torch.randn(3, 24)
    torch.testing.assert_close(
        heads.word_logits(words), others.word_logits(words), rtol=1e-5, atol=1e-5
    )
    heads.word_logits(words).sum().backward()
    assert narrow.embeddings.word_map is not None
    for parameter in (
        narrow.embeddings.word_map.weight,
        narrow.embeddings.word_embeddings.weight,
    ):
        assert parameter.grad is not None and bool(parameter.grad.any())


def test_parameters_are_counted() -> None:
    for config in (replace(CONFIG, word_size=NARROW), _widened(preset("student-s"))):
        counts = parameter_counts(config)
        assert counts["total"] == built_count(config)
        assert config.word_size is not None
        words = config.vocab_size * config.word_size
        assert counts["without_word_table"] == counts["total"] - words
    student, wider = preset("student-s"), _widened(preset("student-s"))
    assert (wider.hidden_size, wider.ffn_size, wider.word_size) == (128, 512, 64)
    assert 0.95 < built_count(wider) / built_count(student) <= 1.0


def test_folders_and_checkpoints(tmp_path: Path) -> None:
    model = make_model(word_size=NARROW)
    folder = model.save_pretrained(tmp_path / "model")
    assert DUET.from_pretrained(folder).config == model.config
    card = (folder / "README.md").read_text()
    total = sum(p.numel() for p in model.parameters())
    assert f"{total:,} ({total - 50 * NARROW:,} without the word table)" in card
    file = tmp_path / "plain.pt"
    torch.save({f"vln_bert.{name}": value for name, value in model.state_dict().items()}, file)
    config, state, _ = load_weights(file, heads=3)
    assert config == model.config and torch.equal(state[MAP], model.state_dict()[MAP])
    with pytest.raises(InputError, match="word table of width 5 and a linear behind it"):
        export_original(model)


def test_folders_from_before_it_still_open(tmp_path: Path) -> None:
    model = make_model()
    folder = model.save_pretrained(tmp_path / "model")
    content = json.loads((folder / "config.json").read_text())
    assert content["sizes"].pop("word_size") is None
    (folder / "config.json").write_text(json.dumps(content))
    assert DUET.from_pretrained(folder).config == model.config


@pytest.mark.parametrize("size", [0, 25])
def test_impossible_widths_are_refused(size: int) -> None:
    with pytest.raises(InputError, match=f"word_size must be between 1 and .* 24, .*found {size}"):
        replace(CONFIG, word_size=size)


def test_heads_of_another_table_are_refused() -> None:
    model = PretrainModel(make_model(word_size=NARROW, lang2visn=True))
    named = {f"mlm_head.{k}": v for k, v in model.mlm_head.state_dict().items()}
    load_heads(model, named, "here")
    table = {"mlm_head.predictions.decoder.weight": torch.zeros(50, 24)}
    with pytest.raises(InputError, match="differs from its word table"):
        load_heads(model, named | table, "here")


def test_it_begins_as_the_best_of_its_width(toy_house: Path) -> None:
    """Words of an encoder, in the fewer directions that hold most of them."""
    world = World(toy_house, DataConfig(task="r2r", views="toy"))
    vectors, _ = world.word_vectors(24)
    size = replace(CONFIG, vocab_size=len(vectors), max_positions=128)
    model = begin(replace(size, word_size=NARROW), StartConfig(word_table=True), 0, world)
    state = model.state_dict()
    found = (state[TABLE] @ state[MAP].T).numpy()
    left = np.linalg.svd(vectors.astype(np.float64), compute_uv=False)[NARROW:]
    assert np.square(found - vectors).sum() == pytest.approx(np.square(left).sum(), rel=1e-4)
    assert left.sum() > 1  # something had to go
