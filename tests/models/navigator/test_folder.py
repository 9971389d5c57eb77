"""Navigators on disk: whole or not at all, strict, as they were; adapters beside their base."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from sterna.errors import InputError
from sterna.models.navigator.families import causal_class
from sterna.models.navigator.folder import (
    LoraConfig,
    add_lora,
    load,
    open_published,
    save,
    train_parts,
)
from sterna.models.navigator.vlm import VlmNavigator
from sterna.world.talk.prompts import Wording
from toy_navigator import FAMILIES, SIDE, samples, tiny

SIZE = (SIDE, SIDE)


def logits(navigator):
    given, frames = samples(3)
    texts = ["stop left forward"] * 3
    with torch.no_grad():
        return navigator(navigator.batch(given, SIZE, frames=frames, answers=texts))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_navigator_is_read_as_it_was_written(family, tmp_path):
    navigator = tiny(family)
    folder = save(navigator, tmp_path / "kept", notes="made by a test")
    save(navigator, folder)  # again, over the first
    again = load(folder)
    assert torch.equal(logits(again), logits(navigator))
    assert (again.wording, again.history) == (navigator.wording, navigator.history)
    assert again.processor.images == navigator.processor.images and not again.training
    assert {p.suffix for p in folder.iterdir()} <= {".json", ".safetensors", ".md"}
    assert "A vision-language navigator" in (folder / "README.md").read_text()
    assert not list(tmp_path.glob("*.tmp"))


def test_weights_that_do_not_fit_are_refused(tmp_path):
    folder = save(tiny(), tmp_path / "kept")
    weights = load_file(folder / "model.safetensors")
    name = next(name for name in weights if "q_proj" in name)
    lost = {k: v for k, v in weights.items() if k != name}
    save_file(lost, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match="do not fit qwen2_5_vl"):
        load(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match="safetensors there"):
        load(folder)
    (folder / "navigator.json").write_text(json.dumps({"format": 9}))
    with pytest.raises(InputError, match=r"expected .*of format 1"):
        load(folder)
    with pytest.raises(InputError, match=r"no navigator\.json there"):
        load(tmp_path)


@pytest.mark.parametrize("family", FAMILIES)
def test_an_adapter_is_kept_beside_its_base(family, tmp_path):
    pytest.importorskip("peft", reason="LoRA needs peft: pip install 'sterna[vlm]'")
    navigator = tiny(family)
    save(navigator, tmp_path / "base")
    navigator.base = str(tmp_path / "base")
    adapted = add_lora(navigator, LoraConfig(rank=2))
    train_parts(adapted, tower=False, checkpointing=False)
    trained = [name for name, weight in adapted.named_parameters() if weight.requires_grad]
    assert trained and all("lora_" in name and "language_model" in name for name in trained)
    assert adapted.family == family and adapted.frozen_tower
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            if "lora_B" in name:
                weight.fill_(0.05)
    folder = save(adapted, tmp_path / "adapter")
    assert not (folder / "model.safetensors").exists()
    again = load(folder)
    torch.testing.assert_close(logits(again), logits(adapted), atol=1e-6, rtol=1e-6)
    assert (logits(again) - logits(load(tmp_path / "base"))).abs().max() > 1e-3
    given, frames = samples(2)
    assert len(again.generate(again.batch(given, SIZE, frames=frames))) == 2
    with pytest.raises(InputError, match="names no base weights"):
        add_lora(tiny(family), LoraConfig())


def test_checkpointing_changes_no_gradient():
    def gradient(checkpointing):
        navigator = tiny()
        train_parts(navigator, tower=True, checkpointing=checkpointing)
        navigator.train()
        given, frames = samples(2)
        batch = navigator.batch(given, SIZE, frames=frames, answers=["stop stop stop"] * 2)
        scores, _ = navigator.log_probs(batch)
        scores.sum().backward()
        return [weight.grad for weight in navigator.parameters()]

    for plain, again in zip(gradient(False), gradient(True), strict=True):
        torch.testing.assert_close(plain, again)


@pytest.mark.parametrize("family", ["qwen2_vl", "qwen2_5_vl", "qwen3_vl"])
def test_a_published_folder_is_opened(family, tmp_path, published_folder):
    folder = published_folder(family, tmp_path / family)
    wording = Wording(turn_angle=15, actions=2)
    navigator = open_published(folder, wording, precision="fp32", max_pixels=56 * 56,
                               local_files_only=True)  # fmt: skip
    assert isinstance(navigator, VlmNavigator) and navigator.family == family
    assert isinstance(navigator.model, causal_class(family))
    given, frames = samples(3)
    batch = navigator.batch(given, SIZE, frames=frames)
    free = navigator.generate(batch, limit=4)
    forced = navigator.generate(batch, constrained=True)
    assert len(free) == 3 and all(wording.parse(text) is not None for text in forced)
    assert navigator.processor.template.before.endswith("<|im_start|>user\n")


def test_what_is_no_model_is_named(tmp_path):
    with pytest.raises(InputError, match="not a folder, and not to be had"):
        open_published("nobody/nothing", Wording(turn_angle=15), local_files_only=True)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(InputError, match="expected a family of qwen2_vl"):
        open_published(tmp_path, Wording(turn_angle=15))
