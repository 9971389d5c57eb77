"""Routed policies as ONNX: branches, int8 inside them, static graphs, the actor that runs them."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edge.test_alone import NEEDED, TAKEN, make_site
from sterna.actdistill.adapters.vla import VlaStack
from sterna.actdistill.graph import GraphConfig, GraphHeads
from sterna.actdistill.router import Router, RouterConfig
from sterna.actdistill.stack import act
from sterna.edge.bench.episode import Shape
from sterna.edge.bench.process import Plan
from sterna.edge.bench.routed_saved import TorchActor, save_routed
from sterna.edge.routed import RoutedGraph, form_of
from sterna.edge.routed_files import Routed
from sterna.edge.routed_folder import Feed, drawn_feeds, export_actor, flops_of, in_torch
from sterna.edge.runtime.actor import Actor
from sterna.edge.runtime.engine import Engine
from sterna.errors import InputError
from sterna.models.vla import Vla, VlaConfig
from sterna.recipes.latency import run_latency
from toy_llama_vla import vla

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

UNITS, KEEP = 3, (0, 2)
SIZES = {"image_size": 48, "depth": UNITS, "width": 32, "heads": 2, "ffn": 48, "chunk": 3}
PROGRAM = """
import json, sys
sys.path[:0] = json.loads(sys.argv[1])
import numpy as np
from sterna.edge.runtime.actor import Actor
actor = Actor.open(sys.argv[2], "onnx-int8", rho=0.5)
actor.start("open the door")
done = actor.step(images=np.zeros((1, 48, 48, 3), np.uint8), proprio=np.zeros(4, np.float32))
print(json.dumps([list(done.actions.shape), done.gates.tolist(), sorted(sys.modules)]))
"""


@dataclass(frozen=True)
class Made:
    """A routed policy of random weights, its export, and decisions."""

    routed: Routed
    folder: Path
    card: dict[str, Any]
    feeds: list[Feed]


@pytest.fixture(scope="module")
def made(exporter: None, tmp_path_factory: pytest.TempPathFactory) -> Made:
    torch.manual_seed(0)
    stack = VlaStack(Vla(VlaConfig(words=("open", "door"), **SIZES)).eval())
    stack.heads = GraphHeads(stack, GraphConfig(width=8, size=8))  # as beside a student
    router = Router(stack, RouterConfig(width=16, keep=0.5))
    with torch.no_grad():
        router.phases[0].out.weight.mul_(60)
    feeds = drawn_feeds(RoutedGraph(stack, router), 12)
    graph = RoutedGraph(stack, router)
    rows = [graph.form.batch({k: torch.from_numpy(v) for k, v in feed.items()}) for feed in feeds]
    with torch.no_grad():
        seen = [stack.router_input(stack.prepare(row), 0) for row in rows]
        logits = torch.cat([router.logits(0, one)[:, 1:] for one in seen])
    ranked = logits.sort(0).values
    with torch.no_grad():  # between two rows, so that rounding decides nothing
        router.phases[0].out.bias[1:] -= (ranked[5] + ranked[6]) / 2
    routed = Routed(stack=stack, router=router, thresholds={1.0: -1e9, 0.5: 0.0}, rho=0.5)
    folder = tmp_path_factory.mktemp("routed") / "out"
    card = export_actor(routed, folder, int8=True, keep=KEEP, feeds=feeds)
    return Made(routed, folder, card, feeds)


def test_gates_and_actions_are_those_of_torch(made: Made) -> None:
    stack, router = made.routed.stack, made.routed.router
    form = form_of(stack)
    patterns = set()
    for rho, threshold in made.routed.thresholds.items():
        actor = Actor.open(made.folder, rho=rho)
        for feed in made.feeds:
            batch = form.batch({name: torch.from_numpy(value) for name, value in feed.items()})
            with torch.no_grad():
                wanted, gates = act(stack, batch, router.decide(threshold))
            actions, ran = actor.run(feed)
            assert ran.tolist() == (gates[0][0] > 0.5).tolist()
            np.testing.assert_allclose(actions, wanted[0].numpy(), atol=1e-5)
            patterns.add(tuple(ran.tolist()))
    assert len(patterns) >= 2  # different decisions run different layers


def test_the_card_tells(made: Made) -> None:
    parity, count = made.card["parity"], len(made.feeds)
    assert list(parity) == ["onnx", "onnx-int8", "onnx-static", "onnx-static-int8"]
    for engine in ("onnx", "onnx-static"):
        for row in parity[engine]:
            assert row["same_gates"] == count and row["largest_difference"] < 1e-5
    whole, half = parity["onnx"]
    assert whole["units_run"] == UNITS > half["units_run"] > 1
    for row in parity["onnx-int8"]:
        assert row["same_gates"] >= count - 1 and row["largest_difference"] > 0
    assert "onnx-static-int8" in (made.folder / "README.md").read_text()


def _graph(made: Made, name: str) -> Any:
    return onnx.load(made.folder / name).graph


def _branches(graph: Any) -> dict[str, Any]:
    found = {}
    for node in graph.node:
        if node.op_type == "If":
            found[node.name] = {a.name: a.g for a in node.attribute}
    return found


def _numbers(graph: Any) -> int:
    """Numbers in all weights of a graph, those of its branches included."""
    own = sum(int(np.prod(entry.dims)) for entry in graph.initializer)
    inner = (g for branch in _branches(graph).values() for g in branch.values())
    return own + sum(_numbers(g) for g in inner)


def test_nothing_of_training_is_in_it(made: Made) -> None:
    """The policy's parameters and its router's, and a few constants; graph heads would show."""
    stack, router = made.routed.stack, made.routed.router
    own = sum(p.numel() for p in stack.model.parameters())
    own += sum(p.numel() for p in router.parameters()) + stack.model.bias.numel()
    heads = sum(p.numel() for p in stack.heads.parameters())
    slack = 600  # shapes, word places added beforehand, normalisation of proprioception
    assert heads > 2 * slack
    found = _numbers(_graph(made, "policy.onnx"))
    assert found <= own + slack
    static = _numbers(_graph(made, "policy.static.onnx"))
    layer = sum(p.numel() for p in stack.model.layers[1].parameters())
    spent = sum(p.numel() for p in router.parameters())
    assert static <= own - layer - spent + slack


def test_int8_is_inside_the_branches(made: Made) -> None:
    branches = _branches(_graph(made, "policy.int8.onnx"))
    assert list(branches) == ["unit_1", "unit_2"]  # the first layer always runs
    for branch in branches.values():
        kinds = [node.op_type for node in branch["then_branch"].node]
        assert kinds.count("MatMulInteger") == 4 and "Gemm" not in kinds
        assert kinds.count("MatMul") == 2  # scores and their mix: no weights
        assert [node.op_type for node in branch["else_branch"].node] == ["Identity"]
        weights = {entry.data_type for entry in branch["then_branch"].initializer}
        assert onnx.TensorProto.INT8 in weights
    sizes = {name: made.card["files"][name]["bytes"] for name in made.card["files"]}
    assert sizes["policy.int8.onnx"] < 0.75 * sizes["policy.onnx"]


def test_a_closed_layer_is_not_computed(made: Made, tmp_path: Path) -> None:
    """ONNX Runtime's own profile: nodes of a skipped layer never ran."""
    ran = {}
    for name, threshold in (("closed", 1e9), ("open", -1e9)):
        options = onnxruntime.SessionOptions()
        options.enable_profiling, options.profile_file_prefix = True, str(tmp_path / name)
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        path = str(made.folder / "policy.onnx")
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        feed = made.feeds[0] | {"threshold": np.array(threshold, np.float32)}
        session.run(None, feed)
        events = json.loads(Path(session.end_profiling()).read_text())
        ran[name] = [e["name"] for e in events if e.get("args", {}).get("op_name") == "Gemm"]
    assert len(ran["open"]) - len(ran["closed"]) == 4 * (UNITS - 1) == 8


