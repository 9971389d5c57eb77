"""The model against the original DUET code, one call of each mode (golden set A)."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from golden import LIVELY, formula_model, rng
from sterna.models.config import DuetConfig
from sterna.models.duet import DUET, NavigationOutput
from sterna.models.panorama import PanoramaOutput
from sterna.models.text import TextMemory

SMALL = DuetConfig(
    hidden_size=96, ffn_size=384, language_layers=3, panorama_layers=1, cross_layers=2
)
CASES = [
    ("small_r2r", SMALL, "out", (0.02, "")),
    ("small_r2r", SMALL, "lively", LIVELY),
    ("small_reverie", replace(SMALL, object_size=768), "out", (0.02, "")),
    ("small_reverie", replace(SMALL, object_size=768), "lively", LIVELY),
    ("full_r2r", DuetConfig(), "out", (0.02, "")),
]


class Golden:
    """The stored inputs, as the model takes them, and the stored outputs."""

    def __init__(self, file: Path, label: str) -> None:
        with np.load(file) as archive:
            self.arrays = {name: archive[name] for name in archive.files}
        self.label = label
        self.tag = "AO" if "reverie" in file.name else "A"

    def given(self, name: str) -> Tensor:
        return torch.from_numpy(self.arrays["in/" + name])

    def expected(self, name: str) -> Tensor:
        return torch.from_numpy(self.arrays[f"{self.label}/{name}"])

    def features(self, kind: str) -> Tensor:
        lengths = self.given(f"{kind}_lens").tolist()
        out = torch.zeros(len(lengths), max(lengths), 768)
        for i, n in enumerate(lengths):
            name = f"{self.tag}/{kind}_img_fts/{i}"
            out[i, :n] = torch.from_numpy(rng(name).standard_normal((n, 768), dtype=np.float32))
        return out

    def candidate_nodes(self) -> Tensor:
        nodes = json.loads(str(self.arrays["in/gmap_vpids"]))
        candidates = [row[1:] for row in json.loads(str(self.arrays["in/vp_cand_vpids"]))]
        slots = torch.zeros(len(nodes), max(map(len, candidates)), dtype=torch.int64)
        for row, names in enumerate(candidates):
            slots[row, : len(names)] = torch.tensor([nodes[row].index(name) for name in names])
        return slots


def run(
    model: DUET, golden: Golden, *, details: bool = False
) -> tuple[TextMemory, PanoramaOutput, NavigationOutput]:
    """Text, panorama, navigation, chained as in the original run."""
    text = model.encode_text(golden.given("txt_ids"), golden.given("txt_masks"), details=details)
    with_objects = model.config.object_size is not None
    lengths = golden.given("view_lens") + golden.given("obj_lens")
    mask = torch.arange(int(lengths.max()))[None] < lengths[:, None]
    panorama = model.encode_panorama(
        golden.features("view"),
        golden.given("loc_fts"),
        golden.given("nav_types"),
        mask,
        golden.features("obj") if with_objects else None,
        details=details,
    )
    out = model.navigate(
        text,
        panorama.embeds,
        mask,
        golden.given("vp_pos_fts"),
        golden.candidate_nodes(),
        golden.given("gmap_img_embeds"),
        golden.given("gmap_step_ids"),
        golden.given("gmap_pos_fts"),
        golden.given("gmap_pair_dists"),
        golden.given("gmap_masks"),
        golden.given("gmap_visited_masks"),
        details=details,
        object_mask=golden.expected("vp_obj_masks") if with_objects else None,
    )
    return text, panorama, out


def close(found: Tensor, wanted: Tensor, tolerance: float, where: Tensor | None = None) -> None:
    if where is not None:
        found, wanted = found[where], wanted[where]
    assert torch.equal(found.isinf(), wanted.isinf())
    torch.testing.assert_close(found, wanted, rtol=0, atol=tolerance)


@pytest.mark.parametrize(("name", "config", "label", "rule"), CASES)
def test_equals_original(
    data_dir: Path, name: str, config: DuetConfig, label: str, rule: tuple[float, str]
) -> None:
    golden = Golden(data_dir / "golden" / f"A_{name}.npz", label)
    check = golden.arrays["in/view_img_fts/check"]
    assert golden.features("view").double().sum().item() == pytest.approx(check[0], abs=1e-2)
    model = formula_model(config, *rule)
    assert isinstance(model, DUET)
    with torch.no_grad():
        text, panorama, out = run(model, golden)
    close(text.embeds, golden.expected("txt_embeds"), 2e-5, golden.given("txt_masks"))
    close(panorama.embeds, golden.expected("pano_embeds"), 2e-5, panorama.mask)
    assert torch.equal(panorama.mask, golden.expected("pano_masks"))
    close(panorama.mean, golden.expected("avg_pano_embeds"), 2e-5)
    close(out.node_embeds, golden.expected("gmap_embeds"), 2e-5, golden.given("gmap_masks"))
    close(out.local_embeds, golden.expected("vp_embeds"), 2e-5, golden.expected("vp_masks"))
    close(out.fuse_weight, golden.expected("fuse_weights"), 1e-5)
    close(out.global_, golden.expected("global_logits"), 1e-5)
    wanted = golden.expected("local_logits")
    close(out.local, wanted[:, : out.local.shape[1]], 1e-5)
    assert wanted[:, out.local.shape[1] :].isinf().all()
    close(out.fused, golden.expected("fused_logits"), 1e-5)
    if out.object_logits is not None:
        close(out.object_logits, golden.expected("obj_logits"), 1e-5)


@pytest.mark.parametrize(("name", "config", "label", "rule"), CASES[1:4:2])
def test_details_path_equals_fast_path(
    data_dir: Path, name: str, config: DuetConfig, label: str, rule: tuple[float, str]
) -> None:
    golden = Golden(data_dir / "golden" / f"A_{name}.npz", label)
    model = formula_model(config, *rule)
    assert isinstance(model, DUET)
    with torch.no_grad():
        fast, full = run(model, golden), run(model, golden, details=True)
    assert torch.equal(fast[2].fused, full[2].fused)
    assert fast[0].scores == () and len(full[0].scores) == config.language_layers
    assert torch.equal(full[0].hidden[-1], full[0].embeds)
    assert torch.equal(full[2].global_hidden[-1], full[2].node_embeds)
    assert torch.equal(full[2].local_hidden[-1], full[2].local_embeds)
    assert [s.shape[1] for s in full[2].local_scores] == [config.heads] * config.cross_layers
    assert len(full[1].scores) == config.panorama_layers
