"""`sterna actdistill`: a toy teacher probed, distilled, calibrated and compared, from words."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load

from cli_tools import sterna
from sterna.actdistill.stack import everything, stack_of
from sterna.actdistill.targets import TargetStore
from sterna.actdistill.walking import RoutedAgent
from sterna.cli import main
from sterna.errors import InputError
from sterna.models.pretrained import from_pretrained, save_pretrained
from sterna.recipes.actdistill import ACTDISTILL, ActRun, deep_toy_teacher
from sterna.recipes.routed import open_run, rebuilt
from sterna.recipes.runs import as_json
from sterna.recipes.start import begin
from sterna.recipes.world import World
from sterna.train.evaluate import predict

FEW = (
    *("--episodes", "6", "--held-out", "3", "--graph.width", "8", "--graph.size", "6"),
    *("--router.width", "8", "--loop.batch-size", "4", "--probe.batch-size", "4"),
)


@pytest.fixture(scope="module")
def teacher(toy_house: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained teacher of 2 layers of words and 3 of each encoder, as a saved policy."""
    recipe = deep_toy_teacher()
    sizes = replace(
        recipe.model, hidden_size=16, heads=2, ffn_size=16, language_layers=2, cross_layers=3
    )
    start = replace(recipe.start, still=False)
    model = begin(sizes, start, 0, World(toy_house, recipe.data)).eval()
    return save_pretrained(model, tmp_path_factory.mktemp("teacher") / "best")


