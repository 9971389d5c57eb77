"""A routed DUET as ONNX: its decisions are those of the routed policy in torch, walk by walk."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cli_tools import sterna
from sterna.actdistill.adapters.duet import DuetStack, recent_moves
from sterna.actdistill.router import Router, RouterConfig
from sterna.edge.bench.episode import Shape, observations, word_ids
from sterna.edge.bench.flops import count_flops
from sterna.edge.bench.torch_engine import TorchEngine
from sterna.edge.routed_duet import last_move
from sterna.edge.routed_files import Routed, write_routed
from sterna.edge.runtime import Engine, Navigator
from sterna.edge.runtime.engine import session_of
from sterna.envs.graph_env import GraphEnv
from sterna.errors import InputError
from sterna.files import write_json
from sterna.models.agent import Agent
from sterna.models.duet import DUET, DuetConfig
from sterna.models.walk import walk
from sterna.recipes.actdistill import deep_toy_teacher
from sterna.recipes.routed_export import export_duet
from sterna.recipes.start import begin
from sterna.recipes.world import World


@dataclass(frozen=True)
class Made:
    """A routed policy of random weights, its export, its world."""

    routed: Routed
    folder: Path
    card: dict[str, Any]
    world: World


@pytest.fixture(scope="module")
def made(exporter: None, toy_house: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    recipe = deep_toy_teacher()
    world = World(toy_house, recipe.data)
    sizes = replace(
        recipe.model, hidden_size=16, heads=2, ffn_size=16, language_layers=2, cross_layers=2
    )
    model = begin(sizes, replace(recipe.start, still=False), 0, world).eval()
    stack = DuetStack(model)
    torch.manual_seed(1)
    router = Router(stack, RouterConfig(width=8, keep=0.5))
    with torch.no_grad():
        for phase in router.phases:
            phase.out.weight.mul_(60)
            phase.out.bias.zero_()
    routed = Routed(stack=stack, router=router, thresholds={1.0: -1e9, 0.5: 0.0}, rho=0.5)
    out = tmp_path_factory.mktemp("routed")
    write_json(out / "recipe.json", {"data": {}})
    keep = [n for n, unit in enumerate(stack.units) if unit.fixed]
    card = export_duet(
        routed, out, out / "edge", world, int8=True, keep=keep, split="val_seen", about=20
    )
    return Made(routed, out / "edge", card, world)


def test_decisions_are_those_of_torch(made: Made) -> None:
    card = made.card
    assert card["decisions"] > 10 and 0.5 < card["units_run"] < 1.0
    row = card["parity"]["onnx"]
    assert row["agreement"] == 1.0 and row["largest_difference"] < 1e-4
    assert all(one["same_gates"] for one in row["gates"])
    assert all(one["largest_difference"] < 1e-3 for one in row["gates"])
    assert card["parity"]["onnx-int8"]["agreement"] > 0.7  # random weights, 16 wide
    assert "each in an `If`" in (made.folder / "README.md").read_text()


def test_engines_agree_on_an_episode_and_budgets_differ(made: Made) -> None:
    model, shape = made.routed.stack.model, Shape(steps=4, words=9, views=8)
    chances = {}
    for rho, threshold in made.routed.thresholds.items():
        torch_engine = TorchEngine(model, routed=(made.routed.router, threshold))
        for name, engine in (
            ("torch", torch_engine),
            ("onnx", Engine.open(made.folder, rho=rho)),
        ):
            navigator = Navigator(engine, max_steps=shape.steps)
            navigator.start(word_ids(shape, model.config.vocab_size))
            seen = observations(shape, model.config.feature_size)
            scores = [navigator.score(one) for one in seen]
            chances[name, rho] = [score.probabilities for score in scores]
    for rho in made.routed.thresholds:
        for ours, theirs in zip(chances["torch", rho], chances["onnx", rho], strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-5)
    assert not np.allclose(chances["onnx", 1.0][0], chances["onnx", 0.5][0], atol=1e-4)
    whole = TorchEngine(model)
    navigator = Navigator(whole, max_steps=shape.steps)
    navigator.start(word_ids(shape, model.config.vocab_size))
    first = navigator.score(observations(shape, model.config.feature_size)[0])
    np.testing.assert_allclose(first.probabilities, chances["onnx", 1.0][0], atol=1e-5)
    full = count_flops(model, shape)
    part = count_flops(model, shape, (made.routed.router, made.routed.threshold))
    all_open = count_flops(model, shape, (made.routed.router, -1e9))
    assert part.episode < all_open.episode and full.episode < all_open.episode  # routers cost too


def test_the_static_graphs_are_the_pruned_policy(made: Made) -> None:
    stack = made.routed.stack
    keep = [n for n, unit in enumerate(stack.units) if unit.fixed]
    pruned = stack.pruned(keep).model
    shape = Shape(steps=2, words=9, views=8)
    found = []
    for engine in (TorchEngine(pruned), Engine.open(made.folder, "onnx-static")):
        navigator = Navigator(engine, max_steps=2)
        navigator.start(word_ids(shape, pruned.config.vocab_size))
        seen = observations(shape, pruned.config.feature_size)
        found.append([navigator.score(one).probabilities for one in seen])
    for ours, theirs in zip(*found, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize("off", ["vision", "text"])
def test_a_router_that_sees_less_is_exported_alike(
    exporter: None, tmp_path: Path, off: str
) -> None:
    config = DuetConfig(
        hidden_size=16,
        heads=2,
        ffn_size=16,
        language_layers=2,
        cross_layers=2,
        vocab_size=50,
        feature_size=12,
    )
    torch.manual_seed(0)
    model = DUET(config).eval()
    stack = DuetStack(model)
    router = Router(stack, RouterConfig(width=8, keep=0.5, **{off: False}))
    with torch.no_grad():
        for phase in router.phases:
            phase.out.weight.mul_(60)
            phase.out.bias.zero_()
    routed = Routed(stack=stack, router=router, thresholds={0.5: 0.0}, rho=0.5)
    write_routed(routed, tmp_path, int8=False)
    engine, shape = TorchEngine(model, routed=(router, 0.0)), Shape(steps=4, words=9, views=8)
    found = []
    for where in ("torch", "onnx"):
        if where == "onnx":
            names = ("text", "panorama", "step")
            sessions = [session_of(tmp_path / f"{name}.onnx", 1) for name in names]
            engine._text, engine._panorama, engine._step = sessions
        navigator = Navigator(engine, max_steps=4)
        navigator.start(word_ids(shape, config.vocab_size))
        seen = observations(shape, config.feature_size)
        found.append([navigator.score(one).probabilities for one in seen])
    for ours, theirs in zip(*found, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_the_last_move_is_read_off_the_map(made: Made) -> None:
    """As training tells the router, at every decision of walks."""
    episodes = made.world.episodes("val_seen", about=3)
    panoramas = made.world.panoramas(episodes)
    agent = Agent(made.routed.stack.model, panoramas)
    with torch.inference_mode():
        done = walk(agent, GraphEnv(panoramas), episodes, max_steps=5, keep=True)
    checked = 0
    for rows in done.rows:
        for row, wanted in enumerate(recent_moves(rows)):
            mask = torch.from_numpy(rows.mask[row])
            given = (rows.steps[row], rows.positions[row], rows.visited[row])
            steps, places, visited = (
                torch.from_numpy(np.ascontiguousarray(g))[mask] for g in given
            )
            found = last_move(steps, places, visited).numpy()
            np.testing.assert_allclose(found, wanted, atol=1e-6)
            checked += 1
    assert checked > 5


def test_static_graphs_walk_and_keep_what_most_decisions_run(
    capsys: pytest.CaptureFixture[str], made: Made, toy_house: Path, tmp_path: Path
) -> None:
    words = ("eval", made.folder, "--engine", "onnx-static", "--data", toy_house, "--views", "toy")
    words = (*words, "--split", "val_seen", "--workers", 1, "--out", tmp_path, "--json")
    said = sterna(capsys, *words).json
    assert 0 <= said["scores"]["SR"]["mean"] <= 1
    stack = made.routed.stack
    fixed = {n for n, unit in enumerate(stack.units) if unit.fixed}
    shares = [1.0 if n in fixed else 0.1 for n in range(len(stack.units))]
    free = [n for n in range(len(stack.units)) if n not in fixed]
    shares[free[-1]] = 0.9
    known = {"open_": shares, "costs": [1.0] * len(shares)}
    # There is room for all of them: what is hardly ever asked for stays out.
    assert replace(made.routed, rho=1.0, **known).static() == (*sorted(fixed), free[-1])


def test_wrong_budgets_are_refused(made: Made, exported: Any) -> None:
    with pytest.raises(InputError, match="has no budget"):
        Engine.open(made.folder, rho=0.2)
    with pytest.raises(InputError, match="is no routed policy"):
        Engine.open(exported.folder, rho=0.5)
    manifest = json.loads((made.folder / "manifest.json").read_text())
    assert [row["rho"] for row in manifest["routes"]["budgets"]] == [1.0, 0.5]