def test_flops_are_of_what_ran(made: Made) -> None:
    graph = RoutedGraph(made.routed.stack, made.routed.router)
    base, each = flops_of(graph)
    actor = Actor.open(made.folder, rho=0.5)
    actor.start("open the door")
    feed = made.feeds[0]
    done = actor.step(images=feed["images"], proprio=feed["proprio"][0])
    assert done.flops == pytest.approx(base + sum(np.array(each)[done.gates]))
    static = Actor.open(made.folder, "onnx-static")
    static.start("open the door")
    assert static.step(images=feed["images"], proprio=feed["proprio"]).gates.tolist() == [
        n in KEEP for n in range(UNITS)
    ]


def test_the_chunk_before_is_remembered(made: Made) -> None:
    actor = Actor.open(made.folder, rho=0.5)
    given = {name: made.feeds[0][name] for name in ("images", "proprio")}
    actor.start("open the door")
    first = actor.step(**given)
    whole = {**made.feeds[0], "words": np.array([[2, 1, 3] + [0] * 9])}
    whole["recent"] = np.zeros_like(whole["recent"])
    np.testing.assert_array_equal(first.actions, actor.run(whole)[0])
    actor.step(**given)
    whole["recent"] = first.actions.reshape(1, -1)
    threshold = made.routed.threshold
    graph = RoutedGraph(made.routed.stack, made.routed.router)
    again = actor.step(**given)
    assert again.gates.shape == (UNITS,)
    assert in_torch(graph, threshold, whole)[1].shape == (UNITS,)
    actor.start("open the door")
    np.testing.assert_array_equal(actor.step(**given).actions, first.actions)


