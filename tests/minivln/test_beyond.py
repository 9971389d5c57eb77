"""Beyond the paper: temperatures over a run, and the teacher's corrections of explorations."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sterna.data.episodes import Episode
from sterna.envs.graph_env import Panoramas
from sterna.errors import InputError
from sterna.minivln.stage2 import DistillConfig, DistillTask
from sterna.models.agent import token_batch
from sterna.train.imitation import ImitationConfig, Recorded
from sterna.train.schedule import uniform_draws
from toy import TINY, tiny_model
from toy_run import toy_trainer

CALM = replace(TINY, dropout=0.0, feature_dropout=0.0)
WIDE = replace(TINY, hidden_size=36, heads=6, language_layers=2, cross_layers=2)


def make_task(
    panoramas: Panoramas, texts: tuple[Episode, ...] = (), **settings: Any
) -> DistillTask:
    return DistillTask(
        tiny_model(0, CALM),
        tiny_model(1, WIDE),
        panoramas,
        ImitationConfig(),
        DistillConfig(**settings),
        texts=texts,
    )


def collect(task: DistillTask, episodes: list[Episode], iteration: int = 0) -> Recorded:
    draws = uniform_draws(0, 2, iteration, (15, 20))
    return task.collect(episodes[:100:20], episodes[200:300:5], draws)


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_a_share_of_labels_is_the_teachers(
    panoramas: Panoramas, episodes: list[Episode], share: float
) -> None:
    expert = collect(make_task(panoramas), episodes)
    task = make_task(panoramas, corrections=share)
    batch, again = collect(task, episodes), collect(task, episodes)
    assert np.array_equal(batch.rows.node, expert.rows.node), "the walk is the same"
    assert np.array_equal(batch.labels, again.labels), "a function of the draws"
    best = task.prepare(expert).taught
    assert best is not None
    greedy = best.argmax(1).numpy()
    shown = batch.rows.agent < 5
    assert np.array_equal(batch.labels[shown], expert.labels[shown]), "demonstrations stay"
    told, wanted = batch.labels[~shown], expert.labels[~shown]
    assert ((told == wanted) | (told == greedy[~shown])).all()
    differ = greedy[~shown] != wanted
    assert differ.sum() > 30, "the test should see disagreement"
    assert (told != wanted)[differ].mean() == pytest.approx(share, abs=0.15)
    rows = np.arange(len(batch.rows))
    open_ = (batch.rows.mask & ~batch.rows.visited)[rows, batch.labels]
    assert open_.all(), "only open slots are labels"


def test_other_iterations_correct_other_decisions(
    panoramas: Panoramas, episodes: list[Episode]
) -> None:
    task = make_task(panoramas, corrections=0.5)
    a, b = (collect(task, episodes, iteration) for iteration in (0, 1))
    assert a.taught is not None and not np.array_equal(a.labels, b.labels)


def test_corrections_without_the_fuse_term(panoramas: Panoramas, episodes: list[Episode]) -> None:
    task = make_task(panoramas, corrections=1.0, fuse=False)
    metrics = task(collect(task, episodes)).metrics
    assert "fuse" not in metrics and np.isfinite(metrics["action"])


class StoppedError(Exception):
    """The machine went away."""


@pytest.mark.parametrize("replay", [0, 2])
def test_resume_is_exact(toy_house: Path, tmp_path: Path, replay: int) -> None:
    """Temperatures, corrections and what is followed go by the iteration, not the process."""
    how: dict[str, Any] = {"replay": replay}
    how["distil"] = DistillConfig(
        temperature=4.0,
        final_temperature=1.0,
        corrections=0.5,
        reading=2,
        swapped=2,
        words=(9, TINY.vocab_size),
        follow=2,
    )
    whole = toy_trainer(toy_house, tmp_path / "a", 10, texts=True, **how)
    whole.run()
    broken = toy_trainer(toy_house, tmp_path / "b", 10, texts=True, **how)
    iterate = broken.step

    def failing(iteration: int) -> Any:
        if iteration == 7:  # saved at 5
            raise StoppedError
        return iterate(iteration)

    broken.step = failing  # type: ignore[method-assign]
    with pytest.raises(StoppedError):
        broken.run()
    resumed = toy_trainer(toy_house, tmp_path / "b", 10, texts=True, **how)
    assert resumed.progress.iteration == 5
    resumed.run()
    ends = resumed.task.state_dict()
    assert all(torch.equal(value, ends[name]) for name, value in whole.task.state_dict().items())


def test_temperature_moves_with_the_run(toy_house: Path, tmp_path: Path) -> None:
    how = {"distil": DistillConfig(temperature=4.0, final_temperature=2.0)}
    trainer = toy_trainer(toy_house, tmp_path, 6, **how)
    seen = []
    for iteration in (0, 5):
        trainer._pieces(iteration)
        assert isinstance(trainer.task, DistillTask)
        seen.append(trainer.task.distill.tau(trainer.task.done))
    assert seen == [4.0, 2.0]


def test_what_is_read_beside_the_walks(panoramas: Panoramas, episodes: list[Episode]) -> None:
    """The term is the mean squared error of the words, by hand; it moves the reader alone."""
    texts = tuple(replace(e, instr_id=f"other:{e.instr_id}") for e in episodes[300:340])
    task = make_task(panoramas, texts, reading=6)
    drawn = task.drawn_texts(3, 5)
    assert len(drawn) == 6 and {e.instr_id for e in drawn} <= {e.instr_id for e in texts}
    assert drawn == task.drawn_texts(3, 5) and drawn != task.drawn_texts(3, 6)
    batch = collect(task, episodes)
    plain, beside = task(batch), task(replace(batch, read=drawn))
    task.zero_grad()
    (beside.loss - plain.loss).backward()
    # All else is what rounding leaves of a difference.
    named = task.named_parameters()
    moved = {n for n, p in named if p.grad is not None and p.grad.abs().max() > 1e-6}
    reader = ("policy.embeddings.", "policy.lang_encoder.", "text_map.")
    assert moved and all(name.startswith(reader) for name in moved)
    errors = []
    with torch.no_grad():
        for episode in drawn:
            ids, mask = token_batch([episode])
            mine = task.text_map(task.policy.encode_text(ids, mask).embeds[0])
            theirs = task.teacher.encode_text(ids, mask).embeds[0]
            errors.append((mine - theirs).square().mean(-1).numpy())
    by_hand = np.concatenate(errors).mean()
    assert beside.metrics["read"] == pytest.approx(float(by_hand), rel=1e-4)
    gain = float(beside.loss.detach() - plain.loss.detach())
    assert gain == pytest.approx(0.1 * by_hand, rel=1e-3)


def test_reading_wants_texts(panoramas: Panoramas) -> None:
    with pytest.raises(InputError, match="--read r2r"):
        DistillTask(
            tiny_model(0, CALM),
            tiny_model(1, WIDE),
            panoramas,
            ImitationConfig(),
            DistillConfig(reading=2),
        )


def test_walks_that_the_teacher_alone_labels(panoramas: Panoramas, episodes: list[Episode]) -> None:
    """Followed walks go to their ends; the loss is the teacher's terms, and no label counts."""
    texts = tuple(replace(e, instr_id=f"other:{e.instr_id}") for e in episodes[300:340])
    away = tuple(replace(e, scan="elsewhere") for e in texts[:3])
    task = make_task(panoramas, (*away, *texts), follow=5)
    batch = task.followed(3, 5)
    assert batch is not None and batch.unlabelled and len(batch.episodes) == 5
    assert all(e.scan != "elsewhere" for e in batch.episodes)
    again, other = task.followed(3, 5), task.followed(3, 6)
    assert again is not None and other is not None
    assert again.episodes == batch.episodes != other.episodes
    ends = {a: n for a, n in zip(batch.rows.agent, batch.rows.node, strict=True)}
    goals = [panoramas.atlas.node(e.scan, e.goal) for e in batch.episodes]
    assert [ends[a] for a in range(5)] == goals
    found = task(batch)
    terms = task(replace(batch, unlabelled=False)).metrics
    by_hand = 0.1 * (terms["text"] + terms["panorama"] + terms["fuse"])
    assert found.metrics.keys() == {"followed"}
    assert float(found.loss.detach()) == pytest.approx(by_hand, rel=1e-5)
    wrong = replace(batch, labels=np.zeros_like(batch.labels))
    assert float(task(wrong).loss.detach()) == float(found.loss.detach())
    task.zero_grad()
    found.loss.backward()
    moved = {n.split(".")[1] for n, p in task.named_parameters() if p.grad is not None}
    assert {"lang_encoder", "img_embeddings", "global_encoder", "local_encoder"} <= moved


