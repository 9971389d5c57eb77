"""Navigators that answer in words, exported: passes with a cache, routed, static, without torch."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edge.test_alone import NEEDED, TAKEN, make_site
from sterna.actdistill.adapters.navigator import NavigatorStack, hooked, previous_actions
from sterna.actdistill.router import Router, RouterConfig
from sterna.data.ego.samples import PREVIOUS
from sterna.edge.asked_folder import TorchAnswerer, export_navigator
from sterna.edge.bench.episode import Shape
from sterna.edge.bench.frames import drawn_walk
from sterna.edge.bench.process import Plan
from sterna.edge.routed_files import Routed
from sterna.edge.runtime.actor import Actor
from sterna.edge.runtime.answerer import Answerer, Seen, Walker, open_walker
from sterna.edge.runtime.folder import MANIFEST, digest
from sterna.errors import InputError
from sterna.models.navigator.agent import ActingConfig, NavigatorAgent
from sterna.models.navigator.folder import save
from sterna.models.navigator.generation import sample
from sterna.recipes.latency import run_latency
from sterna.recipes.navigators import ExportedAgent
from sterna.world.frames import Action
from sterna.world.talk.memory import history
from sterna.world.talk.prompts import Question
from toy_navigator import FAMILIES, SIDE, tiny

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("transformers")

LAYERS, KEEP = 3, (0, 2)
TOLD = "go to the red sofa"
PROGRAM = """
import json, sys
sys.path[:0] = json.loads(sys.argv[1])
import numpy as np
from sterna.edge.runtime.answerer import open_walker
walker = open_walker(sys.argv[2], "onnx-int8", rho=0.5, execute=2)
walker.start("go to the red sofa")
actions = [int(walker.act(np.full((32, 32, 3), 9 * n, np.uint8))) for n in range(3)]
print(json.dumps([actions, walker.last.gates.tolist(), sorted(sys.modules)]))
"""
SPOKEN = ("__init__", "answers", "choices", "images", "memory", "prompts", "reading")
TALK = ("world/frames.py", *(f"world/talk/{name}.py" for name in SPOKEN))


@dataclass(frozen=True)
class Made:
    """A routed navigator of random weights, and its export."""

    routed: Routed
    folder: Path
    card: dict[str, Any]

    @property
    def stack(self) -> NavigatorStack:
        assert isinstance(self.routed.stack, NavigatorStack)
        return self.routed.stack


def _routed(stack: NavigatorStack) -> Routed:
    """A router whose gates differ from question to question."""
    torch.manual_seed(0)
    router = Router(stack, RouterConfig(width=16, keep=0.5)).eval()
    with torch.no_grad():
        # Units in another order: the last is the one that opens now and then.
        weight = router.phases[0].out.weight
        weight.copy_(100 * weight[[0, 2, 1]])
    return Routed(stack=stack, router=router, thresholds={1.0: -1e9, 0.5: 0.0}, rho=0.5)


@pytest.fixture(scope="module")
def made(exporter: None, tmp_path_factory: pytest.TempPathFactory) -> Made:
    stack = NavigatorStack(tiny(tower="conv", layers=LAYERS, history_pool=2).eval())
    routed = _routed(stack)
    folder = tmp_path_factory.mktemp("asked") / "out"
    card = export_navigator(stack, folder, routed=routed, int8=True, keep=KEEP)
    return Made(routed, folder, card)


@pytest.fixture(scope="module")
def whole(exporter: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """Another family, frames of the past as they are, without a router."""
    navigator = tiny(FAMILIES[1], tower="conv", layers=2, history_pool=1).eval()
    folder = tmp_path_factory.mktemp("whole") / "out"
    export_navigator(NavigatorStack(navigator), folder)
    return navigator, folder


def _walk(one: Any, steps: int, seed: int = 3) -> list[Any]:
    """Answers along a walk, each after what the first action of the one before was."""
    seen: list[Seen] = []
    taken: list[int] = []
    out = []
    for frame in drawn_walk((SIDE, SIDE), steps, seed):
        seen.append(one.see(frame))
        out.append(one.answer(TOLD, seen, taken))
        taken.append(max(1, int(out[-1].actions[0])))
    return out


@pytest.mark.parametrize("rho", [1.0, 0.5])
def test_answers_and_gates_are_those_of_torch(made: Made, rho: float) -> None:
    twin = TorchAnswerer(made.stack, made.routed.router, made.routed.thresholds[rho])
    wanted = _walk(twin, 9)
    found = _walk(Answerer.open(made.folder, rho=rho), 9)
    for a, b in zip(wanted, found, strict=True):
        assert a.gates.tolist() == b.gates.tolist()
        assert a.actions.tolist() == b.actions.tolist()
        assert b.log_prob == pytest.approx(a.log_prob, abs=1e-4)
        assert b.flops == pytest.approx(a.flops, rel=1e-6)
    runs = {tuple(one.gates.tolist()) for one in found}
    assert runs == {(True,) * LAYERS} if rho == 1.0 else len(runs) > 1


@pytest.mark.parametrize(("family", "threshold"), [(FAMILIES[0], 0.0), (FAMILIES[1], -8.0)])
def test_torch_answers_as_transformers_own_pass_does(family: str, threshold: float) -> None:
    """One row here; there the model's forward with layers hooked, its cache and its masks."""
    kinds = {"tower": "conv", "layers": LAYERS, "history_pool": 2}
    stack = NavigatorStack(tiny(family, **kinds).eval())
    routed = _routed(stack)
    navigator, wording = stack.model, stack.model.wording
    twin = TorchAnswerer(stack, routed.router, threshold)
    frames = drawn_walk((SIDE, SIDE), 9, 3)
    seen: list[Seen] = []
    taken: list[int] = []
    gates = set()
    for step, frame in enumerate(frames):
        seen.append(twin.see(frame))
        found = twin.answer(TOLD, seen, taken)
        past = history(step, navigator.history.kind, navigator.history.budget)
        asked = Question(TOLD, past, np.array(taken[-PREVIOUS:], np.int64))
        batch = navigator.batch([asked], (SIDE, SIDE), frames=frames[[*past, step]])
        with hooked(stack, routed.router.decide(threshold)) as held, torch.no_grad():
            held.previous = previous_actions([taken])
            wanted = sample(navigator, batch, constrained=True)
        assert held.gates is not None
        assert (held.gates[0] > 0.5).tolist() == found.gates.tolist()
        assert wording.parse(wanted.texts[0]) is not None
        assert wording.answer(found.actions.tolist()) == wanted.texts[0]
        assert found.log_prob == pytest.approx(float(wanted.log_probs.sum()), abs=1e-5)
        gates.add(tuple(found.gates.tolist()))
        taken.append(step % 3 + 1)
    assert len(gates) > 1