@pytest.fixture(scope="module")
def probed(toy_house: Path, teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stage 1, three iterations long."""
    out = tmp_path_factory.mktemp("probe")
    words = ("actdistill", "probe", "toy-duet", "--data", toy_house, "--teacher", teacher)
    words = (*words, "--out", out, "--iterations", 3, *FEW)
    assert main([str(word) for word in words]) == 0
    return out


def test_from_probe_to_table(
    capsys: pytest.CaptureFixture[str], toy_house: Path, teacher: Path, probed: Path, tmp_path: Path
) -> None:
    run = json.loads((probed / "run.json").read_text())
    assert run["iteration"] == 3
    store = TargetStore(probed / "targets")
    assert len(store.place) == 12 and len(store.units) == 8
    walks = json.loads((probed / "walks.json").read_text())["walks"]
    assert set(walks) == {name for name in store.place if name.endswith(" walk 0")}
    data, student = ("--data", toy_house, "--teacher", teacher), tmp_path / "student"
    more = (*FEW, "--json")
    words = ("actdistill", "distill", "toy-duet", *data, "--probed", probed, "--out", student)
    said = sterna(capsys, *words, "--iterations", 4, "--route.rho", 0.62, *more).json
    assert said["iteration"] == 4
    log = [json.loads(line) for line in (student / "log.jsonl").read_text().splitlines()]
    assert {"task", "spent", "align", "structure", "truth", "teacher", "previous"} <= log[0].keys()
    said = sterna(capsys, "actdistill", "calibrate", student, "--data", toy_house, "--json").json
    assert {1.0, 0.75, 0.62} <= {row["rho"] for row in said["budgets"]}
    said = sterna(capsys, "actdistill", "calibrate", student, "--data", toy_house,
                  "--rhos", 1.0, 0.6, 0.45, "--json").json  # fmt: skip
    for row in said["budgets"]:
        assert row["rho"] - 0.05 < row["spent"] <= row["rho"] + 1e-6
    words = ("actdistill", "eval", student, "--data", toy_house, "--split", "val_seen")
    words = (*words, "--about", 3, "--rhos", 0.6, "--out", tmp_path, "--json")
    said = sterna(capsys, *words, "--draws", 1, "--measure", 0).json
    others = ["student", "first-k", "cosine", "greedy", "random-k"]
    assert [row["arm"] for row in said["rows"]] == ["teacher", *others]
    assert json.loads((tmp_path / "actdistill_val_seen.json").read_text())["rows"] == said["rows"]
    whole, student_row, *rows = said["rows"]
    assert whole["share"] == pytest.approx(1.0) and whole["open"] == [1.0] * 8
    for row in [student_row, *rows]:
        assert 0 < row["share"] < 1 and 0 <= row["scores"]["SR"]["mean"] <= 1
        assert len(row["per_episode"]["SR"]) == len(whole["per_episode"]["SR"]) > 1
    for row in rows:  # on the walks that it is scored on, as far as those are alike
        assert row["share"] > student_row["share"] - 0.1
    words = (*words, "--arms", "teacher", "student", "--measure", 1, "--beside", teacher)
    said = sterna(capsys, *words).json
    costs = [row["counted"]["flops_per_decision"] for row in said["rows"]]
    assert costs[1] < costs[0] and all(row["milliseconds"]["median"] > 0 for row in said["rows"])
    other = said["rows"][2]
    assert other["arm"] == teacher.name and other["scores"] == whole["scores"]
    assert other["share"] == pytest.approx(1.0) and costs[2] == pytest.approx(costs[0])
    refused = sterna(capsys, *words, student / "teacher")
    assert refused.code == 2 and "different names" in refused.err
    _policy_walks(student, toy_house)


def _policy_walks(student: Path, toy_house: Path) -> None:
    """What is deployed holds no graph, and walks as the student with all gates open."""
    policy = from_pretrained(student / "policy")
    names = " ".join(policy.state_dict())
    assert "graph" not in names and "phi" not in names and "phases" not in names
    config = open_run(student)
    world = World(toy_house, config.data)  # type: ignore[attr-defined]
    episodes = world.episodes("val_seen")[:3]
    panoramas = world.panoramas(episodes)
    with torch.inference_mode():
        stack = stack_of(policy)
        agent = RoutedAgent(stack, panoramas, everything(stack))  # type: ignore[arg-type]
        found = predict(agent, panoramas, episodes, max_steps=4)
    assert [p.instr_id for p in found] == [e.instr_id for e in episodes]


def test_a_fixed_and_a_smaller_student(
    capsys: pytest.CaptureFixture[str], toy_house: Path, teacher: Path, probed: Path, tmp_path: Path
) -> None:
    data, student = ("--data", toy_house, "--teacher", teacher), tmp_path / "student"
    words = ("actdistill", "distill", "toy-duet", *data, "--probed", probed, "--out", student)
    fixed = ("--route.gate", "fixed", "--route.keep", 0, 1, 2, "--smaller", 0, 2, 3)
    assert sterna(capsys, *words, "--iterations", 1, *fixed, *FEW).code == 0
    refused = sterna(capsys, "actdistill", "calibrate", student, "--data", toy_house)
    refused.refused("a fixed gate has no thresholds")
    words = ("actdistill", "eval", student, "--data", toy_house, "--about", 2, "--measure", 0)
    (row,) = sterna(capsys, *words, "--arms", "student", "--json").json["rows"]
    assert row["keep"] == [0, 1, 2] and row["open"] == [1.0] * 3 and row["share"] < 0.5


def test_a_further_round_learns_from_its_own_walks(
    capsys: pytest.CaptureFixture[str], toy_house: Path, teacher: Path, probed: Path, tmp_path: Path
) -> None:
    data = ("--data", toy_house, "--teacher", teacher, *FEW, "--route.rho", 0.62)
    first, second = tmp_path / "first", tmp_path / "second"
    distill = ("actdistill", "distill", "toy-duet", *data)
    begun = sterna(capsys, *distill, "--probed", probed, "--out", first, "--iterations", 2)
    assert begun.code == 0, begun.err
    again = (*data, "--walker", first)
    probe = ("actdistill", "probe", "toy-duet", *again, "--iterations", 1, "--out", tmp_path / "p")
    sterna(capsys, *probe).refused("first: not calibrated; run `sterna actdistill calibrate")
    calibrate = ("actdistill", "calibrate", first, "--data", toy_house)
    sterna(capsys, *calibrate, "--rhos", 0.7)
    sterna(capsys, *probe).refused("first: calibrated for rho 0.7, not 0.62")
    assert sterna(capsys, *calibrate).code == 0
    assert sterna(capsys, *probe).code == 0
    ids = list(TargetStore(tmp_path / "p" / "targets").place)
    own = [name for name in ids if name.endswith(" own 1")]
    assert len(ids) == 18 and len(own) == 6
    distill = ("actdistill", "distill", "toy-duet", *again, "--out", second)
    refused = sterna(capsys, *distill, "--probed", probed, "--iterations", 1)
    refused.refused("no targets for sample")
    less = ("--smaller", 0, 2, 5, "--route.gate", "fixed", "--route.keep", 0, 1, 2)
    refused = sterna(capsys, *distill, "--probed", tmp_path / "p", *less)
    refused.refused("first: a student of units all, the new one has [0, 2, 5]")
    # With a rate of nothing it stays what it begins as: the student of the round before.
    still = ("--optimizer.learning-rate", 1e-30, "--optimizer.weight-decay", 0, "--iterations", 1)
    done = sterna(capsys, *distill, "--probed", tmp_path / "p", *still)
    assert done.code == 0, done.err
    for name in ("student.safetensors", "router.safetensors"):
        before, after = (load((run / name).read_bytes()) for run in (first, second))
        assert before.keys() == after.keys() and len(before) > 3
        for key, value in before.items():
            torch.testing.assert_close(after[key], value, rtol=0, atol=1e-6)


def test_a_selection_is_trained_as_the_router_is(
    capsys: pytest.CaptureFixture[str], toy_house: Path, teacher: Path, probed: Path, tmp_path: Path
) -> None:
    """The stronger control: fixed layers, tuned by the same losses."""
    data = ("--data", toy_house, "--teacher", teacher, "--probed", probed, "--out", tmp_path)
    words = ("actdistill", "distill", "toy-duet", *data, "--iterations", 1, *FEW)
    found = sterna(capsys, *words, "--route.gate", "fixed", "--route.select", "first-k")
    assert found.code == 0, found.err
    keep = json.loads((tmp_path / "keep.json").read_text())["keep"]
    assert keep[:1] == [0] and {2, 3} <= set(keep) and len(keep) < 8


def test_what_it_refuses(
    capsys: pytest.CaptureFixture[str], toy_house: Path, teacher: Path, tmp_path: Path
) -> None:
    out = ("--out", tmp_path / "x", "--data", toy_house)
    sterna(capsys, "actdistill", "probe", "toy-duet", *out).refused("no teacher", "--teacher")
    words = ("actdistill", "distill", "toy-duet", *out, "--teacher", teacher)
    sterna(capsys, *words, "--probed", tmp_path).refused("holds no probe")
    sterna(capsys, *words, "--smaller", 0, 1).refused("route.gate fixed")
    sterna(capsys, *words, "--route.rho", 0).refused("budgets must be in (0, 1]")
    sterna(capsys, "actdistill", "eval", tmp_path, "--data", toy_house).refused("holds no student")


def test_stage_2_walks_again_what_stage_1_recorded(
    capsys: pytest.CaptureFixture[str], toy_house: Path, teacher: Path, probed: Path, tmp_path: Path
) -> None:
    """So its walks are those of the targets on any machine; what does not fit is refused."""
    mine = shutil.copytree(probed, tmp_path / "mine")
    data = ("--data", toy_house, "--teacher", teacher, *FEW)
    words = ("actdistill", "distill", "toy-duet", *data, "--iterations", 1, "--probed", mine)
    kept = json.loads((probed / "walks.json").read_text())
    odd = kept | {"walks": kept["walks"] | {next(iter(kept["walks"])): [99]}}
    told = {
        "cannot be made here": odd,
        "walks.json: not sterna-actdistill-walks-1": {},
        "is no list of choices": kept | {"walks": {"1_0 walk 0": [None]}},
        "walks of another teacher (weights 0123": kept | {"teacher": "0123"},
    }
    for number, (said, held) in enumerate(told.items()):
        (mine / "walks.json").write_text(json.dumps(held))
        sterna(capsys, *words, "--out", tmp_path / str(number)).refused(said)
    # One of before this file was kept is recorded anew; a probe that goes on leaves it alone.
    (mine / "walks.json").unlink()
    assert sterna(capsys, *words, "--out", tmp_path / "student").code == 0
    words = ("actdistill", "probe", "toy-duet", *data, "--out", mine)
    assert sterna(capsys, *words, "--iterations", 3).code == 0
    assert not (mine / "walks.json").exists()


def test_a_configuration_survives_its_json() -> None:
    for recipe in ACTDISTILL.values():
        config = replace(recipe(), teacher=Path("runs/teacher"))
        assert rebuilt(type(config), json.loads(json.dumps(as_json(config)))) == config
    with pytest.raises(InputError, match="unknown settings"):
        rebuilt(ActRun, {"other": 1})
