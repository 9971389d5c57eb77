"""Image encoders of others are read where their users read them, and odd folders are refused."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from sterna.errors import InputError
from sterna.models.vision import find_device, open_vision
from toy_eyes import (
    KINDS,
    SIDE,
    make_clip,
    picture,
    write_encoder,
    write_openclip,
    write_processor,
)

t = pytest.importorskip("transformers", reason="the extra vlm is not installed")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("encoders")
    return {kind: write_encoder(root / kind, kind) for kind in KINDS}


def pixels_of(folder: Path, pictures: list[np.ndarray]) -> torch.Tensor:
    """What transformers' own processor makes of pictures."""
    processor = t.AutoImageProcessor.from_pretrained(folder, backend="pil")
    return processor(images=[Image.fromarray(p) for p in pictures], return_tensors="pt")[
        "pixel_values"
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_features_are_what_the_model_says(folders: dict[str, Path], kind: str) -> None:
    """Against the library's own model, called as its documentation does."""
    folder, pictures = folders[kind], [picture(i) for i in range(3)]
    encoder = open_vision(str(folder), device="cpu")
    found, logits = encoder(encoder.prepare(pictures))
    pixels = pixels_of(folder, pictures)
    with torch.no_grad():
        if kind in ("clip", "siglip"):
            model = t.AutoModel.from_pretrained(folder)
            wanted = model.get_image_features(pixel_values=pixels).pooler_output
        elif kind == "dino":  # no pooler was trained: the first token, behind the last norm
            model = t.ViTModel.from_pretrained(folder, add_pooling_layer=False)
            wanted = model(pixel_values=pixels).last_hidden_state[:, 0]
        elif kind == "dinov2":
            wanted = t.AutoModel.from_pretrained(folder)(pixel_values=pixels).pooler_output
        elif kind == "vit-imagenet":
            model = t.ViTForImageClassification.from_pretrained(folder)
            wanted = model.vit(pixel_values=pixels).last_hidden_state[:, 0]
            torch.testing.assert_close(torch.from_numpy(logits), model(pixel_values=pixels).logits)
        else:
            model = t.EfficientNetForImageClassification.from_pretrained(folder).eval()
            wanted = model.efficientnet(pixel_values=pixels).pooler_output.flatten(1)
            torch.testing.assert_close(torch.from_numpy(logits), model.classifier(wanted))
    torch.testing.assert_close(torch.from_numpy(found), wanted, rtol=1e-5, atol=1e-6)
    assert encoder.size == wanted.shape[1]
    assert encoder.classes == (1000 if kind in ("vit-imagenet", "efficientnet") else 0)


@pytest.mark.parametrize("kind", ["dino", "clip"])
def test_digest_is_of_the_file(folders: dict[str, Path], kind: str, tmp_path: Path) -> None:
    """The same at every load (a run resumes by it), another for other weights."""
    found = [open_vision(str(folders[kind]), device="cpu").digest for _ in range(2)]
    other = open_vision(str(write_encoder(tmp_path / "x", kind, seed=1)), device="cpu").digest
    assert found[0] == found[1] != other


def test_mean_token_when_asked_for(folders: dict[str, Path]) -> None:
    folder, pictures = folders["dino"], [picture(7)]
    encoder = open_vision(str(folder), device="cpu", pool="mean")
    model = t.ViTModel.from_pretrained(folder, add_pooling_layer=False)
    with torch.no_grad():
        wanted = model(pixel_values=pixels_of(folder, pictures)).last_hidden_state.mean(1)
    np.testing.assert_allclose(encoder(encoder.prepare(pictures))[0], wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("quick", [True, False])
def test_openclip_folder_says_what_its_twin_says(tmp_path: Path, quick: bool) -> None:
    """The same weights under OpenCLIP's names and in its file, both activations."""
    torch.manual_seed(3)
    clip = make_clip(quick=quick)
    clip.save_pretrained(tmp_path / "clip")
    write_processor(tmp_path / "clip")
    folder = write_openclip(tmp_path / "openclip", clip, quick=quick)
    pictures = [picture(i) for i in range(2)] + [picture(9, 48, 70)]
    mine, twin = (open_vision(str(f), device="cpu") for f in (folder, tmp_path / "clip"))
    np.testing.assert_allclose(mine.prepare(pictures), twin.prepare(pictures), atol=1e-5)
    pixels = twin.prepare(pictures)
    np.testing.assert_allclose(mine(pixels)[0], twin(pixels)[0], rtol=1e-5, atol=1e-6)
    assert mine.size == 24 and pixels.shape == (3, 3, SIDE, SIDE)


def test_bf16_is_close(folders: dict[str, Path]) -> None:
    """The stated precision: 2e-2 of the length of a feature, cosine above 0.999."""
    exact, narrow = (
        open_vision(str(folders["clip"]), device="cpu", precision=p) for p in ("fp32", "bf16")
    )
    pixels = exact.prepare([picture(i) for i in range(4)])
    a, b = exact(pixels)[0], narrow(pixels)[0]
    assert not np.array_equal(a, b)
    assert (np.linalg.norm(a - b, axis=1) <= 2e-2 * np.linalg.norm(a, axis=1)).all()
    cosines = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    assert cosines.min() > 0.999


def test_weights_that_are_not_in_the_file_are_missed(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    """A tower of which a layer is missing is refused, not filled with random numbers."""
    target = tmp_path / "cut"
    target.mkdir()
    for file in folders["clip"].iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    state = load_file(target / "model.safetensors")
    del state["vision_model.encoder.layers.1.mlp.fc1.weight"]
    save_file(state, target / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"1 weights of CLIPModel are not in the file.*fc1"):
        open_vision(str(target), device="cpu")


def test_openclip_of_another_kind_is_refused(tmp_path: Path) -> None:
    clip = make_clip()
    folder = write_openclip(tmp_path / "a", clip, quick=False)
    config = json.loads((folder / "open_clip_config.json").read_text())
    config["model_cfg"]["vision_cfg"]["timm_model_name"] = "vit_base"
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="timm_model_name is not known"):
        open_vision(str(folder), device="cpu")
    other = write_openclip(tmp_path / "b", clip, quick=False)
    save_file({"visual.trunk": torch.zeros(1)}, other / "open_clip_model.safetensors")
    with pytest.raises(InputError, match=r"visual\.proj"):
        open_vision(str(other), device="cpu")


@pytest.mark.parametrize("name", ["no/such-model", "."])
def test_no_model_is_one_line(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match="no image model to be read there") as caught:
        open_vision(name, device="cpu")
    assert "\n" not in str(caught.value)


def test_missing_libraries_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(InputError, match="pip install timm"):
        open_vision("timm:vit_base_patch16_224", device="cpu")
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(InputError, match=r"sterna\[vlm\]"):
        open_vision("openai/clip-vit-base-patch16", device="cpu")


def test_devices() -> None:
    assert find_device("cpu") == "cpu"
    with pytest.raises(InputError, match="expected auto, cpu"):
        find_device("abacus")
    if not torch.cuda.is_available():
        assert find_device("auto") == "cpu"
        with pytest.raises(InputError, match="no CUDA device"):
            find_device("cuda:1")


def test_view_encoders_of_houses_read_the_same(folders: dict[str, Path]) -> None:
    """`data make houses --encoder NAME` reads DINO's first token, not a pooler drawn at random."""
    from sterna.models.pictures import TransformersEncoder

    pictures = np.stack([picture(i, SIDE, SIDE) for i in range(3)])
    for kind in ("dino", "clip", "vit-imagenet"):
        encoder = TransformersEncoder(str(folders[kind]))
        other = open_vision(str(folders[kind]), device="cpu")
        wanted, _ = other(other.prepare(list(pictures)))
        np.testing.assert_allclose(encoder(pictures), wanted, rtol=1e-4, atol=1e-5)
        assert encoder.size == other.size and encoder.digest == other.digest
    with pytest.raises(InputError, match="expected uint8 pictures"):
        encoder(pictures[:, :-1])
