"""ActDistill's study of a navigator: several folders of walks, answers and walks in a house."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cli_tools import sterna
from sterna.data.episodes import Episode
from sterna.data.vlnce import write_vlnce
from sterna.files import write_json
from sterna.metrics import RXR_CE
from sterna.recipes.actdistill import NavigatorAct
from sterna.recipes.actstudy import FULL, Options, config_of, run_study
from sterna.world.houses import make_house
from sterna.world.houses.ground import ground_of, room_points

pytest.importorskip("transformers")


def small(run: Any) -> Any:
    """Sizes for seconds."""
    return replace(
        run,
        walks=replace(run.walks, judged=16, stride=1),
        slots=2,
        graph=replace(run.graph, width=8, size=6),
        router=replace(run.router, width=8),
        loop=replace(run.loop, batch_size=8),
        probe=replace(run.probe, batch_size=8),
    )


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> Options:
    from sterna.models.navigator.folder import save
    from toy_navigator import SIDE, tiny
    from toy_sft import toy_store

    made = tmp_path_factory.mktemp("navigator")
    for seed in range(3):
        toy_store(made / f"walks-{seed}", seed=seed)
    save(tiny(layers=3, tower="conv"), made / "teacher")
    protocol = replace(RXR_CE, name="tiny", camera_width=SIDE, camera_height=SIDE, max_steps=4)
    write_json(made / "teacher/protocol.json", protocol.to_dict())
    house = make_house(4)
    places = [tuple(p) for p in room_points(house, ground_of(house)).round(4).tolist()]
    episode = Episode(
        instr_id="0", scan="house-000004", path=(), heading=0.0, path_id=0,
        instruction="go to the kitchen", position=places[0], goal_radius=3.0,
        goal_positions=(places[1],), scene="houses/house-000004",
    )  # fmt: skip
    write_vlnce(made / "goals.json", [episode])
    return Options(
        out=made / "study",
        recipe="navigator-s",
        teacher=made / "teacher",
        walks=(made / "walks-0", made / "walks-1"),
        held_out=made / "walks-2",
        episodes=made / "goals.json",
        execute=2,
        seeds=(0,),
        iterations=2,
        probe_iterations=2,
        rho=0.7,
        draws=1,
        change=small,
    )


def test_it_learns_from_all_walks(options: Options) -> None:
    from sterna.data.ego.store import EgoStore
    from sterna.recipes.routing_navigator import NavigatorSubject

    run = config_of(FULL, options, 0)
    assert isinstance(run, NavigatorAct) and run.execute == 2 and run.env == "house"
    samples = NavigatorSubject(run, None).learn()
    steps = [sum(map(len, EgoStore(folder).episodes)) for folder in options.walks]
    assert len(samples) == sum(steps) == len(set(samples.ids))
    # A sample of the second folder brings that folder's frames.
    alone = NavigatorSubject(
        replace(run, walks=replace(run.walks, train=options.walks[1], more=())), None
    ).learn()
    ours, theirs = samples.batch([steps[0]]).batch, alone.batch([0]).batch
    assert ours.encoded.ids.equal(theirs.encoded.ids)
    assert ours.features is not None and theirs.features is not None
    assert ours.features.equal(theirs.features)


def test_a_student_walks_beside_its_teacher(options: Options) -> None:
    only = ("probe-full-0", "full-0", "full-0/*")
    run_study("actdistill-router", options, None, threads=1, only=only)
    text = (options.out / "full-0/compare/actdistill_val_unseen.json").read_text()
    for word in ('"teacher"', '"greedy"', '"SR_1m"', '"SPL"', '"first"'):
        assert word in text


def test_the_command_takes_walks(options: Options, tmp_path: Path, capsys: Any) -> None:
    words = ("--recipe", "navigator-s", "--teacher", options.teacher, "--walks", options.walks[0])
    more = ("--more", options.walks[1], "--held-out", options.held_out, "--plan")
    said = sterna(
        capsys, "study", "actdistill-router", *words, *more, "--episodes", options.episodes,
        "--out", tmp_path,
    )  # fmt: skip
    assert said.code == 0 and "full-0" in said.out


def test_a_student_is_exported_and_walks_so(options: Options, tmp_path: Path, capsys: Any) -> None:
    """After the study above: routed graphs walk as torch does, gates and all."""
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    from sterna.edge.runtime.answerer import Answerer

    student, edge = options.out / "full-0", tmp_path / "edge"
    said = sterna(capsys, "export", student, "--to", edge, "--json").json
    assert list(said["parity"]) == ["onnx", "onnx-static"]
    budgets = [row["rho"] for row in said["parity"]["onnx"]]
    assert all(row["same_answers"] == row["compared"] for row in said["parity"]["onnx"])
    opened = Answerer.open(edge, rho=budgets[0])
    assert opened.manifest["about"]["teacher"] == str(options.teacher)
    assert not (edge / "protocol.json").exists()  # a student's folder has none to bring along
    words = ("eval", "--env", "house", "--agent", edge, "--engine", "onnx", "--rho", budgets[0])
    protocol = options.teacher / "protocol.json"
    scored = sterna(
        capsys, *words, "--episodes", options.episodes, "--protocol", protocol, "--json"
    ).json
    assert scored["config"]["engine"] == "onnx" and scored["config"]["rho"] == budgets[0]
    assert scored["episodes"] == 1
