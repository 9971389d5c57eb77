"""A student that begins from its teacher: exactly, between equal sizes; near it, reduced."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from sterna.data.episodes import Episode
from sterna.envs.graph_env import Panoramas
from sterna.errors import InputError
from sterna.minivln.inherit import inherit
from sterna.minivln.stage1 import Stage1Config, Stage1Task
from sterna.minivln.stage2 import DistillConfig, DistillTask
from sterna.models.config import DuetConfig
from sterna.models.duet import DUET
from sterna.models.pretraining import PretrainModel, TaskName
from sterna.train.imitation import ImitationConfig
from sterna.train.pretrain.task import PretrainConfig, TaskMix
from sterna.train.schedule import uniform_draws
from toy import TINY, tiny_model
from toy_pretrain import CALM, MASKING

WIDE = replace(
    TINY,
    hidden_size=48,
    heads=6,
    ffn_size=96,
    language_layers=3,
    panorama_layers=2,
    cross_layers=2,
    dropout=0.0,
    feature_dropout=0.0,
)
DEEP = replace(WIDE, language_layers=1, panorama_layers=1, cross_layers=1)
SMALL = replace(WIDE, hidden_size=24, heads=3, ffn_size=48)


def terms(
    student: DUET, teacher: DUET, panoramas: Panoramas, episodes: list[Episode], back: Any = None
) -> dict[str, float]:
    torch.manual_seed(3)
    task = DistillTask(
        student, teacher, panoramas, ImitationConfig(), DistillConfig(normalise=True)
    ).eval()
    if back is not None:
        for linear in (task.text_map, task.panorama_map):
            linear.weight.data.copy_(back)
    batch = task.collect(episodes[:100:10], [], uniform_draws(0, 2, 0, (15, 1)))
    with torch.no_grad():
        return dict(task(batch).metrics)


def test_equal_sizes_give_the_teacher(panoramas: Panoramas, episodes: list[Episode]) -> None:
    teacher, student = tiny_model(1, WIDE), tiny_model(0, WIDE)
    back = inherit(student, teacher, panoramas, episodes)
    assert torch.equal(back, torch.eye(48))
    wanted = teacher.state_dict()
    assert all(torch.equal(value, wanted[name]) for name, value in student.state_dict().items())
    found = terms(student, teacher, panoramas, episodes)
    # The teacher reads each instruction alone, the student in a batch: rounding stays.
    assert found["text"] < 1e-9 and found["panorama"] < 1e-9


def test_depth_alone_takes_the_mapped_blocks(panoramas: Panoramas, episodes: list[Episode]) -> None:
    teacher, student = tiny_model(1, WIDE), tiny_model(0, DEEP)
    inherit(student, teacher, panoramas, episodes)
    mine, theirs = student.state_dict(), teacher.state_dict()
    for prefix, source in (
        ("lang_encoder.layer.", 2),
        ("img_embeddings.pano_encoder.layers.", 1),
        ("local_encoder.encoder.x_layers.", 1),
        ("global_encoder.encoder.x_layers.", 1),
    ):
        names = [name for name in mine if name.startswith(f"{prefix}0.")]
        assert names
        for name in names:
            origin = name.replace(f"{prefix}0.", f"{prefix}{source}.")
            assert torch.equal(mine[name], theirs[origin]), name
    outside = [n for n in mine if "layer" not in n.split("LayerNorm")[0]]
    assert outside and all(torch.equal(mine[n], theirs[n]) for n in outside)


@pytest.mark.parametrize(
    ("change", "share"),
    [
        ({}, 0.5),
        ({"heads": 4}, 0.5),
        ({"language_layers": 1, "panorama_layers": 1, "cross_layers": 1}, 0.9),
    ],
    ids=["width", "heads", "depth"],
)
def test_reduced_widths_begin_nearer_than_random(
    panoramas: Panoramas, episodes: list[Episode], change: dict[str, int], share: float
) -> None:
    """Even of a random teacher, whose states fill all directions and whose blocks all matter."""
    teacher = tiny_model(1, WIDE)
    sizes = replace(SMALL, **change)
    random = terms(tiny_model(0, sizes), teacher, panoramas, episodes)
    student = tiny_model(0, sizes)
    back = inherit(student, teacher, panoramas, episodes)
    found = terms(student, teacher, panoramas, episodes, back)
    torch.testing.assert_close(back.T @ back, torch.eye(24), atol=1e-5, rtol=0)
    assert found["text"] < share * random["text"]
    assert found["panorama"] < share * random["panorama"]
    # Left-out blocks of a random teacher decide as much as the mapped ones.
    assert "language_layers" in change or found["fuse"] < random["fuse"]
    assert all(torch.isfinite(value).all() for value in student.state_dict().values())


@pytest.mark.parametrize("name", ["mlm", "sap"])
def test_stage_one(panoramas: Panoramas, episodes: list[Episode], name: TaskName) -> None:
    """Equal sizes: every term 0. Reduced: nearer than random, in hidden states and words."""
    theirs = replace(WIDE, lang2visn=True, vocab_size=CALM.vocab_size)
    config = PretrainConfig(mix=TaskMix(mlm=1.0, sap=1.0), masking=MASKING)

    def losses(sizes: DuetConfig, *, begin: bool) -> dict[str, float]:
        teacher, student = tiny_model(1, theirs), tiny_model(0, sizes)
        back = inherit(student, teacher, panoramas, episodes) if begin else None
        torch.manual_seed(3)
        task = Stage1Task(
            PretrainModel(student),
            PretrainModel(teacher),
            panoramas,
            config,
            Stage1Config(normalise=True, attention=sizes.heads == theirs.heads),
        ).eval()
        for linear in (task.embedding_map, *task.hidden_maps.values()) if begin else ():
            linear.get_parameter("weight").data.copy_(back)
        batch = task.draw(episodes[:60:10], 0, 4, task=name)
        with torch.no_grad():
            metrics = task(batch).metrics
        return {n: v for n, v in metrics.items() if not n.startswith(name)}

    equal = losses(theirs, begin=True)
    assert len(equal) == 9 and max(equal.values()) < 1e-10
    sizes = replace(theirs, hidden_size=24, heads=3, ffn_size=48)
    random, found = losses(sizes, begin=False), losses(sizes, begin=True)
    assert found.keys() == random.keys() and len(found) == 5
    assert all(found[n] < 0.6 * random[n] for n in found), (found, random)


def test_text_branches_are_reduced_too(panoramas: Panoramas, episodes: list[Episode]) -> None:
    teacher = tiny_model(1, replace(WIDE, lang2visn=True))
    student = tiny_model(0, replace(SMALL, lang2visn=True))
    before = {name: value.clone() for name, value in student.state_dict().items()}
    inherit(student, teacher, panoramas, episodes)
    after = student.state_dict()
    same = [name for name, value in before.items() if torch.equal(value, after[name])]
    # A random model's biases are 0 on both sides; the norms inside heads stay plain.
    assert all(".net.2." in n or n.endswith("bias") for n in same), same


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"hidden_size": 96}, "hidden_size is 96"),
        ({"heads": 8}, "heads is 8"),
        ({"vocab_size": 65}, "vocab_size is 65"),
        ({"language_layers": 4}, "language blocks"),
        ({"lang2visn": True}, "no text branches"),
        ({"word_size": 8}, "word_size is 8 in the student and None in the teacher"),
    ],
)
def test_what_does_not_fit_is_refused(
    panoramas: Panoramas, episodes: list[Episode], change: dict[str, Any], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        inherit(tiny_model(0, replace(WIDE, **change)), tiny_model(1, WIDE), panoramas, episodes)