def test_runs_without_torch(made: Made, tmp_path: Path) -> None:
    site = make_site(tmp_path, TAKEN, NEEDED)
    run = subprocess.run(
        [sys.executable, "-I", "-S", "-c", PROGRAM, json.dumps([str(site)]), str(made.folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    shape, gates, modules = json.loads(run.stdout)
    assert shape == [3, 4] and gates[0]
    assert {name.split(".")[0] for name in modules} & {"torch", "onnx", "scipy"} == set()


def test_bad_use_is_refused(made: Made, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no budget 0.3, it has 1, 0.5"):
        Actor.open(made.folder, rho=0.3)
    with pytest.raises(InputError, match="holds no engine 'onnx-int4'"):
        Actor.open(made.folder, "onnx-int4")
    with pytest.raises(InputError, match=r"kind actor; open it by Actor"):
        Engine.open(made.folder)
    actor = Actor.open(made.folder)
    with pytest.raises(InputError, match="no episode is under way"):
        actor.step(images=made.feeds[0]["images"])
    with pytest.raises(InputError, match="empty sentence"):
        actor.start("  ")
    actor.start("open")
    with pytest.raises(InputError, match="lacks proprio"):
        actor.step(images=made.feeds[0]["images"])
    with pytest.raises(InputError, match=r"images must be uint8 \[1, 1, 48, 48, 3\]"):
        actor.step(images=np.zeros((48, 48, 3), np.uint8), proprio=np.zeros(4))
    with pytest.raises(InputError, match=r"rho 0.4: not among the calibrated budgets"):
        Routed(stack=made.routed.stack, router=made.routed.router, thresholds={0.5: 0.0}, rho=0.4)
    with pytest.raises(InputError, match="head 'token' runs the decoder"):
        form_of(_llama("token"))
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in made.folder.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    with (copy / "policy.int8.onnx").open("ab") as file:
        file.write(b"x")
    with pytest.raises(InputError, match="not the file that was exported"):
        Actor.open(copy)


def _llama(head: str) -> Any:
    pytest.importorskip("transformers")
    from sterna.actdistill.stack import stack_of

    return stack_of(vla(head, layers=2))


def test_torch_behind_the_same_interface(made: Made, tmp_path: Path) -> None:
    folder = save_routed(made.routed, tmp_path / "policy")
    given = {name: made.feeds[0][name] for name in ("images", "proprio")}
    found = []
    for actor in (TorchActor(folder), Actor.open(made.folder, rho=0.5)):
        actor.start("open the door")
        found.append([actor.step(**given) for _ in range(2)])
    for ours, theirs in zip(*found, strict=True):
        np.testing.assert_allclose(ours.actions, theirs.actions, atol=1e-5)
        assert ours.gates.tolist() == theirs.gates.tolist()
        assert ours.flops == pytest.approx(theirs.flops)


def test_the_bench_reads_it(made: Made, tmp_path: Path) -> None:
    """Three arms in processes of their own, taking turns; FLOPs of the units that ran."""
    engines = ("onnx", "onnx-int8", "onnx-static")
    plan = Plan(rounds=1, episodes=1, progress=False)
    shape = Shape(steps=3, words=2)
    asked = [f"{made.folder}:{','.join(engines)}"]
    result = run_latency(asked, tmp_path, threads=(1,), shape=shape, plan=plan)
    assert [row["engine"] for row in result["rows"]] == list(engines)
    graph = RoutedGraph(made.routed.stack, made.routed.router)
    base, each = flops_of(graph)
    whole, _, static = result["rows"]
    assert static["flops_step"] == pytest.approx(base + each[0] + each[2])
    assert static["units_run"] == 2.0 and 1 <= whole["units_run"] <= UNITS
    assert whole["flops_step"] == pytest.approx(base + each[0] * whole["units_run"])
    assert whole["same_decisions"] == 3 and not whole["torch_loaded"]
    text = (tmp_path / "latency.md").read_text()
    assert "An episode of 3 steps on made-up frames" in text
    assert (tmp_path / "latency.png").is_file()