def test_usual_layers_pass_no_branches_and_say_the_same(made: Made) -> None:
    """Where the router opens the static graph's layers that graph runs, otherwise the routed."""
    both, routed = (Answerer.open(made.folder, rho=0.5) for _ in range(2))
    routed._fixed = None
    wanted, found = _walk(routed, 24), _walk(both, 24)
    assert both._fixed is not None and both._fixed.layers == KEEP
    usual = {tuple(np.flatnonzero(one.gates)) == KEEP for one in found}
    assert usual == {True, False}
    for a, b in zip(wanted, found, strict=True):
        assert a.gates.tolist() == b.gates.tolist()
        assert a.actions.tolist() == b.actions.tolist()
        assert b.log_prob == pytest.approx(a.log_prob, abs=1e-5)
    assert Answerer.open(made.folder, "onnx-static")._fixed is None


def test_a_skipped_layer_keeps_nothing_and_costs_nothing(made: Made) -> None:
    whole, half = (_walk(Answerer.open(made.folder, rho=rho), 2)[-1] for rho in (1.0, 0.5))
    assert half.gates.sum() < whole.gates.sum() and half.flops < whole.flops
    graph = onnx.load(made.folder / "pass.onnx").graph
    assert sum(node.op_type == "If" for node in graph.node) == LAYERS - 1  # layer 0 always runs
    static = onnx.load(made.folder / "pass.static.onnx").graph
    assert not any(node.op_type == "If" for node in static.node)
    given = {entry.name for entry in static.input}
    assert {f"keys_{n}" for n in range(LAYERS)} & given == {f"keys_{n}" for n in KEEP}