def test_followed_walks_are_a_piece_of_their_own(toy_house: Path, tmp_path: Path) -> None:
    how: dict[str, Any] = {"distil": DistillConfig(follow=3), "texts": True}
    trainer = toy_trainer(toy_house, tmp_path, 4, **how)
    own, beside = trainer._pieces(2)
    assert isinstance(own, Recorded) and isinstance(beside, Recorded)
    assert beside.unlabelled and not own.unlabelled
    output, _ = trainer.step(2)
    assert output.metrics["rows"] == len(own.rows) and "followed" in output.metrics


@pytest.mark.parametrize("bad", [{"follow": -1}, {"follow": 4, "weight": 0.0}])
def test_walks_to_follow_need_a_teacher(bad: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="follow must be 0 or more"):
        DistillConfig(**bad)


def test_walks_to_follow_need_instructions_here(
    panoramas: Panoramas, episodes: list[Episode]
) -> None:
    away = tuple(replace(e, scan="elsewhere") for e in episodes[:3])
    with pytest.raises(InputError, match="found 3, 0 of them in scans of this task"):
        make_task(panoramas, away, follow=2)


def test_words_that_nobody_said(panoramas: Panoramas, episodes: list[Episode]) -> None:
    """A share of the words is swapped, never the ends; the term is eq. (6) on what results."""
    texts = tuple(replace(e, instr_id=f"other:{e.instr_id}") for e in episodes[300:340])
    words = (40, TINY.vocab_size)
    task = make_task(panoramas, texts, swapped=20, swap=0.3, words=words)
    drawn = task.swapped_texts(3, 5)
    assert drawn == task.swapped_texts(3, 5) and drawn != task.swapped_texts(3, 6)
    named = {e.instr_id: e for e in texts}
    old = [np.array(named[e.instr_id].token_ids) for e in drawn]
    new = [np.array(e.token_ids) for e in drawn]
    changed = [a != b for a, b in zip(old, new, strict=True)]
    assert not any(c[0] or c[-1] for c in changed)
    told = np.concatenate([b[c] for b, c in zip(new, changed, strict=True)])
    assert words[0] <= told.min() and told.max() < words[1] and len(set(told.tolist())) > 10
    inner = np.concatenate([c[1:-1] for c in changed])
    assert inner.mean() == pytest.approx(0.3, abs=0.1)
    batch = collect(task, episodes)
    plain, beside = task(batch), task(replace(batch, swapped=drawn))
    again = task.reading(drawn, normalise=False, kept=False)
    assert beside.metrics["swapped"] == pytest.approx(float(again.detach()), rel=1e-5)
    # Twins by hand: the teacher reads the changed words, not what it keeps of the instruction.
    kept = task.reading(drawn, normalise=False)
    assert float(kept.detach()) != pytest.approx(float(again.detach()), rel=1e-3)
    gain = float(beside.loss.detach() - plain.loss.detach())
    assert gain == pytest.approx(0.1 * beside.metrics["swapped"], rel=1e-3)


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        ({"swapped": -1}, "swapped must be 0 or more"),
        ({"swapped": 2, "text": False}, "needs the text term"),
        ({"swap": 0.0}, "swap is a share above 0"),
        ({"words": (9, 9)}, "found 0.4 and 9 9"),
    ],
)
def test_swaps_that_cannot_be(bad: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=told):
        DistillConfig(**bad)


def test_swaps_keep_to_the_vocabulary(panoramas: Panoramas, episodes: list[Episode]) -> None:
    with pytest.raises(InputError, match="the models know 64 word pieces"):
        make_task(panoramas, tuple(episodes[:3]), swapped=2)
