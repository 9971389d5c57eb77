"""View encoders: sizes, what they refuse, and what comes back from disk."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from sterna.errors import InputError
from sterna.models.encoder import Encoder, ViewEncoder, load_encoder, save_encoder
from sterna.models.pictures import TransformersEncoder
from sterna.models.viewnet import ViewNet, ViewNetConfig
from sterna.models.weights import WeightsError
from sterna.world.houses.pack import CLASSES
from sterna.world.houses.words import CONCEPTS, THING_CLASSES


def make_net(seed: int = 0) -> ViewNet:
    torch.manual_seed(seed)
    net = ViewNet(
        ViewNetConfig(side=16, width=8, kinds=len(CLASSES), named=tuple(THING_CLASSES.tolist()))
    )
    for block in net.body:
        norm = block[1]
        norm.running_mean.normal_(0, 0.1)
        norm.running_var.uniform_(0.5, 2)
    return net


def make_encoder() -> ViewEncoder:
    base = np.linspace(0.01, 0.4, len(CONCEPTS), dtype=np.float32)
    return ViewEncoder(make_net().fused(), base)


def pictures(count: int = 5) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 16, 16, 3), np.uint8)


def test_a_picture_has_its_features_whatever_its_batch() -> None:
    encoder: Encoder = make_encoder()
    features = encoder(pictures(5))
    assert features.shape == (5, encoder.size) and features.dtype == np.float32
    assert np.isfinite(features).all() and encoder.pixels == (16, 16)
    np.testing.assert_allclose(encoder(pictures(5)[2:3]), features[2:3], atol=1e-5)
    assert encoder(pictures(0)).shape == (0, encoder.size)


def test_fused_and_frozen_computes_the_same() -> None:
    net = make_net().eval()
    fused = net.fused()
    batch = torch.from_numpy(pictures())
    with torch.no_grad():
        torch.testing.assert_close(
            fused.visible(fused(batch)), net.visible(net(batch)), atol=1e-4, rtol=1e-4
        )
    assert not any(parameter.requires_grad for parameter in fused.parameters())
    assert all(parameter.requires_grad for parameter in net.parameters())
    assert not any("running" in name for name in fused.state_dict())


def test_round_trip(tmp_path: Path) -> None:
    encoder = make_encoder()
    again = load_encoder(save_encoder(encoder, tmp_path, {"seed": 0}))
    assert again.digest == encoder.digest and again.size == encoder.size
    np.testing.assert_array_equal(again(pictures()), encoder(pictures()))
    assert json.loads((tmp_path / "config.json").read_text())["notes"] == {"seed": 0}


def test_other_weights_have_another_digest() -> None:
    base = np.full(len(CONCEPTS), 0.1, np.float32)
    assert len({ViewEncoder(make_net(i).fused(), base).digest for i in range(3)}) == 3


def test_damaged_folders_are_refused(tmp_path: Path) -> None:
    save_encoder(make_encoder(), tmp_path, {})
    weights, config = tmp_path / "model.safetensors", tmp_path / "config.json"
    state, sizes = load_file(weights), config.read_text()
    save_file({k: v for k, v in state.items() if k != "base"}, weights)
    with pytest.raises(WeightsError, match="1 missing"):
        load_encoder(tmp_path)
    save_file(state, weights)
    config.write_text(sizes.replace('"armchair"', '"throne"'))
    with pytest.raises(InputError, match="train the encoder anew"):
        load_encoder(tmp_path)
    config.write_text("{}")
    with pytest.raises(InputError, match="not a view encoder"):
        load_encoder(tmp_path)
    with pytest.raises(InputError, match="no such file"):
        load_encoder(tmp_path / "nowhere")


@pytest.mark.parametrize("shape", [(2, 16, 15, 3), (2, 16, 16), (16, 16, 3)])
def test_pictures_of_another_size_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="16x16"):
        make_encoder().probabilities(np.zeros(shape, np.uint8))
    with pytest.raises(InputError, match="uint8"):
        make_encoder().probabilities(np.zeros((1, 16, 16, 3), np.float32))  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", [{"side": 12}, {"side": 8}, {"width": 4}, {"named": (200,)}])
def test_impossible_sizes_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(InputError, match="view net"):
        ViewNetConfig(**wrong)  # type: ignore[arg-type]


def test_transformers_missing_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(InputError, match="pip install"):
        TransformersEncoder("openai/clip-vit-base-patch32")
