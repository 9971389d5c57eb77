"""Published checkpoints become folders and files again: identical names, shapes, types, values.

The names and shapes are those listed from the original code; widths are reduced here, at full size
the same is done by benchmarks/checkpoints.py.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from cli_tools import sterna
from published_weights import KINDS, checkpoint, published, reduced, round_trip, same
from sterna.errors import InputError
from sterna.models.config import DuetConfig
from sterna.models.duet import DUET
from sterna.models.original import convert_checkpoint, family_of, restore_checkpoint
from sterna.models.presets import PRESETS
from sterna.models.relatives import load_relative
from sterna.models.weights import WeightsError, expected_shapes, fit_weights, load_weights

ALIKE = ("duet-reverie:pre", "scalevln-b16:pre", "scalevln-h14:pre")  # of others' entries


@pytest.mark.parametrize("kind", [kind for kind in KINDS if not kind.startswith(ALIKE)])
def test_there_and_back(kind: str, tmp_path: Path) -> None:
    """Whatever is published: names, order, shapes, types, values and epochs are the file's own."""
    shapes = reduced(published(kind))
    family, stage = kind.rsplit(":", 1)
    there, back = round_trip(kind, tmp_path, shapes)
    assert there.kind == back.kind == stage
    assert not there.missing and len(there.taken) + len(
        [name for name, why in there.unused if "left out" not in why]
    ) == len(shapes)
    optimizers = [name for name, why in there.unused if "optimizer" in why]
    assert len(optimizers) == (2 if stage == "navigation" else 0)
    model = DUET.from_pretrained(tmp_path / "policy")
    assert model.config.lang2visn == (stage == "pretraining")
    expected = {
        "duet-r2r": (768, None),
        "scalevln-b16": (512, None),
        "scalevln-h14": (1024, None),
        "duet-soon": (768, 2048),
        "scalevln-reverie": (1024, 768),
    }
    if family in expected:
        assert (model.config.feature_size, model.config.object_size) == expected[family]
    else:  # objects share the image linear
        assert model.config.shared_objects and model.config.feature_size == 768


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.endswith("navigation")])
def test_full_size_names_fit_their_presets(kind: str) -> None:
    """The listing of each kind at full width (without memory) is exactly a preset's model."""
    tensors = {name: torch.zeros(()).expand(shape) for name, shape in published(kind).items()}
    config, _, report = fit_weights(tensors, kind)
    preset = {"scalevln-b16": "scalevln-r2r-b16", "scalevln-h14": "scalevln-r2r"}
    name = kind.split(":")[0]
    name = preset.get(name, "duet-reverie" if name == "autovln" else name)
    assert config == PRESETS[name].config and not report.dropped
    assert {k: tuple(v.shape) for k, v in tensors.items()} == expected_shapes(config)
    assert family_of(config) != "a DUET of its own sizes"


def test_what_was_trained_since_is_written_back(tmp_path: Path) -> None:
    """New weights come out under the old names; the tied decoder follows the word table."""
    kind = "duet-r2r:pretraining"
    round_trip(kind, tmp_path, reduced(published(kind)))
    folder = tmp_path / "policy"
    model = DUET.from_pretrained(folder)
    with torch.no_grad():
        model.embeddings.word_embeddings.weight.add_(1.0)
        model.lang_encoder.layer[3].output.dense.bias.zero_()
    model.save_pretrained(folder)
    restore_checkpoint(folder, tmp_path / "new.pt")
    old, new = (torch.load(tmp_path / name, weights_only=True) for name in ("back.pt", "new.pt"))
    changed = {name for name in old if not torch.equal(old[name], new[name])}
    assert changed == {
        "bert.embeddings.word_embeddings.weight",
        "mlm_head.predictions.decoder.weight",
        "bert.lang_encoder.layer.3.output.dense.bias",
    }
    assert torch.equal(
        new["mlm_head.predictions.decoder.weight"], new["bert.embeddings.word_embeddings.weight"]
    )


def test_a_pretraining_file_as_navigator(tmp_path: Path) -> None:
    """--kind navigation leaves text branches out of the model, and gives the file back whole."""
    shapes = reduced(published("duet-r2r:pretraining"))
    torch.save(checkpoint(shapes, "pretraining"), tmp_path / "m.pt")
    report = convert_checkpoint(tmp_path / "m.pt", tmp_path / "policy", kind="navigation")
    assert len(report.taken) == 423 and len(report.unused) == 563 - 423
    restore_checkpoint(tmp_path / "policy", tmp_path / "back.pt")
    same(torch.load(tmp_path / "back.pt", weights_only=True), checkpoint(shapes, "pretraining"))


