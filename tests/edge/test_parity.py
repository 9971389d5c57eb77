"""Exported policies against torch: outputs at four sizes, whole walks, int8, OpenVINO."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from edge.conftest import Exported
from sterna.data.r2r import read_r2r
from sterna.edge.parity import (
    SIZES,
    agreement,
    outputs_of_engine,
    outputs_of_torch,
    random_state,
    size_differences,
    torch_walks,
)
from sterna.edge.runtime import Engine
from sterna.edge.walks import Rooms, walk_all
from sterna.models.agent import Agent
from sterna.train.evaluate import predict
from sterna.world.geometry import VIEW_ELEVATIONS, VIEW_HEADINGS
from toy import episode_on, panoramas_of, random_graph, random_objects, toy_panoramas

CAMERA = VIEW_HEADINGS, VIEW_ELEVATIONS


@pytest.mark.parametrize("which", ["exported", "grounded"])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_float32_agrees_with_torch(
    which: str, size: tuple[int, int, int], request: pytest.FixtureRequest
) -> None:
    policy: Exported = request.getfixturevalue(which)
    engine = Engine.open(policy.folder)
    for seed in range(3):
        state = random_state(policy.model, *size, seed=seed)
        wanted, found = outputs_of_torch(policy.model, state), outputs_of_engine(engine, state)
        assert set(wanted) == set(found)
        for name, value in wanted.items():
            np.testing.assert_allclose(found[name], value, atol=1e-4, err_msg=name)


def test_int8_stays_near(exported: Exported) -> None:
    fine = size_differences(exported.model, Engine.open(exported.folder))
    rough = size_differences(exported.model, Engine.open(exported.folder, "onnx-int8"))
    for a, b in zip(fine, rough, strict=True):
        assert a["logits"] < 1e-4 < b["logits"] < 1.0


def test_walks_are_those_of_torch(exported: Exported, toy_house: Path) -> None:
    episodes = read_r2r(toy_house, "val_seen") + read_r2r(toy_house, "val_unseen")
    panoramas = toy_panoramas(toy_house)
    rooms = Rooms(panoramas, *CAMERA)
    with torch.inference_mode():
        wanted = predict(Agent(exported.model, panoramas), panoramas, episodes, progress=False)
    assert any(len(hop) > 1 for p in wanted for hop in p.hops)  # far jumps, ways back
    found = walk_all(exported.folder, "onnx", rooms, episodes, progress=False)
    assert found == wanted
    engine = Engine.open(exported.folder)
    told = list(torch_walks(exported.model, panoramas, episodes, batch_size=5, steps=15))
    agreed = agreement(told, rooms, engine)
    assert agreed.share == 1.0 and agreed.largest_difference < 1e-4
    assert agreed.decisions == sum(len(decisions) for _, decisions in told)


def test_walks_name_the_objects_that_torch_names(grounded: Exported) -> None:
    rng = np.random.default_rng(5)
    graphs = [random_graph(rng, 30, scan) for scan in ("one", "two")]
    bare = panoramas_of(graphs)
    store = random_objects(bare.atlas)
    world = bare.showing(store)
    episodes = [
        episode_on(graph, [start, int(graph.neighbours(start)[0])], 10 * i + start, heading=start)
        for i, graph in enumerate(graphs)
        for start in range(9)
    ]
    with torch.inference_mode():
        wanted = predict(Agent(grounded.model, world), world, episodes, progress=False)
    found = walk_all(grounded.folder, "onnx", Rooms(bare, *CAMERA, store), episodes, progress=False)
    assert found == wanted
    assert any(p.object_id is not None for p in found)


def test_many_processes_walk_as_one(exported: Exported, toy_house: Path) -> None:
    episodes = read_r2r(toy_house, "val_unseen")
    rooms = Rooms(toy_panoramas(toy_house), *CAMERA)
    alone = walk_all(exported.folder, "onnx-int8", rooms, episodes, progress=False)
    shared = walk_all(exported.folder, "onnx-int8", rooms, episodes, workers=2, progress=False)
    assert shared == alone
    assert [p.instr_id for p in shared] == [e.instr_id for e in episodes]


def test_openvino_reads_the_same_files(exported: Exported) -> None:
    openvino = pytest.importorskip("openvino", reason="openvino is not installed: not read by it")
    state = random_state(exported.model, 12, 9, 20)
    wanted = outputs_of_engine(Engine.open(exported.folder), state)
    core = openvino.Core()

    def run(part: str, feed: dict[str, np.ndarray], suffix: str = "") -> list[np.ndarray]:
        settings = {"INFERENCE_PRECISION_HINT": "f32"}
        file = exported.folder / f"{part}{suffix}.onnx"
        return list(core.compile_model(core.read_model(file), "CPU", settings)(feed).values())

    seen = state.tokens
    looks = {"views": seen.views, "locations": seen.locations, "kinds": seen.kinds}
    for suffix, atol in (("", 1e-4), (".int8", 0.3)):
        _, memory = run("text", {"ids": state.ids}, suffix)
        panorama, _ = run("panorama", looks, suffix)
        (logits,) = run("step", state.feed | {"memory": memory, "panorama": panorama}, suffix)
        np.testing.assert_allclose(panorama, wanted["panorama"], atol=atol)
        np.testing.assert_allclose(logits, wanted["logits"], atol=atol)