def test_a_static_graph_is_the_pruned_navigator(made: Made) -> None:
    pruned = made.stack.pruned(KEEP)
    assert isinstance(pruned, NavigatorStack)
    wanted = _walk(TorchAnswerer(pruned), 6)
    found = _walk(Answerer.open(made.folder, "onnx-static"), 6)
    assert [a.actions.tolist() for a in wanted] == [b.actions.tolist() for b in found]
    assert [n for n, on in enumerate(found[0].gates) if on] == list(KEEP)
    assert found[-1].log_prob == pytest.approx(wanted[-1].log_prob, abs=1e-4)


def test_the_card_tells(made: Made) -> None:
    parity = made.card["parity"]
    assert list(parity) == ["onnx", "onnx-int8", "onnx-static", "onnx-static-int8"]
    for engine in ("onnx", "onnx-static"):
        for row in parity[engine]:
            assert row["same_answers"] == row["same_gates"] == row["compared"] == 24
            assert row["largest_difference"] < 1e-4
    full, half = parity["onnx-int8"]
    assert full["units_run"] == LAYERS > half["units_run"]
    assert half["same_gates"] == 24  # the router stays float32, and so does what it sees of words
    files = made.card["files"]
    assert files["pass.int8.onnx"]["bytes"] < 0.5 * files["pass.onnx"]["bytes"]
    assert "onnx-static-int8" in (made.folder / "README.md").read_text()


def test_walks_of_an_agent_are_those_of_torch(whole: tuple[Any, Path]) -> None:
    navigator, folder = whole
    agents = (
        NavigatorAgent(navigator, ActingConfig(execute=2)),
        ExportedAgent(Answerer.open(folder), execute=2),
    )
    walks = []
    for agent in agents:
        frames = [drawn_walk((SIDE, SIDE), 7, seed) for seed in range(2)]
        told = [{"instruction": f"go to the {name}"} for name in ("bed", "red sofa")]
        agent.reset([0, 1], told)
        rows = []
        for step in range(7):
            seen = [{"rgb": frames[slot][step]} for slot in range(2)]
            rows.append(agent.act(seen, [True, step < 5]).tolist())
        walks.append(rows)
    assert walks[0] == walks[1]
    assert walks[1][-1][1] == Action.STOP


def test_runs_where_nothing_else_is_installed(made: Made, tmp_path: Path) -> None:
    site = make_site(tmp_path, (*TAKEN, *TALK), NEEDED)
    paths = json.dumps([str(site)])
    program = [sys.executable, "-S", "-c", PROGRAM, paths, str(made.folder)]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    assert not done.returncode, done.stderr
    actions, gates, modules = json.loads(done.stdout)
    assert len(actions) == 3 and gates[0] and len(gates) == LAYERS
    assert not {"torch", "transformers", "h5py", "scipy"} & set(modules)