def test_half_precision_and_data_parallel_names(tmp_path: Path) -> None:
    """float16 values and the prefix `module.` survive; the model computes in float32."""
    shapes = reduced(published("duet-r2r:navigation"))
    content = checkpoint(shapes, "navigation")
    inner = content["vln_bert"]
    inner["state_dict"] = {f"module.{k}": v.half() for k, v in inner["state_dict"].items()}
    torch.save(content, tmp_path / "m")
    convert_checkpoint(tmp_path / "m", tmp_path / "policy")
    model = DUET.from_pretrained(tmp_path / "policy")
    assert all(value.dtype == torch.float32 for value in model.state_dict().values())
    restore_checkpoint(tmp_path / "policy", tmp_path / "back")
    same(torch.load(tmp_path / "back", weights_only=True), content)


def test_a_policy_of_our_own_is_written_as_the_original_loads_it(tmp_path: Path) -> None:
    for branches, count in ((False, 1), (True, 0)):
        sizes = DuetConfig(hidden_size=24, heads=2, ffn_size=32, language_layers=1,
                           panorama_layers=1, cross_layers=1, vocab_size=40, max_positions=16,
                           max_steps=9, feature_size=12, lang2visn=branches)  # fmt: skip
        model = DUET(sizes)
        model.save_pretrained(tmp_path / "policy")
        restore_checkpoint(tmp_path / "policy", tmp_path / "out.pt")
        content = torch.load(tmp_path / "out.pt", weights_only=True)
        assert ("critic" in content) == bool(count)
        kind = "pretraining" if branches else "navigation"
        config, state, _ = load_weights(tmp_path / "out.pt", kind=kind, heads=2)  # type: ignore[arg-type]
        assert config == sizes
        assert all(torch.equal(state[k], v) for k, v in model.state_dict().items())


def test_damaged_folders_are_refused(tmp_path: Path) -> None:
    round_trip("duet-r2r:navigation", tmp_path, reduced(published("duet-r2r:navigation")))
    layout = tmp_path / "policy" / "original.json"
    whole = layout.read_text()
    described = json.loads(whole)
    described["format"] = 9
    layout.write_text(json.dumps(described))
    with pytest.raises(InputError, match="expected format 1, found 9"):
        restore_checkpoint(tmp_path / "policy", tmp_path / "x.pt")
    layout.write_text(whole.replace("lang_encoder.layer.7.", "lang_encoder.layer.77."))
    with pytest.raises(WeightsError, match="does not describe this folder"):
        restore_checkpoint(tmp_path / "policy", tmp_path / "x.pt")
    layout.write_text('{"format": 1, "family": "x", "tree": {"ours": 3}}')
    with pytest.raises(WeightsError, match="does not describe"):
        restore_checkpoint(tmp_path / "policy", tmp_path / "x.pt")
    assert not (tmp_path / "x.pt").exists()


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shapes = reduced(published("scalevln-b16:navigation"))
    file, folder = tmp_path / "best_val_unseen", tmp_path / "policy"
    torch.save(checkpoint(shapes, "navigation"), file)
    said = sterna(capsys, "models", "convert", file, folder, "--json").json
    assert len(said["taken"]) == 423 and said["missing"] == []
    assert ["critic/optimizer", "the optimizer's state, left out"] in said["unused"]
    text = sterna(capsys, "models", "convert", folder, tmp_path / "back")
    assert text.code == 0 and "taken 423, renamed 423, unused 0, missing 0" in text.out
    same(torch.load(tmp_path / "back", weights_only=True), checkpoint(shapes, "navigation"))
    sterna(capsys, "models", "convert", file, tmp_path / "back").refused("is a file")
    sterna(capsys, "models", "convert", folder, folder).refused("is a folder")
    sterna(capsys, "models", "convert", tmp_path / "no", folder).refused("no such file")
    sterna(capsys, "models", "convert", file, folder, "--into", "x").refused("x", "unknown")
    assert "--into" in sterna(capsys, "models", "convert", "--help").out


# --- relatives -----------------------------------------------------------------------------------

TINY = DuetConfig(
    hidden_size=24,
    heads=2,
    ffn_size=32,
    language_layers=2,
    panorama_layers=1,
    cross_layers=2,
    vocab_size=61,
    feature_size=12,
)


