"""Published names and shapes, published file layouts, and files that must be refused."""

from __future__ import annotations

import ast
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from golden import formula_state
from sterna.errors import InputError
from sterna.models.config import DuetConfig
from sterna.models.duet import DUET
from sterna.models.weights import (
    WeightsError,
    default_heads,
    export_original,
    fit_weights,
    load_weights,
    read_tensors,
    strip_prefixes,
)

FIXTURES = Path(__file__).parent / "fixtures"
TINY = DuetConfig(
    hidden_size=24,
    heads=2,
    ffn_size=32,
    language_layers=2,
    panorama_layers=1,
    cross_layers=1,
    vocab_size=40,
    max_positions=16,
    max_steps=9,
    feature_size=12,
)


def listed(name: str) -> dict[str, Tensor]:
    """Tensors of the listed names and shapes that take no memory."""
    lines = (FIXTURES / f"{name}.txt").read_text().splitlines()
    pairs = [line.split(" ", 1) for line in lines if line.strip()]
    return {key: torch.zeros(()).expand(ast.literal_eval(shape)) for key, shape in pairs}


@pytest.mark.parametrize(
    ("name", "keys", "used", "objects"),
    [
        ("duet-r2r-navigation", 423, 423, None),
        ("duet-r2r-pretraining", 563, 423, None),
        ("duet-reverie-pretraining", 569, 429, 768),
    ],
)
def test_published_names_load_as_navigator(
    name: str, keys: int, used: int, objects: int | None
) -> None:
    tensors = listed(name)
    assert len(tensors) == keys
    config, state, report = fit_weights(tensors, name)
    assert config == DuetConfig(object_size=objects)
    assert len(state) == report.loaded == used
    with torch.device("meta"):
        model = DUET(config)
    result = model.load_state_dict(state, assign=True)
    assert not result.missing_keys and not result.unexpected_keys


@pytest.mark.parametrize("name", ["duet-r2r-pretraining", "duet-reverie-pretraining"])
def test_published_pretraining_names_keep_text_branches_and_heads(name: str) -> None:
    tensors = listed(name)
    config, state, report = fit_weights(tensors, name, kind="pretraining")
    assert config.lang2visn
    assert len(state) + len(report.heads) == len(tensors) and not report.dropped
    assert {key.split(".")[0] for key in report.heads} == {"mlm_head", "image_classifier"}


def tiny_state(config: DuetConfig = TINY) -> dict[str, Tensor]:
    return formula_state(config)


def test_prefixes() -> None:
    assert strip_prefixes("module.vln_bert.bert.embeddings.x") == "embeddings.x"
    assert strip_prefixes("lang_encoder.bert.x") == "lang_encoder.bert.x"


def test_heads_by_width() -> None:
    assert [default_heads(w) for w in (96, 312, 384, 768, 1024, 256)] == [12, 12, 12, 12, 16, 4]


@pytest.mark.parametrize("layout", ["flat", "nested", "safetensors", "legacy"])
def test_file_layouts(tmp_path: Path, layout: str) -> None:
    state = tiny_state()
    if layout == "safetensors":
        file = tmp_path / "model.safetensors"
        save_file({f"bert.{k}": v for k, v in state.items()}, file)
    elif layout == "flat":
        file = tmp_path / "model_step_9.pt"
        torch.save({f"module.bert.{k}": v for k, v in state.items()}, file)
    else:
        file = tmp_path / "best_val_unseen"
        optimizer = {"lr": np.float64(1e-5), "state": {0: {"step": 3}}}
        entry = {"epoch": 2, "optimizer": optimizer}
        entry["state_dict"] = {f"vln_bert.{k}": v for k, v in state.items()}
        content = {"vln_bert": entry, "critic": {"state_dict": {}}}
        torch.save(content, file, _use_new_zipfile_serialization=layout == "nested")
    config, loaded, report = load_weights(file, heads=2)
    assert config == TINY
    assert all(torch.equal(loaded[k], v) for k, v in state.items())
    assert str(len(state)) in str(report)


