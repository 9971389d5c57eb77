"""A saved model comes back the same, or not at all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from sterna.errors import InputError
from sterna.models.duet import DUET
from sterna.models.pretrained import probe
from sterna.models.weights import WeightsError
from toy_duet import make_batch, make_model, run


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return make_model().save_pretrained(tmp_path / "model", notes="Trained on a toy world.")


def test_round_trip(saved: Path) -> None:
    model, loaded = make_model(), DUET.from_pretrained(saved)
    assert loaded.config == model.config and not loaded.training
    mine, theirs = model.state_dict(), loaded.state_dict()
    assert mine.keys() == theirs.keys() and all(torch.equal(mine[k], theirs[k]) for k in mine)
    # Outputs may differ in their last bits: products round by where weights lie in memory.
    torch.testing.assert_close(
        run(loaded, make_batch()).fused, run(model, make_batch()).fused, rtol=1e-5, atol=1e-6
    )
    assert all(parameter.requires_grad for parameter in loaded.parameters())
    card = (saved / "README.md").read_text()
    assert "Trained on a toy world." in card and "parameters:" in card


def test_probe_repeats_and_leaves_the_mode_alone() -> None:
    model = make_model().train()
    assert probe(model) == probe(model) and model.training
    assert None in probe(model)["fused"]


def test_changed_weights_fail_the_probe(saved: Path) -> None:
    state = load_file(saved / "model.safetensors")
    state["img_embeddings.img_linear.weight"][0] += 0.5
    save_file(state, saved / "model.safetensors")
    with pytest.raises(WeightsError, match="no longer computes"):
        DUET.from_pretrained(saved)
    DUET.from_pretrained(saved, check=False)


def test_missing_entry_is_named(saved: Path) -> None:
    state = load_file(saved / "model.safetensors")
    del state["local_sap_head.net.0.bias"]
    save_file(state, saved / "model.safetensors")
    with pytest.raises(WeightsError, match=r"1 missing[\s\S]*local_sap_head\.net\.0\.bias"):
        DUET.from_pretrained(saved)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "expected format 1, found 2"),
        ({"model": "GOAT"}, "expected the configuration of a DUET model"),
        ({"sizes": {"hidden_size": 24}}, "unknown or missing sizes"),
        ({"sizes": None}, "expected the configuration"),
    ],
)
def test_bad_configuration(saved: Path, change: dict[str, object], message: str) -> None:
    config = json.loads((saved / "config.json").read_text())
    (saved / "config.json").write_text(json.dumps({**config, **change}))
    with pytest.raises(InputError, match=message):
        DUET.from_pretrained(saved)


def test_wrong_type_of_a_size(saved: Path) -> None:
    config = json.loads((saved / "config.json").read_text())
    config["sizes"]["heads"] = "three"
    (saved / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="wrong type"):
        DUET.from_pretrained(saved)


def test_truncated_weights(saved: Path) -> None:
    file = saved / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(WeightsError, match="cut short"):
        DUET.from_pretrained(saved)