def hamt(*, features: int = 12) -> dict[str, Tensor]:
    """A HAMT of the same sizes under its own names: history, angles and actions are its alone."""
    twin = DUET(DuetConfig(**{**vars(TINY), "lang2visn": True, "feature_size": features}))
    state: dict[str, Tensor] = {}
    for name, value in twin.state_dict().items():
        fresh = torch.randn(value.shape)
        if name.startswith("lang_encoder.layer."):
            state[f"bert.encoder.layer.{name.removeprefix('lang_encoder.layer.')}"] = fresh
        elif name.startswith("local_encoder.encoder.x_layers."):
            state[f"bert.{name.removeprefix('local_encoder.')}"] = fresh
        elif name.startswith("embeddings.") or "img_l" in name or "nav_type" in name:
            state[f"bert.{name}"] = fresh
    state["bert.img_embeddings.layer_norm.weight"] = torch.randn(24)
    state["bert.img_embeddings.layer_norm.bias"] = torch.randn(24)
    state["bert.img_embeddings.ang_linear.weight"] = torch.randn(24, 4)
    state["bert.hist_embeddings.cls_token"] = torch.randn(1, 1, 24)
    state["bert.next_action.net.0.weight"] = torch.randn(24, 24)
    return state


def test_hamt_fills_what_is_built_alike(tmp_path: Path) -> None:
    state = hamt()
    torch.save(state, tmp_path / "hamt.pt")
    model, report = load_relative(tmp_path / "hamt.pt", TINY)
    mine = model.state_dict()
    assert report.family == "HAMT"
    for ours, theirs in {
        "lang_encoder.layer.1.output.dense.weight": "encoder.layer.1.output.dense.weight",
        "embeddings.word_embeddings.weight": "embeddings.word_embeddings.weight",
        "img_embeddings.img_linear.weight": "img_embeddings.img_linear.weight",
        "local_encoder.encoder.x_layers.1.visn_inter.dense.bias": (
            "encoder.x_layers.1.visn_inter.dense.bias"
        ),
        "global_encoder.encoder.x_layers.1.visn_inter.dense.bias": (
            "encoder.x_layers.1.visn_inter.dense.bias"
        ),
    }.items():
        assert torch.equal(mine[ours], state[f"bert.{theirs}"]), ours
    unused = dict(report.unused)
    assert unused["bert.hist_embeddings.cls_token"] == "has no counterpart in this DUET"
    assert unused["bert.encoder.x_layers.0.lang_inter.dense.bias"].startswith("has no counterpart")
    assert set(report.taken) | set(unused) == set(state)
    assert "local_sap_head.net.0.weight" in report.missing
    assert not any(name.startswith("lang_encoder.") for name in report.missing)
    again, _ = load_relative(tmp_path / "hamt.pt", TINY)
    assert all(torch.equal(value, mine[name]) for name, value in again.state_dict().items())
    branches = DuetConfig(**{**vars(TINY), "lang2visn": True})
    _, more = load_relative(tmp_path / "hamt.pt", branches)
    assert "bert.encoder.x_layers.0.lang_inter.dense.bias" in more.taken


def test_shapes_that_differ_are_named(tmp_path: Path) -> None:
    torch.save(hamt(features=20), tmp_path / "hamt.pt")
    _, report = load_relative(tmp_path / "hamt.pt", TINY)
    unused = dict(report.unused)
    assert unused["bert.img_embeddings.img_linear.weight"] == "is (24, 20), not (24, 12)"
    with pytest.raises(InputError, match="no language layer fits"):
        load_relative(
            tmp_path / "hamt.pt", DuetConfig(**{**vars(TINY), "hidden_size": 32, "ffn_size": 40})
        )


def test_old_names_of_layer_norms(tmp_path: Path) -> None:
    state = {
        "module.bert.encoder.layer.0.output.LayerNorm.gamma": torch.randn(24),
        "module.bert.encoder.layer.0.output.LayerNorm.beta": torch.randn(24),
        "cls.predictions.bias": torch.randn(61),
    }
    torch.save(state, tmp_path / "bert.pt")
    model, report = load_relative(tmp_path / "bert.pt", TINY)
    norm = model.lang_encoder.layer[0].output.LayerNorm
    assert torch.equal(norm.weight, state["module.bert.encoder.layer.0.output.LayerNorm.gamma"])
    assert report.family == "BERT" and [name for name, _ in report.unused] == [
        "cls.predictions.bias"
    ]
