"""First lessons: the student comes to read and look like its teacher, reproducibly."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sterna.data.episodes import Episode
from sterna.envs.graph_env import Panoramas
from sterna.errors import InputError
from sterna.files import read_json
from sterna.minivln.lessons import give_language_lessons, give_lessons
from sterna.minivln.stage2 import DistillConfig, DistillTask
from sterna.recipes.r2r import toy_student, toy_teacher
from sterna.recipes.runs import train
from sterna.train.imitation import ImitationConfig
from toy import TINY, tiny_model

CALM = replace(TINY, dropout=0.0, feature_dropout=0.0)
WIDE = replace(TINY, hidden_size=36, heads=6, language_layers=2)


def taught(
    panoramas: Panoramas, episodes: list[Episode], **change: bool | str
) -> tuple[DistillTask, list[dict[str, float]]]:
    torch.manual_seed(7)
    config = DistillConfig(lessons=60, lesson_size=8, **change)  # type: ignore[arg-type]
    student, teacher = tiny_model(0, CALM), tiny_model(1, WIDE)
    task = DistillTask(student, teacher, panoramas, ImitationConfig(), config)
    log: list[dict[str, float]] = []

    def write(kind: str, number: int, values: dict[str, float]) -> None:
        assert kind == "lesson"
        log.append(values | {"number": number})

    give_lessons(task, episodes[:60], learning_rate=5e-3, seed=3, write=write, every=5)
    return task, log


def test_errors_fall_and_nothing_else_moves(panoramas: Panoramas, episodes: list[Episode]) -> None:
    fresh = tiny_model(0, CALM).state_dict()
    teacher = tiny_model(1, WIDE).state_dict()
    task, log = taught(panoramas, episodes)
    assert [entry["number"] for entry in log] == list(range(5, 61, 5))
    for name in ("text", "panorama"):
        assert log[-1][name] < 0.8 * log[0][name]
    moved = {k for k, v in task.policy.state_dict().items() if not torch.equal(v, fresh[k])}
    assert {name.split(".")[0] for name in moved} == {
        "embeddings",
        "lang_encoder",
        "img_embeddings",
    }
    assert all(torch.equal(v, teacher[k]) for k, v in task.teacher.state_dict().items())


def tutored(
    panoramas: Panoramas, episodes: list[Episode]
) -> tuple[DistillTask, list[dict[str, float]]]:
    torch.manual_seed(7)
    config = DistillConfig(language_lessons=60, language_lesson_rate=1e-2, lesson_size=8, reading=4)
    student, teacher = tiny_model(0, CALM), tiny_model(1, WIDE)
    texts = [replace(e, instruction_id=f"more {e.instruction_id}") for e in episodes[60:80]]
    task = DistillTask(student, teacher, panoramas, ImitationConfig(), config, texts=texts)
    log: list[dict[str, float]] = []

    def write(kind: str, number: int, values: dict[str, float]) -> None:
        assert kind == "language-lesson"
        log.append(values | {"number": number})

    give_language_lessons(task, episodes[:60], seed=3, write=write, every=10)
    return task, log


def test_language_lessons_move_language_alone(
    panoramas: Panoramas, episodes: list[Episode]
) -> None:
    fresh = tiny_model(0, CALM).state_dict()
    task, log = tutored(panoramas, episodes)
    again, _ = tutored(panoramas, episodes)
    assert [entry["number"] for entry in log] == list(range(10, 61, 10))
    assert log[-1]["text"] < 0.8 * log[0]["text"] and log[-1]["rate"] < log[2]["rate"] < 1e-2
    moved = {k for k, v in task.policy.state_dict().items() if not torch.equal(v, fresh[k])}
    assert {name.split(".")[0] for name in moved} == {"embeddings", "lang_encoder"}
    assert all(torch.equal(v, again.state_dict()[k]) for k, v in task.state_dict().items())


def test_same_seed_same_weights(panoramas: Panoramas, episodes: list[Episode]) -> None:
    one, two = (taught(panoramas, episodes)[0].state_dict() for _ in range(2))
    assert all(torch.equal(v, two[k]) for k, v in one.items())


def test_a_switched_off_term_is_not_taught(panoramas: Panoramas, episodes: list[Episode]) -> None:
    task, log = taught(panoramas, episodes, text=False)
    fresh = tiny_model(0, CALM).lang_encoder.state_dict()
    assert "text" not in log[0] and "panorama" in log[0]
    assert all(torch.equal(v, fresh[k]) for k, v in task.policy.lang_encoder.state_dict().items())


def test_a_narrow_teacher_changes_little(panoramas: Panoramas, episodes: list[Episode]) -> None:
    wide, _ = taught(panoramas, episodes)
    narrow, _ = taught(panoramas, episodes, teacher_precision="bf16")
    a, b = wide.read(episodes[:4]), narrow.read(episodes[:4])
    assert not torch.equal(a, b)
    assert (a - b).abs().max() < 0.1 * a.abs().max()


def test_bad_settings_are_refused() -> None:
    for wrong, message in (
        ({"lessons": -1}, "lessons"),
        ({"lesson_size": 0}, "lesson_size"),
        ({"lessons": 1, "text": False, "panorama": False}, "text or the panorama"),
        ({"teacher_precision": "fp8"}, "fp8"),
        ({"language_lessons": -1}, "language_lessons"),
        ({"language_lessons": 1, "text": False}, "language_lessons need the text"),
        ({"language_lesson_rate": 0.0}, "language_lesson_rate"),
    ):
        with pytest.raises(InputError, match=message):
            DistillConfig(**wrong)  # type: ignore[arg-type]


def test_a_run_gives_them_once(toy_house: Path, tmp_path: Path) -> None:
    """In the log before the first iteration; a continued run does not repeat them."""
    loop = replace(toy_teacher().loop, iterations=2, warm_start=1, eval_every=2, log_every=1)
    select = replace(toy_teacher().select, episodes=10)
    train(replace(toy_teacher(), loop=loop, select=select), toy_house, tmp_path / "teacher")
    run = replace(
        toy_student(),
        loop=loop,
        select=select,
        teacher=tmp_path / "teacher" / "best",
        distill=DistillConfig(lessons=2, lesson_size=4, language_lessons=3),
    )
    train(run, toy_house, tmp_path / "student")
    log = (tmp_path / "student" / "log.jsonl").read_text()
    assert log.count('"lesson"') == 1
    assert log.count('"language-lesson"') == 1
    assert log.index('"language-lesson"') < log.index('"lesson"') < log.index('"train"')
    train(run, toy_house, tmp_path / "student")
    assert (tmp_path / "student" / "log.jsonl").read_text() == log
    assert read_json(tmp_path / "student" / "run.json")["config"]["distill"]["lessons"] == 2
