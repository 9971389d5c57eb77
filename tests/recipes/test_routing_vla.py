"""ActDistill's commands on the small policy: both stages, thresholds, scores on Meta-World."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from cli_tools import sterna
from sterna.actdistill.stack import everything, static
from sterna.actdistill.vla_policy import RoutedVla, fingerprint
from sterna.envs.metaworld import choose_gl
from sterna.errors import InputError
from sterna.metrics.manipulation import METAWORLD_10
from sterna.models.vla import VlaConfig
from sterna.models.vla_folder import from_pretrained
from sterna.recipes.actdistill import metaworld
from sterna.recipes.metaworld import train_policy, vla_s
from sterna.recipes.routing_vla import VlaSubject, shorter
from sterna.train.loop import LoopConfig
from toy_demos import CHUNK, SIZE, write_toy_demos

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small teacher of toy demonstrations."""
    root = tmp_path_factory.mktemp("routes")
    loop = LoopConfig(iterations=6, batch_size=8, select_by="last")
    model = VlaConfig(image_size=SIZE, depth=4, width=32, heads=2, ffn=64, chunk=CHUNK)
    demos = write_toy_demos(root / "demos", episodes=10)
    train_policy(replace(vla_s(), demos=demos, model=model, loop=loop), root / "run", threads=1)
    return root


def test_both_stages_and_a_budget(root: Path, tmp_path: Path, capsys: Capture) -> None:
    about = ("--teacher", root / "run", "--demos", root / "demos", "--judged", 24, "--json")
    small = ("--graph.width", 8, "--graph.size", 8, "--graph.heads", 2, "--graph.neighbours", 3)
    batch = ("--probe.batch-size", 8, "--loop.batch-size", 8, "--iterations", 5)
    words = ("vla-s", *about, *small, *batch)
    probed, out = tmp_path / "probe", tmp_path / "student"
    found = sterna(capsys, "actdistill", "probe", *words, "--out", probed).json
    assert found["units"] == 4 and found["samples"] == 96
    sterna(capsys, "actdistill", "distill", *words, "--probed", probed, "--out", out)
    rows = sterna(capsys, "actdistill", "calibrate", out, "--rhos", 0.5, "--json").json["budgets"]
    assert rows[0]["spent"] <= 0.5 + 1e-6 and rows[0]["open"][0] == 1.0
    policy = from_pretrained(out / "policy")
    assert policy.config.depth == 4
    said = sterna(capsys, "actdistill", "eval", out, "--rhos", 0.5, "--split", "val_unseen")
    said.refused("--split goals")


def test_students_see_disturbed_frames_and_teachers_do_not(root: Path) -> None:
    config = replace(metaworld(), teacher=root / "run", demos=root / "demos")
    stack, batch = VlaSubject(config).stack, VlaSubject(config).held_out().batch(range(8))
    torch.manual_seed(0)
    seen = stack.disturbed(batch)
    assert seen.images.shape == batch.images.shape and not torch.equal(seen.images, batch.images)
    inner = slice(config.shift, -config.shift)
    for row in range(8):  # each is the picture, moved
        moved = [
            seen.images[row].roll((dy, dx), (1, 2))[:, inner, inner]
            for dy in range(-config.shift, config.shift + 1)
            for dx in range(-config.shift, config.shift + 1)
        ]
        assert any(torch.equal(m, batch.images[row, :, inner, inner]) for m in moved)
    gap = (seen.proprio - batch.proprio) / stack.model.proprio_scale
    assert 0.2 < float(gap.std()) / config.feel_noise < 5
    assert torch.equal(seen.actions, batch.actions)
    still = VlaSubject(replace(config, shift=0, feel_noise=0.0)).stack.disturbed(batch)
    assert torch.equal(still.images, batch.images) and torch.equal(still.proprio, batch.proprio)


def test_gates_are_counted_and_policies_told_apart(root: Path) -> None:
    subject = VlaSubject(replace(metaworld(), teacher=root / "run", demos=root / "demos"))
    stack, batch = subject.stack, subject.held_out().batch(range(5))
    policy = RoutedVla(stack, static(stack, (0, 2)))
    chunks = policy(batch)
    assert policy.rows == 5 and policy.frequencies == [1.0, 0.0, 1.0, 0.0]
    assert torch.equal(chunks, RoutedVla(stack.pruned((0, 2)))(batch))
    marks = [fingerprint(stack, d, [batch]) for d in (everything(stack), static(stack, (0, 2)))]
    assert marks[0] != marks[1]
    assert marks[1] == fingerprint(stack.pruned((0, 2)), everything(stack.pruned((0, 2))), [batch])
    assert set(subject.learn().ids).isdisjoint(subject.held_out().ids)


def test_a_score_of_a_policy(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if find_spec("metaworld") is None:
        pytest.skip("the extra `metaworld` is not installed: policies are not scored")
    try:
        choose_gl()
    except InputError as error:
        pytest.skip(f"policies are not scored: {error}")
    from sterna.metrics.manipulation import ManipulationProtocol
    from sterna.recipes import routing_vla

    few = ManipulationProtocol(
        name="FEW", tasks=("handle-press",), max_steps=6, episodes=1, image_size=SIZE
    )
    monkeypatch.setattr(routing_vla, "METAWORLD_10", few)
    config = replace(
        metaworld(), teacher=root / "run", demos=root / "demos", scores=tmp_path, execute=3
    )
    subject = VlaSubject(config)
    gates = static(subject.stack, (0, 1))
    walked = subject.score(subject.stack, gates, "goals", None, 4)
    assert walked.share == 0.5 and walked.open_ == [1.0, 1.0, 0.0, 0.0]
    assert set(walked.scores) == {"success", "success handle-press"}
    assert walked.per_episode["success"] == [walked.scores["success"]["mean"]]
    again = subject.score(subject.stack, gates, "goals", None, 4)
    assert again.scores == walked.scores and again.open_ == walked.open_
    whole = subject.score(subject.stack, everything(subject.stack), "goals", None, 4)
    assert whole.counted["flops_per_decision"] > walked.counted["flops_per_decision"]
    assert whole.flops == 2 * walked.flops and len(list(tmp_path.iterdir())) == 2


def test_a_limit_counts_the_episodes_of_all_tasks() -> None:
    assert shorter(METAWORLD_10, None) is METAWORLD_10 is shorter(METAWORLD_10, 500)
    assert shorter(METAWORLD_10, 200).episodes == 20
    assert shorter(METAWORLD_10, 3).episodes == 1
    assert shorter(METAWORLD_10, 200).hash != METAWORLD_10.hash
