"""A navigator's folder through `sterna eval --env house`: its own protocol, its own turns."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from cli_tools import sterna
from sterna.data.episodes import Episode
from sterna.data.vlnce import write_vlnce
from sterna.files import write_json
from sterna.metrics import RXR_CE
from sterna.world.houses import make_house
from sterna.world.houses.ground import ground_of, room_points

pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from sterna.models.navigator.folder import save
    from toy_navigator import SIDE, tiny

    made = tmp_path_factory.mktemp("navigator")
    save(tiny(), made / "run")
    protocol = replace(RXR_CE, name="tiny", camera_width=SIDE, camera_height=SIDE, max_steps=5)
    write_json(made / "run/protocol.json", protocol.to_dict())
    house = make_house(4)
    ground = ground_of(house)
    places = [tuple(p) for p in room_points(house, ground).round(4).tolist()]
    rows = [
        Episode(
            instr_id=str(n), scan="house-000004", path=(), heading=0.0, path_id=n,
            instruction="go to the kitchen", position=places[n], goal_radius=3.0,
            goal_positions=(places[n + 1],), scene="houses/house-000004",
        )
        for n in range(3)
    ]  # fmt: skip
    write_vlnce(made / "val.json", rows)
    return made


def test_it_walks_under_its_own_protocol(folder, capsys) -> None:
    words = ("eval", "--env", "house", "--agent", folder / "run", "--slots", "2", "--json")
    said = sterna(capsys, *words, "--episodes", folder / "val.json").json
    assert said["protocol"]["name"] == "tiny" and said["episodes"] == 3
    assert 0 < said["scores"]["steps"]["mean"] <= 5
    assert list(said["config"]["weights"]) and not said["config"]["blind"]
    assert said["out"].startswith(str(folder / "run"))
    blind = sterna(capsys, *words, "--episodes", folder / "val.json", "--blind").json
    assert blind["config"]["blind"] and blind["out"] != said["out"]
    drawn = [
        sterna(
            capsys, *words, "--episodes", folder / "val.json", "--temperature", 3, "--seed", seed,
            "--out", folder / f"drawn-{seed}",
        ).json
        for seed in (0, 1)
    ]  # fmt: skip
    assert drawn[0]["config"]["temperature"] == 3 and "temperature" not in said["config"]
    assert drawn[0]["scores"]["TL"] != drawn[1]["scores"]["TL"]


def test_turns_of_another_protocol_are_refused(folder, capsys) -> None:
    said = sterna(
        capsys, "eval", "--env", "house", "--agent", folder / "run", "--protocol", "r2r-ce-v1",
        "--episodes", folder / "val.json", "--out", folder / "other",
    )  # fmt: skip
    assert said.code == 2 and "turns of 30 degrees" in said.err.splitlines()[-1]
    assert "R2R_CE makes turns of 15" in said.err.splitlines()[-1]


def test_it_learns_to_leave_layers_out(folder, capsys, tmp_path) -> None:
    """ActDistill from walks to a table, walks in a house with held gates included."""
    from sterna.models.navigator.folder import save
    from toy_navigator import tiny
    from toy_sft import toy_store

    save(tiny(layers=4), tmp_path / "teacher" / "last")
    protocol = (folder / "run/protocol.json").read_bytes()
    (tmp_path / "teacher/protocol.json").write_bytes(protocol)
    for name in ("learn", "held"):
        toy_store(tmp_path / name, walks=2, seed=len(name))
    data = ("--teacher", tmp_path / "teacher", "--walks.train", tmp_path / "learn")
    data += ("--walks.held-out", tmp_path / "held", "--walks.actions", 3, "--walks.budget", 4)
    data += ("--graph.width", 8, "--graph.size", 8, "--router.width", 8)
    data += ("--loop.batch-size", 4, "--probe.batch-size", 4, "--iterations", 2)
    data += ("--env", "house", "--env-episodes", folder / "val.json", "--slots", 2)
    data += ("--walks.stride", 1, "--execute", 2, "--json")
    probe, student = tmp_path / "probe", tmp_path / "student"
    said = sterna(capsys, "actdistill", "probe", "navigator-s", *data, "--out", probe).json
    assert said["units"] == 4 and said["samples"] > 8
    words = ("actdistill", "distill", "navigator-s", *data, "--probed", probe, "--tune", "lora")
    assert sterna(capsys, *words, "--out", student).code == 0
    said = sterna(capsys, "actdistill", "calibrate", student, "--rhos", 0.6, "--json").json
    assert 0.25 < said["budgets"][0]["spent"] <= 0.6
    words = ("actdistill", "eval", student, "--rhos", 0.6, "--measure", 1, "--json")
    said = sterna(capsys, *words, "--arms", "student", "teacher", "first-k").json
    whole, student_row, first = said["rows"]
    assert whole["share"] == 1 and first["keep"] == [0, 1, 2][: len(first["keep"])]
    assert len(whole["per_episode"]["SR"]) == len(first["per_episode"]["SR"]) > 1
    assert student_row["share"] < 1 and {"SR", "first", "whole", "nll"} <= whole["scores"].keys()
    assert student_row["counted"]["flops_per_decision"] <= whole["counted"]["flops_per_decision"]


def test_an_export_walks_as_torch_does(folder, tmp_path, capsys) -> None:
    """`sterna export` of a navigator keeps its protocol; `sterna eval` takes what comes out."""
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    import shutil

    from sterna.models.navigator.folder import save
    from toy_navigator import tiny

    save(tiny(tower="conv"), tmp_path / "run/last")
    shutil.copyfile(folder / "run/protocol.json", tmp_path / "run/protocol.json")
    edge = tmp_path / "edge"
    bits = ("--int8", "--bits", 7)  # as a processor without VNNI needs
    said = sterna(capsys, "export", tmp_path / "run", "--to", edge, *bits, "--json").json
    assert said["engines"] == ["onnx", "onnx-int8"] and said["frame"] == [32, 32]
    (row,) = said["parity"]["onnx-int8"]
    assert 0.7 * row["compared"] <= row["same_answers"] and row["largest_difference"] < 0.3
    words = ("eval", "--env", "house", "--episodes", folder / "val.json", "--execute", 2)
    tracks = []
    for agent, more in ((tmp_path / "run/last", ()), (edge, ("--engine", "onnx"))):
        found = sterna(capsys, *words, "--agent", agent, *more, "--json").json
        assert found["protocol"]["name"] == "tiny" and found["episodes"] == 3
        tracks.append((found["scores"], found["out"]))
    assert tracks[0][0] == tracks[1][0]
    assert tracks[1][1].startswith(str(edge)) and tracks[1][1].endswith("onnx")
    alone = sterna(capsys, "export", tmp_path / "run", "--to", tmp_path / "no", "--bits", 7)
    assert alone.code == 2 and "give --int8 too" in alone.err and not (tmp_path / "no").exists()
    refused = sterna(capsys, *words, "--agent", edge, "--blind")
    assert refused.code == 2 and "exported navigator says the likeliest" in refused.err
    missing = sterna(capsys, *words, "--agent", edge, "--engine", "onnx-static")
    assert missing.code == 2 and "holds no engine 'onnx-static'" in missing.err