def test_a_walker_looks_late_and_at_its_own_copies(made: Made) -> None:
    """A camera that writes every frame into one buffer, and three actions an answer."""
    answerer = Answerer.open(made.folder)
    frames = drawn_walk((SIDE, SIDE), 7, 3)
    walker = Walker(answerer, execute=3)
    walker.start(TOLD)
    seen: list[Seen] = []
    taken: list[int] = []
    planned: list[int] = []
    camera = np.zeros_like(frames[0])
    for frame in frames:
        camera[:] = frame
        action = walker.act(camera)
        seen.append(answerer.see(frame))
        planned = planned or answerer.answer(TOLD, seen, taken).actions[:3].tolist()
        taken.append(planned.pop(0))
        assert action == taken[-1]
    together = answerer.look(frames)
    for one, other in zip(seen, together, strict=True):
        np.testing.assert_allclose(one.now, other.now, atol=1e-5)
        np.testing.assert_allclose(one.then, other.then, atol=1e-5)
    assert answerer.look([]) == []


@pytest.mark.parametrize(
    ("what", "says"),
    [
        (lambda a: a.see(np.zeros((8, 8, 3), np.uint8)), r"uint8 \[32, 32, 3\], found uint8"),
        (lambda a: a.see(np.zeros((32, 32, 3), np.float32)), "found float32"),
        (lambda a: a.answer(TOLD, [], []), "at least one frame"),
        (lambda a: a.answer(" ", [a.see(np.zeros((32, 32, 3), np.uint8))], []), "an instruction"),
        (lambda a: a.answer(TOLD, [a.see(np.zeros((32, 32, 3), np.uint8))], [1]), "0 actions"),
    ],
    ids=["size", "type", "no frame", "no words", "actions"],
)
def test_wrong_input_is_told(made: Made, what: Any, says: str) -> None:
    with pytest.raises(InputError, match=says):
        what(Answerer.open(made.folder))


def test_wrong_folders_are_told(made: Made, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"open it by Answerer\.open"):
        Actor.open(made.folder)
    with pytest.raises(InputError, match=r"no budget 0\.3"):
        Answerer.open(made.folder, rho=0.3)
    with pytest.raises(InputError, match="no engine 'torch'"):
        Answerer.open(made.folder, "torch")
    with pytest.raises(InputError, match="1 to the 3 actions"):
        open_walker(made.folder, execute=9)
    with pytest.raises(InputError, match="no walk is under way"):
        open_walker(made.folder).act(np.zeros((32, 32, 3), np.uint8))
    changed = tmp_path / "changed"
    shutil.copytree(made.folder, changed)
    content = json.loads((changed / MANIFEST).read_text())
    del content["graphs"]["onnx"]["turn"]
    content["digest"] = digest(content)
    (changed / MANIFEST).write_text(json.dumps(content))
    with pytest.raises(InputError, match="an earlier version of sterna; export again"):
        Answerer.open(changed)
    (changed / "pass.onnx").write_bytes(b"other")
    with pytest.raises(InputError, match="not the file that was exported"):
        Answerer.open(changed)


def test_what_cannot_be_exported_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"tower of kind .* is not exported"):
        export_navigator(NavigatorStack(tiny().eval()), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_is_timed(made: Made, whole: tuple[Any, Path], tmp_path: Path) -> None:
    """In torch, exported for the occasion, and as an export, along the same walk."""
    save(made.stack.model, tmp_path / "nav")
    asked = [f"{tmp_path / 'nav'}:torch,onnx", f"{made.folder}:onnx,onnx-static", str(whole[1])]
    shape, plan = Shape(steps=3, rho=0.5), Plan(rounds=1, episodes=1, progress=False)
    result = run_latency(asked, tmp_path / "out", threads=(1,), shape=shape, plan=plan)
    torch_row, own, routed, static, other = result["rows"]
    assert other["units_run"] == 2  # it has no budget, and needs none
    assert torch_row["same_decisions"] == own["same_decisions"] == 3
    assert own["flops_step"] == pytest.approx(torch_row["flops_step"], rel=1e-6)
    assert routed["flops_step"] < own["flops_step"] and static["units_run"] == len(KEEP)
    assert not own["torch_loaded"] and torch_row["torch_loaded"]
    with pytest.raises(InputError, match="no episode in common"):
        run_latency(["minivln:torch", asked[0]], tmp_path / "x", threads=(1,), shape=shape)