def test_half_precision_and_extras_of_other_repositories(tmp_path: Path) -> None:
    state = {k: v.half() for k, v in tiny_state().items()}
    state["bert.token_type_embedding.weight"] = torch.zeros(2, 24)
    state["embeddings.position_ids"] = torch.arange(16)[None]
    file = tmp_path / "rvr.pt"
    torch.save(state, file)
    config, loaded, report = load_weights(file, heads=2)
    assert config == TINY and all(v.dtype == torch.float32 for v in loaded.values())
    assert report.dropped == ("embeddings.position_ids", "token_type_embedding.weight")


def test_objects_of_same_width_share_the_image_linear(tmp_path: Path) -> None:
    shared = DuetConfig(**{**vars(TINY), "object_size": 12})
    state = tiny_state(shared)
    for part, shape in (("linear.weight", (24, 12)), ("linear.bias", (24,))):
        state[f"img_embeddings.obj_{part}"] = torch.zeros(shape)
    config, _, report = fit_weights(state, "auto", heads=2)
    assert config == shared and len(report.dropped) == 2
    own = DuetConfig(**{**vars(TINY), "object_size": 20})
    assert fit_weights(tiny_state(own), "own", heads=2)[0] == own


def test_names_and_shapes_are_listed_when_they_do_not_fit() -> None:
    state = tiny_state()
    del state["lang_encoder.layer.1.output.dense.bias"]
    state["stranger.weight"] = torch.zeros(3)
    state["og_head_typo"] = torch.zeros(1)
    state["local_sap_head.net.3.weight"] = torch.zeros(2, 24)
    with pytest.raises(WeightsError) as caught:
        fit_weights(state, "here.pt", heads=2)
    first, *table = str(caught.value).splitlines()
    assert "here.pt" in first and "1 missing, 2 unexpected, 1 mis-shaped" in first
    assert table[0].split() == ["name", "expected", "found"]
    rows = {line.split()[0]: line for line in table[1:]}
    assert rows["lang_encoder.layer.1.output.dense.bias"].split()[-1] == "missing"
    assert "(1, 24)" in rows["local_sap_head.net.3.weight"]
    assert "(2, 24)" in rows["local_sap_head.net.3.weight"]
    assert rows["stranger.weight"].split()[1] == "-"
    assert isinstance(caught.value, InputError)


def test_not_a_number_is_refused() -> None:
    state = tiny_state()
    state["lang_encoder.layer.0.output.dense.bias"][3] = float("nan")
    with pytest.raises(WeightsError, match=r"1 entries hold NaN.*output\.dense\.bias"):
        fit_weights(state, "here.pt", heads=2)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors", ""])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.9, 0.999])
def test_truncated_files_are_refused(tmp_path: Path, suffix: str, share: float) -> None:
    file = tmp_path / f"cut{suffix}"
    if suffix == ".safetensors":
        save_file(tiny_state(), file)
    else:
        torch.save(tiny_state(), file)
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(WeightsError, match="cut short"):
        load_weights(file)


class Runs:
    """Its pickle would run a command."""

    def __reduce__(self) -> tuple[object, ...]:
        return os.system, ("true",)


@pytest.mark.parametrize("content", [Runs(), [1, 2], {"a": 1}, {}, torch.zeros(2)])
def test_foreign_files_are_refused(tmp_path: Path, content: object) -> None:
    file = tmp_path / "foreign.pt"
    torch.save(content, file)
    with pytest.raises(WeightsError) as caught:
        load_weights(file)
    assert "\n" not in str(caught.value)


def test_other_architecture_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "bert.pt"
    torch.save({"encoder.weight": torch.zeros(3, 3)}, file)
    with pytest.raises(WeightsError, match=r"expected a DUET-style navigator.*encoder\.weight"):
        load_weights(file)
    with pytest.raises(InputError, match="no such file"):
        load_weights(tmp_path / "absent.pt")
    torch.save({"bert.a": torch.zeros(1), "a": torch.zeros(1)}, file)
    with pytest.raises(WeightsError, match="two entries"):
        load_weights(file)


def test_export_for_the_original_code_comes_back(tmp_path: Path) -> None:
    model = DUET(TINY)
    file = tmp_path / "best_val_unseen"
    torch.save(export_original(model), file)
    names = read_tensors(file)
    assert all(name.startswith("vln_bert.") for name in names)
    config, state, _ = load_weights(file, heads=2)
    assert config == TINY
    assert all(torch.equal(state[k], v) for k, v in model.state_dict().items())
