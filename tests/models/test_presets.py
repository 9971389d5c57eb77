"""Parameters to the last digit, against the reference's arithmetic and instantiation."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sterna.errors import InputError
from sterna.models.config import DuetConfig
from sterna.models.presets import (
    PRESETS,
    built_count,
    parameter_counts,
    preset,
    preset_table,
    with_features,
)

DUET_R2R, MINI = preset("duet-r2r"), preset("minivln")
SMALL = DuetConfig(
    hidden_size=96, ffn_size=384, language_layers=3, panorama_layers=1, cross_layers=2
)
TOTALS = [
    (DUET_R2R, 180_489_221),
    (with_features(DUET_R2R, 1024), 180_685_829),
    (preset("scalevln-r2r"), 180_685_829),
    (preset("scalevln-r2r-b16"), 180_292_613),
    (preset("duet-reverie"), 181_082_118),
    (replace(DUET_R2R, object_size=2048), 182_657_286),
    (DuetConfig(feature_size=1024, object_size=768), 181_870_854),
    (MINI, 21_064_925),
    (with_features(MINI, 1024), 21_144_797),
    (with_features(MINI, 512), 20_985_053),
    (preset("teacher-s"), 30_018_821),
    (preset("student-s"), 3_660_041),
    (SMALL, 4_149_989),
    (replace(SMALL, object_size=768), 4_159_590),
]


@pytest.mark.parametrize(("config", "total"), TOTALS)
def test_totals(config: DuetConfig, total: int) -> None:
    assert parameter_counts(config)["total"] == total
    assert built_count(config) == total


def pretraining_total(config: DuetConfig, *, image_classes: int) -> int:
    """Navigator with text branches, tied masked-word head, image classifier."""
    h = config.hidden_size
    words = h * h + h + 2 * h + config.vocab_size
    image = h * h + h + 2 * h + h * image_classes + image_classes if image_classes else 0
    return parameter_counts(replace(config, lang2visn=True))["total"] + words + image


def test_pretraining_totals() -> None:
    assert pretraining_total(DUET_R2R, image_classes=1000) == 239_175_975
    assert pretraining_total(preset("duet-reverie"), image_classes=1000) == 239_768_872
    scale = pretraining_total(preset("scalevln-r2r"), image_classes=0)
    assert scale == 238_011_455
    assert (
        built_count(replace(MINI, lang2visn=True))
        == parameter_counts(replace(MINI, lang2visn=True))["total"]
    )


def test_blocks() -> None:
    teacher = parameter_counts(DUET_R2R)
    wanted = {
        "embeddings": 23_837_184,
        "lang_encoder": 63_790_848,
        "img_embeddings": 14_780_928,
        "local_encoder": 37_820_160,
        "global_encoder": 37_891_586,
        "global_sap_head": 592_897,
        "local_sap_head": 592_897,
        "sap_fuse_linear": 1_182_721,
    }
    assert {name: teacher[name] for name in wanted} == wanted
    student = parameter_counts(MINI)
    blocks = (9_683_856, 3_426_552, 1_388_040, 3_072_168, 3_101_186, 98_593, 98_593, 195_937)
    assert tuple(student.values())[:8] == blocks
    assert student["without_word_table"] == 21_064_925 - 30_522 * 312


def test_table() -> None:
    rows = preset_table()
    assert [row["name"] for row in rows] == list(PRESETS)
    assert rows[0]["parameters"] == 180_489_221 and rows[0]["megabytes"] == 722.0
    assert all(row["checkpoint"] and row["paper"] for row in rows)


def test_unknown_preset_lists_all() -> None:
    with pytest.raises(InputError, match=r"'duett' is unknown.*duet-r2r.*student-s"):
        preset("duett")


@pytest.mark.parametrize(
    "change",
    [
        {"hidden_size": 100},
        {"heads": 0},
        {"language_layers": 0},
        {"panorama_layers": -1},
        {"object_size": 0},
        {"dropout": 1.0},
        {"layer_norm_eps": 0.0},
    ],
)
def test_impossible_sizes(change: dict[str, float]) -> None:
    with pytest.raises(InputError, match="DuetConfig"):
        DuetConfig(**change)


def test_the_small_student_has_at_most_an_eighth_of_its_teacher() -> None:
    assert built_count(preset("student-s")) <= 0.122 * built_count(preset("teacher-s"))
