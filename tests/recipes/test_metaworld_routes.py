"""Both stages of ActDistill for the small policy, on toy demonstrations."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sterna.actdistill.distill import RouteConfig
from sterna.actdistill.graph import GraphConfig
from sterna.actdistill.vla_policy import RoutedVla, load_routed
from sterna.errors import InputError
from sterna.files import read_json, write_json
from sterna.models.vla import VlaConfig
from sterna.models.vla_folder import from_pretrained
from sterna.recipes.metaworld import train_policy, vla_s
from sterna.recipes.metaworld_routes import (
    RoutesRun,
    distil_policy,
    fixed_run,
    held_out,
    opened,
    probe_teacher,
)
from sterna.recipes.metaworld_study import static_choices
from sterna.train.loop import LoopConfig
from toy_demos import CHUNK, SIZE, write_toy_demos


def short(iterations: int) -> LoopConfig:
    return LoopConfig(
        iterations=iterations, batch_size=8, log_every=5, save_every=10, select_by="last"
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[RoutesRun, Path]:
    """A small teacher that was probed."""
    root = tmp_path_factory.mktemp("routes")
    base = vla_s()
    model = VlaConfig(image_size=SIZE, depth=4, width=32, heads=2, ffn=64, chunk=CHUNK)
    demos = write_toy_demos(root / "demos", episodes=10)
    teacher = replace(base, demos=demos, model=model, loop=short(12))
    train_policy(teacher, root / "teacher", threads=1)
    config = RoutesRun(
        demos=demos,
        teacher=root / "teacher" / "last",
        graph=GraphConfig(width=8, size=8, neighbours=3, heads=2),
        probe=short(6),
        loop=short(16),
        route=RouteConfig(rho=0.5, warm_up=0.0, anneal=0.2),
        judged=24,
        shift=1,
    )
    return config, probe_teacher(config, root / "probe")


def test_a_routed_student_keeps_to_its_budget(run: tuple[RoutesRun, Path], tmp_path: Path) -> None:
    config, probed = run
    folder = distil_policy(config, probed, tmp_path / "routed") / "last"
    stack, router, threshold = load_routed(folder)
    teacher, samples = opened(config)
    policy = RoutedVla(stack, router.decide(threshold))
    batches = held_out(config, samples)
    chunks = [policy(batch) for batch in batches]
    assert policy.frequencies[0] == 1.0 and sum(policy.frequencies) / 4 <= 0.5 + 1e-6
    assert policy.rows == 24 and chunks[0].shape == (24, CHUNK, 4)
    # What runs is what was trained: with all units it is another function than the teacher's.
    whole, old = RoutedVla(stack), RoutedVla(teacher)
    assert not torch.equal(whole(batches[0]), old(batches[0]))
    with torch.no_grad():
        assert torch.equal(old(batches[0]), teacher.model(batches[0]))
    again = probe_teacher(config, probed)  # done already: nothing is trained anew
    assert again == probed


def test_fixed_units_leave_a_smaller_policy(run: tuple[RoutesRun, Path], tmp_path: Path) -> None:
    config, probed = run
    folder = distil_policy(fixed_run(config, (0, 2)), probed, tmp_path / "fixed") / "last"
    assert from_pretrained(folder).config.depth == 2
    choices = static_choices(config)
    assert choices["first"] == (0, 1)
    assert all(len(keep) == 2 and keep[0] == 0 for keep in choices.values())


def test_a_broken_router_is_named(run: tuple[RoutesRun, Path], tmp_path: Path) -> None:
    config, probed = run
    short_run = replace(config, loop=short(1))
    folder = distil_policy(short_run, probed, tmp_path / "routed") / "last"
    values = read_json(folder / "router.json")
    write_json(folder / "router.json", {"threshold": values["threshold"]})
    with pytest.raises(InputError, match="not a router"):
        load_routed(folder)
